/* SPDX-License-Identifier: MIT */
/*
 * Doorbell: an eventfd, a counter with a descriptor, by which one process wakes another that sleeps
 * in its ring or in an event loop. Unlike the wake-ups of src/sys/os.h both ends need not trust
 * each other: the other process has the same open file, so it may fill the counter, empty it, and
 * clear O_NONBLOCK. Nothing here blocks the one who sleeps; it reads through its ring.
 *
 * Knows no queue and no backend, so that a worker can have it without them.
 */
#ifndef SAFERING_SYS_DOORBELL_H
#define SAFERING_SYS_DOORBELL_H

/* Returns owned: a descriptor, non-blocking and close-on-exec, to be closed; or a negative code. */
int sri_doorbell_open(void);

/* Adds one. Returns 0, also if the counter is full, since whoever looks at it wakes then as well;
 * or a negative code: @fd is no eventfd. */
int sri_doorbell_ring(int fd);

#endif
