/* SPDX-License-Identifier: MIT */
/* Jobs: from an SQE to its CQE. SQEs are read as io_uring reads them. */
#include "sys/fallback.h"

#include "sys/os.h"
#include "sys/plain.h"
#include <sys/epoll.h>

/* Where an operation goes first. */
enum way {
    UNKNOWN = 0,
    AT_ONCE, /* cannot block */
    WORKER,
    TRY,    /* without blocking; it may have to wait for its descriptor */
    SOCKET, /* the same, with more to check */
    FUTEX,
    POLL,
    TIMEOUT,
    CANCEL
};

static const uint8_t ways[] = {
    [IORING_OP_NOP] = AT_ONCE,
    [IORING_OP_READ] = TRY,
    [IORING_OP_WRITE] = TRY,
    [IORING_OP_READ_FIXED] = TRY,
    [IORING_OP_WRITE_FIXED] = TRY,
    [IORING_OP_READV] = TRY,
    [IORING_OP_WRITEV] = TRY,
    [IORING_OP_FSYNC] = WORKER,
    [IORING_OP_SYNC_FILE_RANGE] = WORKER,
    [IORING_OP_FALLOCATE] = WORKER,
    [SRI_IORING_OP_FTRUNCATE] = WORKER,
    [IORING_OP_OPENAT] = WORKER,
    [IORING_OP_OPENAT2] = WORKER,
    [IORING_OP_CLOSE] = WORKER,
    [IORING_OP_STATX] = WORKER,
    [IORING_OP_UNLINKAT] = WORKER,
    [IORING_OP_RENAMEAT] = WORKER,
    [IORING_OP_MKDIRAT] = WORKER,
    [IORING_OP_LINKAT] = WORKER,
    [IORING_OP_SYMLINKAT] = WORKER,
    [IORING_OP_SPLICE] = WORKER,
    [IORING_OP_TEE] = WORKER,
    [IORING_OP_MADVISE] = WORKER,
    [IORING_OP_FADVISE] = WORKER,
    [IORING_OP_EPOLL_CTL] = AT_ONCE,
    [IORING_OP_POLL_ADD] = POLL,
    [IORING_OP_POLL_REMOVE] = CANCEL,
    [IORING_OP_SOCKET] = AT_ONCE,
    [SRI_IORING_OP_BIND] = AT_ONCE,
    [SRI_IORING_OP_LISTEN] = AT_ONCE,
    [IORING_OP_SHUTDOWN] = AT_ONCE,
    [IORING_OP_ACCEPT] = SOCKET,
    [IORING_OP_CONNECT] = SOCKET,
    [IORING_OP_SEND] = SOCKET,
    [IORING_OP_SENDMSG] = SOCKET,
    [IORING_OP_SEND_ZC] = SOCKET,
    [IORING_OP_SENDMSG_ZC] = SOCKET,
    [IORING_OP_RECV] = SOCKET,
    [IORING_OP_RECVMSG] = SOCKET,
    [SRI_IORING_OP_WAITID] = TRY,
    [SRI_IORING_OP_FUTEX_WAIT] = FUTEX,
    [SRI_IORING_OP_FUTEX_WAKE] = FUTEX,
    [IORING_OP_TIMEOUT] = TIMEOUT,
    [IORING_OP_ASYNC_CANCEL] = CANCEL,
};

#define WAYS (sizeof ways / sizeof ways[0])

/* What io_uring answers a poll of a file that knows no poll. */
#define READY_ALWAYS ((uint32_t)(EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM))

static uint8_t way_of(const struct io_uring_sqe *sqe) {
    return sqe->opcode < WAYS ? ways[sqe->opcode] : (uint8_t)UNKNOWN;
}

void sri_job_probe(uint8_t op_supported[256]) {
    for (size_t i = 0; i < WAYS; i++) {
        op_supported[i] = ways[i] != UNKNOWN;
    }
}

/* ---- CQEs ----------------------------------------------------------------------------------- */

static bool post(struct sri_fallback *fallback, uint64_t user_data, int32_t result,
                 uint32_t flags) {
    const uint32_t tail = atomic_load_explicit(&fallback->shared->cq_tail, memory_order_relaxed);
    if (tail - atomic_load_explicit(&fallback->shared->cq_head, memory_order_acquire) ==
        fallback->cq_entries) {
        return false;
    }
    struct io_uring_cqe *cqe = &fallback->cqes[tail & (fallback->cq_entries - 1)];
    cqe->user_data = user_data;
    cqe->res = result;
    cqe->flags = flags;
    atomic_store_explicit(&fallback->shared->cq_tail, tail + 1, memory_order_release);
    fallback->posted_count++;
    return true;
}

/* Writes the last CQE of a job; of a zero-copy send the two last ones. */
static bool post_last(struct sri_fallback *fallback, struct sri_job *job) {
    if (job->notifies) {
        if (!post(fallback, job->sqe.user_data, job->result, job->flags | IORING_CQE_F_MORE)) {
            return false;
        }
        job->notifies = false;
        job->result = 0;
        job->flags = IORING_CQE_F_NOTIF;
    }
    return post(fallback, job->sqe.user_data, job->result, job->flags);
}

bool sri_job_post_more(struct sri_fallback *fallback, struct sri_job *job, int32_t result,
                       uint32_t flags) {
    return fallback->overflow.first == NULL &&
           post(fallback, job->sqe.user_data, result, flags | IORING_CQE_F_MORE);
}

static struct sri_job *acquire(struct sri_fallback *fallback) {
    struct sri_job *job = fallback->jobs_free;
    if (fallback->jobs_alive == fallback->alive_max) {
        return NULL;
    }
    if (job != NULL) {
        fallback->jobs_free = job->next;
    } else if (fallback->jobs_used < fallback->jobs_max) {
        job = &fallback->jobs[fallback->jobs_used++];
    } else {
        return NULL;
    }
    fallback->jobs_alive++;
    *job = (struct sri_job){
        .state = SRI_JOB_TAKEN,
        .timer = {.position = SRI_HEAP_NOWHERE},
        .pidfd = -1,
    };
    return job;
}

/* Cancels end at once, and often share their user_data: nobody looks for them. */
static bool is_indexed(const struct sri_job *job) {
    return job->sqe.opcode != IORING_OP_ASYNC_CANCEL && job->sqe.opcode != IORING_OP_POLL_REMOVE;
}

static void release(struct sri_fallback *fallback, struct sri_job *job) {
    SR_CHECK(job->timer.position == SRI_HEAP_NOWHERE);
    if (is_indexed(job)) {
        struct sri_job **link = sri_job_bucket(fallback, job->sqe.user_data);
        while (*link != job) {
            SR_CHECK(*link != NULL);
            link = &(*link)->bucket_next;
        }
        *link = job->bucket_next;
    }
    job->state = SRI_JOB_FREE;
    job->next = fallback->jobs_free;
    fallback->jobs_free = job;
}

void sri_job_finish(struct sri_fallback *fallback, struct sri_job *job, int32_t result) {
    if (job->pidfd >= 0) {
        (void)sri_os_close(job->pidfd); /* nothing was written to it */
        job->pidfd = -1;
    }
    job->result = result;
    fallback->jobs_alive--;
    if (fallback->overflow.first == NULL && post_last(fallback, job)) {
        release(fallback, job);
        return;
    }
    job->state = SRI_JOB_OVERFLOWED;
    sri_job_list_append(&fallback->overflow, job);
}

void sri_job_flush_overflow(struct sri_fallback *fallback) {
    while (fallback->overflow.first != NULL && post_last(fallback, fallback->overflow.first)) {
        release(fallback, sri_job_list_pop(&fallback->overflow));
    }
}

/* ---- timers --------------------------------------------------------------------------------- */

void sri_job_set_timer(struct sri_fallback *fallback, struct sri_job *job, uint64_t end_ns) {
    job->state = SRI_JOB_TIMED;
    job->timer.key = end_ns;
    sri_heap_insert(&fallback->timers, &job->timer);
    sri_fallback_set_alarm(fallback);
}

void sri_job_fire_timers(struct sri_fallback *fallback) {
    if (fallback->timers.count == 0) {
        return;
    }
    const uint64_t now_ns = sri_os_now_ns();
    for (;;) {
        struct sri_heap_item *first = sri_heap_first(&fallback->timers);
        if (first == NULL || first->key > now_ns) {
            sri_fallback_set_alarm(fallback);
            return;
        }
        struct sri_job *job = SRI_CONTAINER_OF(first, struct sri_job, timer);
        sri_heap_remove(&fallback->timers, first);
        job->state = SRI_JOB_TAKEN;
        sri_job_settle(fallback, job,
                       job->sqe.opcode == IORING_OP_TIMEOUT ? -ETIME : sri_job_try(fallback, job));
    }
}

static int32_t start_timeout(struct sri_fallback *fallback, struct sri_job *job) {
    const struct io_uring_sqe *sqe = &job->sqe;
    const struct __kernel_timespec *duration =
        (const struct __kernel_timespec *)(uintptr_t)sqe->addr;
    const uint32_t flags_known = IORING_TIMEOUT_ABS | IORING_TIMEOUT_ETIME_SUCCESS;
    /* The completion count of `off`, other clocks and repetition are io_uring's alone. */
    if (sqe->len != 1 || sqe->off != 0 || (sqe->timeout_flags & ~flags_known) != 0 ||
        duration->tv_sec < 0 || duration->tv_nsec < 0 || duration->tv_nsec >= 1000000000) {
        return -EINVAL;
    }
    const uint64_t start_ns = (sqe->timeout_flags & IORING_TIMEOUT_ABS) != 0 ? 0 : sri_os_now_ns();
    uint64_t end_ns = 0;
    if (__builtin_mul_overflow((uint64_t)duration->tv_sec, 1000000000u, &end_ns) ||
        __builtin_add_overflow(end_ns, (uint64_t)duration->tv_nsec, &end_ns) ||
        __builtin_add_overflow(end_ns, start_ns, &end_ns)) {
        end_ns = UINT64_MAX;
    }
    sri_job_set_timer(fallback, job, end_ns);
    return SRI_JOB_GOES_ON;
}

/* ---- polls ---------------------------------------------------------------------------------- */

static int32_t start_poll(struct sri_job *job) {
    uint32_t events = job->sqe.poll32_events;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    events = events << 16 | events >> 16;
#endif
    if ((job->sqe.len & ~(uint32_t)IORING_POLL_ADD_MULTI) != 0) {
        return -EINVAL; /* updates, and level-triggered multishot */
    }
    job->events = events & 0xffffu; /* above them are epoll's own flags */
    return SRI_JOB_MUST_WAIT;
}

static int32_t try_poll(struct sri_fallback *fallback, struct sri_job *job) {
    const int32_t revents = (int32_t)job->revents;
    if ((job->sqe.len & IORING_POLL_ADD_MULTI) != 0 &&
        sri_job_post_more(fallback, job, revents, 0)) {
        return SRI_JOB_MUST_WAIT;
    }
    return revents;
}

/* ---- jobs ----------------------------------------------------------------------------------- */

static bool has_path(uint8_t opcode) {
    return (opcode >= IORING_OP_RENAMEAT && opcode <= IORING_OP_LINKAT) ||
           opcode == IORING_OP_OPENAT || opcode == IORING_OP_OPENAT2 || opcode == IORING_OP_STATX;
}

/* The descriptor of a fixed slot takes the slot's place. The ring clears a slot only when nothing
 * uses it any more, so that it stays the same file. */
static int32_t resolve_file(const struct sri_fallback *fallback, struct sri_job *job) {
    struct io_uring_sqe *sqe = &job->sqe;
    if (has_path(sqe->opcode) || sqe->opcode == IORING_OP_CLOSE) {
        return -EBADF; /* a slot is no directory */
    }
    const uint32_t slot = (uint32_t)sqe->fd;
    if (slot >= fallback->files_count || fallback->files[slot] < 0) {
        return -EBADF;
    }
    sqe->fd = fallback->files[slot];
    return 0;
}

int32_t sri_job_check_buffer(const struct sri_fallback *fallback, const struct io_uring_sqe *sqe) {
    if (sqe->buf_index >= fallback->buffers_count) {
        return -EFAULT;
    }
    const struct iovec *buffer = &fallback->buffers[sqe->buf_index];
    const uint64_t begin = (uintptr_t)buffer->iov_base;
    const uint64_t end = begin + buffer->iov_len;
    return begin != 0 && sqe->addr >= begin && sqe->addr <= end && sqe->len <= end - sqe->addr
               ? 0
               : -EFAULT;
}

static bool selects_buffer(uint8_t opcode) {
    return opcode == IORING_OP_RECV || opcode == IORING_OP_RECVMSG || opcode == IORING_OP_READ;
}

static int32_t check(const struct sri_fallback *fallback, struct sri_job *job) {
    const struct io_uring_sqe *sqe = &job->sqe;
    const unsigned int flags_known = IOSQE_FIXED_FILE | IOSQE_ASYNC | IOSQE_BUFFER_SELECT;
    if (way_of(sqe) == UNKNOWN || (sqe->flags & ~flags_known) != 0) {
        return -EINVAL; /* links and drains among them */
    }
    if (fallback->ops_allowed[sqe->opcode] == 0) {
        return -EACCES;
    }
    if ((sqe->flags & IOSQE_BUFFER_SELECT) != 0 && !selects_buffer(sqe->opcode)) {
        return -EOPNOTSUPP;
    }
    if ((sqe->flags & IOSQE_FIXED_FILE) != 0) {
        const int32_t code = resolve_file(fallback, job);
        if (code < 0) {
            return code;
        }
    }
    const bool has_buffer =
        sqe->opcode == IORING_OP_READ_FIXED || sqe->opcode == IORING_OP_WRITE_FIXED;
    return has_buffer ? sri_job_check_buffer(fallback, sqe) : 0;
}

static int32_t run_at_once(const struct io_uring_sqe *sqe) {
    if (sqe->opcode == IORING_OP_NOP) {
        return (sqe->rw_flags & SRI_IORING_NOP_INJECT_RESULT) != 0 ? (int32_t)sqe->len : 0;
    }
    return sri_sqe_run(sqe);
}

static int32_t start_socket(struct sri_fallback *fallback, struct sri_job *job) {
    const int32_t code = sri_fallback_socket_check(fallback, &job->sqe);
    if (code < 0) {
        return code;
    }
    job->notifies = job->sqe.opcode == IORING_OP_SEND_ZC || job->sqe.opcode == IORING_OP_SENDMSG_ZC;
    return sri_job_try(fallback, job);
}

static int32_t start_futex(const struct io_uring_sqe *sqe) {
    const int32_t code = sri_fallback_futex_check(sqe);
    if (code < 0) {
        return code;
    }
    return sqe->opcode == SRI_IORING_OP_FUTEX_WAKE ? sri_fallback_futex_wake(sqe)
                                                   : SRI_JOB_MAY_BLOCK;
}

static int32_t start(struct sri_fallback *fallback, struct sri_job *job) {
    const int32_t code = check(fallback, job);
    if (code < 0) {
        return code;
    }
    switch (way_of(&job->sqe)) {
    case AT_ONCE:
        return run_at_once(&job->sqe);
    case WORKER:
        return SRI_JOB_MAY_BLOCK;
    case POLL:
        return start_poll(job);
    case TIMEOUT:
        return start_timeout(fallback, job);
    case CANCEL:
        return sri_job_run_cancel(fallback, job);
    case SOCKET:
        return start_socket(fallback, job);
    case FUTEX:
        return start_futex(&job->sqe);
    default: /* TRY */
        return sri_job_try(fallback, job);
    }
}

int32_t sri_job_try(struct sri_fallback *fallback, struct sri_job *job) {
    switch (job->sqe.opcode) {
    case IORING_OP_POLL_ADD:
        return try_poll(fallback, job);
    case SRI_IORING_OP_WAITID:
        return sri_waitid_try(fallback, job);
    default:
        return way_of(&job->sqe) == SOCKET ? sri_socket_try(fallback, job)
                                           : sri_stream_try(fallback, job);
    }
}

int32_t sri_job_after_worker(struct sri_fallback *fallback, struct sri_job *job) {
    return job->sqe.opcode == IORING_OP_ACCEPT ? sri_socket_accepted(fallback, job) : job->result;
}

void sri_job_settle(struct sri_fallback *fallback, struct sri_job *job, int32_t code) {
    if (code == SRI_JOB_MUST_WAIT) {
        code = sri_watch_add(fallback, job);
        if (code == 0) {
            return;
        }
        if (code == -EPERM) {
            code = job->sqe.opcode == IORING_OP_POLL_ADD ? (int32_t)(job->events & READY_ALWAYS)
                                                         : SRI_JOB_MAY_BLOCK;
        }
    }
    if (code == SRI_JOB_MAY_BLOCK) {
        sri_workers_queue(fallback, job);
    } else if (code != SRI_JOB_GOES_ON) {
        sri_job_finish(fallback, job, code);
    }
}

bool sri_job_take(struct sri_fallback *fallback, const struct io_uring_sqe *sqe) {
    struct sri_job *job = acquire(fallback);
    if (job == NULL) {
        return false;
    }
    job->sqe = *sqe;
    if (is_indexed(job)) {
        struct sri_job **bucket = sri_job_bucket(fallback, sqe->user_data);
        job->bucket_next = *bucket;
        *bucket = job;
    }
    sri_job_settle(fallback, job, start(fallback, job));
    return true;
}
