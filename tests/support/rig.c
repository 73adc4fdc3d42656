/* SPDX-License-Identifier: MIT */
#include "support/rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MUST(code, what) must((code), (what), __LINE__)

static void must(int code, const char *what, int line) {
    if (code < 0) {
        fprintf(stderr, "rig.c:%d: %s: %s\n", line, what, sr_strerror(code));
        abort();
    }
}

static void open_with(struct rig *rig, const sr_ring_options *ring_options,
                      const sr_pool_options *pool_options) {
    MUST(sr_pool_create(rig->region, pool_options, &rig->pool), "sr_pool_create");
    MUST(sr_ring_create(ring_options, &rig->ring), "sr_ring_create");
    MUST(sr_ring_attach_pool(rig->ring, rig->pool), "sr_ring_attach_pool");
}

void rig_open(struct rig *out_rig, const sr_ring_options *ring_options,
              const sr_pool_options *pool_options) {
    *out_rig = (struct rig){0};
    open_with(out_rig, ring_options, pool_options);
}

void rig_open_region(struct rig *out_rig, const sr_ring_options *ring_options,
                     const sr_pool_options *pool_options) {
    const sr_pool_options defaults = SR_POOL_OPTIONS_INIT;
    const sr_pool_options *given = pool_options != NULL ? pool_options : &defaults;
    /* Twice: strides may be larger than buffers. */
    const size_t bytes = 2 * given->buffer_size_bytes * given->buffer_count;
    *out_rig = (struct rig){0};
    MUST(sr_region_create(bytes, NULL, &out_rig->region), "sr_region_create");
    open_with(out_rig, ring_options, pool_options);
}

void rig_close(struct rig *rig) {
    MUST(sr_ring_destroy(&rig->ring), "sr_ring_destroy");
    MUST(sr_pool_destroy(&rig->pool), "sr_pool_destroy");
    MUST(sr_region_destroy(&rig->region), "sr_region_destroy");
}

void rig_close_late(struct rig *rig, uint64_t timeout_ns) {
    const int code = sr_ring_destroy(&rig->ring);
    if (code != SR_E_IN_FLIGHT) {
        MUST(code, "sr_ring_destroy");
    }
    if (sr_quarantine_sweep(timeout_ns) != 0) {
        MUST(SR_E_IN_FLIGHT, "sr_quarantine_sweep");
    }
    rig_close(rig);
}

sr_buffer rig_buffer(struct rig *rig) {
    sr_buffer buffer = SR_BUFFER_NONE;
    MUST(sr_pool_acquire(rig->pool, 1, &buffer), "sr_pool_acquire");
    return buffer;
}

unsigned char *rig_data(struct rig *rig, sr_buffer buffer, size_t length) {
    void *data = NULL;
    MUST(sr_buffer_data(rig->pool, buffer, 0, length, SR_ACCESS_WRITE, &data), "sr_buffer_data");
    return data;
}

size_t rig_offset(struct rig *rig, sr_buffer buffer) {
    return (size_t)(rig_data(rig, buffer, 1) - (unsigned char *)sr_region_base(rig->region));
}

sr_file rig_adopt(struct rig *rig, int fd, uint32_t flags) {
    sr_file file = SR_FILE_NONE;
    MUST(sr_file_adopt(rig->ring, fd, flags, &file), "sr_file_adopt");
    return file;
}

sr_request rig_transfer(uint16_t op, sr_file file, sr_buffer buffer, uint64_t length,
                        uint64_t offset) {
    sr_request request = SR_REQUEST_INIT;
    request.op = op;
    request.file = file;
    request.buffer = buffer;
    request.length = length;
    request.offset = offset;
    return request;
}

sr_op rig_submit(struct rig *rig, const sr_request *request) {
    sr_op op = SR_OP_NONE;
    MUST(sr_ring_submit(rig->ring, request, &op), "sr_ring_submit");
    return op;
}

int rig_wait(struct rig *rig, sr_completion *out_completion) {
    const sr_completion *completions = NULL;
    const int count = sr_ring_wait(rig->ring, 1, 10 * RIG_SECOND, NULL, &completions);
    memset(out_completion, 0, sizeof *out_completion);
    if (count > 0) {
        *out_completion = completions[0];
    }
    return count;
}

sr_completion rig_run(struct rig *rig, const sr_request *request) {
    sr_completion completion;
    const sr_op op = rig_submit(rig, request);
    const int count = rig_wait(rig, &completion);
    MUST(count, "sr_ring_wait");
    if (count != 1 || completion.op.bits != op.bits) {
        fprintf(stderr, "rig_run: %d completions, not the one of the operation\n", count);
        abort();
    }
    return completion;
}

sr_ring_stats rig_stats(struct rig *rig) {
    sr_ring_stats stats = SR_RING_STATS_INIT;
    MUST(sr_ring_get_stats(rig->ring, &stats), "sr_ring_get_stats");
    return stats;
}

sr_pool_stats rig_pool_stats(struct rig *rig) {
    sr_pool_stats stats = SR_POOL_STATS_INIT;
    MUST(sr_pool_get_stats(rig->pool, &stats), "sr_pool_get_stats");
    return stats;
}

int rig_temporary_file(size_t size_bytes) {
    char path[] = "/tmp/safering-test-XXXXXX";
    const int fd = mkstemp(path);
    if (fd < 0 || unlink(path) != 0) {
        MUST(-errno, "a temporary file under /tmp");
    }
    unsigned char chunk[4096];
    for (size_t done = 0; done < size_bytes;) {
        const size_t length = size_bytes - done < sizeof chunk ? size_bytes - done : sizeof chunk;
        for (size_t i = 0; i < length; i++) {
            chunk[i] = (unsigned char)((done + i) % 251);
        }
        if (pwrite(fd, chunk, length, (off_t)done) != (ssize_t)length) {
            MUST(-errno, "writing a temporary file");
        }
        done += length;
    }
    return fd;
}
