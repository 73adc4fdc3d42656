/* SPDX-License-Identifier: MIT */
/*
 * Finding a completion's node by looking at one operation in flight after another. The names of the
 * operations lie next to each other, so that a cache line has eight of them; the last one takes the
 * place of one that is removed.
 */
#include "baseline.h"
#include "op_stream.h"
#include <stdlib.h>

struct side {
    struct op_stream stream;
    uint64_t *ops;
    uint64_t *nodes;
    uint32_t count;
};

static void side_close(void *side) {
    struct side *self = side;

    op_stream_close(&self->stream);
    free(self->ops);
    free(self->nodes);
    free(self);
}

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    int status;

    (void)out_facts; /* no ring */
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "linear: out of memory");
    }
    status = op_stream_open(&self->stream, setup->n, NULL);
    if (status != BENCH_OK) {
        free(self);
        return status;
    }
    self->ops = calloc(setup->n, sizeof(*self->ops));
    self->nodes = calloc(setup->n, sizeof(*self->nodes));
    if (self->ops == NULL || self->nodes == NULL) {
        side_close(self);
        return bench_complain(BENCH_WRONG, "linear: out of memory");
    }
    *out_side = self;
    return BENCH_OK;
}

static void insert(struct side *self, const struct op_entry *entry) {
    self->ops[self->count] = entry->op;
    self->nodes[self->count] = entry->node;
    self->count++;
}

/* UINT64_MAX if it is not there. */
static uint64_t find_and_remove(struct side *self, uint64_t op) {
    uint32_t i = 0;
    uint64_t node;

    while (i < self->count && self->ops[i] != op) {
        i++;
    }
    if (i == self->count) {
        return UINT64_MAX;
    }
    node = self->nodes[i];
    self->count--;
    self->ops[i] = self->ops[self->count];
    self->nodes[i] = self->nodes[self->count];
    return node;
}

static uint64_t run_steps(struct side *self, uint32_t step_count) {
    const struct op_step *steps = self->stream.steps;
    uint64_t sum = 0;

    for (uint32_t i = 0; i < step_count; i++) {
        sum += op_stream_word(find_and_remove(self, steps[i].ended.op), i);
        insert(self, &steps[i].begun);
    }
    return sum;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    int status = op_stream_draw(&self->stream, round);
    uint64_t begin;

    if (status != BENCH_OK) {
        return status;
    }
    self->count = 0;
    for (uint32_t i = 0; i < self->stream.n; i++) {
        insert(self, &self->stream.first[i]);
    }
    begin = bench_now_ns();
    out_work->checksum = run_steps(self, round->ops);
    out_work->ns = bench_now_ns() - begin;
    out_work->ops = round->ops;
    return BENCH_OK;
}

const struct bench_side bench_baseline_linear = {"linear", side_open, side_run, side_close, 0};
