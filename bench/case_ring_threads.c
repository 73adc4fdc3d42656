/* SPDX-License-Identifier: MIT */
/*
 * ring.threads: a ring in each thread. ring.scaling asks whether two such threads disturb each
 * other (two against one, safering and liburing), share.mutex_ring what a ring in each thread saves
 * against one ring for all.
 */
#include "baseline.h"
#include "nop.h"

static const struct bench_side ours_1 = {"safering", nop_open, nop_run, nop_close, 1};
static const struct bench_side ours_2 = {"safering", nop_open, nop_run, nop_close, 2};

#define THREADS_CASE(sides, threads)                                                               \
    {                                                                                              \
        .name = "ring.threads",                                                                    \
        .question = "NOPs, 128 at a time, a ring in each thread: the time of one in one thread",   \
        .n = 128, .round_ops = 128 * 200, .same_setup = true, .cpus = (threads),                   \
        .ours = &ours_##sides, .baseline = &bench_baseline_nop_##sides, .expect = nop_expect,      \
    }

const struct bench_case bench_case_ring_threads_1 = THREADS_CASE(1, 1);
const struct bench_case bench_case_ring_threads_2 = THREADS_CASE(2, 2);

const struct bench_case bench_case_ring_scaling = {
    .name = "ring.scaling",
    .question = "safering's time in each of two threads against that in one; 1 is no disturbance",
    .n = 128,
    .round_ops = 128 * 200,
    .same_setup = true,
    .cpus = 2,
    .ours = &ours_2,
    .baseline = &ours_1,
    .expect = nop_expect,
};

const struct bench_case bench_case_ring_scaling_liburing = {
    .name = "ring.scaling_liburing",
    .question = "the same with liburing: what the machine and the kernel make of two threads",
    .n = 128,
    .round_ops = 128 * 200,
    .same_setup = true,
    .cpus = 2,
    .ours = &bench_baseline_nop_2,
    .baseline = &bench_baseline_nop_1,
    .expect = nop_expect,
};

#define MUTEX_CASE(at_a_time, ops)                                                                 \
    {                                                                                              \
        .name = "share.mutex_ring",                                                                \
        .question = "two threads: a safering ring in each against one liburing ring and a mutex",  \
        .n = (at_a_time), .round_ops = (ops), .cpus = 2, .ours = &ours_2,                          \
        .baseline = &bench_baseline_shared_ring, .expect = nop_expect,                             \
    }

const struct bench_case bench_case_share_mutex_ring_128 = MUTEX_CASE(128, 128 * 200);
const struct bench_case bench_case_share_mutex_ring_1 = MUTEX_CASE(1, 2048);
