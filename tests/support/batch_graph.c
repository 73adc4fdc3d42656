/* SPDX-License-Identifier: MIT */
#include "support/batch_graph.h"

#include <safering/batch.h>
#include <safering/safering.h>
#include <stdlib.h>

static const struct {
    const char *name;
    bool transfers;
} works[BATCH_WORKS] = {
    [BATCH_NOP] = {"NOP", false},
    [BATCH_READ] = {"READ", true},
    [BATCH_READ_WRITE_ONLY] = {"READ_WRITE_ONLY", true},
    [BATCH_READ_OPENED] = {"READ_OPENED", true},
    [BATCH_WRITE] = {"WRITE", true},
    [BATCH_REFILL] = {"REFILL", true},
    [BATCH_OPEN] = {"OPEN", false},
    [BATCH_OPEN_MISSING] = {"OPEN_MISSING", false},
    [BATCH_OPEN_DIR] = {"OPEN_DIR", false},
    [BATCH_OPEN_IN] = {"OPEN_IN", false},
    [BATCH_RENAME_IN] = {"RENAME_IN", false},
    [BATCH_WATCH] = {"WATCH", false},
    [BATCH_CLOSE] = {"CLOSE", false},
    [BATCH_STATX] = {"STATX", false},
    [BATCH_TIMEOUT] = {"TIMEOUT", false},
    [BATCH_PIPE] = {"PIPE", true},
};

const char *batch_work_name(enum batch_work work) {
    return works[work].name;
}

bool batch_work_transfers(enum batch_work work) {
    return works[work].transfers;
}

const char *batch_when_name(uint32_t when) {
    static const char *const names[] = {"success", "failure", "always"};
    return when <= SR_ALWAYS ? names[when] : "?";
}

bool batch_node_takes(const struct batch_node *node, uint32_t dependency) {
    return node->file_from == dependency || node->new_dir_from == dependency ||
           node->other_from == dependency || node->length_from == dependency ||
           node->buffer_from == dependency;
}

static void *grow(void *memory, size_t size_bytes) {
    void *larger = realloc(memory, size_bytes);
    if (larger == NULL) {
        perror("batch_graph");
        abort();
    }
    return larger;
}

void batch_graph_free(struct batch_graph *graph) {
    free(graph->nodes);
    free(graph->edges);
    *graph = (struct batch_graph){0};
}

/* ---- making smaller -------------------------------------------------------------------------- */

static uint32_t renumber(const uint32_t *numbers, uint32_t node) {
    return node == BATCH_NONE ? BATCH_NONE : numbers[node];
}

/* Numbers of the nodes that stay, BATCH_NONE for the others. Returns how many those are. */
static uint32_t number_anew(const struct batch_graph *graph, uint32_t without, uint32_t *numbers) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        const struct batch_node *node = &graph->nodes[i];
        bool keeps = i != without;
        const uint32_t needed[] = {node->file_from,   node->new_dir_from, node->other_from,
                                   node->length_from, node->buffer_from,  node->added_by};
        for (uint32_t k = 0; k < sizeof needed / sizeof needed[0]; k++) {
            keeps = keeps && (needed[k] == BATCH_NONE || numbers[needed[k]] != BATCH_NONE);
        }
        numbers[i] = keeps ? kept++ : BATCH_NONE;
    }
    return graph->node_count - kept;
}

static void copy_node(const struct batch_graph *graph, uint32_t node, const uint32_t *numbers,
                      uint32_t without_edge, struct batch_graph *out_graph) {
    const struct batch_node *from = &graph->nodes[node];
    struct batch_node *to = &out_graph->nodes[out_graph->node_count++];
    *to = *from;
    to->file_from = renumber(numbers, from->file_from);
    to->new_dir_from = renumber(numbers, from->new_dir_from);
    to->other_from = renumber(numbers, from->other_from);
    to->length_from = renumber(numbers, from->length_from);
    to->buffer_from = renumber(numbers, from->buffer_from);
    to->added_by = renumber(numbers, from->added_by);
    to->edge_at = out_graph->edge_count;
    to->edge_count = 0;
    for (uint32_t i = from->edge_at; i < from->edge_at + from->edge_count; i++) {
        const uint32_t dependency = numbers[graph->edges[i].dependency];
        if (dependency != BATCH_NONE && i != without_edge) {
            out_graph->edges[out_graph->edge_count++] =
                (struct batch_edge){dependency, graph->edges[i].when};
            to->edge_count++;
        }
    }
}

/* What came before and after a node that filled a buffer has lost its order. */
static void forget_buffer_users(struct batch_graph *graph) {
    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct batch_node *node = &graph->nodes[i];
        node->is_known = node->is_known && node->buffer_from == BATCH_NONE;
    }
}

static uint32_t copy_without(const struct batch_graph *graph, uint32_t without_node,
                             uint32_t without_edge, struct batch_graph *out_graph) {
    uint32_t *numbers = grow(NULL, (graph->node_count + 1) * sizeof numbers[0]);
    const uint32_t left_out = number_anew(graph, without_node, numbers);
    *out_graph = (struct batch_graph){.edge_room = graph->edge_count + 1};
    out_graph->nodes = grow(NULL, (graph->node_count + 1) * sizeof graph->nodes[0]);
    out_graph->edges = grow(NULL, (graph->edge_count + 1) * sizeof graph->edges[0]);
    bool lacks_order = false;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        if (numbers[i] != BATCH_NONE) {
            copy_node(graph, i, numbers, without_edge, out_graph);
        }
        lacks_order =
            lacks_order || (numbers[i] == BATCH_NONE && graph->nodes[i].work == BATCH_REFILL);
    }
    if (lacks_order) {
        forget_buffer_users(out_graph);
    }
    free(numbers);
    return left_out;
}

uint32_t batch_graph_without(const struct batch_graph *graph, uint32_t node,
                             struct batch_graph *out_graph) {
    return copy_without(graph, node, BATCH_NONE, out_graph);
}

bool batch_graph_without_edge(const struct batch_graph *graph, uint32_t node, uint32_t edge,
                              struct batch_graph *out_graph) {
    const struct batch_node *from = &graph->nodes[node];
    const uint32_t dependency = graph->edges[from->edge_at + edge].dependency;
    uint32_t others = 0;
    for (uint32_t i = 0; i < from->edge_count; i++) {
        others += i != edge && graph->edges[from->edge_at + i].dependency == dependency;
    }
    /* Order keeps some results known: only an edge that stands twice goes for sure. */
    if (batch_node_takes(from, dependency) && others == 0) {
        return false;
    }
    (void)copy_without(graph, BATCH_NONE, from->edge_at + edge, out_graph);
    return true;
}

/* ---- printing -------------------------------------------------------------------------------- */

static void print_argument(const char *name, uint32_t from, FILE *out) {
    if (from != BATCH_NONE) {
        (void)fprintf(out, " %s=%u", name, from);
    }
}

static void print_work(const struct batch_node *node, FILE *out) {
    if (batch_work_transfers(node->work)) {
        (void)fprintf(out, " %llu@%llu", (unsigned long long)node->length,
                      (unsigned long long)node->offset);
    }
    if (node->duration_ns != 0) {
        (void)fprintf(out, " %lluns", (unsigned long long)node->duration_ns);
    }
    if (node->deadline_ns != 0) {
        (void)fprintf(out, " deadline=%lluns", (unsigned long long)node->deadline_ns);
    }
}

void batch_node_print(const struct batch_graph *graph, uint32_t node_index, FILE *out) {
    const struct batch_node *node = &graph->nodes[node_index];
    (void)fprintf(out, "%4u %s%s%s%s%s%s%s", node_index, batch_work_name(node->work),
                  node->cleanup ? " cleanup" : "", node->full ? " full" : "",
                  node->from_pool ? " pool" : "", node->silent ? " silent" : "",
                  node->is_known ? "" : " unknown", node->misses_edge ? " misses-edge" : "");
    print_work(node, out);
    print_argument("file", node->file_from, out);
    print_argument("new_dir", node->new_dir_from, out);
    print_argument("other", node->other_from, out);
    print_argument("length", node->length_from, out);
    print_argument("buffer", node->buffer_from, out);
    print_argument("added-by", node->added_by, out);
    for (uint32_t i = 0; i < node->edge_count; i++) {
        const struct batch_edge *edge = &graph->edges[node->edge_at + i];
        (void)fprintf(out, "%s%u %s", i == 0 ? " <- " : ", ", edge->dependency,
                      batch_when_name(edge->when));
    }
}
