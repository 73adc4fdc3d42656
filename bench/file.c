/* SPDX-License-Identifier: MIT */
/* The file that the read cases read: small enough to stay in memory, and without a name from the
 * first moment on, so that it is gone however the program ends. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "work.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

int bench_file_directory(enum bench_file where, const char **out_directory) {
    const char *chosen = getenv("TMPDIR");
    struct statfs found;

    if (where != BENCH_FILE_TMPFS && where != BENCH_TREE_TMPFS) {
        *out_directory = chosen != NULL && chosen[0] != '\0' ? chosen : "/var/tmp";
        return BENCH_OK;
    }
    *out_directory = "/dev/shm";
    if (statfs(*out_directory, &found) != 0 || found.f_type != TMPFS_MAGIC) {
        return bench_complain(BENCH_MISSING, "%s is not a tmpfs", *out_directory);
    }
    return BENCH_OK;
}

static int fill(int fd, uint64_t file_seed) {
    uint64_t words[BENCH_BLOCK_WORDS];

    for (uint32_t block = 0; block < BENCH_FILE_BLOCKS; block++) {
        for (uint32_t i = 0; i < BENCH_BLOCK_WORDS; i++) {
            words[i] = bench_block_word(file_seed, block, i);
        }
        if (pwrite(fd, words, sizeof(words), (off_t)block * BENCH_BLOCK_BYTES) !=
            (ssize_t)sizeof(words)) {
            return bench_complain(BENCH_MISSING, "writing the temporary file: %s", strerror(errno));
        }
    }
    /* Let the disk have it now, not while something is measured. */
    if (fdatasync(fd) != 0) {
        return bench_complain(BENCH_MISSING, "writing the temporary file: %s", strerror(errno));
    }
    return BENCH_OK;
}

bool bench_file_reads_at_once(int fd) {
    unsigned char bytes[BENCH_BLOCK_BYTES];
    struct iovec whole = {bytes, sizeof(bytes)};

    return preadv2(fd, &whole, 1, 0, RWF_NOWAIT) == (ssize_t)sizeof(bytes);
}

static int make_nameless(const char *directory, int *out_fd) {
    char path[PATH_MAX];
    int length = snprintf(path, sizeof(path), "%s/safering-bench-XXXXXX", directory);

    if (length < 0 || (size_t)length >= sizeof(path)) {
        return bench_complain(BENCH_MISSING, "the name of the temporary directory is too long");
    }
    *out_fd = mkostemp(path, O_CLOEXEC);
    if (*out_fd < 0) {
        return bench_complain(BENCH_MISSING, "no temporary file in %s: %s", directory,
                              strerror(errno));
    }
    unlink(path);
    return BENCH_OK;
}

int bench_file_open(enum bench_file where, uint64_t file_seed, int *out_fd, bool *out_nowait) {
    const char *directory;
    int fd = -1;
    int status = bench_file_directory(where, &directory);

    *out_fd = -1;
    *out_nowait = false;
    if (status == BENCH_OK) {
        status = make_nameless(directory, &fd);
    }
    if (status != BENCH_OK) {
        return status;
    }
    status = fill(fd, file_seed);
    if (status != BENCH_OK) {
        close(fd);
        return status;
    }
    *out_fd = fd;
    *out_nowait = bench_file_reads_at_once(fd);
    return BENCH_OK;
}
