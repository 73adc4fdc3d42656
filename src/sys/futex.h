/* SPDX-License-Identifier: MIT */
/*
 * Futex: sleep until a word of shared memory changes, and wake who sleeps on one. The words may lie
 * in memory that another process maps too, and waiter and waker need no right to write to them
 * (tests/kernel/test_futex_readonly.c): the kernel finds both by the page of the file behind it.
 *
 * Knows no queue and no backend, so that a worker can have it without them.
 */
#ifndef SAFERING_SYS_FUTEX_H
#define SAFERING_SYS_FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

#define SRI_FUTEX_ALL INT32_MAX

/*
 * Sleeps while *@word is @expected, until @deadline_ns (absolute, of the monotonic clock;
 * UINT64_MAX for no limit). @word must lie in a shared mapping.
 *
 * Returns 0 when somebody woke it, or for no reason at all; -EAGAIN when the word was another one;
 * -ETIMEDOUT; -EINTR after a signal; other codes for a word that cannot be waited on.
 */
int sri_futex_wait(const _Atomic uint32_t *word, uint32_t expected, uint64_t deadline_ns);

/* Wakes up to @count_max sleepers of @word. Returns how many, or a negative code. */
int sri_futex_wake(const _Atomic uint32_t *word, int32_t count_max);

#endif
