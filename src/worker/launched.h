/* SPDX-License-Identifier: MIT */
/*
 * Launched: what a launcher knows about the workers that it has started, and which words it still
 * owes its host about them.
 *
 * Invariants: an entry is free, or has an id that no other entry has. It is given back only when
 * the last word about its worker was sent, so a host that does not read costs no memory: the table
 * is all there is, and no request is read while a word waits. A child's number is forgotten when
 * the child is reaped. No allocation.
 *
 * Neighbours: start.c fills entries in, ended.c notices ends, report.c sends the words.
 */
#ifndef SAFERING_WORKER_LAUNCHED_H
#define SAFERING_WORKER_LAUNCHED_H

#include "ipc/launch_wire.h"
#include "sys/children.h"

struct sri_launched {
    uint64_t id; /* 0: free */
    uint32_t serial;
    uint32_t namespaces; /* bits of the layers that the fork has brought */
    int32_t child;       /* the worker, or its init if it has a pid namespace; 0: none, or reaped */
    int32_t pid;         /* the worker, once it has said so */
    int pidfd;           /* of the worker; -1 until then */
    int start_fd;        /* hangs up when the worker has become another program; -1: it has */
    int init_fd;         /* where its init says how it ended; -1: it has none */
    bool owes_started;
    bool owes_end; /* EXITED, or START_FAILED if there is a failed_step */
    uint32_t failed_step;
    int32_t failed_code;
    uint32_t end; /* enum sri_launch_end */
    struct sri_child_end how;
    struct sri_sandbox_report report; /* as far as it is known */
};

struct sri_launch_state {
    int host_fd;    /* the socket */
    int host_pidfd; /* of the host */
    int self_pidfd;
    int signal_fd;
    uint64_t fd_limit; /* of open descriptors, as the host has it */
    bool is_host_gone;
    bool is_host_deaf; /* the socket is full */
    bool owes_answer;
    bool has_orphans;        /* perhaps: a look is due */
    uint64_t orphans_due_ns; /* at the latest; 0: nobody has looked at the clock yet */
    struct sri_launch_event answer;
    uint32_t worker_count;
    uint32_t worker_end; /* entries from here on were never used */
    struct sri_launched workers[SRI_LAUNCH_WORKERS_MAX];
};

/* An entry with this id, or NULL if the table is full. The id must be new. */
struct sri_launched *sri_launched_add(struct sri_launch_state *state, uint64_t id, uint32_t serial);
struct sri_launched *sri_launched_find(struct sri_launch_state *state, uint64_t id);
struct sri_launched *sri_launched_find_child(struct sri_launch_state *state, int32_t child);
/* Closes what it still has. */
void sri_launched_drop(struct sri_launch_state *state, struct sri_launched *worker);

/* The start did not come to its end; says so when its child, if any, is reaped. */
void sri_launched_fail(struct sri_launched *worker, enum sri_launch_step step, int code);

#endif
