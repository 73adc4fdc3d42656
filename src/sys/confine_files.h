/* SPDX-License-Identifier: MIT */
/*
 * Confine, files: Landlock. The calling thread, and those that it will make, may open what is
 * listed and nothing else; may not speak TCP; may not signal, nor reach the abstract sockets of,
 * processes outside. Each of the three is a domain of its own on top of what was there before, so
 * one that the kernel lacks does not weaken the others.
 *
 * What Landlock does not know, whatever its version: descriptors that are open already, stat(2),
 * chmod(2) and the like, sockets with names of the file system. src/sys/confine_calls.c closes
 * what it can of that.
 */
#ifndef SAFERING_SYS_CONFINE_FILES_H
#define SAFERING_SYS_CONFINE_FILES_H

#include <stdbool.h>
#include <stdint.h>

#define SRI_LANDLOCK_ABI_FILES 1 /* Linux 5.13 */
#define SRI_LANDLOCK_ABI_TCP   4 /* Linux 6.7 */
#define SRI_LANDLOCK_ABI_SCOPE 6 /* Linux 6.12 */

struct sri_confine_path {
    const char *name;
    bool may_write; /* else files may be read and folders listed, and mapped as code */
};

/* The version of Landlock here, 1 or more; -EOPNOTSUPP or -ENOSYS if there is none. */
int sri_landlock_abi(void);

/* Each returns 0; -EOPNOTSUPP or -ENOSYS where this kernel has no such thing; or another negative
 * errno, nothing having changed.
 *
 * Of @paths, files or folders with all that is below them; *out_failed is the one that could not be
 * opened, or @count. */
int sri_confine_files(const struct sri_confine_path *paths, uint32_t count, uint32_t *out_failed);
int sri_confine_tcp(void);
int sri_confine_scope(void);

#endif
