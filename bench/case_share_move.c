/* SPDX-License-Identifier: MIT */
/* share.move: a ring with files in fixed slots and a registered pool is released and adopted. */
#include "baseline.h"
#include "move.h"
#include <fcntl.h>
#include <safering/safering.h>
#include <stdlib.h>
#include <unistd.h>

struct side {
    sr_ring *ring;
    sr_pool *pool;
};

static void side_close(void *side) {
    struct side *self = side;

    sr_ring_destroy(&self->ring); /* with its files */
    sr_pool_destroy(&self->pool);
    free(self);
}

static int equip(struct side *self) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    int code;

    options.buffer_size_bytes = MOVE_BUFFER_BYTES;
    options.buffer_count = MOVE_BUFFERS;
    code = sr_pool_create(NULL, &options, &self->pool);
    code = code < 0 ? code : sr_ring_create(NULL, &self->ring);
    code = code < 0 ? code : sr_ring_attach_pool(self->ring, self->pool);
    for (int i = 0; i < MOVE_FILES && code >= 0; i++) {
        sr_file file;

        code =
            sr_file_adopt(self->ring, open("/dev/null", O_RDWR | O_CLOEXEC), SR_FILE_FIXED, &file);
    }
    return code;
}

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    sr_ring_stats stats = SR_RING_STATS_INIT;
    int code;

    (void)setup;
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "safering: out of memory");
    }
    code = equip(self);
    code = code < 0 ? code : sr_ring_get_stats(self->ring, &stats);
    if (code < 0) {
        side_close(self);
        return bench_complain(BENCH_MISSING, "safering: no such ring here: %s", sr_strerror(code));
    }
    out_facts->ring = true;
    out_facts->setup_flags = stats.setup_flags;
    out_facts->ring_fd_registered = stats.ring_fd_registered != 0;
    out_facts->buffers_registered = stats.pools_registered == 1;
    out_facts->file_fixed = stats.fixed_files_used == MOVE_FILES;
    *out_side = self;
    return BENCH_OK;
}

static int nop(struct side *self, uint64_t tag, struct bench_work *work) {
    sr_request request = SR_REQUEST_INIT;
    const sr_completion *completions = NULL;
    int code;

    request.tag = tag;
    code = sr_ring_submit(self->ring, &request, NULL);
    code = code < 0 ? code : sr_ring_wait(self->ring, 1, SR_FOREVER, NULL, &completions);
    if (code != 1) {
        return bench_complain(BENCH_WRONG, "safering: the adopted ring does not work: %s",
                              sr_strerror(code));
    }
    work->checksum += completions[0].tag;
    work->ops++;
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    int code = BENCH_OK;

    for (uint32_t i = 0; i < round->ops && code == BENCH_OK; i++) {
        code = sr_ring_release(self->ring);
        code = code < 0 ? code : sr_ring_adopt(self->ring);
        code = code < 0 ? bench_complain(BENCH_WRONG, "safering: move: %s", sr_strerror(code))
                        : nop(self, round->base + i, out_work);
    }
    return code;
}

static uint64_t expect(const struct bench_setup *setup, const struct bench_round *round) {
    uint64_t sum = 0;

    (void)setup;
    for (uint32_t i = 0; i < round->ops; i++) {
        sum += round->base + i;
    }
    return sum;
}

static const struct bench_side ours = {"safering", side_open, side_run, side_close, 0};

const struct bench_case bench_case_share_move = {
    .name = "share.move",
    .question = "release, adopt and one NOP: 16 fixed files, 256 KiB of registered memory",
    .round_ops = 16,
    .same_setup = true,
    .ours = &ours,
    .baseline = &bench_baseline_move,
    .expect = expect,
};
