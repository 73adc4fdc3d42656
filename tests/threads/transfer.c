/* SPDX-License-Identifier: MIT */
/*
 * Buffers that travel from thread to thread. One pool is attached to the rings of all of them; each
 * thread writes what it got to a file, wipes the buffer, reads it back, changes it and hands it on
 * through the next ring's inbox. Every hop is checked: contents, who may use the buffer, counts.
 */
#include "check.h"

#include "support/scale.h"
#include <errno.h>
#include <fcntl.h>
#include <safering/safering.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define STATIONS     3u
#define TRAVELLERS   8u
#define BUFFER_BYTES 4096u

/* What a travelling buffer carries in its first bytes; the rest is a pattern out of these. */
struct luggage {
    uint64_t id;
    uint64_t hops;
};

struct station {
    sr_pool *pool;
    struct station *next;
    sr_ring *ring; /* made by the station's thread */
    pthread_barrier_t *ready;
    sr_file file;
    uint64_t hops_max;
    uint64_t handled_count;
    uint64_t arrived_count; /* travellers that ended here */
    _Atomic uint64_t *ended_count;
};

static uint8_t pattern_byte(const struct luggage *luggage, size_t offset) {
    return (uint8_t)(luggage->id * 31 + luggage->hops * 7 + offset + offset / 251);
}

static void pack(void *memory, const struct luggage *luggage) {
    uint8_t *bytes = memory;
    memcpy(bytes, luggage, sizeof *luggage);
    for (size_t i = sizeof *luggage; i < BUFFER_BYTES; i++) {
        bytes[i] = pattern_byte(luggage, i);
    }
}

static struct luggage unpack(const void *memory) {
    const uint8_t *bytes = memory;
    struct luggage luggage;
    memcpy(&luggage, bytes, sizeof luggage);
    for (size_t i = sizeof luggage; i < BUFFER_BYTES; i++) {
        CHECK_EQ(bytes[i], pattern_byte(&luggage, i));
    }
    return luggage;
}

static void *memory_of(sr_pool *pool, sr_buffer buffer) {
    void *data = NULL;
    CHECK_EQ(sr_buffer_data(pool, buffer, 0, BUFFER_BYTES, SR_ACCESS_WRITE, &data), 0);
    return data;
}

/* Waits for one operation; messages that come meanwhile stay in the inbox's order in @backlog. */
struct backlog {
    uint64_t tags[TRAVELLERS];
    uint32_t count;
};

static void transfer_bytes(struct station *self, uint16_t op, sr_buffer buffer, uint64_t offset,
                           struct backlog *backlog) {
    sr_request request = SR_REQUEST_INIT;
    bool ended = false;
    request.op = op;
    request.file = self->file;
    request.buffer = buffer;
    request.length = BUFFER_BYTES;
    request.offset = offset;
    CHECK_EQ(sr_ring_submit(self->ring, &request, NULL), 0);
    if (op == SR_OP_READ) {
        void *data = NULL;
        CHECK_EQ(sr_buffer_data(self->pool, buffer, 0, 1, SR_ACCESS_READ, &data), SR_E_LENT);
    }
    CHECK_EQ(sr_buffer_transfer(self->pool, buffer, sr_ring_thread(self->next->ring)),
             SR_E_IN_FLIGHT);
    CHECK_EQ(sr_pool_release(self->pool, buffer), SR_E_IN_FLIGHT);
    while (!ended) {
        const sr_completion *completions = NULL;
        const int count = check_wait_one(self->ring, CHECK_PATIENCE_NS, &completions);
        CHECK(count > 0);
        for (int i = 0; i < count; i++) {
            if ((completions[i].flags & SR_COMPLETION_INBOX) != 0) {
                CHECK(backlog->count < TRAVELLERS);
                backlog->tags[backlog->count++] = completions[i].tag;
            } else {
                CHECK_EQ(completions[i].result, BUFFER_BYTES);
                CHECK(completions[i].buffer.bits == buffer.bits);
                ended = true;
            }
        }
    }
}

static void handle(struct station *self, sr_buffer buffer, struct backlog *backlog) {
    void *memory = memory_of(self->pool, buffer);
    struct luggage luggage = unpack(memory);
    const uint64_t offset = luggage.id * BUFFER_BYTES;
    transfer_bytes(self, SR_OP_WRITE, buffer, offset, backlog);
    memset(memory_of(self->pool, buffer), 0, BUFFER_BYTES);
    transfer_bytes(self, SR_OP_READ, buffer, offset, backlog);
    const struct luggage back = unpack(memory_of(self->pool, buffer));
    CHECK(back.id == luggage.id && back.hops == luggage.hops);
    self->handled_count++;
    luggage.hops++;
    if (luggage.hops == self->hops_max) {
        CHECK_EQ(sr_pool_release(self->pool, buffer), 0);
        self->arrived_count++;
        atomic_fetch_add(self->ended_count, 1);
        return;
    }
    pack(memory_of(self->pool, buffer), &luggage);
    CHECK_EQ(sr_buffer_transfer(self->pool, buffer, sr_ring_thread(self->next->ring)), 0);
    /* From here on it is the next one's. */
    void *data = NULL;
    CHECK_EQ(sr_buffer_data(self->pool, buffer, 0, 1, SR_ACCESS_READ, &data), SR_E_WRONG_THREAD);
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_WRITE;
    request.file = self->file;
    request.buffer = buffer;
    request.length = 1;
    CHECK_EQ(sr_ring_submit(self->ring, &request, NULL), SR_E_WRONG_THREAD);
    CHECK_EQ(sr_inbox_post(self->next->ring, buffer.bits, NULL), 0);
}

static void station_open(struct station *self) {
    char path[] = "/tmp/safering-transfer-XXXXXX";
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.entries = 8;
    options.inbox_entries = 16;
    CHECK_EQ(sr_ring_create(&options, &self->ring), 0);
    CHECK(sr_ring_attach_pool(self->ring, self->pool) >= 0);
    const int fd = mkostemp(path, O_CLOEXEC);
    CHECK(fd >= 0 && unlink(path) == 0);
    CHECK_EQ(sr_file_adopt(self->ring, fd, 0, &self->file), 0);
}

/* Tag 0 is no buffer: all have arrived. */
static void *station_main(void *ctx) {
    struct station *self = ctx;
    struct backlog backlog = {.count = 0};
    bool over = false;
    station_open(self);
    pthread_barrier_wait(self->ready);
    while (!over) {
        const sr_completion *completions = NULL;
        const int count = check_wait_one(self->ring, CHECK_PATIENCE_NS, &completions);
        CHECK(count > 0);
        for (int i = 0; i < count; i++) {
            CHECK_EQ(completions[i].flags, SR_COMPLETION_INBOX);
            backlog.tags[backlog.count++] = completions[i].tag;
        }
        while (backlog.count > 0) {
            const uint64_t tag = backlog.tags[0];
            memmove(backlog.tags, backlog.tags + 1, --backlog.count * sizeof backlog.tags[0]);
            over = over || tag == 0;
            if (tag != 0) {
                handle(self, (sr_buffer){tag}, &backlog);
            }
        }
    }
    pthread_barrier_wait(self->ready); /* nobody posts to this ring any more */
    CHECK_EQ(sr_ring_detach_pool(self->ring, self->pool), 0);
    CHECK_EQ(sr_ring_destroy(&self->ring), 0);
    return NULL;
}

static void buffers_travel_between_rings(void) {
    static struct station stations[STATIONS];
    static pthread_barrier_t ready;
    static _Atomic uint64_t ended_count;
    pthread_t threads[STATIONS];
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    sr_pool *pool = NULL;
    /* Not a multiple of the number of stations: travellers end at different ones. */
    const uint64_t hops_max = scale_count(500, 20) | 1u;
    options.buffer_size_bytes = BUFFER_BYTES;
    options.buffer_count = TRAVELLERS;
    CHECK_EQ(sr_pool_create(NULL, &options, &pool), 0);
    CHECK_EQ(pthread_barrier_init(&ready, NULL, STATIONS + 1), 0);
    for (uint32_t i = 0; i < STATIONS; i++) {
        stations[i] = (struct station){.pool = pool,
                                       .next = &stations[(i + 1) % STATIONS],
                                       .ready = &ready,
                                       .hops_max = hops_max,
                                       .ended_count = &ended_count};
        threads[i] = check_thread_start(station_main, &stations[i]);
    }
    pthread_barrier_wait(&ready);
    for (uint32_t i = 0; i < TRAVELLERS; i++) {
        sr_buffer buffer;
        const struct luggage luggage = {i, 0};
        sr_ring *first = stations[i % STATIONS].ring;
        CHECK_EQ(sr_pool_acquire(pool, BUFFER_BYTES, &buffer), 0);
        pack(memory_of(pool, buffer), &luggage);
        CHECK_EQ(sr_buffer_transfer(pool, buffer, sr_ring_thread(first)), 0);
        CHECK_EQ(sr_inbox_post(first, buffer.bits, NULL), 0);
    }
    while (atomic_load(&ended_count) < TRAVELLERS) {
        check_sleep_ms(1);
    }
    sr_pool_stats stats = SR_POOL_STATS_INIT;
    CHECK_EQ(sr_pool_get_stats(pool, &stats), 0);
    CHECK_EQ(stats.rings_attached, STATIONS);
    CHECK_EQ(sr_pool_destroy(&pool), SR_E_STATE);
    for (uint32_t i = 0; i < STATIONS; i++) {
        CHECK_EQ(sr_inbox_post(stations[i].ring, 0, NULL), 0);
    }
    pthread_barrier_wait(&ready);
    uint64_t handled = 0;
    uint64_t arrived = 0;
    for (uint32_t i = 0; i < STATIONS; i++) {
        check_thread_join(threads[i]);
        handled += stations[i].handled_count;
        arrived += stations[i].arrived_count;
    }
    CHECK_EQ(handled, TRAVELLERS * hops_max);
    CHECK_EQ(arrived, TRAVELLERS);
    CHECK_EQ(sr_pool_get_stats(pool, &stats), 0);
    CHECK_EQ(stats.rings_attached, 0);
    CHECK_EQ(stats.free_count, TRAVELLERS);
    CHECK_EQ(stats.released_remote_total, TRAVELLERS);
    CHECK_EQ(sr_pool_destroy(&pool), 0);
    CHECK_EQ(pthread_barrier_destroy(&ready), 0);
}

static void a_transfer_to_no_thread_is_refused(void) {
    sr_pool *pool = NULL;
    sr_buffer buffer;
    CHECK_EQ(sr_pool_create(NULL, NULL, &pool), 0);
    CHECK_EQ(sr_pool_acquire(pool, 1, &buffer), 0);
    CHECK_EQ(sr_buffer_transfer(pool, buffer, (sr_thread){0}), -EINVAL);
    CHECK_EQ(sr_buffer_transfer(pool, buffer, sr_ring_thread(NULL)), -EINVAL);
    CHECK_EQ(sr_buffer_transfer(pool, buffer, sr_thread_self()), 0); /* to oneself: still held */
    CHECK_EQ(sr_pool_release(pool, buffer), 0);
    CHECK_EQ(sr_pool_destroy(&pool), 0);
}

int main(void) {
    RUN(a_transfer_to_no_thread_is_refused);
    RUN(buffers_travel_between_rings);
    return 0;
}
