/* SPDX-License-Identifier: MIT */
#include "support/batch_request.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>

static void fill_open(const struct batch_stage *stage, const struct batch_node *node,
                      sr_request *request) {
    const struct batch_files *files = stage->files;
    request->op = SR_OP_OPENAT;
    request->op_flags = O_RDONLY | O_CLOEXEC;
    request->path = node->work == BATCH_OPEN_MISSING ? files->missing
                    : node->work == BATCH_OPEN_DIR   ? files->dir
                    : node->work == BATCH_OPEN_IN    ? "data"
                                                     : files->data;
    if (node->work == BATCH_OPEN_DIR) {
        request->op_flags |= O_DIRECTORY;
    }
}

static void fill_transfer(const struct batch_stage *stage, const struct batch_node *node,
                          sr_buffer buffer, sr_request *request) {
    request->op = node->work == BATCH_WRITE ? SR_OP_WRITE : SR_OP_READ;
    request->flags = node->full ? SR_REQUEST_FULL : 0;
    request->length = node->length;
    request->offset = node->offset;
    request->file = node->work == BATCH_READ_WRITE_ONLY ? stage->write_only
                    : node->work == BATCH_WRITE         ? stage->scratch
                    : node->work == BATCH_READ_OPENED   ? SR_FILE_NONE
                                                        : stage->data;
    if (node->work == BATCH_PIPE) {
        request->file = stage->pipe;
        request->offset = SR_OFFSET_CURRENT;
    }
    if (node->buffer_from == BATCH_NONE && !node->from_pool) {
        request->buffer = buffer;
    }
}

void batch_request_fill(const struct batch_stage *stage, const struct batch_node *node,
                        sr_buffer buffer, sr_request *request) {
    switch (node->work) {
    case BATCH_NOP:
        request->op = SR_OP_NOP;
        break;
    case BATCH_OPEN:
    case BATCH_OPEN_MISSING:
    case BATCH_OPEN_DIR:
    case BATCH_OPEN_IN:
        fill_open(stage, node, request);
        break;
    case BATCH_RENAME_IN:
        request->op = SR_OP_RENAMEAT;
        request->path = stage->files->missing;
        request->new_path = "elsewhere";
        break;
    case BATCH_WATCH:
        request->op = SR_OP_EPOLL_CTL;
        request->op_flags = EPOLL_CTL_ADD;
        request->mask = EPOLLIN;
        request->file = stage->epoll;
        break;
    case BATCH_CLOSE:
        request->op = SR_OP_CLOSE;
        request->op_flags = !node->is_known && node->edge_count % 2 == 0 ? SR_CLOSE_CANCEL : 0;
        break;
    case BATCH_STATX:
        request->op = SR_OP_STATX;
        request->path = stage->files->data;
        request->mask = STATX_SIZE;
        break;
    case BATCH_TIMEOUT:
        request->op = SR_OP_TIMEOUT;
        request->duration_ns = node->duration_ns;
        break;
    default:
        fill_transfer(stage, node, buffer, request);
        break;
    }
}
