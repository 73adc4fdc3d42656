/* SPDX-License-Identifier: MIT */
/* Services: a supervisor with the launcher that was built, and a service of programs/serving.c. */
#ifndef SAFERING_TESTS_SUPPORT_SERVICES_H
#define SAFERING_TESTS_SUPPORT_SERVICES_H

#include <safering/supervisor.h>

/* Options of a supervisor with the launcher that was built. Sanitizers of the launcher hear what
 * they hear here. */
sr_supervisor_options supervisor_options(void);

/* NULL under valgrind, which knows no pidfd_open(2); else it is there or the test aborts. */
sr_supervisor *supervisor_make(sr_ring *ring);

/* Options of a service of programs/serving.c with these arguments. No sandbox.
 * Sanitizers of the workers hear what they hear here. */
sr_service_options service_options(const char *const *arguments);

/* NULL without a supervisor. */
sr_service *service_make(sr_supervisor *supervisor);

#endif
