/* SPDX-License-Identifier: MIT */
#include "unit/fixture.h"

#include "support/baseline.h"
#include "support/valgrind.h"

static void assert_counts(sr_pool *pool, uint32_t free_count, uint32_t held_count) {
    const sr_pool_stats stats = pool_stats(pool);
    cr_assert_eq(stats.free_count, free_count, "%u free, not %u", stats.free_count, free_count);
    cr_assert_eq(stats.held_count, held_count, "%u held, not %u", stats.held_count, held_count);
    cr_assert_eq(stats.quarantined_count, 0);
    cr_assert_eq(stats.acquired_total - stats.released_total, held_count);
}

static uint64_t account_bytes(sr_pool *pool, uint32_t account) {
    uint64_t bytes = 77;
    assert_ok(sr_pool_account_bytes(pool, account, &bytes));
    return bytes;
}

static int acquire_for(sr_pool *pool, uint32_t account, sr_buffer *out_buffer) {
    return sr_pool_acquire_for(pool, 1, account, out_buffer);
}

Test(pool, each_buffer_has_bytes_of_its_own_and_none_is_given_out_twice) {
    enum { COUNT = 100, SIZE = 200 };
    sr_buffer buffers[COUNT];
    sr_pool *pool = pool_make(SIZE, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        buffers[i] = buffer_take(pool);
        unsigned char *bytes = buffer_bytes(pool, buffers[i], SIZE);
        cr_assert_eq((uintptr_t)bytes % 64, 0);
        memset(bytes, (int)i, SIZE);
        for (uint32_t j = 0; j < i; j++) {
            cr_assert_neq(buffers[j].bits, buffers[i].bits);
        }
        assert_counts(pool, COUNT - 1 - i, i + 1);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        const unsigned char *bytes = buffer_bytes(pool, buffers[i], SIZE);
        cr_assert(bytes[0] == i && bytes[SIZE - 1] == i, "buffer %u shares bytes", i);
        assert_ok(sr_pool_release(pool, buffers[i]));
    }
    assert_counts(pool, COUNT, 0);
    pool_end(&pool);
}

Test(pool, an_empty_pool_is_full_not_misused_and_a_release_ends_that) {
    sr_pool *pool = pool_make(64, 2);
    const sr_buffer first = buffer_take(pool);
    (void)buffer_take(pool);
    misuse_watch();
    sr_buffer third = {5};
    assert_code(sr_pool_acquire(pool, 1, &third), SR_E_FULL);
    cr_assert_eq(third.bits, 0);
    assert_code(acquire_for(pool, 9, &third), SR_E_FULL);
    assert_no_misuse();
    cr_assert_eq(pool_stats(pool).refused_full_total, 2);
    assert_ok(sr_pool_release(pool, first));
    third = buffer_take(pool);
    cr_assert_neq(third.bits, first.bits);
    pool_end(&pool);
}

Test(pool, sizes_from_one_byte_to_a_whole_buffer_are_served_by_a_whole_buffer) {
    sr_pool *pool = pool_make(1000, 3);
    sr_buffer small;
    sr_buffer whole;
    sr_buffer none = {1};
    assert_ok(sr_pool_acquire(pool, 1, &small));
    memset(buffer_bytes(pool, small, 1000), 1, 1000);
    assert_ok(sr_pool_acquire(pool, 1000, &whole));
    misuse_watch();
    const size_t bad[] = {0, 1001, SIZE_MAX};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_code(sr_pool_acquire(pool, bad[i], &none), SR_E_BOUNDS);
        cr_assert_eq(none.bits, 0);
        assert_misuse("sr_pool_acquire", SR_E_BOUNDS);
        assert_code(sr_pool_acquire_for(pool, bad[i], 3, &none), SR_E_BOUNDS);
        assert_misuse("sr_pool_acquire_for", SR_E_BOUNDS);
    }
    assert_counts(pool, 1, 2);
    pool_end(&pool);
}

Test(pool, a_buffer_is_released_once) {
    sr_pool *pool = pool_make(64, 2);
    const sr_buffer buffer = buffer_take(pool);
    assert_ok(sr_pool_release(pool, buffer));
    misuse_watch();
    assert_code(sr_pool_release(pool, buffer), SR_E_STALE);
    cr_assert_eq(misuse.handle, buffer.bits);
    assert_misuse("sr_pool_release", SR_E_STALE);
    assert_counts(pool, 2, 0);
    /* Also not when its memory is in use again. */
    const sr_buffer next = buffer_take(pool);
    assert_code(sr_pool_release(pool, buffer), SR_E_STALE);
    assert_counts(pool, 1, 1);
    assert_ok(sr_pool_release(pool, next));
    pool_end(&pool);
}

/* ---- options ----------------------------------------------------------------------------------
 */

Test(pool, options_outside_of_their_ranges_are_refused) {
    const sr_pool_options good = SR_POOL_OPTIONS_INIT;
    sr_pool_options bad[17];
    size_t count = 0;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        bad[i] = good;
    }
    bad[count++].buffer_size_bytes = 0;
    bad[count++].buffer_size_bytes = 63;
    bad[count++].buffer_size_bytes = ((size_t)1 << 30) + 1;
    bad[count++].buffer_size_bytes = SIZE_MAX;
    bad[count++].buffer_count = 0;
    bad[count++].buffer_count = (1u << 20) + 1;
    bad[count++].buffer_count = UINT32_MAX;
    bad[count++].guard = 4;
    bad[count++].guard = UINT32_MAX;
    bad[count++].alignment_bytes = 1;
    bad[count++].alignment_bytes = 63;
    bad[count++].alignment_bytes = 96;
    bad[count++].alignment_bytes = 8192;
    bad[count++].accounts_max = 0;
    bad[count++].accounts_max = 65537;
    bad[count].buffer_size_bytes = (size_t)1 << 30; /* each in range, together beyond any region */
    bad[count++].buffer_count = 1u << 20;
    bad[count].buffer_size_bytes = 64;
    bad[count].buffer_count = 1u << 20;
    bad[count++].alignment_bytes = UINT32_MAX;
    cr_assert_eq(count, COUNT_OF(bad));
    misuse_watch();
    for (size_t i = 0; i < count; i++) {
        sr_pool *pool = (sr_pool *)&bad[i];
        assert_code(sr_pool_create(NULL, &bad[i], &pool), SR_E_BOUNDS);
        cr_assert_null(pool, "options %zu", i);
        assert_misuse("sr_pool_create", SR_E_BOUNDS);
    }
}

Test(pool, the_smallest_and_the_largest_options_work) {
    sr_pool_options small = SR_POOL_OPTIONS_INIT;
    small.buffer_size_bytes = 64;
    small.buffer_count = 1;
    small.accounts_max = 1;
    sr_pool *pool = NULL;
    assert_ok(sr_pool_create(NULL, &small, &pool));
    (void)buffer_take(pool);
    pool_end(&pool);

    sr_pool_options many = small;
    many.buffer_count = 1u << 20;
    many.accounts_max = 65536;
    assert_ok(sr_pool_create(NULL, &many, &pool));
    cr_assert_eq(pool_stats(pool).free_count, 1u << 20);
    (void)buffer_take(pool);
    pool_end(&pool);

    sr_pool_options big = small;
    big.buffer_size_bytes = (size_t)1 << 30;
    assert_ok(sr_pool_create(NULL, &big, &pool));
    const sr_buffer buffer = buffer_take(pool);
    void *last = NULL;
    assert_ok(sr_buffer_data(pool, buffer, ((size_t)1 << 30) - 1, 1, SR_ACCESS_WRITE, &last));
    *(unsigned char *)last = 1;
    pool_end(&pool);
}

Test(pool, buffers_have_the_alignment_that_was_asked_for) {
    const struct {
        size_t size;
        uint32_t asked;
        size_t got;
    } cases[] = {
        {64, 0, 64},     {100, 0, 64},      {4095, 0, 64},  {4096, 0, 4096}, {5000, 0, 4096},
        {100, 512, 512}, {100, 4096, 4096}, {4096, 64, 64}, {5000, 64, 64},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        sr_pool_options options = SR_POOL_OPTIONS_INIT;
        sr_pool *pool = NULL;
        options.buffer_size_bytes = cases[i].size;
        options.buffer_count = 9;
        options.guard = SR_GUARD_OFF;
        options.alignment_bytes = cases[i].asked;
        assert_ok(sr_pool_create(NULL, &options, &pool));
        const uint64_t stride = pool_stats(pool).stride_bytes;
        cr_assert_eq(stride % cases[i].got, 0);
        cr_assert_lt(stride - cases[i].size, cases[i].got, "no more padding than it takes");
        for (uint32_t j = 0; j < 9; j++) {
            const unsigned char *bytes = buffer_bytes(pool, buffer_take(pool), cases[i].size);
            cr_assert_eq((uintptr_t)bytes % cases[i].got, 0);
        }
        pool_end(&pool);
    }
}

Test(pool, presets_are_what_their_names_say) {
    const sr_pool_options presets[] = {SR_POOL_OPTIONS_4K, SR_POOL_OPTIONS_2M};
    const uint64_t sizes[] = {4096, 2097152};
    for (size_t i = 0; i < COUNT_OF(presets); i++) {
        sr_pool *pool = NULL;
        assert_ok(sr_pool_create(NULL, &presets[i], &pool));
        cr_assert_eq(pool_stats(pool).buffer_size_bytes, sizes[i]);
        cr_assert_eq(pool_stats(pool).buffer_count, presets[i].buffer_count);
        pool_end(&pool);
    }
}

Test(pool, buffers_come_from_the_region_that_was_given) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    sr_region *region = NULL;
    sr_pool *pool = NULL;
    options.buffer_count = 4;
    options.guard = SR_GUARD_OFF;
    assert_ok(sr_region_create(4 * 4096, NULL, &region));
    assert_ok(sr_pool_create(region, &options, &pool));
    const unsigned char *base = sr_region_base(region);
    for (uint32_t i = 0; i < 4; i++) {
        const unsigned char *bytes = buffer_bytes(pool, buffer_take(pool), 4096);
        cr_assert(bytes >= base && bytes + 4096 <= base + 4 * 4096);
    }
    pool_end(&pool);
    cr_assert_eq(sr_region_size(region), 4 * 4096, "the region outlives its pool");

    misuse_watch();
    options.buffer_count = 5;
    assert_code(sr_pool_create(region, &options, &pool), SR_E_BOUNDS);
    cr_assert_null(pool);
    assert_misuse("sr_pool_create", SR_E_BOUNDS);
    assert_ok(sr_region_destroy(&region));
}

/* ---- accounts ---------------------------------------------------------------------------------
 */

Test(pool, bytes_are_charged_to_the_account_that_was_named) {
    sr_pool *pool = pool_make(1000, 10);
    sr_buffer buffers[4];
    buffers[0] = buffer_take(pool);
    assert_ok(acquire_for(pool, 7, &buffers[1]));
    assert_ok(acquire_for(pool, 7, &buffers[2]));
    assert_ok(acquire_for(pool, UINT32_MAX, &buffers[3]));
    cr_assert_eq(account_bytes(pool, 0), 1000);
    cr_assert_eq(account_bytes(pool, 7), 2000);
    cr_assert_eq(account_bytes(pool, UINT32_MAX), 1000);
    cr_assert_eq(account_bytes(pool, 8), 0, "an account nobody used");
    for (uint32_t i = 0; i < 4; i++) {
        assert_ok(sr_pool_release(pool, buffers[i]));
    }
    cr_assert_eq(account_bytes(pool, 0) + account_bytes(pool, 7), 0);
    cr_assert_eq(account_bytes(pool, UINT32_MAX), 0);
    pool_end(&pool);
}

Test(pool, an_account_is_kept_to_its_limit_and_others_are_not) {
    sr_pool *pool = pool_make(1000, 10);
    sr_buffer mine[3];
    sr_buffer other;
    assert_ok(sr_pool_set_account_limit(pool, 7, 2999)); /* two buffers and not a third */
    assert_ok(acquire_for(pool, 7, &mine[0]));
    assert_ok(acquire_for(pool, 7, &mine[1]));
    misuse_watch();
    assert_code(acquire_for(pool, 7, &mine[2]), SR_E_LIMIT);
    cr_assert_eq(mine[2].bits, 0);
    assert_no_misuse();
    cr_assert_eq(pool_stats(pool).refused_limit_total, 1);
    cr_assert_eq(account_bytes(pool, 7), 2000, "a refused buffer is not charged");
    assert_ok(acquire_for(pool, 8, &other));
    assert_ok(sr_pool_release(pool, mine[0]));
    assert_ok(acquire_for(pool, 7, &mine[0]));
    assert_ok(sr_pool_set_account_limit(pool, 7, 3000));
    assert_ok(acquire_for(pool, 7, &mine[2]));
    pool_end(&pool);
}

Test(pool, a_limit_below_what_is_held_takes_nothing_away) {
    sr_pool *pool = pool_make(1000, 10);
    sr_buffer buffers[3];
    for (uint32_t i = 0; i < 3; i++) {
        assert_ok(sr_pool_acquire(pool, 1, &buffers[i]));
    }
    assert_ok(sr_pool_set_account_limit(pool, 0, 1000));
    cr_assert_eq(account_bytes(pool, 0), 3000);
    sr_buffer more;
    assert_code(sr_pool_acquire(pool, 1, &more), SR_E_LIMIT);
    assert_ok(sr_pool_release(pool, buffers[0]));
    assert_ok(sr_pool_release(pool, buffers[1]));
    assert_code(sr_pool_acquire(pool, 1, &more), SR_E_LIMIT);
    assert_ok(sr_pool_release(pool, buffers[2]));
    assert_ok(sr_pool_acquire(pool, 1, &more));
    assert_ok(sr_pool_set_account_limit(pool, 0, UINT64_MAX));
    assert_ok(sr_pool_acquire(pool, 1, &buffers[0]));
    pool_end(&pool);
}

Test(pool, there_are_no_more_accounts_than_accounts_max) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    sr_pool *pool = NULL;
    sr_buffer buffer;
    options.accounts_max = 3; /* account 0 and two more */
    assert_ok(sr_pool_create(NULL, &options, &pool));
    assert_ok(acquire_for(pool, 10, &buffer));
    assert_ok(sr_pool_set_account_limit(pool, 20, 100000));
    misuse_watch();
    assert_code(acquire_for(pool, 30, &buffer), SR_E_LIMIT);
    cr_assert_eq(buffer.bits, 0);
    assert_code(sr_pool_set_account_limit(pool, 30, 5), SR_E_LIMIT);
    assert_no_misuse();
    assert_ok(acquire_for(pool, 10, &buffer));
    assert_ok(acquire_for(pool, 20, &buffer));
    assert_ok(acquire_for(pool, 0, &buffer));
    cr_assert_eq(account_bytes(pool, 30), 0, "looking opens no account");
    pool_end(&pool);
}

Test(pool, a_refused_acquire_opens_no_account) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    sr_pool *pool = NULL;
    sr_buffer buffer;
    options.accounts_max = 2;
    options.buffer_count = 1;
    assert_ok(sr_pool_create(NULL, &options, &pool));
    assert_code(sr_pool_acquire_for(pool, 0, 10, &buffer), SR_E_BOUNDS);
    assert_ok(acquire_for(pool, 0, &buffer));
    sr_buffer second;
    assert_code(acquire_for(pool, 11, &second), SR_E_FULL);
    assert_ok(sr_pool_release(pool, buffer));
    assert_ok(acquire_for(pool, 12, &buffer));
    cr_assert_eq(account_bytes(pool, 12), 4096);
    pool_end(&pool);
}

/* ---- other threads ------------------------------------------------------------------------------
 */

struct remote {
    sr_pool *pool;
    sr_buffer buffers[3];
    int codes[3];
    sr_thread self;
    pthread_barrier_t barrier;
};

static void *release_as_holder(void *ctx) {
    struct remote *remote = ctx;
    remote->self = sr_thread_self();
    pthread_barrier_wait(&remote->barrier); /* the owner transfers now */
    pthread_barrier_wait(&remote->barrier);
    for (uint32_t i = 0; i < 3; i++) {
        remote->codes[i] = sr_pool_release(remote->pool, remote->buffers[i]);
    }
    return NULL;
}

Test(pool, a_buffer_released_by_another_thread_is_free_and_comes_back_when_the_owner_needs_it) {
    struct remote remote = {.pool = pool_make(1000, 4)};
    pthread_t thread;
    for (uint32_t i = 0; i < 3; i++) {
        remote.buffers[i] = buffer_take(remote.pool);
    }
    cr_assert_eq(pthread_barrier_init(&remote.barrier, NULL, 2), 0);
    cr_assert_eq(pthread_create(&thread, NULL, release_as_holder, &remote), 0);
    pthread_barrier_wait(&remote.barrier);
    for (uint32_t i = 0; i < 3; i++) {
        assert_ok(sr_buffer_transfer(remote.pool, remote.buffers[i], remote.self));
    }
    pthread_barrier_wait(&remote.barrier);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    for (uint32_t i = 0; i < 3; i++) {
        assert_ok(remote.codes[i]);
        /* Stale at once, for everybody. */
        assert_code(sr_pool_release(remote.pool, remote.buffers[i]), SR_E_STALE);
    }
    assert_counts(remote.pool, 4, 0);
    cr_assert_eq(pool_stats(remote.pool).released_remote_total, 3);
    cr_assert_eq(pool_stats(remote.pool).released_total, 3);
    cr_assert_eq(account_bytes(remote.pool, 0), 3000, "on their way they still count");
    for (uint32_t i = 0; i < 4; i++) {
        const sr_buffer buffer = buffer_take(remote.pool);
        memset(buffer_bytes(remote.pool, buffer, 1000), 1, 1000);
    }
    cr_assert_eq(account_bytes(remote.pool, 0), 4000);
    assert_counts(remote.pool, 0, 4);
    pthread_barrier_destroy(&remote.barrier);
    pool_end(&remote.pool);
}

static void *use_from_another_thread(void *ctx) {
    struct remote *remote = ctx;
    sr_pool_stats stats = SR_POOL_STATS_INIT;
    sr_buffer buffer = {1};
    uint64_t bytes = 1;
    remote->codes[0] = sr_pool_acquire(remote->pool, 1, &buffer);
    remote->codes[1] = sr_pool_release(remote->pool, remote->buffers[0]);
    sr_pool *pool = remote->pool;
    remote->codes[2] = sr_pool_destroy(&pool);
    assert_code(acquire_for(remote->pool, 1, &buffer), SR_E_WRONG_THREAD);
    cr_assert_eq(buffer.bits, 0);
    assert_code(sr_pool_get_stats(remote->pool, &stats), SR_E_WRONG_THREAD);
    assert_code(sr_pool_account_bytes(remote->pool, 0, &bytes), SR_E_WRONG_THREAD);
    assert_code(sr_pool_set_account_limit(remote->pool, 0, 1), SR_E_WRONG_THREAD);
    return NULL;
}

Test(pool, another_thread_neither_acquires_nor_releases_nor_destroys) {
    struct remote remote = {.pool = pool_make(1000, 4)};
    remote.buffers[0] = buffer_take(remote.pool);
    thread_run(use_from_another_thread, &remote);
    for (uint32_t i = 0; i < 3; i++) {
        assert_code(remote.codes[i], SR_E_WRONG_THREAD);
    }
    assert_counts(remote.pool, 3, 1);
    assert_ok(sr_pool_release(remote.pool, remote.buffers[0]));
    pool_end(&remote.pool);
}

static void *make_and_leave(void *ctx) {
    sr_pool **pool = ctx;
    *pool = pool_make(1000, 4);
    (void)buffer_take(*pool);
    return NULL;
}

Test(pool, any_thread_may_destroy_a_pool_whose_owner_has_exited) {
    sr_pool *pool = NULL;
    thread_run(make_and_leave, &pool);
    cr_assert_not_null(pool);
    sr_buffer buffer;
    assert_code(sr_pool_acquire(pool, 1, &buffer), SR_E_WRONG_THREAD);
    pool_end(&pool);
}

static void use_in_child(void *ctx) {
    struct remote *remote = ctx;
    void *data = NULL;
    sr_buffer buffer;
    const bool refused =
        sr_pool_acquire(remote->pool, 1, &buffer) == SR_E_FORKED &&
        sr_pool_release(remote->pool, remote->buffers[0]) == SR_E_FORKED &&
        sr_buffer_data(remote->pool, remote->buffers[0], 0, 1, 0, &data) == SR_E_FORKED;
    if (!refused || sr_pool_destroy(&remote->pool) != 0 || remote->pool != NULL) {
        _exit(1);
    }
}

Test(pool, a_forked_child_is_refused_and_may_destroy_its_copy) {
    static struct child_end end;
    struct remote remote = {.pool = pool_make(1000, 4)};
    remote.buffers[0] = buffer_take(remote.pool);
    child_run(use_in_child, &remote, &end);
    cr_assert_not(end.died, "%s", end.words);
    assert_counts(remote.pool, 3, 1);
    assert_ok(sr_pool_release(remote.pool, remote.buffers[0]));
    pool_end(&remote.pool);
}

/* ---- life -------------------------------------------------------------------------------------
 */

Test(pool, an_attached_pool_is_not_destroyed_one_with_held_buffers_is) {
    sr_ring *ring = ring_make(NULL);
    sr_pool *pool = pool_make(4096, 4);
    pool_attach(ring, pool);
    cr_assert_eq(pool_stats(pool).rings_attached, 1);
    misuse_watch();
    sr_pool *kept = pool;
    assert_code(sr_pool_destroy(&pool), SR_E_STATE);
    cr_assert_eq(pool, kept);
    assert_misuse("sr_pool_destroy", SR_E_STATE);
    (void)buffer_take(pool);
    assert_ok(sr_ring_detach_pool(ring, pool));
    cr_assert_eq(pool_stats(pool).rings_attached, 0);
    pool_end(&pool);
    ring_end(&ring);
}

Test(pool, nothing_is_left_behind) {
    static struct baseline before;
    if (RUNNING_ON_VALGRIND) {
        cr_skip_test("valgrind's own mappings come and go among ours");
    }
    for (int round = 0; round < 3; round++) {
        if (round == 1) {
            baseline_take(&before);
        }
        sr_pool *pool = pool_make(100000, 10);
        sr_buffer buffer;
        assert_ok(acquire_for(pool, 5, &buffer));
        pool_end(&pool);
    }
    const char *difference = baseline_difference(&before);
    cr_assert_null(difference, "%s", difference);
}
