/* SPDX-License-Identifier: MIT */
/*
 * Life in a sandbox: what ordinary code needs works, what libraries only try fails softly, what no
 * worker needs ends the process, and a process ends as what it is.
 */
#include "unit/sandbox.h"

#include <dirent.h>
#include <dlfcn.h>
#include <locale.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>

/* ---- ordinary code --------------------------------------------------------------------------- */

/* In a child, so no assertions: the line that failed. */
#define NEEDS(expression)                                                                          \
    do {                                                                                           \
        if (!(expression)) {                                                                       \
            fprintf(stderr, "in the sandbox: line %d: %s: %s\n", __LINE__, #expression,            \
                    strerror(errno));                                                              \
            return EBADE;                                                                          \
        }                                                                                          \
    } while (0)

#define LOCALES "/usr/lib/locale"

static int compare_numbers(const void *left, const void *right) {
    return *(const int *)left - *(const int *)right;
}

static int use_memory(void) {
    int numbers[] = {3, 1, 2};
    char *large = malloc((size_t)64 << 20);
    NEEDS(large != NULL);
    memset(large, 1, (size_t)64 << 20);
    large = realloc(large, (size_t)80 << 20);
    NEEDS(large != NULL && large[12345] == 1);
    free(large);
    for (size_t i = 0; i < 1000; i++) {
        void *small = malloc(1 + i);
        NEEDS(small != NULL);
        free(small);
    }
    qsort(numbers, 3, sizeof numbers[0], compare_numbers);
    NEEDS(numbers[0] == 1 && numbers[2] == 3);
    void *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEEDS(page != MAP_FAILED && mprotect(page, 4096, PROT_NONE) == 0);
    NEEDS(madvise(page, 8192, MADV_DONTNEED) == 0 && munmap(page, 8192) == 0);
    return 0;
}

static pthread_mutex_t ordinary_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ordinary_condition = PTHREAD_COND_INITIALIZER;
static int ordinary_count;

static void *count_up(void *ctx) {
    (void)ctx;
    (void)pthread_setname_np(pthread_self(), "counter");
    (void)pthread_mutex_lock(&ordinary_mutex);
    ordinary_count++;
    (void)pthread_cond_signal(&ordinary_condition);
    (void)pthread_mutex_unlock(&ordinary_mutex);
    return NULL;
}

static int use_threads(void) {
    pthread_t threads[8];
    ordinary_count = 0;
    for (size_t i = 0; i < 8; i++) {
        errno = pthread_create(&threads[i], NULL, count_up, NULL);
        NEEDS(errno == 0);
    }
    NEEDS(pthread_mutex_lock(&ordinary_mutex) == 0);
    while (ordinary_count < 8) {
        NEEDS(pthread_cond_wait(&ordinary_condition, &ordinary_mutex) == 0);
    }
    NEEDS(pthread_mutex_unlock(&ordinary_mutex) == 0);
    for (size_t i = 0; i < 8; i++) {
        NEEDS(pthread_join(threads[i], NULL) == 0);
    }
    NEEDS(sysconf(_SC_NPROCESSORS_ONLN) >= 1);
    return 0;
}

static bool has_locale; /* outside of the sandbox it is found */
static volatile sig_atomic_t ordinary_signals;

static void count_signal(int number) {
    (void)number;
    ordinary_signals++;
}

static int use_time_and_signals(void) {
    const struct sigaction counting = {.sa_handler = count_signal};
    const struct timespec pause_time = {0, 1000000};
    struct itimerval soon = {.it_value = {0, 1000}};
    struct timespec now;
    char text[64];
    time_t seconds = time(NULL);
    NEEDS(clock_gettime(CLOCK_MONOTONIC, &now) == 0 && seconds > 0);
    NEEDS(nanosleep(&pause_time, NULL) == 0);
    struct tm *local = localtime(&seconds);
    NEEDS(local != NULL && strftime(text, sizeof text, "%A %B", local) > 0);
    NEEDS(!has_locale || setlocale(LC_ALL, "C.UTF-8") != NULL);
    ordinary_signals = 0;
    NEEDS(sigaction(SIGALRM, &counting, NULL) == 0);
    NEEDS(setitimer(ITIMER_REAL, &soon, NULL) == 0);
    while (ordinary_signals == 0) {
        (void)nanosleep(&pause_time, NULL);
    }
    NEEDS(raise(SIGALRM) == 0 && ordinary_signals == 2);
    NEEDS(pthread_kill(pthread_self(), SIGALRM) == 0 && ordinary_signals == 3);
    NEEDS(kill(getpid(), 0) == 0);
    NEEDS(getrandom(text, 16, 0) == 16);
    return 0;
}

static int use_descriptors(void) {
    uint64_t count = 1;
    char bytes[8] = {0};
    int ends[2];
    struct epoll_event event = {.events = EPOLLIN};
    const int wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    const int poller = epoll_create1(EPOLL_CLOEXEC);
    NEEDS(wakeup >= 0 && timer >= 0 && poller >= 0);
    NEEDS(write(wakeup, &count, sizeof count) == 8);
    NEEDS(epoll_ctl(poller, EPOLL_CTL_ADD, wakeup, &event) == 0);
    NEEDS(epoll_wait(poller, &event, 1, 1000) == 1);
    NEEDS(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    NEEDS(send(ends[0], "ping", 4, MSG_NOSIGNAL) == 4);
    struct pollfd readable = {.fd = ends[1], .events = POLLIN};
    NEEDS(poll(&readable, 1, 1000) == 1);
    NEEDS(recv(ends[1], bytes, sizeof bytes, 0) == 4 && memcmp(bytes, "ping", 4) == 0);
    NEEDS(fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0 && fcntl(ends[0], F_SETFD, FD_CLOEXEC) == 0);
    NEEDS(isatty(wakeup) == 0 && errno == ENOTTY);
    NEEDS(dprintf(STDERR_FILENO, "from the sandbox\n") == 17);
    NEEDS(close(wakeup) == 0 && close(timer) == 0 && close(poller) == 0);
    NEEDS(close(ends[0]) == 0 && close(ends[1]) == 0);
    return 0;
}

static int use_files(void) {
    char path[128];
    char other[128];
    char text[16] = {0};
    struct stat status;
    (void)snprintf(path, sizeof path, "%s/file.txt", scene.read_only);
    FILE *file = fopen(path, "r");
    NEEDS(file != NULL && fgets(text, sizeof text, file) != NULL && strcmp(text, "inside") == 0);
    NEEDS(fclose(file) == 0);
    DIR *listing = opendir(scene.read_only);
    NEEDS(listing != NULL && readdir(listing) != NULL && closedir(listing) == 0);
    (void)snprintf(path, sizeof path, "%s/written.txt", scene.read_write);
    (void)snprintf(other, sizeof other, "%s/folder", scene.read_write);
    file = fopen(path, "w+");
    NEEDS(file != NULL && fprintf(file, "%d", 42) == 2 && fflush(file) == 0);
    NEEDS(ftruncate(fileno(file), 1) == 0 && fstat(fileno(file), &status) == 0);
    NEEDS(status.st_size == 1 && fclose(file) == 0);
    NEEDS(mkdir(other, 0700) == 0);
    (void)strcat(other, "/moved.txt");
    NEEDS(rename(path, other) == 0 && unlink(other) == 0);
    *strrchr(other, '/') = '\0';
    NEEDS(rmdir(other) == 0);
    return 0;
}

static int use_all(void) {
    static jail_act *const acts[] = {use_memory, use_threads, use_time_and_signals, use_descriptors,
                                     use_files};
    for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++) {
        const int code = acts[i]();
        if (code != 0) {
            return code;
        }
    }
    return 0;
}

static int use_all_and_load(void) {
    char path[128];
    (void)snprintf(path, sizeof path, "%s/module.so", scene.read_only);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    NEEDS(library != NULL && dlsym(library, "sr_test_module_answer") != NULL);
    return use_all();
}

Test(sandbox_life, what_ordinary_code_needs_works_in_both_stages) {
    jail_open();
    struct jail_run run = {.policy = jail_strict(), .before = use_all_and_load, .act = use_all};
    has_locale = setlocale(LC_ALL, "C.UTF-8") != NULL && access(LOCALES, R_OK) == 0;
    (void)setlocale(LC_ALL, "C");
    if (has_locale) {
        cr_assert_eq(sri_sandbox_policy_add_path(&run.policy, LOCALES, false), 0);
    }
    const int result = jail_run(run);
    cr_assert_eq(result, 0, "%d (%d at %s)", result, jail_shared->code,
                 sri_sandbox_layer_text((enum sri_sandbox_layer)jail_shared->report.failed_layer));
    jail_close();
}

/* Libraries that try what they can do without find a failure, not their end. */
static int try_and_do_without(void) {
    NEEDS(system("true") != 0);
    NEEDS(popen("true", "r") == NULL);
    NEEDS(syscall(SYS_mlock, &scene, 1ul) != 0 && errno == EPERM); /* sanitizers have their own */
    NEEDS(setpriority(PRIO_PROCESS, 0, 5) != 0 && errno == EPERM);
    NEEDS(open("/dev/urandom", O_RDONLY) < 0 && errno == EACCES);
    NEEDS(socket(AF_UNIX, SOCK_STREAM, 0) < 0 && errno == EACCES);
    NEEDS(dlopen("/no/such/library.so", RTLD_NOW) == NULL);
    return 0;
}

Test(sandbox_life, what_libraries_only_try_fails_softly) {
    jail_open();
    const struct jail_run run = {
        .policy = jail_strict(), .before = try_and_do_without, .act = try_and_do_without};
    const int result = jail_run(run);
    cr_assert_eq(result, 0, "%d", result);
    jail_close();
}

static int use_internet(void) {
    char bytes[8];
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    NEEDS(fd >= 0);
    NEEDS(connect(fd, (struct sockaddr *)&scene.address, sizeof scene.address) == 0);
    const int udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, IPPROTO_UDP);
    NEEDS(udp >= 0);
    struct sockaddr_in self = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof self;
    NEEDS(bind(udp, (struct sockaddr *)&self, sizeof self) == 0);
    NEEDS(getsockname(udp, (struct sockaddr *)&self, &length) == 0);
    NEEDS(sendto(udp, "self", 4, 0, (struct sockaddr *)&self, sizeof self) == 4);
    struct pollfd readable = {.fd = udp, .events = POLLIN};
    NEEDS(poll(&readable, 1, 1000) == 1 && recv(udp, bytes, sizeof bytes, 0) == 4);
    return 0;
}

Test(sandbox_life, the_network_preset_gives_tcp_and_udp) {
    jail_open();
    const struct jail_run run = {
        .policy = jail_policy("network"), .before = use_internet, .act = use_internet};
    const int result = jail_run(run);
    cr_assert_eq(result, 0, "%d (%d)", result, jail_shared->code);
    jail_close();
}

/* ---- calls that no worker needs -------------------------------------------------------------- */

static long call_number;

static int call_by_number(void) {
    (void)syscall(call_number, -1, -1, -1, -1, -1, -1);
    return 0;
}

/* By another route than the lists of the filter: what an attack would reach for, by its number. */
Test(sandbox_life, calls_that_change_the_machine_end_the_process) {
    static const struct {
        const char *name;
        long number;
    } calls[] = {
#define CALL(name) {#name, SYS_##name}
        CALL(acct),
        CALL(add_key),
        CALL(adjtimex),
        CALL(bpf),
        CALL(chroot),
        CALL(clock_adjtime),
        CALL(clock_settime),
        CALL(delete_module),
        CALL(execve),
        CALL(execveat),
        CALL(fanotify_init),
        CALL(fanotify_mark),
        CALL(finit_module),
        CALL(fsconfig),
        CALL(fsmount),
        CALL(fsopen),
        CALL(fspick),
        CALL(init_module),
        CALL(io_setup),
        CALL(io_submit),
        CALL(io_uring_enter),
        CALL(io_uring_register),
        CALL(kcmp),
        CALL(kexec_load),
        CALL(keyctl),
        CALL(lookup_dcookie),
        CALL(migrate_pages),
        CALL(mount),
        CALL(mount_setattr),
        CALL(move_mount),
        CALL(move_pages),
        CALL(open_by_handle_at),
        CALL(open_tree),
        CALL(perf_event_open),
        CALL(pidfd_getfd),
        CALL(pivot_root),
        CALL(process_madvise),
        CALL(process_mrelease),
        CALL(process_vm_readv),
        CALL(process_vm_writev),
        CALL(ptrace),
        CALL(quotactl),
        CALL(reboot),
        CALL(remap_file_pages),
        CALL(request_key),
        CALL(setdomainname),
        CALL(sethostname),
        CALL(setns),
        CALL(settimeofday),
        CALL(swapoff),
        CALL(swapon),
        CALL(umount2),
        CALL(unshare),
        CALL(userfaultfd),
        CALL(vhangup)
#ifdef __x86_64__
            ,
        CALL(ioperm),
        CALL(iopl),
        CALL(kexec_file_load),
        CALL(modify_ldt),
        CALL(ustat),
        CALL(uselib)
#endif
#undef CALL
    };
    jail_open();
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        struct jail_run run = {.policy = jail_strict(), .act = call_by_number};
        jail_keep_layers(&run.policy, SRI_SANDBOX_BIT(CALLS));
        call_number = calls[i].number;
        const int result = jail_run(run);
        cr_expect_eq(result, -SIGSYS, "%s: %d", calls[i].name, result);
    }
    jail_close();
}

/* A range, so that the next kernel's calls are ENOSYS as well; far beyond it they end the process.
 */
Test(sandbox_life, calls_newer_than_the_list_are_missing_and_not_fatal) {
    jail_open();
    struct jail_run run = {.policy = jail_strict(), .act = call_by_number};
    jail_keep_layers(&run.policy, SRI_SANDBOX_BIT(CALLS));
    for (call_number = 450; call_number <= 520; call_number += 7) {
        cr_expect_eq(jail_run(run), 0, "%ld", call_number);
    }
    call_number = 521;
    cr_expect_eq(jail_run(run), -SIGSYS);
    call_number = 100000;
    cr_expect_eq(jail_run(run), -SIGSYS);
    jail_close();
}

/* ---- how it ends ----------------------------------------------------------------------------- */

static int end_by_abort(void) {
    abort();
}

static int end_by_raise(void) {
    (void)raise(SIGTERM);
    return 0;
}

static int end_by_alarm(void) {
    (void)alarm(1);
    (void)pause();
    return 0;
}

static int end_by_null(void) {
    volatile uintptr_t address = 8; /* nothing that a compiler could know */
    *(volatile int *)address = 1;
    return 0;
}

static int depth(volatile char *above) {
    volatile char frame[4096];
    frame[0] = *above;
    return frame[0] != 0 ? 0 : depth(frame) + frame[0]; /* it never is */
}

static int end_by_stack(void) {
    char first = 0;
    return depth(&first);
}

static int end_by_kill(void) {
    (void)kill(getpid(), SIGKILL);
    return 0;
}

static int end_by_code(void) {
    exit(117);
}

Test(sandbox_life, a_process_in_it_ends_as_what_it_is) {
    static const struct {
        jail_act *act;
        int end;
    } ends[] = {
        {end_by_abort, -SIGABRT}, {end_by_raise, -SIGTERM}, {end_by_alarm, -SIGALRM},
        {end_by_null, -SIGSEGV},  {end_by_stack, -SIGSEGV}, {end_by_kill, -SIGKILL},
        {end_by_code, 117},
    };
    jail_open();
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        if (JAIL_HAS_ASAN && (ends[i].act == end_by_code)) {
            continue; /* LeakSanitizer forks and traces at exit, and says that it cannot */
        }
        struct jail_run run = {.policy = jail_strict(), .act = ends[i].act};
        int result = jail_run(run);
        cr_expect_eq(result, ends[i].end, "%zu, all layers: %d", i, result);
        run.policy.layers_asked &= ~SRI_SANDBOX_BIT(PID_NAMESPACE);
        result = jail_run(run);
        cr_expect_eq(result, ends[i].end, "%zu, without a pid namespace: %d", i, result);
    }
    jail_close();
}
