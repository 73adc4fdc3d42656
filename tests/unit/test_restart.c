/* SPDX-License-Identifier: MIT */
#include "ipc/restart.h"
#include "unit/fixture.h"

TestSuite(restart, .timeout = 10);

#define MS UINT64_C(1000000)

static struct sri_restart restart;

static void begin(uint32_t max, uint64_t window_ns, uint64_t first_ns, uint64_t most_ns) {
    const struct sri_restart_rules rules = {max, window_ns, first_ns, most_ns};
    assert_ok(sri_restart_init(&restart, &rules));
}

/* The delay after an end, or SR_FOREVER: none any more. */
static uint64_t end_at(uint64_t now_ns) {
    uint64_t delay_ns = 1;
    return sri_restart_note_end(&restart, now_ns, &delay_ns) ? delay_ns : SR_FOREVER;
}

Test(restart, more_ends_than_allowed_within_the_window_are_too_many) {
    begin(3, 100, 0, 0);
    cr_assert_eq(end_at(10), 0);
    cr_assert_eq(end_at(20), 0);
    cr_assert_eq(end_at(30), 0);
    cr_assert_eq(end_at(110), SR_FOREVER, "four within 100");
    sri_restart_deinit(&restart);
    begin(3, 100, 0, 0);
    for (uint64_t now = 0; now < 10000; now += 34) { /* four take 102 */
        cr_assert_eq(end_at(now), 0, "%zu", (size_t)now);
    }
    sri_restart_deinit(&restart);
}

Test(restart, none_are_allowed_with_zero) {
    begin(0, SR_FOREVER, 0, 0);
    cr_assert_eq(end_at(1), SR_FOREVER);
    sri_restart_deinit(&restart);
}

Test(restart, ends_in_a_row_are_delayed_more_and_more) {
    begin(SRI_RESTARTS_MAX, SR_FOREVER, 10 * MS, 75 * MS);
    static const uint64_t delays_ms[] = {0, 10, 20, 40, 75, 75, 75};
    for (uint32_t i = 0; i < COUNT_OF(delays_ms); i++) {
        cr_assert_eq(end_at(i), delays_ms[i] * MS, "%u", i);
    }
    sri_restart_note_work(&restart);
    cr_assert_eq(end_at(100), 0, "it had worked");
    cr_assert_eq(end_at(101), 10 * MS);
    sri_restart_deinit(&restart);
}

Test(restart, delays_do_not_overflow) {
    begin(SRI_RESTARTS_MAX, 0, UINT64_C(1) << 62, SR_FOREVER);
    cr_assert_eq(end_at(1), 0);
    cr_assert_eq(end_at(2), UINT64_C(1) << 62);
    cr_assert_eq(end_at(3), UINT64_C(1) << 63);
    cr_assert_eq(end_at(4), UINT64_MAX);
    cr_assert_eq(end_at(5), UINT64_MAX);
    sri_restart_deinit(&restart);
}

Test(restart, clearing_forgets_all_ends) {
    begin(1, SR_FOREVER, 5, 5);
    cr_assert_eq(end_at(1), 0);
    cr_assert_eq(end_at(2), SR_FOREVER);
    sri_restart_clear(&restart);
    cr_assert_eq(end_at(3), 0);
    sri_restart_deinit(&restart);
}
