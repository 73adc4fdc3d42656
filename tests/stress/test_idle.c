/* SPDX-License-Identifier: MIT */
/*
 * 65,536 idle receives in one ring: what each costs the library in memory, and that a completion
 * queue of 4,096 and some buffers serve all of them when they wake at once. Each has a connection
 * of its own where RLIMIT_NOFILE lets it; else several share one.
 */
#include "support/scale.h"
#include "support/skip.h"

#include <criterion/criterion.h>
#include <malloc.h>
#include <safering/safering.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECEIVES  65536u
#define BYTES_MAX 128u

static uint64_t bytes_now;

static void *count_allocate(size_t size_bytes, void *ctx) {
    (void)ctx;
    void *memory = malloc(size_bytes);
    bytes_now += memory != NULL ? malloc_usable_size(memory) : 0;
    return memory;
}

static void count_release(void *memory, void *ctx) {
    (void)ctx;
    bytes_now -= malloc_usable_size(memory);
    free(memory);
}

static sr_ring *ring_of(uint32_t ops_max) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    sr_ring *ring = NULL;
    options.entries = 1024;
    options.cq_entries = 4096;
    options.ops_max = ops_max;
    options.files_max = RECEIVES;
    options.fixed_files = 0;
    cr_assert_eq(sr_ring_create(&options, &ring), 0);
    return ring;
}

/* Connections that this process may have, up to @wanted. */
static uint32_t connections_allowed(uint32_t wanted) {
    const rlim_t needed = 2 * (rlim_t)wanted + 100;
    struct rlimit limit = {needed, needed};
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0) {
        return wanted;
    }
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    uint32_t connections = wanted;
    while (2 * (rlim_t)connections + 100 > limit.rlim_cur) {
        connections /= 2;
    }
    return connections;
}

Test(idle, an_idle_receive_is_small_and_a_small_completion_queue_serves_all) {
    const uint32_t receives = (uint32_t)scale_count(RECEIVES / 64, 16) * 64;
    const uint32_t connections = connections_allowed(receives);
    static int peers[RECEIVES];
    static uint32_t got[RECEIVES];
    static sr_file files[RECEIVES];
    const sr_allocator allocator = {sizeof allocator, count_allocate, count_release, NULL};
    sr_pool_options pool_options = SR_POOL_OPTIONS_INIT;
    sr_buffer_ring_options group_options = SR_BUFFER_RING_OPTIONS_INIT;
    sr_pool *pool = NULL;
    sr_buffer_ring *buffer_ring = NULL;
    cr_assert_eq(receives % connections, 0);
    cr_assert_eq(sr_set_allocator(&allocator), 0);

    sr_ring *ring = ring_of(64);
    const uint64_t small_bytes = bytes_now;
    cr_assert_eq(sr_ring_destroy(&ring), 0);
    ring = ring_of(64 + receives);
    const double each = (double)(bytes_now - small_bytes) / receives;
    pool_options.buffer_size_bytes = 64;
    pool_options.buffer_count = 512;
    group_options.entries = 512;
    cr_assert_eq(sr_pool_create(NULL, &pool_options, &pool), 0);
    cr_assert_eq(sr_buffer_ring_create(ring, pool, &group_options, &buffer_ring), 0);

    const uint64_t before_arming = bytes_now;
    for (uint32_t i = 0; i < receives; i++) {
        sr_request request = SR_REQUEST_INIT;
        if (i < connections) {
            int ends[2];
            cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
            cr_assert_eq(sr_file_adopt(ring, ends[0], 0, &files[i]), 0);
            peers[i] = ends[1];
        }
        request.op = SR_OP_RECV;
        request.file = files[i % connections];
        request.flags = SR_REQUEST_MULTISHOT;
        request.buffer_ring = buffer_ring;
        request.tag = i % connections;
        cr_assert_eq(sr_ring_submit(ring, &request, NULL), 0, "receive %u", i);
    }
    cr_assert_geq(sr_ring_flush(ring), 0);
    const double armed = (double)(bytes_now - before_arming) / receives;
    fprintf(stderr,
            "idle: %.1f bytes per receive in a ring of %u, %.1f more when armed; %u connections\n",
            each, receives, armed, connections);
    cr_assert_leq(each + armed, BYTES_MAX);

    uint32_t sent = 0;
    for (uint32_t seen = 0; seen < 2 * receives;) {
        for (uint32_t burst = 0; burst < 3000 && sent < 2 * receives; burst++, sent++) {
            const uint32_t number = sent / connections;
            cr_assert_eq(send(peers[sent % connections], &number, sizeof number, 0),
                         (ssize_t)sizeof number);
        }
        const sr_completion *completions = NULL;
        const int count = sr_ring_wait(ring, 1, SR_FOREVER, NULL, &completions);
        cr_assert_geq(count, 1, "%s", sr_error_name(count));
        for (int i = 0; i < count; i++) {
            const sr_completion *completion = &completions[i];
            cr_assert_eq(completion->result, sizeof(uint32_t), "%s",
                         sr_error_name((int)completion->result));
            cr_assert_neq(completion->flags & SR_COMPLETION_MORE, 0);
            got[completion->tag]++;
            cr_assert_eq(sr_buffer_ring_provide(buffer_ring, completion->buffer), 0);
            seen++;
        }
    }
    for (uint32_t i = 0; i < connections; i++) {
        cr_assert_eq(got[i], 2 * receives / connections, "connection %u", i);
    }
    sr_ring_stats stats = SR_RING_STATS_INIT;
    cr_assert_eq(sr_ring_get_stats(ring, &stats), 0);
    cr_assert_eq(stats.cq_entries, 4096);
    cr_assert_eq(stats.ops_in_flight, receives);
    fprintf(stderr, "idle: starved %llu times, armed again %llu times\n",
            (unsigned long long)stats.starved_total, (unsigned long long)stats.rearmed_total);
    cr_assert_eq(sr_ring_destroy(&ring), 0);
    cr_assert_eq(sr_pool_destroy(&pool), 0);
    cr_assert_eq(sr_set_allocator(NULL), 0);
    for (uint32_t i = 0; i < connections; i++) {
        (void)close(peers[i]);
    }
}
