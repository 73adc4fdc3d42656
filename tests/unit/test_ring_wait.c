/* SPDX-License-Identifier: MIT */
/* Waiting: how many, how long, what ends it, what runs inside of it, and what comes out. */
#include "unit/fixture.h"

#include "support/case.h"
#include <signal.h>
#include <sys/time.h>
#include <time.h>

#define MS   UINT64_C(1000000)
#define HOUR (3600000 * MS)

/* A wait that does not end fails its own case, not the whole program. */
TestSuite(ring_wait, .timeout = 30);

static sr_ring *ring;
static sr_pool *pool;
static sr_file pipe_end; /* reading end of a pipe that stays empty until a test writes */
static int pipe_in;

static void begin_with(const sr_ring_options *options) {
    int ends[2];
    ring = ring_make(options);
    pool = pool_make(4096, 8);
    pool_attach(ring, pool);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    pipe_end = file_take(ring, ends[0]);
    pipe_in = ends[1];
    misuse_watch();
}

static void begin(void) {
    begin_with(NULL);
}

static void end(void) {
    assert_no_misuse();
    cr_assert_eq(ring_stats(ring).completions_unknown_total, 0);
    cr_assert_eq(ring_stats(ring).completions_stale_total, 0);
    ring_end(&ring);
    pool_end(&pool);
    (void)close(pipe_in);
}

static sr_op submit_nop(uint64_t tag) {
    sr_request request = request_of(SR_OP_NOP);
    request.tag = tag;
    return submit(ring, &request);
}

static sr_op submit_timeout(uint64_t duration_ns) {
    sr_request request = request_of(SR_OP_TIMEOUT);
    request.duration_ns = duration_ns;
    return submit(ring, &request);
}

/* A read that does not end by itself. */
static sr_request endless_read(void) {
    sr_request request = request_of(SR_OP_READ);
    request.file = pipe_end;
    request.buffer = buffer_take(pool);
    request.length = 100;
    request.offset = SR_OFFSET_CURRENT;
    return request;
}

static int wait_for(uint32_t count_min, uint64_t timeout_ns, const sr_completion **out) {
    const sr_completion *nothing = (const sr_completion *)&ring; /* must be overwritten */
    const sr_completion **where = out != NULL ? out : &nothing;
    *where = nothing;
    const int code = sr_ring_wait(ring, count_min, timeout_ns, NULL, where);
    cr_assert_eq(*where == NULL, code < 0, "the array is cleared on failure, and only then");
    return code;
}

static void assert_took(uint64_t start_ns, uint64_t least_ns, uint64_t most_ns) {
    const uint64_t took_ns = now_ns() - start_ns;
    cr_assert(took_ns >= least_ns && took_ns < most_ns, "took %llu us",
              (unsigned long long)took_ns / 1000);
}

/* ---- how many ---------------------------------------------------------------------------------
 */

CASE(ring_wait, a_count_of_none_looks_and_does_not_wait, begin, end) {
    assert_code(wait_for(0, SR_FOREVER, NULL), 0);
    (void)submit_timeout(HOUR);
    const uint64_t start_ns = now_ns();
    assert_code(wait_for(0, SR_FOREVER, NULL), 0);
    assert_code(wait_for(0, 0, NULL), 0);
    assert_took(start_ns, 0, 5000 * MS);
    cr_assert_eq(ring_stats(ring).ops_in_flight, 1);
}

CASE(ring_wait, a_count_of_none_sends_what_was_submitted, begin, end) {
    char byte = 0;
    int ends[2];
    sr_request request = request_of(SR_OP_WRITE);
    cr_assert_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    request.file = file_take(ring, ends[1]);
    request.buffer = buffer_take(pool);
    request.length = 1;
    request.offset = SR_OFFSET_CURRENT;
    (void)submit(ring, &request);
    cr_assert_lt(read(ends[0], &byte, 1), 0, "sent before anything asked for it");
    const int ended = wait_for(0, 0, NULL);
    cr_assert(ended == 0 || ended == 1);
    cr_assert_eq(read(ends[0], &byte, 1), 1);
    if (ended == 0) {
        (void)wait_one(ring);
    }
    (void)close(ends[0]);
}

CASE(ring_wait, the_wait_ends_with_as_many_as_asked_for, begin, end) {
    const sr_completion *completions = NULL;
    (void)submit_timeout(HOUR);
    (void)submit_nop(1);
    (void)submit_nop(2);
    assert_code(wait_for(2, SR_FOREVER, &completions), 2);
    cr_assert(completions[0].tag == 1 && completions[1].tag == 2);
    cr_assert_eq(ring_stats(ring).ops_in_flight, 1);
}

CASE(ring_wait, asking_for_more_than_is_in_flight_ends_with_all_there_is, begin, end) {
    for (uint64_t i = 0; i < 3; i++) {
        (void)submit_nop(i);
    }
    (void)submit_timeout(20 * MS);
    assert_code(wait_for(100, SR_FOREVER, NULL), 4);
    (void)submit_nop(9);
    assert_code(wait_for(UINT32_MAX, SR_FOREVER, NULL), 1);
}

CASE(ring_wait, waiting_for_nothing_would_never_end, begin, end) {
    assert_code(wait_for(1, SR_FOREVER, NULL), SR_E_IDLE);
    assert_code(wait_for(1, 0, NULL), SR_E_IDLE);
    (void)submit_nop(1);
    assert_code(wait_for(1, SR_FOREVER, NULL), 1);
    assert_code(wait_for(1, SR_FOREVER, NULL), SR_E_IDLE);
}

CASE(ring_wait, an_abandoned_operation_is_nothing_to_wait_for, begin, end) {
    sr_request request = endless_read();
    const sr_op op = submit(ring, &request);
    assert_ok(sr_op_abandon(ring, op, NULL));
    assert_code(wait_for(1, SR_FOREVER, NULL), SR_E_IDLE);
}

CASE(ring_wait, a_close_that_waits_for_a_read_goes_on_within_the_wait, begin, end) {
    const sr_completion *completions = NULL;
    sr_request request = endless_read();
    const sr_op reading = submit(ring, &request);
    request = request_of(SR_OP_CLOSE);
    request.file = pipe_end;
    const sr_op closing = submit(ring, &request);
    (void)submit_timeout(HOUR);
    cr_assert_eq(sr_ring_flush(ring), 2, "the close waits for the read");
    cr_assert_eq(write(pipe_in, "x", 1), 1);
    assert_code(wait_for(2, SR_FOREVER, &completions), 2);
    cr_assert_eq(completions[0].op.bits, reading.bits);
    cr_assert_eq(completions[1].op.bits, closing.bits);
}

static void submit_one_more(sr_ring *on, const sr_completion *completion, void *ctx) {
    sr_request request = request_of(SR_OP_NOP);
    (void)completion;
    (void)ctx;
    assert_ok(sr_ring_submit(on, &request, NULL));
}

CASE(ring_wait, what_a_callback_submits_counts_in_the_same_wait, begin, end) {
    sr_request request = request_of(SR_OP_NOP);
    request.on_complete = submit_one_more;
    (void)submit_timeout(HOUR);
    (void)submit(ring, &request);
    assert_code(wait_for(2, SR_FOREVER, NULL), 1);
}

/* ---- how long ---------------------------------------------------------------------------------
 */

CASE(ring_wait, the_time_given_is_waited_and_not_more, begin, end) {
    (void)submit_timeout(HOUR);
    uint64_t start_ns = now_ns();
    assert_code(wait_for(1, 30 * MS, NULL), SR_E_TIMEOUT);
    assert_took(start_ns, 30 * MS, 5000 * MS);
    start_ns = now_ns();
    assert_code(wait_for(1, 0, NULL), SR_E_TIMEOUT);
    assert_took(start_ns, 0, 5000 * MS);
}

CASE(ring_wait, what_has_ended_when_time_is_over_is_handed_out, begin, end) {
    const sr_completion *completions = NULL;
    (void)submit_timeout(HOUR);
    (void)submit_nop(7);
    const uint64_t start_ns = now_ns();
    assert_code(wait_for(2, 30 * MS, &completions), 1);
    assert_took(start_ns, 30 * MS, 5000 * MS);
    cr_assert_eq(completions[0].tag, 7);
}

CASE(ring_wait, times_near_the_end_of_the_clock_do_not_wrap, begin, end) {
    const uint64_t times[] = {SR_FOREVER, SR_FOREVER - 1, SR_FOREVER - 1000000000,
                              (uint64_t)INT64_MAX, (uint64_t)INT64_MAX + 1};
    for (size_t i = 0; i < COUNT_OF(times); i++) {
        (void)submit_timeout(10 * MS);
        const uint64_t start_ns = now_ns();
        assert_code(wait_for(1, times[i], NULL), 1);
        assert_took(start_ns, 10 * MS, 5000 * MS);
    }
}

/* ---- signals ----------------------------------------------------------------------------------
 */

static volatile sig_atomic_t signals_handled;

static void handle_signal(int number) {
    (void)number;
    signals_handled++;
}

static void handle(int number) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handle_signal; /* without SA_RESTART: the kernel says EINTR */
    cr_assert_eq(sigaction(number, &action, NULL), 0);
    signals_handled = 0;
}

static void alarm_after(uint64_t first_ns, uint64_t period_ns) {
    const struct itimerval times = {
        .it_value = {(time_t)(first_ns / 1000000000u), (suseconds_t)(first_ns / 1000 % 1000000)},
        .it_interval = {0, (suseconds_t)(period_ns / 1000)},
    };
    cr_assert_eq(setitimer(ITIMER_REAL, &times, NULL), 0);
}

static int wait_with(const sr_wait_options *options, uint64_t timeout_ns) {
    const sr_completion *completions = NULL;
    const int code = sr_ring_wait(ring, 1, timeout_ns, options, &completions);
    cr_assert_eq(completions == NULL, code < 0);
    return code;
}

CASE(ring_wait, a_signal_ends_an_interruptible_wait, begin, end) {
    sr_wait_options options = SR_WAIT_OPTIONS_INIT;
    options.interruptible = 1;
    handle(SIGALRM);
    (void)submit_timeout(HOUR);
    alarm_after(20 * MS, 20 * MS); /* again: the first may come before the wait */
    assert_code(wait_with(&options, SR_FOREVER), -EINTR);
    alarm_after(0, 0);
    cr_assert_geq(signals_handled, 1);
    cr_assert_eq(ring_stats(ring).ops_in_flight, 1);
    assert_code(wait_with(&options, 0), SR_E_TIMEOUT);
}

CASE(ring_wait, a_signal_does_not_end_other_waits_nor_does_it_prolong_them, begin, end) {
    handle(SIGALRM);
    (void)submit_timeout(HOUR);
    alarm_after(5 * MS, 5 * MS);
    uint64_t start_ns = now_ns();
    assert_code(wait_with(NULL, 60 * MS), SR_E_TIMEOUT);
    assert_took(start_ns, 60 * MS, 5000 * MS);
    cr_assert_gt(signals_handled, 1);
    cr_assert_geq(ring_stats(ring).interrupted_total, 1);
    /* Without a limit: until the operation ends. */
    (void)submit_timeout(40 * MS);
    start_ns = now_ns();
    assert_code(wait_with(NULL, SR_FOREVER), 1);
    assert_took(start_ns, 40 * MS, 5000 * MS);
    alarm_after(0, 0);
}

CASE(ring_wait, what_had_ended_before_the_signal_is_handed_out, begin, end) {
    const sr_completion *completions = NULL;
    sr_wait_options options = SR_WAIT_OPTIONS_INIT;
    options.interruptible = 1;
    handle(SIGALRM);
    (void)submit_timeout(HOUR);
    (void)submit_nop(5);
    alarm_after(20 * MS, 20 * MS);
    assert_code(sr_ring_wait(ring, 2, SR_FOREVER, &options, &completions), 1);
    alarm_after(0, 0);
    cr_assert_eq(completions[0].tag, 5);
    cr_assert_geq(signals_handled, 1);
}

CASE(ring_wait, the_signal_mask_holds_during_the_wait_and_only_then, begin, end) {
    sigset_t blocked;
    sigset_t before;
    sigset_t none;
    sr_wait_options options = SR_WAIT_OPTIONS_INIT;
    options.interruptible = 1;
    handle(SIGUSR1);
    (void)submit_timeout(HOUR);
    (void)sigemptyset(&none);
    (void)sigemptyset(&blocked);
    (void)sigaddset(&blocked, SIGUSR1);
    cr_assert_eq(sigprocmask(SIG_BLOCK, &blocked, &before), 0);
    cr_assert_eq(raise(SIGUSR1), 0); /* pending */
    assert_code(wait_with(&options, 20 * MS), SR_E_TIMEOUT);
    cr_assert_eq(signals_handled, 0, "the mask was not left alone");
    options.sigmask = &none;
    assert_code(wait_with(&options, 5000 * MS), -EINTR);
    cr_assert_eq(signals_handled, 1);
    cr_assert_eq(raise(SIGUSR1), 0);
    cr_assert_eq(signals_handled, 1, "the mask of before is not back");
    cr_assert_eq(sigprocmask(SIG_SETMASK, &before, NULL), 0);
    cr_assert_eq(signals_handled, 2);
}

CASE(ring_wait, a_signal_that_the_mask_blocks_does_not_end_the_wait, begin, end) {
    sigset_t blocked;
    sr_wait_options options = SR_WAIT_OPTIONS_INIT;
    options.interruptible = 1;
    options.sigmask = &blocked;
    (void)sigemptyset(&blocked);
    (void)sigaddset(&blocked, SIGALRM);
    handle(SIGALRM);
    (void)submit_timeout(60 * MS);
    alarm_after(10 * MS, 0);
    assert_code(wait_with(&options, SR_FOREVER), 1);
    cr_assert_eq(signals_handled, 1, "it comes when the wait is over");
}

CASE(ring_wait, options_that_make_no_sense_are_refused_and_nothing_is_sent, begin, end) {
    sr_wait_options options[2] = {SR_WAIT_OPTIONS_INIT, SR_WAIT_OPTIONS_INIT};
    options[0].interruptible = 2;
    options[1].reserved = 1;
    (void)submit_nop(1);
    for (size_t i = 0; i < 2; i++) {
        assert_code(wait_with(&options[i], SR_FOREVER), -EINVAL);
        assert_misuse("sr_ring_wait", -EINVAL);
    }
    cr_assert_eq(ring_stats(ring).enters_total, 0);
    assert_code(wait_for(1, SR_FOREVER, NULL), 1);
}

/* ---- callbacks --------------------------------------------------------------------------------
 */

#define CALLS_MAX 256

struct calls {
    uint32_t count;
    uint64_t tags[CALLS_MAX];
    int64_t results[CALLS_MAX];
    uint32_t chain; /* operations that the callback still submits */
    sr_op other;    /* what it cancels or abandons */
    int codes[8];
    sr_completion abandoned;
};

static void note_call(sr_ring *on, const sr_completion *completion, void *ctx) {
    struct calls *calls = ctx;
    cr_assert_eq(on, ring);
    cr_assert_eq(completion->ctx, ctx);
    cr_assert_lt(calls->count, CALLS_MAX);
    calls->tags[calls->count] = completion->tag;
    calls->results[calls->count] = completion->result;
    calls->count++;
}

static sr_request nop_with(sr_completion_fn on_complete, struct calls *calls, uint64_t tag) {
    sr_request request = request_of(SR_OP_NOP);
    request.on_complete = on_complete;
    request.ctx = calls;
    request.tag = tag;
    return request;
}

CASE(ring_wait, callbacks_run_in_the_wait_once_each_and_are_not_in_the_array, begin, end) {
    static struct calls calls;
    const sr_completion *completions = NULL;
    for (uint64_t i = 0; i < 10; i++) {
        const sr_request request = nop_with(i % 2 == 0 ? note_call : NULL, &calls, i);
        (void)submit(ring, &request);
    }
    cr_assert_eq(sr_ring_flush(ring), 10);
    cr_assert_eq(calls.count, 0, "a callback ran outside of the wait");
    assert_code(wait_for(10, SR_FOREVER, &completions), 5);
    cr_assert_eq(calls.count, 5);
    for (uint64_t i = 0; i < 5; i++) {
        cr_assert_eq(calls.tags[i], 2 * i);
        cr_assert_eq(completions[i].tag, 2 * i + 1);
    }
}

CASE(ring_wait, callbacks_count_towards_what_is_waited_for, begin, end) {
    static struct calls calls;
    const sr_request request = nop_with(note_call, &calls, 0);
    (void)submit(ring, &request);
    (void)submit(ring, &request);
    (void)submit_timeout(HOUR);
    assert_code(sr_ring_wait(ring, 2, SR_FOREVER, NULL, NULL), 0);
    cr_assert_eq(calls.count, 2);
}

static void submit_next(sr_ring *on, const sr_completion *completion, void *ctx) {
    struct calls *calls = ctx;
    note_call(on, completion, ctx);
    if (calls->chain > 0) {
        calls->chain--;
        const sr_request request = nop_with(submit_next, calls, completion->tag + 1);
        (void)submit(on, &request);
    }
}

CASE(ring_wait, a_callback_may_submit_the_next_operation, begin, end) {
    static struct calls calls;
    calls.chain = 99;
    const sr_request request = nop_with(submit_next, &calls, 0);
    (void)submit(ring, &request);
    assert_code(sr_ring_wait(ring, 100, SR_FOREVER, NULL, NULL), 0);
    cr_assert_eq(calls.count, 100);
    for (uint64_t i = 0; i < 100; i++) {
        cr_assert_eq(calls.tags[i], i);
    }
    assert_code(wait_for(1, SR_FOREVER, NULL), SR_E_IDLE);
}

static void cancel_other(sr_ring *on, const sr_completion *completion, void *ctx) {
    struct calls *calls = ctx;
    note_call(on, completion, ctx);
    calls->codes[0] = sr_op_cancel(on, calls->other);
}

CASE(ring_wait, a_callback_may_cancel_another_operation, begin, end) {
    static struct calls calls;
    sr_request request = endless_read();
    request.tag = 77;
    calls.other = submit(ring, &request);
    const sr_request nop = nop_with(cancel_other, &calls, 0);
    (void)submit(ring, &nop);
    const sr_completion *completions = NULL;
    assert_code(wait_for(2, SR_FOREVER, &completions), 1);
    assert_ok(calls.codes[0]);
    cr_assert_eq(completions[0].tag, 77);
    assert_code(completions[0].result, -ECANCELED);
    cr_assert_eq(completions[0].flags, SR_COMPLETION_CANCEL_ASKED);
}

static void abandon_other(sr_ring *on, const sr_completion *completion, void *ctx) {
    struct calls *calls = ctx;
    note_call(on, completion, ctx);
    calls->codes[0] = sr_op_abandon(on, calls->other, &calls->abandoned);
    calls->codes[1] = sr_op_abandon(on, calls->other, NULL);
}

CASE(ring_wait, a_callback_may_abandon_another_operation, begin, end) {
    static struct calls calls;
    sr_request request = endless_read();
    request.tag = 78;
    calls.other = submit(ring, &request);
    const sr_request nop = nop_with(abandon_other, &calls, 0);
    (void)submit(ring, &nop);
    assert_code(sr_ring_wait(ring, 2, SR_FOREVER, NULL, NULL), 0);
    assert_ok(calls.codes[0]);
    assert_code(calls.codes[1], SR_E_STALE);
    cr_assert_eq(calls.abandoned.tag, 78);
    assert_code(calls.abandoned.result, SR_E_TIMEOUT);
}

static void use_what_is_allowed(sr_ring *on, const sr_completion *completion, void *ctx) {
    struct calls *calls = ctx;
    sr_file file;
    sr_ring_stats stats = SR_RING_STATS_INIT;
    int fd = -1;
    note_call(on, completion, ctx);
    calls->codes[0] = sr_file_adopt(on, dup(pipe_in), 0, &file);
    calls->codes[1] = sr_file_fd(on, file, &fd);
    calls->codes[2] = sr_file_detach(on, file, &fd);
    (void)close(fd);
    calls->codes[3] = sr_ring_get_stats(on, &stats);
    const sr_buffer buffer = buffer_take(pool);
    memset(buffer_bytes(pool, buffer, 4096), 1, 4096);
    calls->codes[4] = sr_pool_release(pool, buffer);
    const sr_request request = nop_with(note_call, calls, 2);
    calls->codes[5] = sr_ring_submit(on, &request, NULL);
    calls->codes[6] = sr_ring_flush(on);
}

CASE(ring_wait, a_callback_may_use_files_buffers_stats_and_flush, begin, end) {
    static struct calls calls;
    const sr_request request = nop_with(use_what_is_allowed, &calls, 1);
    (void)submit(ring, &request);
    assert_code(sr_ring_wait(ring, 2, SR_FOREVER, NULL, NULL), 0);
    for (uint32_t i = 0; i < 6; i++) {
        cr_assert_eq(calls.codes[i], 0, "%u: %s", i, sr_error_name(calls.codes[i]));
    }
    cr_assert_eq(calls.codes[6], 1, "flushed %d", calls.codes[6]);
    cr_assert_eq(calls.count, 2);
}

static void use_what_is_not(sr_ring *on, const sr_completion *completion, void *ctx) {
    struct calls *calls = ctx;
    const sr_completion *completions = completion;
    sr_ring *copy = on;
    note_call(on, completion, ctx);
    misuse_forget();
    calls->codes[0] = sr_ring_wait(on, 1, 0, NULL, &completions);
    cr_assert_null(completions);
    assert_misuse("sr_ring_wait", SR_E_STATE);
    calls->codes[1] = sr_ring_destroy(&copy);
    cr_assert_eq(copy, on);
    assert_misuse("sr_ring_destroy", SR_E_STATE);
    calls->codes[2] = sr_ring_attach_pool(on, pool);
    assert_misuse("sr_ring_attach_pool", SR_E_STATE);
    calls->codes[3] = sr_ring_detach_pool(on, pool);
    assert_misuse("sr_ring_detach_pool", SR_E_STATE);
    cr_assert_eq(completion->tag, 1, "the completion changed under the callback");
}

CASE(ring_wait, a_callback_neither_waits_nor_destroys_nor_moves_pools, begin, end) {
    static struct calls calls;
    const sr_completion *completions = NULL;
    (void)submit_nop(10);
    const sr_request request = nop_with(use_what_is_not, &calls, 1);
    (void)submit(ring, &request);
    (void)submit_nop(11);
    assert_code(wait_for(3, SR_FOREVER, &completions), 2);
    for (uint32_t i = 0; i < 4; i++) {
        assert_code(calls.codes[i], SR_E_STATE);
    }
    cr_assert(completions[0].tag == 10 && completions[1].tag == 11,
              "the refused calls disturbed the wait");
    /* Afterwards all of it is allowed again. */
    assert_ok(sr_ring_detach_pool(ring, pool));
    pool_attach(ring, pool);
}

CASE(ring_wait, an_abandoned_operation_never_calls_back, begin, end) {
    static struct calls calls;
    sr_request request = endless_read();
    request.on_complete = note_call;
    request.ctx = &calls;
    const sr_op op = submit(ring, &request);
    assert_ok(sr_op_abandon(ring, op, NULL));
    (void)submit_timeout(20 * MS);
    assert_code(wait_for(2, SR_FOREVER, NULL), 1);
    cr_assert_eq(calls.count, 0);
    cr_assert_eq(ring_stats(ring).ops_in_flight, 0);
}

/* ---- what comes out ---------------------------------------------------------------------------
 */

CASE(ring_wait, tag_and_ctx_come_back_with_their_operation, begin, end) {
    static char places[100];
    const sr_completion *completions = NULL;
    sr_op ops[100];
    for (uint32_t i = 0; i < 100; i++) {
        sr_request request = request_of(SR_OP_NOP);
        request.tag = UINT64_MAX - i;
        request.ctx = &places[i];
        ops[i] = submit(ring, &request);
    }
    assert_code(wait_for(100, SR_FOREVER, &completions), 100);
    for (uint32_t i = 0; i < 100; i++) { /* NOPs end in the order in which they were submitted */
        cr_assert_eq(completions[i].tag, UINT64_MAX - i);
        cr_assert_eq(completions[i].ctx, &places[i]);
        cr_assert_eq(completions[i].op.bits, ops[i].bits);
        cr_assert_eq(completions[i].opcode, SR_OP_NOP);
        cr_assert(completions[i].flags == 0 && completions[i].reserved == 0);
        cr_assert(completions[i].buffer.bits == 0 && completions[i].file.bits == 0);
        cr_assert_eq(completions[i].bytes_done, 0);
        assert_code(sr_op_cancel(ring, ops[i]), SR_E_STALE);
    }
}

CASE(ring_wait, the_array_stays_while_more_is_submitted_and_sent, begin, end) {
    const sr_completion *completions = NULL;
    (void)submit_nop(1);
    (void)submit_nop(2);
    assert_code(wait_for(2, SR_FOREVER, &completions), 2);
    for (uint64_t i = 10; i < 110; i++) {
        (void)submit_nop(i);
    }
    cr_assert_eq(sr_ring_flush(ring), 100);
    cr_assert(completions[0].tag == 1 && completions[1].tag == 2);
    assert_code(wait_for(100, SR_FOREVER, &completions), 100);
    cr_assert_eq(completions[0].tag, 10);
}

Test(ring_wait, the_array_comes_in_pages_of_completions_max) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.completions_max = 4;
    begin_with(&options);
    const int pages[] = {4, 4, 2};
    uint64_t tag = 0;
    for (uint64_t i = 0; i < 10; i++) {
        (void)submit_nop(i);
    }
    for (size_t page = 0; page < COUNT_OF(pages); page++) {
        const sr_completion *completions = NULL;
        assert_code(wait_for(10, SR_FOREVER, &completions), pages[page]);
        for (int i = 0; i < pages[page]; i++) {
            cr_assert_eq(completions[i].tag, tag++);
        }
    }
    assert_code(wait_for(1, SR_FOREVER, NULL), SR_E_IDLE);
    end();
}

Test(ring_wait, callbacks_do_not_fill_the_array) {
    static struct calls calls;
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.completions_max = 1;
    begin_with(&options);
    const sr_request request = nop_with(note_call, &calls, 0);
    for (uint32_t i = 0; i < 50; i++) {
        (void)submit(ring, &request);
    }
    assert_code(wait_for(50, SR_FOREVER, NULL), 0);
    cr_assert_eq(calls.count, 50);
    end();
}

/* ---- deadlines --------------------------------------------------------------------------------
 */

CASE(ring_wait, a_deadline_cancels_and_says_so, begin, end) {
    sr_request request = endless_read();
    request.deadline_ns = 30 * MS;
    const uint64_t start_ns = now_ns(); /* before the ring reads the clock */
    (void)submit(ring, &request);
    const sr_completion completion = wait_one(ring);
    assert_took(start_ns, 30 * MS, 5000 * MS);
    assert_code(completion.result, -ECANCELED);
    cr_assert_eq(completion.flags, SR_COMPLETION_DEADLINE_HIT | SR_COMPLETION_CANCEL_ASKED);
    cr_assert_eq(ring_stats(ring).deadlines_hit_total, 1);
    cr_assert_eq(ring_stats(ring).cancels_total, 1);
    memset(buffer_bytes(pool, request.buffer, 4096), 1, 4096); /* no longer lent */
}

CASE(ring_wait, an_operation_that_is_in_time_does_not_notice_its_deadline, begin, end) {
    sr_request request = endless_read();
    request.deadline_ns = HOUR;
    (void)submit(ring, &request);
    cr_assert_eq(write(pipe_in, "x", 1), 1);
    const sr_completion completion = wait_one(ring);
    cr_assert_eq(completion.result, 1);
    cr_assert_eq(completion.flags, 0);
    request.deadline_ns = UINT64_MAX;
    (void)submit(ring, &request);
    cr_assert_eq(write(pipe_in, "x", 1), 1);
    cr_assert_eq(wait_one(ring).flags, 0);
    cr_assert_eq(ring_stats(ring).deadlines_hit_total, 0);
}

CASE(ring_wait, deadlines_come_in_the_order_of_their_times, begin, end) {
    const uint64_t deadlines[] = {60, 20, 80, 40};
    const uint64_t order[] = {20, 40, 60, 80};
    for (size_t i = 0; i < COUNT_OF(deadlines); i++) {
        sr_request request = endless_read();
        request.deadline_ns = deadlines[i] * MS;
        request.tag = deadlines[i];
        (void)submit(ring, &request);
    }
    for (size_t i = 0; i < COUNT_OF(order);) {
        const sr_completion *completions = NULL;
        const int count = sr_ring_wait(ring, 1, SR_FOREVER, NULL, &completions);
        cr_assert_gt(count, 0); /* on a busy machine two may have passed */
        for (int n = 0; n < count; n++) {
            cr_assert_eq(completions[n].tag, order[i++]);
        }
    }
}

CASE(ring_wait, a_deadline_beyond_the_wait_is_kept_for_a_later_one, begin, end) {
    sr_request request = endless_read();
    request.deadline_ns = 60 * MS;
    (void)submit(ring, &request);
    assert_code(wait_for(1, 10 * MS, NULL), SR_E_TIMEOUT);
    cr_assert_eq(ring_stats(ring).deadlines_hit_total, 0);
    cr_assert_neq(wait_one(ring).flags & SR_COMPLETION_DEADLINE_HIT, 0);
}

CASE(ring_wait, a_deadline_that_has_passed_before_the_wait_is_seen_at_once, begin, end) {
    sr_request request = endless_read();
    request.deadline_ns = 1;
    (void)submit(ring, &request);
    const uint64_t start_ns = now_ns();
    const sr_completion completion = wait_one(ring);
    assert_took(start_ns, 0, 5000 * MS);
    assert_code(completion.result, -ECANCELED);
    cr_assert_neq(completion.flags & SR_COMPLETION_DEADLINE_HIT, 0);
}

/* ---- cancel and abandon -------------------------------------------------------------------------
 */

CASE(ring_wait, cancelling_is_asking_and_may_be_done_twice, begin, end) {
    sr_request request = endless_read();
    void *data = NULL;
    const sr_op op = submit(ring, &request);
    cr_assert_eq(sr_ring_flush(ring), 1);
    assert_ok(sr_op_cancel(ring, op));
    assert_ok(sr_op_cancel(ring, op));
    assert_code(sr_buffer_data(pool, request.buffer, 0, 1, SR_ACCESS_READ, &data), SR_E_LENT);
    misuse_forget();
    const sr_completion completion = wait_one(ring);
    assert_code(completion.result, -ECANCELED);
    cr_assert_eq(completion.flags, SR_COMPLETION_CANCEL_ASKED);
    cr_assert_eq(ring_stats(ring).cancels_total, 1);
    assert_code(sr_op_cancel(ring, op), SR_E_STALE);
}

CASE(ring_wait, an_operation_may_be_cancelled_before_it_was_sent, begin, end) {
    sr_request request = endless_read();
    const sr_op op = submit(ring, &request);
    assert_ok(sr_op_cancel(ring, op));
    assert_code(wait_one(ring).result, -ECANCELED);
    /* One that is quicker than its cancel is a success all the same. */
    const sr_op nop = submit_nop(1);
    assert_ok(sr_op_cancel(ring, nop));
    const sr_completion completion = wait_one(ring);
    assert_ok(completion.result);
    cr_assert_eq(completion.flags, SR_COMPLETION_CANCEL_ASKED);
    assert_code(wait_for(1, 0, NULL), SR_E_IDLE);
}

CASE(ring_wait, abandoning_gives_the_one_outcome_now_and_the_buffer_comes_back_later, begin, end) {
    sr_completion outcome;
    sr_request request = endless_read();
    request.tag = 5;
    request.ctx = &outcome;
    const sr_op op = submit(ring, &request);
    cr_assert_eq(sr_ring_flush(ring), 1);
    assert_ok(sr_op_abandon(ring, op, &outcome));
    cr_assert_eq(outcome.op.bits, op.bits);
    assert_code(outcome.result, SR_E_TIMEOUT);
    cr_assert(outcome.tag == 5 && outcome.ctx == &outcome && outcome.bytes_done == 0);
    cr_assert(outcome.buffer.bits == request.buffer.bits && outcome.buffer_length == 100);
    cr_assert_eq(ring_stats(ring).abandoned_total, 1);
    cr_assert_eq(ring_stats(ring).ops_abandoned, 1);
    cr_assert_eq(ring_stats(ring).bytes_quarantined, 100);
    cr_assert_eq(pool_stats(pool).quarantined_count, 1);
    assert_code(sr_op_abandon(ring, op, &outcome), SR_E_STALE);
    assert_code(sr_op_cancel(ring, op), SR_E_STALE);
    assert_code(sr_pool_release(pool, request.buffer), SR_E_STALE);
    misuse_forget();
    (void)submit_timeout(20 * MS);
    assert_code(wait_for(2, SR_FOREVER, NULL), 1); /* the time-out, and no second outcome */
    cr_assert_eq(pool_stats(pool).quarantined_count, 0);
    cr_assert_eq(pool_stats(pool).free_count, 8);
    cr_assert_eq(ring_stats(ring).ops_abandoned, 0);
    cr_assert_eq(ring_stats(ring).bytes_quarantined, 0);
}

CASE(ring_wait, abandoning_one_operation_takes_the_buffer_from_the_other_that_shares_it, begin,
     end) {
    void *data = NULL;
    sr_request first = endless_read();
    sr_request second = first;
    second.buffer_offset = 200;
    second.tag = 2;
    const sr_op abandoned = submit(ring, &first);
    (void)submit(ring, &second);
    cr_assert_eq(sr_ring_flush(ring), 2);
    assert_ok(sr_op_abandon(ring, abandoned, NULL));
    assert_code(sr_buffer_data(pool, first.buffer, 1000, 1, SR_ACCESS_READ, &data), SR_E_STALE);
    misuse_forget();
    assert_code(wait_for(1, 20 * MS, NULL), SR_E_TIMEOUT);
    cr_assert_eq(pool_stats(pool).quarantined_count, 1, "the other still has it");
    cr_assert_eq(write(pipe_in, "xy", 2), 2);
    const sr_completion completion = wait_one(ring);
    cr_assert(completion.tag == 2 && completion.result == 2);
    cr_assert_eq(pool_stats(pool).quarantined_count, 0);
    cr_assert_eq(pool_stats(pool).free_count, 8);
}

/* ---- sending ----------------------------------------------------------------------------------
 */

CASE(ring_wait, flushing_tells_how_many_were_sent, begin, end) {
    assert_code(sr_ring_flush(ring), 0);
    cr_assert_eq(ring_stats(ring).enters_total, 0, "entered the kernel with nothing to send");
    (void)submit_nop(1);
    (void)submit_nop(2);
    assert_code(sr_ring_flush(ring), 2);
    assert_code(sr_ring_flush(ring), 0);
    cr_assert_eq(ring_stats(ring).enters_total, 1);
    assert_code(wait_for(2, SR_FOREVER, NULL), 2);
}

CASE(ring_wait, a_batch_takes_one_system_call, begin, end) {
    for (uint32_t round = 1; round <= 3; round++) {
        for (uint32_t i = 0; i < 100; i++) {
            (void)submit_nop(i);
        }
        assert_code(wait_for(100, SR_FOREVER, NULL), 100);
        cr_assert_eq(ring_stats(ring).enters_total, round);
    }
}
