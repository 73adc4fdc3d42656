/* SPDX-License-Identifier: MIT */
/*
 * The operating system's part of the seam that has nothing to do with queues: descriptors, clock,
 * randomness. Both real backends have it in their tables; everybody else calls it through those.
 */
#ifndef SAFERING_SYS_OS_H
#define SAFERING_SYS_OS_H

#include "sys/mapping.h"
#include "sys/memory.h"
#include "sys/plain.h"

int sri_os_close(int fd);
int sri_os_is_open(int fd);
enum sri_fd_kind sri_os_fd_kind(int fd);
int sri_os_shutdown(int fd);
int sri_os_wakeup_open(bool nonblocking);
void sri_os_wakeup_write(int fd);
void sri_os_wakeup_clear(int fd);
bool sri_os_is_hung_up(int fd);
uint64_t sri_os_now_ns(void);
void sri_os_pause(uint64_t duration_ns);
uint64_t sri_os_random(void);

/* What both tables have in common: all but the queues, and how a lifeline is looked at. */
#define SRI_OS_FUNCTIONS                                                                           \
    .map = sri_mapping_make, .unmap = sri_mapping_end, .protect = sri_mapping_protect,             \
    .allocate = sri_memory_allocate, .release = sri_memory_release, .fd_close = sri_os_close,      \
    .fd_is_open = sri_os_is_open, .fd_kind = sri_os_fd_kind, .fd_shutdown = sri_os_shutdown,       \
    .sqe_run = sri_sqe_run, .wakeup_open = sri_os_wakeup_open,                                     \
    .wakeup_write = sri_os_wakeup_write, .wakeup_clear = sri_os_wakeup_clear,                      \
    .now_ns = sri_os_now_ns, .pause = sri_os_pause, .random = sri_os_random

#endif
