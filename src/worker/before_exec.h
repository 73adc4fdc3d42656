/* SPDX-License-Identifier: MIT */
/*
 * Before exec: the steps that a forked child takes, in their order, before it becomes the worker's
 * program. This is the one place for them: a sandbox's first step (src/worker, ADR 12) belongs
 * here, between the limits and the privileges.
 *
 * Neighbours: src/sys/exec.c makes the system calls, start.c reports a step that failed.
 */
#ifndef SAFERING_WORKER_BEFORE_EXEC_H
#define SAFERING_WORKER_BEFORE_EXEC_H

#include "ipc/launch_wire.h"

/*
 * Returns only on failure, with the code and in @out_step the step. @start_fd is what the failure
 * is to be told over; it gets another number on the way. @fd_limit: the soft limit of open
 * descriptors that the worker gets unless the plan has one.
 */
int sri_before_exec(const struct sri_launch_plan *plan, uint64_t fd_limit, int *start_fd,
                    enum sri_launch_step *out_step);

#endif
