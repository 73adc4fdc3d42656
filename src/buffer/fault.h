/* SPDX-License-Identifier: MIT */
/*
 * Fault: what is said when the program touches memory of a pool with guard level protect that is
 * lent. The pools are in a list that a signal handler can read at any moment; who borrowed what is
 * noted aside of the loans, a few notes per buffer.
 */
#ifndef SAFERING_BUFFER_FAULT_H
#define SAFERING_BUFFER_FAULT_H

#include "buffer/loan.h"
#include <stdatomic.h>
#include <stdint.h>

struct sr_pool;

/* For whom a loan is. */
struct sri_loan_note {
    uint64_t op; /* handle of the operation */
    uint64_t submitted_ns;
    int fd;         /* -1: none */
    uint8_t opcode; /* enum sr_opcode */
};

/* Loans of one buffer that are remembered; beyond that the oldest note gives way. */
#define SRI_NOTES_PER_SLOT 4u

/* A note as it is kept: other threads may read it in the midst of a change, and then report a loan
 * that is just ending or beginning. */
struct sri_note {
    _Atomic uintptr_t loan; /* 0: free */
    _Atomic uint64_t op;
    _Atomic uint64_t submitted_ns;
    _Atomic uint32_t begin;
    _Atomic uint32_t end;
    _Atomic int fd;
    _Atomic uint8_t opcode;
    _Atomic bool writer;
};

struct sri_notes {
    struct sri_note list[SRI_NOTES_PER_SLOT];
};

void sri_notes_add(struct sri_notes *notes, const struct sri_loan *loan,
                   const struct sri_loan_note *note);
void sri_notes_drop(struct sri_notes *notes, const struct sri_loan *loan);
void sri_notes_clear(struct sri_notes *notes);

/* The pools that are known here; a pool beyond that is not reported on. */
#define SRI_FAULT_POOLS_MAX 1024u

/* Its buffers, bookkeeping and notes must stay until sri_fault_forget() has returned. */
void sri_fault_watch(const struct sr_pool *pool);
void sri_fault_forget(const struct sr_pool *pool);

#endif
