/* SPDX-License-Identifier: MIT */
/*
 * Where the memory of a region lies and of which pages it is. The library says what it got; the
 * tests ask the kernel again, by themselves. What one machine cannot have (a second node, huge
 * pages) is asked of the parts that judge it, and denied by filters.
 */
#include "unit/fixture.h"

#include "support/baseline.h"
#include "support/deny.h"
#include "support/valgrind.h"
#include "sys/huge.h"
#include "sys/numa.h"
#include <inttypes.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define PAGE      ((size_t)4096)
#define SIZE      (64 * PAGE)
#define NODE_LAST (SRI_NODES_MAX - 1)

static sr_region_options options_with(uint32_t placement, uint32_t node, uint32_t flags) {
    sr_region_options options = SR_REGION_OPTIONS_INIT;
    options.placement = placement;
    options.node = node;
    options.flags = flags;
    return options;
}

static sr_region *region_make(size_t size_bytes, const sr_region_options *options) {
    sr_region *region = NULL;
    assert_ok(sr_region_create(size_bytes, options, &region));
    return region;
}

static void region_end(sr_region **region) {
    assert_ok(sr_region_destroy(region));
}

static sr_region_stats stats_of(const sr_region *region) {
    sr_region_stats stats = SR_REGION_STATS_INIT;
    assert_ok(sr_region_get_stats(region, &stats));
    return stats;
}

/* ---- what the kernel says ---------------------------------------------------------------------
 */

/* Node of a page, or a negative errno: -ENOENT if it was not touched. */
static int node_of(void *page) {
    int node = -1;
    cr_assert_eq(syscall(SYS_move_pages, 0, 1ul, &page, NULL, &node, 0), 0);
    return node;
}

static int policy_of(void *page) {
    int mode = -1;
    cr_assert_eq(syscall(SYS_get_mempolicy, &mode, NULL, 0ul, page, (unsigned long)MPOL_F_ADDR), 0);
    return mode;
}

static uint32_t node_here(void) {
    unsigned int node = 0;
    cr_assert_eq(getcpu(NULL, &node), 0);
    return node;
}

/* Some sandboxes deny what these tests are about; the cases that deny it themselves run there too.
 */
static void skip_without_numa(void) {
    int mode = 0;
    if (syscall(SYS_get_mempolicy, &mode, NULL, 0ul, NULL, 0ul) != 0 ||
        syscall(SYS_mbind, NULL, 0ul, MPOL_DEFAULT, NULL, 0ul, 0u) != 0) {
        cr_skip_test("no memory policies here: %s", strerror(errno));
    }
}

/* ---- placement --------------------------------------------------------------------------------
 */

/* What move_pages(2) says of a page that was never touched; -EFAULT up to Linux 6.1. */
static bool is_absent(int code) {
    return code == -ENOENT || code == -EFAULT;
}

Test(placement, without_a_wish_nothing_is_touched) {
    sr_region *region = region_make(SIZE, NULL);
    const sr_region_stats stats = stats_of(region);
    cr_assert_eq(stats.region_bytes, SIZE);
    cr_assert(stats.placement_wanted == SR_PLACE_ANY && stats.placement == SR_PLACE_ANY);
    cr_assert(stats.pages_wanted == SR_PAGES_NORMAL && stats.pages == SR_PAGES_NORMAL);
    cr_assert(stats.placement_error == 0 && stats.pages_error == 0);
    cr_assert(stats.verified_bytes == 0 && stats.huge_bytes == 0);
    cr_assert(stats.guard_pages == 2 && stats.shareable == 0 && stats.adopted == 0);
    skip_without_numa();
    cr_assert(is_absent(node_of(sr_region_base(region))));
    region_end(&region);
}

static void check_placed(uint32_t placement, uint32_t node, uint32_t flags, int policy) {
    const sr_region_options options = options_with(placement, node, flags);
    sr_region *region = region_make(SIZE, &options);
    const sr_region_stats stats = stats_of(region);
    char *base = sr_region_base(region);
    assert_ok(stats.placement_error);
    cr_assert(stats.placement_wanted == placement && stats.placement == placement);
    cr_assert_eq(stats.verified_bytes, SIZE);
    for (size_t at = 0; at < SIZE; at += PAGE) {
        cr_assert_eq(policy_of(base + at), policy);
        cr_assert_geq(node_of(base + at), 0, "page %zu was not touched", at / PAGE);
        if (placement != SR_PLACE_INTERLEAVE) {
            cr_assert_eq(stats.node, node);
            cr_assert_eq(node_of(base + at), (int)node);
        }
        cr_assert_eq(base[at], 0);
    }
    region_end(&region);
}

static struct sri_nodes nodes_allowed(void) {
    struct sri_nodes nodes = {0};
    cr_assert_eq(syscall(SYS_get_mempolicy, NULL, nodes.words, SRI_NODES_MAX + 1ul, NULL,
                         (unsigned long)MPOL_F_MEMS_ALLOWED),
                 0);
    return nodes;
}

static bool has_node(const struct sri_nodes *nodes, uint32_t node) {
    return (nodes->words[node / 64] >> (node % 64) & 1) != 0;
}

Test(placement, local_memory_is_had_and_verified) {
    skip_without_numa();
    const uint32_t node = node_here();
    check_placed(SR_PLACE_LOCAL, node, 0, MPOL_PREFERRED);
    check_placed(SR_PLACE_LOCAL, node, SR_PLACE_STRICT, MPOL_PREFERRED);
}

Test(placement, memory_of_each_node_is_had_and_verified) {
    skip_without_numa();
    const struct sri_nodes nodes = nodes_allowed();
    for (uint32_t node = 0; node < SRI_NODES_MAX; node++) {
        if (has_node(&nodes, node)) {
            check_placed(SR_PLACE_NODE, node, 0, MPOL_PREFERRED);
            check_placed(SR_PLACE_NODE, node, SR_PLACE_STRICT, MPOL_PREFERRED);
            check_placed(SR_PLACE_NODE, node, SR_PLACE_STRICT | SR_REGION_SHAREABLE,
                         MPOL_PREFERRED);
        }
    }
}

Test(placement, memory_on_all_nodes_in_turn_is_had_and_verified) {
    skip_without_numa();
    check_placed(SR_PLACE_INTERLEAVE, 0, 0, MPOL_INTERLEAVE);
    check_placed(SR_PLACE_INTERLEAVE, 0, SR_PLACE_STRICT, MPOL_INTERLEAVE);
    check_placed(SR_PLACE_INTERLEAVE, 0, SR_PLACE_STRICT | SR_REGION_SHAREABLE, MPOL_INTERLEAVE);
}

Test(placement, a_node_that_is_not_there_is_told_or_with_strict_refused) {
    static struct baseline before;
    sr_region_options options = options_with(SR_PLACE_NODE, NODE_LAST, 0);
    sr_region *region = NULL;
    skip_without_numa();
    region = region_make(SIZE, NULL); /* warms up */
    region_end(&region);
    baseline_take(&before);
    region = region_make(SIZE, &options);
    const sr_region_stats stats = stats_of(region);
    cr_assert(stats.placement_wanted == SR_PLACE_NODE && stats.placement == SR_PLACE_ANY);
    assert_code(stats.placement_error, -ENODEV);
    cr_assert_eq(stats.verified_bytes, 0);
    memset(sr_region_base(region), 1, SIZE);
    region_end(&region);

    misuse_watch();
    options.flags = SR_PLACE_STRICT;
    assert_code(sr_region_create(SIZE, &options, &region), -ENODEV);
    cr_assert_null(region);
    options.flags = SR_PLACE_STRICT | SR_REGION_SHAREABLE;
    assert_code(sr_region_create(SIZE, &options, &region), -ENODEV);
    assert_no_misuse(); /* the machine's fault, not the caller's */
    const char *difference = baseline_difference(&before);
    cr_assert_null(difference, "%s", difference);
}

/* ---- judging ----------------------------------------------------------------------------------
 */

static struct sri_nodes nodes_of(uint32_t first, uint32_t second) {
    struct sri_nodes nodes = {0};
    nodes.words[first / 64] |= 1ul << (first % 64);
    nodes.words[second / 64] |= 1ul << (second % 64);
    return nodes;
}

Test(placement, memory_that_came_to_lie_elsewhere_is_found_out) {
    const sr_region_options options = options_with(SR_PLACE_LOCAL, 0, 0);
    skip_without_numa();
    sr_region *region = region_make(SIZE, &options);
    const struct sri_mapping mapping = {
        .base = sr_region_base(region), .size_bytes = SIZE, .fd = -1};
    const uint32_t here = (uint32_t)node_of(mapping.base);
    const struct sri_nodes here_only = nodes_of(here, here);
    const struct sri_nodes elsewhere = nodes_of(NODE_LAST, NODE_LAST);
    const struct sri_nodes both = nodes_of(here, NODE_LAST);
    uint64_t verified = 1;
    assert_ok(sri_numa_verify(SR_PLACE_NODE, &mapping, &here_only, PAGE, &verified));
    cr_assert_eq(verified, SIZE);
    assert_code(sri_numa_verify(SR_PLACE_NODE, &mapping, &elsewhere, PAGE, &verified), -ENOMEM);
    cr_assert_eq(verified, 0);
    assert_ok(sri_numa_verify(SR_PLACE_LOCAL, &mapping, &both, PAGE, &verified));
    /* All on one of two nodes is not in turn. */
    assert_code(sri_numa_verify(SR_PLACE_INTERLEAVE, &mapping, &both, PAGE, &verified), -ENOMEM);
    region_end(&region);
}

Test(placement, pages_that_are_not_there_are_not_verified) {
    skip_without_numa();
    sr_region *region = region_make(SIZE, NULL);
    const struct sri_mapping mapping = {
        .base = sr_region_base(region), .size_bytes = SIZE, .fd = -1};
    ((char *)mapping.base)[0] = 1;
    const uint32_t here = (uint32_t)node_of(mapping.base);
    const struct sri_nodes nodes = nodes_of(here, here);
    uint64_t verified = 0;
    cr_assert(is_absent(sri_numa_verify(SR_PLACE_NODE, &mapping, &nodes, PAGE, &verified)));
    cr_assert_eq(verified, PAGE);
    region_end(&region);
}

/* ---- denied -----------------------------------------------------------------------------------
 */

#define CHILD_CHECK(condition)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static void create_denied(void *ctx) {
    const uint32_t *number = ctx;
    sr_region_options options = options_with(SR_PLACE_LOCAL, 0, 0);
    sr_region_stats stats = SR_REGION_STATS_INIT;
    sr_region *region = NULL;
    CHILD_CHECK(deny_call(*number, EPERM) == NULL);
    CHILD_CHECK(sr_region_create(SIZE, &options, &region) == 0);
    CHILD_CHECK(sr_region_get_stats(region, &stats) == 0);
    CHILD_CHECK(stats.placement_wanted == SR_PLACE_LOCAL && stats.placement == SR_PLACE_ANY);
    CHILD_CHECK(stats.placement_error == -EPERM && stats.verified_bytes == 0);
    memset(sr_region_base(region), 1, SIZE);
    CHILD_CHECK(sr_region_destroy(&region) == 0);
    options.flags = SR_PLACE_STRICT;
    CHILD_CHECK(sr_region_create(SIZE, &options, &region) == -EPERM && region == NULL);
    options = options_with(SR_PLACE_ANY, 0, SR_PLACE_STRICT); /* nothing is asked, nothing denied */
    CHILD_CHECK(sr_region_create(SIZE, &options, &region) == 0);
    CHILD_CHECK(sr_region_destroy(&region) == 0);
}

Test(placement, a_filter_that_denies_it_is_told_or_with_strict_an_error) {
    static const uint32_t numbers[] = {SYS_mbind, SYS_move_pages, SYS_get_mempolicy};
    static struct child_end end;
    if (RUNNING_ON_VALGRIND) {
        cr_skip_test("a filter would bind valgrind itself");
    }
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        uint32_t number = numbers[i];
        child_run(create_denied, &number, &end);
        cr_assert_not(end.died, "system call %u: %s", number, end.words);
    }
}

/* ---- pages ------------------------------------------------------------------------------------
 */

static uint64_t free_huge_pages(void) {
    uint64_t count = 0;
    FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
    if (file != NULL) {
        cr_assert_eq(fscanf(file, "%" SCNu64, &count), 1);
        (void)fclose(file);
    }
    return count;
}

/* The words of a setting like "always [madvise] never": the one in brackets is in force. */
static bool setting_is(const char *path, const char *word) {
    char line[128] = "";
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        (void)fgets(line, sizeof line, file);
        (void)fclose(file);
    }
    return strstr(line, word) != NULL;
}

static sr_region *region_of_pages(size_t size_bytes, uint32_t pages, uint32_t flags) {
    sr_region_options options = SR_REGION_OPTIONS_INIT;
    options.pages = pages;
    options.flags = flags;
    sr_region *region = region_make(size_bytes, &options);
    unsigned char *base = sr_region_base(region);
    cr_assert_eq(sr_region_size(region) % SRI_HUGE_PAGE_BYTES, 0);
    cr_assert_geq(sr_region_size(region), size_bytes);
    cr_assert_eq((uintptr_t)base % SRI_HUGE_PAGE_BYTES, 0);
    cr_assert(base[0] == 0 && base[sr_region_size(region) - 1] == 0);
    memset(base, 1, sr_region_size(region));
    return region;
}

/* What the kernel gives if it can, and what is said if it does not. */
static void check_thp(uint32_t flags, bool possible) {
    sr_region *region = region_of_pages(3 * SRI_HUGE_PAGE_BYTES - 1, SR_PAGES_THP, flags);
    const sr_region_stats stats = stats_of(region);
    cr_assert_eq(stats.pages_wanted, SR_PAGES_THP);
    cr_assert_eq(stats.region_bytes, 3 * SRI_HUGE_PAGE_BYTES);
    cr_assert_eq(stats.pages == SR_PAGES_THP, stats.huge_bytes > 0);
    cr_assert_eq(stats.pages_error, stats.pages == SR_PAGES_THP ? 0 : SR_E_UNSUPPORTED);
    cr_assert_leq(stats.huge_bytes, stats.region_bytes);
    if (!possible) {
        cr_assert_eq(stats.pages, SR_PAGES_NORMAL);
    } else if (stats.pages != SR_PAGES_THP) {
        cr_log_warn("no 2 MiB of memory in one piece here");
    }
    region_end(&region);
}

Test(placement, transparent_huge_pages_are_counted_where_the_kernel_has_them) {
    if (RUNNING_ON_VALGRIND) {
        cr_skip_test("valgrind's address space may have no place for them");
    }
    check_thp(0, !setting_is("/sys/kernel/mm/transparent_hugepage/enabled", "[never]"));
    const char *shared = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    check_thp(SR_REGION_SHAREABLE, !setting_is(shared, "[never]") && !setting_is(shared, "[deny]"));
}

static void create_without_thp(void *ctx) {
    sr_region_options options = SR_REGION_OPTIONS_INIT;
    sr_region_stats stats = SR_REGION_STATS_INIT;
    sr_region *region = NULL;
    (void)ctx;
    CHILD_CHECK(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
    options.pages = SR_PAGES_THP;
    CHILD_CHECK(sr_region_create(SRI_HUGE_PAGE_BYTES, &options, &region) == 0);
    CHILD_CHECK(sr_region_get_stats(region, &stats) == 0);
    CHILD_CHECK(stats.pages_wanted == SR_PAGES_THP && stats.pages == SR_PAGES_NORMAL);
    CHILD_CHECK(stats.pages_error == SR_E_UNSUPPORTED && stats.huge_bytes == 0);
    memset(sr_region_base(region), 1, SRI_HUGE_PAGE_BYTES);
    CHILD_CHECK(sr_region_destroy(&region) == 0);
}

Test(placement, where_transparent_huge_pages_are_off_normal_ones_do) {
    static struct child_end end;
    child_run(create_without_thp, NULL, &end);
    cr_assert_not(end.died, "%s", end.words);
}

static void check_huge(uint32_t flags) {
    sr_region *region = region_of_pages(2 * SRI_HUGE_PAGE_BYTES, SR_PAGES_HUGE, flags);
    const sr_region_stats stats = stats_of(region);
    cr_assert(stats.pages == SR_PAGES_HUGE && stats.pages_error == 0);
    cr_assert_eq(stats.huge_bytes, 2 * SRI_HUGE_PAGE_BYTES);
    cr_assert_eq(stats.shareable, (flags & SR_REGION_SHAREABLE) != 0);
    region_end(&region);
}

Test(placement, pages_that_were_set_aside_are_had) {
    const uint64_t before = free_huge_pages();
    if (before < 2) {
        cr_skip_test("fewer than two huge pages are set aside");
    }
    check_huge(0);
    check_huge(SR_REGION_SHAREABLE);
    cr_assert_eq(free_huge_pages(), before);
}

Test(placement, too_few_pages_set_aside_give_way_to_transparent_or_normal_ones) {
    const uint64_t free_before = free_huge_pages();
    if (free_before > 64) {
        cr_skip_test("%" PRIu64 " huge pages are free: too many to use up", free_before);
    }
    for (uint32_t flags = 0; flags <= SR_REGION_SHAREABLE; flags += SR_REGION_SHAREABLE) {
        const size_t size = (free_before + 1) * SRI_HUGE_PAGE_BYTES;
        sr_region *region = region_of_pages(size, SR_PAGES_HUGE, flags);
        const sr_region_stats stats = stats_of(region);
        cr_assert_eq(stats.pages_wanted, SR_PAGES_HUGE);
        cr_assert_neq(stats.pages, SR_PAGES_HUGE);
        assert_code(stats.pages_error, -ENOMEM);
        cr_assert_eq(stats.pages == SR_PAGES_THP, stats.huge_bytes > 0);
        cr_assert_eq(free_huge_pages(), free_before, "what was had of them was not given back");
        region_end(&region);
    }
}

Test(placement, huge_pages_are_placed_too) {
    skip_without_numa();
    sr_region_options options = options_with(SR_PLACE_LOCAL, 0, SR_PLACE_STRICT);
    options.pages = SR_PAGES_HUGE;
    sr_region *region = region_make(1, &options);
    const sr_region_stats stats = stats_of(region);
    cr_assert_eq(stats.placement, SR_PLACE_LOCAL);
    cr_assert_eq(stats.verified_bytes, SRI_HUGE_PAGE_BYTES);
    region_end(&region);
}

Test(placement, counting_huge_pages_sees_the_given_range_only) {
    uint64_t bytes = 1;
    sr_region *region = region_make(SIZE, NULL);
    assert_ok(sri_huge_count(sr_region_base(region), SIZE, &bytes));
    cr_assert_eq(bytes, 0);
    region_end(&region);
}

/* ---- options ----------------------------------------------------------------------------------
 */

Test(placement, wishes_that_nobody_knows_are_refused) {
    sr_region *region = NULL;
    sr_region_options options[5];
    for (size_t i = 0; i < COUNT_OF(options); i++) {
        options[i] = options_with(SR_PLACE_ANY, 0, 0);
    }
    options[0].placement = SR_PLACE_INTERLEAVE + 1;
    options[1].node = SRI_NODES_MAX;
    options[2].pages = SR_PAGES_HUGE + 1;
    options[3].flags = SR_REGION_SHAREABLE << 1;
    options[4].flags = UINT32_MAX;
    misuse_watch();
    for (size_t i = 0; i < COUNT_OF(options); i++) {
        const int code = i < 3 ? SR_E_BOUNDS : -EINVAL;
        assert_code(sr_region_create(SIZE, &options[i], &region), code);
        cr_assert_null(region);
        assert_misuse("sr_region_create", code);
    }
}

Test(placement, a_caller_from_before_placement_is_understood) {
    const struct {
        size_t size;
        size_t alignment_bytes;
        uint32_t beyond[4];
    } before = {offsetof(sr_region_options, placement), 65536, {99, 99, 99, 99}};
    sr_region *region = NULL;
    assert_ok(sr_region_create(SIZE, (const sr_region_options *)(const void *)&before, &region));
    cr_assert_eq((uintptr_t)sr_region_base(region) % 65536, 0);
    cr_assert_eq(stats_of(region).placement_wanted, SR_PLACE_ANY);
    region_end(&region);
}

Test(placement, statistics_of_what_is_no_region_are_refused) {
    sr_region_stats stats = SR_REGION_STATS_INIT;
    sr_region *region = region_make(SIZE, NULL);
    misuse_watch();
    assert_code(sr_region_get_stats(NULL, &stats), SR_E_OBJECT);
    assert_misuse("sr_region_get_stats", SR_E_OBJECT);
    assert_code(sr_region_get_stats(region, NULL), -EINVAL);
    assert_misuse("sr_region_get_stats", -EINVAL);
    stats.size = 0;
    assert_code(sr_region_get_stats(region, &stats), -EINVAL);
    assert_misuse("sr_region_get_stats", -EINVAL);
    region_end(&region);
}

/* ---- use --------------------------------------------------------------------------------------
 */

Test(placement, a_pool_on_placed_memory_of_huge_pages_takes_what_the_kernel_reads) {
    struct directory directory = directory_begin();
    sr_region_options region_options = options_with(SR_PLACE_INTERLEAVE, 0, SR_REGION_SHAREABLE);
    sr_pool_options pool_options = SR_POOL_OPTIONS_INIT;
    region_options.pages = SR_PAGES_THP;
    sr_region *region = region_make(SRI_HUGE_PAGE_BYTES, &region_options);
    sr_ring *ring = ring_make(NULL);
    sr_pool *pool = NULL;
    assert_ok(sr_pool_create(region, &pool_options, &pool));
    pool_attach(ring, pool);
    sr_request request = request_of(SR_OP_READ);
    request.file = file_take(ring, directory_file(&directory, "words", "spoken words", 12));
    request.buffer = buffer_take(pool);
    request.length = 4096;
    cr_assert_eq(run(ring, &request).result, 12);
    cr_assert_eq(memcmp(buffer_bytes(pool, request.buffer, 4096), "spoken words", 12), 0);
    ring_end(&ring);
    pool_end(&pool);
    region_end(&region);
    directory_end(&directory);
}
