/* SPDX-License-Identifier: MIT */
/*
 * Watch: one wait for many descriptors, poll(2), for programs without a ring. The list is made anew
 * before each wait, and answers are found by the order in which it was made.
 */
#ifndef SAFERING_SYS_WATCH_H
#define SAFERING_SYS_WATCH_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#define SRI_WATCH_MAX 4200u

enum sri_watch_flag {
    SRI_WATCH_READ = 1u << 0,
    SRI_WATCH_WRITE = 1u << 1,
    SRI_WATCH_HANG_UP = 1u << 2 /* an answer only, and never asked for in vain */
};

struct sri_watch {
    uint32_t count;
    struct pollfd fds[SRI_WATCH_MAX];
};

void sri_watch_clear(struct sri_watch *watch);
/* At most SRI_WATCH_MAX. */
void sri_watch_add(struct sri_watch *watch, int fd, uint32_t flags);
/* Until one of them has an answer: true; or false, after this time (-1: however long it takes). */
bool sri_watch_wait(struct sri_watch *watch, int timeout_ms);
/* enum sri_watch_flag of the descriptor that was added as number @index. */
uint32_t sri_watch_answer(const struct sri_watch *watch, uint32_t index);

#endif
