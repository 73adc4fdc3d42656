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
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define SRI_POOL_NONE    UINT8_MAX
#define SRI_INDEX32_NONE UINT32_MAX

enum sri_op_state {
    SRI_OP_FREE = 0,
    SRI_OP_FLYING = 1,  /* its SQE is written; the kernel may have it */
    SRI_OP_WAITING = 2, /* for room in the queue, or, to close a file, for the file's operations */
    SRI_OP_STARVED = 3  /* for a buffer in its buffer ring */
};

/* `flags` of an operation. */
enum {
    SRI_OP_FULL = 1u << 0,
    SRI_OP_ASYNC = 1u << 1,
    SRI_OP_MULTISHOT = 1u << 2,
    SRI_OP_CANCEL_ASKED = 1u << 3,
    SRI_OP_CANCEL_UNSENT = 1u << 4, /* asked, but the queue had no room */
    SRI_OP_DEADLINE_HIT = 1u << 5,
    SRI_OP_ABANDONED = 1u << 6, /* its outcome was given, or nobody will read it */
    SRI_OP_SELECTS = 1u << 7    /* receives from a buffer ring */
};

#define SRI_OP_ARMED ((unsigned int)(SRI_OP_MULTISHOT | SRI_OP_SELECTS))

/* What the caller may look at until the next wait; first member of what is. */
struct sri_output {
    struct sri_output *next;
};

/* Strings and structs of path operations. */
struct sri_op_extra {
    struct sri_output output;
    struct statx statx;
    struct open_how how;
    char *new_path;
    char path[];
};

/* Addresses and control data of socket operations, and what they give back. */
struct sri_op_message {
    struct sri_output output;
    sr_message message;
    struct msghdr header;
    struct sockaddr_storage address;
    socklen_t address_bytes; /* ACCEPT: the kernel writes it */
    uint32_t control_bytes;
    _Alignas(struct cmsghdr) char control[];
};

/* What WAITID gives back. */
struct sri_op_child {
    struct sri_output output;
    sr_child child;
    siginfo_t info;
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
    struct sri_op_extra *extra;
    struct sri_op_message *message;
    struct sri_op_child *child;
    struct sri_op_vector *vector;
    struct __kernel_timespec duration;
    struct epoll_event event;
    uint32_t waiting_next;
    int result;           /* SUBSTITUTED: of the system call; SEND_ZC: of the transfer */
    bool substituted;     /* done by a plain system call; a NOP carries it home */
    bool discards;        /* a madvise that may replace pages */
    bool has_result;      /* SEND_ZC: the first of its two completions was seen */
    bool has_notice;      /* and the second */
    bool copies;          /* SEND_ZC, sent as a plain send */
    uint32_t op_flags;    /* as in the request */
    uint32_t new_file;    /* OPENAT, SOCKET, ACCEPT: the place of the file to come */
    uint32_t second_file; /* two paths: the second directory; `other` */
    uint32_t op_index;    /* back to the hot part */
};

/* Of an operation that is armed again when the kernel has ended it. */
struct sri_armed {
    struct sr_buffer_ring *buffer_ring; /* SELECTS */
    uint32_t op_flags;                  /* flags of the system call; POLL: the events */
    uint32_t next;                      /* in the list that it waits in */
};

struct sri_op {
    uint64_t handle;
    uint64_t tag;
    void *ctx;
    union {
        struct sri_loan loan;   /* of one buffer range; with SRI_POOL_NONE none */
        struct sri_armed armed; /* SRI_OP_ARMED */
    };
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
    /* Free places that stay free: what the completion queue could not hold. Armed operations, of
     * which there may be more, are not bounded by it. */
    uint32_t free_floor;
    uint32_t count_max;
    uint32_t oneshot_max;    /* CQEs that operations may have outstanding */
    uint32_t armed_count;    /* operations that do not count among these */
    uint32_t zerocopy_count; /* and those that count twice */
    uint32_t abandoned_count;
    struct sri_handle_table handles;
    uint32_t cold_count; /* operations that have a cold part */
    struct sri_op_cold *cold_unused;
    struct sri_output *outputs; /* that the caller may look at until the next wait */
};

/* @oneshot_max: CQEs that operations may have outstanding, armed ones not counted. */
int sri_ops_init(struct sri_ops *ops, uint32_t count_max, uint32_t oneshot_max);
/* Every operation must be free, or its memory beyond the reach of the kernel. */
void sri_ops_deinit(struct sri_ops *ops);

/* Frees what only some operations have. */
SRI_NOINLINE void sri_op_release_cold(struct sri_ops *ops, struct sri_op *op);

/* The cold part of @op, taken if it has none; NULL when memory is short. */
struct sri_op_cold *sri_op_cold(struct sri_ops *ops, struct sri_op *op);

static inline bool sri_op_is_valid(const struct sri_op *op) {
    return (op->handle != 0) == (op->state != SRI_OP_FREE) &&
           (op->state != SRI_OP_WAITING || op->cold != NULL || (op->flags & SRI_OP_ARMED) != 0) &&
           (op->state != SRI_OP_STARVED || (op->flags & SRI_OP_SELECTS) != 0);
}

/* Whether its completion may bring a descriptor that is to be closed if nobody reads it. */
static inline bool sri_op_brings_descriptor(const struct sri_op *op) {
    return op->opcode == SR_OP_OPENAT || op->opcode == SR_OP_SOCKET || op->opcode == SR_OP_ACCEPT ||
           (op->opcode == SR_OP_RECVMSG && op->cold->message->control_bytes > 0);
}

/* The next operation in the list that @op waits in. */
static inline uint32_t *sri_op_next(struct sri_op *op) {
    return (op->flags & SRI_OP_ARMED) != 0 ? &op->armed.next : &op->cold->waiting_next;
}

static inline void sri_op_move(struct sri_op *op, enum sri_op_state to) {
    static const uint8_t followers[] = {
        [SRI_OP_FREE] = SRI_STATE_BIT(SRI_OP_FLYING),
        [SRI_OP_FLYING] = SRI_STATE_BIT(SRI_OP_WAITING) | SRI_STATE_BIT(SRI_OP_STARVED) |
                          SRI_STATE_BIT(SRI_OP_FREE),
        [SRI_OP_WAITING] = SRI_STATE_BIT(SRI_OP_FLYING) | SRI_STATE_BIT(SRI_OP_FREE),
        [SRI_OP_STARVED] = SRI_STATE_BIT(SRI_OP_FLYING) | SRI_STATE_BIT(SRI_OP_WAITING) |
                           SRI_STATE_BIT(SRI_OP_FREE),
    };
    sri_state_move(&op->state, followers, (uint8_t)to);
    SR_CHECK_SLOW(sri_op_is_valid(op));
}

/* Says what the completion queue can hold, after armed_count or zerocopy_count have changed. */
static inline void sri_ops_bound(struct sri_ops *ops) {
    const uint32_t bounded = ops->oneshot_max + ops->armed_count;
    const uint32_t all = ops->count_max + ops->zerocopy_count;
    ops->free_floor = all > bounded ? all - bounded : 0;
}

/* A FLYING operation with a new handle, or NULL when all but @floor are in use. */
static inline struct sri_op *sri_op_acquire(struct sri_ops *ops, uint32_t floor) {
    if (SRI_UNLIKELY(ops->free_count <= floor)) {
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

/* Operations that wait for the same thing, first in, first out; linked by sri_op_next(). */
struct sri_op_list {
    uint32_t first; /* SRI_INDEX32_NONE: the list is empty */
    uint32_t last;
};

static inline void sri_op_list_append(struct sri_ops *ops, struct sri_op_list *list,
                                      struct sri_op *op) {
    const uint32_t index = (uint32_t)(op - ops->list);
    *sri_op_next(op) = SRI_INDEX32_NONE;
    if (list->first == SRI_INDEX32_NONE) {
        list->first = index;
    } else {
        *sri_op_next(&ops->list[list->last]) = index;
    }
    list->last = index;
}

/* Takes an operation out that is in the list; quick for the first. */
static inline void sri_op_list_remove(struct sri_ops *ops, struct sri_op_list *list,
                                      struct sri_op *op) {
    const uint32_t index = (uint32_t)(op - ops->list);
    uint32_t previous = SRI_INDEX32_NONE;
    uint32_t *link = &list->first;
    while (*link != index) {
        SR_CHECK(*link != SRI_INDEX32_NONE);
        previous = *link;
        link = sri_op_next(&ops->list[previous]);
    }
    *link = *sri_op_next(op);
    if (list->last == index) {
        list->last = previous;
    }
    *sri_op_next(op) = SRI_INDEX32_NONE;
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
