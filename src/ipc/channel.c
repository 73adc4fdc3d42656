/* SPDX-License-Identifier: MIT */
#include "ipc/channel.h"

#include "ipc/opening.h"
#include "ipc/sandbox.h"
#include "sys/cpus.h"
#include "sys/memory.h"
#include "sys/packet.h"

#include <errno.h>

/* ---- answers ---------------------------------------------------------------------------------
 */

static void tell(sr_channel *channel, const struct sri_call *call, sr_answer *answer) {
    answer->call.bits = call->handle;
    answer->tag = call->tag;
    answer->method = call->method;
    if (call->on_answer != NULL) {
        sri_ring_count_callback(channel->client.ring);
        call->on_answer(channel, answer, call->ctx);
    }
}

/* The channel's own answer to a call that goes. The record is free before anybody is told. */
static void fail(sr_channel *channel, struct sri_call *call, int code) {
    const struct sri_call gone = *call;
    sr_answer answer = {.result = code, .source = SR_ANSWER_CHANNEL};
    sri_call_release(&channel->calls, call);
    if (gone.state == SRI_CALL_WAITING) {
        channel->stats.failures++;
        tell(channel, &gone, &answer);
    }
}

static void fail_all(sr_channel *channel, int code) {
    for (uint32_t i = 0; i < channel->calls.count_max; i++) {
        struct sri_call *call = &channel->calls.list[i];
        if (call->state != SRI_CALL_FREE) {
            fail(channel, call, code);
        }
    }
}

/* The worker still has it, so it stays in the table. */
static void give_up(sr_channel *channel, struct sri_call *call, int code) {
    sr_answer answer = {.result = code, .source = SR_ANSWER_CHANNEL};
    sri_call_give_up(&channel->calls, call);
    channel->stats.failures++;
    tell(channel, call, &answer);
}

static void give_up_due(sr_channel *channel) {
    struct sri_call *call = NULL;
    if (sri_calls_next_deadline(&channel->calls) != SR_FOREVER) {
        const uint64_t now_ns = channel->client.ring->queue.backend->now_ns();
        while ((call = sri_calls_due(&channel->calls, now_ns)) != NULL) {
            give_up(channel, call, call->cancelled ? -ECANCELED : SR_E_TIMEOUT);
        }
    }
    channel->client.deadline_ns = sri_calls_next_deadline(&channel->calls);
}

/* ---- what the worker says --------------------------------------------------------------------
 */

static void tell_state(sr_channel *channel, int code) {
    if (channel->options.on_state != NULL) {
        channel->options.on_state(channel, code, channel->options.ctx);
    }
}

/* Before its hello. The report is taken for true where it can be: it says what an honest worker
 * would enter, or the channel ends. */
static int on_confined(sr_channel *channel, const struct sri_frame *frame, const uint8_t *payload) {
    struct sri_sandbox_report report;
    if (channel->policy == NULL || channel->has_report || frame->size_bytes != sizeof report) {
        return SR_E_PROTOCOL;
    }
    memcpy(&report, payload, sizeof report);
    if (!sri_sandbox_report_is_valid(&report)) {
        return SR_E_PROTOCOL;
    }
    channel->has_report = true;
    channel->report = report;
    if (report.failed_layer != SRI_SANDBOX_LAYER_COUNT) {
        return report.layers[report.failed_layer].code;
    }
    channel->link.limits.first = true; /* hello comes next */
    return sri_sandbox_report_fits(&report, channel->policy, SRI_SANDBOX_BEFORE_LOAD,
                                   SRI_SANDBOX_BEFORE_SERVE)
               ? 0
               : SR_E_PROTOCOL;
}

static int on_hello(sr_channel *channel, const struct sri_frame *frame, const uint8_t *payload) {
    if (frame->size_bytes > SRI_HELLO_BYTES_MAX ||
        (channel->policy != NULL && !channel->has_report)) {
        return SR_E_PROTOCOL;
    }
    if (frame->size_bytes > 0) {
        channel->hello_bytes = sri_allocate(1, frame->size_bytes);
        if (channel->hello_bytes == NULL) {
            return -ENOMEM;
        }
        memcpy(channel->hello_bytes, payload, frame->size_bytes);
    }
    const int code = sri_hello_check(channel->hello_bytes, frame->size_bytes, &channel->hello);
    if (code < 0) {
        return code;
    }
    channel->ready = true;
    channel->link.limits.size_max_bytes = channel->options.payload_max_bytes;
    tell_state(channel, 0);
    return 0;
}

static int on_answer(sr_channel *channel, const struct sri_frame *frame, const uint8_t *payload) {
    struct sri_call *call = sri_call_find(&channel->calls, frame->id);
    if (call == NULL || call->method != frame->method) {
        return SR_E_PROTOCOL; /* nobody asked, or it has been answered */
    }
    const struct sri_call gone = *call;
    sri_call_release(&channel->calls, call);
    if (gone.state == SRI_CALL_GIVEN_UP) {
        channel->stats.answers_late++;
        return 0;
    }
    sr_answer answer = {
        .result = frame->result,
        .data = payload,
        .data_bytes = frame->size_bytes,
        .source = SR_ANSWER_METHOD,
    };
    channel->stats.answers++;
    tell(channel, &gone, &answer);
    return 0;
}

static int on_event(sr_channel *channel, const struct sri_frame *frame, const uint8_t *payload) {
    if (frame->id != channel->stats.events) {
        return SR_E_PROTOCOL; /* one was lost or came twice */
    }
    channel->stats.events++;
    if (channel->options.on_event == NULL) {
        channel->stats.events_dropped++;
        return 0;
    }
    channel->options.on_event(channel, frame->method, payload, frame->size_bytes,
                              channel->options.ctx);
    return 0;
}

/* What comes as long as it serves, over the socket or over its lane. */
static int on_serving(sr_channel *channel, const struct sri_frame *frame, const uint8_t *payload) {
    switch (frame->kind) {
    case SRI_FRAME_ANSWER:
        return on_answer(channel, frame, payload);
    case SRI_FRAME_EVENT:
        return on_event(channel, frame, payload);
    default:
        return SR_E_PROTOCOL;
    }
}

static int on_frame(struct sri_link *link, const struct sri_frame *frame, const uint8_t *payload) {
    sr_channel *channel = SRI_CONTAINER_OF(link, sr_channel, link);
    switch (frame->kind) {
    case SRI_FRAME_CONFINED:
        return on_confined(channel, frame, payload);
    case SRI_FRAME_HELLO:
        return on_hello(channel, frame, payload);
    default: /* with a lane nothing else comes over the socket */
        return channel->lane == NULL ? on_serving(channel, frame, payload) : SR_E_PROTOCOL;
    }
}

/* ---- its lane --------------------------------------------------------------------------------
 */

/* Frames that are taken before somebody else has a turn. */
#define FRAMES_PER_TURN 64u

/* The worker serves, over a lane. */
static bool has_open_lane(const sr_channel *channel) {
    return channel->lane != NULL && channel->ready && channel->link.code == 0;
}

/* Takes up to @count frames. Returns how many there were, or a negative code. */
static int take_frames(sr_channel *channel, uint32_t count) {
    uint32_t taken = 0;
    while (taken < count) {
        struct sri_frame frame;
        const uint8_t *payload = NULL;
        int code = sri_lane_host_take(channel->lane, &channel->link.limits, &frame, &payload);
        if (code == 0) {
            break;
        }
        code = code < 0 ? code : on_serving(channel, &frame, payload);
        code = code < 0 ? code : sri_lane_release(&channel->lane->lane);
        if (code < 0) {
            return code;
        }
        channel->link.counts.frames_received++;
        channel->link.counts.bytes_received += sizeof frame + frame.size_bytes;
        taken++;
    }
    return (int)taken;
}

static void turn_lane(sr_channel *channel) {
    struct sri_lane_host *lane = channel->lane;
    int code = sri_lane_host_turn(lane);
    code = code < 0 ? code : take_frames(channel, FRAMES_PER_TURN);
    if (code == (int)FRAMES_PER_TURN) {
        sri_ring_want_turn(channel->client.ring);
    }
    code = code < 0 ? code : sri_lane_publish(&lane->lane); /* what was called meanwhile */
    if (code < 0) {
        sri_link_fail(&channel->link, code);
    }
}

static void on_end(struct sri_link *link) {
    sr_channel *channel = SRI_CONTAINER_OF(link, sr_channel, link);
    if (channel->lane != NULL && channel->ready && link->code == SR_E_PEER_DIED) {
        /* What it had said before counts; of a worker that has gone no more can come. */
        (void)take_frames(channel, channel->lane->lane.shape.capacity);
    }
    fail_all(channel, link->code);
    channel->client.deadline_ns = SR_FOREVER;
    tell_state(channel, link->code);
}

/* ---- the ring's turns ------------------------------------------------------------------------
 */

static void turn(struct sri_ring_client *client) {
    sr_channel *channel = SRI_CONTAINER_OF(client, sr_channel, client);
    if (!channel->closing) {
        give_up_due(channel);
        sri_link_pump(&channel->link);
        if (has_open_lane(channel)) {
            turn_lane(channel);
        }
    }
}

static void waited(struct sri_ring_client *client) {
    const sr_channel *channel = SRI_CONTAINER_OF(client, sr_channel, client);
    bool may_look = false;
    /* The program goes to sleep in a loop of its own. */
    if (has_open_lane(channel) && client->ring->event_fd >= 0 &&
        !sri_lane_host_arm(channel->lane, false, &may_look)) {
        sri_ring_want_turn(client->ring);
    }
}

static bool arm(struct sri_ring_client *client, bool *may_look) {
    const sr_channel *channel = SRI_CONTAINER_OF(client, sr_channel, client);
    const bool looks = channel->calls.count > channel->calls.given_up_count;
    return !has_open_lane(channel) || sri_lane_host_arm(channel->lane, looks, may_look);
}

static void awake(struct sri_ring_client *client) {
    const sr_channel *channel = SRI_CONTAINER_OF(client, sr_channel, client);
    if (channel->lane != NULL) {
        sri_lane_host_awake(channel->lane);
    }
}

/* ---- life ------------------------------------------------------------------------------------
 */

static void free_memory(sr_channel *channel, bool has_ring) {
    if (channel->lane != NULL) {
        sri_lane_host_close(channel->lane, has_ring);
        sri_release(channel->lane);
    }
    sri_calls_deinit(&channel->calls);
    sri_release(channel->hello_bytes);
    sri_release(channel->policy);
    channel->magic = 0;
    sri_release(channel);
}

int sri_isolation_check(uint32_t isolation, uint64_t arena_bytes) {
    const bool fits = isolation >= SR_ISOLATION_FULL && isolation <= SR_ISOLATION_SHARED &&
                      arena_bytes >= SRI_LANE_ARENA_MIN && arena_bytes <= SRI_LANE_ARENA_MAX;
    return fits ? 0 : SR_E_BOUNDS;
}

static int check_options(sr_ring *ring, int socket, const sr_channel_options *options,
                         sr_channel_options *given) {
    int code = sri_ring_check(ring);
    if (code < 0) {
        return code;
    }
    if (!sri_options_take(given, sizeof *given, options)) {
        return -EINVAL;
    }
    if (given->reserved != 0) {
        return -EINVAL;
    }
    if (given->calls_max < 1 || given->calls_max > SRI_CALLS_MAX ||
        given->payload_max_bytes > SRI_PAYLOAD_MAX_BYTES) {
        return SR_E_BOUNDS;
    }
    code = sri_isolation_check(given->isolation, given->arena_bytes);
    if (code < 0) {
        return code;
    }
    code = ring->queue.backend->fd_is_open(socket);
    if (code == 0 && ring->queue.backend->fd_kind(socket) != SRI_FD_SOCKET) {
        code = -ENOTSOCK;
    }
    return code;
}

/* Frames that may be on their way beside one for each call. */
#define LANE_SLOTS_MORE 64u

/* What host and worker may count on: the host's CPU and a share of the others. With more pairs than
 * those there is no share, and who waits sleeps at once. */
static uint32_t cpus_for_pair(uint32_t pairs) {
    const uint32_t cpus = sri_cpus_usable();
    return pairs > 1 ? 1 + (cpus - 1) / pairs : cpus;
}

static int open_lane(sr_channel *channel, sr_ring *ring, uint32_t epoch, uint32_t pairs) {
    const uint64_t page = 4096;
    if (channel->options.isolation == SR_ISOLATION_FULL) {
        return 0;
    }
    const struct sri_lane_host_config config = {
        .ring = ring,
        .shape = {.isolation = channel->options.isolation,
                  .capacity = channel->options.calls_max + LANE_SLOTS_MORE,
                  .arena_bytes = (channel->options.arena_bytes + page - 1) & ~(page - 1)},
        .epoch = epoch,
        .cpus = cpus_for_pair(pairs),
    };
    channel->lane = sri_allocate(1, sizeof *channel->lane);
    if (channel->lane == NULL) {
        return -ENOMEM;
    }
    const int code = sri_lane_host_open(channel->lane, &config);
    if (code < 0) {
        sri_release(channel->lane);
        channel->lane = NULL;
    }
    if (channel->options.payload_max_bytes > config.shape.arena_bytes) {
        channel->options.payload_max_bytes = (uint32_t)config.shape.arena_bytes;
    }
    return code;
}

/* The first frame goes out at once: only so can descriptors go with it. That the worker has gone
 * already the link will tell. */
static int say_open(sr_channel *channel, int socket, uint32_t epoch) {
    struct {
        struct sri_frame frame;
        struct sri_opening opening;
    } first;
    int fds[SRI_LANE_FD_COUNT];
    memset(&first, 0, sizeof first);
    first.frame = (struct sri_frame){
        .epoch = epoch,
        .kind = SRI_FRAME_OPEN,
        .method = SRI_FRAME_VERSION,
        .result = channel->options.payload_max_bytes,
    };
    if (channel->lane != NULL) {
        first.opening.lane = channel->lane->lane.shape;
        sri_lane_host_fds(channel->lane, fds);
    }
    if (channel->policy != NULL) {
        first.opening.policy = *channel->policy;
    }
    const bool has_opening = channel->lane != NULL || channel->policy != NULL;
    first.frame.size_bytes = has_opening ? sizeof first.opening : 0;
    const size_t size = sizeof first.frame + first.frame.size_bytes;
    const int code =
        sri_packet_send(socket, &first, size, fds, channel->lane != NULL ? SRI_LANE_FD_COUNT : 0);
    if (channel->lane != NULL) {
        sri_lane_host_fds_sent(channel->lane);
    }
    return code == -EPIPE || code == -ECONNRESET ? 0 : code;
}

static int open_link(sr_channel *channel, sr_ring *ring, int socket, uint32_t pairs) {
    const uint32_t epoch = (uint32_t)ring->queue.backend->random();
    const struct sri_link_config config = {
        .ring = ring,
        .pool = channel->options.pool,
        .fd = socket,
        .queue_max_bytes = channel->options.queue_max_bytes,
        .limits = {epoch, SRI_HELLO_BYTES_MAX, SRI_FRAME_FROM_WORKER, true},
        .on_frame = on_frame,
        .on_end = on_end,
    };
    int code = open_lane(channel, ring, epoch, pairs);
    code = code < 0 ? code : say_open(channel, socket, epoch);
    return code < 0 ? code : sri_link_open(&channel->link, &config);
}

int sr_channel_open(sr_ring *ring, int socket, const sr_channel_options *options,
                    sr_channel **out_channel) {
    return sri_channel_open(ring, socket, options, NULL, out_channel);
}

int sri_channel_open(sr_ring *ring, int socket, const sr_channel_options *options,
                     const struct sri_channel_setup *setup, sr_channel **out_channel) {
    static const struct sri_channel_setup none;
    const struct sri_channel_setup *known = setup != NULL ? setup : &none;
    sr_channel_options given = SR_CHANNEL_OPTIONS_INIT;
    if (out_channel == NULL) {
        return sri_misuse(-EINVAL, "sr_channel_open", 0);
    }
    *out_channel = NULL;
    int code = check_options(ring, socket, options, &given);
    if (code < 0) {
        return sri_misuse(code, "sr_channel_open", 0);
    }
    sr_channel *channel = sri_allocate(1, sizeof *channel);
    if (channel == NULL) {
        return -ENOMEM;
    }
    sri_sandbox_report_init(&channel->report);
    channel->options = given;
    channel->owner_key = ring->owner_key;
    channel->client = (struct sri_ring_client){
        .deadline_ns = SR_FOREVER,
        .turn = turn,
        .waited = waited,
        .arm = given.isolation != SR_ISOLATION_FULL ? arm : NULL,
        .awake = given.isolation != SR_ISOLATION_FULL ? awake : NULL,
    };
    code = sri_calls_init(&channel->calls, given.calls_max);
    code = code < 0 ? code : sri_sandbox_copy(known->policy, &channel->policy);
    code = code < 0 ? code : open_link(channel, ring, socket, known->pairs);
    if (code < 0) {
        free_memory(channel, true);
        return code;
    }
    sri_ring_add_client(ring, &channel->client);
    channel->magic = SRI_CHANNEL_MAGIC;
    *out_channel = channel;
    return 0;
}

static bool doorbell_is_unwatched(void *ctx) {
    return sri_lane_host_drain(ctx);
}

static int close_channel(sr_channel *channel, uint64_t drain_ns) {
    sr_ring *ring = channel->client.ring;
    const bool nested = ring->in_callback;
    channel->closing = true;
    sri_link_end(&channel->link, -ECANCELED);
    ring->in_callback = true;
    fail_all(channel, -ECANCELED);
    ring->in_callback = nested;
    channel->client.deadline_ns = SR_FOREVER; /* of none any more: the drain below sleeps */
    int code = channel->lane != NULL
                   ? sri_ring_wait_until(ring, doorbell_is_unwatched, channel->lane, drain_ns)
                   : 0;
    code = code < 0 ? code : sri_link_close(&channel->link, drain_ns);
    if (code == 0) {
        sri_ring_remove_client(&channel->client);
        free_memory(channel, true);
    }
    return code;
}

/* The owner is gone, or this is a forked child: what is left is memory. */
static int forget_channel(sr_channel *channel) {
    if (channel->client.ring != NULL) {
        return SRI_MISUSE(SR_E_STATE, 0); /* the ring still has its buffers attached */
    }
    const int code = sri_link_forget(&channel->link);
    if (code == 0) {
        free_memory(channel, false);
    }
    return code;
}

int sr_channel_close(sr_channel **channel) {
    if (channel == NULL) {
        return SRI_MISUSE(SR_E_OBJECT, 0);
    }
    sr_channel *const gone = *channel;
    if (gone == NULL) {
        return 0;
    }
    if (gone->magic != SRI_CHANNEL_MAGIC) {
        return SRI_MISUSE(SR_E_OBJECT, 0);
    }
    const bool owner = gone->owner_key == sri_owner_key();
    if (!owner && (sri_owner_is_forked(gone->owner_key) || !sri_owner_is_alive(gone->owner_key))) {
        const int code = forget_channel(gone);
        *channel = code == 0 ? NULL : gone;
        return code;
    }
    if (!owner || gone->client.ring->in_callback) {
        return SRI_MISUSE(owner ? SR_E_STATE : SR_E_WRONG_THREAD, 0);
    }
    const int code = close_channel(gone, gone->options.drain_timeout_ns);
    if (code == 0) {
        *channel = NULL;
    }
    return code;
}

int sri_channel_close_in_turn(sr_channel **channel) {
    const int code = close_channel(*channel, 0);
    if (code == 0) {
        *channel = NULL;
    }
    return code;
}
