/* SPDX-License-Identifier: MIT */
/*
 * ipc.restart: a worker is told to crash; from that call to the next answer of another worker. With
 * a spare one, which is ready, and without, where a process must be started first. Workers are
 * confined as by default; in the second case not at all. What is not timed: the wait for all
 * workers to be ready again.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline.h"
#include "ipc.h"
#include <safering/safering.h>
#include <stdlib.h>
#include <unistd.h>

/* Long enough on any machine: the service is lost. */
#define PATIENCE_NS 60000000000u

/* A sanitizer needs more of the system than a sandbox leaves. */
#if defined(__SANITIZE_ADDRESS__)
#define STRICT "none"
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define STRICT "none"
#endif
#endif
#ifndef STRICT
#define STRICT "strict"
#endif

struct side {
    sr_ring *ring;
    sr_supervisor *supervisor;
    sr_service *service;
    char program[4096];
    uint32_t workers; /* spares included */
    uint32_t echo;
    uint32_t crash;
    bool is_ready;
    uint32_t lost;
    uint32_t answered;
    int code; /* of a service that cannot go on */
};

static void on_state(sr_service *service, enum sr_service_change change, uint32_t version, int code,
                     void *ctx) {
    struct side *self = ctx;

    (void)service;
    (void)version;
    self->is_ready = self->is_ready || change == SR_SERVICE_READY;
    self->code = code;
}

/* A worker that never was ready will not be the next time. */
static void on_exit_of_worker(sr_service *service, const sr_worker_exit *exit, void *ctx) {
    struct side *self = ctx;

    (void)service;
    if (!self->is_ready) {
        self->code = exit->code < 0 ? exit->code : SR_E_PEER_DIED;
    }
}

static void on_answer(sr_service *service, const sr_answer *answer, void *ctx) {
    struct side *self = ctx;

    (void)service;
    if (answer->source == SR_ANSWER_METHOD) {
        self->answered++;
    } else {
        self->lost++;
    }
}

static int failed(const char *what, int code) {
    return bench_complain(BENCH_WRONG, "safering: %s: %s", what, sr_strerror(code));
}

static int wait_once(struct side *self) {
    const int code = sr_ring_wait(self->ring, 1, PATIENCE_NS, NULL, NULL);

    return code < 0 ? code : self->code;
}

static int call(struct side *self, uint32_t method) {
    sr_service_request request = SR_SERVICE_REQUEST_INIT;

    request.method = method;
    request.on_answer = on_answer;
    request.ctx = self;
    return sr_service_call(self->service, &request, NULL);
}

static void side_close(void *side) {
    struct side *self = side;

    sr_service_close(&self->service);
    sr_supervisor_close(&self->supervisor);
    sr_ring_destroy(&self->ring);
    free(self);
}

static int wait_for_all(struct side *self) {
    sr_service_stats stats = SR_SERVICE_STATS_INIT;
    int code = 0;

    while (code >= 0) {
        code = sr_service_get_stats(self->service, &stats);
        if (code < 0 || (stats.workers_ready == self->workers && stats.workers == self->workers)) {
            break;
        }
        code = wait_once(self);
    }
    return code;
}

static int open_service(struct side *self, uint32_t spares, const char *sandbox) {
    char kind[16];
    const char *const arguments[] = {BENCH_IPC_OPTION, kind, "1", "0", NULL};
    sr_supervisor_options supervisor_options = SR_SUPERVISOR_OPTIONS_INIT;
    sr_service_options options = SR_SERVICE_OPTIONS_INIT;
    int code;

    (void)snprintf(kind, sizeof(kind), "%d", (int)BENCH_IPC_WORKER);
    if (getenv("SAFERING_LAUNCHER") == NULL) {
        supervisor_options.launcher = BENCH_LAUNCHER;
    }
    options.program = self->program;
    options.sandbox = sandbox;
    options.arguments = arguments;
    options.spares = spares;
    options.restarts_window_ns = 0; /* it crashes on request: never too often */
    options.backoff_first_ns = 0;
    options.on_state = on_state;
    options.on_exit = on_exit_of_worker;
    options.ctx = self;
    code = sr_ring_create(NULL, &self->ring);
    if (code == 0) {
        code = sr_supervisor_open(self->ring, &supervisor_options, &self->supervisor);
    }
    if (code == 0) {
        code = sr_service_open(self->supervisor, &options, &self->service);
    }
    while (code >= 0 && !self->is_ready) {
        code = wait_once(self);
        code = code >= 0 && self->code < 0 ? self->code : code;
    }
    if (code >= 0) {
        code = sr_service_method(self->service, "echo", &self->echo);
    }
    if (code >= 0) {
        code = sr_service_method(self->service, "crash", &self->crash);
    }
    return code;
}

static int open_with(uint32_t spares, const char *sandbox, void **out_side) {
    struct side *self = calloc(1, sizeof(*self));
    int code;

    if (self == NULL || readlink("/proc/self/exe", self->program, sizeof(self->program) - 1) < 0) {
        free(self);
        return bench_complain(BENCH_WRONG, "safering: no memory or no /proc");
    }
    bench_unpin(); /* launcher and workers inherit where this thread may run */
    self->workers = 1 + spares;
    code = open_service(self, spares, sandbox);
    if (code < 0) {
        side_close(self);
        return failed("service", code);
    }
    *out_side = self;
    return BENCH_OK;
}

static int side_open_warm(const struct bench_setup *setup, void **out_side,
                          struct bench_facts *out_facts) {
    (void)setup;
    (void)out_facts;
    return open_with(1, STRICT, out_side);
}

static int side_open_cold(const struct bench_setup *setup, void **out_side,
                          struct bench_facts *out_facts) {
    (void)setup;
    (void)out_facts;
    return open_with(0, STRICT, out_side);
}

static int side_open_free_warm(const struct bench_setup *setup, void **out_side,
                               struct bench_facts *out_facts) {
    (void)setup;
    (void)out_facts;
    return open_with(1, "none", out_side);
}

static int side_open_free_cold(const struct bench_setup *setup, void **out_side,
                               struct bench_facts *out_facts) {
    (void)setup;
    (void)out_facts;
    return open_with(0, "none", out_side);
}

/* From the call that crashes to the answer of the next one. */
static int crash_once(struct side *self, struct bench_work *out_work) {
    const uint64_t begin_ns = bench_now_ns();
    int code;

    self->lost = self->answered = 0;
    code = call(self, self->crash);
    while (code >= 0 && self->lost == 0) {
        code = wait_once(self);
    }
    if (code >= 0) {
        code = call(self, self->echo);
    }
    while (code >= 0 && self->answered == 0) {
        code = wait_once(self);
    }
    out_work->ns += bench_now_ns() - begin_ns;
    out_work->checksum += self->lost == 1 && self->answered == 1;
    out_work->ops++;
    return code;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;

    for (uint32_t i = 0; i < round->ops; i++) {
        int code = wait_for_all(self);

        code = code < 0 ? code : crash_once(self, out_work);
        if (code < 0) {
            return failed("restart", code);
        }
    }
    return BENCH_OK;
}

static uint64_t expect(const struct bench_setup *setup, const struct bench_round *round) {
    (void)setup;
    return round->ops;
}

static const struct bench_side warm = {"safering", side_open_warm, side_run, side_close, 1};
static const struct bench_side cold = {"safering", side_open_cold, side_run, side_close, 1};
static const struct bench_side free_warm = {"safering", side_open_free_warm, side_run, side_close,
                                            1};
static const struct bench_side free_cold = {"safering", side_open_free_cold, side_run, side_close,
                                            1};

const struct bench_case bench_case_ipc_restart = {
    .name = "ipc.restart",
    .question = "from a confined worker's crash to the next answer, against starting /bin/true",
    .round_ops = 8,
    .ours = &warm,
    .baseline = &bench_baseline_spawn,
    .beside = &cold,
    .beside_name = "ipc.restart.cold",
    .expect = expect,
};

const struct bench_case bench_case_ipc_restart_free = {
    .name = "ipc.restart_free",
    .question = "the same, where workers are in no sandbox",
    .round_ops = 8,
    .ours = &free_warm,
    .baseline = &bench_baseline_spawn,
    .beside = &free_cold,
    .beside_name = "ipc.restart_free.cold",
    .expect = expect,
};
