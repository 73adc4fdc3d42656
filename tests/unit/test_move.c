/* SPDX-License-Identifier: MIT */
/*
 * Moving a ring: what the adopter gets works as it did, and whatever forbids a move gives its code
 * and changes nothing. Each case runs on both backends.
 */
#include "fixture.h"

#include "support/baseline.h"
#include "support/deny.h"
#include "support/failing.h"
#include "support/rig.h"
#include "support/valgrind.h"
#include <poll.h>
#include <safering/buffer_ring.h>
#include <sys/epoll.h>
#include <sys/socket.h>

static const uint32_t backends[] = {SR_BACKEND_URING, SR_BACKEND_FALLBACK};

/* Where io_uring is denied, or the environment wants the fallback, only that is tried. */
static bool backend_is_there(uint32_t backend) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    sr_ring *ring = NULL;
    options.backend = backend;
    const int code = sr_ring_create(&options, &ring);
    if (code < 0) {
        cr_assert_eq(backend, SR_BACKEND_URING, "the fallback is everywhere");
        cr_log_info("no io_uring here: %s", sr_error_name(code));
        return false;
    }
    ring_end(&ring);
    return true;
}

/* Runs a case on every backend that is there. */
static void on_each_backend(void (*act)(uint32_t backend)) {
    for (size_t i = 0; i < COUNT_OF(backends); i++) {
        if (backend_is_there(backends[i])) {
            act(backends[i]);
        }
    }
}

/* ---- an estate that moves -------------------------------------------------------------------- */

#define MESSAGES 10u

/* Everything that a ring can have. */
struct estate {
    sr_ring *ring;
    sr_pool *pool;
    sr_pool *shared_pool; /* attached to another ring too: stays */
    sr_ring *other_ring;
    sr_buffer_ring *buffer_ring;
    sr_file fixed; /* a fixed slot */
    sr_file plain;
    int peer; /* of the socket behind `plain` */
    int event_fd;
    int file_fd;
    struct directory directory;
    sr_thread first_owner;
};

static void estate_begin(struct estate *estate, uint32_t backend) {
    static const uint16_t allowed[] = {SR_OP_READ, SR_OP_RECV, SR_OP_SEND, SR_OP_NOP,
                                       SR_OP_FTRUNCATE};
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    sr_buffer_ring_options buffer_options = SR_BUFFER_RING_OPTIONS_INIT;
    int ends[2];
    *estate = (struct estate){.peer = -1};
    estate->directory = directory_begin();
    estate->file_fd = directory_file(&estate->directory, "file", "contents", 8);
    options.backend = backend;
    options.inbox_entries = 16;
    options.ops_allowed = allowed;
    options.ops_allowed_count = COUNT_OF(allowed);
    estate->ring = ring_make(&options);
    options.ops_allowed = NULL;
    options.ops_allowed_count = 0;
    estate->other_ring = ring_make(&options);
    estate->pool = pool_make(64, 16);
    estate->shared_pool = pool_make(64, 4);
    pool_attach(estate->ring, estate->pool);
    pool_attach(estate->ring, estate->shared_pool);
    pool_attach(estate->other_ring, estate->shared_pool);
    buffer_options.entries = 4;
    assert_ok(
        sr_buffer_ring_create(estate->ring, estate->pool, &buffer_options, &estate->buffer_ring));
    assert_ok(sr_file_adopt(estate->ring, estate->file_fd, SR_FILE_FIXED, &estate->fixed));
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    estate->plain = file_take(estate->ring, ends[0]);
    estate->peer = ends[1];
    assert_ok(sr_ring_event_fd(estate->ring, &estate->event_fd));
    estate->first_owner = sr_ring_thread(estate->ring);
}

static void estate_end(struct estate *estate) {
    ring_end(&estate->ring); /* takes files and the buffer ring along */
    (void)sr_ring_destroy(&estate->other_ring);
    pool_end(&estate->pool);
    cr_assert_eq(close(estate->peer), 0);
    directory_end(&estate->directory);
}

/* ---- what works afterwards ------------------------------------------------------------------- */

static void read_by_fixed_file_and_pool(const struct estate *estate) {
    const sr_buffer buffer = buffer_take(estate->pool);
    sr_request request = request_of(SR_OP_READ);
    request.file = estate->fixed;
    request.buffer = buffer;
    request.length = 8;
    sr_completion done = run(estate->ring, &request);
    while ((done.flags & SR_COMPLETION_INBOX) != 0) {
        done = wait_one(estate->ring);
    }
    cr_assert_eq(done.result, 8, "%lld", (long long)done.result);
    cr_assert_eq(memcmp(buffer_bytes(estate->pool, buffer, 8), "contents", 8), 0);
    assert_ok(sr_pool_release(estate->pool, buffer));
}

/* It has the four buffers that it says it has, not one more. */
static void take_all_of_the_buffer_ring(const struct estate *estate, sr_op op) {
    sr_buffer taken[5];
    const sr_completion *completions = NULL;
    for (uint32_t i = 0; i < 5; i++) {
        cr_assert_eq(send(estate->peer, "z", 1, 0), 1);
        if (i == 4) {
            assert_code(sr_ring_wait(estate->ring, 0, 0, NULL, &completions), 0);
            assert_ok(sr_buffer_ring_provide(estate->buffer_ring, taken[0]));
        }
        const sr_completion done = wait_one(estate->ring);
        cr_assert_eq(done.op.bits, op.bits);
        cr_assert_eq(done.result, 1, "message %u: %s", i, sr_error_name((int)done.result));
        taken[i] = done.buffer;
    }
    for (uint32_t i = 1; i < 5; i++) {
        assert_ok(sr_buffer_ring_provide(estate->buffer_ring, taken[i]));
    }
}

/* More messages than the buffer ring has buffers, so each buffer comes back at least once. */
static void receive_by_buffer_ring(const struct estate *estate) {
    sr_request request = request_of(SR_OP_RECV);
    request.file = estate->plain;
    request.buffer_ring = estate->buffer_ring;
    request.flags = SR_REQUEST_MULTISHOT;
    const sr_op op = submit(estate->ring, &request);
    take_all_of_the_buffer_ring(estate, op);
    for (uint32_t i = 0; i < MESSAGES; i++) {
        char text[16];
        const int length = snprintf(text, sizeof text, "message %u", i);
        cr_assert_eq(send(estate->peer, text, (size_t)length, 0), length);
        const sr_completion done = wait_one(estate->ring);
        cr_assert_eq(done.op.bits, op.bits);
        cr_assert_eq(done.result, length, "%s", sr_error_name((int)done.result));
        cr_assert_neq(done.buffer.bits, 0);
        cr_assert_eq(memcmp(buffer_bytes(estate->pool, done.buffer, 16), text, (size_t)length), 0);
        assert_ok(sr_buffer_ring_provide(estate->buffer_ring, done.buffer));
    }
    assert_ok(sr_op_cancel(estate->ring, op));
    const sr_completion last = wait_one(estate->ring);
    cr_assert_eq(last.flags & SR_COMPLETION_MORE, 0);
    sr_buffer_ring_stats stats = SR_BUFFER_RING_STATS_INIT;
    assert_ok(sr_buffer_ring_get_stats(estate->buffer_ring, &stats));
    cr_assert_eq(stats.buffers, 4);
}

static void restrictions_hold(const struct estate *estate) {
    sr_request request = request_of(SR_OP_WRITE);
    request.file = estate->fixed;
    request.buffer = buffer_take(estate->pool);
    request.length = 8;
    assert_code(sr_ring_submit(estate->ring, &request, NULL), -EACCES);
    assert_ok(sr_pool_release(estate->pool, request.buffer));
}

static bool is_readable(int fd, int timeout_ms) {
    struct pollfd look = {.fd = fd, .events = POLLIN};
    int count = 0;
    do {
        count = poll(&look, 1, timeout_ms);
    } while (count < 0 && errno == EINTR);
    return count == 1;
}

/* Work that the kernel does for a ring that was closed can interrupt a system call of its thread.
 */
static int wait_for_event(int epoll_fd) {
    struct epoll_event event;
    int count = 0;
    do {
        count = epoll_wait(epoll_fd, &event, 1, 20000);
    } while (count < 0 && errno == EINTR);
    return count;
}

/* A descriptor that an epoll instance had before the move still wakes it. */
static void event_fd_wakes(const struct estate *estate, int epoll_fd) {
    const sr_completion *completions = NULL;
    int fd = -1;
    assert_ok(sr_ring_event_fd(estate->ring, &fd));
    cr_assert_eq(fd, estate->event_fd);
    assert_code(sr_ring_dispatch(estate->ring, &completions), 0);
    cr_assert_not(is_readable(fd, 0));
    sr_request request = request_of(SR_OP_RECV);
    request.file = estate->plain;
    request.buffer = buffer_take(estate->pool);
    request.length = 16;
    const sr_op op = submit(estate->ring, &request);
    assert_code(sr_ring_dispatch(estate->ring, &completions), 0);
    cr_assert_not(is_readable(fd, 0));
    cr_assert_eq(send(estate->peer, "x", 1, 0), 1);
    cr_assert_eq(wait_for_event(epoll_fd), 1);
    int got = 0;
    while (got == 0) {
        got = sr_ring_dispatch(estate->ring, &completions);
    }
    cr_assert_eq(got, 1);
    cr_assert_eq(completions[0].op.bits, op.bits);
    assert_ok(sr_pool_release(estate->pool, request.buffer));
}

static void inbox_works(const struct estate *estate, uint64_t tag) {
    const sr_completion done = wait_one(estate->ring);
    cr_assert_neq(done.flags & SR_COMPLETION_INBOX, 0);
    cr_assert_eq(done.tag, tag);
}

static void everything_works(struct estate *estate, int epoll_fd) {
    event_fd_wakes(estate, epoll_fd);
    read_by_fixed_file_and_pool(estate);
    receive_by_buffer_ring(estate);
    restrictions_hold(estate);
    assert_ok(sr_inbox_post(estate->ring, 77, NULL));
    inbox_works(estate, 77);
}

/* ---- a move ---------------------------------------------------------------------------------- */

struct move {
    struct estate *estate;
    sr_buffer kept; /* the first owner's */
    int epoll_fd;
};

static void *adopt_and_use(void *ctx) {
    struct move *move = ctx;
    struct estate *estate = move->estate;
    assert_code(sr_ring_flush(estate->ring), SR_E_WRONG_THREAD);
    assert_ok(sr_ring_adopt(estate->ring));
    cr_assert_eq(sr_ring_thread(estate->ring).bits, sr_thread_self().bits);
    assert_code(sr_ring_adopt(estate->ring), SR_E_STATE);
    inbox_works(estate, 42); /* posted in between */
    everything_works(estate, move->epoll_fd);
    /* What did not go along. */
    assert_code(sr_pool_release(estate->pool, move->kept), SR_E_WRONG_THREAD);
    sr_buffer buffer;
    assert_code(sr_pool_acquire(estate->shared_pool, 1, &buffer), SR_E_WRONG_THREAD);
    assert_ok(sr_ring_release(estate->ring));
    return NULL;
}

static void move_there_and_back(uint32_t backend) {
    struct estate estate;
    struct move move = {.estate = &estate};
    struct epoll_event event = {.events = EPOLLIN};
    sr_buffer buffer;
    estate_begin(&estate, backend);
    move.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    cr_assert_eq(epoll_ctl(move.epoll_fd, EPOLL_CTL_ADD, estate.event_fd, &event), 0);
    everything_works(&estate, move.epoll_fd);
    move.kept = buffer_take(estate.pool);
    const uint64_t submitted = ring_stats(estate.ring).submitted_total;

    assert_ok(sr_ring_release(estate.ring));
    misuse_watch();
    assert_code(sr_ring_flush(estate.ring), SR_E_WRONG_THREAD);
    assert_code(sr_pool_acquire(estate.pool, 1, &buffer), SR_E_WRONG_THREAD);
    assert_code(sr_buffer_ring_destroy(&estate.buffer_ring), SR_E_WRONG_THREAD);
    sr_set_misuse_hook(NULL, NULL);
    assert_ok(sr_inbox_post(estate.ring, 42, NULL));
    thread_run(adopt_and_use, &move);

    assert_ok(sr_ring_adopt(estate.ring));
    cr_assert_eq(sr_ring_thread(estate.ring).bits, estate.first_owner.bits);
    everything_works(&estate, move.epoll_fd);
    cr_assert_eq(ring_stats(estate.ring).submitted_total, submitted + 6, "counters go on");
    cr_assert_eq(ring_stats(estate.ring).backend, backend);
    assert_ok(sr_pool_release(estate.pool, move.kept));
    cr_assert_eq(close(move.epoll_fd), 0);
    cr_assert_eq(pool_stats(estate.pool).held_count, 4, "those of the buffer ring");
    assert_ok(sr_ring_destroy(&estate.other_ring));
    estate_end(&estate);
    pool_end(&estate.shared_pool);
}

Test(move, a_ring_works_with_all_that_it_has_after_moving_there_and_back) {
    on_each_backend(move_there_and_back);
}

/* ---- what forbids a move --------------------------------------------------------------------- */

static void release_in_callback(sr_ring *ring, const sr_completion *completion, void *ctx) {
    (void)completion;
    *(int *)ctx = sr_ring_release(ring);
}

static void refuse_moves(uint32_t backend) {
    struct estate estate;
    const sr_completion *completions = NULL;
    int code = 0;
    estate_begin(&estate, backend);
    misuse_watch();

    /* An operation in flight, an armed one, and one that waits for a buffer. */
    sr_request request = request_of(SR_OP_RECV);
    request.file = estate.plain;
    request.buffer = buffer_take(estate.pool);
    request.length = 16;
    sr_op op = submit(estate.ring, &request);
    assert_code(sr_ring_release(estate.ring), SR_E_IN_FLIGHT);
    assert_misuse("sr_ring_release", SR_E_IN_FLIGHT);
    cr_assert_geq(sr_ring_flush(estate.ring), 0);
    assert_code(sr_ring_release(estate.ring), SR_E_IN_FLIGHT);
    misuse_forget();
    assert_ok(sr_op_abandon(estate.ring, op, NULL)); /* the kernel may still write */
    code = sr_ring_release(estate.ring);
    assert_code(code, SR_E_IN_FLIGHT);
    misuse_forget();
    while (ring_stats(estate.ring).ops_in_flight > 0) {
        assert_code(sr_ring_wait(estate.ring, 0, 0, NULL, &completions), 0);
    }
    request.buffer = SR_BUFFER_NONE;
    request.buffer_ring = estate.buffer_ring;
    request.flags = SR_REQUEST_MULTISHOT;
    op = submit(estate.ring, &request);
    assert_code(sr_ring_wait(estate.ring, 0, 0, NULL, &completions), 0);
    assert_code(sr_ring_release(estate.ring), SR_E_IN_FLIGHT);
    assert_misuse("sr_ring_release", SR_E_IN_FLIGHT);
    /* Nothing has changed: it still receives. */
    cr_assert_eq(send(estate.peer, "y", 1, 0), 1);
    const sr_completion done = wait_one(estate.ring);
    cr_assert_eq(done.op.bits, op.bits);
    assert_ok(sr_buffer_ring_provide(estate.buffer_ring, done.buffer));
    assert_ok(sr_op_cancel(estate.ring, op));
    (void)wait_one(estate.ring);

    /* A completion that nobody has taken is in flight. */
    sr_request nop = request_of(SR_OP_NOP);
    (void)submit(estate.ring, &nop);
    cr_assert_eq(sr_ring_flush(estate.ring), 1);
    assert_code(sr_ring_release(estate.ring), SR_E_IN_FLIGHT);
    misuse_forget();
    (void)wait_one(estate.ring);

    /* Inside of a callback. */
    code = 0;
    nop.on_complete = release_in_callback;
    nop.ctx = &code;
    (void)submit(estate.ring, &nop);
    assert_code(sr_ring_wait(estate.ring, 1, SR_FOREVER, NULL, &completions), 0);
    assert_code(code, SR_E_STATE);
    assert_misuse("sr_ring_release", SR_E_STATE);

    /* A batch lives on it. */
    sr_batch *batch = NULL;
    assert_ok(sr_batch_create(estate.ring, NULL, &batch));
    assert_code(sr_ring_release(estate.ring), SR_E_STATE);
    assert_misuse("sr_ring_release", SR_E_STATE);
    assert_ok(sr_batch_destroy(&batch));

    /* The pool of a buffer ring has another ring. */
    pool_attach(estate.other_ring, estate.pool);
    assert_code(sr_ring_release(estate.ring), SR_E_STATE);
    assert_misuse("sr_ring_release", SR_E_STATE);
    assert_ok(sr_ring_detach_pool(estate.other_ring, estate.pool));

    /* It has an owner. */
    assert_code(sr_ring_adopt(estate.ring), SR_E_STATE);
    assert_misuse("sr_ring_adopt", SR_E_STATE);
    sr_set_misuse_hook(NULL, NULL);

    receive_by_buffer_ring(&estate);
    assert_ok(sr_ring_release(estate.ring));
    assert_ok(sr_ring_adopt(estate.ring));
    assert_ok(sr_ring_destroy(&estate.other_ring));
    estate_end(&estate);
    pool_end(&estate.shared_pool);
}

Test(move, what_forbids_a_move_gives_its_code_and_changes_nothing) {
    on_each_backend(refuse_moves);
}

static void *release_of_another(void *ctx) {
    misuse_watch();
    assert_code(sr_ring_release(ctx), SR_E_WRONG_THREAD);
    assert_misuse("sr_ring_release", SR_E_WRONG_THREAD);
    assert_code(sr_ring_adopt(ctx), SR_E_STATE);
    assert_misuse("sr_ring_adopt", SR_E_STATE);
    sr_set_misuse_hook(NULL, NULL);
    return NULL;
}

Test(move, a_ring_is_not_taken_from_its_owner) {
    sr_ring *ring = ring_make(NULL);
    thread_run(release_of_another, ring);
    ring_end(&ring);
}

/* ---- when adopting fails --------------------------------------------------------------------- */

static struct baseline baseline;

/* Every call that adopting makes fails in turn, once: the ring stays released, and the next try
 * gets it. */
static void fail_each_call(uint32_t backend) {
    struct estate estate;
    struct epoll_event event = {.events = EPOLLIN};
    uint32_t failed_count = 0;
    failing_install();
    estate_begin(&estate, backend);
    const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    cr_assert_eq(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, estate.event_fd, &event), 0);
    for (uint64_t nth = 1;; nth++) {
        assert_ok(sr_ring_release(estate.ring));
        baseline_take(&baseline);
        failing_plan(FAILING_ANY, nth, -ENOMEM, false);
        const uint64_t injected = failing_injected();
        const int code = sr_ring_adopt(estate.ring);
        failing_relent();
        if (code < 0) {
            const char *difference = baseline_difference(&baseline);
            cr_assert_null(difference, "call %llu: %s", (unsigned long long)nth, difference);
            assert_code(sr_ring_flush(estate.ring), SR_E_WRONG_THREAD);
            assert_ok(sr_ring_adopt(estate.ring));
            failed_count++;
        }
        everything_works(&estate, epoll_fd);
        if (failing_injected() == injected) {
            break;
        }
    }
    cr_assert_geq(failed_count, 4, "queue, fixed file, buffer ring, event descriptor; %u",
                  failed_count);
    cr_assert_eq(close(epoll_fd), 0);
    assert_ok(sr_ring_destroy(&estate.other_ring));
    estate_end(&estate);
    pool_end(&estate.shared_pool);
    cr_assert_null(failing_leak(), "%s", failing_leak());
    failing_remove();
}

Test(move, a_ring_that_could_not_be_adopted_is_still_released_and_whole) {
    fail_each_call(SR_BACKEND_ANY);
}

/* What a program polls differs between the backends, and its number stays. */
Test(move, a_ring_with_an_event_descriptor_does_not_change_its_backend) {
    int fd = -1;
    sr_ring *ring = ring_make(NULL);
    if (ring_stats(ring).backend != SR_BACKEND_URING) {
        ring_end(&ring);
        cr_skip_test("no io_uring here, so no other backend to come to");
    }
    assert_ok(sr_ring_event_fd(ring, &fd));
    assert_ok(sr_ring_release(ring));
    const char *missing = RUNNING_ON_VALGRIND != 0 ? "valgrind knows no seccomp(2)" : NULL;
    missing = missing == NULL ? deny_io_uring(EPERM) : missing;
    if (missing != NULL) {
        assert_ok(sr_ring_adopt(ring));
        ring_end(&ring);
        cr_skip_test("%s", missing);
    }
    baseline_take(&baseline);
    assert_code(sr_ring_adopt(ring), SR_E_UNSUPPORTED);
    const char *difference = baseline_difference(&baseline);
    cr_assert_null(difference, "%s", difference);
    assert_code(sr_ring_flush(ring), SR_E_WRONG_THREAD);
    ring_end(&ring);
}

/* ---- destroying what nobody owns ------------------------------------------------------------- */

static void *destroy_ring(void *ctx) {
    struct estate *estate = ctx;
    assert_ok(sr_ring_destroy(&estate->ring));
    cr_assert_null(estate->ring);
    /* Its pool is this thread's now, with all that the buffer ring had. */
    cr_assert_eq(pool_stats(estate->pool).free_count, 16);
    pool_end(&estate->pool);
    return NULL;
}

static void destroy_released(uint32_t backend) {
    struct estate estate;
    estate_begin(&estate, backend);
    const int fixed_fd = estate.file_fd;
    assert_ok(sr_ring_release(estate.ring));
    thread_run(destroy_ring, &estate);
    cr_assert_eq(fcntl(fixed_fd, F_GETFD), -1, "files are closed with the ring");
    cr_assert_eq(recv(estate.peer, &(char){0}, 1, 0), 0, "the peer sees the end");
    ring_end(&estate.other_ring);
    pool_end(&estate.shared_pool);
    cr_assert_eq(close(estate.peer), 0);
    directory_end(&estate.directory);
    sr_quarantine_counts counts = SR_QUARANTINE_STATS_INIT;
    assert_ok(sr_quarantine_stats(&counts));
    cr_assert_eq(counts.rings, 0, "nothing is in flight: no quarantine");
}

Test(move, a_released_ring_can_be_destroyed_by_any_thread) {
    on_each_backend(destroy_released);
}

static void *make_and_release(void *ctx) {
    struct estate *estate = ctx;
    estate_begin(estate, SR_BACKEND_ANY);
    assert_ok(sr_ring_destroy(&estate->other_ring));
    assert_ok(sr_ring_release(estate->ring));
    return NULL;
}

Test(move, a_ring_outlives_the_thread_that_released_it) {
    struct estate estate;
    sr_buffer buffer;
    thread_run(make_and_release, &estate);
    assert_ok(sr_ring_adopt(estate.ring));
    assert_ok(sr_pool_acquire(estate.shared_pool, 1, &buffer)); /* alone now: went along */
    assert_ok(sr_pool_release(estate.shared_pool, buffer));
    receive_by_buffer_ring(&estate);
    estate_end(&estate);
    pool_end(&estate.shared_pool);
}

static void in_child(void *ctx) {
    struct estate *estate = ctx;
    if (sr_ring_adopt(estate->ring) != SR_E_FORKED ||
        sr_ring_release(estate->ring) != SR_E_FORKED || sr_ring_destroy(&estate->ring) != 0) {
        _exit(1);
    }
}

Test(move, a_forked_child_cannot_adopt_a_released_ring) {
    struct estate estate;
    struct child_end end;
    estate_begin(&estate, SR_BACKEND_ANY);
    assert_ok(sr_ring_destroy(&estate.other_ring));
    assert_ok(sr_ring_release(estate.ring));
    child_run(in_child, &estate, &end);
    cr_assert_not(end.died, "%s", end.words);
    assert_ok(sr_ring_adopt(estate.ring));
    receive_by_buffer_ring(&estate);
    estate_end(&estate);
    pool_end(&estate.shared_pool);
}
