/* SPDX-License-Identifier: MIT */
#include "core/heap.h"

static void place(struct sri_heap *heap, struct sri_heap_item *item, uint32_t position) {
    heap->items[position] = item;
    item->position = position;
}

static void sift_up(struct sri_heap *heap, struct sri_heap_item *item, uint32_t position) {
    while (position > 0 && item->key < heap->items[(position - 1) / 2]->key) {
        place(heap, heap->items[(position - 1) / 2], position);
        position = (position - 1) / 2;
    }
    place(heap, item, position);
}

static void sift_down(struct sri_heap *heap, struct sri_heap_item *item, uint32_t position) {
    for (;;) {
        uint32_t child = 2 * position + 1;
        if (child + 1 < heap->count && heap->items[child + 1]->key < heap->items[child]->key) {
            child++;
        }
        if (child >= heap->count || item->key <= heap->items[child]->key) {
            break;
        }
        place(heap, heap->items[child], position);
        position = child;
    }
    place(heap, item, position);
}

bool sri_heap_is_valid(const struct sri_heap *heap) {
    for (uint32_t i = 0; i < heap->count; i++) {
        if (heap->items[i]->position != i ||
            (i > 0 && heap->items[i]->key < heap->items[(i - 1) / 2]->key)) {
            return false;
        }
    }
    return heap->count <= heap->count_max;
}

void sri_heap_insert(struct sri_heap *heap, struct sri_heap_item *item) {
    SR_CHECK(heap->count < heap->count_max && item->position == SRI_HEAP_NOWHERE);
    heap->count++;
    sift_up(heap, item, heap->count - 1);
    SR_CHECK_SLOW(sri_heap_is_valid(heap));
}

void sri_heap_remove(struct sri_heap *heap, struct sri_heap_item *item) {
    const uint32_t position = item->position;
    SR_CHECK(position < heap->count && heap->items[position] == item);
    struct sri_heap_item *last = heap->items[--heap->count];
    item->position = SRI_HEAP_NOWHERE;
    if (last != item) {
        if (position > 0 && last->key < heap->items[(position - 1) / 2]->key) {
            sift_up(heap, last, position);
        } else {
            sift_down(heap, last, position);
        }
    }
    SR_CHECK_SLOW(sri_heap_is_valid(heap));
}
