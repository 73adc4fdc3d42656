/* SPDX-License-Identifier: MIT */
/* A message to another process and back, by send(2) and recv(2) on a stream socket, both sides
 * blocking. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline.h"
#include "ipc.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct side {
    struct bench_ipc_peer peer;
    uint32_t size;
    unsigned char *bytes;
};

static bool send_all(int fd, const unsigned char *bytes, size_t count) {
    while (count > 0) {
        const ssize_t sent = send(fd, bytes, count, MSG_NOSIGNAL);

        if (sent <= 0) {
            return false;
        }
        bytes += sent;
        count -= (size_t)sent;
    }
    return true;
}

/* One byte goes where there are none: a stream has no empty messages. */
static size_t wire_bytes(uint32_t size) {
    return size > 0 ? size : 1;
}

int bench_unix_echo(int fd, uint32_t size) {
    const size_t count = wire_bytes(size);
    unsigned char *bytes = malloc(count);

    while (bytes != NULL && recv(fd, bytes, count, MSG_WAITALL) == (ssize_t)count) {
        if (!send_all(fd, bytes, count)) {
            break;
        }
    }
    free(bytes);
    return 0;
}

static void side_close(void *side) {
    struct side *self = side;

    bench_ipc_stop(&self->peer);
    free(self->bytes);
    free(self);
}

static int open_on(const struct bench_setup *setup, uint32_t cpu, void **out_side) {
    struct side *self = calloc(1, sizeof(*self));
    int status;

    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "unix: out of memory");
    }
    self->size = setup->size;
    self->bytes = calloc(1, wire_bytes(setup->size));
    status = self->bytes != NULL ? bench_ipc_start(BENCH_IPC_BARE, cpu, setup->size, &self->peer)
                                 : bench_complain(BENCH_WRONG, "unix: out of memory");
    if (status != BENCH_OK) {
        side_close(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

static int side_open_far(const struct bench_setup *setup, void **out_side,
                         struct bench_facts *out_facts) {
    (void)out_facts;
    return open_on(setup, 1, out_side);
}

static int side_open_near(const struct bench_setup *setup, void **out_side,
                          struct bench_facts *out_facts) {
    (void)out_facts;
    return open_on(setup, 0, out_side);
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    const size_t count = wire_bytes(self->size);

    for (uint32_t i = 0; i < round->ops; i++) {
        bench_ipc_fill(self->bytes, self->size, round->base + i);
        if (!send_all(self->peer.socket, self->bytes, count) ||
            recv(self->peer.socket, self->bytes, count, MSG_WAITALL) != (ssize_t)count) {
            return bench_complain(BENCH_WRONG, "unix: %s", strerror(errno));
        }
        out_work->checksum += bench_ipc_value(self->bytes, self->size);
        out_work->ops++;
    }
    return BENCH_OK;
}

const struct bench_side bench_baseline_unix_far = {"AF_UNIX", side_open_far, side_run, side_close,
                                                   1};
const struct bench_side bench_baseline_unix_near = {"AF_UNIX", side_open_near, side_run, side_close,
                                                    1};
