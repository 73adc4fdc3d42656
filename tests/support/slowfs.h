/* SPDX-License-Identifier: MIT */
/*
 * Slow file system: a few files, served over FUSE, that misbehave as they are told: answers that
 * are too short, errors from some offset on, delays, requests that wait at a gate. Behaviour and
 * contents lie in memory that is shared with the server, so a test changes the one and verifies the
 * other directly. The directory cannot be changed: that is EROFS.
 *
 * The server is a child process, for a test that waits in io_uring for its own answer would wait
 * for ever. The files bypass the page cache (direct_io), so what the server answers is what the
 * operation gets. When the test process dies, the server unmounts and goes too.
 */
#ifndef SAFERING_TESTS_SUPPORT_SLOWFS_H
#define SAFERING_TESTS_SUPPORT_SLOWFS_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#define SLOWFS_FILES          4
#define SLOWFS_FILE_BYTES_MAX (256u * 1024)
#define SLOWFS_NEVER          UINT64_MAX
/* A gate that is closed for longer lets everybody through. */
#define SLOWFS_GATE_MS_MAX 20000u

/* Fields may be changed at any time; a request looks at them when it is served. */
struct slowfs_file {
    _Atomic uint64_t size_bytes; /* SLOWFS_FILE_BYTES_MAX at first */
    /* EIO from this offset on; a transfer that crosses it is cut there. SLOWFS_NEVER at first. */
    _Atomic uint64_t read_error_at;
    _Atomic uint64_t write_error_at;
    _Atomic uint32_t read_max; /* most bytes of one answer; 0: no limit */
    _Atomic uint32_t write_max;
    _Atomic uint32_t delay_ms;          /* before each read and write */
    _Atomic uint32_t gate_closed;       /* 1: reads and writes wait until it is 0 */
    _Atomic uint32_t open_gate_closed;  /* 1: opening the file waits */
    _Atomic uint32_t flush_gate_closed; /* 1: closing a descriptor of the file waits */
    /* Written by the server. */
    _Atomic uint32_t waiting_count;  /* requests in their delay or at the gate */
    _Atomic uint32_t opening_count;  /* opens at their gate */
    _Atomic uint32_t flushing_count; /* closes at their gate */
    _Atomic uint64_t read_count;     /* answered, errors included */
    _Atomic uint64_t write_count;
    _Atomic uint64_t flush_count; /* closes that were let through */
    unsigned char bytes[SLOWFS_FILE_BYTES_MAX];
};

/* What else a file system may be asked for. */
enum slowfs_flags {
    /*
     * Direct I/O step by step inside of the kernel (no FUSE_ASYNC_DIO). Needed for short writes,
     * which the kernel else turns into EIO (fs/fuse/file.c, fuse_get_res_by_io()). Not for short
     * reads by io_uring: Linux 6.18 goes on by itself there, at the same offset again, and reports
     * wrong bytes as success (tests/kernel/test_fuse_sync_read.c).
     */
    SLOWFS_SYNC = 1u << 0,
    /* slowfs_open() adds nothing to its flags, so some kernels do not read asynchronously. */
    SLOWFS_AS_IT_IS = 1u << 1
};

struct slowfs {
    pid_t test;
    pid_t server;
    uint32_t flags; /* enum slowfs_flags */
    /* 1: whatever else may be asked for (attributes, sync, fallocate, names of the directory)
     * waits.
     */
    _Atomic uint32_t other_gate_closed;
    _Atomic uint32_t other_count; /* requests at it */
    char directory[64];
    struct slowfs_file files[SLOWFS_FILES];
};

/* What byte @offset of file @index holds at first. */
static inline unsigned char slowfs_byte(uint32_t index, uint64_t offset) {
    /* 251 is prime, so that a shift by any power of two shows. */
    return (unsigned char)((offset + offset / 251 + index * 83u) % 251u);
}

/*
 * Mounts the file system in a new directory under /tmp. @flags: enum slowfs_flags.
 * Returns NULL and the file system (end with slowfs_stop()), or why it cannot be had here.
 */
const char *slowfs_start(struct slowfs **out_fs, uint32_t flags);

/* Opens a file, with O_DIRECT unless a flag above stands against it, which here bounds neither
 * addresses nor lengths; aborts with a message on failure. The caller closes the descriptor. */
int slowfs_open(const struct slowfs *fs, uint32_t index, int flags);

/* Sets contents and behaviour of a file back to those of a new file system. */
void slowfs_reset(struct slowfs *fs, uint32_t index);

/* Waits until @count requests to file @index are in their delay or at its gate; 0 after
 * @timeout_ms. */
int slowfs_wait(const struct slowfs *fs, uint32_t index, uint32_t count, uint32_t timeout_ms);

/* The same for requests at the gate of all others. */
int slowfs_wait_other(const struct slowfs *fs, uint32_t count, uint32_t timeout_ms);

/* Opens the gates, unmounts, ends the server. @fs: address of the variable; NULL inside is allowed.
 */
void slowfs_stop(struct slowfs **fs);

#endif
