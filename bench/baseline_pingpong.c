/* SPDX-License-Identifier: MIT */
/*
 * A message to and fro between two threads by shared memory: it is copied in, copied out and in
 * again at the other side, and copied out. Both spin, or both sleep in a futex.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline.h"
#include "ipc.h"
#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Not so long that a test hangs, long enough on any machine: the other thread is lost. */
#define PATIENCE_S 60

/* One direction; the bytes follow, on lines of their own. */
struct place {
    _Alignas(64) _Atomic uint32_t number;
    _Alignas(64) unsigned char bytes[];
};

struct side {
    struct place *places[2]; /* shared memory: 0 is read here, 1 is read there */
    size_t place_bytes;
    bool sleeps;
    uint32_t size;
    uint32_t sent[2];
    unsigned char *here;
    unsigned char *there;
    struct bench_partner *partner;
    const struct bench_round *round;
};

static void side_close(void *side) {
    struct side *self = side;

    bench_partner_close(self->partner);
    for (int i = 0; i < 2; i++) {
        if (self->places[i] != NULL) {
            munmap(self->places[i], self->place_bytes);
        }
    }
    free(self->here);
    free(self->there);
    free(self);
}

static int open_memory(struct side *self) {
    for (int i = 0; i < 2; i++) {
        void *place = mmap(NULL, self->place_bytes, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

        if (place == MAP_FAILED) {
            return bench_complain(BENCH_WRONG, "pingpong: out of memory");
        }
        self->places[i] = place;
    }
    self->here = calloc(1, self->size + 1u);
    self->there = calloc(1, self->size + 1u);
    if (self->here == NULL || self->there == NULL) {
        return bench_complain(BENCH_WRONG, "pingpong: out of memory");
    }
    return bench_partner_open(&self->partner);
}

static int side_open(const struct bench_setup *setup, bool sleeps, void **out_side) {
    struct side *self = calloc(1, sizeof(*self));
    int status;

    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "pingpong: out of memory");
    }
    self->size = setup->size;
    self->place_bytes = sizeof(struct place) + setup->size;
    self->sleeps = sleeps;
    status = open_memory(self);
    if (status != BENCH_OK) {
        side_close(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

static int open_spinning(const struct bench_setup *setup, void **out_side,
                         struct bench_facts *out_facts) {
    (void)out_facts;
    return side_open(setup, false, out_side);
}

static int open_sleeping(const struct bench_setup *setup, void **out_side,
                         struct bench_facts *out_facts) {
    (void)out_facts;
    return side_open(setup, true, out_side);
}

static long futex(_Atomic uint32_t *word, int operation, uint32_t value) {
    const struct timespec patience = {PATIENCE_S, 0};

    return syscall(SYS_futex, word, operation, value, operation == FUTEX_WAIT ? &patience : NULL,
                   NULL, 0);
}

static void send_to(struct side *self, int which, const void *bytes) {
    struct place *place = self->places[which];

    memcpy(place->bytes, bytes, self->size);
    atomic_store_explicit(&place->number, ++self->sent[which], memory_order_release);
    if (self->sleeps) {
        (void)futex(&place->number, FUTEX_WAKE, 1); /* a mapped word: cannot fail */
    }
}

static int take_from(struct side *self, int which, uint32_t number, void *bytes) {
    struct place *place = self->places[which];

    while (atomic_load_explicit(&place->number, memory_order_acquire) != number) {
        if (!self->sleeps) {
#if defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
#endif
        } else if (futex(&place->number, FUTEX_WAIT, number - 1) != 0 && errno != EAGAIN &&
                   errno != EINTR) {
            return bench_complain(BENCH_WRONG, "pingpong: futex: %s", strerror(errno));
        }
    }
    memcpy(bytes, place->bytes, self->size);
    return BENCH_OK;
}

static int run_there(void *argument) {
    struct side *self = argument;
    uint32_t number = self->sent[0];

    for (uint32_t i = 0; i < self->round->ops; i++) {
        const int status = take_from(self, 1, ++number, self->there);

        if (status != BENCH_OK) {
            return status;
        }
        send_to(self, 0, self->there);
    }
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    uint32_t number = self->sent[1];

    self->round = round;
    bench_partner_begin(self->partner, run_there, self);
    for (uint32_t i = 0; i < round->ops; i++) {
        int status;

        bench_ipc_fill(self->here, self->size, round->base + i);
        send_to(self, 1, self->here);
        status = take_from(self, 0, ++number, self->here);
        if (status != BENCH_OK) {
            return status;
        }
        out_work->checksum += bench_ipc_value(self->here, self->size);
        out_work->ops++;
    }
    return bench_partner_wait(self->partner);
}

const struct bench_side bench_baseline_pingpong_spin = {"spin", open_spinning, side_run, side_close,
                                                        1};
const struct bench_side bench_baseline_pingpong_futex = {"futex", open_sleeping, side_run,
                                                         side_close, 1};
