/* SPDX-License-Identifier: MIT */
/* From an operation to its SQE: the first time, and again for the rest of a transfer. */
#include "ring/request.h"
#include "ring/socket.h"

static int dirfd_of(const struct sri_file *file) {
    return file != NULL ? file->fd : AT_FDCWD; /* a fixed slot as dirfd is EBADF */
}

static void path_op_to_uapi(struct sri_op *op, const struct sri_plan *plan,
                            struct io_uring_sqe *sqe) {
    const sr_request *request = plan->request;
    struct sri_op_extra *extra = op->cold->extra;
    const int dirfd = dirfd_of(plan->file);
    const int new_dirfd = dirfd_of(plan->second);
    switch (request->op) {
    case SR_OP_OPENAT: {
        const bool creates = (request->op_flags & (O_CREAT | __O_TMPFILE)) != 0;
        extra->how.flags = request->op_flags | O_CLOEXEC;
        extra->how.mode = creates ? request->mode : 0;
        extra->how.resolve = request->resolve;
        sri_sqe_openat2_to_uapi(sqe, dirfd, extra->path, &extra->how);
        break;
    }
    case SR_OP_STATX:
        sri_sqe_statx_to_uapi(sqe, dirfd, extra->path, request->op_flags, request->mask,
                              &extra->statx);
        break;
    case SR_OP_UNLINKAT:
        sri_sqe_unlinkat_to_uapi(sqe, dirfd, extra->path, request->op_flags);
        break;
    case SR_OP_MKDIRAT:
        sri_sqe_mkdirat_to_uapi(sqe, dirfd, extra->path, request->mode);
        break;
    case SR_OP_SYMLINKAT:
        sri_sqe_symlinkat_to_uapi(sqe, extra->path, new_dirfd, extra->new_path);
        break;
    default: /* RENAMEAT, LINKAT */
        sri_sqe_two_paths_to_uapi(sqe, plan->uapi, dirfd, extra->path, new_dirfd, extra->new_path,
                                  request->op_flags);
        break;
    }
}

static void vector_to_uapi(struct sri_op *op, const struct sri_plan *plan,
                           struct io_uring_sqe *sqe) {
    struct sri_op_vector *vector = op->cold->vector;
    for (uint32_t i = 0; i < vector->count; i++) {
        vector->rest[i] = vector->slices[i].iov;
    }
    sri_sqe_transfer_to_uapi(sqe, sri_opcode_specs[op->opcode].uapi, sri_file_for_sqe(plan->file),
                             vector->rest, vector->count, plan->request->offset);
}

static void file_op_to_uapi(const struct sri_plan *plan, struct io_uring_sqe *sqe) {
    const sr_request *request = plan->request;
    const struct sri_sqe_file file = sri_file_for_sqe(plan->file);
    switch (request->op) {
    case SR_OP_FSYNC:
        sri_sqe_fsync_to_uapi(sqe, file, 0);
        break;
    case SR_OP_FDATASYNC:
        sri_sqe_fsync_to_uapi(sqe, file, IORING_FSYNC_DATASYNC);
        break;
    case SR_OP_SYNC_RANGE:
        sri_sqe_sync_range_to_uapi(sqe, file, request->offset, (uint32_t)request->length,
                                   request->op_flags);
        break;
    case SR_OP_FALLOCATE:
        sri_sqe_fallocate_to_uapi(sqe, file, request->mode, request->offset, request->length);
        break;
    case SR_OP_FTRUNCATE:
        sri_sqe_ftruncate_to_uapi(sqe, file, request->length);
        break;
    default: /* FADVISE */
        sri_sqe_fadvise_to_uapi(sqe, file, request->offset, (uint32_t)request->length,
                                (uint32_t)request->advice);
        break;
    }
}

/* Operations that are about no file, or about two. */
static void other_op_to_uapi(struct sri_op *op, const struct sri_plan *plan,
                             struct io_uring_sqe *sqe) {
    const sr_request *request = plan->request;
    struct sri_op_cold *cold = op->cold;
    switch (request->op) {
    case SR_OP_MADVISE:
        sri_sqe_madvise_to_uapi(sqe, plan->memory, (uint32_t)request->length,
                                (uint32_t)request->advice);
        break;
    case SR_OP_TIMEOUT:
        cold->duration = (struct __kernel_timespec){(int64_t)(request->duration_ns / 1000000000u),
                                                    (int64_t)(request->duration_ns % 1000000000u)};
        sri_sqe_timeout_to_uapi(sqe, &cold->duration);
        break;
    case SR_OP_SPLICE:
        sri_sqe_splice_to_uapi(sqe, plan->uapi, sri_file_for_sqe(plan->file), request->offset,
                               plan->second->fd, request->other_offset, (uint32_t)request->length,
                               request->op_flags);
        break;
    case SR_OP_TEE:
        sri_sqe_splice_to_uapi(sqe, plan->uapi, sri_file_for_sqe(plan->file), 0, plan->second->fd,
                               0, (uint32_t)request->length, request->op_flags);
        break;
    case SR_OP_WAITID:
        sri_sqe_waitid_to_uapi(sqe, request->mask, (uint32_t)request->length, &cold->child->info,
                               request->op_flags);
        break;
    case SR_OP_FUTEX_WAIT:
    case SR_OP_FUTEX_WAKE:
        sri_sqe_futex_to_uapi(sqe, plan->uapi, request->futex,
                              request->op == SR_OP_FUTEX_WAIT ? request->offset : request->length,
                              request->mask != 0 ? request->mask : UINT32_MAX, request->op_flags);
        break;
    case SR_OP_EPOLL_CTL:
        cold->event = (struct epoll_event){request->mask, {.u64 = request->offset}};
        sri_sqe_epoll_ctl_to_uapi(sqe, plan->file->fd, plan->second->fd, request->op_flags,
                                  &cold->event);
        break;
    default:
        SR_CHECK(request->op == SR_OP_NOP);
        sqe->opcode = IORING_OP_NOP;
        break;
    }
}

static bool is_about_sockets(uint16_t opcode) {
    return opcode >= SR_OP_SOCKET && opcode <= SR_OP_POLL;
}

static bool is_about_one_file(uint16_t opcode) {
    return (opcode >= SR_OP_FSYNC && opcode <= SR_OP_FTRUNCATE) || opcode == SR_OP_FADVISE;
}

void sri_prepare_substitute(const sr_ring *ring, struct sri_op *op, const struct sri_plan *plan,
                            struct io_uring_sqe *sqe) {
    SR_CHECK((plan->needs & SRI_MAY_SUBSTITUTE) != 0 && (plan->needs & SRI_NEEDS_FILE) != 0);
    if (is_about_sockets(plan->request->op)) {
        sri_socket_prepare(ring, op, plan, sqe);
    } else {
        file_op_to_uapi(plan, sqe);
    }
    sqe->fd = plan->file->fd; /* a fixed slot means nothing to a system call */
    sqe->flags = 0;
}

void sri_prepare(const sr_ring *ring, struct sri_op *op, const struct sri_plan *plan,
                 struct io_uring_sqe *sqe) {
    const sr_request *request = plan->request;
    if (SRI_UNLIKELY(plan->substitute)) {
        sqe->opcode = IORING_OP_NOP;
    } else if (request->op == SR_OP_READ || request->op == SR_OP_WRITE) {
        sri_prepare_transfer(ring, op, plan->file, plan->memory, (uint32_t)request->length,
                             request->offset, sqe);
    } else if (is_about_sockets(request->op)) {
        sri_socket_prepare(ring, op, plan, sqe);
    } else if ((plan->needs & SRI_NEEDS_SLICES) != 0) {
        vector_to_uapi(op, plan, sqe);
    } else if ((plan->needs & SRI_NEEDS_PATHS) != 0) {
        path_op_to_uapi(op, plan, sqe);
    } else if (is_about_one_file(request->op)) {
        file_op_to_uapi(plan, sqe);
    } else {
        other_op_to_uapi(op, plan, sqe);
    }
    if ((request->flags & SR_REQUEST_ASYNC) != 0) {
        sqe->flags |= IOSQE_ASYNC;
    }
    sqe->user_data = op->handle;
}

/* Where the rest of a transfer goes on. */
static uint64_t offset_of_rest(const struct sri_op_cold *cold) {
    return cold->offset == SR_OFFSET_CURRENT ? cold->offset : cold->offset + cold->done;
}

static void transfer_rest(const sr_ring *ring, const struct sri_op *op, struct io_uring_sqe *sqe) {
    const struct sri_op_cold *cold = op->cold;
    const char *memory = ring->pools[op->pool].pool->slots[op->loan.slot].kernel_memory;
    sri_prepare_transfer(ring, op, &ring->files.list[op->file],
                         memory + op->loan.begin + cold->done,
                         (uint32_t)(cold->length - cold->done), offset_of_rest(cold), sqe);
}

static void vector_rest(sr_ring *ring, struct sri_op *op, struct io_uring_sqe *sqe) {
    const struct sri_op_cold *cold = op->cold;
    struct sri_op_vector *vector = cold->vector;
    uint64_t skip = cold->done;
    uint32_t rest_count = 0;
    for (uint32_t i = 0; i < vector->count; i++) {
        const struct iovec *iov = &vector->slices[i].iov;
        const uint64_t here = skip < iov->iov_len ? skip : iov->iov_len;
        skip -= here;
        if (here < iov->iov_len) {
            vector->rest[rest_count++] =
                (struct iovec){(char *)iov->iov_base + here, iov->iov_len - here};
        }
    }
    sri_sqe_transfer_to_uapi(sqe, sri_opcode_specs[op->opcode].uapi,
                             sri_file_for_sqe(&ring->files.list[op->file]), vector->rest,
                             rest_count, offset_of_rest(cold));
}

static void message_rest(const sr_ring *ring, const struct sri_op *op, struct io_uring_sqe *sqe) {
    const struct sri_op_cold *cold = op->cold;
    const char *memory = ring->pools[op->pool].pool->slots[op->loan.slot].kernel_memory;
    const uint8_t uapi = op->opcode == SR_OP_RECV ? IORING_OP_RECV : IORING_OP_SEND;
    sri_sqe_message_to_uapi(sqe, uapi, sri_file_for_sqe(&ring->files.list[op->file]),
                            memory + op->loan.begin + cold->done,
                            (uint32_t)(cold->length - cold->done), cold->op_flags);
}

void sri_op_send(sr_ring *ring, struct sri_op *op) {
    struct io_uring_sqe *sqe = sri_queue_next_sqe(&ring->queue);
    switch (op->opcode) {
    case SR_OP_READ:
    case SR_OP_WRITE:
        transfer_rest(ring, op, sqe);
        break;
    case SR_OP_READV:
    case SR_OP_WRITEV:
        vector_rest(ring, op, sqe);
        break;
    case SR_OP_CLOSE:
        sri_sqe_close_to_uapi(sqe, ring->files.list[op->file].fd);
        break;
    default:
        if ((op->flags & SRI_OP_ARMED) != 0) {
            sri_armed_send(ring, op, sqe);
        } else {
            SR_CHECK(op->opcode == SR_OP_SEND || op->opcode == SR_OP_RECV ||
                     op->opcode == SR_OP_SEND_ZC);
            message_rest(ring, op, sqe);
        }
        break;
    }
    if ((op->flags & SRI_OP_ASYNC) != 0) {
        sqe->flags |= IOSQE_ASYNC;
    }
    sqe->user_data = op->handle;
}
