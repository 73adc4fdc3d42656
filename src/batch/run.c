/* SPDX-License-Identifier: MIT */
/*
 * Running: what is ready goes to the ring, as far as there is room; what has completed comes back.
 *
 * A node that waits for a buffer or for a place for its file waits in a list of its own, so that it
 * keeps nobody else waiting: above all not the close that will make the place free.
 */
#include "batch/batch.h"

#include "batch/spec.h"
#include "ring/request.h"
#include "sys/memory.h"

#include <errno.h>
#include <sys/stat.h>

/* ---- from NEW to READY -------------------------------------------------------------------------
 */

void sri_node_evaluate(sr_batch *batch, struct sri_node *node) {
    if (node->lacks_edge) {
        sri_node_fail(batch, node, -EINVAL);
    } else if (node->unmet != SRI_ORDINAL_NONE) {
        sri_node_skip(batch, node);
    } else if ((batch->stopped_by != SR_STOP_NONE && !sri_node_is_cleanup(node)) ||
               batch->closing) {
        sri_node_cancel(batch, node, (enum sr_stop)batch->stopped_by);
    } else {
        sri_node_move(node, SRI_NODE_READY);
        sri_node_list_append(&batch->nodes, &batch->ready, node);
        batch->ready_count++;
    }
}

static bool lacks_edge(const struct sri_node *node) {
    for (uint32_t i = 0; i < SRI_ARGUMENTS; i++) {
        if (node->arguments[i] != SRI_NODE_NONE && (node->arguments_met & (1u << i)) == 0) {
            return true;
        }
    }
    return false;
}

static void take_one(sr_batch *batch, struct sri_node *node) {
    if (node->spec->pool != NULL) {
        (void)sri_custody_hold_pool(batch, node, node->spec->pool); /* seen when it runs */
    }
    if (lacks_edge(node)) {
        node->lacks_edge = true;
        (void)sri_misuse(-EINVAL, "sr_batch_add", node->handle);
    }
    if (node->unresolved > 0) {
        sri_node_move(node, SRI_NODE_PENDING);
    } else {
        sri_node_evaluate(batch, node);
    }
}

void sri_batch_take_fresh(sr_batch *batch) {
    while (!sri_node_list_is_empty(&batch->fresh)) {
        take_one(batch, sri_node_list_take(&batch->nodes, &batch->fresh));
        batch->told_end = false;
    }
}

/* ---- from READY to FLYING ----------------------------------------------------------------------
 */

static sr_file file_of(const sr_batch *batch, const struct sri_node *node,
                       enum sri_argument argument, sr_file given) {
    const uint32_t from = node->arguments[argument];
    return from == SRI_NODE_NONE ? given : (sr_file){sri_node_at(&batch->nodes, from)->file};
}

/* Puts the results of other nodes into the request. */
static void fill_arguments(const sr_batch *batch, struct sri_node *node) {
    sr_request *request = &node->spec->request;
    request->file = file_of(batch, node, SRI_ARGUMENT_FILE, request->file);
    request->new_dir = file_of(batch, node, SRI_ARGUMENT_NEW_DIR, request->new_dir);
    request->other = file_of(batch, node, SRI_ARGUMENT_OTHER, request->other);
    if (node->arguments[SRI_ARGUMENT_LENGTH] != SRI_NODE_NONE) {
        request->length = sri_node_at(&batch->nodes, node->arguments[SRI_ARGUMENT_LENGTH])->measure;
    }
    if (node->buffer_root != SRI_NODE_NONE) {
        request->buffer.bits = sri_node_at(&batch->nodes, node->buffer_root)->buffer;
    }
    if (node->arguments[SRI_ARGUMENT_BUFFER] != SRI_NODE_NONE && request->buffer_offset == 0) {
        request->buffer_offset =
            sri_node_at(&batch->nodes, node->arguments[SRI_ARGUMENT_BUFFER])->buffer_offset;
    }
    node->buffer_offset = request->buffer_offset;
}

static void fly(sr_batch *batch, struct sri_node *node, sr_op op) {
    const bool indexed = sri_index_insert(&batch->index, op.bits, node->index);
    SR_CHECK(indexed);
    node->op = op.bits;
    node->measure = node->full ? sri_spec_asked(&node->spec->request) : 0;
    sri_node_move(node, SRI_NODE_FLYING);
    sri_release(node->spec);
    node->spec = NULL;
    batch->in_flight++;
    if (node->opcode == SR_OP_CLOSE && node->arguments[SRI_ARGUMENT_FILE] != SRI_NODE_NONE) {
        sri_node_at(&batch->nodes, node->arguments[SRI_ARGUMENT_FILE])->owns_file = false;
    }
}

/* Submits a READY node that is in no list. False if the ring has no room: it is in no list still.
 */
static bool submit(sr_batch *batch, struct sri_node *node) {
    sr_op op = SR_OP_NONE;
    uint64_t culprit = 0;
    fill_arguments(batch, node);
    const int code = sri_request_submit(sri_batch_ring(batch), &node->spec->request, &op, &culprit);
    if (code == SR_E_FULL) {
        return false;
    }
    if (code == 0) {
        fly(batch, node, op);
    } else {
        sri_node_fail(batch, node, code);
    }
    return true;
}

static void starve(sr_batch *batch, struct sri_node_list *list, struct sri_node *node) {
    sri_node_list_append(&batch->nodes, list, node);
    batch->starved_count++;
}

static void make_ready_first(sr_batch *batch, struct sri_node *node) {
    sri_node_list_prepend(&batch->ready, node);
    batch->ready_count++;
}

static bool has_room(const sr_batch *batch) {
    return batch->in_flight < batch->in_flight_max;
}

static bool has_file_place(const sr_batch *batch) {
    return sri_batch_ring(batch)->files.free_count > 0;
}

static bool brings_file(const struct sri_node *node) {
    return (sri_opcode_specs[node->opcode].needs & SRI_BRINGS_FILE) != 0;
}

/* Whether a READY node has the buffer that it needs; if not it is in another list. */
static bool has_buffer(sr_batch *batch, struct sri_node *node) {
    if (node->spec->pool == NULL || node->owns_buffer) {
        return true;
    }
    if (node->pool == SRI_POOL_NONE) {
        sri_node_fail(batch, node, SR_E_STALE); /* not attached when it was taken */
        return false;
    }
    struct sri_node_list *list = &batch->no_buffer[node->pool];
    const int code = sri_node_list_is_empty(list)
                         ? sri_custody_acquire(batch, node, node->spec->pool_bytes)
                         : SR_E_FULL; /* nobody passes those that wait already */
    if (code == SR_E_FULL) {
        starve(batch, list, node);
    } else if (code < 0) {
        sri_node_fail(batch, node, code);
    }
    return code == 0;
}

/* Starts the first of the ready list. False if the ring has no room. */
static bool start_first(sr_batch *batch) {
    struct sri_node *node = sri_node_list_take(&batch->nodes, &batch->ready);
    batch->ready_count--;
    if (!has_buffer(batch, node)) {
        return true;
    }
    if (brings_file(node) && !has_file_place(batch)) {
        starve(batch, &batch->no_file, node);
        return true;
    }
    if (!submit(batch, node)) {
        make_ready_first(batch, node);
        return false;
    }
    return true;
}

/* Those that wait for a file's place, in their order, while there are places. */
static bool feed_files(sr_batch *batch) {
    while (!sri_node_list_is_empty(&batch->no_file) && has_file_place(batch) && has_room(batch)) {
        struct sri_node *node = sri_node_list_take(&batch->nodes, &batch->no_file);
        batch->starved_count--;
        if (!submit(batch, node)) {
            sri_node_list_prepend(&batch->no_file, node);
            batch->starved_count++;
            return false;
        }
    }
    return true;
}

/* Gives buffers that have become free to those that wait for them, and submits these. */
static bool feed_buffers(sr_batch *batch, struct sri_node_list *list) {
    while (!sri_node_list_is_empty(list) && has_room(batch)) {
        struct sri_node *node = sri_node_at(&batch->nodes, list->first);
        const int code = sri_custody_acquire(batch, node, node->spec->pool_bytes);
        if (code == SR_E_FULL) {
            return true;
        }
        (void)sri_node_list_take(&batch->nodes, list);
        batch->starved_count--;
        if (code < 0) {
            sri_node_fail(batch, node, code);
        } else if (!submit(batch, node)) {
            make_ready_first(batch, node);
            return false;
        }
    }
    return true;
}

void sri_batch_pump(sr_batch *batch) {
    bool room = true;
    if (SRI_UNLIKELY(batch->starved_count > 0)) {
        room = feed_files(batch);
        for (uint32_t i = 0; i < batch->pools_max && room; i++) {
            room = feed_buffers(batch, &batch->no_buffer[i]);
        }
    }
    while (room && batch->ready_count > 0 && has_room(batch)) {
        room = start_first(batch);
    }
    if (!sri_node_list_is_empty(&batch->decided)) {
        sri_ring_want_turn(sri_batch_ring(batch));
    }
}

void sri_batch_work(sr_batch *batch) {
    do {
        while (!sri_node_list_is_empty(&batch->decided)) {
            sri_node_end(batch, sri_node_list_take(&batch->nodes, &batch->decided), NULL);
        }
        sri_batch_pump(batch);
    } while (!sri_node_list_is_empty(&batch->decided));
}

/* ---- from FLYING to DECIDED --------------------------------------------------------------------
 */

/* Who has cancelled a node whose completion says that it was. */
static enum sr_stop canceller(const sr_batch *batch, const sr_completion *completion) {
    if ((completion->flags & SR_COMPLETION_DEADLINE_HIT) != 0) {
        return SR_STOP_DEADLINE;
    }
    return batch->stopped_by != SR_STOP_NONE ? (enum sr_stop)batch->stopped_by : SR_STOP_CALLER;
}

static void judge(sr_batch *batch, struct sri_node *node, const sr_completion *completion) {
    const uint64_t asked = node->measure;
    const bool cancelled = (completion->flags & SR_COMPLETION_CANCEL_ASKED) != 0 &&
                           (completion->result == -ECANCELED || completion->result == -EINTR);
    node->measure = completion->bytes_done;
    if (cancelled) {
        sri_node_cancel(batch, node, canceller(batch, completion));
    } else if (completion->result < 0) {
        sri_node_fail(batch, node, completion->result);
    } else if (node->full && completion->bytes_done < asked) {
        sri_node_fail(batch, node, SR_E_SHORT);
    } else {
        sri_node_done(batch, node, completion->result);
    }
}

/* What a completion brings besides its result. */
static void take_results(sr_batch *batch, struct sri_node *node, const sr_completion *completion) {
    if (completion->result < 0) {
        if (node->opcode == SR_OP_CLOSE && completion->result == -ECANCELED &&
            node->arguments[SRI_ARGUMENT_FILE] != SRI_NODE_NONE) {
            /* It never ran: the file is open. */
            sri_node_at(&batch->nodes, node->arguments[SRI_ARGUMENT_FILE])->owns_file = true;
        }
        return;
    }
    if (brings_file(node)) {
        node->file = completion->file.bits;
        node->owns_file = true;
    }
    if (node->measures_file) {
        node->measure = completion->statx->stx_size;
    }
    if (node->opcode == SR_OP_RECVMSG && completion->message != NULL && node->on_outcome == NULL) {
        sri_custody_drop_message(batch, completion->message);
    }
}

void sri_batch_complete(sr_batch *batch, const sr_completion *completion) {
    const uint32_t place = sri_index_take(&batch->index, completion->op.bits);
    SR_CHECK(place != SRI_INDEX_NONE);
    struct sri_node *node = sri_node_at(&batch->nodes, place);
    SR_CHECK(node->op == completion->op.bits);
    node->op = 0;
    batch->in_flight--;
    /* Those that were decided before have ended before. */
    while (!sri_node_list_is_empty(&batch->decided)) {
        sri_node_end(batch, sri_node_list_take(&batch->nodes, &batch->decided), NULL);
    }
    judge(batch, node, completion);
    take_results(batch, node, completion);
    (void)sri_node_list_take(&batch->nodes, &batch->decided);
    sri_node_end(batch, node, completion);
}

void sri_batch_on_complete(sr_ring *ring, const sr_completion *completion, void *ctx) {
    sr_batch *batch = ctx;
    SR_CHECK(sri_batch_is_valid(batch) && ring == sri_batch_ring(batch));
    sri_batch_complete(batch, completion);
    sri_batch_work(batch);
}

/* ---- stopping --------------------------------------------------------------------------------
 */

/* Cancels what waits in a list; clean-up nodes only if the batch closes. Returns how many went. */
static uint32_t cancel_list(sr_batch *batch, struct sri_node_list *list) {
    struct sri_node_list kept = SRI_NODE_LIST_EMPTY;
    uint32_t gone = 0;
    while (!sri_node_list_is_empty(list)) {
        struct sri_node *node = sri_node_list_take(&batch->nodes, list);
        if (sri_node_is_cleanup(node) && !batch->closing) {
            sri_node_list_append(&batch->nodes, &kept, node);
        } else {
            sri_node_cancel(batch, node, (enum sr_stop)batch->stopped_by);
            gone++;
        }
    }
    *list = kept;
    return gone;
}

static void cancel_waiting(sr_batch *batch) {
    batch->ready_count -= cancel_list(batch, &batch->ready);
    batch->starved_count -= cancel_list(batch, &batch->no_file);
    for (uint32_t i = 0; i < batch->pools_max; i++) {
        batch->starved_count -= cancel_list(batch, &batch->no_buffer[i]);
    }
    if (!sri_node_list_is_empty(&batch->decided)) {
        sri_ring_want_turn(sri_batch_ring(batch));
    }
}

static void cancel_flying(sr_batch *batch) {
    for (uint32_t i = 0; batch->in_flight > 0 && i < batch->index.count_max; i++) {
        const struct sri_index_cell *cell = &batch->cells[i];
        if (cell->value != SRI_INDEX_NONE &&
            !sri_node_is_cleanup(sri_node_at(&batch->nodes, cell->value))) {
            /* Only one that somebody has abandoned behind our back is stale. */
            const int code = sr_op_cancel(sri_batch_ring(batch), (sr_op){cell->key});
            SR_CHECK(code == 0 || code == SR_E_STALE);
        }
    }
}

void sri_batch_stop(sr_batch *batch, enum sr_stop reason) {
    if (batch->stopped_by != SR_STOP_NONE) {
        return;
    }
    batch->stopped_by = (uint8_t)reason;
    batch->client.deadline_ns = SR_FOREVER;
    cancel_waiting(batch);
    cancel_flying(batch);
}

void sri_batch_close(sr_batch *batch) {
    batch->closing = true;
    cancel_waiting(batch);
}
