/* SPDX-License-Identifier: MIT */
#include "support/methods.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void must(int code) {
    if (code < 0) {
        fprintf(stderr, "worker: %s\n", sr_error_name(code));
        _exit(3);
    }
}

static uint64_t word(const void *data, uint64_t data_bytes) {
    uint64_t value = 0;
    memcpy(&value, data, data_bytes < sizeof value ? data_bytes : sizeof value);
    return value;
}

static int64_t echo(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    (void)ctx;
    must(sr_serve_reply(served, data, data_bytes));
    return (int64_t)data_bytes;
}

static int64_t add(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    int64_t terms[2] = {0, 0};
    (void)served;
    (void)ctx;
    memcpy(terms, data, data_bytes < sizeof terms ? data_bytes : sizeof terms);
    return terms[0] + terms[1];
}

static int64_t pause_ms(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    const uint64_t ms = word(data, data_bytes);
    const struct timespec span = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    (void)served;
    (void)ctx;
    (void)nanosleep(&span, NULL);
    return (int64_t)ms;
}

static int64_t produce(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    unsigned char piece[4099]; /* not a divisor of anything: pieces meet all boundaries */
    const uint64_t size = word(data, data_bytes);
    (void)ctx;
    for (uint64_t done = 0; done < size;) {
        const uint64_t count = size - done < sizeof piece ? size - done : sizeof piece;
        for (uint64_t i = 0; i < count; i++) {
            piece[i] = (unsigned char)((done + i) % 251);
        }
        must(sr_serve_reply(served, piece, count));
        done += count;
    }
    return (int64_t)size;
}

static int64_t tell(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    const uint64_t count = word(data, data_bytes);
    (void)ctx;
    for (uint64_t i = 0; i < count; i++) {
        must(sr_serve_event(served, (uint32_t)(i % 65536), &i, sizeof i));
    }
    return (int64_t)count;
}

static uint64_t total;

static int64_t note(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    (void)ctx;
    total += word(data, data_bytes);
    return sr_serve_reply(served, data, data_bytes);
}

static int64_t sum(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    (void)served;
    (void)data;
    (void)data_bytes;
    (void)ctx;
    return (int64_t)total;
}

static int64_t refuse(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    (void)served;
    (void)data;
    (void)data_bytes;
    (void)ctx;
    return INT64_MIN;
}

static int64_t crash(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    (void)served;
    (void)data;
    (void)data_bytes;
    (void)ctx;
    /* Not by a bad pointer: a sanitizer would make a report and another ending of it. */
    (void)signal(SIGSEGV, SIG_DFL);
    (void)raise(SIGSEGV);
    return 0;
}

static int64_t leave(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    (void)served;
    (void)data;
    (void)data_bytes;
    (void)ctx;
    _exit(7);
}

const sr_method test_methods[] = {
    {"echo", echo, NULL},       {"add", add, NULL},       {"pause", pause_ms, NULL},
    {"produce", produce, NULL}, {"tell", tell, NULL},     {"note", note, NULL},
    {"sum", sum, NULL},         {"refuse", refuse, NULL}, {"crash", crash, NULL},
    {"leave", leave, NULL},
};

const uint32_t test_method_count = sizeof test_methods / sizeof test_methods[0];
