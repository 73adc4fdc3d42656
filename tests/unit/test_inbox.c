/* SPDX-License-Identifier: MIT */
/* The inbox as its owner sees it; other threads post to it in tests/threads/inbox.c. */
#include "unit/fixture.h"

#define MS   UINT64_C(1000000)
#define HOUR (3600000 * MS)

TestSuite(inbox, .timeout = 30);

static sr_ring *ring_with(uint32_t inbox_entries, uint32_t completions_max) {
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.inbox_entries = inbox_entries;
    options.completions_max = completions_max;
    return ring_make(&options);
}

static int wait_for(sr_ring *ring, uint32_t count_min, uint64_t timeout_ns,
                    const sr_completion **out) {
    return sr_ring_wait(ring, count_min, timeout_ns, NULL, out);
}

static void assert_is_message(const sr_completion *completion, uint64_t tag, const void *ctx) {
    cr_assert_eq(completion->flags, SR_COMPLETION_INBOX);
    cr_assert_eq(completion->tag, tag);
    cr_assert_eq(completion->ctx, ctx);
    cr_assert(completion->op.bits == 0 && completion->result == 0 && completion->file.bits == 0 &&
              completion->buffer.bits == 0 && completion->statx == NULL);
}

Test(inbox, a_ring_without_an_inbox_takes_no_messages) {
    sr_ring *ring = ring_with(0, 0);
    misuse_watch();
    assert_code(sr_inbox_post(ring, 1, NULL), SR_E_STATE);
    assert_misuse("sr_inbox_post", SR_E_STATE);
    ring_end(&ring);
}

Test(inbox, messages_come_out_in_order_with_tag_and_ctx) {
    static char places[5];
    const sr_completion *completions = NULL;
    sr_ring *ring = ring_with(8, 0);
    for (uint64_t i = 0; i < 5; i++) {
        assert_ok(sr_inbox_post(ring, UINT64_MAX - i, &places[i]));
    }
    assert_code(wait_for(ring, 5, SR_FOREVER, &completions), 5);
    for (uint64_t i = 0; i < 5; i++) {
        assert_is_message(&completions[i], UINT64_MAX - i, &places[i]);
    }
    cr_assert_eq(ring_stats(ring).inbox_received_total, 5);
    cr_assert_eq(ring_stats(ring).inbox_wakeups_total, 0, "nobody slept");
    ring_end(&ring);
}

Test(inbox, as_many_messages_wait_as_there_are_entries) {
    const uint32_t sizes[] = {2, 4, 64, 65536};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        const sr_completion *completions = NULL;
        sr_ring *ring = ring_with(sizes[i], 65536);
        misuse_watch();
        for (uint64_t round = 0; round < 3; round++) { /* around the end of the cells, too */
            for (uint64_t n = 0; n < sizes[i]; n++) {
                assert_ok(sr_inbox_post(ring, n, NULL));
            }
            assert_code(sr_inbox_post(ring, 999999, NULL), SR_E_FULL);
            assert_code(sr_inbox_post(ring, 999999, NULL), SR_E_FULL);
            assert_no_misuse();
            assert_code(wait_for(ring, sizes[i], SR_FOREVER, &completions), (int)sizes[i]);
            for (uint64_t n = 0; n < sizes[i]; n++) {
                assert_is_message(&completions[n], n, NULL);
            }
        }
        assert_code(wait_for(ring, 0, 0, &completions), 0);
        ring_end(&ring);
    }
}

Test(inbox, one_message_at_a_time_goes_round_many_times) {
    const sr_completion *completions = NULL;
    sr_ring *ring = ring_with(2, 0);
    for (uint64_t i = 0; i < 1000; i++) {
        assert_ok(sr_inbox_post(ring, i, NULL));
        assert_code(wait_for(ring, 1, SR_FOREVER, &completions), 1);
        assert_is_message(&completions[0], i, NULL);
    }
    ring_end(&ring);
}

Test(inbox, with_an_inbox_no_wait_is_idle) {
    const sr_completion *completions = NULL;
    sr_ring *ring = ring_with(8, 0);
    assert_code(wait_for(ring, 1, 20 * MS, &completions), SR_E_TIMEOUT);
    assert_code(wait_for(ring, 1, 0, &completions), SR_E_TIMEOUT);
    assert_ok(sr_inbox_post(ring, 1, NULL));
    assert_code(wait_for(ring, 2, 20 * MS, &completions), 1);
    cr_assert_eq(ring_stats(ring).ops_in_flight, 0, "what wakes the owner is no operation");
    ring_end(&ring);
}

Test(inbox, messages_and_operations_count_alike) {
    const sr_completion *completions = NULL;
    uint32_t messages = 0;
    sr_ring *ring = ring_with(8, 0);
    sr_request request = request_of(SR_OP_TIMEOUT);
    request.duration_ns = 20 * MS;
    (void)submit(ring, &request);
    request.duration_ns = HOUR;
    (void)submit(ring, &request);
    assert_ok(sr_inbox_post(ring, 1, NULL));
    assert_ok(sr_inbox_post(ring, 2, NULL));
    assert_code(wait_for(ring, 3, SR_FOREVER, &completions), 3);
    for (uint32_t i = 0; i < 3; i++) {
        messages += (completions[i].flags & SR_COMPLETION_INBOX) != 0;
    }
    cr_assert_eq(messages, 2);
    ring_end(&ring);
}

Test(inbox, what_does_not_fit_the_array_comes_with_the_next_wait) {
    const sr_completion *completions = NULL;
    const int pages[] = {3, 3, 2};
    uint64_t tag = 0;
    sr_ring *ring = ring_with(8, 3);
    for (uint64_t i = 0; i < 8; i++) {
        assert_ok(sr_inbox_post(ring, i, NULL));
    }
    for (size_t page = 0; page < COUNT_OF(pages); page++) {
        assert_code(wait_for(ring, (uint32_t)pages[page], SR_FOREVER, &completions), pages[page]);
        for (int i = 0; i < pages[page]; i++) {
            assert_is_message(&completions[i], tag++, NULL);
        }
    }
    ring_end(&ring);
}

Test(inbox, a_flood_of_messages_does_not_keep_an_operation_from_coming_out) {
    const uint32_t arrays[] = {1, 2, 3, 4};
    for (size_t i = 0; i < COUNT_OF(arrays); i++) {
        const sr_completion *completions = NULL;
        bool came_out = false;
        sr_ring *ring = ring_with(8, arrays[i]);
        sr_request nop = request_of(SR_OP_NOP);
        (void)submit(ring, &nop);
        for (uint32_t round = 0; round < 100 && !came_out; round++) {
            while (sr_inbox_post(ring, round, NULL) == 0) {
            }
            const int count = wait_for(ring, 1, SR_FOREVER, &completions);
            cr_assert_geq(count, 1);
            for (int j = 0; j < count; j++) {
                came_out = came_out || completions[j].flags == 0;
            }
        }
        cr_assert(came_out, "array of %u: 100 waits brought messages only", arrays[i]);
        ring_end(&ring);
    }
}

/* And the other way round. */
Test(inbox, a_flood_of_operations_does_not_keep_a_message_from_coming_out) {
    const uint32_t arrays[] = {1, 2, 3, 4};
    for (size_t i = 0; i < COUNT_OF(arrays); i++) {
        const sr_completion *completions = NULL;
        bool came_out = false;
        sr_ring *ring = ring_with(8, arrays[i]);
        const sr_request nop = request_of(SR_OP_NOP);
        assert_ok(sr_inbox_post(ring, 1, NULL));
        for (uint32_t round = 0; round < 100 && !came_out; round++) {
            while (ring_stats(ring).ops_in_flight < 8) {
                (void)submit(ring, &nop);
            }
            cr_assert_geq(sr_ring_flush(ring), 0);
            const int count = wait_for(ring, 1, SR_FOREVER, &completions);
            for (int j = 0; j < count; j++) {
                came_out = came_out || completions[j].flags == SR_COMPLETION_INBOX;
            }
        }
        cr_assert(came_out, "array of %u: 100 waits brought operations only", arrays[i]);
        ring_end(&ring);
    }
}

static void post_from_callback(sr_ring *ring, const sr_completion *completion, void *ctx) {
    (void)ctx;
    assert_ok(sr_inbox_post(ring, completion->tag + 1, NULL));
}

Test(inbox, a_callback_may_post) {
    const sr_completion *completions = NULL;
    sr_ring *ring = ring_with(8, 0);
    sr_request nop = request_of(SR_OP_NOP);
    nop.on_complete = post_from_callback;
    nop.tag = 41;
    (void)submit(ring, &nop);
    assert_code(wait_for(ring, 2, SR_FOREVER, &completions), 1);
    assert_is_message(&completions[0], 42, NULL);
    ring_end(&ring);
}

Test(inbox, a_ring_goes_with_the_messages_that_nobody_read) {
    sr_ring *ring = ring_with(8, 0);
    for (uint64_t i = 0; i < 5; i++) {
        assert_ok(sr_inbox_post(ring, i, NULL));
    }
    ring_end(&ring);
}
