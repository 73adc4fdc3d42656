/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define TICK_NS 200000000u
#define NAP_NS  1000000

static volatile sig_atomic_t stop_signal;

static void on_signal(int number) {
    stop_signal = number;
}

int loop_catch_signals(void) {
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        struct sigaction inherited;
        if (sigaction(numbers[i], NULL, &inherited) != 0) {
            return -errno;
        }
        /* nohup(1) and shells without job control start programs with a signal ignored. */
        if (inherited.sa_handler != SIG_IGN && sigaction(numbers[i], &action, NULL) != 0) {
            return -errno;
        }
    }
    return 0;
}

int loop_stopped(void) {
    return stop_signal;
}

static int make_pool(struct loop *loop, uint32_t buffers) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    options.buffer_size_bytes = LOOP_BUFFER_SIZE;
    options.buffer_count = buffers;
    int code = sr_pool_create(NULL, &options, &loop->pool);
    if (code < 0) {
        return code;
    }
    /* 1 (registered) or 0 (RLIMIT_MEMLOCK is too small: plain buffers) are both fine. */
    code = sr_ring_attach_pool(loop->ring, loop->pool);
    if (code < 0) {
        (void)sr_pool_destroy(&loop->pool); /* the first error is the one to tell */
    }
    return code < 0 ? code : 0;
}

int loop_init(struct loop *loop, uint32_t operations, uint32_t files, uint32_t buffers,
              const char **out_what) {
    *loop = (struct loop){.deferred_end = &loop->deferred};
    sr_ring_options options = SR_RING_OPTIONS_INIT;
    options.ops_max = operations;
    options.files_max = files;
    *out_what = "cannot create an io_uring";
    int code = sr_ring_create(&options, &loop->ring);
    if (code < 0) {
        return code;
    }
    *out_what = "cannot create a pool of buffers";
    code = make_pool(loop, buffers);
    if (code < 0) {
        (void)sr_ring_destroy(&loop->ring); /* the first error is the one to tell */
    }
    return code;
}

int loop_deinit(struct loop *loop) {
    int ring_code = sr_ring_destroy(&loop->ring);
    int pool_code = sr_pool_destroy(&loop->pool);
    return ring_code < 0 ? ring_code : pool_code;
}

static void on_complete(sr_ring *ring, const sr_completion *completion, void *ctx) {
    (void)ring;
    struct operation *operation = ctx;
    operation->op = SR_OP_NONE;
    operation->ended(operation, completion);
}

sr_request *operation_prepare(struct operation *operation, enum sr_opcode opcode) {
    operation->request = SR_REQUEST_INIT;
    operation->request.op = (uint16_t)opcode;
    operation->request.on_complete = on_complete;
    operation->request.ctx = operation;
    return &operation->request;
}

/* A refused request ends like one that the kernel refused, so that callers know one way only. */
static void end_refused(struct loop *loop, struct operation *operation, int code) {
    sr_completion refused = {
        .ctx = operation,
        .result = code,
        .opcode = operation->request.op,
        .file = operation->request.file,
        .buffer = operation->request.buffer,
    };
    on_complete(loop->ring, &refused, operation);
}

static void defer(struct loop *loop, struct operation *operation) {
    operation->next_deferred = NULL;
    *loop->deferred_end = operation;
    loop->deferred_end = &operation->next_deferred;
}

void loop_submit(struct loop *loop, struct operation *operation) {
    operation->op = SR_OP_NONE;
    int code = sr_ring_submit(loop->ring, &operation->request, &operation->op);
    if (code == SR_E_FULL) {
        defer(loop, operation);
    } else if (code < 0) {
        end_refused(loop, operation, code);
    }
}

static void submit_deferred(struct loop *loop) {
    struct operation *operation = loop->deferred;
    loop->deferred = NULL;
    loop->deferred_end = &loop->deferred;
    while (operation != NULL) {
        struct operation *next = operation->next_deferred;
        loop_submit(loop, operation);
        operation = next;
    }
}

void loop_cancel(struct loop *loop, struct operation *operation) {
    if (operation->op.bits != 0) {
        int code = sr_op_cancel(loop->ring, operation->op);
        (void)code; /* only a hint: the outcome comes anyway */
    }
}

static void nap(void) {
    const struct timespec pause = {.tv_nsec = NAP_NS};
    (void)nanosleep(&pause, NULL); /* being woken early does no harm */
}

void loop_wait(struct loop *loop) {
    submit_deferred(loop);
    sr_wait_options options = SR_WAIT_OPTIONS_INIT;
    options.interruptible = 1;
    int code = sr_ring_wait(loop->ring, 1, TICK_NS, &options, NULL);
    switch (code) {
    case SR_E_TIMEOUT:
    case -EINTR:
        return;
    case SR_E_IDLE:
    case -EAGAIN:
    case -EBUSY:
    case -ENOMEM:
        nap(); /* the kernel has no room now: nothing is lost, try again */
        return;
    default:
        if (code < 0) {
            (void)fprintf(stderr, "copy_tree: cannot wait for the ring: %s\n", sr_strerror(code));
            exit(2); /* without completions nothing can be cleaned up either */
        }
    }
}

struct call {
    struct operation operation;
    struct answer *answer;
    bool done;
};

static void end_call(struct operation *operation, const sr_completion *completion) {
    struct call *call = operation->owner;
    call->answer->result = completion->result;
    call->answer->file = completion->file;
    if (completion->statx != NULL) {
        call->answer->statx = *completion->statx;
    }
    call->done = true;
}

int64_t loop_call(struct loop *loop, const sr_request *request, struct answer *out_answer) {
    struct answer ignored = {0};
    struct call call = {.answer = out_answer != NULL ? out_answer : &ignored};
    call.operation.owner = &call;
    call.operation.ended = end_call;
    (void)operation_prepare(&call.operation, (enum sr_opcode)request->op);
    sr_completion_fn handler = call.operation.request.on_complete;
    call.operation.request = *request;
    call.operation.request.on_complete = handler;
    call.operation.request.ctx = &call.operation;
    loop_submit(loop, &call.operation);
    while (!call.done) {
        loop_wait(loop);
    }
    return call.answer->result;
}
