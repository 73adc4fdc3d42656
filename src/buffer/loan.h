/* SPDX-License-Identifier: MIT */
/*
 * Loan: a range of a buffer that the kernel may use until an operation's terminal completion. A
 * reader loan means that the kernel reads, a writer loan that it writes. The lender embeds the
 * loan; the loans of a buffer are a list, short as a rule, walked to find overlaps
 * (docs/adr/0004-range-lending.md).
 */
#ifndef SAFERING_BUFFER_LOAN_H
#define SAFERING_BUFFER_LOAN_H

#include <safering/buffer.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sri_loan {
    struct sri_loan *next;
    uint32_t slot; /* of the buffer in its pool */
    uint32_t begin;
    uint32_t end; /* exclusive */
    bool writer;
};

_Static_assert(sizeof(struct sri_loan) == 24 || sizeof(void *) != 8, "an operation embeds it");

/* Whether using [begin, end), to write or only to read, would break the borrow rule. */
static inline bool sri_loans_forbid(const struct sri_loan *loans, uint32_t begin, uint32_t end,
                                    bool write) {
    for (; loans != NULL; loans = loans->next) {
        const uint32_t first = begin > loans->begin ? begin : loans->begin;
        const uint32_t last = end < loans->end ? end : loans->end;
        /* Empty ranges, on either side, share no byte with anything. */
        if ((write || loans->writer) && first < last) {
            return true;
        }
    }
    return false;
}

/*
 * Lends a range of a buffer that the calling thread holds. @loan: lends until sri_loan_end() or
 * sri_loan_orphan(). Returns 0, SR_E_STALE, SR_E_WRONG_THREAD, SR_E_BOUNDS, SR_E_LENT.
 */
int sri_loan_begin(sr_pool *pool, uint64_t buffer, uint64_t begin, uint64_t length, bool writer,
                   struct sri_loan *loan, void **out_memory);

/* Ends a loan, on the holder's thread; @written_bytes of it, from its start, hold what the kernel
 * wrote. */
void sri_loan_end(sr_pool *pool, struct sri_loan *loan, uint64_t written_bytes);

/* Takes the buffer of a loan from its holder: the handle is stale, the slot is free after its last
 * loan. */
void sri_loan_quarantine(sr_pool *pool, const struct sri_loan *loan);

/* Quarantines, and makes the loan independent of the holder's thread: from now on it is only a hold
 * on the slot, which any thread may end. For rings that go while the kernel still writes. */
void sri_loan_orphan(sr_pool *pool, struct sri_loan *loan);
void sri_loan_orphan_end(sr_pool *pool, uint32_t slot);

#endif
