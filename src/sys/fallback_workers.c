/* SPDX-License-Identifier: MIT */
/*
 * Workers: threads for what may block. They take jobs in order, never touch a CQE, and know of a
 * closed queue only that no further job shall start.
 *
 * Their stacks are mapped here, so that a ring that has ended leaves nothing mapped. A worker that
 * cannot be joined, because what it runs has not ended when its queue is closed, goes to a list
 * without a lock (a lock would have to be thought of at each fork) and is joined by whoever comes
 * by later.
 */
#include "sys/fallback.h"

#include "sys/os.h"
#include "sys/plain.h"
#include <signal.h>
#include <sys/mman.h>

#define PAGE_BYTES ((size_t)4096)
/* The thread-local memory of the whole program lies on a thread's stack, and nobody tells
 * beforehand how much that is: the first size that a thread can be made with is used. */
#define STACK_BYTES_MIN ((size_t)128 * 1024)
#define STACK_BYTES_MAX ((size_t)64 * 1024 * 1024)

/* Of closed queues. */
static _Atomic(struct sri_worker *) late_workers;

/* That was enough the last time. */
static _Atomic size_t stack_bytes_enough = STACK_BYTES_MIN;

/* ---- threads -------------------------------------------------------------------------------- */

static int create_thread(struct sri_worker *worker, void *(*run)(void *)) {
    char *stack = (char *)worker + 2 * PAGE_BYTES;
    const size_t stack_bytes = worker->whole_bytes - 2 * PAGE_BYTES;
    pthread_attr_t attributes;
    sigset_t all;
    sigset_t before;
    int code = pthread_attr_init(&attributes);
    if (code != 0) {
        return code;
    }
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* the thread inherits it */
    code = pthread_attr_setstack(&attributes, stack, stack_bytes);
    if (code == 0) {
        code = pthread_create(&worker->thread, &attributes, run, worker);
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    return code;
}

static void unmap_worker(struct sri_worker *worker) {
    const int failed = munmap(worker, worker->whole_bytes);
    SR_CHECK(failed == 0);
}

/* Returns 0 or why there is no thread: EINVAL, the stack is too small. */
static int start_with_stack(struct sri_fallback *fallback, void *(*run)(void *worker),
                            size_t stack_bytes, struct sri_worker **out_worker) {
    const size_t whole_bytes = 2 * PAGE_BYTES + stack_bytes;
    char *whole = mmap(NULL, whole_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (whole == MAP_FAILED) {
        return errno;
    }
    struct sri_worker *worker = (struct sri_worker *)(void *)whole;
    worker->fallback = fallback;
    worker->process = getpid();
    worker->whole_bytes = whole_bytes;
    int code = mprotect(whole + PAGE_BYTES, PAGE_BYTES, PROT_NONE) != 0 ? errno : 0;
    if (code == 0) {
        code = create_thread(worker, run);
    }
    if (code != 0) {
        unmap_worker(worker);
        return code;
    }
    *out_worker = worker;
    return 0;
}

struct sri_worker *sri_worker_start(struct sri_fallback *fallback, void *(*run)(void *worker)) {
    struct sri_worker *worker = NULL;
    size_t stack_bytes = atomic_load(&stack_bytes_enough);
    int code = EINVAL;
    while (code == EINVAL && stack_bytes <= STACK_BYTES_MAX) {
        code = start_with_stack(fallback, run, stack_bytes, &worker);
        if (code == 0) {
            atomic_store(&stack_bytes_enough, stack_bytes);
        }
        stack_bytes *= 2;
    }
    return worker;
}

void sri_worker_join(struct sri_worker *worker) {
    const int code = pthread_join(worker->thread, NULL);
    SR_CHECK(code == 0);
    unmap_worker(worker);
}

static void leave_behind(struct sri_worker *worker) {
    worker->next = atomic_load(&late_workers);
    while (!atomic_compare_exchange_weak(&late_workers, &worker->next, worker)) {
    }
}

void sri_workers_reap(void) {
    if (atomic_load_explicit(&late_workers, memory_order_relaxed) == NULL) {
        return;
    }
    struct sri_worker *worker = atomic_exchange(&late_workers, NULL);
    while (worker != NULL) {
        struct sri_worker *next = worker->next;
        if (worker->process != getpid()) {
            unmap_worker(worker); /* a forked child has the stack, but not the thread */
        } else if (atomic_load(&worker->has_ended)) {
            sri_worker_join(worker);
        } else {
            leave_behind(worker);
        }
        worker = next;
    }
}

/* ---- their work ----------------------------------------------------------------------------- */

/* The last one has something to free, and says so by the lifeline when it has done so. */
static void leave(struct sri_worker *worker, bool is_last) {
    struct sri_fallback *fallback = worker->fallback;
    atomic_store(&worker->has_ended, true);
    if (is_last) {
        sri_fallback_free(fallback);
    }
}

/* Nobody will read the result; a descriptor in it must not stay open. */
static void discard_result(const struct sri_job *job) {
    if (job->result >= 0 && sri_sqe_gives_descriptor(&job->sqe)) {
        (void)SRI_SYSCALL(SYS_close, job->result);
    }
}

static void put_done(struct sri_fallback *fallback, struct sri_job *job) {
    const bool was_empty = fallback->done.first == NULL;
    job->state = SRI_JOB_DONE;
    sri_job_list_append(&fallback->done, job);
    atomic_fetch_or_explicit(&fallback->shared->sq_flags, IORING_SQ_TASKRUN, memory_order_relaxed);
    if (was_empty) {
        sri_os_wakeup_write(fallback->wake_fd);
    }
}

static void run_queued(struct sri_fallback *fallback) {
    struct sri_job *job = sri_job_list_pop(&fallback->queued);
    job->state = SRI_JOB_RUNNING;
    fallback->running_count++;
    pthread_mutex_unlock(&fallback->lock);
    const int32_t result = job->sqe.opcode == SRI_IORING_OP_FUTEX_WAIT
                               ? sri_fallback_futex_wait(job)
                               : sri_sqe_run(&job->sqe);
    pthread_mutex_lock(&fallback->lock);
    fallback->running_count--;
    job->result = result;
    if (fallback->is_closing) {
        discard_result(job);
    } else {
        put_done(fallback, job);
    }
}

static void *work(void *own) {
    struct sri_worker *worker = own;
    struct sri_fallback *fallback = worker->fallback;
    pthread_mutex_lock(&fallback->lock);
    for (;;) {
        while (fallback->queued.first == NULL && !fallback->is_closing) {
            fallback->workers_idle++;
            pthread_cond_wait(&fallback->work, &fallback->lock);
            fallback->workers_idle--;
        }
        if (fallback->queued.first == NULL) {
            break;
        }
        run_queued(fallback);
    }
    fallback->workers_count--;
    const bool is_last = fallback->workers_count == 0 && fallback->workers == NULL;
    pthread_mutex_unlock(&fallback->lock);
    leave(worker, is_last);
    return NULL;
}

/* ---- the owner's side ----------------------------------------------------------------------- */

void sri_workers_queue(struct sri_fallback *fallback, struct sri_job *job) {
    pthread_mutex_lock(&fallback->lock);
    if (fallback->workers_idle == 0 && fallback->workers_count < fallback->workers_max) {
        struct sri_worker *worker = sri_worker_start(fallback, work);
        if (worker != NULL) {
            worker->next = fallback->workers;
            fallback->workers = worker;
            fallback->workers_count++;
        }
    }
    if (fallback->workers_count == 0) {
        /* Not a single thread can be had: better late than never. */
        pthread_mutex_unlock(&fallback->lock);
        sri_job_finish(fallback, job, sri_sqe_run(&job->sqe));
        return;
    }
    job->state = SRI_JOB_QUEUED;
    sri_job_list_append(&fallback->queued, job);
    pthread_cond_signal(&fallback->work);
    pthread_mutex_unlock(&fallback->lock);
}

void sri_workers_collect(struct sri_fallback *fallback) {
    struct sri_job_list done;
    sri_job_list_init(&done);
    pthread_mutex_lock(&fallback->lock);
    if (fallback->done.first != NULL) {
        uint64_t count = 0;
        done = fallback->done;
        sri_job_list_init(&fallback->done);
        /* Cannot fail: it was written when the first of these was put there. */
        (void)SRI_SYSCALL(SYS_read, fallback->wake_fd, &count, sizeof count);
    }
    pthread_mutex_unlock(&fallback->lock);
    while (done.first != NULL) {
        struct sri_job *job = sri_job_list_pop(&done);
        job->state = SRI_JOB_TAKEN;
        sri_job_settle(fallback, job, sri_job_after_worker(fallback, job));
    }
}

/* What has not started never will, but for closes: the ring has given up those descriptors. */
static void drop_queued(struct sri_fallback *fallback) {
    struct sri_job_list closes;
    struct sri_job *job = NULL;
    sri_job_list_init(&closes);
    while ((job = sri_job_list_pop(&fallback->queued)) != NULL) {
        if (job->sqe.opcode == IORING_OP_CLOSE) {
            sri_job_list_append(&closes, job);
        }
    }
    while ((job = sri_job_list_pop(&closes)) != NULL) {
        sri_job_list_append(&fallback->queued, job);
    }
}

bool sri_workers_close(struct sri_fallback *fallback) {
    struct sri_job *job = NULL;
    pthread_mutex_lock(&fallback->lock);
    fallback->is_closing = true;
    drop_queued(fallback);
    while ((job = sri_job_list_pop(&fallback->done)) != NULL) {
        discard_result(job);
    }
    for (job = fallback->overflow.first; job != NULL; job = job->next) {
        discard_result(job);
    }
    for (uint32_t i = 0; i < fallback->jobs_used; i++) {
        job = &fallback->jobs[i];
        if (job->state == SRI_JOB_RUNNING && job->sqe.opcode == SRI_IORING_OP_FUTEX_WAIT) {
            sri_fallback_futex_cancel(job);
        }
    }
    struct sri_worker *workers = fallback->workers;
    const bool is_idle = fallback->running_count == 0 && fallback->queued.first == NULL;
    if (!is_idle) {
        fallback->workers = NULL; /* which has the last of them free everything */
    }
    pthread_cond_broadcast(&fallback->work);
    pthread_mutex_unlock(&fallback->lock);
    while (workers != NULL) {
        struct sri_worker *next = workers->next;
        if (is_idle) {
            sri_worker_join(workers);
        } else {
            leave_behind(workers);
        }
        workers = next;
    }
    return is_idle;
}

void sri_workers_forget(struct sri_fallback *fallback) {
    struct sri_worker *worker = fallback->workers;
    while (worker != NULL) {
        struct sri_worker *next = worker->next;
        unmap_worker(worker);
        worker = next;
    }
}
