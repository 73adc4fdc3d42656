/* SPDX-License-Identifier: MIT */
/* Sandbox, as the host shows it: reports of workers in the form of <safering/sandbox.h>. */
#ifndef SAFERING_IPC_SANDBOX_H
#define SAFERING_IPC_SANDBOX_H

#include "ipc/sandbox_policy.h"
#include <safering/sandbox.h>

void sri_sandbox_show(const struct sri_sandbox_report *report, uint32_t layers_required,
                      sr_sandbox_report *out_report);

#endif
