/* SPDX-License-Identifier: MIT */
/*
 * Handles are 64 bits, passed by value, one struct type per kind so that kinds cannot be mixed up.
 * The bits are opaque: kind, owner, slot and generation, checked together on every call. Zero is
 * "none". A handle never becomes valid again once what it names has ended
 * (docs/adr/0001-generation-arithmetic.md).
 */
#ifndef SAFERING_HANDLE_H
#define SAFERING_HANDLE_H

#include <safering/export.h>
#include <stdint.h>

SR_EXTERN_C_BEGIN

/** A buffer of a pool. */
typedef struct sr_buffer {
    uint64_t bits;
} sr_buffer;

/** An operation that a ring has accepted and whose outcome has not been delivered yet. */
typedef struct sr_op {
    uint64_t bits;
} sr_op;

/** A file descriptor that a ring keeps. */
typedef struct sr_file {
    uint64_t bits;
} sr_file;

#define SR_BUFFER_NONE (SR_LITERAL(sr_buffer){0})
#define SR_OP_NONE     (SR_LITERAL(sr_op){0})
#define SR_FILE_NONE   (SR_LITERAL(sr_file){0})

SR_EXTERN_C_END

#endif
