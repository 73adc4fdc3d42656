/* SPDX-License-Identifier: MIT */
/*
 * Batch stage: what a random batch runs on: a ring with a trace hook, a pool for the nodes and one
 * for the caller's own buffers, and the files that nodes read and write. Plain operations run on
 * the same ring; each must come back once and through the door that it was given.
 */
#ifndef SAFERING_TESTS_SUPPORT_BATCH_STAGE_H
#define SAFERING_TESTS_SUPPORT_BATCH_STAGE_H

#include "support/batch_graph.h"

#include <safering/batch.h>
#include <safering/safering.h>

/* Files in a directory of their own under /tmp; one for all stages of a process. */
struct batch_files {
    char dir[64];
    char data[80];
    char missing[80];
};

void batch_files_open(struct batch_files *out_files);
void batch_files_close(const struct batch_files *files);

struct batch_stage_plan {
    uint32_t backend; /* enum sr_backend */
    uint32_t entries;
    uint32_t ops_max;
    uint32_t files_max; /* besides those of the stage; 0: the default */
    uint32_t completions_max;
    uint32_t pool_buffers;   /* for nodes */
    uint32_t caller_buffers; /* one per node */
};

/* Told of each event that has a batch's tag. */
typedef void (*batch_traced_fn)(void *ctx, int event, uint32_t batch, uint32_t node);

struct batch_stage {
    const struct batch_files *files;
    struct batch_stage_plan plan;
    sr_ring *ring;
    sr_pool *pool;
    sr_pool *caller_pool;
    sr_buffer *caller_buffers;
    sr_file data;
    sr_file write_only;
    sr_file scratch;
    sr_file pipe;
    sr_file epoll;
    int pipe_fd; /* where the pipe is written */
    uint32_t files_open;
    uint32_t plain_submitted;
    uint32_t plain_ended;
    batch_traced_fn traced;
    void *traced_ctx;
    char fault[256]; /* the first thing that went wrong; "" */
};

void batch_stage_open(struct batch_stage *out_stage, const struct batch_files *files,
                      const struct batch_stage_plan *plan, batch_traced_fn traced, void *ctx);
/* Ends everything. What is not as it was at the beginning becomes the fault. */
void batch_stage_close(struct batch_stage *stage);

__attribute__((format(printf, 2, 3))) void batch_stage_blame(struct batch_stage *stage,
                                                             const char *format, ...);

/* The tag of a node. */
uint64_t batch_tag(uint32_t batch, uint32_t node);

/* Submits a plain operation with or without a callback; nothing if the ring is full. */
void batch_stage_plain(struct batch_stage *stage, bool with_callback);
/* What a wait has brought into the array: plain operations alone. */
void batch_stage_take(struct batch_stage *stage, const sr_completion *completions, int count);
/* Waits until all plain operations are back. */
void batch_stage_settle(struct batch_stage *stage);
void batch_stage_write_pipe(struct batch_stage *stage, uint32_t bytes);
sr_ring_stats batch_stage_stats(struct batch_stage *stage);
sr_pool_stats batch_stage_pool_stats(sr_pool *pool);

#endif
