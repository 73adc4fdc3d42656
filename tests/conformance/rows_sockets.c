/* SPDX-License-Identifier: MIT */
/* Rows of operations on sockets as such, and on pipes as such: making, naming and connecting them,
 * shutting down, splice and tee. */
#include "conformance/table.h"

#include "sys/uapi.h"
#include <poll.h>
#include <sys/syscall.h>

/* ---- socket, bind, listen ------------------------------------------------------------------- */

static int new_socket(void) {
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static void make_one(struct scene *scene, sr_request *request) {
    (void)scene;
    request->domain = AF_INET;
    request->type = SOCK_STREAM;
}

static void make_one_of_no_family(struct scene *scene, sr_request *request) {
    make_one(scene, request);
    request->domain = 12345;
}

static void is_a_socket(struct scene *scene, const sr_completion *completion) {
    int fd = -1;
    int type = 0;
    socklen_t size = sizeof type;
    assert_ok(sr_file_fd(scene->ring, completion->file, &fd));
    cr_assert_eq(getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size), 0);
    cr_assert_eq(type, SOCK_STREAM);
    cr_assert_neq(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
}

static void to_the_address(struct scene *scene, sr_request *request) {
    request->address = (const struct sockaddr *)&scene->address;
    request->address_bytes = sizeof(struct sockaddr_in);
}

static void bind_it(struct scene *scene, sr_request *request) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memcpy(&scene->address, &address, sizeof address);
    scene->near = new_socket();
    request->file = scene_adopt(scene, scene->near);
    to_the_address(scene, request);
}

static void bind_to_what_is_taken(struct scene *scene, sr_request *request) {
    (void)scene_listener(scene, 1);
    scene->near = new_socket();
    request->file = scene_adopt(scene, scene->near);
    to_the_address(scene, request);
}

static void is_bound(struct scene *scene, const sr_completion *completion) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    cr_assert_eq(getsockname(scene->near, (struct sockaddr *)&address, &size), 0);
    cr_assert_eq(address.sin_port != 0, completion->result >= 0);
}

static void listen_on_it(struct scene *scene, sr_request *request) {
    bind_it(scene, request);
    cr_assert_eq(bind(scene->near, request->address, request->address_bytes), 0);
    request->length = 5;
}

static void listen_on_a_pair(struct scene *scene, sr_request *request) {
    request->file = scene_pair(scene, SOCK_STREAM); /* connected: it cannot listen */
    request->length = 5;
}

static void listens(struct scene *scene, const sr_completion *completion) {
    int answer = 0;
    socklen_t size = sizeof answer;
    cr_assert_eq(getsockopt(scene->near, SOL_SOCKET, SO_ACCEPTCONN, &answer, &size), 0);
    cr_assert_eq(answer, completion->result >= 0);
}

/* ---- accept, connect ------------------------------------------------------------------------ */

static void accept_on_a_listener(struct scene *scene, sr_request *request) {
    const int listener = scene_listener(scene, 16);
    request->file = scene_adopt(scene, fcntl(listener, F_DUPFD_CLOEXEC, 0));
}

static void accept_on_a_pair(struct scene *scene, sr_request *request) {
    request->file = scene_pair(scene, SOCK_STREAM);
}

static void connect_one_more(struct scene *scene) {
    const int client = scene_own(scene, new_socket());
    cr_assert_eq(
        connect(client, (const struct sockaddr *)&scene->address, sizeof(struct sockaddr_in)), 0);
    scene->far = client;
}

static void connect_a_client(struct scene *scene) {
    if (scene->steps == 0) {
        connect_one_more(scene);
    }
}

static void connect_two_clients(struct scene *scene) {
    if (scene_feeds(scene, 2)) {
        connect_one_more(scene);
    }
}

static void is_accepted(struct scene *scene, const sr_completion *completion) {
    int fd = -1;
    struct sockaddr_in client;
    socklen_t size = sizeof client;
    if (completion->result < 0) {
        cr_assert_null(completion->message);
        return;
    }
    assert_ok(sr_file_fd(scene->ring, completion->file, &fd));
    cr_assert_neq(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    if ((completion->flags & SR_COMPLETION_MORE) != 0) {
        return; /* multishot gives no address */
    }
    cr_assert_eq(getsockname(scene->far, (struct sockaddr *)&client, &size), 0);
    cr_assert_eq(completion->message->address_bytes, sizeof client);
    cr_assert_eq(memcmp(completion->message->address, &client, sizeof client), 0);
}

static void connect_to_a_listener(struct scene *scene, sr_request *request) {
    (void)scene_listener(scene, 16);
    scene->near = new_socket();
    request->file = scene_adopt(scene, scene->near);
    to_the_address(scene, request);
}

static void connect_to_nobody(struct scene *scene, sr_request *request) {
    connect_to_a_listener(scene, request);
    scene_disown(scene, scene->own_fds[0]);
}

static void connect_to_a_busy_listener(struct scene *scene, sr_request *request) {
    scene_busy_listener(scene);
    to_the_address(scene, request);
    scene->near = new_socket();
    request->file = scene_adopt(scene, scene->near);
}

static void is_connected(struct scene *scene, const sr_completion *completion) {
    struct sockaddr_in peer;
    socklen_t size = sizeof peer;
    cr_assert_eq(getpeername(scene->near, (struct sockaddr *)&peer, &size) == 0,
                 completion->result >= 0);
}

/* ---- shutdown ------------------------------------------------------------------------------- */

static void shut_a_pair_down(struct scene *scene, sr_request *request) {
    request->file = scene_pair(scene, SOCK_STREAM);
    request->op_flags = SHUT_WR;
}

static void shut_down_what_is_not_connected(struct scene *scene, sr_request *request) {
    (void)scene;
    request->file = scene_adopt(scene, new_socket());
    request->op_flags = SHUT_WR;
}

static void peer_sees_the_end(struct scene *scene, const sr_completion *completion) {
    char byte = 0;
    const ssize_t count = recv(scene->far, &byte, 1, MSG_DONTWAIT);
    cr_assert_eq(count, completion->result >= 0 ? 0 : -1);
}

/* ---- splice, tee ---------------------------------------------------------------------------- */

/* From the pipe whose other end is scene->far to the one that scene->near reads from. */
static void from_pipe_to_pipe(struct scene *scene, sr_request *request) {
    int ends[2];
    request->other = scene_pipe_to_read(scene);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    request->file = scene_adopt(scene, ends[1]);
    scene->near = scene_own(scene, ends[0]);
    request->offset = SR_OFFSET_CURRENT;
    request->other_offset = SR_OFFSET_CURRENT;
    request->length = 7;
}

static void seven_bytes(struct scene *scene, sr_request *request) {
    from_pipe_to_pipe(scene, request);
    cr_assert_eq(write(scene->far, "spliced", 7), 7);
}

static void three_of_seven_bytes(struct scene *scene, sr_request *request) {
    from_pipe_to_pipe(scene, request);
    cr_assert_eq(write(scene->far, "spl", 3), 3);
}

static void between_sockets(struct scene *scene, sr_request *request) {
    request->file = scene_pair(scene, SOCK_STREAM);
    request->other = scene_pair(scene, SOCK_STREAM);
    request->offset = SR_OFFSET_CURRENT;
    request->other_offset = SR_OFFSET_CURRENT;
    request->length = 7;
}

static void write_seven(struct scene *scene) {
    if (scene->steps == 0) {
        cr_assert_eq(write(scene->far, "spliced", 7), 7);
    }
}

/* For io_uring it makes no difference whether it has begun. */
static void while_it_splices(struct scene *scene) {
    if (scene->backend == SR_BACKEND_FALLBACK) {
        cr_assert(sleeper_wait(getpid(), SLEEPER_OTHERS,
                               scene->row->op == SR_OP_TEE ? SYS_tee : SYS_splice, 10000));
    }
}

static void bytes_are_spliced(struct scene *scene, const sr_completion *completion) {
    char bytes[16] = "";
    struct pollfd there = {.fd = scene->near, .events = POLLIN};
    if (completion->result > 0) {
        cr_assert_eq(read(scene->near, bytes, sizeof bytes), completion->result);
        cr_assert_eq(memcmp(bytes, "spliced", (size_t)completion->result), 0);
    }
    cr_assert_eq(poll(&there, 1, 0), 0);
}

/* ---- rows ----------------------------------------------------------------------------------- */

#define BLOCKS_DIFFERS                                                                             \
    "a cancel interrupts what blocks interruptibly in a kernel worker (opening a FIFO, splice, "   \
    "tee)"
#define SPLICE_BLOCKS                                                                              \
    {                                                                                              \
        .prepare = from_pipe_to_pipe, .arrive = while_it_splices, .pump = write_seven,             \
        .results = RESULTS(-EINTR, -ECANCELED),                                                    \
        .several = "kernels say one or the other of a call that was interrupted",                  \
        .on_fallback = RESULTS(7), .differs = BLOCKS_DIFFERS, .check = bytes_are_spliced,          \
        .moment = IN_FLIGHT                                                                        \
    }
#define PIPES(opcode, words)                                                                       \
    {                                                                                              \
        .op = (opcode), .name = (words), .cells = {                                                \
            [WORKS] = ENDS(seven_bytes, 7, bytes_are_spliced),                                     \
            [FAILS] = ENDS(between_sockets, -EINVAL, NULL),                                        \
            [SHORT] = ENDS(three_of_seven_bytes, 3, bytes_are_spliced),                            \
            [CANCELLED] = SPLICE_BLOCKS,                                                           \
            [DEADLINE] = SPLICE_BLOCKS                                                             \
        }                                                                                          \
    }
#define INLINE(works, result, checked, fails, code)                                                \
    {                                                                                              \
        [WORKS] = ENDS(works, result, checked), [FAILS] = ENDS(fails, code, NULL),                 \
        [SHORT] = NO_COUNT, [CANCELLED] = AT_ONCE(works, result, checked),                         \
        [DEADLINE] = AT_ONCE(works, result, checked)                                               \
    }
#define ACCEPTS                                                                                    \
    {                                                                                              \
        [WORKS] = ENDS_WHEN(accept_on_a_listener, connect_a_client, 0, is_accepted),               \
        [FAILS] = ENDS(accept_on_a_pair, -EINVAL, is_accepted), [SHORT] = NO_COUNT,                \
        [CANCELLED] = IS_ENDED(accept_on_a_listener, is_accepted),                                 \
        [DEADLINE] = IS_ENDED(accept_on_a_listener, is_accepted)                                   \
    }

const struct row rows_sockets[] = {
    {.op = SR_OP_SOCKET,
     .name = "socket",
     .cells = INLINE(make_one, 0, is_a_socket, make_one_of_no_family, -EAFNOSUPPORT)},
    {.op = SR_OP_BIND,
     .name = "bind",
     .cells = INLINE(bind_it, 0, is_bound, bind_to_what_is_taken, -EADDRINUSE)},
    {.op = SR_OP_BIND,
     .flags = ROW_LACKING | ROW_FIXED,
     .uapi = SRI_IORING_OP_BIND,
     .name = "bind by a plain system call",
     .cells = INLINE(bind_it, 0, is_bound, bind_to_what_is_taken, -EADDRINUSE)},
    {.op = SR_OP_LISTEN,
     .name = "listen",
     .cells = INLINE(listen_on_it, 0, listens, listen_on_a_pair, -EINVAL)},
    {.op = SR_OP_LISTEN,
     .flags = ROW_LACKING | ROW_FIXED,
     .uapi = SRI_IORING_OP_LISTEN,
     .name = "listen by a plain system call",
     .cells = INLINE(listen_on_it, 0, listens, listen_on_a_pair, -EINVAL)},
    {.op = SR_OP_ACCEPT, .name = "accept", .cells = ACCEPTS},
    {.op = SR_OP_ACCEPT, .flags = ROW_FIXED, .name = "accept in a fixed slot", .cells = ACCEPTS},
    {.op = SR_OP_ACCEPT,
     .request_flags = SR_REQUEST_MULTISHOT,
     .name = "multishot accept",
     .cells = {[WORKS] = {.prepare = accept_on_a_listener,
                          .pump = connect_two_clients,
                          .check = is_accepted,
                          .results = RESULTS(-ECANCELED),
                          .more = 2,
                          .ends_by_cancel = true},
               [FAILS] = ENDS(accept_on_a_pair, -EINVAL, is_accepted),
               [SHORT] = NO_COUNT,
               [CANCELLED] = IS_ENDED(accept_on_a_listener, is_accepted),
               [DEADLINE] = IS_ENDED(accept_on_a_listener, is_accepted)}},
    {.op = SR_OP_CONNECT,
     .name = "connect",
     .cells = {[WORKS] = ENDS(connect_to_a_listener, 0, is_connected),
               [FAILS] = ENDS(connect_to_nobody, -ECONNREFUSED, is_connected),
               [SHORT] = NO_COUNT,
               [CANCELLED] = IS_ENDED(connect_to_a_busy_listener, is_connected),
               [DEADLINE] = IS_ENDED(connect_to_a_busy_listener, is_connected)}},
    {.op = SR_OP_SHUTDOWN,
     .name = "shutdown",
     .cells = {[WORKS] = ENDS(shut_a_pair_down, 0, peer_sees_the_end),
               [FAILS] = ENDS(shut_down_what_is_not_connected, -ENOTCONN, NULL),
               [SHORT] = NO_COUNT,
               [CANCELLED] = EITHER(shut_a_pair_down, 0, peer_sees_the_end),
               [DEADLINE] = EITHER(shut_a_pair_down, 0, peer_sees_the_end)}},
    PIPES(SR_OP_SPLICE, "splice"),
    PIPES(SR_OP_TEE, "tee"),
};
const size_t rows_sockets_count = COUNT_OF(rows_sockets);
