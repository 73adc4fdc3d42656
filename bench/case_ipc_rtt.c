/* SPDX-License-Identifier: MIT */
/*
 * ipc.rtt_*: a call into a worker process and its answer, one at a time.
 *
 * full        nothing is shared but a socket: the host sleeps in its ring, the worker in a read; on
 *             two CPUs, and on one
 * hot         over shared memory, one call after the other: both sides look before they sleep
 * cold        the same after a pause in which both fall asleep
 *
 * ipc.designs: calls that do work, against doing the work here: what each isolation costs.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline.h"
#include "ipc.h"
#include "work.h"
#include <safering/safering.h>
#include <stdlib.h>
#include <time.h>

/* Longer than anybody looks before he sleeps. */
#define PAUSE_NS   1000000
#define ARENA_MORE 65536u

/* Long enough on any machine: the worker is lost. */
#define PATIENCE_NS 60000000000u

struct side {
    sr_ring *ring;
    sr_channel *channel;
    struct bench_ipc_peer peer;
    uint32_t size;
    enum sr_isolation isolation;
    bool is_cold;
    const char *method;
    unsigned char *bytes;
    sr_call_request request;
    bool answered;
    int code; /* with which the channel ended, or 1: ready */
    uint64_t value;
};

static void on_state(sr_channel *channel, int code, void *ctx) {
    struct side *self = ctx;

    (void)channel;
    self->code = code == 0 ? 1 : code;
}

static void on_answer(sr_channel *channel, const sr_answer *answer, void *ctx) {
    struct side *self = ctx;

    (void)channel;
    self->answered = true;
    if (answer->source == SR_ANSWER_METHOD && answer->data_bytes == self->size) {
        self->value = bench_ipc_value(answer->data, self->size);
    } else {
        self->code = SR_E_PROTOCOL;
    }
}

static int failed(const char *what, int code) {
    return bench_complain(BENCH_WRONG, "safering: %s: %s", what, sr_strerror(code));
}

static void side_close(void *side) {
    struct side *self = side;

    if (self->channel != NULL) {
        sr_channel_close(&self->channel);
    }
    bench_ipc_stop(&self->peer);
    sr_ring_destroy(&self->ring);
    free(self->bytes);
    free(self);
}

/* Waits until the worker has said its methods. */
static int get_ready(struct side *self) {
    int code = 0;

    while (code >= 0 && self->code == 0) {
        code = sr_ring_wait(self->ring, 1, PATIENCE_NS, NULL, NULL);
    }
    if (code >= 0 && self->code == 1) {
        code = sr_channel_method(self->channel, self->method, &self->request.method);
    }
    return code < 0 || self->code < 0 ? failed("worker", code < 0 ? code : self->code) : BENCH_OK;
}

static int open_channel(struct side *self) {
    sr_channel_options options = SR_CHANNEL_OPTIONS_INIT;
    sr_ring_options ring_options = SR_RING_OPTIONS_INIT;
    int code;

    ring_options.backend = SR_BACKEND_URING;
    code = sr_ring_create(&ring_options, &self->ring);
    if (code != 0) {
        return bench_complain(BENCH_MISSING, "safering: no ring here: %s", sr_strerror(code));
    }
    options.on_state = on_state;
    options.ctx = self;
    options.isolation = self->isolation;
    options.arena_bytes = self->size + ARENA_MORE;
    code = sr_channel_open(self->ring, self->peer.socket, &options, &self->channel);
    if (code != 0) {
        return failed("channel", code);
    }
    self->peer.socket = -1;
    return get_ready(self);
}

/* @cpu: of the worker; BENCH_IPC_ANY_CPU leaves both sides where they like to be: a side that may
 * use one CPU only does not look before it sleeps. */
static int open_on(const struct bench_setup *setup, uint32_t cpu, enum sr_isolation isolation,
                   bool is_cold, void **out_side) {
    struct side *self = calloc(1, sizeof(*self));
    int status;

    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "safering: out of memory");
    }
    self->size = setup->size;
    self->isolation = isolation;
    self->is_cold = is_cold;
    self->method = setup->n != 0 ? "work" : "echo";
    self->bytes = calloc(1, setup->size + 1u);
    if (self->bytes != NULL && setup->n != 0) {
        bench_ipc_fill_work(self->bytes, setup->n);
    }
    self->request = SR_CALL_REQUEST_INIT;
    self->request.data = self->bytes;
    self->request.data_bytes = setup->size;
    self->request.on_answer = on_answer;
    self->request.ctx = self;
    status = self->bytes != NULL ? bench_ipc_start(BENCH_IPC_WORKER, cpu, setup->size, &self->peer)
                                 : bench_complain(BENCH_WRONG, "safering: out of memory");
    if (cpu == BENCH_IPC_ANY_CPU) {
        bench_unpin();
    }
    if (status == BENCH_OK) {
        status = open_channel(self);
    }
    if (status != BENCH_OK) {
        side_close(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

static int side_open_far(const struct bench_setup *setup, void **out_side,
                         struct bench_facts *out_facts) {
    (void)out_facts;
    return open_on(setup, 1, SR_ISOLATION_FULL, false, out_side);
}

static int side_open_near(const struct bench_setup *setup, void **out_side,
                          struct bench_facts *out_facts) {
    (void)out_facts;
    return open_on(setup, 0, SR_ISOLATION_FULL, false, out_side);
}

#define OPEN(name, isolation, is_cold)                                                             \
    static int side_open_##name(const struct bench_setup *setup, void **out_side,                  \
                                struct bench_facts *out_facts) {                                   \
        (void)out_facts;                                                                           \
        return open_on(setup, BENCH_IPC_ANY_CPU, isolation, is_cold, out_side);                    \
    }
OPEN(hybrid_hot, SR_ISOLATION_HYBRID, false)
OPEN(shared_hot, SR_ISOLATION_SHARED, false)
OPEN(full_hot, SR_ISOLATION_FULL, false)
OPEN(hybrid_cold, SR_ISOLATION_HYBRID, true)
OPEN(shared_cold, SR_ISOLATION_SHARED, true)

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;

    for (uint32_t i = 0; i < round->ops; i++) {
        const struct timespec pause = {0, PAUSE_NS};

        if (self->is_cold) {
            (void)nanosleep(&pause, NULL); /* shorter by a signal: no harm */
        }
        const uint64_t begin_ns = self->is_cold ? bench_now_ns() : 0;

        bench_ipc_fill(self->bytes, self->size, round->base + i);
        self->answered = false;
        int code = sr_channel_call(self->channel, &self->request, NULL);
        while (code >= 0 && !self->answered) {
            code = sr_ring_wait(self->ring, 1, PATIENCE_NS, NULL, NULL);
        }
        if (code < 0 || self->code < 0) {
            return failed("call", code < 0 ? code : self->code);
        }
        out_work->ns += self->is_cold ? bench_now_ns() - begin_ns : 0;
        out_work->checksum += self->value;
        out_work->ops++;
    }
    return BENCH_OK;
}

static const struct bench_side far = {"safering", side_open_far, side_run, side_close, 1};
static const struct bench_side near = {"safering", side_open_near, side_run, side_close, 1};

#define CASE_FAR(suffix, bytes, ops)                                                               \
    const struct bench_case bench_case_ipc_rtt_full_##suffix = {                                   \
        .name = "ipc.rtt_full",                                                                    \
        .question = "a call into a worker on another CPU and its answer, against the bare socket", \
        .size = bytes,                                                                             \
        .round_ops = ops,                                                                          \
        .cpus = 2,                                                                                 \
        .ours = &far,                                                                              \
        .baseline = &bench_baseline_unix_far,                                                      \
        .expect = bench_ipc_expect,                                                                \
    }

CASE_FAR(64, 64, 256);
CASE_FAR(1024, 1024, 256);
CASE_FAR(65536, 65536, 128);
CASE_FAR(1048576, 1048576, 16);

const struct bench_case bench_case_ipc_rtt_full_near = {
    .name = "ipc.rtt_full_one_cpu",
    .question = "the same with host and worker on one CPU",
    .size = 64,
    .round_ops = 512,
    .ours = &near,
    .baseline = &bench_baseline_unix_near,
    .expect = bench_ipc_expect,
};

static const struct bench_side hybrid_hot = {"hybrid", side_open_hybrid_hot, side_run, side_close,
                                             1};
static const struct bench_side shared_hot = {"shared", side_open_shared_hot, side_run, side_close,
                                             1};
static const struct bench_side hybrid_cold = {"hybrid", side_open_hybrid_cold, side_run, side_close,
                                              1};
static const struct bench_side shared_cold = {"shared", side_open_shared_cold, side_run, side_close,
                                              1};

#define CASE_HOT(suffix, bytes, ops)                                                               \
    const struct bench_case bench_case_ipc_rtt_hot_##suffix = {                                    \
        .name = "ipc.rtt_hot",                                                                     \
        .question = "a call by shared memory and its answer, against bare spinning (HYBRID)",      \
        .size = bytes,                                                                             \
        .round_ops = ops,                                                                          \
        .cpus = 2,                                                                                 \
        .ours = &hybrid_hot,                                                                       \
        .baseline = &bench_baseline_pingpong_spin,                                                 \
        .beside = &shared_hot,                                                                     \
        .beside_name = "ipc.rtt_hot.shared",                                                       \
        .expect = bench_ipc_expect,                                                                \
    }

CASE_HOT(0, 0, 4096);
CASE_HOT(64, 64, 4096);
CASE_HOT(1024, 1024, 2048);
CASE_HOT(65536, 65536, 256);
CASE_HOT(1048576, 1048576, 16);

const struct bench_case bench_case_ipc_rtt_cold = {
    .name = "ipc.rtt_cold",
    .question = "the same after a pause in which both sides fall asleep, against a bare futex",
    .size = 64,
    .round_ops = 64,
    .cpus = 2,
    .ours = &hybrid_cold,
    .baseline = &bench_baseline_pingpong_futex,
    .beside = &shared_cold,
    .beside_name = "ipc.rtt_cold.shared",
    .expect = bench_ipc_expect,
};

static const struct bench_side full_hot = {"full", side_open_full_hot, side_run, side_close, 1};

/* The work itself, here. */
struct here {
    uint32_t us;
};

static void here_close(void *side) {
    free(side);
}

static int here_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct here *self = calloc(1, sizeof(*self));

    (void)out_facts;
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "here: out of memory");
    }
    self->us = setup->n;
    *out_side = self;
    return BENCH_OK;
}

static int here_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    const struct here *self = side;

    for (uint32_t i = 0; i < round->ops; i++) {
        bench_work_for(self->us);
        out_work->checksum += round->base + i;
        out_work->ops++;
    }
    return BENCH_OK;
}

static const struct bench_side here = {"here", here_open, here_run, here_close, 1};

#define CASE_DESIGN(design, us, ops)                                                               \
    const struct bench_case bench_case_ipc_designs_##design##_##us = {                             \
        .name = "ipc.designs." #design,                                                            \
        .question = "calls of n us of work each, against that work done here",                     \
        .n = us,                                                                                   \
        .size = BENCH_IPC_WORK_BYTES,                                                              \
        .round_ops = ops,                                                                          \
        .round_unit = 1,                                                                           \
        .cpus = 2,                                                                                 \
        .ours = &design##_hot,                                                                     \
        .baseline = &here,                                                                         \
        .expect = bench_ipc_expect,                                                                \
    }

CASE_DESIGN(full, 1, 128);
CASE_DESIGN(full, 10, 128);
CASE_DESIGN(full, 100, 64);
CASE_DESIGN(full, 1000, 8);
CASE_DESIGN(hybrid, 1, 1024);
CASE_DESIGN(hybrid, 10, 256);
CASE_DESIGN(hybrid, 100, 64);
CASE_DESIGN(hybrid, 1000, 8);
CASE_DESIGN(shared, 1, 1024);
CASE_DESIGN(shared, 10, 256);
CASE_DESIGN(shared, 100, 64);
CASE_DESIGN(shared, 1000, 8);
