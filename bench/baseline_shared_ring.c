/* SPDX-License-Identifier: MIT */
/*
 * NOPs through one liburing ring that two threads share, a mutex around it: the way that safering
 * does not offer. A ring that several threads enter has neither SINGLE_ISSUER nor DEFER_TASKRUN.
 * Whoever holds the mutex fills the queue, sends, and takes what has ended; NOPs end within the
 * call, so nobody sleeps with the mutex held and nobody finds the other's completions.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline.h"
#include "baseline_ring.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The sides of both threads use this one; the first to come makes it, the last to go ends it. */
static struct {
    pthread_mutex_t mutex;
    struct io_uring ring;
    uint32_t users;
} shared = {.mutex = PTHREAD_MUTEX_INITIALIZER};

struct side {
    uint32_t n;
};

static int ring_open(void) {
    struct io_uring_params params;
    int code;

    memset(&params, 0, sizeof(params));
    params.flags = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                   IORING_SETUP_CQSIZE;
    params.cq_entries = 4 * BASELINE_ENTRIES;
    code = io_uring_queue_init_params(BASELINE_ENTRIES, &shared.ring, &params);
    if (code < 0) {
        return bench_complain(BENCH_MISSING, "liburing: no ring with these flags here: %s",
                              strerror(-code));
    }
    return BENCH_OK;
}

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    int status = BENCH_OK;

    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "liburing: out of memory");
    }
    self->n = setup->n;
    pthread_mutex_lock(&shared.mutex);
    if (shared.users == 0) {
        status = ring_open();
    }
    if (status == BENCH_OK) {
        shared.users++;
        out_facts->ring = true;
        out_facts->setup_flags = shared.ring.flags;
    }
    pthread_mutex_unlock(&shared.mutex);
    if (status != BENCH_OK) {
        free(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

static void side_close(void *side) {
    pthread_mutex_lock(&shared.mutex);
    shared.users--;
    if (shared.users == 0) {
        io_uring_queue_exit(&shared.ring);
    }
    pthread_mutex_unlock(&shared.mutex);
    free(side);
}

/* With the mutex held. */
static int run_batch(uint32_t n, uint64_t tag, struct bench_work *work) {
    uint32_t done = 0;

    for (uint32_t i = 0; i < n; i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&shared.ring);

        if (sqe == NULL) {
            return bench_complain(BENCH_WRONG, "liburing: submission queue full");
        }
        io_uring_prep_nop(sqe);
        io_uring_sqe_set_data64(sqe, tag + i);
    }
    while (done < n) {
        struct io_uring_cqe *cqe;
        unsigned head;
        unsigned seen = 0;
        int code = io_uring_submit_and_wait(&shared.ring, n - done);

        if (code < 0) {
            return bench_complain(BENCH_WRONG, "liburing: enter: %s", strerror(-code));
        }
        io_uring_for_each_cqe(&shared.ring, head, cqe) {
            if (cqe->res != 0) {
                return bench_complain(BENCH_WRONG, "liburing: nop: %s", strerror(-cqe->res));
            }
            work->checksum += cqe->user_data;
            seen++;
        }
        io_uring_cq_advance(&shared.ring, seen);
        done += seen;
    }
    work->ops += done;
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;

    for (uint32_t i = 0; i < round->ops; i += self->n) {
        int status;

        pthread_mutex_lock(&shared.mutex);
        status = run_batch(self->n, round->base + i, out_work);
        pthread_mutex_unlock(&shared.mutex);
        if (status != BENCH_OK) {
            return status;
        }
    }
    return BENCH_OK;
}

const struct bench_side bench_baseline_shared_ring = {"shared", side_open, side_run, side_close, 2};
