/* SPDX-License-Identifier: MIT */
/*
 * Both ends of a stream, and somebody who changes what lies between them. The input is a script: a
 * few bytes choose the stream, then each byte is a step: a call at one end, or a change of a word
 * that the other end can write.
 *
 * What must be true: AddressSanitizer has nothing to say (both memories are heap blocks of the very
 * size); both ends keep their invariants; an end that has said SR_E_PROTOCOL says nothing else ever
 * after; an impossible message is never told. And as long as nothing was changed nobody is accused,
 * and every message is whole.
 */
#include "fuzz.h"

#include "ipc/stream.h"
#include "ipc/stream_memory.h"

#include <errno.h>

#define KIND_MAX    3u
#define ROOM_BYTES  256u
#define LENGTH_STEP 5u

struct scene {
    struct sri_stream_options options;
    struct sri_stream_place place;
    struct sri_stream_writer writer;
    struct sri_stream_reader reader;
    uint64_t next_number; /* the least that the next message may have */
    uint64_t put;
    bool writer_is_done; /* has said SR_E_PROTOCOL */
    bool reader_is_done;
    bool is_spoilt;
};

/* ---- what is believed of the answers ----------------------------------------------------------
 */

static int heard(struct scene *scene, bool *is_done, int code) {
    MUST(!*is_done || code == SR_E_PROTOCOL);
    MUST(code != SR_E_PROTOCOL || scene->is_spoilt);
    *is_done = code == SR_E_PROTOCOL;
    return code;
}

static int by_writer(struct scene *scene, int code) {
    MUST(sri_stream_writer_is_valid(&scene->writer));
    MUST(code == 0 || code == 1 || code == SR_E_FULL || code == SR_E_BOUNDS || code == SR_E_STATE ||
         code == SR_E_PROTOCOL);
    return heard(scene, &scene->writer_is_done, code);
}

static int by_reader(struct scene *scene, int code) {
    MUST(sri_stream_reader_is_valid(&scene->reader));
    MUST(code == 0 || code == 1 || code == SR_E_BOUNDS || code == SR_E_STATE || code == -EAGAIN ||
         code == SR_E_PROTOCOL);
    return heard(scene, &scene->reader_is_done, code);
}

/* Message @number is this long, and all of its bytes are the same. */
static size_t length_of(const struct scene *scene, uint64_t number) {
    return (size_t)(number * LENGTH_STEP % (sri_stream_payload_max(scene->options.slot_bytes) + 1));
}

static int byte_of(uint64_t number) {
    return (int)(number * 37 & 0xff);
}

static void must_be_possible(struct scene *scene, const struct sri_message *message,
                             const unsigned char *bytes) {
    MUST(message->length_bytes <= sri_stream_payload_max(scene->options.slot_bytes));
    MUST(message->kind <= KIND_MAX);
    MUST(message->number - scene->options.first >= scene->next_number);
    scene->next_number = message->number - scene->options.first + 1;
    if (!scene->is_spoilt) {
        MUST(message->length_bytes == length_of(scene, message->number));
        for (size_t i = 0; i < message->length_bytes; i++) {
            MUST(bytes[i] == byte_of(message->number));
        }
    }
}

/* ---- steps: calls -----------------------------------------------------------------------------
 */

static void put(struct scene *scene, bool in_place) {
    unsigned char bytes[ROOM_BYTES];
    const uint64_t number = scene->options.first + scene->put;
    const size_t length = length_of(scene, number);
    void *here = bytes;
    int code = 0;
    if (in_place) {
        code = by_writer(scene, sri_stream_reserve(&scene->writer, &here));
    }
    if (code == 0) {
        memset(here, byte_of(number), length);
        code = in_place ? sri_stream_commit(&scene->writer, 1, length)
                        : sri_stream_put(&scene->writer, 1, bytes, length);
        (void)by_writer(scene, code);
    }
    scene->put += code == 0;
}

static void take(struct scene *scene, size_t room_bytes) {
    struct sri_message message;
    unsigned char *bytes = malloc(room_bytes); /* so that a byte more is seen */
    MUST(bytes != NULL);
    const int code = by_reader(scene, sri_stream_take(&scene->reader, bytes, room_bytes, &message));
    if (code == 1) {
        MUST(message.length_bytes <= room_bytes);
        must_be_possible(scene, &message, bytes);
    }
    MUST(code != SR_E_BOUNDS || message.length_bytes > room_bytes);
    free(bytes);
}

static void peek(struct scene *scene) {
    struct sri_message message;
    const void *there = NULL;
    const int code = by_reader(scene, sri_stream_peek(&scene->reader, &there, &message));
    MUST((there != NULL) == (code == 1));
    if (code == 1) {
        must_be_possible(scene, &message, there);
        (void)by_reader(scene, sri_stream_consume(&scene->reader));
    }
}

static void count(struct scene *scene) {
    struct sri_stream_writer_stats w;
    struct sri_stream_reader_stats r;
    const int code = by_writer(scene, sri_stream_writer_get_stats(&scene->writer, &w));
    sri_stream_reader_get_stats(&scene->reader, &r);
    MUST(code != 0 || (w.dropped <= w.written && w.waiting <= scene->options.capacity));
    MUST(scene->is_spoilt || (w.written <= scene->put && r.read + r.lost <= w.written));
}

/* ---- steps: changes ---------------------------------------------------------------------------
 */

/* Near what is there, or anything. */
static void spoil(struct scene *scene, struct fuzz_input *input, _Atomic uint64_t *word) {
    const uint64_t how = fuzz_take(input, 1);
    scene->is_spoilt = true;
    if (how == 0) {
        *word = fuzz_take(input, 8);
    } else if (how < 128) {
        *word += how;
    } else {
        *word -= how - 127;
    }
}

static struct sri_stream_slot *slot_at(struct scene *scene, uint64_t index) {
    char *slots = (char *)scene->place.writer_memory + sizeof(struct sri_stream_writer_words);
    void *slot = slots + index % scene->options.capacity * scene->options.slot_bytes;
    return slot;
}

static void spoil_payload(struct scene *scene, struct fuzz_input *input) {
    struct sri_stream_slot *slot = slot_at(scene, fuzz_take(input, 1));
    const size_t offset = fuzz_take(input, 1) % sri_stream_payload_max(scene->options.slot_bytes);
    scene->is_spoilt = true;
    slot->payload[offset] = (unsigned char)fuzz_take(input, 1);
}

static void step(struct scene *scene, struct fuzz_input *input) {
    struct sri_stream_writer_words *writer_words = scene->place.writer_memory;
    struct sri_stream_reader_words *reader_words = scene->place.reader_memory;
    switch (fuzz_take(input, 1) % 18) {
    case 0:
    case 1:
        put(scene, false);
        (void)by_writer(scene, sri_stream_publish(&scene->writer));
        break;
    case 2:
        put(scene, false);
        break;
    case 3:
        put(scene, true);
        break;
    case 4:
        (void)by_writer(scene, sri_stream_publish(&scene->writer));
        break;
    case 5:
        (void)by_writer(scene, sri_stream_has_room(&scene->writer));
        break;
    case 6:
        count(scene);
        break;
    case 7:
    case 8:
        take(scene, ROOM_BYTES);
        break;
    case 9:
        take(scene, fuzz_take(input, 1));
        break;
    case 10:
        peek(scene);
        break;
    case 11:
        (void)by_reader(scene, sri_stream_release(&scene->reader));
        break;
    case 12:
        (void)by_reader(scene, sri_stream_is_ready(&scene->reader));
        break;
    case 13:
        spoil(scene, input, &writer_words->written);
        break;
    case 14:
        spoil(scene, input, &writer_words->oldest);
        break;
    case 15:
        if (fuzz_take(input, 1) % 2 == 0) {
            spoil(scene, input, &slot_at(scene, fuzz_take(input, 1))->which);
        } else {
            spoil(scene, input, &slot_at(scene, fuzz_take(input, 1))->what);
        }
        break;
    case 16:
        spoil(scene, input,
              fuzz_take(input, 1) % 2 == 0 ? &reader_words->read : &reader_words->lost);
        break;
    default:
        spoil_payload(scene, input);
    }
}

/* ---- one script -------------------------------------------------------------------------------
 */

static void *memory_of(size_t size_bytes) {
    void *memory = NULL;
    MUST(posix_memalign(&memory, SRI_STREAM_ALIGNMENT, size_bytes) == 0);
    return memset(memory, 0, size_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    static struct scene scene;
    const uint64_t shape = fuzz_take(&input, 1);
    scene = (struct scene){
        .options =
            {
                .overflow = SRI_OVERFLOW_BEST_EFFORT + (uint32_t)(shape & 3),
                .slot_bytes = SRI_STREAM_SLOT_UNIT * (1 + (uint32_t)(shape >> 2 & 7)),
                .capacity = 1 + (uint32_t)fuzz_take(&input, 1) % 9,
                .epoch = 5,
                .kind_max = KIND_MAX,
            },
    };
    if ((shape & 0x40) != 0) {
        scene.options.first = UINT64_MAX - fuzz_take(&input, 1); /* it will wrap */
    }
    const size_t writer_bytes = sri_stream_writer_bytes(&scene.options);
    scene.place =
        (struct sri_stream_place){memory_of(writer_bytes), writer_bytes,
                                  memory_of(SRI_STREAM_READER_BYTES), SRI_STREAM_READER_BYTES};
    MUST(sri_stream_writer_init(&scene.writer, &scene.options, &scene.place) == 0);
    MUST(sri_stream_reader_init(&scene.reader, &scene.options, &scene.place) == 0);
    while (input.left > 0) {
        step(&scene, &input);
    }
    free(scene.place.writer_memory);
    free(scene.place.reader_memory);
    return 0;
}
