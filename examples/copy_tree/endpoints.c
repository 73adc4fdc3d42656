/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "endpoints.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(struct failure *out_failure, const char *what, int code) {
    *out_failure = (struct failure){what, code};
    return -1;
}

/* ---- resolving ------------------------------------------------------------------------------- */

/* @path is absolute and without symbolic links; "/" becomes "." in "/". */
static void split(struct endpoint *endpoint, const char *path) {
    const char *slash = strrchr(path, '/');
    size_t length = slash == path ? 1 : (size_t)(slash - path);
    memcpy(endpoint->parent, path, length);
    endpoint->parent[length] = '\0';
    strcpy(endpoint->name, slash[1] != '\0' ? slash + 1 : ".");
}

static int resolve_existing(struct endpoint *endpoint) {
    char path[PATH_MAX];
    struct stat status;
    if (realpath(endpoint->label, path) == NULL || stat(path, &status) != 0) {
        return -errno;
    }
    split(endpoint, path);
    endpoint->exists = true;
    endpoint->is_directory = S_ISDIR(status.st_mode);
    return 0;
}

/* DST does not exist: the directory that it is to be in must. */
static int resolve_new(struct endpoint *endpoint) {
    char path[PATH_MAX];
    size_t length = strlen(endpoint->label);
    while (length > 1 && endpoint->label[length - 1] == '/') {
        length--;
    }
    if (length == 0 || length >= sizeof(path)) {
        return length == 0 ? -ENOENT : -ENAMETOOLONG;
    }
    memcpy(path, endpoint->label, length);
    path[length] = '\0';
    char *slash = strrchr(path, '/');
    strcpy(endpoint->name, slash != NULL ? slash + 1 : path);
    if (slash != NULL) {
        slash[slash == path ? 1 : 0] = '\0';
    }
    return realpath(slash != NULL ? path : ".", endpoint->parent) != NULL ? 0 : -errno;
}

static int resolve_target(struct endpoint *endpoint) {
    int code = resolve_existing(endpoint);
    return code == -ENOENT ? resolve_new(endpoint) : code;
}

/* ---- nesting --------------------------------------------------------------------------------- */

static void join(const struct endpoint *endpoint, char out_path[2 * PATH_MAX]) {
    strcpy(out_path, endpoint->parent);
    if (strcmp(endpoint->parent, "/") != 0) {
        strcat(out_path, "/");
    }
    if (strcmp(endpoint->name, ".") != 0) {
        strcat(out_path, endpoint->name);
    }
}

/* Is @inner the path @outer, or below it? */
static bool path_is_inside(const char *inner, const char *outer) {
    size_t length = strlen(outer);
    if (strncmp(inner, outer, length) != 0) {
        return false;
    }
    return inner[length] == '\0' || inner[length] == '/' || strcmp(outer, "/") == 0;
}

static bool same_inode(const struct stat *one, const struct stat *other) {
    return one->st_ino == other->st_ino && one->st_dev == other->st_dev;
}

/*
 * Is the directory @path, or one that it is in, the inode @outer? Unlike the comparison of paths
 * this sees through bind mounts. Return: 1, 0, or a negative code.
 */
static int inode_is_above(const char *path, const struct stat *outer) {
    struct stat here;
    struct stat below = {0};
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    while (fd >= 0 && fstat(fd, &here) == 0) {
        if (same_inode(&here, outer) || same_inode(&here, &below)) {
            (void)close(fd); /* nothing was written */
            return same_inode(&here, outer);
        }
        below = here; /* the root is its own parent */
        int above = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        int code = -errno;
        (void)close(fd); /* nothing was written */
        if (above < 0) {
            return code;
        }
        fd = above;
    }
    return -errno;
}

/* Return: 1 if @inner is @outer or inside of it, 0, or a negative code. */
static int is_inside(const struct endpoint *inner, const struct endpoint *outer) {
    char inner_path[2 * PATH_MAX];
    char outer_path[2 * PATH_MAX];
    struct stat status;
    join(inner, inner_path);
    join(outer, outer_path);
    if (!outer->exists) {
        return 0;
    }
    if (path_is_inside(inner_path, outer_path)) {
        return 1;
    }
    if (stat(outer_path, &status) != 0) {
        return -errno;
    }
    return inode_is_above(inner->is_directory ? inner_path : inner->parent, &status);
}

/* Return: 1, 0, or a negative code. */
static int are_the_same(const struct endpoint *one, const struct endpoint *other) {
    char path[2 * PATH_MAX];
    struct stat status[2];
    if (!one->exists || !other->exists) {
        return 0;
    }
    join(one, path);
    int code = stat(path, &status[0]);
    join(other, path);
    if (code != 0 || stat(path, &status[1]) != 0) {
        return -errno;
    }
    return same_inode(&status[0], &status[1]);
}

struct refusal {
    int (*applies)(const struct endpoint *target, const struct endpoint *source);
    const char *what;
};

static int target_is_inside(const struct endpoint *target, const struct endpoint *source) {
    return source->is_directory ? is_inside(target, source) : 0;
}

static int source_is_inside(const struct endpoint *target, const struct endpoint *source) {
    /* A file goes into no directory but DST's parent, where SRC may well be. */
    return source->is_directory ? is_inside(source, target) : 0;
}

static int target_is_a_file(const struct endpoint *target, const struct endpoint *source) {
    return source->is_directory && target->exists && !target->is_directory;
}

static int target_is_a_directory(const struct endpoint *target, const struct endpoint *source) {
    return !source->is_directory && target->is_directory;
}

static const struct refusal refusals[] = {
    {are_the_same, "SRC and DST are the same"},
    {target_is_inside, "DST is inside SRC"},
    {source_is_inside, "SRC is inside DST"},
    {target_is_a_file, "SRC is a directory, but DST is not"},
    {target_is_a_directory, "DST is a directory, but SRC is not"},
};

int endpoints_resolve(struct endpoints *endpoints, const char *source, const char *target,
                      const char **out_label, struct failure *out_failure) {
    *endpoints = (struct endpoints){.source.label = source, .target.label = target};
    *out_label = source;
    int code = resolve_existing(&endpoints->source);
    if (code < 0) {
        return fail(out_failure, "cannot find SRC", code);
    }
    *out_label = target;
    code = resolve_target(&endpoints->target);
    if (code < 0) {
        return fail(out_failure, "cannot find the directory that DST is to be in", code);
    }
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        code = refusals[i].applies(&endpoints->target, &endpoints->source);
        if (code != 0) {
            return code < 0 ? fail(out_failure, "cannot compare SRC and DST", code)
                            : fail(out_failure, refusals[i].what, 0);
        }
    }
    return 0;
}
