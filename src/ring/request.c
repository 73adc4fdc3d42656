/* SPDX-License-Identifier: MIT */
/* What each operation needs, and whether a request is one that can be taken. Nothing is changed
 * here. */
#include "ring/request.h"

#include "ring/socket.h"

#include <errno.h>
#include <sys/mman.h>

#define READS  ((unsigned int)(SRI_NEEDS_FILE | SRI_NEEDS_WRITER | SRI_TRANSFERS))
#define WRITES ((unsigned int)(SRI_NEEDS_FILE | SRI_NEEDS_READER | SRI_TRANSFERS))
#define TWO_PATHS                                                                                  \
    ((unsigned int)(SRI_NEEDS_DIR | SRI_NEEDS_PATH | SRI_NEEDS_NEW_DIR | SRI_NEEDS_NEW_PATH))
#define ADDRESSED ((unsigned int)(SRI_NEEDS_FILE | SRI_NEEDS_MESSAGE | SRI_NEEDS_COLD))

const struct sri_opcode_spec sri_opcode_specs[SR_OP_COUNT] = {
    [SR_OP_NOP] = {IORING_OP_NOP, 0},
    [SR_OP_READ] = {IORING_OP_READ, READS | SRI_MAY_BE_FULL},
    [SR_OP_WRITE] = {IORING_OP_WRITE, WRITES | SRI_MAY_BE_FULL},
    [SR_OP_READV] = {IORING_OP_READV, READS | SRI_NEEDS_SLICES | SRI_MAY_BE_FULL},
    [SR_OP_WRITEV] = {IORING_OP_WRITEV, WRITES | SRI_NEEDS_SLICES | SRI_MAY_BE_FULL},
    [SR_OP_FSYNC] = {IORING_OP_FSYNC, SRI_NEEDS_FILE},
    [SR_OP_FDATASYNC] = {IORING_OP_FSYNC, SRI_NEEDS_FILE},
    [SR_OP_SYNC_RANGE] = {IORING_OP_SYNC_FILE_RANGE, SRI_NEEDS_FILE},
    [SR_OP_FALLOCATE] = {IORING_OP_FALLOCATE, SRI_NEEDS_FILE},
    [SR_OP_FTRUNCATE] = {SRI_IORING_OP_FTRUNCATE, SRI_NEEDS_FILE | SRI_MAY_SUBSTITUTE},
    [SR_OP_OPENAT] = {IORING_OP_OPENAT2,
                      SRI_NEEDS_DIR | SRI_NEEDS_PATH | SRI_NEEDS_COLD | SRI_BRINGS_FILE},
    [SR_OP_CLOSE] = {IORING_OP_CLOSE, SRI_NEEDS_FILE | SRI_NEEDS_COLD},
    [SR_OP_STATX] = {IORING_OP_STATX, SRI_NEEDS_DIR | SRI_NEEDS_PATH},
    [SR_OP_UNLINKAT] = {IORING_OP_UNLINKAT, SRI_NEEDS_DIR | SRI_NEEDS_PATH},
    [SR_OP_RENAMEAT] = {IORING_OP_RENAMEAT, TWO_PATHS},
    [SR_OP_MKDIRAT] = {IORING_OP_MKDIRAT, SRI_NEEDS_DIR | SRI_NEEDS_PATH},
    [SR_OP_LINKAT] = {IORING_OP_LINKAT, TWO_PATHS},
    [SR_OP_SYMLINKAT] = {IORING_OP_SYMLINKAT,
                         SRI_NEEDS_PATH | SRI_NEEDS_NEW_DIR | SRI_NEEDS_NEW_PATH},
    [SR_OP_FADVISE] = {IORING_OP_FADVISE, SRI_NEEDS_FILE},
    [SR_OP_MADVISE] = {IORING_OP_MADVISE, SRI_NEEDS_WRITER | SRI_NEEDS_COLD},
    [SR_OP_TIMEOUT] = {IORING_OP_TIMEOUT, SRI_NEEDS_COLD},
    [SR_OP_SPLICE] = {IORING_OP_SPLICE,
                      SRI_NEEDS_FILE | SRI_NEEDS_OTHER | SRI_NEEDS_COLD | SRI_TRANSFERS},
    [SR_OP_TEE] = {IORING_OP_TEE,
                   SRI_NEEDS_FILE | SRI_NEEDS_OTHER | SRI_NEEDS_COLD | SRI_TRANSFERS},
    [SR_OP_SOCKET] = {IORING_OP_SOCKET, SRI_NEEDS_COLD | SRI_BRINGS_FILE},
    [SR_OP_BIND] = {SRI_IORING_OP_BIND, ADDRESSED | SRI_MAY_SUBSTITUTE},
    [SR_OP_LISTEN] = {SRI_IORING_OP_LISTEN, SRI_NEEDS_FILE | SRI_MAY_SUBSTITUTE},
    [SR_OP_ACCEPT] = {IORING_OP_ACCEPT, ADDRESSED | SRI_BRINGS_FILE | SRI_MAY_BE_MULTISHOT},
    [SR_OP_CONNECT] = {IORING_OP_CONNECT, ADDRESSED},
    [SR_OP_SEND] = {IORING_OP_SEND, WRITES | SRI_MAY_BE_FULL},
    [SR_OP_RECV] = {IORING_OP_RECV, READS | SRI_MAY_BE_FULL | SRI_MAY_BE_MULTISHOT},
    [SR_OP_SENDMSG] = {IORING_OP_SENDMSG,
                       ADDRESSED | SRI_NEEDS_READER | SRI_NEEDS_SLICES | SRI_TRANSFERS},
    [SR_OP_RECVMSG] = {IORING_OP_RECVMSG,
                       ADDRESSED | SRI_NEEDS_WRITER | SRI_NEEDS_SLICES | SRI_TRANSFERS},
    [SR_OP_SEND_ZC] = {IORING_OP_SEND_ZC, WRITES | SRI_NEEDS_COLD},
    [SR_OP_SHUTDOWN] = {IORING_OP_SHUTDOWN, SRI_NEEDS_FILE},
    [SR_OP_POLL] = {IORING_OP_POLL_ADD, SRI_NEEDS_FILE | SRI_MAY_BE_MULTISHOT},
    [SR_OP_WAITID] = {SRI_IORING_OP_WAITID, SRI_NEEDS_COLD},
    [SR_OP_FUTEX_WAIT] = {SRI_IORING_OP_FUTEX_WAIT, 0},
    [SR_OP_FUTEX_WAKE] = {SRI_IORING_OP_FUTEX_WAKE, 0},
    [SR_OP_EPOLL_CTL] = {IORING_OP_EPOLL_CTL, SRI_NEEDS_FILE | SRI_NEEDS_OTHER | SRI_NEEDS_COLD},
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
    case SR_OP_SPLICE:
    case SR_OP_TEE:
    case SR_OP_WAITID:
        return request->length > UINT32_MAX ? SR_E_BOUNDS : 0;
    case SR_OP_FUTEX_WAIT:
    case SR_OP_FUTEX_WAKE:
        if (request->futex == NULL || (uintptr_t)request->futex % sizeof(uint32_t) != 0 ||
            (request->op_flags & ~SR_FUTEX_PRIVATE) != 0) {
            return -EINVAL;
        }
        return request->offset > UINT32_MAX || request->length > INT32_MAX ? SR_E_BOUNDS : 0;
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

/* The kernel's operation, another one, or a system call; and what this request needs of all that
 * its opcode may. */
static int choose_way(const sr_ring *ring, struct sri_plan *plan,
                      const struct sri_opcode_spec *spec) {
    const sr_request *request = plan->request;
    plan->needs = spec->needs;
    plan->uapi = spec->uapi;
    if (request->op == SR_OP_RECV && request->buffer_ring != NULL) {
        plan->needs &= ~(unsigned int)SRI_NEEDS_WRITER;
    } else if (request->op == SR_OP_ACCEPT && (request->flags & SR_REQUEST_MULTISHOT) != 0) {
        plan->needs &= ~(unsigned int)(SRI_NEEDS_MESSAGE | SRI_NEEDS_COLD | SRI_BRINGS_FILE);
    }
    if (SRI_LIKELY(ring->queue.op_supported[spec->uapi] != 0)) {
        return 0;
    }
    if (request->op == SR_OP_SEND_ZC) {
        plan->uapi = IORING_OP_SEND;
        return 0;
    }
    plan->substitute = (spec->needs & SRI_MAY_SUBSTITUTE) != 0;
    return plan->substitute ? 0 : SR_E_UNSUPPORTED;
}

int sri_request_check_words(const sr_ring *ring, struct sri_plan *plan) {
    const sr_request *request = plan->request;
    const struct sri_opcode_spec *spec = &sri_opcode_specs[request->op];
    const unsigned int flags_allowed =
        SR_REQUEST_ASYNC | ((spec->needs & SRI_MAY_BE_FULL) != 0 ? SR_REQUEST_FULL : 0u) |
        ((spec->needs & SRI_MAY_BE_MULTISHOT) != 0 ? SR_REQUEST_MULTISHOT : 0u);
    if (SRI_UNLIKELY((request->flags & ~flags_allowed) != 0)) {
        return -EINVAL;
    }
    if (SRI_UNLIKELY(ring->op_refused[request->op] != 0)) {
        return -EACCES;
    }
    const int code = choose_way(ring, plan, spec);
    if (SRI_UNLIKELY(code < 0)) {
        return code;
    }
    if (request->op <= SR_OP_WRITE) {
        return 0;
    }
    if (request->op >= SR_OP_SOCKET && request->op <= SR_OP_SHUTDOWN) {
        return sri_socket_check(ring, request);
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
        code = find_file(ring, plan, request->new_dir, true, &plan->second);
    }
    if (code == 0 && (plan->needs & SRI_NEEDS_OTHER) != 0) {
        code = find_file(ring, plan, request->other, false, &plan->second);
    }
    return code;
}

int sri_request_check(const sr_ring *ring, struct sri_plan *plan) {
    const int code = sri_request_check_words(ring, plan);
    return code == 0 ? check_files(ring, plan) : code;
}
