/* SPDX-License-Identifier: MIT */
#include "support/batch_log.h"

#include "support/batch_graph.h"

#include <safering/batch.h>
#include <stdio.h>
#include <stdlib.h>

void batch_log_open(struct batch_log *out_log, uint32_t node_count) {
    *out_log = (struct batch_log){.node_count = node_count};
    out_log->seen = calloc(node_count + 1, sizeof out_log->seen[0]);
    if (out_log->seen == NULL) {
        abort();
    }
    for (uint32_t i = 0; i < node_count; i++) {
        out_log->seen[i].cause = BATCH_NONE;
    }
}

void batch_log_close(struct batch_log *log) {
    free(log->seen);
    free(log->events);
    *log = (struct batch_log){0};
}

void batch_log_add(struct batch_log *log, enum batch_event_kind kind, uint32_t node,
                   uint32_t stopped_by) {
    if (log->event_count == log->event_room) {
        log->event_room = 2 * log->event_room + 64;
        log->events = realloc(log->events, log->event_room * sizeof log->events[0]);
        if (log->events == NULL) {
            abort();
        }
    }
    log->events[log->event_count++] = (struct batch_event){kind, node, stopped_by};
}

const char *batch_seen_text(const struct batch_seen *seen) {
    static char texts[4][96];
    static unsigned turn;
    static const char *const states[] = {"NONE", "DONE", "FAILED", "CANCELLED", "SKIPPED"};
    static const char *const stops[] = {"none", "fail-fast", "deadline", "caller"};
    char *text = texts[turn++ % 4];
    const char *state = seen->state <= SR_OUTCOME_SKIPPED ? states[seen->state] : "?";
    int used = snprintf(text, sizeof texts[0], "%s %lld", state, (long long)seen->result);
    if (seen->bytes_done != 0) {
        used += snprintf(text + used, sizeof texts[0] - (size_t)used, " bytes %llu",
                         (unsigned long long)seen->bytes_done);
    }
    if (seen->cancelled_by != SR_STOP_NONE) {
        used += snprintf(text + used, sizeof texts[0] - (size_t)used, " by %s",
                         seen->cancelled_by <= SR_STOP_CALLER ? stops[seen->cancelled_by] : "?");
    }
    if (seen->cause != BATCH_NONE) {
        (void)snprintf(text + used, sizeof texts[0] - (size_t)used, " cause %u", seen->cause);
    }
    return text;
}
