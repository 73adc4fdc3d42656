/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "transfer.h"

#include <errno.h>
#include <unistd.h>

#define STATX_BLOCK_SIZE 512u

static bool fill(struct transfer *transfer);
static void read_ended(struct operation *operation, const sr_completion *completion);
static void write_ended(struct operation *operation, const sr_completion *completion);

void transfers_init(struct transfers *shared, struct loop *loop, struct progress *progress) {
    *shared = (struct transfers){.loop = loop, .progress = progress};
    shared->waiting_end = &shared->waiting;
}

bool transfer_is_sparse(const struct statx *stat) {
    return stat->stx_blocks * STATX_BLOCK_SIZE < stat->stx_size;
}

static void transfer_fail(struct transfer *transfer, const char *what, int code) {
    transfer->exhausted = true;
    if (transfer->failure.what == NULL) { /* what follows the first failure is no news */
        transfer->failure = (struct failure){what, code};
    }
}

/* ---- the line of those who wait for a buffer ------------------------------------------------- */

static void wait_for_buffer(struct transfer *transfer) {
    struct transfers *shared = transfer->shared;
    transfer->is_waiting = true;
    transfer->next_waiting = NULL;
    *shared->waiting_end = transfer;
    shared->waiting_end = &transfer->next_waiting;
}

static struct transfer *take_waiting(struct transfers *shared) {
    struct transfer *first = shared->waiting;
    if (first != NULL) {
        shared->waiting = first->next_waiting;
        if (shared->waiting == NULL) {
            shared->waiting_end = &shared->waiting;
        }
        first->is_waiting = false;
    }
    return first;
}

static void stop_waiting(struct transfer *transfer) {
    struct transfers *shared = transfer->shared;
    struct transfer **place = &shared->waiting;
    while (*place != transfer) {
        place = &(*place)->next_waiting;
    }
    *place = transfer->next_waiting;
    if (*place == NULL) {
        shared->waiting_end = place;
    }
    transfer->is_waiting = false;
}

/* ---- which bytes are next -------------------------------------------------------------------- */

/* Moves `next` to the next data and `data_end` to that data's end, or to the end of the file. */
static void find_data(struct transfer *transfer) {
    int fd;
    transfer->data_end = transfer->size;
    if (!transfer->sparse || sr_file_fd(transfer->shared->loop->ring, transfer->source, &fd) < 0) {
        return;
    }
    off_t data = lseek(fd, (off_t)transfer->next, SEEK_DATA);
    if (data < 0) {
        if (errno == ENXIO) { /* a hole up to the end */
            transfer->next = transfer->size;
        }
        return; /* else the file system does not tell: all is data */
    }
    transfer->next = (uint64_t)data < transfer->size ? (uint64_t)data : transfer->size;
    off_t hole = lseek(fd, data, SEEK_HOLE);
    if (hole > data && (uint64_t)hole < transfer->size) {
        transfer->data_end = (uint64_t)hole;
    }
}

static bool has_more(struct transfer *transfer) {
    if (!transfer->exhausted && transfer->size > 0 && transfer->next >= transfer->data_end) {
        find_data(transfer);
        transfer->exhausted = transfer->next >= transfer->size;
    }
    return !transfer->exhausted;
}

/* Only if it has more. */
static void take_range(struct transfer *transfer, struct chunk *chunk) {
    uint64_t left = transfer->data_end - transfer->next;
    chunk->offset = transfer->next;
    chunk->length = left < LOOP_BUFFER_SIZE ? left : LOOP_BUFFER_SIZE;
    if (transfer->size == 0) {
        /* Files of /proc and the like say that they are empty: ask for a byte to know. */
        chunk->length = 1;
        transfer->exhausted = true;
    }
    transfer->next += chunk->length;
}

/* ---- chunks ---------------------------------------------------------------------------------- */

static void submit_chunk(struct chunk *chunk, enum sr_opcode opcode, sr_file file,
                         operation_fn ended) {
    sr_request *request = operation_prepare(&chunk->operation, opcode);
    request->flags = SR_REQUEST_FULL;
    request->file = file;
    request->buffer = chunk->buffer;
    request->length = chunk->length;
    request->offset = chunk->offset;
    chunk->operation.ended = ended;
    chunk->operation.owner = chunk;
    loop_submit(chunk->transfer->shared->loop, &chunk->operation);
}

static void release_chunk(struct chunk *chunk) {
    struct transfer *transfer = chunk->transfer;
    int code = sr_pool_release(transfer->shared->loop->pool, chunk->buffer);
    if (code < 0) {
        transfer_fail(transfer, "cannot give a buffer back", code);
    }
    chunk->active = false;
    transfer->active--;
}

static void end_if_idle(struct transfer *transfer) {
    if (transfer->active == 0 && transfer->held == 0 && transfer->exhausted &&
        transfer->ended != NULL) {
        transfer_fn ended = transfer->ended;
        transfer->ended = NULL; /* exactly once */
        ended(transfer, &transfer->failure, transfer->ctx);
    }
}

/* A buffer has become free: whoever waits first gets it, unless it turns out to need none. */
static void feed_waiting(struct transfers *shared) {
    struct transfer *waiting;
    do {
        waiting = take_waiting(shared);
    } while (waiting != NULL && fill(waiting));
}

/* This chunk is over: go on with its buffer, or let somebody else have it. */
static void chunk_over(struct chunk *chunk) {
    struct transfer *transfer = chunk->transfer;
    bool keep = transfer->shared->waiting == NULL || transfer->active == 1;
    transfer->held++;
    if (keep && has_more(transfer)) {
        take_range(transfer, chunk);
        submit_chunk(chunk, SR_OP_READ, transfer->source, read_ended);
    } else {
        release_chunk(chunk);
        feed_waiting(transfer->shared);
    }
    transfer->held--;
    (void)fill(transfer); /* nothing depends on whether it took a buffer */
}

static void read_ended(struct operation *operation, const sr_completion *completion) {
    struct chunk *chunk = operation->owner;
    struct transfer *transfer = chunk->transfer;
    if (completion->result < 0) {
        transfer_fail(transfer, "cannot read", (int)completion->result);
    } else if (transfer->size == 0 && completion->result > 0) {
        transfer_fail(transfer, "has contents although its size is 0", 0);
    } else if (transfer->size > 0 && (uint64_t)completion->result < chunk->length) {
        transfer_fail(transfer, "became shorter while it was copied", 0);
    }
    if (transfer->failure.what != NULL || transfer->size == 0) {
        chunk_over(chunk);
        return;
    }
    submit_chunk(chunk, SR_OP_WRITE, transfer->target, write_ended);
}

static void write_ended(struct operation *operation, const sr_completion *completion) {
    struct chunk *chunk = operation->owner;
    struct transfer *transfer = chunk->transfer;
    if (completion->result < 0) {
        transfer_fail(transfer, "cannot write the copy", (int)completion->result);
    } else if ((uint64_t)completion->result < chunk->length) {
        transfer_fail(transfer, "cannot write the copy", -EIO);
    } else {
        transfer->settled += chunk->length;
        transfer->shared->progress->settled += chunk->length;
        transfer->shared->progress->bytes += chunk->length;
    }
    chunk_over(chunk);
}

/* Returns false if there is no buffer for it now. */
static bool start_chunk(struct transfer *transfer, struct chunk *chunk) {
    int code = sr_pool_acquire(transfer->shared->loop->pool, LOOP_BUFFER_SIZE, &chunk->buffer);
    if (code < 0) {
        if (code != SR_E_FULL) {
            transfer_fail(transfer, "cannot get a buffer", code);
        }
        return false;
    }
    chunk->transfer = transfer;
    chunk->active = true;
    transfer->active++;
    take_range(transfer, chunk);
    submit_chunk(chunk, SR_OP_READ, transfer->source, read_ended);
    return true;
}

/*
 * Starts as many chunks as there are bytes and buffers for; joins the line if there is not even
 * one. Returns true if it had no use for a buffer. The transfer may have ended by then.
 */
static bool fill(struct transfer *transfer) {
    bool started = false;
    transfer->held++;
    for (unsigned i = 0; i < TRANSFER_CHUNKS_MAX && has_more(transfer); i++) {
        if (transfer->chunks[i].active) {
            continue;
        }
        if (!start_chunk(transfer, &transfer->chunks[i])) {
            break;
        }
        started = true;
    }
    transfer->held--;
    if (transfer->active == 0 && !transfer->exhausted && !transfer->is_waiting) {
        wait_for_buffer(transfer);
    }
    bool unneeded = !started && !transfer->is_waiting;
    end_if_idle(transfer);
    return unneeded;
}

void transfer_start(struct transfer *transfer, struct transfers *shared, sr_file source,
                    sr_file target, const struct statx *stat, transfer_fn ended, void *ctx) {
    transfer->shared = shared;
    transfer->source = source;
    transfer->target = target;
    transfer->size = stat->stx_size;
    transfer->sparse = transfer_is_sparse(stat);
    transfer->next = 0;
    transfer->data_end = 0;
    transfer->exhausted = false;
    transfer->settled = 0;
    transfer->failure = (struct failure){0};
    transfer->active = 0;
    transfer->held = 0;
    transfer->is_waiting = false;
    transfer->ended = ended;
    transfer->ctx = ctx;
    (void)fill(transfer); /* nothing depends on whether it took a buffer */
}

void transfer_cancel(struct transfer *transfer) {
    transfer_fail(transfer, "interrupted", -ECANCELED);
    for (unsigned i = 0; i < TRANSFER_CHUNKS_MAX; i++) {
        if (transfer->chunks[i].active) {
            loop_cancel(transfer->shared->loop, &transfer->chunks[i].operation);
        }
    }
    if (transfer->is_waiting) {
        stop_waiting(transfer);
    }
    end_if_idle(transfer);
}
