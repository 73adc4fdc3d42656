/* SPDX-License-Identifier: MIT */
/* Sandbox: the order and the bookkeeping of a step, and the layers that a process enters before it
 * is the worker's program. What it enters afterwards needs libseccomp, and is in sandbox.c. */
#include "worker/sandbox.h"

#include "core/check.h"
#include "sys/confine.h"
#include "sys/confine_namespaces.h"

#include <errno.h>

/* ---- a step ---------------------------------------------------------------------------------- */

/* A path that is not there is a mistake in the policy: less than was meant would be allowed, or,
 * where the layer is not required, everything. */
static bool ends_the_step(const struct sri_sandbox_policy *policy, uint32_t layer,
                          const struct sri_sandbox_report *report) {
    return (policy->layers_required & (UINT32_C(1) << layer)) != 0 ||
           report->failed_path != SRI_SANDBOX_PATHS_MAX;
}

int sri_sandbox_take_step(const struct sri_sandbox_policy *policy, enum sri_sandbox_step step,
                          sri_sandbox_layer_fn *enter, struct sri_sandbox_report *report) {
    for (uint32_t i = 0; i < SRI_SANDBOX_LAYER_COUNT; i++) {
        const enum sri_sandbox_layer layer = (enum sri_sandbox_layer)i;
        if (sri_sandbox_layer_step(layer) != step ||
            (policy->layers_asked & (UINT32_C(1) << i)) == 0) {
            continue;
        }
        const int code = enter(policy, layer, &report->failed_path);
        report->layers[i].state = code == 0 ? SRI_SANDBOX_HOLDS : SRI_SANDBOX_REFUSED;
        report->layers[i].code = code;
        if (code != 0 && ends_the_step(policy, i, report)) {
            report->failed_layer = i;
            return code;
        }
    }
    return 0;
}

/* ---- before it is the program ---------------------------------------------------------------- */

static int enter_surroundings(const struct sri_sandbox_policy *policy) {
    const int code = sri_confine_signals();
    sri_confine_umask(policy->umask);
    return code == 0 ? sri_confine_directory(policy->directory) : code;
}

static int enter_limits(const struct sri_sandbox_policy *policy) {
    const struct sri_confine_limits limits = {.memory_bytes = policy->memory_bytes,
                                              .file_bytes = policy->file_bytes,
                                              .cpu_s = policy->cpu_s,
                                              .files_max = policy->files_max};
    return sri_confine_limits(&limits);
}

static int enter_layer(const struct sri_sandbox_policy *policy, enum sri_sandbox_layer layer,
                       uint32_t *out_failed_path) {
    (void)out_failed_path; /* no paths yet */
    switch (layer) {
    case SRI_SANDBOX_USER_NAMESPACE:
        return sri_confine_namespace(SRI_NAMESPACE_USER);
    case SRI_SANDBOX_NETWORK_NAMESPACE:
        return sri_confine_namespace(SRI_NAMESPACE_NETWORK);
    case SRI_SANDBOX_IPC_NAMESPACE:
        return sri_confine_namespace(SRI_NAMESPACE_IPC);
    case SRI_SANDBOX_PID_NAMESPACE:
        return sri_confine_namespace(SRI_NAMESPACE_PID);
    case SRI_SANDBOX_DESCRIPTORS:
        return sri_confine_descriptors(policy->fds, policy->fd_count);
    case SRI_SANDBOX_SURROUNDINGS:
        return enter_surroundings(policy);
    case SRI_SANDBOX_PROCESSES:
        return sri_confine_processes(policy->processes_max);
    case SRI_SANDBOX_LIMITS:
        return enter_limits(policy);
    case SRI_SANDBOX_CAPABILITIES:
        return sri_confine_capabilities();
    case SRI_SANDBOX_NO_NEW_PRIVILEGES:
        return sri_confine_no_new_privileges();
    default: /* of a later step */
        SR_CHECK(layer == SRI_SANDBOX_LAYER_COUNT);
        return -EINVAL;
    }
}

int sri_sandbox_enter_process(const struct sri_sandbox_policy *policy, enum sri_sandbox_step step,
                              struct sri_sandbox_report *report) {
    if (!sri_sandbox_policy_is_valid(policy) || (uint32_t)step > SRI_SANDBOX_BEFORE_EXEC ||
        report == NULL) {
        return -EINVAL;
    }
    return sri_sandbox_take_step(policy, step, enter_layer, report);
}
