/* SPDX-License-Identifier: MIT */
#include "worker/report.h"

#include "core/check.h"
#include "sys/packet.h"
#include "sys/process.h"
#include <errno.h>

/* Whether it was sent. */
static bool send_event(struct sri_launch_state *state, struct sri_launch_event *event, int pidfd) {
    int code = -EBADF;
    if (pidfd >= 0) {
        event->header.fd_count = 1;
        code = sri_packet_send(state->host_fd, event, sizeof *event, &pidfd, 1);
    }
    if (code != 0 && code != -EAGAIN && code != -EPIPE) {
        /* Without the descriptor: too many are on their way (ETOOMANYREFS), or there is none. */
        event->header.fd_count = 0;
        code = sri_packet_send(state->host_fd, event, sizeof *event, NULL, 0);
    }
    state->is_host_deaf = code == -EAGAIN || code == -ENOBUFS || code == -ENOMEM;
    state->is_host_gone |= code != 0 && !state->is_host_deaf;
    return code == 0;
}

static struct sri_launch_event event_of(enum sri_launch_kind kind, uint32_t serial,
                                        uint64_t worker) {
    return (struct sri_launch_event){
        .header = sri_launch_header_make(kind, sizeof(struct sri_launch_event), 0, serial, worker)};
}

int sri_report_hello(struct sri_launch_state *state) {
    struct sri_launch_event event = event_of(SRI_LAUNCH_HELLO, 0, 0);
    event.pid = sri_process_id();
    return send_event(state, &event, state->self_pidfd) ? 0 : -EPIPE;
}

void sri_report_answer(struct sri_launch_state *state, enum sri_launch_kind kind,
                       const struct sri_launch_header *request, int code) {
    SR_CHECK(!state->owes_answer);
    state->answer = event_of(kind, request->serial, request->worker);
    state->answer.code = code;
    state->owes_answer = true;
}

static bool send_started(struct sri_launch_state *state, struct sri_launched *worker) {
    struct sri_launch_event event = event_of(SRI_LAUNCH_STARTED, worker->serial, worker->id);
    event.pid = worker->pid;
    event.report = worker->report;
    return send_event(state, &event, worker->pidfd);
}

static bool send_end(struct sri_launch_state *state, struct sri_launched *worker) {
    struct sri_launch_event event = event_of(SRI_LAUNCH_EXITED, 0, worker->id);
    if (worker->failed_step != SRI_LAUNCH_STEP_NONE) {
        event.header.kind = SRI_LAUNCH_START_FAILED;
        event.header.serial = worker->serial;
        event.step = worker->failed_step;
        event.code = worker->failed_code;
        event.report = worker->report;
        return send_event(state, &event, -1);
    }
    event.pid = worker->pid;
    event.end = worker->end;
    event.status = worker->how.signal != 0 ? worker->how.signal : worker->how.code;
    event.has_core = worker->how.has_core;
    event.cpu_ns = worker->how.cpu_ns;
    event.resident_max_bytes = worker->how.resident_max_bytes;
    return send_event(state, &event, -1);
}

/* False: the host does not read. */
static bool send_owed_of(struct sri_launch_state *state, struct sri_launched *worker) {
    if (worker->owes_started) {
        if (!send_started(state, worker)) {
            return false;
        }
        worker->owes_started = false;
    }
    if (worker->owes_end) {
        if (!send_end(state, worker)) {
            return false;
        }
        worker->owes_end = false;
        sri_launched_drop(state, worker);
    }
    return true;
}

void sri_report_send_owed(struct sri_launch_state *state) {
    state->is_host_deaf = false;
    if (state->owes_answer) {
        if (!send_event(state, &state->answer, -1)) {
            return;
        }
        state->owes_answer = false;
    }
    for (uint32_t i = 0; i < state->worker_end; i++) {
        if (state->workers[i].id != 0 && !send_owed_of(state, &state->workers[i])) {
            return;
        }
    }
}
