/* SPDX-License-Identifier: MIT */
/* Channels to honest workers; the others are in test_channel_hostile.c. */
#include "support/baseline.h"
#include "support/scale.h"
#include "support/worker.h"
#include "unit/fixture.h"

#include <poll.h>
#include <sys/socket.h>

#define MS     UINT64_C(1000000)
#define SECOND (1000 * MS)
#define KIB    UINT64_C(1024)
#define MIB    (1024 * KIB)

TestSuite(channel, .timeout = 60);

/* ---- a host with a worker -------------------------------------------------------------------- */

struct host {
    struct worker worker;
    sr_ring *ring;
    sr_channel *channel;
    uint32_t ready_count;
    uint32_t ended_count;
    int ended_code;
    uint64_t events;
    uint64_t answers; /* told, whatever they were */
};

static void on_state(sr_channel *channel, int code, void *ctx) {
    struct host *host = ctx;
    cr_assert_eq(channel, host->channel);
    if (code == 0) {
        host->ready_count++;
    } else {
        host->ended_count++;
        host->ended_code = code;
    }
}

static void turn(struct host *host) {
    const sr_completion *completions = NULL;
    assert_ok(sr_ring_wait(host->ring, 1, 10 * SECOND, NULL, &completions));
}

static sr_channel_stats stats_of(struct host *host) {
    sr_channel_stats stats = SR_CHANNEL_STATS_INIT;
    assert_ok(sr_channel_get_stats(host->channel, &stats));
    return stats;
}

/* test_channel_hybrid.c and test_channel_shared.c are this file with another one. */
#ifndef CHANNEL_ISOLATION
#define CHANNEL_ISOLATION SR_ISOLATION_FULL
#endif

static void host_begin_with(struct host *host, sr_channel_options options) {
    *host = (struct host){0};
    options.isolation = CHANNEL_ISOLATION;
    worker_start(&host->worker);
    host->ring = ring_make(NULL);
    options.on_state = on_state;
    options.ctx = host;
    assert_ok(
        sr_channel_open(host->ring, worker_take_socket(&host->worker), &options, &host->channel));
    while (host->ready_count == 0) {
        turn(host);
    }
}

static void host_begin(struct host *host) {
    host_begin_with(host, SR_CHANNEL_OPTIONS_INIT);
}

static void host_end(struct host *host) {
    assert_ok(sr_channel_close(&host->channel));
    cr_assert_null(host->channel);
    const int status = worker_wait(&host->worker);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "worker: %#x", status);
    ring_end(&host->ring);
    cr_assert_eq(host->ended_count, 0);
}

static uint32_t method_of(struct host *host, const char *name) {
    uint32_t method = 0;
    assert_ok(sr_channel_method(host->channel, name, &method));
    return method;
}

/* ---- one call -------------------------------------------------------------------------------- */

struct outcome {
    struct host *host;
    uint32_t count;
    sr_answer answer; /* its data is gone */
    unsigned char *data;
};

static void on_answer(sr_channel *channel, const sr_answer *answer, void *ctx) {
    struct outcome *outcome = ctx;
    cr_assert_eq(channel, outcome->host->channel);
    outcome->count++;
    outcome->host->answers++;
    outcome->answer = *answer;
    cr_assert_eq(answer->data == NULL, answer->data_bytes == 0);
    if (answer->data_bytes > 0) {
        outcome->data = malloc(answer->data_bytes);
        cr_assert_not_null(outcome->data);
        memcpy(outcome->data, answer->data, answer->data_bytes);
    }
}

static sr_call_request request_for(struct host *host, const char *name, const void *data,
                                   uint64_t data_bytes, struct outcome *outcome) {
    sr_call_request request = SR_CALL_REQUEST_INIT;
    *outcome = (struct outcome){.host = host};
    request.method = method_of(host, name);
    request.data = data;
    request.data_bytes = data_bytes;
    request.on_answer = on_answer;
    request.ctx = outcome;
    return request;
}

static sr_call begin(struct host *host, const char *name, const void *data, uint64_t data_bytes,
                     struct outcome *outcome) {
    sr_call call;
    const sr_call_request request = request_for(host, name, data, data_bytes, outcome);
    assert_ok(sr_channel_call(host->channel, &request, &call));
    cr_assert_neq(call.bits, 0);
    cr_assert_eq(outcome->count, 0, "an answer comes inside of a wait");
    return call;
}

static void call(struct host *host, const char *name, const void *data, uint64_t data_bytes,
                 struct outcome *outcome) {
    const sr_call handle = begin(host, name, data, data_bytes, outcome);
    while (outcome->count == 0) {
        turn(host);
    }
    cr_assert_eq(outcome->answer.call.bits, handle.bits);
}

static void assert_answered(const struct outcome *outcome, int64_t result) {
    cr_assert_eq(outcome->count, 1);
    cr_assert_eq(outcome->answer.source, SR_ANSWER_METHOD, "%s",
                 sr_error_name((int)outcome->answer.result));
    cr_assert_eq(outcome->answer.result, result);
}

static void assert_failed(const struct outcome *outcome, int code) {
    cr_assert_eq(outcome->count, 1, "%u answers", outcome->count);
    cr_assert_eq(outcome->answer.source, SR_ANSWER_CHANNEL);
    assert_code(outcome->answer.result, code);
    cr_assert_eq(outcome->answer.data_bytes, 0);
}

/* ---- calls ----------------------------------------------------------------------------------- */

Test(channel, a_worker_says_its_methods_and_runs_them) {
    struct host host;
    struct outcome outcome;
    const int64_t terms[2] = {40, 2};
    uint32_t method = 7;
    host_begin(&host);
    call(&host, "add", terms, sizeof terms, &outcome);
    assert_answered(&outcome, 42);
    cr_assert_eq(outcome.answer.method, method_of(&host, "add"));
    call(&host, "refuse", NULL, 0, &outcome);
    assert_answered(&outcome, INT64_MIN);
    misuse_watch();
    assert_code(sr_channel_method(host.channel, "multiply", &method), -ENOENT);
    cr_assert_eq(method, 0);
    assert_no_misuse();
    host_end(&host);
}

Test(channel, before_the_worker_is_ready_there_is_nothing_to_call) {
    struct host host = {0};
    int pair[2];
    uint32_t method = 0;
    const sr_call_request request = SR_CALL_REQUEST_INIT;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    host.ring = ring_make(NULL);
    assert_ok(sr_channel_open(host.ring, pair[0], NULL, &host.channel));
    const sr_completion *completions = NULL;
    assert_ok(sr_ring_wait(host.ring, 0, 0, NULL, &completions));
    assert_code(sr_channel_method(host.channel, "echo", &method), SR_E_STATE);
    assert_code(sr_channel_call(host.channel, &request, NULL), SR_E_STATE);
    assert_code(sr_channel_note(host.channel, 0, NULL, 0), SR_E_STATE);
    cr_assert_eq(stats_of(&host).ready, 0);
    const uint64_t begin_ns = now_ns();
    assert_ok(sr_channel_close(&host.channel)); /* a worker that says nothing holds nobody up */
    cr_assert_lt(now_ns() - begin_ns, 2 * SECOND);
    ring_end(&host.ring);
    cr_assert_eq(close(pair[1]), 0);
}

Test(channel, payloads_of_every_size_arrive_as_they_were) {
    const uint64_t sizes[] = {
        0,          1,           31,      32,    33,    4095,      65536 - 33,
        65536 - 32, 65536 - 31,  65535,   65536, 65537, 2 * 65536, 2 * 65536 + 1,
        1 * MIB,    3 * MIB + 1, 64 * MIB};
    struct host host;
    sr_channel_options options = SR_CHANNEL_OPTIONS_INIT;
    options.arena_bytes = 64 * MIB;
    host_begin_with(&host, options);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct outcome outcome;
        const uint64_t size = sizes[i];
        if (size > 4 * MIB && scale_factor() < 1) {
            continue; /* seconds under valgrind */
        }
        unsigned char *bytes = malloc(size + 1);
        cr_assert_not_null(bytes);
        for (uint64_t b = 0; b < size; b++) {
            bytes[b] = (unsigned char)(b * 7 + i);
        }
        call(&host, "echo", bytes, size, &outcome);
        assert_answered(&outcome, (int64_t)size);
        cr_assert_eq(outcome.answer.data_bytes, size);
        cr_assert(size == 0 || memcmp(outcome.data, bytes, size) == 0, "size %zu", (size_t)size);
        free(outcome.data);
        call(&host, "produce", &size, sizeof size, &outcome);
        assert_answered(&outcome, (int64_t)size);
        for (uint64_t b = 0; b < size; b++) {
            if (outcome.data[b] != b % 251) {
                cr_assert(false, "byte %zu of %zu", (size_t)b, (size_t)size);
            }
        }
        free(outcome.data);
        free(bytes);
    }
    host_end(&host);
}

Test(channel, calls_made_before_a_wait_share_one_send) {
    struct host host;
    struct outcome outcomes[64];
    host_begin(&host);
    const uint64_t sends_before = stats_of(&host).sends;
    for (size_t i = 0; i < COUNT_OF(outcomes); i++) {
        const int64_t terms[2] = {(int64_t)i, 1000};
        (void)begin(&host, "add", terms, sizeof terms, &outcomes[i]);
    }
    while (host.answers < COUNT_OF(outcomes)) {
        turn(&host);
    }
    for (size_t i = 0; i < COUNT_OF(outcomes); i++) {
        assert_answered(&outcomes[i], (int64_t)i + 1000);
    }
    const uint64_t sends = stats_of(&host).sends - sends_before;
    cr_assert(sends == 1 || (sends == 0 && CHANNEL_ISOLATION != SR_ISOLATION_FULL));
    host_end(&host);
}

/* ---- a stream of calls ----------------------------------------------------------------------- */

struct stream {
    struct host host;
    struct scale_random random;
    uint64_t begun;
    uint64_t ended;
    uint64_t total;
    uint8_t *seen;
    uint32_t echo;
};

static void stream_fill(struct stream *stream);

static void on_stream_answer(sr_channel *channel, const sr_answer *answer, void *ctx) {
    struct stream *stream = ctx;
    uint64_t number = 0;
    (void)channel;
    cr_assert_eq(answer->source, SR_ANSWER_METHOD);
    cr_assert_geq(answer->data_bytes, sizeof number);
    memcpy(&number, answer->data, sizeof number);
    cr_assert_eq(number, answer->tag, "another call's answer");
    cr_assert_eq(answer->result, (int64_t)answer->data_bytes);
    const unsigned char *bytes = answer->data;
    for (uint64_t i = sizeof number; i < answer->data_bytes; i++) {
        cr_assert_eq(bytes[i], (unsigned char)(number + i));
    }
    cr_assert_eq(stream->seen[number], 0, "call %zu was answered twice", (size_t)number);
    stream->seen[number] = 1;
    stream->ended++;
    stream_fill(stream); /* calls from inside of an answer */
}

static void stream_fill(struct stream *stream) {
    unsigned char bytes[2048];
    while (stream->begun < stream->total) {
        sr_call_request request = SR_CALL_REQUEST_INIT;
        const uint64_t number = stream->begun;
        const uint64_t size = sizeof number + scale_random_below(&stream->random, 2000);
        memcpy(bytes, &number, sizeof number);
        for (uint64_t i = sizeof number; i < size; i++) {
            bytes[i] = (unsigned char)(number + i);
        }
        request.method = stream->echo;
        request.data = bytes;
        request.data_bytes = size;
        request.tag = number;
        request.on_answer = on_stream_answer;
        request.ctx = stream;
        const int code = sr_channel_call(stream->host.channel, &request, NULL);
        if (code == SR_E_FULL) {
            return;
        }
        assert_ok(code);
        stream->begun++;
    }
}

Test(channel, each_of_many_calls_gets_its_own_answer_once) {
    static struct stream stream;
    stream.total = scale_count(100000, 2000);
    stream.random = scale_random(1);
    stream.seen = calloc(stream.total, 1);
    cr_assert_not_null(stream.seen);
    host_begin(&stream.host);
    stream.echo = method_of(&stream.host, "echo");
    stream_fill(&stream);
    while (stream.ended < stream.total) {
        turn(&stream.host);
    }
    const sr_channel_stats stats = stats_of(&stream.host);
    cr_assert_eq(stats.calls, stream.total);
    cr_assert_eq(stats.answers, stream.total);
    cr_assert_eq(stats.calls_in_flight, 0);
    cr_assert_lt(stats.sends, stream.total, "no two calls ever shared a send");
    host_end(&stream.host);
    free(stream.seen);
}

/* ---- giving up ------------------------------------------------------------------------------- */

Test(channel, a_deadline_answers_in_time_and_the_late_answer_is_dropped) {
    struct host host;
    struct outcome slow;
    struct outcome next;
    const uint32_t ms = 300;
    host_begin(&host);
    sr_call_request request = request_for(&host, "pause", &ms, sizeof ms, &slow);
    request.deadline_ns = 50 * MS;
    const uint64_t begin_ns = now_ns();
    assert_ok(sr_channel_call(host.channel, &request, NULL));
    while (slow.count == 0) {
        turn(&host);
    }
    assert_failed(&slow, SR_E_TIMEOUT);
    const uint64_t passed_ns = now_ns() - begin_ns;
    cr_assert(passed_ns >= 50 * MS && passed_ns < 300 * MS, "%zu ms", (size_t)(passed_ns / MS));
    cr_assert_eq(stats_of(&host).calls_in_flight, 1, "the worker still has it");
    cr_assert_eq(stats_of(&host).calls_given_up, 1);
    call(&host, "echo", "x", 1, &next);
    assert_answered(&next, 1);
    free(next.data);
    cr_assert_eq(slow.count, 1);
    cr_assert_eq(stats_of(&host).answers_late, 1);
    cr_assert_eq(stats_of(&host).calls_in_flight, 0);
    host_end(&host);
}

Test(channel, a_call_that_is_answered_in_time_has_no_deadline_any_more) {
    struct host host;
    struct outcome outcome;
    host_begin(&host);
    sr_call_request request = request_for(&host, "echo", "abc", 3, &outcome);
    request.deadline_ns = 2 * SECOND;
    assert_ok(sr_channel_call(host.channel, &request, NULL));
    while (outcome.count == 0) {
        turn(&host);
    }
    assert_answered(&outcome, 3);
    free(outcome.data);
    uint64_t left_ns = 0;
    const sr_completion *completions = NULL;
    assert_ok(sr_ring_wait(host.ring, 0, 0, NULL, &completions)); /* sends the next receive */
    assert_ok(sr_ring_next_deadline_ns(host.ring, &left_ns));
    cr_assert_eq(left_ns, SR_FOREVER);
    host_end(&host);
}

Test(channel, a_cancelled_call_is_told_once_in_the_next_wait) {
    struct host host;
    struct outcome outcome;
    const uint32_t ms = 100;
    host_begin(&host);
    misuse_watch();
    const sr_call handle = begin(&host, "pause", &ms, sizeof ms, &outcome);
    assert_ok(sr_call_cancel(host.channel, handle));
    cr_assert_eq(outcome.count, 0);
    turn(&host);
    assert_failed(&outcome, -ECANCELED);
    assert_code(sr_call_cancel(host.channel, handle), SR_E_STALE);
    while (stats_of(&host).answers_late == 0) {
        turn(&host);
    }
    cr_assert_eq(outcome.count, 1);
    assert_code(sr_call_cancel(host.channel, SR_CALL_NONE), SR_E_STALE);
    assert_no_misuse();
    host_end(&host);
}

/* ---- the worker's end ------------------------------------------------------------------------ */

static void end_with(const char *method, int expected_signal, int expected_status) {
    struct host host;
    struct outcome outcomes[5];
    struct outcome late;
    host_begin(&host);
    for (size_t i = 0; i < COUNT_OF(outcomes); i++) {
        const char *name = i == 1 ? method : "echo";
        (void)begin(&host, name, "1234", i == 1 ? 0 : 4, &outcomes[i]);
    }
    while (host.ended_count == 0) {
        turn(&host);
    }
    cr_assert_eq(host.answers, COUNT_OF(outcomes));
    cr_assert_eq(host.ended_count, 1);
    assert_code(host.ended_code, SR_E_PEER_DIED);
    for (size_t i = 1; i < COUNT_OF(outcomes); i++) {
        assert_failed(&outcomes[i], SR_E_PEER_DIED);
    }
    cr_assert_eq(outcomes[0].count, 1); /* its answer was still gathered: it may be lost */
    free(outcomes[0].data);
    misuse_watch();
    sr_call_request request = SR_CALL_REQUEST_INIT;
    request.on_answer = on_answer;
    request.ctx = &late;
    late = (struct outcome){.host = &host};
    assert_code(sr_channel_call(host.channel, &request, NULL), SR_E_PEER_DIED);
    assert_code(sr_channel_note(host.channel, 0, NULL, 0), SR_E_PEER_DIED);
    assert_no_misuse();
    cr_assert_eq(late.count, 0);
    cr_assert_eq(stats_of(&host).code, SR_E_PEER_DIED);
    assert_ok(sr_channel_close(&host.channel));
    const int status = worker_wait(&host.worker);
    if (expected_signal != 0) {
        cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == expected_signal, "%#x", status);
    } else {
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == expected_status, "%#x", status);
    }
    ring_end(&host.ring);
}

Test(channel, a_crash_answers_all_calls_once) {
    end_with("crash", SIGSEGV, 0);
}

Test(channel, an_exit_answers_all_calls_once) {
    end_with("leave", 0, 7);
}

static void close_with_calls_in_flight(void) {
    struct host host;
    struct outcome outcomes[3];
    const uint32_t ms = 50;
    host_begin(&host);
    for (size_t i = 0; i < COUNT_OF(outcomes); i++) {
        (void)begin(&host, "pause", &ms, sizeof ms, &outcomes[i]);
    }
    assert_ok(sr_ring_wait(host.ring, 0, 0, NULL, NULL)); /* they are on their way */
    assert_ok(sr_channel_close(&host.channel));
    for (size_t i = 0; i < COUNT_OF(outcomes); i++) {
        assert_failed(&outcomes[i], -ECANCELED);
    }
    (void)worker_end(&host.worker);
    ring_end(&host.ring);
}

Test(channel, closing_answers_all_calls_and_leaves_nothing_behind) {
    static struct baseline before;
    close_with_calls_in_flight(); /* what the first ring of a process leaves is not the channel's */
    baseline_take(&before);
    close_with_calls_in_flight();
    const char *difference = baseline_difference(&before);
    cr_assert_null(difference, "%s", difference);
}

/* ---- what is shared ---------------------------------------------------------------------------
 */

/* Mappings of a process with this in their line. */
static uint32_t count_mappings(pid_t pid, const char *text) {
    char path[64];
    char line[512];
    uint32_t count = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "re");
    cr_assert_not_null(maps);
    while (fgets(line, sizeof line, maps) != NULL) {
        count += strstr(line, text) != NULL;
    }
    (void)fclose(maps);
    return count;
}

Test(channel, memory_is_shared_if_that_was_asked_for) {
    const uint32_t halves = CHANNEL_ISOLATION == SR_ISOLATION_FULL ? 0 : 2;
    struct host host;
    host_begin(&host);
    cr_assert_eq(count_mappings(getpid(), "memfd:safering-shared"), halves);
    cr_assert_eq(count_mappings(host.worker.pid, "memfd:safering-shared"), halves);
    host_end(&host);
    cr_assert_eq(count_mappings(getpid(), "memfd:safering-shared"), 0);
}

/* ---- asleep -----------------------------------------------------------------------------------
 */

/* The program sleeps in a loop of its own, on the ring's descriptor. */
Test(channel, a_loop_of_the_programs_own_hears_of_answers) {
    struct host host;
    struct outcome outcome;
    const uint32_t pauses_ms[] = {0, 1, 30, 0, 100};
    int fd = -1;
    host_begin(&host);
    assert_ok(sr_ring_event_fd(host.ring, &fd));
    for (size_t i = 0; i < COUNT_OF(pauses_ms); i++) {
        const uint64_t begin_ns = now_ns();
        uint32_t wakeups = 0;
        (void)begin(&host, "pause", &pauses_ms[i], sizeof pauses_ms[i], &outcome);
        while (outcome.count == 0) {
            uint64_t left_ns = 0;
            assert_ok(sr_ring_dispatch(host.ring, NULL));
            assert_ok(sr_ring_next_deadline_ns(host.ring, &left_ns));
            if (outcome.count == 0 && left_ns > 0) {
                struct pollfd loop = {.fd = fd, .events = POLLIN};
                cr_assert_eq(poll(&loop, 1, 10000), 1, "slept through the answer to call %zu", i);
                wakeups++;
            }
        }
        assert_answered(&outcome, pauses_ms[i]);
        cr_assert_lt(now_ns() - begin_ns, 5 * SECOND);
        cr_assert_lt(wakeups, 20, "a loop that is woken for nothing");
    }
    host_end(&host);
}

/* A call is under way already when the program asks for the descriptor. */
Test(channel, a_descriptor_that_is_opened_late_tells_of_answers_too) {
    struct host host;
    struct outcome outcome;
    const uint32_t ms = 50;
    int fd = -1;
    host_begin(&host);
    (void)begin(&host, "pause", &ms, sizeof ms, &outcome);
    for (int i = 0; i < 3; i++) { /* it is sent, and received as far as there is something */
        assert_ok(sr_ring_wait(host.ring, 0, 0, NULL, NULL));
    }
    cr_assert_eq(outcome.count, 0);
    assert_ok(sr_ring_event_fd(host.ring, &fd));
    while (outcome.count == 0) {
        struct pollfd loop = {.fd = fd, .events = POLLIN};
        cr_assert_eq(poll(&loop, 1, 10000), 1, "slept through the answer");
        assert_ok(sr_ring_dispatch(host.ring, NULL));
    }
    assert_answered(&outcome, ms);
    host_end(&host);
}

/* One that waits for an answer, and the worker that waits for a call, use no CPU. */
Test(channel, a_pair_that_waits_sleeps) {
    struct host host;
    struct outcome outcome;
    struct timespec begin_cpu;
    struct timespec end_cpu;
    const uint32_t ms = 1000;
    host_begin(&host);
    cr_assert_eq(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin_cpu), 0);
    call(&host, "pause", &ms, sizeof ms, &outcome);
    cr_assert_eq(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end_cpu), 0);
    assert_answered(&outcome, ms);
    const int64_t cpu_us = (end_cpu.tv_sec - begin_cpu.tv_sec) * 1000000 +
                           (end_cpu.tv_nsec - begin_cpu.tv_nsec) / 1000;
    fprintf(stderr, "%lld us of CPU in a second\n", (long long)cpu_us);
    /* A second of looking is a million; a wait on slow machines, under a sanitizer, some thousand.
     */
    cr_assert_lt(cpu_us, 200000);
    host_end(&host);
}

/* ---- events and notes ------------------------------------------------------------------------ */

static void on_event(sr_channel *channel, uint32_t number, const void *data, uint64_t data_bytes,
                     void *ctx) {
    struct host *host = ctx;
    uint64_t value = 0;
    cr_assert_eq(channel, host->channel);
    cr_assert_eq(data_bytes, sizeof value);
    memcpy(&value, data, sizeof value);
    cr_assert_eq(value, host->events);
    cr_assert_eq(number, host->events % 65536);
    host->events++;
}

Test(channel, events_come_in_order_and_before_the_answer) {
    struct host host;
    struct outcome outcome;
    const uint32_t count = 70000;
    sr_channel_options options = SR_CHANNEL_OPTIONS_INIT;
    options.on_event = on_event;
    host_begin_with(&host, options);
    call(&host, "tell", &count, sizeof count, &outcome);
    assert_answered(&outcome, count);
    cr_assert_eq(host.events, count);
    cr_assert_eq(stats_of(&host).events, count);
    cr_assert_eq(stats_of(&host).events_dropped, 0);
    host_end(&host);
}

Test(channel, events_that_nobody_wants_are_counted) {
    struct host host;
    struct outcome outcome;
    const uint32_t count = 3;
    host_begin(&host);
    call(&host, "tell", &count, sizeof count, &outcome);
    assert_answered(&outcome, count);
    cr_assert_eq(stats_of(&host).events_dropped, 3);
    host_end(&host);
}

Test(channel, notes_run_in_order_with_calls_and_have_no_answer) {
    struct host host;
    struct outcome outcome;
    host_begin(&host);
    for (uint64_t i = 1; i <= 1000; i++) {
        int code = 0;
        while ((code = sr_channel_note(host.channel, method_of(&host, "note"), &i, sizeof i)) ==
               SR_E_FULL) {
            turn(&host); /* ends when there is room */
        }
        assert_ok(code);
    }
    call(&host, "sum", NULL, 0, &outcome);
    assert_answered(&outcome, 500500);
    cr_assert_eq(stats_of(&host).notes, 1000);
    cr_assert_eq(stats_of(&host).answers, 1);
    host_end(&host);
}

/* ---- limits and refusals --------------------------------------------------------------------- */

Test(channel, as_many_calls_as_were_asked_for) {
    struct host host;
    struct outcome outcomes[4];
    sr_channel_options options = SR_CHANNEL_OPTIONS_INIT;
    options.calls_max = 3;
    host_begin_with(&host, options);
    misuse_watch();
    for (size_t i = 0; i < 3; i++) {
        (void)begin(&host, "echo", "x", 1, &outcomes[i]);
    }
    sr_call_request request = request_for(&host, "echo", "x", 1, &outcomes[3]);
    assert_code(sr_channel_call(host.channel, &request, NULL), SR_E_FULL);
    assert_no_misuse();
    while (host.answers < 3) {
        turn(&host);
    }
    assert_ok(sr_channel_call(host.channel, &request, NULL));
    while (host.answers < 4) {
        turn(&host);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_answered(&outcomes[i], 1);
        free(outcomes[i].data);
    }
    host_end(&host);
}

Test(channel, a_worker_that_does_not_read_fills_the_queue_and_nothing_else) {
    struct host host;
    struct outcome outcome;
    const uint32_t ms = 200;
    sr_channel_options options = SR_CHANNEL_OPTIONS_INIT;
    static unsigned char bytes[100000];
    uint64_t sent = 0;
    int code = 0;
    options.queue_max_bytes = 1 * MIB;
    host_begin_with(&host, options);
    (void)begin(&host, "pause", &ms, sizeof ms, &outcome);
    while (outcome.count == 0) {
        const sr_completion *completions = NULL;
        code = sr_channel_note(host.channel, method_of(&host, "note"), bytes, sizeof bytes);
        sent += code == 0 ? 1 : 0;
        if (code == SR_E_FULL) {
            break;
        }
        assert_ok(code);
        assert_ok(sr_ring_wait(host.ring, 0, 0, NULL, &completions));
    }
    assert_code(code, SR_E_FULL);
    cr_assert_lt(sent * sizeof bytes, 3 * MIB);
    while (outcome.count == 0) {
        turn(&host);
    }
    assert_answered(&outcome, ms);
    call(&host, "sum", NULL, 0, &outcome); /* all notes before it */
    assert_answered(&outcome, 0);
    cr_assert_eq(stats_of(&host).notes, sent);
    host_end(&host);
}

Test(channel, channels_can_share_a_pool) {
    struct host hosts[3];
    sr_ring *ring = ring_make(NULL);
    sr_pool *pool = pool_make(4096, 9);
    pool_attach(ring, pool);
    for (size_t i = 0; i < COUNT_OF(hosts); i++) {
        sr_channel_options options = SR_CHANNEL_OPTIONS_INIT;
        hosts[i] = (struct host){.ring = ring};
        worker_start(&hosts[i].worker);
        options.pool = pool;
        options.on_state = on_state;
        options.ctx = &hosts[i];
        assert_ok(sr_channel_open(ring, worker_take_socket(&hosts[i].worker), &options,
                                  &hosts[i].channel));
    }
    cr_assert_eq(pool_stats(pool).free_count, 0);
    for (size_t i = 0; i < COUNT_OF(hosts); i++) {
        struct outcome outcome;
        const uint64_t size = 10000 + i; /* more than one of its buffers */
        while (hosts[i].ready_count == 0) {
            turn(&hosts[i]);
        }
        call(&hosts[i], "produce", &size, sizeof size, &outcome);
        assert_answered(&outcome, (int64_t)size);
        free(outcome.data);
    }
    int pair[2];
    sr_channel *none = NULL;
    sr_channel_options options = SR_CHANNEL_OPTIONS_INIT;
    options.pool = pool;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_code(sr_channel_open(ring, pair[0], &options, &none), SR_E_FULL);
    cr_assert_eq(close(pair[0]), 0, "on failure the socket stays the caller's");
    cr_assert_eq(close(pair[1]), 0);
    for (size_t i = 0; i < COUNT_OF(hosts); i++) {
        assert_ok(sr_channel_close(&hosts[i].channel));
        (void)worker_wait(&hosts[i].worker);
    }
    cr_assert_eq(pool_stats(pool).free_count, 9);
    assert_ok(sr_ring_detach_pool(ring, pool));
    pool_end(&pool);
    ring_end(&ring);
}

static void close_it(sr_channel *channel, const sr_answer *answer, void *ctx) {
    struct host *host = ctx;
    (void)channel;
    (void)answer;
    assert_code(sr_channel_close(&host->channel), SR_E_STATE);
    cr_assert_not_null(host->channel);
    host->answers++;
}

Test(channel, closing_inside_of_an_answer_is_refused) {
    struct host host;
    sr_call_request request = SR_CALL_REQUEST_INIT;
    host_begin(&host);
    misuse_watch();
    request.method = method_of(&host, "sum");
    request.on_answer = close_it;
    request.ctx = &host;
    assert_ok(sr_channel_call(host.channel, &request, NULL));
    while (host.answers == 0) {
        turn(&host);
    }
    assert_misuse("sr_channel_close", SR_E_STATE);
    host_end(&host);
}

Test(channel, a_ring_with_a_channel_is_neither_destroyed_nor_released) {
    struct host host;
    host_begin(&host);
    assert_code(sr_ring_destroy(&host.ring), SR_E_STATE);
    cr_assert_not_null(host.ring);
    assert_code(sr_ring_release(host.ring), SR_E_STATE);
    host_end(&host);
}

Test(channel, what_is_out_of_bounds_is_refused_and_changes_nothing) {
    struct host host;
    sr_call_request request = SR_CALL_REQUEST_INIT;
    sr_call handle = {1};
    sr_channel_options options = SR_CHANNEL_OPTIONS_INIT;
    options.payload_max_bytes = 100;
    host_begin_with(&host, options);
    misuse_watch();
    request.method = 11; /* it has ten, from 0 on, and the library's */
    assert_code(sr_channel_call(host.channel, &request, &handle), SR_E_BOUNDS);
    cr_assert_eq(handle.bits, 0);
    assert_misuse("sr_channel_call", SR_E_BOUNDS);
    request.method = 0;
    request.data = "";
    request.data_bytes = 101;
    assert_code(sr_channel_call(host.channel, &request, NULL), SR_E_BOUNDS);
    request.data = NULL;
    request.data_bytes = 1;
    assert_code(sr_channel_call(host.channel, &request, NULL), -EINVAL);
    request.data_bytes = 0;
    request.reserved = 1;
    assert_code(sr_channel_call(host.channel, &request, NULL), -EINVAL);
    assert_code(sr_channel_call(host.channel, NULL, NULL), -EINVAL);
    assert_code(sr_channel_note(host.channel, 0, "", 101), SR_E_BOUNDS);
    cr_assert_eq(stats_of(&host).calls, 0);
    cr_assert_eq(stats_of(&host).calls_in_flight, 0);
    host_end(&host);
}

Test(channel, options_and_sockets_that_cannot_be_are_refused) {
    sr_ring *ring = ring_make(NULL);
    sr_channel *channel = (void *)1;
    sr_channel_options options = SR_CHANNEL_OPTIONS_INIT;
    int pair[2];
    int ends[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    assert_code(sr_channel_open(ring, -1, NULL, &channel), -EBADF);
    cr_assert_null(channel);
    assert_code(sr_channel_open(ring, ends[0], NULL, &channel), -ENOTSOCK);
    assert_code(sr_channel_open(ring, pair[0], NULL, NULL), -EINVAL);
    options.calls_max = 0;
    assert_code(sr_channel_open(ring, pair[0], &options, &channel), SR_E_BOUNDS);
    options.calls_max = 65537;
    assert_code(sr_channel_open(ring, pair[0], &options, &channel), SR_E_BOUNDS);
    options.calls_max = 1;
    options.payload_max_bytes = (UINT32_C(1) << 30) + 1;
    assert_code(sr_channel_open(ring, pair[0], &options, &channel), SR_E_BOUNDS);
    options = SR_CHANNEL_OPTIONS_INIT;
    options.size = sizeof options + 8; /* bytes that we do not know, and that are not zero */
    struct {
        sr_channel_options options;
        uint64_t more;
    } longer = {options, 1};
    assert_code(sr_channel_open(ring, pair[0], &longer.options, &channel), -EINVAL);
    sr_pool *small = pool_make(2048, 8);
    pool_attach(ring, small);
    options = SR_CHANNEL_OPTIONS_INIT;
    options.pool = small;
    assert_code(sr_channel_open(ring, pair[0], &options, &channel), SR_E_BOUNDS);
    cr_assert_null(channel);
    assert_ok(sr_ring_detach_pool(ring, small));
    pool_end(&small);
    for (size_t i = 0; i < 2; i++) {
        cr_assert_eq(close(pair[i]), 0);
        cr_assert_eq(close(ends[i]), 0);
    }
    ring_end(&ring);
}

/* ---- an event loop, another thread, a child ---------------------------------------------------
 */

Test(channel, dispatch_alone_drives_it) {
    struct host host;
    struct outcome outcome;
    int fd = -1;
    host_begin(&host);
    assert_ok(sr_ring_event_fd(host.ring, &fd));
    (void)begin(&host, "echo", "abc", 3, &outcome);
    while (outcome.count == 0) {
        const sr_completion *completions = NULL;
        struct timespec nap = {0, 100000};
        const int code = sr_ring_dispatch(host.ring, &completions);
        cr_assert_geq(code, 0);
        (void)nanosleep(&nap, NULL);
    }
    assert_answered(&outcome, 3);
    free(outcome.data);
    host_end(&host);
}

static void *use_it(void *ctx) {
    struct host *host = ctx;
    uint32_t method = 0;
    const sr_call_request request = SR_CALL_REQUEST_INIT;
    sr_channel_stats stats = SR_CHANNEL_STATS_INIT;
    sr_channel *channel = host->channel;
    assert_code(sr_channel_method(channel, "echo", &method), SR_E_WRONG_THREAD);
    assert_code(sr_channel_call(channel, &request, NULL), SR_E_WRONG_THREAD);
    assert_code(sr_channel_note(channel, 0, NULL, 0), SR_E_WRONG_THREAD);
    assert_code(sr_call_cancel(channel, SR_CALL_NONE), SR_E_WRONG_THREAD);
    assert_code(sr_channel_get_stats(channel, &stats), SR_E_WRONG_THREAD);
    assert_code(sr_channel_close(&channel), SR_E_WRONG_THREAD);
    cr_assert_eq(channel, host->channel);
    return NULL;
}

Test(channel, another_thread_is_refused) {
    struct host host;
    pthread_t thread;
    host_begin(&host);
    cr_assert_eq(pthread_create(&thread, NULL, use_it, &host), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    host_end(&host);
}

static void *begin_and_end(void *ctx) {
    host_begin(ctx);
    return NULL;
}

Test(channel, what_an_ended_thread_leaves_is_freed_after_its_ring) {
    struct host host;
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, begin_and_end, &host), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    assert_code(sr_channel_close(&host.channel), SR_E_STATE);
    cr_assert_not_null(host.channel);
    const int code = sr_ring_destroy(&host.ring);
    cr_assert(code == 0 || code == SR_E_IN_FLIGHT, "%s", sr_error_name(code));
    assert_ok(sr_quarantine_sweep(10 * SECOND));
    assert_ok(sr_channel_close(&host.channel));
    cr_assert_null(host.channel);
    (void)worker_wait(&host.worker); /* its socket has gone with the ring */
}

Test(channel, a_forked_child_frees_its_copy_and_the_channel_goes_on) {
    struct host host;
    struct outcome outcome;
    host_begin(&host);
    (void)fflush(NULL);
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        uint32_t method = 0;
        bool right = sr_channel_method(host.channel, "echo", &method) == SR_E_FORKED;
        right = right && sr_channel_close(&host.channel) == SR_E_STATE;
        right = right && sr_ring_destroy(&host.ring) == 0;
        right = right && sr_channel_close(&host.channel) == 0;
        _exit(right ? 0 : 1);
    }
    int status = 0;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%#x", status);
    call(&host, "echo", "abc", 3, &outcome);
    assert_answered(&outcome, 3);
    free(outcome.data);
    host_end(&host);
}
