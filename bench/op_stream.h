/* SPDX-License-Identifier: MIT */
/*
 * What completes in which order, for the cases that look a completion's node up: n operations are
 * always in flight; each step ends one of them, drawn at random, and begins the operation of the
 * node that had waited for it. Knows no way of looking anything up.
 */
#ifndef BENCH_OP_STREAM_H
#define BENCH_OP_STREAM_H

#include "work.h"

/* An operation in flight, and its node. Nodes have numbers below 2 * n. */
struct op_entry {
    uint64_t op;
    uint64_t node;
};

struct op_step {
    struct op_entry ended; /* its node is what has to be found; told for the way that is told it */
    struct op_entry begun;
};

struct op_stream {
    uint32_t n;
    struct op_entry *first; /* n: in flight before the first step */
    struct op_step *steps;
    uint32_t steps_max;
    struct op_entry *flying; /* scratch */
    const uint64_t *chosen;  /* borrows: the operation of each node number; NULL for handles */
    struct op_handles *handles;
};

/*
 * op_stream_open() - for rounds of one side
 * @chosen: NULL: operations are named by handles, given out by a table of handles as a ring has one
 */
int op_stream_open(struct op_stream *self, uint32_t n, const uint64_t *chosen);
void op_stream_close(struct op_stream *self);
/* Draws a round; the same one for each side but for the names of the operations. */
int op_stream_draw(struct op_stream *self, const struct bench_round *round);
/* The checksum: an `expect` for cases. A side adds op_stream_word() of each node that it finds. */
uint64_t op_stream_expect(const struct bench_setup *setup, const struct bench_round *round);

static inline uint64_t op_stream_word(uint64_t node, uint32_t step) {
    return node * (step + 1u);
}

#endif
