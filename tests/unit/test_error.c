/* SPDX-License-Identifier: MIT */
#include "unit/fixture.h"

#include <limits.h>

#define ERROR_LAST_ERRNO 133 /* EHWPOISON, the last that Linux names; 41 and 58 are gaps */

static const struct {
    int code;
    const char *name;
} own_codes[] = {
    {SR_E_STALE, "SR_E_STALE"},
    {SR_E_OBJECT, "SR_E_OBJECT"},
    {SR_E_WRONG_THREAD, "SR_E_WRONG_THREAD"},
    {SR_E_FORKED, "SR_E_FORKED"},
    {SR_E_STATE, "SR_E_STATE"},
    {SR_E_IN_FLIGHT, "SR_E_IN_FLIGHT"},
    {SR_E_BOUNDS, "SR_E_BOUNDS"},
    {SR_E_LENT, "SR_E_LENT"},
    {SR_E_FULL, "SR_E_FULL"},
    {SR_E_LIMIT, "SR_E_LIMIT"},
    {SR_E_UNSUPPORTED, "SR_E_UNSUPPORTED"},
    {SR_E_TIMEOUT, "SR_E_TIMEOUT"},
    {SR_E_IDLE, "SR_E_IDLE"},
    {SR_E_OVERRUN, "SR_E_OVERRUN"},
    {SR_E_PEER_DIED, "SR_E_PEER_DIED"},
    {SR_E_CYCLE, "SR_E_CYCLE"},
    {SR_E_SHORT, "SR_E_SHORT"},
    {SR_E_PROTOCOL, "SR_E_PROTOCOL"},
    {SR_E_WORKER_DOWN, "SR_E_WORKER_DOWN"},
};

/* The compiler complains (-Wswitch) when the enum has a code that this does not name. */
static bool is_in_enum(enum sr_error code) {
    switch (code) {
    case SR_E_STALE:
    case SR_E_OBJECT:
    case SR_E_WRONG_THREAD:
    case SR_E_FORKED:
    case SR_E_STATE:
    case SR_E_IN_FLIGHT:
    case SR_E_BOUNDS:
    case SR_E_LENT:
    case SR_E_FULL:
    case SR_E_LIMIT:
    case SR_E_UNSUPPORTED:
    case SR_E_TIMEOUT:
    case SR_E_IDLE:
    case SR_E_OVERRUN:
    case SR_E_PEER_DIED:
    case SR_E_CYCLE:
    case SR_E_SHORT:
    case SR_E_PROTOCOL:
    case SR_E_WORKER_DOWN:
        return true;
    }
    return false;
}

Test(error, each_code_of_the_library_has_its_name_and_a_text_of_its_own) {
    for (size_t i = 0; i < COUNT_OF(own_codes); i++) {
        cr_assert_str_eq(sr_error_name(own_codes[i].code), own_codes[i].name);
        const char *text = sr_strerror(own_codes[i].code);
        cr_assert_gt(strlen(text), 4);
        cr_assert_str_neq(text, sr_strerror(-100000), "%s has no text", own_codes[i].name);
        for (size_t j = 0; j < i; j++) {
            cr_assert_str_neq(text, sr_strerror(own_codes[j].code));
        }
    }
}

Test(error, no_code_of_the_enum_was_forgotten) {
    size_t count = 0;
    for (int code = -4096; code > -8192; code--) {
        const bool named = strcmp(sr_error_name(code), "UNKNOWN") != 0;
        cr_assert_eq(named, is_in_enum((enum sr_error)code), "%d", code);
        count += named;
    }
    cr_assert_eq(count, COUNT_OF(own_codes));
}

Test(error, the_librarys_codes_lie_below_the_kernels) {
    for (size_t i = 0; i < COUNT_OF(own_codes); i++) {
        cr_assert_lt(own_codes[i].code, -4095);
    }
}

Test(error, codes_of_the_kernel_have_name_and_text) {
    cr_assert_str_eq(sr_error_name(-EAGAIN), "EAGAIN");
    cr_assert_str_eq(sr_error_name(-EIO), "EIO");
    cr_assert_str_eq(sr_strerror(-ENOENT), "No such file or directory");
    for (int number = 1; number <= ERROR_LAST_ERRNO; number++) {
        if (number == 41 || number == 58) {
            continue;
        }
        cr_assert_eq(sr_error_name(-number)[0], 'E', "%d", number);
        cr_assert_str_neq(sr_strerror(-number), sr_strerror(-4000), "%d", number);
    }
}

Test(error, codes_that_nobody_defines_are_unknown_and_never_null) {
    const int strange[] = {INT_MIN, INT_MIN + 1, SR_E_WORKER_DOWN - 1, -4095, -4000, -41, -100000};
    for (size_t i = 0; i < COUNT_OF(strange); i++) {
        cr_assert_str_eq(sr_error_name(strange[i]), "UNKNOWN", "%d", strange[i]);
        cr_assert_str_eq(sr_strerror(strange[i]), "unknown error", "%d", strange[i]);
    }
}

Test(error, counts_and_zero_are_ok) {
    const int fine[] = {0, 1, 4096, INT_MAX};
    for (size_t i = 0; i < COUNT_OF(fine); i++) {
        cr_assert_str_eq(sr_error_name(fine[i]), "OK");
        cr_assert_str_eq(sr_strerror(fine[i]), "success");
    }
}

Test(error, the_librarys_version_is_that_of_the_headers) {
    char text[32];
    const uint32_t version = sr_version();
    (void)snprintf(text, sizeof text, "%u.%u.%u", version >> 16, (version >> 8) & 255,
                   version & 255);
    cr_assert_str_eq(text, SR_VERSION_STRING);
    cr_assert_eq(version, (SR_VERSION_MAJOR << 16) | (SR_VERSION_MINOR << 8) | SR_VERSION_PATCH);
}
