/* SPDX-License-Identifier: MIT */
/* Both ends of a stream in one thread: what each call does, and exact counts. */
#include "ipc/stream.h"

#include "unit/fixture.h"

#include "support/scale.h"
#include "support/stream_pair.h"

#define KIND_MAX 1000u

static const uint32_t policies[] = {SRI_OVERFLOW_BEST_EFFORT, SRI_OVERFLOW_RELIABLE,
                                    SRI_OVERFLOW_GUARANTEED, SRI_OVERFLOW_REALTIME};

static struct sri_stream_options options_of(uint32_t overflow, uint32_t capacity,
                                            uint32_t slot_bytes) {
    return (struct sri_stream_options){
        .capacity = capacity,
        .slot_bytes = slot_bytes,
        .overflow = overflow,
        .epoch = 7,
        .kind_max = KIND_MAX,
    };
}

static void open_pair(struct stream_pair *out_pair, uint32_t overflow, uint32_t capacity,
                      uint32_t slot_bytes) {
    const struct sri_stream_options options = options_of(overflow, capacity, slot_bytes);
    stream_pair_open(out_pair, &options, SRI_SHARED_ONE_WRITER);
}

/* ---- messages by number -------------------------------------------------------------------------
 */

static unsigned char bytes_in[SRI_STREAM_SLOT_BYTES_MAX];
static unsigned char bytes_out[SRI_STREAM_SLOT_BYTES_MAX];

static uint16_t kind_of(uint64_t number) {
    return (uint16_t)(number % (KIND_MAX + 1));
}

/* Lengths of all sizes, without a number to draw. */
static size_t length_of(const struct stream_pair *pair, uint64_t number) {
    return (size_t)(number * 7 % (sri_stream_payload_max(pair->options.slot_bytes) + 1));
}

static int put_number(struct stream_pair *pair, uint64_t number) {
    const size_t length = length_of(pair, number);
    stream_message_fill(bytes_in, number, length);
    return sri_stream_put(&pair->writer, kind_of(number), bytes_in, length);
}

static int write_number(struct stream_pair *pair, uint64_t number) {
    const int code = put_number(pair, number);
    return code == 0 ? sri_stream_publish(&pair->writer) : code;
}

/* The next message must be @number, after @gap others. */
static void must_be(struct stream_pair *pair, const struct sri_message *message, uint64_t number,
                    uint64_t gap) {
    cr_assert_eq(message->number, number, "number %#lx, not %#lx", message->number, number);
    cr_assert_eq(message->gap, gap, "message %#lx: gap %lu, not %lu", number, message->gap, gap);
    cr_assert_eq(message->length_bytes, length_of(pair, number));
    cr_assert_eq(message->kind, kind_of(number));
    cr_assert(stream_message_is_whole(bytes_out, number, message->length_bytes),
              "message %#lx has other bytes", number);
}

static void must_read(struct stream_pair *pair, uint64_t number, uint64_t gap) {
    struct sri_message message;
    assert_code(sri_stream_read(&pair->reader, bytes_out, sizeof bytes_out, &message), 1);
    must_be(pair, &message, number, gap);
}

static void must_be_empty(struct stream_pair *pair) {
    struct sri_message message;
    assert_code(sri_stream_read(&pair->reader, bytes_out, sizeof bytes_out, &message), 0);
    cr_assert_eq(message.length_bytes, 0);
}

static void must_count(struct stream_pair *pair, uint64_t written, uint64_t dropped,
                       uint64_t waiting, uint64_t read) {
    struct sri_stream_writer_stats w;
    struct sri_stream_reader_stats r;
    assert_ok(sri_stream_writer_get_stats(&pair->writer, &w));
    sri_stream_reader_get_stats(&pair->reader, &r);
    cr_assert_eq(w.written, written, "written %lu, not %lu", w.written, written);
    cr_assert_eq(w.dropped, dropped, "dropped %lu, not %lu", w.dropped, dropped);
    cr_assert_eq(w.waiting, waiting, "waiting %lu, not %lu", w.waiting, waiting);
    cr_assert_eq(r.read, read, "read %lu, not %lu", r.read, read);
}

static uint64_t lost_by_reader(const struct stream_pair *pair) {
    struct sri_stream_reader_stats stats;
    sri_stream_reader_get_stats(&pair->reader, &stats);
    return stats.lost;
}

/* ---- making one -------------------------------------------------------------------------------
 */

Test(stream, options_out_of_range_are_refused) {
    static const struct {
        uint32_t capacity, slot_bytes, overflow;
        int code;
    } rows[] = {
        {1, 32, SRI_OVERFLOW_RELIABLE, 0},
        {SRI_STREAM_CAPACITY_MAX, 32, SRI_OVERFLOW_RELIABLE, 0},
        {0, 32, SRI_OVERFLOW_RELIABLE, SR_E_BOUNDS},
        {SRI_STREAM_CAPACITY_MAX + 1, 32, SRI_OVERFLOW_RELIABLE, SR_E_BOUNDS},
        {UINT32_MAX, 32, SRI_OVERFLOW_RELIABLE, SR_E_BOUNDS},
        {16, SRI_STREAM_SLOT_BYTES_MAX, SRI_OVERFLOW_RELIABLE, 0},
        {16, 0, SRI_OVERFLOW_RELIABLE, SR_E_BOUNDS},
        {16, 16, SRI_OVERFLOW_RELIABLE, SR_E_BOUNDS},
        {16, 48, SRI_OVERFLOW_RELIABLE, SR_E_BOUNDS},
        {16, SRI_STREAM_SLOT_BYTES_MAX + 32, SRI_OVERFLOW_RELIABLE, SR_E_BOUNDS},
        {16, 32, 0, SR_E_BOUNDS},
        {16, 32, SRI_OVERFLOW_REALTIME + 1, SR_E_BOUNDS},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const struct sri_stream_options options =
            options_of(rows[i].overflow, rows[i].capacity, rows[i].slot_bytes);
        assert_code(sri_stream_options_check(&options), rows[i].code);
    }
}

Test(stream, memory_that_does_not_fit_is_refused) {
    static _Alignas(SRI_STREAM_ALIGNMENT) char writer_memory[128 + 16 * 32];
    static _Alignas(SRI_STREAM_ALIGNMENT) char reader_memory[SRI_STREAM_READER_BYTES];
    const struct sri_stream_options options = options_of(SRI_OVERFLOW_RELIABLE, 16, 32);
    const struct sri_stream_place fits = {writer_memory, sizeof writer_memory, reader_memory,
                                          sizeof reader_memory};
    struct sri_stream_place wrong[6];
    struct sri_stream_writer writer;
    struct sri_stream_reader reader;
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        wrong[i] = fits;
    }
    wrong[0].writer_bytes--;
    wrong[1].reader_bytes--;
    wrong[2].writer_memory = writer_memory + 32;
    wrong[3].reader_memory = reader_memory + 8;
    wrong[4].writer_memory = NULL;
    wrong[5].reader_memory = NULL;
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        assert_code(sri_stream_writer_init(&writer, &options, &wrong[i]), SR_E_BOUNDS);
        assert_code(sri_stream_reader_init(&reader, &options, &wrong[i]), SR_E_BOUNDS);
        cr_assert_not(sri_stream_writer_is_valid(&writer));
        cr_assert_not(sri_stream_reader_is_valid(&reader));
    }
    assert_ok(sri_stream_writer_init(&writer, &options, &fits));
    assert_ok(sri_stream_reader_init(&reader, &options, &fits));
    cr_assert(sri_stream_writer_is_valid(&writer));
    cr_assert(sri_stream_reader_is_valid(&reader));
}

Test(stream, a_thousand_small_streams_take_less_than_a_mebibyte) {
    const struct sri_stream_options options = options_of(SRI_OVERFLOW_RELIABLE, 16, 32);
    const size_t shared = sri_stream_writer_bytes(&options) + SRI_STREAM_READER_BYTES;
    const size_t own = sizeof(struct sri_stream_writer) + sizeof(struct sri_stream_reader);
    cr_assert_eq(shared, 16 * 32 + 192);
    cr_assert_leq(1000 * (shared + own), (size_t)1 << 20, "%zu bytes each", shared + own);
}

/* ---- one message ------------------------------------------------------------------------------
 */

static void carry_length(struct stream_pair *pair, size_t length, uint64_t number) {
    struct sri_message message;
    stream_message_fill(bytes_in, number, length);
    assert_ok(sri_stream_write(&pair->writer, 3, bytes_in, length));
    memset(bytes_out, 0x5a, length + 1);
    assert_code(sri_stream_read(&pair->reader, bytes_out, length, &message), 1);
    cr_assert_eq(message.length_bytes, length);
    cr_assert_eq(message.number, number);
    cr_assert_eq(message.kind, 3);
    cr_assert(stream_message_is_whole(bytes_out, number, length), "length %zu", length);
    cr_assert_eq(bytes_out[length], 0x5a, "length %zu: a byte too many was written", length);
}

Test(stream, every_length_comes_out_as_it_went_in) {
    static const uint32_t slots[] = {32, 64, 96, 160, 192, 1024, SRI_STREAM_SLOT_BYTES_MAX};
    for (size_t p = 0; p < COUNT_OF(policies); p++) {
        for (size_t s = 0; s < COUNT_OF(slots); s++) {
            const size_t longest = sri_stream_payload_max(slots[s]);
            struct stream_pair pair;
            uint64_t number = 0;
            open_pair(&pair, policies[p], 3, slots[s]);
            for (size_t length = 0; length <= longest; length++) {
                if (length < 200 || length + 20 > longest) {
                    carry_length(&pair, length, number++);
                }
            }
            assert_code(sri_stream_write(&pair.writer, 3, bytes_in, longest + 1), SR_E_BOUNDS);
            assert_code(sri_stream_write(&pair.writer, 3, bytes_in, SIZE_MAX), SR_E_BOUNDS);
            assert_code(sri_stream_write(&pair.writer, KIND_MAX + 1, bytes_in, 1), SR_E_BOUNDS);
            must_be_empty(&pair);
            must_count(&pair, number, 0, 0, number);
            stream_pair_close(&pair);
        }
    }
}

Test(stream, a_buffer_that_is_too_small_leaves_the_message_there) {
    for (size_t p = 0; p < COUNT_OF(policies); p++) {
        struct stream_pair pair;
        struct sri_message message;
        open_pair(&pair, policies[p], 4, 64);
        stream_message_fill(bytes_in, 0, 40);
        assert_ok(sri_stream_write(&pair.writer, 1, bytes_in, 40));
        memset(bytes_out, 0x5a, 64);
        assert_code(sri_stream_read(&pair.reader, bytes_out, 39, &message), SR_E_BOUNDS);
        cr_assert_eq(message.length_bytes, 40);
        cr_assert_eq(bytes_out[39], 0x5a);
        must_count(&pair, 1, 0, 1, 0);
        assert_code(sri_stream_read(&pair.reader, bytes_out, message.length_bytes, &message), 1);
        cr_assert(stream_message_is_whole(bytes_out, 0, 40));
        stream_pair_close(&pair);
    }
}

/* ---- overflow ---------------------------------------------------------------------------------
 */

static const uint32_t capacities[] = {1, 2, 3, 16, 1000};

/* Fills a stream and then writes @excess more. */
static void overfill(struct stream_pair *pair, uint64_t excess) {
    const uint64_t total = pair->options.capacity + excess;
    for (uint64_t n = 0; n < total; n++) {
        assert_ok(write_number(pair, n));
    }
}

static void guaranteed_case(uint32_t capacity, uint64_t excess) {
    struct stream_pair pair;
    open_pair(&pair, SRI_OVERFLOW_GUARANTEED, capacity, 64);
    overfill(&pair, 0);
    cr_assert_eq(sri_stream_has_room(&pair.writer), 0);
    for (uint64_t i = 0; i < excess; i++) {
        assert_code(write_number(&pair, capacity + i), SR_E_FULL);
    }
    must_count(&pair, capacity, 0, capacity, 0);
    for (uint64_t n = 0; n < capacity; n++) {
        must_read(&pair, n, 0);
        cr_assert_eq(sri_stream_has_room(&pair.writer), 1);
        assert_ok(write_number(&pair, capacity + n));
        assert_code(write_number(&pair, capacity + n + 1), SR_E_FULL);
    }
    for (uint64_t n = capacity; n < 2 * capacity; n++) {
        must_read(&pair, n, 0);
    }
    must_be_empty(&pair);
    must_count(&pair, 2 * capacity, 0, 0, 2 * capacity);
    stream_pair_close(&pair);
}

static void overwriting_case(uint32_t overflow, uint32_t capacity, uint64_t excess) {
    struct stream_pair pair;
    const uint64_t total = capacity + excess;
    open_pair(&pair, overflow, capacity, 64);
    overfill(&pair, excess);
    cr_assert_eq(sri_stream_has_room(&pair.writer), 1);
    must_count(&pair, total, excess, capacity, 0);
    for (uint64_t n = excess; n < total; n++) {
        must_read(&pair, n, overflow == SRI_OVERFLOW_RELIABLE && n == excess ? excess : 0);
        cr_assert_eq(lost_by_reader(&pair), excess);
    }
    must_be_empty(&pair);
    must_count(&pair, total, excess, 0, capacity);
    /* It goes on as if nothing had been. */
    assert_ok(write_number(&pair, total));
    must_read(&pair, total, 0);
    must_count(&pair, total + 1, excess, 0, capacity + 1);
    stream_pair_close(&pair);
}

static void realtime_case(uint32_t capacity, uint64_t excess) {
    struct stream_pair pair;
    const uint64_t total = capacity + excess;
    open_pair(&pair, SRI_OVERFLOW_REALTIME, capacity, 64);
    overfill(&pair, excess);
    must_count(&pair, total, excess, capacity, 0);
    must_read(&pair, total - 1, total - 1);
    must_be_empty(&pair);
    must_count(&pair, total, total - 1, 0, 1);
    assert_ok(write_number(&pair, total));
    assert_ok(write_number(&pair, total + 1));
    must_read(&pair, total + 1, 1);
    must_be_empty(&pair);
    must_count(&pair, total + 2, total, 0, 2);
    cr_assert_eq(lost_by_reader(&pair), total);
    stream_pair_close(&pair);
}

#define FOR_EACH_OVERFLOW(call_with_capacity_and_excess)                                           \
    for (size_t c_ = 0; c_ < COUNT_OF(capacities); c_++) {                                         \
        const uint32_t capacity = capacities[c_];                                                  \
        const uint64_t excesses_[] = {1, capacity, (uint64_t)capacity * 10};                       \
        for (size_t e_ = 0; e_ < COUNT_OF(excesses_); e_++) {                                      \
            const uint64_t excess = excesses_[e_];                                                 \
            call_with_capacity_and_excess;                                                         \
        }                                                                                          \
    }

Test(stream, guaranteed_refuses_the_writer_and_loses_nothing) {
    FOR_EACH_OVERFLOW(guaranteed_case(capacity, excess));
}

Test(stream, reliable_drops_the_oldest_and_tells_the_exact_gap) {
    FOR_EACH_OVERFLOW(overwriting_case(SRI_OVERFLOW_RELIABLE, capacity, excess));
}

Test(stream, best_effort_drops_the_oldest_and_tells_nothing) {
    FOR_EACH_OVERFLOW(overwriting_case(SRI_OVERFLOW_BEST_EFFORT, capacity, excess));
}

Test(stream, realtime_gives_the_newest_and_counts_what_was_skipped) {
    FOR_EACH_OVERFLOW(realtime_case(capacity, excess));
}

Test(stream, the_largest_capacity_holds_a_million_messages) {
    const uint32_t capacity = SRI_STREAM_CAPACITY_MAX;
    /* The first alone where the load is small: a million is a million. */
    const size_t count = scale_factor() < 0.1 ? 1 : 2;
    static const uint32_t both[] = {SRI_OVERFLOW_RELIABLE, SRI_OVERFLOW_GUARANTEED};
    for (size_t p = 0; p < count; p++) {
        const bool is_lossy = both[p] == SRI_OVERFLOW_RELIABLE;
        struct stream_pair pair;
        open_pair(&pair, both[p], capacity, 32);
        overfill(&pair, 0);
        assert_code(write_number(&pair, capacity), is_lossy ? 0 : SR_E_FULL);
        must_count(&pair, capacity + is_lossy, is_lossy, capacity, 0);
        for (uint64_t n = is_lossy; n < capacity + is_lossy; n++) {
            must_read(&pair, n, is_lossy && n == 1);
        }
        must_be_empty(&pair);
        must_count(&pair, capacity + is_lossy, is_lossy, 0, capacity);
        stream_pair_close(&pair);
    }
}

/* ---- counters that wrap -----------------------------------------------------------------------
 */

static void wrap_case(uint32_t overflow, uint32_t capacity, uint64_t first) {
    struct sri_stream_options options = options_of(overflow, capacity, 64);
    const uint64_t rounds = 4 * capacity + 20;
    struct stream_pair pair;
    options.first = first;
    stream_pair_open(&pair, &options, SRI_SHARED_ONE_WRITER);
    for (uint64_t n = 0; n < rounds; n++) {
        assert_ok(write_number(&pair, first + n));
        must_read(&pair, first + n, 0);
    }
    must_count(&pair, rounds, 0, 0, rounds);
    stream_pair_again(&pair);
    /* Full, and one more, across the end. */
    for (uint64_t n = 0; n < capacity; n++) {
        assert_ok(write_number(&pair, first + n));
    }
    if (overflow == SRI_OVERFLOW_GUARANTEED) {
        assert_code(write_number(&pair, first + capacity), SR_E_FULL);
        must_read(&pair, first, 0);
    } else {
        assert_ok(write_number(&pair, first + capacity));
        const bool newest = overflow == SRI_OVERFLOW_REALTIME;
        const uint64_t next = newest ? capacity : 1;
        must_read(&pair, first + next, overflow == SRI_OVERFLOW_BEST_EFFORT ? 0 : next);
    }
    stream_pair_close(&pair);
}

Test(stream, counters_may_wrap) {
    static const uint32_t sizes[] = {1, 3, 16};
    for (size_t p = 0; p < COUNT_OF(policies); p++) {
        for (size_t s = 0; s < COUNT_OF(sizes); s++) {
            for (uint64_t before = 0; before < scale_count(24, 3); before++) {
                wrap_case(policies[p], sizes[s], UINT32_MAX - before);
                wrap_case(policies[p], sizes[s], (uint64_t)INT64_MAX - before);
                wrap_case(policies[p], sizes[s], UINT64_MAX - before);
            }
        }
    }
}

/* ---- many at once -----------------------------------------------------------------------------
 */

Test(stream, what_was_put_is_seen_after_publish_and_all_at_once) {
    for (size_t p = 0; p < COUNT_OF(policies); p++) {
        struct stream_pair pair;
        open_pair(&pair, policies[p], 16, 64);
        for (uint64_t n = 0; n < 10; n++) {
            assert_ok(put_number(&pair, n));
            cr_assert_eq(sri_stream_is_ready(&pair.reader), 0);
            must_be_empty(&pair);
        }
        assert_ok(sri_stream_publish(&pair.writer));
        cr_assert_eq(sri_stream_is_ready(&pair.reader), 1);
        const bool newest = policies[p] == SRI_OVERFLOW_REALTIME;
        for (uint64_t n = newest ? 9 : 0; n < 10; n++) {
            must_read(&pair, n, newest ? 9 : 0);
        }
        must_be_empty(&pair);
        stream_pair_close(&pair);
    }
}

Test(stream, what_was_taken_is_free_after_release_and_all_at_once) {
    struct stream_pair pair;
    struct sri_message message;
    open_pair(&pair, SRI_OVERFLOW_GUARANTEED, 8, 64);
    overfill(&pair, 0);
    for (uint64_t n = 0; n < 5; n++) {
        assert_code(sri_stream_take(&pair.reader, bytes_out, sizeof bytes_out, &message), 1);
        must_be(&pair, &message, n, 0);
        assert_code(write_number(&pair, 8), SR_E_FULL);
    }
    assert_ok(sri_stream_release(&pair.reader));
    for (uint64_t n = 8; n < 13; n++) {
        assert_ok(write_number(&pair, n));
    }
    assert_code(write_number(&pair, 13), SR_E_FULL);
    stream_pair_close(&pair);
}

Test(stream, a_take_that_finds_nothing_releases) {
    struct stream_pair pair;
    struct sri_message message;
    open_pair(&pair, SRI_OVERFLOW_GUARANTEED, 2, 64);
    overfill(&pair, 0);
    for (int i = 0; i < 2; i++) {
        assert_code(sri_stream_take(&pair.reader, bytes_out, sizeof bytes_out, &message), 1);
    }
    cr_assert_eq(sri_stream_has_room(&pair.writer), 0);
    assert_code(sri_stream_take(&pair.reader, bytes_out, sizeof bytes_out, &message), 0);
    cr_assert_eq(sri_stream_has_room(&pair.writer), 1);
    stream_pair_close(&pair);
}

Test(stream, a_lossy_stream_publishes_what_it_must_overwrite) {
    struct stream_pair pair;
    open_pair(&pair, SRI_OVERFLOW_RELIABLE, 4, 64);
    for (uint64_t n = 0; n < 11; n++) {
        assert_ok(put_number(&pair, n));
    }
    assert_ok(sri_stream_publish(&pair.writer));
    must_count(&pair, 11, 7, 4, 0);
    must_read(&pair, 7, 7);
    stream_pair_close(&pair);
}

Test(stream, what_was_got_but_not_released_is_not_counted_as_dropped_in_the_end) {
    struct stream_pair pair;
    struct sri_message message;
    open_pair(&pair, SRI_OVERFLOW_RELIABLE, 4, 64);
    overfill(&pair, 0);
    for (uint64_t n = 0; n < 3; n++) {
        assert_code(sri_stream_take(&pair.reader, bytes_out, sizeof bytes_out, &message), 1);
    }
    for (uint64_t n = 4; n < 8; n++) {
        assert_ok(write_number(&pair, n)); /* over 0 .. 3, of which the reader has three */
    }
    assert_code(sri_stream_take(&pair.reader, bytes_out, sizeof bytes_out, &message), 1);
    must_be(&pair, &message, 4, 1);
    assert_ok(sri_stream_release(&pair.reader));
    must_count(&pair, 8, 1, 3, 4);
    cr_assert_eq(lost_by_reader(&pair), 1);
    stream_pair_close(&pair);
}

/* ---- in place ---------------------------------------------------------------------------------
 */

Test(stream, messages_are_written_and_read_in_place) {
    struct stream_pair pair;
    open_pair(&pair, SRI_OVERFLOW_GUARANTEED, 3, 256);
    for (uint64_t n = 0; n < 20; n++) {
        const size_t length = length_of(&pair, n);
        const void *there = NULL;
        void *here = NULL;
        struct sri_message message;
        assert_ok(sri_stream_reserve(&pair.writer, &here));
        stream_message_fill(here, n, length);
        assert_ok(sri_stream_commit(&pair.writer, kind_of(n), length));
        assert_ok(sri_stream_publish(&pair.writer));
        assert_code(sri_stream_peek(&pair.reader, &there, &message), 1);
        cr_assert_eq(there, here, "this mapping serves both ends");
        memcpy(bytes_out, there, message.length_bytes);
        must_be(&pair, &message, n, 0);
        assert_ok(sri_stream_consume(&pair.reader));
        assert_ok(sri_stream_release(&pair.reader));
    }
    must_count(&pair, 20, 0, 0, 20);
    stream_pair_close(&pair);
}

Test(stream, a_reservation_and_a_peek_come_one_at_a_time) {
    struct stream_pair pair;
    const void *there = NULL;
    void *here = NULL;
    struct sri_message message;
    open_pair(&pair, SRI_OVERFLOW_GUARANTEED, 2, 64);
    assert_code(sri_stream_commit(&pair.writer, 0, 1), SR_E_STATE);
    assert_code(sri_stream_forget(&pair.writer), SR_E_STATE);
    assert_code(sri_stream_consume(&pair.reader), SR_E_STATE);
    assert_ok(sri_stream_reserve(&pair.writer, &here));
    assert_code(sri_stream_reserve(&pair.writer, &here), SR_E_STATE);
    cr_assert_null(here);
    assert_code(sri_stream_put(&pair.writer, 0, bytes_in, 1), SR_E_STATE);
    assert_code(sri_stream_publish(&pair.writer), SR_E_STATE);
    assert_code(sri_stream_commit(&pair.writer, 0, 49), SR_E_BOUNDS);
    assert_code(sri_stream_commit(&pair.writer, KIND_MAX + 1, 1), SR_E_BOUNDS);
    assert_ok(sri_stream_forget(&pair.writer));
    assert_ok(write_number(&pair, 0));
    assert_ok(write_number(&pair, 1));
    assert_code(sri_stream_reserve(&pair.writer, &here), SR_E_FULL);
    assert_code(sri_stream_peek(&pair.reader, &there, &message), 1);
    assert_code(sri_stream_peek(&pair.reader, &there, &message), SR_E_STATE);
    assert_code(sri_stream_take(&pair.reader, bytes_out, 64, &message), SR_E_STATE);
    assert_code(sri_stream_release(&pair.reader), SR_E_STATE);
    assert_ok(sri_stream_consume(&pair.reader));
    must_read(&pair, 1, 0);
    assert_code(sri_stream_peek(&pair.reader, &there, &message), 0);
    cr_assert_null(there);
    stream_pair_close(&pair);
}

Test(stream, slots_that_may_be_overwritten_are_not_shown_in_place) {
    for (size_t p = 0; p < COUNT_OF(policies); p++) {
        if (policies[p] != SRI_OVERFLOW_GUARANTEED) {
            struct stream_pair pair;
            const void *there = NULL;
            void *here = NULL;
            struct sri_message message;
            open_pair(&pair, policies[p], 2, 64);
            assert_ok(write_number(&pair, 0));
            assert_code(sri_stream_reserve(&pair.writer, &here), SR_E_STATE);
            assert_code(sri_stream_peek(&pair.reader, &there, &message), SR_E_STATE);
            must_read(&pair, 0, 0);
            stream_pair_close(&pair);
        }
    }
}

/* ---- against a model --------------------------------------------------------------------------
 */

/* The simple truth of what must happen. All numbers are positions. */
struct model {
    uint64_t next;
    uint64_t published;
    uint64_t oldest;
    uint64_t position;
    uint64_t released;
    uint64_t lost;
    uint64_t lost_released;
    uint64_t lost_told;
};

static uint64_t later(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static int model_put(struct model *model, const struct sri_stream_options *options) {
    const uint64_t kept_from = later(model->released, model->oldest);
    if (model->next - kept_from >= options->capacity) {
        if (options->overflow == SRI_OVERFLOW_GUARANTEED) {
            return SR_E_FULL;
        }
        model->oldest = kept_from + 1;
        if (model->oldest > model->published) {
            model->published = model->next;
        }
    }
    model->next++;
    return 0;
}

static void model_release(struct model *model) {
    model->released = model->position;
    model->lost_released = model->lost;
}

/* Whether there is a message; then position is behind it, and *@out_gap what is told. */
static bool model_take(struct model *model, uint32_t overflow, uint64_t *out_gap) {
    uint64_t to = later(model->position, model->oldest);
    if (overflow == SRI_OVERFLOW_REALTIME && to < model->published) {
        to = model->published - 1;
    }
    model->lost += to - model->position;
    model->position = to;
    if (to == model->published) {
        model_release(model);
        return false;
    }
    *out_gap = overflow == SRI_OVERFLOW_BEST_EFFORT ? 0 : model->lost - model->lost_told;
    model->lost_told = model->lost;
    model->position++;
    return true;
}

static void step_take(struct stream_pair *pair, struct model *model) {
    struct sri_message message;
    uint64_t gap = 0;
    const bool expected = model_take(model, pair->options.overflow, &gap);
    assert_code(sri_stream_take(&pair->reader, bytes_out, sizeof bytes_out, &message), expected);
    if (expected) {
        must_be(pair, &message, pair->options.first + model->position - 1, gap);
    }
    cr_assert_eq(lost_by_reader(pair), model->lost);
}

static void step_look(struct stream_pair *pair, const struct model *model) {
    const uint64_t kept_from = later(model->released, model->oldest);
    const bool has_room = pair->options.overflow != SRI_OVERFLOW_GUARANTEED ||
                          model->next - kept_from < pair->options.capacity;
    const bool is_ready = later(model->position, model->oldest) < model->published;
    cr_assert_eq(sri_stream_has_room(&pair->writer), has_room);
    /* It may say yes once to what was overwritten meanwhile. */
    cr_assert(sri_stream_is_ready(&pair->reader) == 1 || !is_ready);
}

static void step_stats(struct stream_pair *pair, const struct model *model) {
    const uint64_t floor = later(model->released, model->oldest);
    must_count(pair, model->published, model->lost_released + floor - model->released,
               model->published - floor, model->position - model->lost);
}

/* @eager: of the steps in 16 that write; the others read and look. */
static void walk(struct stream_pair *pair, struct scale_random *random, uint64_t steps,
                 uint64_t eager) {
    struct model model = {0};
    for (uint64_t i = 0; i < steps; i++) {
        const uint64_t draw = scale_random_below(random, 16);
        if (draw < eager) {
            const int expected = model_put(&model, &pair->options);
            assert_code(put_number(pair, pair->options.first + model.next - (expected == 0)),
                        expected);
            if (scale_random_below(random, 3) == 0) {
                assert_ok(sri_stream_publish(&pair->writer));
                model.published = model.next;
            }
        } else if (draw < 14) {
            step_take(pair, &model);
            if (scale_random_below(random, 3) == 0) {
                assert_ok(sri_stream_release(&pair->reader));
                model_release(&model);
            }
        } else if (draw == 14) {
            step_look(pair, &model);
        } else {
            step_stats(pair, &model);
        }
    }
}

Test(stream, random_walks_agree_with_a_model) {
    struct scale_random random = scale_random(1);
    const uint64_t walks = scale_count(400, 20);
    for (uint64_t i = 0; i < walks; i++) {
        const uint32_t overflow = policies[i % COUNT_OF(policies)];
        const uint32_t capacity = (uint32_t)scale_random_below(&random, i % 3 == 0 ? 4 : 40) + 1;
        const uint32_t slot_bytes = 32 * (uint32_t)(scale_random_below(&random, 6) + 1);
        struct sri_stream_options options = options_of(overflow, capacity, slot_bytes);
        struct stream_pair pair;
        options.first =
            scale_random_below(&random, 2) == 0 ? scale_random_next(&random) : UINT64_MAX - 100;
        stream_pair_open(&pair, &options, SRI_SHARED_ONE_WRITER);
        walk(&pair, &random, 2000, 3 + scale_random_below(&random, 10));
        stream_pair_close(&pair);
    }
}
