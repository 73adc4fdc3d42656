/* SPDX-License-Identifier: MIT */
/*
 * sr_file: a descriptor's number must not come to mean another file under an operation that is
 * queued or in flight, and each operation takes what the kernel accepts there: the fixed slot for
 * reads and writes, the real descriptor as directory and for statx (a slot gives EBADF).
 */
#include "support/case.h"
#include "support/failing.h"
#include "support/rig.h"
#include "support/scale.h"
#include "support/skip.h"
#include "support/slowfs.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LENGTH 4096u

static struct {
    struct rig rig;
    struct slowfs *fs;
} self;

TestSuite(file, .timeout = 60);

static void set_up_plain(void) {
    failing_install();
    rig_open(&self.rig, NULL, NULL);
}

static void tear_down_plain(void) {
    rig_close(&self.rig);
    cr_assert_null(failing_leak(), "%s", failing_leak());
    failing_remove();
}

static void set_up_slow(void) {
    SKIP_BECAUSE(slowfs_start(&self.fs, 0));
    set_up_plain();
}

static void tear_down_slow(void) {
    tear_down_plain();
    slowfs_stop(&self.fs);
}

static bool fd_is_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0;
}

static int fd_of(sr_file file) {
    int fd = -1;
    cr_assert_eq(sr_file_fd(self.rig.ring, file, &fd), 0);
    return fd;
}

static sr_request close_request(sr_file file, uint32_t op_flags) {
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_CLOSE;
    request.file = file;
    request.op_flags = op_flags;
    return request;
}

static void close_file(sr_file file) {
    const sr_request request = close_request(file, 0);
    cr_assert_eq(rig_run(&self.rig, &request).result, 0);
}

/* A file of one page that holds @mark everywhere. */
static int marked_fd(unsigned char mark) {
    unsigned char page[LENGTH];
    const int fd = rig_temporary_file(0);
    memset(page, mark, sizeof page);
    cr_assert_eq(pwrite(fd, page, sizeof page, 0), (ssize_t)sizeof page);
    return fd;
}

static bool buffer_holds(sr_buffer buffer, unsigned char mark) {
    const unsigned char *data = rig_data(&self.rig, buffer, LENGTH);
    for (uint32_t i = 0; i < LENGTH; i++) {
        if (data[i] != mark) {
            return false;
        }
    }
    return true;
}

/* ---- the number
 * ------------------------------------------------------------------------------------- */

CASE(file, a_close_waits_for_the_operation_in_flight_and_keeps_the_number, set_up_slow,
     tear_down_slow) {
    sr_completion completion;
    const sr_completion *completions = NULL;
    const sr_file file = rig_adopt(&self.rig, slowfs_open(self.fs, 0, O_RDONLY), 0);
    const int fd = fd_of(file);
    int borrowed = 0;
    self.fs->files[0].gate_closed = 1;
    const sr_request read = rig_transfer(SR_OP_READ, file, rig_buffer(&self.rig), LENGTH, 0);
    const sr_op read_op = rig_submit(&self.rig, &read);
    cr_assert_eq(sr_ring_flush(self.rig.ring), 1);
    cr_assert(slowfs_wait(self.fs, 0, 1, 5000));
    const sr_request close_it = close_request(file, 0);
    const sr_op close_op = rig_submit(&self.rig, &close_it);

    cr_assert_eq(sr_ring_wait(self.rig.ring, 1, 50 * RIG_MS, NULL, &completions), SR_E_TIMEOUT);
    cr_assert(fd_is_open(fd), "the descriptor was closed under a read in flight");
    for (int i = 0; i < 10; i++) {
        const int other = open("/dev/null", O_RDONLY | O_CLOEXEC);
        cr_assert_neq(other, fd);
        cr_assert_eq(close(other), 0);
    }
    /* From the close on the file takes nothing new. */
    cr_assert_eq(sr_ring_submit(self.rig.ring, &read, NULL), SR_E_STATE);
    cr_assert_eq(sr_ring_submit(self.rig.ring, &close_it, NULL), SR_E_STATE);
    cr_assert_eq(sr_file_fd(self.rig.ring, file, &borrowed), SR_E_STATE);
    cr_assert_eq(borrowed, -1);
    cr_assert_eq(sr_file_detach(self.rig.ring, file, &borrowed), SR_E_STATE);

    self.fs->files[0].gate_closed = 0;
    cr_assert_eq(rig_wait(&self.rig, &completion), 1);
    cr_assert_eq(completion.op.bits, read_op.bits);
    cr_assert_eq(completion.result, LENGTH);
    cr_assert_eq(completion.buffer.bits, read.buffer.bits);
    cr_assert_eq(rig_wait(&self.rig, &completion), 1);
    cr_assert_eq(completion.op.bits, close_op.bits);
    cr_assert_eq(completion.result, 0);
    cr_assert_not(fd_is_open(fd));
    cr_assert_eq(sr_ring_submit(self.rig.ring, &read, NULL), SR_E_STALE);
    cr_assert_eq(sr_file_fd(self.rig.ring, file, &borrowed), SR_E_STALE);
    cr_assert_eq(rig_stats(&self.rig).files_open, 0);
}

static void queued_operations_meet_their_file(uint32_t flags) {
    enum { QUEUED = 8 };
    const int fd = marked_fd(7);
    const sr_file file = rig_adopt(&self.rig, fd, flags);
    unsigned int seen = 0;
    /* Nothing of this is sent before the wait. */
    for (uint64_t i = 0; i < QUEUED; i++) {
        sr_request request = rig_transfer(SR_OP_READ, file, rig_buffer(&self.rig), LENGTH, 0);
        request.tag = i;
        (void)rig_submit(&self.rig, &request);
    }
    sr_request request = close_request(file, 0);
    request.tag = QUEUED;
    (void)rig_submit(&self.rig, &request);
    cr_assert(fd_is_open(fd), "the descriptor was closed under queued reads");
    while (seen != (1u << (QUEUED + 1)) - 1) {
        const sr_completion *completions = NULL;
        const int count = sr_ring_wait(self.rig.ring, 1, 5 * RIG_SECOND, NULL, &completions);
        cr_assert_gt(count, 0, "sr_ring_wait: %d", count);
        for (int i = 0; i < count; i++) {
            const sr_completion *completion = &completions[i];
            cr_assert_eq(seen & (1u << completion->tag), 0);
            if (completion->tag == QUEUED) {
                cr_assert_eq(completion->result, 0);
                cr_assert_eq(seen, (1u << QUEUED) - 1, "the close overtook a read");
            } else {
                cr_assert_eq(completion->result, LENGTH);
                cr_assert(buffer_holds(completion->buffer, 7));
                cr_assert_eq(sr_pool_release(self.rig.pool, completion->buffer), 0);
            }
            seen |= 1u << completion->tag;
        }
    }
    cr_assert_not(fd_is_open(fd));
}

CASE(file, queued_operations_run_before_the_close, set_up_plain, tear_down_plain) {
    queued_operations_meet_their_file(0);
    queued_operations_meet_their_file(SR_FILE_FIXED);
    cr_assert_eq(rig_stats(&self.rig).fixed_files_used, 0);
}

CASE(file, a_reused_number_never_serves_an_old_handle, set_up_plain, tear_down_plain) {
    const int fd = marked_fd(1);
    const sr_file old = rig_adopt(&self.rig, fd, 0);
    close_file(old);
    const int again = marked_fd(2);
    cr_assert_eq(again, fd, "the test wants the number reused");
    const sr_file new = rig_adopt(&self.rig, again, 0);
    cr_assert_neq(new.bits, old.bits);
    const sr_buffer buffer = rig_buffer(&self.rig);
    sr_request request = rig_transfer(SR_OP_READ, old, buffer, LENGTH, 0);
    cr_assert_eq(sr_ring_submit(self.rig.ring, &request, NULL), SR_E_STALE);
    request.file = new;
    cr_assert_eq(rig_run(&self.rig, &request).result, LENGTH);
    cr_assert(buffer_holds(buffer, 2));
    request = close_request(old, 0);
    cr_assert_eq(sr_ring_submit(self.rig.ring, &request, NULL), SR_E_STALE);
    cr_assert(fd_is_open(again));
}

/*
 * Files come and go in random order while reads on them are queued and in flight; numbers are
 * reused all the time. Every read gets the bytes of the file that its handle named.
 */
CASE(file, reads_find_their_own_file_while_numbers_are_reused, set_up_plain, tear_down_plain) {
    enum { LIVE = 8 };
    struct scale_random random = scale_random(4);
    const uint64_t steps = scale_count(4000, 200);
    sr_file files[LIVE] = {{0}};
    unsigned char marks[LIVE] = {0};
    unsigned char next_mark = 1;
    uint64_t in_flight = 0;
    uint64_t reads = 0;
    uint64_t reused = 0;
    bool used[1024] = {false};
    for (uint64_t step = 0; step < steps; step++) {
        const uint64_t i = scale_random_below(&random, LIVE);
        sr_request request;
        if (files[i].bits == 0) {
            const int fd = marked_fd(next_mark);
            cr_assert(fd >= 0 && fd < 1024);
            reused += used[fd];
            used[fd] = true;
            files[i] = rig_adopt(&self.rig, fd, scale_random_below(&random, 2) ? SR_FILE_FIXED : 0);
            marks[i] = next_mark;
            next_mark = next_mark == 250 ? 1 : (unsigned char)(next_mark + 1);
        } else if (scale_random_below(&random, 4) == 0) {
            request = close_request(files[i], 0);
            request.tag = 0;
            (void)rig_submit(&self.rig, &request);
            files[i].bits = 0;
            in_flight++;
        } else {
            request = rig_transfer(SR_OP_READ, files[i], rig_buffer(&self.rig), LENGTH, 0);
            request.tag = marks[i];
            request.flags = scale_random_below(&random, 3) == 0 ? SR_REQUEST_ASYNC : 0;
            (void)rig_submit(&self.rig, &request);
            in_flight++;
        }
        if (in_flight < 40 && step + 1 < steps && scale_random_below(&random, 6) != 0) {
            continue;
        }
        const bool to_the_end = step + 1 == steps;
        while (in_flight > (to_the_end ? 0 : 20)) {
            const sr_completion *completions = NULL;
            const int count = sr_ring_wait(self.rig.ring, 1, 5 * RIG_SECOND, NULL, &completions);
            cr_assert_gt(count, 0, "sr_ring_wait: %d", count);
            for (int n = 0; n < count; n++) {
                const sr_completion *completion = &completions[n];
                in_flight--;
                if (completion->opcode == SR_OP_CLOSE) {
                    cr_assert_eq(completion->result, 0);
                    continue;
                }
                reads++;
                cr_assert_eq(completion->result, LENGTH, "read: %lld",
                             (long long)completion->result);
                cr_assert(buffer_holds(completion->buffer, (unsigned char)completion->tag),
                          "a read got the bytes of another file");
                cr_assert_eq(sr_pool_release(self.rig.pool, completion->buffer), 0);
            }
        }
    }
    cr_assert_gt(reads, steps / 4);
    cr_assert_gt(reused, steps / 40, "few numbers were reused: the test says nothing");
}

CASE(file, a_cancelling_close_ends_what_would_never_end, set_up_plain, tear_down_plain) {
    int ends[2];
    sr_completion completion;
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    const sr_file file = rig_adopt(&self.rig, ends[0], 0);
    sr_request request =
        rig_transfer(SR_OP_READ, file, rig_buffer(&self.rig), LENGTH, SR_OFFSET_CURRENT);
    const sr_op read = rig_submit(&self.rig, &request);
    cr_assert_eq(sr_ring_flush(self.rig.ring), 1);
    request = close_request(file, SR_CLOSE_CANCEL);
    const sr_op close_op = rig_submit(&self.rig, &request);
    cr_assert_eq(rig_wait(&self.rig, &completion), 1);
    cr_assert_eq(completion.op.bits, read.bits);
    cr_assert_eq(completion.result, -ECANCELED);
    cr_assert_eq(completion.flags, SR_COMPLETION_CANCEL_ASKED);
    cr_assert_eq(rig_wait(&self.rig, &completion), 1);
    cr_assert_eq(completion.op.bits, close_op.bits);
    cr_assert_eq(completion.result, 0);
    cr_assert_not(fd_is_open(ends[0]));
    (void)signal(SIGPIPE, SIG_IGN);
    cr_assert_eq(write(ends[1], "x", 1), -1);
    cr_assert_eq(errno, EPIPE);
    (void)close(ends[1]);
}

CASE(file, detach_gives_the_descriptor_back_when_nothing_uses_it, set_up_slow, tear_down_slow) {
    sr_completion completion;
    int fd = -1;
    const sr_file file = rig_adopt(&self.rig, slowfs_open(self.fs, 0, O_RDONLY), SR_FILE_FIXED);
    const int real = fd_of(file);
    self.fs->files[0].gate_closed = 1;
    const sr_request read = rig_transfer(SR_OP_READ, file, rig_buffer(&self.rig), LENGTH, 0);
    (void)rig_submit(&self.rig, &read);
    cr_assert_eq(sr_file_detach(self.rig.ring, file, &fd), SR_E_IN_FLIGHT, "queued");
    cr_assert_eq(fd, -1);
    cr_assert_eq(sr_ring_flush(self.rig.ring), 1);
    cr_assert_eq(sr_file_detach(self.rig.ring, file, &fd), SR_E_IN_FLIGHT, "in flight");
    self.fs->files[0].gate_closed = 0;
    cr_assert_eq(rig_wait(&self.rig, &completion), 1);
    cr_assert_eq(sr_file_detach(self.rig.ring, file, &fd), 0);
    cr_assert_eq(fd, real);
    cr_assert(fd_is_open(fd));
    cr_assert_eq(sr_file_detach(self.rig.ring, file, &fd), SR_E_STALE);
    cr_assert_eq(rig_stats(&self.rig).fixed_files_used, 0);
    cr_assert_eq(close(real), 0);
}

/* The file system is slow to close it, and the ring has a slot for it: nobody waits but the worker
 * that runs the close. */
CASE(file, a_close_that_blocks_does_not_block_its_submission, set_up_slow, tear_down_slow) {
    sr_completion completion;
    for (uint32_t flags = 0; flags <= SR_FILE_FIXED; flags++) {
        sr_request close_request = SR_REQUEST_INIT;
        close_request.op = SR_OP_CLOSE;
        close_request.file = rig_adopt(&self.rig, slowfs_open(self.fs, 0, O_RDONLY), flags);
        self.fs->files[0].flush_gate_closed = 1;
        (void)rig_submit(&self.rig, &close_request);
        cr_assert_eq(sr_ring_flush(self.rig.ring), 1);
        for (int i = 0; i < 10000 && self.fs->files[0].flushing_count == 0; i++) {
            (void)usleep(1000);
        }
        /* The gate opens by itself when the one thread that could open it waits there. */
        cr_assert_eq(self.fs->files[0].flushing_count, 1);
        cr_assert_eq(self.fs->files[0].flush_count, 0, "somebody has waited for the server");
        self.fs->files[0].flush_gate_closed = 0;
        cr_assert_eq(rig_wait(&self.rig, &completion), 1);
        cr_assert_eq(completion.result, 0);
        cr_assert_eq(self.fs->files[0].flush_count, 1);
        self.fs->files[0].flush_count = 0;
    }
}

/* Whether another process finds a lock of ours on the file. */
static bool is_locked(int fd) {
    int status = -1;
    const pid_t other = fork();
    cr_assert_geq(other, 0);
    if (other == 0) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        _exit(fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK ? 1 : 0);
    }
    cr_assert_eq(waitpid(other, &status, 0), other);
    cr_assert(WIFEXITED(status));
    return WEXITSTATUS(status) == 1;
}

/* Closing any descriptor of a file gives up the process's locks on it (fcntl(2)). */
CASE(file, a_file_that_is_detached_keeps_its_locks, set_up_plain, tear_down_plain) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    const int fd = marked_fd(1);
    int detached = -1;
    cr_assert_eq(fcntl(fd, F_SETLK, &lock), 0);
    cr_assert(is_locked(fd));
    const sr_file file = rig_adopt(&self.rig, fd, SR_FILE_FIXED);
    cr_assert_eq(sr_file_detach(self.rig.ring, file, &detached), 0);
    cr_assert(is_locked(detached));
    cr_assert_eq(close(detached), 0);
}

CASE(file, the_ring_closes_what_it_keeps, set_up_plain, tear_down_plain) {
    const int plain = marked_fd(1);
    const int fixed = marked_fd(2);
    (void)rig_adopt(&self.rig, plain, 0);
    (void)rig_adopt(&self.rig, fixed, SR_FILE_FIXED);
    cr_assert_eq(sr_ring_destroy(&self.rig.ring), 0);
    cr_assert_not(fd_is_open(plain));
    cr_assert_not(fd_is_open(fixed));
}

/* A close that the kernel is at has given up the number: it is no longer ours to close. */
CASE(file, a_close_that_hangs_over_destroy_does_not_close_a_stranger, set_up_slow, tear_down_slow) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    sr_ring *ring = NULL;
    sr_file file = SR_FILE_NONE;
    struct stat before;
    struct stat after;
    const int fd = slowfs_open(self.fs, 0, O_RDONLY);
    options.drain_timeout_ns = 50 * RIG_MS;
    cr_assert_eq(sr_ring_create(&options, &ring), 0);
    cr_assert_eq(sr_file_adopt(ring, fd, 0, &file), 0);
    self.fs->files[0].flush_gate_closed = 1;
    const sr_request request = close_request(file, 0);
    cr_assert_eq(sr_ring_submit(ring, &request, NULL), 0);
    cr_assert_eq(sr_ring_flush(ring), 1);
    for (int i = 0; i < 5000 && self.fs->files[0].flushing_count == 0; i++) {
        (void)usleep(1000);
    }
    cr_assert_eq(self.fs->files[0].flushing_count, 1, "the close is not at the server");
    cr_assert_not(fd_is_open(fd), "the test expects the kernel to have freed the number");

    const int stranger = open("/dev/null", O_RDONLY | O_CLOEXEC);
    cr_assert_eq(stranger, fd, "the test wants the number reused");
    cr_assert_eq(fstat(stranger, &before), 0);
    cr_assert_eq(sr_ring_destroy(&ring), SR_E_IN_FLIGHT);
    const int still = fstat(stranger, &after);
    self.fs->files[0].flush_gate_closed = 0;
    cr_assert_eq(still, 0, "destroy closed a descriptor that was not its own");
    cr_assert_eq(after.st_rdev, before.st_rdev);
    cr_assert_eq(sr_quarantine_sweep(5 * RIG_SECOND), 0);
    cr_assert(fd_is_open(stranger));
    cr_assert_eq(close(stranger), 0);
}

/* ---- slot or descriptor
 * ------------------------------------------------------------------------------ */

static struct failing_sqe newest(uint8_t opcode) {
    struct failing_sqe sqe;
    cr_assert(failing_sqe_newest(opcode, &sqe), "no SQE with opcode %u was sent", opcode);
    return sqe;
}

static bool uses_slot(const struct failing_sqe *sqe) {
    return (sqe->flags & IOSQE_FIXED_FILE) != 0;
}

CASE(file, reads_and_writes_use_the_slot, set_up_plain, tear_down_plain) {
    const int fd = marked_fd(3);
    const sr_file file = rig_adopt(&self.rig, fd, SR_FILE_FIXED);
    const sr_buffer buffer = rig_buffer(&self.rig);
    const sr_slice slice = {buffer, 0, LENGTH};
    const bool registered = rig_stats(&self.rig).pools_registered == 1;
    sr_request request = rig_transfer(SR_OP_READ, file, buffer, LENGTH, 0);
    cr_assert_eq(rig_stats(&self.rig).fixed_files_used, 1);
    cr_assert_eq(rig_run(&self.rig, &request).result, LENGTH);
    struct failing_sqe sqe = newest(registered ? IORING_OP_READ_FIXED : IORING_OP_READ);
    cr_assert(uses_slot(&sqe));
    cr_assert(buffer_holds(buffer, 3));
    request.op = SR_OP_WRITE;
    cr_assert_eq(rig_run(&self.rig, &request).result, LENGTH);
    sqe = newest(registered ? IORING_OP_WRITE_FIXED : IORING_OP_WRITE);
    cr_assert(uses_slot(&sqe));
    request.op = SR_OP_READV;
    request.slices = &slice;
    request.slice_count = 1;
    cr_assert_eq(rig_run(&self.rig, &request).result, LENGTH);
    sqe = newest(IORING_OP_READV);
    cr_assert(uses_slot(&sqe));
    request.op = SR_OP_FSYNC;
    cr_assert_eq(rig_run(&self.rig, &request).result, 0);
    sqe = newest(IORING_OP_FSYNC);
    cr_assert(uses_slot(&sqe));

    /* The same without a slot. */
    const sr_file plain = rig_adopt(&self.rig, marked_fd(4), 0);
    request = rig_transfer(SR_OP_READ, plain, buffer, LENGTH, 0);
    cr_assert_eq(rig_run(&self.rig, &request).result, LENGTH);
    sqe = newest(registered ? IORING_OP_READ_FIXED : IORING_OP_READ);
    cr_assert_not(uses_slot(&sqe));
    cr_assert_eq(sqe.fd, fd_of(plain));
    cr_assert(buffer_holds(buffer, 4));
}

CASE(file, statx_of_a_file_with_a_slot_uses_the_descriptor, set_up_plain, tear_down_plain) {
    const sr_file file = rig_adopt(&self.rig, marked_fd(5), SR_FILE_FIXED);
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_STATX;
    request.file = file;
    request.path = "";
    request.op_flags = AT_EMPTY_PATH;
    request.mask = STATX_SIZE;
    const sr_completion completion = rig_run(&self.rig, &request);
    cr_assert_eq(completion.result, 0, "statx: %lld", (long long)completion.result);
    cr_assert_not_null(completion.statx);
    cr_assert_eq(completion.statx->stx_size, LENGTH);
    const struct failing_sqe sqe = newest(IORING_OP_STATX);
    cr_assert_not(uses_slot(&sqe));
    cr_assert_eq(sqe.fd, fd_of(file));
}

static int64_t run_path(uint16_t op, sr_file dir, const char *path, sr_file new_dir,
                        const char *new_path, uint32_t op_flags) {
    sr_request request = SR_REQUEST_INIT;
    request.op = op;
    request.file = dir;
    request.path = path;
    request.new_dir = new_dir;
    request.new_path = new_path;
    request.op_flags = op_flags;
    request.mode = 0700;
    return rig_run(&self.rig, &request).result;
}

CASE(file, a_directory_with_a_slot_serves_every_path_operation, set_up_plain, tear_down_plain) {
    char path[] = "/tmp/safering-dir-XXXXXX";
    cr_assert_not_null(mkdtemp(path));
    const sr_file dir =
        rig_adopt(&self.rig, open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), SR_FILE_FIXED);
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_OPENAT;
    request.file = dir;
    request.path = "a";
    request.op_flags = O_RDWR | O_CREAT | O_EXCL;
    request.mode = 0600;
    const sr_completion opened = rig_run(&self.rig, &request);
    cr_assert_eq(opened.result, 0, "openat: %lld", (long long)opened.result);
    cr_assert_neq(opened.file.bits, 0);
    cr_assert_eq(fcntl(fd_of(opened.file), F_GETFD), FD_CLOEXEC);
    const struct failing_sqe sqe = newest(IORING_OP_OPENAT2);
    cr_assert_not(uses_slot(&sqe));
    cr_assert_eq(sqe.fd, fd_of(dir));
    close_file(opened.file);

    cr_assert_eq(run_path(SR_OP_MKDIRAT, dir, "d", SR_FILE_NONE, NULL, 0), 0);
    cr_assert_eq(run_path(SR_OP_LINKAT, dir, "a", dir, "d/b", 0), 0);
    cr_assert_eq(run_path(SR_OP_SYMLINKAT, SR_FILE_NONE, "a", dir, "s", 0), 0);
    cr_assert_eq(run_path(SR_OP_RENAMEAT, dir, "d/b", dir, "c", 0), 0);
    cr_assert_eq(run_path(SR_OP_STATX, dir, "c", SR_FILE_NONE, NULL, 0), 0);
    cr_assert_eq(run_path(SR_OP_UNLINKAT, dir, "a", SR_FILE_NONE, NULL, 0), 0);
    cr_assert_eq(run_path(SR_OP_UNLINKAT, dir, "c", SR_FILE_NONE, NULL, 0), 0);
    cr_assert_eq(run_path(SR_OP_UNLINKAT, dir, "s", SR_FILE_NONE, NULL, 0), 0);
    cr_assert_eq(run_path(SR_OP_UNLINKAT, dir, "d", SR_FILE_NONE, NULL, AT_REMOVEDIR), 0);
    cr_assert_eq(rmdir(path), 0, "something was left in the directory");
}

CASE(file, a_directory_stays_open_under_its_path_operations, set_up_plain, tear_down_plain) {
    /* Two directories, both closed while the rename that uses them is queued. */
    char from[] = "/tmp/safering-from-XXXXXX";
    char to[] = "/tmp/safering-to-XXXXXX";
    char name[64];
    unsigned int seen = 0;
    cr_assert_not_null(mkdtemp(from));
    cr_assert_not_null(mkdtemp(to));
    (void)snprintf(name, sizeof name, "%s/x", from);
    cr_assert_eq(close(open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
    const sr_file dirs[2] = {rig_adopt(&self.rig, open(from, O_PATH | O_CLOEXEC), 0),
                             rig_adopt(&self.rig, open(to, O_PATH | O_CLOEXEC), 0)};
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_RENAMEAT;
    request.file = dirs[0];
    request.path = "x";
    request.new_dir = dirs[1];
    request.new_path = "y";
    (void)rig_submit(&self.rig, &request);
    for (uint64_t i = 0; i < 2; i++) {
        request = close_request(dirs[i], 0);
        request.tag = i + 1;
        (void)rig_submit(&self.rig, &request);
    }
    while (seen != 7) {
        const sr_completion *completions = NULL;
        const int count = sr_ring_wait(self.rig.ring, 1, 5 * RIG_SECOND, NULL, &completions);
        cr_assert_gt(count, 0, "sr_ring_wait: %d", count);
        for (int i = 0; i < count; i++) {
            cr_assert_eq(completions[i].result, 0, "operation %u: %lld",
                         (unsigned int)completions[i].tag, (long long)completions[i].result);
            seen |= 1u << completions[i].tag;
        }
    }
    (void)snprintf(name, sizeof name, "%s/y", to);
    cr_assert_eq(unlink(name), 0);
    cr_assert_eq(rmdir(from), 0);
    cr_assert_eq(rmdir(to), 0);
}

CASE(file, slots_run_out_and_come_back, set_up_plain, tear_down_plain) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    sr_ring *ring = NULL;
    sr_file files[3] = {{0}};
    options.fixed_files = 2;
    cr_assert_eq(sr_ring_create(&options, &ring), 0);
    for (int round = 0; round < 5; round++) {
        const int extra = marked_fd(9);
        const sr_completion *completions = NULL;
        cr_assert_eq(sr_file_adopt(ring, marked_fd(1), SR_FILE_FIXED, &files[0]), 0);
        cr_assert_eq(sr_file_adopt(ring, marked_fd(2), SR_FILE_FIXED, &files[1]), 0);
        cr_assert_eq(sr_file_adopt(ring, extra, SR_FILE_FIXED, &files[2]), SR_E_FULL);
        cr_assert_eq(files[2].bits, 0);
        cr_assert(fd_is_open(extra), "after a failure it stays the caller's");
        cr_assert_eq(close(extra), 0);
        for (int i = 0; i < 2; i++) {
            const sr_request request = close_request(files[i], 0);
            cr_assert_eq(sr_ring_submit(ring, &request, NULL), 0);
            cr_assert_eq(sr_ring_wait(ring, 1, RIG_SECOND, NULL, &completions), 1);
            cr_assert_eq(completions[0].result, 0);
        }
    }
    cr_assert_eq(sr_ring_destroy(&ring), 0);
}

CASE(file, a_refused_registration_leaves_the_descriptor_with_the_caller, set_up_plain,
     tear_down_plain) {
    sr_file file = {1};
    const int fd = marked_fd(1);
    failing_plan(FAILING_QUEUE_SET_FILE, 1, -ENOMEM, false);
    cr_assert_eq(sr_file_adopt(self.rig.ring, fd, SR_FILE_FIXED, &file), -ENOMEM);
    cr_assert_eq(file.bits, 0);
    cr_assert(fd_is_open(fd));
    cr_assert_eq(rig_stats(&self.rig).files_open, 0);
    cr_assert_eq(rig_stats(&self.rig).fixed_files_used, 0);
    file = rig_adopt(&self.rig, fd, SR_FILE_FIXED);
    close_file(file);
    cr_assert_not(fd_is_open(fd));
}
