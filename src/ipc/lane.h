/* SPDX-License-Identifier: MIT */
/*
 * Lane: frames between host and worker in memory that both map. Two halves, one written by the host
 * and one by the worker, of the same layout:
 *
 *   words      what this side shows: its nap, its threads, that it waits for room, how far it has
 *              read the other half
 *   stream     the frames that it sends; a short payload lies behind its frame
 *   arena      the other payloads, one after the other around the end, each in one piece
 *
 * Which of the halves the worker can write is the isolation (docs/IPC.md). Payloads are freed in
 * the order in which they were sent, when the other side's position in the stream has passed the
 * frame; so nothing that the other side writes decides what is free but that position, which is
 * judged.
 *
 * Trust: as ipc/stream.h and ipc/wake.h say. A frame is a copy when it is handed on; a payload in
 * the arena is not, it may change under the reader's eyes, and only its place and length are sound.
 *
 * Who sleeps how: the worker on a futex, the host in its ring. One thread of each side.
 *
 * Neighbours: stream.h, wake.h; lane_host.h is the host's end in its ring, worker/serve_lane.c the
 * other one.
 */
#ifndef SAFERING_IPC_LANE_H
#define SAFERING_IPC_LANE_H

#include "ipc/frame.h"
#include "ipc/stream.h"
#include "ipc/wake.h"

/* A slot's payload: a frame, and room for a short payload or the place of a longer one. */
#define SRI_LANE_SLOT_BYTES   128u
#define SRI_LANE_INLINE_BYTES 80u

#define SRI_LANE_ARENA_MIN UINT64_C(4096)
#define SRI_LANE_ARENA_MAX (UINT64_C(1) << 31)

/* Both ends have the same: it comes with the frame OPEN. No padding. */
struct sri_lane_shape {
    uint32_t isolation;   /* enum sr_isolation; 0: there is no lane */
    uint32_t capacity;    /* frames, each way */
    uint64_t arena_bytes; /* of each half: a multiple of 4,096 */
};

/* The descriptors that come with OPEN, in this order. */
enum sri_lane_fd { SRI_LANE_FD_HOST, SRI_LANE_FD_WORKER, SRI_LANE_FD_DOORBELL, SRI_LANE_FD_COUNT };

struct sri_lane_words {
    struct sri_wake_words wake;
    _Alignas(SRI_WAKE_LINE) struct sri_spin_words spin;
    _Atomic uint32_t wants_room; /* not 0: ring when you have read something */
    _Alignas(SRI_WAKE_LINE) unsigned char reader[SRI_STREAM_READER_BYTES];
};

struct sri_lane {
    struct sri_lane_shape shape;
    struct sri_stream_writer writer;
    struct sri_stream_reader reader;
    struct sri_waiter waiter;
    struct sri_waker waker;
    struct sri_spin_limit limit;
    struct sri_lane_words *own;
    const struct sri_lane_words *peer;
    uint8_t *out;        /* our arena */
    const uint8_t *in;   /* the other one */
    uint64_t *ends;      /* by frame: where the arena is used up to after it */
    uint64_t payload_at; /* of the payload that is being made, counted from the beginning */
    uint64_t payload_bytes;
    uint64_t free_at;  /* all before it may be used again */
    uint64_t room_at;  /* how far the other side had read when we last had no room */
    uint64_t released; /* position up to which the other side was told of room */
    bool wants_room;
    _Alignas(8) unsigned char message[SRI_LANE_SLOT_BYTES]; /* that was taken last */
};

/* SR_E_BOUNDS for numbers out of range. */
int sri_lane_shape_check(const struct sri_lane_shape *shape);
/* Memory of one half; the shape is in range. */
size_t sri_lane_half_bytes(const struct sri_lane_shape *shape);
/* Entries of struct sri_lane.ends: of the frames that may be unread, and of the one before them. */
static inline size_t sri_lane_ends(const struct sri_lane_shape *shape) {
    return (size_t)shape->capacity + 1;
}

struct sri_lane_config {
    struct sri_lane_shape shape;
    void *own_half;        /* zeroed memory; lends, as the next two */
    const void *peer_half; /* the stream's reader writes to its own half alone */
    uint64_t *ends;
    uint32_t epoch;
    enum sri_wake_kind sleeps; /* how this side does */
    int doorbell;              /* of the peer, or -1: it sleeps on a futex */
    uint32_t cpus;             /* that this side counts on, sri_cpus_usable() */
};

/* 0 or SR_E_BOUNDS. */
int sri_lane_init(struct sri_lane *lane, const struct sri_lane_config *config);

/* ---- writing ----------------------------------------------------------------------------------
 */

/*
 * A payload is made piece by piece, in the arena at once, then sent with its frame, whose
 * size_bytes is set. What is sent is seen by the other side after sri_lane_publish().
 *
 * Return: 0, SR_E_FULL (no room until the other side has read on: what was appended stays, and
 * sri_lane_has_room() says when to try again), SR_E_BOUNDS (longer than the arena), SR_E_PROTOCOL.
 */
int sri_lane_append(struct sri_lane *lane, const void *bytes, size_t count);
int sri_lane_send(struct sri_lane *lane, const struct sri_frame *frame);
/* The same with a payload of size_bytes, up to SRI_LANE_INLINE_BYTES, beside one that is being made
 * or not. */
int sri_lane_send_short(struct sri_lane *lane, const struct sri_frame *frame, const void *bytes);
/* 0 if beside one more frame there is room for @count others; else as when there is none. */
int sri_lane_keep(struct sri_lane *lane, uint32_t count);
/* Where the payload that is being made lies, lane->payload_bytes of it; until more is appended. */
const uint8_t *sri_lane_payload(const struct sri_lane *lane);
/* Forgets the payload that is being made. */
void sri_lane_drop(struct sri_lane *lane);

/* Shows what was sent, and wakes the other side if it sleeps. 0 or SR_E_PROTOCOL. */
int sri_lane_publish(struct sri_lane *lane);

/* After SR_E_FULL: whether the other side has read on since; and to ask no more. */
bool sri_lane_has_room(const struct sri_lane *lane);
void sri_lane_forget_room(struct sri_lane *lane);

/* ---- reading ----------------------------------------------------------------------------------
 */

/* Whether there is something to take: for a struct sri_wake_condition. */
bool sri_lane_is_ready(struct sri_lane *lane);

/*
 * Takes one frame, whose own fields are not judged (sri_frame_check() does), but size_bytes, which
 * is how long *@out_payload is. It is NULL without a payload, and may lie in the other side's arena
 * (*@out_shared: it may change) until sri_lane_release(). Returns 1, 0, SR_E_PROTOCOL.
 */
int sri_lane_take(struct sri_lane *lane, struct sri_frame *out_frame, const uint8_t **out_payload,
                  bool *out_shared);
/* What was taken is the other side's again; wakes it if it waits for room. 0 or SR_E_PROTOCOL. */
int sri_lane_release(struct sri_lane *lane);

#endif
