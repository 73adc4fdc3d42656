/* SPDX-License-Identifier: MIT */
/*
 * ring.inbox: from sr_inbox_post() to the owner's return from sr_ring_wait(), when the owner was
 * asleep. Two threads with a ring each send a message to and fro, so each is asleep when the other
 * posts; an operation is one way.
 */
#include "baseline.h"
#include "work.h"
#include <safering/safering.h>
#include <stdlib.h>

/* Not so long that a test hangs, long enough on any machine: the other thread is lost. */
#define PATIENCE_NS 60000000000u

struct side {
    sr_ring *here;
    sr_ring *there; /* the partner's */
    struct bench_partner *partner;
    const struct bench_round *round;
    struct bench_facts facts_there;
};

static int ring_open(sr_ring **out_ring, struct bench_facts *out_facts) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    sr_ring_stats stats = SR_RING_STATS_INIT;
    int code;

    options.backend = SR_BACKEND_URING;
    options.inbox_entries = 64;
    code = sr_ring_create(&options, out_ring);
    if (code != 0) {
        return bench_complain(BENCH_MISSING, "safering: no ring here: %s", sr_strerror(code));
    }
    code = sr_ring_get_stats(*out_ring, &stats);
    if (code != 0) {
        return bench_complain(BENCH_WRONG, "safering: stats: %s", sr_strerror(code));
    }
    out_facts->ring = true;
    out_facts->setup_flags = stats.setup_flags;
    out_facts->ring_fd_registered = stats.ring_fd_registered != 0;
    return BENCH_OK;
}

static int open_there(void *argument) {
    struct side *self = argument;

    return ring_open(&self->there, &self->facts_there);
}

static int close_there(void *argument) {
    struct side *self = argument;

    return sr_ring_destroy(&self->there) == 0 ? BENCH_OK : BENCH_WRONG;
}

static void side_close(void *side) {
    struct side *self = side;

    if (self->there != NULL) {
        bench_partner_begin(self->partner, close_there, self);
        (void)bench_partner_wait(self->partner);
    }
    bench_partner_close(self->partner);
    sr_ring_destroy(&self->here);
    free(self);
}

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    int status;

    (void)setup;
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "safering: out of memory");
    }
    status = ring_open(&self->here, out_facts);
    if (status == BENCH_OK) {
        status = bench_partner_open(&self->partner);
    }
    if (status == BENCH_OK) {
        bench_partner_begin(self->partner, open_there, self);
        status = bench_partner_wait(self->partner);
    }
    if (status != BENCH_OK) {
        side_close(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

static int post(sr_ring *to, uint64_t value) {
    int code = sr_inbox_post(to, value, NULL);

    return code == 0 ? BENCH_OK
                     : bench_complain(BENCH_WRONG, "safering: post: %s", sr_strerror(code));
}

static int take(sr_ring *ring, uint64_t *out_value) {
    const sr_completion *completions;
    int count = sr_ring_wait(ring, 1, PATIENCE_NS, NULL, &completions);

    if (count != 1 || (completions[0].flags & SR_COMPLETION_INBOX) == 0) {
        return bench_complain(BENCH_WRONG, "safering: wait gave %d", count);
    }
    *out_value = completions[0].tag;
    return BENCH_OK;
}

/* Answers each message with the next value. */
static int run_there(void *argument) {
    struct side *self = argument;

    for (uint32_t i = 0; i < self->round->ops; i += 2) {
        uint64_t value = 0;
        int status = take(self->there, &value);

        if (status == BENCH_OK) {
            status = post(self->here, value + 1);
        }
        if (status != BENCH_OK) {
            return status;
        }
    }
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;

    self->round = round;
    bench_partner_begin(self->partner, run_there, self);
    for (uint32_t i = 0; i < round->ops; i += 2) {
        uint64_t value = 0;
        int status = post(self->there, bench_hop_value(round, i));

        if (status == BENCH_OK) {
            status = take(self->here, &value);
        }
        if (status != BENCH_OK) {
            return status;
        }
        out_work->checksum += value;
        out_work->ops += 2;
    }
    return bench_partner_wait(self->partner);
}

static uint64_t expect(const struct bench_setup *setup, const struct bench_round *round) {
    uint64_t sum = 0;

    (void)setup; /* values depend on the round alone */
    for (uint32_t i = 1; i < round->ops; i += 2) {
        sum += bench_hop_value(round, i);
    }
    return sum;
}

static const struct bench_side ours = {"safering", side_open, side_run, side_close, 1};

const struct bench_case bench_case_ring_inbox = {
    .name = "ring.inbox",
    .question = "a message to a thread that sleeps in its ring, one way, against a bare eventfd",
    .round_ops = 1024,
    .same_setup = true,
    .cpus = 2,
    .ours = &ours,
    .baseline = &bench_baseline_eventfd,
    .expect = expect,
};
