/* SPDX-License-Identifier: MIT */
#include "buffer/region.h"

#include "core/check.h"
#include "sys/memory.h"
#include "sys/owner.h"

#include <errno.h>

#define ALIGNMENT_MAX (UINT64_C(1) << 30)

static bool is_power_of_two(size_t value) {
    return value != 0 && (value & (value - 1)) == 0;
}

static sr_region *region_allocate(void) {
    const uint64_t key = sri_owner_key_make();
    sr_region *region = key != 0 ? sri_allocate(1, sizeof *region) : NULL;
    if (region != NULL) {
        region->owner_key = key;
        region->backend = sri_backend();
    }
    return region;
}

int sr_region_create(size_t size_bytes, const sr_region_options *options, sr_region **out_region) {
    sr_region_options given = SR_REGION_OPTIONS_INIT;
    if (out_region == NULL) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    *out_region = NULL;
    if (!sri_options_take(&given, sizeof given, options)) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    if (size_bytes == 0 || size_bytes > SRI_REGION_SIZE_MAX ||
        !is_power_of_two(given.alignment_bytes) || given.alignment_bytes < SRI_PAGE_BYTES ||
        given.alignment_bytes > ALIGNMENT_MAX) {
        return SRI_MISUSE(SR_E_BOUNDS, 0);
    }
    sr_region *region = region_allocate();
    if (region == NULL) {
        return -ENOMEM;
    }
    const size_t whole_pages = (size_bytes + SRI_PAGE_BYTES - 1) & ~(SRI_PAGE_BYTES - 1);
    const int code = region->backend->map(whole_pages, given.alignment_bytes, &region->mapping);
    if (code < 0) {
        sri_release(region);
        return code;
    }
    region->magic = SRI_REGION_MAGIC;
    *out_region = region;
    return 0;
}

int sr_region_adopt(void *memory, size_t size_bytes, sr_region **out_region) {
    if (out_region == NULL) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    *out_region = NULL;
    if (memory == NULL || size_bytes == 0 || size_bytes > SRI_REGION_SIZE_MAX ||
        (uintptr_t)memory % SRI_PAGE_BYTES != 0 || size_bytes % SRI_PAGE_BYTES != 0) {
        return SRI_MISUSE(SR_E_BOUNDS, 0);
    }
    sr_region *region = region_allocate();
    if (region == NULL) {
        return -ENOMEM;
    }
    region->adopted = true;
    region->mapping = (struct sri_mapping){.base = memory, .size_bytes = size_bytes};
    region->magic = SRI_REGION_MAGIC;
    *out_region = region;
    return 0;
}

int sr_region_destroy(sr_region **region) {
    if (region == NULL) {
        return SRI_MISUSE(SR_E_OBJECT, 0);
    }
    sr_region *const gone = *region;
    if (gone == NULL) {
        return 0;
    }
    if (!sri_region_is_valid(gone)) {
        return SRI_MISUSE(SR_E_OBJECT, 0);
    }
    if (atomic_load(&gone->in_use)) {
        return SRI_MISUSE(SR_E_STATE, 0);
    }
    /* A child did not inherit the pages; something else may be mapped there by now. */
    if (!gone->adopted && !sri_owner_is_forked(gone->owner_key)) {
        gone->backend->unmap(&gone->mapping);
    }
    gone->magic = 0;
    sri_release(gone);
    *region = NULL;
    return 0;
}

size_t sr_region_size(const sr_region *region) {
    return sri_region_is_valid(region) ? region->mapping.size_bytes : 0;
}

void *sr_region_base(const sr_region *region) {
    return sri_region_is_valid(region) ? region->mapping.base : NULL;
}
