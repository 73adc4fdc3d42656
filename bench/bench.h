/* SPDX-License-Identifier: MIT */
/*
 * A benchmark case answers one question: what does the same work cost with safering and without?
 *
 * A case has sides. Each side does the work of a round in its own way and reports how many
 * operations it did and a checksum of what came out; the harness knows both beforehand and refuses
 * a side that is wrong. Nothing in this header knows safering, so that the baselines, which include
 * it, can be seen to use none of it.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- results of a side, of a case, and of the program ---------------------------------------- */

enum bench_status {
    BENCH_OK = 0,
    BENCH_WRONG = 1,   /* the work is wrong, or could not be done: the program fails */
    BENCH_USAGE = 2,   /* the command line */
    BENCH_MISSING = 77 /* this machine lacks what the case needs: a skip, with the reason */
};

/* bench_complain() - one line to standard error; returns @status so that it can be returned. */
int bench_complain(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- sides ----------------------------------------------------------------------------------- */

/* What the harness gives a side once. */
struct bench_setup {
    uint32_t n;    /* operations at a time */
    uint32_t size; /* bytes of one buffer */
    int fd;        /* borrows: the file of a file case, else -1 */
    uint64_t file_seed;
    const struct bench_tree *tree; /* borrows: the files of a tree case, else NULL */
};

/* How a side is connected to the kernel; where a case says so, both sides must have it alike. */
struct bench_facts {
    bool ring;            /* it has one; else the rest says nothing */
    uint32_t setup_flags; /* IORING_SETUP_* */
    bool ring_fd_registered;
    bool buffers_registered;
    bool file_fixed;
    bool file_nowait; /* filled in by the harness; see bench_file_open() */
};

/* The work of one round; all sides of a case get the same one. */
struct bench_round {
    uint32_t ops;
    uint64_t base;          /* tags and values count up from here */
    const uint32_t *blocks; /* file cases: which block each operation reads */
    bool full;              /* check every byte; such rounds are not timed */
};

/* What a side says it has done. */
struct bench_work {
    uint64_t ops;
    uint64_t checksum;
    /* Nanoseconds of what the case asks for, where that is a part of the round only; 0: the harness
     * takes the time of the whole round. */
    uint64_t ns;
    uint64_t cpu_ns; /* CPU time, the kernel's included, where the case asks for it */
};

struct bench_side {
    const char *name;
    /* Returns enum bench_status, and has complained if that is not BENCH_OK. */
    int (*open)(const struct bench_setup *setup, void **out_side, struct bench_facts *out_facts);
    int (*run)(void *side, const struct bench_round *round, struct bench_work *out_work);
    void (*close)(void *side);
    /* 0: opened, run and closed in the harness's thread. Else in so many threads at once, each with
     * a side of its own and a CPU of its own, and each does the whole round: ops and times are
     * those of one thread. */
    uint32_t threads;
};

/* ---- the temporary file ---------------------------------------------------------------------- */

enum bench_file {
    BENCH_FILE_NONE = 0,
    BENCH_FILE_TMPFS,  /* /dev/shm */
    BENCH_FILE_NOWAIT, /* $TMPDIR or /var/tmp, in the page cache */
    BENCH_TREE_TMPFS,  /* many small files to be copied, in the same places */
    BENCH_TREE_NOWAIT
};

enum { BENCH_BLOCK_BYTES = 4096, BENCH_FILE_BLOCKS = 4096 };

/*
 * bench_file_open() - a nameless file, BENCH_FILE_BLOCKS blocks of known contents
 *
 * @out_nowait tells whether the file system answers a read of cached bytes at once (RWF_NOWAIT).
 * Where it does not, as tmpfs on Linux 6.18, io_uring hands every read to a worker thread, and a
 * case measures that hand-over more than anything else.
 */
int bench_file_open(enum bench_file where, uint64_t file_seed, int *out_fd, bool *out_nowait);

/* bench_file_directory() - where temporary files of a kind go; complains if it is the wrong sort */
int bench_file_directory(enum bench_file where, const char **out_directory);
/* bench_file_reads_at_once() - what bench_file_open() tells as @out_nowait */
bool bench_file_reads_at_once(int fd);

/* ---- the temporary tree ---------------------------------------------------------------------- */

enum { BENCH_TREE_FILE_BYTES = 4 * BENCH_BLOCK_BYTES };

/*
 * A tree is a directory of files of known contents, and of names for their copies. The harness
 * makes it, removes the copies before each run of a side, and compares every byte of them after it,
 * outside of the time; what comes out is the side's checksum.
 *
 * Unlike the temporary file these have names: a program that is killed leaves them behind.
 */
struct bench_tree;
int bench_tree_open(enum bench_file where, uint64_t file_seed, uint32_t file_count,
                    struct bench_tree **out_tree, bool *out_nowait);
void bench_tree_close(struct bench_tree *tree); /* NULL is allowed */
const char *bench_tree_source(const struct bench_tree *tree, uint32_t file);
const char *bench_tree_target(const struct bench_tree *tree, uint32_t file);
int bench_tree_remove_targets(struct bench_tree *tree);
/* The copies of the first @file_count files; adds to the checksum. */
int bench_tree_check_targets(struct bench_tree *tree, uint32_t file_count,
                             uint64_t *inout_checksum);
/* The checksum of @file_count good copies: an `expect` for cases. */
uint64_t bench_tree_expect(const struct bench_setup *setup, const struct bench_round *round);

/* ---- cases ----------------------------------------------------------------------------------- */

struct bench_case {
    const char *name;
    const char *question;
    uint32_t n;    /* 0: does not apply */
    uint32_t size; /* 0: does not apply */
    uint32_t round_ops;
    uint32_t round_unit; /* rounds are of whole multiples of it; 0: of n */
    uint32_t pairs_max;  /* 0: as many as others */
    enum bench_file file;
    bool same_setup; /* sides must agree in struct bench_facts */
    bool by_cpu;     /* times and ratio are of CPU time, not of time passed */
    uint32_t cpus;   /* 0: does not matter; else skipped where fewer may be used */
    const struct bench_side *ours;
    const struct bench_side *baseline; /* NULL: none */
    const struct bench_side *beside;   /* NULL: none; gets a row of its own, named beside_name */
    const char *beside_name;
    /* The checksum that every side must come to. */
    uint64_t (*expect)(const struct bench_setup *setup, const struct bench_round *round);
};

extern const struct bench_case bench_case_ring_nop;
extern const struct bench_case bench_case_ring_read4k;
extern const struct bench_case bench_case_ring_read4k_default;
extern const struct bench_case bench_case_ring_read4k_nowait;
extern const struct bench_case bench_case_ring_read4k_default_nowait;
extern const struct bench_case bench_case_ring_threads_1;
extern const struct bench_case bench_case_ring_threads_2;
extern const struct bench_case bench_case_ring_scaling;
extern const struct bench_case bench_case_ring_scaling_liburing;
extern const struct bench_case bench_case_share_mutex_ring_128;
extern const struct bench_case bench_case_share_mutex_ring_1;
extern const struct bench_case bench_case_ring_event;
extern const struct bench_case bench_case_ring_event_fallback;
extern const struct bench_case bench_case_ring_inbox;
extern const struct bench_case bench_case_ring_inbox_busy;
extern const struct bench_case bench_case_ipc_wake_hot;
extern const struct bench_case bench_case_ipc_wake_cold;
extern const struct bench_case bench_case_share_access;
extern const struct bench_case bench_case_share_transfer;
extern const struct bench_case bench_case_share_remote_release;
extern const struct bench_case bench_case_share_remote_acquire;
extern const struct bench_case bench_case_share_move;
extern const struct bench_case bench_case_ring_echo;
extern const struct bench_case bench_case_ring_echo_fallback;
extern const struct bench_case bench_case_pool_cycle_64;
extern const struct bench_case bench_case_pool_cycle_4096;
extern const struct bench_case bench_case_pool_cycle_65536;
extern const struct bench_case bench_case_pool_check;
extern const struct bench_case bench_case_batch_index_10;
extern const struct bench_case bench_case_batch_index_50;
extern const struct bench_case bench_case_batch_index_100;
extern const struct bench_case bench_case_batch_index_500;
extern const struct bench_case bench_case_batch_index_1000;
extern const struct bench_case bench_case_batch_index_4096;
extern const struct bench_case bench_case_batch_index_65536;
extern const struct bench_case bench_case_batch_index_chosen;
extern const struct bench_case bench_case_batch_edges;
extern const struct bench_case bench_case_batch_copy;
extern const struct bench_case bench_case_batch_copy_grown;
extern const struct bench_case bench_case_batch_copy_nowait;
extern const struct bench_case bench_case_batch_copy_linked;
extern const struct bench_case bench_case_batch_copy_linked_nowait;
extern const struct bench_case bench_case_ipc_rtt_full_64;
extern const struct bench_case bench_case_ipc_rtt_full_1024;
extern const struct bench_case bench_case_ipc_rtt_full_65536;
extern const struct bench_case bench_case_ipc_rtt_full_1048576;
extern const struct bench_case bench_case_ipc_rtt_full_near;
extern const struct bench_case bench_case_ipc_rtt_hot_0;
extern const struct bench_case bench_case_ipc_rtt_hot_64;
extern const struct bench_case bench_case_ipc_rtt_hot_1024;
extern const struct bench_case bench_case_ipc_rtt_hot_65536;
extern const struct bench_case bench_case_ipc_rtt_hot_1048576;
extern const struct bench_case bench_case_ipc_rtt_cold;
extern const struct bench_case bench_case_ipc_designs_full_1;
extern const struct bench_case bench_case_ipc_designs_full_10;
extern const struct bench_case bench_case_ipc_designs_full_100;
extern const struct bench_case bench_case_ipc_designs_full_1000;
extern const struct bench_case bench_case_ipc_designs_hybrid_1;
extern const struct bench_case bench_case_ipc_designs_hybrid_10;
extern const struct bench_case bench_case_ipc_designs_hybrid_100;
extern const struct bench_case bench_case_ipc_designs_hybrid_1000;
extern const struct bench_case bench_case_ipc_designs_shared_1;
extern const struct bench_case bench_case_ipc_designs_shared_10;
extern const struct bench_case bench_case_ipc_designs_shared_100;
extern const struct bench_case bench_case_ipc_designs_shared_1000;
extern const struct bench_case bench_case_ipc_proxy;
extern const struct bench_case bench_case_ipc_restart;
extern const struct bench_case bench_case_ipc_restart_free;
extern const struct bench_case bench_case_ipc_stream;
extern const struct bench_case bench_case_ipc_drop_best_effort;
extern const struct bench_case bench_case_ipc_drop_reliable;
extern const struct bench_case bench_case_ipc_drop_realtime;

/* One measured line: a side against another. */
struct bench_row {
    const char *name;
    uint32_t n;
    uint32_t size;
    uint32_t cpus; /* 0: does not apply */
    bool by_cpu;
    uint32_t rounds;
    uint64_t ops;
    double ns_min;
    double ns_median;
    double ns_p99;
    double ns_max;
    double cpu_ns;         /* median, 0 where nobody took it */
    double messages_per_s; /* by time passed, 0 unless by_cpu */
    const char *baseline;  /* NULL: none, and what follows is 0 */
    double baseline_ns_median;
    double baseline_cpu_ns;
    double ratio;
    double ratio_p10;
    double ratio_p90;
    uint64_t checksum;
};

/* A case gives its own row and perhaps one beside it. */
enum { BENCH_ROWS_MAX = 2 };

struct bench_result {
    struct bench_row rows[BENCH_ROWS_MAX];
    uint32_t row_count;
    struct bench_facts facts; /* of our side */
    struct bench_facts baseline_facts;
};

/* How much to run; the numbers are only about time, the checks are the same in both. */
struct bench_effort {
    uint32_t pairs;
    uint32_t ops_divisor;
};

int bench_run_case(const struct bench_case *self, const struct bench_effort *effort, uint64_t seed,
                   struct bench_result *out_result);

/* ---- threads and CPUs ------------------------------------------------------------------------ */

/* bench_now_ns() - the clock of all times; threads and processes agree on it */
uint64_t bench_now_ns(void);

/* bench_cpu_ns() - CPU time of all threads of the process, and of the kernel's workers for it */
uint64_t bench_cpu_ns(void);

/* bench_cpus() - how many CPUs the process may use */
uint32_t bench_cpus(void);

/*
 * bench_pin() - keep the calling thread, and threads that it starts from now on, on one CPU
 *
 * @index counts the CPUs that the process may use, and starts over where there are fewer. Where the
 * kernel refuses, the thread stays where it is: a matter of noise, not of right and wrong.
 */
void bench_pin(uint32_t index);
/* bench_unpin() - let the calling thread run where the process may */
void bench_unpin(void);

/*
 * A crew runs a side in several threads; see struct bench_side. Opens them all or none, and returns
 * the status of the first that failed.
 */
struct bench_crew;
int bench_crew_open(const struct bench_side *side, const struct bench_setup *setup,
                    struct bench_crew **out_crew, struct bench_facts *out_facts);
int bench_crew_run(struct bench_crew *crew, const struct bench_round *round,
                   struct bench_work *out_work);
void bench_crew_close(struct bench_crew *crew);

/*
 * A partner is a second thread of a side, on a CPU of its own (1; the side itself is in a crew of
 * one, and has 0). It does tasks, one at a time; the rest of the time it sleeps.
 *
 * A task returns enum bench_status. One that fails ends the program: the other thread may be
 * waiting for what will never come. Only BENCH_MISSING is handed on.
 */
struct bench_partner;
int bench_partner_open(struct bench_partner **out_partner);
void bench_partner_begin(struct bench_partner *partner, int (*task)(void *), void *argument);
int bench_partner_wait(struct bench_partner *partner);
void bench_partner_close(struct bench_partner *partner); /* NULL is allowed */

/* ---- report ---------------------------------------------------------------------------------- */

void bench_print_header(FILE *out);
void bench_print_row(FILE *out, const struct bench_row *row);
void bench_print_row_json(FILE *out, const struct bench_row *row, uint64_t seed);
void bench_print_setup(FILE *out, const char *name, const char *side,
                       const struct bench_facts *facts);
void bench_print_environment(FILE *out, int argc, char **argv, uint64_t seed, uint64_t checksum);

#endif
