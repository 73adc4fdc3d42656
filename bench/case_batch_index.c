/* SPDX-License-Identifier: MIT */
/*
 * batch.index: what it costs to get from a completion to its node, for n operations in flight: find
 * it, take it out, put in the operation of the node that had waited for it.
 *
 * The index is inside of the library (src/core/index.h) and not exported, so this case alone links
 * the static library: it compares ways of looking up, not calls. Operations are named by real
 * handles and end in an order that is drawn. The row `.direct` is the other way that a batch could
 * go: the completion brings the node's number (the request's tag), and the node is asked whether
 * the operation is the one that it has in flight.
 */
#include "baseline.h"
#include "core/index.h"
#include "op_stream.h"
#include <stdlib.h>

/* ---- hashed ---------------------------------------------------------------------------------- */

struct hashed {
    struct op_stream stream;
    struct sri_index index;
    struct sri_index_cell *cells;
    uint64_t *chosen; /* names that collide, or NULL */
    uint64_t seed;
};

static void hashed_close(void *side) {
    struct hashed *self = side;

    op_stream_close(&self->stream);
    free(self->cells);
    free(self->chosen);
    free(self);
}

static struct hashed *hashed_allocate(uint32_t n, uint64_t seed) {
    struct hashed *self = calloc(1, sizeof(*self));

    if (self == NULL) {
        return NULL;
    }
    self->seed = seed;
    self->cells = calloc(sri_index_cells_for(n), sizeof(*self->cells));
    if (self->cells == NULL) {
        free(self);
        return NULL;
    }
    return self;
}

static int hashed_open(const struct bench_setup *setup, void **out_side,
                       struct bench_facts *out_facts) {
    struct hashed *self = hashed_allocate(setup->n, setup->file_seed);
    int status;

    (void)out_facts; /* no ring */
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "hashed: out of memory");
    }
    status = op_stream_open(&self->stream, setup->n, NULL);
    if (status != BENCH_OK) {
        free(self->cells);
        free(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

/* The calls of src/batch/run.c: sri_batch_complete() and fly(). */
static bool run_hashed(struct hashed *self, uint32_t step_count, uint64_t *out_sum) {
    const struct op_step *steps = self->stream.steps;
    uint64_t sum = 0;

    for (uint32_t i = 0; i < step_count; i++) {
        uint64_t op = steps[i].ended.op;

        sum += op_stream_word(sri_index_take(&self->index, op), i);
        if (!sri_index_insert(&self->index, steps[i].begun.op, (uint32_t)steps[i].begun.node)) {
            return false;
        }
    }
    *out_sum = sum;
    return true;
}

static int hashed_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct hashed *self = side;
    int status = op_stream_draw(&self->stream, round);
    uint64_t begin;
    bool good = true;

    if (status != BENCH_OK) {
        return status;
    }
    sri_index_init(&self->index, self->cells, self->stream.n, self->seed);
    for (uint32_t i = 0; i < self->stream.n && good; i++) {
        const struct op_entry *entry = &self->stream.first[i];

        good = sri_index_insert(&self->index, entry->op, (uint32_t)entry->node);
    }
    begin = bench_now_ns();
    good = good && run_hashed(self, round->ops, &out_work->checksum);
    out_work->ns = bench_now_ns() - begin;
    out_work->ops = round->ops;
    return good ? BENCH_OK : bench_complain(BENCH_WRONG, "hashed: an operation was not there");
}

static const struct bench_side hashed = {"hashed", hashed_open, hashed_run, hashed_close, 0};

/* ---- names that collide ---------------------------------------------------------------------- */

/* Whether the first home of an empty index is that of a name. */
static bool is_at_first_home(struct sri_index *index, uint64_t name) {
    bool there;

    if (!sri_index_insert(index, name, 0)) {
        return false;
    }
    there = index->cells[index->count_max].homes[0] != SRI_INDEX_NONE;
    (void)sri_index_remove(index, name); /* it was put there a moment ago */
    return there;
}

/* What somebody would choose who knows the hash and that its seed is 0: names of the same home. */
static bool choose_names(struct hashed *self, uint32_t n) {
    uint32_t found = 0;

    self->chosen = calloc(2 * (size_t)n, sizeof(*self->chosen));
    if (self->chosen == NULL) {
        return false;
    }
    sri_index_init(&self->index, self->cells, n, 0);
    for (uint64_t name = 1; found < 2 * n; name++) {
        if (is_at_first_home(&self->index, name)) {
            self->chosen[found++] = name;
        }
    }
    return true;
}

static int chosen_open(const struct bench_setup *setup, uint64_t seed, void **out_side) {
    struct hashed *self = hashed_allocate(setup->n, seed);
    int status;

    if (self == NULL || !choose_names(self, setup->n)) {
        if (self != NULL) {
            free(self->cells);
        }
        free(self);
        return bench_complain(BENCH_WRONG, "hashed: out of memory");
    }
    status = op_stream_open(&self->stream, setup->n, self->chosen);
    if (status != BENCH_OK) {
        free(self->chosen);
        free(self->cells);
        free(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

static int seeded_open(const struct bench_setup *setup, void **out_side,
                       struct bench_facts *out_facts) {
    (void)out_facts; /* no ring */
    return chosen_open(setup, setup->file_seed, out_side);
}

static int unseeded_open(const struct bench_setup *setup, void **out_side,
                         struct bench_facts *out_facts) {
    (void)out_facts; /* no ring */
    return chosen_open(setup, 0, out_side);
}

static const struct bench_side seeded = {"hashed", seeded_open, hashed_run, hashed_close, 0};
static const struct bench_side unseeded = {"seed 0", unseeded_open, hashed_run, hashed_close, 0};

/* ---- direct ---------------------------------------------------------------------------------- */

struct direct {
    struct op_stream stream;
    uint64_t *op_of; /* of each node the operation in flight, 0 for none */
};

static void direct_close(void *side) {
    struct direct *self = side;

    op_stream_close(&self->stream);
    free(self->op_of);
    free(self);
}

static int direct_open(const struct bench_setup *setup, void **out_side,
                       struct bench_facts *out_facts) {
    struct direct *self = calloc(1, sizeof(*self));
    int status;

    (void)out_facts; /* no ring */
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "direct: out of memory");
    }
    status = op_stream_open(&self->stream, setup->n, NULL);
    if (status != BENCH_OK) {
        free(self);
        return status;
    }
    self->op_of = calloc(2 * (size_t)setup->n, sizeof(*self->op_of));
    if (self->op_of == NULL) {
        direct_close(self);
        return bench_complain(BENCH_WRONG, "direct: out of memory");
    }
    *out_side = self;
    return BENCH_OK;
}

static bool run_direct(struct direct *self, uint32_t step_count, uint64_t *out_sum) {
    const struct op_step *steps = self->stream.steps;
    uint64_t node_count = 2 * (uint64_t)self->stream.n;
    uint64_t sum = 0;

    for (uint32_t i = 0; i < step_count; i++) {
        uint64_t node = steps[i].ended.node;

        if (node >= node_count || self->op_of[node] != steps[i].ended.op) {
            return false;
        }
        sum += op_stream_word(node, i);
        self->op_of[node] = 0;
        self->op_of[steps[i].begun.node] = steps[i].begun.op;
    }
    *out_sum = sum;
    return true;
}

static int direct_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct direct *self = side;
    int status = op_stream_draw(&self->stream, round);
    uint64_t begin;
    bool good;

    if (status != BENCH_OK) {
        return status;
    }
    memset(self->op_of, 0, 2 * (size_t)self->stream.n * sizeof(*self->op_of));
    for (uint32_t i = 0; i < self->stream.n; i++) {
        self->op_of[self->stream.first[i].node] = self->stream.first[i].op;
    }
    begin = bench_now_ns();
    good = run_direct(self, round->ops, &out_work->checksum);
    out_work->ns = bench_now_ns() - begin;
    out_work->ops = round->ops;
    return good ? BENCH_OK : bench_complain(BENCH_WRONG, "direct: an operation was not there");
}

static const struct bench_side direct = {"direct", direct_open, direct_run, direct_close, 0};

/* ---- cases ----------------------------------------------------------------------------------- */

/* The fewer steps, the longer the linear search takes for one. */
#define INDEX_CASE(n_, round_ops_, pairs_max_)                                                     \
    const struct bench_case bench_case_batch_index_##n_ = {                                        \
        .name = "batch.index",                                                                     \
        .question = "from a completion to its node, n in flight: hashed against linear search",    \
        .n = n_,                                                                                   \
        .round_ops = round_ops_,                                                                   \
        .round_unit = 1,                                                                           \
        .pairs_max = pairs_max_,                                                                   \
        .ours = &hashed,                                                                           \
        .baseline = &bench_baseline_linear,                                                        \
        .beside = &direct,                                                                         \
        .beside_name = "batch.index.direct",                                                       \
        .expect = op_stream_expect,                                                                \
    }

INDEX_CASE(10, 16384, 0);
INDEX_CASE(50, 16384, 0);
INDEX_CASE(100, 16384, 0);
INDEX_CASE(500, 16384, 0);
INDEX_CASE(1000, 16384, 0);
INDEX_CASE(4096, 8192, 0);
INDEX_CASE(65536, 4096, 102);

const struct bench_case bench_case_batch_index_chosen = {
    .name = "batch.index_chosen",
    .question = "1,000 names chosen to collide under a seed of 0: a secret seed against that one",
    .n = 1000,
    .round_ops = 8192,
    .round_unit = 1,
    .pairs_max = 102,
    .ours = &seeded,
    .baseline = &unseeded,
    .expect = op_stream_expect,
};
