/* SPDX-License-Identifier: MIT */
/*
 * launch/denied CODE PROGRAM [ARGUMENT...]: runs a test where io_uring_setup(2), io_uring_enter(2)
 * and io_uring_register(2) fail with EPERM (as a container's filter has it, and the sysctl
 * kernel.io_uring_disabled) or ENOSYS (as a kernel without it). Exit status 77, a skip, where no
 * filter can be installed.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SKIPPED 77

static int install(unsigned int code) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        /* The three have consecutive numbers, the same on all architectures. */
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, SYS_io_uring_setup, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, SYS_io_uring_register, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | code),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0) {
        return 0; /* root may, and can then still mount FUSE file systems */
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return -1;
    }
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

int main(int argc, char **argv) {
    const char *name = argc > 2 ? argv[1] : "";
    const int code = strcmp(name, "EPERM") == 0 ? EPERM : strcmp(name, "ENOSYS") == 0 ? ENOSYS : 0;
    if (code == 0) {
        fprintf(stderr, "usage: denied EPERM|ENOSYS PROGRAM [ARGUMENT...]\n");
        return 1;
    }
    if (install((unsigned int)code) != 0) {
        fprintf(stderr, "skipped: no seccomp filter here: %s\n", strerror(errno));
        return SKIPPED;
    }
    if (syscall(SYS_io_uring_setup, 1, NULL) != -1 || errno != code) {
        fprintf(stderr, "denied: the filter does not work\n");
        return 1;
    }
    execv(argv[2], argv + 2);
    fprintf(stderr, "denied: %s: %s\n", argv[2], strerror(errno));
    return 1;
}
