/* SPDX-License-Identifier: MIT */
/*
 * guarded: a bug and how it is caught. A child keeps a pointer to a buffer, lends the buffer to a
 * read and goes on writing through the pointer. Without a guard the kernel and the program would
 * overwrite each other in silence; with guard level protect the child dies at that very line and
 * says which operation has the buffer.
 */
#include <errno.h>
#include <safering/safering.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE 4096

static int read_into_a_buffer_that_is_still_written_to(sr_ring *ring, sr_pool *pool, int fd) {
    sr_request request = SR_REQUEST_INIT;
    void *bytes = NULL;
    int code = sr_file_adopt(ring, fd, 0, &request.file);
    code = code < 0 ? code : sr_pool_acquire(pool, SIZE, &request.buffer);
    code = code < 0 ? code : sr_buffer_data(pool, request.buffer, 0, SIZE, SR_ACCESS_WRITE, &bytes);
    if (code < 0) {
        return code;
    }
    memset(bytes, 0, SIZE); /* fine: the buffer is the program's */
    request.op = SR_OP_READ;
    request.length = SIZE;
    request.offset = SR_OFFSET_CURRENT;
    code = sr_ring_submit(ring, &request, NULL);
    code = code < 0 ? code : sr_ring_flush(ring);
    if (code >= 0) {
        memset(bytes, 0, SIZE); /* the bug: it is the kernel's now */
    }
    return code;
}

/* Returns only if something else than the bug went wrong, or the bug was not caught. */
static int run_child(void) {
    const struct rlimit no_core = {0, 0};
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    sr_pool *pool = NULL;
    sr_ring *ring = NULL;
    int ends[2];
    options.guard = SR_GUARD_PROTECT; /* or SAFERING_GUARD=protect in the environment */
    if (setrlimit(RLIMIT_CORE, &no_core) != 0 || pipe(ends) != 0) {
        return -errno;
    }
    int code = sr_guard_install_fault_handler();
    code = code < 0 ? code : sr_pool_create(NULL, &options, &pool);
    code = code < 0 ? code : sr_ring_create(NULL, &ring);
    code = code < 0 ? code : sr_ring_attach_pool(ring, pool);
    return code < 0 ? code : read_into_a_buffer_that_is_still_written_to(ring, pool, ends[0]);
}

int main(void) {
    int status = 0;
    const pid_t child = fork(); /* before any object is made */
    if (child == 0) {
        const int code = run_child();
        fprintf(stderr, "guarded: %s\n", code < 0 ? sr_strerror(code) : "the bug was not caught");
        _exit(1);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        fprintf(stderr, "guarded: %s\n", strerror(errno));
        return 1;
    }
    if (!WIFSIGNALED(status)) {
        fprintf(stderr, "guarded: the child should have died of a signal\n");
        return 1;
    }
    printf("the child was stopped by: %s\n", strsignal(WTERMSIG(status)));
    return 0;
}
