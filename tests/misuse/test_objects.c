/* SPDX-License-Identifier: MIT */
/*
 * Every public call with NULL, with memory that is no object and with an object of another type in
 * the place of each object, and with NULL in the place of each output.
 */
#include "unit/fixture.h"

#include "misuse/declarations.h"
#include "support/case.h"
#include "support/services.h"

#include <sys/socket.h>

enum type { REGION, POOL, RING, BUFFER_RING, BATCH, CHANNEL, SUPERVISOR, SERVICE, PROXY, TYPES };

#define FAKE_BYTES 16384u

static sr_region *region;
static sr_pool *pool;
static sr_ring *ring;
static sr_buffer_ring *buffer_ring;
static sr_batch *batch;
static sr_ring *channel_ring;
static sr_channel *channel;
static int channel_peer;
static sr_supervisor *supervisor; /* NULL where there is no launcher */
static sr_service *service;
static sr_proxy *proxy;
static _Alignas(4096) unsigned char zeroed[FAKE_BYTES];
static _Alignas(4096) unsigned char filled[FAKE_BYTES];

static void objects_begin(void) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.inbox_entries = 4;
    assert_ok(sr_region_create(65536, NULL, &region));
    pool = pool_make(4096, 4);
    ring = ring_make(&options);
    assert_ok(sr_buffer_ring_create(
        ring, pool, &(sr_buffer_ring_options){sizeof(sr_buffer_ring_options), 4, 1}, &buffer_ring));
    assert_ok(sr_batch_create(ring, NULL, &batch));
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    channel_peer = pair[1];
    channel_ring = ring_make(&options);
    assert_ok(sr_channel_open(channel_ring, pair[0], NULL, &channel));
    supervisor = supervisor_make(channel_ring);
    service = service_make(supervisor);
    if (service != NULL) {
        assert_ok(sr_proxy_open(service, NULL, &proxy));
    }
    memset(filled, 0xff, sizeof filled);
    misuse_watch();
}

static void objects_end(void) {
    sr_set_misuse_hook(NULL, NULL);
    /* Still what they were. */
    sr_request nop = request_of(SR_OP_NOP);
    assert_ok(run(ring, &nop).result);
    (void)buffer_take(pool);
    cr_assert_eq(sr_region_size(region), 65536);
    assert_ok(sr_proxy_close(&proxy));
    assert_ok(sr_service_close(&service));
    assert_ok(sr_supervisor_close(&supervisor));
    assert_ok(sr_channel_close(&channel));
    ring_end(&channel_ring);
    cr_assert_eq(close(channel_peer), 0);
    assert_ok(sr_batch_destroy(&batch));
    assert_ok(sr_buffer_ring_destroy(&buffer_ring));
    ring_end(&ring);
    pool_end(&pool);
    assert_ok(sr_region_destroy(&region));
}

/* ---- calls with an object
 * ------------------------------------------------------------------------- */

static long call_region_destroy(void *object) {
    sr_region *variable = object;
    const int code = sr_region_destroy(&variable);
    cr_assert_eq(variable, object, "the variable changed");
    return code;
}

static long call_region_size(void *object) {
    return (long)sr_region_size(object);
}

static long call_region_base(void *object) {
    return sr_region_base(object) != NULL;
}

static long call_region_fd(void *object) {
    return sr_region_fd(object);
}

static long call_region_get_stats(void *object) {
    sr_region_stats stats = SR_REGION_STATS_INIT;
    return sr_region_get_stats(object, &stats);
}

static long call_pool_create(void *object) {
    sr_pool *made = (sr_pool *)zeroed;
    const int code = sr_pool_create(object, NULL, &made);
    if (object == NULL) { /* allowed: the pool makes a region of its own */
        assert_ok(sr_pool_destroy(&made));
    }
    cr_assert_null(made);
    return code;
}

static long call_pool_destroy(void *object) {
    sr_pool *variable = object;
    const int code = sr_pool_destroy(&variable);
    cr_assert_eq(variable, object, "the variable changed");
    return code;
}

static long call_pool_acquire(void *object) {
    sr_buffer buffer = {1};
    const int code = sr_pool_acquire(object, 1, &buffer);
    cr_assert_eq(buffer.bits, 0);
    return code;
}

static long call_pool_acquire_for(void *object) {
    sr_buffer buffer = {1};
    const int code = sr_pool_acquire_for(object, 1, 5, &buffer);
    cr_assert_eq(buffer.bits, 0);
    return code;
}

static long call_pool_release(void *object) {
    return sr_pool_release(object, SR_BUFFER_NONE);
}

static long call_pool_set_account_limit(void *object) {
    return sr_pool_set_account_limit(object, 5, 1);
}

static long call_pool_account_bytes(void *object) {
    uint64_t bytes = 1;
    const int code = sr_pool_account_bytes(object, 5, &bytes);
    cr_assert_eq(bytes, 0);
    return code;
}

static long call_pool_get_stats(void *object) {
    sr_pool_stats stats = SR_POOL_STATS_INIT;
    return sr_pool_get_stats(object, &stats);
}

static long call_buffer_data(void *object) {
    void *data = zeroed;
    const int code = sr_buffer_data(object, SR_BUFFER_NONE, 0, 1, SR_ACCESS_READ, &data);
    cr_assert_null(data);
    return code;
}

static long call_buffer_transfer(void *object) {
    return sr_buffer_transfer(object, SR_BUFFER_NONE, sr_thread_self());
}

static long call_attach_pool(void *object) {
    return sr_ring_attach_pool(ring, object);
}

static long call_detach_pool(void *object) {
    return sr_ring_detach_pool(ring, object);
}

static long call_attach_ring(void *object) {
    return sr_ring_attach_pool(object, pool);
}

static long call_detach_ring(void *object) {
    return sr_ring_detach_pool(object, pool);
}

static long call_ring_destroy(void *object) {
    sr_ring *variable = object;
    const int code = sr_ring_destroy(&variable);
    cr_assert_eq(variable, object, "the variable changed");
    return code;
}

static long call_ring_thread(void *object) {
    return sr_ring_thread(object).bits != 0;
}

static long call_ring_release(void *object) {
    return sr_ring_release(object);
}

static long call_ring_adopt(void *object) {
    return sr_ring_adopt(object);
}

static long call_ring_submit(void *object) {
    sr_request request = SR_REQUEST_INIT;
    sr_op op = {1};
    const int code = sr_ring_submit(object, &request, &op);
    cr_assert_eq(op.bits, 0);
    return code;
}

static long call_ring_flush(void *object) {
    return sr_ring_flush(object);
}

static long call_ring_wait(void *object) {
    const sr_completion *completions = (const sr_completion *)zeroed;
    const int code = sr_ring_wait(object, 0, 0, NULL, &completions);
    cr_assert_null(completions);
    return code;
}

static long call_op_cancel(void *object) {
    return sr_op_cancel(object, SR_OP_NONE);
}

static long call_op_abandon(void *object) {
    sr_completion completion;
    memset(&completion, 0x55, sizeof completion);
    const int code = sr_op_abandon(object, SR_OP_NONE, &completion);
    cr_assert(completion.op.bits == 0 && completion.result == 0);
    return code;
}

static long call_file_adopt(void *object) {
    sr_file file = {1};
    const int code = sr_file_adopt(object, 0, 0, &file);
    cr_assert_eq(file.bits, 0);
    return code;
}

static long call_file_fd(void *object) {
    int fd = 0;
    const int code = sr_file_fd(object, SR_FILE_NONE, &fd);
    cr_assert_eq(fd, -1);
    return code;
}

static long call_file_detach(void *object) {
    int fd = 0;
    const int code = sr_file_detach(object, SR_FILE_NONE, &fd);
    cr_assert_eq(fd, -1);
    return code;
}

static long call_inbox_post(void *object) {
    return sr_inbox_post(object, 1, NULL);
}

static long call_ring_get_stats(void *object) {
    sr_ring_stats stats = SR_RING_STATS_INIT;
    return sr_ring_get_stats(object, &stats);
}

static long call_buffer_ring_create_ring(void *object) {
    sr_buffer_ring *made = (sr_buffer_ring *)(void *)zeroed;
    const int code = sr_buffer_ring_create(object, pool, NULL, &made);
    cr_assert_null(made);
    return code;
}

static long call_buffer_ring_create_pool(void *object) {
    sr_buffer_ring *made = (sr_buffer_ring *)(void *)zeroed;
    const int code = sr_buffer_ring_create(ring, object, NULL, &made);
    cr_assert_null(made);
    return code;
}

static long call_event_fd(void *object) {
    int fd = 0;
    const int code = sr_ring_event_fd(object, &fd);
    cr_assert_eq(fd, -1);
    return code;
}

static long call_next_deadline(void *object) {
    uint64_t left_ns = 1;
    const int code = sr_ring_next_deadline_ns(object, &left_ns);
    cr_assert_eq(left_ns, 0);
    return code;
}

static long call_dispatch(void *object) {
    const sr_completion *completions = (const sr_completion *)zeroed;
    const int code = sr_ring_dispatch(object, &completions);
    cr_assert_null(completions);
    return code;
}

static long call_buffer_ring_destroy(void *object) {
    sr_buffer_ring *variable = object;
    const int code = sr_buffer_ring_destroy(&variable);
    cr_assert_eq(variable, object, "the variable changed");
    return code;
}

static long call_buffer_ring_provide(void *object) {
    return sr_buffer_ring_provide(object, SR_BUFFER_NONE);
}

static long call_buffer_ring_get_stats(void *object) {
    sr_buffer_ring_stats stats = SR_BUFFER_RING_STATS_INIT;
    return sr_buffer_ring_get_stats(object, &stats);
}

static long call_batch_create(void *object) {
    sr_batch *made = (sr_batch *)(void *)zeroed;
    const int code = sr_batch_create(object, NULL, &made);
    cr_assert_null(made);
    return code;
}

static long call_batch_destroy(void *object) {
    sr_batch *variable = object;
    const int code = sr_batch_destroy(&variable);
    cr_assert_eq(variable, object, "the variable changed");
    return code;
}

static long call_batch_add(void *object) {
    const sr_node_spec spec = SR_NODE_SPEC_INIT;
    sr_node node = {1};
    const int code = sr_batch_add(object, &spec, &node);
    cr_assert_eq(node.bits, 0);
    return code;
}

static long call_batch_after(void *object) {
    return sr_batch_after(object, SR_NODE_NONE, SR_NODE_NONE, SR_ALWAYS);
}

static long call_batch_start(void *object) {
    return sr_batch_start(object);
}

static long call_batch_refusal(void *object) {
    sr_node node = {1};
    const int code = sr_batch_refusal(object, &node, 1);
    cr_assert_eq(node.bits, 1);
    return code;
}

static long call_batch_run(void *object) {
    const sr_completion *completions = (const sr_completion *)zeroed;
    const int code = sr_batch_run(object, 0, &completions);
    cr_assert_null(completions);
    return code;
}

static long call_batch_cancel(void *object) {
    return sr_batch_cancel(object);
}

static long call_batch_outcome(void *object) {
    sr_node_outcome outcome = {.state = SR_OUTCOME_DONE};
    const int code = sr_batch_outcome(object, SR_NODE_NONE, &outcome);
    cr_assert_eq(outcome.state, SR_OUTCOME_NONE);
    return code;
}

static long call_batch_take_file(void *object) {
    sr_file file = {1};
    const int code = sr_batch_take_file(object, SR_NODE_NONE, &file);
    cr_assert_eq(file.bits, 0);
    return code;
}

static long call_batch_take_buffer(void *object) {
    sr_buffer buffer = {1};
    const int code = sr_batch_take_buffer(object, SR_NODE_NONE, &buffer);
    cr_assert_eq(buffer.bits, 0);
    return code;
}

static long call_batch_get_stats(void *object) {
    sr_batch_stats stats = SR_BATCH_STATS_INIT;
    return sr_batch_get_stats(object, &stats);
}

static long call_batch_dot(void *object) {
    char text[8] = "";
    size_t length = 1;
    const int code = sr_batch_dot(object, text, sizeof text, &length);
    cr_assert(text[0] == '\0' && length == 0);
    return code;
}

static long call_channel_open_ring(void *object) {
    sr_channel *made = (sr_channel *)(void *)zeroed;
    const int code = sr_channel_open(object, channel_peer, NULL, &made);
    cr_assert_null(made);
    return code;
}

static long call_channel_close(void *object) {
    sr_channel *variable = object;
    const int code = sr_channel_close(&variable);
    cr_assert_eq(variable, object, "the variable changed");
    return code;
}

static long call_channel_method(void *object) {
    uint32_t method = 1;
    const int code = sr_channel_method(object, "echo", &method);
    cr_assert_eq(method, 0);
    return code;
}

static long call_channel_call(void *object) {
    const sr_call_request request = SR_CALL_REQUEST_INIT;
    sr_call call = {1};
    const int code = sr_channel_call(object, &request, &call);
    cr_assert_eq(call.bits, 0);
    return code;
}

static long call_channel_note(void *object) {
    return sr_channel_note(object, 0, NULL, 0);
}

static long call_call_cancel(void *object) {
    return sr_call_cancel(object, SR_CALL_NONE);
}

static long call_channel_get_stats(void *object) {
    sr_channel_stats stats = SR_CHANNEL_STATS_INIT;
    return sr_channel_get_stats(object, &stats);
}

static long call_supervisor_open(void *object) {
    sr_supervisor *made = (sr_supervisor *)(void *)zeroed;
    const int code = sr_supervisor_open(object, NULL, &made);
    cr_assert_null(made);
    return code;
}

static long call_supervisor_close(void *object) {
    sr_supervisor *variable = object;
    const int code = sr_supervisor_close(&variable);
    cr_assert_eq(variable, object, "the variable changed");
    return code;
}

static long call_service_open(void *object) {
    const sr_service_options options = SR_SERVICE_OPTIONS_INIT;
    sr_service *made = (sr_service *)(void *)zeroed;
    const int code = sr_service_open(object, &options, &made);
    cr_assert_null(made);
    return code;
}

static long call_service_close(void *object) {
    sr_service *variable = object;
    const int code = sr_service_close(&variable);
    cr_assert_eq(variable, object, "the variable changed");
    return code;
}

static long call_service_method(void *object) {
    uint32_t method = 1;
    const int code = sr_service_method(object, "echo", &method);
    cr_assert_eq(method, 0);
    return code;
}

static long call_service_call(void *object) {
    const sr_service_request request = SR_SERVICE_REQUEST_INIT;
    sr_call call = {1};
    const int code = sr_service_call(object, &request, &call);
    cr_assert_eq(call.bits, 0);
    return code;
}

static long call_service_cancel(void *object) {
    return sr_service_cancel(object, SR_CALL_NONE);
}

static long call_service_reload(void *object) {
    return sr_service_reload(object, NULL);
}

static long call_service_get_stats(void *object) {
    sr_service_stats stats = SR_SERVICE_STATS_INIT;
    return sr_service_get_stats(object, &stats);
}

static long call_service_workers(void *object) {
    return sr_service_workers(object, NULL, 0);
}

static long call_method_stats(void *object) {
    sr_method_stats stats = SR_METHOD_STATS_INIT;
    return sr_service_get_method_stats(object, 0, &stats);
}

static long call_supervisor_metrics(void *object) {
    return (long)sr_supervisor_metrics(object, NULL, 0);
}

static long call_service_sandbox(void *object) {
    sr_sandbox_report report = SR_SANDBOX_REPORT_INIT;
    return sr_service_sandbox(object, 1, &report);
}

static long call_proxy_open(void *object) {
    sr_proxy *made = (sr_proxy *)(void *)zeroed;
    const int code = sr_proxy_open(object, NULL, &made);
    cr_assert_null(made);
    return code;
}

static long call_proxy_close(void *object) {
    sr_proxy *variable = object;
    const int code = sr_proxy_close(&variable);
    cr_assert_eq(variable, object, "the variable changed");
    return code;
}

static long call_proxy_stop(void *object) {
    return sr_proxy_stop(object);
}

static long call_proxy_call(void *object) {
    const sr_proxy_request request = SR_PROXY_REQUEST_INIT;
    sr_proxy_answer answer = {.result = 1};
    const int code = sr_proxy_call(object, &request, &answer);
    cr_assert_eq(answer.result, 0);
    return code;
}

/* A row for each object parameter. */
static const struct {
    const char *function;
    enum type type;
    long for_null;
    long for_wrong;
    long (*call)(void *object);
} calls[] = {
    {"sr_region_destroy", REGION, 0, SR_E_OBJECT, call_region_destroy},
    {"sr_region_size", REGION, 0, 0, call_region_size},
    {"sr_region_base", REGION, 0, 0, call_region_base},
    {"sr_region_fd", REGION, SR_E_OBJECT, SR_E_OBJECT, call_region_fd},
    {"sr_region_get_stats", REGION, SR_E_OBJECT, SR_E_OBJECT, call_region_get_stats},
    {"sr_pool_create", REGION, 0, SR_E_OBJECT, call_pool_create},
    {"sr_pool_destroy", POOL, 0, SR_E_OBJECT, call_pool_destroy},
    {"sr_pool_acquire", POOL, SR_E_OBJECT, SR_E_OBJECT, call_pool_acquire},
    {"sr_pool_acquire_for", POOL, SR_E_OBJECT, SR_E_OBJECT, call_pool_acquire_for},
    {"sr_pool_release", POOL, SR_E_OBJECT, SR_E_OBJECT, call_pool_release},
    {"sr_pool_set_account_limit", POOL, SR_E_OBJECT, SR_E_OBJECT, call_pool_set_account_limit},
    {"sr_pool_account_bytes", POOL, SR_E_OBJECT, SR_E_OBJECT, call_pool_account_bytes},
    {"sr_pool_get_stats", POOL, SR_E_OBJECT, SR_E_OBJECT, call_pool_get_stats},
    {"sr_buffer_data", POOL, SR_E_OBJECT, SR_E_OBJECT, call_buffer_data},
    {"sr_buffer_transfer", POOL, SR_E_OBJECT, SR_E_OBJECT, call_buffer_transfer},
    {"sr_ring_attach_pool", POOL, SR_E_OBJECT, SR_E_OBJECT, call_attach_pool},
    {"sr_ring_detach_pool", POOL, SR_E_OBJECT, SR_E_OBJECT, call_detach_pool},
    {"sr_ring_attach_pool", RING, SR_E_OBJECT, SR_E_OBJECT, call_attach_ring},
    {"sr_ring_detach_pool", RING, SR_E_OBJECT, SR_E_OBJECT, call_detach_ring},
    {"sr_ring_destroy", RING, 0, SR_E_OBJECT, call_ring_destroy},
    {"sr_ring_thread", RING, 0, 0, call_ring_thread},
    {"sr_ring_release", RING, SR_E_OBJECT, SR_E_OBJECT, call_ring_release},
    {"sr_ring_adopt", RING, SR_E_OBJECT, SR_E_OBJECT, call_ring_adopt},
    {"sr_ring_submit", RING, SR_E_OBJECT, SR_E_OBJECT, call_ring_submit},
    {"sr_ring_flush", RING, SR_E_OBJECT, SR_E_OBJECT, call_ring_flush},
    {"sr_ring_wait", RING, SR_E_OBJECT, SR_E_OBJECT, call_ring_wait},
    {"sr_op_cancel", RING, SR_E_OBJECT, SR_E_OBJECT, call_op_cancel},
    {"sr_op_abandon", RING, SR_E_OBJECT, SR_E_OBJECT, call_op_abandon},
    {"sr_file_adopt", RING, SR_E_OBJECT, SR_E_OBJECT, call_file_adopt},
    {"sr_file_fd", RING, SR_E_OBJECT, SR_E_OBJECT, call_file_fd},
    {"sr_file_detach", RING, SR_E_OBJECT, SR_E_OBJECT, call_file_detach},
    {"sr_inbox_post", RING, SR_E_OBJECT, SR_E_OBJECT, call_inbox_post},
    {"sr_ring_get_stats", RING, SR_E_OBJECT, SR_E_OBJECT, call_ring_get_stats},
    {"sr_ring_event_fd", RING, SR_E_OBJECT, SR_E_OBJECT, call_event_fd},
    {"sr_ring_next_deadline_ns", RING, SR_E_OBJECT, SR_E_OBJECT, call_next_deadline},
    {"sr_ring_dispatch", RING, SR_E_OBJECT, SR_E_OBJECT, call_dispatch},
    {"sr_batch_create", RING, SR_E_OBJECT, SR_E_OBJECT, call_batch_create},
    {"sr_batch_destroy", BATCH, 0, SR_E_OBJECT, call_batch_destroy},
    {"sr_batch_add", BATCH, SR_E_OBJECT, SR_E_OBJECT, call_batch_add},
    {"sr_batch_after", BATCH, SR_E_OBJECT, SR_E_OBJECT, call_batch_after},
    {"sr_batch_start", BATCH, SR_E_OBJECT, SR_E_OBJECT, call_batch_start},
    {"sr_batch_refusal", BATCH, SR_E_OBJECT, SR_E_OBJECT, call_batch_refusal},
    {"sr_batch_run", BATCH, SR_E_OBJECT, SR_E_OBJECT, call_batch_run},
    {"sr_batch_cancel", BATCH, SR_E_OBJECT, SR_E_OBJECT, call_batch_cancel},
    {"sr_batch_outcome", BATCH, SR_E_OBJECT, SR_E_OBJECT, call_batch_outcome},
    {"sr_batch_take_file", BATCH, SR_E_OBJECT, SR_E_OBJECT, call_batch_take_file},
    {"sr_batch_take_buffer", BATCH, SR_E_OBJECT, SR_E_OBJECT, call_batch_take_buffer},
    {"sr_batch_get_stats", BATCH, SR_E_OBJECT, SR_E_OBJECT, call_batch_get_stats},
    {"sr_batch_dot", BATCH, SR_E_OBJECT, SR_E_OBJECT, call_batch_dot},
    {"sr_channel_open", RING, SR_E_OBJECT, SR_E_OBJECT, call_channel_open_ring},
    {"sr_channel_close", CHANNEL, 0, SR_E_OBJECT, call_channel_close},
    {"sr_channel_method", CHANNEL, SR_E_OBJECT, SR_E_OBJECT, call_channel_method},
    {"sr_channel_call", CHANNEL, SR_E_OBJECT, SR_E_OBJECT, call_channel_call},
    {"sr_channel_note", CHANNEL, SR_E_OBJECT, SR_E_OBJECT, call_channel_note},
    {"sr_call_cancel", CHANNEL, SR_E_OBJECT, SR_E_OBJECT, call_call_cancel},
    {"sr_channel_get_stats", CHANNEL, SR_E_OBJECT, SR_E_OBJECT, call_channel_get_stats},
    {"sr_supervisor_open", RING, SR_E_OBJECT, SR_E_OBJECT, call_supervisor_open},
    {"sr_supervisor_close", SUPERVISOR, 0, SR_E_OBJECT, call_supervisor_close},
    {"sr_service_open", SUPERVISOR, SR_E_OBJECT, SR_E_OBJECT, call_service_open},
    {"sr_service_close", SERVICE, 0, SR_E_OBJECT, call_service_close},
    {"sr_service_method", SERVICE, SR_E_OBJECT, SR_E_OBJECT, call_service_method},
    {"sr_service_call", SERVICE, SR_E_OBJECT, SR_E_OBJECT, call_service_call},
    {"sr_service_cancel", SERVICE, SR_E_OBJECT, SR_E_OBJECT, call_service_cancel},
    {"sr_service_reload", SERVICE, SR_E_OBJECT, SR_E_OBJECT, call_service_reload},
    {"sr_service_get_stats", SERVICE, SR_E_OBJECT, SR_E_OBJECT, call_service_get_stats},
    {"sr_service_workers", SERVICE, SR_E_OBJECT, SR_E_OBJECT, call_service_workers},
    {"sr_service_sandbox", SERVICE, SR_E_OBJECT, SR_E_OBJECT, call_service_sandbox},
    {"sr_service_get_method_stats", SERVICE, SR_E_OBJECT, SR_E_OBJECT, call_method_stats},
    {"sr_supervisor_metrics", SUPERVISOR, SR_E_OBJECT, SR_E_OBJECT, call_supervisor_metrics},
    {"sr_proxy_open", SERVICE, SR_E_OBJECT, SR_E_OBJECT, call_proxy_open},
    {"sr_proxy_stop", PROXY, SR_E_OBJECT, SR_E_OBJECT, call_proxy_stop},
    {"sr_proxy_close", PROXY, 0, SR_E_OBJECT, call_proxy_close},
    {"sr_proxy_call", PROXY, SR_E_OBJECT, SR_E_OBJECT, call_proxy_call},
    {"sr_buffer_ring_create", RING, SR_E_OBJECT, SR_E_OBJECT, call_buffer_ring_create_ring},
    {"sr_buffer_ring_create", POOL, SR_E_OBJECT, SR_E_OBJECT, call_buffer_ring_create_pool},
    {"sr_buffer_ring_destroy", BUFFER_RING, 0, SR_E_OBJECT, call_buffer_ring_destroy},
    {"sr_buffer_ring_provide", BUFFER_RING, SR_E_OBJECT, SR_E_OBJECT, call_buffer_ring_provide},
    {"sr_buffer_ring_get_stats", BUFFER_RING, SR_E_OBJECT, SR_E_OBJECT, call_buffer_ring_get_stats},
};

/* Calls that take no object. */
static const char *const without_object[] = {
    "sr_strerror",         "sr_error_name",         "sr_version",
    "sr_thread_self",      "sr_region_create",      "sr_region_adopt",
    "sr_ring_create",      "sr_set_misuse_hook",    "sr_set_allocator",
    "sr_quarantine_stats", "sr_quarantine_sweep",   "sr_guard_install_fault_handler",
    "sr_sandbox_check",    "sr_sandbox_layer_text", "sr_proxy_answer_release",
};

static const char *const type_names[TYPES] = {"sr_region ",      "sr_pool ",    "sr_ring ",
                                              "sr_buffer_ring ", "sr_batch ",   "sr_channel ",
                                              "sr_supervisor ",  "sr_service ", "sr_proxy "};

/* ---- tests ------------------------------------------------------------------------------------
 */

struct snapshot {
    sr_ring_stats ring;
    sr_pool_stats pool;
};

static struct snapshot snapshot_take(void) {
    struct snapshot snapshot;
    memset(&snapshot, 0, sizeof snapshot);
    snapshot.ring = ring_stats(ring);
    snapshot.pool = pool_stats(pool);
    return snapshot;
}

static void refuse(size_t row, const char *what, void *object, long expected) {
    const struct snapshot before = snapshot_take();
    misuse_forget();
    const long code = calls[row].call(object);
    const char *function = calls[row].function;
    cr_assert_eq(code, expected, "%s, %s: %ld (%s)", function, what, code,
                 sr_error_name((int)code));
    if (expected == 0) {
        cr_assert_eq(misuse.count, 0, "%s, %s: reported though it is allowed", function, what);
    } else {
        cr_assert_eq(misuse.count, 1, "%s, %s: %u reports", function, what, misuse.count);
        cr_assert_str_eq(misuse.function, function, "%s", what);
        cr_assert_eq(misuse.code, (int)expected);
    }
    const struct snapshot now = snapshot_take();
    cr_assert_eq(memcmp(&before, &now, sizeof now), 0, "%s, %s: stats changed", function, what);
    for (uint32_t i = 0; i < FAKE_BYTES; i++) {
        cr_assert(zeroed[i] == 0 && filled[i] == 0xff, "%s, %s: wrote to it", function, what);
    }
}

CASE(objects, every_call_refuses_null_and_what_is_no_object_of_its_type, objects_begin,
     objects_end) {
    for (size_t row = 0; row < COUNT_OF(calls); row++) {
        void *const objects[TYPES] = {region,  pool,       ring,    buffer_ring, batch,
                                      channel, supervisor, service, proxy};
        refuse(row, "NULL", NULL, calls[row].for_null);
        refuse(row, "zeroed memory", zeroed, calls[row].for_wrong);
        refuse(row, "filled memory", filled, calls[row].for_wrong);
        for (int type = 0; type < TYPES; type++) {
            if (type != (int)calls[row].type && objects[type] != NULL) {
                refuse(row, type_names[type], objects[type], calls[row].for_wrong);
            }
        }
    }
}

CASE(objects, each_public_function_has_a_row_for_each_of_its_objects, objects_begin, objects_end) {
    const struct declarations *declared = declarations_read();
    for (size_t i = 0; i < declared->count; i++) {
        const struct declaration *one = &declared->list[i];
        bool listed = false;
        for (size_t j = 0; j < COUNT_OF(without_object); j++) {
            listed = listed || strcmp(without_object[j], one->name) == 0;
        }
        for (int type = 0; type < TYPES; type++) {
            bool has_row = false;
            for (size_t row = 0; row < COUNT_OF(calls); row++) {
                has_row = has_row || ((int)calls[row].type == type &&
                                      strcmp(calls[row].function, one->name) == 0);
            }
            bool takes = false;
            for (const char *at = one->parameters; (at = strstr(at, type_names[type])) != NULL;
                 at++) {
                /* Not "**out_pool", which it hands out. */
                takes = takes || strncmp(at + strlen(type_names[type]), "**out_", 6) != 0;
            }
            cr_assert_eq(has_row, takes, "%s and its %s", one->name, type_names[type]);
            listed = listed || has_row;
        }
        cr_assert(listed, "%s is in no list", one->name);
    }
    for (size_t row = 0; row < COUNT_OF(calls); row++) {
        cr_assert_not_null(declarations_find(declared, calls[row].function));
    }
    for (size_t j = 0; j < COUNT_OF(without_object); j++) {
        cr_assert_not_null(declarations_find(declared, without_object[j]), "%s", without_object[j]);
    }
}

/* ---- NULL in other places
 * ------------------------------------------------------------------------- */

static int null_region_destroy(void) {
    return sr_region_destroy(NULL);
}

static int null_pool_destroy(void) {
    return sr_pool_destroy(NULL);
}

static int null_ring_destroy(void) {
    return sr_ring_destroy(NULL);
}

static int null_region_create(void) {
    return sr_region_create(4096, NULL, NULL);
}

static int null_region_adopt(void) {
    return sr_region_adopt(zeroed, 4096, NULL);
}

static int null_pool_create(void) {
    return sr_pool_create(NULL, NULL, NULL);
}

static int null_pool_acquire(void) {
    return sr_pool_acquire(pool, 1, NULL);
}

static int null_pool_acquire_for(void) {
    return sr_pool_acquire_for(pool, 1, 1, NULL);
}

static int null_pool_account_bytes(void) {
    return sr_pool_account_bytes(pool, 0, NULL);
}

static int null_region_get_stats(void) {
    return sr_region_get_stats(region, NULL);
}

static int null_pool_get_stats(void) {
    return sr_pool_get_stats(pool, NULL);
}

static int null_ring_create(void) {
    return sr_ring_create(NULL, NULL);
}

static int null_ring_submit(void) {
    return sr_ring_submit(ring, NULL, NULL);
}

static int null_ring_get_stats(void) {
    return sr_ring_get_stats(ring, NULL);
}

static int null_file_adopt(void) {
    return sr_file_adopt(ring, 0, 0, NULL);
}

static int null_file_fd(void) {
    return sr_file_fd(ring, SR_FILE_NONE, NULL);
}

static int null_file_detach(void) {
    return sr_file_detach(ring, SR_FILE_NONE, NULL);
}

static int null_quarantine_stats(void) {
    return sr_quarantine_stats(NULL);
}

static int null_buffer_data(void) {
    return sr_buffer_data(pool, SR_BUFFER_NONE, 0, 1, SR_ACCESS_READ, NULL);
}

static int null_batch_create(void) {
    return sr_batch_create(ring, NULL, NULL);
}

static int null_batch_destroy(void) {
    return sr_batch_destroy(NULL);
}

static int null_batch_add(void) {
    return sr_batch_add(batch, NULL, NULL);
}

static int null_batch_refusal(void) {
    return sr_batch_refusal(batch, NULL, 1);
}

static int null_batch_outcome(void) {
    return sr_batch_outcome(batch, SR_NODE_NONE, NULL);
}

static int null_batch_take_file(void) {
    return sr_batch_take_file(batch, SR_NODE_NONE, NULL);
}

static int null_batch_take_buffer(void) {
    return sr_batch_take_buffer(batch, SR_NODE_NONE, NULL);
}

static int null_batch_get_stats(void) {
    return sr_batch_get_stats(batch, NULL);
}

static int null_batch_dot(void) {
    return sr_batch_dot(batch, NULL, 0, NULL);
}

static int null_channel_open(void) {
    return sr_channel_open(channel_ring, channel_peer, NULL, NULL);
}

static int null_channel_close(void) {
    return sr_channel_close(NULL);
}

static int null_channel_name(void) {
    uint32_t method = 0;
    return sr_channel_method(channel, NULL, &method);
}

static int null_channel_method(void) {
    return sr_channel_method(channel, "echo", NULL);
}

static int null_channel_call(void) {
    return sr_channel_call(channel, NULL, NULL);
}

static int null_channel_note(void) {
    return sr_channel_note(channel, 0, NULL, 1);
}

static int null_channel_get_stats(void) {
    return sr_channel_get_stats(channel, NULL);
}

static int null_supervisor_open(void) {
    return sr_supervisor_open(channel_ring, NULL, NULL);
}

static int null_supervisor_close(void) {
    return sr_supervisor_close(NULL);
}

static int null_service_open(void) {
    const sr_service_options options = SR_SERVICE_OPTIONS_INIT;
    return sr_service_open(supervisor, &options, NULL);
}

static int null_service_options(void) {
    sr_service *made = NULL;
    return sr_service_open(supervisor, NULL, &made);
}

static int null_service_close(void) {
    return sr_service_close(NULL);
}

static int null_service_name(void) {
    uint32_t method = 0;
    return sr_service_method(service, NULL, &method);
}

static int null_service_method(void) {
    return sr_service_method(service, "echo", NULL);
}

static int null_service_call(void) {
    return sr_service_call(service, NULL, NULL);
}

static int null_service_get_stats(void) {
    return sr_service_get_stats(service, NULL);
}

static int null_service_workers(void) {
    return sr_service_workers(service, NULL, 1);
}

static int null_method_stats(void) {
    return sr_service_get_method_stats(service, 0, NULL);
}

static int null_supervisor_metrics(void) {
    return (int)sr_supervisor_metrics(supervisor, NULL, 1);
}

static int null_proxy_open(void) {
    return sr_proxy_open(service, NULL, NULL);
}

static int null_proxy_close(void) {
    return sr_proxy_close(NULL);
}

static int null_service_sandbox(void) {
    return sr_service_sandbox(service, 1, NULL);
}

CASE(objects, null_in_the_place_of_an_output_or_a_request_is_refused, objects_begin, objects_end) {
    static const struct {
        const char *function;
        int code;
        int (*call)(void);
    } nulls[] = {
        {"sr_region_destroy", SR_E_OBJECT, null_region_destroy},
        {"sr_pool_destroy", SR_E_OBJECT, null_pool_destroy},
        {"sr_ring_destroy", SR_E_OBJECT, null_ring_destroy},
        {"sr_region_create", -EINVAL, null_region_create},
        {"sr_region_adopt", -EINVAL, null_region_adopt},
        {"sr_pool_create", -EINVAL, null_pool_create},
        {"sr_pool_acquire", -EINVAL, null_pool_acquire},
        {"sr_pool_acquire_for", -EINVAL, null_pool_acquire_for},
        {"sr_pool_account_bytes", -EINVAL, null_pool_account_bytes},
        {"sr_region_get_stats", -EINVAL, null_region_get_stats},
        {"sr_pool_get_stats", -EINVAL, null_pool_get_stats},
        {"sr_buffer_data", -EINVAL, null_buffer_data},
        {"sr_ring_create", -EINVAL, null_ring_create},
        {"sr_ring_submit", -EINVAL, null_ring_submit},
        {"sr_ring_get_stats", -EINVAL, null_ring_get_stats},
        {"sr_file_adopt", -EINVAL, null_file_adopt},
        {"sr_file_fd", -EINVAL, null_file_fd},
        {"sr_file_detach", -EINVAL, null_file_detach},
        {"sr_quarantine_stats", -EINVAL, null_quarantine_stats},
        {"sr_batch_create", -EINVAL, null_batch_create},
        {"sr_batch_destroy", SR_E_OBJECT, null_batch_destroy},
        {"sr_batch_add", -EINVAL, null_batch_add},
        {"sr_batch_refusal", -EINVAL, null_batch_refusal},
        {"sr_batch_outcome", -EINVAL, null_batch_outcome},
        {"sr_batch_take_file", -EINVAL, null_batch_take_file},
        {"sr_batch_take_buffer", -EINVAL, null_batch_take_buffer},
        {"sr_batch_get_stats", -EINVAL, null_batch_get_stats},
        {"sr_batch_dot", -EINVAL, null_batch_dot},
        {"sr_channel_open", -EINVAL, null_channel_open},
        {"sr_channel_close", SR_E_OBJECT, null_channel_close},
        {"sr_channel_method", -EINVAL, null_channel_name},
        {"sr_channel_method", -EINVAL, null_channel_method},
        {"sr_channel_call", -EINVAL, null_channel_call},
        {"sr_channel_note", -EINVAL, null_channel_note},
        {"sr_channel_get_stats", -EINVAL, null_channel_get_stats},
        {"sr_supervisor_open", -EINVAL, null_supervisor_open},
        {"sr_supervisor_close", SR_E_OBJECT, null_supervisor_close},
        {"sr_service_open", -EINVAL, null_service_open},
        {"sr_service_open", -EINVAL, null_service_options},
        {"sr_service_close", SR_E_OBJECT, null_service_close},
        {"sr_service_method", -EINVAL, null_service_name},
        {"sr_service_method", -EINVAL, null_service_method},
        {"sr_service_call", -EINVAL, null_service_call},
        {"sr_service_get_stats", -EINVAL, null_service_get_stats},
        {"sr_service_workers", -EINVAL, null_service_workers},
        {"sr_service_sandbox", -EINVAL, null_service_sandbox},
        {"sr_service_get_method_stats", -EINVAL, null_method_stats},
        {"sr_supervisor_metrics", -EINVAL, null_supervisor_metrics},
        {"sr_proxy_open", -EINVAL, null_proxy_open},
        {"sr_proxy_close", SR_E_OBJECT, null_proxy_close},
    };
    for (size_t i = 0; i < COUNT_OF(nulls); i++) {
        const bool is_of_service = strncmp(nulls[i].function, "sr_service", 10) == 0 ||
                                   strcmp(nulls[i].function, "sr_supervisor_metrics") == 0;
        if (is_of_service && service == NULL) {
            continue; /* the object is looked at first */
        }
        const struct snapshot before = snapshot_take();
        misuse_forget();
        const int code = nulls[i].call();
        cr_assert_eq(code, nulls[i].code, "%s: %s", nulls[i].function, sr_error_name(code));
        assert_misuse(nulls[i].function, nulls[i].code);
        const struct snapshot now = snapshot_take();
        cr_assert_eq(memcmp(&before, &now, sizeof now), 0, "%s: stats changed", nulls[i].function);
    }
}

CASE(objects, outputs_that_may_be_null_may_be_null, objects_begin, objects_end) {
    sr_request nop = request_of(SR_OP_NOP);
    sr_request timeout = request_of(SR_OP_TIMEOUT);
    timeout.duration_ns = UINT64_C(3600000000000);
    assert_ok(sr_ring_submit(ring, &nop, NULL));
    assert_code(sr_ring_wait(ring, 1, SR_FOREVER, NULL, NULL), 1);
    const sr_op op = submit(ring, &timeout);
    assert_ok(sr_op_abandon(ring, op, NULL));
    assert_no_misuse();
}

/* ---- requests that are no requests
 * ----------------------------------------------------------------- */

CASE(objects, an_operation_or_a_flag_that_does_not_exist_is_refused, objects_begin, objects_end) {
    const uint16_t ops[] = {SR_OP_COUNT, SR_OP_COUNT + 1, 255, 256, UINT16_MAX};
    for (size_t i = 0; i < COUNT_OF(ops); i++) {
        sr_request request = request_of(ops[i]);
        assert_code(sr_ring_submit(ring, &request, NULL), -EINVAL);
        assert_misuse("sr_ring_submit", -EINVAL);
    }
    for (uint32_t bit = 0; bit < 16; bit++) {
        sr_request request = request_of(SR_OP_NOP);
        request.flags = (uint16_t)(1u << bit);
        if (request.flags != SR_REQUEST_ASYNC) {
            assert_code(sr_ring_submit(ring, &request, NULL), -EINVAL);
            assert_misuse("sr_ring_submit", -EINVAL);
        }
    }
    cr_assert_eq(ring_stats(ring).submitted_total, 0);
}

CASE(objects, an_allocator_is_refused_when_it_is_incomplete_or_comes_too_late, objects_begin,
     objects_end) {
    sr_allocator late = SR_ALLOCATOR_INIT;
    late.allocate = (void *(*)(size_t, void *))(uintptr_t)1;
    late.release = (void (*)(void *, void *))(uintptr_t)1;
    assert_code(sr_set_allocator(&late), SR_E_STATE);
    assert_misuse("sr_set_allocator", SR_E_STATE);
    assert_code(sr_set_allocator(NULL), SR_E_STATE);
    assert_misuse("sr_set_allocator", SR_E_STATE);
}
