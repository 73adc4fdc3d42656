/* SPDX-License-Identifier: MIT */
/*
 * The ring: queue, operations, files and pools of one owner thread.
 *
 * Neighbours: request.c takes requests, reap.c gives completions, cancel.c ends operations early,
 * quarantine.c keeps what the kernel still holds when a ring goes.
 */
#ifndef SAFERING_RING_RING_H
#define SAFERING_RING_RING_H

#include "buffer/pool.h"
#include "core/heap.h"
#include "ring/file.h"
#include "ring/op.h"
#include "sys/backend.h"
#include "sys/owner.h"
#include <safering/ring.h>

#define SRI_RING_MAGIC UINT32_C(0x52494e03)

/* user_data of the library's own requests: INTERNAL in the kind bits, what it is in the low ones.
 */
enum sri_internal { SRI_INTERNAL_CANCEL = 1, SRI_INTERNAL_WAKE = 2 };

static inline uint64_t sri_internal_user_data(enum sri_internal what) {
    return ((uint64_t)SRI_KIND_INTERNAL << SRI_HANDLE_KIND_SHIFT) | (uint64_t)what;
}

/*
 * A cancel that meets an operation just before it blocks in a kernel worker is answered EALREADY
 * and lost: the worker has used up the signal when it blocks. So cancels are asked again, after
 * this time.
 */
#define SRI_CANCEL_AGAIN_NS 10000000u

/* A pool that the ring may use, and where its memory is registered. */
struct sri_ring_pool {
    sr_pool *pool;         /* NULL: place is free */
    uint32_t op_count;     /* loans in flight */
    uint32_t buffer_first; /* fixed buffers with its memory */
    uint32_t buffer_count; /* 0: plain */
    uint32_t slots_per_buffer;
    bool goes_along; /* with the released ring: its next owner owns the pool */
};

struct sri_inbox;
struct sri_ring_client;

/* Room for pools larger than the 1 GiB that one fixed buffer may have. */
#define SRI_FIXED_BUFFERS_EXTRA 64u

/* What the ring's queue is made of, the first time and when another thread adopts the ring. */
struct sri_ring_setup {
    struct sri_queue_config config;
    uint32_t backend;          /* enum sr_backend, as asked for */
    uint8_t uapi_allowed[256]; /* with restrictions: config.ops_allowed points here */
};

enum {
    SRI_WATCH_TRACE = 1u << 0, /* the trace hook */
    SRI_WATCH_LOANS = 1u << 1  /* pools that protect their buffers: they report on faults */
};

/* What each operation touches comes first. Senders to the inbox read what lies before `apart`, so
 * the owner does not write there: see struct sri_inbox. */
struct sr_ring {
    uint32_t magic;
    uint8_t pools_max;
    bool released; /* no thread owns it, and its queue is closed */
    /* Changes when the ring moves; other threads may look at it. */
    _Atomic uint64_t owner_key;
    struct sri_inbox *inbox;
    struct sri_ring_pool *pools;
    sr_completion *completions;
    uint32_t completions_max; /* places in it: as asked for, more while it keeps some */
    char apart[64];
    uint32_t completions_count; /* in the array, in this wait */
    uint32_t callbacks_count;   /* run, in this wait */
    uint32_t cancels_unsent;
    bool in_callback;
    bool wake_armed; /* the read of the wake-up descriptor is in flight */
    bool odd_place_is_message;
    bool clients_due;        /* one has something to do now: sri_ring_want_turn() */
    uint8_t watches_submits; /* SRI_WATCH_*: who wants to know of each submit */
    uint8_t pool_last;
    struct sri_ring_client *clients;
    sr_trace_fn on_trace;
    struct sri_ops ops;
    struct sri_files files;
    struct sri_queue queue;
    uint64_t refused_total; /* operations that had a handle when their request was refused */
    uint8_t *fixed_buffer_used;
    struct sri_op_list waiting; /* operations that wait for room in the queue */
    int32_t plain_opcode_max;   /* up to this opcode requests may go the short way; -1: none may */
    sr_buffer_ring *buffer_rings;
    uint32_t starved_count;          /* operations, not abandoned ones, that wait for a buffer */
    uint32_t helpless_count;         /* of these, without a deadline */
    int event_fd;                    /* what the program polls; -1: none */
    int wakeup_fd;                   /* the eventfd by which the library makes it readable */
    uint8_t op_refused[SR_OP_COUNT]; /* by the restrictions */
    /* The caller's array of its last wait, while what has come since is kept in `completions` for
     * its next one; else NULL. */
    sr_completion *completions_aside;
    uint32_t completions_wanted; /* most of one wait, as asked for */
    struct sri_heap deadlines;
    void *trace_ctx;
    uint64_t wake_count; /* the kernel writes here while wake_armed */
    uint64_t drain_timeout_ns;
    uint64_t cancel_again_ns; /* when to ask again; 0: no need */
    uint64_t bytes_quarantined;
    sr_ring_stats stats; /* the counters in it; the rest is filled when asked */
    struct sri_ring_setup setup;
    /* Of a destroyed ring. */
    struct sr_ring *quarantine_next;
    uint32_t quarantine_ops;
    uint64_t quarantine_bytes;
    uint64_t quarantine_look; /* the sweep that looked at it last */
    bool lingers;             /* its queue is open: there are descriptors to come */
    bool pools_let_go;
};

static inline bool sri_ring_is_valid(const sr_ring *ring) {
    return ring != NULL && ring->magic == SRI_RING_MAGIC;
}

/* The code that keeps the calling thread from using the ring, or 0. Two loads, no system call. */
static inline int sri_ring_check(const sr_ring *ring) {
    if (SRI_UNLIKELY(!sri_ring_is_valid(ring))) {
        return SR_E_OBJECT;
    }
    const uint64_t owner_key = atomic_load_explicit(&ring->owner_key, memory_order_relaxed);
    if (SRI_UNLIKELY(owner_key != sri_owner_key())) {
        return sri_owner_error(owner_key);
    }
    return 0;
}

static inline void sri_ring_trace(sr_ring *ring, int event, uint64_t op, uint64_t tag,
                                  int64_t value) {
    if (SRI_UNLIKELY(ring->on_trace != NULL)) {
        ring->on_trace(event, (sr_op){op}, tag, value, ring->trace_ctx);
    }
}

/* The earliest time at which a client wants a turn; SR_FOREVER: never. */
SRI_COLD uint64_t sri_ring_clients_deadline(const sr_ring *ring);

/* Whether something is to be done at a certain time. */
static inline bool sri_ring_has_deadlines(const sr_ring *ring) {
    return ring->deadlines.count > 0 || ring->cancel_again_ns != 0 ||
           (SRI_UNLIKELY(ring->clients != NULL) && sri_ring_clients_deadline(ring) != SR_FOREVER);
}

/* When something is to be done next; SR_FOREVER: never. */
static inline uint64_t sri_ring_next_deadline(const sr_ring *ring) {
    const struct sri_heap_item *first = sri_heap_first(&ring->deadlines);
    uint64_t next_ns = first != NULL ? first->key : SR_FOREVER;
    if (ring->cancel_again_ns != 0 && ring->cancel_again_ns < next_ns) {
        next_ns = ring->cancel_again_ns;
    }
    if (SRI_UNLIKELY(ring->clients != NULL)) {
        const uint64_t clients_ns = sri_ring_clients_deadline(ring);
        next_ns = clients_ns < next_ns ? clients_ns : next_ns;
    }
    return next_ns;
}

/* Whether messages are taken. Not while completions are kept: nobody would make room for more. */
static inline bool sri_ring_hears(const sr_ring *ring) {
    return SRI_UNLIKELY(ring->inbox != NULL) && ring->completions_aside == NULL;
}

/* Whether the kernel has completions for us that only entering it brings. */
static inline bool sri_ring_kernel_has_more(const sr_ring *ring) {
    const uint32_t flags = atomic_load_explicit(ring->queue.shared_sq_flags, memory_order_relaxed);
    return (flags & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN)) != 0;
}

/* Completions that this wait has handed out, one way or the other. */
static inline uint32_t sri_ring_delivered(const sr_ring *ring) {
    return ring->completions_count + ring->callbacks_count;
}

/* Operations whose outcome somebody still waits for. Those that want buffers wait for the caller,
 * unless a deadline ends that. */
static inline uint32_t sri_ring_expected(const sr_ring *ring) {
    return sri_ops_in_use(&ring->ops) - ring->ops.abandoned_count - ring->helpless_count;
}

/* The fixed buffer that holds a slot of an attached pool. */
static inline uint32_t sri_ring_fixed_buffer(const struct sri_ring_pool *place, uint32_t slot) {
    return place->buffer_count == 1 ? place->buffer_first
                                    : place->buffer_first + slot / place->slots_per_buffer;
}

/* Opens ring->queue as ring->setup says. On failure the queue has no backend. */
int sri_ring_open_queue(sr_ring *ring);
/* Frees everything; nothing may be in flight, the queue is closed. */
void sri_ring_free(sr_ring *ring);

/* -- attach.c -----------------------------------------------------------------------------------
 */

/* The place of an attached pool, NULL if it is not attached; of NULL, a place that is free. */
struct sri_ring_pool *sri_ring_place_of(sr_ring *ring, const sr_pool *pool);

/* Ends the attachment of all pools, once, as far as the pools know of it. What is lent of them must
 * be in quarantine. */
void sri_ring_let_pools_go(sr_ring *ring);
/* The queue with the registrations is gone: all attached pools are plain. */
void sri_ring_forget_registrations(sr_ring *ring);
/* Registers the memory of all attached pools with a new queue, where the kernel agrees. */
void sri_ring_register_pools(sr_ring *ring);

/* -- send.c -------------------------------------------------------------------------------------
 */

/* Enters the kernel once, counting what it did. Returns SQEs taken or a negative errno. */
int sri_ring_enter(sr_ring *ring, const struct sri_wait *wait);
/* Sends what is queued, because the queue is full. False if the kernel takes no more now. */
SRI_COLD bool sri_ring_send_full(sr_ring *ring);

/* Makes room for one SQE. False if the kernel takes no more now. */
static inline bool sri_ring_make_room(sr_ring *ring) {
    return SRI_LIKELY(!sri_queue_is_full(&ring->queue)) || sri_ring_send_full(ring);
}

/* Writes the SQE of an operation (first time or the rest of a transfer). There must be room. */
void sri_op_send(sr_ring *ring, struct sri_op *op);
/* Puts an operation in the list of those that wait for room. */
void sri_op_wait_for_room(sr_ring *ring, struct sri_op *op);
/* Sends now if there is room, else when there is. */
void sri_op_send_or_wait(sr_ring *ring, struct sri_op *op);
/* Sends the operations and cancels that waited for room. */
void sri_ring_send_waiting(sr_ring *ring);

/* -- reap.c -------------------------------------------------------------------------------------
 */

/* Takes what has completed; stops when the array is full. */
void sri_ring_reap(sr_ring *ring);
/* The same without messages of the inbox. */
void sri_ring_reap_queue(sr_ring *ring);
/* What a completion brought, out of the kernel's hands. */
struct sri_arrival {
    int64_t result;
    sr_buffer buffer;
    sr_file file;
};

/* Delivers what has arrived, with the end of the operation unless there is @more. */
void sri_op_arrived(sr_ring *ring, struct sri_op *op, const struct sri_arrival *arrival, bool more);
/* Ends an operation: loans, file, handle; delivers its completion unless it is abandoned. */
void sri_op_finish(sr_ring *ring, struct sri_op *op, int64_t result);
/* Ends the loans of an operation of which the kernel transferred @bytes_done. */
void sri_op_end_loans(sr_ring *ring, struct sri_op *op, uint64_t bytes_done);
uint64_t sri_op_lent_bytes(const struct sri_op *op);
/* Counts a page-replacing madvise, if @op is one, out of its pool. */
void sri_op_end_discard(sr_ring *ring, const struct sri_op *op);
/* Takes the buffers of an operation from their holder, until it ends. */
void sri_op_quarantine_loans(sr_ring *ring, struct sri_op *op);
/* What was transferred before the outcome that is at hand. */
void sri_op_describe(const sr_ring *ring, const struct sri_op *op, int64_t result,
                     sr_completion *out_completion);

/* -- cancel.c -----------------------------------------------------------------------------------
 */

/* Asks for the end of an operation, once. */
void sri_op_ask_cancel(sr_ring *ring, struct sri_op *op, bool deadline);
/* Writes the cancel's SQE, or leaves it for later when there is no room. */
void sri_op_send_cancel(sr_ring *ring, struct sri_op *op);
/* Asks again for the end of what was asked to end and has not. */
SRI_COLD void sri_ring_cancel_again(sr_ring *ring);
/* Asks for the end of operations whose deadline has passed. */
void sri_ring_fire_deadlines(sr_ring *ring, uint64_t now_ns);

/* -- client.c -----------------------------------------------------------------------------------
 */

/* Gives each client its turn, until none has anything to do at once. */
void sri_ring_turn_clients(sr_ring *ring);
/* Tells each client that a wait has ended. */
void sri_ring_tell_clients(sr_ring *ring);
/* Before and after a sleep. False: do not sleep. */
bool sri_ring_arm_clients(sr_ring *ring);
void sri_ring_awake_clients(sr_ring *ring);
/* The ring goes before its clients. */
void sri_ring_leave_clients(sr_ring *ring);

/* -- event.c ------------------------------------------------------------------------------------
 */

/* Before the caller sleeps on the event descriptor: whatever is there already, or comes from now
 * on, makes it readable. */
void sri_ring_prepare_event(sr_ring *ring);
/* Nothing polls it any more. */
void sri_ring_close_event(sr_ring *ring);

/* -- close.c ------------------------------------------------------------------------------------
 */

/* Tells the peer of a socket that closing the descriptor alone would not tell. */
void sri_file_shut_down(sr_ring *ring, const struct sri_file *file);
/* Starts the close of a file: at once, or when its last operation has ended. */
void sri_file_begin_close(sr_ring *ring, struct sri_file *file, struct sri_op *op, bool cancel);
/* Closes a file that nobody will use any more, without an operation: at once, or when its
 * operations, which are asked to end, have ended. */
void sri_file_drop(sr_ring *ring, struct sri_file *file);
/* Closes what destroying the ring had to leave open (struct sri_queue, finds_files_late). */
void sri_ring_close_late(sr_ring *ring);
/* The last operation on a closing file has ended: the close may go, or the file. */
SRI_NOINLINE void sri_file_last_op_ended(sr_ring *ring, struct sri_file *file);

/* An operation that used @file has ended. */
static inline void sri_file_op_ended(sr_ring *ring, struct sri_file *file) {
    SR_CHECK(file->op_count > 0);
    file->op_count--;
    if (SRI_UNLIKELY(file->op_count == 0 && file->state == SRI_FILE_CLOSING)) {
        sri_file_last_op_ended(ring, file);
    }
}

/* The close operation has ended with @result; -ECANCELED if it never ran. */
void sri_file_end_close(sr_ring *ring, struct sri_file *file, int64_t result);
/* Closes a descriptor that nobody will read of. */
void sri_ring_drop_fd(sr_ring *ring, int fd);

/* -- quarantine.c -------------------------------------------------------------------------------
 */

/* Takes a destroyed ring: closed but not let go of, or lingering. Its pools stay alive through the
 * buffers lent. */
void sri_quarantine_add(sr_ring *ring);

/* -- destroy.c ----------------------------------------------------------------------------------
 */

/* Asks for the end of the read that wakes the owner for messages, if it is in flight. */
void sri_ring_cancel_wake(sr_ring *ring);

/* Takes what has ended of a lingering ring, on its owner thread or after its end. When it has no
 * descriptors to wait for it is closed; true: and freed, because the kernel holds nothing.
 * *out_descriptors_closed: that came and that nobody wanted. */
bool sri_ring_linger(sr_ring *ring, uint64_t *out_descriptors_closed);

/* -- move.c -------------------------------------------------------------------------------------
 */

/* Makes the calling thread the owner of a released ring, and of what goes along with it; false if
 * another one was faster. */
bool sri_ring_claim(sr_ring *ring);

#endif
