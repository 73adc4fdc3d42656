/* SPDX-License-Identifier: MIT */
/* Rows of operations on paths: what opens, makes, names and removes; and close. */
#include "conformance/table.h"

#include <sys/syscall.h>

/* ---- requests ------------------------------------------------------------------------------- */

static void named(struct scene *scene, sr_request *request, const char *path) {
    request->file = scene->dir;
    request->path = path;
    request->mode = 0750;
}

static void named_twice(struct scene *scene, sr_request *request, const char *path,
                        const char *new_path) {
    named(scene, request, path);
    request->new_dir = scene->dir;
    request->new_path = new_path;
    if (request->op == SR_OP_SYMLINKAT) {
        request->file = SR_FILE_NONE;
    }
}

/* In the slow file system, where the request waits at a gate. */
static void named_slowly(struct scene *scene, sr_request *request, const char *name) {
    (void)snprintf(scene->path, sizeof scene->path, "%s/%s", scene->fs->directory, name);
    request->path = scene->path;
    request->mode = 0750;
    scene->fs->other_gate_closed = 1;
}

static void at_the_other_gate(struct scene *scene) {
    cr_assert(slowfs_wait_other(scene->fs, 1, 10000), "the request is not at the server");
}

static void open_the_other_gate(struct scene *scene) {
    scene->fs->other_gate_closed = 0;
}

/* ---- open ----------------------------------------------------------------------------------- */

static void open_the_file(struct scene *scene, sr_request *request) {
    named(scene, request, "file");
    request->op_flags = O_RDONLY;
    request->mode = 0;
}

static void open_what_is_not_there(struct scene *scene, sr_request *request) {
    open_the_file(scene, request);
    request->path = "no such file";
}

static void open_slowly(struct scene *scene, sr_request *request) {
    named_slowly(scene, request, "file0");
    scene->fs->other_gate_closed = 0;
    scene->fs->files[0].open_gate_closed = 1;
    request->op_flags = O_RDONLY;
    request->mode = 0;
    request->flags |= SR_REQUEST_ASYNC; /* else the kernel may wait for the server in the call */
}

static void at_the_open_gate(struct scene *scene) {
    for (int i = 0; i < 10000 && scene->fs->files[0].opening_count == 0; i++) {
        (void)usleep(1000);
    }
    cr_assert_eq(scene->fs->files[0].opening_count, 1, "the open is not at the server");
}

static void open_the_open_gate(struct scene *scene) {
    scene->fs->files[0].open_gate_closed = 0;
}

static void open_a_fifo(struct scene *scene, sr_request *request) {
    cr_assert_eq(mkfifoat(scene->directory.fd, "fifo", 0600), 0);
    open_the_file(scene, request);
    request->path = "fifo";
}

static void open_what_is_no_directory(struct scene *scene, sr_request *request) {
    open_a_fifo(scene, request);
    request->op_flags = O_RDONLY | O_DIRECTORY;
}

/* A writer can open it once a reader is about to. */
static void open_the_other_end(struct scene *scene) {
    int fd = -1;
    for (int i = 0; i < 10000 && scene->steps == 0 && fd < 0; i++) {
        fd = openat(scene->directory.fd, "fifo", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        cr_assert(fd >= 0 || errno == ENXIO);
        (void)usleep(fd < 0 ? 1000 : 0);
    }
    if (scene->steps == 0) {
        (void)scene_own(scene, fd);
    }
}

/* For io_uring it makes no difference whether the open has begun. */
static void while_it_runs(struct scene *scene) {
    if (scene->backend == SR_BACKEND_FALLBACK) {
        cr_assert(sleeper_wait(getpid(), SLEEPER_OTHERS, SYS_openat2, 10000));
    }
}

static void file_is_open(struct scene *scene, const sr_completion *completion) {
    int fd = -1;
    if (completion->result < 0) {
        return;
    }
    assert_ok(sr_file_fd(scene->ring, completion->file, &fd));
    cr_assert_neq(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    cr_assert_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
}

/* ---- close ---------------------------------------------------------------------------------- */

static void close_the_file(struct scene *scene, sr_request *request) {
    int fd = -1;
    request->file = scene->file;
    assert_ok(sr_file_fd(scene->ring, scene->file, &fd));
    scene->near = fd;
}

static void close_slowly(struct scene *scene, sr_request *request) {
    request->file = scene_slow_file(scene, false);
    assert_ok(sr_file_fd(scene->ring, request->file, &scene->near));
    scene->fs->files[0].flush_gate_closed = 1;
}

static void at_the_flush_gate(struct scene *scene) {
    for (int i = 0; i < 10000 && scene->fs->files[0].flushing_count == 0; i++) {
        (void)usleep(1000);
    }
    cr_assert_eq(scene->fs->files[0].flushing_count, 1, "the close is not at the server");
}

static void open_the_flush_gate(struct scene *scene) {
    scene->fs->files[0].flush_gate_closed = 0;
}

/* The descriptor was closed behind the ring's back. */
static void close_what_is_closed(struct scene *scene, sr_request *request) {
    close_the_file(scene, request);
    cr_assert_eq(close(scene->near), 0);
}

static void is_closed(struct scene *scene, const sr_completion *completion) {
    (void)completion;
    cr_assert(fcntl(scene->near, F_GETFD) < 0 && errno == EBADF);
}

/* ---- statx ---------------------------------------------------------------------------------- */

static void look_at_the_file(struct scene *scene, sr_request *request) {
    named(scene, request, "file");
    request->mask = STATX_SIZE | STATX_MODE;
}

static void look_at_what_is_not_there(struct scene *scene, sr_request *request) {
    look_at_the_file(scene, request);
    request->path = "no such file";
}

static void look_slowly(struct scene *scene, sr_request *request) {
    named_slowly(scene, request, "file0");
    request->mask = STATX_SIZE | STATX_MODE;
    request->op_flags = AT_STATX_FORCE_SYNC;
}

static void tells_the_size(struct scene *scene, const sr_completion *completion) {
    const uint64_t size = scene->path[0] != '\0' ? SLOWFS_FILE_BYTES_MAX : BYTES;
    cr_assert_eq(completion->statx != NULL, completion->result >= 0);
    if (completion->result >= 0) {
        cr_assert_eq(completion->statx->stx_size, size);
    }
}

/* ---- names ---------------------------------------------------------------------------------- */

static void remove_it(struct scene *scene, sr_request *request) {
    scene_touch(scene, "goes");
    named(scene, request, "goes");
}

static void remove_what_is_not_there(struct scene *scene, sr_request *request) {
    named(scene, request, "no such file");
}

static void remove_slowly(struct scene *scene, sr_request *request) {
    named_slowly(scene, request, "file0");
}

static void is_removed(struct scene *scene, const sr_completion *completion) {
    (void)completion;
    cr_assert_not(scene_exists(scene, "goes"));
}

static void rename_it(struct scene *scene, sr_request *request) {
    scene_touch(scene, "old");
    named_twice(scene, request, "old", "new");
}

static void rename_onto_another(struct scene *scene, sr_request *request) {
    scene_touch(scene, "old");
    named_twice(scene, request, "old", "file");
    request->op_flags = 1; /* RENAME_NOREPLACE */
}

static void is_renamed(struct scene *scene, const sr_completion *completion) {
    const bool done = completion->result >= 0;
    cr_assert(scene_exists(scene, "old") != done && scene_exists(scene, "new") == done);
    cr_assert_eq(scene_status(scene, "file").st_size, (off_t)BYTES);
}

/* Both names are in the slow directory; the second is a string of its own there. */
static void two_names_slowly(struct scene *scene, sr_request *request) {
    static char new_path[160];
    (void)snprintf(new_path, sizeof new_path, "%s/new", scene->fs->directory);
    named_slowly(scene, request, "file0");
    request->new_path = new_path;
}

static void make_a_folder(struct scene *scene, sr_request *request) {
    named(scene, request, "folder");
}

static void make_what_is_there(struct scene *scene, sr_request *request) {
    named(scene, request, "file");
}

static void make_slowly(struct scene *scene, sr_request *request) {
    named_slowly(scene, request, "folder");
}

static void is_made(struct scene *scene, const sr_completion *completion) {
    cr_assert_eq(scene_exists(scene, "folder"), completion->result >= 0);
}

static void link_it(struct scene *scene, sr_request *request) {
    named_twice(scene, request, "file", "other name");
}

static void link_onto_another(struct scene *scene, sr_request *request) {
    scene_touch(scene, "taken");
    named_twice(scene, request, "file", "taken");
}

static void is_linked(struct scene *scene, const sr_completion *completion) {
    cr_assert_eq(scene_status(scene, "file").st_nlink, completion->result >= 0 ? 2u : 1u);
}

static void point_at_it(struct scene *scene, sr_request *request) {
    named_twice(scene, request, "some/where else", "pointer");
}

static void point_with_a_name_that_is_taken(struct scene *scene, sr_request *request) {
    named_twice(scene, request, "some/where else", "file");
}

static void is_pointed_at(struct scene *scene, const sr_completion *completion) {
    char target[64] = "";
    if (completion->result >= 0) {
        cr_assert_gt(readlinkat(scene->directory.fd, "pointer", target, sizeof target - 1), 0);
        cr_assert_str_eq(target, "some/where else");
    }
    cr_assert_eq(scene_exists(scene, "pointer"), completion->result >= 0);
}

/* ---- rows ----------------------------------------------------------------------------------- */

#define FIFO_DIFFERS                                                                               \
    "a cancel interrupts what blocks interruptibly in a kernel worker (opening a FIFO, splice, "   \
    "tee)"
#define FIFO_DOES_NOT_WAIT                                                                         \
    "opening a FIFO for reading, with a name that the kernel has looked up before"
#define OPEN_AT_GATE GOES_ON(open_slowly, at_the_open_gate, open_the_open_gate, 0, file_is_open)
#define OPEN_OF_A_FIFO                                                                             \
    {                                                                                              \
        .prepare = open_a_fifo, .arrive = while_it_runs, .pump = open_the_other_end,               \
        .results = RESULTS(-EINTR, -ECANCELED),                                                    \
        .several = "kernels say one or the other of a call that was interrupted",                  \
        .on_fallback = RESULTS(0), .differs = FIFO_DIFFERS, .check = file_is_open,                 \
        .moment = IN_FLIGHT                                                                        \
    }
#define CLOSE_AT_GATE                                                                              \
    {                                                                                              \
        .prepare = close_slowly, .arrive = at_the_flush_gate, .pump = open_the_flush_gate,         \
        .results = RESULTS(0), .check = is_closed, .is_not_asked = true, .moment = IN_FLIGHT,      \
        .needs_slow_files = true                                                                   \
    }
#define AT_GATE(prepared, result)                                                                  \
    GOES_ON(prepared, at_the_other_gate, open_the_other_gate, result, NULL)
#define NAMES(opcode, words, works, checked, fails, code, slow)                                    \
    {                                                                                              \
        .op = (opcode), .name = (words), .cells = {                                                \
            [WORKS] = ENDS(works, 0, checked),                                                     \
            [FAILS] = ENDS(fails, code, checked),                                                  \
            [SHORT] = NO_COUNT,                                                                    \
            [CANCELLED] = AT_GATE(slow, -EROFS),                                                   \
            [DEADLINE] = AT_GATE(slow, -EROFS)                                                     \
        }                                                                                          \
    }

const struct row rows_paths[] = {
    {.op = SR_OP_OPENAT,
     .name = "open",
     .cells = {[WORKS] = ENDS(open_the_file, 0, file_is_open),
               [FAILS] = ENDS(open_what_is_not_there, -ENOENT, NULL),
               [SHORT] = NO_COUNT,
               [CANCELLED] = OPEN_AT_GATE,
               [DEADLINE] = OPEN_AT_GATE}},
    {.op = SR_OP_OPENAT,
     .name = "open of a FIFO",
     .cells = {[WORKS] = {.prepare = open_a_fifo,
                          .pump = open_the_other_end,
                          .results = RESULTS(0),
                          .on_fallback = RESULTS(0),
                          .differs = FIFO_DOES_NOT_WAIT,
                          .check = file_is_open},
               [FAILS] = ENDS(open_what_is_no_directory, -ENOTDIR, NULL),
               [SHORT] = NO_COUNT,
               [CANCELLED] = NEVER("io_uring may have opened it already; the next row waits"),
               [DEADLINE] = NEVER("io_uring may have opened it already; the next row waits")}},
    {.op = SR_OP_OPENAT,
     .request_flags = SR_REQUEST_ASYNC,
     .name = "open of a FIFO, async",
     .cells = {[WORKS] = ENDS_WHEN(open_a_fifo, open_the_other_end, 0, file_is_open),
               [FAILS] = ENDS(open_what_is_no_directory, -ENOTDIR, NULL),
               [SHORT] = NO_COUNT,
               [CANCELLED] = OPEN_OF_A_FIFO,
               [DEADLINE] = OPEN_OF_A_FIFO}},
    {.op = SR_OP_CLOSE,
     .name = "close",
     .cells = {[WORKS] = ENDS(close_the_file, 0, is_closed),
               [FAILS] = ENDS(close_what_is_closed, -EBADF, is_closed),
               [SHORT] = NO_COUNT,
               [CANCELLED] = CLOSE_AT_GATE,
               [DEADLINE] = CLOSE_AT_GATE}},
    {.op = SR_OP_CLOSE,
     .flags = ROW_FIXED,
     .name = "close of a file in a fixed slot",
     .cells = {[WORKS] = ENDS(close_the_file, 0, is_closed),
               [FAILS] = ENDS(close_what_is_closed, -EBADF, is_closed),
               [SHORT] = NO_COUNT,
               [CANCELLED] = CLOSE_AT_GATE,
               [DEADLINE] = CLOSE_AT_GATE}},
    {.op = SR_OP_STATX,
     .name = "statx",
     .cells = {[WORKS] = ENDS(look_at_the_file, 0, tells_the_size),
               [FAILS] = ENDS(look_at_what_is_not_there, -ENOENT, tells_the_size),
               [SHORT] = NO_COUNT,
               [CANCELLED] =
                   GOES_ON(look_slowly, at_the_other_gate, open_the_other_gate, 0, tells_the_size),
               [DEADLINE] = GOES_ON(look_slowly, at_the_other_gate, open_the_other_gate, 0,
                                    tells_the_size)}},
    NAMES(SR_OP_UNLINKAT, "unlinkat", remove_it, is_removed, remove_what_is_not_there, -ENOENT,
          remove_slowly),
    NAMES(SR_OP_RENAMEAT, "renameat", rename_it, is_renamed, rename_onto_another, -EEXIST,
          two_names_slowly),
    NAMES(SR_OP_MKDIRAT, "mkdirat", make_a_folder, is_made, make_what_is_there, -EEXIST,
          make_slowly),
    NAMES(SR_OP_LINKAT, "linkat", link_it, is_linked, link_onto_another, -EEXIST, two_names_slowly),
    NAMES(SR_OP_SYMLINKAT, "symlinkat", point_at_it, is_pointed_at, point_with_a_name_that_is_taken,
          -EEXIST, two_names_slowly),
};
const size_t rows_paths_count = COUNT_OF(rows_paths);
