/* SPDX-License-Identifier: MIT */
/*
 * Loan: a range of a buffer that the kernel may use until an operation's terminal completion. A
 * reader loan means that the kernel reads, a writer loan that it writes. The lender embeds the
 * loan; the loans of a buffer are a list, short as a rule, walked to find overlaps
 * (docs/adr/0004-range-lending.md).
 */
#ifndef SAFERING_BUFFER_LOAN_H
#define SAFERING_BUFFER_LOAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sri_loan {
    struct sri_loan *next;
    uint32_t slot; /* of the buffer in its pool */
    uint32_t begin;
    uint32_t end; /* exclusive */
    bool writer;
    bool guarded; /* its pages are protected; only in pools with guard level protect */
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

#endif
