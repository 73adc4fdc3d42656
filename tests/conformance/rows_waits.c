/* SPDX-License-Identifier: MIT */
/* Rows of operations that do nothing or wait: for time, events, children and futexes; epoll. */
#include "conformance/table.h"

#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* ---- nop, timeout --------------------------------------------------------------------------- */

static void nothing(struct scene *scene, sr_request *request) {
    (void)scene;
    (void)request;
}

static void nothing_in_full(struct scene *scene, sr_request *request) {
    (void)scene;
    request->flags = SR_REQUEST_FULL;
}

static void a_short_time(struct scene *scene, sr_request *request) {
    (void)scene;
    request->duration_ns = MS;
}

static void an_hour(struct scene *scene, sr_request *request) {
    (void)scene;
    request->duration_ns = 3600000 * MS;
}

static void longer_than_there_is_time(struct scene *scene, sr_request *request) {
    (void)scene;
    request->duration_ns = (uint64_t)INT64_MAX + 1;
}

/* ---- poll ----------------------------------------------------------------------------------- */

static void something_to_read(struct scene *scene, sr_request *request) {
    request->file = scene_pair(scene, SOCK_STREAM);
    request->mask = POLLIN;
}

static void of_no_file(struct scene *scene, sr_request *request) {
    (void)scene;
    request->mask = POLLIN;
}

static void write_a_byte(struct scene *scene) {
    if (scene_feeds(scene, 2)) {
        cr_assert_eq(write(scene->far, "x", 1), 1);
    }
}

static void is_an_event(struct scene *scene, const sr_completion *completion) {
    (void)scene;
    cr_assert(completion->result < 0 || completion->result == POLLIN, "events %llx",
              (unsigned long long)completion->result);
}

/* ---- waitid --------------------------------------------------------------------------------- */

static void the_end_of(pid_t child, sr_request *request) {
    request->mask = P_PID;
    request->length = (uint64_t)child;
    request->op_flags = WEXITED;
}

/* A child that ends with 42 when scene->far is closed. */
static void the_end_of_a_child(struct scene *scene, sr_request *request) {
    int gate[2];
    cr_assert_eq(pipe2(gate, O_CLOEXEC), 0);
    scene->child = fork();
    cr_assert_geq(scene->child, 0);
    if (scene->child == 0) {
        char byte = 0;
        (void)close(gate[1]);
        _exit(read(gate[0], &byte, 1) == 0 ? 42 : 1);
    }
    cr_assert_eq(close(gate[0]), 0);
    scene->far = scene_own(scene, gate[1]);
    the_end_of(scene->child, request);
}

static void the_end_of_no_child(struct scene *scene, sr_request *request) {
    (void)scene;
    the_end_of(getpid(), request);
}

static void let_the_child_end(struct scene *scene) {
    if (scene->steps == 0) {
        scene_disown(scene, scene->far);
    }
}

static void child_has_ended(struct scene *scene, const sr_completion *completion) {
    cr_assert_eq(completion->child != NULL, completion->result >= 0);
    if (completion->result >= 0) {
        cr_assert_eq(completion->child->pid, scene->child);
        cr_assert_eq(completion->child->code, CLD_EXITED);
        cr_assert_eq(completion->child->status, 42);
        scene->child = 0; /* and no more to be waited for */
    }
}

/* ---- futexes -------------------------------------------------------------------------------- */

static void a_word_that_is_seven(struct scene *scene, sr_request *request) {
    scene->word = 7;
    request->futex = &scene->word;
    request->offset = 7;
}

static void a_word_that_is_another(struct scene *scene, sr_request *request) {
    a_word_that_is_seven(scene, request);
    request->offset = 8;
}

/* Again and again: the fallback's worker needs a moment to go to sleep. */
static void wake_one(struct scene *scene) {
    (void)syscall(SYS_futex, &scene->word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* A child sleeps there. */
static void a_word_that_is_waited_for(struct scene *scene, sr_request *request) {
    uint32_t *word =
        mmap(NULL, sizeof *word, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(word, MAP_FAILED);
    scene->shared_word = word;
    scene->child = fork();
    cr_assert_geq(scene->child, 0);
    if (scene->child == 0) {
        _exit(syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL, NULL, 0) == 0 ? 0 : 1);
    }
    cr_assert(sleeper_wait(scene->child, SLEEPER_FIRST, SYS_futex, 10000));
    request->futex = word;
    request->length = 100;
}

static void a_word_that_nobody_has(struct scene *scene, sr_request *request) {
    (void)scene;
    request->futex = (uint32_t *)(uintptr_t)4096; /* mapped for nobody: vm.mmap_min_addr */
    request->length = 1;
}

static void child_is_woken(struct scene *scene, const sr_completion *completion) {
    int status = -1;
    (void)completion;
    cr_assert_eq(waitpid(scene->child, &status, 0), scene->child);
    cr_assert_eq(status, 0);
    scene->child = 0;
}

/* ---- epoll ---------------------------------------------------------------------------------- */

static void add_to_a_set(struct scene *scene, sr_request *request) {
    scene->near = epoll_create1(EPOLL_CLOEXEC);
    const int set = scene->near;
    request->file = scene_adopt(scene, set);
    request->other = scene_pair(scene, SOCK_STREAM);
    scene->near = set;
    request->op_flags = EPOLL_CTL_ADD;
    request->mask = EPOLLIN;
    request->offset = UINT64_C(0x1122334455667788);
}

static void remove_what_is_not_in_it(struct scene *scene, sr_request *request) {
    add_to_a_set(scene, request);
    request->op_flags = EPOLL_CTL_DEL;
}

static void set_tells(struct scene *scene, const sr_completion *completion) {
    struct epoll_event event = {.events = 0};
    cr_assert_eq(write(scene->far, "x", 1), 1);
    cr_assert_eq(epoll_wait(scene->near, &event, 1, 0), completion->result >= 0);
    cr_assert(completion->result < 0 || event.data.u64 == UINT64_C(0x1122334455667788));
}

/* ---- rows ----------------------------------------------------------------------------------- */

#define POLLS                                                                                      \
    {                                                                                              \
        [WORKS] = ENDS_WHEN(something_to_read, write_a_byte, POLLIN, is_an_event),                 \
        [FAILS] = REFUSED(SR_E_STALE, of_no_file), [SHORT] = NO_COUNT,                             \
        [CANCELLED] = IS_ENDED(something_to_read, is_an_event),                                    \
        [DEADLINE] = IS_ENDED(something_to_read, is_an_event)                                      \
    }

const struct row rows_waits[] = {
    {.op = SR_OP_NOP,
     .name = "nop",
     .cells = {[WORKS] = ENDS(nothing, 0, NULL),
               [FAILS] = REFUSED(-EINVAL, nothing_in_full),
               [SHORT] = NO_COUNT,
               [CANCELLED] = AT_ONCE(nothing, 0, NULL),
               [DEADLINE] = AT_ONCE(nothing, 0, NULL)}},
    {.op = SR_OP_TIMEOUT,
     .name = "timeout",
     .cells = {[WORKS] = ENDS(a_short_time, 0, NULL),
               [FAILS] = REFUSED(SR_E_BOUNDS, longer_than_there_is_time),
               [SHORT] = NO_COUNT,
               [CANCELLED] = IS_ENDED(an_hour, NULL),
               [DEADLINE] = IS_ENDED(an_hour, NULL)}},
    {.op = SR_OP_POLL, .name = "poll", .cells = POLLS},
    {.op = SR_OP_POLL, .flags = ROW_FIXED, .name = "poll in a fixed slot", .cells = POLLS},
    {.op = SR_OP_POLL,
     .request_flags = SR_REQUEST_MULTISHOT,
     .name = "multishot poll",
     .cells = {[WORKS] = {.prepare = something_to_read,
                          .pump = write_a_byte,
                          .check = is_an_event,
                          .results = RESULTS(-ECANCELED),
                          .more = 2,
                          .ends_by_cancel = true},
               [FAILS] = REFUSED(SR_E_STALE, of_no_file),
               [SHORT] = NO_COUNT,
               [CANCELLED] = IS_ENDED(something_to_read, is_an_event),
               [DEADLINE] = IS_ENDED(something_to_read, is_an_event)}},
    {.op = SR_OP_WAITID,
     .name = "waitid",
     .cells = {[WORKS] = ENDS_WHEN(the_end_of_a_child, let_the_child_end, 0, child_has_ended),
               [FAILS] = ENDS(the_end_of_no_child, -ECHILD, child_has_ended),
               [SHORT] = NO_COUNT,
               [CANCELLED] = IS_ENDED(the_end_of_a_child, child_has_ended),
               [DEADLINE] = IS_ENDED(the_end_of_a_child, child_has_ended)}},
    {.op = SR_OP_FUTEX_WAIT,
     .name = "futex wait",
     .cells = {[WORKS] = ENDS_WHEN(a_word_that_is_seven, wake_one, 0, NULL),
               [FAILS] = ENDS(a_word_that_is_another, -EAGAIN, NULL),
               [SHORT] = NO_COUNT,
               [CANCELLED] = IS_ENDED(a_word_that_is_seven, NULL),
               [DEADLINE] = IS_ENDED(a_word_that_is_seven, NULL)}},
    {.op = SR_OP_FUTEX_WAKE,
     .name = "futex wake",
     .cells = {[WORKS] = ENDS(a_word_that_is_waited_for, 1, child_is_woken),
               [FAILS] = ENDS(a_word_that_nobody_has, -EFAULT, NULL),
               [SHORT] = NO_COUNT,
               [CANCELLED] = AT_ONCE(a_word_that_is_waited_for, 1, child_is_woken),
               [DEADLINE] = AT_ONCE(a_word_that_is_waited_for, 1, child_is_woken)}},
    {.op = SR_OP_EPOLL_CTL,
     .name = "epoll_ctl",
     .cells = {[WORKS] = ENDS(add_to_a_set, 0, set_tells),
               [FAILS] = ENDS(remove_what_is_not_in_it, -ENOENT, set_tells),
               [SHORT] = NO_COUNT,
               [CANCELLED] = AT_ONCE(add_to_a_set, 0, set_tells),
               [DEADLINE] = AT_ONCE(add_to_a_set, 0, set_tells)}},
};
const size_t rows_waits_count = COUNT_OF(rows_waits);
