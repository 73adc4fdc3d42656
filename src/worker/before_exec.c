/* SPDX-License-Identifier: MIT */
#include "worker/before_exec.h"

#include "core/check.h"
#include "sys/children.h"
#include "sys/exec.h"

static int enter_directory(const struct sri_launch_plan *plan) {
    sri_exec_set_file_mask(plan->file_mask);
    return sri_exec_set_directory(plan->directory != NULL ? plan->directory : "/");
}

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

static int set_limits(const struct sri_launch_plan *plan, uint64_t fd_limit) {
    int code = sri_exec_set_fd_limit(fd_limit);
    for (uint32_t i = 0; i < plan->limit_count && code == 0; i++) {
        const struct sri_launch_limit *limit = &plan->limits[i];
        code = sri_exec_set_limit(limit->resource, limit->soft, limit->hard);
    }
    return code;
}

static int become_program(const struct sri_launch_plan *plan, int program_fd) {
    static const char *const none[] = {NULL};
    const char *const *variables = plan->variables != NULL ? plan->variables : none;
    sri_children_signals_reset();
    return plan->path != NULL ? sri_exec_path(plan->path, plan->arguments, variables)
                              : sri_exec_fd(program_fd, plan->arguments, variables);
}

int sri_before_exec(const struct sri_launch_plan *plan, uint64_t fd_limit, int *start_fd,
                    enum sri_launch_step *out_step) {
    int program_fd = plan->program_fd;
    int code = 0;

    *out_step = SRI_LAUNCH_STEP_SESSION;
    if ((code = sri_child_new_session()) != 0) {
        return code;
    }
    *out_step = SRI_LAUNCH_STEP_DIRECTORY;
    if ((code = enter_directory(plan)) != 0) {
        return code;
    }
    *out_step = SRI_LAUNCH_STEP_FDS;
    if ((code = place_fds(plan, start_fd, &program_fd)) != 0) {
        return code;
    }
    *out_step = SRI_LAUNCH_STEP_LIMITS;
    if ((code = set_limits(plan, fd_limit)) != 0) {
        return code;
    }
    *out_step = SRI_LAUNCH_STEP_PRIVILEGES;
    if ((code = sri_exec_give_up_privileges()) != 0) {
        return code;
    }
    *out_step = SRI_LAUNCH_STEP_EXEC;
    return become_program(plan, program_fd);
}
