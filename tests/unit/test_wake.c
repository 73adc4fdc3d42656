/* SPDX-License-Identifier: MIT */
#include "unit/fixture.h"

#include "support/case.h"
#include "support/pair.h"
#include "support/scale.h"
#include "support/sleeper.h"
#include "support/valgrind.h"
#include "sys/clock.h"
#include "sys/cpus.h"
#include "sys/doorbell.h"
#include "sys/futex.h"
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define PATIENCE_NS UINT64_C(20000000000)
#define PATIENCE_MS 20000

static int memory;
static struct pair_end here;  /* the one that waits */
static struct pair_end there; /* the one that wakes */

static void open_pair_of(enum sri_wake_kind kind, int eventfd) {
    memory = pair_memory();
    pair_open_as(&here, memory, 0, 2, kind, -1);
    pair_open_as(&there, memory, 1, 2, SRI_WAKE_FUTEX, eventfd);
}

static void open_pair(void) {
    open_pair_of(SRI_WAKE_FUTEX, -1);
}

static void close_pair(void) {
    cr_assert_eq(atomic_load(&here.own->wake.nap), 0, "nobody is asleep at the end");
    pair_close(&here);
    pair_close(&there);
    cr_assert_eq(close(memory), 0);
}

/* Work that is found only at the deadline is a wake-up that was lost. */
static void wait_for_work(struct pair_end *end, struct sri_spin *spin) {
    const uint64_t deadline_ns = sri_clock_now_ns() + PATIENCE_NS;
    cr_assert_eq(pair_wait(end, spin, deadline_ns), SRI_WAKE_WORK);
    cr_assert_lt(sri_clock_now_ns(), deadline_ns, "a wake-up was lost");
}

static uint64_t in_ms(uint64_t ms) {
    return sri_clock_now_ns() + ms * 1000000;
}

static void *publish_one(void *ctx) {
    pair_publish(ctx);
    return NULL;
}

/* A thread that waits on @here, to its end. */
struct wait_thread {
    pthread_t thread;
    uint64_t deadline_ns;
    enum sri_wake_outcome outcome;
};

static void *wait_here(void *ctx) {
    struct wait_thread *self = ctx;
    self->outcome = pair_wait(&here, NULL, self->deadline_ns);
    return NULL;
}

/* Starts it, and returns when it is asleep. */
static void sleep_begins(struct wait_thread *self, uint64_t deadline_ns) {
    self->deadline_ns = deadline_ns;
    cr_assert_eq(pthread_create(&self->thread, NULL, wait_here, self), 0);
    cr_assert(sleeper_wait(getpid(), SLEEPER_OTHERS, SYS_futex, PATIENCE_MS));
}

static enum sri_wake_outcome sleep_ends(struct wait_thread *self) {
    cr_assert_eq(pthread_join(self->thread, NULL), 0);
    return self->outcome;
}

/* ---- work ----------------------------------------------------------------------------------- */

CASE(wake, work_that_is_there_is_found_without_a_nap, open_pair, close_pair) {
    pair_publish(&there);
    cr_assert_eq(pair_wait(&here, &here.spin, SRI_WAKE_FOREVER), SRI_WAKE_WORK);
    cr_assert_eq(here.taken, 1);
    cr_assert_eq(here.waiter.stats.naps, 0);
    cr_assert_eq(there.waker.calls, 0);
}

CASE(wake, a_waker_makes_no_call_while_the_other_side_is_awake, open_pair, close_pair) {
    for (int i = 0; i < 1000; i++) {
        pair_publish(&there);
        cr_assert_eq(pair_wait(&here, NULL, SRI_WAKE_FOREVER), SRI_WAKE_WORK);
    }
    cr_assert_eq(there.waker.calls, 0);
    cr_assert_eq(atomic_load(&there.own->wake.rings), 0);
}

CASE(wake, a_sleeper_is_woken_by_work, open_pair, close_pair) {
    struct wait_thread sleeper;
    sleep_begins(&sleeper, SRI_WAKE_FOREVER);
    pair_publish(&there);
    cr_assert_eq(sleep_ends(&sleeper), SRI_WAKE_WORK);
    cr_assert_eq(there.waker.calls, 1);
    cr_assert_eq(here.waiter.stats.sleeps, 1);
    cr_assert_eq(here.waiter.stats.empty_wakes, 0);
}

CASE(wake, a_nap_is_rung_for_once_whatever_is_published, open_pair, close_pair) {
    const struct sri_wake_condition condition = pair_condition(&here);
    cr_assert(sri_wake_arm(&here.waiter, &condition));
    for (int i = 0; i < 5; i++) {
        pair_publish(&there);
    }
    cr_assert_eq(there.waker.calls, 1);
    sri_wake_awake(&here.waiter);
    /* It has not slept, so it is the same nap again, and the note is the one from before the ring:
     * it does not fall asleep. */
    here.taken = 5;
    cr_assert(sri_wake_arm(&here.waiter, &condition));
    pair_publish(&there);
    cr_assert_eq(there.waker.calls, 1);
    cr_assert_eq(sri_futex_wait(&here.peer->wake.rings, here.waiter.rings_noted, in_ms(10000)),
                 -EAGAIN);
    sri_wake_awake(&here.waiter);
}

CASE(wake, a_nap_is_not_begun_when_there_is_work_or_an_end, open_pair, close_pair) {
    const struct sri_wake_condition condition = pair_condition(&here);
    pair_publish(&there);
    cr_assert(!sri_wake_arm(&here.waiter, &condition));
    here.taken = 1;
    cr_assert(sri_wake_arm(&here.waiter, &condition));
    sri_wake_awake(&here.waiter);
    cr_assert_eq(pair_wait(&here, NULL, in_ms(5)), SRI_WAKE_TIMEOUT);
    sri_wake_end(&here.waiter);
    cr_assert(!sri_wake_arm(&here.waiter, &condition));
}

/* ---- deadlines ------------------------------------------------------------------------------ */

CASE(wake, a_wait_ends_at_its_deadline_and_not_before, open_pair, close_pair) {
    const uint64_t deadline_ns = in_ms(20);
    cr_assert_eq(pair_wait(&here, &here.spin, deadline_ns), SRI_WAKE_TIMEOUT);
    cr_assert_geq(sri_clock_now_ns(), deadline_ns);
}

CASE(wake, a_deadline_that_has_passed_makes_it_a_look, open_pair, close_pair) {
    cr_assert_eq(pair_wait(&here, &here.spin, 0), SRI_WAKE_TIMEOUT);
    cr_assert_eq(pair_wait(&here, NULL, 1), SRI_WAKE_TIMEOUT);
    cr_assert_eq(here.waiter.stats.naps, 0);
    pair_publish(&there);
    cr_assert_eq(pair_wait(&here, NULL, 0), SRI_WAKE_WORK);
}

static void hear_signal(int signal) {
    (void)signal;
}

CASE(wake, a_signal_does_not_end_a_wait, open_pair, close_pair) {
    struct wait_thread sleeper;
    const struct sigaction action = {.sa_handler = hear_signal}; /* no SA_RESTART: EINTR */
    cr_assert_eq(sigaction(SIGUSR1, &action, NULL), 0);
    sleep_begins(&sleeper, in_ms(PATIENCE_MS));
    for (int i = 0; i < 20; i++) {
        cr_assert_eq(pthread_kill(sleeper.thread, SIGUSR1), 0);
        (void)usleep(500);
    }
    pair_publish(&there);
    cr_assert_eq(sleep_ends(&sleeper), SRI_WAKE_WORK);
    cr_assert_gt(here.waiter.stats.sleeps, 1, "no signal came through");
    cr_assert_eq(here.waiter.stats.empty_wakes, 0, "signals are not the peer's");
}

/* ---- the end -------------------------------------------------------------------------------- */

CASE(wake, an_end_wakes_a_sleeper, open_pair, close_pair) {
    struct wait_thread sleeper;
    sleep_begins(&sleeper, SRI_WAKE_FOREVER);
    sri_wake_end(&here.waiter);
    cr_assert_eq(sleep_ends(&sleeper), SRI_WAKE_ENDED);
}

CASE(wake, an_end_is_seen_by_later_waits_and_before_work, open_pair, close_pair) {
    pair_publish(&there);
    sri_wake_end(&here.waiter);
    cr_assert_eq(pair_wait(&here, &here.spin, SRI_WAKE_FOREVER), SRI_WAKE_ENDED);
    cr_assert_eq(pair_wait(&here, NULL, SRI_WAKE_FOREVER), SRI_WAKE_ENDED);
    cr_assert(sri_wake_is_ended(&here.waiter));
}

static void *end_here(void *ctx) {
    (void)ctx;
    sri_wake_end(&here.waiter);
    return NULL;
}

/* The moment between the last look and the sleep: a wake-up that comes then wakes nobody. */
CASE(wake, an_end_before_the_sleep_begins_is_not_lost, open_pair, close_pair) {
    pthread_t thread;
    const struct sri_wake_condition condition = pair_condition(&here);
    cr_assert(sri_wake_arm(&here.waiter, &condition));
    cr_assert_eq(pthread_create(&thread, NULL, end_here, NULL), 0);
    while (!sri_wake_is_ended(&here.waiter)) {
        (void)usleep(1000);
    }
    (void)usleep(20000);
    cr_assert_eq(
        sri_futex_wait(&here.peer->wake.rings, here.waiter.rings_noted, in_ms(PATIENCE_MS)), 0);
    sri_wake_awake(&here.waiter);
    cr_assert_eq(pthread_join(thread, NULL), 0);
}

/* The same by chance, again and again. */
static void *wait_for_ever(void *ctx) {
    cr_assert_eq(pair_wait(ctx, NULL, SRI_WAKE_FOREVER), SRI_WAKE_ENDED);
    return NULL;
}

Test(wake, an_end_at_any_moment_is_not_lost) {
    const uint64_t rounds = scale_count(2000, 20);
    struct scale_random random = scale_random(1);
    for (uint64_t i = 0; i < rounds; i++) {
        pthread_t thread;
        open_pair();
        cr_assert_eq(pthread_create(&thread, NULL, wait_for_ever, &here), 0);
        for (uint64_t pause = scale_random_below(&random, 4000); pause > 0; pause--) {
            sri_spin_pause();
        }
        sri_wake_end(&here.waiter);
        cr_assert_eq(pthread_join(thread, NULL), 0);
        close_pair();
    }
}

/* ---- a hostile peer ------------------------------------------------------------------------- */

/* What a peer does that has nothing to say: turns its words and wakes, as fast as it can. */
struct nuisance {
    pthread_t thread;
    bool wakes; /* the futex, without changing the word; else changes the word */
    _Atomic bool stop;
};

static void *be_a_nuisance(void *ctx) {
    struct nuisance *self = ctx;
    struct scale_random random = scale_random(2);
    while (!atomic_load(&self->stop)) {
        if (self->wakes) {
            (void)sri_futex_wake(&there.own->wake.rings, SRI_FUTEX_ALL);
        } else {
            const uint64_t noise = scale_random_next(&random);
            atomic_store(&there.own->wake.rings, (uint32_t)noise);
            atomic_store(&there.own->wake.nap, noise);
            (void)sri_futex_wake(&there.own->wake.rings, SRI_FUTEX_ALL);
        }
    }
    return NULL;
}

static void nuisance_begins(struct nuisance *self, bool wakes) {
    self->wakes = wakes;
    atomic_init(&self->stop, false);
    cr_assert_eq(pthread_create(&self->thread, NULL, be_a_nuisance, self), 0);
}

static void nuisance_ends(struct nuisance *self) {
    atomic_store(&self->stop, true);
    cr_assert_eq(pthread_join(self->thread, NULL), 0);
}

static void flood_is_counted(bool wakes) {
    struct nuisance nuisance;
    nuisance_begins(&nuisance, wakes);
    cr_assert_eq(pair_wait(&here, NULL, in_ms(PATIENCE_MS)), SRI_WAKE_FLOOD);
    cr_assert_eq(here.waiter.stats.empty_wakes, SRI_WAKE_EMPTY_ROW_MAX + 1);
    nuisance_ends(&nuisance);
}

CASE(wake, a_peer_that_rings_for_ever_is_found_out, open_pair, close_pair) {
    flood_is_counted(false);
}

CASE(wake, a_peer_that_wakes_without_ringing_is_found_out, open_pair, close_pair) {
    flood_is_counted(true);
}

CASE(wake, a_peer_that_rings_for_ever_does_not_move_the_deadline, open_pair, close_pair) {
    struct nuisance nuisance;
    here.waiter.empty_row_max = UINT32_MAX - 1;
    nuisance_begins(&nuisance, false);
    const uint64_t deadline_ns = in_ms(100);
    cr_assert_eq(pair_wait(&here, NULL, deadline_ns), SRI_WAKE_TIMEOUT);
    cr_assert_lt(sri_clock_now_ns(), deadline_ns + PATIENCE_NS);
    /* Nor does it keep work from being found, or an end. */
    atomic_store(&there.own->published, 1);
    cr_assert_eq(pair_wait(&here, NULL, in_ms(PATIENCE_MS)), SRI_WAKE_WORK);
    sri_wake_end(&here.waiter);
    cr_assert_eq(pair_wait(&here, NULL, in_ms(PATIENCE_MS)), SRI_WAKE_ENDED);
    nuisance_ends(&nuisance);
}

CASE(wake, a_peer_that_never_rings_costs_no_more_than_the_deadline, open_pair, close_pair) {
    struct wait_thread sleeper;
    sleep_begins(&sleeper, in_ms(2000));
    atomic_store(&there.own->published, 1); /* and no doorbell */
    cr_assert_eq(sleep_ends(&sleeper), SRI_WAKE_WORK, "found at the deadline");
}

/* What a peer makes of a condition that takes back, at each second look, what it published. */
static bool flickers(void *ctx) {
    uint32_t *looks = ctx;
    return (*looks)++ % 2 != 0;
}

CASE(wake, work_that_is_taken_back_counts_as_an_empty_wake_up, open_pair, close_pair) {
    uint32_t looks = 0;
    const struct sri_wake_condition condition = {flickers, &looks};
    cr_assert_eq(sri_wake_wait(&here.waiter, &condition, NULL, in_ms(PATIENCE_MS)), SRI_WAKE_FLOOD);
    cr_assert_eq(here.waiter.stats.sleeps, 0);
    cr_assert_eq(here.waiter.stats.empty_wakes, SRI_WAKE_EMPTY_ROW_MAX + 1);
    pair_publish(&there);
    cr_assert_eq(pair_wait(&here, NULL, in_ms(PATIENCE_MS)), SRI_WAKE_WORK);
    cr_assert_eq(here.waiter.empty_row, 0, "work makes good");
}

CASE(wake, a_peer_that_naps_and_naps_costs_a_call_for_each_message, open_pair, close_pair) {
    for (uint64_t i = 1; i <= 100; i++) {
        atomic_store(&here.own->wake.nap, i * UINT64_C(0x9e3779b97f4a7c15));
        pair_publish(&there);
        pair_publish(&there);
    }
    cr_assert_eq(there.waker.calls, 100);
    atomic_store(&here.own->wake.nap, 0);
}

/* ---- a waiter that sleeps in its ring ------------------------------------------------------- */

static int doorbell;

static void open_ring_pair(void) {
    doorbell = sri_doorbell_open();
    cr_assert_geq(doorbell, 0);
    open_pair_of(SRI_WAKE_EVENTFD, doorbell);
}

static void close_ring_pair(void) {
    close_pair();
    cr_assert_eq(close(doorbell), 0);
}

static uint64_t doorbell_count(void) {
    uint64_t count = 0;
    return read(doorbell, &count, sizeof count) == sizeof count ? count : 0;
}

CASE(wake, an_eventfd_never_counts_more_than_one, open_ring_pair, close_ring_pair) {
    const struct sri_wake_condition condition = pair_condition(&here);
    for (int i = 0; i < 100; i++) {
        cr_assert(sri_wake_arm(&here.waiter, &condition));
        pair_publish(&there);
        pair_publish(&there);
        sri_wake_awake(&here.waiter); /* woken by something else, or not asleep at all */
        here.taken = there.published;
    }
    cr_assert_eq(there.waker.calls, 1);
    cr_assert_eq(doorbell_count(), 1);
    cr_assert_eq(sri_wake_rung(&here.waiter, &condition), SRI_WAKE_NOT_YET, "it had been found");
    cr_assert(sri_wake_arm(&here.waiter, &condition));
    pair_publish(&there);
    cr_assert_eq(doorbell_count(), 1, "a new number is rung for");
    sri_wake_awake(&here.waiter);
    cr_assert_eq(sri_wake_rung(&here.waiter, &condition), SRI_WAKE_WORK);
}

CASE(wake, an_eventfd_that_rings_without_work_is_found_out, open_ring_pair, close_ring_pair) {
    const struct sri_wake_condition condition = pair_condition(&here);
    for (uint32_t i = 0; i < SRI_WAKE_EMPTY_ROW_MAX; i++) {
        cr_assert_eq(sri_wake_rung(&here.waiter, &condition), SRI_WAKE_NOT_YET);
    }
    cr_assert_eq(sri_wake_rung(&here.waiter, &condition), SRI_WAKE_FLOOD);
    pair_publish(&there);
    cr_assert_eq(sri_wake_rung(&here.waiter, &condition), SRI_WAKE_WORK);
    here.taken = 1;
    cr_assert_eq(sri_wake_rung(&here.waiter, &condition), SRI_WAKE_NOT_YET);
}

CASE(wake, a_doorbell_that_the_peer_has_filled_is_rung_all_the_same, open_ring_pair,
     close_ring_pair) {
    const uint64_t all = UINT64_MAX - 1;
    cr_assert_eq(write(doorbell, &all, sizeof all), (ssize_t)sizeof all);
    assert_ok(sri_doorbell_ring(doorbell));
    assert_code(sri_doorbell_ring(-1), -EBADF);
}

/* The host of a real worker: the eventfd is read in its ring, beside everything else it waits for.
 */
CASE(wake, a_host_sleeps_in_its_ring_until_the_doorbell_rings, open_ring_pair, close_ring_pair) {
    if (RUNNING_ON_VALGRIND) {
        cr_skip_test("valgrind lets no other thread run while one is in io_uring_enter(2)");
    }
    const struct sri_wake_condition condition = pair_condition(&here);
    sr_ring *ring = ring_make(NULL);
    const sr_file file = file_take(ring, dup(doorbell));
    for (int i = 0; i < 100; i++) {
        pthread_t thread;
        sr_request request = request_of(SR_OP_POLL);
        request.file = file;
        request.mask = POLLIN;
        (void)submit(ring, &request);
        cr_assert(sri_wake_arm(&here.waiter, &condition));
        cr_assert_eq(pthread_create(&thread, NULL, publish_one, &there), 0);
        const sr_completion completion = wait_one(ring);
        cr_assert_eq(completion.result, POLLIN);
        sri_wake_awake(&here.waiter);
        cr_assert_eq(doorbell_count(), 1);
        cr_assert_eq(sri_wake_rung(&here.waiter, &condition), SRI_WAKE_WORK);
        here.taken = there.published;
        cr_assert_eq(pthread_join(thread, NULL), 0);
    }
    cr_assert_eq(there.waker.calls, 100);
    file_close(ring, file);
    ring_end(&ring);
}

/* ---- two processes -------------------------------------------------------------------------- */

/* What the child does: answers each message until the one that says it is enough. */
static _Noreturn void answer(uint32_t cpus, uint64_t rounds, bool spins) {
    struct pair_end end;
    pair_open(&end, memory, 1, cpus);
    while (end.taken < rounds) {
        if (pair_wait(&end, spins ? &end.spin : NULL, in_ms(PATIENCE_MS)) != SRI_WAKE_WORK) {
            _exit(1);
        }
        pair_publish(&end);
    }
    const bool was_quiet = end.waker.calls <= rounds;
    pair_close(&end);
    _exit(was_quiet ? 0 : 2);
}

static pid_t answering_child(uint32_t cpus, uint64_t rounds, bool spins) {
    (void)fflush(NULL);
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        answer(cpus, rounds, spins);
    }
    return child;
}

static void child_must_end_well(pid_t child) {
    int status = 0;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned)status);
}

static void rally(struct pair_end *end, uint64_t rounds, bool spins, struct scale_random *random) {
    for (uint64_t i = 1; i <= rounds; i++) {
        pair_publish(end);
        const uint64_t pause = random != NULL && scale_random_below(random, 8) == 0
                                   ? scale_random_below(random, 3000)
                                   : 0;
        for (uint64_t j = 0; j < pause; j++) {
            sri_spin_pause();
        }
        wait_for_work(end, spins ? &end->spin : NULL);
        cr_assert_eq(end->taken, i);
    }
}

static void rally_of_two_processes(uint32_t cpus, bool spins) {
    const uint64_t rounds = scale_count(20000, 200);
    struct scale_random random = scale_random(3);
    memory = pair_memory();
    pair_open(&here, memory, 0, cpus);
    const pid_t child = answering_child(cpus, rounds, spins);
    rally(&here, rounds, spins, &random);
    child_must_end_well(child);
    /* One call at most for each sleep of the other side, and it sleeps at most once for each
     * message. */
    cr_assert_leq(here.waker.calls, rounds);
    cr_assert_leq(here.waiter.stats.empty_wakes, 2 * rounds);
    fprintf(stderr, "wake: %llu rounds, %llu naps, %llu sleeps, %llu calls, %llu empty wake-ups\n",
            (unsigned long long)rounds, (unsigned long long)here.waiter.stats.naps,
            (unsigned long long)here.waiter.stats.sleeps, (unsigned long long)here.waker.calls,
            (unsigned long long)here.waiter.stats.empty_wakes);
    pair_close(&here);
    cr_assert_eq(close(memory), 0);
}

Test(wake, two_processes_that_sleep_each_time_lose_no_message) {
    rally_of_two_processes(1, false);
}

Test(wake, two_processes_that_spin_lose_no_message) {
    rally_of_two_processes(sri_cpus_usable(), true);
}

/* ---- idle ----------------------------------------------------------------------------------- */

static uint64_t cpu_us(const struct rusage *usage) {
    return (uint64_t)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000 +
           (uint64_t)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec);
}

/* A pair that has been hot and is idle for two seconds. Both sides would spin if they ever did. */
Test(wake, an_idle_pair_uses_no_cpu) {
    struct rusage before;
    struct rusage after;
    struct rusage of_child;
    memory = pair_memory();
    pair_open(&here, memory, 0, 2);
    const pid_t child = answering_child(2, 101, true);
    rally(&here, 100, true, NULL);
    cr_assert_eq(getrusage(RUSAGE_THREAD, &before), 0);
    cr_assert_eq(pair_wait(&here, &here.spin, in_ms(2000)), SRI_WAKE_TIMEOUT);
    cr_assert_eq(getrusage(RUSAGE_THREAD, &after), 0);
    cr_assert_leq(here.waiter.stats.sleeps, 110);
    pair_publish(&here);
    child_must_end_well(child);
    cr_assert_eq(getrusage(RUSAGE_CHILDREN, &of_child), 0);
    const uint64_t used_us = cpu_us(&after) - cpu_us(&before);
    fprintf(stderr, "wake: idle for 2 s: %llu us here; the other side in all its life %llu us\n",
            (unsigned long long)used_us, (unsigned long long)cpu_us(&of_child));
    /* One that spun would have used 2,000,000; valgrind's own work is in the child's number. */
    cr_assert_lt(used_us, 200000);
    cr_assert(RUNNING_ON_VALGRIND || cpu_us(&of_child) < 400000);
    cr_assert_leq(after.ru_nvcsw - before.ru_nvcsw, 20, "it slept, and was left alone");
    pair_close(&here);
    cr_assert_eq(close(memory), 0);
}

/* ---- more threads than CPUs ----------------------------------------------------------------- */

static void use_cpus(int count) {
    cpu_set_t all;
    cpu_set_t some;
    cr_assert_eq(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&some);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&some) < count; cpu++) {
        if (CPU_ISSET(cpu, &all)) {
            CPU_SET(cpu, &some);
        }
    }
    cr_assert_eq(sched_setaffinity(0, sizeof some, &some), 0);
}

struct lane {
    struct pair_end ends[2];
    uint64_t rounds;
    pthread_t threads[2];
};

static void *lane_calls(void *ctx) {
    struct lane *lane = ctx;
    rally(&lane->ends[0], lane->rounds, true, NULL);
    return NULL;
}

static void *lane_answers(void *ctx) {
    struct lane *lane = ctx;
    struct pair_end *end = &lane->ends[1];
    while (end->taken < lane->rounds) {
        wait_for_work(end, &end->spin);
        pair_publish(end);
    }
    return NULL;
}

/* Two callers and two that answer. One limit for each side, as in a host and its worker. */
static void two_lanes(int cpus) {
    struct lane lanes[2];
    struct sri_spin_words words[2] = {0};
    struct sri_spin_limit limits[2];
    use_cpus(cpus);
    for (int side = 0; side < 2; side++) {
        sri_spin_limit_init(&limits[side], &words[side], &words[1 - side], sri_cpus_usable());
    }
    for (int i = 0; i < 2; i++) {
        const int fd = pair_memory();
        lanes[i].rounds = scale_count(10000, 100);
        for (int side = 0; side < 2; side++) {
            pair_open(&lanes[i].ends[side], fd, side, 2);
            lanes[i].ends[side].waiter.limit = &limits[side];
            sri_spin_limit_enter(&limits[side]); /* for the thread that is to come */
        }
        cr_assert_eq(close(fd), 0);
    }
    const uint64_t began_ns = sri_clock_now_ns();
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(pthread_create(&lanes[i].threads[0], NULL, lane_calls, &lanes[i]), 0);
        cr_assert_eq(pthread_create(&lanes[i].threads[1], NULL, lane_answers, &lanes[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(pthread_join(lanes[i].threads[0], NULL), 0);
        cr_assert_eq(pthread_join(lanes[i].threads[1], NULL), 0);
    }
    fprintf(stderr, "wake: two lanes on %d CPUs: %llu ns a round trip\n", cpus,
            (unsigned long long)((sri_clock_now_ns() - began_ns) / lanes[0].rounds));
    for (int i = 0; i < 2; i++) {
        pair_close(&lanes[i].ends[0]);
        pair_close(&lanes[i].ends[1]);
    }
}

Test(wake, two_lanes_on_two_cpus_get_on) {
    two_lanes(2);
}

Test(wake, two_lanes_on_one_cpu_get_on) {
    two_lanes(1);
}
