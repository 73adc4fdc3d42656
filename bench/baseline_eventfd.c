/* SPDX-License-Identifier: MIT */
/*
 * A message to a thread that sleeps in its ring, by hand: write(2) to an eventfd of which the ring
 * has a read in flight. The message is the eventfd's number. Two threads, to and fro.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline.h"
#include "baseline_ring.h"
#include "work.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct end {
    struct io_uring ring;
    bool open;
    int wakeup;
    uint64_t value; /* what the read brings */
};

struct side {
    struct end here;
    struct end there;
    struct bench_partner *partner;
    const struct bench_round *round;
    struct bench_facts facts_there;
};

static void end_close(struct end *self) {
    if (self->open) {
        io_uring_queue_exit(&self->ring);
        close(self->wakeup);
        self->open = false;
    }
}

static int end_open(struct end *self, struct bench_facts *out_facts) {
    int status = baseline_ring_open(&self->ring, out_facts);

    if (status != BENCH_OK) {
        return status;
    }
    self->wakeup = eventfd(0, EFD_CLOEXEC);
    if (self->wakeup < 0) {
        io_uring_queue_exit(&self->ring);
        return bench_complain(BENCH_WRONG, "liburing: eventfd: %s", strerror(errno));
    }
    self->open = true;
    return BENCH_OK;
}

static int open_there(void *argument) {
    struct side *self = argument;

    return end_open(&self->there, &self->facts_there);
}

static int close_there(void *argument) {
    struct side *self = argument;

    end_close(&self->there);
    return BENCH_OK;
}

static void side_close(void *side) {
    struct side *self = side;

    if (self->partner != NULL) {
        bench_partner_begin(self->partner, close_there, self);
        (void)bench_partner_wait(self->partner);
    }
    bench_partner_close(self->partner);
    end_close(&self->here);
    free(self);
}

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    int status;

    (void)setup;
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "liburing: out of memory");
    }
    status = end_open(&self->here, out_facts);
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

static int post(const struct end *to, uint64_t value) {
    return write(to->wakeup, &value, sizeof(value)) == (ssize_t)sizeof(value)
               ? BENCH_OK
               : bench_complain(BENCH_WRONG, "liburing: write: %s", strerror(errno));
}

static int take(struct end *self, uint64_t *out_value) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&self->ring);
    struct io_uring_cqe *cqe = NULL;
    int code;

    if (sqe == NULL) {
        return bench_complain(BENCH_WRONG, "liburing: submission queue full");
    }
    io_uring_prep_read(sqe, self->wakeup, &self->value, sizeof(self->value), 0);
    io_uring_sqe_set_data64(sqe, 1);
    do {
        code = io_uring_submit_and_wait(&self->ring, 1);
    } while (code == -EINTR);
    if (code < 0 || io_uring_peek_cqe(&self->ring, &cqe) != 0) {
        return bench_complain(BENCH_WRONG, "liburing: enter: %s", strerror(-code));
    }
    if (cqe->res != (int)sizeof(self->value) || cqe->user_data != 1) {
        return bench_complain(BENCH_WRONG, "liburing: read gave %d", cqe->res);
    }
    io_uring_cqe_seen(&self->ring, cqe);
    *out_value = self->value;
    return BENCH_OK;
}

/* Answers each message with the next value. */
static int run_there(void *argument) {
    struct side *self = argument;

    for (uint32_t i = 0; i < self->round->ops; i += 2) {
        uint64_t value = 0;
        int status = take(&self->there, &value);

        if (status == BENCH_OK) {
            status = post(&self->here, value + 1);
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
        int status = post(&self->there, bench_hop_value(round, i));

        if (status == BENCH_OK) {
            status = take(&self->here, &value);
        }
        if (status != BENCH_OK) {
            return status;
        }
        out_work->checksum += value;
        out_work->ops += 2;
    }
    return bench_partner_wait(self->partner);
}

const struct bench_side bench_baseline_eventfd = {"eventfd", side_open, side_run, side_close, 1};
