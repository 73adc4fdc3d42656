/* SPDX-License-Identifier: MIT */
/* ring.echo: a server's CPU time for a message, with multishot receives and a buffer ring; the same
 * program on the fallback beside a server on epoll(7). */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline.h"
#include "echo.h"
#include <safering/safering.h>
#include <stdlib.h>

struct side {
    struct echo_link link;
    sr_ring *ring;
    sr_pool *pool;
    sr_buffer_ring *buffers;
    uint64_t answered_bytes;
};

static void side_close(void *side) {
    struct side *self = side;

    sr_ring_destroy(&self->ring); /* takes buffer ring and connections along */
    sr_pool_destroy(&self->pool);
    echo_close(&self->link);
    free(self);
}

static int open_ring(struct side *self, uint32_t backend) {
    sr_ring_options ring_options = SR_RING_OPTIONS_INIT;
    sr_pool_options pool_options = SR_POOL_OPTIONS_INIT;
    sr_buffer_ring_options buffer_ring_options = SR_BUFFER_RING_OPTIONS_INIT;
    int code;

    ring_options.backend = backend;
    ring_options.fixed_files = BENCH_ECHO_CONNECTIONS;
    pool_options.buffer_size_bytes = BENCH_ECHO_BUFFER_BYTES;
    pool_options.buffer_count = BENCH_ECHO_BUFFERS;
    buffer_ring_options.entries = BENCH_ECHO_BUFFERS;
    code = sr_ring_create(&ring_options, &self->ring);
    if (code != 0) {
        return bench_complain(BENCH_MISSING, "safering: no ring here: %s", sr_strerror(code));
    }
    code = sr_pool_create(NULL, &pool_options, &self->pool);
    if (code == 0) {
        code = sr_ring_attach_pool(self->ring, self->pool);
    }
    if (code >= 0) {
        code = sr_buffer_ring_create(self->ring, self->pool, &buffer_ring_options, &self->buffers);
    }
    if (code < 0) {
        return bench_complain(code == SR_E_UNSUPPORTED ? BENCH_MISSING : BENCH_WRONG,
                              "safering: buffer ring: %s", sr_strerror(code));
    }
    return BENCH_OK;
}

static int take_connections(struct side *self) {
    sr_request request = SR_REQUEST_INIT;

    request.op = SR_OP_RECV;
    request.flags = SR_REQUEST_MULTISHOT;
    request.buffer_ring = self->buffers;
    for (uint32_t i = 0; i < BENCH_ECHO_CONNECTIONS; i++) {
        int code = sr_file_adopt(self->ring, self->link.sockets[i], SR_FILE_FIXED, &request.file);

        if (code == 0) {
            self->link.sockets[i] = -1;
            code = sr_ring_submit(self->ring, &request, NULL);
        }
        if (code != 0) {
            return bench_complain(BENCH_WRONG, "safering: receive: %s", sr_strerror(code));
        }
    }
    return BENCH_OK;
}

static int fill_facts(struct side *self, struct bench_facts *facts) {
    sr_ring_stats stats = SR_RING_STATS_INIT;
    int code = sr_ring_get_stats(self->ring, &stats);

    if (code != 0) {
        return bench_complain(BENCH_WRONG, "safering: stats: %s", sr_strerror(code));
    }
    facts->ring = stats.backend == SR_BACKEND_URING;
    facts->setup_flags = stats.setup_flags;
    facts->ring_fd_registered = stats.ring_fd_registered != 0;
    facts->file_fixed = stats.fixed_files_used == BENCH_ECHO_CONNECTIONS;
    /* Whether the pool is registered makes no difference: a plain send does not use that. */
    return BENCH_OK;
}

static int open_on(uint32_t backend, void **out_side, struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    int status;

    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "safering: out of memory");
    }
    status = echo_open(&self->link);
    if (status == BENCH_OK) {
        status = open_ring(self, backend);
    }
    if (status == BENCH_OK) {
        status = take_connections(self);
    }
    if (status == BENCH_OK) {
        status = fill_facts(self, out_facts);
    }
    if (status != BENCH_OK) {
        side_close(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

static int open_uring(const struct bench_setup *setup, void **out_side,
                      struct bench_facts *out_facts) {
    (void)setup; /* connections and sizes are fixed */
    return open_on(SR_BACKEND_URING, out_side, out_facts);
}

static int open_fallback(const struct bench_setup *setup, void **out_side,
                         struct bench_facts *out_facts) {
    (void)setup;
    return open_on(SR_BACKEND_FALLBACK, out_side, out_facts);
}

static int answer(struct side *self, sr_request *request, const sr_completion *received) {
    int code;

    if (received->result <= 0 || (received->flags & SR_COMPLETION_MORE) == 0) {
        return bench_complain(BENCH_WRONG, "safering: receive gave %lld",
                              (long long)received->result);
    }
    request->file = received->file;
    request->buffer = received->buffer;
    request->length = received->buffer_length;
    code = sr_ring_submit(self->ring, request, NULL);
    if (code != 0) {
        return bench_complain(BENCH_WRONG, "safering: send: %s", sr_strerror(code));
    }
    return BENCH_OK;
}

static int provide(struct side *self, const sr_completion *sent) {
    int code;

    if (sent->result != (int64_t)sent->buffer_length) {
        return bench_complain(BENCH_WRONG, "safering: send gave %lld", (long long)sent->result);
    }
    code = sr_buffer_ring_provide(self->buffers, sent->buffer);
    if (code != 0) {
        return bench_complain(BENCH_WRONG, "safering: provide: %s", sr_strerror(code));
    }
    self->answered_bytes += (uint64_t)sent->result;
    return BENCH_OK;
}

static int serve(struct side *self) {
    sr_request request = SR_REQUEST_INIT;
    int status = BENCH_OK;

    request.op = SR_OP_SEND;
    while (self->answered_bytes < self->link.due_bytes) {
        const sr_completion *completions;
        int count = sr_ring_wait(self->ring, 1, SR_FOREVER, NULL, &completions);

        if (count < 0) {
            return bench_complain(BENCH_WRONG, "safering: wait: %s", sr_strerror(count));
        }
        for (int i = 0; i < count && status == BENCH_OK; i++) {
            status = completions[i].opcode == SR_OP_RECV ? answer(self, &request, &completions[i])
                                                         : provide(self, &completions[i]);
        }
        if (status != BENCH_OK) {
            return status;
        }
    }
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    int status = echo_begin(&self->link, round);

    self->answered_bytes = 0;
    if (status == BENCH_OK) {
        status = serve(self);
    }
    return status == BENCH_OK ? echo_end(&self->link, out_work) : status;
}

static const struct bench_side ours = {"safering", open_uring, side_run, side_close, 1};
static const struct bench_side ours_fallback = {"safering", open_fallback, side_run, side_close, 1};

const struct bench_case bench_case_ring_echo = {
    .name = "ring.echo",
    .question = "TCP echo of 64 connections, multishot and buffer ring: the server's CPU time",
    .n = BENCH_ECHO_CONNECTIONS,
    .size = BENCH_ECHO_BYTES,
    .round_ops = BENCH_ECHO_CONNECTIONS * 64,
    .same_setup = true,
    .by_cpu = true,
    .ours = &ours,
    .baseline = &bench_baseline_echo,
    .expect = echo_expect,
};

const struct bench_case bench_case_ring_echo_fallback = {
    .name = "ring.echo_fallback",
    .question = "the same without io_uring, against a server on epoll(7)",
    .n = BENCH_ECHO_CONNECTIONS,
    .size = BENCH_ECHO_BYTES,
    .round_ops = BENCH_ECHO_CONNECTIONS * 64,
    .by_cpu = true,
    .ours = &ours_fallback,
    .baseline = &bench_baseline_epoll,
    .expect = echo_expect,
};
