/* SPDX-License-Identifier: MIT */
/* A batch as a picture: a Graphviz digraph. */
#include "batch/batch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

static const char *const opcode_names[SR_OP_COUNT] = {
    "nop",        "read",       "write",      "readv",     "writev",  "fsync",    "fdatasync",
    "sync_range", "fallocate",  "ftruncate",  "openat",    "close",   "statx",    "unlinkat",
    "renameat",   "mkdirat",    "linkat",     "symlinkat", "fadvise", "madvise",  "timeout",
    "splice",     "tee",        "socket",     "bind",      "listen",  "accept",   "connect",
    "send",       "recv",       "sendmsg",    "recvmsg",   "send_zc", "shutdown", "poll",
    "waitid",     "futex_wait", "futex_wake", "epoll_ctl",
};

static const char *const stop_names[] = {"", "fail-fast", "deadline", "caller"};

/* Writes what fits and counts all. */
struct printer {
    char *text;
    size_t size_bytes;
    size_t length;
};

__attribute__((format(printf, 2, 3))) static void print(struct printer *printer, const char *format,
                                                        ...) {
    const bool fits = printer->length < printer->size_bytes;
    va_list arguments;
    va_start(arguments, format);
    const int length =
        vsnprintf(fits ? printer->text + printer->length : NULL,
                  fits ? printer->size_bytes - printer->length : 0, format, arguments);
    va_end(arguments);
    SR_CHECK(length >= 0);
    printer->length += (size_t)length;
}

static void print_outcome(struct printer *printer, const sr_batch *batch,
                          const struct sri_node *node) {
    switch (node->outcome) {
    case SR_OUTCOME_DONE:
        print(printer, "done %" PRId64, node->result);
        break;
    case SR_OUTCOME_FAILED:
        print(printer, "failed %s", sr_error_name((int)node->result));
        break;
    case SR_OUTCOME_CANCELLED:
        print(printer, "cancelled by %s", stop_names[node->cancelled_by]);
        break;
    default: {
        const struct sri_node *cause = sri_node_find(&batch->nodes, node->cause);
        print(printer, "skipped");
        if (cause != NULL) {
            print(printer, " for n%" PRIu64, cause->sequence);
        }
        break;
    }
    }
}

static void print_node(struct printer *printer, const sr_batch *batch,
                       const struct sri_node *node) {
    static const char *const states[] = {
        [SRI_NODE_FREE] = "",       [SRI_NODE_NEW] = "new",          [SRI_NODE_PENDING] = "pending",
        [SRI_NODE_READY] = "ready", [SRI_NODE_FLYING] = "in flight", [SRI_NODE_DECIDED] = "decided",
        [SRI_NODE_ENDED] = "",
    };
    print(printer, "    n%" PRIu64 " [label=\"%s %" PRIu64 "\\n", node->sequence,
          opcode_names[node->opcode], node->tag);
    if (sri_node_has_outcome(node)) {
        print_outcome(printer, batch, node);
    } else {
        print(printer, "%s", states[node->state]);
    }
    print(printer, "\"%s];\n", sri_node_is_cleanup(node) ? ", style=rounded" : "");
}

static void print_edges(struct printer *printer, const sr_batch *batch,
                        const struct sri_node *node) {
    static const char *const when_names[] = {"success", "failure", "always"};
    for (uint32_t i = node->edge_first; i != SRI_EDGE_NONE;) {
        const struct sri_edge *edge = sri_edge_at(&batch->edges, i);
        print(printer, "    n%" PRIu64 " -> n%" PRIu64 " [label=\"%s\"%s];\n", node->sequence,
              sri_node_at(&batch->nodes, edge->to)->sequence, when_names[edge->when],
              edge->argument ? ", style=bold" : "");
        i = edge->next;
    }
}

int sr_batch_dot(sr_batch *batch, char *out_text, size_t size_bytes, size_t *out_length) {
    int code = out_length == NULL || (out_text == NULL && size_bytes > 0) ? -EINVAL : 0;
    if (out_length != NULL) {
        *out_length = 0;
    }
    if (code == 0) {
        code = sri_batch_check(batch);
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    struct printer printer = {out_text, size_bytes, 0};
    print(&printer, "digraph batch {\n    node [shape=box];\n");
    for (uint32_t i = 0; i < batch->nodes.place_count; i++) {
        const struct sri_node *node = sri_node_at(&batch->nodes, i);
        if (node->handle != 0) {
            print_node(&printer, batch, node);
            print_edges(&printer, batch, node);
        }
    }
    print(&printer, "}\n");
    *out_length = printer.length;
    return printer.length < size_bytes ? 0 : SR_E_BOUNDS;
}
