/* SPDX-License-Identifier: MIT */
/*
 * The seam: everything the library asks of the kernel goes through one table of functions. `uring`
 * is the real one; tests put wrappers behind the same table (docs/adr/0003-seam.md).
 *
 * A queue is a pair of arrays in memory: the ring writes SQEs and reads CQEs there itself, so a
 * single operation costs no indirect call; only enter, once per batch, does. Kernel structures
 * (SQE, CQE) are the common language of all backends; src/sys/sqe.h is the only place that fills
 * them.
 */
#ifndef SAFERING_SYS_BACKEND_H
#define SAFERING_SYS_BACKEND_H

#include "core/check.h"
#include "sys/uapi.h"
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/select.h>

struct sri_backend;

/* Fixed slots that the library keeps for itself, before those of the ring's files. */
#define SRI_QUEUE_LIBRARY_SLOTS 1u

struct sri_queue_config {
    uint32_t sq_entries; /* a power of two */
    uint32_t cq_entries; /* a power of two */
    uint32_t ops_max;    /* in flight, armed ones included */
    uint32_t fixed_files;
    uint32_t fixed_buffers;
    uint32_t workers_max;
    /* Restrictions: what the queue may carry, one flag per IORING_OP_*; NULL for everything. What
     * is not allowed completes with -EACCES. */
    const uint8_t *ops_allowed;
};

/* Which of the two real backends stands behind a queue, wrappers or not. */
enum sri_backend_kind { SRI_BACKEND_URING = 1, SRI_BACKEND_FALLBACK = 2 };

/* Submission and completion queue. Between two calls of the backend it belongs to the ring's owner.
 */
struct sri_queue {
    const struct sri_backend *backend;
    struct io_uring_sqe *sqes;
    uint32_t sq_mask;
    uint32_t sq_entries;
    uint32_t sq_tail; /* SQEs filled; ahead of the shared tail until the next enter */
    uint32_t sq_head; /* SQEs that the kernel had taken when we last looked */
    uint32_t cq_head; /* CQEs read; ahead of the shared head until the next enter */
    struct io_uring_cqe *cqes;
    uint32_t cq_mask;
    uint32_t cq_entries;
    _Atomic uint32_t *shared_sq_head;
    _Atomic uint32_t *shared_sq_tail;
    _Atomic uint32_t *shared_sq_flags;
    _Atomic uint32_t *shared_cq_head;
    _Atomic uint32_t *shared_cq_tail;
    /* What was got. */
    enum sri_backend_kind kind;
    uint32_t setup_flags;
    uint32_t features;
    uint32_t fixed_files; /* slots for the ring, the library's own not counted */
    uint32_t fixed_buffers;
    int fixed_files_error;
    int fixed_buffers_error;
    int workers_error;
    bool fd_registered;
    /* Operations look their descriptors up when they start, not when they are taken: the numbers
     * must stay what they are until the operations have ended, even if the queue is closed. */
    bool finds_files_late;
    /* A cancel that is answered with -EALREADY may have had no effect, and one more may have. */
    bool loses_cancels;
    uint8_t op_supported[256];
    /* Readable end of a pipe whose other end only the kernel holds: it hangs up when the kernel has
     * let go of the last operation of a closed queue. */
    int lifeline;
    void *state; /* the backend's */
};

/* Who closes a queue: its thread, another one after its thread has ended, or a forked child, which
 * inherited the descriptors but not the memory. */
enum sri_closer { SRI_CLOSER_OWNER, SRI_CLOSER_OTHER, SRI_CLOSER_CHILD };

/* What a descriptor is, as far as that makes a difference. */
enum sri_fd_kind { SRI_FD_OTHER, SRI_FD_SOCKET };

/* How long enter waits, and under which signal mask. */
struct sri_wait {
    uint32_t count_min;  /* CQEs; 0: run what the kernel has deferred, do not wait */
    uint64_t timeout_ns; /* UINT64_MAX: no limit */
    const sigset_t *sigmask;
};

/* What a mapping for buffers shall be. Sizes and alignment fit the page kind that is asked for. */
struct sri_map_options {
    size_t size_bytes;
    size_t alignment_bytes; /* a power of two, 4,096 or more */
    bool shared;            /* memory with a descriptor, which other processes can map */
    int view_of;            /* -1; else such a descriptor: its bytes once more, nothing new */
    bool strict;            /* fails if the placement cannot be had */
    uint32_t place;         /* enum sr_place */
    uint32_t node;
    uint32_t pages; /* enum sr_pages */
};

/* What of that was got. */
struct sri_map_outcome {
    uint64_t verified_bytes; /* seen on a node where they belong */
    uint64_t huge_bytes;
    uint32_t place; /* enum sr_place; ANY unless every byte was verified */
    uint32_t node;
    int place_error;
    uint32_t pages; /* enum sr_pages */
    int pages_error;
};

/* A mapping for buffers with its guard pages. */
struct sri_mapping {
    void *base;
    size_t size_bytes;
    void *whole;
    size_t whole_bytes;
    int fd; /* of shared memory, owned by the mapping; -1: private, or a view */
    struct sri_map_outcome outcome;
};

/* What the program may do with memory. */
enum sri_rights { SRI_RIGHTS_NONE, SRI_RIGHTS_READ, SRI_RIGHTS_ALL };

struct sri_backend {
    const char *name;

    /* -- queues ------------------------------------------------------------------------------- */
    int (*queue_open)(const struct sri_backend *backend, const struct sri_queue_config *config,
                      struct sri_queue *out_queue);
    /* Closes for good; operations in flight go on until the lifeline hangs up. */
    void (*queue_close)(struct sri_queue *queue, enum sri_closer closer);
    /* Publishes SQEs and CQE head, then submits @submit_count and, if @wait is given, waits.
     * Returns SQEs taken or a negative errno, as io_uring_enter(2). */
    int (*queue_enter)(struct sri_queue *queue, uint32_t submit_count, const struct sri_wait *wait);
    /* @slot: of the ring's fixed files; @fd -1 clears it. Returns 0 or a negative errno. */
    int (*queue_set_file)(struct sri_queue *queue, uint32_t slot, int fd);
    /* @memory NULL clears it. */
    int (*queue_set_buffer)(struct sri_queue *queue, uint32_t slot, void *memory,
                            size_t size_bytes);
    /* A ring of provided buffers that operations with IOSQE_BUFFER_SELECT and buf_group @group take
     * from. The caller fills @memory (@entries, a power of two) and stores its tail with release
     * order; it must stay mapped until the ring is removed or the lifeline hangs up. */
    int (*queue_add_buffer_ring)(struct sri_queue *queue, uint16_t group,
                                 struct io_uring_buf_ring *memory, uint32_t entries);
    int (*queue_remove_buffer_ring)(struct sri_queue *queue, uint16_t group);
    /* What a program polls to learn of completions and of writes to the eventfd @wakeup_fd: the
     * same descriptor, or one more, the caller's. A negative errno. */
    int (*event_open)(const struct sri_queue *queue, int wakeup_fd);
    /* From now on completions make @event_fd readable; @wakeup_fd is the eventfd that it was opened
     * for. -1 and -1 end that. */
    int (*queue_set_event_fd)(struct sri_queue *queue, int wakeup_fd, int event_fd);

    /* -- memory ------------------------------------------------------------------------------- */
    int (*map)(const struct sri_map_options *options, struct sri_mapping *out_mapping);
    void (*unmap)(const struct sri_mapping *mapping);
    /* Of whole pages of a mapping. -ENOMEM: the process has too many mappings. */
    int (*protect)(void *memory, size_t size_bytes, enum sri_rights rights);
    void *(*allocate)(size_t size_bytes);
    void (*release)(void *memory);

    /* -- descriptors, and system calls that stand in for operations ------------------------------
     */
    int (*fd_close)(int fd);
    int (*fd_is_open)(int fd); /* 0 or a negative errno */
    enum sri_fd_kind (*fd_kind)(int fd);
    int (*fd_shutdown)(int fd); /* both ways */
    /* Runs one SQE without a queue, in the calling thread, blocking if it must; its file is a plain
     * descriptor. Returns what its CQE would say. */
    int32_t (*sqe_run)(const struct io_uring_sqe *sqe);
    int (*wakeup_open)(bool nonblocking); /* an eventfd, or a negative errno */
    void (*wakeup_write)(int fd);
    void (*wakeup_clear)(int fd); /* a nonblocking one */
    bool (*is_hung_up)(int fd);

    /* -- clock, randomness ----------------------------------------------------------------------
     */
    uint64_t (*now_ns)(void); /* CLOCK_MONOTONIC */
    void (*pause)(uint64_t duration_ns);
    uint64_t (*random)(void);
};

extern const struct sri_backend sri_backend_uring;
extern const struct sri_backend sri_backend_fallback;

/* The backend of objects that are created from now on. SAFERING_BACKEND=uring or =fallback decides,
 * as it was when the process first asked; without it, and with any other value, it is io_uring. */
const struct sri_backend *sri_backend(void);
/* For tests: NULL goes back to the real one. */
void sri_backend_set(const struct sri_backend *backend);
/* The one that a test's wrapper stands in front of. */
const struct sri_backend *sri_backend_real(void);
const struct sri_backend *sri_backend_of(enum sri_backend_kind kind);
/* The backend to try when @refused could not open a queue for @code; NULL if there is none: the
 * reason is another one, or the environment or a test has chosen. */
const struct sri_backend *sri_backend_instead(const struct sri_backend *refused, int code);

static inline uint32_t sri_queue_unsent(const struct sri_queue *queue) {
    return queue->sq_tail - atomic_load_explicit(queue->shared_sq_head, memory_order_acquire);
}

static inline bool sri_queue_is_full(struct sri_queue *queue) {
    if (SRI_LIKELY(queue->sq_tail - queue->sq_head < queue->sq_entries)) {
        return false;
    }
    queue->sq_head = atomic_load_explicit(queue->shared_sq_head, memory_order_acquire);
    return queue->sq_tail - queue->sq_head >= queue->sq_entries;
}

/* 16 bytes of an SQE, for zeroing: gcc makes memset() of 64 bytes a call. */
typedef uint64_t sri_sqe_quarter __attribute__((vector_size(16), may_alias));

/* The next SQE, zeroed: nothing of its last use survives. The queue must not be full. */
static inline struct io_uring_sqe *sri_queue_next_sqe(struct sri_queue *queue) {
    struct io_uring_sqe *sqe = &queue->sqes[queue->sq_tail++ & queue->sq_mask];
    sri_sqe_quarter *quarters = (sri_sqe_quarter *)(void *)sqe;
    _Static_assert(sizeof *sqe == 4 * sizeof *quarters, "an SQE is 64 bytes");
    quarters[0] = quarters[1] = quarters[2] = quarters[3] = (sri_sqe_quarter){0};
    return sqe;
}

/* CQEs that can be read now. */
static inline uint32_t sri_queue_ready(const struct sri_queue *queue) {
    return atomic_load_explicit(queue->shared_cq_tail, memory_order_acquire) - queue->cq_head;
}

struct sri_cqe {
    uint64_t user_data;
    int32_t result;
    uint32_t flags;
};

/* ERESTARTSYS and its kin are the kernel's own. What a cancel interrupts in a kernel worker may end
 * with one all the same: opening a FIFO, splice and tee (seen on 6.18). */
static inline int32_t sri_result_from_uapi(int32_t result) {
    const bool is_restart = result >= -516 && result <= -512 && result != -515;
    return SRI_UNLIKELY(is_restart) ? -EINTR : result;
}

/* A copy: what the kernel or a peer wrote is read once. */
static inline struct sri_cqe sri_queue_take_cqe(struct sri_queue *queue) {
    const struct io_uring_cqe *cqe = &queue->cqes[queue->cq_head++ & queue->cq_mask];
    return (struct sri_cqe){cqe->user_data, sri_result_from_uapi(cqe->res), cqe->flags};
}

/* Lets the kernel reuse the CQEs that were read. */
static inline void sri_queue_release_cqes(struct sri_queue *queue) {
    atomic_store_explicit(queue->shared_cq_head, queue->cq_head, memory_order_release);
}

#endif
