/* SPDX-License-Identifier: MIT */
/* pool.check: nanoseconds of one sr_buffer_data(), the checked way to a buffer's bytes. */
#include "bench.h"
#include <safering/safering.h>
#include <stdlib.h>
#include <string.h>

/* A power of two. Small enough that all of it stays in the first cache: the check is measured, not
 * the memory. */
enum { BUFFERS = 64 };

struct side {
    sr_pool *pool;
    sr_buffer buffers[BUFFERS];
    size_t size_bytes;
};

static void side_close(void *side) {
    struct side *self = side;

    sr_pool_destroy(&self->pool);
    free(self);
}

/* Each buffer starts with its own number, so that a pointer to the wrong one shows. */
static int fill(struct side *self) {
    for (uint32_t i = 0; i < BUFFERS; i++) {
        uint64_t number = i;
        void *data;
        int code = sr_pool_acquire(self->pool, self->size_bytes, &self->buffers[i]);

        if (code == 0) {
            code = sr_buffer_data(self->pool, self->buffers[i], 0, self->size_bytes,
                                  SR_ACCESS_WRITE, &data);
        }
        if (code != 0) {
            return bench_complain(BENCH_WRONG, "safering: buffer %u: %s", i, sr_strerror(code));
        }
        memcpy(data, &number, sizeof(number));
    }
    return BENCH_OK;
}

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    int status;
    int code;

    (void)out_facts; /* no ring */
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "safering: out of memory");
    }
    self->size_bytes = setup->size;
    options.buffer_size_bytes = setup->size;
    options.buffer_count = BUFFERS;
    code = sr_pool_create(NULL, &options, &self->pool);
    if (code != 0) {
        free(self);
        return bench_complain(BENCH_WRONG, "safering: pool: %s", sr_strerror(code));
    }
    status = fill(self);
    if (status != BENCH_OK) {
        side_close(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    uint64_t ops = 0;
    uint64_t sum = 0;

    for (uint32_t i = 0; i < round->ops; i++) {
        sr_buffer buffer = self->buffers[(round->base + i) % BUFFERS];
        uint64_t number;
        void *data;
        int code = sr_buffer_data(self->pool, buffer, 0, self->size_bytes, SR_ACCESS_READ, &data);

        if (code != 0) {
            return bench_complain(BENCH_WRONG, "safering: data: %s", sr_strerror(code));
        }
        memcpy(&number, data, sizeof(number));
        sum += number * (i + 1u);
        ops++;
    }
    out_work->ops = ops;
    out_work->checksum = sum;
    return BENCH_OK;
}

static uint64_t expect(const struct bench_setup *setup, const struct bench_round *round) {
    uint64_t sum = 0;

    (void)setup; /* the order depends on the round alone */
    for (uint32_t i = 0; i < round->ops; i++) {
        sum += (round->base + i) % BUFFERS * (i + 1u);
    }
    return sum;
}

static const struct bench_side ours = {"safering", side_open, side_run, side_close, 0};

const struct bench_case bench_case_pool_check = {
    .name = "pool.check",
    .question = "one checked access to a buffer's bytes; nothing to compare with",
    .size = 64,
    .round_ops = 262144,
    .ours = &ours,
    .expect = expect,
};
