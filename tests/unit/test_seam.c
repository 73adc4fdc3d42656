/* SPDX-License-Identifier: MIT */
/* What both backends answer to the same SQEs; the ring's own operations have the whole suite. */
#include "unit/seam.h"

#include "sys/memory.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MORE   IORING_CQE_F_MORE
#define BUFFER IORING_CQE_F_BUFFER

TestSuite(seam, .timeout = 60);

static void put(int fd, const char *text) {
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void close_both(const int ends[2]) {
    cr_assert_eq(close(ends[0]), 0);
    cr_assert_eq(close(ends[1]), 0);
}

static void pair_of(int type, int ends[2]) {
    cr_assert_eq(socketpair(AF_UNIX, type, 0, ends), 0);
}

/* ---- memory --------------------------------------------------------------------------------- */

static uint32_t releases;

static void release_counted(void *memory) {
    releases++;
    sri_backend_real()->release(memory);
}

Test(seam, releasing_nothing_asks_nobody) {
    static struct sri_backend counting;
    counting = *sri_backend_real();
    counting.release = release_counted;
    sri_backend_set(&counting);
    sri_release(NULL);
    const uint32_t for_nothing = releases;
    sri_release(sri_allocate(1, 64));
    sri_backend_set(NULL);
    cr_assert_eq(for_nothing, 0);
    cr_assert_eq(releases, 1);
}

/* ---- connections ---------------------------------------------------------------------------- */

static struct sockaddr_in loopback(void) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
}

static int listener_of(struct sockaddr_in *address) {
    socklen_t size = sizeof *address;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *address = loopback();
    cr_assert_eq(bind(fd, (struct sockaddr *)address, size), 0);
    cr_assert_eq(listen(fd, 16), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)address, &size), 0);
    return fd;
}

static int connected(const struct sockaddr_in *address) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(fd, (const struct sockaddr *)address, sizeof *address), 0);
    return fd;
}

ON_BOTH(seam, a_connection_is_made_used_and_ended) {
    struct sockaddr_in address = loopback();
    struct sockaddr_in peer = {.sin_family = 0};
    socklen_t size = sizeof address;
    char bytes[8] = "";
    SEAM_NEEDS(SRI_IORING_OP_LISTEN);
    io_uring_prep_socket(seam_sqe(1), AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0, 0);
    const int server = seam_take().result;
    cr_assert_geq(server, 0);
    struct io_uring_sqe *sqe = seam_sqe(2);
    sqe->opcode = SRI_IORING_OP_BIND;
    sqe->fd = server;
    sqe->addr = (uintptr_t)&address;
    sqe->off = sizeof address;
    (void)seam_expect(2, 0, 0);
    sqe = seam_sqe(3);
    sqe->opcode = SRI_IORING_OP_LISTEN;
    sqe->fd = server;
    sqe->len = 4;
    (void)seam_expect(3, 0, 0);
    cr_assert_eq(getsockname(server, (struct sockaddr *)&address, &size), 0);

    size = sizeof peer;
    io_uring_prep_accept(seam_sqe(4), server, (struct sockaddr *)&peer, &size, SOCK_CLOEXEC);
    seam_expect_nothing();
    const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    io_uring_prep_connect(seam_sqe(5), client, (struct sockaddr *)&address, sizeof address);
    int server_end = -1;
    for (int i = 0; i < 2; i++) {
        const struct sri_cqe cqe = seam_take();
        cr_assert(cqe.user_data == 5 ? cqe.result == 0 : cqe.result >= 0, "%d", cqe.result);
        server_end = cqe.user_data == 4 ? cqe.result : server_end;
    }
    cr_assert_eq(peer.sin_family, AF_INET);
    cr_assert_eq(fcntl(client, F_GETFL) & O_NONBLOCK, 0, "connect left O_NONBLOCK behind");

    io_uring_prep_recv(seam_sqe(6), server_end, bytes, sizeof bytes, 0);
    seam_expect_nothing();
    io_uring_prep_send(seam_sqe(7), client, "hello", 5, 0);
    (void)seam_expect(7, 5, 0);
    (void)seam_expect(6, 5, 0);
    cr_assert_eq(memcmp(bytes, "hello", 5), 0);
    io_uring_prep_shutdown(seam_sqe(8), client, SHUT_WR);
    (void)seam_expect(8, 0, 0);
    io_uring_prep_recv(seam_sqe(9), server_end, bytes, sizeof bytes, 0);
    (void)seam_expect(9, 0, 0);
    cr_assert(close(server) == 0 && close(client) == 0 && close(server_end) == 0);
}

ON_BOTH(seam, a_connection_that_is_refused_says_so) {
    struct sockaddr_in address;
    const int server = listener_of(&address);
    const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(close(server), 0);
    io_uring_prep_connect(seam_sqe(1), client, (struct sockaddr *)&address, sizeof address);
    (void)seam_expect(1, -ECONNREFUSED, 0);
    cr_assert_eq(close(client), 0);
}

ON_BOTH(seam, one_accept_takes_many_connections_until_it_is_cancelled) {
    struct sockaddr_in address;
    const int server = listener_of(&address);
    io_uring_prep_multishot_accept(seam_sqe(1), server, NULL, NULL, SOCK_CLOEXEC);
    for (int i = 0; i < 5; i++) {
        const int client = connected(&address);
        const struct sri_cqe cqe = seam_take();
        cr_assert(cqe.result >= 0 && (cqe.flags & MORE) != 0, "%d, flags %x", cqe.result,
                  cqe.flags);
        cr_assert(close(client) == 0 && close(cqe.result) == 0);
    }
    seam_expect_nothing();
    seam_cancel(2, 1);
    struct sri_cqe cqe = seam_take();
    const struct sri_cqe other = seam_take();
    cqe = cqe.user_data == 1 ? cqe : other;
    cr_assert(cqe.user_data == 1 && cqe.result == -ECANCELED && cqe.flags == 0);
    cr_assert_eq(close(server), 0);
}

/* ---- messages ------------------------------------------------------------------------------- */

ON_BOTH(seam, a_message_of_parts_arrives_whole_when_all_is_wanted) {
    int ends[2];
    char one[3];
    char two[5];
    char all[] = "abcdefgh";
    struct iovec out[2] = {{all, 3}, {all + 3, 5}};
    struct iovec in[2] = {{one, 3}, {two, 5}};
    struct msghdr sent = {.msg_iov = out, .msg_iovlen = 1};
    struct msghdr got = {.msg_iov = in, .msg_iovlen = 2};
    pair_of(SOCK_STREAM, ends);
    io_uring_prep_recvmsg(seam_sqe(1), ends[0], &got, MSG_WAITALL);
    io_uring_prep_sendmsg(seam_sqe(2), ends[1], &sent, 0);
    (void)seam_expect(2, 3, 0);
    seam_expect_nothing();
    sent.msg_iov = &out[1];
    io_uring_prep_sendmsg(seam_sqe(3), ends[1], &sent, 0);
    struct sri_cqe cqe = seam_take();
    const struct sri_cqe other = seam_take();
    cqe = cqe.user_data == 1 ? cqe : other;
    cr_assert_eq(cqe.result, 8);
    cr_assert(memcmp(one, "abc", 3) == 0 && memcmp(two, "defgh", 5) == 0);
    close_both(ends);
}

ON_BOTH(seam, a_send_of_all_waits_for_room_and_goes_on) {
    enum { BYTES = 4 << 20 };
    int ends[2];
    char *bytes = malloc(BYTES);
    cr_assert_not_null(bytes);
    memset(bytes, 'x', BYTES);
    pair_of(SOCK_STREAM, ends);
    io_uring_prep_send(seam_sqe(1), ends[1], bytes, BYTES, MSG_WAITALL);
    seam_expect_nothing();
    size_t got = 0;
    while (got < BYTES) {
        char some[65536];
        const ssize_t now = recv(ends[0], some, sizeof some, MSG_DONTWAIT);
        got += now > 0 ? (size_t)now : 0;
        (void)seam_enter(0, 0);
    }
    (void)seam_expect(1, BYTES, 0);
    close_both(ends);
    free(bytes);
}

ON_BOTH(seam, what_must_not_wait_says_that_it_would) {
    int ends[2];
    char byte = 0;
    pair_of(SOCK_STREAM, ends);
    io_uring_prep_recv(seam_sqe(1), ends[0], &byte, 1, MSG_DONTWAIT);
    (void)seam_expect(1, -EAGAIN, 0);
    close_both(ends);
}

ON_BOTH(seam, a_socket_with_o_nonblock_waits_all_the_same) {
    int ends[2];
    char byte = 0;
    pair_of(SOCK_STREAM | SOCK_NONBLOCK, ends);
    io_uring_prep_recv(seam_sqe(1), ends[0], &byte, 1, 0);
    seam_expect_nothing();
    put(ends[1], "x");
    (void)seam_expect(1, 1, 0);
    close_both(ends);
}

ON_BOTH(seam, a_zero_copy_send_ends_twice) {
    struct sockaddr_in address;
    char bytes[8] = "";
    SEAM_NEEDS(IORING_OP_SEND_ZC);
    const int server = listener_of(&address);
    const int client = connected(&address);
    const int server_end = accept(server, NULL, NULL);
    io_uring_prep_send_zc(seam_sqe(1), client, "hello", 5, 0, 0);
    (void)seam_expect(1, 5, MORE);
    cr_assert_eq(recv(server_end, bytes, sizeof bytes, 0), 5);
    (void)seam_expect(1, 0, IORING_CQE_F_NOTIF);
    cr_assert(close(server) == 0 && close(client) == 0 && close(server_end) == 0);
}

ON_BOTH(seam, a_send_to_nobody_raises_no_signal) {
    int ends[2];
    pair_of(SOCK_STREAM, ends);
    cr_assert_eq(close(ends[0]), 0);
    io_uring_prep_send(seam_sqe(1), ends[1], "x", 1, 0);
    (void)seam_expect(1, -EPIPE, 0); /* SIGPIPE would have ended the test */
    cr_assert_eq(close(ends[1]), 0);
}

/* ---- selected buffers ----------------------------------------------------------------------- */

enum { GROUP = 7, ENTRIES = 4, BUFFER_BYTES = 64 };

static struct {
    struct io_uring_buf_ring *ring;
    char bytes[ENTRIES][BUFFER_BYTES];
} provided;

static void provide(uint16_t count) {
    provided.ring = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq((void *)provided.ring, MAP_FAILED);
    for (uint16_t i = 0; i < count; i++) {
        provided.ring->bufs[i].addr = (uintptr_t)provided.bytes[i];
        provided.ring->bufs[i].len = BUFFER_BYTES;
        provided.ring->bufs[i].bid = (uint16_t)(100 + i);
    }
    __atomic_store_n(&provided.ring->tail, count, __ATOMIC_RELEASE);
    cr_assert_eq(seam.backend->queue_add_buffer_ring(&seam.queue, GROUP, provided.ring, ENTRIES),
                 0);
    cr_assert_eq(seam.backend->queue_add_buffer_ring(&seam.queue, GROUP, provided.ring, ENTRIES),
                 -EEXIST);
}

static void withdraw(void) {
    cr_assert_eq(seam.backend->queue_remove_buffer_ring(&seam.queue, GROUP), 0);
    cr_assert_lt(seam.backend->queue_remove_buffer_ring(&seam.queue, GROUP), 0);
    cr_assert_eq(munmap(provided.ring, 4096), 0);
}

static uint32_t with_buffer(uint32_t number) {
    return BUFFER | (100 + number) << IORING_CQE_BUFFER_SHIFT;
}

static void prepare_select(struct io_uring_sqe *sqe) {
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = GROUP;
}

ON_BOTH(seam, one_receive_fills_many_buffers_until_the_end) {
    int ends[2];
    provide(ENTRIES);
    pair_of(SOCK_STREAM, ends);
    struct io_uring_sqe *sqe = seam_sqe(1);
    io_uring_prep_recv_multishot(sqe, ends[0], NULL, 0, 0);
    prepare_select(sqe);
    seam_expect_nothing();
    put(ends[1], "first");
    (void)seam_expect(1, 5, with_buffer(0) | MORE);
    put(ends[1], "and second");
    (void)seam_expect(1, 10, with_buffer(1) | MORE);
    cr_assert_eq(memcmp(provided.bytes[0], "first", 5), 0);
    cr_assert_eq(memcmp(provided.bytes[1], "and second", 10), 0);
    cr_assert_eq(close(ends[1]), 0);
    (void)seam_expect(1, 0, 0);
    cr_assert_eq(close(ends[0]), 0);
    withdraw();
}

ON_BOTH(seam, a_receive_without_a_buffer_left_ends_with_enobufs) {
    int ends[2];
    provide(1);
    pair_of(SOCK_STREAM, ends);
    put(ends[1], "data");
    struct io_uring_sqe *sqe = seam_sqe(1);
    io_uring_prep_recv_multishot(sqe, ends[0], NULL, 0, 0);
    prepare_select(sqe);
    (void)seam_expect(1, 4, with_buffer(0) | MORE);
    put(ends[1], "data");
    (void)seam_expect(1, -ENOBUFS, 0);
    close_both(ends);
    withdraw();
}

ON_BOTH(seam, a_read_of_a_pipe_may_choose_its_buffer) {
    int ends[2];
    provide(ENTRIES);
    cr_assert_eq(pipe(ends), 0);
    struct io_uring_sqe *sqe = seam_sqe(1);
    io_uring_prep_read(sqe, ends[0], NULL, 8, (uint64_t)-1);
    prepare_select(sqe);
    seam_expect_nothing();
    put(ends[1], "0123456789");
    (void)seam_expect(1, 8, with_buffer(0));
    cr_assert_eq(memcmp(provided.bytes[0], "01234567", 8), 0);
    close_both(ends);
    withdraw();
}

/* Workers of the fallback choose no buffers; the one that was not chosen stays where it is. */
ON_BOTH(seam, a_read_of_a_regular_file_chooses_its_buffer_on_io_uring_alone) {
    int ends[2];
    const int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    provide(ENTRIES);
    put(fd, "0123456789");
    struct io_uring_sqe *sqe = seam_sqe(1);
    io_uring_prep_read(sqe, fd, NULL, 8, 2);
    prepare_select(sqe);
    if (seam_is_fallback()) {
        (void)seam_expect(1, -EOPNOTSUPP, 0);
    } else {
        (void)seam_expect(1, 8, with_buffer(0));
        cr_assert_eq(memcmp(provided.bytes[0], "23456789", 8), 0);
    }
    cr_assert_eq(pipe(ends), 0);
    put(ends[1], "pipe");
    sqe = seam_sqe(2);
    io_uring_prep_read(sqe, ends[0], NULL, 8, (uint64_t)-1);
    prepare_select(sqe);
    (void)seam_expect(2, 4, with_buffer(seam_is_fallback() ? 0 : 1));
    close_both(ends);
    cr_assert_eq(close(fd), 0);
    withdraw();
}

ON_BOTH(seam, messages_are_framed_when_one_receive_takes_many) {
    int ends[2];
    struct msghdr wish = {.msg_controllen = 0};
    provide(ENTRIES);
    pair_of(SOCK_DGRAM, ends);
    struct io_uring_sqe *sqe = seam_sqe(1);
    io_uring_prep_recvmsg_multishot(sqe, ends[0], &wish, 0);
    prepare_select(sqe);
    put(ends[1], "datagram");
    const int32_t whole = (int32_t)sizeof(struct io_uring_recvmsg_out) + 8;
    (void)seam_expect(1, whole, with_buffer(0) | MORE);
    const struct io_uring_recvmsg_out *out = (const void *)provided.bytes[0];
    cr_assert(out->payloadlen == 8 && out->namelen == 0 && out->controllen == 0);
    cr_assert_eq(memcmp(out + 1, "datagram", 8), 0);
    seam_cancel(2, 1);
    (void)seam_take();
    (void)seam_take();
    close_both(ends);
    withdraw();
}

/* ---- polls ---------------------------------------------------------------------------------- */

ON_BOTH(seam, a_poll_ends_when_there_is_something) {
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    io_uring_prep_poll_add(seam_sqe(1), ends[0], POLLIN);
    io_uring_prep_poll_add(seam_sqe(2), ends[1], POLLOUT);
    (void)seam_expect(2, POLLOUT, 0);
    seam_expect_nothing();
    put(ends[1], "x");
    (void)seam_expect(1, POLLIN, 0);
    cr_assert_eq(close(ends[1]), 0);
    io_uring_prep_poll_add(seam_sqe(3), ends[0], POLLIN);
    (void)seam_expect(3, POLLIN | POLLHUP, 0);
    cr_assert_eq(close(ends[0]), 0);
}

ON_BOTH(seam, a_multishot_poll_tells_of_each_event_until_it_is_removed) {
    const int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    eventfd_t value = 0;
    io_uring_prep_poll_multishot(seam_sqe(1), fd, POLLIN);
    seam_expect_nothing();
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(eventfd_write(fd, 1), 0);
        (void)seam_expect(1, POLLIN, MORE);
        cr_assert_eq(eventfd_read(fd, &value), 0);
        seam_expect_nothing();
    }
    io_uring_prep_poll_remove(seam_sqe(2), 1);
    struct sri_cqe cqe = seam_take();
    const struct sri_cqe other = seam_take();
    cr_assert_eq((cqe.user_data == 2 ? cqe : other).result, 0);
    cqe = cqe.user_data == 1 ? cqe : other;
    cr_assert(cqe.result == -ECANCELED && cqe.flags == 0);
    io_uring_prep_poll_remove(seam_sqe(3), 1);
    (void)seam_expect(3, -ENOENT, 0);
    cr_assert_eq(close(fd), 0);
}

ON_BOTH(seam, a_regular_file_is_always_ready) {
    const int fd = fileno(tmpfile());
    io_uring_prep_poll_add(seam_sqe(1), fd, POLLIN);
    (void)seam_expect(1, POLLIN, 0);
}

ON_BOTH(seam, many_may_wait_for_one_descriptor) {
    int ends[2];
    char bytes[8];
    cr_assert_eq(pipe(ends), 0);
    for (uint64_t i = 0; i < 8; i++) {
        io_uring_prep_read(seam_sqe(i), ends[0], &bytes[i], 1, (uint64_t)-1);
    }
    io_uring_prep_poll_add(seam_sqe(100), ends[0], POLLIN);
    seam_expect_nothing();
    put(ends[1], "abc");
    for (int i = 0; i < 4; i++) {
        const struct sri_cqe cqe = seam_take();
        cr_assert_eq(cqe.result, cqe.user_data == 100 ? POLLIN : 1);
    }
    seam_expect_nothing();
    put(ends[1], "defgh");
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(seam_take().result, 1);
    }
    close_both(ends);
}

ON_BOTH(seam, who_joins_others_at_a_descriptor_sees_what_is_ready_now) {
    int ends[2];
    char byte = 0;
    pair_of(SOCK_STREAM, ends);
    io_uring_prep_recv(seam_sqe(1), ends[0], &byte, 1, 0);
    seam_expect_nothing();
    io_uring_prep_poll_add(seam_sqe(2), ends[0], POLLOUT);
    (void)seam_expect(2, POLLOUT, 0);
    io_uring_prep_poll_add(seam_sqe(3), ends[0], POLLOUT);
    (void)seam_expect(3, POLLOUT, 0);
    put(ends[1], "x");
    (void)seam_expect(1, 1, 0);
    close_both(ends);
}

/* ---- cancels, timers, refusals -------------------------------------------------------------- */

ON_BOTH(seam, cancels_say_what_they_found) {
    int ends[2];
    char byte = 0;
    cr_assert_eq(pipe(ends), 0);
    io_uring_prep_read(seam_sqe(1), ends[0], &byte, 1, (uint64_t)-1);
    seam_send();
    seam_cancel(2, 1);
    struct sri_cqe cqe = seam_take();
    const struct sri_cqe other = seam_take();
    cr_assert_eq((cqe.user_data == 2 ? cqe : other).result, 0);
    cr_assert_eq((cqe.user_data == 1 ? cqe : other).result, -ECANCELED);
    seam_cancel(3, 1);
    (void)seam_expect(3, -ENOENT, 0);

    const struct __kernel_timespec hour = {3600, 0};
    for (uint64_t i = 10; i < 13; i++) {
        struct io_uring_sqe *sqe = seam_sqe(i);
        sqe->opcode = IORING_OP_TIMEOUT;
        sqe->fd = -1;
        sqe->addr = (uintptr_t)&hour;
        sqe->len = 1;
    }
    io_uring_prep_read(seam_sqe(13), ends[0], &byte, 1, (uint64_t)-1);
    seam_send();
    seam_cancel(4, 0);
    seam.queue.sqes[(seam.queue.sq_tail - 1) & seam.queue.sq_mask].cancel_flags =
        IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL;
    for (int i = 0; i < 5; i++) {
        cqe = seam_take();
        cr_assert_eq(cqe.result, cqe.user_data == 4 ? 4 : -ECANCELED);
    }
    close_both(ends);
}

ON_BOTH(seam, what_is_wrong_with_an_sqe_is_its_result) {
    char byte = 0;
    seam_sqe(1)->opcode = 200;
    (void)seam_expect(1, -EINVAL, 0);
    io_uring_prep_read(seam_sqe(2), 999, &byte, 1, 0);
    (void)seam_expect(2, -EBADF, 0);
    struct io_uring_sqe *sqe = seam_sqe(3);
    io_uring_prep_read(sqe, 2, &byte, 1, 0);
    sqe->flags = IOSQE_FIXED_FILE;
    (void)seam_expect(3, -EBADF, 0);
    sqe = seam_sqe(4);
    io_uring_prep_recv(sqe, 0, &byte, 1, 0);
    sqe->flags = IOSQE_BUFFER_SELECT;
    sqe->buf_group = 99;
    cr_assert_lt(seam_take().result, 0);
}

/* ---- what only io_uring does (docs/KERNEL.md) ------------------------------------------------ */

ON_BOTH(seam, links_and_drains_are_of_io_uring_alone) {
    static const uint8_t flags[] = {IOSQE_IO_LINK, IOSQE_IO_HARDLINK, IOSQE_IO_DRAIN};
    for (size_t i = 0; i < sizeof flags; i++) {
        io_uring_prep_nop(seam_sqe(1));
        struct io_uring_sqe *sqe = seam_sqe(2);
        io_uring_prep_nop(sqe);
        sqe->flags = flags[i];
        io_uring_prep_nop(seam_sqe(3));
        /* In any order: Linux 6.1 hands over what was drained last. The third does not follow what
         * was refused. */
        int32_t results[4] = {1, 1, 1, 1};
        for (int taken = 0; taken < 3; taken++) {
            const struct sri_cqe cqe = seam_take();
            cr_assert(cqe.user_data >= 1 && cqe.user_data <= 3);
            results[cqe.user_data] = cqe.result;
        }
        cr_assert(results[1] == 0 && results[3] == 0);
        cr_assert_eq(results[2], seam_is_fallback() ? -EINVAL : 0, "%d", results[2]);
    }
}

ON_BOTH(seam, a_timeout_that_counts_completions_is_of_io_uring_alone) {
    struct __kernel_timespec hour = {.tv_sec = 3600};
    int32_t results[3] = {1, 1, 1};
    io_uring_prep_timeout(seam_sqe(1), &hour, 1, 0);
    io_uring_prep_nop(seam_sqe(2));
    for (int i = 0; i < 2; i++) {
        const struct sri_cqe cqe = seam_take(); /* in either order */
        cr_assert(cqe.user_data == 1 || cqe.user_data == 2);
        results[cqe.user_data] = cqe.result;
    }
    cr_assert_eq(results[1], seam_is_fallback() ? -EINVAL : 0, "%d", results[1]);
    cr_assert_eq(results[2], 0);
}

ON_BOTH(seam, a_cancel_by_opcode_is_of_io_uring_alone) {
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    io_uring_prep_poll_add(seam_sqe(1), ends[0], POLLIN);
    seam_send();
    struct io_uring_sqe *sqe = seam_sqe(2);
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->fd = -1;
    sqe->len = IORING_OP_POLL_ADD;
    sqe->cancel_flags = 1u << 5; /* IORING_ASYNC_CANCEL_OP, Linux 6.6 */
    struct sri_cqe cqe = seam_take();
    if (cqe.user_data == 2 && cqe.result < 0) {
        /* Linux 6.1 does not know the flag, and looks for an operation of no name. */
        cr_assert(cqe.result == -EINVAL || (cqe.result == -ENOENT && !seam_is_fallback()), "%d",
                  cqe.result);
        put(ends[1], "x"); /* the poll has not noticed */
        (void)seam_expect(1, POLLIN, 0);
    } else {
        cr_assert_not(seam_is_fallback(), "%llu has the result %d",
                      (unsigned long long)cqe.user_data, cqe.result);
        cr_assert_eq(cqe.result, cqe.user_data == 1 ? -ECANCELED : 0, "%d: %d", (int)cqe.user_data,
                     cqe.result);
        cqe = seam_take();
        cr_assert_eq(cqe.result, cqe.user_data == 1 ? -ECANCELED : 0);
    }
    close_both(ends);
}

/* ---- codes ---------------------------------------------------------------------------------- */

/* Linux 6.18 answers so where a cancel interrupts a kernel worker that opens a FIFO or splices. */
Test(seam, a_code_that_no_program_is_to_see_is_eintr) {
    static const int32_t kept_inside[] = {512, 513, 514, 516};
    static const int32_t others[] = {EINTR, 511, 515, 517, EOPNOTSUPP, 4095};
    struct io_uring_cqe cqe = {.user_data = 7, .flags = 9};
    struct sri_queue queue = {.cqes = &cqe};
    for (size_t i = 0; i < sizeof kept_inside / sizeof kept_inside[0]; i++) {
        cqe.res = -kept_inside[i];
        const struct sri_cqe taken = sri_queue_take_cqe(&queue);
        cr_assert_eq(taken.result, -EINTR, "%d became %d", cqe.res, taken.result);
        cr_assert(taken.user_data == 7 && taken.flags == 9);
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        cqe.res = -others[i];
        cr_assert_eq(sri_queue_take_cqe(&queue).result, -others[i]);
        cqe.res = others[i];
        cr_assert_eq(sri_queue_take_cqe(&queue).result, others[i]);
    }
}

ON_BOTH(seam, fixed_files_and_buffers_have_bounds) {
    static char memory[8192] __attribute__((aligned(4096)));
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    cr_assert_eq(seam.backend->queue_set_buffer(&seam.queue, 1, memory, 4096), 0);
    cr_assert_eq(seam.backend->queue_set_file(&seam.queue, 2, ends[0]), 0);
    put(ends[1], "0123456789");
    for (uint64_t i = 0; i < 4; i++) {
        /* Inside, past the end, before nothing, not registered. */
        static const size_t offsets[] = {4094, 4095, 4096, 0};
        static const int32_t results[] = {2, -EFAULT, -EFAULT, -EFAULT};
        struct io_uring_sqe *sqe = seam_sqe(i);
        io_uring_prep_read_fixed(sqe, 2 + (int)SRI_QUEUE_LIBRARY_SLOTS, memory + offsets[i], 2,
                                 (uint64_t)-1, i < 3 ? 1 : 2);
        sqe->flags = IOSQE_FIXED_FILE;
        (void)seam_expect(i, results[i], 0);
    }
    cr_assert_eq(memcmp(memory + 4094, "01", 2), 0);
    cr_assert_eq(seam.backend->queue_set_file(&seam.queue, 2, -1), 0);
    cr_assert_eq(seam.backend->queue_set_buffer(&seam.queue, 1, NULL, 0), 0);
    close_both(ends);
}

static void refuses_what_is_not_allowed(enum sri_backend_kind kind) {
    uint8_t allowed[256] = {[IORING_OP_NOP] = 1, [IORING_OP_ASYNC_CANCEL] = 1};
    char byte = 0;
    if (seam_try_open(kind, allowed) < 0) {
        cr_assert_eq(kind, SRI_BACKEND_URING);
        return;
    }
    seam_sqe(1)->opcode = IORING_OP_NOP;
    (void)seam_expect(1, 0, 0);
    io_uring_prep_read(seam_sqe(2), 0, &byte, 1, 0);
    (void)seam_expect(2, -EACCES, 0);
    seam_close();
}

Test(seam, what_is_not_allowed_is_refused) {
    refuses_what_is_not_allowed(SRI_BACKEND_FALLBACK);
    refuses_what_is_not_allowed(SRI_BACKEND_URING);
}

ON_BOTH(seam, a_multishot_that_finds_the_queue_full_ends_and_nothing_is_lost) {
    enum { EVENTS = 40 };
    int fds[EVENTS];
    uint32_t seen = 0;
    for (uint64_t i = 0; i < EVENTS; i++) {
        fds[i] = eventfd(1, EFD_CLOEXEC);
        io_uring_prep_poll_multishot(seam_sqe(i), fds[i], POLLIN);
        if (i % 16 == 15) {
            seam_send();
        }
    }
    seam_send();
    for (int i = 0; i < 20; i++) {
        seam_send();
        while (sri_queue_ready(&seam.queue) > 0) {
            const struct sri_cqe cqe = sri_queue_take_cqe(&seam.queue);
            cr_assert_eq(cqe.result, POLLIN);
            seen++;
        }
    }
    cr_assert_eq(seen, EVENTS);
    for (int i = 0; i < EVENTS; i++) {
        cr_assert_eq(close(fds[i]), 0);
    }
}

/* ---- pipes, epoll --------------------------------------------------------------------------- */

ON_BOTH(seam, bytes_go_from_pipe_to_pipe) {
    int from[2];
    int to[2];
    char bytes[8] = "";
    cr_assert(pipe(from) == 0 && pipe(to) == 0);
    put(from[1], "splice");
    io_uring_prep_tee(seam_sqe(1), from[0], to[1], 6, 0);
    (void)seam_expect(1, 6, 0);
    io_uring_prep_splice(seam_sqe(2), from[0], -1, to[1], -1, 2, 0);
    (void)seam_expect(2, 2, 0);
    cr_assert_eq(read(to[0], bytes, sizeof bytes), 8);
    cr_assert_eq(memcmp(bytes, "splicesp", 8), 0);
    close_both(from);
    close_both(to);
}

ON_BOTH(seam, an_epoll_set_is_changed) {
    int ends[2];
    struct epoll_event event = {.events = EPOLLOUT, .data = {.u32 = 42}};
    struct epoll_event got = {.events = 0};
    const int set = epoll_create1(EPOLL_CLOEXEC);
    cr_assert_eq(pipe(ends), 0);
    io_uring_prep_epoll_ctl(seam_sqe(1), set, ends[1], EPOLL_CTL_ADD, &event);
    (void)seam_expect(1, 0, 0);
    io_uring_prep_epoll_ctl(seam_sqe(2), set, ends[1], EPOLL_CTL_ADD, &event);
    (void)seam_expect(2, -EEXIST, 0);
    cr_assert_eq(epoll_wait(set, &got, 1, 0), 1);
    cr_assert_eq(got.data.u32, 42);
    cr_assert_eq(close(set), 0);
    close_both(ends);
}

/* ---- children, futexes ---------------------------------------------------------------------- */

static void prepare_waitid(uint64_t user_data, idtype_t which, pid_t id, siginfo_t *info) {
    struct io_uring_sqe *sqe = seam_sqe(user_data);
    sqe->opcode = SRI_IORING_OP_WAITID;
    sqe->fd = id;
    sqe->len = (uint32_t)which;
    sqe->addr2 = (uintptr_t)info;
    sqe->file_index = WEXITED;
}

static void child_ends(idtype_t which) {
    int ends[2];
    char byte = 0;
    siginfo_t info = {.si_pid = 0};
    cr_assert_eq(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        (void)close(ends[1]);
        (void)!read(ends[0], &byte, 1);
        _exit(7);
    }
    prepare_waitid(1, which, which == P_PID ? child : 0, &info);
    seam_expect_nothing();
    close_both(ends);
    (void)seam_expect(1, 0, 0);
    cr_assert(info.si_pid == child && info.si_code == CLD_EXITED && info.si_status == 7);
}

ON_BOTH(seam, the_end_of_a_child_is_waited_for) {
    siginfo_t info;
    SEAM_NEEDS(SRI_IORING_OP_WAITID);
    child_ends(P_PID);
    child_ends(P_ALL);
    prepare_waitid(2, P_ALL, 0, &info);
    (void)seam_expect(2, -ECHILD, 0);
}

ON_BOTH(seam, the_wait_for_a_child_can_be_cancelled) {
    siginfo_t info;
    SEAM_NEEDS(SRI_IORING_OP_WAITID);
    const pid_t child = fork();
    if (child == 0) {
        for (;;) {
            (void)pause();
        }
    }
    prepare_waitid(1, P_PID, child, &info);
    prepare_waitid(2, P_ALL, 0, &info);
    seam_expect_nothing();
    seam_cancel(3, 1);
    seam_cancel(4, 2);
    for (int i = 0; i < 4; i++) {
        const struct sri_cqe cqe = seam_take();
        cr_assert_eq(cqe.result, cqe.user_data <= 2 ? -ECANCELED : 1, "%s: %d", seam.backend->name,
                     cqe.result);
    }
    cr_assert(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
}

static void prepare_futex(uint8_t opcode, uint64_t user_data, uint32_t *word, uint64_t value) {
    struct io_uring_sqe *sqe = seam_sqe(user_data);
    sqe->opcode = opcode;
    sqe->fd = 2 | 128; /* FUTEX2_SIZE_U32, FUTEX2_PRIVATE */
    sqe->addr = (uintptr_t)word;
    sqe->addr2 = value;
    sqe->addr3 = FUTEX_BITSET_MATCH_ANY;
}

ON_BOTH(seam, a_futex_is_waited_for_and_woken) {
    static uint32_t word;
    SEAM_NEEDS(SRI_IORING_OP_FUTEX_WAIT);
    prepare_futex(SRI_IORING_OP_FUTEX_WAIT, 1, &word, 1);
    (void)seam_expect(1, -EAGAIN, 0);
    prepare_futex(SRI_IORING_OP_FUTEX_WAIT, 2, &word, 0);
    seam_expect_nothing();
    prepare_futex(SRI_IORING_OP_FUTEX_WAKE, 3, &word, 1);
    struct sri_cqe cqe = seam_take();
    const struct sri_cqe other = seam_take();
    cr_assert_eq((cqe.user_data == 3 ? cqe : other).result, 1);
    cr_assert_eq((cqe.user_data == 2 ? cqe : other).result, 0);
    prepare_futex(SRI_IORING_OP_FUTEX_WAIT, 4, &word, 0);
    seam_expect_nothing();
    seam_cancel(5, 4);
    cqe = seam_take();
    const struct sri_cqe last = seam_take();
    cr_assert_eq((cqe.user_data == 4 ? cqe : last).result, -ECANCELED);
    cr_assert_eq((cqe.user_data == 5 ? cqe : last).result, 1);
}

/* ---- event descriptor ----------------------------------------------------------------------- */

static bool is_told(int event_fd) {
    struct pollfd ready = {.fd = event_fd, .events = POLLIN};
    return poll(&ready, 1, 5000) == 1;
}

static void forget(int fd) {
    eventfd_t count = 0;
    (void)eventfd_read(fd, &count); /* -EAGAIN: nothing to forget */
}

ON_BOTH(seam, the_event_descriptor_tells_while_nobody_waits) {
    static const struct __kernel_timespec soon = {0, 20000000};
    static char memory[4096];
    int ends[2];
    char byte = 0;
    const int wakeup_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    const int file = fileno(tmpfile());
    cr_assert_eq(pipe(ends), 0);
    const int fd = seam.backend->event_open(&seam.queue, wakeup_fd);
    cr_assert_eq(fd != wakeup_fd, seam_is_fallback());
    cr_assert_eq(seam.backend->queue_set_event_fd(&seam.queue, wakeup_fd, fd), 0);
    cr_assert_eq(seam.backend->queue_set_event_fd(&seam.queue, wakeup_fd, fd), -EBUSY);
    /* Linux 6.12 does not tell of the second pipe, why is not known; tests/unit/test_event.c shows
     * that a ring in an event loop is told there. */
    const int rounds = seam_is_fallback() ? 3 : 1;
    for (int round = 0; round < rounds; round++) {
        io_uring_prep_read(seam_sqe(1), ends[0], &byte, 1, (uint64_t)-1);
        seam_send();
        put(ends[1], "x");
        cr_assert(is_told(fd), "%s: a pipe", seam.backend->name);
        (void)seam_expect(1, 1, 0);
        forget(wakeup_fd);

        io_uring_prep_timeout(seam_sqe(2), (struct __kernel_timespec *)(uintptr_t)&soon, 0, 0);
        seam_send();
        cr_assert(is_told(fd), "%s: a timer", seam.backend->name);
        (void)seam_expect(2, -ETIME, 0);
        forget(wakeup_fd);

        io_uring_prep_write(seam_sqe(3), file, memory, sizeof memory, 0);
        seam_send();
        cr_assert(is_told(fd), "%s: a file", seam.backend->name);
        (void)seam_expect(3, sizeof memory, 0);
        forget(wakeup_fd);
    }
    cr_assert_eq(seam.backend->queue_set_event_fd(&seam.queue, -1, -1), 0);
    cr_assert_eq(seam.backend->queue_set_event_fd(&seam.queue, -1, -1), -ENXIO);
    cr_assert(fd == wakeup_fd || close(fd) == 0);
    cr_assert_eq(close(wakeup_fd), 0);
    close_both(ends);
}
