/* SPDX-License-Identifier: MIT */
/* malloc, touch, free: what a buffer costs without a pool. */
#include "baseline.h"
#include "work.h"
#include <stdlib.h>

struct side {
    size_t size_bytes;
};

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));

    (void)out_facts; /* no ring */
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "malloc: out of memory");
    }
    self->size_bytes = setup->size;
    *out_side = self;
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    uint64_t ops = 0;
    uint64_t sum = 0;

    for (uint32_t i = 0; i < round->ops; i++) {
        void *memory = malloc(self->size_bytes);

        if (memory == NULL) {
            return bench_complain(BENCH_WRONG, "malloc: out of memory");
        }
        sum += bench_touch(memory, self->size_bytes, (uint8_t)(round->base + i));
        free(memory);
        ops++;
    }
    out_work->ops = ops;
    out_work->checksum = sum;
    return BENCH_OK;
}

static void side_close(void *side) {
    free(side);
}

const struct bench_side bench_baseline_malloc = {"malloc", side_open, side_run, side_close, 0};
