/* SPDX-License-Identifier: MIT */
/*
 * Before exec: the steps that a forked child takes, in their order, before it becomes the worker's
 * program: a session, its descriptors, and the sandbox as far as a process enters it before it is
 * another program (worker/sandbox.h). This is the one place for them.
 *
 * Neighbours: src/sys/exec.c makes the system calls, start.c reports a step that failed.
 */
#ifndef SAFERING_WORKER_BEFORE_EXEC_H
#define SAFERING_WORKER_BEFORE_EXEC_H

#include "ipc/launch_wire.h"
#include "worker/sandbox.h"

/*
 * Returns 0, or the code of the step in @out_step. @start_fd is what is told over, @program_fd (or
 * -1) what will be executed; both get other numbers on the way, and are close-on-exec. @fd_limit:
 * the soft limit of open descriptors that the worker gets unless the policy lowers it.
 */
int sri_before_exec(const struct sri_launch_plan *plan, uint64_t fd_limit, int *start_fd,
                    int *program_fd, struct sri_sandbox_report *report,
                    enum sri_launch_step *out_step);

/* Becomes the plan's program. Returns only on failure, with the code. */
int sri_exec_program(const struct sri_launch_plan *plan, int program_fd);

#endif
