/* SPDX-License-Identifier: MIT */
/*
 * The loop: one ring, one pool of buffers, and the two ways in which this program uses them.
 *
 * Files are state machines: loop_submit() starts an operation and its `ended` function goes on from
 * there. The walk through the directories is plain sequential code: loop_call() does one operation
 * and returns its outcome, and while it waits the state machines of the files go on.
 */
#ifndef COPY_TREE_LOOP_H
#define COPY_TREE_LOOP_H

#include <safering/safering.h>
#include <stdbool.h>
#include <sys/stat.h>

/** Bytes of one buffer: large enough to hide the cost of a request, small enough for the cache. */
#define LOOP_BUFFER_SIZE (256u * 1024u)

struct operation;
typedef void (*operation_fn)(struct operation *operation, const sr_completion *completion);

/** One operation. Embedded in what needs it; used for one request after the other. */
struct operation {
    sr_request request;
    operation_fn ended;
    void *owner;                     /* for `ended` */
    sr_op op;                        /* while in flight, else none */
    struct operation *next_deferred; /* while the ring had no room */
};

struct loop {
    sr_ring *ring;
    sr_pool *pool;
    struct operation *deferred; /* first in, first out */
    struct operation **deferred_end;
};

/** What loop_call() found. */
struct answer {
    int64_t result;
    sr_file file;
    struct statx statx;
};

/**
 * loop_init() - make ring and pool for this many operations, files and buffers
 *
 * On failure nothing is left behind and @out_what tells what could not be made.
 *
 * Return:  0 or a negative code.
 */
int loop_init(struct loop *loop, uint32_t operations, uint32_t files, uint32_t buffers,
              const char **out_what);

/** loop_deinit() - end ring and pool. Return: 0, or the code of what the kernel still holds. */
int loop_deinit(struct loop *loop);

/** operation_prepare() - a fresh request for @operation; the caller fills in the arguments. */
sr_request *operation_prepare(struct operation *operation, enum sr_opcode opcode);

/**
 * loop_submit() - start a prepared operation
 *
 * `ended` is called exactly once, whatever happens: a refusal by the ring is an outcome as well,
 * and then `ended` is called before this function returns.
 */
void loop_submit(struct loop *loop, struct operation *operation);

/** loop_cancel() - ask for the end of an operation; its outcome still comes. */
void loop_cancel(struct loop *loop, struct operation *operation);

/** loop_call() - do one operation and wait for its outcome. Not inside of `ended` functions. */
int64_t loop_call(struct loop *loop, const sr_request *request, struct answer *out_answer);

/** loop_wait() - send, then wait for an outcome, a signal or the next tick (a fifth of a second).
 */
void loop_wait(struct loop *loop);

/** loop_catch_signals() - from now on SIGINT, SIGTERM and SIGHUP only make loop_stopped() true. */
int loop_catch_signals(void);

/** loop_stopped() - the signal that asked for the end, or 0. */
int loop_stopped(void);

#endif
