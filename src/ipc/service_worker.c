/* SPDX-License-Identifier: MIT */
/* One worker of a service, from the launcher's START to a seat that is free again. */
#include "ipc/channel.h"
#include "ipc/service.h"
#include "sys/clock.h"
#include "sys/packet.h"
#include "sys/wire.h"

#include <errno.h>

#define SIGNAL_KILL 9
/* How long a worker whose channel has ended may take to end by itself before it is killed: the time
 * to exit, or to dump a core. */
#define LEAVE_NS UINT64_C(1000000000)
/* When to ask a launcher again that took no request. */
#define AGAIN_NS UINT64_C(10000000)

static void set_time(struct sri_service_worker *worker, uint64_t duration_ns) {
    worker->deadline_ns = sri_clock_after(sri_service_now(worker->service), duration_ns);
}

/* Why it ends, unless that is known. That its socket has ended is the least that can be known. */
static void set_cause(struct sri_service_worker *worker, enum sr_worker_cause cause, int code) {
    if (worker->exit.cause == 0 || worker->exit.cause == SR_WORKER_BY_ITSELF) {
        worker->exit.cause = cause;
        worker->exit.code = code;
    }
}

/* ---- its heart --------------------------------------------------------------------------------
 */

static void on_beat(sr_channel *channel, const sr_answer *answer, void *ctx) {
    struct sri_service_worker *worker = ctx;
    (void)channel;
    if (answer->source == SR_ANSWER_METHOD) {
        worker->owes_beat = false;
        worker->service->stats.heartbeats++;
    }
}

/* When to ask it; or never, if that is not wanted. */
static void set_beat(struct sri_service_worker *worker) {
    const uint64_t period_ns = worker->service->options.heartbeat_ns;
    worker->deadline_ns = SR_FOREVER;
    if (period_ns != 0) {
        set_time(worker, period_ns);
    }
}

/* Whoever has a call, also one that was given up, is asked by that call's deadline. */
static void ask_for_beat(struct sri_service_worker *worker) {
    if (worker->owes_beat) {
        worker->service->stats.kills_stuck++;
        sri_service_worker_kill(worker, SR_WORKER_STUCK, SR_E_TIMEOUT);
        return;
    }
    set_beat(worker);
    const uint16_t method = sri_hello_find(&worker->channel->hello, SRI_METHOD_HEARTBEAT);
    if (worker->channel->calls.count > 0 || method == SRI_METHOD_NOT_KNOWN) {
        return;
    }
    sr_call_request request = SR_CALL_REQUEST_INIT;
    request.method = method;
    request.on_answer = on_beat;
    request.ctx = worker;
    /* Refused for want of memory: then it is asked the next time. */
    worker->owes_beat = sr_channel_call(worker->channel, &request, NULL) == 0;
}

/* ---- its channel ------------------------------------------------------------------------------
 */

/* That it was started and that it says hello arrive in any order. */
static void look_whether_ready(struct sri_service_worker *worker) {
    if (worker->seat != SRI_SEAT_STARTING || worker->exit.pid == 0 || !worker->channel->ready) {
        return;
    }
    worker->seat = SRI_SEAT_READY;
    set_beat(worker);
    sri_service_take_methods(worker);
    sri_service_change(worker->service);
}

/* A layer that is required could not be had. */
static void note_not_confined(struct sri_service_worker *worker,
                              const struct sri_sandbox_report *report, int code) {
    const uint32_t layer = report->failed_layer;
    set_cause(worker, SR_WORKER_NOT_CONFINED, code);
    if (worker->exit.cause == SR_WORKER_NOT_CONFINED) {
        worker->exit.sandbox_layer = sri_sandbox_layer_text((enum sri_sandbox_layer)layer);
        worker->exit.sandbox_path =
            report->failed_path < SRI_SANDBOX_PATHS_MAX ? report->failed_path + 1 : 0;
    }
}

/* All calls have been answered: that the channel has ended is told last. */
static void on_channel_end(struct sri_service_worker *worker, int code) {
    if (worker->seat == SRI_SEAT_ENDING) {
        return;
    }
    worker->seat = SRI_SEAT_ENDING;
    worker->is_active = false;
    if (code == SR_E_PEER_DIED) {
        set_cause(worker, SR_WORKER_BY_ITSELF, 0);
        set_time(worker, LEAVE_NS);
    } else if (worker->channel->report.failed_layer != SRI_SANDBOX_LAYER_COUNT) {
        note_not_confined(worker, &worker->channel->report, code);
        set_time(worker, LEAVE_NS); /* it has said so, and ends */
    } else {
        sri_service_worker_kill(worker, SR_WORKER_BROKE_PROTOCOL, code);
    }
    sri_service_change(worker->service);
}

static void on_channel_state(sr_channel *channel, int code, void *ctx) {
    struct sri_service_worker *worker = ctx;
    (void)channel;
    sri_sandbox_report_merge(&worker->report, &worker->channel->report);
    if (code == 0) {
        look_whether_ready(worker);
    } else {
        on_channel_end(worker, code);
    }
}

static void on_channel_event(sr_channel *channel, uint32_t number, const void *data,
                             uint64_t data_bytes, void *ctx) {
    struct sri_service_worker *worker = ctx;
    sr_service *service = worker->service;
    (void)channel;
    worker->has_told_event = true;
    service->stats.events++;
    if (service->options.on_event != NULL) {
        service->options.on_event(service, worker->id, number, data, data_bytes,
                                  service->options.ctx);
    }
}

static int open_channel(struct sri_service_worker *worker, int socket) {
    const sr_service *service = worker->service;
    sr_channel_options options = SR_CHANNEL_OPTIONS_INIT;
    options.calls_max = service->options.calls_per_worker;
    options.payload_max_bytes = service->options.payload_max_bytes;
    options.queue_max_bytes = SR_FOREVER; /* the calls bound it */
    options.pool = service->supervisor->pool;
    options.isolation = service->options.isolation;
    options.arena_bytes = service->options.arena_bytes;
    options.on_state = on_channel_state;
    options.on_event = on_channel_event;
    options.ctx = worker;
    const struct sri_channel_setup setup = {.policy = service->recipe.policy,
                                            .pairs = service->options.workers};
    return sri_channel_open(service->supervisor->client.ring, socket, &options, &setup,
                            &worker->channel);
}

/* ---- start ------------------------------------------------------------------------------------
 */

static int ask_launcher(struct sri_service_worker *worker, int socket) {
    sr_service *service = worker->service;
    struct sri_launcher *launcher = NULL;
    int code = sri_supervisor_launcher(service->supervisor, &launcher);
    if (code == 0) {
        const struct sri_launch_plan plan = sri_recipe_plan(&service->recipe, socket);
        code = sri_launcher_start(launcher, worker->id, &plan, NULL);
    }
    worker->has_process = code == 0;
    return code;
}

static int start(struct sri_service_worker *worker) {
    int ends[2] = {-1, -1}; /* the host's, the worker's */
    int code = sri_stream_pair(ends);
    if (code == 0) {
        code = open_channel(worker, ends[0]);
        ends[0] = code == 0 ? -1 : ends[0]; /* the channel's now */
    }
    if (code == 0) {
        code = ask_launcher(worker, ends[1]);
    }
    sri_fd_drop(&ends[0]);
    sri_fd_drop(&ends[1]);
    return code;
}

void sri_service_worker_start(struct sri_service_worker *worker) {
    sr_service *service = worker->service;
    worker->id = ++service->supervisor->worker_last;
    worker->seat = SRI_SEAT_STARTING;
    worker->exit = (sr_worker_exit){.worker = worker->id, .version = service->recipe.version};
    worker->calls = SRI_SERVICE_LIST_EMPTY;
    worker->layers_required =
        service->recipe.policy != NULL ? service->recipe.policy->layers_required : 0;
    sri_sandbox_report_init(&worker->report);
    service->stats.starts++;
    set_time(worker, service->options.start_timeout_ns);
    const int code = start(worker);
    if (code < 0) {
        worker->seat = SRI_SEAT_ENDING;
        set_cause(worker, SR_WORKER_NOT_STARTED, code);
        sri_service_change(worker->service);
    }
}

/* ---- end --------------------------------------------------------------------------------------
 */

/* Everything that it has not answered is told. */
static void end_channel(struct sri_service_worker *worker) {
    if (worker->channel != NULL) {
        sri_service_record_call(worker);
        (void)sri_channel_close_in_turn(&worker->channel); /* the turns go on with it */
    }
}

void sri_service_worker_drain(struct sri_service_worker *worker) {
    worker->seat = SRI_SEAT_DRAINING;
    worker->is_active = false;
    set_time(worker, worker->service->options.stop_timeout_ns);
    sri_service_change(worker->service);
}

void sri_service_worker_stop(struct sri_service_worker *worker, enum sr_worker_cause cause) {
    worker->seat = SRI_SEAT_ENDING;
    worker->is_active = false;
    set_cause(worker, cause, 0);
    set_time(worker, worker->service->options.stop_timeout_ns);
    end_channel(worker);
    sri_service_change(worker->service);
}

void sri_service_worker_kill(struct sri_service_worker *worker, enum sr_worker_cause cause,
                             int code) {
    worker->seat = SRI_SEAT_ENDING;
    worker->is_active = false;
    worker->deadline_ns = SR_FOREVER;
    set_cause(worker, cause, code);
    worker->wants_kill = worker->has_process;
    sri_service_record_call(worker);
    sri_service_change(worker->service);
}

static void send_kill(struct sri_service_worker *worker) {
    struct sri_launcher *launcher = worker->service->supervisor->launcher;
    worker->wants_kill = false;
    worker->deadline_ns = SR_FOREVER;
    if (worker->has_process && launcher != NULL &&
        sri_launcher_kill(launcher, worker->id, SIGNAL_KILL, NULL) == SR_E_FULL) {
        worker->wants_kill = true;
        set_time(worker, AGAIN_NS);
    }
}

static void note_end(struct sri_service_worker *worker, const struct sri_launch_event *event) {
    sr_worker_exit *exit = &worker->exit;
    exit->cpu_ns = event->cpu_ns;
    exit->resident_max_bytes = event->resident_max_bytes;
    exit->has_core = event->has_core;
    exit->status = (int32_t)event->status;
    switch (event->end) {
    case SRI_LAUNCH_END_EXIT:
        exit->end = SR_WORKER_EXITED;
        break;
    case SRI_LAUNCH_END_SIGNAL:
    case SRI_LAUNCH_END_INIT:
        exit->end = SR_WORKER_KILLED;
        break;
    default:
        set_cause(worker, SR_WORKER_LAUNCHER_LOST, SR_E_PEER_DIED);
        exit->end = SR_WORKER_END_UNKNOWN;
        exit->status = 0;
        break;
    }
}

void sri_service_worker_on_event(struct sri_service_worker *worker,
                                 const struct sri_launch_event *event) {
    switch (event->header.kind) {
    case SRI_LAUNCH_STARTED:
        worker->exit.pid = event->pid;
        sri_sandbox_report_merge(&worker->report, &event->report);
        look_whether_ready(worker);
        return;
    case SRI_LAUNCH_START_FAILED:
        if (event->report.failed_layer != SRI_SANDBOX_LAYER_COUNT) {
            note_not_confined(worker, &event->report, event->code);
            break;
        }
        set_cause(worker,
                  event->step == SRI_LAUNCH_STEP_LAUNCHER ? SR_WORKER_LAUNCHER_LOST
                                                          : SR_WORKER_NOT_STARTED,
                  event->code);
        break;
    case SRI_LAUNCH_EXITED:
        note_end(worker, event);
        break;
    default:
        return; /* KILLED: that it has ended is what counts */
    }
    worker->has_process = false;
    worker->wants_kill = false;
    if (worker->seat != SRI_SEAT_ENDING) {
        /* What it sent before is still in the socket, whose end comes next, unless a process that
         * it has left behind holds it. */
        set_time(worker, LEAVE_NS);
    }
    sri_service_change(worker->service);
}

/* Its process is gone and its channel closed. */
static void leave(struct sri_service_worker *worker) {
    sr_service *service = worker->service;
    const sr_worker_exit exit = worker->exit;
    uint16_t *methods = worker->methods;
    SR_CHECK(worker->calls.count == 0);
    *worker = (struct sri_service_worker){
        .service = service, .deadline_ns = SR_FOREVER, .methods = methods};
    sri_service_note_exit(service, &exit);
    if (service->options.on_exit != NULL) {
        sri_ring_count_callback(service->supervisor->client.ring);
        service->options.on_exit(service, &exit, service->options.ctx);
    }
}

static void on_deadline(struct sri_service_worker *worker) {
    worker->deadline_ns = SR_FOREVER;
    if (worker->seat == SRI_SEAT_ENDING) {
        worker->wants_kill = true;
    } else if (!worker->has_process) {
        sri_service_worker_stop(worker, SR_WORKER_BY_ITSELF); /* somebody else holds its socket */
    } else if (worker->seat == SRI_SEAT_DRAINING) {
        sri_service_worker_stop(worker, SR_WORKER_ASKED);
    } else if (worker->seat == SRI_SEAT_STARTING) {
        sri_service_worker_kill(worker, SR_WORKER_NOT_READY, SR_E_TIMEOUT);
    } else if (worker->seat == SRI_SEAT_READY) {
        ask_for_beat(worker);
    }
}

void sri_service_worker_turn(struct sri_service_worker *worker) {
    if (worker->seat == SRI_SEAT_FREE) {
        return;
    }
    if (worker->deadline_ns != SR_FOREVER &&
        worker->deadline_ns <= sri_service_now(worker->service)) {
        on_deadline(worker);
    }
    if (worker->seat == SRI_SEAT_DRAINING && worker->calls.count == 0) {
        sri_service_worker_stop(worker, SR_WORKER_ASKED);
    }
    if (worker->wants_kill) {
        send_kill(worker);
    }
    if (worker->seat != SRI_SEAT_ENDING) {
        return;
    }
    end_channel(worker); /* first: a service that goes down says so when all has been answered */
    if (!worker->is_noted) {
        worker->is_noted = true;
        sri_service_note_end(worker);
    }
    if (!worker->has_process && worker->channel == NULL) {
        leave(worker);
    }
}
