/* SPDX-License-Identifier: MIT */
/*
 * Spin: for how long a thread that waits for the other process looks again and again before it goes
 * to sleep, and whether it may. A sleep and a wake-up cost 5 us on one CPU and 25 to 50 us across
 * two; a look costs nothing but the CPU. Two things decide.
 *
 * The budget (struct sri_spin) is learned, one for each method or whatever else is waited for, from
 * two moving averages: how long waits took that began by spinning, and how long those took that did
 * not. Sleeps are in both. Twice the first is the budget, from 10 us to 200 us: less than 10 makes
 * a pair bistable, both sides sleep because the other one does. Spinning does not pay, and the
 * budget is 0, when waits that spin take more than 200 us, or much longer than those that do not:
 * then somebody else has the CPU that the peer needs, and a sleep would give it ours. Each way is
 * tried now and then while the other one is in use, so that what was true once does not stay true
 * for ever.
 *
 * The limit (struct sri_spin_limit) counts threads that are awake, on both sides of a pair of
 * processes: each side counts its own in a word that it alone writes, and reads the other's. A
 * thread is counted from sri_spin_limit_enter() to _leave(), but for when it sleeps. Only while the
 * sum is within the CPUs may anybody spin: beyond it a spinning thread keeps from running the one
 * that it waits for (measured: 309 us a call instead of 20).
 *   Promise: never more threads spin than there are CPUs, with an honest peer. A thread counts
 * itself first and looks at the sum then, both in the one order of all sequentially consistent
 * steps; so whoever comes after the CPUs are used up sees it. Those who spin already see it when
 * they next look at the clock, and go to sleep.
 *   The host decides: it publishes how many CPUs the pair may count on, fewer where it has several
 * workers, and the worker takes the lesser of that and its own count.
 *   A peer that lies can make the other side sleep at once instead of spinning, or spin as if it
 * were alone, for no longer than the budget and by no more threads than the CPUs. Slower, nothing
 * else.
 *
 * Neighbours: src/ipc/wake.c waits by these rules; src/sys/cpus.c counts the CPUs.
 */
#ifndef SAFERING_IPC_SPIN_H
#define SAFERING_IPC_SPIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SRI_SPIN_LEAST_NS UINT64_C(10000)
#define SRI_SPIN_MOST_NS  UINT64_C(200000)
/* What is expected of what was never waited for, with and without spinning. */
#define SRI_SPIN_FIRST_NS UINT64_C(25000)
#define SRI_SPIN_SLEPT_NS UINT64_C(50000)
/* While spinning does not pay, this many waits pass until it is tried again; twice as many after
 * each trial that did not last as long as the pause before it. */
#define SRI_SPIN_TRIAL_FIRST 8u
#define SRI_SPIN_TRIAL_LAST  4096u
/* While it pays, but waits take so long that a sleep might be as good, one in so many waits sleeps.
 */
#define SRI_SPIN_SLEEP_NS    UINT64_C(20000)
#define SRI_SPIN_SLEEP_EVERY 64u

/* Private memory of the waiting side. Several threads may share one: they may lose each other's
 * sample, and that is all. */
struct sri_spin {
    _Atomic uint32_t spun_ns;  /* average of waits that spun */
    _Atomic uint32_t slept_ns; /* and of those that went to sleep at once */
    _Atomic uint32_t turns;    /* waits since the way was changed */
    _Atomic uint32_t trial_every;
};

void sri_spin_init(struct sri_spin *spin);
/* For how long the wait that begins now should look; 0: not at all. */
uint64_t sri_spin_budget_ns(struct sri_spin *spin);
/* A wait took @waited_ns, from its beginning to what it had waited for. @has_spun: it began by
 * looking again and again, however it ended. */
void sri_spin_learn(struct sri_spin *spin, uint64_t waited_ns, bool has_spun);

/* One side's part of the limit, in memory that this side alone writes. Zeroed to begin with. */
struct sri_spin_words {
    _Atomic uint32_t awake_count; /* threads */
    _Atomic uint32_t cpus;        /* the host's: what the pair may count on; 0: it says nothing */
};

struct sri_spin_limit {
    struct sri_spin_words *own;
    const struct sri_spin_words *peer;
    _Atomic uint32_t awake_count; /* what is believed here; the words are for the peer to read */
    _Atomic uint32_t cpus;        /* what this side counts on, by itself */
};

/* @own and @peer: lends until nobody uses the limit any more. @cpus: of sri_cpus_usable(). */
void sri_spin_limit_init(struct sri_spin_limit *limit, struct sri_spin_words *own,
                         const struct sri_spin_words *peer, uint32_t cpus);
/* The host changes, at any time, what the pair may count on; 0: nobody spins. */
void sri_spin_limit_set_cpus(struct sri_spin_limit *limit, uint32_t cpus);

/* The calling thread begins, or goes on after a sleep; it ends, or goes to sleep. */
void sri_spin_limit_enter(struct sri_spin_limit *limit);
void sri_spin_limit_leave(struct sri_spin_limit *limit);

/* Whether a thread that is counted may spin now. With a single CPU: never. */
bool sri_spin_limit_allows(const struct sri_spin_limit *limit);

/* Tells the CPU that this is a loop of looks: it saves power, and leaves its other half alone. */
static inline void sri_spin_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory"); /* as long as an x86 pause; yield is a nop on most */
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

#endif
