/* SPDX-License-Identifier: MIT */
/*
 * Launch: a launcher for a test, plans for tests/programs/worker.c, and waits that end. Programs
 * are found by SAFERING_LAUNCHER and SAFERING_TEST_WORKER, else where the build has put them.
 */
#ifndef SAFERING_TESTS_SUPPORT_LAUNCH_H
#define SAFERING_TESTS_SUPPORT_LAUNCH_H

#include "ipc/launcher.h"
#include <stdbool.h>
#include <stdint.h>

#define LAUNCH_PATIENCE_MS 20000
#define LAUNCH_TELL_FD     5

const char *launch_worker_path(void);
const char *launch_serving_path(void); /* programs/serving.c */
const char *launch_launcher_path(void);

/* Aborts with a message if that fails. Sanitizers of the launcher hear what they hear here. */
struct sri_launcher *launch_open(void);
/* Aborts if the launcher had to be killed. */
void launch_close(struct sri_launcher **launcher);

/* `none`, with these layers of a sandbox (bits). */
struct sri_sandbox_policy launch_policy(uint32_t asked, uint32_t required);

/* The layers that give a pid namespace to whoever this process is. */
uint32_t launch_pid_namespace(void);
/* Why there is no such thing here, or NULL. */
const char *launch_pid_namespace_missing(void);

/* Starts "worker WHAT HOW" in these layers; @tell_fd (or -1) becomes its descriptor 5. Aborts if it
 * is refused. */
void launch_start(struct sri_launcher *launcher, uint64_t id, const char *what, const char *how,
                  int tell_fd, uint32_t layers);

/* The next event; aborts after LAUNCH_PATIENCE_MS, or with a message for a code. A pidfd that
 * nobody wants (@out_pidfd NULL) is closed. */
struct sri_launch_event launch_next(struct sri_launcher *launcher, int *out_pidfd);
/* The same, which must be of this kind and about this worker. */
struct sri_launch_event launch_expect(struct sri_launcher *launcher, uint32_t kind, uint64_t id);

/* A pipe whose reading end says when the last process that has the other one is gone. */
struct launch_pipe {
    int out;
    int in;
};
struct launch_pipe launch_pipe_open(void);
/* Reads a line of text into a static buffer; aborts when time is over. */
const char *launch_pipe_line(struct launch_pipe *pipe);
/* All of it up to the end. */
const char *launch_pipe_all(struct launch_pipe *pipe);
/* Closes our writing end; whether all other ends were closed within LAUNCH_PATIENCE_MS. */
bool launch_pipe_ends(struct launch_pipe *pipe);
void launch_pipe_close(struct launch_pipe *pipe);

/* How many descriptors a process has. */
uint32_t launch_fd_count(int32_t pid);
/* Waits until it has so many; else prints which it has and returns false. */
bool launch_fd_count_becomes(int32_t pid, uint32_t count);
int32_t launch_parent_of(int32_t pid);

#endif
