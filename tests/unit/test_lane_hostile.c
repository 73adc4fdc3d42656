/* SPDX-License-Identifier: MIT */
/*
 * Channels over shared memory to workers that do what no honest worker does. The peer is the test
 * itself: it has the socket, the descriptors that came with the first frame, and an honest end of
 * the lane, from which it strays.
 */
#include "ipc/channel.h"
#include "ipc/opening.h"
#include "support/baseline.h"
#include "support/scale.h"
#include "sys/doorbell.h"
#include "sys/packet.h"
#include "unit/fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define MS     UINT64_C(1000000)
#define SECOND (1000 * MS)
#define ARENA  UINT64_C(65536)

TestSuite(lane_hostile, .timeout = 60);

struct scene {
    sr_ring *ring;
    sr_channel *channel;
    int peer;
    int fds[SRI_LANE_FD_COUNT];
    struct sri_opening opening;
    struct sri_shared host_half;
    struct sri_shared own_half;
    uint64_t *ends;
    struct sri_lane lane;
    uint32_t ready_count;
    uint32_t ended_count;
    int code;
    uint64_t answers;
    int64_t last_result;
    uint32_t last_source;
    uint64_t sum; /* of all bytes that were handed over: all of them can be read */
};

static void on_state(sr_channel *channel, int code, void *ctx) {
    struct scene *scene = ctx;
    (void)channel;
    if (code == 0) {
        scene->ready_count++;
    } else {
        cr_assert_eq(scene->ended_count, 0, "ended twice");
        scene->ended_count++;
        scene->code = code;
    }
}

static void read_all(struct scene *scene, const void *data, uint64_t data_bytes) {
    for (uint64_t i = 0; i < data_bytes; i++) {
        scene->sum += ((const volatile unsigned char *)data)[i];
    }
}

static void on_event(sr_channel *channel, uint32_t number, const void *data, uint64_t data_bytes,
                     void *ctx) {
    (void)channel;
    (void)number;
    read_all(ctx, data, data_bytes);
}

static void on_answer(sr_channel *channel, const sr_answer *answer, void *ctx) {
    struct scene *scene = ctx;
    (void)channel;
    scene->answers++;
    scene->last_result = answer->result;
    scene->last_source = answer->source;
    read_all(scene, answer->data, answer->data_bytes);
}

static void look(struct scene *scene) {
    for (int i = 0; i < 3; i++) {
        const int code = sr_ring_wait(scene->ring, 0, 0, NULL, NULL);
        cr_assert_geq(code, 0, "%s", sr_error_name(code));
    }
}

static void wait_for_end(struct scene *scene, int expected) {
    const uint64_t until_ns = now_ns() + 10 * SECOND;
    while (scene->ended_count == 0) {
        const int code = sr_ring_wait(scene->ring, 1, 50 * MS, NULL, NULL);
        cr_assert(code >= 0 || code == SR_E_TIMEOUT || code == SR_E_IDLE, "%s",
                  sr_error_name(code));
        cr_assert_lt(now_ns(), until_ns, "the host waits for ever");
    }
    assert_code(scene->code, expected);
}

static void map_halves(struct scene *scene) {
    const bool is_shared = scene->opening.lane.isolation == SR_ISOLATION_SHARED;
    const size_t bytes = sri_lane_half_bytes(&scene->opening.lane);
    assert_ok(sri_shared_map(is_shared ? SRI_SHARED_ALL_WRITE : SRI_SHARED_ONE_WRITER,
                             scene->fds[SRI_LANE_FD_HOST], bytes, is_shared, &scene->host_half));
    assert_ok(sri_shared_map(SRI_SHARED_ALL_WRITE, scene->fds[SRI_LANE_FD_WORKER], bytes, true,
                             &scene->own_half));
}

static void receive_opening(struct scene *scene, uint32_t *out_epoch) {
    struct {
        struct sri_frame frame;
        struct sri_opening opening;
    } first;
    struct sri_packet packet;
    cr_assert_eq(sri_packet_await(scene->peer, &first, sizeof first, &packet), 1);
    cr_assert_eq(packet.size_bytes, sizeof first);
    cr_assert_eq(packet.fd_count, SRI_LANE_FD_COUNT);
    memcpy(scene->fds, packet.fds, sizeof scene->fds);
    cr_assert_eq(first.frame.size_bytes, sizeof first.opening);
    cr_assert_eq(first.frame.result, ARENA, "no payload is longer than the arena");
    scene->opening = first.opening;
    *out_epoch = first.frame.epoch;
}

static void scene_begin(struct scene *scene, uint32_t isolation) {
    sr_channel_options options = SR_CHANNEL_OPTIONS_INIT;
    uint32_t epoch = 0;
    int pair[2];
    *scene = (struct scene){0};
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    scene->peer = pair[1];
    scene->ring = ring_make(NULL);
    options.calls_max = 4;
    options.isolation = isolation;
    options.arena_bytes = ARENA;
    options.on_state = on_state;
    options.on_event = on_event;
    options.ctx = scene;
    assert_ok(sr_channel_open(scene->ring, pair[0], &options, &scene->channel));
    receive_opening(scene, &epoch);
    cr_assert_eq(scene->opening.lane.isolation, isolation);
    map_halves(scene);
    scene->ends = calloc(sri_lane_ends(&scene->opening.lane), sizeof *scene->ends);
    const struct sri_lane_config config = {
        .shape = scene->opening.lane,
        .own_half = scene->own_half.base,
        .peer_half = scene->host_half.base,
        .ends = scene->ends,
        .epoch = epoch,
        .sleeps = SRI_WAKE_FUTEX,
        .doorbell = scene->fds[SRI_LANE_FD_DOORBELL],
        .cpus = 2,
    };
    assert_ok(sri_lane_init(&scene->lane, &config));
    const struct sri_frame hello = {
        .epoch = epoch, .kind = SRI_FRAME_HELLO, .method = SRI_FRAME_VERSION, .size_bytes = 4};
    cr_assert_eq(send(scene->peer, &hello, sizeof hello, 0), (ssize_t)sizeof hello);
    cr_assert_eq(send(scene->peer, "\1a\1b", 4, 0), 4);
    while (scene->ready_count == 0) {
        look(scene);
    }
}

static void scene_end(struct scene *scene) {
    const uint64_t begin_ns = now_ns();
    assert_ok(sr_channel_close(&scene->channel));
    ring_end(&scene->ring);
    cr_assert_lt(now_ns() - begin_ns, 4 * SECOND);
    sri_shared_end(&scene->host_half);
    sri_shared_end(&scene->own_half);
    free(scene->ends);
    for (int i = 0; i < SRI_LANE_FD_COUNT; i++) {
        cr_assert_eq(close(scene->fds[i]), 0);
    }
    if (scene->peer >= 0) {
        cr_assert_eq(close(scene->peer), 0);
    }
}

static uint32_t epoch_of(const struct scene *scene) {
    return scene->channel->link.limits.epoch;
}

/* One call of method 0, and its frame as the worker sees it. */
static struct sri_frame call(struct scene *scene, uint64_t size) {
    static const unsigned char bytes[ARENA];
    sr_call_request request = SR_CALL_REQUEST_INIT;
    struct sri_frame frame;
    const uint8_t *payload = NULL;
    bool is_shared = false;
    request.data = bytes;
    request.data_bytes = size;
    request.on_answer = on_answer;
    request.ctx = scene;
    assert_ok(sr_channel_call(scene->channel, &request, NULL));
    look(scene);
    cr_assert_eq(sri_lane_take(&scene->lane, &frame, &payload, &is_shared), 1);
    cr_assert_eq(frame.size_bytes, size);
    return frame;
}

/* Sends a frame as it is, without a payload. */
static void say(struct scene *scene, struct sri_frame frame) {
    assert_ok(sri_lane_send_short(&scene->lane, &frame, NULL));
    assert_ok(sri_lane_publish(&scene->lane));
}

static const uint32_t isolations[] = {SR_ISOLATION_HYBRID, SR_ISOLATION_SHARED};

/* ---- what it can write to ---------------------------------------------------------------------
 */

Test(lane_hostile, a_hybrid_worker_has_no_way_to_write_to_the_calls) {
    struct scene scene;
    scene_begin(&scene, SR_ISOLATION_HYBRID);
    const int fd = scene.fds[SRI_LANE_FD_HOST];
    const size_t bytes = scene.host_half.size_bytes;
    char path[64];
    cr_assert_eq(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    cr_assert_eq(errno, EPERM);
    cr_assert_eq(mprotect(scene.host_half.base, bytes, PROT_READ | PROT_WRITE), -1);
    cr_assert_eq(errno, EACCES);
    cr_assert_eq(pwrite(fd, "x", 1, 0), -1);
    cr_assert_eq(errno, EPERM);
    cr_assert_eq(ftruncate(fd, 0), -1);
    cr_assert_eq(errno, EPERM);
    cr_assert_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
    cr_assert_eq(errno, EPERM);
    cr_assert_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    cr_assert_eq(errno, EPERM);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const int again = open(path, O_RDWR | O_CLOEXEC);
    if (again >= 0) {
        cr_assert_eq(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0), MAP_FAILED);
        cr_assert_eq(pwrite(again, "x", 1, 0), -1);
        cr_assert_eq(close(again), 0);
    }
    /* Its answers it must be able to write, but not to take their memory away. */
    cr_assert_eq(ftruncate(scene.fds[SRI_LANE_FD_WORKER], 0), -1);
    scene_end(&scene);
}

/* The control: in a SHARED lane it can. */
Test(lane_hostile, a_shared_worker_can_write_to_all_of_it) {
    struct scene scene;
    scene_begin(&scene, SR_ISOLATION_SHARED);
    void *memory = mmap(NULL, scene.host_half.size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                        scene.fds[SRI_LANE_FD_HOST], 0);
    cr_assert_neq(memory, MAP_FAILED);
    cr_assert_eq(munmap(memory, scene.host_half.size_bytes), 0);
    cr_assert_eq(ftruncate(scene.fds[SRI_LANE_FD_HOST], 0), -1);
    scene_end(&scene);
}

/* Nothing of an earlier channel is in the memory of the next: it is new, and zero. */
Test(lane_hostile, memory_of_an_earlier_worker_is_not_there) {
    struct scene first;
    struct scene second;
    scene_begin(&first, SR_ISOLATION_SHARED);
    (void)call(&first, 60000);
    memset((char *)first.own_half.base + 8192, 'x', ARENA);
    scene_end(&first);
    scene_begin(&second, SR_ISOLATION_SHARED);
    const size_t arena_at = second.own_half.size_bytes - ARENA;
    const char *bytes = second.own_half.base;
    for (size_t i = 0; i < ARENA; i++) {
        cr_assert_eq(bytes[arena_at + i], 0);
    }
    scene_end(&second);
}

/* ---- lies -------------------------------------------------------------------------------------
 */

struct lie {
    const char *what;
    void (*tell)(struct scene *scene);
};

static void answer_nothing(struct scene *scene) {
    say(scene, (struct sri_frame){.epoch = epoch_of(scene), .kind = SRI_FRAME_ANSWER, .id = 1});
}

static void answer_twice(struct scene *scene) {
    struct sri_frame frame = call(scene, 0);
    frame.kind = SRI_FRAME_ANSWER;
    say(scene, frame);
    say(scene, frame);
}

static void answer_of_another_epoch(struct scene *scene) {
    struct sri_frame frame = call(scene, 0);
    frame.kind = SRI_FRAME_ANSWER;
    frame.epoch++;
    say(scene, frame);
}

static void answer_of_another_method(struct scene *scene) {
    struct sri_frame frame = call(scene, 0);
    frame.kind = SRI_FRAME_ANSWER;
    frame.method = 1;
    say(scene, frame);
}

static void hello_by_memory(struct scene *scene) {
    say(scene, (struct sri_frame){
                   .epoch = epoch_of(scene), .kind = SRI_FRAME_HELLO, .method = SRI_FRAME_VERSION});
}

static void say_what_a_host_says(struct scene *scene) {
    say(scene, (struct sri_frame){.epoch = epoch_of(scene), .kind = SRI_FRAME_CALL});
}

static void skip_an_event(struct scene *scene) {
    say(scene, (struct sri_frame){.epoch = epoch_of(scene), .kind = SRI_FRAME_EVENT, .id = 1});
}

static void answer_over_the_socket(struct scene *scene) {
    struct sri_frame frame = call(scene, 0);
    frame.kind = SRI_FRAME_ANSWER;
    cr_assert_eq(send(scene->peer, &frame, sizeof frame, 0), (ssize_t)sizeof frame);
}

static _Atomic uint64_t *written_word(struct scene *scene) {
    return (_Atomic uint64_t *)(void *)((char *)scene->own_half.base +
                                        sizeof(struct sri_lane_words));
}

static void write_more_than_there_are_slots(struct scene *scene) {
    atomic_store(written_word(scene), UINT64_C(1000000));
}

static void write_backwards(struct scene *scene) {
    struct sri_frame frame = call(scene, 0);
    frame.kind = SRI_FRAME_ANSWER;
    say(scene, frame);
    look(scene);
    cr_assert_eq(scene->answers, 1);
    atomic_store(written_word(scene), 0);
    cr_assert_eq(sri_doorbell_ring(scene->fds[SRI_LANE_FD_DOORBELL]), 0);
}

static void read_what_was_not_written(struct scene *scene) {
    const uint64_t far = 100;
    struct sri_lane_words *words = scene->own_half.base;
    memcpy(words->reader, &far, sizeof far);
    static const unsigned char bytes[ARENA];
    sr_call_request request = SR_CALL_REQUEST_INIT;
    request.data = bytes;
    request.data_bytes = ARENA;
    request.on_answer = on_answer;
    request.ctx = scene;
    int code = sr_channel_call(scene->channel, &request, NULL); /* takes all of the arena */
    code = code < 0 ? code : sr_channel_call(scene->channel, &request, NULL);
    assert_code(code, SR_E_PROTOCOL);
}

static const struct lie lies[] = {
    {"an answer to nothing", answer_nothing},
    {"two answers", answer_twice},
    {"another epoch", answer_of_another_epoch},
    {"another method", answer_of_another_method},
    {"hello by memory", hello_by_memory},
    {"a call", say_what_a_host_says},
    {"an event that skips one", skip_an_event},
    {"an answer over the socket", answer_over_the_socket},
    {"more than there are slots", write_more_than_there_are_slots},
    {"backwards", write_backwards},
};

Test(lane_hostile, each_lie_ends_the_channel) {
    for (size_t i = 0; i < COUNT_OF(isolations); i++) {
        for (size_t lie = 0; lie < COUNT_OF(lies); lie++) {
            struct scene scene;
            scene_begin(&scene, isolations[i]);
            fprintf(stderr, "%s\n", lies[lie].what);
            lies[lie].tell(&scene);
            wait_for_end(&scene, SR_E_PROTOCOL);
            scene_end(&scene);
        }
    }
}

Test(lane_hostile, a_worker_that_says_it_has_read_what_was_never_written_ends_the_channel) {
    for (size_t i = 0; i < COUNT_OF(isolations); i++) {
        struct scene scene;
        scene_begin(&scene, isolations[i]);
        read_what_was_not_written(&scene);
        wait_for_end(&scene, SR_E_PROTOCOL);
        scene_end(&scene);
    }
}

Test(lane_hostile, a_worker_that_wakes_and_wakes_without_work_ends_the_channel) {
    struct scene scene;
    scene_begin(&scene, SR_ISOLATION_HYBRID);
    const uint64_t until_ns = now_ns() + 20 * SECOND;
    while (scene.ended_count == 0) {
        cr_assert_eq(sri_doorbell_ring(scene.fds[SRI_LANE_FD_DOORBELL]), 0);
        look(&scene);
        cr_assert_lt(now_ns(), until_ns);
    }
    assert_code(scene.code, SR_E_PROTOCOL);
    scene_end(&scene);
}

Test(lane_hostile, a_worker_that_says_nothing_is_waited_for_until_the_deadline) {
    struct scene scene;
    scene_begin(&scene, SR_ISOLATION_HYBRID);
    sr_call_request request = SR_CALL_REQUEST_INIT;
    request.on_answer = on_answer;
    request.ctx = &scene;
    request.deadline_ns = 30 * MS;
    assert_ok(sr_channel_call(scene.channel, &request, NULL));
    const uint64_t begin_ns = now_ns();
    assert_ok(sr_ring_wait(scene.ring, 1, 10 * SECOND, NULL, NULL));
    cr_assert_eq(scene.answers, 1);
    cr_assert_eq(scene.last_result, SR_E_TIMEOUT);
    cr_assert_lt(now_ns() - begin_ns, 5 * SECOND);
    scene_end(&scene);
}

/* ---- scribbling while the host looks ----------------------------------------------------------
 */

struct scribbler {
    struct scene *scene;
    struct scale_random random;
    bool everywhere; /* also where calls lie */
    atomic_bool stops;
};

/* Random words at random places: words that are looked at, frames, payloads. */
static void *scribble(void *ctx) {
    struct scribbler *self = ctx;
    static const uint64_t words[] = {0, 1, 64, 4096, UINT32_MAX, UINT64_MAX, UINT64_C(1) << 63};
    while (!atomic_load(&self->stops)) {
        struct sri_shared *half = self->everywhere && scale_random_below(&self->random, 4) == 0
                                      ? &self->scene->host_half
                                      : &self->scene->own_half;
        const uint64_t room =
            scale_random_below(&self->random, 4) == 0 ? half->size_bytes : (uint64_t)16384;
        _Atomic uint64_t *memory = half->base;
        const uint64_t at = scale_random_below(&self->random, room / 8);
        const uint64_t word = scale_random_below(&self->random, 2) == 0
                                  ? words[scale_random_below(&self->random, COUNT_OF(words))]
                                  : scale_random_next(&self->random);
        atomic_store_explicit(&memory[at], word, memory_order_relaxed);
    }
    return NULL;
}

/* An answer to what was called, as long as the scribbling leaves it possible. */
static void answer_if_possible(struct scene *scene, struct scale_random *random) {
    static uint8_t bytes[ARENA];
    struct sri_frame frame;
    const uint8_t *payload = NULL;
    bool is_shared = false;
    if (sri_lane_take(&scene->lane, &frame, &payload, &is_shared) != 1) {
        return;
    }
    (void)sri_lane_release(&scene->lane);
    const uint64_t size = scale_random_below(random, 3000);
    frame.kind = SRI_FRAME_ANSWER;
    if (sri_lane_append(&scene->lane, bytes, size) == 0) {
        (void)sri_lane_send(&scene->lane, &frame);
    }
    (void)sri_lane_publish(&scene->lane);
}

static void scribble_until_ended(uint32_t isolation, struct scale_random *random,
                                 uint64_t *out_answers) {
    static const unsigned char bytes[3000];
    struct scene scene;
    pthread_t thread;
    scene_begin(&scene, isolation);
    struct scribbler scribbler = {
        .scene = &scene,
        .random = *random,
        .everywhere = isolation == SR_ISOLATION_SHARED,
    };
    (void)scale_random_next(random);
    const uint64_t until_ns = now_ns() + 20 * MS;
    uint64_t calls = 0;
    bool has_thread = false;
    while (scene.ended_count == 0 && now_ns() < until_ns) {
        sr_call_request request = SR_CALL_REQUEST_INIT;
        request.data = bytes;
        request.data_bytes = scale_random_below(random, sizeof bytes);
        request.on_answer = on_answer;
        request.ctx = &scene;
        const int code = sr_channel_call(scene.channel, &request, NULL);
        cr_assert(code == 0 || code == SR_E_FULL || code == SR_E_PROTOCOL, "%s",
                  sr_error_name(code));
        calls += code == 0;
        look(&scene);
        answer_if_possible(&scene, random);
        if (!has_thread && scene.answers >= 3) { /* it has worked so far */
            cr_assert_eq(pthread_create(&thread, NULL, scribble, &scribbler), 0);
            has_thread = true;
        }
    }
    cr_assert(scene.ended_count == 0 || scene.code == SR_E_PROTOCOL, "%s",
              sr_error_name(scene.code));
    atomic_store(&scribbler.stops, true);
    if (has_thread) {
        cr_assert_eq(pthread_join(thread, NULL), 0);
    }
    assert_ok(sr_channel_close(&scene.channel));
    cr_assert_eq(scene.answers, calls, "%zu calls, %zu answers", (size_t)calls,
                 (size_t)scene.answers);
    *out_answers += scene.ended_count;
    scene_end(&scene);
}

static void scribble_often(uint32_t isolation) {
    static struct baseline before;
    struct scale_random random = scale_random(isolation);
    const uint64_t rounds = scale_count(200, 4);
    uint64_t ended = 0;
    scribble_until_ended(isolation, &random, &ended);
    baseline_take(&before);
    for (uint64_t i = 0; i < rounds; i++) {
        scribble_until_ended(isolation, &random, &ended);
    }
    const char *difference = baseline_difference(&before);
    cr_assert_null(difference, "%s", difference);
    fprintf(stderr, "%zu of %zu channels were ended by what was scribbled\n", (size_t)ended,
            (size_t)rounds + 1);
    /* A few rounds, under valgrind, may be over before the other thread has run. */
    cr_assert(ended > 0 || rounds < 100, "nothing was scribbled where it matters");
}

Test(lane_hostile, a_worker_that_scribbles_on_its_answers_does_not_hurt_the_host) {
    scribble_often(SR_ISOLATION_HYBRID);
}

Test(lane_hostile, a_worker_that_scribbles_on_everything_does_not_hurt_the_host) {
    scribble_often(SR_ISOLATION_SHARED);
}
