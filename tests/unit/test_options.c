/* SPDX-License-Identifier: MIT */
/* Options and stats of other sizes than ours: those of older callers, of newer ones, and nonsense.
 */
#include "unit/fixture.h"

#include "core/check.h"

struct known {
    size_t size;
    uint32_t first;
    uint32_t second;
};

/* What a caller of a later release has. */
struct later {
    size_t size;
    uint32_t first;
    uint32_t second;
    uint32_t third;
    uint32_t fourth;
};

static const struct known defaults = {sizeof(struct known), 10, 20};

Test(options, null_keeps_the_defaults) {
    struct known known = defaults;
    cr_assert(sri_options_take(&known, sizeof known, NULL));
    cr_assert_eq(known.first, 10);
    cr_assert_eq(known.second, 20);
}

Test(options, the_size_of_the_library_is_taken_whole) {
    struct known known = defaults;
    const struct known given = {sizeof given, 1, 2};
    cr_assert(sri_options_take(&known, sizeof known, &given));
    cr_assert_eq(known.first, 1);
    cr_assert_eq(known.second, 2);
}

Test(options, fields_that_an_older_caller_lacks_keep_their_defaults) {
    struct known known = defaults;
    const struct known given = {offsetof(struct known, second), 1, 2};
    cr_assert(sri_options_take(&known, sizeof known, &given));
    cr_assert_eq(known.first, 1);
    cr_assert_eq(known.second, 20);
}

Test(options, a_newer_caller_is_understood_if_what_is_unknown_is_zero) {
    struct known known = defaults;
    struct later given = {sizeof given, 1, 2, 0, 0};
    cr_assert(sri_options_take(&known, sizeof known, &given));
    cr_assert_eq(known.first, 1);
    cr_assert_eq(known.second, 2);
}

Test(options, any_unknown_byte_that_is_not_zero_is_refused_and_nothing_is_taken) {
    for (size_t at = sizeof(struct known); at < sizeof(struct later); at++) {
        struct known known = defaults;
        struct later given = {sizeof given, 1, 2, 0, 0};
        ((unsigned char *)&given)[at] = 1;
        cr_assert_not(sri_options_take(&known, sizeof known, &given), "byte %zu", at);
        cr_assert_eq(known.first, 10);
        cr_assert_eq(known.second, 20);
    }
}

Test(options, a_size_that_was_never_set_is_refused) {
    const size_t sizes[] = {0, 1, sizeof(size_t) - 1, 4097, SIZE_MAX};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct known known = defaults;
        const struct known given = {sizes[i], 1, 2};
        cr_assert_not(sri_options_take(&known, sizeof known, &given), "size %zu", sizes[i]);
        cr_assert_eq(known.first, 10);
    }
}

Test(options, the_size_alone_is_the_oldest_caller_of_all) {
    struct known known = defaults;
    const size_t given = sizeof given;
    cr_assert(sri_options_take(&known, sizeof known, &given));
    cr_assert_eq(known.first, 10);
    cr_assert_eq(known.second, 20);
}

Test(options, stats_fill_what_the_caller_has_and_leave_its_size_alone) {
    const struct known stats = {sizeof stats, 7, 8};
    struct known same = {sizeof same, 0, 0};
    sri_stats_give(&same, &stats, sizeof stats);
    cr_assert(same.size == sizeof same && same.first == 7 && same.second == 8);

    struct known older = {offsetof(struct known, second), 0, 99};
    sri_stats_give(&older, &stats, sizeof stats);
    cr_assert_eq(older.first, 7);
    cr_assert_eq(older.second, 99, "written beyond the caller's size");

    struct later newer = {sizeof newer, 0, 0, 55, 56};
    sri_stats_give(&newer, &stats, sizeof stats);
    cr_assert(newer.first == 7 && newer.second == 8);
    cr_assert(newer.third == 0 && newer.fourth == 0, "what the library lacks is zero");
}

Test(options, stats_of_a_size_that_was_never_set_are_refused) {
    cr_assert_not(sri_stats_size_is_valid(0));
    cr_assert_not(sri_stats_size_is_valid(sizeof(size_t) - 1));
    cr_assert(sri_stats_size_is_valid(sizeof(size_t)));
    cr_assert(sri_stats_size_is_valid(4096));
    cr_assert_not(sri_stats_size_is_valid(4097));
}

/* ---- the same through every public call that takes options
 * --------------------------------------- */

static sr_ring *ring;
static sr_pool *pool;
static sr_region *region;

static int take_ring_options(const void *options) {
    sr_ring *made = NULL;
    const int code = sr_ring_create(options, &made);
    cr_assert_eq(made != NULL, code == 0);
    assert_ok(sr_ring_destroy(&made));
    return code;
}

static int take_pool_options(const void *options) {
    sr_pool *made = NULL;
    const int code = sr_pool_create(NULL, options, &made);
    cr_assert_eq(made != NULL, code == 0);
    assert_ok(sr_pool_destroy(&made));
    return code;
}

static int take_region_options(const void *options) {
    sr_region *made = NULL;
    const int code = sr_region_create(4096, options, &made);
    cr_assert_eq(made != NULL, code == 0);
    assert_ok(sr_region_destroy(&made));
    return code;
}

static int take_wait_options(const void *options) {
    return sr_ring_wait(ring, 0, 0, options, NULL);
}

static int take_ring_stats(const void *stats) {
    return sr_ring_get_stats(ring, (sr_ring_stats *)(uintptr_t)stats);
}

static int take_region_stats(const void *stats) {
    return sr_region_get_stats(region, (sr_region_stats *)(uintptr_t)stats);
}

static int take_pool_stats(const void *stats) {
    return sr_pool_get_stats(pool, (sr_pool_stats *)(uintptr_t)stats);
}

static int take_quarantine_stats(const void *stats) {
    return sr_quarantine_stats((sr_quarantine_counts *)(uintptr_t)stats);
}

static const struct {
    const char *function;
    size_t size;
    bool is_stats;
    int (*take)(const void *options);
} calls[] = {
    {"sr_ring_create", sizeof(sr_ring_options), false, take_ring_options},
    {"sr_pool_create", sizeof(sr_pool_options), false, take_pool_options},
    {"sr_region_create", sizeof(sr_region_options), false, take_region_options},
    {"sr_ring_wait", sizeof(sr_wait_options), false, take_wait_options},
    {"sr_ring_get_stats", sizeof(sr_ring_stats), true, take_ring_stats},
    {"sr_region_get_stats", sizeof(sr_region_stats), true, take_region_stats},
    {"sr_pool_get_stats", sizeof(sr_pool_stats), true, take_pool_stats},
    {"sr_quarantine_stats", sizeof(sr_quarantine_counts), true, take_quarantine_stats},
};

/* A struct with defaults, followed by zeroes. */
static void fill_defaults(unsigned char *out, size_t call) {
    const sr_ring_options ring_options = SR_RING_OPTIONS_INIT;
    const sr_pool_options pool_options = SR_POOL_OPTIONS_INIT;
    const sr_region_options region_options = SR_REGION_OPTIONS_INIT;
    const sr_wait_options wait_options = SR_WAIT_OPTIONS_INIT;
    const void *inits[] = {&ring_options, &pool_options, &region_options, &wait_options};
    memset(out, 0, 4200);
    if (call < COUNT_OF(inits)) {
        memcpy(out, inits[call], calls[call].size);
    }
}

static void set_size(unsigned char *options, size_t size) {
    memcpy(options, &size, sizeof size);
}

Test(options, each_public_struct_may_be_shorter_or_longer_but_not_unknown) {
    static _Alignas(16) unsigned char options[4200];
    ring = ring_make(NULL);
    pool = pool_make(64, 4);
    assert_ok(sr_region_create(4096, NULL, &region));
    misuse_watch();
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        const char *function = calls[i].function;
        fill_defaults(options, i);
        set_size(options, calls[i].size);
        cr_assert_eq(calls[i].take(options), 0, "%s: its own size", function);
        set_size(options, sizeof(size_t));
        cr_assert_eq(calls[i].take(options), 0, "%s: the size alone", function);
        fill_defaults(options, i);
        set_size(options, calls[i].size + 64);
        cr_assert_eq(calls[i].take(options), 0, "%s: longer", function);
        assert_no_misuse();

        fill_defaults(options, i);
        options[calls[i].size + 63] = 1;
        set_size(options, calls[i].size + 64);
        if (!calls[i].is_stats) { /* stats are only written */
            cr_assert_eq(calls[i].take(options), -EINVAL, "%s: unknown byte", function);
            assert_misuse(function, -EINVAL);
        }
        const size_t nonsense[] = {0, sizeof(size_t) - 1, 4097, SIZE_MAX};
        for (size_t j = 0; j < COUNT_OF(nonsense); j++) {
            fill_defaults(options, i);
            set_size(options, nonsense[j]);
            cr_assert_eq(calls[i].take(options), -EINVAL, "%s: size %zu", function, nonsense[j]);
            assert_misuse(function, -EINVAL);
        }
    }
    pool_end(&pool);
    assert_ok(sr_region_destroy(&region));
    ring_end(&ring);
}

Test(options, a_request_must_have_the_size_of_the_library) {
    ring = ring_make(NULL);
    misuse_watch();
    const uint32_t sizes[] = {0, sizeof(sr_request) - 8, sizeof(sr_request) + 8, UINT32_MAX};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        sr_op op = {1};
        sr_request request = SR_REQUEST_INIT;
        request.size = sizes[i];
        assert_code(sr_ring_submit(ring, &request, &op), -EINVAL);
        cr_assert_eq(op.bits, 0);
        assert_misuse("sr_ring_submit", -EINVAL);
    }
    cr_assert_eq(ring_stats(ring).submitted_total, 0);
    ring_end(&ring);
}

Test(options, the_initialisers_give_what_null_gives) {
    sr_ring_options ring_options = SR_RING_OPTIONS_INIT;
    sr_ring *by_init = ring_make(&ring_options);
    sr_ring *by_null = ring_make(NULL);
    const sr_ring_stats init_stats = ring_stats(by_init);
    const sr_ring_stats null_stats = ring_stats(by_null);
    cr_assert_eq(memcmp(&init_stats, &null_stats, sizeof init_stats), 0);
    cr_assert_eq(null_stats.sq_entries, 128);
    cr_assert_eq(null_stats.ops_max, 192);
    ring_end(&by_init);
    ring_end(&by_null);

    sr_pool_options pool_options = SR_POOL_OPTIONS_INIT;
    sr_pool *pool_by_init = NULL;
    sr_pool *pool_by_null = NULL;
    assert_ok(sr_pool_create(NULL, &pool_options, &pool_by_init));
    assert_ok(sr_pool_create(NULL, NULL, &pool_by_null));
    const sr_pool_stats a = pool_stats(pool_by_init);
    const sr_pool_stats b = pool_stats(pool_by_null);
    cr_assert_eq(memcmp(&a, &b, sizeof a), 0);
    cr_assert_eq(b.buffer_size_bytes, 4096);
    cr_assert_eq(b.buffer_count, 256);
    pool_end(&pool_by_init);
    pool_end(&pool_by_null);
}
