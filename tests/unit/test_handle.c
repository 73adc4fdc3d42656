/* SPDX-License-Identifier: MIT */
#include "unit/fixture.h"

#include "core/handle.h"
#include "support/scale.h"

#define ENTRIES 66u /* sri_handle_entries_for(2), index of 7 bits */

struct table {
    struct sri_handle_table table;
    _Alignas(64) unsigned char memory[16384];
};

static void table_begin(struct table *table, enum sri_kind kind) {
    memset(table, 0, sizeof *table);
    cr_assert_leq(sri_handle_memory_for(ENTRIES), sizeof table->memory);
    assert_ok(sri_handle_table_init(&table->table, kind, table->memory, ENTRIES));
}

#define NO_SLOT UINT32_MAX

/* The slot that @handle names, or NO_SLOT if it is not alive. */
static uint32_t slot_of(const struct table *table, uint64_t handle) {
    return sri_handle_is_alive(&table->table, handle) ? sri_handle_slot(&table->table, handle)
                                                      : NO_SLOT;
}

static uint64_t acquire(struct table *table, uint32_t slot) {
    return sri_handle_acquire(&table->table, table->table.kind, slot);
}

static uint64_t with_kind(uint64_t handle, enum sri_kind kind) {
    return (handle & ~(UINT64_C(7) << SRI_HANDLE_KIND_SHIFT)) |
           ((uint64_t)kind << SRI_HANDLE_KIND_SHIFT);
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

Test(handle, there_are_a_quarter_more_entries_than_objects_but_at_least_64_more) {
    cr_assert_eq(sri_handle_entries_for(1), 65);
    cr_assert_eq(sri_handle_entries_for(2), ENTRIES);
    cr_assert_eq(sri_handle_entries_for(256), 320);
    cr_assert_eq(sri_handle_entries_for(1000), 1250);
    cr_assert_eq(sri_handle_entries_for(SRI_HANDLE_OBJECTS_MAX),
                 SRI_HANDLE_OBJECTS_MAX + SRI_HANDLE_OBJECTS_MAX / 4);
}

Test(handle, kind_owner_generation_and_index_have_their_bits) {
    struct table table;
    table_begin(&table, SRI_KIND_FILE);
    cr_assert_eq(table.table.index_mask, 127);
    const uint64_t first = acquire(&table, 5);
    const uint64_t second = acquire(&table, 4);
    cr_assert_eq(first >> 61, SRI_KIND_FILE);
    cr_assert_eq(sri_handle_kind(first), SRI_KIND_FILE);
    const uint32_t owner = (uint32_t)(first >> 48) & 8191;
    cr_assert_neq(owner, 0);
    cr_assert_eq(sri_handle_owner(first), owner);
    cr_assert(sri_handle_table_owns(&table.table, first));
    cr_assert_not(sri_handle_table_owns(&table.table, first ^ (UINT64_C(1) << 48)));
    cr_assert_eq(first & 127, 0);
    cr_assert_eq(second & 127, 1);
    cr_assert_eq(first >> 7, second >> 7);
    /* The slot is what the caller said, not the index. */
    cr_assert_eq(slot_of(&table, first), 5);
    cr_assert_eq(slot_of(&table, second), 4);
    sri_handle_table_deinit(&table.table);
}

Test(handle, released_entries_are_reused_first_in_first_out_with_the_next_generation) {
    struct table table;
    uint64_t handles[ENTRIES];
    table_begin(&table, SRI_KIND_OP);
    for (uint32_t i = 0; i < ENTRIES; i++) {
        handles[i] = acquire(&table, i);
        cr_assert_eq(handles[i] & 127, i);
    }
    cr_assert_eq(acquire(&table, 0), 0, "more handles than entries");
    const uint32_t order[] = {7, 3, 65, 0, 12};
    for (size_t i = 0; i < COUNT_OF(order); i++) {
        sri_handle_release(&table.table, handles[order[i]]);
    }
    for (size_t i = 0; i < COUNT_OF(order); i++) {
        const uint64_t handle = acquire(&table, 99);
        cr_assert_eq(handle, handles[order[i]] + 128, "turn %zu", i);
    }
    cr_assert_eq(acquire(&table, 0), 0);
    sri_handle_table_deinit(&table.table);
}

Test(handle, a_released_handle_is_refused_also_when_its_entry_is_in_use_again) {
    struct table table;
    table_begin(&table, SRI_KIND_BUFFER);
    const uint64_t old = acquire(&table, 1);
    sri_handle_release(&table.table, old);
    cr_assert_eq(slot_of(&table, old), NO_SLOT);
    bool came_back = false;
    for (uint32_t i = 0; i < ENTRIES; i++) {
        const uint64_t handle = acquire(&table, 1);
        came_back = came_back || (handle & 127) == (old & 127);
        cr_assert_neq(handle, old);
        cr_assert_eq(slot_of(&table, old), NO_SLOT);
    }
    cr_assert(came_back);
    sri_handle_table_deinit(&table.table);
}

Test(handle, each_flipped_bit_of_a_live_handle_is_refused) {
    struct table table;
    table_begin(&table, SRI_KIND_OP);
    const uint64_t handle = acquire(&table, 1);
    for (uint32_t bit = 0; bit < 64; bit++) {
        const uint64_t forged = handle ^ (UINT64_C(1) << bit);
        cr_assert_eq(slot_of(&table, forged), NO_SLOT, "bit %u", bit);
        cr_assert_not(sri_handle_disown(&table.table, forged), "bit %u", bit);
    }
    cr_assert_eq(slot_of(&table, handle), 1);
    sri_handle_table_deinit(&table.table);
}

Test(handle, none_internal_and_free_kinds_are_refused_though_every_other_bit_is_right) {
    struct table table;
    table_begin(&table, SRI_KIND_OP);
    const uint64_t live = acquire(&table, 1);
    const uint64_t gone = acquire(&table, 2);
    sri_handle_release(&table.table, gone);
    for (enum sri_kind kind = SRI_KIND_NONE; kind <= SRI_KIND_FREE; kind++) {
        for (uint32_t i = 0; i < ENTRIES; i++) {
            /* What the entry itself holds: for a free one its next handle, marked FREE. */
            const uint64_t forged = with_kind(atomic_load(&table.table.entries[i].handle), kind);
            const bool is_live = forged == live;
            cr_assert_eq(slot_of(&table, forged) != NO_SLOT, is_live, "kind %d of entry %u",
                         (int)kind, i);
            if (!is_live) {
                cr_assert_not(sri_handle_disown(&table.table, forged));
            }
        }
    }
    cr_assert_eq(slot_of(&table, 0), NO_SLOT);
    cr_assert_eq(slot_of(&table, UINT64_MAX), NO_SLOT);
    sri_handle_table_deinit(&table.table);
}

Test(handle, random_bits_are_refused) {
    struct table table;
    struct scale_random random = scale_random(1);
    const uint64_t count = scale_count(1000000, 10000);
    table_begin(&table, SRI_KIND_FILE);
    const uint64_t live = acquire(&table, 1);
    for (uint64_t i = 0; i < count; i++) {
        /* Half of them hit the right kind, owner and an existing index. */
        uint64_t forged = scale_random_next(&random);
        if (i % 2 == 0) {
            forged = (live & ~SRI_HANDLE_SERIAL_MASK) | (forged & SRI_HANDLE_SERIAL_MASK);
        }
        cr_assert(forged == live || slot_of(&table, forged) == NO_SLOT);
    }
    sri_handle_table_deinit(&table.table);
}

Test(handle, whatever_the_bits_the_slot_lies_inside_of_the_objects) {
    struct table table;
    struct scale_random random = scale_random(2);
    table_begin(&table, SRI_KIND_FILE);
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < 10000; i++) {
            cr_assert_lt(sri_handle_slot(&table.table, scale_random_next(&random)), 2);
        }
        cr_assert_lt(sri_handle_slot(&table.table, 0), 2);
        cr_assert_lt(sri_handle_slot(&table.table, UINT64_MAX), 2);
        const uint64_t handle = acquire(&table, round % 2);
        if (round == 1) {
            sri_handle_release(&table.table, handle);
        }
    }
    sri_handle_table_deinit(&table.table);
}

Test(handle, a_handle_of_another_table_is_refused) {
    struct table one;
    struct table other;
    table_begin(&one, SRI_KIND_OP);
    table_begin(&other, SRI_KIND_OP);
    const uint64_t foreign = acquire(&other, 1);
    const uint64_t own = acquire(&one, 1);
    cr_assert_eq(foreign & 127, own & 127);
    cr_assert_eq(slot_of(&one, foreign), NO_SLOT);
    cr_assert_eq(slot_of(&other, own), NO_SLOT);
    cr_assert_not(sri_handle_table_owns(&one.table, foreign));
    sri_handle_table_deinit(&one.table);
    sri_handle_table_deinit(&other.table);
}

Test(handle, a_disowned_handle_is_stale_at_once_and_its_entry_waits_for_the_release) {
    struct table table;
    table_begin(&table, SRI_KIND_BUFFER);
    const uint64_t remote = acquire(&table, 3);
    cr_assert(sri_handle_disown(&table.table, remote));
    cr_assert_eq(slot_of(&table, remote), NO_SLOT);
    cr_assert_not(sri_handle_disown(&table.table, remote), "disowned twice");
    uint64_t others[ENTRIES];
    for (uint32_t i = 0; i + 1 < ENTRIES; i++) {
        others[i] = acquire(&table, i);
        cr_assert_neq(others[i] & 127, remote & 127, "entry given out before it was released");
    }
    cr_assert_eq(acquire(&table, 9), 0);
    sri_handle_release(&table.table, remote);
    const uint64_t again = acquire(&table, 9);
    cr_assert_eq(again, remote + 128);
    cr_assert_eq(slot_of(&table, again), 9);
    sri_handle_table_deinit(&table.table);
}

Test(handle, what_was_given_out_and_what_has_ended_is_counted) {
    struct table table;
    table_begin(&table, SRI_KIND_OP);
    const uint64_t first = acquire(&table, 0);
    const uint64_t second = acquire(&table, 1);
    sri_handle_release(&table.table, first);
    cr_assert_eq(sri_handle_given_total(&table.table), 2);
    cr_assert_eq(sri_handle_ended_total(&table.table), 1);
    sri_handle_release(&table.table, second);
    cr_assert_eq(sri_handle_ended_total(&table.table), 2);
    sri_handle_table_deinit(&table.table);
}

Test(handle, an_owner_number_that_comes_back_never_repeats_a_handle) {
    enum { ROUNDS = 2 * (SRI_HANDLE_OWNER_MAX + 1), PER_ROUND = 5 };
    uint64_t *handles = calloc((size_t)ROUNDS * PER_ROUND, sizeof *handles);
    cr_assert_not_null(handles);
    uint32_t owner_of_first = 0;
    uint32_t comebacks = 0;
    size_t count = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        struct table table;
        table_begin(&table, SRI_KIND_OP);
        const uint32_t owner = table.table.owners[0].owner;
        owner_of_first = round == 0 ? owner : owner_of_first;
        comebacks += round > 0 && owner == owner_of_first;
        for (uint32_t i = 0; i < PER_ROUND; i++) {
            handles[count] = acquire(&table, i);
            /* Some end alive, some released: neither may come again. */
            if (i % 2 == 0) {
                sri_handle_release(&table.table, handles[count]);
            }
            count++;
        }
        sri_handle_table_deinit(&table.table);
    }
    cr_assert_geq(comebacks, 1, "no owner number came back, so nothing was tested");
    assert_all_different(handles, count);
    free(handles);
}

Test(handle, tables_of_one_kind_are_as_many_as_owner_numbers_and_no_more) {
    enum { TABLES = SRI_HANDLE_OWNER_MAX, SMALL = 2 };
    struct sri_handle_table *tables = calloc(TABLES, sizeof *tables);
    const size_t memory_bytes = (sri_handle_memory_for(SMALL) + 15) & ~(size_t)15;
    char *memory = calloc(TABLES, memory_bytes);
    cr_assert(tables != NULL && memory != NULL);
    for (uint32_t i = 0; i < TABLES; i++) {
        assert_ok(
            sri_handle_table_init(&tables[i], SRI_KIND_FILE, memory + i * memory_bytes, SMALL));
    }
    struct table extra;
    assert_code(sri_handle_table_init(&extra.table, SRI_KIND_FILE, extra.memory, ENTRIES),
                SR_E_FULL);
    /* Kinds have their own numbers. */
    table_begin(&extra, SRI_KIND_OP);
    sri_handle_table_deinit(&extra.table);
    sri_handle_table_deinit(&tables[100]);
    table_begin(&extra, SRI_KIND_FILE);
    sri_handle_table_deinit(&extra.table);
    for (uint32_t i = 0; i < TABLES; i++) {
        sri_handle_table_deinit(&tables[i]); /* of number 100 a second time: allowed */
    }
    free(tables);
    free(memory);
}
