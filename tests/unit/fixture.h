/* SPDX-License-Identifier: MIT */
/*
 * Fixture: what the unit and misuse tests have in common: codes with their names in messages, a
 * misuse hook that remembers, rings and pools that must come to be, a directory that goes again, a
 * child process whose last words are read.
 */
#ifndef SAFERING_TESTS_UNIT_FIXTURE_H
#define SAFERING_TESTS_UNIT_FIXTURE_H

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <safering/safering.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define FIXTURE_HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIXTURE_HAS_ASAN 1
#endif
#endif
#ifndef FIXTURE_HAS_ASAN
#define FIXTURE_HAS_ASAN 0
#endif

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* Compares codes and names both in the message. */
#define assert_code(call, expected)                                                                \
    do {                                                                                           \
        const long long got_ = (long long)(call);                                                  \
        const long long wanted_ = (long long)(expected);                                           \
        cr_assert(got_ == wanted_, "%s: %lld (%s), not %lld (%s)", #call, got_,                    \
                  sr_error_name((int)got_), wanted_, sr_error_name((int)wanted_));                 \
    } while (0)

#define assert_ok(call) assert_code(call, 0)

/* ---- time ----------------------------------------------------------------------------------- */

static inline uint64_t now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- misuse --------------------------------------------------------------------------------- */

struct misuse_record {
    uint32_t count;
    int code;
    uint64_t handle;
    char function[64];
};

static struct misuse_record misuse;

static inline void misuse_hear(int code, const char *function, uint64_t handle, void *ctx) {
    struct misuse_record *record = ctx;
    record->count++;
    record->code = code;
    record->handle = handle;
    (void)snprintf(record->function, sizeof record->function, "%s", function);
}

static inline void misuse_watch(void) {
    misuse = (struct misuse_record){0};
    sr_set_misuse_hook(misuse_hear, &misuse);
}

static inline void misuse_forget(void) {
    misuse = (struct misuse_record){0};
}

/* One report since the last look, with this code and function; forgets it. */
#define assert_misuse(name, expected_code)                                                         \
    do {                                                                                           \
        cr_assert_eq(misuse.count, 1, "%s: %u misuse reports, not 1", (name), misuse.count);       \
        cr_assert_str_eq(misuse.function, (name));                                                 \
        assert_code(misuse.code, (expected_code));                                                 \
        misuse_forget();                                                                           \
    } while (0)

#define assert_no_misuse()                                                                         \
    cr_assert_eq(misuse.count, 0, "unexpected report: %s in %s", sr_error_name(misuse.code),       \
                 misuse.function)

/* ---- objects -------------------------------------------------------------------------------- */

static inline sr_ring *ring_make(const sr_ring_options *options) {
    sr_ring *ring = NULL;
    assert_ok(sr_ring_create(options, &ring));
    cr_assert_not_null(ring);
    return ring;
}

static inline void ring_end(sr_ring **ring) {
    assert_ok(sr_ring_destroy(ring));
    cr_assert_null(*ring);
}

static inline sr_pool *pool_make(size_t buffer_size_bytes, uint32_t buffer_count) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    sr_pool *pool = NULL;
    options.buffer_size_bytes = buffer_size_bytes;
    options.buffer_count = buffer_count;
    assert_ok(sr_pool_create(NULL, &options, &pool));
    cr_assert_not_null(pool);
    return pool;
}

static inline void pool_end(sr_pool **pool) {
    assert_ok(sr_pool_destroy(pool));
    cr_assert_null(*pool);
}

/* Registered or plain: both are right, the machine's limits decide. */
static inline void pool_attach(sr_ring *ring, sr_pool *pool) {
    const int code = sr_ring_attach_pool(ring, pool);
    cr_assert(code == 0 || code == 1, "attach: %s", sr_error_name(code));
}

static inline sr_buffer buffer_take(sr_pool *pool) {
    sr_buffer buffer;
    assert_ok(sr_pool_acquire(pool, 1, &buffer));
    cr_assert_neq(buffer.bits, 0);
    return buffer;
}

/* The whole buffer, to write to. */
static inline unsigned char *buffer_bytes(sr_pool *pool, sr_buffer buffer, size_t size_bytes) {
    void *data = NULL;
    assert_ok(sr_buffer_data(pool, buffer, 0, size_bytes, SR_ACCESS_WRITE, &data));
    return data;
}

/* Whether rings on this backend can be had here; the fallback always can. */
static inline bool backend_is_here(uint32_t backend) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    sr_ring *ring = NULL;
    options.backend = backend;
    const int code = sr_ring_create(&options, &ring);
    cr_assert(code == 0 || backend == SR_BACKEND_URING, "%s", sr_error_name(code));
    if (code < 0) {
        fprintf(stderr, "on the fallback only: io_uring gives %s\n", sr_error_name(code));
        return false;
    }
    assert_ok(sr_ring_destroy(&ring));
    return true;
}

static inline sr_ring_stats ring_stats(sr_ring *ring) {
    sr_ring_stats stats = SR_RING_STATS_INIT;
    assert_ok(sr_ring_get_stats(ring, &stats));
    return stats;
}

static inline sr_pool_stats pool_stats(sr_pool *pool) {
    sr_pool_stats stats = SR_POOL_STATS_INIT;
    assert_ok(sr_pool_get_stats(pool, &stats));
    return stats;
}

static inline sr_file file_take(sr_ring *ring, int fd) {
    sr_file file;
    assert_ok(sr_file_adopt(ring, fd, 0, &file));
    cr_assert_neq(file.bits, 0);
    return file;
}

static inline sr_op submit(sr_ring *ring, const sr_request *request) {
    sr_op op;
    assert_ok(sr_ring_submit(ring, request, &op));
    cr_assert_neq(op.bits, 0);
    return op;
}

/* The next completion. What it points to stays until the next wait. */
static inline sr_completion wait_one(sr_ring *ring) {
    const sr_completion *completions = NULL;
    assert_code(sr_ring_wait(ring, 1, SR_FOREVER, NULL, &completions), 1);
    cr_assert_not_null(completions);
    return completions[0];
}

/* Submits one request on an idle ring and returns its completion. */
static inline sr_completion run(sr_ring *ring, const sr_request *request) {
    const sr_op op = submit(ring, request);
    const sr_completion completion = wait_one(ring);
    cr_assert_eq(completion.op.bits, op.bits);
    cr_assert_eq(completion.opcode, request->op);
    return completion;
}

static inline sr_request request_of(uint16_t op) {
    sr_request request = SR_REQUEST_INIT;
    request.op = op;
    return request;
}

static inline void file_close(sr_ring *ring, sr_file file) {
    sr_request request = request_of(SR_OP_CLOSE);
    request.file = file;
    assert_ok(run(ring, &request).result);
}

/* ---- directory ------------------------------------------------------------------------------ */

struct directory {
    char path[128];
    int fd;
};

static inline int directory_remove_entry(const char *path, const struct stat *status, int type,
                                         struct FTW *where) {
    (void)status;
    (void)type;
    (void)where;
    return remove(path);
}

static inline struct directory directory_begin(void) {
    struct directory directory;
    const char *place = getenv("TMPDIR");
    (void)snprintf(directory.path, sizeof directory.path, "%s/safering-unit-XXXXXX",
                   place != NULL ? place : "/tmp");
    cr_assert_not_null(mkdtemp(directory.path), "%s: %s", directory.path, strerror(errno));
    directory.fd = open(directory.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cr_assert_geq(directory.fd, 0);
    return directory;
}

static inline void directory_end(struct directory *directory) {
    cr_assert_eq(close(directory->fd), 0);
    cr_assert_eq(nftw(directory->path, directory_remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
}

/* A new file in @directory with @size_bytes of @bytes, open for reading and writing. */
static inline int directory_file(const struct directory *directory, const char *name,
                                 const void *bytes, size_t size_bytes) {
    const int fd = openat(directory->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    cr_assert_geq(fd, 0, "%s: %s", name, strerror(errno));
    cr_assert_eq(pwrite(fd, bytes, size_bytes, 0), (ssize_t)size_bytes);
    return fd;
}

/* ---- thread --------------------------------------------------------------------------------- */

/* Runs @act on another thread to its end. */
static inline void thread_run(void *(*act)(void *ctx), void *ctx) {
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, act, ctx), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
}

/* ---- child ---------------------------------------------------------------------------------- */

struct child_end {
    bool died; /* by a signal, or with an exit status that is not 0 */
    int status;
    char words[16384]; /* what it wrote to stderr */
};

/* Runs @act in a forked child that ends with status 0 after it. Objects must be made in the child.
 */
static inline void child_run(void (*act)(void *ctx), void *ctx, struct child_end *out_end) {
    int ends[2];
    size_t used = 0;
    ssize_t got = 0;
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    (void)fflush(NULL); /* else the child would write it again */
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        (void)dup2(ends[1], STDERR_FILENO);
        act(ctx);
        _exit(0); /* no exit handlers: Criterion's are the parent's business */
    }
    (void)close(ends[1]);
    memset(out_end, 0, sizeof *out_end);
    while (used < sizeof out_end->words - 1 &&
           (got = read(ends[0], out_end->words + used, sizeof out_end->words - 1 - used)) > 0) {
        used += (size_t)got;
    }
    (void)close(ends[0]);
    cr_assert_eq(waitpid(child, &out_end->status, 0), child);
    out_end->died = !WIFEXITED(out_end->status) || WEXITSTATUS(out_end->status) != 0;
}

#endif
