/* SPDX-License-Identifier: MIT */
/*
 * The echo cases: one client process, the same for every server. The server answers each message
 * with the same bytes; the client keeps one message of BENCH_ECHO_BYTES on its way on each
 * connection and checks every byte that comes back. What is measured is the CPU time of the
 * server's process.
 */
#ifndef BENCH_ECHO_H
#define BENCH_ECHO_H

#include "bench.h"
#include <sys/types.h>

enum {
    BENCH_ECHO_CONNECTIONS = 64,
    BENCH_ECHO_BYTES = 64,
    /* Of the servers: more buffers than messages that can be on their way, so none waits for one.
     */
    BENCH_ECHO_BUFFERS = 256,
    BENCH_ECHO_BUFFER_BYTES = 256
};

struct echo_link {
    int control; /* to the client */
    pid_t client;
    /* Connected, blocking, without delay. A server that takes one leaves -1 behind. */
    int sockets[BENCH_ECHO_CONNECTIONS];
    uint64_t begin_ns;
    uint64_t begin_cpu_ns;
    uint64_t due_bytes; /* to be answered in the round */
};

/* Starts the client and accepts its connections; on failure nothing is left. */
int echo_open(struct echo_link *self);
void echo_close(struct echo_link *self);

/* The client begins to send; the server must answer @self->due_bytes. */
int echo_begin(struct echo_link *self, const struct bench_round *round);
/* All is answered: what it took, and what the client says. */
int echo_end(struct echo_link *self, struct bench_work *out_work);

uint64_t echo_expect(const struct bench_setup *setup, const struct bench_round *round);

/* ---- the client's process -------------------------------------------------------------------- */

/* main() of the client: the benchmark program started anew with these two arguments. */
#define ECHO_CLIENT_OPTION "--echo-client"
int echo_client_main(const char *port);

enum { ECHO_CLIENT_CONTROL = 3 }; /* the descriptor that it finds */

struct echo_command {
    uint64_t base;     /* of the contents */
    uint32_t messages; /* on each connection */
    uint32_t reserved;
};

struct echo_reply {
    uint64_t messages;
    uint64_t checksum;
};

/* What word @index of message @message on connection @connection is. */
uint64_t echo_word(uint64_t base, uint32_t connection, uint32_t message, uint32_t index);
enum { ECHO_WORDS = BENCH_ECHO_BYTES / 8 };

#endif
