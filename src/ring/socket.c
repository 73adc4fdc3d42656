/* SPDX-License-Identifier: MIT */
/*
 * Socket operations: their addresses and control data, which the kernel reads and writes in the
 * operation's own memory, and what they give back.
 */
#include "ring/socket.h"

#include "ring/buffer_ring.h"
#include "sys/memory.h"

#include <errno.h>

/* ---- requests --------------------------------------------------------------------------------
 */

static int check_address(const sr_request *request, bool optional) {
    if (request->address == NULL && request->address_bytes == 0) {
        return optional ? 0 : -EINVAL;
    }
    if (request->address == NULL) {
        return -EINVAL;
    }
    return request->address_bytes == 0 || request->address_bytes > sizeof(struct sockaddr_storage)
               ? SR_E_BOUNDS
               : 0;
}

static int check_message(const sr_request *request) {
    const bool sends = request->op == SR_OP_SENDMSG;
    if (request->slices == NULL || request->slice_count == 0 ||
        request->slice_count > SR_SLICES_MAX) {
        return -EINVAL;
    }
    if (request->descriptor_count > SR_DESCRIPTORS_MAX) {
        return SR_E_BOUNDS;
    }
    if (sends && request->descriptor_count > 0 && request->descriptors == NULL) {
        return -EINVAL;
    }
    return sends ? check_address(request, true) : 0;
}

static int check_receive(const sr_ring *ring, const sr_request *request) {
    if (request->buffer_ring == NULL) {
        return (request->flags & SR_REQUEST_MULTISHOT) != 0 ? -EINVAL : 0;
    }
    if ((request->flags & SR_REQUEST_FULL) != 0) {
        return -EINVAL; /* what would be full? */
    }
    return sri_buffer_ring_check(ring, request->buffer_ring);
}

int sri_socket_check(const sr_ring *ring, const sr_request *request) {
    switch (request->op) {
    case SR_OP_BIND:
    case SR_OP_CONNECT:
        return check_address(request, false);
    case SR_OP_LISTEN:
        return request->length > INT32_MAX ? SR_E_BOUNDS : 0;
    case SR_OP_SENDMSG:
    case SR_OP_RECVMSG:
        return check_message(request);
    case SR_OP_RECV:
        return check_receive(ring, request);
    case SR_OP_SHUTDOWN:
        return request->op_flags > SHUT_RDWR ? -EINVAL : 0;
    default:
        return 0;
    }
}

static void write_descriptors(struct sri_op_message *message, const sr_request *request) {
    struct cmsghdr *control = CMSG_FIRSTHDR(&message->header);
    const size_t bytes = request->descriptor_count * sizeof(int);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(bytes);
    memcpy(CMSG_DATA(control), request->descriptors, bytes);
}

int sri_socket_equip(struct sri_op *op, const sr_request *request) {
    const bool has_control = request->op == SR_OP_SENDMSG || request->op == SR_OP_RECVMSG;
    const uint32_t descriptor_count = has_control ? request->descriptor_count : 0;
    const size_t control_bytes =
        descriptor_count > 0 ? CMSG_SPACE(descriptor_count * sizeof(int)) : 0;
    struct sri_op_message *message = sri_allocate(1, sizeof *message + control_bytes);
    if (message == NULL) {
        return -ENOMEM;
    }
    op->cold->message = message;
    message->control_bytes = (uint32_t)control_bytes;
    message->address_bytes = sizeof message->address;
    if (request->op != SR_OP_ACCEPT && request->op != SR_OP_RECVMSG && request->address != NULL) {
        memcpy(&message->address, request->address, request->address_bytes);
        message->address_bytes = request->address_bytes;
    }
    const bool has_address = request->op == SR_OP_RECVMSG || request->address != NULL;
    message->header = (struct msghdr){
        .msg_name = has_address ? &message->address : NULL,
        .msg_namelen = has_address ? message->address_bytes : 0,
        .msg_control = control_bytes > 0 ? message->control : NULL,
        .msg_controllen = control_bytes,
    };
    if (request->op == SR_OP_SENDMSG && descriptor_count > 0) {
        write_descriptors(message, request);
    }
    return 0;
}

/* ---- SQEs ------------------------------------------------------------------------------------
 */

static void message_to_uapi(struct sri_op *op, const struct sri_plan *plan,
                            struct io_uring_sqe *sqe) {
    struct sri_op_message *message = op->cold->message;
    struct sri_op_vector *vector = op->cold->vector;
    /* Descriptors that arrive must not leak into programs that are executed meanwhile. */
    const uint32_t extra_flags = op->opcode == SR_OP_RECVMSG ? (uint32_t)MSG_CMSG_CLOEXEC : 0;
    for (uint32_t i = 0; i < vector->count; i++) {
        vector->rest[i] = vector->slices[i].iov;
    }
    message->header.msg_iov = vector->rest;
    message->header.msg_iovlen = vector->count;
    sri_sqe_message_to_uapi(sqe, plan->uapi, sri_file_for_sqe(plan->file), &message->header, 1,
                            plan->request->op_flags | extra_flags);
}

static void send_to_uapi(const sr_ring *ring, struct sri_op *op, const struct sri_plan *plan,
                         struct io_uring_sqe *sqe) {
    const struct sri_ring_pool *place = &ring->pools[op->pool];
    sri_sqe_message_to_uapi(sqe, plan->uapi, sri_file_for_sqe(plan->file), plan->memory,
                            (uint32_t)plan->request->length, plan->request->op_flags);
    if (plan->uapi == IORING_OP_SEND_ZC && place->buffer_count > 0) {
        sqe->ioprio = IORING_RECVSEND_FIXED_BUF;
        sqe->buf_index = (uint16_t)sri_ring_fixed_buffer(place, op->loan.slot);
    }
}

static void armed_to_uapi(const struct sri_op *op, const struct sri_file *file,
                          struct io_uring_sqe *sqe) {
    const struct sri_sqe_file target = sri_file_for_sqe(file);
    const bool multishot = (op->flags & SRI_OP_MULTISHOT) != 0;
    switch (op->opcode) {
    case SR_OP_RECV:
        sri_sqe_receive_to_uapi(sqe, target, op->armed.buffer_ring->group, op->armed.op_flags,
                                multishot);
        break;
    case SR_OP_ACCEPT:
        sri_sqe_accept_to_uapi(sqe, target, NULL, NULL, op->armed.op_flags | SOCK_CLOEXEC,
                               multishot);
        break;
    default: /* POLL */
        sri_sqe_poll_to_uapi(sqe, target, op->armed.op_flags, multishot);
        break;
    }
}

void sri_socket_prepare(const sr_ring *ring, struct sri_op *op, const struct sri_plan *plan,
                        struct io_uring_sqe *sqe) {
    const sr_request *request = plan->request;
    const struct sri_op_cold *cold = op->cold;
    if ((op->flags & SRI_OP_ARMED) != 0) {
        armed_to_uapi(op, plan->file, sqe);
        return;
    }
    switch (request->op) {
    case SR_OP_SOCKET:
        sri_sqe_socket_to_uapi(sqe, request->domain, request->type | SOCK_CLOEXEC,
                               request->protocol);
        break;
    case SR_OP_BIND:
    case SR_OP_CONNECT:
        sri_sqe_address_to_uapi(sqe, plan->uapi, sri_file_for_sqe(plan->file),
                                &cold->message->address, cold->message->address_bytes);
        break;
    case SR_OP_LISTEN:
        sri_sqe_listen_to_uapi(sqe, sri_file_for_sqe(plan->file), (uint32_t)request->length);
        break;
    case SR_OP_ACCEPT:
        sri_sqe_accept_to_uapi(sqe, sri_file_for_sqe(plan->file), &cold->message->address,
                               &cold->message->address_bytes, request->op_flags | SOCK_CLOEXEC,
                               false);
        break;
    case SR_OP_SENDMSG:
    case SR_OP_RECVMSG:
        message_to_uapi(op, plan, sqe);
        break;
    case SR_OP_SHUTDOWN:
        sri_sqe_shutdown_to_uapi(sqe, sri_file_for_sqe(plan->file), request->op_flags);
        break;
    case SR_OP_POLL:
        sri_sqe_poll_to_uapi(sqe, sri_file_for_sqe(plan->file), request->mask, false);
        break;
    default: /* SEND, SEND_ZC, RECV into one buffer */
        send_to_uapi(ring, op, plan, sqe);
        break;
    }
}

void sri_armed_send(const sr_ring *ring, const struct sri_op *op, struct io_uring_sqe *sqe) {
    armed_to_uapi(op, &ring->files.list[op->file], sqe);
}

/* ---- what comes back -------------------------------------------------------------------------
 */

/* Descriptors in the control data of a message; there may be none. */
static const int *descriptors_of(const struct sri_op_message *message, uint32_t *out_count) {
    struct msghdr header = message->header;
    *out_count = 0;
    for (struct cmsghdr *each = CMSG_FIRSTHDR(&header); each != NULL;
         each = CMSG_NXTHDR(&header, each)) {
        if (each->cmsg_level == SOL_SOCKET && each->cmsg_type == SCM_RIGHTS) {
            *out_count = (uint32_t)((each->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            return (const int *)(void *)CMSG_DATA(each);
        }
    }
    return NULL;
}

const sr_message *sri_message_describe(struct sri_op *op) {
    struct sri_op_message *message = op->cold->message;
    const bool received = op->opcode == SR_OP_RECVMSG;
    uint32_t address_bytes = received ? message->header.msg_namelen : message->address_bytes;
    if (address_bytes > sizeof message->address) {
        address_bytes = sizeof message->address; /* the kernel tells what it would have needed */
    }
    message->message = (sr_message){
        .address = address_bytes > 0 ? (const struct sockaddr *)&message->address : NULL,
        .address_bytes = address_bytes,
        .flags = received ? (uint32_t)message->header.msg_flags & ~(uint32_t)MSG_CMSG_CLOEXEC : 0,
    };
    if (received) {
        message->message.descriptors = descriptors_of(message, &message->message.descriptor_count);
    }
    return &message->message;
}

void sri_message_drop(sr_ring *ring, struct sri_op *op) {
    uint32_t count = 0;
    const int *descriptors = descriptors_of(op->cold->message, &count);
    for (uint32_t i = 0; i < count; i++) {
        sri_ring_drop_fd(ring, descriptors[i]);
    }
}
