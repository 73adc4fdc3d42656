/* SPDX-License-Identifier: MIT */
/*
 * Growth: an array in segments that never move. The first holds a few dozen places, each further
 * one twice as many as the one before, so a small batch stays small, a large one is a handful of
 * blocks, and where a place lies is arithmetic.
 */
#ifndef SAFERING_BATCH_GROWTH_H
#define SAFERING_BATCH_GROWTH_H

#include <stdint.h>

#define SRI_GROWTH_FIRST_BITS   6
#define SRI_GROWTH_FIRST        (UINT32_C(1) << SRI_GROWTH_FIRST_BITS)
#define SRI_GROWTH_SEGMENTS_MAX 26 /* more than 2^31 places */

struct sri_growth_place {
    uint32_t segment;
    uint32_t offset;
};

static inline uint32_t sri_growth_segment_size(uint32_t segment) {
    return SRI_GROWTH_FIRST << segment;
}

/* The place with number @index, counted over all segments. */
static inline struct sri_growth_place sri_growth_find(uint32_t index) {
    const uint32_t shifted = index + SRI_GROWTH_FIRST;
    const uint32_t segment = 31u - (uint32_t)__builtin_clz(shifted) - SRI_GROWTH_FIRST_BITS;
    return (struct sri_growth_place){segment, shifted - sri_growth_segment_size(segment)};
}

/* The number of the first place of a segment. */
static inline uint32_t sri_growth_base(uint32_t segment) {
    return sri_growth_segment_size(segment) - SRI_GROWTH_FIRST;
}

#endif
