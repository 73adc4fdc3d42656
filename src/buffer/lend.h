/* SPDX-License-Identifier: MIT */
/*
 * Lending: how loans begin and end. What happens on every read and write is inline; what is out of
 * the ordinary (several loans on one buffer, guards, quarantine) is in loan.c.
 */
#ifndef SAFERING_BUFFER_LEND_H
#define SAFERING_BUFFER_LEND_H

#include "buffer/fault.h"
#include "buffer/pool.h"

/* Adds a loan to others on the same buffer. Returns 0 or SR_E_LENT. */
SRI_NOINLINE int sri_loan_join(struct sri_slot *slot, struct sri_loan *loan);
/* Poisons what is lent to a writer, or protects what is lent. */
SRI_COLD void sri_loan_guard(sr_pool *pool, struct sri_loan *loan);
/* Undoes that, and tells valgrind what the kernel wrote. */
SRI_COLD void sri_loan_unguard(sr_pool *pool, struct sri_loan *loan, uint64_t written_bytes);
/* Remembers for whom a loan is, for the report on a fault; only if pool->protects. */
SRI_COLD void sri_loan_note(sr_pool *pool, const struct sri_loan *loan,
                            const struct sri_loan_note *note);
/* Ends a loan that is not the only one of its buffer, or whose buffer is quarantined. */
SRI_NOINLINE void sri_loan_leave(sr_pool *pool, struct sri_slot *slot, struct sri_loan *loan);

/*
 * Lends a range of a buffer that the calling thread holds. @loan: lends until sri_loan_end() or
 * sri_loan_orphan(). *out_memory is the range as the kernel may use it. Returns 0, SR_E_STALE,
 * SR_E_WRONG_THREAD, SR_E_FORKED, SR_E_BOUNDS, SR_E_LENT.
 */
static inline int sri_loan_begin(sr_pool *pool, uint64_t buffer, uint64_t begin, uint64_t length,
                                 bool writer, struct sri_loan *loan, void **out_memory) {
    struct sri_slot *slot = sri_pool_find(pool, buffer);
    if (SRI_UNLIKELY(slot == NULL)) {
        return sri_pool_find_error(pool, buffer);
    }
    if (SRI_UNLIKELY(begin > pool->size_bytes || length > pool->size_bytes - begin)) {
        return SR_E_BOUNDS;
    }
    loan->next = NULL;
    loan->slot = slot->index;
    loan->begin = (uint32_t)begin;
    loan->end = (uint32_t)(begin + length);
    loan->writer = writer;
    if (SRI_LIKELY(slot->loans == NULL)) {
        slot->loans = loan;
        sri_slot_move(slot, SRI_SLOT_LENT);
    } else if (sri_loan_join(slot, loan) < 0) {
        return SR_E_LENT;
    }
    if (SRI_UNLIKELY(pool->watches_loans)) {
        sri_loan_guard(pool, loan);
    }
    *out_memory = slot->kernel_memory + begin;
    return 0;
}

/* Ends a loan, on the holder's thread; @written_bytes of it, from its start, hold what the kernel
 * wrote. */
static inline void sri_loan_end(sr_pool *pool, struct sri_loan *loan, uint64_t written_bytes) {
    struct sri_slot *slot = &pool->slots[loan->slot];
    if (SRI_UNLIKELY(pool->watches_loans)) {
        sri_loan_unguard(pool, loan, written_bytes);
    }
    if (SRI_LIKELY(slot->loans == loan && loan->next == NULL && slot->state == SRI_SLOT_LENT)) {
        slot->loans = NULL;
        sri_slot_move(slot, SRI_SLOT_HELD);
    } else {
        sri_loan_leave(pool, slot, loan);
    }
}

/* Takes the buffer of a loan from its holder: the handle is stale, the slot is free after its last
 * loan. */
void sri_loan_quarantine(sr_pool *pool, const struct sri_loan *loan);

/* Quarantines, and makes the loan independent of the holder's thread: from now on it is only a hold
 * on the slot, which any thread may end. For rings that go while the kernel still writes. */
void sri_loan_orphan(sr_pool *pool, struct sri_loan *loan);
void sri_loan_orphan_end(sr_pool *pool, uint32_t slot);

#endif
