/* SPDX-License-Identifier: MIT */
/*
 * threads_call_workers WORKER FILE THREADS ROUNDS CRASH_EVERY [SANDBOX]: plain threads, which know
 * nothing of rings, have pieces of FILE compressed and uncompressed by a C library that may crash.
 * It runs in worker processes (deflate_worker), one for each thread; the main thread owns the ring
 * and does nothing but wait on it. After every CRASH_EVERY pieces a thread calls the worker's buggy
 * method, too. A piece whose worker dies is simply called again.
 */
#include <pthread.h>
#include <safering/safering.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES 16384u
#define THREADS_MAX 64u
#define TRIES_MAX   100
#define DEADLINE_NS UINT64_C(10000000000)

/* What all threads have in common. The main thread writes it before they start. */
static struct job {
    const unsigned char *bytes; /* the file */
    uint64_t size;
    uint64_t pieces_of_file;
    uint64_t pieces; /* of all rounds */
    uint64_t crash_every;
    sr_ring *ring;
    sr_proxy *proxy;
    uint32_t deflate, inflate, crash;
    _Atomic uint64_t next; /* piece */
    _Atomic uint64_t done;
    _Atomic uint64_t retries;
    _Atomic uint64_t failures;
} job;

/* ---- a thread -------------------------------------------------------------------------------- */

/* As if the method were here. Only that its worker died is worth another try. */
static int call(uint32_t method, const void *data, uint64_t data_bytes, sr_proxy_answer *answer) {
    sr_proxy_request request = SR_PROXY_REQUEST_INIT;
    request.method = method;
    request.data = data;
    request.data_bytes = data_bytes;
    request.deadline_ns = DEADLINE_NS;
    for (int i = 0; i < TRIES_MAX; i++) {
        const int code = sr_proxy_call(job.proxy, &request, answer);
        if (code < 0) {
            return code;
        }
        if (answer->source == SR_ANSWER_METHOD) {
            return answer->result < 0 ? -1 : 0;
        }
        if (answer->result != SR_E_PEER_DIED) {
            return (int)answer->result;
        }
        atomic_fetch_add(&job.retries, 1);
    }
    return SR_E_PEER_DIED;
}

static int call_crash(void) {
    sr_proxy_request request = SR_PROXY_REQUEST_INIT;
    sr_proxy_answer answer;
    request.method = job.crash;
    const int code = sr_proxy_call(job.proxy, &request, &answer);
    sr_proxy_answer_release(&answer);
    return code;
}

/* There and back. */
static int work_on(uint64_t piece) {
    const uint64_t begin = piece % job.pieces_of_file * PIECE_BYTES;
    const uint64_t bytes = job.size - begin < PIECE_BYTES ? job.size - begin : PIECE_BYTES;
    sr_proxy_answer small = SR_PROXY_ANSWER_INIT;
    sr_proxy_answer large = SR_PROXY_ANSWER_INIT;
    int code = call(job.deflate, job.bytes + begin, bytes, &small);
    code = code < 0 ? code : call(job.inflate, small.data, small.data_bytes, &large);
    if (code == 0 &&
        (large.data_bytes != bytes || memcmp(large.data, job.bytes + begin, bytes) != 0)) {
        code = SR_E_PROTOCOL;
    }
    sr_proxy_answer_release(&small);
    sr_proxy_answer_release(&large);
    return code;
}

static void *run(void *ctx) {
    (void)ctx;
    for (uint64_t piece = 0; (piece = atomic_fetch_add(&job.next, 1)) < job.pieces;) {
        int code = work_on(piece);
        if (code == 0 && job.crash_every != 0 && piece % job.crash_every == job.crash_every - 1) {
            code = call_crash();
        }
        if (code < 0) {
            fprintf(stderr, "threads_call_workers: piece %llu: %s\n", (unsigned long long)piece,
                    sr_strerror(code));
            atomic_fetch_add(&job.failures, 1);
        }
        atomic_fetch_add(&job.done, 1);
    }
    /* The main thread sleeps in its ring; a message tells it. */
    while (sr_inbox_post(job.ring, 0, NULL) == SR_E_FULL) {
    }
    return NULL;
}

/* ---- the main thread ------------------------------------------------------------------------- */

struct owner {
    sr_supervisor *supervisor;
    sr_service *service;
    bool is_ready;
    int code; /* of a service that cannot go on */
};

static void on_state(sr_service *service, enum sr_service_change change, uint32_t version, int code,
                     void *ctx) {
    struct owner *owner = ctx;
    (void)service;
    (void)version;
    owner->is_ready = owner->is_ready || change == SR_SERVICE_READY;
    owner->code = code;
}

static void on_exit_of_worker(sr_service *service, const sr_worker_exit *exit, void *ctx) {
    struct owner *owner = ctx;
    (void)service;
    if (!owner->is_ready) { /* not one that crashes, but one that does not come to be */
        owner->code = exit->code < 0 ? exit->code : SR_E_PEER_DIED;
    }
}

static int start_service(struct owner *owner, const char *program, const char *sandbox,
                         uint32_t workers) {
    sr_ring_options ring = SR_RING_OPTIONS_INIT;
    sr_service_options options = SR_SERVICE_OPTIONS_INIT;
    ring.inbox_entries = THREADS_MAX;
    options.program = program;
    options.sandbox = sandbox;
    options.workers = workers;
    options.spares = 1;
    options.restarts_window_ns = UINT64_C(1000000); /* it crashes for show: never too often */
    options.on_state = on_state;
    options.on_exit = on_exit_of_worker;
    options.ctx = owner;
    int code = sr_ring_create(&ring, &job.ring);
    code = code < 0 ? code : sr_supervisor_open(job.ring, NULL, &owner->supervisor);
    code = code < 0 ? code : sr_service_open(owner->supervisor, &options, &owner->service);
    while (code >= 0 && !owner->is_ready) {
        code = sr_ring_wait(job.ring, 1, DEADLINE_NS, NULL, NULL);
        code = code >= 0 && owner->code < 0 ? owner->code : code;
    }
    code = code < 0 ? code : sr_service_method(owner->service, "deflate", &job.deflate);
    code = code < 0 ? code : sr_service_method(owner->service, "inflate", &job.inflate);
    code = code < 0 ? code : sr_service_method(owner->service, "crash", &job.crash);
    return code < 0 ? code : sr_proxy_open(owner->service, NULL, &job.proxy);
}

/* Waits on the ring until all threads have said that they end. */
static int run_threads(uint32_t count) {
    pthread_t threads[THREADS_MAX];
    uint32_t started = 0;
    int code = 0;
    while (started < count && pthread_create(&threads[started], NULL, run, NULL) == 0) {
        started++;
    }
    for (uint32_t ended = 0; code >= 0 && ended < started;) {
        code = sr_ring_wait(job.ring, 1, SR_FOREVER, NULL, NULL);
        ended += code > 0 ? (uint32_t)code : 0;
    }
    /* If that failed threads may still wait for answers: they get one. */
    const int stopped = sr_proxy_stop(job.proxy);
    for (uint32_t i = 0; i < started; i++) {
        (void)pthread_join(threads[i], NULL); /* it is one of ours, and joined once */
    }
    return code < 0 ? code : stopped;
}

static int stop(struct owner *owner, uint64_t *out_restarts) {
    sr_service_stats stats = SR_SERVICE_STATS_INIT;
    int code = owner->service != NULL ? sr_service_get_stats(owner->service, &stats) : 0;
    *out_restarts = stats.restarts;
    code = code < 0 ? code : sr_proxy_close(&job.proxy);
    code = code < 0 ? code : sr_service_close(&owner->service);
    code = code < 0 ? code : sr_supervisor_close(&owner->supervisor);
    return code < 0 ? code : sr_ring_destroy(&job.ring);
}

static unsigned char *read_all(const char *path, uint64_t *out_size) {
    FILE *file = fopen(path, "rb");
    unsigned char *bytes = NULL;
    long size = -1;
    if (file != NULL && fseek(file, 0, SEEK_END) == 0 && (size = ftell(file)) > 0) {
        rewind(file);
        bytes = malloc((size_t)size);
    }
    if (bytes != NULL && fread(bytes, 1, (size_t)size, file) != (size_t)size) {
        free(bytes);
        bytes = NULL;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    *out_size = bytes != NULL ? (uint64_t)size : 0;
    return bytes;
}

int main(int argc, char **argv) {
    struct owner owner = {0};
    uint64_t restarts = 0;
    const unsigned long threads = argc >= 6 ? strtoul(argv[3], NULL, 10) : 0;
    if (argc < 6 || argc > 7 || threads < 1 || threads > THREADS_MAX) {
        fprintf(stderr, "usage: threads_call_workers WORKER FILE THREADS ROUNDS CRASH_EVERY "
                        "[SANDBOX]\n(THREADS: 1 .. 64)\n");
        return 2;
    }
    unsigned char *bytes = read_all(argv[2], &job.size);
    if (bytes == NULL) {
        fprintf(stderr, "threads_call_workers: %s cannot be read, or is empty\n", argv[2]);
        return 1;
    }
    job.bytes = bytes;
    job.pieces_of_file = (job.size + PIECE_BYTES - 1) / PIECE_BYTES;
    job.pieces = strtoull(argv[4], NULL, 10) * job.pieces_of_file;
    job.crash_every = strtoull(argv[5], NULL, 10);
    int code = start_service(&owner, argv[1], argc == 7 ? argv[6] : "strict", (uint32_t)threads);
    code = code < 0 ? code : run_threads((uint32_t)threads);
    const int stopped = stop(&owner, &restarts);
    code = code < 0 ? code : stopped;
    free(bytes);
    printf("%llu of %llu pieces, %llu calls made again, %llu restarts, %llu failures\n",
           (unsigned long long)job.done, (unsigned long long)job.pieces,
           (unsigned long long)job.retries, (unsigned long long)restarts,
           (unsigned long long)job.failures);
    if (code < 0) {
        fprintf(stderr, "threads_call_workers: %s\n", sr_strerror(code));
    }
    return code < 0 || job.done != job.pieces || job.failures > 0 ? 1 : 0;
}
