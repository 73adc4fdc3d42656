/* SPDX-License-Identifier: MIT */
/*
 * Graph: edges, and what must be true of the whole before anything of it runs. Cycles are found by
 * Kahn's algorithm: nodes without dependencies are taken away until none is left, or only those of
 * cycles and behind them.
 */
#include "batch/batch.h"

#include "batch/spec.h"
#include "ring/request.h"
#include "sys/memory.h"

#include <errno.h>

/* ---- what requests name ------------------------------------------------------------------------
 */

static bool file_is_alive(const sr_batch *batch, const struct sri_node *node,
                          enum sri_argument argument, sr_file file, bool optional) {
    if (node->arguments[argument] != SRI_NODE_NONE || (optional && file.bits == 0)) {
        return true;
    }
    return sri_file_find(&sri_batch_ring(batch)->files, file.bits) != NULL;
}

static bool buffer_is_alive(const sr_batch *batch, sr_buffer buffer) {
    const sr_ring *ring = sri_batch_ring(batch);
    for (uint32_t i = 0; i < ring->pools_max; i++) {
        if (ring->pools[i].pool != NULL &&
            sri_pool_find(ring->pools[i].pool, buffer.bits) != NULL) {
            return true;
        }
    }
    return false;
}

static bool buffers_are_alive(const sr_batch *batch, const struct sri_node *node) {
    const sr_request *request = &node->spec->request;
    const unsigned int needs = sri_opcode_specs[node->opcode].needs;
    if (sri_spec_uses_buffer(node->opcode)) {
        return node->spec->pool != NULL || node->arguments[SRI_ARGUMENT_BUFFER] != SRI_NODE_NONE ||
               buffer_is_alive(batch, request->buffer);
    }
    for (uint32_t i = 0; (needs & SRI_NEEDS_SLICES) != 0 && i < request->slice_count; i++) {
        if (!buffer_is_alive(batch, request->slices[i].buffer)) {
            return false;
        }
    }
    return true;
}

static bool names_what_is_alive(const sr_batch *batch, const struct sri_node *node) {
    const sr_request *request = &node->spec->request;
    const unsigned int needs = sri_opcode_specs[node->opcode].needs;
    const bool file =
        (needs & (SRI_NEEDS_FILE | SRI_NEEDS_DIR)) == 0 ||
        file_is_alive(batch, node, SRI_ARGUMENT_FILE, request->file, (needs & SRI_NEEDS_DIR) != 0);
    const bool new_dir = (needs & SRI_NEEDS_NEW_DIR) == 0 ||
                         file_is_alive(batch, node, SRI_ARGUMENT_NEW_DIR, request->new_dir, true);
    const bool other = (needs & SRI_NEEDS_OTHER) == 0 ||
                       file_is_alive(batch, node, SRI_ARGUMENT_OTHER, request->other, false);
    const bool pool = node->spec->pool == NULL ||
                      sri_ring_place_of(sri_batch_ring(batch), node->spec->pool) != NULL;
    return file && new_dir && other && pool && buffers_are_alive(batch, node);
}

/* ---- cycles ----------------------------------------------------------------------------------
 */

static int refuse(sr_batch *batch, uint32_t count, int code) {
    batch->refused = sri_allocate(count, sizeof *batch->refused);
    batch->refused_count = batch->refused != NULL ? count : 0;
    return batch->refused != NULL ? code : -ENOMEM;
}

static int refuse_one(sr_batch *batch, const struct sri_node *node, int code) {
    const int refused = refuse(batch, 1, code);
    if (batch->refused_count == 1) {
        batch->refused[0] = node->handle;
    }
    return refused;
}

/* Takes away, from the front, what depends on nothing that is left. @degrees: edges to each node
 * from nodes that are left. Returns how many went. */
static uint32_t peel(const sr_batch *batch, uint32_t *degrees, uint32_t *queue) {
    const uint32_t count = batch->nodes.place_count;
    uint32_t tail = 0;
    for (uint32_t i = 0; i < count; i++) {
        degrees[i] = sri_node_at(&batch->nodes, i)->unresolved;
        if (degrees[i] == 0) {
            queue[tail++] = i;
        }
    }
    for (uint32_t head = 0; head < tail; head++) {
        const struct sri_node *node = sri_node_at(&batch->nodes, queue[head]);
        for (uint32_t e = node->edge_first; e != SRI_EDGE_NONE;) {
            const struct sri_edge *edge = sri_edge_at(&batch->edges, e);
            if (--degrees[edge->to] == 0) {
                queue[tail++] = edge->to;
            }
            e = edge->next;
        }
    }
    return tail;
}

/* For each node that is left one that it depends on and that is left too. */
static void find_causes(const sr_batch *batch, const uint32_t *degrees, uint32_t *before) {
    for (uint32_t i = 0; i < batch->nodes.place_count; i++) {
        const struct sri_node *node = sri_node_at(&batch->nodes, i);
        for (uint32_t e = degrees[i] > 0 ? node->edge_first : SRI_EDGE_NONE; e != SRI_EDGE_NONE;) {
            const struct sri_edge *edge = sri_edge_at(&batch->edges, e);
            before[edge->to] = i;
            e = edge->next;
        }
    }
}

/* Names the nodes of one cycle. Going back from any node that is left, as many steps as there are
 * nodes, ends in a cycle. */
static int refuse_cycle(sr_batch *batch, const uint32_t *degrees, uint32_t *before) {
    const uint32_t count = batch->nodes.place_count;
    uint32_t start = 0;
    uint32_t length = 1;
    find_causes(batch, degrees, before);
    while (degrees[start] == 0) {
        start++;
    }
    for (uint32_t i = 0; i < count; i++) {
        start = before[start];
    }
    for (uint32_t i = before[start]; i != start; i = before[i]) {
        length++;
    }
    const int code = refuse(batch, length, SR_E_CYCLE);
    uint32_t at = start;
    for (uint32_t i = batch->refused_count; i-- > 0; at = before[at]) {
        batch->refused[i] = sri_node_at(&batch->nodes, at)->handle;
    }
    return code;
}

static int check_cycles(sr_batch *batch) {
    const uint32_t count = batch->nodes.place_count;
    uint32_t *degrees = sri_allocate(2 * (size_t)count, sizeof *degrees);
    if (degrees == NULL) {
        return -ENOMEM;
    }
    uint32_t *queue = degrees + count; /* later: one that comes before each */
    const int code = peel(batch, degrees, queue) == count ? 0 : refuse_cycle(batch, degrees, queue);
    sri_release(degrees);
    return code;
}

static bool has_edges_for_arguments(const struct sri_node *node) {
    for (uint32_t i = 0; i < SRI_ARGUMENTS; i++) {
        if (node->arguments[i] != SRI_NODE_NONE && (node->arguments_met & (1u << i)) == 0) {
            return false;
        }
    }
    return true;
}

int sri_graph_check(sr_batch *batch) {
    sri_release(batch->refused);
    batch->refused = NULL;
    batch->refused_count = 0;
    for (uint32_t i = 0; i < batch->nodes.place_count; i++) {
        const struct sri_node *node = sri_node_at(&batch->nodes, i);
        if (!has_edges_for_arguments(node)) {
            return refuse_one(batch, node, -EINVAL);
        }
        if (!names_what_is_alive(batch, node)) {
            return refuse_one(batch, node, SR_E_STALE);
        }
    }
    return batch->nodes.place_count > 0 ? check_cycles(batch) : 0;
}

/* ---- edges ------------------------------------------------------------------------------------
 */

static int check_edge(const sr_batch *batch, const struct sri_node *node,
                      const struct sri_node *dependency, uint32_t when) {
    if (node == NULL || dependency == NULL) {
        return SR_E_STALE;
    }
    if (node->state != SRI_NODE_NEW) {
        return SR_E_STATE;
    }
    const bool acyclic = !batch->started || dependency->sequence < node->sequence;
    return when > SR_ALWAYS || node == dependency || !acyclic ? -EINVAL : 0;
}

static bool note_arguments(struct sri_node *node, const struct sri_node *dependency) {
    bool argument = false;
    for (uint32_t i = 0; i < SRI_ARGUMENTS; i++) {
        if (node->arguments[i] == dependency->index) {
            node->arguments_met |= (uint8_t)(1u << i);
            argument = true;
        }
    }
    return argument;
}

static void link_edge(sr_batch *batch, struct sri_node *dependency, uint32_t place) {
    if (dependency->edge_first == SRI_EDGE_NONE) {
        dependency->edge_first = place;
    } else {
        sri_edge_at(&batch->edges, dependency->edge_last)->next = place;
    }
    dependency->edge_last = place;
}

static int add_edge(sr_batch *batch, struct sri_node *node, struct sri_node *dependency,
                    uint32_t when) {
    const uint32_t place = sri_edge_acquire(&batch->edges);
    if (place == SRI_EDGE_NONE) {
        return -ENOMEM;
    }
    struct sri_edge *edge = sri_edge_at(&batch->edges, place);
    *edge = (struct sri_edge){
        .to = node->index,
        .from = dependency->index,
        .next = SRI_EDGE_NONE,
        .next_in = node->edge_in_first,
        .ordinal = node->edges_in++,
        .when = (uint8_t)when,
        .argument = note_arguments(node, dependency),
        .known = sri_node_has_outcome(dependency),
    };
    node->edge_in_first = place;
    dependency->references++;
    node->unresolved += !edge->known;
    if (edge->known) {
        sri_node_meet(node, dependency, edge->ordinal, when, edge->argument);
    }
    if (!edge->known || batch->options.forget == 0) {
        link_edge(batch, dependency, place);
    }
    return 0;
}

int sr_batch_after(sr_batch *batch, sr_node node, sr_node dependency, uint32_t when) {
    int code = sri_batch_check(batch);
    if (code < 0) {
        return SRI_MISUSE(code, node.bits);
    }
    struct sri_node *found = sri_node_find(&batch->nodes, node.bits);
    struct sri_node *found_dependency = sri_node_find(&batch->nodes, dependency.bits);
    code = check_edge(batch, found, found_dependency, when);
    if (code < 0) {
        return SRI_MISUSE(code, found == NULL ? node.bits : dependency.bits);
    }
    return add_edge(batch, found, found_dependency, when);
}
