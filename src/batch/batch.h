/* SPDX-License-Identifier: MIT */
/*
 * Batch: nodes and edges on a ring. It is a client of the ring (ring/client.h): what is ready is
 * submitted, and outcomes are told, inside of the ring's waits.
 *
 * Neighbours: spec.c takes what a node asks for, graph.c checks the whole, run.c submits, outcome.c
 * decides and tells, custody.c keeps files and buffers between nodes, end.c destroys.
 */
#ifndef SAFERING_BATCH_BATCH_H
#define SAFERING_BATCH_BATCH_H

#include "batch/edge.h"
#include "batch/node.h"
#include "core/index.h"
#include "ring/client.h"

#define SRI_BATCH_MAGIC UINT32_C(0x42415401)

struct sr_batch {
    uint32_t magic;
    bool started;
    bool closing;       /* nothing starts any more, clean-up nodes included */
    bool told_end;      /* the progress callback has seen it finished */
    uint8_t stopped_by; /* enum sr_stop */
    uint32_t callbacks; /* of its own that run now */
    uint64_t owner_key;
    struct sri_ring_client client;
    struct sri_nodes nodes;
    struct sri_edges edges;
    struct sri_node_list fresh;      /* NEW, in the order in which they were added */
    struct sri_node_list decided;    /* DECIDED: outcomes to tell */
    struct sri_node_list ready;      /* READY: to be submitted */
    struct sri_node_list no_file;    /* READY: waits for a place in the ring's table of files */
    struct sri_node_list *no_buffer; /* READY: waits for a buffer; one list per place of a pool */
    uint32_t pools_max;
    uint32_t ready_count;
    uint32_t starved_count; /* in no_file and no_buffer */
    uint32_t in_flight;
    uint32_t in_flight_max;
    uint32_t unfinished_count; /* nodes without outcome */
    struct sri_index index;    /* from operations to nodes */
    struct sri_index_cell *cells;
    uint64_t *refused; /* handles of the nodes for which it was not started */
    uint32_t refused_count;
    uint64_t told_total;  /* outcomes */
    uint64_t told_before; /* of these, when the progress callback ran last */
    sr_batch_options options;
    sr_batch_stats stats; /* the totals in it; the rest is filled when asked */
};

static inline bool sri_batch_is_valid(const sr_batch *batch) {
    return batch != NULL && batch->magic == SRI_BATCH_MAGIC;
}

/* The code that keeps the calling thread from using the batch, or 0. */
static inline int sri_batch_check(const sr_batch *batch) {
    if (SRI_UNLIKELY(!sri_batch_is_valid(batch))) {
        return SR_E_OBJECT;
    }
    if (SRI_UNLIKELY(batch->owner_key != sri_owner_key())) {
        return sri_owner_error(batch->owner_key);
    }
    return 0;
}

static inline sr_ring *sri_batch_ring(const sr_batch *batch) {
    return batch->client.ring;
}

static inline bool sri_batch_is_finished(const sr_batch *batch) {
    return batch->started && batch->unfinished_count == 0;
}

/* Whether nodes may be added now. */
static inline bool sri_batch_is_open(const sr_batch *batch) {
    return (!batch->started || batch->callbacks > 0) && !batch->closing;
}

/* Frees memory, nothing else. */
void sri_batch_free(sr_batch *batch);
void sri_batch_stats_fill(const sr_batch *batch, sr_batch_stats *stats);

/* -- graph.c ------------------------------------------------------------------------------------
 */

/* Checks the graph of a batch that is not started, and what its requests name. On failure the nodes
 * that it is about are in `refused`. */
int sri_graph_check(sr_batch *batch);

/* -- run.c --------------------------------------------------------------------------------------
 */

/* Takes the nodes that were added: they wait for others, or for their turn. */
void sri_batch_take_fresh(sr_batch *batch);
/* What becomes of a node whose dependencies all have outcomes. */
void sri_node_evaluate(sr_batch *batch, struct sri_node *node);
/* Submits what is ready and has room. Tells nothing. */
void sri_batch_pump(sr_batch *batch);
/* Tells outcomes and submits, until there is nothing to do but wait. Runs callbacks. */
void sri_batch_work(sr_batch *batch);
/* Only clean-up nodes start from now on; what is in flight is asked to end. Tells nothing. */
void sri_batch_stop(sr_batch *batch, enum sr_stop reason);
/* Nothing starts any more. */
void sri_batch_close(sr_batch *batch);
/* The completion callback of every node's operation; @ctx is the batch. */
void sri_batch_on_complete(sr_ring *ring, const sr_completion *completion, void *ctx);
/* Ends a node that is in flight with @completion. */
void sri_batch_complete(sr_batch *batch, const sr_completion *completion);

/* -- outcome.c ----------------------------------------------------------------------------------
 */

void sri_node_fail(sr_batch *batch, struct sri_node *node, int64_t code);
void sri_node_cancel(sr_batch *batch, struct sri_node *node, enum sr_stop by);
void sri_node_skip(sr_batch *batch, struct sri_node *node);
void sri_node_done(sr_batch *batch, struct sri_node *node, int64_t result);
/* Tells the outcome of a DECIDED node and takes it to those that depend on it. */
void sri_node_end(sr_batch *batch, struct sri_node *node, const sr_completion *completion);
/* Whether a dependency that has ended satisfies an edge; if not, and no earlier one, it becomes the
 * reason why @node is skipped. */
void sri_node_meet(struct sri_node *node, const struct sri_node *dependency, uint32_t ordinal,
                   uint32_t when, bool argument);
void sri_node_describe(const struct sri_node *node, sr_node_outcome *out_outcome);
void sri_batch_tell_progress(sr_batch *batch);

/* -- custody.c ----------------------------------------------------------------------------------
 */

/* Keeps the pool of a node attached until its buffer is back. False if it is not attached. */
bool sri_custody_hold_pool(sr_batch *batch, struct sri_node *node, const sr_pool *pool);
/* Gives a node its buffer. Returns 0, SR_E_FULL, or as sr_pool_acquire(). */
int sri_custody_acquire(sr_batch *batch, struct sri_node *node, uint64_t bytes);
/* The buffer of a node is somebody else's now, or there was none: the pool may go. */
void sri_custody_let_buffer_go(sr_batch *batch, struct sri_node *node);
/* Gives the buffer back to the pool. */
void sri_custody_return_buffer(sr_batch *batch, struct sri_node *node);
/* Closes a file that nobody took. */
void sri_custody_drop_file(sr_batch *batch, struct sri_node *node);
/* Closes descriptors in a message that nobody will read. */
void sri_custody_drop_message(sr_batch *batch, const sr_message *message);
/* A node uses a buffer that another was given, or its own, so that it stays. */
void sri_custody_refer(sr_batch *batch, struct sri_node *node);
/* A node has ended: what it depended on, and the buffer, may go. */
void sri_custody_unrefer(sr_batch *batch, struct sri_node *node);
/* With `forget`: the record of a node that nobody needs any more goes. */
void sri_custody_forget(sr_batch *batch, struct sri_node *node);

#endif
