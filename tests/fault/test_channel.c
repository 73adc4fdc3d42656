/* SPDX-License-Identifier: MIT */
/* Channels when the worker is killed at random moments, and when what the library needs is refused.
 */
#include "support/baseline.h"
#include "support/failing.h"
#include "support/scale.h"
#include "support/worker.h"
#include "unit/fixture.h"

#include <signal.h>
#include <sys/socket.h>

#define MS     UINT64_C(1000000)
#define SECOND (1000 * MS)
#define CALLS  256u

TestSuite(channel, .timeout = 120);

struct host {
    bool refused; /* calls of the kernel are: the channel may end for that, too */
    struct worker worker;
    sr_ring *ring;
    sr_channel *channel;
    uint32_t ready_count;
    uint32_t ended_count;
    uint32_t echo;
    uint64_t begun;
    uint64_t told;
    uint8_t told_of[CALLS]; /* by tag */
    uint64_t by_method;
    uint64_t first_ns; /* when the first of these came */
};

static void on_state(sr_channel *channel, int code, void *ctx) {
    struct host *host = ctx;
    (void)channel;
    if (code == 0) {
        host->ready_count++;
        return;
    }
    cr_assert(code == SR_E_PEER_DIED || (host->refused && code == -ENOMEM), "%s",
              sr_error_name(code));
    host->ended_count++;
}

static void on_answer(sr_channel *channel, const sr_answer *answer, void *ctx) {
    struct host *host = ctx;
    (void)channel;
    host->told++;
    host->told_of[answer->tag]++;
    if (answer->source == SR_ANSWER_METHOD) {
        host->by_method++;
        host->first_ns = host->first_ns == 0 ? now_ns() : host->first_ns;
        cr_assert_eq(answer->result, (int64_t)answer->data_bytes);
    } else {
        const bool closed = host->refused && answer->result == -ECANCELED;
        cr_assert(answer->result == SR_E_PEER_DIED || closed ||
                      (host->refused && answer->result == -ENOMEM),
                  "%s", sr_error_name((int)answer->result));
    }
}

/* test_channel_hybrid.c and test_channel_shared.c are this file with another one. */
#ifndef CHANNEL_ISOLATION
#define CHANNEL_ISOLATION SR_ISOLATION_FULL
#endif

static int open_channel(struct host *host) {
    sr_channel_options options = SR_CHANNEL_OPTIONS_INIT;
    options.isolation = CHANNEL_ISOLATION;
    options.calls_max = 16;
    options.on_state = on_state;
    options.ctx = host;
    const int socket = worker_take_socket(&host->worker);
    const int code = sr_channel_open(host->ring, socket, &options, &host->channel);
    if (code < 0) {
        host->worker.socket = socket;
    }
    return code;
}

/* As many calls as fit, of random sizes, up to CALLS in all. */
static void call_more(struct host *host, struct scale_random *random) {
    static unsigned char bytes[200000];
    while (host->begun < CALLS) {
        sr_call_request request = SR_CALL_REQUEST_INIT;
        request.method = host->echo;
        request.data = bytes;
        request.data_bytes = scale_random_below(random, 4) == 0
                                 ? scale_random_below(random, sizeof bytes)
                                 : scale_random_below(random, 100);
        request.tag = host->begun;
        request.on_answer = on_answer;
        request.ctx = host;
        const int code = sr_channel_call(host->channel, &request, NULL);
        if (code == SR_E_FULL) {
            return;
        }
        assert_ok(code);
        host->begun++;
    }
}

/* ---- killed ---------------------------------------------------------------------------------- */

struct killer {
    pid_t pid;
    uint64_t after_ns;
};

static void *kill_later(void *ctx) {
    const struct killer *killer = ctx;
    const struct timespec span = {(time_t)(killer->after_ns / SECOND),
                                  (long)(killer->after_ns % SECOND)};
    (void)nanosleep(&span, NULL);
    (void)kill(killer->pid, SIGKILL);
    return NULL;
}

/* Calls without end until the worker dies of a SIGKILL. Returns calls that its methods answered,
 * and in *out_first_ns, if not NULL, how long the first of them took from the worker's start. */
static uint64_t serve_until_killed(sr_ring *ring, struct scale_random *random, uint64_t after_ns,
                                   uint64_t *out_first_ns) {
    struct host host = {.ring = ring};
    pthread_t thread;
    const uint64_t begin_ns = now_ns();
    worker_start(&host.worker);
    struct killer killer = {host.worker.pid, after_ns};
    cr_assert_eq(pthread_create(&thread, NULL, kill_later, &killer), 0);
    assert_ok(open_channel(&host));
    while (host.ended_count == 0) {
        const sr_completion *completions = NULL;
        assert_ok(sr_ring_wait(ring, 1, 20 * SECOND, NULL, &completions));
        if (host.ready_count > 0 && host.ended_count == 0) {
            if (host.begun == CALLS && host.told == CALLS) { /* it lives long: once more */
                host.begun = host.told = 0;
                memset(host.told_of, 0, sizeof host.told_of);
            }
            assert_ok(sr_channel_method(host.channel, "echo", &host.echo));
            call_more(&host, random);
        }
    }
    cr_assert_eq(host.told, host.begun, "%zu calls, %zu answers", (size_t)host.begun,
                 (size_t)host.told);
    for (uint64_t i = 0; i < host.begun; i++) {
        cr_assert_eq(host.told_of[i], 1, "call %zu: %u answers", (size_t)i, host.told_of[i]);
    }
    assert_ok(sr_channel_close(&host.channel));
    cr_assert_eq(host.told, host.begun);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    const int status = worker_wait(&host.worker);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%#x", status);
    if (out_first_ns != NULL) {
        cr_assert_neq(host.first_ns, 0, "no answer in %zu ms", (size_t)(after_ns / MS));
        *out_first_ns = host.first_ns - begin_ns;
    }
    return host.by_method;
}

Test(channel, a_worker_killed_at_any_moment_leaves_one_answer_per_call_and_nothing_else) {
    static struct baseline before;
    const uint64_t rounds = scale_count(500, 20);
    struct scale_random random = scale_random(3);
    uint64_t answered = 0;
    sr_ring *ring = ring_make(NULL);
    uint64_t first_ns = 0;
    (void)serve_until_killed(ring, &random, 2 * SECOND, &first_ns);
    baseline_take(&before);
    for (uint64_t round = 0; round < rounds; round++) { /* before, around and after that moment */
        const uint64_t after_ns = scale_random_below(&random, 3 * first_ns);
        answered += serve_until_killed(ring, &random, after_ns, NULL);
    }
    const char *difference = baseline_difference(&before);
    cr_assert_null(difference, "%s", difference);
    cr_assert_gt(answered, 0);
    ring_end(&ring);
    printf("killed %zu times; %zu calls had been answered\n", (size_t)rounds, (size_t)answered);
}

/* ---- refused --------------------------------------------------------------------------------- */

/* Opens, calls, closes; any of it may be refused. Returns whether all of it worked. */
static bool try_all(uint64_t patience_ns) {
    struct host host = {.refused = true};
    struct scale_random random = scale_random(4);
    worker_start(&host.worker);
    int code = sr_ring_create(NULL, &host.ring);
    if (code == 0) {
        code = open_channel(&host);
    }
    const uint64_t until_ns = now_ns() + patience_ns;
    while (code >= 0 && host.ended_count == 0 && host.told < 16 && now_ns() < until_ns) {
        const sr_completion *completions = NULL;
        if (host.ready_count > 0 && host.begun == 0) {
            code = sr_channel_method(host.channel, "echo", &host.echo);
            host.begun = code < 0 ? 0 : CALLS - 16;
        }
        if (host.begun > 0 && host.begun < CALLS) {
            sr_call_request request = SR_CALL_REQUEST_INIT;
            request.method = host.echo;
            request.data = &random;
            request.data_bytes = sizeof random;
            request.tag = host.begun - (CALLS - 16);
            request.on_answer = on_answer;
            request.ctx = &host;
            code = sr_channel_call(host.channel, &request, NULL);
            host.begun += code == 0;
            code = code == -ENOMEM ? 0 : code;
        }
        const bool calls = host.begun > 0 && host.begun < CALLS;
        const int waited = sr_ring_wait(host.ring, calls ? 0 : 1, 20 * MS, NULL, &completions);
        (void)waited; /* whatever it is, it is asked again */
    }
    const bool worked = host.told == 16 && host.by_method == 16;
    failing_relent();
    if (host.channel != NULL) {
        assert_ok(sr_channel_close(&host.channel));
    }
    for (uint32_t i = 0; host.begun > 0 && i < host.begun - (CALLS - 16); i++) {
        cr_assert_eq(host.told_of[i], 1);
    }
    if (host.ring != NULL) {
        ring_end(&host.ring);
    }
    (void)worker_end(&host.worker);
    return worked;
}

static void refuse_each(int code, bool for_ever) {
    static struct baseline before;
    failing_install();
    cr_assert(try_all(20 * SECOND));
    baseline_take(&before);
    uint32_t worked_in_a_row = 0;
    uint64_t nth = 0;
    for (nth = 1; worked_in_a_row < 6 && nth < 400; nth++) {
        failing_plan(FAILING_ANY, nth, code, for_ever);
        const bool worked = try_all(for_ever ? SECOND / 5 : 20 * SECOND);
        worked_in_a_row = worked ? worked_in_a_row + 1 : 0;
        const char *difference = baseline_difference(&before);
        cr_assert_null(difference, "call %zu: %s", (size_t)nth, difference);
    }
    failing_remove();
    cr_assert_gt(nth, 6 + 4, "hardly anything was refused");
    printf("%zu calls refused, %s\n", (size_t)(nth - 6), for_ever ? "for ever" : "once");
}

Test(channel, each_call_of_the_kernel_refused_once_leaks_nothing) {
    refuse_each(-ENOMEM, false);
}

Test(channel, each_call_of_the_kernel_refused_for_ever_leaks_nothing) {
    refuse_each(-ENOMEM, true);
}
