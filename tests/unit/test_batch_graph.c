/* SPDX-License-Identifier: MIT */
/* Graphs: what is refused before anything runs, with the nodes that it is about; and shapes that
 * must run in the order that they say. */
#include "unit/batches.h"

#include "support/scale.h"

/* The start must be refused with @code; nothing was submitted. Returns how many nodes it is about.
 */
static int refuse_start(int code, sr_node *out_nodes, uint32_t count_max) {
    const uint64_t before = ring_stats(world.ring).submitted_total;
    assert_code(sr_batch_start(world.batch), code);
    assert_misuse("sr_batch_start", code);
    cr_assert_eq(ring_stats(world.ring).submitted_total, before);
    cr_assert_eq(ring_stats(world.ring).ops_in_flight, 0);
    cr_assert_eq(world.told_count, 0);
    return sr_batch_refusal(world.batch, out_nodes, count_max);
}

static void refuse_start_for(sr_node node, int code) {
    sr_node named = SR_NODE_NONE;
    cr_assert_eq(refuse_start(code, &named, 1), 1);
    cr_assert_eq(named.bits, node.bits);
}

/* ---- cycles ----------------------------------------------------------------------------------
 */

ON_BACKENDS(batch_graph, a_cycle_is_refused_with_its_path) {
    enum { LENGTH = 5 };
    sr_node cycle[LENGTH];
    sr_node named[LENGTH + 1];
    const sr_node before = node_nop(100);
    for (uint32_t i = 0; i < LENGTH; i++) {
        cycle[i] = node_nop(i);
    }
    const sr_node behind = node_nop(101);
    after(cycle[0], before, SR_ON_SUCCESS);
    for (uint32_t i = 0; i < LENGTH; i++) {
        after(cycle[(i + 1) % LENGTH], cycle[i], i % 3);
    }
    after(behind, cycle[3], SR_ALWAYS); /* on no cycle, though it never runs */
    cr_assert_eq(refuse_start(SR_E_CYCLE, named, LENGTH + 1), LENGTH);
    uint32_t first = 0;
    while (first < LENGTH && named[0].bits != cycle[first].bits) {
        first++;
    }
    cr_assert_lt(first, LENGTH, "it is not of the cycle");
    for (uint32_t i = 0; i < LENGTH; i++) {
        cr_assert_eq(named[i].bits, cycle[(first + i) % LENGTH].bits, "place %u", i);
    }
    /* As many as there is room for; and again the same. */
    named[2].bits = 77;
    cr_assert_eq(refuse_start(SR_E_CYCLE, named, 2), LENGTH);
    cr_assert_eq(named[2].bits, 77);
    cr_assert_eq(sr_batch_refusal(world.batch, NULL, 0), LENGTH);
}

ON_BACKENDS(batch_graph, the_shortest_cycles_are_found_behind_and_before_other_nodes) {
    for (uint32_t round = 0; round < 20; round++) {
        enum { COUNT = 50 };
        sr_node nodes[COUNT];
        sr_node named[COUNT];
        struct scale_random random = scale_random(round);
        batch_renew(NULL);
        for (uint32_t i = 0; i < COUNT; i++) {
            nodes[i] = node_nop(i);
        }
        for (uint32_t i = 0; i < 3 * COUNT; i++) { /* forward only */
            const uint32_t from = (uint32_t)scale_random_below(&random, COUNT - 1);
            const uint32_t to = from + 1 + (uint32_t)scale_random_below(&random, COUNT - 1 - from);
            after(nodes[to], nodes[from], SR_ALWAYS);
        }
        const uint32_t a = (uint32_t)scale_random_below(&random, COUNT - 1);
        after(nodes[a + 1], nodes[a], SR_ALWAYS);
        after(nodes[a], nodes[a + 1], SR_ALWAYS); /* one back: a cycle of two, or more */
        const int count = refuse_start(SR_E_CYCLE, named, COUNT);
        cr_assert(count >= 2 && count <= COUNT);
        bool has_a = false;
        for (int i = 0; i < count; i++) {
            has_a = has_a || named[i].bits == nodes[a].bits;
            for (int j = 0; j < i; j++) {
                cr_assert_neq(named[i].bits, named[j].bits, "a node twice");
            }
        }
        cr_assert(has_a, "every cycle goes through the one edge back");
    }
}

ON_BACKENDS(batch_graph, a_node_after_itself_or_at_a_strange_condition_is_refused) {
    const sr_node node = node_nop(0);
    const sr_node other = node_nop(1);
    assert_code(sr_batch_after(world.batch, node, node, SR_ALWAYS), -EINVAL);
    assert_misuse("sr_batch_after", -EINVAL);
    assert_code(sr_batch_after(world.batch, node, other, 3), -EINVAL);
    assert_misuse("sr_batch_after", -EINVAL);
    batch_run();
    assert_code(sr_batch_after(world.batch, node, other, SR_ALWAYS), SR_E_STATE);
    assert_misuse("sr_batch_after", SR_E_STATE);
}

ON_BACKENDS(batch_graph, a_large_graph_without_cycles_is_taken) {
    enum { LAYERS = 30, WIDTH = 40 };
    static sr_node nodes[LAYERS][WIDTH];
    for (uint32_t layer = 0; layer < LAYERS; layer++) {
        for (uint32_t i = 0; i < WIDTH; i++) {
            nodes[layer][i] = node_nop(layer * WIDTH + i);
            for (uint32_t j = 0; layer > 0 && j < WIDTH; j++) {
                after(nodes[layer][i], nodes[layer - 1][j], SR_ON_SUCCESS);
            }
        }
    }
    batch_run();
    for (uint32_t i = WIDTH; i < LAYERS * WIDTH; i++) {
        cr_assert_geq(world.told[i].position, i / WIDTH * WIDTH, "before its layer");
    }
}

/* ---- other refusals --------------------------------------------------------------------------
 */

ON_BACKENDS(batch_graph, nodes_of_other_batches_and_rings_are_refused) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.backend = world.backend;
    sr_ring *other_ring = ring_make(&options);
    sr_ring *const rings[] = {world.ring, other_ring};
    const sr_node mine = node_nop(0);
    for (size_t i = 0; i < COUNT_OF(rings); i++) {
        sr_batch *other = NULL;
        sr_node_spec spec = spec_of(SR_OP_OPENAT, 1);
        sr_node foreign;
        spec.request.path = "/dev/null";
        assert_ok(sr_batch_create(rings[i], NULL, &other));
        assert_ok(sr_batch_add(other, &spec, &foreign));
        assert_code(sr_batch_after(world.batch, mine, foreign, SR_ALWAYS), SR_E_STALE);
        assert_misuse("sr_batch_after", SR_E_STALE);
        assert_code(sr_batch_after(world.batch, foreign, mine, SR_ALWAYS), SR_E_STALE);
        assert_misuse("sr_batch_after", SR_E_STALE);
        sr_node_spec taker = spec_of(SR_OP_CLOSE, 2);
        taker.file_from = foreign;
        assert_code(sr_batch_add(world.batch, &taker, NULL), SR_E_STALE);
        assert_misuse("sr_batch_add", SR_E_STALE);
        assert_ok(sr_batch_destroy(&other));
        assert_code(sr_batch_after(world.batch, mine, foreign, SR_ALWAYS), SR_E_STALE);
        assert_misuse("sr_batch_after", SR_E_STALE);
    }
    ring_end(&other_ring);
}

ON_BACKENDS(batch_graph, an_argument_without_an_edge_is_refused) {
    sr_node_spec spec = spec_of(SR_OP_OPENAT, 0);
    spec.request.path = "/dev/null";
    const sr_node opener = node_add(&spec);
    const sr_node between = node_nop(1);
    sr_node_spec close_spec = spec_of(SR_OP_CLOSE, 2);
    close_spec.file_from = opener;
    const sr_node closer = node_add(&close_spec);
    after(between, opener, SR_ON_SUCCESS);
    after(closer, between, SR_ON_SUCCESS); /* a way there is no edge */
    refuse_start_for(closer, -EINVAL);
    after(closer, opener, SR_ON_SUCCESS);
    batch_run(); /* what was refused can be put right */
    assert_done(2);
    cr_assert_eq(sr_batch_refusal(world.batch, NULL, 0), 0);
}

ON_BACKENDS(batch_graph, what_a_request_names_must_be_alive_at_the_start) {
    struct directory directory = directory_begin();
    sr_pool *other_pool = pool_make(4096, 2);
    const sr_file file = file_take(world.ring, directory_file(&directory, "file", "x", 1));
    const sr_file gone = file_take(world.ring, directory_file(&directory, "gone", "x", 1));
    const sr_buffer buffer = buffer_take(world.pool);
    const sr_buffer foreign = buffer_take(other_pool);
    const sr_slice slices[] = {{buffer, 0, 1}, {foreign, 0, 1}};
    file_close(world.ring, gone);
    for (uint32_t i = 0; i < 8; i++) {
        sr_node_spec spec = spec_of(SR_OP_READ, 0);
        spec.request.file = i == 0 ? gone : i == 1 ? SR_FILE_NONE : file;
        spec.request.buffer = i == 2 ? foreign : i == 3 ? SR_BUFFER_NONE : buffer;
        spec.request.path = "x";
        spec.request.new_path = "y";
        spec.request.slices = slices;
        spec.request.slice_count = 2;
        spec.request.op = i == 4 ? SR_OP_READV : i == 5 ? SR_OP_LINKAT : SR_OP_READ;
        spec.request.new_dir = gone;
        if (i == 6) {
            spec.request.buffer = SR_BUFFER_NONE;
            spec.pool = other_pool;
        }
        if (i == 7) {
            spec.request.op = SR_OP_SPLICE;
            spec.request.other = gone;
        }
        batch_renew(NULL);
        (void)node_nop(1);
        refuse_start_for(node_add(&spec), SR_E_STALE);
    }
    assert_ok(sr_pool_release(world.pool, buffer));
    file_close(world.ring, file);
    pool_end(&other_pool);
    directory_end(&directory);
}

/* ---- shapes ----------------------------------------------------------------------------------
 */

ON_BACKENDS(batch_graph, a_diamond_runs_its_sides_between_its_ends) {
    const sr_node bottom = node_nop(3); /* in any order of adding */
    const sr_node left = node_slow(1, 20 * MS);
    const sr_node top = node_nop(0);
    const sr_node right = node_nop(2);
    after(left, top, SR_ON_SUCCESS);
    after(right, top, SR_ON_SUCCESS);
    after(bottom, left, SR_ON_SUCCESS);
    after(bottom, right, SR_ON_SUCCESS);
    batch_run();
    cr_assert_eq(world.told[0].position, 0);
    cr_assert_eq(world.told[2].position, 1);
    cr_assert_eq(world.told[1].position, 2);
    cr_assert_eq(world.told[3].position, 3);
}

ON_BACKENDS(batch_graph, many_before_one_and_many_after_it) {
    enum { MANY = 1000 };
    const sr_node middle = node_nop(MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        after(middle, node_nop(i), SR_ON_SUCCESS);
        after(node_nop(MANY + 1 + i), middle, SR_ON_SUCCESS);
    }
    batch_run();
    cr_assert_eq(world.told[MANY].position, MANY);
    cr_assert_eq(batch_stats().done_total, 2 * MANY + 1);
}

ON_BACKENDS(batch_graph, a_branch_for_failure_replaces_what_failed) {
    const sr_node tried = node_failing(0);
    const sr_node retried = node_nop(1);
    const sr_node not_needed = node_nop(2);
    const sr_node whatever = node_nop(3);
    after(retried, tried, SR_ON_FAILURE);
    after(not_needed, retried, SR_ON_FAILURE);
    after(whatever, tried, SR_ALWAYS);
    after(whatever, not_needed, SR_ALWAYS);
    batch_run();
    assert_failed(0, -ENOENT);
    assert_done(1);
    assert_skipped(2, retried); /* the cause of a skip may be DONE */
    assert_done(3);
}

/* ---- random graphs, against the table read naively -------------------------------------------
 */

enum { RANDOM_NODES = 60, RANDOM_EDGES = 150 };

struct plan_edge {
    uint32_t to;
    uint32_t from;
    uint32_t when;
};

struct verdict {
    uint32_t state;
    uint32_t cause;
};

static uint32_t own_state(uint32_t kind) {
    return kind == 0 ? SR_OUTCOME_FAILED : kind == 1 ? SR_OUTCOME_CANCELLED : SR_OUTCOME_DONE;
}

/* The table, looked up for each edge in the order of adding; nodes are in a topological order. */
static void judge(const struct plan_edge *edges, const uint32_t *kinds, struct verdict *verdicts) {
    for (uint32_t node = 0; node < RANDOM_NODES; node++) {
        verdicts[node] = (struct verdict){own_state(kinds[node]), node};
        for (uint32_t e = 0; e < RANDOM_EDGES; e++) {
            const struct verdict *from = &verdicts[edges[e].from];
            if (edges[e].to != node || edges[e].when == SR_ALWAYS) {
                continue;
            }
            const bool done = from->state == SR_OUTCOME_DONE;
            const bool skipped = from->state == SR_OUTCOME_SKIPPED;
            const bool runs = edges[e].when == SR_ON_SUCCESS ? done : !done && !skipped;
            if (!runs) {
                verdicts[node] =
                    (struct verdict){SR_OUTCOME_SKIPPED, skipped ? from->cause : edges[e].from};
                break;
            }
        }
    }
}

ON_BACKENDS(batch_graph, random_graphs_end_as_the_table_says) {
    const uint64_t rounds = scale_count(200, 10);
    for (uint64_t round = 0; round < rounds; round++) {
        struct scale_random random = scale_random(1000 + round);
        struct plan_edge edges[RANDOM_EDGES];
        struct verdict verdicts[RANDOM_NODES];
        uint32_t kinds[RANDOM_NODES];
        sr_node nodes[RANDOM_NODES];
        batch_renew(NULL);
        for (uint32_t i = 0; i < RANDOM_NODES; i++) {
            kinds[i] = (uint32_t)scale_random_below(&random, 4);
            nodes[i] = kinds[i] == 0   ? node_failing(i)
                       : kinds[i] == 1 ? node_cancelled(i)
                                       : node_nop(i);
        }
        for (uint32_t e = 0; e < RANDOM_EDGES; e++) {
            edges[e].to = 1 + (uint32_t)scale_random_below(&random, RANDOM_NODES - 1);
            edges[e].from = (uint32_t)scale_random_below(&random, edges[e].to);
            edges[e].when = (uint32_t)scale_random_below(&random, 3);
            after(nodes[edges[e].to], nodes[edges[e].from], edges[e].when);
        }
        judge(edges, kinds, verdicts);
        batch_run();
        for (uint32_t i = 0; i < RANDOM_NODES; i++) {
            const struct told *told = &world.told[i];
            cr_assert_eq(told->outcome.state, verdicts[i].state, "round %u, node %u",
                         (unsigned)round, i);
            if (told->outcome.state == SR_OUTCOME_SKIPPED) {
                cr_assert_eq(told->outcome.cause.bits, nodes[verdicts[i].cause].bits,
                             "round %u, node %u: another cause", (unsigned)round, i);
            }
        }
        for (uint32_t e = 0; e < RANDOM_EDGES; e++) {
            cr_assert_lt(world.told[edges[e].from].position, world.told[edges[e].to].position);
        }
    }
}
