/* SPDX-License-Identifier: MIT */
/*
 * Inbox: messages from other threads to a ring's owner. A bounded queue with many writers and one
 * reader; each cell's turn number says whose turn it is, so no lock is needed. A writer wakes the
 * owner through an eventfd only when the owner is asleep, and then only once: one that the ring
 * reads if it sleeps in there, the ring's own event descriptor if it sleeps on that.
 *
 * Other queues to the owner are sources beside it: they ring as a writer does, and the owner looks
 * at them before it sleeps. What they have they deliver in the turn of a client (ring/client.h).
 */
#ifndef SAFERING_RING_INBOX_H
#define SAFERING_RING_INBOX_H

#include <safering/ring.h>
#include <stdbool.h>

struct sri_inbox;

struct sri_inbox_source {
    struct sri_inbox_source *next;
    bool (*has_work)(struct sri_inbox_source *source);
};

/* @entries: a power of two. Returns 0 or a negative code. */
int sri_inbox_create(sr_ring *ring, uint32_t entries);
void sri_inbox_destroy(sr_ring *ring);

/* Puts waiting messages into the completion array, until it holds @count_max completions. */
void sri_inbox_deliver(sr_ring *ring, uint32_t count_max);

/* Before the owner sleeps: arms the wake-up and says so to writers. False: do not sleep, there are
 * messages, or the wake-up could not be armed. */
bool sri_inbox_prepare_sleep(sr_ring *ring);
/* The same before it sleeps on the ring's event descriptor, which writers then signal. */
bool sri_inbox_prepare_event(sr_ring *ring);
void sri_inbox_awake(sr_ring *ring);

/* The ring has an inbox. @source: lends until it is removed. */
void sri_inbox_add_source(sr_ring *ring, struct sri_inbox_source *source);
void sri_inbox_remove_source(sr_ring *ring, struct sri_inbox_source *source);
/* Whether there are messages, or a source has something. False without an inbox. */
bool sri_inbox_has_work(const sr_ring *ring);
/* From any thread, when a source has been given something: wakes the owner if it sleeps. */
void sri_inbox_ring(sr_ring *ring);

#endif
