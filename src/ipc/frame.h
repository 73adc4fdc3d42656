/* SPDX-License-Identifier: MIT */
/*
 * Frame: the 32 bytes before every message between host and worker, both on this machine. What
 * arrived is copied to a frame of one's own, checked, and only then used; sri_frame_check() is the
 * one place that says what an honest peer may send.
 *
 * Neighbours: hello.h (the payload of the worker's first frame), link.h (the host's end of the
 * socket), worker/serve.c (the other end).
 */
#ifndef SAFERING_IPC_FRAME_H
#define SAFERING_IPC_FRAME_H

#include "core/check.h"

/* Grows when frames or payloads change their meaning; both sides must have the same. */
#define SRI_FRAME_VERSION 2

enum sri_frame_kind {
    SRI_FRAME_OPEN = 1,    /* host, first: method: the version, result: most payload bytes; payload:
                              nothing, or opening.h */
    SRI_FRAME_HELLO = 2,   /* worker, first: method: the version; payload: hello.h */
    SRI_FRAME_CALL = 3,    /* host: id, method, payload */
    SRI_FRAME_NOTE = 4,    /* host: method, payload; nobody answers */
    SRI_FRAME_ANSWER = 5,  /* worker: id, method, result, payload */
    SRI_FRAME_EVENT = 6,   /* worker: method: a number of its own, id: the how manieth, payload */
    SRI_FRAME_CONFINED = 7 /* worker, before HELLO: method: the version; payload: the report about
                              the policy that came with OPEN */
};

enum sri_frame_from { SRI_FRAME_FROM_HOST, SRI_FRAME_FROM_WORKER };

struct sri_frame {
    uint32_t epoch; /* of this connection: what belongs to an earlier one is refused */
    uint16_t kind;  /* enum sri_frame_kind */
    uint16_t method;
    uint64_t id;
    int64_t result;
    uint32_t size_bytes; /* of the payload, which follows */
    uint32_t reserved;   /* 0 */
};

_Static_assert(sizeof(struct sri_frame) == 32, "32 bytes per message");

/* What the side that receives knows. */
struct sri_frame_limits {
    uint32_t epoch;
    uint32_t size_max_bytes; /* of a payload */
    enum sri_frame_from from;
    bool first; /* OPEN, HELLO and CONFINED, and nothing else */
};

/* Returns 0, SR_E_PROTOCOL, or SR_E_UNSUPPORTED: OPEN, HELLO or CONFINED of another version. */
int sri_frame_check(const struct sri_frame *frame, const struct sri_frame_limits *limits);

#endif
