/* SPDX-License-Identifier: MIT */
/*
 * Batch simulator: runs a graph without a kernel and without the library, in a random order that
 * the rules of <safering/batch.h> allow, and writes the log that a batch would have left. Its rules
 * are branches in the code, not the table of batch_reference.h: the two check each other.
 *
 * A fault makes it break one rule now and then; the reference must find each.
 */
#ifndef SAFERING_TESTS_SUPPORT_BATCH_SIMULATOR_H
#define SAFERING_TESTS_SUPPORT_BATCH_SIMULATOR_H

#include "support/batch_reference.h"
#include "support/scale.h"

enum simulator_fault {
    SIMULATOR_SOUND,
    SIMULATOR_STARTS_EARLY,   /* one dependency has no outcome yet */
    SIMULATOR_SKIPS_EARLY,    /* the first edge says skip, another dependency has no outcome */
    SIMULATOR_STARTS_SKIPPED, /* its edges say skip */
    SIMULATOR_STARTS_TWICE,
    SIMULATOR_STARTS_STOPPED,    /* in a stopped batch */
    SIMULATOR_PASSES_LIMIT,      /* in_flight_max */
    SIMULATOR_TELLS_TWICE,       /* two outcomes */
    SIMULATOR_TELLS_NOTHING,     /* none */
    SIMULATOR_TELLS_BEFORE_END,  /* an outcome while the operation is in flight */
    SIMULATOR_RUNS_IN_CALLBACK,  /* a dependent is looked at before the callback has returned */
    SIMULATOR_CANCELS_CLEANUP,   /* asks a clean-up node to end */
    SIMULATOR_DROPS_CLEANUP,     /* a clean-up node does not run in a stopped batch */
    SIMULATOR_NAMES_NO_STOP,     /* CANCELLED by another reason than the stop */
    SIMULATOR_FORGETS_FAIL_FAST, /* a failure does not stop the batch */
    SIMULATOR_STOPS_EARLY,       /* fail-fast before the callback of the failed node */
    SIMULATOR_CHANGES_REASON,    /* a second stop replaces the reason */
    SIMULATOR_LOSES_BYTES,       /* bytes_done is wrong */
    SIMULATOR_FAULTS
};

struct simulator_plan {
    struct batch_policy policy;
    enum simulator_fault fault;
    uint32_t percent_stop;     /* chance that the caller stops the batch, per callback */
    uint32_t percent_deadline; /* chance that the deadline passes, per step */
};

/* Fills @out_log; batch_log_open() has been called. */
void batch_simulate(const struct batch_graph *graph, const struct simulator_plan *plan,
                    struct scale_random *random, struct batch_log *out_log);

#endif
