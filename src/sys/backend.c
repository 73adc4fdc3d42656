/* SPDX-License-Identifier: MIT */
#include "sys/backend.h"

#include <errno.h>
#include <stdlib.h>

static _Atomic(const struct sri_backend *) current;

/* What the environment asks for, or NULL. Asked once, so that all objects agree. */
static const struct sri_backend *wished(void) {
    static _Atomic int known; /* 1: no wish; else 1 + enum sri_backend_kind */
    int answer = atomic_load_explicit(&known, memory_order_relaxed);
    if (SRI_UNLIKELY(answer == 0)) {
        const char *wish = getenv("SAFERING_BACKEND");
        answer = 1;
        if (wish != NULL && strcmp(wish, sri_backend_uring.name) == 0) {
            answer += SRI_BACKEND_URING;
        } else if (wish != NULL && strcmp(wish, sri_backend_fallback.name) == 0) {
            answer += SRI_BACKEND_FALLBACK;
        }
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer > 1 ? sri_backend_of((enum sri_backend_kind)(answer - 1)) : NULL;
}

const struct sri_backend *sri_backend_of(enum sri_backend_kind kind) {
    return kind == SRI_BACKEND_FALLBACK ? &sri_backend_fallback : &sri_backend_uring;
}

const struct sri_backend *sri_backend_real(void) {
    const struct sri_backend *backend = wished();
    return backend != NULL ? backend : &sri_backend_uring;
}

const struct sri_backend *sri_backend(void) {
    const struct sri_backend *backend = atomic_load_explicit(&current, memory_order_relaxed);
    return backend != NULL ? backend : sri_backend_real();
}

void sri_backend_set(const struct sri_backend *backend) {
    atomic_store(&current, backend);
}

const struct sri_backend *sri_backend_instead(const struct sri_backend *refused, int code) {
    const bool is_missing =
        code == -EPERM || code == -ENOSYS || code == -ENOMEM || code == SR_E_UNSUPPORTED;
    return is_missing && refused == &sri_backend_uring && wished() == NULL ? &sri_backend_fallback
                                                                           : NULL;
}
