/* SPDX-License-Identifier: MIT */
#include "ipc/histogram.h"

void sri_histogram_add(struct sri_histogram *histogram, uint64_t ns) {
    uint32_t bucket = 0;
    if (ns > sri_histogram_limit_ns(0)) {
        bucket = 64u - (uint32_t)__builtin_clzll(ns - 1) - SRI_HISTOGRAM_SHIFT_MIN;
    }
    if (bucket >= SRI_HISTOGRAM_BUCKETS) {
        bucket = SRI_HISTOGRAM_BUCKETS - 1;
    }
    histogram->counts[bucket]++;
    histogram->count++;
    histogram->sum_ns += ns;
    if (ns > histogram->max_ns) {
        histogram->max_ns = ns;
    }
}

uint64_t sri_histogram_quantile_ns(const struct sri_histogram *histogram, uint32_t per_mille) {
    /* How many must be no longer, rounded up; in two parts, so that it does not overflow. */
    const uint64_t whole = histogram->count / 1000 * per_mille;
    const uint64_t rest = (histogram->count % 1000 * per_mille + 999) / 1000;
    uint64_t seen = 0;
    for (uint32_t i = 0; i + 1 < SRI_HISTOGRAM_BUCKETS; i++) {
        seen += histogram->counts[i];
        if (seen > 0 && seen >= whole + rest) {
            const uint64_t limit_ns = sri_histogram_limit_ns(i);
            return limit_ns < histogram->max_ns ? limit_ns : histogram->max_ns;
        }
    }
    return histogram->max_ns;
}
