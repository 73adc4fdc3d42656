/* SPDX-License-Identifier: MIT */
#include "sys/watch.h"

#include "core/check.h"

#include <errno.h>

void sri_watch_clear(struct sri_watch *watch) {
    watch->count = 0;
}

void sri_watch_add(struct sri_watch *watch, int fd, uint32_t flags) {
    SR_CHECK(watch->count < SRI_WATCH_MAX);
    watch->fds[watch->count++] =
        (struct pollfd){.fd = fd,
                        .events = (short)(((flags & SRI_WATCH_READ) != 0 ? POLLIN : 0) |
                                          ((flags & SRI_WATCH_WRITE) != 0 ? POLLOUT : 0))};
}

bool sri_watch_wait(struct sri_watch *watch, int timeout_ms) {
    int count = 0;
    do {
        count = poll(watch->fds, watch->count, timeout_ms);
    } while (count < 0 && errno == EINTR);
    SR_CHECK(count >= 0 || errno == ENOMEM);
    for (uint32_t i = 0; i < watch->count && count < 0; i++) {
        watch->fds[i].revents = 0; /* not filled in */
    }
    return count > 0;
}

uint32_t sri_watch_answer(const struct sri_watch *watch, uint32_t index) {
    SR_CHECK(index < watch->count);
    const short events = watch->fds[index].revents;
    return ((events & POLLIN) != 0 ? SRI_WATCH_READ : 0) |
           ((events & POLLOUT) != 0 ? SRI_WATCH_WRITE : 0) |
           ((events & (POLLHUP | POLLERR | POLLNVAL)) != 0 ? SRI_WATCH_HANG_UP : 0);
}
