/* SPDX-License-Identifier: MIT */
/*
 * A forked child is refused before it can touch what its parent has, may free its copies, and lives
 * a life of its own with rings and pools that it makes itself; the parent notices nothing. Programs
 * that are started (posix_spawn, popen, vfork) are unaffected.
 */
#include "ring/ring.h"
#include "support/rig.h"

#include "support/valgrind.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
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

/* valgrind's own list of mappings does not know MADV_DONTFORK: it aborts when a child maps memory
 * where its parent has a ring or buffers. */
#define SKIP_UNDER_VALGRIND()                                                                      \
    do {                                                                                           \
        if (RUNNING_ON_VALGRIND) {                                                                 \
            cr_skip_test("valgrind cannot follow a child that maps memory");                       \
        }                                                                                          \
    } while (0)

extern char **environ;

/* ---- children -------------------------------------------------------------------------------- */

/* In a child: Criterion's assertions belong to the parent, so say where and leave. */
#define EXPECT(expression) ((expression) ? (void)0 : child_failed(__LINE__, #expression, 0, 0))
#define EXPECT_EQ(actual, expected)                                                                \
    ((long long)(actual) == (long long)(expected)                                                  \
         ? (void)0                                                                                 \
         : child_failed(__LINE__, #actual, (long long)(actual), (long long)(expected)))

static _Noreturn void child_failed(int line, const char *expression, long long actual,
                                   long long expected) {
    fprintf(stderr, "%s:%d: in the child: %s (%lld, expected %lld)\n", __FILE__, line, expression,
            actual, expected);
    _exit(1);
}

struct scene {
    struct rig rig;
    sr_buffer held;
    sr_buffer lent;
    sr_file file; /* reads a pipe */
    sr_op op;     /* a read of it, in flight */
    int pipe_in;
    int pipe_out;
};

typedef void child_fn(struct scene *scene);

static pid_t child_start(child_fn *run, struct scene *scene) {
    const pid_t child = fork();
    if (child == 0) {
        run(scene);
        _exit(0);
    }
    return child;
}

static int child_end(pid_t child) {
    int status = -1;
    pid_t got = 0;
    do {
        got = waitpid(child, &status, 0);
    } while (got < 0 && errno == EINTR);
    return got == child ? status : -1;
}

static void in_child(child_fn *run, struct scene *scene) {
    const pid_t child = child_start(run, scene);
    cr_assert(child > 0);
    cr_assert_eq(child_end(child), 0, "the child failed");
}

/* ---- the parent's things --------------------------------------------------------------------- */

static void scene_open(struct scene *scene) {
    sr_ring_options ring_options = SR_RING_OPTIONS_INIT;
    sr_pool_options pool_options = SR_POOL_OPTIONS_INIT;
    int ends[2];
    ring_options.entries = 8;
    ring_options.inbox_entries = 8;
    pool_options.buffer_count = 4;
    rig_open_region(&scene->rig, &ring_options, &pool_options);
    scene->held = rig_buffer(&scene->rig);
    scene->lent = rig_buffer(&scene->rig);
    memset(rig_data(&scene->rig, scene->held, 4096), 'h', 4096);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    scene->pipe_out = ends[0];
    scene->pipe_in = ends[1];
    scene->file = rig_adopt(&scene->rig, ends[0], 0);
    const sr_request read =
        rig_transfer(SR_OP_READ, scene->file, scene->lent, 4096, SR_OFFSET_CURRENT);
    scene->op = rig_submit(&scene->rig, &read);
    cr_assert_eq(sr_ring_flush(scene->rig.ring), 1);
}

/* The parent goes on as if nothing had been: its read ends with its data, nothing else was sent. */
static void scene_prove_and_close(struct scene *scene) {
    sr_completion completion;
    const uint64_t sent_before = rig_stats(&scene->rig).submitted_total;
    cr_assert_eq(sent_before, 1);
    cr_assert_eq(sr_ring_flush(scene->rig.ring), 0, "something was queued that is not ours");
    cr_assert_eq(write(scene->pipe_in, "from the parent", 15), 15);
    cr_assert_eq(rig_wait(&scene->rig, &completion), 1);
    cr_assert_eq(completion.op.bits, scene->op.bits);
    cr_assert_eq(completion.result, 15);
    cr_assert_arr_eq(rig_data(&scene->rig, scene->lent, 15), "from the parent", 15);
    const unsigned char *held = rig_data(&scene->rig, scene->held, 4096);
    for (size_t i = 0; i < 4096; i++) {
        cr_assert_eq(held[i], 'h', "byte %zu of a held buffer changed", i);
    }
    const sr_ring_stats stats = rig_stats(&scene->rig);
    cr_assert_eq(stats.completions_unknown_total, 0);
    cr_assert_eq(stats.completions_stale_total, 0);
    cr_assert_eq(stats.inbox_received_total, 0);
    cr_assert_eq(stats.completed_total, 1);
    cr_assert_eq(sr_pool_release(scene->rig.pool, scene->held), 0);
    cr_assert_eq(sr_pool_release(scene->rig.pool, scene->lent), 0);
    cr_assert_eq(rig_pool_stats(&scene->rig).free_count, 4);
    rig_close(&scene->rig);
    cr_assert_eq(close(scene->pipe_in), 0);
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void expect_ring_calls_are_refused(struct scene *scene) {
    sr_ring *ring = scene->rig.ring;
    sr_request request = SR_REQUEST_INIT;
    const sr_completion *completions = NULL;
    sr_completion completion;
    sr_ring_stats stats = SR_RING_STATS_INIT;
    sr_op op = {1};
    sr_file file = {1};
    int fd = 0;
    EXPECT_EQ(sr_ring_submit(ring, &request, &op), SR_E_FORKED);
    EXPECT_EQ(op.bits, 0);
    request = rig_transfer(SR_OP_WRITE, scene->file, scene->held, 1, 0);
    EXPECT_EQ(sr_ring_submit(ring, &request, NULL), SR_E_FORKED);
    EXPECT_EQ(sr_ring_flush(ring), SR_E_FORKED);
    EXPECT_EQ(sr_ring_wait(ring, 1, SR_FOREVER, NULL, &completions), SR_E_FORKED);
    EXPECT_EQ(sr_ring_wait(ring, 0, 0, NULL, NULL), SR_E_FORKED);
    EXPECT(completions == NULL);
    EXPECT_EQ(sr_op_cancel(ring, scene->op), SR_E_FORKED);
    EXPECT_EQ(sr_op_abandon(ring, scene->op, &completion), SR_E_FORKED);
    EXPECT_EQ(sr_file_adopt(ring, scene->pipe_in, 0, &file), SR_E_FORKED);
    EXPECT_EQ(file.bits, 0);
    EXPECT_EQ(sr_file_adopt(ring, scene->pipe_in, SR_FILE_FIXED, &file), SR_E_FORKED);
    EXPECT_EQ(sr_file_fd(ring, scene->file, &fd), SR_E_FORKED);
    EXPECT_EQ(fd, -1);
    EXPECT_EQ(sr_file_detach(ring, scene->file, &fd), SR_E_FORKED);
    EXPECT_EQ(fd, -1);
    EXPECT_EQ(sr_ring_attach_pool(ring, scene->rig.pool), SR_E_FORKED);
    EXPECT_EQ(sr_ring_detach_pool(ring, scene->rig.pool), SR_E_FORKED);
    EXPECT_EQ(sr_ring_get_stats(ring, &stats), SR_E_FORKED);
    EXPECT_EQ(sr_inbox_post(ring, 1, NULL), SR_E_FORKED);
}

static void expect_pool_calls_are_refused(struct scene *scene) {
    sr_pool *pool = scene->rig.pool;
    sr_pool_stats stats = SR_POOL_STATS_INIT;
    sr_buffer buffer = {1};
    uint64_t bytes = 1;
    void *data = scene;
    EXPECT_EQ(sr_pool_acquire(pool, 1, &buffer), SR_E_FORKED);
    EXPECT_EQ(buffer.bits, 0);
    EXPECT_EQ(sr_pool_acquire_for(pool, 1, 3, &buffer), SR_E_FORKED);
    EXPECT_EQ(sr_pool_release(pool, scene->held), SR_E_FORKED);
    EXPECT_EQ(sr_pool_release(pool, scene->lent), SR_E_FORKED);
    EXPECT_EQ(sr_pool_set_account_limit(pool, 0, 1), SR_E_FORKED);
    EXPECT_EQ(sr_pool_account_bytes(pool, 0, &bytes), SR_E_FORKED);
    EXPECT_EQ(sr_pool_get_stats(pool, &stats), SR_E_FORKED);
    EXPECT_EQ(sr_buffer_data(pool, scene->held, 0, 1, SR_ACCESS_READ, &data), SR_E_FORKED);
    EXPECT(data == NULL);
    EXPECT_EQ(sr_buffer_transfer(pool, scene->held, sr_thread_self()), SR_E_FORKED);
}

static void expect_all_is_refused(struct scene *scene) {
    expect_ring_calls_are_refused(scene);
    expect_pool_calls_are_refused(scene);
}

/* The same once the child has become an owner in its own right. */
static void expect_all_is_refused_twice(struct scene *scene) {
    expect_all_is_refused(scene);
    (void)sr_thread_self();
    expect_all_is_refused(scene);
}

Test(fork, every_call_of_a_child_is_refused) {
    struct scene scene;
    scene_open(&scene);
    const struct sri_queue *queue = &scene.rig.ring->queue;
    const uint32_t tail = queue->sq_tail;
    const uint32_t shared_tail = atomic_load(queue->shared_sq_tail);
    in_child(expect_all_is_refused_twice, &scene);
    cr_assert_eq(queue->sq_tail, tail);
    cr_assert_eq(atomic_load(queue->shared_sq_tail), shared_tail);
    cr_assert_eq(atomic_load(queue->shared_sq_head), shared_tail);
    scene_prove_and_close(&scene);
}

static _Atomic uint32_t misuse_count;

static void count_forked(int code, const char *function, uint64_t handle, void *ctx) {
    (void)function;
    (void)handle;
    (void)ctx;
    misuse_count += code == SR_E_FORKED;
}

static void refuse_one(struct scene *scene) {
    misuse_count = 0;
    EXPECT_EQ(sr_ring_flush(scene->rig.ring), SR_E_FORKED);
    EXPECT_EQ(sr_inbox_post(scene->rig.ring, 1, NULL), SR_E_FORKED);
    EXPECT_EQ(sr_pool_release(scene->rig.pool, scene->held), SR_E_FORKED);
    EXPECT_EQ(misuse_count, 3);
}

Test(fork, a_childs_calls_are_misuse) {
    struct scene scene;
    sr_set_misuse_hook(count_forked, NULL);
    scene_open(&scene);
    in_child(refuse_one, &scene);
    cr_assert_eq(misuse_count, 0);
    scene_prove_and_close(&scene);
}

/* What the parent had queued but not sent stays the parent's. */
static void try_to_send(struct scene *scene) {
    EXPECT_EQ(sr_ring_flush(scene->rig.ring), SR_E_FORKED);
    EXPECT_EQ(sr_ring_wait(scene->rig.ring, 1, SR_FOREVER, NULL, NULL), SR_E_FORKED);
    EXPECT_EQ(sr_ring_destroy(&scene->rig.ring), 0);
}

Test(fork, what_the_parent_queued_only_the_parent_sends) {
    struct rig rig;
    sr_completion completion;
    sr_request request = SR_REQUEST_INIT;
    rig_open(&rig, NULL, NULL);
    request.tag = 41;
    (void)rig_submit(&rig, &request);
    struct scene scene = {.rig = rig};
    in_child(try_to_send, &scene);
    cr_assert_eq(sr_ring_flush(rig.ring), 1);
    cr_assert_eq(rig_wait(&rig, &completion), 1);
    cr_assert_eq(completion.tag, 41);
    cr_assert_eq(rig_stats(&rig).completed_total, 1);
    rig_close(&rig);
}

/* ---- the child's copies ---------------------------------------------------------------------- */

/* Blocks of the library, counted by an allocator; each process has its own count. */
static int64_t blocks_alive;

static void *count_allocate(size_t size_bytes, void *ctx) {
    (void)ctx;
    blocks_alive++;
    return malloc(size_bytes);
}

static void count_release(void *memory, void *ctx) {
    (void)ctx;
    blocks_alive--;
    free(memory);
}

static void count_blocks(void) {
    sr_allocator allocator = SR_ALLOCATOR_INIT;
    allocator.allocate = count_allocate;
    allocator.release = count_release;
    cr_assert_eq(sr_set_allocator(&allocator), 0);
}

static void destroy_all_copies(struct scene *scene) {
    const int fd = scene->pipe_out;
    EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    EXPECT_EQ(sr_pool_destroy(&scene->rig.pool), SR_E_STATE); /* order as in the parent */
    EXPECT_EQ(sr_ring_destroy(&scene->rig.ring), 0);
    EXPECT(scene->rig.ring == NULL);
    EXPECT_EQ(sr_pool_destroy(&scene->rig.pool), 0);
    EXPECT(scene->rig.pool == NULL);
    EXPECT_EQ(sr_region_destroy(&scene->rig.region), 0);
    EXPECT(scene->rig.region == NULL);
    EXPECT_EQ(blocks_alive, 0);
    /* The ring's files are closed here too. */
    EXPECT(fcntl(fd, F_GETFD) < 0 && errno == EBADF);
    sr_quarantine_counts counts = SR_QUARANTINE_STATS_INIT;
    EXPECT_EQ(sr_quarantine_stats(&counts), 0);
    EXPECT_EQ(counts.rings_total, 0);
}

Test(fork, destroy_in_a_child_frees_its_copies_and_nothing_else) {
    struct scene scene;
    count_blocks();
    scene_open(&scene);
    in_child(destroy_all_copies, &scene);
    scene_prove_and_close(&scene);
    cr_assert_eq(blocks_alive, 0);
}

/* Whatever is mapped where the parent's buffers and queues are, it is not the child's to unmap. */
static void destroy_over_other_mappings(struct scene *scene) {
    char *base = sr_region_base(scene->rig.region);
    const size_t size = sr_region_size(scene->rig.region);
    char *mapped = mmap(base, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    EXPECT(mapped == base); /* free: the pages were not inherited */
    memset(mapped, 'n', size);
    void *queue = (void *)((uintptr_t)scene->rig.ring->queue.shared_sq_head & ~(uintptr_t)4095);
    char *over_queue = mmap(queue, 4096, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    EXPECT(over_queue == queue);
    memset(over_queue, 'q', 4096);
    destroy_all_copies(scene);
    for (size_t i = 0; i < size; i++) {
        EXPECT_EQ(mapped[i], 'n');
    }
    for (size_t i = 0; i < 4096; i++) {
        EXPECT_EQ(over_queue[i], 'q');
    }
}

Test(fork, destroy_in_a_child_leaves_other_memory_alone) {
    SKIP_UNDER_VALGRIND();
    struct scene scene;
    count_blocks();
    scene_open(&scene);
    in_child(destroy_over_other_mappings, &scene);
    scene_prove_and_close(&scene);
}

static void touch_a_buffer(struct scene *scene) {
    const struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)signal(SIGSEGV, SIG_DFL); /* a sanitizer's handler would tell a story */
    *(volatile char *)sr_region_base(scene->rig.region) = 'x';
}

Test(fork, a_buffer_that_a_child_touches_is_not_there) {
    struct scene scene;
    scene_open(&scene);
    const int status = child_end(child_start(touch_a_buffer, &scene));
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "status %x", (unsigned)status);
    scene_prove_and_close(&scene);
}

/* Adopted memory is inherited as its owner wished; the library leaves it alone in the child too. */
static void destroy_adopted(struct scene *scene) {
    char *memory = sr_region_base(scene->rig.region);
    EXPECT_EQ(sr_region_destroy(&scene->rig.region), 0);
    EXPECT_EQ(memory[0], 'a');
}

Test(fork, adopted_memory_stays_in_the_child) {
    struct scene scene = {.pipe_in = -1};
    char *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(memory != MAP_FAILED);
    memory[0] = 'a';
    cr_assert_eq(sr_region_adopt(memory, 4096, &scene.rig.region), 0);
    in_child(destroy_adopted, &scene);
    cr_assert_eq(sr_region_destroy(&scene.rig.region), 0);
    cr_assert_eq(memory[0], 'a');
    cr_assert_eq(munmap(memory, 4096), 0);
}

/* ---- a life of its own ----------------------------------------------------------------------- */

/* A whole round of work with new objects, in whichever process. */
static void expect_own_ring_works(void) {
    sr_ring *ring = NULL;
    sr_pool *pool = NULL;
    sr_file file;
    sr_buffer buffer;
    void *data = NULL;
    const sr_completion *completions = NULL;
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.inbox_entries = 4;
    EXPECT_EQ(sr_ring_create(&options, &ring), 0);
    EXPECT_EQ(sr_pool_create(NULL, NULL, &pool), 0);
    EXPECT(sr_ring_attach_pool(ring, pool) >= 0);
    EXPECT_EQ(sr_pool_acquire(pool, 1, &buffer), 0);
    EXPECT_EQ(sr_file_adopt(ring, rig_temporary_file(1000), 0, &file), 0);
    const sr_request read = rig_transfer(SR_OP_READ, file, buffer, 1000, 0);
    EXPECT_EQ(sr_ring_submit(ring, &read, NULL), 0);
    EXPECT_EQ(sr_ring_wait(ring, 1, 10 * RIG_SECOND, NULL, &completions), 1);
    EXPECT_EQ(completions[0].result, 1000);
    EXPECT_EQ(sr_buffer_data(pool, buffer, 0, 1000, SR_ACCESS_READ, &data), 0);
    for (size_t i = 0; i < 1000; i++) {
        EXPECT_EQ(((unsigned char *)data)[i], i % 251);
    }
    EXPECT_EQ(sr_inbox_post(ring, 5, NULL), 0);
    EXPECT_EQ(sr_ring_wait(ring, 1, 10 * RIG_SECOND, NULL, &completions), 1);
    EXPECT_EQ(completions[0].tag, 5);
    EXPECT_EQ(sr_pool_release(pool, buffer), 0);
    EXPECT_EQ(sr_ring_destroy(&ring), 0);
    EXPECT_EQ(sr_pool_destroy(&pool), 0);
}

static void live_beside_the_copies(struct scene *scene) {
    expect_own_ring_works();
    expect_all_is_refused(scene);
    expect_own_ring_works();
}

static void live_after_the_copies(struct scene *scene) {
    EXPECT_EQ(sr_ring_destroy(&scene->rig.ring), 0);
    EXPECT_EQ(sr_pool_destroy(&scene->rig.pool), 0);
    EXPECT_EQ(sr_region_destroy(&scene->rig.region), 0);
    expect_own_ring_works();
}

/* The child's own ring lives while it frees the copies: nothing of it may go with them. */
static void destroy_copies_beside_an_own_ring(struct scene *scene) {
    struct rig own;
    sr_completion completion;
    const sr_request nop = SR_REQUEST_INIT;
    rig_open(&own, NULL, NULL);
    (void)rig_submit(&own, &nop);
    EXPECT_EQ(sr_ring_destroy(&scene->rig.ring), 0);
    EXPECT_EQ(sr_pool_destroy(&scene->rig.pool), 0);
    EXPECT_EQ(sr_region_destroy(&scene->rig.region), 0);
    EXPECT_EQ(rig_wait(&own, &completion), 1);
    EXPECT_EQ(completion.result, 0);
    rig_close(&own);
}

/* Child: things of its own that its child in turn must not use. */
static void be_a_parent(struct scene *grandparents) {
    struct scene own;
    expect_all_is_refused(grandparents);
    rig_open_region(&own.rig, NULL, NULL);
    own.held = rig_buffer(&own.rig);
    own.lent = rig_buffer(&own.rig);
    own.file = rig_adopt(&own.rig, rig_temporary_file(100), 0);
    own.pipe_in = 0;
    own.op = SR_OP_NONE;
    const pid_t grandchild = fork();
    if (grandchild == 0) {
        expect_all_is_refused(grandparents);
        EXPECT_EQ(sr_ring_flush(own.rig.ring), SR_E_FORKED);
        EXPECT_EQ(sr_pool_release(own.rig.pool, own.held), SR_E_FORKED);
        expect_own_ring_works();
        EXPECT_EQ(sr_ring_destroy(&own.rig.ring), 0);
        EXPECT_EQ(sr_pool_destroy(&own.rig.pool), 0);
        EXPECT_EQ(sr_ring_destroy(&grandparents->rig.ring), 0);
        EXPECT_EQ(sr_pool_destroy(&grandparents->rig.pool), 0);
        expect_own_ring_works();
        _exit(0);
    }
    EXPECT(grandchild > 0);
    EXPECT_EQ(child_end(grandchild), 0);
    const sr_request read = rig_transfer(SR_OP_READ, own.file, own.held, 100, 0);
    EXPECT_EQ(rig_run(&own.rig, &read).result, 100);
    EXPECT_EQ(sr_pool_release(own.rig.pool, own.held), 0);
    rig_close(&own.rig);
}

Test(fork, a_child_makes_rings_and_pools_of_its_own) {
    SKIP_UNDER_VALGRIND();
    struct scene scene;
    scene_open(&scene);
    in_child(live_beside_the_copies, &scene);
    in_child(live_after_the_copies, &scene);
    in_child(destroy_copies_beside_an_own_ring, &scene);
    scene_prove_and_close(&scene);
}

Test(fork, a_grandchild_does_too) {
    SKIP_UNDER_VALGRIND();
    struct scene scene;
    scene_open(&scene);
    in_child(be_a_parent, &scene);
    scene_prove_and_close(&scene);
}

static void live_alone(struct scene *scene) {
    (void)scene;
    expect_own_ring_works();
}

Test(fork, a_child_of_a_parent_that_never_used_the_library_works) {
    in_child(live_alone, NULL);
}

static void use_a_thread(struct scene *scene);

Test(fork, threads_of_a_child_are_refused_and_own_what_they_make) {
    SKIP_UNDER_VALGRIND();
    struct scene scene;
    scene_open(&scene);
    in_child(use_a_thread, &scene);
    scene_prove_and_close(&scene);
}

static void *refused_thread(void *ctx) {
    expect_all_is_refused(ctx);
    expect_own_ring_works();
    return NULL;
}

static void use_a_thread(struct scene *scene) {
    pthread_t thread;
    EXPECT_EQ(pthread_create(&thread, NULL, refused_thread, scene), 0);
    EXPECT_EQ(pthread_join(thread, NULL), 0);
}

/* A pool or ring whose owner in the parent is another thread is the child's copy all the same. */
static struct scene threads_scene;

static void *open_in_thread(void *ctx) {
    pthread_barrier_t *step = ctx;
    scene_open(&threads_scene);
    pthread_barrier_wait(step);
    pthread_barrier_wait(step);
    scene_prove_and_close(&threads_scene);
    return NULL;
}

static void destroy_another_threads_copies(struct scene *scene) {
    expect_all_is_refused(scene);
    EXPECT_EQ(sr_ring_destroy(&scene->rig.ring), 0);
    EXPECT_EQ(sr_pool_destroy(&scene->rig.pool), 0);
    EXPECT_EQ(sr_region_destroy(&scene->rig.region), 0);
}

Test(fork, copies_of_another_threads_objects_are_the_childs) {
    pthread_barrier_t step;
    pthread_t thread;
    cr_assert_eq(pthread_barrier_init(&step, NULL, 2), 0);
    cr_assert_eq(pthread_create(&thread, NULL, open_in_thread, &step), 0);
    pthread_barrier_wait(&step);
    in_child(destroy_another_threads_copies, &threads_scene);
    pthread_barrier_wait(&step);
    cr_assert_eq(pthread_join(thread, NULL), 0);
}

/* ---- a busy process -------------------------------------------------------------------------- */

static _Atomic bool over;
static _Atomic uint64_t rounds;

/* Takes every lock of the library and of malloc again and again. */
static void *be_busy(void *ctx) {
    (void)ctx;
    while (!over) {
        sr_quarantine_counts counts = SR_QUARANTINE_STATS_INIT;
        sr_ring_options options = SR_RING_OPTIONS_INIT;
        sr_ring *ring = NULL;
        sr_pool *pool = NULL;
        sr_buffer buffer;
        options.entries = 2;
        cr_assert_eq(sr_ring_create(&options, &ring), 0);
        cr_assert_eq(sr_pool_create(NULL, NULL, &pool), 0);
        cr_assert_eq(sr_pool_acquire(pool, 1, &buffer), 0);
        cr_assert_eq(sr_quarantine_stats(&counts), 0);
        cr_assert_eq(sr_pool_release(pool, buffer), 0);
        cr_assert_eq(sr_ring_destroy(&ring), 0);
        cr_assert_eq(sr_pool_destroy(&pool), 0);
        rounds++;
    }
    return NULL;
}

/* Comes and goes: the list of owners changes. */
static void *meet_the_library(void *ctx) {
    (void)ctx;
    (void)sr_thread_self();
    return NULL;
}

static void *start_threads(void *ctx) {
    (void)ctx;
    while (!over) {
        pthread_t thread;
        cr_assert_eq(pthread_create(&thread, NULL, meet_the_library, NULL), 0);
        cr_assert_eq(pthread_join(thread, NULL), 0);
    }
    return NULL;
}

static void live_after_a_busy_fork(struct scene *scene) {
    sr_quarantine_counts counts = SR_QUARANTINE_STATS_INIT;
    (void)alarm(20); /* an inherited lock that nobody unlocks shows as SIGALRM */
    expect_all_is_refused(scene);
    EXPECT_EQ(sr_quarantine_stats(&counts), 0);
    EXPECT_EQ(sr_quarantine_sweep(0), 0);
    if (HAS_ASAN || RUNNING_ON_VALGRIND) {
        return; /* ASan's malloc does not survive a fork beside busy threads */
    }
    EXPECT_EQ(sr_ring_destroy(&scene->rig.ring), 0);
    EXPECT_EQ(sr_pool_destroy(&scene->rig.pool), 0);
    expect_own_ring_works();
}

Test(fork, a_process_with_busy_threads_forks) {
    pthread_t threads[3];
    struct scene scene;
    scene_open(&scene);
    cr_assert_eq(pthread_create(&threads[0], NULL, be_busy, NULL), 0);
    cr_assert_eq(pthread_create(&threads[1], NULL, be_busy, NULL), 0);
    cr_assert_eq(pthread_create(&threads[2], NULL, start_threads, NULL), 0);
    while (rounds < 3) {
        (void)usleep(1000);
    }
    for (int i = 0; i < 15; i++) {
        in_child(live_after_a_busy_fork, &scene);
    }
    over = true;
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
    }
    scene_prove_and_close(&scene);
}

/* ---- other ways to make a process ------------------------------------------------------------ */

/* clone(2) without glibc: no fork handler runs, only the kernel wipes the page. */
static void in_bare_clone(child_fn *run, struct scene *scene) {
    const long child = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (child == 0) {
        run(scene);
        _exit(0);
    }
    cr_assert(child > 0);
    cr_assert_eq(child_end((pid_t)child), 0, "the child failed");
}

Test(fork, a_child_made_by_bare_clone_is_refused_too) {
    SKIP_UNDER_VALGRIND();
    struct scene scene;
    count_blocks();
    scene_open(&scene);
    in_bare_clone(expect_all_is_refused_twice, &scene);
    in_bare_clone(live_beside_the_copies, &scene);
    in_bare_clone(destroy_all_copies, &scene);
    in_bare_clone(live_after_the_copies, &scene);
    scene_prove_and_close(&scene);
}

Test(fork, a_grandchild_of_a_bare_clone_is_refused_too) {
    SKIP_UNDER_VALGRIND();
    struct scene scene;
    scene_open(&scene);
    in_bare_clone(be_a_parent, &scene);
    scene_prove_and_close(&scene);
}

Test(fork, vfork_disturbs_nobody) {
    struct scene scene;
    scene_open(&scene);
    const pid_t child = vfork();
    if (child == 0) {
        (void)execl("/bin/true", "true", (char *)NULL);
        _exit(127);
    }
    cr_assert_eq(child_end(child), 0);
    scene_prove_and_close(&scene);
}

Test(fork, programs_that_are_started_disturb_nobody) {
    struct scene scene;
    pid_t child = 0;
    char line[64] = "";
    char *words[] = {(char *)"sh", (char *)"-c", (char *)"exit 3", NULL};
    scene_open(&scene);
    cr_assert_eq(posix_spawn(&child, "/bin/sh", NULL, NULL, words, environ), 0);
    const int status = child_end(child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 3);
    FILE *pipe_out = popen("echo still here", "r");
    cr_assert_not_null(pipe_out);
    cr_assert_not_null(fgets(line, sizeof line, pipe_out));
    cr_assert_str_eq(line, "still here\n");
    cr_assert_eq(pclose(pipe_out), 0);
    cr_assert_eq(system("exit 0"), 0);
    scene_prove_and_close(&scene);
}

/* A started program inherits no descriptor of the library: rings, pipes, files. */
Test(fork, a_started_program_inherits_no_descriptor) {
    struct scene scene;
    char text[32];
    scene_open(&scene);
    FILE *list = popen("ls /proc/self/fd | wc -l", "r");
    cr_assert_not_null(list);
    cr_assert_not_null(fgets(text, sizeof text, list));
    const int with_ring = atoi(text);
    cr_assert_eq(pclose(list), 0);
    scene_prove_and_close(&scene);
    list = popen("ls /proc/self/fd | wc -l", "r");
    cr_assert_not_null(list);
    cr_assert_not_null(fgets(text, sizeof text, list));
    cr_assert_eq(pclose(list), 0);
    cr_assert_eq(atoi(text), with_ring);
}

/* ---- in the midst of things ------------------------------------------------------------------ */

struct midst {
    struct scene scene;
    int status;
    uint32_t runs;
};

static void try_all_in_callback(struct scene *scene) {
    expect_all_is_refused(scene);
    EXPECT_EQ(sr_ring_destroy(&scene->rig.ring), 0);
    EXPECT_EQ(sr_pool_destroy(&scene->rig.pool), 0);
}

static void fork_in_callback(sr_ring *ring, const sr_completion *completion, void *ctx) {
    struct midst *midst = ctx;
    (void)ring;
    midst->runs++;
    if (completion->result >= 0) {
        const pid_t child = child_start(try_all_in_callback, &midst->scene);
        midst->status = child > 0 ? child_end(child) : -1;
    }
}

Test(fork, a_child_forked_inside_a_callback_is_refused) {
    struct midst midst = {.status = -1};
    sr_request request = SR_REQUEST_INIT;
    rig_open_region(&midst.scene.rig, NULL, NULL);
    midst.scene.held = rig_buffer(&midst.scene.rig);
    midst.scene.lent = rig_buffer(&midst.scene.rig);
    midst.scene.file = rig_adopt(&midst.scene.rig, rig_temporary_file(10), 0);
    midst.scene.pipe_in = 0;
    midst.scene.op = SR_OP_NONE;
    request.on_complete = fork_in_callback;
    request.ctx = &midst;
    (void)rig_submit(&midst.scene.rig, &request);
    cr_assert_eq(sr_ring_wait(midst.scene.rig.ring, 1, 10 * RIG_SECOND, NULL, NULL), 0);
    cr_assert_eq(midst.runs, 1);
    cr_assert_eq(midst.status, 0);
    rig_close(&midst.scene.rig);
}

/* The parent's quarantine is none of the child's. */
static void see_an_empty_quarantine(struct scene *scene) {
    sr_quarantine_counts counts = SR_QUARANTINE_STATS_INIT;
    (void)scene;
    EXPECT_EQ(sr_quarantine_stats(&counts), 0);
    EXPECT_EQ(counts.rings, 0);
    EXPECT_EQ(counts.rings_total, 0);
    EXPECT_EQ(sr_quarantine_sweep(0), 0);
    EXPECT_EQ(sr_quarantine_sweep(10 * RIG_MS), 0);
}

static void *open_and_leave(void *ctx) {
    scene_open(ctx);
    return NULL;
}

Test(fork, the_quarantine_stays_the_parents) {
    static struct scene scene;
    sr_quarantine_counts counts = SR_QUARANTINE_STATS_INIT;
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, open_and_leave, &scene), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(sr_ring_destroy(&scene.rig.ring), SR_E_IN_FLIGHT);
    in_child(see_an_empty_quarantine, &scene);
    cr_assert_eq(sr_quarantine_stats(&counts), 0);
    cr_assert_eq(counts.rings, 1);
    cr_assert_eq(sr_quarantine_sweep(10 * RIG_SECOND), 0);
    cr_assert_eq(sr_pool_destroy(&scene.rig.pool), 0);
    cr_assert_eq(sr_region_destroy(&scene.rig.region), 0);
    cr_assert_eq(close(scene.pipe_in), 0);
}

/* A child that lives on holds a copy of the ring's descriptor; the parent's drained end needs no
 * such copy to be gone, and nothing is left in quarantine. */
static void live_until_told(struct scene *scene) {
    (void)scene;
    (void)pause();
}

Test(fork, a_child_that_lives_on_does_not_keep_the_parent_from_ending) {
    struct scene scene;
    scene_open(&scene);
    const pid_t child = child_start(live_until_told, &scene);
    cr_assert(child > 0);
    scene_prove_and_close(&scene);
    cr_assert_eq(kill(child, SIGKILL), 0);
    const int status = child_end(child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}
