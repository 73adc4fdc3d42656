/* SPDX-License-Identifier: MIT */
/* Channels over memory that the worker can write only its answers in: all that test_channel.c does
 * to one over a socket. */
#define CHANNEL_ISOLATION SR_ISOLATION_HYBRID
#include "fault/test_channel.c"
