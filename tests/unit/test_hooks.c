/* SPDX-License-Identifier: MIT */
/* What a program hands to the whole library: the misuse hook and the allocator. */
#include "unit/fixture.h"

Test(hooks, the_misuse_hook_is_told_what_who_and_which_with_its_ctx) {
    sr_pool *pool = pool_make(64, 1);
    const sr_buffer buffer = buffer_take(pool);
    assert_ok(sr_pool_release(pool, buffer));
    misuse_watch();
    assert_code(sr_pool_release(pool, buffer), SR_E_STALE);
    cr_assert_eq(misuse.count, 1);
    cr_assert_eq(misuse.code, SR_E_STALE);
    cr_assert_eq(misuse.handle, buffer.bits);
    cr_assert_str_eq(misuse.function, "sr_pool_release");
    pool_end(&pool);
}

Test(hooks, without_a_hook_misuse_is_refused_all_the_same) {
    sr_pool *pool = pool_make(64, 1);
    misuse_watch();
    sr_set_misuse_hook(NULL, NULL);
    assert_code(sr_pool_release(pool, SR_BUFFER_NONE), SR_E_STALE);
    cr_assert_eq(misuse.count, 0);
    pool_end(&pool);
}

/* ---- allocator --------------------------------------------------------------------------------
 */

struct ledger {
    uint32_t allocated;
    uint32_t released;
    uint32_t null_releases;
};

static void *allocate_counted(size_t size_bytes, void *ctx) {
    struct ledger *ledger = ctx;
    void *memory = malloc(size_bytes);
    if (memory != NULL) {
        memset(memory, 0xaa, size_bytes); /* the library must not count on zeroes */
        ledger->allocated++;
    }
    return memory;
}

static void release_counted(void *memory, void *ctx) {
    struct ledger *ledger = ctx;
    ledger->released += memory != NULL;
    ledger->null_releases += memory == NULL;
    free(memory);
}

static sr_allocator counting(struct ledger *ledger) {
    sr_allocator allocator = SR_ALLOCATOR_INIT;
    allocator.allocate = allocate_counted;
    allocator.release = release_counted;
    allocator.ctx = ledger;
    return allocator;
}

Test(hooks, all_bookkeeping_comes_from_the_allocator_and_goes_back_to_it) {
    struct ledger ledger = {0};
    const sr_allocator allocator = counting(&ledger);
    assert_ok(sr_set_allocator(&allocator));
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.inbox_entries = 8;
    sr_ring *ring = ring_make(&options);
    sr_pool *pool = pool_make(4096, 4);
    pool_attach(ring, pool);
    cr_assert_gt(ledger.allocated, 5);
    sr_request request = request_of(SR_OP_STATX);
    request.path = "/";
    request.mask = STATX_MODE;
    const uint32_t before = ledger.allocated;
    assert_ok(run(ring, &request).result);
    cr_assert_gt(ledger.allocated, before);
    ring_end(&ring);
    pool_end(&pool);
    cr_assert_eq(ledger.allocated, ledger.released);
    cr_assert_eq(ledger.null_releases, 0);
    assert_ok(sr_set_allocator(NULL));
    pool = pool_make(64, 1);
    cr_assert_eq(ledger.allocated, ledger.released, "malloc is back");
    pool_end(&pool);
}

Test(hooks, an_allocator_stays_while_the_library_holds_memory_of_it) {
    struct ledger ledger = {0};
    const sr_allocator allocator = counting(&ledger);
    sr_pool *pool = pool_make(64, 1);
    misuse_watch();
    assert_code(sr_set_allocator(&allocator), SR_E_STATE);
    assert_misuse("sr_set_allocator", SR_E_STATE);
    pool_end(&pool);
    cr_assert_eq(ledger.released, 0);
    assert_ok(sr_set_allocator(&allocator));
    pool = pool_make(64, 1);
    assert_code(sr_set_allocator(NULL), SR_E_STATE);
    pool_end(&pool);
    cr_assert_eq(ledger.allocated, ledger.released);
}

Test(hooks, an_incomplete_allocator_is_refused_and_malloc_stays) {
    struct ledger ledger = {0};
    sr_allocator bad[4];
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        bad[i] = counting(&ledger);
    }
    bad[0].allocate = NULL;
    bad[1].release = NULL;
    bad[2].size = 0;
    bad[3].size = sizeof(size_t);
    misuse_watch();
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_code(sr_set_allocator(&bad[i]), -EINVAL);
        assert_misuse("sr_set_allocator", -EINVAL);
    }
    sr_pool *pool = pool_make(64, 1);
    pool_end(&pool);
    cr_assert_eq(ledger.allocated + ledger.released, 0);
}

static void *allocate_nothing(size_t size_bytes, void *ctx) {
    (void)size_bytes;
    (void)ctx;
    return NULL;
}

Test(hooks, an_allocator_that_has_nothing_is_no_memory) {
    struct ledger ledger = {0};
    sr_allocator allocator = counting(&ledger);
    allocator.allocate = allocate_nothing;
    assert_ok(sr_set_allocator(&allocator));
    sr_ring *ring = (sr_ring *)&ledger;
    sr_pool *pool = (sr_pool *)&ledger;
    sr_region *region = (sr_region *)&ledger;
    misuse_watch();
    assert_code(sr_ring_create(NULL, &ring), -ENOMEM);
    assert_code(sr_pool_create(NULL, NULL, &pool), -ENOMEM);
    assert_code(sr_region_create(4096, NULL, &region), -ENOMEM);
    cr_assert(ring == NULL && pool == NULL && region == NULL);
    assert_no_misuse();
    cr_assert_eq(ledger.null_releases, 0, "never called with NULL");
}
