/* SPDX-License-Identifier: MIT */
#include "sys/numa.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <safering/buffer.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORD_BITS (8 * sizeof(unsigned long))
/* The calls take one bit more than they look at. */
#define BITS_GIVEN (SRI_NODES_MAX + 1ul)
/* Pages per question to the kernel; bounds the stack that it takes. */
#define PAGES_ASKED 256u

static bool has_node(const struct sri_nodes *nodes, uint32_t node) {
    return node < SRI_NODES_MAX && (nodes->words[node / WORD_BITS] >> (node % WORD_BITS) & 1u) != 0;
}

static struct sri_nodes only_node(uint32_t node) {
    struct sri_nodes nodes = {0};
    nodes.words[node / WORD_BITS] = 1ul << (node % WORD_BITS);
    return nodes;
}

static int nodes_allowed(struct sri_nodes *out_nodes) {
    *out_nodes = (struct sri_nodes){0};
    const long failed = syscall(SYS_get_mempolicy, NULL, out_nodes->words, BITS_GIVEN, NULL,
                                (unsigned long)MPOL_F_MEMS_ALLOWED);
    return failed != 0 ? -errno : 0;
}

int sri_numa_bind(const struct sri_map_options *options, const struct sri_mapping *mapping,
                  struct sri_nodes *out_nodes, uint32_t *out_node) {
    int code = nodes_allowed(out_nodes);
    if (code < 0) {
        return code;
    }
    *out_node = options->node;
    if (options->place == SR_PLACE_LOCAL && getcpu(NULL, out_node) != 0) {
        return -errno;
    }
    if (options->place != SR_PLACE_INTERLEAVE) {
        if (!has_node(out_nodes, *out_node)) {
            return -ENODEV;
        }
        *out_nodes = only_node(*out_node);
    }
    /* Preferred, not bound: what is bound to a node that is full summons the OOM killer. Whether
     * the wish was met is seen afterwards. */
    const int mode =
        options->place == SR_PLACE_INTERLEAVE ? (int)MPOL_INTERLEAVE : (int)MPOL_PREFERRED;
    const long failed = syscall(SYS_mbind, mapping->base, mapping->size_bytes, mode,
                                out_nodes->words, BITS_GIVEN, 0u);
    return failed != 0 ? -errno : 0;
}

/* Of the nodes where memory is interleaved, each must have at least half of its fair share. */
static bool is_even(const struct sri_nodes *nodes, const uint64_t *counts, uint64_t total) {
    uint64_t node_count = 0;
    for (uint32_t node = 0; node < SRI_NODES_MAX; node++) {
        node_count += has_node(nodes, node);
    }
    for (uint32_t node = 0; node < SRI_NODES_MAX; node++) {
        if (has_node(nodes, node) && counts[node] < total / node_count / 2) {
            return false;
        }
    }
    return true;
}

/* Counts up to PAGES_ASKED pages from @first on by node. Returns 0 or why one could not be seen. */
static int count_some(char *first, size_t page_bytes, size_t page_count, uint64_t *counts) {
    void *pages[PAGES_ASKED];
    int nodes[PAGES_ASKED];
    for (size_t i = 0; i < page_count; i++) {
        pages[i] = first + i * page_bytes;
        nodes[i] = -ENOENT;
    }
    if (syscall(SYS_move_pages, 0, (unsigned long)page_count, pages, NULL, nodes, 0) < 0) {
        return -errno;
    }
    int code = 0;
    for (size_t i = 0; i < page_count; i++) {
        if (nodes[i] >= 0 && nodes[i] < (int)SRI_NODES_MAX) {
            counts[nodes[i]]++;
        } else {
            code = nodes[i] < 0 ? nodes[i] : -ENODEV;
        }
    }
    return code;
}

int sri_numa_verify(uint32_t place, const struct sri_mapping *mapping,
                    const struct sri_nodes *nodes, size_t page_bytes,
                    uint64_t *out_verified_bytes) {
    const size_t page_count = mapping->size_bytes / page_bytes;
    uint64_t counts[SRI_NODES_MAX] = {0};
    uint64_t well_placed = 0;
    int code = 0;
    for (size_t i = 0; i < page_count && code == 0; i += PAGES_ASKED) {
        const size_t rest = page_count - i;
        code = count_some((char *)mapping->base + i * page_bytes, page_bytes,
                          rest < PAGES_ASKED ? rest : PAGES_ASKED, counts);
    }
    for (uint32_t node = 0; node < SRI_NODES_MAX; node++) {
        well_placed += has_node(nodes, node) ? counts[node] : 0;
    }
    *out_verified_bytes = well_placed * page_bytes;
    if (code < 0) {
        return code;
    }
    const bool met = well_placed == page_count &&
                     (place != SR_PLACE_INTERLEAVE || is_even(nodes, counts, page_count));
    return met ? 0 : -ENOMEM;
}
