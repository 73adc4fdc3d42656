/* SPDX-License-Identifier: MIT */
/*
 * Node: one operation of a batch, from sr_batch_add() to its outcome and beyond.
 *
 * What it asks for is in a copy of its spec (spec.h) that goes when the operation is submitted. Of
 * the nodes that it depends on it knows only how many have no outcome yet and which unsatisfied
 * edge comes first: edges are kept by the node that they come from (edge.h).
 */
#ifndef SAFERING_BATCH_NODE_H
#define SAFERING_BATCH_NODE_H

#include "batch/growth.h"
#include "core/handle.h"
#include "core/state.h"
#include <safering/batch.h>

#define SRI_NODE_NONE    UINT32_MAX
#define SRI_ORDINAL_NONE UINT32_MAX

enum sri_node_state {
    SRI_NODE_FREE = 0,
    SRI_NODE_NEW = 1,     /* not taken yet by start or the end of a callback */
    SRI_NODE_PENDING = 2, /* nodes that it depends on have no outcome */
    SRI_NODE_READY = 3,   /* waits for room, a buffer, or a place for a file */
    SRI_NODE_FLYING = 4,  /* with the ring */
    SRI_NODE_DECIDED = 5, /* its outcome is known and not told yet */
    SRI_NODE_ENDED = 6
};

/* Which results of other nodes it takes. */
enum sri_argument {
    SRI_ARGUMENT_FILE = 0,
    SRI_ARGUMENT_NEW_DIR = 1,
    SRI_ARGUMENT_OTHER = 2,
    SRI_ARGUMENT_LENGTH = 3,
    SRI_ARGUMENT_BUFFER = 4,
    SRI_ARGUMENTS = 5
};

struct sri_node_spec;

struct sri_node {
    uint64_t handle; /* 0: free */
    uint64_t tag;
    void *ctx;
    sr_node_fn on_outcome;
    struct sri_node_spec *spec; /* until it is submitted, or will not be */
    uint64_t op;                /* FLYING */
    int64_t result;
    /* FLYING, of a full transfer: bytes asked for. Later: bytes done, or of a STATX the size. */
    uint64_t measure;
    uint64_t cause;  /* SKIPPED: handle of the node that the skip goes back to */
    uint64_t file;   /* that it brought; stays when somebody has taken it */
    uint64_t buffer; /* of its pool, or that its request names */
    uint64_t sequence;
    uint32_t arguments[SRI_ARGUMENTS]; /* nodes, SRI_NODE_NONE for none */
    uint32_t buffer_root;              /* the node whose buffer it takes, at the end of the chain */
    uint32_t edge_first;               /* edges to nodes that depend on it */
    uint32_t edge_last;
    uint32_t edge_in_first; /* edges to it, while it has no outcome */
    uint32_t unresolved;    /* edges from nodes that have no outcome yet */
    uint32_t edges_in;      /* edges to it, ever: the next one's ordinal */
    uint32_t unmet;         /* ordinal of the first edge that is not satisfied */
    uint32_t references;    /* edges to nodes without outcome, and these if they use its buffer */
    uint32_t takers;        /* nodes without outcome that use its buffer, itself among them */
    uint32_t buffer_offset;
    uint32_t index; /* place among the batch's nodes */
    uint32_t next;  /* in the one list that it is in */
    uint8_t state;  /* enum sri_node_state */
    uint8_t outcome;
    uint8_t cancelled_by;
    uint8_t opcode;
    uint8_t flags;         /* enum sr_node_flags */
    uint8_t arguments_met; /* bit per argument: an edge to its node is there */
    uint8_t pool;          /* place in the ring's list, if it holds one */
    bool full;             /* all bytes, or it has failed */
    bool measures_file;    /* STATX with the size among what it asks for */
    bool lacks_edge;       /* it takes an argument of a node without an edge from it */
    bool owns_file;
    bool owns_buffer;
};

/* First in, first out, linked by `next`. */
struct sri_node_list {
    uint32_t first; /* SRI_NODE_NONE: empty */
    uint32_t last;
};

#define SRI_NODE_LIST_EMPTY ((struct sri_node_list){SRI_NODE_NONE, SRI_NODE_NONE})

struct sri_node_segment {
    struct sri_node *list;
    struct sri_handle_table handles;
};

struct sri_nodes {
    struct sri_node_segment segments[SRI_GROWTH_SEGMENTS_MAX];
    uint32_t segment_count;
    uint32_t place_count; /* places that were ever in use */
    uint32_t alive_count; /* nodes, with or without outcome */
    uint32_t count_max;
    uint32_t free_first; /* places to use again */
    uint64_t acquired_total;
};

/* Makes the first segment. Returns 0, -ENOMEM or SR_E_FULL. */
int sri_nodes_init(struct sri_nodes *nodes, uint32_t count_max);
void sri_nodes_deinit(struct sri_nodes *nodes);

/* A NEW node, with everything but its handle and numbers at zero or none. Returns 0, -ENOMEM or
 * SR_E_FULL. */
int sri_node_acquire(struct sri_nodes *nodes, struct sri_node **out_node);
/* Makes its handle stale and its place free. */
void sri_node_release(struct sri_nodes *nodes, struct sri_node *node);

/* The node that a handle names, or NULL. */
struct sri_node *sri_node_find(const struct sri_nodes *nodes, uint64_t handle);

static inline struct sri_node *sri_node_at(const struct sri_nodes *nodes, uint32_t index) {
    const struct sri_growth_place place = sri_growth_find(index);
    return &nodes->segments[place.segment].list[place.offset];
}

static inline bool sri_node_is_cleanup(const struct sri_node *node) {
    return (node->flags & SR_NODE_CLEANUP) != 0;
}

static inline bool sri_node_has_outcome(const struct sri_node *node) {
    return node->state == SRI_NODE_ENDED;
}

void sri_node_move(struct sri_node *node, enum sri_node_state to);

static inline bool sri_node_list_is_empty(const struct sri_node_list *list) {
    return list->first == SRI_NODE_NONE;
}

void sri_node_list_append(const struct sri_nodes *nodes, struct sri_node_list *list,
                          struct sri_node *node);
void sri_node_list_prepend(struct sri_node_list *list, struct sri_node *node);
/* The first one, taken out; the list must not be empty. */
struct sri_node *sri_node_list_take(const struct sri_nodes *nodes, struct sri_node_list *list);

#endif
