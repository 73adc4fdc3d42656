/* SPDX-License-Identifier: MIT */
/*
 * A number to and fro between two threads by shared memory and nothing else: both spin, or both
 * sleep in a futex and wake each other every time. The least that each can cost.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline.h"
#include "rally.h"
#include "work.h"
#include <errno.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct side {
    struct rally_place *places; /* shared memory: 0 is read here, 1 is read there */
    bool sleeps;
    uint32_t sent[2];
    struct bench_partner *partner;
    const struct bench_round *round;
};

static void side_close(void *side) {
    struct side *self = side;

    bench_partner_close(self->partner);
    if (self->places != NULL) {
        munmap(self->places, 2 * sizeof(*self->places));
    }
    free(self);
}

static int side_open(bool sleeps, void **out_side) {
    struct side *self = calloc(1, sizeof(*self));
    void *places = mmap(NULL, 2 * sizeof(struct rally_place), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;

    if (self == NULL || places == MAP_FAILED) {
        return bench_complain(BENCH_WRONG, "rally: out of memory");
    }
    self->places = places;
    self->sleeps = sleeps;
    status = bench_partner_open(&self->partner);
    if (status != BENCH_OK) {
        side_close(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

static int open_spinning(const struct bench_setup *setup, void **out_side,
                         struct bench_facts *out_facts) {
    (void)setup;
    (void)out_facts;
    return side_open(false, out_side);
}

static int open_sleeping(const struct bench_setup *setup, void **out_side,
                         struct bench_facts *out_facts) {
    (void)setup;
    (void)out_facts;
    return side_open(true, out_side);
}

static long futex(_Atomic uint32_t *word, int operation, uint32_t value) {
    const struct timespec patience = {(time_t)(RALLY_PATIENCE_NS / 1000000000u), 0};

    return syscall(SYS_futex, word, operation, value, operation == FUTEX_WAIT ? &patience : NULL,
                   NULL, 0);
}

static void send_to(struct side *self, int which, uint64_t value) {
    struct rally_place *place = &self->places[which];

    place->value = value;
    atomic_store_explicit(&place->number, ++self->sent[which], memory_order_release);
    if (self->sleeps) {
        (void)futex(&place->number, FUTEX_WAKE, 1); /* a mapped word: cannot fail */
    }
}

/* The number of the message that is waited for is @number. */
static int take_from(struct side *self, int which, uint32_t number, uint64_t *out_value) {
    struct rally_place *place = &self->places[which];

    while (atomic_load_explicit(&place->number, memory_order_acquire) != number) {
        if (!self->sleeps) {
#if defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
#endif
        } else if (futex(&place->number, FUTEX_WAIT, number - 1) != 0 && errno != EAGAIN &&
                   errno != EINTR) {
            return bench_complain(BENCH_WRONG, "rally: futex: %s", strerror(errno));
        }
    }
    *out_value = place->value;
    return BENCH_OK;
}

/* Answers each message with the next value. */
static int run_there(void *argument) {
    struct side *self = argument;
    uint32_t number = self->sent[0];

    for (uint32_t i = 0; i < self->round->ops; i += 2) {
        uint64_t value = 0;
        int status = take_from(self, 1, ++number, &value);

        if (status != BENCH_OK) {
            return status;
        }
        send_to(self, 0, value + 1);
    }
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    uint32_t number = self->sent[1];

    self->round = round;
    bench_partner_begin(self->partner, run_there, self);
    for (uint32_t i = 0; i < round->ops; i += 2) {
        uint64_t value = 0;
        int status;

        send_to(self, 1, bench_hop_value(round, i));
        status = take_from(self, 0, ++number, &value);
        if (status != BENCH_OK) {
            return status;
        }
        out_work->checksum += value;
        out_work->ops += 2;
    }
    return bench_partner_wait(self->partner);
}

const struct bench_side bench_baseline_rally_spin = {"spin", open_spinning, side_run, side_close,
                                                     1};
const struct bench_side bench_baseline_rally_futex = {"futex", open_sleeping, side_run, side_close,
                                                      1};
