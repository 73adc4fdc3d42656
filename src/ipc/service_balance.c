/* SPDX-License-Identifier: MIT */
/* Which workers a service wants, and the steps towards that: starting, promoting, retiring, and
 * what a reload and too many ends are. */
#include "ipc/service.h"

#include "sys/clock.h"
#include <errno.h>

/* Between starts that lead nowhere, whatever the rules say: they must not keep a wait busy. */
#define PAUSE_NS UINT64_C(1000000)

/* One generation, and one that takes its place. */
uint32_t sri_service_seats(uint32_t workers, uint32_t spares) {
    return 2 * (workers + spares);
}

static bool is_ready(const struct sri_service_worker *worker, uint32_t version) {
    return worker->seat == SRI_SEAT_READY && worker->exit.version == version;
}

/* Workers that are there to stay: of this version, started or ready, not to be replaced. */
static uint32_t count_staying(const sr_service *service, uint32_t version, bool ready_only) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < service->worker_count; i++) {
        const struct sri_service_worker *worker = &service->workers[i];
        const bool counts =
            worker->seat == SRI_SEAT_READY || (worker->seat == SRI_SEAT_STARTING && !ready_only);
        count += counts && worker->exit.version == version && !worker->is_retiring;
    }
    return count;
}

/* ---- ends -------------------------------------------------------------------------------------
 */

static void stop_version(sr_service *service, uint32_t version, bool all_versions) {
    for (uint32_t i = 0; i < service->worker_count; i++) {
        struct sri_service_worker *worker = &service->workers[i];
        const bool runs = worker->seat != SRI_SEAT_FREE && worker->seat != SRI_SEAT_ENDING;
        if (runs && (all_versions || worker->exit.version == version)) {
            sri_service_worker_stop(worker, SR_WORKER_ASKED);
        }
    }
}

static void go_down(sr_service *service) {
    service->state = SR_SERVICE_DOWN;
    service->is_reloading = service->reload_fails = false;
    service->restarts_owed = 0;
    sri_recipe_deinit(&service->recipe_before);
    stop_version(service, 0, true);
    sri_service_fail_waiting(service, SR_E_WORKER_DOWN);
    sri_service_tell_state(service, SR_SERVICE_WENT_DOWN, service->version_serving,
                           SR_E_WORKER_DOWN);
}

static void fail_reload(sr_service *service, int code) {
    const uint32_t version = service->recipe.version;
    sri_recipe_deinit(&service->recipe);
    service->recipe = service->recipe_before;
    service->recipe_before = (struct sri_recipe){0};
    service->is_reloading = service->reload_fails = false;
    stop_version(service, version, false);
    sri_service_tell_state(service, SR_SERVICE_RELOAD_FAILED, service->version_serving, code);
}

void sri_service_note_end(const struct sri_service_worker *worker) {
    sr_service *service = worker->service;
    uint64_t delay_ns = 0;
    if (worker->exit.cause == SR_WORKER_ASKED) {
        return;
    }
    service->stats.ends_unasked++;
    if (worker->has_answered) {
        sri_restart_note_work(&service->restart);
    }
    if (service->closing || service->state == SR_SERVICE_DOWN ||
        worker->exit.version != service->recipe.version) {
        return; /* nobody, or one of another version, comes in its place */
    }
    if (service->recipe.version != service->version_serving) {
        service->reload_fails = true;
        return;
    }
    const uint64_t now_ns = sri_service_now(service);
    if (!sri_restart_note_end(&service->restart, now_ns, &delay_ns)) {
        go_down(service);
        return;
    }
    if (service->restart.in_a_row > 1 && delay_ns < PAUSE_NS) {
        delay_ns = PAUSE_NS;
    }
    service->restarts_owed++;
    service->start_not_before_ns = sri_clock_after(now_ns, delay_ns);
}

void sri_service_note_exit(sr_service *service, const sr_worker_exit *exit) {
    if (service->reload_fails && exit->version == service->recipe.version &&
        exit->cause != SR_WORKER_ASKED) {
        fail_reload(service, exit->code != 0 ? exit->code : SR_E_PEER_DIED);
    }
    sri_service_change(service);
}

/* ---- starts -----------------------------------------------------------------------------------
 */

static struct sri_service_worker *find_free(sr_service *service) {
    for (uint32_t i = 0; i < service->worker_count; i++) {
        if (service->workers[i].seat == SRI_SEAT_FREE) {
            return &service->workers[i];
        }
    }
    return NULL;
}

static void start_missing(sr_service *service) {
    const uint32_t wanted = service->options.workers + service->options.spares;
    struct sri_service_worker *worker = NULL;
    if (service->start_not_before_ns != 0) {
        if (sri_service_now(service) < service->start_not_before_ns) {
            return;
        }
        service->start_not_before_ns = 0;
    }
    for (uint32_t count = count_staying(service, service->recipe.version, false);
         count < wanted && (worker = find_free(service)) != NULL; count++) {
        if (service->restarts_owed > 0) {
            service->restarts_owed--;
            service->stats.restarts++;
        }
        sri_service_worker_start(worker);
        if (worker->seat == SRI_SEAT_ENDING) {
            return; /* the next one would fail, too */
        }
    }
}

/* ---- who takes calls --------------------------------------------------------------------------
 */

/* One after the other: the fewer answers are recycled at once, the less is missing. */
static void retire_one(sr_service *service) {
    struct sri_service_worker *worn = NULL;
    if (service->options.recycle_answers == 0) {
        return;
    }
    for (uint32_t i = 0; i < service->worker_count; i++) {
        struct sri_service_worker *worker = &service->workers[i];
        if (worker->seat != SRI_SEAT_FREE && worker->is_retiring) {
            return;
        }
        if (is_ready(worker, service->recipe.version) &&
            worker->exit.answers >= service->options.recycle_answers) {
            worn = worker;
        }
    }
    if (worn != NULL) {
        worn->is_retiring = true;
        service->stats.recycled++;
    }
}

/* When as many as take calls are ready, the others drain. */
static void switch_over(sr_service *service) {
    const uint32_t version = service->recipe.version;
    if (count_staying(service, version, true) < service->options.workers) {
        return;
    }
    if (service->version_serving != version) {
        service->version_serving = version;
        service->has_told_ready = false;
    }
    for (uint32_t i = 0; i < service->worker_count; i++) {
        struct sri_service_worker *worker = &service->workers[i];
        const bool stays = worker->exit.version == version && !worker->is_retiring;
        if (worker->seat == SRI_SEAT_READY && !stays) {
            sri_service_worker_drain(worker);
        } else if (worker->seat == SRI_SEAT_STARTING && !stays) {
            sri_service_worker_stop(worker, SR_WORKER_ASKED);
        }
    }
}

static void promote(sr_service *service) {
    uint32_t active = 0;
    for (uint32_t i = 0; i < service->worker_count; i++) {
        const struct sri_service_worker *worker = &service->workers[i];
        active +=
            is_ready(worker, service->version_serving) && worker->is_active && !worker->is_retiring;
    }
    for (uint32_t i = 0; i < service->worker_count && active < service->options.workers; i++) {
        struct sri_service_worker *worker = &service->workers[i];
        if (is_ready(worker, service->version_serving) && !worker->is_active &&
            !worker->is_retiring) {
            worker->is_active = true;
            active++;
        }
    }
    if (active > 0 && !service->has_told_ready) {
        service->has_told_ready = true;
        service->state = SR_SERVICE_RUNNING;
        sri_service_tell_state(service, SR_SERVICE_READY, service->version_serving, 0);
    }
}

static void end_reload(sr_service *service) {
    if (!service->is_reloading || service->version_serving != service->recipe.version ||
        !service->has_told_ready) {
        return;
    }
    for (uint32_t i = 0; i < service->worker_count; i++) {
        const struct sri_service_worker *worker = &service->workers[i];
        if (worker->seat != SRI_SEAT_FREE && worker->exit.version != service->recipe.version) {
            return;
        }
    }
    service->is_reloading = false;
    sri_recipe_deinit(&service->recipe_before);
    service->stats.reloads++;
    sri_service_tell_state(service, SR_SERVICE_RELOADED, service->version_serving, 0);
}

void sri_service_balance(sr_service *service) {
    if (service->closing || service->state == SR_SERVICE_DOWN || service->reload_fails) {
        return;
    }
    retire_one(service);
    start_missing(service);
    switch_over(service);
    promote(service);
    end_reload(service);
}

/* ---- reload -----------------------------------------------------------------------------------
 */

static int take_recipe(sr_service *service, const struct sri_recipe *recipe) {
    service->version_last = recipe->version;
    service->is_reloading = true;
    service->start_not_before_ns = 0;
    if (service->state == SR_SERVICE_DOWN) {
        sri_recipe_deinit(&service->recipe);
        sri_restart_clear(&service->restart);
        service->state = SR_SERVICE_STARTING;
        service->version_serving = recipe->version;
        service->has_told_ready = false;
    } else {
        service->recipe_before = service->recipe;
    }
    service->recipe = *recipe;
    sri_service_change(service);
    return 0;
}

int sr_service_reload(sr_service *service, const sr_service_options *options) {
    sr_service_options given = SR_SERVICE_OPTIONS_INIT;
    struct sri_recipe recipe;
    int code = sri_service_check(service);
    if (code == 0 && options != NULL && !sri_options_take(&given, sizeof given, options)) {
        code = -EINVAL;
    }
    if (code == 0 && (service->is_reloading || service->closing)) {
        code = SR_E_STATE;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    code = options != NULL ? sri_recipe_init(&recipe, service->version_last + 1, &given)
                           : sri_recipe_again(&recipe, service->version_last + 1, &service->recipe);
    return code == 0 ? take_recipe(service, &recipe) : code;
}
