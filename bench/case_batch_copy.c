/* SPDX-License-Identifier: MIT */
/*
 * batch.copy: what a graph costs where somebody would otherwise write a state machine. One batch
 * copies all files; per file six nodes: open the file and its copy, read all, write all, close both
 * whatever has happened.
 *
 * That 64 files are in flight is said by two limits: the ring keeps 128 files, and the pool has 64
 * buffers. Opens wait for a place among the files, in their order, so pairs stay together.
 *
 * batch.copy adds all nodes before it starts. batch.copy_grown begins with 64 files and adds the
 * next one in the callback of a close, with `forget`: what a program does that has many files, or
 * does not know how many.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline.h"
#include <errno.h>
#include <fcntl.h>
#include <safering/safering.h>
#include <stdlib.h>
#include <string.h>

enum { NODES_PER_FILE = 6 };

struct side {
    sr_ring *ring;
    sr_pool *pool;
    const struct bench_tree *tree;
    uint32_t n;
    bool grows;
    /* Of the round. */
    uint32_t next_file;
    uint32_t file_count;
    int code;  /* the first that adding a node in a callback gave */
    void *top; /* see fill_heap() */
};

/* As in a program that has run for a while: there is room for a batch in the heap, and something in
 * use behind it. Else glibc may give the memory of each batch back to the kernel and ask for it
 * again in the next, some 200 page faults for 1,000 files; whether it does hangs on who else
 * allocates. */
static void fill_heap(struct side *self) {
    enum { PIECES = 512, PIECE_BYTES = 16384 }; /* small, so that they are not mapped apart */
    void *pieces[PIECES];

    for (int i = 0; i < PIECES; i++) {
        pieces[i] = malloc(PIECE_BYTES);
    }
    self->top = malloc(PIECE_BYTES);
    for (int i = 0; i < PIECES; i++) {
        free(pieces[i]);
    }
}

static void side_close(void *side) {
    struct side *self = side;

    free(self->top);
    sr_ring_destroy(&self->ring);
    sr_pool_destroy(&self->pool);
    free(self);
}

static int make_ring(struct side *self) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    int code;

    options.files_max = 2 * self->n;
    code = sr_ring_create(&options, &self->ring);
    return code == 0
               ? BENCH_OK
               : bench_complain(BENCH_MISSING, "safering: no ring here: %s", sr_strerror(code));
}

static int make_pool(struct side *self) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    int code;

    options.buffer_size_bytes = BENCH_TREE_FILE_BYTES;
    options.buffer_count = self->n;
    code = sr_pool_create(NULL, &options, &self->pool);
    if (code != 0) {
        return bench_complain(BENCH_WRONG, "safering: pool: %s", sr_strerror(code));
    }
    code = sr_ring_attach_pool(self->ring, self->pool);
    if (code < 0) {
        return bench_complain(BENCH_WRONG, "safering: attach: %s", sr_strerror(code));
    }
    if (code == 0) {
        return bench_complain(BENCH_MISSING, "safering: the pool could not be registered "
                                             "(RLIMIT_MEMLOCK?)");
    }
    return BENCH_OK;
}

static int fill_facts(struct side *self, struct bench_facts *facts) {
    sr_ring_stats stats = SR_RING_STATS_INIT;
    int code = sr_ring_get_stats(self->ring, &stats);

    if (code != 0) {
        return bench_complain(BENCH_WRONG, "safering: stats: %s", sr_strerror(code));
    }
    facts->ring = true;
    facts->setup_flags = stats.setup_flags;
    facts->ring_fd_registered = stats.ring_fd_registered != 0;
    facts->buffers_registered = stats.pools_registered == 1;
    return BENCH_OK;
}

static int open_any(const struct bench_setup *setup, bool grows, void **out_side,
                    struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    int status;

    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "safering: out of memory");
    }
    self->n = setup->n;
    self->tree = setup->tree;
    self->grows = grows;
    fill_heap(self);
    status = make_ring(self);
    if (status == BENCH_OK) {
        status = make_pool(self);
    }
    if (status == BENCH_OK) {
        status = fill_facts(self, out_facts);
    }
    if (status != BENCH_OK) {
        side_close(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    return open_any(setup, false, out_side, out_facts);
}

static int side_open_grown(const struct bench_setup *setup, void **out_side,
                           struct bench_facts *out_facts) {
    return open_any(setup, true, out_side, out_facts);
}

/* ---- the graph of one file ------------------------------------------------------------------- */

/* The nodes of a file, and the first code that adding one gave. */
struct file_graph {
    sr_batch *batch;
    int code;
};

static sr_node add(struct file_graph *graph, const sr_node_spec *spec) {
    sr_node node = SR_NODE_NONE;

    if (graph->code == 0) {
        graph->code = sr_batch_add(graph->batch, spec, &node);
    }
    return node;
}

static void after(struct file_graph *graph, sr_node node, sr_node dependency, enum sr_when when) {
    if (graph->code == 0) {
        graph->code = sr_batch_after(graph->batch, node, dependency, when);
    }
}

static sr_node add_open(struct file_graph *graph, const char *path, uint32_t op_flags) {
    sr_node_spec spec = SR_NODE_SPEC_INIT;

    spec.request.op = SR_OP_OPENAT;
    spec.request.path = path;
    spec.request.op_flags = op_flags;
    spec.request.mode = 0600;
    return add(graph, &spec);
}

static void add_close(struct file_graph *graph, sr_node opened, sr_node last, sr_node_fn on_outcome,
                      void *ctx) {
    sr_node_spec spec = SR_NODE_SPEC_INIT;
    sr_node node;

    spec.flags = SR_NODE_CLEANUP;
    spec.request.op = SR_OP_CLOSE;
    spec.request.ctx = ctx;
    spec.on_outcome = on_outcome;
    spec.file_from = opened;
    node = add(graph, &spec);
    after(graph, node, opened, SR_ALWAYS);
    after(graph, node, last, SR_ALWAYS);
}

static void add_next_file(sr_batch *batch, sr_node node, const sr_node_outcome *outcome, void *ctx);

static int add_file(struct side *self, sr_batch *batch, uint32_t file) {
    struct file_graph graph = {batch, 0};
    sr_node_spec spec = SR_NODE_SPEC_INIT;
    sr_node source = add_open(&graph, bench_tree_source(self->tree, file), O_RDONLY);
    sr_node target =
        add_open(&graph, bench_tree_target(self->tree, file), O_WRONLY | O_CREAT | O_TRUNC);
    sr_node reading;
    sr_node writing;

    spec.request.op = SR_OP_READ;
    spec.request.flags = SR_REQUEST_FULL;
    spec.request.length = BENCH_TREE_FILE_BYTES;
    spec.file_from = source;
    spec.pool = self->pool;
    reading = add(&graph, &spec);
    after(&graph, reading, source, SR_ON_SUCCESS);
    after(&graph, reading, target, SR_ON_SUCCESS);

    spec = SR_NODE_SPEC_INIT;
    spec.request.op = SR_OP_WRITE;
    spec.request.flags = SR_REQUEST_FULL;
    spec.file_from = target;
    spec.buffer_from = reading;
    spec.length_from = reading;
    writing = add(&graph, &spec);
    after(&graph, writing, reading, SR_ON_SUCCESS);
    after(&graph, writing, target, SR_ON_SUCCESS);

    add_close(&graph, source, writing, NULL, NULL);
    add_close(&graph, target, writing, self->grows ? add_next_file : NULL, self);
    return graph.code;
}

static void add_next_file(sr_batch *batch, sr_node node, const sr_node_outcome *outcome,
                          void *ctx) {
    struct side *self = ctx;

    (void)node;
    (void)outcome; /* a node that is not done shows in the batch's counters */
    if (self->code == 0 && self->next_file < self->file_count) {
        self->code = add_file(self, batch, self->next_file++);
    }
}

static int fill_batch(struct side *self, sr_batch *batch, uint32_t file_count) {
    uint32_t at_once = self->grows && self->n < file_count ? self->n : file_count;

    self->file_count = file_count;
    self->code = 0;
    for (self->next_file = 0; self->next_file < at_once; self->next_file++) {
        int code = add_file(self, batch, self->next_file);

        if (code != 0) {
            return code;
        }
    }
    return 0;
}

static int run_batch(struct side *self, sr_batch *batch, uint32_t file_count) {
    sr_batch_stats stats = SR_BATCH_STATS_INIT;
    int code = fill_batch(self, batch, file_count);

    if (code == 0) {
        code = sr_batch_run(batch, SR_FOREVER, NULL);
    }
    if (code == 0) {
        code = self->code;
    }
    if (code == 0) {
        code = sr_batch_get_stats(batch, &stats);
    }
    if (code != 0) {
        return bench_complain(BENCH_WRONG, "safering: batch: %s", sr_strerror(code));
    }
    if (stats.done_total != (uint64_t)file_count * NODES_PER_FILE) {
        return bench_complain(BENCH_WRONG, "safering: %llu nodes done",
                              (unsigned long long)stats.done_total);
    }
    return BENCH_OK;
}

/* The life of the batch is part of the time. */
static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    sr_batch *batch = NULL;
    int status;
    int code;

    options.nodes_max = round->ops * NODES_PER_FILE;
    options.in_flight_max = 2 * self->n;
    options.forget = self->grows;
    code = sr_batch_create(self->ring, &options, &batch);
    if (code != 0) {
        return bench_complain(BENCH_WRONG, "safering: batch: %s", sr_strerror(code));
    }
    status = run_batch(self, batch, round->ops);
    code = sr_batch_destroy(&batch);
    if (status == BENCH_OK && code != 0) {
        return bench_complain(BENCH_WRONG, "safering: batch: %s", sr_strerror(code));
    }
    out_work->ops = round->ops;
    return status;
}

static const struct bench_side ours = {"safering", side_open, side_run, side_close, 0};
static const struct bench_side ours_grown = {"safering", side_open_grown, side_run, side_close, 0};

#define FILES_IN_FLIGHT 64
#define FILES           1000
#define PAIRS           150
/* A file system with a disk behind it takes ten times as long to make a file and to remove it. */
#define NOWAIT_FILES 250
#define NOWAIT_PAIRS 102

const struct bench_case bench_case_batch_copy = {
    .name = "batch.copy",
    .question = "a file of tmpfs copied, 64 in flight: a graph against a state machine",
    .n = FILES_IN_FLIGHT,
    .size = BENCH_TREE_FILE_BYTES,
    .round_ops = FILES,
    .round_unit = 1,
    .pairs_max = PAIRS,
    .file = BENCH_TREE_TMPFS,
    .same_setup = true,
    .ours = &ours,
    .baseline = &bench_baseline_copy,
    .beside = &bench_baseline_copy_calls,
    .beside_name = "batch.copy.calls",
    .expect = bench_tree_expect,
};

const struct bench_case bench_case_batch_copy_grown = {
    .name = "batch.copy_grown",
    .question = "as batch.copy, by a batch that is given a file when another is done",
    .n = FILES_IN_FLIGHT,
    .size = BENCH_TREE_FILE_BYTES,
    .round_ops = FILES,
    .round_unit = 1,
    .pairs_max = PAIRS,
    .file = BENCH_TREE_TMPFS,
    .same_setup = true,
    .ours = &ours_grown,
    .baseline = &bench_baseline_copy,
    .expect = bench_tree_expect,
};

const struct bench_case bench_case_batch_copy_nowait = {
    .name = "batch.copy_nowait",
    .question = "as batch.copy, where the kernel answers cached reads at once",
    .n = FILES_IN_FLIGHT,
    .size = BENCH_TREE_FILE_BYTES,
    .round_ops = NOWAIT_FILES,
    .round_unit = 1,
    .pairs_max = NOWAIT_PAIRS,
    .file = BENCH_TREE_NOWAIT,
    .same_setup = true,
    .ours = &ours,
    .baseline = &bench_baseline_copy,
    .beside = &bench_baseline_copy_calls,
    .beside_name = "batch.copy_nowait.calls",
    .expect = bench_tree_expect,
};

/* Whether the kernel's own links would be worth having (docs/adr/0011-no-kernel-links.md). No side
 * is safering. */
const struct bench_case bench_case_batch_copy_linked = {
    .name = "batch.copy_linked",
    .question = "batch.copy by links in the kernel against the state machine, both by liburing",
    .n = FILES_IN_FLIGHT,
    .size = BENCH_TREE_FILE_BYTES,
    .round_ops = FILES,
    .round_unit = 1,
    .pairs_max = PAIRS,
    .file = BENCH_TREE_TMPFS,
    .ours = &bench_baseline_copy_chain,
    .baseline = &bench_baseline_copy,
    .beside = &bench_baseline_copy_pair,
    .beside_name = "batch.copy_linked.pairs",
    .expect = bench_tree_expect,
};

const struct bench_case bench_case_batch_copy_linked_nowait = {
    .name = "batch.copy_linked_nowait",
    .question = "as batch.copy_linked, where the kernel answers cached reads at once",
    .n = FILES_IN_FLIGHT,
    .size = BENCH_TREE_FILE_BYTES,
    .round_ops = NOWAIT_FILES,
    .round_unit = 1,
    .pairs_max = NOWAIT_PAIRS,
    .file = BENCH_TREE_NOWAIT,
    .ours = &bench_baseline_copy_chain,
    .baseline = &bench_baseline_copy,
    .beside = &bench_baseline_copy_pair,
    .beside_name = "batch.copy_linked_nowait.pairs",
    .expect = bench_tree_expect,
};
