/* SPDX-License-Identifier: MIT */
/*
 * Both ends of a lane, and somebody who changes what lies between them. The input is a script: each
 * byte is a step, a call at one end or a change of a word that the other end can write.
 *
 * What must be true: AddressSanitizer has nothing to say (both halves are heap blocks of the very
 * size, and all bytes of what is handed over are read); and as long as nothing was changed nobody
 * is accused, every payload is whole, and what is empty has room.
 */
#include "fuzz.h"

#include "ipc/lane.h"
#include <safering/error.h>

#define CAPACITY 3u
#define ARENA    UINT64_C(4096)
#define ENDS     2u

struct scene {
    struct sri_lane ends[ENDS];
    void *halves[ENDS];
    uint64_t lists[ENDS][CAPACITY + 1];
    uint64_t sent[ENDS]; /* by who sends */
    uint64_t taken[ENDS];
    uint64_t released[ENDS];
    bool is_spoilt;
    uint64_t sum;
};

static uint8_t byte_of(uint64_t id, uint64_t at) {
    return (uint8_t)(id * 13 + at);
}

static size_t size_of(uint64_t id) {
    return (size_t)(id * id * 37 % (ARENA + 1));
}

static void open_ends(struct scene *scene, size_t half_bytes, const struct sri_lane_shape *shape) {
    for (uint32_t i = 0; i < ENDS; i++) {
        scene->halves[i] = aligned_alloc(64, half_bytes);
        MUST(scene->halves[i] != NULL);
        memset(scene->halves[i], 0, half_bytes);
    }
    for (uint32_t i = 0; i < ENDS; i++) {
        const struct sri_lane_config config = {
            .shape = *shape,
            .own_half = scene->halves[i],
            .peer_half = scene->halves[1 - i],
            .ends = scene->lists[i],
            .epoch = 5,
            .sleeps = SRI_WAKE_FUTEX,
            .doorbell = -1,
            .cpus = 1,
        };
        MUST(sri_lane_init(&scene->ends[i], &config) == 0);
    }
}

/* Nobody is accused who has done nothing. */
static void judge(const struct scene *scene, int code) {
    MUST(code == 0 || code == 1 || code == SR_E_FULL ||
         (code == SR_E_PROTOCOL && scene->is_spoilt));
}

static void send(struct scene *scene, uint32_t end) {
    static uint8_t bytes[ARENA];
    struct sri_lane *lane = &scene->ends[end];
    const uint64_t id = scene->sent[end];
    const size_t size = size_of(id);
    const size_t first = size / 3;
    const struct sri_frame frame = {.epoch = 5, .kind = SRI_FRAME_NOTE, .id = id};
    for (size_t at = 0; at < size; at++) {
        bytes[at] = byte_of(id, at);
    }
    int code = sri_lane_append(lane, bytes, first);
    code = code == 0 ? sri_lane_append(lane, bytes + first, size - first) : code;
    code = code == 0 ? sri_lane_send(lane, &frame) : code;
    judge(scene, code);
    if (code == 0) {
        scene->sent[end]++;
        return;
    }
    sri_lane_drop(lane);
    MUST(scene->is_spoilt || scene->sent[end] > scene->released[1 - end]);
}

static void take(struct scene *scene, uint32_t end) {
    struct sri_frame frame;
    const uint8_t *payload = NULL;
    bool is_shared = false;
    const int code = sri_lane_take(&scene->ends[end], &frame, &payload, &is_shared);
    judge(scene, code);
    if (code != 1) {
        return;
    }
    for (size_t at = 0; at < frame.size_bytes; at++) {
        scene->sum += payload[at];
        MUST(scene->is_spoilt || payload[at] == byte_of(frame.id, at));
    }
    MUST(scene->is_spoilt ||
         (frame.id == scene->taken[end] && frame.size_bytes == size_of(frame.id)));
    scene->taken[end]++;
}

static void release(struct scene *scene, uint32_t end) {
    judge(scene, sri_lane_release(&scene->ends[end]));
    scene->released[end] = scene->taken[end];
}

static void spoil(struct scene *scene, struct fuzz_input *input, size_t half_bytes) {
    char *half = scene->halves[fuzz_take(input, 1) % ENDS];
    const size_t at = (size_t)fuzz_take(input, 2) * 4 % (half_bytes - 8);
    const size_t count = 1 + (size_t)fuzz_take(input, 1) % 8;
    const uint64_t word = fuzz_take(input, count);
    memcpy(half + at, &word, count);
    scene->is_spoilt = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct sri_lane_shape shape = {1, CAPACITY, ARENA};
    static struct scene scene;
    struct fuzz_input input = {data, size};
    const size_t half_bytes = sri_lane_half_bytes(&shape);
    memset(&scene, 0, sizeof scene);
    open_ends(&scene, half_bytes, &shape);
    while (input.left > 0) {
        const uint32_t step = (uint32_t)fuzz_take(&input, 1);
        const uint32_t end = step / 8 % ENDS;
        switch (step % 8) {
        case 0:
        case 1:
            send(&scene, end);
            break;
        case 2:
            judge(&scene, sri_lane_publish(&scene.ends[end]));
            break;
        case 3:
        case 4:
            take(&scene, end);
            break;
        case 5:
            release(&scene, end);
            break;
        case 6:
            (void)sri_lane_has_room(&scene.ends[end]);
            break;
        default:
            spoil(&scene, &input, half_bytes);
            break;
        }
    }
    for (uint32_t i = 0; i < ENDS; i++) {
        free(scene.halves[i]);
    }
    return 0;
}
