/* SPDX-License-Identifier: MIT */
/*
 * Launcher: the host's side of the small process that starts workers, reaps them and says how each
 * one died (docs/IPC.md). No call waits for a worker: requests are sent, what became of them comes
 * as events, one at a time, from a descriptor that a ring or poll(2) can watch.
 *
 * Invariants: every worker that sri_launcher_start() took gets exactly one STARTED or START_FAILED,
 * and every STARTED one EXITED, also when the launcher is killed. What the launcher says is checked
 * against what was asked of it; a launcher that says what no honest one does is killed.
 *
 * Nothing here relies on SIGCHLD, on which thread calls, or on a ring. One thread at a time; a
 * forked child is refused with SR_E_FORKED, and may destroy its copy.
 *
 * Neighbours: launch_wire.h (messages and plans), launcher_events.c (the receiving half),
 * src/worker/launcher.c (the process).
 */
#ifndef SAFERING_IPC_LAUNCHER_H
#define SAFERING_IPC_LAUNCHER_H

#include "ipc/launch_wire.h"
#include "sys/packet.h"

struct sri_launcher_options {
    /* NULL: the variable SAFERING_LAUNCHER, else where it was installed. */
    const char *path;
    /* The launcher's own environment, NULL at the end; NULL: none. Workers get theirs by a plan. */
    const char *const *variables;
    uint64_t timeout_ns; /* for its start, and for its end; 0: 5 s */
};

struct sri_launcher_worker {
    uint64_t id; /* 0: free */
    uint32_t serial;
    bool is_running; /* STARTED was received */
};

struct sri_launcher {
    uint64_t magic;
    int32_t host;   /* the process that made it */
    int32_t keeper; /* pids, for people; what is done is done by pidfds */
    int32_t launcher;
    int fd;
    int keeper_pidfd;
    int launcher_pidfd;
    uint64_t timeout_ns;
    uint32_t serial;
    uint32_t worker_count;
    uint32_t worker_end; /* entries from here on were never used */
    bool is_broken;      /* it has lied and was killed: read on to the end, believe nothing */
    bool is_lost;
    bool has_told_lost;
    struct sri_launcher_worker workers[SRI_LAUNCH_WORKERS_MAX];
    struct sri_packet incoming;
    struct sri_launch_packet outgoing;
};

/*
 * Starts a launcher and waits for its first word.
 *
 * Return:  0, -ENOMEM, a code of exec(2) for the path, -EMFILE, SR_E_TIMEOUT or SR_E_PROTOCOL (what
 *          is there is no launcher, or one of another version), SR_E_PEER_DIED. On failure nothing
 *          is left behind.
 */
int sri_launcher_create(const struct sri_launcher_options *options,
                        struct sri_launcher **out_launcher);

/*
 * Ends all workers and the launcher: by closing the socket, after the time-out by SIGKILL. Events
 * that were not received are gone. @launcher: address of the variable; NULL inside is allowed.
 *
 * Return:  0, or SR_E_TIMEOUT: the kernel could not end a process in time. All else was done.
 */
int sri_launcher_destroy(struct sri_launcher **launcher);

/* Readable when there is an event; hung up when the launcher is gone. Borrowed. */
int sri_launcher_fd(const struct sri_launcher *launcher);

/*
 * Asks for a worker. @id: any number but 0 that no worker has now; free again after START_FAILED or
 * EXITED. Descriptors and texts of the plan are borrowed. @out_serial (or NULL) gets what the
 * answer's header will have.
 *
 * Return:  0, -EINVAL (plan), -E2BIG (arguments and variables), SR_E_STATE (the id is in use),
 *          SR_E_FULL (4,096 workers, or the launcher does not read: receive events, try again),
 *          SR_E_PEER_DIED, SR_E_FORKED, SR_E_OBJECT.
 */
int sri_launcher_start(struct sri_launcher *launcher, uint64_t id,
                       const struct sri_launch_plan *plan, uint32_t *out_serial);

/* Sends a signal to a worker; KILLED is the answer. Return: as above, and SR_E_STALE (no such
 * worker), SR_E_BOUNDS (no such signal). */
int sri_launcher_kill(struct sri_launcher *launcher, uint64_t id, uint32_t signal,
                      uint32_t *out_serial);

/*
 * Takes one event: STARTED, START_FAILED, EXITED, KILLED or LOST. Never waits. With STARTED comes a
 * pidfd of the worker where there was room for one: returns owned, else -1.
 *
 * After LOST come START_FAILED and EXITED of all workers that there were, with
 * SRI_LAUNCH_STEP_LAUNCHER and SRI_LAUNCH_END_LOST, and after them SR_E_PEER_DIED for ever.
 *
 * Return:  1: an event. 0: none now. SR_E_PEER_DIED, SR_E_FORKED, SR_E_OBJECT.
 */
int sri_launcher_receive(struct sri_launcher *launcher, struct sri_launch_event *out_event,
                         int *out_pidfd);

/* For launcher.c and launcher_events.c. */
int sri_launcher_check(const struct sri_launcher *launcher);
struct sri_launcher_worker *sri_launcher_find(struct sri_launcher *launcher, uint64_t id);
void sri_launcher_forget(struct sri_launcher *launcher, struct sri_launcher_worker *worker);

#endif
