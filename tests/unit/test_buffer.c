/* SPDX-License-Identifier: MIT */
#include "unit/fixture.h"

#include "buffer/lend.h"

#define SIZE ((size_t)1000)

static int look(sr_pool *pool, sr_buffer buffer, size_t offset, size_t length, int access) {
    void *data = NULL;
    const int code = sr_buffer_data(pool, buffer, offset, length, access, &data);
    cr_assert_eq(data != NULL, code == 0, "the output is cleared on failure, and only then");
    return code;
}

Test(buffer, a_range_inside_of_the_buffer_is_given_at_its_place) {
    sr_pool *pool = pool_make(SIZE, 2);
    const sr_buffer buffer = buffer_take(pool);
    unsigned char *base = buffer_bytes(pool, buffer, SIZE);
    const struct {
        size_t offset;
        size_t length;
    } ranges[] = {{0, 1}, {0, SIZE}, {SIZE - 1, 1}, {1, SIZE - 1}, {500, 500}, {499, 2}};
    for (size_t i = 0; i < COUNT_OF(ranges); i++) {
        for (int access = SR_ACCESS_READ; access <= SR_ACCESS_WRITE; access++) {
            void *data = NULL;
            assert_ok(
                sr_buffer_data(pool, buffer, ranges[i].offset, ranges[i].length, access, &data));
            cr_assert_eq(data, (void *)(base + ranges[i].offset));
        }
    }
    pool_end(&pool);
}

Test(buffer, a_range_that_leaves_the_buffer_is_refused_whatever_overflows) {
    sr_pool *pool = pool_make(SIZE, 2);
    const sr_buffer buffer = buffer_take(pool);
    const struct {
        size_t offset;
        size_t length;
    } ranges[] = {
        {0, 0},        {500, 0},          {SIZE, 0},       {0, SIZE + 1},   {SIZE, 1},
        {1, SIZE},     {SIZE - 1, 2},     {SIZE_MAX, 1},   {SIZE_MAX, 2},   {1, SIZE_MAX},
        {0, SIZE_MAX}, {SIZE_MAX - 1, 3}, {0, 1ull << 32}, {1ull << 32, 1}, {5, (1ull << 32) + 1},
    };
    misuse_watch();
    for (size_t i = 0; i < COUNT_OF(ranges); i++) {
        assert_code(look(pool, buffer, ranges[i].offset, ranges[i].length, SR_ACCESS_READ),
                    SR_E_BOUNDS);
        cr_assert_eq(misuse.handle, buffer.bits);
        assert_misuse("sr_buffer_data", SR_E_BOUNDS);
    }
    pool_end(&pool);
}

Test(buffer, an_access_that_is_neither_reading_nor_writing_is_refused) {
    sr_pool *pool = pool_make(SIZE, 2);
    const sr_buffer buffer = buffer_take(pool);
    const int strange[] = {-1, 2, 3, INT32_MAX, INT32_MIN};
    misuse_watch();
    for (size_t i = 0; i < COUNT_OF(strange); i++) {
        assert_code(look(pool, buffer, 0, 1, strange[i]), -EINVAL);
        assert_misuse("sr_buffer_data", -EINVAL);
    }
    assert_code(sr_buffer_data(pool, buffer, 0, 1, SR_ACCESS_READ, NULL), -EINVAL);
    assert_misuse("sr_buffer_data", -EINVAL);
    pool_end(&pool);
}

Test(buffer, what_the_kernel_writes_is_out_of_reach_and_the_rest_is_not) {
    sr_pool *pool = pool_make(SIZE, 2);
    const sr_buffer buffer = buffer_take(pool);
    struct sri_loan loan;
    void *memory = NULL;
    assert_ok(sri_loan_begin(pool, buffer.bits, 200, 100, true, &loan, &memory));
    misuse_watch();
    for (int access = SR_ACCESS_READ; access <= SR_ACCESS_WRITE; access++) {
        assert_code(look(pool, buffer, 200, 100, access), SR_E_LENT);
        assert_misuse("sr_buffer_data", SR_E_LENT);
        assert_code(look(pool, buffer, 199, 2, access), SR_E_LENT);
        assert_code(look(pool, buffer, 299, 2, access), SR_E_LENT);
        assert_code(look(pool, buffer, 0, SIZE, access), SR_E_LENT);
        assert_code(look(pool, buffer, 250, 1, access), SR_E_LENT);
        misuse_forget();
        assert_ok(look(pool, buffer, 0, 200, access));
        assert_ok(look(pool, buffer, 300, SIZE - 300, access));
        assert_no_misuse();
    }
    sri_loan_end(pool, &loan, 100);
    assert_ok(look(pool, buffer, 0, SIZE, SR_ACCESS_WRITE));
    pool_end(&pool);
}

Test(buffer, what_the_kernel_reads_may_be_read_and_not_written) {
    sr_pool *pool = pool_make(SIZE, 2);
    const sr_buffer buffer = buffer_take(pool);
    struct sri_loan loan;
    void *memory = NULL;
    assert_ok(sri_loan_begin(pool, buffer.bits, 200, 100, false, &loan, &memory));
    assert_ok(look(pool, buffer, 0, SIZE, SR_ACCESS_READ));
    assert_code(look(pool, buffer, 299, 1, SR_ACCESS_WRITE), SR_E_LENT);
    assert_ok(look(pool, buffer, 300, 1, SR_ACCESS_WRITE));
    sri_loan_end(pool, &loan, 0);
    assert_ok(look(pool, buffer, 0, SIZE, SR_ACCESS_WRITE));
    pool_end(&pool);
}

Test(buffer, a_lent_buffer_is_neither_released_nor_transferred) {
    sr_pool *pool = pool_make(SIZE, 2);
    const sr_buffer buffer = buffer_take(pool);
    struct sri_loan loan;
    void *memory = NULL;
    for (int writer = 0; writer <= 1; writer++) {
        assert_ok(sri_loan_begin(pool, buffer.bits, 0, 1, writer == 1, &loan, &memory));
        misuse_watch();
        assert_code(sr_pool_release(pool, buffer), SR_E_IN_FLIGHT);
        assert_misuse("sr_pool_release", SR_E_IN_FLIGHT);
        assert_code(sr_buffer_transfer(pool, buffer, sr_thread_self()), SR_E_IN_FLIGHT);
        assert_misuse("sr_buffer_transfer", SR_E_IN_FLIGHT);
        sri_loan_end(pool, &loan, 0);
    }
    assert_ok(sr_pool_release(pool, buffer));
    pool_end(&pool);
}

/* ---- transfer ---------------------------------------------------------------------------------
 */

struct handover {
    sr_pool *pool;
    sr_buffer buffer;
    sr_thread owner;
    sr_thread receiver;
    pthread_barrier_t barrier;
};

static void *receive(void *ctx) {
    struct handover *handover = ctx;
    handover->receiver = sr_thread_self();
    assert_code(look(handover->pool, handover->buffer, 0, 1, SR_ACCESS_READ), SR_E_WRONG_THREAD);
    pthread_barrier_wait(&handover->barrier); /* the owner transfers */
    pthread_barrier_wait(&handover->barrier);
    unsigned char *bytes = buffer_bytes(handover->pool, handover->buffer, SIZE);
    cr_assert_eq(bytes[SIZE - 1], 42);
    bytes[SIZE - 1] = 43;
    assert_ok(sr_buffer_transfer(handover->pool, handover->buffer, handover->owner));
    assert_code(look(handover->pool, handover->buffer, 0, 1, SR_ACCESS_READ), SR_E_WRONG_THREAD);
    return NULL;
}

Test(buffer, a_transferred_buffer_is_the_receivers_alone_until_it_is_given_back) {
    struct handover handover = {.pool = pool_make(SIZE, 2), .owner = sr_thread_self()};
    pthread_t thread;
    handover.buffer = buffer_take(handover.pool);
    buffer_bytes(handover.pool, handover.buffer, SIZE)[SIZE - 1] = 42;
    cr_assert_eq(pthread_barrier_init(&handover.barrier, NULL, 2), 0);
    cr_assert_eq(pthread_create(&thread, NULL, receive, &handover), 0);
    pthread_barrier_wait(&handover.barrier);
    assert_ok(sr_buffer_transfer(handover.pool, handover.buffer, handover.receiver));
    misuse_watch();
    assert_code(look(handover.pool, handover.buffer, 0, 1, SR_ACCESS_READ), SR_E_WRONG_THREAD);
    assert_misuse("sr_buffer_data", SR_E_WRONG_THREAD);
    assert_code(sr_pool_release(handover.pool, handover.buffer), SR_E_WRONG_THREAD);
    assert_misuse("sr_pool_release", SR_E_WRONG_THREAD);
    assert_code(sr_buffer_transfer(handover.pool, handover.buffer, handover.owner),
                SR_E_WRONG_THREAD);
    assert_misuse("sr_buffer_transfer", SR_E_WRONG_THREAD);
    sr_set_misuse_hook(NULL, NULL);
    pthread_barrier_wait(&handover.barrier);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(buffer_bytes(handover.pool, handover.buffer, SIZE)[SIZE - 1], 43);
    assert_ok(sr_pool_release(handover.pool, handover.buffer));
    pthread_barrier_destroy(&handover.barrier);
    pool_end(&handover.pool);
}

Test(buffer, no_thread_is_no_receiver) {
    sr_pool *pool = pool_make(SIZE, 2);
    const sr_buffer buffer = buffer_take(pool);
    misuse_watch();
    assert_code(sr_buffer_transfer(pool, buffer, (sr_thread){0}), -EINVAL);
    assert_misuse("sr_buffer_transfer", -EINVAL);
    /* A thread of another process: the era in its upper bits is not ours. */
    const sr_thread stranger = {sr_thread_self().bits ^ (UINT64_C(1) << 62)};
    assert_code(sr_buffer_transfer(pool, buffer, stranger), -EINVAL);
    assert_misuse("sr_buffer_transfer", -EINVAL);
    assert_ok(look(pool, buffer, 0, SIZE, SR_ACCESS_WRITE));
    assert_ok(sr_buffer_transfer(pool, buffer, sr_thread_self()));
    assert_ok(sr_pool_release(pool, buffer));
    pool_end(&pool);
}

Test(buffer, a_rings_thread_is_the_one_that_made_it) {
    sr_ring *ring = ring_make(NULL);
    cr_assert_eq(sr_ring_thread(ring).bits, sr_thread_self().bits);
    cr_assert_neq(sr_thread_self().bits, 0);
    sr_pool *pool = pool_make(SIZE, 2);
    assert_ok(sr_buffer_transfer(pool, buffer_take(pool), sr_ring_thread(ring)));
    pool_end(&pool);
    ring_end(&ring);
}

static void *note_self(void *ctx) {
    *(sr_thread *)ctx = sr_thread_self();
    cr_assert_eq(sr_thread_self().bits, ((sr_thread *)ctx)->bits);
    return NULL;
}

Test(buffer, a_threads_name_is_never_used_again) {
    sr_thread names[50];
    for (uint32_t i = 0; i < COUNT_OF(names); i++) {
        thread_run(note_self, &names[i]);
        cr_assert_neq(names[i].bits, 0);
        cr_assert_neq(names[i].bits, sr_thread_self().bits);
        for (uint32_t j = 0; j < i; j++) {
            cr_assert_neq(names[i].bits, names[j].bits);
        }
    }
}
