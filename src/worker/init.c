/* SPDX-License-Identifier: MIT */
#include "worker/init.h"

#include "ipc/launch_wire.h"
#include "sys/exec.h"
#include "sys/packet.h"

#define EXIT_BROKEN 126

static _Noreturn void wait_for_worker(int32_t worker, int init_fd) {
    for (;;) {
        struct sri_child_end end;
        const int32_t pid = sri_children_wait_ended();
        if (pid <= 0) {
            sri_child_exit(EXIT_BROKEN); /* the launcher says that the init is gone */
        }
        sri_child_reap(pid, &end);
        if (pid == worker) {
            (void)sri_packet_send(init_fd, &end, sizeof end, NULL, 0); /* its only packet: fits */
            sri_child_exit(0);
        }
    }
}

int sri_init_run(int init_fd) {
    const struct sri_child_namespaces none = {0};
    const int32_t worker = sri_child_fork(&none);
    if (worker <= 0) {
        return worker;
    }
    (void)sri_child_new_session();
    sri_child_set_name("safering-init");
    /* The start channel too: else the start would never be over. */
    if (sri_exec_close_others(&init_fd, 1) != 0) {
        sri_child_exit(EXIT_BROKEN);
    }
    wait_for_worker(worker, init_fd);
}

bool sri_init_word_is_valid(const struct sri_child_end *end) {
    return end->signal <= SRI_LAUNCH_SIGNAL_MAX && end->code <= 255 && end->has_core <= 1 &&
           end->zero == 0 && (end->signal == 0 || end->code == 0) &&
           (end->signal != 0 || end->has_core == 0);
}
