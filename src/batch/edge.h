/* SPDX-License-Identifier: MIT */
/*
 * Edge: a node runs after another. Every edge is in two lists: of what depends on its dependency,
 * to hand the outcome on, and of what its node depends on, to keep these as long as they are
 * needed. Edges lie in blocks that never move; those that are done with are used again.
 */
#ifndef SAFERING_BATCH_EDGE_H
#define SAFERING_BATCH_EDGE_H

#include "batch/growth.h"
#include <safering/batch.h>
#include <stdbool.h>

#define SRI_EDGE_NONE UINT32_MAX

struct sri_edge {
    uint32_t to;      /* place of the node that depends */
    uint32_t from;    /* place of its dependency */
    uint32_t next;    /* of the same dependency; or in the free list */
    uint32_t next_in; /* of the same node */
    uint32_t ordinal; /* among the edges to `to` */
    uint8_t when;     /* enum sr_when */
    bool argument;    /* `to` takes a result of the dependency */
    bool known;       /* added when the dependency had its outcome: not to be handed on */
};

struct sri_edges {
    struct sri_edge *segments[SRI_GROWTH_SEGMENTS_MAX];
    uint32_t segment_count;
    uint32_t place_count;
    uint32_t free_first;
};

void sri_edges_init(struct sri_edges *edges);
void sri_edges_deinit(struct sri_edges *edges);

static inline struct sri_edge *sri_edge_at(const struct sri_edges *edges, uint32_t index) {
    const struct sri_growth_place place = sri_growth_find(index);
    return &edges->segments[place.segment][place.offset];
}

/* The place of a new edge, or SRI_EDGE_NONE when memory is short. */
uint32_t sri_edge_acquire(struct sri_edges *edges);
void sri_edge_release(struct sri_edges *edges, uint32_t index);

#endif
