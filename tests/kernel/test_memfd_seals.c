/* SPDX-License-Identifier: MIT */
/*
 * What shared memory (src/sys/shared.c) believes of the kernel: once the owner has mapped a memfd
 * and sealed it with FUTURE_WRITE, GROW, SHRINK and SEAL, whoever else has the descriptor can read,
 * and every way to write is closed; and what the seals do not do. One fact per test.
 */
#include "support/skip.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE        ((size_t)8192)
#define NOEXEC_SEAL 0x8u /* MFD_NOEXEC_SEAL, Linux 6.3 */

struct arena {
    int fd;
    char *owner; /* mapped before it was sealed */
};

static void arena_open(struct arena *out_arena, unsigned int flags) {
    const int fd = memfd_create("arena", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
    cr_assert(fd >= 0);
    cr_assert_eq(ftruncate(fd, (off_t)SIZE), 0);
    char *owner = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_assert(owner != MAP_FAILED);
    memset(owner, 'o', SIZE);
    cr_assert_eq(
        fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL), 0);
    *out_arena = (struct arena){fd, owner};
}

/* Whatever was tried, the bytes are the owner's. */
static void arena_close(struct arena *arena) {
    for (size_t i = 0; i < SIZE; i++) {
        cr_assert_eq(arena->owner[i], 'o', "byte %zu was written", i);
    }
    cr_assert_eq(munmap(arena->owner, SIZE), 0);
    cr_assert_eq(close(arena->fd), 0);
}

static char *map_read_only(int fd) {
    char *memory = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
    cr_assert(memory != MAP_FAILED);
    return memory;
}

#define MUST_FAIL(call, code)                                                                      \
    do {                                                                                           \
        errno = 0;                                                                                 \
        const long long got_ = (long long)(call);                                                  \
        cr_assert_eq(got_, -1, "%s worked", #call);                                                \
        cr_assert_eq(errno, (code), "%s: %s", #call, strerror(errno));                             \
    } while (0)

static void must_not_map(int protection, int flags, int fd, int code) {
    errno = 0;
    cr_assert_eq(mmap(NULL, SIZE, protection, flags, fd, 0), MAP_FAILED);
    cr_assert_eq(errno, code, "%s", strerror(errno));
}

/* ---- what is possible -------------------------------------------------------------------------
 */

Test(memfd_seals, the_owner_writes_through_its_old_mapping_and_others_see_it) {
    struct arena arena;
    arena_open(&arena, 0);
    char *reader = map_read_only(arena.fd);
    arena.owner[100] = 'n';
    cr_assert_eq(((volatile char *)reader)[100], 'n');
    arena.owner[100] = 'o';
    cr_assert_eq(munmap(reader, SIZE), 0);
    arena_close(&arena);
}

Test(memfd_seals, a_private_mapping_can_be_written_and_nobody_sees_it) {
    struct arena arena;
    arena_open(&arena, 0);
    char *copy = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, arena.fd, 0);
    cr_assert(copy != MAP_FAILED);
    memset(copy, 'x', SIZE);
    cr_assert_eq(munmap(copy, SIZE), 0);
    arena_close(&arena);
}

/* ---- each way of writing is refused -----------------------------------------------------------
 */

Test(memfd_seals, a_new_writable_mapping_is_refused) {
    struct arena arena;
    arena_open(&arena, 0);
    must_not_map(PROT_READ | PROT_WRITE, MAP_SHARED, arena.fd, EPERM);
    must_not_map(PROT_WRITE, MAP_SHARED, arena.fd, EPERM);
    must_not_map(PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE, arena.fd, EPERM);
    arena_close(&arena);
}

Test(memfd_seals, the_file_opened_again_for_writing_cannot_be_mapped_for_writing_either) {
    struct arena arena;
    char path[64];
    arena_open(&arena, 0);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", arena.fd);
    const int again = open(path, O_RDWR | O_CLOEXEC);
    cr_assert(again >= 0, "that it opens was believed: %s", strerror(errno));
    must_not_map(PROT_READ | PROT_WRITE, MAP_SHARED, again, EPERM);
    MUST_FAIL(pwrite(again, "x", 1, 0), EPERM);
    cr_assert_eq(close(again), 0);
    MUST_FAIL(open(path, O_RDWR | O_TRUNC | O_CLOEXEC), EPERM);
    arena_close(&arena);
}

Test(memfd_seals, every_kind_of_write_is_refused) {
    struct arena arena;
    int ends[2];
    const struct iovec vector = {(char[]){'x'}, 1};
    arena_open(&arena, 0);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    cr_assert_eq(write(ends[1], "xxxx", 4), 4);
    const int source = memfd_create("source", MFD_CLOEXEC);
    cr_assert_eq(write(source, "xxxx", 4), 4);
    MUST_FAIL(write(arena.fd, "x", 1), EPERM);
    MUST_FAIL(pwrite(arena.fd, "x", 1, 0), EPERM);
    MUST_FAIL(writev(arena.fd, &vector, 1), EPERM);
    MUST_FAIL(pwritev2(arena.fd, &vector, 1, 0, 0), EPERM);
    MUST_FAIL(splice(ends[0], NULL, arena.fd, &(off_t){0}, 4, 0), EPERM);
    MUST_FAIL(sendfile(arena.fd, source, &(off_t){0}, 4), EPERM);
    MUST_FAIL(copy_file_range(source, &(off_t){0}, arena.fd, &(off_t){0}, 4, 0), EPERM);
    cr_assert_eq(close(ends[0]), 0);
    cr_assert_eq(close(ends[1]), 0);
    cr_assert_eq(close(source), 0);
    arena_close(&arena);
}

Test(memfd_seals, a_read_only_mapping_cannot_be_made_writable) {
    struct arena arena;
    arena_open(&arena, 0);
    char *reader = map_read_only(arena.fd);
    MUST_FAIL(mprotect(reader, SIZE, PROT_READ | PROT_WRITE), EACCES);
    cr_assert_eq(munmap(reader, SIZE), 0);
    arena_close(&arena);
}

Test(memfd_seals, nor_can_a_duplicate_of_it) {
    struct arena arena;
    arena_open(&arena, 0);
    char *reader = map_read_only(arena.fd);
    char *duplicate = mremap(reader, 0, SIZE, MREMAP_MAYMOVE);
    cr_assert(duplicate != MAP_FAILED);
    MUST_FAIL(mprotect(duplicate, SIZE, PROT_READ | PROT_WRITE), EACCES);
    cr_assert_eq(munmap(duplicate, SIZE), 0);
    cr_assert_eq(munmap(reader, SIZE), 0);
    arena_close(&arena);
}

Test(memfd_seals, a_system_call_cannot_write_to_a_read_only_mapping) {
    struct arena arena;
    int ends[2];
    arena_open(&arena, 0);
    char *reader = map_read_only(arena.fd);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    cr_assert_eq(write(ends[1], "x", 1), 1);
    MUST_FAIL(read(ends[0], reader, 1), EFAULT);
    const struct iovec from = {(char[]){'x'}, 1};
    const struct iovec to = {reader, 1};
    MUST_FAIL(process_vm_writev(getpid(), &from, 1, &to, 1, 0), EFAULT);
    cr_assert_eq(close(ends[0]), 0);
    cr_assert_eq(close(ends[1]), 0);
    cr_assert_eq(munmap(reader, SIZE), 0);
    arena_close(&arena);
}

/* /proc/self/mem is no way around: FOLL_FORCE breaks private mappings, and this is a shared one. */
Test(memfd_seals, nor_can_proc_self_mem) {
    struct arena arena;
    arena_open(&arena, 0);
    char *reader = map_read_only(arena.fd);
    const int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    cr_assert(memory >= 0);
    cr_assert_eq(pwrite(memory, "x", 1, (off_t)(intptr_t)reader), -1);
    cr_assert_eq(close(memory), 0);
    cr_assert_eq(munmap(reader, SIZE), 0);
    arena_close(&arena);
}

Test(memfd_seals, its_size_cannot_change) {
    struct arena arena;
    arena_open(&arena, 0);
    MUST_FAIL(ftruncate(arena.fd, 0), EPERM);
    MUST_FAIL(ftruncate(arena.fd, (off_t)SIZE / 2), EPERM);
    MUST_FAIL(ftruncate(arena.fd, (off_t)SIZE * 2), EPERM);
    MUST_FAIL(fallocate(arena.fd, 0, (off_t)SIZE, (off_t)SIZE), EPERM);
    arena_close(&arena);
}

/* An arena can be retired, never trimmed. */
Test(memfd_seals, not_even_the_owner_can_punch_a_hole) {
    struct arena arena;
    arena_open(&arena, 0);
    MUST_FAIL(fallocate(arena.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)SIZE),
              EPERM);
    MUST_FAIL(madvise(arena.owner, SIZE, MADV_REMOVE), EPERM);
    arena_close(&arena);
}

Test(memfd_seals, no_seal_can_be_added) {
    struct arena arena;
    arena_open(&arena, 0);
    MUST_FAIL(fcntl(arena.fd, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
    arena_close(&arena);
}

Test(memfd_seals, write_is_not_sealed_while_a_writable_mapping_lives) {
    const int fd = memfd_create("once", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    cr_assert_eq(ftruncate(fd, (off_t)SIZE), 0);
    char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_assert(memory != MAP_FAILED);
    MUST_FAIL(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
    cr_assert_eq(munmap(memory, SIZE), 0);
    cr_assert_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
    must_not_map(PROT_READ | PROT_WRITE, MAP_SHARED, fd, EPERM);
    cr_assert_eq(close(fd), 0);
}

/* ---- what the seals do not do -----------------------------------------------------------------
 */

/* So the kernel that has MFD_NOEXEC_SEAL refuses exec of the file, not of a mapping. */
Test(memfd_seals, a_read_only_mapping_can_be_made_executable) {
    static const unsigned int flags[] = {0, NOEXEC_SEAL};
    for (size_t i = 0; i < 2; i++) {
        const int probe = memfd_create("probe", MFD_CLOEXEC | flags[i]);
        if (probe < 0 && errno == EINVAL) {
            continue; /* before 6.3: the first round is what there is to know */
        }
        cr_assert_eq(close(probe), 0);
        struct arena arena;
        arena_open(&arena, flags[i]);
        char *reader = map_read_only(arena.fd);
        cr_assert_eq(mprotect(reader, SIZE, PROT_READ | PROT_EXEC), 0);
        cr_assert_eq(munmap(reader, SIZE), 0);
        arena_close(&arena);
    }
}

/* Runs @write_there in a child of this process and waits for what it says. */
static int in_child(int (*write_there)(char *), char *address) {
    int status = 0;
    const pid_t child = fork();
    if (child == 0) {
        _exit(write_there(address));
    }
    cr_assert(child > 0);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status), "status %#x", status);
    return WEXITSTATUS(status);
}

static int write_plainly(char *address) {
    *(volatile char *)address = 'x';
    return 0;
}

Test(memfd_seals, a_forked_child_writes_through_the_mapping_it_inherits) {
    struct arena arena;
    arena_open(&arena, 0);
    cr_assert_eq(in_child(write_plainly, arena.owner), 0);
    cr_assert_eq(arena.owner[0], 'x');
    arena.owner[0] = 'o';
    arena_close(&arena);
}

static int write_to_parent(char *address) {
    const struct iovec from = {(char[]){'x'}, 1};
    const struct iovec to = {address, 1};
    return process_vm_writev(getppid(), &from, 1, &to, 1, 0) == 1 ? 0 : errno;
}

Test(memfd_seals, a_process_that_may_trace_the_owner_writes_to_its_mapping) {
    struct arena arena;
    arena_open(&arena, 0);
    cr_assert_eq(madvise(arena.owner, SIZE, MADV_DONTFORK), 0);
    const int code = in_child(write_to_parent, arena.owner);
    SKIP_BECAUSE(code == EPERM ? "this machine forbids tracing (yama, or a filter)" : NULL);
    cr_assert_eq(code, 0, "%s", strerror(code));
    cr_assert_eq(arena.owner[0], 'x');
    arena.owner[0] = 'o';
    arena_close(&arena);
}
