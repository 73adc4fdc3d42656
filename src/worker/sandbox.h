/* SPDX-License-Identifier: MIT */
/*
 * Sandbox: what a worker process gives up before foreign code runs in it. The process enters a
 * policy (ipc/sandbox_policy.h) by itself, step by step.
 *
 * Invariants:
 * - A layer that is required and cannot be had ends the step with its code, at that layer. The
 *   process is then half confined and must end.
 * - Nothing fails open: no layer is weakened because another one is missing, and a path that is
 *   listed and cannot be opened is an error, whether or not its layer is required.
 *
 * Neighbours: src/sys/confine*.h make the system calls, this is the order and the bookkeeping.
 */
#ifndef SAFERING_WORKER_SANDBOX_H
#define SAFERING_WORKER_SANDBOX_H

#include "ipc/sandbox_policy.h"

/*
 * Takes all layers of one step, for the calling process. Returns 0; -EINVAL (no valid policy, no
 * such step); or the code of a required layer, which @report names. Not to be repeated.
 *
 * BEFORE_EXEC leaves the process with the policy's descriptors alone, and what it reports goes out
 * through one of them.
 */
int sri_sandbox_enter(const struct sri_sandbox_policy *policy, enum sri_sandbox_step step,
                      struct sri_sandbox_report *report);

/* The same for the first two steps alone. For the launcher, which does without libseccomp. */
int sri_sandbox_enter_process(const struct sri_sandbox_policy *policy, enum sri_sandbox_step step,
                              struct sri_sandbox_report *report);

/* For sandbox.c and sandbox_process.c. Enters one layer; 0, or why it does not hold. */
typedef int sri_sandbox_layer_fn(const struct sri_sandbox_policy *policy,
                                 enum sri_sandbox_layer layer, uint32_t *out_failed_path);
int sri_sandbox_take_step(const struct sri_sandbox_policy *policy, enum sri_sandbox_step step,
                          sri_sandbox_layer_fn *enter, struct sri_sandbox_report *report);

#endif
