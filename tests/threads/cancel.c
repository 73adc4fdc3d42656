/* SPDX-License-Identifier: MIT */
/*
 * Cancels while threads behind the ring (the fallback's workers, or the kernel's) run what is
 * cancelled: each operation has one outcome, and what it borrowed comes back.
 */
#include "check.h"

#include "support/scale.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BATCH 16u

static int open_file(void) {
    char path[] = "/tmp/safering-threads-XXXXXX";
    static const char bytes[4096] = "contents";
    const int fd = mkstemp(path);
    CHECK(fd >= 0);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(write(fd, bytes, sizeof bytes), sizeof bytes);
    return fd;
}

/* Reads of a regular file: on the fallback each is a worker's, at any stage when the cancel comes.
 */
static void what_is_running_is_cancelled_or_done(void) {
    const uint64_t rounds = scale_count(300, 20);
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    struct scale_random random = scale_random(1);
    uint64_t done_count = 0;
    uint64_t cancelled_count = 0;
    sr_ring *ring = NULL;
    sr_pool *pool = NULL;
    sr_file file;
    options.buffer_size_bytes = 4096;
    options.buffer_count = BATCH;
    CHECK_EQ(sr_ring_create(NULL, &ring), 0);
    CHECK_EQ(sr_pool_create(NULL, &options, &pool), 0);
    CHECK(sr_ring_attach_pool(ring, pool) >= 0);
    CHECK_EQ(sr_file_adopt(ring, open_file(), 0, &file), 0);
    for (uint64_t round = 0; round < rounds; round++) {
        sr_op ops[BATCH];
        for (uint32_t i = 0; i < BATCH; i++) {
            sr_request request = SR_REQUEST_INIT;
            request.op = SR_OP_READ;
            request.file = file;
            request.length = 4096;
            request.flags = SR_REQUEST_ASYNC;
            CHECK_EQ(sr_pool_acquire(pool, 4096, &request.buffer), 0);
            CHECK_EQ(sr_ring_submit(ring, &request, &ops[i]), 0);
        }
        CHECK_EQ(sr_ring_flush(ring), BATCH);
        for (uint32_t i = 0; i < BATCH; i++) {
            if (scale_random_below(&random, 2) == 0) {
                const int code = sr_op_cancel(ring, ops[i]);
                CHECK(code == 0 || code == SR_E_STALE);
                CHECK(sr_ring_flush(ring) >= 0);
            }
        }
        for (uint32_t seen = 0; seen < BATCH;) {
            const sr_completion *list = NULL;
            const int count = check_wait_one(ring, CHECK_PATIENCE_NS, &list);
            CHECK(count > 0);
            for (int i = 0; i < count; i++) {
                CHECK(list[i].result == 4096 || list[i].result == -ECANCELED);
                done_count += list[i].result == 4096;
                cancelled_count += list[i].result == -ECANCELED;
                CHECK_EQ(sr_pool_release(pool, list[i].buffer), 0);
            }
            seen += (uint32_t)count;
        }
    }
    CHECK_EQ(done_count + cancelled_count, rounds * BATCH);
    fprintf(stderr, "    %llu done, %llu cancelled\n", (unsigned long long)done_count,
            (unsigned long long)cancelled_count);
    CHECK_EQ(sr_ring_destroy(&ring), 0);
    CHECK_EQ(sr_pool_destroy(&pool), 0);
}

int main(void) {
    RUN_UNLESS_VALGRIND(what_is_running_is_cancelled_or_done);
    return 0;
}
