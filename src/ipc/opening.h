/* SPDX-License-Identifier: MIT */
/*
 * Opening: what the host says to a worker with the first frame beyond its fields: the sandbox that
 * it is to enter before it serves, and the lane over which it is called. Descriptors of the lane
 * come beside it.
 */
#ifndef SAFERING_IPC_OPENING_H
#define SAFERING_IPC_OPENING_H

#include "ipc/lane.h"
#include "ipc/sandbox_policy.h"

struct sri_opening {
    struct sri_lane_shape lane;       /* isolation 0: calls come over the socket */
    struct sri_sandbox_policy policy; /* magic 0: there is no sandbox */
};

#endif
