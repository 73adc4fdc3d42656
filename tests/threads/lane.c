/* SPDX-License-Identifier: MIT */
/*
 * A lane between two threads: frames of all sizes to and fro, each end sleeping when there is
 * nothing to read and when there is no room. What arrives is whole and in order, no wake-up is
 * lost, and memory that is used again was let go of before: ThreadSanitizer says so.
 */
#include "check.h"

#include "ipc/lane.h"
#include "support/scale.h"
#include "sys/clock.h"

#include <safering/ipc.h>
#include <string.h>

#define ARENA    UINT64_C(8192)
#define CAPACITY 5u
#define ENDS     2u

struct end {
    struct sri_lane lane;
    uint64_t list[CAPACITY + 1];
    struct sri_spin spin;
    struct scale_random random;
    uint64_t messages; /* to be sent, and to be read */
    uint64_t sent;
    uint64_t read;
    uint64_t sleeps_for_room;
};

static struct end ends[ENDS];
static void *halves[ENDS];

static uint8_t byte_of(uint64_t id, uint64_t at) {
    return (uint8_t)(id * 31 + at * 7);
}

static size_t size_of(uint64_t id) {
    return (size_t)(id % 7 == 0 ? ARENA - id % 64 : id * 37 % 3000);
}

static void open_ends(uint64_t messages) {
    const struct sri_lane_shape shape = {SR_ISOLATION_SHARED, CAPACITY, ARENA};
    const size_t bytes = sri_lane_half_bytes(&shape);
    for (uint32_t i = 0; i < ENDS; i++) {
        halves[i] = aligned_alloc(4096, bytes);
        CHECK(halves[i] != NULL);
        memset(halves[i], 0, bytes);
    }
    for (uint32_t i = 0; i < ENDS; i++) {
        const struct sri_lane_config config = {
            .shape = shape,
            .own_half = halves[i],
            .peer_half = halves[1 - i],
            .ends = ends[i].list,
            .epoch = 3,
            .sleeps = SRI_WAKE_FUTEX,
            .doorbell = -1,
            .cpus = 2,
        };
        memset(&ends[i], 0, sizeof ends[i]);
        CHECK_EQ(sri_lane_init(&ends[i].lane, &config), 0);
        sri_spin_init(&ends[i].spin);
        ends[i].random = scale_random(i);
        ends[i].messages = messages;
    }
}

static void close_ends(void) {
    for (uint32_t i = 0; i < ENDS; i++) {
        free(halves[i]);
    }
}

static bool is_ready(void *ctx) {
    struct end *end = ctx;
    return sri_lane_is_ready(&end->lane);
}

static bool has_work(void *ctx) {
    struct end *end = ctx;
    return sri_lane_is_ready(&end->lane) || sri_lane_has_room(&end->lane);
}

/* Whoever sleeps has shown all that it has: else both ends could wait for each other. */
static void wait_for(struct end *end, bool (*holds)(void *ctx)) {
    CHECK_EQ(sri_lane_publish(&end->lane), 0);
    const struct sri_wake_condition condition = {holds, end};
    const uint64_t deadline_ns = sri_clock_now_ns() + CHECK_PATIENCE_NS;
    CHECK_EQ(sri_wake_wait(&end->lane.waiter, &condition, &end->spin, deadline_ns), SRI_WAKE_WORK);
}

/* Reads one frame if there is one. */
static bool read_one(struct end *end) {
    struct sri_frame frame;
    const uint8_t *payload = NULL;
    bool is_shared = false;
    const int code = sri_lane_take(&end->lane, &frame, &payload, &is_shared);
    if (code == 0) {
        CHECK_EQ(sri_lane_release(&end->lane), 0);
        return false;
    }
    CHECK_EQ(code, 1);
    CHECK_EQ(frame.id, end->read);
    CHECK_EQ(frame.size_bytes, size_of(frame.id));
    for (size_t at = 0; at < frame.size_bytes; at++) {
        if (payload[at] != byte_of(frame.id, at)) {
            CHECK_EQ(at, SIZE_MAX); /* says where */
        }
    }
    end->read++;
    if (scale_random_below(&end->random, 2) == 0) {
        CHECK_EQ(sri_lane_release(&end->lane), 0);
    }
    return true;
}

/* Sends one frame; while there is no room it reads, and sleeps when there is nothing to read. */
static void send_one(struct end *end) {
    static _Thread_local uint8_t bytes[ARENA];
    const struct sri_frame frame = {.epoch = 3, .kind = SRI_FRAME_NOTE, .id = end->sent};
    const size_t size = size_of(end->sent);
    for (size_t at = 0; at < size; at++) {
        bytes[at] = byte_of(end->sent, at);
    }
    int code = 0;
    while ((code = end->lane.payload_bytes < size ? sri_lane_append(&end->lane, bytes, size)
                                                  : sri_lane_send(&end->lane, &frame)) != 0 ||
           end->lane.payload_bytes > 0) {
        if (code == 0) {
            continue; /* appended */
        }
        CHECK_EQ(code, SR_E_FULL);
        if (!read_one(end)) {
            end->sleeps_for_room++;
            wait_for(end, has_work);
        }
    }
    end->sent++;
    if (scale_random_below(&end->random, 3) == 0) {
        CHECK_EQ(sri_lane_publish(&end->lane), 0);
    }
}

static void *to_and_fro(void *ctx) {
    struct end *end = ctx;
    sri_spin_limit_enter(&end->lane.limit);
    while (end->sent < end->messages || end->read < end->messages) {
        if (end->sent < end->messages) {
            send_one(end);
        }
        for (uint64_t count = scale_random_below(&end->random, 3); count > 0; count--) {
            (void)read_one(end);
        }
        if (end->sent == end->messages && end->read < end->messages && !read_one(end)) {
            wait_for(end, is_ready);
        }
    }
    CHECK_EQ(sri_lane_publish(&end->lane), 0);
    CHECK_EQ(sri_lane_release(&end->lane), 0);
    sri_spin_limit_leave(&end->lane.limit);
    return NULL;
}

static void frames_of_all_sizes_go_to_and_fro(void) {
    const uint64_t messages = scale_count(20000, 200);
    open_ends(messages);
    const pthread_t threads[] = {check_thread_start(to_and_fro, &ends[0]),
                                 check_thread_start(to_and_fro, &ends[1])};
    check_thread_join(threads[0]);
    check_thread_join(threads[1]);
    for (uint32_t i = 0; i < ENDS; i++) {
        fprintf(stderr,
                "    end %u: %llu sent, %llu read, %llu sleeps for room, %llu sleeps in all\n", i,
                (unsigned long long)ends[i].sent, (unsigned long long)ends[i].read,
                (unsigned long long)ends[i].sleeps_for_room,
                (unsigned long long)ends[i].lane.waiter.stats.sleeps);
        CHECK_EQ(ends[i].sent, messages);
        CHECK_EQ(ends[i].read, messages);
    }
    close_ends();
}

int main(void) {
    RUN(frames_of_all_sizes_go_to_and_fro);
    return 0;
}
