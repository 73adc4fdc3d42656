/* SPDX-License-Identifier: MIT */
/*
 * Messages between host and launcher: what is written is what is read, each rule refuses, and no
 * bytes lead outside of the message.
 */
#include "ipc/launch_wire.h"
#include "support/scale.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <safering/error.h>
#include <stdlib.h>
#include <string.h>

static const char *const arguments[] = {"worker", "", "an argument", NULL};
static const char *const variables[] = {"A=1", "B=", NULL};

static struct sri_launch_packet packet;
static struct sri_launch_decoded decoded;
static struct sri_sandbox_policy policy;

static struct sri_launch_plan whole_plan(void) {
    struct sri_launch_plan plan = SRI_LAUNCH_PLAN_INIT;
    plan.path = "/bin/worker";
    plan.arguments = arguments;
    plan.variables = variables;
    uint32_t position = 0;
    cr_assert_eq(sri_sandbox_policy_parse("network", &policy, &position), 0);
    policy.name_count = 0; /* a launcher is told of no names, paths and descriptors */
    plan.policy = &policy;
    for (uint32_t i = 0; i < SRI_LAUNCH_FDS_MAX; i++) {
        plan.fds[plan.fd_count++] =
            (struct sri_launch_fd){(int)(100 + i), SRI_LAUNCH_FD_NUMBER_MAX - i};
    }
    return plan;
}

static struct sri_launch_plan small_plan(void) {
    struct sri_launch_plan plan = SRI_LAUNCH_PLAN_INIT;
    plan.path = "/w";
    plan.arguments = arguments;
    return plan;
}

static int encode(const struct sri_launch_plan *plan) {
    return sri_launch_start_encode(plan, 12, 345, &packet);
}

static int decode(void) {
    return sri_launch_start_decode(packet.bytes, packet.size_bytes, packet.fds, packet.fd_count,
                                   &decoded);
}

static void check_strings(const char *const *actual, const char *const *expected) {
    size_t i = 0;
    for (; expected != NULL && expected[i] != NULL; i++) {
        cr_assert_str_eq(actual[i], expected[i]);
    }
    cr_assert_null(actual[i]);
}

static void check_same(const struct sri_launch_plan *actual,
                       const struct sri_launch_plan *expected) {
    cr_assert_eq(actual->path == NULL, expected->path == NULL);
    cr_assert(expected->path == NULL || strcmp(actual->path, expected->path) == 0);
    cr_assert_eq(actual->policy == NULL, expected->policy == NULL);
    cr_assert(expected->policy == NULL ||
              memcmp(actual->policy, expected->policy, SRI_LAUNCH_POLICY_BYTES) == 0);
    cr_assert(expected->policy == NULL || sri_sandbox_policy_is_valid(actual->policy));
    check_strings(actual->arguments, expected->arguments);
    check_strings(actual->variables, expected->variables);
    cr_assert_eq(actual->program_fd, expected->program_fd);
    cr_assert_eq(actual->fd_count, expected->fd_count);
    for (uint32_t i = 0; i < expected->fd_count; i++) {
        cr_assert_eq(actual->fds[i].fd, expected->fds[i].fd);
        cr_assert_eq(actual->fds[i].number, expected->fds[i].number);
    }
}

static void check_round(const struct sri_launch_plan *plan) {
    struct sri_launch_header header;
    cr_assert_eq(encode(plan), 0);
    cr_assert(sri_launch_header_read(packet.bytes, packet.size_bytes, packet.fd_count, &header));
    cr_assert(header.kind == SRI_LAUNCH_START && header.serial == 12 && header.worker == 345);
    cr_assert_eq(decode(), 0);
    check_same(&decoded.plan, plan);
}

Test(launch_wire, a_plan_arrives_as_it_was_sent) {
    struct sri_launch_plan plan = whole_plan();
    check_round(&plan);
    plan.path = NULL;
    plan.program_fd = 99;
    check_round(&plan);
    plan = small_plan();
    check_round(&plan);
}

#define REFUSES(change)                                                                            \
    do {                                                                                           \
        struct sri_launch_plan plan = small_plan();                                                \
        change;                                                                                    \
        cr_expect_eq(encode(&plan), -EINVAL, "not refused: %s", #change);                          \
    } while (0)

static const char *const no_arguments[] = {NULL};
static const char *const no_name[] = {"=1", NULL};
static const char *const no_equals[] = {"A", NULL};

static void add_fd(struct sri_launch_plan *plan, int fd, uint32_t number) {
    plan->fds[plan->fd_count++] = (struct sri_launch_fd){fd, number};
}

Test(launch_wire, each_rule_of_a_plan_refuses) {
    struct sri_launch_plan good = small_plan();
    add_fd(&good, 0, SRI_LAUNCH_FD_NUMBER_MAX);
    cr_assert_eq(encode(&good), 0);
    cr_assert_eq(sri_launch_start_encode(&good, 1, 0, &packet), -EINVAL);
    REFUSES(plan.path = "w");
    REFUSES(plan.path = "");
    REFUSES(plan.path = NULL);
    REFUSES(plan.program_fd = 3);
    REFUSES(plan.arguments = NULL);
    REFUSES(plan.arguments = no_arguments);
    REFUSES(plan.variables = no_name);
    REFUSES(plan.variables = no_equals);
    memset(&policy, 0, sizeof policy);
    REFUSES(plan.policy = &policy);
    REFUSES(plan.fd_count = SRI_LAUNCH_FDS_MAX + 1);
    REFUSES(add_fd(&plan, -1, 3));
    REFUSES(add_fd(&plan, 3, SRI_LAUNCH_FD_NUMBER_MAX + 1));
    REFUSES((add_fd(&plan, 3, 7), add_fd(&plan, 4, 7)));
}

Test(launch_wire, more_strings_than_a_message_may_have_are_too_many) {
    static const char *many[SRI_LAUNCH_STRINGS_MAX + 2];
    struct sri_launch_plan plan = small_plan();
    for (uint32_t i = 0; i <= SRI_LAUNCH_STRINGS_MAX; i++) {
        many[i] = "A=";
    }
    plan.arguments = many;
    cr_assert_eq(encode(&plan), -E2BIG);
    plan.arguments = arguments;
    plan.variables = many;
    cr_assert_eq(encode(&plan), -E2BIG);
    many[SRI_LAUNCH_STRINGS_MAX] = NULL;
    check_round(&plan);
}

/* ---- what a dishonest host writes ------------------------------------------------------------ */

static struct sri_launch_start *sent(void) {
    return (struct sri_launch_start *)(void *)packet.bytes;
}

#define TEXTS_AT (sizeof(struct sri_launch_start) + SRI_LAUNCH_POLICY_BYTES)

static struct sri_sandbox_policy *sent_policy(void) {
    return (struct sri_sandbox_policy *)(void *)(packet.bytes + sizeof(struct sri_launch_start));
}

#define BREAKS(change)                                                                             \
    do {                                                                                           \
        const struct sri_launch_plan plan = whole_plan();                                          \
        cr_assert_eq(encode(&plan), 0);                                                            \
        change;                                                                                    \
        cr_expect_eq(decode(), SR_E_PROTOCOL, "not refused: %s", #change);                         \
    } while (0)

Test(launch_wire, each_rule_of_a_start_refuses) {
    BREAKS(sent()->header.kind = SRI_LAUNCH_KILL);
    BREAKS(sent()->header.worker = 0);
    BREAKS(sent()->flags |= 4);
    BREAKS(sent()->flags = SRI_LAUNCH_PROGRAM_FD | SRI_LAUNCH_HAS_POLICY);
    BREAKS(sent()->flags = 0); /* then the policy is text */
    BREAKS(sent_policy()->magic++);
    BREAKS(sent_policy()->path_count = 1);
    BREAKS(sent_policy()->name_count = UINT32_MAX);
    BREAKS(sent_policy()->fd_count = SRI_SANDBOX_FDS_MAX + 1);
    BREAKS(sent_policy()->fd_count = 1);
    BREAKS(sent_policy()->layers_required = UINT32_MAX);
    BREAKS(sent()->argument_count = 0);
    BREAKS(sent()->argument_count++);
    BREAKS(sent()->argument_count = UINT32_MAX);
    BREAKS(sent()->variable_count++);
    BREAKS(sent()->variable_count--);
    BREAKS(sent()->variable_count = UINT32_MAX);
    BREAKS(sent()->fd_numbers[2] = SRI_LAUNCH_FD_NUMBER_MAX + 1);
    BREAKS(sent()->fd_numbers[2] = sent()->fd_numbers[3]);
    BREAKS(sent()->text_bytes++);
    BREAKS(sent()->text_bytes--);
    BREAKS(sent()->text_bytes = 0);
    BREAKS(sent()->text_bytes = UINT32_MAX);
    BREAKS(packet.bytes[packet.size_bytes - 1] = 'x');
    BREAKS(packet.bytes[TEXTS_AT] = 'x');
    BREAKS(packet.bytes[TEXTS_AT] = '\0');
    BREAKS(packet.size_bytes--);
    BREAKS(packet.size_bytes = sizeof(struct sri_launch_start) - 1);
    BREAKS(packet.size_bytes = sizeof(struct sri_launch_start));
    BREAKS(packet.size_bytes = TEXTS_AT - 1);
    BREAKS(packet.size_bytes = TEXTS_AT);
    BREAKS(packet.size_bytes = 0);
    BREAKS(packet.fd_count--); /* a number for which there is no descriptor */
    BREAKS(packet.fd_count++); /* the other way round */
}

Test(launch_wire, a_header_must_be_true_of_its_message) {
    struct sri_launch_header header =
        sri_launch_header_make(SRI_LAUNCH_KILL, sizeof header, 2, 1, 1);
    struct sri_launch_header read;
    cr_assert(sri_launch_header_read(&header, sizeof header, 2, &read));
    cr_assert_not(sri_launch_header_read(&header, sizeof header, 1, &read));
    cr_assert_not(sri_launch_header_read(&header, sizeof header - 1, 2, &read));
    cr_assert_not(sri_launch_header_read(&header, 0, 2, &read));
    header.version++;
    cr_assert_not(sri_launch_header_read(&header, sizeof header, 2, &read));
    header.version--;
    header.magic++;
    cr_assert_not(sri_launch_header_read(&header, sizeof header, 2, &read));
}

/* ---- events ---------------------------------------------------------------------------------- */

static struct sri_launch_event event_of(enum sri_launch_kind kind, uint32_t fd_count) {
    struct sri_launch_event event = {
        .header = sri_launch_header_make(kind, sizeof event, fd_count, 3, 4)};
    if (kind == SRI_LAUNCH_HELLO) {
        event.header.serial = 0;
        event.header.worker = 0;
    }
    if (kind == SRI_LAUNCH_HELLO || kind == SRI_LAUNCH_STARTED || kind == SRI_LAUNCH_EXITED) {
        event.pid = 1234;
    }
    if (kind == SRI_LAUNCH_STARTED || kind == SRI_LAUNCH_START_FAILED) {
        sri_sandbox_report_init(&event.report);
    }
    if (kind == SRI_LAUNCH_START_FAILED || kind == SRI_LAUNCH_REFUSED) {
        event.code = -ENOENT;
        event.step = kind == SRI_LAUNCH_START_FAILED ? SRI_LAUNCH_STEP_EXEC : 0;
    }
    if (kind == SRI_LAUNCH_EXITED) {
        event.header.serial = 0;
        event.end = SRI_LAUNCH_END_EXIT;
        event.status = 255;
    }
    return event;
}

static int read_event(const struct sri_launch_event *event, uint32_t fd_count) {
    struct sri_launch_event read;
    return sri_launch_event_decode(event, sizeof *event, fd_count, &read);
}

#define LIES(the_kind, the_fd_count, change)                                                       \
    do {                                                                                           \
        struct sri_launch_event event = event_of(the_kind, the_fd_count);                          \
        cr_expect_eq(read_event(&event, the_fd_count), 0, "an honest one is refused: " #the_kind); \
        change;                                                                                    \
        cr_expect_eq(read_event(&event, the_fd_count), SR_E_PROTOCOL, "not refused: %s", #change); \
    } while (0)

Test(launch_wire, each_rule_of_an_event_refuses) {
    LIES(SRI_LAUNCH_HELLO, 1, event.pid = 0);
    LIES(SRI_LAUNCH_HELLO, 1, event.header.worker = 1);
    LIES(SRI_LAUNCH_HELLO, 1, event.header.version++);
    LIES(SRI_LAUNCH_STARTED, 1, event.pid = -1);
    LIES(SRI_LAUNCH_STARTED, 0, event.header.worker = 0);
    LIES(SRI_LAUNCH_STARTED, 0, event.report.layers[3].state = SRI_SANDBOX_REFUSED + 1);
    LIES(SRI_LAUNCH_STARTED, 0, event.report.layers[3].code = -1);
    LIES(SRI_LAUNCH_STARTED, 0, event.report.layers[3].state = SRI_SANDBOX_REFUSED);
    LIES(SRI_LAUNCH_STARTED, 0, event.report.failed_layer = SRI_SANDBOX_LAYER_COUNT + 1);
    LIES(SRI_LAUNCH_STARTED, 0, event.report.failed_layer = SRI_SANDBOX_FILES);
    LIES(SRI_LAUNCH_STARTED, 0, event.report.failed_path = SRI_SANDBOX_PATHS_MAX + 1);
    LIES(SRI_LAUNCH_START_FAILED, 0, event.report.failed_layer = SRI_SANDBOX_FILES);
    LIES(SRI_LAUNCH_EXITED, 0, event.report.failed_layer = SRI_SANDBOX_LAYER_COUNT);
    LIES(SRI_LAUNCH_STARTED, 0, event.end = SRI_LAUNCH_END_EXIT);
    LIES(SRI_LAUNCH_STARTED, 0, event.code = -1);
    LIES(SRI_LAUNCH_START_FAILED, 0, event.code = 0);
    LIES(SRI_LAUNCH_START_FAILED, 0, event.code = 1);
    LIES(SRI_LAUNCH_START_FAILED, 0, event.step = 0);
    LIES(SRI_LAUNCH_START_FAILED, 0, event.step = SRI_LAUNCH_STEP_LAUNCHER);
    LIES(SRI_LAUNCH_START_FAILED, 0, event.step = UINT32_MAX);
    LIES(SRI_LAUNCH_EXITED, 0, event.end = SRI_LAUNCH_END_NONE);
    LIES(SRI_LAUNCH_EXITED, 0, event.end = SRI_LAUNCH_END_LOST);
    LIES(SRI_LAUNCH_EXITED, 0, event.end = SRI_LAUNCH_END_COUNT);
    LIES(SRI_LAUNCH_EXITED, 0, event.status = 256);
    LIES(SRI_LAUNCH_EXITED, 0, event.has_core = 1);
    LIES(SRI_LAUNCH_EXITED, 0, (event.end = SRI_LAUNCH_END_SIGNAL, event.status = 0));
    LIES(SRI_LAUNCH_EXITED, 0, (event.end = SRI_LAUNCH_END_SIGNAL, event.status = 65));
    LIES(SRI_LAUNCH_EXITED, 0, event.header.serial = 1);
    LIES(SRI_LAUNCH_KILLED, 0, event.code = 1);
    LIES(SRI_LAUNCH_KILLED, 0, event.cpu_ns = 1);
    LIES(SRI_LAUNCH_REFUSED, 0, event.code = 0);
    LIES(SRI_LAUNCH_REFUSED, 0, event.header.kind = SRI_LAUNCH_LOST);
    LIES(SRI_LAUNCH_REFUSED, 0, event.header.kind = SRI_LAUNCH_START);
    LIES(SRI_LAUNCH_REFUSED, 0, event.header.size_bytes--);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static void check_inside(const char *text, const unsigned char *bytes, size_t size) {
    const uintptr_t at = (uintptr_t)text;
    cr_assert(at >= (uintptr_t)bytes && at < (uintptr_t)bytes + size);
    cr_assert_not_null(memchr(text, '\0', (size_t)((uintptr_t)bytes + size - at)));
}

/* Exactly as many bytes as the message has, so that AddressSanitizer sees one too many. */
static bool decode_exactly(struct scale_random *random) {
    unsigned char *bytes = malloc(packet.size_bytes + (packet.size_bytes == 0));
    memcpy(bytes, packet.bytes, packet.size_bytes);
    const uint32_t fd_count = scale_random_below(random, 4) == 0
                                  ? (uint32_t)scale_random_below(random, 66)
                                  : packet.fd_count;
    const int code = sri_launch_start_decode(bytes, packet.size_bytes, packet.fds,
                                             fd_count > 65 ? 65 : fd_count, &decoded);
    cr_assert(code == 0 || code == SR_E_PROTOCOL);
    for (size_t i = 0; code == 0 && decoded.plan.arguments[i] != NULL; i++) {
        check_inside(decoded.plan.arguments[i], bytes, packet.size_bytes);
    }
    for (size_t i = 0; code == 0 && decoded.plan.variables[i] != NULL; i++) {
        check_inside(decoded.plan.variables[i], bytes, packet.size_bytes);
    }
    free(bytes);
    return code == 0;
}

static void change_bytes(struct scale_random *random) {
    static const uint32_t words[] = {0, 1, 2, 64, 1024, 1025, 65536, UINT32_MAX};
    for (uint64_t count = 1 + scale_random_below(random, 3); count > 0; count--) {
        const uint64_t way = scale_random_below(random, 3);
        if (way == 0 && packet.size_bytes > 4) {
            const size_t at = (size_t)scale_random_below(random, packet.size_bytes / 4) * 4;
            memcpy(packet.bytes + at, &words[scale_random_below(random, 8)], 4);
        } else if (way == 1 && packet.size_bytes > 0) {
            packet.bytes[scale_random_below(random, packet.size_bytes)] =
                (unsigned char)scale_random_next(random);
        } else if (way == 2 && scale_random_below(random, 4) == 0) {
            packet.size_bytes = (size_t)scale_random_below(random, packet.size_bytes + 1);
        }
    }
}

Test(launch_wire, no_bytes_lead_outside_of_the_message) {
    struct scale_random random = scale_random(1);
    const struct sri_launch_plan plans[] = {whole_plan(), small_plan()};
    uint64_t good = 0;
    const uint64_t rounds = scale_count(200000, 2000);
    for (uint64_t i = 0; i < rounds; i++) {
        cr_assert_eq(encode(&plans[i % 2]), 0);
        change_bytes(&random);
        good += decode_exactly(&random);
    }
    cr_assert(good > 0 && good < rounds, "%llu of %llu were good: nothing was tested",
              (unsigned long long)good, (unsigned long long)rounds);
}
