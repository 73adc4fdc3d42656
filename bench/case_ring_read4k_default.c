/* SPDX-License-Identifier: MIT */
/* ring.read4k_default: what somebody gains who takes safering's defaults instead of copying one of
 * liburing's examples. The sides differ on purpose. */
#include "baseline.h"
#include "read4k.h"
#include <safering/safering.h>

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    return read4k_open(setup, 0, out_side, out_facts);
}

static const struct bench_side ours = {"safering", side_open, read4k_run, read4k_close, 0};

const struct bench_case bench_case_ring_read4k_default = {
    .name = "ring.read4k_default",
    .question = "tmpfs 4 KiB reads, our defaults 32 at a time against liburing one by one",
    .n = 32,
    .size = BENCH_BLOCK_BYTES,
    .round_ops = 32 * 64,
    .file = BENCH_FILE_TMPFS,
    .ours = &ours,
    .baseline = &bench_baseline_read4k_default,
    .expect = read4k_expect,
};

const struct bench_case bench_case_ring_read4k_default_nowait = {
    .name = "ring.read4k_default_nowait",
    .question = "as ring.read4k_default, where the kernel answers cached reads at once",
    .n = 32,
    .size = BENCH_BLOCK_BYTES,
    .round_ops = 32 * 64,
    .file = BENCH_FILE_NOWAIT,
    .ours = &ours,
    .baseline = &bench_baseline_read4k_default,
    .expect = read4k_expect,
};
