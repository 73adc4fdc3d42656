/* SPDX-License-Identifier: MIT */
/*
 * NUMA: where memory shall lie, and whether it does. By system calls and nothing else
 * (docs/adr/0007-placement.md).
 */
#ifndef SAFERING_SYS_NUMA_H
#define SAFERING_SYS_NUMA_H

#include "sys/backend.h"

/* More than any kernel is built for. */
#define SRI_NODES_MAX 1024u

/* A set of nodes, in the kernel's form. */
struct sri_nodes {
    unsigned long words[SRI_NODES_MAX / (8 * sizeof(unsigned long))];
};

/* Tells the kernel where the pages of @mapping shall come from, before any was touched. LOCAL is
 * the node on which the caller runs now. Returns 0 or a negative errno: -ENODEV for a node that is
 * not there or not allowed. */
int sri_numa_bind(const struct sri_map_options *options, const struct sri_mapping *mapping,
                  struct sri_nodes *out_nodes, uint32_t *out_node);

/* Asks the kernel where the pages of @mapping are, all of which were touched. Returns 0 if they lie
 * on @nodes, for INTERLEAVE in about equal parts; -ENOMEM if others do. @page_bytes: of one. */
int sri_numa_verify(uint32_t place, const struct sri_mapping *mapping,
                    const struct sri_nodes *nodes, size_t page_bytes, uint64_t *out_verified_bytes);

#endif
