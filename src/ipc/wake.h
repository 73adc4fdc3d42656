/* SPDX-License-Identifier: MIT */
/*
 * Wake: how one side of a pair of processes sleeps until the other one has something for it, and
 * how the other one knows whether a system call is needed. A side that waits is a waiter, a side
 * that has published something is a waker; most sides are both, each with an object of its own.
 *
 * Each side has words in shared memory that it alone writes; the other side may have them mapped
 * read-only. There are two of them:
 *   nap    0 while the side is awake; while it sleeps or is about to, the number of its nap. A new
 *          number comes after a sleep, not after a nap in which there was none. Written by the
 * waiter. rings  goes up with every wake-up that this side gives to a futex. The waiter sleeps on
 * the word of the other side. Written by the waker.
 *
 *     waiter                                    waker
 *     1 new number: note the other's rings      1 publish
 *     2 show the nap                            2 fence
 *     3 fence                                   3 look at the other's nap; awake, or a number that
 *     4 is there work? are we ended?              has been rung for: done, no system call
 *     5 sleep while rings is as noted           4 rings goes up
 *     6 show that we are awake                  5 wake who sleeps on it
 *
 * No wake-up is lost: the fences, 3 and 2, let the waiter see the work in 4, or the waker see the
 * nap in 3, or both. In the latter case rings goes up after the note, so a waiter that is not yet
 * asleep does not fall asleep in 5. And one ring for a number is enough: until there is a new
 * number, and with it a new note, 5 does not sleep any more. So the waker makes a system call at
 * most for each sleep, not for each message or each look. proofs/wake.pml has all of this as a
 * model, with one thing after the other taken out (docs/PROOFS.md).
 *
 * The kind of a waiter is fixed when it is made. SRI_WAKE_FUTEX sleeps in sri_wake_wait().
 * SRI_WAKE_EVENTFD sleeps in its ring, so that messages, I/O and timers come out of one wait: it
 * keeps a read of its eventfd in flight there, calls sri_wake_arm() before it sleeps and
 * sri_wake_awake() after. Its waker writes the eventfd, once for a nap, so that there are never
 * more than two in the counter; who sleeps on the waiter's behalf does not matter to the protocol.
 *
 * A hostile peer. All it can do is to write its own words and to wake. Whatever it writes is read
 * once and only compared. It can keep a waiter busy with wake-ups without work, at its own speed
 * and no longer than the deadline; they are counted, and when more of them came in a row than an
 * honest peer can cause, a wait ends with SRI_WAKE_FLOOD. It can keep quiet: the deadline. It can
 * make a waker do one system call for each thing published.
 *
 * Neighbours: src/ipc/spin.h (how long to look before sleeping), src/sys/futex.h,
 * src/sys/doorbell.h. Streams and lanes hold waiters and wakers, and say what work is.
 */
#ifndef SAFERING_IPC_WAKE_H
#define SAFERING_IPC_WAKE_H

#include "core/check.h"
#include "ipc/spin.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SRI_WAKE_FOREVER UINT64_MAX
#define SRI_WAKE_LINE    64

/* One side's words: a cache line that changes only with naps and wake-ups, never with a message. To
 * begin with all zero. */
struct sri_wake_words {
    _Alignas(SRI_WAKE_LINE) _Atomic uint64_t nap; /* numbers that do not come again in any life */
    _Atomic uint32_t rings;
};

enum sri_wake_kind { SRI_WAKE_FUTEX, SRI_WAKE_EVENTFD };

enum sri_wake_outcome {
    SRI_WAKE_NOT_YET = 0, /* of sri_wake_rung() alone */
    SRI_WAKE_WORK,
    SRI_WAKE_TIMEOUT,
    SRI_WAKE_ENDED, /* sri_wake_end(); whether there is work too is not looked at */
    SRI_WAKE_FLOOD  /* the peer wakes and wakes without work: SR_E_PROTOCOL */
};

/* What is waited for. Called often: it looks at a word or two. It must see all that the peer had
 * published before it looked at our nap, so it loads with acquire at least; and it must hold for
 * everything that an honest peer rings for, else its rings count as empty ones. */
struct sri_wake_condition {
    bool (*holds)(void *ctx);
    void *ctx;
};

/* Never to be reset: for statistics, and to judge a peer. */
struct sri_wake_stats {
    uint64_t naps;        /* shown to the other side */
    uint64_t sleeps;      /* of these, ended by a system call in which it may have slept */
    uint64_t empty_wakes; /* woken, or kept from sleeping, without work */
};

/* Private memory. One thread at a time waits; any thread of the process may end it. */
struct sri_waiter {
    struct sri_wake_words *own;
    const struct sri_wake_words *peer;
    struct sri_spin_limit *limit; /* NULL: it never spins */
    enum sri_wake_kind kind;
    bool nap_is_new; /* its number has not been shown */
    uint32_t rings_noted;
    uint32_t empty_row; /* empty wake-ups since there was work */
    uint32_t empty_row_max;
    uint64_t nap_number;
    _Atomic uint64_t nap; /* the word that the peer reads is a copy of this one */
    _Atomic uint32_t is_ended;
    struct sri_wake_stats stats;
};

struct sri_waker {
    struct sri_wake_words *own;
    const struct sri_wake_words *peer;
    uint64_t nap_rung; /* the last nap that was rung for; 0: none */
    uint32_t rings;    /* the word that the peer reads is a copy of this one */
    int eventfd;       /* -1: the peer sleeps in a futex */
    uint64_t calls;    /* system calls made to wake the peer */
};

/* More empty wake-ups in a row than an honest peer can cause. That one causes one for a nap at
 * most: it looks at a nap, is stopped, and rings when the work has been found and the next nap has
 * begun. The rest is for wake-ups that the kernel makes by itself. */
#define SRI_WAKE_EMPTY_ROW_MAX 1000u

/* @own, @peer, @limit: lends until nobody uses the waiter any more. The thread that waits is
 * counted in @limit (sri_spin_limit_enter()) unless that is NULL. */
void sri_waiter_init(struct sri_waiter *waiter, enum sri_wake_kind kind, struct sri_wake_words *own,
                     const struct sri_wake_words *peer, struct sri_spin_limit *limit);

/* @eventfd: borrows for the waker's life the eventfd that belongs to the waiting side, -1 for a
 * waiter in a futex. */
void sri_waker_init(struct sri_waker *waker, struct sri_wake_words *own,
                    const struct sri_wake_words *peer, int eventfd);

/*
 * Waits until @condition holds: looks for the budget of @spin (NULL: one look), then sleeps.
 * @deadline_ns is absolute, of the monotonic clock; SRI_WAKE_FOREVER for none. One that has passed
 * makes this a look. For SRI_WAKE_FUTEX only.
 */
enum sri_wake_outcome sri_wake_wait(struct sri_waiter *waiter,
                                    const struct sri_wake_condition *condition,
                                    struct sri_spin *spin, uint64_t deadline_ns);

/*
 * The spinning part of a wait alone, for whoever sleeps elsewhere: SRI_WAKE_TIMEOUT when the budget
 * or the deadline is over. Only what was found by looking is learned; how long it takes from there
 * on the caller knows, and may tell sri_spin_learn(), with @has_spun true.
 */
enum sri_wake_outcome sri_wake_look(struct sri_waiter *waiter,
                                    const struct sri_wake_condition *condition,
                                    struct sri_spin *spin, uint64_t deadline_ns);

/* Before a sleep: shows a nap. False: do not sleep, there is work or the waiter is ended, and the
 * nap is over. True: sleep, and call sri_wake_awake() after. */
bool sri_wake_arm(struct sri_waiter *waiter, const struct sri_wake_condition *condition);
void sri_wake_awake(struct sri_waiter *waiter);
/* For SRI_WAKE_EVENTFD, when the read of the eventfd has completed and the nap is over: what is
 * there. SRI_WAKE_NOT_YET is an empty wake-up, and is counted; too many in a row are
 * SRI_WAKE_FLOOD. */
enum sri_wake_outcome sri_wake_rung(struct sri_waiter *waiter,
                                    const struct sri_wake_condition *condition);

/*
 * Ends every wait on @waiter, now and later, with SRI_WAKE_ENDED. For any thread of the waiter's
 * own process; returns when the waiting thread is on its way, or after 10 s if it never is (a
 * thread that has vanished). A waiter that sleeps in its ring is not woken: the caller does that by
 * what the ring has for it, the inbox.
 */
void sri_wake_end(struct sri_waiter *waiter);

static inline bool sri_wake_is_ended(const struct sri_waiter *waiter) {
    return atomic_load_explicit(&waiter->is_ended, memory_order_acquire) != 0;
}

/* For sri_wake_ring(): the peer naps. */
SRI_NOINLINE void sri_wake_ring_nap(struct sri_waker *waker, uint64_t nap);

/*
 * After publishing, or after publishing several things: wakes the peer if it sleeps. One fence and
 * one look at a word that rarely changes, when it does not.
 */
static inline void sri_wake_ring(struct sri_waker *waker) {
    /* Pairs with the fence in sri_wake_arm(): what was published before is in memory before the nap
     * is looked at. */
    atomic_thread_fence(memory_order_seq_cst);
    const uint64_t nap = atomic_load_explicit(&waker->peer->nap, memory_order_relaxed);
    if (SRI_UNLIKELY(nap != 0)) {
        sri_wake_ring_nap(waker, nap);
    }
}

#endif
