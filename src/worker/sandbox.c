/* SPDX-License-Identifier: MIT */
#include "worker/sandbox.h"

#include "core/check.h"
#include "sys/confine.h"
#include "sys/confine_calls.h"
#include "sys/confine_files.h"
#include "sys/confine_namespaces.h"

#include <errno.h>
#include <string.h>

static const struct {
    enum sri_sandbox_step step;
    const char *text;
} layers[SRI_SANDBOX_LAYER_COUNT] = {
#define ROW(name, when, what) [SRI_SANDBOX_##name] = {SRI_SANDBOX_##when, what},
    SRI_SANDBOX_LAYERS(ROW)
#undef ROW
};

_Static_assert(SRI_SANDBOX_LAYER_COUNT <= 32, "layers are bits of 32");

const char *sri_sandbox_layer_text(enum sri_sandbox_layer layer) {
    const uint32_t index = (uint32_t)layer;
    return index < SRI_SANDBOX_LAYER_COUNT ? layers[index].text : "none";
}

/* ---- report ---------------------------------------------------------------------------------- */

void sri_sandbox_report_init(struct sri_sandbox_report *out_report) {
    memset(out_report, 0, sizeof *out_report);
    out_report->failed_layer = SRI_SANDBOX_LAYER_COUNT;
    out_report->failed_path = SRI_SANDBOX_PATHS_MAX;
}

void sri_sandbox_report_merge(struct sri_sandbox_report *report,
                              const struct sri_sandbox_report *other) {
    for (uint32_t i = 0; i < SRI_SANDBOX_LAYER_COUNT; i++) {
        if (report->layers[i].state == SRI_SANDBOX_NOT_ASKED) {
            report->layers[i] = other->layers[i];
        }
    }
    if (report->failed_layer == SRI_SANDBOX_LAYER_COUNT) {
        report->failed_layer = other->failed_layer;
        report->failed_path = other->failed_path;
    }
}

/* ---- entering -------------------------------------------------------------------------------- */

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
    case SRI_SANDBOX_LAYER_COUNT:
        break;
    }
    SR_CHECK(layer < SRI_SANDBOX_LAYER_COUNT);
    return -EINVAL;
}

/* A path that is not there is a mistake in the policy: less than was meant would be allowed, or,
 * where the layer is not required, everything. */
static bool ends_the_step(const struct sri_sandbox_policy *policy, uint32_t layer,
                          const struct sri_sandbox_report *report) {
    return (policy->layers_required & (UINT32_C(1) << layer)) != 0 ||
           report->failed_path != SRI_SANDBOX_PATHS_MAX;
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
    if (!sri_sandbox_policy_is_valid(policy) || (uint32_t)step >= SRI_SANDBOX_STEP_COUNT ||
        report == NULL) {
        return -EINVAL;
    }
    int code = renew_no_new_privileges(policy, step);
    if (code != 0) {
        report->failed_layer = SRI_SANDBOX_NO_NEW_PRIVILEGES;
        return code;
    }
    for (uint32_t i = 0; i < SRI_SANDBOX_LAYER_COUNT; i++) {
        if (layers[i].step != step || (policy->layers_asked & (UINT32_C(1) << i)) == 0) {
            continue;
        }
        code = enter_layer(policy, (enum sri_sandbox_layer)i, &report->failed_path);
        report->layers[i].state = code == 0 ? SRI_SANDBOX_HOLDS : SRI_SANDBOX_REFUSED;
        report->layers[i].code = code;
        if (code != 0 && ends_the_step(policy, i, report)) {
            report->failed_layer = i;
            return code;
        }
    }
    return 0;
}
