/* SPDX-License-Identifier: MIT */
/* Batch log: what was seen of a batch while it ran, whoever ran it. */
#ifndef SAFERING_TESTS_SUPPORT_BATCH_LOG_H
#define SAFERING_TESTS_SUPPORT_BATCH_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum batch_event_kind {
    BATCH_START,  /* the ring took the operation */
    BATCH_ENDED,  /* its completion came */
    BATCH_BEGIN,  /* the callback with the outcome was called */
    BATCH_RETURN, /* and has returned */
    BATCH_STOP,   /* the caller stopped the batch */
    BATCH_LOOK    /* somebody looked at `stopped_by` */
};

struct batch_event {
    enum batch_event_kind kind;
    uint32_t node;       /* START .. RETURN */
    uint32_t stopped_by; /* BEGIN, STOP, LOOK: as the batch says */
};

/* What was seen of a node. */
struct batch_seen {
    bool exists; /* it was added */
    /* Its outcome; `cause` is a number of a node here. */
    uint32_t state;
    uint32_t cancelled_by;
    int64_t result;
    uint64_t bytes_done;
    uint32_t cause;
    /* The completion of its operation, from the callback. */
    bool has_completion;
    int64_t completion_result;
    uint64_t completion_bytes;
    uint32_t completion_flags;
};

struct batch_log {
    struct batch_event *events;
    struct batch_seen *seen; /* as many as nodes */
    uint32_t event_count;
    uint32_t event_room;
    uint32_t node_count;
};

void batch_log_open(struct batch_log *out_log, uint32_t node_count);
void batch_log_close(struct batch_log *log);
void batch_log_add(struct batch_log *log, enum batch_event_kind kind, uint32_t node,
                   uint32_t stopped_by);

/* "DONE 12", "SKIPPED(cause 3)" */
const char *batch_seen_text(const struct batch_seen *seen);

#endif
