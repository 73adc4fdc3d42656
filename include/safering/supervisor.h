/* SPDX-License-Identifier: MIT */
/*
 * Supervisors: worker processes that are started, watched and replaced.
 *
 * A supervisor lives on a ring and has a launcher, a small process that starts workers and says how
 * each one died. A service is a number of workers of one kind that answer the same calls: a call
 * goes to one that has little to do, and waits while there is none. A worker that dies, breaks the
 * protocol or overruns the deadline of the call that it runs is replaced. When that happens too
 * often the service is down: its calls fail at once, until sr_service_reload() revives it.
 *
 * Every call gets exactly one answer, whatever becomes of workers, launcher and service.
 *
 * All callbacks run inside of a wait on the ring or of sr_service_close(), and count as callbacks
 * there. They may call, cancel and submit; waiting and closing are SR_E_STATE.
 */
#ifndef SAFERING_SUPERVISOR_H
#define SAFERING_SUPERVISOR_H

#include <safering/ipc.h>
#include <safering/sandbox.h>

SR_EXTERN_C_BEGIN

typedef struct sr_supervisor sr_supervisor;
typedef struct sr_service sr_service;

/* ---- supervisor -------------------------------------------------------------------------------
 */

typedef struct sr_supervisor_options {
    size_t size; /* sizeof(sr_supervisor_options) */
    /** Copies: absolute path of the program safering-launcher. NULL: the value of the environment
     * variable SAFERING_LAUNCHER, else where it was installed. */
    const char *launcher;
    /** Copies: the launcher's own environment, NULL at the end. NULL: none. Workers do not see it.
     */
    const char *const *variables;
    /** Most processes of all services together, those that are being replaced included: 1 .. 1,024.
     * Each has three buffers of 64 KiB in the supervisor's pool. Default 16. */
    uint32_t workers_max;
    uint32_t reserved;
    /** How long to wait for the launcher's start, and for its end. Default 5 s. */
    uint64_t timeout_ns;
} sr_supervisor_options;

#define SR_SUPERVISOR_OPTIONS_INIT                                                                 \
    (SR_LITERAL(sr_supervisor_options){sizeof(sr_supervisor_options), 0, 0, 16, 0,                 \
                                       UINT64_C(5000000000)})

/**
 * sr_supervisor_open() - start a launcher, and watch it from the ring
 * @options:         borrows; NULL for the defaults
 * @out_supervisor:  returns owned: end with sr_supervisor_close(); NULL on failure
 *
 * A launcher that is killed takes all workers with it; another one is started for the next worker.
 *
 * Return:  0, SR_E_BOUNDS (workers_max), -EINVAL (options), SR_E_FULL (no file or pool left),
 *          SR_E_TIMEOUT or SR_E_PROTOCOL (what is there is no launcher, or of another version),
 *          SR_E_PEER_DIED, a code of execve(2) for its path, -EMFILE, -ENOMEM, SR_E_OBJECT,
 *          SR_E_WRONG_THREAD, SR_E_FORKED, SR_E_STATE (inside of a callback).
 * Thread:  the ring's owner.     Blocks: until the launcher has started, up to `timeout_ns`.
 * Kernel:  posix_spawn(3), pidfd_open(2); Linux 5.9.
 */
SR_API SR_MUST_USE int sr_supervisor_open(sr_ring *ring, const sr_supervisor_options *options,
                                          sr_supervisor **out_supervisor);

/**
 * sr_supervisor_close() - end the launcher and everything that it has started
 * @supervisor:  address of the variable; takes; NULL inside is allowed; NULL is left behind on
 *               success
 *
 * Return:  0, SR_E_STATE (it has services; inside of a callback; or the owner has ended, or this is
 *          a forked child, and the ring has not been destroyed), SR_E_IN_FLIGHT (the kernel still
 *          polls the launcher: call again), SR_E_OBJECT, SR_E_WRONG_THREAD (the owner lives).
 * Thread:  the ring's owner; any thread once the owner has ended, and the forked child: then, after
 *          the ring, only memory and descriptors go.
 * Blocks:  until the launcher has ended, up to twice `timeout_ns`.
 */
SR_API int sr_supervisor_close(sr_supervisor **supervisor);

/* ---- service ----------------------------------------------------------------------------------
 */

enum sr_service_state {
    SR_SERVICE_STARTING = 1, /* no worker has been ready yet, or not since the service was down */
    SR_SERVICE_RUNNING = 2,  /* workers are, or will be again soon */
    SR_SERVICE_DOWN = 3      /* they have died too often */
};

/** What on_state tells. */
enum sr_service_change {
    SR_SERVICE_READY = 1,        /* the first worker of `version` takes calls; code 0 */
    SR_SERVICE_WENT_DOWN = 2,    /* code SR_E_WORKER_DOWN; all calls have been answered */
    SR_SERVICE_RELOADED = 3,     /* all workers are of `version`, the older ones have ended; 0 */
    SR_SERVICE_RELOAD_FAILED = 4 /* workers of the newer version do not get ready, so those of
                                    `version` go on; code: of the first failure */
};

/** sr_service_state_fn - told that a service has changed; @version: 1 at first, one more with each
 * reload. */
typedef void (*sr_service_state_fn)(sr_service *service, enum sr_service_change change,
                                    uint32_t version, int code, void *ctx);

/** Why a worker has ended. */
enum sr_worker_cause {
    SR_WORKER_BY_ITSELF = 1,      /* it exited or was killed; `end` and `status` say how */
    SR_WORKER_NOT_STARTED = 2,    /* it never ran; `code` says why */
    SR_WORKER_NOT_READY = 3,      /* killed: it said nothing within `start_timeout_ns` */
    SR_WORKER_STUCK = 4,          /* killed: the call that it ran had passed its deadline, or it had
                                     none and did not say that it goes on */
    SR_WORKER_BROKE_PROTOCOL = 5, /* killed: `code` is SR_E_PROTOCOL or SR_E_UNSUPPORTED */
    SR_WORKER_ASKED = 6,          /* the supervisor wanted it: reload, recycling, down, close */
    SR_WORKER_LAUNCHER_LOST = 7,  /* it went with the launcher; how is not known */
    SR_WORKER_NOT_CONFINED = 8    /* `sandbox_layer` is required and could not be had; `code` says
                                     why */
};

/** How a process ended, as waitid(2) tells. */
enum sr_worker_end {
    SR_WORKER_END_UNKNOWN = 0,
    SR_WORKER_EXITED = 1, /* status: the exit code */
    SR_WORKER_KILLED = 2  /* status: the signal */
};

/** What is left of a worker: its crash record, if it was one. */
typedef struct sr_worker_exit {
    uint64_t worker;  /* number of the worker in its supervisor; never used again */
    uint64_t answers; /* that it gave */
    uint64_t cpu_ns;  /* user and system, with children that it waited for */
    uint64_t resident_max_bytes;
    uint64_t call_tag; /* of the call that it ran when it ended */
    uint64_t call_bytes;
    const char *call_method; /* borrows; NULL: it ran none */
    uint32_t calls_lost;     /* that it had and did not answer, those tried again included */
    uint32_t version;
    int32_t pid;    /* as the host saw it; 0: it never ran */
    uint32_t cause; /* enum sr_worker_cause */
    uint32_t end;   /* enum sr_worker_end */
    int32_t status;
    int32_t code;
    uint32_t has_core; /* 1: a core was dumped */
    const char
        *sandbox_layer;    /* SR_WORKER_NOT_CONFINED: as sr_sandbox_layer_text() says; or NULL */
    uint32_t sandbox_path; /* that path of the policy cannot be opened, counted from 1; or 0 */
    uint32_t reserved;
} sr_worker_exit;

/** sr_worker_exit_fn - told once of each worker that has ended. @exit: borrows */
typedef void (*sr_worker_exit_fn)(sr_service *service, const sr_worker_exit *exit, void *ctx);

/** sr_service_event_fn - told what a worker sent on its own account; see sr_event_fn. */
typedef void (*sr_service_event_fn)(sr_service *service, uint64_t worker, uint32_t number,
                                    const void *data, uint64_t data_bytes, void *ctx);

/** sr_service_answer_fn - told the one answer of a call; @ctx is the request's. SR_ANSWER_CHANNEL
 * says: there is none, `result` says why. SR_E_PEER_DIED or SR_E_PROTOCOL: the worker that had the
 * call ended; SR_E_TIMEOUT: the deadline; SR_E_WORKER_DOWN: the service went down; -ENOENT: the
 * workers that came after a reload have no such method; -ECANCELED: sr_service_cancel() or
 * sr_service_close(). */
typedef void (*sr_service_answer_fn)(sr_service *service, const sr_answer *answer, void *ctx);

#define SR_SERVICE_WORKERS_MAX UINT32_C(256)
#define SR_SERVICE_NAME_MAX    63

typedef struct sr_service_options {
    size_t size; /* sizeof(sr_service_options) */
    /** Copies: absolute path of a program that calls sr_serve(). */
    const char *program;
    /** Copies: its arguments, without its name, NULL at the end. NULL: none. */
    const char *const *arguments;
    /** Copies: its whole environment, "NAME=value", NULL at the end. NULL: none.
     * SAFERING_WORKER_SOCKET is added and not allowed here. */
    const char *const *variables;
    /** Copies: the sandbox of the workers, see <safering/sandbox.h>. NULL: "strict", which lets a
     * worker compute and answer and nothing else. */
    const char *sandbox;
    /** Workers that take calls: 1 .. SR_SERVICE_WORKERS_MAX. Default 1. */
    uint32_t workers;
    /** Workers that are ready and wait for one of those to end. Default 0. */
    uint32_t spares;
    /** Most calls without an answer: 1 .. 65,536. Default 1,024. */
    uint32_t calls_max;
    /** Of these with one worker: 1 .. 65,536. It runs one at a time; when it dies all of them are
     * lost. Default 16. */
    uint32_t calls_per_worker;
    uint32_t payload_max_bytes; /* as in sr_channel_options; so are the next two */
    uint32_t isolation;
    uint32_t reserved;
    uint64_t arena_bytes; /* of each worker */
    /** More ends of workers, starts that failed included, than so many within
     * `restarts_window_ns`: the service goes down. 0 .. 1,000. Default 5 in 10 s. */
    uint32_t restarts_max;
    uint64_t restarts_window_ns;
    /** A worker that ends after it has answered is replaced at once, and so is the first that ends
     * before; from then on after so long, twice as long each time, up to `backoff_max_ns`, and
     * never sooner than after 1 ms. Defaults 10 ms and 1 s. */
    uint64_t backoff_first_ns;
    uint64_t backoff_max_ns;
    /** From a worker's start until it says which methods it has. Default 10 s. */
    uint64_t start_timeout_ns;
    /** From when a worker is asked to end until it is killed; and for draining it before. Default
     * 5 s. */
    uint64_t stop_timeout_ns;
    /** A worker is replaced, without losing a call, after so many answers; 0: never. */
    uint64_t recycle_answers;
    /** A worker without a call is asked so often whether it goes on, and killed as stuck if it has
     * not said so by the next time; spares, too. 0: never, the default, for it wakes everybody. */
    uint64_t heartbeat_ns;
    /** Copies: names of methods, NULL at the end. A call of one of these goes to another worker
     * when its own dies, up to three times, unless it ran and had sent events. NULL: none. */
    const char *const *idempotent;
    sr_service_state_fn on_state; /* or NULL; the same for the next two */
    sr_worker_exit_fn on_exit;
    sr_service_event_fn on_event;
    void *ctx; /* of all three */
    /** Copies: what it is called in metrics, 1 .. 63 printable characters of ASCII. NULL: as its
     * program. */
    const char *name;
} sr_service_options;

/* clang-format off */
#define SR_SERVICE_OPTIONS_INIT                                                                    \
    (SR_LITERAL(sr_service_options){sizeof(sr_service_options), 0, 0, 0, 0, 1, 0, 1024, 16,        \
                                    UINT32_C(67108864), SR_ISOLATION_FULL, 0, UINT64_C(1048576),   \
                                    5, UINT64_C(10000000000), UINT64_C(10000000),                  \
                                    UINT64_C(1000000000), UINT64_C(10000000000),                   \
                                    UINT64_C(5000000000), 0, 0, 0, 0, 0, 0, 0, 0})
/* clang-format on */

/**
 * sr_service_open() - start workers of one kind
 * @options:      borrows
 * @out_service:  returns owned: end with sr_service_close(); NULL on failure
 *
 * Returns before a worker has started; calls may be made as soon as on_state has told
 * SR_SERVICE_READY. That a program is not there, or is none, shows in on_exit.
 *
 * Return:  0, SR_E_BOUNDS (a number's range), SR_E_FULL (`workers_max` of the supervisor has no
 *          room for workers, spares and one that is being replaced), -EINVAL (options, a path that
 *          is not absolute, a variable), what sr_sandbox_check() says of the sandbox, -E2BIG
 *          (arguments and variables), -ENOMEM, SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED,
 *          SR_E_STATE (inside of a callback).
 * Thread:  the ring's owner.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_service_open(sr_supervisor *supervisor, const sr_service_options *options,
                                       sr_service **out_service);

/**
 * sr_service_close() - end a service; every call gets its answer first
 * @service:  address of the variable; takes; NULL inside is allowed; NULL is left behind on success
 *
 * Calls without an answer are told -ECANCELED. Workers are asked to end, and killed after
 * `stop_timeout_ns`. Completions of other operations that arrive meanwhile are kept for the next
 * wait.
 *
 * Return:  0, SR_E_IN_FLIGHT (the kernel could not end a process, or still has a buffer: call
 *          again), SR_E_OBJECT, SR_E_WRONG_THREAD (the owner lives), SR_E_STATE (a proxy of
 *          it is open; or inside of a callback; or the owner has ended, or this is a forked child,
 *          and the ring has not been destroyed).
 * Thread:  as sr_supervisor_close().     Blocks: up to `stop_timeout_ns` and five seconds more.
 */
SR_API int sr_service_close(sr_service **service);

/**
 * sr_service_method() - the number of a method, for all calls of this service
 * @name:        borrows
 * @out_method:  0 on failure
 *
 * Return:  0, -ENOENT (the workers have no such method), SR_E_STATE (no worker has said yet which
 *          it has), SR_E_FULL (SR_METHODS_MAX names were asked for), -EINVAL, SR_E_OBJECT,
 *          SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_service_method(sr_service *service, const char *name,
                                         uint32_t *out_method);

typedef struct sr_service_request {
    size_t size;      /* sizeof(sr_service_request) */
    const void *data; /* copies */
    uint64_t data_bytes;
    uint32_t method; /* sr_service_method() */
    uint32_t reserved;
    uint64_t tag;                   /* the caller's, comes back in the answer */
    void *ctx;                      /* the caller's, comes back beside the answer */
    sr_service_answer_fn on_answer; /* NULL: nobody is told */
    /** Relative, waiting for a worker included; 0 for none. When it passes the answer is
     * SR_E_TIMEOUT, and the worker is killed if this is the call that it runs. */
    uint64_t deadline_ns;
} sr_service_request;

#define SR_SERVICE_REQUEST_INIT                                                                    \
    (SR_LITERAL(sr_service_request){sizeof(sr_service_request), 0, 0, 0, 0, 0, 0, 0, 0})

/**
 * sr_service_call() - call a method of a worker
 * @request:   borrows
 * @out_call:  may be NULL; SR_CALL_NONE on failure
 *
 * Calls of one worker run in the order in which they were made; of several workers, and after one
 * died, there is no order.
 *
 * Return:  0, SR_E_FULL (`calls_max`), SR_E_WORKER_DOWN, -ENOENT (a reload has taken the method
 *          away), SR_E_BOUNDS (payload, method), -EINVAL, -ENOMEM, SR_E_OBJECT, SR_E_WRONG_THREAD,
 *          SR_E_FORKED. Nothing was called then.
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_service_call(sr_service *service, const sr_service_request *request,
                                       sr_call *out_call);

/**
 * sr_service_cancel() - stop waiting for an answer
 *
 * The answer is -ECANCELED, told in the next wait. A worker that has the call is not told.
 *
 * Return:  0, SR_E_STALE (answered, or never a call of this service), SR_E_OBJECT,
 *          SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_service_cancel(sr_service *service, sr_call call);

/**
 * sr_service_reload() - replace all workers by others
 * @options:  borrows; program, arguments, variables and sandbox are the new ones, everything else
 *            stays as it is. NULL: the same program again, whatever it is by now
 *
 * New workers start beside the old ones. When as many as take calls are ready they get the new
 * calls; the old ones answer what they have and end. No call fails for it. If the new ones end
 * before they are ready, on_state tells SR_SERVICE_RELOAD_FAILED and nothing has changed. A service
 * that is down starts anew.
 *
 * Return:  0, SR_E_STATE (a reload is under way), SR_E_FULL (`workers_max` of the supervisor has no
 *          room for both generations), -EINVAL, -E2BIG, -ENOMEM, SR_E_OBJECT, SR_E_WRONG_THREAD,
 *          SR_E_FORKED.
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_service_reload(sr_service *service, const sr_service_options *options);

typedef struct sr_service_stats {
    size_t size; /* sizeof(sr_service_stats) */
    uint64_t calls;
    uint64_t answers;  /* of methods, told */
    uint64_t failures; /* told by the service */
    uint64_t retries;  /* calls that were given to another worker */
    uint64_t starts;   /* of workers */
    uint64_t restarts; /* of these, for one that ended unasked */
    uint64_t ends_unasked;
    uint64_t kills_stuck;
    uint64_t recycled;
    uint64_t heartbeats; /* that workers answered */
    uint64_t reloads;    /* that succeeded */
    uint64_t events;
    uint32_t calls_in_flight; /* without an answer */
    uint32_t calls_waiting;   /* of these, for a worker */
    uint32_t workers_ready;   /* spares included */
    uint32_t workers;         /* processes, those that end included */
    uint32_t version;         /* that takes calls */
    uint32_t state;           /* enum sr_service_state */
} sr_service_stats;

#define SR_SERVICE_STATS_INIT                                                                      \
    (SR_LITERAL(sr_service_stats){sizeof(sr_service_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
                                  0, 0, 0, 0, 0})

/**
 * sr_service_get_stats() - what a service has done so far
 * @out_stats:  `size` must be set
 *
 * Return:  0, -EINVAL, SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_service_get_stats(sr_service *service, sr_service_stats *out_stats);

enum sr_worker_state {
    SR_WORKER_STARTING = 1,
    SR_WORKER_READY = 2,    /* takes calls, or is a spare */
    SR_WORKER_DRAINING = 3, /* answers what it has */
    SR_WORKER_ENDING = 4
};

typedef struct sr_worker_info {
    uint64_t worker; /* as in sr_worker_exit */
    uint64_t answers;
    int32_t pid;    /* 0: not yet known */
    uint32_t state; /* enum sr_worker_state */
    uint32_t version;
    uint32_t calls; /* that it has */
    uint32_t is_spare;
    uint32_t reserved;
} sr_worker_info;

/**
 * sr_service_workers() - the workers that there are now
 * @out_list:  room for @room of them; NULL with 0
 *
 * Return:  how many there are, however many had room; -EINVAL, SR_E_OBJECT, SR_E_WRONG_THREAD,
 *          SR_E_FORKED.
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API int sr_service_workers(sr_service *service, sr_worker_info *out_list, uint32_t room);

/** What the calls of one method have come to. */
typedef struct sr_method_stats {
    size_t size; /* sizeof(sr_method_stats) */
    uint64_t answers;
    uint64_t failures;   /* told by the service */
    uint64_t bytes_sent; /* payloads of calls that have been answered; so is the next */
    uint64_t bytes_received;
    /** From call to answer, waiting for a worker included, of those that the method answered. */
    uint64_t sum_ns;
    uint64_t max_ns;
    /** At least half, 99 % and 99.9 % of them took no longer: a power of two, or `max_ns`. */
    uint64_t p50_ns;
    uint64_t p99_ns;
    uint64_t p999_ns;
} sr_method_stats;

#define SR_METHOD_STATS_INIT                                                                       \
    (SR_LITERAL(sr_method_stats){sizeof(sr_method_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0})

/**
 * sr_service_get_method_stats() - what the calls of one method have come to
 * @method:     sr_service_method()
 * @out_stats:  `size` must be set
 *
 * Return:  0, SR_E_BOUNDS (method), -EINVAL, SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_service_get_method_stats(sr_service *service, uint32_t method,
                                                   sr_method_stats *out_stats);

/**
 * sr_supervisor_metrics() - all services of a supervisor, in the text format of Prometheus
 * @text:  room for @room bytes, a zero at the end included; NULL with 0
 *
 * Counters and gauges of each service, labelled with its name and number; counters and a histogram
 * of times of each method whose number was asked for.
 *
 * Return:  the length of all of it without the zero, however much had room; -EINVAL, SR_E_OBJECT,
 *          SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API int64_t sr_supervisor_metrics(sr_supervisor *supervisor, char *text, size_t room);

/**
 * sr_service_sandbox() - what confines a worker
 * @worker:      its number, as in sr_worker_info
 * @out_report:  `size` must be set
 *
 * Complete once the worker is ready; what has not been entered yet is SR_SANDBOX_NOT_ASKED. The
 * layers up to the start of its program are the launcher's word, the others its own: of code that
 * is hostile before it is confined nothing can be known.
 *
 * Return:  0, SR_E_STALE (there is no such worker, or no longer), -EINVAL, SR_E_OBJECT,
 *          SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the ring's owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_service_sandbox(sr_service *service, uint64_t worker,
                                          sr_sandbox_report *out_report);

SR_EXTERN_C_END

#endif
