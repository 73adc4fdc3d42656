/* SPDX-License-Identifier: MIT */
/*
 * Served: what a worker's sr_serve() knows, and the two ways in which calls come: over the socket
 * (serve_socket.c), or over a lane in shared memory (serve_lane.c). Both begin over the socket.
 */
#ifndef SAFERING_WORKER_SERVED_H
#define SAFERING_WORKER_SERVED_H

#include "ipc/frame.h"
#include "ipc/opening.h"
#include "sys/packet.h"
#include <safering/worker.h>

struct sri_served_lane;

struct sr_served {
    uint32_t magic; /* while a method runs */
    int fd;
    const sr_method *methods;
    uint32_t method_count;
    struct sri_frame_limits limits;
    uint32_t answer_max_bytes;
    uint64_t event_count;
    struct sri_frame call;
    struct sri_served_lane *lane; /* owned; NULL: calls come over the socket */
    /* In: bytes[in_begin .. in_end) have come and are not used. */
    uint8_t *in;
    size_t in_begin;
    size_t in_end;
    /* Out: whole frames, and of a call that is being served the answer as far as it goes. */
    uint8_t *out;
    size_t out_bytes;
    size_t out_room;
    size_t answer_at; /* its frame */
};

/* Runs the method that a frame names, with @data, which has size_bytes. Its result. */
int64_t sri_served_run(sr_served *served, const struct sri_frame *frame, const uint8_t *data);

/* ---- serve_socket.c ---------------------------------------------------------------------------
 */

/* 0 or -ENOMEM. */
int sri_served_socket_init(sr_served *served);
void sri_served_socket_deinit(sr_served *served);

/* The first bytes, and in @out_packet the descriptors that came beside them. Returns 1, 0 at the
 * end of the stream, or a code. */
int sri_served_read_first(sr_served *served, void *bytes, size_t count,
                          struct sri_packet *out_packet);
/* Takes exactly @count bytes, however they come. Returns 1, 0 at the end of the stream, or a code.
 */
int sri_served_read(sr_served *served, void *bytes, size_t count);
/* Appends a frame with its payload to what goes out. */
int sri_served_append(sr_served *served, const struct sri_frame *frame, const void *data);
/* Sends all that has gathered. */
int sri_served_flush(sr_served *served);

/* These return what the functions of <safering/worker.h> return; arguments have been checked. */
int sri_served_socket_loop(sr_served *served);
int sri_served_socket_reply(sr_served *served, const void *data, size_t count);
int sri_served_socket_event(sr_served *served, const struct sri_frame *frame, const void *data);

/* ---- serve_lane.c -----------------------------------------------------------------------------
 */

/* Maps what came with the first frame, and takes the doorbell out of it. 0, SR_E_PROTOCOL, -ENOMEM,
 * or a code of the kernel. */
int sri_served_lane_open(sr_served *served, const struct sri_lane_shape *shape,
                         struct sri_packet *packet);
void sri_served_lane_close(sr_served *served);
int sri_served_lane_loop(sr_served *served);
int sri_served_lane_reply(sr_served *served, const void *data, size_t count);
int sri_served_lane_event(sr_served *served, const struct sri_frame *frame, const void *data);

#endif
