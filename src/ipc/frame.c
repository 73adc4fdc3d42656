/* SPDX-License-Identifier: MIT */
#include "ipc/frame.h"

/* Which fields a kind uses; the others are zero. */
static const struct {
    uint8_t from;
    bool first;
    bool id;
    bool method;
    bool result;
    bool payload;
} kinds[] = {
    [SRI_FRAME_OPEN] = {SRI_FRAME_FROM_HOST, true, false, true, true, true},
    [SRI_FRAME_HELLO] = {SRI_FRAME_FROM_WORKER, true, false, true, false, true},
    [SRI_FRAME_CALL] = {SRI_FRAME_FROM_HOST, false, true, true, false, true},
    [SRI_FRAME_NOTE] = {SRI_FRAME_FROM_HOST, false, false, true, false, true},
    [SRI_FRAME_ANSWER] = {SRI_FRAME_FROM_WORKER, false, true, true, true, true},
    [SRI_FRAME_EVENT] = {SRI_FRAME_FROM_WORKER, false, true, true, false, true},
    [SRI_FRAME_CONFINED] = {SRI_FRAME_FROM_WORKER, true, false, true, false, true},
};

int sri_frame_check(const struct sri_frame *frame, const struct sri_frame_limits *limits) {
    const uint16_t kind = frame->kind;
    if (kind < SRI_FRAME_OPEN || kind >= sizeof kinds / sizeof kinds[0]) {
        return SR_E_PROTOCOL;
    }
    if (kinds[kind].from != limits->from || kinds[kind].first != limits->first) {
        return SR_E_PROTOCOL;
    }
    if (frame->reserved != 0 || (!kinds[kind].id && frame->id != 0) ||
        (!kinds[kind].method && frame->method != 0) ||
        (!kinds[kind].result && frame->result != 0) ||
        (!kinds[kind].payload && frame->size_bytes != 0)) {
        return SR_E_PROTOCOL;
    }
    /* The worker learns the epoch from OPEN. */
    if (kind != SRI_FRAME_OPEN && frame->epoch != limits->epoch) {
        return SR_E_PROTOCOL;
    }
    if (frame->size_bytes > limits->size_max_bytes) {
        return SR_E_PROTOCOL;
    }
    if (kind == SRI_FRAME_OPEN && (frame->result < 0 || frame->result > UINT32_MAX)) {
        return SR_E_PROTOCOL;
    }
    if (kinds[kind].first && frame->method != SRI_FRAME_VERSION) {
        return SR_E_UNSUPPORTED;
    }
    return 0;
}
