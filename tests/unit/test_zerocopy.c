/* SPDX-License-Identifier: MIT */
/*
 * Zero-copy sends: the buffer comes back with the notice that the network has let go of it, not
 * with the result, and not because somebody asked for the end. In the first part the test itself
 * decides when the ring sees which completion; in the second the network does, over a wire that can
 * be cut.
 */
#include "support/screen.h"
#include "support/skip.h"
#include "support/veth.h"
#include "unit/fixture.h"

#include "ring/ring.h"

#include <arpa/inet.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define BYTES ((size_t)16384)
#define MS    UINT64_C(1000000)

TestSuite(zerocopy, .timeout = 60);

static sr_ring *ring;
static sr_pool *pool;
static sr_buffer buffer;
static unsigned char *bytes; /* of the buffer, as the program once had them */
static sr_file file;         /* a connected socket of the ring's */
static int peer;             /* its other end */

static void ring_begin(uint32_t backend) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    sr_pool_options pool_options = SR_POOL_OPTIONS_INIT;
    options.backend = backend;
    options.drain_timeout_ns = 50 * MS;
    ring = ring_make(&options);
    pool_options.buffer_size_bytes = BYTES;
    pool_options.buffer_count = 2;
    pool_options.guard = SR_GUARD_OFF; /* some cases touch what is lent */
    assert_ok(sr_pool_create(NULL, &pool_options, &pool));
    pool_attach(ring, pool);
    buffer = buffer_take(pool);
    bytes = buffer_bytes(pool, buffer, BYTES);
    memset(bytes, 'a', BYTES);
}

/* Connects @near_fd to a listener at @far_fd, for which @address is free. */
static void connect_over(int near_fd, int far_fd, struct sockaddr_in address) {
    socklen_t size = sizeof address;
    cr_assert_eq(bind(far_fd, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(listen(far_fd, 1), 0);
    cr_assert_eq(getsockname(far_fd, (struct sockaddr *)&address, &size), 0);
    cr_assert_eq(connect(near_fd, (struct sockaddr *)&address, sizeof address), 0, "%s",
                 strerror(errno));
    peer = accept4(far_fd, NULL, NULL, SOCK_CLOEXEC);
    cr_assert_geq(peer, 0);
    (void)close(far_fd);
    file = file_take(ring, near_fd);
}

static sr_request send_zc(uint64_t length) {
    sr_request request = request_of(SR_OP_SEND_ZC);
    request.file = file;
    request.buffer = buffer;
    request.length = length;
    return request;
}

static void assert_lent(void) {
    void *data = NULL;
    assert_code(sr_buffer_data(pool, buffer, 0, 1, SR_ACCESS_WRITE, &data), SR_E_LENT);
    cr_assert_null(data);
    assert_ok(sr_buffer_data(pool, buffer, 0, 1, SR_ACCESS_READ, &data));
    assert_code(sr_pool_release(pool, buffer), SR_E_IN_FLIGHT);
}

static void assert_back(void) {
    cr_assert_eq(buffer_bytes(pool, buffer, BYTES), bytes);
}

static void assert_nothing_comes(uint64_t timeout_ns) {
    const sr_completion *completions = NULL;
    assert_code(sr_ring_wait(ring, 1, timeout_ns, NULL, &completions), SR_E_TIMEOUT);
    cr_assert_eq(ring_stats(ring).ops_in_flight, 1);
    assert_lent();
}

static sr_completion assert_comes(sr_op op, int64_t result) {
    const sr_completion *completions = NULL;
    const int count = sr_ring_wait(ring, 1, 10000 * MS, NULL, &completions);
    cr_assert_eq(count, 1, "%s", sr_error_name(count));
    cr_assert_eq(completions[0].op.bits, op.bits);
    assert_code(completions[0].result, result);
    cr_assert_eq(completions[0].bytes_done, (uint64_t)result);
    cr_assert_eq(completions[0].buffer.bits, buffer.bits);
    cr_assert_eq(ring_stats(ring).ops_in_flight, 0);
    assert_back();
    return completions[0];
}

/* ---- two completions, in any order -----------------------------------------------------------
 */

static uint64_t watched; /* the operation */

static bool is_notice(const struct sri_cqe *cqe) {
    return cqe->user_data == watched && (cqe->flags & SRI_IORING_CQE_F_NOTIF) != 0;
}

static bool is_either(const struct sri_cqe *cqe) {
    return cqe->user_data == watched;
}

/* Sends, and returns when the ring could see all but the completions that are kept. */
static sr_op send_kept(bool (*keeps)(const struct sri_cqe *cqe), uint64_t deadline_ns) {
    const uint32_t kept = keeps == is_either ? 2 : 1;
    sr_request request = send_zc(1000);
    request.deadline_ns = deadline_ns;
    const sr_op op = submit(ring, &request);
    watched = op.bits;
    screen_keep(keeps);
    for (uint32_t turns = 0; screen_kept_count() < kept; turns++) {
        cr_assert_lt(turns, 1000, "the kernel does not complete it");
        assert_code(sr_ring_wait(ring, 1, 10 * MS, NULL, NULL), SR_E_TIMEOUT);
    }
    cr_assert_eq(screen_shown_count(), 2 - kept, "the result was there to be seen");
    cr_assert_eq(recv(peer, (char[1000]){0}, 1000, MSG_WAITALL), 1000, "it did arrive");
    assert_nothing_comes(20 * MS);
    return op;
}

static uint64_t stale(void) {
    return ring_stats(ring).completions_stale_total;
}

static void the_result_gives_nothing_back(void) {
    const sr_op op = send_kept(is_notice, 0);
    screen_show(0);
    (void)assert_comes(op, 1000);
    cr_assert_eq(stale(), 0);
}

static void the_notice_may_come_first(void) {
    const sr_op op = send_kept(is_either, 0);
    screen_show(1);
    assert_nothing_comes(20 * MS);
    screen_show(0);
    (void)assert_comes(op, 1000);
    cr_assert_eq(stale(), 0);
}

static void a_second_result_is_no_notice(void) {
    const sr_op op = send_kept(is_either, 0);
    screen_show(0);
    screen_show(0);
    screen_show(0);
    assert_nothing_comes(20 * MS);
    cr_assert_eq(stale(), 2);
    screen_show(1);
    (void)assert_comes(op, 1000);
}

static void a_second_notice_is_no_result(void) {
    const sr_op op = send_kept(is_either, 0);
    screen_show(1);
    screen_show(1);
    assert_nothing_comes(20 * MS);
    cr_assert_eq(stale(), 1);
    screen_show(0);
    (void)assert_comes(op, 1000);
    /* Now both are about nobody. */
    screen_show(0);
    screen_show(1);
    assert_code(sr_ring_wait(ring, 0, 0, NULL, NULL), 0);
    cr_assert_eq(stale(), 3);
}

static void a_late_notice_does_not_hit_the_next_send(void) {
    const sr_op op = send_kept(is_either, 0);
    screen_show(0);
    screen_show(1);
    (void)assert_comes(op, 1000);
    screen_keep(NULL);
    const sr_request request = send_zc(1000);
    const sr_op next = submit(ring, &request);
    screen_show(0);
    screen_show(1);
    (void)assert_comes(next, 1000);
    cr_assert_eq(stale(), 2);
}

static void a_cancel_gives_nothing_back(void) {
    const sr_op op = send_kept(is_notice, 0);
    assert_ok(sr_op_cancel(ring, op));
    assert_nothing_comes(50 * MS);
    screen_show(0);
    cr_assert_eq(assert_comes(op, 1000).flags, SR_COMPLETION_CANCEL_ASKED);
}

static void a_deadline_gives_nothing_back(void) {
    const sr_op op = send_kept(is_notice, 20 * MS);
    assert_nothing_comes(50 * MS);
    screen_show(0);
    cr_assert_neq(assert_comes(op, 1000).flags & SR_COMPLETION_DEADLINE_HIT, 0);
}

static void an_abandoned_one_is_in_quarantine_until_the_notice(void) {
    const sr_op op = send_kept(is_notice, 0);
    assert_ok(sr_op_abandon(ring, op, NULL));
    assert_code(sr_ring_wait(ring, 0, 0, NULL, NULL), 0);
    cr_assert_eq(pool_stats(pool).quarantined_count, 1);
    assert_code(sr_pool_release(pool, buffer), SR_E_STALE);
    screen_show(0);
    assert_code(sr_ring_wait(ring, 0, 0, NULL, NULL), 0);
    cr_assert_eq(pool_stats(pool).quarantined_count, 0);
    cr_assert_eq(pool_stats(pool).free_count, 2);
    buffer = buffer_take(pool);
}

static void a_ring_that_goes_does_not_give_it_back(void) {
    (void)send_kept(is_notice, 0);
    assert_code(sr_ring_destroy(&ring), SR_E_IN_FLIGHT);
    assert_code(sr_pool_release(pool, buffer), SR_E_STALE);
    cr_assert_eq(sr_quarantine_sweep(10000 * MS), 0); /* the kernel had ended it long ago */
    cr_assert_eq(pool_stats(pool).free_count, 2);
}

/* NULL, or why the backend has no zero-copy send here. */
static const char *missing(uint32_t backend) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    sr_ring *probe = NULL;
    options.backend = backend;
    const int code = sr_ring_create(&options, &probe);
    cr_assert(code == 0 || backend == SR_BACKEND_URING, "%s", sr_error_name(code));
    if (code < 0) {
        return "no io_uring here";
    }
    const bool can = probe->queue.op_supported[IORING_OP_SEND_ZC];
    ring_end(&probe);
    return can ? NULL : "no SEND_ZC before Linux 6.0";
}

/* Runs a scene on one backend after the other. */
static void on_both(void (*scene)(void)) {
    static const enum sri_backend_kind kinds[] = {SRI_BACKEND_FALLBACK, SRI_BACKEND_URING};
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        struct sockaddr_in loopback = {.sin_family = AF_INET};
        const char *why = missing(kinds[i]);
        if (why != NULL) {
            fprintf(stderr, "zerocopy: on the fallback only: %s\n", why);
            continue;
        }
        screen_install(kinds[i]);
        ring_begin(SR_BACKEND_ANY);
        cr_assert_eq(ring_stats(ring).backend, kinds[i]);
        loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        connect_over(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
                     socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), loopback);
        scene();
        screen_keep(NULL);
        if (ring != NULL) {
            ring_end(&ring);
        }
        pool_end(&pool);
        (void)close(peer);
        screen_remove();
    }
}

#define SCENE(name)                                                                                \
    Test(zerocopy, name) {                                                                         \
        on_both(name);                                                                             \
    }

SCENE(the_result_gives_nothing_back)
SCENE(the_notice_may_come_first)
SCENE(a_second_result_is_no_notice)
SCENE(a_second_notice_is_no_result)
SCENE(a_late_notice_does_not_hit_the_next_send)
SCENE(a_cancel_gives_nothing_back)
SCENE(a_deadline_gives_nothing_back)
SCENE(an_abandoned_one_is_in_quarantine_until_the_notice)
SCENE(a_ring_that_goes_does_not_give_it_back)

/* ---- over a wire -----------------------------------------------------------------------------
 */

static void wire_begin(uint32_t backend) {
    SKIP_BECAUSE(missing(backend));
    SKIP_BECAUSE(veth_begin());
    ring_begin(backend);
}

static void connect_wire(void) {
    const int far_fd = veth_socket(VETH_FAR, SOCK_STREAM);
    const int small = 65536;
    cr_assert_eq(setsockopt(far_fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
    connect_over(veth_socket(VETH_NEAR, SOCK_STREAM), far_fd, veth_address(VETH_FAR, 0));
}

static void wire_end(void) {
    ring_end(&ring);
    pool_end(&pool);
}

/* Bytes that the peer has not acknowledged. */
static int unacknowledged(void) {
    int fd = -1;
    int count = 0;
    assert_ok(sr_file_fd(ring, file, &fd));
    cr_assert_eq(ioctl(fd, SIOCOUTQ, &count), 0);
    return count;
}

/* Sends until the peer, which does not read, takes no more: that send is left. */
static sr_op fill_peer(uint64_t deadline_ns) {
    for (uint32_t sent = 0;; sent++) {
        const sr_completion *completions = NULL;
        sr_request request = send_zc(BYTES);
        request.op_flags = MSG_DONTWAIT; /* what waits then waits for the notice */
        request.deadline_ns = deadline_ns;
        const sr_op op = submit(ring, &request);
        const int code = sr_ring_wait(ring, 1, 300 * MS, NULL, &completions);
        if (code == SR_E_TIMEOUT) {
            cr_assert_gt(unacknowledged(), 0);
            return op;
        }
        assert_code(code, 1);
        assert_code(completions[0].result, BYTES);
        assert_back();
        cr_assert_lt(sent, 1000, "the peer takes everything");
    }
}

static void reset_by_peer(void) {
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    cr_assert_eq(setsockopt(peer, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    cr_assert_eq(close(peer), 0);
}

Test(zerocopy, a_peer_that_never_reads_keeps_the_buffer_until_it_resets) {
    wire_begin(SR_BACKEND_URING);
    connect_wire();
    const sr_op op = fill_peer(0);
    assert_nothing_comes(100 * MS);
    assert_ok(sr_op_cancel(ring, op));
    assert_nothing_comes(100 * MS);
    reset_by_peer();
    /* It had been sent before anybody asked for its end: the result says so. */
    cr_assert_eq(assert_comes(op, BYTES).flags, SR_COMPLETION_CANCEL_ASKED);
    assert_ok(sr_pool_release(pool, buffer));
    wire_end();
}

Test(zerocopy, no_deadline_takes_the_buffer_from_a_peer_that_never_reads) {
    wire_begin(SR_BACKEND_URING);
    connect_wire();
    const sr_op op = fill_peer(200 * MS);
    assert_nothing_comes(200 * MS);
    reset_by_peer();
    cr_assert_neq(assert_comes(op, BYTES).flags & SR_COMPLETION_DEADLINE_HIT, 0);
    wire_end();
}

/* The control: nothing above would mean anything if the kernel had copied. */
Test(zerocopy, until_the_notice_the_network_sends_from_the_buffer_itself) {
    char arrived[1000];
    wire_begin(SR_BACKEND_URING);
    connect_wire();
    veth_set_up(VETH_FAR, false); /* what is sent now is lost, and sent again later */
    const sr_request request = send_zc(sizeof arrived);
    const sr_op op = submit(ring, &request);
    assert_nothing_comes(100 * MS);
    memset(bytes, 'z', sizeof arrived); /* what no program may do */
    veth_set_up(VETH_FAR, true);
    (void)assert_comes(op, sizeof arrived);
    cr_assert_eq(recv(peer, arrived, sizeof arrived, MSG_WAITALL), (ssize_t)sizeof arrived);
    cr_assert(arrived[0] == 'z' && arrived[sizeof arrived - 1] == 'z', "'%c': it was copied",
              arrived[0]);
    (void)close(peer);
    wire_end();
}

Test(zerocopy, the_fallback_copies_and_gives_the_buffer_back_at_once) {
    char arrived[1000];
    wire_begin(SR_BACKEND_FALLBACK);
    connect_wire();
    veth_set_up(VETH_FAR, false);
    const sr_request request = send_zc(sizeof arrived);
    (void)assert_comes(submit(ring, &request), sizeof arrived);
    memset(bytes, 'z', sizeof arrived);
    veth_set_up(VETH_FAR, true);
    cr_assert_eq(recv(peer, arrived, sizeof arrived, MSG_WAITALL), (ssize_t)sizeof arrived);
    cr_assert(arrived[0] == 'a' && arrived[sizeof arrived - 1] == 'a');
    (void)close(peer);
    wire_end();
}

/* A datagram waits in the neighbour table while nobody says who the peer is. */
Test(zerocopy, a_datagram_keeps_the_buffer_until_it_is_delivered) {
    char arrived[1000];
    socklen_t size = sizeof(struct sockaddr_in);
    wire_begin(SR_BACKEND_URING);
    struct sockaddr_in address = veth_address(VETH_FAR, 0);
    const int near_fd = veth_socket(VETH_NEAR, SOCK_DGRAM);
    peer = veth_socket(VETH_FAR, SOCK_DGRAM);
    cr_assert_eq(bind(peer, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(getsockname(peer, (struct sockaddr *)&address, &size), 0);
    cr_assert_eq(connect(near_fd, (struct sockaddr *)&address, sizeof address), 0);
    file = file_take(ring, near_fd);
    veth_set_answers(false);
    const sr_request request = send_zc(sizeof arrived);
    const sr_op op = submit(ring, &request);
    assert_nothing_comes(100 * MS);
    assert_ok(sr_op_cancel(ring, op));
    assert_nothing_comes(100 * MS);
    veth_set_answers(true); /* asked again each second */
    (void)assert_comes(op, sizeof arrived);
    /* The buffer is free when the bytes have been copied, a moment before the peer has them. */
    struct pollfd delivered = {.fd = peer, .events = POLLIN};
    cr_assert_eq(poll(&delivered, 1, 10000), 1);
    cr_assert_eq(recv(peer, arrived, sizeof arrived, MSG_DONTWAIT), (ssize_t)sizeof arrived);
    cr_assert_eq(arrived[sizeof arrived - 1], 'a');
    (void)close(peer);
    wire_end();
}
