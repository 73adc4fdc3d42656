/* SPDX-License-Identifier: MIT */
/*
 * Baseline: the descriptors and mappings of this process at one moment, so that a test can say that
 * what it did has left nothing behind.
 *
 * Take it after a warm-up round of the same work: the first malloc, the first thread and the first
 * message to stderr map memory that stays. Under AddressSanitizer only mappings with a name (files,
 * io_uring's queues) are compared, because its own anonymous ones come and go; blocks of the
 * library are counted by failing.h and by LeakSanitizer. Under valgrind its own are left out.
 */
#ifndef SAFERING_TESTS_SUPPORT_BASELINE_H
#define SAFERING_TESTS_SUPPORT_BASELINE_H

#include <stddef.h>
#include <stdint.h>

#define BASELINE_FDS_MAX      1024
#define BASELINE_MAPPINGS_MAX 1024
#define BASELINE_NAME_MAX     96

struct baseline_mapping {
    uint64_t begin;
    uint64_t end;
    char name[BASELINE_NAME_MAX]; /* permissions and path */
};

/* Large; a static or a global rather than a local. */
struct baseline {
    uint32_t fd_count;
    uint32_t mapping_count;
    uint8_t fd_is_open[BASELINE_FDS_MAX];
    struct baseline_mapping mappings[BASELINE_MAPPINGS_MAX];
};

/* Looks at the process now. Aborts with a message if /proc cannot be read. */
void baseline_take(struct baseline *out_baseline);

/*
 * Compares now with @before. Returns NULL if there are as many descriptors and as many mappings,
 * else a readable list of what came and went; it stays valid until the next call.
 */
const char *baseline_difference(const struct baseline *before);

#endif
