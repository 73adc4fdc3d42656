/* SPDX-License-Identifier: MIT */
/*
 * copy_tree: copy a file or a directory tree through one ring.
 *
 * The parts, from the outside in: endpoints (what SRC and DST are), walk (through the directories),
 * directory (their nodes and descriptors), copy (the steps of a file), transfer (its contents),
 * links, attributes, names; loop (ring, buffers, signals) below and progress beside them all.
 */
#define _GNU_SOURCE
#include "endpoints.h"
#include "walk.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define JOBS_DEFAULT 64
#define JOBS_MAX     1024
#define BUFFERS_MIN  16
#define BUFFERS_MAX  256

/* Descriptors that a file in flight may need: its own two and two each of its directory and of the
 * one that holds the first copy of a hard link. */
#define FILES_PER_JOB 6
/* Those of directories in the cache, a few that are on their way, and what any program has open. */
#define FILES_BESIDE (2 * DIRECTORY_CACHE + 16)

enum exit_code { EXIT_SOME_FAILED = 1, EXIT_CANNOT_START = 2, EXIT_SIGNAL = 128 };

struct options {
    bool durable;
    bool quiet;
    unsigned jobs;
    const char *source;
    const char *target;
};

static const char usage[] = "Usage: copy_tree [--fsync] [--quiet] [--jobs N] SRC DST\n"
                            "       copy_tree --help | --version\n";

static const char help[] =
    "\n"
    "Copies the file or directory tree SRC to DST through io_uring.\n"
    "\n"
    "DST is always the name of the copy, never a directory to put it into. If both are\n"
    "directories, the contents of SRC are merged into DST, as cp -rT does: files of the same name\n"
    "are replaced, other files of DST stay. Symbolic links given as SRC or DST are followed, "
    "those\n"
    "inside of the tree are copied as links, and none in DST is ever followed.\n"
    "\n"
    "  --fsync    each file is on the disk before it gets its name, each directory at its end\n"
    "  --quiet    no progress; failures and the summary are still printed\n"
    "  --jobs N   files in flight, 1 to 1024 (default 64; fewer if the limit of open files is "
    "low)\n"
    "  --help     print this and exit\n"
    "  --version  print the version and exit\n"
    "\n"
    "Kept: contents, holes, mode, times, symbolic and hard links, FIFOs, empty directories,\n"
    "extended attributes and ACLs where both sides have them; owners and device nodes as far as "
    "the\n"
    "caller may. A socket is left out, and so is a file that changes while it is copied.\n"
    "\n"
    "A file gets its final name when it is complete, in one step; until then it is called\n"
    "'.copy_tree-...' in the same directory. SIGINT, SIGTERM and SIGHUP remove what is "
    "incomplete.\n"
    "\n"
    "Exit status: 0 all was copied; 1 something failed, one line each on standard error; 2 wrong\n"
    "usage or could not start; 128 + N ended by signal N.\n";

/* ---- options --------------------------------------------------------------------------------- */

static int usage_error(const char *what, const char *argument) {
    char *quoted = name_quoted(argument);
    (void)fprintf(stderr, "copy_tree: %s %s\n%s", what, quoted != NULL ? quoted : "", usage);
    free(quoted);
    return -1;
}

static int parse_jobs(const char *text, unsigned *out_jobs) {
    char *end;
    errno = 0;
    long jobs = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || jobs < 1 || jobs > JOBS_MAX) {
        return usage_error("--jobs wants a number from 1 to 1024, not", text);
    }
    *out_jobs = (unsigned)jobs;
    return 0;
}

static int print_and_leave(const char *text, const char *more) {
    bool printed = fputs(text, stdout) >= 0 && fputs(more, stdout) >= 0 && fflush(stdout) == 0;
    exit(printed ? EXIT_SUCCESS : EXIT_CANNOT_START);
}

static int print_version(void) {
    char text[64];
    uint32_t version = sr_version();
    (void)snprintf(text, sizeof(text), "copy_tree (safering %u.%u.%u)\n",
                   (unsigned)(version >> 16 & 0xff), (unsigned)(version >> 8 & 0xff),
                   (unsigned)(version & 0xff));
    return print_and_leave(text, "");
}

static int parse_operands(int count, char **operands, struct options *out_options) {
    if (count > 2) {
        return usage_error("too many arguments:", operands[2]);
    }
    if (count < 2) {
        (void)fprintf(stderr, "copy_tree: %s\n%s",
                      count == 0 ? "SRC and DST are missing" : "DST is missing", usage);
        return -1;
    }
    out_options->source = operands[0];
    out_options->target = operands[1];
    return 0;
}

static int parse_options(int argc, char **argv, struct options *out_options) {
    static const struct option known[] = {
        {"fsync", no_argument, NULL, 'f'},      {"quiet", no_argument, NULL, 'q'},
        {"jobs", required_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},    {NULL, 0, NULL, 0},
    };
    *out_options = (struct options){.jobs = JOBS_DEFAULT};
    int option;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (option) {
        case 'f':
            out_options->durable = true;
            break;
        case 'q':
            out_options->quiet = true;
            break;
        case 'j':
            if (parse_jobs(optarg, &out_options->jobs) < 0) {
                return -1;
            }
            break;
        case 'h':
            return print_and_leave(usage, help);
        case 'V':
            return print_version();
        default: /* getopt_long() has said what is wrong */
            (void)fputs(usage, stderr);
            return -1;
        }
    }
    return parse_operands(argc - optind, argv + optind, out_options);
}

/* ---- limits ---------------------------------------------------------------------------------- */

/* As many files in flight as asked for, as far as the limit of open descriptors goes. */
static unsigned jobs_within_limit(unsigned jobs) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
        return jobs;
    }
    rlim_t most = limit.rlim_cur > FILES_BESIDE + FILES_PER_JOB
                      ? (limit.rlim_cur - FILES_BESIDE) / FILES_PER_JOB
                      : 1;
    return jobs < most ? jobs : (unsigned)most;
}

static int start_loop(struct loop *loop, unsigned jobs, struct failure *out_failure) {
    uint32_t buffers = jobs;
    buffers = buffers < BUFFERS_MIN ? BUFFERS_MIN : buffers;
    buffers = buffers > BUFFERS_MAX ? BUFFERS_MAX : buffers;
    uint32_t operations = buffers + jobs + 16;
    uint32_t files = jobs * FILES_PER_JOB + FILES_BESIDE;
    out_failure->code = loop_init(loop, operations, files, buffers, &out_failure->what);
    return out_failure->code < 0 ? -1 : 0;
}

/* ---- copying --------------------------------------------------------------------------------- */

/* Counting comes first where there is somebody to look at a bar. */
static int count_and_copy(struct tree *tree, struct copier *copier, const struct endpoint *source,
                          struct failure *out_failure) {
    struct progress *progress = tree->progress;
    int code = 0;
    if (progress->terminal && !progress->quiet) {
        tree->counting = true;
        code = walk_tree(tree, copier, source->name, source->is_directory, out_failure);
        tree->counting = false;
        progress->counted = true;
    }
    if (code == 0 && loop_stopped() == 0) {
        progress_start(progress);
        code = walk_tree(tree, copier, source->name, source->is_directory, out_failure);
    }
    return code;
}

static int copy(const struct options *options, const struct endpoints *endpoints, struct loop *loop,
                struct progress *progress, unsigned jobs, struct failure *out_failure) {
    struct tree tree = {
        .loop = loop,
        .progress = progress,
        .source_label = endpoints->source.label,
        .source_parent = endpoints->source.parent,
        .target_parent = endpoints->target.parent,
        .target_name = endpoints->target.name,
        .durable = options->durable,
    };
    struct copier copier;
    if (copier_init(&copier, &tree, jobs) < 0) {
        *out_failure = (struct failure){"cannot start", -ENOMEM};
        return -1;
    }
    int code = count_and_copy(&tree, &copier, &endpoints->source, out_failure);
    copier_deinit(&copier);
    return code;
}

/* ---- the end --------------------------------------------------------------------------------- */

static int report_end(struct progress *progress) {
    int code = progress_summary(progress);
    int signal_number = loop_stopped();
    if (code < 0) {
        (void)fprintf(stderr, "copy_tree: cannot print the summary: %s\n", sr_strerror(code));
    }
    if (progress->failed > 0) {
        (void)fprintf(stderr, "copy_tree: %" PRIu64 " could not be copied\n", progress->failed);
    }
    if (signal_number != 0) {
        (void)fprintf(stderr,
                      "copy_tree: interrupted by SIG%s: %" PRIu64 " files were completed, %" PRIu64
                      " in flight were removed, the rest was not begun\n",
                      sigabbrev_np(signal_number), progress->files, progress->interrupted);
        return EXIT_SIGNAL + signal_number;
    }
    return progress->failed > 0 || code < 0 ? EXIT_SOME_FAILED : EXIT_SUCCESS;
}

static int cannot_start(const char *label, const struct failure *failure) {
    struct progress progress = {0};
    if (label != NULL) {
        progress_fail(&progress, label, failure);
    } else {
        (void)fprintf(stderr, "copy_tree: %s: %s\n", failure->what, sr_strerror(failure->code));
    }
    return EXIT_CANNOT_START;
}

static int run(const struct options *options, const struct endpoints *endpoints) {
    struct failure failure = {"cannot catch signals", loop_catch_signals()};
    if (failure.code < 0) {
        return cannot_start(NULL, &failure);
    }
    struct loop loop;
    unsigned jobs = jobs_within_limit(options->jobs);
    if (start_loop(&loop, jobs, &failure) < 0) {
        return cannot_start(NULL, &failure);
    }
    struct progress progress;
    progress_init(&progress, options->quiet);
    int code = copy(options, endpoints, &loop, &progress, jobs, &failure);
    progress_clear(&progress);
    int end = loop_deinit(&loop);
    if (end < 0) {
        (void)fprintf(stderr, "copy_tree: the ring did not end cleanly: %s\n", sr_strerror(end));
    }
    return code < 0 ? cannot_start(options->source, &failure) : report_end(&progress);
}

int main(int argc, char **argv) {
    struct options options;
    if (parse_options(argc, argv, &options) < 0) {
        return EXIT_CANNOT_START;
    }
    static struct endpoints endpoints; /* too large for the stack's taste */
    const char *label = NULL;
    struct failure failure;
    if (endpoints_resolve(&endpoints, options.source, options.target, &label, &failure) < 0) {
        return cannot_start(label, &failure);
    }
    return run(&options, &endpoints);
}
