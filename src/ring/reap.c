/* SPDX-License-Identifier: MIT */
/*
 * From the kernel: each CQE is checked against the operations, counted and dropped if it names
 * none, and turned into the operation's one completion.
 */
#include "ring/ring.h"

#include "ring/armed.h"
#include "ring/inbox.h"
#include "ring/request.h"
#include "ring/socket.h"

#include <errno.h>

/* Whether the result counts bytes. */
static bool is_transfer(uint8_t opcode) {
    return (sri_opcode_specs[opcode].needs & SRI_TRANSFERS) != 0;
}

uint64_t sri_op_lent_bytes(const struct sri_op *op) {
    uint64_t bytes = op->pool != SRI_POOL_NONE ? op->loan.end - op->loan.begin : 0;
    const struct sri_op_vector *vector = op->cold != NULL ? op->cold->vector : NULL;
    for (uint32_t i = 0; vector != NULL && i < vector->count; i++) {
        bytes += vector->slices[i].iov.iov_len;
    }
    return bytes;
}

void sri_op_end_discard(sr_ring *ring, const struct sri_op *op) {
    if (SRI_UNLIKELY(op->cold != NULL) && op->cold->discards) {
        atomic_fetch_sub(&ring->pools[op->pool].pool->discards_in_flight, 1);
    }
}

void sri_op_end_loans(sr_ring *ring, struct sri_op *op, uint64_t bytes_done) {
    if (op->pool != SRI_POOL_NONE) {
        struct sri_ring_pool *place = &ring->pools[op->pool];
        place->op_count--;
        sri_op_end_discard(ring, op);
        sri_loan_end(place->pool, &op->loan, op->loan.writer ? bytes_done : 0);
        return;
    }
    struct sri_op_vector *vector = op->cold != NULL ? op->cold->vector : NULL;
    for (uint32_t i = 0; vector != NULL && i < vector->count; i++) {
        struct sri_op_slice *slice = &vector->slices[i];
        const uint64_t here = bytes_done < slice->iov.iov_len ? bytes_done : slice->iov.iov_len;
        bytes_done -= here;
        ring->pools[slice->pool].op_count--;
        sri_loan_end(ring->pools[slice->pool].pool, &slice->loan, here);
    }
}

/* What every completion says; flags and bytes done are the caller's. */
static inline void describe(const sr_ring *ring, const struct sri_op *op, int64_t result,
                            sr_completion *out_completion) {
    out_completion->op.bits = op->handle;
    out_completion->tag = op->tag;
    out_completion->ctx = op->ctx;
    out_completion->result = result;
    out_completion->bytes_done = 0;
    out_completion->statx = NULL;
    out_completion->opcode = op->opcode;
    out_completion->flags = 0;
    out_completion->reserved = 0;
    if (op->pool != SRI_POOL_NONE) {
        const sr_pool *pool = ring->pools[op->pool].pool;
        out_completion->buffer.bits = pool->slots[op->loan.slot].handle;
        out_completion->buffer_offset = op->loan.begin;
        out_completion->buffer_length = op->loan.end - op->loan.begin;
    } else {
        out_completion->buffer.bits = 0;
        out_completion->buffer_offset = 0;
        out_completion->buffer_length = 0;
    }
    out_completion->file.bits =
        op->file != SRI_INDEX32_NONE ? ring->files.list[op->file].handle : 0;
}

void sri_op_describe(const sr_ring *ring, const struct sri_op *op, int64_t result,
                     sr_completion *out_completion) {
    describe(ring, op, result, out_completion);
    if ((op->flags & SRI_OP_DEADLINE_HIT) != 0) {
        out_completion->flags |= SR_COMPLETION_DEADLINE_HIT;
    }
    if ((op->flags & SRI_OP_CANCEL_ASKED) != 0) {
        out_completion->flags |= SR_COMPLETION_CANCEL_ASKED;
    }
    out_completion->bytes_done = op->cold != NULL ? op->cold->done : 0;
    if (op->opcode == SR_OP_OPENAT || op->opcode == SR_OP_ACCEPT) {
        out_completion->file.bits = 0; /* the one that comes, not the one it comes from */
    }
}

/* What an open leaves: a file for the caller, or a descriptor that nobody wants. */
static int64_t end_open(sr_ring *ring, struct sri_op *op, int64_t result, sr_file *out_file) {
    struct sri_file *file = &ring->files.list[op->cold->new_file];
    if (result < 0 || (op->flags & SRI_OP_ABANDONED) != 0) {
        if (result >= 0) {
            sri_ring_drop_fd(ring, (int)result);
        }
        sri_file_release(&ring->files, file);
        return result;
    }
    sri_file_open(&ring->files, file, (int)result,
                  op->opcode == SR_OP_OPENAT ? SRI_FD_OTHER : SRI_FD_SOCKET);
    out_file->bits = file->handle;
    return 0;
}

static void end_files(sr_ring *ring, struct sri_op *op, int64_t result) {
    struct sri_op_cold *cold = op->cold;
    if (op->opcode == SR_OP_CLOSE) {
        sri_file_end_close(ring, &ring->files.list[op->file], result);
        return;
    }
    if (op->file != SRI_INDEX32_NONE) {
        sri_file_op_ended(ring, &ring->files.list[op->file]);
    }
    if (cold != NULL && cold->second_file != SRI_INDEX32_NONE) {
        sri_file_op_ended(ring, &ring->files.list[cold->second_file]);
    }
}

/* Keeps what the caller may look at until the next wait. */
static void keep_output(sr_ring *ring, struct sri_output *output) {
    output->next = ring->ops.outputs;
    ring->ops.outputs = output;
}

static void give_child(struct sri_op_child *child) {
    child->child = (sr_child){
        .pid = child->info.si_pid,
        .code = child->info.si_code,
        .status = child->info.si_status,
        .uid = child->info.si_uid,
    };
}

static void give_outputs(sr_ring *ring, struct sri_op *op, sr_completion *completion) {
    struct sri_op_cold *cold = op->cold;
    if (op->opcode == SR_OP_STATX) {
        completion->statx = &cold->extra->statx;
        keep_output(ring, &cold->extra->output);
        cold->extra = NULL;
    } else if (op->opcode == SR_OP_WAITID) {
        give_child(cold->child);
        completion->child = &cold->child->child;
        keep_output(ring, &cold->child->output);
        cold->child = NULL;
    } else if (op->opcode == SR_OP_RECVMSG || op->opcode == SR_OP_ACCEPT) {
        if ((op->flags & SRI_OP_ABANDONED) != 0) {
            sri_message_drop(ring, op);
        }
        completion->message = sri_message_describe(op);
        keep_output(ring, &cold->message->output);
        cold->message = NULL;
    }
}

/* Deadline, files that came, outputs. */
static void end_cold(sr_ring *ring, struct sri_op *op, sr_completion *completion) {
    struct sri_op_cold *cold = op->cold;
    if (cold->deadline.position != SRI_HEAP_NOWHERE) {
        sri_heap_remove(&ring->deadlines, &cold->deadline);
    }
    if (op->opcode == SR_OP_SEND_ZC) {
        ring->ops.zerocopy_count--;
        sri_ops_bound(&ring->ops);
    }
    if (completion->result >= 0 && (op->flags & SRI_OP_ARMED) == 0) {
        give_outputs(ring, op, completion);
    }
    if (cold->new_file != SRI_INDEX32_NONE) {
        completion->result = end_open(ring, op, completion->result, &completion->file);
    }
}

static void run_callback(sr_ring *ring, sr_completion_fn on_complete,
                         const sr_completion *completion) {
    const bool nested = ring->in_callback;
    ring->in_callback = true;
    ring->callbacks_count++;
    on_complete(ring, completion, completion->ctx);
    ring->in_callback = nested;
}

static void deliver(sr_ring *ring, sr_completion_fn on_complete, const sr_completion *completion) {
    sri_ring_trace(ring, SR_TRACE_COMPLETE, completion->op.bits, completion->tag,
                   completion->result);
    if (on_complete != NULL) {
        run_callback(ring, on_complete, completion);
    } else {
        ring->completions[ring->completions_count++] = *completion;
    }
}

static void describe_arrival(const struct sri_arrival *arrival, sr_completion *completion) {
    if (arrival->buffer.bits != 0) {
        completion->buffer = arrival->buffer;
        completion->buffer_length = (uint32_t)arrival->result;
        completion->bytes_done = (uint64_t)arrival->result;
    }
    if (arrival->file.bits != 0) {
        completion->file = arrival->file;
    }
}

/* The end of an operation that is not plain. @arrival: what its last completion brought, or NULL.
 */
static SRI_NOINLINE void finish_special(sr_ring *ring, struct sri_op *op, int64_t result,
                                        const struct sri_arrival *arrival) {
    sr_completion completion;
    sr_completion_fn on_complete = op->cold != NULL ? op->cold->on_complete : NULL;
    const bool abandoned = (op->flags & SRI_OP_ABANDONED) != 0;

    sri_op_describe(ring, op, result, &completion);
    if (op->cold == NULL && is_transfer(op->opcode) && result > 0) {
        completion.bytes_done = (uint64_t)result;
    }
    if (abandoned) {
        ring->ops.abandoned_count--;
        ring->bytes_quarantined -= sri_op_lent_bytes(op);
    }
    if ((op->flags & SRI_OP_CANCEL_UNSENT) != 0) {
        ring->cancels_unsent--;
    }
    sri_op_end_loans(ring, op, completion.bytes_done);
    end_files(ring, op, result);
    if ((op->flags & SRI_OP_ARMED) != 0) {
        sri_op_disarm(ring, op);
    }
    if (op->cold != NULL) {
        end_cold(ring, op, &completion);
    }
    if (arrival != NULL) {
        describe_arrival(arrival, &completion);
    }
    sri_op_release(&ring->ops, op);
    if (!abandoned) {
        deliver(ring, on_complete, &completion);
    }
}

void sri_op_arrived(sr_ring *ring, struct sri_op *op, const struct sri_arrival *arrival,
                    bool more) {
    sr_completion completion;
    if (!more) {
        finish_special(ring, op, arrival->result, arrival);
        return;
    }
    if ((op->flags & SRI_OP_ABANDONED) != 0) {
        return;
    }
    sri_op_describe(ring, op, arrival->result, &completion);
    describe_arrival(arrival, &completion);
    completion.flags |= SR_COMPLETION_MORE;
    deliver(ring, op->cold != NULL ? op->cold->on_complete : NULL, &completion);
}

static inline bool is_plain(const struct sri_op *op) {
    return op->cold == NULL && (op->flags & ~(unsigned int)SRI_OP_ASYNC) == 0;
}

/* The end of a plain operation: at most one loan and one file, and a place in the array. */
static inline void finish_plain(sr_ring *ring, struct sri_op *op, int32_t result) {
    sr_completion *completion = &ring->completions[ring->completions_count++];
    describe(ring, op, result, completion);
    if (op->pool != SRI_POOL_NONE) {
        struct sri_ring_pool *place = &ring->pools[op->pool];
        const uint64_t done = result > 0 ? (uint64_t)result : 0; /* a plain loan is a transfer's */
        completion->bytes_done = done;
        place->op_count--;
        sri_loan_end(place->pool, &op->loan, op->loan.writer ? done : 0);
    }
    if (op->file != SRI_INDEX32_NONE) {
        sri_file_op_ended(ring, &ring->files.list[op->file]);
    }
    sri_op_release(&ring->ops, op);
    sri_ring_trace(ring, SR_TRACE_COMPLETE, completion->op.bits, completion->tag, result);
}

void sri_op_finish(sr_ring *ring, struct sri_op *op, int64_t result) {
    finish_special(ring, op, result, NULL);
}

/* Whether a transfer goes on; if so its rest is on its way. */
static bool transfer_goes_on(sr_ring *ring, struct sri_op *op, int32_t result) {
    struct sri_op_cold *cold = op->cold;
    if (result > 0) {
        cold->done += (uint32_t)result;
    }
    const bool again = result > 0 || result == -EINTR;
    if ((op->flags & SRI_OP_FULL) == 0 || !again || cold->done >= cold->length ||
        (op->flags & SRI_OP_CANCEL_ASKED) != 0) {
        return false;
    }
    ring->stats.short_transfers_total++;
    sri_op_send_or_wait(ring, op);
    return true;
}

/* The outcome of an operation with a cold part, out of its last CQE. */
static int64_t cold_result(const struct sri_op *op, int32_t result) {
    const struct sri_op_cold *cold = op->cold;
    if (cold->substituted) {
        return cold->result;
    }
    if (op->opcode == SR_OP_TIMEOUT && result == -ETIME) {
        return 0; /* that is what was asked for */
    }
    if (!is_transfer(op->opcode) || result < 0) {
        return result;
    }
    const bool cut = (op->flags & SRI_OP_FULL) != 0 && (op->flags & SRI_OP_CANCEL_ASKED) != 0 &&
                     result > 0 && cold->done < cold->length;
    return cut ? -ECANCELED : (int64_t)cold->done;
}

static void dropped(sr_ring *ring, const struct sri_cqe *cqe, uint64_t *counter) {
    (*counter)++;
    sri_ring_trace(ring, SR_TRACE_DROPPED, cqe->user_data, 0, cqe->result);
}

static SRI_COLD void no_operation(sr_ring *ring, const struct sri_cqe *cqe) {
    if (cqe->user_data == sri_internal_user_data(SRI_INTERNAL_CANCEL)) {
        /* Whatever it says, the operation's own completion decides. */
        if (cqe->result == -EALREADY && ring->cancel_again_ns == 0 && ring->queue.loses_cancels) {
            ring->cancel_again_ns = ring->queue.backend->now_ns() + SRI_CANCEL_AGAIN_NS;
        }
        return;
    }
    if (cqe->user_data == sri_internal_user_data(SRI_INTERNAL_WAKE) && ring->wake_armed) {
        ring->wake_armed = false;
        ring->stats.inbox_wakeups_total++;
        return;
    }
    const bool ours = sri_handle_kind(cqe->user_data) == SRI_KIND_OP &&
                      sri_handle_table_owns(&ring->ops.handles, cqe->user_data);
    dropped(ring, cqe,
            ours ? &ring->stats.completions_stale_total : &ring->stats.completions_unknown_total);
}

/* Two completions: one with the result, and a notice that the network has let go of the buffer. The
 * outcome is given when both are here. */
static void take_zerocopy(sr_ring *ring, struct sri_op *op, const struct sri_cqe *cqe) {
    struct sri_op_cold *cold = op->cold;
    const bool notice = (cqe->flags & SRI_IORING_CQE_F_NOTIF) != 0;
    if (notice ? cold->has_notice : cold->has_result) {
        dropped(ring, cqe, &ring->stats.completions_stale_total);
        return;
    }
    if (notice) {
        cold->has_notice = true;
    } else {
        cold->has_result = true;
        cold->has_notice = cold->has_notice || (cqe->flags & IORING_CQE_F_MORE) == 0;
        cold->result = cqe->result;
        cold->done = cqe->result > 0 ? (uint32_t)cqe->result : 0;
    }
    if (!cold->has_result || !cold->has_notice) {
        return;
    }
    if (cold->result == -EOPNOTSUPP && !cold->copies) {
        if ((op->flags & SRI_OP_CANCEL_ASKED) != 0) {
            sri_op_finish(ring, op, -ECANCELED);
            return;
        }
        cold->copies = true; /* not with this kind of socket: once more, as a plain send */
        cold->has_result = false;
        cold->has_notice = false;
        sri_op_send_or_wait(ring, op);
        return;
    }
    sri_op_finish(ring, op, cold->result);
}

static SRI_NOINLINE void take_special(sr_ring *ring, struct sri_op *op, const struct sri_cqe *cqe) {
    const bool flying = op->state == SRI_OP_FLYING;
    if (flying && op->opcode == SR_OP_SEND_ZC) {
        take_zerocopy(ring, op, cqe);
    } else if (flying && (op->flags & SRI_OP_ARMED) != 0) {
        sri_armed_take(ring, op, cqe);
    } else if (!flying || (cqe->flags & IORING_CQE_F_MORE) != 0) {
        /* Not in the kernel, or more to come from an operation that has one completion: a
         * duplicate. */
        dropped(ring, cqe, &ring->stats.completions_stale_total);
    } else if (op->cold == NULL) {
        sri_op_finish(ring, op, cqe->result);
    } else if (!is_transfer(op->opcode) || !transfer_goes_on(ring, op, cqe->result)) {
        sri_op_finish(ring, op, cold_result(op, cqe->result));
    }
}

static inline void take_cqe(sr_ring *ring, const struct sri_cqe *cqe) {
    struct sri_op *op = sri_op_find(&ring->ops, cqe->user_data);
    if (SRI_UNLIKELY(op == NULL)) {
        no_operation(ring, cqe);
    } else if (SRI_LIKELY(is_plain(op) && op->state == SRI_OP_FLYING &&
                          (cqe->flags & IORING_CQE_F_MORE) == 0)) {
        finish_plain(ring, op, cqe->result);
    } else {
        take_special(ring, op, cqe);
    }
}

/* Neither a flood of messages nor one of operations keeps the other out: each gets half of the
 * array, and the odd place, which may be the only one, in turns. */
static uint32_t share_of_messages(sr_ring *ring) {
    if (ring->completions_count < ring->completions_max) {
        ring->odd_place_is_message = !ring->odd_place_is_message;
    }
    return (ring->completions_max + ring->odd_place_is_message) / 2;
}

void sri_ring_reap_queue(sr_ring *ring) {
    uint32_t ready = sri_queue_ready(&ring->queue);
    if (ready == 0) {
        return; /* nothing to give back to the kernel either */
    }
    while (ready > 0 && ring->completions_count < ring->completions_max) {
        const struct sri_cqe cqe = sri_queue_take_cqe(&ring->queue);
        take_cqe(ring, &cqe);
        ready--;
        if (ready == 0) {
            ready = sri_queue_ready(&ring->queue);
        }
    }
    sri_queue_release_cqes(&ring->queue);
}

void sri_ring_reap(sr_ring *ring) {
    if (sri_ring_hears(ring)) {
        const bool both = sri_queue_ready(&ring->queue) > 0;
        sri_inbox_deliver(ring, both ? share_of_messages(ring) : ring->completions_max);
    }
    sri_ring_reap_queue(ring);
}
