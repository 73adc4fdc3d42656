/* SPDX-License-Identifier: MIT */
/*
 * Launch wire: what a host and its launcher say to each other, over a SOCK_SEQPACKET pair. One
 * message is one packet: a fixed struct, after a START the texts, and descriptors beside it
 * (SCM_RIGHTS). Both sides link this file, so both check by the same rules.
 *
 * Invariants: a message says its own size and how many descriptors come with it; both are compared
 * with what arrived. Every field has a meaning or is zero. Who reads gets NULL-terminated arrays
 * that point into the packet, which nobody else can write any more.
 *
 *   host -> launcher   START, KILL
 *   launcher -> host   HELLO (once, first), STARTED or START_FAILED or REFUSED (answer a START),
 *                      KILLED or REFUSED (answer a KILL), EXITED (once per STARTED)
 *
 * Neighbours: src/ipc/launcher.c (the host's side), src/worker/launcher.c (the other).
 */
#ifndef SAFERING_IPC_LAUNCH_WIRE_H
#define SAFERING_IPC_LAUNCH_WIRE_H

#include "ipc/sandbox_policy.h"

#include <stddef.h>

#define SRI_LAUNCH_MAGIC         0x53524c57u
#define SRI_LAUNCH_VERSION       2u
#define SRI_LAUNCH_WORKERS_MAX   4096u /* at a time */
#define SRI_LAUNCH_MESSAGE_MAX   65536u
#define SRI_LAUNCH_STRINGS_MAX   1024u /* arguments; and as many variables */
#define SRI_LAUNCH_FDS_MAX       64u
#define SRI_LAUNCH_FD_NUMBER_MAX 1023u
#define SRI_LAUNCH_SIGNAL_MAX    64u

/* Of a policy goes what a launcher enters: its paths, names and descriptors, most of its bytes, are
 * for others. Many starts are under way at once, in the buffer of one socket. */
#define SRI_LAUNCH_POLICY_BYTES offsetof(struct sri_sandbox_policy, paths)

/* Where the launcher finds its end of the pair, and a pidfd of its host. */
#define SRI_LAUNCH_SOCKET_FD 3
#define SRI_LAUNCH_HOST_FD   4

enum sri_launch_kind {
    SRI_LAUNCH_START = 1,
    SRI_LAUNCH_KILL = 2,
    SRI_LAUNCH_HELLO = 16, /* a pidfd of the launcher comes with it */
    SRI_LAUNCH_STARTED = 17,
    SRI_LAUNCH_START_FAILED = 18,
    SRI_LAUNCH_EXITED = 19,
    SRI_LAUNCH_KILLED = 20,  /* code says whether the signal was sent */
    SRI_LAUNCH_REFUSED = 21, /* a request that no honest host writes, or that finds no room */
    SRI_LAUNCH_LOST = 22     /* never sent: the host makes it up when its launcher is gone */
};

enum sri_launch_flag {
    SRI_LAUNCH_PROGRAM_FD = 1u << 0, /* the first descriptor is the program; there is no path */
    SRI_LAUNCH_HAS_POLICY = 1u << 1, /* SRI_LAUNCH_POLICY_BYTES of one are before the texts */
    SRI_LAUNCH_FLAGS_ALL = (1u << 2) - 1
};

/* Where a start failed. */
enum sri_launch_step {
    SRI_LAUNCH_STEP_NONE,
    SRI_LAUNCH_STEP_FORK,       /* channels, namespaces, fork */
    SRI_LAUNCH_STEP_PROCESS,    /* the new process was killed before it could say anything */
    SRI_LAUNCH_STEP_NAMESPACES, /* who the user is in the new user namespace */
    SRI_LAUNCH_STEP_INIT,       /* the init could not fork the worker */
    SRI_LAUNCH_STEP_SESSION,
    SRI_LAUNCH_STEP_FDS,
    SRI_LAUNCH_STEP_SANDBOX, /* the report says which layer */
    SRI_LAUNCH_STEP_EXEC,
    SRI_LAUNCH_STEP_LAUNCHER, /* the launcher is gone */
    SRI_LAUNCH_STEP_COUNT
};

/* How a worker ended. */
enum sri_launch_end {
    SRI_LAUNCH_END_NONE,
    SRI_LAUNCH_END_EXIT,   /* status: the exit code */
    SRI_LAUNCH_END_SIGNAL, /* status: the signal */
    SRI_LAUNCH_END_INIT,   /* its init was killed, status: by this signal; the worker with it */
    SRI_LAUNCH_END_LOST,   /* the launcher is gone, and the worker with it; how is not known */
    SRI_LAUNCH_END_COUNT
};

struct sri_launch_header {
    uint32_t magic;
    uint32_t version;
    uint32_t kind;
    uint32_t size_bytes; /* of the whole message */
    uint32_t fd_count;
    uint32_t serial; /* of the request; in an event, of the one that it answers, else 0 */
    uint64_t worker; /* chosen by the host; never 0 where a worker is meant */
};

/* Followed by the policy, if there is one, and text_bytes: path, arguments, variables; each ends
 * with a zero byte. */
struct sri_launch_start {
    struct sri_launch_header header;
    uint32_t flags; /* enum sri_launch_flag */
    uint32_t argument_count;
    uint32_t variable_count;
    uint32_t text_bytes;
    uint16_t fd_numbers[SRI_LAUNCH_FDS_MAX]; /* in the worker, by the order of the descriptors */
};

struct sri_launch_kill {
    struct sri_launch_header header;
    uint32_t signal;
    uint32_t zero;
};

/* What the launcher says, whatever it says. */
struct sri_launch_event {
    struct sri_launch_header header;
    int32_t code;  /* START_FAILED, KILLED, REFUSED: 0 or negative */
    uint32_t step; /* START_FAILED: enum sri_launch_step */
    int32_t pid;   /* HELLO: the launcher; STARTED, EXITED: the worker; as the host sees it */
    uint32_t end;  /* EXITED: enum sri_launch_end */
    uint32_t status;
    uint32_t has_core;
    uint64_t cpu_ns; /* EXITED: user and system, with children that it waited for */
    uint64_t resident_max_bytes;
    struct sri_sandbox_report report; /* STARTED, START_FAILED: of the layers up to exec(2) */
};

_Static_assert(sizeof(struct sri_launch_header) == 32, "no padding on the wire");
_Static_assert(sizeof(struct sri_launch_start) == 176, "no padding on the wire");
_Static_assert(sizeof(struct sri_launch_kill) == 40, "no padding on the wire");
_Static_assert(sizeof(struct sri_launch_event) == 72 + sizeof(struct sri_sandbox_report),
               "no padding on the wire");

/* A descriptor and its number in the worker. */
struct sri_launch_fd {
    int fd;
    uint32_t number;
};

/* With what a worker is started. The host fills it in, the launcher gets the same out again. */
struct sri_launch_plan {
    const char *path;             /* absolute; NULL: program_fd */
    const char *const *arguments; /* NULL at the end; at least one */
    const char *const *variables; /* NULL at the end: the whole environment. NULL: none at all */
    /* NULL: that of `none`. Without its paths and names, which a launcher has no use for, and its
     * descriptors: `fds` says which there are. */
    const struct sri_sandbox_policy *policy;
    int program_fd;
    uint32_t fd_count;
    struct sri_launch_fd fds[SRI_LAUNCH_FDS_MAX];
};

#define SRI_LAUNCH_PLAN_INIT ((struct sri_launch_plan){.program_fd = -1})

/* What a decoded plan's arrays lie in. */
struct sri_launch_decoded {
    struct sri_launch_plan plan;
    struct sri_sandbox_policy policy;
    const char *arguments[SRI_LAUNCH_STRINGS_MAX + 1];
    const char *variables[SRI_LAUNCH_STRINGS_MAX + 1];
};

/* A START as it is sent. */
struct sri_launch_packet {
    size_t size_bytes;
    uint32_t fd_count;
    int fds[SRI_LAUNCH_FDS_MAX + 1];
    _Alignas(8) unsigned char bytes[SRI_LAUNCH_MESSAGE_MAX];
};

/* 0, -EINVAL (a field of the plan), -E2BIG (too many strings, or more than a message holds). */
int sri_launch_start_encode(const struct sri_launch_plan *plan, uint32_t serial, uint64_t worker,
                            struct sri_launch_packet *out_packet);

/* Reads a START that arrived with these descriptors, which stay the caller's. @out_decoded points
 * into @bytes. 0, or SR_E_PROTOCOL. */
int sri_launch_start_decode(const void *bytes, size_t size_bytes, const int *fds, uint32_t fd_count,
                            struct sri_launch_decoded *out_decoded);

/* Whether a packet begins with a header that is true of it. */
bool sri_launch_header_read(const void *bytes, size_t size_bytes, uint32_t fd_count,
                            struct sri_launch_header *out_header);

struct sri_launch_header sri_launch_header_make(enum sri_launch_kind kind, size_t size_bytes,
                                                uint32_t fd_count, uint32_t serial,
                                                uint64_t worker);

/* 0, or SR_E_PROTOCOL. */
int sri_launch_kill_decode(const void *bytes, size_t size_bytes, struct sri_launch_kill *out_kill);
/* Each field by itself; whether the event fits the worker is for src/ipc/launcher.c to say. */
int sri_launch_event_decode(const void *bytes, size_t size_bytes, uint32_t fd_count,
                            struct sri_launch_event *out_event);

#endif
