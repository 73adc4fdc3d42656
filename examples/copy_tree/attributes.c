/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "attributes.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PLACE_PATH_SIZE (NAME_MAX + 40)

static int fail(struct failure *out_failure, const char *what) {
    *out_failure = (struct failure){what, -errno};
    return -1;
}

/* ---- extended attributes --------------------------------------------------------------------- */

/* There is no "getxattrat" before Linux 6.13: what is not open is reached through /proc. */
static void place_path(const struct place *place, char out_path[PLACE_PATH_SIZE]) {
    (void)snprintf(out_path, PLACE_PATH_SIZE, "/proc/self/fd/%d/%s", place->directory_fd,
                   place->name);
}

static ssize_t attribute_list(const struct place *place, char *names, size_t size) {
    if (place->fd >= 0) {
        return flistxattr(place->fd, names, size);
    }
    char path[PLACE_PATH_SIZE];
    place_path(place, path);
    return llistxattr(path, names, size);
}

static ssize_t attribute_get(const struct place *place, const char *name, void *value,
                             size_t size) {
    if (place->fd >= 0) {
        return fgetxattr(place->fd, name, value, size);
    }
    char path[PLACE_PATH_SIZE];
    place_path(place, path);
    return lgetxattr(path, name, value, size);
}

static int attribute_set(const struct place *place, const char *name, const void *value,
                         size_t size) {
    if (place->fd >= 0) {
        return fsetxattr(place->fd, name, value, size, 0);
    }
    char path[PLACE_PATH_SIZE];
    place_path(place, path);
    return lsetxattr(path, name, value, size, 0);
}

static int attribute_remove(const struct place *place, const char *name) {
    if (place->fd >= 0) {
        return fremovexattr(place->fd, name);
    }
    char path[PLACE_PATH_SIZE];
    place_path(place, path);
    return lremovexattr(path, name);
}

/* What a side does not have, or what only the system may set, is not for us to copy. */
static bool set_error_is_tolerated(int error, const char *name) {
    bool of_the_system = strncmp(name, "security.", 9) == 0 || strncmp(name, "trusted.", 8) == 0;
    return error == ENOTSUP || (error == EPERM && of_the_system);
}

static int copy_one_extended(const struct place *from, const struct place *to, const char *name,
                             struct failure *out_failure) {
    static char value[XATTR_SIZE_MAX];
    ssize_t size = attribute_get(from, name, value, sizeof(value));
    if (size < 0) {
        bool gone = errno == ENODATA || errno == ENOTSUP;
        return gone ? 0 : fail(out_failure, "cannot read an extended attribute");
    }
    if (attribute_set(to, name, value, (size_t)size) == 0 || set_error_is_tolerated(errno, name)) {
        return 0;
    }
    return fail(out_failure, "cannot set an extended attribute");
}

static bool list_has(const char *names, ssize_t size, const char *wanted) {
    for (const char *name = names; name < names + size; name += strlen(name) + 1) {
        if (strcmp(name, wanted) == 0) {
            return true;
        }
    }
    return false;
}

/* A directory with a default ACL hands it down to what is made in it, wanted or not. */
static int drop_inherited(const struct place *to, const char *names, ssize_t size,
                          struct failure *out_failure) {
    static const char *const inherited[] = {"system.posix_acl_access", "system.posix_acl_default"};
    for (size_t i = 0; i < sizeof(inherited) / sizeof(inherited[0]); i++) {
        if (!list_has(names, size, inherited[i]) && attribute_get(to, inherited[i], NULL, 0) >= 0 &&
            attribute_remove(to, inherited[i]) != 0) {
            return fail(out_failure, "cannot remove an inherited access control list");
        }
    }
    return 0;
}

static int copy_extended(const struct place *from, const struct place *to,
                         struct failure *out_failure) {
    static char names[XATTR_LIST_MAX];
    ssize_t size = attribute_list(from, names, sizeof(names));
    if (size < 0 && errno != ENOTSUP) {
        return fail(out_failure, "cannot list the extended attributes");
    }
    for (const char *name = names; name < names + size; name += strlen(name) + 1) {
        if (copy_one_extended(from, to, name, out_failure) < 0) {
            return -1;
        }
    }
    return drop_inherited(to, names, size, out_failure);
}

/* ---- owner, mode, times ---------------------------------------------------------------------- */

static int set_owner(const struct place *place, uid_t user, gid_t group) {
    if (place->fd >= 0) {
        return fchown(place->fd, user, group);
    }
    return fchownat(place->directory_fd, place->name, user, group, AT_SYMLINK_NOFOLLOW);
}

/* EPERM: not privileged. EINVAL: an id that this user namespace does not know. */
static bool owner_error_is_tolerated(void) {
    return errno == EPERM || errno == EINVAL;
}

/* On success @out_lost tells which of S_ISUID and S_ISGID would now serve another owner. */
static int copy_owner(const struct place *to, const struct statx *stat, mode_t *out_lost,
                      struct failure *out_failure) {
    *out_lost = 0;
    if (set_owner(to, stat->stx_uid, stat->stx_gid) == 0) {
        return 0;
    }
    if (!owner_error_is_tolerated()) {
        return fail(out_failure, "cannot set the owner");
    }
    *out_lost = S_ISUID;
    if (set_owner(to, (uid_t)-1, stat->stx_gid) == 0) {
        return 0;
    }
    *out_lost |= S_ISGID;
    return owner_error_is_tolerated() ? 0 : fail(out_failure, "cannot set the group");
}

static int set_mode(const struct place *place, mode_t mode) {
    if (place->fd >= 0) {
        return fchmod(place->fd, mode);
    }
    return fchmodat(place->directory_fd, place->name, mode, AT_SYMLINK_NOFOLLOW);
}

static int copy_mode(const struct place *to, const struct statx *stat, mode_t lost,
                     struct failure *out_failure) {
    if (S_ISLNK(stat->stx_mode)) {
        return 0; /* links have no mode of their own */
    }
    /* A directory's S_ISGID is inheritance, no privilege. */
    mode_t drop = S_ISDIR(stat->stx_mode) ? 0 : lost;
    mode_t mode = (stat->stx_mode & 07777u) & ~drop;
    return set_mode(to, mode) == 0 ? 0 : fail(out_failure, "cannot set the mode");
}

static int copy_times(const struct place *to, const struct statx *stat,
                      struct failure *out_failure) {
    const struct timespec times[2] = {
        {.tv_sec = stat->stx_atime.tv_sec, .tv_nsec = stat->stx_atime.tv_nsec},
        {.tv_sec = stat->stx_mtime.tv_sec, .tv_nsec = stat->stx_mtime.tv_nsec},
    };
    int result = to->fd >= 0 ? futimens(to->fd, times)
                             : utimensat(to->directory_fd, to->name, times, AT_SYMLINK_NOFOLLOW);
    return result == 0 ? 0 : fail(out_failure, "cannot set the times");
}

int attributes_copy(const struct place *from, const struct place *to, const struct statx *stat,
                    struct failure *out_failure) {
    /*
     * The order matters: a change of owner clears set-id bits and file capabilities, user.*
     * attributes need a mode that lets their owner write, and all of it changes the times.
     */
    mode_t lost = 0;
    if (copy_owner(to, stat, &lost, out_failure) < 0 || copy_extended(from, to, out_failure) < 0 ||
        copy_mode(to, stat, lost, out_failure) < 0 || copy_times(to, stat, out_failure) < 0) {
        return -1;
    }
    return 0;
}
