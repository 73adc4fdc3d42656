/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "directory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OPEN_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC)

struct identity identity_of(const struct statx *stat) {
    return (struct identity){stat->stx_dev_major, stat->stx_dev_minor, stat->stx_ino};
}

bool identity_equal(const struct identity *one, const struct identity *other) {
    return one->inode == other->inode && one->device_major == other->device_major &&
           one->device_minor == other->device_minor;
}

/* ---- nodes ----------------------------------------------------------------------------------- */

struct directory *directory_create(struct directory *parent, const char *name) {
    struct directory *directory = calloc(1, sizeof(*directory));
    char *own_name = strdup(name);
    if (directory == NULL || own_name == NULL) {
        free(directory);
        free(own_name);
        return NULL;
    }
    directory->parent = parent;
    directory->name = own_name;
    directory->references = 1;
    directory->unfinished = 1;
    if (parent != NULL) {
        directory_reference(parent);
    }
    return directory;
}

void directory_reference(struct directory *directory) {
    directory->references++;
}

static struct directory *free_node(struct directory *directory) {
    struct directory *parent = directory->parent;
    listing_deinit(&directory->listing);
    free(directory->name);
    free(directory);
    return parent;
}

void directory_unreference(struct tree *tree, struct directory *directory) {
    /* A loop, not a recursion: the tree may be very deep. */
    while (directory != NULL && --directory->references == 0) {
        if (directory->open) {
            directory->next = tree->unneeded;
            tree->unneeded = directory;
            return;
        }
        directory = free_node(directory);
    }
}

void directory_entry_ended(struct tree *tree, struct directory *directory) {
    if (--directory->unfinished == 0) {
        directory->next = tree->finished;
        tree->finished = directory;
    }
}

const char *directory_target_name(const struct tree *tree, const struct directory *directory,
                                  const char *name) {
    return directory->parent == NULL ? tree->target_name : name;
}

static char *put_before(char *end, const char *text) {
    size_t length = strlen(text);
    return memcpy(end - length, text, length);
}

char *directory_path(const struct tree *tree, const struct directory *directory, const char *name) {
    /* SRC itself is an entry of the outermost node and shown as the user wrote it. */
    bool below_root = name != NULL && directory->parent != NULL;
    size_t size = strlen(tree->source_label) + 1 + (below_root ? strlen(name) + 1 : 0);
    const struct directory *node;
    for (node = directory; node->parent != NULL && node->parent->parent != NULL;
         node = node->parent) {
        size += strlen(node->name) + 1;
    }
    char *path = malloc(size);
    if (path == NULL) {
        return NULL;
    }
    char *start = path + size - 1;
    *start = '\0';
    if (below_root) {
        start = put_before(start, name);
        *--start = '/';
    }
    for (node = directory; node->parent != NULL && node->parent->parent != NULL;
         node = node->parent) {
        start = put_before(start, node->name);
        *--start = '/';
    }
    (void)put_before(start, tree->source_label);
    return path;
}

/* ---- open nodes, by last use ----------------------------------------------------------------- */

static void unlist(struct tree *tree, struct directory *directory) {
    *(directory->newer != NULL ? &directory->newer->older : &tree->newest) = directory->older;
    *(directory->older != NULL ? &directory->older->newer : &tree->oldest) = directory->newer;
    directory->newer = NULL;
    directory->older = NULL;
}

static void list_newest(struct tree *tree, struct directory *directory) {
    directory->older = tree->newest;
    *(tree->newest != NULL ? &tree->newest->newer : &tree->oldest) = directory;
    tree->newest = directory;
}

static void mark_open(struct tree *tree, struct directory *directory) {
    directory->open = true;
    tree->open_count++;
    list_newest(tree, directory);
}

static void close_file(struct tree *tree, sr_file *file) {
    if (file->bits != 0) {
        sr_request request = SR_REQUEST_INIT;
        request.op = SR_OP_CLOSE;
        request.file = *file;
        (void)loop_call(tree->loop, &request, NULL); /* a directory has no unwritten bytes */
        *file = SR_FILE_NONE;
    }
}

static void close_pair(struct tree *tree, struct directory *directory) {
    close_file(tree, &directory->source);
    close_file(tree, &directory->target);
}

static void close_node(struct tree *tree, struct directory *directory) {
    if (directory->open) {
        directory->open = false;
        tree->open_count--;
        unlist(tree, directory);
        close_pair(tree, directory);
    }
}

/* Close what was used longest ago. Pinned nodes do not count: there are only as many as files in
 * flight. */
static void make_room(struct tree *tree) {
    unsigned unpinned = 0;
    for (struct directory *node = tree->newest; node != NULL;) {
        struct directory *older = node->older;
        if (node->pins == 0 && ++unpinned >= DIRECTORY_CACHE) {
            close_node(tree, node);
        }
        node = older;
    }
}

void directory_bury(struct tree *tree) {
    while (tree->unneeded != NULL) {
        struct directory *directory = tree->unneeded;
        tree->unneeded = directory->next;
        close_node(tree, directory);
        directory_unreference(tree, free_node(directory));
    }
}

/* ---- opening --------------------------------------------------------------------------------- */

static int open_one(struct tree *tree, sr_file base, const char *path, int flags,
                    sr_file *out_file) {
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_OPENAT;
    request.file = base;
    request.path = path;
    request.op_flags = (uint32_t)(OPEN_FLAGS | flags);
    struct answer answer;
    int64_t result = loop_call(tree->loop, &request, &answer);
    *out_file = result < 0 ? SR_FILE_NONE : answer.file;
    return result < 0 ? (int)result : 0;
}

static int examine(struct tree *tree, sr_file file, struct answer *out_answer) {
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_STATX;
    request.file = file;
    request.path = "";
    request.op_flags = AT_EMPTY_PATH;
    request.mask = STATX_BASIC_STATS;
    return (int)loop_call(tree->loop, &request, out_answer);
}

static int check_identity(struct tree *tree, sr_file file, const struct identity *expected) {
    struct answer answer;
    int code = examine(tree, file, &answer);
    if (code < 0) {
        return code;
    }
    struct identity found = identity_of(&answer.statx);
    return identity_equal(&found, expected) ? 0 : -ESTALE;
}

/* Opens one of the two sides of a node again: it must be what it was. */
static int reopen_side(struct tree *tree, sr_file base, const char *path,
                       const struct identity *expected, sr_file *out_file) {
    int code = open_one(tree, base, path, O_NOFOLLOW, out_file);
    if (code == 0) {
        code = check_identity(tree, *out_file, expected);
    }
    return code;
}

static int reopen(struct tree *tree, struct directory *directory, struct directory *base,
                  const char *source_path, const char *target_path) {
    base->pins++; /* making room must not close the way there */
    make_room(tree);
    int code = reopen_side(tree, base->source, source_path, &directory->source_identity,
                           &directory->source);
    if (code == 0 && !tree->counting) {
        code = reopen_side(tree, base->target, target_path, &directory->target_identity,
                           &directory->target);
    }
    base->pins--;
    if (code < 0) {
        close_pair(tree, directory);
        return code;
    }
    mark_open(tree, directory);
    return 0;
}

int directory_pin(struct tree *tree, struct directory *directory) {
    while (!directory->open) {
        struct directory *next = directory;
        while (!next->parent->open) {
            next = next->parent; /* ends at the outermost node, which is always pinned */
        }
        int code = reopen(tree, next, next->parent, next->name,
                          directory_target_name(tree, next->parent, next->name));
        if (code < 0) {
            return code;
        }
    }
    unlist(tree, directory);
    list_newest(tree, directory);
    directory->pins++;
    return 0;
}

void directory_unpin(struct directory *directory) {
    directory->pins--;
}

void directory_open_parent(struct tree *tree, struct directory *directory) {
    if (directory->open && !directory->parent->open) {
        (void)reopen(tree, directory->parent, directory, "..", ".."); /* there is a longer way */
    }
}

/* ---- entering -------------------------------------------------------------------------------- */

static int fail(struct failure *out_failure, const char *what, int code) {
    *out_failure = (struct failure){what, code};
    return -1;
}

static int make_target(struct tree *tree, struct directory *directory, const char *name) {
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_MKDIRAT;
    request.file = directory->parent->target;
    request.path = name;
    request.mode = 0700; /* ours alone until the contents are complete */
    int code = (int)loop_call(tree->loop, &request, NULL);
    return code == -EEXIST ? 0 : code;
}

/* A directory that was there before may be read-only: that ends when its attributes are copied. */
static void make_writable(struct tree *tree, const struct directory *directory,
                          const struct statx *stat) {
    int fd;
    if ((stat->stx_mode & 0700u) != 0700u && stat->stx_uid == geteuid() &&
        sr_file_fd(tree->loop->ring, directory->target, &fd) == 0) {
        /* If it cannot be, each file in it fails and says so. */
        (void)fchmod(fd, (stat->stx_mode & 07777u) | 0700u);
    }
}

static int enter_source(struct tree *tree, struct directory *directory,
                        struct failure *out_failure) {
    int code =
        open_one(tree, directory->parent->source, directory->name, O_NOFOLLOW, &directory->source);
    if (code < 0) {
        return fail(out_failure, "cannot open the directory", code);
    }
    struct answer answer;
    code = examine(tree, directory->source, &answer);
    if (code < 0) {
        return fail(out_failure, "cannot examine the directory", code);
    }
    directory->stat = answer.statx;
    directory->source_identity = identity_of(&answer.statx);
    if (tree->target_root_known &&
        identity_equal(&directory->source_identity, &tree->target_root)) {
        return fail(out_failure, "is the destination itself: left out", 0);
    }
    return 0;
}

static int enter_target(struct tree *tree, struct directory *directory,
                        struct failure *out_failure) {
    const char *name = directory_target_name(tree, directory->parent, directory->name);
    int code = make_target(tree, directory, name);
    if (code < 0) {
        return fail(out_failure, "cannot make the directory's copy", code);
    }
    code = open_one(tree, directory->parent->target, name, O_NOFOLLOW, &directory->target);
    if (code < 0) {
        return fail(out_failure, "cannot open the directory's copy", code);
    }
    struct answer answer;
    code = examine(tree, directory->target, &answer);
    if (code < 0) {
        return fail(out_failure, "cannot examine the directory's copy", code);
    }
    directory->target_identity = identity_of(&answer.statx);
    make_writable(tree, directory, &answer.statx);
    if (directory->parent->parent == NULL) {
        tree->target_root = directory->target_identity;
        tree->target_root_known = true;
    }
    return 0;
}

static int read_entries(struct tree *tree, struct directory *directory,
                        struct failure *out_failure) {
    int fd;
    int code = sr_file_fd(tree->loop->ring, directory->source, &fd);
    if (code == 0) {
        code = listing_read(&directory->listing, fd);
    }
    return code < 0 ? fail(out_failure, "cannot read the directory", code) : 0;
}

static int enter_outermost(struct tree *tree, struct directory *directory,
                           struct failure *out_failure) {
    /* O_PATH: SRC may be reached through a directory that may be passed but not read. DST's
     * directory is read only to make it durable. */
    int code = open_one(tree, SR_FILE_NONE, tree->source_parent, O_PATH, &directory->source);
    if (code < 0) {
        return fail(out_failure, "cannot open the directory that it is in", code);
    }
    if (tree->counting) {
        return 0;
    }
    code = open_one(tree, SR_FILE_NONE, tree->target_parent, tree->durable ? 0 : O_PATH,
                    &directory->target);
    return code < 0 ? fail(out_failure, "cannot open the directory of the destination", code) : 0;
}

static int enter_inner(struct tree *tree, struct directory *directory,
                       struct failure *out_failure) {
    if (enter_source(tree, directory, out_failure) < 0) {
        return -1;
    }
    if (!tree->counting && enter_target(tree, directory, out_failure) < 0) {
        return -1;
    }
    return read_entries(tree, directory, out_failure);
}

int directory_enter(struct tree *tree, struct directory *directory, struct failure *out_failure) {
    make_room(tree);
    int code = directory->parent == NULL ? enter_outermost(tree, directory, out_failure)
                                         : enter_inner(tree, directory, out_failure);
    if (code < 0) {
        close_pair(tree, directory);
        return -1;
    }
    mark_open(tree, directory);
    return 0;
}
