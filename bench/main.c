/* SPDX-License-Identifier: MIT */
/* safering_bench: the command line. */
#include "bench.h"
#include "echo.h"
#include "ipc.h"
#include "work.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct bench_case *const cases[] = {
    &bench_case_ring_nop,
    &bench_case_ring_read4k,
    &bench_case_ring_read4k_default,
    &bench_case_ring_read4k_nowait,
    &bench_case_ring_read4k_default_nowait,
    &bench_case_ring_threads_1,
    &bench_case_ring_threads_2,
    &bench_case_ring_scaling,
    &bench_case_ring_scaling_liburing,
    &bench_case_ring_echo,
    &bench_case_ring_echo_fallback,
    &bench_case_ring_event,
    &bench_case_ring_event_fallback,
    &bench_case_ring_inbox,
    &bench_case_ring_inbox_busy,
    &bench_case_ipc_wake_hot,
    &bench_case_ipc_wake_cold,
    &bench_case_share_mutex_ring_128,
    &bench_case_share_mutex_ring_1,
    &bench_case_share_access,
    &bench_case_share_transfer,
    &bench_case_share_remote_release,
    &bench_case_share_remote_acquire,
    &bench_case_share_move,
    &bench_case_pool_cycle_64,
    &bench_case_pool_cycle_4096,
    &bench_case_pool_cycle_65536,
    &bench_case_pool_check,
    &bench_case_batch_index_10,
    &bench_case_batch_index_50,
    &bench_case_batch_index_100,
    &bench_case_batch_index_500,
    &bench_case_batch_index_1000,
    &bench_case_batch_index_4096,
    &bench_case_batch_index_65536,
    &bench_case_batch_index_chosen,
    &bench_case_batch_edges,
    &bench_case_batch_copy,
    &bench_case_batch_copy_grown,
    &bench_case_batch_copy_nowait,
    &bench_case_batch_copy_linked,
    &bench_case_batch_copy_linked_nowait,
    &bench_case_ipc_rtt_full_64,
    &bench_case_ipc_rtt_full_1024,
    &bench_case_ipc_rtt_full_65536,
    &bench_case_ipc_rtt_full_1048576,
    &bench_case_ipc_rtt_full_near,
    &bench_case_ipc_rtt_hot_0,
    &bench_case_ipc_rtt_hot_64,
    &bench_case_ipc_rtt_hot_1024,
    &bench_case_ipc_rtt_hot_65536,
    &bench_case_ipc_rtt_hot_1048576,
    &bench_case_ipc_rtt_cold,
    &bench_case_ipc_designs_full_1,
    &bench_case_ipc_designs_full_10,
    &bench_case_ipc_designs_full_100,
    &bench_case_ipc_designs_full_1000,
    &bench_case_ipc_designs_hybrid_1,
    &bench_case_ipc_designs_hybrid_10,
    &bench_case_ipc_designs_hybrid_100,
    &bench_case_ipc_designs_hybrid_1000,
    &bench_case_ipc_designs_shared_1,
    &bench_case_ipc_designs_shared_10,
    &bench_case_ipc_designs_shared_100,
    &bench_case_ipc_designs_shared_1000,
    &bench_case_ipc_proxy,
    &bench_case_ipc_restart,
    &bench_case_ipc_restart_free,
    &bench_case_ipc_stream,
    &bench_case_ipc_drop_best_effort,
    &bench_case_ipc_drop_reliable,
    &bench_case_ipc_drop_realtime,
};

enum { CASE_COUNT = sizeof(cases) / sizeof(cases[0]) };

static const struct bench_effort effort_normal = {.pairs = 402, .ops_divisor = 1};
static const struct bench_effort effort_quick = {.pairs = 12, .ops_divisor = 8};

struct options {
    bool json;
    bool quick;
    bool list;
    bool help;
    uint64_t seed;
    bool chosen[CASE_COUNT];
};

static void print_help(void) {
    fputs(
        "usage: safering_bench [--json] [--quick] [--seed N] [--list] [--help] [CASE...]\n"
        "\n"
        "Measures safering beside a baseline that does the same work without it, in pairs of\n"
        "rounds. Without CASE all cases run.\n"
        "\n"
        "  --json    one JSON object per line on standard output; the machine on standard error\n"
        "  --quick   few and small rounds: checks that the work is right, times mean little\n"
        "  --seed N  seed of offsets, values and orders (default 1)\n"
        "  --list    the cases, their size, their baseline and their question\n"
        "  --help    this text\n"
        "\n"
        "Times are nanoseconds per operation, of which each round gives one; min, median, p99\n"
        "and max are taken over the rounds. ratio is the median of the ratios within the pairs:\n"
        "the row's time divided by its baseline's. The row ring.read4k.pread is pread(2) against\n"
        "the same baseline as ring.read4k. cpus is the number of threads at work, each on a CPU\n"
        "of its own.\n"
        "\n"
        "Exit status: 0 all ran and the work was right, 1 work was wrong or failed, 2 usage,\n"
        "77 nothing was wrong but this machine lacks something that a case needs.\n",
        stdout);
}

static void print_list(const struct options *options) {
    for (int i = 0; i < CASE_COUNT; i++) {
        if (options->chosen[i]) {
            printf("%-27s n %-6u size %-6u baseline %-9s %s\n", cases[i]->name, cases[i]->n,
                   cases[i]->size, cases[i]->baseline != NULL ? cases[i]->baseline->name : "-",
                   cases[i]->question);
        }
    }
}

static bool parse_seed(const char *text, uint64_t *out_seed) {
    char *end;
    unsigned long long value;

    /* strtoull() would take a sign and blanks. */
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    errno = 0;
    value = strtoull(text, &end, 0);
    if (errno != 0 || *end != '\0') {
        return false;
    }
    *out_seed = value;
    return true;
}

/* All sizes of a case are chosen by its one name. */
static bool choose(struct options *options, const char *name) {
    bool found = false;

    for (int i = 0; i < CASE_COUNT; i++) {
        if (strcmp(cases[i]->name, name) == 0) {
            options->chosen[i] = true;
            found = true;
        }
    }
    return found;
}

static int parse(int argc, char **argv, struct options *options) {
    bool any = false;
    bool only_names = false;

    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];

        if (only_names || word[0] != '-') {
            if (!choose(options, word)) {
                return bench_complain(BENCH_USAGE, "no case named '%s'; --list names them", word);
            }
            any = true;
        } else if (strcmp(word, "--") == 0) {
            only_names = true;
        } else if (strcmp(word, "--json") == 0) {
            options->json = true;
        } else if (strcmp(word, "--quick") == 0) {
            options->quick = true;
        } else if (strcmp(word, "--list") == 0) {
            options->list = true;
        } else if (strcmp(word, "--help") == 0) {
            options->help = true;
        } else if (strcmp(word, "--seed") == 0) {
            i++;
            if (i == argc || !parse_seed(argv[i], &options->seed)) {
                return bench_complain(BENCH_USAGE, "--seed needs a number from 0 to 2^64-1");
            }
        } else {
            return bench_complain(BENCH_USAGE, "unknown option '%s'; try --help", word);
        }
    }
    for (int i = 0; i < CASE_COUNT && !any; i++) {
        options->chosen[i] = true;
    }
    return BENCH_OK;
}

/* A failure outweighs a skip. */
static int worse(int left, int right) {
    if (left == BENCH_WRONG || right == BENCH_WRONG) {
        return BENCH_WRONG;
    }
    return left != BENCH_OK ? left : right;
}

static int run_chosen(const struct options *options, uint64_t *out_checksum) {
    const struct bench_effort *effort = options->quick ? &effort_quick : &effort_normal;
    FILE *notes = options->json ? stderr : stdout;
    struct bench_result results[CASE_COUNT];
    int status = BENCH_OK;

    *out_checksum = 0;
    memset(results, 0, sizeof(results));
    for (int i = 0; i < CASE_COUNT; i++) {
        int one;

        if (!options->chosen[i]) {
            continue;
        }
        one = bench_run_case(cases[i], effort, options->seed, &results[i]);
        if (one != BENCH_OK) {
            (void)bench_complain(one, "%s: %s", cases[i]->name,
                                 one == BENCH_MISSING ? "skipped" : "FAILED");
        }
        status = worse(status, one);
        for (uint32_t row = 0; row < results[i].row_count; row++) {
            if (options->json) {
                bench_print_row_json(stdout, &results[i].rows[row], options->seed);
            } else {
                bench_print_row(stdout, &results[i].rows[row]);
            }
            *out_checksum = bench_mix(*out_checksum ^ results[i].rows[row].checksum);
        }
    }
    for (int i = 0; i < CASE_COUNT; i++) {
        if (results[i].row_count != 0 && cases[i]->baseline != NULL) {
            bench_print_setup(notes, cases[i]->name, cases[i]->ours->name, &results[i].facts);
            bench_print_setup(notes, cases[i]->name, cases[i]->baseline->name,
                              &results[i].baseline_facts);
        }
    }
    return status;
}

int main(int argc, char **argv) {
    struct options options = {.seed = 1};
    uint64_t checksum;
    int status;

    if (argc == 3 && strcmp(argv[1], ECHO_CLIENT_OPTION) == 0) {
        return echo_client_main(argv[2]); /* started by the echo cases */
    }
    if (argc > 1 && strcmp(argv[1], BENCH_IPC_OPTION) == 0) {
        return bench_ipc_peer_main(argc, argv); /* started by the ipc cases */
    }
    status = parse(argc, argv, &options);
    if (status != BENCH_OK) {
        return status;
    }
    if (options.help) {
        print_help();
        return BENCH_OK;
    }
    if (options.list) {
        print_list(&options);
        return BENCH_OK;
    }
    if (!options.json) {
        bench_print_header(stdout);
    }
    status = run_chosen(&options, &checksum);
    bench_print_environment(options.json ? stderr : stdout, argc, argv, options.seed, checksum);
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        return bench_complain(BENCH_WRONG, "writing the results failed");
    }
    return status;
}
