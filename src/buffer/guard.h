/* SPDX-License-Identifier: MIT */
/*
 * Guards: what makes a touch of memory that is not the program's visible. AddressSanitizer poison
 * for free buffers and writer loans, canaries between slots, and, for valgrind, the news which
 * bytes the kernel wrote (it cannot see that itself).
 *
 * Whether AddressSanitizer is there is asked of the process, not of the build: a release library in
 * a sanitized program poisons too.
 */
#ifndef SAFERING_BUFFER_GUARD_H
#define SAFERING_BUFFER_GUARD_H

#include "core/check.h"
#include <stddef.h>
#include <stdint.h>

#define SRI_CANARY_BYTES 64u

/* enum sr_guard that @option and SAFERING_GUARD ask for; 0 if @option is none of them. */
uint32_t sri_guard_choose(uint32_t option);
bool sri_guard_has_asan(void);
bool sri_guard_has_valgrind(void);

void sri_guard_poison(const void *memory, size_t size_bytes);
void sri_guard_unpoison(const void *memory, size_t size_bytes);

/* @canary: SRI_CANARY_BYTES right behind a buffer, at any alignment. */
void sri_guard_canary_write(void *canary);
bool sri_guard_canary_is_whole(const void *canary);

/* Tells valgrind that the kernel wrote these bytes. */
void sri_guard_mark_written(const void *memory, size_t size_bytes);

#endif
