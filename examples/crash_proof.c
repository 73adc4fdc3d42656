/* SPDX-License-Identifier: MIT */
/*
 * crash_proof WORKER FILE CALLS CRASH_EVERY: compresses pieces of FILE in a worker
 * (deflate_worker), has them uncompressed again and compares, CALLS calls in all. After every
 * CRASH_EVERY answers the worker's buggy method is called as well: it dies, and another one is
 * started. Nothing of that reaches this process but answers that say so, one for each call that the
 * worker took along.
 */
#include <errno.h>
#include <safering/safering.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIECE_BYTES 16384u
#define IN_FLIGHT   16u
#define WORKER_FD   3
#define DEADLINE_NS UINT64_C(10000000000)

struct service {
    sr_ring *ring;
    sr_channel *channel;
    const char *program;
    pid_t pid;
    const unsigned char *bytes; /* the file */
    uint64_t size;
    uint64_t calls_wanted;
    uint64_t crash_every;
    uint64_t next; /* piece */
    uint64_t calls;
    uint64_t answers;
    uint64_t crash_answers; /* of these: the worker had died */
    uint64_t mismatches;
    uint64_t since_crash; /* answers of this worker */
    uint32_t restarts;
    uint32_t in_flight;
    uint32_t deflate, inflate, crash;
    int ended; /* code, or 0 */
};

static void on_answer(sr_channel *channel, const sr_answer *answer, void *ctx);

static uint64_t piece_bytes(const struct service *service, uint64_t piece) {
    const uint64_t left = service->size - piece * PIECE_BYTES;
    return left < PIECE_BYTES ? left : PIECE_BYTES;
}

/* A call with the piece's number as its tag; whatever refuses it is counted as no call. */
static int call(struct service *service, uint32_t method, const void *data, uint64_t data_bytes,
                uint64_t piece) {
    sr_call_request request = SR_CALL_REQUEST_INIT;
    request.method = method;
    request.data = data;
    request.data_bytes = data_bytes;
    request.tag = piece;
    request.ctx = service;
    request.on_answer = on_answer;
    request.deadline_ns = DEADLINE_NS;
    const int code = sr_channel_call(service->channel, &request, NULL);
    if (code == 0) {
        service->calls++;
        service->in_flight++;
    }
    return code;
}

static void call_more(struct service *service) {
    const uint64_t pieces = (service->size + PIECE_BYTES - 1) / PIECE_BYTES;
    while (service->ended == 0 && service->in_flight < IN_FLIGHT &&
           service->calls < service->calls_wanted) {
        const uint64_t piece = service->next++ % pieces;
        if (call(service, service->deflate, service->bytes + piece * PIECE_BYTES,
                 piece_bytes(service, piece), piece) < 0) {
            return;
        }
    }
}

static void on_answer(sr_channel *channel, const sr_answer *answer, void *ctx) {
    struct service *service = ctx;
    (void)channel;
    service->in_flight--;
    service->answers++;
    if (answer->source == SR_ANSWER_CHANNEL) { /* no answer: the worker is gone */
        service->crash_answers++;
        return;
    }
    if (answer->method == service->deflate) {
        if (answer->result < 0 ||
            call(service, service->inflate, answer->data, answer->data_bytes, answer->tag) < 0) {
            service->mismatches += answer->result < 0;
        }
    } else if (answer->data_bytes != piece_bytes(service, answer->tag) ||
               memcmp(answer->data, service->bytes + answer->tag * PIECE_BYTES,
                      answer->data_bytes) != 0) {
        service->mismatches++;
    }
    if (++service->since_crash == service->crash_every) {
        (void)call(service, service->crash, NULL, 0, 0); /* full: then not this time */
    }
    call_more(service);
}

static void on_state(sr_channel *channel, int code, void *ctx) {
    struct service *service = ctx;
    int found = code;
    if (code == 0) {
        found = sr_channel_method(channel, "deflate", &service->deflate);
        found = found < 0 ? found : sr_channel_method(channel, "inflate", &service->inflate);
        found = found < 0 ? found : sr_channel_method(channel, "crash", &service->crash);
    }
    service->ended = found; /* restarted outside of this callback */
    if (found == 0) {
        call_more(service);
    }
}

/* Starts a worker with one end of a socket pair as its descriptor 3, and opens a channel to it. */
static int start(struct service *service) {
    char *const argv[] = {(char *)(uintptr_t)service->program, NULL};
    char *const environment[] = {(char *)(uintptr_t) "SAFERING_WORKER_SOCKET=3", NULL};
    sr_channel_options options = SR_CHANNEL_OPTIONS_INIT;
    posix_spawn_file_actions_t actions;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return -errno;
    }
    int code = -posix_spawn_file_actions_init(&actions);
    code = code < 0 ? code : -posix_spawn_file_actions_adddup2(&actions, pair[1], WORKER_FD);
    code = code < 0
               ? code
               : -posix_spawn(&service->pid, service->program, &actions, NULL, argv, environment);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(pair[1]);
    options.on_state = on_state;
    options.ctx = service;
    service->ended = 0;
    service->since_crash = 0;
    code = code < 0 ? code : sr_channel_open(service->ring, pair[0], &options, &service->channel);
    if (code < 0) {
        (void)close(pair[0]);
    }
    return code;
}

/* Ends the channel, and with it the worker. Returns a code if it did not die as it should. */
static int stop(struct service *service, bool crashed) {
    int status = 0;
    const int code = sr_channel_close(&service->channel);
    while (waitpid(service->pid, &status, 0) < 0 && errno == EINTR) {
    }
    const bool as_expected = crashed == (status != 0);
    if (!as_expected) {
        fprintf(stderr, "crash_proof: the worker ended with status %#x\n", status);
    }
    return code < 0 ? code : as_expected ? 0 : -EIO;
}

static int run(struct service *service) {
    int code = start(service);
    while (code >= 0 && (service->answers < service->calls_wanted || service->in_flight > 0)) {
        code = sr_ring_wait(service->ring, 1, DEADLINE_NS, NULL, NULL);
        if (code >= 0 && service->ended == SR_E_PEER_DIED) {
            code = stop(service, true);
            code = code < 0 ? code : start(service);
            service->restarts++;
        }
        code = code >= 0 && service->ended < 0 ? service->ended : code;
    }
    const int ended = service->channel != NULL ? stop(service, false) : 0;
    return code < 0 ? code : ended;
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
    struct service service = {0};
    if (argc != 5) {
        fprintf(stderr, "usage: crash_proof WORKER FILE CALLS CRASH_EVERY\n");
        return 2;
    }
    unsigned char *bytes = read_all(argv[2], &service.size);
    if (bytes == NULL) {
        fprintf(stderr, "crash_proof: %s cannot be read, or is empty\n", argv[2]);
        return 1;
    }
    service.program = argv[1];
    service.bytes = bytes;
    service.calls_wanted = strtoull(argv[3], NULL, 10);
    service.crash_every = strtoull(argv[4], NULL, 10);
    int code = sr_ring_create(NULL, &service.ring);
    code = code < 0 ? code : run(&service);
    const int ring_end = sr_ring_destroy(&service.ring);
    code = code < 0 ? code : ring_end;
    free(bytes);
    printf("%llu calls, %llu answers (%llu of them: the worker had crashed), %u restarts, "
           "%llu differences\n",
           (unsigned long long)service.calls, (unsigned long long)service.answers,
           (unsigned long long)service.crash_answers, service.restarts,
           (unsigned long long)service.mismatches);
    if (code < 0) {
        fprintf(stderr, "crash_proof: %s\n", sr_strerror(code));
    }
    return code < 0 || service.calls != service.answers || service.mismatches > 0 ? 1 : 0;
}
