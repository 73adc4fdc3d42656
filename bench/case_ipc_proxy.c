/* SPDX-License-Identifier: MIT */
/*
 * ipc.proxy: a call of a thread without a ring, by a proxy, and its answer. The ring's owner is
 * another thread, which sleeps in its ring, as the worker does in its read; the calling thread
 * sleeps until it has the answer.
 */
#include "baseline.h"
#include "ipc.h"
#include "service.h"
#include <stdlib.h>

struct side {
    struct bench_service of; /* the partner's */
    sr_proxy *proxy;
    struct bench_partner *partner;
    enum sr_isolation isolation;
    uint32_t size;
    unsigned char *bytes;
    unsigned char *room;
    sr_proxy_request request;
    uint64_t answers_wanted; /* the partner's round ends there */
};

static int failed(const char *what, int code) {
    return bench_complain(BENCH_WRONG, "safering: %s: %s", what, sr_strerror(code));
}

/* ---- the owner -------------------------------------------------------------------------------
 */

static int owner_open(void *argument) {
    struct side *self = argument;
    const struct bench_service_options options = {.isolation = self->isolation, .inbox_entries = 2};
    int code = bench_service_open(&options, &self->of);

    if (code >= 0) {
        code = sr_service_method(self->of.service, "echo", &self->request.method);
    }
    if (code >= 0) {
        code = sr_proxy_open(self->of.service, NULL, &self->proxy);
    }
    bench_pin(1);
    return code >= 0 ? BENCH_OK : failed("service", code);
}

static int owner_run(void *argument) {
    struct side *self = argument;
    sr_service_stats stats = SR_SERVICE_STATS_INIT;
    int code = sr_service_get_stats(self->of.service, &stats);

    while (code >= 0 && stats.answers < self->answers_wanted) {
        code = bench_service_wait(&self->of);
        if (code >= 0) {
            code = sr_service_get_stats(self->of.service, &stats);
        }
    }
    return code >= 0 ? BENCH_OK : failed("owner", code);
}

static int owner_close(void *argument) {
    struct side *self = argument;

    sr_proxy_close(&self->proxy);
    bench_service_close(&self->of);
    return BENCH_OK;
}

/* ---- the thread that calls -------------------------------------------------------------------
 */

static void side_close(void *side) {
    struct side *self = side;

    if (self->partner != NULL) {
        bench_partner_begin(self->partner, owner_close, self);
        (void)bench_partner_wait(self->partner);
    }
    bench_partner_close(self->partner);
    free(self->bytes);
    free(self->room);
    free(self);
}

static int open_with(const struct bench_setup *setup, enum sr_isolation isolation,
                     void **out_side) {
    struct side *self = calloc(1, sizeof(*self));
    int status;

    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "safering: out of memory");
    }
    self->size = setup->size;
    self->isolation = isolation;
    self->bytes = calloc(1, setup->size);
    self->room = calloc(1, setup->size);
    self->request = SR_PROXY_REQUEST_INIT;
    self->request.data = self->bytes;
    self->request.data_bytes = setup->size;
    self->request.room = self->room;
    self->request.room_bytes = setup->size;
    status = self->bytes != NULL && self->room != NULL
                 ? bench_partner_open(&self->partner)
                 : bench_complain(BENCH_WRONG, "safering: out of memory");
    if (status == BENCH_OK) {
        bench_partner_begin(self->partner, owner_open, self);
        status = bench_partner_wait(self->partner);
    }
    if (status != BENCH_OK) {
        side_close(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

static int side_open_full(const struct bench_setup *setup, void **out_side,
                          struct bench_facts *out_facts) {
    (void)out_facts;
    return open_with(setup, SR_ISOLATION_FULL, out_side);
}

static int side_open_hybrid(const struct bench_setup *setup, void **out_side,
                            struct bench_facts *out_facts) {
    (void)out_facts;
    return open_with(setup, SR_ISOLATION_HYBRID, out_side);
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;

    self->answers_wanted += round->ops;
    bench_partner_begin(self->partner, owner_run, self);
    for (uint32_t i = 0; i < round->ops; i++) {
        sr_proxy_answer answer;
        int code;

        bench_ipc_fill(self->bytes, self->size, round->base + i);
        code = sr_proxy_call(self->proxy, &self->request, &answer);
        if (code < 0 || answer.source != SR_ANSWER_METHOD || answer.data != self->room) {
            return failed("call", code < 0 ? code : (int)answer.result);
        }
        out_work->checksum += bench_ipc_value(self->room, self->size);
        out_work->ops++;
    }
    return bench_partner_wait(self->partner);
}

static const struct bench_side full = {"safering", side_open_full, side_run, side_close, 1};
static const struct bench_side hybrid = {"hybrid", side_open_hybrid, side_run, side_close, 1};

const struct bench_case bench_case_ipc_proxy = {
    .name = "ipc.proxy",
    .question = "a call of a thread without a ring, against a relay by hand on liburing",
    .size = 64,
    .round_ops = 256,
    .cpus = 2,
    .ours = &full,
    .baseline = &bench_baseline_relay,
    .beside = &hybrid,
    .beside_name = "ipc.proxy.hybrid",
    .expect = bench_ipc_expect,
};
