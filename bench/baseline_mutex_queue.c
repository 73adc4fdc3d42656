/* SPDX-License-Identifier: MIT */
/*
 * A bounded queue with a mutex and a condition, as most programs have one: the reader sleeps when
 * it is empty and takes all that is there, up to BATCH, at once; a writer signals only if the
 * reader sleeps.
 */
#include "baseline.h"
#include "work.h"
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

enum { BATCH = 256 };

struct message {
    uint64_t tag;
    void *ctx;
};

struct side {
    pthread_mutex_t mutex;
    pthread_cond_t filled;
    struct message messages[BENCH_QUEUE_MESSAGES];
    uint64_t next_in;
    uint64_t next_out;
    bool reader_sleeps;
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
    (void)pthread_mutex_init(&self->mutex, NULL);
    (void)pthread_cond_init(&self->filled, NULL);
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
    (void)pthread_cond_destroy(&self->filled);
    (void)pthread_mutex_destroy(&self->mutex);
    free(self);
}

/* False: full. */
static bool push(struct side *self, uint64_t tag, void *ctx) {
    bool room;
    bool wake;

    (void)pthread_mutex_lock(&self->mutex);
    room = self->next_in - self->next_out < BENCH_QUEUE_MESSAGES;
    wake = room && self->reader_sleeps;
    if (room) {
        self->messages[self->next_in++ % BENCH_QUEUE_MESSAGES] = (struct message){tag, ctx};
        self->reader_sleeps = false;
    }
    (void)pthread_mutex_unlock(&self->mutex);
    if (wake) {
        (void)pthread_cond_signal(&self->filled);
    }
    return room;
}

static uint32_t pop_all(struct side *self, struct message *out_messages) {
    uint32_t count = 0;

    (void)pthread_mutex_lock(&self->mutex);
    while (self->next_in == self->next_out) {
        self->reader_sleeps = true;
        (void)pthread_cond_wait(&self->filled, &self->mutex);
    }
    self->reader_sleeps = false;
    while (self->next_out != self->next_in && count < BATCH) {
        out_messages[count++] = self->messages[self->next_out++ % BENCH_QUEUE_MESSAGES];
    }
    (void)pthread_mutex_unlock(&self->mutex);
    return count;
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
    struct message messages[BATCH];
    uint64_t begin = 0; /* when the first message came: the sender needs time to wake up */

    self->round = round;
    bench_partner_begin(self->partner, flood, self);
    while (out_work->ops < round->ops) {
        uint32_t count = pop_all(self, messages);

        for (uint32_t i = 0; i < count; i++) {
            if (messages[i].tag != round->base + out_work->ops || messages[i].ctx != self) {
                return bench_complain(BENCH_WRONG, "queue: a wrong message");
            }
            out_work->checksum += messages[i].tag;
            out_work->ops++;
        }
        if (begin == 0) {
            begin = bench_now_ns();
        }
    }
    out_work->ns = bench_now_ns() - begin;
    return bench_partner_wait(self->partner);
}

const struct bench_side bench_baseline_mutex_queue = {"mutex", side_open, side_run, side_close, 1};
