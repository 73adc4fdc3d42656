/* SPDX-License-Identifier: MIT */
/*
 * Keeper: the parent of the launcher, and the process that the host started. It does nothing until
 * the launcher has ended. When that was kill -9, the kernel has killed the workers
 * (PR_SET_PDEATHSIG), but not what those had forked: that becomes the keeper's, which is a
 * subreaper too, and is killed here. The keeper has the socket open until nothing is left, so that
 * a host that sees the end of its launcher knows that the workers are gone.
 *
 * If the keeper is killed, the launcher gets SIGTERM from the kernel, and ends everything.
 */
#ifndef SAFERING_WORKER_KEEPER_H
#define SAFERING_WORKER_KEEPER_H

/* Forks. Returns 0 in the new process, which is to be the launcher, or a code; in the keeper it
 * does not return. The signals must be blocked. */
int sri_keeper_run(int socket_fd, int host_fd, int signal_fd);

#endif
