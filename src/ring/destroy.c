/* SPDX-License-Identifier: MIT */
/*
 * The end of a ring: unsend, cancel, drain, close; what the kernel keeps beyond the time limit goes
 * to the quarantine. Nothing that the kernel may still write to is freed here.
 */
#include "ring/ring.h"

#include <errno.h>

/* How long to rest when the kernel refuses to be entered. */
#define REFUSED_PAUSE_NS 1000000u

/* Nobody will read the outcome any more. */
static void disinherit(sr_ring *ring) {
    for (uint32_t i = 0; i < ring->ops.count_max; i++) {
        struct sri_op *op = &ring->ops.list[i];
        if (op->state != SRI_OP_FREE && (op->flags & SRI_OP_ABANDONED) == 0) {
            op->flags |= SRI_OP_ABANDONED | SRI_OP_CANCEL_ASKED;
            ring->ops.abandoned_count++;
            ring->bytes_quarantined += sri_op_lent_bytes(op);
        }
    }
}

/* SQEs that the kernel has not taken never happened. */
static void take_back_unsent(sr_ring *ring) {
    struct sri_queue *queue = &ring->queue;
    while (sri_queue_unsent(queue) > 0) {
        const struct io_uring_sqe *sqe = &queue->sqes[--queue->sq_tail & queue->sq_mask];
        struct sri_op *op = sri_op_find(&ring->ops, sqe->user_data);
        if (op != NULL) {
            sri_op_finish(ring, op, -ECANCELED);
        } else if (sqe->user_data == sri_internal_user_data(SRI_INTERNAL_WAKE)) {
            ring->wake_armed = false;
        }
    }
}

/* Operations that wait for room, and closes that wait for operations, are not in the kernel. */
static void end_waiting(sr_ring *ring) {
    ring->waiting_first = NULL;
    ring->waiting_last = &ring->waiting_first;
    for (uint32_t i = 0; i < ring->ops.count_max; i++) {
        struct sri_op *op = &ring->ops.list[i];
        if (op->state == SRI_OP_WAITING) {
            op->cold->waiting_next = NULL;
            sri_op_finish(ring, op, -ECANCELED);
        }
    }
}

static bool is_drained(const sr_ring *ring) {
    return sri_ops_in_use(&ring->ops) == 0 && !ring->wake_armed;
}

static void cancel_all(sr_ring *ring) {
    struct io_uring_sqe *sqe = sri_queue_next_sqe(&ring->queue);
    sri_sqe_cancel_all_to_uapi(sqe);
    sqe->user_data = sri_internal_user_data(SRI_INTERNAL_CANCEL);
    ring->stats.cancels_total++;
}

static void drain(sr_ring *ring) {
    const struct sri_backend *backend = ring->queue.backend;
    const uint64_t start_ns = backend->now_ns();
    uint64_t passed_ns = 0;
    do {
        const uint64_t left_ns = ring->drain_timeout_ns - passed_ns;
        const struct sri_wait wait = {
            .count_min = 1,
            .timeout_ns = left_ns < SRI_CANCEL_AGAIN_NS ? left_ns : SRI_CANCEL_AGAIN_NS,
        };
        if (!sri_queue_is_full(&ring->queue)) {
            cancel_all(ring); /* more than once: see SRI_CANCEL_AGAIN_NS */
        }
        const int code = sri_ring_enter(ring, &wait);
        if (code < 0 && code != -ETIME && code != -EINTR) {
            backend->pause(REFUSED_PAUSE_NS);
        }
        ring->completions_count = 0;
        sri_ring_reap(ring);
        passed_ns = backend->now_ns() - start_ns;
    } while (!is_drained(ring) && passed_ns < ring->drain_timeout_ns);
}

static void close_files(sr_ring *ring, enum sri_closer closer) {
    /* Where operations find their files late, those in flight keep them: sri_ring_close_late(). */
    const bool keep = ring->queue.finds_files_late && closer != SRI_CLOSER_CHILD;
    for (uint32_t i = 0; i < ring->files.count_max; i++) {
        struct sri_file *file = &ring->files.list[i];
        if (keep && file->op_count > 0) {
            continue;
        }
        /* A close that is with the kernel may have freed the number already; by now it may be
         * another's. */
        const bool kernel_closes =
            file->state == SRI_FILE_CLOSING && file->closer == NULL && closer != SRI_CLOSER_CHILD;
        if ((file->state == SRI_FILE_OPEN || file->state == SRI_FILE_CLOSING) && !kernel_closes) {
            (void)ring->queue.backend->fd_close(file->fd); /* nobody is there to hear of an error */
        }
    }
}

void sri_ring_close_late(sr_ring *ring) {
    for (uint32_t i = 0; ring->queue.finds_files_late && i < ring->files.count_max; i++) {
        const struct sri_file *file = &ring->files.list[i];
        if (file->op_count > 0) {
            (void)ring->queue.backend->fd_close(file->fd); /* nobody is there to hear of an error */
        }
    }
}

/* The child's copies only: the queue and the buffers were not inherited. */
static void destroy_in_child(sr_ring *ring) {
    close_files(ring, SRI_CLOSER_CHILD);
    sri_ring_let_pools_go(ring);
    ring->queue.backend->queue_close(&ring->queue, SRI_CLOSER_CHILD);
    sri_ring_free(ring);
}

static int destroy(sr_ring *ring, enum sri_closer closer) {
    ring->completions_count = 0;
    disinherit(ring);
    sri_ring_reap(ring);
    take_back_unsent(ring);
    end_waiting(ring);
    if (closer == SRI_CLOSER_OWNER && !is_drained(ring)) {
        drain(ring);
    }
    close_files(ring, closer);
    ring->queue.backend->queue_close(&ring->queue, closer);
    if (is_drained(ring) && closer == SRI_CLOSER_OWNER) {
        sri_ring_let_pools_go(ring);
        sri_ring_free(ring);
        return 0;
    }
    ring->magic = 0;
    sri_quarantine_add(ring); /* takes it: another thread may free it at once */
    return SR_E_IN_FLIGHT;
}

int sr_ring_destroy(sr_ring **ring) {
    if (ring == NULL) {
        return SRI_MISUSE(SR_E_OBJECT, 0);
    }
    sr_ring *const gone = *ring;
    if (gone == NULL) {
        return 0;
    }
    if (!sri_ring_is_valid(gone)) {
        return SRI_MISUSE(SR_E_OBJECT, 0);
    }
    if (sri_owner_is_forked(gone->owner_key)) {
        destroy_in_child(gone);
        *ring = NULL;
        return 0;
    }
    const bool owner = gone->owner_key == sri_owner_key();
    if (!owner && sri_owner_is_alive(gone->owner_key)) {
        return SRI_MISUSE(SR_E_WRONG_THREAD, 0);
    }
    if (gone->in_callback) {
        return SRI_MISUSE(SR_E_STATE, 0);
    }
    *ring = NULL;
    return destroy(gone, owner ? SRI_CLOSER_OWNER : SRI_CLOSER_OTHER);
}
