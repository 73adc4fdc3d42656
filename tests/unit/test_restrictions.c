/* SPDX-License-Identifier: MIT */
/*
 * A locked-down ring takes the operations of its list and no others; what the library does for
 * itself goes on working; and the kernel holds to it too, whoever writes into the queue.
 */
#include "support/failing.h"
#include "support/raw.h"
#include "unit/fixture.h"

#include "ring/ring.h"
#include <poll.h>
#include <sys/socket.h>

#define MS UINT64_C(1000000)

static sr_ring *locked(const uint16_t *ops, uint32_t count, sr_ring_options options) {
    options.ops_allowed = ops;
    options.ops_allowed_count = count;
    return ring_make(&options);
}

static sr_ring_options defaults(void) {
    const sr_ring_options options = SR_RING_OPTIONS_INIT;
    return options;
}

Test(restrictions, what_is_not_in_the_list_is_refused_and_nothing_happens) {
    const uint16_t ops[] = {SR_OP_READ, SR_OP_NOP};
    int ends[2];
    sr_ring *ring = locked(ops, COUNT_OF(ops), defaults());
    sr_pool *pool = pool_make(4096, 2);
    pool_attach(ring, pool);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    const sr_file file = file_take(ring, ends[0]);
    const sr_buffer buffer = buffer_take(pool);
    sr_slice slice = {buffer, 0, 1};
    for (uint16_t op = 0; op < SR_OP_COUNT; op++) {
        sr_request request = request_of(op);
        sr_op given = {1};
        if (op == SR_OP_READ || op == SR_OP_NOP || op == SR_OP_CLOSE) {
            continue;
        }
        request.file = file;
        request.other = file;
        request.buffer = buffer;
        request.path = request.new_path = "/tmp/never made";
        request.slices = &slice;
        request.slice_count = 1;
        const int code = sr_ring_submit(ring, &request, &given);
        cr_assert_eq(code, -EACCES, "operation %u: %s", op, sr_error_name(code));
        cr_assert_eq(given.bits, 0);
    }
    cr_assert_eq(ring_stats(ring).submitted_total, 0);
    sr_request request = request_of(SR_OP_READ);
    request.file = file;
    request.buffer = buffer;
    request.length = 10;
    request.offset = SR_OFFSET_CURRENT;
    cr_assert_eq(write(ends[1], "in", 2), 2);
    assert_code(run(ring, &request).result, 2);
    request = request_of(SR_OP_NOP);
    assert_ok(run(ring, &request).result);
    file_close(ring, file);
    (void)close(ends[1]);
    ring_end(&ring);
    pool_end(&pool);
}

Test(restrictions, cancel_deadline_files_inbox_and_event_descriptor_go_on_working) {
    const uint16_t ops[] = {SR_OP_READ, SR_OP_RECV};
    sr_ring_options options = defaults();
    int ends[2];
    int event_fd = -1;
    sr_file fixed;
    sr_buffer_ring *buffer_ring = NULL;
    const sr_buffer_ring_options four = {sizeof(sr_buffer_ring_options), 4, 2};
    options.inbox_entries = 4;
    sr_ring *ring = locked(ops, COUNT_OF(ops), options);
    sr_pool *pool = pool_make(4096, 8);
    pool_attach(ring, pool);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_ok(sr_file_adopt(ring, ends[0], SR_FILE_FIXED, &fixed));
    assert_ok(sr_ring_event_fd(ring, &event_fd));
    assert_ok(sr_buffer_ring_create(ring, pool, &four, &buffer_ring));
    sr_request request = request_of(SR_OP_READ);
    request.file = fixed;
    request.buffer = buffer_take(pool);
    request.length = 10;
    const sr_op op = submit(ring, &request);
    assert_code(sr_ring_flush(ring), 1);
    assert_ok(sr_op_cancel(ring, op));
    assert_code(wait_one(ring).result, -ECANCELED);
    request.deadline_ns = 10 * MS;
    assert_code(run(ring, &request).result, -ECANCELED);
    assert_ok(sr_inbox_post(ring, 3, NULL));
    cr_assert_eq(wait_one(ring).tag, 3);
    request = request_of(SR_OP_RECV);
    request.file = fixed;
    request.buffer_ring = buffer_ring;
    request.flags = SR_REQUEST_MULTISHOT;
    (void)submit(ring, &request);
    cr_assert_eq(write(ends[1], "x", 1), 1);
    assert_code(wait_one(ring).result, 1);
    assert_ok(sr_ring_detach_pool(ring, pool));
    (void)close(ends[1]);
    ring_end(&ring);
    pool_end(&pool);
}

/* Past all checks of the library: an SQE of another hand in the same queue. */
Test(restrictions, the_kernel_holds_to_them_too) {
    const uint16_t ops[] = {SR_OP_READ};
    sr_ring *ring = locked(ops, COUNT_OF(ops), defaults());
    struct sri_queue *queue = &ring->queue;
    struct io_uring_sqe *sqe = sri_queue_next_sqe(queue);
    sqe->opcode = IORING_OP_SOCKET;
    sqe->fd = AF_UNIX;
    sqe->off = SOCK_STREAM;
    sqe->user_data = 77;
    const struct sri_wait wait = {1, 1000 * MS, NULL};
    cr_assert_eq(queue->backend->queue_enter(queue, 1, &wait), 1);
    cr_assert_eq(sri_queue_ready(queue), 1);
    const struct sri_cqe cqe = sri_queue_take_cqe(queue);
    cr_assert_eq(cqe.user_data, 77);
    assert_code(cqe.result, -EACCES);
    sri_queue_release_cqes(queue);
    ring_end(&ring);
}

Test(restrictions, a_substitute_obeys_them_as_well) {
    const uint16_t ops[] = {SR_OP_NOP};
    failing_install();
    failing_mask_op(SRI_IORING_OP_FTRUNCATE);
    sr_ring *ring = locked(ops, COUNT_OF(ops), defaults());
    const int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    sr_request request = request_of(SR_OP_FTRUNCATE);
    struct stat status;
    request.file = file_take(ring, fd);
    request.length = 100;
    assert_code(sr_ring_submit(ring, &request, NULL), -EACCES);
    cr_assert_eq(fstat(fd, &status), 0);
    cr_assert_eq(status.st_size, 0);
    cr_assert_eq(ring_stats(ring).substitutes_total, 0);
    ring_end(&ring);
    failing_remove();
}

Test(restrictions, an_empty_list_allows_nothing_and_an_unknown_operation_is_refused) {
    const uint16_t unknown[] = {SR_OP_COUNT};
    sr_ring_options options = defaults();
    sr_ring *ring = locked(unknown, 0, defaults());
    const sr_request nop = request_of(SR_OP_NOP);
    assert_code(sr_ring_submit(ring, &nop, NULL), -EACCES);
    ring_end(&ring);
    options.ops_allowed = unknown;
    options.ops_allowed_count = 1;
    assert_code(sr_ring_create(&options, &ring), -EINVAL);
    cr_assert_null(ring);
}
