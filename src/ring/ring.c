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
/* Room for pools larger than the 1 GiB that one fixed buffer may have. */
#define FIXED_BUFFERS_EXTRA    64u
#define FIXED_BUFFER_BYTES_MAX ((size_t)1 << 30)

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
        sri_allocate(ring->pools_max + FIXED_BUFFERS_EXTRA, sizeof *ring->fixed_buffer_used);
    ring->completions_max = options->completions_max;
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
static int restrict_to(sr_ring *ring, const sr_ring_options *options, uint8_t *uapi_allowed) {
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

static int queue_open(sr_ring *ring, const sr_ring_options *options) {
    uint8_t uapi_allowed[256] = {0};
    const bool restricted = options->ops_allowed != NULL;
    const bool any = options->backend == SR_BACKEND_ANY;
    const struct sri_backend *backend =
        any ? sri_backend() : sri_backend_of((enum sri_backend_kind)options->backend);
    const uint32_t sq_entries = power_of_two_from(options->entries);
    const struct sri_queue_config config = {
        .sq_entries = sq_entries,
        .cq_entries = options->cq_entries,
        .ops_max = options->ops_max,
        .fixed_files = options->fixed_files,
        .fixed_buffers = ring->pools_max + FIXED_BUFFERS_EXTRA,
        .workers_max = options->workers_max,
        .ops_allowed = restricted ? uapi_allowed : NULL,
    };
    int code = restricted ? restrict_to(ring, options, uapi_allowed) : 0;
    if (code < 0) {
        return code;
    }
    code = backend->queue_open(backend, &config, &ring->queue);
    const struct sri_backend *instead = any && code < 0 ? sri_backend_instead(backend, code) : NULL;
    if (instead != NULL) {
        ring->stats.backend_error = code;
        code = instead->queue_open(instead, &config, &ring->queue);
    }
    if (code < 0) {
        ring->queue.backend = NULL;
    }
    return code;
}

void sri_ring_free(sr_ring *ring) {
    if (ring->queue.backend != NULL) {
        (void)ring->queue.backend->fd_close(ring->queue.lifeline); /* a pipe: cannot fail */
        if (ring->event_fd >= 0) {
            (void)ring->queue.backend->fd_close(ring->event_fd); /* an eventfd: no more can it */
        }
    }
    sri_inbox_destroy(ring);
    sri_files_deinit(&ring->files);
    sri_ops_deinit(&ring->ops);
    sri_release(ring->deadlines.items);
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
    ring->event_fd = -1;
    ring->drain_timeout_ns = options->drain_timeout_ns;
    ring->on_trace = options->on_trace;
    ring->watches_submits = options->on_trace != NULL ? SRI_WATCH_TRACE : 0;
    ring->trace_ctx = options->trace_ctx;
    int code = parts_allocate(ring, options);
    if (code == 0) {
        code = queue_open(ring, options);
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

/* ---- pools ------------------------------------------------------------------------------------
 */

/* First of @count consecutive free fixed buffers, or UINT32_MAX. */
static uint32_t fixed_buffers_find(const sr_ring *ring, uint32_t count) {
    uint32_t run = 0;
    for (uint32_t i = 0; i < ring->queue.fixed_buffers; i++) {
        run = ring->fixed_buffer_used[i] == 0 ? run + 1 : 0;
        if (run == count) {
            return i + 1 - count;
        }
    }
    return UINT32_MAX;
}

static void fixed_buffers_clear(sr_ring *ring, uint32_t first, uint32_t count) {
    for (uint32_t i = first; i < first + count; i++) {
        /* A buffer that cannot be cleared stays pinned, and its place unused, until the ring goes.
         */
        ring->fixed_buffer_used[i] =
            ring->queue.backend->queue_set_buffer(&ring->queue, i, NULL, 0) != 0;
    }
}

/* Registers the memory of a pool. Returns 0 or why it stays plain. */
static int pool_register(sr_ring *ring, struct sri_ring_pool *place) {
    const sr_pool *pool = place->pool;
    const uint32_t per_buffer = (uint32_t)(FIXED_BUFFER_BYTES_MAX / pool->stride_bytes) > 0
                                    ? (uint32_t)(FIXED_BUFFER_BYTES_MAX / pool->stride_bytes)
                                    : 1;
    const uint32_t count = (pool->slot_count + per_buffer - 1) / per_buffer;
    const uint32_t first = fixed_buffers_find(ring, count);
    if (ring->queue.fixed_buffers == 0) {
        return ring->queue.fixed_buffers_error;
    }
    if (first == UINT32_MAX) {
        return SR_E_FULL;
    }

    for (uint32_t i = 0; i < count; i++) {
        const uint32_t slot = i * per_buffer;
        const uint32_t slots =
            pool->slot_count - slot < per_buffer ? pool->slot_count - slot : per_buffer;
        /* Without what follows the last slot: its stride may pass 1 GiB. */
        const size_t bytes = (size_t)(slots - 1) * pool->stride_bytes + pool->size_bytes;
        const int code = ring->queue.backend->queue_set_buffer(
            &ring->queue, first + i, pool->slots[slot].kernel_memory, bytes);
        if (code < 0) {
            fixed_buffers_clear(ring, first, i);
            return code;
        }
        ring->fixed_buffer_used[first + i] = 1;
    }
    place->buffer_first = first;
    place->buffer_count = count;
    place->slots_per_buffer = per_buffer;
    return 0;
}

static void let_pool_go(const struct sri_ring_pool *place) {
    atomic_fetch_sub(&place->pool->rings_registered, place->buffer_count > 0);
    atomic_fetch_sub(&place->pool->rings_attached, 1);
}

void sri_ring_let_pools_go(sr_ring *ring) {
    for (uint32_t i = 0; i < ring->pools_max && !ring->pools_let_go; i++) {
        if (ring->pools[i].pool != NULL) {
            let_pool_go(&ring->pools[i]);
        }
    }
    ring->pools_let_go = true;
}

static struct sri_ring_pool *place_of(sr_ring *ring, const sr_pool *pool) {
    for (uint32_t i = 0; i < ring->pools_max; i++) {
        if (ring->pools[i].pool == pool) {
            return &ring->pools[i];
        }
    }
    return NULL;
}

static int pool_call_check(const sr_ring *ring, const sr_pool *pool) {
    const int code = sri_ring_check(ring);
    if (code < 0) {
        return code;
    }
    if (!sri_pool_is_valid(pool)) {
        return SR_E_OBJECT;
    }
    return ring->in_callback ? SR_E_STATE : 0;
}

int sr_ring_attach_pool(sr_ring *ring, sr_pool *pool) {
    int code = pool_call_check(ring, pool);
    if (code == 0 && place_of(ring, pool) != NULL) {
        code = SR_E_STATE;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    struct sri_ring_pool *place = place_of(ring, NULL);
    if (place == NULL) {
        return SR_E_FULL;
    }
    *place = (struct sri_ring_pool){.pool = pool};
    if (pool->protects) {
        ring->watches_submits |= SRI_WATCH_LOANS;
    }
    atomic_fetch_add(&pool->rings_attached, 1);
    /* Pages that are replaced after they were pinned would leave the kernel with the old ones.
     * Counted first and looked at second, here and in the request, so that one of the two sees the
     * other. */
    atomic_fetch_add(&pool->rings_registered, 1);
    code =
        atomic_load(&pool->discards_in_flight) == 0 ? pool_register(ring, place) : SR_E_IN_FLIGHT;
    if (code < 0) {
        atomic_fetch_sub(&pool->rings_registered, 1);
        ring->stats.register_error = code;
    }
    return code == 0 ? 1 : 0;
}

int sr_ring_detach_pool(sr_ring *ring, sr_pool *pool) {
    int code = pool_call_check(ring, pool);
    struct sri_ring_pool *place = code == 0 ? place_of(ring, pool) : NULL;
    if (code == 0 && place == NULL) {
        code = SR_E_STATE;
    }
    if (code == 0 && place->op_count > 0) {
        code = SR_E_IN_FLIGHT;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    fixed_buffers_clear(ring, place->buffer_first, place->buffer_count);
    let_pool_go(place);
    *place = (struct sri_ring_pool){0};
    return 0;
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
