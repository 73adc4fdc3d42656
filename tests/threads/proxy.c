/* SPDX-License-Identifier: MIT */
/*
 * A proxy that threads call through while its owner, in waits that are long and short, makes the
 * calls, and proxies that are stopped under threads that call until that happens.
 */
#include "check.h"

#include "support/scale.h"
#include "support/services.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#define THREADS 3u
/* A deadline that has passed when the owner looks: it never kills a worker. */
#define PASSED_NS 1

static struct host {
    sr_ring *ring;
    sr_supervisor *supervisor;
    sr_service *service;
    uint32_t echo;
    sr_proxy *proxy;
    _Atomic uint32_t threads_left;
    _Atomic uint64_t answers;
} host;

static void wait_for_a_while(uint64_t timeout_ns) {
    const int count = sr_ring_wait(host.ring, 1, timeout_ns, NULL, NULL);
    CHECK(count >= 0 || count == SR_E_TIMEOUT);
}

static void host_begin(void) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.inbox_entries = 2;
    CHECK_EQ(sr_ring_create(&options, &host.ring), 0);
    host.supervisor = supervisor_make(host.ring);
    host.service = service_make(host.supervisor);
    while (sr_service_method(host.service, "echo", &host.echo) == SR_E_STATE) {
        wait_for_a_while(10000000);
    }
}

static void host_end(void) {
    CHECK_EQ(sr_service_close(&host.service), 0);
    CHECK_EQ(sr_supervisor_close(&host.supervisor), 0);
    CHECK_EQ(sr_ring_destroy(&host.ring), 0);
}

/* Returns false when the proxy has been stopped. */
static bool call_once(uint64_t number, uint64_t deadline_ns) {
    uint64_t room[2] = {0};
    sr_proxy_answer answer;
    sr_proxy_request request = SR_PROXY_REQUEST_INIT;
    request.method = host.echo;
    request.data = &number;
    request.data_bytes = sizeof number;
    request.deadline_ns = deadline_ns;
    request.room = room;
    request.room_bytes = number % 2 == 0 ? sizeof room : 0;
    const int code = sr_proxy_call(host.proxy, &request, &answer);
    if (code == -ECANCELED) {
        return false;
    }
    CHECK(code == 0 || code == SR_E_FULL);
    if (code == 0 && answer.source == SR_ANSWER_METHOD) {
        CHECK_EQ(answer.data_bytes, sizeof number);
        CHECK(memcmp(answer.data, &number, sizeof number) == 0);
        atomic_fetch_add(&host.answers, 1);
    }
    const bool goes_on = answer.source != SR_ANSWER_CHANNEL || answer.result != -ECANCELED;
    sr_proxy_answer_release(&answer);
    return goes_on;
}

static void *call_a_number_of_times(void *ctx) {
    const uint64_t calls = *(const uint64_t *)ctx;
    for (uint64_t i = 0; i < calls; i++) {
        CHECK(call_once(i, i % 5 == 0 ? PASSED_NS : 0));
    }
    atomic_fetch_sub(&host.threads_left, 1);
    return NULL;
}

static void *call_until_stopped(void *ctx) {
    (void)ctx;
    for (uint64_t i = 0; call_once(i, 0); i++) {
    }
    return NULL;
}

static void proxy_open(uint32_t calls_max) {
    const sr_proxy_options options = {sizeof options, calls_max, 0};
    CHECK_EQ(sr_proxy_open(host.service, &options, &host.proxy), 0);
    atomic_store(&host.answers, 0);
}

/* One more of them than the proxy takes at once. */
static void start(pthread_t *threads, void *(*run)(void *), void *ctx) {
    proxy_open(THREADS - 1);
    atomic_store(&host.threads_left, THREADS);
    for (uint32_t i = 0; i < THREADS; i++) {
        threads[i] = check_thread_start(run, ctx);
    }
}

static void join(const pthread_t *threads) {
    for (uint32_t i = 0; i < THREADS; i++) {
        check_thread_join(threads[i]);
    }
}

static void threads_call_through_one_proxy(void) {
    pthread_t threads[THREADS];
    uint64_t calls = scale_count(2000, 100);
    start(threads, call_a_number_of_times, &calls);
    for (uint64_t i = 0; atomic_load(&host.threads_left) > 0; i++) {
        wait_for_a_while(i % 3 == 0 ? 0 : 2000000);
    }
    join(threads);
    CHECK(atomic_load(&host.answers) > 0);
    CHECK_EQ(sr_proxy_close(&host.proxy), 0);
}

static void *call_without_deadlines(void *ctx) {
    const uint64_t calls = *(const uint64_t *)ctx;
    for (uint64_t i = 0; i < calls; i++) {
        CHECK(call_once(i, 0));
    }
    return NULL;
}

/* One thread: where there are more, the next call wakes the owner for one that it did not see. The
 * owner comes back to its wait after another while each time, so that in some of them the call
 * arrives just when it falls asleep. */
static void no_call_is_slept_over(void) {
    sr_service_stats stats = SR_SERVICE_STATS_INIT;
    uint64_t calls = scale_count(20000, 1000);
    CHECK_EQ(sr_service_get_stats(host.service, &stats), 0);
    const uint64_t answers_before = stats.answers;
    proxy_open(1);
    const pthread_t thread = check_thread_start(call_without_deadlines, &calls);
    for (uint64_t i = 0; stats.answers < answers_before + calls; i++) {
        const uint64_t until_ns = check_now_ns() + i % 997 * 20;
        while (check_now_ns() < until_ns) {
        }
        CHECK(sr_ring_wait(host.ring, 1, CHECK_PATIENCE_NS, NULL, NULL) >= 0);
        CHECK_EQ(sr_service_get_stats(host.service, &stats), 0);
    }
    check_thread_join(thread);
    CHECK_EQ(atomic_load(&host.answers), calls);
    CHECK_EQ(sr_proxy_close(&host.proxy), 0);
}

static void a_proxy_is_stopped_under_threads_that_call(void) {
    const uint64_t rounds = scale_count(50, 5);
    for (uint64_t i = 0; i < rounds; i++) {
        pthread_t threads[THREADS];
        start(threads, call_until_stopped, NULL);
        while (atomic_load(&host.answers) < i % 7) {
            wait_for_a_while(1000000);
        }
        CHECK_EQ(sr_proxy_stop(host.proxy), 0);
        join(threads);
        CHECK_EQ(sr_proxy_close(&host.proxy), 0);
    }
}

int main(void) {
    host_begin();
    RUN(threads_call_through_one_proxy);
    RUN(no_call_is_slept_over);
    RUN(a_proxy_is_stopped_under_threads_that_call);
    host_end();
    return 0;
}
