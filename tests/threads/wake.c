/* SPDX-License-Identifier: MIT */
/*
 * The doorbell under load: what one thread publishes at random moments is found by another that
 * sleeps whenever there is nothing, without a lost wake-up and with no more system calls than
 * sleeps; and never more threads spin than the limit allows. Prints what a round trip takes.
 */
#include "check.h"

#include "support/pair.h"
#include "support/scale.h"
#include "sys/clock.h"
#include "sys/cpus.h"
#include "sys/doorbell.h"
#include "sys/futex.h"
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static struct pair_page pages[2];
static struct pair_end ends[2];

/* The second end reads; @doorbell: -1, or what it sleeps on. */
static void open_ends(uint32_t cpus, int doorbell) {
    memset(pages, 0, sizeof pages);
    pair_open_in(&ends[0], pages, 0, cpus, SRI_WAKE_FUTEX, doorbell);
    pair_open_in(&ends[1], pages, 1, cpus, doorbell < 0 ? SRI_WAKE_FUTEX : SRI_WAKE_EVENTFD, -1);
}

static void close_ends(void) {
    pair_close(&ends[0]);
    pair_close(&ends[1]);
}

static uint64_t patience(void) {
    return sri_clock_now_ns() + CHECK_PATIENCE_NS;
}

/* A wake-up that was lost is made good at the deadline, so what comes so late is a failure. */
static void wait_for_work(struct pair_end *end, struct sri_spin *spin) {
    const uint64_t deadline_ns = patience();
    CHECK_EQ(pair_wait(end, spin, deadline_ns), SRI_WAKE_WORK);
    CHECK(sri_clock_now_ns() < deadline_ns);
}

static void pause_for(uint64_t pauses) {
    for (uint64_t i = 0; i < pauses; i++) {
        sri_spin_pause();
    }
}

/* Mostly none, sometimes as long as a sleep takes to begin, now and then long enough to be asleep.
 */
static uint64_t random_pause(struct scale_random *random) {
    const uint64_t dice = scale_random_below(random, 64);
    return dice == 0 ? scale_random_below(random, 1000)
                     : (dice < 8 ? scale_random_below(random, 60) : 0);
}

/* ---- handovers ------------------------------------------------------------------------------- */

struct stream {
    struct pair_end *end;
    uint64_t count;
    uint64_t waits;
    struct sri_spin *spin;
    bool dawdles; /* pauses between two waits */
    struct scale_random random;
};

static uint64_t letters[1024];

static void *publish_all(void *ctx) {
    struct stream *self = ctx;
    for (uint64_t i = 0; i < self->count; i++) {
        letters[i % 1024] = i;
        pair_publish(self->end);
        pause_for(random_pause(&self->random));
        while (i + 1 - atomic_load_explicit(&ends[1].own->published, memory_order_acquire) > 1000) {
            (void)sched_yield(); /* the reader has not got so far: what it reads must stay */
        }
    }
    return NULL;
}

static void *take_all(void *ctx) {
    struct stream *self = ctx;
    struct pair_end *end = self->end;
    while (end->taken < self->count) {
        const uint64_t before = end->taken;
        wait_for_work(end, self->spin);
        for (uint64_t i = before; i < end->taken; i++) {
            CHECK_EQ(letters[i % 1024], i);
        }
        self->waits++;
        /* How far it has read; the other side does not sleep on it, so there is no doorbell. */
        atomic_store_explicit(&end->own->published, end->taken, memory_order_release);
        pause_for(self->dawdles ? random_pause(&self->random) : 0);
    }
    return NULL;
}

/* The next message only when the last one has been taken, about when the reader falls asleep: a
 * wake-up that is lost here is made good by nothing. */
static void *publish_one_by_one(void *ctx) {
    struct stream *self = ctx;
    for (uint64_t i = 0; i < self->count; i++) {
        letters[i % 1024] = i;
        pair_publish(self->end);
        for (uint32_t looks = 0;
             atomic_load_explicit(&ends[1].own->published, memory_order_acquire) != i + 1;
             looks++) {
            if (looks < 2000) {
                sri_spin_pause();
            } else {
                (void)sched_yield();
            }
        }
        pause_for(scale_random_below(&self->random, 24));
    }
    return NULL;
}

static void hand_over(void *(*publish)(void *ctx), uint64_t count, uint32_t cpus, bool spins) {
    open_ends(cpus, -1);
    struct stream writer = {.end = &ends[0], .count = count, .random = scale_random(1)};
    struct stream reader = {.end = &ends[1],
                            .count = count,
                            .spin = spins ? &ends[1].spin : NULL,
                            .dawdles = publish == publish_all,
                            .random = scale_random(2)};
    const pthread_t threads[] = {check_thread_start(publish, &writer),
                                 check_thread_start(take_all, &reader)};
    check_thread_join(threads[0]);
    check_thread_join(threads[1]);
    const struct sri_wake_stats *stats = &ends[1].waiter.stats;
    fprintf(stderr,
            "    %llu messages in %llu waits: %llu naps, %llu sleeps, %llu calls to wake, "
            "%llu empty wake-ups\n",
            (unsigned long long)count, (unsigned long long)reader.waits,
            (unsigned long long)stats->naps, (unsigned long long)stats->sleeps,
            (unsigned long long)ends[0].waker.calls, (unsigned long long)stats->empty_wakes);
    CHECK(ends[0].waker.calls <= stats->sleeps + 1);
    CHECK(stats->sleeps <= stats->naps);
    CHECK(stats->naps > 0);
    close_ends();
}

static void no_handover_is_lost_by_one_that_always_sleeps(void) {
    hand_over(publish_all, scale_count(1000000, 1000), 1, false);
}

static void no_handover_is_lost_by_one_that_spins_before(void) {
    hand_over(publish_all, scale_count(1000000, 1000), sri_cpus_usable(), true);
}

static void no_handover_is_lost_when_each_must_be_found(void) {
    hand_over(publish_one_by_one, scale_count(100000, 1000), 1, false);
}

/* ---- an eventfd ------------------------------------------------------------------------------ */

static void *ring_each(void *ctx) {
    struct stream *self = ctx;
    for (uint64_t i = 0; i < self->count; i++) {
        pair_publish(self->end);
        pause_for(random_pause(&self->random));
    }
    return NULL;
}

/* Sleeps as a ring would: until the descriptor is readable; then the read has completed. */
static void sleep_on(int doorbell, struct sri_waiter *waiter,
                     const struct sri_wake_condition *condition) {
    struct pollfd fd = {.fd = doorbell, .events = POLLIN};
    uint64_t count = 0;
    CHECK_EQ(poll(&fd, 1, (int)(CHECK_PATIENCE_NS / 1000000)), 1);
    CHECK_EQ(read(doorbell, &count, sizeof count), (int)sizeof count);
    CHECK_EQ(count, 1);
    sri_wake_awake(waiter);
    CHECK(sri_wake_rung(waiter, condition) != SRI_WAKE_FLOOD);
}

static void an_eventfd_loses_nothing_and_counts_one(void) {
    const uint64_t count = scale_count(100000, 500);
    const int doorbell = sri_doorbell_open();
    uint64_t sleeps = 0;
    CHECK(doorbell >= 0);
    open_ends(2, doorbell);
    const struct sri_wake_condition condition = pair_condition(&ends[1]);
    struct stream writer = {.end = &ends[0], .count = count, .random = scale_random(3)};
    const pthread_t thread = check_thread_start(ring_each, &writer);
    while (ends[1].taken < count) {
        if (sri_wake_arm(&ends[1].waiter, &condition)) {
            sleeps++;
            sleep_on(doorbell, &ends[1].waiter, &condition);
        }
        ends[1].taken = atomic_load_explicit(&ends[1].peer->published, memory_order_acquire);
    }
    check_thread_join(thread);
    fprintf(stderr, "    %llu messages: %llu sleeps, %llu calls to wake\n",
            (unsigned long long)count, (unsigned long long)sleeps,
            (unsigned long long)ends[0].waker.calls);
    CHECK(ends[0].waker.calls <= sleeps + 1);
    close_ends();
    CHECK_EQ(close(doorbell), 0);
}

/* ---- the limit ------------------------------------------------------------------------------- */

#define SPINNERS 3u /* on each side */
#define CPUS     2u

static struct sri_spin_words spin_words[2];
static struct sri_spin_limit limits[2];
static _Atomic uint32_t spinning;
static _Atomic uint64_t stream; /* of random numbers: one for each thread */
static _Atomic uint64_t spins;

static void *spin_if_allowed(void *ctx) {
    struct sri_spin_limit *limit = ctx;
    struct scale_random random = scale_random(4 + atomic_fetch_add(&stream, 1));
    const uint64_t turns = scale_count(100000, 500);
    for (uint64_t i = 0; i < turns; i++) {
        sri_spin_limit_enter(limit);
        if (sri_spin_limit_allows(limit)) {
            CHECK(atomic_fetch_add(&spinning, 1) < CPUS);
            atomic_fetch_add_explicit(&spins, 1, memory_order_relaxed);
            pause_for(scale_random_below(&random, 20));
            atomic_fetch_sub(&spinning, 1);
        }
        sri_spin_limit_leave(limit);
        pause_for(scale_random_below(&random, 60));
    }
    return NULL;
}

static void never_more_threads_spin_than_there_are_cpus(void) {
    pthread_t threads[2 * SPINNERS];
    for (uint32_t side = 0; side < 2; side++) {
        sri_spin_limit_init(&limits[side], &spin_words[side], &spin_words[1 - side], CPUS);
    }
    for (uint32_t i = 0; i < 2 * SPINNERS; i++) {
        threads[i] = check_thread_start(spin_if_allowed, &limits[i % 2]);
    }
    for (uint32_t i = 0; i < 2 * SPINNERS; i++) {
        check_thread_join(threads[i]);
    }
    CHECK(atomic_load(&spins) > 0);
    CHECK_EQ(atomic_load(&spin_words[0].awake_count), 0);
    CHECK_EQ(atomic_load(&spin_words[1].awake_count), 0);
}

/* ---- what it takes --------------------------------------------------------------------------- */

enum { TRIPS_MAX = 10000 };

static uint64_t times_ns[TRIPS_MAX];
static uint64_t trips;

static int by_value(const void *left, const void *right) {
    const uint64_t a = *(const uint64_t *)left;
    const uint64_t b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static void report(const char *what) {
    qsort(times_ns, trips, sizeof times_ns[0], by_value);
    fprintf(stderr, "    %-24s median %llu ns, p99 %llu ns\n", what,
            (unsigned long long)times_ns[trips / 2],
            (unsigned long long)times_ns[trips * 99 / 100]);
}

static void *answer_by_pair(void *ctx) {
    struct sri_spin *spin = ctx;
    while (ends[1].taken < trips) {
        wait_for_work(&ends[1], spin);
        pair_publish(&ends[1]);
    }
    return NULL;
}

static void trips_by_pair(bool spins_too, const char *what) {
    open_ends(sri_cpus_usable(), -1);
    const pthread_t thread = check_thread_start(answer_by_pair, spins_too ? &ends[1].spin : NULL);
    for (uint64_t i = 0; i < trips; i++) {
        const uint64_t began_ns = sri_clock_now_ns();
        pair_publish(&ends[0]);
        wait_for_work(&ends[0], spins_too ? &ends[0].spin : NULL);
        CHECK_EQ(ends[0].taken, i + 1);
        times_ns[i] = sri_clock_now_ns() - began_ns;
    }
    check_thread_join(thread);
    report(what);
    close_ends();
}

/* The least that two sleepers can do: a word each, changed and woken by the other. */
static _Atomic uint32_t bare[2];

static void bare_wait(uint32_t which, uint32_t old) {
    while (atomic_load_explicit(&bare[which], memory_order_acquire) == old) {
        const int code = sri_futex_wait(&bare[which], old, patience());
        CHECK(code == 0 || code == -EAGAIN || code == -EINTR);
    }
}

static void *answer_bare(void *ctx) {
    (void)ctx;
    for (uint32_t i = 0; i < trips; i++) {
        bare_wait(0, i);
        atomic_store_explicit(&bare[1], i + 1, memory_order_release);
        CHECK(sri_futex_wake(&bare[1], 1) >= 0);
    }
    return NULL;
}

static void trips_bare(void) {
    const pthread_t thread = check_thread_start(answer_bare, NULL);
    for (uint32_t i = 0; i < trips; i++) {
        const uint64_t began_ns = sri_clock_now_ns();
        atomic_store_explicit(&bare[0], i + 1, memory_order_release);
        CHECK(sri_futex_wake(&bare[0], 1) >= 0);
        bare_wait(1, i);
        times_ns[i] = sri_clock_now_ns() - began_ns;
    }
    check_thread_join(thread);
    report("bare futex");
}

static void a_rally_comes_to_its_end_whatever_the_budget(void) {
    trips = scale_count(TRIPS_MAX, 100);
    trips = trips < TRIPS_MAX ? trips : TRIPS_MAX;
    trips_bare();
    trips_by_pair(false, "no budget");
    trips_by_pair(true, "learned budget");
}

int main(void) {
    RUN(no_handover_is_lost_by_one_that_always_sleeps);
    RUN(no_handover_is_lost_by_one_that_spins_before);
    RUN(no_handover_is_lost_when_each_must_be_found);
    RUN(an_eventfd_loses_nothing_and_counts_one);
    RUN(never_more_threads_spin_than_there_are_cpus);
    RUN(a_rally_comes_to_its_end_whatever_the_budget);
    return 0;
}
