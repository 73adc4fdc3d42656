/* SPDX-License-Identifier: MIT */
#include "support/hold.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE_BYTES ((size_t)4096)

static const char *reason(const char *what) {
    static char text[128];
    (void)snprintf(text, sizeof text, "%s: %s", what, strerror(errno));
    return text;
}

static const char *give_back(struct hold *hold, const char *why) {
    (void)close(hold->fd); /* no data in it that could be lost */
    hold->fd = -1;
    return why;
}

const char *hold_begin(struct hold *out_hold, void *memory, size_t size_bytes) {
    *out_hold = (struct hold){-1, memory, size_bytes};
    /* Without USER_MODE_ONLY: it is the kernel's own accesses that must wait. */
    out_hold->fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (out_hold->fd < 0) {
        return reason("userfaultfd(2) is missing or denied (vm.unprivileged_userfaultfd)");
    }
    struct uffdio_api api = {.api = UFFD_API};
    if (ioctl(out_hold->fd, UFFDIO_API, &api) != 0) {
        return give_back(out_hold, reason("userfaultfd: UFFDIO_API"));
    }
    if (madvise(memory, size_bytes, MADV_DONTNEED) != 0) {
        return give_back(out_hold, reason("madvise(MADV_DONTNEED)"));
    }
    struct uffdio_register range = {
        .range = {(uintptr_t)memory, size_bytes},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };
    if (ioctl(out_hold->fd, UFFDIO_REGISTER, &range) != 0) {
        return give_back(out_hold, reason("userfaultfd: UFFDIO_REGISTER"));
    }
    return NULL;
}

bool hold_wait(struct hold *hold, uint32_t timeout_ms, size_t *out_offset) {
    struct pollfd ready = {.fd = hold->fd, .events = POLLIN};
    struct uffd_msg event;
    while (poll(&ready, 1, (int)timeout_ms) > 0) {
        const ssize_t got = read(hold->fd, &event, sizeof event);
        if (got == (ssize_t)sizeof event && event.event == UFFD_EVENT_PAGEFAULT) {
            if (out_offset != NULL) {
                *out_offset = (size_t)(event.arg.pagefault.address - (uintptr_t)hold->memory);
            }
            return true;
        }
    }
    return false;
}

void hold_release_page(struct hold *hold, size_t offset_bytes) {
    struct uffdio_zeropage page = {
        .range = {(uintptr_t)hold->memory + (offset_bytes & ~(PAGE_BYTES - 1)), PAGE_BYTES},
    };
    if (ioctl(hold->fd, UFFDIO_ZEROPAGE, &page) != 0 && errno != EEXIST) {
        perror("userfaultfd: UFFDIO_ZEROPAGE");
        abort();
    }
}

void hold_release(struct hold *hold) {
    if (hold->fd < 0) {
        return;
    }
    /* Unregistering also wakes whoever waits; each then gets an ordinary zero page. */
    struct uffdio_range range = {(uintptr_t)hold->memory, hold->size_bytes};
    if (ioctl(hold->fd, UFFDIO_UNREGISTER, &range) != 0) {
        perror("userfaultfd: UFFDIO_UNREGISTER");
        abort();
    }
    (void)give_back(hold, NULL);
}
