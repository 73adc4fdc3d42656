/* SPDX-License-Identifier: MIT */
/*
 * Several batches and plain operations on one ring, at random and for long: none gets what is
 * another's, every node is told once, in an order that its graph allows, and nothing is lost. Some
 * batches are cancelled or destroyed in the midst of it.
 */
#include "unit/batches.h"

#include "support/scale.h"

enum { BATCHES = 5, NODES = 400, PLAIN_MAX = 60 };

/* A batch that runs, and what its nodes have been told. */
struct lane {
    sr_batch *batch;
    uint32_t count;
    uint32_t told_count;
    uint32_t position[NODES];
    uint32_t before[NODES]; /* a node that it runs after, or itself */
    uint8_t told[NODES];
    bool stopped;
};

static struct lane lanes[BATCHES];
static struct scale_random random_state;
static uint64_t completions_total; /* of nodes and plain operations */
static uint64_t plain_in_flight;
static uint64_t plain_next_tag;
static uint64_t plain_sum; /* of the tags in flight */
static uint32_t plain_callbacks;

#define PLAIN_TAG (UINT64_C(1) << 60)

static uint32_t below(uint64_t limit) {
    return (uint32_t)scale_random_below(&random_state, limit);
}

static uint64_t tag_of(const struct lane *lane, uint32_t node) {
    return ((uint64_t)(lane - lanes + 1) << 32) | node;
}

static void tell(sr_batch *batch, sr_node node, const sr_node_outcome *outcome, void *ctx) {
    struct lane *lane = ctx;
    const uint32_t number = (uint32_t)outcome->tag;
    cr_assert_eq(batch, lane->batch, "the callback of another batch");
    cr_assert_lt(number, lane->count);
    cr_assert_eq(outcome->tag, tag_of(lane, number), "the tag of another batch");
    cr_assert_eq(lane->told[number], 0, "told twice");
    lane->told[number] = 1;
    lane->position[number] = ++lane->told_count;
    cr_assert(lane->before[number] == number || lane->told[lane->before[number]] == 1,
              "told before what it runs after");
    if (outcome->state != SR_OUTCOME_DONE) {
        cr_assert(lane->stopped && outcome->state != SR_OUTCOME_FAILED, "%s",
                  sr_error_name((int)outcome->result));
    }
    if (outcome->completion != NULL) {
        cr_assert_eq(outcome->completion->tag, outcome->tag);
        completions_total++;
    }
    (void)node;
}

static void add_node(struct lane *lane, sr_node *nodes) {
    sr_node_spec spec = SR_NODE_SPEC_INIT;
    const uint32_t number = lane->count++;
    spec.request.tag = tag_of(lane, number);
    spec.request.ctx = lane;
    spec.on_outcome = tell;
    spec.request.op = below(20) == 0 ? SR_OP_TIMEOUT : SR_OP_NOP;
    spec.request.duration_ns = below(3) * 100000;
    spec.flags = below(10) == 0 ? SR_NODE_CLEANUP : 0;
    assert_ok(sr_batch_add(lane->batch, &spec, &nodes[number]));
    lane->before[number] = number;
    if (number > 0 && below(3) > 0) {
        lane->before[number] = below(number);
        assert_ok(sr_batch_after(lane->batch, nodes[number], nodes[lane->before[number]],
                                 below(2) == 0 ? SR_ON_SUCCESS : SR_ALWAYS));
    }
}

static void lane_begin(struct lane *lane) {
    static sr_node nodes[NODES];
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    memset(lane, 0, sizeof *lane);
    options.in_flight_max = below(2) == 0 ? 1 + below(100) : 0;
    options.forget = below(2);
    assert_ok(sr_batch_create(world.ring, &options, &lane->batch));
    const uint32_t count = 1 + below(NODES);
    while (lane->count < count) {
        add_node(lane, nodes);
    }
    assert_ok(sr_batch_start(lane->batch));
}

static void lane_end(struct lane *lane) {
    lane->stopped = true;
    assert_ok(sr_batch_destroy(&lane->batch));
    cr_assert_eq(lane->told_count, lane->count);
}

static void plain_ended(const sr_completion *completion) {
    cr_assert(completion->tag >= PLAIN_TAG && completion->tag < plain_next_tag,
              "a node's completion came to a plain operation");
    cr_assert_eq(completion->result, 0);
    plain_in_flight--;
    plain_sum -= completion->tag;
    completions_total++;
}

static void plain_callback(sr_ring *ring, const sr_completion *completion, void *ctx) {
    cr_assert(ring == world.ring && ctx == &plain_callbacks);
    plain_ended(completion);
    plain_callbacks--;
}

static void plain_submit(void) {
    sr_request request = request_of(below(10) == 0 ? SR_OP_TIMEOUT : SR_OP_NOP);
    request.tag = plain_next_tag;
    request.duration_ns = below(3) * 100000;
    if (below(2) == 0) {
        request.on_complete = plain_callback;
        request.ctx = &plain_callbacks;
    }
    const int code = sr_ring_submit(world.ring, &request, NULL);
    cr_assert(code == 0 || code == SR_E_FULL, "%s", sr_error_name(code));
    if (code == 0) {
        plain_callbacks += request.on_complete != NULL;
        plain_in_flight++;
        plain_sum += plain_next_tag++;
    }
}

static void wait_some(void) {
    const sr_completion *completions = NULL;
    const int count = sr_ring_wait(world.ring, below(4), below(2) * MS, NULL, &completions);
    cr_assert(count >= 0 || count == SR_E_TIMEOUT || count == SR_E_IDLE, "%s",
              sr_error_name(count));
    for (int i = 0; i < count; i++) {
        plain_ended(&completions[i]);
    }
}

/* Now and then one is run by itself: what is not its own comes out. */
static void run_one(struct lane *lane) {
    const sr_completion *completions = NULL;
    const int count = sr_batch_run(lane->batch, below(3) * MS, &completions);
    cr_assert(count >= 0 || count == SR_E_TIMEOUT || count == SR_E_IDLE, "%s",
              sr_error_name(count));
    for (int i = 0; i < count; i++) {
        plain_ended(&completions[i]);
    }
}

static void mix(uint64_t wanted) {
    while (completions_total < wanted) {
        struct lane *lane = &lanes[below(BATCHES)];
        while (plain_in_flight < PLAIN_MAX && below(4) > 0) {
            plain_submit();
        }
        if (below(10) == 0) {
            run_one(lane);
        } else {
            wait_some();
        }
        if (below(50) == 0) {
            lane->stopped = true;
            assert_ok(sr_batch_cancel(lane->batch));
        }
        if (lane->told_count == lane->count || below(60) == 0) {
            lane_end(lane);
            lane_begin(lane);
        }
    }
}

ON_BACKENDS(batch_stress, batches_and_plain_operations_on_one_ring_do_not_mix) {
    random_state = scale_random(world.backend);
    completions_total = 0;
    plain_in_flight = 0;
    plain_sum = 0;
    plain_callbacks = 0;
    plain_next_tag = PLAIN_TAG;
    for (uint32_t i = 0; i < BATCHES; i++) {
        lane_begin(&lanes[i]);
    }
    mix(scale_count(1000000, 20000));
    for (uint32_t i = 0; i < BATCHES; i++) {
        lane_end(&lanes[i]);
    }
    while (plain_in_flight > 0) {
        wait_some();
    }
    cr_assert(plain_sum == 0 && plain_callbacks == 0);
    const sr_ring_stats stats = ring_stats(world.ring);
    cr_assert_eq(stats.submitted_total, stats.completed_total);
    cr_assert(stats.completions_unknown_total == 0 && stats.completions_stale_total == 0);
}
