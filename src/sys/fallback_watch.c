/* SPDX-License-Identifier: MIT */
/*
 * Watches: the jobs that wait until their descriptors are ready. One per descriptor, because epoll
 * takes a descriptor only once.
 *
 * Edge-triggered: a job is tried before it waits, and again on each event, until the descriptor has
 * nothing more for it; asking epoll for more events reports what is ready at that moment. So no
 * edge is lost, and a descriptor that stays ready for others does not keep the owner awake.
 */
#include "sys/fallback.h"

#include "sys/plain.h"
#include <sys/epoll.h>

#define EVENTS_AT_ONCE 64

#define EVENTS_ALWAYS ((uint32_t)(EPOLLERR | EPOLLHUP))

static struct sri_watch *find(struct sri_fallback *fallback, int fd) {
    const uint32_t index = sri_index_find(&fallback->watch_index, (uint64_t)(uint32_t)fd);
    return index != SRI_INDEX_NONE ? &fallback->watches[index] : NULL;
}

static struct sri_watch *acquire(struct sri_fallback *fallback, int fd) {
    const uint32_t index = fallback->watches_free_count > 0
                               ? fallback->watches_free[--fallback->watches_free_count]
                               : fallback->watches_used++;
    struct sri_watch *watch = &fallback->watches[index];
    /* No more watches than jobs, so there is room in both. */
    const bool inserted = sri_index_insert(&fallback->watch_index, (uint64_t)(uint32_t)fd, index);
    SR_CHECK(index < fallback->alive_max && inserted);
    watch->fd = fd;
    watch->armed = 0;
    sri_job_list_init(&watch->jobs);
    return watch;
}

static void release(struct sri_fallback *fallback, struct sri_watch *watch) {
    (void)sri_index_remove(&fallback->watch_index, (uint64_t)(uint32_t)watch->fd);
    fallback->watches_free[fallback->watches_free_count++] = (uint32_t)(watch - fallback->watches);
    watch->fd = -1;
}

/* The descriptor that tells when a job can go on. */
static int fd_of(const struct sri_job *job) {
    return job->pidfd >= 0 ? job->pidfd : job->sqe.fd;
}

static int arm(struct sri_fallback *fallback, struct sri_watch *watch, uint32_t events) {
    struct epoll_event event = {
        .events = events | (uint32_t)EPOLLET,
        .data = {.fd = watch->fd},
    };
    const int action = watch->armed == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    const int code = SRI_SYSCALL(SYS_epoll_ctl, fallback->epoll_fd, action, watch->fd, &event);
    if (code == 0) {
        watch->armed = events;
    }
    return code;
}

/* Nobody waits for it any more. */
static void disarm(struct sri_fallback *fallback, struct sri_watch *watch) {
    struct epoll_event unused = {.events = 0};
    /* Fails only if the descriptor was closed behind our back, and then epoll has dropped it. */
    (void)SRI_SYSCALL(SYS_epoll_ctl, fallback->epoll_fd, EPOLL_CTL_DEL, watch->fd, &unused);
    release(fallback, watch);
}

int sri_watch_add(struct sri_fallback *fallback, struct sri_job *job) {
    struct sri_watch *watch = find(fallback, fd_of(job));
    const bool is_new = watch == NULL;
    if (is_new) {
        watch = acquire(fallback, fd_of(job));
    }
    const uint32_t wanted = job->events | EVENTS_ALWAYS;
    /* A new poll must see what is ready now; whatever else waits has just seen that nothing is. */
    const bool must_look = job->sqe.opcode == IORING_OP_POLL_ADD && !job->is_ready;
    if (is_new || must_look || (wanted & ~watch->armed) != 0) {
        const int code = arm(fallback, watch, watch->armed | wanted);
        if (code < 0) {
            if (is_new) {
                release(fallback, watch);
            }
            return code;
        }
    }
    job->state = SRI_JOB_WATCHED;
    fallback->watched_count++;
    sri_job_list_append(&watch->jobs, job);
    return 0;
}

void sri_watch_remove(struct sri_fallback *fallback, struct sri_job *job) {
    struct sri_watch *watch = find(fallback, fd_of(job));
    SR_CHECK(watch != NULL && job->state == SRI_JOB_WATCHED);
    sri_job_list_remove(&watch->jobs, job);
    fallback->watched_count--;
    job->state = SRI_JOB_TAKEN;
    if (watch->jobs.first == NULL) {
        disarm(fallback, watch);
    }
}

/* A job that waits on after it was tried joins the end of a list of its own, so that each is tried
 * once. */
static void go_on(struct sri_fallback *fallback, struct sri_watch *watch, uint32_t events) {
    struct sri_job_list jobs = watch->jobs;
    struct sri_job *job = NULL;
    if (jobs.first == NULL) {
        return;
    }
    sri_job_list_init(&watch->jobs);
    while ((job = jobs.first) != NULL) {
        jobs.first = job->next;
        job->revents = events & (job->events | EVENTS_ALWAYS);
        if (job->revents == 0) {
            sri_job_list_append(&watch->jobs, job);
            continue;
        }
        fallback->watched_count--;
        job->state = SRI_JOB_TAKEN;
        job->is_ready = true;
        sri_job_settle(fallback, job, sri_job_try(fallback, job));
    }
    if (watch->jobs.first == NULL) {
        disarm(fallback, watch);
    }
}

void sri_watch_collect(struct sri_fallback *fallback) {
    struct epoll_event events[EVENTS_AT_ONCE];
    int count = EVENTS_AT_ONCE;
    while (count == EVENTS_AT_ONCE) {
        count = SRI_SYSCALL(SYS_epoll_pwait, fallback->epoll_fd, events, EVENTS_AT_ONCE, 0, NULL,
                            (size_t)8);
        for (int i = 0; i < count; i++) {
            struct sri_watch *watch = find(fallback, events[i].data.fd);
            /* No watch: the wake-up, or its last job has ended since. */
            if (watch != NULL) {
                go_on(fallback, watch, events[i].events);
            }
        }
    }
}
