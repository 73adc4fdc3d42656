/* SPDX-License-Identifier: MIT */
#include "unit/fixture.h"

#include "core/heap.h"
#include "support/scale.h"

#define ITEMS 200u

struct heap {
    struct sri_heap heap;
    struct sri_heap_item *places[ITEMS];
    struct sri_heap_item items[ITEMS];
};

static void heap_begin(struct heap *heap) {
    memset(heap, 0, sizeof *heap);
    heap->heap = (struct sri_heap){.items = heap->places, .count_max = ITEMS};
    for (uint32_t i = 0; i < ITEMS; i++) {
        heap->items[i].position = SRI_HEAP_NOWHERE;
    }
}

/* The truth, by looking at every item. */
static uint64_t least_key(const struct heap *heap, uint32_t *out_count) {
    uint64_t least = UINT64_MAX;
    *out_count = 0;
    for (uint32_t i = 0; i < ITEMS; i++) {
        if (heap->items[i].position != SRI_HEAP_NOWHERE) {
            least = heap->items[i].key < least ? heap->items[i].key : least;
            (*out_count)++;
        }
    }
    return least;
}

Test(heap, an_empty_heap_has_no_first) {
    struct heap heap;
    heap_begin(&heap);
    cr_assert_null(sri_heap_first(&heap.heap));
    cr_assert(sri_heap_is_valid(&heap.heap));
}

Test(heap, items_leave_in_the_order_of_their_keys) {
    struct heap heap;
    struct scale_random random = scale_random(1);
    heap_begin(&heap);
    for (uint32_t i = 0; i < ITEMS; i++) {
        heap.items[i].key = scale_random_below(&random, 50); /* many alike */
        sri_heap_insert(&heap.heap, &heap.items[i]);
    }
    uint64_t last = 0;
    for (uint32_t i = 0; i < ITEMS; i++) {
        struct sri_heap_item *first = sri_heap_first(&heap.heap);
        cr_assert_not_null(first);
        cr_assert_geq(first->key, last);
        last = first->key;
        sri_heap_remove(&heap.heap, first);
        cr_assert_eq(first->position, SRI_HEAP_NOWHERE);
    }
    cr_assert_null(sri_heap_first(&heap.heap));
}

Test(heap, random_inserts_and_removes_from_the_middle_agree_with_a_model) {
    struct heap heap;
    struct scale_random random = scale_random(2);
    const uint64_t steps = scale_count(200000, 5000);
    heap_begin(&heap);
    for (uint64_t step = 0; step < steps; step++) {
        struct sri_heap_item *item = &heap.items[scale_random_below(&random, ITEMS)];
        uint32_t count = 0;
        if (item->position == SRI_HEAP_NOWHERE) {
            item->key = scale_random_below(&random, 3) == 0 ? UINT64_MAX - step % 3
                                                            : scale_random_below(&random, 1000);
            sri_heap_insert(&heap.heap, item);
        } else {
            sri_heap_remove(&heap.heap, item);
        }
        const uint64_t least = least_key(&heap, &count);
        cr_assert(sri_heap_is_valid(&heap.heap));
        cr_assert_eq(heap.heap.count, count);
        cr_assert(count == 0 || sri_heap_first(&heap.heap)->key == least);
    }
}

Test(heap, a_broken_order_or_position_is_seen) {
    struct heap heap;
    heap_begin(&heap);
    for (uint32_t i = 0; i < 10; i++) {
        heap.items[i].key = i;
        sri_heap_insert(&heap.heap, &heap.items[i]);
    }
    cr_assert(sri_heap_is_valid(&heap.heap));
    heap.heap.items[0]->key = 100;
    cr_assert_not(sri_heap_is_valid(&heap.heap));
    heap.heap.items[0]->key = 0;
    heap.heap.items[5]->position = 4;
    cr_assert_not(sri_heap_is_valid(&heap.heap));
}

Test(heap, inserting_an_item_twice_aborts, .signal = SIGABRT) {
    struct heap heap;
    heap_begin(&heap);
    sri_heap_insert(&heap.heap, &heap.items[0]);
    sri_heap_insert(&heap.heap, &heap.items[0]);
}

Test(heap, removing_an_item_that_is_not_in_aborts, .signal = SIGABRT) {
    struct heap heap;
    heap_begin(&heap);
    sri_heap_remove(&heap.heap, &heap.items[0]);
}
