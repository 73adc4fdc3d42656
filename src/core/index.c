/* SPDX-License-Identifier: MIT */
#include "core/index.h"

/* One multiplication by a secret odd number and a fold of the high half: enough to scatter handles,
 * and unpredictable to whoever chooses keys without knowing the seed. */
static uint32_t home_of(const struct sri_index *index, uint64_t key) {
    const __uint128_t product = (__uint128_t)(key ^ index->seed) * (index->seed | 1u);
    return (uint32_t)((uint64_t)(product >> 64) ^ (uint64_t)product) & index->cell_mask;
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
