/* SPDX-License-Identifier: MIT */
#include "support/deny.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Whether the filter is in force from now on. */
static int install(struct sock_filter *filter, size_t count) {
    const struct sock_fprog program = {(unsigned short)count, filter};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0) {
        return 0; /* root may, and can then still mount FUSE file systems */
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return -1;
    }
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define NO_FILTER       "no seccomp filter can be installed"
#define NO_EFFECT       "the seccomp filter has no effect"

/* From @first to @last. */
static int install_range(unsigned int first, unsigned int last, unsigned int code) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, first, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, last, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | code),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    return install(filter, COUNT_OF(filter));
}

static const char *deny(unsigned int first, unsigned int last, int code) {
    if (install_range(first, last, (unsigned int)code) != 0) {
        return NO_FILTER;
    }
    /* Arguments that no system call does anything with. */
    if (syscall((long)first, -1L, -1L, -1L, -1L, -1L, -1L) != -1 || errno != code) {
        return NO_EFFECT;
    }
    return NULL;
}

/* The flags of clone(2) are its first argument wherever this runs; their lower half has all. */
#define NAMESPACES                                                                                 \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |  \
     CLONE_NEWNET)

const char *deny_namespaces(int code) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_unshare, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, NAMESPACES, 0, 2),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned int)code),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    if (install(filter, COUNT_OF(filter)) != 0) {
        return NO_FILTER;
    }
    if (syscall(SYS_unshare, (long)CLONE_NEWNS) != -1 || errno != code) {
        return NO_EFFECT;
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
