/* SPDX-License-Identifier: MIT */
/*
 * Exec: the descriptors of a forked child that becomes another program, and how it becomes that.
 * Each function is one step and returns its code; the caller knows which one it was.
 *
 * Neighbours: src/worker/before_exec.c says in which order, sys/confine.h what else it gives up.
 */
#ifndef SAFERING_SYS_EXEC_H
#define SAFERING_SYS_EXEC_H

#include <stdint.h>

/* Any number of it may be open in the child beside those listed: they are all close-on-exec. */
struct sri_exec_fd {
    int fd;
    uint32_t number;
};

/* The soft limit of open descriptors is raised to the hard one. Returns what it was before. */
uint64_t sri_exec_raise_fd_limit(void);
/* And back. */
int sri_exec_set_fd_limit(uint64_t soft);

/*
 * Gives each descriptor its number, not close-on-exec, and /dev/null to those of 0, 1 and 2 that
 * nobody has. The descriptors that are still needed (@keep, each may be -1) move out of the way and
 * stay close-on-exec. Only right where every other descriptor from 3 on is close-on-exec.
 */
int sri_exec_place_fds(const struct sri_exec_fd *fds, uint32_t fd_count, int *keep,
                       uint32_t keep_count);

int sri_exec_close_exec(int fd);

/* Closes all but these; 0, 1 and 2 become /dev/null, and the kept ones numbers from 3 on. */
int sri_exec_close_others(int *keep, uint32_t keep_count);

/* Return only on failure, with the code. */
int sri_exec_path(const char *path, const char *const *arguments, const char *const *variables);
int sri_exec_fd(int fd, const char *const *arguments, const char *const *variables);

#endif
