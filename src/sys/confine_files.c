/* SPDX-License-Identifier: MIT */
#include "sys/confine_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As of ABI 6, under names of our own: the headers of Debian 12 end at 2. Source: the kernel's
 * include/uapi/linux/landlock.h. */
struct ruleset_attr {
    uint64_t files;
    uint64_t network; /* from ABI 4 on */
    uint64_t scoped;  /* from ABI 6 on */
};

struct path_attr {
    uint64_t allowed;
    int32_t fd;
} __attribute__((packed));

#define CREATE_RULESET_VERSION 1u
#define RULE_PATH_BENEATH      1

#define FILES_WRITE_FILE  (UINT64_C(1) << 1)
#define FILES_READ_FILE   (UINT64_C(1) << 2)
#define FILES_READ_DIR    (UINT64_C(1) << 3)
#define FILES_REMOVE_DIR  (UINT64_C(1) << 4)
#define FILES_REMOVE_FILE (UINT64_C(1) << 5)
#define FILES_MAKE_DIR    (UINT64_C(1) << 7)
#define FILES_MAKE_REG    (UINT64_C(1) << 8)
#define FILES_MAKE_SOCK   (UINT64_C(1) << 9)
#define FILES_MAKE_FIFO   (UINT64_C(1) << 10)
#define FILES_MAKE_SYM    (UINT64_C(1) << 12)
#define FILES_REFER       (UINT64_C(1) << 13) /* from ABI 2 on */
#define FILES_TRUNCATE    (UINT64_C(1) << 14) /* from ABI 3 on */
#define FILES_IOCTL_DEV   (UINT64_C(1) << 15) /* from ABI 5 on */

/* The rights that a rule may give to a path, by what is asked. Bits 0, 6 and 11, to execute and to
 * make devices, are handled and given to none. */
#define READ_RIGHTS (FILES_READ_FILE | FILES_READ_DIR)
#define WRITE_RIGHTS                                                                               \
    (READ_RIGHTS | FILES_WRITE_FILE | FILES_REMOVE_DIR | FILES_REMOVE_FILE | FILES_MAKE_DIR |      \
     FILES_MAKE_REG | FILES_MAKE_SOCK | FILES_MAKE_FIFO | FILES_MAKE_SYM | FILES_REFER |           \
     FILES_TRUNCATE)
/* And those that a path which is no folder can have. */
#define PLAIN_RIGHTS (FILES_READ_FILE | FILES_WRITE_FILE | FILES_TRUNCATE)

#define NETWORK_BIND_TCP    (UINT64_C(1) << 0)
#define NETWORK_CONNECT_TCP (UINT64_C(1) << 1)

#define SCOPED_ABSTRACT_SOCKET (UINT64_C(1) << 0)
#define SCOPED_SIGNAL          (UINT64_C(1) << 1)

/* glibc has no wrappers. The numbers are the same on all architectures. */
static int create_ruleset(const struct ruleset_attr *attr, size_t size_bytes) {
    const long fd = syscall(SYS_landlock_create_ruleset, attr, size_bytes, 0u);
    return fd >= 0 ? (int)fd : -errno;
}

/* Puts @ruleset in force and closes it. */
static int restrict_self(int ruleset) {
    const int code = syscall(SYS_landlock_restrict_self, ruleset, 0u) == 0 ? 0 : -errno;
    (void)close(ruleset); /* it is in force or not, whatever becomes of the descriptor */
    return code;
}

int sri_landlock_abi(void) {
    const long abi = syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, CREATE_RULESET_VERSION);
    return abi >= 0 ? (int)abi : -errno;
}

/* All rights to files that this version knows: what is not handled is allowed. */
static uint64_t handled_rights(int abi) {
    uint64_t rights = FILES_REFER - 1;
    if (abi >= 2) {
        rights |= FILES_REFER;
    }
    if (abi >= 3) {
        rights |= FILES_TRUNCATE;
    }
    if (abi >= 5) {
        rights |= FILES_IOCTL_DEV;
    }
    return rights;
}

/* Gives @rights, as far as they are handled and make sense for it, to what is at and below @name.
 */
static int add_rule(int ruleset, const char *name, uint64_t rights, uint64_t handled) {
    struct path_attr attr = {.allowed = rights & handled};
    struct stat status;
    int code = 0;
    attr.fd = open(name, O_PATH | O_CLOEXEC);
    if (attr.fd < 0) {
        return -errno;
    }
    if (fstat(attr.fd, &status) != 0) {
        code = -errno;
    } else {
        attr.allowed &= S_ISDIR(status.st_mode) ? UINT64_MAX : PLAIN_RIGHTS;
        code =
            syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &attr, 0u) == 0 ? 0 : -errno;
    }
    (void)close(attr.fd); /* O_PATH: there is nothing to flush */
    return code;
}

int sri_confine_files(const struct sri_confine_path *paths, uint32_t count, uint32_t *out_failed) {
    *out_failed = count;
    const int abi = sri_landlock_abi();
    if (abi < SRI_LANDLOCK_ABI_FILES) {
        return abi < 0 ? abi : -EOPNOTSUPP;
    }
    const struct ruleset_attr attr = {.files = handled_rights(abi)};
    const int ruleset = create_ruleset(&attr, offsetof(struct ruleset_attr, network));
    if (ruleset < 0) {
        return ruleset;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t rights = paths[i].may_write ? WRITE_RIGHTS : READ_RIGHTS;
        const int code = add_rule(ruleset, paths[i].name, rights, attr.files);
        if (code != 0) {
            *out_failed = i;
            (void)close(ruleset); /* not in force */
            return code;
        }
    }
    return restrict_self(ruleset);
}

/* A ruleset that is not about files. Moving a file to another folder is forbidden by every ruleset
 * that does not allow it (LANDLOCK_ACCESS_FS_REFER), and so has to be allowed here. */
static int confine_other(struct ruleset_attr attr, size_t size_bytes, int abi_needed) {
    const int abi = sri_landlock_abi();
    if (abi < abi_needed) {
        return abi < 0 ? abi : -EOPNOTSUPP;
    }
    attr.files = FILES_REFER;
    const int ruleset = create_ruleset(&attr, size_bytes);
    if (ruleset < 0) {
        return ruleset;
    }
    const int code = add_rule(ruleset, "/", FILES_REFER, FILES_REFER);
    if (code != 0) {
        (void)close(ruleset); /* not in force */
        return code;
    }
    return restrict_self(ruleset);
}

int sri_confine_tcp(void) {
    const struct ruleset_attr attr = {.network = NETWORK_BIND_TCP | NETWORK_CONNECT_TCP};
    return confine_other(attr, offsetof(struct ruleset_attr, scoped), SRI_LANDLOCK_ABI_TCP);
}

int sri_confine_scope(void) {
    const struct ruleset_attr attr = {.scoped = SCOPED_ABSTRACT_SOCKET | SCOPED_SIGNAL};
    return confine_other(attr, sizeof attr, SRI_LANDLOCK_ABI_SCOPE);
}
