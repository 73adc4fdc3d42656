/* SPDX-License-Identifier: MIT */
#include "worker/launched.h"

#include "core/check.h"
#include "sys/packet.h"
#include <errno.h>

/* The walks below are over at most 4,096 entries and beside a fork: an index would save nothing. */

static struct sri_launched *find_free(struct sri_launch_state *state) {
    for (uint32_t i = 0; i < state->worker_end; i++) {
        if (state->workers[i].id == 0) {
            return &state->workers[i];
        }
    }
    return state->worker_end < SRI_LAUNCH_WORKERS_MAX ? &state->workers[state->worker_end++] : NULL;
}

struct sri_launched *sri_launched_add(struct sri_launch_state *state, uint64_t id,
                                      uint32_t serial) {
    SR_CHECK(id != 0 && sri_launched_find(state, id) == NULL);
    struct sri_launched *worker = find_free(state);
    if (worker != NULL) {
        *worker = (struct sri_launched){
            .id = id, .serial = serial, .pidfd = -1, .start_fd = -1, .init_fd = -1};
        sri_sandbox_report_init(&worker->report);
        state->worker_count++;
    }
    return worker;
}

struct sri_launched *sri_launched_find(struct sri_launch_state *state, uint64_t id) {
    for (uint32_t i = 0; i < state->worker_end; i++) {
        if (state->workers[i].id == id && id != 0) {
            return &state->workers[i];
        }
    }
    return NULL;
}

struct sri_launched *sri_launched_find_child(struct sri_launch_state *state, int32_t child) {
    for (uint32_t i = 0; i < state->worker_end; i++) {
        if (state->workers[i].child == child && state->workers[i].id != 0 && child > 0) {
            return &state->workers[i];
        }
    }
    return NULL;
}

void sri_launched_drop(struct sri_launch_state *state, struct sri_launched *worker) {
    SR_CHECK(worker->id != 0 && worker->child == 0);
    sri_fd_drop(&worker->pidfd);
    sri_fd_drop(&worker->start_fd);
    sri_fd_drop(&worker->init_fd);
    worker->id = 0;
    state->worker_count--;
}

void sri_launched_fail(struct sri_launched *worker, enum sri_launch_step step, int code) {
    if (worker->failed_step == SRI_LAUNCH_STEP_NONE) {
        worker->failed_step = step;
        worker->failed_code = code < 0 ? code : -EPROTO;
    }
}
