/* SPDX-License-Identifier: MIT */
#include "sys/memory.h"

#include <errno.h>
#include <safering/hooks.h>
#include <stdlib.h>

static sr_allocator user_allocator;
static _Atomic uint64_t blocks_alive;

void *sri_memory_allocate(size_t size_bytes) {
    void *memory = user_allocator.allocate != NULL
                       ? user_allocator.allocate(size_bytes, user_allocator.ctx)
                       : malloc(size_bytes);
    if (memory != NULL) {
        atomic_fetch_add_explicit(&blocks_alive, 1, memory_order_relaxed);
    }
    return memory;
}

void sri_memory_release(void *memory) {
    if (memory == NULL) {
        return;
    }
    atomic_fetch_sub_explicit(&blocks_alive, 1, memory_order_relaxed);
    if (user_allocator.release != NULL) {
        user_allocator.release(memory, user_allocator.ctx);
    } else {
        free(memory);
    }
}

int sr_set_allocator(const sr_allocator *allocator) {
    if (atomic_load(&blocks_alive) != 0) {
        return SRI_MISUSE(SR_E_STATE, 0);
    }
    if (allocator == NULL) {
        user_allocator = (sr_allocator){0};
        return 0;
    }
    if (allocator->size != sizeof *allocator || allocator->allocate == NULL ||
        allocator->release == NULL) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    user_allocator = *allocator;
    return 0;
}
