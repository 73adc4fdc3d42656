/* SPDX-License-Identifier: MIT */
/*
 * What the kernel writes, valgrind cannot see: the library tells it. Exactly the bytes that an
 * operation brought become defined, and no others: else a program that uses bytes which never came
 * would look right. Means something under valgrind only (ctest -C valgrind); elsewhere the same
 * steps just check the bytes.
 *
 * The memory is the program's own (sr_region_adopt()), because fresh mappings are defined zeros.
 */
#include "support/rig.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef SAFERING_HAVE_VALGRIND
#include <valgrind/memcheck.h>
#else
#define RUNNING_ON_VALGRIND                     0
#define VALGRIND_CHECK_MEM_IS_DEFINED(at, size) ((void)(at), (void)(size), 0)
#define VALGRIND_MAKE_MEM_UNDEFINED(at, size)   ((void)(at), (void)(size), 0)
#define VALGRIND_DISABLE_ERROR_REPORTING        (void)0
#define VALGRIND_ENABLE_ERROR_REPORTING         (void)0
#endif

#define MEMORY_BYTES ((size_t)65536)

static char *memory;
static struct rig rig;

static void begin(void) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    cr_assert_eq(posix_memalign((void **)&memory, 4096, MEMORY_BYTES), 0);
    options.buffer_count = 4;
    options.guard = SR_GUARD_OFF;
    rig = (struct rig){0};
    cr_assert_eq(sr_region_adopt(memory, MEMORY_BYTES, &rig.region), 0);
    cr_assert_eq(sr_pool_create(rig.region, &options, &rig.pool), 0);
    cr_assert_eq(sr_ring_create(NULL, &rig.ring), 0);
    cr_assert(sr_ring_attach_pool(rig.ring, rig.pool) >= 0);
    (void)VALGRIND_MAKE_MEM_UNDEFINED(memory, MEMORY_BYTES);
}

static void end(void) {
    rig_close(&rig);
    free(memory);
}

TestSuite(kernel_bytes, .init = begin, .fini = end);

/* Asks without making a report of it. */
static bool is_defined(const void *at, size_t size) {
    VALGRIND_DISABLE_ERROR_REPORTING;
    const bool defined = VALGRIND_CHECK_MEM_IS_DEFINED(at, size) == 0;
    VALGRIND_ENABLE_ERROR_REPORTING;
    return defined;
}

static void check_defined(const unsigned char *at, size_t size) {
    cr_assert(is_defined(at, size), "the kernel wrote these bytes and valgrind was not told");
}

static void check_undefined(const unsigned char *at, size_t size) {
    for (size_t i = 0; i < size && RUNNING_ON_VALGRIND; i++) {
        cr_assert(!is_defined(at + i, 1), "byte %zu never came", i);
    }
}

Test(kernel_bytes, what_was_read_is_defined_and_no_more) {
    const sr_buffer buffer = rig_buffer(&rig);
    const sr_file file = rig_adopt(&rig, rig_temporary_file(1000), 0);
    sr_request read = rig_transfer(SR_OP_READ, file, buffer, 2000, 0);
    read.buffer_offset = 100;
    cr_assert_eq(rig_run(&rig, &read).result, 1000); /* short: the file ends */
    const unsigned char *data = rig_data(&rig, buffer, 4096);
    check_undefined(data, 100);
    check_defined(data + 100, 1000);
    check_undefined(data + 1100, 2996);
    for (size_t i = 0; i < 1000; i++) {
        cr_assert_eq(data[100 + i], i % 251);
    }
}

Test(kernel_bytes, so_is_what_slices_brought) {
    sr_slice slices[3];
    const sr_file file = rig_adopt(&rig, rig_temporary_file(250), 0);
    for (uint32_t i = 0; i < 3; i++) {
        slices[i] = (sr_slice){rig_buffer(&rig), 10 * i, 100};
    }
    sr_request read = SR_REQUEST_INIT;
    read.op = SR_OP_READV;
    read.file = file;
    read.slices = slices;
    read.slice_count = 3;
    cr_assert_eq(rig_run(&rig, &read).result, 250);
    for (uint32_t i = 0; i < 3; i++) {
        const unsigned char *data = rig_data(&rig, slices[i].buffer, 4096);
        const size_t came = i < 2 ? 100 : 50;
        check_undefined(data, 10 * i);
        check_defined(data + 10 * i, came);
        check_undefined(data + 10 * i + came, 100);
        cr_assert_eq(data[10 * i], (100 * i) % 251);
    }
}

Test(kernel_bytes, so_is_a_transfer_in_several_parts) {
    int ends[2];
    sr_completion completion;
    const sr_buffer buffer = rig_buffer(&rig);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    const sr_file file = rig_adopt(&rig, ends[0], 0);
    sr_request read = rig_transfer(SR_OP_READ, file, buffer, 30, SR_OFFSET_CURRENT);
    read.flags = SR_REQUEST_FULL;
    cr_assert_eq(write(ends[1], "0123456789", 10), 10);
    (void)rig_submit(&rig, &read);
    cr_assert_eq(sr_ring_wait(rig.ring, 1, 20 * RIG_MS, NULL, NULL), SR_E_TIMEOUT);
    cr_assert_eq(write(ends[1], "abcde", 5), 5);
    cr_assert_eq(close(ends[1]), 0);
    cr_assert_eq(rig_wait(&rig, &completion), 1);
    cr_assert_eq(completion.result, 15);
    const unsigned char *data = rig_data(&rig, buffer, 4096);
    check_defined(data, 15);
    check_undefined(data + 15, 100);
    cr_assert_arr_eq(data, "0123456789abcde", 15);
}

Test(kernel_bytes, nothing_came_of_a_cancelled_read) {
    int ends[2];
    sr_completion completion;
    const sr_buffer buffer = rig_buffer(&rig);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    const sr_file file = rig_adopt(&rig, ends[0], 0);
    const sr_request read = rig_transfer(SR_OP_READ, file, buffer, 100, SR_OFFSET_CURRENT);
    cr_assert_eq(sr_op_cancel(rig.ring, rig_submit(&rig, &read)), 0);
    cr_assert_eq(rig_wait(&rig, &completion), 1);
    cr_assert_lt(completion.result, 0);
    check_undefined(rig_data(&rig, buffer, 100), 100);
    cr_assert_eq(close(ends[1]), 0);
}

/* A write of bytes that were never set is the program's error, but not one of the library. */
Test(kernel_bytes, a_write_defines_nothing) {
    const sr_buffer buffer = rig_buffer(&rig);
    const sr_file file = rig_adopt(&rig, rig_temporary_file(0), 0);
    memset(rig_data(&rig, buffer, 50), 'w', 50);
    const sr_request write_request = rig_transfer(SR_OP_WRITE, file, buffer, 50, 0);
    cr_assert_eq(rig_run(&rig, &write_request).result, 50);
    check_defined(rig_data(&rig, buffer, 50), 50);
    check_undefined(rig_data(&rig, buffer, 200) + 50, 150);
}

Test(kernel_bytes, the_statx_of_a_completion_is_defined) {
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_STATX;
    request.path = "/";
    request.mask = STATX_BASIC_STATS;
    const sr_completion completion = rig_run(&rig, &request);
    cr_assert_eq(completion.result, 0);
    cr_assert_not_null(completion.statx);
    cr_assert(is_defined(completion.statx, sizeof *completion.statx));
    cr_assert(S_ISDIR(completion.statx->stx_mode));
}
