/* SPDX-License-Identifier: MIT */
#include "ipc/lane.h"

#include <stdatomic.h>
#include <string.h>

#define PAGE_BYTES ((size_t)4096)
#define LINE_BYTES ((uint64_t)64)

_Static_assert(sizeof(struct sri_frame) + SRI_LANE_INLINE_BYTES + SRI_STREAM_HEADER_BYTES ==
                   SRI_LANE_SLOT_BYTES,
               "a slot is used up");
_Static_assert(sizeof(struct sri_lane_words) == 192, "processes agree about this layout");

/* What a message of the stream is. */
enum message_kind { WITH_PAYLOAD, WITH_PLACE };

/* ---- layout ---------------------------------------------------------------------------------- */

static struct sri_stream_options stream_options(const struct sri_lane_shape *shape,
                                                uint32_t epoch) {
    return (struct sri_stream_options){
        .capacity = shape->capacity,
        .slot_bytes = SRI_LANE_SLOT_BYTES,
        .overflow = SRI_OVERFLOW_GUARANTEED,
        .epoch = epoch,
        .kind_max = WITH_PLACE,
    };
}

int sri_lane_shape_check(const struct sri_lane_shape *shape) {
    const struct sri_stream_options options = stream_options(shape, 0);
    if (sri_stream_options_check(&options) < 0 || shape->arena_bytes < SRI_LANE_ARENA_MIN ||
        shape->arena_bytes > SRI_LANE_ARENA_MAX || shape->arena_bytes % PAGE_BYTES != 0) {
        return SR_E_BOUNDS;
    }
    return 0;
}

/* Bytes before the arena, which begins on a page. */
static size_t bytes_before_arena(const struct sri_lane_shape *shape) {
    const struct sri_stream_options options = stream_options(shape, 0);
    const size_t bytes = sizeof(struct sri_lane_words) + sri_stream_writer_bytes(&options);
    return (bytes + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
}

size_t sri_lane_half_bytes(const struct sri_lane_shape *shape) {
    return bytes_before_arena(shape) + (size_t)shape->arena_bytes;
}

/* The two sides of a stream: @writer_half holds its slots, @reader_half how far it was read. */
static struct sri_stream_place place_of(const struct sri_lane_shape *shape, const void *writer_half,
                                        const void *reader_half) {
    struct sri_lane_words *words = (struct sri_lane_words *)(uintptr_t)reader_half;
    return (struct sri_stream_place){
        .writer_memory = (char *)(uintptr_t)writer_half + sizeof(struct sri_lane_words),
        .writer_bytes = bytes_before_arena(shape) - sizeof(struct sri_lane_words),
        .reader_memory = words->reader,
        .reader_bytes = sizeof words->reader,
    };
}

int sri_lane_init(struct sri_lane *lane, const struct sri_lane_config *config) {
    const struct sri_lane_shape *shape = &config->shape;
    int code = sri_lane_shape_check(shape);
    if (code < 0) {
        return code;
    }
    const struct sri_stream_options options = stream_options(shape, config->epoch);
    const struct sri_stream_place out = place_of(shape, config->own_half, config->peer_half);
    const struct sri_stream_place in = place_of(shape, config->peer_half, config->own_half);
    const size_t arena_at = bytes_before_arena(shape);
    memset(lane, 0, sizeof *lane);
    lane->shape = *shape;
    lane->own = config->own_half;
    lane->peer = config->peer_half;
    lane->out = (uint8_t *)config->own_half + arena_at;
    lane->in = (const uint8_t *)config->peer_half + arena_at;
    lane->ends = config->ends;
    code = sri_stream_writer_init(&lane->writer, &options, &out);
    code = code < 0 ? code : sri_stream_reader_init(&lane->reader, &options, &in);
    sri_spin_limit_init(&lane->limit, &lane->own->spin, &lane->peer->spin, config->cpus);
    sri_waiter_init(&lane->waiter, config->sleeps, &lane->own->wake, &lane->peer->wake,
                    &lane->limit);
    sri_waker_init(&lane->waker, &lane->own->wake, &lane->peer->wake, config->doorbell);
    return code;
}

/* ---- writing ----------------------------------------------------------------------------------
 */

static uint64_t *end_of_frame(const struct sri_lane *lane, uint64_t number) {
    return &lane->ends[number % sri_lane_ends(&lane->shape)];
}

/* Notes how far the other side has read, and with it which part of the arena is free. */
static int look_at_reader(struct sri_lane *lane) {
    struct sri_stream_writer_stats stats;
    const int code = sri_stream_writer_get_stats(&lane->writer, &stats);
    const uint64_t read = lane->writer.read_seen;
    /* Not when all of it was free, and the arena began anew. */
    if (code == 0 && read > 0 && *end_of_frame(lane, read - 1) > lane->free_at) {
        lane->free_at = *end_of_frame(lane, read - 1);
    }
    return code;
}

/* There is no room: whoever waits for it wants to be woken when the other side has read on. */
static int be_full(struct sri_lane *lane) {
    lane->room_at = lane->writer.read_seen;
    lane->wants_room = true;
    atomic_store_explicit(&lane->own->wants_room, 1, memory_order_relaxed);
    return SR_E_FULL;
}

void sri_lane_forget_room(struct sri_lane *lane) {
    if (SRI_UNLIKELY(lane->wants_room)) {
        lane->wants_room = false;
        atomic_store_explicit(&lane->own->wants_room, 0, memory_order_relaxed);
    }
}

static uint64_t offset_of(const struct sri_lane *lane, uint64_t at) {
    return at % lane->shape.arena_bytes;
}

/* Where a payload of @count bytes would begin that can begin at @at: there, or at the arena's next
 * beginning, so that it is in one piece. */
static uint64_t begin_of(const struct sri_lane *lane, uint64_t at, uint64_t count) {
    const uint64_t arena = lane->shape.arena_bytes;
    const uint64_t offset = offset_of(lane, at);
    return offset + count <= arena ? at : at + (arena - offset);
}

static bool fits(const struct sri_lane *lane, uint64_t begin, uint64_t count) {
    return begin + count - lane->free_at <= lane->shape.arena_bytes;
}

/* Makes the payload that is being made @count bytes long, in one piece; perhaps somewhere else. */
static int make_room(struct sri_lane *lane, uint64_t count) {
    if (count > lane->shape.arena_bytes) {
        return SR_E_BOUNDS;
    }
    const uint64_t begin = begin_of(lane, lane->payload_at, count);
    if (!fits(lane, begin, count)) {
        const int code = look_at_reader(lane);
        if (code < 0) {
            return code;
        }
        if (lane->writer.read_seen == lane->writer.next) {
            lane->free_at = begin; /* nothing else is in use, so the gap before it is not either */
        }
        if (!fits(lane, begin, count)) {
            return be_full(lane);
        }
    }
    if (begin != lane->payload_at) {
        memmove(lane->out, lane->out + offset_of(lane, lane->payload_at),
                (size_t)lane->payload_bytes);
        lane->payload_at = begin;
    }
    sri_lane_forget_room(lane);
    return 0;
}

int sri_lane_append(struct sri_lane *lane, const void *bytes, size_t count) {
    if (count == 0) {
        return 0;
    }
    if (count > SIZE_MAX / 2) {
        return SR_E_BOUNDS;
    }
    const int code = make_room(lane, lane->payload_bytes + count);
    if (code == 0) {
        memcpy(lane->out + offset_of(lane, lane->payload_at) + lane->payload_bytes, bytes, count);
        lane->payload_bytes += count;
    }
    return code;
}

const uint8_t *sri_lane_payload(const struct sri_lane *lane) {
    return lane->out + offset_of(lane, lane->payload_at);
}

void sri_lane_drop(struct sri_lane *lane) {
    lane->payload_bytes = 0;
}

/* One message: the frame, and what lies behind it. */
static int put(struct sri_lane *lane, const struct sri_frame *frame, enum message_kind kind,
               const void *behind, size_t count) {
    _Alignas(8) unsigned char message[SRI_LANE_SLOT_BYTES];
    const uint64_t number = lane->writer.next;
    memcpy(message, frame, sizeof *frame);
    if (count > 0) {
        memcpy(message + sizeof *frame, behind, count);
    }
    const int code = sri_stream_put(&lane->writer, (uint16_t)kind, message, sizeof *frame + count);
    if (code == SR_E_FULL) {
        return be_full(lane);
    }
    if (code == 0) {
        sri_lane_forget_room(lane);
        *end_of_frame(lane, number) = lane->payload_at;
    }
    return code;
}

int sri_lane_send_short(struct sri_lane *lane, const struct sri_frame *frame, const void *bytes) {
    SR_CHECK(frame->size_bytes <= SRI_LANE_INLINE_BYTES);
    return put(lane, frame, WITH_PAYLOAD, bytes, frame->size_bytes);
}

int sri_lane_send(struct sri_lane *lane, const struct sri_frame *frame) {
    struct sri_frame sent = *frame;
    const uint64_t offset = offset_of(lane, lane->payload_at);
    const uint64_t before = lane->payload_at;
    sent.size_bytes = (uint32_t)lane->payload_bytes;
    int code = 0;
    if (lane->payload_bytes <= SRI_LANE_INLINE_BYTES) {
        code = sri_lane_send_short(lane, &sent, lane->out + offset);
    } else {
        lane->payload_at += (lane->payload_bytes + LINE_BYTES - 1) & ~(LINE_BYTES - 1);
        code = put(lane, &sent, WITH_PLACE, &offset, sizeof offset);
    }
    if (code == 0) {
        lane->payload_bytes = 0;
    } else {
        lane->payload_at = before;
    }
    return code;
}

int sri_lane_keep(struct sri_lane *lane, uint32_t count) {
    const struct sri_stream_writer *writer = &lane->writer;
    if (writer->next - writer->read_seen + count < lane->shape.capacity) {
        return 0;
    }
    const int code = look_at_reader(lane);
    if (code < 0) {
        return code;
    }
    return writer->next - writer->read_seen + count < lane->shape.capacity ? 0 : be_full(lane);
}

int sri_lane_publish(struct sri_lane *lane) {
    if (lane->writer.published == lane->writer.next) {
        return 0;
    }
    const int code = sri_stream_publish(&lane->writer);
    if (code == 0) {
        sri_wake_ring(&lane->waker);
    }
    return code;
}

/* A hint: the position is judged when it is used. */
bool sri_lane_has_room(const struct sri_lane *lane) {
    return lane->wants_room && sri_stream_reader_position(&lane->writer) != lane->room_at;
}

/* ---- reading ----------------------------------------------------------------------------------
 */

/* A stream that is broken is ready: who takes learns of it. */
bool sri_lane_is_ready(struct sri_lane *lane) {
    return sri_stream_is_ready(&lane->reader) != 0;
}

/* The payload of the message that was taken, or false where there cannot be one. */
static bool find_payload(struct sri_lane *lane, const struct sri_message *message, uint32_t size,
                         const uint8_t **out_payload) {
    const unsigned char *behind = lane->message + sizeof(struct sri_frame);
    const size_t length = message->length_bytes - sizeof(struct sri_frame);
    uint64_t offset = 0;
    if (message->kind == WITH_PAYLOAD) {
        *out_payload = size > 0 ? behind : NULL;
        return length == size;
    }
    if (length != sizeof offset || size <= SRI_LANE_INLINE_BYTES) {
        return false;
    }
    memcpy(&offset, behind, sizeof offset);
    if (offset > lane->shape.arena_bytes || size > lane->shape.arena_bytes - offset) {
        return false;
    }
    *out_payload = lane->in + offset;
    return true;
}

int sri_lane_take(struct sri_lane *lane, struct sri_frame *out_frame, const uint8_t **out_payload,
                  bool *out_shared) {
    struct sri_message message;
    *out_payload = NULL;
    *out_shared = false;
    const int code = sri_stream_take(&lane->reader, lane->message, sizeof lane->message, &message);
    if (code <= 0) {
        return code == 0 ? 0 : SR_E_PROTOCOL;
    }
    if (message.length_bytes < sizeof *out_frame) {
        return SR_E_PROTOCOL;
    }
    memcpy(out_frame, lane->message, sizeof *out_frame);
    *out_shared = message.kind == WITH_PLACE;
    return find_payload(lane, &message, out_frame->size_bytes, out_payload) ? 1 : SR_E_PROTOCOL;
}

int sri_lane_release(struct sri_lane *lane) {
    if (lane->released == lane->reader.position) {
        return 0;
    }
    const int code =
        sri_stream_release(&lane->reader); /* a take without success has done it, too */
    if (code < 0) {
        return code;
    }
    lane->released = lane->reader.position;
    /* Pairs with the fence of its sri_wake_arm(): it sees that we have read on, or we see that it
     * waits for that. */
    atomic_thread_fence(memory_order_seq_cst);
    if (SRI_UNLIKELY(atomic_load_explicit(&lane->peer->wants_room, memory_order_relaxed) != 0)) {
        sri_wake_ring(&lane->waker);
    }
    return 0;
}
