/* SPDX-License-Identifier: MIT */
/*
 * Calls: the table of those that a channel has sent and the worker has not answered, with their
 * deadlines. A call whose caller has been told (deadline, cancel) stays in it as GIVEN_UP until the
 * worker answers: only so can an answer that comes late be told from one that nobody asked for.
 */
#ifndef SAFERING_IPC_CALL_H
#define SAFERING_IPC_CALL_H

#include "core/handle.h"
#include "core/heap.h"
#include <safering/ipc.h>

#define SRI_CALLS_MAX UINT32_C(65536)

enum sri_call_state { SRI_CALL_FREE = 0, SRI_CALL_WAITING = 1, SRI_CALL_GIVEN_UP = 2 };

struct sri_call {
    uint64_t handle; /* also the frame's id */
    uint64_t tag;
    void *ctx;
    sr_answer_fn on_answer;
    struct sri_heap_item deadline; /* key: when it is given up */
    uint32_t next;                 /* free ones */
    uint16_t method;
    uint8_t state; /* enum sri_call_state */
    bool cancelled;
};

struct sri_calls {
    struct sri_call *list;
    struct sri_handle_table handles;
    void *memory;
    struct sri_heap deadlines;
    uint32_t count_max;
    uint32_t count; /* WAITING and GIVEN_UP */
    uint32_t given_up_count;
    uint32_t free_first;
};

/* Returns 0, -ENOMEM or SR_E_FULL. */
int sri_calls_init(struct sri_calls *calls, uint32_t count_max);
void sri_calls_deinit(struct sri_calls *calls);

/* A WAITING call without a deadline, or NULL if there is no room. */
struct sri_call *sri_call_acquire(struct sri_calls *calls);
void sri_call_release(struct sri_calls *calls, struct sri_call *call);
/* The call, WAITING or GIVEN_UP, that a handle names, or NULL. */
struct sri_call *sri_call_find(const struct sri_calls *calls, uint64_t handle);
/* Puts off or brings forward when it is given up. */
void sri_call_set_deadline(struct sri_calls *calls, struct sri_call *call, uint64_t deadline_ns);
void sri_call_give_up(struct sri_calls *calls, struct sri_call *call);
/* The first one whose deadline has come, or NULL. */
struct sri_call *sri_calls_due(const struct sri_calls *calls, uint64_t now_ns);
/* SR_FOREVER without one. */
uint64_t sri_calls_next_deadline(const struct sri_calls *calls);

#endif
