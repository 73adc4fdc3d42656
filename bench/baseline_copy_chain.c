/* SPDX-License-Identifier: MIT */
/*
 * Copying files with as much as io_uring can be told beforehand: the six operations of a file are
 * one chain (IOSQE_IO_LINK), and the files are opened into slots of the ring's table, so that the
 * later members of the chain can name what the first ones bring. A program learns nothing between
 * the first operation and the last one, and a short read ends the chain; here that is an error.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline.h"
#include "baseline_copy.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum step { OPEN_SOURCE, OPEN_TARGET, READ, WRITE, CLOSE_SOURCE, CLOSE_TARGET, STEPS };

struct side {
    struct copy_ring base;
    struct open_how source_how;
    struct open_how target_how;
    uint32_t next_file; /* of the round */
    uint32_t file_count;
    uint32_t copied;
};

static void side_close(void *side) {
    struct side *self = side;

    copy_ring_close(&self->base);
    free(self);
}

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    int status;
    int code;

    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "liburing: out of memory");
    }
    self->source_how.flags = O_RDONLY; /* a slot has no O_CLOEXEC */
    self->target_how.flags = O_WRONLY | O_CREAT | O_TRUNC;
    self->target_how.mode = 0600;
    status = copy_ring_open(&self->base, setup, out_facts);
    if (status != BENCH_OK) {
        free(self);
        return status;
    }
    code = io_uring_register_files_sparse(&self->base.ring, 2 * setup->n);
    if (code != 0) {
        side_close(self);
        return bench_complain(BENCH_MISSING, "liburing: registering slots for files: %s",
                              strerror(-code));
    }
    *out_side = self;
    return BENCH_OK;
}

static void prepare(struct side *self, struct io_uring_sqe *sqe, uint32_t lane, uint32_t file,
                    enum step step) {
    unsigned char *memory = copy_ring_buffer(&self->base, lane);
    unsigned source_slot = 2 * lane;
    unsigned target_slot = 2 * lane + 1;

    switch (step) {
    case OPEN_SOURCE:
        io_uring_prep_openat2_direct(sqe, AT_FDCWD, bench_tree_source(self->base.tree, file),
                                     &self->source_how, source_slot);
        break;
    case OPEN_TARGET:
        io_uring_prep_openat2_direct(sqe, AT_FDCWD, bench_tree_target(self->base.tree, file),
                                     &self->target_how, target_slot);
        break;
    case READ:
        io_uring_prep_read_fixed(sqe, (int)source_slot, memory, BENCH_TREE_FILE_BYTES, 0, 0);
        sqe->flags |= IOSQE_FIXED_FILE;
        break;
    case WRITE:
        io_uring_prep_write_fixed(sqe, (int)target_slot, memory, BENCH_TREE_FILE_BYTES, 0, 0);
        sqe->flags |= IOSQE_FIXED_FILE;
        break;
    default:
        io_uring_prep_close_direct(sqe, step == CLOSE_SOURCE ? source_slot : target_slot);
        break;
    }
    if (step != CLOSE_TARGET) {
        sqe->flags |= IOSQE_IO_LINK;
    }
    io_uring_sqe_set_data64(sqe, (uint64_t)lane * STEPS + step);
}

/* A chain must be sent whole. */
static int begin_file(struct side *self, uint32_t lane) {
    if (self->next_file == self->file_count) {
        return BENCH_OK;
    }
    if (io_uring_sq_space_left(&self->base.ring) < STEPS) {
        int code = io_uring_submit(&self->base.ring);

        if (code < 0) {
            return bench_complain(BENCH_WRONG, "liburing: enter: %s", strerror(-code));
        }
    }
    for (int step = OPEN_SOURCE; step < STEPS; step++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&self->base.ring);

        if (sqe == NULL) {
            return bench_complain(BENCH_WRONG, "liburing: submission queue full");
        }
        prepare(self, sqe, lane, self->next_file, (enum step)step);
    }
    self->next_file++;
    return BENCH_OK;
}

static int advance(struct side *self, uint64_t data, int result) {
    enum step step = (enum step)(data % STEPS);
    bool transfers = step == READ || step == WRITE;

    if (result < 0 || (transfers && result != BENCH_TREE_FILE_BYTES)) {
        return bench_complain(BENCH_WRONG, "liburing: step %u of a copy gave %d", (unsigned)step,
                              result);
    }
    if (step != CLOSE_TARGET) {
        return BENCH_OK;
    }
    self->copied++;
    return begin_file(self, (uint32_t)(data / STEPS));
}

static int reap(struct side *self) {
    struct io_uring_cqe *cqe;
    unsigned head;
    unsigned seen = 0;
    int code = io_uring_submit_and_wait(&self->base.ring, 1);

    if (code < 0) {
        return bench_complain(BENCH_WRONG, "liburing: enter: %s", strerror(-code));
    }
    io_uring_for_each_cqe(&self->base.ring, head, cqe) {
        int status = advance(self, cqe->user_data, cqe->res);

        if (status != BENCH_OK) {
            return status;
        }
        seen++;
    }
    io_uring_cq_advance(&self->base.ring, seen);
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    int status = BENCH_OK;

    self->next_file = 0;
    self->file_count = round->ops;
    self->copied = 0;
    for (uint32_t lane = 0; lane < self->base.n && status == BENCH_OK; lane++) {
        status = begin_file(self, lane);
    }
    while (status == BENCH_OK && self->copied < self->file_count) {
        status = reap(self);
    }
    out_work->ops = self->copied;
    return status;
}

const struct bench_side bench_baseline_copy_chain = {"chains", side_open, side_run, side_close, 0};
