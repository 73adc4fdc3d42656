/* SPDX-License-Identifier: MIT */
/*
 * Rings that move between threads: one thread gets a released ring, everything that the last owner
 * wrote is there, and meanwhile others post messages and give buffers back.
 */
#include "check.h"

#include "support/scale.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define OWNERS 3u

/* What moves. The plain fields are ordered by release and adopt alone. */
struct caravan {
    sr_ring *ring;
    sr_pool *pool;
    sr_buffer_ring *buffer_ring;
    sr_file socket;
    int peer;
    uint64_t moves; /* not atomic on purpose */
    uint64_t moves_max;
    uint64_t messages; /* received from the inbox, not atomic on purpose */
    uint64_t next_message;
    _Atomic uint64_t refused;
    _Atomic bool over;        /* for owners and the poster */
    _Atomic bool owners_gone; /* for the releaser: an owner may hand out a buffer when it is over */
    _Atomic uint64_t buffers_out;         /* given to the thread that releases them */
    _Atomic(struct caravan_buffer *) out; /* one at a time */
};

struct caravan_buffer {
    sr_buffer buffer;
};

static void caravan_begin(struct caravan *caravan) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    sr_pool_options pool_options = SR_POOL_OPTIONS_INIT;
    sr_buffer_ring_options buffer_options = SR_BUFFER_RING_OPTIONS_INIT;
    int ends[2];
    options.inbox_entries = 64;
    CHECK_EQ(sr_ring_create(&options, &caravan->ring), 0);
    pool_options.buffer_size_bytes = 64;
    pool_options.buffer_count = 64;
    CHECK_EQ(sr_pool_create(NULL, &pool_options, &caravan->pool), 0);
    CHECK(sr_ring_attach_pool(caravan->ring, caravan->pool) >= 0);
    buffer_options.entries = 4;
    CHECK_EQ(
        sr_buffer_ring_create(caravan->ring, caravan->pool, &buffer_options, &caravan->buffer_ring),
        0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    CHECK_EQ(sr_file_adopt(caravan->ring, ends[0], 0, &caravan->socket), 0);
    caravan->peer = ends[1];
}

static void caravan_end(struct caravan *caravan) {
    CHECK_EQ(sr_ring_destroy(&caravan->ring), 0);
    CHECK_EQ(sr_pool_destroy(&caravan->pool), 0);
    CHECK_EQ(close(caravan->peer), 0);
}

static void take_messages(struct caravan *caravan, const sr_completion *list, int count) {
    for (int i = 0; i < count; i++) {
        CHECK((list[i].flags & SR_COMPLETION_INBOX) != 0);
        CHECK_EQ(list[i].tag, caravan->next_message);
        caravan->next_message++;
        caravan->messages++;
    }
}

/* One message over the socket, by the buffer ring; what the inbox has comes beside it. */
static void receive_one(struct caravan *caravan) {
    sr_request request = SR_REQUEST_INIT;
    sr_op op;
    bool received = false;
    request.op = SR_OP_RECV;
    request.file = caravan->socket;
    request.buffer_ring = caravan->buffer_ring;
    CHECK_EQ(sr_ring_submit(caravan->ring, &request, &op), 0);
    CHECK_EQ(send(caravan->peer, &caravan->moves, sizeof caravan->moves, 0), sizeof caravan->moves);
    while (!received) {
        const sr_completion *list = NULL;
        const int count = sr_ring_wait(caravan->ring, 1, CHECK_PATIENCE_NS, NULL, &list);
        CHECK(count > 0);
        for (int i = 0; i < count; i++) {
            if (list[i].op.bits != op.bits) {
                take_messages(caravan, &list[i], 1);
                continue;
            }
            void *bytes = NULL;
            CHECK_EQ(list[i].result, sizeof caravan->moves);
            CHECK_EQ(sr_buffer_data(caravan->pool, list[i].buffer, 0, sizeof caravan->moves,
                                    SR_ACCESS_READ, &bytes),
                     0);
            CHECK(memcmp(bytes, &caravan->moves, sizeof caravan->moves) == 0);
            CHECK_EQ(sr_buffer_ring_provide(caravan->buffer_ring, list[i].buffer), 0);
            received = true;
        }
    }
}

/* Hands a buffer to the thread that releases them, unless it still has one. */
static void hand_out_buffer(struct caravan *caravan, sr_thread releaser,
                            struct caravan_buffer *place) {
    if (atomic_load_explicit(&caravan->out, memory_order_acquire) != NULL ||
        sr_pool_acquire(caravan->pool, 1, &place->buffer) != 0) {
        return;
    }
    CHECK_EQ(sr_buffer_transfer(caravan->pool, place->buffer, releaser), 0);
    atomic_fetch_add(&caravan->buffers_out, 1);
    atomic_store_explicit(&caravan->out, place, memory_order_release);
}

struct owner {
    struct caravan *caravan;
    sr_thread releaser;
    struct caravan_buffer place;
};

/* Tries to adopt the ring, uses it, releases it. No other synchronisation. */
static void *own_now_and_then(void *ctx) {
    struct owner *self = ctx;
    struct caravan *caravan = self->caravan;
    while (!atomic_load(&caravan->over)) {
        const int code = sr_ring_adopt(caravan->ring);
        if (code == SR_E_STATE) {
            atomic_fetch_add(&caravan->refused, 1);
            sched_yield();
            continue;
        }
        CHECK_EQ(code, 0);
        caravan->moves++;
        receive_one(caravan);
        hand_out_buffer(caravan, self->releaser, &self->place);
        const bool last = caravan->moves >= caravan->moves_max;
        CHECK_EQ(sr_ring_release(caravan->ring), 0);
        if (last) {
            atomic_store(&caravan->over, true);
        }
        /* Its place may be in the releaser's hands: not before it is empty. */
        while (atomic_load_explicit(&caravan->out, memory_order_acquire) == &self->place) {
            sched_yield();
        }
    }
    return NULL;
}

struct poster {
    struct caravan *caravan;
    uint64_t posted;
};

static void *post_all_the_time(void *ctx) {
    struct poster *self = ctx;
    while (!atomic_load(&self->caravan->over)) {
        const int code = sr_inbox_post(self->caravan->ring, self->posted, NULL);
        CHECK(code == 0 || code == SR_E_FULL);
        self->posted += code == 0;
        if (code == SR_E_FULL) {
            sched_yield();
        }
    }
    return NULL;
}

struct releaser {
    struct caravan *caravan;
    _Atomic uint64_t thread;
    uint64_t released;
};

static void *release_what_comes(void *ctx) {
    struct releaser *self = ctx;
    atomic_store(&self->thread, sr_thread_self().bits);
    while (!atomic_load(&self->caravan->owners_gone)) {
        struct caravan_buffer *place =
            atomic_load_explicit(&self->caravan->out, memory_order_acquire);
        if (place == NULL) {
            sched_yield();
            continue;
        }
        CHECK_EQ(sr_pool_release(self->caravan->pool, place->buffer), 0);
        self->released++;
        atomic_store_explicit(&self->caravan->out, NULL, memory_order_release);
    }
    return NULL;
}

static void a_ring_goes_round_while_others_post_and_release(void) {
    struct caravan caravan = {.moves_max = scale_count(300, 20)};
    struct poster poster = {.caravan = &caravan};
    struct releaser releaser = {.caravan = &caravan};
    struct owner owners[OWNERS];
    pthread_t threads[OWNERS];
    caravan_begin(&caravan);
    const pthread_t releasing = check_thread_start(release_what_comes, &releaser);
    while (atomic_load(&releaser.thread) == 0) {
        sched_yield();
    }
    CHECK_EQ(sr_ring_release(caravan.ring), 0);
    const pthread_t posting = check_thread_start(post_all_the_time, &poster);
    for (uint32_t i = 0; i < OWNERS; i++) {
        owners[i] =
            (struct owner){.caravan = &caravan, .releaser = {atomic_load(&releaser.thread)}};
        threads[i] = check_thread_start(own_now_and_then, &owners[i]);
    }
    for (uint32_t i = 0; i < OWNERS; i++) {
        check_thread_join(threads[i]);
    }
    atomic_store(&caravan.owners_gone, true);
    check_thread_join(posting);
    check_thread_join(releasing);

    CHECK_EQ(sr_ring_adopt(caravan.ring), 0);
    CHECK(caravan.moves >= caravan.moves_max);
    for (int count = 1; count > 0;) {
        const sr_completion *list = NULL;
        count = sr_ring_wait(caravan.ring, 0, 0, NULL, &list);
        CHECK(count >= 0);
        take_messages(&caravan, list, count);
    }
    CHECK_EQ(caravan.messages, poster.posted);
    CHECK_EQ(releaser.released, atomic_load(&caravan.buffers_out));
    sr_pool_stats stats = SR_POOL_STATS_INIT;
    CHECK_EQ(sr_pool_get_stats(caravan.pool, &stats), 0);
    CHECK_EQ(stats.held_count, 4); /* in the buffer ring */
    fprintf(stderr, "    %llu moves, %llu attempts refused, %llu messages, %llu buffers\n",
            (unsigned long long)caravan.moves, (unsigned long long)atomic_load(&caravan.refused),
            (unsigned long long)caravan.messages, (unsigned long long)releaser.released);
    caravan_end(&caravan);
}

/* ---- adopting at once ------------------------------------------------------------------------ */

struct contender {
    sr_ring *ring;
    pthread_barrier_t *start;
    int code;
};

static void *contend(void *ctx) {
    struct contender *self = ctx;
    sr_ring *ring = self->ring;
    (void)sr_thread_self();
    (void)pthread_barrier_wait(self->start);
    self->code = sr_ring_adopt(ring);
    if (self->code == 0) {
        CHECK_EQ(sr_ring_flush(ring), 0);
        CHECK_EQ(sr_ring_thread(ring).bits, sr_thread_self().bits);
    }
    return NULL;
}

static void one_of_many_adopts(void) {
    const uint64_t rounds = scale_count(100, 5);
    pthread_barrier_t start;
    CHECK_EQ(pthread_barrier_init(&start, NULL, OWNERS), 0);
    for (uint64_t round = 0; round < rounds; round++) {
        struct contender contenders[OWNERS];
        pthread_t threads[OWNERS];
        uint32_t winners = 0;
        sr_ring *ring = NULL;
        CHECK_EQ(sr_ring_create(NULL, &ring), 0);
        CHECK_EQ(sr_ring_release(ring), 0);
        for (uint32_t i = 0; i < OWNERS; i++) {
            contenders[i] = (struct contender){.ring = ring, .start = &start};
            threads[i] = check_thread_start(contend, &contenders[i]);
        }
        for (uint32_t i = 0; i < OWNERS; i++) {
            check_thread_join(threads[i]);
            winners += contenders[i].code == 0;
            CHECK(contenders[i].code == 0 || contenders[i].code == SR_E_STATE);
        }
        CHECK_EQ(winners, 1);
        (void)sr_ring_destroy(&ring); /* the winner has ended: by way of the quarantine */
        CHECK(ring == NULL);
    }
    CHECK_EQ(sr_quarantine_sweep(CHECK_PATIENCE_NS), 0);
    CHECK_EQ(pthread_barrier_destroy(&start), 0);
}

int main(void) {
    RUN(one_of_many_adopts);
    RUN_UNLESS_VALGRIND(a_ring_goes_round_while_others_post_and_release);
    return 0;
}
