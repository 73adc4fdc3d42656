/* SPDX-License-Identifier: MIT */
/*
 * A million buffers and operations through the public calls: capacity stays what it was, and a
 * sample of handles from all along the way is refused. Holds with natural generations and in a
 * build with SAFERING_GENERATION_BITS=4; test_generations_few.c runs the same with four bits in
 * every build.
 */
#include "unit/fixture.h"

#include "support/scale.h"

#define SAMPLE   4096u
#define BUFFERS  16u
#define OPS_MAX  32u
#define IN_BATCH 8u

struct sample {
    uint64_t bits[SAMPLE];
    uint32_t count;
    uint64_t seen;
};

/* Keeps a random choice of all that it was shown. */
static void sample_note(struct sample *sample, struct scale_random *random, uint64_t bits) {
    sample->seen++;
    if (sample->count < SAMPLE) {
        sample->bits[sample->count++] = bits;
        return;
    }
    const uint64_t place = scale_random_below(random, sample->seen);
    if (place < SAMPLE) {
        sample->bits[place] = bits;
    }
}

/* Every buffer can be had, and not one more. */
static void assert_pool_capacity(sr_pool *pool) {
    sr_buffer buffers[BUFFERS];
    sr_buffer one_more;
    for (uint32_t i = 0; i < BUFFERS; i++) {
        buffers[i] = buffer_take(pool);
    }
    assert_code(sr_pool_acquire(pool, 1, &one_more), SR_E_FULL);
    for (uint32_t i = 0; i < BUFFERS; i++) {
        assert_ok(sr_pool_release(pool, buffers[i]));
    }
}

static void assert_ring_capacity(sr_ring *ring) {
    sr_request nop = request_of(SR_OP_NOP);
    for (uint32_t i = 0; i < OPS_MAX; i++) {
        assert_ok(sr_ring_submit(ring, &nop, NULL));
    }
    assert_code(sr_ring_submit(ring, &nop, NULL), SR_E_FULL);
    const sr_completion *completions = NULL;
    assert_code(sr_ring_wait(ring, OPS_MAX, SR_FOREVER, NULL, &completions), OPS_MAX);
}

Test(generations, a_million_buffers_at_constant_capacity_and_no_old_handle_works) {
    static struct sample sample;
    struct scale_random random = scale_random(1);
    const uint64_t turns = scale_count(1000000, 20000);
    sr_pool *pool = pool_make(64, BUFFERS);
    sr_buffer held[BUFFERS] = {{0}};
    for (uint64_t turn = 0; turn < turns; turn++) {
        sr_buffer *place = &held[scale_random_below(&random, BUFFERS)];
        if (place->bits != 0) {
            sample_note(&sample, &random, place->bits);
            assert_ok(sr_pool_release(pool, *place));
            place->bits = 0;
        } else {
            *place = buffer_take(pool);
        }
    }
    for (uint32_t i = 0; i < BUFFERS; i++) {
        if (held[i].bits != 0) {
            assert_ok(sr_pool_release(pool, held[i]));
        }
    }
    assert_pool_capacity(pool);
    const sr_buffer live = buffer_take(pool);
    for (uint32_t i = 0; i < sample.count; i++) {
        void *data = NULL;
        cr_assert_neq(sample.bits[i], live.bits);
        assert_code(sr_pool_release(pool, (sr_buffer){sample.bits[i]}), SR_E_STALE);
        assert_code(sr_buffer_data(pool, (sr_buffer){sample.bits[i]}, 0, 1, 0, &data), SR_E_STALE);
    }
    cr_assert_eq(pool_stats(pool).held_count, 1);
    pool_end(&pool);
}

Test(generations, a_million_operations_at_constant_capacity_and_no_old_handle_works) {
    static struct sample sample;
    struct scale_random random = scale_random(2);
    const uint64_t turns = scale_count(1000000, 20000) / IN_BATCH;
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.ops_max = OPS_MAX;
    sr_ring *ring = ring_make(&options);
    sr_request nop = request_of(SR_OP_NOP);
    for (uint64_t turn = 0; turn < turns; turn++) {
        const sr_completion *completions = NULL;
        for (uint32_t i = 0; i < IN_BATCH; i++) {
            assert_ok(sr_ring_submit(ring, &nop, NULL));
        }
        cr_assert_eq(sr_ring_wait(ring, IN_BATCH, SR_FOREVER, NULL, &completions), IN_BATCH);
        for (uint32_t i = 0; i < IN_BATCH; i++) {
            sample_note(&sample, &random, completions[i].op.bits);
        }
    }
    assert_ring_capacity(ring);
    sr_request timeout = request_of(SR_OP_TIMEOUT);
    timeout.duration_ns = UINT64_C(3600000000000);
    const sr_op live = submit(ring, &timeout);
    for (uint32_t i = 0; i < sample.count; i++) {
        cr_assert_neq(sample.bits[i], live.bits);
        assert_code(sr_op_cancel(ring, (sr_op){sample.bits[i]}), SR_E_STALE);
        assert_code(sr_op_abandon(ring, (sr_op){sample.bits[i]}, NULL), SR_E_STALE);
    }
    cr_assert_eq(ring_stats(ring).ops_in_flight, 1);
    cr_assert_eq(ring_stats(ring).cancels_total, 0);
    cr_assert_eq(ring_stats(ring).submitted_total, turns * IN_BATCH + OPS_MAX + 1);
    cr_assert_eq(ring_stats(ring).completions_stale_total, 0);
    cr_assert_eq(ring_stats(ring).completions_unknown_total, 0);
    ring_end(&ring);
}

Test(generations, many_files_at_constant_capacity_and_no_old_handle_works) {
    static struct sample sample;
    struct scale_random random = scale_random(3);
    const uint64_t turns = scale_count(100000, 5000);
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.files_max = 2;
    sr_ring *ring = ring_make(&options);
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (uint64_t turn = 0; turn < turns; turn++) {
        const sr_file file = file_take(ring, fd);
        sample_note(&sample, &random, file.bits);
        assert_ok(sr_file_detach(ring, file, &fd));
    }
    const sr_file live = file_take(ring, fd);
    for (uint32_t i = 0; i < sample.count; i++) {
        int none = 0;
        cr_assert_neq(sample.bits[i], live.bits);
        assert_code(sr_file_fd(ring, (sr_file){sample.bits[i]}, &none), SR_E_STALE);
    }
    cr_assert_eq(ring_stats(ring).files_open, 1);
    ring_end(&ring);
}
