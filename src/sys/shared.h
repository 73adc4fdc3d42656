/* SPDX-License-Identifier: MIT */
/*
 * Shared memory: memory that two processes map, and what each may do with it, which the kernel
 * keeps by seals. There are two kinds:
 *
 *   ONE_WRITER  the process that made it writes, through the mapping that it has had since before
 *               the seal; whoever gets the descriptor can map it read-only and no other way
 *   ALL_WRITE   whoever gets the descriptor can write too
 *
 * Neither can be made smaller or larger, so that no access is ever beyond its end (SIGBUS), and no
 * seal can be added. Memory is there from the start: what cannot be had is an error then. A mapping
 * lies between two inaccessible pages, and a forked child does not have it.
 *
 * What seals do not do: a process that may trace the owner can write to the owner's mapping, and a
 * read-only mapping can be made executable. Both are for the sandbox (tests/kernel/
 * test_memfd_seals.c).
 *
 * Neighbours: this one links without liburing, for workers have it too. sys/mapping.h makes memory
 * for buffers.
 */
#ifndef SAFERING_SYS_SHARED_H
#define SAFERING_SYS_SHARED_H

#include <stdbool.h>
#include <stddef.h>

enum sri_shared_kind { SRI_SHARED_ONE_WRITER = 1, SRI_SHARED_ALL_WRITE };

struct sri_shared {
    void *base; /* NULL: there is none */
    size_t size_bytes;
    void *whole; /* with the pages around it */
    size_t whole_bytes;
    int fd; /* -1 if the mapping was made of a descriptor that was received */
};

/*
 * Makes memory of zeros, mapped for reading and writing. @size_bytes is rounded up to pages.
 * Return: 0, SR_E_BOUNDS (0, or too much for an address), or what the kernel says: -ENOMEM,
 * -EMFILE.
 */
int sri_shared_create(enum sri_shared_kind kind, size_t size_bytes, struct sri_shared *out_shared);

/*
 * Maps what another process has sent, after a look at what it is: memory of this very kind and of
 * @size_bytes (rounded up to pages), sealed as above. @fd is borrowed. SR_E_PROTOCOL if it is
 * anything else. @writable: for ALL_WRITE alone (SR_E_BOUNDS).
 */
int sri_shared_map(enum sri_shared_kind kind, int fd, size_t size_bytes, bool writable,
                   struct sri_shared *out_shared);

/* Closes the descriptor, once all that shall have it do; the mapping stays. */
void sri_shared_close_fd(struct sri_shared *shared);

/* Unmaps and closes. Accepts what was never made. */
void sri_shared_end(struct sri_shared *shared);

#endif
