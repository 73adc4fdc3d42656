/* SPDX-License-Identifier: MIT */
/*
 * Trap: hears of SIGSEGV and SIGBUS before whoever handled them before, and hands them on. What it
 * calls runs inside of a signal handler, on any thread: only memory, atomics and sri_trap_say().
 */
#ifndef SAFERING_SYS_TRAP_H
#define SAFERING_SYS_TRAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sri_touch { SRI_TOUCH_UNKNOWN, SRI_TOUCH_READ, SRI_TOUCH_WRITE };

/* A touch of memory that is mapped, in a way that its rights do not allow; or of memory that is
 * broken or could not be had (SIGBUS). */
struct sri_trap {
    uintptr_t address;
    bool memory_failed;
    enum sri_touch touch;
    uint64_t now_ns; /* CLOCK_MONOTONIC */
};

/* Returns whether the fault was its business. If so the previous handler is put back and meets the
 * fault itself, when the instruction is run again. */
typedef bool (*sri_trap_fn)(const struct sri_trap *trap);

/* Once is enough; after a fault that was its business it must be called again. Returns 0 or a
 * negative errno. */
int sri_trap_install(sri_trap_fn on_trap);

/* Writes to stderr. */
void sri_trap_say(const char *text, size_t length);

#endif
