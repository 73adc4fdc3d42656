/* SPDX-License-Identifier: MIT */
#include "batch/batch.h"

#include "batch/spec.h"
#include "sys/clock.h"
#include "sys/memory.h"

#include <errno.h>
#include <sys/stat.h>

/* ---- life ------------------------------------------------------------------------------------
 */

static void turn(struct sri_ring_client *client) {
    sr_batch *batch = SRI_CONTAINER_OF(client, sr_batch, client);
    if (!batch->started) {
        return;
    }
    if (client->deadline_ns != SR_FOREVER &&
        client->deadline_ns <= client->ring->queue.backend->now_ns()) {
        sri_batch_stop(batch, SR_STOP_DEADLINE);
    }
    sri_batch_work(batch);
}

static void waited(struct sri_ring_client *client) {
    sri_batch_tell_progress(SRI_CONTAINER_OF(client, sr_batch, client));
}

static bool options_are_valid(const sr_batch_options *options) {
    return options->nodes_max >= 1 && options->nodes_max <= SRI_HANDLE_OBJECTS_MAX &&
           options->in_flight_max <= SRI_HANDLE_OBJECTS_MAX && options->fail_fast <= 1 &&
           options->forget <= 1;
}

static int batch_init(sr_batch *batch, sr_ring *ring) {
    batch->owner_key = ring->owner_key;
    batch->pools_max = ring->pools_max;
    batch->client.deadline_ns = SR_FOREVER;
    batch->client.turn = turn;
    batch->client.waited = waited;
    batch->fresh = SRI_NODE_LIST_EMPTY;
    batch->decided = SRI_NODE_LIST_EMPTY;
    batch->ready = SRI_NODE_LIST_EMPTY;
    batch->no_file = SRI_NODE_LIST_EMPTY;
    sri_edges_init(&batch->edges);
    batch->no_buffer = sri_allocate(batch->pools_max, sizeof *batch->no_buffer);
    if (batch->no_buffer == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < batch->pools_max; i++) {
        batch->no_buffer[i] = SRI_NODE_LIST_EMPTY;
    }
    return sri_nodes_init(&batch->nodes, batch->options.nodes_max);
}

void sri_batch_free(sr_batch *batch) {
    for (uint32_t i = 0; i < batch->nodes.place_count; i++) {
        sri_release(sri_node_at(&batch->nodes, i)->spec);
    }
    sri_nodes_deinit(&batch->nodes);
    sri_edges_deinit(&batch->edges);
    sri_release(batch->no_buffer);
    sri_release(batch->cells);
    sri_release(batch->refused);
    batch->magic = 0;
    sri_release(batch);
}

int sr_batch_create(sr_ring *ring, const sr_batch_options *options, sr_batch **out_batch) {
    sr_batch_options given = SR_BATCH_OPTIONS_INIT;
    if (out_batch == NULL) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    *out_batch = NULL;
    int code = sri_ring_check(ring);
    if (code == 0 && !sri_options_take(&given, sizeof given, options)) {
        code = -EINVAL;
    }
    if (code == 0 && !options_are_valid(&given)) {
        code = SR_E_BOUNDS;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    sr_batch *batch = sri_allocate(1, sizeof *batch);
    if (batch == NULL) {
        return -ENOMEM;
    }
    batch->options = given;
    code = batch_init(batch, ring);
    if (code < 0) {
        sri_batch_free(batch);
        return code;
    }
    sri_ring_add_client(ring, &batch->client);
    batch->magic = SRI_BATCH_MAGIC;
    *out_batch = batch;
    return 0;
}

/* ---- nodes -----------------------------------------------------------------------------------
 */

static void fill_node(sr_batch *batch, struct sri_node *node, const sr_node_spec *given,
                      const uint32_t *arguments) {
    sr_request *request = &node->spec->request;
    const uint32_t buffer_from = arguments[SRI_ARGUMENT_BUFFER];
    node->tag = request->tag;
    node->ctx = request->ctx;
    node->on_outcome = given->on_outcome;
    node->opcode = (uint8_t)request->op;
    node->flags = (uint8_t)given->flags;
    node->full = (request->flags & SR_REQUEST_FULL) != 0;
    node->measures_file = request->op == SR_OP_STATX && (request->mask & STATX_SIZE) != 0;
    memcpy(node->arguments, arguments, sizeof node->arguments);
    request->on_complete = sri_batch_on_complete;
    request->ctx = batch;
    if (buffer_from != SRI_NODE_NONE) {
        node->buffer_root = sri_node_at(&batch->nodes, buffer_from)->buffer_root;
    } else if (sri_spec_uses_buffer(node->opcode) &&
               (given->pool != NULL || request->buffer.bits != 0)) {
        node->buffer_root = node->index;
        node->buffer = given->pool == NULL ? request->buffer.bits : 0;
    }
    sri_custody_refer(batch, node);
}

static int add(sr_batch *batch, const sr_node_spec *spec, sr_node *out_node) {
    sr_node_spec given = SR_NODE_SPEC_INIT;
    uint32_t arguments[SRI_ARGUMENTS];
    struct sri_node *node = NULL;
    if (!sri_batch_is_open(batch)) {
        return SR_E_STATE;
    }
    if (spec == NULL || !sri_options_take(&given, sizeof given, spec)) {
        return -EINVAL;
    }
    int code = sri_spec_check(batch, &given);
    if (code == 0) {
        code = sri_spec_find_arguments(batch, &given, arguments);
    }
    if (code == 0) {
        code = sri_node_acquire(&batch->nodes, &node);
    }
    if (code < 0) {
        return code;
    }
    node->spec = sri_spec_copy(&given);
    if (node->spec == NULL) {
        sri_node_release(&batch->nodes, node);
        return -ENOMEM;
    }
    fill_node(batch, node, &given, arguments);
    sri_node_list_append(&batch->nodes, &batch->fresh, node);
    batch->unfinished_count++;
    batch->stats.nodes_total++;
    out_node->bits = node->handle;
    return 0;
}

int sr_batch_add(sr_batch *batch, const sr_node_spec *spec, sr_node *out_node) {
    sr_node ignored;
    sr_node *result = out_node != NULL ? out_node : &ignored;
    result->bits = 0;
    int code = sri_batch_check(batch);
    if (code == 0) {
        code = add(batch, spec, result);
    }
    const bool expected = code == 0 || code == SR_E_FULL || code == SR_E_UNSUPPORTED ||
                          code == -ENOMEM || code == -EACCES;
    return expected ? code : SRI_MISUSE(code, 0);
}

/* ---- running ---------------------------------------------------------------------------------
 */

static uint32_t min_of(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static int make_index(sr_batch *batch) {
    const sr_ring *ring = sri_batch_ring(batch);
    const uint32_t wanted = batch->options.in_flight_max;
    const uint32_t most = min_of(batch->options.nodes_max, ring->ops.count_max);
    batch->in_flight_max = wanted != 0 ? min_of(wanted, most) : most;
    const size_t cells = sri_index_cells_for(batch->in_flight_max);
    batch->cells = sri_allocate(cells, sizeof *batch->cells);
    if (batch->cells == NULL) {
        return -ENOMEM;
    }
    sri_index_init(&batch->index, batch->cells, batch->in_flight_max,
                   ring->queue.backend->random());
    batch->stats.index_bytes = cells * sizeof *batch->cells;
    return 0;
}

static int start(sr_batch *batch) {
    if (batch->started) {
        return SR_E_STATE;
    }
    int code = sri_graph_check(batch);
    if (code == 0) {
        code = make_index(batch);
    }
    if (code < 0) {
        return code;
    }
    batch->started = true;
    if (batch->options.deadline_ns != 0 && batch->unfinished_count > 0) {
        batch->client.deadline_ns = sri_clock_after(sri_batch_ring(batch)->queue.backend->now_ns(),
                                                    batch->options.deadline_ns);
    }
    sri_batch_take_fresh(batch);
    sri_batch_pump(batch);
    return 0;
}

static int start_and_report(sr_batch *batch, const char *function) {
    const int code = start(batch);
    return code == 0 || code == -ENOMEM
               ? code
               : sri_misuse(code, function, batch->refused_count > 0 ? batch->refused[0] : 0);
}

int sr_batch_start(sr_batch *batch) {
    const int code = sri_batch_check(batch);
    return code < 0 ? SRI_MISUSE(code, 0) : start_and_report(batch, __func__);
}

/* Whether it has finished, and whoever wants to know of it has been told and added nothing. */
static bool is_at_end(sr_batch *batch) {
    sr_ring *ring = sri_batch_ring(batch);
    if (sri_batch_is_finished(batch)) { /* perhaps without a wait that would have told it */
        ring->in_callback = true;
        sri_batch_tell_progress(batch);
        ring->in_callback = false;
    }
    return sri_batch_is_finished(batch);
}

/* Waits until the batch has finished, or something else has come. */
static int run(sr_batch *batch, uint64_t timeout_ns, const sr_completion **out_completions) {
    sr_ring *ring = sri_batch_ring(batch);
    const struct sri_backend *backend = ring->queue.backend;
    const uint64_t start_ns = timeout_ns != SR_FOREVER ? backend->now_ns() : 0;
    uint64_t left_ns = timeout_ns;
    while (!is_at_end(batch)) {
        const int code = sr_ring_wait(ring, 1, left_ns, NULL, out_completions);
        if (code > 0) {
            return code;
        }
        if (code < 0) {
            return is_at_end(batch) ? 0 : code;
        }
        if (timeout_ns != SR_FOREVER && !sri_batch_is_finished(batch)) {
            const uint64_t passed_ns = backend->now_ns() - start_ns;
            if (passed_ns >= timeout_ns) {
                return SR_E_TIMEOUT;
            }
            left_ns = timeout_ns - passed_ns;
        }
    }
    return 0;
}

int sr_batch_run(sr_batch *batch, uint64_t timeout_ns, const sr_completion **out_completions) {
    if (out_completions != NULL) {
        *out_completions = NULL;
    }
    int code = sri_batch_check(batch);
    if (code == 0 && sri_batch_ring(batch)->in_callback) {
        code = SR_E_STATE;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    if (!batch->started) {
        code = start_and_report(batch, __func__);
        if (code < 0) {
            return code;
        }
    }
    return run(batch, timeout_ns, out_completions);
}

int sr_batch_cancel(sr_batch *batch) {
    int code = sri_batch_check(batch);
    if (code == 0 && !batch->started) {
        code = SR_E_STATE;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    /* In a callback of the last node nodes may yet be added. */
    if (!sri_batch_is_finished(batch) || batch->callbacks > 0) {
        sri_batch_stop(batch, SR_STOP_CALLER);
    }
    return 0;
}

/* ---- questions -------------------------------------------------------------------------------
 */

int sr_batch_refusal(sr_batch *batch, sr_node *out_nodes, uint32_t count_max) {
    int code = sri_batch_check(batch);
    if (code == 0 && out_nodes == NULL && count_max > 0) {
        code = -EINVAL;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    for (uint32_t i = 0; i < min_of(batch->refused_count, count_max); i++) {
        out_nodes[i].bits = batch->refused[i];
    }
    return (int)batch->refused_count;
}

/* The node that a call is about, or why there is none. */
static int node_for_caller(sr_batch *batch, sr_node handle, struct sri_node **out_node) {
    const int code = sri_batch_check(batch);
    if (code < 0) {
        return code;
    }
    *out_node = sri_node_find(&batch->nodes, handle.bits);
    return *out_node != NULL ? 0 : SR_E_STALE;
}

int sr_batch_outcome(sr_batch *batch, sr_node node, sr_node_outcome *out_outcome) {
    struct sri_node *found = NULL;
    if (out_outcome == NULL) {
        return SRI_MISUSE(-EINVAL, node.bits);
    }
    *out_outcome = (sr_node_outcome){0};
    const int code = node_for_caller(batch, node, &found);
    if (code < 0) {
        return SRI_MISUSE(code, node.bits);
    }
    sri_node_describe(found, out_outcome);
    return 0;
}

int sr_batch_take_file(sr_batch *batch, sr_node node, sr_file *out_file) {
    struct sri_node *found = NULL;
    if (out_file == NULL) {
        return SRI_MISUSE(-EINVAL, node.bits);
    }
    out_file->bits = 0;
    int code = node_for_caller(batch, node, &found);
    if (code == 0 && (!found->owns_file || !sri_node_has_outcome(found))) {
        code = SR_E_STATE;
    }
    if (code < 0) {
        return SRI_MISUSE(code, node.bits);
    }
    found->owns_file = false;
    out_file->bits = found->file;
    return 0;
}

int sr_batch_take_buffer(sr_batch *batch, sr_node node, sr_buffer *out_buffer) {
    struct sri_node *found = NULL;
    struct sri_node *root = NULL;
    if (out_buffer == NULL) {
        return SRI_MISUSE(-EINVAL, node.bits);
    }
    out_buffer->bits = 0;
    int code = node_for_caller(batch, node, &found);
    if (code == 0) {
        const bool may = sri_node_has_outcome(found) && found->buffer_root != SRI_NODE_NONE;
        root = may ? sri_node_at(&batch->nodes, found->buffer_root) : NULL;
        code = root != NULL && root->owns_buffer ? 0 : SR_E_STATE;
    }
    if (code < 0) {
        return SRI_MISUSE(code, node.bits);
    }
    out_buffer->bits = root->buffer;
    sri_custody_let_buffer_go(batch, root);
    return 0;
}

void sri_batch_stats_fill(const sr_batch *batch, sr_batch_stats *stats) {
    *stats = batch->stats;
    stats->nodes_alive = batch->unfinished_count;
    stats->in_flight = batch->in_flight;
    stats->ready = batch->ready_count;
    stats->starved = batch->starved_count;
    stats->stopped_by = batch->stopped_by;
    stats->finished = sri_batch_is_finished(batch);
}

int sr_batch_get_stats(sr_batch *batch, sr_batch_stats *out_stats) {
    sr_batch_stats stats;
    if (out_stats == NULL || !sri_stats_size_is_valid(out_stats->size)) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    const int code = sri_batch_check(batch);
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    sri_batch_stats_fill(batch, &stats);
    sri_stats_give(out_stats, &stats, sizeof stats);
    return 0;
}
