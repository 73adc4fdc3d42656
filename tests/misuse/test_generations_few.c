/* SPDX-License-Identifier: MIT */
/* The whole library over handle tables with four-bit generations: the linker takes this copy of the
 * tables instead of the archive's. */
#undef SRI_GENERATION_BITS
#define SRI_GENERATION_BITS 4
#include "core/handle.c"

#include "test_generations.c"

Test(generations, the_tables_in_this_program_really_have_four_bits) {
    struct sri_handle_table table;
    _Alignas(64) unsigned char memory[16384] = {0};
    assert_ok(sri_handle_table_init(&table, SRI_KIND_OP, memory, 2));
    cr_assert_eq(table.owners[0].generation_end - table.owners[0].generation_first, 16);
    sri_handle_table_deinit(&table);

    /* And so do the library's: a buffer's owner number changes after 16 rounds. */
    sr_pool *pool = pool_make(64, 1);
    const uint32_t owner = sri_handle_owner(buffer_take(pool).bits);
    pool_end(&pool);
    pool = pool_make(64, 1);
    uint32_t changes = 0;
    uint32_t last = owner;
    for (uint32_t i = 0; i < 20 * sri_handle_entries_for(1); i++) {
        const sr_buffer buffer = buffer_take(pool);
        changes += sri_handle_owner(buffer.bits) != last;
        last = sri_handle_owner(buffer.bits);
        assert_ok(sr_pool_release(pool, buffer));
    }
    cr_assert_eq(changes, 2, "to the second pool's number, and once from that");
    pool_end(&pool);
}
