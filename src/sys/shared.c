/* SPDX-License-Identifier: MIT */
#include "sys/shared.h"

#include "core/check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PAGE_BYTES ((size_t)4096)

/* Newer than the oldest C library we build with. Values: include/uapi/linux/memfd.h and
 * asm-generic/mman-common.h of Linux 6.18. */
#define NOEXEC_SEAL    0x8u /* MFD_NOEXEC_SEAL, Linux 6.3 */
#define POPULATE_READ  22   /* MADV_POPULATE_READ, Linux 5.14 */
#define POPULATE_WRITE 23

#define SEALS_SIZE (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static int seals_of(enum sri_shared_kind kind) {
    return kind == SRI_SHARED_ONE_WRITER ? SEALS_SIZE | F_SEAL_FUTURE_WRITE : SEALS_SIZE;
}

/* Whole pages, or 0 if there are none, or more than any address space has. */
static size_t whole_pages(size_t size_bytes) {
    return size_bytes > SIZE_MAX / 4 ? 0 : (size_bytes + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
}

/* Maps @fd between two inaccessible pages. */
static int map_between_guards(int fd, size_t size_bytes, bool writable,
                              struct sri_shared *out_shared) {
    const size_t whole_bytes = size_bytes + 2 * PAGE_BYTES;
    char *whole =
        mmap(NULL, whole_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (whole == MAP_FAILED) {
        return -errno;
    }
    const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    void *base = mmap(whole + PAGE_BYTES, size_bytes, protection, MAP_SHARED | MAP_FIXED, fd, 0);
    if (base == MAP_FAILED) {
        const int code = -errno;
        /* The middle may be unmapped already, and another thread's by now (see mapping.c). */
        (void)munmap(whole, PAGE_BYTES);
        (void)munmap(whole + PAGE_BYTES + size_bytes, PAGE_BYTES);
        return code;
    }
    out_shared->base = base;
    out_shared->size_bytes = size_bytes;
    out_shared->whole = whole;
    out_shared->whole_bytes = whole_bytes;
    /* A forked child would write through it whatever the seals say. */
    if (madvise(base, size_bytes, MADV_DONTFORK) != 0 ||
        madvise(base, size_bytes, writable ? POPULATE_WRITE : POPULATE_READ) != 0) {
        return errno == EFAULT ? -ENOMEM : -errno; /* EFAULT: a touch would be a SIGBUS */
    }
    return 0;
}

/* A descriptor of memory that cannot be executed from, where the kernel knows how to say that. */
static int open_memory(size_t size_bytes) {
    int fd = memfd_create("safering-shared", MFD_CLOEXEC | MFD_ALLOW_SEALING | NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) {
        fd = memfd_create("safering-shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    }
    if (fd < 0) {
        return -errno;
    }
    if (ftruncate(fd, (off_t)size_bytes) != 0) {
        const int code = -errno;
        (void)close(fd);
        return code;
    }
    return fd;
}

/* FUTURE_WRITE after the mapping: the one that is there stays writable, a new one would not be. */
static int create(enum sri_shared_kind kind, size_t size_bytes, struct sri_shared *shared) {
    shared->fd = open_memory(size_bytes);
    if (shared->fd < 0) {
        return shared->fd;
    }
    const int code = map_between_guards(shared->fd, size_bytes, true, shared);
    if (code < 0) {
        return code;
    }
    return fcntl(shared->fd, F_ADD_SEALS, seals_of(kind)) == 0 ? 0 : -errno;
}

int sri_shared_create(enum sri_shared_kind kind, size_t size_bytes, struct sri_shared *out_shared) {
    *out_shared = (struct sri_shared){.fd = -1};
    const size_t whole = whole_pages(size_bytes);
    if (whole == 0) {
        return SR_E_BOUNDS;
    }
    const int code = create(kind, whole, out_shared);
    if (code < 0) {
        sri_shared_end(out_shared);
    }
    return code;
}

/*
 * Whether @fd is what it must be. Only memory of tmpfs: of huge pages there may be none left when
 * one is touched, which is SIGBUS, and other file systems do not know seals. That SEAL is among
 * them makes what is seen here true for good.
 */
static bool is_as_agreed(enum sri_shared_kind kind, int fd, size_t size_bytes) {
    struct stat status;
    struct statfs fs;
    const int seals = fcntl(fd, F_GET_SEALS);
    const int wanted = seals_of(kind);
    if (seals < 0 || (seals & wanted) != wanted) {
        return false;
    }
    if (kind == SRI_SHARED_ALL_WRITE && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0) {
        return false;
    }
    return fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC && fstat(fd, &status) == 0 &&
           S_ISREG(status.st_mode) && status.st_size == (off_t)size_bytes;
}

int sri_shared_map(enum sri_shared_kind kind, int fd, size_t size_bytes, bool writable,
                   struct sri_shared *out_shared) {
    *out_shared = (struct sri_shared){.fd = -1};
    const size_t whole = whole_pages(size_bytes);
    if (whole == 0 || (writable && kind != SRI_SHARED_ALL_WRITE)) {
        return SR_E_BOUNDS;
    }
    if (!is_as_agreed(kind, fd, whole)) {
        return SR_E_PROTOCOL;
    }
    const int code = map_between_guards(fd, whole, writable, out_shared);
    if (code < 0) {
        sri_shared_end(out_shared);
    }
    return code;
}

void sri_shared_close_fd(struct sri_shared *shared) {
    if (shared->fd >= 0) {
        (void)close(shared->fd); /* memory: nothing is written back */
        shared->fd = -1;
    }
}

void sri_shared_end(struct sri_shared *shared) {
    if (shared->whole != NULL) {
        const int failed = munmap(shared->whole, shared->whole_bytes);
        SR_CHECK(failed == 0);
    }
    sri_shared_close_fd(shared);
    *shared = (struct sri_shared){.fd = -1};
}
