/* SPDX-License-Identifier: MIT */
#include "sys/memory.h"

#include <errno.h>
#include <safering/hooks.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE_BYTES ((size_t)4096)

static sr_allocator user_allocator;
static _Atomic uint64_t blocks_alive;

int sri_memory_map(size_t size_bytes, size_t alignment_bytes, struct sri_mapping *out_mapping) {
    const size_t slack = alignment_bytes > PAGE_BYTES ? alignment_bytes : 0;
    const size_t whole_bytes = PAGE_BYTES + slack + size_bytes + PAGE_BYTES;
    /* Everything begins inaccessible, so whatever is not opened below is a guard. */
    char *whole =
        mmap(NULL, whole_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (whole == MAP_FAILED) {
        return -errno;
    }
    const uintptr_t first = (uintptr_t)whole + PAGE_BYTES;
    char *base = whole + PAGE_BYTES + (-first & (alignment_bytes - 1));
    /* DONTFORK: a child's copy-on-write would let the kernel write to the parent's old pages. */
    if (mprotect(base, size_bytes, PROT_READ | PROT_WRITE) != 0 ||
        madvise(base, size_bytes, MADV_DONTFORK) != 0) {
        const int code = -errno;
        (void)munmap(whole, whole_bytes); /* cannot fail on a range that was just mapped */
        return code;
    }
    *out_mapping = (struct sri_mapping){base, size_bytes, whole, whole_bytes};
    return 0;
}

void sri_memory_unmap(const struct sri_mapping *mapping) {
    const int failed = munmap(mapping->whole, mapping->whole_bytes);
    SR_CHECK(failed == 0);
}

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
