/* SPDX-License-Identifier: MIT */
/*
 * Service host: what tests of services have in common: a ring with a supervisor and a service whose
 * changes, exits and answers are counted. Tests begin it as they need it, and may have more of all.
 */
#ifndef SAFERING_TESTS_UNIT_SERVICE_HOST_H
#define SAFERING_TESTS_UNIT_SERVICE_HOST_H

#include "support/services.h"
#include "unit/fixture.h"

#define MS     UINT64_C(1000000)
#define SECOND (1000 * MS)

struct service_host {
    sr_ring *ring;
    sr_supervisor *supervisor;
    sr_service *service;
    uint32_t changes[5]; /* by enum sr_service_change */
    uint32_t exit_count;
    sr_worker_exit exit; /* the first */
    uint32_t answer_count;
    sr_answer answer; /* the newest; its data is gone */
};

static struct service_host host;

static inline void host_on_state(sr_service *service, enum sr_service_change change,
                                 uint32_t version, int code, void *ctx) {
    (void)service;
    (void)version;
    (void)code;
    (void)ctx;
    host.changes[change]++;
}

static inline void host_on_exit(sr_service *service, const sr_worker_exit *exit, void *ctx) {
    (void)service;
    (void)ctx;
    if (host.exit_count++ == 0) {
        host.exit = *exit;
    }
}

static inline void host_on_answer(sr_service *service, const sr_answer *answer, void *ctx) {
    (void)service;
    (void)ctx;
    host.answer_count++;
    host.answer = *answer;
}

/* Waits until a condition holds. */
#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        while (!(condition)) {                                                                     \
            assert_ok(sr_ring_wait(host.ring, 1, 20 * SECOND, NULL, NULL));                        \
        }                                                                                          \
    } while (0)

/* Of programs/serving.c, heard by the host. */
static inline sr_service_options host_serving(const char *const *arguments) {
    sr_service_options options = service_options(arguments);
    options.on_state = host_on_state;
    options.on_exit = host_on_exit;
    return options;
}

/* A ring with a supervisor; @options: of the ring, NULL for the defaults. */
static inline void host_open(const sr_ring_options *options) {
    misuse_watch();
    host = (struct service_host){.ring = ring_make(options)};
    host.supervisor = supervisor_make(host.ring);
}

static inline void host_open_service(const sr_service_options *options) {
    assert_ok(sr_service_open(host.supervisor, options, &host.service));
}

static inline void host_end(void) {
    assert_ok(sr_service_close(&host.service));
    cr_assert_null(host.service);
    assert_ok(sr_supervisor_close(&host.supervisor));
    ring_end(&host.ring);
}

static inline sr_service_stats host_stats(void) {
    sr_service_stats stats = SR_SERVICE_STATS_INIT;
    assert_ok(sr_service_get_stats(host.service, &stats));
    return stats;
}

static inline uint32_t host_method(const char *name) {
    uint32_t method = 0;
    assert_ok(sr_service_method(host.service, name, &method));
    return method;
}

/* The answer to one call, whoever gives it. */
static inline sr_answer host_answer_to(const char *name, const void *data, uint64_t data_bytes) {
    sr_service_request request = SR_SERVICE_REQUEST_INIT;
    const uint32_t count = host.answer_count;
    request.method = host_method(name);
    request.data = data;
    request.data_bytes = data_bytes;
    request.on_answer = host_on_answer;
    assert_ok(sr_service_call(host.service, &request, NULL));
    UNTIL(host.answer_count > count);
    return host.answer;
}

#endif
