/* SPDX-License-Identifier: MIT */
#include "support/batch_run.h"

#include "support/batch_request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRIES 8 /* where memory may be lacking: what fails once works then */

static void *zeroed(size_t count, size_t size_bytes) {
    void *memory = calloc(count + 1, size_bytes);
    if (memory == NULL) {
        perror("batch_run");
        abort();
    }
    return memory;
}

static uint32_t below(struct batch_run *run, uint32_t limit) {
    return (uint32_t)scale_random_below(&run->random, limit);
}

static bool percent(struct batch_run *run, uint32_t share) {
    return below(run, 100) < share;
}

static void blame_code(struct batch_run *run, const char *what, uint32_t node, int code) {
    batch_stage_blame(run->stage, "%s, node %u: %s", what, node, sr_error_name(code));
}

sr_batch_stats batch_run_stats(struct batch_run *run) {
    sr_batch_stats stats = SR_BATCH_STATS_INIT;
    const int code = sr_batch_get_stats(run->batch, &stats);
    if (code != 0) {
        batch_stage_blame(run->stage, "sr_batch_get_stats: %s", sr_error_name(code));
    }
    return stats;
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static void on_outcome(sr_batch *batch, sr_node handle, const sr_node_outcome *outcome, void *ctx);

static sr_node handle_of(const struct batch_run *run, uint32_t number) {
    return number == BATCH_NONE ? SR_NODE_NONE : run->nodes[number].node;
}

static void add_node(struct batch_run *run, sr_batch *batch, uint32_t number) {
    const struct batch_node *node = &run->graph.nodes[number];
    sr_node_spec spec = SR_NODE_SPEC_INIT;
    int code = -ENOMEM;
    spec.flags = node->cleanup ? SR_NODE_CLEANUP : 0;
    spec.file_from = handle_of(run, node->file_from);
    spec.new_dir_from = handle_of(run, node->new_dir_from);
    spec.other_from = handle_of(run, node->other_from);
    spec.length_from = handle_of(run, node->length_from);
    spec.buffer_from = handle_of(run, node->buffer_from);
    spec.pool = node->from_pool ? run->stage->pool : NULL;
    spec.on_outcome = node->silent ? NULL : on_outcome;
    spec.request.tag = batch_tag(run->number, number);
    spec.request.ctx = &run->nodes[number];
    spec.request.deadline_ns = node->deadline_ns;
    batch_request_fill(run->stage, node, run->stage->caller_buffers[run->plan.caller_at + number],
                       &spec.request);
    for (int i = 0; i < TRIES && code == -ENOMEM; i++) {
        code = sr_batch_add(batch, &spec, &run->nodes[number].node);
    }
    if (code != 0) {
        blame_code(run, "sr_batch_add", number, code);
        return;
    }
    run->log.seen[number].exists = true;
}

static void add_edges(struct batch_run *run, sr_batch *batch, uint32_t number) {
    const struct batch_node *node = &run->graph.nodes[number];
    for (uint32_t i = node->edge_at; i < node->edge_at + node->edge_count; i++) {
        const struct batch_edge *edge = &run->graph.edges[i];
        int code = -ENOMEM;
        for (int k = 0; k < TRIES && code == -ENOMEM; k++) {
            code = sr_batch_after(batch, handle_of(run, number), handle_of(run, edge->dependency),
                                  edge->when);
        }
        if (code != 0) {
            blame_code(run, "sr_batch_after", number, code);
        }
    }
}

/* Arguments first: their handles are needed. */
static void add_with_arguments(struct batch_run *run, uint32_t number) {
    if (number == BATCH_NONE || run->log.seen[number].exists || run->stage->fault[0] != '\0') {
        return;
    }
    const struct batch_node *node = &run->graph.nodes[number];
    const uint32_t needed[] = {node->file_from, node->new_dir_from, node->other_from,
                               node->length_from, node->buffer_from};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        add_with_arguments(run, needed[i]);
    }
    add_node(run, run->batch, number);
}

/* The nodes before the start, in any order: edges may then lead to nodes that were added later. */
static void add_nodes(struct batch_run *run) {
    const uint32_t count = run->graph.node_count;
    uint32_t *order = zeroed(count, sizeof order[0]);
    const bool shuffles = percent(run, 50);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t j = shuffles ? below(run, i + 1) : i;
        order[i] = order[j];
        order[j] = i;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (run->graph.nodes[order[i]].added_by == BATCH_NONE) {
            add_with_arguments(run, order[i]);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        if (run->graph.nodes[order[i]].added_by == BATCH_NONE) {
            add_edges(run, run->batch, order[i]);
        }
    }
    free(order);
}

/* ---- callbacks ------------------------------------------------------------------------------- */

static uint32_t number_of(const struct batch_run *run, sr_node handle) {
    for (uint32_t i = 0; handle.bits != 0 && i < run->graph.node_count; i++) {
        if (run->nodes[i].node.bits == handle.bits) {
            return i;
        }
    }
    return BATCH_NONE;
}

static void note_outcome(struct batch_run *run, uint32_t number, const sr_node_outcome *outcome) {
    struct batch_seen *seen = &run->log.seen[number];
    seen->state = outcome->state;
    seen->cancelled_by = outcome->cancelled_by;
    seen->result = outcome->result;
    seen->bytes_done = outcome->bytes_done;
    seen->cause = number_of(run, outcome->cause);
    if (outcome->completion != NULL) {
        seen->has_completion = true;
        seen->completion_result = outcome->completion->result;
        seen->completion_bytes = outcome->completion->bytes_done;
        seen->completion_flags = outcome->completion->flags;
    }
}

/* What a read has brought is what stands in the file. */
static void check_bytes(struct batch_run *run, uint32_t number, const sr_completion *completion) {
    const struct batch_node *node = &run->graph.nodes[number];
    const bool reads =
        node->work == BATCH_READ || node->work == BATCH_READ_OPENED || node->work == BATCH_REFILL;
    const size_t length = completion != NULL ? (size_t)completion->bytes_done : 0;
    void *data = NULL;
    if (!reads || !node->is_known || length == 0) {
        return;
    }
    int code =
        sr_buffer_data(run->stage->pool, completion->buffer, 0, length, SR_ACCESS_READ, &data);
    if (code == SR_E_STALE) {
        code = sr_buffer_data(run->stage->caller_pool, completion->buffer, 0, length,
                              SR_ACCESS_READ, &data);
    }
    if (code != 0) {
        blame_code(run, "sr_buffer_data in the callback", number, code);
        return;
    }
    for (size_t i = 0; i < length; i++) {
        const unsigned char expected = (unsigned char)((node->offset + i) % 251);
        if (((const unsigned char *)data)[i] != expected) {
            batch_stage_blame(run->stage, "node %u: byte %zu is wrong", number, i);
            return;
        }
    }
}

static void take(struct batch_run *run, sr_batch *batch, uint32_t number) {
    const struct batch_node *node = &run->graph.nodes[number];
    const bool opens =
        node->work == BATCH_OPEN || node->work == BATCH_OPEN_IN || node->work == BATCH_OPEN_DIR;
    int code = 0;
    if (run->log.seen[number].state != SR_OUTCOME_DONE || !percent(run, 30)) {
        return;
    }
    if (opens) {
        code = sr_batch_take_file(batch, handle_of(run, number),
                                  &run->taken_files[run->taken_file_count++]);
    } else if (node->from_pool) {
        code = sr_batch_take_buffer(batch, handle_of(run, number),
                                    &run->taken_buffers[run->taken_buffer_count++]);
    }
    if (code != 0) {
        blame_code(run, "taking from the batch", number, code);
    }
}

static void cancel(struct batch_run *run, sr_batch *batch) {
    sr_batch_stats stats = SR_BATCH_STATS_INIT;
    run->was_stopped_by_us = true;
    batch_log_add(&run->log, BATCH_STOP, BATCH_NONE, SR_STOP_NONE);
    int code = sr_batch_cancel(batch);
    if (code == 0) {
        code = sr_batch_get_stats(batch, &stats);
        batch_log_add(&run->log, BATCH_LOOK, BATCH_NONE, stats.stopped_by);
    }
    if (code != 0) {
        batch_stage_blame(run->stage, "sr_batch_cancel: %s", sr_error_name(code));
    }
}

static void check_call(struct batch_run *run, uint32_t number, sr_node handle,
                       const sr_node_outcome *outcome) {
    const sr_completion *completion = outcome->completion;
    if (!run->may_call) {
        batch_stage_blame(run->stage, "node %u: a callback outside of a wait", number);
    }
    if (handle.bits != run->nodes[number].node.bits ||
        outcome->tag != batch_tag(run->number, number)) {
        batch_stage_blame(run->stage, "node %u: handle or tag of another node", number);
    }
    if (completion != NULL && completion->tag != outcome->tag) {
        batch_stage_blame(run->stage, "node %u: the completion has another tag", number);
    }
}

static void add_more(struct batch_run *run, sr_batch *batch, uint32_t adder) {
    for (uint32_t i = adder + 1; i < run->graph.node_count; i++) {
        if (run->graph.nodes[i].added_by == adder && !run->log.seen[i].exists) {
            add_node(run, batch, i);
            add_edges(run, batch, i);
        }
    }
}

static void on_outcome(sr_batch *batch, sr_node handle, const sr_node_outcome *outcome, void *ctx) {
    struct batch_run_node *self = ctx;
    struct batch_run *run = self->run;
    const uint32_t number = self->number;
    sr_batch_stats stats = SR_BATCH_STATS_INIT;
    const int code = sr_batch_get_stats(batch, &stats);
    if (code != 0) {
        blame_code(run, "sr_batch_get_stats in the callback", number, code);
    }
    check_call(run, number, handle, outcome);
    if (run->log.seen[number].state == SR_OUTCOME_NONE) {
        note_outcome(run, number, outcome);
    }
    batch_log_add(&run->log, BATCH_BEGIN, number, stats.stopped_by);
    check_bytes(run, number, outcome->completion);
    if (run->plan.takes) {
        take(run, batch, number);
    }
    if (run->outcome_count++ == run->plan.cancel_at) {
        cancel(run, batch);
    }
    add_more(run, batch, number);
    if (run->plan.submits && percent(run, 10)) {
        batch_stage_plain(run->stage, percent(run, 50));
    }
    batch_log_add(&run->log, BATCH_RETURN, number, SR_STOP_NONE);
}

void batch_run_traced(struct batch_run *run, int event, uint32_t number) {
    if (number >= run->graph.node_count) {
        batch_stage_blame(run->stage, "an event of node %u, which is not there", number);
        return;
    }
    const struct batch_node *node = &run->graph.nodes[number];
    if (event == SR_TRACE_SUBMIT) {
        batch_log_add(&run->log, BATCH_START, number, SR_STOP_NONE);
    } else if (event == SR_TRACE_COMPLETE) {
        batch_log_add(&run->log, BATCH_ENDED, number, SR_STOP_NONE);
    }
    if (node->work == BATCH_PIPE && (event == SR_TRACE_SUBMIT || event == SR_TRACE_COMPLETE)) {
        const uint32_t change = event == SR_TRACE_SUBMIT ? 1u : UINT32_MAX;
        run->pipes_in_flight += change;
        run->cleanup_pipes_in_flight += node->cleanup ? change : 0;
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

static void copy_graph(struct batch_run *run, const struct batch_graph *graph) {
    run->graph = *graph;
    run->graph.nodes = zeroed(graph->node_count, sizeof graph->nodes[0]);
    run->graph.edges = zeroed(graph->edge_count, sizeof graph->edges[0]);
    if (graph->node_count > 0) {
        memcpy(run->graph.nodes, graph->nodes, graph->node_count * sizeof graph->nodes[0]);
    }
    if (graph->edge_count > 0) {
        memcpy(run->graph.edges, graph->edges, graph->edge_count * sizeof graph->edges[0]);
    }
}

static void create(struct batch_run *run) {
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    int code = -ENOMEM;
    options.in_flight_max = run->plan.policy.in_flight_max;
    options.fail_fast = run->plan.policy.fail_fast;
    options.forget = run->plan.forgets;
    options.deadline_ns = run->plan.deadline_ns;
    for (int i = 0; i < TRIES && code == -ENOMEM; i++) {
        code = sr_batch_create(run->stage->ring, &options, &run->batch);
    }
    if (code != 0) {
        batch_stage_blame(run->stage, "sr_batch_create: %s", sr_error_name(code));
    }
}

void batch_run_open(struct batch_run *out_run, struct batch_stage *stage,
                    const struct batch_graph *graph, const struct batch_run_plan *plan,
                    uint32_t number) {
    const uint32_t count = graph->node_count;
    *out_run = (struct batch_run){.stage = stage, .plan = *plan, .number = number};
    out_run->random.state = plan->seed;
    copy_graph(out_run, graph);
    out_run->nodes = zeroed(count, sizeof out_run->nodes[0]);
    out_run->taken_files = zeroed(count, sizeof out_run->taken_files[0]);
    out_run->taken_buffers = zeroed(count, sizeof out_run->taken_buffers[0]);
    for (uint32_t i = 0; i < count; i++) {
        out_run->nodes[i] = (struct batch_run_node){out_run, i, SR_NODE_NONE};
    }
    batch_log_open(&out_run->log, count);
    create(out_run);
    if (out_run->batch != NULL) {
        add_nodes(out_run);
    }
}

void batch_run_start(struct batch_run *run) {
    int code = -ENOMEM;
    for (int i = 0; i < TRIES && code == -ENOMEM; i++) {
        code = sr_batch_start(run->batch);
    }
    if (code != 0) {
        batch_stage_blame(run->stage, "sr_batch_start: %s", sr_error_name(code));
    }
}

bool batch_run_is_finished(struct batch_run *run) {
    return run->batch == NULL || batch_run_stats(run).finished != 0;
}

void batch_run_look(struct batch_run *run) {
    if (run->batch != NULL) {
        batch_log_add(&run->log, BATCH_LOOK, BATCH_NONE, batch_run_stats(run).stopped_by);
    }
}

void batch_run_cancel(struct batch_run *run) {
    cancel(run, run->batch);
}

void batch_run_destroy(struct batch_run *run) {
    run->may_call = true;
    run->was_stopped_by_us = true;
    batch_log_add(&run->log, BATCH_STOP, BATCH_NONE, SR_STOP_NONE);
    const int code = sr_batch_destroy(&run->batch);
    run->may_call = false;
    if (code != 0 || run->batch != NULL) {
        batch_stage_blame(run->stage, "sr_batch_destroy in the middle: %s", sr_error_name(code));
        run->batch = NULL;
    }
}

static void give_back_buffers(struct batch_run *run) {
    for (uint32_t i = 0; i < run->taken_buffer_count; i++) {
        const int code = sr_pool_release(run->stage->pool, run->taken_buffers[i]);
        if (code != 0) {
            batch_stage_blame(run->stage, "releasing a taken buffer: %s", sr_error_name(code));
        }
    }
}

/* A CLOSE node may have closed what the caller took. */
static void give_back_files(struct batch_run *run) {
    for (uint32_t i = 0; i < run->taken_file_count; i++) {
        int fd = -1;
        const int code = sr_file_detach(run->stage->ring, run->taken_files[i], &fd);
        if (code == 0) {
            (void)close(fd); /* read only: no error that matters */
        } else if (code != SR_E_STALE) {
            batch_stage_blame(run->stage, "detaching a taken file: %s", sr_error_name(code));
        }
    }
}

/* ---- the end --------------------------------------------------------------------------------- */

/* What sr_batch_outcome() says must be what the callback said. */
static void ask_outcome(struct batch_run *run, uint32_t number) {
    struct batch_seen *seen = &run->log.seen[number];
    struct batch_seen asked = {.cause = BATCH_NONE};
    sr_node_outcome outcome;
    memset(&outcome, 0xff, sizeof outcome);
    const int code = sr_batch_outcome(run->batch, handle_of(run, number), &outcome);
    if (code == SR_E_STALE && run->plan.forgets) {
        return;
    }
    if (code != 0 || outcome.completion != NULL || outcome.tag != batch_tag(run->number, number)) {
        blame_code(run, "sr_batch_outcome, its completion or its tag", number, code);
        return;
    }
    if (seen->state == SR_OUTCOME_NONE) {
        note_outcome(run, number, &outcome);
        return;
    }
    asked.state = outcome.state;
    asked.cancelled_by = outcome.cancelled_by;
    asked.result = outcome.result;
    asked.bytes_done = outcome.bytes_done;
    asked.cause = number_of(run, outcome.cause);
    if (asked.state != seen->state || asked.cancelled_by != seen->cancelled_by ||
        asked.result != seen->result || asked.bytes_done != seen->bytes_done ||
        asked.cause != seen->cause) {
        batch_stage_blame(run->stage, "node %u: %s in the callback, %s when asked", number,
                          batch_seen_text(seen), batch_seen_text(&asked));
    }
}

static void check_stats(struct batch_run *run) {
    const sr_batch_stats stats = batch_run_stats(run);
    uint64_t totals[SR_OUTCOME_SKIPPED + 1] = {0};
    uint64_t bytes = 0;
    uint64_t nodes = 0;
    for (uint32_t i = 0; i < run->graph.node_count; i++) {
        const struct batch_seen *seen = &run->log.seen[i];
        nodes += seen->exists;
        totals[seen->state] += seen->exists;
        bytes += seen->bytes_done;
    }
    if (stats.nodes_total != nodes || stats.done_total != totals[SR_OUTCOME_DONE] ||
        stats.failed_total != totals[SR_OUTCOME_FAILED] ||
        stats.cancelled_total != totals[SR_OUTCOME_CANCELLED] ||
        stats.skipped_total != totals[SR_OUTCOME_SKIPPED] || stats.bytes_total != bytes) {
        batch_stage_blame(
            run->stage,
            "stats: %llu nodes, %llu done, %llu failed, %llu cancelled, %llu skipped, %llu bytes; "
            "expected %llu, %llu, %llu, %llu, %llu, %llu",
            (unsigned long long)stats.nodes_total, (unsigned long long)stats.done_total,
            (unsigned long long)stats.failed_total, (unsigned long long)stats.cancelled_total,
            (unsigned long long)stats.skipped_total, (unsigned long long)stats.bytes_total,
            (unsigned long long)nodes, (unsigned long long)totals[SR_OUTCOME_DONE],
            (unsigned long long)totals[SR_OUTCOME_FAILED],
            (unsigned long long)totals[SR_OUTCOME_CANCELLED],
            (unsigned long long)totals[SR_OUTCOME_SKIPPED], (unsigned long long)bytes);
    }
    if (stats.nodes_alive != 0 || stats.in_flight != 0 || stats.ready != 0 || stats.starved != 0) {
        batch_stage_blame(run->stage,
                          "stats: %u alive, %u in flight, %u ready, %u starved at the "
                          "end",
                          stats.nodes_alive, stats.in_flight, stats.ready, stats.starved);
    }
}

static const char *compare(struct batch_run *run) {
    const struct batch_policy *policy = &run->plan.policy;
    bool is_stopped = false;
    const char *wrong = batch_reference_replay(&batch_rules, &run->graph, policy, &run->log);
    for (uint32_t i = 0; i < run->log.event_count; i++) {
        is_stopped = is_stopped || run->log.events[i].kind == BATCH_STOP ||
                     run->log.events[i].stopped_by != SR_STOP_NONE;
    }
    if (wrong == NULL && !is_stopped && !policy->may_lack_memory) {
        wrong = batch_reference_evaluate(&batch_rules, &run->graph, &run->log);
    }
    return wrong;
}

const char *batch_run_finish(struct batch_run *run) {
    if (run->batch != NULL) {
        for (uint32_t i = 0; i < run->graph.node_count; i++) {
            if (run->log.seen[i].exists) {
                ask_outcome(run, i);
            }
        }
        batch_run_look(run);
        check_stats(run);
        const int code = sr_batch_destroy(&run->batch);
        if (code != 0 || run->batch != NULL) {
            batch_stage_blame(run->stage, "sr_batch_destroy: %s", sr_error_name(code));
        }
    }
    give_back_buffers(run);
    give_back_files(run);
    const char *wrong = compare(run);
    if (wrong != NULL) {
        batch_stage_blame(run->stage, "%s", wrong);
    }
    return run->stage->fault[0] != '\0' ? run->stage->fault : NULL;
}

void batch_run_close(struct batch_run *run) {
    batch_log_close(&run->log);
    batch_graph_free(&run->graph);
    free(run->nodes);
    free(run->taken_files);
    free(run->taken_buffers);
}
