/* SPDX-License-Identifier: MIT */
/* What a program may hand to the whole library: a hook that hears of misuse, and an allocator. */
#ifndef SAFERING_HOOKS_H
#define SAFERING_HOOKS_H

#include <safering/export.h>
#include <stddef.h>
#include <stdint.h>

SR_EXTERN_C_BEGIN

/**
 * sr_misuse_fn - told once about each call that the library refused because the caller broke a rule
 * @code:      the code that the call returns
 * @function:  name of the public function
 * @handle:    bits of the handle at fault, or 0
 * @ctx:       as given to sr_set_misuse_hook()
 *
 * Runs on the calling thread, before the call returns. Expected failures (SR_E_FULL, SR_E_LIMIT,
 * SR_E_TIMEOUT, SR_E_IDLE, codes of the kernel) are not misuse.
 */
typedef void (*sr_misuse_fn)(int code, const char *function, uint64_t handle, void *ctx);

/**
 * sr_set_misuse_hook() - name the function that hears of misuse in this process
 * @hook:  NULL for none, the default
 * @ctx:   handed to @hook; must live as long as the hook is set
 *
 * Thread:  any; set it before other threads use the library.     Blocks: never.
 */
SR_API void sr_set_misuse_hook(sr_misuse_fn hook, void *ctx);

/** An allocator for the library's own bookkeeping. Buffers do not come from it but from mmap(2). */
typedef struct sr_allocator {
    size_t size; /* sizeof(sr_allocator) */
    /** Returns memory aligned for any type, or NULL. */
    void *(*allocate)(size_t size_bytes, void *ctx);
    /** Never called with NULL. */
    void (*release)(void *memory, void *ctx);
    void *ctx;
} sr_allocator;

#define SR_ALLOCATOR_INIT (SR_LITERAL(sr_allocator){sizeof(sr_allocator), 0, 0, 0})

/**
 * sr_set_allocator() - use another allocator than malloc for the library's bookkeeping
 * @allocator:  copies; NULL for malloc and free
 *
 * Return:  0, -EINVAL (size or a missing function), SR_E_STATE (the library holds memory already).
 * Thread:  any, before the first object is created.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_set_allocator(const sr_allocator *allocator);

SR_EXTERN_C_END

#endif
