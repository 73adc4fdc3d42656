/* SPDX-License-Identifier: MIT */
/*
 * Worker: a forked child that serves the methods of support/methods.h over one end of a socket
 * pair, as a worker program would. It has nothing else open of what the test had.
 */
#ifndef SAFERING_TESTS_SUPPORT_WORKER_H
#define SAFERING_TESTS_SUPPORT_WORKER_H

#include <stdint.h>
#include <sys/types.h>

struct worker {
    pid_t pid;
    int socket; /* the host's end; -1 once somebody took it */
};

void worker_start(struct worker *out_worker);
/* The host's end; the caller's from now on. */
int worker_take_socket(struct worker *worker);
/* SIGKILL, unless it has ended, and waits for its end. Returns what waitpid(2) tells. */
int worker_end(struct worker *worker);
/* Waits for it to end by itself. */
int worker_wait(struct worker *worker);

#endif
