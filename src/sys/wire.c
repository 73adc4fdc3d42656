/* SPDX-License-Identifier: MIT */
#include "sys/wire.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/types.h>

int sri_stream_pair(int out_fds[2]) {
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, out_fds) != 0) {
        out_fds[0] = out_fds[1] = -1;
        return -errno;
    }
    return 0;
}

int64_t sri_wire_read(int fd, void *bytes, size_t size_bytes) {
    ssize_t count = 0;
    do {
        count = recv(fd, bytes, size_bytes, 0);
    } while (count < 0 && errno == EINTR);
    return count < 0 ? -errno : (int64_t)count;
}

int sri_wire_write(int fd, const void *bytes, size_t size_bytes) {
    const char *at = bytes;
    while (size_bytes > 0) {
        const ssize_t count = send(fd, at, size_bytes, MSG_NOSIGNAL);
        if (count < 0 && errno != EINTR) {
            return -errno;
        }
        if (count > 0) {
            at += count;
            size_bytes -= (size_t)count;
        }
    }
    return 0;
}
