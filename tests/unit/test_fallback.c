/* SPDX-License-Identifier: MIT */
/* The backend without io_uring: how a ring comes to it, and what cannot be the same on it
 * (docs/KERNEL.md). That all else is the same is what `ctest -C fallback` says. */
#include "unit/fixture.h"

#include "support/deny.h"
#include "support/skip.h"
#include "support/sleeper.h"
#include "support/slowfs.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <termios.h>

#define MS UINT64_C(1000000)

TestSuite(fallback, .timeout = 60);

/* The thread-local memory of a program lies on the stacks of its threads, those of the workers too:
 * what they run below blocks this thread instead if they cannot be had. */
static _Thread_local char thread_local_megabyte[1 << 20] __attribute__((used));

static sr_ring_options options_of(uint32_t backend) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.backend = backend;
    return options;
}

static sr_ring *fallback_ring(void) {
    const sr_ring_options options = options_of(SR_BACKEND_FALLBACK);
    return ring_make(&options);
}

/* ---- the choice ----------------------------------------------------------------------------- */

Test(fallback, a_ring_on_the_fallback_says_so) {
    sr_ring *ring = fallback_ring();
    const sr_ring_stats stats = ring_stats(ring);
    cr_assert_eq(stats.backend, SR_BACKEND_FALLBACK);
    cr_assert_eq(stats.backend_error, 0, "it was asked for");
    cr_assert_eq(stats.setup_flags, 0);
    cr_assert_eq(stats.ring_fd_registered, 0);
    cr_assert_eq(stats.fixed_files, 64);
    ring_end(&ring);
}

Test(fallback, a_backend_that_does_not_exist_is_refused) {
    misuse_watch();
    for (uint32_t i = 0; i < 2; i++) {
        sr_ring_options options = options_of(i == 0 ? 3 : SR_BACKEND_ANY);
        sr_ring *ring = NULL;
        options.reserved = i;
        assert_code(sr_ring_create(&options, &ring), SR_E_BOUNDS);
        cr_assert_null(ring);
        assert_misuse("sr_ring_create", SR_E_BOUNDS);
    }
}

static void create_denied(void *ctx) {
    const int code = *(const int *)ctx;
    const char *reason = deny_io_uring(code);
    if (reason != NULL) {
        fprintf(stderr, "skip: %s", reason);
        return;
    }
    /* No assertions: Criterion's need the process that they were made for. */
    sr_ring *ring = NULL;
    sr_ring_stats stats = SR_RING_STATS_INIT;
    const sr_ring_options uring = options_of(SR_BACKEND_URING);
    const sr_request nop = request_of(SR_OP_NOP);
    const bool is_refused = sr_ring_create(&uring, &ring) == -code && ring == NULL;
    const bool works = sr_ring_create(NULL, &ring) == 0 && sr_ring_submit(ring, &nop, NULL) == 0 &&
                       sr_ring_wait(ring, 1, SR_FOREVER, NULL, NULL) == 1 &&
                       sr_ring_get_stats(ring, &stats) == 0 && sr_ring_destroy(&ring) == 0;
    fprintf(stderr, "%d %d %d %d", is_refused, works, stats.backend == SR_BACKEND_FALLBACK,
            stats.backend_error == -code);
}

Test(fallback, a_ring_goes_there_by_itself_where_io_uring_is_denied) {
    static const int codes[] = {EPERM, ENOSYS};
    static struct child_end end;
    assert_ok(unsetenv("SAFERING_BACKEND"));
    for (size_t i = 0; i < COUNT_OF(codes); i++) {
        int code = codes[i];
        child_run(create_denied, &code, &end);
        if (strncmp(end.words, "skip: ", 6) == 0) {
            cr_skip_test("%s", end.words);
        }
        cr_assert(!end.died && strcmp(end.words, "1 1 1 1") == 0, "%s", end.words);
    }
}

static void create_wished(void *ctx) {
    const char *wish = ctx;
    sr_ring *ring = NULL;
    sr_ring_stats stats = SR_RING_STATS_INIT;
    (void)setenv("SAFERING_BACKEND", wish, 1);
    if (sr_ring_create(NULL, &ring) == 0 && sr_ring_get_stats(ring, &stats) == 0 &&
        sr_ring_destroy(&ring) == 0) {
        fprintf(stderr, "%u %d", stats.backend, stats.backend_error);
    }
}

Test(fallback, the_environment_chooses_for_rings_that_do_not) {
    static struct child_end end;
    char wishes[3][16] = {"fallback", "nonsense", ""};
    for (size_t i = 0; i < COUNT_OF(wishes); i++) {
        child_run(create_wished, wishes[i], &end);
        cr_assert(!end.died && end.words[0] != '\0', "%s", end.words);
        const bool is_fallback = strncmp(end.words, "2 ", 2) == 0;
        /* Where io_uring is denied it is the fallback in any case, but then with a reason. */
        cr_assert(i == 0 ? strcmp(end.words, "2 0") == 0 : !is_fallback || end.words[2] == '-',
                  "%s: %s", wishes[i], end.words);
    }
}

/* ---- differences ---------------------------------------------------------------------------- */

static sr_completion write_to(sr_ring *ring, sr_pool *pool, sr_buffer buffer, int fd) {
    sr_request request = request_of(SR_OP_WRITE);
    (void)pool;
    request.file = file_take(ring, fd);
    request.buffer = buffer;
    request.length = 1;
    request.offset = SR_OFFSET_CURRENT;
    return run(ring, &request);
}

Test(fallback, nobody_is_killed_by_a_broken_pipe) {
    int ends[2];
    sigset_t pending;
    sr_ring *ring = fallback_ring();
    sr_pool *pool = pool_make(64, 1);
    pool_attach(ring, pool);
    const sr_buffer buffer = buffer_take(pool);
    cr_assert_eq(signal(SIGPIPE, SIG_DFL) == SIG_ERR, 0);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    cr_assert_eq(close(ends[0]), 0);
    assert_code(write_to(ring, pool, buffer, ends[1]).result, -EPIPE);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    cr_assert_eq(close(ends[0]), 0);
    assert_code(write_to(ring, pool, buffer, ends[1]).result, -EPIPE);
    cr_assert_eq(sigpending(&pending), 0);
    cr_assert_eq(sigismember(&pending, SIGPIPE), 0);

    /* One that was there before is not taken away. */
    sigset_t broken_pipe;
    cr_assert(sigemptyset(&broken_pipe) == 0 && sigaddset(&broken_pipe, SIGPIPE) == 0);
    cr_assert_eq(pthread_sigmask(SIG_BLOCK, &broken_pipe, NULL), 0);
    cr_assert_eq(raise(SIGPIPE), 0);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    cr_assert_eq(close(ends[0]), 0);
    assert_code(write_to(ring, pool, buffer, ends[1]).result, -EPIPE);
    cr_assert_eq(sigpending(&pending), 0);
    cr_assert_eq(sigismember(&pending, SIGPIPE), 1);
    ring_end(&ring);
    pool_end(&pool);
}

static sr_request open_fifo(const char *path) {
    sr_request request = request_of(SR_OP_OPENAT);
    request.path = path;
    request.op_flags = O_RDONLY;
    return request;
}

/* The writing end, once somebody is about to open the reading one; -1 if nobody is. */
static int open_writer(const char *path, uint32_t patience_ms) {
    int fd = -1;
    for (uint32_t i = 0; i <= patience_ms && fd < 0; i++) {
        fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        (void)usleep(fd < 0 ? 1000 : 0);
    }
    return fd;
}

Test(fallback, a_running_operation_cannot_be_cancelled) {
    char path[160];
    struct directory directory = directory_begin();
    sr_ring *ring = fallback_ring();
    (void)snprintf(path, sizeof path, "%s/fifo", directory.path);
    cr_assert_eq(mkfifo(path, 0600), 0);
    const sr_request request = open_fifo(path);
    const sr_op op = submit(ring, &request);
    assert_code(sr_ring_flush(ring), 1);
    (void)usleep(100000); /* it is in open(2) now */
    assert_ok(sr_op_cancel(ring, op));
    assert_code(sr_ring_wait(ring, 1, 100 * MS, NULL, NULL), SR_E_TIMEOUT);
    const int writer = open_writer(path, 0);
    cr_assert_geq(writer, 0, "%s", strerror(errno));
    const sr_completion completion = wait_one(ring);
    assert_ok(completion.result);
    cr_assert_eq(completion.flags, SR_COMPLETION_CANCEL_ASKED);
    cr_assert_eq(ring_stats(ring).cancels_total, 1, "asking again is of no use");
    ring_end(&ring);
    cr_assert_eq(close(writer), 0);
    directory_end(&directory);
}

Test(fallback, no_more_run_at_once_than_workers_max) {
    enum { FIFOS = 3 };
    char paths[FIFOS][160];
    int writers[FIFOS];
    sr_ring_options options = options_of(SR_BACKEND_FALLBACK);
    struct directory directory = directory_begin();
    options.workers_max = FIFOS - 1;
    sr_ring *ring = ring_make(&options);
    for (int i = 0; i < FIFOS; i++) {
        (void)snprintf(paths[i], sizeof paths[i], "%s/fifo%d", directory.path, i);
        cr_assert_eq(mkfifo(paths[i], 0600), 0);
        const sr_request request = open_fifo(paths[i]);
        (void)submit(ring, &request);
    }
    assert_code(sr_ring_flush(ring), FIFOS);
    (void)usleep(100000);
    cr_assert_eq(open_writer(paths[FIFOS - 1], 50), -1, "the third open runs too");
    for (int i = 0; i < FIFOS; i++) {
        writers[i] = open_writer(paths[i], 5000);
        cr_assert_geq(writers[i], 0);
    }
    const sr_completion *completions = NULL;
    assert_code(sr_ring_wait(ring, FIFOS, SR_FOREVER, NULL, &completions), FIFOS);
    for (int i = 0; i < FIFOS; i++) {
        assert_ok(completions[i].result);
        cr_assert_eq(close(writers[i]), 0);
    }
    ring_end(&ring);
    directory_end(&directory);
}

Test(fallback, files_of_running_operations_stay_open_until_the_sweep) {
    struct slowfs *fs = NULL;
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    sr_ring_options options = options_of(SR_BACKEND_FALLBACK);
    options.drain_timeout_ns = 0;
    sr_ring *ring = ring_make(&options);
    sr_pool *pool = pool_make(4096, 2);
    pool_attach(ring, pool);
    const int used = slowfs_open(fs, 0, O_RDONLY);
    const int unused = slowfs_open(fs, 1, O_RDONLY);
    sr_request request = request_of(SR_OP_READ);
    request.file = file_take(ring, used);
    request.buffer = buffer_take(pool);
    request.length = 4096;
    (void)file_take(ring, unused);
    fs->files[0].gate_closed = 1;
    (void)submit(ring, &request);
    assert_code(sr_ring_flush(ring), 1);
    cr_assert(slowfs_wait(fs, 0, 1, 5000));
    assert_code(sr_ring_destroy(&ring), SR_E_IN_FLIGHT);
    cr_assert_eq(fcntl(unused, F_GETFD), -1);
    cr_assert_neq(fcntl(used, F_GETFD), -1, "the worker may not have looked it up yet");
    assert_code(sr_quarantine_sweep(0), 1);
    fs->files[0].gate_closed = 0;
    assert_code(sr_quarantine_sweep(5000 * MS), 0);
    cr_assert_eq(fcntl(used, F_GETFD), -1);
    pool_end(&pool);
    slowfs_stop(&fs);
}

Test(fallback, registered_memory_is_only_checked) {
    sr_ring *ring = fallback_ring();
    sr_pool *pool = pool_make(1u << 20, 64);
    assert_code(sr_ring_attach_pool(ring, pool), 1);
    char line[128];
    unsigned long locked_kib = 1;
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status) != NULL) {
        (void)sscanf(line, "VmPin: %lu kB", &locked_kib);
    }
    (void)fclose(status);
    cr_assert_eq(locked_kib, 0);
    ring_end(&ring);
    pool_end(&pool);
}

/* ---- while the one worker is busy ------------------------------------------------------------ */

/* A ring with one worker, which opens a FIFO: what else wants it waits. So a test can do something
 * between the moment when an operation becomes possible and the moment when the worker comes. */
static struct {
    struct directory directory;
    char path[160];
    sr_ring *ring;
    sr_pool *pool;
} busy;

static void busy_begin(void) {
    sr_ring_options options = options_of(SR_BACKEND_FALLBACK);
    options.workers_max = 1;
    busy.directory = directory_begin();
    busy.ring = ring_make(&options);
    busy.pool = pool_make(4096, 4);
    pool_attach(busy.ring, busy.pool);
    (void)snprintf(busy.path, sizeof busy.path, "%s/fifo", busy.directory.path);
    cr_assert_eq(mkfifo(busy.path, 0600), 0);
    const sr_request request = open_fifo(busy.path);
    (void)submit(busy.ring, &request);
    assert_code(sr_ring_flush(busy.ring), 1);
    cr_assert(sleeper_wait(getpid(), SLEEPER_OTHERS, SYS_openat2, 10000));
}

/* Now the worker comes to what waits for it; that of the FIFO is the first of @count completions.
 */
static void busy_relent(int count) {
    const sr_completion *completions = NULL;
    const int writer = open_writer(busy.path, 0);
    cr_assert_geq(writer, 0, "%s", strerror(errno));
    for (int ended = 0; ended < count;) {
        const int more = sr_ring_wait(busy.ring, 1, SR_FOREVER, NULL, &completions);
        for (int i = 0; i < more; i++, ended++) {
            const sr_completion *each = &completions[i];
            cr_assert_eq(each->opcode == SR_OP_OPENAT, ended == 0);
            assert_code(each->result, each->opcode == SR_OP_READV ? 10 : 0);
            cr_assert(each->opcode != SR_OP_STATX || each->statx->stx_size == 10);
        }
    }
    cr_assert_eq(close(writer), 0);
}

static void busy_end(void) {
    ring_end(&busy.ring);
    pool_end(&busy.pool);
    directory_end(&busy.directory);
}

/* Sends @request, has it wait for @fd, makes @fd ready by @feed, has another process take what came
 * by @steal, and lets the worker find nothing: it sleeps in @number. The cancel that is asked for
 * then changes nothing; what is fed next ends the operation. */
static sr_completion beaten_to_it(const sr_request *request, int fd, void (*feed)(int), int feed_fd,
                                  bool (*steal)(int), long number) {
    const sr_completion *completions = NULL;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    int status = -1;
    const sr_op op = submit(busy.ring, request);
    assert_code(sr_ring_flush(busy.ring), 1);
    feed(feed_fd);
    cr_assert_eq(poll(&ready, 1, 10000), 1);
    assert_code(sr_ring_wait(busy.ring, 0, 0, NULL, &completions), 0); /* it is the worker's now */
    const pid_t other = fork();
    cr_assert_geq(other, 0);
    if (other == 0) {
        _exit(steal(fd) ? 0 : 1);
    }
    cr_assert_eq(waitpid(other, &status, 0), other);
    cr_assert_eq(status, 0, "the other process got nothing");
    busy_relent(1);
    cr_assert(sleeper_wait(getpid(), SLEEPER_OTHERS, number, 10000), "the worker does not wait");
    assert_ok(sr_op_cancel(busy.ring, op));
    assert_code(sr_ring_wait(busy.ring, 1, 100 * MS, NULL, &completions), SR_E_TIMEOUT);
    feed(feed_fd);
    const sr_completion completion = wait_one(busy.ring);
    cr_assert_eq(completion.op.bits, op.bits);
    cr_assert_eq(completion.flags, SR_COMPLETION_CANCEL_ASKED);
    cr_assert_eq(ring_stats(busy.ring).cancels_total, 1, "asking again is of no use");
    return completion;
}

static struct sockaddr_in listening;
static int clients[2] = {-1, -1};

static void connect_one(int unused) {
    int *client = clients[0] < 0 ? &clients[0] : &clients[1];
    (void)unused;
    *client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(*client, (const struct sockaddr *)&listening, sizeof listening), 0);
}

static bool steal_connection(int listener) {
    return accept4(listener, NULL, NULL, SOCK_CLOEXEC) >= 0;
}

Test(fallback, a_worker_that_is_beaten_to_a_connection_waits_for_the_next) {
    struct sockaddr_in peer;
    struct sockaddr_in second;
    socklen_t size = sizeof listening;
    busy_begin();
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    listening = (struct sockaddr_in){.sin_family = AF_INET};
    listening.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_eq(bind(listener, (const struct sockaddr *)&listening, sizeof listening), 0);
    cr_assert_eq(listen(listener, 4), 0);
    cr_assert_eq(getsockname(listener, (struct sockaddr *)&listening, &size), 0);
    sr_request request = request_of(SR_OP_ACCEPT);
    request.file = file_take(busy.ring, listener);
    const sr_completion completion =
        beaten_to_it(&request, listener, connect_one, -1, steal_connection, SYS_accept4);
    assert_ok(completion.result);
    cr_assert_eq(getsockname(clients[1], (struct sockaddr *)&second, &size), 0);
    memcpy(&peer, completion.message->address, sizeof peer);
    cr_assert_eq(peer.sin_port, second.sin_port, "not the second one");
    cr_assert_eq(close(clients[0]) + close(clients[1]), 0);
    busy_end();
}

static void type_a_line(int terminal) {
    cr_assert_eq(write(terminal, "line", 4), 4);
}

static bool steal_line(int terminal) {
    char line[8];
    return read(terminal, line, sizeof line) == 4;
}

static bool knows_nowait(int fd) {
    char byte;
    const struct iovec vector = {&byte, 1};
    return preadv2(fd, &vector, 1, -1, RWF_NOWAIT) >= 0 || errno != EOPNOTSUPP;
}

Test(fallback, a_worker_that_is_beaten_to_a_terminal_waits_for_the_next_line) {
    struct termios raw;
    const int far = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    cr_assert(far >= 0 && grantpt(far) == 0 && unlockpt(far) == 0, "%s", strerror(errno));
    const int near = open(ptsname(far), O_RDWR | O_NOCTTY | O_CLOEXEC);
    cr_assert(near >= 0 && tcgetattr(near, &raw) == 0);
    cfmakeraw(&raw);
    cr_assert_eq(tcsetattr(near, TCSANOW, &raw), 0);
    if (knows_nowait(near)) {
        cr_skip_test("this kernel reads terminals with RWF_NOWAIT");
    }
    busy_begin();
    sr_request request = request_of(SR_OP_READ);
    request.file = file_take(busy.ring, near);
    request.buffer = buffer_take(busy.pool);
    request.length = 100;
    request.offset = SR_OFFSET_CURRENT;
    const sr_completion completion =
        beaten_to_it(&request, near, type_a_line, far, steal_line, SYS_preadv2);
    assert_code(completion.result, 4);
    cr_assert_eq(memcmp(buffer_bytes(busy.pool, request.buffer, 4), "line", 4), 0);
    busy_end();
    cr_assert_eq(close(far), 0);
}

Test(fallback, paths_and_vectors_stay_with_the_ring_until_a_worker_reads_them) {
    char path[160];
    busy_begin();
    (void)snprintf(path, sizeof path, "%s/file", busy.directory.path);
    const sr_file file =
        file_take(busy.ring, directory_file(&busy.directory, "file", "0123456789", 10));
    sr_slice slices[2] = {{buffer_take(busy.pool), 10, 4}, {buffer_take(busy.pool), 20, 6}};
    const sr_slice kept[2] = {slices[0], slices[1]};
    sr_request request = request_of(SR_OP_STATX);
    request.path = path;
    request.mask = STATX_SIZE;
    (void)submit(busy.ring, &request);
    request = request_of(SR_OP_READV);
    request.file = file;
    request.slices = slices;
    request.slice_count = 2;
    (void)submit(busy.ring, &request);
    assert_code(sr_ring_flush(busy.ring), 2);
    memset(path, 'x', sizeof path);
    memset(slices, 0xff, sizeof slices);
    busy_relent(3);
    cr_assert_eq(memcmp(buffer_bytes(busy.pool, kept[0].buffer, 14) + 10, "0123", 4), 0);
    cr_assert_eq(memcmp(buffer_bytes(busy.pool, kept[1].buffer, 26) + 20, "456789", 6), 0);
    busy_end();
}

/* The flag is for calls that may block, and these have a worker without it. */
Test(fallback, a_request_for_a_worker_changes_nothing) {
    int ends[2];
    sr_ring *ring = fallback_ring();
    sr_pool *pool = pool_make(64, 1);
    pool_attach(ring, pool);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    const uint32_t threads = sleeper_thread_count();
    sr_request request = request_of(SR_OP_NOP);
    request.flags = SR_REQUEST_ASYNC;
    assert_ok(run(ring, &request).result);
    request = request_of(SR_OP_READ);
    request.flags = SR_REQUEST_ASYNC;
    request.file = file_take(ring, ends[0]);
    request.buffer = buffer_take(pool);
    request.length = 1;
    request.offset = SR_OFFSET_CURRENT;
    const sr_op op = submit(ring, &request);
    assert_code(sr_ring_flush(ring), 1);
    assert_ok(sr_op_cancel(ring, op)); /* no worker is stuck in it */
    assert_code(wait_one(ring).result, -ECANCELED);
    cr_assert_eq(sleeper_thread_count(), threads, "a thread came for what cannot block");
    for (uint16_t i = 0; i < 2; i++) {
        request = request_of(SR_OP_STATX);
        request.path = "/";
        request.mask = STATX_MODE;
        request.flags = i == 0 ? 0 : SR_REQUEST_ASYNC;
        assert_ok(run(ring, &request).result);
        cr_assert_eq(sleeper_thread_count(), threads + 1);
    }
    ring_end(&ring);
    pool_end(&pool);
    cr_assert_eq(close(ends[1]), 0);
}
