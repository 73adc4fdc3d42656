/* SPDX-License-Identifier: MIT */
#include "batch/edge.h"

#include "sys/memory.h"

void sri_edges_init(struct sri_edges *edges) {
    *edges = (struct sri_edges){.free_first = SRI_EDGE_NONE};
}

void sri_edges_deinit(struct sri_edges *edges) {
    for (uint32_t i = 0; i < edges->segment_count; i++) {
        sri_release(edges->segments[i]);
    }
    sri_edges_init(edges);
}

static bool segment_append(struct sri_edges *edges) {
    if (edges->segment_count == SRI_GROWTH_SEGMENTS_MAX) {
        return false;
    }
    struct sri_edge *list =
        sri_allocate(sri_growth_segment_size(edges->segment_count), sizeof *list);
    if (list == NULL) {
        return false;
    }
    edges->segments[edges->segment_count++] = list;
    return true;
}

uint32_t sri_edge_acquire(struct sri_edges *edges) {
    const uint32_t index = edges->free_first;
    if (index != SRI_EDGE_NONE) {
        edges->free_first = sri_edge_at(edges, index)->next;
        return index;
    }
    const bool has_room =
        edges->place_count < sri_growth_base(edges->segment_count) || segment_append(edges);
    return has_room ? edges->place_count++ : SRI_EDGE_NONE;
}

void sri_edge_release(struct sri_edges *edges, uint32_t index) {
    sri_edge_at(edges, index)->next = edges->free_first;
    edges->free_first = index;
}
