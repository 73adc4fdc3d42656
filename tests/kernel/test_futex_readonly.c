/* SPDX-License-Identifier: MIT */
/*
 * What we believe of the kernel: FUTEX_WAIT and FUTEX_WAKE need no right to write to the word.
 * Waiter and waker meet by the page of the file behind it, whatever each has mapped, so a worker
 * may sleep on a word of the host that it can only read, and be woken by its own threads through
 * the same mapping. (get_futex_key() of the kernel falls back to a read-only look at the page.)
 */
#include "support/sleeper.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/clock.h"
#include "sys/futex.h"

#define PATIENCE_MS 10000

static _Atomic uint32_t *writable;
static const _Atomic uint32_t *readable;

static void map_both(void) {
    const int fd = memfd_create("futex", MFD_CLOEXEC);
    cr_assert_geq(fd, 0);
    cr_assert_eq(ftruncate(fd, 4096), 0);
    writable = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    readable = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    cr_assert(writable != MAP_FAILED && readable != MAP_FAILED);
    cr_assert_eq(close(fd), 0);
}

static uint64_t patience(void) {
    return sri_clock_now_ns() + PATIENCE_MS * UINT64_C(1000000);
}

/* A child that sleeps on the word through the mapping that cannot be written to, until it is woken.
 */
static pid_t child_sleeps(void) {
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        (void)munmap(writable, 4096);
        _exit(-sri_futex_wait(readable, 0, patience()));
    }
    cr_assert(sleeper_wait(child, SLEEPER_FIRST, SYS_futex, PATIENCE_MS));
    return child;
}

static int child_end(pid_t child) {
    int status = 0;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status));
    return -WEXITSTATUS(status);
}

Test(futex_readonly, a_sleeper_on_a_word_it_cannot_write_is_woken_by_the_process_that_can) {
    map_both();
    const pid_t child = child_sleeps();
    cr_assert_eq(sri_futex_wake(writable, SRI_FUTEX_ALL), 1);
    cr_assert_eq(child_end(child), 0);
}

Test(futex_readonly, a_waker_needs_no_right_to_write_either) {
    map_both();
    const pid_t child = child_sleeps();
    cr_assert_eq(sri_futex_wake(readable, SRI_FUTEX_ALL), 1);
    cr_assert_eq(child_end(child), 0);
}

Test(futex_readonly, the_word_is_compared_with_what_the_other_process_wrote) {
    map_both();
    atomic_store(writable, 7);
    cr_assert_eq(sri_futex_wait(readable, 0, patience()), -EAGAIN);
    cr_assert_eq(sri_futex_wait(readable, 7, sri_clock_now_ns() + 1000000), -ETIMEDOUT);
}

Test(futex_readonly, a_deadline_is_a_time_of_the_monotonic_clock) {
    map_both();
    const uint64_t deadline_ns = sri_clock_now_ns() + 20000000;
    cr_assert_eq(sri_futex_wait(readable, 0, deadline_ns), -ETIMEDOUT);
    cr_assert_geq(sri_clock_now_ns(), deadline_ns);
    cr_assert_eq(sri_futex_wait(readable, 0, 1), -ETIMEDOUT, "one that has long passed");
}
