/* SPDX-License-Identifier: MIT */
#include "sys/children.h"

#include "core/check.h"
#include "sys/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- signals --------------------------------------------------------------------------------- */

/* By the kernel's own call: the C library refuses to touch two signals that it keeps for itself,
 * which whoever started this process may have ignored all the same. */
static void set_default(int signal) {
    static const unsigned char standard[64]; /* struct sigaction of the kernel: SIG_DFL is zero */
    /* Fails for SIGKILL and SIGSTOP, which nobody can change. */
    (void)syscall(SYS_rt_sigaction, signal, standard, NULL, 8);
}

int sri_children_signals_open(void) {
    sigset_t set;
    for (int signal = 1; signal < NSIG; signal++) {
        set_default(signal);
    }
    (void)sigfillset(&set);
    if (sigprocmask(SIG_SETMASK, &set, NULL) != 0) {
        return -errno;
    }
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigaddset(&set, SIGTERM);
    const int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd >= 0 ? fd : -errno;
}

bool sri_children_signals_read(int fd) {
    struct signalfd_siginfo info;
    bool has_term = false;
    while (read(fd, &info, sizeof info) == (ssize_t)sizeof info) {
        has_term |= info.ssi_signo == SIGTERM;
    }
    return has_term;
}

void sri_children_pause(uint64_t timeout_ns) {
    const struct timespec time = sri_clock_timespec(timeout_ns);
    sigset_t child;
    (void)sigemptyset(&child);
    (void)sigaddset(&child, SIGCHLD);
    (void)sigtimedwait(&child, NULL, &time); /* whatever it says, the caller looks again */
}

/* ---- family ---------------------------------------------------------------------------------- */

int sri_children_adopt_orphans(void) {
    return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0 ? 0 : -errno;
}

int sri_child_die_with_parent(int signal) {
    return prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0) == 0 ? 0 : -errno;
}

int32_t sri_child_parent(void) {
    return getppid();
}

int sri_child_new_session(void) {
    return setsid() >= 0 ? 0 : -errno;
}

void sri_child_set_name(const char *name) {
    (void)prctl(PR_SET_NAME, name, 0, 0, 0);
}

_Noreturn void sri_child_exit(int code) {
    _exit(code);
}

static int32_t fork_with(unsigned long flags) {
    /* No stack of its own: as fork(2), but glibc's knows no namespaces. */
    const long pid = syscall(SYS_clone, flags | (unsigned long)SIGCHLD, NULL, NULL, NULL, NULL);
    return pid >= 0 ? (int32_t)pid : -errno;
}

int32_t sri_child_fork(const struct sri_child_namespaces *namespaces) {
    const unsigned long flags = (namespaces->user ? (unsigned long)CLONE_NEWUSER : 0) |
                                (namespaces->pid ? (unsigned long)CLONE_NEWPID : 0) |
                                (namespaces->net ? (unsigned long)CLONE_NEWNET : 0) |
                                (namespaces->ipc ? (unsigned long)CLONE_NEWIPC : 0);
    if (flags != 0) {
        return fork_with(flags);
    }
    const pid_t pid = fork();
    return pid >= 0 ? pid : -errno;
}

static int write_file(const char *path, const char *text) {
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    const ssize_t written = write(fd, text, strlen(text));
    const int code = written >= 0 ? 0 : -errno;
    (void)close(fd);
    return code;
}

/* Who it is outside can only be asked before the map is written; geteuid() says "nobody" within. */
static uid_t outer_user;
static gid_t outer_group;

static void remember_user(void) {
    outer_user = geteuid();
    outer_group = getegid();
}

int sri_child_keep_user(void) {
    char map[64];
    /* user_namespaces(7): without this an unprivileged process may not write gid_map. */
    int code = write_file("/proc/self/setgroups", "deny");
    if (code == 0) {
        (void)snprintf(map, sizeof map, "%u %u 1", outer_user, outer_user);
        code = write_file("/proc/self/uid_map", map);
    }
    if (code == 0) {
        (void)snprintf(map, sizeof map, "%u %u 1", outer_group, outer_group);
        code = write_file("/proc/self/gid_map", map);
    }
    return code;
}

/* A child that says by its exit code what writing the map brought. */
static int try_user_namespace(void) {
    struct sri_child_end end;
    const int32_t pid = fork_with(CLONE_NEWUSER);
    if (pid == 0) {
        sri_child_exit(-sri_child_keep_user() & 0xff);
    }
    if (pid < 0) {
        return pid;
    }
    sri_child_reap(pid, &end);
    return end.signal != 0 ? -EPERM : -(int)end.code;
}

int sri_children_try_user_namespace(void) {
    static bool is_known;
    static int answer;
    if (!is_known) {
        remember_user();
        answer = try_user_namespace();
        is_known = true;
    }
    return answer;
}

/* ---- ends ------------------------------------------------------------------------------------ */

static int32_t find_ended(int options) {
    siginfo_t info;
    int result = 0;
    do {
        memset(&info, 0, sizeof info);
        result = waitid(P_ALL, 0, &info, WEXITED | WNOWAIT | options);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? info.si_pid : -errno;
}

int32_t sri_children_find_ended(void) {
    return find_ended(WNOHANG);
}

int32_t sri_children_wait_ended(void) {
    return find_ended(0);
}

static uint64_t time_ns(struct timeval time) {
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_usec * 1000u;
}

void sri_child_reap(int32_t pid, struct sri_child_end *out_end) {
    struct rusage usage;
    int status = 0;
    pid_t got = 0;
    do {
        got = wait4(pid, &status, 0, &usage);
    } while (got < 0 && errno == EINTR);
    SR_CHECK(got == pid && (WIFEXITED(status) || WIFSIGNALED(status)));
    *out_end = (struct sri_child_end){
        .cpu_ns = time_ns(usage.ru_utime) + time_ns(usage.ru_stime),
        .resident_max_bytes = (uint64_t)usage.ru_maxrss * 1024u,
    };
    if (WIFEXITED(status)) {
        out_end->code = (uint32_t)WEXITSTATUS(status);
    } else {
        out_end->signal = (uint32_t)WTERMSIG(status);
        out_end->has_core = WCOREDUMP(status) ? 1 : 0;
    }
}

void sri_child_kill(int32_t pid) {
    SR_CHECK(pid > 1);
    (void)kill(pid, SIGKILL); /* a zombie does not mind */
}

void sri_child_kill_group(int32_t pid) {
    SR_CHECK(pid > 1);
    (void)kill(-pid, SIGKILL); /* nobody left in it: that is what is wanted */
}

/* ---- others ---------------------------------------------------------------------------------- */

/* The parent of a process by /proc/PID/stat: "pid (name) state parent", and a name may hold
 * anything, so that the last parenthesis ends it. 0 if it has gone. */
static int32_t parent_of(int directory, const char *name) {
    char path[32];
    char text[512];
    if (snprintf(path, sizeof path, "%.20s/stat", name) < 0) {
        return 0;
    }
    const int fd = openat(directory, path, O_RDONLY | O_CLOEXEC);
    const ssize_t length = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0) {
        (void)close(fd);
    }
    if (length <= 0) {
        return 0;
    }
    text[length] = '\0';
    const char *rest = strrchr(text, ')');
    if (rest == NULL || strlen(rest) < 5) {
        return 0;
    }
    return (int32_t)strtol(rest + 4, NULL, 10); /* ") S 123" */
}

uint32_t sri_children_kill_others(bool (*is_known)(void *ctx, int32_t pid), void *ctx) {
    const int32_t self = getpid();
    uint32_t count = 0;
    /* Not by /proc/PID/task/TID/children: not every kernel is built with it. */
    DIR *directory = opendir("/proc");
    if (directory == NULL) {
        return 0;
    }
    for (const struct dirent *entry = NULL; (entry = readdir(directory)) != NULL;) {
        const long pid = strtol(entry->d_name, NULL, 10);
        if (pid <= 1 || parent_of(dirfd(directory), entry->d_name) != self) {
            continue;
        }
        /* Ours and not reaped, so the number still means it. */
        const bool is_stranger = is_known == NULL || (!is_known(ctx, (int32_t)pid) &&
                                                      !is_known(ctx, getsid((pid_t)pid)));
        if (is_stranger) {
            (void)kill((pid_t)pid, SIGKILL);
            count++;
        }
    }
    (void)closedir(directory);
    return count;
}
