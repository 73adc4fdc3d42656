/* SPDX-License-Identifier: MIT */
#include "ipc/service.h"

#include "ipc/channel.h"
#include "ipc/sandbox.h"
#include "sys/clock.h"
#include "sys/memory.h"

#include <errno.h>

/* What sr_service_close() waits beyond `stop_timeout_ns`: for the kernel to end what was killed. */
#define KILL_NS UINT64_C(5000000000)

int sri_service_check(const sr_service *service) {
    if (service == NULL || service->magic != SRI_SERVICE_MAGIC) {
        return SR_E_OBJECT;
    }
    return service->owner_key == sri_owner_key() ? 0 : sri_owner_error(service->owner_key);
}

uint64_t sri_service_now(const sr_service *service) {
    return service->supervisor->client.ring->queue.backend->now_ns();
}

struct sri_service_worker *sri_service_find_worker(sr_service *service, uint64_t id) {
    for (uint32_t i = 0; i < service->worker_count; i++) {
        if (service->workers[i].seat != SRI_SEAT_FREE && service->workers[i].id == id) {
            return &service->workers[i];
        }
    }
    return NULL;
}

void sri_service_tell_state(sr_service *service, enum sr_service_change change, uint32_t version,
                            int code) {
    if (service->options.on_state != NULL) {
        sri_ring_count_callback(service->supervisor->client.ring);
        service->options.on_state(service, change, version, code, service->options.ctx);
    }
}

/* ---- turns ------------------------------------------------------------------------------------
 */

void sri_service_change(sr_service *service) {
    service->has_changed = true;
    sri_supervisor_want_turn(service->supervisor);
}

/* A turn comes with every round of a wait, and there may be hundreds of seats. */
static bool must_look(const sr_service *service) {
    return service->has_changed || (service->seats_due_ns != SR_FOREVER &&
                                    service->seats_due_ns <= sri_service_now(service));
}

static void look_at_seats(sr_service *service) {
    service->has_changed = false;
    for (uint32_t i = 0; i < service->worker_count; i++) {
        sri_service_worker_turn(&service->workers[i]);
    }
    sri_service_balance(service);
    service->seats_due_ns =
        service->start_not_before_ns != 0 ? service->start_not_before_ns : SR_FOREVER;
    for (uint32_t i = 0; i < service->worker_count; i++) {
        const struct sri_service_worker *worker = &service->workers[i];
        if (worker->deadline_ns < service->seats_due_ns) {
            service->seats_due_ns = worker->deadline_ns;
        }
        if (worker->seat == SRI_SEAT_ENDING) {
            /* Its channel is asked again in each round: what that waits for is told to nobody. */
            service->has_changed = true;
        }
    }
}

void sri_service_turn(sr_service *service) {
    sri_service_give_up_due(service);
    if (must_look(service)) {
        look_at_seats(service);
    }
    sri_service_hand_out(service);
}

uint64_t sri_service_deadline(const sr_service *service) {
    const uint64_t next_ns = sri_calls_next_deadline(&service->calls);
    return next_ns < service->seats_due_ns ? next_ns : service->seats_due_ns;
}

/* ---- open -------------------------------------------------------------------------------------
 */

static int check_options(const sr_service_options *options) {
    const bool fits = options->workers >= 1 && options->workers <= SR_SERVICE_WORKERS_MAX &&
                      options->spares <= SR_SERVICE_WORKERS_MAX && options->calls_max >= 1 &&
                      options->calls_max <= SRI_CALLS_MAX && options->calls_per_worker >= 1 &&
                      options->calls_per_worker <= SRI_CALLS_MAX &&
                      options->payload_max_bytes <= SRI_PAYLOAD_MAX_BYTES &&
                      sri_isolation_check(options->isolation, options->arena_bytes) == 0 &&
                      options->restarts_max <= SRI_RESTARTS_MAX;
    return !fits ? SR_E_BOUNDS : options->reserved != 0 ? -EINVAL : 0;
}

static int take_workers(sr_service *service) {
    service->workers = sri_allocate(service->worker_count, sizeof *service->workers);
    if (service->workers == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < service->worker_count; i++) {
        struct sri_service_worker *worker = &service->workers[i];
        worker->service = service;
        worker->deadline_ns = SR_FOREVER;
        worker->methods = sri_allocate(SR_METHODS_MAX, sizeof *worker->methods);
        if (worker->methods == NULL) {
            return -ENOMEM;
        }
    }
    return 0;
}

/* Of the options, else that of the program, which is an absolute path, as far as there is room. */
static void take_name(sr_service *service, const sr_service_options *options) {
    const char *path = service->recipe.arguments[0];
    const char *name = options->name != NULL ? options->name : strrchr(path, '/') + 1;
    uint32_t length = 0;
    for (; name[length] != '\0' && length < SR_SERVICE_NAME_MAX; length++) {
        const bool is_printable = name[length] >= ' ' && name[length] <= '~';
        service->name[length] = is_printable ? name[length] : '_';
    }
}

static bool name_is_valid(const char *name) {
    const size_t length = name != NULL ? strnlen(name, SR_SERVICE_NAME_MAX + 1) : 1;
    for (size_t i = 0; name != NULL && i < length; i++) {
        if (name[i] < ' ' || name[i] > '~') {
            return false;
        }
    }
    return length >= 1 && length <= SR_SERVICE_NAME_MAX;
}

static int take_names(sr_service *service) {
    if (service->options.idempotent == NULL) {
        return 0;
    }
    service->idempotent = sri_copy_strings(NULL, service->options.idempotent, NULL);
    return service->idempotent != NULL ? 0 : -ENOMEM;
}

static int take_all(sr_service *service) {
    const sr_service_options *options = &service->options;
    const struct sri_restart_rules rules = {
        .max = options->restarts_max,
        .window_ns = options->restarts_window_ns,
        .backoff_first_ns = options->backoff_first_ns,
        .backoff_max_ns = options->backoff_max_ns,
    };
    int code = sri_recipe_init(&service->recipe, 1, options);
    if (code == 0) {
        take_name(service, options);
    }
    code = code < 0 ? code : sri_restart_init(&service->restart, &rules);
    code = code < 0 ? code : take_workers(service);
    code = code < 0 ? code : take_names(service);
    return code < 0 ? code : sri_service_calls_init(service);
}

static void free_memory(sr_service *service) {
    sri_service_calls_deinit(service);
    for (uint32_t i = 0; service->workers != NULL && i < service->worker_count; i++) {
        sri_release(service->workers[i].methods);
    }
    sri_release(service->workers);
    sri_release(service->idempotent);
    sri_restart_deinit(&service->restart);
    sri_recipe_deinit(&service->recipe);
    sri_recipe_deinit(&service->recipe_before);
    service->magic = 0;
    sri_release(service);
}

static int check_open(sr_supervisor *supervisor, const sr_service_options *options,
                      sr_service_options *given) {
    int code = sri_supervisor_check(supervisor);
    if (code < 0) {
        return code;
    }
    if (options == NULL || !sri_options_take(given, sizeof *given, options)) {
        return -EINVAL;
    }
    if (!name_is_valid(given->name)) {
        return -EINVAL;
    }
    return check_options(given);
}

int sr_service_open(sr_supervisor *supervisor, const sr_service_options *options,
                    sr_service **out_service) {
    sr_service_options given = SR_SERVICE_OPTIONS_INIT;
    if (out_service == NULL) {
        return SRI_MISUSE(-EINVAL, 0);
    }
    *out_service = NULL;
    int code = check_open(supervisor, options, &given);
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    const uint32_t seats = sri_service_seats(given.workers, given.spares);
    if (seats > supervisor->options.workers_max - supervisor->worker_count) {
        return SR_E_FULL;
    }
    sr_service *service = sri_allocate(1, sizeof *service);
    if (service == NULL) {
        return -ENOMEM;
    }
    service->supervisor = supervisor;
    service->owner_key = supervisor->owner_key;
    service->options = given;
    if (given.isolation != SR_ISOLATION_FULL && given.payload_max_bytes > given.arena_bytes) {
        service->options.payload_max_bytes = (uint32_t)given.arena_bytes;
    }
    service->worker_count = seats;
    service->number = ++supervisor->service_last;
    service->version_serving = service->version_last = 1;
    service->state = SR_SERVICE_STARTING;
    service->seats_due_ns = SR_FOREVER;
    code = take_all(service);
    if (code < 0) {
        free_memory(service);
        return code;
    }
    service->options.sandbox = service->options.name = NULL;
    service->options.program = NULL; /* the caller's; what counts of it is in the recipe */
    service->options.arguments = service->options.variables = service->options.idempotent = NULL;
    service->magic = SRI_SERVICE_MAGIC;
    service->next = supervisor->services;
    supervisor->services = service;
    supervisor->worker_count += seats;
    sri_service_change(service);
    *out_service = service;
    return 0;
}

/* ---- close ------------------------------------------------------------------------------------
 */

/* And if not, has each of them looked at in the next turn. */
static bool all_seats_are_free(void *ctx) {
    sr_service *service = ctx;
    for (uint32_t i = 0; i < service->worker_count; i++) {
        if (service->workers[i].seat != SRI_SEAT_FREE) {
            sri_service_change(service);
            return false;
        }
    }
    return true;
}

static void leave_supervisor(sr_service *service) {
    sr_service **link = &service->supervisor->services;
    while (*link != service) {
        SR_CHECK(*link != NULL);
        link = &(*link)->next;
    }
    *link = service->next;
    service->supervisor->worker_count -= service->worker_count;
}

/* Answers everything and asks all workers to end. */
static void stop_all(sr_service *service) {
    sr_ring *ring = service->supervisor->client.ring;
    service->closing = true;
    ring->in_callback = true;
    for (uint32_t i = 0; i < service->worker_count; i++) {
        struct sri_service_worker *worker = &service->workers[i];
        if (worker->seat != SRI_SEAT_FREE && worker->seat != SRI_SEAT_ENDING) {
            sri_service_worker_stop(worker, SR_WORKER_ASKED);
        }
    }
    sri_service_fail_waiting(service, -ECANCELED);
    ring->in_callback = false;
}

static int close_service(sr_service *service) {
    sr_ring *ring = service->supervisor->client.ring;
    stop_all(service);
    const int code =
        sri_ring_wait_until(ring, all_seats_are_free, service,
                            sri_clock_after(service->options.stop_timeout_ns, KILL_NS));
    if (code < 0) {
        return code;
    }
    leave_supervisor(service);
    free_memory(service);
    return 0;
}

/* The owner is gone, or this is a forked child: what is left is memory. */
static int forget_service(sr_service *service) {
    if (service->supervisor->client.ring != NULL) {
        return SRI_MISUSE(SR_E_STATE, 0);
    }
    for (uint32_t i = 0; i < service->worker_count; i++) {
        const int code = sr_channel_close(&service->workers[i].channel);
        if (code < 0) {
            return code;
        }
    }
    leave_supervisor(service);
    free_memory(service);
    return 0;
}

int sr_service_close(sr_service **service) {
    if (service == NULL) {
        return SRI_MISUSE(SR_E_OBJECT, 0);
    }
    sr_service *const gone = *service;
    if (gone == NULL) {
        return 0;
    }
    if (gone->magic != SRI_SERVICE_MAGIC) {
        return SRI_MISUSE(SR_E_OBJECT, 0);
    }
    const bool owner = gone->owner_key == sri_owner_key();
    const bool is_orphan =
        !owner && (sri_owner_is_forked(gone->owner_key) || !sri_owner_is_alive(gone->owner_key));
    if (!owner && !is_orphan) {
        return SRI_MISUSE(SR_E_WRONG_THREAD, 0);
    }
    if (gone->proxy_count > 0 || (owner && gone->supervisor->client.ring->in_callback)) {
        return SRI_MISUSE(SR_E_STATE, 0);
    }
    const int code = owner ? close_service(gone) : forget_service(gone);
    if (code == 0) {
        *service = NULL;
    }
    return code;
}

/* ---- looking ----------------------------------------------------------------------------------
 */

int sr_service_get_stats(sr_service *service, sr_service_stats *out_stats) {
    int code = sri_service_check(service);
    if (code == 0 && (out_stats == NULL || !sri_stats_size_is_valid(out_stats->size))) {
        code = -EINVAL;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    sr_service_stats stats = service->stats;
    stats.calls_in_flight = service->calls.count;
    stats.calls_waiting = service->waiting.count;
    for (uint32_t i = 0; i < service->worker_count; i++) {
        stats.workers_ready += service->workers[i].seat == SRI_SEAT_READY;
        stats.workers += service->workers[i].has_process;
    }
    stats.version = service->version_serving;
    stats.state = service->state;
    sri_stats_give(out_stats, &stats, sizeof stats);
    return 0;
}

static sr_worker_info info_of(const struct sri_service_worker *worker) {
    static const uint32_t states[] = {
        [SRI_SEAT_STARTING] = SR_WORKER_STARTING,
        [SRI_SEAT_READY] = SR_WORKER_READY,
        [SRI_SEAT_DRAINING] = SR_WORKER_DRAINING,
        [SRI_SEAT_ENDING] = SR_WORKER_ENDING,
    };
    return (sr_worker_info){
        .worker = worker->id,
        .answers = worker->exit.answers,
        .pid = worker->exit.pid,
        .state = states[worker->seat],
        .version = worker->exit.version,
        .calls = worker->calls.count,
        .is_spare = worker->seat == SRI_SEAT_READY && !worker->is_active,
    };
}

int sr_service_workers(sr_service *service, sr_worker_info *out_list, uint32_t room) {
    int code = sri_service_check(service);
    if (code == 0 && out_list == NULL && room > 0) {
        code = -EINVAL;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < service->worker_count; i++) {
        if (service->workers[i].seat != SRI_SEAT_FREE) {
            if (count < room) {
                out_list[count] = info_of(&service->workers[i]);
            }
            count++;
        }
    }
    return (int)count;
}

int sr_service_sandbox(sr_service *service, uint64_t worker, sr_sandbox_report *out_report) {
    int code = sri_service_check(service);
    if (code == 0 && (out_report == NULL || !sri_stats_size_is_valid(out_report->size))) {
        code = -EINVAL;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    const struct sri_service_worker *found = sri_service_find_worker(service, worker);
    if (found == NULL) {
        return SR_E_STALE; /* it may have ended a moment ago: no misuse */
    }
    sr_sandbox_report report;
    sri_sandbox_show(&found->report, found->layers_required, &report);
    sri_stats_give(out_report, &report, sizeof report);
    return 0;
}
