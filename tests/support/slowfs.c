/* SPDX-License-Identifier: MIT */
#define FUSE_USE_VERSION 312
#include "support/slowfs.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Inode numbers: 1 is the root, then the files. */
#define INODE_FIRST 2u
/* More requests than any test has waiting at a gate. */
#define SERVER_THREADS 40u

static void sleep_ms(uint32_t ms) {
    if (ms == 0) {
        return;
    }
    struct timespec left = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

/* ---- server --------------------------------------------------------------------------------- */

static struct slowfs_file *file_of(fuse_req_t request, fuse_ino_t inode) {
    struct slowfs *fs = fuse_req_userdata(request);
    return inode >= INODE_FIRST && inode < INODE_FIRST + SLOWFS_FILES
               ? &fs->files[inode - INODE_FIRST]
               : NULL;
}

static struct stat stat_of(fuse_req_t request, fuse_ino_t inode) {
    const struct slowfs_file *file = file_of(request, inode);
    struct stat status = {.st_ino = inode, .st_nlink = 1, .st_blksize = 4096};
    status.st_mode = file != NULL ? S_IFREG | 0666 : S_IFDIR | 0777;
    status.st_size = file != NULL ? (off_t)file->size_bytes : 0;
    return status;
}

static void serve_init(void *ctx, struct fuse_conn_info *connection) {
    const struct slowfs *fs = ctx;
    if ((fs->flags & SLOWFS_SYNC) != 0) {
        connection->want &= ~(unsigned int)FUSE_CAP_ASYNC_DIO;
    }
}

static void serve_lookup(fuse_req_t request, fuse_ino_t parent, const char *name) {
    unsigned int index = 0;
    char rest = 0;
    if (parent != FUSE_ROOT_ID || sscanf(name, "file%u%c", &index, &rest) != 1 ||
        index >= SLOWFS_FILES) {
        (void)fuse_reply_err(request, ENOENT);
        return;
    }
    struct fuse_entry_param entry = {.ino = INODE_FIRST + index, .entry_timeout = 60.0};
    entry.attr = stat_of(request, entry.ino);
    (void)fuse_reply_entry(request, &entry);
}

/*
 * Waits at a gate, counted. A test that failed never opens its gate, and cannot even die before its
 * requests are answered (a kernel worker of its ring waits for them), so nothing tells the server
 * that it has gone: no gate stays closed for ever.
 */
static void pass_gate(fuse_req_t request, const _Atomic uint32_t *closed, uint32_t delay_ms,
                      _Atomic uint32_t *waiting_count) {
    const struct slowfs *fs = fuse_req_userdata(request);
    (*waiting_count)++;
    sleep_ms(delay_ms);
    for (uint32_t ms = 0; *closed && ms < SLOWFS_GATE_MS_MAX && getppid() == fs->test; ms++) {
        sleep_ms(1);
    }
    (*waiting_count)--;
}

static void pass_other_gate(fuse_req_t request) {
    struct slowfs *fs = fuse_req_userdata(request);
    pass_gate(request, &fs->other_gate_closed, 0, &fs->other_count);
}

static void serve_getattr(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *info) {
    (void)info;
    pass_other_gate(request);
    const struct stat status = stat_of(request, inode);
    (void)fuse_reply_attr(request, &status, 0.0);
}

static void serve_setattr(fuse_req_t request, fuse_ino_t inode, struct stat *wanted, int which,
                          struct fuse_file_info *info) {
    struct slowfs_file *file = file_of(request, inode);
    if (file != NULL && (which & FUSE_SET_ATTR_SIZE) != 0) {
        if (wanted->st_size > (off_t)SLOWFS_FILE_BYTES_MAX) {
            (void)fuse_reply_err(request, EFBIG);
            return;
        }
        file->size_bytes = (uint64_t)wanted->st_size;
    }
    serve_getattr(request, inode, info);
}

/* Delay and gate of reads and writes. */
static void loiter(fuse_req_t request, struct slowfs_file *file) {
    pass_gate(request, &file->gate_closed, file->delay_ms, &file->waiting_count);
}

static void serve_open(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *info) {
    struct slowfs_file *file = file_of(request, inode);
    if (file == NULL) {
        (void)fuse_reply_err(request, EISDIR);
        return;
    }
    pass_gate(request, &file->open_gate_closed, 0, &file->opening_count);
    info->direct_io = 1;
    (void)fuse_reply_open(request, info);
}

/* Bytes of a request that are served: not beyond @end, and of one answer no more than @answer_max.
 */
static size_t cut(size_t size, uint64_t offset, uint64_t end, uint32_t answer_max) {
    if (offset + size > end) {
        size = offset < end ? (size_t)(end - offset) : 0;
    }
    return answer_max != 0 && size > answer_max ? answer_max : size;
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static void serve_read(fuse_req_t request, fuse_ino_t inode, size_t size, off_t offset,
                       struct fuse_file_info *info) {
    struct slowfs_file *file = file_of(request, inode);
    const uint64_t at = (uint64_t)offset;
    (void)info;
    loiter(request, file);
    file->read_count++;
    if (at >= file->read_error_at) {
        (void)fuse_reply_err(request, EIO);
        return;
    }
    const size_t length =
        cut(size, at, least(file->size_bytes, file->read_error_at), file->read_max);
    (void)fuse_reply_buf(request, (const char *)file->bytes + (length > 0 ? at : 0), length);
}

static void serve_write(fuse_req_t request, fuse_ino_t inode, const char *bytes, size_t size,
                        off_t offset, struct fuse_file_info *info) {
    struct slowfs_file *file = file_of(request, inode);
    const uint64_t at = (uint64_t)offset;
    (void)info;
    loiter(request, file);
    file->write_count++;
    if (at >= file->write_error_at) {
        (void)fuse_reply_err(request, EIO);
        return;
    }
    if (at >= SLOWFS_FILE_BYTES_MAX) {
        (void)fuse_reply_err(request, ENOSPC);
        return;
    }
    const size_t length =
        cut(size, at, least(SLOWFS_FILE_BYTES_MAX, file->write_error_at), file->write_max);
    memcpy(file->bytes + at, bytes, length);
    if (at + length > file->size_bytes) {
        file->size_bytes = at + length;
    }
    (void)fuse_reply_write(request, length);
}

/* close(2) of a descriptor; the number is free already while this waits. */
static void serve_flush(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *info) {
    struct slowfs_file *file = file_of(request, inode);
    (void)info;
    pass_gate(request, &file->flush_gate_closed, 0, &file->flushing_count);
    file->flush_count++;
    (void)fuse_reply_err(request, 0);
}

static void serve_fsync(fuse_req_t request, fuse_ino_t inode, int data_only,
                        struct fuse_file_info *info) {
    (void)inode;
    (void)data_only;
    (void)info;
    pass_other_gate(request);
    (void)fuse_reply_err(request, 0);
}

static void serve_fallocate(fuse_req_t request, fuse_ino_t inode, int mode, off_t offset,
                            off_t length, struct fuse_file_info *info) {
    struct slowfs_file *file = file_of(request, inode);
    const uint64_t end = (uint64_t)(offset + length);
    (void)info;
    pass_other_gate(request);
    if (mode != 0 || end > SLOWFS_FILE_BYTES_MAX) {
        (void)fuse_reply_err(request, mode != 0 ? EOPNOTSUPP : ENOSPC);
        return;
    }
    file->size_bytes = end > file->size_bytes ? end : file->size_bytes;
    (void)fuse_reply_err(request, 0);
}

static void refuse_change(fuse_req_t request) {
    pass_other_gate(request);
    (void)fuse_reply_err(request, EROFS);
}

static void serve_mkdir(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode) {
    (void)parent;
    (void)name;
    (void)mode;
    refuse_change(request);
}

static void serve_unlink(fuse_req_t request, fuse_ino_t parent, const char *name) {
    (void)parent;
    (void)name;
    refuse_change(request);
}

static void serve_symlink(fuse_req_t request, const char *target, fuse_ino_t parent,
                          const char *name) {
    (void)target;
    (void)parent;
    (void)name;
    refuse_change(request);
}

static void serve_rename(fuse_req_t request, fuse_ino_t parent, const char *name,
                         fuse_ino_t new_parent, const char *new_name, unsigned int flags) {
    (void)parent;
    (void)name;
    (void)new_parent;
    (void)new_name;
    (void)flags;
    refuse_change(request);
}

static void serve_link(fuse_req_t request, fuse_ino_t inode, fuse_ino_t new_parent,
                       const char *new_name) {
    (void)inode;
    (void)new_parent;
    (void)new_name;
    refuse_change(request);
}

static const struct fuse_lowlevel_ops operations = {
    .init = serve_init,
    .lookup = serve_lookup,
    .getattr = serve_getattr,
    .setattr = serve_setattr,
    .open = serve_open,
    .read = serve_read,
    .write = serve_write,
    .flush = serve_flush,
    .fsync = serve_fsync,
    .fallocate = serve_fallocate,
    .mkdir = serve_mkdir,
    .unlink = serve_unlink,
    .rename = serve_rename,
    .link = serve_link,
    .symlink = serve_symlink,
};

static int serve_until_told(struct fuse_session *session) {
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    if (config == NULL) {
        return 1;
    }
    fuse_loop_cfg_set_max_threads(config, SERVER_THREADS);
    fuse_loop_cfg_set_idle_threads(config, SERVER_THREADS);
    const int code = fuse_session_loop_mt(session, config);
    fuse_loop_cfg_destroy(config);
    return code;
}

/* The child: mounts, says so by one byte, serves until SIGTERM. */
static _Noreturn void server_main(struct slowfs *fs, int ready_fd) {
    char *words[] = {(char *)"slowfs", (char *)"-o", (char *)"fsname=slowfs", NULL};
    struct fuse_args arguments = FUSE_ARGS_INIT(3, words);
    int code = 1;
    /* When the test dies, however it does: unmount and go. */
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != fs->test) {
        _exit(1);
    }
    struct fuse_session *session = fuse_session_new(&arguments, &operations, sizeof operations, fs);
    if (session == NULL || fuse_set_signal_handlers(session) != 0) {
        _exit(1);
    }
    if (fuse_session_mount(session, fs->directory) == 0) {
        if (write(ready_fd, "r", 1) == 1) {
            (void)close(ready_fd);
            code = serve_until_told(session);
        }
        fuse_session_unmount(session);
    }
    (void)rmdir(fs->directory);
    _exit(code == 0 ? 0 : 1); /* not exit(): what the parent registered is the parent's */
}

/* ---- test ----------------------------------------------------------------------------------- */

void slowfs_reset(struct slowfs *fs, uint32_t index) {
    struct slowfs_file *file = &fs->files[index];
    file->size_bytes = SLOWFS_FILE_BYTES_MAX;
    file->read_error_at = SLOWFS_NEVER;
    file->write_error_at = SLOWFS_NEVER;
    file->read_max = 0;
    file->write_max = 0;
    file->delay_ms = 0;
    file->gate_closed = 0;
    file->open_gate_closed = 0;
    file->flush_gate_closed = 0;
    file->read_count = 0;
    file->write_count = 0;
    file->flush_count = 0;
    for (uint32_t offset = 0; offset < SLOWFS_FILE_BYTES_MAX; offset++) {
        file->bytes[offset] = slowfs_byte(index, offset);
    }
}

static void close_all_but(int keep_fd) {
    /* A ring that the test has must not live on in the server. */
    (void)close_range(3, (unsigned int)keep_fd - 1, 0);
    (void)close_range((unsigned int)keep_fd + 1, ~0u, 0);
}

static bool start_server(struct slowfs *fs) {
    int ready[2];
    char byte = 0;
    if (pipe2(ready, O_CLOEXEC) != 0) {
        return false;
    }
    /* Not straight into fs, which the child shares: its 0 would race with our pid. */
    const pid_t server = fork();
    if (server == 0) {
        close_all_but(ready[1]);
        server_main(fs, ready[1]);
    }
    fs->server = server; /* not before: the memory is shared with the child */
    (void)close(ready[1]);
    ssize_t got = 0;
    do {
        got = server > 0 ? read(ready[0], &byte, 1) : 0;
    } while (got < 0 && errno == EINTR);
    (void)close(ready[0]);
    return got == 1;
}

const char *slowfs_start(struct slowfs **out_fs, uint32_t flags) {
    *out_fs = NULL;
    if (access("/dev/fuse", R_OK | W_OK) != 0) {
        return "no access to /dev/fuse";
    }
    struct slowfs *fs =
        mmap(NULL, sizeof *fs, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fs == MAP_FAILED) {
        return "no shared memory for the slow file system";
    }
    fs->flags = flags;
    fs->test = getpid();
    for (uint32_t index = 0; index < SLOWFS_FILES; index++) {
        slowfs_reset(fs, index);
    }
    (void)strcpy(fs->directory, "/tmp/safering-slowfs-XXXXXX");
    if (mkdtemp(fs->directory) == NULL) {
        (void)munmap(fs, sizeof *fs);
        return "no directory under /tmp to mount the slow file system on";
    }
    if (!start_server(fs)) {
        (void)rmdir(fs->directory); /* the server did, if it got so far */
        slowfs_stop(&fs);
        return "mounting a FUSE file system is not permitted here";
    }
    *out_fs = fs;
    return NULL;
}

int slowfs_open(const struct slowfs *fs, uint32_t index, int flags) {
    char path[96];
    (void)snprintf(path, sizeof path, "%s/file%u", fs->directory, index);
    /* Without O_DIRECT older kernels would run a transfer inside of the call that sends it, and
     * wait for the server there (tests/kernel/test_fuse_in_line.c). */
    const int direct = (fs->flags & (SLOWFS_SYNC | SLOWFS_AS_IT_IS)) != 0 ? 0 : O_DIRECT;
    const int fd = open(path, flags | direct | O_CLOEXEC);
    if (fd < 0) {
        perror(path);
        abort();
    }
    return fd;
}

static int wait_for(const _Atomic uint32_t *counter, uint32_t count, uint32_t timeout_ms) {
    for (uint32_t waited = 0; *counter != count; waited++) {
        if (waited == timeout_ms) {
            return 0;
        }
        sleep_ms(1);
    }
    return 1;
}

int slowfs_wait(const struct slowfs *fs, uint32_t index, uint32_t count, uint32_t timeout_ms) {
    return wait_for(&fs->files[index].waiting_count, count, timeout_ms);
}

int slowfs_wait_other(const struct slowfs *fs, uint32_t count, uint32_t timeout_ms) {
    return wait_for(&fs->other_count, count, timeout_ms);
}

static bool server_is_gone(pid_t server) {
    const pid_t got = waitpid(server, NULL, WNOHANG);
    return got == server || (got < 0 && errno == ECHILD);
}

static void end_server(const struct slowfs *fs) {
    (void)kill(fs->server, SIGTERM);
    for (uint32_t waited = 0; waited < 5000; waited++) {
        if (server_is_gone(fs->server)) {
            return;
        }
        sleep_ms(1);
    }
    fprintf(stderr, "slowfs: the server does not end, killing it\n");
    (void)kill(fs->server, SIGKILL);
    (void)waitpid(fs->server, NULL, 0);
    (void)umount2(fs->directory, MNT_DETACH);
    (void)rmdir(fs->directory);
}

void slowfs_stop(struct slowfs **fs) {
    if (*fs == NULL) {
        return;
    }
    for (uint32_t index = 0; index < SLOWFS_FILES; index++) {
        (*fs)->files[index].gate_closed = 0;
        (*fs)->files[index].open_gate_closed = 0;
        (*fs)->files[index].flush_gate_closed = 0;
    }
    (*fs)->other_gate_closed = 0;
    if ((*fs)->server > 0) {
        end_server(*fs);
    }
    (void)munmap(*fs, sizeof **fs);
    *fs = NULL;
}
