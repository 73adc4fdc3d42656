/* SPDX-License-Identifier: MIT */
#include "ring/ring.h"

#include "ring/inbox.h"
#include "ring/request.h"
#include "sys/memory.h"

#include <errno.h>

#define ENTRIES_MAX    32768u
#define CQ_ENTRIES_MAX 65536u
/* Completions of the library's own requests, cancels above all, need room beside the operations'.
 */
#define CQ_RESERVE          64u
#define FIXED_FILES_MAX     32768u
#define COMPLETIONS_DEFAULT 256u

static uint32_t power_of_two_from(uint32_t value) {
    uint32_t power = 1;
    while (power < value) {
        power *= 2;
    }
    return power;
}

static bool in_range(uint32_t value, uint32_t min, uint32_t max) {
    return value >= min && value <= max;
}

static bool options_are_valid(const sr_ring_options *options) {
    const uint32_t inbox = options->inbox_entries;
    return in_range(options->entries, 1, ENTRIES_MAX) &&
           options->ops_max <= SRI_HANDLE_OBJECTS_MAX &&
           (options->cq_entries == 0 ||
            in_range(options->cq_entries, options->entries, CQ_ENTRIES_MAX)) &&
           in_range(options->files_max, 1, SRI_HANDLE_OBJECTS_MAX) &&
           options->fixed_files <= FIXED_FILES_MAX && in_range(options->pools_max, 1, 255) &&
           options->backend <= SR_BACKEND_FALLBACK && options->reserved == 0 &&
           options->completions_max <= 65536 && inbox <= 65536 && inbox != 1 &&
           (inbox & (inbox - 1)) == 0;
}

static void apply_defaults(sr_ring_options *options) {
    if (options->ops_max == 0) {
        const uint32_t entries = power_of_two_from(options->entries);
        const uint32_t twice = 2 * entries > CQ_RESERVE ? 2 * entries - CQ_RESERVE : 0;
        options->ops_max = twice > entries ? twice : entries;
    }
    if (options->cq_entries == 0) {
        const uint32_t wanted = options->ops_max + CQ_RESERVE;
        options->cq_entries = wanted < CQ_ENTRIES_MAX ? wanted : CQ_ENTRIES_MAX;
    }
    if (options->cq_entries < power_of_two_from(options->entries)) {
        options->cq_entries = options->entries;
    }
    options->cq_entries = power_of_two_from(options->cq_entries);
    if (options->completions_max == 0) {
        options->completions_max = COMPLETIONS_DEFAULT;
    }
}

/* What may be outstanding at once, so that the completion queue never overflows by it. */
static uint32_t oneshot_max(const sr_ring_options *options) {
    const uint32_t half = options->cq_entries / 2;
    return options->cq_entries - (half < CQ_RESERVE ? half : CQ_RESERVE);
}

static int parts_allocate(sr_ring *ring, const sr_ring_options *options) {
    ring->pools_max = (uint8_t)options->pools_max;
    ring->pools = sri_allocate(ring->pools_max, sizeof *ring->pools);
    ring->fixed_buffer_used =
        sri_allocate(ring->pools_max + SRI_FIXED_BUFFERS_EXTRA, sizeof *ring->fixed_buffer_used);
    ring->completions_max = options->completions_max;
    ring->completions_wanted = options->completions_max;
    ring->completions = sri_allocate(ring->completions_max, sizeof *ring->completions);
    ring->deadlines.count_max = options->ops_max;
    ring->deadlines.items = sri_allocate(options->ops_max, sizeof(struct sri_heap_item *));
    if (ring->pools == NULL || ring->fixed_buffer_used == NULL || ring->completions == NULL ||
        ring->deadlines.items == NULL) {
        return -ENOMEM;
    }
    return sri_ops_init(&ring->ops, options->ops_max, oneshot_max(options));
}

/* What a locked-down ring lets through: the operations listed, and what the library needs. */
static int restrict_to(sr_ring *ring, const sr_ring_options *options) {
    uint8_t *uapi_allowed = ring->setup.uapi_allowed;
    memset(ring->op_refused, 1, sizeof ring->op_refused);
    ring->op_refused[SR_OP_CLOSE] = 0; /* or files could never be closed */
    for (uint32_t i = 0; i < options->ops_allowed_count; i++) {
        if (options->ops_allowed[i] >= SR_OP_COUNT) {
            return -EINVAL;
        }
        ring->op_refused[options->ops_allowed[i]] = 0;
    }
    for (uint32_t op = 0; op < SR_OP_COUNT; op++) {
        uapi_allowed[sri_opcode_specs[op].uapi] |= ring->op_refused[op] == 0;
    }
    uapi_allowed[IORING_OP_READ_FIXED] = ring->op_refused[SR_OP_READ] == 0;
    uapi_allowed[IORING_OP_WRITE_FIXED] = ring->op_refused[SR_OP_WRITE] == 0;
    uapi_allowed[IORING_OP_SEND] |= ring->op_refused[SR_OP_SEND_ZC] == 0;
    uapi_allowed[IORING_OP_NOP] = 1;          /* brings results of substitutes */
    uapi_allowed[IORING_OP_ASYNC_CANCEL] = 1; /* deadlines, closing */
    uapi_allowed[IORING_OP_READ] |= options->inbox_entries > 0;
    ring->plain_opcode_max = -1; /* the short way does not ask */
    return 0;
}

_Static_assert(SR_BACKEND_URING == (int)SRI_BACKEND_URING &&
                   SR_BACKEND_FALLBACK == (int)SRI_BACKEND_FALLBACK,
               "public names of the seam's numbers");

/* What the queue is made of, now and whenever the ring is adopted. */
static int setup_choose(sr_ring *ring, const sr_ring_options *options) {
    struct sri_ring_setup *setup = &ring->setup;
    const bool restricted = options->ops_allowed != NULL;
    setup->backend = options->backend;
    setup->config = (struct sri_queue_config){
        .sq_entries = power_of_two_from(options->entries),
        .cq_entries = options->cq_entries,
        .ops_max = options->ops_max,
        .fixed_files = options->fixed_files,
        .fixed_buffers = ring->pools_max + SRI_FIXED_BUFFERS_EXTRA,
        .workers_max = options->workers_max,
        .ops_allowed = restricted ? setup->uapi_allowed : NULL,
    };
    return restricted ? restrict_to(ring, options) : 0;
}

int sri_ring_open_queue(sr_ring *ring) {
    const struct sri_ring_setup *setup = &ring->setup;
    const bool any = setup->backend == SR_BACKEND_ANY;
    const struct sri_backend *backend =
        any ? sri_backend() : sri_backend_of((enum sri_backend_kind)setup->backend);
    int code = backend->queue_open(backend, &setup->config, &ring->queue);
    const struct sri_backend *instead = any && code < 0 ? sri_backend_instead(backend, code) : NULL;
    ring->stats.backend_error = instead != NULL ? code : 0;
    if (instead != NULL) {
        code = instead->queue_open(instead, &setup->config, &ring->queue);
    }
    if (code < 0) {
        ring->queue.backend = NULL;
    }
    return code;
}

void sri_ring_free(sr_ring *ring) {
    if (ring->queue.backend != NULL) {
        if (ring->queue.lifeline >= 0) {
            (void)ring->queue.backend->fd_close(ring->queue.lifeline); /* a pipe: cannot fail */
        }
        sri_ring_close_event(ring);
    }
    sri_inbox_destroy(ring);
    sri_files_deinit(&ring->files);
    sri_ops_deinit(&ring->ops);
    sri_release(ring->deadlines.items);
    sri_release(ring->completions_aside);
    sri_release(ring->completions);
    sri_release(ring->fixed_buffer_used);
    sri_release(ring->pools);
    ring->magic = 0;
    sri_release(ring);
}

static int ring_init(sr_ring *ring, const sr_ring_options *options) {
    ring->owner_key = sri_owner_key();
    ring->waiting.first = SRI_INDEX32_NONE;
    ring->plain_opcode_max = SR_OP_WRITE;
    ring->event_fd = ring->wakeup_fd = -1;
    ring->drain_timeout_ns = options->drain_timeout_ns;
    ring->on_trace = options->on_trace;
    ring->watches_submits = options->on_trace != NULL ? SRI_WATCH_TRACE : 0;
    ring->trace_ctx = options->trace_ctx;
    int code = parts_allocate(ring, options);
    if (code == 0) {
        code = setup_choose(ring, options);
    }
    if (code == 0) {
        code = sri_ring_open_queue(ring);
    }
    if (code < 0) {
        return code;
    }
    code = sri_files_init(&ring->files, options->files_max, ring->queue.fixed_files);
    if (code == 0 && options->inbox_entries > 0) {
        code = sri_inbox_create(ring, options->inbox_entries);
    }
    if (code < 0) {
        ring->queue.backend->queue_close(&ring->queue, SRI_CLOSER_OWNER);
    }
    return code;
}

int sr_ring_create(const sr_ring_options *options, sr_ring **out_ring) {
    sr_ring_options given = SR_RING_OPTIONS_INIT;
    if (out_ring == NULL) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    *out_ring = NULL;
    if (!sri_options_take(&given, sizeof given, options)) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    if (!options_are_valid(&given)) {
        return SRI_MISUSE(SR_E_BOUNDS, 0);
    }
    apply_defaults(&given);
    sr_ring *ring = sri_owner_key_make() != 0 ? sri_allocate(1, sizeof *ring) : NULL;
    if (ring == NULL) {
        return -ENOMEM;
    }
    const int code = ring_init(ring, &given);
    if (code < 0) {
        sri_ring_free(ring);
        return code;
    }
    ring->magic = SRI_RING_MAGIC;
    *out_ring = ring;
    return 0;
}

sr_thread sr_ring_thread(const sr_ring *ring) {
    return (sr_thread){sri_ring_is_valid(ring) ? ring->owner_key : 0};
}

/* ---- stats ------------------------------------------------------------------------------------
 */

static void stats_fill(const sr_ring *ring, sr_ring_stats *stats) {
    *stats = ring->stats;
    stats->submitted_total = sri_handle_given_total(&ring->ops.handles) - ring->refused_total;
    stats->completed_total = sri_handle_ended_total(&ring->ops.handles) - ring->refused_total;
    stats->setup_flags = ring->queue.setup_flags;
    stats->features = ring->queue.features;
    stats->sq_entries = ring->queue.sq_entries;
    stats->cq_entries = ring->queue.cq_entries;
    stats->ops_max = ring->ops.count_max;
    stats->ring_fd_registered = ring->queue.fd_registered;
    stats->fixed_files = ring->queue.fixed_files;
    stats->fixed_files_error = ring->queue.fixed_files_error;
    stats->workers_error = ring->queue.workers_error;
    for (uint32_t i = 0; i < ring->pools_max; i++) {
        const bool attached = ring->pools[i].pool != NULL;
        stats->pools_registered += attached && ring->pools[i].buffer_count > 0;
        stats->pools_plain += attached && ring->pools[i].buffer_count == 0;
    }
    stats->ops_in_flight = sri_ops_in_use(&ring->ops);
    stats->ops_abandoned = ring->ops.abandoned_count;
    stats->files_open = ring->files.count_max - ring->files.free_count;
    stats->fixed_files_used = ring->files.fixed_count - ring->files.fixed_free_count;
    stats->bytes_quarantined = ring->bytes_quarantined;
    stats->backend = ring->queue.kind;
}

int sr_ring_get_stats(sr_ring *ring, sr_ring_stats *out_stats) {
    if (out_stats == NULL || !sri_stats_size_is_valid(out_stats->size)) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    const int code = sri_ring_check(ring);
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    sr_ring_stats stats;
    stats_fill(ring, &stats);
    sri_stats_give(out_stats, &stats, sizeof stats);
    return 0;
}
