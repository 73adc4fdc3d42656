/* SPDX-License-Identifier: MIT */
#include "ipc/wake.h"

#include "sys/clock.h"
#include "sys/doorbell.h"
#include "sys/futex.h"

#include <errno.h>
#include <time.h>

/* Looks without a clock: a microsecond or two, in which a busy peer usually answers. Reading the
 * clock before them would double the price of a hot wait. */
#define GLANCE_LOOKS 64u
/* Looks between two readings of the clock, which cost as much as some of them. */
#define LOOKS_PER_CLOCK 32u
/* Between two readings of the clock: this thread was stopped, so somebody else has a use for the
 * CPU. */
#define STOPPED_NS 50000u
/* Between two tries to wake a thread that was seen about to sleep: longer than it needs to get
 * there, unless it was stopped. */
#define END_PAUSE_NS   50000
#define END_PAUSES_MAX 200000u

void sri_waiter_init(struct sri_waiter *waiter, enum sri_wake_kind kind, struct sri_wake_words *own,
                     const struct sri_wake_words *peer, struct sri_spin_limit *limit) {
    *waiter = (struct sri_waiter){
        .own = own,
        .peer = peer,
        .limit = limit,
        .kind = kind,
        .nap_is_new = true,
        .empty_row_max = SRI_WAKE_EMPTY_ROW_MAX,
        .nap_number = 1,
    };
    atomic_init(&waiter->nap, 0);
    atomic_init(&waiter->is_ended, 0);
}

void sri_waker_init(struct sri_waker *waker, struct sri_wake_words *own,
                    const struct sri_wake_words *peer, int eventfd) {
    *waker = (struct sri_waker){.own = own, .peer = peer, .eventfd = eventfd};
}

/* ---- the waker --------------------------------------------------------------------------------
 */

/* @nap is what the peer shows. An honest one shows no number again after it was woken for it. */
void sri_wake_ring_nap(struct sri_waker *waker, uint64_t nap) {
    if (nap == waker->nap_rung) {
        return; /* woken, but not awake enough to say so; or it has found the work by itself */
    }
    waker->nap_rung = nap;
    waker->calls++;
    if (waker->eventfd >= 0) {
        const int code = sri_doorbell_ring(waker->eventfd);
        SR_CHECK(code == 0);
        return;
    }
    waker->rings++;
    /* Release: a waiter that notes this number also sees the work for which it is rung. */
    atomic_store_explicit(&waker->own->rings, waker->rings, memory_order_release);
    const int woken = sri_futex_wake(&waker->own->rings, SRI_FUTEX_ALL);
    SR_CHECK(woken >= 0);
}

/* ---- naps -------------------------------------------------------------------------------------
 */

static uint64_t nap_of(const struct sri_waiter *waiter) {
    return atomic_load_explicit(&waiter->nap, memory_order_relaxed);
}

/* Only the waiting thread shows; sri_wake_end() reads it from another one. */
static void show(struct sri_waiter *waiter, uint64_t nap) {
    atomic_store_explicit(&waiter->nap, nap, memory_order_relaxed);
    atomic_store_explicit(&waiter->own->nap, nap, memory_order_relaxed);
}

/* After a sleep: whatever the waker has rung for, it has rung for. */
static void take_new_number(struct sri_waiter *waiter) {
    waiter->nap_number++;
    waiter->nap_is_new = true;
}

bool sri_wake_arm(struct sri_waiter *waiter, const struct sri_wake_condition *condition) {
    SR_CHECK(nap_of(waiter) == 0);
    if (waiter->nap_is_new) {
        /* Before the number is shown, and not again with the same number: a ring for it always
         * comes after this note. Acquire keeps the order. */
        waiter->rings_noted = atomic_load_explicit(&waiter->peer->rings, memory_order_acquire);
        waiter->nap_is_new = false;
    }
    show(waiter, waiter->nap_number);
    waiter->stats.naps++;
    /* Pairs with the fences in sri_wake_ring() and sri_wake_end(): who publishes or ends sees the
     * nap, or we see here what they did. */
    atomic_thread_fence(memory_order_seq_cst);
    if (sri_wake_is_ended(waiter) || condition->holds(condition->ctx)) {
        sri_wake_awake(waiter);
        return false;
    }
    return true;
}

/* Nothing needs to be ordered: whoever still sees the nap rings in vain. */
void sri_wake_awake(struct sri_waiter *waiter) {
    SR_CHECK(nap_of(waiter) != 0);
    show(waiter, 0);
}

void sri_wake_end(struct sri_waiter *waiter) {
    const struct timespec pause = {0, END_PAUSE_NS};
    atomic_store_explicit(&waiter->is_ended, 1, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst); /* pairs with the one in sri_wake_arm() */
    const uint64_t nap = nap_of(waiter);
    if (waiter->kind != SRI_WAKE_FUTEX || nap == 0) {
        return; /* the next look, or the next nap, finds it */
    }
    /* The word that it sleeps on is the peer's: it cannot be made to change from here, so a wake-up
     * that comes before the sleep is of no use. Hence again, until this nap is over. */
    for (uint32_t i = 0; i < END_PAUSES_MAX && nap_of(waiter) == nap; i++) {
        const int woken = sri_futex_wake(&waiter->peer->rings, SRI_FUTEX_ALL);
        SR_CHECK(woken >= 0);
        (void)nanosleep(&pause, NULL); /* a signal makes it shorter, which does no harm */
    }
}

/* ---- looking ----------------------------------------------------------------------------------
 */

/* The end comes first: a peer that always has work must not keep it from being seen. */
static enum sri_wake_outcome look_once(const struct sri_waiter *waiter,
                                       const struct sri_wake_condition *condition) {
    if (sri_wake_is_ended(waiter)) {
        return SRI_WAKE_ENDED;
    }
    return condition->holds(condition->ctx) ? SRI_WAKE_WORK : SRI_WAKE_NOT_YET;
}

static enum sri_wake_outcome look_often(const struct sri_waiter *waiter,
                                        const struct sri_wake_condition *condition,
                                        uint32_t looks) {
    enum sri_wake_outcome outcome = SRI_WAKE_NOT_YET;
    for (uint32_t i = 0; outcome == SRI_WAKE_NOT_YET && i < looks; i++) {
        sri_spin_pause();
        outcome = look_once(waiter, condition);
    }
    return outcome;
}

static bool may_spin(const struct sri_waiter *waiter) {
    return waiter->limit != NULL && sri_spin_limit_allows(waiter->limit);
}

/* Looks from @now_ns until @until_ns, as long as the limit allows and nobody else wants the CPU. */
static enum sri_wake_outcome look_until(const struct sri_waiter *waiter,
                                        const struct sri_wake_condition *condition, uint64_t now_ns,
                                        uint64_t until_ns) {
    enum sri_wake_outcome outcome = SRI_WAKE_NOT_YET;
    uint64_t before_ns = now_ns;
    while (outcome == SRI_WAKE_NOT_YET && now_ns < until_ns && now_ns - before_ns < STOPPED_NS &&
           may_spin(waiter)) {
        before_ns = now_ns;
        outcome = look_often(waiter, condition, LOOKS_PER_CLOCK);
        now_ns = outcome == SRI_WAKE_NOT_YET ? sri_clock_now_ns() : now_ns;
    }
    return outcome;
}

/* How a wait began. */
struct beginning {
    uint64_t began_ns; /* 0: a glance was enough, and no clock was read */
    bool has_spun;
};

/* What a wait taught. One that was broken off would have taken longer than this, so that it was
 * short says nothing. */
static void learn(struct sri_spin *spin, enum sri_wake_outcome outcome,
                  const struct beginning *beginning) {
    if (spin == NULL) {
        return;
    }
    const uint64_t waited_ns =
        beginning->began_ns != 0 ? sri_clock_now_ns() - beginning->began_ns : 0;
    if (outcome == SRI_WAKE_WORK || waited_ns >= SRI_SPIN_MOST_NS) {
        sri_spin_learn(spin, waited_ns, beginning->has_spun);
    }
}

/* One look, the glance, then the budget. */
static enum sri_wake_outcome begin(const struct sri_waiter *waiter,
                                   const struct sri_wake_condition *condition,
                                   struct sri_spin *spin, uint64_t deadline_ns,
                                   struct beginning *out_beginning) {
    enum sri_wake_outcome outcome = look_once(waiter, condition);
    *out_beginning = (struct beginning){.has_spun = true};
    if (outcome != SRI_WAKE_NOT_YET) {
        return outcome;
    }
    const bool spins = spin != NULL && may_spin(waiter);
    outcome = spins ? look_often(waiter, condition, GLANCE_LOOKS) : outcome;
    if (outcome != SRI_WAKE_NOT_YET) {
        return outcome;
    }
    const uint64_t now_ns = sri_clock_now_ns();
    const uint64_t until_ns = spins ? now_ns + sri_spin_budget_ns(spin) : now_ns;
    *out_beginning = (struct beginning){.began_ns = now_ns, .has_spun = until_ns > now_ns};
    return look_until(waiter, condition, now_ns, until_ns < deadline_ns ? until_ns : deadline_ns);
}

enum sri_wake_outcome sri_wake_look(struct sri_waiter *waiter,
                                    const struct sri_wake_condition *condition,
                                    struct sri_spin *spin, uint64_t deadline_ns) {
    struct beginning beginning;
    const enum sri_wake_outcome outcome = begin(waiter, condition, spin, deadline_ns, &beginning);
    if (outcome == SRI_WAKE_NOT_YET) {
        return SRI_WAKE_TIMEOUT;
    }
    learn(spin, outcome, &beginning);
    return outcome;
}

/* ---- sleeping ---------------------------------------------------------------------------------
 */

/* Sleeps in the nap that has been shown, and ends it. */
static int sleep_once(struct sri_waiter *waiter, uint64_t deadline_ns) {
    if (waiter->limit != NULL) {
        sri_spin_limit_leave(waiter->limit);
    }
    waiter->stats.sleeps++;
    const int code = sri_futex_wait(&waiter->peer->rings, waiter->rings_noted, deadline_ns);
    if (waiter->limit != NULL) {
        sri_spin_limit_enter(waiter->limit);
    }
    sri_wake_awake(waiter);
    take_new_number(waiter);
    return code;
}

static enum sri_wake_outcome count_empty(struct sri_waiter *waiter) {
    waiter->stats.empty_wakes++;
    waiter->empty_row++;
    return waiter->empty_row > waiter->empty_row_max ? SRI_WAKE_FLOOD : SRI_WAKE_NOT_YET;
}

/* After a sleep, or a refused one, without work. */
static enum sri_wake_outcome judge(struct sri_waiter *waiter, int code, uint64_t deadline_ns) {
    /* Anything else is a word that is not mapped, or a filter that denies to sleep. */
    SR_CHECK(code == 0 || code == -EAGAIN || code == -EINTR || code == -ETIMEDOUT);
    if (code == -ETIMEDOUT) {
        return SRI_WAKE_TIMEOUT;
    }
    if (code == -EINTR) {
        return SRI_WAKE_NOT_YET;
    }
    const enum sri_wake_outcome outcome = count_empty(waiter);
    /* -EAGAIN does not look at the time: a peer can turn its word faster than we get to sleep. */
    return outcome == SRI_WAKE_NOT_YET && sri_clock_now_ns() >= deadline_ns ? SRI_WAKE_TIMEOUT
                                                                            : outcome;
}

/* A condition that held when the nap was to begin and does not now is of a peer that takes back
 * what it published; it is counted like a wake-up without work. */
static enum sri_wake_outcome sleep_until(struct sri_waiter *waiter,
                                         const struct sri_wake_condition *condition,
                                         uint64_t deadline_ns) {
    enum sri_wake_outcome outcome = SRI_WAKE_NOT_YET;
    while (outcome == SRI_WAKE_NOT_YET) {
        const int code = sri_wake_arm(waiter, condition) ? sleep_once(waiter, deadline_ns) : 0;
        outcome = look_once(waiter, condition);
        outcome = outcome != SRI_WAKE_NOT_YET ? outcome : judge(waiter, code, deadline_ns);
    }
    return outcome;
}

enum sri_wake_outcome sri_wake_wait(struct sri_waiter *waiter,
                                    const struct sri_wake_condition *condition,
                                    struct sri_spin *spin, uint64_t deadline_ns) {
    struct beginning beginning;
    SR_CHECK(waiter->kind == SRI_WAKE_FUTEX);
    enum sri_wake_outcome outcome = begin(waiter, condition, spin, deadline_ns, &beginning);
    if (outcome == SRI_WAKE_NOT_YET) {
        outcome = deadline_ns > beginning.began_ns ? sleep_until(waiter, condition, deadline_ns)
                                                   : SRI_WAKE_TIMEOUT;
    }
    if (outcome == SRI_WAKE_WORK) {
        waiter->empty_row = 0;
    }
    learn(spin, outcome, &beginning);
    return outcome;
}

enum sri_wake_outcome sri_wake_rung(struct sri_waiter *waiter,
                                    const struct sri_wake_condition *condition) {
    SR_CHECK(waiter->kind == SRI_WAKE_EVENTFD && nap_of(waiter) == 0);
    take_new_number(waiter);
    const enum sri_wake_outcome outcome = look_once(waiter, condition);
    if (outcome == SRI_WAKE_NOT_YET) {
        return count_empty(waiter);
    }
    waiter->empty_row = 0;
    return outcome;
}
