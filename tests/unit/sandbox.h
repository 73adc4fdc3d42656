/* SPDX-License-Identifier: MIT */
/*
 * Jail: runs a small act in a child that has entered a sandbox, and says exactly how it ended. What
 * the act may want to get at (the scene) is made before by the parent.
 */
#ifndef SAFERING_TESTS_UNIT_SANDBOX_H
#define SAFERING_TESTS_UNIT_SANDBOX_H

#include "worker/sandbox.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define JAIL_HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define JAIL_HAS_ASAN 1
#endif
#endif
#ifndef JAIL_HAS_ASAN
#define JAIL_HAS_ASAN 0
#endif

#define JAIL_NOBODY     65534u
#define JAIL_TIMEOUT_MS 30000

/* Results of a run besides 0 and a positive errno; a signal is negative. */
#define JAIL_NOT_ENTERED 1000 /* see the report */
#define JAIL_BROKEN      1001 /* the harness itself failed, and has said why */

/* ---- the scene ------------------------------------------------------------------------------- */

struct jail_scene {
    char directory[64]; /* with outside.txt in it */
    char read_only[80]; /* with file.txt, link.txt and module.so */
    char read_write[80];
    pid_t victim; /* a process of the same user that sleeps */
    int victim_fd;
    int victim_door; /* it ends when this is closed */
    int secret;      /* a descriptor that is not the sandbox's */
    int secret_high; /* the same under a high number */
    int input[2];    /* becomes standard input */
    int listener;    /* on 127.0.0.1 */
    struct sockaddr_in address;
    int abstract_listener;
    struct sockaddr_un abstract;
    socklen_t abstract_length;
    int segment; /* of System V shared memory */
    uint64_t word;
    /* Made anew in each child, before it enters; these stay open. */
    int tcp_socket;
    int udp_socket;
    int file;   /* file.txt, for reading */
    int module; /* module.so, for reading */
    int ring;   /* -1: there is no io_uring here */
};

static struct jail_scene scene;

/* A small library, so that the test needs no file beside itself. */
__asm__(".pushsection .rodata\n"
        "jail_module_begin: .incbin \"" JAIL_MODULE "\"\n"
        "jail_module_end: .byte 0\n"
        ".popsection\n");
extern const char jail_module_begin[];
extern const char jail_module_end[];

static void jail_write_file(const char *directory, const char *name, const char *bytes,
                            size_t length) {
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    cr_assert(fd >= 0, "%s: %s", path, strerror(errno));
    cr_assert_eq(fchmod(fd, 0644), 0);
    cr_assert_eq(write(fd, bytes, length), (ssize_t)length);
    cr_assert_eq(close(fd), 0);
}

static void jail_make_files(void) {
    char path[256];
    char target[256];
    (void)snprintf(scene.directory, sizeof scene.directory, "/tmp/safering-sandbox-XXXXXX");
    cr_assert_not_null(mkdtemp(scene.directory));
    (void)snprintf(scene.read_only, sizeof scene.read_only, "%s/ro", scene.directory);
    (void)snprintf(scene.read_write, sizeof scene.read_write, "%s/rw", scene.directory);
    cr_assert_eq(chmod(scene.directory, 0777), 0);
    cr_assert_eq(mkdir(scene.read_only, 0777), 0);
    cr_assert_eq(mkdir(scene.read_write, 0777), 0);
    cr_assert_eq(chmod(scene.read_only, 0777), 0);
    cr_assert_eq(chmod(scene.read_write, 0777), 0);
    jail_write_file(scene.directory, "outside.txt", "outside", 7);
    jail_write_file(scene.read_only, "file.txt", "inside", 6);
    jail_write_file(scene.read_only, "module.so", jail_module_begin,
                    (size_t)(jail_module_end - jail_module_begin));
    (void)snprintf(path, sizeof path, "%s/link.txt", scene.read_only);
    (void)snprintf(target, sizeof target, "%s/outside.txt", scene.directory);
    cr_assert_eq(symlink(target, path), 0);
}

static void jail_make_listeners(void) {
    socklen_t length = sizeof scene.address;
    scene.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    scene.address.sin_family = AF_INET;
    scene.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_eq(bind(scene.listener, (struct sockaddr *)&scene.address, sizeof scene.address), 0);
    cr_assert_eq(listen(scene.listener, 16), 0);
    cr_assert_eq(getsockname(scene.listener, (struct sockaddr *)&scene.address, &length), 0);
    scene.abstract_listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    scene.abstract.sun_family = AF_UNIX;
    const int named = snprintf(scene.abstract.sun_path + 1, sizeof scene.abstract.sun_path - 1,
                               "%s", scene.directory);
    scene.abstract_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)named);
    cr_assert_eq(
        bind(scene.abstract_listener, (struct sockaddr *)&scene.abstract, scene.abstract_length),
        0);
    cr_assert_eq(listen(scene.abstract_listener, 16), 0);
}

static void jail_start_victim(void) {
    int ends[2];
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    scene.word = UINT64_C(0x5ec7e75ec7e7);
    scene.victim = fork();
    cr_assert(scene.victim >= 0);
    if (scene.victim == 0) {
        char byte;
        (void)close(ends[1]);
        while (read(ends[0], &byte, 1) < 0) {
        }
        _exit(0);
    }
    (void)close(ends[0]);
    scene.victim_door = ends[1];
    scene.victim_fd = (int)syscall(SYS_pidfd_open, scene.victim, 0u);
}

static void jail_open(void) {
    memset(&scene, 0, sizeof scene);
    jail_make_files();
    jail_make_listeners();
    jail_start_victim();
    scene.secret = open("/dev/null", O_WRONLY | O_CLOEXEC);
    scene.secret_high = fcntl(scene.secret, F_DUPFD_CLOEXEC, 500);
    cr_assert(scene.secret >= 0 && scene.secret_high >= 500);
    cr_assert_eq(pipe2(scene.input, O_CLOEXEC), 0);
    scene.segment = shmget(IPC_PRIVATE, 4096, 0600);
}

static void jail_remove_all(const char *directory) {
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", directory);
    cr_assert_eq(system(command), 0);
}

static void jail_close(void) {
    int status = 0;
    if (scene.segment >= 0) {
        (void)shmctl(scene.segment, IPC_RMID, NULL);
    }
    (void)close(scene.victim_door);
    cr_assert_eq(waitpid(scene.victim, &status, 0), scene.victim);
    cr_expect_eq(status, 0, "somebody got at the victim: status %#x", status);
    jail_remove_all(scene.directory);
}

/* ---- a run ----------------------------------------------------------------------------------- */

typedef int jail_act(void); /* 0, or the errno of what failed */

struct jail_run {
    struct sri_sandbox_policy policy;
    bool is_free;     /* enters nothing: the control */
    bool is_nobody;   /* if it is root, it becomes nobody first */
    jail_act *before; /* between the loading and the serving; 0, or the run ends with its result */
    jail_act *act;
};

/* What the child leaves for its parent. */
struct jail_shared {
    struct sri_sandbox_report report;
    int code;
    int result; /* of a worker below an init */
    bool has_result;
};

static struct jail_shared *jail_shared;

static _Noreturn void jail_broken(const char *what) {
    fprintf(stderr, "jail: %s: %s\n", what, strerror(errno));
    jail_shared->result = JAIL_BROKEN;
    jail_shared->has_result = true;
    _exit(0);
}

static void jail_enter(const struct jail_run *run, enum sri_sandbox_step step) {
    if (run->is_free) {
        return;
    }
    jail_shared->code = sri_sandbox_enter(&run->policy, step, &jail_shared->report);
    if (jail_shared->code != 0) {
        jail_shared->result = JAIL_NOT_ENTERED;
        jail_shared->has_result = true;
        _exit(0);
    }
}

/* What an act is given, and what it should not have. */
static void jail_prepare(struct jail_run *run) {
    static const struct sigaction ignored = {.sa_handler = SIG_IGN};
    char path[128];
    sigset_t blocked;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)sigaction(SIGTERM, &ignored, NULL);
    (void)sigemptyset(&blocked);
    (void)sigaddset(&blocked, SIGUSR1);
    (void)sigprocmask(SIG_BLOCK, &blocked, NULL);
    (void)umask(0);
    if (run->is_nobody && geteuid() == 0) {
        if (setresgid(JAIL_NOBODY, JAIL_NOBODY, JAIL_NOBODY) != 0 ||
            setresuid(JAIL_NOBODY, JAIL_NOBODY, JAIL_NOBODY) != 0 ||
            prctl(PR_SET_DUMPABLE, 1) != 0) {
            jail_broken("becoming nobody");
        }
    }
    if (chdir(scene.directory) != 0 || write(scene.input[1], "input", 5) != 5 ||
        dup2(scene.input[0], STDIN_FILENO) != STDIN_FILENO) {
        jail_broken("standard input");
    }
    (void)snprintf(path, sizeof path, "%s/file.txt", scene.read_only);
    scene.file = open(path, O_RDONLY);
    (void)snprintf(path, sizeof path, "%s/module.so", scene.read_only);
    scene.module = open(path, O_RDONLY);
    scene.tcp_socket = socket(AF_INET, SOCK_STREAM, 0);
    scene.udp_socket = socket(AF_INET, SOCK_DGRAM, 0);
    unsigned char parameters[120] = {0}; /* struct io_uring_params */
    scene.ring = (int)syscall(SYS_io_uring_setup, 1u, parameters);
    if (scene.file < 0 || scene.module < 0 || scene.tcp_socket < 0 || scene.udp_socket < 0) {
        jail_broken("the scene");
    }
    if (run->is_free) {
        return;
    }
    if (sri_sandbox_policy_add_fd(&run->policy, STDERR_FILENO) != 0 ||
        sri_sandbox_policy_add_fd(&run->policy, scene.file) != 0 ||
        sri_sandbox_policy_add_fd(&run->policy, scene.module) != 0 ||
        sri_sandbox_policy_add_fd(&run->policy, scene.tcp_socket) != 0 ||
        sri_sandbox_policy_add_fd(&run->policy, scene.udp_socket) != 0 ||
        sri_sandbox_policy_add_fd(&run->policy, scene.victim_fd) != 0 ||
        (scene.ring >= 0 && sri_sandbox_policy_add_fd(&run->policy, scene.ring) != 0)) {
        jail_broken("the policy's descriptors");
    }
}

static _Noreturn void jail_work(const struct jail_run *run) {
    jail_enter(run, SRI_SANDBOX_BEFORE_EXEC);
    jail_enter(run, SRI_SANDBOX_BEFORE_LOAD);
    const int loaded = run->before != NULL ? run->before() : 0;
    if (loaded != 0) {
        _exit(loaded);
    }
    jail_enter(run, SRI_SANDBOX_BEFORE_SERVE);
    _exit(run->act());
}

static int jail_result(int status) {
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int jail_wait(pid_t child) {
    int status = 0;
    pid_t got = 0;
    do {
        got = waitpid(child, &status, 0);
    } while (got < 0 && errno == EINTR);
    return got == child ? jail_result(status) : JAIL_BROKEN;
}

/* In a new pid namespace the first child is its init, on which signals without a handler have no
 * effect; the worker is a child of that. */
static _Noreturn void jail_work_below_init(const struct jail_run *run) {
    const pid_t init = fork();
    if (init == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        const pid_t worker = fork();
        if (worker == 0) {
            jail_work(run);
        }
        const int result = worker > 0 ? jail_wait(worker) : JAIL_BROKEN;
        if (!jail_shared->has_result) {
            jail_shared->result = result;
            jail_shared->has_result = true;
        }
        _exit(0);
    }
    _exit(init > 0 && jail_wait(init) == 0 ? 0 : 255);
}

static int jail_wait_bounded(pid_t child) {
    struct pollfd ended = {.fd = (int)syscall(SYS_pidfd_open, child, 0u), .events = POLLIN};
    cr_assert(ended.fd >= 0);
    int ready = 0;
    do {
        ready = poll(&ended, 1, JAIL_TIMEOUT_MS);
    } while (ready < 0 && errno == EINTR);
    if (ready == 0) {
        (void)kill(child, SIGKILL);
    }
    const int result = jail_wait(child);
    (void)close(ended.fd);
    cr_assert_eq(ready, 1, "the child did not end");
    return result;
}

/* Runs it; what @run's sandbox has reported is in jail_shared->report until the next run. */
static int jail_run(struct jail_run run) {
    if (jail_shared == NULL) {
        jail_shared = mmap(NULL, sizeof *jail_shared, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        cr_assert(jail_shared != MAP_FAILED);
    }
    memset(jail_shared, 0, sizeof *jail_shared);
    sri_sandbox_report_init(&jail_shared->report);
    const pid_t child = fork();
    cr_assert(child >= 0);
    if (child == 0) {
        jail_prepare(&run);
        jail_enter(&run, SRI_SANDBOX_BEFORE_FORK);
        if (!run.is_free &&
            jail_shared->report.layers[SRI_SANDBOX_PID_NAMESPACE].state == SRI_SANDBOX_HOLDS) {
            jail_work_below_init(&run);
        }
        jail_work(&run);
    }
    const int result = jail_wait_bounded(child);
    char rest[8];
    /* What the act did not read, so that the next one finds the same. */
    (void)fcntl(scene.input[0], F_SETFL, O_NONBLOCK);
    while (read(scene.input[0], rest, sizeof rest) > 0) {
    }
    (void)fcntl(scene.input[0], F_SETFL, 0);
    return jail_shared->has_result ? jail_shared->result : result;
}

/* ---- policies -------------------------------------------------------------------------------- */

static struct sri_sandbox_policy jail_policy(const char *text) {
    struct sri_sandbox_policy policy;
    uint32_t position = 0;
    const int code = sri_sandbox_policy_parse(text, &policy, &position);
    cr_assert_eq(code, 0, "%s: %d at %u", text, code, position);
    if (JAIL_HAS_ASAN) {
        policy.memory_bytes = 0; /* its shadow memory alone is 20 TB of address space */
    }
    return policy;
}

/* strict, with the two folders of the scene. */
static inline struct sri_sandbox_policy jail_strict(void) {
    char text[256];
    (void)snprintf(text, sizeof text, "strict,path-ro=%s,path-rw=%s", scene.read_only,
                   scene.read_write);
    return jail_policy(text);
}

/* Leaves only @layers, which are all required; and what these need. */
static inline void jail_keep_layers(struct sri_sandbox_policy *policy, uint32_t layers) {
    if ((layers & SRI_SANDBOX_BIT(NO_NEW_CODE)) != 0) {
        layers |= SRI_SANDBOX_BIT(CALLS);
    }
    const uint32_t alone = SRI_SANDBOX_BIT(DESCRIPTORS) | SRI_SANDBOX_BIT(SURROUNDINGS) |
                           SRI_SANDBOX_BIT(LIMITS) | SRI_SANDBOX_BIT(USER_NAMESPACE) |
                           SRI_SANDBOX_BIT(UNDUMPABLE);
    const uint32_t spaces = SRI_SANDBOX_BIT(NETWORK_NAMESPACE) | SRI_SANDBOX_BIT(IPC_NAMESPACE) |
                            SRI_SANDBOX_BIT(PID_NAMESPACE) | SRI_SANDBOX_BIT(PROCESSES);
    if ((layers & spaces) != 0) {
        layers |= SRI_SANDBOX_BIT(USER_NAMESPACE);
    }
    if ((layers & ~(alone | spaces)) != 0) {
        layers |= SRI_SANDBOX_BIT(NO_NEW_PRIVILEGES);
    }
    policy->layers_asked = layers;
    policy->layers_required = layers;
}

#endif
