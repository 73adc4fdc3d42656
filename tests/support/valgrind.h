/* SPDX-License-Identifier: MIT */
/* Whether this program runs under valgrind; never, where its header was not there at build time. */
#ifndef SAFERING_TESTS_SUPPORT_VALGRIND_H
#define SAFERING_TESTS_SUPPORT_VALGRIND_H

#ifdef SAFERING_HAVE_VALGRIND
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#endif
