/* SPDX-License-Identifier: MIT */
#include "ipc/call.h"

#include "sys/memory.h"

#include <errno.h>

#define NO_CALL UINT32_MAX

int sri_calls_init(struct sri_calls *calls, uint32_t count_max) {
    const uint32_t entry_count = sri_handle_entries_for(count_max);
    *calls = (struct sri_calls){.count_max = count_max, .free_first = 0};
    calls->list = sri_allocate(count_max, sizeof *calls->list);
    calls->memory = sri_allocate(1, sri_handle_memory_for(entry_count));
    calls->deadlines.items = sri_allocate(count_max, sizeof(struct sri_heap_item *));
    calls->deadlines.count_max = count_max;
    int code = -ENOMEM;
    if (calls->list != NULL && calls->memory != NULL && calls->deadlines.items != NULL) {
        code = sri_handle_table_init(&calls->handles, SRI_KIND_IPC, calls->memory, entry_count);
    }
    if (code < 0) {
        sri_release(calls->list);
        sri_release(calls->memory);
        sri_release(calls->deadlines.items);
        *calls = (struct sri_calls){0};
        return code;
    }
    for (uint32_t i = 0; i < count_max; i++) {
        calls->list[i].next = i + 1 < count_max ? i + 1 : NO_CALL;
        calls->list[i].deadline.position = SRI_HEAP_NOWHERE;
    }
    return 0;
}

void sri_calls_deinit(struct sri_calls *calls) {
    if (calls->list == NULL) {
        return;
    }
    sri_handle_table_deinit(&calls->handles);
    sri_release(calls->list);
    sri_release(calls->memory);
    sri_release(calls->deadlines.items);
    *calls = (struct sri_calls){0};
}

struct sri_call *sri_call_acquire(struct sri_calls *calls) {
    const uint32_t slot = calls->free_first;
    if (slot == NO_CALL) {
        return NULL;
    }
    const uint64_t handle = sri_handle_acquire(&calls->handles, SRI_KIND_IPC, slot);
    if (handle == 0) {
        return NULL;
    }
    struct sri_call *call = &calls->list[slot];
    calls->free_first = call->next;
    calls->count++;
    *call = (struct sri_call){
        .handle = handle,
        .deadline.position = SRI_HEAP_NOWHERE,
        .next = NO_CALL,
        .state = SRI_CALL_WAITING,
    };
    return call;
}

static void leave_heap(struct sri_calls *calls, struct sri_call *call) {
    if (call->deadline.position != SRI_HEAP_NOWHERE) {
        sri_heap_remove(&calls->deadlines, &call->deadline);
    }
}

void sri_call_release(struct sri_calls *calls, struct sri_call *call) {
    SR_CHECK(call->state != SRI_CALL_FREE && calls->count > 0);
    leave_heap(calls, call);
    sri_handle_release(&calls->handles, call->handle);
    calls->given_up_count -= call->state == SRI_CALL_GIVEN_UP;
    calls->count--;
    call->handle = 0;
    call->state = SRI_CALL_FREE;
    call->next = calls->free_first;
    calls->free_first = (uint32_t)(call - calls->list);
}

struct sri_call *sri_call_find(const struct sri_calls *calls, uint64_t handle) {
    return sri_handle_is_alive(&calls->handles, handle)
               ? &calls->list[sri_handle_slot(&calls->handles, handle)]
               : NULL;
}

void sri_call_set_deadline(struct sri_calls *calls, struct sri_call *call, uint64_t deadline_ns) {
    leave_heap(calls, call);
    call->deadline.key = deadline_ns;
    sri_heap_insert(&calls->deadlines, &call->deadline);
}

void sri_call_give_up(struct sri_calls *calls, struct sri_call *call) {
    SR_CHECK(call->state == SRI_CALL_WAITING);
    leave_heap(calls, call);
    call->state = SRI_CALL_GIVEN_UP;
    calls->given_up_count++;
}

struct sri_call *sri_calls_due(const struct sri_calls *calls, uint64_t now_ns) {
    struct sri_heap_item *first = sri_heap_first(&calls->deadlines);
    return first != NULL && first->key <= now_ns
               ? SRI_CONTAINER_OF(first, struct sri_call, deadline)
               : NULL;
}

uint64_t sri_calls_next_deadline(const struct sri_calls *calls) {
    const struct sri_heap_item *first = sri_heap_first(&calls->deadlines);
    return first != NULL ? first->key : SR_FOREVER;
}
