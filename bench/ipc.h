/* SPDX-License-Identifier: MIT */
/*
 * What the cases of calls into another process share: that process. It is this program once more,
 * started with an option, at the other end of a socket pair.
 */
#ifndef BENCH_IPC_H
#define BENCH_IPC_H

#include "bench.h"
#include <sys/types.h>

/* PEER_OPTION KIND CPU BYTES: the command line of the process. */
#define BENCH_IPC_OPTION "--ipc-peer"

enum bench_ipc_kind {
    BENCH_IPC_BARE = 0,  /* sends back each BYTES that come, by recv(2) and send(2) */
    BENCH_IPC_WORKER = 1 /* serves the methods "echo", "crash", and "work" */
};

struct bench_ipc_peer {
    pid_t pid;  /* 0: none */
    int socket; /* this end; -1: somebody else's by now */
};

/* For @cpu: any. */
#define BENCH_IPC_ANY_CPU UINT32_MAX

/* @cpu: by bench_pin()'s numbers. Returns enum bench_status. */
int bench_ipc_start(enum bench_ipc_kind kind, uint32_t cpu, uint32_t bytes,
                    struct bench_ipc_peer *out_peer);
/* Closes this end, if it is still here, and waits for the process. */
void bench_ipc_stop(struct bench_ipc_peer *peer);

/* The process itself. Returns its exit status. */
int bench_ipc_peer_main(int argc, char **argv);

/* "work" answers what it was sent, after as many microseconds as the second number in it says. */
#define BENCH_IPC_WORK_BYTES 64u
void bench_ipc_fill_work(void *bytes, uint64_t us);

/* Bytes of message @i of a round: its number in front, the rest as it is. */
void bench_ipc_fill(void *bytes, uint32_t size, uint64_t value);
/* The number that came back; 0 if there is no room for one. */
uint64_t bench_ipc_value(const void *bytes, uint32_t size);
uint64_t bench_ipc_expect(const struct bench_setup *setup, const struct bench_round *round);

#endif
