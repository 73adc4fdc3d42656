/* SPDX-License-Identifier: MIT */
/*
 * Directories: a node for each one that is being copied, with its descriptors in both trees.
 *
 * Paths are never put together for the kernel: everything happens relative to a directory's
 * descriptors, so that no tree is too deep. Only a few directories are open at a time. One that
 * was closed is opened again when it is needed: from a child through "..", or step by step from the
 * nearest ancestor that is open; either way it must be the same inode as before.
 *
 * The outermost node stands for the two directories in which SRC and DST are entries. Its listing
 * has one entry, and its attributes are left alone.
 *
 * Invariants: an open node has both descriptors (counting: the source only). A pinned node is open
 * and stays so. A node is alive while it is unfinished, has a child, or is remembered by a link.
 */
#ifndef COPY_TREE_DIRECTORY_H
#define COPY_TREE_DIRECTORY_H

#include "loop.h"
#include "names.h"
#include "progress.h"

/** Directories that may be open without being pinned. */
#define DIRECTORY_CACHE 8

struct identity {
    uint32_t device_major;
    uint32_t device_minor;
    uint64_t inode;
};

struct directory {
    struct directory *parent; /* NULL: the outermost */
    char *name;
    unsigned references;
    unsigned unfinished; /* entries that have not ended, and 1 while the walk is here */
    unsigned pins;
    bool open;
    sr_file source;
    sr_file target;
    struct identity source_identity;
    struct identity target_identity;
    struct statx stat; /* of the source */
    struct listing listing;
    struct directory *newer; /* open nodes, by last use */
    struct directory *older;
    struct directory *next; /* in one of the tree's two lists */
};

struct tree {
    struct loop *loop;
    struct progress *progress;
    const char *source_label;    /* SRC as the user wrote it */
    const char *source_parent;   /* path of the directory that SRC is in */
    const char *target_parent;   /* path of the directory that DST is in */
    const char *target_name;     /* DST's name in there */
    struct identity target_root; /* DST, so that it is never copied into itself */
    bool target_root_known;
    bool counting; /* visit the source only */
    bool durable;  /* --fsync */
    unsigned open_count;
    struct directory *newest;
    struct directory *oldest;
    struct directory *finished; /* all entries have ended; attributes are still to be set */
    struct directory *unneeded; /* for directory_bury() */
};

struct identity identity_of(const struct statx *stat);
bool identity_equal(const struct identity *one, const struct identity *other);

/** directory_create() - a node below @parent: returns owned, with one reference. NULL: no memory.
 */
struct directory *directory_create(struct directory *parent, const char *name);

void directory_reference(struct directory *directory);

/** directory_unreference() - the last one frees the node; if it is open, directory_bury() does. */
void directory_unreference(struct tree *tree, struct directory *directory);

/** directory_bury() - close and free the nodes that nobody needs any more. Waits: not inside of
 * `ended` functions. */
void directory_bury(struct tree *tree);

/** directory_enter() - open for the first time, make the copy's directory, read the entries.
 * Return: 0 or -1 with @out_failure set. */
int directory_enter(struct tree *tree, struct directory *directory, struct failure *out_failure);

/** directory_pin() - open if it is not, and keep it so until directory_unpin(). Waits: not inside
 * of `ended` functions. Return: 0 or a negative code. */
int directory_pin(struct tree *tree, struct directory *directory);

void directory_unpin(struct directory *directory);

/** directory_open_parent() - the cheap way back up, while @directory is still open. Failure is
 * fine: directory_pin() knows the long way. */
void directory_open_parent(struct tree *tree, struct directory *directory);

/** directory_entry_ended() - one entry less; after the last one the node is in tree->finished. */
void directory_entry_ended(struct tree *tree, struct directory *directory);

/** directory_target_name() - what the entry @name of @directory is called in the copy. */
const char *directory_target_name(const struct tree *tree, const struct directory *directory,
                                  const char *name);

/** directory_path() - the entry's path in the source, for people; NULL @name for the directory
 * itself. Returns owned: end with free(); NULL: no memory. */
char *directory_path(const struct tree *tree, const struct directory *directory, const char *name);

#endif
