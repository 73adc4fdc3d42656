/* SPDX-License-Identifier: MIT */
/* Taking requests: check everything, then act. */
#include "ring/request.h"

#include <errno.h>

/* The kernel lacks the operation: do it now, and let a NOP bring the result in its turn. */
static void substitute(sr_ring *ring, struct sri_op *op, const struct sri_plan *plan) {
    SR_CHECK(plan->request->op == SR_OP_FTRUNCATE);
    op->flags |= SRI_OP_SUBSTITUTED;
    op->cold->substitute_result =
        ring->queue.backend->fd_truncate(plan->file->fd, plan->request->length);
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
    op->flags |= (uint8_t)request->flags; /* FULL and ASYNC have the same bits */
    if (plan->file != NULL) {
        op->file = sri_file_index(&ring->files, plan->file);
        plan->file->op_count += request->op != SR_OP_CLOSE;
    }
    if (SRI_UNLIKELY(plan->new_dir != NULL)) {
        op->cold->second_file = sri_file_index(&ring->files, plan->new_dir);
        plan->new_dir->op_count++;
    }
    if (SRI_UNLIKELY(plan->opened != NULL)) {
        op->cold->second_file = sri_file_index(&ring->files, plan->opened);
    }
    if (SRI_UNLIKELY(request->deadline_ns != 0)) {
        const uint64_t now_ns = ring->queue.backend->now_ns();
        const uint64_t left_ns = UINT64_MAX - now_ns;
        op->cold->deadline.key =
            request->deadline_ns < left_ns ? now_ns + request->deadline_ns : UINT64_MAX;
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

static int submit(sr_ring *ring, const sr_request *request, sr_op *out_op, uint64_t *out_culprit) {
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
    struct sri_op *op = sri_op_acquire(&ring->ops);
    if (op == NULL) {
        return SR_E_FULL;
    }
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
static inline bool is_plain(const sr_request *request) {
    return request->op <= SR_OP_WRITE && request->flags == 0 && request->on_complete == NULL &&
           request->deadline_ns == 0;
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

/* The short way for plain requests: the same steps as submit(), fewer questions. Returns 1 if the
 * long way must be gone, which then finds out why. */
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
    struct sri_op *op = sri_op_acquire(&ring->ops);
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
    const int code = submit(ring, request, out_op, &culprit);
    const bool expected =
        code == 0 || code == SR_E_FULL || code == SR_E_UNSUPPORTED || code == -ENOMEM;
    return expected ? code : sri_misuse(code, "sr_ring_submit", culprit);
}

int sr_ring_submit(sr_ring *ring, const sr_request *request, sr_op *out_op) {
    if (out_op != NULL) {
        out_op->bits = 0;
    }
    if (SRI_LIKELY(sri_ring_check(ring) == 0 && request != NULL &&
                   request->size == sizeof *request && is_plain(request))) {
        const int code = submit_plain(ring, request, out_op);
        if (SRI_LIKELY(code <= 0)) {
            return code;
        }
    }
    return submit_and_report(ring, request, out_op);
}
