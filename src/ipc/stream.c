/* SPDX-License-Identifier: MIT */
#include "ipc/stream.h"

#include "ipc/stream_memory.h"

int sri_stream_options_check(const struct sri_stream_options *options) {
    const uint32_t slot = options->slot_bytes;
    if (options->capacity < 1 || options->capacity > SRI_STREAM_CAPACITY_MAX) {
        return SR_E_BOUNDS;
    }
    if (slot < SRI_STREAM_SLOT_UNIT || slot > SRI_STREAM_SLOT_BYTES_MAX ||
        slot % SRI_STREAM_SLOT_UNIT != 0) {
        return SR_E_BOUNDS;
    }
    if (options->overflow < SRI_OVERFLOW_BEST_EFFORT || options->overflow > SRI_OVERFLOW_REALTIME) {
        return SR_E_BOUNDS;
    }
    return 0;
}

size_t sri_stream_writer_bytes(const struct sri_stream_options *options) {
    SR_CHECK(sri_stream_options_check(options) == 0);
    return sizeof(struct sri_stream_writer_words) + (size_t)options->capacity * options->slot_bytes;
}

static bool is_aligned(const void *memory) {
    return memory != NULL && (uintptr_t)memory % SRI_STREAM_ALIGNMENT == 0;
}

int sri_stream_place_check(const struct sri_stream_options *options,
                           const struct sri_stream_place *place) {
    const int code = sri_stream_options_check(options);
    if (code < 0) {
        return code;
    }
    if (!is_aligned(place->writer_memory) || !is_aligned(place->reader_memory)) {
        return SR_E_BOUNDS;
    }
    if (place->writer_bytes < sri_stream_writer_bytes(options) ||
        place->reader_bytes < SRI_STREAM_READER_BYTES) {
        return SR_E_BOUNDS;
    }
    return 0;
}
