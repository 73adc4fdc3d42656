/* SPDX-License-Identifier: MIT */
/*
 * Report: the launcher's words to its host. What cannot be sent now, because the host does not
 * read, stays owed in the table; nothing is lost and nothing piles up.
 */
#ifndef SAFERING_WORKER_REPORT_H
#define SAFERING_WORKER_REPORT_H

#include "worker/launched.h"

/* Says hello; 0 or a code. */
int sri_report_hello(struct sri_launch_state *state);

/* The answer to a request that leads to no worker. At most one is owed at a time. */
void sri_report_answer(struct sri_launch_state *state, enum sri_launch_kind kind,
                       const struct sri_launch_header *request, int code);

/* Sends what is owed, as far as the host reads; gives entries back whose last word was sent. */
void sri_report_send_owed(struct sri_launch_state *state);

#endif
