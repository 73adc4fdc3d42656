/* SPDX-License-Identifier: MIT */
/*
 * Sides that run in several threads at once, and which CPU a thread runs on. Knows neither safering
 * nor liburing.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "bench.h"
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t bench_now_ns(void) {
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t bench_cpu_ns(void) {
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

/* ---- CPUs ------------------------------------------------------------------------------------ */

static pthread_once_t allowed_once = PTHREAD_ONCE_INIT;
static cpu_set_t allowed; /* what the process was given, before anything was pinned */

static void read_allowed(void) {
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
        CPU_ZERO(&allowed); /* more CPUs than a cpu_set_t holds: nothing is pinned */
    }
}

uint32_t bench_cpus(void) {
    (void)pthread_once(&allowed_once, read_allowed);
    return CPU_COUNT(&allowed) > 0 ? (uint32_t)CPU_COUNT(&allowed) : 1;
}

void bench_pin(uint32_t index) {
    cpu_set_t one;
    uint32_t left = index % bench_cpus();

    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &allowed) && left-- == 0) {
            CPU_SET(cpu, &one);
            (void)sched_setaffinity(0, sizeof(one), &one);
            return;
        }
    }
}

void bench_unpin(void) {
    if (bench_cpus() > 0 && CPU_COUNT(&allowed) > 0) {
        (void)sched_setaffinity(0, sizeof(allowed), &allowed);
    }
}

/* ---- crew ------------------------------------------------------------------------------------ */

enum order { ORDER_RUN, ORDER_CLOSE };

struct member {
    struct bench_crew *crew;
    uint32_t index;
    pthread_t thread;
    void *side;
    struct bench_facts facts;
    struct bench_work work;
    int status;
};

struct bench_crew {
    const struct bench_side *side;
    const struct bench_setup *setup;
    const struct bench_round *round;
    enum order order;
    pthread_barrier_t begin; /* the members and the harness */
    pthread_barrier_t end;
    struct member members[];
};

static void member_run(struct member *self) {
    const struct bench_side *side = self->crew->side;
    uint64_t begin = bench_now_ns();
    uint64_t cpu_begin = clock_ns(CLOCK_THREAD_CPUTIME_ID);

    memset(&self->work, 0, sizeof(self->work));
    self->status = side->run(self->side, self->crew->round, &self->work);
    if (self->work.cpu_ns == 0) {
        self->work.cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_begin;
    }
    if (self->work.ns == 0) {
        self->work.ns = bench_now_ns() - begin;
    }
}

static void *member_main(void *argument) {
    struct member *self = argument;
    struct bench_crew *crew = self->crew;

    bench_pin(self->index);
    self->status = crew->side->open(crew->setup, &self->side, &self->facts);
    (void)pthread_barrier_wait(&crew->end);
    for (;;) {
        (void)pthread_barrier_wait(&crew->begin);
        if (crew->order == ORDER_CLOSE) {
            break;
        }
        member_run(self);
        (void)pthread_barrier_wait(&crew->end);
    }
    if (self->side != NULL) {
        crew->side->close(self->side);
    }
    return NULL;
}

static void crew_free(struct bench_crew *crew) {
    (void)pthread_barrier_destroy(&crew->begin);
    (void)pthread_barrier_destroy(&crew->end);
    free(crew);
}

/* A thread that does not start leaves the others at a barrier that never fills: there is no crew
 * then, and no point in going on. */
static void crew_start(struct bench_crew *crew) {
    for (uint32_t i = 0; i < crew->side->threads; i++) {
        struct member *member = &crew->members[i];

        member->crew = crew;
        member->index = i;
        if (pthread_create(&member->thread, NULL, member_main, member) != 0) {
            exit(bench_complain(BENCH_WRONG, "%s: no thread", crew->side->name));
        }
    }
}

int bench_crew_open(const struct bench_side *side, const struct bench_setup *setup,
                    struct bench_crew **out_crew, struct bench_facts *out_facts) {
    struct bench_crew *crew = calloc(1, sizeof(*crew) + side->threads * sizeof(crew->members[0]));

    *out_crew = NULL;
    if (crew == NULL) {
        return bench_complain(BENCH_WRONG, "%s: out of memory", side->name);
    }
    crew->side = side;
    crew->setup = setup;
    if (pthread_barrier_init(&crew->begin, NULL, side->threads + 1) != 0 ||
        pthread_barrier_init(&crew->end, NULL, side->threads + 1) != 0) {
        free(crew);
        return bench_complain(BENCH_WRONG, "%s: no barrier", side->name);
    }
    crew_start(crew);
    (void)pthread_barrier_wait(&crew->end);
    for (uint32_t i = 0; i < side->threads; i++) {
        int status = crew->members[i].status;

        if (status != BENCH_OK) {
            bench_crew_close(crew);
            return status;
        }
    }
    *out_facts = crew->members[0].facts;
    *out_crew = crew;
    return BENCH_OK;
}

/* The work of one thread stands for all, for they must have done the same; times are the means. */
int bench_crew_run(struct bench_crew *crew, const struct bench_round *round,
                   struct bench_work *out_work) {
    uint32_t count = crew->side->threads;

    crew->round = round;
    crew->order = ORDER_RUN;
    (void)pthread_barrier_wait(&crew->begin);
    (void)pthread_barrier_wait(&crew->end);
    *out_work = crew->members[0].work;
    out_work->ns = 0;
    out_work->cpu_ns = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct bench_work *work = &crew->members[i].work;

        if (crew->members[i].status != BENCH_OK) {
            return crew->members[i].status;
        }
        if (work->ops != out_work->ops || work->checksum != out_work->checksum) {
            return bench_complain(BENCH_WRONG, "%s: the threads did not do the same work",
                                  crew->side->name);
        }
        out_work->ns += work->ns / count;
        out_work->cpu_ns += work->cpu_ns / count;
    }
    return BENCH_OK;
}

void bench_crew_close(struct bench_crew *crew) {
    crew->order = ORDER_CLOSE;
    (void)pthread_barrier_wait(&crew->begin);
    for (uint32_t i = 0; i < crew->side->threads; i++) {
        (void)pthread_join(crew->members[i].thread, NULL);
    }
    crew_free(crew);
}

/* ---- partner --------------------------------------------------------------------------------- */

struct bench_partner {
    pthread_t thread;
    sem_t begun;
    sem_t done;
    int (*task)(void *); /* NULL: the end */
    void *argument;
    bool busy; /* begun and not waited for */
    int status;
};

static void wait_for(sem_t *semaphore) {
    while (sem_wait(semaphore) != 0) { /* a signal */
    }
}

static void *partner_main(void *argument) {
    struct bench_partner *self = argument;

    bench_pin(1);
    for (;;) {
        wait_for(&self->begun);
        if (self->task == NULL) {
            return NULL;
        }
        self->status = self->task(self->argument);
        if (self->status != BENCH_OK && self->status != BENCH_MISSING) {
            exit(self->status);
        }
        (void)sem_post(&self->done);
    }
}

int bench_partner_open(struct bench_partner **out_partner) {
    struct bench_partner *self = calloc(1, sizeof(*self));

    *out_partner = NULL;
    if (self == NULL) {
        return bench_complain(BENCH_WRONG, "partner: out of memory");
    }
    (void)sem_init(&self->begun, 0, 0); /* cannot fail for these values */
    (void)sem_init(&self->done, 0, 0);
    if (pthread_create(&self->thread, NULL, partner_main, self) != 0) {
        free(self);
        return bench_complain(BENCH_WRONG, "partner: no thread");
    }
    *out_partner = self;
    return BENCH_OK;
}

void bench_partner_begin(struct bench_partner *self, int (*task)(void *), void *argument) {
    self->task = task;
    self->argument = argument;
    self->busy = true;
    (void)sem_post(&self->begun);
}

int bench_partner_wait(struct bench_partner *self) {
    wait_for(&self->done);
    self->busy = false;
    return self->status;
}

void bench_partner_close(struct bench_partner *self) {
    if (self == NULL) {
        return;
    }
    if (self->busy) {
        exit(BENCH_WRONG); /* the side gave up on its task, which may never end */
    }
    bench_partner_begin(self, NULL, NULL);
    (void)pthread_join(self->thread, NULL);
    (void)sem_destroy(&self->begun);
    (void)sem_destroy(&self->done);
    free(self);
}
