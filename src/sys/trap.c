/* SPDX-License-Identifier: MIT */
#include "sys/trap.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

struct trapped_signal {
    int number;
    _Atomic bool trapped;
    struct sigaction previous; /* written before `trapped`, and not while it is true */
};

static struct trapped_signal signals[] = {{.number = SIGSEGV}, {.number = SIGBUS}};
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(sri_trap_fn) on_trap_chosen;

static enum sri_touch touch_of(const void *context) {
#if defined(__x86_64__)
    const ucontext_t *machine = context;
    /* Bit 1 of the page fault's error code: a write. */
    return (machine->uc_mcontext.gregs[REG_ERR] & 2) != 0 ? SRI_TOUCH_WRITE : SRI_TOUCH_READ;
#else
    (void)context;
    return SRI_TOUCH_UNKNOWN;
#endif
}

static bool is_ours(int number, const siginfo_t *info, const void *context) {
    const bool refused = number == SIGSEGV && info->si_code == SEGV_ACCERR;
    const bool failed = number == SIGBUS && info->si_code > 0; /* 0 and less: sent by somebody */
    if (!refused && !failed) {
        return false;
    }
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
    const struct sri_trap trap = {
        .address = (uintptr_t)info->si_addr,
        .memory_failed = failed,
        .touch = refused ? touch_of(context) : SRI_TOUCH_UNKNOWN,
        .now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
    };
    return atomic_load(&on_trap_chosen)(&trap);
}

/* Ends the trap for one signal and lets the signal come again, to the handler that was there
 * before: a fault by running its instruction once more, what was sent by sending it. */
static void give_back(struct trapped_signal *signal, const siginfo_t *info) {
    (void)sigaction(signal->number, &signal->previous, NULL); /* was there before: cannot fail */
    atomic_store(&signal->trapped, false);
    if (info->si_code <= 0) {
        (void)raise(signal->number); /* delivered when this handler returns */
    }
}

/* Hands a signal on as the kernel would have. */
static void pass_on(struct trapped_signal *signal, siginfo_t *info, void *context) {
    const struct sigaction *previous = &signal->previous;
    const bool handles = (previous->sa_flags & SA_SIGINFO) != 0 ||
                         (previous->sa_handler != SIG_DFL && previous->sa_handler != SIG_IGN);
    if (!handles && previous->sa_handler == SIG_IGN && info->si_code <= 0) {
        return; /* sent, and ignored; a fault cannot be ignored */
    }
    if (!handles || (previous->sa_flags & (int)SA_RESETHAND) != 0) {
        give_back(signal, info);
        return;
    }
    (void)pthread_sigmask(SIG_BLOCK, &previous->sa_mask, NULL); /* the return from here undoes it */
    if ((previous->sa_flags & SA_SIGINFO) != 0) {
        previous->sa_sigaction(signal->number, info, context);
    } else {
        previous->sa_handler(signal->number);
    }
}

static void handle(int number, siginfo_t *info, void *context) {
    const int errno_before = errno;
    struct trapped_signal *signal = number == SIGSEGV ? &signals[0] : &signals[1];
    if (is_ours(number, info, context)) {
        give_back(signal, info);
    } else {
        pass_on(signal, info, context);
    }
    errno = errno_before;
}

static int trap_signal(struct trapped_signal *signal) {
    struct sigaction ours = {.sa_flags = (int)(SA_SIGINFO | SA_ONSTACK)};
    ours.sa_sigaction = handle;
    (void)sigemptyset(&ours.sa_mask);
    /* Asked first: our handler may run as soon as it is there. */
    if (sigaction(signal->number, NULL, &signal->previous) != 0) {
        return -errno;
    }
    atomic_store(&signal->trapped, true);
    if (sigaction(signal->number, &ours, NULL) != 0) {
        atomic_store(&signal->trapped, false);
        return -errno;
    }
    return 0;
}

int sri_trap_install(sri_trap_fn on_trap) {
    int code = 0;
    pthread_mutex_lock(&mutex);
    atomic_store(&on_trap_chosen, on_trap);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0] && code == 0; i++) {
        if (!atomic_load(&signals[i].trapped)) {
            code = trap_signal(&signals[i]);
        }
    }
    pthread_mutex_unlock(&mutex);
    return code;
}

void sri_trap_say(const char *text, size_t length) {
    while (length > 0) {
        const ssize_t written = write(STDERR_FILENO, text, length);
        if (written < 0 && errno != EINTR) {
            return; /* nobody is there to hear it */
        }
        text += written > 0 ? written : 0;
        length -= written > 0 ? (size_t)written : 0;
    }
}
