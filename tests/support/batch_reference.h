/* SPDX-License-Identifier: MIT */
/*
 * Batch reference: what must become of the nodes of a batch, written from the outcome table of
 * <safering/batch.h> alone. It runs nothing and shares no code with src/batch. Given a graph and a
 * log of what was seen, it says whether that is right.
 *
 * The table and the rules around it are data, so that a test can change one of them and see that
 * the check then fails: what no changed rule can fail is not checked.
 *
 * Two checks, which share the table only:
 * - the replay walks through the log. For each event it knows which nodes have their outcomes and
 *   whether the batch has been stopped by then, and judges the node on what was seen of the others;
 * - the evaluation takes nothing from the log but the results that are not known by construction,
 *   and computes all outcomes from the graph. It serves where nothing stops the batch.
 */
#ifndef SAFERING_TESTS_SUPPORT_BATCH_REFERENCE_H
#define SAFERING_TESTS_SUPPORT_BATCH_REFERENCE_H

#include "support/batch_graph.h"
#include "support/batch_log.h"

#include <safering/batch.h>
#include <safering/safering.h>

/* What an edge says of its node. */
enum batch_verdict {
    BATCH_SATISFIED,
    BATCH_SKIP_BY_DEPENDENCY, /* cause: the dependency */
    BATCH_SKIP_SAME_CAUSE,    /* cause: the dependency's own */
    BATCH_BY_TABLE            /* of the argument rule: as the table says */
};

/* States of a dependency, as columns. */
#define BATCH_STATES 4 /* DONE, FAILED, CANCELLED, SKIPPED: enum sr_outcome_state less 1 */

struct batch_rules {
    enum batch_verdict edge[3][BATCH_STATES];  /* by enum sr_when */
    enum batch_verdict argument[BATCH_STATES]; /* an edge over which an argument comes */
    bool first_edge_is_cause;                  /* of several that say skip; else the last */
    bool cleanup_runs;                         /* clean-up nodes run in a stopped batch */
    bool cleanup_failure_stops;                /* a fail-fast batch */
    bool failure_stops;                        /* a fail-fast batch */
    bool first_stop_stays;
    bool short_is_failed;          /* fewer bytes than asked in full */
    bool cancel_must_be_asked;     /* -ECANCELED that nobody asked for is FAILED */
    bool interrupted_is_cancelled; /* -EINTR that somebody asked for */
    bool own_deadline_is_named;    /* CANCELLED by the deadline of the node's request */
    bool stop_is_named;            /* CANCELLED in flight by what has stopped the batch */
};

/* The rules as they are. */
extern const struct batch_rules batch_rules;

/* Changes of one cell of the table or of the argument rule, for tests that must find them. */
#define BATCH_MUTANTS (3 * BATCH_STATES * 2 + BATCH_STATES * 3)

/* The rules with change @index, from 0, and what it is; both stay valid until the next call. */
const struct batch_rules *batch_rules_mutant(uint32_t index, const char **out_name);

/* How a batch was run. */
struct batch_policy {
    bool fail_fast;
    bool has_deadline;
    bool may_lack_memory;   /* any node may have FAILED(-ENOMEM) */
    uint32_t in_flight_max; /* 0: none */
};

/* NULL, or what is wrong, in a sentence that stays valid until the next call. */
const char *batch_reference_replay(const struct batch_rules *rules, const struct batch_graph *graph,
                                   const struct batch_policy *policy, const struct batch_log *log);
const char *batch_reference_evaluate(const struct batch_rules *rules,
                                     const struct batch_graph *graph, const struct batch_log *log);

#endif
