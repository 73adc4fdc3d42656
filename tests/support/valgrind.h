/* SPDX-License-Identifier: MIT */
/* Whether this program runs under valgrind; never, where its header was not there at build time.
 * And how to do on purpose what it would report. */
#ifndef SAFERING_TESTS_SUPPORT_VALGRIND_H
#define SAFERING_TESTS_SUPPORT_VALGRIND_H

#ifdef SAFERING_HAVE_VALGRIND
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND              0
#define VALGRIND_DISABLE_ERROR_REPORTING ((void)0)
#define VALGRIND_ENABLE_ERROR_REPORTING  ((void)0)
#endif

#endif
