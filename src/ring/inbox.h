/* SPDX-License-Identifier: MIT */
/*
 * Inbox: messages from other threads to a ring's owner. A bounded queue with many writers and one
 * reader; each cell's turn number says whose turn it is, so no lock is needed. A writer wakes the
 * owner through an eventfd only when the owner is asleep, and then only once: one that the ring
 * reads if it sleeps in there, the ring's own event descriptor if it sleeps on that.
 */
#ifndef SAFERING_RING_INBOX_H
#define SAFERING_RING_INBOX_H

#include <safering/ring.h>
#include <stdbool.h>

struct sri_inbox;

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

#endif
