/* SPDX-License-Identifier: MIT */
/*
 * A ring in someone else's event loop: the descriptor wakes for everything that there is to take
 * and for nothing else, deadlines are kept by dispatching alone, and nobody spins.
 */
#include "support/case.h"
#include "support/failing.h"
#include "support/sleeper.h"
#include "unit/fixture.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#define MS UINT64_C(1000000)

static sr_ring *ring;
static sr_pool *pool;
static int set;
static int event_fd;
static int ends[2];
static sr_file file;

static void begin_with(const sr_ring_options *options) {
    struct epoll_event event = {.events = EPOLLIN};
    ring = ring_make(options);
    pool = pool_make(4096, 4);
    pool_attach(ring, pool);
    assert_ok(sr_ring_event_fd(ring, &event_fd));
    cr_assert_geq(event_fd, 0);
    set = epoll_create1(EPOLL_CLOEXEC);
    cr_assert_eq(epoll_ctl(set, EPOLL_CTL_ADD, event_fd, &event), 0);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    file = file_take(ring, ends[0]);
}

static void begin(void) {
    begin_with(NULL);
}

static void end(void) {
    (void)close(ends[1]);
    (void)close(set);
    ring_end(&ring);
    pool_end(&pool);
}

static bool wakes(int timeout_ms) {
    struct epoll_event event;
    return epoll_wait(set, &event, 1, timeout_ms) == 1;
}

static int dispatch(const sr_completion **out_completions) {
    const int code = sr_ring_dispatch(ring, out_completions);
    cr_assert_geq(code, 0, "%s", sr_error_name(code));
    return code;
}

static uint64_t next_deadline(void) {
    uint64_t left_ns = 1;
    assert_ok(sr_ring_next_deadline_ns(ring, &left_ns));
    return left_ns;
}

static sr_request read_request(void) {
    sr_request request = request_of(SR_OP_READ);
    request.file = file;
    request.buffer = buffer_take(pool);
    request.length = 100;
    request.offset = SR_OFFSET_CURRENT;
    return request;
}

CASE(event, the_descriptor_sleeps_while_there_is_nothing_and_wakes_when_there_is, begin, end) {
    const sr_completion *completions = NULL;
    const sr_request request = read_request();
    cr_assert_not(wakes(0), "nothing was submitted");
    (void)submit(ring, &request);
    cr_assert_eq(next_deadline(), 0, "it is still to be sent");
    cr_assert_eq(dispatch(&completions), 0);
    cr_assert_eq(next_deadline(), SR_FOREVER);
    cr_assert_not(wakes(20));
    cr_assert_eq(write(ends[1], "x", 1), 1);
    int count = 0;
    for (uint32_t turns = 0; count == 0; turns++) {
        cr_assert_lt(turns, 3); /* Linux 6.1 wakes once before the read is tried again */
        cr_assert(wakes(5000));
        count = dispatch(&completions);
    }
    cr_assert_eq(count, 1);
    assert_code(completions[0].result, 1);
    cr_assert_not(wakes(20), "all is taken");
}

CASE(event, the_same_descriptor_is_given_each_time_and_it_does_not_leak_into_programs, begin, end) {
    int again = -1;
    assert_ok(sr_ring_event_fd(ring, &again));
    cr_assert_eq(again, event_fd);
    cr_assert_neq(fcntl(event_fd, F_GETFD) & FD_CLOEXEC, 0);
}

Test(event, what_had_ended_before_the_descriptor_was_asked_for_wakes_it) {
    const sr_request nop = request_of(SR_OP_NOP);
    ring = ring_make(NULL);
    (void)submit(ring, &nop);
    assert_code(sr_ring_flush(ring), 1);
    assert_ok(sr_ring_event_fd(ring, &event_fd));
    struct pollfd fd = {.fd = event_fd, .events = POLLIN};
    cr_assert_eq(poll(&fd, 1, 1000), 1);
    cr_assert_eq(dispatch(NULL), 1);
    ring_end(&ring);
}

Test(event, what_does_not_fit_the_array_keeps_it_awake) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.completions_max = 4;
    begin_with(&options);
    const sr_request nop = request_of(SR_OP_NOP);
    for (uint32_t i = 0; i < 10; i++) {
        (void)submit(ring, &nop);
    }
    assert_code(sr_ring_flush(ring), 10);
    uint32_t got = 0;
    for (uint32_t turns = 0; got < 10; turns++) {
        cr_assert_lt(turns, 4);
        cr_assert(wakes(1000), "%u came, then it slept", got);
        got += (uint32_t)dispatch(NULL);
    }
    cr_assert_not(wakes(0));
    end();
}

CASE(event, deadlines_are_kept_by_dispatching_alone, begin, end) {
    const sr_completion *completions = NULL;
    sr_request request = read_request();
    request.deadline_ns = 50 * MS;
    const uint64_t start_ns = now_ns();
    (void)submit(ring, &request);
    (void)dispatch(NULL);
    int count = 0;
    for (uint32_t turns = 0; count == 0; turns++) {
        const uint64_t left_ns = next_deadline();
        cr_assert_leq(left_ns, left_ns == SR_FOREVER ? left_ns : 50 * MS);
        cr_assert_lt(turns, 20, "it spins");
        (void)wakes(left_ns == SR_FOREVER ? 5000 : (int)(left_ns / MS) + 1);
        count = dispatch(&completions);
    }
    assert_code(completions[0].result, -ECANCELED);
    cr_assert_neq(completions[0].flags & SR_COMPLETION_DEADLINE_HIT, 0);
    cr_assert_geq(now_ns() - start_ns, 49 * MS);
    cr_assert_leq(now_ns() - start_ns, 2000 * MS);
    cr_assert_eq(next_deadline(), SR_FOREVER);
}

static void *post_some(void *ctx) {
    for (uint64_t i = 0; i < 20; i++) {
        while (sr_inbox_post(ctx, i, NULL) == SR_E_FULL) {
        }
        (void)usleep(2000);
    }
    return NULL;
}

Test(event, messages_of_other_threads_wake_it) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    pthread_t thread;
    options.inbox_entries = 4;
    begin_with(&options);
    cr_assert_not(wakes(0));
    cr_assert_eq(pthread_create(&thread, NULL, post_some, ring), 0);
    for (uint64_t got = 0; got < 20;) {
        const sr_completion *completions = NULL;
        cr_assert(wakes(5000), "%llu messages came", (unsigned long long)got);
        const int count = dispatch(&completions);
        for (int i = 0; i < count; i++) {
            cr_assert_eq(completions[i].flags, SR_COMPLETION_INBOX);
            cr_assert_eq(completions[i].tag, got++);
        }
    }
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_not(wakes(20));
    end();
}

Test(event, a_message_that_was_there_before_is_not_slept_over) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.inbox_entries = 4;
    ring = ring_make(&options);
    assert_ok(sr_inbox_post(ring, 5, NULL));
    assert_ok(sr_ring_event_fd(ring, &event_fd));
    struct pollfd fd = {.fd = event_fd, .events = POLLIN};
    cr_assert_eq(poll(&fd, 1, 1000), 1);
    cr_assert_eq(dispatch(NULL), 1);
    /* Waiting and sleeping on the descriptor may be mixed. */
    assert_code(sr_ring_wait(ring, 0, 0, NULL, NULL), 0);
    assert_ok(sr_inbox_post(ring, 6, NULL));
    cr_assert_eq(poll(&fd, 1, 5000), 1);
    cr_assert_eq(dispatch(NULL), 1);
    ring_end(&ring);
}

static void wakes_for_one(int64_t result) {
    const sr_completion *completions = NULL;
    int count = 0;
    for (uint32_t turns = 0; count == 0; turns++) {
        cr_assert_lt(turns, 4);
        cr_assert(wakes(5000), "it sleeps on");
        count = dispatch(&completions);
    }
    cr_assert_eq(count, 1);
    assert_code(completions[0].result, result);
}

CASE(event, pipes_timers_and_files_wake_it_again_and_again, begin, end) {
    const int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    const sr_request from_pipe = read_request();
    sr_request timer = request_of(SR_OP_TIMEOUT);
    timer.duration_ns = 5 * MS;
    sr_request to_file = request_of(SR_OP_WRITE);
    to_file.file = file_take(ring, fd);
    to_file.buffer = buffer_take(pool);
    to_file.length = 4096;
    for (uint32_t i = 0; i < 10; i++) {
        (void)submit(ring, &from_pipe);
        (void)dispatch(NULL);
        cr_assert_eq(write(ends[1], "x", 1), 1);
        wakes_for_one(1);
        (void)submit(ring, &timer);
        (void)dispatch(NULL);
        wakes_for_one(0);
        (void)submit(ring, &to_file);
        if (dispatch(NULL) == 0) {
            wakes_for_one(4096);
        }
    }
}

/* See tests/kernel/test_eventfd_nested.c. */
CASE(event, an_eventfd_that_the_ring_reads_wakes_it_each_time, begin, end) {
    const int fd = eventfd(0, EFD_CLOEXEC);
    const uint64_t one = 1;
    sr_request request = request_of(SR_OP_READ);
    request.file = file_take(ring, fd);
    request.buffer = buffer_take(pool);
    request.length = 8;
    for (uint32_t i = 0; i < 10; i++) {
        (void)submit(ring, &request);
        (void)dispatch(NULL);
        cr_assert_not(wakes(0));
        cr_assert_eq(write(fd, &one, sizeof one), 8);
        cr_assert(wakes(5000), "round %u", i);
        cr_assert_eq(dispatch(NULL), 1);
    }
}

static void submit_in_callback(sr_ring *its_ring, const sr_completion *completion, void *ctx) {
    uint32_t *left = ctx;
    (void)completion;
    assert_code(sr_ring_dispatch(its_ring, NULL), SR_E_STATE);
    if ((*left)-- > 0) {
        sr_request nop = request_of(SR_OP_NOP);
        nop.on_complete = submit_in_callback;
        nop.ctx = ctx;
        (void)submit(its_ring, &nop);
    }
}

CASE(event, what_callbacks_submit_is_sent_before_it_sleeps, begin, end) {
    uint32_t left = 20;
    sr_request nop = request_of(SR_OP_NOP);
    nop.on_complete = submit_in_callback;
    nop.ctx = &left;
    (void)submit(ring, &nop);
    (void)dispatch(NULL);
    while (ring_stats(ring).ops_in_flight > 0) {
        cr_assert(wakes(5000), "asleep with %u to come", left);
        (void)dispatch(NULL);
    }
    cr_assert_eq(left, UINT32_MAX);
}

/* And what another has read away wakes nobody, where it is the loop that waits for it. */
CASE(event, what_is_ready_is_told_until_it_is_dispatched, begin, end) {
    char byte = 0;
    const sr_request request = read_request();
    const sr_request second = read_request();
    (void)submit(ring, &request);
    (void)submit(ring, &second); /* two of one descriptor */
    (void)dispatch(NULL);
    for (uint32_t i = 0; i < 2; i++) {
        cr_assert_not(wakes(0));
        cr_assert_eq(write(ends[1], "x", 1), 1);
        cr_assert(wakes(5000));
        cr_assert(wakes(0), "nobody has dispatched");
        wakes_for_one(1);
    }
    (void)submit(ring, &request);
    (void)dispatch(NULL);
    if (ring_stats(ring).backend == SR_BACKEND_FALLBACK) {
        cr_assert_eq(write(ends[1], "x", 1), 1);
        cr_assert_eq(read(ends[0], &byte, 1), 1);
        cr_assert_not(wakes(0), "another was faster");
    }
    cr_assert_eq(write(ends[1], "x", 1), 1);
    wakes_for_one(1);
}

/* A circle of epoll descriptors is refused, by a code and not by a sleep. */
Test(event, a_ring_of_the_fallback_cannot_poll_the_loop_it_is_in) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.backend = SR_BACKEND_FALLBACK;
    begin_with(&options);
    sr_request request = request_of(SR_OP_POLL);
    request.file = file_take(ring, fcntl(set, F_DUPFD_CLOEXEC, 0));
    request.mask = POLLIN;
    (void)submit(ring, &request);
    assert_code(wait_one(ring).result, -ELOOP);
    cr_assert_not(wakes(0));
    end();
}

/* No thread of ours stands between a descriptor and the loop. */
Test(event, the_fallback_has_no_thread_for_it) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    const uint32_t threads = sleeper_thread_count();
    options.backend = SR_BACKEND_FALLBACK;
    begin_with(&options);
    const sr_request request = read_request();
    (void)submit(ring, &request);
    (void)dispatch(NULL);
    cr_assert_eq(write(ends[1], "x", 1), 1);
    cr_assert(wakes(5000));
    cr_assert_eq(sleeper_thread_count(), threads);
    wakes_for_one(1);
    end();
}

static uint64_t cpu_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#define IDLE_NS        (5000 * MS)
#define IDLE_CPU_NS    (50 * MS)
#define IDLE_TURNS_MAX 12u

/* A loop that does as the header says, with nothing to do: receives that go on, a read with a
 * deadline far away, an inbox. Returns what it was found to do wrong, or NULL. */
static const char *idle(uint32_t backend) {
    static char text[128];
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    sr_buffer_ring_options group_options = SR_BUFFER_RING_OPTIONS_INIT;
    sr_buffer_ring *group = NULL;
    int pair[2];
    options.backend = backend;
    options.inbox_entries = 4;
    group_options.entries = 2;
    begin_with(&options);
    assert_ok(sr_buffer_ring_create(ring, pool, &group_options, &group));
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    sr_request request = read_request();
    request.deadline_ns = 3600 * UINT64_C(1000000000);
    (void)submit(ring, &request);
    request = request_of(SR_OP_RECV);
    request.file = file_take(ring, pair[0]);
    request.buffer_ring = group;
    request.flags = SR_REQUEST_MULTISHOT;
    (void)submit(ring, &request);
    (void)dispatch(NULL);
    const uint64_t enters = ring_stats(ring).enters_total;
    const uint64_t end_ns = now_ns() + IDLE_NS;
    const uint64_t cpu_start_ns = cpu_ns();
    uint32_t turns = 0;
    for (uint64_t time_ns = now_ns(); time_ns < end_ns; time_ns = now_ns()) {
        const uint64_t left_ns = next_deadline();
        const uint64_t rest_ns = end_ns - time_ns < 1000 * MS ? end_ns - time_ns : 1000 * MS;
        (void)wakes((int)((left_ns < rest_ns ? left_ns : rest_ns + MS) / MS));
        (void)dispatch(NULL);
        turns++;
    }
    const uint64_t used_ns = cpu_ns() - cpu_start_ns;
    const uint64_t entered = ring_stats(ring).enters_total - enters;
    (void)snprintf(text, sizeof text,
                   "backend %u: %u turns, %llu enters, %llu us of CPU time in 5 s", backend, turns,
                   (unsigned long long)entered, (unsigned long long)used_ns / 1000);
    fprintf(stderr, "event: %s\n", text);
    (void)close(pair[1]);
    end();
    return turns <= IDLE_TURNS_MAX && used_ns <= IDLE_CPU_NS ? NULL : text;
}

/* In a process of its own, so that the two are idle at the same time and each counts its own. */
Test(event, an_idle_loop_does_not_spin) {
    const bool has_uring = backend_is_here(SR_BACKEND_URING);
    int status = 0;
    (void)fflush(NULL);
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        const char *wrong = idle(SR_BACKEND_FALLBACK);
        _exit(wrong != NULL ? 1 : 0);
    }
    const char *wrong = has_uring ? idle(SR_BACKEND_URING) : NULL;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_null(wrong, "%s", wrong);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the fallback: see above");
}

Test(event, a_failing_step_leaves_the_ring_as_it_was) {
    failing_install();
    ring = ring_make(NULL);
    int fd = 5;
    failing_plan(FAILING_WAKEUP_OPEN, 1, -EMFILE, false);
    assert_code(sr_ring_event_fd(ring, &fd), -EMFILE);
    cr_assert_eq(fd, -1);
    failing_plan(FAILING_QUEUE_SET_EVENT_FD, 1, -ENOMEM, false);
    assert_code(sr_ring_event_fd(ring, &fd), -ENOMEM);
    cr_assert_eq(fd, -1);
    failing_relent();
    assert_ok(sr_ring_event_fd(ring, &fd));
    ring_end(&ring);
    cr_assert_lt(fcntl(fd, F_GETFD), 0, "it goes with its ring");
    failing_remove();
}
