/* SPDX-License-Identifier: MIT */
/*
 * The event descriptor of a queue: readable when entering the queue would bring completions.
 *
 * While the owner is not inside of enter nobody looks at the epoll descriptor. So a queue with an
 * event descriptor has one more thread, the watcher: it sleeps until the epoll descriptor has
 * something (timers are in there too, as a timerfd), tells it once, and rests until the owner has
 * entered. It takes nothing from epoll and touches no job.
 */
#include "sys/fallback.h"

#include "sys/os.h"
#include "sys/plain.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>

static void write_count(int fd, uint64_t count) {
    /* The caller's eventfd: full is as good as told, and a bad one is the caller's affair. */
    (void)SRI_SYSCALL(SYS_write, fd, &count, sizeof count);
}

static void read_away(int fd) {
    uint64_t count = 0;
    (void)SRI_SYSCALL(SYS_read, fd, &count, sizeof count);
}

static void *watch(void *own) {
    const struct sri_worker *worker = own;
    struct sri_fallback *fallback = worker->fallback;
    struct pollfd ready[2] = {
        {.fd = fallback->nudge_fd, .events = POLLIN},
        {.fd = fallback->epoll_fd, .events = POLLIN},
    };
    while (!atomic_load(&fallback->watcher_ends)) {
        const bool rests = atomic_load(&fallback->watcher_rests);
        (void)SRI_SYSCALL(SYS_ppoll, ready, rests ? 1L : 2L, NULL, NULL, (size_t)8);
        if ((ready[0].revents & POLLIN) != 0) {
            read_away(fallback->nudge_fd);
        } else if (!rests && (ready[1].revents & POLLIN) != 0) {
            /* Said before it is told: the owner, told, enters and sends the nudge. */
            atomic_store(&fallback->watcher_rests, true);
            atomic_fetch_or(&fallback->shared->sq_flags, IORING_SQ_TASKRUN);
            write_count(fallback->event_fd, 1);
        }
        ready[0].revents = ready[1].revents = 0;
    }
    return NULL;
}

void sri_fallback_set_alarm(struct sri_fallback *fallback) {
    const struct sri_heap_item *first = sri_heap_first(&fallback->timers);
    if (fallback->timer_fd < 0) {
        return;
    }
    struct itimerspec alarm = {.it_value = {0, 0}};
    if (first != NULL) {
        const uint64_t end_ns = first->key < INT64_MAX ? first->key : INT64_MAX;
        alarm.it_value.tv_sec = (time_t)(end_ns / 1000000000u);
        alarm.it_value.tv_nsec = (long)(end_ns % 1000000000u) + (end_ns == 0);
    }
    (void)timerfd_settime(fallback->timer_fd, TFD_TIMER_ABSTIME, &alarm, NULL); /* all is valid */
}

void sri_fallback_tell(struct sri_fallback *fallback) {
    if (fallback->event_fd >= 0) {
        if (fallback->posted_count > 0) {
            write_count(fallback->event_fd, fallback->posted_count);
        }
        if (atomic_exchange(&fallback->watcher_rests, false)) {
            write_count(fallback->nudge_fd, 1);
        }
    }
    fallback->posted_count = 0;
}

static void stop(struct sri_fallback *fallback) {
    if (fallback->watcher != NULL) {
        atomic_store(&fallback->watcher_ends, true);
        write_count(fallback->nudge_fd, 1);
        sri_worker_join(fallback->watcher);
        fallback->watcher = NULL;
        atomic_store(&fallback->watcher_ends, false);
        atomic_store(&fallback->watcher_rests, false);
    }
    if (fallback->timer_fd >= 0) {
        (void)sri_os_close(fallback->timer_fd); /* a timerfd: cannot fail; epoll drops it */
    }
    if (fallback->nudge_fd >= 0) {
        (void)sri_os_close(fallback->nudge_fd);
    }
    fallback->timer_fd = fallback->nudge_fd = fallback->event_fd = -1;
}

static int begin(struct sri_fallback *fallback, int fd) {
    fallback->event_fd = fd;
    fallback->nudge_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    fallback->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fallback->nudge_fd < 0 || fallback->timer_fd < 0) {
        return -errno;
    }
    struct epoll_event event = {.events = EPOLLIN, .data = {.fd = fallback->timer_fd}};
    if (epoll_ctl(fallback->epoll_fd, EPOLL_CTL_ADD, fallback->timer_fd, &event) != 0) {
        return -errno;
    }
    sri_fallback_set_alarm(fallback);
    fallback->watcher = sri_worker_start(fallback, watch);
    return fallback->watcher != NULL ? 0 : -EAGAIN;
}

int sri_fallback_set_event_fd(struct sri_queue *queue, int fd) {
    struct sri_fallback *fallback = queue->state;
    if (fd < 0) {
        const int code = fallback->event_fd >= 0 ? 0 : -ENXIO; /* as io_uring */
        stop(fallback);
        return code;
    }
    if (fallback->event_fd >= 0) {
        return -EBUSY;
    }
    const int code = begin(fallback, fd);
    if (code < 0) {
        stop(fallback);
    }
    return code;
}
