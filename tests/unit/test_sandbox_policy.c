/* SPDX-License-Identifier: MIT */
/* A sandbox's policy: its text form, what is no policy, and the environment that it lets through.
 */
#include "support/scale.h"
#include "worker/sandbox.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <safering/error.h>
#include <stdlib.h>
#include <string.h>

static struct sri_sandbox_policy parse(const char *text) {
    struct sri_sandbox_policy policy;
    uint32_t position = 0;
    const int code = sri_sandbox_policy_parse(text, &policy, &position);
    cr_assert_eq(code, 0, "%s: %d at %u", text, code, position);
    return policy;
}

/* ---- the text form --------------------------------------------------------------------------- */

static void expect_refused(const char *text, int code, uint32_t position) {
    struct sri_sandbox_policy policy;
    uint32_t at = UINT32_MAX;
    const int got = sri_sandbox_policy_parse(text, &policy, &at);
    cr_expect_eq(got, code, "'%s': %d", text, got);
    cr_expect_eq(at, position, "'%s': at %u", text, at);
    cr_expect(!sri_sandbox_policy_is_valid(&policy), "'%s' left a policy", text);
}

Test(sandbox_policy, strict_asks_for_everything_and_requires_what_every_kernel_has) {
    const struct sri_sandbox_policy policy = parse("strict");
    cr_assert(sri_sandbox_policy_is_valid(&policy));
    cr_assert_eq(policy.layers_asked, SRI_SANDBOX_ALL);
    const uint32_t required = SRI_SANDBOX_BIT(DESCRIPTORS) | SRI_SANDBOX_BIT(SURROUNDINGS) |
                              SRI_SANDBOX_BIT(LIMITS) | SRI_SANDBOX_BIT(CAPABILITIES) |
                              SRI_SANDBOX_BIT(NO_NEW_PRIVILEGES) | SRI_SANDBOX_BIT(UNDUMPABLE) |
                              SRI_SANDBOX_BIT(FILES) | SRI_SANDBOX_BIT(CALLS) |
                              SRI_SANDBOX_BIT(NO_NEW_CODE);
    cr_assert_eq(policy.layers_required, required);
    cr_assert_eq(policy.path_count, 0);
    cr_assert_eq(policy.network, 0);
    cr_assert_eq(policy.fd_count, 0);
    cr_assert_eq(policy.umask, 077);
    cr_assert_eq(policy.files_max, SRI_SANDBOX_FILES_MAX);
    cr_assert_str_eq(policy.directory, "/");
}

Test(sandbox_policy, words_add_to_strict_in_any_order) {
    const struct sri_sandbox_policy policy =
        parse("path-ro=/usr/share,network,strict,path-rw=/var/tmp/a b=c");
    cr_assert(sri_sandbox_policy_is_valid(&policy));
    cr_assert_eq(policy.path_count, 2);
    cr_assert_str_eq(policy.paths[0].name, "/usr/share");
    cr_assert_eq(policy.paths[0].may_write, 0);
    cr_assert_str_eq(policy.paths[1].name, "/var/tmp/a b=c");
    cr_assert_eq(policy.paths[1].may_write, 1);
    cr_assert_eq(policy.network, 1);
    const uint32_t against = SRI_SANDBOX_BIT(NETWORK_NAMESPACE) | SRI_SANDBOX_BIT(TCP);
    cr_assert_eq(policy.layers_asked, SRI_SANDBOX_ALL & ~against);
    /* A word that is left out is not a hole: each of them means strict. */
    const struct sri_sandbox_policy short_one = parse("path-ro=/usr/share");
    cr_assert_eq(short_one.layers_asked, SRI_SANDBOX_ALL);
}

Test(sandbox_policy, none_asks_for_nothing_and_stands_alone) {
    const struct sri_sandbox_policy policy = parse("none");
    cr_assert(sri_sandbox_policy_is_valid(&policy));
    cr_assert_eq(policy.layers_asked, 0);
    cr_assert_eq(policy.layers_required, 0);
    expect_refused("none,strict", -EINVAL, 0);
    expect_refused("strict,none", -EINVAL, 7);
    expect_refused("none,", -EINVAL, 0);
}

Test(sandbox_policy, limits_are_words_too) {
    struct sri_sandbox_policy policy =
        parse("memory=3G,file=5K,cpu=7,descriptors=9,processes=unlimited");
    cr_assert_eq(policy.layers_asked, SRI_SANDBOX_ALL);
    cr_assert_eq(policy.memory_bytes, UINT64_C(3) << 30);
    cr_assert_eq(policy.file_bytes, 5 * 1024);
    cr_assert_eq(policy.cpu_s, 7);
    cr_assert_eq(policy.files_max, 9);
    cr_assert_eq(policy.processes_max, 0);
    policy = parse("memory=1,memory=2M,memory=unlimited,memory=12345,processes=2147483647");
    cr_assert_eq(policy.memory_bytes, 12345, "the last one counts");
    cr_assert_eq(policy.processes_max, INT32_MAX);
    policy = parse("memory=9223372036854775807,file=8589934591G");
    cr_assert_eq(policy.memory_bytes, INT64_MAX);
    cr_assert_eq(policy.file_bytes, UINT64_C(8589934591) << 30);
    static const char *const no_numbers[] = {
        "memory=",   "memory=G", "memory=1T", "memory=1GG",  "memory=-1",
        "memory= 1", "cpu=1K",   "cpu=0x1",   "memory",      "memory=1G1",
        "cpu=1.5",   "cores=1",  "file=G1",   "unlimited=1", "memory=Unlimited"};
    for (size_t i = 0; i < sizeof no_numbers / sizeof no_numbers[0]; i++) {
        expect_refused(no_numbers[i], -EINVAL, 0);
    }
    expect_refused("memory=0", SR_E_BOUNDS, 0);
    expect_refused("strict,cpu=0", SR_E_BOUNDS, 7);
    expect_refused("memory=9223372036854775808", SR_E_BOUNDS, 0);
    expect_refused("memory=8589934592G", SR_E_BOUNDS, 0);
    expect_refused("processes=2147483648", SR_E_BOUNDS, 0);
    expect_refused("descriptors=99999999999999999999999999", SR_E_BOUNDS, 0);
}

Test(sandbox_policy, bad_text_is_refused_with_its_position) {
    char text[SRI_SANDBOX_PATHS_MAX * 12 + SRI_SANDBOX_PATH_BYTES + 64];
    expect_refused(NULL, -EINVAL, 0);
    expect_refused("", -EINVAL, 0);
    expect_refused(",", -EINVAL, 0);
    expect_refused("strict,", -EINVAL, 7);
    expect_refused("strict,,network", -EINVAL, 7);
    expect_refused("strict, network", -EINVAL, 7);
    expect_refused("Strict", -EINVAL, 0);
    expect_refused("stric", -EINVAL, 0);
    expect_refused("stricter", -EINVAL, 0);
    expect_refused("strict,path-ro", -EINVAL, 7);
    expect_refused("strict,path-ro=", -EINVAL, 7);
    expect_refused("strict,path-ro=usr", -EINVAL, 7);
    expect_refused("strict,path-ro=./usr", -EINVAL, 7);
    expect_refused("strict,path-ro=,/usr", -EINVAL, 7);
    expect_refused("network=1", -EINVAL, 0);

    /* One byte too long, and just not. */
    memset(text, 'x', sizeof text);
    memcpy(text, "path-ro=/", 9);
    text[8 + SRI_SANDBOX_PATH_BYTES] = '\0';
    expect_refused(text, SR_E_BOUNDS, 0);
    text[8 + SRI_SANDBOX_PATH_BYTES - 1] = '\0';
    cr_assert(parse(text).path_count == 1);

    /* One path too many. */
    text[0] = '\0';
    for (uint32_t i = 0; i <= SRI_SANDBOX_PATHS_MAX; i++) {
        (void)strcat(text, i == 0 ? "path-rw=/a" : ",path-rw=/a");
    }
    expect_refused(text, SR_E_FULL, SRI_SANDBOX_PATHS_MAX * 11);
    text[strlen(text) - 11] = '\0';
    cr_assert_eq(parse(text).path_count, SRI_SANDBOX_PATHS_MAX);
}

Test(sandbox_policy, what_is_added_by_hand_has_the_same_limits) {
    struct sri_sandbox_policy policy = parse("strict");
    char name[SRI_SANDBOX_NAME_BYTES + 1];
    cr_assert_eq(sri_sandbox_policy_add_path(&policy, "/with,comma", true), 0);
    cr_assert_str_eq(policy.paths[0].name, "/with,comma");
    cr_assert_eq(sri_sandbox_policy_add_path(&policy, "relative", true), -EINVAL);
    cr_assert_eq(sri_sandbox_policy_add_path(&policy, NULL, true), -EINVAL);
    cr_assert_eq(sri_sandbox_policy_add_name(&policy, "A=B"), -EINVAL);
    cr_assert_eq(sri_sandbox_policy_add_name(&policy, ""), -EINVAL);
    memset(name, 'N', sizeof name);
    name[SRI_SANDBOX_NAME_BYTES] = '\0';
    cr_assert_eq(sri_sandbox_policy_add_name(&policy, name), SR_E_BOUNDS);
    while (policy.name_count < SRI_SANDBOX_NAMES_MAX) {
        cr_assert_eq(sri_sandbox_policy_add_name(&policy, "NAME"), 0);
    }
    cr_assert_eq(sri_sandbox_policy_add_name(&policy, "NAME"), SR_E_FULL);
    cr_assert_eq(sri_sandbox_policy_add_fd(&policy, -1), -EINVAL);
    while (policy.fd_count < SRI_SANDBOX_FDS_MAX) {
        cr_assert_eq(sri_sandbox_policy_add_fd(&policy, 3), 0);
    }
    cr_assert_eq(sri_sandbox_policy_add_fd(&policy, 3), SR_E_FULL);
    cr_assert(sri_sandbox_policy_is_valid(&policy));
}

/* Words and pieces of words in any order. */
Test(sandbox_policy, any_text_is_a_policy_or_refused_where_a_word_begins) {
    static const char *const pieces[] = {
        "strict", "path-ro=",    "path-rw=/",     "network", "none",
        ",",      ",",           "/usr/share,",   "=",       "x",
        " ",      "path-",       ",path-ro=/usr", "/",       "memory=",
        "7",      "99999999999", "cpu=",          "G"};
    struct scale_random random = scale_random(2);
    const uint64_t rounds = scale_count(50000, 500);
    uint64_t valid = 0;
    for (uint64_t i = 0; i < rounds; i++) {
        char text[512] = "";
        for (uint64_t count = scale_random_below(&random, 24); count > 0; count--) {
            (void)strcat(text,
                         pieces[scale_random_below(&random, sizeof pieces / sizeof pieces[0])]);
        }
        struct sri_sandbox_policy policy;
        uint32_t at = UINT32_MAX;
        if (sri_sandbox_policy_parse(text, &policy, &at) == 0) {
            valid++;
            cr_assert(sri_sandbox_policy_is_valid(&policy), "'%s'", text);
            cr_assert(policy.layers_asked != 0 || strcmp(text, "none") == 0, "'%s'", text);
        } else {
            cr_assert(at <= strlen(text), "'%s': at %u", text, at);
            cr_assert(at == 0 || text[at - 1] == ',', "'%s': at %u", text, at);
            cr_assert(!sri_sandbox_policy_is_valid(&policy), "'%s'", text);
        }
    }
    cr_assert(valid > 0 && valid < rounds);
}

/* ---- validity -------------------------------------------------------------------------------- */

#define EXPECT_INVALID(change)                                                                     \
    do {                                                                                           \
        struct sri_sandbox_policy policy = parse("strict,path-ro=/usr");                           \
        cr_assert_eq(sri_sandbox_policy_add_fd(&policy, 3), 0);                                    \
        cr_assert(sri_sandbox_policy_is_valid(&policy));                                           \
        (void)(change);                                                                            \
        cr_expect(!sri_sandbox_policy_is_valid(&policy), "valid: %s", #change);                    \
        struct sri_sandbox_report report;                                                          \
        sri_sandbox_report_init(&report);                                                          \
        cr_expect_eq(sri_sandbox_enter(&policy, SRI_SANDBOX_BEFORE_SERVE, &report), -EINVAL);      \
    } while (0)

Test(sandbox_policy, a_policy_that_nobody_made_is_refused) {
    cr_assert(!sri_sandbox_policy_is_valid(NULL));
    EXPECT_INVALID(policy.magic++);
    EXPECT_INVALID(policy.reserved = 1);
    EXPECT_INVALID(policy.network = 1); /* the layers against it are asked for */
    EXPECT_INVALID(policy.network = 2);
    EXPECT_INVALID(policy.umask = 01000);
    EXPECT_INVALID(policy.layers_asked |= UINT32_C(1) << SRI_SANDBOX_LAYER_COUNT);
    EXPECT_INVALID(policy.layers_asked &= ~SRI_SANDBOX_BIT(CALLS)); /* but it is required */
    EXPECT_INVALID((policy.layers_required &= ~SRI_SANDBOX_BIT(CALLS),
                    policy.layers_asked &= ~SRI_SANDBOX_BIT(CALLS)));
    EXPECT_INVALID((policy.layers_required &= ~SRI_SANDBOX_BIT(NO_NEW_PRIVILEGES),
                    policy.layers_asked &= ~SRI_SANDBOX_BIT(NO_NEW_PRIVILEGES)));
    EXPECT_INVALID(policy.path_count = SRI_SANDBOX_PATHS_MAX + 1);
    EXPECT_INVALID(policy.path_count = 2); /* the second is empty */
    EXPECT_INVALID(policy.paths[0].may_write = 2);
    EXPECT_INVALID(policy.paths[0].name[0] = 'x');
    EXPECT_INVALID(memset(policy.paths[0].name, '/', SRI_SANDBOX_PATH_BYTES));
    EXPECT_INVALID(memset(policy.directory, '/', SRI_SANDBOX_PATH_BYTES));
    EXPECT_INVALID(policy.directory[0] = '\0');
    EXPECT_INVALID(policy.name_count = UINT32_MAX);
    EXPECT_INVALID(policy.names[0][1] = '=');
    EXPECT_INVALID(memset(policy.names[0], 'N', SRI_SANDBOX_NAME_BYTES));
    EXPECT_INVALID(policy.fd_count = SRI_SANDBOX_FDS_MAX + 1);
    EXPECT_INVALID(policy.fds[0] = -1);
}

/* A launcher gets it from another process: whatever the bytes are, the answer is yes or no, and
 * what it says yes to holds together. AddressSanitizer watches. */
Test(sandbox_policy, any_bytes_are_a_policy_or_not) {
    struct scale_random random = scale_random(1);
    const uint64_t rounds = scale_count(50000, 500);
    const struct sri_sandbox_policy honest = parse("strict,path-ro=/usr,path-rw=/tmp");
    uint64_t valid = 0;
    for (uint64_t i = 0; i < rounds; i++) {
        struct sri_sandbox_policy *policy = malloc(sizeof *policy);
        cr_assert_not_null(policy);
        *policy = honest;
        unsigned char *bytes = (unsigned char *)policy;
        for (uint64_t changes = 1 + scale_random_below(&random, 4); changes > 0; changes--) {
            const uint64_t at = scale_random_below(
                &random, scale_random_below(&random, 2) == 0 ? 64 : sizeof *policy);
            bytes[at] = (unsigned char)scale_random_next(&random);
        }
        if (sri_sandbox_policy_is_valid(policy)) {
            valid++;
            cr_assert(policy->path_count <= SRI_SANDBOX_PATHS_MAX);
            for (uint32_t path = 0; path < policy->path_count; path++) {
                cr_assert(strnlen(policy->paths[path].name, SRI_SANDBOX_PATH_BYTES) <
                          SRI_SANDBOX_PATH_BYTES);
            }
        }
        free(policy);
    }
    /* Most bytes of it lie behind the end of a string; those that count are refused. */
    cr_assert(valid > rounds / 100 && valid < rounds - rounds / 100, "%llu of %llu",
              (unsigned long long)valid, (unsigned long long)rounds);
}

/* ---- environment ----------------------------------------------------------------------------- */

Test(sandbox_policy, only_listed_names_of_the_environment_come_through) {
    struct sri_sandbox_policy policy = parse("strict");
    char *const environment[] = {(char *)"PATH=/bin",
                                 (char *)"AWS_SECRET_ACCESS_KEY=x",
                                 (char *)"LD_PRELOAD=/tmp/evil.so",
                                 (char *)"PATHS=/",
                                 (char *)"path=/",
                                 (char *)"PATH",
                                 (char *)"",
                                 (char *)"=PATH",
                                 (char *)"TZ=",
                                 (char *)"MINE=1",
                                 (char *)"GLIBC_TUNABLES=glibc.malloc.check=1",
                                 NULL};
    char *kept[sizeof environment / sizeof environment[0]];
    const uint32_t room = sizeof kept / sizeof kept[0];
    cr_assert_eq(sri_sandbox_environment(&policy, environment, kept, room), 2);
    cr_assert_eq(kept[0], environment[0]);
    cr_assert_eq(kept[1], environment[8]);
    cr_assert_null(kept[2]);
    cr_assert_eq(sri_sandbox_policy_add_name(&policy, "MINE"), 0);
    cr_assert_eq(sri_sandbox_environment(&policy, environment, kept, 4), 3);
    cr_assert_str_eq(kept[2], "MINE=1");
    cr_assert_eq(sri_sandbox_environment(&policy, environment, kept, 3), SR_E_FULL);
    policy.name_count = 0;
    cr_assert_eq(sri_sandbox_environment(&policy, environment, kept, 0), SR_E_FULL);
    cr_assert_eq(sri_sandbox_environment(&policy, environment, kept, 1), 0);
    const struct sri_sandbox_policy none = parse("none");
    cr_assert_eq(sri_sandbox_environment(&none, environment, kept, room), 11);
}
