/* SPDX-License-Identifier: MIT */
/* What tests/kernel/test_memfd_seals.c finds of the kernel is not repeated here. */
#include "sys/shared.h"

#include "unit/fixture.h"

#include "support/baseline.h"
#include "support/skip.h"

#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define PAGE ((size_t)4096)

static const enum sri_shared_kind kinds[] = {SRI_SHARED_ONE_WRITER, SRI_SHARED_ALL_WRITE};

#define SEALS_ALL (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define SEALS_ONE (SEALS_ALL | F_SEAL_FUTURE_WRITE)

/* Whether there is a byte that can be read. The kernel is asked in a way that neither
 * AddressSanitizer nor valgrind takes for an access. */
static bool is_there(const void *address) {
    char byte = 0;
    const struct iovec here = {&byte, 1};
    struct iovec there = {.iov_len = 1};
    memcpy(&there.iov_base, &address, sizeof address); /* it is only read */
    const ssize_t got = process_vm_readv(getpid(), &here, 1, &there, 1, 0);
    cr_assert(got == 1 || (got < 0 && errno == EFAULT), "%s", strerror(errno));
    return got == 1;
}

/* Runs @ask in a forked child. */
static bool child_says(bool (*ask)(const struct sri_shared *), const struct sri_shared *shared) {
    int status = 0;
    const pid_t child = fork();
    if (child == 0) {
        _exit(ask(shared) ? 42 : 43);
    }
    cr_assert(child > 0);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status), "the child died: status %#x", status);
    return WEXITSTATUS(status) == 42;
}

/* ---- making -----------------------------------------------------------------------------------
 */

Test(shared, memory_is_zero_and_whole_pages_between_two_that_are_not_there) {
    static const size_t sizes[] = {1, PAGE, PAGE + 1, 10 * PAGE};
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        for (size_t s = 0; s < COUNT_OF(sizes); s++) {
            struct sri_shared shared;
            assert_ok(sri_shared_create(kinds[k], sizes[s], &shared));
            const size_t pages = (sizes[s] + PAGE - 1) / PAGE;
            unsigned char *bytes = shared.base;
            cr_assert_eq(shared.size_bytes, pages * PAGE);
            for (size_t i = 0; i < shared.size_bytes; i++) {
                cr_assert_eq(bytes[i], 0);
                bytes[i] = 1;
            }
            cr_assert_not(is_there(bytes - 1));
            cr_assert(is_there(bytes));
            cr_assert(is_there(bytes + shared.size_bytes - 1));
            cr_assert_not(is_there(bytes + shared.size_bytes));
            sri_shared_end(&shared);
            cr_assert_null(shared.base);
        }
    }
}

Test(shared, its_seals_are_these) {
    struct sri_shared shared;
    assert_ok(sri_shared_create(SRI_SHARED_ONE_WRITER, PAGE, &shared));
    cr_assert_eq(fcntl(shared.fd, F_GET_SEALS) & (SEALS_ONE | F_SEAL_WRITE), SEALS_ONE);
    cr_assert_eq(fcntl(shared.fd, F_GETFD), FD_CLOEXEC);
    sri_shared_end(&shared);
    assert_ok(sri_shared_create(SRI_SHARED_ALL_WRITE, PAGE, &shared));
    cr_assert_eq(fcntl(shared.fd, F_GET_SEALS) & (SEALS_ONE | F_SEAL_WRITE), SEALS_ALL);
    sri_shared_end(&shared);
}

static bool sees_mapping(const struct sri_shared *shared) {
    return is_there(shared->base);
}

Test(shared, a_forked_child_does_not_have_the_mapping) {
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        struct sri_shared made;
        struct sri_shared mapped;
        assert_ok(sri_shared_create(kinds[k], PAGE, &made));
        assert_ok(sri_shared_map(kinds[k], made.fd, PAGE, false, &mapped));
        cr_assert(is_there(made.base) && is_there(mapped.base));
        cr_assert_not(child_says(sees_mapping, &made));
        cr_assert_not(child_says(sees_mapping, &mapped));
        sri_shared_end(&mapped);
        sri_shared_end(&made);
    }
}

Test(shared, what_cannot_be_had_is_an_error_and_leaves_nothing) {
    static struct baseline before;
    struct rlimit usual;
    struct rlimit none;
    struct sri_shared shared;
    assert_ok(sri_shared_create(SRI_SHARED_ALL_WRITE, PAGE, &shared));
    sri_shared_end(&shared);
    baseline_take(&before);
    assert_code(sri_shared_create(SRI_SHARED_ALL_WRITE, 0, &shared), SR_E_BOUNDS);
    assert_code(sri_shared_create(SRI_SHARED_ALL_WRITE, SIZE_MAX, &shared), SR_E_BOUNDS);
    cr_assert_lt(sri_shared_create(SRI_SHARED_ALL_WRITE, SIZE_MAX / 4, &shared), 0);
    cr_assert_null(shared.base);
    cr_assert_eq(shared.fd, -1);
    cr_assert_null(baseline_difference(&before), "%s", baseline_difference(&before));
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &usual), 0);
    none = usual;
    none.rlim_cur = 3;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_code(sri_shared_create(SRI_SHARED_ALL_WRITE, PAGE, &shared), -EMFILE);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &usual), 0);
    sri_shared_end(&shared);
}

/* ---- mapping what was received ----------------------------------------------------------------
 */

Test(shared, both_mappings_are_of_the_same_memory) {
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        const bool writable = kinds[k] == SRI_SHARED_ALL_WRITE;
        struct sri_shared made;
        struct sri_shared mapped;
        assert_ok(sri_shared_create(kinds[k], 3 * PAGE, &made));
        assert_ok(sri_shared_map(kinds[k], made.fd, 2 * PAGE + 1, writable, &mapped));
        cr_assert_eq(mapped.size_bytes, 3 * PAGE);
        volatile char *here = made.base;
        volatile char *there = mapped.base;
        here[5000] = 'a';
        cr_assert_eq(there[5000], 'a');
        if (writable) {
            there[6000] = 'b';
            cr_assert_eq(here[6000], 'b');
        }
        sri_shared_close_fd(&made);
        here[7000] = 'c';
        cr_assert_eq(there[7000], 'c');
        sri_shared_end(&made);
        cr_assert_eq(there[7000], 'c'); /* each mapping lives by itself */
        cr_assert_not(is_there(mapped.whole));
        cr_assert_not(is_there((char *)mapped.base + mapped.size_bytes));
        sri_shared_end(&mapped);
        sri_shared_end(&mapped); /* of nothing */
    }
}

Test(shared, a_mapping_of_memory_with_one_writer_cannot_be_written) {
    struct sri_shared made;
    struct sri_shared mapped;
    assert_ok(sri_shared_create(SRI_SHARED_ONE_WRITER, PAGE, &made));
    assert_code(sri_shared_map(SRI_SHARED_ONE_WRITER, made.fd, PAGE, true, &mapped), SR_E_BOUNDS);
    assert_ok(sri_shared_map(SRI_SHARED_ONE_WRITER, made.fd, PAGE, false, &mapped));
    int ends[2];
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    cr_assert_eq(write(ends[1], "x", 1), 1);
    cr_assert_eq(syscall(SYS_read, ends[0], mapped.base, (size_t)1), -1);
    cr_assert_eq(errno, EFAULT);
    cr_assert_eq(mprotect(mapped.base, PAGE, PROT_READ | PROT_WRITE), -1);
    cr_assert_eq(errno, EACCES);
    sri_shared_end(&mapped);
    sri_shared_end(&made);
}

/* Memory as a hostile peer might make it. */
static int memory_of(size_t size_bytes, unsigned int flags, int seals) {
    const int fd = memfd_create("peer", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
    cr_assert(fd >= 0, "%s", strerror(errno));
    cr_assert_eq(ftruncate(fd, (off_t)size_bytes), 0);
    cr_assert_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void must_be_refused(enum sri_shared_kind kind, int fd, const char *what) {
    struct sri_shared mapped;
    const int code = sri_shared_map(kind, fd, PAGE, false, &mapped);
    cr_assert_eq(code, SR_E_PROTOCOL, "%s: %s", what, sr_error_name(code));
    cr_assert_null(mapped.base);
    if (fd >= 0) {
        cr_assert_eq(close(fd), 0, "%s: it was closed", what);
    }
}

Test(shared, what_is_sealed_otherwise_is_refused) {
    static const struct {
        const char *what;
        int seals;
    } rows[] = {
        {"nothing", 0},
        {"SHRINK missing", SEALS_ONE & ~F_SEAL_SHRINK},
        {"GROW missing", SEALS_ONE & ~F_SEAL_GROW},
        {"SEAL missing", SEALS_ONE & ~F_SEAL_SEAL},
    };
    struct sri_shared mapped;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        must_be_refused(SRI_SHARED_ONE_WRITER, memory_of(PAGE, 0, rows[i].seals), rows[i].what);
        must_be_refused(SRI_SHARED_ALL_WRITE,
                        memory_of(PAGE, 0, rows[i].seals & ~F_SEAL_FUTURE_WRITE), rows[i].what);
    }
    must_be_refused(SRI_SHARED_ONE_WRITER, memory_of(PAGE, 0, SEALS_ALL), "FUTURE_WRITE missing");
    must_be_refused(SRI_SHARED_ALL_WRITE, memory_of(PAGE, 0, SEALS_ONE), "FUTURE_WRITE there");
    must_be_refused(SRI_SHARED_ALL_WRITE, memory_of(PAGE, 0, SEALS_ALL | F_SEAL_WRITE), "WRITE");
    /* The control: the same, sealed well, is taken. */
    const int fd = memory_of(PAGE, 0, SEALS_ONE);
    assert_ok(sri_shared_map(SRI_SHARED_ONE_WRITER, fd, PAGE, false, &mapped));
    sri_shared_end(&mapped);
    cr_assert_eq(close(fd), 0);
}

Test(shared, what_has_another_size_is_refused) {
    static const size_t sizes[] = {0, 1, PAGE - 1, PAGE + 1, 2 * PAGE};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        must_be_refused(SRI_SHARED_ONE_WRITER, memory_of(sizes[i], 0, SEALS_ONE), "size");
        must_be_refused(SRI_SHARED_ALL_WRITE, memory_of(sizes[i], 0, SEALS_ALL), "size");
    }
}

Test(shared, what_is_no_such_memory_is_refused) {
    int ends[2];
    must_be_refused(SRI_SHARED_ONE_WRITER, -1, "no descriptor");
    must_be_refused(SRI_SHARED_ALL_WRITE, open("/proc/self/exe", O_RDONLY | O_CLOEXEC), "a file");
    must_be_refused(SRI_SHARED_ALL_WRITE, open("/dev/zero", O_RDWR | O_CLOEXEC), "a device");
    must_be_refused(SRI_SHARED_ALL_WRITE, open("/tmp", O_RDONLY | O_CLOEXEC), "a directory");
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    must_be_refused(SRI_SHARED_ALL_WRITE, ends[0], "a pipe");
    cr_assert_eq(close(ends[1]), 0);
}

/* Of huge pages there may be none left at the moment when one is touched: SIGBUS. */
Test(shared, memory_of_huge_pages_is_refused) {
    const size_t huge = (size_t)2 << 20;
    struct sri_shared mapped;
    const int probe = memfd_create("probe", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
    SKIP_BECAUSE(probe < 0 ? "this kernel has no huge pages of 2 MiB" : NULL);
    cr_assert_eq(close(probe), 0);
    const int fd = memory_of(huge, MFD_HUGETLB | MFD_HUGE_2MB, SEALS_ALL);
    assert_code(sri_shared_map(SRI_SHARED_ALL_WRITE, fd, huge, true, &mapped), SR_E_PROTOCOL);
    cr_assert_eq(close(fd), 0);
}
