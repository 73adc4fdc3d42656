/* SPDX-License-Identifier: MIT */
/*
 * Who may use a ring and a pool: the thread that made them, before anything else is looked at. Not
 * another thread, not one that has inherited a dead owner's addresses. Once the owner has exited,
 * any thread may end them, and the quarantine shows it.
 */
#include "check.h"

#include "ring/ring.h"
#include "support/baseline.h"
#include "support/scale.h"
#include "sys/fallback.h"
#include <errno.h>
#include <fcntl.h>
#include <safering/safering.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND_NS    UINT64_C(1000000000)
#define BUFFER_BYTES 4096u

/* Everything that a thread may own, and what another one would need to misuse it. */
struct estate {
    sr_ring *ring;
    sr_pool *pool;
    sr_buffer buffer; /* held by the owner */
    sr_file file;
    sr_op op; /* a read of an empty pipe, in flight */
    sr_buffer lent;
    int pipe_in;
};

static void estate_open(struct estate *estate) {
    int ends[2];
    sr_pool_options pool_options = SR_POOL_OPTIONS_INIT;
    sr_ring_options ring_options = SR_RING_OPTIONS_INIT;
    pool_options.buffer_count = 4;
    ring_options.entries = 8;
    CHECK_EQ(sr_pool_create(NULL, &pool_options, &estate->pool), 0);
    CHECK_EQ(sr_ring_create(&ring_options, &estate->ring), 0);
    CHECK(sr_ring_attach_pool(estate->ring, estate->pool) >= 0);
    CHECK_EQ(sr_pool_acquire(estate->pool, 1, &estate->buffer), 0);
    CHECK_EQ(sr_pool_acquire(estate->pool, 1, &estate->lent), 0);
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    estate->pipe_in = ends[1];
    CHECK_EQ(sr_file_adopt(estate->ring, ends[0], 0, &estate->file), 0);
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_READ;
    request.file = estate->file;
    request.buffer = estate->lent;
    request.length = BUFFER_BYTES;
    request.offset = SR_OFFSET_CURRENT;
    CHECK_EQ(sr_ring_submit(estate->ring, &request, &estate->op), 0);
    CHECK_EQ(sr_ring_flush(estate->ring), 1);
}

/* The read still works and nothing else has happened: so end everything, as the owner. */
static void estate_prove_and_close(struct estate *estate) {
    const sr_completion *completions = NULL;
    CHECK_EQ(write(estate->pipe_in, "seven b", 7), 7);
    CHECK_EQ(sr_ring_wait(estate->ring, 1, CHECK_PATIENCE_NS, NULL, &completions), 1);
    CHECK_EQ(completions[0].result, 7);
    CHECK(completions[0].op.bits == estate->op.bits);
    void *data = NULL;
    CHECK_EQ(sr_buffer_data(estate->pool, estate->lent, 0, 7, SR_ACCESS_READ, &data), 0);
    CHECK(memcmp(data, "seven b", 7) == 0);
    CHECK_EQ(sr_pool_release(estate->pool, estate->lent), 0);
    CHECK_EQ(sr_pool_release(estate->pool, estate->buffer), 0);
    CHECK_EQ(sr_ring_destroy(&estate->ring), 0);
    CHECK_EQ(sr_pool_destroy(&estate->pool), 0);
    CHECK_EQ(close(estate->pipe_in), 0);
}

/* ---- each call ------------------------------------------------------------------------------- */

static int call_attach(struct estate *estate) {
    return sr_ring_attach_pool(estate->ring, estate->pool);
}

static int call_detach(struct estate *estate) {
    return sr_ring_detach_pool(estate->ring, estate->pool);
}

static int call_submit_nop(struct estate *estate) {
    sr_request request = SR_REQUEST_INIT;
    sr_op op = {1};
    const int code = sr_ring_submit(estate->ring, &request, &op);
    CHECK_EQ(op.bits, 0);
    return code;
}

static int call_submit_write(struct estate *estate) {
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_WRITE;
    request.file = estate->file;
    request.buffer = estate->buffer;
    request.length = 16;
    return sr_ring_submit(estate->ring, &request, NULL);
}

static int call_submit_close(struct estate *estate) {
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_CLOSE;
    request.file = estate->file;
    request.op_flags = SR_CLOSE_CANCEL;
    return sr_ring_submit(estate->ring, &request, NULL);
}

static int call_flush(struct estate *estate) {
    return sr_ring_flush(estate->ring);
}

static int call_wait(struct estate *estate) {
    const sr_completion *completions = (const sr_completion *)(const void *)estate;
    const int code = sr_ring_wait(estate->ring, 1, SR_FOREVER, NULL, &completions);
    CHECK(completions == NULL);
    return code;
}

static int call_look(struct estate *estate) {
    return sr_ring_wait(estate->ring, 0, 0, NULL, NULL);
}

static int call_cancel(struct estate *estate) {
    return sr_op_cancel(estate->ring, estate->op);
}

static int call_abandon(struct estate *estate) {
    return sr_op_abandon(estate->ring, estate->op, NULL);
}

static int call_file_adopt(struct estate *estate) {
    sr_file file = {1};
    const int code = sr_file_adopt(estate->ring, estate->pipe_in, SR_FILE_FIXED, &file);
    CHECK_EQ(file.bits, 0);
    return code;
}

static int call_file_fd(struct estate *estate) {
    int fd = 0;
    const int code = sr_file_fd(estate->ring, estate->file, &fd);
    CHECK_EQ(fd, -1);
    return code;
}

static int call_file_detach(struct estate *estate) {
    int fd = 0;
    const int code = sr_file_detach(estate->ring, estate->file, &fd);
    CHECK_EQ(fd, -1);
    return code;
}

static int call_ring_stats(struct estate *estate) {
    sr_ring_stats stats = SR_RING_STATS_INIT;
    return sr_ring_get_stats(estate->ring, &stats);
}

static int call_ring_release(struct estate *estate) {
    return sr_ring_release(estate->ring);
}

static int call_event_fd(struct estate *estate) {
    int fd = 0;
    const int code = sr_ring_event_fd(estate->ring, &fd);
    CHECK_EQ(fd, -1);
    return code;
}

static int call_next_deadline(struct estate *estate) {
    uint64_t left_ns = 1;
    const int code = sr_ring_next_deadline_ns(estate->ring, &left_ns);
    CHECK_EQ(left_ns, 0);
    return code;
}

static int call_dispatch(struct estate *estate) {
    const sr_completion *completions = NULL;
    return sr_ring_dispatch(estate->ring, &completions);
}

static int call_buffer_ring_create(struct estate *estate) {
    sr_buffer_ring *buffer_ring = NULL;
    const int code = sr_buffer_ring_create(estate->ring, estate->pool, NULL, &buffer_ring);
    CHECK(buffer_ring == NULL);
    return code;
}

static int call_acquire(struct estate *estate) {
    sr_buffer buffer = {1};
    const int code = sr_pool_acquire(estate->pool, 1, &buffer);
    CHECK_EQ(buffer.bits, 0);
    return code;
}

static int call_acquire_for(struct estate *estate) {
    sr_buffer buffer = {1};
    const int code = sr_pool_acquire_for(estate->pool, 1, 9, &buffer);
    CHECK_EQ(buffer.bits, 0);
    return code;
}

static int call_release(struct estate *estate) {
    return sr_pool_release(estate->pool, estate->buffer);
}

static int call_set_limit(struct estate *estate) {
    return sr_pool_set_account_limit(estate->pool, 0, 1);
}

static int call_account_bytes(struct estate *estate) {
    uint64_t bytes = 1;
    const int code = sr_pool_account_bytes(estate->pool, 0, &bytes);
    CHECK_EQ(bytes, 0);
    return code;
}

static int call_pool_stats(struct estate *estate) {
    sr_pool_stats stats = SR_POOL_STATS_INIT;
    return sr_pool_get_stats(estate->pool, &stats);
}

static int call_data(struct estate *estate) {
    void *data = estate;
    const int code = sr_buffer_data(estate->pool, estate->buffer, 0, 1, SR_ACCESS_READ, &data);
    CHECK(data == NULL);
    return code;
}

static int call_transfer(struct estate *estate) {
    return sr_buffer_transfer(estate->pool, estate->buffer, sr_thread_self());
}

static const struct call {
    const char *name;
    int (*run)(struct estate *estate);
} calls[] = {
    {"sr_ring_attach_pool", call_attach},
    {"sr_ring_detach_pool", call_detach},
    {"sr_ring_submit NOP", call_submit_nop},
    {"sr_ring_submit WRITE", call_submit_write},
    {"sr_ring_submit CLOSE", call_submit_close},
    {"sr_ring_flush", call_flush},
    {"sr_ring_wait", call_wait},
    {"sr_ring_wait 0", call_look},
    {"sr_op_cancel", call_cancel},
    {"sr_op_abandon", call_abandon},
    {"sr_file_adopt", call_file_adopt},
    {"sr_file_fd", call_file_fd},
    {"sr_file_detach", call_file_detach},
    {"sr_ring_get_stats", call_ring_stats},
    {"sr_ring_release", call_ring_release},
    {"sr_ring_event_fd", call_event_fd},
    {"sr_ring_next_deadline_ns", call_next_deadline},
    {"sr_ring_dispatch", call_dispatch},
    {"sr_buffer_ring_create", call_buffer_ring_create},
    {"sr_pool_acquire", call_acquire},
    {"sr_pool_acquire_for", call_acquire_for},
    {"sr_pool_release", call_release},
    {"sr_pool_set_account_limit", call_set_limit},
    {"sr_pool_account_bytes", call_account_bytes},
    {"sr_pool_get_stats", call_pool_stats},
    {"sr_buffer_data", call_data},
    {"sr_buffer_transfer", call_transfer},
};

#define CALLS (sizeof calls / sizeof calls[0])

static _Atomic uint32_t misuse_count;

static void count_misuse(int code, const char *function, uint64_t handle, void *ctx) {
    (void)function;
    (void)handle;
    (void)ctx;
    CHECK_EQ(code, SR_E_WRONG_THREAD);
    atomic_fetch_add(&misuse_count, 1);
}

static void check_all_calls_are_refused(struct estate *estate) {
    for (size_t i = 0; i < CALLS; i++) {
        const int code = calls[i].run(estate);
        if (code != SR_E_WRONG_THREAD) {
            fprintf(stderr, "%s: %d\n", calls[i].name, code);
        }
        CHECK_EQ(code, SR_E_WRONG_THREAD);
    }
}

static void check_ends_are_refused(struct estate *estate) {
    sr_ring *ring = estate->ring;
    sr_pool *pool = estate->pool;
    CHECK_EQ(sr_ring_destroy(&ring), SR_E_WRONG_THREAD);
    CHECK(ring == estate->ring);
    CHECK_EQ(sr_pool_destroy(&pool), SR_E_WRONG_THREAD);
    CHECK(pool == estate->pool);
}

/* ---- the wrong thread ------------------------------------------------------------------------ */

/* What a refused call must leave as it was. */
struct trace {
    uint32_t sq_tail;
    uint32_t shared_sq_tail;
    uint32_t shared_sq_head;
    uint32_t cq_head;
    sr_ring_stats ring;
    sr_pool_stats pool;
};

static struct trace trace_take(const struct estate *estate) {
    const struct sri_queue *queue = &estate->ring->queue;
    struct trace trace = {
        .sq_tail = queue->sq_tail,
        .shared_sq_tail = atomic_load(queue->shared_sq_tail),
        .shared_sq_head = atomic_load(queue->shared_sq_head),
        .cq_head = queue->cq_head,
        .ring = SR_RING_STATS_INIT,
        .pool = SR_POOL_STATS_INIT,
    };
    CHECK_EQ(sr_ring_get_stats(estate->ring, &trace.ring), 0);
    CHECK_EQ(sr_pool_get_stats(estate->pool, &trace.pool), 0);
    return trace;
}

static void check_unchanged(const struct estate *estate, const struct trace *before) {
    const struct trace now = trace_take(estate);
    CHECK_EQ(now.sq_tail, before->sq_tail);
    CHECK_EQ(now.shared_sq_tail, before->shared_sq_tail);
    CHECK_EQ(now.shared_sq_head, before->shared_sq_head);
    CHECK_EQ(now.cq_head, before->cq_head);
    CHECK(memcmp(&now.ring, &before->ring, sizeof now.ring) == 0);
    CHECK(memcmp(&now.pool, &before->pool, sizeof now.pool) == 0);
}

static void *misuse_as_a_known_thread(void *ctx) {
    (void)sr_thread_self();
    check_all_calls_are_refused(ctx);
    check_ends_are_refused(ctx);
    return NULL;
}

/* A thread that the library has never heard of. */
static void *misuse_as_an_unknown_thread(void *ctx) {
    check_ends_are_refused(ctx);
    check_all_calls_are_refused(ctx);
    return NULL;
}

/* One that has a ring and a pool of its own. */
static void *misuse_as_another_owner(void *ctx) {
    struct estate own = {.ring = NULL};
    estate_open(&own);
    check_all_calls_are_refused(ctx);
    check_ends_are_refused(ctx);
    estate_prove_and_close(&own);
    return NULL;
}

static void the_wrong_thread_is_refused_before_the_queue_is_touched(void) {
    void *(*const strangers[])(void *) = {misuse_as_a_known_thread, misuse_as_an_unknown_thread,
                                          misuse_as_another_owner};
    struct estate estate = {.ring = NULL};
    estate_open(&estate);
    sr_set_misuse_hook(count_misuse, NULL);
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++) {
        atomic_store(&misuse_count, 0);
        const struct trace before = trace_take(&estate);
        check_in_thread(strangers[i], &estate);
        check_unchanged(&estate, &before);
        /* Each refusal was told once: the calls of the table, and the two ends. */
        CHECK_EQ(atomic_load(&misuse_count), CALLS + 2);
        CHECK_EQ(sr_ring_flush(estate.ring), 0);
    }
    sr_set_misuse_hook(NULL, NULL);
    estate_prove_and_close(&estate);
}

static void an_owner_with_work_queued_sends_only_that(void) {
    struct estate estate = {.ring = NULL};
    sr_request request = SR_REQUEST_INIT;
    const sr_completion *completions = NULL;
    estate_open(&estate);
    request.tag = 77;
    CHECK_EQ(sr_ring_submit(estate.ring, &request, NULL), 0);
    const struct trace before = trace_take(&estate);
    CHECK(before.sq_tail == before.shared_sq_tail + 1); /* filled, not published */
    check_in_thread(misuse_as_another_owner, &estate);
    check_unchanged(&estate, &before);
    CHECK_EQ(sr_ring_flush(estate.ring), 1);
    CHECK_EQ(sr_ring_wait(estate.ring, 1, CHECK_PATIENCE_NS, NULL, &completions), 1);
    CHECK_EQ(completions[0].tag, 77);
    estate_prove_and_close(&estate);
}

/* ---- addresses that come again --------------------------------------------------------------- */

struct addresses {
    struct estate *estate;
    pthread_t thread;
    void *tls;
    bool opens;
    bool matched;
};

static _Thread_local char something_in_tls;

static void *open_and_exit(void *ctx) {
    struct addresses *self = ctx;
    estate_open(self->estate);
    self->thread = pthread_self();
    self->tls = &something_in_tls;
    return NULL;
}

static void *misuse_if_the_addresses_are_the_same(void *ctx) {
    struct addresses *self = ctx;
    self->matched =
        pthread_equal(self->thread, pthread_self()) && self->tls == (void *)&something_in_tls;
    if (self->matched) {
        check_all_calls_are_refused(self->estate);
        (void)sr_thread_self(); /* also with a key of its own */
        check_all_calls_are_refused(self->estate);
    }
    return NULL;
}

static void check_ended_by_another_thread(struct estate *estate) {
    sr_quarantine_counts counts = SR_QUARANTINE_STATS_INIT;
    CHECK_EQ(sr_pool_destroy(&estate->pool), SR_E_STATE); /* still attached */
    CHECK_EQ(sr_ring_destroy(&estate->ring), SR_E_IN_FLIGHT);
    CHECK(estate->ring == NULL);
    CHECK_EQ(sr_quarantine_stats(&counts), 0);
    CHECK_EQ(counts.rings, 1);
    CHECK_EQ(counts.operations, 1);
    CHECK_EQ(counts.bytes, BUFFER_BYTES);
    CHECK_EQ(sr_pool_destroy(&estate->pool), SR_E_IN_FLIGHT); /* the kernel may still write */
    CHECK_EQ(sr_quarantine_sweep(CHECK_PATIENCE_NS), 0);
    CHECK_EQ(sr_quarantine_stats(&counts), 0);
    CHECK_EQ(counts.rings, 0);
    CHECK_EQ(counts.operations, 0);
    CHECK_EQ(counts.bytes, 0);
    CHECK_EQ(counts.swept_total, counts.rings_total);
    CHECK_EQ(sr_pool_destroy(&estate->pool), 0);
    CHECK(estate->pool == NULL);
    CHECK_EQ(close(estate->pipe_in), 0);
}

static void a_thread_at_a_dead_owners_addresses_is_refused(void) {
    struct estate estate = {.ring = NULL};
    struct addresses addresses = {.estate = &estate};
    check_in_thread(open_and_exit, &addresses);
    for (uint32_t i = 0; i < 1000 && !addresses.matched; i++) {
        check_in_thread(misuse_if_the_addresses_are_the_same, &addresses);
    }
    /* glibc keeps the stacks of dead threads for the next ones. */
    CHECK(addresses.matched);
    check_all_calls_are_refused(&estate);
    check_ended_by_another_thread(&estate);
}

/* ---- the owner is gone ----------------------------------------------------------------------- */

static void *end_the_estate(void *ctx) {
    check_ended_by_another_thread(ctx);
    return NULL;
}

/* What is there now and was not at @before, or NULL. */
static const char *left_behind(const struct baseline *before) {
    static struct baseline now;
    if (!CHECK_HAS_TSAN && !CHECK_ON_VALGRIND) {
        return baseline_difference(before);
    }
    /* These map memory of their own as they go. */
    baseline_take(&now);
    return now.fd_count != before->fd_count ? "descriptors are left" : NULL;
}

static void any_thread_ends_what_a_dead_owner_left(void) {
    static struct baseline baseline;
    for (uint32_t round = 0; round < 4; round++) {
        struct estate estate = {.ring = NULL};
        struct addresses addresses = {.estate = &estate};
        if (round == 2) {
            baseline_take(&baseline); /* after a warm-up of both kinds */
        }
        check_in_thread(open_and_exit, &addresses);
        check_all_calls_are_refused(&estate);
        if (round % 2 == 0) {
            check_ended_by_another_thread(&estate);
        } else {
            check_in_thread(end_the_estate, &estate);
        }
    }
    const char *difference = left_behind(&baseline);
    if (difference != NULL) {
        fprintf(stderr, "%s\n", difference);
    }
    CHECK(difference == NULL);
}

/* Registered ring descriptors are numbers that each thread counts for itself: ending the ring of a
 * dead owner must not end the one that has the same number here. */
static void who_ends_a_dead_owners_ring_keeps_its_own(void) {
    struct estate own = {.ring = NULL};
    struct estate estate = {.ring = NULL};
    struct addresses addresses = {.estate = &estate};
    estate_open(&own);
    check_in_thread(open_and_exit, &addresses);
    check_ended_by_another_thread(&estate);
    estate_prove_and_close(&own);
}

/* Nothing was in flight: the ring of a dead owner still passes through the quarantine. */
static void *open_idle_and_exit(void *ctx) {
    struct estate *estate = ctx;
    CHECK_EQ(sr_ring_create(NULL, &estate->ring), 0);
    CHECK_EQ(sr_pool_create(NULL, NULL, &estate->pool), 0);
    CHECK(sr_ring_attach_pool(estate->ring, estate->pool) >= 0);
    return NULL;
}

static void an_idle_ring_of_a_dead_owner_passes_through_the_quarantine(void) {
    struct estate estate = {.ring = NULL};
    sr_quarantine_counts counts = SR_QUARANTINE_STATS_INIT;
    check_in_thread(open_idle_and_exit, &estate);
    CHECK_EQ(sr_ring_destroy(&estate.ring), SR_E_IN_FLIGHT);
    CHECK_EQ(sr_quarantine_stats(&counts), 0);
    CHECK_EQ(counts.rings, 1);
    CHECK_EQ(counts.operations, 0);
    CHECK_EQ(counts.bytes, 0);
    CHECK_EQ(sr_pool_destroy(&estate.pool), 0); /* no buffer of it is lent */
    CHECK_EQ(sr_quarantine_sweep(CHECK_PATIENCE_NS), 0);
}

/* Requests that the owner queued and never sent must not be sent by who destroys the ring. */
static void *queue_a_write_and_exit(void *ctx) {
    struct estate *estate = ctx;
    int ends[2];
    sr_request request = SR_REQUEST_INIT;
    CHECK_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    CHECK_EQ(sr_ring_create(NULL, &estate->ring), 0);
    CHECK_EQ(sr_pool_create(NULL, NULL, &estate->pool), 0);
    CHECK(sr_ring_attach_pool(estate->ring, estate->pool) >= 0);
    CHECK_EQ(sr_pool_acquire(estate->pool, 1, &estate->buffer), 0);
    CHECK_EQ(sr_file_adopt(estate->ring, ends[1], 0, &estate->file), 0);
    estate->pipe_in = ends[0];
    request.op = SR_OP_WRITE;
    request.file = estate->file;
    request.buffer = estate->buffer;
    request.length = 1;
    request.offset = SR_OFFSET_CURRENT;
    CHECK_EQ(sr_ring_submit(estate->ring, &request, NULL), 0);
    return NULL;
}

static void what_a_dead_owner_did_not_send_never_happens(void) {
    struct estate estate = {.ring = NULL};
    char byte = 0;
    check_in_thread(queue_a_write_and_exit, &estate);
    CHECK_EQ(sr_ring_destroy(&estate.ring), SR_E_IN_FLIGHT);
    CHECK_EQ(sr_quarantine_sweep(CHECK_PATIENCE_NS), 0);
    /* End of file and no byte: nothing was written, and the ring's descriptor is closed. */
    CHECK_EQ(read(estate.pipe_in, &byte, 1), 0);
    CHECK_EQ(close(estate.pipe_in), 0);
    CHECK_EQ(sr_pool_destroy(&estate.pool), 0);
}

/* ---- an owner that is about to go ------------------------------------------------------------ */

struct last_will {
    struct estate estate;
    pthread_key_t key;
    pthread_barrier_t step;
    uint32_t rounds; /* how often the destructor asks to run again */
    bool ends_all;
};

/* Runs in the owner, after its start function has returned. */
static void linger(void *ctx) {
    struct last_will *will = ctx;
    if (will->rounds > 0) {
        will->rounds--;
        CHECK_EQ(pthread_setspecific(will->key, will), 0);
        return;
    }
    pthread_barrier_wait(&will->step);
    pthread_barrier_wait(&will->step); /* the others try */
    const sr_request nop = SR_REQUEST_INIT;
    CHECK_EQ(sr_ring_submit(will->estate.ring, &nop, NULL), 0); /* still the owner */
    CHECK_EQ(sr_ring_wait(will->estate.ring, 1, CHECK_PATIENCE_NS, NULL, NULL), 1);
    if (will->ends_all) {
        estate_prove_and_close(&will->estate);
    }
}

static void *open_and_linger(void *ctx) {
    struct last_will *will = ctx;
    estate_open(&will->estate);
    CHECK_EQ(pthread_setspecific(will->key, will), 0);
    return NULL;
}

static void while_an_owner_runs_its_destructors(pthread_key_t key, uint32_t rounds, bool ends_all) {
    struct last_will will = {.key = key, .rounds = rounds, .ends_all = ends_all};
    CHECK_EQ(pthread_barrier_init(&will.step, NULL, 2), 0);
    const pthread_t thread = check_thread_start(open_and_linger, &will);
    pthread_barrier_wait(&will.step);
    check_all_calls_are_refused(&will.estate);
    check_ends_are_refused(&will.estate);
    pthread_barrier_wait(&will.step);
    check_thread_join(thread);
    if (!ends_all) {
        check_ended_by_another_thread(&will.estate);
    }
    CHECK_EQ(pthread_barrier_destroy(&will.step), 0);
}

/* A key that is older than any of the library's: its destructors run first in each round. */
static pthread_key_t older_key;
/* And one that is younger. */
static pthread_key_t younger_key;

static void an_owner_in_its_destructors_is_still_the_owner(void) {
    while_an_owner_runs_its_destructors(older_key, 0, false);
    while_an_owner_runs_its_destructors(older_key, 0, true);
    while_an_owner_runs_its_destructors(older_key, 1, false);
    while_an_owner_runs_its_destructors(younger_key, 0, false);
    while_an_owner_runs_its_destructors(younger_key, 1, true);
}

static void open_late(void *ctx) {
    struct last_will *will = ctx;
    if (will->rounds > 0) {
        will->rounds--;
        CHECK_EQ(pthread_setspecific(will->key, will), 0);
        return;
    }
    estate_open(&will->estate);
}

static pthread_key_t late_key;

static void *leave_it_to_the_destructor(void *ctx) {
    struct last_will *will = ctx;
    CHECK_EQ(pthread_setspecific(will->key, will), 0);
    return NULL;
}

/* A thread that first meets the library in a destructor is gone when it is gone. */
static void what_a_destructor_creates_can_be_ended_by_others(void) {
    for (uint32_t rounds = 0; rounds < 3; rounds++) {
        struct last_will will = {.key = late_key, .rounds = rounds};
        check_in_thread(leave_it_to_the_destructor, &will);
        check_ended_by_another_thread(&will.estate);
    }
}

/* ---- the main thread goes first -------------------------------------------------------------- */

static struct estate mains_estate;

/* Does not join the main thread: ThreadSanitizer cannot. */
static void *survive_the_main_thread(void *ctx) {
    sr_pool *pool = mains_estate.pool;
    (void)ctx;
    while (sr_pool_destroy(&pool) == SR_E_WRONG_THREAD) {
        check_sleep_ms(1);
    }
    check_ended_by_another_thread(&mains_estate);
    _exit(0);
}

static void a_main_thread_that_exited_is_a_dead_owner(void) {
    int status = 0;
    const pid_t child = fork(); /* no other thread runs now */
    CHECK(child >= 0);
    if (child == 0) {
        estate_open(&mains_estate);
        CHECK_EQ(pthread_detach(check_thread_start(survive_the_main_thread, NULL)), 0);
        pthread_exit(NULL);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

/* ---- owners come and go ---- */

static void *open_a_pool_and_exit(void *ctx) {
    CHECK_EQ(sr_pool_create(NULL, NULL, ctx), 0);
    return NULL;
}

struct watcher {
    sr_pool *pool; /* whose owner lives */
    uint64_t rounds;
};

static void *outlive_owners(void *ctx) {
    const struct watcher *watcher = ctx;
    for (uint64_t i = 0; i < watcher->rounds; i++) {
        sr_pool *orphan = NULL;
        sr_pool *living = watcher->pool;
        check_in_thread(open_a_pool_and_exit, &orphan);
        CHECK_EQ(sr_pool_destroy(&living), SR_E_WRONG_THREAD);
        CHECK_EQ(sr_pool_destroy(&orphan), 0);
    }
    return NULL;
}

static void many_owners_come_and_go_at_the_same_time(void) {
    pthread_t threads[4];
    struct watcher watcher = {.rounds = scale_count(200, 10)};
    CHECK_EQ(sr_pool_create(NULL, NULL, &watcher.pool), 0);
    for (size_t i = 0; i < 4; i++) {
        threads[i] = check_thread_start(outlive_owners, &watcher);
    }
    for (size_t i = 0; i < 4; i++) {
        check_thread_join(threads[i]);
    }
    CHECK_EQ(sr_pool_destroy(&watcher.pool), 0);
}

/* ---- destroy beside sweep -------------------------------------------------------------------- */

struct sweeper {
    _Atomic bool over;
    _Atomic uint64_t sweeps;
};

static void *sweep_all_the_time(void *ctx) {
    struct sweeper *sweeper = ctx;
    while (!atomic_load(&sweeper->over)) {
        sr_quarantine_counts counts = SR_QUARANTINE_STATS_INIT;
        CHECK(sr_quarantine_sweep(0) >= 0);
        CHECK_EQ(sr_quarantine_stats(&counts), 0);
        CHECK(counts.rings + counts.swept_total >= counts.rings_total); /* none is lost */
        atomic_fetch_add(&sweeper->sweeps, 1);
    }
    return NULL;
}

static void rings_go_into_quarantine_while_another_thread_sweeps(void) {
    struct sweeper sweeper = {.over = false};
    sr_quarantine_counts counts = SR_QUARANTINE_STATS_INIT;
    const pthread_t thread = check_thread_start(sweep_all_the_time, &sweeper);
    CHECK_EQ(sr_quarantine_stats(&counts), 0);
    const uint64_t before = counts.rings_total;
    const uint32_t rounds = (uint32_t)scale_count(40, 10);
    for (uint32_t i = 0; i < rounds; i++) {
        struct estate estate = {.ring = NULL};
        struct addresses addresses = {.estate = &estate};
        check_in_thread(open_and_exit, &addresses);
        CHECK_EQ(sr_ring_destroy(&estate.ring), SR_E_IN_FLIGHT);
        int code = 0;
        while ((code = sr_pool_destroy(&estate.pool)) == SR_E_IN_FLIGHT) {
            check_sleep_ms(1);
        }
        CHECK_EQ(code, 0);
        CHECK_EQ(close(estate.pipe_in), 0);
    }
    atomic_store(&sweeper.over, true);
    check_thread_join(thread);
    CHECK(atomic_load(&sweeper.sweeps) > 0);
    CHECK_EQ(sr_quarantine_sweep(CHECK_PATIENCE_NS), 0);
    CHECK_EQ(sr_quarantine_stats(&counts), 0);
    CHECK_EQ(counts.rings_total - before, rounds);
}

/* What is asked while another thread waits in a sweep is answered at once. */
static void *sweep_for_long(void *ctx) {
    const int *left = ctx;
    CHECK_EQ(sr_quarantine_sweep(3 * SECOND_NS), *left);
    return NULL;
}

static void a_sweep_that_waits_stops_nobody(void) {
    struct estate estate = {.ring = NULL};
    struct addresses addresses = {.estate = &estate};
    sr_quarantine_counts counts = SR_QUARANTINE_STATS_INIT;
    int left = 1;
    check_in_thread(open_and_exit, &addresses);
    /* A copy of the ring's descriptor keeps the kernel from ending the ring. */
    const struct sri_queue *queue = &estate.ring->queue;
    const int copy =
        dup(queue->kind == SRI_BACKEND_FALLBACK ? ((struct sri_fallback *)queue->state)->lifeline_fd
                                                : ((struct io_uring *)queue->state)->ring_fd);
    CHECK(copy >= 0);
    CHECK_EQ(sr_ring_destroy(&estate.ring), SR_E_IN_FLIGHT);
    const pthread_t thread = check_thread_start(sweep_for_long, &left);
    check_sleep_ms(200);
    const uint64_t begin_ns = check_now_ns();
    CHECK_EQ(sr_quarantine_stats(&counts), 0);
    CHECK_EQ(counts.rings, 1);
    const pid_t child = fork();
    if (child == 0) {
        _exit(0);
    }
    CHECK(child > 0 && waitpid(child, NULL, 0) == child);
    CHECK(check_now_ns() - begin_ns < SECOND_NS);
    check_thread_join(thread);
    CHECK_EQ(close(copy), 0);
    CHECK_EQ(sr_quarantine_sweep(CHECK_PATIENCE_NS), 0);
    CHECK_EQ(sr_pool_destroy(&estate.pool), 0);
    CHECK_EQ(close(estate.pipe_in), 0);
}

int main(void) {
    CHECK_EQ(pthread_key_create(&older_key, linger), 0);
    RUN(a_main_thread_that_exited_is_a_dead_owner);
    RUN(the_wrong_thread_is_refused_before_the_queue_is_touched);
    CHECK_EQ(pthread_key_create(&younger_key, linger), 0);
    CHECK_EQ(pthread_key_create(&late_key, open_late), 0);
    RUN(an_owner_with_work_queued_sends_only_that);
    RUN(a_thread_at_a_dead_owners_addresses_is_refused);
    RUN(any_thread_ends_what_a_dead_owner_left);
    RUN(who_ends_a_dead_owners_ring_keeps_its_own);
    RUN(an_idle_ring_of_a_dead_owner_passes_through_the_quarantine);
    RUN(what_a_dead_owner_did_not_send_never_happens);
    RUN(an_owner_in_its_destructors_is_still_the_owner);
    RUN(many_owners_come_and_go_at_the_same_time);
    RUN(rings_go_into_quarantine_while_another_thread_sweeps);
    RUN(a_sweep_that_waits_stops_nobody);
    RUN(what_a_destructor_creates_can_be_ended_by_others);
    return 0;
}
