/* SPDX-License-Identifier: MIT */
#include "worker/keeper.h"

#include "sys/children.h"
#include "sys/packet.h"
#include "sys/process.h"
#include "worker/ended.h"
#include <safering/error.h>

#define SIGNAL_TERM 15

/* How long a host waits for processes that the kernel cannot end (a broken disk or network). */
#define PATIENCE_NS UINT64_C(2000000000)

static void wait_for(int32_t launcher) {
    for (int32_t pid = 0; pid != launcher && (pid = sri_children_wait_ended()) > 0;) {
        struct sri_child_end end;
        sri_child_reap(pid, &end);
    }
}

static _Noreturn void keep(int32_t launcher, int socket_fd) {
    wait_for(launcher);
    if (!sri_ended_end_strangers(PATIENCE_NS)) {
        sri_fd_drop(&socket_fd);
        (void)sri_ended_end_strangers(UINT64_MAX);
    }
    sri_child_exit(0);
}

int sri_keeper_run(int socket_fd, int host_fd, int signal_fd) {
    const struct sri_child_namespaces none = {0};
    const int32_t keeper = sri_process_id();
    const int code = sri_children_adopt_orphans();
    const int32_t pid = code == 0 ? sri_child_fork(&none) : code;
    if (pid < 0) {
        return pid;
    }
    if (pid > 0) {
        sri_child_set_name("safering-keeper");
        sri_fd_drop(&host_fd);
        sri_fd_drop(&signal_fd);
        keep(pid, socket_fd);
    }
    const int tied = sri_child_die_with_parent(SIGNAL_TERM);
    if (tied != 0 || sri_child_parent() != keeper) {
        return tied != 0 ? tied : SR_E_PEER_DIED;
    }
    return sri_children_adopt_orphans();
}
