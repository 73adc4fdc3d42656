/* SPDX-License-Identifier: MIT */
/*
 * Request: what the caller asks for, on its way to become an operation. Checked (request.c),
 * equipped with all that can be refused (equip.c), written as an SQE (prepare.c); submit.c takes
 * the three steps. One table says what each opcode needs.
 */
#ifndef SAFERING_RING_REQUEST_H
#define SAFERING_RING_REQUEST_H

#include "ring/ring.h"

/* What an operation needs. */
enum {
    SRI_NEEDS_FILE = 1u << 0,
    SRI_NEEDS_DIR = 1u << 1,     /* `file`, or the working directory */
    SRI_NEEDS_NEW_DIR = 1u << 2, /* `new_dir`, or the working directory */
    SRI_NEEDS_PATH = 1u << 3,
    SRI_NEEDS_NEW_PATH = 1u << 4,
    SRI_NEEDS_READER = 1u << 5, /* a buffer range that the kernel reads */
    SRI_NEEDS_WRITER = 1u << 6, /* a buffer range that the kernel writes */
    SRI_NEEDS_SLICES = 1u << 7,
    SRI_NEEDS_COLD = 1u << 8,
    SRI_MAY_BE_FULL = 1u << 9,
    SRI_MAY_SUBSTITUTE = 1u << 10, /* a plain system call can stand in */
    SRI_NEEDS_OTHER = 1u << 11,    /* `other` */
    SRI_BRINGS_FILE = 1u << 12,    /* a place for the file that comes */
    SRI_NEEDS_MESSAGE = 1u << 13,  /* room for addresses and control data */
    SRI_MAY_BE_MULTISHOT = 1u << 14,
    SRI_TRANSFERS = 1u << 15 /* the result counts bytes */
};

#define SRI_NEEDS_PATHS ((unsigned int)(SRI_NEEDS_PATH | SRI_NEEDS_NEW_PATH))

struct sri_opcode_spec {
    uint8_t uapi;   /* IORING_OP_* */
    uint16_t needs; /* SRI_NEEDS_*, SRI_MAY_* */
};

extern const struct sri_opcode_spec sri_opcode_specs[SR_OP_COUNT];

/* A request whose words have been checked, and what was found for it. */
struct sri_plan {
    const sr_request *request;
    unsigned int needs;
    uint8_t uapi;            /* IORING_OP_* */
    struct sri_file *file;   /* NULL: none, or the working directory */
    struct sri_file *second; /* `new_dir` or `other` */
    struct sri_file *opened; /* reserved for the file that comes */
    void *memory;            /* the buffer range */
    bool substitute;
    uint64_t culprit; /* handle that a refusal is about */
};

/* Checks what can be checked without touching anything. Returns 0 or why the request is refused. */
int sri_request_check(const sr_ring *ring, struct sri_plan *plan);

/* The part of it that is about the request alone, not about the files that it names. */
int sri_request_check_words(const sr_ring *ring, struct sri_plan *plan);
/* Takes a request as sr_ring_submit() does, and tells nobody of a refusal; *out_culprit is then the
 * handle that it is about. */
int sri_request_submit(sr_ring *ring, const sr_request *request, sr_op *out_op,
                       uint64_t *out_culprit);

/* Whether page-replacing madvise(2) advice; the rest of what is allowed leaves the pages alone. */
bool sri_advice_replaces_pages(int advice);

/* -- equip.c ------------------------------------------------------------------------------------
 */

/* Lends a range of a buffer of whichever attached pool it belongs to. */
int sri_op_lend(sr_ring *ring, sr_buffer buffer, uint64_t begin, uint64_t length, bool writer,
                struct sri_loan *loan, uint8_t *out_pool, void **out_memory);
/* Tells the pools that protect their buffers for whom an operation's loans are. */
SRI_COLD void sri_op_note_loans(const sr_ring *ring, const struct sri_op *op);
/* Gives the operation all that can be refused. */
int sri_op_equip(sr_ring *ring, struct sri_op *op, struct sri_plan *plan);
/* Ends an operation whose equipping was refused half-way. */
void sri_op_unequip(sr_ring *ring, struct sri_op *op, struct sri_plan *plan);

/* -- prepare.c ----------------------------------------------------------------------------------
 */

/* Writes the SQE of a READ or WRITE: @length bytes at @memory, which are inside of the operation's
 * loan. */
static inline void sri_prepare_transfer(const sr_ring *ring, const struct sri_op *op,
                                        const struct sri_file *file, const void *memory,
                                        uint32_t length, uint64_t offset,
                                        struct io_uring_sqe *sqe) {
    const struct sri_ring_pool *place = &ring->pools[op->pool];
    const bool read = op->opcode == SR_OP_READ;
    uint8_t opcode = read ? IORING_OP_READ : IORING_OP_WRITE;
    if (SRI_LIKELY(place->buffer_count > 0)) {
        opcode = read ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
        sqe->buf_index = (uint16_t)sri_ring_fixed_buffer(place, op->loan.slot);
    }
    sri_sqe_transfer_to_uapi(sqe, opcode, sri_file_for_sqe(file), memory, length, offset);
}

/* Writes the SQE of an operation that the kernel lacks, for a plain system call. */
void sri_prepare_substitute(const sr_ring *ring, struct sri_op *op, const struct sri_plan *plan,
                            struct io_uring_sqe *sqe);

/* Writes the SQE of any operation but CLOSE. */
void sri_prepare(const sr_ring *ring, struct sri_op *op, const struct sri_plan *plan,
                 struct io_uring_sqe *sqe);

#endif
