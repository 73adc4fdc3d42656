/* SPDX-License-Identifier: MIT */
#include "support/batch_simulator.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum stage { STAGE_ABSENT, STAGE_WAITING, STAGE_READY, STAGE_FLYING, STAGE_OVER };

struct actor {
    enum stage stage;
    bool asked;   /* to end */
    bool is_late; /* its own deadline has passed */
};

struct simulator {
    const struct batch_graph *graph;
    const struct simulator_plan *plan;
    struct scale_random *random;
    struct batch_log *log;
    struct actor *actors;
    uint32_t stop;
    uint32_t flying;
};

static uint32_t below(struct simulator *simulator, uint32_t limit) {
    return (uint32_t)scale_random_below(simulator->random, limit);
}

static bool percent(struct simulator *simulator, uint32_t share) {
    return below(simulator, 100) < share;
}

/* Whether to break a rule here and now. */
static bool breaks(struct simulator *simulator, enum simulator_fault fault) {
    return simulator->plan->fault == fault && percent(simulator, 30);
}

static const struct batch_node *node_of(const struct simulator *simulator, uint32_t number) {
    return &simulator->graph->nodes[number];
}

/* ---- rules ----------------------------------------------------------------------------------- */

/* True if the edge lets its node run; else *out_cause says to whom the skip goes back. */
static bool edge_holds(const struct simulator *simulator, const struct batch_node *node,
                       const struct batch_edge *edge, uint32_t *out_cause) {
    const struct batch_seen *seen = &simulator->log->seen[edge->dependency];
    const bool is_argument = batch_node_takes(node, edge->dependency);
    *out_cause = edge->dependency;
    if (seen->state == SR_OUTCOME_SKIPPED) {
        *out_cause = seen->cause;
        return edge->when == SR_ALWAYS && !is_argument;
    }
    const bool went_well = seen->state == SR_OUTCOME_DONE;
    if (is_argument && !went_well) {
        return false;
    }
    return edge->when == SR_ALWAYS || (edge->when == SR_ON_SUCCESS) == went_well;
}

static bool edges_hold(const struct simulator *simulator, uint32_t number, uint32_t *out_cause) {
    const struct batch_node *node = node_of(simulator, number);
    for (uint32_t i = 0; i < node->edge_count; i++) {
        if (!edge_holds(simulator, node, &simulator->graph->edges[node->edge_at + i], out_cause)) {
            return false;
        }
    }
    return true;
}

static uint32_t dependencies_open(const struct simulator *simulator, uint32_t number) {
    const struct batch_node *node = node_of(simulator, number);
    uint32_t count = 0;
    for (uint32_t i = 0; i < node->edge_count; i++) {
        const uint32_t dependency = simulator->graph->edges[node->edge_at + i].dependency;
        count += simulator->actors[dependency].stage != STAGE_OVER;
    }
    return count;
}

static bool is_stopped_for(const struct simulator *simulator, uint32_t number) {
    return simulator->stop != SR_STOP_NONE && !node_of(simulator, number)->cleanup;
}

/* ---- outcomes -------------------------------------------------------------------------------- */

static void stop(struct simulator *simulator, uint32_t reason) {
    if (simulator->stop != SR_STOP_NONE && !breaks(simulator, SIMULATOR_CHANGES_REASON)) {
        return;
    }
    simulator->stop = reason;
    for (uint32_t i = 0; i < simulator->graph->node_count; i++) {
        struct actor *actor = &simulator->actors[i];
        actor->asked |=
            actor->stage == STAGE_FLYING &&
            (!node_of(simulator, i)->cleanup || breaks(simulator, SIMULATOR_CANCELS_CLEANUP));
    }
}

static void look_at(struct simulator *simulator, uint32_t number);

static void appear(struct simulator *simulator, uint32_t adder) {
    for (uint32_t i = 0; i < simulator->graph->node_count; i++) {
        if (node_of(simulator, i)->added_by == adder &&
            simulator->actors[i].stage == STAGE_ABSENT) {
            simulator->actors[i].stage = STAGE_WAITING;
            simulator->log->seen[i].exists = true;
        }
    }
}

static void look_at_dependents(struct simulator *simulator) {
    for (uint32_t i = 0; i < simulator->graph->node_count; i++) {
        look_at(simulator, i);
    }
}

static void call_back(struct simulator *simulator, uint32_t number) {
    struct batch_log *log = simulator->log;
    if (breaks(simulator, SIMULATOR_TELLS_NOTHING)) {
        return;
    }
    batch_log_add(log, BATCH_BEGIN, number, simulator->stop);
    if (percent(simulator, simulator->plan->percent_stop)) {
        batch_log_add(log, BATCH_STOP, number, SR_STOP_NONE);
        stop(simulator, SR_STOP_CALLER);
        batch_log_add(log, BATCH_LOOK, number, simulator->stop);
    }
    if (breaks(simulator, SIMULATOR_RUNS_IN_CALLBACK)) {
        look_at_dependents(simulator);
    }
    batch_log_add(log, BATCH_RETURN, number, SR_STOP_NONE);
}

/* The node has its outcome in the log: the callback, fail-fast, then the others. */
static void conclude(struct simulator *simulator, uint32_t number) {
    const struct batch_node *node = node_of(simulator, number);
    const bool fails = simulator->log->seen[number].state == SR_OUTCOME_FAILED && !node->cleanup &&
                       simulator->plan->policy.fail_fast &&
                       !breaks(simulator, SIMULATOR_FORGETS_FAIL_FAST);
    simulator->actors[number].stage = STAGE_OVER;
    if (fails && breaks(simulator, SIMULATOR_STOPS_EARLY)) {
        stop(simulator, SR_STOP_FAIL_FAST);
    }
    call_back(simulator, number);
    if (breaks(simulator, SIMULATOR_TELLS_TWICE)) {
        call_back(simulator, number);
    }
    appear(simulator, number);
    if (fails) {
        stop(simulator, SR_STOP_FAIL_FAST);
    }
}

static void set_outcome(struct simulator *simulator, uint32_t number, uint32_t state,
                        int64_t result) {
    struct batch_seen *seen = &simulator->log->seen[number];
    seen->state = state;
    seen->result = result;
    seen->cancelled_by = SR_STOP_NONE;
    seen->cause = BATCH_NONE;
}

static void cancel(struct simulator *simulator, uint32_t number, uint32_t reason) {
    if (breaks(simulator, SIMULATOR_NAMES_NO_STOP)) {
        reason = reason == SR_STOP_CALLER ? SR_STOP_DEADLINE : SR_STOP_CALLER;
    }
    set_outcome(simulator, number, SR_OUTCOME_CANCELLED, -ECANCELED);
    simulator->log->seen[number].cancelled_by = reason;
}

/* Decides about a node that waits, if it is time to. */
static void look_at(struct simulator *simulator, uint32_t number) {
    struct actor *actor = &simulator->actors[number];
    const struct batch_node *node = node_of(simulator, number);
    uint32_t cause = BATCH_NONE;
    if (actor->stage != STAGE_WAITING) {
        return;
    }
    if (node->misses_edge) {
        set_outcome(simulator, number, SR_OUTCOME_FAILED, -EINVAL);
        conclude(simulator, number);
        return;
    }
    if (dependencies_open(simulator, number) > 0 &&
        !(breaks(simulator, SIMULATOR_STARTS_EARLY) && dependencies_open(simulator, number) == 1)) {
        const struct batch_edge *first = &simulator->graph->edges[node->edge_at];
        if (simulator->actors[first->dependency].stage != STAGE_OVER ||
            edge_holds(simulator, node, first, &cause) ||
            !breaks(simulator, SIMULATOR_SKIPS_EARLY)) {
            return;
        }
    }
    if (!edges_hold(simulator, number, &cause) && !breaks(simulator, SIMULATOR_STARTS_SKIPPED)) {
        set_outcome(simulator, number, SR_OUTCOME_SKIPPED, -ECANCELED);
        simulator->log->seen[number].cause = cause;
        conclude(simulator, number);
        return;
    }
    actor->stage = STAGE_READY;
    if (breaks(simulator, SIMULATOR_DROPS_CLEANUP) && simulator->stop != SR_STOP_NONE) {
        cancel(simulator, number, simulator->stop);
        conclude(simulator, number);
    }
}

/* ---- operations ------------------------------------------------------------------------------ */

static uint64_t length_of(const struct simulator *simulator, const struct batch_node *node) {
    if (node->length_from == BATCH_NONE) {
        return node->length;
    }
    if (node_of(simulator, node->length_from)->work == BATCH_STATX) {
        return BATCH_DATA_BYTES;
    }
    return simulator->log->seen[node->length_from].bytes_done;
}

static void start(struct simulator *simulator, uint32_t number) {
    const struct batch_node *node = node_of(simulator, number);
    if (batch_work_transfers(node->work) && length_of(simulator, node) > BATCH_BUFFER_BYTES) {
        set_outcome(simulator, number, SR_OUTCOME_FAILED, SR_E_BOUNDS);
        conclude(simulator, number);
        return;
    }
    simulator->actors[number].stage = STAGE_FLYING;
    simulator->flying++;
    batch_log_add(simulator->log, BATCH_START, number, SR_STOP_NONE);
    if (breaks(simulator, SIMULATOR_STARTS_TWICE)) {
        batch_log_add(simulator->log, BATCH_START, number, SR_STOP_NONE);
    }
}

/* What the operation brings: what is known of it, or, if its end was asked for, perhaps that. A few
 * times it ends for a reason of its own, with the same code. */
static int64_t end_of(struct simulator *simulator, uint32_t number, uint64_t length) {
    const struct batch_node *node = node_of(simulator, number);
    struct actor *actor = &simulator->actors[number];
    if (node->deadline_ns != 0 && percent(simulator, 60)) {
        actor->is_late = true;
        actor->asked = true;
    }
    if (actor->asked && percent(simulator, 70)) {
        return percent(simulator, 80) ? -ECANCELED : -EINTR;
    }
    if (!node->is_known && percent(simulator, 20)) {
        return -ECANCELED;
    }
    if (node->code != 0) {
        return node->code;
    }
    if (!batch_work_transfers(node->work)) {
        return 0;
    }
    return (int64_t)(length < node->available ? length : node->available);
}

static void end(struct simulator *simulator, uint32_t number) {
    const struct batch_node *node = node_of(simulator, number);
    const struct actor *actor = &simulator->actors[number];
    const uint64_t length = length_of(simulator, node);
    const int64_t result = end_of(simulator, number, length);
    struct batch_seen *seen = &simulator->log->seen[number];
    simulator->flying--;
    if (!breaks(simulator, SIMULATOR_TELLS_BEFORE_END)) {
        batch_log_add(simulator->log, BATCH_ENDED, number, SR_STOP_NONE);
    }
    seen->has_completion = true;
    seen->completion_result = result;
    seen->completion_bytes = batch_work_transfers(node->work) && result > 0 ? (uint64_t)result : 0;
    seen->completion_flags = (actor->asked ? (uint32_t)SR_COMPLETION_CANCEL_ASKED : 0u) |
                             (actor->is_late ? (uint32_t)SR_COMPLETION_DEADLINE_HIT : 0u);
    seen->bytes_done = seen->completion_bytes;
    if (breaks(simulator, SIMULATOR_LOSES_BYTES) && seen->bytes_done > 0) {
        seen->bytes_done--;
    }
    if (actor->asked && (result == -ECANCELED || result == -EINTR)) {
        cancel(simulator, number,
               actor->is_late                    ? (uint32_t)SR_STOP_DEADLINE
               : simulator->stop == SR_STOP_NONE ? (uint32_t)SR_STOP_CALLER
                                                 : simulator->stop);
    } else if (node->full && result >= 0 && (uint64_t)result < length) {
        set_outcome(simulator, number, SR_OUTCOME_FAILED, SR_E_SHORT);
    } else {
        set_outcome(simulator, number, result < 0 ? SR_OUTCOME_FAILED : SR_OUTCOME_DONE, result);
    }
    conclude(simulator, number);
}

/* ---- running --------------------------------------------------------------------------------- */

static bool can_start(struct simulator *simulator) {
    const uint32_t most = simulator->plan->policy.in_flight_max;
    return most == 0 || simulator->flying < most || breaks(simulator, SIMULATOR_PASSES_LIMIT);
}

/* One step of one node; false if there is nothing that it could do. */
static bool step(struct simulator *simulator, uint32_t number) {
    switch (simulator->actors[number].stage) {
    case STAGE_WAITING:
        look_at(simulator, number);
        return simulator->actors[number].stage != STAGE_WAITING;
    case STAGE_READY:
        if (is_stopped_for(simulator, number) && !breaks(simulator, SIMULATOR_STARTS_STOPPED)) {
            cancel(simulator, number, simulator->stop);
            conclude(simulator, number);
            return true;
        }
        if (!can_start(simulator)) {
            return false;
        }
        start(simulator, number);
        return true;
    case STAGE_FLYING:
        end(simulator, number);
        return true;
    default:
        return false;
    }
}

/* From a random place on, so that any order that the rules allow can come. */
static bool step_somewhere(struct simulator *simulator) {
    const uint32_t count = simulator->graph->node_count;
    const uint32_t from = count > 0 ? below(simulator, count) : 0;
    for (uint32_t i = 0; i < count; i++) {
        if (step(simulator, (from + i) % count)) {
            return true;
        }
    }
    return false;
}

void batch_simulate(const struct batch_graph *graph, const struct simulator_plan *plan,
                    struct scale_random *random, struct batch_log *out_log) {
    struct simulator simulator = {.graph = graph, .plan = plan, .random = random, .log = out_log};
    simulator.actors = calloc(graph->node_count + 1, sizeof simulator.actors[0]);
    if (simulator.actors == NULL) {
        abort();
    }
    appear(&simulator, BATCH_NONE);
    do {
        if (plan->policy.has_deadline && percent(&simulator, plan->percent_deadline)) {
            stop(&simulator, SR_STOP_DEADLINE);
        }
    } while (step_somewhere(&simulator));
    free(simulator.actors);
}
