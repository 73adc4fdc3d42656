/* SPDX-License-Identifier: MIT */
/*
 * Service: seats for workers of one kind, and the calls that they share. Each turn brings the seats
 * nearer to what is wanted (service_balance.c), hands out the calls that wait (service_call.c), and
 * moves each worker from its start to its end (service_worker.c).
 *
 * Invariants: a call is in one of two places, the queue of the service or the list of one worker,
 * and has one answer. A seat is free when its worker's process has ended, as the launcher says, and
 * its channel is closed. Calls go to active workers of the serving version alone.
 */
#ifndef SAFERING_IPC_SERVICE_H
#define SAFERING_IPC_SERVICE_H

#include "ipc/call.h"
#include "ipc/hello.h"
#include "ipc/histogram.h"
#include "ipc/recipe.h"
#include "ipc/restart.h"
#include "ipc/strings.h"
#include "ipc/supervisor.h"
#include <safering/worker.h>

#define SRI_SERVICE_MAGIC  UINT32_C(0x53565201)
#define SRI_CALL_TRIES_MAX 3u

struct sri_service_worker;

/* ---- calls ------------------------------------------------------------------------------------
 */

/* What a service adds to the struct sri_call of the same slot. */
struct sri_service_call {
    sr_service_answer_fn on_answer;
    void *data; /* owned: kept while it waits, and for a second try; else NULL */
    uint64_t data_bytes;
    uint64_t made_ns;
    struct sri_service_worker *worker; /* that has it; NULL: it waits */
    sr_call issued;                    /* of the worker's channel */
    uint32_t prev;
    uint32_t next;
    uint32_t tries;
};

#define SRI_SERVICE_NO_CALL UINT32_MAX

struct sri_service_list {
    uint32_t first;
    uint32_t last;
    uint32_t count;
};

#define SRI_SERVICE_LIST_EMPTY                                                                     \
    ((struct sri_service_list){SRI_SERVICE_NO_CALL, SRI_SERVICE_NO_CALL, 0})

struct sri_service_method {
    char name[SRI_METHOD_NAME_MAX + 1];
    bool is_idempotent;
    uint64_t failures;
    uint64_t bytes_sent;
    uint64_t bytes_received;
    struct sri_histogram times; /* of those that were answered */
};

/* ---- workers ----------------------------------------------------------------------------------
 */

enum sri_seat {
    SRI_SEAT_FREE,
    SRI_SEAT_STARTING, /* the launcher was asked */
    SRI_SEAT_READY,    /* it runs, and has said which methods it has */
    SRI_SEAT_DRAINING, /* no new calls */
    SRI_SEAT_ENDING    /* its channel goes, or has gone, and its process, too */
};

struct sri_service_worker {
    sr_service *service;
    uint64_t id;         /* the launcher's */
    uint32_t seat;       /* enum sri_seat */
    bool is_active;      /* gets calls; else a spare */
    bool is_retiring;    /* it goes when others are ready in its place */
    bool has_process;    /* it is the launcher's until that says EXITED or START_FAILED */
    bool wants_kill;     /* as soon as the launcher takes it */
    bool has_told_event; /* since its last answer */
    bool has_answered;
    bool owes_beat;  /* it was asked whether it goes on */
    bool is_noted;   /* the service knows that it ends */
    bool has_record; /* which call it ran is in `exit` */
    sr_channel *channel;
    uint64_t deadline_ns; /* of the state that it is in; SR_FOREVER: none */
    struct sri_service_list calls;
    uint16_t *methods;                /* its own number of each of the service's */
    sr_worker_exit exit;              /* as far as it is known */
    uint32_t layers_required;         /* of its sandbox */
    struct sri_sandbox_report report; /* as far as it is known */
};

/* ---- service ----------------------------------------------------------------------------------
 */

struct sr_service {
    uint32_t magic;
    uint32_t state; /* enum sr_service_state */
    bool closing;
    bool is_reloading;
    bool reload_fails;   /* one of the new workers ends; which code it is shows when it has */
    bool has_told_ready; /* of the serving version */
    bool has_changed;    /* seats are to be looked at in the next turn */
    char name[SR_SERVICE_NAME_MAX + 1];
    uint32_t number; /* of its supervisor's: tells apart what has the same name */
    uint64_t owner_key;
    sr_supervisor *supervisor;
    sr_service *next;
    sr_service_options options;
    struct sri_recipe recipe;        /* of the newest version: what is started */
    struct sri_recipe recipe_before; /* while reloading: to return to */
    uint32_t version_serving;        /* whose workers take calls */
    uint32_t version_last;           /* given out */
    struct sri_restart restart;
    uint64_t start_not_before_ns; /* 0: no need to wait */
    uint64_t seats_due_ns;        /* when seats are to be looked at though nothing has changed */
    uint32_t restarts_owed;       /* workers that ended unasked and were not replaced yet */
    struct sri_service_worker *workers;
    uint32_t worker_count; /* seats */
    uint32_t proxy_count;  /* that are open */
    struct sri_calls calls;
    struct sri_service_call *details; /* by slot of `calls` */
    struct sri_service_list waiting;
    struct sri_service_method *methods;
    uint32_t method_count;
    struct sri_hello hello;  /* of the worker that was ready last: the methods that there are */
    uint8_t *hello_bytes;    /* owned; what it points to */
    const char **idempotent; /* owned; or NULL */
    sr_service_stats stats;
};

int sri_service_check(const sr_service *service);
uint64_t sri_service_now(const sr_service *service);
/* Everything that is due. Called in the supervisor's turns. */
void sri_service_turn(sr_service *service);
/* When it wants the next turn at the latest. */
uint64_t sri_service_deadline(const sr_service *service);
/* Something has happened to a seat: the next turn looks at all of them, and comes at once. */
void sri_service_change(sr_service *service);
/* Its worker of this number, or NULL. */
struct sri_service_worker *sri_service_find_worker(sr_service *service, uint64_t id);
void sri_service_tell_state(sr_service *service, enum sr_service_change change, uint32_t version,
                            int code);

/* ---- service_balance.c ------------------------------------------------------------------------
 */

/* Starts, retires and promotes workers; ends a reload. */
void sri_service_balance(sr_service *service);
/* Seats that a number of workers and spares need. */
uint32_t sri_service_seats(uint32_t workers, uint32_t spares);
/* A worker ends: what follows from that. In turns only. */
void sri_service_note_end(const struct sri_service_worker *worker);
/* It has left its seat. */
void sri_service_note_exit(sr_service *service, const sr_worker_exit *exit);

/* ---- service_call.c ---------------------------------------------------------------------------
 */

int sri_service_calls_init(sr_service *service);
void sri_service_calls_deinit(sr_service *service);
/* As sr_service_call(), with options that are taken and a misuse that is not reported. */
int sri_service_call(sr_service *service, const sr_service_request *request, sr_call *out_call);
/* Cancels it, and its answer is told to nobody. Does nothing if it has been answered. */
void sri_service_forget_call(sr_service *service, sr_call call);
/* Gives calls that wait to workers that have room. */
void sri_service_hand_out(sr_service *service);
/* Answers all calls for @code that wait, or, with a worker, that it has. */
void sri_service_fail_waiting(sr_service *service, int code);
/* Gives up what is due. */
void sri_service_give_up_due(sr_service *service);
/* on_answer of all calls to workers. */
void sri_service_on_answer(sr_channel *channel, const sr_answer *answer, void *ctx);
/* A worker is ready: takes note of its methods. */
void sri_service_take_methods(struct sri_service_worker *worker);
/* Which call it runs, for its crash record; once. */
void sri_service_record_call(struct sri_service_worker *worker);

/* ---- service_worker.c -------------------------------------------------------------------------
 */

/* Takes the seat. A start that fails at once is told like one that fails later. */
void sri_service_worker_start(struct sri_service_worker *worker);
/* Asks it to end: its channel ends. What it has not answered fails. */
void sri_service_worker_stop(struct sri_service_worker *worker, enum sr_worker_cause cause);
/* Ends it by SIGKILL. The first cause stays. */
void sri_service_worker_kill(struct sri_service_worker *worker, enum sr_worker_cause cause,
                             int code);
void sri_service_worker_drain(struct sri_service_worker *worker);
void sri_service_worker_on_event(struct sri_service_worker *worker,
                                 const struct sri_launch_event *event);
/* Deadlines, closing, and the end. */
void sri_service_worker_turn(struct sri_service_worker *worker);

#endif
