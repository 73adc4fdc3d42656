/* SPDX-License-Identifier: MIT */
/* Batches that end early: fail-fast, deadline, cancel, destroy; with operations that would never
 * end by themselves. Clean-up nodes run, and everything is as it was before. */
#include "unit/batches.h"

#include "support/rig.h"

#include <sys/socket.h>

/* A pipe without data: a read of it ends when it is cancelled. */
static struct {
    sr_file file;
    int write_end;
} hole;

static void hole_open(void) {
    int ends[2];
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    hole.file = file_take(world.ring, ends[0]);
    hole.write_end = ends[1];
}

static void hole_close(void) {
    file_close(world.ring, hole.file);
    cr_assert_eq(close(hole.write_end), 0);
}

static sr_node_spec spec_held(uint64_t tag) {
    sr_node_spec spec = spec_of(SR_OP_READ, tag);
    spec.request.file = hole.file;
    spec.request.length = 16;
    spec.request.offset = SR_OFFSET_CURRENT;
    spec.pool = world.pool;
    return spec;
}

static sr_node node_held(uint64_t tag) {
    const sr_node_spec spec = spec_held(tag);
    return node_add(&spec);
}

static sr_node cleanup_nop(uint64_t tag) {
    sr_node_spec spec = spec_of(SR_OP_NOP, tag);
    spec.flags = SR_NODE_CLEANUP;
    return node_add(&spec);
}

/* Waits until that many nodes have been told. */
static void wait_told(uint32_t count) {
    while (world.told_count < count) {
        const int code = sr_ring_wait(world.ring, 1, 20 * SECOND, NULL, NULL);
        cr_assert_eq(code, 0, "%s", sr_error_name(code));
    }
}

/* Nodes of every kind around a stop: in flight, ready, behind these; clean-up and not. */
enum { HELD, READY, BEHIND_HELD, ALWAYS_BEHIND, ON_FAILURE_BEHIND, CLEANUP, CLEANUP_SUCCESS, MARK };

static void add_scene(void) {
    const sr_node held = node_held(HELD);
    const sr_node ready = node_nop(READY); /* not submitted: one in flight is the most */
    after(node_nop(BEHIND_HELD), held, SR_ON_SUCCESS);
    after(node_nop(ALWAYS_BEHIND), held, SR_ALWAYS);
    after(node_nop(ON_FAILURE_BEHIND), held, SR_ON_FAILURE);
    after(cleanup_nop(CLEANUP), held, SR_ALWAYS);
    after(cleanup_nop(CLEANUP_SUCCESS), held, SR_ON_SUCCESS);
    (void)ready;
}

static void assert_scene(enum sr_stop by) {
    assert_cancelled(HELD, by);
    cr_assert_eq(world.told[HELD].has_completion, 1, "its end was awaited");
    cr_assert_neq(world.told[HELD].completion.flags & SR_COMPLETION_CANCEL_ASKED, 0);
    assert_cancelled(READY, by);
    cr_assert_eq(world.told[READY].has_completion, 0);
    assert_skipped(BEHIND_HELD, world.told[HELD].node);
    assert_cancelled(ALWAYS_BEHIND, by); /* it would have run */
    assert_cancelled(ON_FAILURE_BEHIND, by);
    assert_done(CLEANUP);
    assert_skipped(CLEANUP_SUCCESS, world.told[HELD].node);
    cr_assert_eq(pool_stats(world.pool).held_count, 0);
}

/* ---- cancel and deadline ---------------------------------------------------------------------
 */

ON_BACKENDS(batch_stop, a_cancelled_batch_lets_only_clean_up_nodes_start) {
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    options.in_flight_max = 1;
    hole_open();
    batch_renew(&options);
    add_scene();
    assert_code(sr_batch_cancel(world.batch), SR_E_STATE);
    assert_misuse("sr_batch_cancel", SR_E_STATE);
    assert_ok(sr_batch_start(world.batch));
    assert_code(sr_ring_wait(world.ring, 1, 10 * MS, NULL, NULL), SR_E_TIMEOUT);
    cr_assert_eq(world.told_count, 0);
    cr_assert(batch_stats().in_flight == 1 && batch_stats().ready == 1);
    assert_ok(sr_batch_cancel(world.batch));
    assert_ok(sr_batch_cancel(world.batch));
    cr_assert_eq(world.told_count, 0, "told in a wait only");
    batch_run();
    assert_scene(SR_STOP_CALLER);
    cr_assert_eq(batch_stats().stopped_by, SR_STOP_CALLER);
    hole_close();
}

ON_BACKENDS(batch_stop, a_batch_is_stopped_at_its_deadline) {
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    options.in_flight_max = 1;
    options.deadline_ns = 30 * MS;
    hole_open();
    batch_renew(&options);
    add_scene();
    const uint64_t before = now_ns();
    batch_run();
    cr_assert_geq(now_ns() - before, 30 * MS);
    assert_scene(SR_STOP_DEADLINE);
    hole_close();
}

ON_BACKENDS(batch_stop, a_deadline_is_kept_by_dispatching_in_an_event_loop) {
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    options.deadline_ns = 30 * MS;
    int fd = -1;
    hole_open();
    batch_renew(&options);
    (void)node_held(HELD);
    assert_ok(sr_ring_event_fd(world.ring, &fd));
    assert_ok(sr_batch_start(world.batch));
    uint32_t turns = 0;
    while (batch_stats().finished == 0) {
        uint64_t left_ns = 0;
        const int code = sr_ring_dispatch(world.ring, NULL);
        cr_assert_eq(code, 0, "%s", sr_error_name(code));
        assert_ok(sr_ring_next_deadline_ns(world.ring, &left_ns));
        cr_assert(batch_stats().finished == 1 || left_ns <= 30 * MS ||
                      batch_stats().stopped_by == SR_STOP_DEADLINE,
                  "the loop would sleep over the deadline");
        if (left_ns != SR_FOREVER) {
            const struct timespec rest = {0, (long)(left_ns % SECOND)};
            (void)nanosleep(&rest, NULL);
        }
        turns++;
        cr_assert_lt(turns, 100000);
    }
    assert_cancelled(HELD, SR_STOP_DEADLINE);
    hole_close();
}

ON_BACKENDS(batch_stop, a_batch_that_has_finished_is_not_stopped) {
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    options.deadline_ns = 1;
    (void)node_nop(0);
    batch_run();
    assert_ok(sr_batch_cancel(world.batch));
    cr_assert_eq(batch_stats().stopped_by, SR_STOP_NONE);
    batch_renew(&options); /* empty: it has finished before any deadline */
    batch_run();
    cr_assert_eq(batch_stats().stopped_by, SR_STOP_NONE);
    uint64_t left_ns = 0;
    assert_ok(sr_ring_next_deadline_ns(world.ring, &left_ns));
    cr_assert_eq(left_ns, SR_FOREVER);
}

ON_BACKENDS(batch_stop, nodes_that_wait_for_a_buffer_or_a_place_are_cancelled) {
    sr_buffer held[16];
    for (uint32_t i = 0; i < 16; i++) {
        held[i] = buffer_take(world.pool);
    }
    hole_open();
    (void)node_held(0);
    sr_node_spec spec = spec_held(1);
    spec.flags = SR_NODE_CLEANUP;
    (void)node_add(&spec);
    (void)node_slow(2, HOUR);
    assert_ok(sr_batch_start(world.batch));
    cr_assert_eq(batch_stats().starved, 2);
    assert_ok(sr_batch_cancel(world.batch));
    wait_told(2);
    assert_cancelled(0, SR_STOP_CALLER);
    assert_cancelled(2, SR_STOP_CALLER);
    cr_assert_eq(batch_stats().starved, 1);
    assert_ok(sr_pool_release(world.pool, held[0])); /* the clean-up node still runs */
    cr_assert_eq(write(hole.write_end, "x", 1), 1);
    batch_run();
    assert_outcome(1, SR_OUTCOME_DONE, 1);
    for (uint32_t i = 1; i < 16; i++) {
        assert_ok(sr_pool_release(world.pool, held[i]));
    }
    hole_close();
}

/* ---- fail-fast -------------------------------------------------------------------------------
 */

static void add_in_failure(sr_batch *batch, sr_node node, const sr_node_outcome *outcome,
                           void *ctx) {
    sr_node_spec spec = spec_of(SR_OP_NOP, 20);
    sr_node added;
    world_tell(batch, node, outcome, ctx);
    assert_ok(sr_batch_add(batch, &spec, NULL));
    spec.request.tag = 21;
    spec.flags = SR_NODE_CLEANUP;
    assert_ok(sr_batch_add(batch, &spec, &added));
    assert_ok(sr_batch_after(batch, added, node, SR_ON_FAILURE));
    sr_batch_stats stats = SR_BATCH_STATS_INIT;
    assert_ok(sr_batch_get_stats(batch, &stats));
    cr_assert_eq(stats.stopped_by, SR_STOP_NONE, "the callback runs before the batch is stopped");
}

ON_BACKENDS(batch_stop, the_first_failure_stops_a_fail_fast_batch) {
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    options.fail_fast = 1;
    hole_open();
    batch_renew(&options);
    sr_node_spec spec = spec_of(SR_OP_UNLINKAT, 10);
    spec.request.path = "/nonexistent/safering";
    spec.on_outcome = add_in_failure;
    const sr_node failing = node_add(&spec);
    const sr_node held = node_held(HELD);
    after(node_nop(11), failing, SR_ON_FAILURE);
    after(cleanup_nop(12), failing, SR_ON_FAILURE);
    after(node_nop(13), held, SR_ON_SUCCESS);
    batch_run();
    assert_failed(10, -ENOENT);
    assert_cancelled(11, SR_STOP_FAIL_FAST);
    assert_done(12);
    assert_cancelled(HELD, SR_STOP_FAIL_FAST);
    assert_skipped(13, held);
    assert_cancelled(20, SR_STOP_FAIL_FAST);
    assert_done(21);
    cr_assert_eq(batch_stats().stopped_by, SR_STOP_FAIL_FAST);
    hole_close();
}

ON_BACKENDS(batch_stop, the_failure_of_a_clean_up_node_and_a_cancelled_node_stop_nothing) {
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    options.fail_fast = 1;
    batch_renew(&options);
    sr_node_spec spec = spec_of(SR_OP_UNLINKAT, 0);
    spec.request.path = "/nonexistent/safering";
    spec.flags = SR_NODE_CLEANUP;
    const sr_node failing = node_add(&spec);
    after(node_nop(1), failing, SR_ON_FAILURE);
    after(node_nop(2), node_cancelled(3), SR_ON_FAILURE);
    batch_run();
    assert_done(1);
    assert_done(2);
    cr_assert_eq(batch_stats().stopped_by, SR_STOP_NONE);
}

ON_BACKENDS(batch_stop, without_fail_fast_everything_that_can_be_reached_runs) {
    const sr_node failing = node_failing(0);
    after(node_nop(1), failing, SR_ON_SUCCESS);
    (void)node_slow(2, 20 * MS);
    batch_run();
    assert_done(2);
    cr_assert_eq(batch_stats().stopped_by, SR_STOP_NONE);
}

ON_BACKENDS(batch_stop, a_failed_batch_is_followed_at_once_by_a_fresh_one_on_the_same_buffers) {
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    sr_buffer buffers[8];
    options.fail_fast = 1;
    for (uint32_t i = 0; i < 8; i++) {
        buffers[i] = buffer_take(world.pool);
    }
    hole_open();
    for (uint32_t round = 0; round < 50; round++) {
        batch_renew(&options);
        for (uint32_t i = 0; i < 8; i++) {
            sr_node_spec spec = spec_held(i);
            spec.pool = NULL;
            spec.request.buffer = buffers[i];
            (void)node_add(&spec);
        }
        (void)node_failing(8);
        batch_run();
        for (uint32_t i = 0; i < 8; i++) {
            assert_cancelled(i, SR_STOP_FAIL_FAST);
            /* Nobody has it any more: writing to it is allowed, and nothing is written to it. */
            memset(buffer_bytes(world.pool, buffers[i], 4096), (int)round, 4096);
        }
        batch_renew(NULL);
        cr_assert_eq(write(hole.write_end, "0123456789abcdef0123456789abcdef", 32), 32);
        for (uint32_t i = 0; i < 2; i++) {
            sr_node_spec spec = spec_held(i);
            spec.pool = NULL;
            spec.request.buffer = buffers[i];
            (void)node_add(&spec);
        }
        batch_run();
        for (uint32_t i = 0; i < 2; i++) {
            assert_outcome(i, SR_OUTCOME_DONE, 16);
            cr_assert_eq(memcmp(buffer_bytes(world.pool, buffers[i], 16), "0123456789abcdef", 16),
                         0);
        }
    }
    hole_close();
    for (uint32_t i = 0; i < 8; i++) {
        assert_ok(sr_pool_release(world.pool, buffers[i]));
    }
}

/* ---- destroy ---------------------------------------------------------------------------------
 */

ON_BACKENDS(batch_stop, destroying_a_running_batch_runs_its_clean_up_nodes_first) {
    static struct baseline before;
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    options.in_flight_max = 1;
    hole_open();
    for (uint32_t round = 0; round < 2; round++) { /* the first one warms up */
        batch_renew(&options);
        baseline_take(&before);
        add_scene();
        sr_node_spec spec = spec_of(SR_OP_OPENAT, MARK);
        spec.request.path = "/dev/null";
        spec.flags = SR_NODE_CLEANUP;
        (void)node_add(&spec); /* its file is nobody's */
        assert_ok(sr_batch_start(world.batch));
        assert_code(sr_ring_wait(world.ring, 1, MS, NULL, NULL), SR_E_TIMEOUT);
        const uint64_t closed_before = ring_stats(world.ring).descriptors_closed_total;
        assert_ok(sr_batch_destroy(&world.batch));
        cr_assert_null(world.batch);
        assert_scene(SR_STOP_CALLER);
        assert_done(MARK);
        cr_assert_eq(ring_stats(world.ring).descriptors_closed_total, closed_before + 1);
        cr_assert_eq(ring_stats(world.ring).ops_in_flight, 0);
        assert_ok(sr_batch_create(world.ring, NULL, &world.batch));
        const char *difference = baseline_difference(&before);
        cr_assert(round == 0 || difference == NULL, "%s", difference);
    }
    hole_close();
}

/* The last node of a batch has its outcome, and its callback goes on adding after it has cancelled.
 */
static void cancel_and_add(sr_batch *batch, sr_node node, const sr_node_outcome *outcome,
                           void *ctx) {
    world_tell(batch, node, outcome, ctx);
    assert_ok(sr_batch_cancel(batch));
    (void)node_nop(1);
    sr_node_spec spec = spec_of(SR_OP_NOP, 2);
    spec.flags = SR_NODE_CLEANUP;
    (void)node_add(&spec);
}

ON_BACKENDS(batch_stop, a_cancel_in_the_callback_of_the_last_node_holds_for_what_it_adds) {
    sr_node_spec spec = spec_of(SR_OP_NOP, 0);
    spec.on_outcome = cancel_and_add;
    (void)node_add(&spec);
    batch_run();
    assert_done(0);
    assert_cancelled(1, SR_STOP_CALLER);
    assert_done(2);
    cr_assert_eq(batch_stats().stopped_by, SR_STOP_CALLER);
}

ON_BACKENDS(batch_stop, a_fail_fast_batch_whose_last_node_fails_was_stopped_by_it) {
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    options.fail_fast = 1;
    batch_renew(&options);
    (void)node_failing(0);
    batch_run();
    cr_assert_eq(batch_stats().stopped_by, SR_STOP_FAIL_FAST);
}

static const sr_ring_options few_completions = {.size = sizeof(sr_ring_options),
                                                .entries = 128,
                                                .files_max = 1024,
                                                .fixed_files = 64,
                                                .pools_max = 16,
                                                .completions_max = 2,
                                                .inbox_entries = 16,
                                                .drain_timeout_ns = 5000000000u};

ON_BACKENDS_WITH(batch_stop, however_much_is_kept_clean_up_nodes_have_their_time,
                 &few_completions) {
    enum { PLAIN = 9 };
    const sr_completion *completions = NULL;
    sr_node_spec spec = spec_of(SR_OP_NOP, 0);
    spec.flags = SR_NODE_CLEANUP;
    for (uint64_t i = 0; i < PLAIN; i++) {
        sr_request nop = request_of(SR_OP_NOP);
        nop.tag = 100 + i;
        (void)submit(world.ring, &nop);
    }
    const sr_node slow = node_slow(1, 5 * MS);
    spec.flags = SR_NODE_CLEANUP;
    const sr_node last = node_add(&spec);
    after(last, slow, SR_ALWAYS);
    assert_ok(sr_batch_start(world.batch));
    assert_ok(sr_inbox_post(world.ring, 7, NULL)); /* messages wait in the inbox */
    assert_ok(sr_batch_destroy(&world.batch));
    assert_done(0);
    int plain = 0;
    int messages = 0;
    while (plain + messages < PLAIN + 1) {
        const int count = sr_ring_wait(world.ring, 1, 20 * SECOND, NULL, &completions);
        cr_assert_geq(count, 1, "%s", sr_error_name(count));
        for (int i = 0; i < count; i++) {
            const bool message = (completions[i].flags & SR_COMPLETION_INBOX) != 0;
            cr_assert_eq(completions[i].tag, message ? 7u : 100u + (unsigned)plain);
            messages += message;
            plain += !message;
        }
    }
    cr_assert_eq(messages, 1);
    for (uint64_t i = 0; i < 3; i++) { /* and then it is as it was */
        sr_request nop = request_of(SR_OP_NOP);
        (void)submit(world.ring, &nop);
    }
    assert_code(sr_ring_wait(world.ring, 3, SR_FOREVER, NULL, &completions), 2);
    assert_code(sr_ring_wait(world.ring, 1, SR_FOREVER, NULL, &completions), 1);
}

ON_BACKENDS(batch_stop, destroying_a_batch_keeps_the_completions_of_plain_operations) {
    const sr_completion *completions = NULL;
    sr_request request = request_of(SR_OP_STATX);
    request.path = "/dev/null";
    request.mask = 0x7ff;
    request.tag = 1000;
    hole_open();
    (void)node_held(HELD);
    assert_ok(sr_batch_start(world.batch));
    (void)submit(world.ring, &request);
    assert_code(sr_ring_wait(world.ring, 1, SR_FOREVER, NULL, &completions), 1);
    const struct statx *seen = completions[0].statx;
    cr_assert_not_null(seen);
    const uint16_t mode = seen->stx_mode;
    for (uint32_t i = 1; i <= 5; i++) {
        request.tag = 1000 + i;
        (void)submit(world.ring, &request);
    }
    assert_ok(sr_batch_destroy(&world.batch));
    assert_cancelled(HELD, SR_STOP_CALLER);
    /* The array of the last wait is what it was. */
    cr_assert(completions[0].tag == 1000 && completions[0].statx == seen && seen->stx_mode == mode);
    uint64_t left_ns = 1;
    assert_ok(sr_ring_next_deadline_ns(world.ring, &left_ns));
    cr_assert_eq(left_ns, 0, "there is something to take");
    uint64_t tags = 0;
    for (uint32_t taken = 0; taken < 5;) {
        const int count = sr_ring_wait(world.ring, 1, 20 * SECOND, NULL, &completions);
        cr_assert_gt(count, 0);
        for (int i = 0; i < count; i++) {
            cr_assert(completions[i].statx != NULL && completions[i].statx->stx_mode == mode);
            tags |= UINT64_C(1) << (completions[i].tag - 1000);
        }
        taken += (uint32_t)count;
    }
    cr_assert_eq(tags, 0x3e);
    assert_code(sr_ring_wait(world.ring, 1, SR_FOREVER, NULL, &completions), SR_E_IDLE);
    assert_ok(sr_batch_create(world.ring, NULL, &world.batch));
    hole_close();
}

/* A node that no cancel ends while the test wants it: clean-up nodes are not asked to end. */
ON_BACKENDS(batch_stop, what_outlives_the_drain_time_is_abandoned_and_everything_has_an_outcome) {
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    options.drain_timeout_ns = 20 * MS;
    hole_open();
    batch_renew(&options);
    sr_node_spec spec = spec_held(0);
    spec.flags = SR_NODE_CLEANUP;
    const sr_node held = node_add(&spec);
    after(cleanup_nop(1), held, SR_ALWAYS);
    after(node_nop(2), held, SR_ON_SUCCESS);
    assert_ok(sr_batch_start(world.batch));
    const uint64_t before = now_ns();
    assert_code(sr_batch_destroy(&world.batch), SR_E_IN_FLIGHT);
    cr_assert_geq(now_ns() - before, 20 * MS);
    cr_assert_null(world.batch);
    assert_failed(0, SR_E_TIMEOUT);
    assert_cancelled(1, SR_STOP_CALLER); /* there is no time left for it */
    assert_skipped(2, held);
    cr_assert_eq(pool_stats(world.pool).held_count, 0);
    cr_assert_eq(ring_stats(world.ring).ops_abandoned, 1);
    /* It has been asked to end: soon it has, and its buffer is free. */
    while (ring_stats(world.ring).ops_in_flight > 0) {
        cr_assert_eq(sr_ring_wait(world.ring, 0, 0, NULL, NULL), 0);
    }
    cr_assert_eq(pool_stats(world.pool).free_count, 16);
    assert_ok(sr_batch_create(world.ring, NULL, &world.batch));
    hole_close();
}

ON_BACKENDS(batch_stop, clean_up_nodes_that_nothing_can_feed_do_not_hold_a_destroy_up) {
    sr_buffer held[16];
    for (uint32_t i = 0; i < 16; i++) {
        held[i] = buffer_take(world.pool);
    }
    hole_open();
    sr_node_spec spec = spec_held(0);
    spec.flags = SR_NODE_CLEANUP;
    (void)node_add(&spec);
    assert_ok(sr_batch_start(world.batch));
    const uint64_t before = now_ns();
    assert_ok(sr_batch_destroy(&world.batch)); /* nothing is in flight */
    cr_assert_lt(now_ns() - before, 4 * SECOND);
    assert_cancelled(0, SR_STOP_CALLER);
    for (uint32_t i = 0; i < 16; i++) {
        assert_ok(sr_pool_release(world.pool, held[i]));
    }
    assert_ok(sr_batch_create(world.ring, NULL, &world.batch));
    hole_close();
}

ON_BACKENDS(batch_stop, a_batch_that_was_never_started_goes_without_a_word) {
    const sr_node opener = node_nop(0);
    after(node_nop(1), opener, SR_ON_SUCCESS);
    assert_ok(sr_batch_destroy(&world.batch));
    cr_assert_eq(world.told_count, 0);
    assert_ok(sr_batch_destroy(&world.batch));
    assert_ok(sr_batch_create(world.ring, NULL, &world.batch));
}

/* ---- children and dead owners ----------------------------------------------------------------
 */

static void child_destroys(void *ctx) {
    sr_batch_stats stats = SR_BATCH_STATS_INIT;
    const bool ring_first = *(const bool *)ctx;
    sr_set_misuse_hook(NULL, NULL);
    bool right = sr_batch_get_stats(world.batch, &stats) == SR_E_FORKED &&
                 sr_batch_run(world.batch, 0, NULL) == SR_E_FORKED;
    if (ring_first) {
        right = right && sr_ring_destroy(&world.ring) == 0;
        right = right && sr_batch_destroy(&world.batch) == 0;
    } else {
        right = right && sr_batch_destroy(&world.batch) == 0;
        right = right && sr_ring_destroy(&world.ring) == 0;
    }
    right = right && sr_pool_destroy(&world.pool) == 0;
    if (!right || world.told_count > 0) {
        _exit(1);
    }
}

ON_BACKENDS(batch_stop, a_forked_child_frees_its_copy_and_the_parent_goes_on) {
    hole_open();
    (void)node_held(HELD);
    assert_ok(sr_batch_start(world.batch));
    assert_code(sr_ring_wait(world.ring, 1, MS, NULL, NULL), SR_E_TIMEOUT);
    for (uint32_t i = 0; i < 2; i++) {
        struct child_end end;
        bool ring_first = i == 1;
        child_run(child_destroys, &ring_first, &end);
        cr_assert_not(end.died, "%s", end.words);
    }
    cr_assert_eq(write(hole.write_end, "x", 1), 1);
    batch_run();
    assert_outcome(HELD, SR_OUTCOME_DONE, 1);
    hole_close();
}

static uint32_t owner_backend;
static int owner_hole;

static void *own_and_exit(void *ctx) {
    (void)ctx;
    cr_assert(world_open(owner_backend, NULL));
    hole_open();
    owner_hole = hole.write_end;
    (void)node_held(HELD);
    after(cleanup_nop(1), node_nop(2), SR_ALWAYS);
    assert_ok(sr_batch_start(world.batch));
    cr_assert_gt(sr_ring_flush(world.ring), 0);
    return NULL;
}

static void destroy_of_the_dead(uint32_t backend, bool ring_first) {
    owner_backend = backend;
    thread_run(own_and_exit, NULL);
    sr_set_misuse_hook(NULL, NULL);
    if (ring_first) {
        const int code = sr_ring_destroy(&world.ring);
        cr_assert(code == 0 || code == SR_E_IN_FLIGHT, "%s", sr_error_name(code));
    }
    assert_ok(sr_batch_destroy(&world.batch));
    cr_assert_eq(world.told_count, 0);
    if (!ring_first) {
        const int code = sr_ring_destroy(&world.ring);
        cr_assert(code == 0 || code == SR_E_IN_FLIGHT, "%s", sr_error_name(code));
    }
    cr_assert_eq(close(owner_hole), 0);
    for (uint32_t i = 0; i < 1000 && sr_pool_destroy(&world.pool) != 0; i++) {
        cr_assert_geq(sr_quarantine_sweep(10 * MS), 0);
    }
    cr_assert_null(world.pool);
}

Test(batch_stop, another_thread_frees_the_batch_of_an_owner_that_has_exited) {
    destroy_of_the_dead(SR_BACKEND_FALLBACK, false);
    destroy_of_the_dead(SR_BACKEND_FALLBACK, true);
    if (world_open(SR_BACKEND_URING, NULL)) {
        world_close();
        destroy_of_the_dead(SR_BACKEND_URING, false);
        destroy_of_the_dead(SR_BACKEND_URING, true);
    }
}

static void *try_from_elsewhere(void *ctx) {
    sr_batch *variable = world.batch;
    (void)ctx;
    misuse_forget();
    assert_code(sr_batch_destroy(&variable), SR_E_WRONG_THREAD);
    assert_misuse("sr_batch_destroy", SR_E_WRONG_THREAD);
    assert_code(sr_batch_cancel(world.batch), SR_E_WRONG_THREAD);
    assert_misuse("sr_batch_cancel", SR_E_WRONG_THREAD);
    return NULL;
}

ON_BACKENDS(batch_stop, another_thread_is_refused_while_the_owner_lives) {
    thread_run(try_from_elsewhere, NULL);
    (void)node_nop(0);
    batch_run();
}
