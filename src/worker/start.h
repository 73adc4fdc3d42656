/* SPDX-License-Identifier: MIT */
/*
 * Start: from a plan to a running program. The launcher forks; the child, or with a pid namespace
 * its child, says who it is (HERE, with a pidfd), changes itself (before_exec.c), says what of
 * the sandbox holds (CONFINED) and becomes the program. Its end of the start channel is
 * close-on-exec: when the channel hangs up without a word of failure, the program runs. Nothing
 * here waits for any of that.
 *
 * Neighbours: init.c (pid 1 of a pid namespace), before_exec.c (the steps), report.c (the answer).
 */
#ifndef SAFERING_WORKER_START_H
#define SAFERING_WORKER_START_H

#include "worker/launched.h"

/* What a child says over the start channel. */
enum sri_start_word { SRI_START_HERE = 1, SRI_START_CONFINED = 2, SRI_START_FAILED = 3 };

struct sri_start_note {
    uint32_t word;
    uint32_t step; /* enum sri_launch_step */
    int32_t code;
    uint32_t zero;
    struct sri_sandbox_report report; /* CONFINED, FAILED */
};

/* Begins to start a worker, or notes in @worker why that failed. Descriptors of the plan are
 * borrowed. Returns in the launcher alone. */
void sri_start(struct sri_launch_state *state, struct sri_launched *worker,
               const struct sri_launch_plan *plan);

/* Reads what came over the start channel. */
void sri_start_take_notes(struct sri_launched *worker);

#endif
