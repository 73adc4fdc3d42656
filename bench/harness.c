/* SPDX-License-Identifier: MIT */
/*
 * Runs one case. Time is taken over rounds; the sides of a case do the same round one right after
 * the other, and a ratio is formed within such a pair, so that what the machine does to both at the
 * moment cancels out. Which side goes first is drawn, each order equally often: the second one
 * finds the caches warmer.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "work.h"
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

enum { OURS, BASELINE, BESIDE, SIDES_MAX };

/* IORING_SETUP_CQSIZE, _CLAMP and _R_DISABLED do not change how a running ring works. */
#define FLAGS_WITHOUT_EFFECT ((1u << 3) | (1u << 4) | (1u << 6))

struct run {
    const struct bench_case *bench;
    const struct bench_side *sides[SIDES_MAX];
    void *opened[SIDES_MAX];
    struct bench_facts facts[SIDES_MAX];
    double *ns[SIDES_MAX];     /* per operation, one for each pair */
    double *cpu_ns[SIDES_MAX]; /* as ns */
    double *sorted;            /* scratch */
    unsigned char *order;      /* one for each pair: which side goes first */
    uint32_t *blocks;          /* of the round */
    struct bench_setup setup;
    struct bench_tree *tree;
    bool nowait;
    uint32_t pairs;
    uint32_t round_ops;
    uint64_t random;
    uint64_t checksum;
};

int bench_complain(int status, const char *format, ...) {
    va_list arguments;

    fflush(stdout);
    fputs("safering_bench: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return status;
}

static uint64_t next_random(struct run *self) {
    self->random++;
    return bench_mix(self->random);
}

/* ---- set up and take down -------------------------------------------------------------------- */

static void side_close(struct run *self, int side) {
    if (self->opened[side] == NULL) {
        return;
    }
    if (self->sides[side]->threads != 0) {
        bench_crew_close(self->opened[side]);
    } else {
        self->sides[side]->close(self->opened[side]);
    }
}

static int side_open(struct run *self, int side) {
    if (self->sides[side]->threads != 0) {
        struct bench_crew *crew = NULL;
        int status = bench_crew_open(self->sides[side], &self->setup, &crew, &self->facts[side]);

        self->opened[side] = crew;
        return status;
    }
    return self->sides[side]->open(&self->setup, &self->opened[side], &self->facts[side]);
}

static void run_close(struct run *self) {
    for (int side = 0; side < SIDES_MAX; side++) {
        side_close(self, side);
        free(self->ns[side]);
        free(self->cpu_ns[side]);
    }
    if (self->setup.fd >= 0) {
        close(self->setup.fd);
    }
    bench_tree_close(self->tree);
    free(self->sorted);
    free(self->order);
    free(self->blocks);
}

static int run_allocate(struct run *self) {
    bool good = true;

    for (int side = 0; side < SIDES_MAX; side++) {
        self->ns[side] = calloc(self->pairs, sizeof(double));
        self->cpu_ns[side] = calloc(self->pairs, sizeof(double));
        good = good && self->ns[side] != NULL && self->cpu_ns[side] != NULL;
    }
    self->sorted = calloc(self->pairs, sizeof(double));
    self->order = calloc(self->pairs, 1);
    self->blocks = calloc(self->round_ops, sizeof(*self->blocks));
    if (!good || self->sorted == NULL || self->order == NULL || self->blocks == NULL) {
        return bench_complain(BENCH_WRONG, "%s: out of memory", self->bench->name);
    }
    return BENCH_OK;
}

static bool facts_agree(const struct bench_facts *a, const struct bench_facts *b) {
    return ((a->setup_flags ^ b->setup_flags) & ~FLAGS_WITHOUT_EFFECT) == 0 &&
           a->ring_fd_registered == b->ring_fd_registered &&
           a->buffers_registered == b->buffers_registered && a->file_fixed == b->file_fixed;
}

static int run_open_sides(struct run *self) {
    for (int side = 0; side < SIDES_MAX; side++) {
        int status;

        if (self->sides[side] == NULL) {
            continue;
        }
        status = side_open(self, side);
        if (status != BENCH_OK) {
            return status;
        }
        self->facts[side].file_nowait = self->nowait;
    }
    if (self->bench->same_setup && !facts_agree(&self->facts[OURS], &self->facts[BASELINE])) {
        bench_print_setup(stderr, self->bench->name, self->sides[OURS]->name, &self->facts[OURS]);
        bench_print_setup(stderr, self->bench->name, self->sides[BASELINE]->name,
                          &self->facts[BASELINE]);
        return bench_complain(BENCH_WRONG, "%s: the two sides are not set up alike",
                              self->bench->name);
    }
    return BENCH_OK;
}

/* Each order equally often, in random sequence. */
static void draw_orders(struct run *self) {
    uint32_t kinds = self->sides[BESIDE] != NULL ? 3 : self->sides[BASELINE] != NULL ? 2 : 1;

    for (uint32_t i = 0; i < self->pairs; i++) {
        self->order[i] = (unsigned char)(i % kinds);
    }
    for (uint32_t i = self->pairs - 1; i > 0; i--) {
        uint32_t other = (uint32_t)(next_random(self) % (i + 1));
        unsigned char kept = self->order[i];

        self->order[i] = self->order[other];
        self->order[other] = kept;
    }
}

static bool has_file(const struct bench_case *bench) {
    return bench->file == BENCH_FILE_TMPFS || bench->file == BENCH_FILE_NOWAIT;
}

static int run_open_files(struct run *self) {
    int status;

    if (self->bench->file == BENCH_FILE_NONE) {
        return BENCH_OK;
    }
    if (has_file(self->bench)) {
        return bench_file_open(self->bench->file, self->setup.file_seed, &self->setup.fd,
                               &self->nowait);
    }
    status = bench_tree_open(self->bench->file, self->setup.file_seed, self->round_ops, &self->tree,
                             &self->nowait);
    self->setup.tree = self->tree;
    return status;
}

static int run_open(struct run *self, uint64_t seed) {
    int status = run_allocate(self);

    if (status != BENCH_OK) {
        return status;
    }
    if (bench_cpus() < self->bench->cpus) {
        return bench_complain(BENCH_MISSING, "%s: needs %u CPUs, may use %u", self->bench->name,
                              self->bench->cpus, bench_cpus());
    }
    /* A case has its own sequence, whichever others run before it. */
    self->random = bench_mix(seed);
    for (const char *c = self->bench->name; *c != '\0'; c++) {
        self->random = bench_mix(self->random ^ (unsigned char)*c);
    }
    self->random ^= self->bench->size ^ ((uint64_t)self->sides[OURS]->threads << 32);
    self->setup.file_seed = next_random(self);
    status = run_open_files(self);
    if (status != BENCH_OK) {
        return status;
    }
    draw_orders(self);
    return run_open_sides(self);
}

/* ---- rounds ---------------------------------------------------------------------------------- */

static void round_draw(struct run *self, bool full, struct bench_round *out_round) {
    out_round->ops = self->round_ops;
    out_round->base = next_random(self);
    out_round->blocks = self->blocks;
    out_round->full = full;
    for (uint32_t i = 0; has_file(self->bench) && i < self->round_ops; i++) {
        self->blocks[i] = (uint32_t)(next_random(self) % BENCH_FILE_BLOCKS);
    }
}

/* What a side took for one operation of a round. */
struct cost {
    double ns;
    double cpu_ns;
};

static int work_side(struct run *self, int side, const struct bench_round *round,
                     struct bench_work *work) {
    return self->sides[side]->threads != 0
               ? bench_crew_run(self->opened[side], round, work)
               : self->sides[side]->run(self->opened[side], round, work);
}

/* A side of a tree case: it copies, the rest is done here. The CPU time is of the whole process,
 * threads of the kernel that work for it included. */
static int work_tree(struct run *self, int side, const struct bench_round *round,
                     struct bench_work *work) {
    uint64_t begin;
    uint64_t cpu_begin;
    int status = bench_tree_remove_targets(self->tree);

    if (status != BENCH_OK) {
        return status;
    }
    cpu_begin = bench_cpu_ns();
    begin = bench_now_ns();
    status = work_side(self, side, round, work);
    work->ns = bench_now_ns() - begin;
    work->cpu_ns = bench_cpu_ns() - cpu_begin;
    if (status != BENCH_OK) {
        return status;
    }
    return bench_tree_check_targets(self->tree, round->ops, &work->checksum);
}

static int run_side(struct run *self, int side, const struct bench_round *round, uint64_t expected,
                    struct cost *out_cost) {
    struct bench_work work = {0, 0, 0, 0};
    uint64_t begin = bench_now_ns();
    int status = self->tree != NULL ? work_tree(self, side, round, &work)
                                    : work_side(self, side, round, &work);
    uint64_t end = bench_now_ns();

    if (status != BENCH_OK) {
        return status;
    }
    if (work.ops != round->ops || work.checksum != expected) {
        return bench_complain(BENCH_WRONG,
                              "%s: %s did %llu operations with checksum %016llx, "
                              "expected %u with %016llx",
                              self->bench->name, self->sides[side]->name,
                              (unsigned long long)work.ops, (unsigned long long)work.checksum,
                              round->ops, (unsigned long long)expected);
    }
    if (self->bench->by_cpu && work.cpu_ns == 0) {
        return bench_complain(BENCH_WRONG, "%s: %s did not take its CPU time", self->bench->name,
                              self->sides[side]->name);
    }
    out_cost->ns = (double)(work.ns != 0 ? work.ns : end - begin) / (double)work.ops;
    out_cost->cpu_ns = (double)work.cpu_ns / (double)work.ops;
    return BENCH_OK;
}

/* One pair: all sides do the same round, beginning with @first. */
static int run_pair(struct run *self, bool full, uint32_t first, struct cost *out_costs) {
    struct bench_round round;
    uint64_t expected;

    round_draw(self, full, &round);
    expected = self->bench->expect(&self->setup, &round);
    self->checksum = bench_mix(self->checksum ^ expected);
    for (uint32_t i = 0; i < SIDES_MAX; i++) {
        uint32_t side = (first + i) % SIDES_MAX;
        int status;

        if (self->sides[side] == NULL) {
            continue;
        }
        status = run_side(self, (int)side, &round, expected, &out_costs[side]);
        if (status != BENCH_OK) {
            return status;
        }
    }
    return BENCH_OK;
}

static int run_rounds(struct run *self) {
    struct cost costs[SIDES_MAX] = {{0, 0}, {0, 0}, {0, 0}};
    int status = run_pair(self, true, OURS, costs);

    if (status != BENCH_OK) {
        return status;
    }
    for (uint32_t i = 0; i < self->pairs; i++) {
        status = run_pair(self, false, self->order[i], costs);
        if (status != BENCH_OK) {
            return status;
        }
        for (int side = 0; side < SIDES_MAX; side++) {
            self->ns[side][i] = costs[side].ns;
            self->cpu_ns[side][i] = costs[side].cpu_ns;
        }
    }
    return run_pair(self, true, OURS, costs);
}

/* ---- numbers --------------------------------------------------------------------------------- */

static int compare_doubles(const void *left, const void *right) {
    double a = *(const double *)left;
    double b = *(const double *)right;

    return (a > b) - (a < b);
}

/* Nearest rank, of sorted values. */
static double percentile(const double *sorted, uint32_t count, uint32_t percent) {
    uint32_t rank = (count * percent + 99) / 100;

    return sorted[rank == 0 ? 0 : rank - 1];
}

static double median(const double *sorted, uint32_t count) {
    return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
}

/* Leaves the values in order in the scratch array. */
static void sort_values(struct run *self, const double *values) {
    memcpy(self->sorted, values, self->pairs * sizeof(double));
    qsort(self->sorted, self->pairs, sizeof(double), compare_doubles);
}

static double median_of(struct run *self, const double *values) {
    sort_values(self, values);
    return median(self->sorted, self->pairs);
}

static void compare_with_baseline(struct run *self, const double *values, const double *baseline,
                                  struct bench_row *row) {
    row->baseline = self->sides[BASELINE]->name;
    row->baseline_ns_median = median_of(self, baseline);
    row->baseline_cpu_ns = median_of(self, self->cpu_ns[BASELINE]);
    for (uint32_t i = 0; i < self->pairs; i++) {
        self->sorted[i] = values[i] / baseline[i];
    }
    qsort(self->sorted, self->pairs, sizeof(double), compare_doubles);
    row->ratio = median(self->sorted, self->pairs);
    row->ratio_p10 = percentile(self->sorted, self->pairs, 10);
    row->ratio_p90 = percentile(self->sorted, self->pairs, 90);
}

static void make_row(struct run *self, int side, const char *name, struct bench_row *out_row) {
    double *const *times = self->bench->by_cpu ? self->cpu_ns : self->ns;

    memset(out_row, 0, sizeof(*out_row));
    out_row->name = name;
    out_row->n = self->bench->n;
    out_row->size = self->bench->size;
    out_row->cpus = self->bench->cpus != 0 ? self->bench->cpus : self->sides[side]->threads;
    out_row->by_cpu = self->bench->by_cpu;
    out_row->rounds = self->pairs;
    out_row->ops = (uint64_t)self->pairs * self->round_ops;
    out_row->checksum = self->checksum;
    out_row->cpu_ns = median_of(self, self->cpu_ns[side]);
    if (self->bench->by_cpu) {
        out_row->messages_per_s = 1e9 / median_of(self, self->ns[side]);
    }
    sort_values(self, times[side]);
    out_row->ns_min = self->sorted[0];
    out_row->ns_median = median(self->sorted, self->pairs);
    out_row->ns_p99 = percentile(self->sorted, self->pairs, 99);
    out_row->ns_max = self->sorted[self->pairs - 1];
    if (self->sides[BASELINE] != NULL) {
        compare_with_baseline(self, times[side], times[BASELINE], out_row);
    }
}

int bench_run_case(const struct bench_case *self, const struct bench_effort *effort, uint64_t seed,
                   struct bench_result *out_result) {
    struct run run = {.bench = self, .sides = {self->ours, self->baseline, self->beside}};
    uint32_t unit = self->round_unit != 0 ? self->round_unit : self->n != 0 ? self->n : 1;
    int status;

    memset(out_result, 0, sizeof(*out_result));
    run.pairs = effort->pairs;
    if (self->pairs_max != 0 && self->pairs_max < run.pairs) {
        run.pairs = self->pairs_max;
    }
    /* Whole batches only. */
    run.round_ops = (self->round_ops / effort->ops_divisor + unit - 1) / unit * unit;
    run.setup.n = self->n;
    run.setup.size = self->size;
    run.setup.fd = -1;
    status = run_open(&run, seed);
    if (status == BENCH_OK) {
        status = run_rounds(&run);
    }
    if (status == BENCH_OK) {
        out_result->facts = run.facts[OURS];
        out_result->baseline_facts = run.facts[BASELINE];
        make_row(&run, OURS, self->name, &out_result->rows[out_result->row_count++]);
        if (self->beside != NULL) {
            make_row(&run, BESIDE, self->beside_name, &out_result->rows[out_result->row_count++]);
        }
    }
    run_close(&run);
    return status;
}
