/* SPDX-License-Identifier: MIT */
/*
 * Children: the processes that one single-threaded process forks and reaps. Not for a host: these
 * functions rely on SIGCHLD, wait for any child, and fork without the C library's knowledge of
 * threads. For the launcher and the inits that it makes.
 *
 * A child that has ended is first seen, then reaped: until then its number, and that of its process
 * group, mean nobody else.
 *
 * Kernel: 5.4; namespaces where they are permitted.
 */
#ifndef SAFERING_SYS_CHILDREN_H
#define SAFERING_SYS_CHILDREN_H

#include <stdbool.h>
#include <stdint.h>

struct sri_child_end {
    uint32_t signal; /* 0: it exited, with @code */
    uint32_t code;
    uint32_t has_core;
    uint32_t zero;
    uint64_t cpu_ns;
    uint64_t resident_max_bytes;
};

/* Which namespaces of its own a child gets. */
struct sri_child_namespaces {
    bool user;
    bool pid;
    bool net;
    bool ipc;
};

/* Signals ---------------------------------------------------------------------------------------*/

/* Undoes what came from whoever started this process: no signal is ignored or handled, all are
 * blocked. Returns a descriptor that reads SIGCHLD and SIGTERM, close-on-exec, or a code. */
int sri_children_signals_open(void);
/* Empties it; whether one of the signals was SIGTERM. */
bool sri_children_signals_read(int fd);

/* Family ----------------------------------------------------------------------------------------*/

/* Orphans of this process's children become its children, not those of pid 1. */
int sri_children_adopt_orphans(void);
/* In a child: sends it this signal when its parent ends. The parent may have ended before: look. */
int sri_child_die_with_parent(int signal);
int32_t sri_child_parent(void);
int sri_child_new_session(void);

/* At most 15 characters; what ps(1) shows. */
void sri_child_set_name(const char *name);

/* Ends this process without the exit handlers of the program that it was forked from. */
_Noreturn void sri_child_exit(int code);

/* The pid, 0 in the child, or a code. */
int32_t sri_child_fork(const struct sri_child_namespaces *namespaces);
/* In a child with a new user namespace: the user and group it was are who it is. */
int sri_child_keep_user(void);
/* Whether a user namespace can be had and used. Forks and waits for a child that does nothing else;
 * the answer is remembered. 0, or why not. */
int sri_children_try_user_namespace(void);

/* Ends ------------------------------------------------------------------------------------------*/

/* The pid of a child that has ended and is not reaped yet; 0: none has; -ECHILD: there is none. */
int32_t sri_children_find_ended(void);
/* The same, waits. */
int32_t sri_children_wait_ended(void);
void sri_child_reap(int32_t pid, struct sri_child_end *out_end);
/* Waits until a child ends or time is over; only where the signals are blocked. */
void sri_children_pause(uint64_t timeout_ns);

/* SIGKILL for a child, and for its process group if it leads one. Not after it was reaped. */
void sri_child_kill(int32_t pid);
void sri_child_kill_group(int32_t pid);

/*
 * SIGKILL for every child that @is_known (NULL: nobody) does not know by its number or by that of
 * its session. How many those were; what they have forked meanwhile becomes a child when they end.
 */
uint32_t sri_children_kill_others(bool (*is_known)(void *ctx, int32_t pid), void *ctx);

#endif
