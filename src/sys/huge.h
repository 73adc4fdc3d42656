/* SPDX-License-Identifier: MIT */
/* Huge pages: how many bytes of a mapping the kernel maps by pages of 2 MiB. */
#ifndef SAFERING_SYS_HUGE_H
#define SAFERING_SYS_HUGE_H

#include <stddef.h>
#include <stdint.h>

#define SRI_HUGE_PAGE_BYTES ((size_t)2 << 20)

/* Transparent ones in [@memory, @memory + @size_bytes), which are whole mappings. Returns 0, or a
 * negative errno if the kernel does not tell. */
int sri_huge_count(const void *memory, size_t size_bytes, uint64_t *out_bytes);

#endif
