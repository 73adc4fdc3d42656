/* SPDX-License-Identifier: MIT */
/*
 * ipc.restart: a worker is told to crash; from that call to the next answer of another worker. With
 * a spare one, which is ready, and without, where a process must be started first. Workers are
 * confined as by default; in the second case not at all. What is not timed: the wait for all
 * workers to be ready again.
 */
#include "baseline.h"
#include "service.h"
#include <stdlib.h>

struct side {
    struct bench_service of;
    uint32_t workers; /* spares included */
    uint32_t echo;
    uint32_t crash;
    uint32_t lost;
    uint32_t answered;
};

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

static int call(struct side *self, uint32_t method) {
    sr_service_request request = SR_SERVICE_REQUEST_INIT;

    request.method = method;
    request.on_answer = on_answer;
    request.ctx = self;
    return sr_service_call(self->of.service, &request, NULL);
}

static void side_close(void *side) {
    struct side *self = side;

    bench_service_close(&self->of);
    free(self);
}

static int wait_for_all(struct side *self) {
    sr_service_stats stats = SR_SERVICE_STATS_INIT;
    int code = 0;

    while (code >= 0) {
        code = sr_service_get_stats(self->of.service, &stats);
        if (code < 0 || (stats.workers_ready == self->workers && stats.workers == self->workers)) {
            break;
        }
        code = bench_service_wait(&self->of);
    }
    return code;
}

static int open_with(uint32_t spares, const char *sandbox, void **out_side) {
    const struct bench_service_options options = {.spares = spares, .sandbox = sandbox};
    struct side *self = calloc(1, sizeof(*self));
    int code;

    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "safering: out of memory");
    }
    self->workers = 1 + spares;
    code = bench_service_open(&options, &self->of);
    if (code >= 0) {
        code = sr_service_method(self->of.service, "echo", &self->echo);
    }
    if (code >= 0) {
        code = sr_service_method(self->of.service, "crash", &self->crash);
    }
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
    return open_with(1, NULL, out_side);
}

static int side_open_cold(const struct bench_setup *setup, void **out_side,
                          struct bench_facts *out_facts) {
    (void)setup;
    (void)out_facts;
    return open_with(0, NULL, out_side);
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
        code = bench_service_wait(&self->of);
    }
    if (code >= 0) {
        code = call(self, self->echo);
    }
    while (code >= 0 && self->answered == 0) {
        code = bench_service_wait(&self->of);
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
