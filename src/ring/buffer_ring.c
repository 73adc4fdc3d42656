/* SPDX-License-Identifier: MIT */
#include "ring/buffer_ring.h"

#include "sys/memory.h"

#include <errno.h>

#define ENTRIES_MAX 32768u
#define GROUPS_MAX  65536u

static bool is_valid(const sr_buffer_ring *buffer_ring) {
    return buffer_ring != NULL && buffer_ring->magic == SRI_BUFFER_RING_MAGIC;
}

int sri_buffer_ring_check(const sr_ring *ring, const sr_buffer_ring *buffer_ring) {
    return is_valid(buffer_ring) && buffer_ring->ring == ring ? 0 : SR_E_OBJECT;
}

/* The code that keeps the calling thread from using it, or 0. */
static int owner_check(const sr_buffer_ring *buffer_ring) {
    return is_valid(buffer_ring) ? sri_ring_check(buffer_ring->ring) : SR_E_OBJECT;
}

/* ---- buffers in and out ----------------------------------------------------------------------
 */

/* Shows a buffer to the kernel. */
static void publish(sr_buffer_ring *buffer_ring, void *memory, uint32_t size_bytes, uint16_t id) {
    struct io_uring_buf *entry =
        &buffer_ring->memory->bufs[buffer_ring->tail & (buffer_ring->entries - 1)];
    /* Field by field: the last one of entry 0 is the tail itself. */
    entry->addr = (uintptr_t)memory;
    entry->len = size_bytes;
    entry->bid = id;
    buffer_ring->tail++;
    /* Release: pairs with the kernel's acquire of the tail (io_uring/kbuf.c). */
    atomic_store_explicit((_Atomic uint16_t *)&buffer_ring->memory->tail, buffer_ring->tail,
                          memory_order_release);
}

/* Lends a held buffer, whose handle nobody else knows. */
static void lend(sr_buffer_ring *buffer_ring, sr_buffer buffer) {
    const uint16_t id = buffer_ring->free_ids[--buffer_ring->free_id_count];
    void *memory = NULL;
    const int code =
        sri_loan_begin(buffer_ring->pool, buffer.bits, 0, buffer_ring->pool->size_bytes, true,
                       &buffer_ring->loans[id], &memory);
    SR_CHECK(code == 0);
    publish(buffer_ring, memory, (uint32_t)buffer_ring->pool->size_bytes, id);
}

static uint32_t lent_count(const sr_buffer_ring *buffer_ring) {
    return buffer_ring->entries - buffer_ring->free_id_count;
}

/* There is one buffer more that may be unused: for the operation that has starved longest, or for
 * the one that will be found to have starved before it came. */
static void spare(sr_buffer_ring *buffer_ring) {
    if (buffer_ring->starved_count > 0) {
        struct sri_op *op = &buffer_ring->ring->ops.list[buffer_ring->starved.first];
        sri_buffer_ring_end_starving(buffer_ring->ring, op);
        sri_op_send_or_wait(buffer_ring->ring, op);
    } else {
        buffer_ring->spare_count++;
    }
}

int sri_buffer_ring_put(sr_buffer_ring *buffer_ring, sr_buffer buffer) {
    sr_pool *pool = buffer_ring->pool;
    struct sri_slot *slot = sri_pool_find(pool, buffer.bits);
    if (slot == NULL) {
        return sri_pool_find_error(pool, buffer.bits);
    }
    if (slot->state != SRI_SLOT_HELD) {
        return SR_E_IN_FLIGHT;
    }
    if (buffer_ring->free_id_count == 0) {
        return SR_E_FULL;
    }
    const int code = sri_pool_renew(pool, slot);
    if (code < 0 && code != SR_E_OVERRUN) {
        return code;
    }
    lend(buffer_ring, (sr_buffer){slot->handle});
    spare(buffer_ring);
    return code;
}

static void id_free(sr_buffer_ring *buffer_ring, uint32_t id) {
    buffer_ring->loans[id].slot = SRI_SLOT_NONE;
    buffer_ring->free_ids[buffer_ring->free_id_count++] = (uint16_t)id;
}

sr_buffer sri_buffer_ring_take(sr_buffer_ring *buffer_ring, uint32_t id, uint32_t written_bytes) {
    if (id >= buffer_ring->entries || buffer_ring->loans[id].slot == SRI_SLOT_NONE) {
        return SR_BUFFER_NONE;
    }
    const struct sri_slot *slot = &buffer_ring->pool->slots[buffer_ring->loans[id].slot];
    const bool quarantined = slot->state == SRI_SLOT_QUARANTINED;
    const sr_buffer buffer = {quarantined ? 0 : slot->handle};
    sri_loan_end(buffer_ring->pool, &buffer_ring->loans[id], written_bytes);
    id_free(buffer_ring, id);
    if (buffer_ring->spare_count > lent_count(buffer_ring)) {
        buffer_ring->spare_count = lent_count(buffer_ring);
    }
    buffer_ring->taken_total++;
    return buffer;
}

/* ---- operations that wait for buffers --------------------------------------------------------
 */

/* Whether only the caller can end its wait. A deadline keeps its time when it has passed. */
static bool is_helpless(const struct sri_op *op) {
    return op->cold == NULL || op->cold->deadline.key == 0;
}

void sri_buffer_ring_starve(sr_ring *ring, struct sri_op *op) {
    sr_buffer_ring *buffer_ring = op->armed.buffer_ring;
    sri_op_move(op, SRI_OP_STARVED);
    sri_op_list_append(&ring->ops, &buffer_ring->starved, op);
    buffer_ring->starved_count++;
    buffer_ring->starved_total++;
    ring->starved_count++;
    ring->helpless_count += is_helpless(op);
    ring->stats.starved_total++;
    if (buffer_ring->spare_count > 0) {
        /* Each spare buffer is worth one try, so this comes to an end even if the kernel keeps one
         * for an operation that does not complete. */
        buffer_ring->spare_count--;
        spare(buffer_ring);
    }
}

void sri_buffer_ring_op_ended(sr_buffer_ring *buffer_ring) {
    buffer_ring->op_count--;
    if (buffer_ring->spare_count < lent_count(buffer_ring)) {
        spare(buffer_ring);
    }
}

void sri_buffer_ring_end_starving(sr_ring *ring, struct sri_op *op) {
    sr_buffer_ring *buffer_ring = op->armed.buffer_ring;
    sri_op_list_remove(&ring->ops, &buffer_ring->starved, op);
    buffer_ring->starved_count--;
    ring->starved_count--;
    ring->helpless_count -= is_helpless(op);
}

/* ---- when the ring moves ---------------------------------------------------------------------
 */

uint32_t sri_buffer_rings_of(const sr_ring *ring, const sr_pool *pool) {
    uint32_t count = 0;
    for (const sr_buffer_ring *each = ring->buffer_rings; each != NULL; each = each->next) {
        count += each->pool == pool;
    }
    return count;
}

void sri_buffer_rings_take_over(sr_ring *ring, uint64_t owner_key) {
    for (sr_buffer_ring *each = ring->buffer_rings; each != NULL; each = each->next) {
        for (uint32_t id = 0; id < each->entries; id++) {
            if (each->loans[id].slot != SRI_SLOT_NONE) {
                struct sri_slot *slot = &each->pool->slots[each->loans[id].slot];
                atomic_store_explicit(&slot->holder_key, owner_key, memory_order_relaxed);
            }
        }
    }
}

static int register_again(sr_buffer_ring *buffer_ring) {
    const struct sri_queue *queue = &buffer_ring->ring->queue;
    const sr_pool *pool = buffer_ring->pool;
    buffer_ring->tail = 0; /* where a new registration begins to take */
    for (uint32_t id = 0; id < buffer_ring->entries; id++) {
        if (buffer_ring->loans[id].slot != SRI_SLOT_NONE) {
            publish(buffer_ring, pool->slots[buffer_ring->loans[id].slot].kernel_memory,
                    (uint32_t)pool->size_bytes, (uint16_t)id);
        }
    }
    atomic_store_explicit((_Atomic uint16_t *)&buffer_ring->memory->tail, buffer_ring->tail,
                          memory_order_release);
    return queue->backend->queue_add_buffer_ring(&buffer_ring->ring->queue, buffer_ring->group,
                                                 buffer_ring->memory, buffer_ring->entries);
}

int sri_buffer_rings_register(sr_ring *ring) {
    int code = 0;
    for (sr_buffer_ring *each = ring->buffer_rings; each != NULL && code == 0; each = each->next) {
        code = register_again(each);
    }
    return code;
}

/* ---- when the ring goes ----------------------------------------------------------------------
 */

void sri_buffer_rings_forget_starved(sr_ring *ring) {
    for (sr_buffer_ring *each = ring->buffer_rings; each != NULL; each = each->next) {
        each->starved.first = SRI_INDEX32_NONE;
        each->starved_count = 0;
    }
    ring->starved_count = 0;
    ring->helpless_count = 0;
}

uint64_t sri_buffer_rings_bytes(const sr_ring *ring) {
    uint64_t bytes = 0;
    for (const sr_buffer_ring *each = ring->buffer_rings; each != NULL; each = each->next) {
        bytes += (uint64_t)lent_count(each) * each->pool->size_bytes;
    }
    return bytes;
}

static void let_pool_go(sr_buffer_ring *buffer_ring) {
    if (buffer_ring->keeps_pool) {
        atomic_fetch_sub(&buffer_ring->pool->rings_attached, 1);
        buffer_ring->keeps_pool = false;
    }
}

void sri_buffer_rings_quarantine(sr_ring *ring) {
    for (sr_buffer_ring *each = ring->buffer_rings; each != NULL; each = each->next) {
        for (uint32_t id = 0; id < each->entries; id++) {
            struct sri_loan *loan = &each->loans[id];
            if (loan->slot == SRI_SLOT_NONE) {
                continue;
            }
            if (ring->lingers) {
                sri_loan_quarantine(each->pool, loan);
            } else {
                sri_loan_orphan(each->pool, loan);
            }
        }
        each->orphaned = !ring->lingers;
        let_pool_go(each);
    }
}

/* Ends the loan of a buffer that the kernel has had back to the end. */
static void return_buffer(sr_buffer_ring *buffer_ring, struct sri_loan *loan) {
    if (buffer_ring->orphaned) {
        sri_loan_orphan_end(buffer_ring->pool, loan->slot);
        return;
    }
    const struct sri_slot *slot = &buffer_ring->pool->slots[loan->slot];
    const sr_buffer buffer = {slot->handle};
    const bool quarantined = slot->state == SRI_SLOT_QUARANTINED;
    sri_loan_end(buffer_ring->pool, loan, 0);
    if (!quarantined) {
        const int code = sr_pool_release(buffer_ring->pool, buffer);
        SR_CHECK(code == 0 || code == SR_E_OVERRUN); /* which the pool counts */
    }
}

/* Whole, or as far as its creation came. */
static void end(sr_buffer_ring *buffer_ring) {
    const sr_ring *ring = buffer_ring->ring;
    const bool has_ids = buffer_ring->loans != NULL && buffer_ring->free_ids != NULL;
    if (!sri_owner_is_forked(ring->owner_key)) {
        for (uint32_t id = 0; has_ids && id < buffer_ring->entries; id++) {
            if (buffer_ring->loans[id].slot != SRI_SLOT_NONE) {
                return_buffer(buffer_ring, &buffer_ring->loans[id]);
            }
        }
        if (buffer_ring->memory != NULL) {
            ring->queue.backend->unmap(&buffer_ring->mapping); /* a child did not inherit it */
        }
    }
    let_pool_go(buffer_ring);
    buffer_ring->magic = 0;
    sri_release(buffer_ring->loans);
    sri_release(buffer_ring->free_ids);
    sri_release(buffer_ring);
}

void sri_buffer_rings_end(sr_ring *ring) {
    while (ring->buffer_rings != NULL) {
        sr_buffer_ring *gone = ring->buffer_rings;
        ring->buffer_rings = gone->next;
        end(gone);
    }
}

/* ---- create and destroy ----------------------------------------------------------------------
 */

static bool group_is_used(const sr_ring *ring, uint32_t group) {
    const sr_buffer_ring *each = ring->buffer_rings;
    while (each != NULL && each->group != group) {
        each = each->next;
    }
    return each != NULL;
}

static int bookkeeping_allocate(sr_buffer_ring *buffer_ring) {
    const struct sri_backend *backend = buffer_ring->ring->queue.backend;
    const uint32_t entries = buffer_ring->entries;
    const size_t bytes = entries * sizeof(struct io_uring_buf);
    buffer_ring->loans = sri_allocate(entries, sizeof *buffer_ring->loans);
    buffer_ring->free_ids = sri_allocate(entries, sizeof *buffer_ring->free_ids);
    if (buffer_ring->loans == NULL || buffer_ring->free_ids == NULL) {
        return -ENOMEM;
    }
    for (uint32_t id = 0; id < entries; id++) {
        id_free(buffer_ring, entries - 1 - id);
    }
    const size_t whole_pages = (bytes + SRI_PAGE_BYTES - 1) & ~(SRI_PAGE_BYTES - 1);
    const struct sri_map_options options = {
        .size_bytes = whole_pages, .alignment_bytes = SRI_PAGE_BYTES, .view_of = -1};
    const int code = backend->map(&options, &buffer_ring->mapping);
    if (code == 0) {
        buffer_ring->memory = buffer_ring->mapping.base;
    }
    return code;
}

static int fill(sr_buffer_ring *buffer_ring, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        sr_buffer buffer;
        const int code = sr_pool_acquire(buffer_ring->pool, 1, &buffer);
        if (code < 0) {
            return code;
        }
        lend(buffer_ring, buffer);
        buffer_ring->spare_count++;
    }
    return 0;
}

static int create(sr_ring *ring, sr_pool *pool, const sr_buffer_ring_options *options,
                  sr_buffer_ring **out_buffer_ring) {
    uint32_t group = 0;
    while (group < GROUPS_MAX && group_is_used(ring, group)) {
        group++;
    }
    sr_buffer_ring *buffer_ring = group < GROUPS_MAX ? sri_allocate(1, sizeof *buffer_ring) : NULL;
    if (buffer_ring == NULL) {
        return group < GROUPS_MAX ? -ENOMEM : SR_E_FULL;
    }
    *buffer_ring = (sr_buffer_ring){
        .group = (uint16_t)group,
        .entries = options->entries,
        .ring = ring,
        .pool = pool,
        .starved.first = SRI_INDEX32_NONE,
    };
    int code = bookkeeping_allocate(buffer_ring);
    if (code == 0) {
        code = fill(buffer_ring, options->fill);
    }
    if (code == 0) {
        code = ring->queue.backend->queue_add_buffer_ring(&ring->queue, buffer_ring->group,
                                                          buffer_ring->memory, options->entries);
        code = code == -EINVAL ? SR_E_UNSUPPORTED : code;
    }
    if (code < 0) {
        end(buffer_ring);
        return code;
    }
    atomic_fetch_add(&pool->rings_attached, 1);
    buffer_ring->keeps_pool = true;
    buffer_ring->magic = SRI_BUFFER_RING_MAGIC;
    buffer_ring->next = ring->buffer_rings;
    ring->buffer_rings = buffer_ring;
    *out_buffer_ring = buffer_ring;
    return 0;
}

static int create_check(const sr_ring *ring, const sr_pool *pool) {
    const int code = sri_ring_check(ring);
    if (code < 0) {
        return code;
    }
    if (!sri_pool_is_valid(pool)) {
        return SR_E_OBJECT;
    }
    if (pool->owner_key != ring->owner_key) {
        return SR_E_WRONG_THREAD;
    }
    return ring->in_callback ? SR_E_STATE : 0;
}

int sr_buffer_ring_create(sr_ring *ring, sr_pool *pool, const sr_buffer_ring_options *options,
                          sr_buffer_ring **out_buffer_ring) {
    sr_buffer_ring_options given = SR_BUFFER_RING_OPTIONS_INIT;
    if (out_buffer_ring == NULL) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    *out_buffer_ring = NULL;
    int code = create_check(ring, pool);
    if (code == 0 && !sri_options_take(&given, sizeof given, options)) {
        code = -EINVAL;
    }
    if (given.fill == UINT32_MAX) {
        given.fill = given.entries;
    }
    if (code == 0 && (given.entries == 0 || given.entries > ENTRIES_MAX ||
                      (given.entries & (given.entries - 1)) != 0 || given.fill > given.entries)) {
        code = SR_E_BOUNDS;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    return create(ring, pool, &given, out_buffer_ring);
}

int sr_buffer_ring_destroy(sr_buffer_ring **buffer_ring) {
    if (buffer_ring == NULL) {
        return SRI_MISUSE(SR_E_OBJECT, 0);
    }
    sr_buffer_ring *const gone = *buffer_ring;
    if (gone == NULL) {
        return 0;
    }
    int code = owner_check(gone);
    if (code == 0 && gone->op_count > 0) {
        code = SR_E_IN_FLIGHT;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    sr_ring *ring = gone->ring;
    /* Nothing receives from it, so the kernel does not write either way; a registration that
     * stayed would only name memory that nobody selects. */
    code = ring->queue.backend->queue_remove_buffer_ring(&ring->queue, gone->group);
    if (code < 0) {
        return code;
    }
    sr_buffer_ring **link = &ring->buffer_rings;
    while (*link != gone) {
        link = &(*link)->next;
    }
    *link = gone->next;
    end(gone);
    *buffer_ring = NULL;
    return 0;
}

int sr_buffer_ring_provide(sr_buffer_ring *buffer_ring, sr_buffer buffer) {
    int code = owner_check(buffer_ring);
    if (code == 0) {
        code = sri_buffer_ring_put(buffer_ring, buffer);
    }
    return code == 0 || code == SR_E_FULL ? code : SRI_MISUSE(code, buffer.bits);
}

int sr_buffer_ring_get_stats(sr_buffer_ring *buffer_ring, sr_buffer_ring_stats *out_stats) {
    sr_buffer_ring_stats stats = SR_BUFFER_RING_STATS_INIT;
    if (out_stats == NULL || !sri_stats_size_is_valid(out_stats->size)) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    const int code = owner_check(buffer_ring);
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    stats.entries = buffer_ring->entries;
    stats.buffers = lent_count(buffer_ring);
    stats.operations = buffer_ring->op_count;
    stats.starved = buffer_ring->starved_count;
    stats.taken_total = buffer_ring->taken_total;
    stats.starved_total = buffer_ring->starved_total;
    sri_stats_give(out_stats, &stats, sizeof stats);
    return 0;
}
