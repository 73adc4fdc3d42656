/* SPDX-License-Identifier: MIT */
/*
 * The reference for batches, tried on logs of a simulator: right ones pass, and there is a graph
 * among a fixed set on which each changed rule and each fault of the simulator is found. So every
 * cell of the outcome table and every rule beside it matters to the tests that use the reference.
 */
#include "support/batch_maker.h"
#include "support/batch_simulator.h"

#include <criterion/criterion.h>
#include <stdio.h>

#define GRAPHS 600u

/* How the graph with a number is run; the same for ever. */
struct scenario {
    struct batch_graph graph;
    struct simulator_plan plan;
    bool is_exact; /* nothing stops it */
    struct scale_random random;
};

static void scenario_open(struct scenario *out_scenario, uint64_t seed, uint32_t number) {
    struct scale_random random = {seed + number * UINT64_C(0x9e3779b97f4a7c15)};
    const struct batch_maker_plan graph_plan = {
        .node_count = 1 + (uint32_t)scale_random_below(&random, 40),
        .percent_failing = (uint32_t)scale_random_below(&random, 60),
        .percent_added = (uint32_t)scale_random_below(&random, 40),
        .percent_cleanup = (uint32_t)scale_random_below(&random, 40),
        .percent_pipe = 5,
        .percent_timeout = 5,
        .has_deadlines = number % 3 == 0,
        .races = number % 5 == 0,
        .forgets = number % 7 == 0,
        .pools = true,
    };
    *out_scenario = (struct scenario){.is_exact = number % 2 == 0};
    batch_make(&out_scenario->graph, &graph_plan, &random);
    if (!out_scenario->is_exact) {
        out_scenario->plan.policy.fail_fast = scale_random_below(&random, 2) == 0;
        out_scenario->plan.policy.has_deadline = scale_random_below(&random, 3) == 0;
        out_scenario->plan.percent_stop = 3 * (uint32_t)scale_random_below(&random, 3);
        out_scenario->plan.percent_deadline = 5;
    }
    out_scenario->plan.policy.in_flight_max = (uint32_t)scale_random_below(&random, 6);
    out_scenario->random = random;
}

enum check { BY_REPLAY = 1, BY_EVALUATION = 2, BY_BOTH = BY_REPLAY | BY_EVALUATION };

/* What the reference says of the scenario, NULL for right. */
static const char *judge(uint64_t seed, uint32_t number, const struct batch_rules *rules,
                         enum simulator_fault fault, enum check check) {
    struct scenario scenario;
    struct batch_log log;
    const char *wrong = NULL;
    scenario_open(&scenario, seed, number);
    scenario.plan.fault = fault;
    batch_log_open(&log, scenario.graph.node_count);
    batch_simulate(&scenario.graph, &scenario.plan, &scenario.random, &log);
    if ((check & BY_REPLAY) != 0) {
        wrong = batch_reference_replay(rules, &scenario.graph, &scenario.plan.policy, &log);
    }
    if ((check & BY_EVALUATION) != 0 && wrong == NULL && scenario.is_exact) {
        wrong = batch_reference_evaluate(rules, &scenario.graph, &log);
    }
    batch_log_close(&log);
    batch_graph_free(&scenario.graph);
    return wrong;
}

/* The first of the fixed set in which the reference finds something; GRAPHS if there is none. */
static uint32_t first_found(const struct batch_rules *rules, enum simulator_fault fault,
                            enum check check) {
    uint32_t number = 0;
    while (number < GRAPHS && judge(1, number, rules, fault, check) == NULL) {
        number++;
    }
    return number;
}

static void must_be_found(const struct batch_rules *rules, enum check check, const char *what) {
    const uint32_t first = first_found(rules, SIMULATOR_SOUND, check);
    cr_expect_lt(first, GRAPHS, "%s: no graph of %u tells the difference", what, GRAPHS);
    fprintf(stderr, "%-48s found in graph %u\n", what, first);
}

Test(batch_reference, accepts_what_the_rules_allow) {
    for (uint32_t i = 0; i < GRAPHS; i++) {
        const char *wrong = judge(1, i, &batch_rules, SIMULATOR_SOUND, BY_BOTH);
        cr_assert_null(wrong, "graph %u of the fixed set: %s", i, wrong);
    }
    const uint64_t count = scale_count(4000, 100);
    for (uint32_t i = 0; i < count; i++) {
        const char *wrong = judge(scale_seed(), i, &batch_rules, SIMULATOR_SOUND, BY_BOTH);
        cr_assert_null(wrong, "graph %u: %s", i, wrong);
    }
}

Test(batch_reference, finds_each_changed_cell_of_the_table) {
    for (uint32_t i = 0; i < BATCH_MUTANTS; i++) {
        const char *name = NULL;
        const struct batch_rules *mutant = batch_rules_mutant(i, &name);
        char what[96];
        (void)snprintf(what, sizeof what, "%s, replay", name);
        must_be_found(mutant, BY_REPLAY, what);
        (void)snprintf(what, sizeof what, "%s, evaluation", name);
        must_be_found(mutant, BY_EVALUATION, what);
    }
}

Test(batch_reference, finds_each_changed_rule_beside_the_table) {
#define MUST_BE_FOUND(rule)                                                                        \
    do {                                                                                           \
        struct batch_rules changed = batch_rules;                                                  \
        changed.rule = !changed.rule;                                                              \
        must_be_found(&changed, BY_BOTH, #rule);                                                   \
    } while (0)
    MUST_BE_FOUND(first_edge_is_cause);
    MUST_BE_FOUND(cleanup_runs);
    MUST_BE_FOUND(cleanup_failure_stops);
    MUST_BE_FOUND(failure_stops);
    MUST_BE_FOUND(first_stop_stays);
    MUST_BE_FOUND(short_is_failed);
    MUST_BE_FOUND(cancel_must_be_asked);
    MUST_BE_FOUND(interrupted_is_cancelled);
    MUST_BE_FOUND(own_deadline_is_named);
    MUST_BE_FOUND(stop_is_named);
#undef MUST_BE_FOUND
}

Test(batch_reference, finds_each_fault_of_an_engine) {
    static const char *const names[SIMULATOR_FAULTS] = {
        [SIMULATOR_STARTS_EARLY] = "starts early",
        [SIMULATOR_SKIPS_EARLY] = "skips early",
        [SIMULATOR_STARTS_SKIPPED] = "starts what is skipped",
        [SIMULATOR_STARTS_TWICE] = "starts twice",
        [SIMULATOR_STARTS_STOPPED] = "starts in a stopped batch",
        [SIMULATOR_PASSES_LIMIT] = "passes in_flight_max",
        [SIMULATOR_TELLS_TWICE] = "tells two outcomes",
        [SIMULATOR_TELLS_NOTHING] = "tells no outcome",
        [SIMULATOR_TELLS_BEFORE_END] = "tells before the end",
        [SIMULATOR_RUNS_IN_CALLBACK] = "looks at dependents in the callback",
        [SIMULATOR_CANCELS_CLEANUP] = "cancels clean-up in flight",
        [SIMULATOR_DROPS_CLEANUP] = "drops clean-up",
        [SIMULATOR_NAMES_NO_STOP] = "names another stop",
        [SIMULATOR_FORGETS_FAIL_FAST] = "forgets fail-fast",
        [SIMULATOR_STOPS_EARLY] = "fails fast before the callback",
        [SIMULATOR_CHANGES_REASON] = "changes the reason",
        [SIMULATOR_LOSES_BYTES] = "loses bytes",
    };
    for (int fault = SIMULATOR_SOUND + 1; fault < SIMULATOR_FAULTS; fault++) {
        const uint32_t first = first_found(&batch_rules, (enum simulator_fault)fault, BY_REPLAY);
        cr_expect_lt(first, GRAPHS, "an engine that %s is not found", names[fault]);
        fprintf(stderr, "%-48s found in graph %u\n", names[fault], first);
    }
}
