/* SPDX-License-Identifier: MIT */
/* Rows of other operations on one file or on memory: syncing, sizes, advice. */
#include "conformance/table.h"

#include "sys/uapi.h"
#include <sys/mman.h>

/* ---- syncing, sizes ------------------------------------------------------------------------- */

static void on_the_file(struct scene *scene, sr_request *request) {
    request->file = scene->file;
    request->offset = request->op == SR_OP_FTRUNCATE ? 0 : 4096;
    request->length = 8192;
}

static void on_a_pipe(struct scene *scene, sr_request *request) {
    on_the_file(scene, request);
    request->file = scene_pipe_to_read(scene);
}

static void on_what_is_only_read(struct scene *scene, sr_request *request) {
    on_the_file(scene, request);
    request->file = scene_file(scene, O_RDONLY);
}

static void grow(struct scene *scene, sr_request *request) {
    on_the_file(scene, request);
    request->offset = BYTES;
}

static void on_a_slow_file(struct scene *scene, sr_request *request) {
    on_the_file(scene, request);
    request->file = scene_slow_file(scene, false);
    scene->fs->files[0].size_bytes = BYTES;
    request->offset = BYTES;
    scene->fs->other_gate_closed = 1;
}

static void at_the_other_gate(struct scene *scene) {
    cr_assert(slowfs_wait_other(scene->fs, 1, 10000), "the request is not at the server");
}

static void open_the_other_gate(struct scene *scene) {
    scene->fs->other_gate_closed = 0;
}

static void size_tells(struct scene *scene, const sr_completion *completion, off_t size) {
    const off_t expected = completion->result >= 0 ? size : (off_t)BYTES;
    cr_assert_eq(scene_status(scene, "file").st_size, expected);
}

static void has_grown(struct scene *scene, const sr_completion *completion) {
    size_tells(scene, completion, (off_t)BYTES + 8192);
}

static void is_cut(struct scene *scene, const sr_completion *completion) {
    size_tells(scene, completion, 8192);
}

static void slow_file_has_grown(struct scene *scene, const sr_completion *completion) {
    (void)completion;
    cr_assert_eq(scene->fs->files[0].size_bytes, BYTES + 8192);
}

/* ---- advice --------------------------------------------------------------------------------- */

static void will_need(struct scene *scene, sr_request *request) {
    on_the_file(scene, request);
    request->advice = POSIX_FADV_WILLNEED;
}

static void will_need_of_a_pipe(struct scene *scene, sr_request *request) {
    will_need(scene, request);
    request->file = scene_pipe_to_read(scene);
}

static void of_memory(struct scene *scene, sr_request *request) {
    request->buffer = scene->buffer;
    request->buffer_offset = 4096;
    request->length = 8192;
    request->advice = MADV_WILLNEED;
}

static void of_memory_to_be_lost(struct scene *scene, sr_request *request) {
    of_memory(scene, request);
    request->advice = MADV_REMOVE;
}

static void bytes_are_there(struct scene *scene, const sr_completion *completion) {
    (void)completion;
    scene_expect_file_bytes(scene, 0, 0);
}

/* ---- rows ----------------------------------------------------------------------------------- */

#define OTHER_AT_GATE GOES_ON(on_a_slow_file, at_the_other_gate, open_the_other_gate, 0, NULL)
#define GROW_AT_GATE                                                                               \
    GOES_ON(on_a_slow_file, at_the_other_gate, open_the_other_gate, 0, slow_file_has_grown)
#define SYNC(opcode, words)                                                                        \
    ROW(opcode, 0, 0, words,                                                                       \
        {[WORKS] = ENDS(on_the_file, 0, NULL),                                                     \
         [FAILS] = ENDS(on_a_pipe, -EINVAL, NULL),                                                 \
         [SHORT] = NO_COUNT,                                                                       \
         [CANCELLED] = OTHER_AT_GATE,                                                              \
         [DEADLINE] = OTHER_AT_GATE})

const struct row rows_files[] = {
    SYNC(SR_OP_FSYNC, "fsync"),
    SYNC(SR_OP_FDATASYNC, "fdatasync"),
    ROW(SR_OP_SYNC_RANGE, 0, 0, "sync_range",
        {[WORKS] = ENDS(on_the_file, 0, NULL),
         [FAILS] = ENDS(on_a_pipe, -ESPIPE, NULL),
         [SHORT] = NO_COUNT,
         [CANCELLED] = EITHER(on_the_file, 0, NULL),
         [DEADLINE] = EITHER(on_the_file, 0, NULL)}),
    ROW(SR_OP_FALLOCATE, 0, 0, "fallocate",
        {[WORKS] = ENDS(grow, 0, has_grown),
         [FAILS] = ENDS(on_what_is_only_read, -EBADF, has_grown),
         [SHORT] = NO_COUNT,
         [CANCELLED] = GROW_AT_GATE,
         [DEADLINE] = GROW_AT_GATE}),
    ROW(SR_OP_FTRUNCATE, 0, 0, "ftruncate",
        {[WORKS] = ENDS(on_the_file, 0, is_cut),
         [FAILS] = ENDS(on_what_is_only_read, -EINVAL, is_cut),
         [SHORT] = NO_COUNT,
         [CANCELLED] = EITHER(on_the_file, 0, is_cut),
         [DEADLINE] = EITHER(on_the_file, 0, is_cut)}),
    {.op = SR_OP_FTRUNCATE,
     .flags = ROW_LACKING,
     .uapi = SRI_IORING_OP_FTRUNCATE,
     .name = "ftruncate by a plain system call",
     .cells = {[WORKS] = ENDS(on_the_file, 0, is_cut),
               [FAILS] = ENDS(on_what_is_only_read, -EINVAL, is_cut),
               [SHORT] = NO_COUNT,
               [CANCELLED] = AT_ONCE(on_the_file, 0, is_cut),
               [DEADLINE] = AT_ONCE(on_the_file, 0, is_cut)}},
    ROW(SR_OP_FADVISE, 0, 0, "fadvise",
        {[WORKS] = ENDS(will_need, 0, NULL),
         [FAILS] = ENDS(will_need_of_a_pipe, -ESPIPE, NULL),
         [SHORT] = NO_COUNT,
         [CANCELLED] = EITHER(will_need, 0, NULL),
         [DEADLINE] = EITHER(will_need, 0, NULL)}),
    ROW(SR_OP_MADVISE, 0, 0, "madvise",
        {[WORKS] = ENDS(of_memory, 0, bytes_are_there),
         [FAILS] = REFUSED(-EINVAL, of_memory_to_be_lost),
         [SHORT] = NO_COUNT,
         [CANCELLED] = EITHER(of_memory, 0, bytes_are_there),
         [DEADLINE] = EITHER(of_memory, 0, bytes_are_there)}),
};
const size_t rows_files_count = COUNT_OF(rows_files);
