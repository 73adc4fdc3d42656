/* SPDX-License-Identifier: MIT */
#include "sys/confine.h"

#include "core/check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STANDARD_FDS 3

/* More descriptors than a launch needs; the list is sorted in a copy of this size. */
#define FDS_MAX 256

/* ---- descriptors ----------------------------------------------------------------------------- */

static int compare_fds(const void *left, const void *right) {
    const int32_t a = *(const int32_t *)left;
    const int32_t b = *(const int32_t *)right;
    return (a > b) - (a < b);
}

static int close_from_to(uint32_t first, uint32_t last) {
    /* By number, as glibc has the wrapper since 2.34 only. */
    return syscall(SYS_close_range, first, last, 0u) == 0 ? 0 : -errno;
}

/* Fills the numbers below STANDARD_FDS that are free. open(2) takes the lowest, so it cannot leave
 * them. */
static int fill_standard_fds(void) {
    int fd = 0;
    do {
        fd = open("/dev/null", O_RDWR);
        if (fd < 0) {
            return -errno;
        }
    } while (fd < STANDARD_FDS);
    return close(fd) == 0 ? 0 : -errno;
}

int sri_confine_descriptors(const int32_t *fds, uint32_t count) {
    int32_t sorted[FDS_MAX];
    SR_CHECK(count <= FDS_MAX);
    if (count > 0) {
        memcpy(sorted, fds, count * sizeof sorted[0]);
        qsort(sorted, count, sizeof sorted[0], compare_fds);
    }
    uint32_t next = 0; /* the lowest number that nothing is decided about */
    for (uint32_t i = 0; i < count; i++) {
        if (sorted[i] < 0) {
            return -EBADF;
        }
        const uint32_t kept = (uint32_t)sorted[i];
        const int code = kept > next ? close_from_to(next, kept - 1) : 0;
        if (code != 0) {
            return code;
        }
        next = kept + 1;
    }
    const int code = close_from_to(next, UINT32_MAX);
    return code == 0 ? fill_standard_fds() : code;
}

/* ---- what is inherited ----------------------------------------------------------------------- */

int sri_confine_signals(void) {
    const struct sigaction by_default = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++) {
        /* SIGKILL and SIGSTOP have no other action, and the C library keeps two for itself. */
        if (sigaction(number, &by_default, NULL) != 0 && errno != EINVAL) {
            return -errno;
        }
    }
    sigset_t none;
    (void)sigemptyset(&none); /* cannot fail */
    return sigprocmask(SIG_SETMASK, &none, NULL) == 0 ? 0 : -errno;
}

int sri_confine_directory(const char *directory) {
    return chdir(directory) == 0 ? 0 : -errno;
}

void sri_confine_umask(uint32_t mask) {
    (void)umask((mode_t)mask); /* returns the one before */
}

/* ---- limits ---------------------------------------------------------------------------------- */

/* @after: how much more the hard limit is, for the one limit whose soft one only warns. */
static int lower(__rlimit_resource_t resource, uint64_t value, uint64_t after) {
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0) {
        return -errno;
    }
    if (limit.rlim_max > value + after) {
        limit.rlim_max = (rlim_t)(value + after);
    }
    /* The soft one may be below already, as set by somebody who meant it. */
    if (limit.rlim_cur > value) {
        limit.rlim_cur = (rlim_t)value;
    }
    return setrlimit(resource, &limit) == 0 ? 0 : -errno;
}

static int lower_unless_zero(__rlimit_resource_t resource, uint64_t value, uint64_t after) {
    return value != 0 ? lower(resource, value, after) : 0;
}

int sri_confine_limits(const struct sri_confine_limits *limits) {
    int code = lower(RLIMIT_CORE, 0, 0);
    if (code == 0) {
        code = lower_unless_zero(RLIMIT_FSIZE, limits->file_bytes, 0);
    }
    if (code == 0) {
        code = lower_unless_zero(RLIMIT_CPU, limits->cpu_s, 1);
    }
    if (code == 0) {
        code = lower_unless_zero(RLIMIT_NOFILE, limits->files_max, 0);
    }
    /* The last, for what is above allocates. */
    return code == 0 ? lower_unless_zero(RLIMIT_AS, limits->memory_bytes, 0) : code;
}

/* The only mapping of this user namespace, or false where there are several or it cannot be read.
 */
static bool read_user_mapping(unsigned long *out_outside, unsigned long *out_count) {
    char line[96] = {0};
    const int fd = open("/proc/self/uid_map", O_RDONLY | O_CLOEXEC);
    const ssize_t got = fd >= 0 ? read(fd, line, sizeof line - 1) : -1;
    if (fd >= 0) {
        (void)close(fd); /* nothing was written to it */
    }
    char *rest = line;
    (void)strtoul(rest, &rest, 10); /* the number inside */
    *out_outside = strtoul(rest, &rest, 10);
    *out_count = strtoul(rest, &rest, 10);
    return got > 0 && strcmp(rest, "\n") == 0;
}

int sri_confine_processes(uint32_t processes_max) {
    unsigned long outside = 0;
    unsigned long count = 0;
    if (!read_user_mapping(&outside, &count) || count != 1) {
        return -EUSERS;
    }
    if (outside == 0) {
        return -EPERM;
    }
    return lower_unless_zero(RLIMIT_NPROC, processes_max, 0);
}

/* ---- privileges ------------------------------------------------------------------------------ */

int sri_confine_capabilities(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];
    memset(none, 0, sizeof none);
    /* Who may not drop them from the bounding set has none to begin with; EINVAL is the end of the
     * list, which grows with the kernel. */
    for (unsigned long capability = 0; capability < 64; capability++) {
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) {
            break;
        }
    }
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) {
        return -errno;
    }
    return syscall(SYS_capset, &header, none) == 0 ? 0 : -errno;
}

int sri_confine_no_new_privileges(void) {
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : -errno;
}

int sri_confine_undumpable(void) {
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 ? 0 : -errno;
}

int sri_confine_is_single_threaded(void) {
    struct stat tasks;
    /* A directory in it for each thread, and "." and ".." (fs/proc/base.c). */
    if (stat("/proc/self/task", &tasks) == 0 && tasks.st_nlink > 2) {
        return tasks.st_nlink == 3;
    }
    /* Without /proc: to leave one's thread group is allowed, and means nothing, to a group of one.
     */
    if (unshare(CLONE_THREAD) == 0) {
        return 1;
    }
    return errno == EINVAL ? 0 : -errno;
}
