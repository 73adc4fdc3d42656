/* SPDX-License-Identifier: MIT */
/* Prints what was measured, and where: a number without its machine and command line is none. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "bench.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* The build system tells; what a compiler says about itself is the fallback. */
#ifndef BENCH_FLAGS
#define BENCH_FLAGS ""
#endif

#if defined(__clang__)
#define COMPILER "clang " __VERSION__
#else
#define COMPILER "gcc " __VERSION__
#endif

#if defined(__OPTIMIZE__)
#define OPTIMISED true
#else
#define OPTIMISED false
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITISED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITISED true
#endif
#endif
#ifndef SANITISED
#define SANITISED false
#endif

/* ---- rows ------------------------------------------------------------------------------------ */

void bench_print_header(FILE *out) {
    fprintf(out, "%-27s %4s %6s %6s %12s %9s %9s %9s %9s  %-9s %9s %7s %15s\n", "case", "cpus", "n",
            "size", "operations", "min ns", "median", "p99", "max", "baseline", "median", "ratio",
            "ratio p10-p90");
}

static void print_optional(FILE *out, int width, uint32_t value) {
    if (value == 0) {
        fprintf(out, " %*s", width, "-");
    } else {
        fprintf(out, " %*" PRIu32, width, value);
    }
}

void bench_print_row(FILE *out, const struct bench_row *row) {
    fprintf(out, "%-27s", row->name);
    print_optional(out, 4, row->cpus);
    print_optional(out, 6, row->n);
    print_optional(out, 6, row->size);
    fprintf(out, " %12" PRIu64 " %9.2f %9.2f %9.2f %9.2f", row->ops, row->ns_min, row->ns_median,
            row->ns_p99, row->ns_max);
    if (row->baseline == NULL) {
        fprintf(out, "  %-9s %9s %7s %15s\n", "-", "-", "-", "-");
    } else {
        fprintf(out, "  %-9s %9.2f %7.3f %7.3f-%7.3f\n", row->baseline, row->baseline_ns_median,
                row->ratio, row->ratio_p10, row->ratio_p90);
    }
    if (row->by_cpu) {
        fprintf(out, "%-27s times are CPU time; %.0f messages/s\n", "", row->messages_per_s);
    }
    fflush(out);
}

void bench_print_row_json(FILE *out, const struct bench_row *row, uint64_t seed) {
    fprintf(out, "{\"case\":\"%s\"", row->name);
    if (row->n != 0) {
        fprintf(out, ",\"n\":%" PRIu32, row->n);
    }
    if (row->size != 0) {
        fprintf(out, ",\"size\":%" PRIu32, row->size);
    }
    if (row->cpus != 0) {
        fprintf(out, ",\"cpus\":%" PRIu32, row->cpus);
    }
    fprintf(out,
            ",\"ops\":%" PRIu64 ",\"ns_min\":%.3f,\"ns_median\":%.3f,\"ns_p99\":%.3f"
            ",\"ns_max\":%.3f",
            row->ops, row->ns_min, row->ns_median, row->ns_p99, row->ns_max);
    if (row->baseline == NULL) {
        fprintf(out, ",\"baseline\":null,\"baseline_ns_median\":null,\"ratio\":null");
    } else {
        fprintf(out,
                ",\"baseline\":\"%s\",\"baseline_ns_median\":%.3f,\"ratio\":%.4f"
                ",\"ratio_p10\":%.4f,\"ratio_p90\":%.4f",
                row->baseline, row->baseline_ns_median, row->ratio, row->ratio_p10, row->ratio_p90);
    }
    if (row->cpu_ns > 0) {
        fprintf(out, ",\"cpu_ns\":%.3f", row->cpu_ns);
    }
    if (row->baseline_cpu_ns > 0) {
        fprintf(out, ",\"baseline_cpu_ns\":%.3f", row->baseline_cpu_ns);
    }
    if (row->by_cpu) {
        fprintf(out, ",\"messages_per_s\":%.0f", row->messages_per_s);
    }
    fprintf(out, ",\"rounds\":%" PRIu32 ",\"seed\":%" PRIu64 ",\"checksum\":\"%016" PRIx64 "\"}\n",
            row->rounds, seed, row->checksum);
    fflush(out);
}

void bench_print_setup(FILE *out, const char *name, const char *side,
                       const struct bench_facts *facts) {
    if (!facts->ring) {
        return;
    }
    fprintf(out, "setup:     %s, %s: ring flags 0x%" PRIx32 ", ring fd %s, buffers %s, file %s%s\n",
            name, side, facts->setup_flags, facts->ring_fd_registered ? "registered" : "plain",
            facts->buffers_registered ? "registered" : "plain",
            facts->file_fixed ? "fixed" : "plain", facts->file_nowait ? ", reads at once" : "");
}

/* ---- environment ----------------------------------------------------------------------------- */

static void print_cpu(FILE *out) {
    FILE *info = fopen("/proc/cpuinfo", "re");
    char line[256];
    const char *model = "unknown";

    while (info != NULL && fgets(line, sizeof(line), info) != NULL) {
        char *value = strchr(line, ':');

        if (strncmp(line, "model name", 10) == 0 && value != NULL) {
            value += 1 + strspn(value + 1, " \t");
            value[strcspn(value, "\n")] = '\0';
            model = value;
            break;
        }
    }
    fprintf(out, "cpu:       %s, %ld online\n", model, sysconf(_SC_NPROCESSORS_ONLN));
    if (info != NULL) {
        fclose(info);
    }
}

static void print_load(FILE *out) {
    double load[1];

    if (getloadavg(load, 1) == 1) {
        fprintf(out, "load:      %.2f in the last minute, this program included\n", load[0]);
    }
}

static void print_build(FILE *out) {
    fprintf(out, "compiler:  %s\n", COMPILER);
    fprintf(out, "flags:     %s%s%s\n", BENCH_FLAGS[0] != '\0' ? BENCH_FLAGS : "not told",
            OPTIMISED ? ", optimised" : ", NOT OPTIMISED", SANITISED ? ", SANITISED" : "");
    if (!OPTIMISED || SANITISED) {
        fputs("           these times mean nothing: build the release preset\n", out);
    }
}

void bench_print_environment(FILE *out, int argc, char **argv, uint64_t seed, uint64_t checksum) {
    const char *guard = getenv("SAFERING_GUARD");
    struct utsname host;

    if (uname(&host) == 0) {
        fprintf(out, "kernel:    %s %s %s\n", host.sysname, host.release, host.machine);
    }
    print_cpu(out);
    print_load(out);
    print_build(out);
    if (guard != NULL) {
        fprintf(out, "guard:     SAFERING_GUARD=%s\n", guard);
    }
    fputs("command:  ", out);
    for (int i = 0; i < argc; i++) {
        fprintf(out, " %s", argv[i]);
    }
    fprintf(out, "\nseed:      %" PRIu64 "\nchecksum:  %016" PRIx64 "\n", seed, checksum);
}
