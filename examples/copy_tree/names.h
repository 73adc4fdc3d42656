/* SPDX-License-Identifier: MIT */
/* Names: any bytes but '/' and NUL. How they are listed, shown to people, and made up. */
#ifndef COPY_TREE_NAMES_H
#define COPY_TREE_NAMES_H

#include <stddef.h>

/** The entries of a directory, in one piece of memory: each is a type byte (DT_*) and a name. */
struct listing {
    char *bytes;
    size_t used;
    size_t room;
    size_t next; /* where the next entry starts */
};

/** listing_add() - Return: 0 or -ENOMEM. */
int listing_add(struct listing *listing, unsigned char type, const char *name);

/** listing_read() - add all entries of directory @fd (borrows). Return: 0 or a negative code. */
int listing_read(struct listing *listing, int fd);

/** listing_next() - the next entry; its name lives as long as the listing. NULL: no more. */
const char *listing_next(struct listing *listing, unsigned char *out_type);

void listing_deinit(struct listing *listing);

/**
 * name_quoted() - @path in quotes on one line, safe for terminals: returns owned, end with free()
 *
 * Valid UTF-8 stays as it is; quotes, control characters and stray bytes become escapes.
 *
 * Return:  NULL if there is no memory.
 */
char *name_quoted(const char *path);

#define NAME_TEMPORARY_SIZE 48

/** name_temporary() - a name that nobody uses: random for the process, then counted. */
void name_temporary(char out_name[NAME_TEMPORARY_SIZE]);

#endif
