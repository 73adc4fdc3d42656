/* SPDX-License-Identifier: MIT */
#include "support/stream_pair.h"

#include <safering/error.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(int code, const char *what) {
    if (code < 0) {
        fprintf(stderr, "stream pair: %s: %s\n", what, sr_strerror(code));
        abort();
    }
}

/* As far back as the alignment lets it be. */
static void *at_the_end(const struct sri_shared *shared, size_t bytes) {
    const size_t offset = (shared->size_bytes - bytes) & ~(size_t)(SRI_STREAM_ALIGNMENT - 1);
    return (char *)shared->base + offset;
}

struct sri_stream_place stream_pair_place(const struct sri_stream_options *options,
                                          const struct sri_shared *writer_shared,
                                          const struct sri_shared *reader_shared) {
    const size_t bytes = sri_stream_writer_bytes(options);
    return (struct sri_stream_place){
        .writer_memory = at_the_end(writer_shared, bytes),
        .writer_bytes = bytes,
        .reader_memory = at_the_end(reader_shared, SRI_STREAM_READER_BYTES),
        .reader_bytes = SRI_STREAM_READER_BYTES,
    };
}

static void make_ends(struct stream_pair *pair) {
    must(sri_stream_writer_init(&pair->writer, &pair->options, &pair->place), "writer");
    must(sri_stream_reader_init(&pair->reader, &pair->options, &pair->place), "reader");
}

void stream_pair_open(struct stream_pair *out_pair, const struct sri_stream_options *options,
                      enum sri_shared_kind writer_kind) {
    *out_pair = (struct stream_pair){.options = *options};
    must(sri_shared_create(writer_kind, sri_stream_writer_bytes(options), &out_pair->writer_shared),
         "memory");
    must(sri_shared_create(SRI_SHARED_ALL_WRITE, SRI_STREAM_READER_BYTES, &out_pair->reader_shared),
         "memory");
    out_pair->place =
        stream_pair_place(options, &out_pair->writer_shared, &out_pair->reader_shared);
    make_ends(out_pair);
}

void stream_pair_again(struct stream_pair *pair) {
    memset(pair->writer_shared.base, 0, pair->writer_shared.size_bytes);
    memset(pair->reader_shared.base, 0, pair->reader_shared.size_bytes);
    pair->options.epoch++;
    make_ends(pair);
}

void stream_pair_close(struct stream_pair *pair) {
    sri_shared_end(&pair->writer_shared);
    sri_shared_end(&pair->reader_shared);
}

/* Each byte depends on number, length and place, so that no mixture of two messages passes. */
static unsigned char byte_of(uint64_t number, size_t length_bytes, size_t i) {
    uint64_t bits = (number ^ length_bytes << 40) + (i / 8 + 1) * UINT64_C(0x9e3779b97f4a7c15);
    bits = (bits ^ bits >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
    return (unsigned char)(bits >> (i % 8 * 8));
}

void stream_message_fill(void *bytes, uint64_t number, size_t length_bytes) {
    unsigned char *at = bytes;
    for (size_t i = 0; i < length_bytes; i++) {
        at[i] = byte_of(number, length_bytes, i);
    }
}

bool stream_message_is_whole(const void *bytes, uint64_t number, size_t length_bytes) {
    const unsigned char *at = bytes;
    for (size_t i = 0; i < length_bytes; i++) {
        if (at[i] != byte_of(number, length_bytes, i)) {
            return false;
        }
    }
    return true;
}
