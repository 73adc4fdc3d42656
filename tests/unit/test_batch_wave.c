/* SPDX-License-Identifier: MIT */
/* How a batch uses the ring: a wave of nodes is one system call, there may be far more nodes than
 * operations, and a batch that grows without end takes no more memory. */
#include "unit/batches.h"

#include "support/failing.h"
#include "support/scale.h"

/* ---- waves -----------------------------------------------------------------------------------
 */

enum { WAVES = 7, WIDTH = 50 };

/* Layers of nodes, each node after all of the layer before it. */
static void add_waves(const sr_node_spec *spec) {
    static sr_node nodes[WAVES][WIDTH];
    for (uint32_t wave = 0; wave < WAVES; wave++) {
        for (uint32_t i = 0; i < WIDTH; i++) {
            sr_node_spec one = *spec;
            one.request.tag = wave * WIDTH + i;
            nodes[wave][i] = node_add(&one);
            for (uint32_t j = 0; wave > 0 && j < WIDTH; j++) {
                after(nodes[wave][i], nodes[wave - 1][j], SR_ON_SUCCESS);
            }
        }
    }
}

ON_BACKENDS(batch_wave, a_wave_of_nodes_is_one_system_call) {
    const sr_node_spec spec = spec_of(SR_OP_NOP, 0);
    add_waves(&spec);
    const uint64_t before = ring_stats(world.ring).enters_total;
    assert_ok(sr_batch_start(world.batch));
    cr_assert_eq(ring_stats(world.ring).enters_total, before, "the start sends nothing");
    batch_run();
    cr_assert_eq(ring_stats(world.ring).enters_total - before, WAVES);
    cr_assert_eq(batch_stats().done_total, WAVES * WIDTH);
}

Test(batch_wave, a_wave_of_cached_reads_is_one_system_call_on_io_uring) {
    if (!world_open(SR_BACKEND_URING, NULL)) {
        cr_skip_test("no io_uring");
    }
    struct directory directory = directory_begin();
    char bytes[64] = "cached";
    sr_node_spec spec = spec_of(SR_OP_READ, 0);
    sr_buffer buffers[WIDTH / 10];
    spec.request.file =
        file_take(world.ring, directory_file(&directory, "file", bytes, sizeof bytes));
    spec.request.length = 64;
    sr_node last = SR_NODE_NONE;
    for (uint32_t i = 0; i < COUNT_OF(buffers); i++) {
        buffers[i] = buffer_take(world.pool);
    }
    for (uint32_t wave = 0; wave < WAVES; wave++) {
        const sr_node before = last;
        for (uint32_t i = 0; i < COUNT_OF(buffers); i++) {
            spec.request.tag = wave * 10 + i;
            spec.request.buffer = buffers[i];
            const sr_node node = node_add(&spec);
            if (wave > 0) {
                after(node, before, SR_ON_SUCCESS);
            }
            last = node;
        }
    }
    const uint64_t before = ring_stats(world.ring).enters_total;
    batch_run();
    cr_assert_eq(ring_stats(world.ring).enters_total - before, WAVES);
    for (uint32_t i = 0; i < COUNT_OF(buffers); i++) {
        assert_ok(sr_pool_release(world.pool, buffers[i]));
    }
    file_close(world.ring, spec.request.file);
    directory_end(&directory);
    world_close();
}

/* At the seam itself, whatever the ring counts. */
Test(batch_wave, a_wave_is_one_call_of_the_backend) {
    failing_install();
    cr_assert(world_open(SR_BACKEND_ANY, NULL));
    const sr_node_spec spec = spec_of(SR_OP_NOP, 0);
    add_waves(&spec);
    const uint64_t before = failing_count(FAILING_QUEUE_ENTER);
    batch_run();
    cr_assert_eq(failing_count(FAILING_QUEUE_ENTER) - before, WAVES);
    world_close();
    cr_assert_null(failing_leak(), "%s", failing_leak());
    failing_remove();
}

ON_BACKENDS(batch_wave, no_more_than_in_flight_max_are_with_the_ring) {
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    options.in_flight_max = 3;
    batch_renew(&options);
    for (uint32_t i = 0; i < 20; i++) {
        (void)node_slow(i, 2 * MS);
    }
    assert_ok(sr_batch_start(world.batch));
    while (batch_stats().finished == 0) {
        const sr_batch_stats stats = batch_stats();
        cr_assert_eq(stats.in_flight, stats.nodes_alive < 3 ? stats.nodes_alive : 3);
        cr_assert_eq(stats.ready, stats.nodes_alive - stats.in_flight);
        cr_assert_eq(ring_stats(world.ring).ops_in_flight, stats.in_flight);
        assert_ok(sr_ring_wait(world.ring, 1, SR_FOREVER, NULL, NULL));
    }
}

/* ---- many nodes ------------------------------------------------------------------------------
 */

static const sr_ring_options ring_of_256 = {
    sizeof(sr_ring_options), 256, 0, 1024, 64, 16, 0, 0, 0, 5000000000u, 0, 0, 0, 0, 0,
    SR_BACKEND_ANY,          0};

static uint32_t positions[65536];
static uint32_t ended_count;

static void note_position(sr_batch *batch, sr_node node, const sr_node_outcome *outcome,
                          void *ctx) {
    (void)batch;
    (void)node;
    (void)ctx;
    cr_assert_eq(outcome->state, SR_OUTCOME_DONE);
    cr_assert_eq(positions[outcome->tag], 0, "told twice");
    positions[outcome->tag] = ++ended_count;
}

ON_BACKENDS_WITH(batch_wave, there_may_be_far_more_nodes_than_the_ring_has_room_for, &ring_of_256) {
    enum { COUNT = 65536 };
    static sr_node nodes[COUNT];
    static uint32_t befores[COUNT];
    struct scale_random random = scale_random(1);
    sr_node_spec spec = spec_of(SR_OP_NOP, 0);
    memset(positions, 0, sizeof positions);
    ended_count = 0;
    spec.on_outcome = note_position;
    for (uint32_t i = 0; i < COUNT; i++) {
        spec.request.tag = i;
        nodes[i] = node_add(&spec);
        befores[i] = i;
        if (i > 1000 && scale_random_below(&random, 2) == 0) {
            befores[i] = (uint32_t)scale_random_below(&random, i);
            after(nodes[i], nodes[befores[i]], SR_ON_SUCCESS);
        }
    }
    assert_code(sr_batch_add(world.batch, &spec, NULL), SR_E_FULL);
    batch_run();
    cr_assert_eq(ended_count, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        cr_assert(befores[i] == i || positions[befores[i]] < positions[i], "node %u", i);
    }
    cr_assert_eq(ring_stats(world.ring).cq_overflows_total, 0);
}

/* ---- growing without end ---------------------------------------------------------------------
 */

/* Live blocks and bytes of the library. */
static struct {
    uint64_t bytes;
    uint64_t bytes_most;
    uint64_t blocks;
} memory;

static void *counting_allocate(size_t size_bytes, void *ctx) {
    size_t *block = malloc(size_bytes + 16);
    (void)ctx;
    if (block == NULL) {
        return NULL;
    }
    *block = size_bytes;
    memory.bytes += size_bytes;
    memory.blocks++;
    memory.bytes_most = memory.bytes > memory.bytes_most ? memory.bytes : memory.bytes_most;
    return (char *)block + 16;
}

static void counting_release(void *block, void *ctx) {
    size_t *whole = (size_t *)(void *)((char *)block - 16);
    (void)ctx;
    memory.bytes -= *whole;
    memory.blocks--;
    free(whole);
}

static struct {
    uint64_t added;
    uint64_t wanted;
    uint64_t ended;
    uint64_t warm; /* so many nodes have shown what memory is needed */
    uint64_t bytes_most_warm;
} growth;

/* Two chains that now and then become one node and two again. */
static void grow(sr_batch *batch, sr_node node, const sr_node_outcome *outcome, void *ctx) {
    sr_node_spec spec = SR_NODE_SPEC_INIT;
    cr_assert_eq(outcome->state, SR_OUTCOME_DONE);
    (void)ctx;
    growth.ended++;
    if (growth.ended == growth.warm) {
        growth.bytes_most_warm = memory.bytes_most;
    }
    sr_batch_stats stats = SR_BATCH_STATS_INIT;
    assert_ok(sr_batch_get_stats(batch, &stats));
    spec.on_outcome = grow;
    for (uint32_t i = 0; i < 2 && growth.added < growth.wanted; i++) {
        sr_node added;
        if (stats.nodes_alive + i > 64) {
            return;
        }
        assert_ok(sr_batch_add(batch, &spec, &added));
        assert_ok(sr_batch_after(batch, added, node, SR_ON_SUCCESS));
        growth.added++;
    }
}

ON_BACKENDS(batch_wave, a_growing_batch_that_forgets_takes_no_more_memory) {
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    sr_node_spec spec = SR_NODE_SPEC_INIT;
    sr_node first;
    world_close(); /* the allocator comes before everything */
    const uint32_t backend = world.backend;
    const sr_allocator allocator = {sizeof allocator, counting_allocate, counting_release, NULL};
    assert_ok(sr_set_allocator(&allocator));
    memset(&memory, 0, sizeof memory);
    cr_assert(world_open(backend, NULL));
    memset(&growth, 0, sizeof growth);
    growth.wanted = scale_count(1000000, 20000);
    growth.warm = growth.wanted / 10;
    options.forget = 1;
    options.nodes_max = 256;
    batch_renew(&options);
    spec.on_outcome = grow;
    first = node_add(&spec);
    growth.added = 1;
    assert_ok(sr_batch_run(world.batch, SR_FOREVER, NULL));
    cr_assert_eq(growth.ended, growth.wanted);
    cr_assert_eq(batch_stats().done_total, growth.wanted);
    cr_assert_gt(growth.bytes_most_warm, 0);
    cr_assert_eq(memory.bytes_most, growth.bytes_most_warm, "memory went on growing");
    sr_node_outcome outcome;
    assert_code(sr_batch_outcome(world.batch, first, &outcome), SR_E_STALE);
    assert_misuse("sr_batch_outcome", SR_E_STALE);
    world_close();
    cr_assert_eq(memory.blocks, 0, "blocks are left");
    assert_ok(sr_set_allocator(NULL));
    cr_assert(world_open(backend, NULL));
}
