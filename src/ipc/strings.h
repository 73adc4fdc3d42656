/* SPDX-License-Identifier: MIT */
/* Strings: lists of texts as execve(2) has them, NULL at the end. */
#ifndef SAFERING_IPC_STRINGS_H
#define SAFERING_IPC_STRINGS_H

#include <stdint.h>

/* The strings of a list (or NULL) without its end; one more than a launcher takes stands for any
 * greater number. */
uint32_t sri_count_strings(const char *const *list);

/* A list of copies in one piece of memory, which sri_release() frees: @first, those of @list and
 * @last, each if it is not NULL. NULL: no memory, or more than a launcher takes. */
const char **sri_copy_strings(const char *first, const char *const *list, const char *last);

#endif
