/* SPDX-License-Identifier: MIT */
/*
 * Restart: whether and when something that ended is started again. Pure arithmetic on times that
 * the caller brings.
 *
 * Two rules. Intensity: more than `max` ends within the window, and it is over. Backoff: what ends
 * again and again without having worked is started later each time.
 */
#ifndef SAFERING_IPC_RESTART_H
#define SAFERING_IPC_RESTART_H

#include <stdbool.h>
#include <stdint.h>

#define SRI_RESTARTS_MAX UINT32_C(1000)

struct sri_restart_rules {
    uint32_t max; /* 0 .. SRI_RESTARTS_MAX */
    uint64_t window_ns;
    uint64_t backoff_first_ns;
    uint64_t backoff_max_ns;
};

struct sri_restart {
    struct sri_restart_rules rules;
    uint64_t *ends_ns; /* the last `max` of them, a ring; owned */
    uint32_t end_count;
    uint32_t end_next;
    uint32_t in_a_row; /* ends since it worked */
};

/* 0, or -ENOMEM. */
int sri_restart_init(struct sri_restart *restart, const struct sri_restart_rules *rules);
void sri_restart_deinit(struct sri_restart *restart);

/* It has ended at @now_ns, which never goes back. Returns false if that was once too often; else
 * *out_delay_ns is how long to wait before it is started again. */
bool sri_restart_note_end(struct sri_restart *restart, uint64_t now_ns, uint64_t *out_delay_ns);

/* It works: the next end is the first in a row. */
void sri_restart_note_work(struct sri_restart *restart);

/* Nothing has ever ended. */
void sri_restart_clear(struct sri_restart *restart);

#endif
