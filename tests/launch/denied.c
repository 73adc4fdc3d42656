/* SPDX-License-Identifier: MIT */
/*
 * launch/denied CODE PROGRAM [ARGUMENT...]: runs a test where io_uring_setup(2), io_uring_enter(2)
 * and io_uring_register(2) fail with EPERM (as a container's filter has it, and the sysctl
 * kernel.io_uring_disabled) or ENOSYS (as a kernel without it). Exit status 77, a skip, where no
 * filter can be installed.
 */
#include "support/deny.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SKIPPED 77

int main(int argc, char **argv) {
    const char *name = argc > 2 ? argv[1] : "";
    const int code = strcmp(name, "EPERM") == 0 ? EPERM : strcmp(name, "ENOSYS") == 0 ? ENOSYS : 0;
    if (code == 0) {
        fprintf(stderr, "usage: denied EPERM|ENOSYS PROGRAM [ARGUMENT...]\n");
        return 1;
    }
    const char *reason = deny_io_uring(code);
    if (reason != NULL) {
        fprintf(stderr, "skipped: %s\n", reason);
        return SKIPPED;
    }
    execv(argv[2], argv + 2);
    fprintf(stderr, "denied: %s: %s\n", argv[2], strerror(errno));
    return 1;
}
