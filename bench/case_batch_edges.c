/* SPDX-License-Identifier: MIT */
/*
 * batch.edges: what an edge of a graph costs. The graph is a lattice of NOPs: layers of 64, each
 * node after three neighbours in the layer before, so three edges to a node and all of a layer
 * ready at about the same time. Times are per edge and of the whole life of a batch: create, add,
 * after, run, destroy; the row `.run` is of the run alone. The baseline is the same number of NOPs
 * through the ring without a batch, 64 at a time, its time divided by the same number of edges.
 */
#include "bench.h"
#include <safering/safering.h>
#include <stdlib.h>

enum { WIDTH = 64, EDGES_PER_NODE = 3, EDGES_PER_LAYER = WIDTH * EDGES_PER_NODE };

struct side {
    sr_ring *ring;
    sr_node layers[2][WIDTH]; /* the one before, and the one that is added */
    bool run_only;            /* of the time */
    bool checks;              /* the order, in this round */
    uint8_t *ended;           /* of each node */
    uint32_t ended_count;
    uint32_t early_count; /* nodes that ran before one that they depend on had ended */
};

static void side_close(void *side) {
    struct side *self = side;

    sr_ring_destroy(&self->ring);
    free(self->ended);
    free(self);
}

static int open_any(bool run_only, void **out_side) {
    struct side *self = calloc(1, sizeof(*self));
    int code;

    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "safering: out of memory");
    }
    self->run_only = run_only;
    code = sr_ring_create(NULL, &self->ring);
    if (code != 0) {
        free(self);
        return bench_complain(BENCH_MISSING, "safering: no ring here: %s", sr_strerror(code));
    }
    *out_side = self;
    return BENCH_OK;
}

static int life_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    (void)setup;
    (void)out_facts; /* nothing to compare: both sides have the same ring */
    return open_any(false, out_side);
}

static int run_open(const struct bench_setup *setup, void **out_side,
                    struct bench_facts *out_facts) {
    (void)setup;
    (void)out_facts;
    return open_any(true, out_side);
}

/* ---- the graph ------------------------------------------------------------------------------- */

static uint32_t layers_of(const struct bench_round *round) {
    return round->ops / EDGES_PER_LAYER + 1; /* the first one has no edges into it */
}

/* The @i-th dependency of the node at @place: left of it, above it, right of it. */
static uint32_t neighbour(uint32_t place, uint32_t i) {
    return (place + WIDTH - 1 + i) % WIDTH;
}

/* The tag is the node's number. */
static void on_outcome(sr_batch *batch, sr_node node, const sr_node_outcome *outcome, void *ctx) {
    struct side *self = ctx;
    uint64_t number = outcome->tag;

    (void)batch;
    (void)node;
    self->ended[number] = 1;
    self->ended_count++;
    for (uint32_t i = 0; number >= WIDTH && i < EDGES_PER_NODE; i++) {
        uint64_t above = number / WIDTH - 1;

        self->early_count += !self->ended[above * WIDTH + neighbour(number % WIDTH, i)];
    }
}

/* NOPs end in the order in which they began, so a node that began too early would not show. In
 * rounds that are checked some take a while. */
static void choose_operation(const struct side *self, uint32_t place, sr_request *request) {
    bool slow = self->checks && place % 7 == 0;

    request->op = slow ? SR_OP_TIMEOUT : SR_OP_NOP;
    request->duration_ns = slow ? 50000 : 0;
}

static int add_layer(struct side *self, sr_batch *batch, uint32_t layer, sr_node_spec *spec) {
    const sr_node *above = self->layers[(layer + 1) % 2];
    sr_node *nodes = self->layers[layer % 2];

    for (uint32_t place = 0; place < WIDTH; place++) {
        int code;

        choose_operation(self, place, &spec->request);
        spec->request.tag = (uint64_t)layer * WIDTH + place;
        code = sr_batch_add(batch, spec, &nodes[place]);
        for (uint32_t i = 0; layer > 0 && code == 0 && i < EDGES_PER_NODE; i++) {
            code = sr_batch_after(batch, nodes[place], above[neighbour(place, i)], SR_ON_SUCCESS);
        }
        if (code != 0) {
            return code;
        }
    }
    return 0;
}

static int make_batch(struct side *self, const struct bench_round *round, sr_batch **out_batch) {
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    sr_node_spec spec = SR_NODE_SPEC_INIT;
    int code;

    options.nodes_max = layers_of(round) * WIDTH;
    self->checks = round->full;
    spec.request.ctx = self;
    spec.on_outcome = round->full ? on_outcome : NULL;
    code = sr_batch_create(self->ring, &options, out_batch);
    for (uint32_t layer = 0; code == 0 && layer < layers_of(round); layer++) {
        code = add_layer(self, *out_batch, layer, &spec);
    }
    return code;
}

/* ---- rounds ---------------------------------------------------------------------------------- */

static int prepare_check(struct side *self, const struct bench_round *round) {
    free(self->ended);
    self->ended = calloc((size_t)layers_of(round) * WIDTH, 1);
    self->ended_count = 0;
    self->early_count = 0;
    return self->ended != NULL ? BENCH_OK : bench_complain(BENCH_WRONG, "safering: out of memory");
}

static int judge(const struct side *self, const struct bench_round *round,
                 const sr_batch_stats *stats) {
    uint64_t nodes = (uint64_t)layers_of(round) * WIDTH;

    if (stats->done_total != nodes) {
        return bench_complain(BENCH_WRONG, "safering: %llu nodes done",
                              (unsigned long long)stats->done_total);
    }
    if (round->full && (self->ended_count != nodes || self->early_count != 0)) {
        return bench_complain(BENCH_WRONG, "safering: %u nodes told, %u before their dependencies",
                              self->ended_count, self->early_count);
    }
    return BENCH_OK;
}

static int run_round(struct side *self, const struct bench_round *round,
                     struct bench_work *out_work) {
    sr_batch_stats stats = SR_BATCH_STATS_INIT;
    sr_batch *batch = NULL;
    uint64_t made;
    uint64_t ran;
    uint64_t begin = bench_now_ns();
    int code = make_batch(self, round, &batch);

    made = bench_now_ns();
    if (code == 0) {
        code = sr_batch_run(batch, SR_FOREVER, NULL);
    }
    ran = bench_now_ns();
    if (code == 0) {
        code = sr_batch_get_stats(batch, &stats);
    }
    if (code == 0) {
        code = sr_batch_destroy(&batch);
    } else {
        sr_batch_destroy(&batch);
    }
    out_work->ns = self->run_only ? ran - made : bench_now_ns() - begin;
    if (code != 0) {
        return bench_complain(BENCH_WRONG, "safering: batch: %s", sr_strerror(code));
    }
    out_work->ops = round->ops;
    out_work->checksum = round->base + stats.done_total;
    return judge(self, round, &stats);
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    int status = round->full ? prepare_check(self, round) : BENCH_OK;

    return status == BENCH_OK ? run_round(self, round, out_work) : status;
}

static int run_layer(struct side *self, uint64_t *inout_done) {
    sr_request request = SR_REQUEST_INIT;
    uint32_t done = 0;

    request.op = SR_OP_NOP;
    for (uint32_t i = 0; i < WIDTH; i++) {
        int code = sr_ring_submit(self->ring, &request, NULL);

        if (code != 0) {
            return bench_complain(BENCH_WRONG, "safering: submit: %s", sr_strerror(code));
        }
    }
    while (done < WIDTH) {
        const sr_completion *completions;
        int count = sr_ring_wait(self->ring, WIDTH - done, SR_FOREVER, NULL, &completions);

        if (count < 0) {
            return bench_complain(BENCH_WRONG, "safering: wait: %s", sr_strerror(count));
        }
        for (int i = 0; i < count; i++) {
            *inout_done += completions[i].result == 0;
        }
        done += (uint32_t)count;
    }
    return BENCH_OK;
}

static int nops_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    uint64_t done = 0;

    for (uint32_t layer = 0; layer < layers_of(round); layer++) {
        int status = run_layer(self, &done);

        if (status != BENCH_OK) {
            return status;
        }
    }
    out_work->ops = round->ops;
    out_work->checksum = round->base + done;
    return BENCH_OK;
}

static uint64_t expect(const struct bench_setup *setup, const struct bench_round *round) {
    (void)setup; /* the number of nodes depends on the round alone */
    return round->base + (uint64_t)layers_of(round) * WIDTH;
}

static const struct bench_side life = {"safering", life_open, side_run, side_close, 0};
static const struct bench_side run_alone = {"safering", run_open, side_run, side_close, 0};
static const struct bench_side nops = {"NOPs", life_open, nops_run, side_close, 0};

const struct bench_case bench_case_batch_edges = {
    .name = "batch.edges",
    .question = "an edge in a lattice of NOPs, 64 layers of 64; the same NOPs without a batch",
    .n = WIDTH,
    .round_ops = 63 * EDGES_PER_LAYER,
    .round_unit = EDGES_PER_LAYER,
    .ours = &life,
    .baseline = &nops,
    .beside = &run_alone,
    .beside_name = "batch.edges.run",
    .expect = expect,
};
