/* SPDX-License-Identifier: MIT */
/*
 * Launchers in a host with threads: several are started at the same time by several threads, which
 * end; each works for whoever has it, and none keeps another one's socket, which would let it
 * outlive its end. The host ignores SIGCHLD, as the BEAM does.
 */
#include "check.h"

#include "support/launch.h"
#include "support/scale.h"
#include <signal.h>
#include <stdbool.h>
#include <unistd.h>

#define THREADS 4u

struct turn {
    struct sri_launcher *launcher;
    struct launch_pipe life;
};

static void *open_and_start(void *ctx) {
    struct turn *turn = ctx;
    turn->launcher = launch_open();
    turn->life = launch_pipe_open();
    launch_start(turn->launcher, 1, "descendants", "", turn->life.in, 0);
    launch_start(turn->launcher, 2, "exit", "9", -1, 0);
    return NULL;
}

static void *receive_and_end(void *ctx) {
    struct turn *turn = ctx;
    uint32_t started = 0;
    uint32_t exited = 0;
    while (started < 2 || exited < 1) {
        const struct sri_launch_event event = launch_next(turn->launcher, NULL);
        started += event.header.kind == SRI_LAUNCH_STARTED;
        if (event.header.kind == SRI_LAUNCH_EXITED) {
            CHECK_EQ(event.header.worker, 2);
            CHECK_EQ(event.end, SRI_LAUNCH_END_EXIT);
            CHECK_EQ(event.status, 9);
            exited++;
        }
    }
    launch_close(&turn->launcher);
    CHECK(launch_pipe_ends(&turn->life));
    launch_pipe_close(&turn->life);
    return NULL;
}

static void in_threads(void *(*run)(void *), struct turn *turns) {
    pthread_t threads[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        threads[i] = check_thread_start(run, &turns[i]);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        check_thread_join(threads[i]);
    }
}

static void launchers_of_several_threads_keep_apart(void) {
    const uint64_t rounds = scale_count(25, 2);
    for (uint64_t i = 0; i < rounds; i++) {
        struct turn turns[THREADS];
        in_threads(open_and_start, turns);
        in_threads(receive_and_end, turns);
    }
}

int main(void) {
    CHECK(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    RUN(launchers_of_several_threads_keep_apart);
    return 0;
}
