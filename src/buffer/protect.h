/* SPDX-License-Identifier: MIT */
/*
 * Protect: the guard level that takes lent pages away from the program. The pool's memory is mapped
 * twice: the program's view, whose rights change with each loan, and the kernel's, which is always
 * open. While a loan lasts, the pages that hold nothing of the buffer but lent bytes are
 * inaccessible (the kernel writes) or read-only (the kernel reads).
 *
 * A page of the program's view is closed if it lies inside of a writer loan, read-only if inside of
 * a reader loan, else open; loans that are not `guarded` do not count. While a buffer is
 * quarantined its pages stay as they are; they are opened when it becomes free.
 */
#ifndef SAFERING_BUFFER_PROTECT_H
#define SAFERING_BUFFER_PROTECT_H

#include "buffer/fault.h"
#include "buffer/pool.h"

/* What only a pool with guard level protect has. */
struct sri_protection {
    struct sri_mapping kernel_view;
    struct sri_notes *notes; /* one for each slot */
    _Atomic uint64_t degraded_total;
};

/* Whether the memory of a region can be protected: 0 or SR_E_UNSUPPORTED. */
int sri_protect_check(const sr_region *region);

/* Makes the second view and the notes of @pool, whose base and region are known. */
int sri_protect_begin(sr_pool *pool);
/* Unmaps the view, but not in a forked child, which has none. */
void sri_protect_end(sr_pool *pool);

/* Bytes from the program's view to the kernel's. */
static inline ptrdiff_t sri_protect_distance(const sr_pool *pool) {
    return pool->protects ? (char *)pool->protection->kernel_view.base - pool->base : 0;
}

/* The loan is in its slot's list. If the kernel has no mapping left it stays unguarded, counted. */
void sri_protect_loan(sr_pool *pool, struct sri_loan *loan);
/* The loan is still in the list. */
void sri_protect_loan_end(sr_pool *pool, struct sri_loan *loan);
/* The last hold of a quarantined slot has ended. */
void sri_protect_open_slot(sr_pool *pool, const struct sri_slot *slot);

#endif
