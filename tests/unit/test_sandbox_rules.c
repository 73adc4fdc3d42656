/* SPDX-License-Identifier: MIT */
/*
 * For each line of worker/sandbox_rules.h a violator: it must succeed without a sandbox (the
 * control), end as the line says where its layer stands alone, and not succeed where all layers
 * stand.
 */
#include "worker/sandbox_rules.h"

#include "support/scale.h"
#include "unit/violators.h"

/* ---- the table ------------------------------------------------------------------------------- */

enum violator_flags {
    NO_PATHS = 1u << 0,
    NETWORK = 1u << 1,
    WHOLE_TREE = 1u << 2,     /* the policy's only path is / */
    AS_NOBODY = 1u << 3,      /* also if the test is root */
    MAY_BE_MISSING = 1u << 4, /* the control may fail on this machine, and then nothing is tested */
    NOT_UNDER_ASAN = 1u << 5, /* its allocator needs what the layer takes */
    LONG = 1u << 6            /* takes a second, and so is not repeated with all layers */
};

static const struct violator {
    jail_act *act;
    unsigned int flags;
} violators[SRI_SANDBOX_RULE_COUNT] = {
#define WHEN(rule, ...) [SRI_SANDBOX_RULE_##rule] = {__VA_ARGS__}
    WHEN(STRANGER_MEMORY, read_victim, MAY_BE_MISSING), /* Yama may forbid it */
    WHEN(HOST_LOOPBACK, connect_to_host, 0),
    WHEN(HOST_SEGMENT, look_at_segment, MAY_BE_MISSING), /* a kernel without System V */
    WHEN(HOST_PROCESS, find_victim, 0),
    WHEN(SURPLUS_DESCRIPTOR, write_secret, 0),
    WHEN(STANDARD_INPUT, read_input, 0),
    WHEN(IGNORED_SIGNAL, survive_signal, 0),
    WHEN(BLOCKED_SIGNAL, hold_signal_back, 0),
    WHEN(HOST_DIRECTORY, open_relative, 0),
    WHEN(OPEN_UMASK, make_open_file, 0),
    WHEN(MANY_PROCESSES, fork_many, AS_NOBODY),
    WHEN(MUCH_MEMORY, take_memory, NOT_UNDER_ASAN),
    WHEN(MUCH_TIME, use_time, LONG),
    WHEN(LONG_FILE, write_long_file, 0),
    WHEN(MANY_FILES, open_many, 0),
    WHEN(CORE_DUMP, may_dump_core, MAY_BE_MISSING), /* who started the test may have forbidden it */
    WHEN(HIGHER_LIMIT, raise_files, 0),
    WHEN(ROOT_POWERS, give_file_away, MAY_BE_MISSING), /* needs root */
    WHEN(SET_USER_ID, become_root, AS_NOBODY | MAY_BE_MISSING),
    WHEN(OWN_MEMORY_FILE, open_own_memory, AS_NOBODY),
    WHEN(OPEN_OUTSIDE, open_outside, 0),
    WHEN(LIST_OUTSIDE, list_outside, 0),
    WHEN(MAKE_OUTSIDE, make_outside, 0),
    WHEN(LINK_OUTSIDE, open_link, 0),
    WHEN(WRITE_READ_ONLY, write_read_only, 0),
    WHEN(MAKE_READ_ONLY, make_in_read_only, 0),
    WHEN(REMOVE_READ_ONLY, remove_read_only, 0),
    WHEN(MOVE_READ_ONLY, move_read_only, 0),
    WHEN(LINK_READ_ONLY, link_read_only, 0),
    WHEN(EXECUTE_FILE, execute_file, WHOLE_TREE),
    WHEN(CONNECT_TCP, connect_tcp, 0),
    WHEN(BIND_TCP, bind_tcp, 0),
    WHEN(SIGNAL_OUTSIDE, find_victim, 0),
    WHEN(ABSTRACT_SOCKET, connect_abstract, 0),
    WHEN(OPEN_WITHOUT_PATHS, open_inside, NO_PATHS),
    WHEN(EMPTY_READ_ONLY, empty_read_only, 0),
    WHEN(TRUNCATE_PATH, truncate_path, 0),
    WHEN(CHANGE_MODE, change_mode, 0),
    WHEN(WATCH_FILES, watch_files, 0),
    WHEN(MEMORY_FILE, make_memory_file, 0),
    WHEN(MAKE_SOCKET, make_tcp_socket, 0),
    WHEN(USE_CONNECT, connect_tcp, 0),
    WHEN(USE_BIND, bind_tcp, 0),
    WHEN(SEND_TO_ADDRESS, send_to_address, 0),
    WHEN(DATAGRAM_PAIR, make_datagram_pair, 0),
    WHEN(LOCAL_SOCKET, make_local_socket, NETWORK),
    WHEN(RAW_SOCKET, make_raw_socket, NETWORK | MAY_BE_MISSING),   /* needs root */
    WHEN(RARE_SOCKET, make_rare_socket, NETWORK | MAY_BE_MISSING), /* CONFIG_MPTCP */
    WHEN(NETLINK_SOCKET, make_netlink_socket, NETWORK),
    WHEN(FORK, fork_one, 0),
    WHEN(OLD_FORK, fork_by_number, 0),
    WHEN(VFORK, fork_sharing, 0),
    WHEN(SPAWN, spawn, 0),
    WHEN(CLONE3, clone_new_way, 0),
    WHEN(EXECUTE, execute_file, 0),
    WHEN(EXECUTE_DESCRIPTOR, execute_descriptor, 0),
    WHEN(TRACE, trace, 0),
    WHEN(READ_PROCESS, read_process, 0),
    WHEN(WRITE_PROCESS, write_process, 0),
    WHEN(TAKE_DESCRIPTOR, take_descriptor, MAY_BE_MISSING), /* Yama may forbid it */
    WHEN(OPEN_PROCESS, open_process, 0),
    WHEN(NAMESPACES, make_namespace, 0),
    WHEN(KILL, find_victim, 0),
    WHEN(KILL_GROUP, kill_group, 0),
    WHEN(KILL_THREAD, kill_thread, 0),
    WHEN(KILL_ANY_THREAD, kill_any_thread, 0),
    WHEN(QUEUE_SIGNAL, queue_signal, 0),
    WHEN(QUEUE_TO_THREAD, queue_to_thread, 0),
    WHEN(KILL_BY_DESCRIPTOR, kill_by_descriptor, 0),
    WHEN(FCNTL_OWNER, own_by_fcntl, 0),
    WHEN(IOCTL_OWNER, own_by_ioctl, 0),
    WHEN(MAKE_RING, make_ring, MAY_BE_MISSING), /* io_uring may be denied */
    WHEN(ENTER_RING, enter_ring, MAY_BE_MISSING),
    WHEN(REGISTER_RING, register_ring, MAY_BE_MISSING),
    WHEN(BPF, call_bpf, 0),
    WHEN(KEYS, call_keyctl, 0),
    WHEN(USER_FAULTS, call_userfaultfd, 0),
    WHEN(PERFORMANCE, call_perf, 0),
    WHEN(MOUNT, call_mount, 0),
    WHEN(MOUNT_TREE, call_open_tree, 0),
    WHEN(CHANGE_ROOT, change_root, 0),
    WHEN(OTHER_TABLE, call_other_table, 0),
    WHEN(OTHER_ARCHITECTURE, call_other_architecture, MAY_BE_MISSING),
    WHEN(NEWER_CALL, call_newer, MAY_BE_MISSING), /* Linux 6.5 */
    WHEN(RAISE_LIMIT, set_limit, 0),
    WHEN(OUTLIVE_LAUNCHER, outlive_launcher, 0),
    WHEN(BECOME_DUMPABLE, become_dumpable, 0),
    WHEN(IMPLIED_CODE, imply_code, 0),
    WHEN(ANONYMOUS_CODE, map_anonymous_code, 0),
    WHEN(WRITABLE_CODE, map_writable_code, 0),
    WHEN(TURN_INTO_CODE, turn_into_code, 0),
    WHEN(TURN_WITH_KEY, turn_with_key, 0),
    WHEN(MAP_CODE, map_code, 0),
    WHEN(LOAD_LIBRARY, load_library, 0),
    WHEN(MORE_FILTERS, install_filter, 0),
#undef WHEN
};

#define FAILS(code)  (code)
#define DIES(signal) (-(signal))

static const struct rule {
    const char *name;
    enum sri_sandbox_layer layer;
    int end;
    const char *text;
} rules[SRI_SANDBOX_RULE_COUNT] = {
#define ROW(name, layer, end, text)                                                                \
    [SRI_SANDBOX_RULE_##name] = {#name, SRI_SANDBOX_##layer, end, text},
    SRI_SANDBOX_RULES(ROW)
#undef ROW
};

/* ---- one rule -------------------------------------------------------------------------------- */

static struct sri_sandbox_policy policy_for(const struct violator *violator) {
    struct sri_sandbox_policy policy = jail_strict();
    if ((violator->flags & NO_PATHS) != 0) {
        policy.path_count = 0;
    }
    if ((violator->flags & WHOLE_TREE) != 0) {
        policy = jail_policy("path-ro=/");
    }
    if ((violator->flags & NETWORK) != 0) {
        policy = jail_policy("network");
    }
    /* Small, so that the violators are soon there. The memory is more than this program has. */
    policy.memory_bytes = policy.memory_bytes != 0 ? UINT64_C(1) << 30 : 0;
    policy.file_bytes = 1 << 20;
    policy.cpu_s = 1;
    policy.files_max = 64;
    policy.processes_max = 16;
    return policy;
}

/* The act where the layer is missing: without any sandbox, or for what comes after loading in all
 * the layers before. */
static int run_control(const struct rule *rule, const struct violator *violator) {
    struct jail_run run = {.policy = policy_for(violator), .act = violator->act};
    run.is_nobody = (violator->flags & AS_NOBODY) != 0;
    if (rule->layer == SRI_SANDBOX_NO_NEW_CODE) {
        jail_keep_layers(&run.policy, SRI_SANDBOX_BIT(CALLS));
    } else {
        run.is_free = true;
    }
    return jail_run(run);
}

static int run_alone(const struct rule *rule, const struct violator *violator) {
    struct jail_run run = {.policy = policy_for(violator), .act = violator->act};
    run.is_nobody = (violator->flags & AS_NOBODY) != 0;
    uint32_t layers = UINT32_C(1) << rule->layer;
    if (rule->layer == SRI_SANDBOX_LIMITS) {
        layers |= SRI_SANDBOX_BIT(CAPABILITIES); /* root may raise any limit */
    }
    jail_keep_layers(&run.policy, layers);
    return jail_run(run);
}

/* Namespaces take longer to make and to end than all the rest, and stop what they stop in their own
 * rules. */
static int run_with_all(const struct rule *rule, const struct violator *violator) {
    struct jail_run run = {.policy = policy_for(violator), .act = violator->act};
    run.is_nobody = (violator->flags & AS_NOBODY) != 0;
    if (rule->layer > SRI_SANDBOX_PROCESSES) {
        run.policy.layers_asked &=
            ~(SRI_SANDBOX_BIT(USER_NAMESPACE) | SRI_SANDBOX_BIT(NETWORK_NAMESPACE) |
              SRI_SANDBOX_BIT(IPC_NAMESPACE) | SRI_SANDBOX_BIT(PID_NAMESPACE));
    }
    return jail_run(run);
}

/* The set-user-ID program, and the file that controls take away. */
static void renew_files(void) {
    char path[128];
    char program[4096];
    jail_write_file(scene.read_only, "spare.txt", "spare", 5);
    (void)snprintf(path, sizeof path, "%s/linked.txt", scene.read_write);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/given.txt", scene.read_write);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/who", scene.directory);
    if (geteuid() != 0 || access(path, F_OK) == 0) {
        return;
    }
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    cr_assert(length > 0);
    program[length] = '\0';
    char command[8192];
    (void)snprintf(command, sizeof command, "cp '%s' '%s'", program, path);
    cr_assert_eq(system(command), 0);
    cr_assert_eq(chmod(path, 04755), 0);
}

/* The results as words, for messages. */
static const char *end_text(int result) {
    static char texts[4][64];
    static unsigned int next;
    char *text = texts[next++ % 4];
    if (result == 0) {
        return "succeeds";
    }
    if (result == JAIL_NOT_ENTERED || result == JAIL_BROKEN) {
        (void)snprintf(
            text, sizeof texts[0], "%s (layer %s, %s)",
            result == JAIL_BROKEN ? "jail is broken" : "not entered",
            sri_sandbox_layer_text((enum sri_sandbox_layer)jail_shared->report.failed_layer),
            strerror(-jail_shared->code));
        return text;
    }
    (void)snprintf(text, sizeof texts[0], "%s", result < 0 ? strsignal(-result) : strerror(result));
    return text;
}

/* At a small scale only some are: each makes a new set of namespaces. */
static bool is_tested_with_all(void) {
    static struct scale_random random;
    if (random.state == 0) {
        random = scale_random(0);
    }
    return scale_random_below(&random, 1000) < scale_count(1000, 100);
}

/* NULL, or why the layer that the last run required is not to be had on this machine. Whatever else
 * keeps a run from entering is a failure. */
static const char *machine_lacks(void) {
    static char reason[160];
    const int code = jail_shared->code;
    const uint32_t layer = jail_shared->report.failed_layer;
    const bool is_namespace = layer <= SRI_SANDBOX_PID_NAMESPACE;
    const bool is_landlock = layer >= SRI_SANDBOX_FILES && layer <= SRI_SANDBOX_SCOPE;
    if ((is_namespace && (code == -EPERM || code == -ENOSPC || code == -EUSERS)) ||
        (is_landlock && (code == -EOPNOTSUPP || code == -ENOSYS))) {
        (void)snprintf(reason, sizeof reason, "not to be had here: %s (%s)",
                       sri_sandbox_layer_text((enum sri_sandbox_layer)layer), strerror(-code));
        return reason;
    }
    return NULL;
}

/* NULL, or why it was not tested. */
static const char *test_rule(const struct rule *rule, const struct violator *violator) {
    if (JAIL_HAS_ASAN && (violator->flags & NOT_UNDER_ASAN) != 0) {
        return "AddressSanitizer needs more address space than any limit leaves";
    }
    renew_files();
    const int free_end = run_control(rule, violator);
    if (free_end != 0 && (violator->flags & MAY_BE_MISSING) != 0) {
        return "it does not succeed without a sandbox either";
    }
    cr_assert_eq(free_end, 0, "%s: the control: %s", rule->name, end_text(free_end));
    renew_files();
    const int alone = run_alone(rule, violator);
    if (alone == JAIL_NOT_ENTERED && machine_lacks() != NULL) {
        return machine_lacks();
    }
    cr_expect_eq(alone, rule->end, "%s, its layer alone: %s; expected: %s", rule->name,
                 end_text(alone), end_text(rule->end));
    if ((violator->flags & LONG) != 0 || !is_tested_with_all()) {
        return NULL;
    }
    renew_files();
    const int with_all = run_with_all(rule, violator);
    cr_expect(with_all != 0 && with_all != JAIL_NOT_ENTERED && with_all != JAIL_BROKEN,
              "%s, all layers: %s", rule->name, end_text(with_all));
    return NULL;
}

static void test_layer(enum sri_sandbox_layer layer) {
    const char *missing = "no rule is written for this layer";
    uint32_t tested = 0;
    jail_open();
    for (uint32_t i = 0; i < SRI_SANDBOX_RULE_COUNT; i++) {
        if (rules[i].layer != layer) {
            continue;
        }
        cr_assert_not_null(violators[i].act, "%s has no violator", rules[i].name);
        const char *reason = test_rule(&rules[i], &violators[i]);
        if (reason == NULL) {
            tested++;
        } else {
            missing = reason;
            fprintf(stderr, "not tested: who %s: %s\n", rules[i].text, reason);
        }
    }
    jail_close();
    if (tested == 0) {
        cr_skip_test("%s", missing);
    }
}

#define LAYER_TEST(name, step, text)                                                               \
    Test(sandbox_rules, name) {                                                                    \
        test_layer(SRI_SANDBOX_##name);                                                            \
    }
SRI_SANDBOX_LAYERS(LAYER_TEST)
#undef LAYER_TEST

Test(sandbox_rules, every_rule_has_a_violator_and_every_layer_a_rule) {
    uint32_t layers = 0;
    for (uint32_t i = 0; i < SRI_SANDBOX_RULE_COUNT; i++) {
        cr_expect_not_null(violators[i].act, "who %s: nobody tries", rules[i].text);
        layers |= UINT32_C(1) << rules[i].layer;
    }
    cr_assert_eq(layers, SRI_SANDBOX_ALL);
}

/* ---- the environment ------------------------------------------------------------------------- */

#define NAMES_MAX 1024

static bool is_environment_kept;

static int look_for_secret(void) {
    static char *kept[NAMES_MAX];
    char *const arguments[] = {(char *)"role", NULL};
    struct sri_sandbox_policy policy = jail_strict();
    if (setenv("SAFERING_SANDBOX_SECRET", "x", 1) != 0 ||
        setenv("SAFERING_SANDBOX_ROLE", "secret", 1) != 0 ||
        sri_sandbox_policy_add_name(&policy, "SAFERING_SANDBOX_ROLE") != 0 ||
        sri_sandbox_environment(&policy, environ, kept, NAMES_MAX) < 1) {
        return EBADE;
    }
    (void)execve("/proc/self/exe", arguments, is_environment_kept ? environ : kept);
    return errno;
}

Test(sandbox_rules, a_secret_of_the_environment_does_not_reach_the_program) {
    jail_open();
    const struct jail_run run = {.is_free = true, .act = look_for_secret};
    is_environment_kept = true;
    cr_assert_eq(jail_run(run), 0, "the control");
    is_environment_kept = false;
    cr_assert_eq(jail_run(run), EPERM);
    jail_close();
}
