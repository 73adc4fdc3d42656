/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "walk.h"

#include "attributes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

struct walk {
    struct tree *tree;
    struct copier *copier;
    struct directory *current; /* whose entries are being started; NULL: all are */
    struct directory *outermost;
    bool outermost_finished;
    bool stopping; /* a signal has come and been passed on */
};

static void fail_entry(const struct walk *walk, const struct directory *directory, const char *name,
                       const struct failure *failure) {
    if (walk->tree->counting) {
        return; /* the copying itself will meet it again */
    }
    char *path = directory_path(walk->tree, directory, name);
    progress_fail(walk->tree->progress, path, failure);
    free(path);
}

/* ---- starting entries ------------------------------------------------------------------------ */

/* Some file systems do not tell types in their directories. */
static unsigned char ask_type(struct walk *walk, const char *name) {
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_STATX;
    request.file = walk->current->source;
    request.path = name;
    request.op_flags = AT_SYMLINK_NOFOLLOW;
    request.mask = STATX_TYPE;
    struct answer answer;
    int code = (int)loop_call(walk->tree->loop, &request, &answer);
    if (code < 0) {
        fail_entry(walk, walk->current, name, &(struct failure){"cannot examine", code});
        return DT_UNKNOWN;
    }
    return (unsigned char)IFTODT(answer.statx.stx_mode);
}

static void enter(struct walk *walk, const char *name) {
    struct directory *child = directory_create(walk->current, name);
    if (child == NULL) {
        fail_entry(walk, walk->current, name,
                   &(struct failure){"cannot enter the directory", -ENOMEM});
        return;
    }
    struct failure failure;
    if (directory_enter(walk->tree, child, &failure) < 0) {
        fail_entry(walk, walk->current, name, &failure);
        directory_unreference(walk->tree, child);
        return;
    }
    walk->current->unfinished++;
    walk->current = child;
    walk->tree->progress->entries_total += walk->tree->counting ? 1 : 0;
}

/* All entries of the current directory have been started: go on with its parent's. */
static void leave(struct walk *walk) {
    struct directory *directory = walk->current;
    if (directory->parent != NULL) {
        directory_open_parent(walk->tree, directory);
    }
    walk->current = directory->parent;
    directory_entry_ended(walk->tree, directory);
}

static void give_up(struct walk *walk, int code) {
    fail_entry(walk, walk->current, NULL,
               &(struct failure){"cannot open the directory again", code});
    walk->current->listing.next = walk->current->listing.used;
}

static void start_entry(struct walk *walk, const char *name, unsigned char type) {
    if (type == DT_UNKNOWN) {
        type = ask_type(walk, name);
    }
    if (type == DT_DIR) {
        enter(walk, name);
    } else if (type != DT_UNKNOWN) {
        walk->current->pins++; /* the job's */
        copier_start(walk->copier, walk->current, name, type);
    }
}

static void start_next_entry(struct walk *walk) {
    struct directory *directory = walk->current;
    int code = directory_pin(walk->tree, directory);
    if (code < 0) {
        give_up(walk, code);
        return;
    }
    unsigned char type;
    const char *name = listing_next(&directory->listing, &type);
    if (name != NULL) {
        start_entry(walk, name, type);
    } else {
        leave(walk);
    }
    directory_unpin(directory);
}

/* ---- finishing directories ------------------------------------------------------------------- */

static int sync_target(struct walk *walk, const struct directory *directory,
                       struct failure *out_failure) {
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_FSYNC;
    request.file = directory->target;
    int64_t code = walk->tree->durable ? loop_call(walk->tree->loop, &request, NULL) : 0;
    if (code < 0) {
        *out_failure = (struct failure){"cannot write the directory to the disk", (int)code};
        return -1;
    }
    return 0;
}

static int copy_attributes(struct walk *walk, const struct directory *directory,
                           struct failure *out_failure) {
    if (directory->parent == NULL) {
        return 0; /* where SRC and DST are: not ours */
    }
    struct place from = {.fd = -1};
    struct place to = {.fd = -1};
    int code = sr_file_fd(walk->tree->loop->ring, directory->source, &from.fd);
    if (code == 0) {
        code = sr_file_fd(walk->tree->loop->ring, directory->target, &to.fd);
    }
    if (code < 0) {
        *out_failure = (struct failure){"cannot set the attributes of the directory", code};
        return -1;
    }
    return attributes_copy(&from, &to, &directory->stat, out_failure);
}

static int complete(struct walk *walk, struct directory *directory, struct failure *out_failure) {
    int code = directory_pin(walk->tree, directory);
    if (code < 0) {
        *out_failure = (struct failure){"cannot open the directory again", code};
        return -1;
    }
    int result = copy_attributes(walk, directory, out_failure);
    if (result == 0) {
        result = sync_target(walk, directory, out_failure);
    }
    if (directory->parent != NULL) {
        directory_open_parent(walk->tree, directory); /* it is finished next, as a rule */
    }
    directory_unpin(directory);
    return result;
}

static void finish(struct walk *walk, struct directory *directory) {
    struct tree *tree = walk->tree;
    struct failure failure;
    if (tree->counting) {
        /* nothing was made */
    } else if (complete(walk, directory, &failure) < 0) {
        fail_entry(walk, directory, NULL, &failure);
    } else if (directory->parent != NULL) {
        tree->progress->directories++;
        tree->progress->entries++;
    }
    if (directory->parent != NULL) {
        directory_entry_ended(tree, directory->parent);
        directory_unreference(tree, directory);
    } else {
        walk->outermost_finished = true;
    }
}

static bool finish_next(struct walk *walk) {
    struct directory *directory = walk->tree->finished;
    if (directory == NULL) {
        return false;
    }
    walk->tree->finished = directory->next;
    finish(walk, directory);
    return true;
}

/* ---- the loop -------------------------------------------------------------------------------- */

/* No more entries are started; those in flight are cancelled; what is complete stays. */
static void stop(struct walk *walk) {
    walk->stopping = true;
    for (struct directory *node = walk->current; node != NULL; node = node->parent) {
        node->listing.next = node->listing.used;
    }
    copier_stop(walk->copier);
}

static void run(struct walk *walk) {
    while (!walk->outermost_finished) {
        if (loop_stopped() != 0 && !walk->stopping) {
            stop(walk);
        }
        directory_bury(walk->tree);
        if (!finish_next(walk) && !copier_link_next(walk->copier)) {
            if (walk->current != NULL && copier_has_room(walk->copier)) {
                start_next_entry(walk);
            } else {
                loop_wait(walk->tree->loop);
            }
        }
        progress_tick(walk->tree->progress);
    }
}

static struct directory *enter_outermost(struct tree *tree, const char *name, unsigned char type,
                                         struct failure *out_failure) {
    struct directory *outermost = directory_create(NULL, "");
    if (outermost == NULL || listing_add(&outermost->listing, type, name) < 0) {
        *out_failure = (struct failure){"cannot start", -ENOMEM};
    } else if (directory_enter(tree, outermost, out_failure) == 0) {
        outermost->pins++; /* for good: from here every other one can be opened again */
        return outermost;
    }
    directory_unreference(tree, outermost);
    return NULL;
}

int walk_tree(struct tree *tree, struct copier *copier, const char *name, bool is_directory,
              struct failure *out_failure) {
    /* What else it may be is told by statx(). */
    unsigned char type = is_directory ? DT_DIR : DT_UNKNOWN;
    struct walk walk = {.tree = tree, .copier = copier};
    walk.outermost = enter_outermost(tree, name, type, out_failure);
    if (walk.outermost == NULL) {
        return -1;
    }
    walk.current = walk.outermost;
    run(&walk);
    directory_unpin(walk.outermost);
    directory_unreference(tree, walk.outermost);
    directory_bury(tree);
    return 0;
}
