/* SPDX-License-Identifier: MIT */
#include "batch/node.h"

#include "batch/edge.h"
#include "sys/memory.h"

#include <errno.h>

static int segment_append(struct sri_nodes *nodes) {
    if (nodes->segment_count == SRI_GROWTH_SEGMENTS_MAX) {
        return SR_E_FULL;
    }
    const uint32_t number = nodes->segment_count;
    const uint32_t rest = nodes->count_max - sri_growth_base(number);
    const uint32_t whole = sri_growth_segment_size(number);
    const uint32_t size = whole < rest ? whole : rest;
    const uint32_t entry_count = sri_handle_entries_for(size);
    struct sri_node_segment *segment = &nodes->segments[number];
    void *entries = sri_allocate(1, sri_handle_memory_for(entry_count));
    segment->list = sri_allocate(size, sizeof *segment->list);
    int code = entries == NULL || segment->list == NULL ? -ENOMEM : 0;
    if (code == 0) {
        code = sri_handle_table_init(&segment->handles, SRI_KIND_NODE, entries, entry_count);
    }
    if (code < 0) {
        sri_release(entries);
        sri_release(segment->list);
        segment->list = NULL;
        return code;
    }
    nodes->segment_count++;
    return 0;
}

int sri_nodes_init(struct sri_nodes *nodes, uint32_t count_max) {
    *nodes = (struct sri_nodes){.count_max = count_max, .free_first = SRI_NODE_NONE};
    return segment_append(nodes);
}

void sri_nodes_deinit(struct sri_nodes *nodes) {
    for (uint32_t i = 0; i < nodes->segment_count; i++) {
        struct sri_node_segment *segment = &nodes->segments[i];
        void *handles_memory = segment->handles.owners;
        sri_handle_table_deinit(&segment->handles);
        sri_release(handles_memory);
        sri_release(segment->list);
    }
    *nodes = (struct sri_nodes){.free_first = SRI_NODE_NONE};
}

/* A free place: one that was used before, else the next one. */
static int place_take(struct sri_nodes *nodes, uint32_t *out_index) {
    if (nodes->free_first != SRI_NODE_NONE) {
        *out_index = nodes->free_first;
        nodes->free_first = sri_node_at(nodes, *out_index)->next;
        return 0;
    }
    if (nodes->place_count == sri_growth_base(nodes->segment_count)) {
        const int code = segment_append(nodes);
        if (code < 0) {
            return code;
        }
    }
    *out_index = nodes->place_count++;
    return 0;
}

static void place_give(struct sri_nodes *nodes, struct sri_node *node, uint32_t index) {
    node->index = index;
    node->next = nodes->free_first;
    nodes->free_first = index;
}

int sri_node_acquire(struct sri_nodes *nodes, struct sri_node **out_node) {
    uint32_t index = 0;
    if (nodes->alive_count == nodes->count_max) {
        return SR_E_FULL;
    }
    const int code = place_take(nodes, &index);
    if (code < 0) {
        return code;
    }
    const struct sri_growth_place place = sri_growth_find(index);
    struct sri_node_segment *segment = &nodes->segments[place.segment];
    struct sri_node *node = &segment->list[place.offset];
    const uint64_t handle = sri_handle_acquire(&segment->handles, SRI_KIND_NODE, place.offset);
    if (handle == 0) {
        place_give(nodes, node, index);
        return SR_E_FULL;
    }
    *node = (struct sri_node){
        .handle = handle,
        .sequence = nodes->acquired_total++,
        .buffer_root = SRI_NODE_NONE,
        .edge_first = SRI_EDGE_NONE,
        .edge_last = SRI_EDGE_NONE,
        .edge_in_first = SRI_EDGE_NONE,
        .unmet = SRI_ORDINAL_NONE,
        .pool = UINT8_MAX,
        .index = index,
        .next = SRI_NODE_NONE,
    };
    for (uint32_t i = 0; i < SRI_ARGUMENTS; i++) {
        node->arguments[i] = SRI_NODE_NONE;
    }
    sri_node_move(node, SRI_NODE_NEW);
    nodes->alive_count++;
    *out_node = node;
    return 0;
}

void sri_node_release(struct sri_nodes *nodes, struct sri_node *node) {
    const struct sri_growth_place place = sri_growth_find(node->index);
    SR_CHECK(node->spec == NULL && node->references == 0);
    sri_handle_release(&nodes->segments[place.segment].handles, node->handle);
    node->handle = 0;
    sri_node_move(node, SRI_NODE_FREE);
    place_give(nodes, node, node->index);
    nodes->alive_count--;
}

struct sri_node *sri_node_find(const struct sri_nodes *nodes, uint64_t handle) {
    /* The newest first: it holds half of all places. */
    for (uint32_t i = nodes->segment_count; handle != 0 && i-- > 0;) {
        const struct sri_node_segment *segment = &nodes->segments[i];
        struct sri_node *node = &segment->list[sri_handle_slot(&segment->handles, handle)];
        if (node->handle == handle) {
            return node;
        }
    }
    return NULL;
}

void sri_node_move(struct sri_node *node, enum sri_node_state to) {
    static const uint8_t followers[] = {
        [SRI_NODE_FREE] = SRI_STATE_BIT(SRI_NODE_NEW),
        [SRI_NODE_NEW] = SRI_STATE_BIT(SRI_NODE_PENDING) | SRI_STATE_BIT(SRI_NODE_READY) |
                         SRI_STATE_BIT(SRI_NODE_DECIDED) | SRI_STATE_BIT(SRI_NODE_FREE),
        [SRI_NODE_PENDING] = SRI_STATE_BIT(SRI_NODE_READY) | SRI_STATE_BIT(SRI_NODE_DECIDED),
        [SRI_NODE_READY] = SRI_STATE_BIT(SRI_NODE_FLYING) | SRI_STATE_BIT(SRI_NODE_DECIDED),
        [SRI_NODE_FLYING] = SRI_STATE_BIT(SRI_NODE_DECIDED),
        [SRI_NODE_DECIDED] = SRI_STATE_BIT(SRI_NODE_ENDED),
        [SRI_NODE_ENDED] = SRI_STATE_BIT(SRI_NODE_FREE),
    };
    sri_state_move(&node->state, followers, (uint8_t)to);
}

void sri_node_list_append(const struct sri_nodes *nodes, struct sri_node_list *list,
                          struct sri_node *node) {
    node->next = SRI_NODE_NONE;
    if (list->first == SRI_NODE_NONE) {
        list->first = node->index;
    } else {
        sri_node_at(nodes, list->last)->next = node->index;
    }
    list->last = node->index;
}

void sri_node_list_prepend(struct sri_node_list *list, struct sri_node *node) {
    node->next = list->first;
    list->first = node->index;
    if (list->last == SRI_NODE_NONE) {
        list->last = node->index;
    }
}

struct sri_node *sri_node_list_take(const struct sri_nodes *nodes, struct sri_node_list *list) {
    struct sri_node *node = sri_node_at(nodes, list->first);
    list->first = node->next;
    if (list->first == SRI_NODE_NONE) {
        list->last = SRI_NODE_NONE;
    }
    node->next = SRI_NODE_NONE;
    return node;
}
