/* SPDX-License-Identifier: MIT */
/*
 * Binary min-heap of deadlines. Each item knows its position, so any of them leaves in O(log n).
 * The caller brings the array.
 */
#ifndef SAFERING_CORE_HEAP_H
#define SAFERING_CORE_HEAP_H

#include "core/check.h"
#include <stdint.h>

#define SRI_HEAP_NOWHERE UINT32_MAX

struct sri_heap_item {
    uint64_t key;
    uint32_t position; /* SRI_HEAP_NOWHERE while in no heap */
};

struct sri_heap {
    struct sri_heap_item **items;
    uint32_t count;
    uint32_t count_max;
};

bool sri_heap_is_valid(const struct sri_heap *heap);
/* The heap must have room; @item must be in no heap. */
void sri_heap_insert(struct sri_heap *heap, struct sri_heap_item *item);
void sri_heap_remove(struct sri_heap *heap, struct sri_heap_item *item);

static inline struct sri_heap_item *sri_heap_first(const struct sri_heap *heap) {
    return heap->count > 0 ? heap->items[0] : NULL;
}

#endif
