/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "copy.h"

#include "attributes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/*
 * A job goes through these steps from first to last. `begin` starts the step's operation and
 * returns true, or returns false if the step is over already or does not apply. `end` looks at the
 * outcome; it returns false if it has started something more within the step. When a job has
 * failed, only the steps that clean up are taken.
 */
struct step {
    const char *what; /* to be said if the step's operation fails */
    bool (*begin)(struct job *job);
    bool (*end)(struct job *job, const sr_completion *completion);
    bool cleans_up;
    bool may_be_long; /* is cancelled on SIGINT; the others are quick and have a clear outcome */
};

static void job_run(struct job *job);
static void job_ended_operation(struct operation *operation, const sr_completion *completion);

/* ---- what the steps need --------------------------------------------------------------------- */

static void job_fail(struct job *job, const char *what, int code) {
    job->over = true;
    if (job->failure.what == NULL) { /* what follows the first failure is no news */
        job->failure = (struct failure){what, code};
    }
}

static sr_request *prepare(struct job *job, enum sr_opcode opcode) {
    job->operation.owner = job;
    job->operation.ended = job_ended_operation;
    return operation_prepare(&job->operation, opcode);
}

/* Always true: the step goes on when the operation ends. */
static bool submit(struct job *job) {
    loop_submit(job->copier->tree->loop, &job->operation);
    return true;
}

static const char *target_name(const struct job *job) {
    return directory_target_name(job->copier->tree, job->directory, job->name);
}

/* The descriptor behind @file for a plain system call, or -1 if there is none. */
static int borrow_fd(const struct job *job, sr_file file) {
    int fd = -1;
    return file.bits != 0 && sr_file_fd(job->copier->tree->loop->ring, file, &fd) == 0 ? fd : -1;
}

static struct place place_of(const struct job *job, sr_file file, sr_file directory,
                             const char *name) {
    return (struct place){borrow_fd(job, file), borrow_fd(job, directory), name};
}

static bool begin_close(struct job *job, sr_file *file) {
    if (file->bits == 0) {
        return false;
    }
    prepare(job, SR_OP_CLOSE)->file = *file;
    *file = SR_FILE_NONE;
    return submit(job);
}

/* ---- open and examine the source ------------------------------------------------------------- */

static bool begin_open(struct job *job) {
    if (job->type != DT_REG || job->copier->tree->counting) {
        return false;
    }
    sr_request *request = prepare(job, SR_OP_OPENAT);
    request->file = job->directory->source;
    request->path = job->name;
    /* O_NONBLOCK: should a FIFO have taken the name meanwhile, do not wait for its writer. */
    request->op_flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    return submit(job);
}

static bool end_open(struct job *job, const sr_completion *completion) {
    job->source = completion->file;
    return true;
}

static void prepare_statx(struct job *job) {
    sr_request *request = prepare(job, SR_OP_STATX);
    bool is_open = job->source.bits != 0;
    request->file = is_open ? job->source : job->directory->source;
    request->path = is_open ? "" : job->name;
    request->op_flags = is_open ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW;
    request->mask = STATX_BASIC_STATS;
}

static bool begin_examine(struct job *job) {
    prepare_statx(job);
    return submit(job);
}

static void count_for_progress(struct job *job) {
    struct progress *progress = job->copier->tree->progress;
    progress->entries_total++;
    progress->bytes_total += S_ISREG(job->stat.stx_mode) ? job->stat.stx_size : 0;
    job->over = true;
}

static bool end_examine(struct job *job, const sr_completion *completion) {
    job->stat = *completion->statx;
    if (job->copier->tree->counting) {
        count_for_progress(job);
    } else if (IFTODT(job->stat.stx_mode) != job->type) {
        job_fail(job, "was replaced by something else while it was looked at", 0);
    } else if (job->type == DT_SOCK) {
        job_fail(job, "is a socket, which only its program can make: left out", 0);
    }
    return true;
}

/* ---- hard links ------------------------------------------------------------------------------ */

static bool begin_link(struct job *job) {
    if (job->stat.stx_nlink < 2) {
        return false;
    }
    if (job->link == NULL) {
        job->link = links_use(&job->copier->links, &job->stat);
    }
    struct link *link = job->link;
    if (link == NULL) {
        job_fail(job, "cannot keep track of its hard links", -ENOMEM);
        return false;
    }
    if (link->directory == NULL && link->copying == NULL) {
        link->copying = job; /* the first one: make the copy that others will link to */
        return false;
    }
    struct job **list = link->directory != NULL ? &job->copier->ready_to_link : &link->waiting;
    job->next = *list;
    *list = job;
    return true;
}

static void submit_link(struct job *job) {
    name_temporary(job->temporary);
    sr_request *request = prepare(job, SR_OP_LINKAT);
    request->file = job->link->directory->target;
    request->path = job->link->name;
    request->new_dir = job->directory->target;
    request->new_path = job->temporary;
    (void)submit(job);
}

bool copier_link_next(struct copier *copier) {
    struct job *job = copier->ready_to_link;
    if (job == NULL) {
        return false;
    }
    copier->ready_to_link = job->next;
    int code = loop_stopped() != 0 ? -ECANCELED : directory_pin(copier->tree, job->link->directory);
    if (code < 0) {
        job_fail(job, "cannot open the directory of its first copy again", code);
        job_run(job);
        return true;
    }
    submit_link(job);
    return true;
}

/* Links are impossible there: a file system without them, too many, or another file system. */
static bool link_is_impossible(int64_t code) {
    return code == -EPERM || code == -EMLINK || code == -EOPNOTSUPP || code == -EXDEV;
}

static bool end_link(struct job *job, const sr_completion *completion) {
    if (completion->result == -EEXIST) {
        submit_link(job); /* under another temporary name */
        return false;
    }
    directory_unpin(job->link->directory);
    if (completion->result >= 0) {
        job->linked = true;
        job->temporary_exists = true;
    } else if (!link_is_impossible(completion->result)) {
        job_fail(job, "cannot make the hard link", (int)completion->result);
    }
    return true; /* not linked and not failed: the next steps make a copy of its own */
}

/* Wakes those who wait for the first copy: they link to it, or one of them is the next to try. */
static void settle_link(struct job *job) {
    struct link *link = job->link;
    if (link->copying == job) {
        link->copying = NULL;
        /* Without memory for the name the next one makes a copy of its own. */
        (void)(job->completed ? links_publish(link, job->directory, target_name(job)) : 0);
        struct job *waiting = link->waiting;
        link->waiting = NULL;
        while (waiting != NULL) {
            struct job *next = waiting->next;
            waiting->step--; /* takes this step once more */
            job_run(waiting);
            waiting = next;
        }
    }
    links_release(&job->copier->links, job->copier->tree, link);
    job->link = NULL;
}

/* ---- make the copy, under a temporary name ----------------------------------------------------
 */

static bool create_file(struct job *job) {
    sr_request *request = prepare(job, SR_OP_OPENAT);
    request->file = job->directory->target;
    request->path = job->temporary;
    request->op_flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    request->mode = 0600; /* ours alone until it is complete */
    return submit(job);
}

static bool create_symbolic_link(struct job *job) {
    int fd = borrow_fd(job, job->directory->source);
    ssize_t length = readlinkat(fd, job->name, job->link_text, sizeof(job->link_text) - 1);
    if (length < 0) {
        job_fail(job, "cannot read the link", -errno);
        return false;
    }
    job->link_text[length] = '\0';
    sr_request *request = prepare(job, SR_OP_SYMLINKAT);
    request->path = job->link_text;
    request->new_dir = job->directory->target;
    request->new_path = job->temporary;
    return submit(job);
}

/* A FIFO or a device node: the ring has no operation for them. */
static bool create_node(struct job *job) {
    dev_t device = makedev(job->stat.stx_rdev_major, job->stat.stx_rdev_minor);
    mode_t mode = (job->stat.stx_mode & S_IFMT) | 0600;
    int fd = borrow_fd(job, job->directory->target);
    if (mknodat(fd, job->temporary, mode, device) == 0) {
        job->temporary_exists = true;
    } else {
        job_fail(job, S_ISFIFO(mode) ? "cannot make the FIFO" : "cannot make the device node",
                 -errno);
    }
    return false;
}

static bool begin_create(struct job *job) {
    if (job->linked) {
        return false;
    }
    name_temporary(job->temporary);
    switch (job->type) {
    case DT_REG:
        return create_file(job);
    case DT_LNK:
        return create_symbolic_link(job);
    default:
        return create_node(job);
    }
}

static bool end_create(struct job *job, const sr_completion *completion) {
    if (completion->result == -EEXIST) {
        return !begin_create(job); /* under another temporary name */
    }
    if (completion->result < 0) {
        job_fail(job, "cannot create the copy", (int)completion->result);
        return true;
    }
    job->temporary_exists = true;
    if (job->type == DT_REG) {
        job->target = completion->file;
    }
    return true;
}

/* ---- contents -------------------------------------------------------------------------------- */

static bool begin_resize(struct job *job) {
    if (job->target.bits == 0 || !transfer_is_sparse(&job->stat)) {
        return false;
    }
    sr_request *request = prepare(job, SR_OP_FTRUNCATE);
    request->file = job->target;
    request->length = job->stat.stx_size; /* holes are what is not written afterwards */
    return submit(job);
}

static void transfer_ended(struct transfer *transfer, const struct failure *failure, void *ctx) {
    (void)transfer;
    struct job *job = ctx;
    if (failure->what != NULL) {
        job_fail(job, failure->what, failure->code);
    }
    job_run(job);
}

static bool begin_transfer(struct job *job) {
    if (job->target.bits == 0) {
        return false;
    }
    transfer_start(&job->transfer, &job->copier->transfers, job->source, job->target, &job->stat,
                   transfer_ended, job);
    return true;
}

static bool begin_examine_again(struct job *job) {
    if (job->target.bits == 0) {
        return false;
    }
    prepare_statx(job);
    return submit(job);
}

static bool end_examine_again(struct job *job, const sr_completion *completion) {
    const struct statx *now = completion->statx;
    const struct statx *then = &job->stat;
    if (now->stx_size != then->stx_size || now->stx_mtime.tv_sec != then->stx_mtime.tv_sec ||
        now->stx_mtime.tv_nsec != then->stx_mtime.tv_nsec) {
        job_fail(job, "changed while it was copied: left out", 0);
    }
    return true;
}

/* ---- finish the copy ------------------------------------------------------------------------- */

static bool begin_attributes(struct job *job) {
    if (job->linked) {
        return false; /* the inode has them already */
    }
    struct place from = place_of(job, job->source, job->directory->source, job->name);
    struct place to = place_of(job, job->target, job->directory->target, job->temporary);
    struct failure failure;
    if (attributes_copy(&from, &to, &job->stat, &failure) < 0) {
        job_fail(job, failure.what, failure.code);
    }
    return false;
}

static bool begin_sync(struct job *job) {
    if (job->target.bits == 0 || !job->copier->tree->durable) {
        return false;
    }
    prepare(job, SR_OP_FSYNC)->file = job->target;
    return submit(job);
}

static bool begin_close_target(struct job *job) {
    return begin_close(job, &job->target);
}

static bool begin_rename(struct job *job) {
    sr_request *request = prepare(job, SR_OP_RENAMEAT);
    request->file = job->directory->target;
    request->path = job->temporary;
    request->new_dir = job->directory->target;
    request->new_path = target_name(job);
    return submit(job);
}

static bool end_rename(struct job *job, const sr_completion *completion) {
    (void)completion;
    job->completed = true;
    /* rename(2) of a link over another link to the same inode does nothing and leaves both. */
    job->temporary_exists = job->linked;
    return true;
}

/* ---- clean up -------------------------------------------------------------------------------- */

static bool begin_remove(struct job *job) {
    if (!job->temporary_exists) {
        return false;
    }
    sr_request *request = prepare(job, SR_OP_UNLINKAT);
    request->file = job->directory->target;
    request->path = job->temporary;
    return submit(job);
}

static bool end_remove(struct job *job, const sr_completion *completion) {
    if (completion->result < 0 && completion->result != -ENOENT) {
        /* What is left behind matters more than why, so this takes the place of the first failure,
         * and is told even if that was only an interruption. */
        job->failure = (struct failure){NULL, 0};
        job_fail(job, "cannot remove its temporary copy", (int)completion->result);
    }
    return true;
}

static bool begin_close_source(struct job *job) {
    return begin_close(job, &job->source);
}

static bool end_close_source(struct job *job, const sr_completion *completion) {
    (void)job;
    (void)completion; /* it was only read */
    return true;
}

/* ---- the machine ----------------------------------------------------------------------------- */

/* Steps with an `end` of NULL only want to know whether the operation failed. Steps with a `what`
 * of NULL look at failures themselves. */
static const struct step steps[] = {
    {"cannot open", begin_open, end_open, false, false},
    {"cannot examine", begin_examine, end_examine, false, false},
    {NULL, begin_link, end_link, false, false},
    {NULL, begin_create, end_create, false, false},
    {"cannot set the size of the copy", begin_resize, NULL, false, false},
    {NULL, begin_transfer, NULL, false, false},
    {"cannot examine again", begin_examine_again, end_examine_again, false, false},
    {NULL, begin_attributes, NULL, false, false},
    {"cannot write the copy to the disk", begin_sync, NULL, false, true},
    {"cannot close the copy", begin_close_target, NULL, true, false},
    {"cannot give the copy its name", begin_rename, end_rename, false, false},
    {NULL, begin_remove, end_remove, true, false},
    {NULL, begin_close_source, end_close_source, true, false},
};

#define STEP_COUNT ((int)(sizeof(steps) / sizeof(steps[0])))

/* Returns false if the step goes on. */
static bool end_step(struct job *job, const sr_completion *completion) {
    const struct step *step = &steps[job->step];
    if (step->what != NULL && completion->result < 0) {
        job_fail(job, step->what, (int)completion->result);
        return true;
    }
    return step->end == NULL || step->end(job, completion);
}

static void job_ended_operation(struct operation *operation, const sr_completion *completion) {
    struct job *job = operation->owner;
    if (end_step(job, completion)) {
        job_run(job);
    }
}

static void count_completed(const struct job *job, struct progress *progress) {
    if (job->type == DT_LNK || job->linked) {
        progress->links++;
    } else {
        progress->files++;
    }
}

/* Only what was interrupted gets no line of its own. */
static void report(const struct job *job, struct progress *progress) {
    int code = job->failure.code;
    if (loop_stopped() != 0 && (code == -ECANCELED || code == -EINTR)) {
        progress->interrupted++;
        return;
    }
    char *path = directory_path(job->copier->tree, job->directory, job->name);
    progress_fail(progress, path, &job->failure);
    free(path);
}

static void settle_progress(const struct job *job) {
    struct tree *tree = job->copier->tree;
    if (tree->counting) {
        return;
    }
    tree->progress->entries++;
    if (S_ISREG(job->stat.stx_mode)) {
        tree->progress->settled += job->stat.stx_size - job->transfer.settled;
    }
    if (job->completed) {
        count_completed(job, tree->progress);
    }
    if (job->failure.what != NULL) {
        report(job, tree->progress);
    }
}

static void job_end(struct job *job) {
    struct copier *copier = job->copier;
    settle_progress(job);
    if (job->link != NULL) {
        settle_link(job);
    }
    directory_unpin(job->directory);
    directory_entry_ended(copier->tree, job->directory);
    job->in_use = false;
    job->next = copier->free_jobs;
    copier->free_jobs = job;
    copier->active--;
}

/* Takes the steps that follow the one it is in, up to the next that has to wait. */
static void job_run(struct job *job) {
    while (++job->step < STEP_COUNT) {
        const struct step *step = &steps[job->step];
        if (loop_stopped() != 0 && !job->over && !job->copier->tree->counting) {
            job_fail(job, "interrupted", -ECANCELED);
        }
        if ((!job->over || step->cleans_up) && step->begin(job)) {
            return;
        }
    }
    job_end(job);
}

int copier_init(struct copier *copier, struct tree *tree, unsigned jobs_max) {
    *copier = (struct copier){.tree = tree, .jobs_max = jobs_max};
    transfers_init(&copier->transfers, tree->loop, tree->progress);
    copier->jobs = calloc(jobs_max, sizeof(*copier->jobs));
    if (copier->jobs == NULL) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < jobs_max; i++) {
        copier->jobs[i].next = copier->free_jobs;
        copier->free_jobs = &copier->jobs[i];
    }
    return 0;
}

void copier_deinit(struct copier *copier) {
    links_deinit(&copier->links, copier->tree);
    directory_bury(copier->tree);
    free(copier->jobs);
    copier->jobs = NULL;
}

bool copier_has_room(const struct copier *copier) {
    return copier->free_jobs != NULL;
}

void copier_start(struct copier *copier, struct directory *directory, const char *name,
                  unsigned char type) {
    struct job *job = copier->free_jobs;
    copier->free_jobs = job->next;
    copier->active++;
    directory->unfinished++;
    *job = (struct job){
        .copier = copier,
        .step = -1,
        .in_use = true,
        .directory = directory,
        .name = name,
        .type = type,
    };
    job_run(job);
}

void copier_stop(struct copier *copier) {
    for (unsigned i = 0; i < copier->jobs_max; i++) {
        struct job *job = &copier->jobs[i];
        if (!job->in_use || job->step < 0) {
            continue;
        }
        if (steps[job->step].may_be_long) {
            loop_cancel(copier->tree->loop, &job->operation);
        } else if (steps[job->step].begin == begin_transfer) {
            transfer_cancel(&job->transfer);
        }
    }
}
