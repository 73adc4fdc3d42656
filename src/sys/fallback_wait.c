/* SPDX-License-Identifier: MIT */
/* Waits for what is no descriptor: children (WAITID) and futexes (FUTEX_WAIT). */
#include "sys/fallback.h"

#include "sys/os.h"
#include "sys/plain.h"
#include <linux/futex.h>
#include <sys/epoll.h>
#include <sys/wait.h>

/* Between two looks at children that no pidfd tells of: any of several, stops, continuations. */
#define LOOK_AGAIN_NS 5000000u

/* ---- children ------------------------------------------------------------------------------- */

int32_t sri_waitid_try(struct sri_fallback *fallback, struct sri_job *job) {
    const struct io_uring_sqe *sqe = &job->sqe;
    siginfo_t info = {.si_signo = 0};
    const unsigned int options = sqe->file_index;
    const idtype_t which = (idtype_t)sqe->len;
    const int32_t code = SRI_SYSCALL(SYS_waitid, (int)sqe->len, sqe->fd, &info,
                                     (int)(options | (unsigned int)WNOHANG), NULL);
    if (code < 0) {
        return code;
    }
    if (info.si_pid != 0 || (options & (unsigned int)WNOHANG) != 0) {
        if (sqe->addr2 != 0) {
            *(siginfo_t *)SRI_POINTER(sqe->addr2) = info;
        }
        return 0;
    }
    const bool only_exit = (options & (unsigned int)(WSTOPPED | WCONTINUED)) == 0;
    if (which == P_PID && only_exit && job->pidfd < 0) {
        job->pidfd = SRI_SYSCALL(SYS_pidfd_open, sqe->fd, 0);
    }
    if (only_exit && (which == P_PIDFD || job->pidfd >= 0)) {
        job->events = EPOLLIN;
        return SRI_JOB_MUST_WAIT;
    }
    sri_job_set_timer(fallback, job, sri_os_now_ns() + LOOK_AGAIN_NS);
    return SRI_JOB_GOES_ON;
}

/* ---- futexes -------------------------------------------------------------------------------- */

int32_t sri_fallback_futex_check(const struct io_uring_sqe *sqe) {
    const uint32_t flags = (uint32_t)sqe->fd;
    if ((flags & SRI_FUTEX2_SIZE_MASK) != SRI_FUTEX2_SIZE_U32 ||
        (flags & ~(SRI_FUTEX2_SIZE_U32 | SRI_FUTEX2_PRIVATE)) != 0 || sqe->addr3 == 0) {
        return -EINVAL;
    }
    /* Waiting for a futex and for the cancel at once is futex_waitv(2), which knows no masks. */
    return sqe->opcode == SRI_IORING_OP_FUTEX_WAIT && sqe->addr3 != FUTEX_BITSET_MATCH_ANY ? -EINVAL
                                                                                           : 0;
}

int32_t sri_fallback_futex_wake(const struct io_uring_sqe *sqe) {
    const int private = ((uint32_t)sqe->fd & SRI_FUTEX2_PRIVATE) != 0 ? FUTEX_PRIVATE_FLAG : 0;
    return SRI_SYSCALL(SYS_futex, SRI_POINTER(sqe->addr), FUTEX_WAKE_BITSET | private,
                       (uint32_t)sqe->addr2, NULL, NULL, (uint32_t)sqe->addr3);
}

int32_t sri_fallback_futex_wait(struct sri_job *job) {
    struct futex_waitv waits[2] = {
        {.val = job->sqe.addr2, .uaddr = job->sqe.addr, .flags = (uint32_t)job->sqe.fd},
        {.val = 0,
         .uaddr = (uintptr_t)&job->cancel_word,
         .flags = SRI_FUTEX2_SIZE_U32 | SRI_FUTEX2_PRIVATE},
    };
    const int32_t result = SRI_SYSCALL(SYS_futex_waitv, waits, 2u, 0u, NULL, 0);
    if (atomic_load(&job->cancel_word) != 0) {
        return -ECANCELED;
    }
    return result < 0 ? result : 0;
}

void sri_fallback_futex_cancel(struct sri_job *job) {
    atomic_store(&job->cancel_word, 1);
    (void)SRI_SYSCALL(SYS_futex, &job->cancel_word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL,
                      0);
}
