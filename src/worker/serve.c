/* SPDX-License-Identifier: MIT */
/*
 * Serve: the worker's end of a socket to the host, and the loop that runs methods. One thread
 * reads, runs and answers; answers gather in a buffer until there is nothing left to run.
 *
 * Neighbours: ipc/frame.h and ipc/hello.h, which the host's end (ipc/link.c, ipc/channel.c) shares.
 */
#include "ipc/frame.h"
#include "ipc/hello.h"
#include "sys/wire.h"
#include "worker/sandbox.h"
#include <safering/worker.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SERVED_MAGIC    UINT32_C(0x53455201)
#define IN_BYTES        65536u
#define OUT_BYTES_FIRST 65536u
/* Answers go out at the latest when so much has gathered. */
#define OUT_BYTES_ENOUGH 65536u
#define SOCKET_VARIABLE  "SAFERING_WORKER_SOCKET"

struct sr_served {
    uint32_t magic; /* while a method runs */
    int fd;
    const sr_method *methods;
    uint32_t method_count;
    struct sri_frame_limits limits;
    uint32_t answer_max_bytes;
    uint64_t event_count;
    /* In: bytes[in_begin .. in_end) have come and are not used. */
    uint8_t *in;
    size_t in_begin;
    size_t in_end;
    /* Out: whole frames, and of a call that is being served the answer as far as it goes. */
    uint8_t *out;
    size_t out_bytes;
    size_t out_room;
    size_t answer_at; /* its frame */
    struct sri_frame call;
};

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

static int append_frame(sr_served *served, const struct sri_frame *frame, const void *data) {
    const int code = make_room(served, sizeof *frame + frame->size_bytes);
    if (code == 0) {
        append(served, frame, sizeof *frame);
        append(served, data, frame->size_bytes);
    }
    return code;
}

int sr_serve_reply(sr_served *served, const void *data, uint64_t data_bytes) {
    if (served == NULL || served->magic != SERVED_MAGIC) {
        return SR_E_OBJECT;
    }
    if (served->call.kind != SRI_FRAME_CALL) {
        return SR_E_STATE;
    }
    if (data == NULL && data_bytes > 0) {
        return -EINVAL;
    }
    const size_t so_far = served->out_bytes - served->answer_at - sizeof(struct sri_frame);
    if (data_bytes > served->answer_max_bytes - so_far) {
        return SR_E_BOUNDS;
    }
    const int code = make_room(served, (size_t)data_bytes);
    if (code == 0) {
        append(served, data, (size_t)data_bytes);
    }
    return code;
}

int sr_serve_event(sr_served *served, uint32_t number, const void *data, uint64_t data_bytes) {
    if (served == NULL || served->magic != SERVED_MAGIC) {
        return SR_E_OBJECT;
    }
    if (data == NULL && data_bytes > 0) {
        return -EINVAL;
    }
    if (number > UINT16_MAX || data_bytes > served->answer_max_bytes) {
        return SR_E_BOUNDS;
    }
    const struct sri_frame frame = {
        .epoch = served->limits.epoch,
        .kind = SRI_FRAME_EVENT,
        .method = (uint16_t)number,
        .id = served->event_count,
        .size_bytes = (uint32_t)data_bytes,
    };
    /* Finished answers first: they are older. Then the event; the answer that is being made stays.
     */
    int code = send_out(served, served->answer_at);
    served->answer_at = 0;
    code = code < 0 ? code : sri_wire_write(served->fd, &frame, sizeof frame);
    code = code < 0 ? code : sri_wire_write(served->fd, data, (size_t)data_bytes);
    served->event_count++;
    return code == -EPIPE || code == -ECONNRESET ? SR_E_PEER_DIED : code;
}

/* ---- in --------------------------------------------------------------------------------------
 */

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
static int read_all(sr_served *served, uint8_t *bytes, size_t count) {
    const size_t there = served->in_end - served->in_begin;
    const size_t taken = count < there ? count : there;
    memcpy(bytes, served->in + served->in_begin, taken);
    served->in_begin += taken;
    for (size_t done = taken; done < count;) {
        const int64_t got = sri_wire_read(served->fd, bytes + done, count - done);
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

/* ---- methods ---------------------------------------------------------------------------------
 */

static int64_t beat(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    (void)served;
    (void)data;
    (void)data_bytes;
    (void)ctx;
    return 0;
}

/* The program's methods, and behind them the library's. */
static const sr_method *method_at(const sr_served *served, uint32_t number) {
    static const sr_method heartbeat = {SRI_METHOD_HEARTBEAT, beat, NULL};
    return number < served->method_count ? &served->methods[number] : &heartbeat;
}

static int run_method(sr_served *served, const struct sri_frame *frame, const uint8_t *data) {
    const sr_method *method = method_at(served, frame->method);
    struct sri_frame answer = *frame;
    answer.kind = SRI_FRAME_ANSWER;
    answer.size_bytes = 0;
    served->call = *frame;
    served->answer_at = served->out_bytes;
    if (frame->kind == SRI_FRAME_CALL) {
        const int code = append_frame(served, &answer, NULL);
        if (code < 0) {
            return code;
        }
    }
    served->magic = SERVED_MAGIC;
    answer.result = method->run(served, data, frame->size_bytes, method->ctx);
    served->magic = 0;
    if (frame->kind == SRI_FRAME_CALL) {
        answer.size_bytes = (uint32_t)(served->out_bytes - served->answer_at - sizeof answer);
        memcpy(served->out + served->answer_at, &answer, sizeof answer);
    }
    return served->out_bytes >= OUT_BYTES_ENOUGH ? send_out(served, served->out_bytes) : 0;
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
    code = code < 0 ? code : read_all(served, data, size);
    if (code > 0) {
        const int ran = run_method(served, frame, data);
        code = ran < 0 ? ran : 1;
    }
    free(data);
    return code;
}

/* ---- life ------------------------------------------------------------------------------------
 */

/* Checks the table of methods and makes the frame that tells it. */
static int append_hello(sr_served *served) {
    uint8_t names[SRI_HELLO_BYTES_MAX];
    struct sri_hello hello;
    size_t size = 0;
    for (uint32_t i = 0; i <= served->method_count; i++) {
        const sr_method *method = method_at(served, i);
        const size_t count = method->name != NULL && method->run != NULL
                                 ? sri_hello_append(names + size, sizeof names - size, method->name)
                                 : 0;
        if (count == 0) {
            return -EINVAL;
        }
        size += count;
    }
    if (sri_hello_check(names, size, &hello) < 0) {
        return -EINVAL; /* two of the same name */
    }
    const struct sri_frame frame = {
        .epoch = served->limits.epoch,
        .kind = SRI_FRAME_HELLO,
        .method = SRI_FRAME_VERSION,
        .size_bytes = (uint32_t)size,
    };
    return append_frame(served, &frame, names);
}

/* What the host says first: the epoch, how much it takes, and the policy of a sandbox if there is
 * to be one (else its magic stays 0). Returns 1, 0 or a code. */
static int open_channel(sr_served *served, struct sri_sandbox_policy *out_policy) {
    struct sri_frame open;
    int code = read_all(served, (uint8_t *)&open, sizeof open);
    if (code <= 0) {
        return code;
    }
    code = sri_frame_check(&open, &served->limits);
    if (code < 0) {
        return code;
    }
    if (open.size_bytes > 0) {
        if (open.size_bytes != sizeof *out_policy) {
            return SR_E_PROTOCOL;
        }
        code = read_all(served, (uint8_t *)out_policy, sizeof *out_policy);
        if (code <= 0) {
            return code;
        }
        if (!sri_sandbox_policy_is_valid(out_policy)) {
            return SR_E_PROTOCOL;
        }
    }
    served->limits.epoch = open.epoch;
    served->limits.first = false;
    served->limits.size_max_bytes = (uint32_t)open.result;
    served->answer_max_bytes = (uint32_t)open.result;
    return 1;
}

static int tell_report(sr_served *served, const struct sri_sandbox_report *report) {
    const struct sri_frame frame = {
        .epoch = served->limits.epoch,
        .kind = SRI_FRAME_CONFINED,
        .method = SRI_FRAME_VERSION,
        .size_bytes = sizeof *report,
    };
    const int code = append_frame(served, &frame, report);
    return code < 0 ? code : send_out(served, served->out_bytes);
}

/* Enters the sandbox, and loads foreign code on the way. The host hears how far that came. */
static int confine(sr_served *served, const struct sri_sandbox_policy *policy,
                   const sr_serve_options *options) {
    const bool is_confined = policy->magic != 0;
    struct sri_sandbox_report report;
    int code = 0;
    sri_sandbox_report_init(&report);
    if (is_confined) {
        code = sri_sandbox_enter(policy, SRI_SANDBOX_BEFORE_LOAD, &report);
    }
    if (code == 0 && options->load != NULL) {
        code = options->load(options->load_ctx);
        if (code < 0) {
            return code;
        }
        code = 0;
    }
    if (code == 0 && is_confined) {
        code = sri_sandbox_enter(policy, SRI_SANDBOX_BEFORE_SERVE, &report);
    }
    if (!is_confined) {
        return code;
    }
    const int told = tell_report(served, &report);
    return code < 0 ? code : told;
}

static int serve(sr_served *served, const sr_serve_options *options) {
    struct sri_sandbox_policy policy;
    struct sri_frame frame;
    policy.magic = 0;
    int code = append_hello(served); /* a table that cannot be served is an error at once */
    served->out_bytes = 0;
    code = code < 0 ? code : open_channel(served, &policy);
    if (code > 0) {
        code = confine(served, &policy, options);
        code = code < 0 ? code : append_hello(served);
        code = code < 0 ? code : 1;
    }
    while (code > 0) {
        code = read_frame(served, &frame);
        code = code <= 0 ? code : serve_frame(served, &frame);
    }
    return code;
}

/* The socket that the environment names, or a negative code. */
static int socket_from_environment(void) {
    const char *text = getenv(SOCKET_VARIABLE);
    char *end = NULL;
    if (text == NULL || *text < '0' || *text > '9') {
        return -EINVAL;
    }
    const long number = strtol(text, &end, 10);
    return *end == '\0' && number >= 0 && number <= INT32_MAX ? (int)number : -EINVAL;
}

int sr_serve(const sr_method *methods, uint32_t method_count, const sr_serve_options *options) {
    sr_serve_options given = SR_SERVE_OPTIONS_INIT;
    if (method_count > SR_METHODS_MAX) {
        return SR_E_BOUNDS;
    }
    if (!sri_options_take(&given, sizeof given, options) || given.reserved != 0 ||
        (methods == NULL && method_count > 0)) {
        return -EINVAL;
    }
    sr_served served = {
        .fd = given.socket >= 0 ? given.socket : socket_from_environment(),
        .methods = methods,
        .method_count = method_count,
        .limits = {.size_max_bytes = sizeof(struct sri_sandbox_policy),
                   .from = SRI_FRAME_FROM_HOST,
                   .first = true},
        .in = malloc(IN_BYTES),
        .out = malloc(OUT_BYTES_FIRST),
        .out_room = OUT_BYTES_FIRST,
    };
    int code = served.fd < 0 ? -EINVAL : 0;
    if (code == 0 && (served.in == NULL || served.out == NULL)) {
        code = -ENOMEM;
    }
    code = code < 0 ? code : serve(&served, &given);
    free(served.in);
    free(served.out);
    return code;
}
