/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "read4k.h"
#include "work.h"
#include <errno.h>
#include <fcntl.h>
#include <safering/safering.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct side {
    sr_ring *ring;
    sr_pool *pool;
    sr_file file;
    sr_buffer *buffers; /* n, held for the whole case */
    uint64_t file_seed;
    uint32_t n;
};

void read4k_close(void *side) {
    struct side *self = side;

    sr_ring_destroy(&self->ring);
    sr_pool_destroy(&self->pool); /* buffers that are only held die with it */
    free(self->buffers);
    free(self);
}

/* The descriptor given to the ring is a duplicate: the ring closes what it takes. */
static int adopt_file(struct side *self, int fd, uint32_t file_flags) {
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    int code;

    if (own < 0) {
        return bench_complain(BENCH_WRONG, "safering: dup: %s", strerror(errno));
    }
    code = sr_file_adopt(self->ring, own, file_flags, &self->file);
    if (code != 0) {
        close(own);
        return bench_complain(BENCH_WRONG, "safering: adopt: %s", sr_strerror(code));
    }
    return BENCH_OK;
}

static int make_buffers(struct side *self) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    int code;

    options.buffer_size_bytes = BENCH_BLOCK_BYTES;
    options.buffer_count = self->n;
    code = sr_pool_create(NULL, &options, &self->pool);
    if (code != 0) {
        return bench_complain(BENCH_WRONG, "safering: pool: %s", sr_strerror(code));
    }
    for (uint32_t i = 0; i < self->n; i++) {
        code = sr_pool_acquire(self->pool, BENCH_BLOCK_BYTES, &self->buffers[i]);
        if (code != 0) {
            return bench_complain(BENCH_WRONG, "safering: acquire: %s", sr_strerror(code));
        }
    }
    code = sr_ring_attach_pool(self->ring, self->pool);
    if (code < 0) {
        return bench_complain(BENCH_WRONG, "safering: attach: %s", sr_strerror(code));
    }
    if (code == 0) {
        return bench_complain(BENCH_MISSING, "safering: the pool could not be registered "
                                             "(RLIMIT_MEMLOCK?)");
    }
    return BENCH_OK;
}

static int fill_facts(struct side *self, struct bench_facts *facts) {
    sr_ring_stats stats = SR_RING_STATS_INIT;
    int code = sr_ring_get_stats(self->ring, &stats);

    if (code != 0) {
        return bench_complain(BENCH_WRONG, "safering: stats: %s", sr_strerror(code));
    }
    facts->ring = true;
    facts->setup_flags = stats.setup_flags;
    facts->ring_fd_registered = stats.ring_fd_registered != 0;
    facts->buffers_registered = stats.pools_registered == 1;
    facts->file_fixed = stats.fixed_files_used == 1;
    return BENCH_OK;
}

static int open_parts(struct side *self, const struct bench_setup *setup, uint32_t file_flags,
                      struct bench_facts *out_facts) {
    int status;
    int code = sr_ring_create(NULL, &self->ring);

    if (code != 0) {
        return bench_complain(BENCH_MISSING, "safering: no ring here: %s", sr_strerror(code));
    }
    status = adopt_file(self, setup->fd, file_flags);
    if (status != BENCH_OK) {
        return status;
    }
    status = make_buffers(self);
    if (status != BENCH_OK) {
        return status;
    }
    return fill_facts(self, out_facts);
}

int read4k_open(const struct bench_setup *setup, uint32_t file_flags, void **out_side,
                struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    int status;

    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "safering: out of memory");
    }
    self->n = setup->n;
    self->file_seed = setup->file_seed;
    self->buffers = calloc(setup->n, sizeof(*self->buffers));
    if (self->buffers == NULL) {
        read4k_close(self);
        return bench_complain(BENCH_WRONG, "safering: out of memory");
    }
    status = open_parts(self, setup, file_flags, out_facts);
    if (status != BENCH_OK) {
        read4k_close(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

/* The pointer is asked for after each completion, as the rules of sr_buffer_data() demand: the one
 * from before the loan is no longer good. That check is part of the price. */
static int check_one(struct side *self, const struct bench_round *round, const uint32_t *blocks,
                     const sr_completion *completion, struct bench_work *work) {
    uint64_t i = completion->tag;
    void *data;
    int code;

    if (completion->result != BENCH_BLOCK_BYTES || i >= self->n) {
        return bench_complain(BENCH_WRONG, "safering: read gave %lld",
                              (long long)completion->result);
    }
    code =
        sr_buffer_data(self->pool, completion->buffer, 0, BENCH_BLOCK_BYTES, SR_ACCESS_READ, &data);
    if (code != 0) {
        return bench_complain(BENCH_WRONG, "safering: data: %s", sr_strerror(code));
    }
    if (!bench_check_block(data, self->file_seed, blocks[i], round->full, &work->checksum)) {
        return bench_complain(BENCH_WRONG, "safering: wrong bytes");
    }
    return BENCH_OK;
}

static int run_batch(struct side *self, const struct bench_round *round, sr_request *request,
                     const uint32_t *blocks, struct bench_work *work) {
    uint32_t done = 0;

    for (uint32_t i = 0; i < self->n; i++) {
        int code;

        request->buffer = self->buffers[i];
        request->offset = (uint64_t)blocks[i] * BENCH_BLOCK_BYTES;
        request->tag = i;
        code = sr_ring_submit(self->ring, request, NULL);
        if (code != 0) {
            return bench_complain(BENCH_WRONG, "safering: submit: %s", sr_strerror(code));
        }
    }
    while (done < self->n) {
        const sr_completion *completions;
        int count = sr_ring_wait(self->ring, self->n - done, SR_FOREVER, NULL, &completions);

        if (count < 0) {
            return bench_complain(BENCH_WRONG, "safering: wait: %s", sr_strerror(count));
        }
        for (int i = 0; i < count; i++) {
            int status = check_one(self, round, blocks, &completions[i], work);

            if (status != BENCH_OK) {
                return status;
            }
        }
        done += (uint32_t)count;
    }
    work->ops += done;
    return BENCH_OK;
}

int read4k_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    sr_request request = SR_REQUEST_INIT;

    request.op = SR_OP_READ;
    request.file = self->file;
    request.length = BENCH_BLOCK_BYTES;
    for (uint32_t i = 0; i < round->ops; i += self->n) {
        int status = run_batch(self, round, &request, round->blocks + i, out_work);

        if (status != BENCH_OK) {
            return status;
        }
    }
    return BENCH_OK;
}

uint64_t read4k_expect(const struct bench_setup *setup, const struct bench_round *round) {
    uint64_t sum = 0;

    for (uint32_t i = 0; i < round->ops; i++) {
        sum += bench_block_word(setup->file_seed, round->blocks[i], BENCH_BLOCK_WORDS - 1);
    }
    return sum;
}
