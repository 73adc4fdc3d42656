/* SPDX-License-Identifier: MIT */
/*
 * The io_uring backend. Setup, mapping and registration are liburing's; SQEs are published and sent
 * here, because after a failed or partial io_uring_enter(2) it must be known exactly what the
 * kernel took.
 */
#include "core/check.h"
#include "sys/backend.h"
#include "sys/memory.h"
#include "sys/os.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Fixed slot 0 is the library's: the lifeline. */
#define LIFELINE_SLOT 0u

#define FEATURES_NEEDED                                                                            \
    (IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_RW_CUR_POS | IORING_FEAT_EXT_ARG)

/* Best first. A flag that the kernel does not know is EINVAL; so is any that is newer than liburing
 * itself, which must never be asked for (liburing would map the ring wrongly). */
static const uint32_t setup_ladder[] = {
    IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
        IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN |
        IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL,
};

static struct io_uring *uring_of(const struct sri_queue *queue) {
    return queue->state;
}

static int setup_by_trying(const struct sri_queue_config *config, struct io_uring *uring,
                           struct io_uring_params *out_params) {
    int code = -EINVAL;
    for (size_t i = 0; i < sizeof setup_ladder / sizeof setup_ladder[0] && code == -EINVAL; i++) {
        *out_params = (struct io_uring_params){
            .flags = setup_ladder[i] | (config->ops_allowed != NULL ? IORING_SETUP_R_DISABLED : 0u),
            .cq_entries = config->cq_entries,
        };
        code = io_uring_queue_init_params(config->sq_entries, uring, out_params);
    }
    return code == -EINVAL ? SR_E_UNSUPPORTED : code;
}

static void probe_operations(struct io_uring *uring, struct sri_queue *queue) {
    struct io_uring_probe *probe = io_uring_get_probe_ring(uring);
    if (probe == NULL) {
        return;
    }
    for (uint32_t i = 0; i < probe->ops_len && i < sizeof queue->op_supported; i++) {
        queue->op_supported[i] = (probe->ops[i].flags & IO_URING_OP_SUPPORTED) != 0;
    }
    io_uring_free_probe(probe);
}

/* Without a lifeline nothing could tell when the memory of a closed queue is free again. */
static int open_lifeline(struct io_uring *uring, struct sri_queue *queue, uint32_t fixed_files) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return -errno;
    }
    int code = io_uring_register_files_sparse(uring, SRI_QUEUE_LIBRARY_SLOTS + fixed_files);
    queue->fixed_files = code == 0 ? fixed_files : 0;
    queue->fixed_files_error = code;
    if (code < 0 && fixed_files > 0) {
        /* RLIMIT_NOFILE bounds the table: do with the library's own slot. */
        code = io_uring_register_files_sparse(uring, SRI_QUEUE_LIBRARY_SLOTS);
    }
    if (code == 0) {
        code = io_uring_register_files_update(uring, LIFELINE_SLOT, &ends[1], 1);
    } else if (code == -EINVAL) {
        code = SR_E_UNSUPPORTED; /* sparse tables came with Linux 5.19 */
    }
    (void)close(ends[1]); /* from here on only the kernel holds it */
    if (code < 0) {
        (void)close(ends[0]); /* a pipe end: no error that matters */
        return code;
    }
    queue->lifeline = ends[0];
    return 0;
}

static void adopt_layout(struct io_uring *uring, const struct io_uring_params *params,
                         struct sri_queue *queue) {
    queue->sqes = uring->sq.sqes;
    queue->sq_entries = params->sq_entries;
    queue->sq_mask = params->sq_entries - 1;
    queue->cqes = uring->cq.cqes;
    queue->cq_entries = params->cq_entries;
    queue->cq_mask = params->cq_entries - 1;
    queue->shared_sq_head = (_Atomic uint32_t *)uring->sq.khead;
    queue->shared_sq_tail = (_Atomic uint32_t *)uring->sq.ktail;
    queue->shared_sq_flags = (_Atomic uint32_t *)uring->sq.kflags;
    queue->shared_cq_head = (_Atomic uint32_t *)uring->cq.khead;
    queue->shared_cq_tail = (_Atomic uint32_t *)uring->cq.ktail;
    queue->setup_flags = params->flags;
    queue->features = params->features;
    for (uint32_t i = 0; i < params->sq_entries; i++) {
        uring->sq.array[i] = i;
    }
}

/* What a locked-down ring may still be asked to do: the opcodes of the list, with any flags, and
 * the registrations that the library makes while the ring lives. */
static int restrict_ring(const struct io_uring *uring, const struct sri_queue *queue,
                         const uint8_t *ops_allowed) {
    static const uint8_t registrations[] = {
        IORING_REGISTER_ENABLE_RINGS,   IORING_REGISTER_FILES_UPDATE, IORING_REGISTER_PBUF_RING,
        IORING_REGISTER_BUFFERS_UPDATE, IORING_UNREGISTER_PBUF_RING,  IORING_REGISTER_EVENTFD,
        IORING_UNREGISTER_RING_FDS,     IORING_UNREGISTER_EVENTFD,
    };
    struct io_uring_restriction list[256 + sizeof registrations + 1];
    uint32_t count = 0;
    memset(list, 0, sizeof list);
    for (uint32_t op = 0; op < 256; op++) {
        if (ops_allowed[op] != 0 && queue->op_supported[op] != 0) {
            list[count].opcode = IORING_RESTRICTION_SQE_OP;
            list[count++].sqe_op = (uint8_t)op;
        }
    }
    for (size_t i = 0; i < sizeof registrations; i++) {
        list[count].opcode = IORING_RESTRICTION_REGISTER_OP;
        list[count++].register_op = registrations[i];
    }
    list[count].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    list[count++].sqe_flags = IOSQE_FIXED_FILE | IOSQE_ASYNC | IOSQE_BUFFER_SELECT;
    /* liburing 2.3 declares the two calls and does not export them. */
    int code =
        io_uring_register((unsigned int)uring->ring_fd, IORING_REGISTER_RESTRICTIONS, list, count);
    if (code == 0) {
        code =
            io_uring_register((unsigned int)uring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    }
    return code < 0 ? code : 0;
}

static int register_resources(struct io_uring *uring, const struct sri_queue_config *config,
                              struct sri_queue *queue) {
    const int code = open_lifeline(uring, queue, config->fixed_files);
    if (code < 0) {
        return code;
    }
    queue->fixed_buffers_error = io_uring_register_buffers_sparse(uring, config->fixed_buffers);
    queue->fixed_buffers = queue->fixed_buffers_error == 0 ? config->fixed_buffers : 0;
    if (config->workers_max > 0) {
        unsigned int limits[2] = {config->workers_max, config->workers_max};
        queue->workers_error = io_uring_register_iowq_max_workers(uring, limits);
    }
    queue->fd_registered = io_uring_register_ring_fd(uring) == 1;
    return config->ops_allowed != NULL ? restrict_ring(uring, queue, config->ops_allowed) : 0;
}

static int uring_open(const struct sri_backend *backend, const struct sri_queue_config *config,
                      struct sri_queue *out_queue) {
    struct io_uring_params params;
    struct io_uring *uring = sri_allocate(1, sizeof *uring);
    if (uring == NULL) {
        return -ENOMEM;
    }
    int code = setup_by_trying(config, uring, &params);
    if (code < 0) {
        sri_release(uring);
        return code;
    }
    *out_queue = (struct sri_queue){.backend = backend,
                                    .state = uring,
                                    .lifeline = -1,
                                    .kind = SRI_BACKEND_URING,
                                    .loses_cancels = true};
    adopt_layout(uring, &params, out_queue);
    probe_operations(uring, out_queue);
    code = (params.features & FEATURES_NEEDED) != FEATURES_NEEDED ? SR_E_UNSUPPORTED : 0;
    if (code == 0) {
        /* A child would share the queues with its parent: it gets none. */
        code = io_uring_ring_dontfork(uring);
    }
    if (code == 0) {
        code = register_resources(uring, config, out_queue);
    }
    if (code < 0) {
        io_uring_queue_exit(uring);
        sri_release(uring);
    }
    return code;
}

static void uring_close(struct sri_queue *queue, enum sri_closer closer) {
    struct io_uring *uring = uring_of(queue);
    if (closer != SRI_CLOSER_OWNER) {
        /* A registered ring descriptor is an index in the table of the thread that registered it.
         * Here liburing would unregister whatever ring the calling thread has under the same index.
         */
        uring->int_flags = 0;
    }
    if (closer == SRI_CLOSER_CHILD) {
        /* The queues were not inherited (DONTFORK); something else may be mapped there by now. */
        (void)close(uring->ring_fd);
    } else {
        io_uring_queue_exit(uring);
    }
    sri_release(uring);
    queue->state = NULL;
}

static int uring_enter(struct sri_queue *queue, uint32_t submit_count,
                       const struct sri_wait *wait) {
    const struct io_uring *uring = uring_of(queue);
    unsigned int flags = queue->fd_registered ? IORING_ENTER_REGISTERED_RING : 0;
    struct __kernel_timespec timeout;
    struct io_uring_getevents_arg arg = {.sigmask_sz = _NSIG / 8};

    atomic_store_explicit(queue->shared_sq_tail, queue->sq_tail, memory_order_release);
    sri_queue_release_cqes(queue);
    if (wait == NULL) {
        return io_uring_enter2((unsigned int)uring->enter_ring_fd, submit_count, 0, flags, NULL, 0);
    }
    flags |= IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
    if (wait->timeout_ns != UINT64_MAX) {
        timeout.tv_sec = (long long)(wait->timeout_ns / 1000000000u);
        timeout.tv_nsec = (long long)(wait->timeout_ns % 1000000000u);
        arg.ts = (uintptr_t)&timeout;
    }
    arg.sigmask = (uintptr_t)wait->sigmask;
    return io_uring_enter2((unsigned int)uring->enter_ring_fd, submit_count, wait->count_min, flags,
                           (sigset_t *)&arg, sizeof arg);
}

static int uring_set_file(struct sri_queue *queue, uint32_t slot, int fd) {
    const int code =
        io_uring_register_files_update(uring_of(queue), SRI_QUEUE_LIBRARY_SLOTS + slot, &fd, 1);
    return code < 0 ? code : 0;
}

static int uring_set_buffer(struct sri_queue *queue, uint32_t slot, void *memory,
                            size_t size_bytes) {
    const struct iovec vector = {memory, memory != NULL ? size_bytes : 0};
    const __u64 tag = 0;
    const int code = io_uring_register_buffers_update_tag(uring_of(queue), slot, &vector, &tag, 1);
    return code < 0 ? code : 0;
}

static int uring_add_buffer_ring(struct sri_queue *queue, uint16_t group,
                                 struct io_uring_buf_ring *memory, uint32_t entries) {
    struct io_uring_buf_reg reg = {
        .ring_addr = (uintptr_t)memory,
        .ring_entries = entries,
        .bgid = group,
    };
    return io_uring_register_buf_ring(uring_of(queue), &reg, 0);
}

static int uring_remove_buffer_ring(struct sri_queue *queue, uint16_t group) {
    return io_uring_unregister_buf_ring(uring_of(queue), group);
}

/* The kernel signals the eventfd itself. */
static int uring_event_open(const struct sri_queue *queue, int wakeup_fd) {
    (void)queue;
    return wakeup_fd;
}

static int uring_set_event_fd(struct sri_queue *queue, int wakeup_fd, int event_fd) {
    (void)event_fd;
    return wakeup_fd >= 0 ? io_uring_register_eventfd(uring_of(queue), wakeup_fd)
                          : io_uring_unregister_eventfd(uring_of(queue));
}

const struct sri_backend sri_backend_uring = {
    .name = "uring",
    .queue_open = uring_open,
    .queue_close = uring_close,
    .queue_enter = uring_enter,
    .queue_set_file = uring_set_file,
    .queue_set_buffer = uring_set_buffer,
    .queue_add_buffer_ring = uring_add_buffer_ring,
    .queue_remove_buffer_ring = uring_remove_buffer_ring,
    .event_open = uring_event_open,
    .queue_set_event_fd = uring_set_event_fd,
    .is_hung_up = sri_os_is_hung_up,
    SRI_OS_FUNCTIONS,
};
