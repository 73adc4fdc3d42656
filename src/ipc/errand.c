/* SPDX-License-Identifier: MIT */
#include "ipc/errand.h"

#include "core/check.h"
#include "sys/clock.h"
#include "sys/futex.h"
#include "sys/memory.h"
#include "sys/os.h"
#include "sys/owner.h"
#include <safering/error.h>

#include <errno.h>

/* How often a thread that waits looks whether the owner still lives. */
#define LOOK_NS UINT64_C(1000000000)
/* Until the owner has done what takes it no longer than a copy. */
#define MOMENT_NS UINT64_C(50000)

enum state { FREE, POSTED, BEGUN, UNDER_WAY, ENDING, ENDED, WITHDRAWN };

/* ---- lists ------------------------------------------------------------------------------------
 */

static void set_next(struct sri_errands *errands, uint32_t slot, uint32_t next) {
    atomic_store_explicit(&errands->list[slot].next, next, memory_order_relaxed);
}

uint32_t sri_errand_next(const struct sri_errands *errands, uint32_t slot) {
    return atomic_load_explicit(&errands->list[slot].next, memory_order_relaxed);
}

/* Where the list begins with @slot: another word than when it last began so. */
static uint64_t changed(uint64_t first, uint32_t slot) {
    return ((first >> 32) + 1) << 32 | slot;
}

void sri_errand_release(struct sri_errands *errands, uint32_t slot) {
    uint64_t first = atomic_load_explicit(&errands->free_first, memory_order_relaxed);
    atomic_store_explicit(&errands->list[slot].state, FREE, memory_order_relaxed);
    do {
        set_next(errands, slot, (uint32_t)first);
    } while (!atomic_compare_exchange_weak_explicit(&errands->free_first, &first,
                                                    changed(first, slot), memory_order_release,
                                                    memory_order_relaxed));
}

uint32_t sri_errand_acquire(struct sri_errands *errands) {
    uint64_t first = atomic_load_explicit(&errands->free_first, memory_order_acquire);
    uint32_t next = SRI_ERRAND_NONE;
    do {
        if ((uint32_t)first == SRI_ERRAND_NONE) {
            return SRI_ERRAND_NONE;
        }
        /* Of no use if another thread has taken it meanwhile, as the number then shows. */
        next = sri_errand_next(errands, (uint32_t)first);
    } while (!atomic_compare_exchange_weak_explicit(&errands->free_first, &first,
                                                    changed(first, next), memory_order_acquire,
                                                    memory_order_acquire));
    return (uint32_t)first;
}

void sri_errand_post(struct sri_errands *errands, uint32_t slot) {
    uint32_t first = atomic_load_explicit(&errands->posted_first, memory_order_relaxed);
    atomic_store_explicit(&errands->list[slot].state, POSTED, memory_order_relaxed);
    do {
        set_next(errands, slot, first);
    } while (!atomic_compare_exchange_weak_explicit(&errands->posted_first, &first, slot,
                                                    memory_order_release, memory_order_relaxed));
}

bool sri_errands_are_posted(const struct sri_errands *errands) {
    return atomic_load_explicit(&errands->posted_first, memory_order_acquire) != SRI_ERRAND_NONE;
}

uint32_t sri_errands_take(struct sri_errands *errands) {
    uint32_t slot =
        atomic_exchange_explicit(&errands->posted_first, SRI_ERRAND_NONE, memory_order_acquire);
    uint32_t first = SRI_ERRAND_NONE;
    while (slot != SRI_ERRAND_NONE) {
        const uint32_t older = sri_errand_next(errands, slot);
        set_next(errands, slot, first);
        first = slot;
        slot = older;
    }
    return first;
}

/* ---- the owner --------------------------------------------------------------------------------
 */

static bool move(struct sri_errands *errands, uint32_t slot, enum state from, enum state to) {
    uint32_t state = (uint32_t)from;
    if (atomic_compare_exchange_strong_explicit(&errands->list[slot].state, &state, (uint32_t)to,
                                                memory_order_acquire, memory_order_acquire)) {
        return true;
    }
    SR_CHECK(state == WITHDRAWN);
    sri_errand_release(errands, slot);
    return false;
}

bool sri_errand_begin(struct sri_errands *errands, uint32_t slot) {
    return move(errands, slot, POSTED, BEGUN);
}

bool sri_errand_begin_end(struct sri_errands *errands, uint32_t slot) {
    return move(errands, slot, UNDER_WAY, ENDING);
}

void sri_errand_go_on(struct sri_errands *errands, uint32_t slot) {
    atomic_store_explicit(&errands->list[slot].state, UNDER_WAY, memory_order_release);
}

void sri_errand_end(struct sri_errands *errands, uint32_t slot) {
    atomic_store_explicit(&errands->list[slot].state, ENDED, memory_order_release);
    const int woken = sri_futex_wake(&errands->list[slot].state, 1);
    (void)woken; /* nobody, if it has not fallen asleep yet */
}

/* ---- the thread -------------------------------------------------------------------------------
 */

/* False: it has ended. */
static bool withdraw(struct sri_errand *errand) {
    uint32_t state = atomic_load_explicit(&errand->state, memory_order_acquire);
    while (state != ENDED) {
        if (state != POSTED && state != UNDER_WAY) {
            sri_os_pause(MOMENT_NS);
            state = atomic_load_explicit(&errand->state, memory_order_acquire);
        } else if (atomic_compare_exchange_weak_explicit(&errand->state, &state, WITHDRAWN,
                                                         memory_order_release,
                                                         memory_order_acquire)) {
            return true;
        }
    }
    return false;
}

int sri_errand_wait(struct sri_errands *errands, uint32_t slot, uint64_t end_ns,
                    uint64_t owner_key) {
    struct sri_errand *errand = &errands->list[slot];
    uint32_t state = 0;
    bool looks = false; /* not at once: it takes a lock */
    while ((state = atomic_load_explicit(&errand->state, memory_order_acquire)) != ENDED) {
        const uint64_t now_ns = sri_clock_now_ns();
        if (now_ns >= end_ns) {
            return withdraw(errand) ? SR_E_TIMEOUT : 0;
        }
        if (looks && !sri_owner_is_alive(owner_key)) {
            return withdraw(errand) ? SR_E_PEER_DIED : 0;
        }
        const uint64_t look_ns = sri_clock_after(now_ns, LOOK_NS);
        looks = sri_futex_wait(&errand->state, state, look_ns < end_ns ? look_ns : end_ns) ==
                -ETIMEDOUT;
    }
    return 0;
}

/* ---- life -------------------------------------------------------------------------------------
 */

int sri_errands_init(struct sri_errands *errands, uint32_t count) {
    errands->list = sri_allocate(count, sizeof *errands->list);
    if (errands->list == NULL) {
        return -ENOMEM;
    }
    errands->count = count;
    atomic_init(&errands->free_first, SRI_ERRAND_NONE);
    atomic_init(&errands->posted_first, SRI_ERRAND_NONE);
    for (uint32_t slot = count; slot > 0; slot--) {
        sri_errand_release(errands, slot - 1);
    }
    return 0;
}

void sri_errands_deinit(struct sri_errands *errands) {
    sri_release(errands->list);
    errands->list = NULL;
}
