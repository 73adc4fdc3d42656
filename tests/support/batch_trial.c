/* SPDX-License-Identifier: MIT */
#include "support/batch_trial.h"

#include "support/batch_maker.h"
#include "support/batch_report.h"
#include "support/failing.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECOND_NS UINT64_C(1000000000)
#define HANG_NS   (30 * SECOND_NS) /* only finds what never ends */
#define WAIT_NS   UINT64_C(2000000)

/* A trial as it runs. */
struct show {
    const struct batch_trial *trial;
    struct batch_stage stage;
    struct batch_run runs[BATCH_TRIAL_BATCHES];
    struct scale_random random;
    uint32_t idle; /* waits in a row that brought nothing */
    uint32_t waits;
};

struct batch_trial_totals batch_trial_totals;

static uint64_t misuses; /* -EINVAL that the hook was told of */

static uint64_t now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

/* ---- making a case --------------------------------------------------------------------------- */

static uint32_t below(struct scale_random *random, uint32_t limit) {
    return (uint32_t)scale_random_below(random, limit);
}

static bool percent(struct scale_random *random, uint32_t share) {
    return below(random, 100) < share;
}

static uint32_t random_size(struct scale_random *random) {
    const uint32_t dice = below(random, 1000);
    return dice < 5     ? below(random, 3)
           : dice < 850 ? 1 + below(random, 30)
           : dice < 970 ? 30 + below(random, 170)
           : dice < 995 ? 200 + below(random, 400)
                        : 600 + below(random, 1400);
}

static void make_policy(struct batch_run_plan *plan, uint32_t size, bool stops,
                        struct scale_random *random) {
    plan->cancel_at = BATCH_NONE;
    plan->destroy_after = BATCH_NONE;
    plan->writes_pipe = true;
    plan->policy.in_flight_max = percent(random, 30) ? 1 + below(random, 12) : 0;
    if (!stops) {
        return;
    }
    plan->policy.fail_fast = percent(random, 35);
    plan->writes_pipe = percent(random, 70);
    if (percent(random, 35)) {
        plan->cancel_at = below(random, size + 1);
    }
    if (percent(random, 25)) {
        plan->policy.has_deadline = true;
        plan->deadline_ns = 1000 + below(random, percent(random, 50) ? 100000 : 2000000);
    }
    plan->cancels_first = percent(random, 5);
    if (percent(random, 15)) {
        plan->destroy_after = below(random, 6);
    }
}

/* Clean-up nodes that nothing would end: nobody writes to the pipe while sr_batch_destroy() waits,
 * and nobody closes files to make a place for another. */
static void limit_cleanup(struct batch_trial *trial, uint32_t number) {
    const bool is_destroyed = trial->plans[number].destroy_after != BATCH_NONE;
    for (uint32_t i = 0; i < trial->graphs[number].node_count; i++) {
        struct batch_node *node = &trial->graphs[number].nodes[i];
        const bool opens = node->work == BATCH_OPEN || node->work == BATCH_OPEN_IN ||
                           node->work == BATCH_OPEN_DIR || node->work == BATCH_OPEN_MISSING;
        if ((node->work == BATCH_PIPE && is_destroyed) || (opens && trial->stage.files_max != 0)) {
            node->cleanup = false;
        }
    }
}

/* While sr_batch_destroy() of one batch waits nobody writes to the pipe: reads of it by the other
 * could fill the ring, and clean-up nodes would find no room. They read from the file instead. */
static void leave_room(struct batch_trial *trial) {
    for (uint32_t i = 0; i < trial->batch_count; i++) {
        const struct batch_graph *graph = &trial->graphs[i];
        const uint32_t other = trial->batch_count - 1 - i;
        const bool is_other_destroyed =
            other != i && trial->plans[other].destroy_after != BATCH_NONE;
        for (uint32_t k = 0; k < graph->node_count && is_other_destroyed; k++) {
            if (graph->nodes[k].work == BATCH_PIPE) {
                graph->nodes[k].work = BATCH_READ;
            }
        }
    }
}

static void make_batch(struct batch_trial *trial, uint32_t number, struct scale_random *random) {
    struct batch_run_plan *plan = &trial->plans[number];
    const bool stops = percent(random, 55);
    const struct batch_maker_plan graph_plan = {
        .node_count = random_size(random),
        .percent_failing = percent(random, 70) ? below(random, 30) : 0,
        .percent_added = percent(random, 40) ? below(random, 60) : 0,
        .percent_cleanup = percent(random, 50) ? below(random, 40) : 0,
        .percent_pipe = percent(random, 40) ? below(random, 20) : 0,
        .percent_timeout = percent(random, 40) ? below(random, 10) : 0,
        .percent_silent = !stops && !plan->forgets && percent(random, 30) ? 20 : 0,
        .has_deadlines = percent(random, 25),
        .forgets = plan->forgets,
        .races = percent(random, 15),
        .pools = percent(random, 70),
    };
    plan->seed = scale_random_next(random);
    plan->takes = percent(random, 20);
    plan->submits = trial->submits;
    plan->policy.may_lack_memory = trial->allocate_nth != 0;
    plan->caller_at = trial->stage.caller_buffers;
    batch_make(&trial->graphs[number], &graph_plan, random);
    make_policy(plan, trial->graphs[number].node_count, stops, random);
    trial->stage.caller_buffers += trial->graphs[number].node_count;
    limit_cleanup(trial, number);
}

static void make_failures(struct batch_trial *trial, struct scale_random *random) {
    static const int codes[] = {-EAGAIN, -EBUSY, -EINTR};
    trial->fails = true;
    if (percent(random, 50)) {
        trial->enter_period = 2 + below(random, 6);
        trial->enter_code = codes[below(random, 3)];
    }
    if (percent(random, 40)) {
        trial->enter_partial = 1 + below(random, 8);
    }
    if (percent(random, 50)) {
        trial->allocate_nth = 1 + below(random, 60);
    }
}

void batch_trial_make(struct batch_trial *out_trial, enum batch_suite suite, uint32_t number) {
    struct scale_random random = scale_random((uint64_t)suite << 32 | number);
    memset(out_trial, 0, sizeof *out_trial);
    out_trial->stage.backend = suite == BATCH_SUITE_FALLBACK ? SR_BACKEND_FALLBACK : SR_BACKEND_ANY;
    out_trial->stage.entries = 8u << below(&random, 6);
    out_trial->stage.ops_max = percent(&random, 20) ? 1 + below(&random, 16) : 0;
    out_trial->stage.files_max = percent(&random, 15) ? 1 + below(&random, 6) : 0;
    out_trial->stage.completions_max = percent(&random, 20) ? 1 + below(&random, 8) : 0;
    out_trial->stage.pool_buffers = percent(&random, 50) ? 1 + below(&random, 6) : 128;
    out_trial->batch_count = percent(&random, 20) ? 2 : 1;
    out_trial->submits = percent(&random, 25);
    if (suite == BATCH_SUITE_FAILING) {
        make_failures(out_trial, &random);
    }
    for (uint32_t i = 0; i < out_trial->batch_count; i++) {
        out_trial->plans[i].forgets = percent(&random, 10);
        make_batch(out_trial, i, &random);
    }
    leave_room(out_trial);
    out_trial->seed = scale_random_next(&random);
}

void batch_trial_free(struct batch_trial *trial) {
    for (uint32_t i = 0; i < trial->batch_count; i++) {
        batch_graph_free(&trial->graphs[i]);
    }
}

/* ---- running a case -------------------------------------------------------------------------- */

static void on_traced(void *ctx, int event, uint32_t batch, uint32_t node) {
    struct show *show = ctx;
    if (batch >= show->trial->batch_count) {
        batch_stage_blame(&show->stage, "an event of batch %u, which is not there", batch);
        return;
    }
    batch_run_traced(&show->runs[batch], event, node);
}

static void plan_failures(const struct batch_trial *trial) {
    if (trial->enter_period != 0) {
        failing_enter_every(trial->enter_period, trial->enter_code);
    }
    failing_enter_partial(trial->enter_partial);
    if (trial->allocate_nth != 0) {
        failing_plan(FAILING_ALLOCATE, trial->allocate_nth, -ENOMEM, false);
    }
}

static void allow_calls(struct show *show, bool allowed) {
    for (uint32_t i = 0; i < show->trial->batch_count; i++) {
        show->runs[i].may_call = allowed;
    }
}

static struct batch_run *unfinished(struct show *show) {
    const uint32_t from = below(&show->random, show->trial->batch_count);
    for (uint32_t i = 0; i < show->trial->batch_count; i++) {
        struct batch_run *run = &show->runs[(from + i) % show->trial->batch_count];
        if (!batch_run_is_finished(run)) {
            return run;
        }
    }
    return NULL;
}

static void stop_all(struct show *show) {
    for (uint32_t i = 0; i < show->trial->batch_count; i++) {
        if (!batch_run_is_finished(&show->runs[i])) {
            batch_run_cancel(&show->runs[i]);
        }
    }
}

/* sr_batch_run() says that nodes wait for what nothing will free: is it so? Then stop. */
static void on_idle(struct show *show, struct batch_run *run) {
    const sr_ring_stats ring = batch_stage_stats(&show->stage);
    const sr_pool_stats pool = batch_stage_pool_stats(show->stage.pool);
    const sr_batch_stats stats = batch_run_stats(run);
    const uint32_t files_max = show->trial->stage.files_max;
    const bool lacks_file = files_max != 0 && ring.files_open >= files_max + 5;
    if (stats.starved == 0 || ring.ops_in_flight != 0 || (pool.free_count > 0 && !lacks_file)) {
        batch_stage_blame(&show->stage,
                          "SR_E_IDLE with %u starved, %u in flight, %u buffers free, %u files",
                          stats.starved, ring.ops_in_flight, pool.free_count, ring.files_open);
    }
    if (stats.stopped_by != SR_STOP_NONE) {
        batch_stage_blame(&show->stage, "SR_E_IDLE in a stopped batch");
    }
    batch_trial_totals.idle_stops++;
    stop_all(show);
}

/* Reads of the pipe go on: write, or stop the batch. Clean-up nodes are always served. */
static void serve_pipe(struct show *show) {
    uint32_t wanted = 0;
    uint32_t waiting = 0;
    for (uint32_t i = 0; i < show->trial->batch_count; i++) {
        struct batch_run *run = &show->runs[i];
        const bool writes = run->plan.writes_pipe && !run->was_stopped_by_us;
        wanted += writes ? run->pipes_in_flight : run->cleanup_pipes_in_flight;
        waiting += run->pipes_in_flight;
    }
    if (wanted > 0 && (show->idle > 0 || percent(&show->random, 50))) {
        batch_stage_write_pipe(&show->stage, 1 + below(&show->random, wanted));
    } else if (waiting > 0 && show->idle >= 2) {
        stop_all(show);
    }
}

static void check_code(struct show *show, struct batch_run *run, bool by_run, int code) {
    const bool busy = code == -EAGAIN || code == -EBUSY || code == -ENOMEM || code == -EINTR;
    show->idle = code == SR_E_TIMEOUT ? show->idle + 1 : 0;
    if (code == SR_E_IDLE && by_run) {
        on_idle(show, run);
    } else if (code < 0 && code != SR_E_TIMEOUT && code != SR_E_IDLE &&
               !(busy && show->trial->fails)) {
        batch_stage_blame(&show->stage, "waiting: %s", sr_error_name(code));
    }
}

static void wait_once(struct show *show, struct batch_run *run) {
    const sr_completion *completions = NULL;
    const uint32_t way = below(&show->random, 10);
    int code = 0;
    allow_calls(show, true);
    if (way < 6) {
        code = sr_batch_run(run->batch, WAIT_NS, &completions);
    } else if (way < 9) {
        code = sr_ring_wait(show->stage.ring, 1, WAIT_NS, NULL, &completions);
    } else {
        code = sr_ring_dispatch(show->stage.ring, &completions);
    }
    allow_calls(show, false);
    batch_stage_take(&show->stage, completions, code);
    if (way < 6 && code == 0 && !batch_run_is_finished(run)) {
        batch_stage_blame(&show->stage, "sr_batch_run returns 0, but the batch has not finished");
    }
    for (uint32_t i = 0; i < show->trial->batch_count; i++) {
        batch_run_look(&show->runs[i]);
    }
    check_code(show, run, way < 6, code);
}

static void destroy_some(struct show *show) {
    for (uint32_t i = 0; i < show->trial->batch_count; i++) {
        struct batch_run *run = &show->runs[i];
        if (run->batch != NULL && run->plan.destroy_after <= show->waits) {
            allow_calls(show, true); /* also of the others */
            batch_run_look(run);
            batch_run_destroy(run);
            allow_calls(show, false);
            batch_trial_totals.destroyed++;
        }
    }
}

static void start_all(struct show *show) {
    for (uint32_t i = 0; i < show->trial->batch_count; i++) {
        batch_run_start(&show->runs[i]);
        batch_run_look(&show->runs[i]);
        if (show->runs[i].plan.cancels_first) {
            batch_run_cancel(&show->runs[i]);
        }
    }
}

static void run_to_the_end(struct show *show) {
    const uint64_t begin = now_ns();
    start_all(show);
    for (;;) {
        destroy_some(show);
        struct batch_run *run = unfinished(show);
        if (run == NULL || show->stage.fault[0] != '\0') {
            return;
        }
        if (show->trial->submits && percent(&show->random, 30)) {
            batch_stage_plain(&show->stage, percent(&show->random, 50));
        }
        wait_once(show, run);
        serve_pipe(show);
        show->waits++;
        if (now_ns() - begin > HANG_NS) {
            const sr_batch_stats stats = batch_run_stats(run);
            batch_stage_blame(&show->stage,
                              "does not end: %u alive, %u in flight, %u ready, %u starved",
                              stats.nodes_alive, stats.in_flight, stats.ready, stats.starved);
        }
    }
}

static void count_totals(const struct batch_run *run) {
    uint32_t stopped_by = SR_STOP_NONE;
    for (uint32_t i = 0; i < run->log.event_count; i++) {
        if (run->log.events[i].stopped_by != SR_STOP_NONE) {
            stopped_by = run->log.events[i].stopped_by;
        }
    }
    for (uint32_t i = 0; i < run->graph.node_count; i++) {
        batch_trial_totals.nodes++;
        batch_trial_totals.states[run->log.seen[i].state]++;
        batch_trial_totals.lacked_memory += run->log.seen[i].result == -ENOMEM;
    }
    batch_trial_totals.stopped_by[stopped_by]++;
    batch_trial_totals.exact += stopped_by == SR_STOP_NONE && !run->plan.policy.may_lack_memory;
}

/* With a changed table the reference must find fault with what the library did. */
static void try_mutants(const struct batch_run *run) {
    for (uint32_t i = 0; i < BATCH_MUTANTS; i++) {
        const char *name = NULL;
        const struct batch_rules *mutant = batch_rules_mutant(i, &name);
        batch_trial_totals.mutants_found[i] =
            batch_trial_totals.mutants_found[i] ||
            batch_reference_replay(mutant, &run->graph, &run->plan.policy, &run->log) != NULL;
    }
}

static uint64_t count_missed_edges(const struct batch_run *run) {
    uint64_t count = 0;
    for (uint32_t i = 0; i < run->graph.node_count; i++) {
        count += run->graph.nodes[i].misses_edge && run->log.seen[i].exists;
    }
    return count;
}

static void on_misuse(int code, const char *function, uint64_t handle, void *ctx) {
    (void)function;
    (void)handle;
    (void)ctx;
    misuses += code == -EINVAL;
}

static uint32_t count_descriptors(void) {
    uint32_t count = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL) {
        perror("/proc/self/fd");
        abort();
    }
    while (readdir(dir) != NULL) {
        count++;
    }
    (void)closedir(dir); /* read only: no error that matters */
    return count;
}

bool batch_trial_run(const struct batch_trial *trial, const struct batch_files *files, FILE *out) {
    static struct show show;
    const uint32_t descriptors = count_descriptors();
    uint64_t missed_edges = 0;
    misuses = 0;
    sr_set_misuse_hook(on_misuse, NULL);
    show = (struct show){.trial = trial, .random = {trial->seed}};
    if (trial->fails) {
        failing_install();
    }
    batch_stage_open(&show.stage, files, &trial->stage, on_traced, &show);
    plan_failures(trial);
    for (uint32_t i = 0; i < trial->batch_count; i++) {
        batch_run_open(&show.runs[i], &show.stage, &trial->graphs[i], &trial->plans[i], i);
    }
    if (show.stage.fault[0] == '\0') {
        run_to_the_end(&show);
    }
    failing_relent();
    allow_calls(&show, true);
    batch_stage_settle(&show.stage);
    for (uint32_t i = 0; i < trial->batch_count; i++) {
        (void)batch_run_finish(&show.runs[i]);
        missed_edges += count_missed_edges(&show.runs[i]);
    }
    if (misuses != missed_edges) {
        batch_stage_blame(&show.stage, "the misuse hook heard of %llu, expected %llu",
                          (unsigned long long)misuses, (unsigned long long)missed_edges);
    }
    batch_stage_close(&show.stage);
    if (trial->fails) {
        if (failing_leak() != NULL) {
            batch_stage_blame(&show.stage, "%s", failing_leak());
        }
        batch_trial_totals.injected += failing_injected();
        failing_remove();
    }
    if (count_descriptors() != descriptors) {
        batch_stage_blame(&show.stage, "%u descriptors before, %u now", descriptors,
                          count_descriptors());
    }
    const bool is_right = show.stage.fault[0] == '\0';
    if (!is_right && out != NULL) {
        fprintf(out, "%s\n", show.stage.fault);
        batch_report_trial(trial, out);
    }
    for (uint32_t i = 0; i < trial->batch_count; i++) {
        if (!is_right && out != NULL) {
            batch_report_run(&show.runs[i], out);
        }
        if (is_right) {
            try_mutants(&show.runs[i]);
        }
        count_totals(&show.runs[i]);
        batch_run_close(&show.runs[i]);
    }
    return is_right;
}
