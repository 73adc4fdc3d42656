/* SPDX-License-Identifier: MIT */
/*
 * Link: the host's end of a stream socket to a worker, driven by the ring. Frames go out in order,
 * many in one send; what comes in is checked frame by frame before anybody sees it. A link lives
 * until its first error: then `code` says why, nothing goes out any more, and nothing is read.
 *
 * Invariants: at most one receive and one send are in flight; a buffer that is lent is touched by
 * nobody; what the worker sent is in memory that only the host can write when it is looked at.
 *
 * Neighbours: frame.h says what a frame is, channel.c what it means.
 */
#ifndef SAFERING_IPC_LINK_H
#define SAFERING_IPC_LINK_H

#include "ipc/frame.h"
#include "ring/ring.h"

/* Bytes of the buffers of a link's own pool: one to receive, two to send in turns. */
#define SRI_LINK_BUFFER_BYTES UINT32_C(65536)
#define SRI_LINK_BUFFERS      3u
#define SRI_LINK_BUFFER_MIN   UINT32_C(4096)

struct sri_parcel;
struct sri_link;

/* A frame that has come, with its payload; both are gone when it returns. A negative code ends the
 * link with it. */
typedef int (*sri_link_frame_fn)(struct sri_link *link, const struct sri_frame *frame,
                                 const uint8_t *payload);
/* Once, when the link has ended by itself; `code` says why. */
typedef void (*sri_link_end_fn)(struct sri_link *link);

struct sri_link_counts {
    uint64_t frames_sent;
    uint64_t frames_received;
    uint64_t bytes_sent; /* frames with their payloads */
    uint64_t bytes_received;
    uint64_t sends; /* operations: many frames go in one */
    uint64_t receives;
};

struct sri_link {
    sr_ring *ring;
    sr_pool *pool;
    bool owns_pool;
    bool attached; /* its own pool, to the ring */
    sr_file file;
    int code; /* 0 while it lives */
    sri_link_frame_fn on_frame;
    sri_link_end_fn on_end;
    uint32_t buffer_bytes;
    /* Out. */
    sr_buffer fill; /* frames are appended here */
    sr_buffer send; /* with the ring while send_op is set, else spare */
    uint8_t *fill_memory;
    uint8_t *send_memory;
    uint32_t fill_bytes;
    sr_op send_op;
    uint32_t send_bytes;
    struct sri_parcel *parcel_first; /* what had no room in `fill`, in order */
    struct sri_parcel *parcel_last;
    uint64_t parcel_bytes;
    uint64_t parcel_bytes_max;
    /* In. */
    sr_buffer receive;
    uint8_t *receive_memory;
    sr_op receive_op;
    struct sri_frame_limits limits;
    struct sri_frame frame; /* whose payload comes */
    uint8_t head[sizeof(struct sri_frame)];
    uint32_t head_bytes;
    uint8_t *payload; /* NULL while all of it may still come in one piece */
    uint32_t payload_bytes;
    struct sri_link_counts counts;
};

struct sri_link_config {
    sr_ring *ring;
    sr_pool *pool; /* attached, of buffers of SRI_LINK_BUFFER_MIN or more; NULL: one of its own */
    int fd;        /* a connected stream socket; taken on success */
    uint64_t queue_max_bytes;
    struct sri_frame_limits limits;
    sri_link_frame_fn on_frame;
    sri_link_end_fn on_end;
};

/* Returns 0, or what adopting, acquiring or the pool said; then nothing is left behind. */
int sri_link_open(struct sri_link *link, const struct sri_link_config *config);

/* Appends one frame. @data: copies. Returns 0, SR_E_FULL (the queue), -ENOMEM, or the link's code.
 * It is under way at the next sri_link_pump(). */
int sri_link_send(struct sri_link *link, const struct sri_frame *frame, const void *data);

/* Submits what waits to be sent or received. To be called in each turn of the ring. */
void sri_link_pump(struct sri_link *link);

/* Ends the link for @code without telling on_end. */
void sri_link_end(struct sri_link *link, int code);

/* Ends the link for @code and tells on_end, unless it has ended. */
void sri_link_fail(struct sri_link *link, int code);

/* Waits for what is in flight, closes the socket, gives everything back. Returns 0, or
 * SR_E_IN_FLIGHT after @drain_ns; then it may be called again. */
int sri_link_close(struct sri_link *link, uint64_t drain_ns);

/* Frees what is left when the ring is gone. Returns 0, or SR_E_IN_FLIGHT: the kernel may still
 * write to the pool. */
int sri_link_forget(struct sri_link *link);

#endif
