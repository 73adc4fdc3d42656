/* SPDX-License-Identifier: MIT */
/*
 * Table: one row per operation and per variant of it that matters; in each row a cell per kind of
 * end. A cell is a scenario with the outcome that it must have on either backend, or the reason why
 * there is no such end. The driver (test_outcomes.c) runs every cell on io_uring and on the
 * fallback.
 *
 * The rows lie in rows_*.c, grouped as the operations are.
 */
#ifndef SAFERING_TESTS_CONFORMANCE_TABLE_H
#define SAFERING_TESTS_CONFORMANCE_TABLE_H

#include "conformance/scene.h"

enum column { WORKS, FAILS, SHORT, CANCELLED, DEADLINE, COLUMNS };

/* Where a cancel, or a deadline that has passed, meets the operation. */
enum moment {
    UNSENT,   /* it is queued; the cancel goes right behind it in the same call */
    IN_FLIGHT /* it has been sent, and is where `arrive` wants it */
};

/* Results that are right: those listed, or with `is_range` all from the first to the second. */
struct results {
    int64_t list[3];
    uint32_t count;
    bool is_range;
};

struct cell {
    const char *never; /* why there is no such end; all else is empty then */
    int refused;       /* sr_ring_submit() refuses it with this code */
    /* Sets the scene and fills the request; the opcode is there already. */
    void (*prepare)(struct scene *scene, sr_request *request);
    /* After it was sent: waits until it is where the cell wants it. */
    void (*arrive)(struct scene *scene);
    /* Lets it go on, again and again until it has ended. */
    void (*pump)(struct scene *scene);
    /* Looks at what it did and gave, whatever the result. */
    void (*check)(struct scene *scene, const sr_completion *completion);
    struct results results;
    const char *several;        /* why more than one result is right */
    struct results on_fallback; /* where it differs there */
    const char *differs;        /* the words of docs/KERNEL.md that say so */
    uint64_t bytes_before;      /* transferred before the error that is the result */
    uint32_t more;              /* completions with SR_COMPLETION_MORE to wait for, at least */
    bool ends_by_cancel;        /* the driver cancels it when these have come */
    bool is_not_asked;          /* neither cancel nor deadline is ever passed on to it */
    enum moment moment;
    bool arrives_by_waiting; /* in the ring, where a deadline is noticed: it must come later */
    bool needs_slow_files;   /* slowfs.h */
};

enum row_flags {
    ROW_PLAIN = 1u << 0,   /* the pool is not registered */
    ROW_FIXED = 1u << 1,   /* files have fixed slots */
    ROW_LACKING = 1u << 2, /* the kernel seems to lack the operation */
    ROW_SELECTS = 1u << 3  /* there is a buffer ring */
};

struct row {
    uint16_t op;
    uint16_t request_flags; /* enum sr_request_flags */
    uint32_t flags;         /* enum row_flags */
    uint8_t uapi;           /* ROW_LACKING: the IORING_OP_* that is masked */
    const char *name;
    struct cell cells[COLUMNS];
};

extern const struct row rows_transfers[];
extern const struct row rows_files[];
extern const struct row rows_paths[];
extern const struct row rows_sockets[];
extern const struct row rows_messages[];
extern const struct row rows_waits[];
extern const size_t rows_transfers_count;
extern const size_t rows_files_count;
extern const size_t rows_paths_count;
extern const size_t rows_sockets_count;
extern const size_t rows_messages_count;
extern const size_t rows_waits_count;

/* The rows of all of them, one after the other; NULL behind the last. */
const struct row *table_row(size_t index);
const char *table_column_name(enum column column);

/* ---- cells ---------------------------------------------------------------------------------- */

#define COUNT_ARGUMENTS(...) (sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))
#define RESULTS(...)                                                                               \
    { .list = {__VA_ARGS__}, .count = COUNT_ARGUMENTS(__VA_ARGS__) }
#define RANGE(from, to)                                                                            \
    { .list = {(from), (to)}, .count = 2, .is_range = true }

#define NEVER(reason)                                                                              \
    { .never = (reason) }
#define REFUSED(code, prepared)                                                                    \
    { .refused = (code), .prepare = (prepared) }
#define ENDS(prepared, result, checked)                                                            \
    { .prepare = (prepared), .results = RESULTS(result), .check = (checked) }
/* It waits until it is pumped. */
#define ENDS_WHEN(prepared, pumped, result, checked)                                               \
    { .prepare = (prepared), .pump = (pumped), .results = RESULTS(result), .check = (checked) }

/* Cancels and deadlines. It waits, and a cancel ends it. */
#define IS_ENDED(prepared, checked)                                                                \
    {                                                                                              \
        .prepare = (prepared), .results = RESULTS(-ECANCELED), .check = (checked),                 \
        .moment = IN_FLIGHT                                                                        \
    }
/* It is running at a slow file, no cancel can end it, and what comes is what really happened. */
#define GOES_ON(prepared, arrived, pumped, result, checked)                                        \
    {                                                                                              \
        .prepare = (prepared), .arrive = (arrived), .pump = (pumped), .results = RESULTS(result),  \
        .check = (checked), .moment = IN_FLIGHT, .needs_slow_files = true                          \
    }
/* It has ended before the cancel that follows it is looked at. */
#define AT_ONCE(prepared, result, checked)                                                         \
    { .prepare = (prepared), .results = RESULTS(result), .check = (checked), .moment = UNSENT }
/* A thread is handed it, and the cancel may find that it has not begun. */
#define EITHER(prepared, result, checked)                                                          \
    {                                                                                              \
        .prepare = (prepared), .results = RESULTS(result, -ECANCELED), .check = (checked),         \
        .several = "a worker may have begun when the cancel comes, or not", .moment = UNSENT       \
    }

/* A row; the cells come last, in braces. */
#define ROW(opcode, request_bits, bits, words, ...)                                                \
    {                                                                                              \
        .op = (opcode), .request_flags = (request_bits), .flags = (bits), .name = (words),         \
        .cells = __VA_ARGS__                                                                       \
    }

/* Reasons that several rows have. */
#define NO_COUNT NEVER("its result counts no bytes")

#endif
