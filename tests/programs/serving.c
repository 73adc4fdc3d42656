/* SPDX-License-Identifier: MIT */
/*
 * serving [VERSION [HOW [FILE]]]: a worker program as a user would write it, which serves the
 * methods of support/methods.h and more: `version` (result: VERSION), `pid`, `open` (a path: result
 * 0 or a negative errno), `fork` (the same), `descriptors` (result: how many it may have) and
 * `loaded` (what opening FILE brought while it loaded). HOW it does so:
 *
 *   well     as it should (default)
 *   unloaded as it should, but its loading fails with -ELIBBAD
 *   threads  with a second thread from the beginning
 *   exit     not at all: exits with 9 at once
 *   silent   not at all: waits for ever
 *   garbage  not at all: sends what no worker sends
 *   stays    as it should, but does not end when the host has closed its socket
 */
#include "support/methods.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <safering/worker.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOCKET_FD 3

static int64_t version;

static int64_t tell_version(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    (void)served;
    (void)data;
    (void)data_bytes;
    (void)ctx;
    return version;
}

static int64_t tell_pid(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    (void)served;
    (void)data;
    (void)data_bytes;
    (void)ctx;
    return getpid();
}

static int try_open(const char *path) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : close(fd);
}

static int64_t tell_open(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    char path[256] = "";
    (void)served;
    (void)ctx;
    memcpy(path, data, data_bytes < sizeof path - 1 ? data_bytes : sizeof path - 1);
    return try_open(path);
}

static int64_t tell_fork(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    (void)served;
    (void)data;
    (void)data_bytes;
    (void)ctx;
    const pid_t child = fork();
    if (child == 0) {
        _exit(0);
    }
    return child < 0 ? -errno : waitpid(child, NULL, 0) == child ? 0 : -ECHILD;
}

static int64_t tell_descriptors(sr_served *served, const void *data, uint64_t data_bytes,
                                void *ctx) {
    struct rlimit limit;
    (void)served;
    (void)data;
    (void)data_bytes;
    (void)ctx;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? (int64_t)limit.rlim_cur : -errno;
}

static int64_t loaded = -ENODATA;

static int64_t tell_loaded(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    (void)served;
    (void)data;
    (void)data_bytes;
    (void)ctx;
    return loaded;
}

static const sr_method own_methods[] = {
    {"version", tell_version, NULL}, {"pid", tell_pid, NULL},
    {"open", tell_open, NULL},       {"fork", tell_fork, NULL},
    {"loaded", tell_loaded, NULL},   {"descriptors", tell_descriptors, NULL},
};

static int load(void *ctx) {
    const char *const *arguments = ctx;
    if (strcmp(arguments[2], "unloaded") == 0) {
        return -ELIBBAD;
    }
    loaded = arguments[3] != NULL ? try_open(arguments[3]) : 0;
    return 0;
}

static _Noreturn void wait_for_ever(void) {
    for (;;) {
        (void)pause();
    }
}

static void *wait_in_thread(void *ctx) {
    (void)ctx;
    wait_for_ever();
}

int main(int argc, char **argv) {
    const char *how = argc > 2 ? argv[2] : "well";
    sr_method methods[64];
    version = argc > 1 ? atoi(argv[1]) : 0;
    if (strcmp(how, "exit") == 0) {
        return 9;
    }
    if (strcmp(how, "silent") == 0) {
        wait_for_ever();
    }
    if (strcmp(how, "garbage") == 0) {
        char garbage[64];
        memset(garbage, 'g', sizeof garbage);
        if (write(SOCKET_FD, garbage, sizeof garbage) < 0) {
            return 8;
        }
        wait_for_ever();
    }
    pthread_t thread;
    if (strcmp(how, "threads") == 0 && pthread_create(&thread, NULL, wait_in_thread, NULL) != 0) {
        return 7;
    }
    memcpy(methods, test_methods, test_method_count * sizeof *methods);
    memcpy(methods + test_method_count, own_methods, sizeof own_methods);
    sr_serve_options options = SR_SERVE_OPTIONS_INIT;
    options.load = argc > 2 ? load : NULL;
    options.load_ctx = argv;
    const int code =
        sr_serve(methods, test_method_count + (uint32_t)(sizeof own_methods / sizeof *own_methods),
                 &options);
    if (strcmp(how, "stays") == 0) {
        wait_for_ever();
    }
    /* A host that is gone is no fault of the worker. */
    return code == 0 || code == SR_E_PEER_DIED ? 0 : 4;
}
