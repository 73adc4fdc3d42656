/* SPDX-License-Identifier: MIT */
#include "unit/fixture.h"

#include "ipc/spin.h"
#include "sys/cpus.h"
#include <sched.h>

/* ---- the budget ----------------------------------------------------------------------------- */

static void learn_often(struct sri_spin *spin, uint64_t waited_ns, bool has_spun, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        sri_spin_learn(spin, waited_ns, has_spun);
    }
}

#define SPUN  true
#define SLEPT false

/* Waits of a peer that answers after @spun_ns to one that spins, after @slept_ns to one that does
 * not. Returns how many spun. */
static uint32_t live(struct sri_spin *spin, uint64_t spun_ns, uint64_t slept_ns, uint32_t count) {
    uint32_t spun = 0;
    for (uint32_t i = 0; i < count; i++) {
        const bool spins = sri_spin_budget_ns(spin) > 0;
        sri_spin_learn(spin, spins ? spun_ns : slept_ns, spins);
        spun += spins;
    }
    return spun;
}

Test(spin, the_budget_is_twice_what_waits_take) {
    struct sri_spin spin;
    sri_spin_init(&spin);
    learn_often(&spin, 40000, SPUN, 100);
    const uint64_t budget_ns = sri_spin_budget_ns(&spin);
    cr_assert(budget_ns > 79000 && budget_ns <= 80000, "%llu", (unsigned long long)budget_ns);
}

Test(spin, what_was_never_waited_for_gets_a_budget) {
    struct sri_spin spin;
    sri_spin_init(&spin);
    cr_assert_eq(sri_spin_budget_ns(&spin), 2 * SRI_SPIN_FIRST_NS);
}

Test(spin, the_budget_has_a_least_and_a_most) {
    struct sri_spin spin;
    sri_spin_init(&spin);
    learn_often(&spin, 0, SPUN, 200);
    cr_assert_eq(sri_spin_budget_ns(&spin), SRI_SPIN_LEAST_NS);
    learn_often(&spin, 300000, SLEPT, 200);
    learn_often(&spin, 190000, SPUN, 200);
    cr_assert_eq(sri_spin_budget_ns(&spin), SRI_SPIN_MOST_NS);
}

Test(spin, work_of_40_us_is_waited_for_awake) {
    struct sri_spin spin;
    sri_spin_init(&spin);
    cr_assert_geq(live(&spin, 40000, 140000, 10000), 9800);
    cr_assert_geq(live(&spin, 150000, 190000, 10000), 9000, "also if a sleep costs a quarter");
}

Test(spin, waits_that_are_too_long_are_slept_through) {
    struct sri_spin spin;
    sri_spin_init(&spin);
    cr_assert_leq(live(&spin, 1000000, 1000000, 20000), 100);
}

/* Somebody else has the other CPU: who spins keeps the peer from running. */
Test(spin, where_spinning_makes_waits_longer_there_is_none) {
    struct sri_spin spin;
    sri_spin_init(&spin);
    cr_assert_leq(live(&spin, 150000, 8000, 20000), 200);
    cr_assert_geq(live(&spin, 200, 8000, 20000), 15000, "the CPU is free again");
}

Test(spin, an_old_opinion_of_sleeping_is_looked_into) {
    struct sri_spin spin;
    sri_spin_init(&spin);
    learn_often(&spin, UINT64_MAX, SLEPT, 100); /* it once took for ever */
    cr_assert_leq(live(&spin, 150000, 8000, 20000), 4000);
}

Test(spin, an_idle_second_between_calls_changes_nothing) {
    struct sri_spin spin;
    sri_spin_init(&spin);
    learn_often(&spin, 1000, SPUN, 100);
    learn_often(&spin, UINT64_MAX, SPUN, 2);
    cr_assert_gt(sri_spin_budget_ns(&spin), 0);
    learn_often(&spin, UINT64_MAX, SPUN, 6);
    cr_assert_eq(sri_spin_budget_ns(&spin), 0);
}

Test(spin, short_waits_turn_spinning_on_again) {
    struct sri_spin spin;
    sri_spin_init(&spin);
    (void)live(&spin, UINT64_MAX, UINT64_MAX, 20);
    cr_assert_geq(live(&spin, 200, 30000, 100), 60);
}

/* How many waits pass until one spins. */
static uint32_t waits_until_trial(struct sri_spin *spin) {
    uint32_t waits = 1;
    while (sri_spin_budget_ns(spin) == 0) {
        waits++;
        cr_assert_leq(waits, SRI_SPIN_TRIAL_LAST + 1, "never again");
    }
    return waits;
}

Test(spin, a_trial_comes_now_and_then_and_more_and_more_rarely) {
    struct sri_spin spin;
    sri_spin_init(&spin);
    learn_often(&spin, UINT64_MAX, SPUN, 20);
    for (uint32_t every = SRI_SPIN_TRIAL_FIRST; every < SRI_SPIN_TRIAL_LAST; every *= 2) {
        cr_assert_eq(waits_until_trial(&spin), every);
        learn_often(&spin, UINT64_MAX, SPUN, 10);
    }
    cr_assert_eq(waits_until_trial(&spin), SRI_SPIN_TRIAL_LAST);
    learn_often(&spin, UINT64_MAX, SPUN, 10);
    cr_assert_eq(waits_until_trial(&spin), SRI_SPIN_TRIAL_LAST);
    (void)live(&spin, 1000, 50000, SRI_SPIN_TRIAL_LAST); /* this one lasts */
    learn_often(&spin, UINT64_MAX, SPUN, 20);
    cr_assert_eq(waits_until_trial(&spin), SRI_SPIN_TRIAL_FIRST);
}

/* ---- the limit ------------------------------------------------------------------------------ */

struct two {
    struct sri_spin_words words[2];
    struct sri_spin_limit host;
    struct sri_spin_limit worker;
};

static void two_begin(struct two *two, uint32_t cpus) {
    memset(two, 0, sizeof *two);
    sri_spin_limit_init(&two->host, &two->words[0], &two->words[1], cpus);
    sri_spin_limit_init(&two->worker, &two->words[1], &two->words[0], cpus);
}

Test(spin, threads_of_both_sides_together_may_be_as_many_as_cpus) {
    struct two two;
    two_begin(&two, 2);
    sri_spin_limit_enter(&two.host);
    sri_spin_limit_enter(&two.worker);
    cr_assert(sri_spin_limit_allows(&two.host) && sri_spin_limit_allows(&two.worker));
    sri_spin_limit_enter(&two.worker);
    cr_assert(!sri_spin_limit_allows(&two.host) && !sri_spin_limit_allows(&two.worker));
    sri_spin_limit_leave(&two.worker);
    cr_assert(sri_spin_limit_allows(&two.host) && sri_spin_limit_allows(&two.worker));
    sri_spin_limit_enter(&two.host);
    cr_assert(!sri_spin_limit_allows(&two.worker));
}

Test(spin, with_one_cpu_nobody_spins) {
    struct two two;
    two_begin(&two, 1);
    cr_assert(!sri_spin_limit_allows(&two.host));
    sri_spin_limit_enter(&two.host);
    cr_assert(!sri_spin_limit_allows(&two.host));
}

Test(spin, the_worker_keeps_to_what_the_host_says_and_to_what_it_has) {
    struct two two;
    two_begin(&two, 4);
    for (int i = 0; i < 3; i++) {
        sri_spin_limit_enter(&two.worker);
    }
    cr_assert(sri_spin_limit_allows(&two.worker));
    sri_spin_limit_set_cpus(&two.host, 2);
    cr_assert(!sri_spin_limit_allows(&two.worker), "the host said 2");
    sri_spin_limit_set_cpus(&two.host, 3);
    cr_assert(sri_spin_limit_allows(&two.worker));
    sri_spin_limit_set_cpus(&two.host, 0);
    cr_assert(!sri_spin_limit_allows(&two.worker) && !sri_spin_limit_allows(&two.host));
    sri_spin_limit_set_cpus(&two.host, 1000);
    cr_assert(sri_spin_limit_allows(&two.worker));
    sri_spin_limit_enter(&two.worker);
    sri_spin_limit_enter(&two.worker);
    cr_assert(!sri_spin_limit_allows(&two.worker), "it has 4, whatever the host says");
}

Test(spin, a_peer_that_lies_about_its_threads_or_cpus_only_stops_spinning) {
    struct two two;
    two_begin(&two, 4);
    sri_spin_limit_enter(&two.host);
    cr_assert(sri_spin_limit_allows(&two.host));
    atomic_store(&two.words[1].awake_count, UINT32_MAX); /* 1 + this would be 0 */
    cr_assert(!sri_spin_limit_allows(&two.host));
    atomic_store(&two.words[1].awake_count, 0);
    atomic_store(&two.words[1].cpus, UINT32_MAX);
    for (int i = 0; i < 4; i++) {
        sri_spin_limit_enter(&two.host);
    }
    cr_assert(!sri_spin_limit_allows(&two.host), "its own count still holds");
    atomic_store(&two.words[0].awake_count, 0); /* one heap for both: it scribbles on our words */
    cr_assert(!sri_spin_limit_allows(&two.host));
    for (int i = 0; i < 5; i++) {
        sri_spin_limit_leave(&two.host);
    }
}

/* ---- CPUs ----------------------------------------------------------------------------------- */

Test(spin, a_quota_is_a_number_of_whole_cpus) {
    cr_assert_eq(sri_cpus_of_quota("max 100000\n"), SRI_CPUS_UNLIMITED);
    cr_assert_eq(sri_cpus_of_quota("-1 100000"), SRI_CPUS_UNLIMITED);
    cr_assert_eq(sri_cpus_of_quota("150000 100000\n"), 1);
    cr_assert_eq(sri_cpus_of_quota("200000 100000\n"), 2);
    cr_assert_eq(sri_cpus_of_quota("1000 100000\n"), 1);
    cr_assert_eq(sri_cpus_of_quota("800000 100000"), 8);
    const char *const odd[] = {"",          "\n",  "100000",   "100000 0",
                               "100000 -5", "x y", "100000 x", "99999999999999999999999 100000"};
    for (size_t i = 0; i < COUNT_OF(odd); i++) {
        cr_assert_eq(sri_cpus_of_quota(odd[i]), SRI_CPUS_UNLIMITED, "'%s'", odd[i]);
    }
}

static void write_text(const char *folder, const char *name, const char *text) {
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "we");
    cr_assert_not_null(file, "%s: %s", path, strerror(errno));
    cr_assert_geq(fputs(text, file), 0);
    cr_assert_eq(fclose(file), 0);
}

static void make_folder(const char *folder, const char *name, char *out_path, size_t size) {
    (void)snprintf(out_path, size, "%s/%s", folder, name);
    cr_assert_eq(mkdir(out_path, 0755), 0);
}

Test(spin, the_tightest_control_group_on_the_way_up_counts) {
    struct directory root = directory_begin();
    char outer[200];
    char inner[240];
    make_folder(root.path, "outer", outer, sizeof outer);
    make_folder(outer, "inner", inner, sizeof inner);
    write_text(inner, "cpu.max", "max 100000\n");
    cr_assert_eq(sri_cpus_of_cgroup("0::/outer/inner\n", root.path), SRI_CPUS_UNLIMITED);
    write_text(outer, "cpu.max", "300000 100000\n");
    cr_assert_eq(sri_cpus_of_cgroup("0::/outer/inner\n", root.path), 3);
    write_text(inner, "cpu.max", "500000 100000\n");
    cr_assert_eq(sri_cpus_of_cgroup("0::/outer/inner\n", root.path), 3);
    write_text(root.path, "cpu.max", "200000 100000\n");
    cr_assert_eq(sri_cpus_of_cgroup("0::/outer/inner\n", root.path), 2);
    cr_assert_eq(sri_cpus_of_cgroup("0::/not/there\n", root.path), 2, "seen from a container");
    cr_assert_eq(sri_cpus_of_cgroup("no line of it", root.path), SRI_CPUS_UNLIMITED);
    directory_end(&root);
}

Test(spin, a_control_group_of_version_1_counts_too) {
    struct directory root = directory_begin();
    char tree[200];
    char group[240];
    const char *self = "9:name=systemd:/x\n4:cpuset,cpu,cpuacct:/group\n3:cpuacct:/no\n0::/\n";
    make_folder(root.path, "cpu", tree, sizeof tree);
    make_folder(tree, "group", group, sizeof group);
    write_text(tree, "cpu.cfs_quota_us", "-1\n");
    write_text(tree, "cpu.cfs_period_us", "100000\n");
    cr_assert_eq(sri_cpus_of_cgroup(self, root.path), SRI_CPUS_UNLIMITED);
    write_text(group, "cpu.cfs_quota_us", "250000\n");
    write_text(group, "cpu.cfs_period_us", "100000\n");
    cr_assert_eq(sri_cpus_of_cgroup(self, root.path), 2);
    cr_assert_eq(sri_cpus_of_cgroup("3:cpuacct:/group\n", root.path), SRI_CPUS_UNLIMITED);
    directory_end(&root);
}

Test(spin, an_affinity_mask_of_one_cpu_is_one_usable_cpu) {
    cpu_set_t all;
    cpu_set_t one;
    cr_assert_eq(sched_getaffinity(0, sizeof all, &all), 0);
    const uint32_t usable = sri_cpus_usable();
    cr_assert(usable >= 1 && usable <= (uint32_t)CPU_COUNT(&all), "%u", usable);
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++) {
        if (CPU_ISSET(cpu, &all)) {
            CPU_SET(cpu, &one);
        }
    }
    cr_assert_eq(sched_setaffinity(0, sizeof one, &one), 0);
    cr_assert_eq(sri_cpus_usable(), 1);
}
