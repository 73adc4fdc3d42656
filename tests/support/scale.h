/* SPDX-License-Identifier: MIT */
/*
 * Scale: how much of a long test is run, and with which random numbers.
 *
 *   SAFERING_TEST_SCALE  1 for all of it (the default), 0.02 or 1/50 for a fiftieth
 *   SAFERING_TEST_SEED   the seed to use again; without it each process draws one
 *
 * Seed and scale are printed to stderr when first used, so that a failure can be repeated.
 */
#ifndef SAFERING_TESTS_SUPPORT_SCALE_H
#define SAFERING_TESTS_SUPPORT_SCALE_H

#include <stdint.h>

/* The scale, above 0. A value that is no number ends the test with a message. */
double scale_factor(void);

/* @full times the scale, but no less than @at_least (and no more than @full if the scale is below
 * 1). */
uint64_t scale_count(uint64_t full, uint64_t at_least);

uint64_t scale_seed(void);

/* A small generator (splitmix64): the same numbers for the same seed and @stream. */
struct scale_random {
    uint64_t state;
};

struct scale_random scale_random(uint64_t stream);
uint64_t scale_random_next(struct scale_random *random);
/* 0 .. @limit - 1; @limit is at least 1. */
uint64_t scale_random_below(struct scale_random *random, uint64_t limit);

#endif
