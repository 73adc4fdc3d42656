/* SPDX-License-Identifier: MIT */
/*
 * Teardown under DMA. Large O_DIRECT reads are in flight, the ring is destroyed, and the memory is
 * used for something else at once: the disk must not write into it any more. The control does the
 * same with plain liburing and shows what the library guards against: io_uring_queue_exit() does
 * not wait.
 */
#include "support/case.h"
#include "support/rig.h"
#include "support/scale.h"
#include "support/skip.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES  ((size_t)4 << 20)
#define READS       4u
#define ALL_BYTES   (READ_BYTES * READS)
#define FILE_BYTES  (ALL_BYTES)
#define PAGE_BYTES  ((size_t)4096)
#define WATCH_MS    30
#define TMPFS_MAGIC 0x01021994
/* No byte of the file has this value, so a single late one shows. */
#define REUSED 0xa5

static struct {
    int fd;
    unsigned char *memory;
    char path[64];
} self;

TestSuite(teardown, .timeout = 115);

static const char *make_file(void) {
    struct statfs about;
    (void)strcpy(self.path, "/tmp/safering-teardown-XXXXXX");
    const int fd = mkstemp(self.path);
    if (fd < 0) {
        return "no temporary file under /tmp";
    }
    if (fstatfs(fd, &about) != 0 || about.f_type == TMPFS_MAGIC) {
        (void)close(fd);
        (void)unlink(self.path);
        return "/tmp is in memory: there is no disk that could write late";
    }
    for (size_t at = 0; at < ALL_BYTES; at++) {
        self.memory[at] = (unsigned char)(at % 151); /* 0 .. 150 */
    }
    const bool written = pwrite(fd, self.memory, FILE_BYTES, 0) == (ssize_t)FILE_BYTES;
    const bool synced = written && fsync(fd) == 0 && close(fd) == 0;
    self.fd = synced ? open(self.path, O_RDONLY | O_DIRECT | O_CLOEXEC) : -1;
    (void)unlink(self.path);
    return self.fd >= 0 ? NULL : "the file system under /tmp has no O_DIRECT, or no room";
}

static void set_up(void) {
    self.memory = mmap(NULL, ALL_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(self.memory, MAP_FAILED);
    SKIP_BECAUSE(make_file());
}

static void tear_down(void) {
    cr_assert_eq(close(self.fd), 0);
    cr_assert_eq(munmap(self.memory, ALL_BYTES), 0);
}

/* The memory's next use. */
static void reuse(void) {
    memset(self.memory, REUSED, ALL_BYTES);
}

static uint64_t now_ms(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static size_t foreign_bytes(void) {
    size_t count = 0;
    for (size_t at = 0; at < ALL_BYTES; at++) {
        count += self.memory[at] != REUSED;
    }
    return count;
}

/* Bytes that somebody else has written, after giving a late write the time to arrive. */
static size_t late_bytes(void) {
    const uint64_t end_ms = now_ms() + WATCH_MS;
    while (now_ms() < end_ms) {
        const struct timespec pause = {0, 5000000};
        (void)nanosleep(&pause, NULL);
    }
    return foreign_bytes();
}

/* Runs long enough to say something; a few are the least. */
static uint64_t run_count(void) {
    return scale_count(200, 20);
}

/* Memory that the program gives to the library and gets back with the region. */
static void open_over_memory(struct rig *rig, const sr_ring_options *options) {
    sr_pool_options pool_options = SR_POOL_OPTIONS_INIT;
    *rig = (struct rig){0};
    pool_options.buffer_size_bytes = READ_BYTES;
    pool_options.buffer_count = READS;
    pool_options.guard = SR_GUARD_OFF;
    cr_assert_eq(sr_region_adopt(self.memory, ALL_BYTES, &rig->region), 0);
    cr_assert_eq(sr_pool_create(rig->region, &pool_options, &rig->pool), 0);
    cr_assert_eq(sr_ring_create(options, &rig->ring), 0);
    cr_assert_geq(sr_ring_attach_pool(rig->ring, rig->pool), 0);
}

static void submit_reads(struct rig *rig) {
    const sr_file file = rig_adopt(rig, fcntl(self.fd, F_DUPFD_CLOEXEC, 0), 0);
    for (uint32_t i = 0; i < READS; i++) {
        const sr_request request =
            rig_transfer(SR_OP_READ, file, rig_buffer(rig), READ_BYTES, i * READ_BYTES);
        (void)rig_submit(rig, &request);
    }
    cr_assert_eq(sr_ring_flush(rig->ring), (int)READS);
}

CASE(teardown, no_byte_arrives_after_the_ring_is_destroyed, set_up, tear_down) {
    uint64_t in_flight_runs = 0;
    const uint64_t runs = run_count();
    for (uint64_t run = 0; run < runs; run++) {
        struct rig rig;
        const sr_completion *completions = NULL;
        open_over_memory(&rig, NULL);
        submit_reads(&rig);
        /* Counts only what the kernel has not completed by now. */
        in_flight_runs += sr_ring_wait(rig.ring, 0, 0, NULL, &completions) < (int)READS;
        rig_close(&rig);
        reuse();
        const size_t late = late_bytes();
        cr_assert_eq(late, 0, "run %u: %zu bytes were written late", (unsigned int)run, late);
    }
    fprintf(stderr, "teardown: 0 late writes in %llu runs, reads in flight in %llu\n",
            (unsigned long long)runs, (unsigned long long)in_flight_runs);
    if (in_flight_runs == 0) {
        cr_skip_test("the disk is so fast that no read was in flight");
    }
}

CASE(teardown, memory_of_a_ring_that_did_not_wait_comes_back_with_the_sweep, set_up, tear_down) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    uint64_t quarantined_runs = 0;
    const uint64_t runs = scale_count(50, 10);
    options.drain_timeout_ns = 0;
    for (uint64_t run = 0; run < runs; run++) {
        struct rig rig;
        open_over_memory(&rig, &options);
        submit_reads(&rig);
        const int code = sr_ring_destroy(&rig.ring);
        if (code == SR_E_IN_FLIGHT) {
            quarantined_runs++;
            /* The kernel has it still, so the pool does not let go of it. */
            const int pool_code = sr_pool_destroy(&rig.pool);
            cr_assert(pool_code == SR_E_IN_FLIGHT, "sr_pool_destroy: %d", pool_code);
            cr_assert_eq(sr_region_destroy(&rig.region), SR_E_STATE);
        } else {
            cr_assert_eq(code, 0);
        }
        cr_assert_eq(sr_quarantine_sweep(5 * RIG_SECOND), 0);
        rig_close(&rig);
        reuse();
        cr_assert_eq(late_bytes(), 0, "run %u", (unsigned int)run);
    }
    fprintf(stderr, "teardown: 0 late writes in %llu runs, %llu of them through the quarantine\n",
            (unsigned long long)runs, (unsigned long long)quarantined_runs);
    if (quarantined_runs == 0) {
        cr_skip_test("the disk is so fast that nothing had to be quarantined");
    }
}

/* The same with liburing alone. Returns how many bytes came late. */
static size_t run_control(void) {
    struct io_uring uring;
    cr_assert_eq(io_uring_queue_init(8, &uring, 0), 0);
    for (uint32_t i = 0; i < READS; i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&uring);
        io_uring_prep_read(sqe, self.fd, self.memory + i * READ_BYTES, READ_BYTES, i * READ_BYTES);
    }
    cr_assert_eq(io_uring_submit(&uring), (int)READS);
    io_uring_queue_exit(&uring);
    reuse();
    return late_bytes();
}

CASE(teardown, control_plain_liburing_writes_late, set_up, tear_down) {
    uint64_t late_runs = 0;
    const uint64_t runs = run_count();
    for (uint64_t run = 0; run < runs; run++) {
        late_runs += run_control() > 0;
    }
    fprintf(stderr, "teardown: plain liburing wrote late in %llu of %llu runs\n",
            (unsigned long long)late_runs, (unsigned long long)runs);
    if (late_runs == 0) {
        cr_skip_test("this disk shows no late write even with plain liburing");
    }
}
