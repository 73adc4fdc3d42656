/* SPDX-License-Identifier: MIT */
#include "ring/file.h"

#include "sys/memory.h"

#include <errno.h>

static const uint8_t file_followers[] = {
    [SRI_FILE_FREE] = SRI_STATE_BIT(SRI_FILE_OPENING),
    [SRI_FILE_OPENING] = SRI_STATE_BIT(SRI_FILE_OPEN) | SRI_STATE_BIT(SRI_FILE_FREE),
    [SRI_FILE_OPEN] = SRI_STATE_BIT(SRI_FILE_CLOSING),
    /* Back to OPEN: a close that was cancelled before it ran. */
    [SRI_FILE_CLOSING] = SRI_STATE_BIT(SRI_FILE_OPEN) | SRI_STATE_BIT(SRI_FILE_FREE),
};

static bool file_is_valid(const struct sri_file *file) {
    const bool named = file->state == SRI_FILE_OPEN || file->state == SRI_FILE_CLOSING;
    return (file->handle != 0) == named && (file->fd >= 0) == named &&
           (file->closer == NULL || file->state == SRI_FILE_CLOSING);
}

void sri_file_move(struct sri_file *file, enum sri_file_state to) {
    sri_state_move(&file->state, file_followers, (uint8_t)to);
    SR_CHECK_SLOW(file_is_valid(file));
}

int sri_files_init(struct sri_files *files, uint32_t count_max, uint32_t fixed_count) {
    const uint32_t entry_count = sri_handle_entries_for(count_max);
    void *entries = sri_allocate(1, sri_handle_memory_for(entry_count));
    *files = (struct sri_files){
        .list = sri_allocate(count_max, sizeof *files->list),
        .free_stack = sri_allocate(count_max, sizeof *files->free_stack),
        .fixed_stack = sri_allocate((size_t)fixed_count + 1, sizeof *files->fixed_stack),
        .free_count = count_max,
        .count_max = count_max,
        .fixed_free_count = fixed_count,
        .fixed_count = fixed_count,
    };
    int code = -ENOMEM;
    if (entries != NULL && files->list != NULL && files->free_stack != NULL &&
        files->fixed_stack != NULL) {
        code = sri_handle_table_init(&files->handles, SRI_KIND_FILE, entries, entry_count);
    }
    if (code < 0) {
        sri_release(entries);
        sri_files_deinit(files);
        return code;
    }
    for (uint32_t i = 0; i < count_max; i++) {
        files->free_stack[i] = count_max - 1 - i;
        files->list[i] = (struct sri_file){.fd = -1, .fixed_slot = -1};
    }
    for (uint32_t i = 0; i < fixed_count; i++) {
        files->fixed_stack[i] = fixed_count - 1 - i;
    }
    return 0;
}

void sri_files_deinit(struct sri_files *files) {
    void *handles_memory = files->handles.owners;
    sri_handle_table_deinit(&files->handles);
    sri_release(handles_memory);
    sri_release(files->list);
    sri_release(files->free_stack);
    sri_release(files->fixed_stack);
    *files = (struct sri_files){0};
}

struct sri_file *sri_file_reserve(struct sri_files *files) {
    if (files->free_count == 0) {
        return NULL;
    }
    struct sri_file *file = &files->list[files->free_stack[--files->free_count]];
    sri_file_move(file, SRI_FILE_OPENING);
    return file;
}

void sri_file_open(struct sri_files *files, struct sri_file *file, int fd, enum sri_fd_kind kind) {
    file->handle = sri_handle_acquire(&files->handles, SRI_KIND_FILE, sri_file_index(files, file));
    SR_CHECK(file->handle != 0 && fd >= 0);
    file->fd = fd;
    file->kind = (uint8_t)kind;
    sri_file_move(file, SRI_FILE_OPEN);
}

void sri_file_release(struct sri_files *files, struct sri_file *file) {
    SR_CHECK(file->op_count == 0 && file->fixed_slot < 0);
    if (file->handle != 0) {
        sri_handle_release(&files->handles, file->handle);
    }
    file->handle = 0;
    file->fd = -1;
    file->closer = NULL;
    file->dropped = false;
    file->kind = SRI_FD_OTHER;
    sri_file_move(file, SRI_FILE_FREE);
    files->free_stack[files->free_count++] = sri_file_index(files, file);
}
