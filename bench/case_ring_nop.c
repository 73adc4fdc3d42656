/* SPDX-License-Identifier: MIT */
/* ring.nop: what the ring's own checks and bookkeeping cost, with the kernel doing next to nothing.
 */
#include "baseline.h"
#include "nop.h"
#include <safering/safering.h>
#include <stdlib.h>

struct side {
    sr_ring *ring;
    uint32_t n;
};

void nop_close(void *side) {
    struct side *self = side;

    sr_ring_destroy(&self->ring);
    free(self);
}

int nop_open(const struct bench_setup *setup, void **out_side, struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    sr_ring_stats stats = SR_RING_STATS_INIT;
    int code;

    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "safering: out of memory");
    }
    self->n = setup->n;
    options.backend = SR_BACKEND_URING; /* NOPs of the fallback say nothing */
    code = sr_ring_create(&options, &self->ring);
    if (code != 0) {
        free(self);
        return bench_complain(BENCH_MISSING, "safering: no ring here: %s", sr_strerror(code));
    }
    code = sr_ring_get_stats(self->ring, &stats);
    if (code != 0) {
        nop_close(self);
        return bench_complain(BENCH_WRONG, "safering: stats: %s", sr_strerror(code));
    }
    out_facts->ring = true;
    out_facts->setup_flags = stats.setup_flags;
    out_facts->ring_fd_registered = stats.ring_fd_registered != 0;
    *out_side = self;
    return BENCH_OK;
}

static int run_batch(struct side *self, sr_request *request, uint64_t tag,
                     struct bench_work *work) {
    uint32_t done = 0;

    for (uint32_t i = 0; i < self->n; i++) {
        int code;

        request->tag = tag + i;
        code = sr_ring_submit(self->ring, request, NULL);
        if (code != 0) {
            return bench_complain(BENCH_WRONG, "safering: submit: %s", sr_strerror(code));
        }
    }
    while (done < self->n) {
        const sr_completion *completions;
        int count = sr_ring_wait(self->ring, self->n - done, SR_FOREVER, NULL, &completions);

        if (count < 0) {
            return bench_complain(BENCH_WRONG, "safering: wait: %s", sr_strerror(count));
        }
        for (int i = 0; i < count; i++) {
            if (completions[i].result != 0) {
                return bench_complain(BENCH_WRONG, "safering: nop gave %lld",
                                      (long long)completions[i].result);
            }
            work->checksum += completions[i].tag;
        }
        done += (uint32_t)count;
    }
    work->ops += done;
    return BENCH_OK;
}

int nop_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    sr_request request = SR_REQUEST_INIT;

    request.op = SR_OP_NOP;
    for (uint32_t i = 0; i < round->ops; i += self->n) {
        int status = run_batch(self, &request, round->base + i, out_work);

        if (status != BENCH_OK) {
            return status;
        }
    }
    return BENCH_OK;
}

uint64_t nop_expect(const struct bench_setup *setup, const struct bench_round *round) {
    uint64_t sum = 0;

    (void)setup; /* tags depend on the round alone */
    for (uint32_t i = 0; i < round->ops; i++) {
        sum += round->base + i;
    }
    return sum;
}

static const struct bench_side ours = {"safering", nop_open, nop_run, nop_close, 0};

const struct bench_case bench_case_ring_nop = {
    .name = "ring.nop",
    .question = "NOPs, 128 at a time, one enter for all: the price of the ring's checks",
    .n = 128,
    .round_ops = 128 * 160,
    .same_setup = true,
    .ours = &ours,
    .baseline = &bench_baseline_nop,
    .expect = nop_expect,
};
