/* SPDX-License-Identifier: MIT */
/*
 * Pair: two ends of a doorbell, in one process or in two, over a sealed memfd of two pages. Each
 * end has its own page mapped writable and the other's read-only, so a write to what is not its own
 * ends the test. What travels is a number that goes up.
 */
#ifndef SAFERING_TESTS_SUPPORT_PAIR_H
#define SAFERING_TESTS_SUPPORT_PAIR_H

#include "ipc/wake.h"
#include <stdint.h>

struct pair_page {
    struct sri_wake_words wake;
    _Alignas(64) struct sri_spin_words spin;
    _Alignas(64) _Atomic uint64_t published;
};

struct pair_end {
    struct pair_page *own;
    const struct pair_page *peer;
    struct sri_waiter waiter;
    struct sri_waker waker;
    struct sri_spin_limit limit;
    struct sri_spin spin; /* pass it, or NULL, to pair_wait() */
    uint64_t published;
    uint64_t taken;
    bool is_mapped;
};

/* Returns owned: a descriptor. */
int pair_memory(void);

/* @side: 0 or 1. @cpus: for the limit; with 1 it never spins. The calling thread is counted in it.
 */
void pair_open(struct pair_end *end, int memory, int side, uint32_t cpus);
/* @kind of this end's waiter; @eventfd: of the other end's, -1 if that sleeps in a futex. */
void pair_open_as(struct pair_end *end, int memory, int side, uint32_t cpus,
                  enum sri_wake_kind kind, int eventfd);
/* In @pages, zeroed, that both ends see at the same address: ThreadSanitizer takes what lies at two
 * addresses for two things, and would not see that one end's stores order the other's loads. */
void pair_open_in(struct pair_end *end, struct pair_page *pages, int side, uint32_t cpus,
                  enum sri_wake_kind kind, int eventfd);
void pair_close(struct pair_end *end);

/* Whether the other end has published what this one has not taken. @ctx: a struct pair_end. */
bool pair_has_work(void *ctx);
struct sri_wake_condition pair_condition(struct pair_end *end);

/* One more, and the doorbell. */
void pair_publish(struct pair_end *end);
/* Waits for more, and takes all of it. */
enum sri_wake_outcome pair_wait(struct pair_end *end, struct sri_spin *spin, uint64_t deadline_ns);

#endif
