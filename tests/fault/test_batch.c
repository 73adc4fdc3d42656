/* SPDX-License-Identifier: MIT */
/*
 * A batch while calls of the seam fail: each one once, and all from some point on. Whatever fails,
 * every node of a batch that has started gets exactly one outcome, its destruction ends, and
 * nothing is left behind: no block, no descriptor, no buffer, no operation.
 */
#include "support/baseline.h"
#include "support/case.h"
#include "support/failing.h"
#include "support/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PAGE      4096u
#define NODES_MAX 64u

static struct {
    struct rig rig;
    sr_batch *batch;
    sr_file hole; /* a pipe without data */
    int hole_end;
    uint32_t added;
    uint32_t told[NODES_MAX];
    uint32_t told_count;
    uint32_t done_count;
    bool incomplete; /* not everything could be added */
} self;

static char from[64];
static char to[64];
static uint64_t wait_ns;

TestSuite(batch, .timeout = 170);

static void tell(sr_batch *batch, sr_node node, const sr_node_outcome *outcome, void *ctx);

/* ---- nodes, as far as there is memory ---------------------------------------------------------
 */

static sr_node_spec spec_of(uint16_t op) {
    sr_node_spec spec = SR_NODE_SPEC_INIT;
    spec.request.op = op;
    spec.on_outcome = tell;
    return spec;
}

static sr_node add(sr_node_spec *spec) {
    sr_node node = SR_NODE_NONE;
    cr_assert_lt(self.added, NODES_MAX);
    spec->request.tag = self.added;
    const int code = self.incomplete ? -ENOMEM : sr_batch_add(self.batch, spec, &node);
    if (code == 0) {
        self.added++;
    }
    cr_assert(code == 0 || code == -ENOMEM, "sr_batch_add: %s", sr_error_name(code));
    self.incomplete = self.incomplete || code < 0;
    return node;
}

static void after(sr_node node, sr_node dependency, uint32_t when) {
    const int code = self.incomplete ? -ENOMEM : sr_batch_after(self.batch, node, dependency, when);
    cr_assert(code == 0 || code == -ENOMEM, "sr_batch_after: %s", sr_error_name(code));
    self.incomplete = self.incomplete || code < 0;
}

static sr_node add_open(const char *path, uint32_t flags) {
    sr_node_spec spec = spec_of(SR_OP_OPENAT);
    spec.request.path = path;
    spec.request.op_flags = flags;
    spec.request.mode = (flags & O_CREAT) != 0 ? 0600 : 0;
    return add(&spec);
}

static void add_close(sr_node opener, sr_node last) {
    sr_node_spec spec = spec_of(SR_OP_CLOSE);
    spec.flags = SR_NODE_CLEANUP;
    spec.file_from = opener;
    const sr_node node = add(&spec);
    after(node, opener, SR_ALWAYS);
    after(node, last, SR_ALWAYS);
}

/* A copy, and a read that its own deadline ends. */
static void add_all(void) {
    const sr_node source = add_open(from, O_RDONLY | O_CLOEXEC);
    const sr_node target = add_open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC);
    sr_node_spec spec = spec_of(SR_OP_STATX);
    spec.request.path = "";
    spec.request.op_flags = AT_EMPTY_PATH;
    spec.request.mask = 0x200; /* STATX_SIZE */
    spec.file_from = source;
    const sr_node size = add(&spec);
    spec = spec_of(SR_OP_READ);
    spec.request.flags = SR_REQUEST_FULL;
    spec.pool = self.rig.pool;
    spec.file_from = source;
    spec.length_from = size;
    const sr_node reader = add(&spec);
    spec = spec_of(SR_OP_WRITE);
    spec.request.flags = SR_REQUEST_FULL;
    spec.file_from = target;
    spec.length_from = reader;
    spec.buffer_from = reader;
    const sr_node writer = add(&spec);
    after(size, source, SR_ON_SUCCESS);
    after(reader, source, SR_ON_SUCCESS);
    after(reader, size, SR_ON_SUCCESS);
    after(writer, target, SR_ON_SUCCESS);
    after(writer, reader, SR_ON_SUCCESS);
    add_close(source, reader);
    add_close(target, writer);
    spec = spec_of(SR_OP_READ);
    spec.request.file = self.hole;
    spec.request.length = 16;
    spec.request.offset = SR_OFFSET_CURRENT;
    spec.request.deadline_ns = RIG_MS;
    spec.pool = self.rig.pool;
    (void)add(&spec);
    (void)add_open("/dev/null", O_RDONLY | O_CLOEXEC); /* nobody takes its file */
}

/* The third adds two more, one of which opens. */
static void tell(sr_batch *batch, sr_node node, const sr_node_outcome *outcome, void *ctx) {
    (void)ctx;
    cr_assert_eq(batch, self.batch);
    cr_assert_lt(outcome->tag, NODES_MAX);
    self.told[outcome->tag]++;
    cr_assert_eq(self.told[outcome->tag], 1, "node %u was told twice", (unsigned)outcome->tag);
    self.told_count++;
    self.done_count += outcome->state == SR_OUTCOME_DONE;
    sr_batch_stats stats = SR_BATCH_STATS_INIT;
    cr_assert_eq(sr_batch_get_stats(batch, &stats), 0);
    if (outcome->tag == 2 && stats.stopped_by == SR_STOP_NONE && !self.incomplete) {
        sr_node_spec spec = spec_of(SR_OP_NOP);
        const sr_node nop = add(&spec);
        after(nop, node, SR_ALWAYS);
        const sr_node opener = add_open("/dev/null", O_RDONLY | O_CLOEXEC);
        after(opener, nop, SR_ON_SUCCESS);
        /* What was added without its edges runs all the same. */
        self.incomplete = false;
    }
}

/* ---- a life ----------------------------------------------------------------------------------
 */

static bool open_all(void) {
    const sr_ring_options ring_options = {
        .size = sizeof ring_options,
        .entries = 4,
        .files_max = 8,
        .pools_max = 2,
        .drain_timeout_ns = wait_ns,
    };
    sr_pool_options pool_options = SR_POOL_OPTIONS_INIT;
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    int ends[2];
    pool_options.buffer_count = 2;
    options.drain_timeout_ns = wait_ns;
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    self.hole_end = ends[1];
    if (sr_ring_create(&ring_options, &self.rig.ring) == 0 &&
        sr_pool_create(NULL, &pool_options, &self.rig.pool) == 0 &&
        sr_file_adopt(self.rig.ring, ends[0], 0, &self.hole) == 0) {
        return sr_ring_attach_pool(self.rig.ring, self.rig.pool) >= 0 &&
               sr_batch_create(self.rig.ring, &options, &self.batch) == 0;
    }
    cr_assert_eq(close(ends[0]), 0);
    return false;
}

/* True if the batch ran to its end. */
static bool run_batch(void) {
    for (uint32_t tries = 0; tries < 5; tries++) {
        const int code = sr_batch_run(self.batch, wait_ns, NULL);
        if (code == 0) {
            return true;
        }
        cr_assert(code < 0, "completions that are not the batch's: %d", code);
    }
    return false;
}

static void end_batch(bool finished) {
    sr_batch_stats stats = SR_BATCH_STATS_INIT;
    cr_assert_eq(sr_batch_get_stats(self.batch, &stats), 0);
    cr_assert_eq(stats.finished, finished);
    const bool started = stats.index_bytes > 0;
    const int code = sr_batch_destroy(&self.batch);
    cr_assert(code == 0 || code == SR_E_IN_FLIGHT, "sr_batch_destroy: %s", sr_error_name(code));
    cr_assert_null(self.batch);
    cr_assert_eq(self.told_count, started ? self.added : 0, "%u of %u nodes were told",
                 self.told_count, self.added);
}

static void close_all(void) {
    const int code = sr_ring_destroy(&self.rig.ring);
    cr_assert(code == 0 || code == SR_E_IN_FLIGHT, "sr_ring_destroy: %s", sr_error_name(code));
    failing_relent();
    cr_assert_eq(sr_quarantine_sweep(5 * RIG_SECOND), 0);
    if (self.rig.pool != NULL) {
        sr_pool_stats stats = SR_POOL_STATS_INIT;
        cr_assert_eq(sr_pool_get_stats(self.rig.pool, &stats), 0);
        cr_assert_eq(stats.held_count, 0, "a buffer is still held");
    }
    cr_assert_eq(sr_pool_destroy(&self.rig.pool), 0);
    cr_assert_eq(close(self.hole_end), 0);
    cr_assert_null(failing_leak(), "%s", failing_leak());
}

/* True if every node was done that can be. */
static bool live(void) {
    bool finished = false;
    memset(&self, 0, sizeof self);
    if (open_all()) {
        add_all();
        finished = !self.incomplete && run_batch();
        end_batch(finished);
    }
    const bool all = finished && self.done_count + 1 == self.added && self.added == 11;
    close_all();
    return all;
}

static struct baseline before;

static void check_baseline(void) {
    const char *difference = baseline_difference(&before);
    cr_assert_null(difference, "%s", difference);
}

static void set_up(void) {
    char bytes[PAGE / 2];
    wait_ns = RIG_SECOND;
    memset(bytes, 'b', sizeof bytes);
    (void)snprintf(from, sizeof from, "/tmp/safering-batch-from-%d", (int)getpid());
    (void)snprintf(to, sizeof to, "/tmp/safering-batch-to-%d", (int)getpid());
    const int fd = open(from, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    cr_assert_eq(write(fd, bytes, sizeof bytes), (ssize_t)sizeof bytes);
    cr_assert_eq(close(fd), 0);
    failing_install();
    /* Twice: what the first one maps for good is not a leak. */
    cr_assert(live());
    cr_assert(live());
    baseline_take(&before);
}

static void tear_down(void) {
    check_baseline();
    failing_remove();
    cr_assert_eq(unlink(from), 0);
    cr_assert_eq(unlink(to), 0);
}

/* ---- every call of the seam ------------------------------------------------------------------
 */

static void fail_every(enum failing_call call, int code, bool for_ever) {
    wait_ns = for_ever ? 2 * RIG_MS : 200 * RIG_MS;
    for (uint64_t nth = 1;; nth++) {
        const uint64_t injected = failing_injected();
        failing_plan(call, nth, code, for_ever);
        const bool all = live();
        const bool was_injected = failing_injected() > injected;
        check_baseline();
        if (!was_injected) {
            /* A busy machine may need longer than a run has that is to come to nothing. */
            wait_ns = 20 * RIG_SECOND;
            cr_assert(all || live(), "nothing failed, yet not all was done");
            cr_assert_gt(nth, 1, "the call is never made");
            return;
        }
    }
}

CASE(batch, any_one_call_of_the_seam_may_fail, set_up, tear_down) {
    fail_every(FAILING_ANY, -ENOMEM, false);
}

CASE(batch, all_calls_of_the_seam_may_fail_from_some_point_on, set_up, tear_down) {
    fail_every(FAILING_ANY, -ENOMEM, true);
}

CASE(batch, any_allocation_may_fail, set_up, tear_down) {
    fail_every(FAILING_ALLOCATE, -ENOMEM, false);
    fail_every(FAILING_ALLOCATE, -ENOMEM, true);
}

CASE(batch, any_enter_may_fail, set_up, tear_down) {
    static const int codes[] = {-EINTR, -EAGAIN, -EBUSY};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        fail_every(FAILING_QUEUE_ENTER, codes[i], false);
        fail_every(FAILING_QUEUE_ENTER, codes[i], true);
    }
}

CASE(batch, enters_that_fail_now_and_then_delay_and_nothing_more, set_up, tear_down) {
    for (uint64_t period = 2; period <= 7; period++) {
        failing_enter_every(period, -EAGAIN);
        cr_assert(live(), "every enter number %u", (unsigned)period);
        check_baseline();
    }
    failing_enter_every(0, 0);
}

CASE(batch, partial_submits_lose_and_double_nothing, set_up, tear_down) {
    for (uint32_t count = 1; count <= 4; count++) {
        failing_enter_partial(count);
        cr_assert(live(), "at most %u at a time", count);
        check_baseline();
    }
    failing_enter_partial(0);
}

CASE(batch, a_close_that_fails_is_counted_all_the_same, set_up, tear_down) {
    fail_every(FAILING_FD_CLOSE, -EIO, false);
}
