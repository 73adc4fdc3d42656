/* SPDX-License-Identifier: MIT */
/*
 * ipc.stream: messages of 64 bytes from one thread to another, validated and copied by the reader,
 * against a queue that validates nothing. Nobody sleeps. Streams are inside of the library, so this
 * file links its static part.
 *
 * ipc.drop: the same where a full stream loses messages by its policy: the writer never waits, and
 * the round is over when the reader has got, or knows to be lost, every one of them.
 */
#include "baseline.h"
#include "ipc/stream.h"
#include "work.h"
#include <errno.h>
#include <safering/error.h>
#include <sched.h>
#include <stdlib.h>

struct side {
    struct sri_stream_writer writer;
    char apart[64]; /* each end is one thread's */
    struct sri_stream_reader reader;
    struct sri_stream_place place;
    struct bench_partner *partner;
    const struct bench_round *round;
    uint64_t seen; /* messages of all rounds that were got, or are lost */
};

static void side_close(void *side) {
    struct side *self = side;

    bench_partner_close(self->partner);
    free(self->place.writer_memory);
    free(self->place.reader_memory);
    free(self);
}

static void *zeroed(size_t size_bytes) {
    void *memory = NULL;

    return posix_memalign(&memory, SRI_STREAM_ALIGNMENT, size_bytes) == 0
               ? memset(memory, 0, size_bytes)
               : NULL;
}

static int side_open_as(uint32_t overflow, void **out_side) {
    struct side *self = zeroed(sizeof(*self));
    struct sri_stream_options options = {
        .capacity = BENCH_STREAM_MESSAGES,
        .slot_bytes = 96, /* 64 and a header of 16, in units of 32 */
        .overflow = overflow,
        .epoch = 1,
        .kind_max = 1,
    };
    int status;

    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "safering: out of memory");
    }
    self->place.writer_bytes = sri_stream_writer_bytes(&options);
    self->place.writer_memory = zeroed(self->place.writer_bytes);
    self->place.reader_bytes = SRI_STREAM_READER_BYTES;
    self->place.reader_memory = zeroed(self->place.reader_bytes);
    if (sri_stream_writer_init(&self->writer, &options, &self->place) != 0 ||
        sri_stream_reader_init(&self->reader, &options, &self->place) != 0) {
        side_close(self);
        return bench_complain(BENCH_WRONG, "safering: no stream");
    }
    status = bench_partner_open(&self->partner);
    if (status != BENCH_OK) {
        side_close(self);
        return status;
    }
    *out_side = self;
    return BENCH_OK;
}

static int open_guaranteed(const struct bench_setup *setup, void **out_side,
                           struct bench_facts *out_facts) {
    (void)setup;
    (void)out_facts; /* no ring */
    return side_open_as(SRI_OVERFLOW_GUARANTEED, out_side);
}

#define OPEN_LOSSY(name, policy)                                                                   \
    static int open_##name(const struct bench_setup *setup, void **out_side,                       \
                           struct bench_facts *out_facts) {                                        \
        (void)setup;                                                                               \
        (void)out_facts;                                                                           \
        return side_open_as(policy, out_side);                                                     \
    }
OPEN_LOSSY(best_effort, SRI_OVERFLOW_BEST_EFFORT)
OPEN_LOSSY(reliable, SRI_OVERFLOW_RELIABLE)
OPEN_LOSSY(realtime, SRI_OVERFLOW_REALTIME)

static int flood(void *argument) {
    struct side *self = argument;

    for (uint32_t i = 0; i < self->round->ops; i++) {
        uint64_t message[BENCH_STREAM_WORDS];
        int code;

        bench_stream_fill(message, self->round->base + i);
        while ((code = sri_stream_put(&self->writer, 1, message, sizeof(message))) == SR_E_FULL) {
            code = sri_stream_publish(&self->writer);
            if (code != 0) {
                break;
            }
            (void)sched_yield();
        }
        if (code == 0 && (i + 1) % BENCH_STREAM_BATCH == 0) {
            code = sri_stream_publish(&self->writer);
        }
        if (code != 0) {
            return bench_complain(BENCH_WRONG, "safering: put: %s", sr_strerror(code));
        }
    }
    return sri_stream_publish(&self->writer) == 0 ? BENCH_OK : BENCH_WRONG;
}

/* Each message once and in order. A take that finds nothing releases what was taken. */
static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    uint64_t begin = 0; /* when the first message came: the sender needs time to wake up */

    self->round = round;
    bench_partner_begin(self->partner, flood, self);
    while (out_work->ops < round->ops) {
        uint64_t bytes[BENCH_STREAM_WORDS];
        struct sri_message message;
        int code = sri_stream_take(&self->reader, bytes, sizeof(bytes), &message);

        if (code == 0) {
            continue;
        }
        if (code != 1 || message.length_bytes != sizeof(bytes) ||
            !bench_stream_is_right(bytes, round->base + out_work->ops)) {
            return bench_complain(BENCH_WRONG, "safering: take: %s", sr_strerror(code));
        }
        if (begin == 0) {
            begin = bench_now_ns();
        }
        out_work->checksum += bytes[0];
        out_work->ops++;
        if (out_work->ops % BENCH_STREAM_BATCH == 0 && sri_stream_release(&self->reader) != 0) {
            return bench_complain(BENCH_WRONG, "safering: release");
        }
    }
    if (sri_stream_release(&self->reader) != 0) {
        return bench_complain(BENCH_WRONG, "safering: release");
    }
    out_work->ns = bench_now_ns() - begin;
    return bench_partner_wait(self->partner);
}

/* Every message once: got, and then it is right, or passed over. */
static int drop_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    struct side *self = side;
    uint64_t begin = 0;
    const uint64_t first = self->seen;

    self->round = round;
    bench_partner_begin(self->partner, flood, self);
    while (self->seen < first + round->ops) {
        uint64_t bytes[BENCH_STREAM_WORDS];
        struct sri_message message;
        const int code = sri_stream_take(&self->reader, bytes, sizeof(bytes), &message);

        if (code == 0 || code == -EAGAIN) {
            continue; /* nothing yet, or overwritten again and again */
        }
        if (code != 1 || message.number < self->seen ||
            !bench_stream_is_right(bytes, round->base + (message.number - first))) {
            return bench_complain(BENCH_WRONG, "safering: take: %s", sr_strerror(code));
        }
        if (begin == 0) {
            begin = bench_now_ns();
        }
        for (; self->seen <= message.number; self->seen++) {
            out_work->checksum += round->base + (self->seen - first);
            out_work->ops++;
        }
        if (sri_stream_release(&self->reader) != 0) {
            return bench_complain(BENCH_WRONG, "safering: release");
        }
    }
    out_work->ns = bench_now_ns() - begin;
    return bench_partner_wait(self->partner);
}

static uint64_t expect(const struct bench_setup *setup, const struct bench_round *round) {
    uint64_t sum = 0;

    (void)setup; /* numbers depend on the round alone */
    for (uint32_t i = 0; i < round->ops; i++) {
        sum += round->base + i;
    }
    return sum;
}

static const struct bench_side ours = {"safering", open_guaranteed, side_run, side_close, 1};

const struct bench_case bench_case_ipc_stream = {
    .name = "ipc.stream",
    .question = "a message between threads that are awake, validated, against a queue that trusts",
    .size = BENCH_STREAM_WORDS * 8,
    .round_ops = 65536,
    .cpus = 2,
    .ours = &ours,
    .baseline = &bench_baseline_spsc,
    .expect = expect,
};

#define CASE_DROP(policy)                                                                          \
    static const struct bench_side policy = {"safering", open_##policy, drop_run, side_close, 1};  \
    const struct bench_case bench_case_ipc_drop_##policy = {                                       \
        .name = "ipc.drop." #policy,                                                               \
        .question = "a message that may be lost, against a queue that trusts and loses none",      \
        .size = BENCH_STREAM_WORDS * 8,                                                            \
        .round_ops = 65536,                                                                        \
        .cpus = 2,                                                                                 \
        .ours = &(policy),                                                                         \
        .baseline = &bench_baseline_spsc,                                                          \
        .expect = expect,                                                                          \
    }

CASE_DROP(best_effort);
CASE_DROP(reliable);
CASE_DROP(realtime);
