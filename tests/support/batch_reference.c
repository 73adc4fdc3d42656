/* SPDX-License-Identifier: MIT */
#include "support/batch_reference.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const struct batch_rules batch_rules = {
    .edge =
        {
            [SR_ON_SUCCESS] = {BATCH_SATISFIED, BATCH_SKIP_BY_DEPENDENCY, BATCH_SKIP_BY_DEPENDENCY,
                               BATCH_SKIP_SAME_CAUSE},
            [SR_ON_FAILURE] = {BATCH_SKIP_BY_DEPENDENCY, BATCH_SATISFIED, BATCH_SATISFIED,
                               BATCH_SKIP_SAME_CAUSE},
            [SR_ALWAYS] = {BATCH_SATISFIED, BATCH_SATISFIED, BATCH_SATISFIED, BATCH_SATISFIED},
        },
    .argument = {BATCH_BY_TABLE, BATCH_SKIP_BY_DEPENDENCY, BATCH_SKIP_BY_DEPENDENCY,
                 BATCH_SKIP_SAME_CAUSE},
    .first_edge_is_cause = true,
    .cleanup_runs = true,
    .cleanup_failure_stops = false,
    .failure_stops = true,
    .first_stop_stays = true,
    .short_is_failed = true,
    .cancel_must_be_asked = true,
    .interrupted_is_cancelled = true,
    .own_deadline_is_named = true,
    .stop_is_named = true,
};

/* Another verdict than @verdict: number @turn of @count. */
static enum batch_verdict other_verdict(enum batch_verdict verdict, uint32_t turn, uint32_t count) {
    return (enum batch_verdict)(((uint32_t)verdict + 1 + turn) % count);
}

const struct batch_rules *batch_rules_mutant(uint32_t index, const char **out_name) {
    static struct batch_rules mutant;
    static char name[64];
    const uint32_t edge_mutants = 3 * BATCH_STATES * 2;
    enum batch_verdict *cell = NULL;
    mutant = batch_rules;
    if (index < edge_mutants) {
        const uint32_t when = index / (2 * BATCH_STATES);
        const uint32_t column = index / 2 % BATCH_STATES;
        cell = &mutant.edge[when][column];
        *cell = other_verdict(*cell, index % 2, 3);
        (void)snprintf(name, sizeof name, "%s, state %u: verdict %d", batch_when_name(when),
                       column + 1, (int)*cell);
    } else {
        const uint32_t column = (index - edge_mutants) / 3;
        cell = &mutant.argument[column];
        *cell = other_verdict(*cell, (index - edge_mutants) % 3, 4);
        (void)snprintf(name, sizeof name, "argument, state %u: verdict %d", column + 1, (int)*cell);
    }
    *out_name = name;
    return &mutant;
}

static char message[512];

__attribute__((format(printf, 1, 2))) static const char *wrong(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return message;
}

/* ---- the table ------------------------------------------------------------------------------- */

static struct batch_seen blank_outcome(uint32_t state, int64_t result) {
    return (struct batch_seen){
        .exists = true, .state = state, .result = result, .cause = BATCH_NONE};
}

static enum batch_verdict verdict_of_edge(const struct batch_rules *rules,
                                          const struct batch_node *node,
                                          const struct batch_edge *edge,
                                          const struct batch_seen *outcomes) {
    const uint32_t column = outcomes[edge->dependency].state - SR_OUTCOME_DONE;
    if (column >= BATCH_STATES) {
        return BATCH_SKIP_SAME_CAUSE; /* no outcome at all: found elsewhere */
    }
    const enum batch_verdict verdict =
        batch_node_takes(node, edge->dependency) ? rules->argument[column] : BATCH_BY_TABLE;
    return verdict != BATCH_BY_TABLE ? verdict : rules->edge[edge->when][column];
}

/* Whether the node runs, by the outcomes of its dependencies; if not its cause. */
static bool edges_allow(const struct batch_rules *rules, const struct batch_graph *graph,
                        uint32_t number, const struct batch_seen *outcomes, uint32_t *out_cause) {
    const struct batch_node *node = &graph->nodes[number];
    bool allowed = true;
    *out_cause = BATCH_NONE;
    for (uint32_t i = node->edge_at; i < node->edge_at + node->edge_count; i++) {
        const struct batch_edge *edge = &graph->edges[i];
        const enum batch_verdict verdict = verdict_of_edge(rules, node, edge, outcomes);
        if (verdict == BATCH_SATISFIED || (!allowed && rules->first_edge_is_cause)) {
            continue;
        }
        allowed = false;
        *out_cause = verdict == BATCH_SKIP_BY_DEPENDENCY ? edge->dependency
                                                         : outcomes[edge->dependency].cause;
    }
    return allowed;
}

/* ---- operations ------------------------------------------------------------------------------ */

/* The bytes that the node asks for. */
static uint64_t bytes_asked(const struct batch_graph *graph, const struct batch_node *node,
                            const struct batch_seen *outcomes) {
    if (node->length_from == BATCH_NONE) {
        return node->length;
    }
    return graph->nodes[node->length_from].work == BATCH_STATX
               ? BATCH_DATA_BYTES
               : outcomes[node->length_from].bytes_done;
}

/* What a completion makes of its node. @stop: what had stopped the batch by then. */
static struct batch_seen outcome_of_operation(const struct batch_rules *rules,
                                              const struct batch_node *node, uint64_t asked,
                                              int64_t result, uint64_t bytes, uint32_t flags,
                                              uint32_t stop) {
    const bool was_asked =
        (flags & SR_COMPLETION_CANCEL_ASKED) != 0 || !rules->cancel_must_be_asked;
    const bool was_ended =
        result == -ECANCELED || (result == -EINTR && rules->interrupted_is_cancelled);
    struct batch_seen outcome = blank_outcome(SR_OUTCOME_FAILED, result);
    outcome.bytes_done = bytes;
    if (result < 0 && was_ended && was_asked) {
        outcome.state = SR_OUTCOME_CANCELLED;
        outcome.result = -ECANCELED;
        outcome.cancelled_by =
            (flags & SR_COMPLETION_DEADLINE_HIT) != 0 && rules->own_deadline_is_named
                ? SR_STOP_DEADLINE
            : stop != SR_STOP_NONE && rules->stop_is_named ? stop
                                                           : SR_STOP_CALLER;
    } else if (result >= 0 && node->full && (uint64_t)result < asked && rules->short_is_failed) {
        outcome.result = SR_E_SHORT;
    } else if (result >= 0) {
        outcome.state = SR_OUTCOME_DONE;
    }
    return outcome;
}

/* What the operation brings if nobody disturbs it. False if the ring will not take it. */
static bool known_result(const struct batch_node *node, uint64_t asked, int64_t *out_result) {
    if (batch_work_transfers(node->work) && asked > BATCH_BUFFER_BYTES) {
        *out_result = SR_E_BOUNDS;
        return false;
    }
    *out_result = (int64_t)(asked < node->available ? asked : node->available);
    if (!batch_work_transfers(node->work)) {
        *out_result = 0;
    }
    if (node->code != 0) {
        *out_result = node->code;
    }
    return true;
}

static bool same_outcome(const struct batch_seen *a, const struct batch_seen *b) {
    return a->state == b->state && a->cancelled_by == b->cancelled_by && a->result == b->result &&
           a->bytes_done == b->bytes_done && a->cause == b->cause;
}

static const char *differ(const char *by, uint32_t number, const struct batch_seen *expected,
                          const struct batch_seen *seen) {
    if (same_outcome(expected, seen)) {
        return NULL;
    }
    return wrong("%s: node %u: expected %s, got %s", by, number, batch_seen_text(expected),
                 batch_seen_text(seen));
}

/* ---- replay ---------------------------------------------------------------------------------- */

struct place {
    bool started;
    bool ended;
    bool begun;
    bool returned;
};

struct replay {
    const struct batch_rules *rules;
    const struct batch_graph *graph;
    const struct batch_policy *policy;
    const struct batch_log *log;
    struct place *places;
    uint32_t stop;     /* enum sr_stop: what has stopped the batch */
    bool stop_is_open; /* a deadline may have come before the caller's stop */
    uint32_t in_flight;
    uint32_t left; /* nodes whose outcome is still to come */
};

static const struct batch_node *node_of(const struct replay *replay, uint32_t number) {
    return &replay->graph->nodes[number];
}

/* Whether a dependency has its outcome, and the callback has seen it. */
static bool is_over(const struct replay *replay, uint32_t number) {
    const struct place *place = &replay->places[number];
    const struct batch_node *node = node_of(replay, number);
    if (!node->silent) {
        return place->returned;
    }
    if (replay->log->seen[number].state != SR_OUTCOME_SKIPPED) {
        return place->ended || !place->started;
    }
    return true;
}

static const char *check_dependencies(const struct replay *replay, uint32_t number,
                                      const char *what) {
    const struct batch_node *node = node_of(replay, number);
    for (uint32_t i = node->edge_at; i < node->edge_at + node->edge_count; i++) {
        if (!is_over(replay, replay->graph->edges[i].dependency)) {
            return wrong("replay: node %u %s, but node %u, on which it depends, is not over",
                         number, what, replay->graph->edges[i].dependency);
        }
    }
    return NULL;
}

static const char *replay_start(struct replay *replay, uint32_t number) {
    const struct batch_node *node = node_of(replay, number);
    struct place *place = &replay->places[number];
    uint32_t cause = BATCH_NONE;
    if (place->started || place->begun || node->misses_edge) {
        return wrong("replay: node %u starts %s", number,
                     place->started ? "twice"
                     : place->begun ? "after its outcome"
                                    : "without the edge for its argument");
    }
    place->started = true;
    replay->in_flight++;
    const char *fault = check_dependencies(replay, number, "starts");
    if (fault != NULL) {
        return fault;
    }
    if (!edges_allow(replay->rules, replay->graph, number, replay->log->seen, &cause)) {
        return wrong("replay: node %u starts, but its edges say skip, cause %u", number, cause);
    }
    if (replay->stop != SR_STOP_NONE && !(node->cleanup && replay->rules->cleanup_runs)) {
        return wrong("replay: node %u starts in a stopped batch", number);
    }
    if (replay->policy->in_flight_max != 0 && replay->in_flight > replay->policy->in_flight_max) {
        return wrong("replay: node %u is number %u in flight, more than in_flight_max %u", number,
                     replay->in_flight, replay->policy->in_flight_max);
    }
    return NULL;
}

static const char *replay_ended(struct replay *replay, uint32_t number) {
    struct place *place = &replay->places[number];
    if (!place->started || place->ended || place->begun) {
        return wrong("replay: node %u ends out of turn", number);
    }
    place->ended = true;
    replay->in_flight--;
    return NULL;
}

/* What the batch says of its stop, against what it must be. */
static const char *replay_look(struct replay *replay, uint32_t stopped_by) {
    const bool deadline = stopped_by == SR_STOP_DEADLINE && replay->policy->has_deadline;
    if (deadline && (replay->stop == SR_STOP_NONE || replay->stop_is_open)) {
        replay->stop = SR_STOP_DEADLINE;
    }
    if (stopped_by == SR_STOP_NONE && replay->left == 0) {
        return NULL; /* nothing was left to stop */
    }
    if (stopped_by != replay->stop) {
        return wrong("replay: the batch says that it is stopped by %u, expected %u", stopped_by,
                     replay->stop);
    }
    if (stopped_by != SR_STOP_NONE) {
        replay->stop_is_open = false;
    }
    return NULL;
}

static void stop(struct replay *replay, uint32_t reason) {
    if (replay->stop == SR_STOP_NONE || !replay->rules->first_stop_stays) {
        replay->stop = reason;
        replay->stop_is_open = reason == SR_STOP_CALLER;
    }
}

/* Codes with which the ring may refuse an operation whose result is not known. */
static bool may_be_refused(const struct replay *replay, const struct batch_node *node,
                           uint64_t asked, int64_t code) {
    int64_t known = 0;
    if (code == -ENOMEM && replay->policy->may_lack_memory) {
        return true;
    }
    if (batch_work_transfers(node->work) && !known_result(node, asked, &known)) {
        return code == known || (!node->is_known && code == SR_E_STALE);
    }
    return !node->is_known && (code == SR_E_STALE || code == SR_E_STATE || code == SR_E_LENT);
}

/* A node that its edges allow, and that has not started. */
static const char *judge_unstarted(const struct replay *replay, uint32_t number) {
    const struct batch_node *node = node_of(replay, number);
    const struct batch_seen *seen = &replay->log->seen[number];
    const uint64_t asked = bytes_asked(replay->graph, node, replay->log->seen);
    if (seen->state == SR_OUTCOME_FAILED && may_be_refused(replay, node, asked, seen->result)) {
        const struct batch_seen expected = blank_outcome(SR_OUTCOME_FAILED, seen->result);
        return differ("replay", number, &expected, seen);
    }
    if (replay->stop == SR_STOP_NONE) {
        return wrong("replay: node %u: %s, but it has not started and nothing has stopped the "
                     "batch",
                     number, batch_seen_text(seen));
    }
    if (node->cleanup && replay->rules->cleanup_runs) {
        return wrong("replay: clean-up node %u: %s, but it has not started", number,
                     batch_seen_text(seen));
    }
    struct batch_seen expected = blank_outcome(SR_OUTCOME_CANCELLED, -ECANCELED);
    expected.cancelled_by = replay->stop;
    return differ("replay", number, &expected, seen);
}

/* One that has started: the completion is a fact, the outcome must follow from it. */
static const char *judge_started(const struct replay *replay, uint32_t number) {
    const struct batch_node *node = node_of(replay, number);
    const struct batch_seen *seen = &replay->log->seen[number];
    const bool disturbed = (seen->completion_flags & SR_COMPLETION_CANCEL_ASKED) != 0 ||
                           !node->is_known ||
                           (seen->completion_result == -ENOMEM && replay->policy->may_lack_memory);
    if (!replay->places[number].ended || !seen->has_completion) {
        return wrong("replay: node %u: %s, but its operation has not ended", number,
                     batch_seen_text(seen));
    }
    const uint64_t asked = bytes_asked(replay->graph, node, replay->log->seen);
    int64_t known = 0;
    (void)known_result(node, asked, &known);
    if (!disturbed && seen->completion_result != known) {
        return wrong("replay: node %u: its operation brought %lld, expected %lld", number,
                     (long long)seen->completion_result, (long long)known);
    }
    if (node->cleanup && node->is_known && replay->rules->cleanup_runs &&
        (seen->completion_flags & SR_COMPLETION_CANCEL_ASKED) != 0) {
        return wrong("replay: clean-up node %u was asked to end", number);
    }
    const struct batch_seen expected =
        outcome_of_operation(replay->rules, node, asked, seen->completion_result,
                             seen->completion_bytes, seen->completion_flags, replay->stop);
    return differ("replay", number, &expected, seen);
}

static const char *judge(const struct replay *replay, uint32_t number) {
    const struct batch_node *node = node_of(replay, number);
    const struct batch_seen *seen = &replay->log->seen[number];
    const bool started = replay->places[number].started;
    uint32_t cause = BATCH_NONE;
    if (node->misses_edge) {
        const struct batch_seen expected = blank_outcome(SR_OUTCOME_FAILED, -EINVAL);
        return differ("replay", number, &expected, seen);
    }
    const char *fault = check_dependencies(replay, number, "has an outcome");
    if (fault != NULL) {
        return fault;
    }
    if (!started && !edges_allow(replay->rules, replay->graph, number, replay->log->seen, &cause)) {
        struct batch_seen expected = blank_outcome(SR_OUTCOME_SKIPPED, -ECANCELED);
        expected.cause = cause;
        return differ("replay", number, &expected, seen);
    }
    return started ? judge_started(replay, number) : judge_unstarted(replay, number);
}

static const char *replay_begin(struct replay *replay, const struct batch_event *event) {
    struct place *place = &replay->places[event->node];
    if (place->begun) {
        return wrong("replay: node %u has two outcomes", event->node);
    }
    const char *fault = replay_look(replay, event->stopped_by);
    if (fault != NULL) {
        return fault;
    }
    place->begun = true;
    replay->left--;
    return judge(replay, event->node);
}

static const char *replay_return(struct replay *replay, uint32_t number) {
    const struct batch_rules *rules = replay->rules;
    const bool failed = replay->log->seen[number].state == SR_OUTCOME_FAILED;
    replay->places[number].returned = true;
    if (failed && replay->policy->fail_fast && rules->failure_stops &&
        (!node_of(replay, number)->cleanup || rules->cleanup_failure_stops)) {
        stop(replay, SR_STOP_FAIL_FAST);
    }
    return NULL;
}

static const char *replay_event(struct replay *replay, const struct batch_event *event) {
    switch (event->kind) {
    case BATCH_START:
        return replay_start(replay, event->node);
    case BATCH_ENDED:
        return replay_ended(replay, event->node);
    case BATCH_BEGIN:
        return replay_begin(replay, event);
    case BATCH_RETURN:
        return replay_return(replay, event->node);
    case BATCH_STOP:
        stop(replay, SR_STOP_CALLER);
        return NULL;
    default:
        return replay_look(replay, event->stopped_by);
    }
}

static const char *check_end(const struct replay *replay) {
    for (uint32_t i = 0; i < replay->graph->node_count; i++) {
        const struct place *place = &replay->places[i];
        const struct batch_seen *seen = &replay->log->seen[i];
        if (seen->exists && seen->state == SR_OUTCOME_NONE) {
            return wrong("replay: node %u has no outcome", i);
        }
        if (seen->exists && !node_of(replay, i)->silent && !place->returned) {
            return wrong("replay: node %u: no callback for %s", i, batch_seen_text(seen));
        }
        if (place->started && !place->ended) {
            return wrong("replay: node %u has not ended", i);
        }
    }
    return NULL;
}

const char *batch_reference_replay(const struct batch_rules *rules, const struct batch_graph *graph,
                                   const struct batch_policy *policy, const struct batch_log *log) {
    struct replay replay = {.rules = rules, .graph = graph, .policy = policy, .log = log};
    const char *fault = NULL;
    replay.places = calloc(graph->node_count + 1, sizeof replay.places[0]);
    if (replay.places == NULL) {
        abort();
    }
    for (uint32_t i = 0; i < graph->node_count; i++) {
        replay.left += log->seen[i].exists && !graph->nodes[i].silent;
    }
    for (uint32_t i = 0; i < log->event_count && fault == NULL; i++) {
        fault = replay_event(&replay, &log->events[i]);
    }
    if (fault == NULL) {
        fault = check_end(&replay);
    }
    free(replay.places);
    return fault;
}

/* ---- evaluation ------------------------------------------------------------------------------ */

static struct batch_seen evaluate(const struct batch_rules *rules, const struct batch_graph *graph,
                                  uint32_t number, const struct batch_seen *outcomes,
                                  const struct batch_seen *seen) {
    const struct batch_node *node = &graph->nodes[number];
    uint32_t cause = BATCH_NONE;
    int64_t result = 0;
    if (node->misses_edge) {
        return blank_outcome(SR_OUTCOME_FAILED, -EINVAL);
    }
    if (!edges_allow(rules, graph, number, outcomes, &cause)) {
        struct batch_seen outcome = blank_outcome(SR_OUTCOME_SKIPPED, -ECANCELED);
        outcome.cause = cause;
        return outcome;
    }
    const uint64_t asked = bytes_asked(graph, node, outcomes);
    if (!known_result(node, asked, &result)) {
        return blank_outcome(SR_OUTCOME_FAILED, result);
    }
    if (!node->is_known && seen->state != SR_OUTCOME_SKIPPED) {
        return *seen; /* the replay has judged it */
    }
    const bool counts = batch_work_transfers(node->work) && result > 0;
    return outcome_of_operation(rules, node, asked, result, counts ? (uint64_t)result : 0, 0,
                                SR_STOP_NONE);
}

const char *batch_reference_evaluate(const struct batch_rules *rules,
                                     const struct batch_graph *graph, const struct batch_log *log) {
    struct batch_seen *outcomes = calloc(graph->node_count + 1, sizeof outcomes[0]);
    const char *fault = NULL;
    if (outcomes == NULL) {
        abort();
    }
    for (uint32_t i = 0; i < graph->node_count && fault == NULL; i++) {
        if (log->seen[i].exists) {
            outcomes[i] = evaluate(rules, graph, i, outcomes, &log->seen[i]);
            fault = differ("evaluation", i, &outcomes[i], &log->seen[i]);
        }
    }
    free(outcomes);
    return fault;
}
