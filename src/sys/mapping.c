/* SPDX-License-Identifier: MIT */
#include "sys/mapping.h"

#include "sys/huge.h"
#include "sys/numa.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/mman.h> /* MAP_HUGE_2MB, which the C library does not have */
#include <safering/buffer.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE_BYTES ((size_t)4096)

/* Reserves addresses for a mapping and its guards. Everything begins inaccessible, so whatever is
 * not opened later is a guard. @flags: for mmap(2). */
static int reserve(const struct sri_map_options *options, size_t page_bytes, int flags,
                   struct sri_mapping *out_mapping) {
    const size_t slack = options->alignment_bytes > page_bytes ? options->alignment_bytes : 0;
    const size_t whole_bytes = page_bytes + slack + options->size_bytes + page_bytes;
    char *whole = mmap(NULL, whole_bytes, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
    if (whole == MAP_FAILED) {
        return -errno;
    }
    const uintptr_t first = (uintptr_t)whole + page_bytes;
    *out_mapping = (struct sri_mapping){
        .base = whole + page_bytes + (-first & (options->alignment_bytes - 1)),
        .size_bytes = options->size_bytes,
        .whole = whole,
        .whole_bytes = whole_bytes,
        .fd = -1,
    };
    return 0;
}

void sri_mapping_end(const struct sri_mapping *mapping) {
    const int failed = munmap(mapping->whole, mapping->whole_bytes);
    SR_CHECK(failed == 0);
    if (mapping->fd >= 0) {
        (void)close(mapping->fd); /* memory: nothing is written back */
    }
}

/* Puts the bytes behind @fd into the reserved addresses. */
static int map_shared(struct sri_mapping *mapping, int fd) {
    void *const base = mmap(mapping->base, mapping->size_bytes, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0);
    if (base != MAP_FAILED) {
        return 0;
    }
    /* The kernel may have unmapped the middle before it failed, and another thread may have mapped
     * something there since. So only the guards are given back: addresses, no memory, stay
     * behind. */
    const int code = -errno;
    const size_t before = (size_t)((char *)mapping->base - (char *)mapping->whole);
    const size_t after = mapping->whole_bytes - before - mapping->size_bytes;
    (void)munmap(mapping->whole, before); /* neither can fail: the ranges are whole and ours */
    (void)munmap((char *)mapping->base + mapping->size_bytes, after);
    mapping->whole = NULL;
    return code;
}

/* Memory with a descriptor, whose size nobody can change any more. */
static int open_shared(size_t size_bytes, bool huge) {
    const unsigned int kind = huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0;
    const int fd = memfd_create("safering", MFD_CLOEXEC | MFD_ALLOW_SEALING | kind);
    if (fd < 0) {
        return -errno;
    }
    if (ftruncate(fd, (off_t)size_bytes) != 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        const int code = -errno;
        (void)close(fd);
        return code;
    }
    return fd;
}

/* Makes the reserved addresses usable: of their own, of new shared memory, or as a further view. */
static int make_usable(const struct sri_map_options *options, bool huge,
                       struct sri_mapping *mapping) {
    int code = 0;
    if (options->view_of >= 0) {
        code = map_shared(mapping, options->view_of);
    } else if (options->shared) {
        mapping->fd = open_shared(options->size_bytes, huge);
        code = mapping->fd < 0 ? mapping->fd : map_shared(mapping, mapping->fd);
    } else {
        code = sri_mapping_protect(mapping->base, mapping->size_bytes, SRI_RIGHTS_ALL);
    }
    /* DONTFORK: a child's copy-on-write would let the kernel write to the parent's old pages. */
    if (code == 0 && madvise(mapping->base, mapping->size_bytes, MADV_DONTFORK) != 0) {
        code = -errno;
    }
    return code;
}

/* After a failure, whatever of a mapping there is. */
static void give_up(struct sri_mapping *mapping) {
    if (mapping->whole != NULL) {
        sri_mapping_end(mapping);
    } else if (mapping->fd >= 0) {
        (void)close(mapping->fd);
    }
}

/* Touches every page, so that memory that is not there is an error now and not a signal later. */
static int populate(const struct sri_mapping *mapping) {
    if (madvise(mapping->base, mapping->size_bytes, SRI_MADV_POPULATE_WRITE) == 0) {
        return 0;
    }
    return errno == EFAULT ? -ENOMEM : -errno; /* EFAULT: a touch would be a SIGBUS */
}

/* Binds, touches and verifies, as far as it was asked for. Returns why the pages could not be
 * touched; what the placement came to is in the outcome. */
static int place_and_populate(const struct sri_map_options *options, size_t page_bytes,
                              struct sri_mapping *mapping) {
    struct sri_map_outcome *outcome = &mapping->outcome;
    struct sri_nodes nodes;
    const bool placed = options->place != SR_PLACE_ANY;
    if (placed) {
        outcome->place_error = sri_numa_bind(options, mapping, &nodes, &outcome->node);
    }
    const bool bound = placed && outcome->place_error == 0;
    if (!bound && options->pages == SR_PAGES_NORMAL) {
        return 0;
    }
    const int code = populate(mapping);
    if (code < 0) {
        return code;
    }
    if (bound) {
        outcome->place_error =
            sri_numa_verify(options->place, mapping, &nodes, page_bytes, &outcome->verified_bytes);
        outcome->place = outcome->place_error == 0 ? options->place : (uint32_t)SR_PLACE_ANY;
    }
    return 0;
}

static int make_of_huge_pages(const struct sri_map_options *options,
                              struct sri_mapping *out_mapping) {
    /* Without a reservation: it would be made for the guards too. Touching all pages tells. */
    const int flags = MAP_HUGETLB | (int)MAP_HUGE_2MB;
    int code = options->shared ? reserve(options, PAGE_BYTES, 0, out_mapping)
                               : reserve(options, SRI_HUGE_PAGE_BYTES, flags, out_mapping);
    if (code < 0) {
        return code;
    }
    code = make_usable(options, true, out_mapping);
    if (code == 0) {
        code = place_and_populate(options, SRI_HUGE_PAGE_BYTES, out_mapping);
    }
    if (code < 0) {
        give_up(out_mapping);
        return code;
    }
    out_mapping->outcome.pages = SR_PAGES_HUGE;
    out_mapping->outcome.huge_bytes = out_mapping->size_bytes;
    return 0;
}

/* What came of the wish for transparent huge pages, after all pages were touched. @advised: how the
 * kernel answered to it. @why_not_huge: 0 if no other kind was wanted. */
static void judge_pages(int advised, int why_not_huge, struct sri_map_outcome *outcome,
                        const struct sri_mapping *mapping) {
    int code = advised;
    if (code == 0) {
        code = sri_huge_count(mapping->base, mapping->size_bytes, &outcome->huge_bytes);
        outcome->pages = SR_PAGES_THP;
    }
    if (code == 0 && outcome->huge_bytes == 0) {
        code = SR_E_UNSUPPORTED; /* switched off, or no 2 MiB of memory in one piece */
        outcome->pages = SR_PAGES_NORMAL;
    }
    outcome->pages_error = why_not_huge != 0 ? why_not_huge : code;
}

static int make_of_ordinary_pages(const struct sri_map_options *options, int why_not_huge,
                                  struct sri_mapping *out_mapping) {
    int advised = 0;
    int code = reserve(options, PAGE_BYTES, 0, out_mapping);
    if (code < 0) {
        return code;
    }
    code = make_usable(options, false, out_mapping);
    if (code == 0 && options->pages != SR_PAGES_NORMAL) {
        const int failed = madvise(out_mapping->base, out_mapping->size_bytes, MADV_HUGEPAGE);
        advised = failed != 0 ? -errno : 0;
    }
    if (code == 0) {
        code = place_and_populate(options, PAGE_BYTES, out_mapping);
    }
    if (code < 0) {
        give_up(out_mapping);
        return code;
    }
    if (options->pages != SR_PAGES_NORMAL) {
        judge_pages(advised, why_not_huge, &out_mapping->outcome, out_mapping);
    }
    return 0;
}

int sri_mapping_make(const struct sri_map_options *options, struct sri_mapping *out_mapping) {
    int code = options->pages == SR_PAGES_HUGE ? make_of_huge_pages(options, out_mapping)
                                               : SR_E_UNSUPPORTED;
    if (code < 0) {
        const int why_not_huge = options->pages == SR_PAGES_HUGE ? code : 0;
        code = make_of_ordinary_pages(options, why_not_huge, out_mapping);
    }
    if (code < 0) {
        return code;
    }
    const int place_error = out_mapping->outcome.place_error;
    if (options->strict && place_error < 0) {
        sri_mapping_end(out_mapping);
        return place_error;
    }
    return 0;
}

int sri_mapping_protect(void *memory, size_t size_bytes, enum sri_rights rights) {
    static const int protections[] = {
        [SRI_RIGHTS_NONE] = PROT_NONE,
        [SRI_RIGHTS_READ] = PROT_READ,
        [SRI_RIGHTS_ALL] = PROT_READ | PROT_WRITE,
    };
    return mprotect(memory, size_bytes, protections[rights]) == 0 ? 0 : -errno;
}
