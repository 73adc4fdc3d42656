/* SPDX-License-Identifier: MIT */
/*
 * Short reads and writes at every length, errors after some bytes, and delays, through a FUSE file
 * system that answers as it is told. Without SR_REQUEST_FULL the short count is the result; with it
 * the library goes on until all is done, end of file, or an error.
 */
#include "support/case.h"
#include "support/rig.h"
#include "support/scale.h"
#include "support/skip.h"
#include "support/slowfs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LENGTH    257u  /* prime: no answer length but 1 and itself divides it */
#define AT        1000u /* offset in the file */
#define UNTOUCHED 0xee

/* The same transfer by one range or by three slices with crooked offsets and lengths. */
/* One of each: what a short write needs, a short read must not have (slowfs.h, SLOWFS_SYNC). */
enum { READS, WRITES, SIDES };

struct setup {
    struct slowfs *fs[SIDES];
    sr_file file[SIDES];
    struct rig rig;
    sr_buffer buffers[3];
};

static struct setup self;

static const uint32_t piece_offset[3] = {5, 0, 77};

static uint32_t piece_length(uint32_t piece, uint32_t length) {
    const uint32_t first = length / 5;
    const uint32_t second = length / 2;
    const uint32_t lengths[3] = {first, second, length - first - second};
    return lengths[piece];
}

static bool is_vectored(uint16_t op) {
    return op == SR_OP_READV || op == SR_OP_WRITEV;
}

static bool is_read(uint16_t op) {
    return op == SR_OP_READ || op == SR_OP_READV;
}

static void set_up(void) {
    SKIP_BECAUSE(slowfs_start(&self.fs[READS], 0));
    SKIP_BECAUSE(slowfs_start(&self.fs[WRITES], SLOWFS_SYNC));
    rig_open(&self.rig, NULL, NULL);
    self.file[READS] =
        rig_adopt(&self.rig, slowfs_open(self.fs[READS], 1, O_RDONLY), SR_FILE_FIXED);
    self.file[WRITES] = rig_adopt(&self.rig, slowfs_open(self.fs[WRITES], 1, O_WRONLY), 0);
    for (int i = 0; i < 3; i++) {
        self.buffers[i] = rig_buffer(&self.rig);
    }
}

static void tear_down(void) {
    rig_close(&self.rig);
    slowfs_stop(&self.fs[READS]);
    slowfs_stop(&self.fs[WRITES]);
}

TestSuite(short_io, .timeout = 120);

static int side_of(uint16_t op) {
    return is_read(op) ? READS : WRITES;
}

static struct slowfs_file *served(uint16_t op) {
    return &self.fs[side_of(op)]->files[1];
}

/* Copies between the three pieces (or the one range) and flat memory. */
static void pieces_copy(uint16_t op, uint32_t length, unsigned char *flat, bool to_buffers) {
    const uint32_t count = is_vectored(op) ? 3 : 1;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t bytes = count == 3 ? piece_length(i, length) : length;
        unsigned char *data = rig_data(&self.rig, self.buffers[i], 4096) + piece_offset[i];
        if (to_buffers) {
            memcpy(data, flat, bytes);
        } else {
            memcpy(flat, data, bytes);
        }
        flat += bytes;
    }
}

static void buffers_fill(int value) {
    for (int i = 0; i < 3; i++) {
        memset(rig_data(&self.rig, self.buffers[i], 4096), value, 4096);
    }
}

/* Bytes of the buffers that are not part of the transfer still hold @value. */
static bool surroundings_hold(uint16_t op, uint32_t length, int value) {
    for (uint32_t i = 0; i < 3; i++) {
        const uint32_t whole = is_vectored(op) ? piece_length(i, length) : length;
        const uint32_t bytes = is_vectored(op) || i == 0 ? whole : 0;
        const unsigned char *data = rig_data(&self.rig, self.buffers[i], 4096);
        for (uint32_t at = 0; at < 4096; at++) {
            const bool inside = at >= piece_offset[i] && at < piece_offset[i] + bytes;
            if (!inside && data[at] != value) {
                return false;
            }
        }
    }
    return true;
}

static sr_completion transfer(uint16_t op, uint16_t flags, uint32_t length, uint64_t offset) {
    sr_slice slices[3];
    sr_request request = rig_transfer(op, self.file[side_of(op)], self.buffers[0], length, offset);
    request.buffer_offset = piece_offset[0];
    request.flags = flags;
    for (uint32_t i = 0; i < 3; i++) {
        slices[i] = (sr_slice){self.buffers[i], piece_offset[i], piece_length(i, length)};
    }
    request.slices = slices;
    request.slice_count = 3;
    return rig_run(&self.rig, &request);
}

/* What a write sends: differs from what the file holds at first, at every place. */
static unsigned char written_byte(uint64_t offset) {
    return (unsigned char)(255 - slowfs_byte(1, offset));
}

static void fill_for(uint16_t op, uint32_t length, uint64_t offset) {
    unsigned char flat[4096];
    buffers_fill(UNTOUCHED);
    if (!is_read(op)) {
        for (uint32_t i = 0; i < length; i++) {
            flat[i] = written_byte(offset + i);
        }
        pieces_copy(op, length, flat, true);
    }
}

static void check_equal(const unsigned char *got, const unsigned char *expected, size_t length,
                        const char *where) {
    for (size_t i = 0; i < length; i++) {
        if (got[i] != expected[i]) {
            cr_assert(false, "byte %zu %s is %u, not %u", i, where, got[i], expected[i]);
        }
    }
}

/* Exactly @done bytes have arrived at the other side: no more, no fewer, at their places. */
static void check_bytes(uint16_t op, uint32_t length, uint64_t offset, uint64_t done) {
    unsigned char got[4096];
    unsigned char expected[4096];
    if (is_read(op)) {
        pieces_copy(op, length, got, false);
        for (uint32_t i = 0; i < length; i++) {
            expected[i] = i < done ? slowfs_byte(1, offset + i) : UNTOUCHED;
        }
        check_equal(got, expected, length, "of the range");
        cr_assert(surroundings_hold(op, length, UNTOUCHED), "the read went beside its range");
        return;
    }
    for (uint64_t at = 0; at < sizeof expected; at++) {
        const bool inside = at >= offset && at < offset + done;
        expected[at] = inside ? written_byte(at) : slowfs_byte(1, at);
    }
    check_equal(served(op)->bytes, expected, sizeof expected, "of the file");
}

static void set_answer_max(uint16_t op, uint32_t bytes) {
    served(op)->read_max = bytes;
    served(op)->write_max = bytes;
}

static uint64_t requests_served(uint16_t op) {
    return is_read(op) ? served(op)->read_count : served(op)->write_count;
}

static void every_answer_length_once(uint16_t op, bool full) {
    for (uint32_t answer = 1; answer <= LENGTH; answer++) {
        slowfs_reset(self.fs[side_of(op)], 1);
        set_answer_max(op, answer);
        fill_for(op, LENGTH, AT);
        const uint64_t resumed_before = rig_stats(&self.rig).short_transfers_total;
        const sr_completion got = transfer(op, full ? SR_REQUEST_FULL : 0, LENGTH, AT);
        const uint64_t resumed = rig_stats(&self.rig).short_transfers_total - resumed_before;
        const uint64_t rounds = (LENGTH + answer - 1) / answer;

        cr_assert_eq(got.result, full ? LENGTH : answer, "answers of %u: result %lld", answer,
                     (long long)got.result);
        cr_assert_eq(got.bytes_done, (uint64_t)got.result);
        cr_assert_eq(got.flags, 0);
        cr_assert_eq(requests_served(op), full ? rounds : 1);
        cr_assert_eq(resumed, full ? rounds - 1 : 0);
        check_bytes(op, LENGTH, AT, (uint64_t)got.result);
    }
}

CASE(short_io, a_short_read_is_reported_at_every_length, set_up, tear_down) {
    every_answer_length_once(SR_OP_READ, false);
}

CASE(short_io, a_full_read_goes_on_at_every_length, set_up, tear_down) {
    every_answer_length_once(SR_OP_READ, true);
}

CASE(short_io, a_short_write_is_reported_at_every_length, set_up, tear_down) {
    every_answer_length_once(SR_OP_WRITE, false);
}

CASE(short_io, a_full_write_goes_on_at_every_length, set_up, tear_down) {
    every_answer_length_once(SR_OP_WRITE, true);
}

CASE(short_io, a_short_vectored_read_is_reported_at_every_length, set_up, tear_down) {
    every_answer_length_once(SR_OP_READV, false);
}

CASE(short_io, a_full_vectored_read_goes_on_at_every_length, set_up, tear_down) {
    every_answer_length_once(SR_OP_READV, true);
}

CASE(short_io, a_short_vectored_write_is_reported_at_every_length, set_up, tear_down) {
    every_answer_length_once(SR_OP_WRITEV, false);
}

CASE(short_io, a_full_vectored_write_goes_on_at_every_length, set_up, tear_down) {
    every_answer_length_once(SR_OP_WRITEV, true);
}

CASE(short_io, every_request_length_meets_every_answer_length, set_up, tear_down) {
    static const uint16_t ops[] = {SR_OP_READ, SR_OP_WRITE, SR_OP_READV, SR_OP_WRITEV};
    struct scale_random random = scale_random(1);
    const uint64_t rounds = scale_count(2000, 100);
    for (uint64_t round = 0; round < rounds; round++) {
        const uint16_t op = ops[scale_random_below(&random, 4)];
        const bool full = scale_random_below(&random, 2) == 1;
        /* A slice of no bytes is allowed, a transfer of none says nothing. */
        const uint32_t length = 1 + (uint32_t)scale_random_below(&random, LENGTH);
        const uint32_t answer = 1 + (uint32_t)scale_random_below(&random, length + 10);
        const uint64_t offset = scale_random_below(&random, AT);
        const uint32_t expected = full || answer > length ? length : answer;
        slowfs_reset(self.fs[side_of(op)], 1);
        set_answer_max(op, answer);
        fill_for(op, length, offset);
        const sr_completion got = transfer(op, full ? SR_REQUEST_FULL : 0, length, offset);
        cr_assert_eq(got.result, expected, "op %u, full %d, length %u, answers of %u: %lld", op,
                     full, length, answer, (long long)got.result);
        check_bytes(op, length, offset, expected);
    }
}

CASE(short_io, a_full_read_ends_at_the_end_of_the_file, set_up, tear_down) {
    for (uint32_t left = 0; left <= LENGTH; left += 64) {
        slowfs_reset(self.fs[READS], 1);
        served(SR_OP_READ)->size_bytes = AT + left;
        set_answer_max(SR_OP_READ, 30);
        fill_for(SR_OP_READ, LENGTH, AT);
        const sr_completion got = transfer(SR_OP_READ, SR_REQUEST_FULL, LENGTH, AT);
        cr_assert_eq(got.result, left);
        cr_assert_eq(got.bytes_done, left);
        check_bytes(SR_OP_READ, LENGTH, AT, left);
    }
}

static void error_after(uint16_t op, uint32_t good, uint32_t answer) {
    slowfs_reset(self.fs[side_of(op)], 1);
    set_answer_max(op, answer);
    served(op)->read_error_at = AT + good;
    served(op)->write_error_at = AT + good;
    fill_for(op, LENGTH, AT);
    const sr_completion got = transfer(op, SR_REQUEST_FULL, LENGTH, AT);
    cr_assert_eq(got.result, -EIO, "op %u, EIO after %u bytes: %lld", op, good,
                 (long long)got.result);
    cr_assert_eq(got.bytes_done, good, "op %u, EIO after %u bytes: %llu were done", op, good,
                 (unsigned long long)got.bytes_done);
    check_bytes(op, LENGTH, AT, good);
}

CASE(short_io, an_error_after_some_bytes_gives_both_code_and_count, set_up, tear_down) {
    static const uint16_t ops[] = {SR_OP_READ, SR_OP_WRITE, SR_OP_READV, SR_OP_WRITEV};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        for (uint32_t good = 0; good < LENGTH; good += 16) {
            error_after(ops[i], good, 30);
            error_after(ops[i], good, 0);
        }
    }
}

CASE(short_io, an_error_without_full_is_the_result, set_up, tear_down) {
    served(SR_OP_READ)->read_error_at = AT + 10;
    fill_for(SR_OP_READ, LENGTH, AT);
    sr_completion got = transfer(SR_OP_READ, 0, LENGTH, AT);
    cr_assert_eq(got.result, 10); /* short, not wrong */
    got = transfer(SR_OP_READ, 0, LENGTH, AT + 10);
    cr_assert_eq(got.result, -EIO);
    cr_assert_eq(got.bytes_done, 0);
}

static uint64_t now_ms(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

CASE(short_io, a_delay_of_300_ms_only_takes_time, set_up, tear_down) {
    const sr_completion *completions = NULL;
    void *data = NULL;
    served(SR_OP_READ)->delay_ms = 300;
    fill_for(SR_OP_READ, LENGTH, AT);
    sr_request request = rig_transfer(SR_OP_READ, self.file[READS], self.buffers[0], LENGTH, AT);
    request.buffer_offset = piece_offset[0];
    const uint64_t start_ms = now_ms();
    (void)rig_submit(&self.rig, &request);

    cr_assert_eq(sr_ring_wait(self.rig.ring, 1, 50 * RIG_MS, NULL, &completions), SR_E_TIMEOUT);
    cr_assert_eq(
        sr_buffer_data(self.rig.pool, self.buffers[0], piece_offset[0], 1, SR_ACCESS_READ, &data),
        SR_E_LENT);
    cr_assert_eq(sr_pool_release(self.rig.pool, self.buffers[0]), SR_E_IN_FLIGHT);

    sr_completion got;
    cr_assert_eq(rig_wait(&self.rig, &got), 1);
    cr_assert_geq(now_ms() - start_ms, 299);
    cr_assert_eq(got.result, LENGTH);
    check_bytes(SR_OP_READ, LENGTH, AT, LENGTH);
}

CASE(short_io, delayed_operations_do_not_wait_for_each_other, set_up, tear_down) {
    sr_completion got;
    served(SR_OP_READ)->delay_ms = 300;
    const uint64_t start_ms = now_ms();
    for (uint64_t i = 0; i < 3; i++) {
        sr_request request =
            rig_transfer(SR_OP_READ, self.file[READS], self.buffers[i], LENGTH, AT);
        request.tag = i;
        (void)rig_submit(&self.rig, &request);
    }
    unsigned int seen = 0;
    while (seen != 7) {
        const sr_completion *completions = NULL;
        const int count = sr_ring_wait(self.rig.ring, 1, 10 * RIG_SECOND, NULL, &completions);
        cr_assert_gt(count, 0);
        for (int i = 0; i < count; i++) {
            got = completions[i];
            cr_assert_eq(got.result, LENGTH);
            cr_assert_eq(seen & (1u << got.tag), 0, "tag %u came twice", (unsigned int)got.tag);
            seen |= 1u << got.tag;
        }
    }
    cr_assert_lt(now_ms() - start_ms, 800, "three delays of 300 ms came one after the other");
}

CASE(short_io, a_full_read_of_a_pipe_collects_what_trickles_in, set_up, tear_down) {
    int ends[2];
    sr_completion got;
    const sr_completion *completions = NULL;
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    const sr_file file = rig_adopt(&self.rig, ends[0], 0);
    fill_for(SR_OP_READ, LENGTH, 0);
    sr_request request = rig_transfer(SR_OP_READ, file, self.buffers[0], LENGTH, SR_OFFSET_CURRENT);
    request.buffer_offset = piece_offset[0];
    request.flags = SR_REQUEST_FULL;
    (void)rig_submit(&self.rig, &request);
    for (uint32_t i = 0; i < LENGTH; i++) {
        const unsigned char byte = slowfs_byte(1, i);
        cr_assert_eq(sr_ring_wait(self.rig.ring, 0, 0, NULL, &completions), 0);
        cr_assert_eq(write(ends[1], &byte, 1), 1);
    }
    cr_assert_eq(rig_wait(&self.rig, &got), 1);
    cr_assert_eq(got.result, LENGTH);
    check_bytes(SR_OP_READ, LENGTH, 0, LENGTH);
    (void)close(ends[1]);
}
