/* SPDX-License-Identifier: MIT */
#include "support/launch.h"

#include "sys/process.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <safering/error.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_NS ((uint64_t)LAUNCH_PATIENCE_MS * 1000000u)

extern char **environ;

static char text[65536];

static _Noreturn void give_up(const char *what, int code) {
    fprintf(stderr, "launch: %s: %d (%s)\n", what, code, sr_error_name(code));
    abort();
}

static const char *path_of(const char *variable, const char *built) {
    const char *path = getenv(variable);
    return path != NULL ? path : built;
}

const char *launch_worker_path(void) {
    return path_of("SAFERING_TEST_WORKER", SAFERING_BUILT_WORKER);
}

const char *launch_serving_path(void) {
    return path_of("SAFERING_TEST_SERVING", SAFERING_BUILT_SERVING);
}

const char *launch_launcher_path(void) {
    return path_of("SAFERING_LAUNCHER", SAFERING_BUILT_LAUNCHER);
}

/* ---- launcher -------------------------------------------------------------------------------- */

struct sri_launcher *launch_open(void) {
    const struct sri_launcher_options options = {.path = launch_launcher_path(),
                                                 .variables = (const char *const *)environ};
    struct sri_launcher *launcher = NULL;
    const int code = sri_launcher_create(&options, &launcher);
    if (code != 0) {
        give_up(options.path, code);
    }
    return launcher;
}

void launch_close(struct sri_launcher **launcher) {
    const int pidfd = dup((*launcher)->launcher_pidfd);
    const int code = sri_launcher_destroy(launcher);
    if (code != 0) {
        give_up("destroy", code);
    }
    if (!sri_process_ends_within(pidfd, 0)) {
        give_up("the launcher outlives its keeper", 0);
    }
    (void)close(pidfd);
}

uint32_t launch_pid_namespace(void) {
    return geteuid() == 0 ? SRI_SANDBOX_BIT(PID_NAMESPACE)
                          : SRI_SANDBOX_BIT(PID_NAMESPACE) | SRI_SANDBOX_BIT(USER_NAMESPACE);
}

struct sri_sandbox_policy launch_policy(uint32_t asked, uint32_t required) {
    struct sri_sandbox_policy policy;
    sri_sandbox_policy_none(&policy);
    policy.layers_asked = asked;
    policy.layers_required = required;
    return policy;
}

const char *launch_pid_namespace_missing(void) {
    struct sri_launcher *launcher = launch_open();
    launch_start(launcher, 1, "exit", "0", -1, launch_pid_namespace());
    const bool is_had = launch_next(launcher, NULL).header.kind == SRI_LAUNCH_STARTED;
    launch_close(&launcher);
    return is_had ? NULL : "pid namespaces are not permitted here";
}

void launch_start(struct sri_launcher *launcher, uint64_t id, const char *what, const char *how,
                  int tell_fd, uint32_t layers) {
    const struct sri_sandbox_policy policy = launch_policy(layers, layers);
    const char *const arguments[] = {"worker", what, how, NULL};
    struct sri_launch_plan plan = SRI_LAUNCH_PLAN_INIT;
    plan.path = launch_worker_path();
    plan.arguments = arguments;
    plan.policy = &policy;
    if (tell_fd >= 0) {
        plan.fds[plan.fd_count++] = (struct sri_launch_fd){tell_fd, LAUNCH_TELL_FD};
    }
    const int code = sri_launcher_start(launcher, id, &plan, NULL);
    if (code != 0) {
        give_up("start", code);
    }
}

struct sri_launch_event launch_next(struct sri_launcher *launcher, int *out_pidfd) {
    struct sri_launch_event event;
    int pidfd = -1;
    for (;;) {
        const int code = sri_launcher_receive(launcher, &event, &pidfd);
        if (code == 1) {
            break;
        }
        if (code < 0) {
            give_up("receive", code);
        }
        if (!sri_process_can_read(sri_launcher_fd(launcher), PATIENCE_NS)) {
            give_up("no event came", SR_E_TIMEOUT);
        }
    }
    if (out_pidfd != NULL) {
        *out_pidfd = pidfd;
    } else if (pidfd >= 0) {
        (void)close(pidfd);
    }
    return event;
}

struct sri_launch_event launch_expect(struct sri_launcher *launcher, uint32_t kind, uint64_t id) {
    const struct sri_launch_event event = launch_next(launcher, NULL);
    if (event.header.kind != kind || event.header.worker != id) {
        fprintf(stderr,
                "launch: event %u about worker %llu (code %d, step %u, end %u, status %u), "
                "expected %u about %llu\n",
                event.header.kind, (unsigned long long)event.header.worker, event.code, event.step,
                event.end, event.status, kind, (unsigned long long)id);
        abort();
    }
    return event;
}

/* ---- pipes ----------------------------------------------------------------------------------- */

struct launch_pipe launch_pipe_open(void) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        give_up("pipe2", -errno);
    }
    return (struct launch_pipe){ends[0], ends[1]};
}

static bool read_byte(struct launch_pipe *pipe, char *out_byte) {
    if (!sri_process_can_read(pipe->out, PATIENCE_NS)) {
        give_up("a worker says nothing", SR_E_TIMEOUT);
    }
    return read(pipe->out, out_byte, 1) == 1;
}

static const char *read_until(struct launch_pipe *pipe, char last) {
    size_t used = 0;
    while (used < sizeof text - 1 && read_byte(pipe, &text[used])) {
        if (text[used++] == last) {
            break;
        }
    }
    text[used] = '\0';
    return text;
}

static void close_in(struct launch_pipe *pipe) {
    if (pipe->in >= 0) {
        (void)close(pipe->in);
        pipe->in = -1;
    }
}

const char *launch_pipe_line(struct launch_pipe *pipe) {
    return read_until(pipe, '\n');
}

const char *launch_pipe_all(struct launch_pipe *pipe) {
    close_in(pipe);
    return read_until(pipe, '\0');
}

bool launch_pipe_ends(struct launch_pipe *pipe) {
    char byte = 0;
    close_in(pipe);
    for (;;) {
        if (!sri_process_can_read(pipe->out, PATIENCE_NS)) {
            return false;
        }
        if (read(pipe->out, &byte, 1) <= 0) {
            return true;
        }
    }
}

void launch_pipe_close(struct launch_pipe *pipe) {
    close_in(pipe);
    (void)close(pipe->out);
}

/* ---- /proc ----------------------------------------------------------------------------------- */

static uint32_t look_at_fds(int32_t pid, bool prints) {
    char path[64];
    char target[256];
    uint32_t count = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *directory = opendir(path);
    if (directory == NULL) {
        give_up(path, -errno);
    }
    for (const struct dirent *entry = NULL; (entry = readdir(directory)) != NULL;) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        count++;
        if (prints) {
            const ssize_t length =
                readlinkat(dirfd(directory), entry->d_name, target, sizeof target - 1);
            target[length > 0 ? length : 0] = '\0';
            fprintf(stderr, "  %s %s\n", entry->d_name, target);
        }
    }
    (void)closedir(directory);
    return count;
}

uint32_t launch_fd_count(int32_t pid) {
    return look_at_fds(pid, false);
}

bool launch_fd_count_becomes(int32_t pid, uint32_t count) {
    for (int i = 0; i < LAUNCH_PATIENCE_MS; i++) {
        if (launch_fd_count(pid) == count) {
            return true;
        }
        const struct timespec pause = {.tv_nsec = 1000000};
        (void)nanosleep(&pause, NULL);
    }
    fprintf(stderr, "launch: %d has, not %u:\n", pid, count);
    (void)look_at_fds(pid, true);
    return false;
}

int32_t launch_parent_of(int32_t pid) {
    char path[64];
    int parent = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL || fscanf(file, "%*d %*[^)]) %*c %d", &parent) != 1) {
        give_up(path, -errno);
    }
    (void)fclose(file);
    return parent;
}
