/* SPDX-License-Identifier: MIT */
/*
 * Hash index: 64-bit keys to 32-bit values. Keys of the same home are a chain of cells; there are
 * twice as many homes as keys, so hardly a chain is longer than one. Sized up front, never
 * rehashed; seeded, so that keys chosen by an adversary do not collide on purpose.
 *
 * Chains and not probing of neighbours, because what costs is a wrong guess of the processor:
 * inserting has no branch that depends on the other keys, and a removed cell is the next one to be
 * used, so it is in the cache.
 */
#ifndef SAFERING_CORE_INDEX_H
#define SAFERING_CORE_INDEX_H

#include "core/check.h"
#include <stddef.h>
#include <stdint.h>

#define SRI_INDEX_NONE UINT32_MAX

#define SRI_INDEX_HOMES_PER_CELL 4u

/* A key, or, behind those for keys, some homes. */
struct sri_index_cell {
    union {
        struct {
            uint64_t key;
            uint32_t value; /* SRI_INDEX_NONE: free */
            uint32_t next;  /* of the same home, or free */
        };
        uint32_t homes[SRI_INDEX_HOMES_PER_CELL]; /* the first cell of each chain */
    };
};

struct sri_index {
    struct sri_index_cell *cells; /* count_max for keys, then those for homes */
    uint64_t seed;
    uint32_t home_mask;
    uint32_t count;
    uint32_t count_max;
    uint32_t free_first;
};

/* Cells for @count_max keys and their homes. */
uint32_t sri_index_cells_for(uint32_t count_max);
/* @cells: lends until the index is forgotten; sri_index_cells_for(count_max) of them. */
void sri_index_init(struct sri_index *index, struct sri_index_cell *cells, uint32_t count_max,
                    uint64_t seed);
bool sri_index_is_valid(const struct sri_index *index);
/* SRI_INDEX_NONE if @key is not in. */
uint32_t sri_index_find(const struct sri_index *index, uint64_t key);
/* @key must not be in. False when count_max keys are in. */
bool sri_index_insert(struct sri_index *index, uint64_t key, uint32_t value);
/* Removes @key and returns its value; SRI_INDEX_NONE if it was not in. */
uint32_t sri_index_take(struct sri_index *index, uint64_t key);
/* False if @key was not in. */
bool sri_index_remove(struct sri_index *index, uint64_t key);

#endif
