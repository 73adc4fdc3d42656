/* SPDX-License-Identifier: MIT */
#include "ipc/launcher.h"

#include "core/check.h"
#include "sys/memory.h"
#include "sys/process.h"
#include <errno.h>
#include <safering/error.h>

#define MAGIC          UINT64_C(0x7361666572696e6c)
#define TIMEOUT_NS     UINT64_C(5000000000)
#define AFTER_KILL_NS  UINT64_C(3000000000) /* longer than the keeper's patience */
#define SIGNAL_KILL    9
#define FIRST_CHILD_FD SRI_LAUNCH_SOCKET_FD

_Static_assert(SRI_LAUNCH_HOST_FD == SRI_LAUNCH_SOCKET_FD + 1, "passed as an array");

/* Set by the build: where the installation puts the program. */
#ifndef SAFERING_LAUNCHER_PATH
#error "SAFERING_LAUNCHER_PATH is not defined"
#endif

int sri_launcher_check(const struct sri_launcher *launcher) {
    if (launcher == NULL || launcher->magic != MAGIC) {
        return SR_E_OBJECT;
    }
    return launcher->host == sri_process_id() ? 0 : SR_E_FORKED;
}

/* ---- table ----------------------------------------------------------------------------------- */

struct sri_launcher_worker *sri_launcher_find(struct sri_launcher *launcher, uint64_t id) {
    for (uint32_t i = 0; i < launcher->worker_end && id != 0; i++) {
        if (launcher->workers[i].id == id) {
            return &launcher->workers[i];
        }
    }
    return NULL;
}

static struct sri_launcher_worker *find_free(struct sri_launcher *launcher) {
    for (uint32_t i = 0; i < launcher->worker_end; i++) {
        if (launcher->workers[i].id == 0) {
            return &launcher->workers[i];
        }
    }
    SR_CHECK(launcher->worker_end < SRI_LAUNCH_WORKERS_MAX);
    return &launcher->workers[launcher->worker_end++];
}

void sri_launcher_forget(struct sri_launcher *launcher, struct sri_launcher_worker *worker) {
    SR_CHECK(worker->id != 0 && launcher->worker_count > 0);
    *worker = (struct sri_launcher_worker){0};
    launcher->worker_count--;
}

/* ---- start and end --------------------------------------------------------------------------- */

static const char *find_program(const struct sri_launcher_options *options) {
    if (options->path != NULL) {
        return options->path;
    }
    const char *path = sri_process_variable("SAFERING_LAUNCHER");
    return path != NULL ? path : SAFERING_LAUNCHER_PATH;
}

/* Only what is a child of ours is ever signalled by a number that could be another's by now. */
static int hold_keeper(struct sri_launcher *launcher) {
    launcher->keeper_pidfd = sri_process_open(launcher->keeper);
    if (launcher->keeper_pidfd < 0) {
        return launcher->keeper_pidfd == -ESRCH ? SR_E_PEER_DIED : launcher->keeper_pidfd;
    }
    if (!sri_process_is_child(launcher->keeper_pidfd)) {
        sri_fd_drop(&launcher->keeper_pidfd);
        return SR_E_PEER_DIED;
    }
    return 0;
}

static int spawn(struct sri_launcher *launcher, const struct sri_launcher_options *options) {
    static const char *const none[] = {NULL};
    const char *const arguments[] = {"safering-launcher", NULL};
    const char *path = find_program(options);
    int ends[2] = {-1, -1};
    int host_pidfd = sri_process_open(launcher->host);
    int code = host_pidfd >= 0 ? sri_packet_pair(ends) : host_pidfd;
    if (code == 0) {
        launcher->fd = ends[0];
        code = sri_process_spawn(
            path, arguments, options->variables != NULL ? options->variables : none,
            (const int[]){ends[1], host_pidfd}, 2, FIRST_CHILD_FD, &launcher->keeper);
    }
    sri_fd_drop(&ends[1]);
    sri_fd_drop(&host_pidfd);
    return code == 0 ? hold_keeper(launcher) : code;
}

static int read_hello(struct sri_launcher *launcher) {
    struct sri_launch_event event;
    struct sri_packet *packet = &launcher->incoming;
    const int got = sri_packet_receive(launcher->fd, &event, sizeof event, packet);
    if (got <= 0) {
        return SR_E_PEER_DIED;
    }
    int code = packet->has_lost_fds ? -EMFILE : SR_E_PROTOCOL;
    if (!packet->is_cut &&
        sri_launch_event_decode(&event, packet->size_bytes, packet->fd_count, &event) == 0 &&
        event.header.kind == SRI_LAUNCH_HELLO) {
        launcher->launcher = event.pid;
        launcher->launcher_pidfd = packet->fds[0];
        packet->fd_count = 0;
        code = 0;
    }
    sri_packet_drop(packet);
    return code;
}

static bool end_within(const struct sri_launcher *launcher, uint64_t timeout_ns) {
    return sri_process_ends_within(launcher->keeper_pidfd, timeout_ns) &&
           (launcher->launcher_pidfd < 0 ||
            sri_process_ends_within(launcher->launcher_pidfd, timeout_ns));
}

/* 0, or SR_E_TIMEOUT. The keeper ends when all that it and the launcher have started is gone; only
 * where somebody has killed it does the launcher outlive it. */
static int end_processes(struct sri_launcher *launcher) {
    sri_fd_drop(&launcher->fd);
    if (launcher->keeper_pidfd < 0) {
        return 0;
    }
    bool has_ended = end_within(launcher, launcher->timeout_ns);
    if (!has_ended && launcher->launcher_pidfd >= 0) {
        (void)sri_process_signal(launcher->launcher_pidfd, SIGNAL_KILL);
        has_ended = end_within(launcher, AFTER_KILL_NS);
    }
    if (!has_ended) {
        (void)sri_process_signal(launcher->keeper_pidfd, SIGNAL_KILL);
        has_ended = end_within(launcher, AFTER_KILL_NS);
    }
    sri_process_reap(launcher->keeper_pidfd);
    return has_ended ? 0 : SR_E_TIMEOUT;
}

static void dispose(struct sri_launcher *launcher) {
    sri_fd_drop(&launcher->fd);
    sri_fd_drop(&launcher->keeper_pidfd);
    sri_fd_drop(&launcher->launcher_pidfd);
    launcher->magic = 0;
    sri_release(launcher);
}

int sri_launcher_create(const struct sri_launcher_options *options,
                        struct sri_launcher **out_launcher) {
    const struct sri_launcher_options known =
        options != NULL ? *options : (struct sri_launcher_options){0};
    *out_launcher = NULL;
    struct sri_launcher *launcher = sri_allocate(1, sizeof *launcher);
    if (launcher == NULL) {
        return -ENOMEM;
    }
    launcher->magic = MAGIC;
    launcher->host = sri_process_id();
    launcher->fd = launcher->keeper_pidfd = launcher->launcher_pidfd = -1;
    launcher->timeout_ns = known.timeout_ns != 0 ? known.timeout_ns : TIMEOUT_NS;

    int code = spawn(launcher, &known);
    if (code == 0) {
        code = sri_process_can_read(launcher->fd, launcher->timeout_ns) ? read_hello(launcher)
                                                                        : SR_E_TIMEOUT;
    }
    if (code != 0) {
        launcher->timeout_ns = code == SR_E_TIMEOUT ? 0 : launcher->timeout_ns;
        (void)end_processes(launcher); /* the first code says more */
        dispose(launcher);
        return code;
    }
    *out_launcher = launcher;
    return 0;
}

int sri_launcher_destroy(struct sri_launcher **launcher) {
    if (launcher == NULL || *launcher == NULL) {
        return 0;
    }
    const int check = sri_launcher_check(*launcher);
    if (check == SR_E_OBJECT) {
        return check;
    }
    /* A forked child closes its copies: the launcher is its parent's. */
    const int code = check == 0 ? end_processes(*launcher) : 0;
    dispose(*launcher);
    *launcher = NULL;
    return code;
}

int sri_launcher_fd(const struct sri_launcher *launcher) {
    const int code = sri_launcher_check(launcher);
    return code == 0 ? launcher->fd : code;
}

/* ---- requests -------------------------------------------------------------------------------- */

static uint32_t next_serial(struct sri_launcher *launcher) {
    launcher->serial = launcher->serial != UINT32_MAX ? launcher->serial + 1 : 1;
    return launcher->serial;
}

static int send_request(struct sri_launcher *launcher, const void *bytes, size_t size_bytes,
                        const int *fds, uint32_t fd_count) {
    const int code = sri_packet_send(launcher->fd, bytes, size_bytes, fds, fd_count);
    switch (code) {
    case -EAGAIN:
        return SR_E_FULL;
    case -EPIPE:
    case -ECONNRESET:
        return SR_E_PEER_DIED;
    case -EMSGSIZE: /* the system allows no send buffer of the size that we ask for */
        return -E2BIG;
    default:
        return code;
    }
}

static int check_usable(const struct sri_launcher *launcher) {
    const int code = sri_launcher_check(launcher);
    if (code != 0) {
        return code;
    }
    return launcher->is_lost || launcher->is_broken ? SR_E_PEER_DIED : 0;
}

int sri_launcher_start(struct sri_launcher *launcher, uint64_t id,
                       const struct sri_launch_plan *plan, uint32_t *out_serial) {
    int code = check_usable(launcher);
    if (code != 0) {
        return code;
    }
    if (sri_launcher_find(launcher, id) != NULL) {
        return SR_E_STATE;
    }
    if (launcher->worker_count == SRI_LAUNCH_WORKERS_MAX) {
        return SR_E_FULL;
    }
    struct sri_launch_packet *packet = &launcher->outgoing;
    const uint32_t serial = next_serial(launcher);
    code = sri_launch_start_encode(plan, serial, id, packet);
    if (code == 0) {
        code = send_request(launcher, packet->bytes, packet->size_bytes, packet->fds,
                            packet->fd_count);
    }
    if (code != 0) {
        return code;
    }
    *find_free(launcher) = (struct sri_launcher_worker){.id = id, .serial = serial};
    launcher->worker_count++;
    if (out_serial != NULL) {
        *out_serial = serial;
    }
    return 0;
}

int sri_launcher_kill(struct sri_launcher *launcher, uint64_t id, uint32_t signal,
                      uint32_t *out_serial) {
    int code = check_usable(launcher);
    if (code != 0) {
        return code;
    }
    if (signal < 1 || signal > SRI_LAUNCH_SIGNAL_MAX) {
        return SR_E_BOUNDS;
    }
    if (sri_launcher_find(launcher, id) == NULL) {
        return SR_E_STALE;
    }
    const uint32_t serial = next_serial(launcher);
    const struct sri_launch_kill kill = {
        .header = sri_launch_header_make(SRI_LAUNCH_KILL, sizeof kill, 0, serial, id),
        .signal = signal,
    };
    code = send_request(launcher, &kill, sizeof kill, NULL, 0);
    if (code == 0 && out_serial != NULL) {
        *out_serial = serial;
    }
    return code;
}
