/* SPDX-License-Identifier: MIT */
/*
 * Completions that nobody asked for: unknown, stale, duplicated, forged; by IORING_OP_MSG_RING from
 * another ring and by NOPs that were put into the queue past the library (raw.h). Each is counted
 * and dropped, none reaches an operation. And what a failed run left behind is never taken for the
 * next run's.
 */
#include "support/case.h"
#include "support/failing.h"
#include "support/raw.h"
#include "support/rig.h"
#include "support/scale.h"
#include "support/skip.h"
#include "support/slowfs.h"

#include "core/handle.h"
#include "ring/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LENGTH 4096u
#define MORE   IORING_CQE_F_MORE

static struct {
    struct rig rig;
    struct raw_sender sender;
    struct slowfs *fs;  /* of set_up_slow() */
    int pipe_write_end; /* of set_up() */
    sr_file file;       /* reads of it do not end before open_gate() */
    /* What the trace hook was told. */
    uint64_t dropped_count;
    uint64_t dropped_user_data;
    int64_t dropped_value;
} self;

TestSuite(completions, .timeout = 120);

static void on_trace(int event, sr_op op, uint64_t tag, int64_t value, void *ctx) {
    (void)tag;
    cr_assert_eq(ctx, &self);
    if (event == SR_TRACE_DROPPED) {
        self.dropped_count++;
        self.dropped_user_data = op.bits;
        self.dropped_value = value;
    }
}

static void open_ring(void) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.on_trace = on_trace;
    options.trace_ctx = &self;
    SKIP_BECAUSE(raw_sender_open(&self.sender));
    failing_install();
    rig_open(&self.rig, &options, NULL);
}

static void close_ring(void) {
    rig_close(&self.rig);
    raw_sender_close(&self.sender);
    cr_assert_null(failing_leak(), "%s", failing_leak());
    failing_remove();
}

/* An empty pipe holds a read, but lets go of it when it is cancelled. */
static void set_up(void) {
    int ends[2];
    open_ring();
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    self.file = rig_adopt(&self.rig, ends[0], 0);
    self.pipe_write_end = ends[1];
}

static void tear_down(void) {
    cr_assert_eq(close(self.pipe_write_end), 0);
    close_ring();
}

/* A server that does not answer holds it whatever happens. */
static void set_up_slow(void) {
    SKIP_BECAUSE(slowfs_start(&self.fs, 0));
    open_ring();
    self.file = rig_adopt(&self.rig, slowfs_open(self.fs, 0, O_RDONLY), 0);
}

static void tear_down_slow(void) {
    close_ring();
    slowfs_stop(&self.fs);
}

static uint64_t unknown(void) {
    return rig_stats(&self.rig).completions_unknown_total;
}

static uint64_t stale(void) {
    return rig_stats(&self.rig).completions_stale_total;
}

/* Lets the ring look; nothing may come out. */
static void look(void) {
    const sr_completion *completions = NULL;
    const int count = sr_ring_wait(self.rig.ring, 0, 0, NULL, &completions);
    cr_assert_eq(count, 0, "a completion came out: %d", count);
}

static void post(uint64_t user_data, int32_t result, uint32_t cqe_flags) {
    cr_assert_eq(raw_send(&self.sender, self.rig.ring, user_data, result, cqe_flags), 0);
}

/* A read that is in flight until open_gate(). */
static sr_op submit_gated(sr_buffer buffer, uint64_t tag) {
    const uint64_t offset = self.fs != NULL ? 0 : SR_OFFSET_CURRENT;
    sr_request request = rig_transfer(SR_OP_READ, self.file, buffer, LENGTH, offset);
    request.tag = tag;
    if (self.fs != NULL) {
        self.fs->files[0].gate_closed = 1;
    }
    const sr_op op = rig_submit(&self.rig, &request);
    cr_assert_geq(sr_ring_flush(self.rig.ring), 0);
    return op;
}

static void open_gate(void) {
    static const unsigned char bytes[LENGTH];
    if (self.fs != NULL) {
        self.fs->files[0].gate_closed = 0;
    } else {
        cr_assert_eq(write(self.pipe_write_end, bytes, LENGTH), LENGTH);
    }
}

static void expect_gated(sr_op op, uint64_t tag) {
    sr_completion completion;
    cr_assert_eq(rig_wait(&self.rig, &completion), 1);
    cr_assert_eq(completion.op.bits, op.bits);
    cr_assert_eq(completion.tag, tag);
    cr_assert_eq(completion.result, LENGTH);
}

CASE(completions, a_message_that_names_no_operation_is_counted_and_dropped, set_up, tear_down) {
    static const uint64_t strangers[] = {
        0,
        1,
        42,
        UINT64_MAX,
        (uint64_t)SRI_KIND_BUFFER << SRI_HANDLE_KIND_SHIFT,
        (uint64_t)SRI_KIND_FILE << SRI_HANDLE_KIND_SHIFT,
        (uint64_t)SRI_KIND_FREE << SRI_HANDLE_KIND_SHIFT,
        ((uint64_t)SRI_KIND_INTERNAL << SRI_HANDLE_KIND_SHIFT) | 77,
        /* An operation of an owner that does not exist. */
        ((uint64_t)SRI_KIND_OP << SRI_HANDLE_KIND_SHIFT) |
            ((uint64_t)SRI_HANDLE_OWNER_MAX << SRI_HANDLE_OWNER_SHIFT) | 1,
    };
    const size_t count = sizeof strangers / sizeof strangers[0];
    for (size_t i = 0; i < count; i++) {
        post(strangers[i], (int32_t)(100 + i), 0);
        look();
        cr_assert_eq(unknown(), i + 1);
        cr_assert_eq(self.dropped_count, i + 1, "the trace hook is told");
        cr_assert_eq(self.dropped_user_data, strangers[i]);
        cr_assert_eq(self.dropped_value, (int64_t)(100 + i));
    }
    cr_assert_eq(stale(), 0);
}

CASE(completions, a_nop_that_nobody_submitted_is_counted_and_dropped, set_up, tear_down) {
    raw_nop(self.rig.ring, 4711, 0);
    look();
    cr_assert_eq(unknown(), 1);
    cr_assert_eq(self.dropped_user_data, 4711);
}

CASE(completions, a_nop_with_a_result_of_choice_is_dropped_too, set_up, tear_down) {
    SKIP_BECAUSE(raw_nop_can_inject(&self.sender));
    raw_nop(self.rig.ring, 4711, -EIO);
    look();
    cr_assert_eq(self.dropped_value, -EIO);
    /* As an operation that has ended it would look like a success. */
    const sr_request request = SR_REQUEST_INIT;
    const sr_completion completion = rig_run(&self.rig, &request);
    raw_nop(self.rig.ring, completion.op.bits, 4096);
    look();
    cr_assert_eq(stale(), 1);
    cr_assert_eq(self.dropped_value, 4096);
}

CASE(completions, an_unasked_completion_does_not_end_a_wait, set_up, tear_down) {
    const sr_completion *completions = NULL;
    const sr_op op = submit_gated(rig_buffer(&self.rig), 5);
    post(4711, 0, 0);
    cr_assert_eq(sr_ring_wait(self.rig.ring, 1, 100 * RIG_MS, NULL, &completions), SR_E_TIMEOUT);
    cr_assert_eq(unknown(), 1);
    open_gate();
    expect_gated(op, 5);
}

CASE(completions, a_second_completion_of_an_ended_operation_is_stale, set_up, tear_down) {
    const sr_request request = SR_REQUEST_INIT;
    for (uint64_t i = 0; i < 100; i++) {
        const sr_completion completion = rig_run(&self.rig, &request);
        post(completion.op.bits, 0, 0);
        look();
        cr_assert_eq(stale(), i + 1);
        /* Its slot has a new operation by now: that one is not hit. */
    }
    cr_assert_eq(unknown(), 0);
}

CASE(completions, a_duplicate_in_the_same_batch_reaches_nobody, set_up, tear_down) {
    sr_completion completion;
    sr_buffer buffer = rig_buffer(&self.rig);
    const sr_op op = submit_gated(buffer, 9);
    const struct timespec pause = {0, 1000000};
    open_gate();
    /* The true completion shall be in the queue first. Linux 6.1 needs more than one look. */
    for (int i = 0; i < 5000 && sri_queue_ready(&self.rig.ring->queue) == 0; i++) {
        (void)nanosleep(&pause, NULL);
        raw_post(self.rig.ring);
    }
    post(op.bits, 17, 0);
    post(op.bits, 18, 0);
    cr_assert_eq(rig_wait(&self.rig, &completion), 1);
    cr_assert_eq(completion.result, LENGTH);
    look();
    cr_assert_eq(stale(), 2);
    cr_assert_eq(sr_pool_release(self.rig.pool, buffer), 0);
}

CASE(completions, a_completion_that_promises_more_does_not_end_an_operation, set_up, tear_down) {
    void *data = NULL;
    const sr_buffer buffer = rig_buffer(&self.rig);
    const sr_op op = submit_gated(buffer, 3);
    const int code = raw_send(&self.sender, self.rig.ring, op.bits, 1, MORE);
    if (code == -EINVAL) {
        cr_skip_test("the kernel's MSG_RING carries no CQE flags (before 6.3)");
    }
    cr_assert_eq(code, 0);
    look();
    cr_assert_eq(stale(), 1);
    cr_assert_eq(sr_buffer_data(self.rig.pool, buffer, 0, 1, SR_ACCESS_READ, &data), SR_E_LENT);
    open_gate();
    expect_gated(op, 3);
}

CASE(completions, no_forged_neighbour_of_a_handle_hits_the_operation, set_up, tear_down) {
    const sr_buffer buffer = rig_buffer(&self.rig);
    const sr_op op = submit_gated(buffer, 8);
    for (uint32_t bit = 0; bit < 64; bit++) {
        post(op.bits ^ (UINT64_C(1) << bit), LENGTH, 0);
    }
    for (int i = 0; i < 64; i++) {
        look(); /* one look has the kernel post 20 messages or so */
    }
    cr_assert_eq(unknown() + stale(), 64, "%u unknown, %u stale", (unsigned int)unknown(),
                 (unsigned int)stale());
    cr_assert_eq(rig_stats(&self.rig).ops_in_flight, 1);
    open_gate();
    expect_gated(op, 8);
}

CASE(completions, an_operation_of_another_ring_is_unknown_here, set_up, tear_down) {
    sr_ring *other = NULL;
    sr_op op = SR_OP_NONE;
    const sr_completion *completions = NULL;
    sr_request request = SR_REQUEST_INIT;
    cr_assert_eq(sr_ring_create(NULL, &other), 0);
    request.tag = 6;
    cr_assert_eq(sr_ring_submit(other, &request, &op), 0);
    post(op.bits, 0, 0);
    look();
    cr_assert_eq(unknown(), 1);
    cr_assert_eq(stale(), 0);
    cr_assert_eq(sr_ring_wait(other, 1, RIG_SECOND, NULL, &completions), 1);
    cr_assert_eq(completions[0].tag, 6);
    cr_assert_eq(sr_ring_destroy(&other), 0);
}

CASE(completions, an_operation_that_the_kernel_does_not_have_cannot_complete, set_up, tear_down) {
    /* A close that waits for the file's read is not in the kernel. */
    const sr_op read = submit_gated(rig_buffer(&self.rig), 1);
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_CLOSE;
    request.file = self.file;
    request.tag = 2;
    const sr_op close_op = rig_submit(&self.rig, &request);
    post(close_op.bits, 0, 0);
    look();
    cr_assert_eq(stale(), 1);
    cr_assert_eq(rig_stats(&self.rig).files_open, 1);
    open_gate();
    expect_gated(read, 1);
    sr_completion completion;
    cr_assert_eq(rig_wait(&self.rig, &completion), 1);
    cr_assert_eq(completion.op.bits, close_op.bits);
    cr_assert_eq(completion.result, 0);
}

CASE(completions, forged_internal_messages_do_no_harm, set_up, tear_down) {
    const sr_op op = submit_gated(rig_buffer(&self.rig), 4);
    post(sri_internal_user_data(SRI_INTERNAL_CANCEL), 0, 0);
    look();
    post(sri_internal_user_data(SRI_INTERNAL_WAKE), 8, 0); /* no wake-up is armed: no inbox */
    look();
    cr_assert_eq(unknown(), 1);
    cr_assert_eq(rig_stats(&self.rig).inbox_wakeups_total, 0);
    open_gate();
    expect_gated(op, 4);
}

CASE(completions, a_flood_of_strangers_loses_and_doubles_nothing, set_up, tear_down) {
    enum { ROUNDS_MAX = 4000, BATCH = 16 };
    static uint8_t seen[ROUNDS_MAX * BATCH];
    struct scale_random random = scale_random(3);
    const uint64_t rounds = scale_count(ROUNDS_MAX, 100);
    const uint64_t limit = rounds < ROUNDS_MAX ? rounds : ROUNDS_MAX;
    uint64_t strangers = 0;
    uint64_t next_tag = 0;
    uint64_t done = 0;
    sr_op last = SR_OP_NONE;
    for (uint64_t round = 0; round < limit; round++) {
        for (uint64_t i = 0; i < BATCH; i++) {
            sr_request request = SR_REQUEST_INIT;
            request.tag = next_tag++;
            const bool forge = scale_random_below(&random, 4) == 0;
            if (forge) {
                /* Older and random handles; never one that is in flight now. */
                const uint64_t bits =
                    scale_random_below(&random, 2) == 0 ? last.bits : scale_random_next(&random);
                raw_nop(self.rig.ring, bits, 0);
                strangers++;
            }
            (void)rig_submit(&self.rig, &request);
        }
        for (uint64_t got = 0; got < BATCH;) {
            const sr_completion *completions = NULL;
            const int count = sr_ring_wait(self.rig.ring, 1, 5 * RIG_SECOND, NULL, &completions);
            cr_assert_gt(count, 0, "sr_ring_wait: %d", count);
            for (int i = 0; i < count; i++) {
                cr_assert_eq(completions[i].result, 0);
                cr_assert_lt(completions[i].tag, next_tag);
                cr_assert_eq(seen[completions[i].tag], 0, "a completion came twice");
                seen[completions[i].tag] = 1;
                last = completions[i].op;
                done++;
            }
            got += (uint64_t)count;
        }
    }
    look();
    cr_assert_eq(done, next_tag);
    cr_assert_eq(unknown() + stale(), strangers);
    cr_assert_gt(strangers, 0);
}

/*
 * A run that fails leaves reads in flight. The next one on the same ring, with the same tags and
 * the same small pool, gets its own completions and its own bytes, whenever the late ones come.
 */
#define RUN 4u

static void fail_run(sr_op *out_ops) {
    self.fs->files[0].gate_closed = 1;
    for (uint64_t tag = 0; tag < RUN; tag++) {
        sr_buffer buffer = rig_buffer(&self.rig);
        out_ops[tag] = submit_gated(buffer, tag);
    }
    cr_assert(slowfs_wait(self.fs, 0, RUN, 5000));
    for (uint64_t tag = 0; tag < RUN; tag++) {
        sr_completion outcome;
        cr_assert_eq(sr_op_abandon(self.rig.ring, out_ops[tag], &outcome), 0);
        cr_assert_eq(outcome.tag, tag);
        cr_assert_eq(outcome.result, SR_E_TIMEOUT);
    }
}

static void good_run(sr_file file, const sr_op *late_ops, bool open_in_between) {
    sr_op ops[RUN];
    unsigned int seen = 0;
    for (uint64_t tag = 0; tag < RUN; tag++) {
        sr_request request =
            rig_transfer(SR_OP_READ, file, rig_buffer(&self.rig), LENGTH, tag * LENGTH);
        request.tag = tag;
        ops[tag] = rig_submit(&self.rig, &request);
        for (uint64_t i = 0; i < RUN; i++) {
            cr_assert_neq(ops[tag].bits, late_ops[i].bits);
        }
    }
    if (open_in_between) {
        struct timespec pause = {0, 30000000};
        open_gate();
        (void)nanosleep(&pause, NULL); /* the late completions are there before the new ones */
    }
    while (seen != (1u << RUN) - 1) {
        const sr_completion *completions = NULL;
        const int count = sr_ring_wait(self.rig.ring, 1, 5 * RIG_SECOND, NULL, &completions);
        cr_assert_gt(count, 0);
        for (int i = 0; i < count; i++) {
            const sr_completion *completion = &completions[i];
            const uint64_t tag = completion->tag;
            cr_assert_lt(tag, RUN);
            cr_assert_eq(completion->op.bits, ops[tag].bits);
            cr_assert_eq(completion->result, LENGTH);
            cr_assert_eq(seen & (1u << tag), 0);
            seen |= 1u << tag;
            const unsigned char *data = rig_data(&self.rig, completion->buffer, LENGTH);
            for (uint32_t at = 0; at < LENGTH; at++) {
                cr_assert(data[at] == slowfs_byte(1, tag * LENGTH + at),
                          "byte %u of read %u is not of this run", at, (unsigned int)tag);
            }
            cr_assert_eq(sr_pool_release(self.rig.pool, completion->buffer), 0);
        }
    }
}

static void wait_for_the_late_ones(void) {
    struct timespec pause = {0, 1000000};
    open_gate();
    for (int i = 0; i < 5000 && rig_stats(&self.rig).ops_in_flight > 0; i++) {
        look();
        (void)nanosleep(&pause, NULL);
    }
    cr_assert_eq(rig_stats(&self.rig).ops_in_flight, 0);
    cr_assert_eq(rig_pool_stats(&self.rig).quarantined_count, 0);
    cr_assert_eq(rig_pool_stats(&self.rig).held_count, 0);
}

CASE(completions, a_late_completion_of_a_failed_run_is_not_taken_by_the_next_one, set_up_slow,
     tear_down_slow) {
    sr_op late[RUN];
    const sr_file file = rig_adopt(&self.rig, slowfs_open(self.fs, 1, O_RDONLY), SR_FILE_FIXED);
    const uint64_t rounds = scale_count(30, 4);
    for (uint64_t round = 0; round < rounds; round++) {
        fail_run(late);
        good_run(file, late, round % 2 == 1);
        wait_for_the_late_ones();
    }
    cr_assert_eq(stale(), 0, "late completions are known: their operations were abandoned");
    cr_assert_eq(rig_stats(&self.rig).abandoned_total, rounds * RUN);
}
