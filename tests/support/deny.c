/* SPDX-License-Identifier: MIT */
#include "support/deny.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From @first to @last: whether such a filter is in force from now on. */
static int install(unsigned int first, unsigned int last, unsigned int code) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, first, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, last, 1, 0),
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

static const char *deny(unsigned int first, unsigned int last, int code) {
    if (install(first, last, (unsigned int)code) != 0) {
        return "no seccomp filter can be installed";
    }
    /* Arguments that no system call does anything with. */
    if (syscall((long)first, -1L, -1L, -1L, -1L, -1L, -1L) != -1 || errno != code) {
        return "the seccomp filter has no effect";
    }
    return NULL;
}

const char *deny_io_uring(int code) {
    /* The three have consecutive numbers, the same on all architectures. */
    return deny(SYS_io_uring_setup, SYS_io_uring_register, code);
}

const char *deny_call(unsigned int number, int code) {
    return deny(number, number, code);
}
