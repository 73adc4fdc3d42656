/* SPDX-License-Identifier: MIT */
/* An event loop without a ring: epoll_wait(2) on the socket itself, then read(2). */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline.h"
#include "event.h"
#include "work.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

struct side {
    struct event_link link;
    int set;
};

static void side_close(void *side) {
    struct side *self = side;

    event_close(&self->link);
    if (self->set >= 0) {
        close(self->set);
    }
    free(self);
}

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    struct epoll_event event = {.events = EPOLLIN};
    int status;

    (void)setup;
    (void)out_facts; /* no ring */
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "epoll: out of memory");
    }
    self->set = epoll_create1(EPOLL_CLOEXEC);
    status = event_open(&self->link);
    if (status == BENCH_OK &&
        (self->set < 0 || epoll_ctl(self->set, EPOLL_CTL_ADD, self->link.here, &event) != 0)) {
        status = bench_complain(BENCH_WRONG, "epoll: %s", strerror(errno));
    }
    if (status != BENCH_OK) {
        side_close(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

static int take(struct side *self, uint64_t value, struct bench_work *work) {
    struct event_answer answer;
    struct epoll_event event;
    int count;

    do {
        count = epoll_wait(self->set, &event, 1, -1);
    } while (count < 0 && errno == EINTR);
    if (count != 1 || read(self->link.here, &answer, sizeof(answer)) != (ssize_t)sizeof(answer)) {
        return bench_complain(BENCH_WRONG, "epoll: %s", strerror(errno));
    }
    return event_take(&answer, value, work);
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;

    event_begin(&self->link, round);
    for (uint32_t i = 0; i < round->ops; i++) {
        uint64_t value = bench_hop_value(round, i);
        int status = event_ask(self->link.here, value);

        if (status == BENCH_OK) {
            status = take(self, value, out_work);
        }
        if (status != BENCH_OK) {
            return status;
        }
    }
    return event_end(&self->link);
}

const struct bench_side bench_baseline_event_epoll = {"epoll", side_open, side_run, side_close, 1};
