/* SPDX-License-Identifier: MIT */
#include "ipc/channel.h"

#include "sys/clock.h"
#include "sys/memory.h"

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

static int on_frame(struct sri_link *link, const struct sri_frame *frame, const uint8_t *payload) {
    sr_channel *channel = SRI_CONTAINER_OF(link, sr_channel, link);
    switch (frame->kind) {
    case SRI_FRAME_CONFINED:
        return on_confined(channel, frame, payload);
    case SRI_FRAME_HELLO:
        return on_hello(channel, frame, payload);
    case SRI_FRAME_ANSWER:
        return on_answer(channel, frame, payload);
    case SRI_FRAME_EVENT:
        return on_event(channel, frame, payload);
    default:
        return SR_E_PROTOCOL;
    }
}

static void on_end(struct sri_link *link) {
    sr_channel *channel = SRI_CONTAINER_OF(link, sr_channel, link);
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
    }
}

static void waited(struct sri_ring_client *client) {
    (void)client;
}

/* ---- life ------------------------------------------------------------------------------------
 */

static bool is_valid(const sr_channel *channel) {
    return channel != NULL && channel->magic == SRI_CHANNEL_MAGIC;
}

static int check(const sr_channel *channel) {
    if (SRI_UNLIKELY(!is_valid(channel))) {
        return SR_E_OBJECT;
    }
    return SRI_LIKELY(channel->owner_key == sri_owner_key()) ? 0
                                                             : sri_owner_error(channel->owner_key);
}

static void free_memory(sr_channel *channel) {
    sri_calls_deinit(&channel->calls);
    sri_release(channel->hello_bytes);
    sri_release(channel->policy);
    channel->magic = 0;
    sri_release(channel);
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
    if (given->calls_max < 1 || given->calls_max > SRI_CALLS_MAX ||
        given->payload_max_bytes > SRI_PAYLOAD_MAX_BYTES) {
        return SR_E_BOUNDS;
    }
    code = ring->queue.backend->fd_is_open(socket);
    if (code == 0 && ring->queue.backend->fd_kind(socket) != SRI_FD_SOCKET) {
        code = -ENOTSOCK;
    }
    return code;
}

static int open_link(sr_channel *channel, sr_ring *ring, int socket) {
    struct sri_frame open = {
        .epoch = (uint32_t)ring->queue.backend->random(),
        .kind = SRI_FRAME_OPEN,
        .method = SRI_FRAME_VERSION,
        .result = channel->options.payload_max_bytes,
        .size_bytes = channel->policy != NULL ? sizeof *channel->policy : 0,
    };
    const struct sri_link_config config = {
        .ring = ring,
        .pool = channel->options.pool,
        .fd = socket,
        .queue_max_bytes = channel->options.queue_max_bytes,
        .limits = {open.epoch, SRI_HELLO_BYTES_MAX, SRI_FRAME_FROM_WORKER, true},
        .on_frame = on_frame,
        .on_end = on_end,
    };
    const int code = sri_link_open(&channel->link, &config);
    return code < 0 ? code : sri_link_send(&channel->link, &open, channel->policy);
}

static int copy_policy(sr_channel *channel, const struct sri_sandbox_policy *policy) {
    sri_sandbox_report_init(&channel->report);
    if (policy == NULL) {
        return 0;
    }
    channel->policy = sri_allocate(1, sizeof *policy);
    if (channel->policy == NULL) {
        return -ENOMEM;
    }
    *channel->policy = *policy;
    return 0;
}

int sr_channel_open(sr_ring *ring, int socket, const sr_channel_options *options,
                    sr_channel **out_channel) {
    return sri_channel_open(ring, socket, options, NULL, out_channel);
}

int sri_channel_open(sr_ring *ring, int socket, const sr_channel_options *options,
                     const struct sri_sandbox_policy *policy, sr_channel **out_channel) {
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
    channel->options = given;
    channel->owner_key = ring->owner_key;
    channel->client = (struct sri_ring_client){
        .deadline_ns = SR_FOREVER,
        .turn = turn,
        .waited = waited,
    };
    code = sri_calls_init(&channel->calls, given.calls_max);
    code = code < 0 ? code : copy_policy(channel, policy);
    code = code < 0 ? code : open_link(channel, ring, socket);
    if (code < 0) {
        free_memory(channel);
        return code;
    }
    sri_ring_add_client(ring, &channel->client);
    channel->magic = SRI_CHANNEL_MAGIC;
    *out_channel = channel;
    return 0;
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
    const int code = sri_link_close(&channel->link, drain_ns);
    if (code == 0) {
        sri_ring_remove_client(&channel->client);
        free_memory(channel);
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
        free_memory(channel);
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
    if (!is_valid(gone)) {
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

/* ---- calls -----------------------------------------------------------------------------------
 */

int sr_channel_method(sr_channel *channel, const char *name, uint32_t *out_method) {
    int code = check(channel);
    if (out_method != NULL) {
        *out_method = 0;
    }
    if (code == 0 && (name == NULL || out_method == NULL)) {
        code = -EINVAL;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    if (channel->link.code < 0) {
        return channel->link.code;
    }
    if (!channel->ready) {
        return SR_E_STATE;
    }
    const uint16_t method = sri_hello_find(&channel->hello, name);
    if (method == SRI_METHOD_NOT_KNOWN) {
        return -ENOENT;
    }
    *out_method = method;
    return 0;
}

/* The code that forbids to send such a payload to such a method. */
static int check_message(const sr_channel *channel, uint32_t method, const void *data,
                         uint64_t data_bytes) {
    if (data == NULL && data_bytes > 0) {
        return -EINVAL;
    }
    if (channel->link.code < 0 || channel->closing) {
        return channel->link.code;
    }
    if (!channel->ready) {
        return SR_E_STATE;
    }
    const bool fits =
        method < channel->hello.method_count && data_bytes <= channel->options.payload_max_bytes;
    return fits ? 0 : SR_E_BOUNDS;
}

static int send_frame(sr_channel *channel, enum sri_frame_kind kind, uint64_t id, uint32_t method,
                      const void *data, uint64_t data_bytes) {
    const struct sri_frame frame = {
        .epoch = channel->link.limits.epoch,
        .kind = (uint16_t)kind,
        .method = (uint16_t)method,
        .id = id,
        .size_bytes = (uint32_t)data_bytes,
    };
    return sri_link_send(&channel->link, &frame, data);
}

/* When a time that is counted from now is over. */
static uint64_t end_of(const sr_channel *channel, uint64_t duration_ns) {
    return sri_clock_after(channel->client.ring->queue.backend->now_ns(), duration_ns);
}

static int call(sr_channel *channel, const sr_call_request *request, sr_call *out_call) {
    struct sri_call *record = sri_call_acquire(&channel->calls);
    if (record == NULL) {
        return SR_E_FULL;
    }
    const int code = send_frame(channel, SRI_FRAME_CALL, record->handle, request->method,
                                request->data, request->data_bytes);
    if (code < 0) {
        sri_call_release(&channel->calls, record);
        return code;
    }
    record->tag = request->tag;
    record->ctx = request->ctx;
    record->on_answer = request->on_answer;
    record->method = (uint16_t)request->method;
    if (request->deadline_ns != 0) {
        sri_call_set_deadline(&channel->calls, record, end_of(channel, request->deadline_ns));
        channel->client.deadline_ns = sri_calls_next_deadline(&channel->calls);
    }
    channel->stats.calls++;
    if (out_call != NULL) {
        out_call->bits = record->handle;
    }
    return 0;
}

/* Codes that a caller who makes no mistake can meet. */
static int expected_or_misuse(int code, const char *function) {
    const bool expected =
        code == SR_E_FULL || code == -ENOMEM || code == SR_E_PEER_DIED || code == SR_E_PROTOCOL;
    return code >= 0 || expected ? code : sri_misuse(code, function, 0);
}

int sr_channel_call(sr_channel *channel, const sr_call_request *request, sr_call *out_call) {
    sr_call_request given = SR_CALL_REQUEST_INIT;
    if (out_call != NULL) {
        *out_call = SR_CALL_NONE;
    }
    int code = check(channel);
    if (code == 0 && (request == NULL || !sri_options_take(&given, sizeof given, request) ||
                      given.reserved != 0)) {
        code = -EINVAL;
    }
    if (code == 0) {
        code = check_message(channel, given.method, given.data, given.data_bytes);
    }
    if (code == 0) {
        code = call(channel, &given, out_call);
    }
    return expected_or_misuse(code, __func__);
}

int sr_channel_note(sr_channel *channel, uint32_t method, const void *data, uint64_t data_bytes) {
    int code = check(channel);
    if (code == 0) {
        code = check_message(channel, method, data, data_bytes);
    }
    if (code == 0) {
        code = send_frame(channel, SRI_FRAME_NOTE, 0, method, data, data_bytes);
    }
    if (code == 0) {
        channel->stats.notes++;
    }
    return expected_or_misuse(code, __func__);
}

int sr_call_cancel(sr_channel *channel, sr_call call_handle) {
    const int code = check(channel);
    if (code < 0) {
        return SRI_MISUSE(code, call_handle.bits);
    }
    struct sri_call *record = sri_call_find(&channel->calls, call_handle.bits);
    if (record == NULL || record->state != SRI_CALL_WAITING) {
        return SR_E_STALE; /* it may have been answered a moment ago: no misuse */
    }
    record->cancelled = true;
    sri_call_set_deadline(&channel->calls, record, 0);
    channel->client.deadline_ns = 0;
    sri_ring_want_turn(channel->client.ring);
    return 0;
}

int sr_channel_get_stats(sr_channel *channel, sr_channel_stats *out_stats) {
    int code = check(channel);
    if (code == 0 && (out_stats == NULL || !sri_stats_size_is_valid(out_stats->size))) {
        code = -EINVAL;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    const struct sri_link_counts *counts = &channel->link.counts;
    sr_channel_stats stats = channel->stats;
    stats.bytes_sent = counts->bytes_sent;
    stats.bytes_received = counts->bytes_received;
    stats.sends = counts->sends;
    stats.receives = counts->receives;
    stats.calls_in_flight = channel->calls.count;
    stats.calls_given_up = channel->calls.given_up_count;
    stats.code = channel->link.code;
    stats.ready = channel->ready;
    sri_stats_give(out_stats, &stats, sizeof stats);
    return 0;
}
