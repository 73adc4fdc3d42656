/* SPDX-License-Identifier: MIT */
/*
 * Policies of sandboxes: any text is refused where one of its words begins, or is a policy; any
 * bytes are a policy that holds together, or none.
 */
#include "fuzz.h"

#include "ipc/sandbox_policy.h"
#include <safering/error.h>

static void must_hold_together(const struct sri_sandbox_policy *policy) {
    MUST((policy->layers_required & ~policy->layers_asked) == 0);
    MUST(policy->path_count <= SRI_SANDBOX_PATHS_MAX && policy->fd_count <= SRI_SANDBOX_FDS_MAX);
    for (uint32_t i = 0; i < policy->path_count; i++) {
        MUST(policy->paths[i].name[0] == '/');
        MUST(memchr(policy->paths[i].name, '\0', SRI_SANDBOX_PATH_BYTES) != NULL);
    }
}

static void try_text(const uint8_t *data, size_t size) {
    struct sri_sandbox_policy policy;
    uint32_t position = UINT32_MAX;
    char *text = malloc(size + 1);
    MUST(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    const int code = sri_sandbox_policy_parse(text, &policy, &position);
    if (code == 0) {
        MUST(sri_sandbox_policy_is_valid(&policy));
        must_hold_together(&policy);
        /* Only one word opens everything. */
        MUST(policy.layers_asked != 0 || strcmp(text, "none") == 0);
    } else {
        MUST(code == -22 || code == SR_E_BOUNDS || code == SR_E_FULL);
        MUST(position <= strlen(text) && (position == 0 || text[position - 1] == ','));
        MUST(!sri_sandbox_policy_is_valid(&policy));
    }
    free(text);
}

/* Bytes over those of an honest policy. */
static void try_bytes(const uint8_t *data, size_t size) {
    struct sri_sandbox_policy *policy = malloc(sizeof *policy);
    struct sri_sandbox_report report;
    uint32_t position = 0;
    MUST(policy != NULL);
    MUST(sri_sandbox_policy_parse("strict,path-ro=/usr,path-rw=/tmp", policy, &position) == 0);
    if (size >= 2) {
        const size_t at = ((size_t)data[0] * 64 + data[1]) % sizeof *policy;
        const size_t room = sizeof *policy - at;
        memcpy((char *)policy + at, data + 2, size - 2 < room ? size - 2 : room);
    }
    if (sri_sandbox_policy_is_valid(policy)) {
        must_hold_together(policy);
    }
    memset(&report, 0, sizeof report);
    memcpy(&report, data, size < sizeof report ? size : sizeof report);
    if (sri_sandbox_report_is_valid(&report)) {
        MUST(report.failed_layer <= SRI_SANDBOX_LAYER_COUNT);
        MUST(!sri_sandbox_report_fits(&report, policy, SRI_SANDBOX_BEFORE_LOAD,
                                      SRI_SANDBOX_BEFORE_SERVE) ||
             report.failed_layer == SRI_SANDBOX_LAYER_COUNT);
    }
    free(policy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    if (data[0] % 2 == 0) {
        try_text(data + 1, size - 1);
    } else {
        try_bytes(data + 1, size - 1);
    }
    return 0;
}
