/* SPDX-License-Identifier: MIT */
/*
 * Checks. Misuse by the caller is refused with a code and told to the misuse hook, in every build.
 * A broken promise of our own is SR_CHECK: it says where and aborts, also in release. SR_CHECK_SLOW
 * is for walks that cost more than the step they guard; only builds with SAFERING_CHECK_SLOW run
 * it.
 */
#ifndef SAFERING_CORE_CHECK_H
#define SAFERING_CORE_CHECK_H

#include <safering/error.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SRI_LIKELY(x)   __builtin_expect(!!(x), 1)
#define SRI_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* For what a fast path calls only when something is out of the ordinary: keeps its registers free.
 */
#define SRI_COLD __attribute__((cold, noinline))
/* The same for what is ordinary, but not the shortest way. */
#define SRI_NOINLINE __attribute__((noinline))

#define SRI_CONTAINER_OF(pointer, type, member)                                                    \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

SRI_COLD _Noreturn void sri_check_failed(const char *file, int line, const char *expression);

#define SR_CHECK(expression)                                                                       \
    (SRI_LIKELY(expression) ? (void)0 : sri_check_failed(__FILE__, __LINE__, #expression))

#ifdef SAFERING_CHECK_SLOW
#define SR_CHECK_SLOW(expression) SR_CHECK(expression)
#else
#define SR_CHECK_SLOW(expression) ((void)(0 && (expression)))
#endif

/* Tells the hook about one refused call and hands the code through: `return sri_misuse(...)`. */
SRI_COLD int sri_misuse(int code, const char *function, uint64_t handle);

#define SRI_MISUSE(code, handle) sri_misuse((code), __func__, (handle))

/* Copies the caller's options over the defaults in @known; NULL keeps the defaults. An options
 * struct starts with its size: a shorter one is of an older caller, whose missing fields stay at
 * their defaults; a longer one is of a newer caller, and bytes that we do not know must be zero,
 * else this returns false. */
bool sri_options_take(void *known, size_t known_size, const void *options);

/* Fills a caller's stats struct, which may be shorter (older) or longer (newer) than ours. */
bool sri_stats_size_is_valid(size_t size);
void sri_stats_give(void *out_stats, const void *stats, size_t known_size);

#endif
