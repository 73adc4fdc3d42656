/* SPDX-License-Identifier: MIT */
/*
 * The operating system's part of the seam that has nothing to do with queues: descriptors, clock,
 * randomness. Both real backends have it in their tables; everybody else calls it through those.
 */
#ifndef SAFERING_SYS_OS_H
#define SAFERING_SYS_OS_H

#include "sys/backend.h"
#include <stdbool.h>
#include <stdint.h>

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

#endif
