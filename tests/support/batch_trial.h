/* SPDX-License-Identifier: MIT */
/*
 * Batch trial: one case of the random test of batches: a stage, one or two batches on it, and how
 * they are waited for, stopped and disturbed. All follows from the seed, the suite and a number.
 */
#ifndef SAFERING_TESTS_SUPPORT_BATCH_TRIAL_H
#define SAFERING_TESTS_SUPPORT_BATCH_TRIAL_H

#include "support/batch_run.h"

#define BATCH_TRIAL_BATCHES 2u

enum batch_suite { BATCH_SUITE_ANY, BATCH_SUITE_FALLBACK, BATCH_SUITE_FAILING };

/* All that a case is; what it does follows from this. */
struct batch_trial {
    struct batch_stage_plan stage;
    struct batch_graph graphs[BATCH_TRIAL_BATCHES];
    struct batch_run_plan plans[BATCH_TRIAL_BATCHES];
    uint32_t batch_count;
    uint64_t seed; /* of the waits */
    bool submits;  /* plain operations between waits */
    /* Failures of the system. */
    bool fails;
    uint64_t enter_period;
    int enter_code;
    uint32_t enter_partial;
    uint64_t allocate_nth;
};

/* What happened in all; a test in which something never happens tests less than it says. */
struct batch_trial_totals {
    uint64_t nodes;
    uint64_t states[SR_OUTCOME_SKIPPED + 1];
    uint64_t stopped_by[SR_STOP_CALLER + 1];
    uint64_t idle_stops;
    uint64_t destroyed;
    uint64_t exact;
    uint64_t injected;      /* failures of the system */
    uint64_t lacked_memory; /* nodes that failed for it */
    /* Changed cells of the table that some batch has told from the right ones. */
    bool mutants_found[BATCH_MUTANTS];
};

extern struct batch_trial_totals batch_trial_totals;

void batch_trial_make(struct batch_trial *out_trial, enum batch_suite suite, uint32_t number);
void batch_trial_free(struct batch_trial *trial);
/* True if all was right; what was wrong goes to @out if it is not NULL. Sets the misuse hook. */
bool batch_trial_run(const struct batch_trial *trial, const struct batch_files *files, FILE *out);

#endif
