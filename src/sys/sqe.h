/* SPDX-License-Identifier: MIT */
/*
 * Conversion to the kernel's SQE, the one place that fills its fields. Every function expects a
 * zeroed SQE (sri_queue_next_sqe()) and leaves user_data to the caller.
 */
#ifndef SAFERING_SYS_SQE_H
#define SAFERING_SYS_SQE_H

#include "sys/backend.h"
#include <fcntl.h>

/* What an SQE acts on: a fixed slot, else a real descriptor. */
struct sri_sqe_file {
    int fd;
    int32_t fixed_slot; /* -1: none */
};

static inline void sri_sqe_file_to_uapi(struct io_uring_sqe *sqe, struct sri_sqe_file file) {
    if (file.fixed_slot >= 0) {
        sqe->fd = file.fixed_slot + (int)SRI_QUEUE_LIBRARY_SLOTS;
        sqe->flags |= IOSQE_FIXED_FILE;
    } else {
        sqe->fd = file.fd;
    }
}

/* READ, WRITE, READV, WRITEV; @memory is bytes or an iovec array. */
static inline void sri_sqe_transfer_to_uapi(struct io_uring_sqe *sqe, uint8_t opcode,
                                            struct sri_sqe_file file, const void *memory,
                                            uint32_t length, uint64_t offset) {
    sqe->opcode = opcode;
    sri_sqe_file_to_uapi(sqe, file);
    sqe->addr = (uintptr_t)memory;
    sqe->len = length;
    sqe->off = offset;
}

static inline void sri_sqe_fsync_to_uapi(struct io_uring_sqe *sqe, struct sri_sqe_file file,
                                         uint32_t flags) {
    sqe->opcode = IORING_OP_FSYNC;
    sri_sqe_file_to_uapi(sqe, file);
    sqe->fsync_flags = flags;
}

static inline void sri_sqe_sync_range_to_uapi(struct io_uring_sqe *sqe, struct sri_sqe_file file,
                                              uint64_t offset, uint32_t length, uint32_t flags) {
    sqe->opcode = IORING_OP_SYNC_FILE_RANGE;
    sri_sqe_file_to_uapi(sqe, file);
    sqe->off = offset;
    sqe->len = length;
    sqe->sync_range_flags = flags;
}

static inline void sri_sqe_fallocate_to_uapi(struct io_uring_sqe *sqe, struct sri_sqe_file file,
                                             uint32_t mode, uint64_t offset, uint64_t length) {
    sqe->opcode = IORING_OP_FALLOCATE;
    sri_sqe_file_to_uapi(sqe, file);
    sqe->off = offset;
    sqe->addr = length;
    sqe->len = mode;
}

static inline void sri_sqe_ftruncate_to_uapi(struct io_uring_sqe *sqe, struct sri_sqe_file file,
                                             uint64_t length) {
    sqe->opcode = SRI_IORING_OP_FTRUNCATE;
    sri_sqe_file_to_uapi(sqe, file);
    sqe->off = length;
}

static inline void sri_sqe_fadvise_to_uapi(struct io_uring_sqe *sqe, struct sri_sqe_file file,
                                           uint64_t offset, uint32_t length, uint32_t advice) {
    sqe->opcode = IORING_OP_FADVISE;
    sri_sqe_file_to_uapi(sqe, file);
    sqe->off = offset;
    sqe->len = length;
    sqe->fadvise_advice = advice;
}

static inline void sri_sqe_madvise_to_uapi(struct io_uring_sqe *sqe, const void *memory,
                                           uint32_t length, uint32_t advice) {
    sqe->opcode = IORING_OP_MADVISE;
    sqe->fd = -1;
    sqe->addr = (uintptr_t)memory;
    sqe->len = length;
    sqe->fadvise_advice = advice;
}

static inline void sri_sqe_openat2_to_uapi(struct io_uring_sqe *sqe, int dirfd, const char *path,
                                           const struct open_how *how) {
    sqe->opcode = IORING_OP_OPENAT2;
    sqe->fd = dirfd;
    sqe->addr = (uintptr_t)path;
    sqe->len = sizeof *how;
    sqe->off = (uintptr_t)how;
}

static inline void sri_sqe_close_to_uapi(struct io_uring_sqe *sqe, int fd) {
    sqe->opcode = IORING_OP_CLOSE;
    sqe->fd = fd;
}

static inline void sri_sqe_statx_to_uapi(struct io_uring_sqe *sqe, int dirfd, const char *path,
                                         uint32_t flags, uint32_t mask, void *statx) {
    sqe->opcode = IORING_OP_STATX;
    sqe->fd = dirfd;
    sqe->addr = (uintptr_t)path;
    sqe->len = mask;
    sqe->off = (uintptr_t)statx;
    sqe->statx_flags = flags;
}

static inline void sri_sqe_unlinkat_to_uapi(struct io_uring_sqe *sqe, int dirfd, const char *path,
                                            uint32_t flags) {
    sqe->opcode = IORING_OP_UNLINKAT;
    sqe->fd = dirfd;
    sqe->addr = (uintptr_t)path;
    sqe->unlink_flags = flags;
}

static inline void sri_sqe_mkdirat_to_uapi(struct io_uring_sqe *sqe, int dirfd, const char *path,
                                           uint32_t mode) {
    sqe->opcode = IORING_OP_MKDIRAT;
    sqe->fd = dirfd;
    sqe->addr = (uintptr_t)path;
    sqe->len = mode;
}

/* RENAMEAT and LINKAT: rename_flags and hardlink_flags are one field. */
static inline void sri_sqe_two_paths_to_uapi(struct io_uring_sqe *sqe, uint8_t opcode, int dirfd,
                                             const char *path, int new_dirfd, const char *new_path,
                                             uint32_t flags) {
    sqe->opcode = opcode;
    sqe->fd = dirfd;
    sqe->addr = (uintptr_t)path;
    sqe->len = (uint32_t)new_dirfd;
    sqe->off = (uintptr_t)new_path;
    sqe->rename_flags = flags;
}

static inline void sri_sqe_symlinkat_to_uapi(struct io_uring_sqe *sqe, const char *target,
                                             int new_dirfd, const char *new_path) {
    sqe->opcode = IORING_OP_SYMLINKAT;
    sqe->fd = new_dirfd;
    sqe->addr = (uintptr_t)target;
    sqe->off = (uintptr_t)new_path;
}

static inline void sri_sqe_timeout_to_uapi(struct io_uring_sqe *sqe,
                                           const struct __kernel_timespec *duration) {
    sqe->opcode = IORING_OP_TIMEOUT;
    sqe->fd = -1;
    sqe->addr = (uintptr_t)duration;
    sqe->len = 1;
}

/* SPLICE, TEE. */
static inline void sri_sqe_splice_to_uapi(struct io_uring_sqe *sqe, uint8_t opcode,
                                          struct sri_sqe_file to, uint64_t to_offset, int from,
                                          uint64_t from_offset, uint32_t length, uint32_t flags) {
    sqe->opcode = opcode;
    sri_sqe_file_to_uapi(sqe, to);
    sqe->off = to_offset;
    sqe->splice_off_in = from_offset;
    sqe->splice_fd_in = from;
    sqe->len = length;
    sqe->splice_flags = flags;
}

static inline void sri_sqe_socket_to_uapi(struct io_uring_sqe *sqe, int domain, int type,
                                          int protocol) {
    sqe->opcode = IORING_OP_SOCKET;
    sqe->fd = domain;
    sqe->off = (uint64_t)(uint32_t)type;
    sqe->len = (uint32_t)protocol;
}

/* CONNECT, BIND. */
static inline void sri_sqe_address_to_uapi(struct io_uring_sqe *sqe, uint8_t opcode,
                                           struct sri_sqe_file file, const void *address,
                                           uint32_t address_bytes) {
    sqe->opcode = opcode;
    sri_sqe_file_to_uapi(sqe, file);
    sqe->addr = (uintptr_t)address;
    sqe->off = address_bytes;
}

static inline void sri_sqe_listen_to_uapi(struct io_uring_sqe *sqe, struct sri_sqe_file file,
                                          uint32_t backlog) {
    sqe->opcode = SRI_IORING_OP_LISTEN;
    sri_sqe_file_to_uapi(sqe, file);
    sqe->len = backlog;
}

/* @address and @address_bytes: the kernel writes the peer's there; NULL for none. */
static inline void sri_sqe_accept_to_uapi(struct io_uring_sqe *sqe, struct sri_sqe_file file,
                                          void *address, uint32_t *address_bytes, uint32_t flags,
                                          bool multishot) {
    sqe->opcode = IORING_OP_ACCEPT;
    sri_sqe_file_to_uapi(sqe, file);
    sqe->addr = (uintptr_t)address;
    sqe->addr2 = (uintptr_t)address_bytes;
    sqe->accept_flags = flags;
    sqe->ioprio = multishot ? IORING_ACCEPT_MULTISHOT : 0;
}

/* SEND, SEND_ZC, RECV; SENDMSG and RECVMSG with the msghdr as @memory. */
static inline void sri_sqe_message_to_uapi(struct io_uring_sqe *sqe, uint8_t opcode,
                                           struct sri_sqe_file file, const void *memory,
                                           uint32_t length, uint32_t flags) {
    sqe->opcode = opcode;
    sri_sqe_file_to_uapi(sqe, file);
    sqe->addr = (uintptr_t)memory;
    sqe->len = length;
    sqe->msg_flags = flags;
}

/* RECV into whatever buffer of @group is next. */
static inline void sri_sqe_receive_to_uapi(struct io_uring_sqe *sqe, struct sri_sqe_file file,
                                           uint16_t group, uint32_t flags, bool multishot) {
    sri_sqe_message_to_uapi(sqe, IORING_OP_RECV, file, NULL, 0, flags);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = group;
    sqe->ioprio = multishot ? IORING_RECV_MULTISHOT : 0;
}

static inline void sri_sqe_shutdown_to_uapi(struct io_uring_sqe *sqe, struct sri_sqe_file file,
                                            uint32_t how) {
    sqe->opcode = IORING_OP_SHUTDOWN;
    sri_sqe_file_to_uapi(sqe, file);
    sqe->len = how;
}

static inline void sri_sqe_poll_to_uapi(struct io_uring_sqe *sqe, struct sri_sqe_file file,
                                        uint32_t events, bool multishot) {
    sqe->opcode = IORING_OP_POLL_ADD;
    sri_sqe_file_to_uapi(sqe, file);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    events = (events << 16) | (events >> 16); /* io_uring_prep_poll_add(3) does the same */
#endif
    sqe->poll32_events = events;
    sqe->len = multishot ? IORING_POLL_ADD_MULTI : 0;
}

static inline void sri_sqe_waitid_to_uapi(struct io_uring_sqe *sqe, uint32_t id_type, uint32_t id,
                                          void *info, uint32_t options) {
    sqe->opcode = SRI_IORING_OP_WAITID;
    sqe->fd = (int)id;
    sqe->len = id_type;
    sqe->addr2 = (uintptr_t)info;
    sqe->file_index = options;
}

/* FUTEX_WAIT: @value is what it must hold. FUTEX_WAKE: how many to wake. */
static inline void sri_sqe_futex_to_uapi(struct io_uring_sqe *sqe, uint8_t opcode,
                                         const uint32_t *futex, uint64_t value, uint32_t mask,
                                         uint32_t flags) {
    sqe->opcode = opcode;
    sqe->fd = (int)(SRI_FUTEX2_SIZE_U32 | flags);
    sqe->addr = (uintptr_t)futex;
    sqe->addr2 = value;
    sqe->addr3 = mask;
}

static inline void sri_sqe_epoll_ctl_to_uapi(struct io_uring_sqe *sqe, int epoll_fd, int fd,
                                             uint32_t what, const void *event) {
    sqe->opcode = IORING_OP_EPOLL_CTL;
    sqe->fd = epoll_fd;
    sqe->off = (uint64_t)(uint32_t)fd;
    sqe->addr = (uintptr_t)event;
    sqe->len = what;
}

static inline void sri_sqe_cancel_to_uapi(struct io_uring_sqe *sqe, uint64_t user_data) {
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->fd = -1;
    sqe->addr = user_data;
}

#endif
