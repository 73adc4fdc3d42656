/* SPDX-License-Identifier: MIT */
/* NOPs through safering: shared by the cases that differ in the number of threads. */
#ifndef BENCH_NOP_H
#define BENCH_NOP_H

#include "bench.h"

int nop_open(const struct bench_setup *setup, void **out_side, struct bench_facts *out_facts);
int nop_run(void *side, const struct bench_round *round, struct bench_work *out_work);
void nop_close(void *side);
uint64_t nop_expect(const struct bench_setup *setup, const struct bench_round *round);

#endif
