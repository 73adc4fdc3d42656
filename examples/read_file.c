/* SPDX-License-Identifier: MIT */
/* read_file PATH: prints a file. One ring, one pool, one buffer. */
#include <errno.h>
#include <safering/safering.h>
#include <stdio.h>

/* Runs one request to its end: the operation's result, or the code of a call that was refused. */
static int64_t run(sr_ring *ring, const sr_request *request, sr_completion *out_done) {
    const sr_completion *done = NULL;
    int code = sr_ring_submit(ring, request, NULL);
    code = code < 0 ? code : sr_ring_wait(ring, 1, SR_FOREVER, NULL, &done);
    *out_done = code > 0 ? done[0] : (sr_completion){0};
    return code > 0 ? done[0].result : code;
}

static int64_t print_file(sr_ring *ring, sr_pool *pool, const char *path) {
    sr_request request = SR_REQUEST_INIT;
    sr_completion done;
    void *bytes = NULL;
    request.op = SR_OP_OPENAT; /* without O_CREAT, to read: op_flags 0 */
    request.path = path;
    int64_t result = run(ring, &request, &done);
    request.op = SR_OP_READ;
    request.file = done.file; /* closed with the ring */
    request.length = 4096;
    result = result < 0 ? result : sr_pool_acquire(pool, 4096, &request.buffer);
    while (result == 0 && (result = run(ring, &request, &done)) > 0) {
        const size_t count = (size_t)result;
        request.offset += count;
        result = sr_buffer_data(pool, done.buffer, 0, count, SR_ACCESS_READ, &bytes);
        result = result == 0 && fwrite(bytes, 1, count, stdout) != count ? -EIO : result;
    }
    return result == 0 && fflush(stdout) != 0 ? -EIO : result;
}

int main(int argc, char **argv) {
    sr_pool *pool = NULL;
    sr_ring *ring = NULL;
    if (argc != 2) {
        fprintf(stderr, "usage: read_file PATH\n");
        return 2;
    }
    int64_t code = sr_pool_create(NULL, NULL, &pool);
    code = code < 0 ? code : sr_ring_create(NULL, &ring);
    code = code < 0 ? code : sr_ring_attach_pool(ring, pool);
    code = code < 0 ? code : print_file(ring, pool, argv[1]);
    const int ring_end = sr_ring_destroy(&ring); /* waits until nothing is in flight */
    const int pool_end = sr_pool_destroy(&pool); /* takes its buffers along */
    code = code < 0 ? code : ring_end < 0 ? ring_end : pool_end;
    if (code < 0) {
        fprintf(stderr, "read_file: %s: %s\n", argv[1], sr_strerror((int)code));
    }
    return code < 0 ? 1 : 0;
}
