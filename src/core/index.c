/* SPDX-License-Identifier: MIT */
#include "core/index.h"

static uint64_t fold(uint64_t a, uint64_t b) {
    const __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)(product >> 64) ^ (uint64_t)product;
}

/* The first multiplication breaks up what keys have in common (handles differ by steps of powers of
 * two), the second one, by a secret odd number, makes it unpredictable to whoever chooses keys. One
 * alone does not do: for one seed in some thousand the keys of a run of handles lay in a few heaps.
 */
static uint32_t home_of(const struct sri_index *index, uint64_t key) {
    const uint64_t mixed = fold(key ^ index->seed, UINT64_C(0x9e3779b97f4a7c15));
    return (uint32_t)fold(mixed, index->seed | 1u) & index->home_mask;
}

static uint32_t *home_at(const struct sri_index *index, uint32_t home) {
    struct sri_index_cell *cell = &index->cells[index->count_max + home / SRI_INDEX_HOMES_PER_CELL];
    return &cell->homes[home % SRI_INDEX_HOMES_PER_CELL];
}

static uint32_t homes_for(uint32_t count_max) {
    uint32_t homes = 16;
    while (homes < 2 * count_max) {
        homes *= 2;
    }
    return homes;
}

uint32_t sri_index_cells_for(uint32_t count_max) {
    return count_max + homes_for(count_max) / SRI_INDEX_HOMES_PER_CELL;
}

void sri_index_init(struct sri_index *index, struct sri_index_cell *cells, uint32_t count_max,
                    uint64_t seed) {
    *index = (struct sri_index){
        .cells = cells,
        .seed = seed,
        .home_mask = homes_for(count_max) - 1,
        .count_max = count_max,
        .free_first = SRI_INDEX_NONE,
    };
    for (uint32_t i = 0; i <= index->home_mask; i++) {
        *home_at(index, i) = SRI_INDEX_NONE;
    }
    for (uint32_t i = count_max; i-- > 0;) {
        cells[i] = (struct sri_index_cell){.value = SRI_INDEX_NONE, .next = index->free_first};
        index->free_first = i;
    }
    SR_CHECK(sri_index_is_valid(index));
}

bool sri_index_is_valid(const struct sri_index *index) {
    return index->cells != NULL && index->count <= index->count_max &&
           2 * index->count_max <= index->home_mask + 1 &&
           (index->free_first == SRI_INDEX_NONE) == (index->count == index->count_max);
}

/* The link that leads to the cell of @key, or that ends its chain. */
static uint32_t *link_to(const struct sri_index *index, uint64_t key) {
    uint32_t *link = home_at(index, home_of(index, key));
    while (*link != SRI_INDEX_NONE && index->cells[*link].key != key) {
        link = &index->cells[*link].next;
    }
    return link;
}

uint32_t sri_index_find(const struct sri_index *index, uint64_t key) {
    const uint32_t place = *link_to(index, key);
    return place != SRI_INDEX_NONE ? index->cells[place].value : SRI_INDEX_NONE;
}

bool sri_index_insert(struct sri_index *index, uint64_t key, uint32_t value) {
    SR_CHECK(value != SRI_INDEX_NONE);
    SR_CHECK_SLOW(*link_to(index, key) == SRI_INDEX_NONE);
    const uint32_t place = index->free_first;
    if (place == SRI_INDEX_NONE) {
        return false;
    }
    struct sri_index_cell *cell = &index->cells[place];
    uint32_t *home = home_at(index, home_of(index, key));
    index->free_first = cell->next;
    *cell = (struct sri_index_cell){.key = key, .value = value, .next = *home};
    *home = place;
    index->count++;
    return true;
}

uint32_t sri_index_take(struct sri_index *index, uint64_t key) {
    uint32_t *link = link_to(index, key);
    const uint32_t place = *link;
    if (place == SRI_INDEX_NONE) {
        return SRI_INDEX_NONE;
    }
    struct sri_index_cell *cell = &index->cells[place];
    const uint32_t value = cell->value;
    *link = cell->next;
    cell->value = SRI_INDEX_NONE;
    cell->next = index->free_first;
    index->free_first = place;
    index->count--;
    return value;
}

bool sri_index_remove(struct sri_index *index, uint64_t key) {
    return sri_index_take(index, key) != SRI_INDEX_NONE;
}
