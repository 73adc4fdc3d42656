/* SPDX-License-Identifier: MIT */
/*
 * File: a descriptor that the ring keeps, so that its number cannot be reused under an operation.
 * It has the real descriptor and perhaps a fixed slot; each operation takes what the kernel accepts
 * there.
 */
#ifndef SAFERING_RING_FILE_H
#define SAFERING_RING_FILE_H

#include "core/handle.h"
#include "core/state.h"
#include "sys/sqe.h"
#include <safering/ring.h>

struct sri_op;

enum sri_file_state {
    SRI_FILE_FREE = 0,
    SRI_FILE_OPENING = 1, /* reserved by an open in flight */
    SRI_FILE_OPEN = 2,
    SRI_FILE_CLOSING = 3 /* takes no new operations */
};

struct sri_file {
    uint64_t handle;       /* 0 while free or opening */
    struct sri_op *closer; /* the close that waits for the other operations */
    int fd;
    int32_t fixed_slot; /* -1: none */
    uint32_t op_count;  /* operations in flight that use it, its close not counted */
    uint8_t state;      /* enum sri_file_state */
    uint8_t kind;       /* enum sri_fd_kind */
    bool dropped;       /* CLOSING: by sri_file_drop(), not by an operation */
};

struct sri_files {
    struct sri_file *list;
    uint32_t *free_stack;
    uint32_t *fixed_stack; /* fixed slots that are free */
    uint32_t free_count;
    uint32_t count_max;
    uint32_t fixed_free_count;
    uint32_t fixed_count;
    struct sri_handle_table handles;
};

int sri_files_init(struct sri_files *files, uint32_t count_max, uint32_t fixed_count);
void sri_files_deinit(struct sri_files *files);

/* A file in state OPENING, or NULL when all are in use. */
struct sri_file *sri_file_reserve(struct sri_files *files);
/* OPENING to OPEN: gives it a handle. Cannot fail: there is a handle for every file. */
void sri_file_open(struct sri_files *files, struct sri_file *file, int fd, enum sri_fd_kind kind);
void sri_file_move(struct sri_file *file, enum sri_file_state to);
/* Ends an OPENING or CLOSING file; its descriptor is no business of the table any more. */
void sri_file_release(struct sri_files *files, struct sri_file *file);

static inline uint32_t sri_file_index(const struct sri_files *files, const struct sri_file *file) {
    return (uint32_t)(file - files->list);
}

static inline struct sri_file *sri_file_find(const struct sri_files *files, uint64_t handle) {
    struct sri_file *file = &files->list[sri_handle_slot(&files->handles, handle)];
    return SRI_LIKELY(file->handle == handle) && SRI_LIKELY(handle != 0) ? file : NULL;
}

static inline struct sri_sqe_file sri_file_for_sqe(const struct sri_file *file) {
    return (struct sri_sqe_file){file->fd, file->fixed_slot};
}

#endif
