/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "event.h"
#include "work.h"
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Longer than it takes to fall asleep. */
#define PAUSE_NS 40000u

static uint64_t now_ns(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* On its own CPU, so it does not sleep itself: that would be timed too. */
static void pause_awake(void) {
    uint64_t end_ns = now_ns() + PAUSE_NS;

    while (now_ns() < end_ns) {
    }
}

static int answer_all(void *argument) {
    const struct event_link *link = argument;

    for (uint32_t i = 0; i < link->round->ops; i++) {
        struct event_answer answer;
        uint64_t value = 0;

        if (read(link->there, &value, sizeof(value)) != (ssize_t)sizeof(value)) {
            return bench_complain(BENCH_WRONG, "ring.event: no question: %s", strerror(errno));
        }
        pause_awake();
        answer.value = value + 1;
        answer.sent_ns = now_ns();
        if (write(link->there, &answer, sizeof(answer)) != (ssize_t)sizeof(answer)) {
            return bench_complain(BENCH_WRONG, "ring.event: no answer: %s", strerror(errno));
        }
    }
    return BENCH_OK;
}

int event_open(struct event_link *link) {
    int ends[2];

    link->partner = NULL;
    link->here = -1;
    link->there = -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        return bench_complain(BENCH_WRONG, "ring.event: socketpair: %s", strerror(errno));
    }
    link->here = ends[0];
    link->there = ends[1];
    return bench_partner_open(&link->partner);
}

void event_close(struct event_link *link) {
    bench_partner_close(link->partner);
    if (link->here >= 0) {
        close(link->here);
    }
    if (link->there >= 0) {
        close(link->there);
    }
}

void event_begin(struct event_link *link, const struct bench_round *round) {
    link->round = round;
    bench_partner_begin(link->partner, answer_all, link);
}

int event_end(struct event_link *link) {
    return bench_partner_wait(link->partner);
}

int event_ask(int fd, uint64_t value) {
    return write(fd, &value, sizeof(value)) == (ssize_t)sizeof(value)
               ? BENCH_OK
               : bench_complain(BENCH_WRONG, "ring.event: write: %s", strerror(errno));
}

int event_take(const struct event_answer *answer, uint64_t value, struct bench_work *work) {
    work->ns += now_ns() - answer->sent_ns;
    work->checksum += answer->value;
    work->ops++;
    return answer->value == value + 1 ? BENCH_OK
                                      : bench_complain(BENCH_WRONG, "ring.event: a wrong answer");
}

uint64_t event_expect(const struct bench_setup *setup, const struct bench_round *round) {
    uint64_t sum = 0;

    (void)setup;
    for (uint32_t i = 0; i < round->ops; i++) {
        sum += bench_hop_value(round, i) + 1;
    }
    return sum;
}
