/* SPDX-License-Identifier: MIT */
#include "ring/armed.h"

#include "ring/buffer_ring.h"

#include <errno.h>

void sri_op_arm(sr_ring *ring, struct sri_op *op, const sr_request *request) {
    op->armed = (struct sri_armed){
        .buffer_ring = (op->flags & SRI_OP_SELECTS) != 0 ? request->buffer_ring : NULL,
        .op_flags = request->op == SR_OP_POLL ? request->mask : request->op_flags,
        .next = SRI_INDEX32_NONE,
    };
    if (op->armed.buffer_ring != NULL) {
        op->armed.buffer_ring->op_count++;
    }
    if ((op->flags & SRI_OP_MULTISHOT) != 0) {
        ring->ops.armed_count++;
        sri_ops_bound(&ring->ops);
    }
}

void sri_op_disarm(sr_ring *ring, const struct sri_op *op) {
    if ((op->flags & SRI_OP_SELECTS) != 0) {
        sri_buffer_ring_op_ended(op->armed.buffer_ring);
    }
    if ((op->flags & SRI_OP_MULTISHOT) != 0) {
        ring->ops.armed_count--;
        sri_ops_bound(&ring->ops);
    }
}

static void receive_buffer(sr_ring *ring, const struct sri_op *op, const struct sri_cqe *cqe,
                           struct sri_arrival *arrival) {
    sr_buffer_ring *buffer_ring = op->armed.buffer_ring;
    const uint32_t written = cqe->result > 0 ? (uint32_t)cqe->result : 0;
    arrival->buffer =
        sri_buffer_ring_take(buffer_ring, cqe->flags >> IORING_CQE_BUFFER_SHIFT, written);
    const bool unread = (op->flags & SRI_OP_ABANDONED) != 0;
    if (arrival->buffer.bits != 0 && (written == 0 || unread)) {
        const int code = sri_buffer_ring_put(buffer_ring, arrival->buffer);
        SR_CHECK(code == 0 || code == SR_E_OVERRUN);
        arrival->buffer.bits = 0;
    }
    ring->stats.messages_lost_total += unread && written > 0;
}

static void receive_connection(sr_ring *ring, const struct sri_op *op, int fd,
                               struct sri_arrival *arrival) {
    const bool unread = (op->flags & SRI_OP_ABANDONED) != 0;
    struct sri_file *file = unread ? NULL : sri_file_reserve(&ring->files);
    if (file == NULL) {
        sri_ring_drop_fd(ring, fd);
        arrival->result = SR_E_FULL;
        return;
    }
    sri_file_open(&ring->files, file, fd, SRI_FD_SOCKET);
    arrival->file.bits = file->handle;
    arrival->result = 0;
}

static struct sri_arrival receive(sr_ring *ring, const struct sri_op *op,
                                  const struct sri_cqe *cqe) {
    struct sri_arrival arrival = {.result = cqe->result};
    if (op->opcode == SR_OP_ACCEPT && cqe->result >= 0) {
        receive_connection(ring, op, cqe->result, &arrival);
    } else if (op->opcode == SR_OP_RECV && (cqe->flags & IORING_CQE_F_BUFFER) != 0) {
        receive_buffer(ring, op, cqe, &arrival);
    }
    return arrival;
}

/* Whether an operation that the kernel has ended is to go on. */
static bool goes_on(const struct sri_op *op, int32_t result) {
    if ((op->flags & SRI_OP_MULTISHOT) == 0 || (op->flags & SRI_OP_CANCEL_ASKED) != 0) {
        return false;
    }
    return result > 0 || (result == 0 && op->opcode == SR_OP_ACCEPT);
}

void sri_armed_take(sr_ring *ring, struct sri_op *op, const struct sri_cqe *cqe) {
    const bool more = (cqe->flags & IORING_CQE_F_MORE) != 0;
    const bool no_buffer = cqe->result == -ENOBUFS && (op->flags & SRI_OP_SELECTS) != 0;
    if (no_buffer && !more) {
        if ((op->flags & SRI_OP_CANCEL_ASKED) != 0) {
            sri_op_finish(ring, op, -ECANCELED);
        } else {
            sri_buffer_ring_starve(ring, op);
        }
        return;
    }
    const struct sri_arrival arrival = receive(ring, op, cqe);
    const bool again = !more && goes_on(op, cqe->result);
    if (again) {
        /* Before the callback runs: a cancel in there must come behind it. */
        ring->stats.rearmed_total++;
        sri_op_send_or_wait(ring, op);
    }
    sri_op_arrived(ring, op, &arrival, more || again);
}
