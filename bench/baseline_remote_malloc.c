/* SPDX-License-Identifier: MIT */
/* malloc in one thread, free in another: what buffers that change hands cost without a pool. One
 * row times the one, the other the other. */
#include "baseline.h"
#include "work.h"
#include <stdlib.h>

struct side {
    void **blocks;
    void *top; /* see fill_heap() */
    uint32_t n;
    size_t size_bytes;
    struct bench_partner *partner;
    uint64_t tag; /* of the first block of the batch */
    uint64_t malloc_ns;
    uint64_t free_ns;
    uint64_t checksum;
};

/* As in a program that has run for a while: there is room for a batch in the heap, and something in
 * use behind it. Else glibc gives the memory of each batch back to the kernel and asks for it
 * again, which is some 14 us for a block. */
static void fill_heap(struct side *self) {
    for (uint32_t i = 0; i < self->n; i++) {
        self->blocks[i] = malloc(self->size_bytes);
    }
    self->top = malloc(self->size_bytes);
    for (uint32_t i = 0; i < self->n; i++) {
        free(self->blocks[i]);
    }
}

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    struct side *self = calloc(1, sizeof(*self));
    int status;

    (void)out_facts; /* no ring */
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "malloc: out of memory");
    }
    self->n = setup->n;
    self->size_bytes = setup->size;
    self->blocks = calloc(setup->n, sizeof(*self->blocks));
    status = self->blocks != NULL ? bench_partner_open(&self->partner)
                                  : bench_complain(BENCH_WRONG, "malloc: out of memory");
    if (status != BENCH_OK) {
        free(self->blocks);
        free(self);
        return status;
    }
    fill_heap(self);
    *out_side = self;
    return BENCH_OK;
}

static void side_close(void *side) {
    struct side *self = side;

    bench_partner_close(self->partner);
    free(self->top);
    free(self->blocks);
    free(self);
}

static int free_there(void *argument) {
    struct side *self = argument;
    uint64_t begin;

    for (uint32_t i = 0; i < self->n; i++) {
        uint64_t number;

        memcpy(&number, self->blocks[i], sizeof(number));
        if (number != self->tag + i) {
            return bench_complain(BENCH_WRONG, "malloc: wrong bytes");
        }
        self->checksum += number;
    }
    begin = bench_now_ns();
    for (uint32_t i = 0; i < self->n; i++) {
        free(self->blocks[i]);
    }
    self->free_ns += bench_now_ns() - begin;
    return BENCH_OK;
}

static int run_batch(struct side *self) {
    uint64_t begin = bench_now_ns();

    for (uint32_t i = 0; i < self->n; i++) {
        self->blocks[i] = malloc(self->size_bytes);
        if (self->blocks[i] == NULL) {
            return bench_complain(BENCH_WRONG, "malloc: out of memory");
        }
    }
    self->malloc_ns += bench_now_ns() - begin;
    for (uint32_t i = 0; i < self->n; i++) {
        uint64_t number = self->tag + i;

        memcpy(self->blocks[i], &number, sizeof(number));
    }
    bench_partner_begin(self->partner, free_there, self);
    return bench_partner_wait(self->partner);
}

static int run_all(struct side *self, const struct bench_round *round,
                   struct bench_work *out_work) {
    self->malloc_ns = 0;
    self->free_ns = 0;
    self->checksum = 0;
    for (uint32_t i = 0; i < round->ops; i += self->n) {
        int status;

        self->tag = round->base + i;
        status = run_batch(self);
        if (status != BENCH_OK) {
            return status;
        }
        out_work->ops += self->n;
    }
    out_work->checksum = self->checksum;
    return BENCH_OK;
}

static int run_free(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    int status = run_all(self, round, out_work);

    out_work->ns = self->free_ns;
    return status;
}

static int run_malloc(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    int status = run_all(self, round, out_work);

    out_work->ns = self->malloc_ns;
    return status;
}

const struct bench_side bench_baseline_remote_free = {"free", side_open, run_free, side_close, 1};
const struct bench_side bench_baseline_remote_malloc = {"malloc", side_open, run_malloc, side_close,
                                                        1};
