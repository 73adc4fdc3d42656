/* SPDX-License-Identifier: MIT */
#include "sys/os.h"

#include "core/check.h"
#include "sys/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int sri_os_close(int fd) {
    return close(fd) == 0 ? 0 : -errno;
}

int sri_os_is_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0 ? 0 : -errno;
}

enum sri_fd_kind sri_os_fd_kind(int fd) {
    struct stat status;
    const bool is_socket = fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
    return is_socket ? SRI_FD_SOCKET : SRI_FD_OTHER;
}

int sri_os_shutdown(int fd) {
    return shutdown(fd, SHUT_RDWR) == 0 ? 0 : -errno;
}

int sri_os_wakeup_open(bool nonblocking) {
    const int fd = eventfd(0, EFD_CLOEXEC | (nonblocking ? EFD_NONBLOCK : 0));
    return fd >= 0 ? fd : -errno;
}

void sri_os_wakeup_write(int fd) {
    const uint64_t one = 1;
    ssize_t written = 0;
    do {
        written = write(fd, &one, sizeof one);
    } while (written < 0 && errno == EINTR);
    SR_CHECK(written == (ssize_t)sizeof one);
}

void sri_os_wakeup_clear(int fd) {
    uint64_t count = 0;
    ssize_t got = 0;
    do {
        got = read(fd, &count, sizeof count);
    } while (got < 0 && errno == EINTR);
    SR_CHECK(got == (ssize_t)sizeof count || errno == EAGAIN);
}

bool sri_os_is_hung_up(int fd) {
    struct pollfd pipe_end = {.fd = fd};
    return poll(&pipe_end, 1, 0) > 0 && (pipe_end.revents & (POLLHUP | POLLERR)) != 0;
}

uint64_t sri_os_now_ns(void) {
    return sri_clock_now_ns();
}

/* A signal ends it early, which no caller minds. */
void sri_os_pause(uint64_t duration_ns) {
    const struct timespec duration = sri_clock_timespec(duration_ns);
    (void)nanosleep(&duration, NULL);
}

uint64_t sri_os_random(void) {
    uint64_t bits = 0;
    if (getrandom(&bits, sizeof bits, GRND_NONBLOCK) != (ssize_t)sizeof bits) {
        bits = sri_os_now_ns() * UINT64_C(0x9e3779b97f4a7c15);
    }
    return bits;
}
