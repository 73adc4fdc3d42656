/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "links.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS_MIN 256

static struct link **bucket_of(const struct links *links, const struct identity *identity) {
    uint64_t mixed = identity->inode * 0x9e3779b97f4a7c15u;
    mixed ^= ((uint64_t)identity->device_major << 32 | identity->device_minor) + (mixed >> 29);
    return &links->buckets[mixed & (links->bucket_count - 1)];
}

static int grow(struct links *links) {
    struct links larger = {
        .bucket_count = links->bucket_count > 0 ? links->bucket_count * 2 : BUCKETS_MIN,
        .count = links->count,
    };
    larger.buckets = calloc(larger.bucket_count, sizeof(*larger.buckets));
    if (larger.buckets == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < links->bucket_count; i++) {
        while (links->buckets[i] != NULL) {
            struct link *link = links->buckets[i];
            links->buckets[i] = link->next;
            struct link **bucket = bucket_of(&larger, &link->identity);
            link->next = *bucket;
            *bucket = link;
        }
    }
    free(links->buckets);
    *links = larger;
    return 0;
}

static struct link *add(struct links *links, const struct statx *stat,
                        const struct identity *identity) {
    if (links->count >= links->bucket_count && grow(links) < 0) {
        return NULL;
    }
    struct link *link = calloc(1, sizeof(*link));
    if (link == NULL) {
        return NULL;
    }
    link->identity = *identity;
    link->names_left = stat->stx_nlink;
    struct link **bucket = bucket_of(links, identity);
    link->next = *bucket;
    *bucket = link;
    links->count++;
    return link;
}

struct link *links_use(struct links *links, const struct statx *stat) {
    struct identity identity = identity_of(stat);
    struct link *link = links->bucket_count > 0 ? *bucket_of(links, &identity) : NULL;
    while (link != NULL && !identity_equal(&link->identity, &identity)) {
        link = link->next;
    }
    if (link == NULL) {
        link = add(links, stat, &identity);
    }
    if (link != NULL) {
        link->users++;
    }
    return link;
}

int links_publish(struct link *link, struct directory *directory, const char *name) {
    link->name = strdup(name);
    if (link->name == NULL) {
        return -ENOMEM;
    }
    directory_reference(directory);
    link->directory = directory;
    return 0;
}

static void free_link(struct link *link, struct tree *tree) {
    if (link->directory != NULL) {
        directory_unreference(tree, link->directory);
    }
    free(link->name);
    free(link);
}

void links_release(struct links *links, struct tree *tree, struct link *link) {
    link->users--;
    if (link->names_left > 0) {
        link->names_left--;
    }
    if (link->users > 0 || link->names_left > 0) {
        return;
    }
    struct link **place = bucket_of(links, &link->identity);
    while (*place != link) {
        place = &(*place)->next;
    }
    *place = link->next;
    links->count--;
    free_link(link, tree);
}

void links_deinit(struct links *links, struct tree *tree) {
    for (size_t i = 0; i < links->bucket_count; i++) {
        while (links->buckets[i] != NULL) {
            struct link *link = links->buckets[i];
            links->buckets[i] = link->next;
            free_link(link, tree);
        }
    }
    free(links->buckets);
    *links = (struct links){0};
}
