/* SPDX-License-Identifier: MIT */
/* Buffers as their holder sees them: checked access, and handing one to another thread. */
#include "buffer/pool.h"

#include <errno.h>

static int data(sr_pool *pool, sr_buffer buffer, size_t offset_bytes, size_t length_bytes,
                int access, void **out_data) {
    if (SRI_UNLIKELY(!sri_pool_is_valid(pool))) {
        return SR_E_OBJECT;
    }
    const struct sri_slot *slot = sri_pool_find(pool, buffer.bits);
    if (SRI_UNLIKELY(slot == NULL)) {
        return sri_pool_find_error(pool, buffer.bits);
    }
    if (SRI_UNLIKELY((unsigned int)access > SR_ACCESS_WRITE)) {
        return -EINVAL;
    }
    if (SRI_UNLIKELY(offset_bytes >= pool->size_bytes ||
                     length_bytes - 1 >= pool->size_bytes - offset_bytes)) {
        return SR_E_BOUNDS;
    }
    if (SRI_UNLIKELY(slot->loans != NULL) &&
        sri_loans_forbid(slot->loans, (uint32_t)offset_bytes,
                         (uint32_t)(offset_bytes + length_bytes), access == SR_ACCESS_WRITE)) {
        return SR_E_LENT;
    }
    *out_data = slot->memory + offset_bytes;
    return 0;
}

int sr_buffer_data(sr_pool *pool, sr_buffer buffer, size_t offset_bytes, size_t length_bytes,
                   int access, void **out_data) {
    if (SRI_UNLIKELY(out_data == NULL)) {
        return SRI_MISUSE(-EINVAL, buffer.bits);
    }
    *out_data = NULL;
    const int code = data(pool, buffer, offset_bytes, length_bytes, access, out_data);
    return SRI_LIKELY(code == 0) ? 0 : SRI_MISUSE(code, buffer.bits);
}

static int transfer(sr_pool *pool, sr_buffer buffer, sr_thread to) {
    if (!sri_pool_is_valid(pool)) {
        return SR_E_OBJECT;
    }
    struct sri_slot *slot = sri_pool_find(pool, buffer.bits);
    if (slot == NULL) {
        return sri_pool_find_error(pool, buffer.bits);
    }
    if (to.bits == 0 || sri_owner_is_forked(to.bits)) {
        return -EINVAL;
    }
    if (slot->state != SRI_SLOT_HELD) {
        return SR_E_IN_FLIGHT;
    }
    atomic_store_explicit(&slot->holder_key, to.bits, memory_order_release);
    return 0;
}

int sr_buffer_transfer(sr_pool *pool, sr_buffer buffer, sr_thread to) {
    const int code = transfer(pool, buffer, to);
    return code == 0 ? 0 : SRI_MISUSE(code, buffer.bits);
}
