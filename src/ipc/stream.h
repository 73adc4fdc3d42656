/* SPDX-License-Identifier: MIT */
/*
 * Stream: messages from one writer to one reader, in memory that two processes map. It is bounded;
 * what happens when it is full is one of four policies.
 *
 * Trust. Either side may be hostile. Each writes in memory of its own only: the writer its words
 * and the slots, the reader its words. Each keeps its position in private and publishes a copy. A
 * message has a number, and the number alone says in which slot it lies, so nothing that the other
 * side writes decides where we read or write. A word of the other side is loaded once, judged, then
 * used; one that no honest peer writes is SR_E_PROTOCOL, and so is every later call on that end.
 *
 * Invariants (positions count messages from 0; in shared memory `first` is added, and may wrap):
 *   a writer:  floor <= published <= next <= floor + capacity;  oldest <= floor
 *   a reader:  oldest <= position <= written <= position + capacity;  got + lost == position
 *
 * An end belongs to one thread at a time. Nothing here blocks, allocates, or calls the kernel; who
 * sleeps and is woken is another part's matter, which asks sri_stream_is_ready() and
 * sri_stream_has_room().
 *
 * Neighbours: stream_memory.h is what lies in the shared memory, stream_writer.c and
 * stream_reader.c are the two ends, sys/shared.h makes the memory. docs/adr/0013-streams.md says
 * why it is like that.
 */
#ifndef SAFERING_IPC_STREAM_H
#define SAFERING_IPC_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SRI_STREAM_CAPACITY_MAX   (UINT32_C(1) << 20)
#define SRI_STREAM_HEADER_BYTES   16u
#define SRI_STREAM_SLOT_UNIT      32u
#define SRI_STREAM_SLOT_BYTES_MAX 65536u
/* Memory of both ends begins on a cache line. */
#define SRI_STREAM_ALIGNMENT    64u
#define SRI_STREAM_READER_BYTES 64u

/* What a full stream does with one message more. */
enum sri_overflow {
    SRI_OVERFLOW_BEST_EFFORT = 1, /* the oldest is overwritten; the reader is not told */
    SRI_OVERFLOW_RELIABLE,        /* the oldest is overwritten; the reader is told how many */
    SRI_OVERFLOW_GUARANTEED,      /* SR_E_FULL to the writer; nothing is lost */
    SRI_OVERFLOW_REALTIME         /* as RELIABLE, and the reader gets the newest, nothing older */
};

/* Both ends are given the same, over a way that is not this memory. */
struct sri_stream_options {
    uint32_t capacity;   /* messages: 1 .. SRI_STREAM_CAPACITY_MAX */
    uint32_t slot_bytes; /* a multiple of SRI_STREAM_SLOT_UNIT: a header and the payload */
    uint32_t overflow;   /* enum sri_overflow */
    uint32_t epoch;      /* of the peer's life: what is left of another one is refused */
    uint64_t first;      /* number of the first message. 0, but in tests of counters that wrap */
    uint16_t kind_max;   /* kinds are 0 .. kind_max; what they mean is the caller's matter */
};

/* Where a stream lies. Memory that is all zero is an empty stream whose first message is 0. */
struct sri_stream_place {
    void *writer_memory; /* the reader may have it mapped read-only */
    size_t writer_bytes; /* at least sri_stream_writer_bytes() */
    void *reader_memory; /* the writer may have it mapped read-only */
    size_t reader_bytes; /* at least SRI_STREAM_READER_BYTES */
};

/* What a reader is told of a message. */
struct sri_message {
    uint64_t number;
    uint64_t gap; /* messages that were lost between this and the one got before; 0: BEST_EFFORT */
    uint32_t length_bytes;
    uint16_t kind;
};

struct sri_stream_writer {
    uint32_t magic;
    uint32_t capacity;
    struct sri_stream_writer_words *own;
    const struct sri_stream_reader_words *peer;
    char *slots;
    uint64_t next;      /* position of the next message */
    uint64_t published; /* all before it can be read */
    uint64_t floor;     /* the slots of all before it may be written again */
    uint64_t oldest;    /* all before it were overwritten, if the reader had not passed them */
    uint64_t read_seen; /* the reader's position, when last looked at */
    uint64_t lost_seen;
    uint64_t first;
    uint32_t slot_bytes;
    uint32_t slot; /* of `next` */
    uint32_t epoch;
    uint16_t kind_max;
    uint8_t overflow;
    bool is_reserved;
    bool is_broken;
};

struct sri_stream_reader {
    uint32_t magic;
    uint32_t capacity;
    const struct sri_stream_writer_words *peer;
    struct sri_stream_reader_words *own;
    const char *slots;
    uint64_t position;     /* of the message that is next to be read */
    uint64_t written_seen; /* all before it were published, when last looked at */
    uint64_t oldest_seen;
    uint64_t published; /* the position that the writer knows */
    uint64_t lost;
    uint64_t lost_published;
    uint64_t lost_told; /* in the gaps of messages */
    uint64_t first;
    uint32_t slot_bytes;
    uint32_t slot; /* of `position` */
    uint32_t epoch;
    uint16_t kind_max;
    uint8_t overflow;
    bool is_peeked;
    bool is_broken;
};

struct sri_stream_writer_stats {
    uint64_t written; /* published */
    uint64_t dropped; /* the reader did not and will not get them */
    uint64_t waiting; /* published, neither passed by the reader nor overwritten */
};

struct sri_stream_reader_stats {
    uint64_t read;
    uint64_t lost;
};

/* SR_E_BOUNDS for a number out of range. */
int sri_stream_options_check(const struct sri_stream_options *options);
/* Memory that the writer needs for its words and the slots; the options are in range. */
size_t sri_stream_writer_bytes(const struct sri_stream_options *options);
/* The longest payload. */
static inline size_t sri_stream_payload_max(uint32_t slot_bytes) {
    return slot_bytes - SRI_STREAM_HEADER_BYTES;
}

/*
 * Makes one end, and writes its words. The place is borrowed until the end is used no more.
 * SR_E_BOUNDS for options or memory that do not fit. With a `first` other than 0 both ends must be
 * made before either is used.
 */
int sri_stream_writer_init(struct sri_stream_writer *out_writer,
                           const struct sri_stream_options *options,
                           const struct sri_stream_place *place);
int sri_stream_reader_init(struct sri_stream_reader *out_reader,
                           const struct sri_stream_options *options,
                           const struct sri_stream_place *place);

bool sri_stream_writer_is_valid(const struct sri_stream_writer *writer);
bool sri_stream_reader_is_valid(const struct sri_stream_reader *reader);

/*
 * Writing. Return 0, SR_E_BOUNDS (too long, or no such kind), SR_E_FULL (GUARANTEED alone),
 * SR_E_STATE (a reservation is open), or SR_E_PROTOCOL. A call that fails has written nothing.
 *
 * put: copies one message into its slot. The reader does not see it before publish, which hands
 * over all at once; a lossy stream publishes by itself when it must overwrite what it has not yet
 * published. write: both.
 */
int sri_stream_put(struct sri_stream_writer *writer, uint16_t kind, const void *bytes,
                   size_t length_bytes);
int sri_stream_publish(struct sri_stream_writer *writer);
int sri_stream_write(struct sri_stream_writer *writer, uint16_t kind, const void *bytes,
                     size_t length_bytes);

/*
 * Writing in place, GUARANTEED alone (SR_E_STATE): in the others a reader may be copying the very
 * slot. *@out_bytes has room for the longest payload and is written, never read, by the caller: in
 * memory that the peer can write too it may change. commit ends the reservation as put does;
 * forget ends it without a message.
 */
int sri_stream_reserve(struct sri_stream_writer *writer, void **out_bytes);
int sri_stream_commit(struct sri_stream_writer *writer, uint16_t kind, size_t length_bytes);
int sri_stream_forget(struct sri_stream_writer *writer);

/* 1 if put would not answer SR_E_FULL, 0 if it would, SR_E_PROTOCOL. */
int sri_stream_has_room(struct sri_stream_writer *writer);
/* How far the reader says it has read, not judged: to compare with an earlier answer. */
uint64_t sri_stream_reader_position(const struct sri_stream_writer *writer);
/* Counts are exact while the reader has released all that it took. */
int sri_stream_writer_get_stats(struct sri_stream_writer *writer,
                                struct sri_stream_writer_stats *out_stats);

/*
 * Reading. Return 1 with a message, 0 if there is none, SR_E_BOUNDS (@room_bytes is too small: the
 * message stays, and its length is told), SR_E_STATE (a peek is open), SR_E_PROTOCOL, or -EAGAIN:
 * the writer has overwritten again and again what was being copied; what was lost is counted.
 * Unless 1 is returned, what @bytes hold is undefined.
 *
 * take: copies one message, then judges the copy. Its slot is the writer's again after release,
 * which does that for all that were taken; so does a take that finds nothing. read: both.
 */
int sri_stream_take(struct sri_stream_reader *reader, void *bytes, size_t room_bytes,
                    struct sri_message *out_message);
int sri_stream_release(struct sri_stream_reader *reader);
int sri_stream_read(struct sri_stream_reader *reader, void *bytes, size_t room_bytes,
                    struct sri_message *out_message);

/*
 * Reading in place, GUARANTEED alone (SR_E_STATE). For memory that the peer cannot write, or whose
 * bytes may change under the caller's eyes: nothing of what is at *@out_bytes may be judged and
 * then loaded again. Length and kind are copies. It stays valid until consume and release.
 */
int sri_stream_peek(struct sri_stream_reader *reader, const void **out_bytes,
                    struct sri_message *out_message);
int sri_stream_consume(struct sri_stream_reader *reader);

/* 1 if there is something to read, 0 if not, SR_E_PROTOCOL. */
int sri_stream_is_ready(struct sri_stream_reader *reader);
void sri_stream_reader_get_stats(const struct sri_stream_reader *reader,
                                 struct sri_stream_reader_stats *out_stats);

#endif
