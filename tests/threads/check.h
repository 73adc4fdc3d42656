/* SPDX-License-Identifier: MIT */
/*
 * Check: what the plain test programs of this folder use instead of Criterion, which does not start
 * under ThreadSanitizer. A check that fails says where and ends the program with 1; a program that
 * cannot test here says why and ends with 77.
 */
#ifndef SAFERING_TESTS_THREADS_CHECK_H
#define SAFERING_TESTS_THREADS_CHECK_H

#include <pthread.h>
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

#define CHECK(expression) ((expression) ? (void)0 : check_failed(__FILE__, __LINE__, #expression))

/* Two whole numbers (codes, counts); both are printed when they differ. */
#define CHECK_EQ(actual, expected)                                                                 \
    check_equal(__FILE__, __LINE__, #actual, (long long)(actual), (long long)(expected))

#define RUN(test) (fprintf(stderr, "  %s\n", #test), test())

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

#endif
