/* SPDX-License-Identifier: MIT */
/*
 * A ring moves from one thread to another. The kernel binds a ring to the thread that made it
 * (IORING_SETUP_SINGLE_ISSUER), so the queue does not move: its owner closes it, and whoever adopts
 * the ring opens another one and registers anew what the first one had. Handles, files, buffers in
 * buffer rings and messages in the inbox are the ring's own and stay what they are.
 *
 * In between nobody owns the ring; the one who changes its owner key from nobody's to his own has
 * it. That exchange also orders memory: what the last owner wrote is seen by the next.
 */
#include "ring/buffer_ring.h"
#include "ring/inbox.h"
#include "ring/ring.h"

#include <errno.h>

/* ---- pools that go along --------------------------------------------------------------------- */

/* How many of the attachments of a pool are this ring's. */
static uint32_t attachments(const sr_ring *ring, const sr_pool *pool) {
    uint32_t count = sri_buffer_rings_of(ring, pool);
    for (uint32_t i = 0; i < ring->pools_max; i++) {
        count += ring->pools[i].pool == pool;
    }
    return count;
}

/* Whether nobody but this ring and its owner uses the pool. */
static bool is_ours_alone(const sr_ring *ring, const sr_pool *pool) {
    return atomic_load(&pool->owner_key) == atomic_load(&ring->owner_key) &&
           atomic_load(&pool->rings_attached) == attachments(ring, pool);
}

/* Gives the pools that go along another owner. Those of buffer rings always do. */
static void own_pools(sr_ring *ring, uint64_t owner_key) {
    for (uint32_t i = 0; i < ring->pools_max; i++) {
        if (ring->pools[i].goes_along) {
            atomic_store_explicit(&ring->pools[i].pool->owner_key, owner_key, memory_order_relaxed);
        }
    }
    for (sr_buffer_ring *each = ring->buffer_rings; each != NULL; each = each->next) {
        atomic_store_explicit(&each->pool->owner_key, owner_key, memory_order_relaxed);
    }
}

/* Before the first of them has changed hands. */
static void choose_pools(sr_ring *ring) {
    for (uint32_t i = 0; i < ring->pools_max; i++) {
        sr_pool *pool = ring->pools[i].pool;
        ring->pools[i].goes_along = pool != NULL && is_ours_alone(ring, pool);
    }
}

/* ---- release --------------------------------------------------------------------------------- */

static int release_check(const sr_ring *ring) {
    const int code = sri_ring_check(ring);
    if (code < 0) {
        return code;
    }
    if (ring->in_callback || ring->clients != NULL) {
        return SR_E_STATE;
    }
    if (sri_ops_in_use(&ring->ops) > 0 || ring->completions_aside != NULL) {
        return SR_E_IN_FLIGHT;
    }
    for (const sr_buffer_ring *each = ring->buffer_rings; each != NULL; each = each->next) {
        if (!is_ours_alone(ring, each->pool)) {
            return SR_E_STATE;
        }
    }
    return 0;
}

/* The read that wakes the owner is the kernel's own affair, but it is in flight. */
static int end_wake(sr_ring *ring) {
    const struct sri_backend *backend = ring->queue.backend;
    const uint64_t start_ns = backend->now_ns();
    uint64_t passed_ns = 0;
    ring->completions_count = 0; /* a full array would keep it from being taken */
    sri_ring_cancel_wake(ring);
    while (ring->wake_armed && passed_ns <= ring->drain_timeout_ns) {
        const struct sri_wait wait = {.count_min = 1, .timeout_ns = SRI_CANCEL_AGAIN_NS};
        const int code = sri_ring_enter(ring, &wait);
        sri_ring_reap_queue(ring);
        if (ring->wake_armed && (code < 0 && code != -ETIME && code != -EINTR)) {
            backend->pause(SRI_CANCEL_AGAIN_NS);
        }
        passed_ns = backend->now_ns() - start_ns;
    }
    return ring->wake_armed ? SR_E_IN_FLIGHT : 0;
}

static void close_queue(sr_ring *ring) {
    const struct sri_backend *backend = ring->queue.backend;
    backend->queue_close(&ring->queue, SRI_CLOSER_OWNER);
    (void)backend->fd_close(ring->queue.lifeline); /* a pipe: cannot fail */
    ring->queue.lifeline = -1;
}

int sr_ring_release(sr_ring *ring) {
    int code = release_check(ring);
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    code = ring->wake_armed ? end_wake(ring) : 0;
    if (code < 0) {
        return code;
    }
    close_queue(ring);
    sri_ring_forget_registrations(ring);
    choose_pools(ring);
    own_pools(ring, sri_owner_nobody());
    ring->cancel_again_ns = 0;
    if (ring->inbox != NULL) {
        sri_inbox_awake(ring); /* nobody sleeps: messages wait for the next owner */
    }
    ring->released = true;
    /* Pairs with the exchange in sri_ring_claim(). */
    atomic_store_explicit(&ring->owner_key, sri_owner_nobody(), memory_order_release);
    return 0;
}

/* ---- adopt ----------------------------------------------------------------------------------- */

bool sri_ring_claim(sr_ring *ring) {
    uint64_t nobody = sri_owner_nobody();
    const uint64_t key = sri_owner_key();
    if (!atomic_compare_exchange_strong_explicit(&ring->owner_key, &nobody, key,
                                                 memory_order_acquire, memory_order_relaxed)) {
        return false;
    }
    own_pools(ring, key);
    sri_buffer_rings_take_over(ring, key);
    return true;
}

static void unclaim(sr_ring *ring) {
    const uint64_t nobody = sri_owner_nobody();
    own_pools(ring, nobody);
    atomic_store_explicit(&ring->owner_key, nobody, memory_order_release);
}

static int register_files(sr_ring *ring) {
    struct sri_queue *queue = &ring->queue;
    for (uint32_t i = 0; i < ring->files.count_max; i++) {
        const struct sri_file *file = &ring->files.list[i];
        if (file->fixed_slot < 0) {
            continue;
        }
        const int code =
            queue->backend->queue_set_file(queue, (uint32_t)file->fixed_slot, file->fd);
        if (code < 0) {
            return code;
        }
    }
    return 0;
}

/* All that a queue must have had before the ring can be what it was. */
static int equip_queue(sr_ring *ring) {
    struct sri_queue *queue = &ring->queue;
    if (queue->fixed_files < ring->files.fixed_count) {
        return queue->fixed_files_error; /* RLIMIT_NOFILE is lower here */
    }
    int code = register_files(ring);
    if (code == 0) {
        code = sri_buffer_rings_register(ring);
    }
    if (code == 0 && ring->event_fd >= 0) {
        /* What the program polls is one thing with io_uring and another without. */
        code = (ring->event_fd == ring->wakeup_fd) == (queue->kind == SRI_BACKEND_URING)
                   ? queue->backend->queue_set_event_fd(queue, ring->wakeup_fd, ring->event_fd)
                   : SR_E_UNSUPPORTED;
    }
    return code;
}

static int rebuild(sr_ring *ring) {
    const struct sri_queue before = ring->queue;
    const int32_t backend_error_before = ring->stats.backend_error;
    int code = sri_ring_open_queue(ring);
    const bool opened = code == 0;
    if (opened) {
        code = equip_queue(ring);
    }
    if (code < 0) {
        if (opened) {
            close_queue(ring);
        }
        ring->queue = before;
        ring->stats.backend_error = backend_error_before;
        return code;
    }
    sri_ring_register_pools(ring);
    ring->released = false;
    return 0;
}

int sr_ring_adopt(sr_ring *ring) {
    if (!sri_ring_is_valid(ring)) {
        return SRI_MISUSE(SR_E_OBJECT, 0);
    }
    if (sri_owner_is_forked(ring->owner_key)) {
        return SRI_MISUSE(SR_E_FORKED, 0);
    }
    if (sri_owner_key_make() == 0) {
        return -ENOMEM;
    }
    if (!sri_ring_claim(ring)) {
        return SRI_MISUSE(SR_E_STATE, 0);
    }
    const int code = rebuild(ring);
    if (code < 0) {
        unclaim(ring);
        return code;
    }
    if (ring->event_fd >= 0) {
        sri_ring_prepare_event(ring); /* messages that came meanwhile must not be slept over */
    }
    return 0;
}
