/* SPDX-License-Identifier: MIT */
#include "sys/backend.h"

static _Atomic(const struct sri_backend *) current;

const struct sri_backend *sri_backend(void) {
    const struct sri_backend *backend = atomic_load_explicit(&current, memory_order_relaxed);
    return backend != NULL ? backend : &sri_backend_uring;
}

void sri_backend_set(const struct sri_backend *backend) {
    atomic_store(&current, backend);
}
