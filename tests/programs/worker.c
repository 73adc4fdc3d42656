/* SPDX-License-Identifier: MIT */
/*
 * Worker: what the tests of the launcher start. It knows nothing of safering, and is built without
 * sanitizers, whose handlers would change how it dies. The first argument says what it does; what
 * it has to tell goes to descriptor 5 as text.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define TELL_FD 5

extern char **environ;

static void wait_for_ever(void) {
    for (;;) {
        (void)pause();
    }
}

/* ---- ways to die ----------------------------------------------------------------------------- */

static void end_by_alarm(void) {
    const struct itimerval soon = {.it_value = {.tv_usec = 1000}};
    (void)setitimer(ITIMER_REAL, &soon, NULL);
    wait_for_ever();
}

static volatile int depth;

__attribute__((noinline)) static int overflow(int level) {
    volatile char room[4096];
    room[0] = (char)level;
    depth = level;
    return level < 0 ? 0 : overflow(level + 1) + room[0];
}

static void end_by_null(void) {
    volatile int *volatile nowhere = NULL;
    *nowhere = 1;
}

/* ---- what it is ------------------------------------------------------------------------------ */

static void tell_fds(void) {
    DIR *directory = opendir("/proc/self/fd");
    char target[256];
    if (directory == NULL) {
        exit(70);
    }
    for (const struct dirent *entry = NULL; (entry = readdir(directory)) != NULL;) {
        const int fd = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || fd == dirfd(directory)) {
            continue;
        }
        const ssize_t length =
            readlinkat(dirfd(directory), entry->d_name, target, sizeof target - 1);
        target[length > 0 ? length : 0] = '\0';
        dprintf(TELL_FD, "%d %s\n", fd, strcmp(target, "/dev/null") == 0 ? target : "-");
    }
    (void)closedir(directory);
}

static void tell_inodes(void) {
    struct stat status;
    for (int fd = 0; fd < 64; fd++) {
        if (fstat(fd, &status) == 0) {
            dprintf(TELL_FD, "%d is %llu\n", fd, (unsigned long long)status.st_ino);
        }
    }
}

static void tell_status(const char *field) {
    char line[512];
    FILE *status = fopen("/proc/self/status", "re");
    while (status != NULL && fgets(line, sizeof line, status) != NULL) {
        if (strncmp(line, field, strlen(field)) == 0) {
            dprintf(TELL_FD, "%s", line);
        }
    }
    if (status != NULL) {
        (void)fclose(status);
    }
}

static void tell_self(void) {
    char directory[4096];
    struct rlimit cpu;
    struct rlimit files;
    const mode_t mask = umask(0);
    (void)getrlimit(RLIMIT_CPU, &cpu);
    (void)getrlimit(RLIMIT_NOFILE, &files);
    dprintf(TELL_FD, "directory %s\nmask %03o\n", getcwd(directory, sizeof directory), mask);
    dprintf(TELL_FD, "cpu %llu %llu\nfiles %llu\n", (unsigned long long)cpu.rlim_cur,
            (unsigned long long)cpu.rlim_max, (unsigned long long)files.rlim_cur);
    dprintf(TELL_FD, "leads %d\nprivileges %d\nuser %u\n", getsid(0) == getpid(),
            prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), geteuid());
    tell_status("SigBlk");
    tell_status("SigIgn");
    tell_status("SigCgt");
}

static void tell_strings(char **strings) {
    for (; *strings != NULL; strings++) {
        dprintf(TELL_FD, "%s\n", *strings);
    }
}

/* ---- descendants: each has descriptor 5, so its reader sees when the last is gone
 * ---------------- */

static void have_descendants(void) {
    if (fork() == 0) {
        wait_for_ever(); /* in the worker's process group */
    }
    if (fork() == 0) {
        /* A daemon: its parent ends, it leads a session of its own, and its child another. */
        (void)setsid();
        if (fork() == 0) {
            if (fork() == 0) {
                (void)setsid();
                (void)prctl(PR_SET_PDEATHSIG, 0);
                dprintf(TELL_FD, "grandchild\n");
                wait_for_ever();
            }
            wait_for_ever();
        }
        _exit(0);
    }
}

static void burn_cpu(long ms) {
    struct timespec used;
    do {
        (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    } while (used.tv_sec * 1000 + used.tv_nsec / 1000000 < ms);
}

static void touch_memory(size_t mib) {
    volatile char *memory = malloc(mib << 20);
    for (size_t i = 0; memory != NULL && i < mib << 20; i += 4096) {
        memory[i] = 1;
    }
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    const char *how = argc > 2 ? argv[2] : "0";
    const struct rlimit no_core = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &no_core);
    if (strcmp(argv[0], "safering-launcher") == 0) {
        wait_for_ever(); /* taken for a launcher, it says nothing */
    }
    if (strcmp(what, "exit") == 0) {
        return atoi(how);
    } else if (strcmp(what, "abort") == 0) {
        abort();
    } else if (strcmp(what, "raise") == 0) {
        (void)raise(atoi(how));
    } else if (strcmp(what, "alarm") == 0) {
        end_by_alarm();
    } else if (strcmp(what, "overflow") == 0) {
        return overflow(0);
    } else if (strcmp(what, "null") == 0) {
        end_by_null();
    } else if (strcmp(what, "wait") == 0) {
        dprintf(TELL_FD, "here\n");
        wait_for_ever();
    } else if (strcmp(what, "fds") == 0) {
        tell_fds();
    } else if (strcmp(what, "inodes") == 0) {
        tell_inodes();
    } else if (strcmp(what, "self") == 0) {
        tell_self();
    } else if (strcmp(what, "strings") == 0) {
        tell_strings(argv);
        tell_strings(environ);
    } else if (strcmp(what, "group") == 0) {
        if (fork() == 0) {
            dprintf(TELL_FD, "child\n");
        }
        wait_for_ever();
    } else if (strcmp(what, "descendants") == 0) {
        have_descendants();
        wait_for_ever();
    } else if (strcmp(what, "leave") == 0) {
        have_descendants();
        (void)usleep((useconds_t)atoi(how));
    } else if (strcmp(what, "use") == 0) {
        burn_cpu(atoi(how));
        touch_memory(64);
    }
    return 0;
}
