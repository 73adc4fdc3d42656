/* SPDX-License-Identifier: MIT */
/* The public face of sandbox_policy.h. */
#include "ipc/sandbox.h"

#include "sys/memory.h"

#include <errno.h>

_Static_assert(SR_SANDBOX_LAYERS == SRI_SANDBOX_LAYER_COUNT &&
                   SR_SANDBOX_LAYERS <= SR_SANDBOX_LAYERS_MAX,
               "the same layers");
#define SAME(name, step, text)                                                                     \
    _Static_assert((int)SR_SANDBOX_##name == (int)SRI_SANDBOX_##name, "the same number");
SRI_SANDBOX_LAYERS(SAME)
#undef SAME
_Static_assert((int)SR_SANDBOX_HOLDS == (int)SRI_SANDBOX_HOLDS &&
                   (int)SR_SANDBOX_REFUSED == (int)SRI_SANDBOX_REFUSED,
               "the same states");

int sr_sandbox_check(const char *text, uint32_t *out_position) {
    struct sri_sandbox_policy policy;
    uint32_t position = 0;
    const int code = sri_sandbox_policy_parse(text, &policy, &position);
    if (out_position != NULL) {
        *out_position = position;
    }
    return code;
}

const char *sr_sandbox_layer_text(uint32_t layer) {
    return sri_sandbox_layer_text((enum sri_sandbox_layer)layer);
}

int sri_sandbox_copy(const struct sri_sandbox_policy *policy,
                     struct sri_sandbox_policy **out_policy) {
    *out_policy = NULL;
    if (policy == NULL) {
        return 0;
    }
    *out_policy = sri_allocate(1, sizeof *policy);
    if (*out_policy == NULL) {
        return -ENOMEM;
    }
    **out_policy = *policy;
    return 0;
}

void sri_sandbox_show(const struct sri_sandbox_report *report, uint32_t layers_required,
                      sr_sandbox_report *out_report) {
    *out_report = SR_SANDBOX_REPORT_INIT;
    out_report->layer_count = SRI_SANDBOX_LAYER_COUNT;
    for (uint32_t i = 0; i < SRI_SANDBOX_LAYER_COUNT; i++) {
        out_report->layers[i] = (sr_sandbox_layer_report){
            .state = report->layers[i].state,
            .code = report->layers[i].code,
            .required = (layers_required >> i) & 1u,
        };
        out_report->held_count += report->layers[i].state == SRI_SANDBOX_HOLDS;
    }
}
