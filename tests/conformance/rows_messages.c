/* SPDX-License-Identifier: MIT */
/* Rows of what is sent and received over sockets, by copying or without, into buffers of the
 * program or of a buffer ring. */
#include "conformance/table.h"

/* ---- send ----------------------------------------------------------------------------------- */

static bool has_slices(const sr_request *request) {
    return request->op == SR_OP_SENDMSG || request->op == SR_OP_RECVMSG;
}

/* @length bytes of the buffer; of a message two slices of it. */
static void range(struct scene *scene, sr_request *request, sr_file file, uint32_t length) {
    request->file = file;
    if (has_slices(request)) {
        scene->slices[0] = (sr_slice){scene->buffer, 0, 5};
        scene->slices[1] = (sr_slice){scene->buffer, 5, length - 5};
        request->slices = scene->slices;
        request->slice_count = 2;
        return;
    }
    request->buffer = scene->buffer;
    request->length = length;
}

static void send_some(struct scene *scene, sr_request *request) {
    range(scene, request, scene_pair(scene, SOCK_STREAM), 1000);
}

static void send_to_nobody(struct scene *scene, sr_request *request) {
    send_some(scene, request);
    scene_disown(scene, scene->far);
}

static void send_to_a_full_socket(struct scene *scene, sr_request *request) {
    range(scene, request, scene_pair(scene, SOCK_STREAM), BYTES);
    scene_choke(scene);
}

/* It takes less than the buffer. */
static void send_to_a_small_socket(struct scene *scene, sr_request *request) {
    const int small = 4608;
    range(scene, request, scene_pair(scene, SOCK_STREAM), BYTES);
    cr_assert_eq(setsockopt(scene->near, SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
}

static void send_a_descriptor_that_is_none(struct scene *scene, sr_request *request) {
    static const int none = 9999;
    send_some(scene, request);
    request->descriptors = &none;
    request->descriptor_count = 1;
}

static void send_over_tcp(struct scene *scene, sr_request *request) {
    range(scene, request, scene_connection(scene), 1000);
}

static void send_over_tcp_after_the_end(struct scene *scene, sr_request *request) {
    send_over_tcp(scene, request);
    cr_assert_eq(shutdown(scene->near, SHUT_WR), 0);
}

static void send_before_it_is_connected(struct scene *scene, sr_request *request) {
    range(scene, request, scene_connecting(scene), 1000);
}

static void drain(struct scene *scene) {
    (void)scene_drain(scene);
}

static void peer_gets_it(struct scene *scene, const sr_completion *completion) {
    const struct timeval patience = {.tv_sec = 10};
    char byte = 0;
    if (completion->result <= 0) {
        return;
    }
    cr_assert_eq(setsockopt(scene->far, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    cr_assert_eq(recv(scene->far, &byte, 1, MSG_PEEK), 1);
    cr_assert_eq(byte, 'b');
    cr_assert_eq(scene_drain(scene), (size_t)completion->result);
}

/* ---- receive -------------------------------------------------------------------------------- */

static void receive_eight(struct scene *scene, sr_request *request) {
    range(scene, request, scene_pair(scene, SOCK_STREAM), 8);
    request->descriptor_count = request->op == SR_OP_RECVMSG ? 2 : 0;
}

static void receive_all(struct scene *scene, sr_request *request) {
    range(scene, request, scene_pair(scene, SOCK_STREAM), BYTES);
}

static void receive_three_of_eight(struct scene *scene, sr_request *request) {
    receive_eight(scene, request);
    cr_assert_eq(write(scene->far, "rec", 3), 3);
}

static void receive_three_and_the_end(struct scene *scene, sr_request *request) {
    receive_three_of_eight(scene, request);
    cr_assert_eq(shutdown(scene->far, SHUT_WR), 0);
}

static void receive_what_is_longer(struct scene *scene, sr_request *request) {
    range(scene, request, scene_pair(scene, SOCK_SEQPACKET), 8);
    cr_assert_eq(send(scene->far, "received and more", 17, 0), 17);
}

static void receive_from_a_file(struct scene *scene, sr_request *request) {
    receive_eight(scene, request);
    request->file = scene->file;
}

static void write_eight(struct scene *scene) {
    if (scene->steps == 0) {
        cr_assert_eq(write(scene->far, "received", 8), 8);
    }
}

/* Eight bytes with a descriptor. */
static void send_eight(struct scene *scene) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct iovec vector = {(void *)(uintptr_t) "received", 8};
    const struct msghdr message = {.msg_iov = &vector,
                                   .msg_iovlen = 1,
                                   .msg_control = &control,
                                   .msg_controllen = sizeof control};
    control.header.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.header), &scene->far, sizeof(int));
    if (scene->steps == 0) {
        cr_assert_eq(sendmsg(scene->far, &message, 0), 8);
    }
}

static void write_a_quarter(struct scene *scene) {
    static const char piece[BYTES / 4] = "received";
    if (scene->steps < 4) {
        cr_assert_eq(write(scene->far, piece, sizeof piece), (ssize_t)sizeof piece);
    }
}

static void after_the_first_bytes(struct scene *scene) {
    const sr_completion *none = NULL;
    for (int i = 0; i < 10000 && ring_stats(scene->ring).short_transfers_total == 0; i++) {
        assert_code(sr_ring_wait(scene->ring, 0, 0, NULL, &none), 0);
        (void)usleep(100);
    }
    cr_assert_eq(ring_stats(scene->ring).short_transfers_total, 1);
}

static void is_received(struct scene *scene, const sr_completion *completion) {
    const unsigned char *bytes = scene_bytes(scene, scene->buffer, BYTES);
    const size_t done = completion->bytes_done < 8 ? (size_t)completion->bytes_done : 8;
    cr_assert_eq(memcmp(bytes, "received", done), 0);
    cr_assert(completion->bytes_done >= BYTES || bytes[completion->bytes_done] == 'b');
}

static void message_is_received(struct scene *scene, const sr_completion *completion) {
    is_received(scene, completion);
    cr_assert_eq(completion->message != NULL, completion->result >= 0);
    if (completion->result != 8) {
        return;
    }
    cr_assert_eq(completion->message->descriptor_count, 1);
    cr_assert_neq(fcntl(completion->message->descriptors[0], F_GETFD) & FD_CLOEXEC, 0);
    cr_assert_eq(close(completion->message->descriptors[0]), 0);
}

static void message_is_cut(struct scene *scene, const sr_completion *completion) {
    is_received(scene, completion);
    cr_assert_eq(completion->message->flags, (uint32_t)MSG_TRUNC);
}

/* ---- receive from a buffer ring ------------------------------------------------------------- */

static void select_a_buffer(struct scene *scene, sr_request *request) {
    request->file = scene_pair(scene, SOCK_STREAM);
    request->buffer_ring = scene->buffer_ring;
}

static void select_for_a_file(struct scene *scene, sr_request *request) {
    request->file = scene->file;
    request->buffer_ring = scene->buffer_ring;
}

/* More than one buffer holds. */
static void select_for_more_than_fits(struct scene *scene, sr_request *request) {
    static const char bytes[BYTES + 1000] = "received";
    select_a_buffer(scene, request);
    cr_assert_eq(write(scene->far, bytes, sizeof bytes), (ssize_t)sizeof bytes);
}

/* There is data, but no buffer for it. */
static void select_from_nothing(struct scene *scene, sr_request *request) {
    sr_buffer_ring_options options = SR_BUFFER_RING_OPTIONS_INIT;
    options.entries = 4;
    options.fill = 0;
    assert_ok(sr_buffer_ring_destroy(&scene->buffer_ring));
    assert_ok(sr_buffer_ring_create(scene->ring, scene->pool, &options, &scene->buffer_ring));
    select_a_buffer(scene, request);
    cr_assert_eq(write(scene->far, "received", 8), 8);
}

static void provide_one(struct scene *scene) {
    if (scene->steps == 0) {
        assert_ok(sr_buffer_ring_provide(scene->buffer_ring, buffer_take(scene->pool)));
    }
}

/* The receive has looked, and waits for a buffer. */
static void until_it_starves(struct scene *scene) {
    sr_buffer_ring_stats stats = SR_BUFFER_RING_STATS_INIT;
    const sr_completion *none = NULL;
    for (int i = 0; i < 10000 && stats.starved == 0; i++) {
        assert_code(sr_ring_wait(scene->ring, 0, 0, NULL, &none), 0);
        assert_ok(sr_buffer_ring_get_stats(scene->buffer_ring, &stats));
        (void)usleep(stats.starved == 0 ? 100 : 0);
    }
    cr_assert_eq(stats.starved, 1);
}

static void send_twice(struct scene *scene) {
    if (scene_feeds(scene, 2)) {
        cr_assert_eq(write(scene->far, "received", 8), 8);
    }
}

static void is_in_its_buffer(struct scene *scene, const sr_completion *completion) {
    void *data = NULL;
    cr_assert_eq(completion->buffer.bits != 0, completion->result > 0);
    if (completion->result <= 0) {
        return;
    }
    cr_assert_eq(completion->bytes_done, (uint64_t)completion->result);
    cr_assert_eq(completion->buffer_length, (uint32_t)completion->result);
    assert_ok(sr_buffer_data(scene->pool, completion->buffer, 0, 8, SR_ACCESS_READ, &data));
    cr_assert(completion->result == 1000 || memcmp(data, "received", 8) == 0);
}

/* ---- rows ----------------------------------------------------------------------------------- */

#define SENDS_SHORT                                                                                \
    { .prepare = send_to_a_small_socket, .results = RANGE(1, BYTES - 1), .check = peer_gets_it }
#define SENDS(fails, code)                                                                         \
    {                                                                                              \
        [WORKS] = ENDS(send_some, 1000, peer_gets_it), [FAILS] = ENDS(fails, code, peer_gets_it),  \
        [SHORT] = SENDS_SHORT, [CANCELLED] = IS_ENDED(send_to_a_full_socket, NULL),                \
        [DEADLINE] = IS_ENDED(send_to_a_full_socket, NULL)                                         \
    }
#define RECEIVES                                                                                   \
    {                                                                                              \
        [WORKS] = ENDS_WHEN(receive_eight, write_eight, 8, is_received),                           \
        [FAILS] = ENDS(receive_from_a_file, -ENOTSOCK, is_received),                               \
        [SHORT] = ENDS(receive_three_of_eight, 3, is_received),                                    \
        [CANCELLED] = IS_ENDED(receive_eight, is_received),                                        \
        [DEADLINE] = IS_ENDED(receive_eight, is_received)                                          \
    }
#define FULL_RECEIVE_ENDED                                                                         \
    {                                                                                              \
        .prepare = receive_three_of_eight, .arrive = after_the_first_bytes,                        \
        .results = RESULTS(-ECANCELED), .bytes_before = 3, .check = is_received,                   \
        .arrives_by_waiting = true, .moment = IN_FLIGHT                                            \
    }
#define STARVES                                                                                    \
    {                                                                                              \
        .prepare = select_from_nothing, .arrive = until_it_starves,                                \
        .results = RESULTS(-ECANCELED), .check = is_in_its_buffer, .moment = IN_FLIGHT,            \
        .arrives_by_waiting = true                                                                 \
    }
#define GOES_ON_UNTIL_CANCELLED(prepared, pumped)                                                  \
    {                                                                                              \
        .prepare = (prepared), .pump = (pumped), .check = is_in_its_buffer,                        \
        .results = RESULTS(-ECANCELED), .more = 2, .ends_by_cancel = true                          \
    }

const struct row rows_messages[] = {
    {.op = SR_OP_SEND, .name = "send", .cells = SENDS(send_to_nobody, -EPIPE)},
    {.op = SR_OP_SEND,
     .flags = ROW_FIXED,
     .name = "send in a fixed slot",
     .cells = SENDS(send_to_nobody, -EPIPE)},
    {.op = SR_OP_SEND,
     .request_flags = SR_REQUEST_FULL,
     .name = "full send",
     .cells = {[WORKS] = ENDS_WHEN(send_to_a_small_socket, drain, BYTES, NULL),
               [FAILS] = ENDS(send_to_nobody, -EPIPE, NULL),
               [SHORT] = NEVER("it goes on until all is sent, or fails"),
               [CANCELLED] = IS_ENDED(send_to_a_full_socket, NULL),
               [DEADLINE] = IS_ENDED(send_to_a_full_socket, NULL)}},
    {.op = SR_OP_RECV, .name = "recv", .cells = RECEIVES},
    {.op = SR_OP_RECV,
     .flags = ROW_FIXED | ROW_PLAIN,
     .name = "recv in a fixed slot, plain pool",
     .cells = RECEIVES},
    {.op = SR_OP_RECV,
     .request_flags = SR_REQUEST_FULL,
     .name = "full recv",
     .cells = {[WORKS] = ENDS_WHEN(receive_all, write_a_quarter, BYTES, is_received),
               [FAILS] = ENDS(receive_from_a_file, -ENOTSOCK, is_received),
               [SHORT] = ENDS(receive_three_and_the_end, 3, is_received),
               [CANCELLED] = FULL_RECEIVE_ENDED,
               [DEADLINE] = FULL_RECEIVE_ENDED}},
    {.op = SR_OP_RECV,
     .flags = ROW_SELECTS,
     .name = "recv from a buffer ring",
     .cells = {[WORKS] = ENDS_WHEN(select_a_buffer, write_eight, 8, is_in_its_buffer),
               [FAILS] = ENDS(select_for_a_file, -ENOTSOCK, is_in_its_buffer),
               [SHORT] = ENDS(select_for_more_than_fits, BYTES, is_in_its_buffer),
               [CANCELLED] = IS_ENDED(select_a_buffer, is_in_its_buffer),
               [DEADLINE] = IS_ENDED(select_a_buffer, is_in_its_buffer)}},
    {.op = SR_OP_RECV,
     .flags = ROW_SELECTS,
     .name = "recv from an empty buffer ring",
     .cells = {[WORKS] = ENDS_WHEN(select_from_nothing, provide_one, 8, is_in_its_buffer),
               [FAILS] = NEVER("an empty buffer ring is waited for, it is no failure"),
               [SHORT] = NEVER("as from a buffer ring that is not empty"),
               [CANCELLED] = STARVES,
               [DEADLINE] = STARVES}},
    {.op = SR_OP_RECV,
     .request_flags = SR_REQUEST_MULTISHOT,
     .flags = ROW_SELECTS,
     .name = "multishot recv",
     .cells = {[WORKS] = GOES_ON_UNTIL_CANCELLED(select_a_buffer, send_twice),
               [FAILS] = ENDS(select_for_a_file, -ENOTSOCK, is_in_its_buffer),
               [SHORT] = GOES_ON_UNTIL_CANCELLED(select_for_more_than_fits, NULL),
               [CANCELLED] = IS_ENDED(select_a_buffer, is_in_its_buffer),
               [DEADLINE] = IS_ENDED(select_a_buffer, is_in_its_buffer)}},
    {.op = SR_OP_SENDMSG,
     .name = "sendmsg",
     .cells = SENDS(send_a_descriptor_that_is_none, -EBADF)},
    {.op = SR_OP_RECVMSG,
     .name = "recvmsg",
     .cells = {[WORKS] = ENDS_WHEN(receive_eight, send_eight, 8, message_is_received),
               [FAILS] = ENDS(receive_from_a_file, -ENOTSOCK, message_is_received),
               [SHORT] = ENDS(receive_what_is_longer, 8, message_is_cut),
               [CANCELLED] = IS_ENDED(receive_eight, message_is_received),
               [DEADLINE] = IS_ENDED(receive_eight, message_is_received)}},
    {.op = SR_OP_SEND_ZC,
     .name = "zero-copy send over TCP",
     .cells = {[WORKS] = ENDS(send_over_tcp, 1000, peer_gets_it),
               [FAILS] = ENDS(send_over_tcp_after_the_end, -EPIPE, peer_gets_it),
               [SHORT] = NEVER("TCP takes so few bytes at once, or waits for room"),
               [CANCELLED] = IS_ENDED(send_before_it_is_connected, NULL),
               [DEADLINE] = IS_ENDED(send_before_it_is_connected, NULL)}},
    {.op = SR_OP_SEND_ZC,
     .flags = ROW_PLAIN,
     .name = "zero-copy send over TCP, plain pool",
     .cells = {[WORKS] = ENDS(send_over_tcp, 1000, peer_gets_it),
               [FAILS] = ENDS(send_over_tcp_after_the_end, -EPIPE, peer_gets_it),
               [SHORT] = NEVER("TCP takes so few bytes at once, or waits for room"),
               [CANCELLED] = IS_ENDED(send_before_it_is_connected, NULL),
               [DEADLINE] = IS_ENDED(send_before_it_is_connected, NULL)}},
    {.op = SR_OP_SEND_ZC,
     .name = "zero-copy send over a socket that cannot",
     .cells = SENDS(send_to_nobody, -EPIPE)},
};
const size_t rows_messages_count = COUNT_OF(rows_messages);
