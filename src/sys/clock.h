/* SPDX-License-Identifier: MIT */
/*
 * Clock: the monotonic time of the machine, which processes and threads agree on. All deadlines of
 * the library are times of this clock. Knows no queue, so that a worker can have it without one.
 */
#ifndef SAFERING_SYS_CLOCK_H
#define SAFERING_SYS_CLOCK_H

#include <stdint.h>
#include <time.h>

#define SRI_NS_PER_S UINT64_C(1000000000)

/* 20 ns where the vDSO has the clock, a system call where it has not. */
static inline uint64_t sri_clock_now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
    return (uint64_t)now.tv_sec * SRI_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* The time so much later, or UINT64_MAX, which is never, if there is none. */
static inline uint64_t sri_clock_after(uint64_t now_ns, uint64_t duration_ns) {
    return duration_ns < UINT64_MAX - now_ns ? now_ns + duration_ns : UINT64_MAX;
}

static inline struct timespec sri_clock_timespec(uint64_t time_ns) {
    return (struct timespec){.tv_sec = (time_t)(time_ns / SRI_NS_PER_S),
                             .tv_nsec = (long)(time_ns % SRI_NS_PER_S)};
}

#endif
