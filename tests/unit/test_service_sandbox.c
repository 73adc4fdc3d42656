/* SPDX-License-Identifier: MIT */
/*
 * Services whose workers are in a sandbox: that it is the one that was asked for, that it is told,
 * and what becomes of workers that cannot enter it. What each layer stops is in
 * test_sandbox_rules.c.
 */
#include "support/launch.h"
#include "unit/service_host.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

/* AddressSanitizer's shadow memory is larger than any limit. */
#define LIMITS (FIXTURE_HAS_ASAN ? ",memory=unlimited" : "")

TestSuite(service_sandbox, .timeout = 60);

/* A service of programs/serving.c; its workers leave no core and, since a process that may not be
 * traced cannot look for leaks, do not look for leaks. */
static sr_service_options serving(const char *const *arguments, const char *sandbox) {
    static const char *const variables[] = {"ASAN_OPTIONS=detect_leaks=0",
                                            "LSAN_OPTIONS=detect_leaks=0", NULL};
    sr_service_options options = host_serving(arguments);
    options.variables = variables;
    options.sandbox = sandbox;
    options.restarts_max = 1;
    return options;
}

static void host_begin(const sr_service_options *options) {
    host_open(NULL);
    host_open_service(options);
    UNTIL(host.changes[SR_SERVICE_READY] + host.changes[SR_SERVICE_WENT_DOWN] > 0);
}

static void host_begin_in(const char *sandbox) {
    const sr_service_options options = serving(NULL, sandbox);
    host_begin(&options);
    cr_assert_eq(host.changes[SR_SERVICE_READY], 1,
                 "worker ended: cause %u, code %d (%s), layer %s", host.exit.cause, host.exit.code,
                 sr_error_name(host.exit.code),
                 host.exit.sandbox_layer != NULL ? host.exit.sandbox_layer : "none");
}

static sr_answer answer_to(const char *name, const char *text) {
    return host_answer_to(name, text, strlen(text));
}

static int64_t result_of(const char *name, const char *text) {
    const sr_answer answer = answer_to(name, text);
    cr_assert_eq(answer.source, SR_ANSWER_METHOD, "%s", sr_error_name((int)answer.result));
    return answer.result;
}

static sr_sandbox_report report_of_worker(void) {
    sr_sandbox_report report = SR_SANDBOX_REPORT_INIT;
    sr_worker_info info;
    cr_assert_eq(sr_service_workers(host.service, &info, 1), 1);
    assert_ok(sr_service_sandbox(host.service, info.worker, &report));
    cr_assert_eq(report.layer_count, SR_SANDBOX_LAYERS);
    return report;
}

/* A file of this test's, and a folder that holds it. */
static struct directory folder;
static char file_path[192];

static void folder_begin(void) {
    folder = directory_begin();
    cr_assert_eq(close(directory_file(&folder, "data", "data", 4)), 0);
    (void)snprintf(file_path, sizeof file_path, "%s/data", folder.path);
}

/* ---- it is there ------------------------------------------------------------------------------
 */

Test(service_sandbox, a_worker_is_confined_before_it_is_called) {
    char sandbox[64];
    (void)snprintf(sandbox, sizeof sandbox, "strict%s", LIMITS);
    folder_begin();
    host_begin_in(sandbox);
    const sr_sandbox_report report = report_of_worker();
    uint32_t held = 0;
    for (uint32_t i = 0; i < report.layer_count; i++) {
        const sr_sandbox_layer_report *layer = &report.layers[i];
        fprintf(stderr, "%-40s %s\n", sr_sandbox_layer_text(i),
                layer->state == SR_SANDBOX_HOLDS ? "holds" : sr_error_name(layer->code));
        held += layer->state == SR_SANDBOX_HOLDS;
        cr_expect_neq(layer->state, SR_SANDBOX_NOT_ASKED, "%s", sr_sandbox_layer_text(i));
        cr_expect(layer->required == 0 || layer->state == SR_SANDBOX_HOLDS, "%s",
                  sr_sandbox_layer_text(i));
    }
    cr_assert_eq(report.held_count, held);
    cr_assert_eq(report.layers[SR_SANDBOX_FILES].required, 1);
    cr_assert_eq(report.layers[SR_SANDBOX_TCP].required, 0);
    cr_assert_eq(result_of("open", file_path), -EACCES);
    cr_assert_eq(result_of("fork", ""), -EPERM);
    cr_assert_eq(result_of("descriptors", ""), 256);
    cr_assert_eq(result_of("echo", "goes on"), 7);
    host_end();
    cr_assert_eq(host.exit.cause, SR_WORKER_ASKED);
    cr_assert(host.exit.end == SR_WORKER_EXITED && host.exit.status == 0, "end %u, status %d",
              host.exit.end, host.exit.status);
    directory_end(&folder);
}

Test(service_sandbox, strict_is_what_is_meant_where_nothing_is_said) {
    if (FIXTURE_HAS_ASAN) {
        cr_skip_test("AddressSanitizer's shadow memory is larger than strict allows");
    }
    folder_begin();
    host_begin_in(NULL);
    cr_assert_eq(result_of("open", file_path), -EACCES);
    cr_assert_eq(report_of_worker().layers[SR_SANDBOX_CALLS].state, SR_SANDBOX_HOLDS);
    host_end();
    directory_end(&folder);
}

Test(service_sandbox, none_leaves_what_the_launcher_does_to_everybody) {
    folder_begin();
    host_begin_in("none");
    const sr_sandbox_report report = report_of_worker();
    for (uint32_t i = 0; i < report.layer_count; i++) {
        const bool holds = i == SR_SANDBOX_DESCRIPTORS || i == SR_SANDBOX_SURROUNDINGS ||
                           i == SR_SANDBOX_NO_NEW_PRIVILEGES;
        cr_expect_eq(report.layers[i].state, holds ? SR_SANDBOX_HOLDS : SR_SANDBOX_NOT_ASKED, "%s",
                     sr_sandbox_layer_text(i));
    }
    cr_assert_eq(result_of("open", file_path), 0);
    cr_assert_eq(result_of("fork", ""), 0);
    host_end();
    directory_end(&folder);
}

Test(service_sandbox, listed_paths_can_be_opened_and_limits_are_those_of_the_text) {
    char sandbox[256];
    folder_begin();
    (void)snprintf(sandbox, sizeof sandbox, "path-ro=%s,descriptors=17%s", folder.path, LIMITS);
    host_begin_in(sandbox);
    cr_assert_eq(result_of("open", file_path), 0);
    cr_assert_eq(result_of("open", "/proc/self/status"), -EACCES);
    cr_assert_eq(result_of("descriptors", ""), 17);
    host_end();
    directory_end(&folder);
}

Test(service_sandbox, a_crash_in_it_is_told_as_what_it_is_and_the_next_worker_is_in_it_too) {
    char sandbox[64];
    (void)snprintf(sandbox, sizeof sandbox, "strict%s", LIMITS);
    host_begin_in(sandbox);
    const sr_answer crash = answer_to("crash", "");
    cr_assert_eq(crash.source, SR_ANSWER_CHANNEL);
    assert_code((int)crash.result, SR_E_PEER_DIED);
    cr_assert_eq(result_of("open", "/proc/self/status"), -EACCES);
    UNTIL(host.exit_count > 0);
    cr_assert_eq(host.exit.cause, SR_WORKER_BY_ITSELF);
    cr_assert(host.exit.end == SR_WORKER_KILLED && host.exit.status == SIGSEGV, "end %u, status %d",
              host.exit.end, host.exit.status);
    cr_assert_null(host.exit.sandbox_layer);
    host_end();
}

Test(service_sandbox, the_program_loads_between_the_two_stages) {
    char sandbox[256];
    folder_begin();
    (void)snprintf(sandbox, sizeof sandbox, "path-ro=%s%s", folder.path, LIMITS);
    const char *const arguments[] = {"1", "well", file_path, NULL};
    const sr_service_options options = serving(arguments, sandbox);
    host_begin(&options);
    cr_assert_eq(host.changes[SR_SERVICE_READY], 1);
    cr_assert_eq(result_of("loaded", ""), 0);
    host_end();
    const char *const outside[] = {"1", "well", "/proc/self/status", NULL};
    const sr_service_options less = serving(outside, sandbox);
    host_begin(&less);
    cr_assert_eq(result_of("loaded", ""), -EACCES, "loading is confined");
    host_end();
    directory_end(&folder);
}

Test(service_sandbox, a_reload_may_bring_another_sandbox) {
    char sandbox[64];
    (void)snprintf(sandbox, sizeof sandbox, "strict%s", LIMITS);
    host_begin_in("none");
    cr_assert_eq(result_of("open", "/proc/self/status"), 0);
    const sr_service_options options = serving(NULL, sandbox);
    assert_ok(sr_service_reload(host.service, &options));
    UNTIL(host.changes[SR_SERVICE_RELOADED] == 1);
    cr_assert_eq(result_of("open", "/proc/self/status"), -EACCES);
    assert_ok(sr_service_reload(host.service, NULL)); /* as it was */
    UNTIL(host.changes[SR_SERVICE_RELOADED] == 2);
    cr_assert_eq(result_of("open", "/proc/self/status"), -EACCES);
    host_end();
}

/* Whichever way the calls come: the memory is mapped and the thread that watches the socket is made
 * in the sandbox, or before it. */
static void is_confined_with(uint32_t isolation) {
    char sandbox[64];
    (void)snprintf(sandbox, sizeof sandbox, "strict%s", LIMITS);
    sr_service_options options = serving(NULL, sandbox);
    options.isolation = isolation;
    host_begin(&options);
    cr_assert_eq(host.changes[SR_SERVICE_READY], 1);
    cr_assert_eq(result_of("open", "/proc/self/status"), -EACCES);
    cr_assert_eq(result_of("fork", ""), -EPERM);
    static char text[5000];
    memset(text, 't', sizeof text - 1);
    cr_assert_eq(result_of("echo", text), sizeof text - 1);
    const sr_answer crash = answer_to("crash", "");
    assert_code((int)crash.result, SR_E_PEER_DIED);
    cr_assert_eq(result_of("echo", "goes on"), 7);
    UNTIL(host.exit_count > 0);
    cr_assert_eq(host.exit.status, SIGSEGV);
    host_end();
}

Test(service_sandbox, a_worker_over_memory_that_it_can_read_is_confined_too) {
    is_confined_with(SR_ISOLATION_HYBRID);
}

Test(service_sandbox, a_worker_over_memory_that_it_can_write_is_confined_too) {
    is_confined_with(SR_ISOLATION_SHARED);
}

/* ---- it cannot be had -------------------------------------------------------------------------
 */

static void expect_not_confined(const sr_service_options *options, int code, uint32_t layer,
                                uint32_t path) {
    host_begin(options);
    cr_assert_eq(host.changes[SR_SERVICE_READY], 0);
    UNTIL(host.exit_count >= 2); /* restarts_max is 1 */
    cr_assert_eq(host.exit.cause, SR_WORKER_NOT_CONFINED, "cause %u", host.exit.cause);
    assert_code(host.exit.code, code);
    cr_assert_str_eq(host.exit.sandbox_layer, sr_sandbox_layer_text(layer));
    cr_assert_eq(host.exit.sandbox_path, path);
    host_end();
}

Test(service_sandbox, a_path_that_is_not_there_is_no_smaller_sandbox) {
    char sandbox[128];
    (void)snprintf(sandbox, sizeof sandbox, "path-ro=/proc,path-ro=/no/such/path%s", LIMITS);
    const sr_service_options options = serving(NULL, sandbox);
    expect_not_confined(&options, -ENOENT, SR_SANDBOX_FILES, 2);
}

Test(service_sandbox, a_program_with_threads_cannot_be_confined) {
    char sandbox[64];
    (void)snprintf(sandbox, sizeof sandbox, "strict%s", LIMITS);
    const char *const arguments[] = {"1", "threads", NULL};
    const sr_service_options options = serving(arguments, sandbox);
    expect_not_confined(&options, -EBUSY, SR_SANDBOX_FILES, 0);
}

Test(service_sandbox, a_program_that_fails_to_load_is_not_ready) {
    const char *const arguments[] = {"1", "unloaded", NULL};
    const sr_service_options options = serving(arguments, "none");
    host_begin(&options);
    cr_assert_eq(host.changes[SR_SERVICE_WENT_DOWN], 1);
    UNTIL(host.exit_count > 0);
    cr_assert_eq(host.exit.cause, SR_WORKER_BY_ITSELF);
    cr_assert_eq(host.exit.status, 4);
    host_end();
}

Test(service_sandbox, a_text_that_is_no_policy_is_refused_and_its_place_is_told) {
    sr_service_options options = serving(NULL, "none");
    uint32_t position = 99;
    host_begin(&options);
    sr_service *other = NULL;
    options.sandbox = "strict,path-ro=relative";
    assert_code(sr_service_open(host.supervisor, &options, &other), -EINVAL);
    options.sandbox = "memory=0";
    assert_code(sr_service_open(host.supervisor, &options, &other), SR_E_BOUNDS);
    assert_code(sr_service_reload(host.service, &options), SR_E_BOUNDS);
    cr_assert_null(other);
    assert_code(sr_sandbox_check("strict,path-ro=relative", &position), -EINVAL);
    cr_assert_eq(position, 7);
    assert_ok(sr_sandbox_check("strict,path-ro=/usr/lib,memory=2G", &position));
    cr_assert_eq(position, 0);
    assert_code(sr_sandbox_check("stric", NULL), -EINVAL);
    cr_assert_str_eq(sr_sandbox_layer_text(SR_SANDBOX_LAYERS), "none");
    cr_assert_eq(result_of("echo", ""), 0, "the service that there was goes on");
    host_end();
}

Test(service_sandbox, a_worker_that_is_not_there_has_no_report) {
    sr_sandbox_report report = SR_SANDBOX_REPORT_INIT;
    host_begin_in("none");
    assert_code(sr_service_sandbox(host.service, 99, &report), SR_E_STALE);
    host_end();
}
