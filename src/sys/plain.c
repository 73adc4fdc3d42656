/* SPDX-License-Identifier: MIT */
#include "sys/plain.h"

#include <sys/socket.h>
#include <sys/uio.h>

/* Offsets and lengths go to the kernel in one register each. */
_Static_assert(sizeof(long) == 8, "64-bit system calls");

static bool reads(uint8_t opcode) {
    return opcode == IORING_OP_READ || opcode == IORING_OP_READV || opcode == IORING_OP_READ_FIXED;
}

static bool is_vector(uint8_t opcode) {
    return opcode == IORING_OP_READV || opcode == IORING_OP_WRITEV;
}

int32_t sri_sqe_transfer(const struct io_uring_sqe *sqe, int flags) {
    const struct iovec bytes = {SRI_POINTER(sqe->addr), sqe->len};
    const struct iovec *vector = is_vector(sqe->opcode) ? SRI_POINTER(sqe->addr) : &bytes;
    const long count = is_vector(sqe->opcode) ? (long)sqe->len : 1;
    const long number = reads(sqe->opcode) ? SYS_preadv2 : SYS_pwritev2;
    const int all_flags = flags | (int)sqe->rw_flags;
    const int32_t result =
        SRI_SYSCALL(number, sqe->fd, vector, count, (long)sqe->off, 0, all_flags);
    /* io_uring ignores the offset for what has no position. -1: the file's own. */
    return result == -ESPIPE ? SRI_SYSCALL(number, sqe->fd, vector, count, -1L, 0, all_flags)
                             : result;
}

static int32_t run_file(const struct io_uring_sqe *sqe) {
    switch (sqe->opcode) {
    case IORING_OP_FSYNC:
        return SRI_SYSCALL(
            (sqe->fsync_flags & IORING_FSYNC_DATASYNC) != 0 ? SYS_fdatasync : SYS_fsync, sqe->fd);
    case IORING_OP_SYNC_FILE_RANGE:
        return SRI_SYSCALL(SYS_sync_file_range, sqe->fd, sqe->off, (uint64_t)sqe->len,
                           sqe->sync_range_flags);
    case IORING_OP_FALLOCATE:
        return SRI_SYSCALL(SYS_fallocate, sqe->fd, sqe->len, sqe->off, sqe->addr);
    case SRI_IORING_OP_FTRUNCATE:
        return SRI_SYSCALL(SYS_ftruncate, sqe->fd, sqe->off);
    case IORING_OP_FADVISE:
        return SRI_SYSCALL(SYS_fadvise64, sqe->fd, sqe->off, (uint64_t)sqe->len,
                           sqe->fadvise_advice);
    case IORING_OP_MADVISE:
        return SRI_SYSCALL(SYS_madvise, SRI_POINTER(sqe->addr), (uint64_t)sqe->len,
                           sqe->fadvise_advice);
    case IORING_OP_CLOSE:
        return SRI_SYSCALL(SYS_close, sqe->fd);
    default: /* EPOLL_CTL */
        return SRI_SYSCALL(SYS_epoll_ctl, sqe->fd, sqe->len, (int)sqe->off, SRI_POINTER(sqe->addr));
    }
}

static int32_t run_path(const struct io_uring_sqe *sqe) {
    const char *path = SRI_POINTER(sqe->addr);
    switch (sqe->opcode) {
    case IORING_OP_OPENAT:
        return SRI_SYSCALL(SYS_openat, sqe->fd, path, sqe->open_flags, sqe->len);
    case IORING_OP_OPENAT2:
        return SRI_SYSCALL(SYS_openat2, sqe->fd, path, SRI_POINTER(sqe->off), (uint64_t)sqe->len);
    case IORING_OP_STATX:
        return SRI_SYSCALL(SYS_statx, sqe->fd, path, sqe->statx_flags, sqe->len,
                           SRI_POINTER(sqe->off));
    case IORING_OP_UNLINKAT:
        return SRI_SYSCALL(SYS_unlinkat, sqe->fd, path, sqe->unlink_flags);
    case IORING_OP_RENAMEAT:
        return SRI_SYSCALL(SYS_renameat2, sqe->fd, path, (int)sqe->len, SRI_POINTER(sqe->off),
                           sqe->rename_flags);
    case IORING_OP_MKDIRAT:
        return SRI_SYSCALL(SYS_mkdirat, sqe->fd, path, sqe->len);
    case IORING_OP_LINKAT:
        return SRI_SYSCALL(SYS_linkat, sqe->fd, path, (int)sqe->len, SRI_POINTER(sqe->off),
                           sqe->hardlink_flags);
    default: /* SYMLINKAT */
        return SRI_SYSCALL(SYS_symlinkat, path, sqe->fd, SRI_POINTER(sqe->off));
    }
}

static int32_t run_pipe(const struct io_uring_sqe *sqe) {
    const unsigned int flags = sqe->splice_flags & ~SPLICE_F_FD_IN_FIXED;
    int64_t offset_in = (int64_t)sqe->splice_off_in;
    int64_t offset_out = (int64_t)sqe->off;
    if (sqe->opcode == IORING_OP_TEE) {
        return SRI_SYSCALL(SYS_tee, sqe->splice_fd_in, sqe->fd, (uint64_t)sqe->len, flags);
    }
    return SRI_SYSCALL(SYS_splice, sqe->splice_fd_in, offset_in == -1 ? NULL : &offset_in, sqe->fd,
                       offset_out == -1 ? NULL : &offset_out, (uint64_t)sqe->len, flags);
}

static int32_t run_socket(const struct io_uring_sqe *sqe) {
    switch (sqe->opcode) {
    case IORING_OP_SOCKET:
        return SRI_SYSCALL(SYS_socket, sqe->fd, (int)sqe->off, (int)sqe->len);
    case SRI_IORING_OP_BIND:
        return SRI_SYSCALL(SYS_bind, sqe->fd, SRI_POINTER(sqe->addr), (uint32_t)sqe->off);
    case SRI_IORING_OP_LISTEN:
        return SRI_SYSCALL(SYS_listen, sqe->fd, (int)sqe->len);
    case IORING_OP_CONNECT:
        return SRI_SYSCALL(SYS_connect, sqe->fd, SRI_POINTER(sqe->addr), (uint32_t)sqe->off);
    case IORING_OP_ACCEPT:
        return SRI_SYSCALL(SYS_accept4, sqe->fd, SRI_POINTER(sqe->addr), SRI_POINTER(sqe->off),
                           sqe->accept_flags);
    case IORING_OP_SHUTDOWN:
        return SRI_SYSCALL(SYS_shutdown, sqe->fd, (int)sqe->len);
    case IORING_OP_SEND:
        return SRI_SYSCALL(SYS_sendto, sqe->fd, SRI_POINTER(sqe->addr), (uint64_t)sqe->len,
                           sqe->msg_flags | (uint32_t)MSG_NOSIGNAL, NULL, 0);
    case IORING_OP_RECV:
        return SRI_SYSCALL(SYS_recvfrom, sqe->fd, SRI_POINTER(sqe->addr), (uint64_t)sqe->len,
                           sqe->msg_flags, NULL, NULL);
    case IORING_OP_SENDMSG:
        return SRI_SYSCALL(SYS_sendmsg, sqe->fd, SRI_POINTER(sqe->addr),
                           sqe->msg_flags | (uint32_t)MSG_NOSIGNAL);
    default: /* RECVMSG */
        return SRI_SYSCALL(SYS_recvmsg, sqe->fd, SRI_POINTER(sqe->addr), sqe->msg_flags);
    }
}

int32_t sri_sqe_run(const struct io_uring_sqe *sqe) {
    switch (sqe->opcode) {
    case IORING_OP_NOP:
        return 0;
    case IORING_OP_READ:
    case IORING_OP_WRITE:
    case IORING_OP_READ_FIXED:
    case IORING_OP_WRITE_FIXED:
    case IORING_OP_READV:
    case IORING_OP_WRITEV:
        return sri_sqe_transfer(sqe, 0);
    case IORING_OP_FSYNC:
    case IORING_OP_SYNC_FILE_RANGE:
    case IORING_OP_FALLOCATE:
    case SRI_IORING_OP_FTRUNCATE:
    case IORING_OP_FADVISE:
    case IORING_OP_MADVISE:
    case IORING_OP_CLOSE:
    case IORING_OP_EPOLL_CTL:
        return run_file(sqe);
    case IORING_OP_OPENAT:
    case IORING_OP_OPENAT2:
    case IORING_OP_STATX:
    case IORING_OP_UNLINKAT:
    case IORING_OP_RENAMEAT:
    case IORING_OP_MKDIRAT:
    case IORING_OP_LINKAT:
    case IORING_OP_SYMLINKAT:
        return run_path(sqe);
    case IORING_OP_SPLICE:
    case IORING_OP_TEE:
        return run_pipe(sqe);
    case IORING_OP_SOCKET:
    case SRI_IORING_OP_BIND:
    case SRI_IORING_OP_LISTEN:
    case IORING_OP_CONNECT:
    case IORING_OP_ACCEPT:
    case IORING_OP_SHUTDOWN:
    case IORING_OP_SEND:
    case IORING_OP_RECV:
    case IORING_OP_SENDMSG:
    case IORING_OP_RECVMSG:
        return run_socket(sqe);
    case SRI_IORING_OP_WAITID:
        return SRI_SYSCALL(SYS_waitid, sqe->len, sqe->fd, SRI_POINTER(sqe->off),
                           (int)sqe->file_index, NULL);
    default:
        return -EINVAL;
    }
}

bool sri_sqe_gives_descriptor(const struct io_uring_sqe *sqe) {
    return sqe->opcode == IORING_OP_OPENAT || sqe->opcode == IORING_OP_OPENAT2 ||
           sqe->opcode == IORING_OP_ACCEPT || sqe->opcode == IORING_OP_SOCKET;
}
