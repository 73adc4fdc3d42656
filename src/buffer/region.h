/* SPDX-License-Identifier: MIT */
/*
 * Region: mapped memory that pools cut into buffers. It outlives its pool; a region that a pool
 * made for itself ends with it.
 */
#ifndef SAFERING_BUFFER_REGION_H
#define SAFERING_BUFFER_REGION_H

#include "sys/backend.h"
#include <safering/buffer.h>

#define SRI_REGION_MAGIC    UINT32_C(0x52474e01)
#define SRI_REGION_SIZE_MAX (UINT64_C(1) << 40)
#define SRI_PAGE_BYTES      ((size_t)4096)

struct sr_region {
    uint32_t magic;
    bool adopted;
    _Atomic bool in_use; /* by a pool */
    uint64_t owner_key;  /* of the creating thread; only its process counts */
    const struct sri_backend *backend;
    uint32_t place_wanted; /* enum sr_place */
    uint32_t pages_wanted; /* enum sr_pages */
    struct sri_mapping mapping;
};

static inline bool sri_region_is_valid(const sr_region *region) {
    return region != NULL && region->magic == SRI_REGION_MAGIC && region->mapping.base != NULL;
}

#endif
