/* SPDX-License-Identifier: MIT */
/*
 * Stream reader: the end of a stream that reads. It believes nothing: where it reads comes from its
 * own position, how much from a length that was loaded once and is no longer than a slot's payload,
 * and what it hands on is a copy that the writer cannot change any more (peek aside).
 */
#include "ipc/stream.h"

#include "ipc/stream_memory.h"

#include <errno.h>

/* How often a message that was overwritten while it was copied is tried for anew, in one call. */
#define TRIES_MAX 8

int sri_stream_reader_init(struct sri_stream_reader *out_reader,
                           const struct sri_stream_options *options,
                           const struct sri_stream_place *place) {
    *out_reader = (struct sri_stream_reader){0};
    const int code = sri_stream_place_check(options, place);
    if (code < 0) {
        return code;
    }
    const struct sri_stream_writer_words *peer = place->writer_memory;
    *out_reader = (struct sri_stream_reader){
        .magic = SRI_STREAM_READER_MAGIC,
        .capacity = options->capacity,
        .peer = peer,
        .own = place->reader_memory,
        .slots = (const char *)(peer + 1),
        .first = options->first,
        .slot_bytes = options->slot_bytes,
        .epoch = options->epoch,
        .kind_max = options->kind_max,
        .overflow = (uint8_t)options->overflow,
    };
    atomic_store_explicit(&out_reader->own->read, options->first, memory_order_release);
    atomic_store_explicit(&out_reader->own->lost, 0, memory_order_release);
    return 0;
}

bool sri_stream_reader_is_valid(const struct sri_stream_reader *reader) {
    return reader->magic == SRI_STREAM_READER_MAGIC && reader->oldest_seen <= reader->position &&
           reader->position <= reader->written_seen &&
           reader->written_seen - reader->position <= reader->capacity &&
           reader->written_seen <= SRI_STREAM_POSITION_MAX &&
           reader->published <= reader->position && reader->lost <= reader->position &&
           reader->lost_told <= reader->lost && reader->lost_published <= reader->lost &&
           reader->slot == reader->position % reader->capacity;
}

static SRI_COLD int end_for_ever(struct sri_stream_reader *reader) {
    reader->is_broken = true;
    return SR_E_PROTOCOL;
}

static void go_on(struct sri_stream_reader *reader, uint64_t count) {
    reader->position += count;
    reader->slot = sri_stream_slot_after(reader->slot, count, reader->capacity);
}

static void lose(struct sri_stream_reader *reader, uint64_t count) {
    go_on(reader, count);
    reader->lost += count;
}

static uint64_t load_written(const struct sri_stream_reader *reader) {
    return atomic_load_explicit(&reader->peer->written, memory_order_acquire) - reader->first;
}

/*
 * The part of look() that concerns streams that overwrite. `oldest` is loaded after `written`, so
 * it says of all messages before `written` which are gone; it may also have run ahead of it. Then
 * `written`, loaded again, is at least as far, because an honest writer stored it before; but of
 * what lies between the two nothing is known, and nothing is used.
 */
static int look_at_oldest(struct sri_stream_reader *reader, uint64_t written) {
    const uint64_t oldest =
        atomic_load_explicit(&reader->peer->oldest, memory_order_acquire) - reader->first;
    if (oldest > written) {
        const uint64_t again = load_written(reader);
        if (oldest > again || again > SRI_STREAM_POSITION_MAX) {
            return end_for_ever(reader);
        }
        written = oldest;
    }
    const uint64_t begin = oldest > reader->position ? oldest : reader->position;
    if (oldest < reader->oldest_seen || written - begin > reader->capacity) {
        return end_for_ever(reader);
    }
    lose(reader, begin - reader->position);
    reader->oldest_seen = oldest;
    reader->written_seen = written;
    return written != reader->position;
}

/* Loads what the writer has published, once each, and judges it: it goes forward only, and not
 * further than there are slots. Returns whether there is a message at the position. */
static SRI_NOINLINE int look(struct sri_stream_reader *reader) {
    const uint64_t written = load_written(reader);
    if (written < reader->written_seen || written > SRI_STREAM_POSITION_MAX) {
        return end_for_ever(reader);
    }
    if (sri_stream_is_lossy(reader->overflow)) {
        return look_at_oldest(reader, written);
    }
    if (written - reader->position > reader->capacity) {
        return end_for_ever(reader);
    }
    reader->written_seen = written;
    return written != reader->position;
}

/* The position first: see sri_stream_writer_get_stats(). */
static void publish(struct sri_stream_reader *reader) {
    if (reader->published != reader->position) {
        reader->published = reader->position;
        atomic_store_explicit(&reader->own->read, reader->first + reader->position,
                              memory_order_release);
    }
    if (reader->lost_published != reader->lost) {
        reader->lost_published = reader->lost;
        atomic_store_explicit(&reader->own->lost, reader->lost, memory_order_release);
    }
}

/* Goes to the message that is next for the reader. Returns whether there is one; if not, the writer
 * gets all that was read. */
static inline int find(struct sri_stream_reader *reader) {
    const bool wants_newest = reader->overflow == SRI_OVERFLOW_REALTIME;
    if (SRI_LIKELY(reader->position != reader->written_seen && !wants_newest)) {
        return 1;
    }
    const int code = look(reader);
    if (code == 0) {
        publish(reader);
    } else if (code == 1 && wants_newest) {
        lose(reader, reader->written_seen - reader->position - 1);
    }
    return code;
}

static inline const struct sri_stream_slot *slot_here(const struct sri_stream_reader *reader) {
    const void *slot = reader->slots + (size_t)reader->slot * reader->slot_bytes;
    return slot;
}

/* A header as it must be of the message at the position. */
struct header {
    uint64_t which;
    uint64_t what;
};

static inline struct header header_load(const struct sri_stream_slot *slot) {
    return (struct header){
        atomic_load_explicit(&slot->which, memory_order_relaxed),
        atomic_load_explicit(&slot->what, memory_order_relaxed),
    };
}

static inline bool header_is_sound(const struct sri_stream_reader *reader, struct header header) {
    return header.which == sri_stream_which(reader->first + reader->position, reader->epoch) &&
           sri_stream_what_length(header.what) <= sri_stream_payload_max(reader->slot_bytes) &&
           sri_stream_what_kind(header.what) <= reader->kind_max;
}

/* Whether the message at the position, which has been copied, was there all the time. Pairs with
 * the fence in overwrite_oldest(). */
static inline int was_there(struct sri_stream_reader *reader) {
    atomic_thread_fence(memory_order_acquire);
    const uint64_t oldest =
        atomic_load_explicit(&reader->peer->oldest, memory_order_relaxed) - reader->first;
    if (SRI_LIKELY(oldest == reader->oldest_seen)) {
        return 1;
    }
    const uint64_t position = reader->position;
    const int code = look(reader);
    return code < 0 ? code : reader->position == position;
}

static inline void tell(struct sri_stream_reader *reader, uint64_t what,
                        struct sri_message *out_message) {
    const bool is_silent = reader->overflow == SRI_OVERFLOW_BEST_EFFORT;
    *out_message = (struct sri_message){
        .number = reader->first + reader->position,
        .gap = is_silent ? 0 : reader->lost - reader->lost_told,
        .length_bytes = (uint32_t)sri_stream_what_length(what),
        .kind = (uint16_t)sri_stream_what_kind(what),
    };
}

static inline void pass(struct sri_stream_reader *reader) {
    reader->lost_told = reader->lost;
    reader->position++;
    reader->slot = reader->slot + 1 < reader->capacity ? reader->slot + 1 : 0;
}

/* Copies the message at the position, then judges. Returns 0 if it was overwritten meanwhile. */
static inline int copy_out(struct sri_stream_reader *reader, void *bytes, size_t room_bytes,
                           struct sri_message *out_message) {
    const struct sri_stream_slot *slot = slot_here(reader);
    const bool is_lossy = sri_stream_is_lossy(reader->overflow);
    const struct header header = header_load(slot);
    const bool is_sound = header_is_sound(reader, header);
    const size_t length = is_sound ? sri_stream_what_length(header.what) : 0;
    if (SRI_LIKELY(length <= room_bytes)) {
        if (is_lossy || length <= SRI_STREAM_SMALL_BYTES) {
            sri_stream_words_out(bytes, slot->payload, length);
        } else {
            memcpy(bytes, slot->payload, length);
        }
    }
    if (is_lossy) {
        const int code = was_there(reader);
        if (SRI_UNLIKELY(code <= 0)) {
            return code;
        }
    }
    if (SRI_UNLIKELY(!is_sound)) {
        return end_for_ever(reader);
    }
    if (SRI_UNLIKELY(length > room_bytes)) {
        out_message->length_bytes = (uint32_t)length;
        return SR_E_BOUNDS;
    }
    tell(reader, header.what, out_message);
    pass(reader);
    return 1;
}

static inline int state_of(const struct sri_stream_reader *reader) {
    SR_CHECK_SLOW(sri_stream_reader_is_valid(reader));
    if (SRI_UNLIKELY(reader->is_broken)) {
        return SR_E_PROTOCOL;
    }
    return SRI_UNLIKELY(reader->is_peeked) ? SR_E_STATE : 0;
}

int sri_stream_take(struct sri_stream_reader *reader, void *bytes, size_t room_bytes,
                    struct sri_message *out_message) {
    *out_message = (struct sri_message){0};
    int code = state_of(reader);
    if (code < 0) {
        return code;
    }
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        code = find(reader);
        if (code <= 0) {
            return code;
        }
        code = copy_out(reader, bytes, room_bytes, out_message);
        if (SRI_LIKELY(code != 0)) {
            return code;
        }
    }
    return -EAGAIN;
}

int sri_stream_release(struct sri_stream_reader *reader) {
    const int code = state_of(reader);
    if (code == 0) {
        publish(reader);
    }
    return code;
}

int sri_stream_read(struct sri_stream_reader *reader, void *bytes, size_t room_bytes,
                    struct sri_message *out_message) {
    const int code = sri_stream_take(reader, bytes, room_bytes, out_message);
    if (code == 1) {
        publish(reader);
    }
    return code;
}

int sri_stream_peek(struct sri_stream_reader *reader, const void **out_bytes,
                    struct sri_message *out_message) {
    *out_bytes = NULL;
    *out_message = (struct sri_message){0};
    int code = state_of(reader);
    if (code == 0 && sri_stream_is_lossy(reader->overflow)) {
        code = SR_E_STATE;
    }
    if (code < 0) {
        return code;
    }
    code = find(reader);
    if (code <= 0) {
        return code;
    }
    const struct sri_stream_slot *slot = slot_here(reader);
    const struct header header = header_load(slot);
    if (!header_is_sound(reader, header)) {
        return end_for_ever(reader);
    }
    tell(reader, header.what, out_message);
    reader->is_peeked = true;
    *out_bytes = slot->payload;
    return 1;
}

int sri_stream_consume(struct sri_stream_reader *reader) {
    SR_CHECK_SLOW(sri_stream_reader_is_valid(reader));
    if (reader->is_broken) {
        return SR_E_PROTOCOL;
    }
    if (!reader->is_peeked) {
        return SR_E_STATE;
    }
    reader->is_peeked = false;
    pass(reader);
    return 0;
}

int sri_stream_is_ready(struct sri_stream_reader *reader) {
    SR_CHECK_SLOW(sri_stream_reader_is_valid(reader));
    if (reader->is_broken) {
        return SR_E_PROTOCOL;
    }
    return reader->position != reader->written_seen ? 1 : look(reader);
}

void sri_stream_reader_get_stats(const struct sri_stream_reader *reader,
                                 struct sri_stream_reader_stats *out_stats) {
    out_stats->lost = reader->lost;
    out_stats->read = reader->position - reader->lost;
}
