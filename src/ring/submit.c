/* SPDX-License-Identifier: MIT */
/* Taking requests: check everything, then act. */
#include "ring/armed.h"
#include "ring/request.h"
#include "sys/clock.h"

#include <errno.h>

/* The kernel lacks the operation: do it now, and let a NOP bring the result in its turn. */
static void substitute(sr_ring *ring, struct sri_op *op, const struct sri_plan *plan) {
    struct io_uring_sqe sqe = {.opcode = 0};
    sri_prepare_substitute(ring, op, plan, &sqe);
    op->cold->substituted = true;
    op->cold->result = ring->queue.backend->sqe_run(&sqe);
    ring->stats.substitutes_total++;
}

static SRI_COLD void watch_submit(sr_ring *ring, const struct sri_op *op) {
    if ((ring->watches_submits & SRI_WATCH_LOANS) != 0) {
        sri_op_note_loans(ring, op);
    }
    sri_ring_trace(ring, SR_TRACE_SUBMIT, op->handle, op->tag, op->opcode);
}

/* Nothing can fail from here on. */
static void commit(sr_ring *ring, struct sri_op *op, struct sri_plan *plan) {
    const sr_request *request = plan->request;
    if (plan->file != NULL) {
        op->file = sri_file_index(&ring->files, plan->file);
        plan->file->op_count += request->op != SR_OP_CLOSE;
    }
    if (SRI_UNLIKELY(plan->second != NULL)) {
        op->cold->second_file = sri_file_index(&ring->files, plan->second);
        plan->second->op_count++;
    }
    if (SRI_UNLIKELY(plan->opened != NULL)) {
        op->cold->new_file = sri_file_index(&ring->files, plan->opened);
    }
    if (SRI_UNLIKELY((op->flags & SRI_OP_ARMED) != 0)) {
        sri_op_arm(ring, op, request);
    } else if (SRI_UNLIKELY(request->op == SR_OP_SEND_ZC)) {
        ring->ops.zerocopy_count++;
        sri_ops_bound(&ring->ops);
    }
    if (SRI_UNLIKELY(request->deadline_ns != 0)) {
        op->cold->deadline.key =
            sri_clock_after(ring->queue.backend->now_ns(), request->deadline_ns);
        sri_heap_insert(&ring->deadlines, &op->cold->deadline);
    }
    if (SRI_UNLIKELY(plan->substitute)) {
        substitute(ring, op, plan);
    }
    if (SRI_UNLIKELY(request->op == SR_OP_CLOSE)) {
        const bool cancel = (request->op_flags & SR_CLOSE_CANCEL) != 0;
        sri_file_begin_close(ring, plan->file, op, cancel);
    } else {
        sri_prepare(ring, op, plan, sri_queue_next_sqe(&ring->queue));
    }
    if (SRI_UNLIKELY(ring->watches_submits != 0)) {
        watch_submit(ring, op);
    }
}

/* Places for operations that this one must leave free: see sri_ops_bound(). */
static uint32_t places_kept(const sr_ring *ring, const sr_request *request) {
    if ((request->flags & SR_REQUEST_MULTISHOT) != 0) {
        return 0;
    }
    return ring->ops.free_floor + (request->op == SR_OP_SEND_ZC);
}

static uint8_t first_flags(const sr_request *request) {
    _Static_assert((int)SRI_OP_FULL == (int)SR_REQUEST_FULL &&
                       (int)SRI_OP_ASYNC == (int)SR_REQUEST_ASYNC &&
                       (int)SRI_OP_MULTISHOT == (int)SR_REQUEST_MULTISHOT,
                   "the same bits");
    const bool selects = request->op == SR_OP_RECV && request->buffer_ring != NULL;
    return (uint8_t)(request->flags | (selects ? SRI_OP_SELECTS : 0u));
}

int sri_request_submit(sr_ring *ring, const sr_request *request, sr_op *out_op,
                       uint64_t *out_culprit) {
    struct sri_plan plan = {.request = request};
    int code = sri_ring_check(ring);
    if (code < 0) {
        return code;
    }
    if (request == NULL || request->size != sizeof *request || request->op >= SR_OP_COUNT) {
        return -EINVAL;
    }
    code = sri_request_check(ring, &plan);
    if (code < 0) {
        *out_culprit = plan.culprit;
        return code;
    }
    if (!sri_ring_make_room(ring)) {
        return SR_E_FULL;
    }
    struct sri_op *op = sri_op_acquire(&ring->ops, places_kept(ring, request));
    if (op == NULL) {
        return SR_E_FULL;
    }
    op->flags = first_flags(request);
    op->opcode = (uint8_t)request->op;
    op->tag = request->tag;
    op->ctx = request->ctx;
    code = sri_op_equip(ring, op, &plan);
    if (code < 0) {
        sri_op_unequip(ring, op, &plan);
        *out_culprit = plan.culprit;
        return code;
    }
    commit(ring, op, &plan);
    if (out_op != NULL) {
        out_op->bits = op->handle;
    }
    return 0;
}

/* A NOP, read or write that needs no cold part. All kernels that rings are made on have these. */
static inline bool is_plain(const sr_ring *ring, const sr_request *request) {
    return (int)request->op <= ring->plain_opcode_max && request->flags == 0 &&
           request->on_complete == NULL && request->deadline_ns == 0;
}

/* Lends from the pool that was used last; the long way looks in the others. */
static inline bool lend_from_last(sr_ring *ring, const sr_request *request, struct sri_op *op,
                                  void **out_memory) {
    struct sri_ring_pool *place = &ring->pools[ring->pool_last];
    if (SRI_UNLIKELY(place->pool == NULL) ||
        SRI_UNLIKELY(sri_loan_begin(place->pool, request->buffer.bits, request->buffer_offset,
                                    request->length, request->op == SR_OP_READ, &op->loan,
                                    out_memory) < 0)) {
        return false;
    }
    op->pool = ring->pool_last;
    place->op_count++;
    return true;
}

/* Gives up a slot that was taken for nothing. */
static SRI_COLD int back_out(sr_ring *ring, struct sri_op *op) {
    sri_op_release(&ring->ops, op);
    ring->refused_total++;
    return 1;
}

/* The short way for plain requests: the same steps as sri_request_submit(), fewer questions.
 * Returns 1 if the long way must be gone, which then finds out why. */
static inline int submit_plain(sr_ring *ring, const sr_request *request, sr_op *out_op) {
    const bool transfers = request->op != SR_OP_NOP;
    struct sri_file *file = NULL;
    void *memory = NULL;
    if (SRI_UNLIKELY(sri_queue_is_full(&ring->queue))) {
        return 1;
    }
    if (transfers) {
        file = sri_file_find(&ring->files, request->file.bits);
        if (SRI_UNLIKELY(file == NULL) || SRI_UNLIKELY(file->state != SRI_FILE_OPEN)) {
            return 1;
        }
    }
    struct sri_op *op = sri_op_acquire(&ring->ops, ring->ops.free_floor);
    if (SRI_UNLIKELY(op == NULL)) {
        return SR_E_FULL;
    }
    op->opcode = (uint8_t)request->op;
    op->tag = request->tag;
    op->ctx = request->ctx;
    if (transfers) {
        if (SRI_UNLIKELY(!lend_from_last(ring, request, op, &memory))) {
            return back_out(ring, op);
        }
        op->file = sri_file_index(&ring->files, file);
        file->op_count++;
    }
    struct io_uring_sqe *sqe = sri_queue_next_sqe(&ring->queue);
    if (transfers) {
        sri_prepare_transfer(ring, op, file, memory, (uint32_t)request->length, request->offset,
                             sqe);
    }
    sqe->user_data = op->handle;
    if (out_op != NULL) {
        out_op->bits = op->handle;
    }
    if (SRI_UNLIKELY(ring->watches_submits != 0)) {
        watch_submit(ring, op);
    }
    return 0;
}

static SRI_NOINLINE int submit_and_report(sr_ring *ring, const sr_request *request, sr_op *out_op) {
    uint64_t culprit = 0;
    const int code = sri_request_submit(ring, request, out_op, &culprit);
    const bool expected = code == 0 || code == SR_E_FULL || code == SR_E_UNSUPPORTED ||
                          code == -ENOMEM || code == -EACCES;
    return expected ? code : sri_misuse(code, "sr_ring_submit", culprit);
}

int sr_ring_submit(sr_ring *ring, const sr_request *request, sr_op *out_op) {
    if (out_op != NULL) {
        out_op->bits = 0;
    }
    if (SRI_LIKELY(sri_ring_check(ring) == 0 && request != NULL &&
                   request->size == sizeof *request && is_plain(ring, request))) {
        const int code = submit_plain(ring, request, out_op);
        if (SRI_LIKELY(code <= 0)) {
            return code;
        }
    }
    return submit_and_report(ring, request, out_op);
}
