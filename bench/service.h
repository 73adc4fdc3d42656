/* SPDX-License-Identifier: MIT */
/* A service with a ring of its own, whose workers are this program once more (ipc.h), for the cases
 * that call one. */
#ifndef BENCH_SERVICE_H
#define BENCH_SERVICE_H

#include "bench.h"
#include <safering/safering.h>

/* Long enough on any machine: the service is lost. */
#define BENCH_PATIENCE_NS 60000000000u

struct bench_service {
    sr_ring *ring;
    sr_supervisor *supervisor;
    sr_service *service;
    char program[4096];
    bool is_ready;
    int code; /* of a service that cannot go on */
};

/* What the cases choose. */
struct bench_service_options {
    uint32_t spares;
    const char *sandbox; /* NULL: strict, as far as this build can be confined */
    enum sr_isolation isolation; /* 0: FULL */
    uint32_t inbox_entries;
};

/* One worker; returns when it is ready, or with a negative code. What was opened until then is to
 * be closed in either case, by the same thread. */
int bench_service_open(const struct bench_service_options *options, struct bench_service *service);
void bench_service_close(struct bench_service *service);
/* Waits for one thing that happens. Returns a negative code where the service cannot go on. */
int bench_service_wait(struct bench_service *service);

#endif
