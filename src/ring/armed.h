/* SPDX-License-Identifier: MIT */
/*
 * Armed operations: those that wait for something to arrive and bring it along, a connection, a
 * buffer full of data, an event; once or, multishot, again and again. When the kernel ends one for
 * a reason of its own (its completion queue was full, no buffer was left) it is armed again.
 */
#ifndef SAFERING_RING_ARMED_H
#define SAFERING_RING_ARMED_H

#include "ring/ring.h"

/* Gives an operation what it needs to be armed, the first time. */
void sri_op_arm(sr_ring *ring, struct sri_op *op, const sr_request *request);
/* The operation is about to end. */
void sri_op_disarm(sr_ring *ring, const struct sri_op *op);
/* Takes a completion of an armed operation in flight. */
void sri_armed_take(sr_ring *ring, struct sri_op *op, const struct sri_cqe *cqe);

#endif
