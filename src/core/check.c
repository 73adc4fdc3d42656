/* SPDX-License-Identifier: MIT */
#include "core/check.h"

#include <safering/hooks.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More is no options struct but a size that was never set. */
#define OPTIONS_SIZE_MAX 4096u

/* Two words that are set together before other threads start (documented), so a torn pair is not
 * possible in a correct program; atomics keep an incorrect one defined. */
static _Atomic(sr_misuse_fn) misuse_hook;
static _Atomic(void *) misuse_ctx;

void sr_set_misuse_hook(sr_misuse_fn hook, void *ctx) {
    atomic_store(&misuse_ctx, ctx);
    atomic_store(&misuse_hook, hook);
}

int sri_misuse(int code, const char *function, uint64_t handle) {
    const sr_misuse_fn hook = atomic_load(&misuse_hook);
    if (hook != NULL) {
        hook(code, function, handle, atomic_load(&misuse_ctx));
    }
    return code;
}

_Noreturn void sri_check_failed(const char *file, int line, const char *expression) {
    fprintf(stderr, "safering: %s:%d: broken promise: %s\n", file, line, expression);
    abort();
}

bool sri_options_take(void *known, size_t known_size, const void *options) {
    if (options == NULL) {
        return true;
    }
    const unsigned char *bytes = options;
    size_t size = 0;
    memcpy(&size, options, sizeof size);
    if (size < sizeof size || size > OPTIONS_SIZE_MAX) {
        return false;
    }
    for (size_t i = known_size; i < size; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    memcpy(known, options, size < known_size ? size : known_size);
    return true;
}

bool sri_stats_size_is_valid(size_t size) {
    return size >= sizeof size && size <= OPTIONS_SIZE_MAX;
}

void sri_stats_give(void *out_stats, const void *stats, size_t known_size) {
    size_t size = 0;
    memcpy(&size, out_stats, sizeof size);
    unsigned char *bytes = out_stats;
    const size_t shared = size < known_size ? size : known_size;
    memcpy(bytes + sizeof size, (const unsigned char *)stats + sizeof size, shared - sizeof size);
    memset(bytes + shared, 0, size - shared);
}
