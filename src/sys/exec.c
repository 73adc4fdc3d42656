/* SPDX-License-Identifier: MIT */
#include "sys/exec.h"

#include "core/check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

uint64_t sri_exec_raise_fd_limit(void) {
    struct rlimit limit;
    SR_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    const uint64_t before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* not raised: starts will say -EMFILE sooner */
    return before;
}

int sri_exec_set_fd_limit(uint64_t soft) {
    struct rlimit limit;
    SR_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = (rlim_t)soft;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? 0 : -errno;
}

/* ---- descriptors ----------------------------------------------------------------------------- */

static int move_up(int fd, int beyond) {
    const int moved = fcntl(fd, F_DUPFD_CLOEXEC, beyond);
    if (moved < 0) {
        return -errno;
    }
    (void)close(fd);
    return moved;
}

static bool is_placed(const struct sri_exec_fd *fds, uint32_t count, uint32_t number) {
    for (uint32_t i = 0; i < count; i++) {
        if (fds[i].number == number) {
            return true;
        }
    }
    return false;
}

/* dup2(2), where a descriptor that already has the number loses its close-on-exec all the same. */
static int give_number(int fd, int number) {
    const int result = fd == number ? fcntl(fd, F_SETFD, 0) : dup2(fd, number);
    return result >= 0 ? 0 : -errno;
}

static int place_null(const struct sri_exec_fd *fds, uint32_t fd_count) {
    int null_fd = -1;
    int code = 0;
    for (uint32_t number = 0; number <= 2 && code == 0; number++) {
        if (is_placed(fds, fd_count, number)) {
            continue;
        }
        if (null_fd < 0) {
            null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        }
        code = null_fd >= 0 ? give_number(null_fd, (int)number) : -errno;
    }
    if (null_fd > 2) {
        (void)close(null_fd);
    }
    return code;
}

int sri_exec_place_fds(const struct sri_exec_fd *fds, uint32_t fd_count, int *keep,
                       uint32_t keep_count) {
    int moved[256];
    int beyond = 3;
    int code = place_null(fds, fd_count);
    SR_CHECK(fd_count <= sizeof moved / sizeof moved[0]);
    for (uint32_t i = 0; i < fd_count; i++) {
        beyond = beyond > (int)fds[i].number ? beyond : (int)fds[i].number + 1;
    }
    for (uint32_t i = 0; i < keep_count && code == 0; i++) {
        if (keep[i] >= 0) {
            const int fd = move_up(keep[i], beyond);
            keep[i] = fd >= 0 ? fd : keep[i];
            code = fd >= 0 ? 0 : fd;
        }
    }
    for (uint32_t i = 0; i < fd_count && code == 0; i++) {
        moved[i] = move_up(fds[i].fd, beyond);
        code = moved[i] >= 0 ? 0 : moved[i];
    }
    for (uint32_t i = 0; i < fd_count && code == 0; i++) {
        code = give_number(moved[i], (int)fds[i].number);
    }
    return code;
}

int sri_exec_close_exec(int fd) {
    return fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 ? 0 : -errno;
}

int sri_exec_close_others(int *keep, uint32_t keep_count) {
    const int first = 3;
    int code = sri_exec_place_fds(NULL, 0, keep, keep_count);
    for (uint32_t i = 0; i < keep_count && code == 0; i++) {
        /* Upwards, so that a number is free or one that is not needed when its turn comes. */
        keep[i] = move_up(keep[i], first + (int)keep_count);
        code = keep[i] >= 0 ? 0 : keep[i];
    }
    for (uint32_t i = 0; i < keep_count && code == 0; i++) {
        code = dup3(keep[i], first + (int)i, O_CLOEXEC) >= 0 ? 0 : -errno;
        keep[i] = first + (int)i;
    }
    if (code == 0 && syscall(SYS_close_range, first + (int)keep_count, ~0u, 0) != 0) {
        code = -errno;
    }
    return code;
}

/* ---- exec ------------------------------------------------------------------------------------ */

/* exec(2) does not write to strings; its type is older than const. */
int sri_exec_path(const char *path, const char *const *arguments, const char *const *variables) {
    (void)execve(path, (char *const *)(uintptr_t)arguments, (char *const *)(uintptr_t)variables);
    return -errno;
}

int sri_exec_fd(int fd, const char *const *arguments, const char *const *variables) {
    (void)syscall(SYS_execveat, fd, "", arguments, variables, AT_EMPTY_PATH);
    return -errno;
}
