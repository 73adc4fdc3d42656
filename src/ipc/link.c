/* SPDX-License-Identifier: MIT */
#include "ipc/link.h"

#include "ring/client.h"
#include "sys/memory.h"

#include <errno.h>
#include <sys/socket.h>

/* A frame with its payload that had no room in a buffer. */
struct sri_parcel {
    struct sri_parcel *next;
    uint64_t size_bytes;
    uint64_t done_bytes;
    uint8_t bytes[];
};

static bool is_set(sr_op op) {
    return op.bits != 0;
}

/* ---- the end ---------------------------------------------------------------------------------
 */

static void drop_parcels(struct sri_link *link) {
    while (link->parcel_first != NULL) {
        struct sri_parcel *parcel = link->parcel_first;
        link->parcel_first = parcel->next;
        sri_release(parcel);
    }
    link->parcel_last = NULL;
    link->parcel_bytes = 0;
}

void sri_link_end(struct sri_link *link, int code) {
    int fd = -1;
    SR_CHECK(code < 0);
    if (link->code < 0) {
        return;
    }
    link->code = code;
    link->fill_bytes = 0;
    drop_parcels(link);
    sri_release(link->payload);
    link->payload = NULL;
    /* The peer learns of it now, and what is in flight comes to its end. */
    if (sr_file_fd(link->ring, link->file, &fd) == 0) {
        (void)link->ring->queue.backend->fd_shutdown(fd); /* there may be nothing to shut down */
    }
}

void sri_link_fail(struct sri_link *link, int code) {
    if (link->code == 0) {
        sri_link_end(link, code);
        link->on_end(link);
    }
}

/* What a socket answers when nobody is at its other end any more. */
static int code_of_error(int64_t result) {
    const bool gone = result == 0 || result == -ECONNRESET || result == -EPIPE;
    return gone ? SR_E_PEER_DIED : (int)result;
}

/* ---- in --------------------------------------------------------------------------------------
 */

static int deliver(struct sri_link *link, const uint8_t *payload) {
    const struct sri_frame frame = link->frame;
    link->head_bytes = 0;
    link->payload_bytes = 0;
    link->limits.first = false;
    link->counts.frames_received++;
    const int code = link->on_frame(link, &frame, payload);
    /* Here, not before: it may be what @payload points to. */
    sri_release(link->payload);
    link->payload = NULL;
    return code;
}

/* Takes bytes for the frame's head. Returns how many, or a negative code. */
static int64_t take_head(struct sri_link *link, const uint8_t *bytes, size_t count) {
    const size_t missing = sizeof link->head - link->head_bytes;
    const size_t taken = count < missing ? count : missing;
    memcpy(link->head + link->head_bytes, bytes, taken);
    link->head_bytes += (uint32_t)taken;
    if (link->head_bytes == sizeof link->head) {
        memcpy(&link->frame, link->head, sizeof link->frame);
        int code = sri_frame_check(&link->frame, &link->limits);
        if (code == 0 && link->frame.size_bytes == 0) {
            code = deliver(link, NULL);
        }
        if (code < 0) {
            return code;
        }
    }
    return (int64_t)taken;
}

/* Takes bytes of the payload; if all of it is there it is looked at where it lies. */
static int64_t take_payload(struct sri_link *link, const uint8_t *bytes, size_t count) {
    const uint32_t size = link->frame.size_bytes;
    if (link->payload == NULL && count >= size) {
        const int code = deliver(link, bytes);
        return code < 0 ? code : (int64_t)size;
    }
    if (link->payload == NULL) {
        /* Not zeroed: a size that is only said costs no memory until the bytes come. */
        link->payload = sri_backend()->allocate(size);
        if (link->payload == NULL) {
            return -ENOMEM;
        }
    }
    const size_t missing = size - link->payload_bytes;
    const size_t taken = count < missing ? count : missing;
    memcpy(link->payload + link->payload_bytes, bytes, taken);
    link->payload_bytes += (uint32_t)taken;
    if (link->payload_bytes == size) {
        const int code = deliver(link, link->payload);
        return code < 0 ? code : (int64_t)taken;
    }
    return (int64_t)taken;
}

static int parse(struct sri_link *link, const uint8_t *bytes, size_t count) {
    while (count > 0 && link->code == 0) {
        const bool in_head = link->head_bytes < sizeof link->head;
        const int64_t taken =
            in_head ? take_head(link, bytes, count) : take_payload(link, bytes, count);
        if (taken < 0) {
            return (int)taken;
        }
        bytes += taken;
        count -= (size_t)taken;
    }
    return 0;
}

static void on_received(sr_ring *ring, const sr_completion *completion, void *ctx) {
    struct sri_link *link = ctx;
    link->receive_op = SR_OP_NONE;
    if (link->code < 0) {
        return;
    }
    int code = completion->result <= 0 ? code_of_error(completion->result) : 0;
    if (code == 0) {
        link->counts.receives++;
        link->counts.bytes_received += (uint64_t)completion->result;
        code = parse(link, link->receive_memory, (size_t)completion->result);
    }
    if (code < 0) {
        sri_link_fail(link, code);
    } else {
        sri_ring_want_turn(ring);
    }
}

/* Returns whether the ring had room. */
static bool submit(struct sri_link *link, sr_request *request, sr_op *op) {
    request->file = link->file;
    request->ctx = link;
    const int code = sr_ring_submit(link->ring, request, op);
    if (code < 0 && code != SR_E_FULL && code != -EAGAIN && code != -ENOMEM) {
        sri_link_fail(link, code);
    }
    return code == 0;
}

static void receive(struct sri_link *link) {
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_RECV;
    request.buffer = link->receive;
    request.length = link->buffer_bytes;
    request.on_complete = on_received;
    (void)submit(link, &request, &link->receive_op); /* without room: in a later turn */
}

/* ---- out -------------------------------------------------------------------------------------
 */

static void append(struct sri_link *link, const void *bytes, size_t count) {
    memcpy(link->fill_memory + link->fill_bytes, bytes, count);
    link->fill_bytes += (uint32_t)count;
}

static int queue_parcel(struct sri_link *link, const struct sri_frame *frame, const void *data) {
    const uint64_t size = sizeof *frame + frame->size_bytes;
    if (size > link->parcel_bytes_max - link->parcel_bytes) {
        return SR_E_FULL;
    }
    struct sri_parcel *parcel = sri_backend()->allocate(sizeof *parcel + size);
    if (parcel == NULL) {
        return -ENOMEM;
    }
    *parcel = (struct sri_parcel){.size_bytes = size};
    memcpy(parcel->bytes, frame, sizeof *frame);
    if (frame->size_bytes > 0) {
        memcpy(parcel->bytes + sizeof *frame, data, frame->size_bytes);
    }
    if (link->parcel_last != NULL) {
        link->parcel_last->next = parcel;
    } else {
        link->parcel_first = parcel;
    }
    link->parcel_last = parcel;
    link->parcel_bytes += size;
    return 0;
}

int sri_link_send(struct sri_link *link, const struct sri_frame *frame, const void *data) {
    if (link->code < 0) {
        return link->code;
    }
    const uint64_t size = sizeof *frame + frame->size_bytes;
    if (link->parcel_first == NULL && size <= link->buffer_bytes - link->fill_bytes) {
        append(link, frame, sizeof *frame);
        if (frame->size_bytes > 0) {
            append(link, data, frame->size_bytes);
        }
    } else {
        const int code = queue_parcel(link, frame, data);
        if (code < 0) {
            return code;
        }
    }
    link->counts.frames_sent++;
    sri_ring_want_turn(link->ring);
    return 0;
}

/* Moves waiting parcels into the buffer that goes next. */
static void fill(struct sri_link *link) {
    while (link->parcel_first != NULL && link->fill_bytes < link->buffer_bytes) {
        struct sri_parcel *parcel = link->parcel_first;
        const uint64_t room = link->buffer_bytes - link->fill_bytes;
        const uint64_t left = parcel->size_bytes - parcel->done_bytes;
        const uint64_t count = left < room ? left : room;
        append(link, parcel->bytes + parcel->done_bytes, (size_t)count);
        parcel->done_bytes += count;
        if (parcel->done_bytes == parcel->size_bytes) {
            link->parcel_first = parcel->next;
            link->parcel_last = parcel->next != NULL ? link->parcel_last : NULL;
            link->parcel_bytes -= parcel->size_bytes;
            sri_release(parcel);
        }
    }
}

static void on_sent(sr_ring *ring, const sr_completion *completion, void *ctx) {
    struct sri_link *link = ctx;
    link->send_op = SR_OP_NONE;
    if (link->code < 0) {
        return;
    }
    if (completion->result != (int64_t)link->send_bytes) {
        sri_link_fail(link, code_of_error(completion->result < 0 ? completion->result : 0));
        return;
    }
    link->counts.sends++;
    link->counts.bytes_sent += link->send_bytes;
    sri_ring_want_turn(ring);
}

static void send_filled(struct sri_link *link) {
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_SEND;
    request.flags = SR_REQUEST_FULL;
    request.op_flags = MSG_NOSIGNAL;
    request.buffer = link->fill;
    request.length = link->fill_bytes;
    request.on_complete = on_sent;
    if (!submit(link, &request, &link->send_op)) {
        return;
    }
    const sr_buffer spare = link->send;
    uint8_t *const spare_memory = link->send_memory;
    link->send = link->fill;
    link->send_memory = link->fill_memory;
    link->send_bytes = link->fill_bytes;
    link->fill = spare;
    link->fill_memory = spare_memory;
    link->fill_bytes = 0;
    fill(link);
}

void sri_link_pump(struct sri_link *link) {
    if (link->code == 0 && !is_set(link->send_op)) {
        fill(link);
        if (link->fill_bytes > 0) {
            send_filled(link);
        }
    }
    if (link->code == 0 && !is_set(link->receive_op)) {
        receive(link);
    }
}

/* ---- life ------------------------------------------------------------------------------------
 */

static int take_buffer(struct sri_link *link, sr_buffer *out_buffer, uint8_t **out_memory) {
    void *memory = NULL;
    int code = sr_pool_acquire(link->pool, link->buffer_bytes, out_buffer);
    if (code == 0) {
        code = sr_buffer_data(link->pool, *out_buffer, 0, link->buffer_bytes, SR_ACCESS_WRITE,
                              &memory);
    }
    *out_memory = memory;
    return code;
}

static void give_buffer(struct sri_link *link, sr_buffer *buffer) {
    if (buffer->bits != 0) {
        SR_CHECK(sr_pool_release(link->pool, *buffer) == 0);
        *buffer = SR_BUFFER_NONE;
    }
}

static void give_everything_back(struct sri_link *link) {
    give_buffer(link, &link->fill);
    give_buffer(link, &link->send);
    give_buffer(link, &link->receive);
    drop_parcels(link);
    sri_release(link->payload);
    link->payload = NULL;
    if (link->attached) {
        SR_CHECK(sr_ring_detach_pool(link->ring, link->pool) == 0);
        link->attached = false;
    }
    if (link->owns_pool && link->pool != NULL) {
        SR_CHECK(sr_pool_destroy(&link->pool) == 0);
    }
}

static int make_pool(struct sri_link *link) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    options.buffer_size_bytes = SRI_LINK_BUFFER_BYTES;
    options.buffer_count = SRI_LINK_BUFFERS;
    link->owns_pool = true;
    int code = sr_pool_create(NULL, &options, &link->pool);
    code = code < 0 ? code : sr_ring_attach_pool(link->ring, link->pool);
    link->attached = code >= 0; /* 1: registered with the kernel */
    return code;
}

static int pool_buffer_bytes(sr_pool *pool, uint32_t *out_bytes) {
    sr_pool_stats stats = SR_POOL_STATS_INIT;
    const int code = sr_pool_get_stats(pool, &stats);
    if (code < 0) {
        return code;
    }
    if (stats.buffer_size_bytes < SRI_LINK_BUFFER_MIN) {
        return SR_E_BOUNDS;
    }
    *out_bytes = stats.buffer_size_bytes < SRI_LINK_BUFFER_BYTES ? (uint32_t)stats.buffer_size_bytes
                                                                 : SRI_LINK_BUFFER_BYTES;
    return 0;
}

int sri_link_open(struct sri_link *link, const struct sri_link_config *config) {
    *link = (struct sri_link){
        .ring = config->ring,
        .pool = config->pool,
        .on_frame = config->on_frame,
        .on_end = config->on_end,
        .parcel_bytes_max = config->queue_max_bytes,
        .limits = config->limits,
    };
    int code = config->pool == NULL ? make_pool(link) : 0;
    code = code < 0 ? code : pool_buffer_bytes(link->pool, &link->buffer_bytes);
    code = code < 0 ? code : take_buffer(link, &link->fill, &link->fill_memory);
    code = code < 0 ? code : take_buffer(link, &link->send, &link->send_memory);
    code = code < 0 ? code : take_buffer(link, &link->receive, &link->receive_memory);
    code = code < 0 ? code : sr_file_adopt(link->ring, config->fd, 0, &link->file);
    if (code < 0) {
        give_everything_back(link);
        return code;
    }
    sri_ring_want_turn(link->ring);
    return 0;
}

/* A shutdown has ended it, as a rule; a cancel that comes too late does no harm. */
static void ask_to_end(struct sri_link *link, sr_op op) {
    if (is_set(op)) {
        const int code = sr_op_cancel(link->ring, op);
        (void)code;
    }
}

static bool nothing_is_in_flight(void *ctx) {
    const struct sri_link *link = ctx;
    return !is_set(link->send_op) && !is_set(link->receive_op);
}

int sri_link_close(struct sri_link *link, uint64_t drain_ns) {
    sri_link_end(link, -ECANCELED);
    ask_to_end(link, link->send_op);
    ask_to_end(link, link->receive_op);
    int code = sri_ring_wait_until(link->ring, nothing_is_in_flight, link, drain_ns);
    if (code < 0) {
        return code;
    }
    int fd = -1;
    /* Nothing uses it any more, so it can be had back and closed at once. */
    code = sr_file_detach(link->ring, link->file, &fd);
    if (code == 0) {
        (void)link->ring->queue.backend->fd_close(fd);
    }
    link->file = SR_FILE_NONE;
    give_everything_back(link);
    return 0;
}

int sri_link_forget(struct sri_link *link) {
    const int code = link->owns_pool && link->pool != NULL ? sr_pool_destroy(&link->pool) : 0;
    if (code < 0) {
        return code;
    }
    drop_parcels(link);
    sri_release(link->payload);
    link->payload = NULL;
    return 0;
}
