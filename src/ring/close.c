/* SPDX-License-Identifier: MIT */
/*
 * How descriptors enter and leave the ring. A file closes when the last operation on it has ended,
 * so the number cannot come to mean another file under an operation that is queued or in flight.
 */
#include "ring/ring.h"

#include <errno.h>

/* Gives up the fixed slot. The kernel keeps the file for operations that still use it; there are
 * none. */
static void fixed_slot_clear(sr_ring *ring, struct sri_file *file) {
    if (file->fixed_slot < 0) {
        return;
    }
    const int code =
        ring->queue.backend->queue_set_file(&ring->queue, (uint32_t)file->fixed_slot, -1);
    if (code == 0) {
        ring->files.fixed_stack[ring->files.fixed_free_count++] = (uint32_t)file->fixed_slot;
    }
    /* Else the slot is lost to the ring and holds the file until the ring goes. */
    file->fixed_slot = -1;
}

void sri_ring_drop_fd(sr_ring *ring, int fd) {
    ring->stats.descriptors_closed_total++;
    (void)ring->queue.backend->fd_close(fd); /* nobody is there to hear of an error */
}

/* Asks for the end of a file's operations; of all, or only of those that wait for buffers: these
 * would not see that the file is shut down. */
static void cancel_operations_of(sr_ring *ring, const struct sri_file *file,
                                 const struct sri_op *except, bool all) {
    const uint32_t index = sri_file_index(&ring->files, file);
    for (uint32_t i = 0; i < ring->ops.count_max; i++) {
        struct sri_op *op = &ring->ops.list[i];
        if (op->state != SRI_OP_FREE && op != except && (all || op->state == SRI_OP_STARVED) &&
            (op->file == index || (op->cold != NULL && op->cold->second_file == index))) {
            sri_op_ask_cancel(ring, op, false);
        }
    }
}

/* The kernel keeps a socket open for operations in flight and for a fixed slot, so closing the
 * descriptor alone would tell the peer nothing, and a receive would wait for ever. */
void sri_file_shut_down(sr_ring *ring, const struct sri_file *file) {
    if (file->kind == SRI_FD_SOCKET && (file->op_count > 0 || file->fixed_slot >= 0)) {
        (void)ring->queue.backend->fd_shutdown(file->fd); /* not connected: nobody to be told */
    }
}

void sri_file_begin_close(sr_ring *ring, struct sri_file *file, struct sri_op *op, bool cancel) {
    sri_file_move(file, SRI_FILE_CLOSING);
    sri_file_shut_down(ring, file);
    if (file->op_count > 0) {
        file->closer = op;
        sri_op_move(op, SRI_OP_WAITING);
        if (cancel || ring->starved_count > 0) {
            cancel_operations_of(ring, file, op, cancel);
        }
        return;
    }
    fixed_slot_clear(ring, file);
    sri_op_send(ring, op); /* the caller made room */
}

static void end_drop(sr_ring *ring, struct sri_file *file) {
    fixed_slot_clear(ring, file);
    sri_ring_drop_fd(ring, file->fd);
    sri_file_release(&ring->files, file);
}

void sri_file_drop(sr_ring *ring, struct sri_file *file) {
    sri_file_move(file, SRI_FILE_CLOSING);
    sri_file_shut_down(ring, file);
    if (file->op_count > 0) {
        file->dropped = true;
        cancel_operations_of(ring, file, NULL, true);
    } else {
        end_drop(ring, file);
    }
}

void sri_file_last_op_ended(sr_ring *ring, struct sri_file *file) {
    struct sri_op *op = file->closer;
    if (file->dropped) {
        end_drop(ring, file);
        return;
    }
    if (op == NULL) {
        return; /* the ring's end has closed it under the operation */
    }
    file->closer = NULL;
    fixed_slot_clear(ring, file);
    sri_op_move(op, SRI_OP_FLYING);
    sri_op_send_or_wait(ring, op);
}

void sri_file_end_close(sr_ring *ring, struct sri_file *file, int64_t result) {
    if (result == -ECANCELED) {
        /* It never ran: the descriptor is still ours. */
        file->closer = NULL;
        sri_file_move(file, SRI_FILE_OPEN);
        return;
    }
    /* Also after an error the kernel has let go of the number (close(2), NOTES). */
    sri_file_release(&ring->files, file);
}

/* ---- public -----------------------------------------------------------------------------------
 */

static int adopt(sr_ring *ring, int fd, uint32_t flags, sr_file *out_file) {
    struct sri_files *files = &ring->files;
    if ((flags & ~(uint32_t)SR_FILE_FIXED) != 0) {
        return -EINVAL;
    }
    const int open_code = fd >= 0 ? ring->queue.backend->fd_is_open(fd) : -EBADF;
    if (open_code < 0) {
        return open_code;
    }
    const bool fixed = (flags & SR_FILE_FIXED) != 0;
    if (fixed && files->fixed_free_count == 0) {
        return SR_E_FULL;
    }
    struct sri_file *file = sri_file_reserve(files);
    if (file == NULL) {
        return SR_E_FULL;
    }
    if (fixed) {
        const uint32_t slot = files->fixed_stack[files->fixed_free_count - 1];
        const int code = ring->queue.backend->queue_set_file(&ring->queue, slot, fd);
        if (code < 0) {
            sri_file_release(files, file);
            return code;
        }
        files->fixed_free_count--;
        file->fixed_slot = (int32_t)slot;
    }
    sri_file_open(files, file, fd, ring->queue.backend->fd_kind(fd));
    out_file->bits = file->handle;
    return 0;
}

static bool is_misuse(int code) {
    return code == -EBADF || code == -EINVAL || (code <= SR_E_STALE && code != SR_E_FULL);
}

int sr_file_adopt(sr_ring *ring, int fd, uint32_t flags, sr_file *out_file) {
    if (out_file == NULL) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    out_file->bits = 0;
    int code = sri_ring_check(ring);
    if (code == 0) {
        code = adopt(ring, fd, flags, out_file);
    }
    return code < 0 && is_misuse(code) ? SRI_MISUSE(code, 0) : code;
}

/* A file that the caller may use now, or why not. */
static int file_for_caller(sr_ring *ring, sr_file handle, struct sri_file **out_file) {
    const int code = sri_ring_check(ring);
    if (code < 0) {
        return code;
    }
    struct sri_file *file = sri_file_find(&ring->files, handle.bits);
    if (file == NULL) {
        return SR_E_STALE;
    }
    if (file->state != SRI_FILE_OPEN) {
        return SR_E_STATE;
    }
    *out_file = file;
    return 0;
}

int sr_file_fd(sr_ring *ring, sr_file file, int *out_fd) {
    struct sri_file *found = NULL;
    if (out_fd == NULL) {
        return SRI_MISUSE(-EINVAL, file.bits);
    }
    *out_fd = -1;
    const int code = file_for_caller(ring, file, &found);
    if (code < 0) {
        return SRI_MISUSE(code, file.bits);
    }
    *out_fd = found->fd;
    return 0;
}

int sr_file_detach(sr_ring *ring, sr_file file, int *out_fd) {
    struct sri_file *found = NULL;
    if (out_fd == NULL) {
        return SRI_MISUSE(-EINVAL, file.bits);
    }
    *out_fd = -1;
    int code = file_for_caller(ring, file, &found);
    if (code == 0 && found->op_count > 0) {
        code = SR_E_IN_FLIGHT;
    }
    if (code < 0) {
        return SRI_MISUSE(code, file.bits);
    }
    *out_fd = found->fd;
    fixed_slot_clear(ring, found);
    sri_file_move(found, SRI_FILE_CLOSING);
    sri_file_release(&ring->files, found);
    return 0;
}
