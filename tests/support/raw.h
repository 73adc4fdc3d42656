/* SPDX-License-Identifier: MIT */
/*
 * Raw: completions that a ring did not ask for. Whatever comes out of the completion queue must be
 * checked against the operations; these put anything in there, past the library.
 */
#ifndef SAFERING_TESTS_SUPPORT_RAW_H
#define SAFERING_TESTS_SUPPORT_RAW_H

#include <liburing.h>
#include <safering/ring.h>
#include <stdbool.h>
#include <stdint.h>

/* A plain liburing ring of its own, from which messages are sent. */
struct raw_sender {
    struct io_uring uring;
    bool is_open;
};

/* Returns NULL, or why there is no such ring. Where io_uring is denied there is none and none is
 * needed: all rings are the fallback's. */
const char *raw_sender_open(struct raw_sender *out_sender);
void raw_sender_close(struct raw_sender *sender);

/*
 * Posts a CQE to @ring with IORING_OP_MSG_RING; on the fallback, whose queue is plain memory, it is
 * written there. Returns what the kernel answered the sender: 0, or
 * a negative errno (-EINVAL: no MSG_RING before Linux 5.18, and no @cqe_flags before 6.3).
 */
int raw_send(struct raw_sender *sender, sr_ring *ring, uint64_t user_data, int32_t result,
             uint32_t cqe_flags);

/* Whether NOPs can bring a result of choice (IORING_NOP_INJECT_RESULT, Linux 6.12). */
const char *raw_nop_can_inject(struct raw_sender *sender);

/*
 * Writes a NOP straight into the queue of @ring; the next wait or flush sends it, and its CQE
 * carries
 * @user_data and @result (0 works on every kernel). Aborts with a message if the queue is full.
 */
void raw_nop(sr_ring *ring, uint64_t user_data, int32_t result);

/* Has the kernel write the CQEs of what has completed, without the library looking at them. */
void raw_post(sr_ring *ring);

#endif
