/* SPDX-License-Identifier: MIT */
/*
 * Each operation after the file operations (test_ring_ops.c): sockets, messages, splice, poll,
 * waitid, futexes, epoll; each with an outcome that works, one that fails, and, where it can wait,
 * cancelled and with its deadline hit. What goes on (multishot, buffer rings) is in
 * test_buffer_ring.c.
 */
#include "support/case.h"
#include "support/failing.h"
#include "unit/fixture.h"

#include "ring/ring.h"

#include <arpa/inet.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define BYTES ((size_t)16384)
#define MS    UINT64_C(1000000)

static sr_ring *ring;
static sr_pool *pool;
static sr_buffer buffer;
static sr_buffer second_buffer;
/* A connected pair of stream sockets: one end the ring's, the other one the test's own. */
static sr_file near;
static int far;

static void begin(void) {
    int ends[2];
    ring = ring_make(NULL);
    pool = pool_make(BYTES, 4);
    pool_attach(ring, pool);
    buffer = buffer_take(pool);
    second_buffer = buffer_take(pool);
    memset(buffer_bytes(pool, buffer, BYTES), 'b', BYTES);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    near = file_take(ring, ends[0]);
    far = ends[1];
}

static void end(void) {
    (void)close(far);
    ring_end(&ring);
    pool_end(&pool);
}

static sr_request on(uint16_t op, sr_file file) {
    sr_request request = request_of(op);
    request.file = file;
    return request;
}

static sr_request transfer(uint16_t op, uint64_t length) {
    sr_request request = on(op, near);
    request.buffer = buffer;
    request.length = length;
    return request;
}

static sr_file file_of(int fd) {
    cr_assert_geq(fd, 0, "%s", strerror(errno));
    return file_take(ring, fd);
}

/* A loopback listener of the test's own; its address in *out_address. */
static int listener(struct sockaddr_in *out_address) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t size = sizeof *out_address;
    *out_address = (struct sockaddr_in){.sin_family = AF_INET};
    out_address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_eq(bind(fd, (const struct sockaddr *)out_address, sizeof *out_address), 0);
    cr_assert_eq(listen(fd, 16), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)out_address, &size), 0);
    return fd;
}

/* ---- outcomes that an operation which waits must have -----------------------------------------
 */

static void is_cancelled(const sr_request *request) {
    const sr_op op = submit(ring, request);
    cr_assert_geq(sr_ring_flush(ring), 1);
    assert_ok(sr_op_cancel(ring, op));
    const sr_completion completion = wait_one(ring);
    cr_assert_eq(completion.op.bits, op.bits);
    cr_assert_eq(completion.result, -ECANCELED, "operation %u: %s", request->op,
                 sr_error_name((int)completion.result));
    cr_assert_neq(completion.flags & SR_COMPLETION_CANCEL_ASKED, 0);
    cr_assert_eq(completion.file.bits, request->op == SR_OP_ACCEPT ? 0 : request->file.bits);
}

static void has_a_deadline(sr_request request) {
    request.deadline_ns = 20 * MS;
    const sr_completion completion = run(ring, &request);
    assert_code(completion.result, -ECANCELED);
    cr_assert_neq(completion.flags & SR_COMPLETION_DEADLINE_HIT, 0);
}

static void can_wait(const sr_request *request) {
    is_cancelled(request);
    has_a_deadline(*request);
    cr_assert_eq(ring_stats(ring).ops_in_flight, 0);
}

static void fails(const sr_request *request, int code) {
    const sr_completion completion = run(ring, request);
    assert_code(completion.result, code);
}

/* Refused before it is an operation. */
static void refused(const sr_request *request, int code) {
    assert_code(sr_ring_submit(ring, request, NULL), code);
    cr_assert_eq(ring_stats(ring).ops_in_flight, 0);
}

/* ---- splice, tee ------------------------------------------------------------------------------
 */

static void splice_like(uint16_t op, bool consumes) {
    int from[2];
    int to[2];
    char bytes[16] = {0};
    cr_assert_eq(pipe2(from, O_CLOEXEC), 0);
    cr_assert_eq(pipe2(to, O_CLOEXEC), 0);
    cr_assert_eq(write(from[1], "spliced", 7), 7);
    sr_request request = on(op, file_of(to[1]));
    request.other = file_of(from[0]);
    request.offset = SR_OFFSET_CURRENT;
    request.other_offset = SR_OFFSET_CURRENT;
    request.length = 100;
    const sr_completion completion = run(ring, &request);
    assert_code(completion.result, 7);
    cr_assert_eq(completion.bytes_done, 7);
    cr_assert_eq(read(to[0], bytes, sizeof bytes), 7);
    cr_assert_str_eq(bytes, "spliced");
    struct pollfd left = {.fd = from[0], .events = POLLIN};
    cr_assert_eq(poll(&left, 1, 0), consumes ? 0 : 1);
    if (!consumes) {
        cr_assert_eq(read(from[0], bytes, sizeof bytes), 7);
    }
    file_close(ring, request.other); /* its operation has ended: the file can go */
    (void)close(from[1]);
    (void)close(to[0]);
}

static void splice_works(void) {
    splice_like(SR_OP_SPLICE, true);
    /* From a file, at an offset. */
    int to[2];
    char bytes[8] = {0};
    const int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    cr_assert_eq(pwrite(fd, "0123456789", 10, 0), 10);
    cr_assert_eq(pipe2(to, O_CLOEXEC), 0);
    sr_request request = on(SR_OP_SPLICE, file_of(to[1]));
    request.other = file_of(fd);
    request.offset = SR_OFFSET_CURRENT;
    request.other_offset = 4;
    request.length = 3;
    assert_code(run(ring, &request).result, 3);
    cr_assert_eq(read(to[0], bytes, sizeof bytes), 3);
    cr_assert_str_eq(bytes, "456");
    (void)close(to[0]);
}

static void splice_fails(void) {
    sr_request request = on(SR_OP_SPLICE, near);
    request.other = near;
    request.length = 10;
    fails(&request, -EINVAL); /* neither is a pipe */
    request.length = UINT64_C(1) << 32;
    refused(&request, SR_E_BOUNDS);
    request.other = SR_FILE_NONE;
    request.length = 1;
    refused(&request, SR_E_STALE);
}

static void tee_works(void) {
    splice_like(SR_OP_TEE, false);
}

static void tee_fails(void) {
    sr_request request = on(SR_OP_TEE, near);
    request.other = near;
    request.length = 10;
    fails(&request, -EINVAL);
}

/* ---- socket, bind, listen, accept, connect, shutdown -------------------------------------------
 */

static sr_file socket_by_ring(void) {
    sr_request request = request_of(SR_OP_SOCKET);
    request.domain = AF_INET;
    request.type = SOCK_STREAM;
    const sr_completion made = run(ring, &request);
    assert_ok(made.result);
    cr_assert_neq(made.file.bits, 0);
    return made.file;
}

static void socket_works(void) {
    const sr_file file = socket_by_ring();
    int fd = -1;
    int type = 0;
    socklen_t size = sizeof type;
    assert_ok(sr_file_fd(ring, file, &fd));
    cr_assert_eq(getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size), 0);
    cr_assert_eq(type, SOCK_STREAM);
    cr_assert_neq(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    file_close(ring, file);
}

static void socket_fails(void) {
    sr_request request = request_of(SR_OP_SOCKET);
    request.domain = 12345;
    request.type = SOCK_STREAM;
    const sr_completion completion = run(ring, &request);
    assert_code(completion.result, -EAFNOSUPPORT);
    cr_assert_eq(completion.file.bits, 0);
    cr_assert_eq(ring_stats(ring).files_open, 1);
}

static sr_request bind_request(sr_file file, const struct sockaddr_in *address) {
    sr_request request = on(SR_OP_BIND, file);
    request.address = (const struct sockaddr *)address;
    request.address_bytes = sizeof *address;
    return request;
}

static void bind_works(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct sockaddr_in got;
    socklen_t size = sizeof got;
    int fd = -1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const sr_file file = socket_by_ring();
    const sr_request request = bind_request(file, &address);
    assert_ok(run(ring, &request).result);
    assert_ok(sr_file_fd(ring, file, &fd));
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&got, &size), 0);
    cr_assert_eq(got.sin_addr.s_addr, address.sin_addr.s_addr);
    cr_assert_neq(got.sin_port, 0);
}

static void bind_fails(void) {
    struct sockaddr_in taken;
    const int other = listener(&taken);
    sr_request request = bind_request(socket_by_ring(), &taken);
    fails(&request, -EADDRINUSE);
    request.address_bytes = 0;
    refused(&request, SR_E_BOUNDS);
    request.address_bytes = 129;
    refused(&request, SR_E_BOUNDS);
    request.address = NULL;
    refused(&request, -EINVAL);
    (void)close(other);
}

static void listen_works(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    int fd = -1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const sr_file file = socket_by_ring();
    sr_request request = bind_request(file, &address);
    assert_ok(run(ring, &request).result);
    request = on(SR_OP_LISTEN, file);
    request.length = 5;
    assert_ok(run(ring, &request).result);
    assert_ok(sr_file_fd(ring, file, &fd));
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(client, (const struct sockaddr *)&address, sizeof address), 0);
    (void)close(client);
}

static void listen_fails(void) {
    sr_request request = on(SR_OP_LISTEN, near);
    fails(&request, -EINVAL); /* connected */
    request.length = UINT64_C(1) << 31;
    refused(&request, SR_E_BOUNDS);
}

static void accept_works(void) {
    struct sockaddr_in address;
    struct sockaddr_in own;
    socklen_t size = sizeof own;
    const int fd = listener(&address);
    const sr_request request = on(SR_OP_ACCEPT, file_of(fd));
    can_wait(&request);
    const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(client, (const struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(getsockname(client, (struct sockaddr *)&own, &size), 0);
    const sr_completion completion = run(ring, &request);
    assert_ok(completion.result);
    cr_assert_neq(completion.file.bits, 0);
    cr_assert_neq(completion.file.bits, request.file.bits);
    cr_assert_not_null(completion.message);
    cr_assert_eq(completion.message->address_bytes, sizeof own);
    cr_assert_eq(memcmp(completion.message->address, &own, sizeof own), 0, "whose address?");
    int accepted = -1;
    assert_ok(sr_file_fd(ring, completion.file, &accepted));
    cr_assert_neq(fcntl(accepted, F_GETFD) & FD_CLOEXEC, 0);
    cr_assert_eq(write(client, "x", 1), 1);
    char byte = 0;
    cr_assert_eq(read(accepted, &byte, 1), 1);
    cr_assert_eq(byte, 'x');
    (void)close(client);
}

static void accept_fails(void) {
    const sr_request request = on(SR_OP_ACCEPT, near);
    const sr_completion completion = run(ring, &request);
    assert_code(completion.result, -EINVAL); /* not a listener */
    cr_assert_null(completion.message);
}

static void connect_works(void) {
    struct sockaddr_in address;
    const int fd = listener(&address);
    const sr_file file = socket_by_ring();
    sr_request request = bind_request(file, &address);
    request.op = SR_OP_CONNECT;
    assert_ok(run(ring, &request).result);
    const int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    cr_assert_geq(accepted, 0);
    (void)close(accepted);
    (void)close(fd);
}

static void connect_fails(void) {
    struct sockaddr_in address;
    (void)close(listener(&address)); /* nobody listens there now */
    const sr_file file = socket_by_ring();
    sr_request request = bind_request(file, &address);
    request.op = SR_OP_CONNECT;
    fails(&request, -ECONNREFUSED);
    request.address = NULL;
    request.address_bytes = 0;
    refused(&request, -EINVAL);
}

static void shutdown_works(void) {
    char byte = 0;
    sr_request request = on(SR_OP_SHUTDOWN, near);
    request.op_flags = SHUT_WR;
    assert_ok(run(ring, &request).result);
    cr_assert_eq(read(far, &byte, 1), 0, "no end of stream");
    cr_assert_eq(write(far, "x", 1), 1, "the other way is still open");
}

static void shutdown_fails(void) {
    sr_request request = on(SR_OP_SHUTDOWN, socket_by_ring());
    fails(&request, -ENOTCONN);
    request.op_flags = 3;
    refused(&request, -EINVAL);
}

/* ---- send, recv --------------------------------------------------------------------------------
 */

static void send_like(uint16_t op) {
    static char bytes[BYTES];
    const sr_request request = transfer(op, 1000);
    const sr_completion completion = run(ring, &request);
    assert_code(completion.result, 1000);
    cr_assert_eq(completion.bytes_done, 1000);
    cr_assert_eq(completion.buffer.bits, buffer.bits);
    cr_assert_eq(read(far, bytes, sizeof bytes), 1000);
    for (size_t i = 0; i < 1000; i++) {
        cr_assert_eq(bytes[i], 'b');
    }
    (void)buffer_bytes(pool, buffer, BYTES); /* and it is ours again */
}

/* Fills the socket until it takes no more. */
static void choke(void) {
    int fd = -1;
    static char bytes[65536];
    assert_ok(sr_file_fd(ring, near, &fd));
    while (send(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0) {
    }
    cr_assert_eq(errno, EAGAIN);
}

static void send_works(void) {
    send_like(SR_OP_SEND);
    choke();
    const sr_request request = transfer(SR_OP_SEND, BYTES);
    can_wait(&request);
}

static void send_fails(void) {
    (void)close(far);
    const sr_request request = transfer(SR_OP_SEND, 10);
    fails(&request, -EPIPE); /* and no signal: the process would be gone */
    far = -1;
}

static void recv_works(void) {
    sr_request request = transfer(SR_OP_RECV, BYTES);
    can_wait(&request);
    cr_assert_eq(write(far, "received", 8), 8);
    request.buffer_offset = 100;
    request.length = 1000;
    const sr_completion completion = run(ring, &request);
    assert_code(completion.result, 8);
    cr_assert_eq(completion.bytes_done, 8);
    const unsigned char *bytes = buffer_bytes(pool, buffer, BYTES);
    cr_assert_eq(memcmp(bytes + 100, "received", 8), 0);
    cr_assert(bytes[99] == 'b' && bytes[108] == 'b');
    (void)shutdown(far, SHUT_WR);
    assert_code(run(ring, &request).result, 0);
}

static void recv_fails(void) {
    sr_request request = transfer(SR_OP_RECV, 10);
    request.file = file_of(open("/dev/null", O_RDWR | O_CLOEXEC));
    fails(&request, -ENOTSOCK);
    request.flags = SR_REQUEST_MULTISHOT; /* without a buffer ring */
    refused(&request, -EINVAL);
    request.flags = 0;
    request.length = BYTES + 1;
    refused(&request, SR_E_BOUNDS);
}

static void send_zc_works(void) {
    send_like(SR_OP_SEND_ZC);
}

static void send_zc_fails(void) {
    (void)close(far);
    const sr_request request = transfer(SR_OP_SEND_ZC, 10);
    const sr_completion completion = run(ring, &request);
    cr_assert(completion.result == -EPIPE || completion.result == -EOPNOTSUPP, "%s",
              sr_error_name((int)completion.result));
    (void)buffer_bytes(pool, buffer, BYTES);
    far = -1;
}

/* ---- sendmsg, recvmsg --------------------------------------------------------------------------
 */

static void sendmsg_works(void) {
    sr_slice slices[2] = {{buffer, 0, 5}, {second_buffer, 10, 3}};
    int sent[2] = {open("/dev/null", O_RDONLY | O_CLOEXEC),
                   open("/dev/zero", O_RDONLY | O_CLOEXEC)};
    char bytes[16] = {0};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control;
    memcpy(buffer_bytes(pool, buffer, 5), "first", 5);
    memcpy(buffer_bytes(pool, second_buffer, 13) + 10, "2nd", 3);
    sr_request request = on(SR_OP_SENDMSG, near);
    request.slices = slices;
    request.slice_count = 2;
    request.descriptors = sent;
    request.descriptor_count = 2;
    const sr_completion completion = run(ring, &request);
    assert_code(completion.result, 8);
    cr_assert_eq(completion.bytes_done, 8);
    struct iovec vector = {bytes, sizeof bytes};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    cr_assert_eq(recvmsg(far, &message, 0), 8);
    cr_assert_str_eq(bytes, "first2nd");
    cr_assert_eq(control.header.cmsg_type, SCM_RIGHTS);
    cr_assert_eq(control.header.cmsg_len, CMSG_LEN(2 * sizeof(int)));
    int got[2];
    memcpy(got, CMSG_DATA(&control.header), sizeof got);
    for (size_t i = 0; i < 2; i++) {
        struct stat ours;
        struct stat theirs;
        cr_assert_eq(fstat(sent[i], &ours) + fstat(got[i], &theirs), 0);
        cr_assert_eq(ours.st_rdev, theirs.st_rdev, "descriptor %zu is another file", i);
        cr_assert_eq(close(sent[i]) + close(got[i]), 0); /* still ours: duplicates travelled */
    }
    request.descriptor_count = 0;
    choke();
    can_wait(&request);
}

static void sendmsg_fails(void) {
    sr_slice slice = {buffer, 0, 5};
    sr_request request = on(SR_OP_SENDMSG, near);
    const int bad = 9999;
    request.slices = &slice;
    request.slice_count = 1;
    request.descriptors = &bad;
    request.descriptor_count = 1;
    fails(&request, -EBADF);
    request.descriptors = NULL;
    refused(&request, -EINVAL);
    request.descriptor_count = SR_DESCRIPTORS_MAX + 1;
    refused(&request, SR_E_BOUNDS);
    request.descriptor_count = 0;
    request.address_bytes = 5;
    refused(&request, -EINVAL);
    request.address_bytes = 0;
    request.slice_count = 0;
    refused(&request, -EINVAL);
}

/* Sends @count descriptors of /dev/null from the far end with five bytes. */
static void send_descriptors(uint32_t count) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control;
    struct iovec vector = {(void *)(uintptr_t) "bytes", 5};
    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    memset(&control, 0, sizeof control);
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
    for (uint32_t i = 0; i < count; i++) {
        memcpy(CMSG_DATA(&control.header) + i * sizeof(int), &fd, sizeof fd);
    }
    const struct msghdr message = {.msg_iov = &vector,
                                   .msg_iovlen = 1,
                                   .msg_control = count > 0 ? &control : NULL,
                                   .msg_controllen =
                                       count > 0 ? CMSG_SPACE(count * sizeof(int)) : 0};
    cr_assert_eq(sendmsg(far, &message, 0), 5);
    (void)close(fd);
}

static sr_request receive_message(sr_slice *slice, uint32_t room) {
    *slice = (sr_slice){buffer, 0, 100};
    sr_request request = on(SR_OP_RECVMSG, near);
    request.slices = slice;
    request.slice_count = 1;
    request.descriptor_count = room;
    return request;
}

static uint32_t open_descriptors(void) {
    uint32_t count = 0;
    for (int fd = 0; fd < 256; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

static void recvmsg_works(void) {
    sr_slice slice;
    sr_request request = receive_message(&slice, 4);
    can_wait(&request);
    send_descriptors(3);
    const sr_completion completion = run(ring, &request);
    assert_code(completion.result, 5);
    cr_assert_eq(completion.bytes_done, 5);
    cr_assert_eq(memcmp(buffer_bytes(pool, buffer, 5), "bytes", 5), 0);
    cr_assert_not_null(completion.message);
    cr_assert_null(completion.message->address);
    cr_assert_eq(completion.message->flags, 0);
    cr_assert_eq(completion.message->descriptor_count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        cr_assert_neq(fcntl(completion.message->descriptors[i], F_GETFD) & FD_CLOEXEC, 0);
        cr_assert_eq(close(completion.message->descriptors[i]), 0);
    }
    /* Without room the kernel closes them and says so. */
    send_descriptors(2);
    request = receive_message(&slice, 0);
    const uint32_t before = open_descriptors();
    const sr_completion cut = run(ring, &request);
    assert_code(cut.result, 5);
    cr_assert_eq(cut.message->descriptor_count, 0);
    cr_assert_neq(cut.message->flags & MSG_CTRUNC, 0);
    cr_assert_eq(open_descriptors(), before);
}

static void recvmsg_fails(void) {
    sr_slice slice;
    sr_request request = receive_message(&slice, 0);
    request.file = file_of(open("/dev/null", O_RDWR | O_CLOEXEC));
    const sr_completion completion = run(ring, &request);
    assert_code(completion.result, -ENOTSOCK);
    cr_assert_null(completion.message);
    request.descriptor_count = SR_DESCRIPTORS_MAX + 1;
    refused(&request, SR_E_BOUNDS);
}

/* ---- poll, waitid, futex, epoll ----------------------------------------------------------------
 */

static void poll_works(void) {
    sr_request request = on(SR_OP_POLL, near);
    request.mask = POLLIN;
    can_wait(&request);
    cr_assert_eq(write(far, "x", 1), 1);
    assert_code(run(ring, &request).result, POLLIN);
    request.mask = POLLOUT;
    assert_code(run(ring, &request).result, POLLOUT);
}

static void poll_fails(void) {
    sr_request request = on(SR_OP_POLL, SR_FILE_NONE);
    refused(&request, SR_E_STALE);
    request.file = near;
    request.flags = SR_REQUEST_FULL;
    refused(&request, -EINVAL);
}

static sr_request wait_for_child(pid_t pid) {
    sr_request request = request_of(SR_OP_WAITID);
    request.mask = P_PID;
    request.length = (uint64_t)pid;
    request.op_flags = WEXITED;
    return request;
}

static void waitid_works(void) {
    int gate[2];
    cr_assert_eq(pipe2(gate, O_CLOEXEC), 0);
    const pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        char byte;
        (void)close(gate[1]);
        _exit(read(gate[0], &byte, 1) == 0 ? 42 : 1);
    }
    const sr_request request = wait_for_child(pid);
    can_wait(&request);
    (void)close(gate[1]);
    (void)close(gate[0]);
    const sr_completion completion = run(ring, &request);
    assert_ok(completion.result);
    cr_assert_not_null(completion.child);
    cr_assert_eq(completion.child->pid, pid);
    cr_assert_eq(completion.child->code, CLD_EXITED);
    cr_assert_eq(completion.child->status, 42);
}

static void waitid_fails(void) {
    const sr_request request = wait_for_child(getpid());
    const sr_completion completion = run(ring, &request);
    assert_code(completion.result, -ECHILD);
    cr_assert_null(completion.child);
}

static uint32_t word;

static sr_request futex_request(uint16_t op) {
    sr_request request = request_of(op);
    request.futex = &word;
    return request;
}

static void futex_wait_works(void) {
    sr_request request = futex_request(SR_OP_FUTEX_WAIT);
    word = 7;
    request.offset = 7;
    can_wait(&request);
    const sr_op waiting = submit(ring, &request);
    cr_assert_eq(sr_ring_flush(ring), 1);
    /* The fallback's worker needs a moment to go to sleep; before that there is nobody to wake. */
    request = futex_request(SR_OP_FUTEX_WAKE);
    request.length = 1;
    int64_t woken = 0;
    bool ended = false;
    while (woken == 0 || !ended) {
        const sr_completion *completions = NULL;
        if (woken == 0 && ring_stats(ring).ops_in_flight == 1) {
            (void)submit(ring, &request);
        }
        const int count = sr_ring_wait(ring, 1, SR_FOREVER, NULL, &completions);
        cr_assert_geq(count, 1);
        for (int i = 0; i < count; i++) {
            ended = ended || completions[i].op.bits == waiting.bits;
            woken = completions[i].op.bits == waiting.bits ? woken : completions[i].result;
            cr_assert_geq(completions[i].result, 0);
        }
    }
    cr_assert_eq(woken, 1);
}

static void futex_wait_fails(void) {
    sr_request request = futex_request(SR_OP_FUTEX_WAIT);
    word = 7;
    request.offset = 8;
    fails(&request, -EAGAIN);
    request.futex = (uint32_t *)((char *)&word + 1);
    refused(&request, -EINVAL);
    request.futex = NULL;
    refused(&request, -EINVAL);
    request.futex = &word;
    request.op_flags = 1;
    refused(&request, -EINVAL);
    request.op_flags = 0;
    request.offset = UINT64_C(1) << 32;
    refused(&request, SR_E_BOUNDS);
}

static void futex_wake_works(void) {
    sr_request request = futex_request(SR_OP_FUTEX_WAKE);
    request.length = 100;
    assert_code(run(ring, &request).result, 0); /* nobody sleeps */
    request.op_flags = SR_FUTEX_PRIVATE;
    assert_code(run(ring, &request).result, 0);
}

static void futex_wake_fails(void) {
    sr_request request = futex_request(SR_OP_FUTEX_WAKE);
    request.futex = NULL;
    refused(&request, -EINVAL);
    request = futex_request(SR_OP_FUTEX_WAKE);
    request.length = UINT64_C(1) << 31;
    refused(&request, SR_E_BOUNDS);
}

static sr_request epoll_request(sr_file set, uint32_t what) {
    sr_request request = on(SR_OP_EPOLL_CTL, set);
    request.other = near;
    request.op_flags = what;
    request.mask = EPOLLIN;
    request.offset = UINT64_C(0x1122334455667788);
    return request;
}

static void epoll_ctl_works(void) {
    struct epoll_event event;
    const int set_fd = epoll_create1(EPOLL_CLOEXEC);
    const sr_file set = file_of(set_fd);
    sr_request request = epoll_request(set, EPOLL_CTL_ADD);
    assert_ok(run(ring, &request).result);
    cr_assert_eq(epoll_wait(set_fd, &event, 1, 0), 0);
    cr_assert_eq(write(far, "x", 1), 1);
    cr_assert_eq(epoll_wait(set_fd, &event, 1, 0), 1);
    cr_assert_eq(event.events, (uint32_t)EPOLLIN);
    cr_assert_eq(event.data.u64, request.offset);
    request.op_flags = EPOLL_CTL_DEL;
    assert_ok(run(ring, &request).result);
    cr_assert_eq(epoll_wait(set_fd, &event, 1, 0), 0);
}

static void epoll_ctl_fails(void) {
    const sr_file set = file_of(epoll_create1(EPOLL_CLOEXEC));
    sr_request request = epoll_request(set, EPOLL_CTL_DEL);
    fails(&request, -ENOENT);
    request = epoll_request(near, EPOLL_CTL_ADD);
    fails(&request, -EINVAL); /* not an epoll */
}

/* ---- the table ---------------------------------------------------------------------------------
 */

static const struct {
    void (*works)(void);
    void (*fails)(void);
} table[SR_OP_COUNT] = {
    [SR_OP_SPLICE] = {splice_works, splice_fails},
    [SR_OP_TEE] = {tee_works, tee_fails},
    [SR_OP_SOCKET] = {socket_works, socket_fails},
    [SR_OP_BIND] = {bind_works, bind_fails},
    [SR_OP_LISTEN] = {listen_works, listen_fails},
    [SR_OP_ACCEPT] = {accept_works, accept_fails},
    [SR_OP_CONNECT] = {connect_works, connect_fails},
    [SR_OP_SEND] = {send_works, send_fails},
    [SR_OP_RECV] = {recv_works, recv_fails},
    [SR_OP_SENDMSG] = {sendmsg_works, sendmsg_fails},
    [SR_OP_RECVMSG] = {recvmsg_works, recvmsg_fails},
    [SR_OP_SEND_ZC] = {send_zc_works, send_zc_fails},
    [SR_OP_SHUTDOWN] = {shutdown_works, shutdown_fails},
    [SR_OP_POLL] = {poll_works, poll_fails},
    [SR_OP_WAITID] = {waitid_works, waitid_fails},
    [SR_OP_FUTEX_WAIT] = {futex_wait_works, futex_wait_fails},
    [SR_OP_FUTEX_WAKE] = {futex_wake_works, futex_wake_fails},
    [SR_OP_EPOLL_CTL] = {epoll_ctl_works, epoll_ctl_fails},
};

/* Linux 6.1 lacks some, and nothing stands in for them; the fallback has them all. */
static bool is_lacking(uint32_t op) {
    const bool newer = op == SR_OP_WAITID || op == SR_OP_FUTEX_WAIT || op == SR_OP_FUTEX_WAKE;
    const sr_ring_stats stats = ring_stats(ring);
    if (!newer || stats.backend == SR_BACKEND_FALLBACK ||
        ring->queue.op_supported[SRI_IORING_OP_FUTEX_WAKE] != 0) {
        return false;
    }
    sr_request request = futex_request((uint16_t)op);
    assert_code(sr_ring_submit(ring, &request, NULL), SR_E_UNSUPPORTED);
    return true;
}

Test(ring_sockets, each_operation_works) {
    for (uint32_t op = SR_OP_TIMEOUT + 1; op < SR_OP_COUNT; op++) {
        cr_assert_not_null(table[op].works, "operation %u has no test", op);
        begin();
        if (!is_lacking(op)) {
            table[op].works();
        }
        end();
    }
}

Test(ring_sockets, each_operation_fails_as_documented) {
    for (uint32_t op = SR_OP_TIMEOUT + 1; op < SR_OP_COUNT; op++) {
        cr_assert_not_null(table[op].fails, "operation %u has no test", op);
        begin();
        if (!is_lacking(op)) {
            table[op].fails();
        }
        end();
    }
}

/* ---- more than one case each -------------------------------------------------------------------
 */

CASE(ring_sockets, a_full_send_goes_on_until_all_is_sent, begin, end) {
    static unsigned char bytes[BYTES];
    int small = 4608; /* less than the buffer */
    int fd = -1;
    assert_ok(sr_file_fd(ring, near, &fd));
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    unsigned char *sent = buffer_bytes(pool, buffer, BYTES);
    for (size_t i = 0; i < BYTES; i++) {
        sent[i] = (unsigned char)(i % 251);
    }
    sr_request request = transfer(SR_OP_SEND, BYTES);
    request.flags = SR_REQUEST_FULL;
    (void)submit(ring, &request);
    size_t got = 0;
    int64_t result = 0;
    while (got < BYTES || result == 0) {
        const sr_completion *completions = NULL;
        const int ended = sr_ring_wait(ring, 0, 0, NULL, &completions);
        cr_assert_geq(ended, 0);
        result = ended > 0 ? completions[0].result : result;
        const ssize_t count = recv(far, bytes + got, BYTES - got, MSG_DONTWAIT);
        got += count > 0 ? (size_t)count : 0;
    }
    for (size_t i = 0; i < BYTES; i++) {
        cr_assert_eq(bytes[i], i % 251, "byte %zu", i);
    }
    assert_code(result, BYTES);
    cr_assert_gt(ring_stats(ring).short_transfers_total, 0, "the socket took all at once");
}

CASE(ring_sockets, a_full_receive_goes_on_until_the_buffer_is_full_or_the_stream_ends, begin, end) {
    sr_request request = transfer(SR_OP_RECV, 10);
    request.flags = SR_REQUEST_FULL;
    (void)submit(ring, &request);
    for (int i = 0; i < 10; i++) {
        const sr_completion *completions = NULL;
        const char byte = (char)('0' + i);
        assert_code(sr_ring_wait(ring, 0, 0, NULL, &completions), 0);
        cr_assert_eq(write(far, &byte, 1), 1);
    }
    const sr_completion completion = wait_one(ring);
    assert_code(completion.result, 10);
    cr_assert_eq(memcmp(buffer_bytes(pool, buffer, 10), "0123456789", 10), 0);
    cr_assert_gt(ring_stats(ring).short_transfers_total, 0);
    (void)submit(ring, &request);
    cr_assert_eq(write(far, "end", 3), 3);
    (void)shutdown(far, SHUT_WR);
    assert_code(wait_one(ring).result, 3);
}

CASE(ring_sockets, a_datagram_tells_who_sent_it, begin, end) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct sockaddr_in other = address;
    socklen_t size = sizeof address;
    sr_slice slice = {buffer, 0, 3}; /* the message is longer */
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    other.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const int peer = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(bind(peer, (struct sockaddr *)&other, sizeof other), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    cr_assert_eq(getsockname(peer, (struct sockaddr *)&other, &size), 0);
    const sr_file file = file_of(fd);
    cr_assert_eq(sendto(peer, "12345", 5, 0, (struct sockaddr *)&address, sizeof address), 5);
    sr_request request = on(SR_OP_RECVMSG, file);
    request.slices = &slice;
    request.slice_count = 1;
    const sr_completion completion = run(ring, &request);
    assert_code(completion.result, 3);
    cr_assert_neq(completion.message->flags & MSG_TRUNC, 0);
    cr_assert_eq(completion.message->address_bytes, sizeof other);
    cr_assert_eq(memcmp(completion.message->address, &other, sizeof other), 0);
    /* And back, to an address. */
    request = on(SR_OP_SENDMSG, file);
    request.slices = &slice;
    request.slice_count = 1;
    request.address = (const struct sockaddr *)&other;
    request.address_bytes = sizeof other;
    assert_code(run(ring, &request).result, 3);
    char bytes[8] = {0};
    cr_assert_eq(recv(peer, bytes, sizeof bytes, 0), 3);
    cr_assert_str_eq(bytes, "123");
    (void)close(peer);
}

CASE(ring_sockets, descriptors_of_a_message_that_nobody_reads_are_closed_and_counted, begin, end) {
    sr_slice slice;
    const sr_request request = receive_message(&slice, 4);
    const sr_op op = submit(ring, &request);
    const uint32_t before = open_descriptors();
    send_descriptors(3);
    cr_assert_eq(sr_ring_flush(ring), 1); /* it is done by now, but not taken */
    assert_ok(sr_op_abandon(ring, op, NULL));
    const sr_completion *completions = NULL;
    while (ring_stats(ring).ops_in_flight > 0) {
        assert_code(sr_ring_wait(ring, 0, 0, NULL, &completions), 0);
    }
    cr_assert_eq(ring_stats(ring).descriptors_closed_total, 3);
    cr_assert_eq(open_descriptors(), before);
    buffer = buffer_take(pool); /* the other one was taken away */
}

CASE(ring_sockets, a_connection_that_nobody_takes_is_closed_and_counted, begin, end) {
    struct sockaddr_in address;
    const int fd = listener(&address);
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    const sr_request request = on(SR_OP_ACCEPT, file_of(fd));
    const sr_op op = submit(ring, &request);
    const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(client, (const struct sockaddr *)&address, sizeof address), 0);
    /* Connected is what the client knows; the listener may learn of it later. */
    struct pollfd arrived = {.fd = fd, .events = POLLIN};
    cr_assert_eq(poll(&arrived, 1, -1), 1);
    cr_assert_eq(sr_ring_flush(ring), 1);
    assert_ok(sr_op_abandon(ring, op, NULL));
    const sr_completion *completions = NULL;
    while (ring_stats(ring).ops_in_flight > 0) {
        assert_code(sr_ring_wait(ring, 0, 0, NULL, &completions), 0);
    }
    /* Where the cancel came before the accept (fallback, Linux 6.1) it is still to be accepted. */
    const int left = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    cr_assert_eq(ring_stats(ring).descriptors_closed_total, left >= 0 ? 0 : 1);
    (void)close(left);
    char byte = 0;
    cr_assert_leq(read(client, &byte, 1), 0, "the peer waits for ever");
    (void)close(client);
}

CASE(ring_sockets, closing_a_socket_ends_its_receive_and_the_peer_sees_the_end, begin, end) {
    int ends[2];
    sr_file fixed;
    char byte = 0;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_ok(sr_file_adopt(ring, ends[0], SR_FILE_FIXED, &fixed));
    sr_request request = on(SR_OP_RECV, fixed);
    request.buffer = buffer;
    request.length = 10;
    const sr_op receive = submit(ring, &request);
    cr_assert_eq(sr_ring_flush(ring), 1);
    request = on(SR_OP_CLOSE, fixed);
    const sr_op close_op = submit(ring, &request);
    sr_completion completion = wait_one(ring);
    cr_assert_eq(completion.op.bits, receive.bits, "the close waits for it");
    assert_code(completion.result, 0); /* end of stream, as after shutdown(2) */
    completion = wait_one(ring);
    cr_assert_eq(completion.op.bits, close_op.bits);
    assert_ok(completion.result);
    cr_assert_eq(read(ends[1], &byte, 1), 0);
    (void)close(ends[1]);
}

CASE(ring_sockets, a_socket_that_is_closed_at_rest_is_not_shut_down_for_those_who_share_it, begin,
     end) {
    int fd = -1;
    assert_ok(sr_file_fd(ring, near, &fd));
    const int shared = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    file_close(ring, near);
    cr_assert_eq(write(shared, "x", 1), 1);
    char byte = 0;
    cr_assert_eq(read(far, &byte, 1), 1);
    (void)close(shared);
}

CASE(ring_sockets, a_zero_copy_send_keeps_its_buffer_until_the_notice, begin, end) {
    struct sockaddr_in address;
    const int fd = listener(&address);
    int small = 65536;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    const sr_file file = socket_by_ring();
    sr_request request = bind_request(file, &address);
    request.op = SR_OP_CONNECT;
    assert_ok(run(ring, &request).result);
    const int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    cr_assert_geq(peer, 0);
    /* A peer that does not read: the socket takes some, then the sends wait. */
    uint32_t sent = 0;
    for (;;) {
        request = on(SR_OP_SEND_ZC, file);
        request.buffer = buffer;
        request.length = BYTES;
        request.op_flags = MSG_DONTWAIT;
        const sr_completion *completions = NULL;
        const sr_op op = submit(ring, &request);
        const int code = sr_ring_wait(ring, 1, 200 * MS, NULL, &completions);
        if (code == SR_E_TIMEOUT) {
            /* Sent, not let go of: lent as long as that lasts. */
            void *data = NULL;
            assert_code(sr_buffer_data(pool, buffer, 0, 1, SR_ACCESS_WRITE, &data), SR_E_LENT);
            assert_code(sr_pool_release(pool, buffer), SR_E_IN_FLIGHT);
            (void)close(peer); /* it resets the connection: everything comes back */
            const sr_completion completion = wait_one(ring);
            cr_assert_eq(completion.op.bits, op.bits);
            cr_assert_gt(completion.result, 0);
            break;
        }
        assert_code(code, 1);
        if (completions[0].result < 0) {
            assert_code(completions[0].result, -EAGAIN);
            (void)close(peer);
            break;
        }
        sent++;
        cr_assert_lt(sent, 10000);
    }
    (void)buffer_bytes(pool, buffer, BYTES);
    (void)close(fd);
}

/* The kernel has refused it, and nobody has seen that yet: what counts is that it was cancelled. */
CASE(ring_sockets, a_zero_copy_send_over_a_socket_that_cannot_is_cancelled_like_any_other, begin,
     end) {
    choke();
    const sr_request request = transfer(SR_OP_SEND_ZC, BYTES);
    can_wait(&request);
}

Test(ring_sockets, zero_copy_is_plain_sending_where_the_kernel_lacks_it) {
    failing_install();
    failing_mask_op(IORING_OP_SEND_ZC);
    begin();
    send_like(SR_OP_SEND_ZC);
    end();
    failing_remove();
}

CASE(ring_sockets, operations_without_a_file_take_none, begin, end) {
    /* NULL for all that is not theirs; the fields are ignored. */
    sr_request request = request_of(SR_OP_TIMEOUT);
    request.file.bits = 1;
    request.other.bits = 1;
    request.duration_ns = MS;
    assert_ok(run(ring, &request).result);
}
