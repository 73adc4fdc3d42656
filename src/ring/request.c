/* SPDX-License-Identifier: MIT */
/* What each operation needs, and whether a request is one that can be taken. Nothing is changed
 * here. */
#include "ring/request.h"

#include <errno.h>
#include <sys/mman.h>

const struct sri_opcode_spec sri_opcode_specs[SR_OP_COUNT] = {
    [SR_OP_NOP] = {IORING_OP_NOP, 0},
    [SR_OP_READ] = {IORING_OP_READ, SRI_NEEDS_FILE | SRI_NEEDS_WRITER | SRI_MAY_BE_FULL},
    [SR_OP_WRITE] = {IORING_OP_WRITE, SRI_NEEDS_FILE | SRI_NEEDS_READER | SRI_MAY_BE_FULL},
    [SR_OP_READV] = {IORING_OP_READV,
                     SRI_NEEDS_FILE | SRI_NEEDS_WRITER | SRI_NEEDS_SLICES | SRI_MAY_BE_FULL},
    [SR_OP_WRITEV] = {IORING_OP_WRITEV,
                      SRI_NEEDS_FILE | SRI_NEEDS_READER | SRI_NEEDS_SLICES | SRI_MAY_BE_FULL},
    [SR_OP_FSYNC] = {IORING_OP_FSYNC, SRI_NEEDS_FILE},
    [SR_OP_FDATASYNC] = {IORING_OP_FSYNC, SRI_NEEDS_FILE},
    [SR_OP_SYNC_RANGE] = {IORING_OP_SYNC_FILE_RANGE, SRI_NEEDS_FILE},
    [SR_OP_FALLOCATE] = {IORING_OP_FALLOCATE, SRI_NEEDS_FILE},
    [SR_OP_FTRUNCATE] = {SRI_IORING_OP_FTRUNCATE, SRI_NEEDS_FILE | SRI_MAY_SUBSTITUTE},
    [SR_OP_OPENAT] = {IORING_OP_OPENAT2, SRI_NEEDS_DIR | SRI_NEEDS_PATH | SRI_NEEDS_COLD},
    [SR_OP_CLOSE] = {IORING_OP_CLOSE, SRI_NEEDS_FILE | SRI_NEEDS_COLD},
    [SR_OP_STATX] = {IORING_OP_STATX, SRI_NEEDS_DIR | SRI_NEEDS_PATH},
    [SR_OP_UNLINKAT] = {IORING_OP_UNLINKAT, SRI_NEEDS_DIR | SRI_NEEDS_PATH},
    [SR_OP_RENAMEAT] = {IORING_OP_RENAMEAT,
                        SRI_NEEDS_DIR | SRI_NEEDS_PATH | SRI_NEEDS_NEW_DIR | SRI_NEEDS_NEW_PATH},
    [SR_OP_MKDIRAT] = {IORING_OP_MKDIRAT, SRI_NEEDS_DIR | SRI_NEEDS_PATH},
    [SR_OP_LINKAT] = {IORING_OP_LINKAT,
                      SRI_NEEDS_DIR | SRI_NEEDS_PATH | SRI_NEEDS_NEW_DIR | SRI_NEEDS_NEW_PATH},
    [SR_OP_SYMLINKAT] = {IORING_OP_SYMLINKAT,
                         SRI_NEEDS_PATH | SRI_NEEDS_NEW_DIR | SRI_NEEDS_NEW_PATH},
    [SR_OP_FADVISE] = {IORING_OP_FADVISE, SRI_NEEDS_FILE},
    [SR_OP_MADVISE] = {IORING_OP_MADVISE, SRI_NEEDS_WRITER},
    [SR_OP_TIMEOUT] = {IORING_OP_TIMEOUT, SRI_NEEDS_COLD},
};

static int find_file(const sr_ring *ring, struct sri_plan *plan, sr_file handle, bool optional,
                     struct sri_file **out_file) {
    *out_file = NULL;
    if (optional && handle.bits == 0) {
        return 0;
    }
    plan->culprit = handle.bits;
    struct sri_file *file = sri_file_find(&ring->files, handle.bits);
    if (SRI_UNLIKELY(file == NULL)) {
        return SR_E_STALE;
    }
    *out_file = file;
    return SRI_LIKELY(file->state == SRI_FILE_OPEN) ? 0 : SR_E_STATE;
}

static bool paths_are_valid(const sr_request *request, unsigned int needs) {
    return ((needs & SRI_NEEDS_PATH) == 0 || request->path != NULL) &&
           ((needs & SRI_NEEDS_NEW_PATH) == 0 || request->new_path != NULL);
}

bool sri_advice_replaces_pages(int advice) {
    return advice == MADV_DONTNEED || advice == MADV_FREE;
}

/* Advice that leaves the mapping, its fork behaviour and its contents alone, or replaces whole
 * pages. */
static bool advice_is_valid(int advice) {
    switch (advice) {
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_WILLNEED:
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_COLD:
    case MADV_PAGEOUT:
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
        return true;
    default:
        return sri_advice_replaces_pages(advice);
    }
}

/* Lengths and offsets that SQEs carry in 32 bits or as signed numbers. */
static int check_numbers(const sr_request *request) {
    switch (request->op) {
    case SR_OP_SYNC_RANGE:
    case SR_OP_FADVISE:
        return request->length > UINT32_MAX || request->offset > INT64_MAX ? SR_E_BOUNDS : 0;
    case SR_OP_FALLOCATE:
    case SR_OP_FTRUNCATE:
        return request->length > INT64_MAX || request->offset > INT64_MAX ? SR_E_BOUNDS : 0;
    case SR_OP_READV:
    case SR_OP_WRITEV:
        return request->slices == NULL || request->slice_count == 0 ||
                       request->slice_count > SR_SLICES_MAX
                   ? -EINVAL
                   : 0;
    case SR_OP_CLOSE:
        return (request->op_flags & ~(uint32_t)SR_CLOSE_CANCEL) != 0 ? -EINVAL : 0;
    case SR_OP_TIMEOUT:
        return request->duration_ns > INT64_MAX ? SR_E_BOUNDS : 0;
    case SR_OP_MADVISE:
        if (!advice_is_valid(request->advice)) {
            return -EINVAL;
        }
        return request->buffer_offset % SRI_PAGE_BYTES != 0 || request->length % SRI_PAGE_BYTES != 0
                   ? SR_E_BOUNDS
                   : 0;
    default:
        return 0;
    }
}

static int check_words(const sr_ring *ring, const sr_request *request, struct sri_plan *plan) {
    const struct sri_opcode_spec *spec = &sri_opcode_specs[request->op];
    const unsigned int flags_allowed =
        SR_REQUEST_ASYNC | ((spec->needs & SRI_MAY_BE_FULL) != 0 ? SR_REQUEST_FULL : 0u);
    if (SRI_UNLIKELY((request->flags & ~flags_allowed) != 0)) {
        return -EINVAL;
    }
    plan->needs = spec->needs;
    if (SRI_UNLIKELY(ring->queue.op_supported[spec->uapi] == 0)) {
        if ((spec->needs & SRI_MAY_SUBSTITUTE) == 0) {
            return SR_E_UNSUPPORTED;
        }
        plan->substitute = true;
    }
    if (request->op <= SR_OP_WRITE) {
        return 0;
    }
    return paths_are_valid(request, spec->needs) ? check_numbers(request) : -EINVAL;
}

static int check_files(const sr_ring *ring, struct sri_plan *plan) {
    const sr_request *request = plan->request;
    int code = 0;
    if ((plan->needs & (SRI_NEEDS_FILE | SRI_NEEDS_DIR)) != 0) {
        code =
            find_file(ring, plan, request->file, (plan->needs & SRI_NEEDS_DIR) != 0, &plan->file);
    }
    if (code == 0 && (plan->needs & SRI_NEEDS_NEW_DIR) != 0) {
        code = find_file(ring, plan, request->new_dir, true, &plan->new_dir);
    }
    return code;
}

int sri_request_check(const sr_ring *ring, struct sri_plan *plan) {
    const int code = check_words(ring, plan->request, plan);
    return code == 0 ? check_files(ring, plan) : code;
}
