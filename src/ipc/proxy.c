/* SPDX-License-Identifier: MIT */
/*
 * Proxy: calls of threads that own no ring. Each is an errand (ipc/errand.h) of the ring's owner,
 * which makes it in its turns; what is called, and the answer, lie beside the errand.
 *
 * Neighbours: service.h has the calls, ring/inbox.h wakes the owner.
 */
#include "ipc/errand.h"
#include "ipc/service.h"
#include "ring/client.h"
#include "ring/inbox.h"
#include "sys/clock.h"
#include "sys/memory.h"
#include "sys/os.h"
#include <safering/proxy.h>

#include <errno.h>

#define PROXY_MAGIC UINT32_C(0x50525801)
#define CALLS_MAX   65536u
/* Between two looks whether threads have left. */
#define MOMENT_NS UINT64_C(50000)

/* What a proxy adds to the errand of the same slot. */
struct proxy_call {
    sr_proxy *proxy;
    /* The thread's, before the errand is posted. */
    sr_proxy_request request;
    uint64_t end_ns; /* SR_FOREVER: no deadline */
    /* The owner's, before it ends. */
    int code; /* why nothing was called, or 0 */
    sr_proxy_answer answer;
    sr_call issued;
};

struct sr_proxy {
    uint32_t magic;
    uint64_t owner_key;
    sr_service *service;
    struct sri_ring_client client;
    struct sri_inbox_source source;
    struct proxy_call *calls;
    struct sri_errands errands;
    _Atomic uint32_t inside; /* threads in sr_proxy_call() */
    _Atomic bool stopped;
};

static uint32_t slot_of(const struct proxy_call *call) {
    return (uint32_t)(call - call->proxy->calls);
}

/* ---- the owner --------------------------------------------------------------------------------
 */

static void fail_call(struct proxy_call *call, int64_t code) {
    call->answer = (sr_proxy_answer){.result = code, .source = SR_ANSWER_CHANNEL};
    sri_errand_end(&call->proxy->errands, slot_of(call));
}

/* Where the answer's bytes go: the thread's room if they fit. */
static void *memory_for(const struct proxy_call *call, uint64_t bytes) {
    return bytes <= call->request.room_bytes ? call->request.room : sri_backend()->allocate(bytes);
}

static void on_answer(sr_service *service, const sr_answer *answer, void *ctx) {
    struct proxy_call *call = ctx;
    (void)service;
    call->issued = SR_CALL_NONE;
    if (!sri_errand_begin_end(&call->proxy->errands, slot_of(call))) {
        return;
    }
    void *data = answer->data_bytes > 0 ? memory_for(call, answer->data_bytes) : NULL;
    if (data == NULL && answer->data_bytes > 0) {
        fail_call(call, -ENOMEM);
        return;
    }
    if (data != NULL) {
        memcpy(data, answer->data, answer->data_bytes);
    }
    call->answer = (sr_proxy_answer){.result = answer->result,
                                     .source = answer->source,
                                     .owned = data != NULL && data != call->request.room,
                                     .data = data,
                                     .data_bytes = answer->data_bytes};
    sri_errand_end(&call->proxy->errands, slot_of(call));
}

/* What is left of its deadline; 0 for none, as in a request. False: it has passed. */
static bool time_left(const struct proxy_call *call, uint64_t *out_ns) {
    *out_ns = 0;
    if (call->end_ns == SR_FOREVER) {
        return true;
    }
    const uint64_t now_ns = sri_clock_now_ns();
    *out_ns = call->end_ns > now_ns ? call->end_ns - now_ns : 0;
    return *out_ns > 0;
}

static void issue(struct proxy_call *call) {
    sr_service_request request = SR_SERVICE_REQUEST_INIT;
    request.method = call->request.method;
    request.data = call->request.data;
    request.data_bytes = call->request.data_bytes;
    request.on_answer = on_answer;
    request.ctx = call;
    if (!time_left(call, &request.deadline_ns)) {
        fail_call(call, SR_E_TIMEOUT);
        return;
    }
    call->code = sri_service_call(call->proxy->service, &request, &call->issued);
    if (call->code < 0) {
        sri_errand_end(&call->proxy->errands, slot_of(call));
    } else {
        sri_errand_go_on(&call->proxy->errands, slot_of(call));
    }
}

static void for_each_posted(sr_proxy *proxy, void (*what)(struct proxy_call *call)) {
    struct sri_errands *errands = &proxy->errands;
    uint32_t next = SRI_ERRAND_NONE;
    for (uint32_t slot = sri_errands_take(errands); slot != SRI_ERRAND_NONE; slot = next) {
        next = sri_errand_next(errands, slot);
        if (sri_errand_begin(errands, slot)) {
            what(&proxy->calls[slot]);
        }
    }
}

static void turn(struct sri_ring_client *client) {
    for_each_posted(SRI_CONTAINER_OF(client, sr_proxy, client), issue);
}

static void waited(struct sri_ring_client *client) {
    (void)client; /* the inbox looks at the source before the ring sleeps, or its event loop */
}

static bool has_work(struct sri_inbox_source *source) {
    return sri_errands_are_posted(&SRI_CONTAINER_OF(source, sr_proxy, source)->errands);
}

/* ---- threads ----------------------------------------------------------------------------------
 */

static int call_and_wait(sr_proxy *proxy, const sr_proxy_request *request,
                         sr_proxy_answer *out_answer) {
    const uint32_t slot = sri_errand_acquire(&proxy->errands);
    if (slot == SRI_ERRAND_NONE) {
        return SR_E_FULL;
    }
    struct proxy_call *call = &proxy->calls[slot];
    call->request = *request;
    call->end_ns = request->deadline_ns != 0
                       ? sri_clock_after(sri_clock_now_ns(), request->deadline_ns)
                       : SR_FOREVER;
    call->code = 0;
    sri_errand_post(&proxy->errands, slot);
    sri_inbox_ring(proxy->client.ring);
    int code = sri_errand_wait(&proxy->errands, slot, call->end_ns, proxy->owner_key);
    if (code < 0) {
        *out_answer = (sr_proxy_answer){.result = code, .source = SR_ANSWER_CHANNEL};
        return 0;
    }
    code = call->code;
    *out_answer = call->answer;
    call->answer = SR_PROXY_ANSWER_INIT;
    sri_errand_release(&proxy->errands, slot);
    return code;
}

static int enter_and_call(sr_proxy *proxy, const sr_proxy_request *request,
                          sr_proxy_answer *out_answer) {
    /* Sequentially consistent, as in stop(): either we see that it has stopped, or it sees us. */
    atomic_fetch_add(&proxy->inside, 1);
    const int code =
        !atomic_load(&proxy->stopped) ? call_and_wait(proxy, request, out_answer) : -ECANCELED;
    atomic_fetch_sub_explicit(&proxy->inside, 1, memory_order_release);
    return code;
}

static int check_caller(const sr_proxy *proxy) {
    if (proxy == NULL || proxy->magic != PROXY_MAGIC) {
        return SR_E_OBJECT;
    }
    if (proxy->owner_key == sri_owner_key()) {
        return SR_E_STATE;
    }
    return sri_owner_is_forked(proxy->owner_key) ? SR_E_FORKED : 0;
}

static bool request_is_valid(const sr_proxy_request *request) {
    return request->reserved == 0 && (request->data != NULL || request->data_bytes == 0) &&
           (request->room != NULL || request->room_bytes == 0);
}

int sr_proxy_call(sr_proxy *proxy, const sr_proxy_request *request, sr_proxy_answer *out_answer) {
    sr_proxy_request given = SR_PROXY_REQUEST_INIT;
    if (out_answer != NULL) {
        *out_answer = SR_PROXY_ANSWER_INIT;
    }
    int code = check_caller(proxy);
    if (code == 0 &&
        (request == NULL || out_answer == NULL ||
         !sri_options_take(&given, sizeof given, request) || !request_is_valid(&given))) {
        code = -EINVAL;
    }
    if (code == 0) {
        code = enter_and_call(proxy, &given, out_answer);
        if (code != SR_E_BOUNDS) {
            return code;
        }
    }
    return SRI_MISUSE(code, 0);
}

void sr_proxy_answer_release(sr_proxy_answer *answer) {
    if (answer == NULL) {
        return;
    }
    if (answer->owned != 0) {
        sri_release((void *)(uintptr_t)answer->data); /* ours: only shown as const */
    }
    *answer = SR_PROXY_ANSWER_INIT;
}

/* ---- life -------------------------------------------------------------------------------------
 */

static int check_open(const sr_service *service, const sr_proxy_options *options,
                      sr_proxy_options *given) {
    const int code = sri_service_check(service);
    if (code < 0) {
        return code;
    }
    if (!sri_options_take(given, sizeof *given, options) || given->reserved != 0) {
        return -EINVAL;
    }
    if (given->calls_max < 1 || given->calls_max > CALLS_MAX) {
        return SR_E_BOUNDS;
    }
    return service->supervisor->client.ring->inbox != NULL ? 0 : SR_E_STATE;
}

static void free_memory(sr_proxy *proxy) {
    for (uint32_t i = 0; i < proxy->errands.count; i++) {
        sr_proxy_answer_release(&proxy->calls[i].answer); /* only in a child, of lost threads */
    }
    proxy->magic = 0;
    sri_errands_deinit(&proxy->errands);
    sri_release(proxy->calls);
    sri_release(proxy);
}

int sr_proxy_open(sr_service *service, const sr_proxy_options *options, sr_proxy **out_proxy) {
    sr_proxy_options given = SR_PROXY_OPTIONS_INIT;
    if (out_proxy == NULL) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    *out_proxy = NULL;
    const int code = check_open(service, options, &given);
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    sr_ring *ring = service->supervisor->client.ring;
    sr_proxy *proxy = sri_allocate(1, sizeof *proxy);
    struct proxy_call *calls = sri_allocate(given.calls_max, sizeof *calls);
    if (proxy == NULL || calls == NULL || sri_errands_init(&proxy->errands, given.calls_max) < 0) {
        sri_release(calls);
        sri_release(proxy);
        return -ENOMEM;
    }
    proxy->owner_key = service->owner_key;
    proxy->service = service;
    proxy->calls = calls;
    proxy->source.has_work = has_work;
    proxy->client = (struct sri_ring_client){
        .deadline_ns = SR_FOREVER,
        .turn = turn,
        .waited = waited,
    };
    for (uint32_t i = 0; i < given.calls_max; i++) {
        calls[i].proxy = proxy;
    }
    sri_ring_add_client(ring, &proxy->client);
    sri_inbox_add_source(ring, &proxy->source);
    service->proxy_count++;
    proxy->magic = PROXY_MAGIC;
    *out_proxy = proxy;
    return 0;
}

static void cancel(struct proxy_call *call) {
    fail_call(call, -ECANCELED);
}

/* Answers what is waited for, and has the service tell nobody of what it still has. */
static void cancel_calls(sr_proxy *proxy) {
    for_each_posted(proxy, cancel);
    for (uint32_t slot = 0; slot < proxy->errands.count; slot++) {
        struct proxy_call *call = &proxy->calls[slot];
        if (call->issued.bits != 0) {
            sri_service_forget_call(proxy->service, call->issued);
            call->issued = SR_CALL_NONE;
            if (sri_errand_begin_end(&proxy->errands, slot)) {
                cancel(call);
            }
        }
    }
}

static void stop(sr_proxy *proxy) {
    atomic_store(&proxy->stopped, true);
    cancel_calls(proxy);
    while (atomic_load(&proxy->inside) > 0) {
        sri_os_pause(MOMENT_NS);
        cancel_calls(proxy); /* of a thread that had entered and not posted yet */
    }
}

static void close_proxy(sr_proxy *proxy) {
    if (proxy->client.ring != NULL) {
        sri_inbox_remove_source(proxy->client.ring, &proxy->source);
        sri_ring_remove_client(&proxy->client);
    }
    proxy->service->proxy_count--;
    free_memory(proxy);
}

int sr_proxy_stop(sr_proxy *proxy) {
    int code = proxy == NULL || proxy->magic != PROXY_MAGIC ? SR_E_OBJECT : 0;
    if (code == 0 && proxy->owner_key != sri_owner_key()) {
        code = sri_owner_error(proxy->owner_key);
    }
    if (code == 0 && proxy->client.ring->in_callback) {
        code = SR_E_STATE;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    stop(proxy);
    return 0;
}

int sr_proxy_close(sr_proxy **proxy) {
    if (proxy == NULL) {
        return SRI_MISUSE(SR_E_OBJECT, 0);
    }
    sr_proxy *const gone = *proxy;
    if (gone == NULL) {
        return 0;
    }
    if (gone->magic != PROXY_MAGIC) {
        return SRI_MISUSE(SR_E_OBJECT, 0);
    }
    const bool owner = gone->owner_key == sri_owner_key();
    const bool forked = sri_owner_is_forked(gone->owner_key);
    if (!owner && !forked && sri_owner_is_alive(gone->owner_key)) {
        return SRI_MISUSE(SR_E_WRONG_THREAD, 0);
    }
    if (owner ? gone->client.ring->in_callback : gone->client.ring != NULL) {
        return SRI_MISUSE(SR_E_STATE, 0);
    }
    if (!forked) { /* a child has none of the threads */
        stop(gone);
    }
    close_proxy(gone);
    *proxy = NULL;
    return 0;
}
