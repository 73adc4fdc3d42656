/* SPDX-License-Identifier: MIT */
/*
 * A bounded queue for one writer and one reader that trust each other: messages of one size, two
 * indices, each side with a copy of the other's, published once for a batch. The least that a
 * copied message can cost.
 */
#include "baseline.h"
#include "work.h"
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

struct side {
    uint64_t slots[BENCH_STREAM_MESSAGES][BENCH_STREAM_WORDS];
    _Alignas(64) _Atomic uint64_t written;
    _Alignas(64) _Atomic uint64_t read;
    _Alignas(64) struct bench_partner *partner;
    const struct bench_round *round;
};

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = aligned_alloc(64, sizeof(*self));
    int status;

    (void)setup;
    (void)out_facts; /* no ring */
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "spsc: out of memory");
    }
    memset(self, 0, sizeof(*self));
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

static int flood(void *argument) {
    struct side *self = argument;
    uint64_t next = atomic_load(&self->written);
    uint64_t free_until = atomic_load(&self->read) + BENCH_STREAM_MESSAGES;

    for (uint32_t i = 0; i < self->round->ops; i++) {
        uint64_t message[BENCH_STREAM_WORDS];

        while (next == free_until) {
            atomic_store_explicit(&self->written, next, memory_order_release);
            free_until =
                atomic_load_explicit(&self->read, memory_order_acquire) + BENCH_STREAM_MESSAGES;
            if (next == free_until) {
                (void)sched_yield();
            }
        }
        bench_stream_fill(message, self->round->base + i);
        memcpy(self->slots[next % BENCH_STREAM_MESSAGES], message, sizeof(message));
        next++;
        if (next % BENCH_STREAM_BATCH == 0) {
            atomic_store_explicit(&self->written, next, memory_order_release);
        }
    }
    atomic_store_explicit(&self->written, next, memory_order_release);
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    uint64_t begin = 0; /* when the first message came: the sender needs time to wake up */
    uint64_t next = atomic_load(&self->read);
    uint64_t there_until = next;

    self->round = round;
    bench_partner_begin(self->partner, flood, self);
    while (out_work->ops < round->ops) {
        uint64_t message[BENCH_STREAM_WORDS];

        if (next == there_until) {
            atomic_store_explicit(&self->read, next, memory_order_release);
            there_until = atomic_load_explicit(&self->written, memory_order_acquire);
            continue;
        }
        memcpy(message, self->slots[next % BENCH_STREAM_MESSAGES], sizeof(message));
        next++;
        if (!bench_stream_is_right(message, round->base + out_work->ops)) {
            return bench_complain(BENCH_WRONG, "spsc: a wrong message");
        }
        if (begin == 0) {
            begin = bench_now_ns();
        }
        out_work->checksum += message[0];
        out_work->ops++;
        if (next % BENCH_STREAM_BATCH == 0) {
            atomic_store_explicit(&self->read, next, memory_order_release);
        }
    }
    atomic_store_explicit(&self->read, next, memory_order_release);
    out_work->ns = bench_now_ns() - begin;
    return bench_partner_wait(self->partner);
}

const struct bench_side bench_baseline_spsc = {"spsc", side_open, side_run, side_close, 1};
