/* SPDX-License-Identifier: MIT */
#include "ipc/lane_host.h"

#include "ring/client.h"
#include "ring/inbox.h"
#include "sys/doorbell.h"
#include "sys/memory.h"
#include <safering/ipc.h>

#include <errno.h>
#include <poll.h>

/* A copy that is larger than this is given back when a smaller one will do. */
#define COPY_BYTES_KEPT (UINT32_C(1) << 20)

/* ---- life ------------------------------------------------------------------------------------
 */

static int make_memory(struct sri_lane_host *host, const struct sri_lane_shape *shape) {
    const size_t half_bytes = sri_lane_half_bytes(shape);
    const bool is_shared = shape->isolation == SR_ISOLATION_SHARED;
    host->ends = sri_allocate(sri_lane_ends(shape), sizeof *host->ends);
    if (host->ends == NULL) {
        return -ENOMEM;
    }
    const int code = sri_shared_create(is_shared ? SRI_SHARED_ALL_WRITE : SRI_SHARED_ONE_WRITER,
                                       half_bytes, &host->own_half);
    return code < 0 ? code : sri_shared_create(SRI_SHARED_ALL_WRITE, half_bytes, &host->peer_half);
}

static int make_doorbell(struct sri_lane_host *host) {
    const int fd = sri_doorbell_open();
    if (fd < 0) {
        return fd;
    }
    const int code = sr_file_adopt(host->ring, fd, 0, &host->doorbell);
    if (code < 0) {
        (void)host->ring->queue.backend->fd_close(fd);
        return code;
    }
    return 0;
}

int sri_lane_host_open(struct sri_lane_host *host, const struct sri_lane_host_config *config) {
    *host = (struct sri_lane_host){
        .ring = config->ring,
        .own_half = {.fd = -1},
        .peer_half = {.fd = -1},
    };
    int code = sri_lane_shape_check(&config->shape);
    code = code < 0 ? code : make_memory(host, &config->shape);
    code = code < 0 ? code : make_doorbell(host);
    if (code < 0) {
        sri_lane_host_close(host, true);
        return code;
    }
    const struct sri_lane_config lane = {
        .shape = config->shape,
        .own_half = host->own_half.base,
        .peer_half = host->peer_half.base,
        .ends = host->ends,
        .epoch = config->epoch,
        .sleeps = SRI_WAKE_EVENTFD,
        .doorbell = -1,
        .cpus = config->cpus,
    };
    code = sri_lane_init(&host->lane, &lane);
    SR_CHECK(code == 0);
    sri_spin_init(&host->spin);
    sri_spin_limit_set_cpus(&host->lane.limit, config->cpus);
    sri_spin_limit_enter(&host->lane.limit);
    return 0;
}

void sri_lane_host_fds(const struct sri_lane_host *host, int out_fds[SRI_LANE_FD_COUNT]) {
    const int code = sr_file_fd(host->ring, host->doorbell, &out_fds[SRI_LANE_FD_DOORBELL]);
    SR_CHECK(code == 0);
    out_fds[SRI_LANE_FD_HOST] = host->own_half.fd;
    out_fds[SRI_LANE_FD_WORKER] = host->peer_half.fd;
}

void sri_lane_host_fds_sent(struct sri_lane_host *host) {
    sri_shared_close_fd(&host->own_half);
    sri_shared_close_fd(&host->peer_half);
}

bool sri_lane_host_drain(struct sri_lane_host *host) {
    if (host->poll_op.bits != 0) {
        const int code = sr_op_cancel(host->ring, host->poll_op);
        (void)code; /* too late: it ends by itself */
    }
    return host->poll_op.bits == 0;
}

void sri_lane_host_close(struct sri_lane_host *host, bool has_ring) {
    int fd = -1;
    if (has_ring && host->doorbell.bits != 0 &&
        sr_file_detach(host->ring, host->doorbell, &fd) == 0) {
        (void)host->ring->queue.backend->fd_close(fd);
    }
    sri_shared_end(&host->own_half);
    sri_shared_end(&host->peer_half);
    sri_release(host->ends);
    sri_release(host->copy);
    *host = (struct sri_lane_host){.own_half = {.fd = -1}, .peer_half = {.fd = -1}};
}

/* ---- frames -----------------------------------------------------------------------------------
 */

int sri_lane_host_send(struct sri_lane_host *host, const struct sri_frame *frame,
                       const void *data) {
    int code = 0;
    if (frame->size_bytes <= SRI_LANE_INLINE_BYTES) {
        code = sri_lane_send_short(&host->lane, frame, data);
    } else {
        code = sri_lane_append(&host->lane, data, frame->size_bytes);
        code = code < 0 ? code : sri_lane_send(&host->lane, frame);
        if (code < 0) {
            sri_lane_drop(&host->lane);
        }
    }
    if (code == 0) {
        sri_ring_want_turn(host->ring);
    }
    return code;
}

/* Memory of our own for a payload. NULL: there is none. */
static uint8_t *room_for_copy(struct sri_lane_host *host, size_t bytes) {
    if (bytes > host->copy_bytes ||
        (host->copy_bytes > COPY_BYTES_KEPT && bytes < COPY_BYTES_KEPT)) {
        sri_release(host->copy);
        host->copy_bytes = 0;
        host->copy = sri_backend()->allocate(bytes);
        if (host->copy != NULL) {
            host->copy_bytes = bytes;
        }
    }
    return host->copy;
}

int sri_lane_host_take(struct sri_lane_host *host, const struct sri_frame_limits *limits,
                       struct sri_frame *out_frame, const uint8_t **out_payload) {
    bool is_shared = false;
    int code = sri_lane_take(&host->lane, out_frame, out_payload, &is_shared);
    if (code == 1 && sri_frame_check(out_frame, limits) < 0) {
        code = SR_E_PROTOCOL;
    }
    if (code <= 0 || !is_shared || host->lane.shape.isolation == SR_ISOLATION_SHARED) {
        return code;
    }
    uint8_t *copy = room_for_copy(host, out_frame->size_bytes);
    if (copy == NULL) {
        return -ENOMEM;
    }
    memcpy(copy, *out_payload, out_frame->size_bytes);
    *out_payload = copy;
    return 1;
}

/* ---- waking -----------------------------------------------------------------------------------
 */

static bool has_work(void *ctx) {
    struct sri_lane_host *host = ctx;
    return sri_lane_is_ready(&host->lane) || sri_lane_has_room(&host->lane);
}

/* While looking: what the ring has got is work, too. */
static bool has_any_work(void *ctx) {
    struct sri_lane_host *host = ctx;
    return has_work(host) || sri_queue_ready(&host->ring->queue) > 0 ||
           sri_inbox_has_work(host->ring);
}

static void on_rung(sr_ring *ring, const sr_completion *completion, void *ctx) {
    struct sri_lane_host *host = ctx;
    if ((completion->flags & SR_COMPLETION_MORE) == 0) {
        host->poll_op = SR_OP_NONE; /* it is asked for again in the next turn */
    }
    host->is_rung = true;
    host->rung_count++;
    sri_ring_want_turn(ring);
}

static int poll_doorbell(struct sri_lane_host *host) {
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_POLL;
    request.flags = SR_REQUEST_MULTISHOT;
    request.file = host->doorbell;
    request.mask = POLLIN;
    request.on_complete = on_rung;
    request.ctx = host;
    const int code = sr_ring_submit(host->ring, &request, &host->poll_op);
    const bool in_a_later_turn = code == SR_E_FULL || code == -EAGAIN || code == -ENOMEM;
    return in_a_later_turn ? 0 : code;
}

int sri_lane_host_turn(struct sri_lane_host *host) {
    const struct sri_wake_condition work = {has_work, host};
    sri_lane_host_awake(host);
    if (host->is_rung) {
        host->is_rung = false;
        if (sri_wake_rung(&host->lane.waiter, &work) == SRI_WAKE_FLOOD) {
            return SR_E_PROTOCOL;
        }
    }
    if (sri_lane_has_room(&host->lane)) {
        sri_lane_forget_room(&host->lane);
        sri_ring_count_callback(host->ring); /* whoever was refused waits for this */
    }
    if (host->poll_op.bits == 0) {
        const int code = poll_doorbell(host);
        if (code < 0) {
            return code;
        }
    }
    return sri_lane_publish(&host->lane);
}

bool sri_lane_host_arm(struct sri_lane_host *host, bool looks, bool *may_look) {
    const struct sri_wake_condition work = {has_work, host};
    const struct sri_wake_condition any_work = {has_any_work, host};
    if (host->poll_op.bits == 0) {
        return false; /* nothing would wake it */
    }
    if (looks && *may_look) {
        *may_look = false;
        if (sri_wake_look(&host->lane.waiter, &any_work, &host->spin, SRI_WAKE_FOREVER) ==
            SRI_WAKE_WORK) {
            return false;
        }
    }
    if (!sri_wake_arm(&host->lane.waiter, &work)) {
        return false;
    }
    host->is_armed = true;
    sri_spin_limit_leave(&host->lane.limit);
    return true;
}

void sri_lane_host_awake(struct sri_lane_host *host) {
    if (host->is_armed) {
        host->is_armed = false;
        sri_spin_limit_enter(&host->lane.limit);
        sri_wake_awake(&host->lane.waiter);
    }
}
