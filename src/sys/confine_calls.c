/* SPDX-License-Identifier: MIT */
/*
 * Two filters stand one behind the other; the kernel takes the stricter answer of the two.
 *
 *   gate    which calls there are; every other one ends the process
 *   rules   which of those are allowed, some with certain arguments only; every other one is EPERM
 *
 * One alone will not do, as libseccomp has one answer for arguments that match no rule. Neither can
 * fail open: a forgotten line takes a call away. When serving begins, rules are added once more,
 * with fewer allowed.
 */
#include "sys/confine_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/seccomp.h> /* after <seccomp.h>, which else defines the same */

/* ---- the lists ------------------------------------------------------------------------------- */

/* Allowed with any arguments. Numbers below zero are of calls that this architecture lacks. */
static const int plain_calls[] = {
    /* descriptors */
    SCMP_SYS(close), SCMP_SYS(close_range), SCMP_SYS(copy_file_range), SCMP_SYS(dup),
    SCMP_SYS(dup2), SCMP_SYS(dup3), SCMP_SYS(fadvise64), SCMP_SYS(fallocate), SCMP_SYS(fdatasync),
    SCMP_SYS(flock), SCMP_SYS(fstat), SCMP_SYS(fstatfs), SCMP_SYS(fsync), SCMP_SYS(ftruncate),
    SCMP_SYS(lseek), SCMP_SYS(pipe), SCMP_SYS(pipe2), SCMP_SYS(pread64), SCMP_SYS(preadv),
    SCMP_SYS(preadv2), SCMP_SYS(pwrite64), SCMP_SYS(pwritev), SCMP_SYS(pwritev2), SCMP_SYS(read),
    SCMP_SYS(readahead), SCMP_SYS(readv), SCMP_SYS(sendfile), SCMP_SYS(sync_file_range),
    SCMP_SYS(write), SCMP_SYS(writev),
    /* waiting */
    SCMP_SYS(epoll_create), SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2), SCMP_SYS(epoll_wait), SCMP_SYS(eventfd), SCMP_SYS(eventfd2),
    SCMP_SYS(pause), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(pselect6), SCMP_SYS(select),
    SCMP_SYS(signalfd), SCMP_SYS(signalfd4), SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_gettime),
    SCMP_SYS(timerfd_settime), SCMP_SYS(wait4), SCMP_SYS(waitid),
    /* sockets that it has */
    SCMP_SYS(getpeername), SCMP_SYS(getsockname), SCMP_SYS(getsockopt), SCMP_SYS(recvfrom),
    SCMP_SYS(recvmmsg), SCMP_SYS(recvmsg), SCMP_SYS(sendmmsg), SCMP_SYS(sendmsg),
    SCMP_SYS(setsockopt), SCMP_SYS(shutdown),
    /* memory */
    SCMP_SYS(brk), SCMP_SYS(madvise), SCMP_SYS(membarrier), SCMP_SYS(mincore), SCMP_SYS(mremap),
    SCMP_SYS(msync), SCMP_SYS(munmap), SCMP_SYS(pkey_alloc), SCMP_SYS(pkey_free),
    /* threads */
    SCMP_SYS(arch_prctl), SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(futex),
    SCMP_SYS(futex_waitv), SCMP_SYS(get_robust_list), SCMP_SYS(getcpu), SCMP_SYS(getpriority),
    SCMP_SYS(gettid), SCMP_SYS(ioprio_get), SCMP_SYS(restart_syscall), SCMP_SYS(rseq),
    SCMP_SYS(sched_get_priority_max), SCMP_SYS(sched_get_priority_min), SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_getattr), SCMP_SYS(sched_getparam), SCMP_SYS(sched_getscheduler),
    SCMP_SYS(sched_rr_get_interval), SCMP_SYS(sched_yield), SCMP_SYS(set_robust_list),
    SCMP_SYS(set_tid_address),
    /* signals */
    SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigpending), SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigsuspend), SCMP_SYS(rt_sigtimedwait),
    SCMP_SYS(sigaltstack),
    /* time */
    SCMP_SYS(alarm), SCMP_SYS(clock_getres), SCMP_SYS(clock_gettime), SCMP_SYS(clock_nanosleep),
    SCMP_SYS(getitimer), SCMP_SYS(gettimeofday), SCMP_SYS(nanosleep), SCMP_SYS(setitimer),
    SCMP_SYS(time), SCMP_SYS(timer_create), SCMP_SYS(timer_delete), SCMP_SYS(timer_getoverrun),
    SCMP_SYS(timer_gettime), SCMP_SYS(timer_settime), SCMP_SYS(times),
    /* who and where it is */
    SCMP_SYS(capget), SCMP_SYS(getegid), SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getgroups),
    SCMP_SYS(getpgid), SCMP_SYS(getpgrp), SCMP_SYS(getpid), SCMP_SYS(getppid), SCMP_SYS(getrandom),
    SCMP_SYS(getresgid), SCMP_SYS(getresuid), SCMP_SYS(getrlimit), SCMP_SYS(getrusage),
    SCMP_SYS(getsid), SCMP_SYS(getuid), SCMP_SYS(sysinfo), SCMP_SYS(umask), SCMP_SYS(uname),
    /* attributes of paths, which Landlock does not know; they are read, not changed */
    SCMP_SYS(access), SCMP_SYS(chdir), SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(fchdir),
    SCMP_SYS(getcwd), SCMP_SYS(getdents), SCMP_SYS(getdents64), SCMP_SYS(lstat),
    SCMP_SYS(newfstatat), SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(stat),
    SCMP_SYS(statfs), SCMP_SYS(statx)};

/* What Landlock watches over: allowed if there are paths at all. */
static const int path_calls[] = {SCMP_SYS(creat),    SCMP_SYS(link),      SCMP_SYS(linkat),
                                 SCMP_SYS(mkdir),    SCMP_SYS(mkdirat),   SCMP_SYS(rename),
                                 SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(rmdir),
                                 SCMP_SYS(symlink),  SCMP_SYS(symlinkat), SCMP_SYS(unlink),
                                 SCMP_SYS(unlinkat)};

static const int open_calls[] = {SCMP_SYS(open), SCMP_SYS(openat)};

/* socket(2) is another matter, as its arguments count. */
static const int connect_calls[] = {SCMP_SYS(accept), SCMP_SYS(accept4), SCMP_SYS(bind),
                                    SCMP_SYS(connect), SCMP_SYS(listen)};

/* Rules look at the arguments; what they do not allow is EPERM. */
static const int judged_calls[] = {
    SCMP_SYS(clone),   SCMP_SYS(fcntl),     SCMP_SYS(ioctl),           SCMP_SYS(kill),
    SCMP_SYS(mmap),    SCMP_SYS(mprotect),  SCMP_SYS(personality),     SCMP_SYS(pkey_mprotect),
    SCMP_SYS(prctl),   SCMP_SYS(prlimit64), SCMP_SYS(rt_sigqueueinfo), SCMP_SYS(rt_tgsigqueueinfo),
    SCMP_SYS(seccomp), SCMP_SYS(sendto),    SCMP_SYS(socket),          SCMP_SYS(socketpair),
    SCMP_SYS(tgkill)};

/* Always EPERM. */
static const int refused_calls[] = {
    /* other processes; system(3) and popen(3) report the failure */
    SCMP_SYS(fork), SCMP_SYS(pidfd_open), SCMP_SYS(pidfd_send_signal), SCMP_SYS(tkill),
    SCMP_SYS(vfork),
    /* attributes of files, which Landlock does not know */
    SCMP_SYS(chmod), SCMP_SYS(chown), SCMP_SYS(fchmod), SCMP_SYS(fchmodat), SCMP_SYS(fchown),
    SCMP_SYS(fchownat), SCMP_SYS(fgetxattr), SCMP_SYS(flistxattr), SCMP_SYS(fremovexattr),
    SCMP_SYS(fsetxattr), SCMP_SYS(futimesat), SCMP_SYS(getxattr), SCMP_SYS(lchown),
    SCMP_SYS(lgetxattr), SCMP_SYS(listxattr), SCMP_SYS(llistxattr), SCMP_SYS(lremovexattr),
    SCMP_SYS(lsetxattr), SCMP_SYS(mknod), SCMP_SYS(mknodat), SCMP_SYS(removexattr),
    SCMP_SYS(setxattr), SCMP_SYS(utime), SCMP_SYS(utimensat), SCMP_SYS(utimes),
    /* files that others change */
    SCMP_SYS(inotify_add_watch), SCMP_SYS(inotify_init), SCMP_SYS(inotify_init1),
    SCMP_SYS(inotify_rm_watch), SCMP_SYS(name_to_handle_at), SCMP_SYS(sync), SCMP_SYS(syncfs),
    /* a file without a path could hold code; a ring would be a way around every filter */
    SCMP_SYS(io_uring_setup), SCMP_SYS(memfd_create),
    /* memory that is more than a process's share, and where it lies */
    SCMP_SYS(get_mempolicy), SCMP_SYS(mbind), SCMP_SYS(mlock), SCMP_SYS(mlock2), SCMP_SYS(mlockall),
    SCMP_SYS(munlock), SCMP_SYS(munlockall), SCMP_SYS(set_mempolicy),
    /* who it is, and how much of the machine it gets */
    SCMP_SYS(capset), SCMP_SYS(ioprio_set), SCMP_SYS(sched_setaffinity), SCMP_SYS(sched_setattr),
    SCMP_SYS(sched_setparam), SCMP_SYS(sched_setscheduler), SCMP_SYS(setfsgid), SCMP_SYS(setfsuid),
    SCMP_SYS(setgid), SCMP_SYS(setgroups), SCMP_SYS(setpgid), SCMP_SYS(setpriority),
    SCMP_SYS(setregid), SCMP_SYS(setresgid), SCMP_SYS(setresuid), SCMP_SYS(setreuid),
    SCMP_SYS(setrlimit), SCMP_SYS(setsid), SCMP_SYS(setuid), SCMP_SYS(syslog)};

/* Always EACCES: by path, and older versions of Landlock do not know it. */
static const int shut_calls[] = {SCMP_SYS(truncate)};

/* Always ENOSYS: callers know an older or a plainer way. */
static const int missing_calls[] = {
    /* arguments behind a pointer, that no filter can judge */
    SCMP_SYS(clone3), SCMP_SYS(openat2),
    /* shared with whoever knows a number or a name */
    SCMP_SYS(mq_getsetattr), SCMP_SYS(mq_notify), SCMP_SYS(mq_open), SCMP_SYS(mq_timedreceive),
    SCMP_SYS(mq_timedsend), SCMP_SYS(mq_unlink), SCMP_SYS(msgctl), SCMP_SYS(msgget),
    SCMP_SYS(msgrcv), SCMP_SYS(msgsnd), SCMP_SYS(semctl), SCMP_SYS(semget), SCMP_SYS(semop),
    SCMP_SYS(semtimedop), SCMP_SYS(shmat), SCMP_SYS(shmctl), SCMP_SYS(shmdt), SCMP_SYS(shmget),
    /* much of the kernel, for little use */
    SCMP_SYS(landlock_add_rule), SCMP_SYS(landlock_create_ruleset),
    SCMP_SYS(landlock_restrict_self), SCMP_SYS(memfd_secret), SCMP_SYS(splice), SCMP_SYS(tee),
    SCMP_SYS(vmsplice)};

/* Calls that came after libseccomp 2.5.4, up to what may come: the C library tries new ones first
 * and asks for ENOSYS. 450 is set_mempolicy_home_node(2) of Linux 5.17. */
#define NEWER_FIRST 450
#define NEWER_LAST  520

/* ---- conditions ------------------------------------------------------------------------------ */

/* The kernel looks at the lower half of an argument that is an int, whatever is in the upper. */
#define LOW                        UINT64_C(0xffffffff)
#define BITS(argument, mask, bits) SCMP_CMP64(argument, SCMP_CMP_MASKED_EQ, mask, bits)
#define IS(argument, value)        BITS(argument, LOW, (uint64_t)(value)&LOW)
#define IS_NULL(argument)          BITS(argument, UINT64_MAX, 0)

#define ALLOW_IF(filter, call, ...)                                                                \
    allow_if(filter, SCMP_SYS(call), (const struct scmp_arg_cmp[]){__VA_ARGS__},                   \
             sizeof((const struct scmp_arg_cmp[]){__VA_ARGS__}) / sizeof(struct scmp_arg_cmp))

/* A filter in the making; the first error stays and nothing more is added. */
struct filter {
    scmp_filter_ctx context;
    int code;
};

static void add(struct filter *filter, uint32_t action, int call, const struct scmp_arg_cmp *args,
                size_t count) {
    if (filter->code == 0 && call >= 0) {
        filter->code =
            seccomp_rule_add_array(filter->context, action, call, (unsigned int)count, args);
    }
}

static void allow_if(struct filter *filter, int call, const struct scmp_arg_cmp *args,
                     size_t count) {
    add(filter, SCMP_ACT_ALLOW, call, args, count);
}

static void add_list(struct filter *filter, uint32_t action, const int *calls, size_t count) {
    for (size_t i = 0; i < count; i++) {
        add(filter, action, calls[i], NULL, 0);
    }
}

#define ADD_LIST(filter, action, calls) add_list(filter, action, calls, sizeof(calls) / sizeof(int))

static void add_newer(struct filter *filter, uint32_t action) {
    for (int call = NEWER_FIRST; call <= NEWER_LAST; call++) {
        add(filter, action, call, NULL, 0);
    }
}

/* New threads, but no processes and no namespaces. clone3(2) hides its flags behind a pointer. */
static void rules_for_threads(struct filter *filter) {
    const uint64_t namespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
    ALLOW_IF(filter, clone, BITS(0, CLONE_THREAD | namespaces, CLONE_THREAD));
}

/* Itself, so that abort(3), raise(3) and pthread_kill(3) do what they say. */
static void rules_for_signals(struct filter *filter) {
    const pid_t self = getpid();
    ALLOW_IF(filter, kill, IS(0, self));
    ALLOW_IF(filter, tgkill, IS(0, self));
    ALLOW_IF(filter, rt_sigqueueinfo, IS(0, self));
    ALLOW_IF(filter, rt_tgsigqueueinfo, IS(0, self));
}

/* Code comes from files, if at all, and is not writable. */
static void rules_for_code(struct filter *filter, enum sri_confine_stage stage) {
    ALLOW_IF(filter, mmap, BITS(2, PROT_EXEC, 0));
    ALLOW_IF(filter, mprotect, BITS(2, PROT_EXEC, 0));
    ALLOW_IF(filter, pkey_mprotect, BITS(2, PROT_EXEC, 0));
    ALLOW_IF(filter, personality, IS(0, 0xffffffff)); /* asks, and changes nothing */
    if (stage == SRI_CONFINE_LOADING) {
        ALLOW_IF(filter, mmap, BITS(2, PROT_EXEC | PROT_WRITE, PROT_EXEC),
                 BITS(3, MAP_ANONYMOUS, 0));
        add(filter, SCMP_ACT_ALLOW, SCMP_SYS(seccomp), NULL, 0);
    }
}

/* F_SETOWN and F_SETSIG would send any signal to anybody of the same user. */
static void rules_for_descriptors(struct filter *filter) {
    static const int commands[] = {F_DUPFD,      F_DUPFD_CLOEXEC, F_GETFD,     F_SETFD,
                                   F_GETFL,      F_SETFL,         F_GETLK,     F_SETLK,
                                   F_SETLKW,     F_OFD_GETLK,     F_OFD_SETLK, F_OFD_SETLKW,
                                   F_GETPIPE_SZ, F_SETPIPE_SZ,    F_ADD_SEALS, F_GET_SEALS};
    /* Not FIOASYNC and its owners, for the same reason; not TIOCSTI, which types into a terminal.
     */
    static const unsigned long requests[] = {TCGETS,  TIOCGWINSZ, FIONREAD,
                                             FIONBIO, FIOCLEX,    FIONCLEX};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        ALLOW_IF(filter, fcntl, IS(1, commands[i]));
    }
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        ALLOW_IF(filter, ioctl, IS(1, requests[i]));
    }
}

/* Not PR_SET_PDEATHSIG: it may be what ends this worker with its launcher. */
static void rules_for_itself(struct filter *filter) {
    static const int options[] = {PR_GET_PDEATHSIG,    PR_GET_DUMPABLE,    PR_SET_NAME,
                                  PR_GET_NAME,         PR_GET_SECCOMP,     PR_CAPBSET_READ,
                                  PR_SET_TIMERSLACK,   PR_GET_TIMERSLACK,  PR_SET_NO_NEW_PRIVS,
                                  PR_GET_NO_NEW_PRIVS, PR_SET_THP_DISABLE, PR_GET_THP_DISABLE,
                                  PR_SET_VMA};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        ALLOW_IF(filter, prctl, IS(0, options[i]));
    }
    ALLOW_IF(filter, prlimit64, IS(0, 0), IS_NULL(2)); /* its own are read, not set */
}

/* O_TRUNC without the right to write is undefined by POSIX, empties the file on Linux, and Landlock
 * sees nothing of it before its third version. Mode 3 is for ioctl(2) alone. */
static void rules_for_paths(struct filter *filter, bool may_open) {
    static const uint64_t modes[][2] = {
        {O_ACCMODE | O_TRUNC, O_RDONLY}, {O_ACCMODE, O_WRONLY}, {O_ACCMODE, O_RDWR}};
    if (!may_open) {
        ADD_LIST(filter, SCMP_ACT_ERRNO(EACCES), path_calls);
        ADD_LIST(filter, SCMP_ACT_ERRNO(EACCES), open_calls);
        return;
    }
    ADD_LIST(filter, SCMP_ACT_ALLOW, path_calls);
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        ALLOW_IF(filter, open, BITS(1, modes[i][0], modes[i][1]));
        ALLOW_IF(filter, openat, BITS(2, modes[i][0], modes[i][1]));
    }
}

/* TCP and UDP, but neither their rarer kin nor raw packets, netlink, or sockets of this machine. */
static void rules_for_internet(struct filter *filter) {
    static const int domains[] = {AF_INET, AF_INET6};
    static const int kinds[][2] = {
        {SOCK_STREAM, 0}, {SOCK_STREAM, IPPROTO_TCP}, {SOCK_DGRAM, 0}, {SOCK_DGRAM, IPPROTO_UDP}};
    const uint64_t type_mask = ~(uint64_t)(SOCK_NONBLOCK | SOCK_CLOEXEC) & LOW;
    for (size_t i = 0; i < sizeof domains / sizeof domains[0]; i++) {
        for (size_t j = 0; j < sizeof kinds / sizeof kinds[0]; j++) {
            ALLOW_IF(filter, socket, IS(0, domains[i]), BITS(1, type_mask, (uint64_t)kinds[j][0]),
                     IS(2, kinds[j][1]));
        }
    }
}

/* A datagram socket, even one of a pair, could send to any name; these two kinds cannot. */
static void rules_for_sockets(struct filter *filter, bool may_connect) {
    const uint64_t type_mask = ~(uint64_t)(SOCK_NONBLOCK | SOCK_CLOEXEC) & LOW;
    ALLOW_IF(filter, socketpair, IS(0, AF_UNIX), BITS(1, type_mask, SOCK_STREAM));
    ALLOW_IF(filter, socketpair, IS(0, AF_UNIX), BITS(1, type_mask, SOCK_SEQPACKET));
    if (may_connect) {
        rules_for_internet(filter);
        ADD_LIST(filter, SCMP_ACT_ALLOW, connect_calls);
        add(filter, SCMP_ACT_ALLOW, SCMP_SYS(sendto), NULL, 0);
    } else {
        add(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(socket), NULL, 0);
        ADD_LIST(filter, SCMP_ACT_ERRNO(EACCES), connect_calls);
        ALLOW_IF(filter, sendto, IS_NULL(4)); /* send(3) */
    }
}

/* ---- the filters ----------------------------------------------------------------------------- */

static void fill_gate(struct filter *filter) {
    ADD_LIST(filter, SCMP_ACT_ALLOW, plain_calls);
    ADD_LIST(filter, SCMP_ACT_ALLOW, path_calls);
    ADD_LIST(filter, SCMP_ACT_ALLOW, open_calls);
    ADD_LIST(filter, SCMP_ACT_ALLOW, connect_calls);
    ADD_LIST(filter, SCMP_ACT_ALLOW, judged_calls);
    ADD_LIST(filter, SCMP_ACT_ALLOW, refused_calls);
    ADD_LIST(filter, SCMP_ACT_ALLOW, shut_calls);
    ADD_LIST(filter, SCMP_ACT_ALLOW, missing_calls);
    add_newer(filter, SCMP_ACT_ALLOW);
}

static void fill_rules(struct filter *filter, const struct sri_confine_calls *calls) {
    ADD_LIST(filter, SCMP_ACT_ALLOW, plain_calls);
    ADD_LIST(filter, SCMP_ACT_ERRNO(EACCES), shut_calls);
    ADD_LIST(filter, SCMP_ACT_ERRNO(ENOSYS), missing_calls);
    add_newer(filter, SCMP_ACT_ERRNO(ENOSYS));
    rules_for_threads(filter);
    rules_for_signals(filter);
    rules_for_code(filter, calls->stage);
    rules_for_descriptors(filter);
    rules_for_itself(filter);
    rules_for_paths(filter, calls->may_open);
    rules_for_sockets(filter, calls->may_connect);
}

static struct filter filter_begin(uint32_t action) {
    struct filter filter = {.context = seccomp_init(action), .code = 0};
    if (filter.context == NULL) {
        filter.code = -ENOMEM;
        return filter;
    }
    const struct {
        enum scmp_filter_attr name;
        uint32_t value;
    } attributes[] = {
        {SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS},
        {SCMP_FLTATR_CTL_NNP, 0}, /* a layer of its own, and said if it does not hold */
        {SCMP_FLTATR_CTL_TSYNC, 1},
        {SCMP_FLTATR_API_SYSRAWRC, 1}, /* the kernel's own errno */
    };
    for (size_t i = 0; filter.code == 0 && i < sizeof attributes / sizeof attributes[0]; i++) {
        filter.code = seccomp_attr_set(filter.context, attributes[i].name, attributes[i].value);
    }
    return filter;
}

static int filter_end(struct filter *filter) {
    if (filter->code == 0) {
        filter->code = seccomp_load(filter->context);
    }
    if (filter->context != NULL) {
        seccomp_release(filter->context);
    }
    return filter->code;
}

/* Readable memory that is code without anybody asking: a flag that a program inherits from the one
 * that started it (setarch -X), and that no filter of protections sees. */
static int unset_implied_code(void) {
    const int now = personality(0xffffffff);
    if (now < 0) {
        return -errno;
    }
    const unsigned long without = (unsigned long)now & ~(unsigned long)READ_IMPLIES_EXEC;
    return (now & READ_IMPLIES_EXEC) == 0 || personality(without) >= 0 ? 0 : -errno;
}

/* A filter that was there before can make any call look as if it had worked, so one that is
 * forbidden now is tried. */
static int probe(enum sri_confine_stage stage) {
    if (stage == SRI_CONFINE_LOADING) {
        /* The kernel's own answer is EINVAL, to a struct of no size. */
        const bool holds = syscall(SYS_openat2, -1, NULL, NULL, (size_t)0) < 0 && errno == ENOSYS;
        return holds ? 0 : -EBADE;
    }
    const uint32_t action = SECCOMP_RET_KILL_PROCESS;
    const long got = syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0u, &action);
    return got < 0 && errno == EPERM ? 0 : -EBADE;
}

int sri_confine_calls(const struct sri_confine_calls *calls) {
    /* The gate comes first: it lets the loading of the rules through, whatever these say. */
    struct filter rules = filter_begin(SCMP_ACT_ERRNO(EPERM));
    fill_rules(&rules, calls);
    if (calls->stage == SRI_CONFINE_SERVING) {
        const int code = filter_end(&rules);
        return code == 0 ? probe(calls->stage) : code;
    }
    struct filter gate = filter_begin(SCMP_ACT_KILL_PROCESS);
    fill_gate(&gate);
    if (gate.code == 0) {
        gate.code = unset_implied_code();
    }
    const int gate_code = filter_end(&gate);
    if (gate_code != 0) {
        rules.code = gate_code;
    }
    const int code = filter_end(&rules);
    return code == 0 ? probe(calls->stage) : code;
}
