/* SPDX-License-Identifier: MIT */
/*
 * A ring in a program that already has an epoll loop: the loop sleeps on the ring's event
 * descriptor beside its own, no longer than the ring's next deadline, and dispatches.
 *
 *     in_epoll_loop FILE      reads FILE through the ring, and meanwhile repeats what comes on
 * stdin
 */
#include <errno.h>
#include <fcntl.h>
#include <safering/safering.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define CHUNK_BYTES 65536u

struct reader {
    sr_pool *pool;
    sr_request request;
    uint64_t bytes;
    int code;
    bool done;
};

static int complain(const char *what, int code) {
    fprintf(stderr, "in_epoll_loop: %s: %s\n", what, sr_strerror(code));
    return code;
}

/* Inside of sr_ring_dispatch(): the next chunk, or the end. */
static void on_read(sr_ring *ring, const sr_completion *completion, void *ctx) {
    struct reader *reader = ctx;
    if (completion->result <= 0) {
        reader->code = (int)completion->result;
        reader->done = true;
        return;
    }
    reader->bytes += completion->bytes_done;
    reader->request.offset = reader->bytes;
    reader->code = sr_ring_submit(ring, &reader->request, NULL);
    reader->done = reader->code < 0;
}

static int start_reading(sr_ring *ring, struct reader *reader, const char *path) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    options.buffer_size_bytes = CHUNK_BYTES;
    options.buffer_count = 1;
    reader->request = SR_REQUEST_INIT;
    reader->request.op = SR_OP_READ;
    reader->request.length = CHUNK_BYTES;
    reader->request.on_complete = on_read;
    reader->request.ctx = reader;
    reader->request.deadline_ns = 10000000000u; /* per chunk */
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return complain(path, -errno);
    }
    int code = sr_file_adopt(ring, fd, 0, &reader->request.file);
    if (code < 0) {
        (void)close(fd);
        return complain("file", code);
    }
    code = sr_pool_create(NULL, &options, &reader->pool);
    if (code == 0) {
        code = sr_ring_attach_pool(ring, reader->pool);
    }
    if (code >= 0) {
        code = sr_pool_acquire(reader->pool, CHUNK_BYTES, &reader->request.buffer);
    }
    if (code >= 0) {
        code = sr_ring_submit(ring, &reader->request, NULL);
    }
    return code < 0 ? complain("read", code) : 0;
}

static int add(int set, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    return epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

/* The program's own source of events: echoes what it reads; false at its end. */
static bool serve_input(void) {
    char line[256];
    const ssize_t count = read(STDIN_FILENO, line, sizeof line);
    if (count > 0) {
        printf("input: %.*s", (int)count, line);
    }
    return count > 0;
}

/* epoll counts in milliseconds: up, so that a deadline has passed when it wakes. */
static int milliseconds(uint64_t left_ns) {
    if (left_ns == SR_FOREVER) {
        return -1;
    }
    return left_ns < 1000000000u ? (int)((left_ns + 999999u) / 1000000u) : 1000;
}

static int loop(sr_ring *ring, struct reader *reader) {
    int event_fd = -1;
    const int set = epoll_create1(EPOLL_CLOEXEC);
    int code = set >= 0 ? sr_ring_event_fd(ring, &event_fd) : -errno;
    bool input = true;
    if (code == 0) {
        code = add(set, event_fd);
    }
    if (code == 0 && add(set, STDIN_FILENO) < 0) {
        input = false; /* a regular file: epoll does not take it */
    }
    while (code >= 0 && (!reader->done || input)) {
        struct epoll_event events[2];
        uint64_t left_ns = 0;
        code = sr_ring_next_deadline_ns(ring, &left_ns);
        const int count = code == 0 ? epoll_wait(set, events, 2, milliseconds(left_ns)) : 0;
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == STDIN_FILENO && !serve_input()) {
                (void)epoll_ctl(set, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
                input = false;
            }
        }
        if (code == 0) {
            code = sr_ring_dispatch(ring, NULL); /* also when only a deadline has come */
        }
    }
    (void)close(set);
    return code < 0 ? complain("loop", code) : 0;
}

int main(int argc, char **argv) {
    struct reader reader = {0};
    sr_ring *ring = NULL;
    if (argc != 2) {
        fprintf(stderr, "usage: in_epoll_loop FILE\n");
        return 2;
    }
    int code = sr_ring_create(NULL, &ring);
    if (code < 0) {
        (void)complain("ring", code);
        return 1;
    }
    code = start_reading(ring, &reader, argv[1]);
    if (code == 0) {
        code = loop(ring, &reader);
    }
    if (code == 0 && reader.code < 0) {
        code = complain(argv[1], reader.code);
    }
    if (code == 0) {
        printf("%llu bytes\n", (unsigned long long)reader.bytes);
    }
    const int ended = sr_ring_destroy(&ring);
    const int freed = sr_pool_destroy(&reader.pool);
    return code < 0 || ended < 0 || freed < 0 ? 1 : 0;
}
