/* SPDX-License-Identifier: MIT */
#include "support/failing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    _Atomic uint64_t counts[FAILING_CALLS];
    _Atomic uint64_t any_count;
    _Atomic uint64_t injected;
    _Atomic int64_t blocks;
    _Atomic int64_t mappings;
    _Atomic int64_t queues;
    /* The plan. `due` is a value of the call's counter, 0 for none. */
    enum failing_call planned;
    uint64_t due;
    int code;
    bool for_ever;
    uint64_t enter_period;
    int enter_code;
    uint32_t enter_max;
    bool no_registration;
    const struct sri_backend *chosen; /* failing_install_before() */
    uint8_t op_masked[256];
    /* What a failed call would have opened. */
    uintptr_t closed_begin;
    uintptr_t closed_end;
    uint64_t sqe_count;
    struct failing_sqe sqes[FAILING_SQES_KEPT];
} self;

static const struct sri_backend wrapper;

static const struct sri_backend *real(void) {
    return self.chosen != NULL ? self.chosen : sri_backend_real();
}

/* The one that opened @queue, which is not always the one that was asked first. */
static const struct sri_backend *real_of(const struct sri_queue *queue) {
    return sri_backend_of(queue->kind);
}

static bool can_fail(enum failing_call call) {
    switch (call) {
    case FAILING_QUEUE_CLOSE:
    case FAILING_UNMAP:
    case FAILING_RELEASE:
    case FAILING_WAKEUP_WRITE:
    case FAILING_NOW_NS:
    case FAILING_PAUSE:
    case FAILING_RANDOM:
        return false;
    default:
        return true;
    }
}

static bool is_due(uint64_t count) {
    return self.due != 0 && (count == self.due || (self.for_ever && count > self.due));
}

/* Counts a call. Returns the code that it shall fail with, or 0. */
static int called(enum failing_call call) {
    const uint64_t count = ++self.counts[call];
    if (!can_fail(call)) {
        return 0;
    }
    const uint64_t any_count = ++self.any_count;
    const bool now = (self.planned == call && is_due(count)) ||
                     (self.planned == FAILING_ANY && is_due(any_count));
    self.injected += now;
    return now ? self.code : 0;
}

/* ---- queues --------------------------------------------------------------------------------- */

static int wrap_open(const struct sri_backend *backend, const struct sri_queue_config *config,
                     struct sri_queue *out_queue) {
    (void)backend;
    int code = called(FAILING_QUEUE_OPEN);
    if (code == 0) {
        code = real()->queue_open(&wrapper, config, out_queue);
        const struct sri_backend *instead =
            code < 0 && self.chosen == NULL ? sri_backend_instead(real(), code) : NULL;
        if (instead != NULL) {
            code = instead->queue_open(&wrapper, config, out_queue);
        }
    }
    if (code == 0) {
        self.queues++;
        for (size_t i = 0; i < sizeof self.op_masked; i++) {
            out_queue->op_supported[i] = out_queue->op_supported[i] && !self.op_masked[i];
        }
    }
    return code;
}

static void wrap_close(struct sri_queue *queue, enum sri_closer closer) {
    (void)called(FAILING_QUEUE_CLOSE);
    self.queues--;
    real_of(queue)->queue_close(queue, closer);
}

static void publish(struct sri_queue *queue) {
    atomic_store_explicit(queue->shared_sq_tail, queue->sq_tail, memory_order_release);
    sri_queue_release_cqes(queue);
}

static struct failing_sqe sqe_from_uapi(const struct io_uring_sqe *sqe) {
    return (struct failing_sqe){
        .user_data = sqe->user_data,
        .offset = sqe->off,
        .address = sqe->addr,
        .fd = sqe->fd,
        .length = sqe->len,
        .buffer_index = sqe->buf_index,
        .opcode = sqe->opcode,
        .flags = sqe->flags,
    };
}

/* Notes what is about to go; only what the kernel takes counts. */
static void keep_sqes(const struct sri_queue *queue, uint32_t count) {
    const uint32_t head = atomic_load_explicit(queue->shared_sq_head, memory_order_acquire);
    for (uint32_t i = 0; i < count; i++) {
        self.sqes[(self.sqe_count + i) % FAILING_SQES_KEPT] =
            sqe_from_uapi(&queue->sqes[(head + i) & queue->sq_mask]);
    }
}

static int wrap_enter(struct sri_queue *queue, uint32_t submit_count, const struct sri_wait *wait) {
    int code = called(FAILING_QUEUE_ENTER);
    if (code == 0 && self.enter_period != 0 &&
        self.counts[FAILING_QUEUE_ENTER] % self.enter_period == 0) {
        self.injected++;
        code = self.enter_code;
    }
    if (code != 0) {
        publish(queue);
        return code;
    }
    if (self.enter_max != 0 && submit_count > self.enter_max) {
        /* After a partial submit the kernel does not wait. */
        self.injected++;
        submit_count = self.enter_max;
        wait = NULL;
    }
    keep_sqes(queue, submit_count);
    code = real_of(queue)->queue_enter(queue, submit_count, wait);
    self.sqe_count += code > 0 ? (uint64_t)code : 0;
    return code;
}

static int wrap_set_file(struct sri_queue *queue, uint32_t slot, int fd) {
    const int code = called(FAILING_QUEUE_SET_FILE);
    return code != 0 ? code : real_of(queue)->queue_set_file(queue, slot, fd);
}

static int wrap_set_buffer(struct sri_queue *queue, uint32_t slot, void *memory,
                           size_t size_bytes) {
    const int code = called(FAILING_QUEUE_SET_BUFFER);
    if (code == 0 && self.no_registration && memory != NULL) {
        return -ENOMEM;
    }
    return code != 0 ? code : real_of(queue)->queue_set_buffer(queue, slot, memory, size_bytes);
}

static int wrap_add_buffer_ring(struct sri_queue *queue, uint16_t group,
                                struct io_uring_buf_ring *memory, uint32_t entries) {
    const int code = called(FAILING_QUEUE_ADD_BUFFER_RING);
    return code != 0 ? code : real_of(queue)->queue_add_buffer_ring(queue, group, memory, entries);
}

static int wrap_remove_buffer_ring(struct sri_queue *queue, uint16_t group) {
    const int code = called(FAILING_QUEUE_REMOVE_BUFFER_RING);
    return code != 0 ? code : real_of(queue)->queue_remove_buffer_ring(queue, group);
}

static int wrap_event_open(const struct sri_queue *queue, int wakeup_fd) {
    const int code = called(FAILING_EVENT_OPEN);
    return code != 0 ? code : real_of(queue)->event_open(queue, wakeup_fd);
}

static int wrap_set_event_fd(struct sri_queue *queue, int wakeup_fd, int event_fd) {
    const int code = called(FAILING_QUEUE_SET_EVENT_FD);
    return code != 0 ? code : real_of(queue)->queue_set_event_fd(queue, wakeup_fd, event_fd);
}

/* ---- memory --------------------------------------------------------------------------------- */

static int wrap_map(const struct sri_map_options *options, struct sri_mapping *out_mapping) {
    int code = called(FAILING_MAP);
    if (code == 0) {
        code = real()->map(options, out_mapping);
        self.mappings += code == 0;
    }
    return code;
}

static void wrap_unmap(const struct sri_mapping *mapping) {
    (void)called(FAILING_UNMAP);
    self.mappings--;
    real()->unmap(mapping);
}

/* Of what could not be opened by itself the whole mapping can: that parts nothing, so the kernel
 * needs nothing for it (src/buffer/protect.c). Without it an owner would not get its memory back.
 */
static int wrap_protect(void *memory, size_t size_bytes, enum sri_rights rights) {
    const uintptr_t begin = (uintptr_t)memory;
    const uintptr_t end = begin + size_bytes;
    const bool opens = rights == SRI_RIGHTS_ALL;
    if (opens && self.closed_end != 0 && begin <= self.closed_begin && end >= self.closed_end) {
        self.counts[FAILING_PROTECT]++;
        self.closed_end = 0;
        return real()->protect(memory, size_bytes, rights);
    }
    const int code = called(FAILING_PROTECT);
    if (code != 0 && opens) {
        self.closed_begin = begin;
        self.closed_end = end;
    }
    return code != 0 ? code : real()->protect(memory, size_bytes, rights);
}

static void *wrap_allocate(size_t size_bytes) {
    if (called(FAILING_ALLOCATE) != 0) {
        return NULL;
    }
    void *memory = real()->allocate(size_bytes);
    self.blocks += memory != NULL;
    return memory;
}

static void wrap_release(void *memory) {
    (void)called(FAILING_RELEASE);
    self.blocks -= memory != NULL;
    real()->release(memory);
}

/* ---- descriptors, clock, randomness ---------------------------------------------------------- */

static int wrap_fd_close(int fd) {
    const int code = called(FAILING_FD_CLOSE);
    const int real_code = real()->fd_close(fd);
    return code != 0 ? code : real_code;
}

static int wrap_fd_is_open(int fd) {
    const int code = called(FAILING_FD_IS_OPEN);
    return code != 0 ? code : real()->fd_is_open(fd);
}

static enum sri_fd_kind wrap_fd_kind(int fd) {
    (void)called(FAILING_FD_KIND);
    return real()->fd_kind(fd);
}

static int wrap_fd_shutdown(int fd) {
    const int code = called(FAILING_FD_SHUTDOWN);
    return code != 0 ? code : real()->fd_shutdown(fd);
}

static int32_t wrap_sqe_run(const struct io_uring_sqe *sqe) {
    const int code = called(FAILING_SQE_RUN);
    return code != 0 ? code : real()->sqe_run(sqe);
}

static int wrap_wakeup_open(bool nonblocking) {
    const int code = called(FAILING_WAKEUP_OPEN);
    return code != 0 ? code : real()->wakeup_open(nonblocking);
}

static void wrap_wakeup_write(int fd) {
    (void)called(FAILING_WAKEUP_WRITE);
    real()->wakeup_write(fd);
}

static void wrap_wakeup_clear(int fd) {
    (void)called(FAILING_WAKEUP_CLEAR);
    real()->wakeup_clear(fd);
}

static bool wrap_is_hung_up(int fd) {
    /* The fallback's does all that io_uring's does, and more. */
    return called(FAILING_IS_HUNG_UP) == 0 && sri_backend_fallback.is_hung_up(fd);
}

static uint64_t wrap_now_ns(void) {
    (void)called(FAILING_NOW_NS);
    return real()->now_ns();
}

static void wrap_pause(uint64_t duration_ns) {
    (void)called(FAILING_PAUSE);
    real()->pause(duration_ns);
}

static uint64_t wrap_random(void) {
    (void)called(FAILING_RANDOM);
    return real()->random();
}

static const struct sri_backend wrapper = {
    .name = "failing",
    .queue_open = wrap_open,
    .queue_close = wrap_close,
    .queue_enter = wrap_enter,
    .queue_set_file = wrap_set_file,
    .queue_set_buffer = wrap_set_buffer,
    .queue_add_buffer_ring = wrap_add_buffer_ring,
    .queue_remove_buffer_ring = wrap_remove_buffer_ring,
    .event_open = wrap_event_open,
    .queue_set_event_fd = wrap_set_event_fd,
    .map = wrap_map,
    .unmap = wrap_unmap,
    .protect = wrap_protect,
    .allocate = wrap_allocate,
    .release = wrap_release,
    .fd_close = wrap_fd_close,
    .fd_is_open = wrap_fd_is_open,
    .fd_kind = wrap_fd_kind,
    .fd_shutdown = wrap_fd_shutdown,
    .sqe_run = wrap_sqe_run,
    .wakeup_open = wrap_wakeup_open,
    .wakeup_write = wrap_wakeup_write,
    .wakeup_clear = wrap_wakeup_clear,
    .is_hung_up = wrap_is_hung_up,
    .now_ns = wrap_now_ns,
    .pause = wrap_pause,
    .random = wrap_random,
};

/* A function that the seam gains must be wrapped, or a NULL would be called. */
_Static_assert(sizeof(struct sri_backend) == sizeof(const char *) + FAILING_CALLS * sizeof(void *),
               "every function of the seam is counted");

/* ---- for tests ------------------------------------------------------------------------------ */

void failing_install(void) {
    memset(&self, 0, sizeof self);
    sri_backend_set(&wrapper);
}

void failing_install_before(enum sri_backend_kind kind) {
    failing_install();
    self.chosen = sri_backend_of(kind);
}

void failing_remove(void) {
    sri_backend_set(NULL);
}

void failing_plan(enum failing_call call, uint64_t nth, int code, bool for_ever) {
    if (nth == 0 || code >= 0 || (call != FAILING_ANY && !can_fail(call))) {
        fprintf(stderr, "failing_plan: call %d, nth %llu, code %d make no plan\n", (int)call,
                (unsigned long long)nth, code);
        abort();
    }
    self.planned = call;
    self.due = failing_count(call) + nth;
    self.code = code;
    self.for_ever = for_ever;
}

void failing_relent(void) {
    self.due = 0;
    self.enter_period = 0;
    self.enter_max = 0;
}

void failing_enter_every(uint64_t period, int code) {
    self.enter_period = period;
    self.enter_code = code;
}

void failing_enter_partial(uint32_t count) {
    self.enter_max = count;
}

void failing_mask_op(uint8_t uapi_opcode) {
    self.op_masked[uapi_opcode] = 1;
}

void failing_refuse_registration(void) {
    self.no_registration = true;
}

uint64_t failing_count(enum failing_call call) {
    return call == FAILING_ANY ? self.any_count : self.counts[call];
}

uint64_t failing_injected(void) {
    return self.injected;
}

int64_t failing_blocks_alive(void) {
    return self.blocks;
}

int64_t failing_mappings_alive(void) {
    return self.mappings;
}

int64_t failing_queues_alive(void) {
    return self.queues;
}

const char *failing_leak(void) {
    static char text[128];
    if (self.blocks == 0 && self.mappings == 0 && self.queues == 0) {
        return NULL;
    }
    (void)snprintf(text, sizeof text, "still alive: %lld blocks, %lld mappings, %lld queues",
                   (long long)self.blocks, (long long)self.mappings, (long long)self.queues);
    return text;
}

uint64_t failing_sqe_count(void) {
    return self.sqe_count;
}

struct failing_sqe failing_sqe(uint64_t index) {
    return self.sqes[index % FAILING_SQES_KEPT];
}

bool failing_sqe_newest(uint8_t opcode, struct failing_sqe *out_sqe) {
    const uint64_t kept =
        self.sqe_count < FAILING_SQES_KEPT ? self.sqe_count : (uint64_t)FAILING_SQES_KEPT;
    for (uint64_t i = 1; i <= kept; i++) {
        *out_sqe = failing_sqe(self.sqe_count - i);
        if (out_sqe->opcode == opcode) {
            return true;
        }
    }
    return false;
}
