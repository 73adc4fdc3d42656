/* SPDX-License-Identifier: MIT */
/*
 * Hard links: which inodes with several names have been met, and what their first copy is called.
 *
 * The first file that meets an inode copies it; the others wait, then link to that copy. If the
 * first one fails, the next one takes over. An inode is forgotten when all its names have been met,
 * so memory follows the links that are open, not the tree.
 */
#ifndef COPY_TREE_LINKS_H
#define COPY_TREE_LINKS_H

#include "directory.h"

struct job;

struct link {
    struct identity identity;
    struct job *copying;         /* makes the first copy now */
    struct job *waiting;         /* for that one's end; a list */
    struct directory *directory; /* of the first copy, once it is complete; else NULL */
    char *name;                  /* of the first copy, in the target */
    uint32_t names_left;         /* of the inode, not ended yet */
    uint32_t users;              /* jobs that look at this now */
    struct link *next;
};

struct links {
    struct link **buckets;
    size_t bucket_count; /* a power of two */
    size_t count;
};

/** links_use() - find or add an inode, as a user; end with links_release(). NULL: no memory. */
struct link *links_use(struct links *links, const struct statx *stat);

/** links_publish() - the first copy is complete under this name. Return: 0 or -ENOMEM. */
int links_publish(struct link *link, struct directory *directory, const char *name);

/** links_release() - one user and one name less. */
void links_release(struct links *links, struct tree *tree, struct link *link);

/** links_deinit() - forget all: inodes that have more names outside of the tree. */
void links_deinit(struct links *links, struct tree *tree);

#endif
