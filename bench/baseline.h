/* SPDX-License-Identifier: MIT */
/* The sides without safering. Each lives in a file of its own and includes no safering header. */
#ifndef BENCH_BASELINE_H
#define BENCH_BASELINE_H

#include "bench.h"

extern const struct bench_side bench_baseline_nop;   /* liburing, all the good flags */
extern const struct bench_side bench_baseline_nop_1; /* in one thread, and in two */
extern const struct bench_side bench_baseline_nop_2;
extern const struct bench_side bench_baseline_shared_ring;    /* one ring, two threads, a mutex */
extern const struct bench_side bench_baseline_read4k;         /* the same, fixed buffers and file */
extern const struct bench_side bench_baseline_read4k_default; /* liburing as its examples use it */
extern const struct bench_side bench_baseline_echo;           /* liburing, multishot, buffer ring */
extern const struct bench_side bench_baseline_epoll;          /* the same server on epoll(7) */
extern const struct bench_side bench_baseline_eventfd;        /* liburing reads of an eventfd */
extern const struct bench_side bench_baseline_relay;          /* an eventfd, liburing, a futex */
extern const struct bench_side bench_baseline_rally_spin;     /* two words, both sides spin */
extern const struct bench_side bench_baseline_rally_futex;    /* or sleep, in a futex */
extern const struct bench_side bench_baseline_queue;          /* a lock-free queue */
extern const struct bench_side bench_baseline_spsc;           /* the same for one writer */
extern const struct bench_side bench_baseline_mutex_queue;    /* a queue, mutex and condition */
extern const struct bench_side bench_baseline_remote_free;    /* malloc(3) here, free(3) there */
extern const struct bench_side bench_baseline_remote_malloc;
extern const struct bench_side bench_baseline_event_epoll; /* epoll(7) on the socket itself */
extern const struct bench_side bench_baseline_move;        /* liburing, a ring made anew */
extern const struct bench_side bench_baseline_pread;       /* pread(2) */
extern const struct bench_side bench_baseline_malloc;      /* malloc(3), free(3) */
extern const struct bench_side bench_baseline_copy;        /* liburing, a state machine */
extern const struct bench_side bench_baseline_copy_pair;   /* the same, reads linked to writes */
extern const struct bench_side bench_baseline_copy_chain;  /* liburing, a chain for each file */
extern const struct bench_side bench_baseline_copy_calls; /* open(2), read(2), write(2), close(2) */
extern const struct bench_side bench_baseline_linear;     /* an array, searched */
extern const struct bench_side bench_baseline_unix_far;   /* send(2), recv(2), another CPU */
extern const struct bench_side bench_baseline_unix_near;
extern const struct bench_side bench_baseline_pingpong_spin; /* shared memory, another thread */
extern const struct bench_side bench_baseline_pingpong_futex;
extern const struct bench_side bench_baseline_spawn; /* posix_spawn(3), waitpid(2) */

/* The other process of these two: sends back what comes, @size bytes at a time. */
int bench_unix_echo(int fd, uint32_t size);

#endif
