/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "ipc.h"
#include "baseline.h"
#include "work.h"
#include <errno.h>
#include <safering/worker.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PEER_SOCKET = 3 };

/* ---- messages -------------------------------------------------------------------------------- */

void bench_ipc_fill(void *bytes, uint32_t size, uint64_t value) {
    if (size >= sizeof(value)) {
        memcpy(bytes, &value, sizeof(value));
    }
}

uint64_t bench_ipc_value(const void *bytes, uint32_t size) {
    uint64_t value = 0;

    if (size >= sizeof(value)) {
        memcpy(&value, bytes, sizeof(value));
    }
    return value;
}

uint64_t bench_ipc_expect(const struct bench_setup *setup, const struct bench_round *round) {
    uint64_t sum = 0;

    for (uint32_t i = 0; setup->size >= sizeof(sum) && i < round->ops; i++) {
        sum += round->base + i;
    }
    return sum;
}

void bench_ipc_fill_work(void *bytes, uint64_t us) {
    memcpy((char *)bytes + sizeof(us), &us, sizeof(us));
}

/* ---- the process ----------------------------------------------------------------------------- */

static int64_t echo(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    (void)ctx;
    return sr_serve_reply(served, data, data_bytes);
}

static int64_t work(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    uint64_t us = 0;

    (void)ctx;
    memcpy(&us, (const char *)data + sizeof(us), sizeof(us));
    bench_work_for(us);
    return sr_serve_reply(served, data, data_bytes);
}

static int64_t crash(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    (void)served;
    (void)data;
    (void)data_bytes;
    (void)ctx;
    return raise(SIGKILL); /* leaves no core, whatever this machine does with cores */
}

static int serve_worker(void) {
    const sr_method methods[] = {
        {"echo", echo, NULL}, {"crash", crash, NULL}, {"work", work, NULL}};
    sr_serve_options options = SR_SERVE_OPTIONS_INIT;

    options.socket = PEER_SOCKET;
    return sr_serve(methods, 3, &options) == 0 ? 0 : 1;
}

int bench_ipc_peer_main(int argc, char **argv) {
    if (argc != 5) {
        return BENCH_USAGE;
    }
    const uint32_t cpu = (uint32_t)strtoul(argv[3], NULL, 10);

    if (cpu != BENCH_IPC_ANY_CPU) {
        bench_pin(cpu);
    }
    if (strtoul(argv[2], NULL, 10) == BENCH_IPC_WORKER) {
        return serve_worker();
    }
    return bench_unix_echo(PEER_SOCKET, (uint32_t)strtoul(argv[4], NULL, 10));
}

int bench_ipc_start(enum bench_ipc_kind kind, uint32_t cpu, uint32_t bytes,
                    struct bench_ipc_peer *out_peer) {
    char kind_text[16], cpu_text[16], bytes_text[16];
    char program[] = "safering_bench";
    char option[] = BENCH_IPC_OPTION;
    char *const arguments[] = {program, option, kind_text, cpu_text, bytes_text, NULL};
    posix_spawn_file_actions_t actions;
    int ends[2];
    int code;

    (void)snprintf(kind_text, sizeof(kind_text), "%d", (int)kind);
    (void)snprintf(cpu_text, sizeof(cpu_text), "%u", cpu);
    (void)snprintf(bytes_text, sizeof(bytes_text), "%u", bytes);
    *out_peer = (struct bench_ipc_peer){0, -1};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return bench_complain(BENCH_WRONG, "ipc: socketpair: %s", strerror(errno));
    }
    bench_unpin(); /* the process inherits where this thread may run */
    code = posix_spawn_file_actions_init(&actions);
    if (code == 0) {
        code = posix_spawn_file_actions_adddup2(&actions, ends[1], PEER_SOCKET);
        if (code == 0) {
            code =
                posix_spawn(&out_peer->pid, "/proc/self/exe", &actions, NULL, arguments, environ);
        }
        (void)posix_spawn_file_actions_destroy(&actions);
    }
    bench_pin(0);
    (void)close(ends[1]);
    out_peer->socket = ends[0];
    if (code != 0) {
        out_peer->pid = 0;
        return bench_complain(BENCH_MISSING, "ipc: starting the peer: %s", strerror(code));
    }
    return BENCH_OK;
}

void bench_ipc_stop(struct bench_ipc_peer *peer) {
    if (peer->socket >= 0) {
        (void)close(peer->socket);
        peer->socket = -1;
    }
    if (peer->pid > 0) {
        (void)waitpid(peer->pid, NULL, 0);
        peer->pid = 0;
    }
}
