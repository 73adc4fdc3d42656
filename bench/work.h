/* SPDX-License-Identifier: MIT */
/*
 * The work itself, where both sides of a case must do it to the letter: random numbers, touching a
 * buffer, checking a block. Inline, so that no side pays for a call that the other does not make.
 */
#ifndef BENCH_WORK_H
#define BENCH_WORK_H

#include "bench.h"
#include <string.h>

/* One step of the splitmix64 generator: good enough for offsets and contents, and stateless. */
static inline uint64_t bench_mix(uint64_t value) {
    value += 0x9e3779b97f4a7c15u;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

enum { BENCH_BLOCK_WORDS = BENCH_BLOCK_BYTES / 8 };

/* What word @index of block @block of the temporary file must be. */
static inline uint64_t bench_block_word(uint64_t file_seed, uint32_t block, uint32_t index) {
    return bench_mix(file_seed ^ ((uint64_t)block * BENCH_BLOCK_WORDS + index));
}

/*
 * Check what was read, and add it to the checksum. Timed rounds look at both ends of the block;
 * looking at all of it would cost more than the read, and drown the difference that is asked for.
 */
static inline bool bench_check_block(const void *data, uint64_t file_seed, uint32_t block,
                                     bool full, uint64_t *inout_checksum) {
    const unsigned char *bytes = data;
    uint64_t first;
    uint64_t last;

    memcpy(&first, bytes, sizeof(first));
    memcpy(&last, bytes + BENCH_BLOCK_BYTES - sizeof(last), sizeof(last));
    *inout_checksum += last;
    if (first != bench_block_word(file_seed, block, 0) ||
        last != bench_block_word(file_seed, block, BENCH_BLOCK_WORDS - 1)) {
        return false;
    }
    for (uint32_t i = 0; full && i < BENCH_BLOCK_WORDS; i++) {
        uint64_t word;

        memcpy(&word, bytes + (size_t)i * sizeof(word), sizeof(word));
        if (word != bench_block_word(file_seed, block, i)) {
            return false;
        }
    }
    return true;
}

/* Write one byte of every 4,096 and read the last one back. The volatile accesses and the empty
 * assembly keep a compiler from seeing that a malloc() is freed unused. */
static inline uint8_t bench_touch(void *memory, size_t size_bytes, uint8_t value) {
    volatile unsigned char *bytes = memory;
    size_t last = (size_bytes - 1) / 4096 * 4096;

    __asm__ volatile("" : "+r"(bytes) : : "memory");
    for (size_t i = 0; i < size_bytes; i += 4096) {
        bytes[i] = value;
    }
    return bytes[last];
}

/* ring.inbox: message @i of a round. What an eventfd(2) can carry: neither 0 nor near 2^64. */
static inline uint64_t bench_hop_value(const struct bench_round *round, uint32_t i) {
    return (round->base & 0xffffffffu) + 1 + i;
}

/* ipc.designs: work that takes so many microseconds, wherever it is done. */
static inline void bench_work_for(uint64_t us) {
    const uint64_t until_ns = bench_now_ns() + us * 1000;

    while (bench_now_ns() < until_ns) {
    }
}

enum { BENCH_QUEUE_MESSAGES = 1024 }; /* ring.inbox_busy: most that wait */

/* ipc.stream: most that wait, how many are published at once, and the words of a message. */
enum { BENCH_STREAM_MESSAGES = 1024, BENCH_STREAM_BATCH = 32, BENCH_STREAM_WORDS = 8 };

static inline void bench_stream_fill(uint64_t *message, uint64_t number) {
    for (uint32_t i = 0; i < BENCH_STREAM_WORDS; i++) {
        message[i] = number + i;
    }
}

static inline bool bench_stream_is_right(const uint64_t *message, uint64_t number) {
    uint64_t difference = 0;

    for (uint32_t i = 0; i < BENCH_STREAM_WORDS; i++) {
        difference |= message[i] ^ (number + i);
    }
    return difference == 0;
}

#endif
