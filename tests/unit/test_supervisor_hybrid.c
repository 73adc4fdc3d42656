/* SPDX-License-Identifier: MIT */
/* Services whose workers are called over shared memory: all that test_supervisor.c asks of those
 * that are called over a socket. */
#define SERVICE_ISOLATION SR_ISOLATION_HYBRID
#include "unit/test_supervisor.c"
