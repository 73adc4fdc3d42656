/* SPDX-License-Identifier: MIT */
/*
 * Buffers and two threads: share.transfer, a buffer's way to another holder; share.remote_release
 * and share.remote_acquire, a buffer that one thread acquires and another gives back, seen from
 * either. Only the calls of the case's name are timed; what orders memory between the threads (the
 * partner's semaphores) and the looking at the bytes is not.
 */
#include "baseline.h"
#include "work.h"
#include <safering/safering.h>
#include <stdlib.h>
#include <string.h>

struct side {
    sr_pool *pool;
    sr_buffer *buffers;
    uint32_t n;
    struct bench_partner *partner;
    sr_thread here;
    sr_thread there;
    uint64_t tag; /* of the first buffer of the batch */
    uint64_t acquire_ns;
    uint64_t transfer_ns;
    uint64_t release_ns;
    uint64_t checksum;
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
    free(self->buffers);
    free(self);
}

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    int status = BENCH_OK;
    int code;

    (void)out_facts; /* no ring */
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "safering: out of memory");
    }
    self->n = setup->n;
    self->here = sr_thread_self();
    self->buffers = calloc(setup->n, sizeof(*self->buffers));
    options.buffer_size_bytes = setup->size;
    options.buffer_count = setup->n; /* so that each batch needs what came back from the last */
    code = sr_pool_create(NULL, &options, &self->pool);
    if (self->buffers == NULL || code != 0) {
        status = failed("pool", code);
    }
    if (status == BENCH_OK) {
        status = bench_partner_open(&self->partner);
    }
    if (status != BENCH_OK) {
        side_close(self);
        return status;
    }
    bench_partner_begin(self->partner, introduce, self);
    *out_side = self;
    return bench_partner_wait(self->partner);
}

/* ---- steps, each for a whole batch; those with a clock are what is measured ------------------ */

static int acquire_all(struct side *self) {
    uint64_t begin = bench_now_ns();

    for (uint32_t i = 0; i < self->n; i++) {
        int code = sr_pool_acquire(self->pool, sizeof(uint64_t), &self->buffers[i]);

        if (code != 0) {
            return failed("acquire", code);
        }
    }
    self->acquire_ns += bench_now_ns() - begin;
    return BENCH_OK;
}

static int transfer_all(struct side *self, sr_thread to) {
    uint64_t begin = bench_now_ns();

    for (uint32_t i = 0; i < self->n; i++) {
        int code = sr_buffer_transfer(self->pool, self->buffers[i], to);

        if (code != 0) {
            return failed("transfer", code);
        }
    }
    self->transfer_ns += bench_now_ns() - begin;
    return BENCH_OK;
}

static int release_all(struct side *self) {
    uint64_t begin = bench_now_ns();

    for (uint32_t i = 0; i < self->n; i++) {
        int code = sr_pool_release(self->pool, self->buffers[i]);

        if (code != 0) {
            return failed("release", code);
        }
    }
    self->release_ns += bench_now_ns() - begin;
    return BENCH_OK;
}

static int write_all(struct side *self) {
    for (uint32_t i = 0; i < self->n; i++) {
        uint64_t number = self->tag + i;
        void *data;
        int code =
            sr_buffer_data(self->pool, self->buffers[i], 0, sizeof(number), SR_ACCESS_WRITE, &data);

        if (code != 0) {
            return failed("data", code);
        }
        memcpy(data, &number, sizeof(number));
    }
    return BENCH_OK;
}

static int read_all(struct side *self) {
    for (uint32_t i = 0; i < self->n; i++) {
        uint64_t number;
        void *data;
        int code =
            sr_buffer_data(self->pool, self->buffers[i], 0, sizeof(number), SR_ACCESS_READ, &data);

        if (code != 0) {
            return failed("data", code);
        }
        memcpy(&number, data, sizeof(number));
        if (number != self->tag + i) {
            return bench_complain(BENCH_WRONG, "safering: wrong bytes");
        }
        self->checksum += number;
    }
    return BENCH_OK;
}

/* ---- there and back, or there and released --------------------------------------------------- */

static int release_there(void *argument) {
    struct side *self = argument;
    int status = read_all(self);

    return status == BENCH_OK ? release_all(self) : status;
}

static int send_back(void *argument) {
    struct side *self = argument;
    int status = read_all(self);

    return status == BENCH_OK ? transfer_all(self, self->here) : status;
}

static int run_batch(struct side *self, int (*task)(void *)) {
    int status = acquire_all(self);

    if (status == BENCH_OK) {
        status = write_all(self);
    }
    if (status == BENCH_OK) {
        status = transfer_all(self, self->there);
    }
    if (status == BENCH_OK) {
        bench_partner_begin(self->partner, task, self);
        status = bench_partner_wait(self->partner);
    }
    return status;
}

static int run_all(struct side *self, const struct bench_round *round, int (*task)(void *),
                   struct bench_work *out_work) {
    self->acquire_ns = 0;
    self->transfer_ns = 0;
    self->release_ns = 0;
    self->checksum = 0;
    for (uint32_t i = 0; i < round->ops; i += self->n) {
        int status;

        self->tag = round->base + i;
        status = run_batch(self, task);
        if (status == BENCH_OK && task == send_back) {
            status = release_all(self); /* by its owner, who is the holder again */
        }
        if (status != BENCH_OK) {
            return status;
        }
        out_work->ops += self->n;
    }
    out_work->checksum = self->checksum;
    return BENCH_OK;
}

static int run_transfer(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    int status = run_all(self, round, send_back, out_work);

    out_work->ns = self->transfer_ns / 2; /* there and back */
    return status;
}

static int run_release(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    int status = run_all(self, round, release_there, out_work);

    out_work->ns = self->release_ns;
    return status;
}

static int run_acquire(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    int status = run_all(self, round, release_there, out_work);

    out_work->ns = self->acquire_ns;
    return status;
}

static uint64_t expect(const struct bench_setup *setup, const struct bench_round *round) {
    uint64_t sum = 0;

    (void)setup; /* numbers depend on the round alone */
    for (uint32_t i = 0; i < round->ops; i++) {
        sum += round->base + i;
    }
    return sum;
}

static const struct bench_side ours_transfer = {"safering", side_open, run_transfer, side_close, 1};
static const struct bench_side ours_release = {"safering", side_open, run_release, side_close, 1};
static const struct bench_side ours_acquire = {"safering", side_open, run_acquire, side_close, 1};

const struct bench_case bench_case_share_transfer = {
    .name = "share.transfer",
    .question = "a buffer gets another holder; a plain pointer has none to compare with",
    .n = 256,
    .size = 4096,
    .round_ops = 256 * 16,
    .cpus = 2,
    .ours = &ours_transfer,
    .expect = expect,
};

const struct bench_case bench_case_share_remote_release = {
    .name = "share.remote_release",
    .question = "a buffer is released by another thread than its pool's owner, against free",
    .n = 256,
    .size = 4096,
    .round_ops = 256 * 16,
    .cpus = 2,
    .ours = &ours_release,
    .baseline = &bench_baseline_remote_free,
    .expect = expect,
};

const struct bench_case bench_case_share_remote_acquire = {
    .name = "share.remote_acquire",
    .question = "the owner acquires what another thread released, against malloc",
    .n = 256,
    .size = 4096,
    .round_ops = 256 * 16,
    .cpus = 2,
    .ours = &ours_acquire,
    .baseline = &bench_baseline_remote_malloc,
    .expect = expect,
};
