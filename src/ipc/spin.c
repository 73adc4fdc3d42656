/* SPDX-License-Identifier: MIT */
#include "ipc/spin.h"

#include "core/check.h"

/* A sample counts an eighth. One that says only "far too long" (an idle second between two calls)
 * is cut, so that a few of them in a row are needed to turn spinning off, and a few short ones to
 * turn it on again. */
#define SAMPLE_MOST_NS (2 * SRI_SPIN_MOST_NS)
#define SAMPLE_WEIGHT  8
/* How much longer than twice the others waits may take that spin: room for one or two idle seconds.
 */
#define MARGIN_NS 50000

static uint32_t load(const _Atomic uint32_t *word) {
    return atomic_load_explicit(word, memory_order_relaxed);
}

static void store(_Atomic uint32_t *word, uint32_t value) {
    atomic_store_explicit(word, value, memory_order_relaxed);
}

/* ---- the budget -------------------------------------------------------------------------------
 */

void sri_spin_init(struct sri_spin *spin) {
    atomic_init(&spin->spun_ns, (uint32_t)SRI_SPIN_FIRST_NS);
    atomic_init(&spin->slept_ns, (uint32_t)SRI_SPIN_SLEPT_NS);
    atomic_init(&spin->turns, 0);
    atomic_init(&spin->trial_every, SRI_SPIN_TRIAL_FIRST);
}

static bool pays(uint64_t spun_ns, uint64_t slept_ns) {
    return spun_ns <= SRI_SPIN_MOST_NS && spun_ns <= 2 * slept_ns + MARGIN_NS;
}

static uint64_t budget_of(uint64_t average_ns) {
    const uint64_t twice_ns = 2 * average_ns;
    return twice_ns < SRI_SPIN_LEAST_NS  ? SRI_SPIN_LEAST_NS
           : twice_ns > SRI_SPIN_MOST_NS ? SRI_SPIN_MOST_NS
                                         : twice_ns;
}

/* It pays: goes on, but looks now and then whether the other way would be as good. */
static uint64_t go_on(struct sri_spin *spin, uint64_t spun_ns) {
    const uint32_t turns = load(&spin->turns) + 1;
    if (spun_ns <= SRI_SPIN_SLEEP_NS && load(&spin->trial_every) == SRI_SPIN_TRIAL_FIRST) {
        return budget_of(spun_ns); /* the hot case: the line stays clean */
    }
    store(&spin->turns, turns);
    if (turns >= load(&spin->trial_every)) {
        store(&spin->trial_every, SRI_SPIN_TRIAL_FIRST); /* it has lasted */
    }
    const bool sleeps = spun_ns > SRI_SPIN_SLEEP_NS && turns % SRI_SPIN_SLEEP_EVERY == 0;
    return sleeps ? 0 : budget_of(spun_ns);
}

/* It does not pay: waits, then begins anew with what a sleeping wait takes. A trial that is worse
 * than that soon shows it. */
static uint64_t try_again(struct sri_spin *spin, uint64_t slept_ns) {
    const uint32_t turns = load(&spin->turns) + 1;
    const uint32_t every = load(&spin->trial_every);
    if (turns < every) {
        store(&spin->turns, turns);
        return 0;
    }
    const uint64_t begin_ns = slept_ns < SRI_SPIN_MOST_NS ? slept_ns : SRI_SPIN_MOST_NS;
    store(&spin->turns, 0);
    store(&spin->trial_every, every < SRI_SPIN_TRIAL_LAST ? 2 * every : SRI_SPIN_TRIAL_LAST);
    store(&spin->spun_ns, (uint32_t)begin_ns);
    return budget_of(begin_ns);
}

uint64_t sri_spin_budget_ns(struct sri_spin *spin) {
    const uint64_t spun_ns = load(&spin->spun_ns);
    const uint64_t slept_ns = load(&spin->slept_ns);
    return pays(spun_ns, slept_ns) ? go_on(spin, spun_ns) : try_again(spin, slept_ns);
}

static uint32_t averaged(uint32_t average_ns, uint64_t waited_ns) {
    const int64_t sample_ns = (int64_t)(waited_ns < SAMPLE_MOST_NS ? waited_ns : SAMPLE_MOST_NS);
    return (uint32_t)(average_ns + (sample_ns - average_ns) / SAMPLE_WEIGHT);
}

void sri_spin_learn(struct sri_spin *spin, uint64_t waited_ns, bool has_spun) {
    _Atomic uint32_t *average = has_spun ? &spin->spun_ns : &spin->slept_ns;
    const uint32_t before_ns = load(average);
    const uint32_t after_ns = averaged(before_ns, waited_ns);
    if (after_ns == before_ns) {
        return; /* the hot case again */
    }
    const bool paid = pays(load(&spin->spun_ns), load(&spin->slept_ns));
    store(average, after_ns);
    if (pays(load(&spin->spun_ns), load(&spin->slept_ns)) != paid) {
        store(&spin->turns, 0);
    }
}

/* ---- the limit --------------------------------------------------------------------------------
 */

void sri_spin_limit_init(struct sri_spin_limit *limit, struct sri_spin_words *own,
                         const struct sri_spin_words *peer, uint32_t cpus) {
    limit->own = own;
    limit->peer = peer;
    atomic_init(&limit->awake_count, 0);
    atomic_init(&limit->cpus, cpus);
}

void sri_spin_limit_set_cpus(struct sri_spin_limit *limit, uint32_t cpus) {
    store(&limit->cpus, cpus);
    /* 0 would say nothing; with one CPU nobody spins, which is what is meant. */
    store(&limit->own->cpus, cpus > 0 ? cpus : 1);
}

void sri_spin_limit_enter(struct sri_spin_limit *limit) {
    const uint32_t before = atomic_fetch_add(&limit->awake_count, 1);
    SR_CHECK(before < UINT32_MAX);
    atomic_fetch_add(&limit->own->awake_count, 1);
}

void sri_spin_limit_leave(struct sri_spin_limit *limit) {
    const uint32_t before = atomic_fetch_sub(&limit->awake_count, 1);
    SR_CHECK(before > 0);
    atomic_fetch_sub(&limit->own->awake_count, 1);
}

bool sri_spin_limit_allows(const struct sri_spin_limit *limit) {
    const uint32_t cpus_here = load(&limit->cpus);
    const uint32_t cpus_there = load(&limit->peer->cpus);
    const uint32_t cpus = cpus_there != 0 && cpus_there < cpus_here ? cpus_there : cpus_here;
    if (cpus < 2) {
        return false;
    }
    /* The peer's count is whatever it wrote; the sum of two such words does not overflow. */
    const uint64_t awake_count =
        (uint64_t)atomic_load(&limit->awake_count) + atomic_load(&limit->peer->awake_count);
    return awake_count <= cpus;
}
