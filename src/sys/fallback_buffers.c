/* SPDX-License-Identifier: MIT */
/* Rings of provided buffers (IOSQE_BUFFER_SELECT): the caller fills them, jobs take from them in
 * order. A buffer counts as taken only when something was put into it. */
#include "sys/fallback.h"

#include "sys/memory.h"

#include <errno.h>

static struct sri_buffer_group **find(struct sri_fallback *fallback, uint16_t number) {
    struct sri_buffer_group **link = &fallback->groups;
    while (*link != NULL && (*link)->group != number) {
        link = &(*link)->next;
    }
    return link;
}

int sri_fallback_add_buffer_ring(struct sri_queue *queue, uint16_t group,
                                 struct io_uring_buf_ring *memory, uint32_t entries) {
    struct sri_buffer_group **link = find(queue->state, group);
    if (memory == NULL || entries == 0 || entries > 32768 || (entries & (entries - 1)) != 0) {
        return -EINVAL;
    }
    if (*link != NULL) {
        return -EEXIST;
    }
    struct sri_buffer_group *added = sri_allocate(1, sizeof *added);
    if (added == NULL) {
        return -ENOMEM;
    }
    added->ring = memory;
    added->group = group;
    added->mask = (uint16_t)(entries - 1);
    *link = added;
    return 0;
}

int sri_fallback_remove_buffer_ring(struct sri_queue *queue, uint16_t group) {
    struct sri_buffer_group **link = find(queue->state, group);
    struct sri_buffer_group *gone = *link;
    if (gone == NULL) {
        return -ENOENT;
    }
    *link = gone->next;
    sri_release(gone);
    return 0;
}

void sri_buffer_free_groups(struct sri_fallback *fallback) {
    while (fallback->groups != NULL) {
        struct sri_buffer_group *gone = fallback->groups;
        fallback->groups = gone->next;
        sri_release(gone);
    }
}

struct sri_buffer_group *sri_buffer_pick(struct sri_fallback *fallback,
                                         const struct io_uring_sqe *sqe, struct iovec *out_buffer) {
    struct sri_buffer_group *group = *find(fallback, sqe->buf_group);
    /* Pairs with the caller's release store: the entry is written before the tail. */
    if (group == NULL || __atomic_load_n(&group->ring->tail, __ATOMIC_ACQUIRE) == group->head) {
        return NULL;
    }
    const struct io_uring_buf *buffer = &group->ring->bufs[group->head & group->mask];
    const bool is_message = sqe->opcode == IORING_OP_RECVMSG;
    const uint32_t limit = is_message || sqe->len == 0 ? UINT32_MAX : sqe->len;
    *out_buffer = (struct iovec){
        .iov_base = (void *)(uintptr_t)buffer->addr,
        .iov_len = buffer->len < limit ? buffer->len : limit,
    };
    return group;
}

uint32_t sri_buffer_take(struct sri_buffer_group *group) {
    const struct io_uring_buf *buffer = &group->ring->bufs[group->head & group->mask];
    group->head++;
    return IORING_CQE_F_BUFFER | (uint32_t)buffer->bid << IORING_CQE_BUFFER_SHIFT;
}
