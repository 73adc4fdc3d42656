/* SPDX-License-Identifier: MIT */
/*
 * Proxy: a service for threads that own no ring. Any number of threads call through one proxy, and
 * each waits for its answer; the owner of the service's ring makes the calls in its waits, and is
 * woken for that if it sleeps there, or in an event loop on the ring's event descriptor.
 *
 * See docs/IPC.md; for what a call and its answer are, <safering/supervisor.h>.
 */
#ifndef SAFERING_PROXY_H
#define SAFERING_PROXY_H

#include <safering/supervisor.h>

SR_EXTERN_C_BEGIN

typedef struct sr_proxy sr_proxy;

typedef struct sr_proxy_options {
    size_t size;        /* sizeof(sr_proxy_options) */
    uint32_t calls_max; /* threads that wait at once: 1 .. 65,536. Default 64 */
    uint32_t reserved;
} sr_proxy_options;

#define SR_PROXY_OPTIONS_INIT (SR_LITERAL(sr_proxy_options){sizeof(sr_proxy_options), 64, 0})

/**
 * sr_proxy_open() - let threads without a ring call a service
 * @service:    lends until the proxy is closed; its ring has an inbox (`inbox_entries`), of which
 *              the proxy uses the wake-up and no entry
 * @options:    borrows; NULL for the defaults
 * @out_proxy:  returns owned: end with sr_proxy_close(); NULL on failure
 *
 * Return:  0, SR_E_BOUNDS (`calls_max`), -EINVAL, -ENOMEM, SR_E_STATE (the ring has no inbox),
 *          SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the ring's owner.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_proxy_open(sr_service *service, const sr_proxy_options *options,
                                     sr_proxy **out_proxy);

/**
 * sr_proxy_stop() - refuse calls from now on, so that threads can be told to end
 *
 * Threads that wait are answered -ECANCELED; workers that have such calls are not told. Returns
 * when no thread waits any more. Whoever calls later gets -ECANCELED, until the proxy is closed.
 *
 * Return:  0, also when it has stopped already; SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED,
 *          SR_E_STATE (inside of a callback).
 * Thread:  the ring's owner.     Blocks: until threads that have their answer have left.
 */
SR_API SR_MUST_USE int sr_proxy_stop(sr_proxy *proxy);

/**
 * sr_proxy_close() - end a proxy
 * @proxy:  address of the variable; takes; NULL inside is allowed; NULL is left behind on success
 *
 * Stops it first. No thread may begin a call any more: stop it, join the threads, close it.
 *
 * Return:  0, SR_E_OBJECT, SR_E_WRONG_THREAD (the owner lives), SR_E_STATE (inside of a callback;
 *          or the owner has ended, or this is a forked child, and the ring has not been destroyed).
 * Thread:  as sr_service_close().     Blocks: as sr_proxy_stop().
 */
SR_API int sr_proxy_close(sr_proxy **proxy);

typedef struct sr_proxy_request {
    size_t size;      /* sizeof(sr_proxy_request) */
    const void *data; /* borrows until the call returns */
    uint64_t data_bytes;
    uint32_t method; /* sr_service_method(), which the ring's owner asks */
    uint32_t reserved;
    /** Relative, waiting for the ring's owner included; 0 for none. The answer is SR_E_TIMEOUT when
     * it passes, wherever the call is; a worker that runs it is killed. */
    uint64_t deadline_ns;
    /** Lends until the call returns: where the answer's bytes go if they fit. May be NULL with 0.
     */
    void *room;
    uint64_t room_bytes;
} sr_proxy_request;

#define SR_PROXY_REQUEST_INIT                                                                      \
    (SR_LITERAL(sr_proxy_request){sizeof(sr_proxy_request), 0, 0, 0, 0, 0, 0, 0})

typedef struct sr_proxy_answer {
    int64_t result;   /* as in sr_answer */
    uint32_t source;  /* enum sr_answer_source */
    uint32_t owned;   /* 1: `data` goes with sr_proxy_answer_release(); 0: it is in `room` */
    const void *data; /* NULL for none */
    uint64_t data_bytes;
} sr_proxy_answer;

#define SR_PROXY_ANSWER_INIT (SR_LITERAL(sr_proxy_answer){0, 0, 0, 0, 0})

/**
 * sr_proxy_call() - call a method of a worker and wait for the answer
 * @request:     borrows
 * @out_answer:  returns owned: end with sr_proxy_answer_release(), which frees nothing if all fit
 *               into `room`; empty on failure
 *
 * With 0 there is an answer. SR_ANSWER_METHOD is the method's; SR_ANSWER_CHANNEL is the service's,
 * as told to on_answer (SR_E_PEER_DIED, SR_E_WORKER_DOWN, SR_E_TIMEOUT, ...), or of the proxy:
 * -ECANCELED when it is stopped, -ENOMEM for an answer that there was no memory for, SR_E_PEER_DIED
 * when the thread that owns the ring has ended. Without a deadline the call waits as long as the
 * owner does something else than wait.
 *
 * Return:  0; or nothing was called: SR_E_FULL (`calls_max` of the proxy or of the service),
 *          SR_E_WORKER_DOWN, -ENOENT, SR_E_BOUNDS (payload, method), -EINVAL, -ENOMEM, -ECANCELED
 *          (the proxy has been stopped), SR_E_STATE (the ring's owner would wait for itself),
 *          SR_E_OBJECT, SR_E_FORKED.
 * Thread:  any but the ring's owner.     Blocks: until the answer.
 * Kernel:  futex(2).
 */
SR_API SR_MUST_USE int sr_proxy_call(sr_proxy *proxy, const sr_proxy_request *request,
                                     sr_proxy_answer *out_answer);

/**
 * sr_proxy_answer_release() - end an answer
 * @answer:  takes what it owns; empty afterwards. NULL and an empty one are allowed
 *
 * Thread:  any, also after the proxy has gone.     Blocks: never.
 */
SR_API void sr_proxy_answer_release(sr_proxy_answer *answer);

SR_EXTERN_C_END

#endif
