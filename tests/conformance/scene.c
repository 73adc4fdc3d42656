/* SPDX-License-Identifier: MIT */
#include "conformance/scene.h"

#include "conformance/table.h"
#include "support/failing.h"
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>

/* ---- what the kernel side is ---------------------------------------------------------------- */

static enum sri_backend_kind kind_of(uint32_t backend) {
    return backend == SR_BACKEND_FALLBACK ? SRI_BACKEND_FALLBACK : SRI_BACKEND_URING;
}

/* Rows that need a kernel which refuses something get it from the failing backend, in front of the
 * one in question. */
static bool is_wrapped(const struct row *row) {
    return (row->flags & (ROW_PLAIN | ROW_LACKING)) != 0;
}

static void wrap(const struct row *row, uint32_t backend) {
    failing_install_before(kind_of(backend));
    if ((row->flags & ROW_PLAIN) != 0) {
        failing_refuse_registration();
    }
    if ((row->flags & ROW_LACKING) != 0) {
        failing_mask_op(row->uapi);
    }
}

static void unwrap(void) {
    cr_assert_null(failing_leak(), "%s", failing_leak());
    failing_remove();
}

/* ---- open and close ------------------------------------------------------------------------- */

static void open_buffers(struct scene *scene) {
    scene->pool = pool_make(BYTES, BUFFERS);
    pool_attach(scene->ring, scene->pool);
    const sr_ring_stats stats = ring_stats(scene->ring);
    cr_assert((scene->row->flags & ROW_PLAIN) == 0 || stats.pools_plain == 1);
    scene->buffer = buffer_take(scene->pool);
    scene->second_buffer = buffer_take(scene->pool);
    memset(buffer_bytes(scene->pool, scene->buffer, BYTES), 'b', BYTES);
    memset(buffer_bytes(scene->pool, scene->second_buffer, BYTES), 'b', BYTES);
    if ((scene->row->flags & ROW_SELECTS) != 0) {
        sr_buffer_ring_options options = SR_BUFFER_RING_OPTIONS_INIT;
        options.entries = 4;
        assert_ok(sr_buffer_ring_create(scene->ring, scene->pool, &options, &scene->buffer_ring));
    }
}

static void open_directory(struct scene *scene) {
    static unsigned char contents[BYTES];
    for (size_t i = 0; i < BYTES; i++) {
        contents[i] = scene_byte(i);
    }
    scene->directory = directory_begin();
    scene->dir = file_take(scene->ring, fcntl(scene->directory.fd, F_DUPFD_CLOEXEC, 0));
    scene->file = scene_adopt(scene, directory_file(&scene->directory, "file", contents, BYTES));
}

void scene_open(struct scene *scene, const struct row *row, uint32_t backend, struct slowfs *fs) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    *scene = (struct scene){.row = row, .backend = backend, .fs = fs, .far = -1, .near = -1};
    if (is_wrapped(row)) {
        wrap(row, backend);
    } else {
        options.backend = backend;
    }
    scene->ring = ring_make(&options);
    cr_assert_eq(ring_stats(scene->ring).backend, backend);
    open_buffers(scene);
    open_directory(scene);
    if (fs != NULL) {
        slowfs_reset(fs, 0);
        fs->other_gate_closed = 0;
    }
}

static void end_child(struct scene *scene) {
    if (scene->child > 0) {
        (void)kill(scene->child, SIGKILL); /* if it is still there */
        (void)waitpid(scene->child, NULL, 0);
    }
    if (scene->shared_word != NULL) {
        cr_assert_eq(munmap(scene->shared_word, sizeof *scene->shared_word), 0);
    }
}

void scene_close(struct scene *scene) {
    cr_assert_eq(ring_stats(scene->ring).ops_in_flight, 0);
    cr_assert_eq(ring_stats(scene->ring).completions_stale_total, 0);
    cr_assert_eq(ring_stats(scene->ring).completions_unknown_total, 0);
    if (scene->buffer_ring != NULL) {
        assert_ok(sr_buffer_ring_destroy(&scene->buffer_ring));
    }
    const sr_pool_stats stats = pool_stats(scene->pool);
    cr_assert_eq(stats.held_count, 2, "%u buffers are held, not the test's two", stats.held_count);
    cr_assert_eq(stats.quarantined_count, 0);
    ring_end(&scene->ring);
    pool_end(&scene->pool);
    for (uint32_t i = 0; i < scene->own_fds_count; i++) {
        cr_assert_eq(close(scene->own_fds[i]), 0);
    }
    end_child(scene);
    directory_end(&scene->directory);
    if (is_wrapped(scene->row)) {
        unwrap();
    }
}

/* ---- descriptors ---------------------------------------------------------------------------- */

int scene_own(struct scene *scene, int fd) {
    cr_assert_geq(fd, 0, "%s", strerror(errno));
    cr_assert_lt(scene->own_fds_count, COUNT_OF(scene->own_fds));
    scene->own_fds[scene->own_fds_count++] = fd;
    return fd;
}

void scene_disown(struct scene *scene, int fd) {
    for (uint32_t i = 0; i < scene->own_fds_count; i++) {
        if (scene->own_fds[i] == fd) {
            scene->own_fds[i] = scene->own_fds[--scene->own_fds_count];
            cr_assert_eq(close(fd), 0);
            return;
        }
    }
    cr_assert(false, "%d is not one of the scene's", fd);
}

sr_file scene_adopt(struct scene *scene, int fd) {
    sr_file file = SR_FILE_NONE;
    const bool fixed = (scene->row->flags & ROW_FIXED) != 0;
    cr_assert_geq(fd, 0, "%s", strerror(errno));
    assert_ok(sr_file_adopt(scene->ring, fd, fixed ? SR_FILE_FIXED : 0, &file));
    return file;
}

sr_file scene_file(struct scene *scene, int open_flags) {
    return scene_adopt(scene, openat(scene->directory.fd, "file", open_flags | O_CLOEXEC));
}

static sr_file take_ends(struct scene *scene, int near, int far) {
    scene->far = scene_own(scene, far);
    scene->near = near;
    return scene_adopt(scene, near);
}

sr_file scene_pipe_to_read(struct scene *scene) {
    int ends[2];
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    return take_ends(scene, ends[0], ends[1]);
}

sr_file scene_pipe_to_write(struct scene *scene) {
    int ends[2];
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    return take_ends(scene, ends[1], ends[0]);
}

sr_file scene_pair(struct scene *scene, int type) {
    int ends[2];
    cr_assert_eq(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends), 0);
    return take_ends(scene, ends[0], ends[1]);
}

int scene_listener(struct scene *scene, int backlog) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    const int fd = scene_own(scene, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_eq(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(listen(fd, backlog), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    memcpy(&scene->address, &address, sizeof address);
    return fd;
}

sr_file scene_connection(struct scene *scene) {
    const int listener = scene_listener(scene, 1);
    const int near = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int small = 65536; /* and fixed: the kernel does not let it grow then */
    cr_assert_eq(setsockopt(near, SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    cr_assert_eq(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
    cr_assert_eq(
        connect(near, (const struct sockaddr *)&scene->address, sizeof(struct sockaddr_in)), 0);
    return take_ends(scene, near, accept4(listener, NULL, NULL, SOCK_CLOEXEC));
}

void scene_choke(struct scene *scene) {
    static const char bytes[65536];
    const int flags = fcntl(scene->near, F_GETFL);
    cr_assert_eq(fcntl(scene->near, F_SETFL, flags | O_NONBLOCK), 0);
    while (write(scene->near, bytes, sizeof bytes) > 0) {
    }
    cr_assert_eq(errno, EAGAIN);
    cr_assert_eq(fcntl(scene->near, F_SETFL, flags), 0);
}

static int connect_another(struct scene *scene) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    cr_assert_eq(connect(fd, (const struct sockaddr *)&scene->address, sizeof(struct sockaddr_in)),
                 -1);
    cr_assert_eq(errno, EINPROGRESS);
    cr_assert_eq(fcntl(fd, F_SETFL, 0), 0);
    return fd;
}

void scene_busy_listener(struct scene *scene) {
    (void)scene_listener(scene, 0);
    const int first = scene_own(scene, connect_another(scene));
    struct pollfd connected = {.fd = first, .events = POLLOUT};
    cr_assert_eq(poll(&connected, 1, 10000), 1);
    (void)scene_own(scene, connect_another(scene)); /* for this one there is no room any more */
}

sr_file scene_connecting(struct scene *scene) {
    scene_busy_listener(scene);
    scene->near = connect_another(scene);
    return scene_adopt(scene, scene->near);
}

size_t scene_drain(struct scene *scene) {
    static char bytes[65536];
    const int flags = fcntl(scene->far, F_GETFL);
    ssize_t count = 0;
    size_t drained = 0;
    cr_assert_eq(fcntl(scene->far, F_SETFL, flags | O_NONBLOCK), 0);
    while ((count = read(scene->far, bytes, sizeof bytes)) > 0) {
        drained += (size_t)count;
    }
    cr_assert_eq(fcntl(scene->far, F_SETFL, flags), 0);
    return drained;
}

bool scene_feeds(struct scene *scene, uint32_t count) {
    const bool feeds = scene->fed < count && scene->fed == scene->seen;
    scene->fed += feeds;
    return feeds;
}

sr_file scene_slow_file(struct scene *scene, bool at_gate) {
    const sr_file file = scene_adopt(scene, slowfs_open(scene->fs, 0, O_RDWR));
    scene->fs->files[0].gate_closed = at_gate;
    return file;
}

/* ---- the directory -------------------------------------------------------------------------- */

bool scene_exists(const struct scene *scene, const char *name) {
    return faccessat(scene->directory.fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

struct stat scene_status(const struct scene *scene, const char *name) {
    struct stat status;
    cr_assert_eq(fstatat(scene->directory.fd, name, &status, AT_SYMLINK_NOFOLLOW), 0, "%s: %s",
                 name, strerror(errno));
    return status;
}

void scene_touch(const struct scene *scene, const char *name) {
    cr_assert_eq(close(directory_file(&scene->directory, name, "", 0)), 0);
}

/* ---- buffers -------------------------------------------------------------------------------- */

unsigned char *scene_bytes(struct scene *scene, sr_buffer buffer, size_t length) {
    return buffer_bytes(scene->pool, buffer, length);
}

void scene_expect_file_bytes(struct scene *scene, size_t offset, size_t length) {
    const unsigned char *bytes = scene_bytes(scene, scene->buffer, BYTES);
    for (size_t i = 0; i < BYTES; i++) {
        const unsigned char expected = i < length ? scene_byte(offset + i) : 'b';
        cr_assert_eq(bytes[i], expected, "byte %zu is %u, not %u", i, bytes[i], expected);
    }
}
