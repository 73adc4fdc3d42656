/* SPDX-License-Identifier: MIT */
/* Rows of reads and writes: of files, pipes and sockets, into one range or two slices, full or not.
 */
#include "conformance/table.h"

#include <signal.h>
#include <sys/resource.h>

/* ---- transfers: requests -------------------------------------------------------------------- */

static bool is_vector(const sr_request *request) {
    return request->op == SR_OP_READV || request->op == SR_OP_WRITEV;
}

/* The whole buffer; of a vector two slices of it, so that the bytes lie as with one. */
static void whole(struct scene *scene, sr_request *request, sr_file file) {
    const uint32_t first = 5000;
    request->file = file;
    if (is_vector(request)) {
        scene->slices[0] = (sr_slice){scene->buffer, 0, first};
        scene->slices[1] = (sr_slice){scene->buffer, first, (uint32_t)BYTES - first};
        request->slices = scene->slices;
        request->slice_count = 2;
        return;
    }
    request->buffer = scene->buffer;
    request->length = BYTES;
}

static void of_the_file(struct scene *scene, sr_request *request) {
    whole(scene, request, scene->file);
}

static void near_the_end(struct scene *scene, sr_request *request) {
    whole(scene, request, scene->file);
    request->offset = BYTES - 100;
}

static void of_what_is_only_written(struct scene *scene, sr_request *request) {
    whole(scene, request, scene_file(scene, O_WRONLY));
}

static void of_what_is_only_read(struct scene *scene, sr_request *request) {
    whole(scene, request, scene_file(scene, O_RDONLY));
}

static void of_a_pipe(struct scene *scene, sr_request *request) {
    whole(scene, request, scene_pipe_to_read(scene));
    request->offset = SR_OFFSET_CURRENT;
}

static void of_a_writing_end(struct scene *scene, sr_request *request) {
    whole(scene, request, scene_pipe_to_write(scene));
    request->offset = SR_OFFSET_CURRENT;
}

static void of_a_pipe_with_three_bytes(struct scene *scene, sr_request *request) {
    of_a_pipe(scene, request);
    cr_assert_eq(write(scene->far, "abc", 3), 3);
}

static void to_a_full_socket(struct scene *scene, sr_request *request) {
    whole(scene, request, scene_pair(scene, SOCK_STREAM));
    request->offset = SR_OFFSET_CURRENT;
    scene_choke(scene);
}

/* One that takes less than the buffer. */
static void to_a_small_socket(struct scene *scene, sr_request *request) {
    const int small = 4608;
    whole(scene, request, scene_pair(scene, SOCK_STREAM));
    request->offset = SR_OFFSET_CURRENT;
    cr_assert_eq(setsockopt(scene->near, SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
}

static void block_broken_pipe(int how) {
    sigset_t broken_pipe;
    (void)sigemptyset(&broken_pipe);
    (void)sigaddset(&broken_pipe, SIGPIPE);
    cr_assert_eq(pthread_sigmask(how, &broken_pipe, NULL), 0);
}

/* io_uring raises SIGPIPE then (docs/KERNEL.md). */
static void to_nobody(struct scene *scene, sr_request *request) {
    whole(scene, request, scene_pair(scene, SOCK_STREAM));
    request->offset = SR_OFFSET_CURRENT;
    scene_disown(scene, scene->far);
    block_broken_pipe(SIG_BLOCK);
}

static void of_a_slow_file(struct scene *scene, sr_request *request) {
    whole(scene, request, scene_slow_file(scene, true));
}

/* Answers come in pieces of 4,096 bytes, and after two of them there is an error. */
static void of_a_file_that_breaks(struct scene *scene, sr_request *request) {
    whole(scene, request, scene_slow_file(scene, false));
    scene->fs->files[0].read_max = 4096;
    scene->fs->files[0].read_error_at = 8192;
}

/* The file may grow by 100 bytes and no more. */
static void beyond_the_limit(struct scene *scene, sr_request *request) {
    struct rlimit limit;
    whole(scene, request, scene->file);
    request->offset = BYTES;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = BYTES + 100;
    (void)signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* ---- transfers: on the way ------------------------------------------------------------------ */

static void at_the_gate(struct scene *scene) {
    cr_assert(slowfs_wait(scene->fs, 0, 1, 10000), "the request is not at the server");
}

static void open_the_gate(struct scene *scene) {
    scene->fs->files[0].gate_closed = 0;
}

static void write_eight(struct scene *scene) {
    if (scene->steps == 0) {
        cr_assert_eq(write(scene->far, "received", 8), 8);
    }
}

/* All that a full read wants, in pieces. */
static void write_a_quarter(struct scene *scene) {
    unsigned char piece[BYTES / 4];
    const size_t offset = scene->steps * sizeof piece;
    if (scene->steps >= 4) {
        return;
    }
    for (size_t i = 0; i < sizeof piece; i++) {
        piece[i] = scene_byte(offset + i);
    }
    cr_assert_eq(write(scene->far, piece, sizeof piece), (ssize_t)sizeof piece);
}

/* Until the bytes that are there have been read, and the rest is waited for. */
static void after_the_first_bytes(struct scene *scene) {
    const sr_completion *none = NULL;
    for (int i = 0; i < 10000 && ring_stats(scene->ring).short_transfers_total == 0; i++) {
        assert_code(sr_ring_wait(scene->ring, 0, 0, NULL, &none), 0);
        (void)usleep(100);
    }
    cr_assert_eq(ring_stats(scene->ring).short_transfers_total, 1);
}

static void drain(struct scene *scene) {
    (void)scene_drain(scene);
}

/* ---- transfers: what they did --------------------------------------------------------------- */

static void has_file_bytes(struct scene *scene, const sr_completion *completion) {
    scene_expect_file_bytes(scene, 0, completion->result > 0 ? (size_t)completion->result : 0);
}

static void has_last_bytes(struct scene *scene, const sr_completion *completion) {
    (void)completion;
    scene_expect_file_bytes(scene, BYTES - 100, 100);
}

static void has_eight(struct scene *scene, const sr_completion *completion) {
    (void)completion;
    const unsigned char *bytes = scene_bytes(scene, scene->buffer, BYTES);
    cr_assert(memcmp(bytes, "received", 8) == 0 && bytes[8] == 'b');
}

static void has_three(struct scene *scene, const sr_completion *completion) {
    (void)completion;
    const unsigned char *bytes = scene_bytes(scene, scene->buffer, BYTES);
    cr_assert(memcmp(bytes, "abc", 3) == 0 && bytes[3] == 'b');
}

static void has_slow_bytes(struct scene *scene, const sr_completion *completion) {
    const unsigned char *bytes = scene_bytes(scene, scene->buffer, BYTES);
    const size_t done = (size_t)completion->bytes_done;
    for (size_t i = 0; i < BYTES; i++) {
        cr_assert_eq(bytes[i], i < done ? slowfs_byte(0, i) : 'b', "byte %zu", i);
    }
}

static void file_is_written(struct scene *scene, const sr_completion *completion) {
    static char bytes[BYTES];
    (void)completion;
    const int fd = openat(scene->directory.fd, "file", O_RDONLY | O_CLOEXEC);
    cr_assert_eq(read(fd, bytes, BYTES), (ssize_t)BYTES);
    cr_assert(bytes[0] == 'b' && memcmp(bytes, bytes + 1, BYTES - 1) == 0);
    (void)close(fd);
}

static void file_is_not_written(struct scene *scene, const sr_completion *completion) {
    unsigned char byte = 'b';
    (void)completion;
    const int fd = openat(scene->directory.fd, "file", O_RDONLY | O_CLOEXEC);
    cr_assert(read(fd, &byte, 1) == 1 && byte == scene_byte(0));
    (void)close(fd);
}

static void file_has_grown_by_100(struct scene *scene, const sr_completion *completion) {
    struct rlimit limit;
    (void)completion;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_assert_eq(scene_status(scene, "file").st_size, (off_t)BYTES + 100);
}

static void slow_file_is_written(struct scene *scene, const sr_completion *completion) {
    (void)completion;
    for (size_t i = 0; i < BYTES; i++) {
        cr_assert_eq(scene->fs->files[0].bytes[i], 'b', "byte %zu", i);
    }
}

static void no_signal_on_the_fallback(struct scene *scene, const sr_completion *completion) {
    sigset_t pending;
    (void)completion;
    cr_assert_eq(sigpending(&pending), 0);
    cr_assert(scene->backend != SR_BACKEND_FALLBACK || sigismember(&pending, SIGPIPE) == 0);
    (void)signal(SIGPIPE, SIG_IGN); /* which also drops one that is pending */
    block_broken_pipe(SIG_UNBLOCK);
    (void)signal(SIGPIPE, SIG_DFL);
}

static void peer_gets_it(struct scene *scene, const sr_completion *completion) {
    cr_assert_eq(scene_drain(scene), (size_t)completion->result);
}

static void bytes_are_there(struct scene *scene, const sr_completion *completion) {
    (void)completion;
    scene_expect_file_bytes(scene, 0, 0);
}

/* ---- rows ----------------------------------------------------------------------------------- */

#define READ_AT_GATE GOES_ON(of_a_slow_file, at_the_gate, open_the_gate, BYTES, has_slow_bytes)
#define WRITE_AT_GATE                                                                              \
    GOES_ON(of_a_slow_file, at_the_gate, open_the_gate, BYTES, slow_file_is_written)

#define READ_OF_A_FILE                                                                             \
    {                                                                                              \
        [WORKS] = ENDS(of_the_file, BYTES, has_file_bytes),                                        \
        [FAILS] = ENDS(of_what_is_only_written, -EBADF, bytes_are_there),                          \
        [SHORT] = ENDS(near_the_end, 100, has_last_bytes), [CANCELLED] = READ_AT_GATE,             \
        [DEADLINE] = READ_AT_GATE                                                                  \
    }
#define READ_OF_A_PIPE                                                                             \
    {                                                                                              \
        [WORKS] = ENDS_WHEN(of_a_pipe, write_eight, 8, has_eight),                                 \
        [FAILS] = ENDS(of_a_writing_end, -EBADF, bytes_are_there),                                 \
        [SHORT] = ENDS(of_a_pipe_with_three_bytes, 3, has_three),                                  \
        [CANCELLED] = IS_ENDED(of_a_pipe, bytes_are_there),                                        \
        [DEADLINE] = IS_ENDED(of_a_pipe, bytes_are_there)                                          \
    }
#define FULL_READ_ENDED                                                                            \
    {                                                                                              \
        .prepare = of_a_pipe_with_three_bytes, .arrive = after_the_first_bytes,                    \
        .results = RESULTS(-ECANCELED), .bytes_before = 3, .check = has_three,                     \
        .arrives_by_waiting = true, .moment = IN_FLIGHT                                            \
    }
#define FULL_READ                                                                                  \
    {                                                                                              \
        [WORKS] = ENDS_WHEN(of_a_pipe, write_a_quarter, BYTES, has_file_bytes),                    \
        [FAILS] = {.prepare = of_a_file_that_breaks,                                               \
                   .results = RESULTS(-EIO),                                                       \
                   .bytes_before = 8192,                                                           \
                   .check = has_slow_bytes,                                                        \
                   .needs_slow_files = true},                                                      \
        [SHORT] = ENDS(near_the_end, 100, has_last_bytes), [CANCELLED] = FULL_READ_ENDED,          \
        [DEADLINE] = FULL_READ_ENDED                                                               \
    }
#define WRITE_OF_A_FILE                                                                            \
    {                                                                                              \
        [WORKS] = ENDS(of_the_file, BYTES, file_is_written),                                       \
        [FAILS] = ENDS(of_what_is_only_read, -EBADF, file_is_not_written),                         \
        [SHORT] = ENDS(beyond_the_limit, 100, file_has_grown_by_100), [CANCELLED] = WRITE_AT_GATE, \
        [DEADLINE] = WRITE_AT_GATE                                                                 \
    }
#define WRITE_OF_A_SOCKET                                                                          \
    {                                                                                              \
        [WORKS] = ENDS_WHEN(to_a_full_socket, drain, BYTES, NULL),                                 \
        [FAILS] = ENDS(to_nobody, -EPIPE, no_signal_on_the_fallback),                              \
        [SHORT] = {.prepare = to_a_small_socket,                                                   \
                   .results = RANGE(1, BYTES - 1),                                                 \
                   .check = peer_gets_it},                                                         \
        [CANCELLED] = IS_ENDED(to_a_full_socket, NULL),                                            \
        [DEADLINE] = IS_ENDED(to_a_full_socket, NULL)                                              \
    }
#define FULL_WRITE                                                                                 \
    {                                                                                              \
        [WORKS] = ENDS_WHEN(to_a_small_socket, drain, BYTES, NULL),                                \
        [FAILS] = ENDS(to_nobody, -EPIPE, no_signal_on_the_fallback),                              \
        [SHORT] = NEVER("it goes on until all is written, or fails"),                              \
        [CANCELLED] = IS_ENDED(to_a_full_socket, NULL),                                            \
        [DEADLINE] = IS_ENDED(to_a_full_socket, NULL)                                              \
    }

const struct row rows_transfers[] = {
    ROW(SR_OP_READ, 0, 0, "read of a file", READ_OF_A_FILE),
    ROW(SR_OP_READ, 0, ROW_PLAIN, "read of a file, plain pool", READ_OF_A_FILE),
    ROW(SR_OP_READ, 0, ROW_FIXED, "read of a file in a fixed slot", READ_OF_A_FILE),
    ROW(SR_OP_READ, SR_REQUEST_ASYNC, 0, "read of a file, async", READ_OF_A_FILE),
    ROW(SR_OP_READ, 0, 0, "read of a pipe", READ_OF_A_PIPE),
    ROW(SR_OP_READ, 0, ROW_PLAIN | ROW_FIXED, "read of a pipe, plain and fixed", READ_OF_A_PIPE),
    ROW(SR_OP_READ, SR_REQUEST_FULL, 0, "full read", FULL_READ),
    ROW(SR_OP_WRITE, 0, 0, "write to a file", WRITE_OF_A_FILE),
    ROW(SR_OP_WRITE, 0, ROW_PLAIN, "write to a file, plain pool", WRITE_OF_A_FILE),
    ROW(SR_OP_WRITE, 0, ROW_FIXED, "write to a file in a fixed slot", WRITE_OF_A_FILE),
    ROW(SR_OP_WRITE, 0, 0, "write to a socket", WRITE_OF_A_SOCKET),
    ROW(SR_OP_WRITE, SR_REQUEST_FULL, 0, "full write", FULL_WRITE),
    ROW(SR_OP_READV, 0, 0, "readv of a file", READ_OF_A_FILE),
    ROW(SR_OP_READV, 0, ROW_FIXED, "readv of a file in a fixed slot", READ_OF_A_FILE),
    ROW(SR_OP_READV, 0, 0, "readv of a pipe", READ_OF_A_PIPE),
    ROW(SR_OP_READV, SR_REQUEST_FULL, 0, "full readv", FULL_READ),
    ROW(SR_OP_WRITEV, 0, 0, "writev to a file", WRITE_OF_A_FILE),
    ROW(SR_OP_WRITEV, 0, 0, "writev to a socket", WRITE_OF_A_SOCKET),
    ROW(SR_OP_WRITEV, SR_REQUEST_FULL, 0, "full writev", FULL_WRITE),
};
const size_t rows_transfers_count = COUNT_OF(rows_transfers);
