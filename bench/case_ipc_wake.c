/* SPDX-License-Identifier: MIT */
/*
 * ipc.wake_hot, ipc.wake_cold: a number to and fro between two threads through the doorbell of
 * src/ipc/wake.h, by sides that spin as they have learned to, and by sides that never do. One way
 * is an operation. The doorbell is no public call, so this takes it from the static library.
 */
#include "baseline.h"
#include "ipc/wake.h"
#include "rally.h"
#include "work.h"
#include <stdlib.h>
#include <sys/mman.h>

/* What one end writes. */
struct page {
    struct sri_wake_words wake;
    _Alignas(64) struct sri_spin_words spin;
    struct rally_place place;
};

struct end {
    struct page *own;
    struct page *peer;
    struct sri_waiter waiter;
    struct sri_waker waker;
    struct sri_spin_limit limit;
    struct sri_spin budget;
    struct sri_spin *spin; /* NULL: it sleeps at once */
    uint32_t sent;
    uint32_t taken;
};

struct side {
    struct end here;
    struct end there;
    struct page *pages; /* shared memory */
    struct bench_partner *partner;
    const struct bench_round *round;
};

static void end_open(struct end *self, struct page *own, struct page *peer, bool spins) {
    self->own = own;
    self->peer = peer;
    sri_spin_init(&self->budget);
    self->spin = spins ? &self->budget : NULL;
    sri_spin_limit_init(&self->limit, &own->spin, &peer->spin, bench_cpus());
    sri_spin_limit_enter(&self->limit);
    sri_waiter_init(&self->waiter, SRI_WAKE_FUTEX, &own->wake, &peer->wake, &self->limit);
    sri_waker_init(&self->waker, &own->wake, &peer->wake, -1);
}

static void side_close(void *side) {
    struct side *self = side;

    bench_partner_close(self->partner);
    if (self->pages != NULL) {
        munmap(self->pages, 2 * sizeof(*self->pages));
    }
    free(self);
}

static int side_open(bool spins, void **out_side) {
    struct side *self = aligned_alloc(64, (sizeof(*self) + 63) / 64 * 64);
    void *pages = mmap(NULL, 2 * sizeof(struct page), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;

    if (self == NULL || pages == MAP_FAILED) {
        return bench_complain(BENCH_WRONG, "safering: out of memory");
    }
    memset(self, 0, sizeof(*self));
    self->pages = pages;
    end_open(&self->here, &self->pages[0], &self->pages[1], spins);
    end_open(&self->there, &self->pages[1], &self->pages[0], spins);
    status = bench_partner_open(&self->partner);
    if (status != BENCH_OK) {
        side_close(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

static int open_hot(const struct bench_setup *setup, void **out_side,
                    struct bench_facts *out_facts) {
    (void)setup;
    (void)out_facts;
    return side_open(true, out_side);
}

static int open_cold(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    (void)setup;
    (void)out_facts;
    return side_open(false, out_side);
}

static bool is_there(void *ctx) {
    const struct end *self = ctx;

    return atomic_load_explicit(&self->peer->place.number, memory_order_acquire) != self->taken;
}

static void send_value(struct end *self, uint64_t value) {
    self->own->place.value = value;
    atomic_store_explicit(&self->own->place.number, ++self->sent, memory_order_release);
    sri_wake_ring(&self->waker);
}

static int take_value(struct end *self, uint64_t *out_value) {
    const struct sri_wake_condition condition = {is_there, self};
    enum sri_wake_outcome outcome =
        sri_wake_wait(&self->waiter, &condition, self->spin, SRI_WAKE_FOREVER);

    if (outcome != SRI_WAKE_WORK) {
        return bench_complain(BENCH_WRONG, "safering: the wait gave %d", (int)outcome);
    }
    *out_value = self->peer->place.value;
    self->taken++;
    return BENCH_OK;
}

/* Answers each message with the next value. */
static int run_there(void *argument) {
    struct side *self = argument;

    for (uint32_t i = 0; i < self->round->ops; i += 2) {
        uint64_t value = 0;
        int status = take_value(&self->there, &value);

        if (status != BENCH_OK) {
            return status;
        }
        send_value(&self->there, value + 1);
    }
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;

    self->round = round;
    bench_partner_begin(self->partner, run_there, self);
    for (uint32_t i = 0; i < round->ops; i += 2) {
        uint64_t value = 0;
        int status;

        send_value(&self->here, bench_hop_value(round, i));
        status = take_value(&self->here, &value);
        if (status != BENCH_OK) {
            return status;
        }
        out_work->checksum += value;
        out_work->ops += 2;
    }
    return bench_partner_wait(self->partner);
}

static uint64_t expect(const struct bench_setup *setup, const struct bench_round *round) {
    uint64_t sum = 0;

    (void)setup; /* values depend on the round alone */
    for (uint32_t i = 1; i < round->ops; i += 2) {
        sum += bench_hop_value(round, i);
    }
    return sum;
}

static const struct bench_side ours_hot = {"safering", open_hot, side_run, side_close, 1};
static const struct bench_side ours_cold = {"safering", open_cold, side_run, side_close, 1};

const struct bench_case bench_case_ipc_wake_hot = {
    .name = "ipc.wake_hot",
    .question = "a number to another thread that spins for it, one way, against bare spinning",
    .round_ops = 4096,
    .round_unit = 2,
    .cpus = 2,
    .ours = &ours_hot,
    .baseline = &bench_baseline_rally_spin,
    .expect = expect,
};

const struct bench_case bench_case_ipc_wake_cold = {
    .name = "ipc.wake_cold",
    .question = "a number to another thread that sleeps, one way, against a bare futex",
    .round_ops = 512,
    .round_unit = 2,
    .cpus = 2,
    .ours = &ours_cold,
    .baseline = &bench_baseline_rally_futex,
    .expect = expect,
};
