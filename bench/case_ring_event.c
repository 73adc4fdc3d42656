/* SPDX-License-Identifier: MIT */
/*
 * ring.event: how soon a thread has what another one has written, when it slept on the ring's event
 * descriptor, against one that slept in sr_ring_wait(). Both have a receive in flight; it is sent
 * before the request is, so that only the way back is measured.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline.h"
#include "event.h"
#include "work.h"
#include <errno.h>
#include <safering/safering.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

struct side {
    struct event_link link;
    sr_ring *ring;
    sr_pool *pool;
    sr_file file;
    sr_buffer buffer;
    int fd;  /* the file's, to write to */
    int set; /* has the ring's event descriptor; -1: the side waits in the ring */
    uint32_t backend;
};

static void side_close(void *side) {
    struct side *self = side;

    event_close(&self->link);
    (void)sr_ring_destroy(&self->ring); /* nothing is in flight */
    (void)sr_pool_destroy(&self->pool);
    if (self->set >= 0) {
        close(self->set);
    }
    free(self);
}

static int ring_open(struct side *self, struct bench_facts *out_facts) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    sr_ring_stats stats = SR_RING_STATS_INIT;
    int code;

    options.backend = self->backend;
    code = sr_ring_create(&options, &self->ring);
    if (code != 0) {
        return bench_complain(BENCH_MISSING, "safering: no ring here: %s", sr_strerror(code));
    }
    code = sr_pool_create(NULL, NULL, &self->pool);
    if (code == 0) {
        code = sr_ring_attach_pool(self->ring, self->pool);
    }
    if (code >= 0) {
        code = sr_pool_acquire(self->pool, 1, &self->buffer);
    }
    if (code == 0) {
        code = sr_file_adopt(self->ring, self->link.here, 0, &self->file);
    }
    if (code == 0) {
        self->fd = self->link.here;
        self->link.here = -1;
        code = sr_ring_get_stats(self->ring, &stats);
    }
    if (code != 0) {
        return bench_complain(BENCH_WRONG, "safering: %s", sr_strerror(code));
    }
    out_facts->ring = true;
    out_facts->setup_flags = stats.setup_flags;
    out_facts->ring_fd_registered = stats.ring_fd_registered != 0;
    out_facts->buffers_registered = stats.pools_registered > 0;
    return BENCH_OK;
}

static int watch(struct side *self) {
    struct epoll_event event = {.events = EPOLLIN};
    int fd = -1;
    int code = sr_ring_event_fd(self->ring, &fd);

    self->set = epoll_create1(EPOLL_CLOEXEC);
    if (code != 0 || self->set < 0 || epoll_ctl(self->set, EPOLL_CTL_ADD, fd, &event) != 0) {
        return bench_complain(BENCH_WRONG, "safering: no event descriptor: %d", code);
    }
    return BENCH_OK;
}

static int open_side(uint32_t backend, bool watches, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    int status;

    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "safering: out of memory");
    }
    self->set = -1;
    self->backend = backend;
    status = event_open(&self->link);
    if (status == BENCH_OK) {
        status = ring_open(self, out_facts);
    }
    if (status == BENCH_OK && watches) {
        status = watch(self);
    }
    if (status != BENCH_OK) {
        side_close(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

static int open_event(const struct bench_setup *setup, void **out_side,
                      struct bench_facts *out_facts) {
    (void)setup;
    return open_side(SR_BACKEND_URING, true, out_side, out_facts);
}

static int open_wait(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    (void)setup;
    return open_side(SR_BACKEND_URING, false, out_side, out_facts);
}

static int open_fallback_event(const struct bench_setup *setup, void **out_side,
                               struct bench_facts *out_facts) {
    (void)setup;
    return open_side(SR_BACKEND_FALLBACK, true, out_side, out_facts);
}

static int open_fallback_wait(const struct bench_setup *setup, void **out_side,
                              struct bench_facts *out_facts) {
    (void)setup;
    return open_side(SR_BACKEND_FALLBACK, false, out_side, out_facts);
}

/* Puts the receive in flight. */
static int arm(struct side *self) {
    sr_request request = SR_REQUEST_INIT;
    int code;

    request.op = SR_OP_RECV;
    request.file = self->file;
    request.buffer = self->buffer;
    request.length = sizeof(struct event_answer);
    code = sr_ring_submit(self->ring, &request, NULL);
    if (code == 0) {
        code = self->set >= 0 ? sr_ring_dispatch(self->ring, NULL) : sr_ring_flush(self->ring) - 1;
    }
    return code == 0 ? BENCH_OK
                     : bench_complain(BENCH_WRONG, "safering: submit: %s", sr_strerror(code));
}

/* Sleeps until there is one completion. */
static int sleep_once(struct side *self, const sr_completion **out_completions) {
    struct epoll_event event;

    if (self->set < 0) {
        return sr_ring_wait(self->ring, 1, SR_FOREVER, NULL, out_completions);
    }
    for (;;) {
        int count = epoll_wait(self->set, &event, 1, -1);

        if (count < 0 && errno != EINTR) {
            return -errno;
        }
        count = sr_ring_dispatch(self->ring, out_completions);
        if (count != 0) {
            return count;
        }
    }
}

static int take(struct side *self, uint64_t value, struct bench_work *work) {
    const sr_completion *completions = NULL;
    struct event_answer answer;
    void *data = NULL;
    int count = sleep_once(self, &completions);
    int code;

    if (count != 1 || completions[0].result != (int64_t)sizeof(answer)) {
        return bench_complain(BENCH_WRONG, "safering: wait gave %d", count);
    }
    code = sr_buffer_data(self->pool, self->buffer, 0, sizeof(answer), SR_ACCESS_READ, &data);
    if (code != 0) {
        return bench_complain(BENCH_WRONG, "safering: data: %s", sr_strerror(code));
    }
    memcpy(&answer, data, sizeof(answer));
    return event_take(&answer, value, work);
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;

    event_begin(&self->link, round);
    for (uint32_t i = 0; i < round->ops; i++) {
        uint64_t value = bench_hop_value(round, i);
        int status = arm(self);

        if (status == BENCH_OK) {
            status = event_ask(self->fd, value);
        }
        if (status == BENCH_OK) {
            status = take(self, value, out_work);
        }
        if (status != BENCH_OK) {
            return status;
        }
    }
    return event_end(&self->link);
}

static const struct bench_side ours = {"dispatch", open_event, side_run, side_close, 1};
static const struct bench_side waits = {"wait", open_wait, side_run, side_close, 1};
static const struct bench_side ours_fallback = {"dispatch", open_fallback_event, side_run,
                                                side_close, 1};
static const struct bench_side waits_fallback = {"wait", open_fallback_wait, side_run, side_close,
                                                 1};

const struct bench_case bench_case_ring_event = {
    .name = "ring.event",
    .question = "to wake on the event descriptor and dispatch, against a wait in the ring",
    .round_ops = 512,
    .same_setup = true,
    .cpus = 2,
    .ours = &ours,
    .baseline = &waits,
    .beside = &bench_baseline_event_epoll,
    .beside_name = "ring.event.epoll",
    .expect = event_expect,
};

const struct bench_case bench_case_ring_event_fallback = {
    .name = "ring.event_fallback",
    .question = "the same without io_uring",
    .round_ops = 512,
    .cpus = 2,
    .ours = &ours_fallback,
    .baseline = &waits_fallback,
    .expect = event_expect,
};
