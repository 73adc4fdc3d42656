/* SPDX-License-Identifier: MIT */
/*
 * A ring that goes while the kernel still holds operations of it: a read of a file system that does
 * not answer cannot be cancelled, so the ring's end comes at its drain limit, and what was lent
 * waits in quarantine until the kernel has let go. Nothing is freed early, everything comes back in
 * the end.
 */
#include "support/baseline.h"
#include "support/failing.h"
#include "support/rig.h"
#include "support/skip.h"
#include "support/slowfs.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define BUFFERS      8u
#define REGION_BYTES ((size_t)2 * BUFFERS * BUFFER_BYTES) /* guards need room between buffers */
#define BUFFER_BYTES 4096u
#define DRAIN_NS     (200 * RIG_MS)
#define PATIENCE_MS  20000u
#define PATIENCE_NS  (20 * RIG_SECOND)

static struct slowfs *fs;

static void fs_stop(void) {
    slowfs_stop(&fs);
}

TestSuite(quarantine, .fini = fs_stop);

static uint64_t now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static sr_quarantine_counts counts_now(void) {
    sr_quarantine_counts counts = SR_QUARANTINE_STATS_INIT;
    cr_assert_eq(sr_quarantine_stats(&counts), 0);
    return counts;
}

/* ---- scene ----------------------------------------------------------------------------------- */

static sr_ring *ring_open(sr_pool *pool, uint64_t drain_timeout_ns) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    sr_ring *ring = NULL;
    options.entries = 8;
    options.drain_timeout_ns = drain_timeout_ns;
    cr_assert_eq(sr_ring_create(&options, &ring), 0);
    cr_assert(sr_ring_attach_pool(ring, pool) >= 0);
    return ring;
}

static sr_pool *pool_open(sr_region *region) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    sr_pool *pool = NULL;
    options.buffer_size_bytes = BUFFER_BYTES;
    options.buffer_count = BUFFERS;
    cr_assert_eq(sr_pool_create(region, &options, &pool), 0);
    return pool;
}

static sr_buffer buffer_of(sr_pool *pool) {
    sr_buffer buffer;
    cr_assert_eq(sr_pool_acquire(pool, 1, &buffer), 0);
    return buffer;
}

static sr_file slow_file(sr_ring *ring, uint32_t index) {
    sr_file file;
    cr_assert_eq(sr_file_adopt(ring, slowfs_open(fs, index, O_RDWR), 0, &file), 0);
    return file;
}

/* In a kernel worker from the start: some kernels would run it inside of the submit, and wait. */
static sr_op submit_async(sr_ring *ring, sr_request request) {
    sr_op op;
    request.flags |= SR_REQUEST_ASYNC;
    cr_assert_eq(sr_ring_submit(ring, &request, &op), 0);
    return op;
}

/* A read that stays in the kernel until the gate of file @index opens. */
static sr_op stuck_read(sr_ring *ring, uint32_t index, sr_buffer buffer, uint32_t begin,
                        uint32_t length) {
    fs->files[index].gate_closed = 1;
    const uint32_t before = fs->files[index].waiting_count;
    sr_request read = rig_transfer(SR_OP_READ, slow_file(ring, index), buffer, length, begin);
    read.buffer_offset = begin;
    const sr_op op = submit_async(ring, read);
    cr_assert_eq(sr_ring_flush(ring), 1);
    cr_assert(slowfs_wait(fs, index, before + 1, PATIENCE_MS));
    return op;
}

static void gate_open(uint32_t index) {
    fs->files[index].gate_closed = 0;
}

/* Destroys a ring that cannot be drained; it must take its drain time and hardly more. */
static void destroy_into_quarantine(sr_ring **ring, uint64_t drain_ns) {
    const uint64_t begin_ns = now_ns();
    cr_assert_eq(sr_ring_destroy(ring), SR_E_IN_FLIGHT);
    const uint64_t passed_ns = now_ns() - begin_ns;
    cr_assert_null(*ring);
    cr_assert_geq(passed_ns, drain_ns);
    cr_assert_leq(passed_ns, drain_ns + RIG_SECOND, "%llu ms",
                  (unsigned long long)passed_ns / 1000000);
}

/* All buffers can be had again, and what the program writes to them stays. */
static void check_all_buffers_are_back(sr_pool *pool) {
    sr_buffer buffers[BUFFERS];
    sr_buffer more;
    void *data[BUFFERS];
    for (uint32_t i = 0; i < BUFFERS; i++) {
        cr_assert_eq(sr_pool_acquire(pool, 1, &buffers[i]), 0, "only %u buffers", i);
        cr_assert_eq(sr_buffer_data(pool, buffers[i], 0, BUFFER_BYTES, SR_ACCESS_WRITE, &data[i]),
                     0);
        memset(data[i], 0xa0 + (int)i, BUFFER_BYTES);
    }
    cr_assert_eq(sr_pool_acquire(pool, 1, &more), SR_E_FULL);
    (void)usleep(50000);
    for (uint32_t i = 0; i < BUFFERS; i++) {
        for (uint32_t at = 0; at < BUFFER_BYTES; at++) {
            cr_assert_eq(((unsigned char *)data[i])[at], 0xa0 + i, "late write, buffer %u byte %u",
                         i, at);
        }
        cr_assert_eq(sr_pool_release(pool, buffers[i]), 0);
    }
}

static uint32_t free_buffers(sr_pool *pool) {
    sr_pool_stats stats = SR_POOL_STATS_INIT;
    cr_assert_eq(sr_pool_get_stats(pool, &stats), 0);
    return stats.free_count;
}

static uint32_t quarantined_buffers(sr_pool *pool) {
    sr_pool_stats stats = SR_POOL_STATS_INIT;
    cr_assert_eq(sr_pool_get_stats(pool, &stats), 0);
    return stats.quarantined_count;
}

static void check_is_stale(sr_pool *pool, sr_buffer buffer) {
    void *data = NULL;
    cr_assert_eq(sr_buffer_data(pool, buffer, 0, 1, SR_ACCESS_READ, &data), SR_E_STALE);
    cr_assert_eq(sr_pool_release(pool, buffer), SR_E_STALE);
    cr_assert_eq(sr_buffer_transfer(pool, buffer, sr_thread_self()), SR_E_STALE);
}

/* ---- the whole story ------------------------------------------------------------------------- */

static void one_read_is_left_and_comes_back(sr_region *region) {
    const sr_quarantine_counts before = counts_now();
    sr_pool *pool = pool_open(region);
    sr_ring *ring = ring_open(pool, DRAIN_NS);
    const sr_buffer lent = buffer_of(pool);
    const sr_buffer held = buffer_of(pool);
    (void)stuck_read(ring, 0, lent, 0, 1000);
    destroy_into_quarantine(&ring, DRAIN_NS);

    const sr_quarantine_counts during = counts_now();
    cr_assert_eq(during.rings, 1);
    cr_assert_eq(during.operations, 1);
    cr_assert_eq(during.bytes, 1000);
    cr_assert_eq(during.rings_total, before.rings_total + 1);
    cr_assert_eq(during.swept_total, before.swept_total);
    check_is_stale(pool, lent);
    cr_assert_eq(sr_pool_release(pool, held), 0); /* not lent: still its holder's */
    cr_assert_eq(quarantined_buffers(pool), 1);
    cr_assert_eq(free_buffers(pool), BUFFERS - 1);
    cr_assert_eq(sr_pool_destroy(&pool), SR_E_IN_FLIGHT);
    cr_assert_not_null(pool);
    if (region != NULL) {
        cr_assert_eq(sr_region_destroy(&region), SR_E_STATE);
        cr_assert_not_null(region);
    }
    cr_assert_eq(sr_quarantine_sweep(0), 1);
    const uint64_t begin_ns = now_ns();
    cr_assert_eq(sr_quarantine_sweep(100 * RIG_MS), 1);
    cr_assert_geq(now_ns() - begin_ns, 100 * RIG_MS);
    cr_assert_leq(now_ns() - begin_ns, RIG_SECOND);

    gate_open(0);
    cr_assert_eq(sr_quarantine_sweep(PATIENCE_NS), 0);
    cr_assert_eq(fs->files[0].read_count, 1, "the read was not answered, so nothing was shown");
    const sr_quarantine_counts after = counts_now();
    cr_assert_eq(after.rings, 0);
    cr_assert_eq(after.operations, 0);
    cr_assert_eq(after.bytes, 0);
    cr_assert_eq(after.swept_total, before.swept_total + 1);
    cr_assert_eq(quarantined_buffers(pool), 0);
    cr_assert_eq(free_buffers(pool), BUFFERS);
    check_is_stale(pool, lent);
    check_all_buffers_are_back(pool);
    cr_assert_eq(sr_pool_destroy(&pool), 0);
    cr_assert_eq(sr_region_destroy(&region), 0);
    for (uint32_t i = 0; i < SLOWFS_FILES; i++) {
        slowfs_reset(fs, i);
    }
}

static sr_region *region_open(void) {
    sr_region *region = NULL;
    cr_assert_eq(sr_region_create(REGION_BYTES, NULL, &region), 0);
    return region;
}

Test(quarantine, a_ring_at_its_drain_limit_leaves_an_operation_and_gets_it_back) {
    static struct baseline baseline;
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    one_read_is_left_and_comes_back(region_open()); /* the first of everything maps memory */
    baseline_take(&baseline);
    one_read_is_left_and_comes_back(region_open());
    const char *difference = baseline_difference(&baseline);
    cr_assert(difference == NULL, "%s", difference);
}

Test(quarantine, a_pool_with_its_own_region_too) {
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    one_read_is_left_and_comes_back(NULL);
}

Test(quarantine, memory_that_is_not_registered_too) {
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    failing_install();
    failing_refuse_registration();
    one_read_is_left_and_comes_back(region_open());
    const char *leak = failing_leak();
    cr_assert(leak == NULL, "%s", leak);
    failing_remove();
}

Test(quarantine, memory_that_the_caller_owns_too) {
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    const size_t size = REGION_BYTES;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sr_region *region = NULL;
    cr_assert(memory != MAP_FAILED);
    cr_assert_eq(sr_region_adopt(memory, size, &region), 0);
    one_read_is_left_and_comes_back(region);
    cr_assert_eq(munmap(memory, size), 0);
}

/* The control: an operation that ends within the drain time leaves nothing behind, and its buffer
 * stays its holder's. */
Test(quarantine, a_slow_operation_within_the_drain_time_is_waited_for) {
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    sr_pool *pool = pool_open(NULL);
    sr_ring *ring = ring_open(pool, 10 * RIG_SECOND);
    const sr_buffer lent = buffer_of(pool);
    fs->files[0].delay_ms = 300;
    const sr_request read = rig_transfer(SR_OP_READ, slow_file(ring, 0), lent, 1000, 0);
    (void)submit_async(ring, read);
    cr_assert_eq(sr_ring_flush(ring), 1);
    cr_assert(slowfs_wait(fs, 0, 1, PATIENCE_MS));
    const uint64_t begin_ns = now_ns();
    cr_assert_eq(sr_ring_destroy(&ring), 0);
    cr_assert_geq(now_ns() - begin_ns, 100 * RIG_MS);
    cr_assert_leq(now_ns() - begin_ns, 5 * RIG_SECOND);
    cr_assert_eq(counts_now().rings_total, 0);
    cr_assert_eq(sr_pool_release(pool, lent), 0);
    check_all_buffers_are_back(pool);
    cr_assert_eq(sr_pool_destroy(&pool), 0);
}

Test(quarantine, a_drain_time_of_zero_does_not_wait) {
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    sr_pool *pool = pool_open(NULL);
    sr_ring *ring = ring_open(pool, 0);
    (void)stuck_read(ring, 0, buffer_of(pool), 0, 100);
    const uint64_t begin_ns = now_ns();
    cr_assert_eq(sr_ring_destroy(&ring), SR_E_IN_FLIGHT);
    cr_assert_leq(now_ns() - begin_ns, 150 * RIG_MS);
    gate_open(0);
    cr_assert_eq(sr_quarantine_sweep(PATIENCE_NS), 0);
    check_all_buffers_are_back(pool);
    cr_assert_eq(sr_pool_destroy(&pool), 0);
}

/* ---- other operations ------------------------------------------------------------------------ */

Test(quarantine, a_write_keeps_what_it_was_given) {
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    sr_pool *pool = pool_open(NULL);
    sr_ring *ring = ring_open(pool, DRAIN_NS);
    const sr_buffer lent = buffer_of(pool);
    void *data = NULL;
    cr_assert_eq(sr_buffer_data(pool, lent, 0, BUFFER_BYTES, SR_ACCESS_WRITE, &data), 0);
    memset(data, 'w', BUFFER_BYTES);
    fs->files[0].gate_closed = 1;
    const sr_request write = rig_transfer(SR_OP_WRITE, slow_file(ring, 0), lent, BUFFER_BYTES, 0);
    (void)submit_async(ring, write);
    cr_assert_eq(sr_ring_flush(ring), 1);
    cr_assert(slowfs_wait(fs, 0, 1, PATIENCE_MS));
    destroy_into_quarantine(&ring, DRAIN_NS);
    /* Nobody else gets these bytes while the kernel may read them. */
    sr_buffer others[BUFFERS];
    for (uint32_t i = 0; i < BUFFERS - 1; i++) {
        void *other = NULL;
        others[i] = buffer_of(pool);
        cr_assert_eq(sr_buffer_data(pool, others[i], 0, BUFFER_BYTES, SR_ACCESS_WRITE, &other), 0);
        cr_assert_neq(other, data);
        memset(other, 'x', BUFFER_BYTES);
    }
    cr_assert_eq(sr_pool_acquire(pool, 1, &others[BUFFERS - 1]), SR_E_FULL);
    gate_open(0);
    cr_assert_eq(sr_quarantine_sweep(PATIENCE_NS), 0);
    cr_assert_eq(fs->files[0].write_count, 1);
    for (uint32_t i = 0; i < BUFFER_BYTES; i++) {
        cr_assert_eq(fs->files[0].bytes[i], 'w');
    }
    for (uint32_t i = 0; i < BUFFERS - 1; i++) {
        cr_assert_eq(sr_pool_release(pool, others[i]), 0);
    }
    check_all_buffers_are_back(pool);
    cr_assert_eq(sr_pool_destroy(&pool), 0);
}

Test(quarantine, a_vectored_operation_leaves_all_its_buffers) {
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    sr_pool *pools[2] = {pool_open(NULL), pool_open(NULL)};
    sr_ring *ring = ring_open(pools[0], DRAIN_NS);
    sr_slice slices[5];
    cr_assert(sr_ring_attach_pool(ring, pools[1]) >= 0);
    for (uint32_t i = 0; i < 4; i++) {
        slices[i] = (sr_slice){buffer_of(pools[i % 2]), 10, 100 + i};
    }
    slices[4] = (sr_slice){slices[0].buffer, 2000, 500}; /* a second range of the first buffer */
    fs->files[0].gate_closed = 1;
    sr_request read = SR_REQUEST_INIT;
    read.op = SR_OP_READV;
    read.file = slow_file(ring, 0);
    read.slices = slices;
    read.slice_count = 5;
    (void)submit_async(ring, read);
    cr_assert_eq(sr_ring_flush(ring), 1);
    cr_assert(slowfs_wait(fs, 0, 1, PATIENCE_MS));
    destroy_into_quarantine(&ring, DRAIN_NS);
    cr_assert_eq(counts_now().operations, 1);
    cr_assert_eq(counts_now().bytes, 100 + 101 + 102 + 103 + 500);
    for (uint32_t i = 0; i < 4; i++) {
        check_is_stale(pools[i % 2], slices[i].buffer);
    }
    cr_assert_eq(quarantined_buffers(pools[0]), 2);
    cr_assert_eq(quarantined_buffers(pools[1]), 2);
    cr_assert_eq(sr_pool_destroy(&pools[0]), SR_E_IN_FLIGHT);
    cr_assert_eq(sr_pool_destroy(&pools[1]), SR_E_IN_FLIGHT);
    gate_open(0);
    cr_assert_eq(sr_quarantine_sweep(PATIENCE_NS), 0);
    for (uint32_t i = 0; i < 2; i++) {
        check_all_buffers_are_back(pools[i]);
        cr_assert_eq(sr_pool_destroy(&pools[i]), 0);
    }
}

Test(quarantine, operations_that_ended_or_were_cancelled_are_not_counted) {
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    int ends[2];
    sr_file file;
    sr_pool *pool = pool_open(NULL);
    sr_ring *ring = ring_open(pool, DRAIN_NS);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    cr_assert_eq(sr_file_adopt(ring, ends[0], 0, &file), 0);
    const sr_buffer can_end = buffer_of(pool);
    const sr_request pipe_read =
        rig_transfer(SR_OP_READ, file, can_end, BUFFER_BYTES, SR_OFFSET_CURRENT);
    cr_assert_eq(sr_ring_submit(ring, &pipe_read, NULL), 0);
    sr_request nap = SR_REQUEST_INIT;
    nap.op = SR_OP_TIMEOUT;
    nap.duration_ns = 3600 * RIG_SECOND;
    cr_assert_eq(sr_ring_submit(ring, &nap, NULL), 0);
    cr_assert_eq(sr_ring_flush(ring), 2);
    (void)stuck_read(ring, 0, buffer_of(pool), 0, 64);
    /* And one that was never sent. */
    const sr_buffer unsent = buffer_of(pool);
    const sr_request never = rig_transfer(SR_OP_WRITE, file, unsent, 10, SR_OFFSET_CURRENT);
    cr_assert_eq(sr_ring_submit(ring, &never, NULL), 0);
    destroy_into_quarantine(&ring, DRAIN_NS);
    cr_assert_eq(counts_now().operations, 1);
    cr_assert_eq(counts_now().bytes, 64);
    cr_assert_eq(quarantined_buffers(pool), 1);
    cr_assert_eq(sr_pool_release(pool, can_end), 0);
    cr_assert_eq(sr_pool_release(pool, unsent), 0);
    /* The files that the ring kept are closed already. */
    cr_assert_eq(fcntl(ends[0], F_GETFD), -1);
    gate_open(0);
    cr_assert_eq(sr_quarantine_sweep(PATIENCE_NS), 0);
    check_all_buffers_are_back(pool);
    cr_assert_eq(sr_pool_destroy(&pool), 0);
    cr_assert_eq(close(ends[1]), 0);
}

/* ---- one buffer, several operations ---------------------------------------------------------- */

Test(quarantine, two_rings_share_a_buffer_and_one_of_them_goes) {
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    sr_pool *pool = pool_open(NULL);
    sr_ring *goes = ring_open(pool, DRAIN_NS);
    sr_ring *stays = ring_open(pool, DRAIN_NS);
    const sr_buffer shared = buffer_of(pool);
    const sr_completion *completions = NULL;
    (void)stuck_read(goes, 0, shared, 0, 1000);
    const sr_op op = stuck_read(stays, 1, shared, 1000, 1000);
    destroy_into_quarantine(&goes, DRAIN_NS);
    check_is_stale(pool, shared);
    cr_assert_eq(sr_pool_destroy(&pool), SR_E_STATE); /* the other ring still has it */
    /* The first ring's operation ends: the second's still writes to the buffer. */
    gate_open(0);
    cr_assert_eq(sr_quarantine_sweep(PATIENCE_NS), 0);
    cr_assert_eq(quarantined_buffers(pool), 1);
    cr_assert_eq(sr_ring_detach_pool(stays, pool), SR_E_IN_FLIGHT);
    sr_buffer others[BUFFERS - 1];
    for (uint32_t i = 0; i < BUFFERS - 1; i++) {
        others[i] = buffer_of(pool);
    }
    sr_buffer none;
    cr_assert_eq(sr_pool_acquire(pool, 1, &none), SR_E_FULL);
    for (uint32_t i = 0; i < BUFFERS - 1; i++) {
        cr_assert_eq(sr_pool_release(pool, others[i]), 0);
    }
    gate_open(1);
    cr_assert_eq(sr_ring_wait(stays, 1, PATIENCE_NS, NULL, &completions), 1);
    cr_assert_eq(completions[0].op.bits, op.bits);
    cr_assert_eq(completions[0].result, 1000);
    cr_assert_eq(quarantined_buffers(pool), 0);
    check_all_buffers_are_back(pool);
    cr_assert_eq(sr_ring_destroy(&stays), 0);
    cr_assert_eq(sr_pool_destroy(&pool), 0);
}

Test(quarantine, and_the_other_way_round) {
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    sr_pool *pool = pool_open(NULL);
    sr_ring *goes = ring_open(pool, DRAIN_NS);
    sr_ring *stays = ring_open(pool, DRAIN_NS);
    const sr_buffer shared = buffer_of(pool);
    (void)stuck_read(goes, 0, shared, 0, 1000);
    (void)stuck_read(stays, 1, shared, 1000, 1000);
    destroy_into_quarantine(&goes, DRAIN_NS);
    gate_open(1);
    cr_assert_eq(sr_ring_wait(stays, 1, PATIENCE_NS, NULL, NULL), 1);
    cr_assert_eq(sr_quarantine_sweep(0), 1);
    cr_assert_eq(quarantined_buffers(pool), 1);
    cr_assert_eq(sr_ring_destroy(&stays), 0);
    cr_assert_eq(sr_pool_destroy(&pool), SR_E_IN_FLIGHT);
    gate_open(0);
    cr_assert_eq(sr_quarantine_sweep(PATIENCE_NS), 0);
    check_all_buffers_are_back(pool);
    cr_assert_eq(sr_pool_destroy(&pool), 0);
}

Test(quarantine, both_rings_of_a_shared_buffer_go) {
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    sr_pool *pool = pool_open(NULL);
    sr_ring *rings[2] = {ring_open(pool, DRAIN_NS), ring_open(pool, DRAIN_NS)};
    const sr_buffer shared = buffer_of(pool);
    (void)stuck_read(rings[0], 0, shared, 0, 1000);
    (void)stuck_read(rings[1], 1, shared, 1000, 1000);
    destroy_into_quarantine(&rings[0], DRAIN_NS);
    destroy_into_quarantine(&rings[1], DRAIN_NS);
    cr_assert_eq(counts_now().rings, 2);
    cr_assert_eq(counts_now().operations, 2);
    cr_assert_eq(counts_now().bytes, 2000);
    cr_assert_eq(quarantined_buffers(pool), 1);
    gate_open(1);
    /* One hangs up, the other not: that one is waited for in vain. */
    cr_assert_eq(sr_quarantine_sweep(RIG_SECOND), 1);
    cr_assert_eq(counts_now().rings, 1);
    cr_assert_eq(counts_now().bytes, 1000);
    cr_assert_eq(quarantined_buffers(pool), 1);
    cr_assert_eq(sr_pool_destroy(&pool), SR_E_IN_FLIGHT);
    gate_open(0);
    cr_assert_eq(sr_quarantine_sweep(PATIENCE_NS), 0);
    check_all_buffers_are_back(pool);
    cr_assert_eq(sr_pool_destroy(&pool), 0);
}

Test(quarantine, several_readers_of_one_range_all_have_to_end) {
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    sr_pool *pool = pool_open(NULL);
    sr_ring *ring = ring_open(pool, DRAIN_NS);
    const sr_buffer shared = buffer_of(pool);
    void *data = NULL;
    cr_assert_eq(sr_buffer_data(pool, shared, 0, BUFFER_BYTES, SR_ACCESS_WRITE, &data), 0);
    memset(data, 's', BUFFER_BYTES);
    for (uint32_t i = 0; i < 3; i++) {
        fs->files[i].gate_closed = 1;
        (void)submit_async(ring, rig_transfer(SR_OP_WRITE, slow_file(ring, i), shared, 2048, 0));
    }
    cr_assert_eq(sr_ring_flush(ring), 3);
    for (uint32_t i = 0; i < 3; i++) {
        cr_assert(slowfs_wait(fs, i, 1, PATIENCE_MS));
    }
    destroy_into_quarantine(&ring, DRAIN_NS);
    cr_assert_eq(counts_now().operations, 3);
    gate_open(0);
    gate_open(2);
    cr_assert_eq(sr_quarantine_sweep(300 * RIG_MS), 1);
    cr_assert_eq(quarantined_buffers(pool), 1);
    gate_open(1);
    cr_assert_eq(sr_quarantine_sweep(PATIENCE_NS), 0);
    for (uint32_t i = 0; i < 3; i++) {
        cr_assert_eq(fs->files[i].bytes[0], 's');
        cr_assert_eq(fs->files[i].bytes[2047], 's');
    }
    check_all_buffers_are_back(pool);
    cr_assert_eq(sr_pool_destroy(&pool), 0);
}

/* ---- abandoned operations -------------------------------------------------------------------- */

Test(quarantine, an_abandoned_operation_gives_its_buffer_back_to_a_living_ring) {
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    sr_pool *pool = pool_open(NULL);
    sr_ring *ring = ring_open(pool, DRAIN_NS);
    const sr_buffer lent = buffer_of(pool);
    sr_completion outcome;
    sr_ring_stats stats = SR_RING_STATS_INIT;
    const sr_op op = stuck_read(ring, 0, lent, 0, 1000);
    cr_assert_eq(sr_op_abandon(ring, op, &outcome), 0);
    cr_assert_eq(outcome.result, SR_E_TIMEOUT);
    cr_assert_eq(outcome.op.bits, op.bits);
    cr_assert_eq(sr_op_abandon(ring, op, NULL), SR_E_STALE);
    cr_assert_eq(sr_op_cancel(ring, op), SR_E_STALE);
    check_is_stale(pool, lent);
    cr_assert_eq(quarantined_buffers(pool), 1);
    cr_assert_eq(sr_ring_get_stats(ring, &stats), 0);
    cr_assert_eq(stats.ops_abandoned, 1);
    cr_assert_eq(stats.ops_in_flight, 1);
    cr_assert_eq(stats.bytes_quarantined, 1000);
    cr_assert_eq(sr_ring_wait(ring, 1, 50 * RIG_MS, NULL, NULL),
                 SR_E_IDLE); /* nobody waits for it */
    gate_open(0);
    for (int i = 0; i < 20000 && stats.ops_abandoned != 0; i++) {
        cr_assert_eq(sr_ring_wait(ring, 0, 0, NULL, NULL), 0); /* no second outcome */
        cr_assert_eq(sr_ring_get_stats(ring, &stats), 0);
        (void)usleep(1000);
    }
    cr_assert_eq(stats.ops_abandoned, 0);
    cr_assert_eq(stats.ops_in_flight, 0);
    cr_assert_eq(stats.bytes_quarantined, 0);
    cr_assert_eq(stats.completions_stale_total, 0);
    cr_assert_eq(quarantined_buffers(pool), 0);
    check_all_buffers_are_back(pool);
    cr_assert_eq(sr_ring_destroy(&ring), 0);
    cr_assert_eq(sr_pool_destroy(&pool), 0);
}

Test(quarantine, an_abandoned_operation_passes_to_the_quarantine_of_rings) {
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    sr_pool *pool = pool_open(NULL);
    sr_ring *ring = ring_open(pool, DRAIN_NS);
    const sr_buffer lent = buffer_of(pool);
    const sr_op op = stuck_read(ring, 0, lent, 0, 1000);
    cr_assert_eq(sr_op_abandon(ring, op, NULL), 0);
    destroy_into_quarantine(&ring, DRAIN_NS);
    cr_assert_eq(counts_now().operations, 1);
    cr_assert_eq(counts_now().bytes, 1000);
    check_is_stale(pool, lent);
    cr_assert_eq(quarantined_buffers(pool), 1);
    cr_assert_eq(sr_pool_destroy(&pool), SR_E_IN_FLIGHT);
    gate_open(0);
    cr_assert_eq(sr_quarantine_sweep(PATIENCE_NS), 0);
    check_all_buffers_are_back(pool);
    cr_assert_eq(sr_pool_destroy(&pool), 0);
}

/* ---- other threads --------------------------------------------------------------------------- */

static void *sweep_in_thread(void *ctx) {
    *(int *)ctx = sr_quarantine_sweep(PATIENCE_NS);
    return NULL;
}

Test(quarantine, another_thread_sweeps) {
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    pthread_t thread;
    int left = -1;
    sr_pool *pool = pool_open(NULL);
    sr_ring *ring = ring_open(pool, DRAIN_NS);
    uint64_t bytes = 0;
    sr_buffer lent;
    cr_assert_eq(sr_pool_acquire_for(pool, 1, 12, &lent), 0);
    (void)stuck_read(ring, 0, lent, 0, 1000);
    destroy_into_quarantine(&ring, DRAIN_NS);
    cr_assert_eq(sr_pool_account_bytes(pool, 12, &bytes), 0);
    cr_assert_eq(bytes, BUFFER_BYTES); /* whose memory the kernel holds is still known */
    cr_assert_eq(pthread_create(&thread, NULL, sweep_in_thread, &left), 0);
    (void)usleep(50000);
    gate_open(0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(left, 0);
    cr_assert_eq(quarantined_buffers(pool), 0);
    check_all_buffers_are_back(pool);
    cr_assert_eq(sr_pool_account_bytes(pool, 12, &bytes), 0);
    cr_assert_eq(bytes, 0);
    cr_assert_eq(sr_pool_destroy(&pool), 0);
}

struct departed {
    sr_pool *pool;
    sr_ring *ring;
    uint32_t descriptors_lost;
};

static void *open_and_depart(void *ctx) {
    struct departed *departed = ctx;
    departed->pool = pool_open(NULL);
    departed->ring = ring_open(departed->pool, DRAIN_NS);
    (void)stuck_read(departed->ring, 0, buffer_of(departed->pool), 0, 1000);
    return NULL;
}

Test(quarantine, the_owner_died_with_an_operation_that_cannot_be_cancelled) {
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    struct departed departed;
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, open_and_depart, &departed), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(sr_ring_destroy(&departed.ring), SR_E_IN_FLIGHT);
    cr_assert_eq(counts_now().rings, 1);
    cr_assert_eq(counts_now().operations, 1);
    cr_assert_eq(counts_now().bytes, 1000);
    cr_assert_eq(sr_quarantine_sweep(100 * RIG_MS), 1);
    cr_assert_eq(sr_pool_destroy(&departed.pool), SR_E_IN_FLIGHT);
    gate_open(0);
    cr_assert_eq(sr_quarantine_sweep(PATIENCE_NS), 0);
    cr_assert_eq(sr_pool_destroy(&departed.pool), 0);
}

static bool is_fallback(sr_ring *ring) {
    sr_ring_stats stats = SR_RING_STATS_INIT;
    cr_assert_eq(sr_ring_get_stats(ring, &stats), 0);
    return stats.backend == SR_BACKEND_FALLBACK;
}

/* ---- opens: a ring that lingers ---------------------------------------------------------------
 */

/* An open that stays in the kernel until the gate of file @index opens. */
static void stuck_open(sr_ring *ring, uint32_t index) {
    char path[96];
    fs->files[index].open_gate_closed = 1;
    const uint32_t before = fs->files[index].opening_count;
    (void)snprintf(path, sizeof path, "%s/file%u", fs->directory, index);
    sr_request open_file = SR_REQUEST_INIT;
    open_file.op = SR_OP_OPENAT;
    open_file.path = path;
    open_file.op_flags = O_RDONLY;
    (void)submit_async(ring, open_file);
    cr_assert_eq(sr_ring_flush(ring), 1);
    for (uint32_t i = 0; i < PATIENCE_MS && fs->files[index].opening_count == before; i++) {
        (void)usleep(1000);
    }
    cr_assert_eq(fs->files[index].opening_count, before + 1, "the open is not at the server");
}

/* Descriptors of this process that are open on files of the slow file system. */
static uint32_t descriptors_of_slow_files(void) {
    char target[256];
    uint32_t count = 0;
    for (int fd = 0; fd < BASELINE_FDS_MAX; fd++) {
        char link[64];
        (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        const ssize_t length = readlink(link, target, sizeof target - 1);
        count += length > 0 && strncmp(target, fs->directory, strlen(fs->directory)) == 0;
    }
    return count;
}

Test(quarantine, an_open_keeps_its_ring_until_its_own_thread_sweeps) {
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    pthread_t thread;
    int left = -1;
    sr_pool *pool = pool_open(NULL);
    sr_ring *ring = ring_open(pool, 0);
    const sr_buffer lent = buffer_of(pool);
    (void)stuck_read(ring, 0, lent, 0, 1000);
    stuck_open(ring, 1);
    /* The fallback's worker still needs the file that it reads. */
    const uint32_t kept = is_fallback(ring) ? 1 : 0;
    cr_assert_eq(sr_ring_destroy(&ring), SR_E_IN_FLIGHT);
    cr_assert_eq(descriptors_of_slow_files(), kept, "the file that was read is closed at once");
    cr_assert_eq(counts_now().operations, 2);
    cr_assert_eq(counts_now().bytes, 1000);
    check_is_stale(pool, lent);
    cr_assert_eq(quarantined_buffers(pool), 1);
    cr_assert_eq(sr_pool_destroy(&pool), SR_E_IN_FLIGHT);

    fs->files[1].open_gate_closed = 0;
    for (uint32_t i = 0; i < PATIENCE_MS && descriptors_of_slow_files() == kept; i++) {
        (void)usleep(1000);
    }
    cr_assert_eq(descriptors_of_slow_files(), kept + 1, "the open was not answered");
    left = 0;
    cr_assert_eq(pthread_create(&thread, NULL, sweep_in_thread, &left), 0);
    (void)usleep(50000);
    cr_assert_eq(descriptors_of_slow_files(), kept + 1, "another thread cannot know of it");

    cr_assert_eq(sr_quarantine_sweep(0), 1);
    cr_assert_eq(descriptors_of_slow_files(), kept);
    cr_assert_eq(counts_now().descriptors_closed_total, 1);
    cr_assert_eq(counts_now().operations, 1, "the read is still there");
    cr_assert_eq(counts_now().bytes, 1000);
    cr_assert_eq(quarantined_buffers(pool), 1);

    gate_open(0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(left, 0, "closed by now, so any thread may free it");
    cr_assert_eq(quarantined_buffers(pool), 0);
    check_all_buffers_are_back(pool);
    cr_assert_eq(sr_pool_destroy(&pool), 0);
}

Test(quarantine, what_a_lingering_ring_had_lent_comes_back_with_its_operation) {
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    sr_pool *pool = pool_open(NULL);
    sr_ring *ring = ring_open(pool, 0);
    (void)stuck_read(ring, 0, buffer_of(pool), 0, 1000);
    stuck_open(ring, 1);
    cr_assert_eq(sr_ring_destroy(&ring), SR_E_IN_FLIGHT);
    gate_open(0);
    for (uint32_t i = 0; i < PATIENCE_MS && quarantined_buffers(pool) > 0; i++) {
        cr_assert_eq(sr_quarantine_sweep(RIG_MS), 1);
    }
    cr_assert_eq(quarantined_buffers(pool), 0, "the read has ended, the open has not");
    check_all_buffers_are_back(pool);
    cr_assert_eq(sr_pool_destroy(&pool), 0);
    fs->files[1].open_gate_closed = 0;
    cr_assert_eq(sr_quarantine_sweep(PATIENCE_NS), 0);
    cr_assert_eq(descriptors_of_slow_files(), 0);
    cr_assert_eq(counts_now().descriptors_closed_total, 1);
}

static void *open_file_and_depart(void *ctx) {
    struct departed *departed = ctx;
    departed->pool = pool_open(NULL);
    departed->ring = ring_open(departed->pool, 0);
    stuck_open(departed->ring, 1);
    departed->descriptors_lost = is_fallback(departed->ring) ? 0 : 1; /* its worker closes it */
    (void)sr_ring_destroy(&departed->ring);
    return NULL;
}

/* The limit of P7 (docs/KERNEL.md): nobody can receive the descriptor any more. It must be no more
 * than that: one descriptor, nothing else. */
Test(quarantine, an_owner_that_dies_during_an_open_leaves_one_descriptor_and_nothing_else) {
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    struct departed departed = {NULL, NULL, 9};
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, open_file_and_depart, &departed), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_null(departed.ring);
    cr_assert_eq(sr_quarantine_sweep(0), 1);
    fs->files[1].open_gate_closed = 0;
    cr_assert_eq(sr_quarantine_sweep(PATIENCE_NS), 0);
    cr_assert_eq(sr_pool_destroy(&departed.pool), 0);
    cr_assert_eq(descriptors_of_slow_files(), departed.descriptors_lost,
                 "is the limit gone? then say so in docs/KERNEL.md");
}
