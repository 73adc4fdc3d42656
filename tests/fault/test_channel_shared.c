/* SPDX-License-Identifier: MIT */
/* Channels over memory that both can write: all that test_channel.c does to one over a socket. */
#define CHANNEL_ISOLATION SR_ISOLATION_SHARED
#include "fault/test_channel.c"
