/* SPDX-License-Identifier: MIT */
/*
 * Rig: a ring with one pool attached, and the few steps that most tests of the ring repeat. What
 * must work for a test to make sense is checked here: a failure prints a message and aborts, which
 * Criterion reports as a crash of that test.
 */
#ifndef SAFERING_TESTS_SUPPORT_RIG_H
#define SAFERING_TESTS_SUPPORT_RIG_H

#include <safering/safering.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rig {
    sr_ring *ring;
    sr_pool *pool;
    sr_region *region; /* NULL: the pool's own */
};

#define RIG_SECOND UINT64_C(1000000000)
#define RIG_MS     UINT64_C(1000000)

/* NULL options: the library's defaults. */
void rig_open(struct rig *out_rig, const sr_ring_options *ring_options,
              const sr_pool_options *pool_options);
/* The same with a region, so that the pool's memory is known (hold.h). */
void rig_open_region(struct rig *out_rig, const sr_ring_options *ring_options,
                     const sr_pool_options *pool_options);
/* Everything must end cleanly: ring with result 0, pool, region. NULL members are skipped. */
void rig_close(struct rig *rig);
/* The same for a ring that may leave something in quarantine; waits up to @timeout_ns for that. */
void rig_close_late(struct rig *rig, uint64_t timeout_ns);

sr_buffer rig_buffer(struct rig *rig);
/* A checked pointer to a whole buffer, to write or read. */
unsigned char *rig_data(struct rig *rig, sr_buffer buffer, size_t length);
sr_file rig_adopt(struct rig *rig, int fd, uint32_t flags);
/* Bytes from the pool's base to the buffer. */
size_t rig_offset(struct rig *rig, sr_buffer buffer);

/* A request for one buffer range of a file. @op: SR_OP_READ or SR_OP_WRITE. */
sr_request rig_transfer(uint16_t op, sr_file file, sr_buffer buffer, uint64_t length,
                        uint64_t offset);
/* Submits; must be taken. */
sr_op rig_submit(struct rig *rig, const sr_request *request);

/*
 * Waits until one completion comes, at most 10 s, and copies it; the array of the library is then
 * gone. Returns what sr_ring_wait() returned; 1 is what one hopes for.
 */
int rig_wait(struct rig *rig, sr_completion *out_completion);
/* Submits and waits for the one completion; nothing else may be in flight. */
sr_completion rig_run(struct rig *rig, const sr_request *request);

sr_ring_stats rig_stats(struct rig *rig);
sr_pool_stats rig_pool_stats(struct rig *rig);

/* A new file under /tmp, unlinked already, of @size_bytes bytes (byte i holds i % 251). */
int rig_temporary_file(size_t size_bytes);

#endif
