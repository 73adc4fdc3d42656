/* SPDX-License-Identifier: MIT */
/* Pools that a ring may use: attached, and where the kernel agrees registered, which pins the pages
 * once instead of on every operation. */
#include "ring/ring.h"

/* What one fixed buffer may have. */
#define FIXED_BUFFER_BYTES_MAX ((size_t)1 << 30)

/* First of @count consecutive free fixed buffers, or UINT32_MAX. */
static uint32_t fixed_buffers_find(const sr_ring *ring, uint32_t count) {
    uint32_t run = 0;
    for (uint32_t i = 0; i < ring->queue.fixed_buffers; i++) {
        run = ring->fixed_buffer_used[i] == 0 ? run + 1 : 0;
        if (run == count) {
            return i + 1 - count;
        }
    }
    return UINT32_MAX;
}

static void fixed_buffers_clear(sr_ring *ring, uint32_t first, uint32_t count) {
    for (uint32_t i = first; i < first + count; i++) {
        /* A buffer that cannot be cleared stays pinned, and its place unused, until the ring goes.
         */
        ring->fixed_buffer_used[i] =
            ring->queue.backend->queue_set_buffer(&ring->queue, i, NULL, 0) != 0;
    }
}

/* Registers the memory of a pool. Returns 0 or why it stays plain. */
static int pool_register(sr_ring *ring, struct sri_ring_pool *place) {
    const sr_pool *pool = place->pool;
    const uint32_t per_buffer = (uint32_t)(FIXED_BUFFER_BYTES_MAX / pool->stride_bytes) > 0
                                    ? (uint32_t)(FIXED_BUFFER_BYTES_MAX / pool->stride_bytes)
                                    : 1;
    const uint32_t count = (pool->slot_count + per_buffer - 1) / per_buffer;
    const uint32_t first = fixed_buffers_find(ring, count);
    if (ring->queue.fixed_buffers == 0) {
        return ring->queue.fixed_buffers_error;
    }
    if (first == UINT32_MAX) {
        return SR_E_FULL;
    }

    for (uint32_t i = 0; i < count; i++) {
        const uint32_t slot = i * per_buffer;
        const uint32_t slots =
            pool->slot_count - slot < per_buffer ? pool->slot_count - slot : per_buffer;
        /* Without what follows the last slot: its stride may pass 1 GiB. */
        const size_t bytes = (size_t)(slots - 1) * pool->stride_bytes + pool->size_bytes;
        const int code = ring->queue.backend->queue_set_buffer(
            &ring->queue, first + i, pool->slots[slot].kernel_memory, bytes);
        if (code < 0) {
            fixed_buffers_clear(ring, first, i);
            return code;
        }
        ring->fixed_buffer_used[first + i] = 1;
    }
    place->buffer_first = first;
    place->buffer_count = count;
    place->slots_per_buffer = per_buffer;
    return 0;
}

/* False: the pool stays plain, and the ring's stats say why. */
static bool register_if_possible(sr_ring *ring, struct sri_ring_pool *place) {
    sr_pool *pool = place->pool;
    /* Pages that are replaced after they were pinned would leave the kernel with the old ones.
     * Counted first and looked at second, here and in the request, so that one of the two sees the
     * other. */
    atomic_fetch_add(&pool->rings_registered, 1);
    const int code =
        atomic_load(&pool->discards_in_flight) == 0 ? pool_register(ring, place) : SR_E_IN_FLIGHT;
    if (code < 0) {
        atomic_fetch_sub(&pool->rings_registered, 1);
        ring->stats.register_error = code;
    }
    return code == 0;
}

void sri_ring_forget_registrations(sr_ring *ring) {
    for (uint32_t i = 0; i < ring->pools_max; i++) {
        struct sri_ring_pool *place = &ring->pools[i];
        if (place->pool != NULL && place->buffer_count > 0) {
            atomic_fetch_sub(&place->pool->rings_registered, 1);
            place->buffer_count = 0;
        }
    }
    memset(ring->fixed_buffer_used, 0, ring->pools_max + SRI_FIXED_BUFFERS_EXTRA);
}

void sri_ring_register_pools(sr_ring *ring) {
    for (uint32_t i = 0; i < ring->pools_max; i++) {
        if (ring->pools[i].pool != NULL) {
            (void)register_if_possible(ring, &ring->pools[i]); /* plain buffers do as well */
        }
    }
}

static void let_pool_go(const struct sri_ring_pool *place) {
    atomic_fetch_sub(&place->pool->rings_registered, place->buffer_count > 0);
    atomic_fetch_sub(&place->pool->rings_attached, 1);
}

void sri_ring_let_pools_go(sr_ring *ring) {
    for (uint32_t i = 0; i < ring->pools_max && !ring->pools_let_go; i++) {
        if (ring->pools[i].pool != NULL) {
            let_pool_go(&ring->pools[i]);
        }
    }
    ring->pools_let_go = true;
}

struct sri_ring_pool *sri_ring_place_of(sr_ring *ring, const sr_pool *pool) {
    for (uint32_t i = 0; i < ring->pools_max; i++) {
        if (ring->pools[i].pool == pool) {
            return &ring->pools[i];
        }
    }
    return NULL;
}

static int pool_call_check(const sr_ring *ring, const sr_pool *pool) {
    const int code = sri_ring_check(ring);
    if (code < 0) {
        return code;
    }
    if (!sri_pool_is_valid(pool)) {
        return SR_E_OBJECT;
    }
    return ring->in_callback ? SR_E_STATE : 0;
}

int sr_ring_attach_pool(sr_ring *ring, sr_pool *pool) {
    int code = pool_call_check(ring, pool);
    if (code == 0 && sri_ring_place_of(ring, pool) != NULL) {
        code = SR_E_STATE;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    struct sri_ring_pool *place = sri_ring_place_of(ring, NULL);
    if (place == NULL) {
        return SR_E_FULL;
    }
    *place = (struct sri_ring_pool){.pool = pool};
    if (pool->protects) {
        ring->watches_submits |= SRI_WATCH_LOANS;
    }
    atomic_fetch_add(&pool->rings_attached, 1);
    return register_if_possible(ring, place) ? 1 : 0;
}

int sr_ring_detach_pool(sr_ring *ring, sr_pool *pool) {
    int code = pool_call_check(ring, pool);
    struct sri_ring_pool *place = code == 0 ? sri_ring_place_of(ring, pool) : NULL;
    if (code == 0 && place == NULL) {
        code = SR_E_STATE;
    }
    if (code == 0 && place->op_count > 0) {
        code = SR_E_IN_FLIGHT;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    fixed_buffers_clear(ring, place->buffer_first, place->buffer_count);
    let_pool_go(place);
    *place = (struct sri_ring_pool){0};
    return 0;
}
