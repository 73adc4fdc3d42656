/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "names.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static int listing_reserve(struct listing *listing, size_t bytes) {
    if (bytes <= listing->room - listing->used) {
        return 0;
    }
    size_t room = (listing->used + bytes) * 2;
    char *grown = realloc(listing->bytes, room);
    if (grown == NULL) {
        return -ENOMEM;
    }
    listing->bytes = grown;
    listing->room = room;
    return 0;
}

int listing_add(struct listing *listing, unsigned char type, const char *name) {
    size_t size = strlen(name) + 1;
    int code = listing_reserve(listing, size + 1);
    if (code < 0) {
        return code;
    }
    listing->bytes[listing->used] = (char)type;
    memcpy(listing->bytes + listing->used + 1, name, size);
    listing->used += size + 1;
    return 0;
}

static bool is_dot_or_dot_dot(const char *name) {
    return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

static int listing_read_stream(struct listing *listing, DIR *stream) {
    for (;;) {
        errno = 0; /* NULL with errno 0 is the end, with another errno a failure */
        const struct dirent *entry = readdir(stream);
        if (entry == NULL) {
            return -errno;
        }
        if (is_dot_or_dot_dot(entry->d_name)) {
            continue;
        }
        int code = listing_add(listing, entry->d_type, entry->d_name);
        if (code < 0) {
            return code;
        }
    }
}

int listing_read(struct listing *listing, int fd) {
    /* closedir() closes what fdopendir() got, and @fd belongs to the ring. */
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (own < 0) {
        return -errno;
    }
    DIR *stream = fdopendir(own);
    if (stream == NULL) {
        int code = -errno;
        (void)close(own); /* nothing was written */
        return code;
    }
    int code = listing_read_stream(listing, stream);
    (void)closedir(stream); /* nothing was written */
    return code;
}

const char *listing_next(struct listing *listing, unsigned char *out_type) {
    if (listing->next >= listing->used) {
        return NULL;
    }
    const char *entry = listing->bytes + listing->next;
    *out_type = (unsigned char)entry[0];
    listing->next += strlen(entry + 1) + 2;
    return entry + 1;
}

void listing_deinit(struct listing *listing) {
    free(listing->bytes);
    *listing = (struct listing){0};
}

/* Length of the well-formed UTF-8 sequence of a printable character at @text, or 0. */
static size_t utf8_length(const unsigned char *text) {
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
    if (text[0] < 0xc2 || text[0] > 0xf4) {
        return 0;
    }
    uint32_t character = text[0] & (0xffu >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
        character = (character << 6) | (text[i] & 0x3fu);
    }
    bool surrogate = character >= 0xd800 && character <= 0xdfff;
    bool control = character < 0xa0; /* U+0080 .. U+009F: some terminals obey them */
    bool direction = (character >= 0x202a && character <= 0x202e) ||
                     (character >= 0x2066 && character <= 0x2069); /* would reorder the line */
    bool valid = character >= smallest[length] && character <= 0x10ffff && !surrogate;
    return valid && !control && !direction ? length : 0;
}

/* Writes the first character of @text to @out, at most 4 bytes; returns the bytes of @text used. */
static size_t quote_one(const unsigned char *text, char *out, size_t *out_length) {
    size_t length = text[0] >= 0x20 && text[0] < 0x7f ? 1 : utf8_length(text);
    if (text[0] == '\'' || text[0] == '\\' || text[0] == '\n') {
        out[0] = '\\';
        out[1] = text[0] == '\n' ? 'n' : (char)text[0];
        *out_length = 2;
        return 1;
    }
    if (length > 0) {
        memcpy(out, text, length);
        *out_length = length;
        return length;
    }
    static const char digits[] = "0123456789abcdef";
    const char escape[] = {'\\', 'x', digits[text[0] >> 4], digits[text[0] & 15]};
    memcpy(out, escape, sizeof(escape));
    *out_length = sizeof(escape);
    return 1;
}

char *name_quoted(const char *path) {
    size_t size = strlen(path) * 4 + 3;
    char *quoted = malloc(size);
    if (quoted == NULL) {
        return NULL;
    }
    char *end = quoted;
    *end++ = '\'';
    for (const unsigned char *text = (const unsigned char *)path; *text != '\0';) {
        size_t length = 0;
        text += quote_one(text, end, &length);
        end += length;
    }
    *end++ = '\'';
    *end = '\0';
    return quoted;
}

void name_temporary(char out_name[NAME_TEMPORARY_SIZE]) {
    static uint64_t random_bits;
    static uint32_t count;
    if (count == 0 && getrandom(&random_bits, sizeof(random_bits), GRND_NONBLOCK) < 0) {
        /* Clashes are found by O_EXCL all the same; this only makes them unlikely. */
        random_bits = ((uint64_t)getpid() << 32) ^ (uint64_t)time(NULL);
    }
    (void)snprintf(out_name, NAME_TEMPORARY_SIZE, ".copy_tree-%016llx-%u",
                   (unsigned long long)random_bits, (unsigned)++count);
}
