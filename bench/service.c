/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "service.h"
#include "ipc.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static void on_state(sr_service *service, enum sr_service_change change, uint32_t version, int code,
                     void *ctx) {
    struct bench_service *self = ctx;

    (void)service;
    (void)version;
    self->is_ready = self->is_ready || change == SR_SERVICE_READY;
    self->code = code;
}

/* A worker that never was ready will not be the next time. */
static void on_exit_of_worker(sr_service *service, const sr_worker_exit *exit, void *ctx) {
    struct bench_service *self = ctx;

    (void)service;
    if (!self->is_ready) {
        self->code = exit->code < 0 ? exit->code : SR_E_PEER_DIED;
    }
}

int bench_service_wait(struct bench_service *service) {
    const int code = sr_ring_wait(service->ring, 1, BENCH_PATIENCE_NS, NULL, NULL);

    return code < 0 ? code : service->code;
}

static int open_service(const struct bench_service_options *chosen, struct bench_service *self) {
    char kind[16];
    const char *const arguments[] = {BENCH_IPC_OPTION, kind, "1", "0", NULL};
    sr_service_options options = SR_SERVICE_OPTIONS_INIT;

    (void)snprintf(kind, sizeof(kind), "%d", (int)BENCH_IPC_WORKER);
    options.program = self->program;
    options.sandbox = chosen->sandbox != NULL ? chosen->sandbox : STRICT;
    if (chosen->isolation != 0) {
        options.isolation = (uint32_t)chosen->isolation;
    }
    options.arguments = arguments;
    options.spares = chosen->spares;
    options.restarts_window_ns = 0; /* it crashes on request: never too often */
    options.backoff_first_ns = 0;
    options.on_state = on_state;
    options.on_exit = on_exit_of_worker;
    options.ctx = self;
    return sr_service_open(self->supervisor, &options, &self->service);
}

int bench_service_open(const struct bench_service_options *options, struct bench_service *service) {
    sr_supervisor_options supervisor_options = SR_SUPERVISOR_OPTIONS_INIT;
    sr_ring_options ring_options = SR_RING_OPTIONS_INIT;
    int code;

    memset(service, 0, sizeof(*service));
    if (readlink("/proc/self/exe", service->program, sizeof(service->program) - 1) < 0) {
        return -errno;
    }
    if (getenv("SAFERING_LAUNCHER") == NULL) {
        supervisor_options.launcher = BENCH_LAUNCHER;
    }
    ring_options.inbox_entries = options->inbox_entries;
    bench_unpin(); /* launcher and workers inherit where this thread may run */
    code = sr_ring_create(&ring_options, &service->ring);
    if (code == 0) {
        code = sr_supervisor_open(service->ring, &supervisor_options, &service->supervisor);
    }
    if (code == 0) {
        code = open_service(options, service);
    }
    while (code >= 0 && !service->is_ready) {
        code = bench_service_wait(service);
        code = code >= 0 && service->code < 0 ? service->code : code;
    }
    return code;
}

void bench_service_close(struct bench_service *service) {
    sr_service_close(&service->service);
    sr_supervisor_close(&service->supervisor);
    sr_ring_destroy(&service->ring);
}
