/* SPDX-License-Identifier: MIT */
/*
 * Pool: equal slots of a region, given out as buffers.
 *
 * Threads: one thread owns the pool and acquires. Each buffer has a holder, the one thread that may
 * use it; a slot's fields belong to the holder while the buffer is held and to the owner while it
 * is free. What passes between threads is the holder's key, the handle, and the list of remotely
 * released slots.
 */
#ifndef SAFERING_BUFFER_POOL_H
#define SAFERING_BUFFER_POOL_H

#include "buffer/account.h"
#include "buffer/loan.h"
#include "buffer/region.h"
#include "core/handle.h"
#include "core/state.h"
#include "sys/owner.h"
#include <safering/buffer.h>

#define SRI_POOL_MAGIC UINT32_C(0x504f4f02)
#define SRI_SLOT_NONE  UINT32_MAX

enum sri_slot_state {
    SRI_SLOT_FREE = 0,
    SRI_SLOT_HELD = 1,
    SRI_SLOT_LENT = 2,
    SRI_SLOT_QUARANTINED = 3
};

struct sri_protection;

struct sri_slot {
    _Atomic uint64_t holder_key; /* 0 while free */
    char *memory;                /* as the program sees it */
    struct sri_loan *loans;
    uint64_t handle;
    uint32_t next; /* free list or remote list */
    uint32_t account;
    uint32_t index; /* in the pool */
    /* While quarantined: one for the list of loans, one for each loan of a ring that is gone. */
    _Atomic uint32_t holds;
    uint8_t state;       /* enum sri_slot_state */
    char *kernel_memory; /* the same bytes where the kernel uses them: another view, or the same */
};

_Static_assert(sizeof(struct sri_slot) == 64 || sizeof(void *) != 8, "one cache line");

/* What each call reads comes first, in as few cache lines as it goes. */
struct sr_pool {
    uint32_t magic;
    bool poisons;        /* AddressSanitizer is there and wanted */
    bool canaries;       /* SR_GUARD_POISON */
    bool protects;       /* SR_GUARD_PROTECT */
    bool watches_loans;  /* one of these, or valgrind wants to know what the kernel writes */
    uint32_t free_first; /* last in, first out: warm in the caches */
    uint32_t slot_count;
    _Atomic uint64_t owner_key; /* changes when the pool goes along with its ring */
    size_t size_bytes;          /* of one buffer */
    size_t stride_bytes;
    char *base;
    struct sri_slot *slots;
    struct sri_handle_table handles;
    struct sri_accounts accounts;
    uint64_t reclaimed_remote_total; /* taken from the remote list */
    uint64_t refused_full_total;
    uint64_t refused_limit_total;
    sr_region *region;
    const struct sri_backend *backend;
    struct sri_protection *protection; /* NULL unless it protects */
    uint32_t guard;                    /* enum sr_guard in force */
    int guard_error;                   /* why it is not the one that was wanted */
    bool owns_region;
    char apart[64]; /* other threads write to what follows */
    _Atomic uint32_t remote_first;
    _Atomic uint32_t rings_attached;
    _Atomic uint32_t rings_registered;   /* of these, with its pages pinned */
    _Atomic uint32_t discards_in_flight; /* madvise operations that may replace pages */
    _Atomic uint32_t quarantined_count;
    _Atomic uint64_t released_remote_total;
    _Atomic uint64_t overruns_total;
};

static inline bool sri_pool_is_valid(const sr_pool *pool) {
    return pool != NULL && pool->magic == SRI_POOL_MAGIC;
}

/* Whether the calling thread owns the pool. Relaxed: only that thread itself can have stored it. */
static inline bool sri_pool_is_mine(const sr_pool *pool) {
    return atomic_load_explicit(&pool->owner_key, memory_order_relaxed) == sri_owner_key();
}

static inline bool sri_pool_is_forked(const sr_pool *pool) {
    return sri_owner_is_forked(pool->owner_key);
}

/* Whether there is a buffer to acquire, as far as its owner can tell without trying. */
static inline bool sri_pool_has_free(const sr_pool *pool) {
    return pool->free_first != SRI_SLOT_NONE ||
           atomic_load_explicit(&pool->remote_first, memory_order_relaxed) != SRI_SLOT_NONE;
}

/* Why a buffer cannot be used by the calling thread. */
SRI_COLD int sri_pool_find_error(const sr_pool *pool, uint64_t buffer);

/* The slot of a buffer that the calling thread holds, or NULL: sri_pool_find_error() tells why. */
static inline struct sri_slot *sri_pool_find(const sr_pool *pool, uint64_t buffer) {
    struct sri_slot *slot = &pool->slots[sri_handle_slot(&pool->handles, buffer)];
    /* The holder first: only its holder may look at a slot's other fields. Acquire pairs with the
     * release in sr_buffer_transfer(), which hands them over; on x86 it costs nothing. */
    const uint64_t holder = atomic_load_explicit(&slot->holder_key, memory_order_acquire);
    return SRI_LIKELY(holder == sri_owner_key()) && SRI_LIKELY(slot->handle == buffer) ? slot
                                                                                       : NULL;
}

/* The invariant that holds after each move. */
static inline bool sri_slot_is_valid(const struct sri_slot *slot) {
    const uint64_t holder = atomic_load_explicit(&slot->holder_key, memory_order_relaxed);
    const bool held = slot->state == SRI_SLOT_HELD || slot->state == SRI_SLOT_LENT;
    return (holder != 0) == held && (slot->state != SRI_SLOT_LENT || slot->loans != NULL) &&
           (slot->loans == NULL || slot->state == SRI_SLOT_LENT ||
            slot->state == SRI_SLOT_QUARANTINED);
}

/* Moves a slot along its lifecycle. */
static inline void sri_slot_move(struct sri_slot *slot, enum sri_slot_state to) {
    static const uint8_t followers[] = {
        [SRI_SLOT_FREE] = SRI_STATE_BIT(SRI_SLOT_HELD),
        [SRI_SLOT_HELD] = SRI_STATE_BIT(SRI_SLOT_LENT) | SRI_STATE_BIT(SRI_SLOT_FREE),
        [SRI_SLOT_LENT] = SRI_STATE_BIT(SRI_SLOT_HELD) | SRI_STATE_BIT(SRI_SLOT_QUARANTINED),
        [SRI_SLOT_QUARANTINED] = SRI_STATE_BIT(SRI_SLOT_FREE),
    };
    sri_state_move(&slot->state, followers, (uint8_t)to);
    SR_CHECK_SLOW(sri_slot_is_valid(slot));
}

/* Gives a held buffer a new handle, because it changes hands: the old one is stale. On the pool's
 * thread. Returns 0, SR_E_OVERRUN (renewed all the same), or SR_E_FULL: no handle is left. */
int sri_pool_renew(sr_pool *pool, struct sri_slot *slot);

/* Hands a slot that has become FREE to the pool's owner; on whichever thread that happens. */
void sri_pool_give_up(sr_pool *pool, struct sri_slot *slot);

#endif
