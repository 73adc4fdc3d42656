/* SPDX-License-Identifier: MIT */
/* The receiving half of src/ipc/launcher.h: what the launcher says, and what is said in its place
 * when it is gone. */
#include "core/check.h"
#include "ipc/launcher.h"
#include "sys/process.h"
#include <errno.h>
#include <safering/error.h>

#define SIGNAL_KILL 9

static struct sri_launch_event make_event(enum sri_launch_kind kind, uint32_t serial,
                                          uint64_t worker, int code) {
    return (struct sri_launch_event){
        .header = sri_launch_header_make(kind, sizeof(struct sri_launch_event), 0, serial, worker),
        .code = code};
}

/* ---- when it is gone ------------------------------------------------------------------------- */

/* The words that the launcher owed: each worker is one of those that it took with it. */
static int tell_lost(struct sri_launcher *launcher, struct sri_launch_event *out_event) {
    if (!launcher->has_told_lost) {
        launcher->has_told_lost = true;
        *out_event =
            make_event(SRI_LAUNCH_LOST, 0, 0, launcher->is_broken ? SR_E_PROTOCOL : SR_E_PEER_DIED);
        return 1;
    }
    for (uint32_t i = 0; i < launcher->worker_end; i++) {
        struct sri_launcher_worker *worker = &launcher->workers[i];
        if (worker->id == 0) {
            continue;
        }
        if (worker->is_running) {
            *out_event = make_event(SRI_LAUNCH_EXITED, 0, worker->id, 0);
            out_event->end = SRI_LAUNCH_END_LOST;
        } else {
            *out_event =
                make_event(SRI_LAUNCH_START_FAILED, worker->serial, worker->id, SR_E_PEER_DIED);
            out_event->step = SRI_LAUNCH_STEP_LAUNCHER;
            sri_sandbox_report_init(&out_event->report);
        }
        sri_launcher_forget(launcher, worker);
        return 1;
    }
    return SR_E_PEER_DIED;
}

/* It is not trusted any further. Its keeper ends what it had started and then hangs up. */
static void break_off(struct sri_launcher *launcher) {
    launcher->is_broken = true;
    (void)sri_process_signal(launcher->launcher_pidfd, SIGNAL_KILL);
}

/* ---- what it says ---------------------------------------------------------------------------- */

/* A request was refused: to the caller that is the failure of what was asked. */
static void rename_refusal(struct sri_launcher *launcher, struct sri_launch_event *event) {
    const struct sri_launcher_worker *worker = sri_launcher_find(launcher, event->header.worker);
    if (worker != NULL && !worker->is_running && worker->serial == event->header.serial) {
        event->header.kind = SRI_LAUNCH_START_FAILED;
        event->step = SRI_LAUNCH_STEP_FORK;
        sri_sandbox_report_init(&event->report);
    } else {
        event->header.kind = SRI_LAUNCH_KILLED;
    }
}

/* Whether the event fits what was asked for; if so, remembers it. */
static bool note_event(struct sri_launcher *launcher, struct sri_launch_event *event) {
    if (event->header.kind == SRI_LAUNCH_REFUSED) {
        rename_refusal(launcher, event);
    }
    struct sri_launcher_worker *worker = sri_launcher_find(launcher, event->header.worker);
    switch (event->header.kind) {
    case SRI_LAUNCH_STARTED:
        if (worker == NULL || worker->is_running || worker->serial != event->header.serial) {
            return false;
        }
        worker->is_running = true;
        return true;
    case SRI_LAUNCH_START_FAILED:
        if (worker == NULL || worker->is_running || worker->serial != event->header.serial) {
            return false;
        }
        sri_launcher_forget(launcher, worker);
        return true;
    case SRI_LAUNCH_EXITED:
        if (worker == NULL || !worker->is_running) {
            return false;
        }
        sri_launcher_forget(launcher, worker);
        return true;
    case SRI_LAUNCH_KILLED: /* the worker may have ended between request and answer */
        return event->header.serial != 0;
    default:
        return false;
    }
}

/* One packet. 1: an event, 0: none now, SR_E_PEER_DIED: hung up, SR_E_PROTOCOL: a lie. */
static int take_packet(struct sri_launcher *launcher, struct sri_launch_event *out_event,
                       int *out_pidfd) {
    struct sri_packet *packet = &launcher->incoming;
    struct sri_launch_event event;
    const int got = sri_packet_receive(launcher->fd, &event, sizeof event, packet);
    if (got == -EAGAIN || got == -ENOMEM || got == -ENOBUFS) {
        return 0;
    }
    if (got <= 0) {
        return SR_E_PEER_DIED;
    }
    /* No room for the pidfd: the event is true all the same. */
    const uint32_t fd_count = packet->has_lost_fds ? 1 : packet->fd_count;
    const bool is_true =
        !launcher->is_broken && !packet->is_cut &&
        sri_launch_event_decode(&event, packet->size_bytes, fd_count, out_event) == 0 &&
        note_event(launcher, out_event);
    if (is_true && packet->fd_count == 1) {
        *out_pidfd = packet->fds[0];
        packet->fd_count = 0;
    }
    sri_packet_drop(packet);
    return is_true ? 1 : SR_E_PROTOCOL;
}

int sri_launcher_receive(struct sri_launcher *launcher, struct sri_launch_event *out_event,
                         int *out_pidfd) {
    *out_event = (struct sri_launch_event){0};
    *out_pidfd = -1;
    const int code = sri_launcher_check(launcher);
    if (code != 0) {
        return code;
    }
    while (!launcher->is_lost) {
        const int got = take_packet(launcher, out_event, out_pidfd);
        if (got >= 0) {
            return got;
        }
        if (got == SR_E_PEER_DIED) {
            launcher->is_lost = true;
        } else if (!launcher->is_broken) {
            break_off(launcher);
        }
        *out_event = (struct sri_launch_event){0};
    }
    return tell_lost(launcher, out_event);
}
