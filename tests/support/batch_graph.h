/* SPDX-License-Identifier: MIT */
/*
 * Batch graph: a graph of a batch as plain data, as a generator makes it (batch_maker.h). What the
 * operations will bring is known by construction, so that a reference (batch_reference.h) can tell
 * every outcome; a simulator (batch_simulator.h) and the library itself (batch_run.h) run the same
 * graph.
 *
 * Nodes are numbered so that edges and arguments always lead from a higher number to a lower one:
 * to walk by number is to walk in a topological order. In which order they are added to a batch is
 * another matter, see batch_run.c.
 */
#ifndef SAFERING_TESTS_SUPPORT_BATCH_GRAPH_H
#define SAFERING_TESTS_SUPPORT_BATCH_GRAPH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define BATCH_NONE UINT32_MAX

#define BATCH_DATA_BYTES   4096u /* of the file that is read: byte i is i % 251 */
#define BATCH_BUFFER_BYTES 512u  /* of the pool's buffers, and of the caller's */

/* What a node does. */
enum batch_work {
    BATCH_NOP,
    BATCH_READ,            /* of the data file, into a buffer of the pool or of the caller */
    BATCH_READ_WRITE_ONLY, /* of a descriptor that is open for writing alone: -EBADF */
    BATCH_READ_OPENED,     /* file_from */
    BATCH_WRITE,           /* buffer_from, perhaps length_from, to a scratch file */
    BATCH_REFILL,          /* a read into buffer_from */
    BATCH_OPEN,
    BATCH_OPEN_MISSING, /* -ENOENT */
    BATCH_OPEN_DIR,
    BATCH_OPEN_IN,   /* file_from: a directory */
    BATCH_RENAME_IN, /* new_dir_from: a directory; of a file that is not there: -ENOENT */
    BATCH_WATCH,     /* other_from: a regular file to epoll_ctl(2), which refuses it: -EPERM */
    BATCH_CLOSE,     /* file_from */
    BATCH_STATX,     /* of the data file, by path: its size serves as a length */
    BATCH_TIMEOUT,
    BATCH_PIPE, /* a read of an empty pipe: in flight until somebody writes or it is ended */
    BATCH_WORKS
};

struct batch_edge {
    uint32_t dependency;
    uint32_t when; /* enum sr_when */
};

struct batch_node {
    enum batch_work work;
    bool cleanup;
    bool full;      /* SR_REQUEST_FULL */
    bool from_pool; /* takes a buffer of the pool */
    bool silent;    /* has no callback */
    /* The result is the one below. Else it may be another: a deadline, a file that is closed
     * meanwhile, bytes that come in another order. */
    bool is_known;
    bool misses_edge; /* takes an argument of a node that no edge leads to */
    /* Arguments: the node that brings it, or BATCH_NONE. */
    uint32_t file_from;
    uint32_t new_dir_from;
    uint32_t other_from;
    uint32_t length_from;
    uint32_t buffer_from;
    uint32_t added_by; /* the node in whose callback it is added; BATCH_NONE: before the start */
    uint64_t offset;
    uint64_t length; /* unless length_from */
    uint64_t deadline_ns;
    uint64_t duration_ns;
    /* What the operation brings: the code, or as many bytes as asked but no more than there are. */
    int code;
    uint64_t available;
    uint32_t edge_at; /* its edges in the graph's array, in the order in which they are added */
    uint32_t edge_count;
};

struct batch_graph {
    struct batch_node *nodes;
    struct batch_edge *edges;
    uint32_t node_count;
    uint32_t edge_count;
    uint32_t edge_room;
};

void batch_graph_free(struct batch_graph *graph);

/* The same without node @node, and without what takes an argument from it or is added by it.
 * Returns how many nodes were left out. */
uint32_t batch_graph_without(const struct batch_graph *graph, uint32_t node,
                             struct batch_graph *out_graph);
/* The same without an edge; false if a node takes an argument over it. */
bool batch_graph_without_edge(const struct batch_graph *graph, uint32_t node, uint32_t edge,
                              struct batch_graph *out_graph);

/* Whether @node takes an argument of @dependency. */
bool batch_node_takes(const struct batch_node *node, uint32_t dependency);
/* Whether the node carries bytes: its result counts them. */
bool batch_work_transfers(enum batch_work work);
const char *batch_work_name(enum batch_work work);
const char *batch_when_name(uint32_t when);

/* "3 READ pool full <- 1 success, 2 always(file)" */
void batch_node_print(const struct batch_graph *graph, uint32_t node, FILE *out);

#endif
