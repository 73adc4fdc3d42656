/* SPDX-License-Identifier: MIT */
/*
 * share.access: checked access to a buffer by a thread that does not own the pool, while the owner
 * acquires and releases others without a pause, against the same while the owner sleeps. Above 1,
 * what the owner writes lies where the other thread must read.
 */
#include "baseline.h"
#include "work.h"
#include <safering/safering.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct side {
    sr_pool *pool;
    sr_buffer buffer; /* the partner's */
    struct bench_partner *partner;
    sr_thread there;
    const struct bench_round *round;
    struct bench_work work; /* the partner's */
    atomic_bool done;
};

static int failed(const char *what, int code) {
    return bench_complain(BENCH_WRONG, "safering: %s: %s", what, sr_strerror(code));
}

static int introduce(void *argument) {
    struct side *self = argument;

    self->there = sr_thread_self();
    return BENCH_OK;
}

static void side_close(void *side) {
    struct side *self = side;

    bench_partner_close(self->partner);
    sr_pool_destroy(&self->pool);
    free(self);
}

static int open_parts(struct side *self, const struct bench_setup *setup) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    int status = bench_partner_open(&self->partner);
    int code;

    if (status != BENCH_OK) {
        return status;
    }
    bench_partner_begin(self->partner, introduce, self);
    status = bench_partner_wait(self->partner);
    if (status != BENCH_OK) {
        return status;
    }
    options.buffer_size_bytes = setup->size;
    code = sr_pool_create(NULL, &options, &self->pool);
    if (code == 0) {
        code = sr_pool_acquire(self->pool, setup->size, &self->buffer);
    }
    if (code == 0) {
        code = sr_buffer_transfer(self->pool, self->buffer, self->there);
    }
    return code == 0 ? BENCH_OK : failed("buffer", code);
}

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    int status;

    (void)out_facts; /* no ring */
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "safering: out of memory");
    }
    status = open_parts(self, setup);
    if (status != BENCH_OK) {
        side_close(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

/* Each access writes a number and the next one finds it. */
static int access_all(struct side *self) {
    uint64_t sum = 0;

    for (uint32_t i = 0; i < self->round->ops; i++) {
        uint64_t number = self->round->base + i;
        uint64_t before;
        void *data;
        int code =
            sr_buffer_data(self->pool, self->buffer, 0, sizeof(number), SR_ACCESS_WRITE, &data);

        if (code != 0) {
            return failed("data", code);
        }
        memcpy(&before, data, sizeof(before));
        memcpy(data, &number, sizeof(number));
        if (i > 0 && before != number - 1) {
            return bench_complain(BENCH_WRONG, "safering: wrong bytes");
        }
        sum += number;
        self->work.ops++;
    }
    self->work.checksum = sum;
    return BENCH_OK;
}

static int access_there(void *argument) {
    struct side *self = argument;
    uint64_t begin = bench_now_ns();
    int status = access_all(self);

    self->work.ns = bench_now_ns() - begin;
    atomic_store(&self->done, true);
    return status;
}

static void begin_round(struct side *self, const struct bench_round *round) {
    self->round = round;
    self->work = (struct bench_work){0, 0, 0, 0};
    atomic_store(&self->done, false);
    bench_partner_begin(self->partner, access_there, self);
}

static int end_round(struct side *self, struct bench_work *out_work) {
    int status = bench_partner_wait(self->partner);

    *out_work = self->work;
    return status;
}

static int run_idle(void *side, const struct bench_round *round, struct bench_work *out_work) {
    begin_round(side, round);
    return end_round(side, out_work);
}

static int run_busy(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;

    begin_round(self, round);
    while (!atomic_load_explicit(&self->done, memory_order_relaxed)) {
        sr_buffer buffer;
        int code = sr_pool_acquire(self->pool, 1, &buffer);

        if (code == 0) {
            code = sr_pool_release(self->pool, buffer);
        }
        if (code != 0) {
            return failed("cycle", code);
        }
    }
    return end_round(self, out_work);
}

static uint64_t expect(const struct bench_setup *setup, const struct bench_round *round) {
    uint64_t sum = 0;

    (void)setup; /* numbers depend on the round alone */
    for (uint32_t i = 0; i < round->ops; i++) {
        sum += round->base + i;
    }
    return sum;
}

static const struct bench_side ours = {"busy owner", side_open, run_busy, side_close, 1};
static const struct bench_side idle = {"idle", side_open, run_idle, side_close, 1};

const struct bench_case bench_case_share_access = {
    .name = "share.access",
    .question =
        "checked access of a thread while the pool's owner is busy, against while it is idle",
    .size = 64,
    .round_ops = 32768,
    .cpus = 2,
    .ours = &ours,
    .baseline = &idle,
    .expect = expect,
};
