/* SPDX-License-Identifier: MIT */
/*
 * Reads as liburing's own examples do them: a ring without flags, get an entry, prepare it, submit
 * it, wait for it, mark it seen. Nothing is registered.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline.h"
#include "work.h"
#include <liburing.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRIES = 128 };

struct side {
    struct io_uring ring;
    unsigned char *memory;
    uint64_t file_seed;
    uint32_t n;
    int fd;
};

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    int code;

    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "liburing: out of memory");
    }
    self->n = setup->n;
    self->fd = setup->fd;
    self->file_seed = setup->file_seed;
    self->memory = aligned_alloc(BENCH_BLOCK_BYTES, (size_t)setup->n * BENCH_BLOCK_BYTES);
    if (self->memory == NULL) {
        free(self);
        return bench_complain(BENCH_WRONG, "liburing: out of memory");
    }
    code = io_uring_queue_init(ENTRIES, &self->ring, 0);
    if (code < 0) {
        free(self->memory);
        free(self);
        return bench_complain(BENCH_MISSING, "liburing: no ring here: %s", strerror(-code));
    }
    out_facts->ring = true;
    out_facts->setup_flags = self->ring.flags;
    *out_side = self;
    return BENCH_OK;
}

static int read_one(struct side *self, const struct bench_round *round, uint32_t op,
                    struct bench_work *work) {
    uint32_t block = round->blocks[op];
    /* The same buffers are used in the same turn as on the other side. */
    unsigned char *buffer = self->memory + (size_t)(op % self->n) * BENCH_BLOCK_BYTES;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&self->ring);
    struct io_uring_cqe *cqe;
    int code;

    if (sqe == NULL) {
        return bench_complain(BENCH_WRONG, "liburing: submission queue full");
    }
    io_uring_prep_read(sqe, self->fd, buffer, BENCH_BLOCK_BYTES,
                       (uint64_t)block * BENCH_BLOCK_BYTES);
    io_uring_sqe_set_data64(sqe, op);
    code = io_uring_submit(&self->ring);
    if (code != 1) {
        return bench_complain(BENCH_WRONG, "liburing: submit gave %d", code);
    }
    code = io_uring_wait_cqe(&self->ring, &cqe);
    if (code != 0) {
        return bench_complain(BENCH_WRONG, "liburing: wait: %s", strerror(-code));
    }
    if (cqe->res != BENCH_BLOCK_BYTES || cqe->user_data != op) {
        return bench_complain(BENCH_WRONG, "liburing: read gave %d", cqe->res);
    }
    io_uring_cqe_seen(&self->ring, cqe);
    if (!bench_check_block(buffer, self->file_seed, block, round->full, &work->checksum)) {
        return bench_complain(BENCH_WRONG, "liburing: wrong bytes");
    }
    work->ops++;
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    for (uint32_t i = 0; i < round->ops; i++) {
        int status = read_one(side, round, i, out_work);

        if (status != BENCH_OK) {
            return status;
        }
    }
    return BENCH_OK;
}

static void side_close(void *side) {
    struct side *self = side;

    io_uring_queue_exit(&self->ring);
    free(self->memory);
    free(self);
}

const struct bench_side bench_baseline_read4k_default = {"liburing", side_open, side_run,
                                                         side_close, 0};
