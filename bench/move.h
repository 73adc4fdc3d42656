/* SPDX-License-Identifier: MIT */
/* share.move: what the ring has that moves. */
#ifndef BENCH_MOVE_H
#define BENCH_MOVE_H

enum { MOVE_FILES = 16, MOVE_BUFFERS = 64, MOVE_BUFFER_BYTES = 4096 };

#endif
