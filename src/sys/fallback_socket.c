/* SPDX-License-Identifier: MIT */
/*
 * Sockets. Whatever takes MSG_DONTWAIT is tried in the owner. accept(2) knows no such flag, and
 * setting O_NONBLOCK would change the listener for everybody who shares it: a worker accepts, once
 * there is a connection. If somebody else takes that one first, the worker waits for the next, and
 * cannot be cancelled meanwhile.
 */
#include "sys/fallback.h"

#include "sys/plain.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* Most parts of the rest of a message that are passed on at once; what follows them goes next. */
#define REST_PARTS_MAX 64u

/* IORING_ACCEPT_* of `ioprio`; liburing 2.3 has the first. */
#define ACCEPT_DONTWAIT   2u
#define ACCEPT_POLL_FIRST 4u

static bool is_send(uint8_t opcode) {
    return opcode == IORING_OP_SEND || opcode == IORING_OP_SENDMSG || opcode == IORING_OP_SEND_ZC ||
           opcode == IORING_OP_SENDMSG_ZC;
}

static bool is_message(uint8_t opcode) {
    return opcode == IORING_OP_SENDMSG || opcode == IORING_OP_RECVMSG ||
           opcode == IORING_OP_SENDMSG_ZC;
}

static bool is_multishot(const struct io_uring_sqe *sqe) {
    return (sqe->opcode == IORING_OP_RECV || sqe->opcode == IORING_OP_RECVMSG) &&
           (sqe->ioprio & IORING_RECV_MULTISHOT) != 0;
}

int32_t sri_fallback_socket_check(const struct sri_fallback *fallback,
                                  const struct io_uring_sqe *sqe) {
    unsigned int known = IORING_RECVSEND_POLL_FIRST;
    switch (sqe->opcode) {
    case IORING_OP_ACCEPT:
        known = IORING_ACCEPT_MULTISHOT | ACCEPT_DONTWAIT | ACCEPT_POLL_FIRST;
        if (sqe->file_index != 0 ||
            (sqe->accept_flags & ~(unsigned int)(SOCK_CLOEXEC | SOCK_NONBLOCK)) != 0) {
            return -EINVAL; /* fixed slots are filled by the ring alone */
        }
        break;
    case IORING_OP_RECV:
    case IORING_OP_RECVMSG:
        known |= IORING_RECV_MULTISHOT;
        if (is_multishot(sqe) && ((sqe->flags & IOSQE_BUFFER_SELECT) == 0 ||
                                  (sqe->msg_flags & (uint32_t)MSG_WAITALL) != 0)) {
            return -EINVAL;
        }
        break;
    case IORING_OP_SEND_ZC:
    case IORING_OP_SENDMSG_ZC:
        known |= IORING_RECVSEND_FIXED_BUF;
        if ((sqe->ioprio & IORING_RECVSEND_FIXED_BUF) != 0) {
            const int32_t code = sri_job_check_buffer(fallback, sqe);
            if (code < 0) {
                return code;
            }
        }
        break;
    default:
        break;
    }
    return (sqe->ioprio & ~known) != 0 ? -EINVAL : 0;
}

/* ---- messages ------------------------------------------------------------------------------- */

/* The message of an SQE; @part is its one part unless it has a header of its own. */
static struct msghdr message_of(const struct io_uring_sqe *sqe, struct iovec *part) {
    if (is_message(sqe->opcode)) {
        return *(const struct msghdr *)SRI_POINTER(sqe->addr);
    }
    *part = (struct iovec){SRI_POINTER(sqe->addr), sqe->len};
    struct msghdr message = {.msg_iov = part, .msg_iovlen = 1};
    if (is_send(sqe->opcode)) {
        message.msg_name = SRI_POINTER(sqe->addr2);
        message.msg_namelen = sqe->addr_len;
    }
    return message;
}

static size_t length_of(const struct msghdr *message) {
    size_t length = 0;
    for (size_t i = 0; i < message->msg_iovlen; i++) {
        length += message->msg_iov[i].iov_len;
    }
    return length;
}

/* Has @message begin after @skip bytes of what it is. */
static void skip_bytes(struct msghdr *message, size_t skip, struct iovec rest[REST_PARTS_MAX]) {
    size_t count = 0;
    for (size_t i = 0; i < message->msg_iovlen && count < REST_PARTS_MAX; i++) {
        const struct iovec *part = &message->msg_iov[i];
        const size_t here = skip < part->iov_len ? skip : part->iov_len;
        skip -= here;
        if (here < part->iov_len) {
            rest[count++] = (struct iovec){(char *)part->iov_base + here, part->iov_len - here};
        }
    }
    *message = (struct msghdr){
        .msg_name = message->msg_name,
        .msg_namelen = message->msg_namelen,
        .msg_iov = rest,
        .msg_iovlen = count,
    };
}

static int32_t send_once(const struct io_uring_sqe *sqe, const struct msghdr *message) {
    return SRI_SYSCALL(SYS_sendmsg, sqe->fd, message,
                       sqe->msg_flags | (uint32_t)(MSG_NOSIGNAL | MSG_DONTWAIT));
}

/* recvmsg(2) writes into the header that the caller gave, so that one is passed if it is whole. */
static int32_t receive_once(const struct io_uring_sqe *sqe, struct msghdr *message, bool is_whole) {
    struct msghdr *header =
        is_whole && is_message(sqe->opcode) ? (struct msghdr *)SRI_POINTER(sqe->addr) : message;
    return SRI_SYSCALL(SYS_recvmsg, sqe->fd, header, sqe->msg_flags | (uint32_t)MSG_DONTWAIT);
}

/* What an attempt that found nothing to do means. */
static int32_t blocked(const struct sri_job *job) {
    if ((job->sqe.msg_flags & (uint32_t)MSG_DONTWAIT) == 0) {
        return SRI_JOB_MUST_WAIT;
    }
    return job->done_bytes > 0 ? (int32_t)job->done_bytes : -EAGAIN;
}

/* One transfer, or with MSG_WAITALL as many as it takes. */
static int32_t try_message(struct sri_job *job) {
    const struct io_uring_sqe *sqe = &job->sqe;
    const bool sends = is_send(sqe->opcode);
    const bool wants_all = (sqe->msg_flags & (uint32_t)MSG_WAITALL) != 0 &&
                           (sends || (sqe->msg_flags & (uint32_t)MSG_PEEK) == 0);
    job->events = sends ? EPOLLOUT : EPOLLIN;
    for (;;) {
        struct iovec part;
        struct iovec rest[REST_PARTS_MAX];
        struct msghdr message = message_of(sqe, &part);
        const size_t length = length_of(&message);
        if (job->done_bytes > 0) {
            skip_bytes(&message, job->done_bytes, rest);
        }
        const int32_t result =
            sends ? send_once(sqe, &message) : receive_once(sqe, &message, job->done_bytes == 0);
        if (result == -EAGAIN) {
            return blocked(job);
        }
        if (result <= 0) {
            return job->done_bytes > 0 ? (int32_t)job->done_bytes : result;
        }
        job->done_bytes += (uint32_t)result;
        if (!wants_all || job->done_bytes >= length) {
            return (int32_t)job->done_bytes;
        }
    }
}

/* ---- selected buffers ----------------------------------------------------------------------- */

/* Fills the header that io_uring puts before each message of a multishot RECVMSG, and returns all
 * bytes of it. */
static int32_t receive_framed(const struct io_uring_sqe *sqe, const struct iovec *buffer) {
    const struct msghdr *wish = SRI_POINTER(sqe->addr);
    struct io_uring_recvmsg_out *out = buffer->iov_base;
    const size_t head = sizeof *out + wish->msg_namelen + wish->msg_controllen;
    if (buffer->iov_len < head) {
        return -EFAULT;
    }
    char *after = (char *)(out + 1);
    struct iovec payload = {(char *)buffer->iov_base + head, buffer->iov_len - head};
    struct msghdr message = {
        .msg_name = wish->msg_namelen > 0 ? after : NULL,
        .msg_namelen = wish->msg_namelen,
        .msg_iov = &payload,
        .msg_iovlen = 1,
        .msg_control = wish->msg_controllen > 0 ? after + wish->msg_namelen : NULL,
        .msg_controllen = wish->msg_controllen,
    };
    const int32_t result =
        SRI_SYSCALL(SYS_recvmsg, sqe->fd, &message, sqe->msg_flags | (uint32_t)MSG_DONTWAIT);
    if (result < 0) {
        return result;
    }
    *out = (struct io_uring_recvmsg_out){
        .namelen = message.msg_namelen,
        .controllen = (uint32_t)message.msg_controllen,
        .payloadlen = (uint32_t)result,
        .flags = (uint32_t)message.msg_flags,
    };
    return result > 0 ? result + (int32_t)head : 0;
}

static int32_t receive_selected(const struct io_uring_sqe *sqe, struct iovec *buffer) {
    if (sqe->opcode == IORING_OP_RECVMSG && is_multishot(sqe)) {
        return receive_framed(sqe, buffer);
    }
    if (sqe->opcode == IORING_OP_RECVMSG) {
        struct msghdr *header = SRI_POINTER(sqe->addr);
        const struct iovec *parts = header->msg_iov;
        const size_t count = header->msg_iovlen;
        if (count > 1) {
            return -EINVAL;
        }
        if (count == 1 && parts->iov_len > 0 && parts->iov_len < buffer->iov_len) {
            buffer->iov_len = parts->iov_len;
        }
        header->msg_iov = buffer;
        header->msg_iovlen = 1;
        const int32_t result = receive_once(sqe, header, true);
        header->msg_iov = (struct iovec *)(uintptr_t)parts;
        header->msg_iovlen = count;
        return result;
    }
    struct msghdr message = {.msg_iov = buffer, .msg_iovlen = 1};
    return receive_once(sqe, &message, false);
}

static int32_t try_selected(struct sri_fallback *fallback, struct sri_job *job) {
    const struct io_uring_sqe *sqe = &job->sqe;
    job->events = EPOLLIN;
    for (;;) {
        struct iovec buffer;
        struct sri_buffer_group *group = sri_buffer_pick(fallback, sqe, &buffer);
        if (group == NULL) {
            return -ENOBUFS;
        }
        const int32_t result = receive_selected(sqe, &buffer);
        if (result == -EAGAIN) {
            return blocked(job);
        }
        if (result <= 0) {
            return result; /* the buffer stays in its ring */
        }
        const uint32_t flags = sri_buffer_take(group);
        if (!is_multishot(sqe) || !sri_job_post_more(fallback, job, result, flags)) {
            job->flags = flags;
            return result;
        }
    }
}

/* ---- connections ---------------------------------------------------------------------------- */

static int32_t try_accept(struct sri_job *job) {
    const struct io_uring_sqe *sqe = &job->sqe;
    struct pollfd ready = {.fd = sqe->fd, .events = POLLIN};
    int32_t listens = 1;
    socklen_t size = sizeof listens;
    job->events = EPOLLIN;
    if (SRI_SYSCALL(SYS_getsockopt, sqe->fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0 ||
        listens == 0) {
        return sri_sqe_run(sqe); /* which says what is wrong with it, and does not wait */
    }
    if (SRI_SYSCALL(SYS_ppoll, &ready, 1L, &(struct timespec){0, 0}, NULL, (size_t)8) == 0) {
        return (sqe->ioprio & ACCEPT_DONTWAIT) != 0 ? -EAGAIN : SRI_JOB_MUST_WAIT;
    }
    return SRI_JOB_MAY_BLOCK;
}

int32_t sri_socket_accepted(struct sri_fallback *fallback, struct sri_job *job) {
    const bool goes_on = (job->sqe.ioprio & IORING_ACCEPT_MULTISHOT) != 0;
    job->is_ready = false;
    if (job->result == -EAGAIN && (job->sqe.ioprio & ACCEPT_DONTWAIT) == 0) {
        return SRI_JOB_MUST_WAIT; /* a listener with O_NONBLOCK, and somebody was faster */
    }
    if (goes_on && job->result >= 0 && sri_job_post_more(fallback, job, job->result, 0)) {
        return try_accept(job);
    }
    return job->result;
}

/* connect(2) has no flag either, but a socket that is not connected yet has no other users: it has
 * O_NONBLOCK for the moment of the call. */
static int32_t try_connect(struct sri_job *job) {
    const struct io_uring_sqe *sqe = &job->sqe;
    int32_t error = 0;
    socklen_t size = sizeof error;
    if (job->is_ready) {
        const int32_t code =
            SRI_SYSCALL(SYS_getsockopt, sqe->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        return code < 0 ? code : -error;
    }
    const int flags = fcntl(sqe->fd, F_GETFL);
    if (flags < 0) {
        return -errno;
    }
    (void)fcntl(sqe->fd, F_SETFL, flags | O_NONBLOCK); /* if it fails we block, and that is all */
    const int32_t result = sri_sqe_run(sqe);
    (void)fcntl(sqe->fd, F_SETFL, flags);
    job->events = EPOLLOUT;
    if (result == -EAGAIN) {
        return SRI_JOB_MAY_BLOCK; /* AF_UNIX with a full backlog: nothing says when there is room */
    }
    return result == -EINPROGRESS ? SRI_JOB_MUST_WAIT : result;
}

int32_t sri_socket_try(struct sri_fallback *fallback, struct sri_job *job) {
    switch (job->sqe.opcode) {
    case IORING_OP_ACCEPT:
        return try_accept(job);
    case IORING_OP_CONNECT:
        return try_connect(job);
    default:
        return (job->sqe.flags & IOSQE_BUFFER_SELECT) != 0 ? try_selected(fallback, job)
                                                           : try_message(job);
    }
}
