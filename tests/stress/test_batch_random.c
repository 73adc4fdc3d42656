/* SPDX-License-Identifier: MIT */
/*
 * Random batches: graphs of all shapes on rings and pools of all sizes, with operations that fail,
 * wait and are cancelled, with stops at any moment and a system that fails now and then. What comes
 * of every node is compared with a reference that was written from the outcome table alone; no node
 * may start before its edges allow it; and in the end everything is as it was.
 *
 * A failure prints the graph, made as small as is cheap, and how to run that case alone:
 * SAFERING_TEST_SEED=... SAFERING_BATCH_CASE=...
 */
#include "support/batch_trial.h"
#include "support/skip.h"
#include "support/valgrind.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS      UINT64_C(1000000000)
#define SHRINK_NS      (20 * SECOND_NS)
#define SHRINK_REPEATS 4u

static char case_text[160];

static uint64_t now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

/* ---- a failure ------------------------------------------------------------------------------- */

static bool still_fails(const struct batch_trial *trial, const struct batch_files *files) {
    for (uint32_t i = 0; i < SHRINK_REPEATS; i++) {
        if (!batch_trial_run(trial, files, NULL)) {
            return true;
        }
    }
    return false;
}

/* Puts @smaller in the place of a graph if the case fails with it too: with the stop at the same
 * outcome, or as many earlier as there are nodes less. */
static bool try_smaller(struct batch_trial *trial, uint32_t batch, struct batch_graph *smaller,
                        const struct batch_files *files) {
    struct batch_graph before = trial->graphs[batch];
    struct batch_run_plan *plan = &trial->plans[batch];
    const uint32_t cancel_at = plan->cancel_at;
    const uint32_t less = before.node_count - smaller->node_count;
    trial->graphs[batch] = *smaller;
    bool fails = still_fails(trial, files);
    if (!fails && cancel_at != BATCH_NONE && cancel_at >= less && less > 0) {
        plan->cancel_at -= less;
        fails = still_fails(trial, files);
    }
    if (!fails) {
        plan->cancel_at = cancel_at;
        trial->graphs[batch] = before;
        before = *smaller;
    }
    batch_graph_free(&before);
    return fails;
}

static void shrink_nodes(struct batch_trial *trial, uint32_t batch, const struct batch_files *files,
                         uint64_t until_ns) {
    for (uint32_t i = trial->graphs[batch].node_count; i-- > 0 && now_ns() < until_ns;) {
        struct batch_graph smaller;
        if (i < trial->graphs[batch].node_count) {
            (void)batch_graph_without(&trial->graphs[batch], i, &smaller);
            (void)try_smaller(trial, batch, &smaller, files);
        }
    }
}

static void shrink_edges(struct batch_trial *trial, uint32_t batch, const struct batch_files *files,
                         uint64_t until_ns) {
    for (uint32_t i = 0; i < trial->graphs[batch].node_count; i++) {
        for (uint32_t k = trial->graphs[batch].nodes[i].edge_count; k-- > 0;) {
            struct batch_graph smaller;
            if (now_ns() < until_ns &&
                batch_graph_without_edge(&trial->graphs[batch], i, k, &smaller)) {
                (void)try_smaller(trial, batch, &smaller, files);
            }
        }
    }
}

static void shrink(struct batch_trial *trial, const struct batch_files *files) {
    const uint64_t until_ns = now_ns() + SHRINK_NS;
    for (uint32_t i = 0; i < trial->batch_count; i++) {
        shrink_nodes(trial, i, files, until_ns);
    }
    for (uint32_t i = 0; i < trial->batch_count; i++) {
        shrink_edges(trial, i, files, until_ns);
    }
}

static void report(struct batch_trial *trial, const struct batch_files *files) {
    fprintf(stderr, "%smade smaller:\n", case_text);
    shrink(trial, files);
    for (uint32_t i = 0; i < 5 * SHRINK_REPEATS; i++) {
        if (!batch_trial_run(trial, files, stderr)) {
            return;
        }
    }
    fprintf(stderr, "it does not fail again\n");
}

/* A check of the library that fails ends the process: say which case it was. */
static void on_abort(int signal_number) {
    (void)signal_number;
    if (write(STDERR_FILENO, case_text, strlen(case_text)) < 0) {
        _exit(1);
    }
}

static void check_mutants(uint64_t batch_count) {
    for (uint32_t i = 0; i < BATCH_MUTANTS && batch_count >= 1000; i++) {
        const char *name = NULL;
        (void)batch_rules_mutant(i, &name);
        cr_expect(batch_trial_totals.mutants_found[i],
                  "no batch would have told this change of the table: %s", name);
    }
}

static uint32_t only_case(void) {
    const char *text = getenv("SAFERING_BATCH_CASE");
    return text != NULL && *text != '\0' ? (uint32_t)strtoul(text, NULL, 0) : BATCH_NONE;
}

static void run_case(enum batch_suite suite, uint32_t number, const struct batch_files *files) {
    struct batch_trial trial;
    (void)snprintf(case_text, sizeof case_text,
                   "batch case: SAFERING_TEST_SEED=%llu SAFERING_BATCH_CASE=%u, suite %d\n",
                   (unsigned long long)scale_seed(), number, (int)suite);
    batch_trial_make(&trial, suite, number);
    if (!batch_trial_run(&trial, files, stderr)) {
        report(&trial, files);
        batch_files_close(files);
        cr_assert_fail("%s", case_text);
    }
    batch_trial_free(&trial);
}

static void run_suite(enum batch_suite suite, uint64_t full) {
    struct batch_files files;
    const uint64_t count = scale_count(full, 20);
    const uint32_t only = only_case();
    (void)signal(SIGABRT, on_abort);
    batch_files_open(&files);
    for (uint32_t i = 0; i < count; i++) {
        if (only == BATCH_NONE || only == i) {
            run_case(suite, i, &files);
        }
    }
    batch_files_close(&files);
    check_mutants(only == BATCH_NONE ? count : 0);
    fprintf(stderr,
            "%llu batches, %llu nodes: %llu done, %llu failed, %llu cancelled, %llu skipped; "
            "stopped by failure %llu, deadline %llu, caller %llu (starved %llu, destroyed %llu); "
            "evaluated exactly %llu; failures injected %llu, nodes without memory %llu\n",
            (unsigned long long)count, (unsigned long long)batch_trial_totals.nodes,
            (unsigned long long)batch_trial_totals.states[SR_OUTCOME_DONE],
            (unsigned long long)batch_trial_totals.states[SR_OUTCOME_FAILED],
            (unsigned long long)batch_trial_totals.states[SR_OUTCOME_CANCELLED],
            (unsigned long long)batch_trial_totals.states[SR_OUTCOME_SKIPPED],
            (unsigned long long)batch_trial_totals.stopped_by[SR_STOP_FAIL_FAST],
            (unsigned long long)batch_trial_totals.stopped_by[SR_STOP_DEADLINE],
            (unsigned long long)batch_trial_totals.stopped_by[SR_STOP_CALLER],
            (unsigned long long)batch_trial_totals.idle_stops,
            (unsigned long long)batch_trial_totals.destroyed,
            (unsigned long long)batch_trial_totals.exact,
            (unsigned long long)batch_trial_totals.injected,
            (unsigned long long)batch_trial_totals.lacked_memory);
}

Test(batch_random, outcomes_are_those_of_the_table) {
    run_suite(BATCH_SUITE_ANY, 6000);
}

Test(batch_random, outcomes_are_the_same_on_the_fallback) {
    SKIP_BECAUSE(RUNNING_ON_VALGRIND ? "valgrind 3.19 knows no openat2(2)" : NULL);
    run_suite(BATCH_SUITE_FALLBACK, 2000);
}

Test(batch_random, a_failing_system_changes_no_rule) {
    run_suite(BATCH_SUITE_FAILING, 2000);
    cr_assert_gt(batch_trial_totals.injected, 0);
}
