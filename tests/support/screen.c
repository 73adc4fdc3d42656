/* SPDX-License-Identifier: MIT */
#include "support/screen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES  4096u
#define KEPT_MAX 64u

static struct {
    struct sri_backend backend;
    const struct sri_backend *real;
    bool (*keeps)(const struct sri_cqe *cqe);
    struct sri_cqe kept[KEPT_MAX];
    uint32_t kept_count;
    uint32_t shown_count;
    /* The queue that the ring reads. */
    _Alignas(struct io_uring_cqe) unsigned char cqe_bytes[ENTRIES * sizeof(struct io_uring_cqe)];
    _Atomic uint32_t head;
    _Atomic uint32_t tail;
    /* The one that the backend writes. */
    struct io_uring_cqe *real_cqes;
    uint32_t real_mask;
    _Atomic uint32_t *real_head;
    _Atomic uint32_t *real_tail;
} self;

static struct io_uring_cqe *cqes(void) {
    return (struct io_uring_cqe *)(void *)self.cqe_bytes;
}

static void show(const struct sri_cqe *cqe) {
    const uint32_t tail = atomic_load(&self.tail);
    if (tail - atomic_load(&self.head) == ENTRIES) {
        fprintf(stderr, "screen: more completions than the test can have meant\n");
        abort();
    }
    struct io_uring_cqe *shown = &cqes()[tail % ENTRIES];
    shown->user_data = cqe->user_data;
    shown->res = cqe->result;
    shown->flags = cqe->flags;
    atomic_store(&self.tail, tail + 1);
    self.shown_count++;
}

static void keep(const struct sri_cqe *cqe) {
    if (self.kept_count == KEPT_MAX) {
        fprintf(stderr, "screen: more completions are kept than there is room for\n");
        abort();
    }
    self.kept[self.kept_count++] = *cqe;
}

static void pass_on(void) {
    uint32_t head = atomic_load(self.real_head);
    while (head != atomic_load_explicit(self.real_tail, memory_order_acquire)) {
        const struct io_uring_cqe *real = &self.real_cqes[head++ & self.real_mask];
        const struct sri_cqe cqe = {real->user_data, real->res, real->flags};
        if (self.keeps != NULL && self.keeps(&cqe)) {
            keep(&cqe);
        } else {
            show(&cqe);
        }
    }
    atomic_store_explicit(self.real_head, head, memory_order_release);
}

static int open_queue(const struct sri_backend *backend, const struct sri_queue_config *config,
                      struct sri_queue *out_queue) {
    const int code = self.real->queue_open(backend, config, out_queue);
    if (code == 0) {
        self.real_cqes = out_queue->cqes;
        self.real_mask = out_queue->cq_mask;
        self.real_head = out_queue->shared_cq_head;
        self.real_tail = out_queue->shared_cq_tail;
        out_queue->cqes = cqes();
        out_queue->cq_mask = ENTRIES - 1;
        out_queue->shared_cq_head = &self.head;
        out_queue->shared_cq_tail = &self.tail;
    }
    return code;
}

/* A wait for what is kept goes on: the backend's queue is empty then. */
static int enter_queue(struct sri_queue *queue, uint32_t submit_count,
                       const struct sri_wait *wait) {
    const int code = self.real->queue_enter(queue, submit_count, wait);
    pass_on();
    return code;
}

void screen_install(enum sri_backend_kind kind) {
    memset(&self, 0, sizeof self);
    self.real = sri_backend_of(kind);
    self.backend = *self.real;
    self.backend.name = "screen";
    self.backend.queue_open = open_queue;
    self.backend.queue_enter = enter_queue;
    sri_backend_set(&self.backend);
}

void screen_remove(void) {
    sri_backend_set(NULL);
}

void screen_keep(bool (*keeps)(const struct sri_cqe *cqe)) {
    self.keeps = keeps;
}

uint32_t screen_kept_count(void) {
    return self.kept_count;
}

uint32_t screen_shown_count(void) {
    return self.shown_count;
}

void screen_show(uint32_t index) {
    if (index >= self.kept_count) {
        fprintf(stderr, "screen: completion %u of %u\n", index, self.kept_count);
        abort();
    }
    show(&self.kept[index]);
}
