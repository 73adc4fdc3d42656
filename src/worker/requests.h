/* SPDX-License-Identifier: MIT */
/*
 * Requests: what the host asks of its launcher. A packet is copied out of the socket, checked, and
 * obeyed or refused; the descriptors that came with it are closed here in any case, a worker has
 * copies. A refusal answers with the request's serial where that could be read.
 */
#ifndef SAFERING_WORKER_REQUESTS_H
#define SAFERING_WORKER_REQUESTS_H

#include "worker/launched.h"

/* Takes one request, if one is there and the answer to the one before was sent. */
void sri_requests_take(struct sri_launch_state *state);

#endif
