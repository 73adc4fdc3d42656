/* SPDX-License-Identifier: MIT */
/* pool.cycle: a buffer's whole life (acquire, checked pointer, touch, release) against malloc. */
#include "baseline.h"
#include "work.h"
#include <safering/safering.h>
#include <stdlib.h>

struct side {
    sr_pool *pool;
    size_t size_bytes;
};

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    int code;

    (void)out_facts; /* no ring */
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "safering: out of memory");
    }
    self->size_bytes = setup->size;
    options.buffer_size_bytes = setup->size;
    code = sr_pool_create(NULL, &options, &self->pool);
    if (code != 0) {
        free(self);
        return bench_complain(BENCH_WRONG, "safering: pool: %s", sr_strerror(code));
    }
    *out_side = self;
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    uint64_t ops = 0;
    uint64_t sum = 0;

    for (uint32_t i = 0; i < round->ops; i++) {
        sr_buffer buffer;
        void *data;
        int code = sr_pool_acquire(self->pool, self->size_bytes, &buffer);

        if (code != 0) {
            return bench_complain(BENCH_WRONG, "safering: acquire: %s", sr_strerror(code));
        }
        code = sr_buffer_data(self->pool, buffer, 0, self->size_bytes, SR_ACCESS_WRITE, &data);
        if (code != 0) {
            return bench_complain(BENCH_WRONG, "safering: data: %s", sr_strerror(code));
        }
        sum += bench_touch(data, self->size_bytes, (uint8_t)(round->base + i));
        code = sr_pool_release(self->pool, buffer);
        if (code != 0) {
            return bench_complain(BENCH_WRONG, "safering: release: %s", sr_strerror(code));
        }
        ops++;
    }
    out_work->ops = ops;
    out_work->checksum = sum;
    return BENCH_OK;
}

static void side_close(void *side) {
    struct side *self = side;

    sr_pool_destroy(&self->pool);
    free(self);
}

static uint64_t expect(const struct bench_setup *setup, const struct bench_round *round) {
    uint64_t sum = 0;

    (void)setup; /* values depend on the round alone */
    for (uint32_t i = 0; i < round->ops; i++) {
        sum += (uint8_t)(round->base + i);
    }
    return sum;
}

static const struct bench_side ours = {"safering", side_open, side_run, side_close, 0};

#define CYCLE_CASE(bytes, ops)                                                                     \
    {                                                                                              \
        .name = "pool.cycle",                                                                      \
        .question = "acquire, touch a byte per 4,096, release, against malloc and free",           \
        .size = (bytes), .round_ops = (ops), .ours = &ours, .baseline = &bench_baseline_malloc,    \
        .expect = expect,                                                                          \
    }

const struct bench_case bench_case_pool_cycle_64 = CYCLE_CASE(64, 65536);
const struct bench_case bench_case_pool_cycle_4096 = CYCLE_CASE(4096, 65536);
const struct bench_case bench_case_pool_cycle_65536 = CYCLE_CASE(65536, 32768);
