/* SPDX-License-Identifier: MIT */
/*
 * A message to another process by way of a thread that has a ring, by hand: the calling thread
 * writes an eventfd, of which the other thread's ring has a read in flight, and sleeps in a futex.
 * The other thread sends the bytes on by its ring, receives what comes back, copies it to where the
 * first one wants it, and wakes that.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline.h"
#include "baseline_ring.h"
#include "ipc.h"
#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BELL = 1, SENT, RECEIVED };

struct side {
    struct io_uring ring; /* the partner's */
    bool open;
    int bell;
    uint64_t bell_count; /* what the read of it brings */
    struct bench_ipc_peer peer;
    struct bench_partner *partner;
    uint32_t size;
    unsigned char *call;   /* the calling thread's */
    unsigned char *answer; /* its place for what comes back */
    unsigned char *sent;   /* the partner's copies */
    unsigned char *received;
    uint32_t ops;
    _Atomic uint32_t answered;
};

/* ---- the thread with the ring ----------------------------------------------------------------
 */

static int relay_open(void *argument) {
    struct side *self = argument;
    struct bench_facts facts;
    int status = baseline_ring_open(&self->ring, &facts);

    self->open = status == BENCH_OK;
    if (status == BENCH_OK) {
        status = bench_ipc_start(BENCH_IPC_BARE, BENCH_IPC_ANY_CPU, self->size, &self->peer);
    }
    bench_pin(1);
    return status;
}

static int relay_close(void *argument) {
    struct side *self = argument;

    bench_ipc_stop(&self->peer);
    if (self->open) {
        io_uring_queue_exit(&self->ring);
    }
    return BENCH_OK;
}

static void read_bell(struct side *self) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&self->ring);

    io_uring_prep_read(sqe, self->bell, &self->bell_count, sizeof(self->bell_count), 0);
    io_uring_sqe_set_data64(sqe, BELL);
}

/* Sends the call on, and asks for what will come back. */
static void send_on(struct side *self) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&self->ring);

    memcpy(self->sent, self->call, self->size);
    io_uring_prep_send(sqe, self->peer.socket, self->sent, self->size, MSG_NOSIGNAL);
    io_uring_sqe_set_data64(sqe, SENT);
    sqe = io_uring_get_sqe(&self->ring);
    io_uring_prep_recv(sqe, self->peer.socket, self->received, self->size, MSG_WAITALL);
    io_uring_sqe_set_data64(sqe, RECEIVED);
}

static void give_back(struct side *self) {
    memcpy(self->answer, self->received, self->size);
    atomic_fetch_add_explicit(&self->answered, 1, memory_order_release);
    (void)syscall(SYS_futex, &self->answered, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static int relay_run(void *argument) {
    struct side *self = argument;

    read_bell(self);
    for (uint32_t done = 0; done < self->ops;) {
        struct io_uring_cqe *cqe;
        const int code = io_uring_submit_and_wait(&self->ring, 1);

        if (code < 0 && code != -EINTR) {
            return bench_complain(BENCH_WRONG, "liburing: %s", strerror(-code));
        }
        while (io_uring_peek_cqe(&self->ring, &cqe) == 0) {
            const uint64_t what = io_uring_cqe_get_data64(cqe);
            const bool right = cqe->res == (int)(what == BELL ? sizeof(uint64_t) : self->size);

            io_uring_cqe_seen(&self->ring, cqe);
            if (!right) {
                return bench_complain(BENCH_WRONG, "liburing: a short transfer");
            }
            if (what == BELL) {
                send_on(self);
            } else if (what == RECEIVED) {
                done++;
                if (done < self->ops) {
                    read_bell(self);
                }
                give_back(self);
            }
        }
    }
    return BENCH_OK;
}

/* ---- the thread that calls -------------------------------------------------------------------
 */

static void side_close(void *side) {
    struct side *self = side;

    if (self->partner != NULL) {
        bench_partner_begin(self->partner, relay_close, self);
        (void)bench_partner_wait(self->partner);
    }
    bench_partner_close(self->partner);
    if (self->bell >= 0) {
        (void)close(self->bell);
    }
    free(self->call);
    free(self->answer);
    free(self->sent);
    free(self->received);
    free(self);
}

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    int status;

    (void)out_facts;
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "liburing: out of memory");
    }
    self->size = setup->size;
    self->peer.socket = -1;
    self->call = calloc(1, setup->size);
    self->answer = calloc(1, setup->size);
    self->sent = calloc(1, setup->size);
    self->received = calloc(1, setup->size);
    self->bell = eventfd(0, EFD_CLOEXEC);
    status = self->call != NULL && self->answer != NULL && self->sent != NULL &&
                     self->received != NULL && self->bell >= 0
                 ? bench_partner_open(&self->partner)
                 : bench_complain(BENCH_WRONG, "liburing: no memory or no eventfd");
    if (status == BENCH_OK) {
        bench_partner_begin(self->partner, relay_open, self);
        status = bench_partner_wait(self->partner);
    }
    if (status != BENCH_OK) {
        side_close(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

static int call_and_wait(struct side *self, uint32_t before) {
    const uint64_t one = 1;

    if (write(self->bell, &one, sizeof(one)) != (ssize_t)sizeof(one)) {
        return bench_complain(BENCH_WRONG, "liburing: write: %s", strerror(errno));
    }
    while (atomic_load_explicit(&self->answered, memory_order_acquire) == before) {
        (void)syscall(SYS_futex, &self->answered, FUTEX_WAIT_PRIVATE, before, NULL, NULL, 0);
    }
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;

    self->ops = round->ops;
    bench_partner_begin(self->partner, relay_run, self);
    for (uint32_t i = 0; i < round->ops; i++) {
        int status;

        bench_ipc_fill(self->call, self->size, round->base + i);
        status = call_and_wait(self, atomic_load_explicit(&self->answered, memory_order_relaxed));
        if (status != BENCH_OK) {
            return status;
        }
        out_work->checksum += bench_ipc_value(self->answer, self->size);
        out_work->ops++;
    }
    return bench_partner_wait(self->partner);
}

const struct bench_side bench_baseline_relay = {"liburing", side_open, side_run, side_close, 1};
