/* SPDX-License-Identifier: MIT */
#include "ipc/launch_wire.h"

#include <errno.h>
#include <safering/error.h>
#include <string.h>

/* ---- rules that both sides know -------------------------------------------------------------- */

static bool fds_are_valid(const struct sri_launch_plan *plan) {
    if (plan->fd_count > SRI_LAUNCH_FDS_MAX || (plan->path == NULL) != (plan->program_fd >= 0)) {
        return false;
    }
    for (uint32_t i = 0; i < plan->fd_count; i++) {
        if (plan->fds[i].fd < 0 || plan->fds[i].number > SRI_LAUNCH_FD_NUMBER_MAX) {
            return false;
        }
        for (uint32_t other = 0; other < i; other++) {
            if (plan->fds[other].number == plan->fds[i].number) {
                return false;
            }
        }
    }
    return true;
}

static bool variables_are_valid(const char *const *variables) {
    for (size_t i = 0; variables != NULL && variables[i] != NULL; i++) {
        const char *equals = strchr(variables[i], '=');
        if (equals == NULL || equals == variables[i]) {
            return false;
        }
    }
    return true;
}

static bool plan_is_valid(const struct sri_launch_plan *plan) {
    return (plan->path == NULL || plan->path[0] == '/') && plan->arguments != NULL &&
           plan->arguments[0] != NULL &&
           (plan->policy == NULL || sri_sandbox_policy_is_valid(plan->policy)) &&
           fds_are_valid(plan) && variables_are_valid(plan->variables);
}

/* ---- headers --------------------------------------------------------------------------------- */

struct sri_launch_header sri_launch_header_make(enum sri_launch_kind kind, size_t size_bytes,
                                                uint32_t fd_count, uint32_t serial,
                                                uint64_t worker) {
    return (struct sri_launch_header){.magic = SRI_LAUNCH_MAGIC,
                                      .version = SRI_LAUNCH_VERSION,
                                      .kind = kind,
                                      .size_bytes = (uint32_t)size_bytes,
                                      .fd_count = fd_count,
                                      .serial = serial,
                                      .worker = worker};
}

bool sri_launch_header_read(const void *bytes, size_t size_bytes, uint32_t fd_count,
                            struct sri_launch_header *out_header) {
    memset(out_header, 0, sizeof *out_header);
    if (size_bytes < sizeof *out_header) {
        return false;
    }
    memcpy(out_header, bytes, sizeof *out_header);
    return out_header->magic == SRI_LAUNCH_MAGIC && out_header->version == SRI_LAUNCH_VERSION &&
           out_header->size_bytes == size_bytes && out_header->fd_count == fd_count;
}

/* ---- START, written -------------------------------------------------------------------------- */

static int text_put(struct sri_launch_packet *packet, const char *text) {
    const size_t size = strlen(text) + 1;
    if (size > sizeof packet->bytes - packet->size_bytes) {
        return -E2BIG;
    }
    memcpy(packet->bytes + packet->size_bytes, text, size);
    packet->size_bytes += size;
    return 0;
}

static int texts_put(struct sri_launch_packet *packet, const char *const *texts,
                     uint32_t *out_count) {
    uint32_t count = 0;
    while (texts != NULL && texts[count] != NULL) {
        if (count == SRI_LAUNCH_STRINGS_MAX || text_put(packet, texts[count]) != 0) {
            return -E2BIG;
        }
        count++;
    }
    *out_count = count;
    return 0;
}

static int all_texts_put(struct sri_launch_packet *packet, const struct sri_launch_plan *plan,
                         struct sri_launch_start *start) {
    const size_t begin = packet->size_bytes;
    if (text_put(packet, plan->path != NULL ? plan->path : "") != 0 ||
        texts_put(packet, plan->arguments, &start->argument_count) != 0 ||
        texts_put(packet, plan->variables, &start->variable_count) != 0) {
        return -E2BIG;
    }
    start->text_bytes = (uint32_t)(packet->size_bytes - begin);
    return 0;
}

static void policy_put(struct sri_launch_packet *packet, const struct sri_launch_plan *plan,
                       struct sri_launch_start *start) {
    packet->size_bytes = sizeof *start;
    if (plan->policy != NULL) {
        start->flags |= SRI_LAUNCH_HAS_POLICY;
        struct sri_sandbox_policy policy;
        memcpy(&policy, plan->policy, SRI_LAUNCH_POLICY_BYTES);
        policy.path_count = policy.name_count = policy.fd_count = 0;
        memcpy(packet->bytes + packet->size_bytes, &policy, SRI_LAUNCH_POLICY_BYTES);
        packet->size_bytes += SRI_LAUNCH_POLICY_BYTES;
    }
}

static void fds_put(struct sri_launch_packet *packet, const struct sri_launch_plan *plan,
                    struct sri_launch_start *start) {
    packet->fd_count = 0;
    if (plan->program_fd >= 0) {
        start->flags |= SRI_LAUNCH_PROGRAM_FD;
        packet->fds[packet->fd_count++] = plan->program_fd;
    }
    for (uint32_t i = 0; i < plan->fd_count; i++) {
        start->fd_numbers[i] = (uint16_t)plan->fds[i].number;
        packet->fds[packet->fd_count++] = plan->fds[i].fd;
    }
}

int sri_launch_start_encode(const struct sri_launch_plan *plan, uint32_t serial, uint64_t worker,
                            struct sri_launch_packet *out_packet) {
    struct sri_launch_start start = {0};
    if (worker == 0 || !plan_is_valid(plan)) {
        return -EINVAL;
    }
    policy_put(out_packet, plan, &start);
    const int code = all_texts_put(out_packet, plan, &start);
    if (code != 0) {
        return code;
    }
    fds_put(out_packet, plan, &start);
    start.header = sri_launch_header_make(SRI_LAUNCH_START, out_packet->size_bytes,
                                          out_packet->fd_count, serial, worker);
    memcpy(out_packet->bytes, &start, sizeof start);
    return 0;
}

/* ---- START, read ----------------------------------------------------------------------------- */

struct texts {
    const char *at;
    const char *end;
};

/* The next text, or NULL if there is no whole one left. */
static const char *text_take(struct texts *texts) {
    const char *text = texts->at;
    const char *zero = memchr(text, '\0', (size_t)(texts->end - text));
    if (zero == NULL) {
        return NULL;
    }
    texts->at = zero + 1;
    return text;
}

static bool texts_take(struct texts *texts, uint32_t count, const char **out_texts) {
    if (count > SRI_LAUNCH_STRINGS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        out_texts[i] = text_take(texts);
        if (out_texts[i] == NULL) {
            return false;
        }
    }
    out_texts[count] = NULL;
    return true;
}

static bool all_texts_take(struct texts texts, const struct sri_launch_start *start,
                           struct sri_launch_decoded *decoded) {
    const bool has_path = (start->flags & SRI_LAUNCH_PROGRAM_FD) == 0;
    const char *path = text_take(&texts);
    if (path == NULL || has_path != (path[0] != '\0') ||
        !texts_take(&texts, start->argument_count, decoded->arguments) ||
        !texts_take(&texts, start->variable_count, decoded->variables) || texts.at != texts.end) {
        return false;
    }
    decoded->plan.path = has_path ? path : NULL;
    decoded->plan.arguments = decoded->arguments;
    decoded->plan.variables = decoded->variables;
    return true;
}

static bool numbers_take(const struct sri_launch_start *start, const int *fds, uint32_t fd_count,
                         struct sri_launch_plan *plan) {
    const uint32_t first = (start->flags & SRI_LAUNCH_PROGRAM_FD) != 0 ? 1 : 0;
    if (fd_count < first || fd_count - first > SRI_LAUNCH_FDS_MAX) {
        return false;
    }
    plan->program_fd = first == 1 ? fds[0] : -1;
    plan->fd_count = fd_count - first;
    for (uint32_t i = 0; i < plan->fd_count; i++) {
        plan->fds[i] = (struct sri_launch_fd){fds[first + i], start->fd_numbers[i]};
    }
    for (uint32_t i = plan->fd_count; i < SRI_LAUNCH_FDS_MAX; i++) {
        if (start->fd_numbers[i] != 0) {
            return false;
        }
    }
    return true;
}

/* Bytes of the policy, which lies behind the struct. */
static size_t policy_bytes(const struct sri_launch_start *start) {
    return (start->flags & SRI_LAUNCH_HAS_POLICY) != 0 ? SRI_LAUNCH_POLICY_BYTES : 0;
}

/* What was not sent is not spoken of. */
static bool policy_is_bare(const struct sri_sandbox_policy *policy) {
    return policy->path_count == 0 && policy->name_count == 0 && policy->fd_count == 0;
}

int sri_launch_start_decode(const void *bytes, size_t size_bytes, const int *fds, uint32_t fd_count,
                            struct sri_launch_decoded *out_decoded) {
    struct sri_launch_start start;
    if (size_bytes < sizeof start || size_bytes > SRI_LAUNCH_MESSAGE_MAX) {
        return SR_E_PROTOCOL;
    }
    memcpy(&start, bytes, sizeof start);
    const size_t before = sizeof start + policy_bytes(&start);
    if (size_bytes < before) {
        return SR_E_PROTOCOL;
    }
    memset(&out_decoded->policy, 0, sizeof out_decoded->policy);
    memcpy(&out_decoded->policy, (const char *)bytes + sizeof start, policy_bytes(&start));
    out_decoded->plan.policy = policy_bytes(&start) > 0 ? &out_decoded->policy : NULL;
    const char *text = (const char *)bytes + before;
    const bool is_ours =
        start.header.kind == SRI_LAUNCH_START && start.header.worker != 0 &&
        (start.flags & ~(uint32_t)SRI_LAUNCH_FLAGS_ALL) == 0 &&
        start.text_bytes == size_bytes - before && policy_is_bare(&out_decoded->policy) &&
        all_texts_take((struct texts){text, text + start.text_bytes}, &start, out_decoded) &&
        numbers_take(&start, fds, fd_count, &out_decoded->plan) &&
        plan_is_valid(&out_decoded->plan);
    return is_ours ? 0 : SR_E_PROTOCOL;
}

/* ---- the rest -------------------------------------------------------------------------------- */

int sri_launch_kill_decode(const void *bytes, size_t size_bytes, struct sri_launch_kill *out_kill) {
    if (size_bytes != sizeof *out_kill) {
        return SR_E_PROTOCOL;
    }
    memcpy(out_kill, bytes, sizeof *out_kill);
    const bool is_ours = out_kill->header.kind == SRI_LAUNCH_KILL && out_kill->header.worker != 0 &&
                         out_kill->header.fd_count == 0 && out_kill->signal >= 1 &&
                         out_kill->signal <= SRI_LAUNCH_SIGNAL_MAX && out_kill->zero == 0;
    return is_ours ? 0 : SR_E_PROTOCOL;
}

static bool end_is_valid(const struct sri_launch_event *event) {
    switch (event->end) {
    case SRI_LAUNCH_END_EXIT:
        return event->status <= 255 && event->has_core == 0;
    case SRI_LAUNCH_END_SIGNAL:
    case SRI_LAUNCH_END_INIT:
        return event->status >= 1 && event->status <= SRI_LAUNCH_SIGNAL_MAX && event->has_core <= 1;
    default: /* END_LOST is the host's own word */
        return false;
    }
}

static bool has_no_end(const struct sri_launch_event *event) {
    return event->end == SRI_LAUNCH_END_NONE && event->status == 0 && event->has_core == 0 &&
           event->cpu_ns == 0 && event->resident_max_bytes == 0;
}

/* What only the answer to a START says. */
static bool has_no_report(const struct sri_launch_event *event) {
    static const struct sri_sandbox_report none;
    return memcmp(&event->report, &none, sizeof none) == 0;
}

static bool is_plain(const struct sri_launch_event *event) {
    return has_no_end(event) && has_no_report(event) && event->header.fd_count == 0;
}

static bool event_is_valid(const struct sri_launch_event *event) {
    const struct sri_launch_header *header = &event->header;
    const bool means_worker = header->worker != 0;
    if (event->code > 0 || event->pid < 0 || header->fd_count > 1) {
        return false;
    }
    switch (header->kind) {
    case SRI_LAUNCH_HELLO:
        return event->pid > 0 && header->fd_count == 1 && header->serial == 0 && !means_worker &&
               event->code == 0 && event->step == 0 && has_no_end(event) && has_no_report(event);
    case SRI_LAUNCH_STARTED:
        return means_worker && event->pid > 0 && event->code == 0 && event->step == 0 &&
               sri_sandbox_report_is_valid(&event->report) &&
               event->report.failed_layer == SRI_SANDBOX_LAYER_COUNT && has_no_end(event);
    case SRI_LAUNCH_START_FAILED:
        return means_worker && event->pid == 0 && event->code < 0 &&
               event->step != SRI_LAUNCH_STEP_NONE && event->step < SRI_LAUNCH_STEP_LAUNCHER &&
               sri_sandbox_report_is_valid(&event->report) && has_no_end(event) &&
               header->fd_count == 0;
    case SRI_LAUNCH_EXITED:
        return means_worker && event->pid > 0 && header->serial == 0 && event->code == 0 &&
               event->step == 0 && header->fd_count == 0 && has_no_report(event) &&
               end_is_valid(event);
    case SRI_LAUNCH_KILLED:
        return means_worker && event->pid == 0 && event->step == 0 && is_plain(event);
    case SRI_LAUNCH_REFUSED:
        return event->pid == 0 && event->code < 0 && event->step == 0 && is_plain(event);
    default:
        return false;
    }
}

int sri_launch_event_decode(const void *bytes, size_t size_bytes, uint32_t fd_count,
                            struct sri_launch_event *out_event) {
    struct sri_launch_header header;
    if (!sri_launch_header_read(bytes, size_bytes, fd_count, &header) ||
        size_bytes != sizeof *out_event) {
        return SR_E_PROTOCOL;
    }
    memcpy(out_event, bytes, sizeof *out_event);
    return event_is_valid(out_event) ? 0 : SR_E_PROTOCOL;
}
