/* SPDX-License-Identifier: MIT */
/* Socket operations: what their requests need and what they give back. */
#ifndef SAFERING_RING_SOCKET_H
#define SAFERING_RING_SOCKET_H

#include "ring/request.h"

/* What is odd about the request of a socket operation: 0 or a code. */
int sri_socket_check(const sr_ring *ring, const sr_request *request);
/* Copies address and descriptors of a request, or makes room for those that come. */
int sri_socket_equip(struct sri_op *op, const sr_request *request);
/* Writes the SQE of a socket operation or a poll, the first time. */
void sri_socket_prepare(const sr_ring *ring, struct sri_op *op, const struct sri_plan *plan,
                        struct io_uring_sqe *sqe);
/* Writes the SQE of an armed operation once more. */
void sri_armed_send(const sr_ring *ring, const struct sri_op *op, struct io_uring_sqe *sqe);

/* What came with the message or connection of an operation; part of the operation. */
const sr_message *sri_message_describe(struct sri_op *op);
/* Closes the descriptors of a message that nobody will read. */
void sri_message_drop(sr_ring *ring, struct sri_op *op);

#endif
