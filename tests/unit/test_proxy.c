/* SPDX-License-Identifier: MIT */
/*
 * Proxies: threads without a ring that call a service. Each case has a host, the ring's owner, and
 * threads that call; assertions are the host's, which looks at what the threads noted.
 */
#include "support/launch.h"
#include "support/scale.h"
#include "unit/service_host.h"

#include <poll.h>
#include <stdatomic.h>

TestSuite(proxy, .timeout = 60);

/* ---- a host -----------------------------------------------------------------------------------
 */

static sr_proxy *proxy;

/* For waits that nothing may end. */
static void turn(uint64_t timeout_ns) {
    const int count = sr_ring_wait(host.ring, 1, timeout_ns, NULL, NULL);
    cr_assert(count >= 0 || count == SR_E_TIMEOUT, "sr_ring_wait: %d", count);
}

static sr_service_options serving(void) {
    sr_service_options options = host_serving(NULL);
    options.stop_timeout_ns = 50 * MS; /* of workers that pause */
    return options;
}

static void proxied_begin_with(const sr_service_options *options, uint32_t calls_max) {
    sr_ring_options ring = SR_RING_OPTIONS_INIT;
    sr_proxy_options proxy_options = SR_PROXY_OPTIONS_INIT;
    ring.inbox_entries = 2;
    proxy_options.calls_max = calls_max;
    host_open(&ring);
    host_open_service(options);
    assert_ok(sr_proxy_open(host.service, &proxy_options, &proxy));
    UNTIL(host.changes[SR_SERVICE_READY] > 0);
}

static void proxied_begin(void) {
    const sr_service_options options = serving();
    proxied_begin_with(&options, 16);
}

static void proxied_end(void) {
    assert_ok(sr_proxy_close(&proxy));
    cr_assert_null(proxy);
    host_end();
    assert_no_misuse();
}

/* ---- a thread that calls once -----------------------------------------------------------------
 */

struct caller {
    pthread_t thread;
    sr_proxy_request request;
    int code;
    sr_proxy_answer answer;
    uint64_t took_ns;
    _Atomic bool done;
};

static void *call_once(void *ctx) {
    struct caller *caller = ctx;
    const uint64_t start_ns = now_ns();
    caller->code = sr_proxy_call(proxy, &caller->request, &caller->answer);
    caller->took_ns = now_ns() - start_ns;
    atomic_store(&caller->done, true);
    return NULL;
}

static void caller_begin(struct caller *caller, const char *name, const void *data,
                         uint64_t data_bytes) {
    *caller = (struct caller){.request = SR_PROXY_REQUEST_INIT};
    caller->request.method = host_method(name);
    caller->request.data = data;
    caller->request.data_bytes = data_bytes;
}

static void caller_start(struct caller *caller) {
    cr_assert_eq(pthread_create(&caller->thread, NULL, call_once, caller), 0);
}

static void caller_join(struct caller *caller) {
    cr_assert_eq(pthread_join(caller->thread, NULL), 0);
}

static void caller_run(struct caller *caller) {
    caller_start(caller);
    while (!atomic_load(&caller->done)) {
        turn(10 * MS);
    }
    caller_join(caller);
}

#define assert_lost(caller, expected)                                                              \
    do {                                                                                           \
        assert_ok((caller)->code);                                                                 \
        cr_assert_eq((caller)->answer.source, SR_ANSWER_CHANNEL);                                  \
        assert_code((caller)->answer.result, expected);                                            \
        cr_assert_null((caller)->answer.data);                                                     \
    } while (0)

/* ---- answers ----------------------------------------------------------------------------------
 */

Test(proxy, an_answer_goes_into_the_room_or_into_memory_of_its_own) {
    struct caller caller;
    char room[8];
    proxied_begin();
    caller_begin(&caller, "echo", "12345678", 8);
    caller.request.room = room;
    caller.request.room_bytes = sizeof room;
    caller_run(&caller);
    assert_ok(caller.code);
    cr_assert_eq(caller.answer.source, SR_ANSWER_METHOD);
    cr_assert_eq(caller.answer.result, 8);
    cr_assert_eq(caller.answer.data, room);
    cr_assert_eq(caller.answer.owned, 0);
    cr_assert_eq(memcmp(room, "12345678", 8), 0);
    sr_proxy_answer_release(&caller.answer);
    cr_assert_null(caller.answer.data);

    caller.request.room_bytes = sizeof room - 1;
    caller.done = false;
    caller_run(&caller);
    cr_assert_eq(caller.answer.owned, 1);
    cr_assert_eq(caller.answer.data_bytes, 8);
    cr_assert_eq(memcmp(caller.answer.data, "12345678", 8), 0);
    sr_proxy_answer_release(&caller.answer);
    sr_proxy_answer_release(&caller.answer);

    caller_begin(&caller, "echo", NULL, 0);
    caller_run(&caller);
    cr_assert_eq(caller.answer.result, 0);
    cr_assert_null(caller.answer.data);
    proxied_end();
}

struct worker_thread {
    pthread_t thread;
    uint32_t number;
    uint32_t echo;
    uint32_t wrong;
    uint64_t full;
    uint64_t calls;
    _Atomic uint32_t *left;
};

/* Each answer says what was called: nobody gets another one's. */
static void *call_often(void *ctx) {
    struct worker_thread *self = ctx;
    for (uint64_t i = 0; i < self->calls;) {
        uint64_t words[40];
        uint64_t room[20];
        const uint64_t count = 1 + i % 40;
        sr_proxy_request request = SR_PROXY_REQUEST_INIT;
        sr_proxy_answer answer;
        for (uint64_t w = 0; w < count; w++) {
            words[w] = (uint64_t)self->number << 32 | (i + w);
        }
        request.method = self->echo;
        request.data = words;
        request.data_bytes = count * sizeof *words;
        request.room = room;
        request.room_bytes = sizeof room;
        const int code = sr_proxy_call(proxy, &request, &answer);
        if (code == SR_E_FULL) {
            self->full++;
            continue;
        }
        self->wrong += code != 0 || answer.source != SR_ANSWER_METHOD ||
                       answer.data_bytes != request.data_bytes ||
                       memcmp(answer.data, words, answer.data_bytes) != 0 ||
                       answer.owned != (answer.data_bytes > sizeof room);
        sr_proxy_answer_release(&answer);
        i++;
    }
    atomic_fetch_sub(self->left, 1);
    return NULL;
}

static void call_from_threads(uint32_t threads, uint32_t workers, uint32_t isolation,
                              uint32_t calls_max) {
    struct worker_thread list[8];
    sr_service_options options = serving();
    _Atomic uint32_t left = threads;
    options.workers = workers;
    options.isolation = isolation;
    proxied_begin_with(&options, calls_max);
    for (uint32_t i = 0; i < threads; i++) {
        list[i] = (struct worker_thread){
            .number = i, .echo = host_method("echo"), .calls = scale_count(500, 50), .left = &left};
        cr_assert_eq(pthread_create(&list[i].thread, NULL, call_often, &list[i]), 0);
    }
    while (atomic_load(&left) > 0) {
        turn(10 * MS);
    }
    for (uint32_t i = 0; i < threads; i++) {
        cr_assert_eq(pthread_join(list[i].thread, NULL), 0);
        cr_assert_eq(list[i].wrong, 0);
        cr_assert(calls_max >= threads ? list[i].full == 0 : true, "there is room for all");
    }
    proxied_end();
}

Test(proxy, threads_call_through_one_proxy) {
    call_from_threads(4, 1, SR_ISOLATION_FULL, 4);
}

Test(proxy, threads_share_lanes_of_two_workers) {
    call_from_threads(4, 2, SR_ISOLATION_HYBRID, 4);
}

Test(proxy, more_threads_than_slots_are_refused_and_lose_nothing) {
    call_from_threads(6, 1, SR_ISOLATION_SHARED, 2);
}

/* ---- waking -----------------------------------------------------------------------------------
 */

Test(proxy, an_owner_that_sleeps_for_ever_is_woken) {
    struct caller caller;
    proxied_begin();
    caller_begin(&caller, "echo", "a", 1);
    for (uint64_t i = 0; i < 20; i++) {
        caller_start(&caller);
        while (host_stats().answers == i) {
            const int count = sr_ring_wait(host.ring, 1, SR_FOREVER, NULL, NULL);
            cr_assert_geq(count, 0, "sr_ring_wait: %d", count);
        }
        caller_join(&caller);
        cr_assert_eq(caller.answer.result, 1);
        sr_proxy_answer_release(&caller.answer);
    }
    proxied_end();
}

Test(proxy, an_owner_in_an_event_loop_is_woken) {
    struct caller caller;
    int event_fd = -1;
    proxied_begin();
    assert_ok(sr_ring_event_fd(host.ring, &event_fd));
    caller_begin(&caller, "echo", "a", 1);
    for (uint64_t i = 0; i < 20; i++) {
        caller_start(&caller);
        while (host_stats().answers == i) {
            struct pollfd event = {.fd = event_fd, .events = POLLIN};
            uint64_t left_ns = 0;
            assert_ok(sr_ring_next_deadline_ns(host.ring, &left_ns));
            const uint64_t patience_ns = left_ns < 20 * SECOND ? left_ns : 20 * SECOND;
            const uint64_t before_ns = now_ns();
            cr_assert_geq(poll(&event, 1, (int)(patience_ns / MS)), 0);
            cr_assert(now_ns() - before_ns < 15 * SECOND, "nobody woke it");
            cr_assert_geq(sr_ring_dispatch(host.ring, NULL), 0);
        }
        caller_join(&caller);
        cr_assert_eq(caller.answer.result, 1);
        sr_proxy_answer_release(&caller.answer);
    }
    proxied_end();
}

/* ---- what goes wrong --------------------------------------------------------------------------
 */

Test(proxy, a_worker_that_dies_is_told) {
    struct caller caller;
    proxied_begin();
    caller_begin(&caller, "crash", NULL, 0);
    caller_run(&caller);
    assert_lost(&caller, SR_E_PEER_DIED);
    caller_begin(&caller, "echo", "x", 1);
    caller_run(&caller);
    cr_assert_eq(caller.answer.source, SR_ANSWER_METHOD);
    sr_proxy_answer_release(&caller.answer);
    proxied_end();
}

Test(proxy, a_deadline_ends_the_call_and_the_worker_that_runs_it) {
    const uint32_t pause_ms = 60000;
    struct caller caller;
    proxied_begin();
    caller_begin(&caller, "pause", &pause_ms, sizeof pause_ms);
    caller.request.deadline_ns = 50 * MS;
    do { /* on a slow machine its time may be over before it is called */
        caller.done = false;
        caller_run(&caller);
        assert_lost(&caller, SR_E_TIMEOUT);
        cr_assert_geq(caller.took_ns, 50 * MS);
        cr_assert_lt(caller.took_ns, 20 * SECOND);
    } while (host_stats().calls == 0);
    UNTIL(host.exit_count > 0);
    proxied_end();
}

Test(proxy, a_thread_leaves_at_its_deadline_though_the_owner_does_not_look) {
    struct caller *caller = malloc(sizeof *caller);
    char *room = malloc(64);
    cr_assert(caller != NULL && room != NULL);
    proxied_begin();
    caller_begin(caller, "echo", "abc", 3);
    caller->request.room = room;
    caller->request.room_bytes = 64;
    caller->request.deadline_ns = 30 * MS;
    caller_start(caller);
    caller_join(caller); /* the ring has had no turn */
    assert_lost(caller, SR_E_TIMEOUT);
    free(room);
    free(caller);
    /* Now it would write there. */
    for (int i = 0; i < 5; i++) {
        turn(5 * MS);
    }
    cr_assert_eq(host_stats().calls, 0, "it was withdrawn before it was called");
    proxied_end();
}

Test(proxy, a_thread_leaves_while_a_worker_has_its_call) {
    const uint32_t pause_ms = 200;
    struct caller *caller = malloc(sizeof *caller);
    char *room = malloc(64);
    struct caller behind;
    cr_assert(caller != NULL && room != NULL);
    proxied_begin();
    caller_begin(caller, "pause", &pause_ms, sizeof pause_ms);
    caller->request.room = room;
    caller->request.room_bytes = 64;
    caller->request.deadline_ns = 100 * MS;
    do { /* on a slow machine its time may be over before it is called */
        caller->done = false;
        caller_start(caller);
        while (host_stats().calls == 0 && !atomic_load(&caller->done)) {
            turn(MS);
        }
        caller_join(caller); /* without a turn: by itself */
        assert_lost(caller, SR_E_TIMEOUT);
    } while (host_stats().calls == 0);
    free(room);
    free(caller);
    caller_begin(&behind, "echo", "x", 1);
    caller_run(&behind); /* of the same worker or, if that was killed in time, of another one */
    cr_assert_eq(behind.answer.source, SR_ANSWER_METHOD);
    sr_proxy_answer_release(&behind.answer);
    proxied_end();
}

Test(proxy, what_a_service_refuses_is_told) {
    static char large[4096];
    struct caller caller;
    sr_service_options options = serving();
    options.payload_max_bytes = sizeof large - 1;
    options.calls_max = 1;
    proxied_begin_with(&options, 4);
    caller_begin(&caller, "echo", large, sizeof large);
    caller_run(&caller);
    assert_code(caller.code, SR_E_BOUNDS);
    assert_misuse("sr_proxy_call", SR_E_BOUNDS);
    caller_begin(&caller, "echo", NULL, 0);
    caller.request.method = 4711;
    caller_run(&caller);
    assert_code(caller.code, SR_E_BOUNDS);
    assert_misuse("sr_proxy_call", SR_E_BOUNDS);

    /* The one call that the service takes is made. */
    const uint32_t pause_ms = 60000;
    struct caller first;
    caller_begin(&first, "pause", &pause_ms, sizeof pause_ms);
    caller_begin(&caller, "echo", NULL, 0);
    caller_start(&first);
    while (host_stats().calls_in_flight == 0) {
        turn(MS);
    }
    caller_run(&caller);
    assert_code(caller.code, SR_E_FULL);
    assert_ok(sr_proxy_close(&proxy));
    caller_join(&first);
    assert_lost(&first, -ECANCELED);
    proxied_end();
}

static void *stray(void *ctx) {
    sr_proxy_answer answer;
    struct caller *caller = ctx;
    sr_proxy_request bad = caller->request;
    bad.reserved = 1;
    assert_code(sr_proxy_call(proxy, &bad, &answer), -EINVAL);
    bad = caller->request;
    bad.data_bytes = 1;
    assert_code(sr_proxy_call(proxy, &bad, &answer), -EINVAL);
    bad = caller->request;
    bad.room_bytes = 1;
    assert_code(sr_proxy_call(proxy, &bad, &answer), -EINVAL);
    assert_code(sr_proxy_call(proxy, NULL, &answer), -EINVAL);
    assert_code(sr_proxy_call(proxy, &caller->request, NULL), -EINVAL);
    assert_code(sr_proxy_close(&proxy), SR_E_WRONG_THREAD);
    assert_code(sr_proxy_stop(proxy), SR_E_WRONG_THREAD);
    sr_proxy *mine = NULL;
    assert_code(sr_proxy_open(host.service, NULL, &mine), SR_E_WRONG_THREAD);
    return NULL;
}

Test(proxy, wrong_requests_and_wrong_threads_are_refused) {
    struct caller caller;
    sr_proxy_answer answer;
    proxied_begin();
    caller_begin(&caller, "echo", NULL, 0);
    assert_code(sr_proxy_call(proxy, &caller.request, &answer), SR_E_STATE);
    assert_misuse("sr_proxy_call", SR_E_STATE);
    assert_code(sr_service_close(&host.service), SR_E_STATE);
    assert_misuse("sr_service_close", SR_E_STATE);
    cr_assert_eq(pthread_create(&caller.thread, NULL, stray, &caller), 0);
    caller_join(&caller);
    cr_assert_eq(misuse.count, 8);
    misuse_forget();
    proxied_end();
}

Test(proxy, bad_options_and_a_ring_without_an_inbox_are_refused) {
    sr_proxy_options options = SR_PROXY_OPTIONS_INIT;
    sr_proxy *another = NULL;
    proxied_begin();
    options.calls_max = 0;
    assert_code(sr_proxy_open(host.service, &options, &another), SR_E_BOUNDS);
    options.calls_max = 65537;
    assert_code(sr_proxy_open(host.service, &options, &another), SR_E_BOUNDS);
    options.calls_max = 65536;
    options.reserved = 1;
    assert_code(sr_proxy_open(host.service, &options, &another), -EINVAL);
    options.reserved = 0;
    assert_ok(sr_proxy_open(host.service, &options, &another));
    assert_ok(sr_proxy_close(&another));
    misuse_forget();

    sr_ring *deaf = ring_make(NULL);
    sr_supervisor *supervisor = supervisor_make(deaf);
    sr_service *service = service_make(supervisor);
    assert_code(sr_proxy_open(service, NULL, &another), SR_E_STATE);
    assert_misuse("sr_proxy_open", SR_E_STATE);
    assert_ok(sr_service_close(&service));
    assert_ok(sr_supervisor_close(&supervisor));
    ring_end(&deaf);
    proxied_end();
}

/* ---- the end ----------------------------------------------------------------------------------
 */

Test(proxy, stopping_answers_what_waits_wherever_it_is) {
    const uint32_t pause_ms = 60000;
    struct caller callers[6];
    proxied_begin();
    for (size_t i = 0; i < COUNT_OF(callers); i++) {
        caller_begin(&callers[i], "pause", &pause_ms, sizeof pause_ms);
    }
    for (size_t i = 0; i < 3; i++) {
        caller_start(&callers[i]);
    }
    while (host_stats().calls < 3) {
        turn(MS);
    }
    for (size_t i = 3; i < COUNT_OF(callers); i++) {
        caller_start(&callers[i]); /* these the owner does not see before it closes */
    }
    (void)usleep(20000);
    assert_ok(sr_proxy_stop(proxy));
    for (size_t i = 0; i < COUNT_OF(callers); i++) {
        caller_join(&callers[i]);
        if (callers[i].code != -ECANCELED) {
            assert_lost(&callers[i], -ECANCELED);
        }
    }
    caller_start(&callers[0]);
    caller_join(&callers[0]);
    assert_code(callers[0].code, -ECANCELED);
    assert_ok(sr_proxy_stop(proxy));
    /* The service has forgotten them, and goes on. */
    const sr_service_request echo = {.size = sizeof echo, .method = host_method("echo")};
    assert_ok(sr_service_call(host.service, &echo, NULL));
    turn(0);
    proxied_end();
}

static void *own_and_vanish(void *ctx) {
    (void)ctx;
    proxied_begin();
    return NULL;
}

Test(proxy, an_owner_that_ends_is_told_to_who_waits) {
    struct caller caller = {.request = SR_PROXY_REQUEST_INIT};
    pthread_t owner;
    cr_assert_eq(pthread_create(&owner, NULL, own_and_vanish, NULL), 0);
    cr_assert_eq(pthread_join(owner, NULL), 0);
    caller_start(&caller);
    caller_join(&caller);
    assert_lost(&caller, SR_E_PEER_DIED);
    /* What it has left is memory: from the ring inwards. */
    assert_code(sr_proxy_close(&proxy), SR_E_STATE);
    misuse_forget();
    const int code = sr_ring_destroy(&host.ring);
    cr_assert(code == 0 || code == SR_E_IN_FLIGHT, "%s", sr_error_name(code));
    assert_ok(sr_quarantine_sweep(20 * SECOND));
    assert_ok(sr_proxy_close(&proxy));
    assert_ok(sr_service_close(&host.service));
    assert_ok(sr_supervisor_close(&host.supervisor));
}

Test(proxy, a_forked_child_is_refused_and_may_free_its_copy) {
    const uint32_t pause_ms = 60000;
    struct caller caller;
    proxied_begin();
    caller_begin(&caller, "pause", &pause_ms, sizeof pause_ms);
    caller_start(&caller);
    while (host_stats().calls_in_flight == 0) {
        turn(MS);
    }
    const pid_t child = fork();
    if (child == 0) {
        sr_proxy_answer answer;
        const bool refused = sr_proxy_call(proxy, &caller.request, &answer) == SR_E_FORKED &&
                             sr_proxy_stop(proxy) == SR_E_FORKED;
        const bool closed = sr_ring_destroy(&host.ring) == 0 && sr_proxy_close(&proxy) == 0 &&
                            sr_service_close(&host.service) == 0;
        _exit(refused ? closed ? 0 : 2 : 1);
    }
    int status = -1;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0, "the child ended with %x", (unsigned int)status);
    assert_ok(sr_proxy_close(&proxy));
    caller_join(&caller);
    assert_lost(&caller, -ECANCELED);
    proxied_end();
}
