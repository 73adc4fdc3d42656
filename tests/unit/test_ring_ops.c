/* SPDX-License-Identifier: MIT */
/*
 * Every operation once with success and once with failure, through the whole library and the real
 * kernel. The table has a place for each SR_OP_*; an empty one fails.
 */
#include "unit/fixture.h"

#include "support/case.h"
#include "support/failing.h"
#include "sys/uapi.h"
#include <sys/mman.h>

#define FILE_OPS (SR_OP_TIMEOUT + 1) /* the others are in test_ring_sockets.c */
#define BYTES    ((size_t)16384)
#define MS       UINT64_C(1000000)

static struct directory directory;
static sr_ring *ring;
static sr_pool *pool;
static sr_pool *second_pool;
static sr_file dir;       /* the directory */
static sr_file file;      /* for reading and writing; holds 'contents' */
static sr_file read_only; /* the same file */
static sr_file write_only;
static sr_file pipe_end; /* reading end of a pipe that is empty; its writing end: pipe_in */
static int pipe_in;
static sr_buffer buffer;
static char contents[BYTES];

static void begin(void) {
    int ends[2];
    directory = directory_begin();
    ring = ring_make(NULL);
    pool = pool_make(BYTES, 8);
    second_pool = pool_make(4096, 8);
    pool_attach(ring, pool);
    pool_attach(ring, second_pool);
    for (size_t i = 0; i < BYTES; i++) {
        contents[i] = (char)(i % 251);
    }
    dir = file_take(ring, fcntl(directory.fd, F_DUPFD_CLOEXEC, 0));
    file = file_take(ring, directory_file(&directory, "file", contents, BYTES));
    read_only = file_take(ring, openat(directory.fd, "file", O_RDONLY | O_CLOEXEC));
    write_only = file_take(ring, openat(directory.fd, "file", O_WRONLY | O_CLOEXEC));
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    pipe_end = file_take(ring, ends[0]);
    pipe_in = ends[1];
    buffer = buffer_take(pool);
    misuse_watch();
}

static void end(void) {
    assert_no_misuse();
    cr_assert_eq(ring_stats(ring).ops_in_flight, 0);
    cr_assert_eq(ring_stats(ring).completions_unknown_total, 0);
    cr_assert_eq(ring_stats(ring).completions_stale_total, 0);
    (void)close(pipe_in);
    ring_end(&ring);
    pool_end(&pool);
    pool_end(&second_pool);
    directory_end(&directory);
}

/* ---- helpers ----------------------------------------------------------------------------------
 */

static struct stat status_of(const char *name) {
    struct stat status;
    cr_assert_eq(fstatat(directory.fd, name, &status, AT_SYMLINK_NOFOLLOW), 0, "%s: %s", name,
                 strerror(errno));
    return status;
}

static bool exists(const char *name) {
    return faccessat(directory.fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void touch(const char *name) {
    (void)close(directory_file(&directory, name, "", 0));
}

static sr_request transfer_of(uint16_t op, sr_file where) {
    sr_request request = request_of(op);
    request.file = where;
    request.buffer = buffer;
    request.length = BYTES;
    return request;
}

static sr_request path_of(uint16_t op, const char *path) {
    sr_request request = request_of(op);
    request.file = dir;
    request.path = path;
    return request;
}

static sr_request two_paths_of(uint16_t op, const char *path, const char *new_path) {
    sr_request request = path_of(op, path);
    request.new_dir = dir;
    request.new_path = new_path;
    return request;
}

static void assert_result(const sr_request *request, int64_t expected) {
    const sr_completion completion = run(ring, request);
    assert_code(completion.result, expected);
}

/* Refused at once; @misused tells whether that is the caller's fault. */
static void assert_refused(const sr_request *request, int expected) {
    sr_op op = {1};
    const sr_ring_stats before = ring_stats(ring);
    assert_code(sr_ring_submit(ring, request, &op), expected);
    cr_assert_eq(op.bits, 0);
    assert_misuse("sr_ring_submit", expected);
    const sr_ring_stats after = ring_stats(ring);
    cr_assert_eq(memcmp(&before, &after, sizeof before), 0, "a refused request changed stats");
}

/* Two pools, three buffers, unequal lengths, one of them empty. */
#define SLICES 4u
static void fill_slices(sr_slice *slices, sr_buffer *in_second) {
    *in_second = buffer_take(second_pool);
    slices[0] = (sr_slice){buffer, 100, 1000};
    slices[1] = (sr_slice){*in_second, 0, 4096};
    slices[2] = (sr_slice){buffer, 50, 0};
    slices[3] = (sr_slice){buffer, 8192, 777};
}

static void assert_slices_hold(const sr_slice *slices, sr_buffer in_second, size_t offset) {
    const unsigned char *first = buffer_bytes(pool, buffer, BYTES);
    const unsigned char *second = buffer_bytes(second_pool, in_second, 4096);
    cr_assert_eq(memcmp(first + 100, contents + offset, 1000), 0);
    cr_assert_eq(memcmp(second, contents + offset + 1000, 4096), 0);
    cr_assert_eq(memcmp(first + 8192, contents + offset + 5096, 777), 0);
    (void)slices;
}

/* ---- one success and one failure each
 * ------------------------------------------------------------ */

static void nop_works(void) {
    sr_request request = request_of(SR_OP_NOP);
    assert_result(&request, 0);
}

static void nop_fails(void) {
    sr_request request = request_of(SR_OP_NOP);
    request.flags = SR_REQUEST_FULL;
    assert_refused(&request, -EINVAL);
}

static void read_works(void) {
    sr_request request = transfer_of(SR_OP_READ, read_only);
    request.buffer_offset = 10;
    request.length = 5000;
    request.offset = 3000;
    unsigned char *bytes = buffer_bytes(pool, buffer, BYTES);
    memset(bytes, 0xee, BYTES);
    const sr_completion completion = run(ring, &request);
    cr_assert_eq(completion.result, 5000);
    cr_assert_eq(completion.bytes_done, 5000);
    cr_assert_eq(completion.buffer.bits, buffer.bits);
    cr_assert_eq(completion.buffer_offset, 10);
    cr_assert_eq(completion.buffer_length, 5000);
    cr_assert_eq(completion.file.bits, read_only.bits);
    cr_assert_eq(memcmp(bytes + 10, contents + 3000, 5000), 0);
    cr_assert(bytes[9] == 0xee && bytes[5010] == 0xee, "written beside the range");
}

static void read_fails(void) {
    sr_request request = transfer_of(SR_OP_READ, write_only);
    assert_result(&request, -EBADF);
    request.file = dir;
    assert_result(&request, -EISDIR);
    request.file = read_only;
    request.length = BYTES + 1;
    assert_refused(&request, SR_E_BOUNDS);
    request.length = 1;
    request.buffer_offset = (uint32_t)BYTES;
    assert_refused(&request, SR_E_BOUNDS);
    request.length = UINT64_MAX;
    assert_refused(&request, SR_E_BOUNDS);
}

static void write_works(void) {
    char got[100];
    sr_request request = transfer_of(SR_OP_WRITE, write_only);
    memset(buffer_bytes(pool, buffer, BYTES), 'w', BYTES);
    request.buffer_offset = 20;
    request.length = 100;
    request.offset = BYTES + 1000; /* beyond the end: the file grows */
    const sr_completion completion = run(ring, &request);
    cr_assert_eq(completion.result, 100);
    cr_assert_eq(completion.bytes_done, 100);
    const int fd = openat(directory.fd, "file", O_RDONLY | O_CLOEXEC);
    cr_assert_eq(pread(fd, got, sizeof got, BYTES + 1000), 100);
    (void)close(fd);
    for (size_t i = 0; i < sizeof got; i++) {
        cr_assert_eq(got[i], 'w');
    }
    cr_assert_eq(status_of("file").st_size, (off_t)(BYTES + 1100));
}

static void write_fails(void) {
    sr_request request = transfer_of(SR_OP_WRITE, read_only);
    assert_result(&request, -EBADF);
    cr_assert_eq(status_of("file").st_size, (off_t)BYTES);
}

static void readv_works(void) {
    sr_slice slices[SLICES];
    sr_buffer in_second;
    fill_slices(slices, &in_second);
    sr_request request = request_of(SR_OP_READV);
    request.file = read_only;
    request.slices = slices;
    request.slice_count = SLICES;
    request.offset = 500;
    const sr_completion completion = run(ring, &request);
    cr_assert_eq(completion.result, 1000 + 4096 + 777);
    cr_assert_eq(completion.bytes_done, 1000 + 4096 + 777);
    assert_slices_hold(slices, in_second, 500);
}

static void readv_fails(void) {
    sr_slice slices[SR_SLICES_MAX + 1];
    for (uint32_t i = 0; i <= SR_SLICES_MAX; i++) {
        slices[i] = (sr_slice){buffer, 16 * i, 16};
    }
    sr_request request = request_of(SR_OP_READV);
    request.file = write_only;
    request.slices = slices;
    request.slice_count = SR_SLICES_MAX;
    assert_result(&request, -EBADF);
    request.file = read_only;
    request.slice_count = SR_SLICES_MAX + 1;
    assert_refused(&request, -EINVAL);
    request.slice_count = 0;
    assert_refused(&request, -EINVAL);
    request.slice_count = 2;
    request.slices = NULL;
    assert_refused(&request, -EINVAL);
    request.slices = slices;
    slices[1] = (sr_slice){buffer, 15, 1}; /* both would be written to */
    assert_refused(&request, SR_E_LENT);
    slices[1] = (sr_slice){buffer, (uint32_t)BYTES, 1};
    assert_refused(&request, SR_E_BOUNDS);
    /* What was lent before the bad slice has come back. */
    memset(buffer_bytes(pool, buffer, BYTES), 0, BYTES);
}

static void writev_works(void) {
    char got[1000 + 4096 + 777];
    sr_slice slices[SLICES];
    sr_buffer in_second;
    fill_slices(slices, &in_second);
    memset(buffer_bytes(pool, buffer, BYTES), 'a', BYTES);
    memset(buffer_bytes(second_pool, in_second, 4096), 'b', 4096);
    sr_request request = request_of(SR_OP_WRITEV);
    request.file = file;
    request.slices = slices;
    request.slice_count = SLICES;
    request.offset = 7;
    assert_result(&request, (int64_t)sizeof got);
    const int fd = openat(directory.fd, "file", O_RDONLY | O_CLOEXEC);
    cr_assert_eq(pread(fd, got, sizeof got, 7), (ssize_t)sizeof got);
    (void)close(fd);
    for (size_t i = 0; i < sizeof got; i++) {
        cr_assert_eq(got[i], i >= 1000 && i < 5096 ? 'b' : 'a', "byte %zu", i);
    }
    /* The kernel only reads: the same range may be given twice. */
    slices[1] = slices[0];
    assert_result(&request, 1000 + 1000 + 777);
}

static void writev_fails(void) {
    sr_slice slices[1] = {{buffer, 0, 16}};
    sr_request request = request_of(SR_OP_WRITEV);
    request.file = read_only;
    request.slices = slices;
    request.slice_count = 1;
    assert_result(&request, -EBADF);
}

static void fsync_works(void) {
    sr_request request = request_of(SR_OP_FSYNC);
    request.file = file;
    assert_result(&request, 0);
}

static void fsync_fails(void) {
    sr_request request = request_of(SR_OP_FSYNC);
    request.file = pipe_end;
    assert_result(&request, -EINVAL);
}

static void fdatasync_works(void) {
    sr_request request = request_of(SR_OP_FDATASYNC);
    request.file = file;
    assert_result(&request, 0);
}

static void fdatasync_fails(void) {
    sr_request request = request_of(SR_OP_FDATASYNC);
    request.file = pipe_end;
    assert_result(&request, -EINVAL);
}

static void sync_range_works(void) {
    sr_request request = request_of(SR_OP_SYNC_RANGE);
    request.file = file;
    request.offset = 4096;
    request.length = 4096;
    request.op_flags = SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    assert_result(&request, 0);
}

static void sync_range_fails(void) {
    sr_request request = request_of(SR_OP_SYNC_RANGE);
    request.file = pipe_end;
    assert_result(&request, -ESPIPE);
    request.file = file;
    request.length = UINT64_C(1) << 32;
    assert_refused(&request, SR_E_BOUNDS);
    request.length = 1;
    request.offset = UINT64_C(1) << 63;
    assert_refused(&request, SR_E_BOUNDS);
    request.offset = 0;
    request.op_flags = 0x80;
    assert_result(&request, -EINVAL);
}

static void fallocate_works(void) {
    sr_request request = request_of(SR_OP_FALLOCATE);
    request.file = file;
    request.offset = BYTES;
    request.length = 5000;
    assert_result(&request, 0);
    cr_assert_eq(status_of("file").st_size, (off_t)(BYTES + 5000));
    request.mode = FALLOC_FL_KEEP_SIZE;
    request.offset = 10 * BYTES;
    assert_result(&request, 0);
    cr_assert_eq(status_of("file").st_size, (off_t)(BYTES + 5000));
}

static void fallocate_fails(void) {
    sr_request request = request_of(SR_OP_FALLOCATE);
    request.file = read_only;
    request.length = 1;
    assert_result(&request, -EBADF);
    request.length = UINT64_C(1) << 63;
    assert_refused(&request, SR_E_BOUNDS);
    request.length = 1;
    request.offset = UINT64_C(1) << 63;
    assert_refused(&request, SR_E_BOUNDS);
}

static void ftruncate_works(void) {
    sr_request request = request_of(SR_OP_FTRUNCATE);
    request.file = file;
    request.length = 123;
    assert_result(&request, 0);
    cr_assert_eq(status_of("file").st_size, 123);
    request.length = 456;
    assert_result(&request, 0);
    cr_assert_eq(status_of("file").st_size, 456);
}

static void ftruncate_fails(void) {
    sr_request request = request_of(SR_OP_FTRUNCATE);
    request.file = read_only;
    assert_result(&request, -EINVAL);
    cr_assert_eq(status_of("file").st_size, (off_t)BYTES);
    request.file = file;
    request.length = UINT64_C(1) << 63;
    assert_refused(&request, SR_E_BOUNDS);
}

static void openat_works(void) {
    int fd = -1;
    const mode_t mask = umask(0);
    sr_request request = path_of(SR_OP_OPENAT, "made");
    request.op_flags = O_RDWR | O_CREAT | O_EXCL;
    request.mode = 0640;
    const sr_completion completion = run(ring, &request);
    (void)umask(mask);
    cr_assert_eq(completion.result, 0);
    cr_assert_neq(completion.file.bits, 0);
    cr_assert_neq(completion.file.bits, dir.bits);
    cr_assert_eq(status_of("made").st_mode & 07777, 0640);
    assert_ok(sr_file_fd(ring, completion.file, &fd));
    cr_assert_neq(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    cr_assert_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
    sr_request write_request = transfer_of(SR_OP_WRITE, completion.file);
    write_request.length = 10;
    assert_result(&write_request, 10);
    file_close(ring, completion.file);
    cr_assert_eq(status_of("made").st_size, 10);
    /* Without O_CREAT a mode is no concern of the kernel's: openat2(2) would refuse it. */
    request.op_flags = O_RDONLY;
    file_close(ring, run(ring, &request).file);
}

static void openat_fails(void) {
    sr_request request = path_of(SR_OP_OPENAT, "no such file");
    const sr_completion completion = run(ring, &request);
    assert_code(completion.result, -ENOENT);
    cr_assert_eq(completion.file.bits, 0);
    request.path = "../anything";
    request.resolve = 0x08; /* RESOLVE_BENEATH */
    assert_result(&request, -EXDEV);
    request.path = NULL;
    assert_refused(&request, -EINVAL);
    cr_assert_eq(ring_stats(ring).files_open, 5);
}

static void close_works(void) {
    int fd = -1;
    sr_request request = request_of(SR_OP_CLOSE);
    request.file = file;
    assert_ok(sr_file_fd(ring, file, &fd));
    const sr_completion completion = run(ring, &request);
    assert_ok(completion.result);
    cr_assert_eq(completion.file.bits, file.bits);
    cr_assert(fcntl(fd, F_GETFD) < 0 && errno == EBADF);
    assert_refused(&request, SR_E_STALE);
}

static void close_fails(void) {
    sr_request request = request_of(SR_OP_CLOSE);
    request.file = file;
    request.op_flags = 2;
    assert_refused(&request, -EINVAL);
    /* The descriptor was closed behind the ring's back: that is what the kernel says. */
    int fd = -1;
    assert_ok(sr_file_fd(ring, file, &fd));
    cr_assert_eq(close(fd), 0);
    request.op_flags = 0;
    assert_result(&request, -EBADF);
    cr_assert_eq(ring_stats(ring).files_open, 4, "the handle is gone all the same");
}

static void statx_works(void) {
    sr_request request = path_of(SR_OP_STATX, "file");
    request.mask = STATX_SIZE | STATX_MODE;
    sr_completion completion = run(ring, &request);
    cr_assert_eq(completion.result, 0);
    cr_assert_not_null(completion.statx);
    cr_assert_eq(completion.statx->stx_size, BYTES);
    cr_assert_eq(completion.statx->stx_mode, S_IFREG | 0644);
    request.file = file;
    request.path = "";
    request.op_flags = AT_EMPTY_PATH;
    completion = run(ring, &request);
    cr_assert_eq(completion.statx->stx_size, BYTES);
}

static void statx_fails(void) {
    sr_request request = path_of(SR_OP_STATX, "no such file");
    const sr_completion completion = run(ring, &request);
    assert_code(completion.result, -ENOENT);
    cr_assert_null(completion.statx);
    request.path = NULL;
    assert_refused(&request, -EINVAL);
}

static void unlinkat_works(void) {
    touch("goes");
    cr_assert_eq(mkdirat(directory.fd, "goes too", 0755), 0);
    sr_request request = path_of(SR_OP_UNLINKAT, "goes");
    assert_result(&request, 0);
    cr_assert_not(exists("goes"));
    request.path = "goes too";
    request.op_flags = AT_REMOVEDIR;
    assert_result(&request, 0);
    cr_assert_not(exists("goes too"));
}

static void unlinkat_fails(void) {
    sr_request request = path_of(SR_OP_UNLINKAT, "no such file");
    assert_result(&request, -ENOENT);
    request.path = "file";
    request.op_flags = AT_REMOVEDIR;
    assert_result(&request, -ENOTDIR);
    cr_assert(exists("file"));
    request.path = NULL;
    assert_refused(&request, -EINVAL);
}

static void renameat_works(void) {
    touch("old");
    sr_request request = two_paths_of(SR_OP_RENAMEAT, "old", "new");
    assert_result(&request, 0);
    cr_assert(exists("new") && !exists("old"));
}

static void renameat_fails(void) {
    touch("old");
    sr_request request = two_paths_of(SR_OP_RENAMEAT, "old", "file");
    request.op_flags = 1; /* RENAME_NOREPLACE */
    assert_result(&request, -EEXIST);
    cr_assert(exists("old"));
    cr_assert_eq(status_of("file").st_size, (off_t)BYTES);
    request.new_path = NULL;
    assert_refused(&request, -EINVAL);
}

static void mkdirat_works(void) {
    const mode_t mask = umask(0);
    sr_request request = path_of(SR_OP_MKDIRAT, "folder");
    request.mode = 0750;
    assert_result(&request, 0);
    (void)umask(mask);
    cr_assert_eq(status_of("folder").st_mode, S_IFDIR | 0750);
}

static void mkdirat_fails(void) {
    sr_request request = path_of(SR_OP_MKDIRAT, "file");
    assert_result(&request, -EEXIST);
    request.path = NULL;
    assert_refused(&request, -EINVAL);
}

static void linkat_works(void) {
    sr_request request = two_paths_of(SR_OP_LINKAT, "file", "other name");
    assert_result(&request, 0);
    cr_assert_eq(status_of("file").st_nlink, 2);
    cr_assert_eq(status_of("other name").st_ino, status_of("file").st_ino);
}

static void linkat_fails(void) {
    touch("taken");
    sr_request request = two_paths_of(SR_OP_LINKAT, "file", "taken");
    assert_result(&request, -EEXIST);
    cr_assert_eq(status_of("file").st_nlink, 1);
    request.path = NULL;
    assert_refused(&request, -EINVAL);
}

static void symlinkat_works(void) {
    char target[64] = "";
    sr_request request = request_of(SR_OP_SYMLINKAT);
    request.path = "some/where else";
    request.new_dir = dir;
    request.new_path = "pointer";
    assert_result(&request, 0);
    cr_assert_eq(readlinkat(directory.fd, "pointer", target, sizeof target - 1), 15);
    cr_assert_str_eq(target, "some/where else");
}

static void symlinkat_fails(void) {
    sr_request request = request_of(SR_OP_SYMLINKAT);
    request.path = "anywhere";
    request.new_dir = dir;
    request.new_path = "file";
    assert_result(&request, -EEXIST);
    request.new_path = NULL;
    assert_refused(&request, -EINVAL);
    request.path = NULL;
    request.new_path = "pointer";
    assert_refused(&request, -EINVAL);
}

static void fadvise_works(void) {
    sr_request request = request_of(SR_OP_FADVISE);
    request.file = file;
    request.advice = POSIX_FADV_WILLNEED;
    request.length = 4096;
    assert_result(&request, 0);
}

static void fadvise_fails(void) {
    sr_request request = request_of(SR_OP_FADVISE);
    request.file = file;
    request.advice = 99;
    assert_result(&request, -EINVAL);
    request.file = pipe_end;
    request.advice = POSIX_FADV_NORMAL;
    assert_result(&request, -ESPIPE);
    request.length = UINT64_C(1) << 32;
    assert_refused(&request, SR_E_BOUNDS);
}

static void madvise_works(void) {
    sr_request request = transfer_of(SR_OP_MADVISE, SR_FILE_NONE);
    request.advice = MADV_WILLNEED;
    request.buffer_offset = 4096;
    request.length = 8192;
    const sr_completion completion = run(ring, &request);
    assert_ok(completion.result);
    cr_assert_eq(completion.buffer.bits, buffer.bits);
    cr_assert_eq(completion.buffer_offset, 4096);
    cr_assert_eq(completion.buffer_length, 8192);
}

static void madvise_fails(void) {
    sr_request request = transfer_of(SR_OP_MADVISE, SR_FILE_NONE);
    const int bad[] = {-1, 9999, MADV_DONTFORK, MADV_DOFORK, MADV_REMOVE, MADV_WIPEONFORK};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        request.advice = bad[i];
        assert_refused(&request, -EINVAL);
    }
    request.advice = MADV_NORMAL;
    request.buffer_offset = 64;
    request.length = 4096;
    assert_refused(&request, SR_E_BOUNDS);
    request.buffer_offset = 0;
    request.length = 4095;
    assert_refused(&request, SR_E_BOUNDS);
    request.length = BYTES + 4096;
    assert_refused(&request, SR_E_BOUNDS);
}

static void timeout_works(void) {
    sr_request request = request_of(SR_OP_TIMEOUT);
    request.duration_ns = 30 * MS;
    const uint64_t start_ns = now_ns();
    assert_result(&request, 0);
    const uint64_t passed_ns = now_ns() - start_ns;
    cr_assert(passed_ns >= 30 * MS && passed_ns < 10000 * MS, "%llu ns",
              (unsigned long long)passed_ns);
    request.duration_ns = 0;
    assert_result(&request, 0);
}

static void timeout_fails(void) {
    sr_request request = request_of(SR_OP_TIMEOUT);
    request.duration_ns = 3600000 * MS;
    const sr_op op = submit(ring, &request);
    assert_ok(sr_op_cancel(ring, op));
    const sr_completion completion = wait_one(ring);
    assert_code(completion.result, -ECANCELED);
    cr_assert_eq(completion.flags, SR_COMPLETION_CANCEL_ASKED);
    request.duration_ns = (uint64_t)INT64_MAX + 1;
    assert_refused(&request, SR_E_BOUNDS);
}

static const struct {
    void (*works)(void);
    void (*fails)(void);
} table[FILE_OPS] = {
    [SR_OP_NOP] = {nop_works, nop_fails},
    [SR_OP_READ] = {read_works, read_fails},
    [SR_OP_WRITE] = {write_works, write_fails},
    [SR_OP_READV] = {readv_works, readv_fails},
    [SR_OP_WRITEV] = {writev_works, writev_fails},
    [SR_OP_FSYNC] = {fsync_works, fsync_fails},
    [SR_OP_FDATASYNC] = {fdatasync_works, fdatasync_fails},
    [SR_OP_SYNC_RANGE] = {sync_range_works, sync_range_fails},
    [SR_OP_FALLOCATE] = {fallocate_works, fallocate_fails},
    [SR_OP_FTRUNCATE] = {ftruncate_works, ftruncate_fails},
    [SR_OP_OPENAT] = {openat_works, openat_fails},
    [SR_OP_CLOSE] = {close_works, close_fails},
    [SR_OP_STATX] = {statx_works, statx_fails},
    [SR_OP_UNLINKAT] = {unlinkat_works, unlinkat_fails},
    [SR_OP_RENAMEAT] = {renameat_works, renameat_fails},
    [SR_OP_MKDIRAT] = {mkdirat_works, mkdirat_fails},
    [SR_OP_LINKAT] = {linkat_works, linkat_fails},
    [SR_OP_SYMLINKAT] = {symlinkat_works, symlinkat_fails},
    [SR_OP_FADVISE] = {fadvise_works, fadvise_fails},
    [SR_OP_MADVISE] = {madvise_works, madvise_fails},
    [SR_OP_TIMEOUT] = {timeout_works, timeout_fails},
};

Test(ring_ops, each_operation_works) {
    for (uint32_t op = 0; op < FILE_OPS; op++) {
        cr_assert_not_null(table[op].works, "operation %u has no test", op);
        begin();
        table[op].works();
        end();
    }
}

Test(ring_ops, each_operation_fails_as_documented) {
    for (uint32_t op = 0; op < FILE_OPS; op++) {
        cr_assert_not_null(table[op].fails, "operation %u has no test", op);
        begin();
        table[op].fails();
        end();
    }
}

/* ---- more than one case each
 * ----------------------------------------------------------------------- */

CASE(ring_ops, a_directory_of_none_is_the_working_directory, begin, end) {
    char here[4096];
    cr_assert_not_null(getcwd(here, sizeof here));
    cr_assert_eq(fchdir(directory.fd), 0);
    sr_request request = request_of(SR_OP_OPENAT);
    request.path = "file";
    const sr_completion opened = run(ring, &request);
    assert_ok(opened.result);
    file_close(ring, opened.file);
    request = request_of(SR_OP_LINKAT);
    request.path = "file";
    request.new_path = "linked";
    assert_result(&request, 0);
    cr_assert(exists("linked"));
    request = request_of(SR_OP_STATX);
    request.path = "linked";
    request.mask = STATX_NLINK;
    cr_assert_eq(run(ring, &request).statx->stx_nlink, 2);
    cr_assert_eq(chdir(here), 0);
}

CASE(ring_ops, paths_are_copied_when_the_request_is_taken, begin, end) {
    char old[16] = "file";
    char new[16] = "renamed";
    sr_request request = two_paths_of(SR_OP_RENAMEAT, old, new);
    (void)submit(ring, &request);
    memset(old, 'x', sizeof old - 1);
    memset(new, 'y', sizeof new - 1);
    assert_ok(wait_one(ring).result);
    cr_assert(exists("renamed") && !exists("file"));
}

CASE(ring_ops, slices_are_copied_when_the_request_is_taken, begin, end) {
    sr_slice slices[2] = {{buffer, 0, 10}, {buffer, 10, 10}};
    sr_request request = request_of(SR_OP_READV);
    request.file = file;
    request.slices = slices;
    request.slice_count = 2;
    (void)submit(ring, &request);
    memset(slices, 0xff, sizeof slices);
    cr_assert_eq(wait_one(ring).result, 20);
    cr_assert_eq(memcmp(buffer_bytes(pool, buffer, BYTES), contents, 20), 0);
}

CASE(ring_ops, as_many_slices_as_allowed_over_as_many_buffers_as_there_are, begin, end) {
    sr_slice slices[SR_SLICES_MAX];
    sr_buffer buffers[7];
    for (uint32_t i = 0; i < COUNT_OF(buffers); i++) {
        buffers[i] = buffer_take(pool);
    }
    for (uint32_t i = 0; i < SR_SLICES_MAX; i++) {
        slices[i] = (sr_slice){buffers[i % 7], 100 * (i / 7), 1 + i};
    }
    sr_request request = request_of(SR_OP_READV);
    request.file = file;
    request.slices = slices;
    request.slice_count = SR_SLICES_MAX;
    assert_result(&request, SR_SLICES_MAX * (SR_SLICES_MAX + 1) / 2);
    size_t offset = 0;
    for (uint32_t i = 0; i < SR_SLICES_MAX; i++) {
        const unsigned char *bytes = buffer_bytes(pool, buffers[i % 7], BYTES);
        cr_assert_eq(memcmp(bytes + 100 * (i / 7), contents + offset, 1 + i), 0, "slice %u", i);
        offset += 1 + i;
    }
}

CASE(ring_ops, every_slice_is_lent_until_the_completion, begin, end) {
    sr_slice slices[2] = {{buffer, 0, 10}, {buffer, 4096, 10}};
    void *data = NULL;
    sr_request request = request_of(SR_OP_READV);
    request.file = pipe_end;
    request.slices = slices;
    request.slice_count = 2;
    request.offset = SR_OFFSET_CURRENT;
    const sr_op op = submit(ring, &request);
    assert_code(sr_buffer_data(pool, buffer, 4105, 1, SR_ACCESS_READ, &data), SR_E_LENT);
    assert_code(sr_buffer_data(pool, buffer, 9, 1, SR_ACCESS_READ, &data), SR_E_LENT);
    assert_ok(sr_buffer_data(pool, buffer, 10, 4086, SR_ACCESS_WRITE, &data));
    assert_code(sr_ring_detach_pool(ring, pool), SR_E_IN_FLIGHT);
    assert_code(sr_pool_release(pool, buffer), SR_E_IN_FLIGHT);
    misuse_forget();
    cr_assert_eq(write(pipe_in, "0123456789abcdef", 16), 16);
    const sr_completion completion = wait_one(ring);
    cr_assert_eq(completion.op.bits, op.bits);
    cr_assert_eq(completion.result, 16);
    const unsigned char *bytes = buffer_bytes(pool, buffer, BYTES);
    cr_assert(memcmp(bytes, "0123456789", 10) == 0 && memcmp(bytes + 4096, "abcdef", 6) == 0);
}

CASE(ring_ops, an_empty_range_transfers_nothing_and_is_no_error, begin, end) {
    sr_slice slices[2] = {{buffer, (uint32_t)BYTES, 0}, {buffer, 5, 0}};
    for (uint16_t op = SR_OP_READ; op <= SR_OP_WRITEV; op++) {
        for (uint16_t flags = 0; flags <= SR_REQUEST_FULL; flags++) {
            sr_request request = transfer_of(op, file);
            request.flags = flags;
            request.length = 0;
            request.slices = slices;
            request.slice_count = 2;
            assert_result(&request, 0);
            request.buffer_offset = (uint32_t)BYTES; /* at the very end */
            assert_result(&request, 0);
        }
    }
    cr_assert_eq(status_of("file").st_size, (off_t)BYTES);
    sr_request request = transfer_of(SR_OP_MADVISE, SR_FILE_NONE);
    request.length = 0;
    assert_result(&request, 0);
}

CASE(ring_ops, the_end_of_a_file_is_a_short_read_and_then_none, begin, end) {
    for (uint16_t flags = 0; flags <= SR_REQUEST_FULL; flags++) {
        sr_request request = transfer_of(SR_OP_READ, file);
        request.flags = flags;
        request.offset = BYTES - 100;
        const sr_completion completion = run(ring, &request);
        cr_assert_eq(completion.result, 100);
        cr_assert_eq(completion.bytes_done, 100);
        request.offset = BYTES;
        assert_result(&request, 0);
    }
}

CASE(ring_ops, the_current_offset_moves_with_each_transfer, begin, end) {
    sr_request request = transfer_of(SR_OP_READ, file);
    request.offset = SR_OFFSET_CURRENT;
    request.length = 1000;
    for (size_t at = 0; at < 5000; at += 1000) {
        assert_result(&request, 1000);
        cr_assert_eq(memcmp(buffer_bytes(pool, buffer, BYTES), contents + at, 1000), 0, "%zu", at);
    }
    int fd = -1;
    assert_ok(sr_file_fd(ring, file, &fd));
    cr_assert_eq(lseek(fd, 0, SEEK_CUR), 5000);
    request.op = SR_OP_WRITE;
    assert_result(&request, 1000);
    cr_assert_eq(lseek(fd, 0, SEEK_CUR), 6000);
    request.op = SR_OP_READ;
    request.offset = 0; /* an offset of its own does not move it */
    assert_result(&request, 1000);
    cr_assert_eq(lseek(fd, 0, SEEK_CUR), 6000);
    request.flags = SR_REQUEST_FULL;
    request.offset = SR_OFFSET_CURRENT;
    request.length = BYTES;
    assert_result(&request, (int64_t)BYTES - 6000);
    cr_assert_eq(memcmp(buffer_bytes(pool, buffer, BYTES), contents + 6000, BYTES - 6000), 0);
}

CASE(ring_ops, a_pipe_is_read_at_the_current_offset, begin, end) {
    sr_request request = transfer_of(SR_OP_READ, pipe_end);
    request.offset = SR_OFFSET_CURRENT;
    request.flags = SR_REQUEST_FULL;
    request.length = 10;
    const sr_op op = submit(ring, &request);
    cr_assert_eq(sr_ring_flush(ring), 1);
    cr_assert_eq(write(pipe_in, "01234", 5), 5);
    const sr_completion *completions = NULL;
    assert_code(sr_ring_wait(ring, 1, 20 * MS, NULL, &completions), SR_E_TIMEOUT);
    cr_assert_eq(write(pipe_in, "56789", 5), 5);
    const sr_completion completion = wait_one(ring);
    cr_assert_eq(completion.op.bits, op.bits);
    cr_assert_eq(completion.result, 10);
    cr_assert_eq(memcmp(buffer_bytes(pool, buffer, BYTES), "0123456789", 10), 0);
    cr_assert_geq(ring_stats(ring).short_transfers_total, 1);
}

CASE(ring_ops, a_statx_stays_until_the_next_wait_whatever_is_submitted_meanwhile, begin, end) {
    sr_request request = path_of(SR_OP_STATX, "file");
    request.mask = STATX_SIZE;
    (void)submit(ring, &request);
    request.path = ".";
    request.mask = STATX_MODE;
    request.tag = 1;
    (void)submit(ring, &request);
    const sr_completion *completions = NULL;
    assert_code(sr_ring_wait(ring, 2, SR_FOREVER, NULL, &completions), 2);
    /* The workers of the fallback may end them in either order. */
    const bool in_order = completions[0].tag == 0;
    const struct statx *of_file = completions[in_order ? 0 : 1].statx;
    const struct statx *of_directory = completions[in_order ? 1 : 0].statx;
    cr_assert_neq(of_file, of_directory);
    for (uint32_t i = 0; i < 20; i++) { /* would reuse what was freed */
        request.path = "no such file";
        (void)submit(ring, &request);
    }
    cr_assert_eq(sr_ring_flush(ring), 20);
    cr_assert_eq(of_file->stx_size, BYTES);
    cr_assert(S_ISDIR(of_directory->stx_mode));
    assert_code(sr_ring_wait(ring, 20, SR_FOREVER, NULL, &completions), 20);
}

struct seen_statx {
    uint64_t size;
    uint32_t count;
};

static void note_statx(sr_ring *on, const sr_completion *completion, void *ctx) {
    struct seen_statx *seen = ctx;
    (void)on;
    seen->size = completion->statx->stx_size;
    seen->count++;
}

CASE(ring_ops, a_callback_sees_the_statx_too, begin, end) {
    struct seen_statx seen = {0};
    sr_request request = path_of(SR_OP_STATX, "file");
    request.mask = STATX_SIZE;
    request.on_complete = note_statx;
    request.ctx = &seen;
    (void)submit(ring, &request);
    assert_code(sr_ring_wait(ring, 1, SR_FOREVER, NULL, NULL), 0);
    cr_assert(seen.count == 1 && seen.size == BYTES);
}

CASE(ring_ops, each_operation_also_runs_in_a_kernel_worker, begin, end) {
    /* Whatever the opcode: SR_REQUEST_ASYNC changes where it runs, not what it does. */
    sr_slice slices[1] = {{buffer, 0, 10}};
    for (uint16_t op = 0; op < FILE_OPS; op++) {
        sr_request request = transfer_of(op, file);
        request.flags = SR_REQUEST_ASYNC;
        request.length = 4096;
        request.slices = slices;
        request.slice_count = 1;
        request.duration_ns = MS;
        request.path = "file";
        request.new_path = "async";
        request.new_dir = dir;
        request.advice = 0;
        switch (op) {
        case SR_OP_CLOSE:
            request.file = write_only;
            break;
        case SR_OP_OPENAT:
        case SR_OP_STATX:
        case SR_OP_LINKAT:
            request.file = dir;
            break;
        case SR_OP_UNLINKAT:
            request.file = dir;
            request.path = "async"; /* what LINKAT's turn has not made yet: made here */
            touch("async");
            break;
        case SR_OP_RENAMEAT:
            request.file = dir;
            touch("async from");
            request.path = "async from";
            break;
        case SR_OP_MKDIRAT:
            request.file = dir;
            request.path = "async folder";
            break;
        default:
            break;
        }
        if (op == SR_OP_LINKAT || op == SR_OP_SYMLINKAT) {
            (void)unlinkat(directory.fd, "async", 0);
        }
        const sr_completion completion = run(ring, &request);
        cr_assert_geq(completion.result, 0, "operation %u: %s", op,
                      sr_error_name((int)completion.result));
        if (op == SR_OP_OPENAT) {
            file_close(ring, completion.file);
        }
    }
}

/* ---- madvise and registered pages
 * ---------------------------------------------------------------- */

static void read_into_discarded(void) {
    unsigned char *bytes = buffer_bytes(pool, buffer, BYTES);
    memset(bytes, 'x', BYTES);
    sr_request discard = transfer_of(SR_OP_MADVISE, SR_FILE_NONE);
    discard.advice = MADV_DONTNEED;
    discard.buffer_offset = 4096;
    discard.length = 4096;
    assert_result(&discard, 0);
    /* Memory that has a descriptor keeps its contents (docs/GUARDS.md). */
    const unsigned char left = pool_stats(pool).guard == SR_GUARD_PROTECT ? 'x' : 0;
    for (size_t i = 0; i < BYTES; i++) {
        cr_assert_eq(bytes[i], i >= 4096 && i < 8192 ? left : 'x');
    }
    sr_request read_request = transfer_of(SR_OP_READ, file);
    assert_result(&read_request, (int64_t)BYTES);
    cr_assert_eq(memcmp(bytes, contents, BYTES), 0, "the kernel wrote to other pages");
}

Test(ring_ops, discarded_pages_of_a_plain_pool_are_new_for_program_and_kernel) {
    failing_install();
    failing_refuse_registration();
    begin();
    cr_assert_eq(ring_stats(ring).pools_plain, 2);
    read_into_discarded();
    end();
    failing_remove();
}

CASE(ring_ops, pages_of_a_registered_pool_are_not_discarded, begin, end) {
    if (ring_stats(ring).pools_registered == 0) {
        cr_skip_test("nothing could be registered here: %s",
                     sr_error_name(ring_stats(ring).register_error));
    }
    memset(buffer_bytes(pool, buffer, BYTES), 'x', BYTES);
    sr_request discard = transfer_of(SR_OP_MADVISE, SR_FILE_NONE);
    const int replacing[] = {MADV_DONTNEED, MADV_FREE};
    for (size_t i = 0; i < COUNT_OF(replacing); i++) {
        discard.advice = replacing[i];
        assert_code(sr_ring_submit(ring, &discard, NULL), SR_E_STATE);
        assert_misuse("sr_ring_submit", SR_E_STATE);
    }
    cr_assert_eq(buffer_bytes(pool, buffer, BYTES)[0], 'x');
    sr_request read_request = transfer_of(SR_OP_READ, file);
    assert_result(&read_request, (int64_t)BYTES);
    cr_assert_eq(memcmp(buffer_bytes(pool, buffer, BYTES), contents, BYTES), 0);
}

/* Another ring has the same pool's pages: they are registered all the same. */
CASE(ring_ops, pages_that_another_ring_has_registered_are_not_discarded, begin, end) {
    if (ring_stats(ring).pools_registered == 0) {
        cr_skip_test("nothing could be registered here");
    }
    failing_install();
    failing_refuse_registration();
    sr_ring *plain = ring_make(NULL);
    pool_attach(plain, pool);
    cr_assert_eq(ring_stats(plain).pools_plain, 1);
    sr_request discard = transfer_of(SR_OP_MADVISE, SR_FILE_NONE);
    discard.advice = MADV_DONTNEED;
    assert_code(sr_ring_submit(plain, &discard, NULL), SR_E_STATE);
    misuse_forget();
    assert_ok(sr_ring_detach_pool(ring, pool));
    assert_ok(run(plain, &discard).result);
    ring_end(&plain);
    failing_remove();
    pool_attach(ring, pool);
}

/* ---- kernels that lack an operation
 * ---------------------------------------------------------------- */

Test(ring_ops, what_the_kernel_lacks_is_done_by_a_system_call_where_there_is_one) {
    failing_install();
    failing_mask_op(SRI_IORING_OP_FTRUNCATE);
    begin();
    ftruncate_works();
    cr_assert_eq(ring_stats(ring).substitutes_total, 2);
    sr_request request = request_of(SR_OP_FTRUNCATE);
    request.file = read_only;
    request.tag = 99;
    const sr_completion completion = run(ring, &request);
    assert_code(completion.result, -EINVAL);
    cr_assert_eq(completion.tag, 99);
    cr_assert_eq(completion.file.bits, read_only.bits);
    cr_assert_eq(failing_count(FAILING_SQE_RUN), 3);
    cr_assert_eq(status_of("file").st_size, 456);
    end();
    failing_remove();
}

Test(ring_ops, what_the_kernel_has_is_not_substituted) {
    failing_install();
    begin();
    ftruncate_works();
    if (ring_stats(ring).substitutes_total > 0) {
        cr_skip_test("this kernel has no IORING_OP_FTRUNCATE (Linux 6.9)");
    }
    cr_assert_eq(failing_count(FAILING_SQE_RUN), 0);
    end();
    failing_remove();
}

static const uint8_t uapi_of[FILE_OPS] = {
    [SR_OP_NOP] = IORING_OP_NOP,
    [SR_OP_READ] = IORING_OP_READ,
    [SR_OP_WRITE] = IORING_OP_WRITE,
    [SR_OP_READV] = IORING_OP_READV,
    [SR_OP_WRITEV] = IORING_OP_WRITEV,
    [SR_OP_FSYNC] = IORING_OP_FSYNC,
    [SR_OP_FDATASYNC] = IORING_OP_FSYNC,
    [SR_OP_SYNC_RANGE] = IORING_OP_SYNC_FILE_RANGE,
    [SR_OP_FALLOCATE] = IORING_OP_FALLOCATE,
    [SR_OP_FTRUNCATE] = SRI_IORING_OP_FTRUNCATE,
    [SR_OP_OPENAT] = IORING_OP_OPENAT2,
    [SR_OP_CLOSE] = IORING_OP_CLOSE,
    [SR_OP_STATX] = IORING_OP_STATX,
    [SR_OP_UNLINKAT] = IORING_OP_UNLINKAT,
    [SR_OP_RENAMEAT] = IORING_OP_RENAMEAT,
    [SR_OP_MKDIRAT] = IORING_OP_MKDIRAT,
    [SR_OP_LINKAT] = IORING_OP_LINKAT,
    [SR_OP_SYMLINKAT] = IORING_OP_SYMLINKAT,
    [SR_OP_FADVISE] = IORING_OP_FADVISE,
    [SR_OP_MADVISE] = IORING_OP_MADVISE,
    [SR_OP_TIMEOUT] = IORING_OP_TIMEOUT,
};

Test(ring_ops, what_the_kernel_lacks_and_nothing_replaces_is_unsupported) {
    /* NOP, READ and WRITE are older than the oldest kernel that rings are made on. */
    for (uint16_t op = SR_OP_READV; op < FILE_OPS; op++) {
        if (op == SR_OP_FTRUNCATE || op == SR_OP_CLOSE) {
            continue; /* substituted; needed by this test's own tear-down */
        }
        failing_install();
        failing_mask_op(uapi_of[op]);
        begin();
        sr_slice slices[1] = {{buffer, 0, 10}};
        sr_request request = transfer_of(op, op == SR_OP_MADVISE ? SR_FILE_NONE : dir);
        request.slices = slices;
        request.slice_count = 1;
        request.path = "file";
        request.new_path = "other";
        request.new_dir = dir;
        const int code = sr_ring_submit(ring, &request, NULL);
        cr_assert_eq(code, SR_E_UNSUPPORTED, "operation %u: %s", op, sr_error_name(code));
        assert_no_misuse();
        cr_assert_eq(ring_stats(ring).submitted_total, 0);
        memset(buffer_bytes(pool, buffer, BYTES), 1, BYTES); /* nothing stays lent */
        end();
        failing_remove();
    }
}
