/* SPDX-License-Identifier: MIT */
/* Supervisors and their services: workers that work, and all the ways in which they stop. */
#include "support/baseline.h"
#include "support/launch.h"
#include "support/scale.h"
#include "support/services.h"
#include "unit/fixture.h"

#include <safering/supervisor.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#define MS     UINT64_C(1000000)
#define SECOND (1000 * MS)

TestSuite(supervisor, .timeout = 60);

/* ---- a host -----------------------------------------------------------------------------------
 */

#define EXITS_MAX 64u

struct host {
    sr_ring *ring;
    sr_supervisor *supervisor;
    sr_service *service;
    uint32_t changes[5]; /* by enum sr_service_change */
    uint32_t version;    /* of the last change */
    int code;
    uint32_t exit_count;
    sr_worker_exit exits[EXITS_MAX];
    char exit_methods[EXITS_MAX][64];
    uint64_t events;
    uint64_t answers; /* told, whatever they were */
};

static struct host host;

static sr_service_stats stats_of(void) {
    sr_service_stats stats = SR_SERVICE_STATS_INIT;
    assert_ok(sr_service_get_stats(host.service, &stats));
    return stats;
}

static void on_state(sr_service *service, enum sr_service_change change, uint32_t version, int code,
                     void *ctx) {
    cr_assert(service == host.service && ctx == &host);
    host.changes[change]++;
    if (change == SR_SERVICE_WENT_DOWN) {
        cr_assert_eq(stats_of().calls_in_flight, 0, "the last thing that is told");
    }
    host.version = version;
    host.code = code;
}

static void on_exit_of_worker(sr_service *service, const sr_worker_exit *exit, void *ctx) {
    cr_assert(service == host.service && ctx == &host);
    const uint32_t at = host.exit_count++ % EXITS_MAX;
    host.exits[at] = *exit;
    (void)snprintf(host.exit_methods[at], sizeof host.exit_methods[at], "%s",
                   exit->call_method != NULL ? exit->call_method : "");
}

static void on_event(sr_service *service, uint64_t worker, uint32_t number, const void *data,
                     uint64_t data_bytes, void *ctx) {
    uint64_t value = 0;
    cr_assert(service == host.service && ctx == &host && worker != 0);
    cr_assert_eq(data_bytes, sizeof value);
    memcpy(&value, data, sizeof value);
    cr_assert_eq(value % 65536, number);
    host.events++;
}

static void turn(void) {
    const sr_completion *completions = NULL;
    assert_ok(sr_ring_wait(host.ring, 1, 20 * SECOND, NULL, &completions));
}

/* Lets go out what was called. */
static void look(void) {
    assert_ok(sr_ring_wait(host.ring, 0, 0, NULL, NULL));
}

/* Waits until a condition holds. */
#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        while (!(condition)) {                                                                     \
            turn();                                                                                \
        }                                                                                          \
    } while (0)

static void supervisor_begin(uint32_t workers_max) {
    sr_supervisor_options options = supervisor_options();
    misuse_watch();
    host = (struct host){0};
    host.ring = ring_make(NULL);
    options.workers_max = workers_max;
    assert_ok(sr_supervisor_open(host.ring, &options, &host.supervisor));
}

/* test_supervisor_hybrid.c is this file with another one. */
#ifndef SERVICE_ISOLATION
#define SERVICE_ISOLATION SR_ISOLATION_FULL
#endif

/* Options of a service of programs/serving.c. */
static sr_service_options serving(const char *const *arguments) {
    sr_service_options options = service_options(arguments);
    options.isolation = SERVICE_ISOLATION;
    options.on_state = on_state;
    options.on_exit = on_exit_of_worker;
    options.on_event = on_event;
    options.ctx = &host;
    return options;
}

static void service_begin(const sr_service_options *options) {
    assert_ok(sr_service_open(host.supervisor, options, &host.service));
}

static void host_begin_with(const sr_service_options *options) {
    supervisor_begin(16);
    service_begin(options);
    UNTIL(host.changes[SR_SERVICE_READY] > 0);
}

static void host_begin(void) {
    const sr_service_options options = serving(NULL);
    host_begin_with(&options);
}

static void host_end(void) {
    assert_ok(sr_service_close(&host.service));
    cr_assert_null(host.service);
    assert_ok(sr_supervisor_close(&host.supervisor));
    cr_assert_null(host.supervisor);
    ring_end(&host.ring);
}

/* ---- calls ------------------------------------------------------------------------------------
 */

struct outcome {
    uint32_t count;
    sr_answer answer; /* its data is gone */
    uint64_t data_bytes;
};

static void on_answer(sr_service *service, const sr_answer *answer, void *ctx) {
    struct outcome *outcome = ctx;
    cr_assert(service == host.service);
    outcome->count++;
    outcome->answer = *answer;
    outcome->data_bytes = answer->data_bytes;
    host.answers++;
}

static sr_service_request request_for(const char *name, const void *data, uint64_t data_bytes,
                                      struct outcome *outcome) {
    sr_service_request request = SR_SERVICE_REQUEST_INIT;
    *outcome = (struct outcome){0};
    assert_ok(sr_service_method(host.service, name, &request.method));
    request.data = data;
    request.data_bytes = data_bytes;
    request.on_answer = on_answer;
    request.ctx = outcome;
    return request;
}

static void call_with(const char *name, const void *data, uint64_t data_bytes,
                      struct outcome *outcome) {
    const sr_service_request request = request_for(name, data, data_bytes, outcome);
    assert_ok(sr_service_call(host.service, &request, NULL));
}

static int64_t answer_of(const char *name) {
    struct outcome outcome;
    call_with(name, NULL, 0, &outcome);
    UNTIL(outcome.count > 0);
    cr_assert_eq(outcome.answer.source, SR_ANSWER_METHOD);
    return outcome.answer.result;
}

static void assert_lost(const struct outcome *outcome, int code) {
    cr_assert_eq(outcome->count, 1);
    cr_assert_eq(outcome->answer.source, SR_ANSWER_CHANNEL);
    assert_code((int)outcome->answer.result, code);
}

/* ---- work -------------------------------------------------------------------------------------
 */

Test(supervisor, a_worker_is_started_and_answers) {
    struct outcome outcome;
    host_begin();
    call_with("echo", "hello", 5, &outcome);
    UNTIL(outcome.count > 0);
    cr_assert_eq(outcome.answer.source, SR_ANSWER_METHOD);
    cr_assert_eq(outcome.answer.result, 5);
    cr_assert_eq(outcome.data_bytes, 5);
    sr_worker_info info;
    UNTIL(sr_service_workers(host.service, &info, 1) == 1 && info.pid != 0);
    cr_assert_eq(info.state, SR_WORKER_READY);
    cr_assert_eq(info.pid, answer_of("pid"));
    cr_assert_eq(info.answers, 1);
    const uint64_t three = 3;
    call_with("tell", &three, sizeof three, &outcome);
    UNTIL(outcome.count > 0);
    cr_assert_eq(host.events, 3);
    cr_assert_eq(stats_of().events, 3);
    host_end();
    cr_assert_eq(host.exit_count, 1);
    cr_assert_eq(host.exits[0].cause, SR_WORKER_ASKED);
    cr_assert_eq(host.exits[0].end, SR_WORKER_EXITED);
    cr_assert_eq(host.exits[0].status, 0);
    cr_assert_eq(host.exits[0].answers, 3);
}

Test(supervisor, calls_of_all_payload_sizes_go_through) {
    static unsigned char bytes[300000];
    struct outcome outcome;
    host_begin();
    for (uint64_t size = 0; size <= sizeof bytes; size = size * 7 + 1) {
        call_with("echo", bytes, size, &outcome);
        UNTIL(outcome.count > 0);
        cr_assert_eq(outcome.data_bytes, size);
    }
    host_end();
}

Test(supervisor, a_method_is_known_when_a_worker_is_ready_and_by_its_name) {
    const sr_service_options options = serving(NULL);
    uint32_t method = 1;
    uint32_t again = 0;
    supervisor_begin(2);
    service_begin(&options);
    assert_code(sr_service_method(host.service, "echo", &method), SR_E_STATE);
    cr_assert_eq(method, 0);
    UNTIL(host.changes[SR_SERVICE_READY] > 0);
    assert_code(sr_service_method(host.service, "no such method", &method), -ENOENT);
    assert_ok(sr_service_method(host.service, "add", &method));
    assert_ok(sr_service_method(host.service, "echo", &again));
    cr_assert_neq(method, again);
    assert_ok(sr_service_method(host.service, "add", &again));
    cr_assert_eq(method, again);
    host_end();
}

Test(supervisor, several_workers_share_the_calls_and_more_wait) {
    enum { CALLS = 64 };
    static struct outcome outcomes[CALLS];
    sr_service_options options = serving(NULL);
    options.workers = 4;
    options.calls_per_worker = 2;
    options.calls_max = CALLS;
    host_begin_with(&options);
    UNTIL(stats_of().workers_ready == 4);
    for (uint32_t i = 0; i < CALLS; i++) {
        call_with("pid", NULL, 0, &outcomes[i]);
    }
    cr_assert_eq(stats_of().calls_in_flight, CALLS);
    cr_assert_eq(stats_of().calls_waiting, CALLS - 8);
    struct outcome more;
    const sr_service_request request = request_for("pid", NULL, 0, &more);
    assert_code(sr_service_call(host.service, &request, NULL), SR_E_FULL);
    UNTIL(host.answers == CALLS);
    sr_worker_info infos[8];
    cr_assert_eq(sr_service_workers(host.service, infos, 8), 4);
    uint64_t answers = 0;
    for (uint32_t i = 0; i < 4; i++) {
        cr_assert_gt(infos[i].answers, 0, "worker %u had nothing to do", i);
        answers += infos[i].answers;
    }
    cr_assert_eq(answers, CALLS);
    host_end();
}

/* ---- ends -------------------------------------------------------------------------------------
 */

Test(supervisor, a_crash_is_an_answer_and_the_next_worker_goes_on) {
    struct outcome crash;
    struct outcome behind;
    host_begin();
    const int64_t first = answer_of("pid");
    sr_service_request request = request_for("crash", "1234", 4, &crash);
    request.tag = 77;
    assert_ok(sr_service_call(host.service, &request, NULL));
    call_with("echo", NULL, 0, &behind); /* has the same worker, and goes with it */
    UNTIL(crash.count > 0 && behind.count > 0);
    assert_lost(&crash, SR_E_PEER_DIED);
    assert_lost(&behind, SR_E_PEER_DIED);
    cr_assert_neq(answer_of("pid"), first);
    UNTIL(host.exit_count == 1);
    const sr_worker_exit *exit = &host.exits[0];
    cr_assert_eq(exit->cause, SR_WORKER_BY_ITSELF);
    cr_assert_eq(exit->end, SR_WORKER_KILLED);
    cr_assert_eq(exit->status, SIGSEGV);
    cr_assert_eq(exit->pid, first);
    cr_assert_eq(exit->call_tag, 77);
    cr_assert_eq(exit->call_bytes, 4);
    cr_assert_str_eq(host.exit_methods[0], "crash");
    cr_assert_eq(exit->calls_lost, 2);
    cr_assert_eq(exit->answers, 1);
    cr_assert_eq(stats_of().restarts, 1);
    cr_assert_eq(host.changes[SR_SERVICE_READY], 1, "a restart is no news");
    host_end();
}

Test(supervisor, exit_codes_are_told_also_where_sigchld_is_ignored) {
    struct outcome outcome;
    (void)signal(SIGCHLD, SIG_IGN);
    host_begin();
    call_with("leave", NULL, 0, &outcome);
    UNTIL(outcome.count > 0 && host.exit_count > 0);
    assert_lost(&outcome, SR_E_PEER_DIED);
    cr_assert_eq(host.exits[0].end, SR_WORKER_EXITED);
    cr_assert_eq(host.exits[0].status, 7);
    (void)answer_of("pid");
    host_end();
    (void)signal(SIGCHLD, SIG_DFL);
}

Test(supervisor, a_worker_that_is_killed_while_idle_is_replaced) {
    host_begin();
    const pid_t first = (pid_t)answer_of("pid");
    cr_assert_eq(kill(first, SIGKILL), 0);
    UNTIL(host.exit_count == 1);
    cr_assert_eq(host.exits[0].status, SIGKILL);
    cr_assert_eq(host.exits[0].cause, SR_WORKER_BY_ITSELF);
    cr_assert_str_eq(host.exit_methods[0], "");
    cr_assert_eq(host.exits[0].calls_lost, 0);
    cr_assert_neq(answer_of("pid"), first);
    host_end();
}

Test(supervisor, a_spare_takes_over) {
    struct outcome outcome;
    sr_service_options options = serving(NULL);
    sr_worker_info infos[2];
    options.spares = 1;
    host_begin_with(&options);
    UNTIL(stats_of().workers_ready == 2 && sr_service_workers(host.service, infos, 2) == 2 &&
          infos[0].pid != 0 && infos[1].pid != 0);
    cr_assert_eq(infos[0].is_spare + infos[1].is_spare, 1);
    const int32_t spare = infos[0].is_spare != 0 ? infos[0].pid : infos[1].pid;
    cr_assert_neq(answer_of("pid"), spare);
    call_with("crash", NULL, 0, &outcome);
    UNTIL(outcome.count > 0);
    cr_assert_eq(answer_of("pid"), spare);
    UNTIL(stats_of().workers_ready == 2);
    host_end();
}

Test(supervisor, a_call_of_an_idempotent_method_is_tried_again) {
    static const char *const names[] = {"pause", "tell", NULL};
    sr_service_options options = serving(NULL);
    struct outcome outcome;
    const uint32_t long_ms = 60000;
    options.idempotent = names;
    host_begin_with(&options);
    const pid_t first = (pid_t)answer_of("pid");
    struct outcome behind;
    call_with("pause", &long_ms, sizeof long_ms, &outcome);
    call_with("pause", &long_ms, sizeof long_ms, &behind);
    look();
    cr_assert_eq(kill(first, SIGKILL), 0);
    UNTIL(stats_of().retries == 2);
    cr_assert_eq(outcome.count, 0);
    /* Three workers may have it, then it is lost. */
    for (uint32_t tries = 2; tries <= 3; tries++) {
        sr_worker_info info;
        UNTIL(sr_service_workers(host.service, &info, 1) == 1 && info.state == SR_WORKER_READY &&
              info.calls > 0 && info.pid != 0);
        cr_assert_eq(kill(info.pid, SIGKILL), 0);
        UNTIL(host.exit_count == tries);
    }
    UNTIL(outcome.count > 0);
    assert_lost(&outcome, SR_E_PEER_DIED);
    assert_lost(&behind, SR_E_PEER_DIED);
    host_end();
}

Test(supervisor, a_call_whose_deadline_passes_takes_its_worker_along) {
    struct outcome stuck;
    struct outcome behind;
    const uint32_t long_ms = 60000;
    host_begin();
    sr_service_request request = request_for("pause", &long_ms, sizeof long_ms, &stuck);
    request.deadline_ns = 50 * MS;
    assert_ok(sr_service_call(host.service, &request, NULL));
    call_with("echo", NULL, 0, &behind);
    UNTIL(stuck.count > 0 && behind.count > 0);
    assert_lost(&stuck, SR_E_TIMEOUT);
    assert_lost(&behind, SR_E_PEER_DIED);
    UNTIL(host.exit_count == 1);
    cr_assert_eq(host.exits[0].cause, SR_WORKER_STUCK);
    cr_assert_eq(host.exits[0].status, SIGKILL);
    cr_assert_str_eq(host.exit_methods[0], "pause");
    cr_assert_eq(stats_of().kills_stuck, 1);
    (void)answer_of("pid");
    host_end();
}

Test(supervisor, a_deadline_of_a_call_that_does_not_run_yet_ends_the_call_alone) {
    struct outcome first;
    struct outcome second;
    const uint32_t ms = 500;
    host_begin();
    call_with("pause", &ms, sizeof ms, &first);
    sr_service_request request = request_for("echo", NULL, 0, &second);
    request.deadline_ns = 20 * MS;
    assert_ok(sr_service_call(host.service, &request, NULL));
    UNTIL(second.count > 0);
    assert_lost(&second, SR_E_TIMEOUT);
    UNTIL(first.count > 0);
    cr_assert_eq(first.answer.result, 500);
    cr_assert_eq(host.exit_count, 0);
    (void)answer_of("pid"); /* the late answer of the second is dropped on the way */
    host_end();
}

Test(supervisor, a_cancelled_call_is_answered_and_its_worker_goes_on) {
    struct outcome waits;
    struct outcome has_worker;
    const uint32_t ms = 30;
    sr_call calls[2];
    sr_service_options options = serving(NULL);
    options.calls_per_worker = 1;
    host_begin_with(&options);
    sr_service_request request = request_for("pause", &ms, sizeof ms, &has_worker);
    assert_ok(sr_service_call(host.service, &request, &calls[0]));
    request = request_for("pause", &ms, sizeof ms, &waits);
    assert_ok(sr_service_call(host.service, &request, &calls[1]));
    cr_assert_eq(stats_of().calls_waiting, 1);
    assert_ok(sr_service_cancel(host.service, calls[0]));
    assert_ok(sr_service_cancel(host.service, calls[1]));
    UNTIL(waits.count > 0 && has_worker.count > 0);
    assert_lost(&waits, -ECANCELED);
    assert_lost(&has_worker, -ECANCELED);
    assert_code(sr_service_cancel(host.service, calls[0]), SR_E_STALE);
    (void)answer_of("pid");
    cr_assert_eq(host.exit_count, 0);
    host_end();
}

Test(supervisor, a_worker_that_does_not_go_on_is_found_without_a_call) {
    struct outcome outcome;
    const uint32_t long_ms = 1100;
    sr_service_options options = serving(NULL);
    options.heartbeat_ns = 500 * MS;
    host_begin_with(&options);
    const pid_t first = (pid_t)answer_of("pid");
    call_with("pause", &long_ms, sizeof long_ms, &outcome); /* beats are not asked for meanwhile */
    UNTIL(outcome.count > 0);
    cr_assert_eq(outcome.answer.source, SR_ANSWER_METHOD);
    UNTIL(stats_of().heartbeats >= 2);
    cr_assert_eq(host.exit_count, 0);
    cr_assert_eq(kill(first, SIGSTOP), 0);
    UNTIL(host.exit_count == 1);
    cr_assert_eq(host.exits[0].cause, SR_WORKER_STUCK);
    cr_assert_eq(host.exits[0].status, SIGKILL);
    cr_assert_str_eq(host.exit_methods[0], "");
    cr_assert_eq(host.exits[0].answers, 2, "a heartbeat is no answer of a method");
    cr_assert_neq(answer_of("pid"), first);
    host_end();
}

/* ---- workers that never work ------------------------------------------------------------------
 */

/* A service of such workers goes down, fails its calls at once, and is revived by a reload. */
static void goes_down(const char *how, enum sr_worker_cause cause, int code) {
    const char *const bad[] = {"1", how, NULL};
    sr_service_options options = serving(bad);
    supervisor_begin(2);
    options.restarts_max = 2;
    options.backoff_first_ns = MS;
    if (cause == SR_WORKER_NOT_READY) { /* the others say enough before */
        options.start_timeout_ns = 100 * MS;
    }
    service_begin(&options);
    UNTIL(host.changes[SR_SERVICE_WENT_DOWN] > 0);
    assert_code(host.code, SR_E_WORKER_DOWN);
    UNTIL(stats_of().workers == 0 && host.exit_count >= 3);
    cr_assert_eq(host.exit_count, 3, "%u", host.exit_count);
    for (uint32_t i = 0; i < 3; i++) {
        cr_assert_eq(host.exits[i].cause, cause, "%u", host.exits[i].cause);
        assert_code(host.exits[i].code, code);
    }
    cr_assert_eq(stats_of().state, SR_SERVICE_DOWN);
    cr_assert_eq(stats_of().workers, 0);
    /* Nothing is left to do: a wait finds nothing until its time is over. */
    const sr_service_stats before = stats_of();
    const sr_completion *completions = NULL;
    assert_code(sr_ring_wait(host.ring, 1, 50 * MS, NULL, &completions), SR_E_TIMEOUT);
    cr_assert_eq(stats_of().starts, before.starts);
    const sr_service_request request = SR_SERVICE_REQUEST_INIT;
    assert_code(sr_service_call(host.service, &request, NULL), SR_E_BOUNDS);
    misuse_forget();
    const char *const good[] = {"2", NULL};
    options = serving(good);
    assert_ok(sr_service_reload(host.service, &options));
    UNTIL(host.changes[SR_SERVICE_READY] > 0);
    cr_assert_eq(answer_of("version"), 2);
    cr_assert_eq(stats_of().version, 2);
    host_end();
}

Test(supervisor, workers_that_exit_at_once) {
    goes_down("exit", SR_WORKER_BY_ITSELF, 0);
    cr_assert_eq(host.exits[0].status, 9);
}

Test(supervisor, workers_that_say_nothing) {
    goes_down("silent", SR_WORKER_NOT_READY, SR_E_TIMEOUT);
}

Test(supervisor, workers_that_say_garbage) {
    goes_down("garbage", SR_WORKER_BROKE_PROTOCOL, SR_E_PROTOCOL);
}

Test(supervisor, a_program_that_is_not_there) {
    sr_service_options options = serving(NULL);
    supervisor_begin(2);
    options.program = "/nonexistent/worker";
    options.restarts_max = 0;
    service_begin(&options);
    UNTIL(host.changes[SR_SERVICE_WENT_DOWN] > 0 && host.exit_count > 0);
    cr_assert_eq(host.exit_count, 1);
    cr_assert_eq(host.exits[0].cause, SR_WORKER_NOT_STARTED);
    assert_code(host.exits[0].code, -ENOENT);
    cr_assert_eq(host.exits[0].pid, 0);
    host_end();
}

Test(supervisor, a_storm_ends_and_calls_fail_at_once) {
    static struct outcome outcomes[16];
    struct outcome outcome;
    sr_service_options options = serving(NULL);
    options.restarts_max = 3;
    host_begin_with(&options);
    sr_service_request request = request_for("crash", NULL, 0, &outcome);
    for (uint32_t i = 0; i < 16; i++) {
        outcomes[i] = (struct outcome){0};
        request.ctx = &outcomes[i];
        assert_ok(sr_service_call(host.service, &request, NULL));
        while (outcomes[i].count == 0) {
            turn();
        }
        if (outcomes[i].answer.result == SR_E_WORKER_DOWN ||
            host.changes[SR_SERVICE_WENT_DOWN] > 0) {
            break;
        }
    }
    UNTIL(host.changes[SR_SERVICE_WENT_DOWN] > 0 && host.exit_count >= 4);
    cr_assert_eq(host.exit_count, 4);
    assert_code(sr_service_call(host.service, &request, NULL), SR_E_WORKER_DOWN);
    cr_assert_eq(stats_of().calls_in_flight, 0);
    assert_ok(sr_service_reload(host.service, NULL));
    UNTIL(host.changes[SR_SERVICE_READY] == 2);
    (void)answer_of("pid");
    host_end();
}

Test(supervisor, a_service_that_goes_down_has_answered_everything_before) {
    struct outcome stuck;
    struct outcome behind;
    struct outcome waits;
    const uint32_t long_ms = 60000;
    sr_service_options options = serving(NULL);
    options.restarts_max = 0;
    options.calls_per_worker = 2;
    host_begin_with(&options);
    sr_service_request request = request_for("pause", &long_ms, sizeof long_ms, &stuck);
    request.deadline_ns = 20 * MS;
    assert_ok(sr_service_call(host.service, &request, NULL));
    call_with("echo", NULL, 0, &behind);
    call_with("echo", NULL, 0, &waits);
    UNTIL(host.changes[SR_SERVICE_WENT_DOWN] > 0);
    assert_lost(&stuck, SR_E_TIMEOUT);
    assert_lost(&behind, SR_E_PEER_DIED);
    assert_lost(&waits, SR_E_WORKER_DOWN);
    host_end();
}

/* ---- reload -----------------------------------------------------------------------------------
 */

struct load {
    uint64_t wanted;
    uint64_t made;
    uint64_t answered;
    uint32_t method;
    uint8_t versions[100000]; /* that answered, by call */
};

static struct load load;

static void call_more(void);

static void on_version(sr_service *service, const sr_answer *answer, void *ctx) {
    (void)service;
    (void)ctx;
    cr_assert_eq(answer->source, SR_ANSWER_METHOD, "a call failed: %s",
                 sr_error_name((int)answer->result));
    load.versions[answer->tag % COUNT_OF(load.versions)] = (uint8_t)answer->result;
    load.answered++;
    call_more();
}

static void call_more(void) {
    while (load.made < load.wanted && load.made - load.answered < 8) {
        sr_service_request request = SR_SERVICE_REQUEST_INIT;
        request.method = load.method;
        request.tag = load.made;
        request.on_answer = on_version;
        assert_ok(sr_service_call(host.service, &request, NULL));
        load.made++;
    }
}

/* Answers of two workers come in any order; but no call goes to an older version than the one made
 * before it. */
static void assert_versions_in_order(void) {
    cr_assert_leq(load.answered, COUNT_OF(load.versions));
    for (uint64_t i = 1; i < load.answered; i++) {
        cr_assert_geq(load.versions[i], load.versions[i - 1], "call %zu: version %u after %u",
                      (size_t)i, load.versions[i], load.versions[i - 1]);
    }
}

static void load_begin(uint64_t calls) {
    load = (struct load){.wanted = calls};
    assert_ok(sr_service_method(host.service, "version", &load.method));
    call_more();
}

Test(supervisor, ten_reloads_under_load_fail_no_call) {
    enum { RELOADS = 10 };
    const char *first[] = {"1", NULL};
    const sr_service_options options = serving(first);
    host_begin_with(&options);
    load_begin(scale_count(100000, 2000));
    for (uint32_t version = 2; version <= RELOADS + 1; version++) {
        char number[16];
        const char *const arguments[] = {number, NULL};
        (void)snprintf(number, sizeof number, "%u", version);
        const sr_service_options next = serving(arguments);
        assert_ok(sr_service_reload(host.service, &next));
        assert_code(sr_service_reload(host.service, &next), SR_E_STATE);
        assert_misuse("sr_service_reload", SR_E_STATE);
        const uint64_t answered = load.answered;
        UNTIL(host.changes[SR_SERVICE_RELOADED] == version - 1);
        cr_assert_eq(stats_of().version, version);
        cr_assert(load.answered > answered || load.answered == load.wanted,
                  "nothing was answered meanwhile");
    }
    UNTIL(load.answered == load.wanted);
    assert_versions_in_order();
    cr_assert_eq(answer_of("version"), RELOADS + 1);
    UNTIL(host.exit_count == RELOADS);
    for (uint32_t i = 0; i < RELOADS; i++) {
        cr_assert_eq(host.exits[i].cause, SR_WORKER_ASKED);
        cr_assert_eq(host.exits[i].status, 0);
        cr_assert_eq(host.exits[i].version, i + 1);
    }
    host_end();
}

/* Not at the end of some time: there is none here. */
Test(supervisor, an_old_worker_ends_with_its_last_call_answered_or_cancelled) {
    struct outcome outcome;
    const uint32_t ms = 100;
    sr_call call;
    sr_service_options options = serving(NULL);
    options.stop_timeout_ns = SR_FOREVER;
    host_begin_with(&options);
    for (uint32_t round = 1; round <= 2; round++) {
        const sr_service_request request = request_for("pause", &ms, sizeof ms, &outcome);
        assert_ok(sr_service_call(host.service, &request, &call));
        assert_ok(sr_service_reload(host.service, NULL));
        UNTIL(host.changes[SR_SERVICE_READY] == round + 1); /* of the new one: the old one drains */
        if (round == 2 && outcome.count == 0) {
            assert_ok(sr_service_cancel(host.service, call));
        }
        UNTIL(host.changes[SR_SERVICE_RELOADED] == round && host.exit_count == round);
        cr_assert_eq(outcome.count, 1);
        cr_assert_eq(host.exits[round - 1].cause, SR_WORKER_ASKED);
        cr_assert_eq(host.exits[round - 1].status, 0);
    }
    host_end();
}

Test(supervisor, a_reload_that_fails_changes_nothing) {
    const char *const good[] = {"1", NULL};
    const char *const bad[] = {"2", "exit", NULL};
    const sr_service_options options = serving(good);
    host_begin_with(&options);
    const sr_service_options next = serving(bad);
    assert_ok(sr_service_reload(host.service, &next));
    UNTIL(host.changes[SR_SERVICE_RELOAD_FAILED] == 1);
    cr_assert_eq(host.version, 1);
    cr_assert_eq(answer_of("version"), 1);
    cr_assert_eq(stats_of().version, 1);
    const char *const third[] = {"3", NULL};
    const sr_service_options after = serving(third);
    assert_ok(sr_service_reload(host.service, &after));
    UNTIL(host.changes[SR_SERVICE_RELOADED] == 1);
    cr_assert_eq(answer_of("version"), 3);
    cr_assert_eq(stats_of().version, 3, "numbers are never used again");
    host_end();
}

Test(supervisor, a_worker_is_recycled_without_losing_a_call) {
    sr_service_options options = serving(NULL);
    options.recycle_answers = 50;
    host_begin_with(&options);
    load_begin(UINT64_MAX);
    UNTIL(host.exit_count >= 2); /* a new process takes as long as hundreds of calls */
    load.wanted = load.made;
    UNTIL(load.answered == load.wanted);
    cr_assert_geq(stats_of().recycled, 2);
    cr_assert_eq(host.exits[0].cause, SR_WORKER_ASKED);
    cr_assert_geq(host.exits[0].answers, 50);
    cr_assert_eq(stats_of().ends_unasked, 0);
    host_end();
}

/* ---- closing, and what goes wrong around it ---------------------------------------------------
 */

Test(supervisor, closing_answers_every_call) {
    struct outcome has_worker;
    struct outcome waits;
    const uint32_t long_ms = 60000;
    sr_service_options options = serving(NULL);
    options.calls_per_worker = 1;
    options.stop_timeout_ns = 50 * MS;
    host_begin_with(&options);
    call_with("pause", &long_ms, sizeof long_ms, &has_worker);
    call_with("pause", &long_ms, sizeof long_ms, &waits);
    look(); /* it is sent */
    host_end();
    assert_lost(&has_worker, -ECANCELED);
    assert_lost(&waits, -ECANCELED);
    cr_assert_eq(host.exit_count, 1);
    cr_assert_eq(host.exits[0].cause, SR_WORKER_ASKED);
    /* It did not listen, unless memory told it of the end before the call. */
    cr_assert(host.exits[0].status == SIGKILL ||
              (SERVICE_ISOLATION != SR_ISOLATION_FULL && host.exits[0].status == 0));
}

Test(supervisor, a_worker_that_stays_is_killed) {
    const char *const arguments[] = {"1", "stays", NULL};
    sr_service_options options = serving(arguments);
    options.stop_timeout_ns = 50 * MS;
    host_begin_with(&options);
    host_end();
    cr_assert_eq(host.exits[0].status, SIGKILL);
}

Test(supervisor, closing_before_a_worker_has_started) {
    /* Its hello may be there when its start is told, if it says one. */
    const char *const arguments[] = {"1", "silent", NULL};
    sr_service_options options = serving(NULL);
    supervisor_begin(4);
    service_begin(&options);
    assert_ok(sr_service_close(&host.service));
    cr_assert_eq(host.exit_count, 0);
    options = serving(arguments);
    options.stop_timeout_ns = 50 * MS;
    service_begin(&options);
    UNTIL(stats_of().starts == 1);
    host_end();
    cr_assert_eq(host.changes[SR_SERVICE_READY], 0);
    cr_assert_eq(host.exit_count, 1);
    cr_assert_eq(host.exits[0].cause, SR_WORKER_ASKED);
}

Test(supervisor, a_supervisor_with_services_and_a_ring_with_a_supervisor_stay) {
    host_begin();
    assert_code(sr_supervisor_close(&host.supervisor), SR_E_STATE);
    assert_misuse("sr_supervisor_close", SR_E_STATE);
    assert_code(sr_ring_destroy(&host.ring), SR_E_STATE);
    assert_misuse("sr_ring_destroy", SR_E_STATE);
    (void)answer_of("pid");
    host_end();
}

Test(supervisor, a_launcher_that_is_killed_is_replaced) {
    struct outcome outcome;
    const uint32_t long_ms = 60000;
    host_begin();
    const int64_t first = answer_of("pid");
    call_with("pause", &long_ms, sizeof long_ms, &outcome);
    look();
    cr_assert_eq(kill(launch_parent_of((int32_t)first), SIGKILL), 0);
    UNTIL(outcome.count > 0 && host.exit_count > 0);
    assert_lost(&outcome, SR_E_PEER_DIED);
    cr_assert_eq(host.exits[0].cause, SR_WORKER_LAUNCHER_LOST);
    cr_assert_eq(host.exits[0].end, SR_WORKER_END_UNKNOWN);
    cr_assert_neq(answer_of("pid"), first);
    host_end();
}

Test(supervisor, several_services_of_one_supervisor) {
    enum { SERVICES = 4 };
    sr_service *services[SERVICES];
    const char *const arguments[] = {"5", NULL};
    sr_service_options options = serving(arguments);
    options.on_state = NULL;
    options.on_exit = NULL;
    supervisor_begin(2 * SERVICES);
    for (uint32_t i = 0; i < SERVICES; i++) {
        assert_ok(sr_service_open(host.supervisor, &options, &services[i]));
    }
    sr_service *none = NULL;
    assert_code(sr_service_open(host.supervisor, &options, &none), SR_E_FULL);
    cr_assert_null(none);
    for (uint32_t i = 0; i < SERVICES; i++) {
        host.service = services[i];
        UNTIL(stats_of().workers_ready == 1);
        cr_assert_eq(answer_of("version"), 5);
    }
    for (uint32_t i = 0; i < SERVICES; i++) {
        host.service = services[i];
        assert_ok(sr_service_close(&host.service));
    }
    assert_ok(sr_supervisor_close(&host.supervisor));
    ring_end(&host.ring);
}

Test(supervisor, options_out_of_range_are_refused) {
    sr_service_options options;
    sr_service *service = NULL;
    supervisor_begin(2);
#define REFUSED(field, value, code)                                                                \
    do {                                                                                           \
        options = serving(NULL);                                                                   \
        options.field = (value);                                                                   \
        assert_code(sr_service_open(host.supervisor, &options, &service), code);                   \
        cr_assert_null(service);                                                                   \
    } while (0)
    REFUSED(workers, 0, SR_E_BOUNDS);
    REFUSED(workers, SR_SERVICE_WORKERS_MAX + 1, SR_E_BOUNDS);
    REFUSED(calls_max, 0, SR_E_BOUNDS);
    REFUSED(calls_per_worker, 0, SR_E_BOUNDS);
    REFUSED(calls_max, 65537, SR_E_BOUNDS);
    REFUSED(restarts_max, 1001, SR_E_BOUNDS);
    REFUSED(workers, 2, SR_E_FULL);
    REFUSED(program, NULL, -EINVAL);
    REFUSED(program, "relative", -EINVAL);
    static const char *const no_value[] = {"NAME", NULL};
    static const char *const ours[] = {"SAFERING_WORKER_SOCKET=9", NULL};
    REFUSED(variables, no_value, -EINVAL);
    REFUSED(variables, ours, -EINVAL);
    assert_ok(sr_supervisor_close(&host.supervisor));
    ring_end(&host.ring);
}

Test(supervisor, nothing_is_left_behind) {
    static struct baseline before;
    host_begin();
    host_end();
    baseline_take(&before);
    for (uint32_t i = 0; i < 5; i++) {
        struct outcome outcome;
        host_begin();
        call_with("crash", NULL, 0, &outcome);
        UNTIL(outcome.count > 0);
        host_end();
    }
    const char *difference = baseline_difference(&before);
    cr_assert_null(difference, "%s", difference);
}

/* A child that was forked frees its copies and disturbs nobody. */
Test(supervisor, a_forked_child_frees_its_copy) {
    host_begin();
    const int64_t first = answer_of("pid");
    (void)fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        int wrong = 0;
        wrong += sr_service_close(&host.service) != SR_E_STATE;
        wrong += sr_ring_destroy(&host.ring) != 0;
        wrong += sr_service_close(&host.service) != 0;
        wrong += sr_supervisor_close(&host.supervisor) != 0;
        _exit(wrong);
    }
    int status = 0;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%#x", status);
    cr_assert_eq(answer_of("pid"), first);
    host_end();
}
