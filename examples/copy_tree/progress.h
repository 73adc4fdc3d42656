/* SPDX-License-Identifier: MIT */
/*
 * Progress: what has been done, what failed, and how people hear of it. On a terminal that is a bar
 * with rate and remaining time, redrawn in place; elsewhere a plain line now and then.
 */
#ifndef COPY_TREE_PROGRESS_H
#define COPY_TREE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/** The first thing that went wrong. No failure: `what` is NULL. */
struct failure {
    const char *what; /* "cannot read" */
    int code;         /* negative, or 0 if `what` says it all */
};

struct progress {
    bool quiet;
    bool terminal;
    bool drawn; /* a bar stands in the terminal's last line */
    /* done */
    uint64_t files;
    uint64_t directories;
    uint64_t links;
    uint64_t bytes;   /* read and written */
    uint64_t settled; /* bytes done with: copied, holes, links, failed */
    uint64_t entries; /* entries done with */
    uint64_t failed;
    uint64_t interrupted;
    /* to do, if it has been counted */
    bool counted;
    uint64_t entries_total;
    uint64_t bytes_total;
    /* rate */
    uint64_t start_ns;
    uint64_t shown_ns;
    uint64_t shown_bytes;
    double rate; /* bytes per second of late */
};

void progress_init(struct progress *progress, bool quiet);

/** progress_start() - copying begins: the clock of rate and summary starts. */
void progress_start(struct progress *progress);

/** progress_tick() - show how things stand, if it is time to. */
void progress_tick(struct progress *progress);

/** progress_clear() - take the bar off the terminal, before other text. */
void progress_clear(struct progress *progress);

/** progress_fail() - count and print a failure: one line. @path borrows; NULL if no memory was
 * left.
 */
void progress_fail(struct progress *progress, const char *path, const struct failure *failure);

/** progress_summary() - the last line, on standard output. Return: 0 or a negative code. */
int progress_summary(struct progress *progress);

#endif
