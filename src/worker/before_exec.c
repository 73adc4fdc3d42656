/* SPDX-License-Identifier: MIT */
#include "worker/before_exec.h"

#include "core/check.h"
#include "sys/children.h"
#include "sys/exec.h"

/* What every worker gives up, whatever its policy says. */
#define ALWAYS                                                                                     \
    (SRI_SANDBOX_BIT(DESCRIPTORS) | SRI_SANDBOX_BIT(SURROUNDINGS) |                                \
     SRI_SANDBOX_BIT(NO_NEW_PRIVILEGES))

_Static_assert(SRI_SANDBOX_FDS_MAX >= SRI_LAUNCH_FDS_MAX + 2, "and two of the launcher's own");

static int place_fds(const struct sri_launch_plan *plan, int *start_fd, int *program_fd) {
    struct sri_exec_fd fds[SRI_LAUNCH_FDS_MAX];
    int keep[] = {*start_fd, *program_fd};
    for (uint32_t i = 0; i < plan->fd_count; i++) {
        fds[i] = (struct sri_exec_fd){plan->fds[i].fd, plan->fds[i].number};
    }
    const int code = sri_exec_place_fds(fds, plan->fd_count, keep, 2);
    *start_fd = keep[0];
    *program_fd = keep[1];
    return code;
}

static void keep_fd(struct sri_sandbox_policy *policy, int fd) {
    if (fd >= 0) {
        policy->fds[policy->fd_count++] = fd;
    }
}

static int enter_sandbox(const struct sri_launch_plan *plan, int start_fd, int program_fd,
                         struct sri_sandbox_report *report) {
    struct sri_sandbox_policy policy;
    if (plan->policy != NULL) {
        policy = *plan->policy;
    } else {
        sri_sandbox_policy_none(&policy);
    }
    policy.layers_asked |= ALWAYS;
    policy.layers_required |= ALWAYS;
    policy.fd_count = 0;
    for (uint32_t i = 0; i < plan->fd_count; i++) {
        keep_fd(&policy, (int)plan->fds[i].number);
    }
    keep_fd(&policy, start_fd);
    keep_fd(&policy, program_fd);
    return sri_sandbox_enter_process(&policy, SRI_SANDBOX_BEFORE_EXEC, report);
}

int sri_before_exec(const struct sri_launch_plan *plan, uint64_t fd_limit, int *start_fd,
                    int *program_fd, struct sri_sandbox_report *report,
                    enum sri_launch_step *out_step) {
    int code = 0;

    *out_step = SRI_LAUNCH_STEP_SESSION;
    if ((code = sri_child_new_session()) != 0) {
        return code;
    }
    *out_step = SRI_LAUNCH_STEP_FDS;
    if ((code = place_fds(plan, start_fd, program_fd)) != 0 ||
        (code = sri_exec_set_fd_limit(fd_limit)) != 0) {
        return code;
    }
    *out_step = SRI_LAUNCH_STEP_SANDBOX;
    return enter_sandbox(plan, *start_fd, *program_fd, report);
}

int sri_exec_program(const struct sri_launch_plan *plan, int program_fd) {
    static const char *const none[] = {NULL};
    const char *const *variables = plan->variables != NULL ? plan->variables : none;
    return plan->path != NULL ? sri_exec_path(plan->path, plan->arguments, variables)
                              : sri_exec_fd(program_fd, plan->arguments, variables);
}
