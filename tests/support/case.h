/* SPDX-License-Identifier: MIT */
/*
 * Case: a Criterion test with set-up and tear-down as part of it. Criterion's own .fini will not do
 * for tests of teardown: a crash in it (a double free, a failed check) is only a warning there, and
 * the test passes all the same.
 */
#ifndef SAFERING_TESTS_SUPPORT_CASE_H
#define SAFERING_TESTS_SUPPORT_CASE_H

#include <criterion/criterion.h>

/* @set_up and @tear_down: void functions without arguments. After a failed assertion the process of
 * the test ends at once, without @tear_down. */
#define CASE(suite, name, set_up, tear_down)                                                       \
    static void name(void);                                                                        \
    Test(suite, name) {                                                                            \
        set_up();                                                                                  \
        name();                                                                                    \
        tear_down();                                                                               \
    }                                                                                              \
    static void name(void)

#endif
