/* SPDX-License-Identifier: MIT */
/* What an operation has to have before its SQE can be written: loans, copies of paths, a place for
 * a file. */
#include "ring/request.h"

#include "ring/socket.h"
#include "sys/memory.h"

#include <errno.h>

int sri_op_lend(sr_ring *ring, sr_buffer buffer, uint64_t begin, uint64_t length, bool writer,
                struct sri_loan *loan, uint8_t *out_pool, void **out_memory) {
    uint8_t place = ring->pool_last; /* the likely one; then all in turn */
    for (uint32_t next = 0; next <= ring->pools_max; place = (uint8_t)next++) {
        struct sri_ring_pool *candidate = &ring->pools[place];
        if (SRI_LIKELY(candidate->pool != NULL)) {
            const int code = sri_loan_begin(candidate->pool, buffer.bits, begin, length, writer,
                                            loan, out_memory);
            if (SRI_LIKELY(code == 0)) {
                candidate->op_count++;
                ring->pool_last = place;
                *out_pool = place;
            }
            if (SRI_LIKELY(code != SR_E_STALE)) {
                return code;
            }
        }
    }
    return SR_E_STALE;
}

/* The loan of a place without a pool is none. */
static void note_loan(const sr_ring *ring, uint8_t place, const struct sri_loan *loan,
                      const struct sri_loan_note *note) {
    sr_pool *pool = place != SRI_POOL_NONE ? ring->pools[place].pool : NULL;
    if (pool != NULL && pool->protects) {
        sri_loan_note(pool, loan, note);
    }
}

void sri_op_note_loans(const sr_ring *ring, const struct sri_op *op) {
    const struct sri_op_vector *vector = op->cold != NULL ? op->cold->vector : NULL;
    const struct sri_loan_note note = {
        .op = op->handle,
        .submitted_ns = ring->queue.backend->now_ns(),
        .fd = op->file != SRI_INDEX32_NONE ? ring->files.list[op->file].fd : -1,
        .opcode = op->opcode,
    };
    note_loan(ring, op->pool, &op->loan, &note);
    for (uint32_t i = 0; vector != NULL && i < vector->count; i++) {
        note_loan(ring, vector->slices[i].pool, &vector->slices[i].loan, &note);
    }
}

static int lend_slices(sr_ring *ring, struct sri_op *op, struct sri_plan *plan) {
    const sr_request *request = plan->request;
    const size_t slices_bytes = request->slice_count * sizeof(struct sri_op_slice);
    const size_t rest_bytes = request->slice_count * sizeof(struct iovec);
    struct sri_op_vector *vector = sri_allocate(1, sizeof *vector + slices_bytes + rest_bytes);
    if (vector == NULL) {
        return -ENOMEM;
    }
    vector->rest = (struct iovec *)(void *)&vector->slices[request->slice_count];
    op->cold->vector = vector;
    const bool writer = (plan->needs & SRI_NEEDS_WRITER) != 0;
    for (uint32_t i = 0; i < request->slice_count; i++) {
        const sr_slice *given = &request->slices[i];
        struct sri_op_slice *slice = &vector->slices[i];
        void *memory = NULL;
        plan->culprit = given->buffer.bits;
        const int code = sri_op_lend(ring, given->buffer, given->offset_bytes, given->length_bytes,
                                     writer, &slice->loan, &slice->pool, &memory);
        if (code < 0) {
            return code; /* the caller ends the loans that were made: count says how many */
        }
        slice->iov = (struct iovec){memory, given->length_bytes};
        op->cold->length += given->length_bytes;
        vector->count = i + 1;
    }
    return 0;
}

static int copy_paths(struct sri_op *op, const sr_request *request, unsigned int needs) {
    const char *new_path = (needs & SRI_NEEDS_NEW_PATH) != 0 ? request->new_path : "";
    const size_t path_bytes = strlen(request->path) + 1;
    const size_t new_path_bytes = strlen(new_path) + 1;
    struct sri_op_extra *extra = sri_allocate(1, sizeof *extra + path_bytes + new_path_bytes);
    if (extra == NULL) {
        return -ENOMEM;
    }
    memcpy(extra->path, request->path, path_bytes);
    extra->new_path = extra->path + path_bytes;
    memcpy(extra->new_path, new_path, new_path_bytes);
    op->cold->extra = extra;
    return 0;
}

static bool needs_cold(const struct sri_plan *plan) {
    const sr_request *request = plan->request;
    return (plan->needs & (SRI_NEEDS_COLD | SRI_NEEDS_SLICES | SRI_NEEDS_PATHS)) != 0 ||
           request->on_complete != NULL || request->deadline_ns != 0 ||
           (request->flags & SR_REQUEST_FULL) != 0 || plan->substitute;
}

static int equip_cold(sr_ring *ring, struct sri_op *op, struct sri_plan *plan) {
    const sr_request *request = plan->request;
    struct sri_op_cold *cold = sri_op_cold(&ring->ops, op);
    if (cold == NULL) {
        return -ENOMEM;
    }
    cold->on_complete = request->on_complete;
    cold->offset = request->offset;
    cold->length = (plan->needs & SRI_NEEDS_SLICES) != 0 ? 0 : request->length;
    cold->op_flags = request->op_flags;
    if ((plan->needs & SRI_NEEDS_PATHS) != 0) {
        const int code = copy_paths(op, request, plan->needs);
        if (code < 0) {
            return code;
        }
    }
    if ((plan->needs & SRI_NEEDS_MESSAGE) != 0) {
        const int code = sri_socket_equip(op, request);
        if (code < 0) {
            return code;
        }
    }
    if (request->op == SR_OP_WAITID) {
        cold->child = sri_allocate(1, sizeof *cold->child);
        return cold->child != NULL ? 0 : -ENOMEM;
    }
    if ((plan->needs & SRI_BRINGS_FILE) != 0) {
        plan->opened = sri_file_reserve(&ring->files);
        return plan->opened != NULL ? 0 : SR_E_FULL;
    }
    return (plan->needs & SRI_NEEDS_SLICES) != 0 ? lend_slices(ring, op, plan) : 0;
}

/* A registered buffer stays with the pages that were pinned: what replaces them would part the
 * kernel from the program without a word. */
static int equip_madvise(sr_ring *ring, struct sri_op *op, const struct sri_plan *plan) {
    sr_pool *pool = ring->pools[op->pool].pool;
    if (!sri_advice_replaces_pages(plan->request->advice)) {
        return 0;
    }
    atomic_fetch_add(&pool->discards_in_flight, 1);
    op->cold->discards = true;
    return atomic_load(&pool->rings_registered) == 0 ? 0 : SR_E_STATE;
}

int sri_op_equip(sr_ring *ring, struct sri_op *op, struct sri_plan *plan) {
    const sr_request *request = plan->request;
    if (SRI_UNLIKELY(needs_cold(plan))) {
        const int code = equip_cold(ring, op, plan);
        if (code < 0) {
            return code;
        }
    }
    if ((plan->needs & (SRI_NEEDS_READER | SRI_NEEDS_WRITER)) != 0 &&
        (plan->needs & SRI_NEEDS_SLICES) == 0) {
        plan->culprit = request->buffer.bits;
        const int code =
            sri_op_lend(ring, request->buffer, request->buffer_offset, request->length,
                        (plan->needs & SRI_NEEDS_WRITER) != 0, &op->loan, &op->pool, &plan->memory);
        return SRI_LIKELY(request->op != SR_OP_MADVISE) || code < 0 ? code
                                                                    : equip_madvise(ring, op, plan);
    }
    return 0;
}

void sri_op_unequip(sr_ring *ring, struct sri_op *op, struct sri_plan *plan) {
    if (plan->opened != NULL) {
        sri_file_release(&ring->files, plan->opened);
    }
    sri_op_end_loans(ring, op, 0);
    sri_op_release(&ring->ops, op);
    ring->refused_total++;
}
