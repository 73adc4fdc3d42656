/* SPDX-License-Identifier: MIT */
/*
 * Endpoints: SRC and DST as the user wrote them, resolved to a directory and a name in it each, and
 * refused where copying could not end well: the same file, or one inside of the other.
 */
#ifndef COPY_TREE_ENDPOINTS_H
#define COPY_TREE_ENDPOINTS_H

#include "progress.h"

#include <linux/limits.h>
#include <stdbool.h>

struct endpoint {
    const char *label;     /* as the user wrote it */
    char parent[PATH_MAX]; /* an existing directory, without symbolic links */
    char name[PATH_MAX];   /* in there */
    bool exists;
    bool is_directory;
};

struct endpoints {
    struct endpoint source;
    struct endpoint target;
};

/**
 * endpoints_resolve() - look at both, without changing anything
 * @out_label:    on failure: SRC or DST, whichever it is about
 * @out_failure:  set on failure
 *
 * Symbolic links that SRC or DST themselves are get followed.
 *
 * Return:  0 or -1.
 */
int endpoints_resolve(struct endpoints *endpoints, const char *source, const char *target,
                      const char **out_label, struct failure *out_failure);

#endif
