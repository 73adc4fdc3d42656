/* SPDX-License-Identifier: MIT */
#include "buffer/layout.h"

#include "buffer/guard.h"
#include "buffer/protect.h"

static size_t stride_for(const sr_pool_options *options, uint32_t guard) {
    const size_t natural = options->buffer_size_bytes >= SRI_PAGE_BYTES ? SRI_PAGE_BYTES : 64;
    const size_t wanted = options->alignment_bytes != 0 ? options->alignment_bytes : natural;
    const size_t alignment = guard == SR_GUARD_PROTECT ? SRI_PAGE_BYTES : wanted;
    const size_t canary = guard == SR_GUARD_POISON ? SRI_CANARY_BYTES : 0;
    return (options->buffer_size_bytes + canary + alignment - 1) & ~(alignment - 1);
}

static bool fits(const sr_pool_options *options, uint32_t guard) {
    return stride_for(options, guard) <= SRI_REGION_SIZE_MAX / options->buffer_count;
}

bool sri_layout_fits(const sr_pool_options *options) {
    return fits(options, sri_guard_choose(options->guard));
}

/* A free buffer is poisoned whole; its canary follows it. */
static void slots_prepare(sr_pool *pool) {
    const ptrdiff_t distance = sri_protect_distance(pool);
    pool->free_first = 0;
    for (uint32_t i = 0; i < pool->slot_count; i++) {
        struct sri_slot *slot = &pool->slots[i];
        slot->index = i;
        slot->next = i + 1 < pool->slot_count ? i + 1 : SRI_SLOT_NONE;
        slot->memory = pool->base + (size_t)i * pool->stride_bytes;
        slot->kernel_memory = slot->memory + distance;
        if (pool->canaries) {
            sri_guard_canary_write(slot->memory + pool->size_bytes);
        }
        if (pool->poisons) {
            sri_guard_poison(slot->memory, pool->stride_bytes);
        }
    }
}

static int region_claim(sr_pool *pool, sr_region *region) {
    const size_t needed = (size_t)pool->slot_count * pool->stride_bytes;
    pool->owns_region = region == NULL;
    if (region == NULL) {
        sr_region_options options = SR_REGION_OPTIONS_INIT;
        options.flags = pool->protects ? SR_REGION_SHAREABLE : 0;
        const int code = sr_region_create(needed, &options, &region);
        if (code < 0) {
            return code;
        }
    } else if (region->mapping.size_bytes < needed) {
        return SR_E_BOUNDS;
    }
    if (atomic_exchange(&region->in_use, true)) {
        return SR_E_STATE;
    }
    pool->region = region;
    pool->base = region->mapping.base;
    return 0;
}

static void region_let_go(sr_pool *pool) {
    sr_region *region = pool->region;
    atomic_store(&region->in_use, false);
    if (pool->owns_region) {
        const int code = sr_region_destroy(&region);
        SR_CHECK(code == 0);
    }
    pool->region = NULL;
}

static void guard_apply(sr_pool *pool, const sr_pool_options *options, uint32_t guard) {
    pool->guard = guard;
    pool->canaries = guard == SR_GUARD_POISON;
    pool->poisons = pool->canaries && sri_guard_has_asan();
    pool->protects = guard == SR_GUARD_PROTECT;
    pool->watches_loans = pool->poisons || pool->protects || sri_guard_has_valgrind();
    pool->stride_bytes = stride_for(options, guard);
}

/* Memory that is mapped twice. */
static int memory_claim_protected(sr_pool *pool, sr_region *region) {
    int code = region_claim(pool, region);
    if (code == 0) {
        code = sri_protect_begin(pool);
        if (code < 0) {
            region_let_go(pool);
        }
    }
    return code;
}

/* Memory, and the guard that is possible with it: instead of protect there may be poison. */
static int memory_claim(sr_pool *pool, sr_region *region, const sr_pool_options *options) {
    const uint32_t guard = sri_guard_choose(options->guard);
    guard_apply(pool, options, guard);
    if (guard == SR_GUARD_PROTECT) {
        int code = region != NULL ? sri_protect_check(region) : 0;
        if (code == 0) {
            code = memory_claim_protected(pool, region);
        }
        if (code == 0 || code == SR_E_STATE || code == SR_E_BOUNDS) {
            return code;
        }
        pool->guard_error = code;
        guard_apply(pool, options, SR_GUARD_POISON);
    }
    return fits(options, pool->guard) ? region_claim(pool, region) : SR_E_BOUNDS;
}

int sri_layout_begin(sr_pool *pool, sr_region *region, const sr_pool_options *options) {
    const int code = memory_claim(pool, region, options);
    if (code == 0) {
        slots_prepare(pool);
    }
    return code;
}

void sri_layout_end(sr_pool *pool) {
    if (!sri_pool_is_forked(pool) && pool->canaries) {
        sri_guard_unpoison(pool->base, (size_t)pool->slot_count * pool->stride_bytes);
    }
    if (pool->protects) {
        sri_protect_end(pool);
    }
    region_let_go(pool);
}
