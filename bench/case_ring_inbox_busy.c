/* SPDX-License-Identifier: MIT */
/*
 * ring.inbox_busy: a flood of messages from one thread to another that is awake: it looks into its
 * ring again and again and never sleeps in it, so no post needs a system call. A sender that finds
 * the inbox full lets others run and tries again.
 */
#include "baseline.h"
#include "work.h"
#include <safering/safering.h>
#include <sched.h>
#include <stdlib.h>

struct side {
    sr_ring *ring;
    struct bench_partner *partner;
    const struct bench_round *round;
};

static void side_close(void *side) {
    struct side *self = side;

    bench_partner_close(self->partner);
    sr_ring_destroy(&self->ring);
    free(self);
}

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    int code;
    int status;

    (void)setup;
    (void)out_facts; /* what the ring is like does not matter: nothing is sent */
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "safering: out of memory");
    }
    options.inbox_entries = BENCH_QUEUE_MESSAGES;
    code = sr_ring_create(&options, &self->ring);
    if (code != 0) {
        free(self);
        return bench_complain(BENCH_MISSING, "safering: no ring here: %s", sr_strerror(code));
    }
    status = bench_partner_open(&self->partner);
    if (status != BENCH_OK) {
        side_close(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

static int flood(void *argument) {
    struct side *self = argument;

    for (uint32_t i = 0; i < self->round->ops; i++) {
        int code = sr_inbox_post(self->ring, self->round->base + i, self);

        while (code == SR_E_FULL) {
            (void)sched_yield();
            code = sr_inbox_post(self->ring, self->round->base + i, self);
        }
        if (code != 0) {
            return bench_complain(BENCH_WRONG, "safering: post: %s", sr_strerror(code));
        }
    }
    return BENCH_OK;
}

/* Each message once and in order. */
static int take(struct side *self, const sr_completion *completions, int count,
                struct bench_work *work) {
    for (int i = 0; i < count; i++) {
        if (completions[i].tag != self->round->base + work->ops || completions[i].ctx != self) {
            return bench_complain(BENCH_WRONG, "safering: a wrong message");
        }
        work->checksum += completions[i].tag;
        work->ops++;
    }
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    uint64_t begin = 0; /* when the first message came: the sender needs time to wake up */

    self->round = round;
    bench_partner_begin(self->partner, flood, self);
    while (out_work->ops < round->ops) {
        const sr_completion *completions;
        int count = sr_ring_wait(self->ring, 0, SR_FOREVER, NULL, &completions);
        int status = count >= 0
                         ? take(self, completions, count, out_work)
                         : bench_complain(BENCH_WRONG, "safering: wait: %s", sr_strerror(count));

        if (status != BENCH_OK) {
            return status;
        }
        if (begin == 0 && count > 0) {
            begin = bench_now_ns();
        }
    }
    out_work->ns = bench_now_ns() - begin;
    return bench_partner_wait(self->partner);
}

static uint64_t expect(const struct bench_setup *setup, const struct bench_round *round) {
    uint64_t sum = 0;

    (void)setup; /* tags depend on the round alone */
    for (uint32_t i = 0; i < round->ops; i++) {
        sum += round->base + i;
    }
    return sum;
}

static const struct bench_side ours = {"safering", side_open, side_run, side_close, 1};

const struct bench_case bench_case_ring_inbox_busy = {
    .name = "ring.inbox_busy",
    .question = "a flood of messages to a thread that is awake, against a bare lock-free queue",
    .round_ops = 16384,
    .cpus = 2,
    .ours = &ours,
    .baseline = &bench_baseline_queue,
    .beside = &bench_baseline_mutex_queue,
    .beside_name = "ring.inbox_busy.mutex",
    .expect = expect,
};
