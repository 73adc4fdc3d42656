/* SPDX-License-Identifier: MIT */
/*
 * Reads through plain liburing as somebody would write them who wants speed: registered buffers,
 * a registered file, one enter for the whole batch. As a pool does, one registration covers all
 * buffers.
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
#include <sys/mman.h>

struct side {
    struct io_uring ring;
    unsigned char *memory;
    size_t memory_bytes;
    uint64_t file_seed;
    uint32_t n;
};

static void side_close(void *side) {
    struct side *self = side;

    io_uring_queue_exit(&self->ring);
    munmap(self->memory, self->memory_bytes);
    free(self);
}

static int register_all(struct side *self, int fd) {
    struct iovec whole = {self->memory, self->memory_bytes};
    int code = io_uring_register_buffers(&self->ring, &whole, 1);

    if (code != 0) {
        return bench_complain(BENCH_MISSING, "liburing: registering buffers: %s", strerror(-code));
    }
    code = io_uring_register_files(&self->ring, &fd, 1);
    if (code != 0) {
        return bench_complain(BENCH_MISSING, "liburing: registering a file: %s", strerror(-code));
    }
    return BENCH_OK;
}

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    int status;

    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "liburing: out of memory");
    }
    self->n = setup->n;
    self->file_seed = setup->file_seed;
    self->memory_bytes = (size_t)setup->n * BENCH_BLOCK_BYTES;
    self->memory =
        mmap(NULL, self->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (self->memory == MAP_FAILED) {
        status = bench_complain(BENCH_WRONG, "liburing: buffers: %s", strerror(errno));
        free(self);
        return status;
    }
    status = baseline_ring_open(&self->ring, out_facts);
    if (status != BENCH_OK) {
        munmap(self->memory, self->memory_bytes);
        free(self);
        return status;
    }
    status = register_all(self, setup->fd);
    if (status != BENCH_OK) {
        side_close(self);
        return status;
    }
    out_facts->buffers_registered = true;
    out_facts->file_fixed = true;
    *out_side = self;
    return BENCH_OK;
}

static int run_batch(struct side *self, const struct bench_round *round, const uint32_t *blocks,
                     struct bench_work *work) {
    uint32_t done = 0;

    for (uint32_t i = 0; i < self->n; i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&self->ring);

        if (sqe == NULL) {
            return bench_complain(BENCH_WRONG, "liburing: submission queue full");
        }
        io_uring_prep_read_fixed(sqe, 0, self->memory + (size_t)i * BENCH_BLOCK_BYTES,
                                 BENCH_BLOCK_BYTES, (uint64_t)blocks[i] * BENCH_BLOCK_BYTES, 0);
        io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
        io_uring_sqe_set_data64(sqe, i);
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
            uint64_t i = cqe->user_data;

            if (cqe->res != BENCH_BLOCK_BYTES || i >= self->n) {
                return bench_complain(BENCH_WRONG, "liburing: read gave %d", cqe->res);
            }
            if (!bench_check_block(self->memory + i * BENCH_BLOCK_BYTES, self->file_seed, blocks[i],
                                   round->full, &work->checksum)) {
                return bench_complain(BENCH_WRONG, "liburing: wrong bytes");
            }
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
        int status = run_batch(self, round, round->blocks + i, out_work);

        if (status != BENCH_OK) {
            return status;
        }
    }
    return BENCH_OK;
}

const struct bench_side bench_baseline_read4k = {"liburing", side_open, side_run, side_close, 0};
