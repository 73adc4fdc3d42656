/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "progress.h"

#include "names.h"

#include <errno.h>
#include <inttypes.h>
#include <safering/safering.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define TERMINAL_PERIOD_NS 200000000u
#define PLAIN_PERIOD_NS    5000000000u
/* An entry costs about as much time as this many bytes, for the bar and the remaining time. */
#define ENTRY_WEIGHT_BYTES 16384u
#define BAR_CELLS_MAX      40
#define LINE_SIZE          256
#define NS_PER_S           1000000000u
#define MIB                1048576.0

static uint64_t now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with this clock */
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

void progress_init(struct progress *progress, bool quiet) {
    *progress = (struct progress){.quiet = quiet, .terminal = isatty(STDERR_FILENO) == 1};
    progress_start(progress);
}

void progress_start(struct progress *progress) {
    progress->start_ns = now_ns();
    progress->shown_ns = progress->start_ns;
}

static void format_bytes(char out[32], double bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (bytes >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        bytes /= 1024;
        unit++;
    }
    (void)snprintf(out, 32, "%.*f %s", unit == 0 ? 0 : 1, bytes, units[unit]);
}

static void format_remaining(char out[32], double seconds) {
    if (seconds > 99 * 3600.0) {
        (void)snprintf(out, 32, "long");
        return;
    }
    unsigned whole = (unsigned)(seconds + 0.5);
    if (whole >= 3600) {
        (void)snprintf(out, 32, "%u:%02u:%02u", whole / 3600, whole / 60 % 60, whole % 60);
    } else {
        (void)snprintf(out, 32, "%u:%02u", whole / 60, whole % 60);
    }
}

static void update_rate(struct progress *progress, uint64_t now) {
    double seconds = (double)(now - progress->shown_ns) / NS_PER_S;
    double late = (double)(progress->bytes - progress->shown_bytes) / seconds;
    /* Smoothed, so that the number can be read; the first sample counts fully. */
    progress->rate = progress->rate == 0 ? late : progress->rate * 0.7 + late * 0.3;
    progress->shown_ns = now;
    progress->shown_bytes = progress->bytes;
}

static double share_done(const struct progress *progress) {
    double weight = ENTRY_WEIGHT_BYTES;
    double all = (double)progress->bytes_total + (double)progress->entries_total * weight;
    double done = (double)progress->settled + (double)progress->entries * weight;
    /* What was counted may have changed since: never claim more than everything. */
    return all <= 0 || done >= all ? 1 : done / all;
}

static int bar_cells(size_t text_length) {
    struct winsize window;
    int columns = 80;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0) {
        columns = window.ws_col;
    }
    int cells = columns - (int)text_length - 4; /* brackets, a space, the last column */
    return cells > BAR_CELLS_MAX ? BAR_CELLS_MAX : cells;
}

static void draw_bar(struct progress *progress, uint64_t now) {
    char done[32];
    char total[32];
    char rate[32];
    char remaining[32] = "?";
    char text[LINE_SIZE];
    double share = share_done(progress);
    double elapsed = (double)(now - progress->start_ns) / NS_PER_S;
    if (share > 0) {
        format_remaining(remaining, elapsed * (1 - share) / share);
    }
    format_bytes(done, (double)progress->settled);
    format_bytes(total, (double)progress->bytes_total);
    format_bytes(rate, progress->rate);
    (void)snprintf(text, sizeof(text), "%3d%%  %s of %s  %s/s  %s left", (int)(share * 100), done,
                   total, rate, remaining);
    char bar[BAR_CELLS_MAX + 1] = "";
    int cells = bar_cells(strlen(text));
    if (cells > 0) {
        memset(bar, '.', (size_t)cells);
        memset(bar, '#', (size_t)(share * cells));
    }
    (void)fprintf(stderr, "\r[%s] %s\033[K", bar, text);
    progress->drawn = true;
}

static void print_counting(struct progress *progress) {
    (void)fprintf(stderr, "\rcounting: %" PRIu64 " entries\033[K", progress->entries_total);
    progress->drawn = true;
}

static void print_plain(const struct progress *progress) {
    char done[32];
    char rate[32];
    format_bytes(done, (double)progress->bytes);
    format_bytes(rate, progress->rate);
    (void)fprintf(stderr, "copy_tree: %" PRIu64 " files, %s so far, %s/s\n", progress->files, done,
                  rate);
}

void progress_tick(struct progress *progress) {
    if (progress->quiet) {
        return;
    }
    uint64_t now = now_ns();
    uint64_t period = progress->terminal ? TERMINAL_PERIOD_NS : PLAIN_PERIOD_NS;
    if (now - progress->shown_ns < period) {
        return;
    }
    update_rate(progress, now);
    if (!progress->terminal) {
        print_plain(progress);
    } else if (progress->counted) {
        draw_bar(progress, now);
    } else {
        print_counting(progress);
    }
}

void progress_clear(struct progress *progress) {
    if (progress->drawn) {
        (void)fputs("\r\033[K", stderr);
        progress->drawn = false;
    }
}

void progress_fail(struct progress *progress, const char *path, const struct failure *failure) {
    progress->failed++;
    progress_clear(progress);
    char *quoted = path != NULL ? name_quoted(path) : NULL;
    (void)fprintf(stderr, "copy_tree: %s: %s%s%s\n",
                  quoted != NULL ? quoted : "(no memory to tell the name)", failure->what,
                  failure->code != 0 ? ": " : "",
                  failure->code != 0 ? sr_strerror(failure->code) : "");
    free(quoted);
}

int progress_summary(struct progress *progress) {
    progress_clear(progress);
    double seconds = (double)(now_ns() - progress->start_ns) / NS_PER_S;
    double rate = seconds > 0 ? (double)progress->bytes / MIB / seconds : 0;
    (void)printf("copied %" PRIu64 " files, %" PRIu64 " directories, %" PRIu64 " links, %" PRIu64
                 " bytes in %.3f s (%.1f MiB/s)\n",
                 progress->files, progress->directories, progress->links, progress->bytes, seconds,
                 rate);
    return fflush(stdout) == 0 ? 0 : -errno;
}
