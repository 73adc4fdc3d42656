/* SPDX-License-Identifier: MIT */
/* NOPs through plain liburing: fill the queue, one enter for all, walk the completions. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline.h"
#include "baseline_ring.h"
#include <stdlib.h>
#include <string.h>

struct side {
    struct io_uring ring;
    uint32_t n;
};

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    int status;

    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "liburing: out of memory");
    }
    status = baseline_ring_open(&self->ring, out_facts);
    if (status != BENCH_OK) {
        free(self);
        return status;
    }
    self->n = setup->n;
    *out_side = self;
    return BENCH_OK;
}

static int run_batch(struct side *self, uint64_t tag, struct bench_work *work) {
    uint32_t done = 0;

    for (uint32_t i = 0; i < self->n; i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&self->ring);

        if (sqe == NULL) {
            return bench_complain(BENCH_WRONG, "liburing: submission queue full");
        }
        io_uring_prep_nop(sqe);
        io_uring_sqe_set_data64(sqe, tag + i);
    }
    while (done < self->n) {
        struct io_uring_cqe *cqe;
        unsigned head;
        unsigned seen = 0;
        int code = io_uring_submit_and_wait(&self->ring, self->n - done);

        if (code < 0) {
            return bench_complain(BENCH_WRONG, "liburing: enter: %s", strerror(-code));
        }
        io_uring_for_each_cqe(&self->ring, head, cqe) {
            if (cqe->res != 0) {
                return bench_complain(BENCH_WRONG, "liburing: nop: %s", strerror(-cqe->res));
            }
            work->checksum += cqe->user_data;
            seen++;
        }
        io_uring_cq_advance(&self->ring, seen);
        done += seen;
    }
    work->ops += done;
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;

    for (uint32_t i = 0; i < round->ops; i += self->n) {
        int status = run_batch(self, round->base + i, out_work);

        if (status != BENCH_OK) {
            return status;
        }
    }
    return BENCH_OK;
}

static void side_close(void *side) {
    struct side *self = side;

    io_uring_queue_exit(&self->ring);
    free(self);
}

const struct bench_side bench_baseline_nop = {"liburing", side_open, side_run, side_close, 0};
const struct bench_side bench_baseline_nop_1 = {"liburing", side_open, side_run, side_close, 1};
const struct bench_side bench_baseline_nop_2 = {"liburing", side_open, side_run, side_close, 2};
