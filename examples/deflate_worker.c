/* SPDX-License-Identifier: MIT */
/* deflate_worker: serves zlib to a host, in a process of its own. One method has a bug. */
#include <limits.h>
#include <safering/worker.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#define PIECE_MAX (1u << 20)

/* Answers the compressed bytes; result: how many, or zlib's code. */
static int64_t run_deflate(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    uLongf size = compressBound((uLong)data_bytes);
    Bytef *bytes = malloc(size);
    (void)ctx;
    int code = bytes != NULL ? compress2(bytes, &size, data, (uLong)data_bytes, 6) : Z_MEM_ERROR;
    if (code == Z_OK) {
        code = sr_serve_reply(served, bytes, size);
    }
    free(bytes);
    return code < 0 ? code : (int64_t)size;
}

/* The other way; what comes out has at most PIECE_MAX bytes. */
static int64_t run_inflate(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    uLongf size = PIECE_MAX;
    Bytef *bytes = malloc(size);
    (void)ctx;
    int code = bytes != NULL ? uncompress(bytes, &size, data, (uLong)data_bytes) : Z_MEM_ERROR;
    if (code == Z_OK) {
        code = sr_serve_reply(served, bytes, size);
    }
    free(bytes);
    return code < 0 ? code : (int64_t)size;
}

/* What a native library does one day. */
static int64_t crash(sr_served *served, const void *data, uint64_t data_bytes, void *ctx) {
    volatile int *volatile nowhere = NULL;
    (void)served;
    (void)data;
    (void)data_bytes;
    (void)ctx;
    *nowhere = 1;
    return 0;
}

int main(void) {
    const sr_method methods[] = {
        {"deflate", run_deflate, NULL},
        {"inflate", run_inflate, NULL},
        {"crash", crash, NULL},
    };
    const int code = sr_serve(methods, sizeof methods / sizeof methods[0], NULL);
    if (code < 0) {
        fprintf(stderr, "deflate_worker: %s\n", sr_strerror(code));
    }
    return code < 0 ? 1 : 0;
}
