/* SPDX-License-Identifier: MIT */
/*
 * Buffer rings and operations that go on: who has which buffer, what happens when there is none,
 * when the kernel ends an operation for a reason of its own, and when the ring goes.
 */
#include "support/case.h"
#include "support/failing.h"
#include "support/scale.h"
#include "unit/fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <safering/buffer_ring.h>
#include <sys/socket.h>

#define BYTES   ((size_t)4096)
#define BUFFERS 16u
#define MS      UINT64_C(1000000)

static sr_ring *ring;
static sr_pool *pool;
static sr_buffer_ring *buffer_ring;
static sr_file near;
static int far;

static sr_buffer_ring *buffer_ring_make(uint32_t entries, uint32_t fill) {
    sr_buffer_ring_options options = SR_BUFFER_RING_OPTIONS_INIT;
    sr_buffer_ring *made = NULL;
    options.entries = entries;
    options.fill = fill;
    assert_ok(sr_buffer_ring_create(ring, pool, &options, &made));
    cr_assert_not_null(made);
    return made;
}

static void begin_with(const sr_ring_options *options, int type, uint32_t entries) {
    int ends[2];
    ring = ring_make(options);
    pool = pool_make(BYTES, BUFFERS);
    buffer_ring = buffer_ring_make(entries, UINT32_MAX);
    cr_assert_eq(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends), 0);
    near = file_take(ring, ends[0]);
    far = ends[1];
}

static void begin(void) {
    begin_with(NULL, SOCK_SEQPACKET, 4);
}

/* Everything comes back: every buffer is free when the ring has gone. */
static void end(void) {
    (void)close(far);
    ring_end(&ring);
    cr_assert_eq(pool_stats(pool).free_count + pool_stats(pool).held_count, BUFFERS);
    pool_end(&pool);
}

static sr_buffer_ring_stats counts(void) {
    sr_buffer_ring_stats stats = SR_BUFFER_RING_STATS_INIT;
    assert_ok(sr_buffer_ring_get_stats(buffer_ring, &stats));
    return stats;
}

static sr_request receive(uint16_t flags) {
    sr_request request = request_of(SR_OP_RECV);
    request.file = near;
    request.buffer_ring = buffer_ring;
    request.flags = flags;
    return request;
}

static void say(uint32_t number) {
    cr_assert_eq(send(far, &number, sizeof number, 0), (ssize_t)sizeof number);
}

static uint32_t number_in(sr_buffer buffer) {
    void *data = NULL;
    uint32_t number = 0;
    assert_ok(sr_buffer_data(pool, buffer, 0, sizeof number, SR_ACCESS_READ, &data));
    memcpy(&number, data, sizeof number);
    return number;
}

static void assert_brings(const sr_completion *completion, uint32_t number, bool more) {
    assert_code(completion->result, sizeof number);
    cr_assert_eq(completion->bytes_done, sizeof number);
    cr_assert_eq(completion->buffer_offset, 0);
    cr_assert_eq(completion->buffer_length, sizeof number);
    cr_assert_neq(completion->buffer.bits, 0);
    cr_assert_eq(number_in(completion->buffer), number);
    cr_assert_eq((completion->flags & SR_COMPLETION_MORE) != 0, more);
}

/* ---- one receive -------------------------------------------------------------------------------
 */

CASE(buffer_ring, a_receive_takes_a_buffer_when_data_arrives, begin, end) {
    const sr_request request = receive(0);
    (void)submit(ring, &request);
    cr_assert_eq(sr_ring_flush(ring), 1);
    cr_assert_eq(counts().buffers, 4, "an idle receive has none");
    cr_assert_eq(counts().operations, 1);
    say(7);
    const sr_completion completion = wait_one(ring);
    assert_brings(&completion, 7, false);
    cr_assert_eq(counts().buffers, 3);
    cr_assert_eq(counts().operations, 0);
    cr_assert_eq(counts().taken_total, 1);
    memset(buffer_bytes(pool, completion.buffer, BYTES), 1, BYTES); /* all of it is ours */
    assert_ok(sr_buffer_ring_provide(buffer_ring, completion.buffer));
    cr_assert_eq(counts().buffers, 4);
}

CASE(buffer_ring, what_was_provided_is_stale_and_cannot_be_used, begin, end) {
    const sr_request request = receive(0);
    void *data = NULL;
    say(1);
    const sr_buffer first = run(ring, &request).buffer;
    assert_ok(sr_buffer_ring_provide(buffer_ring, first));
    assert_code(sr_buffer_data(pool, first, 0, 1, SR_ACCESS_READ, &data), SR_E_STALE);
    assert_code(sr_pool_release(pool, first), SR_E_STALE);
    assert_code(sr_buffer_ring_provide(buffer_ring, first), SR_E_STALE);
    /* Also when the same memory comes round again. */
    for (uint32_t i = 0; i < 8; i++) {
        say(i);
        const sr_completion completion = run(ring, &request);
        cr_assert_neq(completion.buffer.bits, first.bits);
        assert_code(sr_buffer_data(pool, first, 0, 1, SR_ACCESS_READ, &data), SR_E_STALE);
        assert_ok(sr_buffer_ring_provide(buffer_ring, completion.buffer));
    }
}

CASE(buffer_ring, any_buffer_of_the_pool_may_be_provided_and_any_released, begin, end) {
    const sr_request request = receive(0);
    const sr_buffer fresh = buffer_take(pool);
    assert_code(sr_buffer_ring_provide(buffer_ring, fresh), SR_E_FULL);
    (void)buffer_bytes(pool, fresh, BYTES); /* still ours */
    say(1);
    const sr_buffer brought = run(ring, &request).buffer;
    assert_ok(sr_buffer_ring_provide(buffer_ring, fresh));
    assert_ok(sr_pool_release(pool, brought));
    cr_assert_eq(counts().buffers, 4);
    cr_assert_eq(pool_stats(pool).held_count, 4);
}

CASE(buffer_ring, a_lent_buffer_cannot_be_provided, begin, end) {
    say(1);
    const sr_request request = receive(0);
    const sr_buffer brought = run(ring, &request).buffer;
    sr_request send_it = request_of(SR_OP_SEND);
    send_it.file = near;
    send_it.buffer = brought;
    send_it.length = 10;
    pool_attach(ring, pool);
    (void)submit(ring, &send_it);
    assert_code(sr_buffer_ring_provide(buffer_ring, brought), SR_E_IN_FLIGHT);
    assert_code(wait_one(ring).result, 10);
    assert_ok(sr_buffer_ring_provide(buffer_ring, brought));
}

/* Takes the first four messages, so that the ring has no buffer left for those that follow. */
static void hold_all(sr_buffer held[4]) {
    for (uint32_t got = 0; got < 4;) {
        const sr_completion *completions = NULL;
        const int count = sr_ring_wait(ring, 1, SR_FOREVER, NULL, &completions);
        for (int i = 0; i < count; i++) {
            assert_brings(&completions[i], got, true);
            held[got++] = completions[i].buffer;
        }
    }
}

/* ---- again and again ---------------------------------------------------------------------------
 */

CASE(buffer_ring, a_multishot_receive_brings_each_message, begin, end) {
    const sr_request request = receive(SR_REQUEST_MULTISHOT);
    const sr_op op = submit(ring, &request);
    for (uint32_t i = 0; i < 100; i++) {
        say(i);
        const sr_completion completion = wait_one(ring);
        cr_assert_eq(completion.op.bits, op.bits);
        assert_brings(&completion, i, true);
        assert_ok(sr_buffer_ring_provide(buffer_ring, completion.buffer));
    }
    cr_assert_eq(ring_stats(ring).ops_in_flight, 1);
    (void)shutdown(far, SHUT_WR);
    const sr_completion last = wait_one(ring);
    assert_code(last.result, 0);
    cr_assert_eq(last.flags & SR_COMPLETION_MORE, 0);
    cr_assert_eq(last.buffer.bits, 0);
    cr_assert_eq(ring_stats(ring).ops_in_flight, 0);
    cr_assert_eq(counts().buffers, 4);
}

CASE(buffer_ring, a_starved_receive_goes_on_when_a_buffer_is_provided, begin, end) {
    const sr_request request = receive(SR_REQUEST_MULTISHOT);
    sr_buffer held[4];
    (void)submit(ring, &request);
    for (uint32_t i = 0; i < 10; i++) {
        say(i);
    }
    hold_all(held);
    /* Nothing can come until we give: that is said, not waited for. */
    assert_code(sr_ring_wait(ring, 1, SR_FOREVER, NULL, NULL), SR_E_IDLE);
    cr_assert_eq(counts().starved, 1);
    cr_assert_eq(counts().starved_total, 1);
    cr_assert_eq(ring_stats(ring).starved_total, 1);
    cr_assert_eq(ring_stats(ring).ops_in_flight, 1);
    for (uint32_t i = 0; i < 6; i++) {
        assert_ok(sr_buffer_ring_provide(buffer_ring, held[0]));
        const sr_completion completion = wait_one(ring);
        assert_brings(&completion, 4 + i, true);
        held[0] = completion.buffer;
    }
    cr_assert_geq(ring_stats(ring).starved_total, 2);
}

/* It starved in the kernel; before that is seen, all of the ring is provided again. */
Test(buffer_ring, a_receive_that_starves_behind_what_was_provided_since_goes_on) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.completions_max = 1;
    begin_with(&options, SOCK_SEQPACKET, 4);
    const sr_request request = receive(SR_REQUEST_MULTISHOT);
    (void)submit(ring, &request);
    for (uint32_t i = 0; i < 10; i++) {
        say(i);
    }
    for (uint32_t i = 0; i < 10; i++) {
        const sr_completion completion = wait_one(ring);
        assert_brings(&completion, i, true);
        assert_ok(sr_buffer_ring_provide(buffer_ring, completion.buffer));
    }
    cr_assert_geq(counts().starved_total, 1, "nothing was tested");
    cr_assert_eq(counts().starved, 0);
    cr_assert_eq(counts().buffers, 4);
    end();
}

/* Of two that starve, the first gets the only buffer and finds that it does not need it. */
CASE(buffer_ring, a_buffer_that_one_receive_leaves_goes_to_the_next, begin, end) {
    int ends[2];
    int fd = -1;
    uint32_t number = 0;
    sr_buffer held[4];
    sr_request request = receive(SR_REQUEST_MULTISHOT);
    const sr_op first = submit(ring, &request);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    for (uint32_t i = 0; i < 5; i++) {
        say(i);
    }
    hold_all(held);
    request.file = file_take(ring, ends[0]);
    const sr_op second = submit(ring, &request);
    number = 77;
    cr_assert_eq(send(ends[1], &number, sizeof number, 0), (ssize_t)sizeof number);
    assert_code(sr_ring_wait(ring, 1, SR_FOREVER, NULL, NULL), SR_E_IDLE);
    cr_assert_eq(counts().starved, 2);
    /* Somebody else takes what the first one starved for. */
    assert_ok(sr_file_fd(ring, near, &fd));
    cr_assert_eq(recv(fd, &number, sizeof number, MSG_DONTWAIT), (ssize_t)sizeof number);
    cr_assert_eq(number, 4);
    assert_ok(sr_buffer_ring_provide(buffer_ring, held[0]));
    assert_code(sr_ring_wait(ring, 1, 50 * MS, NULL, NULL), SR_E_TIMEOUT);
    cr_assert_eq(counts().starved, 1);
    assert_ok(sr_op_cancel(ring, first));
    uint32_t seen = 0;
    for (uint32_t turns = 0; seen != 3; turns++) {
        const sr_completion *completions = NULL;
        cr_assert_lt(turns, 4);
        const int count = sr_ring_wait(ring, 1, 5000 * MS, NULL, &completions);
        cr_assert_geq(count, 1, "%s: what is left is slept over", sr_error_name(count));
        for (int i = 0; i < count; i++) {
            if (completions[i].op.bits == first.bits) {
                assert_code(completions[i].result, -ECANCELED);
                seen |= 1;
            } else {
                cr_assert_eq(completions[i].op.bits, second.bits);
                assert_brings(&completions[i], 77, true);
                seen |= 2;
            }
        }
    }
    (void)close(ends[1]);
}

CASE(buffer_ring, a_starved_receive_can_be_cancelled_and_abandoned, begin, end) {
    for (uint32_t way = 0; way < 2; way++) {
        sr_buffer held[4];
        const sr_request request = receive(SR_REQUEST_MULTISHOT);
        const sr_op op = submit(ring, &request);
        for (uint32_t i = 0; i < 5; i++) {
            say(i);
        }
        hold_all(held);
        assert_code(sr_ring_wait(ring, 1, SR_FOREVER, NULL, NULL), SR_E_IDLE);
        cr_assert_eq(counts().starved, 1);
        if (way == 0) {
            assert_ok(sr_op_cancel(ring, op));
            const sr_completion completion = wait_one(ring);
            assert_code(completion.result, -ECANCELED);
            cr_assert_eq(completion.flags & SR_COMPLETION_MORE, 0);
        } else {
            assert_ok(sr_op_abandon(ring, op, NULL));
            assert_code(sr_ring_wait(ring, 0, 0, NULL, NULL), 0);
        }
        cr_assert_eq(counts().starved, 0);
        cr_assert_eq(ring_stats(ring).ops_in_flight, 0);
        for (uint32_t i = 0; i < 4; i++) {
            assert_ok(sr_buffer_ring_provide(buffer_ring, held[i]));
        }
        const sr_request rest = receive(0); /* the fifth message was not lost */
        const sr_completion completion = run(ring, &rest);
        assert_brings(&completion, 4, false);
        assert_ok(sr_buffer_ring_provide(buffer_ring, completion.buffer));
    }
}

/* It can come to an end without the caller's help, so it is waited for. */
CASE(buffer_ring, a_starved_receive_meets_its_deadline_in_the_wait, begin, end) {
    sr_request request = receive(SR_REQUEST_MULTISHOT);
    sr_buffer held[4];
    request.deadline_ns = 300 * MS; /* after all of this, also on a slow machine */
    (void)submit(ring, &request);
    for (uint32_t i = 0; i < 5; i++) {
        say(i);
    }
    hold_all(held);
    const sr_completion completion = wait_one(ring);
    assert_code(completion.result, -ECANCELED);
    cr_assert_eq(completion.flags, SR_COMPLETION_DEADLINE_HIT | SR_COMPLETION_CANCEL_ASKED);
    cr_assert_eq(ring_stats(ring).starved_total, 1);
    cr_assert_eq(counts().starved, 0);
    assert_code(sr_ring_wait(ring, 1, SR_FOREVER, NULL, NULL), SR_E_IDLE);
}

CASE(buffer_ring, closing_a_file_ends_its_starved_receive, begin, end) {
    sr_buffer held[4];
    const sr_request request = receive(SR_REQUEST_MULTISHOT);
    const sr_op op = submit(ring, &request);
    for (uint32_t i = 0; i < 5; i++) {
        say(i);
    }
    hold_all(held);
    assert_code(sr_ring_wait(ring, 1, SR_FOREVER, NULL, NULL), SR_E_IDLE);
    sr_request close_it = request_of(SR_OP_CLOSE);
    close_it.file = near;
    const sr_op closing = submit(ring, &close_it);
    for (int ended = 0; ended < 2;) {
        const sr_completion *completions = NULL;
        const int count = sr_ring_wait(ring, 1, 5000 * MS, NULL, &completions);
        cr_assert_geq(count, 1, "%s", sr_error_name(count));
        for (int i = 0; i < count; i++, ended++) {
            cr_assert_eq(completions[i].op.bits, ended == 0 ? op.bits : closing.bits);
            assert_code(completions[i].result, ended == 0 ? -ECANCELED : 0);
        }
    }
    for (uint32_t i = 0; i < 4; i++) {
        assert_ok(sr_pool_release(pool, held[i]));
    }
}

/* A full completion queue makes the kernel end multishots with success. */
Test(buffer_ring, a_receive_that_the_kernel_ended_goes_on_and_loses_no_message) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.entries = 4;
    options.ops_max = 4;
    options.completions_max = 3;
    const uint32_t messages = 10000;
    begin_with(&options, SOCK_SEQPACKET, 8);
    const sr_request request = receive(SR_REQUEST_MULTISHOT);
    (void)submit(ring, &request);
    cr_assert_eq(sr_ring_flush(ring), 1);
    uint32_t sent = 0;
    for (uint32_t got = 0; got < messages;) {
        while (sent < messages && send(far, &sent, sizeof sent, MSG_DONTWAIT) > 0) {
            sent++;
        }
        const sr_completion *completions = NULL;
        const int count = sr_ring_wait(ring, 1, SR_FOREVER, NULL, &completions);
        cr_assert_geq(count, 1, "%s", sr_error_name(count));
        for (int i = 0; i < count; i++) {
            assert_brings(&completions[i], got++, true);
            assert_ok(sr_buffer_ring_provide(buffer_ring, completions[i].buffer));
        }
    }
    end();
}

/* As many polls as the completion queue has not: each event comes, none is the last. */
Test(buffer_ring, more_armed_polls_than_the_completion_queue_holds_all_go_on) {
    enum { POLLS = 200 };
    static int peers[POLLS];
    static uint32_t events[POLLS];
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.entries = 8;
    options.ops_max = POLLS;
    options.cq_entries = 64;
    options.completions_max = 4; /* slower than the events come */
    ring = ring_make(&options);
    cr_assert_eq(ring_stats(ring).cq_entries, 64);
    for (uint32_t i = 0; i < POLLS; i++) {
        int ends[2];
        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        sr_request request = request_of(SR_OP_POLL);
        request.file = file_take(ring, ends[0]);
        request.mask = POLLIN;
        request.flags = SR_REQUEST_MULTISHOT;
        request.tag = i;
        (void)submit(ring, &request);
        peers[i] = ends[1];
    }
    cr_assert_geq(sr_ring_flush(ring), 0);
    for (uint32_t round = 1; round <= 3; round++) {
        uint32_t seen = 0;
        for (uint32_t i = 0; i < POLLS; i++) {
            cr_assert_eq(write(peers[i], "x", 1), 1);
        }
        while (seen < POLLS) {
            const sr_completion *completions = NULL;
            const int count = sr_ring_wait(ring, 1, SR_FOREVER, NULL, &completions);
            cr_assert_geq(count, 1);
            for (int i = 0; i < count; i++) {
                cr_assert_neq(completions[i].flags & SR_COMPLETION_MORE, 0);
                cr_assert_eq(completions[i].result & POLLIN, POLLIN);
                seen += events[completions[i].tag] < round;
                events[completions[i].tag] = round;
            }
        }
    }
    cr_assert_gt(ring_stats(ring).rearmed_total, 0, "the kernel never ended one");
    cr_assert_eq(ring_stats(ring).ops_in_flight, POLLS);
    ring_end(&ring);
    for (uint32_t i = 0; i < POLLS; i++) {
        (void)close(peers[i]);
    }
}

/* One-shot operations cannot be more than the completion queue holds. */
Test(buffer_ring, one_shot_operations_are_bounded_by_the_completion_queue) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.entries = 8;
    options.ops_max = 1000;
    options.cq_entries = 128;
    begin_with(&options, SOCK_STREAM, 4);
    sr_request request = request_of(SR_OP_POLL);
    request.file = near;
    request.mask = POLLIN;
    for (uint32_t i = 0; i < 64; i++) { /* 128, less what the library needs itself */
        (void)submit(ring, &request);
    }
    assert_code(sr_ring_submit(ring, &request, NULL), SR_E_FULL);
    request.flags = SR_REQUEST_MULTISHOT;
    for (uint32_t i = 0; i < 936; i++) {
        (void)submit(ring, &request);
    }
    assert_code(sr_ring_submit(ring, &request, NULL), SR_E_FULL);
    end();
}

CASE(buffer_ring, a_multishot_accept_brings_each_connection, begin, end) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    int clients[20];
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(listen(fd, 64), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    sr_request request = request_of(SR_OP_ACCEPT);
    request.file = file_take(ring, fd);
    request.flags = SR_REQUEST_MULTISHOT;
    const sr_op op = submit(ring, &request);
    for (size_t i = 0; i < COUNT_OF(clients); i++) {
        int accepted = -1;
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        cr_assert_eq(connect(clients[i], (struct sockaddr *)&address, sizeof address), 0);
        const sr_completion completion = wait_one(ring);
        assert_ok(completion.result);
        cr_assert_eq(completion.op.bits, op.bits);
        cr_assert_neq(completion.flags & SR_COMPLETION_MORE, 0);
        cr_assert_null(completion.message);
        assert_ok(sr_file_fd(ring, completion.file, &accepted));
        char byte = 0;
        cr_assert_eq(write(clients[i], "x", 1), 1);
        cr_assert_eq(read(accepted, &byte, 1), 1);
    }
    assert_ok(sr_op_cancel(ring, op));
    const sr_completion last = wait_one(ring);
    assert_code(last.result, -ECANCELED);
    cr_assert_eq(last.flags & SR_COMPLETION_MORE, 0);
    cr_assert_eq(last.file.bits, 0);
    for (size_t i = 0; i < COUNT_OF(clients); i++) {
        (void)close(clients[i]);
    }
}

Test(buffer_ring, a_connection_without_a_place_for_its_file_is_closed_counted_and_told) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.files_max = 2; /* the listener and one */
    ring = ring_make(&options);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(listen(fd, 64), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    sr_request request = request_of(SR_OP_ACCEPT);
    request.file = file_take(ring, fd);
    request.flags = SR_REQUEST_MULTISHOT;
    (void)submit(ring, &request);
    for (uint32_t i = 0; i < 3; i++) {
        const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        cr_assert_eq(connect(client, (struct sockaddr *)&address, sizeof address), 0);
        const sr_completion completion = wait_one(ring);
        assert_code(completion.result, i == 0 ? 0 : SR_E_FULL);
        cr_assert_neq(completion.flags & SR_COMPLETION_MORE, 0);
        cr_assert_eq(completion.file.bits != 0, i == 0);
        (void)close(client);
    }
    cr_assert_eq(ring_stats(ring).descriptors_closed_total, 2);
    ring_end(&ring);
}

static uint32_t calls;

/* Cancels the very operation that it is told about. */
static void cancel_in_callback(sr_ring *its_ring, const sr_completion *completion, void *ctx) {
    (void)ctx;
    calls++;
    if ((completion->flags & SR_COMPLETION_MORE) != 0) {
        assert_ok(sr_op_cancel(its_ring, completion->op));
    }
    if (completion->buffer.bits != 0) {
        assert_ok(sr_buffer_ring_provide(buffer_ring, completion->buffer));
    }
}

CASE(buffer_ring, a_callback_may_end_the_operation_that_it_is_told_about, begin, end) {
    sr_request request = receive(SR_REQUEST_MULTISHOT);
    request.on_complete = cancel_in_callback;
    (void)submit(ring, &request);
    say(1);
    calls = 0;
    assert_code(sr_ring_wait(ring, 2, SR_FOREVER, NULL, NULL), 0);
    cr_assert_eq(calls, 2);
    cr_assert_eq(ring_stats(ring).ops_in_flight, 0);
}

CASE(buffer_ring, what_an_abandoned_receive_brings_goes_back_into_the_ring_and_is_counted, begin,
     end) {
    const sr_request request = receive(SR_REQUEST_MULTISHOT);
    const sr_op op = submit(ring, &request);
    cr_assert_eq(sr_ring_flush(ring), 1);
    say(1);
    say(2);
    assert_ok(sr_op_abandon(ring, op, NULL));
    while (ring_stats(ring).ops_in_flight > 0) {
        assert_code(sr_ring_wait(ring, 0, 0, NULL, NULL), 0);
    }
    cr_assert_eq(counts().buffers, 4);
    cr_assert_eq(counts().operations, 0);
    cr_assert_leq(ring_stats(ring).messages_lost_total, 2);
    cr_assert_eq(ring_stats(ring).messages_lost_total, counts().taken_total);
}

/* ---- no buffer in two hands ---------------------------------------------------------------------
 */

/*
 * Random load: several connections, slow consumers that hold buffers for a while, starvation,
 * cancels. Each message fills its buffer with its own number; a buffer in two hands would show
 * another number than the message had, or be refused when it is provided.
 */
Test(buffer_ring, no_buffer_is_ever_in_two_hands) {
    enum { CONNECTIONS = 6, HELD_MAX = BUFFERS, WORDS = 64 };
    struct scale_random random = scale_random(1);
    const uint32_t rounds = (uint32_t)scale_count(20000, 500);
    int peers[CONNECTIONS];
    sr_file files[CONNECTIONS];
    sr_op ops[CONNECTIONS];
    uint32_t sent[CONNECTIONS] = {0};
    uint32_t got[CONNECTIONS] = {0};
    struct {
        sr_buffer buffer;
        uint32_t number;
    } held[HELD_MAX];
    uint32_t held_count = 0;
    uint32_t cancels = 0;
    begin_with(NULL, SOCK_SEQPACKET, 8);
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        int ends[2];
        cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
        files[i] = file_take(ring, ends[0]);
        peers[i] = ends[1];
        ops[i] = SR_OP_NONE;
    }
    for (uint32_t round = 0; round < rounds; round++) {
        const uint32_t who = (uint32_t)scale_random_below(&random, CONNECTIONS);
        const uint32_t what = (uint32_t)scale_random_below(&random, 16);
        if (ops[who].bits == 0) {
            sr_request request = receive(what % 2 == 0 ? SR_REQUEST_MULTISHOT : 0);
            request.file = files[who];
            request.tag = who;
            ops[who] = submit(ring, &request);
        } else if (what < 8) {
            uint32_t words[WORDS];
            for (uint32_t i = 0; i < WORDS; i++) {
                words[i] = who << 24 | sent[who];
            }
            sent[who] += send(peers[who], words, sizeof words, MSG_DONTWAIT) > 0;
        } else if (what == 8) {
            assert_ok(sr_op_cancel(ring, ops[who]));
            cancels++;
        } else if (what < 13 && held_count > 0) {
            const uint32_t one = (uint32_t)scale_random_below(&random, held_count);
            uint32_t words[WORDS];
            void *data = NULL;
            assert_ok(
                sr_buffer_data(pool, held[one].buffer, 0, sizeof words, SR_ACCESS_WRITE, &data));
            memcpy(words, data, sizeof words);
            for (uint32_t i = 0; i < WORDS; i++) {
                cr_assert_eq(words[i], held[one].number, "round %u: a buffer in two hands", round);
            }
            memset(data, 0xee, sizeof words);
            assert_ok(sr_buffer_ring_provide(buffer_ring, held[one].buffer));
            held[one] = held[--held_count];
        }
        const sr_completion *completions = NULL;
        const int count = sr_ring_wait(ring, 0, 0, NULL, &completions);
        cr_assert_geq(count, 0);
        for (int i = 0; i < count; i++) {
            const sr_completion *completion = &completions[i];
            const uint32_t whose = (uint32_t)completion->tag;
            if (completion->result > 0) {
                assert_code(completion->result, WORDS * sizeof(uint32_t));
                cr_assert_lt(held_count, HELD_MAX);
                held[held_count].buffer = completion->buffer;
                held[held_count++].number = whose << 24 | got[whose]++;
            } else {
                assert_code(completion->result, -ECANCELED);
            }
            if ((completion->flags & SR_COMPLETION_MORE) == 0) {
                ops[whose] = SR_OP_NONE;
            }
        }
        cr_assert_eq(counts().buffers + held_count, 8, "round %u", round);
    }
    fprintf(stderr, "two hands: %u rounds, %u cancels, starved %llu times\n", rounds, cancels,
            (unsigned long long)counts().starved_total);
    cr_assert(rounds < 1000 || (counts().starved_total > 0 && cancels > 0), "too easy a load");
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        (void)close(peers[i]);
    }
    for (uint32_t i = 0; i < held_count; i++) {
        assert_ok(sr_pool_release(pool, held[i].buffer));
    }
    end();
}

/* ---- beginning and end
 * --------------------------------------------------------------------------- */

CASE(buffer_ring, it_cannot_end_while_something_receives_from_it, begin, end) {
    const sr_request request = receive(0);
    const sr_op op = submit(ring, &request);
    sr_buffer_ring *same = buffer_ring;
    assert_code(sr_buffer_ring_destroy(&buffer_ring), SR_E_IN_FLIGHT);
    cr_assert_eq(buffer_ring, same);
    assert_ok(sr_op_cancel(ring, op));
    assert_code(wait_one(ring).result, -ECANCELED);
    cr_assert_eq(pool_stats(pool).free_count, BUFFERS - 4);
    assert_code(sr_pool_destroy(&pool), SR_E_STATE);
    assert_ok(sr_buffer_ring_destroy(&buffer_ring));
    cr_assert_null(buffer_ring);
    cr_assert_eq(pool_stats(pool).free_count, BUFFERS);
    assert_ok(sr_buffer_ring_destroy(&buffer_ring));
    /* And another one may take its place. */
    buffer_ring = buffer_ring_make(8, 8);
    say(3);
    const sr_request again = receive(0);
    const sr_completion completion = run(ring, &again);
    assert_brings(&completion, 3, false);
}

CASE(buffer_ring, options_that_make_no_sense_are_refused, begin, end) {
    sr_buffer_ring *made = NULL;
    sr_buffer_ring_options options = SR_BUFFER_RING_OPTIONS_INIT;
    const uint32_t entries[] = {0, 3, 65536, UINT32_MAX};
    for (size_t i = 0; i < COUNT_OF(entries); i++) {
        options.entries = entries[i];
        options.fill = 0;
        assert_code(sr_buffer_ring_create(ring, pool, &options, &made), SR_E_BOUNDS);
    }
    options.entries = 4;
    options.fill = 5;
    assert_code(sr_buffer_ring_create(ring, pool, &options, &made), SR_E_BOUNDS);
    options.entries = 32; /* more than the pool has */
    options.fill = 32;
    assert_code(sr_buffer_ring_create(ring, pool, &options, &made), SR_E_FULL);
    cr_assert_null(made);
    cr_assert_eq(pool_stats(pool).free_count, BUFFERS - 4, "a failed creation keeps buffers");
    options.fill = 2; /* fewer than it can hold */
    assert_ok(sr_buffer_ring_create(ring, pool, &options, &made));
    cr_assert_eq(pool_stats(pool).free_count, BUFFERS - 6);
    assert_ok(sr_buffer_ring_destroy(&made));
}

CASE(buffer_ring, a_request_may_not_name_the_buffer_ring_of_another_ring, begin, end) {
    sr_request request = receive(0);
    int ends[2];
    sr_ring *other = ring_make(NULL);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    request.file = file_take(other, ends[0]);
    assert_code(sr_ring_submit(other, &request, NULL), SR_E_OBJECT);
    request.buffer_ring = (sr_buffer_ring *)(void *)pool;
    request.file = near;
    assert_code(sr_ring_submit(ring, &request, NULL), SR_E_OBJECT);
    request.buffer_ring = buffer_ring;
    request.flags = SR_REQUEST_FULL;
    assert_code(sr_ring_submit(ring, &request, NULL), -EINVAL);
    (void)close(ends[1]);
    ring_end(&other);
}

Test(buffer_ring, each_step_of_its_creation_may_fail_and_leaves_nothing) {
    failing_install();
    ring = ring_make(NULL);
    pool = pool_make(BYTES, BUFFERS);
    static const struct {
        enum failing_call call;
        uint64_t nth;
    } steps[] = {
        {FAILING_ALLOCATE, 1},
        {FAILING_ALLOCATE, 2},
        {FAILING_ALLOCATE, 3},
        {FAILING_MAP, 1},
        {FAILING_QUEUE_ADD_BUFFER_RING, 1},
    };
    sr_buffer_ring_options options = SR_BUFFER_RING_OPTIONS_INIT;
    options.entries = 8;
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        sr_buffer_ring *made = NULL;
        failing_plan(steps[i].call, steps[i].nth, -ENOMEM, false);
        assert_code(sr_buffer_ring_create(ring, pool, &options, &made), -ENOMEM);
        failing_relent();
        cr_assert_null(made);
        cr_assert_eq(pool_stats(pool).free_count, BUFFERS);
        cr_assert_eq(pool_stats(pool).rings_attached, 0);
    }
    ring_end(&ring);
    pool_end(&pool);
    failing_remove();
}

Test(buffer_ring, a_ring_that_goes_takes_its_buffer_rings_and_operations_along) {
    begin();
    const sr_request request = receive(SR_REQUEST_MULTISHOT);
    (void)submit(ring, &request);
    cr_assert_eq(sr_ring_flush(ring), 1);
    say(1);
    ring_end(&ring);
    cr_assert_eq(pool_stats(pool).free_count, BUFFERS);
    cr_assert_eq(pool_stats(pool).rings_attached, 0);
    pool_end(&pool);
    (void)close(far);
}
