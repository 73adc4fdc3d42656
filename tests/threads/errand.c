/* SPDX-License-Identifier: MIT */
/*
 * Errands of many threads and one owner: each is done once or withdrawn, none is lost, and the
 * owner writes to no memory of a thread that has left. The owner is slow now and then, and the
 * threads are impatient, so that they withdraw in every state.
 */
#include "check.h"

#include "ipc/errand.h"
#include "support/scale.h"
#include "sys/clock.h"
#include "sys/owner.h"

#include <stdbool.h>
#include <string.h>

#define SLOTS   3u
#define THREADS 4u
#define WORDS   32u

/* What lies beside an errand: the number that is asked about, and where the answer goes. */
struct question {
    uint64_t number;
    uint64_t *words;
};

static struct scene {
    struct sri_errands errands;
    struct question questions[SLOTS];
    bool under_way[SLOTS]; /* the owner's */
    uint64_t owner_key;
    uint64_t rounds;
    _Atomic uint32_t threads_left;
    _Atomic uint64_t ended;
    _Atomic uint64_t withdrawn;
    _Atomic uint64_t refused;
    uint64_t begun; /* the owner's count */
    uint64_t answered;
} scene;

static void answer(uint32_t slot) {
    const struct question question = scene.questions[slot];
    for (uint32_t i = 0; i < WORDS; i++) {
        question.words[i] = question.number + i;
    }
    scene.answered++;
    sri_errand_end(&scene.errands, slot);
}

static void begin(uint32_t slot) {
    scene.begun++;
    CHECK(!scene.under_way[slot]);
    if (scene.questions[slot].number % 4 == 0) {
        answer(slot); /* at once */
    } else {
        scene.under_way[slot] = true;
        sri_errand_go_on(&scene.errands, slot);
    }
}

static void work(void) {
    uint32_t next = SRI_ERRAND_NONE;
    for (uint32_t slot = sri_errands_take(&scene.errands); slot != SRI_ERRAND_NONE; slot = next) {
        next = sri_errand_next(&scene.errands, slot);
        if (sri_errand_begin(&scene.errands, slot)) {
            begin(slot);
        }
    }
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        if (scene.under_way[slot]) {
            scene.under_way[slot] = false;
            if (sri_errand_begin_end(&scene.errands, slot)) {
                answer(slot);
            }
        }
    }
}

/* One errand, with its answer on this stack. */
static void run_errand(uint64_t number) {
    uint64_t words[WORDS] = {0};
    const uint32_t slot = sri_errand_acquire(&scene.errands);
    if (slot == SRI_ERRAND_NONE) {
        atomic_fetch_add(&scene.refused, 1);
        (void)sched_yield();
        return;
    }
    CHECK(slot < SLOTS);
    scene.questions[slot] = (struct question){number, words};
    sri_errand_post(&scene.errands, slot);
    const uint64_t end_ns = number % 3 == 0 ? sri_clock_now_ns() + number % 7 * 10000 : UINT64_MAX;
    const int code = sri_errand_wait(&scene.errands, slot, end_ns, scene.owner_key);
    if (code < 0) {
        CHECK_EQ(code, SR_E_TIMEOUT);
        CHECK(end_ns != UINT64_MAX);
        CHECK(sri_clock_now_ns() >= end_ns);
        /* Nobody writes here any more. */
        memset(words, 0, sizeof words);
        for (uint32_t i = 0; i < WORDS; i++) {
            CHECK_EQ(words[i], 0);
        }
        atomic_fetch_add(&scene.withdrawn, 1);
        return;
    }
    for (uint32_t i = 0; i < WORDS; i++) {
        CHECK_EQ(words[i], number + i);
    }
    sri_errand_release(&scene.errands, slot);
    atomic_fetch_add(&scene.ended, 1);
}

static void *run_errands(void *ctx) {
    const uint64_t first = *(const uint64_t *)ctx;
    for (uint64_t i = 0; i < scene.rounds; i++) {
        run_errand(first + i);
    }
    atomic_fetch_sub(&scene.threads_left, 1);
    return NULL;
}

static void no_errand_is_lost_or_done_twice(void) {
    pthread_t threads[THREADS];
    uint64_t firsts[THREADS];
    scene.rounds = scale_count(20000, 500);
    scene.owner_key = sri_owner_key_make();
    CHECK_EQ(sri_errands_init(&scene.errands, SLOTS), 0);
    atomic_store(&scene.threads_left, THREADS);
    for (uint32_t i = 0; i < THREADS; i++) {
        firsts[i] = (i + 1) * UINT64_C(1000000000);
        threads[i] = check_thread_start(run_errands, &firsts[i]);
    }
    for (uint64_t turn = 0; atomic_load(&scene.threads_left) > 0; turn++) {
        work();
        if (turn % 64 == 0) {
            (void)sched_yield();
        }
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        check_thread_join(threads[i]);
    }
    work(); /* what was withdrawn is freed when the owner comes upon it */
    CHECK(!sri_errands_are_posted(&scene.errands));
    for (uint32_t i = 0; i < SLOTS; i++) {
        CHECK(sri_errand_acquire(&scene.errands) != SRI_ERRAND_NONE);
    }
    CHECK_EQ(sri_errand_acquire(&scene.errands), SRI_ERRAND_NONE);
    CHECK_EQ(scene.ended + scene.withdrawn + scene.refused, THREADS * scene.rounds);
    CHECK_EQ(scene.answered, scene.ended);
    CHECK(scene.begun >= scene.ended);
    fprintf(stderr, "    %llu ended, %llu withdrawn, %llu found no slot\n",
            (unsigned long long)scene.ended, (unsigned long long)scene.withdrawn,
            (unsigned long long)scene.refused);
    CHECK(scene.ended > 0);
    CHECK(scene.withdrawn > 0);
    sri_errands_deinit(&scene.errands);
}

/* ---- an owner that ends ---------------------------------------------------------------------- */

static void *own_for_a_moment(void *ctx) {
    uint64_t *key = ctx;
    *key = sri_owner_key_make();
    return NULL;
}

static void an_owner_that_ends_leaves_nobody_waiting(void) {
    struct sri_errands errands;
    uint64_t key = 0;
    check_in_thread(own_for_a_moment, &key);
    CHECK_EQ(sri_errands_init(&errands, 1), 0);
    const uint32_t slot = sri_errand_acquire(&errands);
    CHECK_EQ(slot, 0);
    sri_errand_post(&errands, slot);
    CHECK_EQ(sri_errand_wait(&errands, slot, UINT64_MAX, key), SR_E_PEER_DIED);
    sri_errands_deinit(&errands);
}

int main(void) {
    RUN(no_errand_is_lost_or_done_twice);
    RUN(an_owner_that_ends_leaves_nobody_waiting);
    return 0;
}
