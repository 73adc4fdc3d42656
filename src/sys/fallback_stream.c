/* SPDX-License-Identifier: MIT */
/* Reads and writes of what may have nothing to give or no room now: pipes, sockets, terminals,
 * eventfds. */
#include "sys/fallback.h"

#include "sys/plain.h"
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

static bool is_read(uint8_t opcode) {
    return opcode == IORING_OP_READ || opcode == IORING_OP_READV || opcode == IORING_OP_READ_FIXED;
}

/* As read(2) and write(2) on the socket, without blocking and without SIGPIPE, on every kernel. */
static int32_t transfer_socket(const struct io_uring_sqe *sqe) {
    const bool is_vector = sqe->opcode == IORING_OP_READV || sqe->opcode == IORING_OP_WRITEV;
    struct iovec bytes = {(void *)(uintptr_t)sqe->addr, sqe->len};
    const struct msghdr message = {
        .msg_iov = is_vector ? (struct iovec *)(uintptr_t)sqe->addr : &bytes,
        .msg_iovlen = is_vector ? sqe->len : 1,
    };
    size_t length = 0;
    for (size_t i = 0; i < message.msg_iovlen; i++) {
        length += message.msg_iov[i].iov_len;
    }
    if (!is_read(sqe->opcode)) {
        return SRI_SYSCALL(SYS_sendmsg, sqe->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    /* read(2) of nothing does not wait, recvmsg(2) does. */
    return length > 0 ? SRI_SYSCALL(SYS_recvmsg, sqe->fd, &message, MSG_DONTWAIT) : 0;
}

/* Writes to a pipe so that no SIGPIPE is left behind if nobody reads it. One that was pending
 * before stays. */
static int32_t write_pipe(const struct io_uring_sqe *sqe) {
    static const struct timespec at_once = {0, 0};
    sigset_t broken_pipe;
    sigset_t before;
    sigset_t pending;
    (void)sigemptyset(&broken_pipe);
    (void)sigaddset(&broken_pipe, SIGPIPE);
    (void)sigpending(&pending);
    (void)pthread_sigmask(SIG_BLOCK, &broken_pipe, &before);
    const int32_t result = sri_sqe_transfer(sqe, RWF_NOWAIT);
    if (result == -EPIPE && sigismember(&pending, SIGPIPE) == 0) {
        /* The signal is the thread's own, so it is there already, unless it is ignored. */
        (void)sigtimedwait(&broken_pipe, NULL, &at_once);
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}

static int32_t transfer(const struct io_uring_sqe *sqe, uint32_t mode) {
    if (S_ISSOCK(mode)) {
        return transfer_socket(sqe);
    }
    return S_ISFIFO(mode) && !is_read(sqe->opcode) ? write_pipe(sqe)
                                                   : sri_sqe_transfer(sqe, RWF_NOWAIT);
}

/* The same with a buffer that the SQE leaves to us to choose; @may_block where there is something
 * to be had and the file knows no other way. */
static int32_t transfer_selected(struct sri_fallback *fallback, struct sri_job *job,
                                 bool may_block) {
    struct io_uring_sqe sqe = job->sqe;
    struct iovec buffer;
    struct sri_buffer_group *group = sri_buffer_pick(fallback, &sqe, &buffer);
    if (group == NULL) {
        return -ENOBUFS;
    }
    sqe.addr = (uintptr_t)buffer.iov_base;
    sqe.len = (uint32_t)buffer.iov_len;
    sqe.buf_group = 0;
    const int32_t result = may_block ? sri_sqe_transfer(&sqe, 0) : transfer(&sqe, job->mode);
    if (result > 0) {
        job->flags = sri_buffer_take(group);
    }
    return result;
}

int32_t sri_stream_try(struct sri_fallback *fallback, struct sri_job *job) {
    const struct io_uring_sqe *sqe = &job->sqe;
    const bool selects = (sqe->flags & IOSQE_BUFFER_SELECT) != 0;
    if (job->mode == 0) {
        struct stat status;
        if (fstat(sqe->fd, &status) != 0) {
            return -errno;
        }
        job->mode = status.st_mode;
    }
    if (S_ISREG(job->mode) || S_ISDIR(job->mode) || S_ISBLK(job->mode)) {
        return selects ? -EOPNOTSUPP : SRI_JOB_MAY_BLOCK; /* workers choose no buffers */
    }
    job->events = is_read(sqe->opcode) ? EPOLLIN : EPOLLOUT;
    const int32_t result =
        selects ? transfer_selected(fallback, job, false) : transfer(sqe, job->mode);
    if (result == -EAGAIN && (sqe->rw_flags & RWF_NOWAIT) == 0) {
        return SRI_JOB_MUST_WAIT;
    }
    if (result == -EOPNOTSUPP && selects) {
        /* Pipes of Linux 6.1, for example. Workers choose no buffers, so the owner reads. */
        return job->is_ready ? transfer_selected(fallback, job, true) : SRI_JOB_MUST_WAIT;
    }
    if (result == -EOPNOTSUPP) {
        /* The file knows no RWF_NOWAIT: a worker transfers once it is ready. If another process is
         * faster then, the worker waits, and the job cannot be cancelled. */
        return job->is_ready ? SRI_JOB_MAY_BLOCK : SRI_JOB_MUST_WAIT;
    }
    return result;
}
