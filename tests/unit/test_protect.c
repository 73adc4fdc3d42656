/* SPDX-License-Identifier: MIT */
/*
 * Guard level protect: which pages are closed while what is lent, and that the kernel goes on using
 * them. Rights are seen by asking the kernel to read or write a byte for the program, which answers
 * EFAULT where the program would die. The death itself is in test_fault.c.
 */
#include "unit/fixture.h"

#include "buffer/lend.h"
#include "support/baseline.h"
#include "support/failing.h"
#include "support/scale.h"
#include "support/valgrind.h"
#include <sys/mman.h>
#include <sys/syscall.h>

#define PAGE ((size_t)4096)

static sr_pool_options options_of(size_t size_bytes, uint32_t count) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    options.buffer_size_bytes = size_bytes;
    options.buffer_count = count;
    options.guard = SR_GUARD_PROTECT;
    return options;
}

static sr_pool *pool_protected(size_t size_bytes, uint32_t count) {
    const sr_pool_options options = options_of(size_bytes, count);
    sr_pool *pool = NULL;
    assert_ok(sr_pool_create(NULL, &options, &pool));
    cr_assert_eq(pool_stats(pool).guard, SR_GUARD_PROTECT);
    assert_ok(pool_stats(pool).guard_error);
    return pool;
}

/* ---- rights ------------------------------------------------------------------------------------
 */

static int pipe_ends[2] = {-1, -1};

static void rights_begin(void) {
    cr_assert_eq(pipe2(pipe_ends, O_CLOEXEC), 0);
}

static void rights_end(void) {
    cr_assert_eq(close(pipe_ends[0]), 0);
    cr_assert_eq(close(pipe_ends[1]), 0);
}

TestSuite(protect, .init = rights_begin, .fini = rights_end);

/* By bare system calls, which no sanitizer looks into. Both leave the byte as it is. */
static bool may_read(const unsigned char *byte) {
    char taken = 0;
    if (syscall(SYS_write, pipe_ends[1], byte, 1ul) != 1) {
        cr_assert_eq(errno, EFAULT);
        return false;
    }
    cr_assert_eq(read(pipe_ends[0], &taken, 1), 1);
    return true;
}

static bool may_write(const unsigned char *byte) {
    char given = 0;
    if (may_read(byte)) {
        given = (char)*byte;
    }
    cr_assert_eq(write(pipe_ends[1], &given, 1), 1);
    if (syscall(SYS_read, pipe_ends[0], byte, 1ul) != 1) {
        cr_assert_eq(errno, EFAULT);
        cr_assert_eq(read(pipe_ends[0], &given, 1), 1);
        return false;
    }
    return true;
}

enum rights { CLOSED = 'n', READABLE = 'r', OPEN = 'w' };

static enum rights rights_of(const unsigned char *byte) {
    VALGRIND_DISABLE_ERROR_REPORTING;
    const bool readable = may_read(byte);
    const bool writable = may_write(byte);
    VALGRIND_ENABLE_ERROR_REPORTING;
    return writable ? OPEN : readable ? READABLE : CLOSED;
}

/* Of each page of a buffer, as letters. */
static const char *rights_of_pages(const unsigned char *bytes, size_t page_count) {
    static char letters[64];
    for (size_t i = 0; i < page_count; i++) {
        const enum rights first = rights_of(bytes + i * PAGE);
        cr_assert_eq(rights_of(bytes + i * PAGE + PAGE - 1), first);
        letters[i] = (char)first;
    }
    letters[page_count] = '\0';
    return letters;
}

static void *lend(sr_pool *pool, sr_buffer buffer, size_t begin, size_t end, bool writer,
                  struct sri_loan *loan) {
    void *memory = NULL;
    assert_ok(sri_loan_begin(pool, buffer.bits, begin, end - begin, writer, loan, &memory));
    return memory;
}

/* ---- pools ------------------------------------------------------------------------------------
 */

Test(protect, the_environment_may_ask_for_it) {
    sr_pool *pool = NULL;
    cr_assert_eq(setenv("SAFERING_GUARD", "protect", 1), 0);
    assert_ok(sr_pool_create(NULL, NULL, &pool));
    cr_assert_eq(pool_stats(pool).guard, SR_GUARD_PROTECT);
    pool_end(&pool);
}

Test(protect, every_buffer_has_pages_of_its_own) {
    static const size_t sizes[] = {64, 100, 4096, 4097, 10000};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        sr_pool *pool = pool_protected(sizes[i], 3);
        cr_assert_eq(pool_stats(pool).stride_bytes, (sizes[i] + PAGE - 1) / PAGE * PAGE);
        const unsigned char *bytes = buffer_bytes(pool, buffer_take(pool), sizes[i]);
        cr_assert_eq((uintptr_t)bytes % PAGE, 0);
        pool_end(&pool);
    }
}

Test(protect, memory_that_cannot_be_mapped_twice_is_poisoned_instead) {
    static _Alignas(4096) unsigned char memory[16 * 4096];
    const sr_pool_options options = options_of(PAGE, 4);
    sr_region *regions[2] = {NULL, NULL};
    assert_ok(sr_region_adopt(memory, sizeof memory, &regions[0]));
    assert_ok(sr_region_create(16 * PAGE, NULL, &regions[1]));
    for (size_t i = 0; i < COUNT_OF(regions); i++) {
        sr_pool *pool = NULL;
        assert_ok(sr_pool_create(regions[i], &options, &pool));
        const sr_pool_stats stats = pool_stats(pool);
        cr_assert_eq(stats.guard, SR_GUARD_POISON);
        assert_code(stats.guard_error, SR_E_UNSUPPORTED);
        cr_assert_gt(stats.stride_bytes, PAGE, "no canary");
        pool_end(&pool);
        assert_ok(sr_region_destroy(&regions[i]));
    }
}

Test(protect, a_shareable_region_is_protected_and_open_again_after_its_pool) {
    const sr_pool_options options = options_of(2 * PAGE, 4);
    sr_region_options region_options = SR_REGION_OPTIONS_INIT;
    sr_region *region = NULL;
    region_options.flags = SR_REGION_SHAREABLE;
    assert_ok(sr_region_create(16 * PAGE, &region_options, &region));
    for (int round = 0; round < 2; round++) {
        sr_pool *pool = NULL;
        struct sri_loan loan;
        assert_ok(sr_pool_create(region, &options, &pool));
        cr_assert_eq(pool_stats(pool).guard, SR_GUARD_PROTECT);
        const sr_buffer buffer = buffer_take(pool);
        const unsigned char *bytes = buffer_bytes(pool, buffer, 2 * PAGE);
        (void)lend(pool, buffer, 0, 2 * PAGE, true, &loan);
        cr_assert_str_eq(rights_of_pages(bytes, 2), "nn");
        sri_loan_end(pool, &loan, 0);
        pool_end(&pool);
        memset(sr_region_base(region), 1, 16 * PAGE);
    }
    assert_ok(sr_region_destroy(&region));
}

Test(protect, a_region_that_is_too_small_or_in_use_is_refused_all_the_same) {
    const sr_pool_options options = options_of(64, 5);
    sr_region_options region_options = SR_REGION_OPTIONS_INIT;
    sr_region *region = NULL;
    sr_pool *pool = NULL;
    sr_pool *second = NULL;
    region_options.flags = SR_REGION_SHAREABLE;
    assert_ok(sr_region_create(4 * PAGE, &region_options, &region));
    misuse_watch();
    assert_code(sr_pool_create(region, &options, &pool), SR_E_BOUNDS);
    assert_misuse("sr_pool_create", SR_E_BOUNDS);
    const sr_pool_options four = options_of(64, 4);
    assert_ok(sr_pool_create(region, &four, &pool));
    assert_code(sr_pool_create(region, &four, &second), SR_E_STATE);
    assert_misuse("sr_pool_create", SR_E_STATE);
    pool_end(&pool);
    assert_ok(sr_region_destroy(&region));
}

Test(protect, a_pool_leaves_nothing_behind) {
    static struct baseline before;
    if (RUNNING_ON_VALGRIND) {
        cr_skip_test("valgrind's own mappings change meanwhile");
    }
    for (int round = 0; round < 3; round++) {
        if (round == 1) {
            baseline_take(&before);
        }
        sr_pool *pool = pool_protected(PAGE, 16);
        struct sri_loan loan;
        const sr_buffer buffer = buffer_take(pool);
        (void)lend(pool, buffer, 0, PAGE, true, &loan);
        sri_loan_end(pool, &loan, 0);
        pool_end(&pool);
    }
    const char *difference = baseline_difference(&before);
    cr_assert_null(difference, "%s", difference);
}

static void destroy_in_child(void *ctx) {
    sr_pool **pool = ctx;
    if (sr_pool_destroy(pool) != 0 || *pool != NULL) {
        _exit(1);
    }
}

Test(protect, a_forked_child_may_destroy_its_copy_and_the_parent_goes_on) {
    static struct child_end end;
    sr_pool *pool = pool_protected(PAGE, 4);
    const sr_buffer buffer = buffer_take(pool);
    struct sri_loan loan;
    child_run(destroy_in_child, &pool, &end);
    cr_assert_not(end.died, "%s", end.words);
    const unsigned char *bytes = buffer_bytes(pool, buffer, PAGE);
    memset(lend(pool, buffer, 0, PAGE, true, &loan), 7, PAGE);
    sri_loan_end(pool, &loan, PAGE);
    cr_assert_eq(bytes[0], 7);
    pool_end(&pool);
}

/* ---- which pages ------------------------------------------------------------------------------
 */

Test(protect, pages_are_closed_that_hold_lent_bytes_only) {
    static const struct {
        size_t size;
        size_t begin;
        size_t end;
        const char *writer;
        const char *reader;
    } ranges[] = {
        {4 * PAGE, 0, 4 * PAGE, "nnnn", "rrrr"},
        {4 * PAGE, 1, 4 * PAGE, "wnnn", "wrrr"},
        {4 * PAGE, 0, 4 * PAGE - 1, "nnnw", "rrrw"},
        {4 * PAGE, 100, 3 * PAGE + 100, "wnnw", "wrrw"},
        {4 * PAGE, PAGE, 2 * PAGE, "wnww", "wrww"},
        {4 * PAGE, PAGE + 1, 2 * PAGE - 1, "wwww", "wwww"},
        {4 * PAGE, 10, 20, "wwww", "wwww"},
        {4 * PAGE, PAGE, PAGE, "wwww", "wwww"},
        /* What follows the buffer in its last page is nobody's. */
        {2 * PAGE + 100, 0, 2 * PAGE + 100, "nnn", "rrr"},
        {2 * PAGE + 100, 0, 2 * PAGE + 99, "nnw", "rrw"},
        {2 * PAGE + 100, 2 * PAGE, 2 * PAGE + 100, "wwn", "wwr"},
        {100, 0, 100, "n", "r"},
        {100, 0, 99, "w", "w"},
    };
    for (size_t i = 0; i < COUNT_OF(ranges); i++) {
        const size_t page_count = strlen(ranges[i].writer);
        sr_pool *pool = pool_protected(ranges[i].size, 3);
        const sr_buffer before = buffer_take(pool);
        const sr_buffer buffer = buffer_take(pool);
        const sr_buffer behind = buffer_take(pool);
        const unsigned char *bytes = buffer_bytes(pool, buffer, ranges[i].size);
        for (int writer = 0; writer <= 1; writer++) {
            struct sri_loan loan;
            (void)lend(pool, buffer, ranges[i].begin, ranges[i].end, writer != 0, &loan);
            const char *wanted = writer != 0 ? ranges[i].writer : ranges[i].reader;
            cr_assert_str_eq(rights_of_pages(bytes, page_count), wanted, "range %zu", i);
            memset(buffer_bytes(pool, before, ranges[i].size), 1, ranges[i].size);
            memset(buffer_bytes(pool, behind, ranges[i].size), 1, ranges[i].size);
            sri_loan_end(pool, &loan, 0);
            for (size_t page = 0; page < page_count; page++) {
                cr_assert_eq(rights_of(bytes + page * PAGE), OPEN, "range %zu", i);
            }
        }
        pool_end(&pool);
    }
}

Test(protect, a_page_stays_read_only_until_its_last_reader_has_ended) {
    sr_pool *pool = pool_protected(6 * PAGE, 2);
    const sr_buffer buffer = buffer_take(pool);
    const unsigned char *bytes = buffer_bytes(pool, buffer, 6 * PAGE);
    struct sri_loan all;
    struct sri_loan second;
    struct sri_loan fourth_on;
    (void)lend(pool, buffer, 0, 6 * PAGE, false, &all);
    (void)lend(pool, buffer, PAGE, 2 * PAGE, false, &second);
    (void)lend(pool, buffer, 3 * PAGE + 5, 6 * PAGE, false, &fourth_on);
    cr_assert_str_eq(rights_of_pages(bytes, 6), "rrrrrr");
    sri_loan_end(pool, &all, 0);
    cr_assert_str_eq(rights_of_pages(bytes, 6), "wrwwrr");
    sri_loan_end(pool, &fourth_on, 0);
    cr_assert_str_eq(rights_of_pages(bytes, 6), "wrwwww");
    sri_loan_end(pool, &second, 0);
    cr_assert_str_eq(rights_of_pages(bytes, 6), "wwwwww");
    pool_end(&pool);
}

#define MODEL_PAGES 8u
#define MODEL_LOANS 6u

struct model_loan {
    struct sri_loan loan;
    bool lent;
};

/* The rule, word for word: a page is closed if it lies inside of a writer loan, read-only if inside
 * of a reader loan, else open. */
static char model_rights(const struct model_loan *loans, size_t page) {
    char rights = OPEN;
    for (size_t i = 0; i < MODEL_LOANS; i++) {
        const struct sri_loan *loan = &loans[i].loan;
        if (loans[i].lent && loan->begin <= page * PAGE && loan->end >= (page + 1) * PAGE) {
            rights = loan->writer ? CLOSED : READABLE;
        }
    }
    return rights;
}

/* An end of a range, half of the time on a page's edge. */
static size_t random_offset(struct scale_random *random, size_t limit) {
    const size_t offset = scale_random_below(random, limit);
    return scale_random_below(random, 2) == 0 ? offset / PAGE * PAGE : offset;
}

static void toggle(sr_pool *pool, sr_buffer buffer, struct model_loan *chosen,
                   struct scale_random *random) {
    void *memory = NULL;
    if (chosen->lent) {
        sri_loan_end(pool, &chosen->loan, 0);
        chosen->lent = false;
        return;
    }
    const size_t begin = random_offset(random, MODEL_PAGES * PAGE);
    const size_t end = random_offset(random, MODEL_PAGES * PAGE + 1);
    const bool writer = scale_random_below(random, 3) == 0;
    chosen->lent = end > begin && sri_loan_begin(pool, buffer.bits, begin, end - begin, writer,
                                                 &chosen->loan, &memory) == 0;
}

Test(protect, random_loans_follow_the_rule) {
    const uint64_t rounds = scale_count(20000, 200);
    struct scale_random random = scale_random(0);
    struct model_loan loans[MODEL_LOANS] = {0};
    uint64_t lent_count = 0;
    sr_pool *pool = pool_protected(MODEL_PAGES * PAGE, 1);
    const sr_buffer buffer = buffer_take(pool);
    const unsigned char *bytes = buffer_bytes(pool, buffer, MODEL_PAGES * PAGE);
    for (uint64_t round = 0; round < rounds; round++) {
        struct model_loan *chosen = &loans[scale_random_below(&random, MODEL_LOANS)];
        toggle(pool, buffer, chosen, &random);
        lent_count += chosen->lent;
        for (size_t page = 0; page < MODEL_PAGES; page++) {
            const char got = (char)rights_of(bytes + page * PAGE);
            cr_assert_eq(got, model_rights(loans, page), "round %llu, page %zu: %c",
                         (unsigned long long)round, page, got);
        }
    }
    cr_assert_gt(lent_count, rounds / 20);
    cr_assert_eq(pool_stats(pool).guard_degraded_total, 0);
    pool_end(&pool);
}

/* ---- quarantine -------------------------------------------------------------------------------
 */

Test(protect, what_an_orphaned_loan_has_is_closed_until_it_ends) {
    sr_pool *pool = pool_protected(2 * PAGE, 1);
    sr_buffer buffer = buffer_take(pool);
    const unsigned char *bytes = buffer_bytes(pool, buffer, 2 * PAGE);
    struct sri_loan orphan;
    struct sri_loan other;
    (void)lend(pool, buffer, 0, PAGE, true, &orphan);
    (void)lend(pool, buffer, PAGE, 2 * PAGE, false, &other);
    sri_loan_orphan(pool, &orphan);
    cr_assert_str_eq(rights_of_pages(bytes, 2), "nr");
    sri_loan_end(pool, &other, 0);
    cr_assert_str_eq(rights_of_pages(bytes, 2), "nr");
    sri_loan_orphan_end(pool, orphan.slot);
    cr_assert_str_eq(rights_of_pages(bytes, 2), "ww");
    buffer = buffer_take(pool);
    memset(buffer_bytes(pool, buffer, 2 * PAGE), 1, 2 * PAGE);
    pool_end(&pool);
}

/* ---- the kernel -------------------------------------------------------------------------------
 */

struct traffic {
    sr_ring *ring;
    sr_pool *pool;
    sr_file file;
    int other_end; /* of the file, a pipe */
};

/* What stands behind the ring, and whether the pool is registered with it. */
struct way {
    uint32_t backend;
    bool registered;
};

static struct traffic traffic_begin(const struct way *way, bool reads, size_t size_bytes) {
    struct traffic traffic;
    int ends[2];
    failing_install_before((enum sri_backend_kind)way->backend);
    if (!way->registered) {
        failing_refuse_registration();
    }
    traffic.ring = ring_make(NULL);
    cr_assert_eq(ring_stats(traffic.ring).backend, way->backend);
    traffic.pool = pool_protected(size_bytes, 4);
    const int attached = sr_ring_attach_pool(traffic.ring, traffic.pool);
    if (way->registered && attached == 0) {
        cr_skip_test("no memory can be registered here: %s",
                     sr_error_name(ring_stats(traffic.ring).register_error));
    }
    cr_assert_eq(attached, way->registered);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    traffic.file = file_take(traffic.ring, reads ? ends[0] : ends[1]);
    traffic.other_end = reads ? ends[1] : ends[0];
    return traffic;
}

static void traffic_end(struct traffic *traffic) {
    cr_assert_eq(close(traffic->other_end), 0);
    ring_end(&traffic->ring);
    pool_end(&traffic->pool);
    cr_assert_null(failing_leak(), "%s", failing_leak());
    failing_remove();
}

/* Checks on the fallback, then on io_uring. */
static void on_both(void (*check)(const struct way *way), bool registered) {
    static const uint32_t backends[] = {SR_BACKEND_FALLBACK, SR_BACKEND_URING};
    for (size_t i = 0; i < COUNT_OF(backends); i++) {
        const struct way way = {backends[i], registered};
        if (backend_is_here(backends[i])) {
            check(&way);
        }
    }
}

static void check_read(const struct way *way) {
    struct traffic traffic = traffic_begin(way, true, 2 * PAGE);
    sr_request request = request_of(SR_OP_READ);
    request.file = traffic.file;
    request.buffer = buffer_take(traffic.pool);
    request.buffer_offset = PAGE;
    request.length = PAGE;
    request.offset = SR_OFFSET_CURRENT;
    const unsigned char *bytes = buffer_bytes(traffic.pool, request.buffer, 2 * PAGE);
    const sr_op op = submit(traffic.ring, &request);
    cr_assert_geq(sr_ring_flush(traffic.ring), 0);
    cr_assert_str_eq(rights_of_pages(bytes, 2), "wn");
    cr_assert_eq(write(traffic.other_end, "arrived", 7), 7);
    const sr_completion done = wait_one(traffic.ring);
    cr_assert(done.op.bits == op.bits && done.result == 7);
    cr_assert_str_eq(rights_of_pages(bytes, 2), "ww");
    cr_assert_eq(memcmp(bytes + PAGE, "arrived", 7), 0);
    traffic_end(&traffic);
}

Test(protect, the_kernel_writes_to_closed_pages_of_plain_buffers) {
    on_both(check_read, false);
}

Test(protect, the_kernel_writes_to_closed_pages_of_registered_buffers) {
    on_both(check_read, true);
}

static void check_write(const struct way *way) {
    struct traffic traffic = traffic_begin(way, false, PAGE);
    char taken[16] = "";
    sr_request request = request_of(SR_OP_WRITE);
    request.file = traffic.file;
    request.buffer = buffer_take(traffic.pool);
    request.length = PAGE;
    request.offset = SR_OFFSET_CURRENT;
    unsigned char *bytes = buffer_bytes(traffic.pool, request.buffer, PAGE);
    memcpy(bytes, "sent", 5);
    (void)submit(traffic.ring, &request);
    cr_assert_str_eq(rights_of_pages(bytes, 1), "r");
    cr_assert_str_eq((char *)bytes, "sent", "the program reads what the kernel reads");
    cr_assert_eq(wait_one(traffic.ring).result, (int64_t)PAGE);
    cr_assert_str_eq(rights_of_pages(bytes, 1), "w");
    cr_assert_eq(read(traffic.other_end, taken, 5), 5);
    cr_assert_str_eq(taken, "sent");
    traffic_end(&traffic);
}

Test(protect, the_kernel_reads_plain_buffers_that_are_read_only) {
    on_both(check_write, false);
}

Test(protect, the_kernel_reads_registered_buffers_that_are_read_only) {
    on_both(check_write, true);
}

static void check_full(const struct way *way, uint16_t op) {
    struct traffic traffic = traffic_begin(way, true, 2 * PAGE);
    const sr_completion *none = NULL;
    sr_request request = request_of(op);
    sr_slice slices[2] = {{.buffer = buffer_take(traffic.pool), .length_bytes = 2},
                          {.buffer = buffer_take(traffic.pool), .length_bytes = 4}};
    request.file = traffic.file;
    request.buffer = slices[0].buffer;
    request.length = op == SR_OP_READ ? 6 : 0;
    request.slices = op == SR_OP_READV ? slices : NULL;
    request.slice_count = op == SR_OP_READV ? 2 : 0;
    request.offset = SR_OFFSET_CURRENT;
    request.flags = SR_REQUEST_FULL;
    (void)submit(traffic.ring, &request);
    cr_assert_eq(write(traffic.other_end, "abc", 3), 3);
    for (int i = 0; i < 1000 && ring_stats(traffic.ring).short_transfers_total == 0; i++) {
        assert_ok(sr_ring_wait(traffic.ring, 0, 0, NULL, &none));
        (void)usleep(1000); /* a kernel worker's, on Linux 6.1 */
    }
    cr_assert_eq(ring_stats(traffic.ring).short_transfers_total, 1);
    cr_assert_eq(write(traffic.other_end, "def", 3), 3);
    cr_assert_eq(wait_one(traffic.ring).result, 6);
    const unsigned char *first = buffer_bytes(traffic.pool, slices[0].buffer, PAGE);
    const unsigned char *second = buffer_bytes(traffic.pool, slices[1].buffer, PAGE);
    if (op == SR_OP_READ) {
        cr_assert_eq(memcmp(first, "abcdef", 6), 0);
    } else {
        cr_assert(memcmp(first, "ab", 2) == 0 && memcmp(second, "cdef", 4) == 0);
    }
    traffic_end(&traffic);
}

static void check_rest(const struct way *way) {
    check_full(way, SR_OP_READ);
    if (!way->registered) {
        check_full(way, SR_OP_READV);
    }
}

Test(protect, the_rest_of_a_transfer_goes_where_its_beginning_went) {
    on_both(check_rest, false);
    on_both(check_rest, true);
}

static void check_abandoned(const struct way *way) {
    struct traffic traffic = traffic_begin(way, true, PAGE);
    sr_request request = request_of(SR_OP_READ);
    const sr_completion *none = NULL;
    request.file = traffic.file;
    request.buffer = buffer_take(traffic.pool);
    request.length = PAGE;
    request.offset = SR_OFFSET_CURRENT;
    const unsigned char *bytes = buffer_bytes(traffic.pool, request.buffer, PAGE);
    const sr_op op = submit(traffic.ring, &request);
    cr_assert_geq(sr_ring_flush(traffic.ring), 0);
    assert_ok(sr_op_abandon(traffic.ring, op, NULL));
    cr_assert_str_eq(rights_of_pages(bytes, 1), "n");
    for (int i = 0; i < 1000 && ring_stats(traffic.ring).ops_in_flight > 0; i++) {
        cr_assert_geq(sr_ring_wait(traffic.ring, 0, 0, NULL, &none), 0);
    }
    cr_assert_eq(pool_stats(traffic.pool).quarantined_count, 0);
    cr_assert_str_eq(rights_of_pages(bytes, 1), "w");
    traffic_end(&traffic);
}

Test(protect, an_abandoned_buffer_is_closed_until_the_kernel_is_done) {
    on_both(check_abandoned, false);
    on_both(check_abandoned, true);
}

/* ---- out of mappings --------------------------------------------------------------------------
 */

Test(protect, a_loan_that_cannot_be_protected_goes_unprotected_and_is_counted) {
    struct sri_loan loan;
    failing_install();
    sr_pool *pool = pool_protected(PAGE, 2);
    const sr_buffer buffer = buffer_take(pool);
    unsigned char *bytes = buffer_bytes(pool, buffer, PAGE);
    failing_plan(FAILING_PROTECT, 1, -ENOMEM, false);
    memset(lend(pool, buffer, 0, PAGE, true, &loan), 7, PAGE);
    cr_assert_str_eq(rights_of_pages(bytes, 1), "w");
    cr_assert_eq(pool_stats(pool).guard_degraded_total, 1);
    const uint64_t calls = failing_count(FAILING_PROTECT);
    sri_loan_end(pool, &loan, PAGE);
    cr_assert_eq(failing_count(FAILING_PROTECT), calls, "what was not closed is not opened");
    cr_assert_eq(bytes[0], 7);
    (void)lend(pool, buffer, 0, PAGE, true, &loan);
    cr_assert_str_eq(rights_of_pages(bytes, 1), "n", "the next loan is protected again");
    sri_loan_end(pool, &loan, 0);
    cr_assert_eq(pool_stats(pool).guard_degraded_total, 1);
    pool_end(&pool);
    cr_assert_null(failing_leak(), "%s", failing_leak());
    failing_remove();
}

/* No mapping when it is lent; then none when it comes back. */
static void check_degraded(const struct way *way) {
    struct traffic traffic = traffic_begin(way, true, PAGE);
    sr_request request = request_of(SR_OP_READ);
    request.file = traffic.file;
    request.buffer = buffer_take(traffic.pool);
    request.length = PAGE;
    request.offset = SR_OFFSET_CURRENT;
    const unsigned char *bytes = buffer_bytes(traffic.pool, request.buffer, PAGE);
    for (uint64_t nth = 1; nth <= 2; nth++) {
        failing_plan(FAILING_PROTECT, nth, -ENOMEM, false);
        (void)submit(traffic.ring, &request);
        cr_assert_geq(sr_ring_flush(traffic.ring), 0);
        cr_assert_str_eq(rights_of_pages(bytes, 1), nth == 1 ? "w" : "n");
        cr_assert_eq(write(traffic.other_end, "arrived", 7), 7);
        assert_code(wait_one(traffic.ring).result, 7);
        cr_assert_str_eq(rights_of_pages(bytes, 1), "w");
        cr_assert_eq(memcmp(bytes, "arrived", 7), 0);
        cr_assert_eq(pool_stats(traffic.pool).guard_degraded_total, nth);
    }
    failing_relent();
    traffic_end(&traffic);
}

Test(protect, an_operation_without_a_mapping_to_spare_works_and_is_counted) {
    on_both(check_degraded, false);
    on_both(check_degraded, true);
}

Test(protect, when_pages_cannot_be_opened_one_by_one_the_pool_is_opened_whole) {
    struct sri_loan loans[3];
    sr_buffer buffers[3];
    unsigned char *bytes[3];
    failing_install();
    sr_pool *pool = pool_protected(PAGE, 4);
    for (int i = 0; i < 3; i++) {
        buffers[i] = buffer_take(pool);
        bytes[i] = buffer_bytes(pool, buffers[i], PAGE);
        (void)lend(pool, buffers[i], 0, PAGE, true, &loans[i]);
    }
    failing_plan(FAILING_PROTECT, 1, -ENOMEM, false);
    sri_loan_end(pool, &loans[1], 0);
    cr_assert_eq(pool_stats(pool).guard_degraded_total, 1);
    memset(bytes[1], 1, PAGE); /* the program's again, whatever it took */
    cr_assert_eq(rights_of(bytes[0]), OPEN);
    sri_loan_end(pool, &loans[0], 0);
    sri_loan_end(pool, &loans[2], 0);
    pool_end(&pool);
    failing_remove();
}

#define EXHAUSTING_COUNT 70000u

/* The kernel's own limit (vm.max_map_count): every other buffer lent makes two mappings each. */
static void exhaust_mappings(void *ctx) {
    static struct sri_loan loans[EXHAUSTING_COUNT];
    static sr_buffer buffers[EXHAUSTING_COUNT];
    sr_pool *pool = pool_protected(PAGE, EXHAUSTING_COUNT);
    (void)ctx;
    for (uint32_t i = 0; i < EXHAUSTING_COUNT; i++) {
        buffers[i] = buffer_take(pool);
    }
    for (uint32_t i = 0; i < EXHAUSTING_COUNT; i += 2) {
        (void)lend(pool, buffers[i], 0, PAGE, true, &loans[i]);
    }
    /* Now the rest, in an order that leaves as many mappings as it can. */
    for (uint32_t i = 1; i < EXHAUSTING_COUNT; i += 2) {
        (void)lend(pool, buffers[i], 0, PAGE, false, &loans[i]);
    }
    const uint64_t degraded = pool_stats(pool).guard_degraded_total;
    for (uint32_t i = 0; i < EXHAUSTING_COUNT; i++) {
        const uint32_t any = (uint32_t)((uint64_t)i * 7919 % EXHAUSTING_COUNT); /* a permutation */
        sri_loan_end(pool, &loans[any], 0);
        if (any % 8 == 0) { /* all would be a lot of memory */
            *(volatile unsigned char *)buffer_bytes(pool, buffers[any], PAGE) = 1;
        }
    }
    fprintf(stderr, "%llu loans unprotected\n", (unsigned long long)degraded);
    pool_end(&pool);
}

static uint64_t mappings_max(void) {
    unsigned long long limit = 0;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
    if (file != NULL) {
        cr_assert_eq(fscanf(file, "%llu", &limit), 1);
        (void)fclose(file);
    }
    return limit;
}

Test(protect, a_process_without_mappings_left_goes_on_unprotected) {
    static struct child_end end;
    unsigned long long degraded = 0;
    if (RUNNING_ON_VALGRIND) {
        cr_skip_test("valgrind keeps its own, shorter list of mappings");
    }
    if (mappings_max() == 0 || mappings_max() > EXHAUSTING_COUNT - 100) {
        cr_skip_test("the limit on mappings is not the usual one");
    }
    child_run(exhaust_mappings, NULL, &end);
    cr_assert_not(end.died, "%s", end.words);
    cr_assert_eq(sscanf(end.words, "%llu", &degraded), 1, "%s", end.words);
    cr_assert_gt(degraded, 0, "the limit was not met: nothing was tested");
}

Test(protect, a_pool_that_cannot_have_its_second_view_is_poisoned_and_says_why) {
    static const struct {
        enum failing_call call;
        uint64_t nth;
        int code;
    } failures[] = {{FAILING_MAP, 1, -EMFILE}, {FAILING_MAP, 2, -ENOMEM}};
    failing_install();
    for (size_t i = 0; i < COUNT_OF(failures); i++) {
        const sr_pool_options options = options_of(PAGE, 4);
        sr_pool *pool = NULL;
        failing_plan(failures[i].call, failures[i].nth, failures[i].code, false);
        assert_ok(sr_pool_create(NULL, &options, &pool));
        cr_assert_eq(pool_stats(pool).guard, SR_GUARD_POISON);
        assert_code(pool_stats(pool).guard_error, failures[i].code);
        pool_end(&pool);
        cr_assert_null(failing_leak(), "%s", failing_leak());
    }
    failing_plan(FAILING_MAP, 1, -ENOMEM, true);
    sr_pool *pool = NULL;
    const sr_pool_options options = options_of(PAGE, 4);
    assert_code(sr_pool_create(NULL, &options, &pool), -ENOMEM);
    cr_assert_null(pool);
    cr_assert_null(failing_leak(), "%s", failing_leak());
    failing_remove();
}

Test(protect, any_allocation_of_a_pool_may_fail) {
    const sr_pool_options options = options_of(PAGE, 4);
    failing_install();
    for (uint64_t nth = 1; nth < 100; nth++) {
        const uint64_t injected = failing_injected();
        sr_pool *pool = NULL;
        failing_plan(FAILING_ALLOCATE, nth, -ENOMEM, false);
        const int code = sr_pool_create(NULL, &options, &pool);
        cr_assert(code == 0 || code == -ENOMEM, "%s", sr_error_name(code));
        assert_ok(sr_pool_destroy(&pool));
        cr_assert_null(failing_leak(), "%s", failing_leak());
        if (failing_injected() == injected) {
            cr_assert_gt(nth, 5);
            failing_remove();
            return;
        }
    }
    cr_assert_fail("no end of allocations");
}
