/* SPDX-License-Identifier: MIT */
#include "buffer/region.h"

#include "core/check.h"
#include "sys/huge.h"
#include "sys/memory.h"
#include "sys/numa.h"
#include "sys/owner.h"

#include <errno.h>

#define ALIGNMENT_MAX (UINT64_C(1) << 30)
#define FLAGS_KNOWN   ((uint32_t)(SR_PLACE_STRICT | SR_REGION_SHAREABLE))

static bool is_power_of_two(size_t value) {
    return value != 0 && (value & (value - 1)) == 0;
}

static bool options_are_in_range(const sr_region_options *options) {
    return is_power_of_two(options->alignment_bytes) &&
           options->alignment_bytes >= SRI_PAGE_BYTES &&
           options->alignment_bytes <= ALIGNMENT_MAX && options->placement <= SR_PLACE_INTERLEAVE &&
           options->node < SRI_NODES_MAX && options->pages <= SR_PAGES_HUGE;
}

static struct sri_map_options map_options(size_t size_bytes, const sr_region_options *options) {
    const size_t page_bytes =
        options->pages == SR_PAGES_NORMAL ? SRI_PAGE_BYTES : SRI_HUGE_PAGE_BYTES;
    return (struct sri_map_options){
        .size_bytes = (size_bytes + page_bytes - 1) & ~(page_bytes - 1),
        .alignment_bytes =
            options->alignment_bytes > page_bytes ? options->alignment_bytes : page_bytes,
        .shared = (options->flags & SR_REGION_SHAREABLE) != 0,
        .view_of = -1,
        .strict = (options->flags & SR_PLACE_STRICT) != 0,
        .place = options->placement,
        .node = options->node,
        .pages = options->pages,
    };
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
    if ((given.flags & ~FLAGS_KNOWN) != 0) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    if (size_bytes == 0 || size_bytes > SRI_REGION_SIZE_MAX || !options_are_in_range(&given)) {
        return SRI_MISUSE(SR_E_BOUNDS, 0);
    }
    sr_region *region = region_allocate();
    if (region == NULL) {
        return -ENOMEM;
    }
    const struct sri_map_options wanted = map_options(size_bytes, &given);
    const int code = region->backend->map(&wanted, &region->mapping);
    if (code < 0) {
        sri_release(region);
        return code;
    }
    region->place_wanted = given.placement;
    region->pages_wanted = given.pages;
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
    region->mapping = (struct sri_mapping){.base = memory, .size_bytes = size_bytes, .fd = -1};
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
    /* A child did not inherit the pages; something else may be mapped there by now. The descriptor
     * it has, as a copy. */
    if (!gone->adopted && !sri_owner_is_forked(gone->owner_key)) {
        gone->backend->unmap(&gone->mapping);
    } else if (gone->mapping.fd >= 0) {
        (void)gone->backend->fd_close(gone->mapping.fd);
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

int sr_region_fd(const sr_region *region) {
    if (!sri_region_is_valid(region)) {
        return SRI_MISUSE(SR_E_OBJECT, 0);
    }
    return region->mapping.fd >= 0 ? region->mapping.fd : SRI_MISUSE(SR_E_STATE, 0);
}

int sr_region_get_stats(const sr_region *region, sr_region_stats *out_stats) {
    if (out_stats == NULL || !sri_stats_size_is_valid(out_stats->size)) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    if (!sri_region_is_valid(region)) {
        return SRI_MISUSE(SR_E_OBJECT, 0);
    }
    const struct sri_map_outcome *outcome = &region->mapping.outcome;
    const sr_region_stats stats = {
        .size = sizeof stats,
        .region_bytes = region->mapping.size_bytes,
        .verified_bytes = outcome->verified_bytes,
        .huge_bytes = outcome->huge_bytes,
        .placement_wanted = region->place_wanted,
        .placement = outcome->place,
        .node = outcome->node,
        .placement_error = outcome->place_error,
        .pages_wanted = region->pages_wanted,
        .pages = outcome->pages,
        .pages_error = outcome->pages_error,
        .guard_pages = region->adopted ? 0 : 2,
        .shareable = region->mapping.fd >= 0,
        .adopted = region->adopted,
    };
    sri_stats_give(out_stats, &stats, sizeof stats);
    return 0;
}
