/* SPDX-License-Identifier: MIT */
/*
 * Batch run: a graph (batch_graph.h) as a real batch on a stage (batch_stage.h), with a log of what
 * happens for the reference (batch_reference.h).
 */
#ifndef SAFERING_TESTS_SUPPORT_BATCH_RUN_H
#define SAFERING_TESTS_SUPPORT_BATCH_RUN_H

#include "support/batch_reference.h"
#include "support/batch_stage.h"
#include "support/scale.h"

struct batch_run_plan {
    struct batch_policy policy;
    uint64_t seed;          /* of the order of adding, and of what callbacks do besides */
    uint64_t deadline_ns;   /* of the batch */
    uint32_t cancel_at;     /* the outcome in whose callback the batch is cancelled; BATCH_NONE */
    uint32_t caller_at;     /* its first buffer of those of the stage */
    uint32_t destroy_after; /* waits; BATCH_NONE */
    bool cancels_first;     /* before the first wait */
    bool writes_pipe;       /* else reads of the pipe go on until the batch is stopped */
    bool takes;             /* callbacks take files and buffers out of the batch */
    bool submits;           /* callbacks submit plain operations */
    bool forgets;
};

struct batch_run;

struct batch_run_node {
    struct batch_run *run;
    uint32_t number;
    sr_node node;
};

struct batch_run {
    struct batch_stage *stage;
    struct batch_graph graph; /* a copy: edges to what could not be added are not in it */
    struct batch_run_plan plan;
    uint32_t number; /* of the batch on its stage */
    sr_batch *batch; /* NULL once it is destroyed */
    struct batch_run_node *nodes;
    struct batch_log log;
    struct scale_random random;
    bool may_call; /* inside of a call in which callbacks may run */
    bool was_stopped_by_us;
    uint32_t outcome_count;
    uint32_t pipes_in_flight;
    uint32_t cleanup_pipes_in_flight;
    sr_file *taken_files;
    sr_buffer *taken_buffers;
    uint32_t taken_file_count;
    uint32_t taken_buffer_count;
};

/* Makes the batch and its nodes. */
void batch_run_open(struct batch_run *out_run, struct batch_stage *stage,
                    const struct batch_graph *graph, const struct batch_run_plan *plan,
                    uint32_t number);
void batch_run_start(struct batch_run *run);
/* For the stage's trace hook. */
void batch_run_traced(struct batch_run *run, int event, uint32_t node);
bool batch_run_is_finished(struct batch_run *run);
/* Notes whether the batch has been stopped. */
void batch_run_look(struct batch_run *run);
void batch_run_cancel(struct batch_run *run);
/* In the middle of it. */
void batch_run_destroy(struct batch_run *run);
/* Compares, counts, destroys; NULL, or what is wrong. The log stays until batch_run_close(). */
const char *batch_run_finish(struct batch_run *run);
void batch_run_close(struct batch_run *run);

sr_batch_stats batch_run_stats(struct batch_run *run);

#endif
