/* SPDX-License-Identifier: MIT */
/*
 * The ring: operations go in as requests, each comes out as exactly one completion.
 *
 * A ring belongs to the thread that created it. sr_ring_submit() takes a request, sr_ring_wait()
 * sends what was submitted and hands back completions, in one system call. The result of a call and
 * the result of an operation are two things; the second is in the completion.
 */
#ifndef SAFERING_RING_H
#define SAFERING_RING_H

#include <safering/buffer.h>
#include <safering/export.h>
#include <safering/handle.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/select.h> /* sigset_t, also under strict C11 */

SR_EXTERN_C_BEGIN

struct sockaddr; /* <sys/socket.h> */
struct statx;    /* <sys/stat.h> with _GNU_SOURCE, or <linux/stat.h> */

/** A ring of buffers that the kernel takes from when data arrives; <safering/buffer_ring.h>. */
typedef struct sr_buffer_ring sr_buffer_ring;

#define SR_FOREVER UINT64_MAX

/* ---- requests -------------------------------------------------------------------------------- */

/** Operations. "dir" is `file` as a directory, or the working directory if `file` is none. */
enum sr_opcode {
    SR_OP_NOP = 0,
    SR_OP_READ = 1,       /* file, buffer range, offset: read(2), pread(2) */
    SR_OP_WRITE = 2,      /* file, buffer range, offset: write(2), pwrite(2) */
    SR_OP_READV = 3,      /* file, slices, offset: preadv(2) */
    SR_OP_WRITEV = 4,     /* file, slices, offset: pwritev(2) */
    SR_OP_FSYNC = 5,      /* file: fsync(2) */
    SR_OP_FDATASYNC = 6,  /* file: fdatasync(2) */
    SR_OP_SYNC_RANGE = 7, /* file, offset, length, op_flags: sync_file_range(2) */
    SR_OP_FALLOCATE = 8,  /* file, offset, length, mode: fallocate(2) */
    SR_OP_FTRUNCATE = 9,  /* file, length: ftruncate(2); Linux 6.9, else by a plain system call */
    SR_OP_OPENAT = 10,    /* dir, path, op_flags, mode, resolve: openat2(2); completion.file */
    SR_OP_CLOSE = 11, /* file, op_flags: 0 waits for its operations, SR_CLOSE_CANCEL cancels them */
    SR_OP_STATX = 12, /* dir, path ("" with AT_EMPTY_PATH for the file itself), op_flags, mask */
    SR_OP_UNLINKAT = 13,  /* dir, path, op_flags (AT_REMOVEDIR): unlinkat(2) */
    SR_OP_RENAMEAT = 14,  /* dir, path, new_dir, new_path, op_flags: renameat2(2) */
    SR_OP_MKDIRAT = 15,   /* dir, path, mode: mkdirat(2) */
    SR_OP_LINKAT = 16,    /* dir, path, new_dir, new_path, op_flags: linkat(2) */
    SR_OP_SYMLINKAT = 17, /* path (the target text), new_dir, new_path: symlinkat(2) */
    SR_OP_FADVISE = 18,   /* file, offset, length, advice: posix_fadvise(2) */
    /* Buffer range of whole pages, advice: madvise(2); lent as to a writer. MADV_DONTNEED and
     * MADV_FREE replace pages, so they are SR_E_STATE while a ring has the pool's pages registered.
     */
    SR_OP_MADVISE = 19,
    SR_OP_TIMEOUT = 20, /* duration_ns: result 0 when it has passed */
    SR_OP_SPLICE =
        21,         /* file, offset: to; other, other_offset: from; length, op_flags: splice(2) */
    SR_OP_TEE = 22, /* file: to; other: from; length, op_flags: tee(2) */
    SR_OP_SOCKET = 23,  /* domain, type, protocol: socket(2); completion.file */
    SR_OP_BIND = 24,    /* file, address: bind(2); Linux 6.11, else by a plain system call */
    SR_OP_LISTEN = 25,  /* file, length (the backlog): listen(2); as SR_OP_BIND */
    SR_OP_ACCEPT = 26,  /* file, op_flags (SOCK_*): accept4(2); completion.file, .message.address */
    SR_OP_CONNECT = 27, /* file, address: connect(2) */
    SR_OP_SEND = 28,    /* file, buffer range, op_flags (MSG_*): send(2) */
    SR_OP_RECV = 29,    /* file, buffer range or buffer_ring, op_flags (MSG_*): recv(2) */
    SR_OP_SENDMSG = 30, /* file, slices, address, descriptors, op_flags: sendmsg(2) */
    SR_OP_RECVMSG = 31, /* file, slices, descriptor_count (room), op_flags: recvmsg(2) */
    /* As SR_OP_SEND, without copying: the buffer comes back, and the completion with it, when the
     * network has let go of it. Linux 6.0 and TCP or UDP, else it is sent as SR_OP_SEND. */
    SR_OP_SEND_ZC = 32,
    SR_OP_SHUTDOWN = 33,   /* file, op_flags (SHUT_*): shutdown(2) */
    SR_OP_POLL = 34,       /* file, mask (POLL*): poll(2); result: the events */
    SR_OP_WAITID = 35,     /* mask (idtype_t), length (the id), op_flags (WEXITED...): waitid(2);
                              completion.child. Linux 6.7 */
    SR_OP_FUTEX_WAIT = 36, /* futex, offset (the value it must have), mask (0: any waker):
                              FUTEX_WAIT on 32 bits; -EAGAIN if it has another; op_flags as below.
                              Linux 6.7 */
    SR_OP_FUTEX_WAKE = 37, /* futex, length (most waiters), mask (0: all), op_flags: FUTEX_WAKE; 0
                              reaches waiters of all processes, SR_FUTEX_PRIVATE those that waited
                              with FUTEX_PRIVATE_FLAG. Linux 6.7 */
    SR_OP_EPOLL_CTL = 38,  /* file (the epoll), other, op_flags (EPOLL_CTL_*), mask (events), offset
                              (data): epoll_ctl(2) */
    SR_OP_COUNT = 39
};

/** `flags` of a request. */
enum sr_request_flags {
    /** Short reads and writes go on until all is done, end of file, or an error. READ, WRITE,
       READV, WRITEV, SEND, RECV (not from a buffer ring). */
    SR_REQUEST_FULL = 1u << 0,
    /** Run in the kernel's worker threads from the start; for calls known to block, such as reads
       of FUSE files on Linux 6.12 and older. */
    SR_REQUEST_ASYNC = 1u << 1,
    /** Goes on: a completion for each connection, message or event, all but the last with
       SR_COMPLETION_MORE. ACCEPT, POLL, RECV from a buffer ring. Where the kernel stops for a
       reason of its own the library starts it again; it ends by an error, the end of the stream, a
       cancel, or its file's close. */
    SR_REQUEST_MULTISHOT = 1u << 2
};

/** `op_flags` of SR_OP_CLOSE. */
enum sr_close_flags { SR_CLOSE_CANCEL = 1u << 0 };

/** `op_flags` of SR_OP_FUTEX_WAIT and SR_OP_FUTEX_WAKE. */
#define SR_FUTEX_PRIVATE 128u

/** The file's own position instead of an offset: pipes, and files opened for reading in sequence.
 */
#define SR_OFFSET_CURRENT UINT64_MAX

/** A range of a buffer. */
typedef struct sr_slice {
    sr_buffer buffer;
    uint32_t offset_bytes;
    uint32_t length_bytes;
} sr_slice;

/** Most slices of one SR_OP_READV, SR_OP_WRITEV, SR_OP_SENDMSG or SR_OP_RECVMSG. */
#define SR_SLICES_MAX 64
/** Most descriptors in one message: what the kernel takes (SCM_MAX_FD). */
#define SR_DESCRIPTORS_MAX 253

typedef struct sr_completion sr_completion;

/**
 * sr_completion_fn - receives the one completion of an operation, inside sr_ring_wait()
 * @completion:  borrows; its outputs stay until the next wait
 * @ctx:         the request's ctx
 *
 * May submit, cancel, and use files and buffers; waiting, destroying or moving the ring is
 * SR_E_STATE.
 */
typedef void (*sr_completion_fn)(sr_ring *ring, const sr_completion *completion, void *ctx);

/**
 * What an operation needs. Fields that the opcode does not name are ignored. Everything is copied
 * by sr_ring_submit() except the bytes of buffers, so a request may be reused or forgotten at once.
 */
typedef struct sr_request {
    uint32_t size;  /* sizeof(sr_request) */
    uint16_t op;    /* enum sr_opcode */
    uint16_t flags; /* enum sr_request_flags */
    sr_file file;
    sr_buffer buffer;
    uint32_t buffer_offset;       /* first byte of the range in the buffer */
    uint32_t op_flags;            /* flags of the system call */
    uint64_t length;              /* bytes; for buffers 0 .. to the buffer's end */
    uint64_t offset;              /* in the file; SR_OFFSET_CURRENT */
    uint64_t tag;                 /* the caller's, comes back in the completion */
    void *ctx;                    /* the caller's, comes back in the completion */
    sr_completion_fn on_complete; /* NULL: the completion is in the array */
    /** Relative; 0 for none. When it passes the operation is asked to cancel; its one outcome still
     * comes with its end, with SR_COMPLETION_DEADLINE_HIT. */
    uint64_t deadline_ns;
    uint64_t duration_ns; /* TIMEOUT */
    const char *path;
    const char *new_path;
    sr_file new_dir;
    const sr_slice *slices;
    uint32_t slice_count; /* 1 .. SR_SLICES_MAX */
    uint32_t mode;        /* permission bits, or fallocate's mode */
    uint32_t mask;        /* STATX_* */
    int32_t advice;       /* POSIX_FADV_*, MADV_* */
    uint64_t resolve;     /* RESOLVE_* of openat2(2) */
    sr_file other;        /* the second file of SPLICE, TEE, EPOLL_CTL */
    uint64_t other_offset;
    const struct sockaddr *address;
    /* SENDMSG: the numbers are copied, the descriptors must stay open until the completion.
     * Duplicates travel (SCM_RIGHTS). */
    const int *descriptors;
    sr_buffer_ring *buffer_ring; /* RECV: takes a buffer when data is there; the op stays small */
    uint32_t *futex;             /* lends until the completion */
    uint32_t address_bytes;      /* 1 .. 128 */
    uint32_t descriptor_count;   /* 0 .. SR_DESCRIPTORS_MAX */
    int32_t domain;              /* AF_* */
    int32_t type;                /* SOCK_* */
    int32_t protocol;
    uint32_t reserved;
} sr_request;

#define SR_REQUEST_INIT                                                                            \
    (SR_LITERAL(sr_request){sizeof(sr_request),                                                    \
                            SR_OP_NOP,                                                             \
                            0,                                                                     \
                            {0},                                                                   \
                            {0},                                                                   \
                            0,                                                                     \
                            0,                                                                     \
                            0,                                                                     \
                            0,                                                                     \
                            0,                                                                     \
                            0,                                                                     \
                            0,                                                                     \
                            0,                                                                     \
                            0,                                                                     \
                            0,                                                                     \
                            0,                                                                     \
                            {0},                                                                   \
                            0,                                                                     \
                            0,                                                                     \
                            0,                                                                     \
                            0,                                                                     \
                            0,                                                                     \
                            0,                                                                     \
                            {0},                                                                   \
                            0,                                                                     \
                            0,                                                                     \
                            0,                                                                     \
                            0,                                                                     \
                            0,                                                                     \
                            0,                                                                     \
                            0,                                                                     \
                            0,                                                                     \
                            0,                                                                     \
                            0,                                                                     \
                            0})

/* ---- completions ------------------------------------------------------------------------------
 */

enum sr_completion_flags {
    /** The deadline had passed when the operation ended; `result` is what really happened. */
    SR_COMPLETION_DEADLINE_HIT = 1u << 0,
    /** sr_op_cancel(), a closing file or a deadline had asked for its end; `result` is what really
       happened. */
    SR_COMPLETION_CANCEL_ASKED = 1u << 1,
    /** A message from sr_inbox_post(): no operation; `tag` and `ctx` are the sender's. */
    SR_COMPLETION_INBOX = 1u << 2,
    /** Of SR_REQUEST_MULTISHOT: the operation goes on, this is not its last completion. */
    SR_COMPLETION_MORE = 1u << 3
};

/** What came with a message or a connection. */
typedef struct sr_message {
    const struct sockaddr *address; /* of the peer; NULL if there is none or it is not known */
    uint32_t address_bytes;
    uint32_t flags;         /* RECVMSG: MSG_TRUNC, MSG_CTRUNC, ... */
    const int *descriptors; /* returns owned: end each with close(2), or sr_file_adopt() it */
    uint32_t descriptor_count;
    uint32_t reserved;
} sr_message;

/** What became of a child process. */
typedef struct sr_child {
    int32_t pid;    /* 0: none with WNOHANG */
    int32_t code;   /* CLD_EXITED, CLD_KILLED, ... */
    int32_t status; /* exit status or signal */
    uint32_t uid;
} sr_child;

/**
 * The outcome of an operation, the one and only unless SR_COMPLETION_MORE says otherwise. Valid
 * until the next sr_ring_wait() on the ring.
 */
struct sr_completion {
    sr_op op; /* stale by now, unless there is more: names which operation this was */
    uint64_t tag;
    void *ctx;
    /** Count or 0, or a negative code. With SR_REQUEST_FULL the count of all bytes. */
    int64_t result;
    /** Bytes that were transferred, also when `result` is an error that came after some of them. */
    uint64_t bytes_done;
    /** As in the request, no longer lent. From a buffer ring: returns owned, end with
     * sr_buffer_ring_provide() or sr_pool_release(). */
    sr_buffer buffer;
    uint32_t buffer_offset;
    uint32_t buffer_length;
    /** OPENAT, SOCKET, ACCEPT: returns owned, end with SR_OP_CLOSE; else as in the request. */
    sr_file file;
    union { /* returns borrowed until the next wait; NULL unless the opcode has it and succeeded */
        const struct statx *statx; /* STATX */
        const sr_message *message; /* ACCEPT, RECVMSG */
        const sr_child *child;     /* WAITID */
    };
    uint16_t opcode; /* enum sr_opcode */
    uint16_t flags;  /* enum sr_completion_flags */
    uint32_t reserved;
};

/* ---- ring -------------------------------------------------------------------------------------
 */

/** Events that a trace hook is told. */
enum sr_trace_event {
    SR_TRACE_SUBMIT = 1,   /* value: opcode */
    SR_TRACE_COMPLETE = 2, /* value: result */
    SR_TRACE_CANCEL = 3,   /* value: 0, or 1 for a deadline */
    SR_TRACE_DROPPED = 4 /* op: the user_data of a completion that was dropped; value: its result */
};

/** sr_trace_fn - told of each event, on the owner thread; must not call the library. */
typedef void (*sr_trace_fn)(int event, sr_op op, uint64_t tag, int64_t value, void *ctx);

/** What runs a ring's operations. */
enum sr_backend {
    SR_BACKEND_ANY = 0,     /* io_uring, and where it is missing or forbidden the fallback */
    SR_BACKEND_URING = 1,   /* io_uring */
    SR_BACKEND_FALLBACK = 2 /* plain system calls, epoll and threads; docs/KERNEL.md has the rest */
};

typedef struct sr_ring_options {
    size_t size; /* sizeof(sr_ring_options) */
    /** Submission queue entries: 1 .. 32,768, rounded up to a power of two. Default 128. */
    uint32_t entries;
    /** Most operations in flight: 1 .. 1,048,576. Default 0: twice `entries` less 64, at least
     * `entries`. */
    uint32_t ops_max;
    /** Most files kept at once: 1 .. 1,048,576. Default 1,024. */
    uint32_t files_max;
    /** Of these, fixed slots registered with the kernel: 0 .. 32,768. Default 64. */
    uint32_t fixed_files;
    /** Most pools attached at once: 1 .. 255. Default 16. */
    uint32_t pools_max;
    /** Most completions of one sr_ring_wait(): 1 .. 65,536. Default 0: 256. */
    uint32_t completions_max;
    /** Inbox messages that may wait: a power of two, 2 .. 65,536, or 0 for no inbox. Default 0. */
    uint32_t inbox_entries;
    /** Kernel worker threads for blocking operations, 0 for the kernel's default. They belong to
     * the thread: the number also holds for rings that it makes later. */
    uint32_t workers_max;
    /** How long sr_ring_destroy() waits for operations to end. Default 5 s. */
    uint64_t drain_timeout_ns;
    /** Trace hook, or NULL. */
    sr_trace_fn on_trace;
    void *trace_ctx;
    /** Completion queue entries: `entries` .. 65,536, rounded up to a power of two. Default 0: room
     * for `ops_max`. Of the operations in flight only as many as fit here, less what the library
     * needs itself (64, of a small queue half), may be one-shot; the others must be multishot. */
    uint32_t cq_entries;
    uint32_t ops_allowed_count;
    /** Restrictions (io_uring_register(2), IORING_REGISTER_RESTRICTIONS): the only operations, as
     * enum sr_opcode, that the ring takes; the others are -EACCES. Cancel and SR_OP_CLOSE are
     * always allowed. Borrowed; NULL, the default, for everything. */
    const uint16_t *ops_allowed;
    /** enum sr_backend. Default SR_BACKEND_ANY, with which the environment variable
     * SAFERING_BACKEND (uring or fallback; other values are ignored) can choose. */
    uint32_t backend;
    uint32_t reserved; /* 0 */
} sr_ring_options;

#define SR_RING_OPTIONS_INIT                                                                       \
    (SR_LITERAL(sr_ring_options){sizeof(sr_ring_options), 128, 0, 1024, 64, 16, 0, 0, 0,           \
                                 5000000000u, 0, 0, 0, 0, 0, SR_BACKEND_ANY, 0})

/**
 * sr_ring_create() - make a ring that the calling thread owns
 * @options:   borrows; NULL for the defaults
 * @out_ring:  returns owned: end with sr_ring_destroy(); NULL on failure
 *
 * Setup flags are chosen by trying: SINGLE_ISSUER, DEFER_TASKRUN, SUBMIT_ALL and a registered ring
 * descriptor where the kernel has them. sr_ring_get_stats() tells what was got.
 *
 * Where io_uring cannot be had (-EPERM: kernel.io_uring_disabled or a seccomp filter; -ENOSYS;
 * -ENOMEM; SR_E_UNSUPPORTED: the kernel is older than 5.19) the ring works on the fallback, with
 * the same outcomes, unless io_uring was asked for by option or environment. Then that is the code.
 *
 * Return:  0, -EINVAL (options), SR_E_BOUNDS (an option's range), -ENOMEM, -EMFILE, and with
 * SR_BACKEND_URING -EPERM, -ENOSYS, SR_E_UNSUPPORTED. Thread:  any.     Blocks: never. Kernel:
 * io_uring_setup(2) and a pipe(2), whose closing tells when the kernel has let go of the ring.
 */
SR_API SR_MUST_USE int sr_ring_create(const sr_ring_options *options, sr_ring **out_ring);

/**
 * sr_ring_destroy() - cancel what is in flight, wait for it, close the ring
 * @ring:  address of the variable; takes; NULL inside is allowed; NULL is left behind on success
 *
 * Waits up to `drain_timeout_ns` for the last terminal completion. What the kernel still holds
 * then, with its buffers and pools, goes to the quarantine and is freed by sr_quarantine_sweep()
 * when the kernel has let go. Completions that nobody will read are dropped; descriptors in them
 * are closed and counted. Files that the ring keeps are closed. If the owner thread has exited, any
 * thread may call this; the ring then always passes through the quarantine. In a forked child it
 * frees only the child's copies.
 *
 * Return:  0 (nothing is in flight any more), SR_E_IN_FLIGHT (the ring is gone, but waits in the
 *          quarantine), SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_STATE (inside of a callback, or
 *          a batch lives on it).
 * Thread:  the owner, or any thread once the owner has exited.
 * Blocks:  up to `drain_timeout_ns`.
 */
SR_API int sr_ring_destroy(sr_ring **ring);

/**
 * sr_ring_release() - give a ring up, for another thread to adopt
 *
 * The ring must be at rest: no operation in flight, armed and abandoned ones included. The kernel's
 * ring is closed, everything else stays as it is: files and their handles, buffers in buffer rings,
 * messages in the inbox (sr_inbox_post() goes on), the event descriptor. Pools that only this ring
 * is attached to, and that the caller owns, go along: nobody acquires of them until the adopter
 * does. Other pools, and buffers that the caller holds, stay with the caller.
 *
 * Until it is adopted every call but sr_ring_adopt(), sr_ring_destroy(), sr_ring_thread() and
 * sr_inbox_post() is SR_E_WRONG_THREAD.
 *
 * Return:  0, SR_E_IN_FLIGHT, SR_E_STATE (inside of a callback; a batch lives on it; or a buffer
 *          ring's pool is attached to another ring too), SR_E_OBJECT, SR_E_WRONG_THREAD,
 *          SR_E_FORKED. On failure nothing has changed.
 * Thread:  the owner, for the last time.     Blocks: never; for the kernel to end the inbox's read.
 */
SR_API SR_MUST_USE int sr_ring_release(sr_ring *ring);

/**
 * sr_ring_adopt() - become the owner of a ring that another thread has released
 *
 * Makes the kernel's ring anew, with the options the ring was created with, and registers what it
 * had: files in their fixed slots, buffer rings with the buffers in them, restrictions, the event
 * descriptor (the same number), and the memory of attached pools where RLIMIT_MEMLOCK allows
 * (sr_ring_get_stats() tells). The backend is chosen as by sr_ring_create(). Of several threads
 * that try one gets the ring.
 *
 * Return:  0, SR_E_STATE (it has an owner), SR_E_OBJECT, SR_E_FORKED, -ENOMEM, -EMFILE,
 *          SR_E_UNSUPPORTED (it has an event descriptor, and the other backend would be used now),
 *          or the kernel's code for the set-up or a registration. On failure the ring is still
 *          released, and as it was.
 * Thread:  any; the owner from now on.     Blocks: while the kernel pins the pages.
 * Kernel:  as sr_ring_create(), sr_file_adopt(), sr_buffer_ring_create(), sr_ring_attach_pool().
 */
SR_API SR_MUST_USE int sr_ring_adopt(sr_ring *ring);

/** sr_ring_thread() - the thread that owns @ring, for sr_buffer_transfer(); zero if it is not a
 * ring. */
SR_API sr_thread sr_ring_thread(const sr_ring *ring);

/**
 * sr_ring_attach_pool() - let the ring's operations use the buffers of a pool
 * @pool:  the ring uses it until sr_ring_detach_pool() or sr_ring_destroy()
 *
 * Registers the memory with the kernel (pinned once, instead of on every operation) where
 * RLIMIT_MEMLOCK allows; else the buffers work as plain ones and the ring's stats say so.
 *
 * Return:  1 (registered), 0 (plain buffers), SR_E_FULL (`pools_max`), SR_E_STATE (attached
 * already, or in a callback), SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED, -ENOMEM. Thread:  the
 * ring's owner.     Blocks: while the kernel pins the pages. Kernel:  io_uring_register(2),
 * IORING_REGISTER_BUFFERS_UPDATE.
 */
SR_API SR_MUST_USE int sr_ring_attach_pool(sr_ring *ring, sr_pool *pool);

/**
 * sr_ring_detach_pool() - end the use of a pool by the ring
 *
 * Return:  0, SR_E_IN_FLIGHT (an operation uses a buffer of it), SR_E_STATE (not attached, or in a
 *          callback), SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the ring's owner.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_ring_detach_pool(sr_ring *ring, sr_pool *pool);

/**
 * sr_ring_submit() - take one operation
 * @request:  copies; buffer ranges in it are lent until the completion
 * @out_op:   names the operation until its completion; may be NULL
 *
 * The operation is queued; it is sent by the next sr_ring_wait() or sr_ring_flush(), or when the
 * queue is full.
 *
 * Return:  0, SR_E_STALE (file or buffer, or the buffer's pool is not attached), SR_E_LENT,
 * SR_E_BOUNDS (a range), SR_E_FULL (`ops_max` in flight, `files_max`, or the kernel takes no more
 * now), SR_E_STATE (the file is closing), SR_E_UNSUPPORTED (the kernel lacks the operation),
 * -EINVAL (request), -ENOMEM, SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED. On failure nothing
 * changed. Thread:  the owner, also inside of callbacks.     Blocks: never. Kernel:  no system
 * call, unless the queue is full.
 */
SR_API SR_MUST_USE int sr_ring_submit(sr_ring *ring, const sr_request *request, sr_op *out_op);

/**
 * sr_ring_flush() - send what was submitted, without waiting
 *
 * Return:  operations sent, or -EAGAIN, -EBUSY, -ENOMEM (the kernel takes no more now: nothing is
 * lost, wait or flush again), SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED. Thread:  the owner, also
 * inside of callbacks.     Blocks: never. Kernel:  one io_uring_enter(2) if there is something to
 * send.
 */
SR_API SR_MUST_USE int sr_ring_flush(sr_ring *ring);

typedef struct sr_wait_options {
    size_t size; /* sizeof(sr_wait_options) */
    /** Signal mask while waiting, as for ppoll(2); NULL to leave it alone. */
    const sigset_t *sigmask;
    /** 1: a signal that was handled ends the wait with -EINTR; 0: the wait goes on with the time
     * left. */
    uint32_t interruptible;
    uint32_t reserved;
} sr_wait_options;

#define SR_WAIT_OPTIONS_INIT (SR_LITERAL(sr_wait_options){sizeof(sr_wait_options), 0, 0, 0})

/**
 * sr_ring_wait() - send what was submitted and hand back what has ended
 * @count_min:   return once this many have ended (callbacks run count); 0 to look without waiting
 * @timeout_ns:  longest wait; SR_FOREVER for no limit
 * @options:     borrows; NULL for the defaults
 * @out_completions:  returns borrowed, until the next wait: the array; NULL on failure; may be NULL
 * if every operation has a callback
 *
 * Ends of the array outputs of the wait before this one.
 *
 * Return:  completions in the array, 0 included (all had callbacks, or count_min was 0),
 * SR_E_TIMEOUT (nothing ended in time), SR_E_IDLE (count_min > 0 and nothing is in flight), -EINTR
 * (only if interruptible), -EAGAIN, -EBUSY, -ENOMEM (the kernel took nothing and has nothing:
 * nothing is lost, try again), SR_E_STATE (inside of a callback), -EINVAL, SR_E_OBJECT,
 * SR_E_WRONG_THREAD, SR_E_FORKED. Thread:  the owner.     Blocks: up to @timeout_ns. Kernel:  one
 * io_uring_enter(2) as a rule.
 */
SR_API SR_MUST_USE int sr_ring_wait(sr_ring *ring, uint32_t count_min, uint64_t timeout_ns,
                                    const sr_wait_options *options,
                                    const sr_completion **out_completions);

/**
 * sr_op_cancel() - ask for an operation's end
 *
 * A request, not an end: the outcome comes with the operation's completion, which may be a success.
 * What it borrowed stays lent until then. Asking twice is allowed.
 *
 * Return:  0, SR_E_STALE (ended already), SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the owner, also inside of callbacks.     Blocks: never.
 * Kernel:  IORING_OP_ASYNC_CANCEL with the next send.
 */
SR_API SR_MUST_USE int sr_op_cancel(sr_ring *ring, sr_op op);

/**
 * sr_op_abandon() - stop waiting for an operation: its outcome is SR_E_TIMEOUT, now
 * @out_completion:  the one outcome; no other comes. May be NULL
 *
 * The operation is cancelled behind the scenes. Buffers that it borrowed are taken from the caller:
 * their handles are stale at once and the bytes wait in quarantine until the kernel is done, then
 * they are FREE.
 *
 * Return:  0, SR_E_STALE, SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_op_abandon(sr_ring *ring, sr_op op, sr_completion *out_completion);

/* ---- files ------------------------------------------------------------------------------------
 */

enum sr_file_flags {
    /** Also register a fixed slot, which saves the kernel a look-up on each read and write. */
    SR_FILE_FIXED = 1u << 0
};

/**
 * sr_file_adopt() - let the ring keep a descriptor
 * @fd:        takes: closed by SR_OP_CLOSE or sr_ring_destroy(); do not close(2) it
 * @flags:     enum sr_file_flags
 * @out_file:  returns owned: end with SR_OP_CLOSE or sr_file_detach(); SR_FILE_NONE on failure
 *
 * Return:  0, -EBADF (not an open descriptor), SR_E_FULL (`files_max`, or no fixed slot), -EINVAL
 * (flags), SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED, or the kernel's code for the registration.
 * Thread:  the owner, also inside of callbacks.     Blocks: never.
 * Kernel:  fcntl(2); with SR_FILE_FIXED IORING_REGISTER_FILES_UPDATE.
 */
SR_API SR_MUST_USE int sr_file_adopt(sr_ring *ring, int fd, uint32_t flags, sr_file *out_file);

/**
 * sr_file_fd() - look at the descriptor behind a file, for ioctl(2), fcntl(2) and the like
 * @out_fd:  returns borrowed: until the file is closed; -1 on failure. Never close it
 *
 * Return:  0, SR_E_STALE, SR_E_STATE (closing), SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED,
 * -EINVAL. Thread:  the owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_file_fd(sr_ring *ring, sr_file file, int *out_fd);

/**
 * sr_file_detach() - take the descriptor back from the ring
 * @file:    takes; the handle is stale afterwards
 * @out_fd:  returns owned: end with close(2); -1 on failure
 *
 * Return:  0, SR_E_STALE, SR_E_IN_FLIGHT (operations use it), SR_E_STATE (closing), SR_E_OBJECT,
 *          SR_E_WRONG_THREAD, SR_E_FORKED, -EINVAL.
 * Thread:  the owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_file_detach(sr_ring *ring, sr_file file, int *out_fd);

/* ---- in an event loop -------------------------------------------------------------------------
 */

/**
 * sr_ring_event_fd() - a descriptor that is readable when the ring has something to take
 * @out_fd:  returns borrowed: until the ring is destroyed; -1 on failure. Do not read it
 *
 * For epoll(7), poll(2) and the like; with the fallback it is an epoll descriptor itself, so a set
 * that has it cannot be polled by the ring (-ELOOP). The loop: sleep on the descriptor no longer
 * than sr_ring_next_deadline_ns() says, then sr_ring_dispatch(). What is submitted between a
 * dispatch and the next sleep is sent by sr_ring_flush(), or not before the next dispatch.
 *
 * Return:  0, -EMFILE, -ENFILE, -ENOMEM, -EINVAL (out_fd is NULL), SR_E_OBJECT, SR_E_WRONG_THREAD,
 *          SR_E_FORKED, or the kernel's code for the registration.
 * Thread:  the owner, also inside of callbacks.     Blocks: never.
 * Kernel:  eventfd(2), io_uring_register(2) with IORING_REGISTER_EVENTFD; or epoll_create(2),
 *          timerfd_create(2).
 */
SR_API SR_MUST_USE int sr_ring_event_fd(sr_ring *ring, int *out_fd);

/**
 * sr_ring_next_deadline_ns() - how long the caller may sleep before it must dispatch
 * @out_left_ns:  0: not at all; SR_FOREVER: until the event descriptor is readable
 *
 * Return:  0, -EINVAL (out_left_ns is NULL), SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED.
 * Thread:  the owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_ring_next_deadline_ns(sr_ring *ring, uint64_t *out_left_ns);

/**
 * sr_ring_dispatch() - send, take what has ended, end what is due; without waiting
 * @out_completions:  as of sr_ring_wait()
 *
 * When the array is full the event descriptor stays readable.
 *
 * Return:  completions in the array, 0 included; else as sr_ring_wait().
 * Thread:  the owner.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_ring_dispatch(sr_ring *ring, const sr_completion **out_completions);

/* ---- inbox ------------------------------------------------------------------------------------
 */

/**
 * sr_inbox_post() - send a message to the owner of a ring, from any thread
 * @tag, @ctx:  come out of the owner's sr_ring_wait() with SR_COMPLETION_INBOX, in order per sender
 *
 * Wakes the owner if it sleeps in sr_ring_wait(). The ring must not be destroyed meanwhile.
 *
 * Return:  0, SR_E_FULL (`inbox_entries` wait already), SR_E_STATE (the ring has no inbox),
 * SR_E_OBJECT, SR_E_FORKED. Thread:  any.     Blocks: never.     Kernel:  write(2) to an eventfd,
 * only if the owner sleeps.
 */
SR_API SR_MUST_USE int sr_inbox_post(sr_ring *ring, uint64_t tag, void *ctx);

/* ---- stats ------------------------------------------------------------------------------------
 */

typedef struct sr_ring_stats {
    size_t size; /* sizeof(sr_ring_stats) */
    /* what was got */
    uint32_t setup_flags; /* IORING_SETUP_* in force */
    uint32_t features;    /* IORING_FEAT_* of the kernel */
    uint32_t sq_entries;
    uint32_t cq_entries;
    uint32_t ops_max;
    uint32_t ring_fd_registered; /* 0 or 1 */
    uint32_t fixed_files;        /* fixed slots available */
    int32_t fixed_files_error;   /* why there are none: 0 or a negative code */
    uint32_t pools_registered;   /* attached pools whose memory is registered */
    uint32_t pools_plain;        /* attached pools that work as plain buffers */
    int32_t register_error;      /* why the last of these is plain: 0 or a negative code */
    int32_t workers_error;       /* why `workers_max` has no effect: 0 or a negative code */
    /* now */
    uint32_t ops_in_flight; /* abandoned ones included */
    uint32_t ops_abandoned; /* abandoned and not yet ended */
    uint32_t files_open;
    uint32_t fixed_files_used;
    uint64_t bytes_quarantined; /* lent bytes of abandoned operations */
    /* since creation */
    uint64_t submitted_total;
    uint64_t completed_total;
    uint64_t abandoned_total;
    uint64_t enters_total;          /* io_uring_enter(2) calls */
    uint64_t sq_full_total;         /* sends because the queue was full */
    uint64_t partial_submits_total; /* sends of which the kernel took only a part */
    uint64_t interrupted_total;     /* waits that a signal broke and that went on */
    uint64_t busy_total;            /* EAGAIN, EBUSY, ENOMEM from io_uring_enter(2) */
    uint64_t cq_overflows_total;    /* completions that had to wait in the kernel: flushes seen */
    uint64_t short_transfers_total; /* resumed by SR_REQUEST_FULL */
    uint64_t cancels_total;         /* cancel requests sent */
    uint64_t deadlines_hit_total;
    uint64_t completions_unknown_total; /* dropped: user_data is no operation of this ring */
    uint64_t completions_stale_total;   /* dropped: an operation that has ended, or a duplicate */
    uint64_t descriptors_closed_total;  /* closed because nobody would have read them */
    uint64_t substitutes_total;         /* operations done by a plain system call */
    uint64_t inbox_received_total;
    uint64_t inbox_wakeups_total;
    uint64_t rearmed_total;       /* multishot operations that the kernel ended and that went on */
    uint64_t starved_total;       /* receives that found their buffer ring empty and waited */
    uint64_t messages_lost_total; /* dropped with their data: nobody would have read them */
    /* what was got */
    uint32_t backend;      /* enum sr_backend: SR_BACKEND_URING or SR_BACKEND_FALLBACK */
    int32_t backend_error; /* why it is not io_uring; 0 if it is, or was not asked for */
} sr_ring_stats;

#define SR_RING_STATS_INIT                                                                         \
    (SR_LITERAL(sr_ring_stats){sizeof(sr_ring_stats),                                              \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0,                                                                  \
                               0})

/**
 * sr_ring_get_stats() - what a ring is and what has happened to it
 * @out_stats:  `size` set by the caller; the rest is filled
 *
 * Return:  0, SR_E_OBJECT, SR_E_WRONG_THREAD, SR_E_FORKED, -EINVAL (out_stats).
 * Thread:  the owner, also inside of callbacks.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_ring_get_stats(sr_ring *ring, sr_ring_stats *out_stats);

/* ---- quarantine -------------------------------------------------------------------------------
 */

/** What destroyed rings left with the kernel, in the whole process. */
typedef struct sr_quarantine_counts {
    size_t size;         /* sizeof(sr_quarantine_counts) */
    uint32_t rings;      /* in quarantine now */
    uint32_t operations; /* that had not ended when their ring was destroyed */
    uint64_t bytes;      /* of buffers lent to these */
    uint64_t rings_total;
    uint64_t swept_total;
    uint64_t descriptors_closed_total; /* that late opens brought and nobody would have read */
} sr_quarantine_counts;

#define SR_QUARANTINE_STATS_INIT                                                                   \
    (SR_LITERAL(sr_quarantine_counts){sizeof(sr_quarantine_counts), 0, 0, 0, 0, 0, 0})

/**
 * sr_quarantine_stats() - list what is in quarantine, without sweeping
 *
 * Return:  0, -EINVAL (out_stats).
 * Thread:  any.     Blocks: never.
 */
SR_API SR_MUST_USE int sr_quarantine_stats(sr_quarantine_counts *out_stats);

/**
 * sr_quarantine_sweep() - free what the kernel has let go of
 * @timeout_ns:  wait at most this long for the quarantine to become empty; 0 to look only
 *
 * A ring that was destroyed while a file was being opened waits for its owner thread to sweep (or
 * to end): only that thread can receive the descriptor, and closes it.
 *
 * Return:  rings that are still in quarantine.
 * Thread:  any; see above.     Blocks: up to @timeout_ns.
 * Kernel:  poll(2) on the pipe whose other end the kernel closes with the ring.
 */
SR_API SR_MUST_USE int sr_quarantine_sweep(uint64_t timeout_ns);

SR_EXTERN_C_END

#endif
