/* SPDX-License-Identifier: MIT */
/*
 * Check: what the plain test programs of this folder use instead of Criterion, which does not start
 * under ThreadSanitizer. A check that fails says where and ends the program with 1; a program that
 * cannot test here says why and ends with 77.
 */
#ifndef SAFERING_TESTS_THREADS_CHECK_H
#define SAFERING_TESTS_THREADS_CHECK_H

#include <pthread.h>
#include <safering/safering.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#if defined(__SANITIZE_THREAD__)
#define CHECK_HAS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CHECK_HAS_TSAN 1
#endif
#endif
#ifndef CHECK_HAS_TSAN
#define CHECK_HAS_TSAN 0
#endif

#ifdef SAFERING_HAVE_VALGRIND
#include <valgrind/valgrind.h>
#define CHECK_ON_VALGRIND (RUNNING_ON_VALGRIND != 0)
#else
#define CHECK_ON_VALGRIND 0
#endif

#define CHECK_PATIENCE_NS UINT64_C(20000000000)

#define CHECK(expression) ((expression) ? (void)0 : check_failed(__FILE__, __LINE__, #expression))

/* Two whole numbers (codes, counts); both are printed when they differ. */
#define CHECK_EQ(actual, expected)                                                                 \
    check_equal(__FILE__, __LINE__, #actual, (long long)(actual), (long long)(expected))

#define RUN(test) (fprintf(stderr, "  %s\n", #test), test())

/* A test in which a thread sleeps in the kernel until another one acts (see check_wait_one()). */
#define RUN_UNLESS_VALGRIND(test)                                                                  \
    (CHECK_ON_VALGRIND ? (void)fprintf(stderr, "  %s: not under valgrind\n", #test)                \
                       : (void)RUN(test))

static inline _Noreturn void check_failed(const char *file, int line, const char *expression) {
    fprintf(stderr, "%s:%d: not true: %s\n", file, line, expression);
    exit(1);
}

static inline void check_equal(const char *file, int line, const char *expression, long long actual,
                               long long expected) {
    if (actual != expected) {
        fprintf(stderr, "%s:%d: %s is %lld, expected %lld\n", file, line, expression, actual,
                expected);
        exit(1);
    }
}

static inline pthread_t check_thread_start(void *(*run)(void *), void *ctx) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, run, ctx), 0);
    return thread;
}

static inline void check_thread_join(pthread_t thread) {
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* Runs @run on a thread of its own, to its end. */
static inline void check_in_thread(void *(*run)(void *), void *ctx) {
    check_thread_join(check_thread_start(run, ctx));
}

static inline void check_sleep_ms(long ms) {
    struct timespec left = {ms / 1000, (ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0) {
    }
}

static inline uint64_t check_now_ns(void) {
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/*
 * sr_ring_wait() for what another thread does. valgrind lets no other thread run while one is in
 * io_uring_enter(2) (it does not know that the call may block), so there it looks and yields.
 */
static inline int check_wait_one(sr_ring *ring, uint64_t timeout_ns,
                                 const sr_completion **out_completions) {
    int code = 0;
    do {
        if (!CHECK_ON_VALGRIND) {
            return sr_ring_wait(ring, 1, timeout_ns, NULL, out_completions);
        }
        (void)sched_yield();
        code = sr_ring_wait(ring, 1, 0, NULL, out_completions);
    } while (code == SR_E_TIMEOUT);
    return code;
}

#endif
