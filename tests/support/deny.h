/* SPDX-License-Identifier: MIT */
/*
 * Deny: this process, and all that it starts, has a system call no more. There is no way back, so a
 * test does it in a process of its own.
 */
#ifndef SAFERING_TESTS_SUPPORT_DENY_H
#define SAFERING_TESTS_SUPPORT_DENY_H

/* Each returns NULL, or why no such filter can be had here. @code: a positive errno. */

/* io_uring_setup(2), io_uring_enter(2) and io_uring_register(2) fail with @code. */
const char *deny_io_uring(int code);
/* No namespace can be made: unshare(2), and clone(2) with such a flag, fail with @code; clone3(2),
 * whose flags no filter sees, with ENOSYS, which programs do without. */
const char *deny_namespaces(int code);
/* The system call with this number (SYS_*) fails with @code. */
const char *deny_call(unsigned int number, int code);

#endif
