/* SPDX-License-Identifier: MIT */
/*
 * Buffer rings: buffers that the kernel takes from when data arrives, so that ten thousand idle
 * connections need no buffer of their own.
 *
 * A buffer is in one hand at a time: the buffer ring's (the kernel may write to it), or, after a
 * completion has brought it, the program's, until that provides it again or releases it to the
 * pool. A receive that finds the ring empty waits, and goes on by itself when a buffer is provided.
 */
#ifndef SAFERING_BUFFER_RING_H
#define SAFERING_BUFFER_RING_H

#include <safering/ring.h>

SR_EXTERN_C_BEGIN

typedef struct sr_buffer_ring_options {
    size_t size; /* sizeof(sr_buffer_ring_options) */
    /** Buffers that it can hold: a power of two, 1 .. 32,768. Default 256. */
    uint32_t entries;
    /** Buffers to take from the pool at once, 0 .. `entries`. Default UINT32_MAX: `entries`. */
    uint32_t fill;
} sr_buffer_ring_options;

#define SR_BUFFER_RING_OPTIONS_INIT                                                                \
    (SR_LITERAL(sr_buffer_ring_options){sizeof(sr_buffer_ring_options), 256, UINT32_MAX})

/**
 * sr_buffer_ring_create() - give a ring buffers of a pool to receive into
 * @ring:     must outlive the buffer ring, or take it along (sr_ring_destroy() ends it)
 * @pool:     stays attached to the ring until the buffer ring ends
 * @options:  borrows; NULL for the defaults
 * @out_buffer_ring:  returns owned: end with sr_buffer_ring_destroy(); NULL on failure
 *
 * Return:  0, SR_E_FULL (the pool has too few free buffers, or 65,536 buffer rings exist),
 *          SR_E_BOUNDS (an option's range), -EINVAL (options), -ENOMEM, SR_E_UNSUPPORTED,
 *          SR_E_STATE (in a callback), SR_E_OBJECT, SR_E_WRONG_THREAD (the thread must own ring and
 *          pool), SR_E_FORKED.
 * Thread:  the owner of ring and pool.     Blocks: never.
 * Kernel:  5.19+, else SR_E_UNSUPPORTED; io_uring_register(2), IORING_REGISTER_PBUF_RING.
 */
SR_API SR_MUST_USE int sr_buffer_ring_create(sr_ring *ring, sr_pool *pool,
                                             const sr_buffer_ring_options *options,
                                             sr_buffer_ring **out_buffer_ring);

/**
 * sr_buffer_ring_destroy() - end a buffer ring; the buffers in it go back to the pool
 * @buffer_ring:  address of the variable; takes; NULL inside is allowed; NULL is left behind on
 *                success
 *
 * Return:  0, SR_E_IN_FLIGHT (an operation receives from it), SR_E_OBJECT, SR_E_WRONG_THREAD,
 *          SR_E_FORKED.
 * Thread:  the ring's owner.     Blocks: never.
 */
SR_API int sr_buffer_ring_destroy(sr_buffer_ring **buffer_ring);

/**
 * sr_buffer_ring_provide() - put a buffer into the ring, to be received into
 * @buffer:  takes; any buffer of the pool that the thread holds. Its handle is stale afterwards
 *
 * Operations that wait for buffers go on with the next send. The buffer stays charged to its
 * account.
 *
 * Return:  0, SR_E_FULL (`entries` are in it), SR_E_STALE, SR_E_IN_FLIGHT (some range is lent),
 *          SR_E_OVERRUN (provided all the same, but the bytes behind the buffer had been
 *          overwritten), SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 * Kernel:  no system call.
 */
SR_API SR_MUST_USE int sr_buffer_ring_provide(sr_buffer_ring *buffer_ring, sr_buffer buffer);

typedef struct sr_buffer_ring_stats {
    size_t size; /* sizeof(sr_buffer_ring_stats) */
    uint32_t entries;
    uint32_t buffers;       /* in it now: the kernel may write to them */
    uint32_t operations;    /* that receive from it now */
    uint32_t starved;       /* of these, waiting for a buffer */
    uint64_t taken_total;   /* buffers that completions brought */
    uint64_t starved_total; /* times that an operation found it empty */
} sr_buffer_ring_stats;

#define SR_BUFFER_RING_STATS_INIT                                                                  \
    (SR_LITERAL(sr_buffer_ring_stats){sizeof(sr_buffer_ring_stats), 0, 0, 0, 0, 0, 0})

/**
 * sr_buffer_ring_get_stats() - counters of a buffer ring
 * @out_stats:  `size` set by the caller; the rest is filled
 *
 * Return:  0, SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED, -EINVAL (out_stats).
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_buffer_ring_get_stats(sr_buffer_ring *buffer_ring,
                                                sr_buffer_ring_stats *out_stats);

SR_EXTERN_C_END

#endif
