/* SPDX-License-Identifier: MIT */
/*
 * Services where something of the kernel is missing: each case takes one thing away from this
 * process and all that it starts, and looks that what is left works and what is not said to be
 * there is not. io_uring itself is the business of the runs in which it is denied.
 */
#include "support/deny.h"
#include "support/skip.h"
#include "unit/service_host.h"

#include <sched.h>
#include <sys/syscall.h>

TestSuite(service_degraded, .timeout = 60);

/* AddressSanitizer's shadow memory is larger than any limit. */
#define STRICT (FIXTURE_HAS_ASAN ? "strict,memory=unlimited" : "strict")

static sr_service_options serving(const char *sandbox) {
    static const char *const variables[] = {"ASAN_OPTIONS=detect_leaks=0",
                                            "LSAN_OPTIONS=detect_leaks=0", NULL};
    sr_service_options options = host_serving(NULL);
    options.variables = variables; /* what may not be traced cannot look for leaks */
    options.sandbox = sandbox;
    options.restarts_max = 0;
    return options;
}

/* Opens a service; whether it is ready, else it is down. */
static bool service_is_ready(const sr_service_options *options) {
    host_open_service(options);
    UNTIL(host.changes[SR_SERVICE_READY] + host.changes[SR_SERVICE_WENT_DOWN] > 0);
    /* That it is down is told before its workers have ended. */
    UNTIL(host.changes[SR_SERVICE_READY] + host.exit_count > 0);
    return host.changes[SR_SERVICE_READY] > 0;
}

static int64_t result_of(const char *name, const char *text) {
    const sr_answer answer = host_answer_to(name, text, strlen(text));
    cr_assert_eq(answer.source, SR_ANSWER_METHOD, "%s", sr_error_name((int)answer.result));
    return answer.result;
}

static sr_sandbox_report report_of_worker(void) {
    sr_sandbox_report report = SR_SANDBOX_REPORT_INIT;
    sr_worker_info info;
    cr_assert_eq(sr_service_workers(host.service, &info, 1), 1);
    assert_ok(sr_service_sandbox(host.service, info.worker, &report));
    return report;
}

/* ---- the sandbox ------------------------------------------------------------------------------
 */

static void without_namespaces(int code) {
    static const uint32_t namespaces[] = {SR_SANDBOX_USER_NAMESPACE, SR_SANDBOX_NETWORK_NAMESPACE,
                                          SR_SANDBOX_IPC_NAMESPACE, SR_SANDBOX_PID_NAMESPACE};
    const sr_service_options options = serving(STRICT);
    SKIP_BECAUSE(deny_namespaces(code));
    host_open(NULL);
    cr_assert(service_is_ready(&options), "cause %u, layer %s, %s", host.exit.cause,
              host.exit.sandbox_layer, sr_error_name(host.exit.code));
    const sr_sandbox_report report = report_of_worker();
    for (size_t i = 0; i < COUNT_OF(namespaces); i++) {
        const sr_sandbox_layer_report *layer = &report.layers[namespaces[i]];
        cr_assert_eq(layer->state, SR_SANDBOX_REFUSED, "%s: state %u, %s",
                     sr_sandbox_layer_text(namespaces[i]), layer->state,
                     sr_error_name(layer->code));
        assert_code(layer->code, -code);
        cr_assert_eq(layer->required, 0);
    }
    cr_assert_eq(report.layers[SR_SANDBOX_FILES].state, SR_SANDBOX_HOLDS);
    cr_assert_eq(report.layers[SR_SANDBOX_CALLS].state, SR_SANDBOX_HOLDS);
    cr_assert_lt(result_of("open", "/dev/null"), 0);
    cr_assert_lt(result_of("fork", ""), 0);
    host_end();
}

Test(service_degraded, no_namespaces_are_allowed) {
    without_namespaces(EPERM);
}

Test(service_degraded, no_more_namespaces_can_be_had) {
    without_namespaces(ENOSPC);
}

/* Of a layer that is required less is not taken, and the reason is told. */
static void assert_not_confined(const char *sandbox, uint32_t layer, int code) {
    const sr_service_options options = serving(sandbox);
    cr_assert(!service_is_ready(&options), "%s", sandbox);
    cr_assert_eq(host.exit.cause, SR_WORKER_NOT_CONFINED, "cause %u, %s, end %u, status %d",
                 host.exit.cause, sr_error_name(host.exit.code), host.exit.end, host.exit.status);
    cr_assert_str_eq(host.exit.sandbox_layer, sr_sandbox_layer_text(layer));
    assert_code(host.exit.code, code);
    assert_ok(sr_service_close(&host.service));
}

Test(service_degraded, there_is_no_landlock) {
    const sr_service_options none = serving("none");
    SKIP_BECAUSE(deny_call(SYS_landlock_create_ruleset, EOPNOTSUPP));
    host_open(NULL);
    assert_not_confined(STRICT, SR_SANDBOX_FILES, -EOPNOTSUPP);
    host.changes[SR_SERVICE_WENT_DOWN] = 0;
    cr_assert(service_is_ready(&none));
    cr_assert_eq(result_of("version", ""), 0);
    host_end();
}

/* ---- processes and memory ---------------------------------------------------------------------
 */

Test(service_degraded, there_are_no_process_descriptors) {
    const sr_supervisor_options options = supervisor_options();
    sr_supervisor *supervisor = NULL;
    SKIP_BECAUSE(deny_call(SYS_pidfd_open, ENOSYS));
    sr_ring *ring = ring_make(NULL);
    assert_code(sr_supervisor_open(ring, &options, &supervisor), -ENOSYS);
    cr_assert_null(supervisor);
    ring_end(&ring);
}

Test(service_degraded, there_is_no_memory_to_share) {
    sr_service_options options = serving("none");
    SKIP_BECAUSE(deny_call(SYS_memfd_create, EPERM));
    host_open(NULL);
    options.isolation = SR_ISOLATION_HYBRID;
    cr_assert(!service_is_ready(&options));
    cr_assert_eq(host.exit.cause, SR_WORKER_NOT_STARTED);
    assert_code(host.exit.code, -EPERM);
    assert_ok(sr_service_close(&host.service));
    host.changes[SR_SERVICE_WENT_DOWN] = 0;
    options.isolation = SR_ISOLATION_FULL;
    cr_assert(service_is_ready(&options), "a socket is enough");
    cr_assert_eq(result_of("echo", "abc"), 3);
    host_end();
}

/* ---- one CPU ----------------------------------------------------------------------------------
 */

static void call_on_one_cpu(enum sr_isolation isolation) {
    sr_service_options options = serving("none");
    cpu_set_t all;
    cpu_set_t one;
    cr_assert_eq(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&one);
    for (int cpu = 0; CPU_COUNT(&one) == 0; cpu++) {
        if (CPU_ISSET(cpu, &all)) {
            CPU_SET(cpu, &one);
        }
    }
    cr_assert_eq(sched_setaffinity(0, sizeof one, &one), 0);
    host_open(NULL);
    options.isolation = (uint32_t)isolation;
    options.workers = 2;
    cr_assert(service_is_ready(&options));
    for (int i = 0; i < 300; i++) {
        cr_assert_eq(result_of("echo", "abcd"), 4);
    }
    host_end();
}

Test(service_degraded, host_and_workers_share_one_cpu_and_a_socket) {
    call_on_one_cpu(SR_ISOLATION_FULL);
}

Test(service_degraded, host_and_workers_share_one_cpu_and_memory) {
    call_on_one_cpu(SR_ISOLATION_HYBRID);
}

Test(service_degraded, host_and_workers_share_one_cpu_and_memory_that_both_write) {
    call_on_one_cpu(SR_ISOLATION_SHARED);
}
