/* SPDX-License-Identifier: MIT */
#include "support/raw.h"

#include "ring/ring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Newer than liburing 2.3's header (include/uapi/linux/io_uring.h of Linux 6.12). */
#define NOP_INJECT_RESULT 1u

const char *raw_sender_open(struct raw_sender *out_sender) {
    const int code = io_uring_queue_init(4, &out_sender->uring, 0);
    out_sender->is_open = code == 0;
    if (code < 0 && code != -EPERM && code != -ENOSYS) {
        static char text[96];
        (void)snprintf(text, sizeof text, "no second ring: %s", strerror(-code));
        return text;
    }
    return NULL;
}

void raw_sender_close(struct raw_sender *sender) {
    if (sender->is_open) {
        io_uring_queue_exit(&sender->uring);
    }
}

/* Runs the SQE that was just filled, and returns its result. */
static int run_one(struct raw_sender *sender) {
    struct io_uring_cqe *cqe = NULL;
    int code = io_uring_submit_and_wait(&sender->uring, 1);
    if (code == 1) {
        code = io_uring_wait_cqe(&sender->uring, &cqe);
    }
    if (cqe == NULL) {
        fprintf(stderr, "raw: the sender's ring does not work: %d\n", code);
        abort();
    }
    code = cqe->res;
    io_uring_cqe_seen(&sender->uring, cqe);
    return code;
}

static int write_cqe(struct sri_queue *queue, uint64_t user_data, int32_t result,
                     uint32_t cqe_flags) {
    const uint32_t tail = atomic_load(queue->shared_cq_tail);
    struct io_uring_cqe *cqe = &queue->cqes[tail & queue->cq_mask];
    cqe->user_data = user_data;
    cqe->res = result;
    cqe->flags = cqe_flags;
    atomic_store(queue->shared_cq_tail, tail + 1);
    return 0;
}

int raw_send(struct raw_sender *sender, sr_ring *ring, uint64_t user_data, int32_t result,
             uint32_t cqe_flags) {
    if (ring->queue.kind == SRI_BACKEND_FALLBACK) {
        return write_cqe(&ring->queue, user_data, result, cqe_flags);
    }
    const struct io_uring *target = ring->queue.state;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&sender->uring);
    io_uring_prep_msg_ring(sqe, target->ring_fd, (unsigned int)result, user_data, 0);
    if (cqe_flags != 0) {
        sqe->msg_ring_flags = 2u; /* IORING_MSG_RING_FLAGS_PASS, Linux 6.3 */
        sqe->file_index = cqe_flags;
    }
    return run_one(sender);
}

const char *raw_nop_can_inject(struct raw_sender *sender) {
    if (!sender->is_open) {
        return NULL; /* the fallback's can */
    }
    struct io_uring_sqe *sqe = io_uring_get_sqe(&sender->uring);
    io_uring_prep_nop(sqe);
    sqe->rw_flags = NOP_INJECT_RESULT; /* nop_flags */
    sqe->len = 42;
    return run_one(sender) == 42 ? NULL
                                 : "the kernel's NOP brings no result of choice (before 6.12)";
}

void raw_nop(sr_ring *ring, uint64_t user_data, int32_t result) {
    struct sri_queue *queue = &ring->queue;
    if (sri_queue_is_full(queue)) {
        fprintf(stderr, "raw_nop: the queue is full\n");
        abort();
    }
    struct io_uring_sqe *sqe = sri_queue_next_sqe(queue);
    sqe->opcode = IORING_OP_NOP;
    sqe->fd = -1;
    sqe->user_data = user_data;
    if (result != 0) {
        sqe->rw_flags = NOP_INJECT_RESULT;
        sqe->len = (uint32_t)result;
    }
}

void raw_post(sr_ring *ring) {
    const struct sri_wait look = {.count_min = 0, .timeout_ns = 0};
    const int code = ring->queue.backend->queue_enter(&ring->queue, 0, &look);
    if (code < 0 && code != -ETIME) {
        fprintf(stderr, "raw_post: %s\n", strerror(-code));
        abort();
    }
}
