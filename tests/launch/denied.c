/* SPDX-License-Identifier: MIT */
/*
 * launch/denied WHAT=CODE PROGRAM [ARGUMENT...]: runs a test where system calls fail. WHAT is
 * io_uring (io_uring_setup(2), io_uring_enter(2) and io_uring_register(2)) or mbind; CODE is EPERM
 * (as a container's filter has it, and the sysctl kernel.io_uring_disabled) or ENOSYS (as a kernel
 * without it). Exit status 77, a skip, where no filter can be installed.
 */
#include "support/deny.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SKIPPED 77

static int code_of(const char *name) {
    return strcmp(name, "EPERM") == 0 ? EPERM : strcmp(name, "ENOSYS") == 0 ? ENOSYS : 0;
}

/* Returns false if @what, such as "mbind=EPERM", means nothing. */
static bool deny_what(const char *what, const char **out_reason) {
    const char *equals = strchr(what, '=');
    const int code = equals != NULL ? code_of(equals + 1) : 0;
    if (code == 0) {
        return false;
    }
    if (strncmp(what, "io_uring=", 9) == 0) {
        *out_reason = deny_io_uring(code);
        return true;
    }
    if (strncmp(what, "mbind=", 6) == 0) {
        *out_reason = deny_call(SYS_mbind, code);
        return true;
    }
    return false;
}

int main(int argc, char **argv) {
    const char *reason = NULL;
    if (argc < 3 || !deny_what(argv[1], &reason)) {
        fprintf(stderr, "usage: denied io_uring|mbind=EPERM|ENOSYS PROGRAM [ARGUMENT...]\n");
        return 1;
    }
    if (reason != NULL) {
        fprintf(stderr, "skipped: %s\n", reason);
        return SKIPPED;
    }
    execv(argv[2], argv + 2);
    fprintf(stderr, "denied: %s: %s\n", argv[2], strerror(errno));
    return 1;
}
