/* SPDX-License-Identifier: MIT */
/*
 * serving [VERSION [HOW]]: a worker program as a user would write it, which serves the methods of
 * support/methods.h and two more: `version` (result: VERSION) and `pid`. HOW it does so:
 *
 *   well     as it should (default)
 *   exit     not at all: exits with 9 at once
 *   silent   not at all: waits for ever
 *   garbage  not at all: sends what no worker sends
 *   stays    as it should, but does not end when the host has closed its socket
 */
#include "support/methods.h"

#include <safering/worker.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static _Noreturn void wait_for_ever(void) {
    for (;;) {
        (void)pause();
    }
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
    memcpy(methods, test_methods, test_method_count * sizeof *methods);
    methods[test_method_count] = (sr_method){"version", tell_version, NULL};
    methods[test_method_count + 1] = (sr_method){"pid", tell_pid, NULL};
    const int code = sr_serve(methods, test_method_count + 2, NULL);
    if (strcmp(how, "stays") == 0) {
        wait_for_ever();
    }
    /* A host that is gone is no fault of the worker. */
    return code == 0 || code == SR_E_PEER_DIED ? 0 : 4;
}
