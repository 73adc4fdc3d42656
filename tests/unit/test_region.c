/* SPDX-License-Identifier: MIT */
#include "unit/fixture.h"

#include "support/baseline.h"
#include <sys/mman.h>

#define PAGE ((size_t)4096)

static sr_region *region_make(size_t size_bytes, size_t alignment_bytes) {
    sr_region_options options = SR_REGION_OPTIONS_INIT;
    sr_region *region = NULL;
    options.alignment_bytes = alignment_bytes;
    assert_ok(sr_region_create(size_bytes, &options, &region));
    cr_assert_not_null(region);
    return region;
}

static void region_end(sr_region **region) {
    assert_ok(sr_region_destroy(region));
    cr_assert_null(*region);
}

Test(region, sizes_are_rounded_up_to_whole_pages_and_the_memory_is_zero) {
    const size_t sizes[] = {1, 4095, 4096, 4097, 1000000};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        sr_region *region = NULL;
        assert_ok(sr_region_create(sizes[i], NULL, &region));
        const size_t size = sr_region_size(region);
        cr_assert_eq(size, (sizes[i] + PAGE - 1) / PAGE * PAGE);
        unsigned char *base = sr_region_base(region);
        cr_assert_eq((uintptr_t)base % PAGE, 0);
        for (size_t at = 0; at < size; at++) {
            cr_assert_eq(base[at], 0);
        }
        memset(base, 0xff, size);
        region_end(&region);
    }
}

Test(region, the_first_byte_has_the_alignment_that_was_asked_for) {
    for (size_t alignment = PAGE; alignment <= (size_t)1 << 30; alignment *= 2) {
        sr_region *region = region_make(PAGE, alignment);
        cr_assert_eq((uintptr_t)sr_region_base(region) % alignment, 0, "%zu", alignment);
        ((unsigned char *)sr_region_base(region))[PAGE - 1] = 1;
        region_end(&region);
    }
}

Test(region, sizes_and_alignments_outside_of_the_limits_are_refused) {
    const struct {
        size_t size_bytes;
        size_t alignment_bytes;
    } bad[] = {
        {0, PAGE},        {((size_t)1 << 40) + 1, PAGE},
        {SIZE_MAX, PAGE}, {PAGE, 0},
        {PAGE, 2048},     {PAGE, PAGE + 1},
        {PAGE, 3 * PAGE}, {PAGE, (size_t)1 << 31},
        {PAGE, SIZE_MAX},
    };
    misuse_watch();
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        sr_region_options options = SR_REGION_OPTIONS_INIT;
        sr_region *region = (sr_region *)&options; /* must be cleared */
        options.alignment_bytes = bad[i].alignment_bytes;
        assert_code(sr_region_create(bad[i].size_bytes, &options, &region), SR_E_BOUNDS);
        cr_assert_null(region);
        assert_misuse("sr_region_create", SR_E_BOUNDS);
    }
}

/* ---- guard pages and fork: seen by the death of a child
 * ------------------------------------------- */

enum where { BEFORE, FIRST, LAST, BEHIND };

struct touch {
    enum where where;
    size_t alignment_bytes;
};

static void touch_own_region(void *ctx) {
    const struct touch *touch = ctx;
    sr_region *region = region_make(3 * PAGE, touch->alignment_bytes);
    volatile unsigned char *base = sr_region_base(region);
    const size_t size = sr_region_size(region);
    switch (touch->where) {
    case BEFORE:
        base[-1] = 1;
        break;
    case FIRST:
        base[0] = 1;
        break;
    case LAST:
        base[size - 1] = 1;
        break;
    case BEHIND:
        base[size] = 1;
        break;
    }
    region_end(&region);
}

Test(region, pages_before_and_behind_are_inaccessible) {
    static struct child_end end;
    const size_t alignments[] = {PAGE, 16 * PAGE, (size_t)1 << 21};
    for (size_t i = 0; i < COUNT_OF(alignments); i++) {
        for (enum where where = BEFORE; where <= BEHIND; where++) {
            struct touch touch = {where, alignments[i]};
            child_run(touch_own_region, &touch, &end);
            cr_assert_eq(end.died, where == BEFORE || where == BEHIND, "%d, alignment %zu: %s",
                         (int)where, alignments[i], end.words);
        }
    }
}

static void touch_byte(void *ctx) {
    *(volatile unsigned char *)ctx = 1;
}

Test(region, a_forked_child_has_none_of_the_bytes_but_may_destroy_its_copy) {
    static struct child_end end;
    sr_region *region = region_make(PAGE, PAGE);
    child_run(touch_byte, sr_region_base(region), &end);
    cr_assert(end.died, "the child inherited the memory");
    unsigned char own_byte = 0;
    child_run(touch_byte, &own_byte, &end);
    cr_assert_not(end.died, "control: %s", end.words);
    region_end(&region);
}

static void destroy_in_child(void *ctx) {
    sr_region **region = ctx;
    if (sr_region_destroy(region) != 0 || *region != NULL) {
        _exit(1);
    }
}

Test(region, a_forked_child_may_destroy_its_copy) {
    static struct child_end end;
    sr_region *region = region_make(PAGE, PAGE);
    unsigned char *base = sr_region_base(region);
    child_run(destroy_in_child, &region, &end);
    cr_assert_not(end.died, "%s", end.words);
    base[0] = 1; /* the parent still has it */
    region_end(&region);
}

/* ---- adopted memory ---------------------------------------------------------------------------
 */

Test(region, adopted_memory_is_used_as_it_is_and_stays_mapped) {
    unsigned char *memory =
        mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq((void *)memory, MAP_FAILED);
    memset(memory, 7, 4 * PAGE);
    sr_region *region = NULL;
    assert_ok(sr_region_adopt(memory, 4 * PAGE, &region));
    cr_assert_eq(sr_region_base(region), (void *)memory);
    cr_assert_eq(sr_region_size(region), 4 * PAGE);
    cr_assert_eq(memory[PAGE], 7, "adopting wipes nothing");
    region_end(&region);
    memory[0] = 8;
    memory[4 * PAGE - 1] = 8;
    cr_assert_eq(munmap(memory, 4 * PAGE), 0);
}

Test(region, memory_that_is_not_whole_pages_is_not_adopted) {
    static _Alignas(4096) unsigned char memory[2 * 4096];
    const struct {
        void *memory;
        size_t size_bytes;
    } bad[] = {
        {NULL, PAGE},          {memory, 0},        {memory, PAGE - 1},
        {memory + 64, PAGE},   {memory, PAGE + 1}, {memory, ((size_t)1 << 40) + PAGE},
        {memory + 2048, 2048},
    };
    misuse_watch();
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        sr_region *region = (sr_region *)memory;
        assert_code(sr_region_adopt(bad[i].memory, bad[i].size_bytes, &region), SR_E_BOUNDS);
        cr_assert_null(region);
        assert_misuse("sr_region_adopt", SR_E_BOUNDS);
    }
    assert_code(sr_region_adopt(memory, PAGE, NULL), -EINVAL);
    assert_misuse("sr_region_adopt", -EINVAL);
}

/* ---- life -------------------------------------------------------------------------------------
 */

Test(region, a_region_in_use_is_not_destroyed_and_serves_one_pool_at_a_time) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    sr_region *region = region_make(16 * PAGE, PAGE);
    sr_pool *pool = NULL;
    sr_pool *second = NULL;
    options.buffer_count = 16;
    assert_ok(sr_pool_create(region, &options, &pool));
    misuse_watch();
    sr_region *kept = region;
    assert_code(sr_region_destroy(&region), SR_E_STATE);
    cr_assert_eq(region, kept);
    assert_misuse("sr_region_destroy", SR_E_STATE);
    assert_code(sr_pool_create(region, &options, &second), SR_E_STATE);
    cr_assert_null(second);
    assert_misuse("sr_pool_create", SR_E_STATE);
    pool_end(&pool);
    assert_ok(sr_pool_create(region, &options, &second));
    pool_end(&second);
    region_end(&region);
    assert_no_misuse();
}

Test(region, nothing_is_left_behind) {
    static struct baseline before;
    for (int round = 0; round < 3; round++) {
        if (round == 1) {
            baseline_take(&before);
        }
        sr_region *region = region_make(5 * PAGE, (size_t)1 << 21);
        region_end(&region);
    }
    const char *difference = baseline_difference(&before);
    cr_assert_null(difference, "%s", difference);
}
