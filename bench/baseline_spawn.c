/* SPDX-License-Identifier: MIT */
/* A process that does nothing, started and waited for: posix_spawn(3), which is vfork(2) and
 * execve(2) in the C library of this machine, and waitpid(2). */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baseline.h"
#include <errno.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int nothing;

static int side_open(const struct bench_setup *setup, void **out_side,
                     struct bench_facts *out_facts) {
    (void)setup;
    (void)out_facts;
    bench_unpin(); /* the process inherits where this thread may run */
    *out_side = &nothing;
    return BENCH_OK;
}

static int side_run(void *side, const struct bench_round *round, struct bench_work *out_work) {
    char program[] = "/bin/true";
    char *const arguments[] = {program, NULL};

    (void)side;
    for (uint32_t i = 0; i < round->ops; i++) {
        pid_t pid = 0;
        int status = 0;
        const int code = posix_spawn(&pid, program, NULL, NULL, arguments, environ);

        if (code != 0) {
            return bench_complain(BENCH_WRONG, "spawn: %s", strerror(code));
        }
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        }
        out_work->checksum += status == 0;
        out_work->ops++;
    }
    return BENCH_OK;
}

static void side_close(void *side) {
    (void)side;
}

const struct bench_side bench_baseline_spawn = {"/bin/true", side_open, side_run, side_close, 1};
