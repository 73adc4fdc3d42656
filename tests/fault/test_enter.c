/* SPDX-License-Identifier: MIT */
/*
 * The way to the kernel under stress: full queues, partial submits, EINTR, EAGAIN and EBUSY, and
 * every call of the seam failing in its turn, once and for ever (failing.h). A run of mixed
 * operations must lose none and double none, and afterwards blocks, mappings and descriptors are
 * what they were. Descriptors in results that nobody reads are closed and counted.
 */
#include "support/baseline.h"
#include "support/case.h"
#include "support/failing.h"
#include "support/raw.h"
#include "support/rig.h"
#include "support/scale.h"
#include "support/skip.h"
#include "support/slowfs.h"

#include "ring/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE       4096u
#define OPS        48u
#define FILE_PAGES 16u

TestSuite(enter, .timeout = 170);

/* ---- a run of mixed operations
 * ------------------------------------------------------------------------- */

enum outcome { NOT_TAKEN, FLYING, ENDED };

struct slot {
    enum outcome outcome;
    uint16_t op;
    uint64_t page; /* of the file */
};

/* Tags 0 .. OPS - 1 are the operations, OPS + i closes what operation i has opened. */
static struct run {
    struct rig rig;
    sr_file file;
    struct slot slots[2 * OPS];
    uint32_t flying;
    uint32_t refused; /* submits that did not succeed in the end */
    sr_file to_close[OPS];
    uint32_t to_close_count;
} self;

/* Longest wait for one completion: long, but short where a call fails for ever, for then most runs
 * are given up. Until it has failed for the first time a run is like any other. */
static uint64_t wait_ns = 20 * RIG_MS;
static bool fails_for_ever;
static uint64_t injected_before;

static uint64_t patience_ns(void) {
    return fails_for_ever && failing_injected() > injected_before ? 2 * RIG_MS : wait_ns;
}

/* Tries before a run is given up: more than any "once" needs, and bounded when it is for ever. */
#define TRIES 6

static unsigned char page_byte(uint64_t page, uint32_t at) {
    return (unsigned char)((page * PAGE + at) % 251);
}

static void check_read(const sr_completion *completion, uint64_t page) {
    const unsigned char *data = rig_data(&self.rig, completion->buffer, PAGE);
    for (uint32_t at = 0; at < PAGE; at++) {
        cr_assert(data[at] == page_byte(page, at), "byte %u of page %u is wrong", at,
                  (unsigned int)page);
    }
}

static void take_outcome(const sr_completion *completion) {
    cr_assert_lt(completion->tag, 2 * OPS);
    struct slot *slot = &self.slots[completion->tag];
    cr_assert_eq(slot->outcome, FLYING, "operation %u had its outcome already, or was never taken",
                 (unsigned int)completion->tag);
    cr_assert_eq(completion->opcode, slot->op);
    slot->outcome = ENDED;
    self.flying--;
    switch (slot->op) {
    case SR_OP_READ:
    case SR_OP_WRITE:
        cr_assert_eq(completion->result, PAGE, "transfer: %lld", (long long)completion->result);
        check_read(completion, slot->page);
        cr_assert_eq(sr_pool_release(self.rig.pool, completion->buffer), 0);
        break;
    case SR_OP_STATX:
        cr_assert_eq(completion->result, 0);
        cr_assert_eq(completion->statx->stx_size, FILE_PAGES * PAGE);
        break;
    case SR_OP_OPENAT:
        cr_assert_eq(completion->result, 0, "open: %lld", (long long)completion->result);
        self.to_close[self.to_close_count++] = completion->file;
        break;
    default:
        cr_assert_eq(completion->result, 0, "operation %u: %lld", slot->op,
                     (long long)completion->result);
        break;
    }
}

static void on_complete(sr_ring *ring, const sr_completion *completion, void *ctx) {
    cr_assert_eq(ring, self.rig.ring);
    cr_assert_eq(ctx, &self);
    take_outcome(completion);
}

/* Waits once, a little. Every code that stands for "not now" is fine, any other is not. */
static void collect(void) {
    const sr_completion *completions = NULL;
    const int count = sr_ring_wait(self.rig.ring, 1, patience_ns(), NULL, &completions);
    cr_assert(count >= 0 || count == SR_E_TIMEOUT || count == SR_E_IDLE || count == -EAGAIN ||
                  count == -EBUSY || count == -ENOMEM,
              "sr_ring_wait: %d", count);
    for (int i = 0; i < count; i++) {
        take_outcome(&completions[i]);
    }
}

static bool submit(const sr_request *request) {
    for (int i = 0; i < TRIES; i++) {
        const int code = sr_ring_submit(self.rig.ring, request, NULL);
        if (code == 0) {
            self.slots[request->tag].outcome = FLYING;
            self.slots[request->tag].op = request->op;
            self.flying++;
            return true;
        }
        cr_assert(code == SR_E_FULL || code == -ENOMEM, "sr_ring_submit: %d", code);
        /* Not taken means not taken: the kernel must not have it. */
        collect();
    }
    self.refused++;
    return false;
}

static void submit_transfer(uint16_t op, uint64_t tag) {
    sr_buffer buffer = SR_BUFFER_NONE;
    for (int i = 0; sr_pool_acquire(self.rig.pool, PAGE, &buffer) != 0; i++) {
        if (i == TRIES) {
            self.refused++;
            return;
        }
        collect();
    }
    const uint64_t page = tag % FILE_PAGES;
    unsigned char *data = rig_data(&self.rig, buffer, PAGE);
    for (uint32_t at = 0; at < PAGE; at++) {
        data[at] = op == SR_OP_WRITE ? page_byte(page, at) : 0;
    }
    sr_request request = rig_transfer(op, self.file, buffer, PAGE, page * PAGE);
    request.tag = tag;
    request.flags = tag % 3 == 0 ? SR_REQUEST_FULL : 0;
    self.slots[tag].page = page;
    if (!submit(&request)) {
        cr_assert_eq(sr_pool_release(self.rig.pool, buffer), 0, "refused, but lent all the same");
    }
}

static void submit_other(uint16_t op, uint64_t tag) {
    sr_request request = SR_REQUEST_INIT;
    request.op = op;
    request.tag = tag;
    if (op == SR_OP_STATX) {
        request.file = self.file;
        request.path = "";
        request.op_flags = AT_EMPTY_PATH;
        request.mask = STATX_SIZE;
    } else if (op == SR_OP_OPENAT) {
        request.path = "/dev/null";
        request.op_flags = O_RDONLY;
    } else if (op == SR_OP_TIMEOUT) {
        request.duration_ns = RIG_MS;
    } else if (tag % 2 == 0) {
        request.on_complete = on_complete;
        request.ctx = &self;
    }
    (void)submit(&request);
}

static void close_what_was_opened(void) {
    while (self.to_close_count > 0) {
        /* Out of the list first: submit() may collect further opens. */
        const sr_file file = self.to_close[--self.to_close_count];
        sr_request request = SR_REQUEST_INIT;
        request.op = SR_OP_CLOSE;
        request.file = file;
        for (uint64_t tag = OPS; tag < 2 * OPS; tag++) {
            request.tag = self.slots[tag].outcome == NOT_TAKEN ? tag : request.tag;
        }
        if (!submit(&request)) {
            self.to_close[self.to_close_count++] = file;
            return;
        }
    }
}

/* True when every operation has had its outcome; false when it was given up. */
static bool run_operations(void) {
    static const uint16_t kinds[] = {SR_OP_READ,  SR_OP_NOP,  SR_OP_WRITE, SR_OP_OPENAT,
                                     SR_OP_STATX, SR_OP_READ, SR_OP_NOP,   SR_OP_TIMEOUT};
    for (uint64_t tag = 0; tag < OPS; tag++) {
        const uint16_t op = kinds[tag % (sizeof kinds / sizeof kinds[0])];
        if (op == SR_OP_READ || op == SR_OP_WRITE) {
            submit_transfer(op, tag);
        } else {
            submit_other(op, tag);
        }
    }
    for (int fruitless = 0; self.flying + self.to_close_count > 0;) {
        const uint32_t before = self.flying;
        close_what_was_opened();
        if (self.flying > 0) {
            collect();
        }
        fruitless = self.flying < before ? 0 : fruitless + 1;
        if (fruitless > 3 * TRIES) {
            return false;
        }
    }
    return self.refused == 0;
}

static sr_ring_options small_ring(void) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.entries = 8;
    options.ops_max = 2 * OPS;
    options.files_max = 2 * OPS;
    options.completions_max = 5;
    options.inbox_entries = 4;
    options.drain_timeout_ns = 30 * RIG_MS;
    return options;
}

/* What must work before the run; false if it was made to fail. */
static bool open_rig(void) {
    const sr_ring_options options = small_ring();
    sr_pool_options pool_options = SR_POOL_OPTIONS_INIT;
    pool_options.buffer_count = 8;
    if (sr_pool_create(NULL, &pool_options, &self.rig.pool) != 0) {
        cr_assert_null(self.rig.pool);
        return false;
    }
    if (sr_ring_create(&options, &self.rig.ring) != 0) {
        cr_assert_null(self.rig.ring);
        return false;
    }
    return sr_ring_attach_pool(self.rig.ring, self.rig.pool) >= 0;
}

static bool adopt_file(int fd) {
    int code = sr_file_adopt(self.rig.ring, fd, SR_FILE_FIXED, &self.file);
    if (code < 0) {
        cr_assert_eq(self.file.bits, 0);
        cr_assert_geq(fcntl(fd, F_GETFD), 0, "after a failure it stays the caller's");
        code = sr_file_adopt(self.rig.ring, fd, 0, &self.file);
    }
    if (code < 0) {
        cr_assert_eq(close(fd), 0);
    }
    return code == 0;
}

/* The end works always: at once, or when the kernel lets go. */
static void close_rig(void) {
    const int code = sr_ring_destroy(&self.rig.ring);
    cr_assert(code == 0 || code == SR_E_IN_FLIGHT, "sr_ring_destroy: %d", code);
    cr_assert_null(self.rig.ring);
    failing_relent();
    cr_assert_eq(sr_quarantine_sweep(5 * RIG_SECOND), 0);
    cr_assert_eq(sr_pool_destroy(&self.rig.pool), 0);
    cr_assert_null(failing_leak(), "%s", failing_leak());
}

/* One life of a ring. True if every operation was done. */
static bool live(void) {
    bool done = false;
    memset(&self, 0, sizeof self);
    const int fd = rig_temporary_file(FILE_PAGES * PAGE);
    if (!open_rig()) {
        cr_assert_eq(close(fd), 0);
    } else if (adopt_file(fd)) {
        done = run_operations();
        for (uint64_t tag = 0; tag < 2 * OPS && done; tag++) {
            cr_assert_neq(self.slots[tag].outcome, FLYING);
            cr_assert(tag >= OPS || self.slots[tag].outcome == ENDED, "operation %u is lost",
                      (unsigned int)tag);
        }
    }
    close_rig();
    return done;
}

static struct baseline before;

static void set_up(void) {
    failing_install();
    /* Twice: what the first one maps for good is not a leak. */
    cr_assert(live());
    cr_assert(live());
    baseline_take(&before);
}

static void check_baseline(void) {
    const char *difference = baseline_difference(&before);
    cr_assert_null(difference, "%s", difference);
}

static void tear_down(void) {
    check_baseline();
    failing_remove();
}

/* ---- queues
 * --------------------------------------------------------------------------------------------- */

CASE(enter, a_full_queue_is_flushed_and_nothing_is_lost, set_up, tear_down) {
    sr_ring_options options = small_ring();
    sr_ring *ring = NULL;
    uint64_t seen = 0;
    options.entries = 4;
    options.ops_max = 64;
    cr_assert_eq(sr_ring_create(&options, &ring), 0);
    self.rig.ring = ring;
    for (uint64_t tag = 0; tag < 64; tag++) {
        sr_request request = SR_REQUEST_INIT;
        request.tag = tag;
        cr_assert_eq(sr_ring_submit(ring, &request, NULL), 0);
    }
    const sr_request one_more = SR_REQUEST_INIT;
    sr_op op = {1};
    cr_assert_eq(sr_ring_submit(ring, &one_more, &op), SR_E_FULL, "ops_max are in flight");
    cr_assert_eq(op.bits, 0);
    cr_assert_geq(rig_stats(&self.rig).sq_full_total, 15);
    while (seen != UINT64_MAX) {
        const sr_completion *completions = NULL;
        const int count = sr_ring_wait(ring, 1, RIG_SECOND, NULL, &completions);
        cr_assert_gt(count, 0, "sr_ring_wait: %d", count);
        cr_assert_leq(count, (int)options.completions_max);
        for (int i = 0; i < count; i++) {
            cr_assert_eq(seen & (UINT64_C(1) << completions[i].tag), 0);
            seen |= UINT64_C(1) << completions[i].tag;
        }
    }
    cr_assert_eq(rig_stats(&self.rig).submitted_total, 64);
    cr_assert_eq(rig_stats(&self.rig).completed_total, 64);
    cr_assert_eq(sr_ring_destroy(&ring), 0);
}

CASE(enter, a_completion_queue_that_overflows_loses_nothing, set_up, tear_down) {
    enum { STRANGERS = 1000 };
    sr_ring_options options = small_ring();
    sr_ring *ring = NULL;
    uint64_t seen = 0;
    options.ops_max = 32;
    options.entries = 64;
    cr_assert_eq(sr_ring_create(&options, &ring), 0);
    self.rig.ring = ring;
    cr_assert_lt(rig_stats(&self.rig).cq_entries, STRANGERS);
    for (uint64_t tag = 0; tag < 32; tag++) {
        sr_request request = SR_REQUEST_INIT;
        request.tag = tag;
        cr_assert_eq(sr_ring_submit(ring, &request, NULL), 0);
        for (int i = 0; i < STRANGERS / 32; i++) {
            if (sri_queue_is_full(&ring->queue)) {
                cr_assert_gt(sr_ring_flush(ring), 0);
            }
            raw_nop(ring, 4711, 0);
        }
    }
    for (int i = 0; i < 2000 && seen != UINT32_MAX; i++) {
        const sr_completion *completions = NULL;
        const int count = sr_ring_wait(ring, 1, RIG_SECOND, NULL, &completions);
        cr_assert_gt(count, 0, "sr_ring_wait: %d", count);
        for (int n = 0; n < count; n++) {
            cr_assert_eq(seen & (UINT64_C(1) << completions[n].tag), 0);
            seen |= UINT64_C(1) << completions[n].tag;
        }
    }
    const sr_completion *completions = NULL;
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(sr_ring_wait(ring, 0, 0, NULL, &completions), 0);
    }
    cr_assert_eq(seen, UINT32_MAX);
    cr_assert_eq(rig_stats(&self.rig).completions_unknown_total, STRANGERS / 32 * 32);
    cr_assert_gt(rig_stats(&self.rig).cq_overflows_total, 0, "the queue did not overflow");
    cr_assert_eq(sr_ring_destroy(&ring), 0);
}

CASE(enter, partial_submits_lose_and_double_nothing, set_up, tear_down) {
    for (uint32_t count = 1; count <= 8; count++) {
        failing_enter_partial(count);
        cr_assert(live(), "at most %u at a time", count);
        check_baseline();
    }
}

CASE(enter, a_partial_submit_is_counted, set_up, tear_down) {
    const sr_request request = SR_REQUEST_INIT;
    memset(&self, 0, sizeof self);
    cr_assert(open_rig());
    failing_enter_partial(1);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(sr_ring_submit(self.rig.ring, &request, NULL), 0);
    }
    cr_assert_eq(sr_ring_flush(self.rig.ring), 3, "a flush goes on until all is sent");
    cr_assert_eq(rig_stats(&self.rig).partial_submits_total, 2);
    close_rig();
}

/* ---- the kernel says: not now
 * ---------------------------------------------------------------------------- */

static const int codes[] = {-EINTR, -EAGAIN, -EBUSY, -ENOMEM};
#define CODES (sizeof codes / sizeof codes[0])

CASE(enter, a_refusal_of_every_nth_enter_delays_and_nothing_more, set_up, tear_down) {
    for (size_t i = 0; i < CODES; i++) {
        for (uint64_t period = 2; period <= 7; period++) {
            failing_enter_every(period, codes[i]);
            const uint64_t injected = failing_injected();
            cr_assert(live(), "%s at every enter number %u", sr_error_name(codes[i]),
                      (unsigned int)period);
            cr_assert_gt(failing_injected(), injected);
        }
    }
}

CASE(enter, one_refusal_at_any_enter_delays_and_nothing_more, set_up, tear_down) {
    for (size_t i = 0; i < CODES; i++) {
        uint64_t injected = 0;
        for (uint64_t nth = 1;; nth++) {
            injected = failing_injected();
            failing_plan(FAILING_QUEUE_ENTER, nth, codes[i], false);
            cr_assert(live(), "%s at enter %u", sr_error_name(codes[i]), (unsigned int)nth);
            if (failing_injected() == injected) {
                cr_assert_gt(nth, 5);
                break;
            }
        }
    }
}

CASE(enter, refusals_for_ever_end_in_codes_and_an_orderly_destroy, set_up, tear_down) {
    wait_ns = 2 * RIG_MS; /* a wait that is interrupted for ever is a busy one */
    for (size_t i = 0; i < CODES; i++) {
        for (uint64_t nth = 1; nth <= 16; nth += 3) {
            failing_plan(FAILING_QUEUE_ENTER, nth, codes[i], true);
            (void)live(); /* what it checks on its way is the point */
        }
    }
}

CASE(enter, a_wait_says_what_the_kernel_says, set_up, tear_down) {
    memset(&self, 0, sizeof self);
    cr_assert(open_rig());
    for (size_t i = 1; i < CODES; i++) {
        const sr_request request = SR_REQUEST_INIT;
        const sr_completion *completions = NULL;
        const uint64_t busy = rig_stats(&self.rig).busy_total;
        cr_assert_eq(sr_ring_submit(self.rig.ring, &request, NULL), 0);
        failing_plan(FAILING_QUEUE_ENTER, 1, codes[i], true);
        cr_assert_eq(sr_ring_flush(self.rig.ring), codes[i]);
        cr_assert_eq(sr_ring_wait(self.rig.ring, 1, RIG_SECOND, NULL, &completions), codes[i]);
        cr_assert_null(completions);
        cr_assert_gt(rig_stats(&self.rig).busy_total, busy);
        failing_relent();
        cr_assert_eq(sr_ring_wait(self.rig.ring, 1, RIG_SECOND, NULL, &completions), 1,
                     "the operation was lost");
        cr_assert_eq(completions[0].result, 0);
    }
    close_rig();
}

CASE(enter, an_interrupted_wait_goes_on_with_the_time_left, set_up, tear_down) {
    struct timespec start;
    struct timespec end;
    sr_request request = SR_REQUEST_INIT;
    const sr_completion *completions = NULL;
    memset(&self, 0, sizeof self);
    cr_assert(open_rig());
    request.op = SR_OP_TIMEOUT;
    request.duration_ns = 60 * RIG_SECOND;
    cr_assert_eq(sr_ring_submit(self.rig.ring, &request, NULL), 0);
    failing_enter_every(2, -EINTR);
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    cr_assert_eq(sr_ring_wait(self.rig.ring, 1, 100 * RIG_MS, NULL, &completions), SR_E_TIMEOUT);
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    const int64_t passed_ms =
        (end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000;
    cr_assert(passed_ms >= 99 && passed_ms < 1000, "%lld ms", (long long)passed_ms);
    close_rig();
}

/*
 * A read that came short goes on, but the queue is full and the kernel refuses: the rest of it
 * waits in the library. Leaves the ring so, and returns the operation.
 */
static sr_op make_a_rest_wait(struct slowfs *fs) {
    const sr_completion *completions = NULL;
    sr_ring_options options = small_ring();
    memset(&self, 0, sizeof self);
    options.entries = 1;
    options.inbox_entries = 0;
    rig_open(&self.rig, &options, NULL);
    self.file = rig_adopt(&self.rig, slowfs_open(fs, 0, O_RDONLY), 0);
    fs->files[0].read_max = 1000;
    fs->files[0].read_count = 0;
    sr_request request = rig_transfer(SR_OP_READ, self.file, rig_buffer(&self.rig), PAGE, 0);
    request.flags = SR_REQUEST_FULL;
    request.tag = 1;
    const sr_op op = rig_submit(&self.rig, &request);
    cr_assert_eq(sr_ring_flush(self.rig.ring), 1);
    for (int i = 0; i < 5000 && sri_queue_ready(&self.rig.ring->queue) == 0; i++) {
        (void)usleep(1000);
        raw_post(self.rig.ring);
    }
    cr_assert_eq(fs->files[0].read_count, 1);
    request = SR_REQUEST_INIT;
    request.tag = 2;
    (void)rig_submit(&self.rig, &request); /* fills the queue */
    failing_plan(FAILING_QUEUE_ENTER, 1, -EBUSY, true);
    cr_assert_eq(sr_ring_wait(self.rig.ring, 0, 0, NULL, &completions), 0);
    cr_assert_eq(sri_op_find(&self.rig.ring->ops, op.bits)->state, SRI_OP_WAITING,
                 "the test wants the rest to wait");
    return op;
}

static sr_completion finish_both(void) {
    sr_completion read = {.tag = 0};
    unsigned int seen = 0;
    while (seen != 6) {
        const sr_completion *completions = NULL;
        const int count = sr_ring_wait(self.rig.ring, 1, 5 * RIG_SECOND, NULL, &completions);
        cr_assert_gt(count, 0, "sr_ring_wait: %d", count);
        for (int i = 0; i < count; i++) {
            cr_assert_eq(seen & (1u << completions[i].tag), 0);
            seen |= 1u << completions[i].tag;
            read = completions[i].tag == 1 ? completions[i] : read;
        }
    }
    return read;
}

CASE(enter, the_rest_of_a_transfer_waits_for_room, set_up, tear_down) {
    struct slowfs *fs = NULL;
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    (void)make_a_rest_wait(fs);
    failing_relent();
    const sr_completion read = finish_both();
    cr_assert_eq(read.result, PAGE);
    cr_assert_eq(memcmp(rig_data(&self.rig, read.buffer, PAGE), fs->files[0].bytes, PAGE), 0);
    rig_close(&self.rig);
    slowfs_stop(&fs);
}

CASE(enter, what_waits_for_room_can_be_cancelled_there, set_up, tear_down) {
    struct slowfs *fs = NULL;
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    const sr_op op = make_a_rest_wait(fs);
    cr_assert_eq(sr_op_cancel(self.rig.ring, op), 0);
    failing_relent();
    const sr_completion read = finish_both();
    cr_assert_eq(read.result, -ECANCELED);
    cr_assert_eq(read.bytes_done, 1000);
    cr_assert_eq(read.flags, SR_COMPLETION_CANCEL_ASKED);
    cr_assert_eq(fs->files[0].read_count, 1);
    cr_assert_eq(sr_pool_release(self.rig.pool, read.buffer), 0);
    rig_close(&self.rig);
    slowfs_stop(&fs);
}

CASE(enter, what_waits_for_room_ends_with_the_ring, set_up, tear_down) {
    struct slowfs *fs = NULL;
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    (void)make_a_rest_wait(fs);
    /* Neither operation is in the kernel, so there is nothing to wait for. */
    rig_close(&self.rig);
    failing_relent();
    cr_assert_eq(fs->files[0].read_count, 1);
    slowfs_stop(&fs);
}

CASE(enter, a_cancel_that_finds_the_queue_full_is_sent_later, set_up, tear_down) {
    sr_ring_options options = small_ring();
    sr_request request = SR_REQUEST_INIT;
    memset(&self, 0, sizeof self);
    options.entries = 1;
    rig_open(&self.rig, &options, NULL);
    request.op = SR_OP_TIMEOUT;
    request.duration_ns = 60 * RIG_SECOND;
    request.tag = 1;
    const sr_op op = rig_submit(&self.rig, &request);
    cr_assert_eq(sr_ring_flush(self.rig.ring), 1);
    request = SR_REQUEST_INIT;
    request.tag = 2;
    (void)rig_submit(&self.rig, &request);
    failing_plan(FAILING_QUEUE_ENTER, 1, -EBUSY, true);
    cr_assert_eq(sr_op_cancel(self.rig.ring, op), 0, "there is always room for a cancel");
    failing_relent();
    const sr_completion cancelled = finish_both();
    cr_assert_eq(cancelled.result, -ECANCELED);
    cr_assert_eq(rig_stats(&self.rig).cancels_total, 1);
    rig_close(&self.rig);
}

/* ---- every call of the seam
 * ------------------------------------------------------------------------------- */

static void fail_every(enum failing_call call, int code, bool for_ever) {
    /* Once the ring stands, one more call that still works changes little: then in larger steps. */
    const uint64_t every_one_until = for_ever ? 40 : UINT64_MAX;
    wait_ns = 200 * RIG_MS;
    fails_for_ever = for_ever;
    for (uint64_t nth = 1;; nth += nth < every_one_until ? 1 : 9) {
        injected_before = failing_injected();
        failing_plan(call, nth, code, for_ever);
        const bool done = live();
        const bool was_injected = failing_injected() > injected_before;
        check_baseline();
        if (!was_injected) {
            cr_assert(done, "nothing failed, yet not all was done");
            cr_assert_gt(nth, 1, "the call is never made");
            return;
        }
    }
}

CASE(enter, any_one_call_of_the_seam_may_fail, set_up, tear_down) {
    fail_every(FAILING_ANY, -ENOMEM, false);
}

CASE(enter, all_calls_of_the_seam_may_fail_from_some_point_on, set_up, tear_down) {
    for (uint64_t nth = 1; nth <= 60; nth++) {
        failing_plan(FAILING_ANY, nth, -ENOMEM, true);
        (void)live();
        check_baseline();
    }
}

CASE(enter, any_allocation_may_fail, set_up, tear_down) {
    fail_every(FAILING_ALLOCATE, -ENOMEM, false);
    fail_every(FAILING_ALLOCATE, -ENOMEM, true);
}

CASE(enter, any_mapping_may_fail, set_up, tear_down) {
    fail_every(FAILING_MAP, -ENOMEM, false);
    fail_every(FAILING_MAP, -ENOMEM, true);
}

CASE(enter, the_ring_itself_may_be_refused, set_up, tear_down) {
    static const int refusals[] = {-EPERM, -ENOSYS, -EMFILE, -ENOMEM};
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        sr_ring *ring = NULL;
        failing_plan(FAILING_QUEUE_OPEN, 1, refusals[i], false);
        cr_assert_eq(sr_ring_create(NULL, &ring), refusals[i]);
        cr_assert_null(ring);
        cr_assert_null(failing_leak(), "%s", failing_leak());
    }
    fail_every(FAILING_QUEUE_OPEN, -EPERM, true);
}

CASE(enter, registrations_may_fail_without_ending_anything, set_up, tear_down) {
    fail_every(FAILING_QUEUE_SET_FILE, -ENOMEM, false);
    fail_every(FAILING_QUEUE_SET_BUFFER, -ENOMEM, false);
    failing_plan(FAILING_QUEUE_SET_BUFFER, 1, -ENOMEM, true);
    cr_assert(live(), "plain buffers do as well");
    failing_plan(FAILING_QUEUE_SET_FILE, 1, -ENOMEM, true);
    cr_assert(live(), "plain descriptors do as well");
}

CASE(enter, a_close_that_reports_an_error_has_closed_all_the_same, set_up, tear_down) {
    fail_every(FAILING_FD_CLOSE, -EIO, true);
}

/* ---- descriptors that nobody reads of
 * ----------------------------------------------------------------------- */

static sr_request open_request(const char *path, uint32_t flags) {
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_OPENAT;
    request.path = path;
    request.op_flags = flags;
    return request;
}

/* Until so many operations have completed, and nobody has seen it. */
static void post_completed(uint32_t count) {
    for (int i = 0; i < 5000 && sri_queue_ready(&self.rig.ring->queue) < count; i++) {
        (void)usleep(1000);
        raw_post(self.rig.ring);
    }
    cr_assert_geq(sri_queue_ready(&self.rig.ring->queue), count);
}

CASE(enter, the_descriptor_of_an_abandoned_open_is_closed_and_counted, set_up, tear_down) {
    sr_completion outcome;
    const sr_completion *completions = NULL;
    const sr_request request = open_request("/dev/null", O_RDONLY);
    memset(&self, 0, sizeof self);
    cr_assert(open_rig());
    const sr_op op = rig_submit(&self.rig, &request);
    cr_assert_eq(sr_ring_flush(self.rig.ring), 1);
    post_completed(1); /* it is open now, and its completion not seen */
    cr_assert_eq(sr_op_abandon(self.rig.ring, op, &outcome), 0);
    cr_assert_eq(outcome.result, SR_E_TIMEOUT);
    cr_assert_eq(outcome.file.bits, 0);
    for (int i = 0; i < 1000 && rig_stats(&self.rig).ops_in_flight > 0; i++) {
        cr_assert_eq(sr_ring_wait(self.rig.ring, 0, 0, NULL, &completions), 0);
        (void)usleep(1000);
    }
    cr_assert_eq(rig_stats(&self.rig).descriptors_closed_total, 1);
    cr_assert_eq(rig_stats(&self.rig).files_open, 0);
    close_rig();
}

CASE(enter, the_descriptors_of_drained_opens_are_closed, set_up, tear_down) {
    enum { OPENS = 20 };
    const sr_request request = open_request("/dev/null", O_RDONLY);
    memset(&self, 0, sizeof self);
    cr_assert(open_rig());
    for (int i = 0; i < OPENS; i++) {
        (void)rig_submit(&self.rig, &request);
        if (i == OPENS / 2) {
            cr_assert_gt(sr_ring_flush(self.rig.ring), 0); /* some sent, some not */
            post_completed(OPENS / 2 + 1);
        }
    }
    const uint64_t closes = failing_count(FAILING_FD_CLOSE);
    close_rig();
    /* At least those that were sent; the lifeline is one more. The baseline says that none is left.
     */
    cr_assert_geq(failing_count(FAILING_FD_CLOSE) - closes, OPENS / 2 + 1);
}

CASE(enter, an_open_that_succeeds_in_spite_of_its_cancel_is_handed_over, set_up, tear_down) {
    sr_completion completion;
    sr_request request = open_request("/dev/null", O_RDONLY);
    memset(&self, 0, sizeof self);
    cr_assert(open_rig());
    const sr_op op = rig_submit(&self.rig, &request);
    cr_assert_eq(sr_ring_flush(self.rig.ring), 1);
    post_completed(1);
    cr_assert_eq(sr_op_cancel(self.rig.ring, op), 0);
    cr_assert_eq(rig_wait(&self.rig, &completion), 1);
    cr_assert_eq(completion.result, 0);
    cr_assert_eq(completion.flags, SR_COMPLETION_CANCEL_ASKED);
    cr_assert_neq(completion.file.bits, 0);
    cr_assert_eq(rig_stats(&self.rig).descriptors_closed_total, 0);
    request = SR_REQUEST_INIT;
    request.op = SR_OP_CLOSE;
    request.file = completion.file;
    cr_assert_eq(rig_run(&self.rig, &request).result, 0);
    close_rig();
}

/* Closes descriptors of this process that are open on @path; returns how many there were. */
static int close_descriptors_of(const char *path) {
    int count = 0;
    for (int fd = 3; fd < 1024; fd++) {
        char link[32];
        char target[128];
        (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        const ssize_t length = readlink(link, target, sizeof target - 1);
        if (length > 0) {
            target[length] = 0;
            if (strcmp(target, path) == 0) {
                cr_assert_eq(close(fd), 0);
                count++;
            }
        }
    }
    return count;
}

/* Its drain time over, the ring lingers in quarantine until its owner has received the descriptor.
 */
CASE(enter, an_open_that_outlasts_its_ring_is_closed_and_counted_by_a_later_sweep, set_up,
     tear_down) {
    char path[96];
    struct slowfs *fs = NULL;
    sr_quarantine_counts earlier = SR_QUARANTINE_STATS_INIT;
    sr_quarantine_counts counts = SR_QUARANTINE_STATS_INIT;
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    (void)snprintf(path, sizeof path, "%s/file2", fs->directory);
    baseline_take(&before); /* with the file system */
    cr_assert_eq(sr_quarantine_stats(&earlier), 0);
    const sr_request request = open_request(path, O_RDONLY);
    memset(&self, 0, sizeof self);
    cr_assert(open_rig());
    fs->files[2].open_gate_closed = 1;
    (void)rig_submit(&self.rig, &request);
    cr_assert_eq(sr_ring_flush(self.rig.ring), 1);
    for (int i = 0; i < 5000 && fs->files[2].opening_count == 0; i++) {
        (void)usleep(1000);
    }
    cr_assert_eq(fs->files[2].opening_count, 1, "the open is not at the server");
    cr_assert_eq(sr_ring_destroy(&self.rig.ring), SR_E_IN_FLIGHT);
    cr_assert_eq(sr_quarantine_sweep(0), 1);
    cr_assert_eq(sr_quarantine_stats(&counts), 0);
    cr_assert_eq(counts.rings, 1);
    cr_assert_eq(counts.operations, 1);
    fs->files[2].open_gate_closed = 0;
    cr_assert_eq(sr_quarantine_sweep(5 * RIG_SECOND), 0);
    cr_assert_eq(sr_quarantine_stats(&counts), 0);
    cr_assert_eq(counts.descriptors_closed_total, earlier.descriptors_closed_total + 1);
    cr_assert_eq(counts.swept_total, earlier.swept_total + 1);
    close_rig();
    cr_assert_eq(close_descriptors_of(path), 0, "a descriptor nobody knows of is open");
    check_baseline();
    slowfs_stop(&fs);
    baseline_take(&before); /* without it, for the tear-down */
}

/* ---- substitutes
 * ---------------------------------------------------------------------------------------------- */

CASE(enter, an_operation_that_the_kernel_lacks_is_done_by_a_system_call, set_up, tear_down) {
    struct stat status;
    const int fd = rig_temporary_file(PAGE);
    memset(&self, 0, sizeof self);
    failing_mask_op(SRI_IORING_OP_FTRUNCATE);
    cr_assert(open_rig());
    cr_assert(adopt_file(fd));
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_FTRUNCATE;
    request.file = self.file;
    request.length = 100;
    sr_completion completion = rig_run(&self.rig, &request);
    cr_assert_eq(completion.result, 0);
    cr_assert_eq(fstat(fd, &status), 0);
    cr_assert_eq(status.st_size, 100);
    cr_assert_eq(rig_stats(&self.rig).substitutes_total, 1);
    failing_plan(FAILING_SQE_RUN, 1, -EIO, false);
    completion = rig_run(&self.rig, &request);
    cr_assert_eq(completion.result, -EIO, "its error is in the completion");
    close_rig();
}

CASE(enter, an_operation_without_a_substitute_is_unsupported, set_up, tear_down) {
    sr_op op = {1};
    memset(&self, 0, sizeof self);
    failing_mask_op(IORING_OP_OPENAT2);
    cr_assert(open_rig());
    const sr_request request = open_request("/dev/null", O_RDONLY);
    cr_assert_eq(sr_ring_submit(self.rig.ring, &request, &op), SR_E_UNSUPPORTED);
    cr_assert_eq(op.bits, 0);
    cr_assert_eq(rig_stats(&self.rig).ops_in_flight, 0);
    close_rig();
}
