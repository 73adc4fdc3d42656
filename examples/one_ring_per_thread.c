/* SPDX-License-Identifier: MIT */
/*
 * One ring per thread: threads share nothing but work. Each has a ring and a pool of its own, gets
 * names of files through its inbox, and adds up their bytes.
 *
 *     one_ring_per_thread THREADS FILE...      prints the sum of all bytes of all files
 *
 * The main thread makes the rings, so that it can report what is missing, and releases them; each
 * thread adopts its own. When a thread is done with everything it says so in the main inbox.
 */
#include <errno.h>
#include <pthread.h>
#include <safering/safering.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES 65536u
#define THREADS_MAX 64u

enum { MESSAGE_FILE = 1, MESSAGE_NO_MORE = 2 };

struct worker {
    sr_ring *ring;
    sr_pool *pool;
    sr_ring *main_ring;
    pthread_t thread;
    uint64_t sum;
    uint64_t files;
    int code; /* the first error */
    int started;
};

/* Runs one request to its end. The last message has come before the first request. */
static int64_t run(sr_ring *ring, const sr_request *request, sr_completion *out_done) {
    const sr_completion *done = NULL;
    int code = sr_ring_submit(ring, request, NULL);
    code = code < 0 ? code : sr_ring_wait(ring, 1, SR_FOREVER, NULL, &done);
    *out_done = code > 0 ? done[0] : (sr_completion){0};
    return code > 0 ? done[0].result : code;
}

static int64_t add_chunks(struct worker *self, sr_request *request) {
    sr_completion done;
    int64_t result = 0;
    while ((result = run(self->ring, request, &done)) > 0) {
        void *bytes = NULL;
        result =
            sr_buffer_data(self->pool, done.buffer, 0, done.bytes_done, SR_ACCESS_READ, &bytes);
        if (result < 0) {
            return result;
        }
        for (uint64_t i = 0; i < done.bytes_done; i++) {
            self->sum += ((const unsigned char *)bytes)[i];
        }
        request->offset += done.bytes_done;
    }
    return result;
}

static int64_t add_file(struct worker *self, const char *path) {
    sr_request request = SR_REQUEST_INIT;
    sr_completion done;
    request.op = SR_OP_OPENAT; /* to read */
    request.path = path;
    int64_t result = run(self->ring, &request, &done);
    if (result < 0) {
        return result;
    }
    request.op = SR_OP_READ;
    request.file = done.file;
    request.length = CHUNK_BYTES;
    result = sr_pool_acquire(self->pool, CHUNK_BYTES, &request.buffer);
    if (result == 0) {
        result = add_chunks(self, &request);
        const int code = sr_pool_release(self->pool, request.buffer);
        result = result < 0 ? result : code;
    }
    request.op = SR_OP_CLOSE;
    request.op_flags = 0;
    const int64_t closed = run(self->ring, &request, &done);
    return result < 0 ? result : closed;
}

static int take_files(struct worker *self, const char **paths, uint32_t *count) {
    for (;;) {
        const sr_completion *messages = NULL;
        const int got = sr_ring_wait(self->ring, 1, SR_FOREVER, NULL, &messages);
        if (got < 0) {
            return got;
        }
        for (int i = 0; i < got; i++) {
            if (messages[i].tag == MESSAGE_NO_MORE) {
                return 0;
            }
            paths[(*count)++] = messages[i].ctx;
        }
    }
}

static void *work(void *ctx) {
    struct worker *self = ctx;
    const char *paths[1024];
    uint32_t count = 0;
    int64_t result = sr_ring_adopt(self->ring); /* the pool comes along */
    if (result == 0) {
        result = take_files(self, paths, &count);
        for (uint32_t i = 0; i < count && result == 0; i++) {
            result = add_file(self, paths[i]);
            self->files += result == 0;
            if (result < 0) {
                fprintf(stderr, "one_ring_per_thread: %s: %s\n", paths[i],
                        sr_strerror((int)result));
            }
        }
        const int end = sr_ring_destroy(&self->ring);
        result = result < 0 ? result : end;
        const int pool_end = sr_pool_destroy(&self->pool);
        result = result < 0 ? result : pool_end;
    }
    self->code = (int)result;
    /* Its inbox has a place for every thread. */
    return sr_inbox_post(self->main_ring, 0, self) == 0 ? NULL : self;
}

static int worker_make(struct worker *worker, sr_ring *main_ring) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    sr_pool_options pool_options = SR_POOL_OPTIONS_INIT;
    options.inbox_entries = 1024;
    options.entries = 8;
    pool_options.buffer_size_bytes = CHUNK_BYTES;
    pool_options.buffer_count = 1;
    worker->main_ring = main_ring;
    int code = sr_pool_create(NULL, &pool_options, &worker->pool);
    code = code < 0 ? code : sr_ring_create(&options, &worker->ring);
    code = code < 0 ? code : sr_ring_attach_pool(worker->ring, worker->pool);
    return code < 0 ? code : sr_ring_release(worker->ring);
}

static int workers_start(struct worker *workers, uint32_t count, char **paths, int path_count) {
    int code = 0;
    for (int i = 0; i < path_count && code == 0; i++) {
        code = sr_inbox_post(workers[(uint32_t)i % count].ring, MESSAGE_FILE, paths[i]);
    }
    for (uint32_t i = 0; i < count && code == 0; i++) {
        code = sr_inbox_post(workers[i].ring, MESSAGE_NO_MORE, NULL);
        code = code < 0 ? code : -pthread_create(&workers[i].thread, NULL, work, &workers[i]);
        workers[i].started = code == 0;
    }
    return code;
}

/* Waits in the main ring until every thread that was started has said that it is done. */
static int workers_wait(sr_ring *main_ring, struct worker *workers, uint32_t count) {
    int code = 0;
    uint32_t started = 0;
    for (uint32_t i = 0; i < count; i++) {
        started += (uint32_t)workers[i].started;
    }
    for (uint32_t done = 0; done < started;) {
        const sr_completion *messages = NULL;
        const int got = sr_ring_wait(main_ring, 1, SR_FOREVER, NULL, &messages);
        if (got < 0) {
            return got;
        }
        for (int i = 0; i < got; i++) {
            const struct worker *worker = messages[i].ctx;
            code = code < 0 ? code : worker->code;
        }
        done += (uint32_t)got;
    }
    for (uint32_t i = 0; i < started; i++) { /* they start in order */
        (void)pthread_join(workers[i].thread, NULL);
    }
    return code;
}

/* What no thread has taken. */
static void workers_end(struct worker *workers, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        (void)sr_ring_destroy(&workers[i].ring); /* at rest: nothing can be in flight */
        (void)sr_pool_destroy(&workers[i].pool);
    }
}

int main(int argc, char **argv) {
    static struct worker workers[THREADS_MAX];
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    sr_ring *main_ring = NULL;
    const long wanted = argc > 2 ? strtol(argv[1], NULL, 10) : 0;
    if (wanted < 1 || wanted > (long)THREADS_MAX || argc - 2 > 1000) {
        fprintf(stderr,
                "usage: one_ring_per_thread THREADS FILE...  (1 to %u threads, up to 1,000 "
                "files)\n",
                THREADS_MAX);
        return 2;
    }
    const uint32_t count = (uint32_t)wanted;
    options.inbox_entries = THREADS_MAX;
    int code = sr_ring_create(&options, &main_ring);
    for (uint32_t i = 0; i < count && code == 0; i++) {
        code = worker_make(&workers[i], main_ring);
    }
    code = code < 0 ? code : workers_start(workers, count, argv + 2, argc - 2);
    const int waited = workers_wait(main_ring, workers, count);
    code = code < 0 ? code : waited;
    workers_end(workers, count);
    const int end = sr_ring_destroy(&main_ring);
    code = code < 0 ? code : end;
    uint64_t sum = 0;
    uint64_t files = 0;
    for (uint32_t i = 0; i < count; i++) {
        printf("thread %u: %llu files\n", i, (unsigned long long)workers[i].files);
        sum += workers[i].sum;
        files += workers[i].files;
    }
    printf("%llu files, sum of all bytes %llu\n", (unsigned long long)files,
           (unsigned long long)sum);
    if (code < 0) {
        fprintf(stderr, "one_ring_per_thread: %s\n", sr_strerror(code));
    }
    return code < 0 ? 1 : 0;
}
