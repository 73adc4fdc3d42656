/* SPDX-License-Identifier: MIT */
/*
 * Does opening a FIFO for reading wait for a writer? With a name that the kernel has looked up
 * before, io_uring tries it with O_NONBLOCK at once, which for a FIFO is a success, and takes the
 * flag away afterwards (io_uring/openclose.c, io_openat2()). SR_REQUEST_ASYNC leaves out that try.
 */
#include "support/rig.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct {
    struct rig rig;
    char directory[64];
    char path[80];
} self;

TestSuite(fifo_open, .timeout = 60);

static void start(void) {
    struct stat status;
    rig_open(&self.rig, NULL, NULL);
    (void)snprintf(self.directory, sizeof self.directory, "/tmp/safering-fifo-XXXXXX");
    cr_assert_not_null(mkdtemp(self.directory));
    (void)snprintf(self.path, sizeof self.path, "%s/fifo", self.directory);
    cr_assert_eq(mkfifo(self.path, 0600), 0);
    cr_assert_eq(stat(self.path, &status), 0);
}

static void stop(void) {
    rig_close(&self.rig);
    cr_assert_eq(unlink(self.path) + rmdir(self.directory), 0);
}

static void send_open(uint16_t flags) {
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_OPENAT;
    request.flags = flags;
    request.path = self.path;
    request.op_flags = O_RDONLY;
    (void)rig_submit(&self.rig, &request);
    cr_assert_eq(sr_ring_flush(self.rig.ring), 1);
}

static void expect_open(void) {
    sr_completion completion;
    int fd = -1;
    cr_assert_eq(rig_wait(&self.rig, &completion), 1);
    cr_assert_eq(completion.result, 0);
    cr_assert_eq(sr_file_fd(self.rig.ring, completion.file, &fd), 0);
    cr_assert_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
}

Test(fifo_open, a_name_that_is_known_is_opened_without_a_writer) {
    const sr_completion *completions = NULL;
    start();
    send_open(0);
    const int count = sr_ring_wait(self.rig.ring, 1, 500 * RIG_MS, NULL, &completions);
    if (count == SR_E_TIMEOUT) {
        const int writer = open(self.path, O_WRONLY | O_CLOEXEC);
        expect_open();
        stop();
        (void)close(writer);
        cr_skip_test("this kernel waits for a writer");
    }
    cr_assert_eq(count, 1);
    cr_assert_eq(completions[0].result, 0);
    stop();
}

Test(fifo_open, an_open_in_a_worker_waits_for_a_writer) {
    const sr_completion *completions = NULL;
    start();
    send_open(SR_REQUEST_ASYNC);
    cr_assert_eq(sr_ring_wait(self.rig.ring, 1, 50 * RIG_MS, NULL, &completions), SR_E_TIMEOUT);
    const int writer = open(self.path, O_WRONLY | O_CLOEXEC); /* waits for the reader */
    cr_assert_geq(writer, 0);
    expect_open();
    stop();
    cr_assert_eq(close(writer), 0);
}
