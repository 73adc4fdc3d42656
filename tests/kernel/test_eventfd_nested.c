/* SPDX-License-Identifier: MIT */
/*
 * What we believe of the kernel: an eventfd that is registered with a ring is signalled only once
 * when the completion comes out of the wake-up of another eventfd (io_uring/eventfd.c puts the
 * signal off with a bit that nothing takes back); a new registration is signalled once more. So
 * src/ring/event.c registers anew where that can happen, and messages do not go that way at all.
 */
#include <criterion/criterion.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ROUNDS 4

static struct io_uring ring;
static int read_by_ring;
static int registered;

static void *write_to_it(void *ctx) {
    const uint64_t one = 1;
    (void)ctx;
    (void)usleep(10000);
    cr_assert_eq(write(read_by_ring, &one, sizeof one), 8);
    return NULL;
}

/* Whether the registered eventfd is signalled within some time when the other one, which the ring
 * reads, is written. The kernel may put it off (call_rcu()). */
static bool is_signalled(int patience_ms) {
    static uint64_t count;
    pthread_t thread;
    struct io_uring_cqe *cqe = NULL;
    struct pollfd fd = {.fd = registered, .events = POLLIN};
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    io_uring_prep_read(sqe, read_by_ring, &count, sizeof count, 0);
    cr_assert_eq(io_uring_submit(&ring), 1);
    while (read(registered, &count, sizeof count) > 0) {
    }
    cr_assert_eq(pthread_create(&thread, NULL, write_to_it, NULL), 0);
    const int ready = poll(&fd, 1, patience_ms);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(io_uring_wait_cqe(&ring, &cqe), 0);
    cr_assert_eq(cqe->res, 8);
    io_uring_cqe_seen(&ring, cqe);
    return ready == 1;
}

Test(eventfd_nested, a_fresh_registration_is_signalled_out_of_another_eventfd) {
    struct io_uring_params params = {.flags =
                                         IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    if (io_uring_queue_init_params(8, &ring, &params) != 0) {
        cr_skip_test("no deferred task work before Linux 6.1");
    }
    registered = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    read_by_ring = eventfd(0, EFD_CLOEXEC);
    uint32_t signalled_again = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        cr_assert_eq(io_uring_register_eventfd(&ring, registered), 0);
        cr_assert(is_signalled(20000), "round %u", round);
        signalled_again += is_signalled(300);
        cr_assert_eq(io_uring_unregister_eventfd(&ring), 0);
    }
    fprintf(stderr, "eventfd_nested: second signals of a registration: %u of %u\n", signalled_again,
            ROUNDS);
    io_uring_queue_exit(&ring);
}
