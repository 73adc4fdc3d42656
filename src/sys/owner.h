/* SPDX-License-Identifier: MIT */
/*
 * Who is calling? Each thread has a key that no other thread of this process, living or dead, ever
 * had, and that no longer matches in a forked child (docs/adr/0002-owner-token.md).
 *
 * key = token of the thread + era of the process. The token sits in initial-exec TLS, one load. The
 * era sits in a page that the kernel wipes in a child (MADV_WIPEONFORK), one more. No system call,
 * and no address that a later thread could inherit.
 */
#ifndef SAFERING_SYS_OWNER_H
#define SAFERING_SYS_OWNER_H

#include "core/check.h"
#include <stdint.h>

#define SRI_OWNER_ERA_SHIFT 40

#define SRI_OWNER_PAGE_BYTES 4096

extern __thread uint64_t sri_owner_token
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Mapped anew when the first key is made; its first word is the era, 0 before that and in a child.
 * Part of the library's own data, so that it is found without a pointer. */
extern volatile uint64_t sri_owner_page[SRI_OWNER_PAGE_BYTES / sizeof(uint64_t)]
    __attribute__((visibility("hidden")));

static inline uint64_t sri_owner_era(void) {
    return sri_owner_page[0];
}

/* Key of the calling thread; equals no object's key if the thread or the process has none yet. */
static inline uint64_t sri_owner_key(void) {
    return sri_owner_era() + sri_owner_token;
}

/* The key of what no thread of this process owns at the moment; no thread ever has it. */
static inline uint64_t sri_owner_nobody(void) {
    return sri_owner_era() + ((UINT64_C(1) << SRI_OWNER_ERA_SHIFT) - 1);
}

/* Makes sure that the calling thread and process have a key. Returns it, or 0 when memory is short.
 */
uint64_t sri_owner_key_make(void);

/* Whether @key is of a thread of the process before a fork. */
bool sri_owner_is_forked(uint64_t key);

/* Whether the thread of @key, in this process, has not ended yet. */
bool sri_owner_is_alive(uint64_t key);

/* SR_E_FORKED or SR_E_WRONG_THREAD: why @key is not the caller's. */
SRI_COLD int sri_owner_error(uint64_t key);

#endif
