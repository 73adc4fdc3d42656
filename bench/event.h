/* SPDX-License-Identifier: MIT */
/*
 * ring.event: the other end. A thread on a CPU of its own is asked over a socket, lets some time
 * pass in which the asker falls asleep, and answers with the time at which it did so. Timed is from
 * there to when the asker has the answer.
 */
#ifndef BENCH_EVENT_H
#define BENCH_EVENT_H

#include "bench.h"

struct event_link {
    struct bench_partner *partner;
    const struct bench_round *round;
    int here;
    int there;
};

struct event_answer {
    uint64_t value;
    uint64_t sent_ns;
};

/* All return enum bench_status, and have complained if that is not BENCH_OK. */
int event_open(struct event_link *link);
void event_close(struct event_link *link); /* also one that is only opened in part */
void event_begin(struct event_link *link, const struct bench_round *round);
int event_end(struct event_link *link);
int event_ask(int fd, uint64_t value);
/* Has come just now: adds time, count and checksum. */
int event_take(const struct event_answer *answer, uint64_t value, struct bench_work *work);
uint64_t event_expect(const struct bench_setup *setup, const struct bench_round *round);

#endif
