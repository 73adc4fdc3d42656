/* SPDX-License-Identifier: MIT */
/*
 * For each line of worker/sandbox_rules.h a violator: it must succeed without a sandbox (the
 * control), end as the line says where its layer stands alone, and not succeed where all layers
 * stand.
 */
#include "worker/sandbox_rules.h"

#include "support/scale.h"
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

static int use_time(void) {
    struct timespec used;
    do {
        (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    } while (used.tv_sec < 1 || used.tv_nsec < 300000000);
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
    return CODE_OF(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
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

/* ---- the table ------------------------------------------------------------------------------- */

enum violator_flags {
    NO_PATHS = 1u << 0,
    NETWORK = 1u << 1,
    WHOLE_TREE = 1u << 2,     /* the policy's only path is / */
    AS_NOBODY = 1u << 3,      /* also if the test is root */
    MAY_BE_MISSING = 1u << 4, /* the control may fail on this machine, and then nothing is tested */
    NOT_UNDER_ASAN = 1u << 5  /* its allocator needs what the layer takes */
};

static const struct violator {
    jail_act *act;
    unsigned int flags;
} violators[SRI_SANDBOX_RULE_COUNT] = {
#define WHEN(rule, ...) [SRI_SANDBOX_RULE_##rule] = {__VA_ARGS__}
    WHEN(STRANGER_MEMORY, read_victim, MAY_BE_MISSING), /* Yama may forbid it */
    WHEN(HOST_LOOPBACK, connect_to_host, 0),
    WHEN(HOST_SEGMENT, look_at_segment, MAY_BE_MISSING), /* a kernel without System V */
    WHEN(HOST_PROCESS, find_victim, 0),
    WHEN(SURPLUS_DESCRIPTOR, write_secret, 0),
    WHEN(STANDARD_INPUT, read_input, 0),
    WHEN(IGNORED_SIGNAL, survive_signal, 0),
    WHEN(BLOCKED_SIGNAL, hold_signal_back, 0),
    WHEN(HOST_DIRECTORY, open_relative, 0),
    WHEN(OPEN_UMASK, make_open_file, 0),
    WHEN(MANY_PROCESSES, fork_many, AS_NOBODY),
    WHEN(MUCH_MEMORY, take_memory, NOT_UNDER_ASAN),
    WHEN(MUCH_TIME, use_time, 0),
    WHEN(LONG_FILE, write_long_file, 0),
    WHEN(MANY_FILES, open_many, 0),
    WHEN(CORE_DUMP, may_dump_core, MAY_BE_MISSING), /* who started the test may have forbidden it */
    WHEN(HIGHER_LIMIT, raise_files, 0),
    WHEN(ROOT_POWERS, give_file_away, MAY_BE_MISSING), /* needs root */
    WHEN(SET_USER_ID, become_root, AS_NOBODY | MAY_BE_MISSING),
    WHEN(OWN_MEMORY_FILE, open_own_memory, AS_NOBODY),
    WHEN(OPEN_OUTSIDE, open_outside, 0),
    WHEN(LIST_OUTSIDE, list_outside, 0),
    WHEN(MAKE_OUTSIDE, make_outside, 0),
    WHEN(LINK_OUTSIDE, open_link, 0),
    WHEN(WRITE_READ_ONLY, write_read_only, 0),
    WHEN(MAKE_READ_ONLY, make_in_read_only, 0),
    WHEN(REMOVE_READ_ONLY, remove_read_only, 0),
    WHEN(MOVE_READ_ONLY, move_read_only, 0),
    WHEN(LINK_READ_ONLY, link_read_only, 0),
    WHEN(EXECUTE_FILE, execute_file, WHOLE_TREE),
    WHEN(CONNECT_TCP, connect_tcp, 0),
    WHEN(BIND_TCP, bind_tcp, 0),
    WHEN(SIGNAL_OUTSIDE, find_victim, 0),
    WHEN(ABSTRACT_SOCKET, connect_abstract, 0),
    WHEN(OPEN_WITHOUT_PATHS, open_inside, NO_PATHS),
    WHEN(EMPTY_READ_ONLY, empty_read_only, 0),
    WHEN(TRUNCATE_PATH, truncate_path, 0),
    WHEN(CHANGE_MODE, change_mode, 0),
    WHEN(WATCH_FILES, watch_files, 0),
    WHEN(MEMORY_FILE, make_memory_file, 0),
    WHEN(MAKE_SOCKET, make_tcp_socket, 0),
    WHEN(USE_CONNECT, connect_tcp, 0),
    WHEN(USE_BIND, bind_tcp, 0),
    WHEN(SEND_TO_ADDRESS, send_to_address, 0),
    WHEN(DATAGRAM_PAIR, make_datagram_pair, 0),
    WHEN(LOCAL_SOCKET, make_local_socket, NETWORK),
    WHEN(RAW_SOCKET, make_raw_socket, NETWORK | MAY_BE_MISSING), /* needs root */
    WHEN(NETLINK_SOCKET, make_netlink_socket, NETWORK),
    WHEN(FORK, fork_one, 0),
    WHEN(OLD_FORK, fork_by_number, 0),
    WHEN(VFORK, fork_sharing, 0),
    WHEN(SPAWN, spawn, 0),
    WHEN(CLONE3, clone_new_way, 0),
    WHEN(EXECUTE, execute_file, 0),
    WHEN(EXECUTE_DESCRIPTOR, execute_descriptor, 0),
    WHEN(TRACE, trace, 0),
    WHEN(READ_PROCESS, read_process, 0),
    WHEN(WRITE_PROCESS, write_process, 0),
    WHEN(TAKE_DESCRIPTOR, take_descriptor, MAY_BE_MISSING), /* Yama may forbid it */
    WHEN(OPEN_PROCESS, open_process, 0),
    WHEN(NAMESPACES, make_namespace, 0),
    WHEN(KILL, find_victim, 0),
    WHEN(KILL_GROUP, kill_group, 0),
    WHEN(KILL_THREAD, kill_thread, 0),
    WHEN(KILL_ANY_THREAD, kill_any_thread, 0),
    WHEN(QUEUE_SIGNAL, queue_signal, 0),
    WHEN(QUEUE_TO_THREAD, queue_to_thread, 0),
    WHEN(KILL_BY_DESCRIPTOR, kill_by_descriptor, 0),
    WHEN(FCNTL_OWNER, own_by_fcntl, 0),
    WHEN(IOCTL_OWNER, own_by_ioctl, 0),
    WHEN(MAKE_RING, make_ring, MAY_BE_MISSING), /* io_uring may be denied */
    WHEN(ENTER_RING, enter_ring, MAY_BE_MISSING),
    WHEN(REGISTER_RING, register_ring, MAY_BE_MISSING),
    WHEN(BPF, call_bpf, 0),
    WHEN(KEYS, call_keyctl, 0),
    WHEN(USER_FAULTS, call_userfaultfd, 0),
    WHEN(PERFORMANCE, call_perf, 0),
    WHEN(MOUNT, call_mount, 0),
    WHEN(MOUNT_TREE, call_open_tree, 0),
    WHEN(CHANGE_ROOT, change_root, 0),
    WHEN(OTHER_TABLE, call_other_table, 0),
    WHEN(OTHER_ARCHITECTURE, call_other_architecture, MAY_BE_MISSING),
    WHEN(NEWER_CALL, call_newer, MAY_BE_MISSING), /* Linux 6.5 */
    WHEN(RAISE_LIMIT, set_limit, 0),
    WHEN(OUTLIVE_LAUNCHER, outlive_launcher, 0),
    WHEN(BECOME_DUMPABLE, become_dumpable, 0),
    WHEN(IMPLIED_CODE, imply_code, 0),
    WHEN(ANONYMOUS_CODE, map_anonymous_code, 0),
    WHEN(WRITABLE_CODE, map_writable_code, 0),
    WHEN(TURN_INTO_CODE, turn_into_code, 0),
    WHEN(TURN_WITH_KEY, turn_with_key, 0),
    WHEN(MAP_CODE, map_code, 0),
    WHEN(LOAD_LIBRARY, load_library, 0),
    WHEN(MORE_FILTERS, install_filter, 0),
#undef WHEN
};

#define FAILS(code)  (code)
#define DIES(signal) (-(signal))

static const struct rule {
    const char *name;
    enum sri_sandbox_layer layer;
    int end;
    const char *text;
} rules[SRI_SANDBOX_RULE_COUNT] = {
#define ROW(name, layer, end, text)                                                                \
    [SRI_SANDBOX_RULE_##name] = {#name, SRI_SANDBOX_##layer, end, text},
    SRI_SANDBOX_RULES(ROW)
#undef ROW
};

/* ---- one rule -------------------------------------------------------------------------------- */

static struct sri_sandbox_policy policy_for(const struct violator *violator) {
    struct sri_sandbox_policy policy = jail_strict();
    if ((violator->flags & NO_PATHS) != 0) {
        policy.path_count = 0;
    }
    if ((violator->flags & WHOLE_TREE) != 0) {
        policy = jail_policy("path-ro=/");
    }
    if ((violator->flags & NETWORK) != 0) {
        policy = jail_policy("network");
    }
    /* Small, so that the violators are soon there. The memory is more than this program has. */
    policy.memory_bytes = policy.memory_bytes != 0 ? UINT64_C(1) << 30 : 0;
    policy.file_bytes = 1 << 20;
    policy.cpu_s = 1;
    policy.files_max = 64;
    policy.processes_max = 16;
    return policy;
}

/* The act where the layer is missing: without any sandbox, or for what comes after loading in all
 * the layers before. */
static int run_control(const struct rule *rule, const struct violator *violator) {
    struct jail_run run = {.policy = policy_for(violator), .act = violator->act};
    run.is_nobody = (violator->flags & AS_NOBODY) != 0;
    if (rule->layer == SRI_SANDBOX_NO_NEW_CODE) {
        jail_keep_layers(&run.policy, SRI_SANDBOX_BIT(CALLS));
    } else {
        run.is_free = true;
    }
    return jail_run(run);
}

static int run_alone(const struct rule *rule, const struct violator *violator) {
    struct jail_run run = {.policy = policy_for(violator), .act = violator->act};
    run.is_nobody = (violator->flags & AS_NOBODY) != 0;
    uint32_t layers = UINT32_C(1) << rule->layer;
    if (rule->layer == SRI_SANDBOX_LIMITS) {
        layers |= SRI_SANDBOX_BIT(CAPABILITIES); /* root may raise any limit */
    }
    jail_keep_layers(&run.policy, layers);
    return jail_run(run);
}

/* Namespaces take longer to make and to end than all the rest, and stop what they stop in their own
 * rules. */
static int run_with_all(const struct rule *rule, const struct violator *violator) {
    struct jail_run run = {.policy = policy_for(violator), .act = violator->act};
    run.is_nobody = (violator->flags & AS_NOBODY) != 0;
    if (rule->layer > SRI_SANDBOX_PROCESSES) {
        run.policy.layers_asked &=
            ~(SRI_SANDBOX_BIT(USER_NAMESPACE) | SRI_SANDBOX_BIT(NETWORK_NAMESPACE) |
              SRI_SANDBOX_BIT(IPC_NAMESPACE) | SRI_SANDBOX_BIT(PID_NAMESPACE));
    }
    return jail_run(run);
}

/* The set-user-ID program, and the file that controls take away. */
static void renew_files(void) {
    char path[128];
    char program[4096];
    jail_write_file(scene.read_only, "spare.txt", "spare", 5);
    (void)snprintf(path, sizeof path, "%s/linked.txt", scene.read_write);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/given.txt", scene.read_write);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/who", scene.directory);
    if (geteuid() != 0 || access(path, F_OK) == 0) {
        return;
    }
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    cr_assert(length > 0);
    program[length] = '\0';
    char command[8192];
    (void)snprintf(command, sizeof command, "cp '%s' '%s'", program, path);
    cr_assert_eq(system(command), 0);
    cr_assert_eq(chmod(path, 04755), 0);
}

/* The results as words, for messages. */
static const char *end_text(int result) {
    static char texts[4][64];
    static unsigned int next;
    char *text = texts[next++ % 4];
    if (result == 0) {
        return "succeeds";
    }
    if (result == JAIL_NOT_ENTERED || result == JAIL_BROKEN) {
        (void)snprintf(
            text, sizeof texts[0], "%s (layer %s, %s)",
            result == JAIL_BROKEN ? "jail is broken" : "not entered",
            sri_sandbox_layer_text((enum sri_sandbox_layer)jail_shared->report.failed_layer),
            strerror(-jail_shared->code));
        return text;
    }
    (void)snprintf(text, sizeof texts[0], "%s", result < 0 ? strsignal(-result) : strerror(result));
    return text;
}

/* At a small scale only some are: each makes a new set of namespaces. */
static bool is_tested_with_all(void) {
    static struct scale_random random;
    if (random.state == 0) {
        random = scale_random(0);
    }
    return scale_random_below(&random, 1000) < scale_count(1000, 100);
}

/* NULL, or why the layer that the last run required is not to be had on this machine. Whatever else
 * keeps a run from entering is a failure. */
static const char *machine_lacks(void) {
    static char reason[160];
    const int code = jail_shared->code;
    const uint32_t layer = jail_shared->report.failed_layer;
    const bool is_namespace = layer <= SRI_SANDBOX_PID_NAMESPACE;
    const bool is_landlock = layer >= SRI_SANDBOX_FILES && layer <= SRI_SANDBOX_SCOPE;
    if ((is_namespace && (code == -EPERM || code == -ENOSPC || code == -EUSERS)) ||
        (is_landlock && (code == -EOPNOTSUPP || code == -ENOSYS))) {
        (void)snprintf(reason, sizeof reason, "not to be had here: %s (%s)",
                       sri_sandbox_layer_text((enum sri_sandbox_layer)layer), strerror(-code));
        return reason;
    }
    return NULL;
}

/* NULL, or why it was not tested. */
static const char *test_rule(const struct rule *rule, const struct violator *violator) {
    if (JAIL_HAS_ASAN && (violator->flags & NOT_UNDER_ASAN) != 0) {
        return "AddressSanitizer needs more address space than any limit leaves";
    }
    renew_files();
    const int free_end = run_control(rule, violator);
    if (free_end != 0 && (violator->flags & MAY_BE_MISSING) != 0) {
        return "it does not succeed without a sandbox either";
    }
    cr_assert_eq(free_end, 0, "%s: the control: %s", rule->name, end_text(free_end));
    renew_files();
    const int alone = run_alone(rule, violator);
    if (alone == JAIL_NOT_ENTERED && machine_lacks() != NULL) {
        return machine_lacks();
    }
    cr_expect_eq(alone, rule->end, "%s, its layer alone: %s; expected: %s", rule->name,
                 end_text(alone), end_text(rule->end));
    if (!is_tested_with_all()) {
        return NULL;
    }
    renew_files();
    const int with_all = run_with_all(rule, violator);
    cr_expect(with_all != 0 && with_all != JAIL_NOT_ENTERED && with_all != JAIL_BROKEN,
              "%s, all layers: %s", rule->name, end_text(with_all));
    return NULL;
}

static void test_layer(enum sri_sandbox_layer layer) {
    const char *missing = "no rule is written for this layer";
    uint32_t tested = 0;
    jail_open();
    for (uint32_t i = 0; i < SRI_SANDBOX_RULE_COUNT; i++) {
        if (rules[i].layer != layer) {
            continue;
        }
        cr_assert_not_null(violators[i].act, "%s has no violator", rules[i].name);
        const char *reason = test_rule(&rules[i], &violators[i]);
        if (reason == NULL) {
            tested++;
        } else {
            missing = reason;
            fprintf(stderr, "not tested: who %s: %s\n", rules[i].text, reason);
        }
    }
    jail_close();
    if (tested == 0) {
        cr_skip_test("%s", missing);
    }
}

#define LAYER_TEST(name, step, text)                                                               \
    Test(sandbox_rules, name) {                                                                    \
        test_layer(SRI_SANDBOX_##name);                                                            \
    }
SRI_SANDBOX_LAYERS(LAYER_TEST)
#undef LAYER_TEST

Test(sandbox_rules, every_rule_has_a_violator_and_every_layer_a_rule) {
    uint32_t layers = 0;
    for (uint32_t i = 0; i < SRI_SANDBOX_RULE_COUNT; i++) {
        cr_expect_not_null(violators[i].act, "who %s: nobody tries", rules[i].text);
        layers |= UINT32_C(1) << rules[i].layer;
    }
    cr_assert_eq(layers, SRI_SANDBOX_ALL);
}

/* ---- the environment ------------------------------------------------------------------------- */

#define NAMES_MAX 1024

static bool is_environment_kept;

static int look_for_secret(void) {
    static char *kept[NAMES_MAX];
    char *const arguments[] = {(char *)"role", NULL};
    struct sri_sandbox_policy policy = jail_strict();
    if (setenv("SAFERING_SANDBOX_SECRET", "x", 1) != 0 ||
        setenv("SAFERING_SANDBOX_ROLE", "secret", 1) != 0 ||
        sri_sandbox_policy_add_name(&policy, "SAFERING_SANDBOX_ROLE") != 0 ||
        sri_sandbox_environment(&policy, environ, kept, NAMES_MAX) < 1) {
        return EBADE;
    }
    (void)execve("/proc/self/exe", arguments, is_environment_kept ? environ : kept);
    return errno;
}

Test(sandbox_rules, a_secret_of_the_environment_does_not_reach_the_program) {
    jail_open();
    const struct jail_run run = {.is_free = true, .act = look_for_secret};
    is_environment_kept = true;
    cr_assert_eq(jail_run(run), 0, "the control");
    is_environment_kept = false;
    cr_assert_eq(jail_run(run), EPERM);
    jail_close();
}
