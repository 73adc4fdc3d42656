/* SPDX-License-Identifier: MIT */
/* Channel, what its user asks of it: methods, calls, notes, and what has been done so far. */
#include "ipc/channel.h"

#include "sys/clock.h"

#include <errno.h>

static int check(const sr_channel *channel) {
    if (SRI_UNLIKELY(channel == NULL || channel->magic != SRI_CHANNEL_MAGIC)) {
        return SR_E_OBJECT;
    }
    return SRI_LIKELY(channel->owner_key == sri_owner_key()) ? 0
                                                             : sri_owner_error(channel->owner_key);
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
    if (channel->lane == NULL) {
        return sri_link_send(&channel->link, &frame, data);
    }
    const int code = sri_lane_host_send(channel->lane, &frame, data);
    if (code == 0) {
        channel->link.counts.frames_sent++;
        channel->link.counts.bytes_sent += sizeof frame + data_bytes;
    }
    return code;
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
    if (code == 0 && channel->lane != NULL) {
        /* Calls that may be made have their places. */
        code = sri_lane_keep(&channel->lane->lane, channel->calls.count_max - channel->calls.count);
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
    if (channel->lane != NULL) {
        stats.sends = channel->lane->lane.waker.calls;
        stats.receives = channel->lane->rung_count;
    }
    stats.calls_in_flight = channel->calls.count;
    stats.calls_given_up = channel->calls.given_up_count;
    stats.code = channel->link.code;
    stats.ready = channel->ready;
    sri_stats_give(out_stats, &stats, sizeof stats);
    return 0;
}
