/* SPDX-License-Identifier: MIT */
/*
 * Buffers that the pool's owner acquires and other threads release: every one comes back, exactly
 * once, whoever else tries to release it too.
 */
#include "check.h"

#include "support/scale.h"
#include <safering/safering.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#define THREADS      4u
#define BUFFERS      64u
#define BUFFER_BYTES 256u
#define LANE_BUFFERS 16u

static sr_pool *pool_create(uint32_t guard) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    options.buffer_size_bytes = BUFFER_BYTES;
    options.buffer_count = BUFFERS;
    options.guard = guard;
    sr_pool *pool = NULL;
    CHECK_EQ(sr_pool_create(NULL, &options, &pool), 0);
    return pool;
}

static sr_pool_stats pool_stats(sr_pool *pool) {
    sr_pool_stats stats = SR_POOL_STATS_INIT;
    CHECK_EQ(sr_pool_get_stats(pool, &stats), 0);
    return stats;
}

/* The pool has all of its buffers: no more and no fewer can be acquired, and no two are the same.
 */
static void check_all_are_free(sr_pool *pool) {
    sr_buffer buffers[BUFFERS];
    sr_buffer one_more;
    uint8_t *memory[BUFFERS];
    CHECK_EQ(pool_stats(pool).free_count, BUFFERS);
    for (uint32_t i = 0; i < BUFFERS; i++) {
        void *data = NULL;
        CHECK_EQ(sr_pool_acquire(pool, BUFFER_BYTES, &buffers[i]), 0);
        CHECK_EQ(sr_buffer_data(pool, buffers[i], 0, BUFFER_BYTES, SR_ACCESS_WRITE, &data), 0);
        memory[i] = data;
        memset(memory[i], (int)i, BUFFER_BYTES);
    }
    CHECK_EQ(sr_pool_acquire(pool, 1, &one_more), SR_E_FULL);
    for (uint32_t i = 0; i < BUFFERS; i++) {
        CHECK(memory[i][0] == (uint8_t)i && memory[i][BUFFER_BYTES - 1] == (uint8_t)i);
        CHECK_EQ(sr_pool_release(pool, buffers[i]), 0);
    }
    CHECK_EQ(pool_stats(pool).held_count, 0);
}

/* ---- many threads ---------------------------------------------------------------------------- */

/* Buffers on their way to one thread. */
struct lane {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    sr_buffer buffers[LANE_BUFFERS];
    uint32_t count;
    bool closed;
};

struct releaser {
    sr_pool *pool;
    struct lane lane;
    _Atomic uint64_t thread_bits; /* 0 until the thread has said who it is */
    uint32_t number;
    uint64_t released_count;
};

static bool lane_put(struct lane *lane, sr_buffer buffer) {
    pthread_mutex_lock(&lane->mutex);
    const bool room = lane->count < LANE_BUFFERS;
    if (room) {
        lane->buffers[lane->count++] = buffer;
        pthread_cond_signal(&lane->changed);
    }
    pthread_mutex_unlock(&lane->mutex);
    return room;
}

static bool lane_take(struct lane *lane, sr_buffer *out_buffer) {
    pthread_mutex_lock(&lane->mutex);
    while (lane->count == 0 && !lane->closed) {
        pthread_cond_wait(&lane->changed, &lane->mutex);
    }
    const bool any = lane->count > 0;
    if (any) {
        *out_buffer = lane->buffers[--lane->count];
    }
    pthread_mutex_unlock(&lane->mutex);
    return any;
}

static void lane_close(struct lane *lane) {
    pthread_mutex_lock(&lane->mutex);
    lane->closed = true;
    pthread_cond_signal(&lane->changed);
    pthread_mutex_unlock(&lane->mutex);
}

static void *release_all_that_come(void *ctx) {
    struct releaser *self = ctx;
    sr_buffer buffer;
    atomic_store(&self->thread_bits, sr_thread_self().bits);
    while (lane_take(&self->lane, &buffer)) {
        void *data = NULL;
        uint64_t seen = 0;
        CHECK_EQ(sr_buffer_data(self->pool, buffer, 0, sizeof seen, SR_ACCESS_WRITE, &data), 0);
        memcpy(&seen, data, sizeof seen);
        CHECK(seen == buffer.bits); /* what the owner wrote arrived with the handle */
        memset(data, 0xff, sizeof seen);
        CHECK_EQ(sr_pool_release(self->pool, buffer), 0);
        CHECK_EQ(sr_pool_release(self->pool, buffer), SR_E_STALE);
        self->released_count++;
    }
    return NULL;
}

static bool send_one(sr_pool *pool, struct releaser *to) {
    sr_buffer buffer;
    void *data = NULL;
    const int code = sr_pool_acquire_for(pool, BUFFER_BYTES, to->number, &buffer);
    if (code == SR_E_FULL) {
        return false;
    }
    CHECK_EQ(code, 0);
    CHECK_EQ(sr_buffer_data(pool, buffer, 0, sizeof buffer.bits, SR_ACCESS_WRITE, &data), 0);
    memcpy(data, &buffer.bits, sizeof buffer.bits);
    const sr_thread thread = {atomic_load(&to->thread_bits)};
    CHECK_EQ(sr_buffer_transfer(pool, buffer, thread), 0);
    CHECK_EQ(sr_pool_release(pool, buffer), SR_E_WRONG_THREAD);
    while (!lane_put(&to->lane, buffer)) {
        sched_yield();
    }
    return true;
}

static void each_buffer_that_another_thread_releases_comes_back(uint32_t guard) {
    static struct releaser releasers[THREADS];
    pthread_t threads[THREADS];
    sr_pool *pool = pool_create(guard);
    const uint64_t total = scale_count(200000, 2000);
    for (uint32_t t = 0; t < THREADS; t++) {
        releasers[t] = (struct releaser){.pool = pool, .number = t + 1};
        CHECK_EQ(pthread_mutex_init(&releasers[t].lane.mutex, NULL), 0);
        CHECK_EQ(pthread_cond_init(&releasers[t].lane.changed, NULL), 0);
        threads[t] = check_thread_start(release_all_that_come, &releasers[t]);
        while (atomic_load(&releasers[t].thread_bits) == 0) {
            sched_yield();
        }
    }
    for (uint64_t sent = 0; sent < total;) {
        if (send_one(pool, &releasers[sent % THREADS])) {
            sent++;
        } else {
            sched_yield(); /* all are on their way */
        }
    }
    uint64_t released = 0;
    for (uint32_t t = 0; t < THREADS; t++) {
        lane_close(&releasers[t].lane);
        check_thread_join(threads[t]);
        released += releasers[t].released_count;
    }
    CHECK_EQ(released, total);
    CHECK_EQ(pool_stats(pool).acquired_total, total);
    CHECK_EQ(pool_stats(pool).released_total, total);
    CHECK_EQ(pool_stats(pool).released_remote_total, total);
    check_all_are_free(pool);
    for (uint32_t t = 0; t < THREADS; t++) {
        uint64_t bytes = 1;
        CHECK_EQ(sr_pool_account_bytes(pool, t + 1, &bytes), 0);
        CHECK_EQ(bytes, 0);
    }
    CHECK_EQ(pool_stats(pool).overruns_total, 0);
    CHECK_EQ(sr_pool_destroy(&pool), 0);
}

static void unguarded_buffers_come_back(void) {
    each_buffer_that_another_thread_releases_comes_back(SR_GUARD_OFF);
}

static void guarded_buffers_come_back(void) {
    each_buffer_that_another_thread_releases_comes_back(SR_GUARD_POISON);
}

/* ---- several release the same buffer --------------------------------------------------------- */

struct race {
    sr_pool *pool;
    pthread_barrier_t start;
    pthread_barrier_t finish;
    sr_buffer buffer; /* the one of this round */
    bool over;
    _Atomic uint64_t thread_bits[THREADS];
    _Atomic uint32_t winners;
    _Atomic uint32_t losers;
};

struct racer {
    struct race *race;
    uint32_t number;
};

static void *race_to_release(void *ctx) {
    const struct racer *self = ctx;
    struct race *race = self->race;
    atomic_store(&race->thread_bits[self->number], sr_thread_self().bits);
    for (;;) {
        pthread_barrier_wait(&race->start);
        if (race->over) {
            return NULL;
        }
        const int code = sr_pool_release(race->pool, race->buffer);
        CHECK(code == 0 || code == SR_E_STALE || code == SR_E_WRONG_THREAD);
        atomic_fetch_add(code == 0 ? &race->winners : &race->losers, 1);
        pthread_barrier_wait(&race->finish);
    }
}

/* Takes and gives back buffers, so that what the racers release is reclaimed and handed out again
 * while the losers still try. */
static void churn(sr_pool *pool) {
    sr_buffer buffers[BUFFERS];
    uint32_t count = 0;
    while (count < BUFFERS && sr_pool_acquire(pool, 1, &buffers[count]) == 0) {
        count++;
    }
    while (count > 0) {
        CHECK_EQ(sr_pool_release(pool, buffers[--count]), 0);
    }
}

static void of_threads_that_release_the_same_buffer_one_wins(void) {
    static struct race race;
    struct racer racers[THREADS];
    pthread_t threads[THREADS];
    sr_pool *pool = pool_create(SR_GUARD_OFF);
    const uint64_t rounds = scale_count(5000, 200);
    race.pool = pool;
    CHECK_EQ(pthread_barrier_init(&race.start, NULL, THREADS + 1), 0);
    CHECK_EQ(pthread_barrier_init(&race.finish, NULL, THREADS + 1), 0);
    for (uint32_t t = 0; t < THREADS; t++) {
        racers[t] = (struct racer){&race, t};
        threads[t] = check_thread_start(race_to_release, &racers[t]);
        while (atomic_load(&race.thread_bits[t]) == 0) {
            sched_yield();
        }
    }
    for (uint64_t round = 0; round < rounds; round++) {
        CHECK_EQ(sr_pool_acquire(pool, 1, &race.buffer), 0);
        const sr_thread holder = {atomic_load(&race.thread_bits[round % THREADS])};
        CHECK_EQ(sr_buffer_transfer(pool, race.buffer, holder), 0);
        atomic_store(&race.winners, 0);
        atomic_store(&race.losers, 0);
        pthread_barrier_wait(&race.start);
        churn(pool);
        pthread_barrier_wait(&race.finish);
        CHECK_EQ(atomic_load(&race.winners), 1);
        CHECK_EQ(atomic_load(&race.losers), THREADS - 1);
    }
    race.over = true;
    pthread_barrier_wait(&race.start);
    for (uint32_t t = 0; t < THREADS; t++) {
        check_thread_join(threads[t]);
    }
    check_all_are_free(pool);
    CHECK_EQ(sr_pool_destroy(&pool), 0);
}

/* ---- stale handles that another thread keeps ------------------------------------------------- */

#define KEPT 128u

struct keeper {
    sr_pool *pool;
    _Atomic uint64_t kept[KEPT]; /* of buffers that may be released at any moment */
    _Atomic bool over;
    _Atomic uint64_t tries;
};

static void *release_what_is_not_mine(void *ctx) {
    struct keeper *keeper = ctx;
    (void)sr_thread_self();
    for (uint32_t i = 0; !atomic_load(&keeper->over); i = (i + 1) % KEPT) {
        const sr_buffer buffer = {atomic_load_explicit(&keeper->kept[i], memory_order_relaxed)};
        void *data = NULL;
        int code = sr_pool_release(keeper->pool, buffer);
        CHECK(code == SR_E_STALE || code == SR_E_WRONG_THREAD);
        code = sr_buffer_data(keeper->pool, buffer, 0, 1, SR_ACCESS_READ, &data);
        CHECK((code == SR_E_STALE || code == SR_E_WRONG_THREAD) && data == NULL);
        code = sr_buffer_transfer(keeper->pool, buffer, sr_thread_self());
        CHECK(code == SR_E_STALE || code == SR_E_WRONG_THREAD);
        atomic_fetch_add(&keeper->tries, 1);
    }
    return NULL;
}

static void handles_that_a_stranger_keeps_do_nothing(void) {
    static struct keeper keeper;
    sr_pool *pool = pool_create(SR_GUARD_OFF);
    keeper.pool = pool;
    const pthread_t stranger = check_thread_start(release_what_is_not_mine, &keeper);
    const uint64_t rounds = scale_count(200000, 4000);
    for (uint64_t round = 0; round < rounds; round++) {
        sr_buffer buffer;
        void *data = NULL;
        CHECK_EQ(sr_pool_acquire(pool, BUFFER_BYTES, &buffer), 0);
        atomic_store_explicit(&keeper.kept[round % KEPT], buffer.bits, memory_order_relaxed);
        CHECK_EQ(sr_buffer_data(pool, buffer, 0, BUFFER_BYTES, SR_ACCESS_WRITE, &data), 0);
        memset(data, (int)round, BUFFER_BYTES);
        CHECK_EQ(sr_pool_release(pool, buffer), 0);
    }
    while (atomic_load(&keeper.tries) < 1000) {
        sched_yield();
    }
    atomic_store(&keeper.over, true);
    check_thread_join(stranger);
    CHECK_EQ(pool_stats(pool).released_remote_total, 0);
    check_all_are_free(pool);
    CHECK_EQ(sr_pool_destroy(&pool), 0);
}

/* ---- on the remote list ---------------------------------------------------------------------- */

struct handover {
    sr_pool *pool;
    sr_buffer buffer;
    sr_thread thread;
    pthread_barrier_t step;
};

static void *release_when_told(void *ctx) {
    struct handover *handover = ctx;
    handover->thread = sr_thread_self();
    pthread_barrier_wait(&handover->step);
    pthread_barrier_wait(&handover->step); /* the owner transfers */
    CHECK_EQ(sr_pool_release(handover->pool, handover->buffer), 0);
    return NULL;
}

static void a_buffer_on_the_remote_list_is_stale_free_and_still_charged(void) {
    struct handover handover = {.pool = pool_create(SR_GUARD_OFF)};
    uint64_t bytes = 0;
    CHECK_EQ(pthread_barrier_init(&handover.step, NULL, 2), 0);
    CHECK_EQ(sr_pool_acquire_for(handover.pool, 1, 7, &handover.buffer), 0);
    const pthread_t thread = check_thread_start(release_when_told, &handover);
    pthread_barrier_wait(&handover.step);
    CHECK_EQ(sr_buffer_transfer(handover.pool, handover.buffer, handover.thread), 0);
    pthread_barrier_wait(&handover.step);
    check_thread_join(thread);
    CHECK_EQ(sr_pool_release(handover.pool, handover.buffer), SR_E_STALE);
    CHECK_EQ(pool_stats(handover.pool).free_count, BUFFERS);
    CHECK_EQ(pool_stats(handover.pool).held_count, 0);
    CHECK_EQ(sr_pool_account_bytes(handover.pool, 7, &bytes), 0);
    CHECK_EQ(bytes, BUFFER_BYTES);
    check_all_are_free(handover.pool); /* drains the list */
    CHECK_EQ(sr_pool_account_bytes(handover.pool, 7, &bytes), 0);
    CHECK_EQ(bytes, 0);
    CHECK_EQ(sr_pool_destroy(&handover.pool), 0);
    CHECK_EQ(pthread_barrier_destroy(&handover.step), 0);
}

int main(void) {
    RUN(a_buffer_on_the_remote_list_is_stale_free_and_still_charged);
    RUN(unguarded_buffers_come_back);
    RUN(guarded_buffers_come_back);
    RUN(of_threads_that_release_the_same_buffer_one_wins);
    RUN(handles_that_a_stranger_keeps_do_nothing);
    return 0;
}
