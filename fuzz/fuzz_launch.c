/* SPDX-License-Identifier: MIT */
/*
 * What a host and its launcher say to each other: any bytes are refused, or are a request or an
 * event whose texts end inside of the message. What was read is written again and read as the same.
 */
#include "fuzz.h"

#include "ipc/launch_wire.h"
#include <safering/error.h>

static void must_be_inside(const char *text, const uint8_t *bytes, size_t size) {
    const uint8_t *at = (const uint8_t *)text;
    MUST(at >= bytes && at < bytes + size);
    MUST(memchr(at, '\0', (size_t)(bytes + size - at)) != NULL);
}

static uint32_t check_texts(const char *const *texts, const uint8_t *bytes, size_t size) {
    uint32_t count = 0;
    for (; texts[count] != NULL; count++) {
        must_be_inside(texts[count], bytes, size);
    }
    MUST(count <= SRI_LAUNCH_STRINGS_MAX);
    return count;
}

static void check_plan(const struct sri_launch_plan *plan, const uint8_t *bytes, size_t size) {
    static struct sri_launch_packet packet;
    static struct sri_launch_decoded again;
    MUST((plan->path != NULL) != (plan->program_fd >= 0));
    if (plan->path != NULL) {
        must_be_inside(plan->path, bytes, size);
    }
    MUST(check_texts(plan->arguments, bytes, size) >= 1);
    (void)check_texts(plan->variables, bytes, size);
    MUST(plan->fd_count <= SRI_LAUNCH_FDS_MAX);
    MUST(plan->policy == NULL || sri_sandbox_policy_is_valid(plan->policy));
    MUST(sri_launch_start_encode(plan, 1, 1, &packet) == 0);
    MUST(sri_launch_start_decode(packet.bytes, packet.size_bytes, packet.fds, packet.fd_count,
                                 &again) == 0);
    MUST(again.plan.fd_count == plan->fd_count);
    MUST((again.plan.policy == NULL) == (plan->policy == NULL));
    MUST(plan->policy == NULL ||
         memcmp(again.plan.policy, plan->policy, sizeof *plan->policy) == 0);
}

static void try_start(const uint8_t *bytes, size_t size, uint32_t fd_count) {
    static struct sri_launch_decoded decoded;
    int fds[SRI_LAUNCH_FDS_MAX + 1];
    for (uint32_t i = 0; i < fd_count; i++) {
        fds[i] = (int)(100 + i);
    }
    const int code = sri_launch_start_decode(bytes, size, fds, fd_count, &decoded);
    MUST(code == 0 || code == SR_E_PROTOCOL);
    if (code == 0) {
        check_plan(&decoded.plan, bytes, size);
    }
}

static void try_event(const uint8_t *bytes, size_t size, uint32_t fd_count) {
    struct sri_launch_event event;
    const int code = sri_launch_event_decode(bytes, size, fd_count, &event);
    MUST(code == 0 || code == SR_E_PROTOCOL);
    if (code == 0) {
        const bool has_report =
            event.header.kind == SRI_LAUNCH_STARTED || event.header.kind == SRI_LAUNCH_START_FAILED;
        MUST(!has_report || sri_sandbox_report_is_valid(&event.report));
        MUST(event.code <= 0 && event.pid >= 0);
    }
}

/* The first byte says which message it is to be and how many descriptors come with it. The header's
 * own words would take a fuzzer long to guess: they are put right for three inputs in four. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) {
        return 0;
    }
    const uint32_t first = data[0];
    const uint32_t fd_count = first / 4 % (SRI_LAUNCH_FDS_MAX / 2);
    const size_t count = size - 1;
    uint8_t *bytes = malloc(count + (count == 0)); /* no byte more: one read too far is seen */
    MUST(bytes != NULL);
    memcpy(bytes, data + 1, count);
    if (first % 4 != 0 && count >= sizeof(struct sri_launch_header)) {
        struct sri_launch_header header;
        memcpy(&header, bytes, sizeof header);
        header.magic = SRI_LAUNCH_MAGIC;
        header.version = SRI_LAUNCH_VERSION;
        header.size_bytes = (uint32_t)count;
        header.fd_count = fd_count;
        memcpy(bytes, &header, sizeof header);
    }
    try_start(bytes, count, fd_count);
    try_event(bytes, count, fd_count % 2);
    struct sri_launch_kill kill;
    const int code = sri_launch_kill_decode(bytes, count, &kill);
    MUST(code == SR_E_PROTOCOL || (code == 0 && kill.signal >= 1 && kill.signal <= 64));
    free(bytes);
    return 0;
}
