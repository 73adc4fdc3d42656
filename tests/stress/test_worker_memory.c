/* SPDX-License-Identifier: MIT */
/*
 * What an idle worker costs in memory, by isolation: PSS, the pages that it has for itself and its
 * share of those that others have, too (/proc/PID/smaps_rollup). Each has answered a call, so that
 * it has touched what a call needs, and waits.
 */
#include "support/services.h"
#include "unit/fixture.h"

#include <inttypes.h>

#define SECOND   UINT64_C(1000000000)
#define WORKERS  4u
#define MOST_KIB 2048u /* of one */

TestSuite(worker_memory, .timeout = 120);

static uint32_t answers;

static void on_answer(sr_service *service, const sr_answer *answer, void *ctx) {
    (void)service;
    (void)ctx;
    cr_assert_eq(answer->source, SR_ANSWER_METHOD);
    answers++;
}

static uint64_t pss_kib(int32_t pid) {
    char path[64];
    char line[256];
    uint64_t kib = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    FILE *file = fopen(path, "re");
    cr_assert_not_null(file, "%s: %s", path, strerror(errno));
    while (kib == 0 && fgets(line, sizeof line, file) != NULL) {
        (void)sscanf(line, "Pss: %" SCNu64 " kB", &kib);
    }
    cr_assert_eq(fclose(file), 0);
    cr_assert_gt(kib, 0, "%s says nothing", path);
    return kib;
}

/* One call to each worker: they pause, so that none is free for the next one. */
static void call_each(sr_ring *ring, sr_service *service) {
    const uint32_t pause_ms = 50;
    sr_service_request request = SR_SERVICE_REQUEST_INIT;
    answers = 0;
    assert_ok(sr_service_method(service, "pause", &request.method));
    request.data = &pause_ms;
    request.data_bytes = sizeof pause_ms;
    request.on_answer = on_answer;
    for (uint32_t i = 0; i < WORKERS; i++) {
        assert_ok(sr_service_call(service, &request, NULL));
    }
    while (answers < WORKERS) {
        cr_assert_geq(sr_ring_wait(ring, 1, 20 * SECOND, NULL, NULL), 0);
    }
}

static void measure(enum sr_isolation isolation, const char *name) {
    if (FIXTURE_HAS_ASAN) {
        cr_skip_test("AddressSanitizer's shadow is most of such a process");
    }
    sr_worker_info infos[WORKERS];
    sr_service_stats stats = SR_SERVICE_STATS_INIT;
    sr_service_options options = service_options(NULL);
    sr_ring *ring = ring_make(NULL);
    sr_supervisor *supervisor = supervisor_make(ring);
    sr_service *service = NULL;
    uint64_t most_kib = 0;
    uint64_t sum_kib = 0;
    options.workers = WORKERS;
    options.calls_per_worker = 1;
    options.isolation = (uint32_t)isolation;
    assert_ok(sr_service_open(supervisor, &options, &service));
    while (stats.workers_ready < WORKERS) {
        cr_assert_geq(sr_ring_wait(ring, 1, 20 * SECOND, NULL, NULL), 0);
        assert_ok(sr_service_get_stats(service, &stats));
    }
    call_each(ring, service);
    assert_code(sr_service_workers(service, infos, WORKERS), WORKERS);
    for (uint32_t i = 0; i < WORKERS; i++) {
        cr_assert_eq(infos[i].answers, 1);
        const uint64_t kib = pss_kib(infos[i].pid);
        most_kib = kib > most_kib ? kib : most_kib;
        sum_kib += kib;
    }
    fprintf(stderr, "%s: %" PRIu64 " KiB PSS of an idle worker, the largest %" PRIu64 "\n", name,
            sum_kib / WORKERS, most_kib);
    cr_assert_leq(most_kib, MOST_KIB);
    assert_ok(sr_service_close(&service));
    assert_ok(sr_supervisor_close(&supervisor));
    ring_end(&ring);
}

Test(worker_memory, of_isolation_full) {
    measure(SR_ISOLATION_FULL, "FULL");
}

Test(worker_memory, of_isolation_hybrid) {
    measure(SR_ISOLATION_HYBRID, "HYBRID");
}

Test(worker_memory, of_isolation_shared) {
    measure(SR_ISOLATION_SHARED, "SHARED");
}
