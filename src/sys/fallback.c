/* SPDX-License-Identifier: MIT */
#include "sys/fallback.h"

#include "sys/clock.h"
#include "sys/memory.h"
#include "sys/os.h"
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>

/* Threads start as jobs come that find none idle. More than a few, because some jobs block for long
 * (a FIFO that is opened, a slow network file system) and must not hold up all others. */
#define WORKERS_MAX_DEFAULT 16u

/* Completions beyond the queue's size that can wait. When they are all used, and so many more are
 * in flight as the queue has entries, nothing is taken any more. */
#define OVERFLOW_MAX 16384u

#define FEATURES                                                                                   \
    (IORING_FEAT_NODROP | IORING_FEAT_RW_CUR_POS | IORING_FEAT_EXT_ARG | IORING_FEAT_FAST_POLL |   \
     IORING_FEAT_POLL_32BITS)

static struct sri_fallback *fallback_of(const struct sri_queue *queue) {
    return queue->state;
}

/* ---- open and close ------------------------------------------------------------------------- */

/* Parts of one mapping, one after the other. */
static void *part(char *base, size_t *offset, size_t count, size_t size_bytes) {
    const size_t begin = (*offset + 63) & ~(size_t)63;
    *offset = begin + count * size_bytes;
    return base != NULL ? base + begin : NULL;
}

/* Lays out what a forked child gets a copy of. With @base NULL it only tells how many bytes. */
static size_t lay_out_own(char *base, const struct sri_queue_config *config,
                          struct sri_fallback *out) {
    size_t offset = sizeof *out;
    out->files_count = SRI_QUEUE_LIBRARY_SLOTS + config->fixed_files;
    out->buffers_count = config->fixed_buffers;
    out->files = part(base, &offset, out->files_count, sizeof *out->files);
    out->buffers = part(base, &offset, out->buffers_count, sizeof *out->buffers);
    return offset;
}

/* The same for the rest. */
static size_t lay_out_shared(char *base, const struct sri_queue_config *config,
                             struct sri_fallback *out) {
    size_t offset = 0;
    /* As many as CQEs or operations, and those of one more submission: cancels need places too. */
    const uint32_t most =
        config->cq_entries > config->ops_max ? config->cq_entries : config->ops_max;
    const uint32_t alive_max = most + config->sq_entries;
    out->alive_max = alive_max;
    out->jobs_max = alive_max + OVERFLOW_MAX;
    out->bucket_mask = 1;
    while (out->bucket_mask < alive_max) {
        out->bucket_mask = 2 * out->bucket_mask + 1;
    }
    out->shared = part(base, &offset, 1, sizeof *out->shared);
    out->sqes = part(base, &offset, config->sq_entries, sizeof *out->sqes);
    out->cqes = part(base, &offset, config->cq_entries, sizeof *out->cqes);
    out->jobs = part(base, &offset, out->jobs_max, sizeof *out->jobs);
    out->buckets = part(base, &offset, (size_t)out->bucket_mask + 1, sizeof(struct sri_job *));
    out->watches = part(base, &offset, alive_max, sizeof *out->watches);
    out->watches_free = part(base, &offset, alive_max, sizeof *out->watches_free);
    out->timers.items = part(base, &offset, alive_max, sizeof(struct sri_heap_item *));
    out->timers.count_max = alive_max;
    out->watch_index.cells =
        part(base, &offset, sri_index_cells_for(alive_max), sizeof(struct sri_index_cell));
    return offset;
}

/* Pages that are never touched cost nothing. */
static void *map_bytes(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory != MAP_FAILED ? memory : NULL;
}

static void unmap_bytes(void *memory, size_t bytes) {
    const int failed = munmap(memory, bytes);
    SR_CHECK(failed == 0);
}

static struct sri_fallback *map_fallback(const struct sri_queue_config *config) {
    struct sri_fallback measure = {.mapping_bytes = 0};
    const size_t own_bytes = lay_out_own(NULL, config, &measure);
    const size_t shared_bytes = lay_out_shared(NULL, config, &measure);
    struct sri_fallback *fallback = map_bytes(own_bytes);
    void *shared = fallback != NULL ? map_bytes(shared_bytes) : NULL;
    if (shared == NULL || madvise(shared, shared_bytes, MADV_DONTFORK) != 0) {
        if (shared != NULL) {
            unmap_bytes(shared, shared_bytes);
        }
        if (fallback != NULL) {
            unmap_bytes(fallback, own_bytes);
        }
        return NULL;
    }
    (void)lay_out_own((char *)fallback, config, fallback);
    (void)lay_out_shared(shared, config, fallback);
    fallback->mapping_bytes = own_bytes;
    fallback->shared_bytes = shared_bytes;
    return fallback;
}

static void init(struct sri_fallback *fallback, const struct sri_queue_config *config) {
    fallback->sq_entries = config->sq_entries;
    fallback->cq_entries = config->cq_entries;
    fallback->workers_max =
        config->workers_max > 0 ? config->workers_max : (uint32_t)WORKERS_MAX_DEFAULT;
    fallback->epoll_fd = fallback->wake_fd = fallback->lifeline_fd = -1;
    fallback->event_fd = fallback->wakeup_fd = fallback->timer_fd = -1;
    sri_job_list_init(&fallback->overflow);
    sri_job_list_init(&fallback->queued);
    sri_job_list_init(&fallback->done);
    for (uint32_t i = 0; i < fallback->files_count; i++) {
        fallback->files[i] = -1;
    }
    if (config->ops_allowed != NULL) {
        memcpy(fallback->ops_allowed, config->ops_allowed, sizeof fallback->ops_allowed);
    } else {
        memset(fallback->ops_allowed, 1, sizeof fallback->ops_allowed);
    }
    sri_index_init(&fallback->watch_index, fallback->watch_index.cells, fallback->alive_max,
                   sri_os_random());
    /* Cannot fail without attributes. */
    (void)pthread_mutex_init(&fallback->lock, NULL);
    (void)pthread_cond_init(&fallback->work, NULL);
}

static int open_descriptors(struct sri_fallback *fallback, int *out_lifeline) {
    int ends[2];
    fallback->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (fallback->epoll_fd < 0) {
        return -errno;
    }
    fallback->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fallback->wake_fd < 0) {
        return -errno;
    }
    struct epoll_event event = {.events = EPOLLIN, .data = {.fd = fallback->wake_fd}};
    if (epoll_ctl(fallback->epoll_fd, EPOLL_CTL_ADD, fallback->wake_fd, &event) != 0 ||
        pipe2(ends, O_CLOEXEC) != 0) {
        return -errno;
    }
    *out_lifeline = ends[0];
    fallback->lifeline_fd = ends[1];
    return 0;
}

static void close_if_open(int fd) {
    if (fd >= 0) {
        (void)sri_os_close(fd); /* ours, and nothing that could fail */
    }
}

static void free_all(struct sri_fallback *fallback, bool closer_has_shared) {
    const int lifeline_fd = fallback->lifeline_fd;
    close_if_open(fallback->epoll_fd);
    close_if_open(fallback->wake_fd);
    if (closer_has_shared) {
        unmap_bytes(fallback->shared, fallback->shared_bytes);
    }
    unmap_bytes(fallback, fallback->mapping_bytes);
    close_if_open(lifeline_fd);
}

void sri_fallback_free(struct sri_fallback *fallback) {
    free_all(fallback, true);
}

static void adopt_layout(struct sri_fallback *fallback, struct sri_queue *queue) {
    queue->sqes = fallback->sqes;
    queue->sq_entries = fallback->sq_entries;
    queue->sq_mask = fallback->sq_entries - 1;
    queue->cqes = fallback->cqes;
    queue->cq_entries = fallback->cq_entries;
    queue->cq_mask = fallback->cq_entries - 1;
    queue->shared_sq_head = &fallback->shared->sq_head;
    queue->shared_sq_tail = &fallback->shared->sq_tail;
    queue->shared_sq_flags = &fallback->shared->sq_flags;
    queue->shared_cq_head = &fallback->shared->cq_head;
    queue->shared_cq_tail = &fallback->shared->cq_tail;
    queue->features = FEATURES;
    queue->fixed_files = fallback->files_count - SRI_QUEUE_LIBRARY_SLOTS;
    queue->fixed_buffers = fallback->buffers_count;
}

static int fallback_open(const struct sri_backend *backend, const struct sri_queue_config *config,
                         struct sri_queue *out_queue) {
    sri_workers_reap();
    struct sri_fallback *fallback = map_fallback(config);
    if (fallback == NULL) {
        return -ENOMEM;
    }
    init(fallback, config);
    *out_queue = (struct sri_queue){
        .backend = backend,
        .state = fallback,
        .lifeline = -1,
        .kind = SRI_BACKEND_FALLBACK,
        .finds_files_late = true,
    };
    adopt_layout(fallback, out_queue);
    sri_job_probe(out_queue->op_supported);
    const int code = open_descriptors(fallback, &out_queue->lifeline);
    if (code < 0) {
        sri_fallback_free(fallback);
    }
    return code;
}

/* A forked child has copies of the memory and of the descriptors, and none of the threads. */
static void close_in_child(struct sri_fallback *fallback) {
    close_if_open(fallback->timer_fd);
    sri_workers_forget(fallback);
    free_all(fallback, false); /* something else may be mapped where the queue was */
}

static void fallback_close(struct sri_queue *queue, enum sri_closer closer) {
    struct sri_fallback *fallback = fallback_of(queue);
    queue->state = NULL;
    sri_buffer_free_groups(fallback);
    if (closer == SRI_CLOSER_CHILD) {
        close_in_child(fallback);
        return;
    }
    if (fallback->event_fd >= 0) {
        (void)sri_fallback_set_event_fd(&(struct sri_queue){.state = fallback}, -1, -1);
    }
    for (uint32_t i = 0; i < fallback->jobs_used; i++) {
        close_if_open(fallback->jobs[i].pidfd);
    }
    if (sri_workers_close(fallback)) {
        sri_fallback_free(fallback);
    }
    sri_workers_reap();
}

static bool fallback_is_hung_up(int fd) {
    const bool is_hung_up = sri_os_is_hung_up(fd);
    sri_workers_reap(); /* those that have just hung it up */
    return is_hung_up;
}

/* ---- enter ---------------------------------------------------------------------------------- */

/* Takes SQEs in order, each once. */
static uint32_t submit(struct sri_fallback *fallback, uint32_t count_max) {
    const uint32_t mask = fallback->sq_entries - 1;
    uint32_t head = atomic_load_explicit(&fallback->shared->sq_head, memory_order_relaxed);
    const uint32_t there =
        atomic_load_explicit(&fallback->shared->sq_tail, memory_order_relaxed) - head;
    const uint32_t count = count_max < there ? count_max : there;
    uint32_t taken = 0;
    while (taken < count && sri_job_take(fallback, &fallback->sqes[head & mask])) {
        head++;
        taken++;
    }
    atomic_store_explicit(&fallback->shared->sq_head, head, memory_order_release);
    return taken;
}

static void collect(struct sri_fallback *fallback) {
    sri_job_flush_overflow(fallback);
    sri_workers_collect(fallback);
    if (fallback->watched_count > 0) {
        sri_watch_collect(fallback);
    }
    sri_job_fire_timers(fallback);
}

static uint32_t ready_count(const struct sri_fallback *fallback) {
    return atomic_load_explicit(&fallback->shared->cq_tail, memory_order_relaxed) -
           atomic_load_explicit(&fallback->shared->cq_head, memory_order_relaxed);
}

/* Sleeps until a descriptor is ready, a worker has ended something, or @end_ns. */
static int sleep_until(const struct sri_fallback *fallback, uint64_t now_ns, uint64_t end_ns,
                       const sigset_t *sigmask) {
    const uint64_t rest_ns = end_ns - now_ns;
    struct timespec rest = {(time_t)(rest_ns / 1000000000u), (long)(rest_ns % 1000000000u)};
    struct pollfd ready = {.fd = fallback->epoll_fd, .events = POLLIN};
    /* Not epoll_pwait2(2), which is newer than some kernels that deny io_uring. */
    const int code = SRI_SYSCALL(SYS_ppoll, &ready, 1L, end_ns != UINT64_MAX ? &rest : NULL,
                                 sigmask, (size_t)(_NSIG / 8));
    return code < 0 ? code : 0;
}

static int wait_for(struct sri_fallback *fallback, const struct sri_wait *wait) {
    uint64_t now_ns = wait->count_min > 0 ? sri_os_now_ns() : 0;
    const uint64_t end_ns = sri_clock_after(now_ns, wait->timeout_ns);
    int code = 0;
    collect(fallback);
    while (ready_count(fallback) < wait->count_min) {
        if (code < 0) {
            return code;
        }
        if (now_ns >= end_ns) {
            return -ETIME;
        }
        const struct sri_heap_item *first = sri_heap_first(&fallback->timers);
        const uint64_t next_ns = first != NULL && first->key < end_ns ? first->key : end_ns;
        if (next_ns > now_ns) {
            code = sleep_until(fallback, now_ns, next_ns, wait->sigmask);
        }
        now_ns = sri_os_now_ns();
        collect(fallback);
    }
    return 0;
}

/* Whether entering again would bring something, as io_uring says it. What waits for a descriptor or
 * the clock may be ready at any time; nobody looks until then, unless there is an event descriptor,
 * which says so. */
static void set_flags(struct sri_fallback *fallback) {
    const bool unwatched =
        fallback->event_fd < 0 && (fallback->watched_count > 0 || fallback->timers.count > 0);
    pthread_mutex_lock(&fallback->lock);
    const bool run = unwatched || fallback->done.first != NULL;
    const uint32_t flags = (run ? IORING_SQ_TASKRUN : 0u) |
                           (fallback->overflow.first != NULL ? IORING_SQ_CQ_OVERFLOW : 0u);
    atomic_store_explicit(&fallback->shared->sq_flags, flags, memory_order_relaxed);
    pthread_mutex_unlock(&fallback->lock);
}

static int fallback_enter(struct sri_queue *queue, uint32_t submit_count,
                          const struct sri_wait *wait) {
    struct sri_fallback *fallback = fallback_of(queue);
    int code = 0;
    atomic_store_explicit(queue->shared_sq_tail, queue->sq_tail, memory_order_release);
    sri_queue_release_cqes(queue);
    sri_job_flush_overflow(fallback);
    const uint32_t taken = submit(fallback, submit_count);
    if (taken < submit_count && taken == 0) {
        code = -EAGAIN; /* no place for a job: completions must be taken first */
        collect(fallback);
    } else if (taken == submit_count && wait != NULL) {
        code = wait_for(fallback, wait);
    }
    set_flags(fallback);
    sri_fallback_tell(fallback);
    return taken > 0 ? (int)taken : code;
}

/* ---- registration --------------------------------------------------------------------------- */

/* The slot names the descriptor, which the ring keeps open as long as it is there. A duplicate
 * would have to be closed, and that may block (a file system that writes back at close). */
static int fallback_set_file(struct sri_queue *queue, uint32_t slot, int fd) {
    struct sri_fallback *fallback = fallback_of(queue);
    const uint32_t index = SRI_QUEUE_LIBRARY_SLOTS + slot;
    if (index >= fallback->files_count) {
        return -EINVAL;
    }
    if (fd >= 0 && fcntl(fd, F_GETFD) < 0) {
        return -errno;
    }
    fallback->files[index] = fd >= 0 ? fd : -1;
    return 0;
}

static int fallback_set_buffer(struct sri_queue *queue, uint32_t slot, void *memory,
                               size_t size_bytes) {
    struct sri_fallback *fallback = fallback_of(queue);
    if (slot >= fallback->buffers_count) {
        return -EINVAL;
    }
    fallback->buffers[slot] = (struct iovec){memory, memory != NULL ? size_bytes : 0};
    return 0;
}

const struct sri_backend sri_backend_fallback = {
    .name = "fallback",
    .queue_open = fallback_open,
    .queue_close = fallback_close,
    .queue_enter = fallback_enter,
    .queue_set_file = fallback_set_file,
    .queue_set_buffer = fallback_set_buffer,
    .queue_add_buffer_ring = sri_fallback_add_buffer_ring,
    .queue_remove_buffer_ring = sri_fallback_remove_buffer_ring,
    .event_open = sri_fallback_event_open,
    .queue_set_event_fd = sri_fallback_set_event_fd,
    .is_hung_up = fallback_is_hung_up,
    SRI_OS_FUNCTIONS,
};
