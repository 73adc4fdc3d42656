/* SPDX-License-Identifier: MIT */
/*
 * Errand: what a thread asks the owner of a ring to do, and waits for. Errands are numbered slots
 * of a bounded table; what is to be done, and what came of it, is kept beside them by whoever uses
 * them. A thread posts an errand to a list that the owner takes whole, and sleeps on its state:
 *
 *     thread                          owner
 *     POSTED                    ->    BEGUN      uses memory of the thread
 *                                     UNDER_WAY  uses none
 *                                     ENDING     uses memory of the thread
 *     takes what came, FREE     <-    ENDED
 *
 * A thread leaves before that, when its time is over, by putting WITHDRAWN in the place of POSTED
 * or UNDER_WAY; then the slot is the owner's, which frees it when it comes upon it. So it may leave
 * at any time, and what the owner writes to is never memory of a thread that has left. In BEGUN and
 * ENDING it has to wait for the little while that a copy takes. proofs/errand.pml has all of this
 * as a model (docs/PROOFS.md).
 *
 * Neighbours: proxy.c, whose errands are calls; ring/inbox.h wakes an owner that sleeps.
 */
#ifndef SAFERING_IPC_ERRAND_H
#define SAFERING_IPC_ERRAND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SRI_ERRAND_NONE UINT32_MAX

struct sri_errand {
    _Atomic uint32_t state; /* its thread sleeps on it */
    _Atomic uint32_t next;  /* in the list that it is in */
};

struct sri_errands {
    struct sri_errand *list;
    uint32_t count;
    char apart[64];
    _Atomic uint64_t free_first;   /* and in its upper half a number that each change gives anew */
    _Atomic uint32_t posted_first; /* the newest */
};

/* 0 or -ENOMEM. */
int sri_errands_init(struct sri_errands *errands, uint32_t count);
void sri_errands_deinit(struct sri_errands *errands);

/* ---- for any thread ---------------------------------------------------------------------------
 */

/* A slot that is nobody else's, or SRI_ERRAND_NONE. */
uint32_t sri_errand_acquire(struct sri_errands *errands);
/* The caller sees to it that the owner looks. */
void sri_errand_post(struct sri_errands *errands, uint32_t slot);
/* Sleeps until it is ENDED: 0, and the slot is the caller's to release. Else it was withdrawn, and
 * is not: SR_E_TIMEOUT at @end_ns (UINT64_MAX: never), SR_E_PEER_DIED if the thread that has the
 * key @owner_key has ended. */
int sri_errand_wait(struct sri_errands *errands, uint32_t slot, uint64_t end_ns,
                    uint64_t owner_key);
void sri_errand_release(struct sri_errands *errands, uint32_t slot);

/* ---- for the owner ----------------------------------------------------------------------------
 */

bool sri_errands_are_posted(const struct sri_errands *errands);
/* Takes all that were posted, oldest first: the first one, and the one after one, which is to be
 * asked before that is begun. SRI_ERRAND_NONE at the end. */
uint32_t sri_errands_take(struct sri_errands *errands);
uint32_t sri_errand_next(const struct sri_errands *errands, uint32_t slot);

/* Each of these two: false if it was withdrawn, and now is free. */
bool sri_errand_begin(struct sri_errands *errands, uint32_t slot);
bool sri_errand_begin_end(struct sri_errands *errands, uint32_t slot);
/* After the first: it goes on without memory of the thread. */
void sri_errand_go_on(struct sri_errands *errands, uint32_t slot);
/* After either: wakes its thread. */
void sri_errand_end(struct sri_errands *errands, uint32_t slot);

#endif
