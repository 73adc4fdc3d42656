/* SPDX-License-Identifier: MIT */
/*
 * Lane host: the host's end of a lane, which sleeps in a ring. It makes the memory of both halves
 * and a doorbell, an eventfd that the ring polls; the worker gets all three.
 *
 * Before the ring sleeps sri_lane_host_arm() shows the worker that it does; then the worker rings.
 * Whoever has calls without an answer may look for a while first (ipc/spin.h).
 *
 * Neighbours: lane.h moves the frames, channel.c says what they mean.
 */
#ifndef SAFERING_IPC_LANE_HOST_H
#define SAFERING_IPC_LANE_HOST_H

#include "ipc/lane.h"
#include "ring/ring.h"
#include "sys/shared.h"

struct sri_lane_host {
    struct sri_lane lane;
    sr_ring *ring;
    struct sri_shared own_half;
    struct sri_shared peer_half;
    uint64_t *ends;
    sr_file doorbell;
    sr_op poll_op;
    bool is_rung;
    uint64_t rung_count;
    bool is_armed;
    struct sri_spin spin;
    uint8_t *copy; /* HYBRID: of the payload that was taken last */
    size_t copy_bytes;
};

struct sri_lane_host_config {
    sr_ring *ring;
    struct sri_lane_shape shape;
    uint32_t epoch;
    uint32_t cpus; /* that host and worker may count on together */
};

/* 0, SR_E_BOUNDS, -ENOMEM, -EMFILE, SR_E_FULL (no file left); then nothing is left behind. */
int sri_lane_host_open(struct sri_lane_host *host, const struct sri_lane_host_config *config);

/* The descriptors that the worker needs, borrowed; and afterwards. */
void sri_lane_host_fds(const struct sri_lane_host *host, int out_fds[SRI_LANE_FD_COUNT]);
void sri_lane_host_fds_sent(struct sri_lane_host *host);

/* Sends one frame at the next sri_lane_host_turn(). @data: copies. 0, SR_E_FULL, SR_E_PROTOCOL. */
int sri_lane_host_send(struct sri_lane_host *host, const struct sri_frame *frame, const void *data);

/* In each turn, before frames are taken. 0, or the code with which the lane has ended:
 * SR_E_PROTOCOL or one of the ring. */
int sri_lane_host_turn(struct sri_lane_host *host);

/* As sri_lane_take(), and judges the frame. The payload stays as it is until the next one, but in a
 * SHARED lane; sri_lane_release() says that it was used. 1, 0, SR_E_PROTOCOL, -ENOMEM. */
int sri_lane_host_take(struct sri_lane_host *host, const struct sri_frame_limits *limits,
                       struct sri_frame *out_frame, const uint8_t **out_payload);

/* See struct sri_ring_client. @looks: there is an answer to wait for. */
bool sri_lane_host_arm(struct sri_lane_host *host, bool looks, bool *may_look);
void sri_lane_host_awake(struct sri_lane_host *host);

/* Asks what is in flight to end; true when nothing is. */
bool sri_lane_host_drain(struct sri_lane_host *host);
/* When it is. @has_ring: false where the ring is gone, or is a parent's. */
void sri_lane_host_close(struct sri_lane_host *host, bool has_ring);

#endif
