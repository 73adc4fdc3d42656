/* SPDX-License-Identifier: MIT */
/* What the ways of copying files by liburing have in common. */
#ifndef BENCH_BASELINE_COPY_H
#define BENCH_BASELINE_COPY_H

#include "baseline_ring.h"

struct copy_ring {
    struct io_uring ring;
    const struct bench_tree *tree;
    unsigned char *memory; /* registered; a file's worth for each in flight */
    size_t memory_bytes;
    uint32_t n; /* files in flight */
};

/* A ring with registered buffers. */
int copy_ring_open(struct copy_ring *self, const struct bench_setup *setup,
                   struct bench_facts *out_facts);
void copy_ring_close(struct copy_ring *self);

static inline unsigned char *copy_ring_buffer(const struct copy_ring *self, uint32_t lane) {
    return self->memory + (size_t)lane * BENCH_TREE_FILE_BYTES;
}

#endif
