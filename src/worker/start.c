/* SPDX-License-Identifier: MIT */
#include "worker/start.h"

#include "core/check.h"
#include "sys/packet.h"
#include "sys/process.h"
#include "worker/before_exec.h"
#include "worker/init.h"
#include <errno.h>
#include <safering/error.h>

#define EXIT_NOT_STARTED 127
#define SIGNAL_KILL      9

/* ---- in the child ---------------------------------------------------------------------------- */

/* What the child has entered so far; the launcher's own copy is never used. */
static struct sri_sandbox_report entered;

static _Noreturn void give_up(int start_fd, enum sri_launch_step step, int code) {
    const struct sri_start_note note = {
        .word = SRI_START_FAILED, .step = step, .code = code, .report = entered};
    /* The launcher is gone: so be it. */
    (void)sri_packet_send(start_fd, &note, sizeof note, NULL, 0);
    sri_child_exit(EXIT_NOT_STARTED);
}

static int say_confined(int start_fd) {
    const struct sri_start_note note = {.word = SRI_START_CONFINED, .report = entered};
    return sri_packet_send(start_fd, &note, sizeof note, NULL, 0);
}

static void say_here(int start_fd) {
    const struct sri_start_note note = {.word = SRI_START_HERE};
    int pidfd = sri_process_open(sri_process_id());
    int code = pidfd >= 0 ? sri_packet_send(start_fd, &note, sizeof note, &pidfd, 1) : pidfd;
    sri_fd_drop(&pidfd);
    if (code != 0) {
        give_up(start_fd, SRI_LAUNCH_STEP_PROCESS, code);
    }
}

static _Noreturn void become_worker(const struct sri_launch_state *state,
                                    const struct sri_launch_plan *plan, int start_fd) {
    enum sri_launch_step step = SRI_LAUNCH_STEP_SESSION;
    int program_fd = plan->program_fd;
    say_here(start_fd);
    int code = sri_before_exec(plan, state->fd_limit, &start_fd, &program_fd, &entered, &step);
    if (code == 0) {
        step = SRI_LAUNCH_STEP_EXEC;
        code = say_confined(start_fd);
    }
    if (code == 0) {
        code = sri_exec_program(plan, program_fd);
    }
    give_up(start_fd, step, code);
}

/* A worker must not outlive its launcher: the kernel kills it when that ends, unless it had ended
 * before the kernel was told. */
static void tie_to_launcher(const struct sri_launch_state *state, int start_fd) {
    const int code = sri_child_die_with_parent(SIGNAL_KILL);
    if (code != 0 || sri_process_ends_within(state->self_pidfd, 0)) {
        give_up(start_fd, SRI_LAUNCH_STEP_PROCESS, code != 0 ? code : SR_E_PEER_DIED);
    }
}

static _Noreturn void run_child(const struct sri_launch_state *state,
                                const struct sri_launch_plan *plan, uint32_t namespaces,
                                int start_fd, int init_fd) {
    sri_sandbox_report_init(&entered);
    tie_to_launcher(state, start_fd);
    if ((namespaces & SRI_SANDBOX_BIT(USER_NAMESPACE)) != 0) {
        const int code = sri_child_keep_user();
        if (code != 0) {
            give_up(start_fd, SRI_LAUNCH_STEP_NAMESPACES, code);
        }
    }
    if ((namespaces & SRI_SANDBOX_BIT(PID_NAMESPACE)) != 0) {
        const int code = sri_init_run(init_fd);
        if (code != 0) {
            give_up(start_fd, SRI_LAUNCH_STEP_INIT, code);
        }
    }
    become_worker(state, plan, start_fd);
}

/* ---- namespaces ------------------------------------------------------------------------------ */

#define NAMESPACES                                                                                 \
    (SRI_SANDBOX_BIT(USER_NAMESPACE) | SRI_SANDBOX_BIT(NETWORK_NAMESPACE) |                        \
     SRI_SANDBOX_BIT(IPC_NAMESPACE) | SRI_SANDBOX_BIT(PID_NAMESPACE))

_Static_assert(NAMESPACES == (1u << 4) - 1, "counted through below");

static int32_t fork_with(uint32_t namespaces) {
    const struct sri_child_namespaces own = {
        .user = (namespaces & SRI_SANDBOX_BIT(USER_NAMESPACE)) != 0,
        .pid = (namespaces & SRI_SANDBOX_BIT(PID_NAMESPACE)) != 0,
        .net = (namespaces & SRI_SANDBOX_BIT(NETWORK_NAMESPACE)) != 0,
        .ipc = (namespaces & SRI_SANDBOX_BIT(IPC_NAMESPACE)) != 0,
    };
    return sri_child_fork(&own);
}

/* Forks with all that is wanted, else without one of the optional ones, else without two, and so
 * on. A refused clone(2) costs a few microseconds. @out_code: why the first attempt failed, or 0.
 */
static int32_t fork_with_most(struct sri_launched *worker, uint32_t wanted, uint32_t required,
                              int *out_code) {
    *out_code = 0;
    for (int dropped_count = 0; dropped_count <= 4; dropped_count++) {
        for (uint32_t dropped = 0; dropped <= NAMESPACES; dropped++) {
            if ((dropped & ~(wanted & ~required)) != 0 ||
                __builtin_popcount(dropped) != dropped_count) {
                continue;
            }
            /* Before the fork: the child reads it. */
            worker->namespaces = wanted & ~dropped;
            const int32_t pid = fork_with(worker->namespaces);
            if (pid >= 0) {
                return pid;
            }
            *out_code = *out_code != 0 ? *out_code : pid;
        }
    }
    return *out_code;
}

static void note_namespaces(struct sri_launched *worker, uint32_t asked, int code) {
    for (uint32_t i = 0; i < SRI_SANDBOX_LAYER_COUNT; i++) {
        const uint32_t bit = UINT32_C(1) << i;
        if ((asked & bit) != 0) {
            const bool holds = (worker->namespaces & bit) != 0;
            worker->report.layers[i].state = holds ? SRI_SANDBOX_HOLDS : SRI_SANDBOX_REFUSED;
            worker->report.layers[i].code = holds ? 0 : code;
        }
    }
}

static int fork_in_namespaces(struct sri_launched *worker,
                              const struct sri_sandbox_policy *policy) {
    const uint32_t asked = policy != NULL ? policy->layers_asked & NAMESPACES : 0;
    const uint32_t required = policy != NULL ? policy->layers_required & NAMESPACES : 0;
    uint32_t wanted = asked;
    int user_code = 0;
    int code = 0;
    if ((asked & SRI_SANDBOX_BIT(USER_NAMESPACE)) != 0) {
        /* One that can be had but in which nobody can say who he is serves nobody. */
        user_code = sri_children_try_user_namespace();
        wanted &= user_code == 0 ? UINT32_MAX : ~SRI_SANDBOX_BIT(USER_NAMESPACE);
    }
    if ((required & ~wanted) != 0) {
        worker->report.failed_layer = SRI_SANDBOX_USER_NAMESPACE;
        note_namespaces(worker, SRI_SANDBOX_BIT(USER_NAMESPACE), user_code);
        return user_code;
    }
    const int32_t pid = fork_with_most(worker, wanted, required, &code);
    if (pid >= 0) {
        note_namespaces(worker, asked, user_code != 0 ? user_code : code);
    }
    return pid;
}

/* ---- in the launcher ------------------------------------------------------------------------- */

struct ends {
    int start[2]; /* ours, the child's */
    int init[2];
};

static int open_ends(struct ends *ends, bool has_init) {
    int code = sri_packet_pair(ends->start);
    if (code == 0) {
        code = sri_packet_tell_sender(ends->start[0]);
    }
    if (code == 0 && has_init) {
        code = sri_packet_pair(ends->init);
    }
    return code;
}

static void close_ends(struct ends *ends, int side) {
    sri_fd_drop(&ends->start[side]);
    sri_fd_drop(&ends->init[side]);
}

static int fork_worker(struct sri_launch_state *state, struct sri_launched *worker,
                       const struct sri_launch_plan *plan, const struct ends *ends) {
    const int32_t pid = fork_in_namespaces(worker, plan->policy);
    if (pid == 0) {
        run_child(state, plan, worker->namespaces, ends->start[1], ends->init[1]);
    }
    if (pid < 0) {
        return pid;
    }
    worker->child = pid;
    return 0;
}

void sri_start(struct sri_launch_state *state, struct sri_launched *worker,
               const struct sri_launch_plan *plan) {
    struct ends ends = {{-1, -1}, {-1, -1}};
    const bool wants_init =
        plan->policy != NULL && (plan->policy->layers_asked & SRI_SANDBOX_BIT(PID_NAMESPACE)) != 0;
    int code = open_ends(&ends, wants_init);
    if (code == 0) {
        code = fork_worker(state, worker, plan, &ends);
    }
    close_ends(&ends, 1);
    if (code != 0) {
        close_ends(&ends, 0);
        sri_launched_fail(worker, SRI_LAUNCH_STEP_FORK, code);
        worker->owes_end = true;
        return;
    }
    worker->start_fd = ends.start[0];
    worker->init_fd = ends.init[0];
    if ((worker->namespaces & SRI_SANDBOX_BIT(PID_NAMESPACE)) == 0) {
        sri_fd_drop(&worker->init_fd);
    }
}

/* By a process that is not yet foreign; but a bit that has flipped is no reason to lie. */
static bool takes_report(struct sri_launched *worker, const struct sri_start_note *note) {
    if (!sri_sandbox_report_is_valid(&note->report)) {
        return false;
    }
    sri_sandbox_report_merge(&worker->report, &note->report);
    return true;
}

static void take_note(struct sri_launched *worker, const struct sri_start_note *note,
                      struct sri_packet *packet) {
    if (note->word == SRI_START_HERE && packet->fd_count == 1 && worker->pidfd < 0 &&
        packet->sender > 1) {
        worker->pid = packet->sender;
        worker->pidfd = packet->fds[0];
        packet->fd_count = 0;
    } else if (note->word == SRI_START_CONFINED && takes_report(worker, note)) {
        return;
    } else if (note->word == SRI_START_FAILED && note->step > SRI_LAUNCH_STEP_NONE &&
               note->step < SRI_LAUNCH_STEP_LAUNCHER && takes_report(worker, note)) {
        sri_launched_fail(worker, (enum sri_launch_step)note->step, note->code);
    } else {
        sri_launched_fail(worker, SRI_LAUNCH_STEP_PROCESS, SR_E_PROTOCOL);
    }
}

static void note_start_over(struct sri_launched *worker) {
    sri_fd_drop(&worker->start_fd);
    if (worker->pid == 0) {
        sri_launched_fail(worker, SRI_LAUNCH_STEP_PROCESS, SR_E_PEER_DIED);
    }
    worker->owes_started = worker->failed_step == SRI_LAUNCH_STEP_NONE;
}

void sri_start_take_notes(struct sri_launched *worker) {
    while (worker->start_fd >= 0) {
        struct sri_start_note note = {0};
        struct sri_packet packet;
        const int got = sri_packet_receive(worker->start_fd, &note, sizeof note, &packet);
        if (got == -EAGAIN) {
            return;
        }
        if (got <= 0) {
            note_start_over(worker);
            return;
        }
        if (packet.has_lost_fds) {
            sri_launched_fail(worker, SRI_LAUNCH_STEP_PROCESS, -EMFILE);
        } else {
            take_note(worker, &note, &packet);
        }
        sri_packet_drop(&packet);
    }
}
