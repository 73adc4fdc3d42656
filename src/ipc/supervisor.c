/* SPDX-License-Identifier: MIT */
#include "ipc/supervisor.h"

#include "ipc/link.h"
#include "ipc/service.h"
#include "ipc/strings.h"
#include "sys/clock.h"
#include "sys/memory.h"
#include "sys/packet.h"

#include <errno.h>
#include <poll.h>

#define WORKERS_MAX UINT32_C(1024)
/* When to ask a ring again that took no request. */
#define AGAIN_NS UINT64_C(1000000)

static bool is_set(sr_op op) {
    return op.bits != 0;
}

/* ---- the launcher's descriptor ----------------------------------------------------------------
 */

static void on_readable(sr_ring *ring, const sr_completion *completion, void *ctx) {
    sr_supervisor *supervisor = ctx;
    (void)completion; /* also where it failed: reading shows what is there */
    supervisor->watch_op = SR_OP_NONE;
    supervisor->has_event = true;
    sri_ring_want_turn(ring);
}

/* Without room in the ring: a little later. */
static void watch(sr_supervisor *supervisor) {
    sr_request request = SR_REQUEST_INIT;
    if (supervisor->launcher == NULL || is_set(supervisor->watch_op)) {
        return;
    }
    request.op = SR_OP_POLL;
    request.file = supervisor->watch_file;
    request.mask = POLLIN;
    request.ctx = supervisor;
    request.on_complete = on_readable;
    sr_ring *ring = supervisor->client.ring;
    if (sr_ring_submit(ring, &request, &supervisor->watch_op) < 0) {
        const uint64_t again_ns = sri_clock_after(ring->queue.backend->now_ns(), AGAIN_NS);
        supervisor->client.deadline_ns =
            again_ns < supervisor->client.deadline_ns ? again_ns : supervisor->client.deadline_ns;
    }
}

/* Takes the descriptor back from the ring. SR_E_IN_FLIGHT while it is polled. */
static int unwatch(sr_supervisor *supervisor) {
    sr_ring *ring = supervisor->client.ring;
    int fd = -1;
    if (is_set(supervisor->watch_op)) {
        const int code = sr_op_cancel(ring, supervisor->watch_op);
        (void)code; /* it may have just ended */
        return SR_E_IN_FLIGHT;
    }
    if (supervisor->watch_file.bits != 0) {
        const int code = sr_file_detach(ring, supervisor->watch_file, &fd);
        if (code < 0) {
            return code;
        }
        supervisor->watch_file = SR_FILE_NONE;
    }
    return 0;
}

/* ---- the launcher -----------------------------------------------------------------------------
 */

static int make_launcher(sr_supervisor *supervisor) {
    const struct sri_launcher_options options = {
        .path = supervisor->path != NULL ? supervisor->path[0] : NULL,
        .variables = supervisor->variables,
        .timeout_ns = supervisor->options.timeout_ns,
    };
    int code = sri_launcher_create(&options, &supervisor->launcher);
    if (code < 0) {
        return code;
    }
    code = sr_file_adopt(supervisor->client.ring, sri_launcher_fd(supervisor->launcher), 0,
                         &supervisor->watch_file);
    if (code < 0) {
        (void)sri_launcher_destroy(&supervisor->launcher);
        return code;
    }
    sri_ring_want_turn(supervisor->client.ring);
    return 0;
}

int sri_supervisor_launcher(sr_supervisor *supervisor, struct sri_launcher **out_launcher) {
    const int code = supervisor->launcher == NULL ? make_launcher(supervisor) : 0;
    *out_launcher = supervisor->launcher;
    return code;
}

/* It is gone, and everybody has been told. */
static void drop_launcher(sr_supervisor *supervisor) {
    if (unwatch(supervisor) == 0) {
        (void)sri_launcher_destroy(&supervisor->launcher); /* nothing is left to time out */
        supervisor->has_event = false;
    }
}

static void give_event(sr_supervisor *supervisor, const struct sri_launch_event *event) {
    for (sr_service *service = supervisor->services; service != NULL; service = service->next) {
        struct sri_service_worker *worker = sri_service_find_worker(service, event->header.worker);
        if (worker != NULL) {
            sri_service_worker_on_event(worker, event);
            return;
        }
    }
}

static void take_events(sr_supervisor *supervisor) {
    struct sri_launch_event event;
    int pidfd = -1;
    int got = 0;
    while ((got = sri_launcher_receive(supervisor->launcher, &event, &pidfd)) == 1) {
        sri_fd_drop(&pidfd); /* signals go through the launcher */
        give_event(supervisor, &event);
    }
    supervisor->has_event = got < 0; /* lost: in the next turn, too, until it has been dropped */
    if (got < 0) {
        drop_launcher(supervisor);
    }
}

/* ---- the ring's turns -------------------------------------------------------------------------
 */

static void turn(struct sri_ring_client *client) {
    sr_supervisor *supervisor = SRI_CONTAINER_OF(client, sr_supervisor, client);
    if (supervisor->has_event && supervisor->launcher != NULL) {
        take_events(supervisor);
    }
    client->deadline_ns = SR_FOREVER;
    for (sr_service *service = supervisor->services; service != NULL; service = service->next) {
        sri_service_turn(service);
        const uint64_t deadline_ns = sri_service_deadline(service);
        client->deadline_ns = deadline_ns < client->deadline_ns ? deadline_ns : client->deadline_ns;
    }
    if (!supervisor->has_event) {
        watch(supervisor);
    }
}

static void waited(struct sri_ring_client *client) {
    (void)client;
}

/* ---- life -------------------------------------------------------------------------------------
 */

int sri_supervisor_check(const sr_supervisor *supervisor) {
    if (supervisor == NULL || supervisor->magic != SRI_SUPERVISOR_MAGIC) {
        return SR_E_OBJECT;
    }
    return supervisor->owner_key == sri_owner_key() ? 0 : sri_owner_error(supervisor->owner_key);
}

static int copy_options(sr_supervisor *supervisor) {
    const char *const *list = supervisor->options.variables;
    const char *path = supervisor->options.launcher;
    if (path != NULL) {
        supervisor->path = sri_copy_strings(path, NULL, NULL);
        if (supervisor->path == NULL) {
            return -ENOMEM;
        }
    }
    if (list != NULL) {
        supervisor->variables = sri_copy_strings(NULL, list, NULL);
        if (supervisor->variables == NULL) {
            return -ENOMEM;
        }
    }
    return 0;
}

static int make_pool(sr_supervisor *supervisor) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    options.buffer_size_bytes = SRI_LINK_BUFFER_BYTES;
    options.buffer_count = SRI_LINK_BUFFERS * supervisor->options.workers_max;
    int code = sr_pool_create(NULL, &options, &supervisor->pool);
    if (code < 0) {
        return code;
    }
    code = sr_ring_attach_pool(supervisor->client.ring, supervisor->pool);
    if (code < 0) {
        SR_CHECK(sr_pool_destroy(&supervisor->pool) == 0);
    }
    return code < 0 ? code : 0;
}

static void free_memory(sr_supervisor *supervisor) {
    sri_release(supervisor->path);
    sri_release(supervisor->variables);
    supervisor->magic = 0;
    sri_release(supervisor);
}

static void drop_pool(sr_supervisor *supervisor) {
    if (supervisor->pool != NULL) {
        SR_CHECK(sr_ring_detach_pool(supervisor->client.ring, supervisor->pool) == 0);
        SR_CHECK(sr_pool_destroy(&supervisor->pool) == 0);
    }
}

int sr_supervisor_open(sr_ring *ring, const sr_supervisor_options *options,
                       sr_supervisor **out_supervisor) {
    sr_supervisor_options given = SR_SUPERVISOR_OPTIONS_INIT;
    if (out_supervisor == NULL) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    *out_supervisor = NULL;
    int code = sri_ring_check(ring);
    if (code == 0 && ring->in_callback) {
        code = SR_E_STATE;
    }
    if (code == 0 && (!sri_options_take(&given, sizeof given, options) || given.reserved != 0)) {
        code = -EINVAL;
    }
    if (code == 0 && (given.workers_max < 1 || given.workers_max > WORKERS_MAX)) {
        code = SR_E_BOUNDS;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    sr_supervisor *supervisor = sri_allocate(1, sizeof *supervisor);
    if (supervisor == NULL) {
        return -ENOMEM;
    }
    supervisor->options = given;
    supervisor->owner_key = ring->owner_key;
    supervisor->client = (struct sri_ring_client){
        .ring = ring,
        .deadline_ns = SR_FOREVER,
        .turn = turn,
        .waited = waited,
    };
    code = copy_options(supervisor);
    code = code < 0 ? code : make_pool(supervisor);
    code = code < 0 ? code : make_launcher(supervisor);
    if (code < 0) {
        drop_pool(supervisor);
        free_memory(supervisor);
        return code;
    }
    sri_ring_add_client(ring, &supervisor->client);
    supervisor->magic = SRI_SUPERVISOR_MAGIC;
    *out_supervisor = supervisor;
    return 0;
}

/* Waits until the poll has ended, which it does as soon as it is cancelled. */
static int stop_watching(sr_supervisor *supervisor) {
    int code = 0;
    for (int i = 0; i < 100 && (code = unwatch(supervisor)) == SR_E_IN_FLIGHT; i++) {
        const int waited_code = sri_ring_wait_aside(supervisor->client.ring, SRI_NS_PER_S / 20);
        (void)waited_code; /* what counts is whether it has ended */
    }
    return code;
}

static int close_supervisor(sr_supervisor *supervisor) {
    sr_ring *ring = supervisor->client.ring;
    sri_ring_remove_client(&supervisor->client);
    supervisor->client.ring = ring;
    int code = stop_watching(supervisor);
    if (code < 0) {
        sri_ring_add_client(ring, &supervisor->client);
        return code;
    }
    (void)sri_launcher_destroy(&supervisor->launcher); /* a time-out has killed it: all is done */
    drop_pool(supervisor);
    free_memory(supervisor);
    return 0;
}

/* The owner is gone, or this is a forked child: what is left is memory and descriptors. */
static int forget_supervisor(sr_supervisor *supervisor) {
    if (supervisor->client.ring != NULL) {
        return SRI_MISUSE(SR_E_STATE, 0); /* the ring still has its buffers attached */
    }
    const int code = sr_pool_destroy(&supervisor->pool);
    if (code < 0) {
        return code;
    }
    (void)sri_launcher_destroy(&supervisor->launcher);
    free_memory(supervisor);
    return 0;
}

int sr_supervisor_close(sr_supervisor **supervisor) {
    if (supervisor == NULL) {
        return SRI_MISUSE(SR_E_OBJECT, 0);
    }
    sr_supervisor *const gone = *supervisor;
    if (gone == NULL) {
        return 0;
    }
    if (gone->magic != SRI_SUPERVISOR_MAGIC) {
        return SRI_MISUSE(SR_E_OBJECT, 0);
    }
    const bool owner = gone->owner_key == sri_owner_key();
    const bool is_orphan =
        !owner && (sri_owner_is_forked(gone->owner_key) || !sri_owner_is_alive(gone->owner_key));
    if (!owner && !is_orphan) {
        return SRI_MISUSE(SR_E_WRONG_THREAD, 0);
    }
    if (gone->services != NULL || (owner && gone->client.ring->in_callback)) {
        return SRI_MISUSE(SR_E_STATE, 0);
    }
    const int code = owner ? close_supervisor(gone) : forget_supervisor(gone);
    if (code == 0) {
        *supervisor = NULL;
    }
    return code;
}
