/* SPDX-License-Identifier: MIT */
/*
 * The end of a ring: unsend, cancel, drain, close; what the kernel keeps beyond the time limit goes
 * to the quarantine. Nothing that the kernel may still write to is freed here.
 *
 * A ring that still has opens in the kernel lingers there with its queue open: only a completion
 * tells which descriptor is to be closed, and only the owner thread can take it.
 */
#include "ring/buffer_ring.h"
#include "ring/ring.h"

#include <errno.h>

/* How long to rest when the kernel refuses to be entered. */
#define REFUSED_PAUSE_NS 1000000u

/* Nobody will read the outcome any more. */
static void disinherit(sr_ring *ring) {
    for (uint32_t i = 0; i < ring->ops.count_max; i++) {
        struct sri_op *op = &ring->ops.list[i];
        if (op->state != SRI_OP_FREE && (op->flags & SRI_OP_ABANDONED) == 0) {
            op->flags |= SRI_OP_ABANDONED;
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

/* Operations that wait, for room, other operations or buffers, are not in the kernel. */
static void end_waiting(sr_ring *ring) {
    ring->waiting.first = SRI_INDEX32_NONE;
    sri_buffer_rings_forget_starved(ring);
    for (uint32_t i = 0; i < ring->ops.count_max; i++) {
        struct sri_op *op = &ring->ops.list[i];
        if (op->state == SRI_OP_WAITING || op->state == SRI_OP_STARVED) {
            *sri_op_next(op) = SRI_INDEX32_NONE;
            sri_op_finish(ring, op, -ECANCELED);
        }
    }
}

static bool is_drained(const sr_ring *ring) {
    return sri_ops_in_use(&ring->ops) == 0 && !ring->wake_armed;
}

/* One by one: a single request to cancel everything costs the kernel the square of what is in
 * flight (io_uring/cancel.c looks from the start for each), minutes for 65,536 receives. */
static void ask_cancels(sr_ring *ring) {
    for (uint32_t i = 0; i < ring->ops.count_max; i++) {
        struct sri_op *op = &ring->ops.list[i];
        /* Also what was asked before: that request may be among those that were taken back. */
        const bool unsent = (op->flags & SRI_OP_CANCEL_UNSENT) != 0;
        if (op->state == SRI_OP_FLYING && !unsent && op->opcode != SR_OP_CLOSE) {
            op->flags |= SRI_OP_CANCEL_ASKED | SRI_OP_CANCEL_UNSENT;
            ring->cancels_unsent++;
        }
    }
}

void sri_ring_cancel_wake(sr_ring *ring) {
    if (ring->wake_armed && sri_ring_make_room(ring)) {
        struct io_uring_sqe *sqe = sri_queue_next_sqe(&ring->queue);
        sri_sqe_cancel_to_uapi(sqe, sri_internal_user_data(SRI_INTERNAL_WAKE));
        sqe->user_data = sri_internal_user_data(SRI_INTERNAL_CANCEL);
    }
}

/* Asks for the end of everything, waits at most @timeout_ns for something to end, and takes it. */
static void drain_step(sr_ring *ring, uint64_t timeout_ns) {
    const struct sri_wait wait = {.count_min = timeout_ns > 0, .timeout_ns = timeout_ns};
    ring->completions_count = 0;
    sri_ring_send_waiting(ring);
    if (ring->cancel_again_ns != 0 && ring->cancel_again_ns <= ring->queue.backend->now_ns()) {
        sri_ring_cancel_again(ring);
    }
    const int code = sri_ring_enter(ring, &wait);
    if (code < 0 && code != -ETIME && code != -EINTR && timeout_ns > 0) {
        ring->queue.backend->pause(REFUSED_PAUSE_NS);
    }
    ring->completions_count = 0;
    sri_ring_reap(ring);
}

static void drain(sr_ring *ring) {
    const struct sri_backend *backend = ring->queue.backend;
    ask_cancels(ring);
    sri_ring_cancel_wake(ring);
    const uint64_t start_ns = backend->now_ns();
    uint64_t passed_ns = 0;
    do {
        const uint64_t left_ns = ring->drain_timeout_ns - passed_ns;
        drain_step(ring, left_ns < SRI_CANCEL_AGAIN_NS ? left_ns : SRI_CANCEL_AGAIN_NS);
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
        const bool kernel_closes = file->state == SRI_FILE_CLOSING && file->closer == NULL &&
                                   !file->dropped && closer != SRI_CLOSER_CHILD;
        if ((file->state == SRI_FILE_OPEN || file->state == SRI_FILE_CLOSING) && !kernel_closes) {
            if (closer != SRI_CLOSER_CHILD) {
                sri_file_shut_down(ring, file);
            }
            (void)ring->queue.backend->fd_close(file->fd); /* nobody is there to hear of an error */
            /* From now on it looks like one that the kernel has closed. */
            file->closer = NULL;
            file->dropped = false;
            if (file->state == SRI_FILE_OPEN) {
                sri_file_move(file, SRI_FILE_CLOSING);
            }
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
    sri_buffer_rings_end(ring);
    sri_ring_let_pools_go(ring);
    if (!ring->released) {
        ring->queue.backend->queue_close(&ring->queue, SRI_CLOSER_CHILD);
    }
    sri_ring_free(ring);
}

/* Between two owners: there is no queue, and nothing is in flight. */
static void destroy_released(sr_ring *ring) {
    close_files(ring, SRI_CLOSER_OWNER);
    sri_buffer_rings_end(ring);
    sri_ring_let_pools_go(ring);
    sri_ring_free(ring);
}

/* Whether the kernel may yet hand out a descriptor that only the queue would tell of. */
static bool expects_descriptors(const sr_ring *ring) {
    for (uint32_t i = 0; i < ring->ops.count_max; i++) {
        const struct sri_op *op = &ring->ops.list[i];
        if (op->state != SRI_OP_FREE && sri_op_brings_descriptor(op)) {
            return true;
        }
    }
    return false;
}

/* The last step of every ring: its queue goes, and with it what the kernel does not hold. */
static bool close_for_good(sr_ring *ring, enum sri_closer closer) {
    close_files(ring, closer);
    ring->queue.backend->queue_close(&ring->queue, closer);
    if (closer != SRI_CLOSER_OWNER || !is_drained(ring)) {
        return false;
    }
    sri_buffer_rings_end(ring);
    sri_ring_let_pools_go(ring);
    sri_ring_free(ring);
    return true;
}

bool sri_ring_linger(sr_ring *ring, uint64_t *out_descriptors_closed) {
    const bool owner = ring->owner_key == sri_owner_key();
    const uint64_t closed_before = ring->stats.descriptors_closed_total;
    if (owner) {
        drain_step(ring, 0);
    }
    *out_descriptors_closed = ring->stats.descriptors_closed_total - closed_before;
    ring->lingers = owner && expects_descriptors(ring);
    return !ring->lingers && close_for_good(ring, owner ? SRI_CLOSER_OWNER : SRI_CLOSER_OTHER);
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
    ring->magic = 0;
    ring->on_trace = NULL; /* what it points to may be gone when the last operation ends */
    ring->lingers = closer == SRI_CLOSER_OWNER && expects_descriptors(ring);
    if (ring->lingers) {
        close_files(ring, closer);
    } else if (close_for_good(ring, closer)) {
        return 0;
    }
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
        sri_ring_leave_clients(gone);
        destroy_in_child(gone);
        *ring = NULL;
        return 0;
    }
    const bool owner = gone->owner_key == sri_owner_key();
    if (!owner && sri_owner_is_alive(gone->owner_key)) {
        return SRI_MISUSE(SR_E_WRONG_THREAD, 0);
    }
    if (gone->owner_key == sri_owner_nobody()) {
        if (sri_owner_key_make() == 0) {
            return -ENOMEM;
        }
        if (!sri_ring_claim(gone)) {
            return SRI_MISUSE(SR_E_WRONG_THREAD, 0); /* another one has just adopted it */
        }
        *ring = NULL;
        destroy_released(gone);
        return 0;
    }
    if (gone->in_callback || (owner && gone->clients != NULL)) {
        return SRI_MISUSE(SR_E_STATE, 0);
    }
    sri_ring_leave_clients(gone);
    *ring = NULL;
    return destroy(gone, owner ? SRI_CLOSER_OWNER : SRI_CLOSER_OTHER);
}
