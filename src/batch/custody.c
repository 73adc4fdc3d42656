/* SPDX-License-Identifier: MIT */
/*
 * Files and buffers between nodes. A file that a node has brought, and a buffer that it was given,
 * belong to the batch until a node or the caller takes them, or nobody needs them any more.
 */
#include "batch/batch.h"

#include <errno.h>

bool sri_custody_hold_pool(sr_batch *batch, struct sri_node *node, const sr_pool *pool) {
    sr_ring *ring = sri_batch_ring(batch);
    struct sri_ring_pool *place = sri_ring_place_of(ring, pool);
    if (place == NULL) {
        return false;
    }
    place->op_count++;
    node->pool = (uint8_t)(place - ring->pools);
    return true;
}

int sri_custody_acquire(sr_batch *batch, struct sri_node *node, uint64_t bytes) {
    sr_pool *pool = sri_batch_ring(batch)->pools[node->pool].pool;
    sr_buffer buffer = SR_BUFFER_NONE;
    if (!sri_pool_has_free(pool)) {
        return SR_E_FULL;
    }
    const int code = sr_pool_acquire(pool, bytes != 0 ? bytes : pool->size_bytes, &buffer);
    if (code == 0) {
        node->buffer = buffer.bits;
        node->owns_buffer = true;
    }
    return code;
}

void sri_custody_let_buffer_go(sr_batch *batch, struct sri_node *node) {
    if (node->pool != SRI_POOL_NONE) {
        sri_batch_ring(batch)->pools[node->pool].op_count--;
        node->pool = SRI_POOL_NONE;
    }
    node->owns_buffer = false;
}

void sri_custody_return_buffer(sr_batch *batch, struct sri_node *node) {
    if (node->owns_buffer) {
        sr_ring *ring = sri_batch_ring(batch);
        sr_pool *pool = ring->pools[node->pool].pool;
        /* Not in the hands of an abandoned operation, which quarantines it. A broken canary, or an
         * operation of the caller's that still uses it, is told as misuse: it is not the batch's.
         */
        if (sri_pool_find(pool, node->buffer) != NULL) {
            const int code = sr_pool_release(pool, (sr_buffer){node->buffer});
            (void)code;
        }
        sri_ring_want_turn(ring); /* somebody may wait for it */
    }
    sri_custody_let_buffer_go(batch, node);
}

void sri_custody_drop_file(sr_batch *batch, struct sri_node *node) {
    sr_ring *ring = sri_batch_ring(batch);
    if (!node->owns_file) {
        return;
    }
    node->owns_file = false;
    struct sri_file *file = sri_file_find(&ring->files, node->file);
    if (file != NULL && file->state == SRI_FILE_OPEN) {
        sri_file_drop(ring, file);
        batch->stats.descriptors_closed_total++;
        sri_ring_want_turn(ring);
    }
}

void sri_custody_drop_message(sr_batch *batch, const sr_message *message) {
    for (uint32_t i = 0; i < message->descriptor_count; i++) {
        sri_ring_drop_fd(sri_batch_ring(batch), message->descriptors[i]);
        batch->stats.descriptors_closed_total++;
    }
}

void sri_custody_refer(sr_batch *batch, struct sri_node *node) {
    if (node->buffer_root != SRI_NODE_NONE) {
        struct sri_node *root = sri_node_at(&batch->nodes, node->buffer_root);
        root->takers++;
        root->references += root != node;
    }
}

static void unrefer(sr_batch *batch, struct sri_node *node) {
    SR_CHECK(node->references > 0);
    node->references--;
    sri_custody_forget(batch, node);
}

static void buffer_unrefer(sr_batch *batch, struct sri_node *node) {
    struct sri_node *root = sri_node_at(&batch->nodes, node->buffer_root);
    SR_CHECK(root->takers > 0);
    root->takers--;
    if (root->takers == 0) {
        sri_custody_return_buffer(batch, root);
    }
    if (root != node) {
        unrefer(batch, root);
    }
}

void sri_custody_unrefer(sr_batch *batch, struct sri_node *node) {
    while (node->edge_in_first != SRI_EDGE_NONE) {
        const uint32_t place = node->edge_in_first;
        const struct sri_edge *edge = sri_edge_at(&batch->edges, place);
        struct sri_node *dependency = sri_node_at(&batch->nodes, edge->from);
        node->edge_in_first = edge->next_in;
        if (batch->options.forget == 1) {
            sri_edge_release(&batch->edges, place);
        }
        unrefer(batch, dependency);
    }
    if (node->buffer_root != SRI_NODE_NONE) {
        buffer_unrefer(batch, node);
    }
}

void sri_custody_forget(sr_batch *batch, struct sri_node *node) {
    if (batch->options.forget == 1 && node->state == SRI_NODE_ENDED && node->references == 0) {
        sri_custody_drop_file(batch, node);
        sri_node_release(&batch->nodes, node);
    }
}
