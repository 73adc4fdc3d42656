/* SPDX-License-Identifier: MIT */
/*
 * Every option does something that can be seen (DESIGN P10): those of rings and requests here; of
 * pools in test_pool.c, test_guard.c and test_protect.c, of regions in test_region.c and
 * test_placement.c, of waits in test_ring_wait.c, of files and the allocator below and in
 * test_hooks.c.
 */
#include "unit/fixture.h"

#include "support/failing.h"
#include "support/skip.h"
#include "support/slowfs.h"
#include "sys/uapi.h"
#include <dirent.h>
#include <time.h>

/* A new option changes these: it needs a test, here or in the file named above. */
_Static_assert(sizeof(sr_ring_options) == 88, "a new ring option needs a test");
_Static_assert(sizeof(sr_pool_options) == 32, "a new pool option needs a test");
_Static_assert(sizeof(sr_region_options) == 32, "a new region option needs a test");
_Static_assert(sizeof(sr_wait_options) == 24, "a new wait option needs a test");

#define MS   UINT64_C(1000000)
#define HOUR (3600000 * MS)

/* A test that waits in vain fails by itself, not with the whole program. */
TestSuite(ring_options, .timeout = 60);

static sr_ring_options defaults(void) {
    const sr_ring_options options = SR_RING_OPTIONS_INIT;
    return options;
}

static void sleep_ms(uint32_t ms) {
    const struct timespec duration = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    (void)nanosleep(&duration, NULL);
}

static sr_op submit_timeout(sr_ring *ring, uint64_t duration_ns) {
    sr_request request = request_of(SR_OP_TIMEOUT);
    request.duration_ns = duration_ns;
    return submit(ring, &request);
}

static int open_null(void) {
    const int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    return fd;
}

Test(ring_options, values_outside_of_their_ranges_are_refused) {
    sr_ring_options bad[19];
    size_t count = 0;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        bad[i] = defaults();
    }
    bad[count++].entries = 0;
    bad[count++].entries = 32769;
    bad[count++].entries = UINT32_MAX;
    bad[count++].ops_max = (1u << 20) + 1;
    bad[count++].ops_max = UINT32_MAX;
    bad[count++].files_max = 0;
    bad[count++].files_max = (1u << 20) + 1;
    bad[count++].fixed_files = 32769;
    bad[count++].fixed_files = UINT32_MAX;
    bad[count++].pools_max = 0;
    bad[count++].pools_max = 256;
    bad[count++].completions_max = 65537;
    bad[count++].completions_max = UINT32_MAX;
    bad[count++].inbox_entries = 1;
    bad[count++].inbox_entries = 3;
    bad[count++].inbox_entries = 131072;
    bad[count++].inbox_entries = UINT32_MAX;
    bad[count++].cq_entries = 64; /* fewer than entries */
    bad[count++].cq_entries = 65537;
    cr_assert_eq(count, COUNT_OF(bad));
    misuse_watch();
    for (size_t i = 0; i < count; i++) {
        sr_ring *ring = (sr_ring *)&bad[i];
        const int code = sr_ring_create(&bad[i], &ring);
        cr_assert_eq(code, SR_E_BOUNDS, "options %zu: %s", i, sr_error_name(code));
        cr_assert_null(ring);
        assert_misuse("sr_ring_create", SR_E_BOUNDS);
    }
}

Test(ring_options, the_smallest_and_the_largest_values_work) {
    sr_ring_options small = defaults();
    small.entries = small.ops_max = small.files_max = small.pools_max = small.completions_max = 1;
    small.fixed_files = 0;
    sr_ring *ring = ring_make(&small);
    sr_pool *pool = pool_make(64, 1);
    pool_attach(ring, pool);
    sr_request request = request_of(SR_OP_WRITE);
    request.file = file_take(ring, open_null());
    request.buffer = buffer_take(pool);
    request.length = 64;
    for (uint32_t i = 0; i < 10; i++) {
        cr_assert_eq(run(ring, &request).result, 64);
    }
    file_close(ring, request.file);
    ring_end(&ring);
    pool_end(&pool);

    sr_ring_options large = defaults();
    large.entries = 32768;
    large.ops_max = 65472;
    large.files_max = 1u << 20;
    large.pools_max = 255;
    large.completions_max = 65536;
    large.inbox_entries = 65536;
    ring = ring_make(&large);
    const sr_ring_stats stats = ring_stats(ring);
    cr_assert_eq(stats.sq_entries, 32768);
    cr_assert_eq(stats.cq_entries, 65536);
    cr_assert_eq(stats.ops_max, 65472);
    request = request_of(SR_OP_NOP);
    for (uint32_t i = 0; i < 65472; i++) {
        assert_ok(sr_ring_submit(ring, &request, NULL));
    }
    assert_code(sr_ring_submit(ring, &request, NULL), SR_E_FULL);
    assert_code(sr_ring_wait(ring, 65472, SR_FOREVER, NULL, NULL), 65472);
    cr_assert_eq(ring_stats(ring).cq_overflows_total, 0);
    ring_end(&ring);
}

/* ---- sizes ------------------------------------------------------------------------------------
 */

Test(ring_options, entries_is_how_many_operations_wait_to_be_sent) {
    const uint32_t asked[] = {1, 2, 3, 4, 100, 128, 129};
    const uint32_t got[] = {1, 2, 4, 4, 128, 128, 256};
    for (size_t i = 0; i < COUNT_OF(asked); i++) {
        sr_ring_options options = defaults();
        options.entries = asked[i];
        options.ops_max = 1000;
        sr_ring *ring = ring_make(&options);
        cr_assert_eq(ring_stats(ring).sq_entries, got[i]);
        sr_request nop = request_of(SR_OP_NOP);
        for (uint32_t n = 0; n < 2 * got[i] + 1; n++) {
            cr_assert_eq(ring_stats(ring).enters_total, n / got[i] - (n > 0 && n % got[i] == 0),
                         "%u entries, %u submitted", got[i], n);
            assert_ok(sr_ring_submit(ring, &nop, NULL));
        }
        cr_assert_eq(ring_stats(ring).sq_full_total, 2);
        assert_code(sr_ring_flush(ring), 1);
        ring_end(&ring);
    }
}

Test(ring_options, ops_max_is_how_many_operations_are_in_flight) {
    sr_ring_options options = defaults();
    options.ops_max = 5;
    sr_ring *ring = ring_make(&options);
    cr_assert_eq(ring_stats(ring).ops_max, 5);
    sr_op ops[5];
    for (uint32_t i = 0; i < 5; i++) {
        ops[i] = submit_timeout(ring, HOUR);
    }
    misuse_watch();
    sr_op op = {1};
    sr_request nop = request_of(SR_OP_NOP);
    assert_code(sr_ring_submit(ring, &nop, &op), SR_E_FULL);
    cr_assert_eq(op.bits, 0);
    nop.deadline_ns = HOUR; /* with a cold part: the other way through the library */
    assert_code(sr_ring_submit(ring, &nop, &op), SR_E_FULL);
    assert_no_misuse();
    cr_assert_eq(ring_stats(ring).submitted_total, 5);
    /* An abandoned operation is in flight until it has ended. */
    assert_ok(sr_op_abandon(ring, ops[0], NULL));
    assert_code(sr_ring_submit(ring, &nop, &op), SR_E_FULL);
    assert_ok(sr_op_cancel(ring, ops[1]));
    assert_code(wait_one(ring).result, -ECANCELED);
    (void)submit(ring, &nop);
    ring_end(&ring);
}

Test(ring_options, files_max_is_how_many_files_are_kept) {
    sr_ring_options options = defaults();
    options.files_max = 2;
    sr_ring *ring = ring_make(&options);
    const sr_file first = file_take(ring, open_null());
    sr_request request = request_of(SR_OP_OPENAT);
    request.path = "/dev/null";
    misuse_watch();
    sr_file none = {1};
    (void)submit(ring, &request); /* an open in flight has its place already */
    assert_code(sr_ring_submit(ring, &request, NULL), SR_E_FULL);
    const int fd = open_null();
    assert_code(sr_file_adopt(ring, fd, 0, &none), SR_E_FULL);
    cr_assert_eq(none.bits, 0);
    assert_no_misuse();
    const sr_completion opened = wait_one(ring);
    assert_ok(opened.result);
    cr_assert_eq(ring_stats(ring).files_open, 2);
    file_close(ring, first);
    assert_ok(sr_file_adopt(ring, fd, 0, &none));
    request.path = "/no such file"; /* a failed open gives its place back */
    file_close(ring, none);
    assert_code(run(ring, &request).result, -ENOENT);
    cr_assert_eq(ring_stats(ring).files_open, 1);
    ring_end(&ring);
}

/* ---- fixed files ------------------------------------------------------------------------------
 */

Test(ring_options, fixed_files_is_how_many_files_may_be_fixed) {
    sr_ring_options options = defaults();
    options.fixed_files = 3;
    sr_ring *ring = ring_make(&options);
    cr_assert_eq(ring_stats(ring).fixed_files, 3);
    cr_assert_eq(ring_stats(ring).fixed_files_error, 0);
    sr_file files[3];
    for (uint32_t i = 0; i < 3; i++) {
        assert_ok(sr_file_adopt(ring, open_null(), SR_FILE_FIXED, &files[i]));
        cr_assert_eq(ring_stats(ring).fixed_files_used, i + 1);
    }
    sr_file fourth = {1};
    int fd = open_null();
    misuse_watch();
    assert_code(sr_file_adopt(ring, fd, SR_FILE_FIXED, &fourth), SR_E_FULL);
    cr_assert_eq(fourth.bits, 0);
    assert_no_misuse();
    assert_ok(sr_file_adopt(ring, fd, 0, &fourth)); /* but it may be kept */
    file_close(ring, files[1]);
    cr_assert_eq(ring_stats(ring).fixed_files_used, 2);
    assert_ok(sr_file_adopt(ring, open_null(), SR_FILE_FIXED, &files[1]));
    assert_ok(sr_file_detach(ring, files[2], &fd));
    cr_assert_eq(ring_stats(ring).fixed_files_used, 2);
    (void)close(fd);
    ring_end(&ring);

    options.fixed_files = 0;
    ring = ring_make(&options);
    fd = open_null();
    assert_code(sr_file_adopt(ring, fd, SR_FILE_FIXED, &fourth), SR_E_FULL);
    (void)close(fd);
    ring_end(&ring);
}

Test(ring_options, a_fixed_file_spares_the_kernel_the_look_up_where_it_can) {
    struct failing_sqe sqe;
    failing_install();
    struct directory directory = directory_begin();
    sr_ring *ring = ring_make(NULL);
    sr_pool *pool = pool_make(4096, 1);
    pool_attach(ring, pool);
    sr_request request = request_of(SR_OP_FSYNC);
    for (uint32_t flags = 0; flags <= SR_FILE_FIXED; flags++) {
        const int fd = directory_file(&directory, flags == 0 ? "plain" : "fixed", "x", 1);
        assert_ok(sr_file_adopt(ring, fd, flags, &request.file));
        assert_ok(run(ring, &request).result);
        cr_assert(failing_sqe_newest(IORING_OP_FSYNC, &sqe));
        cr_assert_eq((sqe.flags & IOSQE_FIXED_FILE) != 0, flags == SR_FILE_FIXED);
        cr_assert_eq(sqe.fd == fd, flags == 0);
        file_close(ring, request.file);
    }
    ring_end(&ring);
    pool_end(&pool);
    directory_end(&directory);
    failing_remove();
}

Test(ring_options, flags_of_a_file_that_do_not_exist_are_refused) {
    sr_ring *ring = ring_make(NULL);
    sr_file file = {1};
    const int fd = open_null();
    misuse_watch();
    for (uint32_t bit = 1; bit < 32; bit++) {
        assert_code(sr_file_adopt(ring, fd, 1u << bit, &file), -EINVAL);
        cr_assert_eq(file.bits, 0);
        assert_misuse("sr_file_adopt", -EINVAL);
    }
    const int strange[] = {-1, INT32_MIN, 1000000};
    for (size_t i = 0; i < COUNT_OF(strange); i++) {
        assert_code(sr_file_adopt(ring, strange[i], 0, &file), -EBADF);
        assert_misuse("sr_file_adopt", -EBADF);
    }
    (void)close(fd);
    ring_end(&ring);
}

/* ---- pools ------------------------------------------------------------------------------------
 */

Test(ring_options, pools_max_is_how_many_pools_may_be_attached) {
    sr_ring_options options = defaults();
    options.pools_max = 2;
    sr_ring *ring = ring_make(&options);
    sr_pool *pools[3];
    for (uint32_t i = 0; i < 3; i++) {
        pools[i] = pool_make(64, 1);
    }
    pool_attach(ring, pools[0]);
    pool_attach(ring, pools[1]);
    misuse_watch();
    assert_code(sr_ring_attach_pool(ring, pools[2]), SR_E_FULL);
    assert_no_misuse();
    cr_assert_eq(pool_stats(pools[2]).rings_attached, 0);
    assert_code(sr_ring_attach_pool(ring, pools[0]), SR_E_STATE);
    assert_misuse("sr_ring_attach_pool", SR_E_STATE);
    assert_ok(sr_ring_detach_pool(ring, pools[0]));
    assert_code(sr_ring_detach_pool(ring, pools[0]), SR_E_STATE);
    assert_misuse("sr_ring_detach_pool", SR_E_STATE);
    pool_attach(ring, pools[2]);
    ring_end(&ring);
    for (uint32_t i = 0; i < 3; i++) {
        pool_end(&pools[i]);
    }
}

/* Writes through every buffer of @pool and looks at what the kernel was given: the buffer itself,
 * or with guard level protect the same bytes in another view. */
static void write_from(sr_ring *ring, sr_pool *pool, uint8_t expected_opcode) {
    struct failing_sqe sqe;
    sr_request request = request_of(SR_OP_WRITE);
    request.file = file_take(ring, open_null());
    request.length = 64;
    for (uint32_t i = 0; i < 3; i++) {
        request.buffer = buffer_take(pool);
        unsigned char *bytes = buffer_bytes(pool, request.buffer, 64);
        memset(bytes, 'a' + (int)i, 64);
        cr_assert_eq(run(ring, &request).result, 64);
        cr_assert(failing_sqe_newest(expected_opcode, &sqe));
        const bool second_view = pool_stats(pool).guard == SR_GUARD_PROTECT;
        cr_assert_eq(sqe.address != (uint64_t)(uintptr_t)bytes, second_view);
        cr_assert_eq(memcmp((const void *)(uintptr_t)sqe.address, bytes, 64), 0);
    }
    file_close(ring, request.file);
}

Test(ring_options, an_attached_pool_is_registered_or_plain_and_the_stats_say_which) {
    failing_install();
    sr_ring *ring = ring_make(NULL);
    sr_pool *first = pool_make(64, 3);
    sr_pool *second = pool_make(64, 3);
    const int code = sr_ring_attach_pool(ring, first);
    if (code == 1) {
        cr_assert_eq(ring_stats(ring).pools_registered, 1);
        cr_assert_eq(ring_stats(ring).register_error, 0);
        write_from(ring, first, IORING_OP_WRITE_FIXED);
    } else {
        cr_assert_lt(ring_stats(ring).register_error, 0, "plain without a reason");
    }
    failing_refuse_registration();
    assert_code(sr_ring_attach_pool(ring, second), 0);
    cr_assert_eq(ring_stats(ring).pools_plain, code == 1 ? 1 : 2);
    assert_code(ring_stats(ring).register_error, -ENOMEM);
    write_from(ring, second, IORING_OP_WRITE);
    ring_end(&ring);
    pool_end(&first);
    pool_end(&second);
    failing_remove();
}

/* ---- hooks and time -----------------------------------------------------------------------------
 */

struct event {
    int event;
    uint64_t op;
    uint64_t tag;
    int64_t value;
};

struct events {
    uint32_t count;
    struct event list[64];
};

static void note_event(int event, sr_op op, uint64_t tag, int64_t value, void *ctx) {
    struct events *events = ctx;
    if (events->count < COUNT_OF(events->list)) {
        events->list[events->count++] = (struct event){event, op.bits, tag, value};
    }
}

static void assert_event(const struct events *events, uint32_t at, struct event expected) {
    cr_assert_lt(at, events->count, "event %u did not come", at);
    const struct event *got = &events->list[at];
    cr_assert(got->event == expected.event && got->op == expected.op && got->tag == expected.tag &&
                  got->value == expected.value,
              "event %u: %d op %llx tag %llu value %lld", at, got->event,
              (unsigned long long)got->op, (unsigned long long)got->tag, (long long)got->value);
}

Test(ring_options, on_trace_hears_of_each_step_with_its_ctx) {
    static struct events events;
    sr_ring_options options = defaults();
    options.on_trace = note_event;
    options.trace_ctx = &events;
    sr_ring *ring = ring_make(&options);
    sr_request request = request_of(SR_OP_NOP);
    request.tag = 1;
    const sr_op nop = run(ring, &request).op;
    request = request_of(SR_OP_TIMEOUT);
    request.duration_ns = HOUR;
    request.tag = 2;
    const sr_op cancelled = submit(ring, &request);
    assert_ok(sr_op_cancel(ring, cancelled));
    (void)wait_one(ring);
    request.tag = 3;
    request.deadline_ns = MS;
    const sr_op late = submit(ring, &request);
    (void)wait_one(ring);
    request.tag = 4;
    request.deadline_ns = 0;
    const sr_op abandoned = submit(ring, &request);
    assert_ok(sr_op_abandon(ring, abandoned, NULL));

    const struct event expected[] = {
        {SR_TRACE_SUBMIT, nop.bits, 1, SR_OP_NOP},
        {SR_TRACE_COMPLETE, nop.bits, 1, 0},
        {SR_TRACE_SUBMIT, cancelled.bits, 2, SR_OP_TIMEOUT},
        {SR_TRACE_CANCEL, cancelled.bits, 2, 0},
        {SR_TRACE_COMPLETE, cancelled.bits, 2, -ECANCELED},
        {SR_TRACE_SUBMIT, late.bits, 3, SR_OP_TIMEOUT},
        {SR_TRACE_CANCEL, late.bits, 3, 1},
        {SR_TRACE_COMPLETE, late.bits, 3, -ECANCELED},
        {SR_TRACE_SUBMIT, abandoned.bits, 4, SR_OP_TIMEOUT},
        {SR_TRACE_CANCEL, abandoned.bits, 4, 0},
        {SR_TRACE_COMPLETE, abandoned.bits, 4, SR_E_TIMEOUT},
    };
    for (uint32_t i = 0; i < COUNT_OF(expected); i++) {
        assert_event(&events, i, expected[i]);
    }
    cr_assert_eq(events.count, COUNT_OF(expected));
    /* A refused request is no event. */
    request.op = SR_OP_COUNT;
    assert_code(sr_ring_submit(ring, &request, NULL), -EINVAL);
    cr_assert_eq(events.count, COUNT_OF(expected));
    ring_end(&ring);
}

/* A read that cannot be cancelled: the file system does not answer before the gate opens. */
static sr_op submit_gated_read(sr_ring *ring, sr_pool *pool, struct slowfs *fs, uint32_t index) {
    sr_request request = request_of(SR_OP_READ);
    request.flags = SR_REQUEST_ASYNC;
    request.file = file_take(ring, slowfs_open(fs, index, O_RDONLY));
    request.buffer = buffer_take(pool);
    request.length = 4096;
    return submit(ring, &request);
}

struct opener {
    struct slowfs *fs;
    uint32_t after_ms;
};

static void *open_gates(void *ctx) {
    const struct opener *opener = ctx;
    sleep_ms(opener->after_ms);
    for (uint32_t i = 0; i < SLOWFS_FILES; i++) {
        opener->fs->files[i].gate_closed = 0;
    }
    return NULL;
}

struct drain {
    int code;
    uint64_t took_ns;
    int pool_code; /* of destroying the pool right afterwards */
    int rings_left;
};

/* Destroys a ring that has a read at the gate, which opens after @open_after_ms. */
static struct drain drain_with(struct slowfs *fs, uint64_t drain_timeout_ns,
                               uint32_t open_after_ms) {
    struct drain drain;
    struct opener opener = {fs, open_after_ms};
    pthread_t thread;
    sr_ring_options options = defaults();
    options.drain_timeout_ns = drain_timeout_ns;
    sr_ring *ring = ring_make(&options);
    sr_pool *pool = pool_make(4096, 1);
    pool_attach(ring, pool);
    fs->files[0].gate_closed = 1;
    (void)submit_gated_read(ring, pool, fs, 0);
    const int sent = sr_ring_flush(ring);
    const int arrived = slowfs_wait(fs, 0, 1, 10000);
    const uint64_t start_ns = now_ns();
    const int no_thread = pthread_create(&thread, NULL, open_gates, &opener);
    drain.code = sr_ring_destroy(&ring);
    drain.took_ns = now_ns() - start_ns;
    drain.pool_code = sr_pool_destroy(&pool);
    /* Nothing may fail before the gate is open: a process with a read at the gate cannot end. */
    cr_assert_eq(pthread_join(thread, NULL), 0);
    drain.rings_left = sr_quarantine_sweep(20000 * MS);
    cr_assert(sent == 1 && arrived && no_thread == 0);
    cr_assert_null(ring);
    assert_ok(sr_pool_destroy(&pool));
    return drain;
}

Test(ring_options, drain_timeout_is_how_long_destroy_waits) {
    struct slowfs *fs = NULL;
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    const struct drain cut_off = drain_with(fs, 80 * MS, 600);
    assert_code(cut_off.code, SR_E_IN_FLIGHT);
    cr_assert(cut_off.took_ns >= 80 * MS && cut_off.took_ns < 500 * MS, "%llu ms",
              (unsigned long long)(cut_off.took_ns / MS));
    assert_code(cut_off.pool_code, SR_E_IN_FLIGHT);
    cr_assert_eq(cut_off.rings_left, 0);

    const struct drain in_time = drain_with(fs, 20000 * MS, 150);
    assert_ok(in_time.code);
    cr_assert(in_time.took_ns >= 150 * MS && in_time.took_ns < 15000 * MS, "%llu ms",
              (unsigned long long)(in_time.took_ns / MS));
    assert_ok(in_time.pool_code);
    slowfs_stop(&fs);
}

struct workers_run {
    struct slowfs *fs;
    uint32_t workers_max;
    uint32_t expected;
    int workers_error;
    int sent;
    int ended;
    uint32_t at_once; /* reads that the file system has seen and not answered */
};

static uint32_t reads_waiting(const struct slowfs *fs) {
    uint32_t waiting = 0;
    for (uint32_t i = 0; i < SLOWFS_FILES; i++) {
        waiting += fs->files[i].waiting_count;
    }
    return waiting;
}

/* On a thread of its own: kernel workers belong to the thread, and a limit outlives the ring. */
static void *count_workers(void *ctx) {
    struct workers_run *with = ctx;
    sr_ring_options options = defaults();
    options.workers_max = with->workers_max;
    sr_ring *ring = ring_make(&options);
    sr_pool *pool = pool_make(4096, SLOWFS_FILES);
    pool_attach(ring, pool);
    with->workers_error = ring_stats(ring).workers_error;
    for (uint32_t i = 0; i < SLOWFS_FILES; i++) {
        with->fs->files[i].gate_closed = 1;
        (void)submit_gated_read(ring, pool, with->fs, i);
    }
    with->sent = sr_ring_flush(ring);
    /* As many as shall come, then a while in which no more may. */
    for (uint32_t ms = 0; ms < 10000 && reads_waiting(with->fs) < with->expected; ms++) {
        sleep_ms(1);
    }
    sleep_ms(100);
    with->at_once = reads_waiting(with->fs);
    /* Before anything can fail: a process with a read at the gate cannot end. */
    struct opener opener = {with->fs, 0};
    (void)open_gates(&opener);
    with->ended = sr_ring_wait(ring, SLOWFS_FILES, SR_FOREVER, NULL, NULL);
    ring_end(&ring);
    pool_end(&pool);
    return NULL;
}

Test(ring_options, workers_max_is_how_many_blocking_operations_run_at_once) {
    const uint32_t limits[] = {0, 1, 2};
    const uint32_t at_once[] = {SLOWFS_FILES, 1, 2};
    struct slowfs *fs = NULL;
    /* Asynchronous direct I/O would leave the worker free while the answer is outstanding. */
    SKIP_BECAUSE(slowfs_start(&fs, SLOWFS_SYNC));
    for (size_t i = 0; i < COUNT_OF(limits); i++) {
        struct workers_run with = {.fs = fs, .workers_max = limits[i], .expected = at_once[i]};
        thread_run(count_workers, &with);
        assert_ok(with.workers_error);
        cr_assert(with.sent == SLOWFS_FILES && with.ended == SLOWFS_FILES, "%d sent, %d ended",
                  with.sent, with.ended);
        cr_assert_eq(with.at_once, at_once[i], "workers_max %u: %u at once", limits[i],
                     with.at_once);
    }
    slowfs_stop(&fs);
}

/* ---- flags of requests and of close
 * ---------------------------------------------------------------- */

/* Threads of this process that the kernel made to work for a ring. */
static uint32_t kernel_workers(void) {
    uint32_t count = 0;
    DIR *tasks = opendir("/proc/self/task");
    cr_assert_not_null(tasks);
    for (const struct dirent *task; (task = readdir(tasks)) != NULL;) {
        char path[300];
        char name[32] = "";
        (void)snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        FILE *comm = fopen(path, "r");
        if (comm != NULL) {
            count += fgets(name, sizeof name, comm) != NULL && strncmp(name, "iou-wrk", 7) == 0;
            (void)fclose(comm);
        }
    }
    (void)closedir(tasks);
    return count;
}

Test(ring_options, async_requests_run_in_kernel_workers_and_others_do_not) {
    struct directory directory = directory_begin();
    sr_ring *ring = ring_make(NULL);
    sr_request request = request_of(SR_OP_FTRUNCATE);
    request.file = file_take(ring, directory_file(&directory, "file", "x", 1));
    request.op = SR_OP_FADVISE;
    if (ring_stats(ring).backend == SR_BACKEND_FALLBACK) {
        file_close(ring, request.file);
        ring_end(&ring);
        directory_end(&directory);
        cr_skip_test("not on the fallback: what may block goes to its own workers in any case");
    }
    assert_ok(run(ring, &request).result);
    cr_assert_eq(kernel_workers(), 0);
    request.flags = SR_REQUEST_ASYNC;
    assert_ok(run(ring, &request).result);
    cr_assert_geq(kernel_workers(), 1);
    file_close(ring, request.file);
    ring_end(&ring);
    directory_end(&directory);
}

Test(ring_options, full_requests_go_on_after_a_short_transfer_and_others_do_not) {
    int ends[2];
    sr_ring *ring = ring_make(NULL);
    sr_pool *pool = pool_make(4096, 1);
    pool_attach(ring, pool);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    sr_request request = request_of(SR_OP_READ);
    request.file = file_take(ring, ends[0]);
    request.buffer = buffer_take(pool);
    request.length = 10;
    request.offset = SR_OFFSET_CURRENT;
    cr_assert_eq(write(ends[1], "01234", 5), 5);
    cr_assert_eq(run(ring, &request).result, 5);
    cr_assert_eq(ring_stats(ring).short_transfers_total, 0);
    request.flags = SR_REQUEST_FULL;
    cr_assert_eq(write(ends[1], "01234", 5), 5);
    (void)submit(ring, &request);
    assert_code(sr_ring_wait(ring, 1, 20 * MS, NULL, NULL), SR_E_TIMEOUT);
    cr_assert_eq(ring_stats(ring).short_transfers_total, 1);
    (void)close(ends[1]); /* end of file: what there is */
    const sr_completion completion = wait_one(ring);
    cr_assert_eq(completion.result, 5);
    cr_assert_eq(completion.bytes_done, 5);
    ring_end(&ring);
    pool_end(&pool);
}

Test(ring_options, a_cancelled_full_transfer_tells_what_it_had_done) {
    int ends[2];
    sr_ring *ring = ring_make(NULL);
    sr_pool *pool = pool_make(4096, 1);
    pool_attach(ring, pool);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    sr_request request = request_of(SR_OP_READ);
    request.flags = SR_REQUEST_FULL;
    request.file = file_take(ring, ends[0]);
    request.buffer = buffer_take(pool);
    request.length = 10;
    request.offset = SR_OFFSET_CURRENT;
    cr_assert_eq(write(ends[1], "0123", 4), 4);
    const sr_op op = submit(ring, &request);
    assert_code(sr_ring_wait(ring, 1, 20 * MS, NULL, NULL), SR_E_TIMEOUT);
    assert_ok(sr_op_cancel(ring, op));
    const sr_completion completion = wait_one(ring);
    assert_code(completion.result, -ECANCELED);
    cr_assert_eq(completion.bytes_done, 4);
    cr_assert_eq(memcmp(buffer_bytes(pool, request.buffer, 4096), "0123", 4), 0);
    (void)close(ends[1]);
    ring_end(&ring);
    pool_end(&pool);
}

Test(ring_options, close_waits_for_operations_and_with_the_flag_cancels_them) {
    for (uint32_t op_flags = 0; op_flags <= SR_CLOSE_CANCEL; op_flags++) {
        int ends[2];
        const sr_completion *completions = NULL;
        sr_ring *ring = ring_make(NULL);
        sr_pool *pool = pool_make(4096, 1);
        pool_attach(ring, pool);
        cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
        sr_request request = request_of(SR_OP_READ);
        request.file = file_take(ring, ends[0]);
        request.buffer = buffer_take(pool);
        request.length = 10;
        request.offset = SR_OFFSET_CURRENT;
        const sr_op reading = submit(ring, &request);
        request.op = SR_OP_CLOSE;
        request.op_flags = op_flags;
        const sr_op closing = submit(ring, &request);
        if (op_flags == 0) {
            assert_code(sr_ring_wait(ring, 1, 30 * MS, NULL, NULL), SR_E_TIMEOUT);
            cr_assert_geq(fcntl(ends[0], F_GETFD), 0, "closed under an operation");
            cr_assert_eq(write(ends[1], "x", 1), 1);
        }
        assert_code(sr_ring_wait(ring, 2, SR_FOREVER, NULL, &completions), 2);
        cr_assert_eq(completions[0].op.bits, reading.bits);
        assert_code(completions[0].result, op_flags == 0 ? 1 : -ECANCELED);
        cr_assert_eq(completions[0].flags, op_flags == 0 ? 0 : SR_COMPLETION_CANCEL_ASKED);
        cr_assert_eq(completions[1].op.bits, closing.bits);
        assert_ok(completions[1].result);
        cr_assert_lt(fcntl(ends[0], F_GETFD), 0);
        (void)close(ends[1]);
        ring_end(&ring);
        pool_end(&pool);
    }
}

Test(ring_options, a_detached_file_is_the_callers_again) {
    int ends[2];
    int fd = -1;
    sr_ring *ring = ring_make(NULL);
    sr_pool *pool = pool_make(4096, 1);
    pool_attach(ring, pool);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    sr_request request = request_of(SR_OP_READ);
    request.file = file_take(ring, ends[0]);
    request.buffer = buffer_take(pool);
    request.length = 10;
    request.offset = SR_OFFSET_CURRENT;
    (void)submit(ring, &request);
    misuse_watch();
    assert_code(sr_file_detach(ring, request.file, &fd), SR_E_IN_FLIGHT);
    cr_assert_eq(fd, -1);
    assert_misuse("sr_file_detach", SR_E_IN_FLIGHT);
    cr_assert_eq(write(ends[1], "x", 1), 1);
    (void)wait_one(ring);
    assert_ok(sr_file_detach(ring, request.file, &fd));
    cr_assert_eq(fd, ends[0]);
    assert_code(sr_file_fd(ring, request.file, &fd), SR_E_STALE);
    ring_end(&ring);
    cr_assert_geq(fcntl(ends[0], F_GETFD), 0, "the ring closed it all the same");
    pool_end(&pool);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

Test(ring_options, files_that_the_ring_keeps_are_closed_with_it) {
    sr_ring *ring = ring_make(NULL);
    const int plain = open_null();
    const int fixed = open_null();
    sr_file file;
    (void)file_take(ring, plain);
    assert_ok(sr_file_adopt(ring, fixed, SR_FILE_FIXED, &file));
    ring_end(&ring);
    cr_assert_lt(fcntl(plain, F_GETFD), 0);
    cr_assert_lt(fcntl(fixed, F_GETFD), 0);
}
