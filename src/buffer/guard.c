/* SPDX-License-Identifier: MIT */
#include "buffer/guard.h"

#include <safering/buffer.h>
#include <stdlib.h>
#include <string.h>

#ifdef SAFERING_HAVE_VALGRIND
#include <valgrind/memcheck.h>
#endif

/* Weak: NULL unless the process runs with AddressSanitizer (sanitizer/asan_interface.h). */
extern void __asan_poison_memory_region(const volatile void *memory, size_t size_bytes)
    __attribute__((weak));
extern void __asan_unpoison_memory_region(const volatile void *memory, size_t size_bytes)
    __attribute__((weak));

uint32_t sri_guard_choose(uint32_t option) {
    if (option != SR_GUARD_DEFAULT) {
        return option <= SR_GUARD_PROTECT ? option : 0;
    }
    const char *wish = getenv("SAFERING_GUARD");
    if (wish == NULL) {
        return SR_GUARD_OFF;
    }
    return strcmp(wish, "protect") == 0  ? SR_GUARD_PROTECT
           : strcmp(wish, "poison") == 0 ? SR_GUARD_POISON
                                         : SR_GUARD_OFF;
}

bool sri_guard_has_asan(void) {
    return __asan_poison_memory_region != NULL && __asan_unpoison_memory_region != NULL;
}

bool sri_guard_has_valgrind(void) {
#ifdef SAFERING_HAVE_VALGRIND
    return RUNNING_ON_VALGRIND != 0;
#else
    return false;
#endif
}

void sri_guard_poison(const void *memory, size_t size_bytes) {
    if (sri_guard_has_asan()) {
        __asan_poison_memory_region(memory, size_bytes);
    }
}

void sri_guard_unpoison(const void *memory, size_t size_bytes) {
    if (sri_guard_has_asan()) {
        __asan_unpoison_memory_region(memory, size_bytes);
    }
}

/* Depends on the address, so that a copied canary is not whole elsewhere. */
static unsigned char canary_byte(const void *where) {
    return (unsigned char)(((uintptr_t)where * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

void sri_guard_canary_write(void *canary) {
    sri_guard_unpoison(canary, SRI_CANARY_BYTES);
    unsigned char *bytes = canary;
    for (size_t i = 0; i < SRI_CANARY_BYTES; i++) {
        bytes[i] = canary_byte(&bytes[i]);
    }
    sri_guard_poison(canary, SRI_CANARY_BYTES);
}

/* Canaries are poisoned; this is the one place that may look at them. */
__attribute__((no_sanitize("address"))) bool sri_guard_canary_is_whole(const void *canary) {
    const unsigned char *bytes = canary;
    bool whole = true;
    for (size_t i = 0; i < SRI_CANARY_BYTES; i++) {
        whole = whole && bytes[i] == canary_byte(&bytes[i]);
    }
    return whole;
}

void sri_guard_mark_written(const void *memory, size_t size_bytes) {
#ifdef SAFERING_HAVE_VALGRIND
    VALGRIND_MAKE_MEM_DEFINED(memory, size_bytes);
#else
    (void)memory;
    (void)size_bytes;
#endif
}
