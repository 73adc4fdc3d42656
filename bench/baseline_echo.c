/* SPDX-License-Identifier: MIT */
/*
 * An echo server on plain liburing: multishot receives out of a ring of provided buffers, answers
 * sent in batches, one enter for what is to be sent and what is waited for, fixed files. As
 * somebody would write it who knows that each descriptor stays open and each answer fits into the
 * socket.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline.h"
#include "baseline_ring.h"
#include "echo.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { GROUP = 0, KIND_RECEIVE = 0, KIND_SEND = 1 };

/* user_data: bytes to be sent, what it is, on which connection, and the buffer that is sent */
#define USER_DATA(kind, connection, buffer, bytes)                                                 \
    ((uint64_t)(bytes) << 32 | (uint64_t)(kind) << 31 | (uint64_t)(connection) << 16 |             \
     (uint64_t)(buffer))

struct side {
    struct echo_link link;
    struct io_uring ring;
    struct io_uring_buf_ring *buffers;
    unsigned char *memory;
    uint64_t answered_bytes;
};

static const size_t buffers_bytes = BENCH_ECHO_BUFFERS * sizeof(struct io_uring_buf);
static const size_t memory_bytes = (size_t)BENCH_ECHO_BUFFERS * BENCH_ECHO_BUFFER_BYTES;

static void side_close(void *side) {
    struct side *self = side;

    if (self->ring.ring_fd > 0) {
        io_uring_queue_exit(&self->ring);
    }
    if (self->memory != NULL) {
        munmap(self->memory, memory_bytes);
    }
    if (self->buffers != NULL) {
        munmap(self->buffers, buffers_bytes);
    }
    echo_close(&self->link);
    free(self);
}

static void *map_pages(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    return memory != MAP_FAILED ? memory : NULL;
}

static unsigned char *buffer_at(struct side *self, uint32_t id) {
    return self->memory + (size_t)id * BENCH_ECHO_BUFFER_BYTES;
}

/* @count: how many were provided since the kernel was last told */
static void provide(struct side *self, uint32_t id, int count) {
    io_uring_buf_ring_add(self->buffers, buffer_at(self, id), BENCH_ECHO_BUFFER_BYTES,
                          (unsigned short)id, io_uring_buf_ring_mask(BENCH_ECHO_BUFFERS), count);
}

static int open_buffers(struct side *self) {
    struct io_uring_buf_reg reg;
    int code;

    self->memory = map_pages(memory_bytes);
    self->buffers = map_pages(buffers_bytes);
    if (self->memory == NULL || self->buffers == NULL) {
        return bench_complain(BENCH_WRONG, "liburing: buffers: %s", strerror(errno));
    }
    memset(&reg, 0, sizeof(reg));
    reg.ring_addr = (uintptr_t)self->buffers;
    reg.ring_entries = BENCH_ECHO_BUFFERS;
    reg.bgid = GROUP;
    code = io_uring_register_buf_ring(&self->ring, &reg, 0);
    if (code != 0) {
        return bench_complain(BENCH_MISSING, "liburing: buffer ring: %s", strerror(-code));
    }
    io_uring_buf_ring_init(self->buffers);
    for (uint32_t id = 0; id < BENCH_ECHO_BUFFERS; id++) {
        provide(self, id, (int)id);
    }
    io_uring_buf_ring_advance(self->buffers, BENCH_ECHO_BUFFERS);
    return BENCH_OK;
}

static int receive(struct side *self, uint32_t connection) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&self->ring);

    if (sqe == NULL) {
        return bench_complain(BENCH_WRONG, "liburing: submission queue full");
    }
    io_uring_prep_recv_multishot(sqe, (int)connection, NULL, 0, 0);
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    sqe->buf_group = GROUP;
    io_uring_sqe_set_data64(sqe, USER_DATA(KIND_RECEIVE, connection, 0, 0));
    return BENCH_OK;
}

static int open_parts(struct side *self, struct bench_facts *out_facts) {
    int status = echo_open(&self->link);
    int code;

    if (status != BENCH_OK) {
        return status;
    }
    status = baseline_ring_open(&self->ring, out_facts);
    if (status != BENCH_OK) {
        self->ring.ring_fd = 0;
        return status;
    }
    code = io_uring_register_files(&self->ring, self->link.sockets, BENCH_ECHO_CONNECTIONS);
    if (code != 0) {
        return bench_complain(BENCH_MISSING, "liburing: registering files: %s", strerror(-code));
    }
    out_facts->file_fixed = true;
    status = open_buffers(self);
    for (uint32_t i = 0; i < BENCH_ECHO_CONNECTIONS && status == BENCH_OK; i++) {
        status = receive(self, i);
    }
    return status;
}

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    int status;

    (void)setup; /* connections and sizes are fixed */
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "liburing: out of memory");
    }
    self->link.control = -1;
    status = open_parts(self, out_facts);
    if (status != BENCH_OK) {
        side_close(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

static int answer(struct side *self, uint32_t connection, const struct io_uring_cqe *cqe) {
    uint32_t id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    struct io_uring_sqe *sqe;

    if (cqe->res <= 0 || (cqe->flags & IORING_CQE_F_BUFFER) == 0) {
        return bench_complain(BENCH_WRONG, "liburing: receive gave %d", cqe->res);
    }
    sqe = io_uring_get_sqe(&self->ring);
    if (sqe == NULL) {
        return bench_complain(BENCH_WRONG, "liburing: submission queue full");
    }
    io_uring_prep_send(sqe, (int)connection, buffer_at(self, id), (size_t)cqe->res, 0);
    sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data64(sqe, USER_DATA(KIND_SEND, connection, id, cqe->res));
    if ((cqe->flags & IORING_CQE_F_MORE) == 0) {
        return receive(self, connection);
    }
    return BENCH_OK;
}

static int take_all(struct side *self) {
    struct io_uring_cqe *cqe;
    unsigned head;
    unsigned seen = 0;
    int provided = 0;
    int status = BENCH_OK;

    io_uring_for_each_cqe(&self->ring, head, cqe) {
        uint64_t user_data = cqe->user_data;

        seen++;
        if ((user_data >> 31 & 1) == KIND_RECEIVE) {
            status = answer(self, (uint32_t)(user_data >> 16 & 0x7fff), cqe);
        } else if (cqe->res != (int32_t)(user_data >> 32)) {
            status = bench_complain(BENCH_WRONG, "liburing: send gave %d", cqe->res);
        } else {
            provide(self, (uint32_t)(user_data & 0xffff), provided++);
            self->answered_bytes += (uint32_t)cqe->res;
        }
        if (status != BENCH_OK) {
            return status;
        }
    }
    io_uring_cq_advance(&self->ring, seen);
    if (provided > 0) {
        io_uring_buf_ring_advance(self->buffers, provided);
    }
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    int status = echo_begin(&self->link, round);

    self->answered_bytes = 0;
    while (status == BENCH_OK && self->answered_bytes < self->link.due_bytes) {
        int code = io_uring_submit_and_wait(&self->ring, 1);

        if (code < 0 && code != -EINTR) {
            return bench_complain(BENCH_WRONG, "liburing: enter: %s", strerror(-code));
        }
        status = take_all(self);
    }
    return status == BENCH_OK ? echo_end(&self->link, out_work) : status;
}

const struct bench_side bench_baseline_echo = {"liburing", side_open, side_run, side_close, 1};
