/* SPDX-License-Identifier: MIT */
/*
 * Stream memory: what lies in the memory that the two ends of a stream share, and how it is
 * accessed.
 *
 *   writer's:  line 0 `written`, line 1 `oldest`, then one slot per message of the capacity
 *   reader's:  line 0 `read` and `lost`
 *
 * What one end writes often and the other reads often has a cache line of its own. `oldest` moves
 * only when something is lost, so a reader that keeps up looks at a line that stays in its cache.
 *
 * Ordering. `written` and `read` are stored with release and loaded with acquire: what was written
 * to a slot comes before its number, what was read of it before the slot is free. Where slots are
 * overwritten (all policies but GUARANTEED) the reader may be copying one meanwhile. The writer
 * stores `oldest`, then a release fence, then the slot; the reader loads the slot, then an acquire
 * fence, then `oldest`. If it saw any word of the new message it sees the new `oldest` too, and
 * throws the copy away. These slots are read and written word by word with relaxed atomics: a plain
 * copy would be a data race, which C11 leaves undefined and ThreadSanitizer reports.
 * (ThreadSanitizer does not know fences, but they order atomics here, which are never a race.)
 */
#ifndef SAFERING_IPC_STREAM_MEMORY_H
#define SAFERING_IPC_STREAM_MEMORY_H

#include "core/check.h"
#include "ipc/stream.h"

#include <stdatomic.h>
#include <string.h>

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a lock would not work between processes");

#define SRI_STREAM_WRITER_MAGIC UINT32_C(0x53777274)
#define SRI_STREAM_READER_MAGIC UINT32_C(0x53726472)

struct sri_stream_writer_words {
    _Alignas(SRI_STREAM_ALIGNMENT) _Atomic uint64_t written;
    _Alignas(SRI_STREAM_ALIGNMENT) _Atomic uint64_t oldest;
};

struct sri_stream_reader_words {
    _Alignas(SRI_STREAM_ALIGNMENT) _Atomic uint64_t read;
    _Atomic uint64_t lost;
};

struct sri_stream_slot {
    _Atomic uint64_t which; /* number (low 32 bits), epoch */
    _Atomic uint64_t what;  /* length (32 bits), kind (16 bits), zero (16 bits) */
    unsigned char payload[];
};

_Static_assert(sizeof(struct sri_stream_writer_words) == 128 &&
                   sizeof(struct sri_stream_reader_words) == SRI_STREAM_READER_BYTES &&
                   offsetof(struct sri_stream_slot, payload) == SRI_STREAM_HEADER_BYTES,
               "processes agree about this layout");

/* Low 32 bits of the number are enough: a slot holds one of capacity <= 2^20 successive ones. */
static inline uint64_t sri_stream_which(uint64_t number, uint32_t epoch) {
    return (number & UINT32_MAX) | (uint64_t)epoch << 32;
}

static inline uint64_t sri_stream_what(uint16_t kind, size_t length_bytes) {
    return (uint64_t)length_bytes | (uint64_t)kind << 32;
}

static inline size_t sri_stream_what_length(uint64_t what) {
    return (size_t)(what & UINT32_MAX);
}

static inline uint64_t sri_stream_what_kind(uint64_t what) {
    return what >> 32; /* with the zero bits: whatever is there makes it too large */
}

/* Nobody sends as many messages: positions beyond it are lies, and sums below it do not wrap. */
#define SRI_STREAM_POSITION_MAX ((uint64_t)INT64_MAX)

static inline bool sri_stream_is_lossy(uint8_t overflow) {
    return overflow != SRI_OVERFLOW_GUARANTEED;
}

/* The slot @distance after @slot, around the end. */
static inline uint32_t sri_stream_slot_after(uint32_t slot, uint64_t distance, uint32_t capacity) {
    const uint32_t step = (uint32_t)(distance < capacity ? distance : distance % capacity);
    return slot < capacity - step ? slot + step : slot - (capacity - step);
}

#define SRI_STREAM_WORD sizeof(uint64_t)
/* Up to here words are as fast as memcpy(3). */
#define SRI_STREAM_SMALL_BYTES 128u

/* Word by word; @slot is where the payload is. It has room for a whole last word; its bytes beyond
 * the end are zero. */
static inline void sri_stream_words_in(void *slot, const void *from, size_t bytes) {
    _Atomic uint64_t *to = slot;
    const char *at = from;
    size_t left = bytes;
    for (; left >= SRI_STREAM_WORD; left -= SRI_STREAM_WORD, at += SRI_STREAM_WORD, to++) {
        uint64_t word = 0;
        memcpy(&word, at, SRI_STREAM_WORD);
        atomic_store_explicit(to, word, memory_order_relaxed);
    }
    if (left != 0) {
        uint64_t word = 0;
        memcpy(&word, at, left);
        atomic_store_explicit(to, word, memory_order_relaxed);
    }
}

static inline void sri_stream_words_out(void *to, const void *slot, size_t bytes) {
    const _Atomic uint64_t *from = slot;
    char *at = to;
    size_t left = bytes;
    for (; left >= SRI_STREAM_WORD; left -= SRI_STREAM_WORD, at += SRI_STREAM_WORD, from++) {
        const uint64_t word = atomic_load_explicit(from, memory_order_relaxed);
        memcpy(at, &word, SRI_STREAM_WORD);
    }
    if (left != 0) {
        const uint64_t word = atomic_load_explicit(from, memory_order_relaxed);
        memcpy(at, &word, left);
    }
}

/* What both ends ask of the place they are given. */
int sri_stream_place_check(const struct sri_stream_options *options,
                           const struct sri_stream_place *place);

#endif
