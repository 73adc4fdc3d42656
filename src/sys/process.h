/* SPDX-License-Identifier: MIT */
/*
 * Process: another process by its pidfd, which means that very process also when its number has
 * been given to the next one; and the start of a program beside this one. Nothing here needs
 * SIGCHLD: a host may ignore it, or reap by itself.
 *
 * Kernel: 5.4 (pidfd_open(2), waitid(2) with P_PIDFD).
 */
#ifndef SAFERING_SYS_PROCESS_H
#define SAFERING_SYS_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int32_t sri_process_id(void);

/* A pidfd, close-on-exec, or a code. */
int sri_process_open(int32_t pid);
/* 0, -ESRCH (it has ended and been reaped), or a code. */
int sri_process_signal(int pidfd, int signal);
/* Whether it has ended, within this time. */
bool sri_process_ends_within(int pidfd, uint64_t timeout_ns);
/* Whether it is a child of this process, zombies included. */
bool sri_process_is_child(int pidfd);
/* Takes a zombie off the list of processes, if it is ours and nobody else did. */
void sri_process_reap(int pidfd);

/* Waits until @fd can be read or has hung up; false if neither happened in time. */
bool sri_process_can_read(int fd, uint64_t timeout_ns);

/*
 * Starts @path with descriptor i of @fds as number @first + i, standard input and output at
 * /dev/null, standard error as it is, and no other descriptor; in a session of its own, with no
 * signal blocked. @variables is the whole environment. 0, or a code, also of exec(2).
 */
int sri_process_spawn(const char *path, const char *const *arguments, const char *const *variables,
                      const int *fds, uint32_t fd_count, int first, int32_t *out_pid);

/* The value of a variable, or NULL; NULL also in programs that have more rights than their user. */
const char *sri_process_variable(const char *name);

#endif
