/* SPDX-License-Identifier: MIT */
#include "support/worker.h"

#include "support/methods.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void serve(int socket) {
    sr_serve_options options = SR_SERVE_OPTIONS_INIT;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)signal(SIGINT, SIG_DFL);
    options.socket = dup2(socket, 3);
    (void)closefrom(4);
    const int code = sr_serve(test_methods, test_method_count, &options);
    /* A host that is killed, or that ends the channel early, is no fault of the worker. */
    _exit(code == 0 || code == SR_E_PEER_DIED ? 0 : 4);
}

void worker_start(struct worker *out_worker) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        perror("worker: socketpair");
        abort();
    }
    (void)fflush(NULL);
    out_worker->pid = fork();
    if (out_worker->pid == 0) {
        serve(pair[1]);
    }
    (void)close(pair[1]);
    out_worker->socket = pair[0];
    if (out_worker->pid < 0) {
        perror("worker: fork");
        abort();
    }
}

int worker_take_socket(struct worker *worker) {
    const int socket = worker->socket;
    worker->socket = -1;
    return socket;
}

int worker_wait(struct worker *worker) {
    int status = -1;
    if (worker->socket >= 0) {
        (void)close(worker->socket);
        worker->socket = -1;
    }
    if (waitpid(worker->pid, &status, 0) != worker->pid) {
        perror("worker: waitpid");
        abort();
    }
    worker->pid = -1;
    return status;
}

int worker_end(struct worker *worker) {
    (void)kill(worker->pid, SIGKILL);
    return worker_wait(worker);
}
