/* SPDX-License-Identifier: MIT */
#include "support/pair.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE_BYTES 4096

static void must(bool held, const char *what) {
    if (!held) {
        perror(what);
        abort();
    }
}

int pair_memory(void) {
    const int fd = memfd_create("safering-pair", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    must(fd >= 0, "memfd_create");
    must(ftruncate(fd, 2 * PAGE_BYTES) == 0, "ftruncate");
    must(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0, "seals");
    return fd;
}

static void *map(int memory, int side, int protection) {
    void *page =
        mmap(NULL, PAGE_BYTES, protection, MAP_SHARED, memory, (off_t)side * (off_t)PAGE_BYTES);
    must(page != MAP_FAILED, "mmap");
    return page;
}

static void begin(struct pair_end *end, uint32_t cpus, enum sri_wake_kind kind, int eventfd) {
    sri_spin_init(&end->spin);
    sri_spin_limit_init(&end->limit, &end->own->spin, &end->peer->spin, cpus);
    sri_spin_limit_enter(&end->limit);
    sri_waiter_init(&end->waiter, kind, &end->own->wake, &end->peer->wake, &end->limit);
    sri_waker_init(&end->waker, &end->own->wake, &end->peer->wake, eventfd);
}

void pair_open_as(struct pair_end *end, int memory, int side, uint32_t cpus,
                  enum sri_wake_kind kind, int eventfd) {
    memset(end, 0, sizeof *end);
    end->own = map(memory, side, PROT_READ | PROT_WRITE);
    end->peer = map(memory, 1 - side, PROT_READ);
    end->is_mapped = true;
    begin(end, cpus, kind, eventfd);
}

void pair_open(struct pair_end *end, int memory, int side, uint32_t cpus) {
    pair_open_as(end, memory, side, cpus, SRI_WAKE_FUTEX, -1);
}

void pair_open_in(struct pair_end *end, struct pair_page *pages, int side, uint32_t cpus,
                  enum sri_wake_kind kind, int eventfd) {
    memset(end, 0, sizeof *end);
    end->own = &pages[side];
    end->peer = &pages[1 - side];
    begin(end, cpus, kind, eventfd);
}

void pair_close(struct pair_end *end) {
    sri_spin_limit_leave(&end->limit);
    if (end->is_mapped) {
        must(munmap(end->own, PAGE_BYTES) == 0, "munmap");
        must(munmap((void *)(uintptr_t)end->peer, PAGE_BYTES) == 0, "munmap");
    }
    end->own = NULL;
    end->peer = NULL;
}

bool pair_has_work(void *ctx) {
    const struct pair_end *end = ctx;
    return atomic_load_explicit(&end->peer->published, memory_order_acquire) != end->taken;
}

struct sri_wake_condition pair_condition(struct pair_end *end) {
    return (struct sri_wake_condition){pair_has_work, end};
}

void pair_publish(struct pair_end *end) {
    end->published++;
    atomic_store_explicit(&end->own->published, end->published, memory_order_release);
    sri_wake_ring(&end->waker);
}

enum sri_wake_outcome pair_wait(struct pair_end *end, struct sri_spin *spin, uint64_t deadline_ns) {
    const struct sri_wake_condition condition = pair_condition(end);
    const enum sri_wake_outcome outcome =
        sri_wake_wait(&end->waiter, &condition, spin, deadline_ns);
    if (outcome == SRI_WAKE_WORK) {
        end->taken = atomic_load_explicit(&end->peer->published, memory_order_acquire);
    }
    return outcome;
}
