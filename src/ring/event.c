/* SPDX-License-Identifier: MIT */
/*
 * Living in someone's event loop: a descriptor that becomes readable when there is something to
 * take, a time until which the loop may sleep, and a call that takes without waiting.
 *
 * With io_uring the descriptor is an eventfd that the kernel signals. Polling the ring's own
 * descriptor would not do: with deferred task work it reports nothing until somebody enters the
 * ring. On the fallback it is an epoll descriptor that has the eventfd in it
 * (src/sys/fallback_events.c). Either way the library itself signals by the eventfd.
 */
#include "ring/client.h"
#include "ring/inbox.h"
#include "ring/ring.h"

#include <errno.h>

static int open_event(sr_ring *ring) {
    const struct sri_backend *backend = ring->queue.backend;
    const int wakeup_fd = backend->wakeup_open(true);
    if (wakeup_fd < 0) {
        return wakeup_fd;
    }
    const int event_fd = backend->event_open(&ring->queue, wakeup_fd);
    int code = event_fd < 0 ? event_fd : 0;
    if (code == 0) {
        code = backend->queue_set_event_fd(&ring->queue, wakeup_fd, event_fd);
    }
    ring->wakeup_fd = wakeup_fd;
    ring->event_fd = event_fd;
    if (code < 0) {
        sri_ring_close_event(ring);
    }
    return code;
}

void sri_ring_close_event(sr_ring *ring) {
    const struct sri_backend *backend = ring->queue.backend;
    /* Neither an eventfd nor an epoll descriptor can fail to close. */
    if (ring->event_fd >= 0 && ring->event_fd != ring->wakeup_fd) {
        (void)backend->fd_close(ring->event_fd);
    }
    if (ring->wakeup_fd >= 0) {
        (void)backend->fd_close(ring->wakeup_fd);
    }
    ring->event_fd = ring->wakeup_fd = -1;
}

int sr_ring_event_fd(sr_ring *ring, int *out_fd) {
    if (out_fd == NULL) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    *out_fd = -1;
    int code = sri_ring_check(ring);
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    if (ring->event_fd < 0) {
        code = open_event(ring);
        if (code < 0) {
            return code;
        }
        if (!sri_ring_arm_clients(ring)) {
            sri_ring_want_turn(ring);
        }
        sri_ring_prepare_event(ring); /* what has ended before must not be slept over */
    }
    *out_fd = ring->event_fd;
    return 0;
}

void sri_ring_prepare_event(sr_ring *ring) {
    const struct sri_backend *backend = ring->queue.backend;
    if (sri_queue_unsent(&ring->queue) > 0) {
        /* What it does not take now stays queued: sr_ring_next_deadline_ns() says so. */
        (void)sri_ring_enter(ring, NULL);
    }
    if (ring->queue.kind == SRI_BACKEND_URING) {
        /* A registration may forget how to signal: Linux 6.18 once it has done so out of another
         * eventfd's wake-up (tests/kernel/test_eventfd_nested.c), 6.12 also after other
         * completions (tests/unit/test_event.c). A fresh one signals. If that fails the old one, or
         * none, is left, and the next wait tries again. */
        (void)backend->queue_set_event_fd(&ring->queue, -1, -1);
        (void)backend->queue_set_event_fd(&ring->queue, ring->wakeup_fd, ring->event_fd);
    }
    /* After taking, for entering the kernel signals what it brings. What came between the two is
     * seen below: the kernel shows a completion, or that it has one, before it signals. */
    backend->wakeup_clear(ring->wakeup_fd);
    atomic_thread_fence(memory_order_seq_cst);
    /* Writers signal from here on, so what they write is not cleared. */
    const bool may_sleep = ring->inbox == NULL || sri_inbox_prepare_event(ring);
    if (!may_sleep || sri_queue_ready(&ring->queue) > 0 || sri_ring_kernel_has_more(ring)) {
        backend->wakeup_write(ring->wakeup_fd);
    }
}

int sr_ring_next_deadline_ns(sr_ring *ring, uint64_t *out_left_ns) {
    if (out_left_ns == NULL) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    *out_left_ns = 0;
    const int code = sri_ring_check(ring);
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    if (sri_queue_unsent(&ring->queue) > 0 || ring->waiting.first != SRI_INDEX32_NONE ||
        ring->cancels_unsent > 0 || ring->clients_due || ring->completions_aside != NULL) {
        return 0; /* now: something is to be sent, or told */
    }
    const uint64_t next_ns = sri_ring_next_deadline(ring);
    if (next_ns == SR_FOREVER) {
        *out_left_ns = SR_FOREVER;
        return 0;
    }
    const uint64_t now_ns = ring->queue.backend->now_ns();
    *out_left_ns = next_ns > now_ns ? next_ns - now_ns : 0;
    return 0;
}

int sr_ring_dispatch(sr_ring *ring, const sr_completion **out_completions) {
    if (out_completions != NULL) {
        *out_completions = NULL;
    }
    int code = sri_ring_check(ring);
    if (code == 0 && ring->in_callback) {
        code = SR_E_STATE;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    return sr_ring_wait(ring, 0, 0, NULL, out_completions);
}
