/* SPDX-License-Identifier: MIT */
/*
 * A transfer: the contents of one file on their way to its copy.
 *
 * The file is cut into chunks of one buffer each. Several chunks are in flight at once, each of
 * them first read, then written at the same offset, so that reads and writes overlap. Holes are
 * passed over. All transfers share one pool of buffers; one that finds it empty waits in line.
 */
#ifndef COPY_TREE_TRANSFER_H
#define COPY_TREE_TRANSFER_H

#include "loop.h"
#include "progress.h"

/** Most chunks of one file in flight. */
#define TRANSFER_CHUNKS_MAX 8

struct transfer;
typedef void (*transfer_fn)(struct transfer *transfer, const struct failure *failure, void *ctx);

struct chunk {
    struct operation operation;
    struct transfer *transfer;
    bool active;
    sr_buffer buffer;
    uint64_t offset;
    uint64_t length;
};

/** What all transfers share. */
struct transfers {
    struct loop *loop;
    struct progress *progress;
    struct transfer *waiting; /* for a buffer; first in, first out */
    struct transfer **waiting_end;
};

struct transfer {
    struct transfers *shared;
    sr_file source;
    sr_file target;
    uint64_t size;
    bool sparse;
    uint64_t next;     /* first byte that no chunk has taken */
    uint64_t data_end; /* where the data that `next` is in ends */
    bool exhausted;    /* no more chunks: all is taken, or it failed */
    uint64_t settled;  /* bytes that were written */
    struct failure failure;
    unsigned active; /* chunks in flight */
    unsigned held;   /* > 0: must not end just now, somebody up the stack still looks at it */
    struct chunk chunks[TRANSFER_CHUNKS_MAX];
    bool is_waiting;
    struct transfer *next_waiting;
    transfer_fn ended;
    void *ctx;
};

void transfers_init(struct transfers *shared, struct loop *loop, struct progress *progress);

/**
 * transfer_start() - copy @stat->stx_size bytes from @source to @target
 * @ended:  called exactly once, when no chunk is in flight any more; failure->what is NULL on
 * success
 */
void transfer_start(struct transfer *transfer, struct transfers *shared, sr_file source,
                    sr_file target, const struct statx *stat, transfer_fn ended, void *ctx);

/** transfer_cancel() - make it end soon, with -ECANCELED if nothing else went wrong. */
void transfer_cancel(struct transfer *transfer);

/** transfer_is_sparse() - does the file occupy less than its size? */
bool transfer_is_sparse(const struct statx *stat);

#endif
