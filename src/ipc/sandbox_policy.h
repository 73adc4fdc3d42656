/* SPDX-License-Identifier: MIT */
/*
 * Sandbox policy: which layers a worker is to enter and which of them are required, and the report
 * that says of each whether it holds. Both are data that host, launcher and worker send each other;
 * the host makes policies, from text.
 *
 * Invariants:
 * - A policy and a report are flat structs without pointers: they can be sent as they are, and who
 *   receives one asks sri_sandbox_policy_is_valid() or sri_sandbox_report_is_valid() before
 *   anything else.
 * - A layer HOLDS when the kernel has taken it, not when it was asked.
 *
 * What each layer stops, and what none does: docs/SANDBOX.md. Neighbours: src/worker/sandbox.h
 * enters the layers.
 */
#ifndef SAFERING_IPC_SANDBOX_POLICY_H
#define SAFERING_IPC_SANDBOX_POLICY_H

#include <stdbool.h>
#include <stdint.h>

/* ---- layers ---------------------------------------------------------------------------------- */

/* In the order in which they are entered. LAYER(name, step, text) */
#define SRI_SANDBOX_LAYERS(LAYER)                                                                  \
    LAYER(USER_NAMESPACE, BEFORE_FORK, "user namespace")                                           \
    LAYER(NETWORK_NAMESPACE, BEFORE_FORK, "network namespace")                                     \
    LAYER(IPC_NAMESPACE, BEFORE_FORK, "IPC namespace")                                             \
    LAYER(PID_NAMESPACE, BEFORE_FORK, "pid namespace")                                             \
    LAYER(DESCRIPTORS, BEFORE_EXEC, "descriptors")                                                 \
    LAYER(SURROUNDINGS, BEFORE_EXEC, "signals, directory and umask")                               \
    LAYER(PROCESSES, BEFORE_EXEC, "limit of processes")                                            \
    LAYER(LIMITS, BEFORE_EXEC, "limits of memory, time and files")                                 \
    LAYER(CAPABILITIES, BEFORE_EXEC, "no capabilities")                                            \
    LAYER(NO_NEW_PRIVILEGES, BEFORE_EXEC, "no new privileges")                                     \
    LAYER(UNDUMPABLE, BEFORE_LOAD, "not dumpable")                                                 \
    LAYER(FILES, BEFORE_LOAD, "files by path")                                                     \
    LAYER(TCP, BEFORE_LOAD, "no TCP")                                                              \
    LAYER(SCOPE, BEFORE_LOAD, "no signals and abstract sockets outside")                           \
    LAYER(CALLS, BEFORE_LOAD, "system calls")                                                      \
    LAYER(NO_NEW_CODE, BEFORE_SERVE, "no new code")

enum sri_sandbox_layer {
#define SRI_SANDBOX_LAYER_NAME(name, step, text) SRI_SANDBOX_##name,
    SRI_SANDBOX_LAYERS(SRI_SANDBOX_LAYER_NAME)
#undef SRI_SANDBOX_LAYER_NAME
        SRI_SANDBOX_LAYER_COUNT
};

#define SRI_SANDBOX_BIT(layer) (UINT32_C(1) << SRI_SANDBOX_##layer)
#define SRI_SANDBOX_ALL        ((UINT32_C(1) << SRI_SANDBOX_LAYER_COUNT) - 1)

/* When. A pid namespace takes in the next child only, and a limit of processes may forbid that
 * child: so what comes before execve(2) is in two parts. Without a pid namespace the same process
 * may take both. */
enum sri_sandbox_step {
    SRI_SANDBOX_BEFORE_FORK,  /* in the parent of the worker-to-be */
    SRI_SANDBOX_BEFORE_EXEC,  /* in the worker-to-be, which has one thread */
    SRI_SANDBOX_BEFORE_LOAD,  /* in the program, with one thread, before foreign code is loaded */
    SRI_SANDBOX_BEFORE_SERVE, /* after its loading, before it is called; all its threads */
    SRI_SANDBOX_STEP_COUNT
};

/* ---- policy ---------------------------------------------------------------------------------- */

#define SRI_SANDBOX_PATHS_MAX  16u
#define SRI_SANDBOX_PATH_BYTES 512u
#define SRI_SANDBOX_NAMES_MAX  32u
#define SRI_SANDBOX_NAME_BYTES 64u
#define SRI_SANDBOX_FDS_MAX    72u /* those of a launch, and what the launcher needs meanwhile */

#define SRI_SANDBOX_MAGIC UINT32_C(0x53424f58)

struct sri_sandbox_path {
    uint32_t may_write; /* 0 or 1 */
    char name[SRI_SANDBOX_PATH_BYTES];
};

struct sri_sandbox_policy {
    uint32_t magic;
    uint32_t layers_asked; /* bits of enum sri_sandbox_layer */
    uint32_t layers_required;
    uint32_t network; /* 1: TCP and UDP; the layers against it are not asked then */
    uint32_t umask;
    uint32_t path_count;
    uint32_t name_count;
    uint32_t fd_count;
    /* Limits; 0: as they are. */
    uint64_t memory_bytes;
    uint64_t file_bytes;
    uint32_t cpu_s;
    uint32_t files_max;
    uint32_t processes_max; /* threads included; of this user in its namespace */
    uint32_t reserved;      /* 0 */
    char directory[SRI_SANDBOX_PATH_BYTES];
    struct sri_sandbox_path paths[SRI_SANDBOX_PATHS_MAX];
    char names[SRI_SANDBOX_NAMES_MAX][SRI_SANDBOX_NAME_BYTES]; /* of the environment */
    int32_t fds[SRI_SANDBOX_FDS_MAX];                          /* that stay open */
};

/* What `strict` sets. */
#define SRI_SANDBOX_MEMORY_BYTES  (UINT64_C(8) << 30)
#define SRI_SANDBOX_FILE_BYTES    (UINT64_C(1) << 30)
#define SRI_SANDBOX_FILES_MAX     256u
#define SRI_SANDBOX_PROCESSES_MAX 128u

/*
 * Reads a policy from words that are separated by commas:
 *
 *   strict        all layers; no path, no network, the limits above
 *   path-ro=PATH  as strict, and what is at and below PATH may be read, and mapped as code
 *   path-rw=PATH  as strict, and what is at and below PATH may be read, written, made and removed
 *   network       as strict, and TCP and UDP
 *   memory=SIZE, file=SIZE, cpu=SECONDS, descriptors=NUMBER, processes=NUMBER
 *                 as strict, with this limit; `unlimited`: as the host has it
 *   none          no layer at all; stands alone
 *
 * A PATH is absolute and has no comma; sri_sandbox_policy_add_path() takes any. A SIZE may end with
 * K, M or G. Of words that are repeated the last counts, but each PATH. Returns 0; -EINVAL (a word
 * that is not one, `none` beside others, a PATH that is not absolute), SR_E_BOUNDS (a PATH too
 * long, a number that is 0 or too large), SR_E_FULL (too many). *out_position is where in @text the
 * refused word begins, and *out_policy is no valid policy then.
 */
int sri_sandbox_policy_parse(const char *text, struct sri_sandbox_policy *out_policy,
                             uint32_t *out_position);

/* The policy of `none`. */
void sri_sandbox_policy_none(struct sri_sandbox_policy *out_policy);

/* Whether all fields are such as the functions here set them, or any allowed change of them. */
bool sri_sandbox_policy_is_valid(const struct sri_sandbox_policy *policy);

/* The same codes as above. A name of the environment has no '='; a descriptor is not below 0. */
int sri_sandbox_policy_add_path(struct sri_sandbox_policy *policy, const char *path,
                                bool may_write);
int sri_sandbox_policy_add_name(struct sri_sandbox_policy *policy, const char *name);
int sri_sandbox_policy_add_fd(struct sri_sandbox_policy *policy, int fd);

/* Those strings of @environment whose names the policy lists, ended by NULL, for execve(2); all of
 * them for `none`. Returns their number, or SR_E_FULL if @room is less than that and one more.
 * Borrows: the strings stay where they are. */
int sri_sandbox_environment(const struct sri_sandbox_policy *policy, char *const *environment,
                            char **out_environment, uint32_t room);

/* ---- report ---------------------------------------------------------------------------------- */

enum sri_sandbox_state {
    SRI_SANDBOX_NOT_ASKED, /* or its step has not come yet */
    SRI_SANDBOX_HOLDS,
    SRI_SANDBOX_REFUSED
};

struct sri_sandbox_layer_report {
    uint32_t state; /* enum sri_sandbox_state */
    int32_t code;   /* REFUSED: the negative errno */
};

/* Flat, too: processes on both sides of a fork and an execve fill theirs and send them on. */
struct sri_sandbox_report {
    struct sri_sandbox_layer_report layers[SRI_SANDBOX_LAYER_COUNT];
    uint32_t failed_layer; /* which ended a step; SRI_SANDBOX_LAYER_COUNT: none */
    uint32_t failed_path;  /* which of the policy's paths; SRI_SANDBOX_PATHS_MAX: none */
};

void sri_sandbox_report_init(struct sri_sandbox_report *out_report);

/* What is known in @other and not in @report is taken over; the first failure stays. */
void sri_sandbox_report_merge(struct sri_sandbox_report *report,
                              const struct sri_sandbox_report *other);

/* Whether all fields are such as an honest process sets them. */
bool sri_sandbox_report_is_valid(const struct sri_sandbox_report *report);

/* Whether a report about the layers of two steps (which may be the same), and of no others, says
 * that what the policy requires holds, and nothing about layers that it does not ask for. */
bool sri_sandbox_report_fits(const struct sri_sandbox_report *report,
                             const struct sri_sandbox_policy *policy, enum sri_sandbox_step first,
                             enum sri_sandbox_step last);

const char *sri_sandbox_layer_text(enum sri_sandbox_layer layer);
enum sri_sandbox_step sri_sandbox_layer_step(enum sri_sandbox_layer layer);

#endif
