/* SPDX-License-Identifier: MIT */
#include "buffer/pool.h"

#include "buffer/guard.h"
#include "buffer/layout.h"
#include "buffer/protect.h"
#include "core/check.h"
#include "sys/memory.h"

#include <errno.h>

#define BUFFER_SIZE_MIN ((size_t)64)
#define BUFFER_SIZE_MAX ((size_t)1 << 30)
#define ACCOUNTS_MAX    65536u

/* ---- life ------------------------------------------------------------------------------------ */

static bool options_are_valid(const sr_pool_options *options) {
    const uint32_t alignment = options->alignment_bytes;
    return options->buffer_size_bytes >= BUFFER_SIZE_MIN &&
           options->buffer_size_bytes <= BUFFER_SIZE_MAX && options->buffer_count >= 1 &&
           options->buffer_count <= SRI_HANDLE_OBJECTS_MAX && options->accounts_max >= 1 &&
           options->accounts_max <= ACCOUNTS_MAX && sri_guard_choose(options->guard) != 0 &&
           (alignment == 0 ||
            (alignment >= 64 && alignment <= SRI_PAGE_BYTES && (alignment & (alignment - 1)) == 0));
}

static int bookkeeping_allocate(sr_pool *pool, const sr_pool_options *options) {
    const uint32_t entry_count = sri_handle_entries_for(options->buffer_count);
    void *entries = sri_allocate(1, sri_handle_memory_for(entry_count));
    pool->slots = sri_allocate(options->buffer_count, sizeof *pool->slots);
    int code = sri_accounts_init(&pool->accounts, options->accounts_max, pool->backend->random());
    if (entries == NULL || pool->slots == NULL) {
        code = -ENOMEM;
    }
    if (code == 0) {
        code = sri_handle_table_init(&pool->handles, SRI_KIND_BUFFER, entries, entry_count);
    }
    if (code < 0) {
        sri_release(entries);
    }
    return code;
}

static void bookkeeping_release(sr_pool *pool) {
    void *handles_memory = pool->handles.owners;
    sri_handle_table_deinit(&pool->handles);
    sri_release(handles_memory);
    sri_release(pool->slots);
    sri_accounts_deinit(&pool->accounts);
    sri_release(pool);
}

int sr_pool_create(sr_region *region, const sr_pool_options *options, sr_pool **out_pool) {
    sr_pool_options given = SR_POOL_OPTIONS_INIT;
    if (out_pool == NULL) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    *out_pool = NULL;
    if (region != NULL && !sri_region_is_valid(region)) {
        return SRI_MISUSE(SR_E_OBJECT, 0);
    }
    if (!sri_options_take(&given, sizeof given, options)) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    if (!options_are_valid(&given) || !sri_layout_fits(&given)) {
        return SRI_MISUSE(SR_E_BOUNDS, 0);
    }
    const uint64_t key = sri_owner_key_make();
    sr_pool *pool = key != 0 ? sri_allocate(1, sizeof *pool) : NULL;
    if (pool == NULL) {
        return -ENOMEM;
    }
    pool->backend = sri_backend();
    pool->owner_key = key;
    pool->size_bytes = given.buffer_size_bytes;
    pool->slot_count = given.buffer_count;
    atomic_init(&pool->remote_first, SRI_SLOT_NONE);
    int code = bookkeeping_allocate(pool, &given);
    if (code == 0) {
        code = sri_layout_begin(pool, region, &given);
    }
    if (code < 0) {
        bookkeeping_release(pool);
        return code == SR_E_BOUNDS || code == SR_E_STATE ? SRI_MISUSE(code, 0) : code;
    }
    pool->magic = SRI_POOL_MAGIC;
    *out_pool = pool;
    return 0;
}

static void pool_free(sr_pool *pool) {
    sri_layout_end(pool);
    pool->magic = 0;
    bookkeeping_release(pool);
}

int sr_pool_destroy(sr_pool **pool) {
    if (pool == NULL) {
        return SRI_MISUSE(SR_E_OBJECT, 0);
    }
    sr_pool *const gone = *pool;
    if (gone == NULL) {
        return 0;
    }
    if (!sri_pool_is_valid(gone)) {
        return SRI_MISUSE(SR_E_OBJECT, 0);
    }
    const bool forked = sri_pool_is_forked(gone);
    if (!forked && !sri_pool_is_mine(gone) && sri_owner_is_alive(gone->owner_key)) {
        return SRI_MISUSE(SR_E_WRONG_THREAD, 0);
    }
    if (atomic_load(&gone->rings_attached) != 0) {
        return SRI_MISUSE(SR_E_STATE, 0);
    }
    /* Not the child's business: its parent has the memory that the kernel writes to. */
    if (!forked && atomic_load(&gone->quarantined_count) != 0) {
        return SR_E_IN_FLIGHT;
    }
    pool_free(gone);
    *pool = NULL;
    return 0;
}

/* ---- acquire and release --------------------------------------------------------------------- */

/* Puts a slot that nobody holds or lends back; the owner only. */
static inline void slot_reclaim(sr_pool *pool, struct sri_slot *slot) {
    sri_handle_release(&pool->handles, slot->handle);
    sri_account_credit(&pool->accounts, slot->account, pool->size_bytes);
    slot->next = pool->free_first;
    pool->free_first = slot->index;
}

static void remote_push(sr_pool *pool, struct sri_slot *slot) {
    uint32_t first = atomic_load_explicit(&pool->remote_first, memory_order_relaxed);
    do {
        slot->next = first;
        /* Release: pairs with the exchange in remote_drain(), which hands over the slot's fields.
         */
    } while (!atomic_compare_exchange_weak_explicit(&pool->remote_first, &first, slot->index,
                                                    memory_order_release, memory_order_relaxed));
}

static void remote_drain(sr_pool *pool) {
    uint32_t index =
        atomic_exchange_explicit(&pool->remote_first, SRI_SLOT_NONE, memory_order_acquire);
    while (index != SRI_SLOT_NONE) {
        struct sri_slot *slot = &pool->slots[index];
        index = slot->next;
        slot_reclaim(pool, slot);
        pool->reclaimed_remote_total++;
    }
}

/* The code that keeps the calling thread from acquiring, or 0. */
static inline int owner_check(const sr_pool *pool) {
    if (!sri_pool_is_valid(pool)) {
        return SR_E_OBJECT;
    }
    if (SRI_UNLIKELY(!sri_pool_is_mine(pool))) {
        return sri_owner_error(pool->owner_key);
    }
    return 0;
}

/* No free slot in the owner's list. Returns 0 if other threads had given some back. */
static SRI_COLD int refill(sr_pool *pool) {
    remote_drain(pool);
    if (pool->free_first != SRI_SLOT_NONE) {
        return 0;
    }
    pool->refused_full_total++;
    return SR_E_FULL;
}

static SRI_COLD int refuse_charge(sr_pool *pool) {
    pool->refused_limit_total++;
    return SR_E_LIMIT;
}

/* No handle is left: every owner number of the process is in use or worn (docs/adr/0001). */
static SRI_COLD int refuse_handle(sr_pool *pool, uint32_t account) {
    sri_account_credit(&pool->accounts, account, pool->size_bytes);
    pool->refused_full_total++;
    return SR_E_FULL;
}

static SRI_COLD void guard_on_acquire(const sr_pool *pool, const struct sri_slot *slot) {
    if (pool->poisons) {
        sri_guard_unpoison(slot->memory, pool->size_bytes);
    }
}

/* Whether there is a buffer for the calling thread: 0 or why not. */
static inline int acquire_check(sr_pool *pool, size_t size_bytes) {
    const int code = owner_check(pool);
    if (SRI_UNLIKELY(code < 0)) {
        return code;
    }
    if (SRI_UNLIKELY(size_bytes - 1 >= pool->size_bytes)) {
        return SR_E_BOUNDS;
    }
    return SRI_LIKELY(pool->free_first != SRI_SLOT_NONE) ? 0 : refill(pool);
}

/* Takes the first free slot, which must be there. */
static inline int acquire(sr_pool *pool, uint32_t account, sr_buffer *out_buffer) {
    if (SRI_UNLIKELY(!sri_account_charge(&pool->accounts, account, pool->size_bytes))) {
        return refuse_charge(pool);
    }
    const uint64_t handle = sri_handle_acquire(&pool->handles, SRI_KIND_BUFFER, pool->free_first);
    if (SRI_UNLIKELY(handle == 0)) {
        return refuse_handle(pool, account);
    }
    struct sri_slot *slot = &pool->slots[pool->free_first];
    pool->free_first = slot->next;
    slot->handle = handle;
    slot->account = account;
    atomic_store_explicit(&slot->holder_key, sri_owner_key(), memory_order_relaxed);
    sri_slot_move(slot, SRI_SLOT_HELD);
    out_buffer->bits = handle;
    if (SRI_UNLIKELY(pool->canaries)) {
        guard_on_acquire(pool, slot);
    }
    return 0;
}

/* Not misuse: a program meets these in the normal course. */
static inline bool is_expected(int code) {
    return code == SR_E_FULL || code == SR_E_LIMIT;
}

int sr_pool_acquire(sr_pool *pool, size_t size_bytes, sr_buffer *out_buffer) {
    if (SRI_UNLIKELY(out_buffer == NULL)) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    out_buffer->bits = 0;
    int code = acquire_check(pool, size_bytes);
    if (SRI_LIKELY(code == 0)) {
        code = acquire(pool, 0, out_buffer);
    }
    return SRI_LIKELY(code == 0) || is_expected(code) ? code : SRI_MISUSE(code, 0);
}

int sr_pool_acquire_for(sr_pool *pool, size_t size_bytes, uint32_t account, sr_buffer *out_buffer) {
    if (out_buffer == NULL) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    out_buffer->bits = 0;
    int code = acquire_check(pool, size_bytes);
    if (code == 0) {
        const uint32_t place = sri_accounts_open(&pool->accounts, account);
        code = place != SRI_INDEX_NONE ? acquire(pool, place, out_buffer) : refuse_charge(pool);
    }
    return code == 0 || is_expected(code) ? code : SRI_MISUSE(code, 0);
}

/* Returns 0, or SR_E_OVERRUN if the canary behind a buffer was broken; it is whole afterwards. */
static SRI_COLD int check_canary(sr_pool *pool, const struct sri_slot *slot) {
    char *canary = slot->memory + pool->size_bytes;
    if (sri_guard_canary_is_whole(canary)) {
        return 0;
    }
    sri_guard_canary_write(canary);
    atomic_fetch_add(&pool->overruns_total, 1);
    return SR_E_OVERRUN;
}

int sri_pool_renew(sr_pool *pool, struct sri_slot *slot) {
    const uint64_t handle = sri_handle_acquire(&pool->handles, SRI_KIND_BUFFER, slot->index);
    if (handle == 0) {
        return SR_E_FULL;
    }
    sri_handle_release(&pool->handles, slot->handle);
    slot->handle = handle;
    return pool->canaries ? check_canary(pool, slot) : 0;
}

/* Canary and poison of a buffer that is given back. Returns 0 or SR_E_OVERRUN. */
static SRI_COLD int guard_on_release(sr_pool *pool, const struct sri_slot *slot) {
    const int code = check_canary(pool, slot);
    sri_guard_poison(slot->memory, pool->size_bytes);
    return code;
}

void sri_pool_give_up(sr_pool *pool, struct sri_slot *slot) {
    if (sri_pool_is_mine(pool)) {
        slot_reclaim(pool, slot);
    } else {
        atomic_fetch_add_explicit(&pool->released_remote_total, 1, memory_order_relaxed);
        remote_push(pool, slot);
    }
}

int sri_pool_find_error(const sr_pool *pool, uint64_t buffer) {
    if (sri_pool_is_forked(pool)) {
        return SR_E_FORKED;
    }
    return sri_handle_is_alive(&pool->handles, buffer) ? SR_E_WRONG_THREAD : SR_E_STALE;
}

/* Stale at once, also while the slot is still on its way. Disowning is atomic: of two threads that
 * both think they hold the buffer one wins. */
static SRI_COLD void release_remotely(sr_pool *pool, struct sri_slot *slot) {
    const bool mine = sri_handle_disown(&pool->handles, slot->handle);
    SR_CHECK(mine);
    sri_pool_give_up(pool, slot);
}

static inline int release(sr_pool *pool, sr_buffer buffer) {
    if (SRI_UNLIKELY(!sri_pool_is_valid(pool))) {
        return SR_E_OBJECT;
    }
    struct sri_slot *slot = sri_pool_find(pool, buffer.bits);
    if (SRI_UNLIKELY(slot == NULL)) {
        return sri_pool_find_error(pool, buffer.bits);
    }
    if (SRI_UNLIKELY(slot->state != SRI_SLOT_HELD)) {
        return SR_E_IN_FLIGHT;
    }
    const int code = SRI_UNLIKELY(pool->canaries) ? guard_on_release(pool, slot) : 0;
    atomic_store_explicit(&slot->holder_key, 0, memory_order_relaxed);
    sri_slot_move(slot, SRI_SLOT_FREE);
    if (SRI_LIKELY(sri_pool_is_mine(pool))) {
        slot_reclaim(pool, slot);
    } else {
        release_remotely(pool, slot);
    }
    return code;
}

int sr_pool_release(sr_pool *pool, sr_buffer buffer) {
    const int code = release(pool, buffer);
    return SRI_LIKELY(code == 0) ? 0 : SRI_MISUSE(code, buffer.bits);
}

/* ---- accounts and stats ------------------------------------------------------------------------
 */

int sr_pool_set_account_limit(sr_pool *pool, uint32_t account, uint64_t limit_bytes) {
    const int code = owner_check(pool);
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    const uint32_t place = sri_accounts_open(&pool->accounts, account);
    if (place == SRI_INDEX_NONE) {
        return SR_E_LIMIT;
    }
    pool->accounts.list[place].limit_bytes = limit_bytes;
    return 0;
}

int sr_pool_account_bytes(sr_pool *pool, uint32_t account, uint64_t *out_bytes) {
    if (out_bytes == NULL) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    *out_bytes = 0;
    const int code = owner_check(pool);
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    const uint32_t place = sri_accounts_find(&pool->accounts, account);
    *out_bytes = place != SRI_INDEX_NONE ? pool->accounts.list[place].bytes : 0;
    return 0;
}

int sr_pool_get_stats(sr_pool *pool, sr_pool_stats *out_stats) {
    sr_pool_stats stats = SR_POOL_STATS_INIT;
    if (out_stats == NULL || !sri_stats_size_is_valid(out_stats->size)) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    const int code = owner_check(pool);
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    /* Quarantine first: a buffer that ends it meanwhile is then counted as free, not twice. */
    stats.quarantined_count = atomic_load(&pool->quarantined_count);
    stats.released_remote_total = atomic_load(&pool->released_remote_total);
    stats.acquired_total = sri_handle_given_total(&pool->handles);
    stats.released_total = sri_handle_ended_total(&pool->handles) +
                           (stats.released_remote_total - pool->reclaimed_remote_total);
    stats.buffer_count = pool->slot_count;
    stats.held_count =
        (uint32_t)(stats.acquired_total - stats.released_total) - stats.quarantined_count;
    stats.free_count = pool->slot_count - stats.held_count - stats.quarantined_count;
    stats.buffer_size_bytes = pool->size_bytes;
    stats.stride_bytes = pool->stride_bytes;
    stats.rings_attached = atomic_load(&pool->rings_attached);
    stats.guard = pool->guard;
    stats.guard_error = pool->guard_error;
    stats.guard_degraded_total =
        pool->protects ? atomic_load(&pool->protection->degraded_total) : 0;
    stats.asan = pool->poisons;
    stats.refused_full_total = pool->refused_full_total;
    stats.refused_limit_total = pool->refused_limit_total;
    stats.overruns_total = atomic_load(&pool->overruns_total);
    sri_stats_give(out_stats, &stats, sizeof stats);
    return 0;
}
