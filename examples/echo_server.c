/* SPDX-License-Identifier: MIT */
/*
 * An echo server: one ring, one thread, any number of connections. Multishot accept and receive, so
 * nothing is submitted for a message but the answer; a ring of buffers, so an idle connection has
 * none.
 *
 *     echo_server [PORT]      0, the default: any; prints the port, echoes until SIGINT or SIGTERM
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <safering/safering.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define CONNECTIONS_MAX 60000u
#define BUFFERS         4096u
#define BUFFER_BYTES    4096u

struct server {
    sr_ring *ring;
    sr_pool *pool;
    sr_buffer_ring *buffer_ring;
    uint64_t connections;
    uint64_t messages;
};

static volatile sig_atomic_t stopped;

static void on_signal(int signal) {
    (void)signal;
    stopped = 1;
}

static int complain(const char *what, int code) {
    fprintf(stderr, "echo_server: %s: %s\n", what, sr_strerror(code));
    return code;
}

static void on_received(sr_ring *ring, const sr_completion *completion, void *ctx);

static int submit(struct server *server, sr_request *request, const char *what) {
    const int code = sr_ring_submit(server->ring, request, NULL);
    return code < 0 ? complain(what, code) : 0;
}

static void on_closed(sr_ring *ring, const sr_completion *completion, void *ctx) {
    struct server *server = ctx;
    (void)ring;
    (void)completion; /* the descriptor is gone, whatever close(2) said */
    server->connections--;
}

static void hang_up(struct server *server, sr_file file) {
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_CLOSE;
    request.op_flags = SR_CLOSE_CANCEL;
    request.file = file;
    request.on_complete = on_closed;
    request.ctx = server;
    (void)submit(server, &request, "close");
}

/* The answer is out, or the peer is gone: either way the buffer is for the next message. */
static void on_sent(sr_ring *ring, const sr_completion *completion, void *ctx) {
    struct server *server = ctx;
    (void)ring;
    const int code = sr_buffer_ring_provide(server->buffer_ring, completion->buffer);
    if (code < 0) {
        (void)complain("buffer", code);
    }
}

static void receive(struct server *server, sr_file file) {
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_RECV;
    request.flags = SR_REQUEST_MULTISHOT;
    request.file = file;
    request.buffer_ring = server->buffer_ring;
    request.on_complete = on_received;
    request.ctx = server;
    if (submit(server, &request, "receive") < 0) {
        hang_up(server, file);
    }
}

static void on_received(sr_ring *ring, const sr_completion *completion, void *ctx) {
    struct server *server = ctx;
    if (completion->buffer.bits != 0) {
        sr_request request = SR_REQUEST_INIT;
        request.op = SR_OP_SEND;
        request.flags = SR_REQUEST_FULL;
        request.file = completion->file;
        request.buffer = completion->buffer;
        request.length = completion->buffer_length;
        request.on_complete = on_sent;
        request.ctx = server;
        server->messages++;
        if (sr_ring_submit(ring, &request, NULL) < 0) {
            on_sent(ring, completion, ctx); /* closing: nobody to answer to */
        }
    }
    if ((completion->flags & SR_COMPLETION_MORE) == 0) {
        hang_up(server, completion->file); /* end of stream, or an error */
    }
}

static void on_accepted(sr_ring *ring, const sr_completion *completion, void *ctx) {
    struct server *server = ctx;
    (void)ring;
    if (completion->file.bits != 0) {
        server->connections++;
        receive(server, completion->file);
    } else if ((completion->flags & SR_COMPLETION_MORE) == 0) {
        (void)complain("accept", (int)completion->result);
        stopped = 1;
    }
}

static int listen_on(struct server *server, uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t size = sizeof address;
    const int yes = 1;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, SOMAXCONN) != 0 || getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        perror("echo_server: listen");
        return -1;
    }
    sr_request request = SR_REQUEST_INIT;
    const int code = sr_file_adopt(server->ring, fd, 0, &request.file);
    if (code < 0) {
        return complain("listener", code);
    }
    request.op = SR_OP_ACCEPT;
    request.flags = SR_REQUEST_MULTISHOT;
    request.on_complete = on_accepted;
    request.ctx = server;
    printf("port %u\n", ntohs(address.sin_port));
    (void)fflush(stdout);
    return submit(server, &request, "accept");
}

static int open_server(struct server *server, uint16_t port) {
    sr_ring_options ring_options = SR_RING_OPTIONS_INIT;
    sr_pool_options pool_options = SR_POOL_OPTIONS_INIT;
    sr_buffer_ring_options buffer_ring_options = SR_BUFFER_RING_OPTIONS_INIT;
    ring_options.entries = 1024;
    ring_options.cq_entries = 8192;
    ring_options.ops_max = CONNECTIONS_MAX + 8192; /* an idle receive is multishot */
    ring_options.files_max = CONNECTIONS_MAX;
    pool_options.buffer_size_bytes = BUFFER_BYTES;
    pool_options.buffer_count = BUFFERS;
    buffer_ring_options.entries = BUFFERS;
    int code = sr_ring_create(&ring_options, &server->ring);
    if (code == 0) {
        code = sr_pool_create(NULL, &pool_options, &server->pool);
    }
    if (code == 0) {
        code = sr_ring_attach_pool(server->ring, server->pool);
    }
    if (code >= 0) {
        code = sr_buffer_ring_create(server->ring, server->pool, &buffer_ring_options,
                                     &server->buffer_ring);
    }
    return code < 0 ? complain("ring", code) : listen_on(server, port);
}

static int serve(struct server *server) {
    sr_wait_options options = SR_WAIT_OPTIONS_INIT;
    sigset_t while_waiting;
    options.interruptible = 1;
    /* Signals come through only while it waits, so none is missed. */
    (void)sigprocmask(SIG_BLOCK, NULL, &while_waiting);
    (void)sigdelset(&while_waiting, SIGINT);
    (void)sigdelset(&while_waiting, SIGTERM);
    options.sigmask = &while_waiting;
    while (!stopped) {
        const int code = sr_ring_wait(server->ring, 1, SR_FOREVER, &options, NULL);
        if (code < 0 && code != -EINTR) {
            return complain("wait", code);
        }
    }
    return 0;
}

int main(int argc, char **argv) {
    struct server server = {0};
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t blocked;
    struct rlimit files;
    const long port = argc > 1 ? strtol(argv[1], NULL, 10) : 0;
    if (argc > 2 || port < 0 || port > 65535) {
        fprintf(stderr, "usage: echo_server [PORT]\n");
        return 2;
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files); /* as many connections as we are let */
    }
    (void)sigemptyset(&blocked);
    (void)sigaddset(&blocked, SIGINT);
    (void)sigaddset(&blocked, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &blocked, NULL);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);

    int code = open_server(&server, (uint16_t)port);
    if (code == 0) {
        code = serve(&server);
    }
    printf("echoed %llu messages, %llu connections open\n", (unsigned long long)server.messages,
           (unsigned long long)server.connections);
    /* The ring takes buffer ring and connections along. */
    const int ended = sr_ring_destroy(&server.ring);
    const int freed = sr_pool_destroy(&server.pool);
    return code < 0 || ended < 0 || freed < 0 ? 1 : 0;
}
