/* SPDX-License-Identifier: MIT */
/*
 * Conformance: every operation on both backends, with every kind of end: it works, fails, is short,
 * is cancelled, meets its deadline. Each outcome is compared with the table (table.h), and with
 * that of the other backend, unless docs/KERNEL.md says that it cannot be the same.
 *
 * What has been seen is written to standard error, one line per cell.
 */
#include "conformance/table.h"

#include "support/baseline.h"

#define TAG        UINT64_C(0xc0ffee)
#define PATIENCE_S 20u

TestSuite(outcomes, .timeout = 160);

/* What one backend made of a cell. */
struct outcome {
    bool is_skipped;
    int64_t result; /* of the operation, or of its submission if that was refused */
    uint32_t flags;
    uint64_t bytes_done;
};

/* The cell that is being played. */
static struct {
    const struct row *row;
    const struct cell *cell;
    enum column column;
    sr_request request;
    sr_op op;
    bool ended;
    sr_completion last;
    uint32_t more_count;
    uint32_t files_before;
} play;

static struct scene scene;
static struct baseline before;

static bool is_asked(enum column column) {
    return column == CANCELLED || column == DEADLINE;
}

/* ---- the way to the end --------------------------------------------------------------------- */

/* Buffers that come from a buffer ring go back to the pool, files are closed: the caller's duty. */
static void give_back(const sr_completion *completion) {
    if (play.request.buffer_ring != NULL && completion->buffer.bits != 0) {
        assert_ok(sr_pool_release(scene.pool, completion->buffer));
    }
}

static void note_more(const sr_completion *completion) {
    cr_assert_eq(completion->op.bits, play.op.bits);
    cr_assert_eq(completion->flags, SR_COMPLETION_MORE);
    cr_assert_geq(completion->result, 0, "%s", sr_error_name((int)completion->result));
    play.more_count++;
    scene.seen++;
    if (play.cell->check != NULL) {
        play.cell->check(&scene, completion);
    }
    give_back(completion);
}

static void note_last(const sr_completion *completion) {
    cr_assert_not(play.ended, "a second end");
    play.ended = true;
    play.last = *completion;
    if (play.cell->check != NULL) {
        play.cell->check(&scene, completion);
    }
    give_back(completion);
}

/* Closes a file that a completion has brought. */
static void end_file(sr_file file) {
    int fd = -1;
    assert_ok(sr_file_detach(scene.ring, file, &fd));
    cr_assert_eq(close(fd), 0);
}

/* Takes what comes within @timeout_ns. */
static void look(uint64_t timeout_ns) {
    const sr_completion *completions = NULL;
    const int count =
        sr_ring_wait(scene.ring, timeout_ns > 0 ? 1 : 0, timeout_ns, NULL, &completions);
    cr_assert(count >= 0 || count == SR_E_TIMEOUT, "sr_ring_wait: %s", sr_error_name(count));
    for (int i = 0; i < count; i++) {
        const sr_completion *each = &completions[i];
        if ((each->flags & SR_COMPLETION_MORE) != 0) {
            note_more(each);
        } else {
            note_last(each);
        }
        if (each->file.bits != 0 && each->file.bits != play.request.file.bits) {
            end_file(each->file);
        }
    }
}

/* Whether it cannot end by itself, not even if it is asked to. */
static bool needs_the_pump(void) {
    const bool differs = play.cell->on_fallback.count > 0;
    return play.cell->pump != NULL && (!differs || scene.backend == SR_BACKEND_FALLBACK);
}

static void until_ended(void) {
    const uint64_t end_ns = now_ns() + PATIENCE_S * UINT64_C(1000000000);
    /* What io_uring ends by itself is given the time to. */
    const bool pumps = is_asked(play.column) ? needs_the_pump() : play.cell->pump != NULL;
    bool cancelled = false;
    while (!play.ended) {
        cr_assert_lt(now_ns(), end_ns, "it does not end");
        if (!cancelled && play.cell->ends_by_cancel && play.more_count >= play.cell->more) {
            assert_ok(sr_op_cancel(scene.ring, play.op));
            cancelled = true;
        } else if (!cancelled && pumps) {
            play.cell->pump(&scene);
            scene.steps++;
        }
        look(pumps ? 10 * MS : 1000 * MS);
    }
}

static void check_range_is_lent(sr_buffer buffer, uint32_t offset) {
    void *data = NULL;
    assert_code(sr_buffer_data(scene.pool, buffer, offset, 1, SR_ACCESS_WRITE, &data), SR_E_LENT);
    assert_code(sr_pool_release(scene.pool, buffer), SR_E_IN_FLIGHT);
}

/* What is lent cannot be touched or given away. */
static void check_is_lent(void) {
    if (play.request.buffer.bits != 0 && play.request.length > 0) {
        check_range_is_lent(play.request.buffer, play.request.buffer_offset);
    }
    for (uint32_t i = 0; i < play.request.slice_count; i++) {
        check_range_is_lent(play.request.slices[i].buffer, play.request.slices[i].offset_bytes);
    }
}

static void pass_a_deadline(void) {
    const uint64_t start_ns = now_ns();
    while (now_ns() < start_ns + 1000) {
    }
}

/* Cancels it, or has its deadline pass, at the moment in question. */
static void ask_for_its_end(void) {
    if (play.cell->moment == UNSENT) {
        if (play.column == CANCELLED) {
            assert_ok(sr_op_cancel(scene.ring, play.op));
        } else {
            pass_a_deadline();
        }
        return;
    }
    cr_assert_geq(sr_ring_flush(scene.ring), 0);
    if (play.cell->arrive != NULL) {
        play.cell->arrive(&scene);
    }
    if (play.column == CANCELLED) {
        assert_ok(sr_op_cancel(scene.ring, play.op));
        check_is_lent(); /* a cancel is a request */
    }
    if (needs_the_pump()) {
        look(30 * MS);
        cr_assert_not(play.ended, "it was to go on");
        cr_assert_eq(ring_stats(scene.ring).deadlines_hit_total, play.column == DEADLINE);
        check_is_lent();
    }
}

static void run_to_the_end(void) {
    check_is_lent();
    if (is_asked(play.column)) {
        ask_for_its_end();
    } else {
        cr_assert_geq(sr_ring_flush(scene.ring), 0);
        if (needs_the_pump()) {
            look(0);
            cr_assert_not(play.ended, "it was to wait: %s", sr_error_name((int)play.last.result));
        }
    }
    until_ended();
}

/* ---- what came of it ------------------------------------------------------------------------ */

static const struct results *results_here(void) {
    return play.cell->on_fallback.count > 0 && scene.backend == SR_BACKEND_FALLBACK
               ? &play.cell->on_fallback
               : &play.cell->results;
}

static bool is_among(const struct results *results, int64_t result) {
    if (results->is_range) {
        return result >= results->list[0] && result <= results->list[1];
    }
    for (uint32_t i = 0; i < results->count; i++) {
        if (results->list[i] == result) {
            return true;
        }
    }
    return false;
}

static uint32_t flags_expected(void) {
    const uint32_t asked = play.cell->is_not_asked ? 0 : SR_COMPLETION_CANCEL_ASKED;
    switch (play.column) {
    case CANCELLED:
        return asked;
    case DEADLINE:
        return asked | SR_COMPLETION_DEADLINE_HIT;
    default:
        return play.cell->ends_by_cancel ? SR_COMPLETION_CANCEL_ASKED : 0;
    }
}

static bool counts_bytes(uint16_t op) {
    return (op >= SR_OP_READ && op <= SR_OP_WRITEV) || op == SR_OP_SPLICE || op == SR_OP_TEE ||
           (op >= SR_OP_SEND && op <= SR_OP_SEND_ZC);
}

static bool brings_file(uint16_t op) {
    return op == SR_OP_OPENAT || op == SR_OP_SOCKET || op == SR_OP_ACCEPT;
}

static void check_completion(void) {
    const sr_completion *last = &play.last;
    const bool is_multishot_accept =
        play.row->op == SR_OP_ACCEPT && (play.request.flags & SR_REQUEST_MULTISHOT) != 0;
    cr_assert(is_among(results_here(), last->result), "%s, %s: result %lld (%s)", play.row->name,
              table_column_name(play.column), (long long)last->result,
              sr_error_name((int)last->result));
    cr_assert_eq(last->flags, flags_expected(), "%s, %s: flags %x, not %x", play.row->name,
                 table_column_name(play.column), last->flags, flags_expected());
    const uint64_t transferred =
        counts_bytes(play.row->op) && last->result > 0 ? (uint64_t)last->result : 0;
    cr_assert_eq(last->bytes_done, last->result < 0 ? play.cell->bytes_before : transferred,
                 "%llu bytes done", (unsigned long long)last->bytes_done);
    cr_assert_eq(last->op.bits, play.op.bits);
    cr_assert_eq(last->opcode, play.row->op);
    cr_assert_eq(last->tag, TAG);
    cr_assert_eq(last->ctx, &scene);
    if (brings_file(play.row->op)) {
        cr_assert_eq(last->file.bits != 0, last->result >= 0 && !is_multishot_accept);
    } else {
        cr_assert_eq(last->file.bits, play.request.file.bits);
    }
    if (play.request.buffer_ring == NULL) {
        cr_assert_eq(last->buffer.bits, play.request.buffer.bits);
    }
    cr_assert_geq(play.more_count, play.cell->more, "%u completions with more to come",
                  play.more_count);
}

/* Nothing is in flight, nothing is lent, no file is left open, and a cancel comes too late. */
static void check_all_is_over(void) {
    const sr_completion *none = NULL;
    const sr_ring_stats stats = ring_stats(scene.ring);
    const uint32_t closed = play.row->op == SR_OP_CLOSE && play.cell->refused == 0;
    cr_assert_eq(stats.ops_in_flight, 0);
    cr_assert_eq(stats.files_open, play.files_before - closed, "%u files are open, not %u",
                 stats.files_open, play.files_before - closed);
    (void)buffer_bytes(scene.pool, scene.buffer, BYTES);
    (void)buffer_bytes(scene.pool, scene.second_buffer, BYTES);
    if (play.cell->refused == 0) {
        assert_code(sr_op_cancel(scene.ring, play.op), SR_E_STALE);
    }
    assert_code(sr_ring_wait(scene.ring, 1, 0, NULL, &none), SR_E_IDLE);
}

static bool is_lacking(int code) {
    return code == SR_E_UNSUPPORTED && scene.backend == SR_BACKEND_URING;
}

/* One that has passed is noticed by the next wait, and so by none before `arrive`, unless that one
 * waits. */
static uint64_t deadline_of(const struct cell *cell) {
    if (cell->moment == UNSENT) {
        return 1;
    }
    return cell->arrives_by_waiting ? 400 * MS : MS;
}

/* Plays the cell in the scene. */
static struct outcome play_cell(void) {
    play.request = request_of(play.row->op);
    play.request.flags = play.row->request_flags;
    play.request.tag = TAG;
    play.request.ctx = &scene;
    play.cell->prepare(&scene, &play.request);
    if (play.column == DEADLINE) {
        play.request.deadline_ns = deadline_of(play.cell);
    }
    play.files_before = ring_stats(scene.ring).files_open;
    const uint64_t start_ns = now_ns();
    const int code = sr_ring_submit(scene.ring, &play.request, &play.op);
    cr_assert_lt(now_ns() - start_ns, 10000 * MS, "sr_ring_submit() has waited");
    if (is_lacking(code)) {
        return (struct outcome){.is_skipped = true};
    }
    assert_code(code, play.cell->refused);
    if (code == 0) {
        run_to_the_end();
        check_completion();
    }
    check_all_is_over();
    return (struct outcome){
        .result = code == 0 ? play.last.result : code,
        .flags = play.last.flags,
        .bytes_done = play.last.bytes_done,
    };
}

/* ---- all cells, both backends --------------------------------------------------------------- */

static const char *backend_name(uint32_t backend) {
    return backend == SR_BACKEND_URING ? "io_uring" : "fallback";
}

/* Why io_uring is left out, or NULL. */
static const char *why_no_uring(void) {
    const char *wish = getenv("SAFERING_BACKEND");
    if (wish != NULL && strcmp(wish, "fallback") == 0) {
        return "SAFERING_BACKEND=fallback";
    }
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    sr_ring *ring = NULL;
    options.backend = SR_BACKEND_URING;
    const int code = sr_ring_create(&options, &ring);
    cr_assert(code == 0 || code == -EPERM || code == -ENOSYS, "%s", sr_error_name(code));
    (void)sr_ring_destroy(&ring);
    return code == 0 ? NULL : sr_error_name(code);
}

static void say_outcome(const struct outcome *outcome) {
    const char *name = outcome->result < 0 ? sr_error_name((int)outcome->result) : "";
    if (outcome->is_skipped) {
        fprintf(stderr, "%s, %s, %s: skipped, the kernel lacks it\n", play.row->name,
                table_column_name(play.column), backend_name(scene.backend));
        return;
    }
    fprintf(stderr, "%s, %s, %s: %lld %s flags %x\n", play.row->name,
            table_column_name(play.column), backend_name(scene.backend), (long long)outcome->result,
            name, outcome->flags);
}

/* An assertion may have failed in a helper that knows nothing of rows. */
static void say_where(void) {
    if (play.row != NULL) {
        fprintf(stderr, "failed in: %s, %s, %s\n", play.row->name, table_column_name(play.column),
                backend_name(scene.backend));
    }
}

static struct outcome play_in_a_scene(const struct row *row, enum column column, uint32_t backend,
                                      struct slowfs *fs) {
    memset(&play, 0, sizeof play);
    play.row = row;
    play.column = column;
    play.cell = &row->cells[column];
    scene_open(&scene, row, backend, fs);
    const struct outcome outcome = play_cell();
    scene_close(&scene);
    return outcome;
}

static struct outcome run_cell(const struct row *row, enum column column, uint32_t backend,
                               struct slowfs *fs) {
    baseline_take(&before);
    const struct outcome outcome = play_in_a_scene(row, column, backend, fs);
    const char *left = baseline_difference(&before);
    cr_assert_null(left, "%s, %s, %s: %s", row->name, table_column_name(column),
                   backend_name(backend), left);
    say_outcome(&outcome);
    return outcome;
}

/* The first ring, the first thread and so on leave something behind that is not looked for. */
static void warm_up(bool has_uring) {
    if (has_uring) {
        (void)play_in_a_scene(table_row(0), WORKS, SR_BACKEND_URING, NULL);
    }
    (void)play_in_a_scene(table_row(0), WORKS, SR_BACKEND_FALLBACK, NULL);
}

static void compare(const struct row *row, enum column column, const struct outcome *on_uring,
                    const struct outcome *on_fallback) {
    const struct cell *cell = &row->cells[column];
    if (on_uring->is_skipped || cell->differs != NULL || cell->several != NULL) {
        return;
    }
    const bool same = on_uring->result == on_fallback->result &&
                      on_uring->flags == on_fallback->flags &&
                      on_uring->bytes_done == on_fallback->bytes_done;
    cr_assert(same, "%s, %s: the backends differ: %lld %x %llu, %lld %x %llu", row->name,
              table_column_name(column), (long long)on_uring->result, on_uring->flags,
              (unsigned long long)on_uring->bytes_done, (long long)on_fallback->result,
              on_fallback->flags, (unsigned long long)on_fallback->bytes_done);
}

static void run_row(const struct row *row, enum column column, bool has_uring, struct slowfs *fs) {
    struct outcome on_uring = {.is_skipped = true};
    const struct cell *cell = &row->cells[column];
    if (cell->never != NULL || (fs == NULL && cell->needs_slow_files)) {
        fprintf(stderr, "%s, %s: %s\n", row->name, table_column_name(column),
                cell->never != NULL ? cell->never : "skipped, there is no slow file system");
        return;
    }
    if (has_uring) {
        on_uring = run_cell(row, column, SR_BACKEND_URING, fs);
    }
    const struct outcome on_fallback = run_cell(row, column, SR_BACKEND_FALLBACK, fs);
    compare(row, column, &on_uring, &on_fallback);
}

static void run_column(enum column column) {
    struct slowfs *fs = NULL;
    const char *no_fs = slowfs_start(&fs, 0);
    const char *no_uring = why_no_uring();
    if (no_uring != NULL) {
        fprintf(stderr, "only on the fallback: %s\n", no_uring);
    }
    (void)atexit(say_where);
    warm_up(no_uring == NULL);
    const struct row *row = NULL;
    for (size_t i = 0; (row = table_row(i)) != NULL; i++) {
        run_row(row, column, no_uring == NULL, fs);
    }
    play.row = NULL;
    slowfs_stop(&fs);
    if (no_fs != NULL) {
        cr_skip_test("all but the cells that need a slow file system: %s", no_fs);
    }
}

Test(outcomes, every_operation_works_as_the_table_says) {
    run_column(WORKS);
}

Test(outcomes, every_operation_fails_as_the_table_says) {
    run_column(FAILS);
}

Test(outcomes, every_operation_is_short_as_the_table_says) {
    run_column(SHORT);
}

Test(outcomes, every_operation_is_cancelled_as_the_table_says) {
    run_column(CANCELLED);
}

Test(outcomes, every_deadline_ends_as_the_table_says) {
    run_column(DEADLINE);
}
