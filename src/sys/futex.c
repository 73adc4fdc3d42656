/* SPDX-License-Identifier: MIT */
#include "sys/futex.h"

#include "sys/clock.h"

#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(sizeof(_Atomic uint32_t) == sizeof(uint32_t), "a futex is a bare word of 32 bits");

/* Neither call has the private flag: a waiter with it is not found by a waker without. */

int sri_futex_wait(const _Atomic uint32_t *word, uint32_t expected, uint64_t deadline_ns) {
    const struct timespec deadline = sri_clock_timespec(deadline_ns);
    /* Of the futex calls, this one takes an absolute time; without FUTEX_CLOCK_REALTIME it is of
     * the monotonic clock. */
    const long code =
        syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected,
                deadline_ns != UINT64_MAX ? &deadline : NULL, NULL, FUTEX_BITSET_MATCH_ANY);
    return code == 0 ? 0 : -errno;
}

int sri_futex_wake(const _Atomic uint32_t *word, int32_t count_max) {
    const long count = syscall(SYS_futex, word, FUTEX_WAKE, count_max, NULL, NULL, 0);
    return count >= 0 ? (int)count : -errno;
}
