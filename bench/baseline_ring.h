/* SPDX-License-Identifier: MIT */
/* A ring as somebody would set it up who knows liburing well, for the baselines only. */
#ifndef BENCH_BASELINE_RING_H
#define BENCH_BASELINE_RING_H

#include "bench.h"
#include <liburing.h>

enum { BASELINE_ENTRIES = 128 };

/* SINGLE_ISSUER, DEFER_TASKRUN, SUBMIT_ALL, TASKRUN_FLAG and a registered ring descriptor;
 * complains on failure.
 */
int baseline_ring_open(struct io_uring *out_ring, struct bench_facts *out_facts);

#endif
