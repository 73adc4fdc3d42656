/* SPDX-License-Identifier: MIT */
#include "buffer/lend.h"

#include "buffer/guard.h"
#include "buffer/protect.h"

int sri_loan_join(struct sri_slot *slot, struct sri_loan *loan) {
    if (sri_loans_forbid(slot->loans, loan->begin, loan->end, loan->writer)) {
        return SR_E_LENT;
    }
    loan->next = slot->loans;
    slot->loans = loan;
    return 0;
}

void sri_loan_guard(sr_pool *pool, struct sri_loan *loan) {
    if (pool->protects) {
        sri_protect_loan(pool, loan);
    } else if (pool->poisons && loan->writer) {
        sri_guard_poison(pool->slots[loan->slot].memory + loan->begin, loan->end - loan->begin);
    }
}

void sri_loan_note(sr_pool *pool, const struct sri_loan *loan, const struct sri_loan_note *note) {
    SR_CHECK(pool->protects);
    sri_notes_add(&pool->protection->notes[loan->slot], loan, note);
}

void sri_loan_unguard(sr_pool *pool, struct sri_loan *loan, uint64_t written_bytes) {
    const char *memory = pool->slots[loan->slot].memory + loan->begin;
    const uint64_t lent_bytes = loan->end - loan->begin;
    if (pool->protects) {
        sri_protect_loan_end(pool, loan);
    }
    if (!loan->writer) {
        return;
    }
    if (pool->poisons) {
        sri_guard_unpoison(memory, lent_bytes);
    }
    sri_guard_mark_written(memory, written_bytes < lent_bytes ? written_bytes : lent_bytes);
}

static void quarantine_drop_hold(sr_pool *pool, struct sri_slot *slot) {
    if (atomic_fetch_sub(&slot->holds, 1) != 1) {
        return;
    }
    if (pool->poisons) {
        sri_guard_poison(slot->memory, pool->size_bytes);
    }
    if (pool->protects) {
        sri_protect_open_slot(pool, slot);
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

void sri_loan_leave(sr_pool *pool, struct sri_slot *slot, struct sri_loan *loan) {
    unlink_loan(slot, loan);
    if (slot->loans != NULL) {
        return;
    }
    if (slot->state == SRI_SLOT_LENT) {
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
