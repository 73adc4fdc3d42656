/* SPDX-License-Identifier: MIT */
/*
 * Skip: the parts of tests/support that need something of the machine (FUSE, userfaultfd, a disk)
 * answer with NULL, or with the reason why it is missing. A test hands that reason on, so that a
 * skipped test says why and never looks like a pass.
 */
#ifndef SAFERING_TESTS_SUPPORT_SKIP_H
#define SAFERING_TESTS_SUPPORT_SKIP_H

#include <criterion/criterion.h>

#define SKIP_BECAUSE(expression)                                                                   \
    do {                                                                                           \
        const char *skip_reason = (expression);                                                    \
        if (skip_reason != NULL) {                                                                 \
            cr_skip_test("%s", skip_reason);                                                       \
        }                                                                                          \
    } while (0)

#endif
