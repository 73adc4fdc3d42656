/* SPDX-License-Identifier: MIT */
/*
 * Outcomes: every node gets exactly one, is told it, and hands it on along its edges. Nothing here
 * recurses: a node whose outcome is known waits in a list until it is told, so a chain of any
 * length is a loop.
 */
#include "batch/batch.h"

#include "sys/memory.h"

#include <errno.h>

static void decide(sr_batch *batch, struct sri_node *node, enum sr_outcome_state outcome,
                   int64_t result) {
    node->outcome = (uint8_t)outcome;
    node->result = result;
    sri_node_move(node, SRI_NODE_DECIDED);
    sri_node_list_append(&batch->nodes, &batch->decided, node);
}

void sri_node_fail(sr_batch *batch, struct sri_node *node, int64_t code) {
    decide(batch, node, SR_OUTCOME_FAILED, code);
}

void sri_node_cancel(sr_batch *batch, struct sri_node *node, enum sr_stop by) {
    node->cancelled_by = (uint8_t)by;
    decide(batch, node, SR_OUTCOME_CANCELLED, -ECANCELED);
}

void sri_node_skip(sr_batch *batch, struct sri_node *node) {
    decide(batch, node, SR_OUTCOME_SKIPPED, -ECANCELED);
}

void sri_node_done(sr_batch *batch, struct sri_node *node, int64_t result) {
    decide(batch, node, SR_OUTCOME_DONE, result);
}

void sri_node_describe(const struct sri_node *node, sr_node_outcome *out_outcome) {
    *out_outcome = (sr_node_outcome){.tag = node->tag};
    if (!sri_node_has_outcome(node)) {
        return;
    }
    out_outcome->state = node->outcome;
    out_outcome->cancelled_by = node->cancelled_by;
    out_outcome->result = node->result;
    out_outcome->bytes_done = node->measures_file ? 0 : node->measure;
    out_outcome->cause.bits = node->outcome == SR_OUTCOME_SKIPPED ? node->cause : 0;
}

/* ---- edges -----------------------------------------------------------------------------------
 */

static bool satisfies(const struct sri_node *dependency, uint32_t when, bool argument) {
    if (argument) {
        return dependency->outcome == SR_OUTCOME_DONE && when != SR_ON_FAILURE;
    }
    switch (when) {
    case SR_ON_SUCCESS:
        return dependency->outcome == SR_OUTCOME_DONE;
    case SR_ON_FAILURE:
        return dependency->outcome == SR_OUTCOME_FAILED ||
               dependency->outcome == SR_OUTCOME_CANCELLED;
    default:
        return true;
    }
}

void sri_node_meet(struct sri_node *node, const struct sri_node *dependency, uint32_t ordinal,
                   uint32_t when, bool argument) {
    if (ordinal < node->unmet && !satisfies(dependency, when, argument)) {
        node->unmet = ordinal;
        node->cause =
            dependency->outcome == SR_OUTCOME_SKIPPED ? dependency->cause : dependency->handle;
    }
}

static void hand_on(sr_batch *batch, const struct sri_node *node, const struct sri_edge *edge) {
    struct sri_node *to = sri_node_at(&batch->nodes, edge->to);
    sri_node_meet(to, node, edge->ordinal, edge->when, edge->argument);
    SR_CHECK(to->unresolved > 0);
    to->unresolved--;
    if (to->unresolved == 0 && to->state == SRI_NODE_PENDING) {
        sri_node_evaluate(batch, to);
    }
}

static void resolve_edges(sr_batch *batch, struct sri_node *node) {
    for (uint32_t i = node->edge_first; i != SRI_EDGE_NONE;) {
        const struct sri_edge *edge = sri_edge_at(&batch->edges, i);
        if (!edge->known) {
            hand_on(batch, node, edge);
        }
        i = edge->next;
    }
    if (batch->options.forget == 1) { /* else they stay for whoever draws the graph */
        node->edge_first = SRI_EDGE_NONE;
        node->edge_last = SRI_EDGE_NONE;
    }
}

/* ---- telling ---------------------------------------------------------------------------------
 */

static void count(sr_batch *batch, const struct sri_node *node) {
    sr_batch_stats *stats = &batch->stats;
    stats->done_total += node->outcome == SR_OUTCOME_DONE;
    stats->failed_total += node->outcome == SR_OUTCOME_FAILED;
    stats->cancelled_total += node->outcome == SR_OUTCOME_CANCELLED;
    stats->skipped_total += node->outcome == SR_OUTCOME_SKIPPED;
    stats->bytes_total += node->measures_file ? 0 : node->measure;
    batch->unfinished_count--;
    batch->told_total++;
}

static void tell(sr_batch *batch, struct sri_node *node, const sr_completion *completion) {
    sr_node_outcome outcome;
    sr_completion mine;
    sri_node_describe(node, &outcome);
    if (completion != NULL) {
        mine = *completion;
        mine.ctx = node->ctx; /* the ring knows the batch instead */
        outcome.completion = &mine;
    }
    batch->callbacks++;
    node->on_outcome(batch, (sr_node){node->handle}, &outcome, node->ctx);
    batch->callbacks--;
}

void sri_node_end(sr_batch *batch, struct sri_node *node, const sr_completion *completion) {
    sri_node_move(node, SRI_NODE_ENDED);
    sri_release(node->spec);
    node->spec = NULL;
    count(batch, node);
    if (completion == NULL) {
        sri_batch_ring(batch)->callbacks_count++; /* the ring counts those of operations */
    }
    if (node->on_outcome != NULL) {
        tell(batch, node, completion);
    }
    if (node->outcome == SR_OUTCOME_FAILED && batch->options.fail_fast == 1 &&
        !sri_node_is_cleanup(node)) {
        sri_batch_stop(batch, SR_STOP_FAIL_FAST);
    }
    sri_batch_take_fresh(batch);
    resolve_edges(batch, node);
    sri_custody_unrefer(batch, node);
    sri_custody_forget(batch, node);
    if (sri_batch_is_finished(batch)) {
        batch->client.deadline_ns = SR_FOREVER;
    }
}

void sri_batch_tell_progress(sr_batch *batch) {
    const bool at_end = sri_batch_is_finished(batch) && !batch->told_end;
    sr_batch_stats stats = SR_BATCH_STATS_INIT;
    if (batch->options.on_progress == NULL || !batch->started ||
        (batch->told_total == batch->told_before && !at_end)) {
        return;
    }
    batch->told_before = batch->told_total;
    batch->told_end = sri_batch_is_finished(batch);
    sri_batch_stats_fill(batch, &stats);
    batch->callbacks++;
    batch->options.on_progress(batch, &stats, batch->options.progress_ctx);
    batch->callbacks--;
    sri_batch_take_fresh(batch);
    sri_batch_pump(batch);
}
