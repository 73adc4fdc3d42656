/* SPDX-License-Identifier: MIT */
#include "support/batch_report.h"

#include <stdlib.h>
#include <string.h>

#define NODES_PRINT_MAX 60u

static void print_node(const struct batch_run *run, uint32_t number, FILE *out) {
    batch_node_print(&run->graph, number, out);
    fprintf(out, " => %s\n", batch_seen_text(&run->log.seen[number]));
}

static void print_nodes(const struct batch_run *run, const char *fault, FILE *out) {
    const uint32_t count = run->graph.node_count;
    const char *named = strstr(fault, "node ");
    bool *marks = calloc(count + 1, sizeof marks[0]);
    const uint32_t culprit = named != NULL ? (uint32_t)strtoul(named + 5, NULL, 10) : BATCH_NONE;
    uint32_t printed = 0;
    if (marks == NULL) {
        abort();
    }
    for (uint32_t i = count; i-- > 0;) {
        const struct batch_node *node = &run->graph.nodes[i];
        marks[i] = marks[i] || i == culprit || count <= NODES_PRINT_MAX;
        for (uint32_t k = 0; marks[i] && k < node->edge_count; k++) {
            marks[run->graph.edges[node->edge_at + k].dependency] = true;
        }
    }
    for (uint32_t i = count; i-- > 0 && printed < NODES_PRINT_MAX;) {
        if (marks[i]) {
            print_node(run, i, out);
            printed++;
        }
    }
    free(marks);
}

/* The last events tell most. */
static void print_events(const struct batch_log *log, FILE *out) {
    static const char *const kinds[] = {"start", "ended", "begin", "return", "stop", "look"};
    const uint32_t most = 4 * NODES_PRINT_MAX;
    for (uint32_t i = log->event_count > most ? log->event_count - most : 0; i < log->event_count;
         i++) {
        const struct batch_event *event = &log->events[i];
        fprintf(out, " %s", kinds[event->kind]);
        if (event->node != BATCH_NONE) {
            fprintf(out, " %u", event->node);
        }
        if (event->stopped_by != SR_STOP_NONE) {
            fprintf(out, "(stopped by %u)", event->stopped_by);
        }
    }
    fprintf(out, "\n");
}

void batch_report_run(const struct batch_run *run, FILE *out) {
    const struct batch_run_plan *plan = &run->plan;
    fprintf(out,
            "batch %u: %u nodes, fail_fast %d, deadline %llu ns, cancel at %d, first %d, destroy "
            "after %d, in_flight_max %u, forget %d, takes %d, submits %d, writes pipe %d\n",
            run->number, run->graph.node_count, plan->policy.fail_fast,
            (unsigned long long)plan->deadline_ns, (int)plan->cancel_at, plan->cancels_first,
            (int)plan->destroy_after, plan->policy.in_flight_max, plan->forgets, plan->takes,
            plan->submits, plan->writes_pipe);
    print_nodes(run, run->stage->fault, out);
    print_events(&run->log, out);
}

void batch_report_trial(const struct batch_trial *trial, FILE *out) {
    fprintf(out,
            "ring: backend %u, entries %u, ops_max %u, files_max %u, completions_max %u, pool %u; "
            "enter every %llu %s, partial %u, allocation %llu\n",
            trial->stage.backend, trial->stage.entries, trial->stage.ops_max,
            trial->stage.files_max, trial->stage.completions_max, trial->stage.pool_buffers,
            (unsigned long long)trial->enter_period,
            trial->enter_code != 0 ? sr_error_name(trial->enter_code) : "-", trial->enter_partial,
            (unsigned long long)trial->allocate_nth);
}
