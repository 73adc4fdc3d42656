/* SPDX-License-Identifier: MIT */
/* Services whose workers are killed at random moments, and when what the library needs is refused.
 */
#include "support/baseline.h"
#include "support/failing.h"
#include "support/scale.h"
#include "unit/service_host.h"

#include <signal.h>
#include <stdlib.h>

#define IN_FLIGHT 64u
#define WORKERS   3u

TestSuite(supervisor, .timeout = 120);

static struct load {
    uint64_t begun;
    uint64_t told;
    uint64_t by_method;
    uint8_t is_out[IN_FLIGHT]; /* by tag % IN_FLIGHT: a call that has no answer yet */
    uint32_t echo;
    /* From a kill to the next answer, whoever gives it. */
    uint64_t killed_ns;
    uint64_t gaps_ns[10000];
    uint32_t gap_count;
} load;

static void on_answer(sr_service *service, const sr_answer *answer, void *ctx) {
    (void)service;
    (void)ctx;
    load.told++;
    cr_assert_eq(load.is_out[answer->tag % IN_FLIGHT], 1, "a call that had its answer");
    load.is_out[answer->tag % IN_FLIGHT] = 0;
    if (answer->source == SR_ANSWER_METHOD) {
        load.by_method++;
        cr_assert_eq(answer->result, (int64_t)answer->data_bytes);
        if (load.killed_ns != 0 && load.gap_count < COUNT_OF(load.gaps_ns)) {
            load.gaps_ns[load.gap_count++] = now_ns() - load.killed_ns;
            load.killed_ns = 0;
        }
    }
}

static sr_service_options options_of_all(void) {
    sr_service_options options = host_serving(NULL);
    options.workers = WORKERS;
    options.calls_max = IN_FLIGHT;
    options.restarts_window_ns = 0; /* no two ends are within it: never down */
    options.backoff_first_ns = 0;
    return options;
}

/* As many calls as are not out, of random sizes. Returns the first code that is not 0. */
static int call_more(struct scale_random *random) {
    static unsigned char bytes[100000];
    for (uint32_t i = 0; i < IN_FLIGHT; i++) {
        sr_service_request request = SR_SERVICE_REQUEST_INIT;
        request.tag = load.begun;
        if (load.is_out[request.tag % IN_FLIGHT] != 0) {
            return 0;
        }
        request.method = load.echo;
        request.data = bytes;
        request.data_bytes = scale_random_below(random, 8) == 0
                                 ? scale_random_below(random, sizeof bytes)
                                 : scale_random_below(random, 100);
        request.on_answer = on_answer;
        load.is_out[request.tag % IN_FLIGHT] = 1; /* before: it may be answered in the call */
        const int code = sr_service_call(host.service, &request, NULL);
        if (code < 0) {
            load.is_out[request.tag % IN_FLIGHT] = 0;
            return code;
        }
        load.begun++;
    }
    return 0;
}

static bool wait_for_answers(uint64_t timeout_ns) {
    const sr_completion *completions = NULL;
    const int code = sr_ring_wait(host.ring, 1, timeout_ns, NULL, &completions);
    cr_assert(code == 0 || code == SR_E_TIMEOUT, "%s", sr_error_name(code));
    return code == 0;
}

/* ---- killed -----------------------------------------------------------------------------------
 */

/* Kills one of those that run, unless that has been done and not come out yet. */
static bool kill_one(struct scale_random *random) {
    static uint64_t killed[1024]; /* numbers of workers, by their low bits */
    sr_worker_info infos[2 * WORKERS];
    const int count = sr_service_workers(host.service, infos, 2 * WORKERS);
    if (count == 0) {
        return false; /* all of them have just ended */
    }
    const uint32_t chosen = (uint32_t)scale_random_below(random, (uint64_t)count);
    const uint64_t worker = infos[chosen].worker;
    if (infos[chosen].pid == 0 || infos[chosen].state != SR_WORKER_READY ||
        killed[worker % 1024] == worker) {
        return false;
    }
    killed[worker % 1024] = worker;
    load.killed_ns = now_ns();
    cr_assert_eq(kill(infos[chosen].pid, SIGKILL), 0);
    return true;
}

static void service_begin(void) {
    const sr_service_options options = options_of_all();
    host.changes[SR_SERVICE_READY] = host.changes[SR_SERVICE_WENT_DOWN] = host.exit_count = 0;
    assert_ok(sr_service_open(host.supervisor, &options, &host.service));
    while (host.changes[SR_SERVICE_READY] == 0) {
        (void)wait_for_answers(20 * SECOND);
    }
    assert_ok(sr_service_method(host.service, "echo", &load.echo));
}

static int compare(const void *left, const void *right) {
    const uint64_t a = *(const uint64_t *)left;
    const uint64_t b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

Test(supervisor, workers_killed_at_any_moment_leave_one_answer_per_call_and_nothing_else) {
    static struct baseline before;
    const uint64_t wanted = scale_count(500, 30);
    struct scale_random random = scale_random(1);
    uint64_t kills = 0;
    host.ring = ring_make(NULL);
    host.supervisor = supervisor_make(host.ring);
    service_begin();
    assert_ok(sr_service_close(&host.service));
    baseline_take(&before);
    service_begin();
    while (kills < wanted) {
        assert_ok(call_more(&random));
        const uint64_t until_ns = now_ns() + scale_random_below(&random, 3 * MS);
        while (now_ns() < until_ns) {
            if (wait_for_answers(MS / 10)) {
                assert_ok(call_more(&random));
            }
        }
        kills += kill_one(&random);
    }
    while (load.told < load.begun) {
        (void)wait_for_answers(20 * SECOND);
    }
    sr_service_stats stats = SR_SERVICE_STATS_INIT;
    do { /* the last ones may have been idle when they were killed */
        (void)wait_for_answers(MS);
        assert_ok(sr_service_get_stats(host.service, &stats));
    } while (stats.ends_unasked < kills);
    cr_assert(stats.calls == load.begun && stats.answers + stats.failures == load.begun);
    cr_assert_eq(stats.ends_unasked, kills);
    cr_assert_eq(stats.calls_in_flight, 0);
    cr_assert_eq(host.changes[SR_SERVICE_WENT_DOWN], 0);
    assert_ok(sr_service_close(&host.service));
    cr_assert_eq(host.exit_count, stats.starts);
    const char *difference = baseline_difference(&before);
    cr_assert_null(difference, "%s", difference);
    qsort(load.gaps_ns, load.gap_count, sizeof *load.gaps_ns, compare);
    printf("%zu kills, %zu calls, %zu answered; from kill to next answer: median %zu us, most %zu "
           "us\n",
           (size_t)kills, (size_t)load.begun, (size_t)load.by_method,
           (size_t)(load.gaps_ns[load.gap_count / 2] / 1000),
           (size_t)(load.gaps_ns[load.gap_count - 1] / 1000));
    assert_ok(sr_supervisor_close(&host.supervisor));
    ring_end(&host.ring);
}

/* ---- refused ----------------------------------------------------------------------------------
 */

/* Opens a service, calls, closes; any of it may be refused. Returns whether all of it worked. */
static bool try_service(uint64_t patience_ns) {
    const sr_service_options options = options_of_all();
    struct scale_random random = scale_random(2);
    host.changes[SR_SERVICE_READY] = host.changes[SR_SERVICE_WENT_DOWN] = 0;
    load.begun = load.told = load.by_method = 0;
    memset(load.is_out, 0, sizeof load.is_out);
    int code = sr_service_open(host.supervisor, &options, &host.service);
    const uint64_t until_ns = now_ns() + patience_ns;
    while (code >= 0 && load.by_method < IN_FLIGHT && now_ns() < until_ns) {
        const sr_completion *completions = NULL;
        if (host.changes[SR_SERVICE_READY] > 0) {
            const int called = sr_service_method(host.service, "echo", &load.echo);
            (void)called; /* refused: it is asked again */
            if (called == 0) {
                (void)call_more(&random);
            }
        }
        const int waited = sr_ring_wait(host.ring, 1, MS, NULL, &completions);
        (void)waited;
    }
    const bool worked = load.by_method >= IN_FLIGHT;
    failing_relent();
    assert_ok(sr_service_close(&host.service));
    cr_assert_eq(load.told, load.begun, "%zu calls, %zu answers", (size_t)load.begun,
                 (size_t)load.told);
    return worked;
}

static void refuse_each(bool for_ever) {
    static struct baseline before;
    uint64_t nth = 0;
    uint64_t refused = 0;
    failing_install();
    host.ring = ring_make(NULL);
    host.supervisor = supervisor_make(host.ring);
    cr_assert(try_service(20 * SECOND));
    baseline_take(&before);
    const uint64_t step = scale_factor() < 1 ? 7 : 1;
    for (nth = 1; nth < 120; nth += step) {
        failing_plan(FAILING_ANY, nth, -ENOMEM, for_ever);
        refused += !try_service(for_ever ? 20 * MS : 20 * SECOND);
        const char *difference = baseline_difference(&before);
        cr_assert_null(difference, "call %zu: %s", (size_t)nth, difference);
    }
    cr_assert_gt(failing_injected(), 0);
    cr_assert(!for_ever || refused > 0, "hardly anything was refused");
    assert_ok(sr_supervisor_close(&host.supervisor));
    ring_end(&host.ring);
    cr_assert_null(failing_leak(), "%s", failing_leak());
    failing_remove();
}

Test(supervisor, each_call_of_the_kernel_refused_once_leaks_nothing) {
    refuse_each(false);
}

Test(supervisor, each_call_of_the_kernel_refused_for_ever_leaks_nothing) {
    refuse_each(true);
}

/* What is refused while a supervisor is opened leaves nothing, and the next one opens. */
Test(supervisor, a_supervisor_that_cannot_be_opened_leaves_nothing) {
    static struct baseline before;
    int code = -1;
    failing_install();
    host.ring = ring_make(NULL);
    host.supervisor = supervisor_make(host.ring);
    assert_ok(sr_supervisor_close(&host.supervisor));
    baseline_take(&before);
    for (uint64_t nth = 1; code < 0; nth++) {
        const sr_supervisor_options options = supervisor_options();
        failing_plan(FAILING_ALLOCATE, nth, -ENOMEM, false);
        code = sr_supervisor_open(host.ring, &options, &host.supervisor);
        failing_relent();
        if (code < 0) {
            assert_code(code, -ENOMEM);
            cr_assert_gt(failing_injected(), 0);
            const char *difference = baseline_difference(&before);
            cr_assert_null(difference, "allocation %zu: %s", (size_t)nth, difference);
        }
    }
    assert_ok(sr_supervisor_close(&host.supervisor));
    ring_end(&host.ring);
    cr_assert_null(failing_leak(), "%s", failing_leak());
    failing_remove();
}
