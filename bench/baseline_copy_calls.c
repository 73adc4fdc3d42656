/* SPDX-License-Identifier: MIT */
/* Copying files by plain system calls, one file after another. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct side {
    const struct bench_tree *tree;
    unsigned char bytes[BENCH_TREE_FILE_BYTES];
};

static void side_close(void *side) {
    free(side);
}

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));

    (void)out_facts; /* no ring */
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "calls: out of memory");
    }
    self->tree = setup->tree;
    *out_side = self;
    return BENCH_OK;
}

static bool transfer(struct side *self, int source, int target) {
    uint32_t read_bytes = 0;
    uint32_t written_bytes = 0;

    while (read_bytes < BENCH_TREE_FILE_BYTES) {
        ssize_t count = read(source, self->bytes + read_bytes, BENCH_TREE_FILE_BYTES - read_bytes);

        if (count <= 0) {
            return false;
        }
        read_bytes += (uint32_t)count;
    }
    while (written_bytes < read_bytes) {
        ssize_t count = write(target, self->bytes + written_bytes, read_bytes - written_bytes);

        if (count <= 0) {
            return false;
        }
        written_bytes += (uint32_t)count;
    }
    return true;
}

static bool copy(struct side *self, uint32_t file) {
    int source = open(bench_tree_source(self->tree, file), O_RDONLY | O_CLOEXEC);
    int target =
        open(bench_tree_target(self->tree, file), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = source >= 0 && target >= 0 && transfer(self, source, target);

    good = (source < 0 || close(source) == 0) && good;
    return (target < 0 || close(target) == 0) && good;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;

    for (uint32_t file = 0; file < round->ops; file++) {
        if (!copy(self, file)) {
            return bench_complain(BENCH_WRONG, "calls: copying a file: %s", strerror(errno));
        }
    }
    out_work->ops = round->ops;
    return BENCH_OK;
}

const struct bench_side bench_baseline_copy_calls = {"calls", side_open, side_run, side_close, 0};
