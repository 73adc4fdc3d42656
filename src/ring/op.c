/* SPDX-License-Identifier: MIT */
#include "ring/op.h"

#include "sys/memory.h"

#include <errno.h>

int sri_ops_init(struct sri_ops *ops, uint32_t count_max, uint32_t oneshot_max) {
    const uint32_t entry_count = sri_handle_entries_for(count_max);
    void *entries = sri_allocate(1, sri_handle_memory_for(entry_count));
    *ops = (struct sri_ops){
        .list = sri_allocate(count_max, sizeof *ops->list),
        .free_stack = sri_allocate(count_max, sizeof *ops->free_stack),
        .free_count = count_max,
        .count_max = count_max,
        .oneshot_max = oneshot_max,
    };
    sri_ops_bound(ops);
    int code = entries == NULL || ops->list == NULL || ops->free_stack == NULL ? -ENOMEM : 0;
    if (code == 0) {
        code = sri_handle_table_init(&ops->handles, SRI_KIND_OP, entries, entry_count);
    }
    if (code < 0) {
        sri_release(entries);
        sri_ops_deinit(ops);
        return code;
    }
    for (uint32_t i = 0; i < count_max; i++) {
        ops->free_stack[i] = count_max - 1 - i;
    }
    return 0;
}

static void cold_release_parts(struct sri_op_cold *cold) {
    sri_release(cold->extra);
    sri_release(cold->message);
    sri_release(cold->child);
    sri_release(cold->vector);
    cold->extra = NULL;
    cold->message = NULL;
    cold->child = NULL;
    cold->vector = NULL;
}

static void cold_release(struct sri_op_cold *cold) {
    if (cold != NULL) {
        cold_release_parts(cold);
        sri_release(cold);
    }
}

void sri_ops_deinit(struct sri_ops *ops) {
    void *handles_memory = ops->handles.owners;
    sri_handle_table_deinit(&ops->handles);
    sri_release(handles_memory);
    for (uint32_t i = 0; ops->list != NULL && i < ops->count_max; i++) {
        cold_release(ops->list[i].cold);
    }
    while (ops->cold_unused != NULL) {
        struct sri_op_cold *next = ops->cold_unused->next;
        cold_release(ops->cold_unused);
        ops->cold_unused = next;
    }
    sri_ops_free_outputs(ops);
    sri_release(ops->list);
    sri_release(ops->free_stack);
    *ops = (struct sri_ops){0};
}

void sri_ops_free_outputs(struct sri_ops *ops) {
    while (SRI_UNLIKELY(ops->outputs != NULL)) {
        struct sri_output *next = ops->outputs->next;
        sri_release(ops->outputs);
        ops->outputs = next;
    }
}

struct sri_op_cold *sri_op_cold(struct sri_ops *ops, struct sri_op *op) {
    struct sri_op_cold *cold = op->cold;
    if (cold != NULL) {
        return cold;
    }
    cold = ops->cold_unused;
    if (cold != NULL) {
        ops->cold_unused = cold->next;
    } else {
        cold = sri_allocate(1, sizeof *cold);
        if (cold == NULL) {
            return NULL;
        }
    }
    *cold = (struct sri_op_cold){
        .deadline.position = SRI_HEAP_NOWHERE,
        .waiting_next = SRI_INDEX32_NONE,
        .new_file = SRI_INDEX32_NONE,
        .second_file = SRI_INDEX32_NONE,
        .op_index = sri_op_index(ops, op),
    };
    op->cold = cold;
    ops->cold_count++;
    return cold;
}

void sri_op_release_cold(struct sri_ops *ops, struct sri_op *op) {
    struct sri_op_cold *cold = op->cold;
    SR_CHECK(cold->deadline.position == SRI_HEAP_NOWHERE && cold->waiting_next == SRI_INDEX32_NONE);
    cold_release_parts(cold);
    cold->next = ops->cold_unused;
    ops->cold_unused = cold;
    ops->cold_count--;
    op->cold = NULL;
}
