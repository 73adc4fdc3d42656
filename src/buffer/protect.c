/* SPDX-License-Identifier: MIT */
#include "buffer/protect.h"

#include "sys/memory.h"

#include <errno.h>

/* Whole pages of a buffer, as offsets in it. */
struct cover {
    size_t first;
    size_t last; /* exclusive */
};

int sri_protect_check(const sr_region *region) {
    /* Huge pages can be protected only as a whole: more than one buffer, as a rule. */
    return region->mapping.fd >= 0 && region->mapping.outcome.pages != SR_PAGES_HUGE
               ? 0
               : SR_E_UNSUPPORTED;
}

int sri_protect_begin(sr_pool *pool) {
    const struct sri_map_options options = {
        .size_bytes = pool->region->mapping.size_bytes,
        .alignment_bytes = SRI_PAGE_BYTES,
        .view_of = pool->region->mapping.fd,
    };
    struct sri_protection *protection = sri_allocate(1, sizeof *protection);
    struct sri_notes *notes = sri_allocate(pool->slot_count, sizeof *notes);
    int code = protection != NULL && notes != NULL ? 0 : -ENOMEM;
    if (code == 0) {
        code = pool->backend->map(&options, &protection->kernel_view);
    }
    if (code < 0) {
        sri_release(notes);
        sri_release(protection);
        return code;
    }
    protection->notes = notes;
    pool->protection = protection;
    sri_fault_watch(pool);
    return 0;
}

void sri_protect_end(sr_pool *pool) {
    struct sri_protection *protection = pool->protection;
    sri_fault_forget(pool);
    if (!sri_pool_is_forked(pool)) {
        pool->backend->unmap(&protection->kernel_view);
    }
    pool->protection = NULL;
    sri_release(protection->notes);
    sri_release(protection);
}

static size_t page_up(size_t offset) {
    return (offset + SRI_PAGE_BYTES - 1) & ~(SRI_PAGE_BYTES - 1);
}

/* The pages that hold no byte of the buffer outside of the loan. What follows the buffer in its
 * last page is nobody's. */
static struct cover cover_of(const sr_pool *pool, const struct sri_loan *loan) {
    const size_t last =
        loan->end == pool->size_bytes ? page_up(loan->end) : loan->end & ~(SRI_PAGE_BYTES - 1);
    return (struct cover){page_up(loan->begin), loan->end > loan->begin ? last : 0};
}

static int set_rights(const sr_pool *pool, const struct sri_slot *slot, struct cover cover,
                      enum sri_rights rights) {
    return pool->backend->protect(slot->memory + cover.first, cover.last - cover.first, rights);
}

/*
 * Pages cannot be opened one by one when the process has no mapping left, because that would part a
 * closed range in two. The pool as a whole can: its ends part the mappings already. Loans in flight
 * lose their guard.
 */
static SRI_COLD void open_pool(sr_pool *pool) {
    const int code = pool->backend->protect(
        pool->base, (size_t)pool->slot_count * pool->stride_bytes, SRI_RIGHTS_ALL);
    SR_CHECK(code == 0);
    atomic_fetch_add(&pool->protection->degraded_total, 1);
}

static void open_pages(sr_pool *pool, const struct sri_slot *slot, struct cover cover) {
    if (set_rights(pool, slot, cover, SRI_RIGHTS_ALL) < 0) {
        open_pool(pool);
    }
}

/* Opens what no other guarded loan covers. */
static void open_uncovered(sr_pool *pool, const struct sri_slot *slot, const struct sri_loan *loan,
                           struct cover cover) {
    size_t at = cover.first;
    while (at < cover.last) {
        size_t covered_until = at;
        size_t open_until = cover.last;
        for (const struct sri_loan *other = slot->loans; other != NULL; other = other->next) {
            const struct cover its = cover_of(pool, other);
            if (other == loan || !other->guarded || its.last <= at) {
                continue;
            }
            if (its.first <= at && its.last > covered_until) {
                covered_until = its.last;
            } else if (its.first > at && its.first < open_until) {
                open_until = its.first;
            }
        }
        if (covered_until == at) {
            open_pages(pool, slot, (struct cover){at, open_until});
        }
        at = covered_until > at ? covered_until : open_until;
    }
}

void sri_protect_loan(sr_pool *pool, struct sri_loan *loan) {
    const struct sri_slot *slot = &pool->slots[loan->slot];
    const struct cover cover = cover_of(pool, loan);
    loan->guarded = false;
    if (cover.first >= cover.last) {
        return;
    }
    const enum sri_rights rights = loan->writer ? SRI_RIGHTS_NONE : SRI_RIGHTS_READ;
    if (set_rights(pool, slot, cover, rights) == 0) {
        loan->guarded = true;
        return;
    }
    atomic_fetch_add(&pool->protection->degraded_total, 1);
    /* The kernel may have closed a part of the range before it failed. */
    open_uncovered(pool, slot, loan, cover);
}

void sri_protect_loan_end(sr_pool *pool, struct sri_loan *loan) {
    const struct sri_slot *slot = &pool->slots[loan->slot];
    sri_notes_drop(&pool->protection->notes[loan->slot], loan);
    if (loan->guarded && slot->state != SRI_SLOT_QUARANTINED) {
        open_uncovered(pool, slot, loan, cover_of(pool, loan));
    }
}

void sri_protect_open_slot(sr_pool *pool, const struct sri_slot *slot) {
    sri_notes_clear(&pool->protection->notes[slot->index]);
    open_pages(pool, slot, (struct cover){0, pool->stride_bytes});
}
