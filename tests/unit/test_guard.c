/* SPDX-License-Identifier: MIT */
/*
 * Guards as a program meets them. Whether a touch of forbidden memory is caught can only be seen by
 * dying of it, so each such touch happens in a child whose report is read.
 */
#include "unit/fixture.h"

#include "buffer/guard.h"
#include "buffer/lend.h"
#include <sys/mman.h>

#define COUNT 4u

static sr_pool *pool_with(uint32_t guard, size_t size_bytes) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    sr_pool *pool = NULL;
    options.buffer_size_bytes = size_bytes;
    options.buffer_count = COUNT;
    options.guard = guard;
    assert_ok(sr_pool_create(NULL, &options, &pool));
    return pool;
}

static uint32_t guard_in_force(uint32_t option) {
    sr_pool *pool = pool_with(option, 64);
    const uint32_t guard = pool_stats(pool).guard;
    pool_end(&pool);
    return guard;
}

/* Writes where AddressSanitizer would stop an ordinary write: what a driver, or code without
 * instrumentation, may do. */
__attribute__((no_sanitize("address"), noinline)) static void write_unseen(unsigned char *where) {
    *(volatile unsigned char *)where ^= 0x5a;
}

Test(guard, the_environment_decides_where_the_option_does_not) {
    cr_assert_eq(unsetenv("SAFERING_GUARD"), 0);
    cr_assert_eq(guard_in_force(SR_GUARD_DEFAULT), SR_GUARD_OFF);
    const struct {
        const char *wish;
        uint32_t got;
    } wishes[] = {
        {"poison", SR_GUARD_POISON}, {"off", SR_GUARD_OFF},      {"", SR_GUARD_OFF},
        {"POISON", SR_GUARD_OFF},    {"nonsense", SR_GUARD_OFF},
    };
    for (size_t i = 0; i < COUNT_OF(wishes); i++) {
        cr_assert_eq(setenv("SAFERING_GUARD", wishes[i].wish, 1), 0);
        cr_assert_eq(guard_in_force(SR_GUARD_DEFAULT), wishes[i].got, "'%s'", wishes[i].wish);
        cr_assert_eq(guard_in_force(SR_GUARD_OFF), SR_GUARD_OFF);
        cr_assert_eq(guard_in_force(SR_GUARD_POISON), SR_GUARD_POISON);
    }
}

Test(guard, stats_tell_whether_address_sanitizer_is_there) {
    sr_pool *poison = pool_with(SR_GUARD_POISON, 64);
    sr_pool *off = pool_with(SR_GUARD_OFF, 64);
    cr_assert_eq(pool_stats(poison).asan, FIXTURE_HAS_ASAN);
    cr_assert_eq(pool_stats(off).asan, 0);
    pool_end(&poison);
    pool_end(&off);
}

/* ---- canaries ---------------------------------------------------------------------------------
 */

static const size_t canary_sizes[] = {64, 100, 101, 127, 1000, 4096, 5001};

Test(guard, each_byte_behind_a_buffer_is_watched) {
    for (size_t i = 0; i < COUNT_OF(canary_sizes); i++) {
        const size_t size = canary_sizes[i];
        sr_pool *pool = pool_with(SR_GUARD_POISON, size);
        cr_assert_geq(pool_stats(pool).stride_bytes, size + SRI_CANARY_BYTES);
        misuse_watch();
        for (size_t behind = 0; behind < SRI_CANARY_BYTES; behind++) {
            const sr_buffer buffer = buffer_take(pool);
            unsigned char *bytes = buffer_bytes(pool, buffer, size);
            memset(bytes, 0, size);
            write_unseen(&bytes[size + behind]);
            assert_code(sr_pool_release(pool, buffer), SR_E_OVERRUN);
            cr_assert_eq(misuse.handle, buffer.bits);
            assert_misuse("sr_pool_release", SR_E_OVERRUN);
            /* It was released all the same. */
            assert_code(sr_pool_release(pool, buffer), SR_E_STALE);
            misuse_forget();
            cr_assert_eq(pool_stats(pool).free_count, COUNT);
            cr_assert_eq(pool_stats(pool).overruns_total, behind + 1);
        }
        pool_end(&pool);
    }
}

Test(guard, a_buffer_used_to_its_last_byte_is_released_without_complaint) {
    for (size_t i = 0; i < COUNT_OF(canary_sizes); i++) {
        sr_pool *pool = pool_with(SR_GUARD_POISON, canary_sizes[i]);
        for (uint32_t round = 0; round < 3 * COUNT; round++) {
            const sr_buffer buffer = buffer_take(pool);
            memset(buffer_bytes(pool, buffer, canary_sizes[i]), (int)round, canary_sizes[i]);
            assert_ok(sr_pool_release(pool, buffer));
        }
        cr_assert_eq(pool_stats(pool).overruns_total, 0);
        pool_end(&pool);
    }
}

Test(guard, an_overrun_is_told_once_and_the_canary_is_made_whole) {
    sr_pool *pool = pool_with(SR_GUARD_POISON, 100);
    sr_buffer buffer = buffer_take(pool);
    unsigned char *bytes = buffer_bytes(pool, buffer, 100);
    write_unseen(&bytes[100]);
    assert_code(sr_pool_release(pool, buffer), SR_E_OVERRUN);
    for (uint32_t i = 0; i < COUNT; i++) {
        buffer = buffer_take(pool);
        assert_ok(sr_pool_release(pool, buffer));
    }
    pool_end(&pool);
}

Test(guard, without_a_guard_there_is_no_canary_and_no_check) {
    sr_pool *pool = pool_with(SR_GUARD_OFF, 4096);
    cr_assert_eq(pool_stats(pool).stride_bytes, 4096);
    unsigned char *first = NULL;
    sr_buffer buffers[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) {
        buffers[i] = buffer_take(pool);
        unsigned char *bytes = buffer_bytes(pool, buffers[i], 4096);
        first = first == NULL || bytes < first ? bytes : first;
    }
    write_unseen(&first[4096]); /* the first byte of the next buffer */
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_ok(sr_pool_release(pool, buffers[i]));
    }
    pool_end(&pool);
}

/* ---- poison ------------------------------------------------------------------------------------
 */

enum target {
    OWN_BYTES,           /* a held buffer: fine */
    READER_LOAN,         /* reading what the kernel reads: fine */
    BESIDE_WRITER_LOAN,  /* the half that is not lent: fine */
    ENDED_WRITER_LOAN,   /* lent once, and given back: fine */
    WRITER_LOAN,         /* what the kernel writes */
    WRITER_LOAN_READING, /* only looking at it */
    FREE_BUFFER,         /* released */
    NEVER_ACQUIRED,      /* the second of a pool of which the first is held */
    CANARY,              /* one byte behind */
    MENDED_CANARY,       /* the same after an overrun was found and the canary written anew */
    AFTER_DESTROY        /* adopted memory whose pool is gone: fine */
};

struct touch {
    enum target target;
    uint32_t guard;
};

static void touch_adopted(uint32_t guard) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    sr_region *region = NULL;
    sr_pool *pool = NULL;
    unsigned char *memory =
        mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    options.buffer_count = COUNT;
    options.guard = guard;
    assert_ok(sr_region_adopt(memory, 65536, &region));
    assert_ok(sr_pool_create(region, &options, &pool));
    (void)buffer_take(pool);
    pool_end(&pool);
    assert_ok(sr_region_destroy(&region));
    memset(memory, 1, 65536);
}

static void touch(void *ctx) {
    const struct touch *touch = ctx;
    if (touch->target == AFTER_DESTROY) {
        touch_adopted(touch->guard);
        return;
    }
    sr_pool *pool = pool_with(touch->guard, 4096);
    const sr_buffer buffer = buffer_take(pool);
    volatile unsigned char *bytes = buffer_bytes(pool, buffer, 4096);
    const uint64_t stride = pool_stats(pool).stride_bytes;
    struct sri_loan loan;
    void *memory = NULL;
    volatile unsigned char seen = 0;
    switch (touch->target) {
    case OWN_BYTES:
        bytes[0] = 1;
        bytes[4095] = 1;
        break;
    case READER_LOAN:
        assert_ok(sri_loan_begin(pool, buffer.bits, 0, 4096, false, &loan, &memory));
        seen = bytes[100];
        break;
    case BESIDE_WRITER_LOAN:
        assert_ok(sri_loan_begin(pool, buffer.bits, 0, 2048, true, &loan, &memory));
        bytes[2048] = 1;
        break;
    case ENDED_WRITER_LOAN:
        assert_ok(sri_loan_begin(pool, buffer.bits, 0, 4096, true, &loan, &memory));
        sri_loan_end(pool, &loan, 4096);
        bytes[100] = 1;
        break;
    case WRITER_LOAN:
        assert_ok(sri_loan_begin(pool, buffer.bits, 0, 4096, true, &loan, &memory));
        bytes[100] = 1;
        break;
    case WRITER_LOAN_READING:
        assert_ok(sri_loan_begin(pool, buffer.bits, 1024, 1024, true, &loan, &memory));
        seen = bytes[2047];
        break;
    case FREE_BUFFER:
        assert_ok(sr_pool_release(pool, buffer));
        bytes[0] = 1;
        break;
    case NEVER_ACQUIRED:
        bytes[stride] = 1;
        break;
    case CANARY:
        bytes[4096] = 1;
        break;
    case MENDED_CANARY:
        write_unseen((unsigned char *)&bytes[4100]);
        if (sr_pool_release(pool, buffer) != SR_E_OVERRUN) {
            return; /* not died: the test fails */
        }
        (void)buffer_take(pool); /* the same memory again: last in, first out */
        bytes[4100] = 1;
        break;
    case AFTER_DESTROY:
        break;
    }
    (void)seen;
}

static const struct {
    const char *name;
    enum target target;
    bool forbidden;
} touches[] = {
    {"own bytes", OWN_BYTES, false},
    {"reader loan", READER_LOAN, false},
    {"beside a writer loan", BESIDE_WRITER_LOAN, false},
    {"ended writer loan", ENDED_WRITER_LOAN, false},
    {"adopted memory after its pool", AFTER_DESTROY, false},
    {"writer loan", WRITER_LOAN, true},
    {"writer loan, reading", WRITER_LOAN_READING, true},
    {"free buffer", FREE_BUFFER, true},
    {"buffer that was never acquired", NEVER_ACQUIRED, true},
    {"canary", CANARY, true},
    {"mended canary", MENDED_CANARY, true},
};

Test(guard, address_sanitizer_stops_each_forbidden_touch_and_no_other) {
    static struct child_end end;
    if (!FIXTURE_HAS_ASAN) {
        cr_skip_test("built without AddressSanitizer");
    }
    for (size_t i = 0; i < COUNT_OF(touches); i++) {
        struct touch with = {touches[i].target, SR_GUARD_POISON};
        child_run(touch, &with, &end);
        cr_assert_eq(end.died, touches[i].forbidden, "%s: %s", touches[i].name, end.words);
        if (touches[i].forbidden) {
            cr_assert_not_null(strstr(end.words, "use-after-poison"), "%s: %s", touches[i].name,
                               end.words);
        } else {
            cr_assert_str_eq(end.words, "", "%s: %s", touches[i].name, end.words);
        }
    }
}

Test(guard, without_the_guard_nothing_is_stopped) {
    static struct child_end end;
    for (size_t i = 0; i < COUNT_OF(touches); i++) {
        struct touch without = {touches[i].target, SR_GUARD_OFF};
        child_run(touch, &without, &end);
        cr_assert_not(end.died, "%s: %s", touches[i].name, end.words);
    }
}

Test(guard, the_kernel_writes_to_a_poisoned_loan_and_the_program_reads_it_afterwards) {
    struct directory directory = directory_begin();
    sr_ring *ring = ring_make(NULL);
    sr_pool *pool = pool_with(SR_GUARD_POISON, 4096);
    pool_attach(ring, pool);
    sr_request request = request_of(SR_OP_READ);
    request.file = file_take(ring, directory_file(&directory, "words", "spoken words", 12));
    request.buffer = buffer_take(pool);
    request.length = 4096;
    cr_assert_eq(run(ring, &request).result, 12);
    cr_assert_eq(memcmp(buffer_bytes(pool, request.buffer, 4096), "spoken words", 12), 0);
    assert_ok(sr_pool_release(pool, request.buffer));
    file_close(ring, request.file);
    ring_end(&ring);
    pool_end(&pool);
    directory_end(&directory);
}
