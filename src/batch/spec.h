/* SPDX-License-Identifier: MIT */
/* Spec: what a node asks for, checked and copied, until its operation is submitted. */
#ifndef SAFERING_BATCH_SPEC_H
#define SAFERING_BATCH_SPEC_H

#include "batch/batch.h"

/* One block: paths, address, descriptors and slices lie behind it. */
struct sri_node_spec {
    sr_request request;
    sr_pool *pool;
    uint64_t pool_bytes;
};

/* The words of a spec: size, flags, request. */
int sri_spec_check(const sr_batch *batch, const sr_node_spec *given);
/* The nodes of its arguments, SRI_NODE_NONE for none; and whether they can bring, and the request
 * can take, what is asked of them. */
int sri_spec_find_arguments(const sr_batch *batch, const sr_node_spec *given,
                            uint32_t *out_arguments);
/* NULL when memory is short. */
struct sri_node_spec *sri_spec_copy(const sr_node_spec *given);

/* Whether @opcode uses one range of one buffer. */
bool sri_spec_uses_buffer(uint16_t opcode);
/* Bytes that a request asks for. */
uint64_t sri_spec_asked(const sr_request *request);

#endif
