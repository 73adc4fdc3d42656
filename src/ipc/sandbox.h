/* SPDX-License-Identifier: MIT */
/* Sandbox, as the host shows it: reports of workers in the form of <safering/sandbox.h>. */
#ifndef SAFERING_IPC_SANDBOX_H
#define SAFERING_IPC_SANDBOX_H

#include "ipc/sandbox_policy.h"
#include <safering/sandbox.h>

/* A copy in memory of its own, for sri_release(); of NULL: NULL. 0 or -ENOMEM. */
int sri_sandbox_copy(const struct sri_sandbox_policy *policy,
                     struct sri_sandbox_policy **out_policy);

void sri_sandbox_show(const struct sri_sandbox_report *report, uint32_t layers_required,
                      sr_sandbox_report *out_report);

#endif
