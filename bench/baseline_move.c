/* SPDX-License-Identifier: MIT */
/* The baseline of share.move: a ring with registered files and memory is closed, and made again. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline_ring.h"
#include "move.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct side {
    struct io_uring ring;
    bool is_open;
    int fds[MOVE_FILES];
    char *memory;
};

static void close_ring(struct side *self) {
    if (self->is_open) {
        io_uring_queue_exit(&self->ring);
        self->is_open = false;
    }
}

static void side_close(void *side) {
    struct side *self = side;

    close_ring(self);
    for (int i = 0; i < MOVE_FILES; i++) {
        if (self->fds[i] >= 0) {
            close(self->fds[i]);
        }
    }
    if (self->memory != NULL) {
        munmap(self->memory, MOVE_BUFFERS * MOVE_BUFFER_BYTES);
    }
    free(self);
}

/* Tables of the sizes that safering has by default. */
static int open_ring(struct side *self, struct bench_facts *out_facts) {
    const struct iovec memory = {self->memory, MOVE_BUFFERS * MOVE_BUFFER_BYTES};
    const __u64 tag = 0;
    int code = baseline_ring_open(&self->ring, out_facts);

    if (code != BENCH_OK) {
        return code;
    }
    self->is_open = true;
    code = io_uring_register_files_sparse(&self->ring, 65);
    code = code < 0 ? code : io_uring_register_buffers_sparse(&self->ring, 80);
    for (unsigned int i = 0; i < MOVE_FILES && code >= 0; i++) {
        code = io_uring_register_files_update(&self->ring, 1 + i, &self->fds[i], 1);
    }
    code = code < 0 ? code : io_uring_register_buffers_update_tag(&self->ring, 0, &memory, &tag, 1);
    return code < 0
               ? bench_complain(BENCH_MISSING, "liburing: cannot register: %s", strerror(-code))
               : BENCH_OK;
}

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    int code;

    (void)setup;
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "liburing: out of memory");
    }
    self->memory = mmap(NULL, MOVE_BUFFERS * MOVE_BUFFER_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (self->memory == MAP_FAILED) {
        free(self);
        return bench_complain(BENCH_WRONG, "liburing: mmap: %s", strerror(errno));
    }
    for (int i = 0; i < MOVE_FILES; i++) {
        self->fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
    }
    code = open_ring(self, out_facts);
    if (code != BENCH_OK) {
        side_close(self);
        return code;
    }
    out_facts->buffers_registered = true;
    out_facts->file_fixed = true;
    *out_side = self;
    return BENCH_OK;
}

static int nop(struct side *self, uint64_t tag, struct bench_work *work) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&self->ring);
    struct io_uring_cqe *cqe;

    io_uring_prep_nop(sqe);
    sqe->user_data = tag;
    if (io_uring_submit_and_wait(&self->ring, 1) != 1 ||
        io_uring_peek_cqe(&self->ring, &cqe) != 0) {
        return bench_complain(BENCH_WRONG, "liburing: the new ring does not work");
    }
    work->checksum += cqe->user_data;
    work->ops++;
    io_uring_cqe_seen(&self->ring, cqe);
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    struct bench_facts facts;
    int code = BENCH_OK;

    for (uint32_t i = 0; i < round->ops && code == BENCH_OK; i++) {
        close_ring(self);
        code = open_ring(self, &facts);
        code = code == BENCH_OK ? nop(self, round->base + i, out_work) : code;
    }
    return code;
}

const struct bench_side bench_baseline_move = {"liburing", side_open, side_run, side_close, 0};
