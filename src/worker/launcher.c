/* SPDX-License-Identifier: MIT */
/*
 * Launcher: the program that starts workers for a host, reaps them and says how each one died. It
 * is started by src/ipc/launcher.c with two descriptors, the socket and a pidfd of the host, and
 * ends when either says that the host is gone; before that it ends all workers.
 *
 * One thread, no memory from the heap, and one place where it waits. Whatever arrives is copied and
 * checked; whatever cannot be said now is said later.
 *
 * Neighbours: launched.h (the table), requests.c (what it is asked), start.c (how a worker starts),
 * ended.c (how one ends), report.c (what it says), keeper.c (its parent).
 */
#include "core/check.h"
#include "sys/clock.h"
#include "sys/confine.h"
#include "sys/exec.h"
#include "sys/packet.h"
#include "sys/process.h"
#include "sys/watch.h"
#include "worker/ended.h"
#include "worker/keeper.h"
#include "worker/launched.h"
#include "worker/report.h"
#include "worker/requests.h"
#include "worker/start.h"

#define EXIT_NOT_READY    3
#define QUIET_MS          10
#define ORPHANS_LATEST_NS UINT64_C(200000000)

static struct sri_launch_state state = {
    .host_fd = SRI_LAUNCH_SOCKET_FD, .host_pidfd = SRI_LAUNCH_HOST_FD, .self_pidfd = -1};
static struct sri_watch watch;

/* ---- the loop -------------------------------------------------------------------------------- */

/* Which descriptors are looked at, in the order in which look() below finds their answers. */
static void watch_all(void) {
    const bool listens = !state.owes_answer && !state.is_host_deaf;
    sri_watch_clear(&watch);
    sri_watch_add(&watch, state.host_pidfd, SRI_WATCH_READ);
    sri_watch_add(&watch, state.signal_fd, SRI_WATCH_READ);
    sri_watch_add(&watch, state.host_fd,
                  (listens ? SRI_WATCH_READ : 0) | (state.is_host_deaf ? SRI_WATCH_WRITE : 0));
    for (uint32_t i = 0; i < state.worker_end; i++) {
        if (state.workers[i].id != 0 && state.workers[i].start_fd >= 0) {
            sri_watch_add(&watch, state.workers[i].start_fd, SRI_WATCH_READ);
        }
    }
}

static void take_notes(void) {
    for (uint32_t i = 0; i < state.worker_end; i++) {
        if (state.workers[i].id != 0) {
            sri_start_take_notes(&state.workers[i]);
        }
    }
}

static void look(void) {
    const uint32_t host = sri_watch_answer(&watch, 2);
    if (sri_watch_answer(&watch, 0) != 0 || (host & SRI_WATCH_HANG_UP) != 0) {
        state.is_host_gone = true;
        return;
    }
    if (sri_watch_answer(&watch, 1) != 0) {
        state.is_host_gone |= sri_children_signals_read(state.signal_fd);
        (void)sri_ended_reap(&state);
    }
    take_notes();
    if ((host & SRI_WATCH_READ) != 0) {
        sri_requests_take(&state);
    }
}

/* A look for orphans is a walk over /proc: it waits for a quiet moment, but not for long. */
static void wait_and_look_for_orphans(void) {
    const bool is_quiet = !sri_watch_wait(&watch, state.has_orphans ? QUIET_MS : -1);
    if (!state.has_orphans) {
        state.orphans_due_ns = 0;
        return;
    }
    const uint64_t now = sri_clock_now_ns();
    if (state.orphans_due_ns == 0) {
        state.orphans_due_ns = now + ORPHANS_LATEST_NS;
    }
    if (is_quiet || now >= state.orphans_due_ns) {
        state.orphans_due_ns = 0;
        sri_ended_look_for_orphans(&state);
    }
}

static void serve(void) {
    while (!state.is_host_gone) {
        sri_report_send_owed(&state);
        watch_all();
        wait_and_look_for_orphans();
        look();
    }
}

/* ---- start and end --------------------------------------------------------------------------- */

static int get_ready(void) {
    state.fd_limit = sri_exec_raise_fd_limit();
    state.signal_fd = sri_children_signals_open();
    if (state.signal_fd < 0) {
        return state.signal_fd;
    }
    int code = sri_exec_close_exec(state.host_fd);
    if (code == 0) {
        code = sri_exec_close_exec(state.host_pidfd);
    }
    if (code == 0) {
        code = sri_confine_directory("/");
    }
    if (code == 0) {
        code = sri_keeper_run(state.host_fd, state.host_pidfd, state.signal_fd);
    }
    if (code == 0) {
        state.self_pidfd = sri_process_open(sri_process_id());
        code = state.self_pidfd >= 0 ? sri_report_hello(&state) : state.self_pidfd;
    }
    return code;
}

int main(void) {
    if (get_ready() != 0) {
        return EXIT_NOT_READY; /* the host sees the socket hang up without a hello */
    }
    serve();
    sri_ended_end_all(&state);
    sri_child_exit(0);
}
