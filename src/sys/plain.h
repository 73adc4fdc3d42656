/* SPDX-License-Identifier: MIT */
/*
 * Plain: one SQE as the system call that does the same. For a kernel that lacks an operation, and
 * for the workers of the fallback.
 *
 * Every call is a plain syscall(2): the C library's wrappers are cancellation points, and
 * AddressSanitizer reports those that touch what the pool has lent and poisoned.
 */
#ifndef SAFERING_SYS_PLAIN_H
#define SAFERING_SYS_PLAIN_H

#include "sys/uapi.h"
#include <errno.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A pointer in an SQE. */
#define SRI_POINTER(number) ((void *)(uintptr_t)(number))

/* What the kernel would have put into a CQE. */
static inline int32_t sri_syscall_result(long value) {
    return value >= 0 ? (int32_t)value : -errno;
}

#define SRI_SYSCALL(...) sri_syscall_result(syscall(__VA_ARGS__))

/* Runs @sqe in the calling thread, blocking if it must. Its file is a plain descriptor, whatever
 * its flags say. -EINVAL for what is no system call (timeouts, cancels, polls). */
int32_t sri_sqe_run(const struct io_uring_sqe *sqe);

/* READ, WRITE and their kin with additional RWF_* flags. */
int32_t sri_sqe_transfer(const struct io_uring_sqe *sqe, int flags);

/* Whether a result of this opcode, if not negative, is a descriptor. */
bool sri_sqe_gives_descriptor(const struct io_uring_sqe *sqe);

#endif
