/* SPDX-License-Identifier: MIT */
/*
 * Hash index: 64-bit keys to 32-bit values, open addressing with linear probing. Sized up front,
 * never rehashed; seeded, so that keys chosen by an adversary do not collide on purpose. Removal
 * closes gaps, so there are no tombstones and lookups stay short.
 */
#ifndef SAFERING_CORE_INDEX_H
#define SAFERING_CORE_INDEX_H

#include "core/check.h"
#include <stddef.h>
#include <stdint.h>

#define SRI_INDEX_NONE UINT32_MAX

struct sri_index_cell {
    uint64_t key;
    uint32_t value; /* SRI_INDEX_NONE: empty */
    uint32_t reserved;
};

struct sri_index {
    struct sri_index_cell *cells;
    uint64_t seed;
    uint32_t cell_mask;
    uint32_t count;
    uint32_t count_max;
};

/* Cells for @count_max keys at a load of at most one half; a power of two. */
uint32_t sri_index_cells_for(uint32_t count_max);
/* @cells: lends until the index is forgotten; sri_index_cells_for(count_max) of them. */
void sri_index_init(struct sri_index *index, struct sri_index_cell *cells, uint32_t count_max,
                    uint64_t seed);
bool sri_index_is_valid(const struct sri_index *index);
/* SRI_INDEX_NONE if @key is not in. */
uint32_t sri_index_find(const struct sri_index *index, uint64_t key);
/* @key must not be in. False when count_max keys are in. */
bool sri_index_insert(struct sri_index *index, uint64_t key, uint32_t value);
/* False if @key was not in. */
bool sri_index_remove(struct sri_index *index, uint64_t key);

#endif
