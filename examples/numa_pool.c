/* SPDX-License-Identifier: MIT */
/* numa_pool PATH: counts the bytes of a file, read into memory of this CPU's NUMA node, of huge
 * pages where there are some, and says what it got. */
#include <errno.h>
#include <fcntl.h>
#include <safering/safering.h>
#include <stdio.h>

#define BUFFER_BYTES ((size_t)2 << 20)

static int make_pool(sr_region **out_region, sr_pool **out_pool) {
    sr_region_options region_options = SR_REGION_OPTIONS_INIT;
    sr_pool_options pool_options = SR_POOL_OPTIONS_2M;
    region_options.placement = SR_PLACE_LOCAL; /* with SR_PLACE_STRICT: or fail */
    region_options.pages = SR_PAGES_HUGE;      /* or transparent ones, or normal ones */
    pool_options.buffer_count = 2;
    pool_options.guard = SR_GUARD_OFF; /* canaries would need room behind each buffer */
    const int code = sr_region_create(2 * BUFFER_BYTES, &region_options, out_region);
    return code < 0 ? code : sr_pool_create(*out_region, &pool_options, out_pool);
}

static int print_memory(const sr_region *region) {
    static const char *const kinds[] = {"normal", "transparent huge", "huge"};
    sr_region_stats stats = SR_REGION_STATS_INIT;
    const int code = sr_region_get_stats(region, &stats);
    if (code < 0) {
        return code;
    }
    if (stats.placement == SR_PLACE_LOCAL) {
        printf("memory: all %llu bytes are on node %u\n", (unsigned long long)stats.verified_bytes,
               stats.node);
    } else {
        printf("memory: somewhere, because: %s\n", sr_strerror(stats.placement_error));
    }
    printf("pages: %s", kinds[stats.pages]);
    if (stats.pages != stats.pages_wanted) {
        printf(", because: %s", sr_strerror(stats.pages_error));
    }
    printf("\n");
    return 0;
}

static int64_t count_bytes(sr_ring *ring, sr_pool *pool, int fd) {
    sr_request request = SR_REQUEST_INIT;
    const sr_completion *done = NULL;
    int code = sr_file_adopt(ring, fd, 0, &request.file); /* the ring closes it */
    code = code < 0 ? code : sr_pool_acquire(pool, BUFFER_BYTES, &request.buffer);
    request.op = SR_OP_READ;
    request.length = BUFFER_BYTES;
    while (code == 0) {
        code = sr_ring_submit(ring, &request, NULL);
        code = code < 0 ? code : sr_ring_wait(ring, 1, SR_FOREVER, NULL, &done);
        if (code < 0 || done[0].result <= 0) {
            return code < 0 ? code : done[0].result < 0 ? done[0].result : (int64_t)request.offset;
        }
        request.offset += (uint64_t)done[0].result;
        code = 0;
    }
    return code;
}

int main(int argc, char **argv) {
    sr_region *region = NULL;
    sr_pool *pool = NULL;
    sr_ring *ring = NULL;
    if (argc != 2) {
        fprintf(stderr, "usage: numa_pool PATH\n");
        return 2;
    }
    const int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
    int64_t result = fd < 0 ? -errno : make_pool(&region, &pool);
    result = result < 0 ? result : print_memory(region);
    result = result < 0 ? result : sr_ring_create(NULL, &ring);
    result = result < 0 ? result : sr_ring_attach_pool(ring, pool);
    result = result < 0 ? result : count_bytes(ring, pool, fd);
    const int ring_end =
        sr_ring_destroy(&ring); /* first the ring, then its pool, then its memory */
    const int pool_end = sr_pool_destroy(&pool);
    const int region_end = sr_region_destroy(&region);
    const int end = ring_end < 0 ? ring_end : pool_end < 0 ? pool_end : region_end;
    result = result >= 0 && end < 0 ? end : result;
    if (result < 0) {
        fprintf(stderr, "numa_pool: %s: %s\n", argv[1], sr_strerror((int)result));
        return 1;
    }
    printf("read: %lld bytes\n", (long long)result);
    return 0;
}
