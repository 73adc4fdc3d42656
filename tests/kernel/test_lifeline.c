/* SPDX-License-Identifier: MIT */
/*
 * What the quarantine believes of the kernel: the write end of a pipe that only a ring's fixed-file
 * slot holds is closed when, and not before, the last operation of the closed ring has ended. The
 * read end then hangs up, and memory that was lent is the program's again. Plain liburing, one fact
 * per test.
 */
#include "support/hold.h"
#include "support/skip.h"
#include "support/slowfs.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 20000
#define GLANCE_MS   150 /* how long "not yet" is watched */

#define DEFER_TASKRUN (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)

struct lifeline {
    struct io_uring ring;
    int read_end;
};

/* A ring whose slot 0 is the only holder of the pipe's write end. */
static void lifeline_open(struct lifeline *lifeline, unsigned int setup_flags) {
    int ends[2];
    cr_assert_eq(io_uring_queue_init(8, &lifeline->ring, setup_flags), 0);
    cr_assert_eq(io_uring_register_files_sparse(&lifeline->ring, 2), 0);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    cr_assert_eq(io_uring_register_files_update(&lifeline->ring, 0, &ends[1], 1), 1);
    cr_assert_eq(close(ends[1]), 0);
    lifeline->read_end = ends[0];
}

static bool hangs_up_within(const struct lifeline *lifeline, int timeout_ms) {
    struct pollfd end = {.fd = lifeline->read_end};
    const int count = poll(&end, 1, timeout_ms);
    cr_assert(count >= 0);
    return count == 1 && (end.revents & POLLHUP) != 0;
}

static void lifeline_close(struct lifeline *lifeline) {
    cr_assert_eq(close(lifeline->read_end), 0);
}

static void submit(struct lifeline *lifeline) {
    cr_assert_eq(io_uring_submit(&lifeline->ring), 1);
}

/* A read of an empty pipe: it ends when the ring goes, for nobody ever writes. */
struct endless {
    int ends[2];
    char byte;
};

static void endless_read(struct lifeline *lifeline, struct endless *endless, unsigned char flags) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&lifeline->ring);
    cr_assert_eq(pipe2(endless->ends, O_CLOEXEC), 0);
    io_uring_prep_read(sqe, endless->ends[0], &endless->byte, 1, (__u64)-1);
    sqe->flags |= flags;
    submit(lifeline);
}

static void endless_close(struct endless *endless) {
    cr_assert_eq(close(endless->ends[0]), 0);
    cr_assert_eq(close(endless->ends[1]), 0);
}

/* ---- nothing in flight ----------------------------------------------------------------------- */

Test(lifeline, an_open_ring_does_not_hang_up) {
    struct lifeline lifeline;
    lifeline_open(&lifeline, 0);
    cr_assert(!hangs_up_within(&lifeline, GLANCE_MS));
    io_uring_queue_exit(&lifeline.ring);
    lifeline_close(&lifeline);
}

Test(lifeline, an_idle_ring_that_is_closed_hangs_up) {
    struct lifeline lifeline;
    lifeline_open(&lifeline, 0);
    io_uring_queue_exit(&lifeline.ring);
    cr_assert(hangs_up_within(&lifeline, PATIENCE_MS));
    lifeline_close(&lifeline);
}

Test(lifeline, so_does_one_with_deferred_work_and_a_registered_descriptor) {
    struct lifeline lifeline;
    lifeline_open(&lifeline, DEFER_TASKRUN);
    cr_assert_eq(io_uring_register_ring_fd(&lifeline.ring), 1);
    io_uring_queue_exit(&lifeline.ring);
    cr_assert(hangs_up_within(&lifeline, PATIENCE_MS));
    lifeline_close(&lifeline);
}

/* ---- operations that the closing cancels ----------------------------------------------------- */

Test(lifeline, a_polled_pipe_operation_ends_with_its_ring) {
    struct lifeline lifeline;
    struct endless endless;
    lifeline_open(&lifeline, DEFER_TASKRUN);
    endless_read(&lifeline, &endless, 0);
    cr_assert(!hangs_up_within(&lifeline, GLANCE_MS));
    io_uring_queue_exit(&lifeline.ring);
    cr_assert(hangs_up_within(&lifeline, PATIENCE_MS));
    /* It has ended: what comes now is not read into its memory. */
    endless.byte = 'm';
    cr_assert_eq(write(endless.ends[1], "x", 1), 1);
    (void)usleep(20000);
    cr_assert_eq(endless.byte, 'm');
    endless_close(&endless);
    lifeline_close(&lifeline);
}

Test(lifeline, a_pipe_operation_in_a_worker_thread_ends_with_its_ring) {
    struct lifeline lifeline;
    struct endless endless;
    lifeline_open(&lifeline, DEFER_TASKRUN);
    endless_read(&lifeline, &endless, IOSQE_ASYNC);
    cr_assert(!hangs_up_within(&lifeline, GLANCE_MS));
    io_uring_queue_exit(&lifeline.ring);
    cr_assert(hangs_up_within(&lifeline, PATIENCE_MS));
    endless.byte = 'm';
    cr_assert_eq(write(endless.ends[1], "x", 1), 1);
    (void)usleep(20000);
    cr_assert_eq(endless.byte, 'm');
    endless_close(&endless);
    lifeline_close(&lifeline);
}

Test(lifeline, a_timeout_ends_with_its_ring) {
    struct lifeline lifeline;
    struct __kernel_timespec hour = {.tv_sec = 3600};
    lifeline_open(&lifeline, DEFER_TASKRUN);
    io_uring_prep_timeout(io_uring_get_sqe(&lifeline.ring), &hour, 0, 0);
    submit(&lifeline);
    io_uring_queue_exit(&lifeline.ring);
    cr_assert(hangs_up_within(&lifeline, PATIENCE_MS));
    lifeline_close(&lifeline);
}

/* ---- operations that nothing can cancel ------------------------------------------------------ */

/* A file whose every byte is 'f'. */
static int file_of(size_t size_bytes, int flags) {
    char path[] = "/tmp/safering-lifeline-XXXXXX";
    char *bytes = NULL;
    const int fd = mkostemp(path, O_CLOEXEC);
    cr_assert(fd >= 0);
    cr_assert_eq(posix_memalign((void **)&bytes, 4096, size_bytes), 0);
    memset(bytes, 'f', size_bytes);
    cr_assert_eq(write(fd, bytes, size_bytes), (ssize_t)size_bytes);
    cr_assert_eq(fsync(fd), 0);
    free(bytes);
    const int again = open(path, O_RDONLY | O_CLOEXEC | flags);
    const int why = errno;
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(close(fd), 0);
    errno = why;
    return again;
}

Test(lifeline, it_hangs_up_only_after_the_last_operation_has_written) {
    struct lifeline lifeline;
    struct hold hold;
    char *memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const int fd = file_of(8192, 0);
    cr_assert(memory != MAP_FAILED && fd >= 0);
    SKIP_BECAUSE(hold_begin(&hold, memory, 8192));
    lifeline_open(&lifeline, DEFER_TASKRUN);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&lifeline.ring);
    io_uring_prep_read(sqe, fd, memory, 8192, 0);
    sqe->flags |= IOSQE_ASYNC;
    submit(&lifeline);
    cr_assert(hold_wait(&hold, PATIENCE_MS, NULL), "the read did not reach the memory");
    io_uring_queue_exit(&lifeline.ring);
    cr_assert(!hangs_up_within(&lifeline, GLANCE_MS), "it hung up while an operation was running");
    hold_release(&hold);
    cr_assert(hangs_up_within(&lifeline, PATIENCE_MS));
    /* All that it would ever write is there; what the program writes now stays. */
    const bool written = memory[0] == 'f';
    memset(memory, 'm', 8192);
    (void)usleep(50000);
    for (size_t i = 0; i < 8192; i++) {
        cr_assert_eq(memory[i], 'm', "byte %zu was written after the hang-up", i);
    }
    cr_assert(written, "the operation did not run, so nothing was shown");
    cr_assert_eq(close(fd), 0);
    cr_assert_eq(munmap(memory, 8192), 0);
    lifeline_close(&lifeline);
}

Test(lifeline, it_waits_for_a_slow_file_system) {
    struct lifeline lifeline;
    struct slowfs *fs = NULL;
    static unsigned char memory[4096];
    SKIP_BECAUSE(slowfs_start(&fs, 0));
    const int fd = slowfs_open(fs, 0, O_RDONLY);
    fs->files[0].gate_closed = 1;
    lifeline_open(&lifeline, DEFER_TASKRUN);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&lifeline.ring);
    io_uring_prep_read(sqe, fd, memory, sizeof memory, 0);
    sqe->flags |= IOSQE_ASYNC; /* some kernels run it inline, and submit would wait */
    submit(&lifeline);
    cr_assert(slowfs_wait(fs, 0, 1, PATIENCE_MS));
    io_uring_queue_exit(&lifeline.ring);
    cr_assert(!hangs_up_within(&lifeline, GLANCE_MS));
    fs->files[0].gate_closed = 0;
    cr_assert(hangs_up_within(&lifeline, PATIENCE_MS));
    memset(memory, 'm', sizeof memory);
    (void)usleep(50000);
    for (size_t i = 0; i < sizeof memory; i++) {
        cr_assert_eq(memory[i], 'm');
    }
    cr_assert_eq(close(fd), 0);
    lifeline_close(&lifeline);
    slowfs_stop(&fs);
}

/* ---- the disk writes by itself --------------------------------------------------------------- */

#define DIRECT_BYTES ((size_t)4 << 20)
#define DIRECT_RUNS  20

/* One read by DMA whose ring is closed at once. Returns how many bytes changed after the program
 * thought them its own: after the hang-up, or, as a control, right after the closing. */
static size_t late_bytes(int fd, char *memory, bool waits) {
    struct lifeline lifeline;
    size_t late = 0;
    lifeline_open(&lifeline, DEFER_TASKRUN);
    memset(memory, 'o', DIRECT_BYTES);
    io_uring_prep_read(io_uring_get_sqe(&lifeline.ring), fd, memory, DIRECT_BYTES, 0);
    submit(&lifeline);
    io_uring_queue_exit(&lifeline.ring);
    if (waits) {
        cr_assert(hangs_up_within(&lifeline, PATIENCE_MS));
    }
    memset(memory, 'm', DIRECT_BYTES);
    (void)usleep(30000);
    cr_assert(hangs_up_within(&lifeline, PATIENCE_MS)); /* the next run begins clean */
    for (size_t i = 0; i < DIRECT_BYTES; i++) {
        late += memory[i] != 'm';
    }
    lifeline_close(&lifeline);
    return late;
}

Test(lifeline, no_byte_changes_after_it_hung_up) {
    const int fd = file_of(DIRECT_BYTES, O_DIRECT);
    char *memory = NULL;
    size_t late_control = 0;
    if (fd < 0) {
        cr_skip_test("no O_DIRECT on /tmp: %s", strerror(errno));
    }
    cr_assert_eq(posix_memalign((void **)&memory, 4096, DIRECT_BYTES), 0);
    for (int run = 0; run < DIRECT_RUNS; run++) {
        cr_assert_eq(late_bytes(fd, memory, true), 0, "run %d", run);
    }
    for (int run = 0; run < DIRECT_RUNS; run++) {
        late_control += late_bytes(fd, memory, false);
    }
    cr_assert_eq(close(fd), 0);
    free(memory);
    if (late_control == 0) {
        cr_skip_test("the disk is too quick: without waiting no byte was late either");
    }
}

/* ---- whose ring it was ----------------------------------------------------------------------- */

struct orphan {
    struct lifeline lifeline;
    struct endless endless;
    struct endless endless_async;
};

static void *open_and_exit(void *ctx) {
    struct orphan *orphan = ctx;
    lifeline_open(&orphan->lifeline, DEFER_TASKRUN);
    cr_assert_eq(io_uring_register_ring_fd(&orphan->lifeline.ring), 1);
    endless_read(&orphan->lifeline, &orphan->endless, 0);
    endless_read(&orphan->lifeline, &orphan->endless_async, IOSQE_ASYNC);
    return NULL;
}

Test(lifeline, the_ring_of_a_dead_thread_hangs_up_when_another_closes_it) {
    struct orphan orphan;
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, open_and_exit, &orphan), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert(!hangs_up_within(&orphan.lifeline, GLANCE_MS)); /* its descriptor is still open */
    orphan.lifeline.ring.int_flags = 0; /* the registration was the dead thread's */
    io_uring_queue_exit(&orphan.lifeline.ring);
    cr_assert(hangs_up_within(&orphan.lifeline, PATIENCE_MS));
    orphan.endless.byte = orphan.endless_async.byte = 'm';
    cr_assert_eq(write(orphan.endless.ends[1], "x", 1), 1);
    cr_assert_eq(write(orphan.endless_async.ends[1], "x", 1), 1);
    (void)usleep(20000);
    cr_assert_eq(orphan.endless.byte, 'm');
    cr_assert_eq(orphan.endless_async.byte, 'm');
    endless_close(&orphan.endless);
    endless_close(&orphan.endless_async);
    lifeline_close(&orphan.lifeline);
}

Test(lifeline, a_forked_copy_of_the_descriptor_keeps_the_ring) {
    struct lifeline lifeline;
    struct endless endless;
    lifeline_open(&lifeline, DEFER_TASKRUN);
    cr_assert_eq(io_uring_ring_dontfork(&lifeline.ring), 0);
    endless_read(&lifeline, &endless, 0);
    const pid_t child = fork();
    if (child == 0) {
        (void)pause();
        _exit(0);
    }
    cr_assert(child > 0);
    io_uring_queue_exit(&lifeline.ring);
    cr_assert(!hangs_up_within(&lifeline, GLANCE_MS));
    cr_assert_eq(kill(child, SIGKILL), 0);
    cr_assert_eq(waitpid(child, NULL, 0), child);
    cr_assert(hangs_up_within(&lifeline, PATIENCE_MS));
    endless_close(&endless);
    lifeline_close(&lifeline);
}
