/* SPDX-License-Identifier: MIT */
/*
 * A stream between two threads, each of the four policies: what arrives is whole, in order, and
 * counted to the last message. The stream does not know threads from processes, but
 * ThreadSanitizer does.
 */
#include "check.h"

#include "ipc/stream.h"

#include "support/scale.h"
#include "support/stream_pair.h"

#include <errno.h>
#include <stdatomic.h>

#define RUN_NS UINT64_C(400000000) /* at most, and what is left to be read */

/* What a run is like. */
struct plan {
    uint32_t overflow;
    uint32_t capacity;
    uint32_t slot_bytes;
    uint32_t put_batch;  /* messages for one publish */
    uint32_t take_batch; /* and for one release */
    bool in_place;
    uint64_t messages;
    uint32_t reader_rests; /* every so many messages it sleeps; 0: never */
    uint32_t writer_rests;
};

struct run {
    const struct plan *plan;
    struct stream_pair pair;
    atomic_bool is_over;  /* the writer has written all */
    uint64_t deadline_ns; /* for the writer */
    uint64_t written;
    uint64_t fulls;
    uint64_t gaps; /* as told with messages */
    _Atomic uint64_t got;
};

static size_t length_of(const struct plan *plan, uint64_t number) {
    return (size_t)(number * 13 % (sri_stream_payload_max(plan->slot_bytes) + 1));
}

static int put_in_place(struct run *run, uint64_t number, size_t length) {
    void *bytes = NULL;
    const int code = sri_stream_reserve(&run->pair.writer, &bytes);
    if (code < 0) {
        return code;
    }
    stream_message_fill(bytes, number, length);
    return sri_stream_commit(&run->pair.writer, 1, length);
}

static int put(struct run *run, uint64_t number) {
    unsigned char bytes[4096];
    const size_t length = length_of(run->plan, number);
    if (run->plan->in_place) {
        return put_in_place(run, number, length);
    }
    stream_message_fill(bytes, number, length);
    return sri_stream_put(&run->pair.writer, 1, bytes, length);
}

static void rest(uint32_t every, uint64_t number) {
    if (every != 0 && number % every == every - 1) {
        check_sleep_ms(1);
    }
}

/* A busy machine may let the reader run so late that everything is overwritten by then, so the
 * writer goes on until the reader has had its part. And it may let each wait for the other for
 * long, so it ends when its time is over. */
static bool is_enough(struct run *run, uint64_t number) {
    const uint64_t messages = run->plan->messages;
    if (number % 64 == 0 && check_now_ns() >= run->deadline_ns) {
        return true;
    }
    return number >= messages && atomic_load(&run->got) >= messages / 100;
}

/* Puts it, if need be after the reader has made room; false: the time is over. */
static bool put_in_the_end(struct run *run, uint64_t number) {
    int code = put(run, number);
    while (code == SR_E_FULL && check_now_ns() < run->deadline_ns) {
        run->fulls++;
        CHECK_EQ(sri_stream_publish(&run->pair.writer), 0);
        (void)sched_yield();
        code = put(run, number);
    }
    CHECK(code == 0 || code == SR_E_FULL);
    return code == 0;
}

static void *write_all(void *ctx) {
    struct run *run = ctx;
    uint64_t n = 0;
    for (; !is_enough(run, n) && put_in_the_end(run, n); n++) {
        if (n % run->plan->put_batch == run->plan->put_batch - 1) {
            CHECK_EQ(sri_stream_publish(&run->pair.writer), 0);
        }
        rest(run->plan->writer_rests, n);
    }
    CHECK_EQ(sri_stream_publish(&run->pair.writer), 0);
    run->written = n;
    atomic_store(&run->is_over, true);
    return NULL;
}

static int take(struct run *run, struct sri_message *out_message) {
    unsigned char bytes[4096];
    const void *at = bytes;
    struct sri_stream_reader *reader = &run->pair.reader;
    const int code = run->plan->in_place
                         ? sri_stream_peek(reader, &at, out_message)
                         : sri_stream_take(reader, bytes, sizeof bytes, out_message);
    if (code == 1) {
        CHECK_EQ(out_message->length_bytes, length_of(run->plan, out_message->number));
        CHECK(stream_message_is_whole(at, out_message->number, out_message->length_bytes));
    }
    if (code == 1 && run->plan->in_place) {
        CHECK_EQ(sri_stream_consume(reader), 0);
    }
    return code;
}

/* Each message comes after the last one, by exactly the gap that is told. */
static void read_all(struct run *run) {
    const bool is_told = run->plan->overflow != SRI_OVERFLOW_BEST_EFFORT;
    uint64_t next = 0;
    for (;;) {
        struct sri_message message;
        const bool was_over = atomic_load(&run->is_over);
        const int code = take(run, &message);
        if (code == 0 && was_over) {
            return;
        }
        if (code != 1) {
            CHECK(code == 0 || code == -EAGAIN);
            (void)sched_yield();
            continue;
        }
        CHECK(message.number >= next);
        CHECK(!is_told || message.number - next == message.gap);
        run->gaps += message.number - next;
        next = message.number + 1;
        const uint64_t got = atomic_fetch_add(&run->got, 1) + 1;
        if (got % run->plan->take_batch == 0) {
            CHECK_EQ(sri_stream_release(&run->pair.reader), 0);
        }
        rest(run->plan->reader_rests, got);
    }
}

static void check_counts(struct run *run) {
    struct sri_stream_writer_stats w;
    struct sri_stream_reader_stats r;
    CHECK_EQ(sri_stream_writer_get_stats(&run->pair.writer, &w), 0);
    sri_stream_reader_get_stats(&run->pair.reader, &r);
    CHECK_EQ(w.written, run->written);
    CHECK_EQ(w.waiting, 0);
    CHECK_EQ(r.read, atomic_load(&run->got));
    CHECK_EQ(r.read + r.lost, w.written);
    CHECK_EQ(w.dropped, r.lost);
    CHECK(run->gaps <= r.lost); /* what was lost at the very end is told by no message */
}

/* Returns how many were lost. */
static uint64_t play(const struct plan *plan) {
    static struct run run;
    const struct sri_stream_options options = {
        .capacity = plan->capacity,
        .slot_bytes = plan->slot_bytes,
        .overflow = plan->overflow,
        .epoch = 3,
        .kind_max = 1,
        .first = 0,
    };
    run = (struct run){.plan = plan, .deadline_ns = check_now_ns() + RUN_NS};
    stream_pair_open(&run.pair, &options, SRI_SHARED_ALL_WRITE);
    const pthread_t thread = check_thread_start(write_all, &run);
    read_all(&run);
    check_thread_join(thread);
    check_counts(&run);
    const uint64_t lost = run.written - atomic_load(&run.got);
    fprintf(stderr,
            "    policy %u, %u x %u bytes, batches %u and %u: %llu of %llu lost, full %llu times\n",
            plan->overflow, plan->capacity, plan->slot_bytes, plan->put_batch, plan->take_batch,
            (unsigned long long)lost, (unsigned long long)run.written,
            (unsigned long long)run.fulls);
    stream_pair_close(&run.pair);
    return lost;
}

/* ---- cases ------------------------------------------------------------------------------------
 */

static uint64_t messages(void) {
    return scale_count(200000, 4000);
}

static void in_many_sizes(uint32_t overflow) {
    static const uint32_t sizes[][4] = {
        /* capacity, slot_bytes, put_batch, take_batch */
        {1, 32, 1, 1},  {2, 64, 1, 1},      {3, 64, 2, 5},
        {16, 32, 1, 1}, {100, 256, 10, 10}, {4096, 64, 64, 64},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const struct plan plan = {
            .overflow = overflow,
            .capacity = sizes[i][0],
            .slot_bytes = sizes[i][1],
            .put_batch = sizes[i][2],
            .take_batch = sizes[i][3],
            .messages = messages(),
        };
        (void)play(&plan);
    }
}

static void best_effort_gives_whole_messages_in_order(void) {
    in_many_sizes(SRI_OVERFLOW_BEST_EFFORT);
}

static void reliable_tells_each_gap(void) {
    in_many_sizes(SRI_OVERFLOW_RELIABLE);
}

static void realtime_tells_what_was_skipped(void) {
    in_many_sizes(SRI_OVERFLOW_REALTIME);
}

static void guaranteed_loses_nothing(void) {
    in_many_sizes(SRI_OVERFLOW_GUARANTEED);
}

/* A reader that is too slow: whoever may lose does, whoever may not does not. */
static void a_slow_reader_loses_messages_unless_they_are_guaranteed(void) {
    struct plan plan = {
        .capacity = 16,
        .slot_bytes = 128,
        .put_batch = 1,
        .take_batch = 4,
        .messages = scale_count(20000, 2000),
        .reader_rests = 100,
    };
    for (plan.overflow = SRI_OVERFLOW_BEST_EFFORT; plan.overflow <= SRI_OVERFLOW_REALTIME;
         plan.overflow++) {
        const uint64_t lost = play(&plan);
        CHECK((lost == 0) == (plan.overflow == SRI_OVERFLOW_GUARANTEED));
    }
}

/* With time between messages the reader keeps up, and no policy but REALTIME needs to lose any. */
static void a_slow_writer_loses_nothing(void) {
    struct plan plan = {
        .capacity = 4096,
        .slot_bytes = 64,
        .put_batch = 1,
        .take_batch = 1,
        .messages = 1000,
        .writer_rests = 100,
    };
    for (plan.overflow = SRI_OVERFLOW_BEST_EFFORT; plan.overflow <= SRI_OVERFLOW_GUARANTEED;
         plan.overflow++) {
        CHECK_EQ(play(&plan), 0);
    }
}

static void in_place_nothing_is_lost_either(void) {
    struct plan plan = {
        .overflow = SRI_OVERFLOW_GUARANTEED,
        .capacity = 7,
        .slot_bytes = 1024,
        .put_batch = 3,
        .take_batch = 2,
        .in_place = true,
        .messages = messages() / 4,
        .reader_rests = 5000,
    };
    CHECK_EQ(play(&plan), 0);
}

int main(void) {
    RUN(best_effort_gives_whole_messages_in_order);
    RUN(reliable_tells_each_gap);
    RUN(realtime_tells_what_was_skipped);
    RUN(guaranteed_loses_nothing);
    RUN(a_slow_reader_loses_messages_unless_they_are_guaranteed);
    RUN(a_slow_writer_loses_nothing);
    RUN(in_place_nothing_is_lost_either);
    return 0;
}
