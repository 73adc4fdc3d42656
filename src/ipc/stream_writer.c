/* SPDX-License-Identifier: MIT */
/*
 * Stream writer: the end of a stream that writes. Of the reader it needs one word, its position,
 * and looks at it only when the slots that it knows to be free are used up. In a lossy stream that
 * never keeps it from writing.
 */
#include "ipc/stream.h"

#include "ipc/stream_memory.h"

int sri_stream_writer_init(struct sri_stream_writer *out_writer,
                           const struct sri_stream_options *options,
                           const struct sri_stream_place *place) {
    *out_writer = (struct sri_stream_writer){0};
    const int code = sri_stream_place_check(options, place);
    if (code < 0) {
        return code;
    }
    struct sri_stream_writer_words *own = place->writer_memory;
    *out_writer = (struct sri_stream_writer){
        .magic = SRI_STREAM_WRITER_MAGIC,
        .capacity = options->capacity,
        .own = own,
        .peer = place->reader_memory,
        .slots = (char *)(own + 1),
        .first = options->first,
        .slot_bytes = options->slot_bytes,
        .epoch = options->epoch,
        .kind_max = options->kind_max,
        .overflow = (uint8_t)options->overflow,
    };
    atomic_store_explicit(&own->oldest, options->first, memory_order_release);
    atomic_store_explicit(&own->written, options->first, memory_order_release);
    return 0;
}

bool sri_stream_writer_is_valid(const struct sri_stream_writer *writer) {
    return writer->magic == SRI_STREAM_WRITER_MAGIC && writer->oldest <= writer->floor &&
           writer->floor <= writer->published && writer->published <= writer->next &&
           writer->next - writer->floor <= writer->capacity &&
           writer->read_seen <= writer->published && writer->lost_seen <= writer->read_seen &&
           writer->slot == writer->next % writer->capacity;
}

static SRI_COLD int end_for_ever(struct sri_stream_writer *writer) {
    writer->is_broken = true;
    return SR_E_PROTOCOL;
}

static void publish(struct sri_stream_writer *writer) {
    writer->published = writer->next;
    atomic_store_explicit(&writer->own->written, writer->first + writer->next,
                          memory_order_release);
}

/* Loads the reader's position, once, and judges it: it goes forward only, and not beyond what it
 * could read. */
static int look_at_reader(struct sri_stream_writer *writer) {
    const uint64_t read =
        atomic_load_explicit(&writer->peer->read, memory_order_acquire) - writer->first;
    if (read < writer->read_seen || read > writer->published) {
        return end_for_ever(writer);
    }
    writer->read_seen = read;
    if (writer->floor < read) {
        writer->floor = read;
    }
    return 0;
}

/* Gives up the oldest message, for the one that is next. Readers must never see an `oldest` beyond
 * `written`. For the order of the stores see stream_memory.h. */
static void overwrite_oldest(struct sri_stream_writer *writer) {
    const uint64_t oldest = writer->floor + 1;
    if (oldest > writer->published) {
        publish(writer);
    }
    atomic_store_explicit(&writer->own->oldest, writer->first + oldest, memory_order_release);
    atomic_thread_fence(memory_order_release);
    writer->oldest = oldest;
    writer->floor = oldest;
}

static bool is_full(const struct sri_stream_writer *writer) {
    return writer->next - writer->floor >= writer->capacity;
}

/* For when no slot is known to be free. */
static SRI_NOINLINE int make_room(struct sri_stream_writer *writer) {
    const int code = look_at_reader(writer);
    if (code < 0 || !is_full(writer)) {
        return code;
    }
    if (!sri_stream_is_lossy(writer->overflow)) {
        return SR_E_FULL;
    }
    overwrite_oldest(writer);
    return 0;
}

static inline struct sri_stream_slot *next_slot(const struct sri_stream_writer *writer) {
    void *slot = writer->slots + (size_t)writer->slot * writer->slot_bytes;
    return slot;
}

static inline int check_message(const struct sri_stream_writer *writer, uint16_t kind,
                                size_t length_bytes) {
    const bool fits =
        length_bytes <= sri_stream_payload_max(writer->slot_bytes) && kind <= writer->kind_max;
    return SRI_LIKELY(fits) ? 0 : SR_E_BOUNDS;
}

/* The slot's header, and on to the next. */
static inline void finish(struct sri_stream_writer *writer, struct sri_stream_slot *slot,
                          uint16_t kind, size_t length_bytes) {
    atomic_store_explicit(&slot->which,
                          sri_stream_which(writer->first + writer->next, writer->epoch),
                          memory_order_relaxed);
    atomic_store_explicit(&slot->what, sri_stream_what(kind, length_bytes), memory_order_relaxed);
    writer->next++;
    writer->slot = writer->slot + 1 < writer->capacity ? writer->slot + 1 : 0;
}

static inline int state_of(const struct sri_stream_writer *writer) {
    SR_CHECK_SLOW(sri_stream_writer_is_valid(writer));
    if (SRI_UNLIKELY(writer->is_broken)) {
        return SR_E_PROTOCOL;
    }
    return SRI_UNLIKELY(writer->is_reserved) ? SR_E_STATE : 0;
}

int sri_stream_put(struct sri_stream_writer *writer, uint16_t kind, const void *bytes,
                   size_t length_bytes) {
    int code = state_of(writer);
    if (code == 0) {
        code = check_message(writer, kind, length_bytes);
    }
    if (code == 0 && is_full(writer)) {
        code = make_room(writer);
    }
    if (code < 0) {
        return code;
    }
    struct sri_stream_slot *slot = next_slot(writer);
    if (length_bytes <= SRI_STREAM_SMALL_BYTES || sri_stream_is_lossy(writer->overflow)) {
        sri_stream_words_in(slot->payload, bytes, length_bytes);
    } else {
        memcpy(slot->payload, bytes, length_bytes);
    }
    finish(writer, slot, kind, length_bytes);
    return 0;
}

int sri_stream_publish(struct sri_stream_writer *writer) {
    const int code = state_of(writer);
    if (code == 0 && writer->published != writer->next) {
        publish(writer);
    }
    return code;
}

int sri_stream_write(struct sri_stream_writer *writer, uint16_t kind, const void *bytes,
                     size_t length_bytes) {
    const int code = sri_stream_put(writer, kind, bytes, length_bytes);
    if (code == 0) {
        publish(writer);
    }
    return code;
}

int sri_stream_reserve(struct sri_stream_writer *writer, void **out_bytes) {
    *out_bytes = NULL;
    int code = state_of(writer);
    if (code == 0 && sri_stream_is_lossy(writer->overflow)) {
        code = SR_E_STATE;
    }
    if (code == 0 && is_full(writer)) {
        code = make_room(writer);
    }
    if (code < 0) {
        return code;
    }
    writer->is_reserved = true;
    *out_bytes = next_slot(writer)->payload;
    return 0;
}

/* A reservation that is open, or why it cannot be ended. */
static int end_reservation(struct sri_stream_writer *writer) {
    SR_CHECK_SLOW(sri_stream_writer_is_valid(writer));
    if (writer->is_broken) {
        return SR_E_PROTOCOL;
    }
    if (!writer->is_reserved) {
        return SR_E_STATE;
    }
    writer->is_reserved = false;
    return 0;
}

int sri_stream_commit(struct sri_stream_writer *writer, uint16_t kind, size_t length_bytes) {
    int code = check_message(writer, kind, length_bytes);
    if (code == 0) {
        code = end_reservation(writer);
    }
    if (code == 0) {
        finish(writer, next_slot(writer), kind, length_bytes);
    }
    return code;
}

int sri_stream_forget(struct sri_stream_writer *writer) {
    return end_reservation(writer);
}

int sri_stream_has_room(struct sri_stream_writer *writer) {
    if (writer->is_broken) {
        return SR_E_PROTOCOL;
    }
    if (sri_stream_is_lossy(writer->overflow) || !is_full(writer)) {
        return 1;
    }
    const int code = look_at_reader(writer);
    return code < 0 ? code : !is_full(writer);
}

uint64_t sri_stream_reader_position(const struct sri_stream_writer *writer) {
    return atomic_load_explicit(&writer->peer->read, memory_order_acquire) - writer->first;
}

/* What the reader says it has lost, and what lies before `oldest` and after its position: that it
 * can never get. `lost` is loaded before and published after the position to which it belongs, so
 * an honest one never exceeds it. */
int sri_stream_writer_get_stats(struct sri_stream_writer *writer,
                                struct sri_stream_writer_stats *out_stats) {
    *out_stats = (struct sri_stream_writer_stats){0};
    if (writer->is_broken) {
        return SR_E_PROTOCOL;
    }
    const uint64_t lost = atomic_load_explicit(&writer->peer->lost, memory_order_acquire);
    const int code = look_at_reader(writer);
    if (code < 0) {
        return code;
    }
    const uint64_t read = writer->read_seen;
    const uint64_t lost_max = sri_stream_is_lossy(writer->overflow) ? read : 0;
    if (lost < writer->lost_seen || lost > lost_max) {
        return end_for_ever(writer);
    }
    writer->lost_seen = lost;
    const bool is_behind = read < writer->oldest;
    out_stats->written = writer->published;
    out_stats->dropped = lost + (is_behind ? writer->oldest - read : 0);
    out_stats->waiting = writer->published - (is_behind ? writer->oldest : read);
    return 0;
}
