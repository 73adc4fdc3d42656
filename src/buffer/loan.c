/* SPDX-License-Identifier: MIT */
#include "buffer/loan.h"

#include "buffer/guard.h"
#include "buffer/pool.h"

int sri_loan_begin(sr_pool *pool, uint64_t buffer, uint64_t begin, uint64_t length, bool writer,
                   struct sri_loan *loan, void **out_memory) {
    struct sri_slot *slot = sri_pool_find(pool, buffer);
    if (SRI_UNLIKELY(slot == NULL)) {
        return sri_pool_find_error(pool, buffer);
    }
    if (SRI_UNLIKELY(begin > pool->size_bytes || length > pool->size_bytes - begin)) {
        return SR_E_BOUNDS;
    }
    *loan = (struct sri_loan){
        .next = slot->loans,
        .slot = slot->index,
        .begin = (uint32_t)begin,
        .end = (uint32_t)(begin + length),
        .writer = writer,
    };
    if (SRI_UNLIKELY(slot->loans != NULL)) {
        if (sri_loans_forbid(slot->loans, loan->begin, loan->end, writer)) {
            return SR_E_LENT;
        }
        slot->loans = loan;
    } else {
        slot->loans = loan;
        sri_slot_move(slot, SRI_SLOT_LENT);
    }
    *out_memory = slot->memory + begin;
    if (SRI_UNLIKELY(pool->poisons) && writer) {
        sri_guard_poison(*out_memory, length);
    }
    return 0;
}

static void quarantine_drop_hold(sr_pool *pool, struct sri_slot *slot) {
    if (atomic_fetch_sub(&slot->holds, 1) != 1) {
        return;
    }
    if (pool->poisons) {
        sri_guard_poison(slot->memory, pool->size_bytes);
    }
    sri_slot_move(slot, SRI_SLOT_FREE);
    sri_pool_give_up(pool, slot);
    /* Last: from here on the pool may be destroyed. */
    atomic_fetch_sub(&pool->quarantined_count, 1);
}

static void unlink_loan(struct sri_slot *slot, const struct sri_loan *loan) {
    struct sri_loan **link = &slot->loans;
    while (*link != loan) {
        SR_CHECK(*link != NULL);
        link = &(*link)->next;
    }
    *link = loan->next;
}

void sri_loan_end(sr_pool *pool, struct sri_loan *loan, uint64_t written_bytes) {
    struct sri_slot *slot = &pool->slots[loan->slot];
    unlink_loan(slot, loan);
    if (loan->writer) {
        char *memory = slot->memory + loan->begin;
        if (SRI_UNLIKELY(pool->poisons)) {
            sri_guard_unpoison(memory, loan->end - loan->begin);
        }
        const uint64_t lent_bytes = loan->end - loan->begin;
        sri_guard_mark_written(memory, written_bytes < lent_bytes ? written_bytes : lent_bytes);
    }
    if (SRI_UNLIKELY(slot->loans != NULL)) {
        return;
    }
    if (SRI_LIKELY(slot->state == SRI_SLOT_LENT)) {
        sri_slot_move(slot, SRI_SLOT_HELD);
    } else {
        quarantine_drop_hold(pool, slot);
    }
}

void sri_loan_quarantine(sr_pool *pool, const struct sri_loan *loan) {
    struct sri_slot *slot = &pool->slots[loan->slot];
    if (slot->state == SRI_SLOT_QUARANTINED) {
        return; /* by another operation on the same buffer */
    }
    const bool mine = sri_handle_disown(&pool->handles, slot->handle);
    SR_CHECK(mine);
    atomic_fetch_add(&pool->quarantined_count, 1);
    atomic_store(&slot->holds, 1);
    atomic_store_explicit(&slot->holder_key, 0, memory_order_relaxed);
    sri_slot_move(slot, SRI_SLOT_QUARANTINED);
}

void sri_loan_orphan(sr_pool *pool, struct sri_loan *loan) {
    struct sri_slot *slot = &pool->slots[loan->slot];
    sri_loan_quarantine(pool, loan);
    atomic_fetch_add(&slot->holds, 1);
    unlink_loan(slot, loan);
    if (slot->loans == NULL) {
        quarantine_drop_hold(pool, slot);
    }
}

void sri_loan_orphan_end(sr_pool *pool, uint32_t slot) {
    quarantine_drop_hold(pool, &pool->slots[slot]);
}
