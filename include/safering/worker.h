/* SPDX-License-Identifier: MIT */
/*
 * The worker's side of a channel: a table of methods, and one call that serves them. For programs
 * that link libsafering-worker, which needs the C library and nothing else; the host's side is
 * <safering/ipc.h>.
 */
#ifndef SAFERING_WORKER_H
#define SAFERING_WORKER_H

#include <safering/error.h>
#include <safering/export.h>
#include <stddef.h>
#include <stdint.h>

SR_EXTERN_C_BEGIN

/** A call or note that is being served. */
typedef struct sr_served sr_served;

/**
 * sr_method_fn - does the work of one call
 * @data:  borrows; what the host sent, any alignment, NULL without bytes
 * @ctx:   the method's
 *
 * Return:  the result that the caller is told; the library gives it no meaning.
 */
typedef int64_t (*sr_method_fn)(sr_served *served, const void *data, uint64_t data_bytes,
                                void *ctx);

typedef struct sr_method {
    /** 1 .. 63 printable characters of ASCII without space; its own, and not
     * "safering.heartbeat", which each worker has. */
    const char *name;
    sr_method_fn run;
    void *ctx;
} sr_method;

/** Most methods of one worker. */
#define SR_METHODS_MAX 1024

typedef struct sr_serve_options {
    size_t size; /* sizeof(sr_serve_options) */
    /** The connected stream socket to the host. Default -1: its number is the value of the
     * environment variable SAFERING_WORKER_SOCKET. Stays the caller's. */
    int socket;
    uint32_t reserved;
    /** Loads foreign code, for example by dlopen(3); NULL: there is none. Called once, in the
     * sandbox: files of the policy's paths can be read and mapped as code, and no longer when it
     * has returned. A negative result ends sr_serve() with it. */
    int (*load)(void *ctx);
    void *load_ctx;
} sr_serve_options;

#define SR_SERVE_OPTIONS_INIT (SR_LITERAL(sr_serve_options){sizeof(sr_serve_options), -1, 0, 0, 0})

/**
 * sr_serve() - serve the host's calls, one after the other, until it ends the channel
 * @methods:       borrows until it returns
 * @method_count:  0 .. SR_METHODS_MAX
 * @options:       borrows; NULL for the defaults
 *
 * Enters the sandbox that the host asks for before it serves anything: what the program needs of
 * files outside of the sandbox's paths it opens before. Answers of calls that came together go out
 * together.
 *
 * Return:  0: the host has closed its end. SR_E_BOUNDS (method_count), -EINVAL (options; a name
 *          that is not allowed or not its own; a missing function; no socket named), SR_E_PROTOCOL
 *          (what came is not of a host), SR_E_UNSUPPORTED (a host of another version),
 *          SR_E_PEER_DIED (the host was gone before its answers), -ENOMEM, or a code of the kernel.
 *          When a layer of the sandbox cannot be had, the host is told which, and this is its code:
 *          -EBUSY where the program has several threads already. The program must end then.
 * Thread:  one at a time for a socket, in a sandbox the only one of the program until `load` is
 *          called; methods run in it.     Blocks: until the host ends it.
 * Kernel:  recvmsg(2), sendmsg(2).
 */
SR_API SR_MUST_USE int sr_serve(const sr_method *methods, uint32_t method_count,
                                const sr_serve_options *options);

/**
 * sr_serve_reply() - append bytes to the answer of the call that is being served
 * @data:  copies
 *
 * Return:  0, SR_E_BOUNDS (more than the host takes), SR_E_STATE (a note: nobody asked), -EINVAL,
 *          -ENOMEM, SR_E_OBJECT.
 * Thread:  the one in which the method runs, while it runs.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_serve_reply(sr_served *served, const void *data, uint64_t data_bytes);

/**
 * sr_serve_event() - tell the host something on the worker's own account
 * @number:  0 .. 65,535, the worker's own
 * @data:    copies
 *
 * It arrives before the answer of the call that is being served, and is on its way when this
 * returns.
 *
 * Return:  0, SR_E_BOUNDS (number, or more bytes than the host takes), -EINVAL, -ENOMEM,
 *          SR_E_OBJECT, SR_E_PEER_DIED or a code of the kernel: the host is gone.
 * Thread:  the one in which the method runs, while it runs.
 * Blocks:  until the socket has room.
 */
SR_API SR_MUST_USE int sr_serve_event(sr_served *served, uint32_t number, const void *data,
                                      uint64_t data_bytes);

SR_EXTERN_C_END

#endif
