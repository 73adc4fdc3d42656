/* SPDX-License-Identifier: MIT */
/*
 * Soak: for some seconds two rings that share a pool do whatever comes: reads and writes of files
 * and pipes, opens and closes, cancels, abandons, deadlines, callbacks, waits of all kinds; now and
 * then a ring is destroyed in the midst of it and made anew. A model says what must come of it: one
 * outcome for each operation, the right bytes, errors only where somebody asked for an end, and in
 * the end everything as it was.
 *
 * Files hold a pattern that depends on the offset alone and every write writes the same pattern, so
 * whatever overtakes whatever, a byte that was read is right or wrong by itself.
 */
#include "support/baseline.h"
#include "support/rig.h"
#include "support/scale.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifdef SAFERING_HAVE_VALGRIND
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#define RINGS        2u
#define JOBS         96u
#define BUFFERS      24u
#define PART_BYTES   2048u
#define PARTS        4u
#define BUFFER_BYTES (PART_BYTES * PARTS)
#define FILES        3u /* regular ones */
#define FILE_BYTES   (128u * 1024)
#define PIPES        2u
#define HANDLES      10u /* files that one ring keeps */
#define PIPE_BYTE    'p'
#define NONE         UINT32_MAX

enum kind { REGULAR, PIPE };

struct handle {
    sr_file file; /* none: place is free */
    enum kind kind;
    uint32_t number;
    uint32_t job_count; /* whose outcome is still to come */
    bool closing;
};

/* A buffer that the program holds. */
struct held {
    sr_buffer buffer; /* none: place is free */
    uint32_t readers[PARTS];
    uint32_t writers[PARTS];
    uint64_t life; /* a job whose buffer had another life lost it */
};

struct piece {
    uint32_t held;
    uint32_t part;
    uint32_t length;
};

struct job {
    bool active;
    sr_op op;
    uint32_t ring;
    uint16_t opcode;
    uint16_t flags;
    uint32_t handle;
    uint64_t life; /* of the file handle: its bits */
    enum kind kind;
    uint32_t number;
    uint64_t offset;
    uint32_t piece_count;
    struct piece pieces[PARTS];
    uint64_t lives[PARTS];
    bool has_callback;
};

struct world {
    struct scale_random random;
    sr_pool *pool;
    struct world_ring {
        sr_ring *ring;
        struct handle handles[HANDLES];
        int pipes[PIPES]; /* write ends */
        bool in_wait;     /* some jobs may have ended that the model still takes for active */
    } rings[RINGS];
    struct job jobs[JOBS];
    struct held held[BUFFERS];
    uint64_t lives;
    char directory[64];
    char paths[FILES][96];
    /* What happened: a soak in which something never happens tests less than it says. */
    uint64_t outcomes[SR_OP_COUNT];
    uint64_t cancelled;
    uint64_t abandoned;
    uint64_t deadlines_hit;
    uint64_t lent_refused;
    uint64_t rings_destroyed;
    uint64_t callbacks;
};

static struct world world;

static uint64_t below(uint64_t limit) {
    return scale_random_below(&world.random, limit);
}

static bool one_in(uint64_t count) {
    return below(count) == 0;
}

static unsigned char file_byte(uint32_t number, uint64_t offset) {
    return (unsigned char)((offset * 3 + offset / 241 + number * 89u) % 241u);
}

static void check_code(int code, int expected, const char *what) {
    cr_assert_eq(code, expected, "%s: %d (%s), expected %d", what, code, sr_error_name(code),
                 expected);
}

static uint64_t now_ms(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- jobs ------------------------------------------------------------------------------------ */

static bool is_transfer(uint16_t opcode) {
    return opcode >= SR_OP_READ && opcode <= SR_OP_WRITEV;
}

static bool is_read(uint16_t opcode) {
    return opcode == SR_OP_READ || opcode == SR_OP_READV;
}

static uint32_t job_free(void) {
    const uint32_t start = (uint32_t)below(JOBS);
    for (uint32_t i = 0; i < JOBS; i++) {
        if (!world.jobs[(start + i) % JOBS].active) {
            return (start + i) % JOBS;
        }
    }
    return NONE;
}

static uint32_t job_any(uint32_t ring) {
    const uint32_t start = (uint32_t)below(JOBS);
    for (uint32_t i = 0; i < JOBS; i++) {
        const struct job *job = &world.jobs[(start + i) % JOBS];
        if (job->active && job->ring == ring) {
            return (start + i) % JOBS;
        }
    }
    return NONE;
}

static struct handle *handle_of(const struct job *job) {
    if (job->handle == NONE) {
        return NULL;
    }
    struct handle *handle = &world.rings[job->ring].handles[job->handle];
    return handle->file.bits == job->life ? handle : NULL;
}

static bool still_held(const struct job *job, uint32_t piece) {
    return world.held[job->pieces[piece].held].life == job->lives[piece];
}

/* The loans of a job are over. */
static void unlend(const struct job *job) {
    for (uint32_t i = 0; i < job->piece_count; i++) {
        if (still_held(job, i)) {
            struct held *held = &world.held[job->pieces[i].held];
            const uint32_t part = job->pieces[i].part;
            (is_read(job->opcode) ? held->writers : held->readers)[part]--;
        }
    }
}

static unsigned char *part_data(const struct held *held, uint32_t part, uint32_t length,
                                int access) {
    void *data = NULL;
    check_code(sr_buffer_data(world.pool, held->buffer, part * PART_BYTES, length, access, &data),
               0, "sr_buffer_data");
    return data;
}

/* The first @done bytes that a job read are those of the file. */
static void check_bytes(const struct job *job, uint64_t done) {
    uint64_t offset = job->offset;
    for (uint32_t i = 0; i < job->piece_count && done > 0; i++) {
        const uint32_t here = done < job->pieces[i].length ? (uint32_t)done : job->pieces[i].length;
        if (still_held(job, i)) {
            const struct held *held = &world.held[job->pieces[i].held];
            const unsigned char *data = part_data(held, job->pieces[i].part, here, SR_ACCESS_READ);
            for (uint32_t at = 0; at < here; at++) {
                const unsigned char expected =
                    job->kind == PIPE ? PIPE_BYTE : file_byte(job->number, offset + at);
                cr_assert_eq(data[at], expected, "byte %u of %u: %u, expected %u", at, here,
                             data[at], expected);
            }
        }
        offset += here;
        done -= here;
    }
}

static uint64_t job_length(const struct job *job) {
    uint64_t length = 0;
    for (uint32_t i = 0; i < job->piece_count; i++) {
        length += job->pieces[i].length;
    }
    return length;
}

static void check_transfer(const struct job *job, const sr_completion *completion) {
    const uint64_t length = job_length(job);
    cr_assert_leq(completion->bytes_done, length);
    if (completion->result >= 0) {
        cr_assert_eq((uint64_t)completion->result, completion->bytes_done);
    }
    if (job->kind == REGULAR && completion->result >= 0) {
        const uint64_t left = FILE_BYTES - job->offset;
        const uint64_t most = is_read(job->opcode) && left < length ? left : length;
        cr_assert_eq(completion->bytes_done, most, "%llu of %llu bytes",
                     (unsigned long long)completion->bytes_done, (unsigned long long)most);
    }
    if (is_read(job->opcode)) {
        check_bytes(job, completion->bytes_done);
    }
}

static void handle_close_ended(struct handle *handle) {
    handle->file = SR_FILE_NONE;
    handle->closing = false;
}

static void take_opened(const struct job *job, const sr_completion *completion) {
    struct world_ring *at = &world.rings[job->ring];
    for (uint32_t i = 0; i < HANDLES; i++) {
        if (at->handles[i].file.bits == 0) {
            at->handles[i] =
                (struct handle){.file = completion->file, .number = (uint32_t)job->offset};
            return;
        }
    }
    int fd = -1; /* no place: give it up by hand */
    check_code(sr_file_detach(at->ring, completion->file, &fd), 0, "sr_file_detach");
    cr_assert_eq(close(fd), 0);
}

static void check_outcome(struct job *job, const sr_completion *completion) {
    const bool asked =
        (completion->flags & (SR_COMPLETION_CANCEL_ASKED | SR_COMPLETION_DEADLINE_HIT)) != 0;
    struct handle *handle = handle_of(job);
    world.outcomes[job->opcode]++;
    world.deadlines_hit += (completion->flags & SR_COMPLETION_DEADLINE_HIT) != 0;
    if (completion->result < 0) {
        cr_assert(asked, "op %u ended with %d and nobody had asked", job->opcode,
                  (int)completion->result);
        cr_assert(completion->result == -ECANCELED || completion->result == -EINTR, "op %u: %d",
                  job->opcode, (int)completion->result);
        world.cancelled++;
    }
    unlend(job);
    if (handle != NULL) {
        handle->job_count--;
    }
    if (is_transfer(job->opcode)) {
        check_transfer(job, completion);
    } else if (job->opcode == SR_OP_CLOSE) {
        cr_assert_eq(completion->result, 0);
        /* It comes last. (One with a callback overtakes outcomes that are in the array.) */
        cr_assert(job->has_callback || handle->job_count == 0, "closed under an operation");
        handle_close_ended(handle);
    } else if (job->opcode == SR_OP_OPENAT && completion->result == 0) {
        take_opened(job, completion);
    } else if (job->opcode == SR_OP_STATX && completion->result == 0) {
        cr_assert_eq(completion->statx->stx_size, FILE_BYTES);
    }
}

static void take(uint32_t ring, const sr_completion *completion) {
    cr_assert_lt(completion->tag, JOBS);
    struct job *job = &world.jobs[completion->tag];
    cr_assert(job->active, "a second outcome for tag %llu", (unsigned long long)completion->tag);
    cr_assert_eq(job->op.bits, completion->op.bits);
    cr_assert_eq(job->ring, ring);
    cr_assert_eq(job->opcode, completion->opcode);
    check_outcome(job, completion);
    job->active = false;
}

static void do_something_in_callback(uint32_t ring);

static void called_back(sr_ring *ring, const sr_completion *completion, void *ctx) {
    struct job *job = ctx;
    const uint32_t number = job->ring;
    cr_assert_eq(world.rings[number].ring, ring);
    cr_assert(job->has_callback && world.rings[number].in_wait);
    world.callbacks++;
    take(number, completion);
    check_code(sr_ring_wait(ring, 0, 0, NULL, NULL), SR_E_STATE, "wait in a callback");
    if (one_in(3)) {
        do_something_in_callback(number);
    }
}

/* ---- submitting ------------------------------------------------------------------------------ */

static uint32_t held_any(void) {
    const uint32_t start = (uint32_t)below(BUFFERS);
    for (uint32_t i = 0; i < BUFFERS; i++) {
        if (world.held[(start + i) % BUFFERS].buffer.bits != 0) {
            return (start + i) % BUFFERS;
        }
    }
    return NONE;
}

static uint32_t handle_any(uint32_t ring, bool regular_only) {
    const struct world_ring *at = &world.rings[ring];
    const uint32_t start = (uint32_t)below(HANDLES);
    for (uint32_t i = 0; i < HANDLES; i++) {
        const struct handle *handle = &at->handles[(start + i) % HANDLES];
        const bool unsure = at->in_wait && handle->closing;
        if (handle->file.bits != 0 && !unsure && !(regular_only && handle->kind == PIPE)) {
            return (start + i) % HANDLES;
        }
    }
    return NONE;
}

/* Chooses the parts of buffers of a transfer. Returns whether the borrow rule allows them. */
static bool choose_pieces(struct job *job, uint32_t count, bool read) {
    bool allowed = true;
    job->piece_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t place = held_any();
        if (place == NONE) {
            return false;
        }
        struct held *held = &world.held[place];
        const uint32_t part = (uint32_t)below(PARTS);
        allowed = allowed && held->writers[part] == 0 && (!read || held->readers[part] == 0);
        job->pieces[i] = (struct piece){place, part, 1 + (uint32_t)below(PART_BYTES)};
        job->lives[i] = held->life;
        job->piece_count++;
        (read ? held->writers : held->readers)[part]++;
    }
    return allowed;
}

/* What a write is to write; only where the program may touch the bytes. */
static bool fill_pieces(const struct job *job, uint32_t number) {
    uint64_t offset = job->offset;
    for (uint32_t i = 0; i < job->piece_count; i++) {
        const struct held *held = &world.held[job->pieces[i].held];
        if (held->readers[job->pieces[i].part] != 1) {
            return false; /* another write reads them: not to be changed now */
        }
        unsigned char *data =
            part_data(held, job->pieces[i].part, job->pieces[i].length, SR_ACCESS_WRITE);
        for (uint32_t at = 0; at < job->pieces[i].length; at++) {
            data[at] = file_byte(number, offset + at);
        }
        offset += job->pieces[i].length;
    }
    return true;
}

/* Submits what @request has so far as job @index. */
static void launch(uint32_t index, sr_request *request, bool allowed) {
    struct job *job = &world.jobs[index];
    struct handle *handle =
        job->handle != NONE ? &world.rings[job->ring].handles[job->handle] : NULL;
    int expected = allowed ? 0 : SR_E_LENT;
    if (handle != NULL) {
        request->file = handle->file;
        job->life = handle->file.bits;
        job->kind = handle->kind;
        job->number = handle->number;
        expected = handle->closing ? SR_E_STATE : expected;
    }
    request->op = job->opcode;
    request->flags = job->flags;
    request->tag = index;
    request->ctx = job;
    job->has_callback = one_in(4);
    request->on_complete = job->has_callback ? called_back : NULL;
    const int code = sr_ring_submit(world.rings[job->ring].ring, request, &job->op);
    if (code == SR_E_FULL) {
        expected = SR_E_FULL; /* of operations or files: not modelled */
    }
    check_code(code, expected, "sr_ring_submit");
    if (code != 0) {
        cr_assert_eq(job->op.bits, 0);
        world.lent_refused += code == SR_E_LENT;
        unlend(job);
        return;
    }
    job->active = true;
    if (handle != NULL) {
        handle->job_count++;
        handle->closing = handle->closing || job->opcode == SR_OP_CLOSE;
    }
}

static struct job *job_begin(uint32_t index, uint32_t ring, uint16_t opcode) {
    world.jobs[index] = (struct job){.ring = ring, .opcode = opcode, .handle = NONE};
    world.jobs[index].flags = one_in(4) ? SR_REQUEST_ASYNC : 0;
    return &world.jobs[index];
}

static void set_slices(const struct job *job, sr_slice *slices, sr_request *request) {
    for (uint32_t i = 0; i < job->piece_count; i++) {
        const struct piece *piece = &job->pieces[i];
        slices[i] =
            (sr_slice){world.held[piece->held].buffer, piece->part * PART_BYTES, piece->length};
    }
    request->slices = slices;
    request->slice_count = job->piece_count;
    request->buffer = slices[0].buffer;
    request->buffer_offset = slices[0].offset_bytes;
    request->length = slices[0].length_bytes;
}

static void do_transfer(uint32_t index, uint32_t ring) {
    static const uint16_t opcodes[] = {SR_OP_READ, SR_OP_WRITE, SR_OP_READV, SR_OP_WRITEV};
    struct job *job = job_begin(index, ring, opcodes[below(4)]);
    const bool read = is_read(job->opcode);
    const bool vector = job->opcode >= SR_OP_READV;
    sr_slice slices[PARTS];
    sr_request request = SR_REQUEST_INIT;
    job->handle = handle_any(ring, !read);
    if (job->handle == NONE) {
        return;
    }
    const struct handle *handle = &world.rings[ring].handles[job->handle];
    const bool allowed = choose_pieces(job, vector ? 1 + (uint32_t)below(PARTS) : 1, read);
    const uint64_t room = FILE_BYTES - (read ? 1 : job_length(job));
    job->offset = handle->kind == PIPE ? SR_OFFSET_CURRENT : below(room + 1);
    const bool unsure = world.rings[ring].in_wait && !allowed;
    if (job->piece_count == 0 || unsure ||
        (!read && (!allowed || !fill_pieces(job, handle->number)))) {
        unlend(job);
        return;
    }
    job->flags |= handle->kind == REGULAR && one_in(3) ? SR_REQUEST_FULL : 0;
    request.offset = job->offset;
    /* Nobody may ever write to a pipe again: half of these reads end by their deadline. */
    request.deadline_ns = handle->kind == PIPE && one_in(2) ? 1 + below(3 * RIG_MS) : 0;
    set_slices(job, slices, &request);
    launch(index, &request, allowed);
}

static void do_path(uint32_t index, uint32_t ring, uint16_t opcode) {
    struct job *job = job_begin(index, ring, opcode);
    sr_request request = SR_REQUEST_INIT;
    job->offset = below(FILES); /* which file: what is opened needs to know */
    request.path = world.paths[job->offset];
    if (opcode == SR_OP_OPENAT) {
        request.op_flags = O_RDWR;
    } else {
        request.mask = STATX_SIZE;
    }
    launch(index, &request, true);
}

static void do_file(uint32_t index, uint32_t ring, uint16_t opcode) {
    struct job *job = job_begin(index, ring, opcode);
    sr_request request = SR_REQUEST_INIT;
    job->handle = handle_any(ring, true);
    if (job->handle == NONE) {
        return;
    }
    request.op_flags = opcode == SR_OP_CLOSE && one_in(2) ? SR_CLOSE_CANCEL : 0;
    launch(index, &request, true);
}

static void do_plain(uint32_t index, uint32_t ring, uint16_t opcode) {
    (void)job_begin(index, ring, opcode);
    sr_request request = SR_REQUEST_INIT;
    request.duration_ns = below(5 * RIG_MS);
    request.deadline_ns = opcode == SR_OP_TIMEOUT && one_in(3) ? 1 + below(5 * RIG_MS) : 0;
    launch(index, &request, true);
}

/* ---- everything else ------------------------------------------------------------------------- */

static void do_cancel(uint32_t ring) {
    const uint32_t index = job_any(ring);
    if (index != NONE) {
        check_code(sr_op_cancel(world.rings[ring].ring, world.jobs[index].op), 0, "sr_op_cancel");
    }
}

/* The buffers of an abandoned operation are gone; other operations on them go on. */
static void lose_buffers(const struct job *job) {
    for (uint32_t i = 0; i < job->piece_count; i++) {
        struct held *held = &world.held[job->pieces[i].held];
        if (still_held(job, i)) {
            void *data = NULL;
            check_code(sr_buffer_data(world.pool, held->buffer, 0, 1, SR_ACCESS_READ, &data),
                       SR_E_STALE, "a buffer of an abandoned operation");
            *held = (struct held){.life = ++world.lives};
        }
    }
}

static void do_abandon(uint32_t ring) {
    const uint32_t index = job_any(ring);
    sr_completion completion;
    if (index == NONE || world.jobs[index].opcode == SR_OP_CLOSE) {
        return;
    }
    struct job *job = &world.jobs[index];
    struct handle *handle = handle_of(job);
    check_code(sr_op_abandon(world.rings[ring].ring, job->op, &completion), 0, "sr_op_abandon");
    cr_assert_eq(completion.result, SR_E_TIMEOUT);
    cr_assert_eq(completion.tag, index);
    cr_assert_eq(completion.op.bits, job->op.bits);
    lose_buffers(job);
    if (handle != NULL) {
        handle->job_count--;
    }
    job->active = false;
    world.abandoned++;
}

static void do_buffer(void) {
    struct held *held = &world.held[below(BUFFERS)];
    if (held->buffer.bits == 0) {
        const int code = sr_pool_acquire(world.pool, BUFFER_BYTES, &held->buffer);
        cr_assert(code == 0 || code == SR_E_FULL, "sr_pool_acquire: %d", code);
        held->life = ++world.lives;
        return;
    }
    bool lent = false;
    for (uint32_t part = 0; part < PARTS; part++) {
        lent = lent || held->readers[part] != 0 || held->writers[part] != 0;
    }
    check_code(sr_pool_release(world.pool, held->buffer), lent ? SR_E_IN_FLIGHT : 0,
               "sr_pool_release");
    if (!lent) {
        *held = (struct held){.life = ++world.lives};
    }
}

static void feed_pipes(uint32_t ring) {
    char bytes[3000];
    memset(bytes, PIPE_BYTE, sizeof bytes);
    const ssize_t written =
        write(world.rings[ring].pipes[below(PIPES)], bytes, 1 + below(sizeof bytes));
    cr_assert(written > 0 || errno == EAGAIN);
}

static void do_detach(uint32_t ring) {
    const uint32_t place = handle_any(ring, true);
    int fd = -1;
    if (place == NONE) {
        return;
    }
    struct handle *handle = &world.rings[ring].handles[place];
    const int code = sr_file_detach(world.rings[ring].ring, handle->file, &fd);
    if (handle->closing) {
        check_code(code, SR_E_STATE, "sr_file_detach");
    } else if (handle->job_count > 0) {
        check_code(code, SR_E_IN_FLIGHT, "sr_file_detach");
    } else {
        /* Abandoned operations may still use it. */
        cr_assert(code == 0 || code == SR_E_IN_FLIGHT, "sr_file_detach: %d", code);
    }
    if (code == 0) {
        cr_assert_eq(close(fd), 0);
        handle->file = SR_FILE_NONE;
    }
}

static void do_wait(uint32_t ring) {
    struct world_ring *at = &world.rings[ring];
    const sr_completion *completions = NULL;
    at->in_wait = true;
    const int count =
        sr_ring_wait(at->ring, (uint32_t)below(5), below(2 * RIG_MS), NULL, &completions);
    at->in_wait = false;
    cr_assert(count >= 0 || count == SR_E_TIMEOUT || count == SR_E_IDLE, "sr_ring_wait: %d", count);
    for (int i = 0; i < count; i++) {
        const sr_completion copy = completions[i];
        take(ring, &copy);
    }
}

static void do_something(uint32_t ring) {
    const uint32_t index = job_free();
    const uint64_t what = index != NONE ? below(20) : 19;
    if (what < 10) {
        do_transfer(index, ring);
    } else if (what == 10) {
        do_path(index, ring, SR_OP_OPENAT);
    } else if (what == 11) {
        do_path(index, ring, SR_OP_STATX);
    } else if (what == 12) {
        do_file(index, ring, one_in(3) ? SR_OP_FDATASYNC : SR_OP_CLOSE);
    } else if (what == 13) {
        do_plain(index, ring, one_in(2) ? SR_OP_NOP : SR_OP_TIMEOUT);
    } else if (what == 14) {
        do_abandon(ring);
    } else if (what == 15) {
        do_detach(ring);
    } else if (what == 16) {
        feed_pipes(ring);
    } else if (what < 19) {
        do_buffer();
    } else {
        do_cancel(ring);
    }
}

/* What the model knows for sure also while outcomes wait in the array that it has not seen. */
static void do_something_in_callback(uint32_t ring) {
    const uint32_t index = job_free();
    const uint64_t what = index != NONE ? below(6) : 5;
    if (what < 3) {
        do_transfer(index, ring);
    } else if (what == 3) {
        do_path(index, ring, SR_OP_OPENAT);
    } else if (what == 4) {
        do_plain(index, ring, SR_OP_TIMEOUT);
    } else {
        const uint32_t victim = job_any(ring);
        const int code =
            victim != NONE ? sr_op_cancel(world.rings[ring].ring, world.jobs[victim].op) : 0;
        cr_assert(code == 0 || code == SR_E_STALE, "sr_op_cancel: %d", code);
    }
}

/* ---- the beginning and the end --------------------------------------------------------------- */

static void handle_adopt(struct world_ring *at, uint32_t place, enum kind kind, uint32_t number,
                         int fd) {
    struct handle *handle = &at->handles[place];
    *handle = (struct handle){.kind = kind, .number = number};
    const uint32_t flags = one_in(2) ? SR_FILE_FIXED : 0;
    check_code(sr_file_adopt(at->ring, fd, flags, &handle->file), 0, "sr_file_adopt");
}

static void ring_begin(struct world_ring *at) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    memset(at, 0, sizeof *at);
    options.entries = one_in(2) ? 8 : 64; /* with 8 the queue is often full */
    options.ops_max = 64;
    options.completions_max = one_in(2) ? 4 : 0;
    check_code(sr_ring_create(&options, &at->ring), 0, "sr_ring_create");
    cr_assert(sr_ring_attach_pool(at->ring, world.pool) >= 0);
    for (uint32_t i = 0; i < FILES; i++) {
        const int fd = open(world.paths[i], O_RDWR | O_CLOEXEC);
        cr_assert(fd >= 0);
        handle_adopt(at, i, REGULAR, i, fd);
    }
    for (uint32_t i = 0; i < PIPES; i++) {
        int ends[2];
        cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
        cr_assert_eq(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
        handle_adopt(at, FILES + i, PIPE, i, ends[0]);
        at->pipes[i] = ends[1];
    }
}

/* Destroys a ring whatever is in flight: all of it can be cancelled, so nothing may be left. */
static void ring_end(uint32_t ring) {
    struct world_ring *at = &world.rings[ring];
    sr_ring_stats stats = SR_RING_STATS_INIT;
    check_code(sr_ring_get_stats(at->ring, &stats), 0, "sr_ring_get_stats");
    cr_assert_eq(stats.completions_unknown_total, 0);
    cr_assert_eq(stats.completions_stale_total, 0);
    check_code(sr_ring_destroy(&at->ring), 0, "sr_ring_destroy");
    for (uint32_t i = 0; i < JOBS; i++) {
        struct job *job = &world.jobs[i];
        if (job->active && job->ring == ring) {
            unlend(job);
            job->active = false;
        }
    }
    for (uint32_t i = 0; i < PIPES; i++) {
        cr_assert_eq(close(at->pipes[i]), 0);
    }
    world.rings_destroyed++;
}

static void files_begin(void) {
    static unsigned char bytes[FILE_BYTES];
    (void)strcpy(world.directory, "/tmp/safering-soak-XXXXXX");
    cr_assert_not_null(mkdtemp(world.directory));
    for (uint32_t i = 0; i < FILES; i++) {
        (void)snprintf(world.paths[i], sizeof world.paths[i], "%s/%u", world.directory, i);
        const int fd = open(world.paths[i], O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        for (uint32_t at = 0; at < FILE_BYTES; at++) {
            bytes[at] = file_byte(i, at);
        }
        cr_assert(fd >= 0 && write(fd, bytes, FILE_BYTES) == (ssize_t)FILE_BYTES && close(fd) == 0);
    }
}

/* What is on disk in the end is what was there in the beginning. */
static void files_end(void) {
    static unsigned char bytes[FILE_BYTES + 1];
    for (uint32_t i = 0; i < FILES; i++) {
        const int fd = open(world.paths[i], O_RDONLY | O_CLOEXEC);
        cr_assert_eq(read(fd, bytes, sizeof bytes), (ssize_t)FILE_BYTES);
        cr_assert_eq(close(fd), 0);
        for (uint32_t at = 0; at < FILE_BYTES; at++) {
            cr_assert_eq(bytes[at], file_byte(i, at), "file %u, byte %u", i, at);
        }
        cr_assert_eq(unlink(world.paths[i]), 0);
    }
    cr_assert_eq(rmdir(world.directory), 0);
}

static void check_all_buffers_are_free(void) {
    sr_pool_stats stats = SR_POOL_STATS_INIT;
    for (uint32_t i = 0; i < BUFFERS; i++) {
        if (world.held[i].buffer.bits != 0) {
            check_code(sr_pool_release(world.pool, world.held[i].buffer), 0, "sr_pool_release");
        }
    }
    check_code(sr_pool_get_stats(world.pool, &stats), 0, "sr_pool_get_stats");
    cr_assert_eq(stats.free_count, BUFFERS);
    cr_assert_eq(stats.quarantined_count, 0);
    cr_assert_eq(stats.rings_attached, 0);
    cr_assert_eq(stats.overruns_total, 0);
}

static void soak(uint64_t duration_ms, uint64_t stream, uint32_t guard) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    memset(&world, 0, sizeof world);
    world.random = scale_random(stream);
    options.buffer_size_bytes = BUFFER_BYTES;
    options.buffer_count = BUFFERS;
    options.guard = guard;
    files_begin();
    check_code(sr_pool_create(NULL, &options, &world.pool), 0, "sr_pool_create");
    for (uint32_t i = 0; i < RINGS; i++) {
        ring_begin(&world.rings[i]);
    }
    for (const uint64_t end_ms = now_ms() + duration_ms; now_ms() < end_ms;) {
        const uint32_t ring = (uint32_t)below(RINGS);
        for (uint64_t i = below(30); i > 0; i--) {
            do_something(ring);
        }
        if (one_in(4)) {
            cr_assert_geq(sr_ring_flush(world.rings[ring].ring), 0);
        }
        do_wait(ring);
        if (one_in(150)) {
            ring_end(ring);
            ring_begin(&world.rings[ring]);
        }
    }
    for (uint32_t i = 0; i < RINGS; i++) {
        ring_end(i);
    }
    check_all_buffers_are_free();
    check_code(sr_pool_destroy(&world.pool), 0, "sr_pool_destroy");
    files_end();
}

static void tell(void) {
    uint64_t outcomes = 0;
    for (uint32_t i = 0; i < SR_OP_COUNT; i++) {
        outcomes += world.outcomes[i];
    }
    fprintf(stderr,
            "soak: %llu outcomes, %llu cancelled, %llu abandoned, %llu deadlines, %llu refused as "
            "lent, %llu callbacks, %llu rings\n",
            (unsigned long long)outcomes, (unsigned long long)world.cancelled,
            (unsigned long long)world.abandoned, (unsigned long long)world.deadlines_hit,
            (unsigned long long)world.lent_refused, (unsigned long long)world.callbacks,
            (unsigned long long)world.rings_destroyed);
}

/* What is there now and was not at @before, or NULL. */
static const char *left_behind(const struct baseline *before) {
    static struct baseline now;
    if (!RUNNING_ON_VALGRIND) {
        return baseline_difference(before);
    }
    baseline_take(&now); /* valgrind maps memory of its own as it goes */
    return now.fd_count != before->fd_count ? "descriptors are left" : NULL;
}

static void soak_and_compare(uint64_t stream, uint32_t guard) {
    static struct baseline baseline;
    soak(100, stream + 1, guard); /* the first of everything maps memory */
    baseline_take(&baseline);
    soak(scale_count(4000, 200), stream, guard);
    tell();
    const char *difference = left_behind(&baseline);
    cr_assert(difference == NULL, "%s", difference);
    if (scale_factor() >= 1.0) {
        for (uint16_t op = SR_OP_NOP; op <= SR_OP_WRITEV; op++) {
            cr_assert(world.outcomes[op] > 100, "op %u ended only %llu times", op,
                      (unsigned long long)world.outcomes[op]);
        }
        cr_assert(world.outcomes[SR_OP_OPENAT] > 20 && world.outcomes[SR_OP_CLOSE] > 20);
        cr_assert(world.cancelled > 20 && world.abandoned > 20 && world.deadlines_hit > 20);
        cr_assert(world.lent_refused > 20 && world.callbacks > 100 &&
                  world.rings_destroyed > RINGS);
    }
}

Test(soak, whatever_comes_ends_well) {
    soak_and_compare(1, SR_GUARD_OFF);
}

Test(soak, with_guards_too) {
    soak_and_compare(3, SR_GUARD_POISON);
}
