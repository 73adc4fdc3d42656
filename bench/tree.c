/* SPDX-License-Identifier: MIT */
/* The files that the copy cases copy. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "work.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    NAME_BYTES = 12,       /* "/s" or "/t", a number, NUL */
    DESCRIPTORS_MIN = 256, /* 64 files in flight have two each */
    FILE_BLOCKS = BENCH_TREE_FILE_BYTES / BENCH_BLOCK_BYTES
};

struct bench_tree {
    char directory[PATH_MAX];
    uint32_t file_count;
    size_t path_bytes;
    char *paths;          /* of each file its own and that of its copy */
    unsigned char *image; /* what the files hold, one after the other */
    unsigned char *bytes; /* of a copy that is compared */
};

static char *path_at(const struct bench_tree *tree, uint32_t place) {
    return tree->paths + place * tree->path_bytes;
}

const char *bench_tree_source(const struct bench_tree *tree, uint32_t file) {
    return path_at(tree, 2 * file);
}

const char *bench_tree_target(const struct bench_tree *tree, uint32_t file) {
    return path_at(tree, 2 * file + 1);
}

static const unsigned char *image_of(const struct bench_tree *tree, uint32_t file) {
    return tree->image + (size_t)file * BENCH_TREE_FILE_BYTES;
}

/* The last word of a file: it goes into the checksum. */
static uint64_t last_word(const unsigned char *bytes) {
    uint64_t word;

    memcpy(&word, bytes + BENCH_TREE_FILE_BYTES - sizeof(word), sizeof(word));
    return word;
}

/* ---- making it ------------------------------------------------------------------------------- */

static void draw_image(struct bench_tree *tree, uint64_t file_seed) {
    for (uint32_t block = 0; block < tree->file_count * FILE_BLOCKS; block++) {
        for (uint32_t i = 0; i < BENCH_BLOCK_WORDS; i++) {
            uint64_t word = bench_block_word(file_seed, block, i);

            memcpy(tree->image + ((size_t)block * BENCH_BLOCK_WORDS + i) * sizeof(word), &word,
                   sizeof(word));
        }
    }
}

static void name_files(struct bench_tree *tree) {
    for (uint32_t place = 0; place < 2 * tree->file_count; place++) {
        snprintf(path_at(tree, place), tree->path_bytes, "%s/%c%u", tree->directory,
                 place % 2 == 0 ? 's' : 't', place / 2);
    }
}

static int write_file(const struct bench_tree *tree, uint32_t file) {
    int fd = open(bench_tree_source(tree, file), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ssize_t written;

    if (fd < 0) {
        return bench_complain(BENCH_MISSING, "making a temporary file: %s", strerror(errno));
    }
    written = write(fd, image_of(tree, file), BENCH_TREE_FILE_BYTES);
    if (written != BENCH_TREE_FILE_BYTES) {
        close(fd);
        return bench_complain(BENCH_MISSING, "writing a temporary file: %s",
                              written < 0 ? strerror(errno) : "no room");
    }
    close(fd);
    return BENCH_OK;
}

/* Let the disk have the files now, not while something is measured. */
static int settle(const struct bench_tree *tree, bool *out_nowait) {
    int fd = open(bench_tree_source(tree, 0), O_RDONLY | O_CLOEXEC);

    if (fd < 0 || syncfs(fd) != 0) {
        int code = errno;

        if (fd >= 0) {
            close(fd);
        }
        return bench_complain(BENCH_MISSING, "writing the temporary files: %s", strerror(code));
    }
    *out_nowait = bench_file_reads_at_once(fd);
    close(fd);
    return BENCH_OK;
}

static int make_directory(struct bench_tree *tree, enum bench_file where) {
    const char *parent;
    int status = bench_file_directory(where, &parent);
    int length;

    if (status != BENCH_OK) {
        return status;
    }
    length = snprintf(tree->directory, sizeof(tree->directory) - NAME_BYTES,
                      "%s/safering-bench-XXXXXX", parent);
    if (length < 0 || (size_t)length >= sizeof(tree->directory) - NAME_BYTES) {
        tree->directory[0] = '\0';
        return bench_complain(BENCH_MISSING, "the name of the temporary directory is too long");
    }
    if (mkdtemp(tree->directory) == NULL) {
        tree->directory[0] = '\0';
        return bench_complain(BENCH_MISSING, "no temporary directory in %s: %s", parent,
                              strerror(errno));
    }
    tree->path_bytes = (size_t)length + NAME_BYTES;
    return BENCH_OK;
}

static int fill_directory(struct bench_tree *tree, uint64_t file_seed, bool *out_nowait) {
    tree->paths = calloc(2 * (size_t)tree->file_count, tree->path_bytes);
    tree->image = malloc((size_t)tree->file_count * BENCH_TREE_FILE_BYTES);
    tree->bytes = malloc(BENCH_TREE_FILE_BYTES);
    if (tree->paths == NULL || tree->image == NULL || tree->bytes == NULL) {
        return bench_complain(BENCH_WRONG, "the temporary files: out of memory");
    }
    name_files(tree);
    draw_image(tree, file_seed);
    for (uint32_t file = 0; file < tree->file_count; file++) {
        int status = write_file(tree, file);

        if (status != BENCH_OK) {
            return status;
        }
    }
    return settle(tree, out_nowait);
}

int bench_tree_open(enum bench_file where, uint64_t file_seed, uint32_t file_count,
                    struct bench_tree **out_tree, bool *out_nowait) {
    struct rlimit descriptors;
    struct bench_tree *tree;
    int status;

    *out_tree = NULL;
    *out_nowait = false;
    if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0 && descriptors.rlim_cur < DESCRIPTORS_MIN) {
        return bench_complain(BENCH_MISSING,
                              "%u descriptors are needed, %llu allowed "
                              "(RLIMIT_NOFILE)",
                              DESCRIPTORS_MIN, (unsigned long long)descriptors.rlim_cur);
    }
    tree = calloc(1, sizeof(*tree));
    if (tree == NULL) {
        return bench_complain(BENCH_WRONG, "the temporary files: out of memory");
    }
    tree->file_count = file_count;
    status = make_directory(tree, where);
    if (status == BENCH_OK) {
        status = fill_directory(tree, file_seed, out_nowait);
    }
    if (status != BENCH_OK) {
        bench_tree_close(tree);
        return status;
    }
    *out_tree = tree;
    return BENCH_OK;
}

void bench_tree_close(struct bench_tree *tree) {
    if (tree == NULL) {
        return;
    }
    for (uint32_t place = 0; tree->paths != NULL && place < 2 * tree->file_count; place++) {
        unlink(path_at(tree, place));
    }
    if (tree->directory[0] != '\0') {
        rmdir(tree->directory);
    }
    free(tree->paths);
    free(tree->image);
    free(tree->bytes);
    free(tree);
}

/* ---- copies ---------------------------------------------------------------------------------- */

int bench_tree_remove_targets(struct bench_tree *tree) {
    for (uint32_t file = 0; file < tree->file_count; file++) {
        if (unlink(bench_tree_target(tree, file)) != 0 && errno != ENOENT) {
            return bench_complain(BENCH_WRONG, "removing a copy: %s", strerror(errno));
        }
    }
    return BENCH_OK;
}

static int check_target(struct bench_tree *tree, uint32_t file, uint64_t *inout_checksum) {
    int fd = open(bench_tree_target(tree, file), O_RDONLY | O_CLOEXEC);
    struct stat found;
    bool good;

    if (fd < 0) {
        return bench_complain(BENCH_WRONG, "copy %u: %s", file, strerror(errno));
    }
    good = fstat(fd, &found) == 0 && found.st_size == BENCH_TREE_FILE_BYTES &&
           read(fd, tree->bytes, BENCH_TREE_FILE_BYTES) == BENCH_TREE_FILE_BYTES &&
           memcmp(tree->bytes, image_of(tree, file), BENCH_TREE_FILE_BYTES) == 0;
    close(fd);
    if (!good) {
        return bench_complain(BENCH_WRONG, "copy %u differs from its file", file);
    }
    *inout_checksum += last_word(tree->bytes);
    return BENCH_OK;
}

int bench_tree_check_targets(struct bench_tree *tree, uint32_t file_count,
                             uint64_t *inout_checksum) {
    for (uint32_t file = 0; file < file_count; file++) {
        int status = check_target(tree, file, inout_checksum);

        if (status != BENCH_OK) {
            return status;
        }
    }
    return BENCH_OK;
}

uint64_t bench_tree_expect(const struct bench_setup *setup, const struct bench_round *round) {
    uint64_t sum = 0;

    for (uint32_t file = 0; file < round->ops; file++) {
        sum += bench_block_word(setup->file_seed, file * FILE_BLOCKS + FILE_BLOCKS - 1,
                                BENCH_BLOCK_WORDS - 1);
    }
    return sum;
}
