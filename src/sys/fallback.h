/* SPDX-License-Identifier: MIT */
/*
 * The fallback: a queue that works without io_uring (docs/adr/0006-fallback.md).
 *
 * Each SQE that enter takes becomes a job. The owner runs at once what cannot block, waits on an
 * epoll descriptor for what becomes ready (fallback_watch.c), keeps timers in a heap, and hands the
 * rest to worker threads (fallback_workers.c). Only the owner writes CQEs, and only inside of
 * enter; workers put ended jobs on a list and wake it.
 *
 * All of it lies in two mappings, which outlive a closed queue until the last worker has ended.
 */
#ifndef SAFERING_SYS_FALLBACK_H
#define SAFERING_SYS_FALLBACK_H

#include "core/heap.h"
#include "core/index.h"
#include "sys/backend.h"
#include <pthread.h>

/* What starting a job, or going on with it, can answer instead of a result. */
enum {
    SRI_JOB_MUST_WAIT = INT32_MIN,     /* not ready: watch job->events */
    SRI_JOB_MAY_BLOCK = INT32_MIN + 1, /* a worker's */
    SRI_JOB_GOES_ON = INT32_MIN + 2    /* nothing to do now: it is where it must be, or has ended */
};

enum sri_job_state {
    SRI_JOB_FREE = 0,
    SRI_JOB_TAKEN, /* in the owner's hands */
    SRI_JOB_WATCHED,
    SRI_JOB_TIMED,
    SRI_JOB_QUEUED,  /* waits for a worker */
    SRI_JOB_RUNNING, /* a worker's */
    SRI_JOB_DONE,    /* ended by a worker; the owner has not seen it */
    SRI_JOB_OVERFLOWED
};

/* One operation. Its state changes under the lock where workers are concerned: QUEUED, RUNNING and
 * DONE, into and out of them; the rest is the owner's. */
struct sri_job {
    struct io_uring_sqe sqe; /* a copy; a fixed file has become its descriptor */
    struct sri_job *next;    /* in whatever list its state says */
    struct sri_job *bucket_next;
    struct sri_heap_item timer;
    uint32_t state;   /* enum sri_job_state */
    uint32_t events;  /* EPOLL* it waits for */
    uint32_t revents; /* what came of these */
    int32_t result;
    uint32_t mode;                /* type of its file (stat), 0: not known yet */
    uint32_t flags;               /* of the CQE */
    uint32_t done_bytes;          /* of a transfer that wants all (MSG_WAITALL) */
    int32_t pidfd;                /* of a WAITID, or -1 */
    bool is_ready;                /* its descriptor was reported ready */
    bool notifies;                /* a zero-copy send: the notification is still to come */
    _Atomic uint32_t cancel_word; /* the futex by which the worker of a FUTEX_WAIT is told to end */
};

struct sri_job_list {
    struct sri_job *first;
    struct sri_job **last;
};

/* The jobs that wait for one descriptor; found by its number. */
struct sri_watch {
    int fd;         /* -1: free */
    uint32_t armed; /* EPOLL* that epoll was asked for */
    struct sri_job_list jobs;
};

/* A thread of the pool. The record lies at the low end of the mapping that holds its stack. */
struct sri_worker {
    struct sri_fallback *fallback;
    struct sri_worker *next;
    pthread_t thread;
    pid_t process;
    size_t whole_bytes;     /* of the mapping */
    _Atomic bool has_ended; /* but for returning: a join takes no time */
};

struct sri_buffer_group {
    struct sri_buffer_group *next;
    struct io_uring_buf_ring *ring;
    uint16_t group;
    uint16_t mask;
    uint16_t head; /* the next one to be used */
};

/* The indices that io_uring would share with the kernel. */
struct sri_fallback_shared {
    _Atomic uint32_t sq_head;
    _Atomic uint32_t sq_tail;
    _Atomic uint32_t sq_flags;
    _Atomic uint32_t cq_head;
    _Atomic uint32_t cq_tail;
};

struct sri_fallback {
    size_t mapping_bytes;
    /* The queue and the jobs have a mapping of their own, which a forked child does not get. */
    struct sri_fallback_shared *shared;
    size_t shared_bytes;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
    uint32_t sq_entries;
    uint32_t cq_entries;
    uint32_t posted_count; /* CQEs, in this enter */
    uint8_t ops_allowed[256];
    /* Jobs. */
    struct sri_job *jobs;
    struct sri_job *jobs_free;
    uint32_t jobs_max;
    uint32_t jobs_used;  /* high-water mark: the rest was never touched */
    uint32_t jobs_alive; /* neither free nor overflowed */
    uint32_t alive_max;
    struct sri_job **buckets; /* jobs by their user_data, for cancels */
    uint32_t bucket_mask;
    uint32_t watched_count;
    struct sri_job_list overflow; /* ended, but there was no room for the CQE */
    struct sri_heap timers;
    struct sri_watch *watches;
    uint32_t watches_used;
    uint32_t watches_free_count;
    uint32_t *watches_free;
    struct sri_index watch_index; /* descriptor -> watch */
    struct sri_buffer_group *groups;
    /* Descriptors. */
    int epoll_fd;
    int wake_fd;     /* workers to the owner: something is done */
    int lifeline_fd; /* the writing end */
    int32_t *files;  /* fixed ones, the ring's own descriptors; -1: none */
    uint32_t files_count;
    struct iovec *buffers; /* fixed ones */
    uint32_t buffers_count;
    int event_fd;  /* what the program polls, an epoll descriptor of the ring's; -1: none */
    int wakeup_fd; /* the eventfd in it */
    int timer_fd;  /* while there is an event_fd: the next timer, in epoll_fd */
    /* Workers; under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct sri_job_list queued;
    struct sri_job_list done;
    struct sri_worker *workers;
    uint32_t workers_count;
    uint32_t workers_idle;
    uint32_t workers_max;
    uint32_t running_count;
    bool is_closing;
};

static inline void sri_job_list_init(struct sri_job_list *list) {
    list->first = NULL;
    list->last = &list->first;
}

static inline void sri_job_list_append(struct sri_job_list *list, struct sri_job *job) {
    job->next = NULL;
    *list->last = job;
    list->last = &job->next;
}

static inline struct sri_job *sri_job_list_pop(struct sri_job_list *list) {
    struct sri_job *job = list->first;
    if (job != NULL) {
        list->first = job->next;
        if (list->first == NULL) {
            list->last = &list->first;
        }
        job->next = NULL;
    }
    return job;
}

/* @job must be in it. */
static inline void sri_job_list_remove(struct sri_job_list *list, struct sri_job *job) {
    struct sri_job **link = &list->first;
    while (*link != job) {
        link = &(*link)->next;
    }
    *link = job->next;
    if (list->last == &job->next) {
        list->last = link;
    }
    job->next = NULL;
}

/* -- fallback_job.c -----------------------------------------------------------------------------
 */

/* Which operations there are. */
void sri_job_probe(uint8_t op_supported[256]);
/* Makes a job of an SQE and starts it. False if there is no place for one more. */
bool sri_job_take(struct sri_fallback *fallback, const struct io_uring_sqe *sqe);
/* What becomes of a job after @code: it ends with it, or one of SRI_JOB_*. */
void sri_job_settle(struct sri_fallback *fallback, struct sri_job *job, int32_t code);
/* Tries, without blocking, what may have to wait for its descriptor. A result or SRI_JOB_*. */
int32_t sri_job_try(struct sri_fallback *fallback, struct sri_job *job);
/* What is next for a job that a worker has ended; its result, as a rule. */
int32_t sri_job_after_worker(struct sri_fallback *fallback, struct sri_job *job);
/* The job is over. */
void sri_job_finish(struct sri_fallback *fallback, struct sri_job *job, int32_t result);
/* A CQE of a job that goes on. False if there is no room, which must end it. */
bool sri_job_post_more(struct sri_fallback *fallback, struct sri_job *job, int32_t result,
                       uint32_t flags);
/* Writes CQEs for which there was no room. */
void sri_job_flush_overflow(struct sri_fallback *fallback);
/* Ends what is due. */
void sri_job_fire_timers(struct sri_fallback *fallback);
void sri_job_set_timer(struct sri_fallback *fallback, struct sri_job *job, uint64_t end_ns);

/* The jobs with this user_data are among those of the list, linked by bucket_next. */
static inline struct sri_job **sri_job_bucket(const struct sri_fallback *fallback,
                                              uint64_t user_data) {
    const uint64_t mixed = user_data * UINT64_C(0x9e3779b97f4a7c15);
    return &fallback->buckets[(uint32_t)(mixed >> 32) & fallback->bucket_mask];
}

/* 0, or -EFAULT if the bytes of @sqe are not in its fixed buffer. */
int32_t sri_job_check_buffer(const struct sri_fallback *fallback, const struct io_uring_sqe *sqe);
/* What the CQE of an ASYNC_CANCEL or POLL_REMOVE says. */
int32_t sri_job_run_cancel(struct sri_fallback *fallback, const struct sri_job *job);

/* -- fallback_stream.c --------------------------------------------------------------------------
 */

/* Tries a read or write without blocking; of a regular file it never does. */
int32_t sri_stream_try(struct sri_fallback *fallback, struct sri_job *job);

/* -- fallback_socket.c --------------------------------------------------------------------------
 */

/* 0, or why the SQE of a socket operation is none. */
int32_t sri_fallback_socket_check(const struct sri_fallback *fallback,
                                  const struct io_uring_sqe *sqe);
/* Tries an operation on a socket without blocking. */
int32_t sri_socket_try(struct sri_fallback *fallback, struct sri_job *job);
/* What is next for an ACCEPT that a worker has run. */
int32_t sri_socket_accepted(struct sri_fallback *fallback, struct sri_job *job);

/* -- fallback_buffers.c -------------------------------------------------------------------------
 */

/* The seam's queue_add_buffer_ring and queue_remove_buffer_ring. */
int sri_fallback_add_buffer_ring(struct sri_queue *queue, uint16_t group,
                                 struct io_uring_buf_ring *memory, uint32_t entries);
int sri_fallback_remove_buffer_ring(struct sri_queue *queue, uint16_t group);
void sri_buffer_free_groups(struct sri_fallback *fallback);
/* The next buffer of the group that @sqe names; NULL if there is none. */
struct sri_buffer_group *sri_buffer_pick(struct sri_fallback *fallback,
                                         const struct io_uring_sqe *sqe, struct iovec *out_buffer);
/* Takes the one that was picked. Returns the flags for the CQE. */
uint32_t sri_buffer_take(struct sri_buffer_group *group);

/* -- fallback_wait.c ----------------------------------------------------------------------------
 */

int32_t sri_waitid_try(struct sri_fallback *fallback, struct sri_job *job);
/* 0, or why the SQE of a futex operation is none. */
int32_t sri_fallback_futex_check(const struct io_uring_sqe *sqe);
int32_t sri_fallback_futex_wake(const struct io_uring_sqe *sqe);
/* In a worker. */
int32_t sri_fallback_futex_wait(struct sri_job *job);
/* Ends the wait that a worker is in, or is about to begin. */
void sri_fallback_futex_cancel(struct sri_job *job);

/* -- fallback_watch.c ---------------------------------------------------------------------------
 */

/* Has @job wait for its events. 0, -EPERM if its file is always ready, or another negative errno.
 */
int sri_watch_add(struct sri_fallback *fallback, struct sri_job *job);
void sri_watch_remove(struct sri_fallback *fallback, struct sri_job *job);
/* Goes on with the jobs whose descriptors have become ready. */
void sri_watch_collect(struct sri_fallback *fallback);

/* -- fallback_workers.c -------------------------------------------------------------------------
 */

void sri_workers_queue(struct sri_fallback *fallback, struct sri_job *job);
/* Finishes what workers have ended. */
void sri_workers_collect(struct sri_fallback *fallback);
/* No job starts any more; what runs goes on. True if nothing runs: the caller frees the fallback.
 * Else the last worker does. */
bool sri_workers_close(struct sri_fallback *fallback);
/* In a forked child: only the memory. */
void sri_workers_forget(struct sri_fallback *fallback);
/* Joins workers that outlived their queue and have ended by now. */
void sri_workers_reap(void);
/* A thread with a small stack and all signals blocked; NULL if there can be none. */
struct sri_worker *sri_worker_start(struct sri_fallback *fallback, void *(*run)(void *worker));
void sri_worker_join(struct sri_worker *worker);

/* -- fallback_events.c --------------------------------------------------------------------------
 */

/* The seam's event_open and queue_set_event_fd. */
int sri_fallback_event_open(const struct sri_queue *queue, int wakeup_fd);
int sri_fallback_set_event_fd(struct sri_queue *queue, int wakeup_fd, int event_fd);
/* At the end of each enter: tells the event descriptor of CQEs. */
void sri_fallback_tell(struct sri_fallback *fallback);
/* The first timer has changed. */
void sri_fallback_set_alarm(struct sri_fallback *fallback);

/* -- fallback.c ---------------------------------------------------------------------------------
 */

/* Closes what is left and unmaps; the lifeline comes last, because it says that all is over. */
void sri_fallback_free(struct sri_fallback *fallback);

#endif
