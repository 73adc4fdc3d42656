/* SPDX-License-Identifier: MIT */
/*
 * Ending operations early. A cancel is a request: ENOENT and EALREADY do not mean that the
 * operation is over (a FUSE read goes on to its end), so only its own terminal completion ends it.
 */
#include "ring/buffer_ring.h"
#include "ring/ring.h"

#include <errno.h>

void sri_op_send_cancel(sr_ring *ring, struct sri_op *op) {
    struct io_uring_sqe *sqe = sri_queue_next_sqe(&ring->queue);
    sri_sqe_cancel_to_uapi(sqe, op->handle);
    sqe->user_data = sri_internal_user_data(SRI_INTERNAL_CANCEL);
    ring->stats.cancels_total++;
}

void sri_op_ask_cancel(sr_ring *ring, struct sri_op *op, bool deadline) {
    if ((op->flags & SRI_OP_CANCEL_ASKED) != 0) {
        return;
    }
    /* A close that runs must not be cancelled half-way: the descriptor's fate would be unknown. One
     * that still waits for other operations goes on too: nobody could close the file otherwise. */
    if (op->opcode == SR_OP_CLOSE) {
        return;
    }
    op->flags |= SRI_OP_CANCEL_ASKED;
    sri_ring_trace(ring, SR_TRACE_CANCEL, op->handle, op->tag, deadline);
    if (op->state == SRI_OP_STARVED) {
        sri_buffer_ring_end_starving(ring, op);
        sri_op_wait_for_room(ring, op);
    }
    if (op->state == SRI_OP_WAITING) {
        return; /* not in the kernel: sri_ring_send_waiting() ends it */
    }
    if (sri_ring_make_room(ring)) {
        sri_op_send_cancel(ring, op);
    } else {
        op->flags |= SRI_OP_CANCEL_UNSENT;
        ring->cancels_unsent++;
    }
}

void sri_ring_cancel_again(sr_ring *ring) {
    ring->cancel_again_ns = 0; /* the answers set it anew */
    for (uint32_t i = 0; i < ring->ops.count_max; i++) {
        struct sri_op *op = &ring->ops.list[i];
        const unsigned int asked = op->flags & (SRI_OP_CANCEL_ASKED | SRI_OP_CANCEL_UNSENT);
        if (op->state == SRI_OP_FLYING && asked == SRI_OP_CANCEL_ASKED &&
            sri_ring_make_room(ring)) {
            sri_op_send_cancel(ring, op);
        }
    }
}

void sri_ring_fire_deadlines(sr_ring *ring, uint64_t now_ns) {
    for (;;) {
        struct sri_heap_item *first = sri_heap_first(&ring->deadlines);
        if (first == NULL || first->key > now_ns) {
            return;
        }
        struct sri_op_cold *cold = SRI_CONTAINER_OF(first, struct sri_op_cold, deadline);
        struct sri_op *op = &ring->ops.list[cold->op_index];
        sri_heap_remove(&ring->deadlines, first);
        op->flags |= SRI_OP_DEADLINE_HIT;
        ring->stats.deadlines_hit_total++;
        sri_op_ask_cancel(ring, op, true);
    }
}

/* ---- public -----------------------------------------------------------------------------------
 */

/* An operation that still has an outcome to give, or NULL. */
static struct sri_op *op_for_caller(sr_ring *ring, sr_op handle) {
    struct sri_op *op = sri_op_find(&ring->ops, handle.bits);
    return op != NULL && (op->flags & SRI_OP_ABANDONED) == 0 ? op : NULL;
}

int sr_op_cancel(sr_ring *ring, sr_op op) {
    const int code = sri_ring_check(ring);
    if (code < 0) {
        return SRI_MISUSE(code, op.bits);
    }
    struct sri_op *found = op_for_caller(ring, op);
    if (found == NULL) {
        /* Losing the race against the completion is not misuse, and looks the same. */
        return SR_E_STALE;
    }
    sri_op_ask_cancel(ring, found, false);
    return 0;
}

void sri_op_quarantine_loans(sr_ring *ring, struct sri_op *op) {
    if (op->pool != SRI_POOL_NONE) {
        sri_loan_quarantine(ring->pools[op->pool].pool, &op->loan);
    }
    const struct sri_op_vector *vector = op->cold != NULL ? op->cold->vector : NULL;
    for (uint32_t i = 0; vector != NULL && i < vector->count; i++) {
        sri_loan_quarantine(ring->pools[vector->slices[i].pool].pool, &vector->slices[i].loan);
    }
}

int sr_op_abandon(sr_ring *ring, sr_op op, sr_completion *out_completion) {
    if (out_completion != NULL) {
        *out_completion = (sr_completion){0};
    }
    const int code = sri_ring_check(ring);
    if (code < 0) {
        return SRI_MISUSE(code, op.bits);
    }
    struct sri_op *found = op_for_caller(ring, op);
    if (found == NULL) {
        return SR_E_STALE;
    }
    if (out_completion != NULL) {
        sri_op_describe(ring, found, SR_E_TIMEOUT, out_completion);
    }
    sri_op_ask_cancel(ring, found, false);
    found->flags |= SRI_OP_ABANDONED;
    ring->ops.abandoned_count++;
    ring->stats.abandoned_total++;
    sri_op_quarantine_loans(ring, found);
    ring->bytes_quarantined += sri_op_lent_bytes(found);
    sri_ring_trace(ring, SR_TRACE_COMPLETE, found->handle, found->tag, SR_E_TIMEOUT);
    return 0;
}
