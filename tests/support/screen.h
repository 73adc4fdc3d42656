/* SPDX-License-Identifier: MIT */
/*
 * Screen: stands between a ring and its completions. A test keeps those that it chooses and shows
 * them later, in another order, or more than once; what the kernel has done by then it has done.
 *
 * One ring per process, opened between screen_install() and screen_remove(), by the thread that
 * calls the functions below.
 */
#ifndef SAFERING_TESTS_SUPPORT_SCREEN_H
#define SAFERING_TESTS_SUPPORT_SCREEN_H

#include "sys/backend.h"
#include <stdbool.h>
#include <stdint.h>

/* In front of the backend of this kind; nothing is kept yet. */
void screen_install(enum sri_backend_kind kind);
void screen_remove(void);

/* From now on completions of which @keeps says so are kept; NULL: none more. */
void screen_keep(bool (*keeps)(const struct sri_cqe *cqe));
uint32_t screen_kept_count(void);
/* Those that the ring could see since screen_install(). */
uint32_t screen_shown_count(void);
/* Shows kept completion @index (0: the oldest) to the ring, which will find it in its queue when it
 * looks next. It stays kept: shown again it is a duplicate. */
void screen_show(uint32_t index);

#endif
