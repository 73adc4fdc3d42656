/* SPDX-License-Identifier: MIT */
/*
 * Violators: the acts of test_sandbox_rules.c, each of which a rule of the sandbox forbids. An act
 * runs in a child and returns 0, or the errno of what failed.
 */
#ifndef SAFERING_TESTS_UNIT_VIOLATORS_H
#define SAFERING_TESTS_UNIT_VIOLATORS_H

#include "unit/sandbox.h"

#include <dlfcn.h>
#include <liburing.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <spawn.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>

extern char **environ;

#define CODE_OF(expression) ((expression) >= 0 ? 0 : errno)

/* ---- programs that this one becomes ---------------------------------------------------------- */

/* Run before main() of Criterion: a program without one. */
__attribute__((constructor)) static void become(void) {
    const char *role = getenv("SAFERING_SANDBOX_ROLE");
    if (role != NULL && strcmp(role, "who") == 0) {
        _exit(geteuid() == 0 ? 0 : EPERM);
    }
    if (role != NULL && strcmp(role, "secret") == 0) {
        _exit(getenv("SAFERING_SANDBOX_SECRET") != NULL ? 0 : EPERM);
    }
    if (role != NULL) {
        _exit(0);
    }
}

static int execute_role(const char *program, const char *role) {
    char setting[64];
    char *const arguments[] = {(char *)"role", NULL};
    char *const environment[] = {setting, NULL};
    (void)snprintf(setting, sizeof setting, "SAFERING_SANDBOX_ROLE=%s", role);
    (void)execve(program, arguments, environment);
    return errno;
}

/* ---- namespaces ------------------------------------------------------------------------------ */

static int read_victim(void) {
    uint64_t word = 0;
    struct iovec here = {&word, sizeof word};
    struct iovec there = {&scene.word, sizeof word};
    const ssize_t got = process_vm_readv(scene.victim, &here, 1, &there, 1, 0);
    return got < 0 ? errno : word == scene.word ? 0 : EILSEQ;
}

static int connect_to_host(void) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    return fd < 0 ? errno
                  : CODE_OF(connect(fd, (struct sockaddr *)&scene.address, sizeof scene.address));
}

static int look_at_segment(void) {
    struct shmid_ds status;
    return CODE_OF(shmctl(scene.segment, IPC_STAT, &status));
}

static int find_victim(void) {
    return CODE_OF(kill(scene.victim, 0));
}

/* ---- what is inherited ----------------------------------------------------------------------- */

/* One number lies below, the other above of what stays open. */
static int write_secret(void) {
    const bool is_low = write(scene.secret, "x", 1) == 1;
    return is_low ? 0 : CODE_OF(write(scene.secret_high, "x", 1));
}

static int read_input(void) {
    char byte = 0;
    const ssize_t got = read(STDIN_FILENO, &byte, 1);
    return got < 0 ? errno : got == 1 && byte == 'i' ? 0 : ENODATA;
}

static int survive_signal(void) {
    return CODE_OF(raise(SIGTERM));
}

static int hold_signal_back(void) {
    return CODE_OF(raise(SIGUSR1));
}

static int open_relative(void) {
    return CODE_OF(open("outside.txt", O_RDONLY));
}

static int make_open_file(void) {
    char path[128];
    struct stat status;
    (void)snprintf(path, sizeof path, "%s/umask.txt", scene.read_write);
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0666);
    if (fd < 0 || fstat(fd, &status) != 0 || unlink(path) != 0) {
        return errno;
    }
    return (status.st_mode & 077) != 0 ? 0 : EPERM;
}

/* ---- limits ---------------------------------------------------------------------------------- */

#define FORKS 64u

/* What waits below dies with this process. */
static int fork_many(void) {
    for (unsigned int i = 0; i < FORKS; i++) {
        const pid_t self = getpid();
        const pid_t child = fork();
        if (child < 0) {
            return errno;
        }
        if (child == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            while (getppid() == self) {
                (void)pause();
            }
            _exit(0);
        }
    }
    return 0;
}

static int take_memory(void) {
    void *memory = mmap(NULL, (size_t)2 << 30, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory != MAP_FAILED ? 0 : errno;
}

/* The limit counts ticks, of which an emulated processor loses some, and the clock does not: so
 * there is patience where there is a limit. */
static int use_time(void) {
    struct rlimit limit;
    struct timespec used;
    if (getrlimit(RLIMIT_CPU, &limit) != 0) {
        return errno;
    }
    const time_t enough_ms = limit.rlim_cur == RLIM_INFINITY ? 1200 : 20000;
    do {
        (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    } while (used.tv_sec * 1000 + used.tv_nsec / 1000000 < enough_ms);
    return 0;
}

static int write_long_file(void) {
    char path[128];
    (void)snprintf(path, sizeof path, "%s/long.txt", scene.read_write);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    return fd < 0 ? errno : CODE_OF(pwrite(fd, "x", 1, 8 << 20));
}

static int open_many(void) {
    for (int i = 0; i < 200; i++) {
        if (dup(STDERR_FILENO) < 0) {
            return errno;
        }
    }
    return 0;
}

static int may_dump_core(void) {
    struct rlimit limit;
    return getrlimit(RLIMIT_CORE, &limit) != 0 ? errno : limit.rlim_max > 0 ? 0 : EPERM;
}

static int raise_files(void) {
    const struct rlimit limit = {1024, 1024};
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* the descriptors tell whether it worked */
    return open_many();
}

/* ---- privileges ------------------------------------------------------------------------------ */

static int give_file_away(void) {
    char path[128];
    (void)snprintf(path, sizeof path, "%s/given.txt", scene.read_write);
    const int fd = open(path, O_WRONLY | O_CREAT, 0600);
    return fd < 0 ? errno : CODE_OF(fchown(fd, 1, 1));
}

/* As nobody, by a copy of this program that belongs to root (see make_set_user_id()). */
static int become_root(void) {
    char path[128];
    (void)snprintf(path, sizeof path, "%s/who", scene.directory);
    return execute_role(path, "who");
}

static int open_own_memory(void) {
    return CODE_OF(open("/proc/self/mem", O_RDWR));
}

/* ---- files ----------------------------------------------------------------------------------- */

static int open_in(const char *directory, const char *name, int flags) {
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    return CODE_OF(open(path, flags, 0600));
}

static int open_outside(void) {
    return open_in(scene.directory, "outside.txt", O_RDONLY);
}

static int list_outside(void) {
    return CODE_OF(open(scene.directory, O_RDONLY | O_DIRECTORY));
}

static int make_outside(void) {
    return open_in(scene.directory, "made.txt", O_WRONLY | O_CREAT);
}

static int open_link(void) {
    return open_in(scene.read_only, "link.txt", O_RDONLY);
}

static int write_read_only(void) {
    return open_in(scene.read_only, "file.txt", O_WRONLY);
}

static int make_in_read_only(void) {
    return open_in(scene.read_only, "made.txt", O_WRONLY | O_CREAT);
}

/* Acts on a copy, for the control succeeds. */
static int copy_read_only(char *out_path, size_t size_bytes) {
    (void)snprintf(out_path, size_bytes, "%s/spare.txt", scene.read_only);
    const int fd = open(out_path, O_RDONLY);
    return fd < 0 ? errno : close(fd);
}

static int remove_read_only(void) {
    char path[128];
    const int code = copy_read_only(path, sizeof path);
    return code != 0 ? code : CODE_OF(unlink(path));
}

static int move_read_only(void) {
    char path[128];
    char target[128];
    const int code = copy_read_only(path, sizeof path);
    (void)snprintf(target, sizeof target, "%s/moved.txt", scene.read_write);
    return code != 0 ? code : CODE_OF(rename(path, target));
}

static int link_read_only(void) {
    char path[128];
    char target[128];
    const int code = copy_read_only(path, sizeof path);
    (void)snprintf(target, sizeof target, "%s/linked.txt", scene.read_write);
    return code != 0 ? code : CODE_OF(link(path, target));
}

/* The policy lists "/", so that the loader's files may be read. */
static int execute_file(void) {
    return execute_role("/proc/self/exe", "none");
}

/* ---- the network, signals -------------------------------------------------------------------- */

static int bind_tcp(void) {
    const struct sockaddr_in any = {.sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return CODE_OF(bind(scene.tcp_socket, (const struct sockaddr *)&any, sizeof any));
}

static int connect_tcp(void) {
    return CODE_OF(
        connect(scene.tcp_socket, (struct sockaddr *)&scene.address, sizeof scene.address));
}

static int connect_abstract(void) {
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return fd < 0 ? errno
                  : CODE_OF(connect(fd, (struct sockaddr *)&scene.abstract, scene.abstract_length));
}

/* ---- system calls: files --------------------------------------------------------------------- */

static int open_inside(void) {
    return open_in(scene.read_only, "file.txt", O_RDONLY);
}

/* By numbers, both of them: the C library knows openat(2) alone. */
static int empty_read_only(void) {
    char path[128];
    int code = copy_read_only(path, sizeof path);
#ifdef SYS_open
    if (code == 0 && syscall(SYS_open, path, O_RDONLY | O_TRUNC) >= 0) {
        return 0;
    }
#endif
    return code != 0 ? code : CODE_OF(syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_TRUNC));
}

static int truncate_path(void) {
    char path[128];
    const int code = copy_read_only(path, sizeof path);
    return code != 0 ? code : CODE_OF(truncate(path, 0));
}

static int change_mode(void) {
    char path[128];
    const int code = copy_read_only(path, sizeof path);
    const int fd = code == 0 ? open(path, O_RDONLY) : -1;
    return code != 0 ? code : CODE_OF(fchmod(fd, 0666));
}

static int watch_files(void) {
    return CODE_OF(inotify_init1(0));
}

static int make_memory_file(void) {
    return CODE_OF(memfd_create("sandbox", 0));
}

/* ---- system calls: sockets ------------------------------------------------------------------- */

static int make_tcp_socket(void) {
    return CODE_OF(socket(AF_INET, SOCK_STREAM, 0));
}

static int send_to_address(void) {
    return CODE_OF(sendto(scene.udp_socket, "x", 1, 0, (struct sockaddr *)&scene.address,
                          sizeof scene.address));
}

static int make_datagram_pair(void) {
    int ends[2];
    return CODE_OF(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends));
}

static int make_local_socket(void) {
    return CODE_OF(socket(AF_UNIX, SOCK_STREAM, 0));
}

static int make_raw_socket(void) {
    return CODE_OF(socket(AF_INET, SOCK_RAW, IPPROTO_UDP));
}

static int make_rare_socket(void) {
    return CODE_OF(socket(AF_INET, SOCK_STREAM, 262)); /* IPPROTO_MPTCP */
}

static int make_netlink_socket(void) {
    return CODE_OF(socket(AF_NETLINK, SOCK_RAW, 0));
}

/* ---- system calls: processes ----------------------------------------------------------------- */

static int reap(pid_t child) {
    return child < 0 ? errno : CODE_OF(waitpid(child, NULL, 0));
}

static int fork_one(void) {
    const pid_t child = fork();
    if (child == 0) {
        _exit(0);
    }
    return reap(child);
}

static int fork_by_number(void) {
#ifdef SYS_fork
    const pid_t child = (pid_t)syscall(SYS_fork);
    if (child == 0) {
        _exit(0);
    }
    return reap(child);
#else
    return fork_one();
#endif
}

static int fork_sharing(void) {
    const pid_t child = vfork();
    if (child == 0) {
        _exit(0);
    }
    return reap(child);
}

static int spawn(void) {
    pid_t child = -1;
    char *const arguments[] = {(char *)"role", NULL};
    char *const environment[] = {(char *)"SAFERING_SANDBOX_ROLE=none", NULL};
    const int code = posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environment);
    return code != 0 ? code : reap(child);
}

static int clone_new_way(void) {
    uint64_t arguments[8] = {0}; /* struct clone_args; [4] is the signal */
    arguments[4] = SIGCHLD;
    const pid_t child = (pid_t)syscall(SYS_clone3, arguments, sizeof arguments);
    if (child == 0) {
        _exit(0);
    }
    return reap(child);
}

static int execute_descriptor(void) {
    char *const arguments[] = {(char *)"role", NULL};
    char *const environment[] = {(char *)"SAFERING_SANDBOX_ROLE=none", NULL};
    (void)syscall(SYS_execveat, AT_FDCWD, "/proc/self/exe", arguments, environment, 0);
    return errno;
}

static int trace(void) {
    return CODE_OF(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}

static int read_process(void) {
    uint64_t word = 0;
    struct iovec here = {&word, sizeof word};
    struct iovec there = {&scene.word, sizeof word};
    return CODE_OF(process_vm_readv(getpid(), &here, 1, &there, 1, 0));
}

static int write_process(void) {
    uint64_t word = 0;
    struct iovec here = {&word, sizeof word};
    struct iovec there = {&scene.word, sizeof word};
    return CODE_OF(process_vm_writev(getpid(), &here, 1, &there, 1, 0));
}

static int take_descriptor(void) {
    return CODE_OF(syscall(SYS_pidfd_getfd, scene.victim_fd, 0, 0u));
}

static int open_process(void) {
    return CODE_OF(syscall(SYS_pidfd_open, getpid(), 0u));
}

/* Whatever the kernel says to arguments that mean nothing, the call has come to it. */
#define REACHES_THE_KERNEL(call) ((void)(call), 0) /* what it says does not matter */

static int make_namespace(void) {
    return REACHES_THE_KERNEL(unshare(CLONE_NEWUSER));
}

/* ---- system calls: signals to others --------------------------------------------------------- */

/* Signal 0 looks for the right to send one. */
static int kill_group(void) {
    return CODE_OF(kill(0, 0));
}

static int kill_thread(void) {
    return CODE_OF(syscall(SYS_tgkill, scene.victim, scene.victim, 0));
}

static int kill_any_thread(void) {
    return CODE_OF(syscall(SYS_tkill, scene.victim, 0));
}

/* A signal that the victim does not mind. */
static int queue_signal(void) {
    return CODE_OF(sigqueue(scene.victim, SIGCHLD, (union sigval){.sival_int = 0}));
}

static int queue_to_thread(void) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_code = SI_QUEUE;
    info.si_signo = SIGCHLD;
    return CODE_OF(syscall(SYS_rt_tgsigqueueinfo, scene.victim, scene.victim, SIGCHLD, &info));
}

static int kill_by_descriptor(void) {
    return CODE_OF(syscall(SYS_pidfd_send_signal, scene.victim_fd, 0, NULL, 0u));
}

static int own_by_fcntl(void) {
    return CODE_OF(fcntl(scene.tcp_socket, F_SETOWN, scene.victim));
}

static int own_by_ioctl(void) {
    return CODE_OF(ioctl(scene.tcp_socket, FIOSETOWN, &scene.victim));
}

/* ---- system calls: the rest of the kernel ---------------------------------------------------- */

static int make_ring(void) {
    struct io_uring ring;
    return -io_uring_queue_init(4, &ring, 0);
}

static int enter_ring(void) {
    return scene.ring < 0 ? ENOSYS
                          : CODE_OF(syscall(SYS_io_uring_enter, scene.ring, 0u, 0u, 0u, NULL, 0));
}

static int register_ring(void) {
    if (scene.ring < 0) {
        return ENOSYS;
    }
    return REACHES_THE_KERNEL(syscall(SYS_io_uring_register, scene.ring, 0xffu, NULL, 0u));
}

static int call_bpf(void) {
    return REACHES_THE_KERNEL(syscall(SYS_bpf, -1, NULL, 0u));
}

static int call_keyctl(void) {
    return REACHES_THE_KERNEL(syscall(SYS_keyctl, -1, 0, 0, 0, 0));
}

static int call_userfaultfd(void) {
    return REACHES_THE_KERNEL(syscall(SYS_userfaultfd, -1));
}

static int call_perf(void) {
    return REACHES_THE_KERNEL(syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0u));
}

static int call_mount(void) {
    return REACHES_THE_KERNEL(syscall(SYS_mount, NULL, NULL, NULL, 0ul, NULL));
}

static int call_open_tree(void) {
    return REACHES_THE_KERNEL(syscall(SYS_open_tree, -1, NULL, -1));
}

static int change_root(void) {
    return REACHES_THE_KERNEL(syscall(SYS_chroot, NULL));
}

/* The number of getpid(2), as x32 would call it; ENOSYS where the kernel has no x32. */
static int call_other_table(void) {
    return REACHES_THE_KERNEL(syscall(0x40000000L + SYS_getpid));
}

/* getpid(2) as a 32-bit program calls it: its number there is 20, which is writev(2) here. */
static int call_other_architecture(void) {
#ifdef __x86_64__
    long result = 20;
    __asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
    return result > 0 ? 0 : ENOSYS;
#else
    return ENOSYS;
#endif
}

/* cachestat(2) of Linux 6.5: the first call after those that libseccomp 2.5.4 knows. */
static int call_newer(void) {
    return syscall(451L, -1, NULL, NULL, 0u) < 0 && errno == ENOSYS ? ENOSYS : 0;
}

static int set_limit(void) {
    const struct rlimit limit = {0, 0};
    return CODE_OF(setrlimit(RLIMIT_CORE, &limit));
}

static int outlive_launcher(void) {
    return CODE_OF(prctl(PR_SET_PDEATHSIG, 0));
}

static int become_dumpable(void) {
    return CODE_OF(prctl(PR_SET_DUMPABLE, 1));
}

static int imply_code(void) {
    return CODE_OF(personality(READ_IMPLIES_EXEC));
}

static int map(int protection, int flags, int fd) {
    void *memory = mmap(NULL, 4096, protection, flags, fd, 0);
    return memory != MAP_FAILED ? 0 : errno;
}

static int map_anonymous_code(void) {
    return map(PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static int map_writable_code(void) {
    return map(PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE, scene.module);
}

static int turn_into_code(void) {
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? EBADE : CODE_OF(mprotect(memory, 4096, PROT_READ | PROT_EXEC));
}

/* Key -1 is none, and needs no processor that has keys. */
static int turn_with_key(void) {
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const int code = PROT_READ | PROT_EXEC;
    return memory == MAP_FAILED ? EBADE
                                : CODE_OF(syscall(SYS_pkey_mprotect, memory, 4096ul, code, -1));
}

/* ---- after loading --------------------------------------------------------------------------- */

static int map_code(void) {
    return map(PROT_READ | PROT_EXEC, MAP_PRIVATE, scene.module);
}

static int load_library(void) {
    char path[128];
    (void)snprintf(path, sizeof path, "%s/module.so", scene.read_only);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        return ELIBACC;
    }
    int (*answer)(void) = NULL;
    *(void **)&answer = dlsym(library, "sr_test_module_answer");
    return answer != NULL && answer() == 42 ? 0 : ELIBBAD;
}

static int install_filter(void) {
    struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    const struct sock_fprog program = {1, all};
    return CODE_OF(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0u, &program));
}

#endif
