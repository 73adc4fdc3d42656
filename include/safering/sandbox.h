/* SPDX-License-Identifier: MIT */
/*
 * Sandboxes: what a worker gives up before foreign code runs in it. A service confines its workers
 * by a policy, which is a text; a report says of each layer whether it holds in a worker.
 *
 * Words of a policy, separated by commas:
 *
 *   strict              all layers: no files, no network, no new processes, no new code, limits
 *   path-ro=PATH        strict, but what is at and below PATH may be read, and mapped as code while
 *                       the worker loads its libraries
 *   path-rw=PATH        strict, but what is there may be read, written, made and removed
 *   network             strict, but TCP and UDP
 *   memory=SIZE         limit of address space, else 8G
 *   file=SIZE           of the length of a file that is written, else 1G
 *   cpu=SECONDS         of processor time, else unlimited
 *   descriptors=NUMBER  of open descriptors, else 256
 *   processes=NUMBER    of processes and threads, else 128
 *   none                no layer at all; stands alone
 *
 * PATH is absolute, of at most 511 bytes, without a comma; there are at most 16. A SIZE is in
 * bytes, or with K, M or G. `unlimited` leaves a limit as the host has it.
 */
#ifndef SAFERING_SANDBOX_H
#define SAFERING_SANDBOX_H

#include <safering/error.h>
#include <safering/export.h>
#include <stddef.h>
#include <stdint.h>

SR_EXTERN_C_BEGIN

/** In the order in which they are entered. Those with a star are done without where the kernel or
 * the host's own confinement refuses them; the others end the worker's start then. */
enum sr_sandbox_layer {
    SR_SANDBOX_USER_NAMESPACE = 0,    /* * */
    SR_SANDBOX_NETWORK_NAMESPACE = 1, /* * */
    SR_SANDBOX_IPC_NAMESPACE = 2,     /* * */
    SR_SANDBOX_PID_NAMESPACE = 3,     /* * */
    SR_SANDBOX_DESCRIPTORS = 4,
    SR_SANDBOX_SURROUNDINGS = 5, /* signals, directory and umask */
    SR_SANDBOX_PROCESSES = 6,    /* * a limit of processes; not for root */
    SR_SANDBOX_LIMITS = 7,
    SR_SANDBOX_CAPABILITIES = 8,
    SR_SANDBOX_NO_NEW_PRIVILEGES = 9,
    SR_SANDBOX_UNDUMPABLE = 10,
    SR_SANDBOX_FILES = 11, /* by path: Landlock, Linux 5.13 */
    SR_SANDBOX_TCP = 12,   /* * Linux 6.7 */
    SR_SANDBOX_SCOPE = 13, /* * signals and abstract sockets outside: Linux 6.12 */
    SR_SANDBOX_CALLS = 14, /* system calls: seccomp(2) */
    SR_SANDBOX_NO_NEW_CODE = 15
};

#define SR_SANDBOX_LAYERS     16
#define SR_SANDBOX_LAYERS_MAX 32

enum sr_sandbox_state {
    SR_SANDBOX_NOT_ASKED = 0, /* or not yet entered */
    SR_SANDBOX_HOLDS = 1,     /* the kernel has taken it */
    SR_SANDBOX_REFUSED = 2    /* `code` says why */
};

typedef struct sr_sandbox_layer_report {
    uint32_t state;    /* enum sr_sandbox_state */
    int32_t code;      /* 0, or negative: REFUSED */
    uint32_t required; /* 1: its refusal ends the worker's start */
    uint32_t reserved;
} sr_sandbox_layer_report;

typedef struct sr_sandbox_report {
    size_t size; /* sizeof(sr_sandbox_report) */
    uint32_t layer_count;
    uint32_t held_count;                                   /* layers that hold */
    sr_sandbox_layer_report layers[SR_SANDBOX_LAYERS_MAX]; /* by enum sr_sandbox_layer */
} sr_sandbox_report;

#define SR_SANDBOX_REPORT_INIT                                                                     \
    (SR_LITERAL(sr_sandbox_report){sizeof(sr_sandbox_report), 0, 0, {{0, 0, 0, 0}}})

/**
 * sr_sandbox_check() - whether a text is a policy
 * @text:          borrows
 * @out_position:  may be NULL; where in @text the word begins that is none, 0 on success
 *
 * Return:  0; -EINVAL (a word that is not one, `none` beside others, a path that is not absolute);
 *          SR_E_BOUNDS (a path that is too long; a number that is 0 or too large); SR_E_FULL (too
 *          many paths).
 * Thread:  any.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_sandbox_check(const char *text, uint32_t *out_position);

/** sr_sandbox_layer_text() - what a layer is about, for people; "none" for what is no layer.
 * Thread: any. */
SR_API const char *sr_sandbox_layer_text(uint32_t layer);

SR_EXTERN_C_END

#endif
