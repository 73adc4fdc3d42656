/* SPDX-License-Identifier: MIT */
/*
 * The launcher when things go wrong at any moment: workers, launchers, keepers and hosts are killed
 * while they start and end; a host writes what no host writes. Afterwards there is nothing that was
 * not there before: no process (each worker's descendants hold a pipe open), no descriptor, no
 * mapping; and the launcher answers.
 */
#include "support/baseline.h"
#include "support/launch.h"
#include "support/scale.h"
#include "support/skip.h"
#include "sys/process.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <safering/error.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A random moment: some after a pause, many with none, for the beginning is where the steps are. */
static void pause_at_random(struct scale_random *random, uint64_t most_us) {
    const uint64_t us = scale_random_below(random, 3) == 0 ? scale_random_below(random, most_us)
                                                           : scale_random_below(random, 300);
    const struct timespec pause = {.tv_nsec = (long)us * 1000};
    (void)nanosleep(&pause, NULL);
}

static void check_code(int code, int expected) {
    cr_assert_eq(code, expected, "%d (%s), expected %d (%s)", code, sr_error_name(code), expected,
                 sr_error_name(expected));
}

/* ---- kill -9 --------------------------------------------------------------------------------- */

enum victim { VICTIM_WORKER, VICTIM_LAUNCHER, VICTIM_KEEPER, VICTIMS };

struct round {
    struct sri_launcher *launcher;
    struct scale_random *random;
    uint32_t worker_count;
    uint32_t started;
    uint32_t failed;
    uint32_t exited;
    bool is_lost;
    int32_t pids[8];
};

static const char *const ways[] = {"descendants", "leave", "wait", "exit"};

static void start_workers(struct round *round, struct launch_pipe *life, uint32_t pid_namespace) {
    round->worker_count = 1 + (uint32_t)scale_random_below(round->random, 4);
    for (uint32_t i = 1; i <= round->worker_count; i++) {
        launch_start(round->launcher, i, ways[scale_random_below(round->random, 4)], "0", life->in,
                     scale_random_below(round->random, 2) == 0 ? pid_namespace : 0);
    }
}

static void note(struct round *round, const struct sri_launch_event *event) {
    switch (event->header.kind) {
    case SRI_LAUNCH_STARTED:
        round->pids[round->started++] = event->pid;
        break;
    case SRI_LAUNCH_START_FAILED:
        round->failed++;
        break;
    case SRI_LAUNCH_EXITED:
        round->exited++;
        break;
    case SRI_LAUNCH_LOST:
        check_code(event->code, SR_E_PEER_DIED);
        round->is_lost = true;
        break;
    default:
        break; /* an answer to a kill */
    }
}

static void note_all_now(struct round *round) {
    struct sri_launch_event event;
    int pidfd = -1;
    while (sri_launcher_receive(round->launcher, &event, &pidfd) == 1) {
        note(round, &event);
        if (pidfd >= 0) {
            (void)close(pidfd);
        }
    }
}

static void kill_one(struct round *round, enum victim victim) {
    if (victim == VICTIM_LAUNCHER) {
        cr_assert_eq(kill(round->launcher->launcher, SIGKILL), 0);
    } else if (victim == VICTIM_KEEPER) {
        cr_assert_eq(kill(round->launcher->keeper, SIGKILL), 0);
    } else {
        const uint64_t id = 1 + scale_random_below(round->random, round->worker_count);
        const int code = sri_launcher_kill(round->launcher, id, SIGKILL, NULL);
        cr_assert(code == 0 || code == SR_E_STALE);
    }
}

/* Workers that nobody has killed are ended in the ordinary way. */
static void end_the_rest(struct round *round) {
    while (round->failed + round->exited < round->worker_count) {
        for (uint32_t id = 1; id <= round->worker_count && !round->is_lost; id++) {
            const int code = sri_launcher_kill(round->launcher, id, SIGKILL, NULL);
            cr_assert(code == 0 || code == SR_E_STALE || code == SR_E_PEER_DIED ||
                      code == SR_E_FULL);
        }
        const struct sri_launch_event event = launch_next(round->launcher, NULL);
        note(round, &event);
        note_all_now(round);
    }
    cr_assert_eq(round->exited, round->started, "each worker that started ends once");
}

static void play(struct scale_random *random, uint32_t pid_namespace) {
    struct launch_pipe life = launch_pipe_open();
    struct round round = {.launcher = launch_open(), .random = random};
    const enum victim victim = (enum victim)scale_random_below(random, VICTIMS);
    start_workers(&round, &life, pid_namespace);
    pause_at_random(random, 5000);
    note_all_now(&round);
    kill_one(&round, victim);
    end_the_rest(&round);
    cr_assert(launch_pipe_ends(&life), "a process of a worker is still there");
    while (victim != VICTIM_WORKER && !round.is_lost) {
        const struct sri_launch_event event = launch_next(round.launcher, NULL);
        note(&round, &event);
    }
    cr_assert_eq(round.is_lost, victim != VICTIM_WORKER);
    launch_close(&round.launcher);
    launch_pipe_close(&life);
}

Test(launcher, kills_at_random_moments_leave_nothing_behind) {
    static struct baseline before;
    struct scale_random random = scale_random(1);
    const uint32_t pid_namespace =
        launch_pid_namespace_missing() == NULL ? launch_pid_namespace() : 0;
    play(&random, pid_namespace);
    baseline_take(&before);
    const uint64_t rounds = scale_count(200, 10);
    for (uint64_t i = 0; i < rounds; i++) {
        play(&random, pid_namespace);
        const char *difference = baseline_difference(&before);
        cr_assert_null(difference, "round %llu: %s", (unsigned long long)i, difference);
    }
    cr_assert(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD, "a child is left");
}

/* A host of its own, killed while it starts launchers and workers. */
static _Noreturn void be_a_host(const struct launch_pipe *life, uint64_t stream) {
    struct scale_random random = scale_random(stream);
    for (;;) {
        struct round round = {.launcher = launch_open(), .random = &random};
        struct launch_pipe copy = *life;
        start_workers(&round, &copy, 0);
        pause_at_random(&random, 3000);
        note_all_now(&round);
        if (scale_random_below(&random, 2) == 0) {
            launch_close(&round.launcher);
        }
    }
}

Test(launcher, hosts_that_are_killed_at_random_moments_leave_nothing_behind) {
    struct scale_random random = scale_random(2);
    const uint64_t rounds = scale_count(200, 10);
    for (uint64_t i = 0; i < rounds; i++) {
        struct launch_pipe life = launch_pipe_open();
        const pid_t host = fork();
        if (host == 0) {
            (void)close(life.out);
            be_a_host(&life, 100 + i);
        }
        const struct timespec pause = {.tv_nsec = (long)scale_random_below(&random, 15000000)};
        (void)nanosleep(&pause, NULL);
        cr_assert_eq(kill(host, SIGKILL), 0);
        cr_assert_eq(waitpid(host, NULL, 0), host);
        cr_assert(launch_pipe_ends(&life), "round %llu: processes outlive their host",
                  (unsigned long long)i);
        launch_pipe_close(&life);
    }
}

/* ---- garbage --------------------------------------------------------------------------------- */

static struct sri_launch_packet garbage;

/* A request that a host may make, as bytes. */
static void make_request(struct scale_random *random, int fd) {
    const char *const arguments[] = {"worker", "exit", "0", NULL};
    struct sri_launch_plan plan = SRI_LAUNCH_PLAN_INIT;
    plan.path = launch_worker_path();
    plan.arguments = arguments;
    for (uint64_t i = scale_random_below(random, 5); i > 0; i--) {
        plan.fds[plan.fd_count++] = (struct sri_launch_fd){fd, (uint32_t)i + 10};
    }
    cr_assert_eq(sri_launch_start_encode(&plan, 1 + (uint32_t)scale_random_below(random, 9),
                                         1 + scale_random_below(random, 50), &garbage),
                 0);
    if (scale_random_below(random, 4) == 0) {
        static const uint32_t signals[] = {SIGKILL, SIGTERM, SIGCONT, 64}; /* none that stops it */
        const struct sri_launch_kill kill = {
            .header = sri_launch_header_make(SRI_LAUNCH_KILL, sizeof kill, 0, 5,
                                             1 + scale_random_below(random, 50)),
            .signal = signals[scale_random_below(random, 4)]};
        memcpy(garbage.bytes, &kill, sizeof kill);
        garbage.size_bytes = sizeof kill;
        garbage.fd_count = 0;
    }
}

static void spoil(struct scale_random *random, int fd) {
    const uint64_t way = scale_random_below(random, 6);
    if (way == 0) {
        garbage.size_bytes = (size_t)scale_random_below(random, garbage.size_bytes + 1);
    } else if (way == 1) {
        garbage.size_bytes = (size_t)scale_random_below(random, SRI_LAUNCH_MESSAGE_MAX);
    } else if (way == 2) {
        garbage.fd_count = (uint32_t)scale_random_below(random, SRI_LAUNCH_FDS_MAX + 2);
        for (uint32_t i = 0; i < garbage.fd_count; i++) {
            garbage.fds[i] = fd;
        }
    }
    for (uint64_t count = way == 3 ? 0 : 1 + scale_random_below(random, 4); count > 0; count--) {
        static const uint32_t words[] = {0, 1, 255, 1024, 65536, UINT32_MAX};
        const size_t at =
            (size_t)scale_random_below(random, sizeof(struct sri_launch_start) / 4) * 4;
        memcpy(garbage.bytes + at, &words[scale_random_below(random, 6)], 4);
    }
}

/* Past the host's own checks. */
static int send_garbage(struct sri_launcher *launcher) {
    const int code = sri_packet_send(launcher->fd, garbage.bytes, garbage.size_bytes, garbage.fds,
                                     garbage.fd_count);
    cr_assert(code == 0 || code == -EAGAIN, "%s", sr_error_name(code));
    return code;
}

/* Events that come because of it are of no interest, but each is one that an honest launcher says:
 * read past the host's table, which knows of none of these workers. */
static void drain(struct sri_launcher *launcher, uint64_t *refused) {
    static struct sri_packet packet;
    struct sri_launch_event event;
    while (sri_packet_receive(launcher->fd, &event, sizeof event, &packet) == 1) {
        cr_assert_eq(sri_launch_event_decode(&event, packet.size_bytes, packet.fd_count, &event),
                     0);
        *refused += event.header.kind == SRI_LAUNCH_REFUSED;
        sri_packet_drop(&packet);
    }
}

static void read_until_exit(struct sri_launcher *launcher, uint64_t id, uint32_t status) {
    static struct sri_packet packet;
    struct sri_launch_event event;
    for (bool has_ended = false; !has_ended;) {
        cr_assert(sri_process_can_read(launcher->fd, (uint64_t)LAUNCH_PATIENCE_MS * 1000000u),
                  "the launcher does not answer");
        cr_assert_eq(sri_packet_receive(launcher->fd, &event, sizeof event, &packet), 1,
                     "the launcher is gone");
        cr_assert_eq(sri_launch_event_decode(&event, packet.size_bytes, packet.fd_count, &event),
                     0);
        sri_packet_drop(&packet);
        has_ended = event.header.kind == SRI_LAUNCH_EXITED && event.header.worker == id &&
                    event.status == status;
    }
}

static void make_start(uint64_t id, const char *what, const char *how, int fd) {
    const char *const arguments[] = {"worker", what, how, NULL};
    struct sri_launch_plan plan = SRI_LAUNCH_PLAN_INIT;
    plan.path = launch_worker_path();
    plan.arguments = arguments;
    plan.fds[plan.fd_count++] = (struct sri_launch_fd){fd, 7};
    cr_assert_eq(sri_launch_start_encode(&plan, 4, id, &garbage), 0);
}

/* It answers; with an id that garbage does not use. */
static void prove_alive(struct sri_launcher *launcher, uint32_t fd_count) {
    uint64_t refused = 0;
    make_start(1000, "exit", "17", 0);
    while (send_garbage(launcher) == -EAGAIN) {
        drain(launcher, &refused);
    }
    read_until_exit(launcher, 1000, 17);
    cr_assert(launch_fd_count_becomes(launcher->launcher, fd_count), "descriptors are left");
}

Test(launcher, random_requests_are_refused_and_cost_no_descriptor) {
    struct scale_random random = scale_random(3);
    struct sri_launcher *launcher = launch_open();
    uint64_t refused = 0;
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    const uint64_t rounds = scale_count(10000, 500);
    const uint32_t fd_count = launch_fd_count(launcher->launcher);
    for (uint64_t i = 0; i < rounds; i++) {
        make_request(&random, fd);
        spoil(&random, fd);
        while (send_garbage(launcher) == -EAGAIN) {
            drain(launcher, &refused);
        }
        drain(launcher, &refused);
        if (i % 1000 == 999) {
            prove_alive(launcher, fd_count);
        }
    }
    prove_alive(launcher, fd_count);
    cr_assert(refused > rounds / 10, "%llu of %llu were refused", (unsigned long long)refused,
              (unsigned long long)rounds);
    cr_assert_eq(close(fd), 0);
    launch_close(&launcher);
}

/* One packet, and the answer that it must have. */
static void expect_refusal(struct sri_launcher *launcher, int code) {
    static struct sri_packet packet;
    struct sri_launch_event event;
    check_code(send_garbage(launcher), 0);
    cr_assert(sri_process_can_read(launcher->fd, (uint64_t)LAUNCH_PATIENCE_MS * 1000000u));
    cr_assert_eq(sri_packet_receive(launcher->fd, &event, sizeof event, &packet), 1);
    cr_assert_eq(sri_launch_event_decode(&event, packet.size_bytes, packet.fd_count, &event), 0);
    cr_assert_eq(event.header.kind, SRI_LAUNCH_REFUSED, "kind %u", event.header.kind);
    check_code(event.code, code);
}

Test(launcher, each_kind_of_bad_request_has_its_answer) {
    struct sri_launcher *launcher = launch_open();
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    const uint32_t fd_count = launch_fd_count(launcher->launcher);
    struct sri_launch_header *header = (struct sri_launch_header *)(void *)garbage.bytes;

    make_start(1, "exit", "0", fd);
    garbage.size_bytes = 0; /* an empty packet with a descriptor, and one without */
    expect_refusal(launcher, SR_E_PROTOCOL);
    garbage.fd_count = 0;
    expect_refusal(launcher, SR_E_PROTOCOL);
    make_start(1, "exit", "0", fd);
    header->kind = 3;
    expect_refusal(launcher, SR_E_PROTOCOL);
    make_start(1, "exit", "0", fd);
    garbage.fd_count = 0; /* says one, has none */
    expect_refusal(launcher, SR_E_PROTOCOL);
    make_start(1, "exit", "0", fd);
    header->fd_count = 2;
    garbage.fds[1] = fd;
    garbage.fd_count = 2; /* one without a number: it is told 0, and that is another's */
    header->worker = 0;
    expect_refusal(launcher, SR_E_PROTOCOL);
    make_start(1, "wait", "0", fd);
    check_code(send_garbage(launcher), 0);
    (void)sri_process_can_read(launcher->fd, (uint64_t)LAUNCH_PATIENCE_MS * 1000000u);
    uint64_t refused = 0;
    drain(launcher, &refused); /* STARTED */
    cr_assert_eq(refused, 0);
    make_start(1, "wait", "0", fd);
    expect_refusal(launcher, SR_E_STATE); /* the id is in use */
    const struct sri_launch_kill kill = {
        .header = sri_launch_header_make(SRI_LAUNCH_KILL, sizeof kill, 0, 5, 1), .signal = SIGKILL};
    memcpy(garbage.bytes, &kill, sizeof kill);
    garbage.size_bytes = sizeof kill;
    garbage.fd_count = 0;
    check_code(send_garbage(launcher), 0);
    prove_alive(launcher, fd_count);
    cr_assert_eq(close(fd), 0);
    launch_close(&launcher);
}

Test(launcher, a_request_that_is_longer_than_any_is_refused) {
    static unsigned char large[SRI_LAUNCH_MESSAGE_MAX + 1];
    static struct sri_packet packet;
    struct sri_launch_event event;
    struct sri_launcher *launcher = launch_open();
    const uint32_t fd_count = launch_fd_count(launcher->launcher);
    check_code(sri_packet_send(launcher->fd, large, sizeof large, NULL, 0), 0);
    cr_assert(sri_process_can_read(launcher->fd, (uint64_t)LAUNCH_PATIENCE_MS * 1000000u));
    cr_assert_eq(sri_packet_receive(launcher->fd, &event, sizeof event, &packet), 1);
    cr_assert_eq(event.header.kind, SRI_LAUNCH_REFUSED);
    check_code(event.code, -EMSGSIZE);
    prove_alive(launcher, fd_count);
    launch_close(&launcher);
}

/* The most descriptors that one packet can carry, with a request that is none. */
Test(launcher, descriptors_of_a_bad_request_are_closed) {
    struct sri_launcher *launcher = launch_open();
    const uint32_t fd_count = launch_fd_count(launcher->launcher);
    uint64_t refused = 0;
    int fds[SRI_PACKET_FDS_MAX];
    struct launch_pipe held = launch_pipe_open();
    for (uint32_t i = 0; i < SRI_PACKET_FDS_MAX; i++) {
        fds[i] = held.in;
    }
    for (uint32_t i = 0; i < 50; i++) {
        check_code(sri_packet_send(launcher->fd, "x", 1, fds, SRI_PACKET_FDS_MAX), 0);
        drain(launcher, &refused);
    }
    prove_alive(launcher, fd_count);
    cr_assert(launch_pipe_ends(&held), "a descriptor is still open somewhere");
    launch_pipe_close(&held);
    launch_close(&launcher);
}

/* ---- a launcher that lies -------------------------------------------------------------------- */

/* The host's end is exchanged for one behind which the test itself is the launcher. */
Test(launcher, a_launcher_that_lies_is_killed_and_its_workers_lost) {
    struct sri_launch_event lie = {
        .header = sri_launch_header_make(SRI_LAUNCH_EXITED, sizeof lie, 0, 0, 99),
        .pid = 1,
        .end = SRI_LAUNCH_END_EXIT};
    struct sri_launcher *launcher = launch_open();
    struct launch_pipe life = launch_pipe_open();
    int ends[2];
    launch_start(launcher, 1, "descendants", "", life.in, 0);
    cr_assert_str_eq(launch_pipe_line(&life), "grandchild\n");
    (void)launch_expect(launcher, SRI_LAUNCH_STARTED, 1);
    const int honest = launcher->fd;
    check_code(sri_packet_pair(ends), 0);
    launcher->fd = ends[0];
    check_code(sri_packet_send(ends[1], &lie, sizeof lie, NULL, 0), 0);

    struct sri_launch_event event;
    int pidfd = -1;
    check_code(sri_launcher_receive(launcher, &event, &pidfd), 0); /* killed; not yet gone */
    cr_assert(launch_pipe_ends(&life), "a worker of the liar is still there");
    cr_assert_eq(close(ends[1]), 0);
    check_code(launch_expect(launcher, SRI_LAUNCH_LOST, 0).code, SR_E_PROTOCOL);
    cr_assert_eq(launch_expect(launcher, SRI_LAUNCH_EXITED, 1).end, SRI_LAUNCH_END_LOST);
    cr_assert_eq(close(honest), 0);
    launch_close(&launcher);
    launch_pipe_close(&life);
}

/* ---- for information ------------------------------------------------------------------------- */

static int compare(const void *a, const void *b) {
    const uint64_t left = *(const uint64_t *)a;
    const uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static uint64_t median_restart_ns(struct sri_launcher *launcher, uint32_t namespaces) {
    uint64_t times[51];
    struct launch_pipe none = launch_pipe_open();
    launch_start(launcher, 1, "wait", "", none.in, namespaces);
    (void)launch_expect(launcher, SRI_LAUNCH_STARTED, 1);
    for (uint32_t i = 0; i < 51; i++) {
        const uint64_t begin = now_ns();
        check_code(sri_launcher_kill(launcher, 1, SIGKILL, NULL), 0);
        while (launch_next(launcher, NULL).header.kind != SRI_LAUNCH_EXITED) {
        }
        launch_start(launcher, 1, "wait", "", none.in, namespaces);
        (void)launch_expect(launcher, SRI_LAUNCH_STARTED, 1);
        times[i] = now_ns() - begin;
    }
    check_code(sri_launcher_kill(launcher, 1, SIGKILL, NULL), 0);
    while (launch_next(launcher, NULL).header.kind != SRI_LAUNCH_EXITED) {
    }
    launch_pipe_close(&none);
    qsort(times, 51, sizeof times[0], compare);
    return times[25];
}

Test(launcher, says_how_long_a_restart_takes) {
    const char *missing = launch_pid_namespace_missing();
    struct sri_launcher *launcher = launch_open();
    fprintf(stderr, "restart, kill to STARTED, median: %llu us",
            (unsigned long long)median_restart_ns(launcher, 0) / 1000);
    if (missing == NULL) {
        fprintf(stderr, "; in a pid namespace %llu us",
                (unsigned long long)median_restart_ns(launcher, launch_pid_namespace()) / 1000);
    }
    fprintf(stderr, "\n");
    launch_close(&launcher);
}
