/* SPDX-License-Identifier: MIT */
#include "sys/cpus.h"

#include "core/check.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The kernel counts more CPUs in some images than cpu_set_t has room for; no mask is longer. */
#define CPUS_MAX 8192

static uint32_t least(uint32_t left, uint32_t right) {
    return left < right ? left : right;
}

static uint32_t cpus_of_affinity(void) {
    cpu_set_t *mask = CPU_ALLOC(CPUS_MAX);
    const size_t size_bytes = CPU_ALLOC_SIZE(CPUS_MAX);
    uint32_t count = SRI_CPUS_UNLIMITED;
    if (mask != NULL && sched_getaffinity(0, size_bytes, mask) == 0) {
        count = (uint32_t)CPU_COUNT_S(size_bytes, mask);
    }
    CPU_FREE(mask);
    return count;
}

uint32_t sri_cpus_of_quota(const char *text) {
    char *end = NULL;
    errno = 0;
    const long long quota = strtoll(text, &end, 10); /* "max", and -1 in version 1: no limit */
    if (end == text || errno != 0 || quota <= 0) {
        return SRI_CPUS_UNLIMITED;
    }
    text = end;
    const long long period = strtoll(text, &end, 10);
    if (end == text || errno != 0 || period <= 0) {
        return SRI_CPUS_UNLIMITED;
    }
    const long long cpus = quota / period;
    return cpus >= CPUS_MAX ? SRI_CPUS_UNLIMITED : cpus > 0 ? (uint32_t)cpus : 1;
}

/* The beginning of a file as a string; empty if it cannot be read. */
static void read_text(const char *path, char *out_text, size_t size_bytes) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, out_text, size_bytes - 1) : 0;
    out_text[got > 0 ? got : 0] = '\0';
    if (fd >= 0) {
        (void)close(fd); /* nothing was written */
    }
}

/* One folder's quota, in the words of version 2. */
static uint32_t cpus_of_folder(const char *folder, bool is_version_2) {
    char path[PATH_MAX + 32];
    char text[64];
    char period[32];
    if (is_version_2) {
        (void)snprintf(path, sizeof path, "%s/cpu.max", folder);
        read_text(path, text, sizeof text);
        return sri_cpus_of_quota(text);
    }
    (void)snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    read_text(path, period, sizeof period);
    (void)snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
    read_text(path, text, sizeof text - sizeof period);
    const size_t length = strcspn(text, "\n");
    (void)snprintf(text + length, sizeof text - length, " %s", period);
    return sri_cpus_of_quota(text);
}

/* A group has what the tightest of its parents has. The path is followed up to @root, as seen from
 * here: in a container the upper part may not be there, which is no limit then. */
static uint32_t cpus_of_path(const char *root, const char *group, bool is_version_2) {
    char folder[PATH_MAX];
    const size_t root_length = strlen(root);
    const int length = snprintf(folder, sizeof folder, "%s%s", root, group);
    uint32_t count = SRI_CPUS_UNLIMITED;
    if (length < 0 || (size_t)length >= sizeof folder) {
        return count;
    }
    for (;;) {
        count = least(count, cpus_of_folder(folder, is_version_2));
        char *last = strrchr(folder, '/');
        if (last == NULL || (size_t)(last - folder) < root_length) {
            return count;
        }
        *last = '\0';
    }
}

/* Whether the comma-separated @controllers, @length long, have "cpu" among them. */
static bool has_cpu(const char *controllers, size_t length) {
    for (const char *end = controllers + length; controllers < end;) {
        const char *comma = memchr(controllers, ',', (size_t)(end - controllers));
        const size_t one = (size_t)((comma != NULL ? comma : end) - controllers);
        if (one == 3 && memcmp(controllers, "cpu", 3) == 0) {
            return true;
        }
        controllers += one + 1;
    }
    return false;
}

/* A line is "0::/path" for version 2, "4:cpu,cpuacct:/path" for a tree of version 1. */
static uint32_t cpus_of_line(const char *line, const char *root) {
    char tree[PATH_MAX];
    char group[PATH_MAX];
    const char *controllers = strchr(line, ':');
    const char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (path == NULL) {
        return SRI_CPUS_UNLIMITED;
    }
    const size_t length = (size_t)(path - controllers) - 1;
    (void)snprintf(group, sizeof group, "%.*s", (int)strcspn(path + 1, "\n"), path + 1);
    if (length == 0) {
        return cpus_of_path(root, group, true);
    }
    if (!has_cpu(controllers + 1, length)) {
        return SRI_CPUS_UNLIMITED;
    }
    (void)snprintf(tree, sizeof tree, "%s/cpu", root); /* a link, where "cpu,cpuacct" is mounted */
    return cpus_of_path(tree, group, false);
}

uint32_t sri_cpus_of_cgroup(const char *self, const char *root) {
    uint32_t count = SRI_CPUS_UNLIMITED;
    while (*self != '\0') {
        count = least(count, cpus_of_line(self, root));
        self += strcspn(self, "\n");
        self += *self == '\n';
    }
    return count;
}

uint32_t sri_cpus_usable(void) {
    char self[4096];
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    read_text("/proc/self/cgroup", self, sizeof self);
    const uint32_t count =
        least(online > 0 && online < CPUS_MAX ? (uint32_t)online : 1,
              least(cpus_of_affinity(), sri_cpus_of_cgroup(self, "/sys/fs/cgroup")));
    return count > 0 ? count : 1;
}
