/* SPDX-License-Identifier: MIT */
/*
 * The public functions as the headers declare them, read when the test runs, so that a function
 * without a row in the tables of misuse fails them.
 */
#ifndef SAFERING_TESTS_MISUSE_DECLARATIONS_H
#define SAFERING_TESTS_MISUSE_DECLARATIONS_H

#include <criterion/criterion.h>
#include <ctype.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define DECLARATIONS_MAX 256

struct declaration {
    char name[64];
    char parameters[512];
};

struct declarations {
    size_t count;
    struct declaration list[DECLARATIONS_MAX];
};

/* Comments become blanks; so do preprocessor lines, which speak of SR_API without declaring. */
static inline void declarations_blank(char *text) {
    bool in_comment = false;
    bool in_directive = false;
    for (char *at = text; *at != '\0'; at++) {
        const bool line_starts = at == text || at[-1] == '\n';
        if (!in_comment && at[0] == '/' && at[1] == '*') {
            in_comment = true;
        }
        if (!in_comment && line_starts && *at == '#') {
            in_directive = true;
        }
        if (in_directive && at[0] == '\\' && at[1] == '\n') {
            at[0] = at[1] = ' '; /* goes on in the next line */
        }
        if (in_comment && at[0] == '*' && at[1] == '/') {
            at[0] = at[1] = ' ';
            in_comment = false;
        } else if (in_directive && *at == '\n') {
            in_directive = false;
        } else if (in_comment || in_directive) {
            *at = *at == '\n' ? '\n' : ' ';
        }
    }
}

/* One declaration: what follows SR_API up to the semicolon. */
static inline void declarations_add(struct declarations *found, const char *text) {
    const char *open = strchr(text, '(');
    const char *end = strchr(text, ';');
    cr_assert(open != NULL && end != NULL && open < end, "no declaration after SR_API");
    const char *name = open;
    while (name > text && (isalnum((unsigned char)name[-1]) || name[-1] == '_')) {
        name--;
    }
    cr_assert_lt(found->count, DECLARATIONS_MAX);
    struct declaration *one = &found->list[found->count++];
    (void)snprintf(one->name, sizeof one->name, "%.*s", (int)(open - name), name);
    (void)snprintf(one->parameters, sizeof one->parameters, "%.*s", (int)(end - open), open);
}

static inline void declarations_read_file(struct declarations *found, const char *path) {
    static char text[256 * 1024];
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file, "%s", path);
    const size_t length = fread(text, 1, sizeof text - 1, file);
    cr_assert(feof(file) && length > 0, "%s is larger than this test thinks", path);
    (void)fclose(file);
    text[length] = '\0';
    declarations_blank(text);
    for (char *at = text; (at = strstr(at, "SR_API")) != NULL; at++) {
        declarations_add(found, at + strlen("SR_API"));
    }
}

/* Skips the test where the sources cannot be read (as another user, for example). */
static inline const struct declarations *declarations_read(void) {
    static struct declarations found;
    char folder[512];
    found.count = 0;
    const char *slash = strrchr(__FILE__, '/');
    cr_assert_not_null(slash);
    (void)snprintf(folder, sizeof folder, "%.*s/../../include/safering", (int)(slash - __FILE__),
                   __FILE__);
    DIR *directory = opendir(folder);
    if (directory == NULL) {
        cr_skip_test("the public headers are not readable: %s", folder);
    }
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        char path[1024];
        const size_t length = strlen(entry->d_name);
        /* worker.h is of another library, which has no misuse hook. */
        if (length > 2 && strcmp(entry->d_name + length - 2, ".h") == 0 &&
            strcmp(entry->d_name, "worker.h") != 0) {
            (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
            declarations_read_file(&found, path);
        }
    }
    (void)closedir(directory);
    cr_assert_gt(found.count, 30, "%zu functions are too few to be true", found.count);
    return &found;
}

static inline const struct declaration *declarations_find(const struct declarations *found,
                                                          const char *name) {
    for (size_t i = 0; i < found->count; i++) {
        if (strcmp(found->list[i].name, name) == 0) {
            return &found->list[i];
        }
    }
    return NULL;
}

#endif
