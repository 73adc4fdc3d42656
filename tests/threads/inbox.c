/* SPDX-License-Identifier: MIT */
/*
 * Messages from other threads to a ring's owner: none is lost or doubled, each sender's order is
 * kept, a full inbox says so, a sleeping owner wakes, and an idle one really sleeps.
 */
#include "check.h"

#include "support/scale.h"
#include <errno.h>
#include <safering/safering.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define SENDERS 4u

static sr_ring *ring_create(uint32_t inbox_entries) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.inbox_entries = inbox_entries;
    sr_ring *ring = NULL;
    CHECK_EQ(sr_ring_create(&options, &ring), 0);
    return ring;
}

static sr_ring_stats ring_stats(sr_ring *ring) {
    sr_ring_stats stats = SR_RING_STATS_INIT;
    CHECK_EQ(sr_ring_get_stats(ring, &stats), 0);
    return stats;
}

/* ---- many senders ---------------------------------------------------------------------------- */

/* Not atomic: only the inbox orders what the sender writes before what the owner reads. */
struct letter {
    uint64_t words[2];
};

struct sender {
    sr_ring *ring;
    struct letter *letters;
    uint64_t count;
    uint32_t number;
    uint64_t full_count;
};

static void *send_letters(void *ctx) {
    struct sender *self = ctx;
    for (uint64_t i = 0; i < self->count; i++) {
        const uint64_t tag = ((uint64_t)self->number << 48) | i;
        self->letters[i] = (struct letter){{tag, ~tag}};
        int code = 0;
        while ((code = sr_inbox_post(self->ring, tag, &self->letters[i])) == SR_E_FULL) {
            self->full_count++;
            sched_yield();
        }
        CHECK_EQ(code, 0);
    }
    return NULL;
}

static void receive_in_order(sr_ring *ring, uint64_t per_sender) {
    uint64_t next[SENDERS] = {0};
    uint64_t received = 0;
    while (received < SENDERS * per_sender) {
        const sr_completion *completions = NULL;
        const int count = check_wait_one(ring, CHECK_PATIENCE_NS, &completions);
        CHECK(count > 0);
        for (int i = 0; i < count; i++) {
            const uint32_t sender = (uint32_t)(completions[i].tag >> 48);
            const struct letter *letter = completions[i].ctx;
            CHECK_EQ(completions[i].flags, SR_COMPLETION_INBOX);
            CHECK_EQ(completions[i].op.bits, 0);
            CHECK(sender < SENDERS);
            CHECK_EQ(completions[i].tag & ((UINT64_C(1) << 48) - 1), next[sender]);
            CHECK(letter->words[0] == completions[i].tag &&
                  letter->words[1] == ~completions[i].tag);
            next[sender]++;
        }
        received += (uint64_t)count;
    }
    CHECK_EQ(sr_ring_wait(ring, 0, 0, NULL, NULL), 0); /* and not one more */
    CHECK_EQ(ring_stats(ring).inbox_received_total, SENDERS * per_sender);
}

static void no_message_is_lost_and_each_sender_keeps_its_order(void) {
    struct sender senders[SENDERS];
    pthread_t threads[SENDERS];
    sr_ring *ring = ring_create(64);
    const uint64_t per_sender = scale_count(50000, 1000);
    for (uint32_t i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.ring = ring, .count = per_sender, .number = i};
        senders[i].letters = calloc(per_sender, sizeof(struct letter));
        CHECK(senders[i].letters != NULL);
        threads[i] = check_thread_start(send_letters, &senders[i]);
    }
    receive_in_order(ring, per_sender);
    for (uint32_t i = 0; i < SENDERS; i++) {
        check_thread_join(threads[i]);
        free(senders[i].letters);
    }
    CHECK_EQ(sr_ring_destroy(&ring), 0);
}

/* The places wrap all the time, and the sender waits for the owner. */
static void the_smallest_inbox_works(void) {
    struct letter letters[64];
    struct sender sender = {.letters = letters, .count = 64};
    uint64_t next = 0;
    sr_ring *ring = ring_create(2);
    sender.ring = ring;
    const pthread_t thread = check_thread_start(send_letters, &sender);
    while (next < sender.count) {
        const sr_completion *completions = NULL;
        const int count = check_wait_one(ring, CHECK_PATIENCE_NS, &completions);
        CHECK(count > 0);
        for (int i = 0; i < count; i++) {
            CHECK_EQ(completions[i].tag, next);
            next++;
        }
    }
    check_thread_join(thread);
    CHECK_EQ(sr_ring_destroy(&ring), 0);
}

/* ---- back-pressure --------------------------------------------------------------------------- */

static void a_full_inbox_refuses_and_takes_again_after_a_wait(void) {
    const uint32_t entries = 16;
    sr_ring *ring = ring_create(entries);
    for (uint32_t round = 0; round < 5; round++) { /* the places wrap */
        for (uint32_t i = 0; i < entries; i++) {
            CHECK_EQ(sr_inbox_post(ring, i, &ring), 0);
        }
        CHECK_EQ(sr_inbox_post(ring, 99, NULL), SR_E_FULL);
        CHECK_EQ(sr_inbox_post(ring, 99, NULL), SR_E_FULL);
        const sr_completion *completions = NULL;
        CHECK_EQ(check_wait_one(ring, CHECK_PATIENCE_NS, &completions), entries);
        for (uint32_t i = 0; i < entries; i++) {
            CHECK_EQ(completions[i].tag, i);
            CHECK(completions[i].ctx == &ring);
        }
    }
    CHECK_EQ(sr_ring_destroy(&ring), 0);
}

static void more_messages_than_completions_max_come_in_several_waits(void) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.inbox_entries = 64;
    options.completions_max = 10;
    sr_ring *ring = NULL;
    uint64_t next = 0;
    CHECK_EQ(sr_ring_create(&options, &ring), 0);
    for (uint64_t i = 0; i < 64; i++) {
        CHECK_EQ(sr_inbox_post(ring, i, NULL), 0);
    }
    while (next < 64) {
        const sr_completion *completions = NULL;
        const int count = check_wait_one(ring, CHECK_PATIENCE_NS, &completions);
        CHECK(count > 0 && count <= 10);
        for (int i = 0; i < count; i++) {
            CHECK_EQ(completions[i].tag, next);
            next++;
        }
    }
    CHECK_EQ(sr_ring_destroy(&ring), 0);
}

/* ---- sleeping and waking --------------------------------------------------------------------- */

struct late_sender {
    sr_ring *ring;
    uint32_t count;
    long pause_ms;
};

static void *send_slowly(void *ctx) {
    const struct late_sender *self = ctx;
    for (uint32_t i = 0; i < self->count; i++) {
        check_sleep_ms(self->pause_ms);
        CHECK_EQ(sr_inbox_post(self->ring, i, NULL), 0);
    }
    return NULL;
}

static void a_sleeping_owner_wakes_for_messages(void) {
    struct late_sender sender = {ring_create(16), 20, 10};
    const uint64_t enters_before = ring_stats(sender.ring).enters_total;
    const pthread_t thread = check_thread_start(send_slowly, &sender);
    for (uint32_t next = 0; next < sender.count;) {
        const sr_completion *completions = NULL;
        const int count = check_wait_one(sender.ring, SR_FOREVER, &completions);
        CHECK(count >= 1); /* more than one if this thread had no CPU for a while */
        for (int i = 0; i < count; i++) {
            CHECK_EQ(completions[i].tag, next++);
        }
    }
    check_thread_join(thread);
    const sr_ring_stats stats = ring_stats(sender.ring);
    CHECK(stats.inbox_wakeups_total >= 1);
    CHECK(stats.inbox_wakeups_total <= sender.count);
    /* One enter to sleep and perhaps one more: no spinning. */
    CHECK(stats.enters_total - enters_before <= 3 * sender.count);
    CHECK_EQ(sr_ring_destroy(&sender.ring), 0);
}

static uint64_t thread_cpu_ns(void) {
    struct timespec used;
    CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used) == 0);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static void an_idle_owner_sleeps(void) {
    sr_ring *ring = ring_create(16);
    const uint64_t enters_before = ring_stats(ring).enters_total;
    const uint64_t cpu_before = thread_cpu_ns();
    const uint64_t begin_ns = check_now_ns();
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQ(sr_ring_wait(ring, 1, 100000000, NULL, NULL), SR_E_TIMEOUT);
    }
    CHECK(check_now_ns() - begin_ns >= 300000000);
    CHECK(ring_stats(ring).enters_total - enters_before <= 6);
    CHECK(thread_cpu_ns() - cpu_before < 100000000);
    /* A message that was there before the wait needs no wake-up, one after a time-out still one. */
    CHECK_EQ(sr_inbox_post(ring, 5, NULL), 0);
    CHECK_EQ(sr_ring_wait(ring, 1, 0, NULL, NULL), 1);
    struct late_sender sender = {ring, 1, 20};
    const pthread_t thread = check_thread_start(send_slowly, &sender);
    CHECK_EQ(sr_ring_wait(ring, 1, CHECK_PATIENCE_NS, NULL, NULL), 1);
    check_thread_join(thread);
    CHECK_EQ(sr_ring_destroy(&ring), 0);
}

static void messages_to_an_owner_that_is_awake_cost_no_wake_up(void) {
    sr_ring *ring = ring_create(256);
    for (uint64_t i = 0; i < 200; i++) {
        CHECK_EQ(sr_inbox_post(ring, i, NULL), 0);
    }
    CHECK_EQ(sr_ring_wait(ring, 200, CHECK_PATIENCE_NS, NULL, NULL), 200);
    CHECK_EQ(ring_stats(ring).inbox_wakeups_total, 0);
    CHECK_EQ(sr_ring_destroy(&ring), 0);
}

/* ---- one message at a time: a lost wake-up would hang ---------------------------------------- */

struct rally {
    sr_ring *there;
    sr_ring *back;
    pthread_barrier_t step;
    uint64_t rounds;
};

static void play(sr_ring *mine, sr_ring *other, uint64_t rounds, bool serves) {
    for (uint64_t i = 0; i < rounds; i++) {
        const sr_completion *completions = NULL;
        if (serves) {
            CHECK_EQ(sr_inbox_post(other, i, NULL), 0);
        }
        CHECK_EQ(check_wait_one(mine, CHECK_PATIENCE_NS, &completions), 1);
        CHECK_EQ(completions[0].tag, i);
        if (!serves) {
            CHECK_EQ(sr_inbox_post(other, i, NULL), 0);
        }
    }
}

static void *play_back(void *ctx) {
    struct rally *rally = ctx;
    rally->back = ring_create(2);
    pthread_barrier_wait(&rally->step);
    play(rally->back, rally->there, rally->rounds, false);
    pthread_barrier_wait(&rally->step);
    CHECK_EQ(sr_ring_destroy(&rally->back), 0);
    return NULL;
}

static void no_wake_up_is_lost_in_a_rally(void) {
    struct rally rally = {.there = ring_create(2), .rounds = scale_count(20000, 500)};
    CHECK_EQ(pthread_barrier_init(&rally.step, NULL, 2), 0);
    const pthread_t thread = check_thread_start(play_back, &rally);
    pthread_barrier_wait(&rally.step);
    play(rally.there, rally.back, rally.rounds, true);
    pthread_barrier_wait(&rally.step);
    check_thread_join(thread);
    CHECK_EQ(sr_ring_destroy(&rally.there), 0);
    CHECK_EQ(pthread_barrier_destroy(&rally.step), 0);
}

/* ---- beside operations ----------------------------------------------------------------------- */

static void messages_and_operations_come_out_of_the_same_wait(void) {
    struct late_sender sender = {ring_create(16), 5, 4};
    uint32_t operations = 0;
    uint32_t messages = 0;
    uint32_t seen = 0; /* a bit per operation */
    const pthread_t thread = check_thread_start(send_slowly, &sender);
    for (uint64_t i = 0; i < 5; i++) {
        sr_request request = SR_REQUEST_INIT;
        request.op = SR_OP_TIMEOUT;
        request.duration_ns = (i + 1) * 3000000;
        request.tag = 100 + i;
        CHECK_EQ(sr_ring_submit(sender.ring, &request, NULL), 0);
    }
    while (operations < 5 || messages < 5) {
        const sr_completion *completions = NULL;
        const int count = check_wait_one(sender.ring, CHECK_PATIENCE_NS, &completions);
        CHECK(count > 0);
        for (int i = 0; i < count; i++) {
            if ((completions[i].flags & SR_COMPLETION_INBOX) != 0) {
                CHECK_EQ(completions[i].tag, messages);
                messages++;
            } else {
                /* Two that are due when the owner looks come in either order (Linux 6.1). */
                const uint64_t which = completions[i].tag - 100;
                CHECK(which < 5 && (seen & (1u << which)) == 0);
                CHECK_EQ(completions[i].result, 0);
                seen |= 1u << which;
                operations++;
            }
        }
    }
    check_thread_join(thread);
    CHECK_EQ(ring_stats(sender.ring).completions_unknown_total, 0);
    CHECK_EQ(ring_stats(sender.ring).completions_stale_total, 0);
    CHECK_EQ(sr_ring_destroy(&sender.ring), 0);
}

static void a_ring_without_an_inbox_or_no_ring_is_refused(void) {
    sr_ring *ring = ring_create(0);
    CHECK_EQ(sr_inbox_post(ring, 0, NULL), SR_E_STATE);
    CHECK_EQ(sr_inbox_post(NULL, 0, NULL), SR_E_OBJECT);
    /* One place could not tell a message that was read from one that was not. */
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    sr_ring *none = ring;
    options.inbox_entries = 1;
    CHECK_EQ(sr_ring_create(&options, &none), SR_E_BOUNDS);
    CHECK(none == NULL);
    CHECK_EQ(sr_ring_wait(ring, 1, SR_FOREVER, NULL, NULL), SR_E_IDLE);
    CHECK_EQ(sr_ring_destroy(&ring), 0);
}

static void messages_that_nobody_took_go_with_the_ring(void) {
    sr_ring *ring = ring_create(16);
    for (uint32_t i = 0; i < 16; i++) {
        CHECK_EQ(sr_inbox_post(ring, i, NULL), 0);
    }
    CHECK_EQ(sr_ring_destroy(&ring), 0);
    ring = ring_create(16);
    CHECK_EQ(sr_ring_wait(ring, 1, 1000000, NULL, NULL), SR_E_TIMEOUT); /* the wake-up is armed */
    CHECK_EQ(sr_inbox_post(ring, 1, NULL), 0);
    CHECK_EQ(sr_ring_destroy(&ring), 0);
}

int main(void) {
    RUN(a_ring_without_an_inbox_or_no_ring_is_refused);
    RUN(a_full_inbox_refuses_and_takes_again_after_a_wait);
    RUN(more_messages_than_completions_max_come_in_several_waits);
    RUN(messages_that_nobody_took_go_with_the_ring);
    RUN(messages_to_an_owner_that_is_awake_cost_no_wake_up);
    RUN_UNLESS_VALGRIND(a_sleeping_owner_wakes_for_messages);
    RUN_UNLESS_VALGRIND(an_idle_owner_sleeps);
    RUN(the_smallest_inbox_works);
    RUN(messages_and_operations_come_out_of_the_same_wait);
    RUN(no_wake_up_is_lost_in_a_rally);
    RUN(no_message_is_lost_and_each_sender_keeps_its_order);
    return 0;
}
