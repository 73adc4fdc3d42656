/* SPDX-License-Identifier: MIT */
/*
 * Handles and the tables that give them out (docs/adr/0001-generation-arithmetic.md).
 *
 *     63    61 60         48 47                                          0
 *     | kind  |   owner     |   serial = generation << index_bits | index |
 *
 * A table has entries; an entry that is in use holds the one handle that is valid for it, so
 * checking a handle is a bounds check and one comparison of all 64 bits. Entries are reused first
 * in, first out, with the next generation; a quarter more entries than objects exist, so that one
 * hot object cannot wear out one entry. An entry whose generations are used up goes on under a
 * further owner number, never wraps.
 *
 * Identity and storage are apart: an entry points to the object's slot, and slots are free to be
 * reused last in, first out, which keeps caches warm.
 *
 * Owner numbers are taken from the process and given back with the first serial that was not used,
 * so that a later table under the same number starts there.
 *
 * Threads: one thread changes a table; any thread may check a handle while the table lives.
 */
#ifndef SAFERING_CORE_HANDLE_H
#define SAFERING_CORE_HANDLE_H

#include "core/check.h"
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum sri_kind {
    SRI_KIND_NONE = 0,
    SRI_KIND_BUFFER = 1,
    SRI_KIND_OP = 2,
    SRI_KIND_FILE = 3,
    SRI_KIND_NODE = 4,
    SRI_KIND_IPC = 5,      /* calls of a channel */
    SRI_KIND_INTERNAL = 6, /* user_data of the library's own requests; never handed out */
    SRI_KIND_FREE = 7      /* marks a free entry; never handed out */
};

#define SRI_HANDLE_KIND_SHIFT  61
#define SRI_HANDLE_OWNER_SHIFT 48
#define SRI_HANDLE_OWNER_MAX   ((1u << (SRI_HANDLE_KIND_SHIFT - SRI_HANDLE_OWNER_SHIFT)) - 1u)
#define SRI_HANDLE_SERIAL_MASK ((UINT64_C(1) << SRI_HANDLE_OWNER_SHIFT) - 1u)
#define SRI_HANDLE_OBJECTS_MAX (UINT32_C(1) << 20)

_Static_assert(SRI_KIND_FREE < (1 << (64 - SRI_HANDLE_KIND_SHIFT)), "kind fits its bits");
_Static_assert(SRI_HANDLE_OWNER_MAX == 8191, "the ADR's arithmetic counts on 8,191 owners");

static inline enum sri_kind sri_handle_kind(uint64_t handle) {
    return (enum sri_kind)(handle >> SRI_HANDLE_KIND_SHIFT);
}

struct sri_handle_entry {
    /* In use: the valid handle. Free: the handle to give out next, with its kind replaced by FREE.
     */
    _Atomic uint64_t handle;
    /* The object's; of a free entry, the last one's, so that it is always inside of the objects'
     * array. */
    _Atomic uint32_t slot;
    uint32_t reserved;
};

_Static_assert(sizeof(struct sri_handle_entry) == 16, "four entries to a cache line");

/* Entries may lag behind by this many owner numbers before the most worn are retired. With natural
 * generations that takes years (docs/adr/0001). */
#define SRI_HANDLE_TABLE_OWNERS_MAX 64

/* Generations of one owner number that a table may give out. */
struct sri_handle_owner_span {
    uint32_t owner;
    uint32_t entry_count; /* entries under this number now */
    uint64_t generation_first;
    uint64_t generation_end;
};

struct sri_handle_table {
    struct sri_handle_entry *entries;
    uint32_t entry_count;
    uint32_t index_mask; /* low bits of a handle that are the entry's index */
    /* Handles of the newest owner number that have a next generation: one subtraction tells. */
    uint64_t newest_base;
    uint64_t newest_span;
    uint32_t *fifo;     /* indices of free entries, first in, first out; index_mask + 1 places */
    uint64_t fifo_head; /* handles given out since the beginning */
    uint64_t fifo_tail; /* entries that were free at some time */
    uint32_t retired_count; /* entries lost because no owner number was left */
    enum sri_kind kind;
    /* Owner numbers in use, oldest first; an entry moves from one to the next as it wears. */
    struct sri_handle_owner_span *owners;
    uint32_t owner_count;
};

/* Entries that a table for @objects_max objects needs, and bytes of memory for so many entries. */
uint32_t sri_handle_entries_for(uint32_t objects_max);
size_t sri_handle_memory_for(uint32_t entry_count);

/* @memory: lends until deinit; sri_handle_memory_for(entry_count) bytes.
 * Returns 0, or SR_E_FULL when the process has no owner number left. */
int sri_handle_table_init(struct sri_handle_table *table, enum sri_kind kind, void *memory,
                          uint32_t entry_count);
void sri_handle_table_deinit(struct sri_handle_table *table);
bool sri_handle_table_is_valid(const struct sri_handle_table *table);

/* Free form of the handle that follows a worn one in its entry; 0 if the entry must be retired. */
SRI_COLD uint64_t sri_handle_next_owner(struct sri_handle_table *table, uint64_t handle);

/* The owner number that tables of this process see in @handle. */
static inline uint32_t sri_handle_owner(uint64_t handle) {
    return (uint32_t)(handle >> SRI_HANDLE_OWNER_SHIFT) & SRI_HANDLE_OWNER_MAX;
}

/* Whether @handle carries one of the table's owner numbers; says nothing about being alive. */
bool sri_handle_table_owns(const struct sri_handle_table *table, uint64_t handle);

static inline uint64_t sri_handle_kind_bits(enum sri_kind kind) {
    return (uint64_t)kind << SRI_HANDLE_KIND_SHIFT;
}

/* Whether @handle is alive: not stale, foreign, forged, none, or of another kind. On any thread. */
static inline bool sri_handle_is_alive(const struct sri_handle_table *table, uint64_t handle) {
    const uint32_t index = (uint32_t)handle & table->index_mask;
    return index < table->entry_count && sri_handle_kind(handle) == table->kind &&
           atomic_load_explicit(&table->entries[index].handle, memory_order_relaxed) == handle;
}

/*
 * The slot that @handle would name if it were alive, always inside of the objects' array. Whether
 * it is alive the caller sees at the object, which keeps its own handle: one comparison, in a cache
 * line that is needed anyway.
 */
static inline uint32_t sri_handle_slot(const struct sri_handle_table *table, uint64_t handle) {
    const uint32_t index = (uint32_t)handle & table->index_mask;
    const struct sri_handle_entry *entry =
        &table->entries[SRI_LIKELY(index < table->entry_count) ? index : 0];
    return atomic_load_explicit(&entry->slot, memory_order_relaxed);
}

/* Returns a new handle that names @slot, or 0 when no entry is free. */
static inline uint64_t sri_handle_acquire(struct sri_handle_table *table, enum sri_kind kind,
                                          uint32_t slot) {
    if (SRI_UNLIKELY(table->fifo_head == table->fifo_tail)) {
        return 0;
    }
    struct sri_handle_entry *entry =
        &table->entries[table->fifo[table->fifo_head++ & table->index_mask]];
    const uint64_t free_form = atomic_load_explicit(&entry->handle, memory_order_relaxed);
    const uint64_t handle =
        (free_form & ~sri_handle_kind_bits(SRI_KIND_FREE)) | sri_handle_kind_bits(kind);
    atomic_store_explicit(&entry->slot, slot, memory_order_relaxed);
    atomic_store_explicit(&entry->handle, handle, memory_order_relaxed);
    return handle;
}

/* Ends @handle, which must be alive, or disowned by another thread. */
static inline void sri_handle_release(struct sri_handle_table *table, uint64_t handle) {
    const uint32_t index = (uint32_t)handle & table->index_mask;
    uint64_t next = (handle + table->index_mask + 1) | sri_handle_kind_bits(SRI_KIND_FREE);
    if (SRI_UNLIKELY(handle - table->newest_base >= table->newest_span)) {
        next = sri_handle_next_owner(table, handle);
        if (next == 0) {
            return;
        }
    }
    atomic_store_explicit(&table->entries[index].handle, next, memory_order_relaxed);
    table->fifo[table->fifo_tail++ & table->index_mask] = index;
}

/* Handles that were given out, and of these those that have ended, since the beginning. */
static inline uint64_t sri_handle_given_total(const struct sri_handle_table *table) {
    return table->fifo_head;
}

static inline uint64_t sri_handle_ended_total(const struct sri_handle_table *table) {
    return table->fifo_tail - table->entry_count + table->retired_count;
}

/* First half of a release by another thread: makes the handle stale at once. False if it was not
 * alive, so of several threads exactly one wins. The table's own thread releases it later. */
bool sri_handle_disown(struct sri_handle_table *table, uint64_t handle);

#endif
