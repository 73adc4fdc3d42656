/* SPDX-License-Identifier: MIT */
/*
 * Serving calls that come over a lane: one thread waits in memory, runs and answers. A second one
 * does nothing but wait for the end of the socket, which is the end of the host, and then ends the
 * first one's wait.
 */
#include "worker/served.h"

#include "sys/cpus.h"
#include "sys/shared.h"
#include "sys/wire.h"
#include <safering/ipc.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct sri_served_lane {
    struct sri_lane lane;
    struct sri_shared host_half;
    struct sri_shared own_half;
    int doorbell;
    uint64_t *ends;
    struct sri_spin spin;
    int socket;
    pthread_t watcher;
    bool has_watcher;
};

/* ---- life ------------------------------------------------------------------------------------
 */

static int map_halves(struct sri_served_lane *own, const struct sri_lane_shape *shape,
                      const int *fds) {
    const size_t bytes = sri_lane_half_bytes(shape);
    const bool is_shared = shape->isolation == SR_ISOLATION_SHARED;
    const int code = sri_shared_map(is_shared ? SRI_SHARED_ALL_WRITE : SRI_SHARED_ONE_WRITER,
                                    fds[SRI_LANE_FD_HOST], bytes, is_shared, &own->host_half);
    return code < 0 ? code
                    : sri_shared_map(SRI_SHARED_ALL_WRITE, fds[SRI_LANE_FD_WORKER], bytes, true,
                                     &own->own_half);
}

int sri_served_lane_open(sr_served *served, const struct sri_lane_shape *shape,
                         struct sri_packet *packet) {
    const bool is_known =
        shape->isolation == SR_ISOLATION_HYBRID || shape->isolation == SR_ISOLATION_SHARED;
    if (!is_known || sri_lane_shape_check(shape) < 0) {
        return SR_E_PROTOCOL;
    }
    struct sri_served_lane *own = calloc(1, sizeof *own);
    if (own == NULL) {
        return -ENOMEM;
    }
    served->lane = own;
    own->host_half.fd = own->own_half.fd = -1;
    own->socket = served->fd;
    own->doorbell = packet->fds[SRI_LANE_FD_DOORBELL];
    packet->fd_count = SRI_LANE_FD_DOORBELL; /* the last: who has the packet drops the others */
    own->ends = calloc(sri_lane_ends(shape), sizeof *own->ends);
    const int code = own->ends == NULL ? -ENOMEM : map_halves(own, shape, packet->fds);
    if (code < 0) {
        return code;
    }
    const struct sri_lane_config config = {
        .shape = *shape,
        .own_half = own->own_half.base,
        .peer_half = own->host_half.base,
        .ends = own->ends,
        .epoch = served->limits.epoch,
        .sleeps = SRI_WAKE_FUTEX,
        .doorbell = own->doorbell,
        .cpus = sri_cpus_usable(),
    };
    sri_spin_init(&own->spin);
    return sri_lane_init(&own->lane, &config);
}

void sri_served_lane_close(sr_served *served) {
    struct sri_served_lane *own = served->lane;
    if (own == NULL) {
        return;
    }
    if (own->has_watcher) {
        (void)shutdown(own->socket, SHUT_RDWR); /* ends its read, if the host has not */
        (void)pthread_join(own->watcher, NULL);
    }
    sri_shared_end(&own->host_half);
    sri_shared_end(&own->own_half);
    sri_fd_drop(&own->doorbell);
    free(own->ends);
    free(own);
    served->lane = NULL;
}

/* ---- the watcher ------------------------------------------------------------------------------
 */

static void *watch_socket(void *ctx) {
    struct sri_served_lane *own = ctx;
    char byte = 0;
    /* The end, an error, or a byte that no host sends: in each case there is no host to serve. */
    (void)sri_wire_read(own->socket, &byte, 1);
    sri_wake_end(&own->lane.waiter);
    return NULL;
}

/* Signals are for the program's own threads. */
static int start_watcher(struct sri_served_lane *own) {
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&own->watcher, NULL, watch_socket, own);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    own->has_watcher = failed == 0;
    return -failed;
}

/* ---- frames -----------------------------------------------------------------------------------
 */

static bool is_ready(void *ctx) {
    struct sri_served_lane *own = ctx;
    return sri_lane_is_ready(&own->lane);
}

static bool has_room(void *ctx) {
    const struct sri_served_lane *own = ctx;
    return sri_lane_has_room(&own->lane);
}

/* Whether to try again what had @code: yes after SR_E_FULL, when the host has read on. Else *code
 * is how it ended, SR_E_PEER_DIED where there is no host any more. */
static bool waits_for_room(struct sri_served_lane *own, int *code) {
    const struct sri_wake_condition room = {has_room, own};
    if (*code != SR_E_FULL) {
        return false;
    }
    /* What was sent before is what the host must read. */
    *code = sri_lane_publish(&own->lane);
    if (*code == 0 &&
        sri_wake_wait(&own->lane.waiter, &room, NULL, SRI_WAKE_FOREVER) != SRI_WAKE_WORK) {
        *code = SR_E_PEER_DIED;
    }
    return *code == 0;
}

int sri_served_lane_reply(sr_served *served, const void *data, size_t count) {
    struct sri_served_lane *own = served->lane;
    if (count > served->answer_max_bytes - own->lane.payload_bytes) {
        return SR_E_BOUNDS;
    }
    int code = 0;
    do {
        code = sri_lane_append(&own->lane, data, count);
    } while (waits_for_room(own, &code));
    return code;
}

static int send_frame(struct sri_served_lane *own, const struct sri_frame *frame) {
    int code = 0;
    do {
        code = sri_lane_send(&own->lane, frame);
    } while (waits_for_room(own, &code));
    return code < 0 ? code : sri_lane_publish(&own->lane);
}

static int send_short_event(struct sri_served_lane *own, const struct sri_frame *frame,
                            const void *data) {
    int code = 0;
    do {
        code = sri_lane_send_short(&own->lane, frame, data);
    } while (waits_for_room(own, &code));
    return code < 0 ? code : sri_lane_publish(&own->lane);
}

/* The answer that is being made lies where the event would: it is put aside meanwhile. */
static int send_long_event(sr_served *served, const struct sri_frame *frame, const void *data) {
    struct sri_lane *lane = &served->lane->lane;
    const size_t aside_bytes = (size_t)lane->payload_bytes;
    void *aside = NULL;
    if (aside_bytes > 0) {
        aside = malloc(aside_bytes);
        if (aside == NULL) {
            return -ENOMEM;
        }
        memcpy(aside, sri_lane_payload(lane), aside_bytes);
        sri_lane_drop(lane);
    }
    int code = sri_served_lane_reply(served, data, frame->size_bytes);
    code = code < 0 ? code : send_frame(served->lane, frame);
    if (aside_bytes > 0 && code == 0) {
        code = sri_served_lane_reply(served, aside, aside_bytes);
    }
    free(aside);
    return code;
}

int sri_served_lane_event(sr_served *served, const struct sri_frame *frame, const void *data) {
    return frame->size_bytes <= SRI_LANE_INLINE_BYTES ? send_short_event(served->lane, frame, data)
                                                      : send_long_event(served, frame, data);
}

/* ---- the loop --------------------------------------------------------------------------------
 */

static int serve_frame(sr_served *served, const struct sri_frame *frame, const uint8_t *data) {
    struct sri_served_lane *own = served->lane;
    struct sri_frame answer = *frame;
    int code = sri_frame_check(frame, &served->limits);
    if (code < 0 || frame->method > served->method_count) {
        return SR_E_PROTOCOL;
    }
    answer.kind = SRI_FRAME_ANSWER;
    answer.result = sri_served_run(served, frame, data);
    /* The call's memory first: a host that has the answer has room for the next call. */
    code = sri_lane_release(&own->lane);
    return code == 0 && frame->kind == SRI_FRAME_CALL ? send_frame(own, &answer) : code;
}

/* Returns 1, 0 when there is no host any more, or a code. */
static int serve_next(sr_served *served) {
    struct sri_served_lane *own = served->lane;
    const struct sri_wake_condition ready = {is_ready, own};
    struct sri_frame frame;
    const uint8_t *data = NULL;
    bool is_shared = false;
    int code = sri_lane_take(&own->lane, &frame, &data, &is_shared);
    if (code == 0) {
        code = sri_lane_release(&own->lane);
        return code < 0 ? code
                        : sri_wake_wait(&own->lane.waiter, &ready, &own->spin, SRI_WAKE_FOREVER) ==
                              SRI_WAKE_WORK;
    }
    code = code < 0 ? code : serve_frame(served, &frame, data);
    return code < 0 ? code : 1;
}

int sri_served_lane_loop(sr_served *served) {
    struct sri_served_lane *own = served->lane;
    int code = start_watcher(own);
    if (code < 0) {
        return code;
    }
    /* Of a host that wakes and wakes nobody needs protection. */
    own->lane.waiter.empty_row_max = UINT32_MAX;
    sri_spin_limit_enter(&own->lane.limit);
    do {
        code = serve_next(served);
    } while (code > 0);
    sri_spin_limit_leave(&own->lane.limit);
    return code == SR_E_PEER_DIED ? 0 : code;
}
