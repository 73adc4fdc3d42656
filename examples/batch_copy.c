/* SPDX-License-Identifier: MIT */
/* batch_copy DIR FILE...: copies files of up to 1 MiB into a directory, all in one batch. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <safering/safering.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define AT_A_TIME 64 /* files, with two descriptors each; `in_flight_max` is about operations */
#define MINUTE_NS 60000000000u

/* Each file is read and written in one piece; both ends are closed whatever happens; a copy that
 * was not finished is removed after the one node that failed. */
enum { NONE, OPEN, STAT, READ, CREATE, WRITE, SYNC, RENAME, CLOSE, END, UNDO, UNDO2, UNDO3, STEPS };

static const struct {
    const char *name;
    uint16_t op, flags;
    int file, length, buffer; /* arguments: of which node */
    int after, when;          /* one more edge */
    uint32_t cleanup;
} graph[STEPS] = {
    [OPEN] = {"open", .op = SR_OP_OPENAT},
    [STAT] = {"stat", .op = SR_OP_STATX, .file = OPEN},
    [READ] = {"read", .op = SR_OP_READ, SR_REQUEST_FULL, .file = OPEN, .length = STAT},
    [CREATE] = {"create", .op = SR_OP_OPENAT, .after = READ},
    [WRITE] = {"write", SR_OP_WRITE, SR_REQUEST_FULL, CREATE, READ, READ, .after = NONE},
    [SYNC] = {"fsync", .op = SR_OP_FSYNC, .file = CREATE, .after = WRITE},
    [RENAME] = {"rename", .op = SR_OP_RENAMEAT, .after = SYNC},
    [CLOSE] = {"close", SR_OP_CLOSE, 0, OPEN, 0, 0, READ, SR_ALWAYS, SR_NODE_CLEANUP},
    [END] = {"close", SR_OP_CLOSE, 0, CREATE, 0, 0, SYNC, SR_ALWAYS, SR_NODE_CLEANUP},
    [UNDO] = {"unlink", SR_OP_UNLINKAT, 0, 0, 0, 0, WRITE, SR_ON_FAILURE, SR_NODE_CLEANUP},
    [UNDO2] = {"unlink", SR_OP_UNLINKAT, 0, 0, 0, 0, SYNC, SR_ON_FAILURE, SR_NODE_CLEANUP},
    [UNDO3] = {"unlink", SR_OP_UNLINKAT, 0, 0, 0, 0, RENAME, SR_ON_FAILURE, SR_NODE_CLEANUP},
};

static int add_edge(sr_batch *batch, sr_node node, sr_node dependency, int when) {
    return dependency.bits == 0 ? 0 : sr_batch_after(batch, node, dependency, (uint32_t)when);
}

static int add_node(sr_batch *batch, int i, sr_node_spec *spec, sr_node *nodes) {
    spec->request.op = graph[i].op;
    spec->request.flags = graph[i].flags;
    spec->request.tag = (uint64_t)i;
    spec->flags = graph[i].cleanup;
    spec->file_from = nodes[graph[i].file];
    spec->length_from = nodes[graph[i].length];
    spec->buffer_from = nodes[graph[i].buffer];
    int code = sr_batch_add(batch, spec, &nodes[i]);
    code = code < 0 ? code : add_edge(batch, nodes[i], spec->file_from, SR_ON_SUCCESS);
    code = code < 0 ? code : add_edge(batch, nodes[i], spec->length_from, SR_ON_SUCCESS);
    code = code < 0 ? code : add_edge(batch, nodes[i], spec->buffer_from, SR_ON_SUCCESS);
    return code < 0 ? code : add_edge(batch, nodes[i], nodes[graph[i].after], graph[i].when);
}

/* @earlier: the nodes of the file that is to be closed before this one is opened. */
static int add_file(sr_batch *batch, sr_pool *pool, const char *directory, const char *path,
                    sr_node nodes[STEPS], const sr_node earlier[STEPS]) {
    char name[PATH_MAX], temporary[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (snprintf(name, PATH_MAX, "%s/%s", directory, slash != NULL ? slash + 1 : path) >=
            PATH_MAX ||
        snprintf(temporary, PATH_MAX, "%s.new", name) >= PATH_MAX) {
        return -ENAMETOOLONG;
    }
    int code = 0;
    for (int i = OPEN; i < STEPS && code == 0; i++) {
        sr_node_spec spec = SR_NODE_SPEC_INIT;
        spec.pool = i == READ ? pool : NULL;
        spec.request.path = i == OPEN ? path : i == STAT ? "" : temporary;
        spec.request.new_path = name;
        spec.request.op_flags = i == STAT ? AT_EMPTY_PATH : 0;
        spec.request.mask = STATX_SIZE;
        if (i == CREATE) {
            spec.request.op_flags = O_WRONLY | O_CREAT | O_EXCL;
            spec.request.mode = 0666;
        }
        code = add_node(batch, i, &spec, nodes);
    }
    code = code < 0 ? code : add_edge(batch, nodes[OPEN], earlier[CLOSE], SR_ALWAYS);
    return code < 0 ? code : add_edge(batch, nodes[OPEN], earlier[END], SR_ALWAYS);
}

static void on_progress(sr_batch *batch, const sr_batch_stats *stats, void *ctx) {
    (void)batch;
    (void)ctx;
    fprintf(stderr, "\r%llu of %llu operations",
            (unsigned long long)stats->nodes_total - stats->nodes_alive,
            (unsigned long long)stats->nodes_total);
}

/* A line for each node that did not run to its end. Returns 1 if there are any. */
static int report(sr_batch *batch, const char *path, const sr_node nodes[STEPS]) {
    static const char *const stops[] = {"nobody", "fail-fast", "the deadline", "the caller"};
    int failed = 0;
    for (int i = OPEN; i < STEPS; i++) {
        sr_node_outcome own, cause;
        if (sr_batch_outcome(batch, nodes[i], &own) < 0 || own.state == SR_OUTCOME_DONE) {
            continue;
        }
        if (own.state == SR_OUTCOME_FAILED) {
            fprintf(stderr, "%s: %s: %s\n", path, graph[i].name, sr_strerror((int)own.result));
        } else if (own.state == SR_OUTCOME_CANCELLED) {
            fprintf(stderr, "%s: %s: cancelled by %s\n", path, graph[i].name,
                    stops[own.cancelled_by]);
        } else if (graph[i].cleanup != 0 || sr_batch_outcome(batch, own.cause, &cause) < 0) {
            continue; /* nothing to clean up */
        } else {
            fprintf(stderr, "%s: %s: skipped because of %s\n", path, graph[i].name,
                    graph[cause.tag].name);
        }
        failed = 1;
    }
    return failed;
}

static int copy(sr_ring *ring, sr_pool *pool, char **argv, int count, sr_node (*nodes)[STEPS]) {
    static const sr_node none[STEPS];
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    sr_batch *batch = NULL;
    options.nodes_max = 1u << 20;
    options.in_flight_max = AT_A_TIME;
    options.deadline_ns = MINUTE_NS;
    options.on_progress = on_progress;
    int code = sr_batch_create(ring, &options, &batch);
    for (int i = 0; i < count && code == 0; i++) {
        code = add_file(batch, pool, argv[1], argv[i + 2], nodes[i],
                        i < AT_A_TIME ? none : nodes[i - AT_A_TIME]);
    }
    code = code < 0 ? code : sr_batch_run(batch, SR_FOREVER, NULL);
    fprintf(stderr, "\n");
    int failed = 0;
    for (int i = 0; i < count && code == 0; i++) {
        failed += report(batch, argv[i + 2], nodes[i]);
    }
    const int end = sr_batch_destroy(&batch);
    code = code < 0 ? code : end;
    return code < 0 ? code : failed;
}

int main(int argc, char **argv) {
    sr_pool_options options = SR_POOL_OPTIONS_2M;
    sr_ring *ring = NULL;
    sr_pool *pool = NULL;
    sr_node(*nodes)[STEPS] = argc > 2 ? calloc((size_t)argc - 2, sizeof *nodes) : NULL;
    if (nodes == NULL) {
        fprintf(stderr, "usage: batch_copy DIR FILE...\n");
        return 2;
    }
    options.buffer_size_bytes = 1u << 20;
    int code = sr_ring_create(NULL, &ring);
    code = code < 0 ? code : sr_pool_create(NULL, &options, &pool);
    code = code < 0 ? code : sr_ring_attach_pool(ring, pool);
    code = code < 0 ? code : copy(ring, pool, argv, argc - 2, nodes);
    const int ring_end = sr_ring_destroy(&ring);
    const int pool_end = sr_pool_destroy(&pool);
    free(nodes);
    if (code < 0 || ring_end < 0 || pool_end < 0) {
        fprintf(stderr, "batch_copy: %s\n",
                sr_strerror(code < 0       ? code
                            : ring_end < 0 ? ring_end
                                           : pool_end));
        return 1;
    }
    return code > 0 ? 1 : 0;
}
