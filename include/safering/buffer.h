/* SPDX-License-Identifier: MIT */
/*
 * Regions, pools and buffers: who owns which bytes.
 *
 * A region is mapped memory. A pool cuts a region into equal slots. A buffer is a handle to one
 * slot: FREE -> HELD -> LENT -> HELD -> FREE, or LENT -> QUARANTINED -> FREE when the operation
 * that borrowed it was abandoned. Lending follows the borrow rule per range of bytes: many readers
 * (the kernel reads: write, send) or one writer (the kernel writes: read, recv); disjoint ranges
 * never conflict.
 */
#ifndef SAFERING_BUFFER_H
#define SAFERING_BUFFER_H

#include <safering/export.h>
#include <safering/handle.h>
#include <stddef.h>
#include <stdint.h>

SR_EXTERN_C_BEGIN

typedef struct sr_region sr_region;
typedef struct sr_pool sr_pool;
typedef struct sr_ring sr_ring;

/* ---- region ---------------------------------------------------------------------------------- */

/** On which NUMA nodes the memory of a region shall lie. */
enum sr_place {
    SR_PLACE_ANY = 0,   /* wherever the kernel puts it, page by page, when it is first touched */
    SR_PLACE_LOCAL = 1, /* the node on which the creating thread runs now */
    SR_PLACE_NODE = 2,  /* the node `node` */
    SR_PLACE_INTERLEAVE = 3 /* in turn, on all nodes that the process may use */
};

/** Of which pages a region shall be. */
enum sr_pages {
    SR_PAGES_NORMAL = 0, /* 4 KiB */
    SR_PAGES_THP = 1,    /* transparent huge pages where the kernel has them, else normal ones */
    /** 2 MiB pages that the administrator has set aside (hugetlb); if there are not enough of them,
        as SR_PAGES_THP. */
    SR_PAGES_HUGE = 2
};

enum sr_region_flags {
    /** A placement that cannot be had is an error, not a note in the statistics. */
    SR_PLACE_STRICT = 1,
    /** Another process can map the memory: sr_region_fd(). */
    SR_REGION_SHAREABLE = 2
};

typedef struct sr_region_options {
    size_t size; /* sizeof(sr_region_options) */
    /** Alignment of the first byte: a power of two, 4,096 .. 1 GiB. Default 4,096; at least 2 MiB
     * with huge pages. */
    size_t alignment_bytes;
    /** enum sr_place. Anything but ANY touches all of the memory when the region is created. */
    uint32_t placement;
    /** For SR_PLACE_NODE: 0 .. 1,023. */
    uint32_t node;
    /** enum sr_region_flags. */
    uint32_t flags;
    /** enum sr_pages. Anything but NORMAL rounds the size up to 2 MiB and touches all of it. */
    uint32_t pages;
} sr_region_options;

#define SR_REGION_OPTIONS_INIT                                                                     \
    (SR_LITERAL(sr_region_options){sizeof(sr_region_options), 4096, SR_PLACE_ANY, 0, 0,            \
                                   SR_PAGES_NORMAL})

/**
 * sr_region_create() - map memory for buffers, with an inaccessible guard page at both ends
 * @size_bytes:  1 .. 1 TiB, rounded up to whole pages
 * @options:     borrows; NULL for the defaults
 * @out_region:  returns owned: end with sr_region_destroy(); NULL on failure
 *
 * The memory is zero and is not inherited by a forked child (touching it there is a SIGSEGV). Where
 * it is placed is told to the kernel before it is touched, and seen afterwards, page by page; what
 * came of it is in sr_region_get_stats(). A machine with one node has every placement on it.
 *
 * Return:  0, SR_E_BOUNDS (size, alignment, placement, node or pages), -EINVAL (options), -ENOMEM,
 *          -EMFILE (shareable: no descriptor left); with SR_PLACE_STRICT also -ENODEV (no such
 * node, or not for this process), -EPERM (a seccomp filter), -ENOSYS (a kernel without NUMA),
 *          -ENOMEM (the memory came to lie elsewhere).
 * Thread:  any.     Blocks: while the kernel zeroes the memory, if it is touched.
 * Kernel:  mmap(2), mprotect(2), madvise(MADV_DONTFORK); memfd_create(2), mbind(2), move_pages(2),
 *          madvise(MADV_HUGEPAGE, MADV_POPULATE_WRITE) where they are asked for.
 * Source:  mbind(2), NOTES; madvise(2).
 */
SR_API SR_MUST_USE int sr_region_create(size_t size_bytes, const sr_region_options *options,
                                        sr_region **out_region);

/**
 * sr_region_adopt() - make a region of memory that the caller owns
 * @memory:      lends: must stay mapped until sr_region_destroy() has returned 0; aligned to 4,096
 * @size_bytes:  a multiple of 4,096
 * @out_region:  returns owned: end with sr_region_destroy(); NULL on failure
 *
 * Adopted memory has no guard pages and keeps the caller's fork behaviour.
 *
 * Return:  0, SR_E_BOUNDS (NULL, zero or misaligned), -ENOMEM.
 * Thread:  any.     Blocks: never.     Kernel:  no system call.
 */
SR_API SR_MUST_USE int sr_region_adopt(void *memory, size_t size_bytes, sr_region **out_region);

/**
 * sr_region_destroy() - unmap a region, or give adopted memory back to the caller
 * @region:  address of the variable; takes; NULL inside is allowed; NULL is left behind on success
 *
 * Return:  0, SR_E_OBJECT (not a region), SR_E_STATE (a pool still uses it; nothing changed).
 * Thread:  any, one at a time. In a forked child it frees only the child's bookkeeping.
 * Blocks:  never.     Kernel:  munmap(2).
 */
SR_API int sr_region_destroy(sr_region **region);

/** sr_region_size() - usable bytes of @region, or 0 if it is not a region. Thread: any. */
SR_API size_t sr_region_size(const sr_region *region);

/** sr_region_base() - first usable byte of @region, or NULL if it is not a region. Thread: any. */
SR_API void *sr_region_base(const sr_region *region);

/**
 * sr_region_fd() - the descriptor of a shareable region
 *
 * Send it to another process (SCM_RIGHTS), which maps it with MAP_SHARED from offset 0 on; or hand
 * it to a child on purpose. It cannot be made larger or smaller. Who has it reads and writes all of
 * the region, whatever is lent; give it to those only whom you would give the memory.
 *
 * Return:  the descriptor, borrowed until sr_region_destroy(); SR_E_OBJECT, SR_E_STATE (made
 * without SR_REGION_SHAREABLE). Thread: any.     Blocks: never.     Kernel:  no system call.
 */
SR_API SR_MUST_USE int sr_region_fd(const sr_region *region);

typedef struct sr_region_stats {
    size_t size; /* sizeof(sr_region_stats) */
    uint64_t region_bytes;
    uint64_t verified_bytes;   /* seen on a node where they belong, when the region was created */
    uint64_t huge_bytes;       /* of these 2 MiB pages the region was when it was created */
    uint32_t placement_wanted; /* enum sr_place */
    uint32_t placement;        /* got: what was wanted if every byte was verified, else ANY */
    uint32_t node;             /* of LOCAL and NODE */
    int32_t placement_error;   /* why not, or 0 */
    uint32_t pages_wanted;     /* enum sr_pages */
    uint32_t pages;            /* got */
    int32_t pages_error;       /* why not the kind that was wanted, or 0 */
    uint32_t guard_pages;      /* inaccessible ones around the region: one at each end, or none */
    uint32_t shareable;        /* 1: sr_region_fd() has a descriptor */
    uint32_t adopted;          /* 1: by sr_region_adopt() */
} sr_region_stats;

#define SR_REGION_STATS_INIT                                                                       \
    (SR_LITERAL(sr_region_stats){sizeof(sr_region_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})

/**
 * sr_region_get_stats() - what a region was wanted to be, and what it is
 * @out_stats:  `size` set by the caller; the rest is filled
 *
 * Errors are those of sr_region_create(). `pages_error` is -ENOMEM when too few huge pages were set
 * aside, SR_E_UNSUPPORTED when the kernel gave no transparent ones.
 *
 * Return:  0, SR_E_OBJECT, -EINVAL (out_stats).
 * Thread:  any.     Blocks: never.     Kernel:  no system call.
 */
SR_API SR_MUST_USE int sr_region_get_stats(const sr_region *region, sr_region_stats *out_stats);

/* ---- pool ------------------------------------------------------------------------------------ */

/** How hard a pool watches its buffers. SAFERING_GUARD=off|poison|protect replaces
 * SR_GUARD_DEFAULT. */
enum sr_guard {
    SR_GUARD_DEFAULT = 0, /* what SAFERING_GUARD says, else off */
    SR_GUARD_OFF = 1,
    /**
     * Canaries behind every slot, checked on release; in a program built with AddressSanitizer free
     * buffers and writer loans are poisoned, so that touching them is reported at once.
     */
    SR_GUARD_POISON = 2,
    /**
     * Lent pages are taken away from the program: inaccessible while the kernel writes, read-only
     * while it reads. Every buffer has pages of its own. Needs shareable memory of normal or
     * transparent huge pages; with a region that is not, the guard in force is poison.
     */
    SR_GUARD_PROTECT = 3
};

typedef struct sr_pool_options {
    size_t size; /* sizeof(sr_pool_options) */
    /** Bytes of one buffer: 64 .. 1 GiB. Default 4,096. */
    size_t buffer_size_bytes;
    /** Buffers: 1 .. 1,048,576. Default 256. */
    uint32_t buffer_count;
    /** enum sr_guard. */
    uint32_t guard;
    /** Alignment of every buffer: a power of two, 64 .. 4,096. Default 0: 4,096 for buffers of at
     * least 4,096 bytes, else 64. */
    uint32_t alignment_bytes;
    /** Most different accounts that buffers may be charged to: 1 .. 65,536. Default 64. */
    uint32_t accounts_max;
} sr_pool_options;

#define SR_POOL_OPTIONS_INIT                                                                       \
    (SR_LITERAL(sr_pool_options){sizeof(sr_pool_options), 4096, 256, SR_GUARD_DEFAULT, 0, 64})
/** Preset: many small buffers of one page. */
#define SR_POOL_OPTIONS_4K                                                                         \
    (SR_LITERAL(sr_pool_options){sizeof(sr_pool_options), 4096, 1024, SR_GUARD_DEFAULT, 4096, 64})
/** Preset: few big buffers of 2 MiB. */
#define SR_POOL_OPTIONS_2M                                                                         \
    (SR_LITERAL(sr_pool_options){sizeof(sr_pool_options), 2097152, 32, SR_GUARD_DEFAULT, 4096, 64})

/**
 * sr_pool_create() - cut a region into equal buffers
 * @region:    the pool uses it from its first byte on and keeps it until sr_pool_destroy(); NULL
 * makes a region of the right size that lives and dies with the pool
 * @options:   borrows; NULL for the defaults
 * @out_pool:  returns owned: end with sr_pool_destroy(); NULL on failure
 *
 * The calling thread becomes the pool's owner: only it acquires. A region serves one pool at a
 * time.
 *
 * Return:  0, SR_E_OBJECT (region), SR_E_STATE (region in use), SR_E_BOUNDS (an option's range, or
 * the region is too small), -EINVAL (options), -ENOMEM. Thread:  any.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_pool_create(sr_region *region, const sr_pool_options *options,
                                      sr_pool **out_pool);

/**
 * sr_pool_destroy() - end a pool
 * @pool:  address of the variable; takes; NULL inside is allowed; NULL is left behind on success
 *
 * Buffers that are only held die with the pool: their handles and pointers must not be used again.
 *
 * Return:  0, SR_E_OBJECT, SR_E_WRONG_THREAD (the owner lives and is another thread), SR_E_STATE
 * (attached to a ring), SR_E_IN_FLIGHT (a quarantined ring may still write: sr_quarantine_sweep()
 * and try again). On failure nothing changed. Thread:  the owner, or any thread once the owner has
 * exited. In a forked child it frees only the child's bookkeeping. Blocks:  never.
 */
SR_API int sr_pool_destroy(sr_pool **pool);

/**
 * sr_pool_acquire() - hand one free buffer of a pool to the caller
 * @pool:        borrows
 * @size_bytes:  bytes wanted, 1 .. the pool's buffer size; the buffer has the full size all the
 * same
 * @out_buffer:  returns owned: end with sr_pool_release(); SR_BUFFER_NONE on failure
 *
 * The contents are undefined. The calling thread becomes the holder: the only thread that may use
 * the buffer until sr_buffer_transfer(). The buffer is charged to account 0.
 *
 * Return:  0, SR_E_FULL (none free now), SR_E_BOUNDS (size_bytes), SR_E_LIMIT, SR_E_OBJECT,
 *          SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the pool's owner.     Blocks: never.     Kernel:  no system call.
 */
SR_API SR_MUST_USE int sr_pool_acquire(sr_pool *pool, size_t size_bytes, sr_buffer *out_buffer);

/**
 * sr_pool_acquire_for() - sr_pool_acquire(), charged to an account
 * @account:  a 32-bit tag of the caller's choice: a connection, a tenant, an instance
 *
 * Return:  as sr_pool_acquire(); SR_E_LIMIT if the account would pass its limit or there are more
 * accounts than `accounts_max`.
 */
SR_API SR_MUST_USE int sr_pool_acquire_for(sr_pool *pool, size_t size_bytes, uint32_t account,
                                           sr_buffer *out_buffer);

/**
 * sr_pool_release() - give a buffer back
 * @pool:    borrows
 * @buffer:  takes; the handle is stale afterwards
 *
 * Constant time, without lock or system call, from the owner; from another thread the buffer goes
 * over a lock-free list and is free once the owner next finds its own list empty.
 *
 * Return:  0, SR_E_STALE, SR_E_IN_FLIGHT (some range is lent), SR_E_WRONG_THREAD (not the holder),
 *          SR_E_OVERRUN (released all the same, but the bytes behind the buffer had been
 * overwritten), SR_E_OBJECT, SR_E_FORKED. Thread:  the buffer's holder.     Blocks: never. Kernel:
 * no system call.
 */
SR_API SR_MUST_USE int sr_pool_release(sr_pool *pool, sr_buffer buffer);

/**
 * sr_pool_set_account_limit() - bound the bytes that an account may hold
 * @limit_bytes:  UINT64_MAX for no limit, the default; below what is held now: nothing is taken
 * away
 *
 * Return:  0, SR_E_LIMIT (more accounts than `accounts_max`), SR_E_OBJECT, SR_E_WRONG_THREAD,
 * SR_E_FORKED. Thread:  the pool's owner.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_pool_set_account_limit(sr_pool *pool, uint32_t account,
                                                 uint64_t limit_bytes);

/**
 * sr_pool_account_bytes() - bytes of buffers that are charged to an account now
 * @out_bytes:  0 for an account nobody used
 *
 * Buffers on their way over the remote list still count.
 *
 * Return:  0, SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED, -EINVAL (out_bytes is NULL).
 * Thread:  the pool's owner.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_pool_account_bytes(sr_pool *pool, uint32_t account, uint64_t *out_bytes);

typedef struct sr_pool_stats {
    size_t size; /* sizeof(sr_pool_stats) */
    uint64_t buffer_size_bytes;
    uint64_t stride_bytes; /* from one buffer to the next */
    uint32_t buffer_count;
    uint32_t free_count;        /* FREE, those on the remote list included */
    uint32_t held_count;        /* HELD, with or without loans */
    uint32_t quarantined_count; /* waiting for the kernel */
    uint32_t rings_attached;
    uint32_t guard;      /* enum sr_guard in force */
    uint32_t asan;       /* 1: AddressSanitizer is in the process and poisoning is on */
    int32_t guard_error; /* why it is poison and not protect, or 0 */
    uint64_t acquired_total;
    uint64_t released_total;
    uint64_t released_remote_total; /* of these, by another thread */
    uint64_t refused_full_total;
    uint64_t refused_limit_total;
    uint64_t overruns_total;
    uint64_t guard_degraded_total; /* loans that went unprotected for want of mappings */
} sr_pool_stats;

#define SR_POOL_STATS_INIT                                                                         \
    (SR_LITERAL(sr_pool_stats){sizeof(sr_pool_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
                               0, 0})

/**
 * sr_pool_get_stats() - counters of a pool
 * @out_stats:  `size` set by the caller; the rest is filled
 *
 * Return:  0, SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED, -EINVAL (out_stats).
 * Thread:  the pool's owner.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_pool_get_stats(sr_pool *pool, sr_pool_stats *out_stats);

/**
 * sr_guard_install_fault_handler() - say what was touched when the program dies of a protected page
 *
 * For pools with guard level protect. When the program touches lent memory, a report goes to
 * stderr: the buffer, the byte, whether it was read or written (x86-64), the operation that has it,
 * its descriptor and its age. Then the handlers of SIGSEGV and SIGBUS that were there before are
 * put back and meet the fault as if this one had never been; without any the program ends as ever.
 * Faults elsewhere are handed on to them and change nothing. Install it after the program's own
 * handlers and crash reporters. A second call does nothing, except after a report.
 *
 * Return:  0, or the kernel's code.
 * Thread:  any.     Blocks: never.     Kernel:  sigaction(2).
 */
SR_API SR_MUST_USE int sr_guard_install_fault_handler(void);

/* ---- buffer ---------------------------------------------------------------------------------- */

enum sr_access {
    SR_ACCESS_READ = 0, /* refused where a writer loan (the kernel writes) overlaps */
    SR_ACCESS_WRITE = 1 /* refused where any loan overlaps */
};

/**
 * sr_buffer_data() - a checked pointer to bytes of a buffer
 * @offset_bytes, @length_bytes:  the range, inside of the buffer; length >= 1
 * @access:        enum sr_access: what the caller will do with the bytes
 * @out_data:      returns borrowed: until the range is lent, or the buffer is released or
 * transferred
 *
 * Return:  0, SR_E_STALE, SR_E_BOUNDS, SR_E_LENT, SR_E_WRONG_THREAD, SR_E_OBJECT, SR_E_FORKED,
 * -EINVAL. Thread:  the buffer's holder.     Blocks: never.     Kernel:  no system call.
 */
SR_API SR_MUST_USE int sr_buffer_data(sr_pool *pool, sr_buffer buffer, size_t offset_bytes,
                                      size_t length_bytes, int access, void **out_data);

/** A thread of this process, as a target of sr_buffer_transfer(). Never reused, also after its
 * exit. */
typedef struct sr_thread {
    uint64_t bits;
} sr_thread;

/** sr_thread_self() - the calling thread. Thread: any. */
SR_API sr_thread sr_thread_self(void);

/**
 * sr_buffer_transfer() - make another thread the holder of a buffer
 * @to:  from sr_thread_self() in the receiving thread, or sr_ring_thread()
 *
 * The handle stays the same. Passing it to the other thread, with whatever orders memory between
 * the two (a queue, a mutex), is the caller's part.
 *
 * Return:  0, SR_E_STALE, SR_E_IN_FLIGHT (some range is lent), SR_E_WRONG_THREAD (not the holder),
 * -EINVAL (no thread), SR_E_OBJECT, SR_E_FORKED. Thread:  the buffer's holder.     Blocks: never.
 * Kernel:  no system call.
 */
SR_API SR_MUST_USE int sr_buffer_transfer(sr_pool *pool, sr_buffer buffer, sr_thread to);

SR_EXTERN_C_END

#endif
