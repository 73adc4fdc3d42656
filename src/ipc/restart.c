/* SPDX-License-Identifier: MIT */
#include "ipc/restart.h"

#include "core/check.h"
#include "sys/memory.h"
#include <errno.h>

int sri_restart_init(struct sri_restart *restart, const struct sri_restart_rules *rules) {
    SR_CHECK(rules->max <= SRI_RESTARTS_MAX);
    *restart = (struct sri_restart){.rules = *rules};
    if (rules->max == 0) {
        return 0;
    }
    restart->ends_ns = sri_allocate(rules->max, sizeof *restart->ends_ns);
    return restart->ends_ns != NULL ? 0 : -ENOMEM;
}

void sri_restart_deinit(struct sri_restart *restart) {
    sri_release(restart->ends_ns);
    *restart = (struct sri_restart){0};
}

/* 0 for the first end in a row, then first, 2 * first, 4 * first ... up to the most. */
static uint64_t backoff(const struct sri_restart *restart) {
    uint64_t delay_ns = restart->rules.backoff_first_ns;
    if (restart->in_a_row < 2) {
        return 0;
    }
    for (uint32_t i = 2; i < restart->in_a_row && delay_ns < restart->rules.backoff_max_ns; i++) {
        delay_ns = delay_ns <= UINT64_MAX / 2 ? delay_ns * 2 : UINT64_MAX;
    }
    return delay_ns < restart->rules.backoff_max_ns ? delay_ns : restart->rules.backoff_max_ns;
}

bool sri_restart_note_end(struct sri_restart *restart, uint64_t now_ns, uint64_t *out_delay_ns) {
    const uint32_t max = restart->rules.max;
    *out_delay_ns = 0;
    if (max == 0) {
        return false;
    }
    if (restart->end_count == max) {
        /* Where the next one goes is the oldest: with it there would be max + 1. */
        if (now_ns - restart->ends_ns[restart->end_next] <= restart->rules.window_ns) {
            return false;
        }
    } else {
        restart->end_count++;
    }
    restart->ends_ns[restart->end_next] = now_ns;
    restart->end_next = (restart->end_next + 1) % max;
    if (restart->in_a_row < UINT32_MAX) {
        restart->in_a_row++;
    }
    *out_delay_ns = backoff(restart);
    return true;
}

void sri_restart_note_work(struct sri_restart *restart) {
    restart->in_a_row = 0;
}

void sri_restart_clear(struct sri_restart *restart) {
    restart->end_count = 0;
    restart->end_next = 0;
    restart->in_a_row = 0;
}
