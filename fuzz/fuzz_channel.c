/* SPDX-License-Identifier: MIT */
/*
 * A worker that turned bad: after an honest hello, the input says which frames and bytes it sends,
 * in which pieces, between the host's calls. Whatever it is, each call has one answer in the end,
 * and the channel ends with a code that says so.
 */
#include "fuzz.h"
#include "ipc/frame.h"

#include <errno.h>
#include <safering/safering.h>
#include <sys/socket.h>
#include <unistd.h>

#define CALLS_MAX 8u
#define SENT_MAX  16384u /* below what the socket takes without being read */

struct scene {
    sr_channel *channel;
    int peer;
    uint32_t epoch;
    uint32_t sent_bytes;
    uint32_t calls;
    uint32_t ready;
    uint32_t ended;
    int code;
    sr_call call[CALLS_MAX];
    uint32_t answers[CALLS_MAX];
    uint64_t events;
};

static sr_ring *ring;

static void on_state(sr_channel *channel, int code, void *ctx) {
    struct scene *scene = ctx;
    (void)channel;
    if (code == 0) {
        scene->ready++;
    } else {
        scene->ended++;
        scene->code = code;
    }
    MUST(scene->ready <= 1 && scene->ended <= 1);
}

/* All of it can be read. */
static void touch(const void *data, uint64_t data_bytes) {
    unsigned sum = 0;
    for (uint64_t i = 0; i < data_bytes; i++) {
        sum += ((const unsigned char *)data)[i];
    }
    MUST(sum <= 255 * data_bytes);
}

static void on_event(sr_channel *channel, uint32_t number, const void *data, uint64_t data_bytes,
                     void *ctx) {
    struct scene *scene = ctx;
    (void)channel;
    MUST(number <= UINT16_MAX);
    touch(data, data_bytes);
    scene->events++;
}

static void on_answer(sr_channel *channel, const sr_answer *answer, void *ctx) {
    struct scene *scene = ctx;
    (void)channel;
    MUST(answer->tag < scene->calls);
    MUST(answer->call.bits == scene->call[answer->tag].bits);
    scene->answers[answer->tag]++;
    touch(answer->data, answer->data_bytes);
}

static void look(void) {
    MUST(sr_ring_wait(ring, 0, 0, NULL, NULL) >= 0);
    MUST(sr_ring_wait(ring, 0, 0, NULL, NULL) >= 0);
}

static void say(struct scene *scene, const void *bytes, size_t count) {
    if (count <= SENT_MAX - scene->sent_bytes) {
        scene->sent_bytes += (uint32_t)count;
        const ssize_t sent = send(scene->peer, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
        MUST(sent == (ssize_t)count || scene->ended == 1);
    }
}

static void begin(struct scene *scene) {
    sr_channel_options options = SR_CHANNEL_OPTIONS_INIT;
    struct sri_frame open;
    int pair[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    scene->peer = pair[1];
    options.calls_max = CALLS_MAX;
    options.payload_max_bytes = 4096;
    options.on_state = on_state;
    options.on_event = on_event;
    options.ctx = scene;
    MUST(sr_channel_open(ring, pair[0], &options, &scene->channel) == 0);
    look();
    MUST(recv(scene->peer, &open, sizeof open, MSG_WAITALL) == (ssize_t)sizeof open);
    scene->epoch = open.epoch;
    const struct sri_frame hello = {
        .epoch = open.epoch, .kind = SRI_FRAME_HELLO, .method = SRI_FRAME_VERSION, .size_bytes = 4};
    say(scene, &hello, sizeof hello);
    say(scene, "\1a\1b", 4);
    while (scene->ready == 0) {
        MUST(sr_ring_wait(ring, 1, UINT64_C(10000000000), NULL, NULL) >= 0);
    }
}

static void call(struct scene *scene, struct fuzz_input *input) {
    sr_call_request request = SR_CALL_REQUEST_INIT;
    request.method = (uint32_t)fuzz_take(input, 1) % 2;
    request.tag = scene->calls;
    request.ctx = scene;
    request.on_answer = on_answer;
    if (scene->calls < CALLS_MAX) {
        const int code = sr_channel_call(scene->channel, &request, &scene->call[scene->calls]);
        MUST(code == 0 || (scene->ended == 1 && code == scene->code));
        scene->calls += code == 0;
    }
}

/* A frame of the right epoch, whose other fields the input chooses. */
static void say_frame(struct scene *scene, struct fuzz_input *input, bool is_answer) {
    unsigned char payload[64] = {0};
    struct sri_frame frame = {.epoch = scene->epoch};
    frame.kind = is_answer ? SRI_FRAME_ANSWER : (uint16_t)fuzz_take(input, 1);
    frame.method = (uint16_t)fuzz_take(input, 1);
    frame.id = is_answer ? scene->call[fuzz_take(input, 1) % CALLS_MAX].bits : fuzz_take(input, 1);
    frame.result = (int64_t)fuzz_take(input, 1);
    frame.size_bytes = (uint32_t)fuzz_take(input, 2);
    frame.reserved = frame.kind == SRI_FRAME_ANSWER ? 0 : (uint32_t)fuzz_take(input, 1);
    say(scene, &frame, sizeof frame);
    say(scene, payload, frame.size_bytes % sizeof payload);
}

static void say_bytes(struct scene *scene, struct fuzz_input *input) {
    const size_t wanted = (size_t)fuzz_take(input, 1);
    const size_t count = wanted < input->left ? wanted : input->left;
    say(scene, input->data, count);
    input->data += count;
    input->left -= count;
}

static void end(struct scene *scene) {
    look();
    if (scene->ended == 1) {
        MUST(scene->code == SR_E_PROTOCOL || scene->code == SR_E_UNSUPPORTED ||
             scene->code == SR_E_PEER_DIED);
    }
    MUST(sr_channel_close(&scene->channel) == 0);
    for (uint32_t i = 0; i < scene->calls; i++) {
        MUST(scene->answers[i] == 1);
    }
    MUST(close(scene->peer) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    struct scene scene = {0};
    if (ring == NULL) {
        MUST(sr_ring_create(NULL, &ring) == 0);
    }
    begin(&scene);
    while (input.left > 0) {
        switch (fuzz_take(&input, 1) % 5) {
        case 0:
            call(&scene, &input);
            break;
        case 1:
            say_frame(&scene, &input, true);
            break;
        case 2:
            say_frame(&scene, &input, false);
            break;
        case 3:
            say_bytes(&scene, &input);
            break;
        default:
            look();
            break;
        }
    }
    end(&scene);
    return 0;
}
