/* SPDX-License-Identifier: MIT */
/*
 * Batches: a ring, a pool and a batch for a test, nodes in one line each, and a record of what
 * every node was told. ON_BACKENDS runs a case on io_uring and on the fallback, which must answer
 * alike.
 */
#ifndef SAFERING_TESTS_UNIT_BATCHES_H
#define SAFERING_TESTS_UNIT_BATCHES_H

#include "unit/fixture.h"

#include "support/baseline.h"
#include "support/valgrind.h"

#define TAGS_MAX 4096u
#define MS       UINT64_C(1000000)
#define SECOND   (1000 * MS)
#define HOUR     (3600 * SECOND)

/* What a node was told; its tag is the place. */
struct told {
    uint32_t count;
    uint32_t position; /* in the order of all */
    uint32_t has_completion;
    sr_node_outcome outcome;
    sr_completion completion;
    sr_node node;
};

static struct {
    sr_ring *ring;
    sr_pool *pool; /* attached */
    sr_batch *batch;
    uint32_t backend;
    struct told told[TAGS_MAX];
    uint32_t told_count;
    uint64_t submits; /* that the trace hook was told of */
    uint64_t completes;
    uint64_t submitted_tags[TAGS_MAX];
} world;

static inline void world_trace(int event, sr_op op, uint64_t tag, int64_t value, void *ctx) {
    (void)op;
    (void)value;
    (void)ctx;
    world.submits += event == SR_TRACE_SUBMIT;
    world.completes += event == SR_TRACE_COMPLETE;
    if (event == SR_TRACE_SUBMIT && tag < TAGS_MAX) {
        world.submitted_tags[tag]++;
    }
}

/* Every node's callback, unless a test has its own; that one calls it. */
static inline void world_tell(sr_batch *batch, sr_node node, const sr_node_outcome *outcome,
                              void *ctx) {
    cr_assert_lt(outcome->tag, TAGS_MAX);
    struct told *told = &world.told[outcome->tag];
    (void)batch;
    (void)ctx;
    told->count++;
    cr_assert_eq(told->count, 1, "node %u was told %u times", (unsigned)outcome->tag, told->count);
    told->position = world.told_count++;
    told->has_completion = outcome->completion != NULL;
    told->outcome = *outcome;
    told->outcome.completion = NULL;
    told->node = node;
    if (outcome->completion != NULL) {
        told->completion = *outcome->completion;
    }
}

static inline void world_forget(void) {
    memset(world.told, 0, sizeof world.told);
    memset(world.submitted_tags, 0, sizeof world.submitted_tags);
    world.told_count = 0;
}

/* False if the kernel's io_uring cannot be had; on the fallback it must work. */
static inline bool world_open(uint32_t backend, const sr_ring_options *given) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    if (given != NULL) {
        options = *given;
    }
    options.backend = backend;
    options.on_trace = world_trace;
    memset(&world, 0, sizeof world);
    world.backend = backend;
    const int code = sr_ring_create(&options, &world.ring);
    if (code < 0 && backend == SR_BACKEND_URING) {
        fprintf(stderr, "only on the fallback, io_uring gives %s\n", sr_error_name(code));
        return false;
    }
    assert_ok(code);
    world.pool = pool_make(4096, 16);
    pool_attach(world.ring, world.pool);
    assert_ok(sr_batch_create(world.ring, NULL, &world.batch));
    misuse_watch();
    return true;
}

/* Everything must end cleanly, without a report of misuse. */
static inline void world_close(void) {
    assert_no_misuse();
    sr_set_misuse_hook(NULL, NULL);
    assert_ok(sr_batch_destroy(&world.batch));
    cr_assert_eq(pool_stats(world.pool).held_count, 0, "buffers are still held");
    ring_end(&world.ring);
    pool_end(&world.pool);
}

/* A batch with options in the place of the default one. */
static inline void batch_renew(const sr_batch_options *options) {
    assert_ok(sr_batch_destroy(&world.batch));
    assert_ok(sr_batch_create(world.ring, options, &world.batch));
    world_forget();
}

/* valgrind 3.19 knows no openat2(2), by which files are opened on the fallback. */
static inline bool fallback_can_be_run(void) {
    if (RUNNING_ON_VALGRIND != 0) {
        fprintf(stderr, "not on the fallback: valgrind knows no openat2\n");
        return false;
    }
    return true;
}

#define ON_BACKENDS_WITH(suite, name, ring_options)                                                \
    static void name(void);                                                                        \
    Test(suite, name) {                                                                            \
        if (fallback_can_be_run()) {                                                               \
            cr_assert(world_open(SR_BACKEND_FALLBACK, (ring_options)));                            \
            name();                                                                                \
            world_close();                                                                         \
        }                                                                                          \
        if (world_open(SR_BACKEND_URING, (ring_options))) {                                        \
            name();                                                                                \
            world_close();                                                                         \
        }                                                                                          \
    }                                                                                              \
    static void name(void)

#define ON_BACKENDS(suite, name) ON_BACKENDS_WITH(suite, name, NULL)

/* ---- nodes ----------------------------------------------------------------------------------- */

static inline sr_node_spec spec_of(uint16_t op, uint64_t tag) {
    sr_node_spec spec = SR_NODE_SPEC_INIT;
    spec.request.op = op;
    spec.request.tag = tag;
    spec.on_outcome = world_tell;
    return spec;
}

static inline sr_node node_add(const sr_node_spec *spec) {
    sr_node node;
    assert_ok(sr_batch_add(world.batch, spec, &node));
    cr_assert_neq(node.bits, 0);
    return node;
}

/* One that is DONE. */
static inline sr_node node_nop(uint64_t tag) {
    const sr_node_spec spec = spec_of(SR_OP_NOP, tag);
    return node_add(&spec);
}

/* One that is FAILED(-ENOENT). */
static inline sr_node node_failing(uint64_t tag) {
    sr_node_spec spec = spec_of(SR_OP_UNLINKAT, tag);
    spec.request.path = "/nonexistent/safering";
    return node_add(&spec);
}

static inline sr_node_spec spec_timeout(uint64_t tag, uint64_t duration_ns) {
    sr_node_spec spec = spec_of(SR_OP_TIMEOUT, tag);
    spec.request.duration_ns = duration_ns;
    return spec;
}

/* One that is DONE after a while. */
static inline sr_node node_slow(uint64_t tag, uint64_t duration_ns) {
    const sr_node_spec spec = spec_timeout(tag, duration_ns);
    return node_add(&spec);
}

/* One that is CANCELLED by its own deadline. */
static inline sr_node node_cancelled(uint64_t tag) {
    sr_node_spec spec = spec_timeout(tag, HOUR);
    spec.request.deadline_ns = 1;
    return node_add(&spec);
}

static inline void after(sr_node node, sr_node dependency, uint32_t when) {
    assert_ok(sr_batch_after(world.batch, node, dependency, when));
}

static inline sr_batch_stats batch_stats(void) {
    sr_batch_stats stats = SR_BATCH_STATS_INIT;
    assert_ok(sr_batch_get_stats(world.batch, &stats));
    return stats;
}

/* Runs the batch to its end. */
static inline void batch_run(void) {
    assert_ok(sr_batch_run(world.batch, 20 * SECOND, NULL));
    const sr_batch_stats stats = batch_stats();
    cr_assert_eq(stats.finished, 1);
    cr_assert(stats.nodes_alive == 0 && stats.in_flight == 0 && stats.ready == 0 &&
              stats.starved == 0);
    cr_assert_eq(stats.nodes_total, stats.done_total + stats.failed_total + stats.cancelled_total +
                                        stats.skipped_total);
}

static const char *const outcome_names[] = {"none", "done", "failed", "cancelled", "skipped"};

/* What the node with @tag was told, and what the batch says when asked. */
#define assert_outcome(tag_, state_, result_)                                                      \
    do {                                                                                           \
        const struct told *told_ = &world.told[(tag_)];                                            \
        cr_assert_eq(told_->count, 1, "node %u was told %u times", (unsigned)(tag_),               \
                     told_->count);                                                                \
        cr_assert(told_->outcome.state == (state_) && told_->outcome.result == (result_),          \
                  "node %u: %s %lld (%s), not %s %lld", (unsigned)(tag_),                          \
                  outcome_names[told_->outcome.state], (long long)told_->outcome.result,           \
                  sr_error_name((int)told_->outcome.result), outcome_names[(state_)],              \
                  (long long)(result_));                                                           \
    } while (0)

#define assert_done(tag_)          assert_outcome((tag_), SR_OUTCOME_DONE, 0)
#define assert_failed(tag_, code_) assert_outcome((tag_), SR_OUTCOME_FAILED, (code_))

#define assert_cancelled(tag_, by_)                                                                \
    do {                                                                                           \
        assert_outcome((tag_), SR_OUTCOME_CANCELLED, -ECANCELED);                                  \
        cr_assert_eq(world.told[(tag_)].outcome.cancelled_by, (uint32_t)(by_),                     \
                     "node %u: cancelled by %u", (unsigned)(tag_),                                 \
                     world.told[(tag_)].outcome.cancelled_by);                                     \
    } while (0)

#define assert_skipped(tag_, cause_)                                                               \
    do {                                                                                           \
        assert_outcome((tag_), SR_OUTCOME_SKIPPED, -ECANCELED);                                    \
        cr_assert_eq(world.told[(tag_)].outcome.cause.bits, (cause_).bits,                         \
                     "node %u: another cause", (unsigned)(tag_));                                  \
    } while (0)

#endif
