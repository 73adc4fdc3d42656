/* SPDX-License-Identifier: MIT */
#include "sys/process.h"

#include "core/check.h"
#include "sys/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPAWN_FDS_MAX 4u

/* Of older headers. */
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

int32_t sri_process_id(void) {
    return getpid();
}

int sri_process_open(int32_t pid) {
    const long fd = syscall(SYS_pidfd_open, pid, 0); /* close-on-exec by itself */
    return fd >= 0 ? (int)fd : -errno;
}

int sri_process_signal(int pidfd, int signal) {
    return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) == 0 ? 0 : -errno;
}

bool sri_process_can_read(int fd, uint64_t timeout_ns) {
    const uint64_t begin = sri_clock_now_ns();
    struct pollfd one = {.fd = fd, .events = POLLIN};
    for (;;) {
        const uint64_t passed = sri_clock_now_ns() - begin;
        const uint64_t left = passed < timeout_ns ? timeout_ns - passed : 0;
        const struct timespec time = sri_clock_timespec(left);
        const int count = ppoll(&one, 1, &time, NULL);
        if (count >= 0 || errno != EINTR) {
            return count > 0;
        }
    }
}

bool sri_process_ends_within(int pidfd, uint64_t timeout_ns) {
    return sri_process_can_read(pidfd, timeout_ns);
}

bool sri_process_is_child(int pidfd) {
    siginfo_t info;
    return waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

void sri_process_reap(int pidfd) {
    siginfo_t info;
    (void)waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG);
}

const char *sri_process_variable(const char *name) {
    return secure_getenv(name);
}

/* ---- start ----------------------------------------------------------------------------------- */

static void close_all(const int *fds, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        (void)close(fds[i]);
    }
}

/* Copies with numbers beyond those that the new program gets, so that none overwrites another. */
static int move_up(const int *fds, uint32_t count, int beyond, int *out_fds) {
    for (uint32_t i = 0; i < count; i++) {
        out_fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, beyond);
        if (out_fds[i] < 0) {
            const int code = -errno;
            close_all(out_fds, i);
            return code;
        }
    }
    return 0;
}

/* posix_spawn*() return errno values. */
static int describe_fds(posix_spawn_file_actions_t *actions, const int *fds, uint32_t count,
                        int first) {
    int error = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDWR, 0);
    if (error == 0) {
        error = posix_spawn_file_actions_adddup2(actions, 0, 1);
    }
    for (uint32_t i = 0; i < count && error == 0; i++) {
        error = posix_spawn_file_actions_adddup2(actions, fds[i], first + (int)i);
    }
    return error != 0 ? error
                      : posix_spawn_file_actions_addclosefrom_np(actions, first + (int)count);
}

static int describe_process(posix_spawnattr_t *attributes) {
    sigset_t none;
    (void)sigemptyset(&none);
    const int error = posix_spawnattr_setsigmask(attributes, &none);
    return error != 0
               ? error
               : posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
}

static int spawn(const char *path, const char *const *arguments, const char *const *variables,
                 const int *fds, uint32_t fd_count, int first, pid_t *out_pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int error = posix_spawn_file_actions_init(&actions);
    if (error != 0) {
        return error;
    }
    error = posix_spawnattr_init(&attributes);
    if (error == 0) {
        error = describe_fds(&actions, fds, fd_count, first);
        if (error == 0) {
            error = describe_process(&attributes);
        }
        if (error == 0) {
            /* exec(2) does not write to strings; its type is older than const. */
            error = posix_spawn(out_pid, path, &actions, &attributes,
                                (char *const *)(uintptr_t)arguments,
                                (char *const *)(uintptr_t)variables);
        }
        (void)posix_spawnattr_destroy(&attributes);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    return error;
}

int sri_process_spawn(const char *path, const char *const *arguments, const char *const *variables,
                      const int *fds, uint32_t fd_count, int first, int32_t *out_pid) {
    int moved[SPAWN_FDS_MAX] = {-1, -1, -1, -1};
    pid_t pid = 0;
    SR_CHECK(fd_count <= SPAWN_FDS_MAX);
    const int code = move_up(fds, fd_count, first + (int)fd_count, moved);
    if (code != 0) {
        return code;
    }
    const int error = spawn(path, arguments, variables, moved, fd_count, first, &pid);
    close_all(moved, fd_count);
    *out_pid = pid;
    return -error;
}
