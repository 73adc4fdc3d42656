/* SPDX-License-Identifier: MIT */
/*
 * Quarantine: rings that were destroyed while the kernel still held operations of theirs. Their
 * queue is closed; their memory and the buffers they had lent stay until the ring's lifeline hangs
 * up, which the kernel does when it lets go of the last operation (docs/adr/0005-lifeline.md).
 *
 * A ring whose operations may yet bring descriptors lingers first: its queue stays open, and each
 * sweep of its owner thread takes what has ended.
 */
#include "ring/buffer_ring.h"
#include "ring/ring.h"

#include "sys/memory.h"

#include <errno.h>
#include <pthread.h>

/* Between two looks at the pipes. They hang up tens of milliseconds after the last operation
 * anyway. */
#define LOOK_AGAIN_NS 2000000u

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static struct sr_ring *rings;
static uint64_t rings_total;
static uint64_t swept_total;
static uint64_t descriptors_closed_total; /* of rings that lingered */
static uint64_t looks_total;
static uint32_t taken_count; /* off the list while a thread looks after them */

static void before_fork(void) {
    pthread_mutex_lock(&mutex);
}

static void after_fork_in_parent(void) {
    pthread_mutex_unlock(&mutex);
}

/* What the parent's kernel operations hold is none of the child's. */
static void after_fork_in_child(void) {
    rings = NULL;
    rings_total = 0;
    swept_total = 0;
    descriptors_closed_total = 0;
    taken_count = 0;
    pthread_mutex_unlock(&mutex);
}

static void watch_forks(void) {
    /* The owners' fork handlers must be there before ours, because handlers that take locks run in
     * reverse order, and we ask after owners with our lock held. Failing is seen by whoever makes
     * a ring. */
    (void)sri_owner_key_make();
    /* Failing (no memory) means that a child may see its parent's counts; nothing is freed twice,
     * because the parent's pipes do not hang up for it before the parent's kernel operations end.
     */
    (void)pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

static void lock(void) {
    pthread_once(&fork_once, watch_forks);
    pthread_mutex_lock(&mutex);
}

static void orphan_loans(sr_ring *ring, struct sri_op *op) {
    if (op->pool != SRI_POOL_NONE) {
        sri_loan_orphan(ring->pools[op->pool].pool, &op->loan);
    }
    struct sri_op_vector *vector = op->cold != NULL ? op->cold->vector : NULL;
    for (uint32_t i = 0; vector != NULL && i < vector->count; i++) {
        struct sri_op_slice *slice = &vector->slices[i];
        sri_loan_orphan(ring->pools[slice->pool].pool, &slice->loan);
    }
}

static void end_orphaned_loans(sr_ring *ring, struct sri_op *op) {
    if (op->pool != SRI_POOL_NONE) {
        sri_op_end_discard(ring, op);
        sri_loan_orphan_end(ring->pools[op->pool].pool, op->loan.slot);
    }
    struct sri_op_vector *vector = op->cold != NULL ? op->cold->vector : NULL;
    for (uint32_t i = 0; vector != NULL && i < vector->count; i++) {
        struct sri_op_slice *slice = &vector->slices[i];
        sri_loan_orphan_end(ring->pools[slice->pool].pool, slice->loan.slot);
    }
}

/* What it holds goes with the ring, whoever will end it. */
static void take_loans(sr_ring *ring) {
    ring->quarantine_ops = 0;
    ring->quarantine_bytes = 0;
    for (uint32_t i = 0; i < ring->ops.count_max; i++) {
        struct sri_op *op = &ring->ops.list[i];
        if (op->state != SRI_OP_FREE) {
            ring->quarantine_ops++;
            ring->quarantine_bytes += sri_op_lent_bytes(op);
            if (ring->lingers) {
                sri_op_quarantine_loans(ring, op);
            } else {
                orphan_loans(ring, op);
            }
        }
    }
    ring->quarantine_bytes += sri_buffer_rings_bytes(ring);
    sri_buffer_rings_quarantine(ring);
    sri_ring_let_pools_go(ring);
}

static void put_on_list(sr_ring *ring) {
    ring->quarantine_next = rings;
    rings = ring;
}

void sri_quarantine_add(sr_ring *ring) {
    take_loans(ring);
    lock();
    put_on_list(ring);
    rings_total++;
    pthread_mutex_unlock(&mutex);
}

static void release_ring(sr_ring *ring) {
    for (uint32_t i = 0; i < ring->ops.count_max; i++) {
        if (ring->ops.list[i].state != SRI_OP_FREE) {
            end_orphaned_loans(ring, &ring->ops.list[i]);
        }
    }
    sri_buffer_rings_end(ring);
    sri_ring_close_late(ring);
    sri_ring_free(ring);
}

int sr_quarantine_stats(sr_quarantine_counts *out_stats) {
    sr_quarantine_counts counts = SR_QUARANTINE_STATS_INIT;
    if (out_stats == NULL || !sri_stats_size_is_valid(out_stats->size)) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    lock();
    for (const sr_ring *ring = rings; ring != NULL; ring = ring->quarantine_next) {
        counts.rings++;
        counts.operations += ring->quarantine_ops;
        counts.bytes += ring->quarantine_bytes;
    }
    counts.rings += taken_count;
    counts.rings_total = rings_total;
    counts.swept_total = swept_total;
    counts.descriptors_closed_total = descriptors_closed_total;
    pthread_mutex_unlock(&mutex);
    sri_stats_give(out_stats, &counts, sizeof counts);
    return 0;
}

/* Whether the calling thread can do something for a ring now. */
static bool is_ripe(const sr_ring *ring) {
    return ring->lingers
               ? ring->owner_key == sri_owner_key() || !sri_owner_is_alive(ring->owner_key)
               : ring->queue.backend->is_hung_up(ring->queue.lifeline);
}

/* Takes one ripe ring out of the list that sweep number @look has not looked at, or NULL;
 * *out_left: rings that remain. */
static sr_ring *take_ripe(uint64_t look, int *out_left) {
    sr_ring *found = NULL;
    *out_left = (int)taken_count; /* by other threads */
    for (sr_ring **link = &rings; *link != NULL;) {
        sr_ring *ring = *link;
        if (found == NULL && ring->quarantine_look != look && is_ripe(ring)) {
            found = ring;
            found->quarantine_look = look;
            *link = ring->quarantine_next;
        } else {
            (*out_left)++;
            link = &ring->quarantine_next;
        }
    }
    taken_count += found != NULL;
    return found;
}

/* Gives a ring back that was taken, or forgets it. */
static void end_taking(sr_ring *ring, bool gone, uint64_t descriptors_closed) {
    lock();
    taken_count--;
    swept_total += gone;
    descriptors_closed_total += descriptors_closed;
    if (!gone) {
        put_on_list(ring);
    }
    pthread_mutex_unlock(&mutex);
}

/* Does for a ripe ring what can be done now. */
static void tend(sr_ring *ring) {
    if (!ring->lingers) {
        release_ring(ring);
        end_taking(NULL, true, 0);
        return;
    }
    uint64_t closed = 0;
    const bool gone = sri_ring_linger(ring, &closed);
    if (!gone) {
        take_loans(ring);
    }
    end_taking(ring, gone, closed);
}

/* Frees what can be freed now. Returns rings that remain. */
static int sweep_once(void) {
    int left = 0;
    lock();
    const uint64_t look = ++looks_total;
    pthread_mutex_unlock(&mutex);
    for (;;) {
        lock();
        sr_ring *ripe = take_ripe(look, &left);
        pthread_mutex_unlock(&mutex);
        if (ripe == NULL) {
            return left;
        }
        tend(ripe);
    }
}

int sr_quarantine_sweep(uint64_t timeout_ns) {
    const struct sri_backend *backend = sri_backend();
    const uint64_t start_ns = backend->now_ns();
    for (;;) {
        const int left = sweep_once();
        const uint64_t passed_ns = backend->now_ns() - start_ns;
        if (left == 0 || passed_ns >= timeout_ns) {
            return left;
        }
        const uint64_t rest_ns = timeout_ns - passed_ns;
        backend->pause(rest_ns < LOOK_AGAIN_NS ? rest_ns : LOOK_AGAIN_NS);
    }
}
