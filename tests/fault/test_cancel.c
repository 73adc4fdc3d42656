/* SPDX-License-Identifier: MIT */
/*
 * Cancel, deadline and abandon against completion, at every point of an operation's way. The
 * operation is held in the kernel by a page that does not exist yet (hold.h) or by a FUSE server
 * that does not answer yet (slowfs.h), so each point is reached for certain and not by luck.
 */
#include "support/case.h"
#include "support/failing.h"
#include "support/hold.h"
#include "support/rig.h"
#include "support/scale.h"
#include "support/skip.h"
#include "support/slowfs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LENGTH 4096u

static struct {
    struct rig rig;
    struct hold hold;
    struct slowfs *fs;
    sr_file file; /* on disk, or the slow one */
    sr_buffer buffer;
} self;

TestSuite(cancel, .timeout = 120);

/* ---- held by a missing page
 * ----------------------------------------------------------------------- */

static void set_up_hold(void) {
    failing_install();
    failing_refuse_registration(); /* a registered page cannot be missing */
    rig_open_region(&self.rig, NULL, NULL);
    self.file = rig_adopt(&self.rig, rig_temporary_file(LENGTH), 0);
    self.buffer = rig_buffer(&self.rig);
    self.hold.fd = -1;
}

static void tear_down_hold(void) {
    hold_release(&self.hold);
    rig_close(&self.rig);
    cr_assert_null(failing_leak(), "%s", failing_leak());
    failing_remove();
}

static void hold_pages(void) {
    hold_release(&self.hold);
    SKIP_BECAUSE(
        hold_begin(&self.hold, sr_region_base(self.rig.region), sr_region_size(self.rig.region)));
}

static sr_op submit_held_read(void) {
    sr_request request = rig_transfer(SR_OP_READ, self.file, self.buffer, LENGTH, 0);
    request.flags = SR_REQUEST_ASYNC;
    return rig_submit(&self.rig, &request);
}

static void flush(void) {
    cr_assert_geq(sr_ring_flush(self.rig.ring), 0);
}

static bool is_lent(void) {
    void *data = NULL;
    const int read = sr_buffer_data(self.rig.pool, self.buffer, 0, LENGTH, SR_ACCESS_READ, &data);
    cr_assert(read == 0 || read == SR_E_LENT, "sr_buffer_data: %d", read);
    if (read == SR_E_LENT) {
        cr_assert_null(data);
        cr_assert_eq(sr_pool_release(self.rig.pool, self.buffer), SR_E_IN_FLIGHT);
    }
    return read == SR_E_LENT;
}

/* The operation is over for the kernel; whether its CQE has been seen is another matter. */
static void let_it_end(void) {
    struct timespec pause = {0, 20000000};
    hold_release(&self.hold);
    (void)nanosleep(&pause, NULL);
}

/* One outcome and no second one; the buffer is back with it, and not before. */
static sr_completion take_the_one_outcome(sr_op op) {
    sr_completion completion;
    const sr_completion *more = NULL;
    cr_assert(is_lent());
    cr_assert_eq(rig_wait(&self.rig, &completion), 1);
    cr_assert_eq(completion.op.bits, op.bits);
    cr_assert_eq(completion.buffer.bits, self.buffer.bits);
    cr_assert_not(is_lent());
    cr_assert_eq(sr_ring_wait(self.rig.ring, 1, 0, NULL, &more), SR_E_IDLE);
    cr_assert_eq(rig_stats(&self.rig).completions_stale_total, 0);
    cr_assert_eq(rig_stats(&self.rig).completions_unknown_total, 0);
    return completion;
}

static void check_outcome(const sr_completion *completion) {
    if (completion->result == LENGTH) {
        const unsigned char *data = rig_data(&self.rig, self.buffer, LENGTH);
        for (uint32_t i = 0; i < LENGTH; i++) {
            cr_assert(data[i] == i % 251, "byte %u is wrong", i);
        }
        return;
    }
    /* What a broken page fault gives is the kernel's business; a lie is not. */
    cr_assert_lt(completion->result, 0, "neither all nor an error: %lld",
                 (long long)completion->result);
}

/* How far the operation has come when it is cancelled. */
enum point { QUEUED, SENT, HELD, CANCEL_REAPED, ENDED, POINTS };

static void cancel_at(enum point point) {
    hold_pages();
    const sr_op op = submit_held_read();
    if (point >= SENT) {
        flush();
    }
    if (point >= HELD) {
        cr_assert(hold_wait(&self.hold, 5000, NULL), "the operation does not touch the page");
    }
    if (point == ENDED) {
        let_it_end();
    }
    cr_assert_eq(sr_op_cancel(self.rig.ring, op), 0);
    cr_assert_eq(sr_op_cancel(self.rig.ring, op), 0, "asking twice is allowed");
    cr_assert(is_lent(), "a cancel is a request: the kernel may still write");
    if (point == CANCEL_REAPED) {
        const sr_completion *completions = NULL;
        cr_assert_eq(sr_ring_wait(self.rig.ring, 1, 20 * RIG_MS, NULL, &completions), SR_E_TIMEOUT);
        cr_assert(is_lent(), "the answer to the cancel is not the end of the operation");
    }
    if (point == QUEUED) {
        flush();
        (void)hold_wait(&self.hold, 50, NULL); /* it may have been cancelled in time */
    }
    hold_release(&self.hold);
    const sr_completion completion = take_the_one_outcome(op);
    cr_assert_eq(completion.flags, SR_COMPLETION_CANCEL_ASKED);
    check_outcome(&completion);
    cr_assert_eq(sr_op_cancel(self.rig.ring, op), SR_E_STALE);
}

CASE(cancel, there_is_one_outcome_wherever_the_cancel_meets_the_operation, set_up_hold,
     tear_down_hold) {
    for (int point = QUEUED; point < POINTS; point++) {
        cancel_at((enum point)point);
    }
}

CASE(cancel, a_completed_operation_is_stale_and_its_cancel_changes_nothing, set_up_hold,
     tear_down_hold) {
    hold_pages();
    const sr_op op = submit_held_read();
    hold_release(&self.hold);
    const sr_completion completion = take_the_one_outcome(op);
    cr_assert_eq(completion.result, LENGTH);
    cr_assert_eq(completion.flags, 0);
    const uint64_t cancels = rig_stats(&self.rig).cancels_total;
    cr_assert_eq(sr_op_cancel(self.rig.ring, op), SR_E_STALE);
    cr_assert_eq(sr_op_abandon(self.rig.ring, op, NULL), SR_E_STALE);
    cr_assert_eq(rig_stats(&self.rig).cancels_total, cancels);
    /* The missing page had the canary behind the buffer as well. */
    const bool canary = rig_pool_stats(&self.rig).guard == SR_GUARD_POISON;
    const int code = sr_pool_release(self.rig.pool, self.buffer);
    cr_assert_eq(code, canary ? SR_E_OVERRUN : 0, "%s", sr_error_name(code));
    self.buffer = rig_buffer(&self.rig);
}

struct releaser {
    uint32_t delay_us;
    struct hold *hold;
};

static void *release_later(void *ctx) {
    const struct releaser *releaser = ctx;
    struct timespec pause = {0, (long)releaser->delay_us * 1000};
    (void)nanosleep(&pause, NULL);
    hold_release(releaser->hold);
    return NULL;
}

CASE(cancel, there_is_one_outcome_when_cancel_and_completion_race, set_up_hold, tear_down_hold) {
    struct scale_random random = scale_random(2);
    const uint64_t rounds = scale_count(400, 20);
    uint64_t whole = 0;
    for (uint64_t round = 0; round < rounds; round++) {
        pthread_t thread;
        hold_pages();
        struct releaser releaser = {(uint32_t)scale_random_below(&random, 300), &self.hold};
        struct timespec pause = {0, (long)scale_random_below(&random, 300) * 1000};
        const sr_op op = submit_held_read();
        flush();
        cr_assert_eq(pthread_create(&thread, NULL, release_later, &releaser), 0);
        (void)nanosleep(&pause, NULL);
        cr_assert_eq(sr_op_cancel(self.rig.ring, op), 0);
        flush();
        const sr_completion completion = take_the_one_outcome(op);
        cr_assert_eq(pthread_join(thread, NULL), 0);
        check_outcome(&completion);
        whole += completion.result == LENGTH;
    }
    fprintf(stderr, "cancel: %llu of %llu were done in spite of the cancel\n",
            (unsigned long long)whole, (unsigned long long)rounds);
}

CASE(cancel, an_abandoned_operation_has_its_outcome_wherever_it_is, set_up_hold, tear_down_hold) {
    for (int point = QUEUED; point < POINTS; point++) {
        sr_completion outcome;
        const sr_completion *completions = NULL;
        void *data = NULL;
        hold_pages();
        const sr_op op = submit_held_read();
        if (point >= SENT) {
            flush();
        }
        if (point >= HELD) {
            cr_assert(hold_wait(&self.hold, 5000, NULL));
        }
        if (point == ENDED) {
            let_it_end();
        }
        cr_assert_eq(sr_op_abandon(self.rig.ring, op, &outcome), 0);
        cr_assert_eq(outcome.op.bits, op.bits);
        cr_assert_eq(outcome.result, SR_E_TIMEOUT);
        cr_assert_eq(outcome.bytes_done, 0);
        cr_assert_eq(sr_op_abandon(self.rig.ring, op, &outcome), SR_E_STALE);
        cr_assert_eq(sr_op_cancel(self.rig.ring, op), SR_E_STALE);
        /* The buffer is gone at once, the bytes stay where they are. */
        cr_assert_eq(sr_buffer_data(self.rig.pool, self.buffer, 0, LENGTH, SR_ACCESS_READ, &data),
                     SR_E_STALE);
        cr_assert_eq(sr_pool_release(self.rig.pool, self.buffer), SR_E_STALE);
        cr_assert_eq(rig_pool_stats(&self.rig).quarantined_count, 1);
        cr_assert_eq(rig_stats(&self.rig).ops_abandoned, 1);
        cr_assert_eq(rig_stats(&self.rig).bytes_quarantined, LENGTH);
        cr_assert_eq(sr_ring_wait(self.rig.ring, 1, 10 * RIG_MS, NULL, &completions), SR_E_IDLE);

        hold_release(&self.hold);
        for (int i = 0; i < 5000 && rig_stats(&self.rig).ops_in_flight > 0; i++) {
            struct timespec pause = {0, 1000000};
            cr_assert_eq(sr_ring_wait(self.rig.ring, 0, 0, NULL, &completions), 0,
                         "an abandoned operation has had its outcome");
            (void)nanosleep(&pause, NULL);
        }
        cr_assert_eq(rig_stats(&self.rig).ops_in_flight, 0);
        cr_assert_eq(rig_stats(&self.rig).ops_abandoned, 0);
        cr_assert_eq(rig_stats(&self.rig).bytes_quarantined, 0);
        cr_assert_eq(rig_pool_stats(&self.rig).quarantined_count, 0);
        cr_assert_eq(rig_pool_stats(&self.rig).held_count, 0);
        self.buffer = rig_buffer(&self.rig);
    }
    cr_assert_eq(rig_stats(&self.rig).abandoned_total, POINTS);
}

/* ---- held by a server that does not answer
 * ---------------------------------------------------------- */

static void set_up_slow(void) {
    sr_pool_options pool_options = SR_POOL_OPTIONS_INIT;
    pool_options.buffer_count = 2;
    SKIP_BECAUSE(slowfs_start(&self.fs, 0));
    failing_install();
    rig_open_region(&self.rig, NULL, &pool_options);
    self.file = rig_adopt(&self.rig, slowfs_open(self.fs, 0, O_RDWR), SR_FILE_FIXED);
    self.buffer = rig_buffer(&self.rig);
    self.hold.fd = -1;
}

static void tear_down_slow(void) {
    rig_close(&self.rig);
    cr_assert_null(failing_leak(), "%s", failing_leak());
    failing_remove();
    slowfs_stop(&self.fs);
}

static uint64_t now_ms(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool holds_file_bytes(uint64_t offset, uint32_t length) {
    const unsigned char *data = rig_data(&self.rig, self.buffer, LENGTH);
    for (uint32_t i = 0; i < length; i++) {
        if (data[i] != slowfs_byte(0, offset + i)) {
            return false;
        }
    }
    return true;
}

CASE(cancel, a_deadline_reports_what_really_happened, set_up_slow, tear_down_slow) {
    sr_completion completion;
    self.fs->files[0].delay_ms = 300;
    sr_request request = rig_transfer(SR_OP_READ, self.file, self.buffer, LENGTH, 0);
    request.deadline_ns = 50 * RIG_MS;
    const uint64_t start_ms = now_ms();
    (void)rig_submit(&self.rig, &request);
    cr_assert_eq(rig_wait(&self.rig, &completion), 1);
    cr_assert_geq(now_ms() - start_ms, 299, "the kernel still wrote then");
    cr_assert_eq(completion.result, LENGTH);
    cr_assert_eq(completion.bytes_done, LENGTH);
    cr_assert_eq(completion.flags, SR_COMPLETION_DEADLINE_HIT | SR_COMPLETION_CANCEL_ASKED);
    cr_assert(holds_file_bytes(0, LENGTH));
    cr_assert_eq(rig_stats(&self.rig).deadlines_hit_total, 1);
    cr_assert_eq(rig_stats(&self.rig).cancels_total, 1);
}

CASE(cancel, a_deadline_that_is_not_reached_leaves_no_trace, set_up_slow, tear_down_slow) {
    const sr_completion *completions = NULL;
    sr_request request = rig_transfer(SR_OP_READ, self.file, self.buffer, LENGTH, 0);
    request.deadline_ns = 500 * RIG_MS;
    const sr_completion completion = rig_run(&self.rig, &request);
    cr_assert_eq(completion.result, LENGTH);
    cr_assert_eq(completion.flags, 0);
    /* The time passes, the next operation does not notice. */
    self.fs->files[0].delay_ms = 600;
    request.deadline_ns = 0;
    cr_assert_eq(rig_run(&self.rig, &request).flags, 0);
    cr_assert_eq(rig_stats(&self.rig).deadlines_hit_total, 0);
    cr_assert_eq(sr_ring_wait(self.rig.ring, 1, 0, NULL, &completions), SR_E_IDLE);
}

CASE(cancel, deadlines_pass_in_their_order_not_in_that_of_submission, set_up_slow, tear_down_slow) {
    static const uint64_t deadlines_ms[] = {150, 50, 100};
    const sr_completion *completions = NULL;
    uint64_t order[3];
    size_t count = 0;
    const uint64_t start_ms = now_ms(); /* deadlines count from the submission, so not later */
    for (uint64_t i = 0; i < 3; i++) {
        sr_request request = SR_REQUEST_INIT;
        request.op = SR_OP_TIMEOUT;
        request.duration_ns = 10 * RIG_SECOND;
        request.deadline_ns = deadlines_ms[i] * RIG_MS;
        request.tag = i;
        (void)rig_submit(&self.rig, &request);
    }
    while (count < 3) {
        const int got = sr_ring_wait(self.rig.ring, 1, 5 * RIG_SECOND, NULL, &completions);
        cr_assert_gt(got, 0);
        for (int i = 0; i < got; i++) {
            cr_assert_eq(completions[i].result, -ECANCELED);
            cr_assert_eq(completions[i].flags,
                         SR_COMPLETION_DEADLINE_HIT | SR_COMPLETION_CANCEL_ASKED);
            cr_assert_geq(now_ms() - start_ms + 1, deadlines_ms[completions[i].tag]);
            order[count++] = completions[i].tag;
        }
    }
    cr_assert(order[0] == 1 && order[1] == 2 && order[2] == 0);
    cr_assert_lt(now_ms() - start_ms, 5000); /* not the 10 s of the timers */
}

/* Lets the ring work until @happened says so; nothing comes out meanwhile. */
static void work_until(bool (*happened)(void)) {
    for (uint32_t turns = 0; !happened(); turns++) {
        const sr_completion *completions = NULL;
        cr_assert_lt(turns, 2000);
        const int code = sr_ring_wait(self.rig.ring, 1, 10 * RIG_MS, NULL, &completions);
        cr_assert_eq(code, SR_E_TIMEOUT, "%s", sr_error_name(code));
    }
}

static bool second_part_waits(void) {
    return rig_stats(&self.rig).short_transfers_total == 1 && self.fs->files[0].waiting_count == 1;
}

static bool deadline_was_hit(void) {
    return rig_stats(&self.rig).deadlines_hit_total == 1;
}

CASE(cancel, a_deadline_stops_a_full_transfer_between_two_of_its_parts, set_up_slow,
     tear_down_slow) {
    const struct timespec pause = {0, 1000000};
    sr_completion completion;
    struct slowfs_file *slow = &self.fs->files[0];
    slow->read_max = 1000;
    slow->gate_closed = 1;
    memset(rig_data(&self.rig, self.buffer, LENGTH), 0xee, LENGTH);
    sr_request request = rig_transfer(SR_OP_READ, self.file, self.buffer, LENGTH, 10);
    request.flags = SR_REQUEST_FULL | SR_REQUEST_ASYNC; /* or some kernels wait when it is sent */
    request.deadline_ns = RIG_SECOND; /* after the first part, on a busy machine too */
    (void)rig_submit(&self.rig, &request);
    flush();
    cr_assert(slowfs_wait(self.fs, 0, 1, 5000));
    slow->gate_closed = 0;
    for (uint32_t ms = 0; ms < 5000 && slow->read_count == 0; ms++) {
        (void)nanosleep(&pause, NULL);
    }
    slow->gate_closed = 1; /* behind the first part: the ring has not looked since */
    work_until(second_part_waits);
    work_until(deadline_was_hit);
    slow->gate_closed = 0;
    cr_assert_eq(rig_wait(&self.rig, &completion), 1);
    cr_assert_eq(completion.result, -ECANCELED);
    cr_assert_eq(completion.bytes_done, 2000, "the second part was under way: %llu",
                 (unsigned long long)completion.bytes_done);
    cr_assert_eq(completion.flags, SR_COMPLETION_DEADLINE_HIT | SR_COMPLETION_CANCEL_ASKED);
    cr_assert(holds_file_bytes(10, 2000));
    cr_assert_eq(rig_data(&self.rig, self.buffer, LENGTH)[2000], 0xee);
    cr_assert_eq(slow->read_count, 2);
}

CASE(cancel, what_the_kernel_does_not_let_go_of_stays_lent_after_a_cancel, set_up_slow,
     tear_down_slow) {
    sr_completion completion;
    const sr_completion *completions = NULL;
    self.fs->files[0].gate_closed = 1;
    const sr_request request = rig_transfer(SR_OP_READ, self.file, self.buffer, LENGTH, 0);
    const sr_op op = rig_submit(&self.rig, &request);
    flush();
    cr_assert(slowfs_wait(self.fs, 0, 1, 5000));
    cr_assert_eq(sr_op_cancel(self.rig.ring, op), 0);
    /* FUSE reads are not interrupted: the kernel answers the cancel, and goes on. */
    cr_assert_eq(sr_ring_wait(self.rig.ring, 1, 100 * RIG_MS, NULL, &completions), SR_E_TIMEOUT);
    cr_assert(is_lent());
    self.fs->files[0].gate_closed = 0;
    cr_assert_eq(rig_wait(&self.rig, &completion), 1);
    cr_assert_eq(completion.result, LENGTH);
    cr_assert_eq(completion.flags, SR_COMPLETION_CANCEL_ASKED);
    cr_assert_not(is_lent());
    cr_assert(holds_file_bytes(0, LENGTH));
}

static void drain_abandoned(void) {
    for (int i = 0; i < 5000 && rig_stats(&self.rig).ops_in_flight > 0; i++) {
        struct timespec pause = {0, 1000000};
        const sr_completion *completions = NULL;
        cr_assert_eq(sr_ring_wait(self.rig.ring, 0, 0, NULL, &completions), 0);
        (void)nanosleep(&pause, NULL);
    }
    cr_assert_eq(rig_stats(&self.rig).ops_in_flight, 0);
}

CASE(cancel, an_abandoned_buffer_comes_back_to_the_pool_when_the_kernel_is_done, set_up_slow,
     tear_down_slow) {
    sr_buffer other = rig_buffer(&self.rig); /* the pool is empty now */
    sr_buffer next = SR_BUFFER_NONE;
    self.fs->files[0].gate_closed = 1;
    const sr_request request = rig_transfer(SR_OP_READ, self.file, self.buffer, LENGTH, 0);
    const sr_op op = rig_submit(&self.rig, &request);
    flush();
    cr_assert(slowfs_wait(self.fs, 0, 1, 5000));
    cr_assert_eq(sr_op_abandon(self.rig.ring, op, NULL), 0);
    flush();
    cr_assert_eq(sr_pool_acquire(self.rig.pool, 1, &next), SR_E_FULL, "its bytes are in use");
    cr_assert_eq(rig_pool_stats(&self.rig).quarantined_count, 1);
    cr_assert_eq(sr_pool_release(self.rig.pool, self.buffer), SR_E_STALE);

    self.fs->files[0].gate_closed = 0;
    drain_abandoned();
    cr_assert_eq(sr_pool_acquire(self.rig.pool, 1, &next), 0);
    cr_assert_neq(next.bits, self.buffer.bits);
    self.buffer = next;
    cr_assert(holds_file_bytes(0, LENGTH), "the read went on until its end");
    cr_assert_eq(sr_pool_release(self.rig.pool, other), 0);
    cr_assert_eq(sr_pool_release(self.rig.pool, next), 0);
}

CASE(cancel, a_buffer_with_two_operations_waits_for_both, set_up_slow, tear_down_slow) {
    sr_completion completion;
    sr_request request = rig_transfer(SR_OP_READ, self.file, self.buffer, 1000, 0);
    self.fs->files[0].gate_closed = 1;
    const sr_op abandoned = rig_submit(&self.rig, &request);
    flush();
    cr_assert(slowfs_wait(self.fs, 0, 1, 5000));
    self.fs->files[1].gate_closed = 1;
    const sr_file second = rig_adopt(&self.rig, slowfs_open(self.fs, 1, O_RDONLY), 0);
    request = rig_transfer(SR_OP_READ, second, self.buffer, 1000, 0);
    request.buffer_offset = 2000;
    request.tag = 7;
    (void)rig_submit(&self.rig, &request);
    flush();
    cr_assert_eq(sr_op_abandon(self.rig.ring, abandoned, NULL), 0);
    flush();

    /* The other operation ends as usual, but its buffer is gone. */
    self.fs->files[1].gate_closed = 0;
    cr_assert_eq(rig_wait(&self.rig, &completion), 1);
    cr_assert_eq(completion.tag, 7);
    cr_assert_eq(completion.result, 1000);
    cr_assert_eq(sr_pool_release(self.rig.pool, completion.buffer), SR_E_STALE);
    cr_assert_eq(rig_pool_stats(&self.rig).quarantined_count, 1);

    self.fs->files[0].gate_closed = 0;
    drain_abandoned();
    cr_assert_eq(rig_pool_stats(&self.rig).quarantined_count, 0);
    cr_assert_eq(rig_pool_stats(&self.rig).free_count, 2);
}

struct canceller {
    sr_op target;
    int code;
    int calls;
};

static void cancel_target(sr_ring *ring, const sr_completion *completion, void *ctx) {
    struct canceller *canceller = ctx;
    cr_assert_eq(completion->result, 0);
    canceller->code = sr_op_cancel(ring, canceller->target);
    canceller->calls++;
}

CASE(cancel, a_callback_may_cancel_another_operation, set_up_slow, tear_down_slow) {
    sr_completion completion;
    struct canceller canceller = {.code = 1};
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_TIMEOUT;
    request.duration_ns = 60 * RIG_SECOND;
    canceller.target = rig_submit(&self.rig, &request);
    request.duration_ns = RIG_MS;
    request.on_complete = cancel_target;
    request.ctx = &canceller;
    (void)rig_submit(&self.rig, &request);
    int count = rig_wait(&self.rig, &completion);
    if (count == 0) { /* the callback's completion ended the wait */
        count = rig_wait(&self.rig, &completion);
    }
    cr_assert_eq(count, 1);
    cr_assert_eq(canceller.calls, 1);
    cr_assert_eq(canceller.code, 0);
    cr_assert_eq(completion.op.bits, canceller.target.bits);
    cr_assert_eq(completion.result, -ECANCELED);
}

CASE(cancel, destroying_a_ring_over_a_held_operation_keeps_its_buffer, set_up_slow,
     tear_down_slow) {
    sr_quarantine_counts counts = SR_QUARANTINE_STATS_INIT;
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    sr_ring *ring = NULL;
    sr_file file = SR_FILE_NONE;
    options.drain_timeout_ns = 50 * RIG_MS;
    cr_assert_eq(sr_ring_create(&options, &ring), 0);
    cr_assert_geq(sr_ring_attach_pool(ring, self.rig.pool), 0);
    cr_assert_eq(sr_file_adopt(ring, slowfs_open(self.fs, 2, O_RDONLY), 0, &file), 0);
    self.fs->files[2].gate_closed = 1;
    const sr_request request = rig_transfer(SR_OP_READ, file, self.buffer, LENGTH, 0);
    cr_assert_eq(sr_ring_submit(ring, &request, NULL), 0);
    cr_assert_eq(sr_ring_flush(ring), 1);
    cr_assert(slowfs_wait(self.fs, 2, 1, 5000));

    const uint64_t start_ms = now_ms();
    cr_assert_eq(sr_ring_destroy(&ring), SR_E_IN_FLIGHT);
    cr_assert_null(ring);
    cr_assert_geq(now_ms() - start_ms, 49);
    cr_assert_lt(now_ms() - start_ms, 2000);
    cr_assert_eq(sr_quarantine_stats(&counts), 0);
    cr_assert_eq(counts.rings, 1);
    cr_assert_eq(counts.operations, 1);
    cr_assert_eq(counts.bytes, LENGTH);
    cr_assert_eq(sr_pool_release(self.rig.pool, self.buffer), SR_E_STALE);
    cr_assert_eq(rig_pool_stats(&self.rig).quarantined_count, 1);
    cr_assert_eq(sr_quarantine_sweep(0), 1, "the kernel has not let go");

    self.fs->files[2].gate_closed = 0;
    cr_assert_eq(sr_quarantine_sweep(5 * RIG_SECOND), 0);
    cr_assert_eq(sr_quarantine_stats(&counts), 0);
    cr_assert_eq(counts.rings, 0);
    cr_assert_eq(counts.swept_total, 1);
    cr_assert_eq(rig_pool_stats(&self.rig).quarantined_count, 0);
    cr_assert_eq(rig_pool_stats(&self.rig).free_count, 2);
}
