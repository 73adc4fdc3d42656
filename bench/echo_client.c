/* SPDX-License-Identifier: MIT */
/* The client of the echo cases: plain sockets and epoll(7). It does not know whom it talks to. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "echo.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PATIENCE_MS = 60000 };

struct connection {
    int fd;
    uint32_t sent;     /* messages of this round, the one on its way included */
    uint32_t received; /* bytes of it that have come back */
    uint64_t words[ECHO_WORDS];
    unsigned char answer[BENCH_ECHO_BYTES];
};

struct client {
    int epoll;
    struct echo_command command;
    struct echo_reply reply;
    uint32_t busy; /* connections with messages to go */
    struct connection connections[BENCH_ECHO_CONNECTIONS];
};

static int open_connections(struct client *self, uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    const int yes = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (uint32_t i = 0; i < BENCH_ECHO_CONNECTIONS; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        self->connections[i].fd = fd;
        if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)) != 0 ||
            epoll_ctl(self->epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
            return bench_complain(BENCH_WRONG, "echo client: connect: %s", strerror(errno));
        }
    }
    return BENCH_OK;
}

static int send_next(struct client *self, uint32_t index) {
    struct connection *connection = &self->connections[index];

    for (uint32_t i = 0; i < ECHO_WORDS; i++) {
        connection->words[i] = echo_word(self->command.base, index, connection->sent, i);
    }
    connection->sent++;
    connection->received = 0;
    if (send(connection->fd, connection->words, BENCH_ECHO_BYTES, MSG_NOSIGNAL) !=
        BENCH_ECHO_BYTES) {
        return bench_complain(BENCH_WRONG, "echo client: send: %s", strerror(errno));
    }
    return BENCH_OK;
}

/* A whole answer: is it what was sent? Then on with the next message. */
static int take_answer(struct client *self, uint32_t index) {
    struct connection *connection = &self->connections[index];

    if (memcmp(connection->answer, connection->words, BENCH_ECHO_BYTES) != 0) {
        return bench_complain(BENCH_WRONG, "echo client: wrong bytes came back");
    }
    for (uint32_t i = 0; i < ECHO_WORDS; i++) {
        uint64_t word;

        memcpy(&word, connection->answer + (size_t)i * sizeof(word), sizeof(word));
        self->reply.checksum += word;
    }
    self->reply.messages++;
    if (connection->sent == self->command.messages) {
        self->busy--;
        return BENCH_OK;
    }
    return send_next(self, index);
}

static int receive(struct client *self, uint32_t index) {
    struct connection *connection = &self->connections[index];
    ssize_t count = recv(connection->fd, connection->answer + connection->received,
                         BENCH_ECHO_BYTES - connection->received, 0);

    if (count <= 0) {
        return bench_complain(BENCH_WRONG, "echo client: the server hung up");
    }
    connection->received += (uint32_t)count;
    return connection->received == BENCH_ECHO_BYTES ? take_answer(self, index) : BENCH_OK;
}

static int do_round(struct client *self) {
    int status = BENCH_OK;

    memset(&self->reply, 0, sizeof(self->reply));
    self->busy = self->command.messages > 0 ? BENCH_ECHO_CONNECTIONS : 0;
    for (uint32_t i = 0; i < self->busy && status == BENCH_OK; i++) {
        self->connections[i].sent = 0;
        status = send_next(self, i);
    }
    while (self->busy > 0 && status == BENCH_OK) {
        struct epoll_event events[BENCH_ECHO_CONNECTIONS];
        int count = epoll_wait(self->epoll, events, BENCH_ECHO_CONNECTIONS, PATIENCE_MS);

        if (count <= 0 && errno != EINTR) {
            return bench_complain(BENCH_WRONG, "echo client: no answer");
        }
        for (int i = 0; i < count && status == BENCH_OK; i++) {
            status = receive(self, events[i].data.u32);
        }
    }
    return status;
}

/* What it has open goes with the process, and that is how a server learns that something failed. */
int echo_client_main(const char *port) {
    struct client *self = calloc(1, sizeof(*self));
    int status;

    bench_pin(1); /* the server has 0 */
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "echo client: out of memory");
    }
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    status = open_connections(self, (uint16_t)strtoul(port, NULL, 10));
    while (status == BENCH_OK && recv(ECHO_CLIENT_CONTROL, &self->command, sizeof(self->command),
                                      0) == (ssize_t)sizeof(self->command)) {
        status = do_round(self);
        if (status == BENCH_OK && send(ECHO_CLIENT_CONTROL, &self->reply, sizeof(self->reply),
                                       MSG_NOSIGNAL) != (ssize_t)sizeof(self->reply)) {
            break;
        }
    }
    free(self);
    return status;
}
