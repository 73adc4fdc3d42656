/* SPDX-License-Identifier: MIT */
/*
 * Channels to workers that do what no honest worker does. The peer is the test itself, at the other
 * end of the socket: it knows the epoch, since a worker that has turned bad knows it too.
 */
#include "ipc/channel.h"
#include "ipc/opening.h"
#include "support/baseline.h"
#include "support/scale.h"
#include "unit/fixture.h"

#include <sys/socket.h>

#define MS     UINT64_C(1000000)
#define SECOND (1000 * MS)

TestSuite(channel_hostile, .timeout = 60);

struct scene {
    sr_ring *ring;
    sr_channel *channel;
    int peer;
    uint32_t epoch;
    uint32_t ready_count;
    uint32_t ended_count;
    int code;
    uint64_t answers;
    int64_t last_result;
    uint32_t last_source;
    uint64_t events;
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

static void on_event(sr_channel *channel, uint32_t number, const void *data, uint64_t data_bytes,
                     void *ctx) {
    struct scene *scene = ctx;
    unsigned char sum = 0;
    (void)channel;
    (void)number;
    for (uint64_t i = 0; i < data_bytes; i++) {
        sum = (unsigned char)(sum + ((const unsigned char *)data)[i]); /* all of it can be read */
    }
    scene->events += 1 + (sum & 0);
}

static void on_answer(sr_channel *channel, const sr_answer *answer, void *ctx) {
    struct scene *scene = ctx;
    (void)channel;
    scene->answers++;
    scene->last_result = answer->result;
    scene->last_source = answer->source;
}

/* Lets the host do what it can do now. */
static void look(struct scene *scene) {
    const sr_completion *completions = NULL;
    for (int i = 0; i < 3; i++) {
        const int code = sr_ring_wait(scene->ring, 0, 0, NULL, &completions);
        cr_assert_geq(code, 0, "%s", sr_error_name(code));
    }
}

static void wait_for_end(struct scene *scene) {
    const uint64_t until_ns = now_ns() + 10 * SECOND;
    while (scene->ended_count == 0) {
        const sr_completion *completions = NULL;
        const int code = sr_ring_wait(scene->ring, 1, 100 * MS, NULL, &completions);
        cr_assert(code >= 0 || code == SR_E_TIMEOUT || code == SR_E_IDLE);
        cr_assert_lt(now_ns(), until_ns, "the host waits for ever");
    }
}

/* @policy: what the worker has to enter first, or NULL. */
static void scene_begin_with(struct scene *scene, const struct sri_sandbox_policy *policy) {
    int pair[2];
    struct sri_frame open;
    const struct sri_channel_setup setup = {.policy = policy};
    struct sri_opening told;
    sr_channel_options options = SR_CHANNEL_OPTIONS_INIT;
    *scene = (struct scene){0};
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    scene->peer = pair[1];
    scene->ring = ring_make(NULL);
    options.payload_max_bytes = 1 << 20;
    options.calls_max = 4;
    options.on_state = on_state;
    options.on_event = on_event;
    options.ctx = scene;
    assert_ok(sri_channel_open(scene->ring, pair[0], &options, &setup, &scene->channel));
    look(scene);
    cr_assert_eq(recv(scene->peer, &open, sizeof open, MSG_WAITALL), (ssize_t)sizeof open);
    cr_assert_eq(open.kind, SRI_FRAME_OPEN);
    cr_assert_eq(open.result, 1 << 20);
    cr_assert_eq(open.size_bytes, policy != NULL ? sizeof told : 0);
    if (policy != NULL) {
        cr_assert_eq(recv(scene->peer, &told, sizeof told, MSG_WAITALL), (ssize_t)sizeof told);
        cr_assert_eq(memcmp(&told.policy, policy, sizeof *policy), 0);
        cr_assert_eq(told.lane.isolation, 0);
    }
    scene->epoch = open.epoch;
}

static void scene_begin(struct scene *scene) {
    scene_begin_with(scene, NULL);
}

/* Closing works whatever has happened, soon, and tells what has not been told. */
static void scene_end(struct scene *scene) {
    const uint64_t begin_ns = now_ns();
    assert_ok(sr_channel_close(&scene->channel));
    ring_end(&scene->ring);
    cr_assert_lt(now_ns() - begin_ns, 4 * SECOND);
    if (scene->peer >= 0) {
        cr_assert_eq(close(scene->peer), 0);
    }
}

static void say(struct scene *scene, const void *bytes, size_t count) {
    cr_assert_eq(send(scene->peer, bytes, count, MSG_NOSIGNAL), (ssize_t)count);
}

static struct sri_frame frame_of(const struct scene *scene, uint16_t kind, uint16_t method,
                                 uint32_t size_bytes) {
    return (struct sri_frame){
        .epoch = scene->epoch, .kind = kind, .method = method, .size_bytes = size_bytes};
}

/* Two methods, "a" and "b". */
static void say_hello(struct scene *scene) {
    const struct sri_frame hello = frame_of(scene, SRI_FRAME_HELLO, SRI_FRAME_VERSION, 4);
    say(scene, &hello, sizeof hello);
    say(scene, "\1a\1b", 4);
}

static void scene_begin_ready(struct scene *scene) {
    scene_begin(scene);
    say_hello(scene);
    while (scene->ready_count == 0) {
        look(scene);
    }
}

static sr_call call_method(struct scene *scene, uint32_t method) {
    sr_call call;
    sr_call_request request = SR_CALL_REQUEST_INIT;
    request.method = method;
    request.on_answer = on_answer;
    request.ctx = scene;
    assert_ok(sr_channel_call(scene->channel, &request, &call));
    look(scene);
    return call;
}

/* ---- what is said first ---------------------------------------------------------------------- */

static void assert_hello_ends(const void *bytes, size_t count, int code) {
    struct scene scene;
    scene_begin(&scene);
    struct sri_frame hello = frame_of(&scene, SRI_FRAME_HELLO, SRI_FRAME_VERSION, (uint32_t)count);
    say(&scene, &hello, sizeof hello);
    say(&scene, bytes, count);
    wait_for_end(&scene);
    assert_code(scene.code, code);
    cr_assert_eq(scene.ready_count, 0);
    scene_end(&scene);
}

Test(channel_hostile, tables_of_methods_that_cannot_be) {
    static char names[SRI_HELLO_BYTES_MAX];
    assert_hello_ends("\0", 1, SR_E_PROTOCOL);      /* an empty name */
    assert_hello_ends("\2a", 2, SR_E_PROTOCOL);     /* cut off */
    assert_hello_ends("\377a", 2, SR_E_PROTOCOL);   /* far beyond the end */
    assert_hello_ends("\1a\1a", 4, SR_E_PROTOCOL);  /* twice */
    assert_hello_ends("\3a b", 4, SR_E_PROTOCOL);   /* a space */
    assert_hello_ends("\2a\n", 3, SR_E_PROTOCOL);   /* a control character */
    assert_hello_ends("\2a\303", 3, SR_E_PROTOCOL); /* not ASCII */
    size_t size = 0;
    for (uint32_t i = 0; i <= SRI_METHODS_MAX; i++) { /* one too many */
        size += (size_t)snprintf(names + size, sizeof names - size, "\5m%04u", i);
    }
    assert_hello_ends(names, size, SR_E_PROTOCOL);
    memset(names, 'x', sizeof names);
    names[0] = 64; /* a name that is too long */
    assert_hello_ends(names, 65, SR_E_PROTOCOL);
}

Test(channel_hostile, a_thousand_methods_are_found) {
    static char names[SRI_HELLO_BYTES_MAX];
    struct scene scene;
    uint32_t method = 0;
    size_t size = 0;
    for (uint32_t i = 0; i < SRI_METHODS_MAX; i++) {
        size += (size_t)snprintf(names + size, sizeof names - size, "\5m%04u", i);
    }
    scene_begin(&scene);
    const struct sri_frame hello =
        frame_of(&scene, SRI_FRAME_HELLO, SRI_FRAME_VERSION, (uint32_t)size);
    say(&scene, &hello, sizeof hello);
    say(&scene, names, size);
    while (scene.ready_count == 0) {
        look(&scene);
    }
    assert_ok(sr_channel_method(scene.channel, "m1024", &method));
    cr_assert_eq(method, 1024);
    assert_code(sr_channel_method(scene.channel, "m1025", &method), -ENOENT);
    scene_end(&scene);
}

Test(channel_hostile, a_worker_of_another_version_is_told_apart) {
    struct scene scene;
    scene_begin(&scene);
    const struct sri_frame hello = frame_of(&scene, SRI_FRAME_HELLO, SRI_FRAME_VERSION + 1, 0);
    say(&scene, &hello, sizeof hello);
    wait_for_end(&scene);
    assert_code(scene.code, SR_E_UNSUPPORTED);
    scene_end(&scene);
}

/* ---- what is said of a sandbox ----------------------------------------------------------------
 */

static struct sri_sandbox_policy strict_policy(void) {
    struct sri_sandbox_policy policy;
    uint32_t position = 0;
    assert_ok(sri_sandbox_policy_parse("strict", &policy, &position));
    return policy;
}

/* What a worker says that has entered all that is asked of it. */
static struct sri_sandbox_report whole_report(void) {
    struct sri_sandbox_report report;
    sri_sandbox_report_init(&report);
    for (uint32_t i = 0; i < SRI_SANDBOX_LAYER_COUNT; i++) {
        if (sri_sandbox_layer_step((enum sri_sandbox_layer)i) >= SRI_SANDBOX_BEFORE_LOAD) {
            report.layers[i].state = SRI_SANDBOX_HOLDS;
        }
    }
    return report;
}

static void say_report(struct scene *scene, const struct sri_sandbox_report *report) {
    const struct sri_frame confined =
        frame_of(scene, SRI_FRAME_CONFINED, SRI_FRAME_VERSION, sizeof *report);
    say(scene, &confined, sizeof confined);
    say(scene, report, sizeof *report);
}

static void assert_report_ends(const struct sri_sandbox_report *report, int code) {
    const struct sri_sandbox_policy policy = strict_policy();
    struct scene scene;
    scene_begin_with(&scene, &policy);
    say_report(&scene, report);
    wait_for_end(&scene);
    assert_code(scene.code, code);
    cr_assert_eq(scene.ready_count, 0);
    scene_end(&scene);
}

Test(channel_hostile, a_worker_that_has_entered_its_sandbox_is_ready) {
    const struct sri_sandbox_policy policy = strict_policy();
    struct sri_sandbox_report report = whole_report();
    struct scene scene;
    /* Not required, so it may be missing. */
    report.layers[SRI_SANDBOX_TCP] =
        (struct sri_sandbox_layer_report){SRI_SANDBOX_REFUSED, -EOPNOTSUPP};
    scene_begin_with(&scene, &policy);
    say_report(&scene, &report);
    say_hello(&scene);
    while (scene.ready_count == 0) {
        look(&scene);
    }
    scene_end(&scene);
}

Test(channel_hostile, a_sandbox_that_is_not_entered_or_not_asked_for_ends_the_channel) {
    const struct sri_sandbox_policy policy = strict_policy();
    const struct sri_sandbox_report report = whole_report();
    struct scene scene;
    scene_begin_with(&scene, &policy); /* hello at once */
    say_hello(&scene);
    wait_for_end(&scene);
    assert_code(scene.code, SR_E_PROTOCOL);
    scene_end(&scene);
    scene_begin_with(&scene, &policy); /* twice */
    say_report(&scene, &report);
    say_report(&scene, &report);
    wait_for_end(&scene);
    assert_code(scene.code, SR_E_PROTOCOL);
    scene_end(&scene);
    scene_begin(&scene); /* nobody has asked */
    say_report(&scene, &report);
    wait_for_end(&scene);
    assert_code(scene.code, SR_E_PROTOCOL);
    scene_end(&scene);
    scene_begin_with(&scene, &policy); /* not all of it */
    const struct sri_frame confined =
        frame_of(&scene, SRI_FRAME_CONFINED, SRI_FRAME_VERSION, sizeof report - 1);
    say(&scene, &confined, sizeof confined);
    say(&scene, &report, sizeof report - 1);
    wait_for_end(&scene);
    assert_code(scene.code, SR_E_PROTOCOL);
    scene_end(&scene);
}

Test(channel_hostile, reports_that_cannot_be_end_the_channel) {
    struct sri_sandbox_report report = whole_report();
    report.layers[SRI_SANDBOX_FILES].state = SRI_SANDBOX_NOT_ASKED; /* asked for, and forgotten */
    assert_report_ends(&report, SR_E_PROTOCOL);
    report = whole_report();
    report.layers[SRI_SANDBOX_FILES] = /* required, and not said to be the end of it */
        (struct sri_sandbox_layer_report){SRI_SANDBOX_REFUSED, -ENOSYS};
    assert_report_ends(&report, SR_E_PROTOCOL);
    report.failed_layer = SRI_SANDBOX_FILES; /* that is honest */
    assert_report_ends(&report, -ENOSYS);
    report.layers[SRI_SANDBOX_FILES].code = 0;
    assert_report_ends(&report, SR_E_PROTOCOL);
    report = whole_report();
    report.layers[SRI_SANDBOX_LIMITS].state = SRI_SANDBOX_HOLDS; /* not its to say */
    assert_report_ends(&report, SR_E_PROTOCOL);
    report = whole_report();
    report.layers[SRI_SANDBOX_CALLS].state = UINT32_MAX;
    assert_report_ends(&report, SR_E_PROTOCOL);
    report = whole_report();
    report.failed_layer = UINT32_MAX;
    assert_report_ends(&report, SR_E_PROTOCOL);
    report = whole_report();
    report.failed_path = UINT32_MAX;
    assert_report_ends(&report, SR_E_PROTOCOL);
}

/* ---- frames that no honest worker sends -------------------------------------------------------
 */

struct lie {
    const char *what;
    struct sri_frame frame;
    bool wrong_epoch;
};

static const struct lie lies[] = {
    {"no kind", {.kind = 0}, false},
    {"a kind that is not", {.kind = SRI_FRAME_CONFINED + 1}, false},
    {"a sandbox that nobody asked for",
     {.kind = SRI_FRAME_CONFINED, .method = SRI_FRAME_VERSION},
     false},
    {"the largest kind", {.kind = UINT16_MAX}, false},
    {"what a host says: open", {.kind = SRI_FRAME_OPEN, .method = SRI_FRAME_VERSION}, false},
    {"what a host says: call", {.kind = SRI_FRAME_CALL, .id = 1}, false},
    {"what a host says: note", {.kind = SRI_FRAME_NOTE}, false},
    {"hello again", {.kind = SRI_FRAME_HELLO, .method = SRI_FRAME_VERSION}, false},
    {"another epoch", {.kind = SRI_FRAME_EVENT}, true},
    {"reserved bits", {.kind = SRI_FRAME_EVENT, .reserved = 1}, false},
    {"a result where there is none", {.kind = SRI_FRAME_EVENT, .result = 1}, false},
    {"an event that skips one", {.kind = SRI_FRAME_EVENT, .id = 1}, false},
    {"one byte too many", {.kind = SRI_FRAME_EVENT, .size_bytes = (1 << 20) + 1}, false},
    {"the largest size", {.kind = SRI_FRAME_EVENT, .size_bytes = UINT32_MAX}, false},
    {"an answer to nothing", {.kind = SRI_FRAME_ANSWER, .id = 0}, false},
    {"an answer to a guess", {.kind = SRI_FRAME_ANSWER, .id = 0xA000000000000001}, false},
};

Test(channel_hostile, each_frame_that_cannot_be_ends_the_channel) {
    for (size_t i = 0; i < COUNT_OF(lies); i++) {
        struct scene scene;
        scene_begin_ready(&scene);
        (void)call_method(&scene, 0);
        struct sri_frame frame = lies[i].frame;
        frame.epoch = scene.epoch + (lies[i].wrong_epoch ? 1 : 0);
        say(&scene, &frame, sizeof frame);
        wait_for_end(&scene);
        cr_assert_eq(scene.code, SR_E_PROTOCOL, "%s: %s", lies[i].what, sr_error_name(scene.code));
        cr_assert_eq(scene.answers, 1, "%s", lies[i].what);
        cr_assert_eq(scene.last_source, SR_ANSWER_CHANNEL);
        assert_code(scene.last_result, SR_E_PROTOCOL);
        char byte = 0;
        struct sri_frame called; /* the peer sees its call, then the end */
        cr_assert_eq(recv(scene.peer, &called, sizeof called, MSG_WAITALL), (ssize_t)sizeof called);
        cr_assert_leq(recv(scene.peer, &byte, 1, MSG_DONTWAIT), 0, "%s", lies[i].what);
        scene_end(&scene);
    }
}

Test(channel_hostile, a_call_is_answered_once) {
    struct scene scene;
    scene_begin_ready(&scene);
    const sr_call call = call_method(&scene, 1);
    struct sri_frame answer = frame_of(&scene, SRI_FRAME_ANSWER, 1, 0);
    answer.id = call.bits;
    answer.result = 5;
    say(&scene, &answer, sizeof answer);
    say(&scene, &answer, sizeof answer);
    wait_for_end(&scene);
    assert_code(scene.code, SR_E_PROTOCOL);
    cr_assert_eq(scene.answers, 1);
    cr_assert_eq(scene.last_source, SR_ANSWER_METHOD);
    cr_assert_eq(scene.last_result, 5);
    scene_end(&scene);
}

Test(channel_hostile, an_answer_names_the_method_that_was_called) {
    struct scene scene;
    scene_begin_ready(&scene);
    const sr_call call = call_method(&scene, 1);
    struct sri_frame answer = frame_of(&scene, SRI_FRAME_ANSWER, 0, 0);
    answer.id = call.bits;
    say(&scene, &answer, sizeof answer);
    wait_for_end(&scene);
    assert_code(scene.code, SR_E_PROTOCOL);
    scene_end(&scene);
}

Test(channel_hostile, an_answer_of_an_ended_channel_means_nothing_to_the_next) {
    struct scene first;
    struct scene second;
    scene_begin_ready(&first);
    const sr_call call = call_method(&first, 0);
    struct sri_frame answer = frame_of(&first, SRI_FRAME_ANSWER, 0, 0);
    answer.id = call.bits;
    scene_end(&first);
    cr_assert_eq(first.answers, 1);
    assert_code(first.last_result, -ECANCELED);
    scene_begin_ready(&second);
    (void)call_method(&second, 0);
    answer.epoch = second.epoch; /* even if it guesses that */
    say(&second, &answer, sizeof answer);
    wait_for_end(&second);
    assert_code(second.code, SR_E_PROTOCOL);
    scene_end(&second);
}

/* ---- pieces, silence, floods ------------------------------------------------------------------
 */

Test(channel_hostile, a_frame_cut_off_at_any_byte_is_no_frame) {
    for (size_t cut = 0; cut < sizeof(struct sri_frame) + 5; cut++) {
        struct scene scene;
        unsigned char bytes[sizeof(struct sri_frame) + 5] = {0};
        scene_begin_ready(&scene);
        const struct sri_frame event = frame_of(&scene, SRI_FRAME_EVENT, 9, 5);
        memcpy(bytes, &event, sizeof event);
        say(&scene, bytes, cut);
        look(&scene);
        cr_assert_eq(scene.events, 0);
        cr_assert_eq(close(scene.peer), 0);
        scene.peer = -1;
        wait_for_end(&scene);
        assert_code(scene.code, SR_E_PEER_DIED);
        cr_assert_eq(scene.events, 0);
        scene_end(&scene);
    }
}

Test(channel_hostile, frames_byte_by_byte_are_frames) {
    struct scene scene;
    scene_begin_ready(&scene);
    for (uint64_t id = 0; id < 20; id++) {
        struct sri_frame event = frame_of(&scene, SRI_FRAME_EVENT, 9, 3);
        unsigned char bytes[sizeof event + 3] = {0};
        event.id = id;
        memcpy(bytes, &event, sizeof event);
        for (size_t i = 0; i < sizeof bytes; i++) {
            say(&scene, bytes + i, 1);
            look(&scene);
        }
        cr_assert_eq(scene.events, id + 1);
    }
    cr_assert_eq(scene.ended_count, 0);
    scene_end(&scene);
}

Test(channel_hostile, a_size_that_is_only_said_costs_no_memory) {
    struct scene scene;
    struct sri_frame event;
    long before = 0;
    long after = 0;
    char line[256];
    scene_begin_ready(&scene);
    for (int pass = 0; pass < 2; pass++) {
        FILE *status = fopen("/proc/self/statm", "r");
        cr_assert_not_null(status);
        cr_assert_not_null(fgets(line, sizeof line, status));
        long size = 0;
        cr_assert_eq(sscanf(line, "%ld %ld", &size, pass == 0 ? &before : &after), 2);
        cr_assert_eq(fclose(status), 0);
        if (pass == 0) {
            event = frame_of(&scene, SRI_FRAME_EVENT, 0, 1 << 20);
            say(&scene, &event, sizeof event);
            say(&scene, "x", 1);
            look(&scene);
        }
    }
    cr_assert_lt((after - before) * 4096, 512 << 10, "%ld pages more", after - before);
    scene_end(&scene);
}

Test(channel_hostile, a_peer_that_resets_is_a_peer_that_died) {
    struct scene scene;
    scene_begin_ready(&scene);
    (void)call_method(&scene, 0); /* it is never read: the close is a reset */
    cr_assert_eq(close(scene.peer), 0);
    scene.peer = -1;
    wait_for_end(&scene);
    assert_code(scene.code, SR_E_PEER_DIED);
    cr_assert_eq(scene.answers, 1);
    assert_code(scene.last_result, SR_E_PEER_DIED);
    scene_end(&scene);
}

static void *flood(void *ctx) {
    struct scene *scene = ctx;
    struct sri_frame event = frame_of(scene, SRI_FRAME_EVENT, 1, 0);
    while (send(scene->peer, &event, sizeof event, MSG_NOSIGNAL) == (ssize_t)sizeof event) {
        event.id++;
    }
    return NULL;
}

Test(channel_hostile, a_flood_of_events_starves_nobody) {
    struct scene scene;
    pthread_t thread;
    sr_request timeout = request_of(SR_OP_TIMEOUT);
    scene_begin_ready(&scene);
    cr_assert_eq(pthread_create(&thread, NULL, flood, &scene), 0);
    const sr_completion *completions = NULL;
    int count = 0;
    while (scene.events == 0) { /* valgrind runs no other thread while this one is in the ring */
        const struct timespec nap = {0, 1000000};
        look(&scene);
        (void)nanosleep(&nap, NULL);
    }
    timeout.duration_ns = 50 * MS;
    const uint64_t begin_ns = now_ns();
    (void)submit(scene.ring, &timeout);
    while ((count = sr_ring_wait(scene.ring, 1, SECOND, NULL, &completions)) == 0) {
    }
    cr_assert_eq(count, 1, "%s", sr_error_name(count));
    cr_assert_eq(completions[0].opcode, SR_OP_TIMEOUT);
    cr_assert_lt(now_ns() - begin_ns, SECOND);
    assert_ok(sr_channel_close(&scene.channel)); /* in the middle of it */
    cr_assert_eq(pthread_join(thread, NULL), 0);
    ring_end(&scene.ring);
    cr_assert_eq(close(scene.peer), 0);
}

/* Descriptors beside a frame: nobody takes them, and the kernel closes them. */
Test(channel_hostile, descriptors_in_the_socket_are_nobodys) {
    static struct baseline before;
    struct scene scene;
    struct sri_frame event;
    int fds[16];
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof fds)];
    } control = {0};
    struct iovec bytes = {&event, sizeof event};
    struct msghdr message = {
        .msg_iov = &bytes,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof control,
    };
    scene_begin_ready(&scene);
    for (size_t i = 0; i < COUNT_OF(fds); i++) {
        fds[i] = scene.peer;
    }
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(header), fds, sizeof fds);
    baseline_take(&before);
    for (uint64_t id = 0; id < 50; id++) {
        event = frame_of(&scene, SRI_FRAME_EVENT, 0, 0);
        event.id = id;
        cr_assert_eq(sendmsg(scene.peer, &message, MSG_NOSIGNAL), (ssize_t)sizeof event);
        look(&scene);
    }
    cr_assert_eq(scene.events, 50);
    cr_assert_eq(scene.ended_count, 0);
    struct baseline *now = malloc(sizeof *now);
    cr_assert_not_null(now);
    baseline_take(now);
    cr_assert_eq(now->fd_count, before.fd_count);
    free(now);
    scene_end(&scene);
}

/* Random bytes, and honest frames of which some bits are wrong. */
Test(channel_hostile, garbage_ends_the_channel_or_is_waited_for) {
    const uint64_t rounds = scale_count(2000, 100);
    struct scale_random random = scale_random(7);
    uint64_t ended = 0;
    for (uint64_t round = 0; round < rounds; round++) {
        struct scene scene;
        unsigned char bytes[300];
        size_t count = 0;
        if (round % 2 == 0) {
            scene_begin_ready(&scene);
        } else {
            scene_begin(&scene);
        }
        for (uint64_t id = 0; id < 6; id++) {
            struct sri_frame event = frame_of(&scene, SRI_FRAME_EVENT, 1, 4);
            event.id = id;
            memcpy(bytes + count, &event, sizeof event);
            count += sizeof event + 4;
        }
        for (uint64_t flips = scale_random_below(&random, 8); flips > 0; flips--) {
            bytes[scale_random_below(&random, count)] ^=
                (unsigned char)(1u << scale_random_below(&random, 8));
        }
        if (round % 5 == 0) {
            for (size_t i = 0; i < count; i++) {
                bytes[i] = (unsigned char)scale_random_next(&random);
            }
        }
        say(&scene, bytes, count);
        look(&scene);
        cr_assert(scene.ended_count == 0 || scene.code == SR_E_PROTOCOL ||
                      scene.code == SR_E_UNSUPPORTED,
                  "%s", sr_error_name(scene.code));
        ended += scene.ended_count;
        scene_end(&scene);
    }
    cr_assert_gt(ended, rounds / 4);
}
