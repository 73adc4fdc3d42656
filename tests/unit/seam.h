/* SPDX-License-Identifier: MIT */
/*
 * Seam: a queue without a ring, for tests that give SQEs to a backend and read its CQEs. ON_BOTH
 * runs a case on io_uring and on the fallback, which must answer alike.
 */
#ifndef SAFERING_TESTS_UNIT_SEAM_H
#define SAFERING_TESTS_UNIT_SEAM_H

#include "sys/backend.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

static struct {
    struct sri_queue queue;
    const struct sri_backend *backend;
} seam;

static inline int seam_try_open(enum sri_backend_kind kind, const uint8_t *ops_allowed) {
    const struct sri_queue_config config = {
        .sq_entries = 16,
        .cq_entries = 32,
        .fixed_files = 4,
        .fixed_buffers = 4,
        .ops_allowed = ops_allowed,
    };
    seam.backend = sri_backend_of(kind);
    return seam.backend->queue_open(seam.backend, &config, &seam.queue);
}

static inline void seam_open(enum sri_backend_kind kind) {
    cr_assert_eq(seam_try_open(kind, NULL), 0);
}

static inline void seam_close(void) {
    seam.backend->queue_close(&seam.queue, SRI_CLOSER_OWNER);
    (void)seam.backend->fd_close(seam.queue.lifeline);
}

static inline bool seam_is_fallback(void) {
    return seam.queue.kind == SRI_BACKEND_FALLBACK;
}

/* The next SQE; io_uring_prep_*() may fill it and leaves the user_data alone. */
static inline struct io_uring_sqe *seam_sqe(uint64_t user_data) {
    cr_assert_not(sri_queue_is_full(&seam.queue));
    struct io_uring_sqe *sqe = sri_queue_next_sqe(&seam.queue);
    sqe->user_data = user_data;
    return sqe;
}

static inline int seam_enter(uint32_t count_min, uint32_t timeout_ms) {
    const struct sri_wait wait = {count_min, (uint64_t)timeout_ms * 1000000u, NULL};
    return seam.backend->queue_enter(&seam.queue, sri_queue_unsent(&seam.queue), &wait);
}

/* Sends what was filled, and has the backend do what can be done at once. */
static inline void seam_send(void) {
    cr_assert_geq(seam_enter(0, 0), 0);
}

/* The next CQE, whatever it takes. */
static inline struct sri_cqe seam_take(void) {
    for (int i = 0; i < 10 && sri_queue_ready(&seam.queue) == 0; i++) {
        const int code = seam_enter(1, 1000);
        cr_assert(code >= 0 || code == -ETIME || code == -EINTR, "enter: %d", code);
    }
    cr_assert_gt(sri_queue_ready(&seam.queue), 0, "%s: no completion", seam.backend->name);
    const struct sri_cqe cqe = sri_queue_take_cqe(&seam.queue);
    sri_queue_release_cqes(&seam.queue);
    return cqe;
}

static inline struct sri_cqe seam_expect(uint64_t user_data, int32_t result, uint32_t flags) {
    const struct sri_cqe cqe = seam_take();
    cr_assert_eq(cqe.user_data, user_data, "%s: completion of %llu, not of %llu",
                 seam.backend->name, (unsigned long long)cqe.user_data,
                 (unsigned long long)user_data);
    cr_assert_eq(cqe.result, result, "%s: %llu has the result %d, not %d", seam.backend->name,
                 (unsigned long long)user_data, cqe.result, result);
    cr_assert_eq(cqe.flags & ~4u /* IORING_CQE_F_SOCK_NONEMPTY: a hint */, flags,
                 "%s: %llu has the flags %x, not %x", seam.backend->name,
                 (unsigned long long)user_data, cqe.flags, flags);
    return cqe;
}

/* Nothing comes for a while. */
static inline void seam_expect_nothing(void) {
    const int code = seam_enter(1, 30);
    cr_assert(code == -ETIME || code > 0, "%s: %d", seam.backend->name, code);
    cr_assert_eq(sri_queue_ready(&seam.queue), 0, "%s: a completion came out", seam.backend->name);
}

static inline void seam_cancel(uint64_t user_data, uint64_t target) {
    struct io_uring_sqe *sqe = seam_sqe(user_data);
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->fd = -1;
    sqe->addr = target;
}

/* Runs the body, a function of its own, on one backend after the other. */
#define ON_BOTH(suite, name)                                                                       \
    static void name(void);                                                                        \
    Test(suite, name) {                                                                            \
        seam_open(SRI_BACKEND_FALLBACK);                                                           \
        name();                                                                                    \
        seam_close();                                                                              \
        const int code = seam_try_open(SRI_BACKEND_URING, NULL);                                   \
        if (code < 0) {                                                                            \
            fprintf(stderr, "%s: only on the fallback, io_uring gives %d\n", #name, code);         \
            return;                                                                                \
        }                                                                                          \
        name();                                                                                    \
        seam_close();                                                                              \
    }                                                                                              \
    static void name(void)

/* Leaves a case that the running kernel's io_uring cannot do. */
#define SEAM_NEEDS(opcode)                                                                         \
    do {                                                                                           \
        if (!seam.queue.op_supported[(opcode)]) {                                                  \
            cr_assert_not(seam_is_fallback(), "the fallback lacks %d", (int)(opcode));             \
            return;                                                                                \
        }                                                                                          \
    } while (0)

#endif
