/* SPDX-License-Identifier: MIT */
/*
 * Every public call that takes a handle, and every operation that names one, with every kind of bad
 * handle: the documented code, one report where it is misuse, and nothing changed.
 */
#include "unit/fixture.h"

#include "misuse/declarations.h"
#include "support/case.h"
#include "support/scale.h"
#include "support/services.h"
#include "support/worker.h"
#include <sys/mman.h>

#define BYTES    4096u
#define BAD_MAX  512u
#define HOUR_NS  UINT64_C(3600000000000)
#define FAR_KIND 61

enum kind { BUFFER, OP, FILE_HANDLE, NODE, CALL, KINDS };

/* Two of everything, so that there is something foreign, and one of each that has ended. */
struct world {
    struct directory directory;
    sr_ring *ring;
    sr_ring *other_ring;
    sr_buffer_ring *buffer_ring; /* empty; goes with its ring */
    sr_batch *batch;             /* on the other ring; a node in flight, others forgotten */
    sr_batch *other_batch;       /* on the ring; not started */
    sr_ring *channel_ring;
    sr_channel *channel;       /* a call without an answer, two with one */
    sr_channel *other_channel; /* a call without an answer */
    sr_supervisor *supervisor; /* NULL where there is no launcher */
    sr_service *service;       /* without a call: handles of channels are foreign to it */
    struct worker worker;
    struct worker other_worker;
    uint32_t channels_ready;
    uint32_t answers;
    sr_pool *pool;       /* attached to the ring */
    sr_pool *other_pool; /* attached to the other ring only */
    uint64_t live[KINDS];
    uint64_t foreign[KINDS];
    uint64_t ended[KINDS];
    uint64_t reused[KINDS]; /* ended, and its slot is in use again by something live */
    unsigned char *bytes;   /* of the live buffer */
};

static struct world world;

static sr_op submit_timeout(sr_ring *ring) {
    sr_request request = request_of(SR_OP_TIMEOUT);
    request.duration_ns = HOUR_NS;
    return submit(ring, &request);
}

static sr_file file_new(sr_ring *ring, const char *name) {
    return file_take(ring, directory_file(&world.directory, name, "contents", 8));
}

static void make_ended(void) {
    sr_request nop = request_of(SR_OP_NOP);
    world.ended[BUFFER] = buffer_take(world.pool).bits;
    const sr_buffer second = buffer_take(world.pool);
    world.reused[BUFFER] = second.bits;
    assert_ok(sr_pool_release(world.pool, (sr_buffer){world.ended[BUFFER]}));
    assert_ok(sr_pool_release(world.pool, second)); /* the live one takes its slot */

    world.ended[OP] = run(world.ring, &nop).op.bits;
    world.reused[OP] = run(world.ring, &nop).op.bits;

    const sr_file closed = file_new(world.ring, "closed");
    const sr_file closed_last = file_new(world.ring, "closed last");
    world.ended[FILE_HANDLE] = closed.bits;
    world.reused[FILE_HANDLE] = closed_last.bits;
    file_close(world.ring, closed);
    file_close(world.ring, closed_last);
}

/* Adds the live one, into the place of one that is forgotten already. */
static void add_live_node(sr_batch *batch, sr_node node, const sr_node_outcome *outcome,
                          void *ctx) {
    sr_node_spec spec = SR_NODE_SPEC_INIT;
    sr_node live;
    spec.request.op = SR_OP_TIMEOUT;
    spec.request.duration_ns = HOUR_NS;
    assert_ok(sr_batch_add(batch, &spec, &live));
    world.live[NODE] = live.bits;
    world.ended[NODE] = node.bits;
    (void)outcome;
    (void)ctx;
}

/* Not on the ring of the live operation: a forged handle of that must not name the node's. */
static void batches_begin(void) {
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    sr_node_spec spec = SR_NODE_SPEC_INIT;
    sr_node first;
    sr_node last;
    sr_node foreign;
    options.forget = 1;
    assert_ok(sr_batch_create(world.other_ring, &options, &world.batch));
    assert_ok(sr_batch_add(world.batch, &spec, &first));
    spec.on_outcome = add_live_node;
    assert_ok(sr_batch_add(world.batch, &spec, &last));
    assert_ok(sr_batch_after(world.batch, last, first, SR_ON_SUCCESS));
    assert_code(sr_batch_run(world.batch, 0, NULL), SR_E_TIMEOUT);
    while (world.live[NODE] == 0) {
        assert_ok(sr_ring_wait(world.other_ring, 1, SR_FOREVER, NULL, NULL));
    }
    world.reused[NODE] = first.bits;
    cr_assert_eq(sr_ring_flush(world.other_ring), 1);
    spec.on_outcome = NULL;
    assert_ok(sr_batch_create(world.ring, NULL, &world.other_batch));
    assert_ok(sr_batch_add(world.other_batch, &spec, &foreign));
    world.foreign[NODE] = foreign.bits;
}

static void on_state(sr_channel *channel, int code, void *ctx) {
    (void)channel;
    (void)ctx;
    assert_ok(code);
    world.channels_ready++;
}

static void on_answer(sr_channel *channel, const sr_answer *answer, void *ctx) {
    (void)channel;
    (void)answer;
    (void)ctx;
    world.answers++;
}

static uint64_t call_method(sr_channel *channel, const char *name) {
    const uint32_t ms = 3600000;
    sr_call_request request = SR_CALL_REQUEST_INIT;
    sr_call call;
    assert_ok(sr_channel_method(channel, name, &request.method));
    request.data = &ms;
    request.data_bytes = sizeof ms;
    request.on_answer = on_answer;
    assert_ok(sr_channel_call(channel, &request, &call));
    return call.bits;
}

static void channels_begin(void) {
    sr_channel_options options = SR_CHANNEL_OPTIONS_INIT;
    options.on_state = on_state;
    world.channels_ready = world.answers = 0;
    world.channel_ring = ring_make(NULL);
    worker_start(&world.worker);
    assert_ok(sr_channel_open(world.channel_ring, worker_take_socket(&world.worker), &options,
                              &world.channel));
    worker_start(&world.other_worker);
    assert_ok(sr_channel_open(world.channel_ring, worker_take_socket(&world.other_worker), &options,
                              &world.other_channel));
    while (world.channels_ready < 2) {
        assert_ok(sr_ring_wait(world.channel_ring, 1, SR_FOREVER, NULL, NULL));
    }
    world.ended[CALL] = call_method(world.channel, "echo");
    world.reused[CALL] = call_method(world.channel, "echo");
    while (world.answers < 2) {
        assert_ok(sr_ring_wait(world.channel_ring, 1, SR_FOREVER, NULL, NULL));
    }
    world.supervisor = supervisor_make(world.channel_ring);
    world.service = service_make(world.supervisor);
    world.live[CALL] = call_method(world.channel, "pause");
    world.foreign[CALL] = call_method(world.other_channel, "pause");
}

/* The call that was alive is given up, not ended: the worker has it still. */
static void end_live_call(void) {
    assert_ok(sr_call_cancel(world.channel, (sr_call){world.live[CALL]}));
    while (world.answers < 3) {
        assert_ok(sr_ring_wait(world.channel_ring, 1, SR_FOREVER, NULL, NULL));
    }
}

static void channels_end(void) {
    assert_ok(sr_service_close(&world.service));
    assert_ok(sr_supervisor_close(&world.supervisor));
    assert_ok(sr_channel_close(&world.channel));
    assert_ok(sr_channel_close(&world.other_channel));
    cr_assert_eq(world.answers, 4);
    (void)worker_end(&world.worker);
    (void)worker_end(&world.other_worker);
    ring_end(&world.channel_ring);
}

static void world_begin(void) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.inbox_entries = 4;
    channels_begin();
    world.directory = directory_begin();
    world.ring = ring_make(&options);
    world.other_ring = ring_make(&options);
    world.pool = pool_make(BYTES, 8);
    world.other_pool = pool_make(BYTES, 8);
    pool_attach(world.ring, world.pool);
    assert_ok(sr_buffer_ring_create(world.ring, world.pool,
                                    &(sr_buffer_ring_options){sizeof(sr_buffer_ring_options), 4, 0},
                                    &world.buffer_ring));
    pool_attach(world.other_ring, world.other_pool);
    make_ended();
    world.live[BUFFER] = buffer_take(world.pool).bits;
    world.live[NODE] = 0;
    batches_begin();
    world.live[OP] = submit_timeout(world.ring).bits;
    world.live[FILE_HANDLE] = file_new(world.ring, "live").bits;
    world.foreign[BUFFER] = buffer_take(world.other_pool).bits;
    world.foreign[OP] = submit_timeout(world.other_ring).bits;
    world.foreign[FILE_HANDLE] = file_new(world.other_ring, "foreign").bits;
    cr_assert_eq(sr_ring_flush(world.ring), 1);
    cr_assert_eq(sr_ring_flush(world.other_ring), 1);
    world.bytes = buffer_bytes(world.pool, (sr_buffer){world.live[BUFFER]}, BYTES);
    memset(world.bytes, 0x77, BYTES);
    misuse_watch();
}

static void world_end(void) {
    sr_set_misuse_hook(NULL, NULL);
    /* What was alive is alive and works. */
    sr_node_outcome outcome;
    assert_ok(sr_batch_outcome(world.batch, (sr_node){world.live[NODE]}, &outcome));
    cr_assert_eq(outcome.state, SR_OUTCOME_NONE);
    assert_ok(sr_batch_destroy(&world.batch));
    assert_ok(sr_batch_destroy(&world.other_batch));
    sr_request request = request_of(SR_OP_READ);
    request.file.bits = world.live[FILE_HANDLE];
    request.buffer.bits = world.live[BUFFER];
    request.length = 8;
    cr_assert_eq(run(world.ring, &request).result, 8);
    cr_assert_eq(memcmp(world.bytes, "contents", 8), 0);
    assert_ok(sr_op_cancel(world.ring, (sr_op){world.live[OP]}));
    const sr_completion cancelled = wait_one(world.ring);
    cr_assert_eq(cancelled.op.bits, world.live[OP]);
    assert_code(cancelled.result, -ECANCELED);
    assert_ok(sr_pool_release(world.pool, (sr_buffer){world.live[BUFFER]}));
    file_close(world.ring, (sr_file){world.live[FILE_HANDLE]});
    ring_end(&world.ring);
    ring_end(&world.other_ring);
    pool_end(&world.pool);
    pool_end(&world.other_pool);
    directory_end(&world.directory);
    end_live_call();
    channels_end();
}

/* ---- what could have changed --------------------------------------------------------------------
 */

struct snapshot {
    sr_ring_stats ring;
    sr_ring_stats other_ring;
    sr_pool_stats pool;
    sr_pool_stats other_pool;
};

static struct snapshot snapshot_take(void) {
    struct snapshot snapshot;
    memset(&snapshot, 0, sizeof snapshot);
    snapshot.ring = ring_stats(world.ring);
    snapshot.other_ring = ring_stats(world.other_ring);
    snapshot.pool = pool_stats(world.pool);
    snapshot.other_pool = pool_stats(world.other_pool);
    return snapshot;
}

static void assert_unchanged(const struct snapshot *before, const char *what) {
    const struct snapshot now = snapshot_take();
    cr_assert_eq(memcmp(&now, before, sizeof now), 0, "%s: stats changed", what);
    for (uint32_t i = 0; i < BYTES; i++) {
        cr_assert_eq(world.bytes[i], 0x77, "%s: byte %u changed", what, i);
    }
}

/* ---- bad handles ------------------------------------------------------------------------------
 */

struct bad {
    const char *what;
    uint64_t bits;
};

struct bads {
    size_t count;
    struct bad list[BAD_MAX];
};

static void bads_add(struct bads *bads, const char *what, uint64_t bits) {
    cr_assert_lt(bads->count, BAD_MAX);
    bads->list[bads->count++] = (struct bad){what, bits};
}

static void bads_fill(struct bads *bads, enum kind kind) {
    struct scale_random random = scale_random(1);
    const uint64_t live = world.live[kind];
    bads->count = 0;
    bads_add(bads, "none", 0);
    bads_add(bads, "stale", world.ended[kind]);
    bads_add(bads, "stale, its slot in use again", world.reused[kind]);
    bads_add(bads, "foreign", world.foreign[kind]);
    for (int other = 0; other < KINDS; other++) {
        if (other != (int)kind) {
            bads_add(bads, "live handle of another kind", world.live[other]);
            bads_add(bads, "ended handle of another kind", world.ended[other]);
        }
    }
    for (uint64_t bits = 0; bits < 8; bits++) { /* the right bits under every other kind's number */
        const uint64_t forged = (live & ~(UINT64_C(7) << FAR_KIND)) | (bits << FAR_KIND);
        if (forged != live) {
            bads_add(bads, "forged: kind", forged);
        }
    }
    for (uint32_t bit = 0; bit < 64; bit++) {
        bads_add(bads, "forged: one bit", live ^ (UINT64_C(1) << bit));
    }
    bads_add(bads, "forged: next generation", live + 4096);
    bads_add(bads, "forged: ones", UINT64_MAX);
    bads_add(bads, "forged: one", 1);
    for (uint32_t i = 0; i < 100; i++) {
        bads_add(bads, "forged: random", scale_random_next(&random));
        bads_add(bads, "forged: random serial",
                 (live & ~((UINT64_C(1) << 48) - 1)) |
                     (scale_random_next(&random) & ((UINT64_C(1) << 48) - 1)));
    }
}

/* ---- calls ------------------------------------------------------------------------------------
 */

static int call_release(uint64_t bits) {
    return sr_pool_release(world.pool, (sr_buffer){bits});
}

static int call_data(uint64_t bits) {
    void *data = &data;
    const int code = sr_buffer_data(world.pool, (sr_buffer){bits}, 0, 1, SR_ACCESS_WRITE, &data);
    cr_assert_null(data);
    return code;
}

static int call_transfer(uint64_t bits) {
    return sr_buffer_transfer(world.pool, (sr_buffer){bits}, sr_thread_self());
}

static int call_cancel(uint64_t bits) {
    return sr_op_cancel(world.ring, (sr_op){bits});
}

static int call_abandon(uint64_t bits) {
    sr_completion completion;
    const sr_completion zero = {0};
    memset(&completion, 0x55, sizeof completion);
    const int code = sr_op_abandon(world.ring, (sr_op){bits}, &completion);
    cr_assert(completion.op.bits == 0 && completion.result == zero.result && completion.tag == 0 &&
                  completion.buffer.bits == 0 && completion.file.bits == 0,
              "the output is not cleared");
    return code;
}

static int call_fd(uint64_t bits) {
    int fd = 77;
    const int code = sr_file_fd(world.ring, (sr_file){bits}, &fd);
    cr_assert_eq(fd, -1);
    return code;
}

static int call_detach(uint64_t bits) {
    int fd = 77;
    const int code = sr_file_detach(world.ring, (sr_file){bits}, &fd);
    cr_assert_eq(fd, -1);
    return code;
}

static int call_provide(uint64_t bits) {
    return sr_buffer_ring_provide(world.buffer_ring, (sr_buffer){bits});
}

static int call_after(uint64_t bits) {
    return sr_batch_after(world.batch, (sr_node){bits}, (sr_node){world.live[NODE]}, SR_ALWAYS);
}

static int call_after_dependency(uint64_t bits) {
    const int code =
        sr_batch_after(world.batch, (sr_node){world.live[NODE]}, (sr_node){bits}, SR_ALWAYS);
    return code;
}

static int call_outcome(uint64_t bits) {
    sr_node_outcome outcome = {.state = SR_OUTCOME_DONE};
    const int code = sr_batch_outcome(world.batch, (sr_node){bits}, &outcome);
    cr_assert_eq(outcome.state, SR_OUTCOME_NONE);
    return code;
}

static int call_take_file(uint64_t bits) {
    sr_file file = {1};
    const int code = sr_batch_take_file(world.batch, (sr_node){bits}, &file);
    cr_assert_eq(file.bits, 0);
    return code;
}

static int call_take_buffer(uint64_t bits) {
    sr_buffer buffer = {1};
    const int code = sr_batch_take_buffer(world.batch, (sr_node){bits}, &buffer);
    cr_assert_eq(buffer.bits, 0);
    return code;
}

static int call_call_cancel(uint64_t bits) {
    return sr_call_cancel(world.channel, (sr_call){bits});
}

static int call_service_cancel(uint64_t bits) {
    return world.service != NULL ? sr_service_cancel(world.service, (sr_call){bits}) : SR_E_STALE;
}

static const struct call {
    const char *function;
    enum kind kind;
    bool reports; /* losing the race against an operation's end is no misuse */
    int (*call)(uint64_t bits);
} calls[] = {
    {"sr_pool_release", BUFFER, true, call_release},
    {"sr_buffer_data", BUFFER, true, call_data},
    {"sr_buffer_transfer", BUFFER, true, call_transfer},
    {"sr_op_cancel", OP, false, call_cancel},
    {"sr_op_abandon", OP, false, call_abandon},
    {"sr_file_fd", FILE_HANDLE, true, call_fd},
    {"sr_file_detach", FILE_HANDLE, true, call_detach},
    {"sr_buffer_ring_provide", BUFFER, true, call_provide},
    {"sr_batch_after", NODE, true, call_after},
    {"sr_batch_after", NODE, true, call_after_dependency},
    {"sr_batch_outcome", NODE, true, call_outcome},
    {"sr_batch_take_file", NODE, true, call_take_file},
    {"sr_batch_take_buffer", NODE, true, call_take_buffer},
    {"sr_call_cancel", CALL, false, call_call_cancel},
    {"sr_service_cancel", CALL, false, call_service_cancel},
};

static void refuse_all(const char *function, enum kind kind, bool reports, bool none_is_fine,
                       int (*call)(uint64_t bits, void *ctx), void *ctx, const char *label) {
    static struct bads bads;
    bads_fill(&bads, kind);
    for (size_t i = 0; i < bads.count; i++) {
        const struct bad *bad = &bads.list[i];
        if (none_is_fine && bad->bits == 0) {
            continue;
        }
        const struct snapshot before = snapshot_take();
        misuse_forget();
        const int code = call(bad->bits, ctx);
        cr_assert_eq(code, SR_E_STALE, "%s, %s (%llx): %s", label, bad->what,
                     (unsigned long long)bad->bits, sr_error_name(code));
        cr_assert_eq(misuse.count, reports ? 1 : 0, "%s, %s: %u reports", label, bad->what,
                     misuse.count);
        if (reports) {
            cr_assert_str_eq(misuse.function, function, "%s, %s", label, bad->what);
            cr_assert_eq(misuse.code, SR_E_STALE);
            cr_assert_eq(misuse.handle, bad->bits, "%s, %s: reported %llx, not %llx", label,
                         bad->what, (unsigned long long)misuse.handle,
                         (unsigned long long)bad->bits);
        }
        assert_unchanged(&before, label);
    }
}

static int call_plain(uint64_t bits, void *ctx) {
    return ((const struct call *)ctx)->call(bits);
}

CASE(handles, every_call_refuses_every_kind_of_bad_handle_and_nothing_changes, world_begin,
     world_end) {
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        struct call call = calls[i];
        refuse_all(call.function, call.kind, call.reports, false, call_plain, &call, call.function);
    }
}

CASE(handles, no_call_that_takes_a_handle_was_forgotten, world_begin, world_end) {
    const struct declarations *declared = declarations_read();
    const char *const types[] = {"sr_buffer ", "sr_op ", "sr_file ", "sr_node ", "sr_call "};
    for (size_t i = 0; i < declared->count; i++) {
        const struct declaration *one = &declared->list[i];
        bool takes_handle = false;
        bool has_row = false;
        for (size_t t = 0; t < COUNT_OF(types); t++) {
            for (const char *at = one->parameters; (at = strstr(at, types[t])) != NULL; at++) {
                /* By value: "sr_buffer *" hands one out. */
                const bool whole_word = at[-1] == '(' || at[-1] == ' ';
                takes_handle = takes_handle || (whole_word && at[strlen(types[t])] != '*');
            }
        }
        for (size_t j = 0; j < COUNT_OF(calls); j++) {
            has_row = has_row || strcmp(calls[j].function, one->name) == 0;
        }
        cr_assert_eq(has_row, takes_handle, "%s %s a handle", one->name,
                     takes_handle ? "has no row but takes" : "has a row but does not take");
    }
    for (size_t j = 0; j < COUNT_OF(calls); j++) {
        cr_assert_not_null(declarations_find(declared, calls[j].function), "%s", calls[j].function);
    }
}

/* ---- handles in requests -----------------------------------------------------------------------
 */

enum position { AT_FILE, AT_DIR, AT_NEW_DIR, AT_OTHER, AT_BUFFER, AT_SLICE, POSITIONS };

#define IN(position) (1u << (position))

/* Where each operation has handles. A new operation has no entry: zero, which a test refuses. */
#define NOWHERE (1u << POSITIONS)
static const uint32_t positions[SR_OP_COUNT] = {
    [SR_OP_NOP] = NOWHERE,
    [SR_OP_READ] = IN(AT_FILE) | IN(AT_BUFFER),
    [SR_OP_WRITE] = IN(AT_FILE) | IN(AT_BUFFER),
    [SR_OP_READV] = IN(AT_FILE) | IN(AT_SLICE),
    [SR_OP_WRITEV] = IN(AT_FILE) | IN(AT_SLICE),
    [SR_OP_FSYNC] = IN(AT_FILE),
    [SR_OP_FDATASYNC] = IN(AT_FILE),
    [SR_OP_SYNC_RANGE] = IN(AT_FILE),
    [SR_OP_FALLOCATE] = IN(AT_FILE),
    [SR_OP_FTRUNCATE] = IN(AT_FILE),
    [SR_OP_OPENAT] = IN(AT_DIR),
    [SR_OP_CLOSE] = IN(AT_FILE),
    [SR_OP_STATX] = IN(AT_DIR),
    [SR_OP_UNLINKAT] = IN(AT_DIR),
    [SR_OP_RENAMEAT] = IN(AT_DIR) | IN(AT_NEW_DIR),
    [SR_OP_MKDIRAT] = IN(AT_DIR),
    [SR_OP_LINKAT] = IN(AT_DIR) | IN(AT_NEW_DIR),
    [SR_OP_SYMLINKAT] = IN(AT_NEW_DIR),
    [SR_OP_FADVISE] = IN(AT_FILE),
    [SR_OP_MADVISE] = IN(AT_BUFFER),
    [SR_OP_TIMEOUT] = NOWHERE,
    [SR_OP_SPLICE] = IN(AT_FILE) | IN(AT_OTHER),
    [SR_OP_TEE] = IN(AT_FILE) | IN(AT_OTHER),
    [SR_OP_SOCKET] = NOWHERE,
    [SR_OP_BIND] = IN(AT_FILE),
    [SR_OP_LISTEN] = IN(AT_FILE),
    [SR_OP_ACCEPT] = IN(AT_FILE),
    [SR_OP_CONNECT] = IN(AT_FILE),
    [SR_OP_SEND] = IN(AT_FILE) | IN(AT_BUFFER),
    [SR_OP_RECV] = IN(AT_FILE) | IN(AT_BUFFER),
    [SR_OP_SENDMSG] = IN(AT_FILE) | IN(AT_SLICE),
    [SR_OP_RECVMSG] = IN(AT_FILE) | IN(AT_SLICE),
    [SR_OP_SEND_ZC] = IN(AT_FILE) | IN(AT_BUFFER),
    [SR_OP_SHUTDOWN] = IN(AT_FILE),
    [SR_OP_POLL] = IN(AT_FILE),
    [SR_OP_WAITID] = NOWHERE,
    [SR_OP_FUTEX_WAIT] = NOWHERE,
    [SR_OP_FUTEX_WAKE] = NOWHERE,
    [SR_OP_EPOLL_CTL] = IN(AT_FILE) | IN(AT_OTHER),
};

struct attempt {
    uint16_t op;
    enum position position;
};

/* All is right but the one handle. */
static int call_submit(uint64_t bits, void *ctx) {
    static const char address[16];
    const struct attempt *attempt = ctx;
    sr_op op = {1};
    sr_slice slices[2];
    sr_request request = request_of(attempt->op);
    for (uint32_t i = 0; i < 2; i++) {
        slices[i] = (sr_slice){{world.live[BUFFER]}, 1024 * i, 1024};
    }
    request.file.bits = attempt->op == SR_OP_MADVISE ? 0 : world.live[FILE_HANDLE];
    request.buffer.bits = world.live[BUFFER];
    request.length = BYTES;
    request.path = "no such file";
    request.new_path = "no such file either";
    request.slices = slices;
    request.slice_count = 2;
    request.other.bits = world.live[FILE_HANDLE];
    request.address = (const struct sockaddr *)(const void *)address;
    request.address_bytes = sizeof address;
    request.advice = attempt->op == SR_OP_MADVISE ? MADV_NORMAL : POSIX_FADV_NORMAL;
    switch (attempt->position) {
    case AT_FILE:
    case AT_DIR:
        request.file.bits = bits;
        break;
    case AT_NEW_DIR:
        request.new_dir.bits = bits;
        break;
    case AT_OTHER:
        request.other.bits = bits;
        break;
    case AT_BUFFER:
        request.buffer.bits = bits;
        break;
    default:
        slices[1].buffer.bits = bits; /* the first is lent already and must come back */
        break;
    }
    const int code = sr_ring_submit(world.ring, &request, &op);
    cr_assert_eq(op.bits, 0, "the output is not cleared");
    return code;
}

CASE(handles, every_operation_refuses_every_kind_of_bad_handle_and_nothing_changes, world_begin,
     world_end) {
    for (uint16_t op = 0; op < SR_OP_COUNT; op++) {
        for (int position = 0; position < POSITIONS; position++) {
            if ((positions[op] & IN(position)) == 0) {
                continue;
            }
            char label[64];
            struct attempt attempt = {op, (enum position)position};
            const bool in_buffer = position == AT_BUFFER || position == AT_SLICE;
            const bool optional = position == AT_DIR || position == AT_NEW_DIR;
            (void)snprintf(label, sizeof label, "operation %u, position %d", op, position);
            refuse_all("sr_ring_submit", in_buffer ? BUFFER : FILE_HANDLE, true, optional,
                       call_submit, &attempt, label);
        }
    }
}

CASE(handles, no_operation_was_forgotten, world_begin, world_end) {
    for (uint16_t op = 0; op < SR_OP_COUNT; op++) {
        cr_assert_neq(positions[op], 0, "operation %u has no entry", op);
    }
}

CASE(handles, a_buffer_of_a_pool_that_is_not_attached_is_stale_for_the_ring, world_begin,
     world_end) {
    struct attempt attempt = {SR_OP_WRITE, AT_BUFFER};
    sr_pool *third = pool_make(BYTES, 2);
    const sr_buffer buffer = buffer_take(third);
    assert_code(call_submit(buffer.bits, &attempt), SR_E_STALE);
    cr_assert_eq(misuse.handle, buffer.bits);
    assert_misuse("sr_ring_submit", SR_E_STALE);
    pool_attach(world.ring, third);
    cr_assert_eq(sr_ring_detach_pool(world.ring, third), 0);
    assert_code(call_submit(buffer.bits, &attempt), SR_E_STALE);
    assert_ok(sr_pool_release(third, buffer));
    pool_end(&third);
}

/* An object whose slot is free must not be mistaken for the one that none, or any other bits, name.
 */
Test(handles, where_nothing_is_alive_no_handle_is) {
    struct scale_random random = scale_random(2);
    world.directory = directory_begin();
    world.ring = ring_make(NULL);
    world.pool = pool_make(BYTES, 2);
    pool_attach(world.ring, world.pool);
    assert_ok(sr_buffer_ring_create(world.ring, world.pool,
                                    &(sr_buffer_ring_options){sizeof(sr_buffer_ring_options), 4, 0},
                                    &world.buffer_ring));
    assert_ok(sr_batch_create(world.ring, NULL, &world.batch));
    channels_begin();
    end_live_call();
    world.live[NODE] = 0;
    for (uint32_t round = 0; round < 3; round++) { /* never used; used and free again */
        uint64_t bits[64] = {0,
                             UINT64_MAX,
                             world.ended[BUFFER],
                             world.ended[OP],
                             world.ended[FILE_HANDLE],
                             world.live[CALL]};
        for (size_t i = 6; i < COUNT_OF(bits); i++) {
            bits[i] = i < 32 ? i : scale_random_next(&random);
        }
        for (size_t i = 0; i < COUNT_OF(calls); i++) {
            for (size_t j = 0; j < COUNT_OF(bits); j++) {
                const int code = calls[i].call(bits[j]);
                cr_assert_eq(code, SR_E_STALE, "%s, round %u, %llx: %s", calls[i].function, round,
                             (unsigned long long)bits[j], sr_error_name(code));
            }
        }
        make_ended();
        (void)unlinkat(world.directory.fd, "closed", 0);
        (void)unlinkat(world.directory.fd, "closed last", 0);
    }
    assert_ok(sr_batch_destroy(&world.batch));
    ring_end(&world.ring);
    pool_end(&world.pool);
    channels_end();
    directory_end(&world.directory);
}

/* ---- closing ----------------------------------------------------------------------------------
 */

CASE(handles, a_file_that_is_closing_takes_no_call_and_no_operation, world_begin, world_end) {
    int ends[2];
    int fd = 77;
    cr_assert_eq(pipe(ends), 0);
    const sr_file file = file_take(world.ring, ends[0]);
    sr_request read = request_of(SR_OP_READ);
    read.file = file;
    read.buffer.bits = world.live[BUFFER];
    read.length = 1;
    read.offset = SR_OFFSET_CURRENT;
    const sr_op reading = submit(world.ring, &read);
    sr_request close_request = request_of(SR_OP_CLOSE);
    close_request.file = file;
    const sr_op closing = submit(world.ring, &close_request);
    assert_no_misuse();

    assert_code(sr_file_fd(world.ring, file, &fd), SR_E_STATE);
    cr_assert_eq(fd, -1);
    assert_misuse("sr_file_fd", SR_E_STATE);
    assert_code(sr_file_detach(world.ring, file, &fd), SR_E_STATE);
    assert_misuse("sr_file_detach", SR_E_STATE);
    for (uint16_t op = 0; op < SR_OP_COUNT; op++) {
        if ((positions[op] & (IN(AT_FILE) | IN(AT_DIR))) != 0) {
            struct attempt attempt = {op, AT_FILE};
            assert_code(call_submit(file.bits, &attempt), SR_E_STATE);
            cr_assert_eq(misuse.handle, file.bits);
            assert_misuse("sr_ring_submit", SR_E_STATE);
        }
        if ((positions[op] & IN(AT_NEW_DIR)) != 0) {
            struct attempt attempt = {op, AT_NEW_DIR};
            assert_code(call_submit(file.bits, &attempt), SR_E_STATE);
            assert_misuse("sr_ring_submit", SR_E_STATE);
        }
    }
    cr_assert_eq(write(ends[1], "x", 1), 1);
    cr_assert_eq(wait_one(world.ring).op.bits, reading.bits);
    cr_assert_eq(wait_one(world.ring).op.bits, closing.bits);
    assert_code(sr_file_fd(world.ring, file, &fd), SR_E_STALE);
    misuse_forget();
    memset(world.bytes, 0x77, BYTES);
    (void)close(ends[1]);
}
