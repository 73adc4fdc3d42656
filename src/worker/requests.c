/* SPDX-License-Identifier: MIT */
#include "worker/requests.h"

#include "core/check.h"
#include "sys/packet.h"
#include "sys/process.h"
#include "worker/report.h"
#include "worker/start.h"
#include <errno.h>
#include <safering/error.h>

/* One request at a time, so these are no state. */
static _Alignas(8) unsigned char bytes[SRI_LAUNCH_MESSAGE_MAX];
static struct sri_launch_decoded decoded;

static int start(struct sri_launch_state *state, const struct sri_launch_header *header,
                 const struct sri_packet *packet) {
    const int code =
        sri_launch_start_decode(bytes, packet->size_bytes, packet->fds, packet->fd_count, &decoded);
    if (code != 0) {
        return code;
    }
    if (sri_launched_find(state, header->worker) != NULL) {
        return SR_E_STATE;
    }
    struct sri_launched *worker = sri_launched_add(state, header->worker, header->serial);
    if (worker == NULL) {
        return SR_E_FULL;
    }
    sri_start(state, worker, &decoded.plan);
    return 0;
}

/* Always by something that cannot mean another process: a pidfd, or a child that is not reaped. */
static int send_signal(const struct sri_launched *worker, uint32_t signal) {
    if (worker->pidfd >= 0) {
        return sri_process_signal(worker->pidfd, (int)signal);
    }
    if (worker->child == 0) {
        return -ESRCH;
    }
    if (signal != 9) {
        return SR_E_STATE; /* it is not itself yet: all signals are blocked */
    }
    sri_child_kill(worker->child);
    return 0;
}

static int signal_worker(struct sri_launch_state *state, const struct sri_launch_header *header,
                         const struct sri_packet *packet) {
    struct sri_launch_kill kill;
    int code = sri_launch_kill_decode(bytes, packet->size_bytes, &kill);
    if (code != 0) {
        return code;
    }
    const struct sri_launched *worker = sri_launched_find(state, kill.header.worker);
    code = worker != NULL ? send_signal(worker, kill.signal) : SR_E_STALE;
    sri_report_answer(state, SRI_LAUNCH_KILLED, header, code);
    return 0;
}

static int obey(struct sri_launch_state *state, const struct sri_launch_header *header,
                const struct sri_packet *packet) {
    switch (header->kind) {
    case SRI_LAUNCH_START:
        return start(state, header, packet);
    case SRI_LAUNCH_KILL:
        return signal_worker(state, header, packet);
    default:
        return SR_E_PROTOCOL;
    }
}

static int check_and_obey(struct sri_launch_state *state, struct sri_launch_header *header,
                          const struct sri_packet *packet) {
    const bool is_ours =
        sri_launch_header_read(bytes, packet->size_bytes, packet->fd_count, header);
    if (packet->is_cut) {
        return -EMSGSIZE;
    }
    if (packet->has_lost_fds) {
        return -EMFILE;
    }
    return is_ours ? obey(state, header, packet) : SR_E_PROTOCOL;
}

void sri_requests_take(struct sri_launch_state *state) {
    struct sri_launch_header header;
    struct sri_packet packet;
    SR_CHECK(!state->owes_answer);
    const int got = sri_packet_receive(state->host_fd, bytes, sizeof bytes, &packet);
    if (got <= 0) {
        state->is_host_gone |= got != -EAGAIN;
        return;
    }
    const int code = check_and_obey(state, &header, &packet);
    if (code != 0) {
        sri_report_answer(state, SRI_LAUNCH_REFUSED, &header, code);
    }
    sri_packet_drop(&packet);
}
