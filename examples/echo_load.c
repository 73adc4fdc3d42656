/* SPDX-License-Identifier: MIT */
/*
 * A load for echo_server, with plain sockets and poll(2): many idle connections, some busy ones
 * that check every byte that comes back, and at the end each idle one speaks once.
 *
 *     echo_load PORT [IDLE [BUSY [MESSAGES]]]      10,000, 64, 100,000 by default
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE_BYTES 64
#define BUSY_MAX      1024

struct busy {
    uint64_t number; /* of the message on its way */
    size_t received;
    unsigned char answer[MESSAGE_BYTES];
};

static int fail(const char *what) {
    fprintf(stderr, "echo_load: %s: %s\n", what, strerror(errno));
    return -1;
}

static int connect_to(uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        return fail("connect");
    }
    return fd;
}

static void fill(unsigned char *message, uint32_t who, uint64_t number) {
    for (uint32_t i = 0; i < MESSAGE_BYTES; i++) {
        message[i] = (unsigned char)(who * 7 + number * 13 + i);
    }
}

static int speak(int fd, uint32_t who, uint64_t number) {
    unsigned char message[MESSAGE_BYTES];
    fill(message, who, number);
    return send(fd, message, sizeof message, MSG_NOSIGNAL) == MESSAGE_BYTES ? 0 : fail("send");
}

/* Takes what has come; 1 when the whole answer is there and right. */
static int hear(int fd, uint32_t who, struct busy *busy) {
    unsigned char expected[MESSAGE_BYTES];
    const ssize_t count =
        recv(fd, busy->answer + busy->received, MESSAGE_BYTES - busy->received, 0);
    if (count <= 0) {
        return count == 0 ? (errno = ECONNRESET, fail("receive")) : fail("receive");
    }
    busy->received += (size_t)count;
    if (busy->received < MESSAGE_BYTES) {
        return 0;
    }
    fill(expected, who, busy->number);
    if (memcmp(expected, busy->answer, MESSAGE_BYTES) != 0) {
        fprintf(stderr, "echo_load: connection %u, message %llu: wrong bytes\n", who,
                (unsigned long long)busy->number);
        return -1;
    }
    busy->received = 0;
    busy->number++;
    return 1;
}

static int run_busy(const int *fds, uint32_t count, uint64_t messages) {
    static struct busy busy[BUSY_MAX];
    static struct pollfd polls[BUSY_MAX];
    uint64_t answered = 0;
    uint64_t sent = 0;
    for (uint32_t i = 0; i < count; i++, sent++) {
        polls[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
        if (speak(fds[i], i, 0) < 0) {
            return -1;
        }
    }
    while (answered < sent) {
        if (poll(polls, count, 10000) <= 0) {
            errno = ETIMEDOUT;
            return fail("no answer");
        }
        for (uint32_t i = 0; i < count; i++) {
            if (polls[i].revents == 0) {
                continue;
            }
            const int code = hear(fds[i], i, &busy[i]);
            if (code < 0) {
                return -1;
            }
            answered += (uint64_t)code;
            if (code == 1 && sent < messages) {
                sent++;
                if (speak(fds[i], i, busy[i].number) < 0) {
                    return -1;
                }
            }
        }
    }
    return 0;
}

/* Every connection that was idle all the time is still served. */
static int wake_idle(const int *fds, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        struct busy busy = {.number = 77};
        if (speak(fds[i], i, 77) < 0) {
            return -1;
        }
        for (int code = 0; code != 1;) {
            code = hear(fds[i], i, &busy);
            if (code < 0) {
                return -1;
            }
        }
    }
    return 0;
}

static double seconds(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static uint32_t argument(int argc, char **argv, int index, uint32_t otherwise) {
    return argc > index ? (uint32_t)strtoul(argv[index], NULL, 10) : otherwise;
}

int main(int argc, char **argv) {
    const uint32_t port = argument(argc, argv, 1, 0);
    uint32_t idle = argument(argc, argv, 2, 10000);
    const uint32_t busy = argument(argc, argv, 3, 64);
    const uint32_t messages = argument(argc, argv, 4, 100000);
    struct rlimit files;
    if (port == 0 || port > 65535 || busy == 0 || busy > BUSY_MAX) {
        fprintf(stderr, "usage: echo_load PORT [IDLE [BUSY [MESSAGES]]]\n");
        return 2;
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
        if (files.rlim_cur < idle + busy + 16) {
            idle = (uint32_t)files.rlim_cur - busy - 16;
            fprintf(stderr, "echo_load: RLIMIT_NOFILE lets only %u be idle\n", idle);
        }
    }
    int *fds = calloc(idle + busy, sizeof *fds);
    if (fds == NULL) {
        return 1;
    }
    for (uint32_t i = 0; i < idle + busy; i++) {
        fds[i] = connect_to((uint16_t)port);
        if (fds[i] < 0) {
            free(fds);
            return 1;
        }
    }
    const double begin = seconds();
    int code = run_busy(fds + idle, busy, messages);
    const double took = seconds() - begin;
    if (code == 0) {
        code = wake_idle(fds, idle);
    }
    if (code == 0) {
        printf(
            "%u idle and %u busy connections, %u messages of %d bytes in %.2f s: %.0f a second\n",
            idle, busy, messages, MESSAGE_BYTES, took, messages / took);
    }
    for (uint32_t i = 0; i < idle + busy; i++) {
        (void)close(fds[i]);
    }
    free(fds);
    return code == 0 ? 0 : 1;
}
