/* SPDX-License-Identifier: MIT */
/* ring.read4k: the price of safety on a real operation, with both sides as fast as they can be:
 * registered buffers, a registered file, one enter for the batch. A row for pread(2) stands beside.
 */
#include "baseline.h"
#include "read4k.h"
#include <safering/safering.h>

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    return read4k_open(setup, SR_FILE_FIXED, out_side, out_facts);
}

static const struct bench_side ours = {"safering", side_open, read4k_run, read4k_close, 0};

const struct bench_case bench_case_ring_read4k = {
    .name = "ring.read4k",
    .question = "tmpfs 4 KiB reads, 32 at a time, fixed buffers and file on both sides",
    .n = 32,
    .size = BENCH_BLOCK_BYTES,
    .round_ops = 32 * 64,
    .file = BENCH_FILE_TMPFS,
    .same_setup = true,
    .ours = &ours,
    .baseline = &bench_baseline_read4k,
    .beside = &bench_baseline_pread,
    .beside_name = "ring.read4k.pread",
    .expect = read4k_expect,
};

const struct bench_case bench_case_ring_read4k_nowait = {
    .name = "ring.read4k_nowait",
    .question = "as ring.read4k, where the kernel answers cached reads at once",
    .n = 32,
    .size = BENCH_BLOCK_BYTES,
    .round_ops = 32 * 64,
    .file = BENCH_FILE_NOWAIT,
    .same_setup = true,
    .ours = &ours,
    .baseline = &bench_baseline_read4k,
    .beside = &bench_baseline_pread,
    .beside_name = "ring.read4k_nowait.pread",
    .expect = read4k_expect,
};
