/* SPDX-License-Identifier: MIT */
#include "support/batch_stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define TAG_BATCH UINT64_C(0xba7c)
#define TAG_PLAIN UINT64_C(0x91a1)
#define TAG_KIND  48

static void must(int code, const char *what) {
    if (code < 0) {
        fprintf(stderr, "batch_stage: %s: %s\n", what, sr_strerror(code));
        abort();
    }
}

static int checked(int fd, const char *what) {
    must(fd < 0 ? -errno : 0, what);
    return fd;
}

void batch_stage_blame(struct batch_stage *stage, const char *format, ...) {
    va_list arguments;
    if (stage->fault[0] != '\0') {
        return;
    }
    va_start(arguments, format);
    (void)vsnprintf(stage->fault, sizeof stage->fault, format, arguments);
    va_end(arguments);
}

/* ---- files ----------------------------------------------------------------------------------- */

void batch_files_open(struct batch_files *out_files) {
    unsigned char bytes[BATCH_DATA_BYTES];
    (void)snprintf(out_files->dir, sizeof out_files->dir, "/tmp/safering-batch-XXXXXX");
    if (mkdtemp(out_files->dir) == NULL) {
        must(-errno, "a directory under /tmp");
    }
    (void)snprintf(out_files->data, sizeof out_files->data, "%s/data", out_files->dir);
    (void)snprintf(out_files->missing, sizeof out_files->missing, "%s/missing", out_files->dir);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (unsigned char)(i % 251);
    }
    const int fd = checked(open(out_files->data, O_CREAT | O_WRONLY | O_CLOEXEC, 0600), "data");
    if (write(fd, bytes, sizeof bytes) != (ssize_t)sizeof bytes) {
        must(-errno, "writing data");
    }
    (void)close(fd); /* on tmpfs or disk: the next open sees it all the same */
}

void batch_files_close(const struct batch_files *files) {
    if (unlink(files->data) != 0 || rmdir(files->dir) != 0) {
        must(-errno, "removing the directory under /tmp: a test has left something in it");
    }
}

/* ---- stage ----------------------------------------------------------------------------------- */

uint64_t batch_tag(uint32_t batch, uint32_t node) {
    return TAG_BATCH << TAG_KIND | (uint64_t)batch << 32 | node;
}

static void on_trace(int event, sr_op op, uint64_t tag, int64_t value, void *ctx) {
    struct batch_stage *stage = ctx;
    (void)op;
    (void)value;
    if (tag >> TAG_KIND == TAG_BATCH) {
        stage->traced(stage->traced_ctx, event, (uint32_t)(tag >> 32 & 0xffff), (uint32_t)tag);
    }
}

static sr_file adopt(struct batch_stage *stage, int fd, const char *what) {
    sr_file file = SR_FILE_NONE;
    must(sr_file_adopt(stage->ring, checked(fd, what), 0, &file), what);
    return file;
}

static void open_files(struct batch_stage *stage) {
    int ends[2] = {-1, -1};
    const char *data = stage->files->data;
    const char *dir = stage->files->dir;
    must(pipe2(ends, O_CLOEXEC) == 0 ? 0 : -errno, "pipe2");
    must(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0 ? 0 : -errno, "O_NONBLOCK");
    stage->pipe_fd = ends[1];
    stage->pipe = adopt(stage, ends[0], "pipe");
    stage->data = adopt(stage, open(data, O_RDONLY | O_CLOEXEC), "data");
    stage->write_only = adopt(stage, open(data, O_WRONLY | O_CLOEXEC), "data, write only");
    stage->scratch = adopt(stage, open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), "scratch");
    stage->epoll = adopt(stage, epoll_create1(EPOLL_CLOEXEC), "epoll");
    stage->files_open = batch_stage_stats(stage).files_open;
}

static void open_pools(struct batch_stage *stage) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    options.buffer_size_bytes = BATCH_BUFFER_BYTES;
    options.buffer_count = stage->plan.pool_buffers;
    must(sr_pool_create(NULL, &options, &stage->pool), "pool");
    options.buffer_count = stage->plan.caller_buffers + 1;
    must(sr_pool_create(NULL, &options, &stage->caller_pool), "the caller's pool");
    must(sr_ring_attach_pool(stage->ring, stage->pool), "attach");
    must(sr_ring_attach_pool(stage->ring, stage->caller_pool), "attach");
    stage->caller_buffers = calloc(options.buffer_count, sizeof stage->caller_buffers[0]);
    if (stage->caller_buffers == NULL) {
        abort();
    }
    for (uint32_t i = 0; i < stage->plan.caller_buffers; i++) {
        must(sr_pool_acquire(stage->caller_pool, 1, &stage->caller_buffers[i]), "acquire");
    }
}

void batch_stage_open(struct batch_stage *out_stage, const struct batch_files *files,
                      const struct batch_stage_plan *plan, batch_traced_fn traced, void *ctx) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    *out_stage =
        (struct batch_stage){.files = files, .plan = *plan, .traced = traced, .traced_ctx = ctx};
    options.backend = plan->backend;
    options.entries = plan->entries;
    options.ops_max = plan->ops_max;
    options.completions_max = plan->completions_max;
    options.fixed_files = 8;
    if (plan->files_max != 0) {
        options.files_max = plan->files_max + 5;
    }
    options.on_trace = on_trace;
    options.trace_ctx = out_stage;
    must(sr_ring_create(&options, &out_stage->ring), "ring");
    open_pools(out_stage);
    open_files(out_stage);
}

sr_ring_stats batch_stage_stats(struct batch_stage *stage) {
    sr_ring_stats stats = SR_RING_STATS_INIT;
    must(sr_ring_get_stats(stage->ring, &stats), "sr_ring_get_stats");
    return stats;
}

sr_pool_stats batch_stage_pool_stats(sr_pool *pool) {
    sr_pool_stats stats = SR_POOL_STATS_INIT;
    must(sr_pool_get_stats(pool, &stats), "sr_pool_get_stats");
    return stats;
}

static void check_baseline(struct batch_stage *stage) {
    const sr_ring_stats ring = batch_stage_stats(stage);
    const sr_pool_stats pool = batch_stage_pool_stats(stage->pool);
    if (ring.files_open != stage->files_open) {
        batch_stage_blame(stage, "%u files are open, expected %u", ring.files_open,
                          stage->files_open);
    }
    if (ring.ops_in_flight != 0 || ring.ops_abandoned != 0) {
        batch_stage_blame(stage, "%u operations are in flight", ring.ops_in_flight);
    }
    if (pool.free_count != pool.buffer_count) {
        batch_stage_blame(stage, "%u of %u buffers are free", pool.free_count, pool.buffer_count);
    }
    for (uint32_t i = 0; i < stage->plan.caller_buffers; i++) {
        const int code = sr_pool_release(stage->caller_pool, stage->caller_buffers[i]);
        if (code != 0) {
            batch_stage_blame(stage, "the caller's buffer %u: %s", i, sr_error_name(code));
        }
    }
}

void batch_stage_close(struct batch_stage *stage) {
    check_baseline(stage);
    const int code = sr_ring_destroy(&stage->ring);
    if (code != 0) {
        batch_stage_blame(stage, "sr_ring_destroy: %s", sr_error_name(code));
        if (sr_quarantine_sweep(UINT64_C(5000000000)) != 0) {
            must(SR_E_IN_FLIGHT, "sr_quarantine_sweep");
        }
    }
    must(sr_pool_destroy(&stage->pool), "sr_pool_destroy");
    must(sr_pool_destroy(&stage->caller_pool), "sr_pool_destroy");
    (void)close(stage->pipe_fd); /* a pipe: nothing is lost */
    free(stage->caller_buffers);
}

/* ---- plain operations ------------------------------------------------------------------------ */

static void end_plain(struct batch_stage *stage, const sr_completion *completion,
                      bool from_callback) {
    const uint64_t tag = completion->tag;
    if (tag >> TAG_KIND != TAG_PLAIN || (tag & 1) != from_callback) {
        batch_stage_blame(stage, "a completion with tag %llx came %s", (unsigned long long)tag,
                          from_callback ? "to a plain callback" : "in the array");
        return;
    }
    if (completion->result != 0) {
        batch_stage_blame(stage, "a plain NOP brought %lld", (long long)completion->result);
    }
    stage->plain_ended++;
}

static void on_plain(sr_ring *ring, const sr_completion *completion, void *ctx) {
    (void)ring;
    end_plain(ctx, completion, true);
}

void batch_stage_plain(struct batch_stage *stage, bool with_callback) {
    sr_request request = SR_REQUEST_INIT;
    request.tag = TAG_PLAIN << TAG_KIND | (uint64_t)stage->plain_submitted << 1 | with_callback;
    request.on_complete = with_callback ? on_plain : NULL;
    request.ctx = stage;
    const int code = sr_ring_submit(stage->ring, &request, NULL);
    if (code == 0) {
        stage->plain_submitted++;
    } else if (code != SR_E_FULL && code != -ENOMEM) {
        batch_stage_blame(stage, "a plain NOP is refused: %s", sr_error_name(code));
    }
}

void batch_stage_take(struct batch_stage *stage, const sr_completion *completions, int count) {
    for (int i = 0; i < count; i++) {
        end_plain(stage, &completions[i], false);
    }
}

void batch_stage_settle(struct batch_stage *stage) {
    for (int i = 0; i < 1000 && stage->plain_ended < stage->plain_submitted; i++) {
        const sr_completion *completions = NULL;
        const int count = sr_ring_wait(stage->ring, 1, 10000000, NULL, &completions);
        batch_stage_take(stage, completions, count);
    }
    if (stage->plain_ended != stage->plain_submitted) {
        batch_stage_blame(stage, "%u plain operations ended, of %u", stage->plain_ended,
                          stage->plain_submitted);
    }
}

void batch_stage_write_pipe(struct batch_stage *stage, uint32_t bytes) {
    static const char text[256];
    const size_t length = bytes < sizeof text ? bytes : sizeof text;
    const ssize_t written = write(stage->pipe_fd, text, length);
    if (written < 0 && errno != EAGAIN) {
        must(-errno, "writing to the pipe");
    }
}
