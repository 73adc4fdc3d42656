/* SPDX-License-Identifier: MIT */
/* Batched reads of 4 KiB through safering: shared by the two cases that differ in the file's flags.
 */
#ifndef BENCH_READ4K_H
#define BENCH_READ4K_H

#include "bench.h"

/* @file_flags: enum sr_file_flags */
int read4k_open(const struct bench_setup *setup, uint32_t file_flags, void **out_side,
                struct bench_facts *out_facts);
int read4k_run(void *side, const struct bench_round *round, struct bench_work *out_work);
void read4k_close(void *side);
uint64_t read4k_expect(const struct bench_setup *setup, const struct bench_round *round);

#endif
