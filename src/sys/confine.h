/* SPDX-License-Identifier: MIT */
/*
 * Confine: what the calling process can do to itself that needs neither Landlock
 * (sys/confine_files.h), nor a filter of system calls (sys/confine_calls.h), nor namespaces
 * (sys/confine_namespaces.h): descriptors, signals, limits, privileges.
 *
 * Invariants: each function makes the process poorer and none makes it richer; what is given up
 * stays given up over execve(2), but for dumpability (sri_confine_undumpable()). A function that
 * returns a negative errno may have done a part of its work.
 *
 * For a process with one thread: limits and descriptors are the process's, capabilities and
 * no_new_privs are the thread's. src/worker/sandbox.h says in which order.
 */
#ifndef SAFERING_SYS_CONFINE_H
#define SAFERING_SYS_CONFINE_H

#include <stdint.h>

/* Limits of a process; 0 leaves one as it is. */
struct sri_confine_limits {
    uint64_t memory_bytes; /* address space */
    uint64_t file_bytes;   /* a file that is written */
    uint32_t cpu_s;        /* then SIGXCPU, and one second later SIGKILL */
    uint32_t files_max;    /* open descriptors */
};

/* Closes all descriptors but the @count listed. Those of 0, 1 and 2 that are not listed lead to
 * /dev/null, so that no file that is opened later becomes somebody's standard output. */
int sri_confine_descriptors(const int32_t *fds, uint32_t count);

/* Every signal has its default action again and none is blocked: both outlive execve(2). */
int sri_confine_signals(void);

int sri_confine_directory(const char *directory);
void sri_confine_umask(uint32_t mask);

/* Never raises a limit, so it needs no privilege. No core dump is written from now on. */
int sri_confine_limits(const struct sri_confine_limits *limits);

/* Processes and threads of this user in this user namespace, in a namespace of one user: -EUSERS
 * elsewhere, where whatever else the user runs would count as well. -EPERM for the user 0 outside,
 * for whom the kernel does not look (kernel/fork.c, copy_process()). */
int sri_confine_processes(uint32_t processes_max);

/* No capability is left, and none comes back: not by execve(2) as root either, given no_new_privs.
 */
int sri_confine_capabilities(void);

int sri_confine_no_new_privileges(void);

/* No core dump, no ptrace(2) and no /proc/PID/mem by others of the same user. execve(2) undoes it,
 * so it is for the program itself. */
int sri_confine_undumpable(void);

/* Whether this process has one thread; Landlock and capabilities hold for the caller's only.
 * 1, 0, or a negative errno where the kernel does not say. */
int sri_confine_is_single_threaded(void);

#endif
