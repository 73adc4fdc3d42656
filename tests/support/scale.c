/* SPDX-License-Identifier: MIT */
#include "support/scale.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

static _Noreturn void refuse(const char *name, const char *text) {
    fprintf(stderr, "%s=%s is not a number\n", name, text);
    exit(1);
}

static double parse_scale(const char *text) {
    char *end = NULL;
    double value = strtod(text, &end);
    if (end != text && *end == '/') {
        const char *below = end + 1;
        value /= strtod(below, &end);
        if (end == below) {
            refuse("SAFERING_TEST_SCALE", text);
        }
    }
    /* Written so that NaN is refused too. */
    if (end == text || *end != '\0' || !(value > 0.0 && value <= 1e6)) {
        refuse("SAFERING_TEST_SCALE", text);
    }
    return value;
}

double scale_factor(void) {
    static double scale;
    if (scale <= 0.0) {
        const char *text = getenv("SAFERING_TEST_SCALE");
        scale = text != NULL && *text != '\0' ? parse_scale(text) : 1.0;
        fprintf(stderr, "scale: SAFERING_TEST_SCALE=%g\n", scale);
    }
    return scale;
}

uint64_t scale_count(uint64_t full, uint64_t at_least) {
    const uint64_t scaled = (uint64_t)((double)full * scale_factor() + 0.5);
    return scaled > at_least ? scaled : at_least;
}

static uint64_t draw_seed(void) {
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) {
        seed = (uint64_t)time(NULL);
    }
    return seed >> 1; /* so that it reads the same as a signed number */
}

uint64_t scale_seed(void) {
    static uint64_t seed;
    static int known;
    if (!known) {
        const char *text = getenv("SAFERING_TEST_SEED");
        if (text != NULL && *text != '\0') {
            char *end = NULL;
            seed = strtoull(text, &end, 0);
            if (*end != '\0') {
                refuse("SAFERING_TEST_SEED", text);
            }
        } else {
            seed = draw_seed();
        }
        known = 1;
        fprintf(stderr, "scale: SAFERING_TEST_SEED=%llu\n", (unsigned long long)seed);
    }
    return seed;
}

uint64_t scale_random_next(struct scale_random *random) {
    random->state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t bits = random->state;
    bits = (bits ^ (bits >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    bits = (bits ^ (bits >> 27)) * UINT64_C(0x94d049bb133111eb);
    return bits ^ (bits >> 31);
}

struct scale_random scale_random(uint64_t stream) {
    struct scale_random random = {scale_seed() + stream * UINT64_C(0xd1342543de82ef95)};
    (void)scale_random_next(&random); /* neighbouring streams part */
    return random;
}

uint64_t scale_random_below(struct scale_random *random, uint64_t limit) {
    return scale_random_next(random) % limit;
}
