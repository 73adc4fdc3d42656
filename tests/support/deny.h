/* SPDX-License-Identifier: MIT */
/*
 * Deny: this process, and all that it starts, has no io_uring any more. There is no way back, so a
 * test does it in a process of its own.
 */
#ifndef SAFERING_TESTS_SUPPORT_DENY_H
#define SAFERING_TESTS_SUPPORT_DENY_H

/* io_uring_setup(2), io_uring_enter(2) and io_uring_register(2) fail with @code, a positive errno.
 * Returns NULL, or why no such filter can be had here. */
const char *deny_io_uring(int code);

#endif
