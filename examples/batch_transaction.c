/* SPDX-License-Identifier: MIT */
/*
 * batch_transaction [--dot FILE] DIR NAME=SOURCE...
 *
 * Replaces files of a directory, all or none: DIR/NAME gets the contents of SOURCE. One batch:
 *
 *   open and examine each SOURCE - (all examined) - create a temporary file beside each NAME, read
 *   and write in chunks, fsync - (all synced) - rename over NAME, one after the other - fsync DIR
 *
 * Whatever fails before the first rename, SIGINT and SIGTERM stop the batch, and its clean-up nodes
 * remove the temporary files: nothing has changed then. Each rename is atomic, but several are not
 * together: if one fails in the middle the files before it are replaced and the others are not,
 * which is told (status 3); if the machine fails there, nobody is told. A temporary file that a
 * killed program leaves is called .NAME.PID.new.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <safering/safering.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK_BYTES 65536u
#define CHUNKS      32
#define NODES_MAX   (1u << 20)
#define TICK_NS     100000000u

/* What a node is for: the last two digits of its tag; the others are the file's number. */
enum step { OPEN, EXAMINE, READ, FIND_END, CREATE, WRITE, SYNC, REPLACE, REMOVE, CLOSE, GATE };

static const struct {
    uint16_t op;
    uint16_t flags; /* of the request */
    uint32_t op_flags;
    uint32_t node_flags;
    const char *verb;
} steps[] = {
    [OPEN] = {SR_OP_OPENAT, 0, O_RDONLY | O_CLOEXEC, 0, "open"},
    [EXAMINE] = {SR_OP_STATX, 0, AT_EMPTY_PATH, 0, "examine"},
    [READ] = {SR_OP_READ, SR_REQUEST_FULL, 0, 0, "read"},
    [FIND_END] = {SR_OP_READ, 0, 0, 0, "find the end of"},
    [CREATE] = {SR_OP_OPENAT, 0, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0, "make a copy beside"},
    [WRITE] = {SR_OP_WRITE, SR_REQUEST_FULL, 0, 0, "write the copy beside"},
    [SYNC] = {SR_OP_FSYNC, 0, 0, 0, "sync"},
    [REPLACE] = {SR_OP_RENAMEAT, 0, 0, 0, "replace"},
    [REMOVE] = {SR_OP_UNLINKAT, 0, 0, SR_NODE_CLEANUP, NULL},
    [CLOSE] = {SR_OP_CLOSE, 0, 0, SR_NODE_CLEANUP, NULL},
    [GATE] = {SR_OP_NOP, 0, 0, 0, NULL},
};

struct file {
    struct transaction *transaction;
    uint64_t number;    /* 1 and up; 0: the directory */
    const char *name;   /* in the directory */
    const char *source; /* path; of the directory its own */
    char temporary[NAME_MAX + 32];
    uint64_t size_bytes;
    uint32_t mode;
    sr_node opened;
    sr_node created;
    sr_node synced;
    sr_node replaced;
    bool is_replaced;
    bool is_left_behind; /* the temporary file could not be removed */
};

struct transaction {
    sr_ring *ring;
    sr_pool *pool;
    sr_batch *batch;
    struct file directory;
    struct file *files;
    size_t count;
    bool is_committing;        /* from the first rename on signals come too late */
    int code;                  /* of the first call that was refused */
    const struct file *failed; /* the first operation that failed was one of this file */
    enum step failed_step;
    int failed_code;
};

static volatile sig_atomic_t stop_signal;

static void on_signal(int number) {
    stop_signal = number;
}

/* ---- outcomes -------------------------------------------------------------------------------- */

static void stop(sr_batch *batch) {
    const int code = sr_batch_cancel(batch);
    (void)code; /* it has been started, so it can be stopped */
}

static void fail(const struct file *file, enum step step, int64_t code) {
    struct transaction *transaction = file->transaction;
    if (transaction->failed == NULL) { /* what follows the first failure is no news */
        transaction->failed = file;
        transaction->failed_step = step;
        transaction->failed_code = (int)code;
    }
}

static void on_outcome(sr_batch *batch, sr_node node, const sr_node_outcome *outcome, void *ctx) {
    struct file *file = ctx;
    const enum step step = (enum step)(outcome->tag % 100);
    (void)node;
    if (outcome->state == SR_OUTCOME_FAILED && steps[step].verb != NULL) {
        fail(file, step, outcome->result);
    } else if (outcome->state == SR_OUTCOME_FAILED && step == REMOVE) {
        file->is_left_behind = true;
    } else if (outcome->state != SR_OUTCOME_DONE) {
        return;
    } else if (step == EXAMINE) {
        file->size_bytes = outcome->completion->statx->stx_size;
        file->mode = outcome->completion->statx->stx_mode & 0777u;
    } else if (step == FIND_END && outcome->bytes_done > 0) {
        fail(file, step, 0);
        stop(batch);
    } else if (step == REPLACE) {
        file->is_replaced = true;
    }
}

/*
 * All files are synced, or something has failed. Then fail-fast has stopped the batch already, in
 * any other case this does: the renames are CANCELLED, and the roll-back runs after that. It would
 * not run after SKIPPED ones, so they depend on this node and on each other by SR_ALWAYS.
 */
static void on_synced(sr_batch *batch, sr_node node, const sr_node_outcome *outcome, void *ctx) {
    (void)node;
    if (outcome->state == SR_OUTCOME_DONE) {
        ((struct file *)ctx)->transaction->is_committing = true;
    } else {
        stop(batch);
    }
}

/* ---- nodes ----------------------------------------------------------------------------------- */

/* What a step's operation does not use is ignored. */
static sr_node_spec spec_of(struct file *file, enum step step) {
    const sr_node directory = file->transaction->directory.opened;
    const sr_node files[] = {
        [EXAMINE] = file->opened, [READ] = file->opened,  [FIND_END] = file->opened,
        [CREATE] = directory,     [REPLACE] = directory,  [REMOVE] = directory,
        [WRITE] = file->created,  [SYNC] = file->created, [GATE] = SR_NODE_NONE,
    };
    sr_node_spec spec = SR_NODE_SPEC_INIT;
    spec.flags = steps[step].node_flags;
    spec.file_from = files[step];
    spec.new_dir_from = step == REPLACE ? directory : SR_NODE_NONE;
    spec.pool = step == READ || step == FIND_END ? file->transaction->pool : NULL;
    spec.request.op = steps[step].op;
    spec.request.flags = steps[step].flags;
    spec.request.op_flags = steps[step].op_flags;
    spec.request.tag = file->number * 100 + step;
    spec.request.ctx = file;
    spec.request.path = step == OPEN ? file->source : step == EXAMINE ? "" : file->temporary;
    spec.request.new_path = file->name;
    spec.request.mode = file->mode;
    spec.request.mask = STATX_SIZE | STATX_MODE;
    spec.on_outcome = on_outcome;
    return spec;
}

static void after(struct transaction *transaction, sr_node node, sr_node dependency,
                  enum sr_when when) {
    if (transaction->code == 0) {
        transaction->code = sr_batch_after(transaction->batch, node, dependency, (uint32_t)when);
    }
}

/* With an edge for each argument. */
static sr_node add(struct transaction *transaction, const sr_node_spec *spec) {
    const sr_node arguments[] = {spec->file_from, spec->new_dir_from, spec->buffer_from};
    sr_node node = SR_NODE_NONE;
    if (transaction->code == 0) {
        transaction->code = sr_batch_add(transaction->batch, spec, &node);
    }
    for (size_t i = 0; i < sizeof arguments / sizeof arguments[0]; i++) {
        if (arguments[i].bits != 0) {
            after(transaction, node, arguments[i], SR_ON_SUCCESS);
        }
    }
    return node;
}

static sr_node add_step(struct file *file, enum step step) {
    const sr_node_spec spec = spec_of(file, step);
    return add(file->transaction, &spec);
}

static sr_node add_gate(struct transaction *transaction, sr_node_fn on_gate) {
    sr_node_spec spec = spec_of(&transaction->directory, GATE);
    spec.on_outcome = on_gate;
    return add(transaction, &spec);
}

/* Returns the write. */
static sr_node add_chunk(struct file *file, uint64_t offset) {
    const uint64_t left = file->size_bytes - offset;
    sr_node_spec spec = spec_of(file, READ);
    spec.request.offset = offset;
    spec.request.length = left < CHUNK_BYTES ? left : CHUNK_BYTES;
    const sr_node read = add(file->transaction, &spec);
    spec = spec_of(file, WRITE);
    spec.buffer_from = read;
    spec.length_from = read;
    spec.request.offset = offset;
    return add(file->transaction, &spec);
}

static sr_node add_find_end(struct file *file) {
    sr_node_spec spec = spec_of(file, FIND_END);
    spec.request.offset = file->size_bytes;
    spec.request.length = 1;
    return add(file->transaction, &spec);
}

static void add_close(struct file *file, sr_node opened) {
    sr_node_spec spec = spec_of(file, CLOSE);
    spec.file_from = opened;
    after(file->transaction, add(file->transaction, &spec), file->synced, SR_ALWAYS);
}

/* The fsync is after all writes, so it is added after them: in a batch that runs an edge may only
 * point to an older node. */
static void add_copy(struct file *file) {
    struct transaction *transaction = file->transaction;
    const uint64_t count = (file->size_bytes + CHUNK_BYTES - 1) / CHUNK_BYTES;
    sr_node *written = calloc(count + 1, sizeof *written);
    if (written == NULL) {
        transaction->code = transaction->code < 0 ? transaction->code : -ENOMEM;
        return;
    }
    file->created = add_step(file, CREATE);
    for (uint64_t i = 0; i < count && transaction->code == 0; i++) {
        written[i] = add_chunk(file, i * CHUNK_BYTES);
    }
    written[count] = add_find_end(file);
    file->synced = add_step(file, SYNC);
    for (uint64_t i = 0; i <= count; i++) {
        after(transaction, file->synced, written[i], SR_ON_SUCCESS);
    }
    free(written);
    add_close(file, file->opened);
    add_close(file, file->created);
}

static void add_roll_back(struct file *file) {
    const sr_node node = add_step(file, REMOVE);
    after(file->transaction, node, file->created, SR_ON_SUCCESS);
    after(file->transaction, node, file->replaced, SR_ON_FAILURE);
}

/* Also if only some files could be replaced, to make them stay so: it is a clean-up node. */
static void add_sync_of_directory(struct transaction *transaction, sr_node synced, sr_node last) {
    transaction->directory.created = transaction->directory.opened;
    sr_node_spec spec = spec_of(&transaction->directory, SYNC);
    spec.flags = SR_NODE_CLEANUP;
    const sr_node node = add(transaction, &spec);
    after(transaction, node, synced, SR_ON_SUCCESS);
    after(transaction, node, last, SR_ALWAYS);
}

/* The sizes are known: adds the rest of the graph. */
static void on_examined(sr_batch *batch, sr_node node, const sr_node_outcome *outcome, void *ctx) {
    struct transaction *transaction = ((struct file *)ctx)->transaction;
    struct file *const files = transaction->files;
    (void)node;
    if (outcome->state != SR_OUTCOME_DONE) {
        return;
    }
    for (size_t i = 0; i < transaction->count; i++) {
        add_copy(&files[i]);
    }
    const sr_node synced = add_gate(transaction, on_synced);
    for (size_t i = 0; i < transaction->count; i++) {
        after(transaction, synced, files[i].synced, SR_ON_SUCCESS);
        files[i].replaced = add_step(&files[i], REPLACE);
        after(transaction, files[i].replaced, i == 0 ? synced : files[i - 1].replaced, SR_ALWAYS);
        add_roll_back(&files[i]);
    }
    add_sync_of_directory(transaction, synced, files[transaction->count - 1].replaced);
    if (transaction->code < 0) { /* what was added is only a part */
        stop(batch);
    }
}

static void add_all(struct transaction *transaction) {
    const sr_node examined = add_gate(transaction, on_examined);
    transaction->directory.opened = add_step(&transaction->directory, OPEN);
    after(transaction, examined, transaction->directory.opened, SR_ON_SUCCESS);
    for (size_t i = 0; i < transaction->count; i++) {
        struct file *file = &transaction->files[i];
        file->opened = add_step(file, OPEN);
        after(transaction, examined, add_step(file, EXAMINE), SR_ON_SUCCESS);
    }
}

/* ---- running --------------------------------------------------------------------------------- */

static int prepare(struct transaction *transaction) {
    sr_ring_options ring_options = SR_RING_OPTIONS_INIT;
    sr_pool_options pool_options = SR_POOL_OPTIONS_INIT;
    sr_batch_options batch_options = SR_BATCH_OPTIONS_INIT;
    ring_options.files_max = (uint32_t)transaction->count * 2 + 1; /* all are open at once */
    pool_options.buffer_size_bytes = CHUNK_BYTES;
    pool_options.buffer_count = CHUNKS;
    batch_options.nodes_max = NODES_MAX;
    batch_options.fail_fast = 1;
    int code = sr_ring_create(&ring_options, &transaction->ring);
    code = code < 0 ? code : sr_pool_create(NULL, &pool_options, &transaction->pool);
    code = code < 0 ? code : sr_ring_attach_pool(transaction->ring, transaction->pool);
    code =
        code < 0 ? code : sr_batch_create(transaction->ring, &batch_options, &transaction->batch);
    return code;
}

static int run(struct transaction *transaction) {
    int code = SR_E_TIMEOUT;
    while (code == SR_E_TIMEOUT) {
        code = sr_batch_run(transaction->batch, TICK_NS, NULL);
        if (code == SR_E_TIMEOUT && stop_signal != 0 && !transaction->is_committing) {
            stop(transaction->batch);
        }
    }
    return code;
}

static int write_dot(sr_batch *batch, const char *path) {
    size_t length = 0;
    int code = sr_batch_dot(batch, NULL, 0, &length);
    char *text = code == SR_E_BOUNDS ? malloc(length + 1) : NULL;
    if (text == NULL) {
        return code == SR_E_BOUNDS ? -ENOMEM : code;
    }
    code = sr_batch_dot(batch, text, length + 1, &length);
    FILE *stream = code == 0 ? fopen(path, "w") : NULL;
    if (stream != NULL) {
        const bool written = fwrite(text, 1, length, stream) == length;
        code = fclose(stream) == 0 && written ? 0 : -EIO;
    } else {
        code = code == 0 ? -errno : code;
    }
    free(text);
    return code;
}

static int complain(const char *what, int code) {
    fprintf(stderr, "batch_transaction: %s: %s\n", what, sr_strerror(code));
    return code;
}

/* Says why not, or what is wrong although all files are replaced. */
static void report_failure(const struct transaction *transaction) {
    const struct file *file = transaction->failed;
    if (transaction->code < 0) {
        (void)complain("batch", transaction->code);
    } else if (file != NULL) {
        const enum step step = transaction->failed_step;
        const int code = transaction->failed_code;
        fprintf(stderr, "batch_transaction: cannot %s '%s': %s\n", steps[step].verb,
                step < CREATE ? file->source : file->name,
                code != 0 ? sr_strerror(code) : "it is longer than it was");
    } else if (stop_signal != 0) {
        fprintf(stderr, "batch_transaction: stopped by signal %d\n", (int)stop_signal);
    }
}

/* Returns the exit status. */
static int report(const struct transaction *transaction) {
    size_t replaced = 0;
    report_failure(transaction);
    for (size_t i = 0; i < transaction->count; i++) {
        const struct file *file = &transaction->files[i];
        replaced += file->is_replaced;
        if (file->is_left_behind) {
            fprintf(stderr, "batch_transaction: '%s' could not be removed\n", file->temporary);
        }
    }
    if (replaced == 0 && transaction->code != SR_E_IN_FLIGHT) {
        fprintf(stderr, "batch_transaction: nothing was changed\n");
        return 1;
    }
    for (size_t i = 0; i < transaction->count; i++) {
        const struct file *file = &transaction->files[i];
        printf("%s: %s\n", file->name, file->is_replaced ? "replaced" : "not replaced");
    }
    if (fflush(stdout) != 0) {
        (void)complain("output", -errno);
    }
    return replaced == transaction->count && transaction->failed == NULL && transaction->code == 0
               ? 0
               : 3;
}

static int transact(struct transaction *transaction, const char *dot_path) {
    int code = prepare(transaction);
    if (code >= 0) {
        add_all(transaction);
        code = transaction->code < 0 ? transaction->code : run(transaction);
    }
    const int dot = transaction->batch != NULL && dot_path != NULL
                        ? write_dot(transaction->batch, dot_path)
                        : 0;
    const int batch_end = sr_batch_destroy(&transaction->batch); /* rolls back if run() failed */
    const int ring_end = sr_ring_destroy(&transaction->ring);
    const int pool_end = sr_pool_destroy(&transaction->pool);
    code = code < 0 ? code : batch_end < 0 ? batch_end : ring_end < 0 ? ring_end : pool_end;
    transaction->code = transaction->code < 0 || code >= 0 ? transaction->code : code;
    if (dot < 0) {
        (void)complain(dot_path, dot);
    }
    return report(transaction);
}

/* ---- command line ---------------------------------------------------------------------------- */

static bool parse_file(struct transaction *transaction, struct file *file, char *argument) {
    char *equals = strchr(argument, '=');
    if (equals == NULL || equals == argument || equals[1] == '\0') {
        return false;
    }
    *equals = '\0';
    file->transaction = transaction;
    file->number = (uint64_t)(file - transaction->files) + 1;
    file->name = argument;
    file->source = equals + 1;
    const int length = snprintf(file->temporary, sizeof file->temporary, ".%s.%ld.new", file->name,
                                (long)getpid());
    return strchr(file->name, '/') == NULL && length > 0 && length < (int)sizeof file->temporary;
}

/* Of the same name twice, the second finds the temporary file of the first: nothing is changed. */
static bool parse(struct transaction *transaction, int argc, char **argv, const char **out_dot) {
    int next = 1;
    if (argc > 2 && strcmp(argv[1], "--dot") == 0) {
        *out_dot = argv[2];
        next = 3;
    }
    if (argc - next < 2) {
        return false;
    }
    transaction->directory.transaction = transaction;
    transaction->directory.name = argv[next];
    transaction->directory.source = argv[next++];
    transaction->count = (size_t)(argc - next);
    transaction->files = calloc(transaction->count, sizeof *transaction->files);
    for (size_t i = 0; transaction->files != NULL && i < transaction->count; i++) {
        if (!parse_file(transaction, &transaction->files[i], argv[next + (int)i])) {
            return false;
        }
    }
    return transaction->files != NULL;
}

int main(int argc, char **argv) {
    struct transaction transaction = {0};
    const struct sigaction action = {.sa_handler = on_signal};
    const char *dot_path = NULL;
    int status = 2;
    if (!parse(&transaction, argc, argv, &dot_path)) {
        fprintf(stderr, "usage: batch_transaction [--dot FILE] DIR NAME=SOURCE...\n");
    } else if (sigaction(SIGINT, &action, NULL) != 0 || sigaction(SIGTERM, &action, NULL) != 0) {
        (void)complain("sigaction", -errno);
    } else {
        status = transact(&transaction, dot_path);
    }
    free(transaction.files);
    return status;
}
