/* SPDX-License-Identifier: MIT */
/* Batch request: what a node of a graph (batch_graph.h) does, as a request for a ring. */
#ifndef SAFERING_TESTS_SUPPORT_BATCH_REQUEST_H
#define SAFERING_TESTS_SUPPORT_BATCH_REQUEST_H

#include "support/batch_graph.h"
#include "support/batch_stage.h"

/* @buffer: the caller's, for a node that brings none of its own. */
void batch_request_fill(const struct batch_stage *stage, const struct batch_node *node,
                        sr_buffer buffer, sr_request *request);

#endif
