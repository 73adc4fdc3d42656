/* SPDX-License-Identifier: MIT */
/* Wire: a connected stream socket, read and written by a thread that may block. */
#ifndef SAFERING_SYS_WIRE_H
#define SAFERING_SYS_WIRE_H

#include <stddef.h>
#include <stdint.h>

/* Two connected ends, close-on-exec. Returns 0 or a negative errno. */
int sri_stream_pair(int out_fds[2]);

/* Reads what is there, 1 .. size_bytes; waits for the first byte. Returns a count, 0 at the end of
 * the stream, or a negative errno. */
int64_t sri_wire_read(int fd, void *bytes, size_t size_bytes);

/* Writes all. Returns 0 or a negative errno; a peer that is gone raises no SIGPIPE. */
int sri_wire_write(int fd, const void *bytes, size_t size_bytes);

#endif
