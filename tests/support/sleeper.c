/* SPDX-License-Identifier: MIT */
#include "support/sleeper.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The line of a thread that runs is "running", that of a sleeping one begins with the number. */
static bool sleeps_in(pid_t process, pid_t thread, long number) {
    char path[64];
    long found = -1;
    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/syscall", (int)process, (int)thread);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return false; /* it has gone meanwhile */
    }
    const bool is_asleep = fscanf(file, "%ld", &found) == 1;
    (void)fclose(file);
    return is_asleep && found == number;
}

static DIR *open_threads(pid_t process) {
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/task", (int)process);
    DIR *threads = opendir(path);
    if (threads == NULL) {
        perror(path);
        abort();
    }
    return threads;
}

static bool has_sleeper(pid_t process, enum sleeper_who who, long number) {
    DIR *threads = open_threads(process);
    bool found = false;
    for (const struct dirent *entry; (entry = readdir(threads)) != NULL;) {
        const pid_t thread = (pid_t)strtol(entry->d_name, NULL, 10);
        const bool is_meant = thread > 0 && (thread == process) == (who == SLEEPER_FIRST);
        found = found || (is_meant && sleeps_in(process, thread, number));
    }
    (void)closedir(threads);
    return found;
}

bool sleeper_wait(pid_t process, enum sleeper_who who, long number, uint32_t timeout_ms) {
    for (uint32_t waited = 0; !has_sleeper(process, who, number); waited++) {
        if (waited == timeout_ms) {
            return false;
        }
        (void)usleep(1000);
    }
    return true;
}

uint32_t sleeper_thread_count(void) {
    DIR *threads = open_threads(getpid());
    uint32_t count = 0;
    for (const struct dirent *entry; (entry = readdir(threads)) != NULL;) {
        count += entry->d_name[0] != '.';
    }
    (void)closedir(threads);
    return count;
}
