/* SPDX-License-Identifier: MIT */
/* The calls of a service: in its queue, or with one of its workers. */
#include "ipc/channel.h"
#include "ipc/service.h"
#include "sys/clock.h"
#include "sys/memory.h"

#include <errno.h>

/* ---- lists ------------------------------------------------------------------------------------
 */

static uint32_t slot_of(const sr_service *service, const struct sri_call *call) {
    return (uint32_t)(call - service->calls.list);
}

static struct sri_service_call *detail_of(const sr_service *service, const struct sri_call *call) {
    return &service->details[slot_of(service, call)];
}

static struct sri_service_list *list_of(sr_service *service,
                                        const struct sri_service_call *detail) {
    return detail->worker != NULL ? &detail->worker->calls : &service->waiting;
}

/* Behind @prev, or at the front. */
static void insert(sr_service *service, struct sri_service_list *list, uint32_t slot,
                   uint32_t prev) {
    struct sri_service_call *detail = &service->details[slot];
    uint32_t *from_prev = prev != SRI_SERVICE_NO_CALL ? &service->details[prev].next : &list->first;
    detail->prev = prev;
    detail->next = *from_prev;
    *from_prev = slot;
    if (detail->next != SRI_SERVICE_NO_CALL) {
        service->details[detail->next].prev = slot;
    } else {
        list->last = slot;
    }
    list->count++;
}

static void take_out(sr_service *service, uint32_t slot) {
    struct sri_service_call *detail = &service->details[slot];
    struct sri_service_list *list = list_of(service, detail);
    if (detail->prev != SRI_SERVICE_NO_CALL) {
        service->details[detail->prev].next = detail->next;
    } else {
        list->first = detail->next;
    }
    if (detail->next != SRI_SERVICE_NO_CALL) {
        service->details[detail->next].prev = detail->prev;
    } else {
        list->last = detail->prev;
    }
    list->count--;
    detail->prev = detail->next = SRI_SERVICE_NO_CALL;
    if (list->count == 0 && detail->worker != NULL && detail->worker->seat == SRI_SEAT_DRAINING) {
        service->has_changed = true; /* nothing holds it any more */
    }
}

/* ---- answers ----------------------------------------------------------------------------------
 */

static void count_answer(sr_service *service, const struct sri_call *call,
                         const sr_answer *answer) {
    const struct sri_service_call *detail = detail_of(service, call);
    struct sri_service_method *method = &service->methods[call->method];
    method->bytes_sent += detail->data_bytes;
    if (answer->source != SR_ANSWER_METHOD) {
        service->stats.failures++;
        method->failures++;
        return;
    }
    service->stats.answers++;
    method->bytes_received += answer->data_bytes;
    sri_histogram_add(&method->times, sri_service_now(service) - detail->made_ns);
}

/* The one answer of a call, whose record is free before anybody is told. */
static void answer_call(sr_service *service, struct sri_call *call, sr_answer *answer) {
    struct sri_service_call *detail = detail_of(service, call);
    const sr_service_answer_fn on_answer = detail->on_answer;
    void *ctx = call->ctx;
    answer->call.bits = call->handle;
    answer->tag = call->tag;
    answer->method = call->method;
    count_answer(service, call, answer);
    take_out(service, slot_of(service, call));
    sri_release(detail->data);
    *detail = (struct sri_service_call){.prev = SRI_SERVICE_NO_CALL, .next = SRI_SERVICE_NO_CALL};
    sri_call_release(&service->calls, call);
    if (on_answer != NULL) {
        sri_ring_count_callback(service->supervisor->client.ring);
        on_answer(service, answer, ctx);
    }
}

static void fail_call(sr_service *service, struct sri_call *call, int64_t code) {
    sr_answer answer = {.result = code, .source = SR_ANSWER_CHANNEL};
    answer_call(service, call, &answer);
}

void sri_service_fail_waiting(sr_service *service, int code) {
    /* What callbacks call anew comes behind these, and is not failed here. */
    for (uint32_t left = service->waiting.count; left > 0 && service->waiting.count > 0; left--) {
        fail_call(service, &service->calls.list[service->waiting.first], code);
    }
}

/* The call that a worker runs is the first that it has. */
void sri_service_record_call(struct sri_service_worker *worker) {
    const sr_service *service = worker->service;
    const uint32_t slot = worker->calls.first;
    if (worker->has_record) {
        return;
    }
    worker->has_record = true;
    if (worker->calls.count > 0) {
        const struct sri_call *call = &service->calls.list[slot];
        worker->exit.call_tag = call->tag;
        worker->exit.call_bytes = service->details[slot].data_bytes;
        worker->exit.call_method = service->methods[call->method].name;
    }
}

/* ---- to a worker ------------------------------------------------------------------------------
 */

/* An effect that somebody has seen is not to come about twice. */
static bool may_try_again(const sr_service *service, const struct sri_service_worker *worker,
                          const struct sri_call *call) {
    const struct sri_service_call *detail = &service->details[slot_of(service, call)];
    const bool ran = worker->calls.first == slot_of(service, call);
    return service->methods[call->method].is_idempotent && detail->tries < SRI_CALL_TRIES_MAX &&
           !(ran && worker->has_told_event) && !service->closing &&
           service->state != SR_SERVICE_DOWN;
}

static void try_again(sr_service *service, struct sri_call *call) {
    struct sri_service_call *detail = detail_of(service, call);
    take_out(service, slot_of(service, call));
    detail->worker = NULL;
    insert(service, &service->waiting, slot_of(service, call), SRI_SERVICE_NO_CALL);
    service->stats.retries++;
    sri_supervisor_want_turn(service->supervisor);
}

static void on_worker_lost(struct sri_service_worker *worker, struct sri_call *call, int64_t code) {
    sr_service *service = worker->service;
    sri_service_record_call(worker);
    worker->exit.calls_lost++;
    if (may_try_again(service, worker, call)) {
        try_again(service, call);
        return;
    }
    /* A channel that is closed says so; to the caller its worker has gone. */
    if (code == -ECANCELED && !service->closing) {
        code = SR_E_PEER_DIED;
    }
    fail_call(service, call, service->state == SR_SERVICE_DOWN ? SR_E_WORKER_DOWN : code);
}

void sri_service_on_answer(sr_channel *channel, const sr_answer *answer, void *ctx) {
    struct sri_service_worker *worker = ctx;
    sr_service *service = worker->service;
    struct sri_call *call = sri_call_find(&service->calls, answer->tag);
    (void)channel;
    if (answer->source == SR_ANSWER_METHOD) {
        worker->has_answered = true;
        worker->has_told_event = false;
        worker->exit.answers++;
        sri_supervisor_want_turn(service->supervisor); /* there is room for another one */
        service->has_changed =
            service->has_changed || worker->exit.answers == service->options.recycle_answers;
    }
    if (call == NULL || detail_of(service, call)->worker != worker) {
        return; /* it has been given up */
    }
    if (answer->source == SR_ANSWER_METHOD) {
        sr_answer told = *answer;
        answer_call(service, call, &told);
    } else {
        on_worker_lost(worker, call, answer->result);
    }
}

/* The worker with the fewest calls that may take one more of this method; *out_exists: one that
 * takes calls has the method, or none is there to say. */
static struct sri_service_worker *choose(const sr_service *service, uint32_t method,
                                         bool *out_exists) {
    struct sri_service_worker *best = NULL;
    bool is_known = false;
    *out_exists = false;
    for (uint32_t i = 0; i < service->worker_count; i++) {
        struct sri_service_worker *worker = &service->workers[i];
        if (worker->seat != SRI_SEAT_READY || !worker->is_active || !worker->has_process ||
            worker->exit.version != service->version_serving) {
            continue;
        }
        is_known = true;
        if (worker->methods[method] == SRI_METHOD_NOT_KNOWN) {
            continue;
        }
        *out_exists = true;
        if (worker->channel->calls.count < service->options.calls_per_worker &&
            (best == NULL || worker->calls.count < best->calls.count)) {
            best = worker;
        }
    }
    *out_exists = *out_exists || !is_known;
    return best;
}

/* Returns 0, or why the worker does not take it: the call is where it was then. */
static int issue(sr_service *service, struct sri_service_worker *worker, struct sri_call *call,
                 const void *data) {
    struct sri_service_call *detail = detail_of(service, call);
    sr_call_request request = SR_CALL_REQUEST_INIT;
    request.method = worker->methods[call->method];
    request.data = data;
    request.data_bytes = detail->data_bytes;
    request.tag = call->handle;
    request.ctx = worker;
    request.on_answer = sri_service_on_answer;
    const int code = sr_channel_call(worker->channel, &request, &detail->issued);
    if (code < 0) {
        return code;
    }
    take_out(service, slot_of(service, call));
    detail->worker = worker;
    detail->tries++;
    insert(service, &worker->calls, slot_of(service, call), worker->calls.last);
    if (detail->data != NULL && !service->methods[call->method].is_idempotent) {
        sri_release(detail->data);
        detail->data = NULL;
    }
    return 0;
}

/* Moves the first call that waits. Returns false if there is nothing more to do now. */
static bool hand_out_first(sr_service *service) {
    struct sri_call *call = &service->calls.list[service->waiting.first];
    bool exists = false;
    struct sri_service_worker *worker = choose(service, call->method, &exists);
    if (worker == NULL) {
        if (exists) {
            return false;
        }
        fail_call(service, call, -ENOENT);
        return true;
    }
    /* What is refused for want of memory is tried in the next turn; a channel that has just ended
     * is out of the choice in the next turn, too. */
    return issue(service, worker, call, detail_of(service, call)->data) == 0;
}

void sri_service_hand_out(sr_service *service) {
    while (service->waiting.count > 0 && hand_out_first(service)) {
    }
}

/* ---- giving up --------------------------------------------------------------------------------
 */

static void give_up(sr_service *service, struct sri_call *call) {
    const struct sri_service_call detail = *detail_of(service, call);
    struct sri_service_worker *worker = detail.worker;
    const int code = call->cancelled ? -ECANCELED : SR_E_TIMEOUT;
    if (worker != NULL) {
        if (code == SR_E_TIMEOUT && worker->calls.first == slot_of(service, call) &&
            worker->seat != SRI_SEAT_ENDING) {
            worker->exit.calls_lost++;
            service->stats.kills_stuck++;
            sri_service_worker_kill(worker, SR_WORKER_STUCK, SR_E_TIMEOUT);
        } else if (worker->channel != NULL) {
            const int gone = sr_call_cancel(worker->channel, detail.issued);
            (void)gone; /* answered, or the channel has ended: nothing is left to cancel */
        }
    }
    fail_call(service, call, code);
}

void sri_service_give_up_due(sr_service *service) {
    struct sri_call *call = NULL;
    if (sri_calls_next_deadline(&service->calls) == SR_FOREVER) {
        return;
    }
    const uint64_t now_ns = sri_service_now(service);
    while ((call = sri_calls_due(&service->calls, now_ns)) != NULL) {
        give_up(service, call);
    }
}

/* ---- methods ----------------------------------------------------------------------------------
 */

static bool is_idempotent(const sr_service *service, const char *name) {
    for (const char *const *list = service->idempotent; list != NULL && *list != NULL; list++) {
        if (strcmp(*list, name) == 0) {
            return true;
        }
    }
    return false;
}

static void map_methods(struct sri_service_worker *worker) {
    const sr_service *service = worker->service;
    for (uint32_t i = 0; i < service->method_count; i++) {
        worker->methods[i] = sri_hello_find(&worker->channel->hello, service->methods[i].name);
    }
}

static bool has_methods(const struct sri_service_worker *worker) {
    return worker->channel != NULL && worker->channel->ready;
}

/* Workers of one version have the same methods, so those of the one that came last are looked at.
 * Without memory for them, those of another one are. */
static void keep_hello(sr_service *service, const struct sri_hello *hello) {
    const size_t size_bytes = hello->size_bytes;
    uint8_t *bytes = sri_allocate(1, size_bytes > 0 ? size_bytes : 1);
    if (bytes == NULL) {
        return;
    }
    if (size_bytes > 0) {
        memcpy(bytes, hello->bytes, size_bytes);
    }
    sri_release(service->hello_bytes);
    service->hello_bytes = bytes;
    SR_CHECK(sri_hello_check(bytes, size_bytes, &service->hello) == 0);
}

void sri_service_take_methods(struct sri_service_worker *worker) {
    keep_hello(worker->service, &worker->channel->hello);
    map_methods(worker);
}

static int add_method(sr_service *service, const char *name) {
    if (service->hello_bytes == NULL) {
        return SR_E_STATE;
    }
    if (sri_hello_find(&service->hello, name) == SRI_METHOD_NOT_KNOWN) {
        return -ENOENT;
    }
    if (service->method_count == SR_METHODS_MAX) {
        return SR_E_FULL;
    }
    struct sri_service_method *method = &service->methods[service->method_count];
    memcpy(method->name, name, strlen(name) + 1); /* a worker has it, so it fits */
    method->is_idempotent = is_idempotent(service, name);
    service->method_count++;
    for (uint32_t i = 0; i < service->worker_count; i++) {
        if (has_methods(&service->workers[i])) {
            map_methods(&service->workers[i]);
        }
    }
    return 0;
}

int sr_service_method(sr_service *service, const char *name, uint32_t *out_method) {
    int code = sri_service_check(service);
    if (out_method != NULL) {
        *out_method = 0;
    }
    if (code == 0 && (name == NULL || out_method == NULL)) {
        code = -EINVAL;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    for (uint32_t i = 0; i < service->method_count; i++) {
        if (strcmp(service->methods[i].name, name) == 0) {
            *out_method = i;
            return 0;
        }
    }
    code = add_method(service, name);
    *out_method = code == 0 ? service->method_count - 1 : 0;
    return code;
}

/* ---- calls ------------------------------------------------------------------------------------
 */

static int keep_data(struct sri_service_call *detail, const void *data) {
    if (detail->data_bytes == 0) {
        return 0;
    }
    detail->data = sri_backend()->allocate(detail->data_bytes);
    if (detail->data == NULL) {
        return -ENOMEM;
    }
    memcpy(detail->data, data, detail->data_bytes);
    return 0;
}

/* Gives it to a worker at once if nobody waits before it and one has room. */
static int place(sr_service *service, struct sri_call *call, const void *data) {
    bool exists = false;
    struct sri_service_worker *worker =
        service->waiting.count == 1 ? choose(service, call->method, &exists) : NULL;
    if (service->waiting.count == 1 && !exists) {
        return -ENOENT;
    }
    const bool keeps = worker == NULL || service->methods[call->method].is_idempotent;
    int code = keeps ? keep_data(detail_of(service, call), data) : 0;
    if (code < 0 || worker == NULL) {
        return code;
    }
    code = issue(service, worker, call, data);
    if (code < 0 && code != -ENOMEM) {
        /* Its channel has ended, which we have not been told yet: the call waits for another. */
        code = keeps ? 0 : keep_data(detail_of(service, call), data);
    }
    return code;
}

static int call(sr_service *service, const sr_service_request *request, sr_call *out_call) {
    struct sri_call *record = sri_call_acquire(&service->calls);
    if (record == NULL) {
        return SR_E_FULL;
    }
    struct sri_service_call *detail = detail_of(service, record);
    *detail = (struct sri_service_call){
        .on_answer = request->on_answer,
        .data_bytes = request->data_bytes,
        .made_ns = sri_service_now(service),
    };
    record->tag = request->tag;
    record->ctx = request->ctx;
    record->method = (uint16_t)request->method;
    insert(service, &service->waiting, slot_of(service, record), service->waiting.last);
    const int code = place(service, record, request->data);
    if (code < 0) {
        take_out(service, slot_of(service, record));
        sri_release(detail->data);
        detail->data = NULL;
        sri_call_release(&service->calls, record);
        return code;
    }
    if (request->deadline_ns != 0) {
        sri_call_set_deadline(&service->calls, record,
                              sri_clock_after(detail->made_ns, request->deadline_ns));
    }
    service->stats.calls++;
    sri_supervisor_want_turn(service->supervisor);
    if (out_call != NULL) {
        out_call->bits = record->handle;
    }
    return 0;
}

static int check_request(const sr_service *service, const sr_service_request *request) {
    if (request->reserved != 0 || (request->data == NULL && request->data_bytes > 0)) {
        return -EINVAL;
    }
    if (request->method >= service->method_count ||
        request->data_bytes > service->options.payload_max_bytes) {
        return SR_E_BOUNDS;
    }
    return 0;
}

static int call_if_up(sr_service *service, const sr_service_request *request, sr_call *out_call) {
    if (service->state == SR_SERVICE_DOWN) {
        return SR_E_WORKER_DOWN;
    }
    return service->closing ? -ECANCELED : call(service, request, out_call);
}

int sri_service_call(sr_service *service, const sr_service_request *request, sr_call *out_call) {
    const int code = check_request(service, request);
    return code < 0 ? code : call_if_up(service, request, out_call);
}

int sr_service_call(sr_service *service, const sr_service_request *request, sr_call *out_call) {
    sr_service_request given = SR_SERVICE_REQUEST_INIT;
    if (out_call != NULL) {
        *out_call = SR_CALL_NONE;
    }
    int code = sri_service_check(service);
    if (code == 0 && (request == NULL || !sri_options_take(&given, sizeof given, request))) {
        code = -EINVAL;
    }
    if (code == 0) {
        code = check_request(service, &given);
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    return call_if_up(service, &given, out_call);
}

static void cancel(sr_service *service, struct sri_call *record) {
    record->cancelled = true;
    sri_call_set_deadline(&service->calls, record, 0);
    sri_supervisor_want_turn(service->supervisor);
}

void sri_service_forget_call(sr_service *service, sr_call call_handle) {
    struct sri_call *record = sri_call_find(&service->calls, call_handle.bits);
    if (record != NULL) {
        detail_of(service, record)->on_answer = NULL;
        if (service->supervisor->client.ring != NULL) {
            cancel(service, record);
        }
    }
}

int sr_service_cancel(sr_service *service, sr_call call_handle) {
    const int code = sri_service_check(service);
    if (code < 0) {
        return SRI_MISUSE(code, call_handle.bits);
    }
    struct sri_call *record = sri_call_find(&service->calls, call_handle.bits);
    if (record == NULL) {
        return SR_E_STALE; /* it may have been answered a moment ago: no misuse */
    }
    cancel(service, record);
    return 0;
}

/* ---- life -------------------------------------------------------------------------------------
 */

int sri_service_calls_init(sr_service *service) {
    service->waiting = SRI_SERVICE_LIST_EMPTY;
    service->methods = sri_allocate(SR_METHODS_MAX, sizeof *service->methods);
    service->details = sri_allocate(service->options.calls_max, sizeof *service->details);
    if (service->methods == NULL || service->details == NULL) {
        return -ENOMEM;
    }
    return sri_calls_init(&service->calls, service->options.calls_max);
}

void sri_service_calls_deinit(sr_service *service) {
    for (uint32_t i = 0; i < service->calls.count_max; i++) {
        sri_release(service->details[i].data);
    }
    sri_calls_deinit(&service->calls);
    sri_release(service->details);
    sri_release(service->methods);
    sri_release(service->hello_bytes);
    service->details = NULL;
    service->methods = NULL;
}
