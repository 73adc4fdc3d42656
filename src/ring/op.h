/* SPDX-License-Identifier: MIT */
/*
 * Operation: one request on its way, from sr_ring_submit() to its terminal completion.
 *
 * The hot part is one cache line and is all that a plain read or write uses. What only some
 * operations need (callback, deadline, resumption, paths) is in the cold part, taken on demand and
 * kept for reuse. Everything that the kernel may read or write for the operation, except the bytes
 * of buffers, lives here until the terminal completion.
 */
#ifndef SAFERING_RING_OP_H
#define SAFERING_RING_OP_H

#include "buffer/lend.h"
#include "core/heap.h"
#include "core/state.h"
#include "sys/backend.h"
#include <safering/ring.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define SRI_POOL_NONE    UINT8_MAX
#define SRI_INDEX32_NONE UINT32_MAX

enum sri_op_state {
    SRI_OP_FREE = 0,
    SRI_OP_FLYING = 1, /* its SQE is written; the kernel may have it */
    SRI_OP_WAITING = 2 /* for room in the queue, or, to close a file, for the file's operations */
};

/* `flags` of an operation. */
enum {
    SRI_OP_FULL = 1u << 0,
    SRI_OP_ASYNC = 1u << 1,
    SRI_OP_CANCEL_ASKED = 1u << 2,
    SRI_OP_CANCEL_UNSENT = 1u << 3, /* asked, but the queue had no room */
    SRI_OP_DEADLINE_HIT = 1u << 4,
    SRI_OP_ABANDONED = 1u << 5,   /* its outcome was given, or nobody will read it */
    SRI_OP_SUBSTITUTED = 1u << 6, /* done by a plain system call; a NOP carries it home */
    SRI_OP_DISCARDS = 1u << 7     /* a madvise that may replace pages */
};

/* Strings and structs of path operations; freed with the operation, or at the next wait if the
 * caller may look at them. */
struct sri_op_extra {
    struct sri_op_extra *next;
    struct statx statx;
    struct open_how how;
    char *new_path;
    char path[];
};

/* Loans of a vectored operation. */
struct sri_op_vector {
    uint32_t count;
    struct iovec *rest; /* what is still to be transferred; behind the slices */
    struct sri_op_slice {
        struct sri_loan loan;
        struct iovec iov; /* whole */
        uint8_t pool;
    } slices[];
};

struct sri_op_cold {
    struct sri_op_cold *next; /* list of unused ones */
    sr_completion_fn on_complete;
    struct sri_heap_item deadline;
    uint64_t offset; /* of the whole transfer */
    uint64_t length;
    uint64_t done;
    struct sri_op *waiting_next;
    struct sri_op_extra *extra;
    struct sri_op_vector *vector;
    struct __kernel_timespec duration;
    int substitute_result;
    uint32_t second_file; /* OPENAT: the file it opens; two paths: the second directory */
    uint32_t op_index;    /* back to the hot part */
};

struct sri_op {
    uint64_t handle;
    uint64_t tag;
    void *ctx;
    struct sri_loan loan; /* of READ, WRITE, MADVISE; with SRI_POOL_NONE none */
    struct sri_op_cold *cold;
    uint32_t file; /* place in the file table, SRI_INDEX32_NONE for none */
    uint8_t opcode;
    uint8_t state;
    uint8_t flags;
    uint8_t pool; /* place in the ring's list */
};

_Static_assert(sizeof(struct sri_op) == 64, "one cache line");

/* Table of operations; slots are reused last in, first out, handles first in, first out. */
struct sri_ops {
    struct sri_op *list;
    uint32_t *free_stack;
    uint32_t free_count;
    uint32_t count_max;
    uint32_t abandoned_count;
    struct sri_handle_table handles;
    uint32_t cold_count; /* operations that have a cold part */
    struct sri_op_cold *cold_unused;
    struct sri_op_extra *outputs; /* that the caller may look at until the next wait */
};

int sri_ops_init(struct sri_ops *ops, uint32_t count_max);
/* Every operation must be free, or its memory beyond the reach of the kernel. */
void sri_ops_deinit(struct sri_ops *ops);

/* Frees what only some operations have. */
SRI_NOINLINE void sri_op_release_cold(struct sri_ops *ops, struct sri_op *op);

/* The cold part of @op, taken if it has none; NULL when memory is short. */
struct sri_op_cold *sri_op_cold(struct sri_ops *ops, struct sri_op *op);

static inline bool sri_op_is_valid(const struct sri_op *op) {
    return (op->handle != 0) == (op->state != SRI_OP_FREE) &&
           (op->state != SRI_OP_WAITING || op->cold != NULL);
}

static inline void sri_op_move(struct sri_op *op, enum sri_op_state to) {
    static const uint8_t followers[] = {
        [SRI_OP_FREE] = SRI_STATE_BIT(SRI_OP_FLYING),
        [SRI_OP_FLYING] = SRI_STATE_BIT(SRI_OP_WAITING) | SRI_STATE_BIT(SRI_OP_FREE),
        [SRI_OP_WAITING] = SRI_STATE_BIT(SRI_OP_FLYING) | SRI_STATE_BIT(SRI_OP_FREE),
    };
    sri_state_move(&op->state, followers, (uint8_t)to);
    SR_CHECK_SLOW(sri_op_is_valid(op));
}

/* A FLYING operation with a new handle, or NULL when all are in use. */
static inline struct sri_op *sri_op_acquire(struct sri_ops *ops) {
    if (SRI_UNLIKELY(ops->free_count == 0)) {
        return NULL;
    }
    const uint32_t index = ops->free_stack[ops->free_count - 1];
    const uint64_t handle = sri_handle_acquire(&ops->handles, SRI_KIND_OP, index);
    if (SRI_UNLIKELY(handle == 0)) {
        return NULL;
    }
    ops->free_count--;
    struct sri_op *op = &ops->list[index];
    op->handle = handle;
    op->cold = NULL;
    op->file = SRI_INDEX32_NONE;
    op->flags = 0;
    op->pool = SRI_POOL_NONE;
    sri_op_move(op, SRI_OP_FLYING);
    return op;
}

static inline void sri_op_release(struct sri_ops *ops, struct sri_op *op) {
    if (SRI_UNLIKELY(op->cold != NULL)) {
        sri_op_release_cold(ops, op);
    }
    sri_handle_release(&ops->handles, op->handle);
    op->handle = 0;
    sri_op_move(op, SRI_OP_FREE);
    ops->free_stack[ops->free_count++] = (uint32_t)(op - ops->list);
}

void sri_ops_free_outputs(struct sri_ops *ops);

static inline uint32_t sri_ops_in_use(const struct sri_ops *ops) {
    return ops->count_max - ops->free_count;
}

static inline uint32_t sri_op_index(const struct sri_ops *ops, const struct sri_op *op) {
    return (uint32_t)(op - ops->list);
}

/* The operation that @handle names, or NULL. */
static inline struct sri_op *sri_op_find(const struct sri_ops *ops, uint64_t handle) {
    struct sri_op *op = &ops->list[sri_handle_slot(&ops->handles, handle)];
    return SRI_LIKELY(op->handle == handle) && SRI_LIKELY(handle != 0) ? op : NULL;
}

#endif
