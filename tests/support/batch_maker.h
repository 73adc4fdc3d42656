/* SPDX-License-Identifier: MIT */
/*
 * Batch maker: random graphs (batch_graph.h) of many shapes: chains, diamonds, fans, lattices, any.
 * Nodes are made one by one; a node that needs an argument looks for one that brings it.
 *
 * What keeps results known: a file is closed after all that use it, a buffer is filled again after
 * all that read it. In a graph with races nobody cares, and the nodes are marked.
 */
#ifndef SAFERING_TESTS_SUPPORT_BATCH_MAKER_H
#define SAFERING_TESTS_SUPPORT_BATCH_MAKER_H

#include "support/batch_graph.h"
#include "support/scale.h"

/* What is possible in a graph. */
struct batch_maker_plan {
    uint32_t node_count; /* before those that are added from callbacks */
    uint32_t percent_failing;
    uint32_t percent_added; /* nodes added from callbacks, of those before */
    uint32_t percent_cleanup;
    uint32_t percent_pipe;
    uint32_t percent_timeout;
    uint32_t percent_silent;
    bool has_deadlines; /* some nodes have one of their own */
    bool forgets;       /* nodes that are added know only the node in whose callback that is */
    bool races;         /* files may be closed and buffers refilled while others use them */
    bool pools;         /* some nodes take buffers of the pool */
};

void batch_make(struct batch_graph *out_graph, const struct batch_maker_plan *plan,
                struct scale_random *random);

#endif
