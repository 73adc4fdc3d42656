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
    uint32_t flags;
    uint32_t pages;
};

static void touch_own_region(void *ctx) {
    const struct touch *touch = ctx;
    sr_region_options options = SR_REGION_OPTIONS_INIT;
    sr_region *region = NULL;
    options.alignment_bytes = touch->alignment_bytes;
    options.flags = touch->flags;
    options.pages = touch->pages;
    assert_ok(sr_region_create(3 * PAGE, &options, &region));
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
    struct touch touches[] = {
        {BEFORE, PAGE, 0, SR_PAGES_NORMAL},
        {BEFORE, 16 * PAGE, 0, SR_PAGES_NORMAL},
        {BEFORE, (size_t)1 << 21, 0, SR_PAGES_NORMAL},
        {BEFORE, 16 * PAGE, SR_REGION_SHAREABLE, SR_PAGES_NORMAL},
        {BEFORE, PAGE, 0, SR_PAGES_THP},
        {BEFORE, PAGE, 0, SR_PAGES_HUGE},
        {BEFORE, PAGE, SR_REGION_SHAREABLE, SR_PAGES_HUGE},
    };
    for (size_t i = 0; i < COUNT_OF(touches); i++) {
        for (enum where where = BEFORE; where <= BEHIND; where++) {
            touches[i].where = where;
            child_run(touch_own_region, &touches[i], &end);
            cr_assert_eq(end.died, where == BEFORE || where == BEHIND, "%d, kind %zu: %s",
                         (int)where, i, end.words);
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

/* ---- shared memory ----------------------------------------------------------------------------
 */

static sr_region *region_make_shareable(size_t size_bytes) {
    sr_region_options options = SR_REGION_OPTIONS_INIT;
    sr_region *region = NULL;
    options.flags = SR_REGION_SHAREABLE;
    assert_ok(sr_region_create(size_bytes, &options, &region));
    return region;
}

/* As another process would: it knows the descriptor and nothing else. */
static void answer_through_descriptor(void *ctx) {
    const int *fd = ctx;
    char *bytes = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    if (bytes == MAP_FAILED || strcmp(bytes, "question") != 0) {
        _exit(1);
    }
    strcpy(bytes + PAGE, "answer");
}

Test(region, a_shareable_region_is_the_same_memory_in_another_process) {
    static struct child_end end;
    sr_region *region = region_make_shareable(2 * PAGE);
    int fd = sr_region_fd(region);
    cr_assert_geq(fd, 0);
    char *base = sr_region_base(region);
    strcpy(base, "question");
    child_run(answer_through_descriptor, &fd, &end);
    cr_assert_not(end.died, "%s", end.words);
    cr_assert_str_eq(base + PAGE, "answer");
    region_end(&region);
}

Test(region, a_shareable_region_keeps_its_size_whoever_has_the_descriptor) {
    sr_region *region = region_make_shareable(2 * PAGE);
    const int fd = sr_region_fd(region);
    struct stat status;
    cr_assert_eq(ftruncate(fd, PAGE), -1);
    cr_assert_eq(errno, EPERM);
    cr_assert_eq(ftruncate(fd, 3 * PAGE), -1);
    cr_assert_eq(errno, EPERM);
    cr_assert_eq(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    cr_assert_eq(fstat(fd, &status), 0);
    cr_assert_eq(status.st_size, (off_t)(2 * PAGE));
    cr_assert_neq(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    region_end(&region);
}

Test(region, statistics_tell_what_is_shareable_and_what_is_adopted) {
    static _Alignas(4096) unsigned char memory[4096];
    sr_region *shareable = region_make_shareable(PAGE);
    sr_region *private = region_make(PAGE, PAGE);
    sr_region *adopted = NULL;
    assert_ok(sr_region_adopt(memory, PAGE, &adopted));
    const sr_region *regions[] = {shareable, private, adopted};
    for (size_t i = 0; i < COUNT_OF(regions); i++) {
        sr_region_stats stats = SR_REGION_STATS_INIT;
        assert_ok(sr_region_get_stats(regions[i], &stats));
        cr_assert_eq(stats.region_bytes, PAGE);
        cr_assert_eq(stats.shareable, regions[i] == shareable);
        cr_assert_eq(stats.adopted, regions[i] == adopted);
        cr_assert_eq(stats.guard_pages, regions[i] == adopted ? 0 : 2);
    }
    misuse_watch();
    assert_code(sr_region_fd(private), SR_E_STATE);
    assert_misuse("sr_region_fd", SR_E_STATE);
    assert_code(sr_region_fd(adopted), SR_E_STATE);
    assert_misuse("sr_region_fd", SR_E_STATE);
    assert_code(sr_region_fd(NULL), SR_E_OBJECT);
    assert_misuse("sr_region_fd", SR_E_OBJECT);
    region_end(&shareable);
    region_end(&private);
    region_end(&adopted);
}

static void look_for_descriptor_after_destroy(void *ctx) {
    sr_region **region = ctx;
    const int fd = sr_region_fd(*region);
    if (sr_region_destroy(region) != 0 || fcntl(fd, F_GETFD) != -1) {
        _exit(1);
    }
}

Test(region, a_forked_child_gives_its_copy_of_the_descriptor_back) {
    static struct child_end end;
    sr_region *region = region_make_shareable(PAGE);
    child_run(touch_byte, sr_region_base(region), &end);
    cr_assert(end.died, "the child inherited the mapping");
    child_run(look_for_descriptor_after_destroy, &region, &end);
    cr_assert_not(end.died, "%s", end.words);
    cr_assert_geq(fcntl(sr_region_fd(region), F_GETFD), 0);
    region_end(&region);
}

Test(region, a_shareable_region_leaves_nothing_behind) {
    static struct baseline before;
    for (int round = 0; round < 3; round++) {
        if (round == 1) {
            baseline_take(&before);
        }
        sr_region *region = region_make_shareable(5 * PAGE);
        memset(sr_region_base(region), 1, 5 * PAGE);
        region_end(&region);
    }
    const char *difference = baseline_difference(&before);
    cr_assert_null(difference, "%s", difference);
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
    options.buffer_count = 8; /* guards need room between them */
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
