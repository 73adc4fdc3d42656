/* SPDX-License-Identifier: MIT */
/*
 * A user without privileges who may lock 8 MiB, as a login session on Debian has it: a pool that
 * does not fit is not registered with the kernel, works all the same, and the ring says so.
 *
 * Run by root, each test becomes such a user; run by another user, it lowers the limit.
 */
#include "support/rig.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MIB          ((size_t)1 << 20)
#define MEMLOCK_MAX  (8 * MIB)
#define BUFFER_BYTES ((size_t)65536)

/* Locked memory is counted per user over all processes, so a user that nobody else runs as. */
static void become_a_user(void) {
    const uid_t user = 20000 + (uid_t)getpid() % 40000;
    cr_assert_eq(setgroups(0, NULL), 0);
    cr_assert_eq(setresgid(user, user, user), 0);
    cr_assert_eq(setresuid(user, user, user), 0);
    (void)prctl(PR_SET_DUMPABLE, 1); /* LeakSanitizer looks at its own process */
}

static bool may_lock_all(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    cr_assert_eq(syscall(SYS_capget, &header, data), 0);
    return (data[0].effective & (1u << CAP_IPC_LOCK)) != 0;
}

static void drop_privileges(void) {
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_MEMLOCK, &limit), 0);
    if (geteuid() != 0 && limit.rlim_max < MEMLOCK_MAX) {
        cr_skip_test("RLIMIT_MEMLOCK is below 8 MiB and cannot be raised");
    }
    limit = (struct rlimit){MEMLOCK_MAX, MEMLOCK_MAX};
    cr_assert_eq(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    if (geteuid() == 0) {
        become_a_user();
    }
    if (may_lock_all()) {
        cr_skip_test("CAP_IPC_LOCK cannot be given up here");
    }
    sr_ring *ring = NULL;
    if (sr_ring_create(NULL, &ring) == -EPERM) {
        cr_skip_test("io_uring is not for unprivileged users here (kernel.io_uring_disabled)");
    }
    cr_assert_eq(sr_ring_destroy(&ring), 0);
}

TestSuite(unprivileged, .init = drop_privileges);

static sr_pool *pool_of(size_t size_bytes) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    sr_pool *pool = NULL;
    options.buffer_size_bytes = BUFFER_BYTES;
    options.buffer_count = (uint32_t)(size_bytes / BUFFER_BYTES);
    options.guard = SR_GUARD_OFF;
    cr_assert_eq(sr_pool_create(NULL, &options, &pool), 0);
    return pool;
}

static void check_code(int code, int expected) {
    cr_assert_eq(code, expected, "%d (%s), expected %d", code, sr_strerror(code), expected);
}

static sr_ring_stats stats_of(sr_ring *ring) {
    sr_ring_stats stats = SR_RING_STATS_INIT;
    cr_assert_eq(sr_ring_get_stats(ring, &stats), 0);
    return stats;
}

/* Linux 6.1 gives locked memory back up to a second after it was let go of. */
static void check_attaches_soon(sr_ring *ring, sr_pool *pool) {
    int code = sr_ring_attach_pool(ring, pool);
    for (int i = 0; i < 100 && code == 0; i++) {
        cr_assert_eq(stats_of(ring).register_error, -ENOMEM);
        cr_assert_eq(sr_ring_detach_pool(ring, pool), 0);
        (void)usleep(100000);
        code = sr_ring_attach_pool(ring, pool);
    }
    check_code(code, 1);
}

/* Every buffer of the pool is written to a file and read back. */
static void check_io(sr_ring *ring, sr_pool *pool) {
    struct rig rig = {ring, pool, NULL};
    const uint32_t count = rig_pool_stats(&rig).buffer_count;
    sr_buffer *buffers = calloc(count, sizeof *buffers);
    cr_assert_not_null(buffers);
    const sr_file file = rig_adopt(&rig, rig_temporary_file(0), 0);
    for (uint32_t i = 0; i < count; i++) {
        buffers[i] = rig_buffer(&rig);
        unsigned char *data = rig_data(&rig, buffers[i], BUFFER_BYTES);
        memset(data, (int)(i * 7 + 1), BUFFER_BYTES);
        const sr_request write =
            rig_transfer(SR_OP_WRITE, file, buffers[i], BUFFER_BYTES, i * BUFFER_BYTES);
        cr_assert_eq(rig_run(&rig, &write).result, BUFFER_BYTES);
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t from = count - 1 - i;
        const sr_request read =
            rig_transfer(SR_OP_READ, file, buffers[i], BUFFER_BYTES, from * BUFFER_BYTES);
        cr_assert_eq(rig_run(&rig, &read).result, BUFFER_BYTES);
        const unsigned char *data = rig_data(&rig, buffers[i], BUFFER_BYTES);
        cr_assert_eq(data[0], (unsigned char)(from * 7 + 1));
        cr_assert_eq(data[BUFFER_BYTES - 1], (unsigned char)(from * 7 + 1));
        cr_assert_eq(sr_pool_release(pool, buffers[i]), 0);
    }
    free(buffers);
    sr_request close_request = SR_REQUEST_INIT;
    close_request.op = SR_OP_CLOSE;
    close_request.file = file;
    cr_assert_eq(rig_run(&rig, &close_request).result, 0);
}

Test(unprivileged, a_pool_beyond_the_limit_works_unregistered_and_the_ring_says_so) {
    sr_pool *large = pool_of(64 * MIB);
    sr_ring *ring = NULL;
    cr_assert_eq(sr_ring_create(NULL, &ring), 0);
    cr_assert_eq(stats_of(ring).register_error, 0);
    check_code(sr_ring_attach_pool(ring, large), 0);
    cr_assert_eq(stats_of(ring).register_error, -ENOMEM);
    cr_assert_eq(stats_of(ring).pools_plain, 1);
    cr_assert_eq(stats_of(ring).pools_registered, 0);
    check_io(ring, large);
    cr_assert_eq(sr_ring_detach_pool(ring, large), 0);
    cr_assert_eq(stats_of(ring).pools_plain, 0);
    cr_assert_eq(sr_ring_destroy(&ring), 0);
    cr_assert_eq(sr_pool_destroy(&large), 0);
}

Test(unprivileged, a_pool_within_the_limit_is_registered_also_after_one_was_not) {
    sr_pool *large = pool_of(64 * MIB);
    sr_pool *small = pool_of(6 * MIB); /* fits only if nothing of the other one is locked */
    sr_ring *ring = NULL;
    cr_assert_eq(sr_ring_create(NULL, &ring), 0);
    check_code(sr_ring_attach_pool(ring, large), 0);
    check_code(sr_ring_attach_pool(ring, small), 1);
    cr_assert_eq(stats_of(ring).register_error, -ENOMEM);
    cr_assert_eq(stats_of(ring).pools_plain, 1);
    cr_assert_eq(stats_of(ring).pools_registered, 1);
    check_io(ring, small);
    check_io(ring, large);
    cr_assert_eq(sr_ring_destroy(&ring), 0);
    cr_assert_eq(sr_pool_destroy(&large), 0);
    cr_assert_eq(sr_pool_destroy(&small), 0);
}

/* What a ring locked counts until it lets go: a second ring gets plain buffers of the same pool. */
Test(unprivileged, the_limit_is_for_all_rings_together) {
    sr_pool *pool = pool_of(6 * MIB);
    sr_ring *rings[2] = {NULL, NULL};
    cr_assert_eq(sr_ring_create(NULL, &rings[0]), 0);
    cr_assert_eq(sr_ring_create(NULL, &rings[1]), 0);
    check_code(sr_ring_attach_pool(rings[0], pool), 1);
    check_code(sr_ring_attach_pool(rings[1], pool), 0);
    cr_assert_eq(stats_of(rings[1]).register_error, -ENOMEM);
    check_io(rings[1], pool);
    cr_assert_eq(sr_ring_detach_pool(rings[1], pool), 0);
    cr_assert_eq(sr_ring_detach_pool(rings[0], pool), 0);
    check_attaches_soon(rings[1], pool);
    check_io(rings[1], pool);
    cr_assert_eq(sr_ring_destroy(&rings[0]), 0);
    cr_assert_eq(sr_ring_destroy(&rings[1]), 0);
    cr_assert_eq(sr_pool_destroy(&pool), 0);
}

Test(unprivileged, attaching_and_detaching_again_and_again_locks_no_more) {
    sr_pool *pool = pool_of(6 * MIB);
    sr_ring *ring = NULL;
    cr_assert_eq(sr_ring_create(NULL, &ring), 0);
    for (int i = 0; i < 20; i++) {
        check_attaches_soon(ring, pool);
        cr_assert_eq(sr_ring_detach_pool(ring, pool), 0);
    }
    cr_assert_eq(sr_ring_destroy(&ring), 0);
    cr_assert_eq(sr_pool_destroy(&pool), 0);
}
