/* SPDX-License-Identifier: MIT */
/*
 * Client: something that lives on a ring and has things to do in its waits, such as a batch. A ring
 * without clients pays one predicted branch per round of a wait.
 */
#ifndef SAFERING_RING_CLIENT_H
#define SAFERING_RING_CLIENT_H

#include "ring/ring.h"

struct sri_ring_client {
    struct sri_ring_client *next;
    sr_ring *ring; /* NULL once the ring is gone, which only its owner's end or a fork allow */
    uint64_t deadline_ns; /* when it wants a turn at the latest; SR_FOREVER: never */
    /* In each round of a wait, after completions have been taken. Callbacks of the user may run. */
    void (*turn)(struct sri_ring_client *client);
    /* At the end of each wait. */
    void (*waited)(struct sri_ring_client *client);
    /* Both or none; for what is told by memory, and not by a completion. Before the ring sleeps:
     * asks to be woken, by a completion. False: there is something to do, do not sleep. Where
     * *may_look is set it may look for a while first, and clears it: one client does that. */
    bool (*arm)(struct sri_ring_client *client, bool *may_look);
    /* After the sleep, whether or not the client was armed. */
    void (*awake)(struct sri_ring_client *client);
};

void sri_ring_add_client(sr_ring *ring, struct sri_ring_client *client);
void sri_ring_remove_client(struct sri_ring_client *client);

/* A client has something to do that no completion brings about: it gets a turn in this wait, or, if
 * there is none, at once in the next. */
static inline void sri_ring_want_turn(sr_ring *ring) {
    ring->clients_due = true;
}

/* A callback of the user's has run for a client: it counts in the wait that runs now. */
static inline void sri_ring_count_callback(sr_ring *ring) {
    ring->callbacks_count++;
}

/* Waits for one completion or callback on behalf of the library. The caller's array of its last
 * wait stays as it is; what comes without a callback is kept for its next wait, however much it is;
 * messages stay in the inbox. Returns 0, -ENOMEM, or as sr_ring_wait(). */
int sri_ring_wait_aside(sr_ring *ring, uint64_t timeout_ns);

/* Waits so until @holds(@ctx), which is asked before each wait and may push things on. Goes on when
 * a wait fails: what is in flight must end. Returns 0, or SR_E_IN_FLIGHT after @timeout_ns. */
int sri_ring_wait_until(sr_ring *ring, bool (*holds)(void *ctx), void *ctx, uint64_t timeout_ns);

#endif
