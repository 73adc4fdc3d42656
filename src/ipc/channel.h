/* SPDX-License-Identifier: MIT */
/*
 * Channel: calls over a link. It is a client of the ring (ring/client.h): what was called goes out,
 * and what is due is given up, in the ring's turns.
 *
 * channel.c is its life and what comes, channel_call.c what its user asks of it.
 *
 * Neighbours: call.h keeps what has no answer, link.h moves the frames, hello.h is the worker's
 * table of methods.
 */
#ifndef SAFERING_IPC_CHANNEL_H
#define SAFERING_IPC_CHANNEL_H

#include "ipc/call.h"
#include "ipc/hello.h"
#include "ipc/lane_host.h"
#include "ipc/link.h"
#include "ipc/sandbox_policy.h"
#include "ring/client.h"

#define SRI_CHANNEL_MAGIC     UINT32_C(0x43484101)
#define SRI_PAYLOAD_MAX_BYTES (UINT32_C(1) << 30)

struct sr_channel {
    uint32_t magic;
    bool ready;
    bool closing;
    uint64_t owner_key;
    struct sri_ring_client client;
    struct sri_link link;       /* its socket: the beginning, the end, and calls unless: */
    struct sri_lane_host *lane; /* owned; NULL: isolation FULL */
    struct sri_calls calls;
    struct sri_hello hello;
    uint8_t *hello_bytes; /* owned */
    /* Owned: what the worker is asked to enter before its hello; NULL: nothing. */
    struct sri_sandbox_policy *policy;
    bool has_report;
    struct sri_sandbox_report report; /* the worker's word about that */
    sr_channel_options options;
    sr_channel_stats stats; /* the totals in it; the rest is filled when asked */
};

struct sri_channel_setup {
    /* Copies: what the worker has to enter first, or NULL. When it cannot, on_state hears the code,
     * and the report says which layer. */
    const struct sri_sandbox_policy *policy;
    uint32_t pairs; /* of host and worker that share the CPUs; 0: this one alone */
};

/* Of the options that channels and services have: isolation and arena. 0 or SR_E_BOUNDS. */
int sri_isolation_check(uint32_t isolation, uint64_t arena_bytes);

/* As sr_channel_open(). @setup: NULL for none. */
int sri_channel_open(sr_ring *ring, int socket, const sr_channel_options *options,
                     const struct sri_channel_setup *setup, sr_channel **out_channel);

/* As sr_channel_close(), for the turn of another client: never waits. SR_E_IN_FLIGHT: everything
 * has been told, and the kernel still has a buffer; to be called again in a later turn. */
int sri_channel_close_in_turn(sr_channel **channel);

#endif
