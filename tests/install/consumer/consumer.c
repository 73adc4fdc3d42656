/* SPDX-License-Identifier: MIT */
/*
 * A program of somebody else: writes a file, reads it back through the ring, runs a nop, and compares.
 * Exit 0 if all is as written, 1 if not, 77 if this machine forbids io_uring.
 */
#include <errno.h>
#include <fcntl.h>
#include <safering/safering.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char text[] = "bytes that only this file has";

/* Says what failed and ends the program, unless `code` is a success. */
static void require(int code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s (%s)\n", what, sr_strerror(code), sr_error_name(code));
        exit(code == -EPERM || code == -ENOSYS ? 77 : 1);
    }
}

/* Submits one request and returns the result of the operation. */
static int64_t run(sr_ring *ring, const sr_request *request)
{
    const sr_completion *completions = NULL;

    require(sr_ring_submit(ring, request, NULL), "sr_ring_submit");
    int count = sr_ring_wait(ring, 1, SR_FOREVER, NULL, &completions);
    require(count, "sr_ring_wait");
    if (count != 1 || completions[0].tag != request->tag) {
        fprintf(stderr, "%d completions, or a wrong tag\n", count);
        exit(1);
    }
    return completions[0].result;
}

int main(void)
{
    sr_ring *ring = NULL;
    sr_pool *pool = NULL;
    sr_buffer buffer = SR_BUFFER_NONE;
    sr_file file = SR_FILE_NONE;
    void *data = NULL;
    char path[] = "/tmp/safering-consumer-XXXXXX";

    int fd = mkstemp(path);
    if (fd < 0 || write(fd, text, sizeof(text)) != (ssize_t)sizeof(text)) {
        perror(path);
        return 1;
    }
    (void)unlink(path);

    require(sr_ring_create(NULL, &ring), "sr_ring_create");
    require(sr_pool_create(NULL, NULL, &pool), "sr_pool_create");
    require(sr_ring_attach_pool(ring, pool), "sr_ring_attach_pool");
    require(sr_pool_acquire(pool, sizeof(text), &buffer), "sr_pool_acquire");
    require(sr_file_adopt(ring, fd, 0, &file), "sr_file_adopt");

    sr_request nop = SR_REQUEST_INIT;
    nop.tag = 1;
    int64_t nop_result = run(ring, &nop);

    sr_request read_request = SR_REQUEST_INIT;
    read_request.op = SR_OP_READ;
    read_request.flags = SR_REQUEST_FULL;
    read_request.file = file;
    read_request.buffer = buffer;
    read_request.length = sizeof(text);
    read_request.tag = 2;
    int64_t read_result = run(ring, &read_request);

    require(sr_buffer_data(pool, buffer, 0, sizeof(text), SR_ACCESS_READ, &data), "sr_buffer_data");
    int same = memcmp(data, text, sizeof(text)) == 0;

    require(sr_pool_release(pool, buffer), "sr_pool_release");
    require(sr_ring_destroy(&ring), "sr_ring_destroy");
    require(sr_pool_destroy(&pool), "sr_pool_destroy");

    int refused = sr_pool_release(pool, buffer);
    printf("nop %lld, read %lld of %zu bytes, %s; a released buffer gives %s\n",
           (long long)nop_result, (long long)read_result, sizeof(text),
           same ? "the same" : "DIFFERENT", sr_error_name(refused));
    return nop_result == 0 && read_result == (int64_t)sizeof(text) && same &&
                   refused == SR_E_OBJECT && sr_version() == 0x000100
               ? 0
               : 1;
}
