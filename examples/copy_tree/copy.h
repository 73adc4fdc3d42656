/* SPDX-License-Identifier: MIT */
/*
 * Copying of everything that is not a directory: a bounded number of jobs, each a file on its way
 * through the steps listed in copy.c, driven by the completions of its operations.
 */
#ifndef COPY_TREE_COPY_H
#define COPY_TREE_COPY_H

#include "directory.h"
#include "links.h"
#include "transfer.h"

#include <linux/limits.h>

struct job {
    struct copier *copier;
    struct operation operation;
    int step; /* index of the step that it is in */
    bool in_use;
    bool over; /* nothing but cleaning up is left to do */
    struct failure failure;
    struct directory *directory; /* referenced and pinned */
    const char *name;            /* in directory->listing */
    unsigned char type;          /* DT_* */
    struct statx stat;
    sr_file source;
    sr_file target;
    char temporary[NAME_TEMPORARY_SIZE]; /* the copy's name until it is complete */
    bool temporary_exists;
    char link_text[PATH_MAX]; /* of a symbolic link */
    struct link *link;        /* if the inode has several names */
    bool linked;              /* the copy is a link to another copy */
    bool completed;
    struct transfer transfer;
    struct job *next; /* in one list: free, waiting for a first copy, or ready to link */
};

struct copier {
    struct tree *tree;
    struct links links;
    struct transfers transfers;
    struct job *jobs;
    unsigned jobs_max;
    unsigned active;
    struct job *free_jobs;
    struct job *ready_to_link;
};

/** copier_init() - Return: 0 or -ENOMEM. */
int copier_init(struct copier *copier, struct tree *tree, unsigned jobs_max);

/** copier_deinit() - only when no job is active. */
void copier_deinit(struct copier *copier);

/** copier_has_room() - can another job start now? */
bool copier_has_room(const struct copier *copier);

/**
 * copier_start() - begin to copy an entry
 * @directory:  pinned by the caller; the pin becomes the job's
 * @name:       lives as long as the directory is unfinished
 * @type:       DT_*; not DT_DIR, not DT_UNKNOWN
 */
void copier_start(struct copier *copier, struct directory *directory, const char *name,
                  unsigned char type);

/** copier_link_next() - go on with a job that waits to become a hard link. Waits: not inside of
 * `ended` functions. Return: false if there was none. */
bool copier_link_next(struct copier *copier);

/** copier_stop() - ask all jobs to end soon; call once loop_stopped() is true. */
void copier_stop(struct copier *copier);

#endif
