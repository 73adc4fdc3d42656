/* SPDX-License-Identifier: MIT */
/*
 * Hold: memory whose pages do not exist until the test says so (userfaultfd(2)). An operation that
 * touches it stays in the kernel, in flight, for as long as the test wishes.
 *
 * The operation needs SR_REQUEST_ASYNC, so that a kernel worker and not the test's own thread runs
 * into the missing page, and a buffer that is not registered with the kernel: registering pins the
 * pages, that is, waits for them (failing_refuse_registration() makes plain buffers). The test
 * itself must not touch the memory before hold_release(): it would wait for itself.
 */
#ifndef SAFERING_TESTS_SUPPORT_HOLD_H
#define SAFERING_TESTS_SUPPORT_HOLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hold {
    int fd; /* -1: released */
    char *memory;
    size_t size_bytes;
};

/*
 * Drops the pages of @memory (whole pages, private and anonymous, such as sr_region_base() or a
 * range for sr_region_adopt()) and holds back new ones. Its contents are zero afterwards. Returns
 * NULL, or why it cannot be done here.
 */
const char *hold_begin(struct hold *out_hold, void *memory, size_t size_bytes);

/* Waits until one more access has run into a missing page. @out_offset may be NULL. */
bool hold_wait(struct hold *hold, uint32_t timeout_ms, size_t *out_offset);

/* Lets what waits for the page at @offset_bytes go on; the other pages stay held. */
void hold_release_page(struct hold *hold, size_t offset_bytes);

/* Ends the hold: everything that waits goes on, the memory is ordinary again. May be called twice.
 */
void hold_release(struct hold *hold);

#endif
