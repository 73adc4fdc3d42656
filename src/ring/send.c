/* SPDX-License-Identifier: MIT */
/* Towards the kernel: entering it, making room in the queue, and what waits for room. */
#include "ring/ring.h"

#include <errno.h>

/* Signals that may break a send in a row before the caller is told that the queue is full. */
#define INTERRUPTS_MAX 8u

int sri_ring_enter(sr_ring *ring, const struct sri_wait *wait) {
    const uint32_t unsent = sri_queue_unsent(&ring->queue);
    ring->stats.enters_total++;
    if (SRI_UNLIKELY((atomic_load_explicit(ring->queue.shared_sq_flags, memory_order_relaxed) &
                      IORING_SQ_CQ_OVERFLOW) != 0)) {
        ring->stats.cq_overflows_total++;
    }
    const int code = ring->queue.backend->queue_enter(&ring->queue, unsent, wait);
    if (SRI_UNLIKELY(code < 0)) {
        ring->stats.interrupted_total += code == -EINTR;
        ring->stats.busy_total += code == -EAGAIN || code == -EBUSY || code == -ENOMEM;
    } else if (SRI_UNLIKELY((uint32_t)code < unsent)) {
        ring->stats.partial_submits_total++;
    }
    return code;
}

bool sri_ring_send_full(sr_ring *ring) {
    ring->stats.sq_full_total++;
    int code = -EINTR;
    for (uint32_t i = 0; i < INTERRUPTS_MAX && code == -EINTR; i++) {
        code = sri_ring_enter(ring, NULL);
    }
    return !sri_queue_is_full(&ring->queue);
}

void sri_op_wait_for_room(sr_ring *ring, struct sri_op *op) {
    sri_op_move(op, SRI_OP_WAITING);
    sri_op_list_append(&ring->ops, &ring->waiting, op);
}

void sri_op_send_or_wait(sr_ring *ring, struct sri_op *op) {
    /* Nobody passes those that wait already. */
    if (ring->waiting.first == SRI_INDEX32_NONE && sri_ring_make_room(ring)) {
        if (op->state != SRI_OP_FLYING) {
            sri_op_move(op, SRI_OP_FLYING);
        }
        sri_op_send(ring, op);
    } else {
        sri_op_wait_for_room(ring, op);
    }
}

static void send_cancels(sr_ring *ring) {
    for (uint32_t i = 0; i < ring->ops.count_max && ring->cancels_unsent > 0; i++) {
        struct sri_op *op = &ring->ops.list[i];
        if (op->state == SRI_OP_FLYING && (op->flags & SRI_OP_CANCEL_UNSENT) != 0) {
            if (!sri_ring_make_room(ring)) {
                return;
            }
            op->flags &= (uint8_t)~SRI_OP_CANCEL_UNSENT;
            ring->cancels_unsent--;
            sri_op_send_cancel(ring, op);
        }
    }
}

void sri_ring_send_waiting(sr_ring *ring) {
    if (SRI_UNLIKELY(ring->cancels_unsent > 0)) {
        send_cancels(ring);
    }
    while (SRI_UNLIKELY(ring->waiting.first != SRI_INDEX32_NONE) &&
           ring->completions_count < ring->completions_max) {
        struct sri_op *op = &ring->ops.list[ring->waiting.first];
        if ((op->flags & SRI_OP_CANCEL_ASKED) != 0 && op->opcode != SR_OP_CLOSE) {
            sri_op_list_remove(&ring->ops, &ring->waiting, op);
            sri_op_finish(ring, op, -ECANCELED);
        } else if (sri_ring_make_room(ring)) {
            sri_op_list_remove(&ring->ops, &ring->waiting, op);
            sri_op_move(op, SRI_OP_FLYING);
            sri_op_send(ring, op);
        } else {
            return;
        }
    }
}
