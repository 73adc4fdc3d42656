/* SPDX-License-Identifier: MIT */
/*
 * Serve: a worker's life. It hears from its host what to enter and how it is called, enters its
 * sandbox, says which methods it has, and runs them.
 *
 * Neighbours: served.h (the two ways in which calls come), sandbox.h; ipc/frame.h, ipc/opening.h
 * and ipc/hello.h are what both sides agree on.
 */
#include "ipc/hello.h"
#include "worker/sandbox.h"
#include "worker/served.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SERVED_MAGIC    UINT32_C(0x53455201)
#define SOCKET_VARIABLE "SAFERING_WORKER_SOCKET"

/* ---- for methods -----------------------------------------------------------------------------
 */

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
    if (data_bytes > served->answer_max_bytes) {
        return SR_E_BOUNDS;
    }
    return served->lane != NULL ? sri_served_lane_reply(served, data, (size_t)data_bytes)
                                : sri_served_socket_reply(served, data, (size_t)data_bytes);
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
    const int code = served->lane != NULL ? sri_served_lane_event(served, &frame, data)
                                          : sri_served_socket_event(served, &frame, data);
    served->event_count += code == 0;
    return code;
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

int64_t sri_served_run(sr_served *served, const struct sri_frame *frame, const uint8_t *data) {
    const sr_method *method = method_at(served, frame->method);
    served->call = *frame;
    served->magic = SERVED_MAGIC;
    const int64_t result = method->run(served, data, frame->size_bytes, method->ctx);
    served->magic = 0;
    return result;
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
    return sri_served_append(served, &frame, names);
}

/* Reads what belongs to the first frame. Without an opening, it says nothing. Returns 1, 0 or a
 * code. */
static int read_opening(sr_served *served, const struct sri_frame *open,
                        struct sri_opening *out_opening) {
    memset(out_opening, 0, sizeof *out_opening);
    if (open->size_bytes == 0) {
        return 1;
    }
    if (open->size_bytes != sizeof *out_opening) {
        return SR_E_PROTOCOL;
    }
    const int code = sri_served_read(served, out_opening, sizeof *out_opening);
    if (code <= 0) {
        return code;
    }
    const bool has_policy = out_opening->policy.magic != 0;
    return has_policy && !sri_sandbox_policy_is_valid(&out_opening->policy) ? SR_E_PROTOCOL : 1;
}

/* Takes what the first frame says: the epoch, how much the host takes, sandbox and lane. Returns 1,
 * 0 or a code. */
static int take_opening(sr_served *served, const struct sri_frame *open, struct sri_packet *packet,
                        struct sri_opening *out_opening) {
    int code = sri_frame_check(open, &served->limits);
    code = code < 0 ? code : read_opening(served, open, out_opening);
    if (code <= 0) {
        return code;
    }
    served->limits.epoch = open->epoch;
    served->limits.first = false;
    served->limits.size_max_bytes = (uint32_t)open->result;
    served->answer_max_bytes = (uint32_t)open->result;
    const bool has_lane = out_opening->lane.isolation != 0;
    if (packet->fd_count != (has_lane ? SRI_LANE_FD_COUNT : 0)) {
        return SR_E_PROTOCOL;
    }
    code = has_lane ? sri_served_lane_open(served, &out_opening->lane, packet) : 0;
    return code < 0 ? code : 1;
}

static int open_channel(sr_served *served, struct sri_opening *out_opening) {
    struct sri_frame open;
    struct sri_packet packet;
    int code = sri_served_read_first(served, &open, sizeof open, &packet);
    code = code <= 0 ? code : take_opening(served, &open, &packet, out_opening);
    sri_packet_drop(&packet);
    return code;
}

static int tell_report(sr_served *served, const struct sri_sandbox_report *report) {
    const struct sri_frame frame = {
        .epoch = served->limits.epoch,
        .kind = SRI_FRAME_CONFINED,
        .method = SRI_FRAME_VERSION,
        .size_bytes = sizeof *report,
    };
    const int code = sri_served_append(served, &frame, report);
    return code < 0 ? code : sri_served_flush(served);
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

/* Made again: `load` may have put other names into the table. */
static int say_hello(sr_served *served) {
    const int code = append_hello(served);
    return code < 0 ? code : sri_served_flush(served);
}

static int serve(sr_served *served, const sr_serve_options *options) {
    struct sri_opening opening;
    int code = append_hello(served); /* a table that cannot be served is an error at once */
    served->out_bytes = 0;
    code = code < 0 ? code : open_channel(served, &opening);
    if (code <= 0) {
        return code;
    }
    code = confine(served, &opening.policy, options);
    code = code < 0 ? code : say_hello(served);
    if (code < 0) {
        return code;
    }
    return served->lane != NULL ? sri_served_lane_loop(served) : sri_served_socket_loop(served);
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
        .limits = {.size_max_bytes = sizeof(struct sri_opening),
                   .from = SRI_FRAME_FROM_HOST,
                   .first = true},
    };
    int code = served.fd < 0 ? -EINVAL : 0;
    code = code < 0 ? code : sri_served_socket_init(&served);
    code = code < 0 ? code : serve(&served, &given);
    sri_served_lane_close(&served);
    sri_served_socket_deinit(&served);
    return code;
}
