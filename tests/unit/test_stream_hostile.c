/* SPDX-License-Identifier: MIT */
/*
 * A stream whose other end lies. First every single lie, one at a time; then a process that writes
 * garbage to all that it can write while we read or write. Our end must say SR_E_PROTOCOL or go on:
 * no access beyond the memory (which ends at an inaccessible page; ASan watches the buffers), no
 * endless loop, no impossible message.
 */
#include "ipc/stream.h"

#include "unit/fixture.h"

#include "ipc/stream_memory.h"
#include "support/scale.h"
#include "support/stream_pair.h"

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>

#define KIND_MAX   5u
#define SLOT_BYTES 64u
#define PAYLOAD    (SLOT_BYTES - SRI_STREAM_HEADER_BYTES)
#define CAPACITY   7u

static const uint32_t policies[] = {SRI_OVERFLOW_BEST_EFFORT, SRI_OVERFLOW_RELIABLE,
                                    SRI_OVERFLOW_GUARANTEED, SRI_OVERFLOW_REALTIME};

static struct sri_stream_options options_of(uint32_t overflow) {
    return (struct sri_stream_options){
        .capacity = CAPACITY,
        .slot_bytes = SLOT_BYTES,
        .overflow = overflow,
        .epoch = 7,
        .kind_max = KIND_MAX,
    };
}

static void open_pair(struct stream_pair *out_pair, uint32_t overflow) {
    const struct sri_stream_options options = options_of(overflow);
    stream_pair_open(out_pair, &options, SRI_SHARED_ALL_WRITE);
}

static struct sri_stream_writer_words *writer_words(const struct stream_pair *pair) {
    return pair->place.writer_memory;
}

static struct sri_stream_reader_words *reader_words(const struct stream_pair *pair) {
    return pair->place.reader_memory;
}

static struct sri_stream_slot *slot_at(const struct sri_stream_place *place, uint32_t index) {
    void *slot = (char *)place->writer_memory + sizeof(struct sri_stream_writer_words) +
                 (size_t)index * SLOT_BYTES;
    return slot;
}

static void write_some(struct stream_pair *pair, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        char bytes[PAYLOAD] = "honest";
        assert_ok(sri_stream_write(&pair->writer, 1, bytes, sizeof bytes));
    }
}

/* ---- lies of a writer -------------------------------------------------------------------------
 */

/* From now on there is no other answer, even when the lie is taken back. */
static void reader_must_be_done(struct stream_pair *pair) {
    struct sri_message message;
    char bytes[PAYLOAD];
    const void *there = NULL;
    const struct sri_stream_reader before = pair->reader;
    write_some(pair, 1);
    assert_code(sri_stream_take(&pair->reader, bytes, sizeof bytes, &message), SR_E_PROTOCOL);
    cr_assert_eq(message.length_bytes, 0);
    assert_code(sri_stream_read(&pair->reader, bytes, sizeof bytes, &message), SR_E_PROTOCOL);
    assert_code(sri_stream_peek(&pair->reader, &there, &message), SR_E_PROTOCOL);
    cr_assert_null(there);
    assert_code(sri_stream_consume(&pair->reader), SR_E_PROTOCOL);
    assert_code(sri_stream_release(&pair->reader), SR_E_PROTOCOL);
    assert_code(sri_stream_is_ready(&pair->reader), SR_E_PROTOCOL);
    cr_assert_eq(memcmp(&before, &pair->reader, sizeof before), 0);
}

enum lie {
    WRITTEN_BACK,
    WRITTEN_TOO_FAR,
    WRITTEN_WAY_TOO_FAR,
    OLDEST_BACK,
    OLDEST_BEYOND_WRITTEN,
    OLDEST_WAY_BEYOND_WRITTEN,
    NUMBER_BEFORE,
    NUMBER_AFTER,
    EPOCH_BEFORE,
    EPOCH_AFTER,
    LENGTH_TOO_LONG,
    LENGTH_WAY_TOO_LONG,
    KIND_TOO_LARGE,
    RESERVED_NOT_ZERO,
    LIES
};

static const char *const lie_names[LIES] = {
    "written goes back",        "written is too far",
    "written is way too far",   "oldest goes back",
    "oldest is beyond written", "oldest is way beyond written",
    "an earlier number",        "a later number",
    "an earlier epoch",         "a later epoch",
    "a length beyond the slot", "the longest length",
    "a kind there is not",      "a bit that must be nothing"};

static bool is_about_oldest(enum lie lie) {
    return lie >= OLDEST_BACK && lie <= OLDEST_WAY_BEYOND_WRITTEN;
}

/* Told when five messages were written, two of them read; the third is in slot 2, or the fifth in
 * slot 4 for whoever wants the newest. */
static void tell(struct stream_pair *pair, enum lie lie) {
    struct sri_stream_writer_words *words = writer_words(pair);
    const bool newest = pair->options.overflow == SRI_OVERFLOW_REALTIME;
    struct sri_stream_slot *slot = slot_at(&pair->place, newest ? 4 : 2);
    switch (lie) {
    case WRITTEN_BACK:
        words->written = 1;
        break;
    case WRITTEN_TOO_FAR:
        words->written = 5 + CAPACITY + 1;
        break;
    case WRITTEN_WAY_TOO_FAR:
        words->written = UINT64_MAX;
        break;
    case OLDEST_BACK:
        words->oldest = UINT64_MAX;
        break;
    case OLDEST_BEYOND_WRITTEN:
        words->oldest = 6;
        break;
    case OLDEST_WAY_BEYOND_WRITTEN:
        words->oldest = (uint64_t)INT64_MAX + 1;
        break;
    case NUMBER_BEFORE:
        slot->which--;
        break;
    case NUMBER_AFTER:
        slot->which += CAPACITY;
        break;
    case EPOCH_BEFORE:
        slot->which -= UINT64_C(1) << 32;
        break;
    case EPOCH_AFTER:
        slot->which += UINT64_C(1) << 32;
        break;
    case LENGTH_TOO_LONG:
        slot->what = sri_stream_what(1, PAYLOAD + 1);
        break;
    case LENGTH_WAY_TOO_LONG:
        slot->what = sri_stream_what(1, UINT32_MAX);
        break;
    case KIND_TOO_LARGE:
        slot->what = sri_stream_what(KIND_MAX + 1, 3);
        break;
    case RESERVED_NOT_ZERO:
        slot->what |= UINT64_C(1) << 48;
        break;
    case LIES:
        cr_assert_fail("no lie");
    }
}

/* Reads until the end, which must be SR_E_PROTOCOL, within the messages there can be. */
static int read_to_the_end(struct stream_pair *pair) {
    struct sri_message message;
    char bytes[PAYLOAD];
    int code = 1;
    for (uint32_t i = 0; i < 2 * CAPACITY && code == 1; i++) {
        code = sri_stream_take(&pair->reader, bytes, sizeof bytes, &message);
    }
    return code;
}

Test(stream_hostile, each_lie_of_a_writer_ends_the_stream) {
    for (size_t p = 0; p < COUNT_OF(policies); p++) {
        const bool is_lossy = policies[p] != SRI_OVERFLOW_GUARANTEED;
        for (enum lie lie = 0; lie < LIES; lie++) {
            struct stream_pair pair;
            struct sri_message message;
            char bytes[PAYLOAD];
            open_pair(&pair, policies[p]);
            write_some(&pair, 2);
            while (sri_stream_read(&pair.reader, bytes, sizeof bytes, &message) == 1) {
            }
            write_some(&pair, 3);
            tell(&pair, lie);
            if (is_about_oldest(lie) && !is_lossy) {
                assert_code(read_to_the_end(&pair), 0); /* nobody looks at that word */
            } else {
                const int code = read_to_the_end(&pair);
                cr_assert_eq(code, SR_E_PROTOCOL, "policy %u, %s: %s", policies[p], lie_names[lie],
                             sr_error_name(code));
                reader_must_be_done(&pair);
            }
            stream_pair_close(&pair);
        }
    }
}

/* A writer that lags behind its own `oldest`, as one does for a moment that overwrites fast. */
Test(stream_hostile, oldest_that_goes_back_later_ends_the_stream) {
    struct stream_pair pair;
    open_pair(&pair, SRI_OVERFLOW_RELIABLE);
    write_some(&pair, CAPACITY + 3);
    assert_code(sri_stream_is_ready(&pair.reader), 1);
    writer_words(&pair)->oldest = 2;
    assert_code(read_to_the_end(&pair), SR_E_PROTOCOL);
    reader_must_be_done(&pair);
    stream_pair_close(&pair);
}

/* Not behind the reader's position, but behind what it has seen. */
Test(stream_hostile, written_that_goes_back_a_little_ends_the_stream) {
    struct stream_pair pair;
    open_pair(&pair, SRI_OVERFLOW_REALTIME);
    write_some(&pair, 5);
    assert_code(sri_stream_is_ready(&pair.reader), 1);
    writer_words(&pair)->written = 3;
    assert_code(read_to_the_end(&pair), SR_E_PROTOCOL);
    reader_must_be_done(&pair);
    stream_pair_close(&pair);
}

Test(stream_hostile, a_lie_is_found_in_place_too) {
    for (enum lie lie = NUMBER_BEFORE; lie < LIES; lie++) {
        struct stream_pair pair;
        struct sri_message message;
        const void *there = NULL;
        open_pair(&pair, SRI_OVERFLOW_GUARANTEED);
        write_some(&pair, 5);
        for (int i = 0; i < 2; i++) {
            assert_code(sri_stream_peek(&pair.reader, &there, &message), 1);
            assert_ok(sri_stream_consume(&pair.reader));
        }
        tell(&pair, lie);
        assert_code(sri_stream_peek(&pair.reader, &there, &message), SR_E_PROTOCOL);
        cr_assert_null(there, "%s", lie_names[lie]);
        cr_assert_eq(message.length_bytes, 0);
        reader_must_be_done(&pair);
        stream_pair_close(&pair);
    }
}

/* The largest jump that is not absurd in itself: nobody can show that it is a lie, for a writer may
 * overwrite as often as it likes. It costs no time, and counts stay sums. */
Test(stream_hostile, a_huge_gap_is_counted_and_costs_nothing) {
    struct stream_pair pair;
    struct sri_stream_reader_stats stats;
    struct sri_message message;
    char bytes[PAYLOAD];
    const uint64_t far = (uint64_t)INT64_MAX - 1;
    open_pair(&pair, SRI_OVERFLOW_RELIABLE);
    writer_words(&pair)->written = far + 1;
    writer_words(&pair)->oldest = far;
    slot_at(&pair.place, (uint32_t)(far % CAPACITY))->which = sri_stream_which(far, 7);
    slot_at(&pair.place, (uint32_t)(far % CAPACITY))->what = sri_stream_what(1, 3);
    assert_code(sri_stream_read(&pair.reader, bytes, sizeof bytes, &message), 1);
    cr_assert_eq(message.gap, far);
    sri_stream_reader_get_stats(&pair.reader, &stats);
    cr_assert_eq(stats.lost, far);
    cr_assert_eq(stats.read, 1);
    writer_words(&pair)->oldest = far + 2;
    writer_words(&pair)->written = far + 2;
    assert_code(sri_stream_read(&pair.reader, bytes, sizeof bytes, &message), SR_E_PROTOCOL);
    stream_pair_close(&pair);
}

Test(stream_hostile, what_is_left_of_another_epoch_is_refused) {
    for (size_t p = 0; p < COUNT_OF(policies); p++) {
        struct stream_pair pair;
        open_pair(&pair, policies[p]);
        write_some(&pair, 5);
        const size_t bytes = sri_stream_writer_bytes(&pair.options);
        void *replay = malloc(bytes);
        memcpy(replay, pair.place.writer_memory, bytes);
        stream_pair_again(&pair);
        memcpy(pair.place.writer_memory, replay, bytes);
        assert_code(read_to_the_end(&pair), SR_E_PROTOCOL);
        free(replay);
        stream_pair_close(&pair);
    }
}

/* ---- lies of a reader -------------------------------------------------------------------------
 */

static void writer_must_be_done(struct stream_pair *pair) {
    struct sri_stream_writer_stats stats;
    char bytes[PAYLOAD] = "";
    void *here = NULL;
    reader_words(pair)->read = 2;
    reader_words(pair)->lost = 0;
    assert_code(sri_stream_put(&pair->writer, 1, bytes, 1), SR_E_PROTOCOL);
    assert_code(sri_stream_write(&pair->writer, 1, bytes, 1), SR_E_PROTOCOL);
    assert_code(sri_stream_publish(&pair->writer), SR_E_PROTOCOL);
    assert_code(sri_stream_reserve(&pair->writer, &here), SR_E_PROTOCOL);
    cr_assert_null(here);
    assert_code(sri_stream_commit(&pair->writer, 1, 1), SR_E_PROTOCOL);
    assert_code(sri_stream_forget(&pair->writer), SR_E_PROTOCOL);
    assert_code(sri_stream_has_room(&pair->writer), SR_E_PROTOCOL);
    assert_code(sri_stream_writer_get_stats(&pair->writer, &stats), SR_E_PROTOCOL);
}

Test(stream_hostile, each_lie_of_a_reader_ends_the_stream) {
    /* Seven messages are written, two are read: the stream is full after two more. */
    static const uint64_t lies[] = {1, 0, CAPACITY + 3, UINT64_MAX, (uint64_t)INT64_MAX + 1};
    for (size_t p = 0; p < COUNT_OF(policies); p++) {
        for (size_t i = 0; i < COUNT_OF(lies); i++) {
            struct stream_pair pair;
            struct sri_stream_writer_stats stats;
            char bytes[PAYLOAD] = "";
            open_pair(&pair, policies[p]);
            write_some(&pair, CAPACITY);
            reader_words(&pair)->read = 2;
            assert_ok(sri_stream_writer_get_stats(&pair.writer, &stats)); /* it has seen 2 */
            write_some(&pair, 2);
            reader_words(&pair)->read = lies[i];
            assert_code(sri_stream_put(&pair.writer, 1, bytes, 1), SR_E_PROTOCOL);
            writer_must_be_done(&pair);
            stream_pair_close(&pair);
        }
    }
}

Test(stream_hostile, each_lie_about_losses_ends_the_stream) {
    for (size_t p = 0; p < COUNT_OF(policies); p++) {
        static const uint64_t lies[] = {0, 3, UINT64_MAX}; /* after 1 of 2 */
        for (size_t i = 0; i < COUNT_OF(lies); i++) {
            struct stream_pair pair;
            struct sri_stream_writer_stats stats;
            open_pair(&pair, policies[p]);
            write_some(&pair, 3);
            reader_words(&pair)->read = 2;
            reader_words(&pair)->lost = 1;
            if (policies[p] != SRI_OVERFLOW_GUARANTEED) {
                assert_ok(sri_stream_writer_get_stats(&pair.writer, &stats));
                cr_assert_eq(stats.dropped, 1);
                reader_words(&pair)->lost = lies[i];
            } /* else 1 is a lie already */
            assert_code(sri_stream_writer_get_stats(&pair.writer, &stats), SR_E_PROTOCOL);
            cr_assert_eq(stats.written, 0);
            writer_must_be_done(&pair);
            stream_pair_close(&pair);
        }
    }
}

/* ---- a process that writes garbage ------------------------------------------------------------
 */

/* What the two processes know of each other besides the stream: the epoch, which a real worker is
 * told over its socket. */
struct board {
    _Atomic uint32_t epoch;
};

struct attack {
    struct stream_pair pair;
    struct sri_shared board_shared;
    pid_t child;
};

static struct board *board_of(const struct sri_shared *shared) {
    return shared->base;
}

static uint64_t some_position(struct scale_random *random, uint64_t near) {
    switch (scale_random_below(random, 6)) {
    case 0:
        return scale_random_next(random);
    case 1:
        return near + scale_random_below(random, 3 * CAPACITY);
    case 2:
        return near - scale_random_below(random, 3 * CAPACITY);
    case 3:
        return UINT64_MAX - scale_random_below(random, 3);
    case 4:
        return (uint64_t)INT64_MAX + scale_random_below(random, 3);
    default:
        return near + 1;
    }
}

static uint64_t some_length(struct scale_random *random) {
    static const uint64_t lengths[] = {0, 1, PAYLOAD - 1, PAYLOAD, PAYLOAD + 1, 4096, UINT32_MAX};
    return lengths[scale_random_below(random, COUNT_OF(lengths))];
}

/* A header that is as wanted but for the length, which changes to and fro. */
static void flip_lengths(struct sri_stream_slot *slot) {
    for (int i = 0; i < 200; i++) {
        atomic_store_explicit(&slot->what, sri_stream_what(1, 8), memory_order_relaxed);
        atomic_store_explicit(&slot->what, sri_stream_what(1, UINT32_MAX), memory_order_relaxed);
    }
    atomic_store_explicit(&slot->what, sri_stream_what(1, 8), memory_order_relaxed);
}

static void spoil_slot(const struct sri_stream_place *place, struct scale_random *random) {
    struct sri_stream_writer_words *words = place->writer_memory;
    struct sri_stream_slot *slot = slot_at(place, (uint32_t)scale_random_below(random, CAPACITY));
    switch (scale_random_below(random, 4)) {
    case 0:
        slot->what = some_length(random) | scale_random_below(random, KIND_MAX + 2) << 32;
        break;
    case 1:
        slot->which = sri_stream_which(some_position(random, words->written), 7);
        break;
    case 2:
        flip_lengths(slot);
        break;
    default:
        for (size_t i = 0; i < PAYLOAD; i++) {
            slot->payload[i] = (unsigned char)scale_random_next(random);
        }
    }
}

/* One wrong thing, now and then; most of the time it writes as it should, so that the host gets far
 * enough to see the rest. */
static _Noreturn void garbage_writer(struct sri_stream_options options,
                                     const struct sri_stream_place *place,
                                     const struct board *board, uint64_t seed) {
    struct scale_random random = {seed};
    struct sri_stream_writer_words *words = place->writer_memory;
    struct sri_stream_writer writer;
    for (;;) {
        options.epoch = atomic_load(&board->epoch);
        if (sri_stream_writer_init(&writer, &options, place) != 0) {
            _exit(1);
        }
        const uint64_t turns = scale_random_below(&random, 2000);
        for (uint64_t i = 0; i < turns && atomic_load(&board->epoch) == options.epoch; i++) {
            char bytes[PAYLOAD] = "garbage";
            (void)sri_stream_write(&writer, 1, bytes, scale_random_below(&random, PAYLOAD + 1));
            if (scale_random_below(&random, 8) == 0) {
                spoil_slot(place, &random);
            }
            if (scale_random_below(&random, 300) == 0) {
                words->written = some_position(&random, words->written);
            }
            if (scale_random_below(&random, 300) == 0) {
                words->oldest = some_position(&random, words->oldest);
            }
        }
    }
}

static _Noreturn void garbage_reader(struct sri_stream_options options,
                                     const struct sri_stream_place *place,
                                     const struct board *board, uint64_t seed) {
    struct scale_random random = {seed};
    struct sri_stream_reader_words *words = place->reader_memory;
    struct sri_stream_reader reader;
    for (;;) {
        options.epoch = atomic_load(&board->epoch);
        if (sri_stream_reader_init(&reader, &options, place) != 0) {
            _exit(1);
        }
        const uint64_t turns = scale_random_below(&random, 2000);
        for (uint64_t i = 0; i < turns && atomic_load(&board->epoch) == options.epoch; i++) {
            char bytes[PAYLOAD];
            struct sri_message message;
            (void)sri_stream_read(&reader, bytes, sizeof bytes, &message);
            if (scale_random_below(&random, 20) == 0) {
                words->read = some_position(&random, words->read);
                (void)sched_yield(); /* let the host see it */
            }
            if (scale_random_below(&random, 20) == 0) {
                words->lost = some_position(&random, words->lost);
                (void)sched_yield();
            }
            if (options.overflow != SRI_OVERFLOW_GUARANTEED &&
                scale_random_below(&random, 10) == 0) {
                spoil_slot(place, &random); /* it may write there too, in a heap for both */
            }
        }
    }
}

typedef void (*garbage_fn)(struct sri_stream_options options, const struct sri_stream_place *place,
                           const struct board *board, uint64_t seed);

/* The child has the descriptors alone: mappings of sri_shared are not inherited. */
static _Noreturn void child_main(const struct attack *attack, garbage_fn garbage, uint64_t seed) {
    struct sri_shared writer_shared;
    struct sri_shared reader_shared;
    struct sri_shared board_shared;
    const struct stream_pair *pair = &attack->pair;
    const int failed = prctl(PR_SET_PDEATHSIG, SIGKILL) |
                       sri_shared_map(SRI_SHARED_ALL_WRITE, pair->writer_shared.fd,
                                      pair->writer_shared.size_bytes, true, &writer_shared) |
                       sri_shared_map(SRI_SHARED_ALL_WRITE, pair->reader_shared.fd,
                                      pair->reader_shared.size_bytes, true, &reader_shared) |
                       sri_shared_map(SRI_SHARED_ALL_WRITE, attack->board_shared.fd,
                                      sizeof(struct board), true, &board_shared);
    if (failed == 0) {
        const struct sri_stream_place place =
            stream_pair_place(&pair->options, &writer_shared, &reader_shared);
        garbage(pair->options, &place, board_shared.base, seed);
    }
    _exit(1);
}

static void attack_begin(struct attack *out_attack, uint32_t overflow, garbage_fn garbage) {
    struct scale_random random = scale_random(overflow);
    open_pair(&out_attack->pair, overflow);
    assert_ok(
        sri_shared_create(SRI_SHARED_ALL_WRITE, sizeof(struct board), &out_attack->board_shared));
    board_of(&out_attack->board_shared)->epoch = out_attack->pair.options.epoch;
    out_attack->child = fork();
    cr_assert(out_attack->child >= 0);
    if (out_attack->child == 0) {
        child_main(out_attack, garbage, scale_random_next(&random));
    }
}

static void attack_again(struct attack *attack) {
    stream_pair_again(&attack->pair);
    atomic_store(&board_of(&attack->board_shared)->epoch, attack->pair.options.epoch);
}

static void attack_end(struct attack *attack) {
    int status = 0;
    cr_assert_eq(kill(attack->child, SIGKILL), 0);
    cr_assert_eq(waitpid(attack->child, &status, 0), attack->child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
              "the attacker ended by itself: status %#x", status);
    sri_shared_end(&attack->board_shared);
    stream_pair_close(&attack->pair);
}

/* Enough of both; a machine that lets the attacker run late is waited for. */
#define PATIENCE_NS UINT64_C(4000000000)

struct harvest {
    uint64_t calls;
    uint64_t good;
    uint64_t ends;
    uint64_t begin_ns;
};

static bool is_enough(const struct harvest *harvest) {
    const uint64_t ends = scale_count(100, 10);
    if (harvest->calls % 64 == 0) {
        (void)sched_yield(); /* the attacker may need this CPU */
    }
    if (harvest->ends >= ends && harvest->good >= ends * 20) {
        return true;
    }
    return harvest->calls % 1024 == 0 && now_ns() - harvest->begin_ns > PATIENCE_NS;
}

static void must_be_possible(const struct sri_message *message, uint64_t *next) {
    cr_assert_leq(message->length_bytes, PAYLOAD);
    cr_assert_leq(message->kind, KIND_MAX);
    cr_assert_geq(message->number, *next);
    cr_assert_leq(message->gap, message->number - *next);
    *next = message->number + 1;
}

/* Reads as a host does, in place now and then where that is possible. */
static int read_one(struct stream_pair *pair, char *bytes, uint64_t turn,
                    struct sri_message *out_message) {
    const void *there = NULL;
    if (pair->options.overflow != SRI_OVERFLOW_GUARANTEED || turn % 4 != 0) {
        return sri_stream_read(&pair->reader, bytes, PAYLOAD, out_message);
    }
    int code = sri_stream_peek(&pair->reader, &there, out_message);
    if (code == 1) {
        memcpy(bytes, there, out_message->length_bytes);
        code = sri_stream_consume(&pair->reader);
        code = code == 0 ? sri_stream_release(&pair->reader) : code;
        code = code == 0 ? 1 : code;
    }
    return code;
}

static void survive_garbage_writer(uint32_t overflow) {
    struct attack attack;
    struct harvest harvest = {.begin_ns = now_ns()};
    uint64_t next = 0;
    char *bytes = malloc(PAYLOAD); /* exactly: ASan sees a byte more */
    attack_begin(&attack, overflow, garbage_writer);
    while (!is_enough(&harvest)) {
        struct sri_message message;
        const int code = read_one(&attack.pair, bytes, harvest.calls++, &message);
        cr_assert(sri_stream_reader_is_valid(&attack.pair.reader));
        if (code == 1) {
            must_be_possible(&message, &next);
            harvest.good++;
        } else if (code == SR_E_PROTOCOL) {
            assert_code(sri_stream_is_ready(&attack.pair.reader), SR_E_PROTOCOL);
            harvest.ends++;
            next = 0;
            attack_again(&attack);
        } else {
            cr_assert(code == 0 || code == -EAGAIN, "%s", sr_error_name(code));
        }
    }
    fprintf(stderr, "policy %u: %lu reads, %lu messages, %lu ends\n", overflow, harvest.calls,
            harvest.good, harvest.ends);
    cr_assert(harvest.ends > 0 && harvest.good > 0, "the attacker did not get to attack");
    attack_end(&attack);
    free(bytes);
}

static void survive_garbage_reader(uint32_t overflow) {
    struct attack attack;
    struct harvest harvest = {.begin_ns = now_ns()};
    char bytes[PAYLOAD] = "host";
    attack_begin(&attack, overflow, garbage_reader);
    while (!is_enough(&harvest)) {
        struct sri_stream_writer_stats stats;
        const size_t length = harvest.calls++ % (PAYLOAD + 1);
        int code = sri_stream_write(&attack.pair.writer, 1, bytes, length);
        harvest.good += code == 0;
        if ((code == 0 || code == SR_E_FULL) && harvest.calls % 16 == 0) {
            code = sri_stream_writer_get_stats(&attack.pair.writer, &stats);
            cr_assert(code != 0 || (stats.dropped <= stats.written &&
                                    stats.waiting <= stats.written && stats.waiting <= CAPACITY));
        }
        cr_assert(sri_stream_writer_is_valid(&attack.pair.writer));
        if (code == SR_E_PROTOCOL) {
            assert_code(sri_stream_has_room(&attack.pair.writer), SR_E_PROTOCOL);
            harvest.ends++;
            attack_again(&attack);
        } else {
            cr_assert(code == 0 || code == SR_E_FULL, "%s", sr_error_name(code));
        }
    }
    fprintf(stderr, "policy %u: %lu writes, %lu messages, %lu ends\n", overflow, harvest.calls,
            harvest.good, harvest.ends);
    cr_assert(harvest.ends > 0 && harvest.good > 0, "the attacker did not get to attack");
    attack_end(&attack);
}

Test(stream_hostile, best_effort_survives_a_writer_of_garbage) {
    survive_garbage_writer(SRI_OVERFLOW_BEST_EFFORT);
}

Test(stream_hostile, reliable_survives_a_writer_of_garbage) {
    survive_garbage_writer(SRI_OVERFLOW_RELIABLE);
}

Test(stream_hostile, guaranteed_survives_a_writer_of_garbage) {
    survive_garbage_writer(SRI_OVERFLOW_GUARANTEED);
}

Test(stream_hostile, realtime_survives_a_writer_of_garbage) {
    survive_garbage_writer(SRI_OVERFLOW_REALTIME);
}

Test(stream_hostile, guaranteed_survives_a_reader_of_garbage) {
    survive_garbage_reader(SRI_OVERFLOW_GUARANTEED);
}

Test(stream_hostile, reliable_survives_a_reader_of_garbage) {
    survive_garbage_reader(SRI_OVERFLOW_RELIABLE);
}

/* ---- the sealed arena between two processes ----------------------------------------------------
 */

#define ARENA_MESSAGES UINT64_C(20000)

/* Reads all of it in place, in memory that it cannot write; 0 if everything was right. */
static int read_arena(const struct stream_pair *pair) {
    struct sri_shared writer_shared;
    struct sri_shared reader_shared;
    struct sri_stream_reader reader;
    const size_t size_bytes = pair->writer_shared.size_bytes;
    if (sri_shared_map(SRI_SHARED_ONE_WRITER, pair->writer_shared.fd, size_bytes, false,
                       &writer_shared) != 0 ||
        sri_shared_map(SRI_SHARED_ALL_WRITE, pair->reader_shared.fd, pair->reader_shared.size_bytes,
                       true, &reader_shared) != 0) {
        return 2;
    }
    const struct sri_stream_place place =
        stream_pair_place(&pair->options, &writer_shared, &reader_shared);
    if (sri_stream_reader_init(&reader, &pair->options, &place) != 0) {
        return 3;
    }
    for (uint64_t n = 0; n < ARENA_MESSAGES;) {
        struct sri_message message;
        const void *there = NULL;
        const int code = sri_stream_peek(&reader, &there, &message);
        if (code < 0) {
            return 4;
        }
        if (code == 0) {
            (void)sched_yield();
            continue;
        }
        if (message.number != n || !stream_message_is_whole(there, n, message.length_bytes) ||
            sri_stream_consume(&reader) != 0 || sri_stream_release(&reader) != 0) {
            return 5;
        }
        n++;
    }
    return 0;
}

Test(stream_hostile, a_process_reads_what_another_writes_in_a_sealed_arena) {
    const struct sri_stream_options options = options_of(SRI_OVERFLOW_GUARANTEED);
    struct stream_pair pair;
    int status = 0;
    stream_pair_open(&pair, &options, SRI_SHARED_ONE_WRITER);
    const pid_t child = fork();
    if (child == 0) {
        _exit(read_arena(&pair));
    }
    cr_assert(child > 0);
    for (uint64_t n = 0; n < ARENA_MESSAGES;) {
        unsigned char bytes[PAYLOAD];
        const size_t length = n % (PAYLOAD + 1);
        stream_message_fill(bytes, n, length);
        const int code = sri_stream_write(&pair.writer, 1, bytes, length);
        cr_assert(code == 0 || code == SR_E_FULL, "%s", sr_error_name(code));
        n += code == 0;
        if (code == SR_E_FULL) {
            cr_assert_eq(waitpid(child, &status, WNOHANG), 0, "the reader ended: %#x", status);
            (void)sched_yield();
        }
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status));
    cr_assert_eq(WEXITSTATUS(status), 0);
    stream_pair_close(&pair);
}
