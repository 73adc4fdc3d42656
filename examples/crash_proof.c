/* SPDX-License-Identifier: MIT */
/*
 * crash_proof WORKER FILE CALLS CRASH_EVERY [SANDBOX]: compresses pieces of FILE in worker
 * processes (deflate_worker), has them uncompressed again and compares, CALLS calls in all. The
 * workers are in a sandbox, "strict" if nothing else is said: they can open no file, not even FILE.
 * After every CRASH_EVERY answers the worker's buggy method is called as well: the worker dies, a
 * spare one takes over and another is started. Nothing of that reaches this process but answers
 * that say so, one for each call that the worker took along.
 */
#include <safering/safering.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES 16384u
#define IN_FLIGHT   16u
#define DEADLINE_NS UINT64_C(10000000000)

struct job {
    sr_ring *ring;
    sr_supervisor *supervisor;
    sr_service *service;
    const unsigned char *bytes; /* the file */
    uint64_t size;
    uint64_t calls_wanted;
    uint64_t crash_every;
    uint64_t next; /* piece */
    uint64_t calls;
    uint64_t answers;
    uint64_t crash_answers; /* of these: the worker had died */
    uint64_t mismatches;
    uint64_t since_crash;
    uint64_t crashes; /* workers that ended by themselves */
    uint32_t in_flight;
    bool is_ready;
    uint32_t deflate, inflate, crash;
    int code; /* of a service that cannot go on */
};

static void on_answer(sr_service *service, const sr_answer *answer, void *ctx);

static uint64_t piece_bytes(const struct job *job, uint64_t piece) {
    const uint64_t left = job->size - piece * PIECE_BYTES;
    return left < PIECE_BYTES ? left : PIECE_BYTES;
}

/* A call with the piece's number as its tag; whatever refuses it is counted as no call. */
static int call(struct job *job, uint32_t method, const void *data, uint64_t data_bytes,
                uint64_t piece) {
    sr_service_request request = SR_SERVICE_REQUEST_INIT;
    request.method = method;
    request.data = data;
    request.data_bytes = data_bytes;
    request.tag = piece;
    request.ctx = job;
    request.on_answer = on_answer;
    request.deadline_ns = DEADLINE_NS;
    const int code = sr_service_call(job->service, &request, NULL);
    if (code == 0) {
        job->calls++;
        job->in_flight++;
    }
    return code;
}

static void call_more(struct job *job) {
    const uint64_t pieces = (job->size + PIECE_BYTES - 1) / PIECE_BYTES;
    while (job->code == 0 && job->in_flight < IN_FLIGHT && job->calls < job->calls_wanted) {
        const uint64_t piece = job->next++ % pieces;
        if (call(job, job->deflate, job->bytes + piece * PIECE_BYTES, piece_bytes(job, piece),
                 piece) < 0) {
            return;
        }
    }
}

static void on_answer(sr_service *service, const sr_answer *answer, void *ctx) {
    struct job *job = ctx;
    (void)service;
    job->in_flight--;
    job->answers++;
    if (answer->source == SR_ANSWER_CHANNEL) { /* no answer: the worker is gone */
        job->crash_answers++;
        call_more(job);
        return;
    }
    if (answer->method == job->deflate) {
        if (answer->result < 0 ||
            call(job, job->inflate, answer->data, answer->data_bytes, answer->tag) < 0) {
            job->mismatches += answer->result < 0;
        }
    } else if (answer->data_bytes != piece_bytes(job, answer->tag) ||
               memcmp(answer->data, job->bytes + answer->tag * PIECE_BYTES, answer->data_bytes) !=
                   0) {
        job->mismatches++;
    }
    if (++job->since_crash == job->crash_every) {
        job->since_crash = 0;
        (void)call(job, job->crash, NULL, 0, 0); /* full: then not this time */
    }
    call_more(job);
}

/* Of a worker that is ready: of one that starts not all is known yet. */
static void print_sandbox(sr_service *service) {
    sr_sandbox_report report = SR_SANDBOX_REPORT_INIT;
    sr_worker_info infos[4];
    const int count = sr_service_workers(service, infos, 4);
    for (int i = 0; i < count && i < 4; i++) {
        if (infos[i].state == SR_WORKER_READY &&
            sr_service_sandbox(service, infos[i].worker, &report) == 0) {
            break;
        }
    }
    printf("a worker's sandbox: %u of %u layers hold\n", report.held_count, report.layer_count);
    for (uint32_t i = 0; i < report.layer_count; i++) {
        if (report.layers[i].state == SR_SANDBOX_REFUSED) {
            printf("  not to be had here: %s (%s)\n", sr_sandbox_layer_text(i),
                   sr_error_name(report.layers[i].code));
        }
    }
}

/* Ready: the methods have numbers, which stay the same for all workers to come. */
static void on_state(sr_service *service, enum sr_service_change change, uint32_t version, int code,
                     void *ctx) {
    struct job *job = ctx;
    (void)version;
    if (change == SR_SERVICE_READY) {
        code = sr_service_method(service, "deflate", &job->deflate);
        code = code < 0 ? code : sr_service_method(service, "inflate", &job->inflate);
        code = code < 0 ? code : sr_service_method(service, "crash", &job->crash);
        job->is_ready = code == 0;
        print_sandbox(service);
    }
    job->code = code;
    if (code == 0) {
        call_more(job);
    }
}

static void on_exit_of_worker(sr_service *service, const sr_worker_exit *exit, void *ctx) {
    struct job *job = ctx;
    (void)service;
    job->crashes += exit->cause == SR_WORKER_BY_ITSELF;
    if (!job->is_ready) { /* not one that crashes, but one that does not come to be */
        if (exit->sandbox_layer != NULL) {
            fprintf(stderr, "crash_proof: the sandbox cannot be had: %s\n", exit->sandbox_layer);
        }
        job->code = exit->code < 0 ? exit->code : SR_E_PEER_DIED;
    }
}

static int start(struct job *job, const char *program, const char *sandbox) {
    sr_service_options options = SR_SERVICE_OPTIONS_INIT;
    options.program = program;
    options.sandbox = sandbox;
    options.spares = 1;
    options.restarts_window_ns = UINT64_C(1000000); /* it crashes for show: never too often */
    options.on_state = on_state;
    options.on_exit = on_exit_of_worker;
    options.ctx = job;
    int code = sr_ring_create(NULL, &job->ring);
    code = code < 0 ? code : sr_supervisor_open(job->ring, NULL, &job->supervisor);
    return code < 0 ? code : sr_service_open(job->supervisor, &options, &job->service);
}

static int run(struct job *job) {
    int code = 0;
    while (code >= 0 && (job->answers < job->calls_wanted || job->in_flight > 0)) {
        code = sr_ring_wait(job->ring, 1, DEADLINE_NS, NULL, NULL);
        code = code >= 0 && job->code < 0 ? job->code : code;
    }
    return code;
}

static int stop(struct job *job, uint64_t *out_restarts) {
    sr_service_stats stats = SR_SERVICE_STATS_INIT;
    int code = job->service != NULL ? sr_service_get_stats(job->service, &stats) : 0;
    *out_restarts = stats.restarts;
    code = code < 0 ? code : sr_service_close(&job->service);
    code = code < 0 ? code : sr_supervisor_close(&job->supervisor);
    return code < 0 ? code : sr_ring_destroy(&job->ring);
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
    struct job job = {0};
    uint64_t restarts = 0;
    if (argc != 5 && argc != 6) {
        fprintf(stderr, "usage: crash_proof WORKER FILE CALLS CRASH_EVERY [SANDBOX]\n");
        return 2;
    }
    unsigned char *bytes = read_all(argv[2], &job.size);
    if (bytes == NULL) {
        fprintf(stderr, "crash_proof: %s cannot be read, or is empty\n", argv[2]);
        return 1;
    }
    job.bytes = bytes;
    job.calls_wanted = strtoull(argv[3], NULL, 10);
    job.crash_every = strtoull(argv[4], NULL, 10);
    const char *sandbox = argc == 6 ? argv[5] : "strict";
    uint32_t position = 0;
    if (sr_sandbox_check(sandbox, &position) < 0) {
        fprintf(stderr, "crash_proof: this is no sandbox: %s\n", sandbox + position);
        free(bytes);
        return 2;
    }
    int code = start(&job, argv[1], sandbox);
    code = code < 0 ? code : run(&job);
    const int stopped = stop(&job, &restarts);
    code = code < 0 ? code : stopped;
    free(bytes);
    printf("%llu calls, %llu answers (%llu of them: the worker had crashed), %llu crashes, "
           "%llu restarts, %llu differences\n",
           (unsigned long long)job.calls, (unsigned long long)job.answers,
           (unsigned long long)job.crash_answers, (unsigned long long)job.crashes,
           (unsigned long long)restarts, (unsigned long long)job.mismatches);
    if (code < 0) {
        fprintf(stderr, "crash_proof: %s\n", sr_strerror(code));
    }
    return code < 0 || job.calls != job.answers || job.mismatches > 0 ? 1 : 0;
}
