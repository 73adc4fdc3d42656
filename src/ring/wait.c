/* SPDX-License-Identifier: MIT */
/* Sending and waiting in one call, with deadlines, signals and time limits accounted for. */
#include "ring/ring.h"

#include "ring/client.h"
#include "ring/inbox.h"
#include "sys/clock.h"
#include "sys/memory.h"

#include <errno.h>

/* Enters without progress, after EAGAIN and the like, before the caller is told. */
#define FRUITLESS_ENTERS_MAX 2u

/* How long to rest when the kernel refuses to be entered and the wait must go on. */
#define REFUSED_PAUSE_NS 1000000u

struct waiter {
    uint32_t count_min;
    uint64_t end_ns; /* SR_FOREVER: no limit */
    uint64_t now_ns; /* 0: not read in this round */
    const sigset_t *sigmask;
    bool interruptible;
    uint32_t fruitless;
};

static void read_clock(const sr_ring *ring, struct waiter *waiter) {
    if (waiter->end_ns != SR_FOREVER || sri_ring_has_deadlines(ring)) {
        waiter->now_ns = ring->queue.backend->now_ns();
    }
}

/* How long the kernel may sleep: to the caller's limit or to the next deadline. */
static uint64_t sleep_ns(const sr_ring *ring, const struct waiter *waiter) {
    const uint64_t deadline_ns = sri_ring_next_deadline(ring);
    const uint64_t end_ns = deadline_ns < waiter->end_ns ? deadline_ns : waiter->end_ns;
    if (end_ns == SR_FOREVER) {
        return SR_FOREVER;
    }
    return end_ns > waiter->now_ns ? end_ns - waiter->now_ns : 0;
}

static bool is_satisfied(const sr_ring *ring, const struct waiter *waiter) {
    return sri_ring_delivered(ring) >= waiter->count_min ||
           ring->completions_count == ring->completions_max ||
           (sri_ring_delivered(ring) > 0 && sri_ring_expected(ring) == 0 && !sri_ring_hears(ring));
}

/* One round: take what is there, end what is due, send what waits. */
static void turn(sr_ring *ring, struct waiter *waiter) {
    sri_ring_reap(ring);
    if (SRI_UNLIKELY(sri_ring_has_deadlines(ring))) {
        waiter->now_ns = ring->queue.backend->now_ns();
        sri_ring_fire_deadlines(ring, waiter->now_ns);
        if (ring->cancel_again_ns != 0 && ring->cancel_again_ns <= waiter->now_ns) {
            sri_ring_cancel_again(ring);
        }
    }
    sri_ring_send_waiting(ring);
    if (SRI_UNLIKELY(ring->clients != NULL)) {
        sri_ring_turn_clients(ring);
    }
}

static uint32_t min_of(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* How many completions the kernel may gather before it wakes us. */
static uint32_t completions_to_wait_for(const sr_ring *ring, const struct waiter *waiter) {
    const uint32_t missing = waiter->count_min - sri_ring_delivered(ring);
    const uint32_t room = ring->completions_max - ring->completions_count;
    const uint32_t count = min_of(min_of(missing, room), sri_ring_expected(ring));
    /* Callbacks, rests of transfers and waiting closes have us do something at each completion, and
     * what is waited for may depend on it. */
    return ring->ops.cold_count > 0 ? min_of(count, 1) : count;
}

/* Whether entering the kernel may bring completions that are not there yet. */
static bool must_enter(const sr_ring *ring) {
    /* The fallback does not say so of what its event descriptor tells. */
    return sri_ring_kernel_has_more(ring) ||
           (SRI_UNLIKELY(ring->event_fd >= 0) && ring->queue.kind == SRI_BACKEND_FALLBACK);
}

static int enter_kernel(sr_ring *ring, const struct waiter *waiter, const struct sri_wait *wait) {
    int code = 0;
    if (waiter->interruptible && sri_queue_unsent(&ring->queue) > 0) {
        /* One call that sends and waits answers how much it sent, and hides that a signal broke the
         * wait. */
        code = sri_ring_enter(ring, NULL);
    }
    return code >= 0 ? sri_ring_enter(ring, wait) : code;
}

static int enter(sr_ring *ring, const struct waiter *waiter) {
    struct sri_wait wait = {.timeout_ns = 0, .sigmask = waiter->sigmask};
    if (!is_satisfied(ring, waiter)) {
        wait.count_min = completions_to_wait_for(ring, waiter);
        wait.timeout_ns = sleep_ns(ring, waiter);
        if (sri_ring_hears(ring)) {
            wait.count_min = 1; /* messages are not completions for the kernel */
        }
    }
    const bool arms =
        SRI_UNLIKELY(ring->clients != NULL) && wait.count_min > 0 && wait.timeout_ns > 0;
    const bool has_work = arms && !sri_ring_arm_clients(ring);
    int code = 0;
    /* After the clients, of which one may look for a while: until now nobody had to wake us. */
    if (has_work ||
        (wait.count_min > 0 && sri_ring_hears(ring) && !sri_inbox_prepare_sleep(ring))) {
        wait.count_min = 0;
    }
    if (!has_work || sri_queue_unsent(&ring->queue) > 0 || must_enter(ring)) {
        code = enter_kernel(ring, waiter, &wait);
    }
    if (arms) {
        sri_ring_awake_clients(ring);
    }
    if (sri_ring_hears(ring)) {
        sri_inbox_awake(ring);
    }
    return code;
}

/* Whether the code of an enter ends the wait; if so *out_code is the reason. */
static bool ends_wait(const sr_ring *ring, struct waiter *waiter, int code, int *out_code) {
    *out_code = code;
    if (code >= 0 || code == -ETIME) {
        waiter->fruitless = 0;
        return false;
    }
    if (code == -EINTR) {
        return waiter->interruptible;
    }
    const bool busy = code == -EAGAIN || code == -EBUSY || code == -ENOMEM;
    /* Taking completions may be just what the kernel needs: try again after that. */
    const bool fruitless = sri_queue_ready(&ring->queue) == 0;
    waiter->fruitless = fruitless ? waiter->fruitless + 1 : 0;
    return !busy || waiter->fruitless >= FRUITLESS_ENTERS_MAX;
}

/* Whether a client wants a turn at a certain time: that, too, is something to wait for. */
static bool clients_wait(const sr_ring *ring) {
    return SRI_UNLIKELY(ring->clients != NULL) && sri_ring_clients_deadline(ring) != SR_FOREVER;
}

static int wait_loop(sr_ring *ring, struct waiter *waiter) {
    bool sent = false;
    for (;;) {
        int code = 0;
        turn(ring, waiter);
        const bool satisfied = is_satisfied(ring, waiter);
        const bool idle =
            sri_ring_expected(ring) == 0 && !sri_ring_hears(ring) && !clients_wait(ring);
        const bool settled = sent || (sri_queue_unsent(&ring->queue) == 0 && !must_enter(ring));
        if (settled && (satisfied || idle)) {
            return satisfied ? 0 : SR_E_IDLE;
        }
        if (!satisfied) {
            read_clock(ring, waiter);
            if (sent && waiter->end_ns <= waiter->now_ns) {
                return SR_E_TIMEOUT;
            }
        }
        const bool ends = ends_wait(ring, waiter, enter(ring, waiter), &code);
        sent = true;
        if (ends) {
            turn(ring, waiter);
            return is_satisfied(ring, waiter) ? 0 : code;
        }
    }
}

/* When a wait that begins now ends. */
static uint64_t end_of_wait(const sr_ring *ring, uint64_t timeout_ns) {
    if (timeout_ns == SR_FOREVER) {
        return SR_FOREVER;
    }
    return sri_clock_after(ring->queue.backend->now_ns(), timeout_ns);
}

static int wait_check(const sr_ring *ring, uint64_t timeout_ns, const sr_wait_options *options,
                      struct waiter *out_waiter) {
    sr_wait_options given = SR_WAIT_OPTIONS_INIT;
    const int code = sri_ring_check(ring);
    if (SRI_UNLIKELY(code < 0)) {
        return code;
    }
    if (SRI_UNLIKELY(ring->in_callback)) {
        return SR_E_STATE;
    }
    if (SRI_UNLIKELY(!sri_options_take(&given, sizeof given, options) || given.interruptible > 1 ||
                     given.reserved != 0)) {
        return -EINVAL;
    }
    out_waiter->sigmask = given.sigmask;
    out_waiter->interruptible = given.interruptible == 1;
    out_waiter->end_ns = end_of_wait(ring, timeout_ns);
    return 0;
}

/* What was kept for the caller is in the array already; its outputs stay for this wait too. */
static SRI_COLD void take_kept(sr_ring *ring) {
    sri_release(ring->completions_aside);
    ring->completions_aside = NULL;
}

/* An array for what is to be kept, or a larger one with what was kept so far. */
static int make_room_to_keep(sr_ring *ring) {
    const bool first = ring->completions_aside == NULL;
    if (!first && ring->completions_count < ring->completions_max) {
        return 0;
    }
    const uint32_t places = first ? ring->completions_max : 2 * ring->completions_max;
    sr_completion *array = sri_allocate(places, sizeof *array);
    if (array == NULL) {
        return -ENOMEM;
    }
    if (first) {
        ring->completions_aside = ring->completions;
        ring->completions_count = 0;
    } else {
        memcpy(array, ring->completions, ring->completions_count * sizeof *array);
        sri_release(ring->completions);
    }
    ring->completions = array;
    ring->completions_max = places;
    return 0;
}

int sri_ring_wait_aside(sr_ring *ring, uint64_t timeout_ns) {
    const int room = make_room_to_keep(ring);
    if (room < 0) {
        return room;
    }
    ring->callbacks_count = 0;
    struct waiter waiter = {
        .count_min = ring->completions_count + 1,
        .end_ns = end_of_wait(ring, timeout_ns),
    };
    const int code = wait_loop(ring, &waiter);
    sri_ring_tell_clients(ring);
    if (ring->event_fd >= 0) {
        sri_ring_prepare_event(ring);
    }
    return code;
}

int sri_ring_wait_until(sr_ring *ring, bool (*holds)(void *ctx), void *ctx, uint64_t timeout_ns) {
    const struct sri_backend *backend = ring->queue.backend;
    const uint64_t end_ns = sri_clock_after(backend->now_ns(), timeout_ns);
    while (!holds(ctx)) {
        const uint64_t now_ns = backend->now_ns();
        if (now_ns >= end_ns) {
            return SR_E_IN_FLIGHT;
        }
        if (sri_ring_wait_aside(ring, end_ns - now_ns) < 0) {
            backend->pause(REFUSED_PAUSE_NS);
        }
    }
    return 0;
}

int sr_ring_wait(sr_ring *ring, uint32_t count_min, uint64_t timeout_ns,
                 const sr_wait_options *options, const sr_completion **out_completions) {
    struct waiter waiter = {.count_min = count_min};
    if (SRI_LIKELY(out_completions != NULL)) {
        *out_completions = NULL;
    }
    int code = wait_check(ring, timeout_ns, options, &waiter);
    if (SRI_UNLIKELY(code < 0)) {
        return SRI_MISUSE(code, 0);
    }
    if (SRI_LIKELY(ring->completions_aside == NULL)) {
        sri_ops_free_outputs(&ring->ops);
        ring->completions_count = 0;
        ring->completions_max = ring->completions_wanted;
    } else {
        take_kept(ring);
    }
    ring->callbacks_count = 0;
    code = wait_loop(ring, &waiter);
    if (SRI_UNLIKELY(ring->clients != NULL)) {
        sri_ring_tell_clients(ring);
    }
    if (SRI_UNLIKELY(ring->event_fd >= 0)) {
        sri_ring_prepare_event(ring);
    }
    /* What has ended is handed over, whatever broke the wait. */
    if (SRI_UNLIKELY(code < 0 && sri_ring_delivered(ring) == 0)) {
        return code;
    }
    if (SRI_LIKELY(out_completions != NULL)) {
        *out_completions = ring->completions;
    }
    return (int)ring->completions_count;
}

int sr_ring_flush(sr_ring *ring) {
    int code = sri_ring_check(ring);
    if (SRI_UNLIKELY(code < 0)) {
        return SRI_MISUSE(code, 0);
    }
    int sent = 0;
    uint32_t interrupted = 0;
    while (sri_queue_unsent(&ring->queue) > 0) {
        code = sri_ring_enter(ring, NULL);
        if (code == -EINTR && interrupted++ < FRUITLESS_ENTERS_MAX) {
            continue;
        }
        if (code <= 0) {
            return sent > 0 || code == 0 ? sent : code;
        }
        sent += code;
    }
    return sent;
}
