/* SPDX-License-Identifier: MIT */
/*
 * Channels: calls into another process, a worker, whose end is <safering/worker.h>.
 *
 * A channel lives on a ring and is driven by the ring's waits: calls go out, answers and events
 * come in, beside whatever else the ring does. What is shared with the worker is its isolation;
 * what no honest worker sends ends the channel with SR_E_PROTOCOL. Every call gets exactly one
 * answer, also when the worker dies.
 *
 * All callbacks run inside of a wait (sr_ring_wait(), sr_ring_dispatch(), sr_batch_run()) or of
 * sr_channel_close(), and count as callbacks there. They may call, cancel and submit; waiting and
 * closing are SR_E_STATE.
 */
#ifndef SAFERING_IPC_H
#define SAFERING_IPC_H

#include <safering/ring.h>

SR_EXTERN_C_BEGIN

typedef struct sr_channel sr_channel;

/** A call whose answer has not been told yet. */
typedef struct sr_call {
    uint64_t bits;
} sr_call;

#define SR_CALL_NONE (SR_LITERAL(sr_call){0})

/** What host and worker share, and so what a worker that has turned bad can write to. */
enum sr_isolation {
    SR_ISOLATION_FULL = 1, /* a socket and nothing else: it can send bytes */
    /** Memory for calls, which the worker can only read, and memory for its answers, which are
     * copied before they are looked at. It can scribble on its own answers. */
    SR_ISOLATION_HYBRID = 2,
    /** The same memory, but the worker may write to all of it, and the bytes of an answer are
     * handed over where the worker put them: they may change while they are looked at. Frames are
     * copied and checked as in the others. */
    SR_ISOLATION_SHARED = 3
};

/** Where the result of a call comes from. */
enum sr_answer_source {
    SR_ANSWER_METHOD = 1, /* the method in the worker: `result` is its own, whatever it means */
    /** The channel: there is no answer, `result` says why. SR_E_PEER_DIED, SR_E_PROTOCOL or a code
     * of the kernel: the channel has ended; SR_E_TIMEOUT: the deadline; -ECANCELED:
     * sr_call_cancel() or sr_channel_close(). The method may have run, or still run. */
    SR_ANSWER_CHANNEL = 2
};

typedef struct sr_answer {
    sr_call call; /* stale by now: names which call this was */
    uint64_t tag; /* of the request */
    int64_t result;
    const void *data; /* borrows; any alignment; NULL without bytes */
    uint64_t data_bytes;
    uint32_t source; /* enum sr_answer_source */
    uint32_t method;
} sr_answer;

/** sr_answer_fn - told the one answer of a call; @ctx is the request's. */
typedef void (*sr_answer_fn)(sr_channel *channel, const sr_answer *answer, void *ctx);

/** sr_event_fn - told what the worker sent on its own account
 * @number:  the worker's own; @data: borrows; any alignment. In the order in which they were sent,
 * answers included. */
typedef void (*sr_event_fn)(sr_channel *channel, uint32_t number, const void *data,
                            uint64_t data_bytes, void *ctx);

/** sr_channel_state_fn - told that the worker is ready (code 0), and that the channel has ended by
 * itself (SR_E_PEER_DIED, SR_E_PROTOCOL, SR_E_UNSUPPORTED: a worker of another version, or a code
 * of the kernel), after all answers. Each at most once. */
typedef void (*sr_channel_state_fn)(sr_channel *channel, int code, void *ctx);

typedef struct sr_channel_options {
    size_t size; /* sizeof(sr_channel_options) */
    /** Most calls without an answer of the worker: 1 .. 65,536. Default 64. */
    uint32_t calls_max;
    /** Most bytes of one payload, either way: 0 .. 1 GiB. Default 64 MiB. */
    uint32_t payload_max_bytes;
    /** FULL: most bytes of calls and notes that wait for the socket: up to SR_FOREVER. Default
     * 128 MiB. */
    uint64_t queue_max_bytes;
    /** Lends until sr_channel_close(): a pool attached to the ring, with buffers of at least 4,096
     * bytes, of which the channel takes three. NULL: the channel makes and attaches one of its own,
     * three buffers of 64 KiB; a ring has room for `pools_max` pools. */
    sr_pool *pool;
    sr_channel_state_fn on_state; /* or NULL */
    sr_event_fn on_event;         /* or NULL: events are counted and dropped */
    void *ctx;                    /* of both */
    /** How long sr_channel_close() waits for the kernel. Default 5 s. */
    uint64_t drain_timeout_ns;
    uint32_t isolation; /* enum sr_isolation. Default FULL */
    uint32_t reserved;
    /** HYBRID and SHARED: bytes for payloads, each way, that are on their way at a time: 4 KiB ..
     * 2 GiB, rounded up to pages, taken at once. No payload is longer than this. Default 1 MiB. */
    uint64_t arena_bytes;
} sr_channel_options;

#define SR_CHANNEL_OPTIONS_INIT                                                                    \
    (SR_LITERAL(sr_channel_options){sizeof(sr_channel_options), 64, UINT32_C(67108864),            \
                                    UINT64_C(134217728), 0, 0, 0, 0, UINT64_C(5000000000),         \
                                    SR_ISOLATION_FULL, 0, UINT64_C(1048576)})

/**
 * sr_channel_open() - speak with a worker over a connected stream socket
 * @socket:       takes: a connected AF_UNIX SOCK_STREAM; the worker has the other end
 * @options:      borrows; NULL for the defaults
 * @out_channel:  returns owned: end with sr_channel_close(); NULL on failure
 *
 * The worker says which methods it has; until on_state has told that (code 0), there is nothing to
 * call. The worker has no time limit for it but the caller's patience.
 *
 * Return:  0, SR_E_BOUNDS (an option's range; the pool's buffers), -EINVAL (options), -EBADF,
 *          -ENOTSOCK (not a stream socket), SR_E_FULL (no file, pool or buffer left), SR_E_STALE
 *          or SR_E_OBJECT (the pool), SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED, -ENOMEM.
 * Thread:  the ring's owner.     Blocks: never.
 * Kernel:  getsockopt(2), fcntl(2), getrandom(2).
 */
SR_API SR_MUST_USE int sr_channel_open(sr_ring *ring, int socket, const sr_channel_options *options,
                                       sr_channel **out_channel);

/**
 * sr_channel_close() - end a channel; every call gets its answer first
 * @channel:  address of the variable; takes; NULL inside is allowed; NULL is left behind on success
 *
 * Calls without an answer are told -ECANCELED. The worker sees the end of its socket. Completions
 * of other operations that arrive meanwhile are kept for the next wait.
 *
 * Return:  0, SR_E_IN_FLIGHT (the kernel still has a buffer after `drain_timeout_ns`: call again),
 *          SR_E_OBJECT, SR_E_WRONG_THREAD (the owner lives), SR_E_STATE (inside of a callback; or
 *          the owner has ended, or this is a forked child, and the ring has not been destroyed).
 * Thread:  the ring's owner; any thread once the owner has ended, and the forked child: then, after
 *          the ring, only memory is freed.
 * Blocks:  up to `drain_timeout_ns`.
 */
SR_API int sr_channel_close(sr_channel **channel);

/**
 * sr_channel_method() - the number of a method of the worker
 * @name:        borrows
 * @out_method:  0 on failure
 *
 * Return:  0, -ENOENT (it has no such method), SR_E_STATE (it has not said yet which it has), the
 *          code with which the channel ended, -EINVAL, SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_channel_method(sr_channel *channel, const char *name,
                                         uint32_t *out_method);

typedef struct sr_call_request {
    size_t size;      /* sizeof(sr_call_request) */
    const void *data; /* copies */
    uint64_t data_bytes;
    uint32_t method; /* sr_channel_method() */
    uint32_t reserved;
    uint64_t tag;           /* the caller's, comes back in the answer */
    void *ctx;              /* the caller's, comes back beside the answer */
    sr_answer_fn on_answer; /* NULL: nobody is told */
    /** Relative; 0 for none. When it passes the answer is SR_E_TIMEOUT; what the worker still says
     * is dropped and counted, and the call occupies one of `calls_max` until then. */
    uint64_t deadline_ns;
} sr_call_request;

#define SR_CALL_REQUEST_INIT                                                                       \
    (SR_LITERAL(sr_call_request){sizeof(sr_call_request), 0, 0, 0, 0, 0, 0, 0, 0})

/**
 * sr_channel_call() - call a method of the worker
 * @request:   borrows
 * @out_call:  may be NULL; SR_CALL_NONE on failure
 *
 * The call goes out with the next wait, flush excepted: all calls made before it share one send.
 *
 * Return:  0, SR_E_FULL (`calls_max` or `queue_max_bytes`; of HYBRID and SHARED: no room in the
 *          memory until the worker has read on, which ends a wait), SR_E_BOUNDS (payload, method),
 *          SR_E_STATE (the worker is not ready), the code with which the channel ended, -EINVAL,
 *          -ENOMEM, SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED. Nothing was called then.
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_channel_call(sr_channel *channel, const sr_call_request *request,
                                       sr_call *out_call);

/**
 * sr_channel_note() - call a method of the worker that nobody answers
 * @data:  copies
 *
 * Return:  as sr_channel_call().
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_channel_note(sr_channel *channel, uint32_t method, const void *data,
                                       uint64_t data_bytes);

/**
 * sr_call_cancel() - stop waiting for an answer
 *
 * The answer is -ECANCELED, told in the next wait. The worker is not told; see
 * `deadline_ns` of sr_call_request for what it may still say.
 *
 * Return:  0, SR_E_STALE (answered, or never a call of this channel), SR_E_OBJECT,
 *          SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_call_cancel(sr_channel *channel, sr_call call);

typedef struct sr_channel_stats {
    size_t size; /* sizeof(sr_channel_stats) */
    uint64_t calls;
    uint64_t answers;      /* of methods, told */
    uint64_t failures;     /* told by the channel: deadline, cancel, end */
    uint64_t answers_late; /* of methods, dropped: the call had been given up */
    uint64_t notes;
    uint64_t events;
    uint64_t events_dropped; /* of these, without on_event */
    uint64_t bytes_sent;     /* on the socket, 32 for each message included */
    uint64_t bytes_received;
    uint64_t sends; /* operations of the ring: many messages go in one. Of HYBRID and SHARED: system
                       calls to wake the worker, and sleeps from which it woke us */
    uint64_t receives;
    uint32_t calls_in_flight; /* without an answer of the worker, given up ones included */
    uint32_t calls_given_up;  /* of these */
    int32_t code;             /* 0, or with what the channel ended */
    uint32_t ready;           /* 1: the worker has said which methods it has */
} sr_channel_stats;

#define SR_CHANNEL_STATS_INIT                                                                      \
    (SR_LITERAL(sr_channel_stats){sizeof(sr_channel_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
                                  0, 0})

/**
 * sr_channel_get_stats() - what a channel has done so far
 * @out_stats:  `size` must be set
 *
 * Return:  0, -EINVAL, SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_channel_get_stats(sr_channel *channel, sr_channel_stats *out_stats);

SR_EXTERN_C_END

#endif
