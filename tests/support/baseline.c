/* SPDX-License-Identifier: MIT */
#include "support/baseline.h"

#include "support/valgrind.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#endif
#ifndef HAS_ASAN
#define HAS_ASAN 0
#endif

#define MAPS_BYTES_MAX (512u * 1024)

/* Not from the heap: looking must not change what is looked at. */
static char maps_text[MAPS_BYTES_MAX];
static char message[8192];

static _Noreturn void give_up(const char *what) {
    perror(what);
    abort();
}

static void take_fds(struct baseline *baseline) {
    for (int fd = 0; fd < BASELINE_FDS_MAX; fd++) {
        const bool is_open = fcntl(fd, F_GETFD) >= 0;
        baseline->fd_is_open[fd] = is_open;
        baseline->fd_count += is_open;
    }
}

static void read_maps(void) {
    const int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    size_t used = 0;
    ssize_t got = 0;
    if (fd < 0) {
        give_up("/proc/self/maps");
    }
    while (used < sizeof maps_text - 1 &&
           (got = read(fd, maps_text + used, sizeof maps_text - 1 - used)) > 0) {
        used += (size_t)got;
    }
    (void)close(fd); /* read only: no error that matters */
    if (got < 0 || used == sizeof maps_text - 1) {
        give_up("/proc/self/maps: read");
    }
    maps_text[used] = '\0';
}

static bool is_compared(const char *path) {
    /* The stack grows by itself; [heap] is one line whatever its size. */
    return !HAS_ASAN || path[0] == '/' || strncmp(path, "anon_inode:", 11) == 0;
}

/* Its own memory, and what it translates code into, comes and goes. */
static bool is_of_valgrind(const char *permissions, const char *path) {
    return RUNNING_ON_VALGRIND && path[0] == '\0' && strcmp(permissions, "rwxp") == 0;
}

static void take_mappings(struct baseline *baseline) {
    read_maps();
    for (char *line = strtok(maps_text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        unsigned long long begin = 0;
        unsigned long long end = 0;
        char permissions[8] = "";
        int path_at = 0;
        if (sscanf(line, "%llx-%llx %7s %*s %*s %*s %n", &begin, &end, permissions, &path_at) < 3) {
            give_up("/proc/self/maps: unknown line");
        }
        const char *path = path_at > 0 ? line + path_at : "";
        if (!is_compared(path) || is_of_valgrind(permissions, path)) {
            continue;
        }
        if (baseline->mapping_count == BASELINE_MAPPINGS_MAX) {
            give_up("more mappings than BASELINE_MAPPINGS_MAX");
        }
        struct baseline_mapping *mapping = &baseline->mappings[baseline->mapping_count++];
        mapping->begin = begin;
        mapping->end = end;
        (void)snprintf(mapping->name, sizeof mapping->name, "%s %.80s", permissions, path);
    }
}

void baseline_take(struct baseline *out_baseline) {
    memset(out_baseline, 0, sizeof *out_baseline);
    take_fds(out_baseline);
    take_mappings(out_baseline);
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
    const size_t used = strlen(message);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message + used, sizeof message - used, format, arguments);
    va_end(arguments);
}

static void say_fds(const struct baseline *before, const struct baseline *now) {
    say("descriptors: %u before, %u now\n", before->fd_count, now->fd_count);
    for (int fd = 0; fd < BASELINE_FDS_MAX; fd++) {
        if (before->fd_is_open[fd] == now->fd_is_open[fd]) {
            continue;
        }
        char link[32];
        char target[128] = "";
        (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        const ssize_t length = readlink(link, target, sizeof target - 1);
        target[length > 0 ? length : 0] = '\0';
        say("  %c %d %s\n", now->fd_is_open[fd] ? '+' : '-', fd, target);
    }
}

static bool has_mapping(const struct baseline *baseline, const struct baseline_mapping *mapping) {
    for (uint32_t i = 0; i < baseline->mapping_count; i++) {
        if (baseline->mappings[i].begin == mapping->begin &&
            baseline->mappings[i].end == mapping->end &&
            strcmp(baseline->mappings[i].name, mapping->name) == 0) {
            return true;
        }
    }
    return false;
}

static void say_mappings_of(const struct baseline *some, const struct baseline *others,
                            char direction) {
    for (uint32_t i = 0; i < some->mapping_count; i++) {
        const struct baseline_mapping *mapping = &some->mappings[i];
        if (!has_mapping(others, mapping)) {
            say("  %c %llx-%llx %s\n", direction, (unsigned long long)mapping->begin,
                (unsigned long long)mapping->end, mapping->name);
        }
    }
}

const char *baseline_difference(const struct baseline *before) {
    static struct baseline now;
    baseline_take(&now);
    message[0] = '\0';
    if (now.fd_count != before->fd_count) {
        say_fds(before, &now);
    }
    if (now.mapping_count != before->mapping_count) {
        say("mappings: %u before, %u now\n", before->mapping_count, now.mapping_count);
        say_mappings_of(before, &now, '-');
        say_mappings_of(&now, before, '+');
    }
    return message[0] != '\0' ? message : NULL;
}
