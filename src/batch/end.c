/* SPDX-License-Identifier: MIT */
/*
 * The end of a batch: stop it, let its clean-up nodes run for a while, abandon what the kernel
 * still has, give back what nobody took. Every node has its outcome before its record goes.
 */
#include "batch/batch.h"

#include <errno.h>

/* How long to rest when the kernel refuses to be entered. */
#define REFUSED_PAUSE_NS 1000000u

/* Whether a code of a wait says that trying again may help. */
static bool is_passing(int code) {
    return code == -EAGAIN || code == -EBUSY || code == -ENOMEM || code == -EINTR;
}

/* Drives the ring until the batch has finished, its time is over, or nothing moves any more. */
static void drain(sr_batch *batch) {
    sr_ring *ring = sri_batch_ring(batch);
    const struct sri_backend *backend = ring->queue.backend;
    const uint64_t start_ns = backend->now_ns();
    uint64_t passed_ns = 0;
    while (!sri_batch_is_finished(batch) && passed_ns < batch->options.drain_timeout_ns) {
        const uint64_t told_before = batch->told_total;
        const int code = sri_ring_wait_aside(ring, batch->options.drain_timeout_ns - passed_ns);
        if (is_passing(code)) {
            backend->pause(REFUSED_PAUSE_NS);
        } else if (code < 0 || (batch->told_total == told_before && sri_ring_expected(ring) == 0)) {
            return;
        }
        passed_ns = backend->now_ns() - start_ns;
    }
}

/* Gives up on what is in flight. Returns how many operations that were. */
static uint32_t abandon(sr_batch *batch) {
    uint32_t count = 0;
    for (uint32_t i = 0; batch->in_flight > 0;) {
        sr_completion completion;
        const struct sri_index_cell *cell = &batch->cells[i];
        if (cell->value == SRI_INDEX_NONE) {
            i++; /* a callback may bring one into a cell that was free */
            i = i >= batch->index.count_max ? 0 : i;
            continue;
        }
        const uint64_t op = cell->key;
        const int code = sr_op_abandon(sri_batch_ring(batch), (sr_op){op}, &completion);
        if (code < 0) { /* somebody has done so behind our back: there was no outcome */
            completion = (sr_completion){.op = {op}, .result = SR_E_TIMEOUT};
        }
        sri_batch_complete(batch, &completion);
        count++;
    }
    return count;
}

/* Outcomes for all that have none, now. Callbacks run. */
static uint32_t finish(sr_batch *batch) {
    sr_ring *ring = sri_batch_ring(batch);
    ring->in_callback = true;
    sri_batch_close(batch);
    const uint32_t abandoned = abandon(batch);
    sri_batch_work(batch);
    sri_batch_tell_progress(batch);
    ring->in_callback = false;
    SR_CHECK(sri_batch_is_finished(batch));
    return abandoned;
}

static void give_back(sr_batch *batch) {
    for (uint32_t i = 0; i < batch->nodes.place_count; i++) {
        struct sri_node *node = sri_node_at(&batch->nodes, i);
        if (node->handle != 0) {
            sri_custody_return_buffer(batch, node);
            sri_custody_drop_file(batch, node);
        }
    }
}

static int destroy(sr_batch *batch) {
    uint32_t abandoned = 0;
    if (batch->started && !sri_batch_is_finished(batch)) {
        sri_batch_stop(batch, SR_STOP_CALLER);
        drain(batch);
        abandoned = !sri_batch_is_finished(batch) ? finish(batch) : 0;
    }
    give_back(batch);
    sri_ring_remove_client(&batch->client);
    sri_batch_free(batch);
    return abandoned > 0 ? SR_E_IN_FLIGHT : 0;
}

int sr_batch_destroy(sr_batch **batch) {
    if (batch == NULL) {
        return SRI_MISUSE(SR_E_OBJECT, 0);
    }
    sr_batch *const gone = *batch;
    if (gone == NULL) {
        return 0;
    }
    if (!sri_batch_is_valid(gone)) {
        return SRI_MISUSE(SR_E_OBJECT, 0);
    }
    const bool owner = gone->owner_key == sri_owner_key();
    const bool memory_only =
        !owner && (sri_owner_is_forked(gone->owner_key) || !sri_owner_is_alive(gone->owner_key));
    if (memory_only) {
        *batch = NULL;
        sri_ring_remove_client(&gone->client);
        sri_batch_free(gone);
        return 0;
    }
    const int code =
        !owner ? SR_E_WRONG_THREAD : (sri_batch_ring(gone)->in_callback ? SR_E_STATE : 0);
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    const int result = destroy(gone);
    *batch = NULL; /* only now: callbacks may look at it */
    return result;
}
