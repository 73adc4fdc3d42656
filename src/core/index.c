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
    return (uint32_t)fold(mixed, index->seed | 1u) & index->cell_mask;
}

uint32_t sri_index_cells_for(uint32_t count_max) {
    uint32_t cells = 16;
    while (cells < 2 * count_max) {
        cells *= 2;
    }
    return cells;
}

void sri_index_init(struct sri_index *index, struct sri_index_cell *cells, uint32_t count_max,
                    uint64_t seed) {
    *index = (struct sri_index){
        .cells = cells,
        .seed = seed,
        .cell_mask = sri_index_cells_for(count_max) - 1,
        .count_max = count_max,
    };
    for (uint32_t i = 0; i <= index->cell_mask; i++) {
        cells[i] = (struct sri_index_cell){.value = SRI_INDEX_NONE};
    }
    SR_CHECK(sri_index_is_valid(index));
}

bool sri_index_is_valid(const struct sri_index *index) {
    return index->cells != NULL && index->count <= index->count_max &&
           2 * index->count_max <= index->cell_mask + 1;
}

static uint32_t cell_of(const struct sri_index *index, uint64_t key) {
    uint32_t i = home_of(index, key);
    while (index->cells[i].value != SRI_INDEX_NONE && index->cells[i].key != key) {
        i = (i + 1) & index->cell_mask;
    }
    return i;
}

uint32_t sri_index_find(const struct sri_index *index, uint64_t key) {
    return index->cells[cell_of(index, key)].value;
}

bool sri_index_insert(struct sri_index *index, uint64_t key, uint32_t value) {
    SR_CHECK(value != SRI_INDEX_NONE);
    if (index->count == index->count_max) {
        return false;
    }
    struct sri_index_cell *cell = &index->cells[cell_of(index, key)];
    SR_CHECK(cell->value == SRI_INDEX_NONE);
    *cell = (struct sri_index_cell){.key = key, .value = value};
    index->count++;
    return true;
}

bool sri_index_remove(struct sri_index *index, uint64_t key) {
    uint32_t hole = cell_of(index, key);
    if (index->cells[hole].value == SRI_INDEX_NONE) {
        return false;
    }
    /* Move back every later cell of the run that may stand in the hole. */
    for (uint32_t i = (hole + 1) & index->cell_mask; index->cells[i].value != SRI_INDEX_NONE;
         i = (i + 1) & index->cell_mask) {
        const uint32_t home = home_of(index, index->cells[i].key);
        if (((i - home) & index->cell_mask) >= ((i - hole) & index->cell_mask)) {
            index->cells[hole] = index->cells[i];
            hole = i;
        }
    }
    index->cells[hole].value = SRI_INDEX_NONE;
    index->count--;
    return true;
}
