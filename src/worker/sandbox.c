/* SPDX-License-Identifier: MIT */
/* Sandbox: the layers that the worker's program enters, before and after it loads foreign code. */
#include "worker/sandbox.h"

#include "core/check.h"
#include "sys/confine.h"
#include "sys/confine_calls.h"
#include "sys/confine_files.h"

#include <errno.h>

/* Landlock holds for the calling thread: another one would stay free, and could write into this
 * one's memory. */
static int check_single_threaded(void) {
    const int answer = sri_confine_is_single_threaded();
    return answer == 1 ? 0 : answer == 0 ? -EBUSY : answer;
}

static int enter_files(const struct sri_sandbox_policy *policy, uint32_t *out_failed_path) {
    struct sri_confine_path paths[SRI_SANDBOX_PATHS_MAX];
    uint32_t failed = 0;
    for (uint32_t i = 0; i < policy->path_count; i++) {
        paths[i].name = policy->paths[i].name;
        paths[i].may_write = policy->paths[i].may_write != 0;
    }
    const int code = sri_confine_files(paths, policy->path_count, &failed);
    if (failed < policy->path_count) {
        *out_failed_path = failed;
    }
    return code;
}

/* Without a listed path nothing is opened, whether or not there is Landlock. */
static int enter_calls(const struct sri_sandbox_policy *policy, enum sri_confine_stage stage) {
    const struct sri_confine_calls calls = {
        .stage = stage, .may_open = policy->path_count > 0, .may_connect = policy->network != 0};
    return sri_confine_calls(&calls);
}

static int enter_landlock(const struct sri_sandbox_policy *policy, enum sri_sandbox_layer layer,
                          uint32_t *out_failed_path) {
    const int code = check_single_threaded();
    if (code != 0) {
        return code;
    }
    return layer == SRI_SANDBOX_FILES ? enter_files(policy, out_failed_path)
           : layer == SRI_SANDBOX_TCP ? sri_confine_tcp()
                                      : sri_confine_scope();
}

/* Returns 0, or why the layer does not hold. */
static int enter_layer(const struct sri_sandbox_policy *policy, enum sri_sandbox_layer layer,
                       uint32_t *out_failed_path) {
    switch (layer) {
    case SRI_SANDBOX_UNDUMPABLE:
        return sri_confine_undumpable();
    case SRI_SANDBOX_FILES:
    case SRI_SANDBOX_TCP:
    case SRI_SANDBOX_SCOPE:
        return enter_landlock(policy, layer, out_failed_path);
    case SRI_SANDBOX_CALLS:
        return enter_calls(policy, SRI_CONFINE_LOADING);
    case SRI_SANDBOX_NO_NEW_CODE:
        return enter_calls(policy, SRI_CONFINE_SERVING);
    default: /* of an earlier step */
        SR_CHECK(layer == SRI_SANDBOX_LAYER_COUNT);
        return -EINVAL;
    }
}

/* The step before the program begins sets it, but it is what the next layers stand on: whoever
 * enters here without the step before does not find them refused, and no worse off. */
static int renew_no_new_privileges(const struct sri_sandbox_policy *policy,
                                   enum sri_sandbox_step step) {
    const bool asked = (policy->layers_asked & SRI_SANDBOX_BIT(NO_NEW_PRIVILEGES)) != 0;
    return asked && step == SRI_SANDBOX_BEFORE_LOAD ? sri_confine_no_new_privileges() : 0;
}

int sri_sandbox_enter(const struct sri_sandbox_policy *policy, enum sri_sandbox_step step,
                      struct sri_sandbox_report *report) {
    if ((uint32_t)step <= SRI_SANDBOX_BEFORE_EXEC) {
        return sri_sandbox_enter_process(policy, step, report);
    }
    if (!sri_sandbox_policy_is_valid(policy) || (uint32_t)step >= SRI_SANDBOX_STEP_COUNT ||
        report == NULL) {
        return -EINVAL;
    }
    const int code = renew_no_new_privileges(policy, step);
    if (code != 0) {
        report->layers[SRI_SANDBOX_NO_NEW_PRIVILEGES].state = SRI_SANDBOX_REFUSED;
        report->layers[SRI_SANDBOX_NO_NEW_PRIVILEGES].code = code;
        report->failed_layer = SRI_SANDBOX_NO_NEW_PRIVILEGES;
        return code;
    }
    return sri_sandbox_take_step(policy, step, enter_layer, report);
}
