/* SPDX-License-Identifier: MIT */
/*
 * Ended: how the launcher notices that a child has ended, kills what a worker leaves behind, and
 * ends everything when there is nobody left to work for.
 *
 * What a worker leaves behind is killed. With a pid namespace the kernel does it. Without one, its
 * process group is killed before the worker is reaped (the number is still its own), and what had
 * left the group has become a child of the launcher, which is a subreaper: a child that neither is
 * a worker nor belongs to the session of one is killed at the next look.
 */
#ifndef SAFERING_WORKER_ENDED_H
#define SAFERING_WORKER_ENDED_H

#include "worker/launched.h"

/* Reaps all children that have ended, and notes what is to be said about them. False: there are no
 * children at all. */
bool sri_ended_reap(struct sri_launch_state *state);
/* A look for orphans, if one is due. */
void sri_ended_look_for_orphans(struct sri_launch_state *state);
/* Kills everything and waits until nothing is left. */
void sri_ended_end_all(struct sri_launch_state *state);

/* The same for a process that knows none of its children; true when there is none left, false when
 * time is over. */
bool sri_ended_end_strangers(uint64_t timeout_ns);

#endif
