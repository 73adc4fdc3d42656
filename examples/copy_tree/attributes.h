/* SPDX-License-Identifier: MIT */
/*
 * Attributes: owner, extended attributes, mode and times of a copy. The ring has no operations for
 * them, so these are plain system calls.
 */
#ifndef COPY_TREE_ATTRIBUTES_H
#define COPY_TREE_ATTRIBUTES_H

#include "progress.h"

#include <sys/stat.h>

/** An inode: open as @fd, or, if that is -1, the entry @name of @directory_fd, links not followed.
 */
struct place {
    int fd;
    int directory_fd;
    const char *name;
};

/**
 * attributes_copy() - give @to the attributes of @from
 * @stat:         what statx() says about @from
 * @out_failure:  set on failure
 *
 * The owner is kept as far as the program may; where it is not kept, the set-id bits go as well.
 *
 * Return:  0 or -1.
 */
int attributes_copy(const struct place *from, const struct place *to, const struct statx *stat,
                    struct failure *out_failure);

#endif
