/* SPDX-License-Identifier: MIT */
/* What all sides of ipc.wake_hot and ipc.wake_cold have in common: the message, and the two places.
 */
#ifndef BENCH_RALLY_H
#define BENCH_RALLY_H

#include <stdatomic.h>
#include <stdint.h>

/* One direction: a value, and the number that says that it is there. A line of its own. */
struct rally_place {
    _Alignas(64) uint64_t value;
    _Atomic uint32_t number;
};

/* Not so long that a test hangs, long enough on any machine: the other thread is lost. */
#define RALLY_PATIENCE_NS UINT64_C(60000000000)

#endif
