/* SPDX-License-Identifier: MIT */
/*
 * Who waits for a FUSE server? If the server asks for direct I/O and the file was opened without
 * O_DIRECT, Linux 6.1 and 6.12 run a read inside of the call that sends it: the ring's thread
 * waits, and its deadlines and other operations with it. Linux 6.18 does not. SR_REQUEST_ASYNC
 * hands the read to a kernel worker, and helps on all of them.
 */
#include "support/rig.h"
#include "support/skip.h"
#include "support/slowfs.h"

#include "ring/ring.h"

#include <criterion/criterion.h>
#include <fcntl.h>

#define LENGTH 512u

static struct {
    struct slowfs *fs;
    struct rig rig;
    sr_file file;
} self;

TestSuite(fuse_in_line, .timeout = 60);

static void start(void) {
    SKIP_BECAUSE(slowfs_start(&self.fs, SLOWFS_AS_IT_IS));
    rig_open(&self.rig, NULL, NULL);
    self.file = rig_adopt(&self.rig, slowfs_open(self.fs, 0, O_RDONLY), 0);
}

static void stop(void) {
    rig_close(&self.rig);
    slowfs_stop(&self.fs);
}

static void send_read(uint32_t flags) {
    sr_request request = rig_transfer(SR_OP_READ, self.file, rig_buffer(&self.rig), LENGTH, 0);
    request.flags = flags;
    (void)rig_submit(&self.rig, &request);
    cr_assert_eq(sr_ring_flush(self.rig.ring), 1);
}

static void expect_bytes(void) {
    sr_completion completion;
    cr_assert_eq(rig_wait(&self.rig, &completion), 1);
    cr_assert_eq(completion.result, LENGTH);
    const unsigned char *data = rig_data(&self.rig, completion.buffer, LENGTH);
    for (uint32_t i = 0; i < LENGTH; i++) {
        cr_assert_eq(data[i], slowfs_byte(0, i), "byte %u", i);
    }
}

Test(fuse_in_line, a_read_that_asks_for_a_worker_leaves_the_ring_free) {
    const sr_completion *completions = NULL;
    start();
    self.fs->files[0].gate_closed = 1;
    send_read(SR_REQUEST_ASYNC);
    cr_assert_eq(slowfs_wait(self.fs, 0, 1, 10000), 1);
    cr_assert_eq(sr_ring_wait(self.rig.ring, 1, 50 * RIG_MS, NULL, &completions), SR_E_TIMEOUT);
    self.fs->files[0].gate_closed = 0;
    expect_bytes();
    stop();
}

Test(fuse_in_line, a_plain_read_is_over_when_it_has_been_sent) {
    start();
    self.fs->files[0].delay_ms = 200;
    send_read(0);
    const bool over = sri_queue_ready(&self.rig.ring->queue) == 1;
    expect_bytes();
    stop();
    if (!over) {
        cr_skip_test("this kernel does not wait for the server");
    }
}
