/* SPDX-License-Identifier: MIT */
/*
 * Memory: the allocator for the library's bookkeeping. The functions named sri_memory_* are the
 * real backend's; the rooms above use sri_allocate() and sri_release(), which go through the seam.
 */
#ifndef SAFERING_SYS_MEMORY_H
#define SAFERING_SYS_MEMORY_H

#include "sys/backend.h"
#include <string.h>

void *sri_memory_allocate(size_t size_bytes);
void sri_memory_release(void *memory);

/* Zeroed memory for bookkeeping, or NULL. */
static inline void *sri_allocate(size_t count, size_t size_bytes) {
    size_t whole = 0;
    if (__builtin_mul_overflow(count, size_bytes, &whole)) {
        return NULL;
    }
    void *memory = sri_backend()->allocate(whole);
    return memory != NULL ? memset(memory, 0, whole) : NULL;
}

/* NULL is allowed, and frequent: most operations have none of the parts that some need. */
static inline void sri_release(void *memory) {
    if (memory != NULL) {
        sri_backend()->release(memory);
    }
}

#endif
