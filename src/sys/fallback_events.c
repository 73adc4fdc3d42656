/* SPDX-License-Identifier: MIT */
/*
 * The event descriptor of a queue: readable when entering the queue would bring completions.
 *
 * An epoll descriptor with two others in it: the one on which the owner sleeps inside of enter,
 * which has what is watched, the workers' wake-up and, as a timerfd, the next timer; and the
 * eventfd of the ring, for what is told without the kernel. Both stay readable until somebody
 * enters, or clears the eventfd.
 */
#include "sys/fallback.h"

#include "sys/os.h"
#include "sys/plain.h"
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>

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
    if (fallback->event_fd >= 0 && fallback->posted_count > 0) {
        sri_os_wakeup_write(fallback->wakeup_fd);
    }
    fallback->posted_count = 0;
}

static int add(int epoll_fd, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data = {.fd = fd}};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

int sri_fallback_event_open(const struct sri_queue *queue, int wakeup_fd) {
    (void)queue;
    const int event_fd = epoll_create1(EPOLL_CLOEXEC);
    if (event_fd < 0) {
        return -errno;
    }
    const int code = add(event_fd, wakeup_fd);
    if (code < 0) {
        (void)sri_os_close(event_fd); /* an epoll descriptor: cannot fail */
        return code;
    }
    return event_fd;
}

static void stop(struct sri_fallback *fallback) {
    struct epoll_event unused = {.events = 0};
    /* The epoll descriptor stays open a little longer if workers are still busy. */
    (void)epoll_ctl(fallback->event_fd, EPOLL_CTL_DEL, fallback->epoll_fd, &unused);
    if (fallback->timer_fd >= 0) {
        (void)sri_os_close(fallback->timer_fd); /* a timerfd: cannot fail; epoll drops it */
    }
    fallback->timer_fd = fallback->event_fd = fallback->wakeup_fd = -1;
}

static int begin(struct sri_fallback *fallback, int wakeup_fd, int event_fd) {
    fallback->event_fd = event_fd;
    fallback->wakeup_fd = wakeup_fd;
    fallback->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    int code = fallback->timer_fd >= 0 ? add(fallback->epoll_fd, fallback->timer_fd) : -errno;
    if (code == 0) {
        sri_fallback_set_alarm(fallback);
        code = add(event_fd, fallback->epoll_fd);
    }
    return code;
}

int sri_fallback_set_event_fd(struct sri_queue *queue, int wakeup_fd, int event_fd) {
    struct sri_fallback *fallback = queue->state;
    if (wakeup_fd < 0) {
        const int code = fallback->event_fd >= 0 ? 0 : -ENXIO; /* as io_uring */
        if (code == 0) {
            stop(fallback);
        }
        return code;
    }
    if (fallback->event_fd >= 0) {
        return -EBUSY;
    }
    const int code = begin(fallback, wakeup_fd, event_fd);
    if (code < 0) {
        stop(fallback);
    }
    return code;
}
