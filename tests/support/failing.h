/* SPDX-License-Identifier: MIT */
/*
 * Failing: a backend that stands in front of the one in force (src/sys/backend.h), counts every
 * call, and fails the ones that a test chooses: the n-th allocation, every io_uring_enter(2), and
 * so on. What is not chosen does what the real backend does.
 *
 * One per process: failing_install() starts anew. Counting is safe from any thread; planning
 * belongs to one. Objects that were created while it was installed must be destroyed before
 * failing_remove().
 */
#ifndef SAFERING_TESTS_SUPPORT_FAILING_H
#define SAFERING_TESTS_SUPPORT_FAILING_H

#include "sys/backend.h"
#include <stdbool.h>
#include <stdint.h>

/* The functions of struct sri_backend, in its order. */
enum failing_call {
    FAILING_QUEUE_OPEN,
    FAILING_QUEUE_CLOSE, /* counted; has no way to fail */
    FAILING_QUEUE_ENTER,
    FAILING_QUEUE_SET_FILE,
    FAILING_QUEUE_SET_BUFFER,
    FAILING_QUEUE_ADD_BUFFER_RING,
    FAILING_QUEUE_REMOVE_BUFFER_RING,
    FAILING_EVENT_OPEN,
    FAILING_QUEUE_SET_EVENT_FD,
    FAILING_MAP,
    FAILING_UNMAP,   /* counted */
    FAILING_PROTECT, /* after a call that opens, not the next one that opens all of that again */
    FAILING_ALLOCATE,
    FAILING_RELEASE,  /* counted */
    FAILING_FD_CLOSE, /* closes all the same, as the kernel does, and returns the code */
    FAILING_FD_IS_OPEN,
    FAILING_FD_KIND, /* counted */
    FAILING_FD_SHUTDOWN,
    FAILING_SQE_RUN,
    FAILING_WAKEUP_OPEN,
    FAILING_WAKEUP_WRITE, /* counted */
    FAILING_WAKEUP_CLEAR, /* counted */
    FAILING_IS_HUNG_UP,   /* "fails" by answering false: not yet */
    FAILING_NOW_NS,       /* counted */
    FAILING_PAUSE,        /* counted */
    FAILING_RANDOM,       /* counted */
    FAILING_CALLS,
    FAILING_ANY = FAILING_CALLS /* in a plan: whichever of those that can fail is called next */
};

/* Puts it in front of the real backend, with all counters at zero and no failure planned. */
void failing_install(void);
/* The same in front of the backend of @kind, and of no other: rings that choose none get that one.
 */
void failing_install_before(enum sri_backend_kind kind);
/* Takes it away again. */
void failing_remove(void);

/*
 * From now on, call number @nth (1: the next one) of @call fails with @code, a negative errno; and
 * every later one too if @for_ever. Replaces the plan before. A failing enter takes no SQE and does
 * not wait, but publishes the queue like the real one.
 */
void failing_plan(enum failing_call call, uint64_t nth, int code, bool for_ever);
/* No failure is planned any more. */
void failing_relent(void);

/* Every @period-th enter (1: every one) fails with @code, the others work; 0 for none. */
void failing_enter_every(uint64_t period, int code);
/* Enters pass on at most @count SQEs and do not wait if there were more; 0 for no limit. */
void failing_enter_partial(uint32_t count);

/* Queues that are opened from now on say that they lack an IORING_OP_*; forces substitutes. */
void failing_mask_op(uint8_t uapi_opcode);
/* From now on buffers are not registered with the kernel (as with no locked memory left): -ENOMEM.
 */
void failing_refuse_registration(void);

/* Calls since failing_install(), the failed ones included; FAILING_ANY: all that can fail. */
uint64_t failing_count(enum failing_call call);
/* How many calls were made to fail. */
uint64_t failing_injected(void);
/* What was obtained through the backend and not given back: blocks, mappings, queues. */
int64_t failing_blocks_alive(void);
int64_t failing_mappings_alive(void);
int64_t failing_queues_alive(void);
/* NULL if nothing is alive any more, else a readable list; valid until the next call. */
const char *failing_leak(void);

/* An SQE that the kernel has taken. */
struct failing_sqe {
    uint64_t user_data;
    uint64_t offset;
    uint64_t address;
    int32_t fd;
    uint32_t length;
    uint16_t buffer_index;
    uint8_t opcode; /* IORING_OP_* */
    uint8_t flags;  /* IOSQE_* */
};

#define FAILING_SQES_KEPT 4096

/* SQEs that the kernel took since failing_install(). */
uint64_t failing_sqe_count(void);
/* The one with number @index, from 0; only the last FAILING_SQES_KEPT are kept. */
struct failing_sqe failing_sqe(uint64_t index);
/* The newest one with @opcode (IORING_OP_*); false if there is none. */
bool failing_sqe_newest(uint8_t opcode, struct failing_sqe *out_sqe);

#endif
