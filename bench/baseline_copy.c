/* SPDX-License-Identifier: MIT */
/*
 * Copying files through plain liburing, by a state machine written for this one task: as many lanes
 * as files may be in flight, each taking one file after another: both opens at once, read, write,
 * both closes at once. Registered buffers; one enter sends all that the last one's completions have
 * led to, and waits.
 *
 * The second way of it links the write to the read in the kernel (IOSQE_IO_LINK).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline_copy.h"
#include "baseline.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum step { OPEN_SOURCE, OPEN_TARGET, READ, WRITE, CLOSE_SOURCE, CLOSE_TARGET, STEPS };

struct lane {
    uint32_t file;
    uint32_t pending; /* operations in flight */
    int source_fd;
    int target_fd;
    uint32_t bytes_done; /* of the transfer in flight */
    uint32_t bytes_read;
};

struct side {
    struct copy_ring base;
    struct lane *lanes;
    struct open_how source_how;
    struct open_how target_how;
    bool linked;
    uint32_t next_file; /* of the round */
    uint32_t file_count;
    uint32_t copied;
};

static void side_close(void *side) {
    struct side *self = side;

    copy_ring_close(&self->base);
    free(self->lanes);
    free(self);
}

static int open_any(const struct bench_setup *setup, bool linked, void **out_side,
                    struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    struct lane *lanes = calloc(setup->n, sizeof(*lanes));
    int status;

    if (self == NULL || lanes == NULL) {
        free(self);
        free(lanes);
        return bench_complain(BENCH_WRONG, "liburing: out of memory");
    }
    self->lanes = lanes;
    self->linked = linked;
    self->source_how.flags = O_RDONLY | O_CLOEXEC;
    self->target_how.flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC;
    self->target_how.mode = 0600;
    status = copy_ring_open(&self->base, setup, out_facts);
    if (status != BENCH_OK) {
        free(lanes);
        free(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    return open_any(setup, false, out_side, out_facts);
}

static int side_open_linked(const struct bench_setup *setup, void **out_side,
                            struct bench_facts *out_facts) {
    return open_any(setup, true, out_side, out_facts);
}

/* ---- what a lane asks for -------------------------------------------------------------------- */

/* At most two operations of a lane are in flight, and the queue has two places for each lane. */
static struct io_uring_sqe *next_sqe(struct side *self, struct lane *lane, enum step step) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&self->base.ring);

    if (sqe != NULL) {
        lane->pending++;
        io_uring_sqe_set_data64(sqe, (uint64_t)(lane - self->lanes) * STEPS + step);
    }
    return sqe;
}

static bool ask_open(struct side *self, struct lane *lane, enum step step, const char *path,
                     struct open_how *how) {
    struct io_uring_sqe *sqe = next_sqe(self, lane, step);

    if (sqe == NULL) {
        return false;
    }
    io_uring_prep_openat2(sqe, AT_FDCWD, path, how);
    return true;
}

static bool ask_close(struct side *self, struct lane *lane, enum step step, int fd) {
    struct io_uring_sqe *sqe = next_sqe(self, lane, step);

    if (sqe == NULL) {
        return false;
    }
    io_uring_prep_close(sqe, fd);
    return true;
}

/* All of a transfer, or what a short one has left over. */
static struct io_uring_sqe *ask_transfer(struct side *self, struct lane *lane, enum step step,
                                         uint32_t length) {
    unsigned char *memory = copy_ring_buffer(&self->base, (uint32_t)(lane - self->lanes));
    struct io_uring_sqe *sqe = next_sqe(self, lane, step);

    if (sqe == NULL) {
        return NULL;
    }
    if (step == READ) {
        io_uring_prep_read_fixed(sqe, lane->source_fd, memory + lane->bytes_done,
                                 length - lane->bytes_done, lane->bytes_done, 0);
    } else {
        io_uring_prep_write_fixed(sqe, lane->target_fd, memory + lane->bytes_done,
                                  length - lane->bytes_done, lane->bytes_done, 0);
    }
    return sqe;
}

static bool begin_transfers(struct side *self, struct lane *lane) {
    struct io_uring_sqe *sqe;

    lane->bytes_done = 0;
    sqe = ask_transfer(self, lane, READ, BENCH_TREE_FILE_BYTES);
    if (sqe == NULL || !self->linked) {
        return sqe != NULL;
    }
    sqe->flags |= IOSQE_IO_LINK;
    return ask_transfer(self, lane, WRITE, BENCH_TREE_FILE_BYTES) != NULL;
}

static bool begin_file(struct side *self, struct lane *lane) {
    if (self->next_file == self->file_count) {
        return true;
    }
    lane->file = self->next_file++;
    return ask_open(self, lane, OPEN_SOURCE, bench_tree_source(self->base.tree, lane->file),
                    &self->source_how) &&
           ask_open(self, lane, OPEN_TARGET, bench_tree_target(self->base.tree, lane->file),
                    &self->target_how);
}

static bool begin_closes(struct side *self, struct lane *lane) {
    return ask_close(self, lane, CLOSE_SOURCE, lane->source_fd) &&
           ask_close(self, lane, CLOSE_TARGET, lane->target_fd);
}

/* ---- what becomes of it ---------------------------------------------------------------------- */

static bool after_read(struct side *self, struct lane *lane, uint32_t count) {
    lane->bytes_done += count;
    if (lane->bytes_done < BENCH_TREE_FILE_BYTES) {
        return count > 0 && !self->linked &&
               ask_transfer(self, lane, READ, BENCH_TREE_FILE_BYTES) != NULL;
    }
    lane->bytes_read = lane->bytes_done;
    lane->bytes_done = 0;
    return self->linked || ask_transfer(self, lane, WRITE, lane->bytes_read) != NULL;
}

static bool after_write(struct side *self, struct lane *lane, uint32_t count) {
    lane->bytes_done += count;
    if (lane->bytes_done < lane->bytes_read) {
        return count > 0 && !self->linked &&
               ask_transfer(self, lane, WRITE, lane->bytes_read) != NULL;
    }
    return begin_closes(self, lane);
}

static bool after_close(struct side *self, struct lane *lane) {
    if (lane->pending > 0) {
        return true;
    }
    self->copied++;
    return begin_file(self, lane);
}

static int advance(struct side *self, uint64_t data, int result) {
    struct lane *lane = &self->lanes[data / STEPS];
    bool good = true;

    lane->pending--;
    if (result < 0) {
        return bench_complain(BENCH_WRONG, "liburing: step %u of a copy: %s",
                              (unsigned)(data % STEPS), strerror(-result));
    }
    switch ((enum step)(data % STEPS)) {
    case OPEN_SOURCE:
        lane->source_fd = result;
        good = lane->pending > 0 || begin_transfers(self, lane);
        break;
    case OPEN_TARGET:
        lane->target_fd = result;
        good = lane->pending > 0 || begin_transfers(self, lane);
        break;
    case READ:
        good = after_read(self, lane, (uint32_t)result);
        break;
    case WRITE:
        good = after_write(self, lane, (uint32_t)result);
        break;
    default:
        good = after_close(self, lane);
        break;
    }
    return good ? BENCH_OK
                : bench_complain(BENCH_WRONG, "liburing: a short transfer, or no place in the "
                                              "submission queue");
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

    self->next_file = 0;
    self->file_count = round->ops;
    self->copied = 0;
    for (uint32_t i = 0; i < self->base.n; i++) {
        if (!begin_file(self, &self->lanes[i])) {
            return bench_complain(BENCH_WRONG, "liburing: submission queue full");
        }
    }
    while (self->copied < self->file_count) {
        int status = reap(self);

        if (status != BENCH_OK) {
            return status;
        }
    }
    out_work->ops = self->copied;
    return BENCH_OK;
}

const struct bench_side bench_baseline_copy = {"liburing", side_open, side_run, side_close, 0};
const struct bench_side bench_baseline_copy_pair = {"pairs", side_open_linked, side_run, side_close,
                                                    0};
