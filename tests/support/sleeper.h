/* SPDX-License-Identifier: MIT */
/*
 * Sleeper: tells when a thread has gone to sleep in a system call, by /proc/PID/task/TID/syscall,
 * so that a test which needs it there does not have to hope for a pause that was long enough.
 * Kernel workers of io_uring are in no system call: for threads of programs only.
 */
#ifndef SAFERING_TESTS_SUPPORT_SLEEPER_H
#define SAFERING_TESTS_SUPPORT_SLEEPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Which threads of a process. */
enum sleeper_who {
    SLEEPER_FIRST, /* the one whose number is the process's */
    SLEEPER_OTHERS
};

/* Waits until one of them sleeps in the system call @number (SYS_*); false after @timeout_ms. */
bool sleeper_wait(pid_t process, enum sleeper_who who, long number, uint32_t timeout_ms);

/* The threads of this process. */
uint32_t sleeper_thread_count(void);

#endif
