/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "echo.h"
#include "work.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ACCEPT_TIMEOUT_MS = 20000 };

extern char **environ;

uint64_t echo_word(uint64_t base, uint32_t connection, uint32_t message, uint32_t index) {
    return bench_mix(base + ((uint64_t)connection << 40) + (uint64_t)message * ECHO_WORDS + index);
}

uint64_t echo_expect(const struct bench_setup *setup, const struct bench_round *round) {
    uint64_t sum = 0;

    for (uint32_t connection = 0; connection < setup->n; connection++) {
        for (uint32_t message = 0; message < round->ops / setup->n; message++) {
            for (uint32_t i = 0; i < ECHO_WORDS; i++) {
                sum += echo_word(round->base, connection, message, i);
            }
        }
    }
    return sum;
}

/* ---- open and close -------------------------------------------------------------------------- */

static int listen_on_loopback(int *out_fd, uint16_t *out_port) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, size) != 0 ||
        listen(fd, BENCH_ECHO_CONNECTIONS) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        int status = bench_complain(BENCH_MISSING, "echo: no loopback: %s", strerror(errno));

        if (fd >= 0) {
            close(fd);
        }
        return status;
    }
    *out_fd = fd;
    *out_port = ntohs(address.sin_port);
    return BENCH_OK;
}

/* The client is a program of its own, not a fork: it shares no memory with the server, whose pages
 * it would make the kernel copy. It chooses its CPU itself. */
static int start_client(struct echo_link *self, uint16_t port) {
    char number[8];
    char program[] = "safering_bench";
    char option[] = ECHO_CLIENT_OPTION;
    char *const arguments[] = {program, option, number, NULL};
    posix_spawn_file_actions_t actions;
    int ends[2];
    int code;

    (void)snprintf(number, sizeof(number), "%u", port);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        return bench_complain(BENCH_WRONG, "echo: socketpair: %s", strerror(errno));
    }
    bench_unpin();
    code = posix_spawn_file_actions_init(&actions);
    if (code == 0) {
        code = posix_spawn_file_actions_adddup2(&actions, ends[1], ECHO_CLIENT_CONTROL);
        if (code == 0) {
            code = posix_spawn(&self->client, "/proc/self/exe", &actions, NULL, arguments, environ);
        }
        (void)posix_spawn_file_actions_destroy(&actions);
    }
    bench_pin(0);
    close(ends[1]);
    self->control = ends[0];
    if (code != 0) {
        self->client = 0;
        return bench_complain(BENCH_MISSING, "echo: starting the client: %s", strerror(code));
    }
    return BENCH_OK;
}

static int accept_all(struct echo_link *self, int listener) {
    const int yes = 1;

    for (uint32_t i = 0; i < BENCH_ECHO_CONNECTIONS; i++) {
        struct pollfd ready = {listener, POLLIN, 0};

        if (poll(&ready, 1, ACCEPT_TIMEOUT_MS) != 1) {
            return bench_complain(BENCH_WRONG, "echo: the client does not connect");
        }
        self->sockets[i] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (self->sockets[i] < 0 ||
            setsockopt(self->sockets[i], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)) != 0) {
            return bench_complain(BENCH_WRONG, "echo: accept: %s", strerror(errno));
        }
    }
    return BENCH_OK;
}

int echo_open(struct echo_link *self) {
    int listener = -1;
    uint16_t port = 0;
    int status = listen_on_loopback(&listener, &port);

    self->control = -1;
    self->client = 0;
    for (uint32_t i = 0; i < BENCH_ECHO_CONNECTIONS; i++) {
        self->sockets[i] = -1;
    }
    if (status != BENCH_OK) {
        return status;
    }
    status = start_client(self, port);
    if (status == BENCH_OK) {
        status = accept_all(self, listener);
    }
    close(listener);
    if (status != BENCH_OK) {
        echo_close(self);
    }
    return status;
}

/* The client ends when its control socket does. */
void echo_close(struct echo_link *self) {
    for (uint32_t i = 0; i < BENCH_ECHO_CONNECTIONS; i++) {
        if (self->sockets[i] >= 0) {
            close(self->sockets[i]);
            self->sockets[i] = -1;
        }
    }
    if (self->control >= 0) {
        close(self->control);
        self->control = -1;
    }
    if (self->client > 0) {
        (void)waitpid(self->client, NULL, 0);
        self->client = 0;
    }
}

/* ---- rounds ---------------------------------------------------------------------------------- */

int echo_begin(struct echo_link *self, const struct bench_round *round) {
    struct echo_command command = {round->base, round->ops / BENCH_ECHO_CONNECTIONS, 0};

    self->due_bytes = (uint64_t)round->ops * BENCH_ECHO_BYTES;
    if (send(self->control, &command, sizeof(command), MSG_NOSIGNAL) != (ssize_t)sizeof(command)) {
        return bench_complain(BENCH_WRONG, "echo: the client is gone");
    }
    self->begin_ns = bench_now_ns();
    self->begin_cpu_ns = bench_cpu_ns();
    return BENCH_OK;
}

int echo_end(struct echo_link *self, struct bench_work *out_work) {
    struct echo_reply reply;

    out_work->cpu_ns = bench_cpu_ns() - self->begin_cpu_ns;
    out_work->ns = bench_now_ns() - self->begin_ns;
    if (recv(self->control, &reply, sizeof(reply), 0) != (ssize_t)sizeof(reply)) {
        return bench_complain(BENCH_WRONG, "echo: no reply from the client");
    }
    out_work->ops = reply.messages;
    out_work->checksum = reply.checksum;
    return BENCH_OK;
}
