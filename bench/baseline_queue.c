/* SPDX-License-Identifier: MIT */
/*
 * A bounded queue for many writers and one reader without a lock and without any way to sleep: the
 * least that a message between threads can cost. Each cell has a turn, which says whose it is; a
 * writer claims the next position by compare-and-swap.
 */
#include "baseline.h"
#include "work.h"
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

struct cell {
    _Atomic uint64_t turn; /* its position: free; one more: full */
    uint64_t tag;
    void *ctx;
};

struct side {
    struct cell cells[BENCH_QUEUE_MESSAGES];
    uint64_t next_out;
    char apart[64]; /* the reader's and the writers' words are in different cache lines */
    _Atomic uint64_t next_in;
    struct bench_partner *partner;
    const struct bench_round *round;
};

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    int status;

    (void)setup;
    (void)out_facts; /* no ring */
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "queue: out of memory");
    }
    for (uint32_t i = 0; i < BENCH_QUEUE_MESSAGES; i++) {
        atomic_init(&self->cells[i].turn, i);
    }
    status = bench_partner_open(&self->partner);
    if (status != BENCH_OK) {
        free(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

static void side_close(void *side) {
    struct side *self = side;

    bench_partner_close(self->partner);
    free(self);
}

/* False: full. */
static bool push(struct side *self, uint64_t tag, void *ctx) {
    uint64_t position = atomic_load_explicit(&self->next_in, memory_order_relaxed);
    struct cell *cell;
    uint64_t turn;

    for (;;) {
        cell = &self->cells[position % BENCH_QUEUE_MESSAGES];
        turn = atomic_load_explicit(&cell->turn, memory_order_acquire);
        if (turn < position) {
            return false;
        }
        if (turn == position &&
            atomic_compare_exchange_weak_explicit(&self->next_in, &position, position + 1,
                                                  memory_order_relaxed, memory_order_relaxed)) {
            break;
        }
        position = atomic_load_explicit(&self->next_in, memory_order_relaxed);
    }
    cell->tag = tag;
    cell->ctx = ctx;
    atomic_store_explicit(&cell->turn, position + 1, memory_order_release);
    return true;
}

/* False: empty. */
static bool pop(struct side *self, uint64_t *out_tag, void **out_ctx) {
    struct cell *cell = &self->cells[self->next_out % BENCH_QUEUE_MESSAGES];

    if (atomic_load_explicit(&cell->turn, memory_order_acquire) != self->next_out + 1) {
        return false;
    }
    *out_tag = cell->tag;
    *out_ctx = cell->ctx;
    atomic_store_explicit(&cell->turn, self->next_out + BENCH_QUEUE_MESSAGES, memory_order_release);
    self->next_out++;
    return true;
}

static int flood(void *argument) {
    struct side *self = argument;

    for (uint32_t i = 0; i < self->round->ops; i++) {
        while (!push(self, self->round->base + i, self)) {
            (void)sched_yield();
        }
    }
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    uint64_t begin = 0; /* when the first message came: the sender needs time to wake up */

    self->round = round;
    bench_partner_begin(self->partner, flood, self);
    while (out_work->ops < round->ops) {
        uint64_t tag;
        void *ctx;

        if (!pop(self, &tag, &ctx)) {
            continue;
        }
        if (tag != round->base + out_work->ops || ctx != self) {
            return bench_complain(BENCH_WRONG, "queue: a wrong message");
        }
        if (begin == 0) {
            begin = bench_now_ns();
        }
        out_work->checksum += tag;
        out_work->ops++;
    }
    out_work->ns = bench_now_ns() - begin;
    return bench_partner_wait(self->partner);
}

const struct bench_side bench_baseline_queue = {"lock-free", side_open, side_run, side_close, 1};
