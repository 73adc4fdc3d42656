/* SPDX-License-Identifier: MIT */
/*
 * Mapping: memory for buffers, as the real backend makes it. Private or with a descriptor, of
 * ordinary or huge pages, on chosen NUMA nodes, with inaccessible pages at both ends.
 *
 * Neighbours: numa.c binds and verifies, huge.c counts huge pages.
 */
#ifndef SAFERING_SYS_MAPPING_H
#define SAFERING_SYS_MAPPING_H

#include "sys/backend.h"

int sri_mapping_make(const struct sri_map_options *options, struct sri_mapping *out_mapping);
/* Unmaps, and closes the descriptor. */
void sri_mapping_end(const struct sri_mapping *mapping);
int sri_mapping_protect(void *memory, size_t size_bytes, enum sri_rights rights);

#endif
