/* SPDX-License-Identifier: MIT */
/*
 * The launcher, its host's side, and what a worker is when it has been started: how each end is
 * told, with and without a pid namespace; what a worker gets and what it does not get; that nothing
 * is left behind by anybody's end.
 */
#include "support/baseline.h"
#include "support/case.h"
#include "support/launch.h"
#include "support/scale.h"
#include "support/skip.h"
#include "support/valgrind.h"
#include "sys/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <safering/error.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sri_launcher *launcher;
static struct launch_pipe tell;

static void set_up(void) {
    launcher = launch_open();
    tell = launch_pipe_open();
}

static void tear_down(void) {
    launch_pipe_close(&tell);
    launch_close(&launcher);
}

static void set_up_pid_namespace(void) {
    SKIP_BECAUSE(launch_pid_namespace_missing());
    set_up();
}

static void check_code(int code, int expected) {
    cr_assert_eq(code, expected, "%d (%s), expected %d (%s)", code, sr_error_name(code), expected,
                 sr_error_name(expected));
}

static void expect_end(uint64_t id, enum sri_launch_end end, uint32_t status) {
    const struct sri_launch_event exited = launch_expect(launcher, SRI_LAUNCH_EXITED, id);
    cr_assert(exited.end == end && exited.status == status,
              "worker %llu: end %u with %u, expected %u with %u", (unsigned long long)id,
              exited.end, exited.status, end, status);
}

#define ALL_NAMESPACES                                                                             \
    (SRI_SANDBOX_BIT(USER_NAMESPACE) | SRI_SANDBOX_BIT(NETWORK_NAMESPACE) |                        \
     SRI_SANDBOX_BIT(IPC_NAMESPACE) | SRI_SANDBOX_BIT(PID_NAMESPACE))

/* The namespaces (bits of layers) that a worker is told to have. */
static uint32_t held_of(const struct sri_launch_event *event) {
    uint32_t held = 0;
    for (uint32_t i = 0; i < SRI_SANDBOX_LAYER_COUNT; i++) {
        held |= (uint32_t)(event->report.layers[i].state == SRI_SANDBOX_HOLDS) << i;
    }
    return held & ALL_NAMESPACES;
}

/* ---- ends ------------------------------------------------------------------------------------ */

static void every_exit_code(uint32_t namespaces) {
    char code[8];
    /* All of them, or at a small scale some, the first and the last among them. */
    const uint32_t count = (uint32_t)scale_count(256, 16);
    const uint32_t most = count < 256 ? count - 1 : 255;
    for (uint32_t i = 0; i <= most; i++) {
        const uint32_t status = i * 255 / most;
        (void)snprintf(code, sizeof code, "%u", status);
        launch_start(launcher, i + 1, "exit", code, -1, namespaces);
        (void)launch_expect(launcher, SRI_LAUNCH_STARTED, i + 1);
        expect_end(i + 1, SRI_LAUNCH_END_EXIT, status);
    }
}

CASE(launcher_ends, every_exit_code_is_told, set_up, tear_down) {
    every_exit_code(0);
}

CASE(launcher_ends, every_exit_code_is_told_through_an_init, set_up_pid_namespace, tear_down) {
    every_exit_code(launch_pid_namespace());
}

static void each_signal_as_what_it_is(uint32_t namespaces) {
    static const struct {
        const char *what;
        const char *how;
        uint32_t signal;
    } ways[] = {
        {"abort", "0", SIGABRT},  {"raise", "15", SIGTERM}, {"raise", "9", SIGKILL},
        {"raise", "10", SIGUSR1}, {"raise", "1", SIGHUP},   {"raise", "13", SIGPIPE},
        {"raise", "64", 64},      {"alarm", "0", SIGALRM},  {"overflow", "0", SIGSEGV},
        {"null", "0", SIGSEGV},
    };
    for (uint32_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        launch_start(launcher, i + 1, ways[i].what, ways[i].how, -1, namespaces);
        (void)launch_expect(launcher, SRI_LAUNCH_STARTED, i + 1);
        expect_end(i + 1, SRI_LAUNCH_END_SIGNAL, ways[i].signal);
    }
}

CASE(launcher_ends, each_signal_ends_a_worker_as_what_it_is, set_up, tear_down) {
    each_signal_as_what_it_is(0);
}

CASE(launcher_ends, each_signal_ends_a_worker_with_an_init_as_what_it_is, set_up_pid_namespace,
     tear_down) {
    each_signal_as_what_it_is(launch_pid_namespace());
}

static void killed_by(uint32_t signal, uint32_t namespaces) {
    uint32_t serial = 0;
    launch_start(launcher, 7, "wait", "", tell.in, namespaces);
    (void)launch_expect(launcher, SRI_LAUNCH_STARTED, 7);
    cr_assert_str_eq(launch_pipe_line(&tell), "here\n");
    check_code(sri_launcher_kill(launcher, 7, signal, &serial), 0);
    const struct sri_launch_event killed = launch_expect(launcher, SRI_LAUNCH_KILLED, 7);
    cr_assert_eq(killed.header.serial, serial);
    check_code(killed.code, 0);
    expect_end(7, SRI_LAUNCH_END_SIGNAL, signal);
}

CASE(launcher_ends, a_host_ends_a_worker_with_the_signal_that_it_chose, set_up, tear_down) {
    killed_by(SIGKILL, 0);
    killed_by(SIGTERM, 0);
}

CASE(launcher_ends, a_host_ends_a_worker_with_an_init_with_the_signal_that_it_chose,
     set_up_pid_namespace, tear_down) {
    killed_by(SIGKILL, launch_pid_namespace());
    killed_by(SIGTERM, launch_pid_namespace());
}

CASE(launcher_ends, an_init_that_was_killed_is_told_as_that, set_up_pid_namespace, tear_down) {
    launch_start(launcher, 1, "wait", "", tell.in, launch_pid_namespace());
    const struct sri_launch_event started = launch_expect(launcher, SRI_LAUNCH_STARTED, 1);
    cr_assert_eq(kill(launch_parent_of(started.pid), SIGKILL), 0);
    expect_end(1, SRI_LAUNCH_END_INIT, SIGKILL);
    cr_assert(launch_pipe_ends(&tell), "the worker is still there");
}

CASE(launcher_ends, time_and_memory_that_a_worker_used_are_told, set_up, tear_down) {
    launch_start(launcher, 1, "use", "100", -1, 0);
    (void)launch_expect(launcher, SRI_LAUNCH_STARTED, 1);
    const struct sri_launch_event exited = launch_expect(launcher, SRI_LAUNCH_EXITED, 1);
    cr_assert(exited.cpu_ns >= 90000000 && exited.cpu_ns < UINT64_C(20000000000), "%llu",
              (unsigned long long)exited.cpu_ns);
    cr_assert(exited.resident_max_bytes >= 64u << 20 && exited.resident_max_bytes < (uint64_t)256
                                                                                        << 20,
              "%llu", (unsigned long long)exited.resident_max_bytes);
}

CASE(launcher_ends, time_that_a_worker_used_is_told_through_an_init, set_up_pid_namespace,
     tear_down) {
    launch_start(launcher, 1, "use", "100", -1, launch_pid_namespace());
    (void)launch_expect(launcher, SRI_LAUNCH_STARTED, 1);
    const struct sri_launch_event exited = launch_expect(launcher, SRI_LAUNCH_EXITED, 1);
    cr_assert(exited.cpu_ns >= 90000000);
    cr_assert(exited.resident_max_bytes >= 64u << 20);
}

/* ---- what a worker gets ---------------------------------------------------------------------- */

static struct sri_launch_plan plan_of(const char *const *arguments) {
    struct sri_launch_plan plan = SRI_LAUNCH_PLAN_INIT;
    plan.path = launch_worker_path();
    plan.arguments = arguments;
    plan.fds[plan.fd_count++] = (struct sri_launch_fd){tell.in, LAUNCH_TELL_FD};
    return plan;
}

/* What a worker of this plan tells. */
static const char *told_by(const struct sri_launch_plan *plan) {
    check_code(sri_launcher_start(launcher, 1, plan, NULL), 0);
    (void)launch_expect(launcher, SRI_LAUNCH_STARTED, 1);
    expect_end(1, SRI_LAUNCH_END_EXIT, 0);
    return launch_pipe_all(&tell);
}

static bool has_line(const char *text, const char *line) {
    const size_t length = strlen(line);
    for (const char *at = text; at != NULL && *at != '\0'; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, line, length) == 0 && (at[length] == '\n' || at[length] == '\0')) {
            return true;
        }
    }
    return false;
}

static void expect_line(const char *text, const char *line) {
    cr_assert(has_line(text, line), "no line '%s' in:\n%s", line, text);
}

CASE(launcher_gives, exactly_the_descriptors_of_the_plan, set_up, tear_down) {
    const char *const arguments[] = {"worker", "fds", NULL};
    struct sri_launch_plan plan = plan_of(arguments);
    int other = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cr_assert(other >= 0);
    plan.fds[plan.fd_count++] = (struct sri_launch_fd){other, SRI_LAUNCH_FD_NUMBER_MAX};
    const char *told = told_by(&plan);
    cr_assert_str_eq(told, "0 /dev/null\n1 /dev/null\n2 /dev/null\n5 -\n1023 -\n");
    cr_assert_eq(close(other), 0);
}

/* ---- numbers that are in use: for the socket, what was received, the channels ---- */

#define CROWD 20u

/* Descriptors for all numbers from @first to CROWD - 1 in descending order, each a pipe of its own,
 * but for the one that tells. */
static void add_crowd(struct sri_launch_plan *plan, struct launch_pipe *pipes, uint32_t first) {
    for (uint32_t number = CROWD; number-- > first;) {
        pipes[number] = launch_pipe_open();
        if (number != LAUNCH_TELL_FD) {
            plan->fds[plan->fd_count++] = (struct sri_launch_fd){pipes[number].in, number};
        }
    }
}

static void drop_crowd(struct launch_pipe *pipes, uint32_t first) {
    for (uint32_t number = first; number < CROWD; number++) {
        launch_pipe_close(&pipes[number]);
    }
}

static void check_crowd(const struct launch_pipe *pipes, uint32_t first, const char *told) {
    for (uint32_t number = first; number < CROWD; number++) {
        char line[64];
        struct stat status;
        cr_assert_eq(fstat(number == LAUNCH_TELL_FD ? tell.out : pipes[number].in, &status), 0);
        (void)snprintf(line, sizeof line, "%u is %llu", number, (unsigned long long)status.st_ino);
        expect_line(told, line);
    }
    cr_assert_null(strstr(told, "20 is"));
}

CASE(launcher_gives, descriptors_whose_numbers_are_in_use, set_up, tear_down) {
    const char *const arguments[] = {"worker", "inodes", NULL};
    struct launch_pipe pipes[CROWD];
    struct sri_launch_plan plan = plan_of(arguments);
    add_crowd(&plan, pipes, 0);
    check_crowd(pipes, 0, told_by(&plan));
    drop_crowd(pipes, 0);
}

CASE(launcher_gives, a_program_whose_descriptor_has_a_number_that_is_in_use, set_up, tear_down) {
    const char *const arguments[] = {"worker", "inodes", NULL};
    struct launch_pipe pipes[CROWD];
    struct sri_launch_plan plan = plan_of(arguments);
    plan.path = NULL;
    plan.program_fd = open(launch_worker_path(), O_RDONLY | O_CLOEXEC);
    add_crowd(&plan, pipes, 3);
    check_crowd(pipes, 3, told_by(&plan));
    drop_crowd(pipes, 3);
    cr_assert_eq(close(plan.program_fd), 0);
}

CASE(launcher_gives, exactly_the_arguments_and_variables_of_the_plan, set_up, tear_down) {
    const char *const arguments[] = {"worker", "strings", "", "an argument", NULL};
    const char *const variables[] = {"ONE=1", "EMPTY=", "EQUALS=a=b", NULL};
    cr_assert_eq(setenv("HOST_SECRET", "password", 1), 0);
    struct sri_launch_plan plan = plan_of(arguments);
    plan.variables = variables;
    cr_assert_str_eq(told_by(&plan), "worker\nstrings\n\nan argument\nONE=1\nEMPTY=\nEQUALS=a=b\n");
}

CASE(launcher_gives, no_variable_where_the_plan_has_none, set_up, tear_down) {
    const char *const arguments[] = {"worker", "strings", NULL};
    cr_assert_eq(setenv("HOST_SECRET", "password", 1), 0);
    const struct sri_launch_plan plan = plan_of(arguments);
    cr_assert_str_eq(told_by(&plan), "worker\nstrings\n");
}

CASE(launcher_gives, directory_mask_and_limits_of_the_policy, set_up, tear_down) {
    const char *const arguments[] = {"worker", "self", NULL};
    struct sri_launch_plan plan = plan_of(arguments);
    struct sri_sandbox_policy policy = launch_policy(SRI_SANDBOX_BIT(LIMITS), 0);
    plan.policy = &policy;
    (void)strcpy(policy.directory, "/proc");
    policy.umask = 027;
    policy.cpu_s = 7;
    policy.files_max = 33;
    const char *told = told_by(&plan);
    expect_line(told, "directory /proc");
    expect_line(told, "mask 027");
    expect_line(told, "cpu 7 8"); /* a second between SIGXCPU and SIGKILL */
    expect_line(told, "files 33");
}

CASE(launcher_gives, what_the_host_has_of_limits_where_the_plan_says_nothing, set_up, tear_down) {
    const char *const arguments[] = {"worker", "self", NULL};
    struct rlimit files;
    char line[64];
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = 256; /* below the hard limit, which the launcher goes up to for itself */
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
    launch_close(&launcher);
    launcher = launch_open();
    const struct sri_launch_plan plan = plan_of(arguments);
    const char *told = told_by(&plan);
    (void)snprintf(line, sizeof line, "files %llu", (unsigned long long)files.rlim_cur);
    expect_line(told, line);
    expect_line(told, "directory /");
    expect_line(told, "mask 022");
}

CASE(launcher_gives, a_session_and_no_way_to_more_privileges, set_up, tear_down) {
    const char *const arguments[] = {"worker", "self", NULL};
    const struct sri_launch_plan plan = plan_of(arguments);
    const char *told = told_by(&plan);
    expect_line(told, "leads 1");
    expect_line(told, "privileges 1");
}

/* As the BEAM does, and as a program with a signal thread does. */
CASE(launcher_gives, default_signals_whatever_the_host_does_with_its_own, set_up, tear_down) {
    const char *const arguments[] = {"worker", "self", NULL};
    sigset_t all;
    cr_assert_neq(signal(SIGCHLD, SIG_IGN), SIG_ERR);
    cr_assert_neq(signal(SIGTERM, SIG_IGN), SIG_ERR);
    cr_assert_eq(sigfillset(&all), 0);
    cr_assert_eq(sigprocmask(SIG_SETMASK, &all, NULL), 0);
    launch_close(&launcher);
    launcher = launch_open();
    const struct sri_launch_plan plan = plan_of(arguments);
    const char *told = told_by(&plan);
    expect_line(told, "SigBlk:\t0000000000000000");
    expect_line(told, "SigIgn:\t0000000000000000");
    expect_line(told, "SigCgt:\t0000000000000000");
}

CASE(launcher_gives, the_user_that_the_host_is_also_in_a_user_namespace, set_up, tear_down) {
    const char *const arguments[] = {"worker", "self", NULL};
    char line[64];
    struct sri_launch_plan plan = plan_of(arguments);
    const struct sri_sandbox_policy policy = launch_policy(ALL_NAMESPACES, 0);
    plan.policy = &policy;
    check_code(sri_launcher_start(launcher, 1, &plan, NULL), 0);
    const struct sri_launch_event started = launch_expect(launcher, SRI_LAUNCH_STARTED, 1);
    const struct sri_sandbox_layer_report *user =
        &started.report.layers[SRI_SANDBOX_USER_NAMESPACE];
    if (user->state != SRI_SANDBOX_HOLDS) {
        cr_skip_test("user namespaces are not permitted here (%s)", sr_error_name(user->code));
    }
    cr_assert_eq(held_of(&started), ALL_NAMESPACES);
    expect_end(1, SRI_LAUNCH_END_EXIT, 0);
    (void)snprintf(line, sizeof line, "user %u", geteuid());
    expect_line(launch_pipe_all(&tell), line);
}

CASE(launcher_gives, a_program_that_was_passed_as_a_descriptor, set_up, tear_down) {
    const char *const arguments[] = {"worker", "fds", NULL};
    struct sri_launch_plan plan = plan_of(arguments);
    plan.path = NULL;
    plan.program_fd = open(launch_worker_path(), O_RDONLY | O_CLOEXEC);
    cr_assert(plan.program_fd >= 0);
    cr_assert_str_eq(told_by(&plan), "0 /dev/null\n1 /dev/null\n2 /dev/null\n5 -\n");
    cr_assert_eq(close(plan.program_fd), 0);
}

CASE(launcher_gives, a_pidfd_that_means_the_worker_itself, set_up_pid_namespace, tear_down) {
    const uint32_t ways[] = {0, launch_pid_namespace()};
    for (uint32_t i = 0; i < 2; i++) {
        int pidfd = -1;
        launch_start(launcher, 1, "wait", "", tell.in, ways[i]);
        const struct sri_launch_event started = launch_next(launcher, &pidfd);
        cr_assert_eq(started.header.kind, SRI_LAUNCH_STARTED);
        cr_assert(pidfd >= 0);
        cr_assert_eq(held_of(&started), ways[i]);
        cr_assert_str_eq(launch_pipe_line(&tell), "here\n");
        cr_assert_eq(kill(started.pid, 0), 0, "the pid is not one that the host can see");
        cr_assert_not(sri_process_ends_within(pidfd, 0));
        check_code(sri_process_signal(pidfd, SIGINT), 0);
        expect_end(1, SRI_LAUNCH_END_SIGNAL, SIGINT);
        cr_assert(sri_process_ends_within(pidfd, 0));
        cr_assert_eq(close(pidfd), 0);
    }
}

/* ---- starts that fail ------------------------------------------------------------------------ */

static struct sri_launch_event expect_failure(const struct sri_launch_plan *plan,
                                              enum sri_launch_step step, int code) {
    uint32_t serial = 0;
    check_code(sri_launcher_start(launcher, 3, plan, &serial), 0);
    const struct sri_launch_event failed = launch_expect(launcher, SRI_LAUNCH_START_FAILED, 3);
    cr_assert_eq(failed.step, step, "step %u, expected %u", failed.step, step);
    cr_assert_eq(failed.header.serial, serial);
    check_code(failed.code, code);
    return failed;
}

static void starts_that_fail(uint32_t namespaces) {
    const char *const arguments[] = {"worker", "exit", "0", NULL};
    struct sri_launch_plan plan = plan_of(arguments);
    struct sri_sandbox_policy policy = launch_policy(namespaces, namespaces);
    plan.policy = &policy;
    plan.path = "/nowhere/worker";
    (void)expect_failure(&plan, SRI_LAUNCH_STEP_EXEC, -ENOENT);
    plan.path = "/proc";
    (void)expect_failure(&plan, SRI_LAUNCH_STEP_EXEC, -EACCES);
    plan.path = "/proc/self/status";
    (void)expect_failure(&plan, SRI_LAUNCH_STEP_EXEC, -EACCES);
    plan.path = launch_worker_path();
    (void)strcpy(policy.directory, "/nowhere");
    const struct sri_launch_event failed = expect_failure(&plan, SRI_LAUNCH_STEP_SANDBOX, -ENOENT);
    cr_assert_eq(failed.report.failed_layer, SRI_SANDBOX_SURROUNDINGS);
    check_code(failed.report.layers[SRI_SANDBOX_SURROUNDINGS].code, -ENOENT);
    cr_assert_eq(held_of(&failed), namespaces, "what holds by then is told all the same");
}

CASE(launcher_fails, a_start_with_its_step_and_code, set_up, tear_down) {
    starts_that_fail(0);
}

CASE(launcher_fails, a_start_in_a_pid_namespace_with_its_step_and_code, set_up_pid_namespace,
     tear_down) {
    starts_that_fail(launch_pid_namespace());
}

/* The failure must be told over the channel, not over what now has the channel's number. */
CASE(launcher_fails, a_start_whose_descriptors_have_the_numbers_of_the_channels, set_up,
     tear_down) {
    const char *const arguments[] = {"worker", "exit", "0", NULL};
    struct launch_pipe pipes[CROWD];
    struct sri_launch_plan plan = plan_of(arguments);
    plan.path = "/nowhere/worker";
    add_crowd(&plan, pipes, 0);
    (void)expect_failure(&plan, SRI_LAUNCH_STEP_EXEC, -ENOENT);
    drop_crowd(pipes, 0);
}

CASE(launcher_fails, plans_that_make_no_sense_before_they_are_sent, set_up, tear_down) {
    const char *const arguments[] = {"worker", NULL};
    const char *const bad[] = {"NO EQUALS", NULL};
    struct sri_launch_plan plan = plan_of(arguments);
    check_code(sri_launcher_start(launcher, 0, &plan, NULL), -EINVAL);
    plan.path = "worker";
    check_code(sri_launcher_start(launcher, 1, &plan, NULL), -EINVAL);
    plan.path = NULL;
    check_code(sri_launcher_start(launcher, 1, &plan, NULL), -EINVAL);
    plan = plan_of(arguments);
    plan.variables = bad;
    check_code(sri_launcher_start(launcher, 1, &plan, NULL), -EINVAL);
    plan = plan_of(arguments);
    plan.fds[plan.fd_count++] = plan.fds[0];
    check_code(sri_launcher_start(launcher, 1, &plan, NULL), -EINVAL);
    plan = plan_of(arguments);
    const struct sri_sandbox_policy policy =
        launch_policy(0, SRI_SANDBOX_BIT(PID_NAMESPACE)); /* required and not asked for */
    plan.policy = &policy;
    check_code(sri_launcher_start(launcher, 1, &plan, NULL), -EINVAL);
    cr_assert_eq(launcher->worker_count, 0);
}

CASE(launcher_fails, arguments_that_no_message_holds, set_up, tear_down) {
    static char large[SRI_LAUNCH_MESSAGE_MAX];
    const char *const arguments[] = {"worker", "exit", "0", large, NULL};
    struct sri_launch_plan plan = plan_of(arguments);
    memset(large, 'a', sizeof large - 1);
    check_code(sri_launcher_start(launcher, 1, &plan, NULL), -E2BIG);
    /* And the largest that one does hold. */
    const size_t rest = sizeof(struct sri_launch_start) + strlen(plan.path) + 1 + sizeof "worker" +
                        sizeof "exit" + sizeof "0" + 1;
    large[SRI_LAUNCH_MESSAGE_MAX - rest] = '\0';
    check_code(sri_launcher_start(launcher, 1, &plan, NULL), 0);
    (void)launch_expect(launcher, SRI_LAUNCH_STARTED, 1);
    expect_end(1, SRI_LAUNCH_END_EXIT, 0);
    large[SRI_LAUNCH_MESSAGE_MAX - rest] = 'a';
    large[SRI_LAUNCH_MESSAGE_MAX - rest + 1] = '\0';
    check_code(sri_launcher_start(launcher, 1, &plan, NULL), -E2BIG);
}

CASE(launcher_fails, an_id_that_is_in_use_and_a_worker_that_is_not, set_up, tear_down) {
    const char *const arguments[] = {"worker", "wait", NULL};
    const struct sri_launch_plan plan = plan_of(arguments);
    check_code(sri_launcher_kill(launcher, 9, SIGKILL, NULL), SR_E_STALE);
    check_code(sri_launcher_start(launcher, 9, &plan, NULL), 0);
    check_code(sri_launcher_start(launcher, 9, &plan, NULL), SR_E_STATE);
    (void)launch_expect(launcher, SRI_LAUNCH_STARTED, 9);
    check_code(sri_launcher_start(launcher, 9, &plan, NULL), SR_E_STATE);
    check_code(sri_launcher_kill(launcher, 9, 0, NULL), SR_E_BOUNDS);
    check_code(sri_launcher_kill(launcher, 9, 65, NULL), SR_E_BOUNDS);
    check_code(sri_launcher_kill(launcher, 9, SIGKILL, NULL), 0);
    (void)launch_expect(launcher, SRI_LAUNCH_KILLED, 9);
    expect_end(9, SRI_LAUNCH_END_SIGNAL, SIGKILL);
    check_code(sri_launcher_kill(launcher, 9, SIGKILL, NULL), SR_E_STALE);
    launch_start(launcher, 9, "exit", "4", -1, 0);
    (void)launch_expect(launcher, SRI_LAUNCH_STARTED, 9);
    expect_end(9, SRI_LAUNCH_END_EXIT, 4);
}

/* A namespace that an ordinary user cannot have without a user namespace. */
static void become_ordinary(void) {
    if (geteuid() == 0) {
        cr_assert_eq(setresgid(65534, 65534, 65534), 0);
        cr_assert_eq(setresuid(65534, 65534, 65534), 0);
        (void)prctl(PR_SET_DUMPABLE, 1); /* LeakSanitizer looks at its own process */
    }
    if (access(launch_launcher_path(), X_OK) != 0 || access(launch_worker_path(), X_OK) != 0) {
        cr_skip_test("the build lies where nobody may not look");
    }
    set_up();
}

CASE(launcher_namespaces, that_are_only_wanted_are_missing_and_that_is_said, become_ordinary,
     tear_down) {
    const char *const arguments[] = {"worker", "self", NULL};
    struct sri_launch_plan plan = plan_of(arguments);
    const struct sri_sandbox_policy policy =
        launch_policy(SRI_SANDBOX_BIT(PID_NAMESPACE) | SRI_SANDBOX_BIT(NETWORK_NAMESPACE), 0);
    plan.policy = &policy;
    check_code(sri_launcher_start(launcher, 1, &plan, NULL), 0);
    const struct sri_launch_event started = launch_expect(launcher, SRI_LAUNCH_STARTED, 1);
    cr_assert_eq(held_of(&started), 0);
    check_code(started.report.layers[SRI_SANDBOX_PID_NAMESPACE].code, -EPERM);
    check_code(started.report.layers[SRI_SANDBOX_NETWORK_NAMESPACE].code, -EPERM);
    expect_end(1, SRI_LAUNCH_END_EXIT, 0);
}

CASE(launcher_namespaces, that_are_required_end_the_start, become_ordinary, tear_down) {
    const char *const arguments[] = {"worker", "self", NULL};
    struct sri_launch_plan plan = plan_of(arguments);
    const struct sri_sandbox_policy policy =
        launch_policy(SRI_SANDBOX_BIT(PID_NAMESPACE) | SRI_SANDBOX_BIT(NETWORK_NAMESPACE),
                      SRI_SANDBOX_BIT(NETWORK_NAMESPACE));
    plan.policy = &policy;
    (void)expect_failure(&plan, SRI_LAUNCH_STEP_FORK, -EPERM);
}

/* ---- what is left behind --------------------------------------------------------------------- */

static void descendants_end_with(uint32_t namespaces, const char *what) {
    launch_start(launcher, 1, what, "0", tell.in, namespaces);
    (void)launch_expect(launcher, SRI_LAUNCH_STARTED, 1);
    if (strcmp(what, "descendants") == 0) {
        cr_assert_str_eq(launch_pipe_line(&tell), "grandchild\n");
        check_code(sri_launcher_kill(launcher, 1, SIGKILL, NULL), 0);
        (void)launch_expect(launcher, SRI_LAUNCH_KILLED, 1);
    }
    (void)launch_expect(launcher, SRI_LAUNCH_EXITED, 1);
    cr_assert(launch_pipe_ends(&tell), "a process of the worker is still there");
}

CASE(launcher_leaves, no_descendant_of_a_worker_that_was_killed, set_up, tear_down) {
    descendants_end_with(0, "descendants");
}

CASE(launcher_leaves, no_descendant_of_a_worker_that_left, set_up, tear_down) {
    descendants_end_with(0, "leave");
}

CASE(launcher_leaves, no_descendant_in_a_pid_namespace, set_up_pid_namespace, tear_down) {
    descendants_end_with(launch_pid_namespace(), "descendants");
}

/* A launcher that is stopped when the end has been told kills nobody any more. */
CASE(launcher_leaves, no_process_of_the_group_when_the_end_is_told, set_up, tear_down) {
    launch_start(launcher, 1, "group", "", tell.in, 0);
    (void)launch_expect(launcher, SRI_LAUNCH_STARTED, 1);
    cr_assert_str_eq(launch_pipe_line(&tell), "child\n");
    check_code(sri_launcher_kill(launcher, 1, SIGKILL, NULL), 0);
    (void)launch_expect(launcher, SRI_LAUNCH_KILLED, 1);
    expect_end(1, SRI_LAUNCH_END_SIGNAL, SIGKILL);
    cr_assert_eq(kill(launcher->launcher, SIGSTOP), 0);
    const bool is_gone = launch_pipe_ends(&tell);
    cr_assert_eq(kill(launcher->launcher, SIGCONT), 0); /* before anything fails: it would stay */
    cr_assert(is_gone, "a process of the group is still there");
}

CASE(launcher_leaves, the_descendants_of_workers_that_live, set_up, tear_down) {
    struct launch_pipe other = launch_pipe_open();
    launch_start(launcher, 1, "wait", "", tell.in, 0);
    (void)launch_expect(launcher, SRI_LAUNCH_STARTED, 1);
    launch_start(launcher, 2, "descendants", "", other.in, 0);
    (void)launch_expect(launcher, SRI_LAUNCH_STARTED, 2);
    cr_assert_str_eq(launch_pipe_line(&other), "grandchild\n");
    check_code(sri_launcher_kill(launcher, 1, SIGKILL, NULL), 0);
    (void)launch_expect(launcher, SRI_LAUNCH_KILLED, 1);
    expect_end(1, SRI_LAUNCH_END_SIGNAL, SIGKILL);
    cr_assert(launch_pipe_ends(&tell));
    /* The other worker is there, and so it can be told to end. */
    check_code(sri_launcher_kill(launcher, 2, SIGTERM, NULL), 0);
    (void)launch_expect(launcher, SRI_LAUNCH_KILLED, 2);
    expect_end(2, SRI_LAUNCH_END_SIGNAL, SIGTERM);
    cr_assert(launch_pipe_ends(&other));
    launch_pipe_close(&other);
}

CASE(launcher_leaves, nothing_when_it_is_destroyed, set_up, tear_down) {
    launch_start(launcher, 1, "descendants", "", tell.in, 0);
    cr_assert_str_eq(launch_pipe_line(&tell), "grandchild\n");
    launch_close(&launcher);
    cr_assert(launch_pipe_ends(&tell));
    launcher = launch_open();
}

static void lost_when_killed(int32_t pid, uint32_t namespaces) {
    const char *const arguments[] = {"worker", "descendants", NULL};
    struct sri_launch_plan plan = plan_of(arguments);
    struct sri_launch_event event;
    int pidfd = -1;
    const struct sri_sandbox_policy policy = launch_policy(namespaces, namespaces);
    plan.policy = &policy;
    check_code(sri_launcher_start(launcher, 1, &plan, NULL), 0);
    (void)launch_expect(launcher, SRI_LAUNCH_STARTED, 1);
    cr_assert_str_eq(launch_pipe_line(&tell), "grandchild\n");
    cr_assert_eq(kill(pid, SIGKILL), 0);
    check_code(launch_expect(launcher, SRI_LAUNCH_LOST, 0).code, SR_E_PEER_DIED);
    expect_end(1, SRI_LAUNCH_END_LOST, 0);
    check_code(sri_launcher_receive(launcher, &event, &pidfd), SR_E_PEER_DIED);
    check_code(sri_launcher_start(launcher, 2, &plan, NULL), SR_E_PEER_DIED);
    check_code(sri_launcher_kill(launcher, 1, SIGKILL, NULL), SR_E_PEER_DIED);
    cr_assert(launch_pipe_ends(&tell), "a process of the worker is still there");
}

CASE(launcher_lost, a_killed_launcher_takes_its_workers_with_it, set_up, tear_down) {
    lost_when_killed(launcher->launcher, 0);
}

CASE(launcher_lost, a_killed_launcher_takes_pid_namespaces_with_it, set_up_pid_namespace,
     tear_down) {
    lost_when_killed(launcher->launcher, launch_pid_namespace());
}

CASE(launcher_lost, a_killed_keeper_takes_all_with_it, set_up, tear_down) {
    lost_when_killed(launcher->keeper, 0);
}

/* Nobody is left to kill anything then but the kernel. */
CASE(launcher_lost, a_worker_does_not_outlive_launcher_and_keeper, set_up, tear_down) {
    launch_start(launcher, 1, "wait", "", tell.in, 0);
    (void)launch_expect(launcher, SRI_LAUNCH_STARTED, 1);
    cr_assert_str_eq(launch_pipe_line(&tell), "here\n");
    cr_assert_eq(kill(launcher->launcher, SIGSTOP), 0);
    cr_assert_eq(kill(launcher->keeper, SIGKILL), 0);
    cr_assert_eq(kill(launcher->launcher, SIGKILL), 0);
    (void)launch_expect(launcher, SRI_LAUNCH_LOST, 0);
    expect_end(1, SRI_LAUNCH_END_LOST, 0);
    cr_assert(launch_pipe_ends(&tell), "the worker is still there");
}

CASE(launcher_lost, starts_that_nobody_answered_have_failed, set_up, tear_down) {
    const char *const arguments[] = {"worker", "wait", NULL};
    const struct sri_launch_plan plan = plan_of(arguments);
    cr_assert_eq(kill(launcher->launcher, SIGSTOP), 0);
    check_code(sri_launcher_start(launcher, 5, &plan, NULL), 0);
    cr_assert_eq(kill(launcher->launcher, SIGKILL), 0);
    (void)launch_expect(launcher, SRI_LAUNCH_LOST, 0);
    const struct sri_launch_event failed = launch_expect(launcher, SRI_LAUNCH_START_FAILED, 5);
    cr_assert_eq(failed.step, SRI_LAUNCH_STEP_LAUNCHER);
    check_code(failed.code, SR_E_PEER_DIED);
}

CASE(launcher_lost, a_launcher_that_hangs_is_killed_when_its_time_is_over, set_up, tear_down) {
    launch_start(launcher, 1, "descendants", "", tell.in, 0);
    cr_assert_str_eq(launch_pipe_line(&tell), "grandchild\n");
    cr_assert_eq(kill(launcher->launcher, SIGSTOP), 0);
    launcher->timeout_ns = 50000000;
    launch_close(&launcher);
    cr_assert(launch_pipe_ends(&tell));
    launcher = launch_open();
}

/* ---- hosts ----------------------------------------------------------------------------------- */

/* Lives until the test closes its end of @life. */
static _Noreturn void be_a_child_with_the_socket(const struct launch_pipe *life) {
    char byte = 0;
    (void)close(tell.in);
    (void)close(life->in);
    (void)!read(life->out, &byte, 1);
    _exit(0);
}

/* In a process of its own: a host with a worker; says "grandchild" and waits to be killed. */
static pid_t start_host(const struct launch_pipe *life) {
    const pid_t host = fork();
    if (host == 0) {
        launcher = launch_open();
        launch_start(launcher, 1, "descendants", "", tell.in, 0);
        (void)launch_expect(launcher, SRI_LAUNCH_STARTED, 1);
        if (life != NULL && fork() == 0) {
            be_a_child_with_the_socket(life);
        }
        (void)close(tell.in);
        (void)pause();
        _exit(0);
    }
    return host;
}

static void killed_host(const struct launch_pipe *life) {
    tell = launch_pipe_open();
    const pid_t host = start_host(life);
    cr_assert_str_eq(launch_pipe_line(&tell), "grandchild\n");
    cr_assert_eq(kill(host, SIGKILL), 0);
    cr_assert_eq(waitpid(host, NULL, 0), host);
    cr_assert(launch_pipe_ends(&tell), "processes outlive their host");
    launch_pipe_close(&tell);
}

Test(launcher_host, that_is_killed_leaves_nothing) {
    killed_host(NULL);
}

Test(launcher_host, that_is_killed_leaves_nothing_although_a_child_has_its_socket) {
    struct launch_pipe life = launch_pipe_open();
    killed_host(&life);
    launch_pipe_close(&life);
}

CASE(launcher_host, that_forks_refuses_the_child, set_up, tear_down) {
    const char *const arguments[] = {"worker", "wait", NULL};
    const struct sri_launch_plan plan = plan_of(arguments);
    int status = 0;
    const pid_t child = fork();
    if (child == 0) {
        struct sri_launch_event event;
        int pidfd = -1;
        const bool is_refused = sri_launcher_start(launcher, 1, &plan, NULL) == SR_E_FORKED &&
                                sri_launcher_kill(launcher, 1, SIGKILL, NULL) == SR_E_FORKED &&
                                sri_launcher_receive(launcher, &event, &pidfd) == SR_E_FORKED &&
                                sri_launcher_fd(launcher) == SR_E_FORKED &&
                                sri_launcher_destroy(&launcher) == 0;
        _exit(is_refused ? 0 : 1);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    launch_start(launcher, 1, "exit", "3", -1, 0); /* the parent's is as it was */
    (void)launch_expect(launcher, SRI_LAUNCH_STARTED, 1);
    expect_end(1, SRI_LAUNCH_END_EXIT, 3);
}

static void *open_in_thread(void *ctx) {
    *(struct sri_launcher **)ctx = launch_open();
    return NULL;
}

Test(launcher_host, whose_spawning_thread_has_ended_goes_on) {
    pthread_t thread;
    cr_assert_neq(signal(SIGCHLD, SIG_IGN), SIG_ERR);
    cr_assert_eq(pthread_create(&thread, NULL, open_in_thread, &launcher), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    tell = launch_pipe_open();
    launch_start(launcher, 1, "wait", "", tell.in, 0);
    (void)launch_expect(launcher, SRI_LAUNCH_STARTED, 1);
    cr_assert_str_eq(launch_pipe_line(&tell), "here\n");
    check_code(sri_launcher_kill(launcher, 1, SIGKILL, NULL), 0);
    (void)launch_expect(launcher, SRI_LAUNCH_KILLED, 1);
    expect_end(1, SRI_LAUNCH_END_SIGNAL, SIGKILL);
    tear_down();
}

/* Then socket, pidfd and pipe have the numbers that the launcher wants to give. */
Test(launcher_host, without_standard_descriptors_is_served) {
    int status = 0;
    const pid_t host = fork();
    if (host == 0) {
        (void)close(0);
        (void)close(1);
        (void)close(2);
        launcher = launch_open();
        tell = launch_pipe_open();
        launch_start(launcher, 1, "fds", "", tell.in, 0);
        (void)launch_expect(launcher, SRI_LAUNCH_STARTED, 1);
        (void)launch_expect(launcher, SRI_LAUNCH_EXITED, 1);
        const bool is_right =
            strcmp(launch_pipe_all(&tell), "0 /dev/null\n1 /dev/null\n2 /dev/null\n5 -\n") == 0;
        launch_close(&launcher);
        _exit(is_right ? 0 : 1);
    }
    cr_assert_eq(waitpid(host, &status, 0), host);
    cr_assert_eq(status, 0);
}

Test(launcher_host, at_its_limit_of_descriptors_gets_a_code_and_keeps_nothing) {
    static struct baseline before;
    struct rlimit limit;
    struct rlimit small;
    launcher = launch_open();
    launch_close(&launcher);
    baseline_take(&before);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    const int lowest = dup(0); /* the lowest free number */
    cr_assert_eq(close(lowest), 0);
    int code = -EMFILE;
    uint32_t failures = 0;
    for (uint32_t room = 0; code != 0; room++) {
        const struct sri_launcher_options options = {.path = launch_launcher_path()};
        small = limit;
        small.rlim_cur = (rlim_t)lowest + room;
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &small), 0);
        code = sri_launcher_create(&options, &launcher);
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        if (code != 0) {
            check_code(code, -EMFILE);
            cr_assert_null(launcher);
            const char *difference = baseline_difference(&before);
            cr_assert_null(difference, "with room for %u: %s", room, difference);
            failures++;
        }
    }
    cr_assert(failures >= 4, "the limit was met %u times only", failures);
    launch_close(&launcher);
    cr_assert_null(baseline_difference(&before));
}

Test(launcher_host, without_a_launcher_gets_a_code_and_keeps_nothing) {
    static struct baseline before;
    struct sri_launcher_options options = {.path = launch_launcher_path(), .timeout_ns = 200000000};
    launcher = launch_open();
    launch_close(&launcher);
    baseline_take(&before);
    options.path = "/nowhere/launcher";
    check_code(sri_launcher_create(&options, &launcher), -ENOENT);
    options.path = "/proc";
    check_code(sri_launcher_create(&options, &launcher), -EACCES);
    options.path = "/bin/true"; /* ends without a word */
    check_code(sri_launcher_create(&options, &launcher), SR_E_PEER_DIED);
    options.path = launch_worker_path(); /* lives, and says nothing */
    check_code(sri_launcher_create(&options, &launcher), SR_E_TIMEOUT);
    cr_assert_null(launcher);
    const char *difference = baseline_difference(&before);
    cr_assert_null(difference, "%s", difference);
    check_code(waitpid(-1, NULL, WNOHANG) < 0 ? -errno : 0, -ECHILD);
}

Test(launcher_host, finds_the_launcher_by_a_variable) {
    char path[4096];
    (void)snprintf(path, sizeof path, "%s", launch_launcher_path());
    cr_assert_eq(setenv("SAFERING_LAUNCHER", "/nowhere/else", 1), 0);
    check_code(sri_launcher_create(NULL, &launcher), -ENOENT);
    cr_assert_eq(setenv("SAFERING_LAUNCHER", path, 1), 0);
    check_code(sri_launcher_create(NULL, &launcher), 0);
    launch_close(&launcher);
}

Test(launcher_host, refuses_what_is_no_launcher) {
    struct sri_launch_event event;
    int pidfd = -1;
    check_code(sri_launcher_receive(NULL, &event, &pidfd), SR_E_OBJECT);
    check_code(sri_launcher_fd(NULL), SR_E_OBJECT);
    check_code(sri_launcher_kill(NULL, 1, 9, NULL), SR_E_OBJECT);
    check_code(sri_launcher_destroy(NULL), 0);
    launcher = NULL;
    check_code(sri_launcher_destroy(&launcher), 0);
}

/* ---- many ------------------------------------------------------------------------------------ */

#define MANY 100u

CASE(launcher_many, workers_at_once_are_kept_apart, set_up, tear_down) {
    uint32_t ended = 0;
    uint32_t started = 0;
    for (uint32_t i = 1; i <= MANY; i++) {
        launch_start(launcher, i, "wait", "", tell.in, 0);
    }
    for (uint32_t i = 1; i <= MANY; i++) {
        const struct sri_launch_event event = launch_next(launcher, NULL);
        cr_assert_eq(event.header.kind, SRI_LAUNCH_STARTED);
        started++;
    }
    for (uint32_t i = 1; i <= MANY; i++) {
        cr_assert_str_eq(launch_pipe_line(&tell), "here\n");
    }
    for (uint32_t i = 1; i <= MANY; i++) {
        check_code(sri_launcher_kill(launcher, i, i % 2 == 0 ? SIGKILL : SIGTERM, NULL), 0);
    }
    while (ended < MANY) {
        const struct sri_launch_event event = launch_next(launcher, NULL);
        if (event.header.kind == SRI_LAUNCH_EXITED) {
            const uint32_t signal = event.header.worker % 2 == 0 ? SIGKILL : SIGTERM;
            cr_assert_eq(event.status, signal);
            ended++;
        }
    }
    cr_assert_eq(started, MANY);
    cr_assert_eq(launcher->worker_count, 0);
    cr_assert(launch_pipe_ends(&tell));
}

static bool can_send(int fd, int timeout_ms) {
    struct pollfd one = {.fd = fd, .events = POLLOUT};
    return poll(&one, 1, timeout_ms) == 1;
}

/* The socket holds fewer events than this: the rest must wait in the launcher, which reads no
 * further request meanwhile, so that in the end the host cannot send either. */
CASE(launcher_many, events_wait_for_a_host_that_does_not_read, set_up, tear_down) {
    const char *const arguments[] = {"worker", "exit", "6", NULL};
    const struct sri_launch_plan plan = plan_of(arguments);
    const uint32_t fd_count = launch_fd_count(launcher->launcher);
    uint32_t started = 0;
    uint32_t ended = 0;
    uint32_t taken = 0;
    /* Where processes are slow there are fewer of them, and nothing has to wait. */
    const uint32_t most = (uint32_t)scale_count(SRI_LAUNCH_WORKERS_MAX, 100);
    while (taken < most) {
        const int code = sri_launcher_start(launcher, taken + 1, &plan, NULL);
        taken += code == 0;
        if (code != 0) {
            check_code(code, SR_E_FULL);
            if (!can_send(sri_launcher_fd(launcher), 2000)) {
                break;
            }
        }
    }
    fprintf(stderr, "%u workers before the launcher stopped to read\n", taken);
    cr_assert(taken >= 100 && (taken < most || most < SRI_LAUNCH_WORKERS_MAX), "%u", taken);
    while (ended < taken) {
        const struct sri_launch_event event = launch_next(launcher, NULL);
        started += event.header.kind == SRI_LAUNCH_STARTED;
        if (event.header.kind == SRI_LAUNCH_EXITED) {
            cr_assert(event.end == SRI_LAUNCH_END_EXIT && event.status == 6);
            ended++;
        }
    }
    cr_assert_eq(started, taken);
    cr_assert(launch_fd_count_becomes(launcher->launcher, fd_count));
}

/* As many as a launcher takes, and one more. */
CASE(launcher_many, workers_than_the_table_holds_are_refused, set_up, tear_down) {
    const char *const arguments[] = {"worker", "wait", NULL};
    const struct sri_launch_plan plan = plan_of(arguments);
    launcher->worker_count = SRI_LAUNCH_WORKERS_MAX;
    check_code(sri_launcher_start(launcher, 1, &plan, NULL), SR_E_FULL);
    launcher->worker_count = 0;
}
