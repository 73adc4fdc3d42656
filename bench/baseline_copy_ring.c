/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline_copy.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

void copy_ring_close(struct copy_ring *self) {
    io_uring_queue_exit(&self->ring);
    munmap(self->memory, self->memory_bytes);
}

int copy_ring_open(struct copy_ring *self, const struct bench_setup *setup,
                   struct bench_facts *out_facts) {
    struct iovec whole;
    int status;
    int code;

    self->n = setup->n;
    self->tree = setup->tree;
    self->memory_bytes = (size_t)setup->n * BENCH_TREE_FILE_BYTES;
    self->memory =
        mmap(NULL, self->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (self->memory == MAP_FAILED) {
        return bench_complain(BENCH_WRONG, "liburing: buffers: %s", strerror(errno));
    }
    status = baseline_ring_open(&self->ring, out_facts);
    if (status != BENCH_OK) {
        munmap(self->memory, self->memory_bytes);
        return status;
    }
    whole = (struct iovec){self->memory, self->memory_bytes};
    code = io_uring_register_buffers(&self->ring, &whole, 1);
    if (code != 0) {
        copy_ring_close(self);
        return bench_complain(BENCH_MISSING, "liburing: registering buffers: %s", strerror(-code));
    }
    out_facts->buffers_registered = true;
    return BENCH_OK;
}
