/* SPDX-License-Identifier: MIT */
#include "sys/doorbell.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

int sri_doorbell_open(void) {
    const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd >= 0 ? fd : -errno;
}

int sri_doorbell_ring(int fd) {
    const uint64_t one = 1;
    ssize_t written = 0;
    do {
        written = write(fd, &one, sizeof one);
    } while (written < 0 && errno == EINTR);
    return written == (ssize_t)sizeof one || errno == EAGAIN ? 0 : -errno;
}
