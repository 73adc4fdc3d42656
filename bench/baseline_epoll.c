/* SPDX-License-Identifier: MIT */
/* An echo server without io_uring, as it is usually written: epoll(7) tells which connections are
 * readable, each is read and answered at once. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline.h"
#include "echo.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct side {
    struct echo_link link;
    int epoll;
    uint64_t answered_bytes;
};

static void side_close(void *side) {
    struct side *self = side;

    if (self->epoll >= 0) {
        close(self->epoll);
    }
    echo_close(&self->link);
    free(self);
}

static int open_parts(struct side *self) {
    int status = echo_open(&self->link);

    if (status != BENCH_OK) {
        return status;
    }
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    for (uint32_t i = 0; i < BENCH_ECHO_CONNECTIONS; i++) {
        int fd = self->link.sockets[i];
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

        if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0 ||
            epoll_ctl(self->epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
            return bench_complain(BENCH_WRONG, "epoll: %s", strerror(errno));
        }
    }
    return BENCH_OK;
}

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    int status;

    (void)setup;     /* connections and sizes are fixed */
    (void)out_facts; /* no ring */
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "epoll: out of memory");
    }
    self->epoll = -1;
    status = open_parts(self);
    if (status != BENCH_OK) {
        side_close(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

static int answer(struct side *self, int fd) {
    unsigned char buffer[BENCH_ECHO_BUFFER_BYTES];
    ssize_t count = recv(fd, buffer, sizeof(buffer), 0);

    if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
        return BENCH_OK;
    }
    if (count <= 0) {
        return bench_complain(BENCH_WRONG, "epoll: receive gave %zd", count);
    }
    /* As on the other side: one message of a connection at a time always fits. */
    if (send(fd, buffer, (size_t)count, MSG_NOSIGNAL) != count) {
        return bench_complain(BENCH_WRONG, "epoll: send: %s", strerror(errno));
    }
    self->answered_bytes += (uint64_t)count;
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    int status = echo_begin(&self->link, round);

    self->answered_bytes = 0;
    while (status == BENCH_OK && self->answered_bytes < self->link.due_bytes) {
        struct epoll_event events[BENCH_ECHO_CONNECTIONS];
        int count = epoll_wait(self->epoll, events, BENCH_ECHO_CONNECTIONS, -1);

        if (count < 0 && errno != EINTR) {
            return bench_complain(BENCH_WRONG, "epoll: wait: %s", strerror(errno));
        }
        for (int i = 0; i < count && status == BENCH_OK; i++) {
            status = answer(self, events[i].data.fd);
        }
    }
    return status == BENCH_OK ? echo_end(&self->link, out_work) : status;
}

const struct bench_side bench_baseline_epoll = {"epoll", side_open, side_run, side_close, 1};
