/* SPDX-License-Identifier: MIT */
/* Cancels: what waits ends at once with -ECANCELED; what a worker runs goes on, as a disk read does
 * in io_uring, and the answer is -EALREADY. */
#include "sys/fallback.h"

#include <errno.h>

/* IORING_ASYNC_CANCEL_*; liburing 2.3 has the first four. */
#define FLAGS_KNOWN                                                                                \
    ((uint32_t)(IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ANY))

/* Workers change it too. */
static uint32_t state_of(struct sri_fallback *fallback, const struct sri_job *job) {
    pthread_mutex_lock(&fallback->lock);
    const uint32_t state = job->state;
    pthread_mutex_unlock(&fallback->lock);
    return state;
}

static bool names(const struct io_uring_sqe *sqe, const struct sri_job *job) {
    if (sqe->opcode == IORING_OP_POLL_REMOVE) {
        return job->sqe.opcode == IORING_OP_POLL_ADD && job->sqe.user_data == sqe->addr;
    }
    if ((sqe->cancel_flags & IORING_ASYNC_CANCEL_ANY) != 0) {
        return true;
    }
    if ((sqe->cancel_flags & IORING_ASYNC_CANCEL_FD) != 0) {
        return job->sqe.opcode != IORING_OP_TIMEOUT && job->sqe.fd == sqe->fd;
    }
    return job->sqe.user_data == sqe->addr;
}

static bool is_meant(struct sri_fallback *fallback, const struct sri_job *cancel,
                     const struct sri_job *job) {
    if (job == cancel || !names(&cancel->sqe, job)) {
        return false;
    }
    const uint32_t state = state_of(fallback, job);
    return state != SRI_JOB_FREE && state != SRI_JOB_OVERFLOWED && state != SRI_JOB_TAKEN;
}

/* A queued one is taken from the workers. Whether it could be had. */
static bool take_from_workers(struct sri_fallback *fallback, struct sri_job *job) {
    pthread_mutex_lock(&fallback->lock);
    const bool is_queued = job->state == SRI_JOB_QUEUED;
    if (is_queued) {
        sri_job_list_remove(&fallback->queued, job);
        job->state = SRI_JOB_TAKEN;
    }
    pthread_mutex_unlock(&fallback->lock);
    return is_queued;
}

static int32_t cancel(struct sri_fallback *fallback, struct sri_job *job) {
    switch (state_of(fallback, job)) {
    case SRI_JOB_WATCHED:
        sri_watch_remove(fallback, job);
        break;
    case SRI_JOB_TIMED:
        sri_heap_remove(&fallback->timers, &job->timer);
        job->state = SRI_JOB_TAKEN;
        sri_fallback_set_alarm(fallback);
        break;
    case SRI_JOB_QUEUED:
        if (!take_from_workers(fallback, job)) {
            return -EALREADY;
        }
        break;
    case SRI_JOB_RUNNING:
        if (job->sqe.opcode == SRI_IORING_OP_FUTEX_WAIT) {
            sri_fallback_futex_cancel(job);
            return 0;
        }
        return -EALREADY;
    default: /* DONE: it has ended, only its CQE is not written yet */
        return -ENOENT;
    }
    /* A transfer that had got some way says how far. */
    sri_job_finish(fallback, job, job->done_bytes > 0 ? (int32_t)job->done_bytes : -ECANCELED);
    return 0;
}

/* io_uring answers with a count here (seen on 6.18; tests/unit/test_seam.c). */
static bool is_counted(const struct sri_job *job) {
    return job->sqe.opcode == SRI_IORING_OP_WAITID || job->sqe.opcode == SRI_IORING_OP_FUTEX_WAIT;
}

int32_t sri_job_run_cancel(struct sri_fallback *fallback, const struct sri_job *job) {
    const struct io_uring_sqe *sqe = &job->sqe;
    const bool removes_poll = sqe->opcode == IORING_OP_POLL_REMOVE;
    const uint32_t flags = removes_poll ? 0 : sqe->cancel_flags;
    const bool all = (flags & (IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY)) != 0;
    int32_t code = -ENOENT;
    int32_t count = 0;
    if ((flags & ~FLAGS_KNOWN) != 0 || (removes_poll && sqe->len != 0)) {
        return -EINVAL;
    }
    if (!all && (flags & IORING_ASYNC_CANCEL_FD) == 0) {
        struct sri_job *found = *sri_job_bucket(fallback, sqe->addr);
        while (found != NULL && !is_meant(fallback, job, found)) {
            found = found->bucket_next;
        }
        if (found == NULL) {
            return -ENOENT;
        }
        const bool counted = is_counted(found);
        code = cancel(fallback, found);
        return code == 0 && counted ? 1 : code;
    }
    for (uint32_t i = 0; i < fallback->jobs_used; i++) {
        if (is_meant(fallback, job, &fallback->jobs[i])) {
            const int32_t one = cancel(fallback, &fallback->jobs[i]);
            count += one == 0;
            code = code == -ENOENT ? one : code;
            if (one == 0 && !all) {
                return 0;
            }
        }
    }
    return all ? count : code;
}
