/* SPDX-License-Identifier: MIT */
#include "sys/packet.h"

#include "core/check.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONTROL_BYTES                                                                              \
    (CMSG_SPACE(SRI_PACKET_FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred)))

/* Room for one large message and its overhead; the kernel doubles and caps it. */
#define SEND_ROOM_BYTES (256 * 1024)

int sri_packet_pair(int out_fds[2]) {
    const int room = SEND_ROOM_BYTES;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, out_fds) != 0) {
        return -errno;
    }
    for (int i = 0; i < 2; i++) {
        /* A smaller room makes a large message fail with a code: no reason to fail now. */
        (void)setsockopt(out_fds[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    }
    return 0;
}

int sri_packet_tell_sender(int fd) {
    const int yes = 1;
    return setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes) == 0 ? 0 : -errno;
}

int sri_packet_send(int fd, const void *bytes, size_t size_bytes, const int *fds,
                    uint32_t fd_count) {
    _Alignas(struct cmsghdr) unsigned char control[CONTROL_BYTES];
    /* sendmsg(2) does not write there; iovec just has no const. */
    struct iovec slice = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size_bytes};
    struct msghdr message = {.msg_iov = &slice, .msg_iovlen = 1};
    ssize_t sent = 0;
    SR_CHECK(fd_count <= SRI_PACKET_FDS_MAX);
    if (fd_count > 0) {
        const size_t fd_bytes = fd_count * sizeof(int);
        memset(control, 0, sizeof control);
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(fd_bytes);
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(fd_bytes);
        memcpy(CMSG_DATA(head), fds, fd_bytes);
    }
    do {
        sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        return -errno;
    }
    return (size_t)sent == size_bytes ? 0 : -EAGAIN;
}

static void take_control(struct msghdr *message, struct sri_packet *packet) {
    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head != NULL;
         head = CMSG_NXTHDR(message, head)) {
        if (head->cmsg_level != SOL_SOCKET) {
            continue;
        }
        if (head->cmsg_type == SCM_CREDENTIALS) {
            struct ucred sender;
            memcpy(&sender, CMSG_DATA(head), sizeof sender);
            packet->sender = sender.pid;
        } else if (head->cmsg_type == SCM_RIGHTS) {
            const size_t bytes = head->cmsg_len - CMSG_LEN(0);
            SR_CHECK(packet->fd_count * sizeof(int) + bytes <= sizeof packet->fds);
            memcpy(packet->fds + packet->fd_count, CMSG_DATA(head), bytes);
            packet->fd_count += (uint32_t)(bytes / sizeof(int));
        }
    }
}

/* A packet without bytes looks like the end of the stream; only the end hangs up. */
static bool is_hung_up(int fd) {
    struct pollfd socket = {.fd = fd, .events = POLLRDHUP};
    return poll(&socket, 1, 0) > 0 && (socket.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

static int receive(int fd, void *bytes, size_t room_bytes, int flags,
                   struct sri_packet *out_packet) {
    _Alignas(struct cmsghdr) unsigned char control[CONTROL_BYTES];
    struct iovec slice = {.iov_base = bytes, .iov_len = room_bytes};
    struct msghdr message = {.msg_iov = &slice,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    ssize_t got = 0;
    memset(out_packet, 0, sizeof *out_packet);
    do {
        got = recvmsg(fd, &message, flags | MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        /* Reset: closed at the other end with messages of ours unread. */
        return errno == ECONNRESET ? 0 : -errno;
    }
    take_control(&message, out_packet);
    out_packet->size_bytes = (size_t)got;
    out_packet->is_cut = (message.msg_flags & MSG_TRUNC) != 0;
    out_packet->has_lost_fds = (message.msg_flags & MSG_CTRUNC) != 0;
    return got > 0 || out_packet->fd_count > 0 || !is_hung_up(fd) ? 1 : 0;
}

int sri_packet_receive(int fd, void *bytes, size_t room_bytes, struct sri_packet *out_packet) {
    return receive(fd, bytes, room_bytes, MSG_DONTWAIT, out_packet);
}

int sri_packet_await(int fd, void *bytes, size_t room_bytes, struct sri_packet *out_packet) {
    return receive(fd, bytes, room_bytes, 0, out_packet);
}

void sri_packet_drop(struct sri_packet *packet) {
    for (uint32_t i = 0; i < packet->fd_count; i++) {
        (void)close(packet->fds[i]); /* of a stranger: whatever it says, it is closed */
    }
    packet->fd_count = 0;
}

void sri_fd_drop(int *fd) {
    if (*fd >= 0) {
        (void)close(*fd); /* nothing was written to it whose loss could matter now */
    }
    *fd = -1;
}
