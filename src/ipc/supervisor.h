/* SPDX-License-Identifier: MIT */
/*
 * Supervisor: a launcher that a ring watches, and the services whose workers it starts. It is a
 * client of the ring (ring/client.h): everything that it does itself, it does in the ring's turns.
 *
 * Neighbours: service.h (workers of one kind), launcher.h (the process).
 */
#ifndef SAFERING_IPC_SUPERVISOR_H
#define SAFERING_IPC_SUPERVISOR_H

#include "ipc/launcher.h"
#include "ring/client.h"
#include <safering/supervisor.h>

#define SRI_SUPERVISOR_MAGIC UINT32_C(0x53555001)

struct sr_supervisor {
    uint32_t magic;
    bool has_event;        /* the launcher's descriptor was readable */
    uint32_t worker_count; /* seats of all services */
    uint64_t owner_key;
    struct sri_ring_client client;
    struct sri_launcher *launcher; /* NULL: lost, and not needed since */
    sr_file watch_file;            /* of the launcher's descriptor, which stays the launcher's */
    sr_op watch_op;
    sr_pool *pool; /* of the channels' buffers */
    struct sr_service *services;
    uint32_t service_last;  /* number of the one that was opened last */
    uint64_t worker_last;   /* the number given to the newest one */
    const char **path;      /* owned: one string, the launcher's; or NULL */
    const char **variables; /* owned; or NULL */
    sr_supervisor_options options;
};

/* The code that keeps the caller from using it, or 0. */
int sri_supervisor_check(const sr_supervisor *supervisor);

/* A launcher that works; makes another one if it was lost, which takes some milliseconds. */
int sri_supervisor_launcher(sr_supervisor *supervisor, struct sri_launcher **out_launcher);

/* A service has something to do: there is a turn in this wait or at once in the next. */
static inline void sri_supervisor_want_turn(sr_supervisor *supervisor) {
    if (supervisor->client.ring != NULL) {
        sri_ring_want_turn(supervisor->client.ring);
    }
}

#endif
