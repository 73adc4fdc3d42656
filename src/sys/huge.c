/* SPDX-License-Identifier: MIT */
#include "sys/huge.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Kilobytes in a line of smaps that counts huge pages, or 0. */
static uint64_t huge_kib_of(const char *line) {
    static const char *const names[] = {"AnonHugePages:", "ShmemPmdMapped:"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        uint64_t kib = 0;
        if (strncmp(line, names[i], strlen(names[i])) == 0 &&
            sscanf(line + strlen(names[i]), "%" SCNu64, &kib) == 1) {
            return kib;
        }
    }
    return 0;
}

/* There is a system call for this (PAGEMAP_SCAN), but only since Linux 6.7. */
int sri_huge_count(const void *memory, size_t size_bytes, uint64_t *out_bytes) {
    const uintptr_t begin = (uintptr_t)memory;
    char line[512]; /* a longer one names a file: its tail looks like none of ours */
    bool inside = false;
    *out_bytes = 0;
    FILE *smaps = fopen("/proc/self/smaps", "re");
    if (smaps == NULL) {
        return -errno;
    }
    while (fgets(line, sizeof line, smaps) != NULL) {
        uintptr_t first = 0;
        uintptr_t last = 0;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &first, &last) == 2) {
            if (first >= begin + size_bytes) {
                break;
            }
            inside = first >= begin && last <= begin + size_bytes;
        } else if (inside) {
            *out_bytes += huge_kib_of(line) * 1024;
        }
    }
    (void)fclose(smaps); /* was only read */
    return 0;
}
