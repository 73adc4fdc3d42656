/* SPDX-License-Identifier: MIT */
#include "worker/ended.h"

#include "sys/packet.h"
#include "worker/init.h"
#include "worker/start.h"
#include <errno.h>
#include <safering/error.h>

/* Between two looks at what is left; most looks come sooner, by SIGCHLD. */
#define LOOK_NS     UINT64_C(20000000)
#define SIGNAL_KILL 9u

/* The init's own end is not the worker's: what it said over its channel is. */
static void take_word_of_init(struct sri_launched *worker, const struct sri_child_end *own) {
    struct sri_child_end word = {0};
    struct sri_packet packet;
    const int got = sri_packet_receive(worker->init_fd, &word, sizeof word, &packet);
    if (got == 1) {
        sri_packet_drop(&packet);
    }
    if (got == 1 && packet.size_bytes == sizeof word && !packet.is_cut &&
        sri_init_word_is_valid(&word)) {
        worker->how = word;
        worker->end = word.signal != 0 ? SRI_LAUNCH_END_SIGNAL : SRI_LAUNCH_END_EXIT;
        return;
    }
    /* It went without a word, and the kernel has killed the worker. */
    worker->end = SRI_LAUNCH_END_INIT;
    worker->how = (struct sri_child_end){.signal = own->signal != 0 ? own->signal : SIGNAL_KILL};
}

static void note_end(struct sri_launched *worker, const struct sri_child_end *own) {
    worker->child = 0;
    sri_start_take_notes(worker);
    if (worker->start_fd >= 0) {
        /* All that could hold the other end has ended; said for the reader, not for the kernel. */
        sri_launched_fail(worker, SRI_LAUNCH_STEP_PROCESS, SR_E_PEER_DIED);
    }
    if (worker->init_fd >= 0) {
        take_word_of_init(worker, own);
    } else {
        worker->how = *own;
        worker->end = own->signal != 0 ? SRI_LAUNCH_END_SIGNAL : SRI_LAUNCH_END_EXIT;
    }
    worker->owes_end = true;
}

static void reap_one(struct sri_launch_state *state, int32_t pid) {
    struct sri_child_end end;
    struct sri_launched *worker = sri_launched_find_child(state, pid);
    const bool has_init = worker != NULL && worker->init_fd >= 0;
    if (worker != NULL && !has_init) {
        sri_child_kill_group(pid);
    }
    sri_child_reap(pid, &end);
    /* Of an init nothing is left, the kernel sees to that before the init can be reaped. */
    state->has_orphans |= !has_init;
    if (worker != NULL) {
        note_end(worker, &end);
    }
}

bool sri_ended_reap(struct sri_launch_state *state) {
    int32_t pid = 0;
    while ((pid = sri_children_find_ended()) > 0) {
        reap_one(state, pid);
    }
    return pid != -ECHILD;
}

static bool is_worker(void *ctx, int32_t pid) {
    return sri_launched_find_child(ctx, pid) != NULL;
}

void sri_ended_look_for_orphans(struct sri_launch_state *state) {
    if (state->has_orphans) {
        state->has_orphans = false;
        (void)sri_children_kill_others(is_worker, state);
    }
}

static void kill_workers(struct sri_launch_state *state) {
    for (uint32_t i = 0; i < state->worker_end; i++) {
        const struct sri_launched *worker = &state->workers[i];
        if (worker->id != 0 && worker->child > 0) {
            sri_child_kill_group(worker->child);
            sri_child_kill(worker->child);
        }
    }
}

void sri_ended_end_all(struct sri_launch_state *state) {
    kill_workers(state);
    (void)sri_children_kill_others(is_worker, state);
    while (sri_ended_reap(state)) {
        sri_children_pause(LOOK_NS);
        kill_workers(state);
        (void)sri_children_kill_others(is_worker, state);
    }
}

bool sri_ended_end_strangers(uint64_t timeout_ns) {
    for (uint64_t waited = 0;; waited += LOOK_NS) {
        struct sri_child_end end;
        int32_t pid = 0;
        (void)sri_children_kill_others(NULL, NULL);
        while ((pid = sri_children_find_ended()) > 0) {
            sri_child_reap(pid, &end);
        }
        if (pid == -ECHILD) {
            return true;
        }
        if (waited >= timeout_ns) {
            return false;
        }
        sri_children_pause(LOOK_NS);
    }
}
