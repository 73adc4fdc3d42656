/* SPDX-License-Identifier: MIT */
#include "sys/wire.h"

#include "core/check.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#define FDS_MAX 16u

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

/* Takes up to @room of those that are in @message. */
static uint32_t take_fds(struct msghdr *message, int *out_fds, uint32_t room) {
    uint32_t count = 0;
    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head != NULL;
         head = CMSG_NXTHDR(message, head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        const size_t bytes = head->cmsg_len - CMSG_LEN(0);
        for (size_t at = 0; at + sizeof(int) <= bytes; at += sizeof(int)) {
            int fd = -1;
            memcpy(&fd, CMSG_DATA(head) + at, sizeof fd);
            if (count < room) {
                out_fds[count++] = fd;
            } else {
                (void)close(fd); /* nobody asked for it */
            }
        }
    }
    return count;
}

int64_t sri_wire_read_fds(int fd, void *bytes, size_t size_bytes, int *out_fds, uint32_t fd_room,
                          uint32_t *out_fd_count) {
    _Alignas(struct cmsghdr) unsigned char control[CMSG_SPACE(FDS_MAX * sizeof(int))];
    struct iovec slice = {bytes, size_bytes};
    struct msghdr message;
    ssize_t count = 0;
    do {
        message = (struct msghdr){.msg_iov = &slice,
                                  .msg_iovlen = 1,
                                  .msg_control = control,
                                  .msg_controllen = sizeof control};
        count = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    } while (count < 0 && errno == EINTR);
    *out_fd_count = count >= 0 ? take_fds(&message, out_fds, fd_room) : 0;
    return count < 0 ? -errno : (int64_t)count;
}

int sri_wire_write_fds(int fd, const void *bytes, size_t size_bytes, const int *fds,
                       uint32_t fd_count) {
    _Alignas(struct cmsghdr) unsigned char control[CMSG_SPACE(FDS_MAX * sizeof(int))];
    /* sendmsg(2) does not write there; iovec just has no const. */
    struct iovec slice = {(void *)(uintptr_t)bytes, size_bytes};
    struct msghdr message = {.msg_iov = &slice, .msg_iovlen = 1};
    ssize_t sent = 0;
    SR_CHECK(fd_count <= FDS_MAX);
    if (fd_count > 0) {
        memset(control, 0, sizeof control);
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(head), fds, fd_count * sizeof(int));
    }
    do {
        sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        return -errno;
    }
    return (size_t)sent == size_bytes ? 0 : -EAGAIN;
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
