/* SPDX-License-Identifier: MIT */
/*
 * Lanes, both ends in one process: what is sent arrives, memory is used again and never too early,
 * and no word that the other side writes leads outside.
 */
#include "ipc/lane.h"
#include "ipc/stream_memory.h"
#include "support/scale.h"
#include "unit/fixture.h"

#include <safering/ipc.h>

TestSuite(lane, .timeout = 60);

#define EPOCH 77u

struct pair {
    struct sri_lane ends[2];
    void *halves[2];
    uint64_t *lists[2];
};

static void pair_begin(struct pair *pair, uint32_t capacity, uint64_t arena_bytes) {
    const struct sri_lane_shape shape = {SR_ISOLATION_HYBRID, capacity, arena_bytes};
    memset(pair, 0, sizeof *pair);
    assert_ok(sri_lane_shape_check(&shape));
    for (int i = 0; i < 2; i++) {
        const size_t bytes = sri_lane_half_bytes(&shape);
        pair->halves[i] = aligned_alloc(4096, bytes);
        pair->lists[i] = calloc(sri_lane_ends(&shape), sizeof(uint64_t));
        cr_assert(pair->halves[i] != NULL && pair->lists[i] != NULL);
        memset(pair->halves[i], 0, bytes);
    }
    for (int i = 0; i < 2; i++) {
        const struct sri_lane_config config = {
            .shape = shape,
            .own_half = pair->halves[i],
            .peer_half = pair->halves[1 - i],
            .ends = pair->lists[i],
            .epoch = EPOCH,
            .sleeps = SRI_WAKE_FUTEX,
            .doorbell = -1,
            .cpus = 2,
        };
        assert_ok(sri_lane_init(&pair->ends[i], &config));
    }
}

static void pair_end(struct pair *pair) {
    for (int i = 0; i < 2; i++) {
        free(pair->halves[i]);
        free(pair->lists[i]);
    }
}

static uint8_t byte_of(uint64_t id, uint64_t at) {
    return (uint8_t)(id * 31 + at * 7 + (at >> 8));
}

static struct sri_frame frame_of(uint64_t id, uint64_t size) {
    return (struct sri_frame){
        .epoch = EPOCH, .kind = SRI_FRAME_CALL, .id = id, .size_bytes = (uint32_t)size};
}

/* Appends bytes [from, to) of message @id. */
static int append(struct sri_lane *lane, uint64_t id, uint64_t from, uint64_t to) {
    static uint8_t bytes[1 << 20];
    for (uint64_t at = from; at < to; at++) {
        bytes[at - from] = byte_of(id, at);
    }
    return sri_lane_append(lane, bytes, (size_t)(to - from));
}

static void expect_message(struct sri_lane *lane, uint64_t id, uint64_t size) {
    struct sri_frame frame;
    const uint8_t *payload = NULL;
    bool is_shared = false;
    cr_assert_eq(sri_lane_take(lane, &frame, &payload, &is_shared), 1);
    cr_assert_eq(frame.id, id);
    cr_assert_eq(frame.size_bytes, size);
    cr_assert_eq(payload == NULL, size == 0);
    cr_assert_eq(is_shared, size > SRI_LANE_INLINE_BYTES);
    for (uint64_t at = 0; at < size; at++) {
        cr_assert_eq(payload[at], byte_of(id, at), "message %zu, byte %zu of %zu", (size_t)id,
                     (size_t)at, (size_t)size);
    }
}

/* ---- honest ends ------------------------------------------------------------------------------
 */

Test(lane, payloads_of_every_size_arrive) {
    const uint64_t sizes[] = {0, 1, 79, 80, 81, 127, 128, 4095, 4096, 8191, 8192};
    struct pair pair;
    pair_begin(&pair, 4, 8192);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        const struct sri_frame frame = frame_of(i, sizes[i]);
        assert_ok(append(&pair.ends[0], i, 0, sizes[i]));
        assert_ok(sri_lane_send(&pair.ends[0], &frame));
        cr_assert_not(sri_lane_is_ready(&pair.ends[1]), "not before it is published");
        assert_ok(sri_lane_publish(&pair.ends[0]));
        cr_assert(sri_lane_is_ready(&pair.ends[1]));
        expect_message(&pair.ends[1], i, sizes[i]);
        assert_ok(sri_lane_release(&pair.ends[1]));
        cr_assert_not(sri_lane_is_ready(&pair.ends[1]));
    }
    assert_code(append(&pair.ends[0], 1, 0, 8193), SR_E_BOUNDS);
    pair_end(&pair);
}

Test(lane, a_full_one_says_so_keeps_what_was_appended_and_tells_of_room) {
    struct pair pair;
    pair_begin(&pair, 8, 8192);
    struct sri_lane *writer = &pair.ends[0];
    const struct sri_frame frame = frame_of(1, 5000);
    const struct sri_frame second = frame_of(2, 4000);
    assert_ok(append(writer, 1, 0, 5000));
    assert_ok(sri_lane_send(writer, &frame));
    assert_ok(sri_lane_publish(writer));
    assert_ok(append(writer, 2, 0, 1000)); /* behind the first */
    assert_code(append(writer, 2, 1000, 4000), SR_E_FULL);
    cr_assert_not(sri_lane_has_room(writer));
    cr_assert_neq(atomic_load(&writer->own->wants_room), 0);
    expect_message(&pair.ends[1], 1, 5000);
    cr_assert_not(sri_lane_has_room(writer), "it is still looked at");
    assert_ok(sri_lane_release(&pair.ends[1]));
    cr_assert(sri_lane_has_room(writer));
    assert_ok(append(writer, 2, 1000, 4000)); /* moves to the beginning */
    cr_assert_eq(atomic_load(&writer->own->wants_room), 0);
    cr_assert_not(sri_lane_has_room(writer));
    assert_ok(sri_lane_send(writer, &second));
    assert_ok(sri_lane_publish(writer));
    expect_message(&pair.ends[1], 2, 4000);
    pair_end(&pair);
}

Test(lane, as_many_frames_as_its_capacity_whatever_the_arena) {
    struct pair pair;
    pair_begin(&pair, 3, 4096);
    struct sri_lane *writer = &pair.ends[0];
    for (uint64_t i = 0; i < 3; i++) {
        const struct sri_frame frame = frame_of(i, 4);
        assert_ok(append(writer, i, 0, 4));
        assert_ok(sri_lane_send(writer, &frame));
    }
    const struct sri_frame frame = frame_of(3, 4);
    assert_ok(append(writer, 3, 0, 4));
    assert_code(sri_lane_send(writer, &frame), SR_E_FULL);
    assert_ok(sri_lane_publish(writer));
    expect_message(&pair.ends[1], 0, 4);
    assert_ok(sri_lane_release(&pair.ends[1]));
    assert_ok(sri_lane_send(writer, &frame)); /* what was appended is still there */
    assert_ok(sri_lane_publish(writer));
    for (uint64_t i = 1; i <= 3; i++) {
        expect_message(&pair.ends[1], i, 4);
    }
    pair_end(&pair);
}

Test(lane, a_short_frame_goes_beside_a_payload_that_is_being_made) {
    struct pair pair;
    pair_begin(&pair, 8, 4096);
    uint8_t bytes[16];
    for (uint64_t at = 0; at < sizeof bytes; at++) {
        bytes[at] = byte_of(7, at);
    }
    const struct sri_frame short_one = frame_of(7, sizeof bytes);
    const struct sri_frame long_one = frame_of(8, 3000);
    assert_ok(append(&pair.ends[0], 8, 0, 1500));
    assert_ok(sri_lane_send_short(&pair.ends[0], &short_one, bytes));
    assert_ok(append(&pair.ends[0], 8, 1500, 3000));
    assert_ok(sri_lane_send(&pair.ends[0], &long_one));
    assert_ok(sri_lane_publish(&pair.ends[0]));
    expect_message(&pair.ends[1], 7, sizeof bytes);
    expect_message(&pair.ends[1], 8, 3000);
    pair_end(&pair);
}

/* ---- against a model --------------------------------------------------------------------------
 */

struct model {
    uint64_t sizes[64]; /* by id % 64: sent and not yet taken */
    uint64_t sent;
    uint64_t taken;
    uint64_t released;
    uint64_t making; /* size of the payload that is being made */
    uint64_t made;
    uint64_t full;
};

static uint64_t random_size(struct scale_random *random, uint64_t arena) {
    switch (scale_random_below(random, 4)) {
    case 0:
        return scale_random_below(random, 100);
    case 1:
        return arena - scale_random_below(random, 65);
    default:
        return scale_random_below(random, arena / 3);
    }
}

/* One step of the writer: a piece of a payload, or the frame. */
static void write_some(struct pair *pair, struct model *model, struct scale_random *random) {
    struct sri_lane *lane = &pair->ends[0];
    int code = 0;
    if (model->made < model->making) {
        const uint64_t left = model->making - model->made;
        const uint64_t piece = 1 + scale_random_below(random, left);
        code = append(lane, model->sent, model->made, model->made + piece);
        model->made += code == 0 ? piece : 0;
    } else {
        const struct sri_frame frame = frame_of(model->sent, model->making);
        code = sri_lane_send(lane, &frame);
        if (code == 0) {
            model->sizes[model->sent % 64] = model->making;
            model->sent++;
            model->making = random_size(random, lane->shape.arena_bytes);
            model->made = 0;
        }
    }
    if (code == SR_E_FULL) {
        model->full++;
        cr_assert_gt(model->sent, model->released, "it is empty and has no room");
    } else {
        assert_ok(code);
    }
    if (code == SR_E_FULL || scale_random_below(random, 3) == 0) {
        assert_ok(sri_lane_publish(lane));
    }
}

static void read_some(struct pair *pair, struct model *model, struct scale_random *random) {
    struct sri_lane *lane = &pair->ends[1];
    for (uint64_t count = scale_random_below(random, 4); count > 0; count--) {
        if (!sri_lane_is_ready(lane)) {
            break;
        }
        expect_message(lane, model->taken, model->sizes[model->taken % 64]);
        model->taken++;
    }
    if (scale_random_below(random, 2) == 0) {
        assert_ok(sri_lane_release(lane));
        model->released = model->taken;
    }
}

Test(lane, what_is_read_is_what_was_written_whatever_the_sizes) {
    struct scale_random random = scale_random(1);
    uint64_t full = 0;
    for (uint64_t round = 0; round < scale_count(40, 2); round++) {
        const uint32_t capacity = 1 + (uint32_t)scale_random_below(&random, 9);
        const uint64_t arena = 4096 * (1 + scale_random_below(&random, 4));
        struct model model = {0};
        struct pair pair;
        pair_begin(&pair, capacity, arena);
        for (uint64_t step = 0; step < 2000; step++) {
            write_some(&pair, &model, &random);
            read_some(&pair, &model, &random);
        }
        cr_assert_gt(model.taken, 10);
        full += model.full;
        pair_end(&pair);
    }
    cr_assert_gt(full, 0, "it was never full: nothing was tested");
}

/* ---- hostile ends -----------------------------------------------------------------------------
 */

struct slot {
    uint64_t which;
    uint64_t what;
    struct sri_frame frame;
    uint64_t behind;
};

/* The slot of the first message that end 0 sends. */
static struct slot *first_slot(struct pair *pair) {
    return (struct slot *)(void *)((char *)pair->halves[0] + sizeof(struct sri_lane_words) +
                                   sizeof(struct sri_stream_writer_words));
}

static void send_long(struct pair *pair) {
    const struct sri_frame frame = frame_of(0, 1000);
    assert_ok(append(&pair->ends[0], 0, 0, 1000));
    assert_ok(sri_lane_send(&pair->ends[0], &frame));
    assert_ok(sri_lane_publish(&pair->ends[0]));
}

#define LIE(change)                                                                                \
    do {                                                                                           \
        struct pair pair;                                                                          \
        struct sri_frame frame;                                                                    \
        const uint8_t *payload = NULL;                                                             \
        bool is_shared = false;                                                                    \
        pair_begin(&pair, 4, 4096);                                                                \
        send_long(&pair);                                                                          \
        struct slot *slot = first_slot(&pair);                                                     \
        change;                                                                                    \
        const int code = sri_lane_take(&pair.ends[1], &frame, &payload, &is_shared);               \
        cr_expect_eq(code, SR_E_PROTOCOL, "believed: %s", #change);                                \
        pair_end(&pair);                                                                           \
    } while (0)

Test(lane, a_place_or_length_that_cannot_be_is_refused) {
    struct pair honest;
    pair_begin(&honest, 4, 4096);
    send_long(&honest);
    cr_assert_eq(first_slot(&honest)->frame.size_bytes, 1000, "it is the slot");
    expect_message(&honest.ends[1], 0, 1000);
    pair_end(&honest);
    LIE(slot->behind = 4096);
    LIE(slot->behind = 3097);
    LIE(slot->behind = UINT64_MAX);
    LIE(slot->behind = UINT64_MAX - 999);
    LIE(slot->frame.size_bytes = 4097);
    LIE(slot->frame.size_bytes = UINT32_MAX);
    LIE(slot->frame.size_bytes = 80); /* would have been sent with its frame */
    LIE(slot->what = 31);             /* not even a frame */
    LIE(slot->what = 33);
    LIE(slot->what = 32 | UINT64_C(1) << 32);
    LIE(slot->what = 113 | UINT64_C(1) << 32);
    LIE(slot->what = 40);                     /* a payload of 8 bytes, and 1,000 are said */
    LIE(slot->what = 40 | UINT64_C(2) << 32); /* no such kind */
    LIE(slot->which ^= UINT64_C(1) << 32);    /* another epoch */
    LIE(slot->which++);
}

/* How far the other side says it has read decides what is free: backwards, or further than there is
 * something to read, ends it. */
Test(lane, a_reader_that_says_it_has_read_what_it_cannot_have_ends_the_lane) {
    const uint64_t lies[] = {2, 100, UINT64_MAX, UINT64_C(1) << 63};
    for (size_t i = 0; i < COUNT_OF(lies); i++) {
        struct pair pair;
        pair_begin(&pair, 4, 4096);
        send_long(&pair);
        struct sri_lane_words *words = pair.halves[1];
        memcpy(words->reader, &lies[i], sizeof lies[i]);
        assert_code(append(&pair.ends[0], 1, 0, 4000), SR_E_PROTOCOL);
        pair_end(&pair);
    }
    struct pair pair; /* forwards, then backwards */
    const uint64_t zero = 0;
    pair_begin(&pair, 4, 4096);
    send_long(&pair);
    expect_message(&pair.ends[1], 0, 1000);
    assert_ok(sri_lane_release(&pair.ends[1]));
    assert_ok(append(&pair.ends[0], 1, 0, 4000));
    const struct sri_frame frame = frame_of(1, 4000);
    assert_ok(sri_lane_send(&pair.ends[0], &frame));
    memcpy(((struct sri_lane_words *)pair.halves[1])->reader, &zero, sizeof zero);
    assert_code(append(&pair.ends[0], 2, 0, 4000), SR_E_PROTOCOL);
    pair_end(&pair);
}

Test(lane, shapes_that_cannot_be_are_refused) {
    const struct sri_lane_shape good = {SR_ISOLATION_HYBRID, 1, 4096};
    const struct sri_lane_shape bad[] = {
        {SR_ISOLATION_HYBRID, 0, 4096},
        {SR_ISOLATION_HYBRID, SRI_STREAM_CAPACITY_MAX + 1, 4096},
        {SR_ISOLATION_HYBRID, 1, 0},
        {SR_ISOLATION_HYBRID, 1, 4095},
        {SR_ISOLATION_HYBRID, 1, 4097},
        {SR_ISOLATION_HYBRID, 1, SRI_LANE_ARENA_MAX + 4096},
        {SR_ISOLATION_HYBRID, 1, UINT64_MAX - 4095},
    };
    assert_ok(sri_lane_shape_check(&good));
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_code(sri_lane_shape_check(&bad[i]), SR_E_BOUNDS);
    }
}
