/* SPDX-License-Identifier: MIT */
/* One batch: the outcome table cell by cell, what is told and counted, what is refused. */
#include <poll.h>
#include "unit/batches.h"

#include <sys/stat.h>

enum { DEPENDENCY, NODE, BEFORE };

/* ---- the table -------------------------------------------------------------------------------
 */

/* A node with the outcome @state. Of a SKIPPED one *out_cause is the cause. */
static sr_node node_with(uint32_t state, uint64_t tag, sr_node *out_cause) {
    *out_cause = SR_NODE_NONE;
    switch (state) {
    case SR_OUTCOME_DONE:
        return node_nop(tag);
    case SR_OUTCOME_FAILED:
        return node_failing(tag);
    case SR_OUTCOME_CANCELLED:
        return node_cancelled(tag);
    default: {
        *out_cause = node_failing(BEFORE);
        const sr_node node = node_nop(tag);
        after(node, *out_cause, SR_ON_SUCCESS);
        return node;
    }
    }
}

ON_BACKENDS(batch, each_cell_of_the_outcome_table_is_as_it_says) {
    enum { RUNS, SKIPS, SKIPS_FOR_ITS_CAUSE };
    static const struct {
        uint32_t when;
        int expected[5]; /* by the dependency's outcome */
    } table[] = {
        {SR_ON_SUCCESS, {0, RUNS, SKIPS, SKIPS, SKIPS_FOR_ITS_CAUSE}},
        {SR_ON_FAILURE, {0, SKIPS, RUNS, RUNS, SKIPS_FOR_ITS_CAUSE}},
        {SR_ALWAYS, {0, RUNS, RUNS, RUNS, RUNS}},
    };
    for (size_t row = 0; row < COUNT_OF(table); row++) {
        for (uint32_t state = SR_OUTCOME_DONE; state <= SR_OUTCOME_SKIPPED; state++) {
            sr_node cause;
            batch_renew(NULL);
            const sr_node dependency = node_with(state, DEPENDENCY, &cause);
            const sr_node node = node_nop(NODE);
            after(node, dependency, table[row].when);
            batch_run();
            cr_assert_eq(world.told[DEPENDENCY].outcome.state, state);
            if (table[row].expected[state] == RUNS) {
                assert_done(NODE);
            } else {
                assert_skipped(NODE, table[row].expected[state] == SKIPS ? dependency : cause);
            }
        }
    }
}

ON_BACKENDS(batch, an_edge_of_an_argument_is_not_satisfied_unless_its_node_is_done) {
    for (uint32_t when = SR_ON_SUCCESS; when <= SR_ALWAYS; when++) {
        for (uint32_t fails = 0; fails < 2; fails++) {
            batch_renew(NULL);
            sr_node_spec open_spec = spec_of(SR_OP_OPENAT, DEPENDENCY);
            open_spec.request.path = fails == 1 ? "/nonexistent/safering" : "/dev/null";
            const sr_node open_node = node_add(&open_spec);
            sr_node_spec close_spec = spec_of(SR_OP_CLOSE, NODE);
            close_spec.file_from = open_node;
            const sr_node close_node = node_add(&close_spec);
            after(close_node, open_node, when);
            batch_run();
            if (fails == 0 && when != SR_ON_FAILURE) {
                assert_done(NODE);
            } else {
                assert_skipped(NODE, open_node);
            }
        }
    }
}

ON_BACKENDS(batch, the_first_edge_that_was_added_and_is_not_satisfied_gives_the_cause) {
    /* The later it was added, the sooner it fails. */
    const sr_node slow = node_slow(2, 30 * MS);
    const sr_node late = node_failing(3);
    const sr_node soon = node_failing(4);
    const sr_node done = node_nop(5);
    const sr_node node = node_nop(NODE);
    after(late, slow, SR_ON_SUCCESS);
    after(node, done, SR_ON_SUCCESS);
    after(node, late, SR_ON_SUCCESS);
    after(node, soon, SR_ON_SUCCESS);
    batch_run();
    cr_assert_lt(world.told[4].position, world.told[3].position);
    assert_skipped(NODE, late);
}

ON_BACKENDS(batch, a_node_is_looked_at_when_all_that_it_depends_on_have_outcomes) {
    const sr_node slow = node_slow(2, 30 * MS);
    const sr_node soon = node_failing(3);
    const sr_node skipped = node_nop(NODE);
    const sr_node behind = node_nop(4);
    after(skipped, soon, SR_ON_SUCCESS);
    after(skipped, slow, SR_ALWAYS);
    after(behind, skipped, SR_ALWAYS); /* so it runs after the slow one, too */
    batch_run();
    assert_skipped(NODE, soon);
    assert_done(4);
    cr_assert(world.told[2].position < world.told[NODE].position &&
              world.told[NODE].position < world.told[4].position);
}

ON_BACKENDS(batch, several_edges_between_two_nodes_must_all_be_satisfied) {
    const sr_node done = node_nop(DEPENDENCY);
    const sr_node both = node_nop(2);
    const sr_node neither = node_nop(3);
    after(both, done, SR_ON_SUCCESS);
    after(both, done, SR_ALWAYS);
    after(neither, done, SR_ON_SUCCESS);
    after(neither, done, SR_ON_FAILURE);
    batch_run();
    assert_done(2);
    assert_skipped(3, done);
}

ON_BACKENDS(batch, a_long_chain_of_skipped_nodes_is_no_deep_recursion) {
    enum { LENGTH = 65535 };
    const sr_node first = node_failing(0);
    sr_node last = first;
    sr_node_spec spec = spec_of(SR_OP_NOP, 0);
    spec.on_outcome = NULL;
    for (uint32_t i = 0; i < LENGTH; i++) {
        const sr_node node = node_add(&spec);
        after(node, last, SR_ON_SUCCESS);
        last = node;
    }
    batch_run();
    sr_node_outcome outcome;
    assert_ok(sr_batch_outcome(world.batch, last, &outcome));
    cr_assert_eq(outcome.state, SR_OUTCOME_SKIPPED);
    cr_assert_eq(outcome.cause.bits, first.bits);
    cr_assert_eq(batch_stats().skipped_total, LENGTH);
}

/* ---- what is told ----------------------------------------------------------------------------
 */

static int seen_ctx;

static void tell_ctx(sr_batch *batch, sr_node node, const sr_node_outcome *outcome, void *ctx) {
    world_tell(batch, node, outcome, ctx);
    cr_assert_eq(ctx, &seen_ctx);
    cr_assert_eq(batch, world.batch);
    cr_assert_not_null(outcome->completion);
    cr_assert_eq(outcome->completion->ctx, &seen_ctx);
    cr_assert_eq(outcome->completion->tag, outcome->tag);
    seen_ctx++;
}

ON_BACKENDS(batch, a_callback_gets_what_the_request_said_and_the_completion) {
    sr_node_spec spec = spec_of(SR_OP_STATX, 7);
    spec.request.path = "/dev/null";
    spec.request.mask = STATX_TYPE;
    spec.request.ctx = &seen_ctx;
    spec.on_outcome = tell_ctx;
    seen_ctx = 0;
    const sr_node node = node_add(&spec);
    sr_node_outcome outcome;
    assert_ok(sr_batch_outcome(world.batch, node, &outcome));
    cr_assert_eq(outcome.state, SR_OUTCOME_NONE);
    batch_run();
    cr_assert_eq(seen_ctx, 1);
    assert_done(7);
    cr_assert_eq(world.told[7].node.bits, node.bits);
    cr_assert_eq(world.submitted_tags[7], 1, "the trace hook sees the caller's tag");
    cr_assert_eq(world.submits, world.completes);
    assert_ok(sr_batch_outcome(world.batch, node, &outcome));
    cr_assert(outcome.state == SR_OUTCOME_DONE && outcome.completion == NULL && outcome.tag == 7);
}

static void call_what_is_forbidden(sr_batch *batch, sr_node node, const sr_node_outcome *outcome,
                                   void *ctx) {
    sr_batch *variable = batch;
    sr_ring *ring = world.ring;
    world_tell(batch, node, outcome, ctx);
    assert_code(sr_batch_destroy(&variable), SR_E_STATE);
    cr_assert_eq(variable, batch);
    assert_misuse("sr_batch_destroy", SR_E_STATE);
    assert_code(sr_batch_run(batch, 0, NULL), SR_E_STATE);
    assert_misuse("sr_batch_run", SR_E_STATE);
    assert_code(sr_batch_start(batch), SR_E_STATE);
    assert_misuse("sr_batch_start", SR_E_STATE);
    assert_code(sr_ring_wait(world.ring, 0, 0, NULL, NULL), SR_E_STATE);
    assert_misuse("sr_ring_wait", SR_E_STATE);
    assert_code(sr_ring_destroy(&ring), SR_E_STATE);
    assert_misuse("sr_ring_destroy", SR_E_STATE);
}

ON_BACKENDS(batch, waiting_and_destroying_is_refused_inside_of_callbacks) {
    sr_node_spec spec = spec_of(SR_OP_NOP, 0);
    spec.on_outcome = call_what_is_forbidden;
    const sr_node first = node_add(&spec);
    spec.request.tag = 1;
    const sr_node skipped = node_add(&spec); /* told without an operation of its own */
    after(skipped, first, SR_ON_FAILURE);
    batch_run();
    assert_done(0);
    assert_skipped(1, first);
}

ON_BACKENDS(batch, a_full_transfer_that_gets_less_has_failed_as_short) {
    struct directory directory = directory_begin();
    const sr_file file = file_take(world.ring, directory_file(&directory, "ten", "0123456789", 10));
    sr_node_spec spec = spec_of(SR_OP_READ, 0);
    spec.request.file = file;
    spec.request.length = 100;
    spec.pool = world.pool;
    (void)node_add(&spec); /* not in full: fewer are fine */
    spec.request.tag = 1;
    spec.request.flags = SR_REQUEST_FULL;
    (void)node_add(&spec);
    spec.request.tag = 2;
    spec.request.length = 10;
    (void)node_add(&spec);
    batch_run();
    assert_outcome(0, SR_OUTCOME_DONE, 10);
    assert_failed(1, SR_E_SHORT);
    cr_assert_eq(world.told[1].outcome.bytes_done, 10);
    assert_outcome(2, SR_OUTCOME_DONE, 10);
    cr_assert_eq(batch_stats().bytes_total, 30);
    file_close(world.ring, file);
    directory_end(&directory);
}

static sr_op traced_op;

static void remember_op(int event, sr_op op, uint64_t tag, int64_t value, void *ctx) {
    (void)tag;
    (void)value;
    (void)ctx;
    if (event == SR_TRACE_SUBMIT) {
        traced_op = op;
    }
}

Test(batch, an_operation_that_somebody_else_cancels_is_cancelled_by_the_caller) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.on_trace = remember_op;
    memset(&world, 0, sizeof world);
    world.ring = ring_make(&options);
    assert_ok(sr_batch_create(world.ring, NULL, &world.batch));
    (void)node_slow(0, HOUR);
    assert_ok(sr_batch_start(world.batch));
    assert_ok(sr_op_cancel(world.ring, traced_op));
    batch_run();
    assert_cancelled(0, SR_STOP_CALLER);
    cr_assert_eq(batch_stats().stopped_by, SR_STOP_NONE);
    assert_ok(sr_batch_destroy(&world.batch));
    ring_end(&world.ring);
}

/* It must not, but then the batch's end puts it right. */
Test(batch, an_operation_that_somebody_else_abandons_has_its_outcome_when_the_batch_ends) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.on_trace = remember_op;
    memset(&world, 0, sizeof world);
    world.ring = ring_make(&options);
    assert_ok(sr_batch_create(world.ring, NULL, &world.batch));
    const sr_node abandoned = node_slow(0, HOUR);
    after(node_nop(1), abandoned, SR_ON_SUCCESS);
    assert_ok(sr_batch_start(world.batch));
    assert_ok(sr_op_abandon(world.ring, traced_op, NULL));
    assert_code(sr_batch_run(world.batch, SECOND, NULL), SR_E_IDLE);
    assert_ok(sr_batch_cancel(world.batch));
    assert_code(sr_batch_destroy(&world.batch), SR_E_IN_FLIGHT);
    assert_failed(0, SR_E_TIMEOUT);
    assert_skipped(1, abandoned);
    ring_end(&world.ring);
}

ON_BACKENDS(batch, a_node_of_a_file_that_closes_is_cancelled_by_the_caller) {
    int ends[2];
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    const sr_file file = file_take(world.ring, ends[0]);
    sr_node_spec spec = spec_of(SR_OP_READ, 0);
    spec.request.file = file;
    spec.request.length = 1;
    spec.request.offset = SR_OFFSET_CURRENT;
    spec.pool = world.pool;
    (void)node_add(&spec);
    assert_ok(sr_batch_start(world.batch));
    sr_request close_request = request_of(SR_OP_CLOSE);
    close_request.file = file;
    close_request.op_flags = SR_CLOSE_CANCEL;
    (void)submit(world.ring, &close_request);
    const sr_completion *completions = NULL;
    assert_code(sr_batch_run(world.batch, SR_FOREVER, &completions), 0);
    assert_cancelled(0, SR_STOP_CALLER);
    const sr_completion closed = wait_one(world.ring);
    assert_ok(closed.result);
    cr_assert_eq(close(ends[1]), 0);
}

ON_BACKENDS(batch, what_a_submission_refuses_is_the_outcome_and_no_misuse) {
    struct directory directory = directory_begin();
    const sr_file file = file_take(world.ring, directory_file(&directory, "file", "x", 1));
    const sr_buffer buffer = buffer_take(world.pool);
    int ends[2];
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    sr_node_spec spec = spec_of(SR_OP_POLL, 0);
    spec.request.file = file_take(world.ring, ends[0]);
    spec.request.mask = POLLIN;
    const sr_node first = node_add(&spec); /* ends when we say so: once the file is closed */
    spec = spec_of(SR_OP_READ, 1);
    spec.request.file = file;
    spec.request.buffer = buffer;
    spec.request.length = 1;
    const sr_node stale = node_add(&spec);
    after(stale, first, SR_ON_SUCCESS);
    const sr_node behind = node_nop(2);
    after(behind, stale, SR_ON_FAILURE);
    assert_ok(sr_batch_start(world.batch));
    sr_request close_request = request_of(SR_OP_CLOSE);
    close_request.file = file;
    (void)submit(world.ring, &close_request);
    assert_ok(wait_one(world.ring).result);
    cr_assert_eq(write(ends[1], "x", 1), 1);
    batch_run();
    (void)close(ends[1]);
    assert_failed(1, SR_E_STALE);
    cr_assert_eq(world.told[1].has_completion, 0);
    assert_done(2);
    assert_ok(sr_pool_release(world.pool, buffer));
    directory_end(&directory);
}

ON_BACKENDS(batch, nothing_is_told_outside_of_a_wait) {
    const sr_buffer buffer = buffer_take(world.pool);
    sr_request request = request_of(SR_OP_TIMEOUT);
    sr_node_spec spec = spec_of(SR_OP_MADVISE, 0);
    (void)request;
    spec.request.buffer = buffer;
    spec.request.length = 8192; /* more than the buffer has: refused when it is submitted */
    (void)node_add(&spec);
    (void)node_nop(1);
    assert_ok(sr_batch_start(world.batch));
    assert_ok(sr_batch_cancel(world.batch));
    cr_assert_eq(world.told_count, 0);
    uint64_t left_ns = 1;
    assert_ok(sr_ring_next_deadline_ns(world.ring, &left_ns));
    cr_assert_eq(left_ns, 0, "somebody has to be told");
    /* And that alone satisfies a wait. */
    while (world.told_count < 2) {
        assert_ok(sr_ring_wait(world.ring, 1, SR_FOREVER, NULL, NULL));
    }
    assert_failed(0, SR_E_BOUNDS);
    assert_ok(sr_pool_release(world.pool, buffer));
}

/* ---- progress, stats, picture ----------------------------------------------------------------
 */

static struct {
    uint32_t calls;
    sr_batch_stats last;
} progress;

static void on_progress(sr_batch *batch, const sr_batch_stats *stats, void *ctx) {
    cr_assert_eq(batch, world.batch);
    cr_assert_eq(ctx, &progress);
    progress.calls++;
    progress.last = *stats;
}

static sr_batch_options with_progress(void) {
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    options.on_progress = on_progress;
    options.progress_ctx = &progress;
    memset(&progress, 0, sizeof progress);
    return options;
}

ON_BACKENDS(batch, progress_is_told_once_per_wait_that_brought_outcomes) {
    const sr_batch_options options = with_progress();
    batch_renew(&options);
    for (uint32_t i = 0; i < 10; i++) {
        (void)node_nop(i);
    }
    const sr_node slow = node_slow(10, 20 * MS);
    after(node_nop(11), slow, SR_ON_SUCCESS);
    assert_ok(sr_batch_start(world.batch));
    uint32_t waits = 0;
    while (batch_stats().finished == 0) {
        const uint32_t told_before = world.told_count;
        const uint32_t calls_before = progress.calls;
        const int code = sr_ring_wait(world.ring, 1, 5 * MS, NULL, NULL);
        cr_assert(code == 0 || code == SR_E_TIMEOUT);
        cr_assert_eq(progress.calls - calls_before, world.told_count > told_before);
        waits++;
    }
    cr_assert_gt(waits, 1);
    cr_assert(progress.last.finished == 1 && progress.last.done_total == 12);
}

ON_BACKENDS(batch, an_empty_batch_finishes_at_once) {
    const sr_batch_options options = with_progress();
    batch_renew(&options);
    assert_ok(sr_batch_run(world.batch, 0, NULL));
    cr_assert_eq(batch_stats().finished, 1);
    cr_assert_eq(progress.calls, 1);
    assert_ok(sr_batch_run(world.batch, 0, NULL));
    cr_assert_eq(progress.calls, 1);
    assert_code(sr_batch_start(world.batch), SR_E_STATE);
    assert_misuse("sr_batch_start", SR_E_STATE);
}

ON_BACKENDS(batch, stats_count_every_kind_of_outcome) {
    const sr_node failing = node_failing(0);
    after(node_nop(1), failing, SR_ON_SUCCESS);
    after(node_nop(2), failing, SR_ON_FAILURE);
    (void)node_cancelled(3);
    cr_assert_eq(batch_stats().nodes_alive, 4);
    assert_ok(sr_batch_start(world.batch));
    sr_batch_stats stats = batch_stats();
    cr_assert(stats.in_flight == 2 && stats.nodes_alive == 4 && stats.finished == 0);
    cr_assert_geq(stats.index_bytes, 16);
    batch_run();
    stats = batch_stats();
    cr_assert(stats.nodes_total == 4 && stats.done_total == 1 && stats.failed_total == 1 &&
              stats.cancelled_total == 1 && stats.skipped_total == 1);
}

ON_BACKENDS(batch, the_index_takes_at_most_64_bytes_per_operation) {
    static const uint32_t sizes[] = {16, 17, 100, 448, 30000, 65536};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        sr_ring_options ring_options = SR_RING_OPTIONS_INIT;
        sr_ring *const ring = world.ring;
        ring_options.ops_max = sizes[i];
        ring_options.backend = world.backend;
        ring_options.cq_entries = 256;
        sr_ring *other = ring_make(&ring_options);
        sr_batch *batch = NULL;
        sr_batch_stats stats = SR_BATCH_STATS_INIT;
        assert_ok(sr_batch_create(other, NULL, &batch));
        assert_ok(sr_batch_start(batch));
        assert_ok(sr_batch_get_stats(batch, &stats));
        cr_assert_leq(stats.index_bytes, 64ull * sizes[i], "%u operations: %llu", sizes[i],
                      (unsigned long long)stats.index_bytes);
        assert_ok(sr_batch_destroy(&batch));
        ring_end(&other);
        cr_assert_eq(world.ring, ring);
    }
}

ON_BACKENDS(batch, a_batch_can_be_drawn) {
    char text[2048];
    char cut[32];
    size_t length = 0;
    size_t whole = 0;
    const sr_node failing = node_failing(40);
    after(node_nop(41), failing, SR_ON_SUCCESS);
    batch_run();
    assert_ok(sr_batch_dot(world.batch, text, sizeof text, &length));
    cr_assert_eq(length, strlen(text));
    cr_assert_str_eq(text, "digraph batch {\n"
                           "    node [shape=box];\n"
                           "    n0 [label=\"unlinkat 40\\nfailed ENOENT\"];\n"
                           "    n0 -> n1 [label=\"success\"];\n"
                           "    n1 [label=\"nop 41\\nskipped for n0\"];\n"
                           "}\n");
    assert_code(sr_batch_dot(world.batch, cut, sizeof cut, &whole), SR_E_BOUNDS);
    cr_assert_eq(whole, length);
    cr_assert_eq(strlen(cut), sizeof cut - 1);
    cr_assert_eq(strncmp(cut, text, sizeof cut - 1), 0);
    assert_code(sr_batch_dot(world.batch, NULL, 0, &whole), SR_E_BOUNDS);
    assert_code(sr_batch_dot(world.batch, text, length, &whole), SR_E_BOUNDS);
    assert_ok(sr_batch_dot(world.batch, text, length + 1, &whole));
    cr_assert_eq(whole, length);
    misuse_forget();
}

/* ---- what is refused -------------------------------------------------------------------------
 */

ON_BACKENDS(batch, options_out_of_range_are_refused) {
    static const struct {
        size_t offset;
        uint32_t value;
    } wrong[] = {
        {offsetof(sr_batch_options, nodes_max), 0},
        {offsetof(sr_batch_options, nodes_max), (1u << 20) + 1},
        {offsetof(sr_batch_options, in_flight_max), (1u << 20) + 1},
        {offsetof(sr_batch_options, fail_fast), 2},
        {offsetof(sr_batch_options, forget), 2},
    };
    sr_batch *batch = NULL;
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        sr_batch_options options = SR_BATCH_OPTIONS_INIT;
        memcpy((char *)&options + wrong[i].offset, &wrong[i].value, sizeof wrong[i].value);
        assert_code(sr_batch_create(world.ring, &options, &batch), SR_E_BOUNDS);
        assert_misuse("sr_batch_create", SR_E_BOUNDS);
    }
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    options.size = 1;
    assert_code(sr_batch_create(world.ring, &options, &batch), -EINVAL);
    assert_misuse("sr_batch_create", -EINVAL);
    cr_assert_null(batch);
}

ON_BACKENDS(batch, a_ring_does_not_go_before_its_batches) {
    sr_ring *ring = world.ring;
    assert_code(sr_ring_destroy(&ring), SR_E_STATE);
    assert_misuse("sr_ring_destroy", SR_E_STATE);
    cr_assert_eq(ring, world.ring);
}

static void refuse_add(const sr_node_spec *spec, int code, const char *why) {
    sr_node node = {1};
    misuse_forget();
    const int got = sr_batch_add(world.batch, spec, &node);
    cr_assert_eq(got, code, "%s: %s", why, sr_error_name(got));
    cr_assert_eq(node.bits, 0);
    const bool expected = code == -EACCES || code == SR_E_FULL;
    cr_assert_eq(misuse.count, expected ? 0 : 1, "%s: %u reports", why, misuse.count);
    misuse_forget();
}

static void ignore_completion(sr_ring *ring, const sr_completion *completion, void *ctx) {
    (void)ring;
    (void)completion;
    (void)ctx;
}

ON_BACKENDS(batch, a_spec_that_cannot_be_a_node_is_refused_when_it_is_added) {
    const sr_node_spec good = spec_of(SR_OP_NOP, 0);
    sr_node_spec bad = good;
    bad.flags = 2;
    refuse_add(&bad, -EINVAL, "a flag");
    bad = good;
    bad.reserved = 1;
    refuse_add(&bad, -EINVAL, "reserved");
    bad = good;
    bad.size = 4;
    refuse_add(&bad, -EINVAL, "size");
    bad = good;
    bad.request.size = 4;
    refuse_add(&bad, -EINVAL, "the request's size");
    bad = good;
    bad.request.op = SR_OP_COUNT;
    refuse_add(&bad, -EINVAL, "no operation");
    bad = good;
    bad.request.flags = SR_REQUEST_FULL;
    refuse_add(&bad, -EINVAL, "a flag that the operation has not");
    bad = good;
    bad.request.on_complete = ignore_completion;
    refuse_add(&bad, -EINVAL, "on_complete");
    bad = spec_of(SR_OP_POLL, 0);
    bad.request.flags = SR_REQUEST_MULTISHOT;
    refuse_add(&bad, -EINVAL, "multishot");
    bad = spec_of(SR_OP_RECV, 0);
    bad.request.buffer_ring = (sr_buffer_ring *)(void *)&bad;
    refuse_add(&bad, -EINVAL, "buffer_ring");
    bad = spec_of(SR_OP_OPENAT, 0);
    refuse_add(&bad, -EINVAL, "no path");
    bad = spec_of(SR_OP_FALLOCATE, 0);
    bad.request.length = UINT64_MAX;
    refuse_add(&bad, SR_E_BOUNDS, "a number");
    bad = good;
    bad.pool = world.pool;
    refuse_add(&bad, -EINVAL, "a pool for what takes no buffer");
    bad = spec_of(SR_OP_READ, 0);
    bad.pool_bytes = 1;
    refuse_add(&bad, -EINVAL, "bytes without a pool");
    bad.pool = world.pool;
    bad.pool_bytes = 4097;
    refuse_add(&bad, -EINVAL, "more bytes than the pool's buffers have");
    bad.pool = (sr_pool *)(void *)world.told;
    bad.pool_bytes = 0;
    refuse_add(&bad, SR_E_OBJECT, "no pool");
    cr_assert_eq(batch_stats().nodes_total, 0);
}

ON_BACKENDS(batch, an_argument_must_be_one_that_its_node_brings_and_the_operation_takes) {
    sr_node_spec open_spec = spec_of(SR_OP_OPENAT, 0);
    open_spec.request.path = "/dev/null";
    sr_node_spec stat_spec = spec_of(SR_OP_STATX, 0);
    stat_spec.request.path = "/dev/null";
    const sr_node nop = node_nop(0);
    const sr_node opener = node_add(&open_spec);
    const sr_node sizeless = node_add(&stat_spec); /* its mask has no size */
    sr_node_spec bad = spec_of(SR_OP_FSYNC, 0);
    bad.file_from = nop;
    refuse_add(&bad, -EINVAL, "a file of a nop");
    bad = spec_of(SR_OP_NOP, 0);
    bad.file_from = opener;
    refuse_add(&bad, -EINVAL, "a file for a nop");
    bad = spec_of(SR_OP_FSYNC, 0);
    bad.new_dir_from = opener;
    refuse_add(&bad, -EINVAL, "a directory for fsync");
    bad = spec_of(SR_OP_FSYNC, 0);
    bad.other_from = opener;
    refuse_add(&bad, -EINVAL, "another file for fsync");
    bad = spec_of(SR_OP_READ, 0);
    bad.length_from = opener;
    refuse_add(&bad, -EINVAL, "a length of an open");
    bad = spec_of(SR_OP_READ, 0);
    bad.length_from = sizeless;
    refuse_add(&bad, -EINVAL, "a length of a statx that does not ask for the size");
    bad = spec_of(SR_OP_FSYNC, 0);
    bad.length_from = sizeless;
    refuse_add(&bad, -EINVAL, "a length for fsync");
    bad = spec_of(SR_OP_WRITE, 0);
    bad.buffer_from = nop;
    refuse_add(&bad, -EINVAL, "a buffer of a nop");
    sr_node_spec read_spec = spec_of(SR_OP_READ, 0);
    read_spec.pool = world.pool;
    const sr_node reader = node_add(&read_spec);
    bad = spec_of(SR_OP_FSYNC, 0);
    bad.buffer_from = reader;
    refuse_add(&bad, -EINVAL, "a buffer for fsync");
    bad = spec_of(SR_OP_WRITE, 0);
    bad.buffer_from = reader;
    bad.pool = world.pool;
    refuse_add(&bad, -EINVAL, "two buffers");
    bad = spec_of(SR_OP_WRITE, 0);
    bad.buffer_from.bits = reader.bits + (UINT64_C(1) << 40);
    refuse_add(&bad, SR_E_STALE, "a forged node");
}

ON_BACKENDS(batch, no_more_nodes_than_nodes_max) {
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    options.nodes_max = 100;
    batch_renew(&options);
    const sr_node_spec spec = spec_of(SR_OP_NOP, 0);
    for (uint32_t i = 0; i < 100; i++) {
        (void)node_nop(i);
    }
    refuse_add(&spec, SR_E_FULL, "one more");
    batch_run();
    cr_assert_eq(batch_stats().done_total, 100);
    refuse_add(&spec, SR_E_STATE, "after the start");
}

Test(batch, a_rings_restrictions_are_seen_when_a_node_is_added) {
    static const uint16_t allowed[] = {SR_OP_NOP};
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.ops_allowed = allowed;
    options.ops_allowed_count = 1;
    cr_assert(world_open(SR_BACKEND_FALLBACK, &options));
    const sr_node_spec spec = spec_of(SR_OP_TIMEOUT, 0);
    refuse_add(&spec, -EACCES, "a timeout");
    (void)node_nop(1);
    batch_run();
    assert_done(1);
    world_close();
}
