/* SPDX-License-Identifier: MIT */
/* Serving calls that come over the socket: one thread reads, runs and answers; answers gather in a
 * buffer until there is nothing left to run. */
#include "worker/served.h"

#include "sys/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define IN_BYTES        65536u
#define OUT_BYTES_FIRST 65536u
/* Answers go out at the latest when so much has gathered. */
#define OUT_BYTES_ENOUGH 65536u

int sri_served_socket_init(sr_served *served) {
    served->in = malloc(IN_BYTES);
    served->out = malloc(OUT_BYTES_FIRST);
    served->out_room = OUT_BYTES_FIRST;
    return served->in != NULL && served->out != NULL ? 0 : -ENOMEM;
}

void sri_served_socket_deinit(sr_served *served) {
    free(served->in);
    free(served->out);
}

/* ---- out -------------------------------------------------------------------------------------
 */

static int make_room(sr_served *served, size_t count) {
    if (count <= served->out_room - served->out_bytes) {
        return 0;
    }
    size_t room = served->out_room;
    while (room - served->out_bytes < count) {
        room *= 2; /* at most some GiB: counts are bounded by what the host takes */
    }
    uint8_t *larger = realloc(served->out, room);
    if (larger == NULL) {
        return -ENOMEM;
    }
    served->out = larger;
    served->out_room = room;
    return 0;
}

static void append(sr_served *served, const void *bytes, size_t count) {
    if (count > 0) {
        memcpy(served->out + served->out_bytes, bytes, count);
        served->out_bytes += count;
    }
}

/* Sends the first @count bytes of what has gathered. */
static int send_out(sr_served *served, size_t count) {
    const int code = sri_wire_write(served->fd, served->out, count);
    memmove(served->out, served->out + count, served->out_bytes - count);
    served->out_bytes -= count;
    return code == -EPIPE || code == -ECONNRESET ? SR_E_PEER_DIED : code;
}

int sri_served_append(sr_served *served, const struct sri_frame *frame, const void *data) {
    const int code = make_room(served, sizeof *frame + frame->size_bytes);
    if (code == 0) {
        append(served, frame, sizeof *frame);
        append(served, data, frame->size_bytes);
    }
    return code;
}

int sri_served_flush(sr_served *served) {
    return send_out(served, served->out_bytes);
}

int sri_served_socket_reply(sr_served *served, const void *data, size_t count) {
    const size_t so_far = served->out_bytes - served->answer_at - sizeof(struct sri_frame);
    if (count > served->answer_max_bytes - so_far) {
        return SR_E_BOUNDS;
    }
    const int code = make_room(served, count);
    if (code == 0) {
        append(served, data, count);
    }
    return code;
}

/* Finished answers first: they are older. Then the event; the answer that is being made stays. */
int sri_served_socket_event(sr_served *served, const struct sri_frame *frame, const void *data) {
    int code = send_out(served, served->answer_at);
    served->answer_at = 0;
    code = code < 0 ? code : sri_wire_write(served->fd, frame, sizeof *frame);
    code = code < 0 ? code : sri_wire_write(served->fd, data, frame->size_bytes);
    return code == -EPIPE || code == -ECONNRESET ? SR_E_PEER_DIED : code;
}

/* ---- in --------------------------------------------------------------------------------------
 */

int sri_served_read_first(sr_served *served, void *bytes, size_t count,
                          struct sri_packet *out_packet) {
    const int got = sri_packet_await(served->fd, bytes, count, out_packet);
    const size_t done = out_packet->size_bytes;
    return got <= 0 ? got : sri_served_read(served, (uint8_t *)bytes + done, count - done);
}

/* Waits for more bytes, behind those that have not been used. Returns 1, 0 at the end, or a code.
 */
static int read_more(sr_served *served) {
    memmove(served->in, served->in + served->in_begin, served->in_end - served->in_begin);
    served->in_end -= served->in_begin;
    served->in_begin = 0;
    const int64_t count =
        sri_wire_read(served->fd, served->in + served->in_end, IN_BYTES - served->in_end);
    if (count == -ECONNRESET) {
        return 0;
    }
    if (count < 0) {
        return (int)count;
    }
    served->in_end += (size_t)count;
    return count > 0;
}

/* Takes exactly @count bytes, however they come. Returns 1, 0 at the end of the stream, or a code.
 */
int sri_served_read(sr_served *served, void *bytes, size_t count) {
    const size_t there = served->in_end - served->in_begin;
    const size_t taken = count < there ? count : there;
    memcpy(bytes, served->in + served->in_begin, taken);
    served->in_begin += taken;
    for (size_t done = taken; done < count;) {
        const int64_t got = sri_wire_read(served->fd, (uint8_t *)bytes + done, count - done);
        if (got <= 0) {
            return (int)got;
        }
        done += (size_t)got;
    }
    return 1;
}

/* The next frame, checked. What has gathered goes out before there is a wait. Returns 1, 0 or a
 * code. */
static int read_frame(sr_served *served, struct sri_frame *out_frame) {
    while (served->in_end - served->in_begin < sizeof *out_frame) {
        int code = send_out(served, served->out_bytes);
        code = code < 0 ? code : read_more(served);
        if (code <= 0) {
            return code;
        }
    }
    memcpy(out_frame, served->in + served->in_begin, sizeof *out_frame);
    served->in_begin += sizeof *out_frame;
    const int code = sri_frame_check(out_frame, &served->limits);
    return code < 0 ? code : 1;
}

/* ---- the loop --------------------------------------------------------------------------------
 */

static int run_method(sr_served *served, const struct sri_frame *frame, const uint8_t *data) {
    struct sri_frame answer = *frame;
    answer.kind = SRI_FRAME_ANSWER;
    answer.size_bytes = 0;
    served->answer_at = served->out_bytes;
    if (frame->kind == SRI_FRAME_CALL) {
        const int code = sri_served_append(served, &answer, NULL);
        if (code < 0) {
            return code;
        }
    }
    answer.result = sri_served_run(served, frame, data);
    if (frame->kind == SRI_FRAME_CALL) {
        answer.size_bytes = (uint32_t)(served->out_bytes - served->answer_at - sizeof answer);
        memcpy(served->out + served->answer_at, &answer, sizeof answer);
    }
    return served->out_bytes >= OUT_BYTES_ENOUGH ? sri_served_flush(served) : 0;
}

static int serve_frame(sr_served *served, const struct sri_frame *frame) {
    if (frame->method > served->method_count) {
        return SR_E_PROTOCOL;
    }
    const size_t size = frame->size_bytes;
    if (size == 0) {
        const int code = run_method(served, frame, NULL);
        return code < 0 ? code : 1;
    }
    if (size <= served->in_end - served->in_begin) {
        const uint8_t *data = served->in + served->in_begin;
        served->in_begin += size;
        const int code = run_method(served, frame, data);
        return code < 0 ? code : 1;
    }
    uint8_t *data = malloc(size);
    if (data == NULL) {
        return -ENOMEM;
    }
    int code = send_out(served, served->out_bytes); /* there may be a wait */
    code = code < 0 ? code : sri_served_read(served, data, size);
    if (code > 0) {
        const int ran = run_method(served, frame, data);
        code = ran < 0 ? ran : 1;
    }
    free(data);
    return code;
}

int sri_served_socket_loop(sr_served *served) {
    struct sri_frame frame;
    int code = 1;
    while (code > 0) {
        code = read_frame(served, &frame);
        code = code <= 0 ? code : serve_frame(served, &frame);
    }
    return code;
}
