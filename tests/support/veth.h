/* SPDX-License-Identifier: MIT */
/*
 * Veth: two network namespaces of the test's own, joined by a pair of virtual interfaces. What goes
 * over it is on the way: it can be lost, held up and sent again, which loopback never does.
 */
#ifndef SAFERING_TESTS_SUPPORT_VETH_H
#define SAFERING_TESTS_SUPPORT_VETH_H

#include <netinet/in.h>
#include <stdbool.h>

enum veth_side { VETH_NEAR, VETH_FAR };

/* The calling thread is in the near namespace afterwards. Returns NULL, or why there is no such
 * network here. It goes with the process. */
const char *veth_begin(void);
/* A socket in one of the namespaces; close-on-exec. */
int veth_socket(enum veth_side side, int type);
struct sockaddr_in veth_address(enum veth_side side, in_port_t port);

/* Up and down; what is sent to a side that is down is lost. */
void veth_set_up(enum veth_side side, bool up);
/* Whether the far side answers who it is. Until it does, what is sent to it waits in the near
 * side's neighbour table, for some seconds. */
void veth_set_answers(bool answers);

#endif
