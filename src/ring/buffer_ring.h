/* SPDX-License-Identifier: MIT */
/*
 * Buffer ring: provided buffers. Each buffer in it is lent to the kernel as to a writer, under a
 * buffer id of ours; a completion names the id, which ends the loan. Operations that found it empty
 * wait in its list until something is provided.
 */
#ifndef SAFERING_RING_BUFFER_RING_H
#define SAFERING_RING_BUFFER_RING_H

#include "ring/ring.h"
#include <safering/buffer_ring.h>

#define SRI_BUFFER_RING_MAGIC UINT32_C(0x42524e01)

struct sr_buffer_ring {
    uint32_t magic;
    uint16_t group;
    uint16_t tail;
    uint32_t entries;
    uint32_t op_count; /* operations that take from it */
    sr_ring *ring;
    sr_pool *pool;
    struct io_uring_buf_ring *memory; /* shared with the kernel */
    struct sri_mapping mapping;
    struct sri_loan *loans; /* by buffer id; slot SRI_SLOT_NONE: the id is free */
    uint16_t *free_ids;
    uint32_t free_id_count;
    struct sri_op_list starved; /* operations that found it empty */
    uint32_t starved_count;
    /* Buffers in the ring for which no starved operation was sent; at least as many as are unused.
     * An operation may have starved in the kernel before they came, and be found here after. */
    uint32_t spare_count;
    uint64_t taken_total;
    uint64_t starved_total;
    bool keeps_pool;      /* counts among what the pool is attached to */
    bool orphaned;        /* its loans are holds of the quarantine */
    sr_buffer_ring *next; /* of the same ring */
};

/* 0, or why @buffer_ring is not one of @ring. */
int sri_buffer_ring_check(const sr_ring *ring, const sr_buffer_ring *buffer_ring);

/* Takes the buffer that the kernel has filled; SR_BUFFER_NONE if it names one that it has not. */
sr_buffer sri_buffer_ring_take(sr_buffer_ring *buffer_ring, uint32_t id, uint32_t written_bytes);
/* Lends a held buffer of the pool to the kernel. */
int sri_buffer_ring_put(sr_buffer_ring *buffer_ring, sr_buffer buffer);

/* Moves a flying operation to those that wait for a buffer, and out again. */
void sri_buffer_ring_starve(sr_ring *ring, struct sri_op *op);
void sri_buffer_ring_end_starving(sr_ring *ring, struct sri_op *op);
/* An operation that takes from it has ended, perhaps without the buffer that it was sent for. */
void sri_buffer_ring_op_ended(sr_buffer_ring *buffer_ring);

/* -- when the ring moves ------------------------------------------------------------------------
 */

/* How many buffer rings of @ring receive into @pool. */
uint32_t sri_buffer_rings_of(const sr_ring *ring, const sr_pool *pool);
/* The buffers in them are the new owner's. */
void sri_buffer_rings_take_over(sr_ring *ring, uint64_t owner_key);
/* Registers them with a new queue, with the buffers that they hold. */
int sri_buffer_rings_register(sr_ring *ring);

/* -- when the ring goes -------------------------------------------------------------------------
 */

void sri_buffer_rings_forget_starved(sr_ring *ring);
uint64_t sri_buffer_rings_bytes(const sr_ring *ring);
/* The kernel may still write to their buffers: what it has goes to the quarantine with the ring. */
void sri_buffer_rings_quarantine(sr_ring *ring);
/* It cannot any more: buffers go back to their pools, or end their quarantine. */
void sri_buffer_rings_end(sr_ring *ring);

#endif
