/* SPDX-License-Identifier: MIT */
/*
 * Worker: a forked child that serves a few methods over one end of a socket pair, as a worker
 * program would. It has nothing else open of what the test had.
 */
#ifndef SAFERING_TESTS_SUPPORT_WORKER_H
#define SAFERING_TESTS_SUPPORT_WORKER_H

#include <stdint.h>
#include <sys/types.h>

struct worker {
    pid_t pid;
    int socket; /* the host's end; -1 once somebody took it */
};

/* The methods, and what they take and do:
 *   echo      any bytes: answers them; result: how many
 *   add       two int64_t: result: their sum
 *   pause     uint32_t: sleeps so many ms; result: the same
 *   produce   uint64_t: answers so many bytes, byte i is i % 251
 *   tell      uint32_t: sends so many events, number i % 65536 with i as bytes; result: the same
 *   note      uint64_t, as a note: adds it up
 *   sum       result: what notes added up to
 *   refuse    result: INT64_MIN
 *   crash     dies of a SIGSEGV
 *   leave     exit(7)
 */
void worker_start(struct worker *out_worker);
/* The host's end; the caller's from now on. */
int worker_take_socket(struct worker *worker);
/* SIGKILL, unless it has ended, and waits for its end. Returns what waitpid(2) tells. */
int worker_end(struct worker *worker);
/* Waits for it to end by itself. */
int worker_wait(struct worker *worker);

#endif
