/* SPDX-License-Identifier: MIT */
#include "core/handle.h"

/* A build for tests may have few generations, so that wear can be seen (docs/adr/0001). */
#ifndef SRI_GENERATION_BITS
#define SRI_GENERATION_BITS 48
#endif

#define KIND_MASK sri_handle_kind_bits(SRI_KIND_FREE)

/* Per kind and owner number: the first serial nobody has used, with IN_USE while a table has the
 * number. */
#define OWNER_IN_USE (UINT64_C(1) << 63)
static _Atomic uint64_t owner_ledger[SRI_KIND_FREE + 1][SRI_HANDLE_OWNER_MAX + 1];
static _Atomic uint32_t owner_hint[SRI_KIND_FREE + 1];

/* A number is worth taking while at least a 16th of its serials is left. */
#define OWNER_SERIAL_WORN (SRI_HANDLE_SERIAL_MASK - (SRI_HANDLE_SERIAL_MASK >> 4))

uint32_t sri_handle_entries_for(uint32_t objects_max) {
    const uint32_t quarter = objects_max / 4;
    return objects_max + (quarter > 64 ? quarter : 64);
}

static uint32_t index_mask_for(uint32_t entry_count) {
    return UINT32_MAX >> __builtin_clz(entry_count - 1);
}

size_t sri_handle_memory_for(uint32_t entry_count) {
    const size_t fifo_places = (size_t)index_mask_for(entry_count) + 1;
    return SRI_HANDLE_TABLE_OWNERS_MAX * sizeof(struct sri_handle_owner_span) +
           entry_count * sizeof(struct sri_handle_entry) + fifo_places * sizeof(uint32_t);
}

static uint32_t index_bits(const struct sri_handle_table *table) {
    return 32u - (uint32_t)__builtin_clz(table->index_mask);
}

static uint64_t generation_of(const struct sri_handle_table *table, uint64_t handle) {
    return (handle & SRI_HANDLE_SERIAL_MASK) >> index_bits(table);
}

/* The handle that a free entry keeps for its next use. */
static uint64_t free_handle(const struct sri_handle_table *table, uint32_t owner,
                            uint64_t generation, uint32_t index) {
    return KIND_MASK | ((uint64_t)owner << SRI_HANDLE_OWNER_SHIFT) |
           (generation << index_bits(table)) | index;
}

/* Takes an owner number out of the ledger; 0 if none is left. No lock: a fork could leave it
 * locked. */
static uint32_t owner_take(enum sri_kind kind, uint64_t *out_serial) {
    const uint32_t start = atomic_fetch_add(&owner_hint[kind], 1);
    for (uint32_t i = 0; i < SRI_HANDLE_OWNER_MAX; i++) {
        const uint32_t owner = 1 + (start + i) % SRI_HANDLE_OWNER_MAX;
        uint64_t serial = atomic_load(&owner_ledger[kind][owner]);
        const bool usable = (serial & OWNER_IN_USE) == 0 && serial < OWNER_SERIAL_WORN;
        if (usable && atomic_compare_exchange_strong(&owner_ledger[kind][owner], &serial,
                                                     serial | OWNER_IN_USE)) {
            *out_serial = serial;
            return owner;
        }
    }
    return 0;
}

/* What sri_handle_release() compares with: handles of the newest number, but those of its last
 * generation. */
static void newest_update(struct sri_handle_table *table) {
    const struct sri_handle_owner_span *span = &table->owners[table->owner_count - 1];
    const uint64_t generations = span->generation_end - 1 - span->generation_first;
    table->newest_base = sri_handle_kind_bits(table->kind) |
                         ((uint64_t)span->owner << SRI_HANDLE_OWNER_SHIFT) |
                         (span->generation_first << index_bits(table));
    table->newest_span = generations << index_bits(table);
}

/* Gives the table one more owner number; false if the process or the table has no room for one. */
static bool span_append(struct sri_handle_table *table) {
    uint64_t serial = 0;
    if (table->owner_count == SRI_HANDLE_TABLE_OWNERS_MAX) {
        return false;
    }
    const uint32_t owner = owner_take(table->kind, &serial);
    if (owner == 0) {
        return false;
    }
    const uint64_t first = (serial + table->index_mask) >> index_bits(table);
    const uint64_t natural_end = UINT64_C(1) << (SRI_HANDLE_OWNER_SHIFT - index_bits(table));
    const uint64_t test_end = first + (UINT64_C(1) << SRI_GENERATION_BITS);
    table->owners[table->owner_count++] = (struct sri_handle_owner_span){
        .owner = owner,
        .generation_first = first,
        .generation_end = test_end < natural_end ? test_end : natural_end,
    };
    newest_update(table);
    return true;
}

static void span_give_back(struct sri_handle_table *table, uint32_t position, uint64_t generation) {
    const struct sri_handle_owner_span *span = &table->owners[position];
    atomic_store(&owner_ledger[table->kind][span->owner], generation << index_bits(table));
}

static uint32_t span_of(const struct sri_handle_table *table, uint64_t handle) {
    uint32_t position = table->owner_count;
    while (position-- > 0) {
        if (table->owners[position].owner == sri_handle_owner(handle)) {
            return position;
        }
    }
    return UINT32_MAX;
}

/* Numbers that every entry has left are used up as far as this table goes. */
static void spans_drop_unused(struct sri_handle_table *table) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < table->owner_count; i++) {
        const bool newest = i + 1 == table->owner_count;
        if (table->owners[i].entry_count == 0 && !newest) {
            span_give_back(table, i, table->owners[i].generation_end);
        } else {
            table->owners[kept++] = table->owners[i];
        }
    }
    table->owner_count = kept;
}

int sri_handle_table_init(struct sri_handle_table *table, enum sri_kind kind, void *memory,
                          uint32_t entry_count) {
    SR_CHECK(entry_count >= 2 && entry_count <= 2 * SRI_HANDLE_OBJECTS_MAX);
    struct sri_handle_owner_span *owners = memory;
    struct sri_handle_entry *entries = (void *)&owners[SRI_HANDLE_TABLE_OWNERS_MAX];
    *table = (struct sri_handle_table){
        .owners = owners,
        .entries = entries,
        .entry_count = entry_count,
        .index_mask = index_mask_for(entry_count),
        .fifo = (uint32_t *)&entries[entry_count],
        .fifo_tail = entry_count,
        .kind = kind,
    };
    if (!span_append(table)) {
        *table = (struct sri_handle_table){0};
        return SR_E_FULL;
    }
    struct sri_handle_owner_span *span = &table->owners[0];
    span->entry_count = entry_count;
    for (uint32_t i = 0; i < entry_count; i++) {
        atomic_init(&entries[i].handle, free_handle(table, span->owner, span->generation_first, i));
        atomic_init(&entries[i].slot, 0);
        table->fifo[i] = i;
    }
    SR_CHECK(sri_handle_table_is_valid(table));
    return 0;
}

bool sri_handle_table_is_valid(const struct sri_handle_table *table) {
    return table->entries != NULL && table->owner_count > 0 &&
           table->fifo_tail - table->fifo_head + table->retired_count <= table->entry_count;
}

bool sri_handle_table_owns(const struct sri_handle_table *table, uint64_t handle) {
    return span_of(table, handle) != UINT32_MAX;
}

void sri_handle_table_deinit(struct sri_handle_table *table) {
    if (table->entries == NULL) {
        return;
    }
    for (uint32_t o = 0; o < table->owner_count; o++) {
        uint64_t generation = table->owners[o].generation_end;
        if (o + 1 == table->owner_count) {
            generation = table->owners[o].generation_first;
            for (uint32_t i = 0; i < table->entry_count; i++) {
                const uint64_t handle = atomic_load(&table->entries[i].handle);
                if (sri_handle_owner(handle) == table->owners[o].owner &&
                    generation_of(table, handle) >= generation) {
                    generation = generation_of(table, handle) + 1;
                }
            }
        }
        span_give_back(table, o, generation);
    }
    *table = (struct sri_handle_table){0};
}

uint64_t sri_handle_next_owner(struct sri_handle_table *table, uint64_t handle) {
    const uint32_t index = (uint32_t)handle & table->index_mask;
    const uint64_t generation = generation_of(table, handle) + 1;
    uint32_t position = span_of(table, handle);
    SR_CHECK(position != UINT32_MAX);
    if (generation < table->owners[position].generation_end) {
        return free_handle(table, table->owners[position].owner, generation, index);
    }
    if (position + 1 == table->owner_count) {
        spans_drop_unused(table);
        if (!span_append(table)) {
            atomic_store_explicit(&table->entries[index].handle, handle | KIND_MASK,
                                  memory_order_relaxed);
            table->retired_count++;
            return 0;
        }
        position = table->owner_count - 2;
    }
    /* To the newest, not to the next: an entry that was held for long must not lag behind for ever.
     */
    table->owners[position].entry_count--;
    struct sri_handle_owner_span *span = &table->owners[table->owner_count - 1];
    span->entry_count++;
    return free_handle(table, span->owner, span->generation_first, index);
}

bool sri_handle_disown(struct sri_handle_table *table, uint64_t handle) {
    const uint32_t index = (uint32_t)handle & table->index_mask;
    return sri_handle_is_alive(table, handle) &&
           atomic_compare_exchange_strong(&table->entries[index].handle, &handle,
                                          handle | KIND_MASK);
}
