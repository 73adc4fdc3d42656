/* SPDX-License-Identifier: MIT */
/*
 * Batches: operations that depend on each other, run in the order that their graph says.
 *
 * A batch is a directed acyclic graph. A node is one operation; an edge says after which other node
 * it runs, and on what condition. A node may take a result of another as its argument: the file
 * that an open brought, the bytes that a read transferred, the buffer that it filled. Every node
 * gets exactly one outcome.
 *
 * When an outcome is decided. A node is looked at when all nodes that it depends on have their
 * outcomes, never before, so whatever runs after a node also runs after all that the node depends
 * on. Then, edge by edge in the order in which they were added:
 *
 *   edge \ dependency   DONE        FAILED                   CANCELLED    SKIPPED
 *   SR_ON_SUCCESS       satisfied   skip, cause: dependency  the same     skip, its cause
 *   SR_ON_FAILURE       skip        satisfied                satisfied    skip, its cause
 *   SR_ALWAYS           satisfied   satisfied                satisfied    satisfied
 *
 * An edge to a node of which an argument is taken is not satisfied unless that node is DONE. The
 * first edge that is not satisfied makes the node SKIPPED and is its cause. If all are satisfied
 * the node runs, or, when the batch has been stopped (fail-fast, deadline, cancel, destroy) and the
 * node is not marked SR_NODE_CLEANUP, it is CANCELLED. What is in the kernel when the batch is
 * stopped is asked to end; its outcome says what really happened.
 *
 * The operation of a node is the batch's: sr_op_cancel() is allowed, sr_op_abandon() is not.
 */
#ifndef SAFERING_BATCH_H
#define SAFERING_BATCH_H

#include <safering/ring.h>

SR_EXTERN_C_BEGIN

typedef struct sr_batch sr_batch;

/** A node of a batch. */
typedef struct sr_node {
    uint64_t bits;
} sr_node;

#define SR_NODE_NONE (SR_LITERAL(sr_node){0})

/** On what outcome of the dependency a node runs. */
enum sr_when { SR_ON_SUCCESS = 0, SR_ON_FAILURE = 1, SR_ALWAYS = 2 };

/** What became of a node. */
enum sr_outcome_state {
    SR_OUTCOME_NONE = 0,      /* nothing yet */
    SR_OUTCOME_DONE = 1,      /* result >= 0, and all bytes where SR_REQUEST_FULL was asked */
    SR_OUTCOME_FAILED = 2,    /* `result` is the code; SR_E_SHORT: fewer bytes than asked in full */
    SR_OUTCOME_CANCELLED = 3, /* `cancelled_by` */
    SR_OUTCOME_SKIPPED = 4    /* `cause`; so end clean-up nodes that have nothing to do */
};

/** What stopped a batch, or cancelled a node. */
enum sr_stop {
    SR_STOP_NONE = 0,
    SR_STOP_FAIL_FAST = 1,
    SR_STOP_DEADLINE = 2, /* the batch's, or that of the node's request */
    SR_STOP_CALLER = 3 /* sr_batch_cancel(), sr_batch_destroy(), sr_op_cancel(), a closing file */
};

typedef struct sr_node_outcome {
    uint32_t state;        /* enum sr_outcome_state */
    uint32_t cancelled_by; /* CANCELLED: enum sr_stop; else SR_STOP_NONE */
    int64_t result; /* DONE: count or 0. FAILED: a negative code. CANCELLED, SKIPPED: -ECANCELED */
    uint64_t bytes_done; /* also where the outcome is FAILED or CANCELLED after some of them */
    sr_node cause; /* SKIPPED: the FAILED, CANCELLED or DONE node that the skip goes back to */
    uint64_t tag;  /* of the request */
    /** Of the operation, in the callback only; NULL if it never ran, and when asked later. */
    const sr_completion *completion;
} sr_node_outcome;

/**
 * sr_node_fn - told a node's outcome, inside of a wait: sr_ring_wait(), sr_ring_dispatch(),
 *              sr_batch_run(), sr_batch_destroy()
 * @outcome:  borrows
 * @ctx:      the request's ctx
 *
 * Runs before the nodes that depend on it are looked at. May add nodes to the batch, with edges to
 * nodes that exist; they are taken when the callback returns. May take the node's file or buffer,
 * cancel the batch, submit plain operations. Waiting and destroying is SR_E_STATE.
 */
typedef void (*sr_node_fn)(sr_batch *batch, sr_node node, const sr_node_outcome *outcome,
                           void *ctx);

enum sr_node_flags {
    /** Still runs, if its edges allow, after fail-fast, deadline, cancel and destroy. Its failure
     * does not stop a fail-fast batch. */
    SR_NODE_CLEANUP = 1u << 0
};

/** What a node does, and which results of other nodes it takes as arguments. */
typedef struct sr_node_spec {
    size_t size;    /* sizeof(sr_node_spec) */
    uint32_t flags; /* enum sr_node_flags */
    uint32_t reserved;
    /** Copied with its paths, address, descriptors and slices. Without SR_REQUEST_MULTISHOT,
     * buffer_ring and on_complete. */
    sr_request request;
    /** Nodes of the same batch that bring a file (OPENAT, SOCKET, ACCEPT); take the place of the
     * request's file, new_dir and other. With SR_OP_CLOSE as the request's op the file is taken
     * from the batch. */
    sr_node file_from;
    sr_node new_dir_from;
    sr_node other_from;
    /** `length`: the bytes that a transfer has done, or the size that a STATX has found. More than
     * the buffer has: FAILED with SR_E_BOUNDS. */
    sr_node length_from;
    /** `buffer`, and its range's first byte unless the request has another: that of a node with a
     * buffer. It belongs to the batch while nodes that take it have no outcome. */
    sr_node buffer_from;
    /** `buffer`: one of this pool, taken when the node is ready; the node waits while none is free.
     * It goes back when the last node that takes it has its outcome. Attached to the ring, and
     * sr_ring_detach_pool() is SR_E_IN_FLIGHT while a started batch needs it. */
    sr_pool *pool;
    uint64_t pool_bytes;   /* 1 .. the pool's buffer size; 0: the buffer size */
    sr_node_fn on_outcome; /* or NULL */
} sr_node_spec;

/** Counters of a batch, for sr_batch_get_stats() and the progress callback. */
typedef struct sr_batch_stats {
    size_t size; /* sizeof(sr_batch_stats) */
    /* now */
    uint32_t nodes_alive; /* that have no outcome yet */
    uint32_t in_flight;   /* of these, with the ring */
    uint32_t ready;       /* of these, waiting for room in the ring or below `in_flight_max` */
    uint32_t starved;     /* of these, waiting for a free buffer or a place for a file */
    uint32_t stopped_by;  /* enum sr_stop */
    uint32_t finished;    /* 1: every node has its outcome */
    /* since creation */
    uint64_t nodes_total;
    uint64_t done_total;
    uint64_t failed_total;
    uint64_t cancelled_total;
    uint64_t skipped_total;
    uint64_t descriptors_closed_total; /* that no node and no caller took */
    uint64_t bytes_total;              /* bytes_done of all nodes */
    uint64_t index_bytes;              /* memory of the index from operations to nodes */
} sr_batch_stats;

#define SR_BATCH_STATS_INIT                                                                        \
    (SR_LITERAL(sr_batch_stats){sizeof(sr_batch_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})

/** sr_batch_progress_fn - told once per wait in which nodes got their outcomes, and at the end. */
typedef void (*sr_batch_progress_fn)(sr_batch *batch, const sr_batch_stats *stats, void *ctx);

typedef struct sr_batch_options {
    size_t size; /* sizeof(sr_batch_options) */
    /** Most nodes at once: 1 .. 1,048,576. Default 65,536. */
    uint32_t nodes_max;
    /** Most operations in the ring at once: 1 .. 1,048,576. Default 0: as many as the ring takes.
     * What they leave open is bounded by edges, from the closes of one file to the open of a later
     * one: else all opens come first, and may take every place before the first close. */
    uint32_t in_flight_max;
    /** 1: the first node that FAILED, clean-up nodes apart, stops the batch. Default 0: everything
     * that can be reached runs. */
    uint32_t fail_fast;
    /** 1: a node is forgotten, its handle stale, when it, every node with an edge to it, and every
     * node that uses its buffer have their outcomes: for batches that grow without end. In a node's
     * callback the nodes that it depends on are still there. Default 0: outcomes can be asked until
     * destroy. */
    uint32_t forget;
    /** From sr_batch_start(); then the batch is stopped. Default 0: none. */
    uint64_t deadline_ns;
    /** How long sr_batch_destroy() lets clean-up nodes run. Default 5 s. */
    uint64_t drain_timeout_ns;
    sr_batch_progress_fn on_progress; /* or NULL */
    void *progress_ctx;
} sr_batch_options;

#define SR_BATCH_OPTIONS_INIT                                                                      \
    (SR_LITERAL(sr_batch_options){sizeof(sr_batch_options), 65536, 0, 0, 0, 0, 5000000000u, 0, 0})

/**
 * sr_batch_create() - make an empty batch on a ring
 * @ring:       must outlive the batch: sr_ring_destroy(), sr_ring_release() refuse while it exists
 * @options:    borrows; NULL for the defaults
 * @out_batch:  returns owned: end with sr_batch_destroy(); NULL on failure
 *
 * Return:  0, -EINVAL (options), SR_E_BOUNDS (an option's range), -ENOMEM, SR_E_FULL (8,191 owners
 *          of handles exist), SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_batch_create(sr_ring *ring, const sr_batch_options *options,
                                       sr_batch **out_batch);

/**
 * sr_batch_destroy() - end a batch; if it has not finished, stop it and let its clean-up nodes run
 * @batch:  address of the variable; takes; NULL inside is allowed; NULL is left behind on success
 *
 * Waits up to `drain_timeout_ns` until every node has its outcome, or until nothing that is in
 * flight could bring one about. Callbacks run meanwhile, also of plain operations; the array of the
 * last sr_ring_wait() stays as it is, and completions without callback are kept for the next one
 * (also more than its `completions_max`). What is in the kernel after that is abandoned, as by
 * sr_op_abandon(): FAILED with SR_E_TIMEOUT, its buffers wait in quarantine; clean-up nodes that
 * have not started are CANCELLED. Files that no node and no caller has taken are closed and
 * counted, buffers of the batch go back to their pools. A batch that was never started tells
 * nothing. In a forked child, and once the owner has exited, it frees memory only.
 *
 * Return:  0, SR_E_IN_FLIGHT (the batch is gone, but operations were abandoned), SR_E_STATE (inside
 *          of a callback), SR_E_OBJECT, SR_E_WRONG_THREAD.
 * Thread:  the ring's owner, or any thread once the owner has exited.
 * Blocks:  up to `drain_timeout_ns`.
 */
SR_API int sr_batch_destroy(sr_batch **batch);

#define SR_NODE_SPEC_INIT                                                                          \
    (SR_LITERAL(sr_node_spec){                                                                     \
        sizeof(sr_node_spec), 0, 0, SR_REQUEST_INIT, {0}, {0}, {0}, {0}, {0}, 0, 0, 0})

/**
 * sr_batch_add() - add a node
 * @spec:      copies
 * @out_node:  names the node while the batch lives, or, with `forget`, while it is needed; may be
 *             NULL
 *
 * Before sr_batch_start(), or inside of one of the batch's callbacks.
 *
 * Return:  0, SR_E_FULL (`nodes_max`, or 8,191 owners of handles exist), SR_E_STALE (an argument's
 *          node is none of this batch), -EINVAL (spec, request, or an argument that this one
 *          cannot take), SR_E_BOUNDS (a number of the request), SR_E_UNSUPPORTED, -EACCES (the
 *          ring's restrictions), SR_E_STATE (started, and not in a callback of the batch), -ENOMEM,
 *          SR_E_OBJECT (also the pool), SR_E_WRONG_THREAD (also the pool's owner), SR_E_FORKED.
 * Thread:  the ring's owner.     Blocks: never.     Kernel:  no system call.
 */
SR_API SR_MUST_USE int sr_batch_add(sr_batch *batch, const sr_node_spec *spec, sr_node *out_node);

/**
 * sr_batch_after() - have a node run after another
 * @node:        has not been taken by sr_batch_start() or the end of a callback
 * @dependency:  in a started batch one that was added before @node, which keeps it acyclic
 * @when:        enum sr_when
 *
 * Several edges between the same nodes are allowed; all must be satisfied. In a started batch a
 * node that joins others is added after them. SR_ON_FAILURE is not satisfied by SKIPPED: a node
 * that joins others by SR_ON_SUCCESS is SKIPPED when one of them fails, so what shall run then
 * depends on these themselves.
 *
 * Return:  0, SR_E_STALE (not nodes of this batch), -EINVAL (@when, a node after itself, or a later
 *          one in a started batch), SR_E_STATE (@node has been taken), -ENOMEM, SR_E_OBJECT,
 *          SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the ring's owner.     Blocks: never.     Kernel:  no system call.
 */
SR_API SR_MUST_USE int sr_batch_after(sr_batch *batch, sr_node node, sr_node dependency,
                                      uint32_t when);

/**
 * sr_batch_start() - check the graph and submit what can run
 *
 * Nothing is submitted if it is refused; sr_batch_refusal() then names the nodes. Nodes run inside
 * of sr_ring_wait(), sr_ring_dispatch() and sr_batch_run(). An empty batch finishes at once. A
 * batch that was refused may be put right and started again.
 *
 * Return:  0, SR_E_CYCLE, -EINVAL (an argument is taken from a node without an edge to it),
 *          SR_E_STALE (a file or buffer of a request is none of this ring, or the pool is not
 *          attached), SR_E_STATE (started before), -ENOMEM, SR_E_OBJECT, SR_E_WRONG_THREAD,
 *          SR_E_FORKED.
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 * Kernel:  no system call, unless the submission queue is full.
 */
SR_API SR_MUST_USE int sr_batch_start(sr_batch *batch);

/**
 * sr_batch_refusal() - the nodes for which the last sr_batch_start() was refused
 * @out_nodes:   borrows; of a cycle each node once, every one after the one before it in the list,
 *               and the first after the last; else the one node
 * @count_max:   places in @out_nodes; 0 to ask for the number only
 *
 * Return:  their number, which may be more than @count_max; 0 if it was not refused; SR_E_OBJECT,
 *          SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the ring's owner.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_batch_refusal(sr_batch *batch, sr_node *out_nodes, uint32_t count_max);

/**
 * sr_batch_run() - start a batch if need be, and wait until every node has its outcome
 * @timeout_ns:       longest wait; SR_FOREVER for no limit. The batch goes on afterwards
 * @out_completions:  as of sr_ring_wait(), of what is not the batch's; may be NULL if every other
 *                    operation has a callback and the ring no inbox
 *
 * Returns early when completions or messages that are not the batch's are in the array: call it
 * again. Each call sends what is ready and waits in one system call as a rule.
 *
 * Return:  0 (finished), > 0 (completions in the array; sr_batch_get_stats() tells whether the
 *          batch has finished too), SR_E_TIMEOUT, SR_E_IDLE (nodes wait for a buffer or a place for
 *          a file that nothing in flight will free), as sr_batch_start() and sr_ring_wait().
 * Thread:  the ring's owner.     Blocks: up to @timeout_ns.
 */
SR_API SR_MUST_USE int sr_batch_run(sr_batch *batch, uint64_t timeout_ns,
                                    const sr_completion **out_completions);

/**
 * sr_batch_cancel() - stop a batch: only clean-up nodes start from now on
 *
 * What is in the kernel is asked to end, clean-up nodes apart. The batch finishes when the last
 * outcome is there: go on waiting. Stopping twice is allowed; the first reason stays.
 *
 * Return:  0, SR_E_STATE (not started), SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_batch_cancel(sr_batch *batch);

/**
 * sr_batch_outcome() - what became of a node
 *
 * Return:  0 (state SR_OUTCOME_NONE if there is none yet), SR_E_STALE, -EINVAL (out_outcome is
 *          NULL), SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_batch_outcome(sr_batch *batch, sr_node node,
                                        sr_node_outcome *out_outcome);

/**
 * sr_batch_take_file() - take the file that a node has brought out of the batch
 * @out_file:  returns owned: end with SR_OP_CLOSE or sr_file_detach(); SR_FILE_NONE on failure
 *
 * Nodes that take it as an argument later still can, as long as it is open.
 *
 * Return:  0, SR_E_STATE (no outcome yet, it brought none, or the file was taken or closed),
 *          SR_E_STALE, -EINVAL, SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_batch_take_file(sr_batch *batch, sr_node node, sr_file *out_file);

/**
 * sr_batch_take_buffer() - take the pool's buffer that a node was given out of the batch
 * @out_buffer:  returns owned: end with sr_pool_release(); SR_BUFFER_NONE on failure
 *
 * In the callback of the node, or of a later one that took it as an argument; afterwards it may
 * have gone back to the pool. Nodes that take it as an argument later still can, as long as it is
 * held.
 *
 * Return:  as sr_batch_take_file().
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_batch_take_buffer(sr_batch *batch, sr_node node, sr_buffer *out_buffer);

/**
 * sr_batch_get_stats() - counters of a batch
 * @out_stats:  `size` set by the caller; the rest is filled
 *
 * Return:  0, -EINVAL (out_stats), SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_batch_get_stats(sr_batch *batch, sr_batch_stats *out_stats);

/**
 * sr_batch_dot() - a batch as a Graphviz digraph, with operations, tags and outcomes
 * @out_text:    @size_bytes bytes, NUL-terminated if there is at least one; may be NULL if 0, which
 *               only asks for the length (and is SR_E_BOUNDS)
 * @out_length:  bytes of the whole text without its NUL, also if it did not fit
 *
 * Return:  0, SR_E_BOUNDS (it did not fit: cut), -EINVAL, SR_E_OBJECT, SR_E_WRONG_THREAD,
 *          SR_E_FORKED.
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_batch_dot(sr_batch *batch, char *out_text, size_t size_bytes,
                                    size_t *out_length);

SR_EXTERN_C_END

#endif
