/* SPDX-License-Identifier: MIT */
#include "sys/confine_namespaces.h"

#include "core/check.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int write_to(const char *path, const char *text) {
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    const size_t length = strlen(text);
    /* These files take all of it or nothing. */
    const int code = write(fd, text, length) == (ssize_t)length ? 0 : -errno;
    (void)close(fd); /* the write has been judged */
    return code;
}

static int map_to_itself(const char *path, unsigned int id) {
    char line[32];
    (void)snprintf(line, sizeof line, "%u %u 1\n", id, id); /* two numbers of ten digits fit */
    return write_to(path, line);
}

static int enter_user_namespace(void) {
    const unsigned int user = geteuid();
    const unsigned int group = getegid();
    if (unshare(CLONE_NEWUSER) != 0) {
        return -errno;
    }
    /* Who could drop a group could get at files that the group is shut out from, so the kernel
     * wants this first (user_namespaces(7)). */
    int code = write_to("/proc/self/setgroups", "deny");
    if (code == 0) {
        code = map_to_itself("/proc/self/uid_map", user);
    }
    return code == 0 ? map_to_itself("/proc/self/gid_map", group) : code;
}

int sri_confine_namespace(enum sri_namespace kind) {
    static const int flags[] = {
        [SRI_NAMESPACE_USER] = CLONE_NEWUSER,
        [SRI_NAMESPACE_NETWORK] = CLONE_NEWNET,
        [SRI_NAMESPACE_IPC] = CLONE_NEWIPC,
        [SRI_NAMESPACE_PID] = CLONE_NEWPID,
    };
    SR_CHECK((unsigned int)kind < sizeof flags / sizeof flags[0]);
    if (kind == SRI_NAMESPACE_USER) {
        return enter_user_namespace();
    }
    return unshare(flags[kind]) == 0 ? 0 : -errno;
}
