/* SPDX-License-Identifier: MIT */
/*
 * Handle tables with four generations for each owner number, compiled into this program, so that
 * what takes years with the natural width happens within a second here (docs/adr/0001).
 */
#undef SRI_GENERATION_BITS
#define SRI_GENERATION_BITS 2
#include "core/handle.c"

#include "unit/fixture.h"

#include "support/scale.h"

#define ENTRIES 66u

struct table {
    struct sri_handle_table table;
    _Alignas(64) unsigned char memory[16384];
};

static void table_begin(struct table *table) {
    memset(table, 0, sizeof *table);
    cr_assert_leq(sri_handle_memory_for(ENTRIES), sizeof table->memory);
    assert_ok(sri_handle_table_init(&table->table, SRI_KIND_BUFFER, table->memory, ENTRIES));
}

#define NO_SLOT UINT32_MAX

/* The slot that @handle names, or NO_SLOT if it is not alive. */
static uint32_t slot_of(const struct table *table, uint64_t handle) {
    return sri_handle_is_alive(&table->table, handle) ? sri_handle_slot(&table->table, handle)
                                                      : NO_SLOT;
}

static uint64_t acquire(struct table *table, uint32_t slot) {
    return sri_handle_acquire(&table->table, SRI_KIND_BUFFER, slot);
}

/* Handles that are out. */
static uint64_t used_count(const struct table *table) {
    return sri_handle_given_total(&table->table) - sri_handle_ended_total(&table->table);
}

static int compare_words(const void *a, const void *b) {
    const uint64_t first = *(const uint64_t *)a;
    const uint64_t second = *(const uint64_t *)b;
    return first < second ? -1 : first > second;
}

static void assert_all_different(uint64_t *handles, size_t count) {
    qsort(handles, count, sizeof handles[0], compare_words);
    for (size_t i = 1; i < count; i++) {
        cr_assert_neq(handles[i], handles[i - 1], "%llx was given out twice",
                      (unsigned long long)handles[i]);
    }
}

/* Gives out and takes back @count handles, noting them. */
static void cycle(struct table *table, uint64_t *handles, size_t count) {
    for (size_t i = 0; i < count; i++) {
        handles[i] = acquire(table, (uint32_t)i);
        cr_assert_neq(handles[i], 0, "out of handles after %zu", i);
        cr_assert_eq(slot_of(table, handles[i]), (uint32_t)i);
        sri_handle_release(&table->table, handles[i]);
    }
}

Test(handle_wear, a_table_goes_on_for_ever_at_constant_capacity_and_never_repeats) {
    const size_t count = (size_t)scale_count(1000000, 20000);
    uint64_t *handles = calloc(count, sizeof *handles);
    struct table table;
    table_begin(&table);
    cycle(&table, handles, count);
    cr_assert_eq(table.table.retired_count, 0);
    cr_assert_eq(used_count(&table), 0);
    cr_assert_leq(table.table.owner_count, 2, "used up owner numbers are given back");
    for (size_t i = 0; i < count; i++) {
        cr_assert_eq(slot_of(&table, handles[i]), NO_SLOT);
    }
    for (uint32_t i = 0; i < ENTRIES; i++) {
        cr_assert_neq(acquire(&table, i), 0, "capacity shrank to %u", i);
    }
    sri_handle_table_deinit(&table.table);
    assert_all_different(handles, count);
    free(handles);
}

Test(handle_wear, handles_held_for_long_stay_valid_while_the_others_wear) {
    enum { HELD = 10, BETWEEN = 1000 };
    uint64_t held[HELD];
    uint64_t handles[HELD * BETWEEN];
    struct table table;
    table_begin(&table);
    for (uint32_t i = 0; i < HELD; i++) {
        held[i] = acquire(&table, 1000 + i);
        cycle(&table, &handles[(size_t)i * BETWEEN], BETWEEN);
    }
    for (uint32_t i = 0; i < HELD; i++) {
        cr_assert_eq(slot_of(&table, held[i]), 1000 + i);
        sri_handle_release(&table.table, held[i]);
        cr_assert_eq(slot_of(&table, held[i]), NO_SLOT);
    }
    cycle(&table, handles, COUNT_OF(handles));
    cr_assert_eq(table.table.retired_count, 0);
    cr_assert_eq(used_count(&table), 0);
    sri_handle_table_deinit(&table.table);
}

Test(handle_wear, when_no_owner_number_is_left_entries_retire_and_nothing_repeats) {
    enum { TURNS = 100000 };
    uint64_t *handles = calloc(TURNS, sizeof *handles);
    uint64_t held[ENTRIES];
    uint32_t held_count = 0;
    uint32_t count = 0;
    struct table table;
    table_begin(&table);
    /* One handle of each owner number is kept, until all numbers that a table may have are in use:
     * then worn entries have nowhere to go. */
    for (; count < TURNS; count++) {
        const uint64_t handle = acquire(&table, count);
        if (handle == 0) {
            break;
        }
        handles[count] = handle;
        bool known = false;
        for (uint32_t i = 0; i < held_count; i++) {
            known = known || sri_handle_owner(held[i]) == sri_handle_owner(handle);
        }
        if (known) {
            sri_handle_release(&table.table, handle);
        } else {
            held[held_count++] = handle;
        }
        cr_assert(sri_handle_table_is_valid(&table.table));
    }
    cr_assert_lt(count, TURNS, "the table never ran out");
    cr_assert_eq(table.table.owner_count, SRI_HANDLE_TABLE_OWNERS_MAX);
    cr_assert_gt(table.table.retired_count, 0);
    cr_assert_eq(table.table.retired_count + used_count(&table), ENTRIES);
    cr_assert_eq(used_count(&table), held_count);
    for (uint32_t i = 0; i < held_count; i++) {
        cr_assert_neq(slot_of(&table, held[i]), NO_SLOT);
    }
    assert_all_different(handles, count);
    sri_handle_table_deinit(&table.table);
    free(handles);
}

Test(handle_wear, a_remote_release_wears_an_entry_like_a_local_one) {
    enum { TURNS = 10000 };
    uint64_t *handles = calloc(TURNS, sizeof *handles);
    struct table table;
    table_begin(&table);
    for (uint32_t i = 0; i < TURNS; i++) {
        handles[i] = acquire(&table, i);
        cr_assert_neq(handles[i], 0);
        cr_assert(sri_handle_disown(&table.table, handles[i]));
        sri_handle_release(&table.table, handles[i]);
    }
    cr_assert_eq(used_count(&table), 0);
    cr_assert_eq(table.table.retired_count, 0);
    assert_all_different(handles, TURNS);
    sri_handle_table_deinit(&table.table);
    free(handles);
}

Test(handle_wear, later_tables_start_where_the_owner_number_was_left) {
    enum { TABLES = SRI_HANDLE_OWNER_MAX + 100, PER_TABLE = 9 };
    uint64_t *handles = calloc((size_t)TABLES * PER_TABLE, sizeof *handles);
    for (uint32_t i = 0; i < TABLES; i++) {
        struct table table;
        memset(&table, 0, sizeof table);
        assert_ok(sri_handle_table_init(&table.table, SRI_KIND_BUFFER, table.memory, 2));
        for (uint32_t j = 0; j < PER_TABLE; j++) {
            const uint64_t handle = acquire(&table, j);
            handles[(size_t)i * PER_TABLE + j] = handle;
            sri_handle_release(&table.table, handle);
        }
        const uint64_t *given = &handles[(size_t)i * PER_TABLE];
        cr_assert_neq(sri_handle_owner(given[0]), sri_handle_owner(given[PER_TABLE - 1]),
                      "nine handles of two entries pass four generations");
        sri_handle_table_deinit(&table.table);
    }
    assert_all_different(handles, (size_t)TABLES * PER_TABLE);
    free(handles);
}

Test(handle_wear, a_worn_owner_number_is_not_taken_and_without_any_no_table_is_made) {
    struct table table;
    for (uint32_t owner = 1; owner <= SRI_HANDLE_OWNER_MAX; owner++) {
        atomic_store(&owner_ledger[SRI_KIND_BUFFER][owner], OWNER_SERIAL_WORN);
    }
    memset(&table, 0, sizeof table);
    assert_code(sri_handle_table_init(&table.table, SRI_KIND_BUFFER, table.memory, ENTRIES),
                SR_E_FULL);
    cr_assert_null(table.table.entries);
    sri_handle_table_deinit(&table.table); /* of a table that was never made: allowed */
    atomic_store(&owner_ledger[SRI_KIND_BUFFER][4711], OWNER_SERIAL_WORN - 1);
    table_begin(&table);
    cr_assert_eq(table.table.owners[0].owner, 4711);
    const uint64_t handle = acquire(&table, 0);
    cr_assert_eq(sri_handle_owner(handle), 4711);
    cr_assert_geq(handle & SRI_HANDLE_SERIAL_MASK, OWNER_SERIAL_WORN - 1);
    /* It was the last: after four generations entries retire. */
    sri_handle_release(&table.table, handle);
    uint32_t given = 1;
    for (uint64_t next = 0; (next = acquire(&table, 0)) != 0; given++) {
        sri_handle_release(&table.table, next);
    }
    cr_assert_eq(given, 4 * ENTRIES);
    cr_assert_eq(table.table.retired_count, ENTRIES);
    sri_handle_table_deinit(&table.table);
}
