/* SPDX-License-Identifier: MIT */
/* The same reads by pread(2), one call each: what a program without io_uring would do. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline.h"
#include "work.h"
#include <stdlib.h>
#include <unistd.h>

struct side {
    unsigned char *memory;
    uint64_t file_seed;
    uint32_t n;
    int fd;
};

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));

    (void)out_facts; /* no ring */
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "pread: out of memory");
    }
    self->n = setup->n;
    self->fd = setup->fd;
    self->file_seed = setup->file_seed;
    self->memory = aligned_alloc(BENCH_BLOCK_BYTES, (size_t)setup->n * BENCH_BLOCK_BYTES);
    if (self->memory == NULL) {
        free(self);
        return bench_complain(BENCH_WRONG, "pread: out of memory");
    }
    *out_side = self;
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;

    for (uint32_t i = 0; i < round->ops; i++) {
        unsigned char *buffer = self->memory + (size_t)(i % self->n) * BENCH_BLOCK_BYTES;
        ssize_t count =
            pread(self->fd, buffer, BENCH_BLOCK_BYTES, (off_t)round->blocks[i] * BENCH_BLOCK_BYTES);

        if (count != BENCH_BLOCK_BYTES) {
            return bench_complain(BENCH_WRONG, "pread: gave %zd", count);
        }
        if (!bench_check_block(buffer, self->file_seed, round->blocks[i], round->full,
                               &out_work->checksum)) {
            return bench_complain(BENCH_WRONG, "pread: wrong bytes");
        }
        out_work->ops++;
    }
    return BENCH_OK;
}

static void side_close(void *side) {
    struct side *self = side;

    free(self->memory);
    free(self);
}

const struct bench_side bench_baseline_pread = {"pread", side_open, side_run, side_close, 0};
