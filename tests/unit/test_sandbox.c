/* SPDX-License-Identifier: MIT */
/*
 * Entering a sandbox: what is reported, what happens where a layer cannot be had, threads. What it
 * forbids is in test_sandbox_rules.c, what it leaves in test_sandbox_life.c.
 */
#include "support/deny.h"
#include "unit/sandbox.h"

#include <limits.h>
#include <pthread.h>
#include <sys/personality.h>

/* ---- reports --------------------------------------------------------------------------------- */

static uint32_t state_of(enum sri_sandbox_layer layer) {
    return jail_shared->report.layers[layer].state;
}

static int do_nothing(void) {
    return 0;
}

Test(sandbox, every_layer_that_is_asked_for_is_reported) {
    jail_open();
    struct jail_run run = {.policy = jail_strict(), .act = do_nothing};
    cr_assert_eq(jail_run(run), 0);
    cr_assert_eq(jail_shared->report.failed_layer, SRI_SANDBOX_LAYER_COUNT);
    for (uint32_t i = 0; i < SRI_SANDBOX_LAYER_COUNT; i++) {
        const uint32_t state = state_of((enum sri_sandbox_layer)i);
        const char *text = sri_sandbox_layer_text((enum sri_sandbox_layer)i);
        fprintf(stderr, "%-40s %s\n", text,
                state == SRI_SANDBOX_HOLDS ? "holds"
                                           : strerror(-jail_shared->report.layers[i].code));
        cr_expect_neq(state, SRI_SANDBOX_NOT_ASKED, "%s", text);
        cr_expect(state == SRI_SANDBOX_HOLDS || jail_shared->report.layers[i].code < 0, "%s", text);
        if ((run.policy.layers_required & (UINT32_C(1) << i)) != 0) {
            cr_expect_eq(state, SRI_SANDBOX_HOLDS, "%s", text);
        }
    }
    run.policy = jail_policy("none");
    cr_assert_eq(jail_run(run), 0);
    for (uint32_t i = 0; i < SRI_SANDBOX_LAYER_COUNT; i++) {
        cr_expect_eq(state_of((enum sri_sandbox_layer)i), SRI_SANDBOX_NOT_ASKED);
    }
    jail_close();
}

Test(sandbox, reports_of_several_processes_become_one) {
    struct sri_sandbox_report first;
    struct sri_sandbox_report second;
    sri_sandbox_report_init(&first);
    sri_sandbox_report_init(&second);
    first.layers[SRI_SANDBOX_USER_NAMESPACE].state = SRI_SANDBOX_HOLDS;
    second.layers[SRI_SANDBOX_USER_NAMESPACE].state = SRI_SANDBOX_REFUSED;
    second.layers[SRI_SANDBOX_FILES] =
        (struct sri_sandbox_layer_report){SRI_SANDBOX_REFUSED, -ENOENT};
    second.failed_layer = SRI_SANDBOX_FILES;
    second.failed_path = 3;
    sri_sandbox_report_merge(&first, &second);
    cr_assert_eq(first.layers[SRI_SANDBOX_USER_NAMESPACE].state, SRI_SANDBOX_HOLDS);
    cr_assert_eq(first.layers[SRI_SANDBOX_FILES].code, -ENOENT);
    cr_assert_eq(first.failed_layer, SRI_SANDBOX_FILES);
    cr_assert_eq(first.failed_path, 3);
    cr_assert_str_eq(sri_sandbox_layer_text(SRI_SANDBOX_FILES), "files by path");
    cr_assert_str_eq(sri_sandbox_layer_text(SRI_SANDBOX_LAYER_COUNT), "none");
}

/* Seccomp_filters in /proc/self/status, or -1; Linux 5.11. */
static int count_filters(void) {
    char line[128];
    int count = -1;
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL) {
        (void)sscanf(line, "Seccomp_filters: %d", &count);
    }
    if (status != NULL) {
        (void)fclose(status);
    }
    return count;
}

/* The result of an act is a small number. */
static int give_filter_count(void) {
    return count_filters();
}

/* What the page says of it: this way a host can see what a worker may only claim. */
Test(sandbox, the_last_step_shows_as_a_third_filter) {
    jail_open();
    const int before = count_filters();
    struct jail_run run = {.policy = jail_policy("path-ro=/proc"), .act = give_filter_count};
    cr_assert_eq(jail_run(run), before + 3);
    run.policy.layers_required &= ~SRI_SANDBOX_BIT(NO_NEW_CODE);
    run.policy.layers_asked &= ~SRI_SANDBOX_BIT(NO_NEW_CODE);
    cr_assert_eq(jail_run(run), before + 2);
    jail_close();
}

/* ---- refusals -------------------------------------------------------------------------------- */

/* Runs @run where a system call is denied to this process and its children. */
static int run_denied(const struct jail_run *run, unsigned int call, int code) {
    const char *reason = deny_call(call, code);
    if (reason != NULL) {
        cr_skip_test("%s", reason);
    }
    return jail_run(*run);
}

static int open_inside(void) {
    char path[128];
    (void)snprintf(path, sizeof path, "%s/file.txt", scene.read_only);
    return open(path, O_RDONLY) >= 0 ? 0 : errno;
}

Test(sandbox, a_required_layer_that_is_refused_is_named) {
    jail_open();
    const struct jail_run run = {.policy = jail_strict(), .act = do_nothing};
    const int result = run_denied(&run, SYS_landlock_create_ruleset, EOPNOTSUPP);
    cr_assert_eq(result, JAIL_NOT_ENTERED);
    cr_assert_eq(jail_shared->code, -EOPNOTSUPP);
    cr_assert_eq(jail_shared->report.failed_layer, SRI_SANDBOX_FILES);
    cr_assert_eq(state_of(SRI_SANDBOX_FILES), SRI_SANDBOX_REFUSED);
    cr_assert_eq(jail_shared->report.layers[SRI_SANDBOX_FILES].code, -EOPNOTSUPP);
    /* It did not go on to what comes later. */
    cr_assert_eq(state_of(SRI_SANDBOX_CALLS), SRI_SANDBOX_NOT_ASKED);
    jail_close();
}

Test(sandbox, without_landlock_and_without_paths_nothing_is_opened) {
    jail_open();
    struct jail_run run = {.policy = jail_policy("strict"), .act = open_inside};
    run.policy.layers_required &= ~SRI_SANDBOX_BIT(FILES);
    cr_assert_eq(run_denied(&run, SYS_landlock_create_ruleset, EOPNOTSUPP), EACCES);
    cr_assert_eq(state_of(SRI_SANDBOX_FILES), SRI_SANDBOX_REFUSED);
    cr_assert_eq(state_of(SRI_SANDBOX_CALLS), SRI_SANDBOX_HOLDS);
    jail_close();
}

Test(sandbox, namespaces_that_are_not_permitted_are_done_without_unless_required) {
    jail_open();
    struct jail_run run = {.policy = jail_strict(), .is_nobody = true, .act = open_inside};
    cr_assert_eq(run_denied(&run, SYS_unshare, EPERM), 0);
    cr_assert_eq(jail_shared->code, 0);
    for (uint32_t i = SRI_SANDBOX_USER_NAMESPACE; i <= SRI_SANDBOX_PID_NAMESPACE; i++) {
        cr_expect_eq(jail_shared->report.layers[i].state, SRI_SANDBOX_REFUSED);
        cr_expect_eq(jail_shared->report.layers[i].code, -EPERM);
    }
    /* Else all that the user runs elsewhere would count. */
    cr_assert_eq(state_of(SRI_SANDBOX_PROCESSES), SRI_SANDBOX_REFUSED);
    cr_assert_eq(jail_shared->report.layers[SRI_SANDBOX_PROCESSES].code, -EUSERS);
    run.policy.layers_required |= SRI_SANDBOX_BIT(IPC_NAMESPACE);
    cr_assert_eq(jail_run(run), JAIL_NOT_ENTERED);
    cr_assert_eq(jail_shared->report.failed_layer, SRI_SANDBOX_IPC_NAMESPACE);
    jail_close();
}

Test(sandbox, filters_that_are_not_permitted_are_a_refusal) {
    jail_open();
    const struct jail_run run = {.policy = jail_strict(), .act = do_nothing};
    cr_assert_eq(run_denied(&run, SYS_seccomp, EPERM), JAIL_NOT_ENTERED);
    cr_assert_eq(jail_shared->report.failed_layer, SRI_SANDBOX_CALLS);
    jail_close();
}

static int pretend_filters_work(void) {
    (void)deny_call(SYS_seccomp, 0); /* says that it has no effect, for 0 is no error */
    return syscall(SYS_seccomp, UINT_MAX, UINT_MAX, NULL) == 0 ? 0 : EBADE;
}

/* Errno 0 is success, so code that is loaded can have the last filter never be installed. */
Test(sandbox, a_filter_that_was_never_installed_does_not_hold) {
    jail_open();
    const struct jail_run run = {
        .policy = jail_strict(), .before = pretend_filters_work, .act = do_nothing};
    cr_assert_eq(jail_run(run), JAIL_NOT_ENTERED, "%d", jail_shared->code);
    cr_assert_eq(jail_shared->code, -EBADE);
    cr_assert_eq(jail_shared->report.failed_layer, SRI_SANDBOX_NO_NEW_CODE);
    jail_close();
}

Test(sandbox, a_listed_path_that_is_not_there_ends_the_step_even_if_not_required) {
    jail_open();
    struct jail_run run = {.policy = jail_strict(), .act = do_nothing};
    cr_assert_eq(sri_sandbox_policy_add_path(&run.policy, "/no/such/path", false), 0);
    run.policy.layers_required = 0;
    cr_assert_eq(jail_run(run), JAIL_NOT_ENTERED);
    if (jail_shared->report.layers[SRI_SANDBOX_FILES].code == -EOPNOTSUPP) {
        cr_skip_test("no Landlock here");
    }
    cr_assert_eq(jail_shared->code, -ENOENT);
    cr_assert_eq(jail_shared->report.failed_layer, SRI_SANDBOX_FILES);
    cr_assert_eq(jail_shared->report.failed_path, 2);
    jail_close();
}

Test(sandbox, a_directory_that_is_not_there_is_a_refusal) {
    jail_open();
    struct jail_run run = {.policy = jail_strict(), .act = do_nothing};
    strcpy(run.policy.directory, "/no/such/path");
    cr_assert_eq(jail_run(run), JAIL_NOT_ENTERED);
    cr_assert_eq(jail_shared->code, -ENOENT);
    cr_assert_eq(jail_shared->report.failed_layer, SRI_SANDBOX_SURROUNDINGS);
    jail_close();
}

Test(sandbox, an_unknown_step_is_refused) {
    struct sri_sandbox_report report;
    const struct sri_sandbox_policy policy = jail_policy("none");
    sri_sandbox_report_init(&report);
    cr_assert_eq(sri_sandbox_enter(&policy, SRI_SANDBOX_STEP_COUNT, &report), -EINVAL);
    cr_assert_eq(sri_sandbox_enter(&policy, (enum sri_sandbox_step) - 1, &report), -EINVAL);
    cr_assert_eq(sri_sandbox_enter(&policy, SRI_SANDBOX_BEFORE_LOAD, NULL), -EINVAL);
}

/* ---- what it was before ---------------------------------------------------------------------- */

/* As a program that setarch -X started. */
static int enter_with_implied_code(void) {
    struct sri_sandbox_report report;
    struct sri_sandbox_policy policy = jail_strict();
    jail_keep_layers(&policy, SRI_SANDBOX_BIT(CALLS));
    sri_sandbox_report_init(&report);
    if (personality(READ_IMPLIES_EXEC) < 0 ||
        sri_sandbox_enter(&policy, SRI_SANDBOX_BEFORE_LOAD, &report) != 0) {
        return EBADE;
    }
    return (personality(0xffffffff) & READ_IMPLIES_EXEC) == 0 ? 0 : EPERM;
}

Test(sandbox, memory_that_is_code_by_inheritance_ends_with_the_first_filter) {
    jail_open();
    const struct jail_run run = {.is_free = true, .act = enter_with_implied_code};
    cr_assert_eq(jail_run(run), 0);
    jail_close();
}

/* ---- threads --------------------------------------------------------------------------------- */

static void *sleep_long(void *ctx) {
    (void)ctx;
    (void)pause();
    return NULL;
}

/* In the child, for the step after it. */
static int start_sleeper(void) {
    pthread_t thread;
    return pthread_create(&thread, NULL, sleep_long, NULL);
}

static int load_with_two_threads(void) {
    struct sri_sandbox_report report;
    sri_sandbox_report_init(&report);
    const struct sri_sandbox_policy policy = jail_strict();
    if (start_sleeper() != 0) {
        return EBADE;
    }
    const int code = sri_sandbox_enter(&policy, SRI_SANDBOX_BEFORE_LOAD, &report);
    return report.failed_layer == SRI_SANDBOX_FILES ? -code : EBADE;
}

Test(sandbox, paths_are_not_confined_where_another_thread_would_stay_free) {
    jail_open();
    const struct jail_run run = {.is_free = true, .act = load_with_two_threads};
    const int result = jail_run(run);
    cr_assert_eq(result, EBUSY, "%d", result);
    jail_close();
}

static pthread_t loaded_thread;
static int loaded_pipe[2];

static int map_code_of_module(void) {
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, scene.module, 0);
    return memory != MAP_FAILED ? 0 : errno;
}

static void *map_code_later(void *ctx) {
    char byte = 0;
    (void)ctx;
    while (read(loaded_pipe[0], &byte, 1) < 0) {
    }
    return (void *)(intptr_t)map_code_of_module();
}

static int start_mapper(void) {
    if (map_code_of_module() != 0 || pipe(loaded_pipe) != 0) {
        return EBADE;
    }
    return pthread_create(&loaded_thread, NULL, map_code_later, NULL);
}

static int ask_mapper(void) {
    void *answer = NULL;
    if (write(loaded_pipe[1], "x", 1) != 1 || pthread_join(loaded_thread, &answer) != 0) {
        return EBADE;
    }
    return (int)(intptr_t)answer;
}

Test(sandbox, no_new_code_holds_for_threads_that_loading_has_started) {
    jail_open();
    const struct jail_run run = {
        .policy = jail_strict(), .before = start_mapper, .act = ask_mapper};
    const int result = jail_run(run);
    cr_assert_eq(result, EPERM, "%d (%d)", result, jail_shared->code);
    jail_close();
}
