/* SPDX-License-Identifier: MIT */
/*
 * Scene: what one cell of the table is played in: a ring on the backend in question with a pool,
 * two buffers, a directory with a file; and what the cell itself adds. scene_close() checks that
 * all of it comes back.
 */
#ifndef SAFERING_TESTS_CONFORMANCE_SCENE_H
#define SAFERING_TESTS_CONFORMANCE_SCENE_H

#include "unit/fixture.h"

#include "support/sleeper.h"
#include "support/slowfs.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <safering/buffer_ring.h>
#include <sys/socket.h>

#define BYTES   ((size_t)16384) /* of a buffer, and of the file */
#define BUFFERS 8u
#define MS      UINT64_C(1000000)

struct row;

struct scene {
    const struct row *row;
    uint32_t backend; /* enum sr_backend */
    struct slowfs *fs;
    sr_ring *ring;
    sr_pool *pool;
    sr_buffer buffer; /* BYTES bytes 'b' */
    sr_buffer second_buffer;
    sr_buffer_ring *buffer_ring; /* ROW_SELECTS */
    struct directory directory;
    sr_file dir;
    sr_file file;    /* "file" in it: BYTES bytes of scene_byte(), for reading and writing */
    int own_fds[16]; /* the test's, closed with the scene */
    uint32_t own_fds_count;
    /* What cells keep for their pumps and checks. */
    int far;        /* the test's end of what the request works on, or -1 */
    int near;       /* the ring's end: borrowed */
    uint32_t steps; /* pumps so far */
    uint32_t seen;  /* completions with SR_COMPLETION_MORE so far */
    uint32_t fed;   /* of what brings one each */
    pid_t child;    /* or 0 */
    uint32_t word;
    uint32_t *shared_word; /* with the child */
    char path[160];
    sr_slice slices[2];
    struct sockaddr_storage address;
};

static inline unsigned char scene_byte(size_t offset) {
    return (unsigned char)(offset % 251);
}

/* Opens a scene for @row on @backend, which must be there. */
void scene_open(struct scene *scene, const struct row *row, uint32_t backend, struct slowfs *fs);
/* Everything has ended, or ends now, and comes back. */
void scene_close(struct scene *scene);

/* Has @fd closed with the scene. */
int scene_own(struct scene *scene, int fd);
/* Closes one of these before. */
void scene_disown(struct scene *scene, int fd);
/* Gives @fd to the ring; with ROW_FIXED in a fixed slot. */
sr_file scene_adopt(struct scene *scene, int fd);
/* The file once more, with other rights. */
sr_file scene_file(struct scene *scene, int open_flags);

/* A pipe: the ring gets one end, the test the other one, which is scene->far. */
sr_file scene_pipe_to_read(struct scene *scene);
sr_file scene_pipe_to_write(struct scene *scene);
/* A connected pair of Unix sockets of @type, likewise. */
sr_file scene_pair(struct scene *scene, int type);
/* A connection over the loopback device, likewise. */
sr_file scene_connection(struct scene *scene);
/* A listener on the loopback device, the test's own; its address in scene->address. */
int scene_listener(struct scene *scene, int backlog);
/* The same, with no room for one more: connections are neither made nor refused. */
void scene_busy_listener(struct scene *scene);
/* A socket that waits for such a connection, and meanwhile takes nothing to be sent. A full one
 * will not do where nobody may take a byte: TCP finds room later (probes, merged buffers). */
sr_file scene_connecting(struct scene *scene);
/* Fills the ring's end, a Unix socket, until it takes no more. */
void scene_choke(struct scene *scene);
/* Reads from the test's end what there is; the bytes. */
size_t scene_drain(struct scene *scene);
/* Whether the next of @count things that bring a completion each is to come: not before that of the
 * one before has been seen, or the two might be told as one. */
bool scene_feeds(struct scene *scene, uint32_t count);
/* The slow file, which waits at its gate or not. */
sr_file scene_slow_file(struct scene *scene, bool at_gate);

bool scene_exists(const struct scene *scene, const char *name);
struct stat scene_status(const struct scene *scene, const char *name);
void scene_touch(const struct scene *scene, const char *name);

/* The first @length bytes of @buffer. */
unsigned char *scene_bytes(struct scene *scene, sr_buffer buffer, size_t length);
/* Whether it holds what the file holds from @offset on, and 'b' behind that. */
void scene_expect_file_bytes(struct scene *scene, size_t offset, size_t length);

#endif
