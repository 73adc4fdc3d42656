/* SPDX-License-Identifier: MIT */
/*
 * Histogram: how long something took, counted by powers of two: bucket i has what took longer than
 * half of its limit, and no longer than that, 2^(i + 10) ns. The first has all that is shorter, the
 * last all that is longer: 1 us to 34 s are told apart. All zero is an empty one.
 */
#ifndef SAFERING_IPC_HISTOGRAM_H
#define SAFERING_IPC_HISTOGRAM_H

#include <stdint.h>

#define SRI_HISTOGRAM_BUCKETS   27u /* the last without a limit */
#define SRI_HISTOGRAM_SHIFT_MIN 10u

struct sri_histogram {
    uint64_t counts[SRI_HISTOGRAM_BUCKETS];
    uint64_t count;
    uint64_t sum_ns;
    uint64_t max_ns;
};

void sri_histogram_add(struct sri_histogram *histogram, uint64_t ns);

/* The limit of a bucket, the last excepted. */
static inline uint64_t sri_histogram_limit_ns(uint32_t bucket) {
    return UINT64_C(1) << (bucket + SRI_HISTOGRAM_SHIFT_MIN);
}

/* A time that at least @per_mille of all were no longer than: the limit of their bucket, or the
 * longest where that is less. 0: there were none. */
uint64_t sri_histogram_quantile_ns(const struct sri_histogram *histogram, uint32_t per_mille);

#endif
