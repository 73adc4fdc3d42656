/* SPDX-License-Identifier: MIT */
/*
 * Confine, calls: filters of system calls (seccomp), for all threads of the process and for ever.
 *
 * Invariants: what is not listed is not allowed. A call that no worker has a use for ends the
 * process (SIGSYS), also one of another architecture. A call that ordinary libraries try, and can
 * do without, fails: with EPERM, EACCES where paths and sockets are asked for, ENOSYS where the C
 * library then takes an older way, as for every call that is newer than this list. The lists are in
 * confine_calls.c.
 *
 * Filters see numbers, not what a pointer points to: which path is opened is Landlock's matter
 * (sys/confine_files.h).
 */
#ifndef SAFERING_SYS_CONFINE_CALLS_H
#define SAFERING_SYS_CONFINE_CALLS_H

#include <stdbool.h>

enum sri_confine_stage {
    SRI_CONFINE_LOADING, /* code may be mapped, from files only and not writable */
    SRI_CONFINE_SERVING  /* no code may be mapped, and filters are final */
};

struct sri_confine_calls {
    enum sri_confine_stage stage; /* LOADING first; SERVING takes more away */
    bool may_open;                /* paths at all; otherwise EACCES */
    bool may_connect;             /* TCP and UDP sockets; otherwise EACCES */
};

/* 0 when a call that the filter forbids was tried and did fail as it says; -EACCES without
 * no_new_privs; -ESRCH if a thread has a filter of its own; another negative errno. */
int sri_confine_calls(const struct sri_confine_calls *calls);

#endif
