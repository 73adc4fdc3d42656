/* SPDX-License-Identifier: MIT */
/*
 * Packet: one message with descriptors over a SOCK_SEQPACKET pair. What arrives comes whole or is
 * said to be cut; each descriptor in it is close-on-exec and the receiver's, who ends it with
 * sri_packet_drop() or takes it out. Nothing but sri_packet_await() waits.
 *
 * On a stream socket, with the first bytes that go over it: those may arrive in pieces, and the
 * descriptors with the first piece.
 */
#ifndef SAFERING_SYS_PACKET_H
#define SAFERING_SYS_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SRI_PACKET_FDS_MAX 253u /* SCM_MAX_FD of the kernel */

struct sri_packet {
    size_t size_bytes;
    bool is_cut;       /* more bytes came than there was room for */
    bool has_lost_fds; /* descriptors came for which this process had no room: the kernel has
                          closed them */
    int32_t sender;    /* pid, if sri_packet_tell_sender(); else 0 */
    uint32_t fd_count;
    int fds[SRI_PACKET_FDS_MAX];
};

/* Two ends, close-on-exec and not blocking. */
int sri_packet_pair(int out_fds[2]);
/* From now on what arrives says who sent it, as this process sees that one. */
int sri_packet_tell_sender(int fd);

/* 0, -EAGAIN (no room now; on a stream a part may be gone), or another code. @fds are borrowed. */
int sri_packet_send(int fd, const void *bytes, size_t size_bytes, const int *fds,
                    uint32_t fd_count);

/* 1: a packet, perhaps an empty one. 0: the other end is closed and nothing is left to read.
 * -EAGAIN: nothing now. */
int sri_packet_receive(int fd, void *bytes, size_t room_bytes, struct sri_packet *out_packet);

/* The same, waits: never -EAGAIN. For a socket that blocks. */
int sri_packet_await(int fd, void *bytes, size_t room_bytes, struct sri_packet *out_packet);

/* Closes the descriptors that are still in it. */
void sri_packet_drop(struct sri_packet *packet);

/* Closes a descriptor and leaves -1 behind; -1 is allowed. */
void sri_fd_drop(int *fd);

#endif
